"""Web servers on this machine: a real nginx, and one that misbehaves as told."""

import hashlib
import random
import re
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread

from helpers.debian import installed


@dataclass
class Request:
    """One line of a server's log."""

    path: str
    range: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 0
    sent: int = 0  # bytes of the body that the server has handed to the system
    began: float = 0.0  # time.monotonic()
    ended: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What the misbehaving server says to one request, and how."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)  # these win over those that follow from the rest
    etag: str | None = '"1"'
    ranges: bool = True  # whether a `Range` is obeyed, after a look at `If-Range`
    length: int | None = None  # announced instead of the true one
    chunked: bool = False
    cut: int | None = None  # the connection ends after so many bytes of the body
    reset: bool = False  # it ends with a reset (TCP RST)
    rate: float | None = None  # bytes of the body per second
    head_rate: float | None = None  # bytes of the head per second
    raw: bytes | None = None  # sent instead of all this


def redirect(to: str, status: int = 302) -> Answer:
    return Answer(status=status, headers={"Location": to})


class Server(ThreadingHTTPServer):
    """Answers by path, in turn; the last one stays. A path without answers is 404."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.log: list[Request] = []
        self.lock, self.stopping = Lock(), Event()
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.server_port}"
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def serve(self, path: str, *answers: Answer) -> str:
        """Set a path's answers; returns its address."""
        self.answers[path] = list(answers)
        return self.url + path

    def asked(self, path: str) -> list[Request]:
        with self.lock:
            return [request for request in self.log if request.path == path]

    def ranges(self, path: str) -> list[str | None]:
        return [request.range for request in self.asked(path)]

    def settled(self) -> list[Request]:
        """The log when every request in it is over: clients have the last bytes before the server has counted them."""
        end = time.monotonic() + 5
        while any(not request.ended for request in list(self.log)) and time.monotonic() < end:
            time.sleep(0.005)
        return self.log

    def turn(self, request: Request) -> Answer:
        with self.lock:
            self.log.append(request)
            answers = self.answers.get(request.path, [Answer(b"not here", 404)])
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed or hang up are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *words: object) -> None:  # noqa: A002 (its name in the base class)
        pass

    def do_GET(self) -> None:
        request = Request(self.path, self.headers.get("Range"), dict(self.headers), began=time.monotonic())
        answer = self.server.turn(request)
        try:
            self._send(answer, request)
        finally:
            request.ended = time.monotonic()

    def _send(self, answer: Answer, request: Request) -> None:
        if answer.raw is not None:
            self.wfile.write(answer.raw)
            self.close_connection = True
            return
        request.status, start, headers = _decide(answer, request)
        head = f"HTTP/1.1 {request.status} {self.responses.get(request.status, ('Odd',))[0]}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        for _ in self._paced(head.encode("latin-1"), answer.head_rate):
            pass
        body = b"" if request.status == 416 else answer.body[start:]
        body = body if answer.cut is None else body[: max(0, answer.cut)]
        for sent in self._paced(body, answer.rate, answer.chunked):
            request.sent += sent
        if answer.cut is not None or (answer.length or 0) > len(body):
            self.close_connection = True
            if answer.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
        elif answer.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _paced(self, content: bytes, rate: float | None, chunked: bool = False) -> Iterator[int]:
        """Send pieces of all lengths: whoever is killed has received any number of bytes."""
        step = max(1, int(rate / 200)) if rate else 1 << 18
        dice, due, at = random.Random(len(content)), time.monotonic(), 0
        while at < len(content):
            piece = content[at : at + dice.randrange(1, 2 * step)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            yield len(piece)
            at += len(piece)
            due += len(piece) / rate if rate else 0
            if self.server.stopping.wait(max(0, due - time.monotonic())):
                raise ConnectionAbortedError


def _decide(answer: Answer, request: Request) -> tuple[int, int, dict[str, str]]:
    """Status, first byte and headers."""
    headers = {"ETag": answer.etag} if answer.etag else {}
    status, start, size = answer.status, 0, len(answer.body)
    asked = re.fullmatch(r"bytes=(\d+)-", request.range or "")
    known = request.headers.get("If-Range", answer.etag) in (answer.etag, answer.headers.get("Last-Modified"))
    if asked and answer.ranges and status == 200 and known:
        start = int(asked[1])
        status = 206 if start < size else 416
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}" if start < size else f"bytes */{size}"
    if answer.chunked:
        headers["Transfer-Encoding"] = "chunked"
    else:
        headers["Content-Length"] = str(0 if status == 416 else answer.length or size - start)
    return status, start, headers | answer.headers


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """The misbehaving server, over TLS if a context is given."""
    with Server(context) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join()


NGINX = """
daemon off;
master_process off;
pid {work}/pid;
error_log {work}/error.log;
events {{}}
http {{
    log_format line '$request_uri\\t$status\\t$http_range\\t$body_bytes_sent';
    access_log {work}/access.log line;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{port};
        root {folder};
        location /moved/ {{ rewrite ^/moved/(.*)$ /$1 redirect; }}
        location /endless/ {{ rewrite ^ $uri redirect; }}
        location /slow/ {{ alias {folder}/; limit_rate {rate}; }}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    url: str
    access: Path

    def log(self, path: str | None = None) -> list[Request]:
        """Requests that are over, in the order of their ends; all, or those of a path."""
        time.sleep(0.05)  # a line is written when its request is over, which the client may know before
        lines = [line.split("\t") for line in self.access.read_text().splitlines()] if self.access.exists() else []
        return [
            Request(uri, None if asked == "-" else asked, status=int(status), sent=int(sent))
            for uri, status, asked, sent in lines
            if path in (None, uri)
        ]


@contextmanager
def nginx(folder: Path, work: Path, rate: str = "2m") -> Iterator[Nginx]:
    """Serve `folder` by nginx, which keeps its own files in `work`.

    `/moved/F` redirects to `/F`, `/endless/F` to itself, and `/slow/F` gives `rate` bytes per second.
    """
    program = installed("nginx-light", "nginx")
    work.mkdir(parents=True, exist_ok=True)

    def command(port: int) -> list[str]:
        (work / "nginx.conf").write_text(NGINX.format(work=work, folder=folder, port=port, rate=rate))
        return [program, "-e", str(work / "error.log"), "-p", str(work), "-c", str(work / "nginx.conf")]

    with daemon(command, work / "error.log") as port:
        yield Nginx(f"http://127.0.0.1:{port}", work / "access.log")


@contextmanager
def daemon(command: Callable[[int], list[str]], log: Path, greeting: bytes = b"") -> Iterator[int]:
    """The port of a server that cannot choose one; another process may take the one that was free."""
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        process = subprocess.Popen(command(port), stderr=subprocess.DEVNULL)
        if _answers(port, process, greeting):
            break
    else:
        raise RuntimeError(log.read_text())
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int, process: subprocess.Popen[bytes], greeting: bytes) -> bool:
    end = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
            return client.recv(len(greeting)) == greeting and process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    return False


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes in which no two places look alike."""
    return hashlib.shake_128(str(seed).encode()).digest(size)
