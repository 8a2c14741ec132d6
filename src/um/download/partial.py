"""Selected members of a zip on a web server: 410 videos of THUMOS14 do not need all 2,584.

The download is a sparse file with the size of the zip, in which only the central directory and the selected members are
filled; `um.download.archive` reads it like any zip. `<file>.json` lists the filled parts, so that a killed run resumes.
"""

import json
import zipfile
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import requests

from um.download import archive, http
from um.errors import BadInput
from um.files import atomic, check_room, make_folder, room
from um.forms import read_text, validate

TAILS = (2**16, 2**20, 2**24, 2**28)  # bytes at the end to fetch: the smallest number that covers the member list
AROUND = 30 + 2 * 2**16 + 24  # bytes beside a member's data, at most: name, extra field, sizes

Wanted = Callable[[str], bool]  # whether the member of this name is wanted


class _Other(Exception):
    """The server sends the whole file, or another version."""


def fetch(url: str, path: Path, wanted: Wanted, order: http.Order = http.ORDER, password: str | None = None) -> bool:
    """Fill a sparse file so that `archive.extract` can read the wanted members from it, and no others.

    Args:
        url: of the zip.
        path: the sparse file. It looks like the archive: give it a name that nothing else reads, for one process at a
            time, and `remove` it once its members are extracted or turn out to be damaged.
        wanted: which members.
        order: how; the bytes that are reported are those of the wanted members.
        password: of encrypted members, which are not fetched without it.

    Returns:
        False: the server sends no parts of files, or the file is not a zip; the whole file must be downloaded.

    Raises:
        Gone: the server says that it does not have the file.
        BadInput: the download fails for another reason, does not fit the disk, or the central directory is not safe.
    """
    make_folder(path.parent)
    with http.session() as web:
        for _ in range(2):
            sparse = _Sparse(url, path, order, web)
            try:
                if _fill(sparse, wanted, password):
                    return True
            except _Other:
                if sparse.version.total is not None:
                    remove(path)
                    continue
            remove(path)
            return False
    raise BadInput(http.shown(url), "a file that keeps changing", "the same file twice", f"try later; {http.ELSEWHERE}")


def remove(path: Path) -> None:
    """Delete a sparse file and what is known of it."""
    path.unlink(missing_ok=True)
    _journal(path).unlink(missing_ok=True)


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _fill(sparse: "_Sparse", wanted: Wanted, password: str | None) -> bool:
    if sparse.version.total is None:
        sparse.get(0, 4)
    total = cast(int, sparse.version.total)  # the first answer without it is refused
    with sparse.target.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            return False
    for tail in TAILS:
        sparse.get(max(0, total - tail), total)
        with suppress(*archive.UNREADABLE), zipfile.ZipFile(sparse.target) as listed:
            if listed.start_dir >= total - tail:
                break
    ranges = _ranges(sparse.target, wanted, password)
    missing = sum(b - a for start, stop in ranges for a, b in sparse.gaps(start, stop))
    check_room(sparse.target.parent, missing, "a part of the archive", sparse.order.margin)
    size = sum(stop - start for start, stop in ranges)
    before = size - missing - sparse.size
    for start, stop in ranges:
        sparse.get(start, stop, lambda: sparse.order.report(before + sparse.size, size))
    return True


def _ranges(path: Path, wanted: Wanted, password: str | None) -> list[tuple[int, int]]:
    """Where the wanted members are: from their header to the next part of the zip."""
    result: list[tuple[int, int]] = []
    with archive.opened(path) as (file, members):
        assert isinstance(file, zipfile.ZipFile)  # noqa: S101 # by its first bytes
        starts = sorted({*(info.header_offset for info in file.infolist()), file.start_dir})
        for member in sorted(members, key=lambda member: member.info.header_offset):
            start = member.info.header_offset
            if not wanted(member.name):
                continue
            archive.check_password(path, member, password)
            if not 0 <= start < file.start_dir:
                raise BadInput(path, f"{member.name} outside of the archive", "a whole zip", "get it from elsewhere")
            stop = min(starts[bisect_right(starts, start)], start + member.info.compress_size + AROUND)
            if result and result[-1][1] >= start:
                start = result.pop()[0]
            result.append((start, stop))
    return result


class _Sparse(http.Transfer):
    """A partly filled file; its journal names the version, then the filled parts, one per line."""

    def __init__(self, url: str, path: Path, order: http.Order, web: requests.Session) -> None:
        super().__init__(url, path, order, web)
        self.have: list[tuple[int, int]] = []
        try:
            head, *lines = read_text(_journal(path)).split("\n")[:-1]  # what follows the last \n was cut
            version = validate(http.Version, json.loads(head), _journal(path))
            if version.total is None or path.is_symlink() or path.stat().st_size != version.total:
                raise ValueError
            for line in lines:
                start, stop = map(int, line.split())
                if not 0 <= start < stop <= version.total:
                    raise ValueError
                self.add(start, stop)
            self.version = version
            with atomic(_journal(path)) as temporary:  # without the line that was cut
                temporary.write_text("".join(f"{line}\n" for line in (head, *lines)), "utf-8")
        except (BadInput, OSError, ValueError, RecursionError):  # none, or killed while it was written
            self.have.clear()
            remove(path)

    def add(self, start: int, stop: int) -> None:
        if self.have and self.have[-1][1] == start:
            start = self.have.pop()[0]
        self.have.append((start, stop))

    def gaps(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The parts of these bytes that are missing."""
        for a, b in sorted(self.have):
            if a > start and start < stop:
                yield start, min(a, stop)
            start = max(start, b)
        if start < stop:
            yield start, stop

    def get(self, start: int, stop: int, report: Callable[[], None] = lambda: None) -> None:
        """Fetch the missing parts of these bytes."""

        def ask() -> None:
            while gap := next(self.gaps(start, stop), None):
                with self.answer(*gap) as (response, first, version):
                    if response.status_code != 206 or first != gap[0]:
                        raise _Other
                    self._take_version(version)
                    self._store(response.raw, *gap, report)

        self.patiently(ask, "parts of the file")

    def _take_version(self, version: http.Version) -> None:
        """Remember the version of the first answer; the others must be of the same."""
        if version.total is None or not version.agrees(self.version):
            raise _Other
        if self.version.total is None:
            with self.target.open("wb") as file:
                file.truncate(version.total)
            _journal(self.target).write_text(json.dumps(version.model_dump()) + "\n", "utf-8")
            self.version = version

    def _store(self, raw: Any, start: int, stop: int, report: Callable[[], None]) -> None:
        with (
            room(self.target, "a part of the file"),
            self.target.open("r+b") as file,
            _journal(self.target).open("a", buffering=1) as journal,
        ):
            file.seek(start)
            while start < stop and (block := raw.read(min(http.BLOCK, stop - start), decode_content=False)):
                file.write(block)
                file.flush()
                journal.write(f"{start} {start + len(block)}\n")
                self.add(start, start + len(block))
                start += len(block)
                self.size += len(block)
                report()
        if start < stop:
            raise http.Cut("less than requested")
