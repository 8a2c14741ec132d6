"""Wanted members of a zip on a web server come without the rest of it."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.forking import launchers
from helpers.hostile import CORPUS, MEMBERS, Entry, zipped
from helpers.serving import Answer, Nginx, Request, nginx, noise, serving

from um.download import archive, partial
from um.download.http import BLOCK, Order, Patience
from um.errors import BadInput, Gone

HASTY = Patience(connect=2, silence=0.4, tries=3, first_wait=0.01, longest_wait=0.1)
FILES = {f"TH14_test_set_mp4/video_test_{number:07}.mp4": noise(150_000 + 100 * number, number) for number in range(60)}
WANTED = [list(FILES)[number] for number in (3, 20, 21, 41, 59)]
SIZE = sum(len(FILES[name]) for name in WANTED)
PACKED = zipped(*(Entry(*file) for file in FILES.items()))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server(tmp_path) -> Iterator[Nginx]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/a.zip").write_bytes(PACKED)
    with nginx(tmp_path / "served", tmp_path / "nginx") as server:
        yield server


@pytest.fixture
def sparse(tmp_path) -> Path:
    return tmp_path / "out/.a.zip.sparse"


def fetch(url: str, sparse: Path, wanted: list[str] = WANTED, **more) -> bool:
    return partial.fetch(url, sparse, wanted.__contains__, Order(patience=HASTY, **more))


def extracted(sparse: Path, wanted: list[str] = WANTED) -> dict[str, bytes]:
    folder = sparse.parent / "videos"
    placed = archive.extract(sparse, lambda name: folder / name if name in wanted else None)
    return {name: path.read_bytes() for name, path in placed.items()}


def asked(request: Request) -> range:
    first, last = (request.range or "").removeprefix("bytes=").split("-")
    return range(int(first), int(last) + 1)


def came(server: Nginx) -> int:
    time.sleep(0.05)  # nginx logs after it has sent
    return sum(request.sent for request in server.log())


def test_only_wanted_members_come(server: Nginx, sparse: Path) -> None:
    reports = []
    assert fetch(f"{server.url}/moved/a.zip", sparse, report=lambda *counts: reports.append(counts))
    assert extracted(sparse) == {name: FILES[name] for name in WANTED}
    sent = [request.sent for request in server.log("/a.zip")]
    assert SIZE < sum(sent) < SIZE + 2**16 + 2000 < len(PACKED) / 8
    assert len(sent) == 2 + 4  # two of the five are neighbours
    assert sparse.stat().st_size == len(PACKED)
    assert sparse.stat().st_blocks * 512 < SIZE + 2**18
    assert reports[-1][0] == reports[-1][1]
    assert SIZE <= reports[-1][1] < SIZE + 1000
    assert fetch(f"{server.url}/a.zip", sparse)  # all is there: not a word to the server
    assert len(server.log()) == len(sent) + len(sent)  # the redirects
    assert fetch(f"{server.url}/a.zip", sparse, list(FILES)[:6])
    assert extracted(sparse, list(FILES)[:6]) == {name: FILES[name] for name in list(FILES)[:6]}
    partial.remove(sparse)
    assert [path.name for path in sparse.parent.iterdir()] == ["videos"]


def test_an_archive_with_many_members(tmp_path: Path, server: Nginx, sparse: Path) -> None:
    """Its list does not fit the first tail."""
    names = [f"features/{'long' * 20}{number}.npy" for number in range(3000)]
    packed = zipped(*(Entry(name, name.encode(), method=0) for name in names))
    (tmp_path / "served/many.zip").write_bytes(packed)
    assert fetch(f"{server.url}/many.zip", sparse, names[:2])
    assert extracted(sparse, names[:2]) == {name: name.encode() for name in names[:2]}
    assert [len(asked(request)) for request in server.log()][:2] == [4, 2**16]


CHILD = """
import sys
from pathlib import Path
from um.download import http, partial
url, path, *wanted = sys.argv[1:]
partial.fetch(url, Path(path), wanted.__contains__, http.Order(report=lambda done, _: print(done, flush=True)))
"""


def test_a_killed_run_goes_on(server: Nginx, sparse: Path) -> None:
    chance = random.Random(0)
    for _ in range(5):
        before = len(server.log())
        command = [f"{launchers()}/script", "-c", CHILD, f"{server.url}/slow/a.zip", sparse, *WANTED]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout
        for _ in range(chance.randrange(1, 12)):
            child.stdout.readline()
        time.sleep(chance.random() * 0.02)
        child.kill()
        assert child.wait() == -signal.SIGKILL
        child.stdout.read()  # to the end of all that had it
        child.stdout.close()
        journal = [line.split() for line in sparse.with_name(f"{sparse.name}.json").read_text().splitlines()[1:]]
        there = sum(int(stop) - int(start) for start, stop in journal)
        assert fetch(f"{server.url}/a.zip", sparse)
        time.sleep(0.05)  # nginx logs after it has sent
        resumed = [request for request in server.log()[before:] if request.path == "/a.zip"]
        fetched = sum(len(asked(request)) for request in resumed)
        assert SIZE < fetched + there < SIZE + 2**16 + 2000 + BLOCK
        assert extracted(sparse) == {name: FILES[name] for name in WANTED}
        partial.remove(sparse)


def test_a_file_that_has_changed_is_begun_anew(tmp_path: Path, server: Nginx, sparse: Path) -> None:
    assert fetch(f"{server.url}/a.zip", sparse, WANTED[:1])
    changed = {name: content[::-1] for name, content in FILES.items()}
    (tmp_path / "served/a.zip").write_bytes(zipped(*(Entry(*file) for file in changed.items())))
    os.utime(tmp_path / "served/a.zip", (1e9, 1e9))  # nginx tells versions by size and second
    assert fetch(f"{server.url}/a.zip", sparse)
    assert extracted(sparse) == {name: changed[name] for name in WANTED}


def test_a_journal_that_was_cut_or_is_not_ours(server: Nginx, sparse: Path) -> None:
    journal = sparse.with_name(f"{sparse.name}.json")
    spoilers = (
        (lambda text: text[:-3], True),
        (lambda text: text[:20], False),
        (lambda text: "[]\n", False),
        (lambda text: text + "x y\n", False),
        (lambda text: text.replace('"total": ', '"total": 1'), False),
    )
    for spoil, kept in spoilers:
        assert fetch(f"{server.url}/a.zip", sparse)
        journal.write_text(spoil(journal.read_text()))
        before = came(server)
        assert fetch(f"{server.url}/a.zip", sparse)
        assert (came(server) - before < BLOCK + 1) == kept
        assert extracted(sparse) == {name: FILES[name] for name in WANTED}
        before = came(server)
        assert fetch(f"{server.url}/a.zip", sparse)
        assert came(server) == before
    sparse.unlink()
    assert fetch(f"{server.url}/a.zip", sparse)
    assert extracted(sparse) == {name: FILES[name] for name in WANTED}


def test_what_cannot_be_had_in_parts(tmp_path: Path, server: Nginx, sparse: Path) -> None:
    (tmp_path / "served/a.tar").write_bytes(b"features".ljust(10240, b"\0"))
    assert not fetch(f"{server.url}/a.tar", sparse)
    with pytest.raises(Gone, match="HTTP 404"):
        fetch(f"{server.url}/none.zip", sparse)
    with serving() as other:
        url = other.serve("/a.zip", Answer(status=503, headers={"Retry-After": "0"}), Answer(PACKED, ranges=False))
        assert not fetch(url, sparse)
        assert other.ranges("/a.zip") == ["bytes=0-3"] * 2
        assert other.asked("/a.zip")[1].sent < len(PACKED)  # hung up on
        url = other.serve("/b.zip", Answer(status=503))
        with pytest.raises(BadInput, match=r"HTTP 503.*3 tries.*expected parts of the file"):
            fetch(url, sparse)
    assert not list(sparse.parent.iterdir())


def part(start: int, stop: int, cut: int | None = None) -> Answer:
    head = f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{stop - 1}/{len(PACKED)}\r\n"
    head += f'Content-Length: {stop - start}\r\nETag: "1"\r\nConnection: close\r\n\r\n'
    return Answer(raw=head.encode() + PACKED[start:stop][:cut])


def test_cut_answers_go_on_where_they_stopped(sparse: Path) -> None:
    name = WANTED[0]
    start, after = (PACKED.index(PACKED[:4] + PACKED[4:10], PACKED.index(n.encode()) - 30) for n in list(FILES)[3:5])
    tail = len(PACKED) - 2**16
    with serving() as server:
        url = server.serve(
            "/a.zip",
            part(0, 4),
            part(tail, len(PACKED), cut=2**15),
            part(tail + 2**15, len(PACKED)),
            part(start, after, cut=BLOCK + 9),
            part(start + BLOCK + 9, after),
            Answer(status=404),
        )
        assert fetch(url, sparse, [name])
        assert server.ranges("/a.zip")[3:] == [f"bytes={start}-{after - 1}", f"bytes={start + BLOCK + 9}-{after - 1}"]
        assert {request.headers.get("If-Range") for request in server.asked("/a.zip")[1:]} == {'"1"'}
    assert extracted(sparse, [name]) == {name: FILES[name]}


def test_another_part_than_was_asked_for(sparse: Path) -> None:
    with serving() as server:
        url = server.serve("/a.zip", part(0, 4), part(5, 70000), part(0, 4), part(5, 70000))
        with pytest.raises(BadInput, match="a file that keeps changing"):
            fetch(url, sparse)
    assert not list(sparse.parent.iterdir())


def test_the_disk_must_hold_what_is_wanted(server: Nginx, sparse: Path) -> None:
    with pytest.raises(BadInput, match=r"free on the disk; expected .* and 1000000\.000 GB to spare"):
        fetch(f"{server.url}/a.zip", sparse, margin=10**15)


@pytest.mark.parametrize("case", [case for case in CORPUS if case.name.startswith("zip: ")], ids=lambda case: case.name)
def test_hostile_zips_are_refused_as_those_that_are_whole(monkeypatch, server: Nginx, tmp_path, sparse, case) -> None:
    monkeypatch.setattr(archive, "MEMBERS", MEMBERS)
    (tmp_path / "served/a.zip").write_bytes(case.build())
    with pytest.raises(BadInput):  # by the list of members, or by the members themselves
        archive.extract(sparse, tmp_path / "unpacked") if fetch(f"{server.url}/a.zip", sparse, All()) else refuse()
    assert not any(path.is_file() for path in (tmp_path / "unpacked").rglob("*"))


class All(list):
    def __contains__(self, name: object) -> bool:
        return True


def refuse() -> None:
    raise BadInput("the whole file", "is", "to be", "fetched")
