"""Shared files and folders of Google Drive.

Drive sends small files at once. For large ones it first sends a page, "can't scan this file for viruses", whose form
leads to a link that expires; so every resumed download asks for a new link. `gdown` parses these pages, and
`um.download.http` downloads the file.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import gdown
import requests
from gdown.download import get_url_from_gdrive_confirmation

from um.download import http
from um.errors import BadInput, Gone

FILE = re.compile(r"/(file/(u/\d+/)?d/(?P<id>[-\w]+)(/.*)?|uc|open|download)")
FOLDER = re.compile(r"/(drive/(.*/)?folders/(?P<id>[-\w]+)/?|embeddedfolderview|folderview)")
HOSTS = {"drive.google.com", "docs.google.com", "drive.usercontent.google.com"}
PAGES = 3  # that lead on to the file; one is usual
QUOTA = re.compile(r"quota exceeded|too many users have viewed or downloaded|download quota", re.I)
REFUSED = re.compile(r"you need access|request access|you need permission|sign in - google|servicelogin", re.I)
LOST = re.compile(r"(file|item)( that)? you (have )?requested does not exist|file does not exist", re.I)
PUBLIC = "a file that anyone with the link may read"
BUSY = re.compile(r"status code (429|5\d\d)")

T = TypeVar("T")


def is_folder(url: str) -> bool:
    """Whether a link is to a shared folder."""
    return _id(url, FOLDER) is not None


def is_drive(url: str) -> bool:
    """Whether a link is to a file or a folder of Drive: `file/d/…`, `uc?id=…`, `open?id=…`, `drive/folders/…`."""
    return is_folder(url) or _id(url, FILE) is not None


def fetch(url: str, target: Path, order: http.Order = http.ORDER) -> None:
    """Download a shared file, as `um.download.http.fetch` does.

    Raises:
        Gone: Drive does not have the file.
        BadInput: its quota is exceeded, it is not public, or the download fails for another reason.
    """
    if http.there(target, order.sha256):
        return
    with http.session() as web:
        http.fetch(_resolved(url, web, order.patience), target, order, web)


def listing(url: str, patience: http.Patience = http.PATIENCE) -> list[tuple[str, str]]:
    """The files of a shared folder and of those in it: of each a link for `fetch`, and its path inside the folder.

    Raises:
        Gone: Drive does not have the folder.
        BadInput: it is empty or not shared with everybody, or its names make no distinct paths inside a folder.
    """
    folder_id = _id(url, FOLDER)
    if folder_id is None:
        raise BadInput(url, "no id of a folder", "a link to a folder of Google Drive", "files are fetched as they are")

    def ask() -> list[tuple[str, str]]:
        options: Any = {"skip_download": True, "quiet": True, "use_cookies": False, "timeout": patience.limits}
        files: Any = gdown.download_folder(id=folder_id, **options)
        return [(_link(file.id), file.path) for file in files]

    files = _patiently(ask, url, patience)
    if not files:
        hint = "is it shared with anyone who has the link? " + http.ELSEWHERE
        raise BadInput(url, "no files", "a shared folder", hint)
    number = Counter(path for _, path in files)
    for _, path in files:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or number[path] > 1:
            found = f"the file {path!r}" + (" twice" if number[path] > 1 else "")
            raise BadInput(url, found, "distinct paths inside the folder", "fetch its files by their own links")
    return files


def _id(url: str, form: re.Pattern[str]) -> str | None:
    parts = urlsplit(url)
    match = form.fullmatch(parts.path)
    if parts.hostname not in HOSTS or match is None:
        return None
    return match["id"] or parse_qs(parts.query).get("id", [None])[0]


def _link(file_id: str, key: str | None = None) -> str:
    """The download link of a file; files shared before September 2021 also need the key of their link."""
    return f"https://drive.google.com/uc?export=download&id={file_id}" + (f"&resourcekey={key}" if key else "")


def _resolved(url: str, web: requests.Session, patience: http.Patience) -> str:
    """A link that now leads to the file itself."""
    file_id = _id(url, FILE)
    if file_id is None:
        raise BadInput(url, "no id of a file", "a link to a file of Google Drive", "folders are listed first")
    link = _link(file_id, parse_qs(urlsplit(url).query).get("resourcekey", [None])[0])
    for _ in range(1 + PAGES):
        following = _patiently(partial(_following, link, url, web, patience), url, patience)
        if following is None:
            return link
        link = following
    raise BadInput(url, f"{1 + PAGES} pages in a row", "the file", http.ELSEWHERE)


def _following(link: str, url: str, web: requests.Session, patience: http.Patience) -> str | None:
    """The next link, if the answer is a page; None if it is the file."""
    with web.get(link, stream=True, timeout=patience.limits) as answer:
        if urlsplit(answer.url).hostname == "accounts.google.com" or answer.status_code in (401, 403):
            raise _refused(url)
        if answer.status_code in (404, 410):
            raise Gone(url, f"HTTP {answer.status_code}", PUBLIC, http.ELSEWHERE)
        answer.raise_for_status()
        is_page = answer.headers.get("Content-Type", "").startswith("text/html")
        if not is_page or "Content-Disposition" in answer.headers:
            return None
        page = " ".join(answer.text.split())  # gdown reads line by line
    if QUOTA.search(page):
        hint = "try again in a day, or put a copy into a mirror (UM_MIRROR)"
        raise BadInput(url, "its quota exceeded: too many downloads lately", "the file", hint)
    if REFUSED.search(page):
        raise _refused(url)
    if LOST.search(page):
        raise Gone(url, "a page that says that the file does not exist", PUBLIC, http.ELSEWHERE)
    try:
        return get_url_from_gdrive_confirmation(page)
    except (gdown.DownloadError, KeyError, AssertionError):
        title = re.search(r"<title>(.*?)</title>", page, re.I)
        found = f"a page with the title {title[1].strip()!r}" if title else "a page"
        raise BadInput(url, found, "the file", "open the link in a browser, or " + http.ELSEWHERE) from None


def _refused(url: str) -> BadInput:
    return BadInput(url, "a request to sign in", PUBLIC, "ask its owner to share it, or " + http.ELSEWHERE)


def _patiently(ask: Callable[[], T], url: str, patience: http.Patience) -> T:
    """What Drive answers, with retries while it is busy or out of reach."""

    def once() -> T:
        try:
            return ask()
        except gdown.DownloadError as error:
            said = " ".join(str(error).split())
            if "status code 404" in said:
                raise Gone(url, "HTTP 404", "a shared folder", http.ELSEWHERE) from None
            if BUSY.search(said):
                raise http.Cut(said) from None
            raise BadInput(url, said, "a shared folder", http.ELSEWHERE) from None
        except requests.RequestException as error:
            raise http.meaning(error, url) from None
        except RecursionError:
            hint = "fetch its files by their links"
            raise BadInput(url, "a folder inside itself", "a tree of folders", hint) from None

    def give_up(cut: http.Cut, tries: int) -> BadInput:
        return BadInput(url, f"{cut} ({tries} times)", "an answer", "try again later, or " + http.ELSEWHERE)

    return http.patiently(once, url, patience, give_up)
