"""Videos of YouTube, and of other pages and links, by yt-dlp.

yt-dlp repeats YouTube's own words for a failure. `REASONS` lists the permanent ones; all others are temporary: too many
requests, a suspected robot, a change that needs a newer yt-dlp. Two cases depend on the set-up:

* age-restricted: permanent if the cookies of a signed-in browser were given; otherwise they may help;
* unavailable, without a reason: permanent if yt-dlp has a JavaScript runtime (deno). Without one, YouTube says the same
  of videos that a browser can play.

Private videos and those for members count as permanently missing even without cookies: few users have access.
"""

import io
import logging
import re
import shutil
from contextlib import suppress
from http.cookiejar import LoadError
from os import environ
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import yt_dlp
from yt_dlp.cookies import YoutubeDLCookieJar
from yt_dlp.globals import plugin_dirs

from um.download import http
from um.errors import BadInput, Gone
from um.files import lasting_name, make_folder
from um.forms import read_text

log = logging.getLogger(__name__)

HOSTS = re.compile(r"(.+\.)?(youtube\.com|youtube-nocookie\.com|youtu\.be)")
REASONS = {  # the first match counts
    "not in this country": r"(available|blocked it) in your country|from your location|geo.?restrict",
    "terminated account": r"account associated with this video (has been|is) (terminated|closed)",
    "copyright": r"copyright",
    "private": r"private video|video is private",
    "members only": r"members-only|members only|channel's members|premium members",
    "paid": r"requires payment|requires purchase|available (for|to) (rent|purchase)",
    "age-restricted": r"confirm your age|age.restricted|inappropriate for some users|verify your age",
    "removed": r"(been|was) (removed|deleted)|removed by|violat",
    "live": r"live stream recording is not available",
    "unavailable": r"video unavailable\.?$|video (is|has become) (unavailable|not available|no longer available)|"
    r"video does not exist|this video isn't available anymore",
}
PASSING = re.compile(r"try again later|rate.?limit|not a bot|captcha|live event will begin|premieres? (in|will)", re.I)
BUSY = re.compile(r"HTTP Error (416|429|5\d\d)")
LOST = re.compile(r"HTTP Error (404|410)")
BLOCK = 16 * 1024  # bytes; a cut loses less than one
NO_RUNTIME = "JavaScript runtime"  # in yt-dlp's warning
ASKED = 2  # times more that yt-dlp asks for a page
UNREACHED = re.compile("failed to resolve|name or service not known|unreachable|refused", re.I)
NOISE = re.compile(
    r"^(ERROR: )?(\[[^\]]+\] (\S+: )?)?|;? *please report this issue.*| \(caused by.*"
    r"|[.\s]+(Use --|See +http|It is recommended|For more|You might want|This video is available in ).*",
    re.S,
)


def is_youtube(url: str) -> bool:
    """Whether a link is to YouTube."""
    return HOSTS.fullmatch(urlsplit(url).hostname or "") is not None


def fetch(
    url: str,
    folder: Path,
    stem: str,
    order: http.Order = http.ORDER,
    *,
    cookies: Path | None = None,
    height: int = 360,
    sleep: tuple[float, float] = (1, 5),
) -> Path:
    """Download a video, or resume its download from the hidden folder `.um-….download`.

    Takes the best picture of at most `height` lines, or else the smallest; of that size, H.264 in mp4 if available;
    with or without sound, so that no merging by ffmpeg is needed.

    Args:
        url: of a video of YouTube, a page with one, or a video file.
        folder: where it goes.
        stem: its name without the suffix, which depends on the format.
        order: how; without a checksum, as every format has another one. `patience.silence` also limits connecting.
        cookies: a browser's, in Netscape's format; only read.
        height: lines of the picture, as in "360p": of the shorter side.
        sleep: pause before the download in seconds, at least and at most.

    Returns:
        `<folder>/<stem>.<suffix>`.

    Raises:
        Gone: the video is permanently missing; `found` is a reason of `REASONS` or HTTP 404.
        BadInput: a failure that may pass, or that cookies or a newer yt-dlp may solve.
    """
    voice = _Voice()
    hidden = (folder / lasting_name(folder / stem, ".download")).absolute()
    if hidden.is_symlink():
        raise BadInput(hidden, "a link", "a folder of um", "remove the link")
    pause = {"sleep_interval": sleep[0], "max_sleep_interval": sleep[1]}
    options = _options(url, hidden, height, order) | pause | {"logger": voice}
    jar = _read(cookies) if cookies else None
    make_folder(hidden)
    try:
        path = _patiently(url, hidden, options, jar, order.patience)
        target = folder / f"{stem}{path.suffix}"
        order.enter(path, target)
        path = path.replace(target)
        shutil.rmtree(hidden)
        return path
    except yt_dlp.utils.YoutubeDLError as error:
        meaning = _meaning(url, error, with_cookies=cookies is not None, runtime=not voice.misses_runtime)
        if isinstance(meaning, Gone):
            shutil.rmtree(hidden)
        raise meaning from None
    finally:
        with suppress(OSError):  # it holds something, or is gone
            hidden.rmdir()


class _Voice:
    """Sends yt-dlp's messages to the debug log instead of the screen."""

    misses_runtime = False

    def debug(self, text: str) -> None:
        log.debug("%s", text)

    def warning(self, text: str) -> None:
        self.misses_runtime |= NO_RUNTIME in text
        log.debug("%s", text)

    error = debug  # raised, too


def _options(url: str, hidden: Path, height: int, order: http.Order) -> dict[str, Any]:
    patience = order.patience

    def wait(n: int) -> float:
        return min(patience.longest_wait, patience.first_wait * 2.0**n)

    def check(info: dict[str, Any], **_: bool) -> None:
        if info.get("playlist_id") or info.get("playlist_count"):
            raise BadInput(url, "a list of videos", "one video", "give the links of its videos one by one")
        if info.get("live_status") in ("is_live", "is_upcoming") or info.get("is_live"):
            raise BadInput(url, "a broadcast that has not ended", "a video", "try again when it has ended")

    def tell(progress: dict[str, Any]) -> None:
        total = progress.get("total_bytes") or progress.get("total_bytes_estimate")
        order.report(progress.get("downloaded_bytes") or 0, int(total) if total else None)

    return {
        "allowed_extractors": ["youtube.*", "generic", "html5"],  # all 1,800 take 0.1 s
        "format": "bv*",
        "format_sort": [f"res:{height}", "vcodec:h264", "ext:mp4"],
        "paths": {"home": str(hidden)},
        "outtmpl": {"default": "%(format_id).40B.%(ext)s"},  # never resume with the bytes of another format
        "buffersize": BLOCK,
        "noresizebuffer": True,
        "retries": patience.tries,
        "fragment_retries": patience.tries,
        "extractor_retries": min(patience.tries, ASKED),
        "skip_unavailable_fragments": False,
        "retry_sleep_functions": dict.fromkeys(("http", "fragment", "extractor"), wait),
        "socket_timeout": patience.silence,
        "noplaylist": True,
        "extract_flat": "in_playlist",
        "playlistend": 1,
        "match_filter": check,
        "progress_hooks": [tell],
        "noprogress": True,
        "quiet": True,
        "color": "never",
        "cachedir": False,
        "fixup": "never",  # would need ffmpeg
        "compat_opts": {"no-certifi"} if "SSL_CERT_FILE" in environ else set(),  # as other programs do
    }


def _read(cookies: Path) -> str:
    expected, hint = "cookies in Netscape's format", "export them from a browser that is signed in"
    try:
        text = read_text(cookies, expected, hint)
        YoutubeDLCookieJar(io.StringIO(text)).load()
        return text
    except LoadError:
        raise BadInput(cookies, "something else", expected, hint) from None


def _patiently(url: str, hidden: Path, options: dict[str, Any], jar: str | None, patience: http.Patience) -> Path:
    """The file that yt-dlp downloads, with retries while the server is busy, which yt-dlp lacks."""
    plugin_dirs.value = []  # nothing but yt-dlp itself

    def once() -> Any:
        cookies = io.StringIO(jar) if jar else None  # yt-dlp writes back to where it read
        try:
            with yt_dlp.YoutubeDL(options | {"cookiefile": cookies}) as downloader:
                return downloader.extract_info(url)
        except yt_dlp.utils.DownloadError as error:
            said = str(error)
            if not BUSY.search(said) or UNREACHED.search(said) or "Giving up" in said:
                raise
            if "HTTP Error 416" in said:  # the part is the whole file, which yt-dlp 2026.10.26 does not expect
                for part in hidden.iterdir():
                    part.unlink()
            raise http.Cut(said) from error

    info = http.patiently(once, url, patience, lambda cut, _tries: cast(Exception, cut.__cause__))
    if not info or not info.get("requested_downloads"):
        raise BadInput(url, "no video", "one video", "give the link of a page with one video")
    return Path(info["requested_downloads"][0]["filepath"])


def _meaning(url: str, error: Exception, *, with_cookies: bool, runtime: bool) -> BadInput:
    """`Gone` or `BadInput`, by the message of yt-dlp."""
    said = " ".join(NOISE.sub("", str(error)).replace("’", "'").split())
    hint = "try again later, or with a newer yt-dlp"
    if is_youtube(url):
        fitting = (reason for reason, words in REASONS.items() if re.search(words, said, re.I))
        reason = None if PASSING.search(said) else next(fitting, None)
        sure = {"age-restricted": with_cookies, "unavailable": runtime}
        if reason and sure.get(reason, True):
            return Gone(url, reason, "a public video", f"YouTube says: {said}")
        if not with_cookies:
            hint += ", or give the cookies of a browser that is signed in"
        if not runtime:
            hint = "install deno, the JavaScript runtime that yt-dlp needs for YouTube; " + hint
    elif lost := LOST.search(said):
        return Gone(url, f"HTTP {lost[1]}", "a video", http.ELSEWHERE)
    return BadInput(url, said, "a video", hint)
