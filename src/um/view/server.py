"""A page and its video on this machine's own address, with the ranges that a player asks for."""

import errno
import os
import re
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import BinaryIO
from urllib.parse import quote, unquote_to_bytes

from um.errors import BadInput

HERE = "127.0.0.1"
PIECE = 1 << 18  # bytes sent at a time
RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE | re.ASCII)
KINDS = {
    ".m4v": "video/mp4", ".mkv": "video/x-matroska", ".mov": "video/quicktime", ".mp4": "video/mp4",
    ".ogg": "video/ogg", ".ogv": "video/ogg", ".webm": "video/webm",
}  # fmt: skip


class Server(ThreadingTCPServer):
    """Answers requests for `/` and `/<name of the video>`, and no others.

    Requests must name this address as their host, so that a foreign site cannot read the video through a host name of
    its own that leads here.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, page: str, video: Path, port: int = 0) -> None:
        self.page, self.video = page.encode(), video
        self.places: dict[bytes, bytes | None] = {b"/": self.page, b"/" + os.fsencode(video.name): None}
        try:
            super().__init__((HERE, port), _Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            found = f"a port that is {'in use' if error.errno == errno.EADDRINUSE else 'reserved'}"
            raise BadInput(f"--port {port}", found, "a free port", "leave out --port to take any") from None
        self.port = int(self.server_address[1])
        self.url = f"http://{HERE}:{self.port}/"
        names = (HERE, "localhost")
        self.hosts = {f"{name}:{self.port}" for name in names} | (set(names) if self.port == 80 else set())

    def handle_error(self, request: object, client_address: object) -> None:
        """Be silent: browsers hang up in the middle of a video whenever its viewer seeks."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *words: object) -> None:  # noqa: A002 (its name in the base class)
        """Be silent."""

    def do_GET(self) -> None:
        """Send the page, the video, or a part of the video."""
        place = unquote_to_bytes(self.path.partition("?")[0])
        if self.headers.get("Host", "").lower() not in self.server.hosts:
            self._head(HTTPStatus.FORBIDDEN, 0)
        elif place not in self.server.places:
            self._head(HTTPStatus.NOT_FOUND, 0)
        elif (content := self.server.places[place]) is not None:
            self._head(HTTPStatus.OK, len(content), {"Content-Type": "text/html; charset=utf-8"})
            self._body(content)
        else:
            self._video()

    do_HEAD = do_GET  # whose body is left out

    def _video(self) -> None:
        try:
            file = self.server.video.open("rb")
        except OSError:
            self._head(HTTPStatus.NOT_FOUND, 0)
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            kind = KINDS.get(self.server.video.suffix.lower(), "application/octet-stream")
            headers = {"Content-Type": kind, "Accept-Ranges": "bytes"}
            part = asked(None if "If-Range" in self.headers else self.headers.get("Range"), size)
            status = HTTPStatus.OK
            if part is not None:
                status = HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
                where = f"{part.start}-{part.stop - 1}" if part else "*"
                headers["Content-Range"] = f"bytes {where}/{size}"
            part = range(size) if part is None else part
            self._head(status, len(part), headers)
            self._pieces(file, part)

    def _head(self, status: HTTPStatus, size: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        fixed = {"Content-Length": str(size), "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        for name, value in (fixed | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, content: bytes) -> None:
        if self.command == "GET":
            self.wfile.write(content)

    def _pieces(self, file: BinaryIO, part: range) -> None:
        file.seek(part.start)
        left = len(part) if self.command == "GET" else 0
        while left:
            piece = file.read(min(left, PIECE))
            if not piece:  # the file has shrunk
                self.close_connection = True
                return
            self.wfile.write(piece)
            left -= len(piece)


def asked(header: str | None, size: int) -> range | None:
    """The bytes that a Range header asks for: empty if the file has none of them; None for anything but one range."""
    if header is None or not header.strip().lower().startswith("bytes") or "," in header:
        return None
    found = RANGE.fullmatch(header)
    first, last = found.groups() if found else ("", "")
    if first:
        return range(int(first), min(size, int(last) + 1 if last else size))
    return range(max(0, size - int(last or 0)), size)


def serve(page: str, video: Path, port: int = 0) -> None:
    """Serve until Ctrl-C."""
    with Server(page, video, port) as server, suppress(KeyboardInterrupt):
        print(f"{server.url}  (Ctrl-C ends it)", flush=True)
        server.serve_forever()


def source(video: Path) -> str:
    """The address of the video on the server, relative to the page."""
    return quote(os.fsencode(video.name))
