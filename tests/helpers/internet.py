"""A stand-in for the outside world: unchanged https links, answered by functions on this machine.

    with Internet() as internet:
        internet.at("https://example.org/data.zip", file(b"..."))
        internet.plug_in(monkeypatch)  # HTTPS_PROXY and the certificates, by the environment alone
        ...
        assert internet.paths("example.org") == ["/data.zip"]

One server on 127.0.0.1 is the proxy: it grants CONNECT to the hosts that are scripted, and from then on speaks TLS as
that host. Plain http links come to it as a proxy's requests do. Every other host is refused with 502, so nothing
leaves the machine.
"""

import json
import re
import socketserver
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    host: str
    path: str  # with the query
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}


@dataclass(frozen=True)
class Reply:
    """What is answered; after `cut` bytes of the body the connection ends, though more is announced."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None


Handler = Callable[[Request], Reply]


def page(text: str, status: int = 200) -> Handler:
    """Always the same HTML page."""
    return lambda request: Reply(text.encode(), status, {"Content-Type": "text/html; charset=utf-8"})


def redirect(url: str) -> Handler:
    """Always on to another link."""
    return lambda request: Reply(status=302, headers={"Location": url})


def file(content: bytes, kind: str = "application/octet-stream", cut: int | None = None) -> Handler:
    """A file with ranges, as a plain server has it; each answer ends after `cut` bytes."""

    def answer(request: Request) -> Reply:
        headers = {"Content-Type": kind, "Accept-Ranges": "bytes", "ETag": f'"{sha256(content).hexdigest()[:16]}"'}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if wanted is None or request.headers.get("If-Range", headers["ETag"]) != headers["ETag"]:
            return Reply(content, 200, headers, cut)
        start, end = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        if start > end:
            return Reply(b"", 416, headers | {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        return Reply(content[start : end + 1], 206, headers, cut)

    return answer


def in_turn(*handlers: Handler) -> Handler:
    """One after the other; the last one for ever."""
    left = list(handlers)
    return lambda request: (left.pop(0) if len(left) > 1 else left[0])(request)


def value(content: Any) -> Handler:
    """Always the same JSON."""
    return lambda request: Reply(json.dumps(content).encode(), 200, {"Content-Type": "application/json"})


class Internet:
    """The hosts that there are, and every request that they got."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._handlers: dict[tuple[str, str], Handler] = {}
        self._ca = trustme.CA()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._folder = TemporaryDirectory()
        self._bundle = Path(self._folder.name) / "authority.pem"
        self._ca.cert_pem.write_to_path(str(self._bundle))
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.internet = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._folder.cleanup()

    def at(self, url: str, handler: Handler) -> str:
        """Script a link, whatever its query; return it."""
        parts = urlsplit(url)
        known = self.hosts
        self._handlers[parts.netloc, parts.path] = handler
        if parts.netloc not in known:
            self._ca.issue_cert(*self.hosts).configure_cert(self._tls)
        return url

    @property
    def hosts(self) -> list[str]:
        return sorted({host for host, _ in self._handlers})

    def paths(self, host: str) -> list[str]:
        """What was asked of a host, in order."""
        return [request.path for request in list(self.requests) if request.host == host]

    def environment(self) -> dict[str, str]:
        """What makes a program believe in it; 127.0.0.1 itself stays reachable."""
        proxy = f"http://127.0.0.1:{self._server.server_port}"
        proxies = {name: proxy for scheme in ("http_proxy", "https_proxy") for name in (scheme, scheme.upper())}
        direct = dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost")
        return proxies | direct | {name: str(self._bundle) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")}

    def plug_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Set `environment()` for this process and those that it starts."""
        for name, value in self.environment().items():
            monkeypatch.setenv(name, value)

    def answer(self, request: Request) -> Reply:
        """What the scripted host says."""
        self.requests.append(request)
        handler = self._handlers.get((request.host, urlsplit(request.path).path))
        return handler(request) if handler else Reply(b"nothing here", 404, {"Content-Type": "text/plain"})


def refusal(reason: str, detail: str = "", status: str = "ERROR") -> dict[str, Any]:
    """What YouTube's player answers instead of a video, as of 2025: a headline, and more about it."""
    screen = {"reason": {"simpleText": reason}} | ({"subreason": {"simpleText": detail}} if detail else {})
    return {"status": status, "reason": reason, "errorScreen": {"playerErrorMessageRenderer": screen}}


def youtube(internet: Internet, videos: Mapping[str, Mapping[Any, Any]]) -> None:
    """YouTube for yt-dlp without a JavaScript runtime: videos by id, in some numbers of lines each, or a `refusal`."""
    itags = {144: (160, 278, 394), 240: (133, 242, 395), 360: (134, 243, 396), 480: (135, 244, 397)}
    kinds = ('video/mp4; codecs="avc1.4d401e"', 'video/webm; codecs="vp9"', 'video/mp4; codecs="av01.0.01M.08"')

    def player(request: Request) -> Reply:
        name = json.loads(request.body)["videoId"]
        what: Mapping[Any, Any] = videos.get(name, refusal("Video unavailable"))
        answer: dict[str, Any] = {"videoDetails": {"videoId": name, "title": name, "lengthSeconds": "1"}}
        if "status" in what:
            return value(answer | {"playabilityStatus": what})(request)
        where = f"https://rr1---sn-x.googlevideo.com/videoplayback?id={name}&lines="
        formats: list[dict[str, Any]] = [
            {
                "itag": itag,
                "mimeType": kind,
                "height": lines,
                "width": lines * 16 // 9,
                "url": f"{where}{lines}&itag={itag}",
            }
            for lines in what
            for itag, kind in zip(itags[lines], kinds, strict=True)
        ]
        formats += [{"itag": 140, "mimeType": 'audio/mp4; codecs="mp4a.40.2"', "url": f"{where}0", "quality": "tiny"}]
        streams = {"adaptiveFormats": formats}
        return value(answer | {"playabilityStatus": {"status": "OK"}, "streamingData": streams})(request)

    internet.at("https://www.youtube.com/watch", page('<script>var ytInitialData = {"contents": {"x": 1}};</script>'))
    internet.at("https://www.youtube.com/youtubei/v1/player", player)
    internet.at(
        "https://rr1---sn-x.googlevideo.com/videoplayback",
        lambda request: videos[request.query["id"]][int(request.query["lines"])](request),
    )


class _Server(ThreadingHTTPServer):
    internet: Internet

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave early are no news."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True
    server: _Server
    host = ""  # whose part it plays, after CONNECT

    def do_CONNECT(self) -> None:
        name, _, port = self.path.rpartition(":")
        if name not in self.server.internet.hosts or port != "443":
            self.send_error(502, f"no such host: {self.path}")
            return
        self.send_response(200)
        self.end_headers()
        self.host = name
        self.connection = self.server.internet._tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = socketserver._SocketWriter(self.connection)
        self.close_connection = False

    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        host, path = self.host, self.path
        if not host:  # plain http, by a proxy
            parts = urlsplit(self.path)
            host, path = parts.netloc, f"{parts.path}?{parts.query}"
        if host not in self.server.internet.hosts:
            self.send_error(502, f"no such host: {host}")
            return
        reply = self.server.internet.answer(Request(host, path, dict(self.headers.items()), sent))
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[: reply.cut])
            if reply.cut is not None and reply.cut < len(reply.body):
                self.close_connection = True

    do_HEAD = do_POST = do_GET

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        self.connection.close()

    def log_message(self, *_: object) -> None:
        pass
