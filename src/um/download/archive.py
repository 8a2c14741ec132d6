"""Untrusted archives (zip, and tar plain or compressed), unpacked safely.

The whole list of members is checked before a byte is written: an archive is refused if a name leaves its folder, if a
member is a link or a device, or if two members have the same path. Files are written whole or not at all; an existing
file stays, and is an error if it differs.
"""

import copy
import lzma
import multiprocessing
import os
import re
import signal
import stat
import struct
import tarfile
import threading
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, Self

from um.errors import BadInput
from um.files import LEFTOVER, MARGIN, atomic, check_room, sweep
from um.journal import AWAY, Journal

MEMBERS = 200_000  # in one archive; those of THUMOS14 and ActivityNet have at most some 20,000
BLOCK = 2**20  # bytes in memory at a time
EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
PASSWORD = "UM_ARCHIVE_PASSWORD"  # noqa: S105 # the name of the variable
BY_HAND = "unpack it by hand into the mirror's folder of the dataset, see docs/datasets.md"
AGAIN = "delete it and download it again"
OTHERS = {b"Rar!": "a rar archive", b"7z\xbc\xaf": "a 7z archive", b"\x28\xb5\x2f\xfd": "a zstd file"}
UNREADABLE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(OSError, ValueError, IndexError, OverflowError, MemoryError, RuntimeError),
)

Opened = zipfile.ZipFile | tarfile.TarFile


class Locked(BadInput):
    """An encrypted archive, with no password or a wrong one."""


class Damaged(BadInput):
    """An archive whose bytes are not those that were packed."""


@dataclass(frozen=True)
class Member:
    """A plain file of an archive."""

    name: str  # / between folders; no . and no .. among them
    size: int  # bytes, as declared
    info: Any  # ZipInfo or TarInfo

    @property
    def encrypted(self) -> bool:
        """Whether it takes a password."""
        return isinstance(self.info, zipfile.ZipInfo) and bool(self.info.flag_bits & 1)


Job = tuple[Member, Path]


def is_archive(path: Path) -> bool:
    """Whether a file is a zip, or a tar plain or compressed with gzip, bzip2 or xz: by its content, not its name."""
    return _kind(path) is not None


def extract(
    path: Path,
    to: Path | Callable[[str], Path | None],
    *,
    password: str | None = None,
    kept: Journal | None = None,
    report: Callable[[str], None] = lambda _: None,
    margin: int = MARGIN,
    processes: int | None = None,
) -> dict[str, Path]:
    """Unpack members of an archive; files that exist with the same content are not written again.

    Args:
        path: the archive.
        to: a folder for everything, which no file may leave, even by existing symbolic links; or the file for a member,
            by its name, and None for members to skip.
        password: of encrypted members (the traditional encryption of zip).
        kept: journal of written files; those that it knows are replaced if they differ.
        report: called with the name of every wanted member once it is written.
        margin: bytes that must stay free on the disk.
        processes: for encrypted members, whose decryption is slow; by default as many as save time.

    Returns:
        Every wanted member's name → its file.

    Raises:
        BadInput: not an archive, a damaged or hostile one, a wrong password, too little space. Nothing is written,
            unless a member's data are wrong or another file is in its place: the members before it are written whole.
    """
    place = to.joinpath if isinstance(to, Path) else to
    with opened(path) as (file, members):
        jobs = [(member, target) for member in members if (target := place(member.name)) is not None]
        _check_targets(path, jobs, to if isinstance(to, Path) else None)
        there = {job for job in jobs if _is_there(*job)}
        missing = [job for job in jobs if job not in there]
        if isinstance(file, zipfile.ZipFile):
            _check_zip(path, file, [member for member, _ in missing], password)
        _check_space(path, missing, margin)
        for folder in {target.parent for _, target in missing}:  # leftovers of a killed extraction
            sweep(folder.glob(".um-*"), {target.name for _, target in missing if target.parent == folder})
        for member, _ in (job for job in jobs if job in there):
            report(member.name)
        if kept:
            kept.delete(target.relative_to(kept.root).as_posix() for _, target in missing)
        for member, target in _write_all(file, path, missing, password, processes or _processes(missing)):
            if kept:
                kept.note(target)
            report(member.name)
    return {member.name: target for member, target in jobs}


def _processes(jobs: list[Job]) -> int:
    """One per CPU that this process may use (only Linux tells), and at most one per megabyte to decrypt."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 1 + sum(member.size for member, _ in jobs if member.encrypted) // 2**20)


def _kind(path: Path) -> Literal["zip", "tar"] | None:
    with path.open("rb") as file:
        if file.read(4) in (b"PK\3\4", b"PK\5\6"):
            return "zip"
    try:
        with tarfile.open(path, tarinfo=_Header) as tar:
            return "tar" if tar.next() else None  # a file of zeros is an empty tar
    except UNREADABLE:
        return None


@contextmanager
def opened(path: Path) -> Iterator[tuple[Opened, list[Member]]]:
    """An archive and its plain files, with a checked list of members."""
    with _reading(path):
        kind = _kind(path)
        if kind is None:
            with path.open("rb") as start:
                found = OTHERS.get(start.read(4), "another kind of file, or one that is cut near its start")
            raise BadInput(path, found, "a zip or tar archive", BY_HAND)
        file: Opened = zipfile.ZipFile(path) if kind == "zip" else tarfile.open(path, tarinfo=_Header)  # noqa: SIM115
    with file:
        with _reading(path):
            members = list(_zip_members(path, file) if isinstance(file, zipfile.ZipFile) else _tar_members(path, file))
        _check_apart(path, ((member.name, member.name) for member in members))
        yield file, members


@contextmanager
def _reading(archive: Path, member: Member | None = None) -> Iterator[None]:
    """Report damage of the archive in one line."""
    try:
        yield
    except UNREADABLE as error:
        found = f"{_short(member.name) if member else 'it'} unreadable ({error or type(error).__name__})"
        if member and member.encrypted:
            hint = f"check {PASSWORD}; if it is right, {AGAIN}"
            raise Locked(archive, found, "the right password and no damage", hint) from None
        raise Damaged(archive, found, "a whole archive", AGAIN) from None


def _short(name: str) -> str:
    return repr(name if len(name) <= 100 else f"{name[:100]}…")


def _refusal(archive: Path, name: str, found: str) -> BadInput:
    expected = "plain files, each in a place of its own inside one folder"
    return BadInput(archive, f"member {_short(name)}, {found}", expected, "do not trust it; get it from elsewhere")


class _Header(tarfile.TarInfo):
    """A whole header: tarfile takes a damaged or absent one for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # the block of zeros that ends an archive
            raise tarfile.ReadError(f"{error}: cut or damaged") from None
        if header.size < 0 or (header.type in EXTENSIONS and header.size > 2**16):  # these are read into memory
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header


def _zip_members(archive: Path, file: zipfile.ZipFile) -> Iterator[Member]:
    if len(file.infolist()) > MEMBERS:
        raise BadInput(archive, f"{len(file.infolist())} members", f"at most {MEMBERS}", BY_HAND)
    for info in file.infolist():
        folder = info.orig_filename.endswith("/")  # .filename ends at the first NUL
        name = _safe(archive, info.orig_filename, folder)
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refusal(archive, name, "a link" if stat.S_ISLNK(mode) else "a device or pipe")
        if not folder:
            yield Member(name, info.file_size, info)


def _tar_members(archive: Path, file: tarfile.TarFile) -> Iterator[Member]:
    for number, info in enumerate(file):
        if number >= MEMBERS:
            raise BadInput(archive, f"more than {MEMBERS} members", f"at most {MEMBERS}", BY_HAND)
        name = _safe(archive, info.name, info.isdir())
        if not info.isdir() and (not info.isreg() or info.issparse()):
            raise _refusal(archive, name, "a link" if info.issym() or info.islnk() else "a device or special file")
        if info.size < 0:  # by a pax header: tarfile would seek backwards
            raise _refusal(archive, name, f"{info.size} bytes long")
        if not info.isdir():
            yield Member(name, info.size, info)
    while file.fileobj and file.fileobj.read(BLOCK):  # to the end: the compression's checksum comes last
        pass


def _safe(archive: Path, name: str, folder: bool) -> str:
    """The name, if it stays below one folder."""
    parts = name.split("/")
    if re.search("[\0-\x1f\x7f-\x9f\ud800-\udfff]", name):
        raise _refusal(archive, name, "with control characters in its name")
    if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name):
        raise _refusal(archive, name, "an absolute path or a Windows path")
    if ".." in parts:
        raise _refusal(archive, name, "a name that leaves its folder")
    if len(name) > 1000 or any(len(os.fsencode(part)) > 255 for part in parts):
        raise _refusal(archive, name, "a name that is too long")
    if any(LEFTOVER.fullmatch(part) for part in parts):
        raise _refusal(archive, name, "a name of a temporary file")
    pure = str(PurePosixPath(name))
    if pure == "." and not folder:
        raise _refusal(archive, name, "an empty name")
    return pure


def _check_apart(archive: Path, places: Iterable[tuple[str, str]]) -> None:
    """Refuse two members (place, name) with the same place, or one below another, on any file system."""
    taken: dict[str, str] = {}
    for place, name in places:
        key = unicodedata.normalize("NFKC", place.casefold())
        if key in taken:
            raise _refusal(archive, name, f"in the place of {_short(taken[key])}")
        taken[key] = name
    for key, name in taken.items():
        for match in re.finditer("/", key):
            if key[: match.start()] in taken:
                raise _refusal(archive, name, f"below {_short(taken[key[: match.start()]])}, which is a file")


def _check_targets(archive: Path, jobs: list[Job], below: Path | None) -> None:
    _check_apart(archive, ((str(target), member.name) for member, target in jobs))
    root = below and os.path.realpath(below)
    outside = {p for p in {t.parent for _, t in jobs} if root and not Path(os.path.realpath(p)).is_relative_to(root)}
    for member, target in jobs:
        if target.parent in outside:
            raise _refusal(archive, member.name, f"whose folder {target.parent} is a link out of {below}")
        if target.is_dir() or not _existing(target.parent).is_dir():
            raise BadInput(target, "a folder, or a file instead of a folder", f"a place for {member.name}", "move it")


def _existing(folder: Path) -> Path:
    """The path itself, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _is_there(member: Member, target: Path) -> bool:
    """Whether a zip's member is already written; tar has no checksums to tell in advance."""
    if not isinstance(member.info, zipfile.ZipInfo) or not _has_size(target, member.size):
        return False
    checksum = 0
    with target.open("rb") as file:
        while block := file.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum == member.info.CRC


def check_password(archive: Path, member: Member, password: str | None) -> None:
    """Raise `Locked` if a member needs a password and none is given."""
    if member.encrypted and not password:
        hint = "ask the publisher of the archive for its password"
        found = f"an encrypted archive ({_short(member.name)}) and no password"
        raise Locked(archive, found, f"the password in the environment variable {PASSWORD}", hint)


def _check_zip(archive: Path, file: zipfile.ZipFile, members: list[Member], password: str | None) -> None:
    """Check that these can be read with this password, and that no members of the zip overlap."""
    for member in members:
        info: zipfile.ZipInfo = member.info
        # bzip2 and xz inside a zip: zipfile decompresses without a bound of memory
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 0x2060:
            found = f"{_short(member.name)} compressed or encrypted by method {info.compress_type}"
            raise BadInput(archive, found, "members stored or deflated, with zip's traditional encryption", BY_HAND)
        check_password(archive, member, password)
    wanted = {member.info.header_offset for member in members}
    end = 0
    with archive.open("rb") as raw:
        for info in sorted(file.infolist(), key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise _refusal(archive, info.filename, "that overlaps another one")
            name = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
            end = info.header_offset + 30 + len(name) + info.compress_size
            if info.header_offset in wanted:
                raw.seek(info.header_offset)
                header = raw.read(30)
                if header.startswith(b"PK\3\4"):  # or it is damaged
                    end += int.from_bytes(header[28:], "little")  # the extra field of the header beside the data
    if end > file.start_dir:
        raise _refusal(archive, info.filename, "that overlaps the list of members")
    for member in members:  # after the above: Python 3.13 takes overlaps for damage
        with _reading(archive, member):
            _stream(file, member, password).close()


def _check_space(archive: Path, jobs: list[Job], margin: int) -> None:
    needed: Counter[Path] = Counter()  # by disk, that is by the first folder seen on it
    disks: dict[int, Path] = {}
    for member, target in jobs:
        if not _has_size(target, member.size):
            folder = _existing(target.parent)
            needed[disks.setdefault(folder.stat().st_dev, folder)] += member.size
    for folder, size in needed.items():
        check_room(folder, size, f"the content of {archive.name}", margin)


def _write_all(file: Opened, archive: Path, jobs: list[Job], password: str | None, processes: int) -> Iterator[Job]:
    """Write files, and yield each once it is written; several at a time, if they must be decrypted."""
    if processes < 2 or len(jobs) < 2 or not any(member.encrypted for member, _ in jobs):
        for job in jobs:
            _write(file, archive, job, password)
            yield job
        return
    # spawn: a fork would copy the threads' locks of whoever calls
    pool = ProcessPoolExecutor(min(processes, len(jobs)), multiprocessing.get_context("spawn"), _end_with_parent)
    try:
        yield from pool.map(partial(_write_alone, archive, password), jobs)
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let a process of the pool end with its parent, and quietly on ^C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def wait() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _write_alone(archive: Path, password: str | None, job: Job) -> Job:
    with zipfile.ZipFile(archive) as file:
        _write(file, archive, job, password)
    return job


def _write(file: Opened, archive: Path, job: Job, password: str | None) -> None:
    member, target = job
    with _reading(archive, member):
        stream = _stream(file, member, password)
    with stream:
        blocks = _blocks(stream, archive, member)
        if _has_size(target, member.size):
            with target.open("rb") as there:
                if all(there.read(len(block)) == block for block in blocks):
                    return
        if os.path.lexists(target):
            raise BadInput(target, "another file", f"none, or {_short(member.name)} of {archive.name}", AWAY)
        with atomic(target) as temporary, temporary.open("wb") as out:
            out.writelines(blocks)


def _stream(file: Opened, member: Member, password: str | None) -> IO[bytes]:
    if isinstance(file, zipfile.ZipFile):
        info = copy.copy(member.info)
        info.file_size += 1  # zipfile would silently drop bytes past the declared size
        return file.open(info, pwd=password.encode() if password and member.encrypted else None)
    stream = file.extractfile(member.info)
    assert stream is not None  # noqa: S101 # a plain file has content
    return stream


def _blocks(stream: IO[bytes], archive: Path, member: Member) -> Iterator[bytes]:
    """The content of a member, checked for its declared size."""
    count = 0
    while True:
        with _reading(archive, member):
            block = stream.read(BLOCK)
        count += len(block)
        if count > member.size or (not block and count < member.size):
            found = f"{_short(member.name)} of {'more' if count > member.size else count} bytes"
            raise Damaged(archive, found, f"the {member.size} bytes that it declares", AGAIN)
        if not block:
            return
        yield block
