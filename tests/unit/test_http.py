"""Downloads from web servers: whole or not at all, whatever the server, the network or a kill does."""

import hashlib
import json
import logging
import multiprocessing
import os
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path

import pytest
import trustme
from helpers.serving import Answer, Server, nginx, noise, redirect, serving

from um.download import http
from um.download.http import BLOCK, Order, Patience
from um.errors import BadInput, Gone
from um.files import lasting_name

HASTY = Patience(connect=2, silence=0.4, slowest=1024, window=0.3, tries=4, first_wait=0.01, longest_wait=3)
CONTENT = noise(300_007)
SUM = hashlib.sha256(CONTENT).hexdigest()
PROCESSES = multiprocessing.get_context("forkserver")  # its children hold none of this process's sockets
PROCESSES.set_forkserver_preload(["um.download.http", "helpers.serving", "pytest", "trustme"])  # imported once for all


def fetch(url: str, target: Path, *, expected: str | None = None, **options) -> None:
    http.fetch(url, target, Order(expected, **options))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def target(tmp_path) -> Iterator[Path]:
    yield tmp_path / "out/file.bin"
    if not list(tmp_path.glob("out/.*.partial")):
        assert {path.name for path in tmp_path.glob("out/*")} <= {"file.bin"}, "a note without its partial file"


def partial(target: Path) -> Path:
    return target.with_name(lasting_name(target, ".partial"))


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_every_block_is_on_the_disk_before_the_next_is_read(server, target):
    url = server.serve("/file", Answer(CONTENT))
    reports: list[tuple[int, int | None]] = []

    def report(done: int, total: int | None) -> None:
        reports.append((done, total))
        assert partial(target).read_bytes() == CONTENT[:done]
        assert not target.exists()

    fetch(url, target, expected=SUM, report=report)
    assert target.read_bytes() == CONTENT
    assert names(target) == ["file.bin"]
    assert reports[0] == (0, len(CONTENT))
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    assert all(0 < after - before <= BLOCK for (before, _), (after, _) in pairwise(reports))
    headers = server.log[0].headers
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("um/")


@pytest.mark.parametrize("chunked", [False, True])
def test_an_empty_file(server, target, chunked):
    fetch(server.serve("/file", Answer(b"", chunked=chunked)), target, patience=HASTY)
    assert target.read_bytes() == b""
    assert names(target) == ["file.bin"]


def test_a_file_that_is_there_is_not_fetched(server, target):
    url = server.serve("/file", Answer(CONTENT))
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    fetch(url, target)
    fetch(url, target, expected=SUM)
    assert server.log == []
    target.write_bytes(b"old")
    fetch(url, target)
    assert target.read_bytes() == b"old"
    fetch(url, target, expected=SUM)
    assert target.read_bytes() == CONTENT
    assert len(server.log) == 1


# --- cut connections


def test_cuts_cost_nothing_that_had_come(server, target):
    """Twelve cuts are more than four tries: each brings a block, so none counts as a failure."""
    content = noise(12 * BLOCK + 5)
    cuts = [Answer(content, cut=BLOCK + 17 * number) for number in range(11)]
    fetch(server.serve("/file", *cuts, Answer(content)), target, patience=HASTY)
    assert target.read_bytes() == content
    sent = [request.sent for request in server.settled()]
    assert sum(sent) == len(content)
    starts = [sum(sent[:number]) for number in range(len(sent))]
    assert server.ranges("/file") == [f"bytes={start}-" if start else None for start in starts]
    assert all(request.headers["If-Range"] == '"1"' for request in server.log[1:])


def test_connections_that_are_reset(server, target):
    url = server.serve("/file", *[Answer(CONTENT, cut=90_000, rate=4e6, reset=True)] * 3, Answer(CONTENT))
    fetch(url, target, patience=HASTY)
    assert target.read_bytes() == CONTENT
    assert len(server.log) == 4


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_always_cuts_at_the_same_byte_is_given_up(server, target, ranges):
    url = server.serve("/file", Answer(CONTENT[:200_000], length=len(CONTENT), ranges=ranges))
    if ranges:  # behind byte 200,000 it knows of nothing
        server.serve("/file", server.answers["/file"][0], *[Answer(CONTENT, cut=0)])
    with pytest.raises(BadInput, match=r"a broken connection .*\(4 tries, 200000 bytes came\)"):
        fetch(url, target, patience=HASTY)
    assert not target.exists()
    assert partial(target).read_bytes() == CONTENT[:200_000]
    assert len(server.log) == 5  # the first brought new blocks


def test_what_is_given_up_goes_on_later(server, target):
    url = server.serve("/file", Answer(CONTENT, cut=100_000), Answer(CONTENT, cut=0))
    with pytest.raises(BadInput):
        fetch(url, target, patience=HASTY)
    server.serve("/file", Answer(CONTENT))
    fetch(url, target, patience=HASTY)
    assert target.read_bytes() == CONTENT
    assert server.ranges("/file")[-1] == "bytes=100000-"


def test_chunks_that_end_early(server, target):
    cut = [Answer(CONTENT, chunked=True, cut=size) for size in (70_001, 140_002)]
    fetch(server.serve("/file", *cut, Answer(CONTENT, chunked=True)), target, patience=HASTY)
    assert target.read_bytes() == CONTENT
    assert server.ranges("/file") == [None, "bytes=70001-", "bytes=210003-"]


def test_all_bytes_but_not_their_end(server, target):
    """Nothing but HTTP 416 tells that a file without announced length is complete."""
    url = server.serve("/file", Answer(CONTENT, chunked=True, cut=len(CONTENT)), Answer(CONTENT))
    fetch(url, target, patience=HASTY)
    assert target.read_bytes() == CONTENT
    assert [(request.range, request.status) for request in server.log] == [(None, 200), ("bytes=300007-", 416)]


@pytest.mark.parametrize("now", [5, 100_000])
def test_a_file_that_has_become_shorter(server, target, now):
    """Even if by chance it is as long as what has come."""
    refused = Answer(b"", 416, {"Content-Range": f"bytes */{now}"})
    url = server.serve("/file", Answer(CONTENT, cut=100_000), refused, Answer(b"short"))
    fetch(url, target, patience=HASTY)
    assert target.read_bytes() == b"short"
    assert [(request.range, request.status) for request in server.log][1:] == [("bytes=100000-", 416), (None, 200)]


def test_a_server_that_gives_less_than_was_asked_for(server, target):
    def part(start: int, end: int) -> Answer:
        return Answer(CONTENT[start:end], 206, {"Content-Range": f"bytes {start}-{end - 1}/{len(CONTENT)}"})

    url = server.serve("/file", part(0, 100_000), part(100_000, 200_000), part(200_000, len(CONTENT)))
    fetch(url, target, patience=HASTY)
    assert target.read_bytes() == CONTENT
    assert server.ranges("/file") == [None, "bytes=100000-", "bytes=200000-"]


@pytest.mark.parametrize("raw", [b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Le", b"HTTP/1.1 200 OK\r\n\r\nabc"])
def test_a_head_that_is_cut_is_no_empty_file(server, target, raw):
    fetch(server.serve("/file", Answer(raw=raw), Answer(CONTENT)), target, patience=HASTY)
    assert target.read_bytes() == CONTENT
    with pytest.raises(BadInput, match="without a length"):
        fetch(server.serve("/other", Answer(raw=raw)), target.with_name("other"), patience=HASTY)
    assert names(target) == ["file.bin"]


def test_a_checksum_stands_in_for_a_length(server, target):
    url = server.serve("/file", Answer(raw=b"HTTP/1.0 200 OK\r\n\r\n" + CONTENT))
    fetch(url, target, expected=SUM, patience=HASTY)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "raw",
    [b"", b"220 ftp.example.org ready\r\n", b"HTTP/1.1 200 OK\r\n" + b"x" * 99_999],
    ids=["nothing", "another protocol", "a head without end"],
)
def test_no_web_server(server, target, raw):
    with pytest.raises(BadInput, match=r"a broken connection .*\(4 tries, 0 bytes came\)"):
        fetch(server.serve("/file", Answer(raw=raw)), target, patience=HASTY)
    assert names(target) == []


# --- other versions of the file


def test_a_server_that_ignores_ranges(server, target):
    url = server.serve("/file", Answer(CONTENT, cut=100_000), Answer(CONTENT, ranges=False))
    fetch(url, target, patience=HASTY)
    assert target.read_bytes() == CONTENT
    assert server.ranges("/file") == [None, "bytes=100000-"]


OLD, NEW = "Sat, 01 Jun 2024 00:00:00 GMT", "Sun, 02 Jun 2024 00:00:00 GMT"


@pytest.mark.parametrize("minds", [True, False], ids=["If-Range obeyed", "If-Range ignored"])
@pytest.mark.parametrize(
    ("before", "after", "condition"),
    [
        ((CONTENT, '"1"', None), (noise(300_007, 1), '"2"', None), '"1"'),
        ((CONTENT, None, OLD), (noise(300_007, 1), None, NEW), OLD),
        ((CONTENT, 'W/"1"', OLD), (noise(300_007, 1), 'W/"1"', NEW), OLD),
        ((CONTENT, '"1"', OLD), (noise(300_008, 1), '"1"', OLD), '"1"'),
    ],
    ids=["strong ETag", "date", "weak ETag", "size alone"],
)
def test_a_file_that_changes_between_two_tries(server, target, minds, before, after, condition):
    def answer(content: bytes, etag: str | None, modified: str | None, cut: int | None = None) -> Answer:
        return Answer(content, etag=etag, headers={"Last-Modified": modified} if modified else {}, cut=cut)

    new = answer(*after)
    rest = {**new.headers, "Content-Range": f"bytes 100000-{len(new.body) - 1}/{len(new.body)}"}
    ignoring = [] if minds else [Answer(new.body[100_000:], 206, rest, new.etag)]
    fetch(server.serve("/file", answer(*before, cut=100_000), *ignoring, new), target, patience=HASTY)
    assert target.read_bytes() == new.body
    assert server.log[1].headers["If-Range"] == condition
    at_once = minds and before[1:] != after[1:]  # the server itself sees that the file is another
    assert server.ranges("/file") == [None, "bytes=100000-", None][: 2 if at_once else 3]


def test_without_a_validator_only_a_checksum_allows_to_go_on(server, target):
    answers = [Answer(CONTENT, etag=None, cut=100_000), Answer(CONTENT, etag=None)]
    fetch(server.serve("/file", *answers), target, patience=HASTY)
    fetch(server.serve("/known", *answers), target.with_name("known"), expected=SUM, patience=HASTY)
    assert target.read_bytes() == target.with_name("known").read_bytes() == CONTENT
    assert server.ranges("/file") == [None, None]
    assert server.ranges("/known") == [None, "bytes=100000-"]
    target.with_name("known").unlink()


def test_a_file_that_changes_for_ever_is_given_up(server, target):
    answers = [Answer(CONTENT, etag=f'"{number}"', cut=100_000) for number in range(20)]
    with pytest.raises(BadInput, match=r"\(4 tries, 100000 bytes came\)"):
        fetch(server.serve("/file", *answers), target, patience=HASTY)
    assert len(server.log) == 5


@pytest.mark.parametrize("given", ["bytes 5-9/300007", "bytes 100000-x/y", "", "items 1-2/3"])
def test_another_part_than_was_asked_for(server, target, given):
    wrong = Answer(CONTENT[100_000:], 206, {"Content-Range": given})
    fetch(server.serve("/file", Answer(CONTENT, cut=100_000), wrong, Answer(CONTENT)), target, patience=HASTY)
    assert target.read_bytes() == CONTENT
    assert server.ranges("/file") == [None, "bytes=100000-", None]


@pytest.mark.parametrize("notes", ["", "{", "[1]", '{"etag": "1"}', b"\xff"])
def test_a_partial_file_of_unknown_version_starts_anew(server, target, notes):
    target.parent.mkdir()
    partial(target).write_bytes(b"what?")
    partial(target).with_suffix(".partial.json").write_bytes(notes if isinstance(notes, bytes) else notes.encode())
    fetch(server.serve("/file", Answer(CONTENT)), target)
    assert target.read_bytes() == CONTENT
    assert server.ranges("/file") == [None]
    assert names(target) == ["file.bin"]


# --- checksums


def leave_partial(target: Path, content: bytes) -> None:
    """As a killed download leaves it."""
    target.parent.mkdir(exist_ok=True)
    partial(target).write_bytes(content)
    notes = {"etag": '"1"', "modified": None, "total": len(CONTENT)}
    partial(target).with_suffix(".partial.json").write_text(json.dumps(notes))


def test_other_bytes_than_expected(server, target):
    wrong = noise(len(CONTENT), 1)
    with pytest.raises(BadInput, match=f"sha256 {hashlib.sha256(wrong).hexdigest()}; expected sha256 {SUM}"):
        fetch(server.serve("/file", Answer(wrong)), target, expected=SUM)
    assert names(target) == []
    assert len(server.log) == 1


@pytest.mark.parametrize("there", [100_000, len(CONTENT)])
def test_a_patchwork_that_is_wrong_is_fetched_once_more(server, target, there):
    leave_partial(target, noise(there, 1))
    fetch(server.serve("/file", Answer(CONTENT)), target, expected=SUM)
    assert target.read_bytes() == CONTENT
    assert server.ranges("/file") == (["bytes=100000-", None] if there == 100_000 else [None])


def test_but_only_once_more(server, target):
    wrong = noise(len(CONTENT), 1)
    leave_partial(target, wrong[:100_000])
    url = server.serve("/file", Answer(wrong), Answer(wrong, cut=50_000), Answer(wrong))
    with pytest.raises(BadInput, match=SUM):
        fetch(url, target, expected=SUM, patience=HASTY)
    assert names(target) == []
    assert server.ranges("/file") == ["bytes=100000-", None, "bytes=50000-"]


def test_killed_between_the_last_byte_and_the_name(server, target):
    leave_partial(target, CONTENT)
    fetch(server.url + "/file", target, expected=SUM)
    assert target.read_bytes() == CONTENT
    assert server.log == []


def test_killed_between_the_name_and_the_end(server, target):
    leave_partial(target, CONTENT)
    partial(target).rename(target)
    fetch(server.url + "/file", target)
    assert names(target) == ["file.bin"]


def test_less_announced_than_there_is(server, target):
    with pytest.raises(BadInput, match="sha256"):
        fetch(server.serve("/file", Answer(CONTENT, length=1000)), target, expected=SUM)
    more = Answer(CONTENT, 206, {"Content-Range": "bytes 0-99/100"})
    with pytest.raises(BadInput, match=r"more than the announced 100 bytes \(4 tries, 0 bytes came\)"):
        fetch(server.serve("/file", more), target, patience=HASTY)
    assert names(target) == []


# --- busy servers


def waits(server: Server) -> list[float]:
    return [after.began - before.began for before, after in pairwise(server.log)]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_ever_more_seldom(server, target, status):
    url = server.serve("/file", *[Answer(b"busy", status)] * 3, Answer(CONTENT))
    fetch(url, target, patience=Patience(first_wait=0.05, tries=4))
    assert target.read_bytes() == CONTENT
    for wait, least in zip(waits(server), [0.05, 0.1, 0.2], strict=True):
        assert least <= wait < least + 0.5


def test_a_server_that_stays_busy(server, target):
    patience = Patience(first_wait=0.01, tries=6, longest_wait=0.04)
    with pytest.raises(BadInput, match=r"HTTP 503 \(Service Unavailable\) \(6 tries, 0 bytes came\)"):
        fetch(server.serve("/file", Answer(b"busy", 503)), target, patience=patience)
    assert names(target) == []
    assert len(server.log) == 6
    assert max(waits(server)) < 0.3


def test_retry_after_is_obeyed(server, target, caplog):
    caplog.set_level(logging.DEBUG, "um.download.http")
    busy = [Answer(b"", 429, {"Retry-After": "1"}), Answer(b"", 503, {"Retry-After": formatdate(time.time() + 3)})]
    fetch(server.serve("/file", *busy, Answer(CONTENT)), target, patience=HASTY)
    assert target.read_bytes() == CONTENT
    assert waits(server)[0] >= 1
    assert 0.5 < waits(server)[1] < 2.5  # a date has whole seconds, and one has passed
    url = f"{server.url}/file"
    assert caplog.messages[0] == f"{url}: HTTP 429 (Too Many Requests); retrying from byte 0 in 1 s"
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("when", ["tomorrow", "-5", "", OLD, "0"])
def test_retry_after_that_says_nothing(server, target, when):
    fetch(server.serve("/file", Answer(b"", 503, {"Retry-After": when}), Answer(CONTENT)), target, patience=HASTY)
    assert 0.01 <= waits(server)[0] < 0.5


@pytest.mark.parametrize("as_date", [False, True])
def test_a_server_that_asks_for_too_much_patience(server, target, as_date):
    when = formatdate(time.time() + 7200.9, usegmt=True) if as_date else "7200"
    answers = Answer(CONTENT, cut=100_000), Answer(b"", 429, {"Retry-After": when})
    with pytest.raises(BadInput, match=r"HTTP 429 .*to be tried again in 7[12]\d\d s; expected at most 3 s"):
        fetch(server.serve("/file", *answers), target, patience=HASTY)
    assert partial(target).stat().st_size == 100_000  # to go on from


# --- clear ends


@pytest.mark.parametrize("status", [404, 410])
def test_gone(server, target, status):
    with pytest.raises(Gone, match=f"HTTP {status}"):
        fetch(server.serve("/file", Answer(b"no", status)), target)
    assert names(target) == []
    assert len(server.log) == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, "permission"),
        (403, "permission"),
        (451, "permission"),
        (400, "the file"),
        (204, "the file"),
        (304, "the file"),
    ],
)
def test_refused(server, target, status, expected):
    with pytest.raises(BadInput, match=rf"HTTP {status} .*expected {expected}.*UM_MIRROR") as refused:
        fetch(server.serve("/file", Answer(b"", status)), target)
    assert not isinstance(refused.value, Gone)
    assert names(target) == []
    assert len(server.log) == 1


def test_a_page_instead_of_a_file(server, target):
    page = Answer(b"<html>", headers={"Content-Type": "text/html; charset=utf-8"}, etag='"2"')
    url = server.serve("/file", Answer(CONTENT, cut=100_000), page)
    with pytest.raises(BadInput, match=r"a web page; expected the file file\.bin"):
        fetch(url, target, patience=HASTY)
    assert partial(target).read_bytes() == CONTENT[:100_000]
    partial(target).unlink()
    partial(target).with_suffix(".partial.json").unlink()
    fetch(url, target.with_name("page.HTML"))
    assert target.with_name("page.HTML").read_bytes() == b"<html>"
    target.with_name("page.HTML").unlink()


def test_redirects(server, target):
    server.serve("/file", Answer(CONTENT, cut=100_000), Answer(CONTENT))
    endless = Answer(noise(10**6), 307, {"Location": f"{server.url}/file"}, rate=1000)
    server.serve("/b", endless)
    fetch(server.serve("/a", redirect("b", 301)), target, patience=HASTY)
    assert target.read_bytes() == CONTENT
    assert server.ranges("/file") == [None, "bytes=100000-"]


@pytest.mark.parametrize(
    ("to", "found"),
    [
        ("/a", "redirects without end"),
        ("file:///etc/passwd", "leads nowhere .*file:///etc/passwd"),
        ("ftp://127.0.0.1/file", "leads nowhere .*ftp"),
        ("http://[", "leads nowhere"),
        ("http://\xff\xfe:x/", "leads nowhere"),
        ("//", "redirects without end"),
    ],
)
def test_redirects_to_nowhere(server, target, to, found):
    with pytest.raises(BadInput, match=found):
        fetch(server.serve("/a", redirect(to)), target, patience=HASTY)
    assert names(target) == []
    assert len(server.log) <= 11


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "example.org/x", "http://", "http://a b/"])
def test_no_address_of_a_web_server(target, url):
    with pytest.raises(BadInput, match=r"leads nowhere.*expected http or https"):
        fetch(url, target)
    assert names(target) == []


def test_an_unknown_host_ends_soon(target):
    began = time.monotonic()
    with pytest.raises(BadInput, match=r"http://nowhere\.invalid/file: found no such host .*\(2 tries, 0 bytes came\)"):
        fetch("http://me:secret@nowhere.invalid/file", target)
    assert time.monotonic() - began < 5


def test_no_server_at_all(target):
    with serving() as server:
        url = server.url
    with pytest.raises(BadInput, match=r"127\.0\.0\.1.*nobody answers there.* \(4 tries, 0 bytes came\)"):
        fetch(url, target, patience=replace(HASTY, tries=9))
    assert names(target) == []


def test_secure_connections(target, tmp_path, monkeypatch):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with serving(context) as server:
        url = server.serve("/file", Answer(CONTENT, cut=100_000), Answer(CONTENT))
        with pytest.raises(BadInput, match=r"no secure connection .*CERTIFICATE_VERIFY_FAILED"):
            fetch(url, target)
        assert names(target) == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        fetch(url, target, expected=SUM, patience=HASTY)
        assert target.read_bytes() == CONTENT
        slow = server.serve("/slow", Answer(CONTENT, head_rate=30))
        with pytest.raises(BadInput, match=r"no answer in time \(4 tries"):
            fetch(slow, target.with_name("slow"), patience=HASTY)
    with serving() as server, pytest.raises(BadInput, match="no secure connection"):
        fetch(server.url.replace("http:", "https:") + "/file", target.with_name("plain"))


# --- slow servers


def test_a_server_that_drips(server, target):
    """It sends a byte just before every time limit; the second try goes on from there."""
    url = server.serve("/file", Answer(CONTENT, rate=50), Answer(CONTENT))
    fetch(url, target, patience=HASTY)
    assert target.read_bytes() == CONTENT
    assert 0.3 <= server.log[1].began - server.log[0].began < 1
    assert server.ranges("/file")[1] is not None


def test_a_server_that_drips_for_ever(server, target):
    with pytest.raises(BadInput, match=r"less than 1024 bytes per second \(4 tries, \d\d bytes came\)"):
        fetch(server.serve("/file", Answer(CONTENT, rate=50)), target, patience=HASTY)
    assert len(server.log) == 4


def test_a_server_that_drips_its_head(server, target):
    began = time.monotonic()
    with pytest.raises(BadInput, match=r"no answer in time \(4 tries, 0 bytes came\)"):
        fetch(server.serve("/file", Answer(CONTENT, head_rate=20)), target, patience=HASTY)
    assert 1.6 <= time.monotonic() - began < 4
    assert names(target) == []


def test_a_server_that_falls_silent(server, target):
    began = time.monotonic()
    silent = Answer(CONTENT, rate=1)
    fetch(server.serve("/file", silent, Answer(CONTENT)), target, patience=HASTY)
    assert 0.3 < time.monotonic() - began < 2
    assert target.read_bytes() == CONTENT


def test_a_slow_server_is_not_a_dripping_one(server, target):
    """Longer than every time limit, at thrice the least rate."""
    fetch(server.serve("/file", Answer(CONTENT[:4000], rate=3000)), target, patience=HASTY)
    assert target.read_bytes() == CONTENT[:4000]
    assert len(server.log) == 1
    until(lambda: server.log[0].ended - server.log[0].began > 1)


# --- the disk


def test_a_file_that_does_not_fit(server, target):
    url = server.serve("/file", Answer(CONTENT))
    with pytest.raises(BadInput, match=r"GB free on the disk; expected 0\.000 GB for the file and 10{9}\.000 GB to"):
        fetch(url, target, margin=10**18)
    huge = server.serve("/huge", Answer(CONTENT, length=10**17))
    with pytest.raises(BadInput, match=r"expected 10{8}\.000 GB for the file and 0\.100 GB to spare"):
        fetch(huge, target)
    assert names(target) == []


def test_only_what_is_missing_must_fit(server, target):
    """A terabyte is there (of holes, so that it takes no room), 100 bytes are missing."""
    there = 10**12
    target.parent.mkdir()
    with partial(target).open("wb") as file:
        file.truncate(there)
    notes = {"etag": '"1"', "modified": None, "total": there + 100}
    partial(target).with_suffix(".partial.json").write_text(json.dumps(notes))
    rest = Answer(CONTENT[:100], 206, {"Content-Range": f"bytes {there}-{there + 99}/{there + 100}"})
    fetch(server.serve("/file", rest), target)
    assert target.stat().st_size == there + 100
    assert server.ranges("/file") == [f"bytes={there}-"]
    target.unlink()


def fetch_within(limit: int, url: str, target: Path) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with pytest.raises(BadInput, match="room for the file"):
        fetch(url, target)


def test_the_system_refuses_to_write_on(server, target):
    child = PROCESSES.Process(target=fetch_within, args=(100_000, server.serve("/file", Answer(CONTENT)), target))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert partial(target).read_bytes() == CONTENT[:100_000]


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_working_files_are_no_links_and_no_pipes(server, target, tmp_path, kind):
    target.parent.mkdir()
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    partial(target).symlink_to(mine) if kind == "link" else os.mkfifo(partial(target))
    with pytest.raises(OSError, match=r"symbolic links|No such device"):
        fetch(server.serve("/file", Answer(CONTENT)), target)
    assert mine.read_bytes() == b"mine"
    partial(target).unlink()


def test_a_name_as_long_as_names_may_be(server, tmp_path):
    for name in ("漢" * 83 + ".mp4", "a" * 255):
        fetch(server.serve("/file", Answer(CONTENT, cut=100_000), Answer(CONTENT)), tmp_path / name, patience=HASTY)
        assert (tmp_path / name).read_bytes() == CONTENT


# --- several at once


def test_parallel_downloads_share_nothing(server, tmp_path):
    """One of them fails; the names are such that one file's partial is not another's."""
    paths = [tmp_path / name for name in ("a", "a.partial", "a.partial.json", "b", ".a")]
    contents = [noise(200_000, seed) for seed in range(len(paths))]
    urls = [server.serve(f"/{seed}", Answer(content, rate=2e5)) for seed, content in enumerate(contents)]
    with ThreadPoolExecutor(6) as pool:
        failing = pool.submit(fetch, f"{server.url}/missing", tmp_path / "missing")
        list(pool.map(fetch, urls, paths))
    with pytest.raises(Gone):
        failing.result()
    assert [path.read_bytes() for path in paths] == contents
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    whole = [request for request in server.log if request.status == 200]
    until(lambda: all(request.ended for request in whole))
    assert max(request.began for request in whole) < min(request.ended for request in whole)


def start(url: str, target: Path, expected: str | None = None) -> multiprocessing.Process:
    child = PROCESSES.Process(target=fetch, args=(url, target), kwargs={"expected": expected, "patience": HASTY})
    child.start()
    return child


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.0005)


def size(target: Path) -> int:
    """Of what has come."""
    try:
        return partial(target).stat().st_size
    except FileNotFoundError:
        return 0


def test_two_processes_fetch_a_file_once(server, target):
    url = server.serve("/file", Answer(CONTENT, rate=1e6))
    children = [start(url, target) for _ in range(3)]
    for child in children:
        child.join(20)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert target.read_bytes() == CONTENT
    assert names(target) == ["file.bin"]
    assert len(server.log) == 1


def test_who_waits_goes_on_for_who_is_killed(server, target, caplog):
    caplog.set_level(logging.INFO)
    url = server.serve("/file", Answer(CONTENT, rate=1e6))
    first = start(url, target)
    until(lambda: size(target) > 50_000)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(fetch, url, target, patience=HASTY)
        until(lambda: "waiting for another process" in caplog.text)
        first.kill()
        first.join()
        second.result()
    assert target.read_bytes() == CONTENT
    assert [request.status for request in server.log] == [200, 206]


# --- kills


def kill_and_repeat(
    url: str, target: Path, content: bytes, kill_times: Iterator[Callable[[], bool]], last: str | None = None
) -> list[int]:
    """Fetch a file by processes that are killed one after the other; the bytes that each left behind.

    What a killed one left is a beginning of the file. The last process, which may ask elsewhere, is not killed.
    """
    left, checksum = [], hashlib.sha256(content).hexdigest()
    for ready in kill_times:
        child = start(url, target, checksum)
        until(lambda ready=ready, child=child: ready() or not child.is_alive())
        child.kill()
        child.join()
        if target.exists():
            break
        left.append(size(target))
        if left[-1]:
            assert partial(target).read_bytes() == content[: left[-1]]
    child = start(last or url, target, checksum)
    child.join(20)
    assert child.exitcode == 0
    assert target.read_bytes() == content
    assert names(target) == [target.name]
    return left


def at_sizes(target: Path, dice: random.Random, step: int, count: int) -> Iterator[Callable[[], bool]]:
    """Kill when up to `step` bytes more are there than before."""
    for _ in range(count):
        limit = size(target) + dice.randrange(1, step)
        yield lambda limit=limit: size(target) >= limit


def at_times(dice: random.Random, longest: float, count: int) -> Iterator[Callable[[], bool]]:
    for _ in range(count):
        end = time.monotonic() + dice.uniform(0, longest)
        yield lambda end=end: time.monotonic() >= end


def resumed_at(left: list[int]) -> list[str | None]:
    """The ranges that must be asked for so that nothing comes twice."""
    return [f"bytes={start}-" if start else None for start in [0, *left]]


@pytest.mark.parametrize("seed", range(8))
def test_kills_at_random_bytes(server, tmp_path, seed):
    dice, content, target = random.Random(seed), noise(3_000_003, seed), tmp_path / "file"
    url = server.serve("/file", Answer(content, rate=4e6))
    left = kill_and_repeat(url, target, content, at_sizes(target, dice, 400_000, 6))
    assert len(left) >= 4  # a busy machine kills too late for some
    assert server.ranges("/file") == resumed_at(left)


def test_kills_at_random_times(server, tmp_path):
    """From before the first byte to after the last; a killed process may not have come to ask."""
    dice, kills = random.Random(7), 0
    for number in range(6):
        content, target = noise(500_000, number), tmp_path / str(number) / "file"
        url = server.serve(f"/{number}", Answer(content, rate=4e6))
        left = kill_and_repeat(url, target, content, at_times(dice, 0.12, 5))
        kills += len(left)
        asked = server.ranges(f"/{number}")
        assert Counter(asked) <= Counter(resumed_at(left))
    assert kills >= 15


@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_bytes_from_nginx(tmp_path, seed):
    dice, content, target = random.Random(seed), noise(16_000_001, seed), tmp_path / "out/file"
    (tmp_path / "served").mkdir()
    (tmp_path / "served/file").write_bytes(content)
    with nginx(tmp_path / "served", tmp_path / "nginx", rate="8m") as server:
        times = at_sizes(target, dice, 1_500_000, 6)
        left = kill_and_repeat(f"{server.url}/slow/file", target, content, times, f"{server.url}/file")
        until(lambda: len(server.log()) == len(left) + 1)
        assert Counter(request.range for request in server.log()) == Counter(resumed_at(left))
    assert len(left) >= 4


def test_nginx(tmp_path, target):
    (tmp_path / "served").mkdir()
    (tmp_path / "served/file").write_bytes(CONTENT)
    with nginx(tmp_path / "served", tmp_path / "nginx") as server:
        fetch(f"{server.url}/moved/file", target, expected=SUM, patience=HASTY)
        assert target.read_bytes() == CONTENT
        with pytest.raises(BadInput, match="redirects without end"):
            fetch(f"{server.url}/endless/file", target.with_name("other"), patience=HASTY)
        with pytest.raises(Gone):
            fetch(f"{server.url}/other", target.with_name("other"), patience=HASTY)
        assert names(target) == ["file.bin"]
        until(lambda: len(server.log("/endless/file")) == 11)
        assert [request.sent for request in server.log("/file")] == [len(CONTENT)]
