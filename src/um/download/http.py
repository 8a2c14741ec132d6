"""Files from web servers: cut downloads resume, and only whole, checked files get their final name.

During the download of `video.zip`, `.um-….partial` holds the bytes so far, written block by block and locked against
other processes. `.um-….partial.json` names the version of the file (RFC 9110, sections 8.8 and 14). Both names are
short, whatever the length of the file's own.
"""

import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Annotated, Any, TypeVar, cast

import requests
from pydantic import Field
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception_type
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, InvalidHeader, NewConnectionError
from urllib3.util import Retry

import um
from um.errors import BadInput, Gone
from um.files import MARGIN, check_room, flock, is_at, lasting_name, make_folder, no_link, room, sha256
from um.forms import Form, load

log = logging.getLogger(__name__)
T = TypeVar("T")
Report = Callable[[int, int | None], None]  # bytes so far, and in all if known

BLOCK = 64 * 1024  # bytes; a kill loses less than one
LONG_WAIT = 5  # seconds that are worth a line
POLL = 0.1  # seconds between two tries of a lock
UNREACHABLE = 4  # tries of a server that does not even take the connection: another source may have the file
ELSEWHERE = "try another source, or put the file into a mirror (UM_MIRROR)"


@dataclass(frozen=True)
class Patience:
    """Timeouts and retry limits."""

    connect: float = 15.0  # seconds to connect
    silence: float = 60.0  # seconds without a byte, and for the head of an answer
    slowest: float = 1024.0  # bytes per second on average over `window`; less counts as a cut
    window: float = 60.0  # seconds
    tries: int = 8  # in a row without a new block
    first_wait: float = 1.0  # seconds; doubles with every try in a row
    longest_wait: float = 300.0  # seconds; a server that asks for more ends the download

    @property
    def limits(self) -> tuple[float, float]:
        """What `requests` takes for a timeout."""
        return self.connect, self.silence


PATIENCE = Patience()


@dataclass(frozen=True)
class Order:
    """How to download a file.

    Attributes:
        sha256: the expected one, if known. Without it, the server must send the length, or chunks.
        patience: timeouts and retry limits.
        report: called after every block.
        enter: called with the temporary and the final name of the whole file before it is renamed.
        margin: bytes that must stay free on the disk, where the length is announced.
    """

    sha256: str | None = None
    patience: Patience = PATIENCE
    report: Report = lambda _done, _total: None
    enter: Callable[[Path, Path], None] = lambda _temporary, _target: None
    margin: int = MARGIN


ORDER = Order()


def session() -> requests.Session:
    """A session for one thread."""
    web = requests.Session()
    web.headers.update({"User-Agent": f"um/{um.__version__}", "Accept-Encoding": "identity"})
    web.max_redirects = 10
    web.hooks["response"].append(_without_body)
    for scheme in ("http://", "https://"):
        web.mount(scheme, _Adapter())
    return web


def fetch(url: str, target: Path, order: Order = ORDER, web: requests.Session | None = None) -> None:
    """Download a file, or resume its download; an existing file with the expected sha256 stays as it is.

    Raises:
        Gone: the server says that it does not have the file.
        BadInput: the download fails for another reason, or the file does not fit the disk or has another sha256.
    """
    make_folder(target.parent)
    if there(target, order.sha256):
        return
    with nullcontext(web) if web else session() as web, _locked(target) as file:
        if there(target, order.sha256):  # another process has just downloaded it
            return
        download = _Download(url, target, order, web, file)
        for first in (True, False):
            if download.version.total != download.size:
                download.patiently(download.ask, "the whole file")
            found = order.sha256 and sha256(download.path)
            if found == order.sha256:
                order.enter(download.path, target)
                download.path.replace(target)
                download.notes.unlink(missing_ok=True)
                return
            patched = download.resumed
            download.restart()
            if not (first and patched):
                break
    hint = f"the file has changed, or the link leads to another one; {ELSEWHERE}"
    raise BadInput(shown(url), f"sha256 {found}", f"sha256 {order.sha256}", hint)


def there(target: Path, expected: str | None) -> bool:
    """Whether a file is whole, by its sha256 if that is expected; then the notes of its download are deleted."""
    if not target.is_file() or (expected is not None and expected != sha256(target)):
        return False
    _notes(target).unlink(missing_ok=True)  # of a run that was killed right after it had renamed the file
    return True


def _notes(target: Path) -> Path:
    return target.with_name(lasting_name(target, ".partial.json"))


@contextmanager
def _locked(target: Path) -> Iterator[Any]:
    """The open partial file, for this process alone; an empty one does not stay."""
    path = target.with_name(lasting_name(target, ".partial"))
    while True:
        with open(path, "ab", buffering=0, opener=no_link) as file:
            if not flock(file, shared=False):
                log.info("%s: waiting for another process that fetches it", target)
                while not flock(file, shared=False):
                    time.sleep(POLL)
            if not is_at(file, path):  # its owner has just finished
                continue
            try:
                yield file
            finally:
                if not os.fstat(file.fileno()).st_size and is_at(file, path):
                    _notes(target).unlink(missing_ok=True)
                    path.unlink()
            return


PRINTABLE = r"^[ -~]{1,500}$"
Header = Annotated[str, Field(pattern=PRINTABLE)]


class Version(Form):
    """What distinguishes one version of a file on a server from another."""

    etag: Header | None  # a strong one
    modified: Header | None
    total: int | None = Field(ge=0)  # bytes

    @property
    def validator(self) -> str | None:
        """What `If-Range` takes."""
        return self.etag or self.modified

    def agrees(self, other: "Version") -> bool:
        """Whether both may be the same."""
        told = (self.etag, other.etag) if self.etag and other.etag else (self.modified, other.modified)
        return all(None in pair or pair[0] == pair[1] for pair in ((self.total, other.total), told))


UNKNOWN = Version(etag=None, modified=None, total=None)


class Cut(Exception):
    """A failed try that is worth repeating, after `asked` seconds if the server says so."""

    def __init__(self, found: str, asked: float | None = None, tries: int | None = None) -> None:
        super().__init__(found)
        self.asked, self.tries = asked, tries


def patiently(
    ask: Callable[[], T],
    url: str,
    patience: Patience,
    give_up: Callable[[Cut, int], Exception],
    came: Callable[[], int] = lambda: 0,
) -> T:
    """Call `ask` again after every `Cut`, with pauses that the server asks for, or that double.

    Args:
        ask: one try.
        url: for messages.
        patience: retry limits.
        give_up: makes the final error, from the last cut and the number of tries.
        came: bytes so far; every new block resets the count of tries.

    Raises:
        BadInput: the server asks for a longer pause than `patience.longest_wait`.
        Exception: what `give_up` makes, or anything but a `Cut` that `ask` raises.
    """
    best, last = came(), 0  # try that brought a block

    def cut_and_tries(state: RetryCallState) -> tuple[Cut, int]:
        nonlocal best, last
        if came() - best >= BLOCK:
            best, last = came(), state.attempt_number
        return cast(Cut, cast(Any, state.outcome).exception()), state.attempt_number - last

    def stop(state: RetryCallState) -> bool:
        cut, tries = cut_and_tries(state)
        return tries >= min(patience.tries, cut.tries or patience.tries)

    def wait(state: RetryCallState) -> float:
        cut, tries = cut_and_tries(state)
        if cut.asked is not None:
            return max(cut.asked, patience.first_wait)
        return min(patience.first_wait * 2.0 ** max(tries - 1, 0), patience.longest_wait)

    def tell(state: RetryCallState) -> None:
        (cut, _), seconds = cut_and_tries(state), state.upcoming_sleep
        if seconds > patience.longest_wait:
            found = f"{cut}, to be tried again in {seconds:.0f} s"
            raise BadInput(shown(url), found, f"at most {patience.longest_wait:.0f} s", f"try again then; {ELSEWHERE}")
        level = logging.INFO if seconds >= LONG_WAIT else logging.DEBUG
        log.log(level, "%s: %s; retrying from byte %d in %.0f s", shown(url), cut, came(), seconds)

    def end(state: RetryCallState) -> T:
        raise give_up(*cut_and_tries(state)) from None

    retry = retry_if_exception_type(Cut)
    return Retrying(retry=retry, stop=stop, wait=wait, before_sleep=tell, retry_error_callback=end)(ask)


class Transfer:
    """A file on a server, and the version of it that some bytes here belong to."""

    version, size = UNKNOWN, 0  # bytes so far

    def __init__(self, url: str, target: Path, order: Order, web: requests.Session) -> None:
        self.url, self.target, self.order, self.web = url, target, order, web

    def patiently(self, ask: Callable[[], None], expected: str) -> None:
        """Call `ask` until it brings what is expected."""

        def give_up(cut: Cut, tries: int) -> BadInput:
            found = f"{cut} ({tries} tries, {self.size} bytes came)"
            return BadInput(shown(self.url), found, expected, f"try later; {ELSEWHERE}")

        patiently(ask, self.url, self.order.patience, give_up, lambda: self.size)

    @contextmanager
    def answer(self, start: int, stop: int | None = None) -> Iterator[tuple[Any, int | None, Version]]:
        """Ask for a part of the file; yield the answer, where it starts if known, and the version that it is of."""
        headers = {}
        if start or stop:
            headers["Range"] = f"bytes={start}-{stop - 1 if stop else ''}"
            if self.version.validator:
                headers["If-Range"] = self.version.validator
        try:
            with self.web.get(self.url, headers=headers, stream=True, timeout=self.order.patience.limits) as response:
                _refuse(response, self.url, self.target)
                yield response, *_part(response)
        except (requests.RequestException, HTTPError, ValueError) as error:
            raise meaning(error, shown(self.url)) from None


class _Download(Transfer):
    """The first bytes of a file, and how the others come."""

    def __init__(self, url: str, target: Path, order: Order, web: requests.Session, file: Any) -> None:
        super().__init__(url, target, order, web)
        self.file, self.path, self.notes = file, Path(file.name), _notes(target)
        self.size = os.fstat(file.fileno()).st_size
        self.resumed = self.size > 0  # not all of it from one answer
        try:
            self.version = load(Version, self.notes)
        except BadInput:  # none, or killed while it was written
            self.restart()

    def restart(self, version: Version | None = None) -> None:
        """Drop all bytes; the next ones belong to `version`."""
        self.file.truncate(0)  # first, so that the notes never speak of other bytes
        if version:
            self.notes.unlink(missing_ok=True)  # it may be a link
            with room(self.path, "the file"):
                self.notes.write_text(version.model_dump_json(), "utf-8")
        self.size, self.resumed, self.version = 0, False, version or UNKNOWN

    def ask(self) -> None:
        """Ask once for the missing bytes, and store them."""
        if self.size and not (self.version.validator or self.order.sha256):
            self.restart()  # nothing tells whether the rest belongs to the same version
        with self.answer(self.size) as (response, start, version):
            if response.status_code != 416:
                self._store(response.raw, self._place(start, version, chunked=response.raw.chunked))
            elif self.version.total or response.headers.get("Content-Range") != f"bytes */{self.size}":
                self.restart()
                raise Cut("HTTP 416: the file has become shorter")

    def _place(self, start: int | None, version: Version, *, chunked: bool) -> int | None:
        """Prepare for the bytes of an answer, appended if of the same version; return how many the file has in all."""
        if start not in (0, self.size) or (start and not version.agrees(self.version)):
            self.restart()
            raise Cut("another part or version of the file than requested")
        total = self.version.total if start and version.total is None else version.total
        if total is None and not chunked and self.order.sha256 is None:
            raise Cut("an answer without a length: a cut would go unnoticed")
        if total is not None:
            reclaimed = 0 if start else self.size
            check_room(self.path.parent, total - (start or 0), "the file", self.order.margin, reclaimed=reclaimed)
        if not start:
            self.restart(version)
        self.resumed = bool(start)
        return total

    def _store(self, raw: Any, total: int | None) -> None:
        """Write bytes as they arrive (`read1` waits for the next packet only)."""
        patience = self.order.patience
        self.order.report(self.size, total)
        since, before = time.monotonic(), self.size
        while piece := raw.read1(BLOCK, decode_content=False):
            with room(self.path, "the file"):  # written through to the system, so that a kill loses nothing
                rest = memoryview(piece)
                while rest:
                    rest = rest[self.file.write(rest) :]
            self.size += len(piece)
            self.order.report(self.size, total)
            if total is not None and self.size > total:
                self.restart()
                raise Cut(f"more than the announced {total} bytes")
            if (seconds := time.monotonic() - since) >= patience.window:
                if self.size - before < patience.slowest * seconds:
                    raise Cut(f"less than {patience.slowest:.0f} bytes per second")
                since, before = time.monotonic(), self.size
        if total not in (None, self.size):
            raise Cut(f"{self.size} of {total} bytes")


def _part(response: requests.Response) -> tuple[int | None, Version]:
    """Where an answer starts in the file, if known, and the version of the file."""

    def known(name: str) -> str | None:
        text = response.headers.get(name, "")
        return text if re.fullmatch(PRINTABLE, text) and not text.startswith("W/") else None

    start: str | None = "0"
    total = None if response.raw.chunked else response.headers.get("Content-Length")
    if response.status_code == 206:
        given = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        start, total = given.groups() if given else (None, None)
    size = int(total) if total and total.isdecimal() else None
    return int(start) if start else None, Version(etag=known("ETag"), modified=known("Last-Modified"), total=size)


def _refuse(response: requests.Response, url: str, target: Path) -> None:
    """Raise an error for an answer without the file."""
    status, url = response.status_code, shown(url)
    found = f"HTTP {status} ({response.reason})"
    if status in (408, 425, 429) or status >= 500:
        raise Cut(found, _seconds(response.headers.get("Retry-After", "")))
    if status in (404, 410):
        raise Gone(url, found, "the file", f"it is not there; {ELSEWHERE}")
    if status in (401, 403, 407, 451):
        raise BadInput(url, found, "permission", f"fetch it with a browser, if you may; {ELSEWHERE}")
    if status not in (200, 206, 416):
        raise BadInput(url, found, "the file", f"check the link; {ELSEWHERE}")
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml") and target.suffix.lower() not in (".html", ".htm"):
        raise BadInput(url, "a web page", f"the file {target.name}", f"the link may lead to a page now; {ELSEWHERE}")


def _seconds(retry_after: str) -> float | None:
    """Seconds to wait, from seconds or a date."""
    try:
        return Retry().parse_retry_after(retry_after)
    except (InvalidHeader, ValueError, OverflowError):
        return None


def meaning(error: Exception, url: str) -> Exception:
    """A `Cut` for a temporary failure, `BadInput` for a permanent one."""
    causes: list[BaseException] = [error]
    while further := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(further)
    root = causes[-1]
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return Cut(f"no such host ({root})", tries=2)
    if isinstance(error, requests.ConnectTimeout) or any(isinstance(cause, NewConnectionError) for cause in causes):
        return Cut("nobody answers there", tries=UNREACHABLE)
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return Cut("no answer in time")
    cut = isinstance(root, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError)
    if isinstance(error, requests.exceptions.SSLError) and not cut:  # of the handshake
        hint = f"check the clock and the proxy; {ELSEWHERE}"
        return BadInput(url, f"no secure connection ({root})", "a valid TLS handshake", hint)
    if isinstance(error, requests.TooManyRedirects):
        return BadInput(url, "redirects without end", "the file", f"check the link; {ELSEWHERE}")
    if isinstance(error, ValueError):
        return BadInput(url, f"an address that leads nowhere ({error})", "http or https", f"check it; {ELSEWHERE}")
    return Cut(f"a broken connection ({root})")


def shown(url: str) -> str:
    """The address without user name and password."""
    return re.sub(r"//[^/@]*@", "//", url)


def _without_body(response: requests.Response, **_options: Any) -> None:
    """Close redirects: requests would read their whole body, however slow."""
    if response.is_redirect:
        response.close()


class _Connection(HTTPConnection):
    """A connection with a time limit for the whole head of an answer, so that a dripping server cannot stall."""

    def getresponse(self) -> Any:
        late = False
        sock = self.sock

        def cut() -> None:
            nonlocal late
            late = True
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # an SSLSocket's own breaks a running `recv`

        timer = Timer(self.timeout or PATIENCE.silence, cut)
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()
            if late:
                raise TimeoutError


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _Adapter(HTTPAdapter):
    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = _SecureConnection if pool.scheme == "https" else _Connection
        return pool
