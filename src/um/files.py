"""Atomic files, and folders that one command at a time writes."""

import errno
import filecmp
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from um.errors import BadInput

log = logging.getLogger(__name__)

LOCK = ".um.lock"
MARGIN = 100_000_000  # bytes that a download leaves free on the disk
LEFTOVER = re.compile(r"\.um-([0-9a-f]{8})-\d+\.part(\.\w{1,15})?")


def temporary_name(path: Path) -> str:
    """A short name that differs between targets and processes."""
    suffix = path.suffix if re.fullmatch(r"\.\w{1,15}", path.suffix) else ""
    return f".um-{_mark(path.name)}-{os.getpid()}.part{suffix}"


def lasting_name(path: Path, kind: str) -> str:
    """The same name for every process, so that a download of `path` can resume."""
    return f".um-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}{kind}"


def _mark(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:8]


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, delete it on any error.

    An equal file keeps its time, so that nothing made from it needs an update. A device such as /dev/null is written
    to, not replaced.

    Raises:
        BadInput: there is a folder of that name.
        OSError: the machine's fault, with the path.
    """
    make_folder(path.parent)
    if path.is_dir():
        raise BadInput(path, "a folder", "the name of a file to write", "choose another name")
    device = path.exists() and (not path.is_file() or path.parent == Path("/dev"))
    scratch = tempfile.TemporaryDirectory() if device else nullcontext(path.parent)
    with scratch as folder:
        temporary = Path(folder) / temporary_name(path)
        try:
            yield temporary
            if device:
                with temporary.open("rb") as written, path.open("ab") as into:
                    shutil.copyfileobj(written, into)
            elif not (path.is_file() and filecmp.cmp(temporary, path, shallow=False)):
                temporary.replace(path)
        except OSError as error:
            if error.filename not in (None, str(temporary)):
                raise
            raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk does not say where
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Let one thread or process at a time change `path`; the lock is an empty hidden file beside it."""
    make_folder(path.parent)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


@contextmanager
def held(folder: Path, verb: str, *, shared: bool = False) -> Iterator[None]:
    """Keep other commands out of a folder while this one writes it; `shared` admits others that also share it.

    The lock is a hidden file, deleted when the command ends; one that a kill left behind locks nobody out. Half-written
    files that a kill left in the folder are deleted.

    Raises:
        BadInput: another command, which is named, is at work there.
    """
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    make_folder(folder)
    path = folder / LOCK
    try:
        with _locked(path, folder, shared=shared) as lock:
            try:
                _say(lock, f"`{verb}` (process {os.getpid()} on {platform.node()})", path)
                if not shared:
                    sweep(folder.glob(".um-*"))
                yield
            finally:
                if not shared or flock(lock, shared=False):
                    path.unlink(missing_ok=True)
    finally:
        with suppress(OSError):  # folders that stayed empty after an error
            for place in new:
                place.rmdir()


def _say(lock: IO[bytes], text: str, path: Path) -> None:
    try:
        lock.truncate(0)
        lock.write(text.encode())
    except OSError as error:  # a full disk does not say where
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _locked(path: Path, folder: Path, *, shared: bool) -> Iterator[IO[bytes]]:
    while True:
        with open(path, "a+b", buffering=0, opener=no_link) as file:
            if not flock(file, shared=shared):
                file.seek(0)
                found = f"{file.read(300).decode(errors='replace') or 'another command'} at work in it"
                hint = "wait until it has ended, or choose another folder"
                raise BadInput(folder, found, "one command at a time in a folder", hint)
            if (said := os.pread(file.fileno(), 1, 0)) not in (b"", b"`"):
                found, hint = f"a file that begins with {said!r}", "move it away: um needs the name for its lock"
                raise BadInput(path, found, "no such file", hint)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    yield file
                    return
        # its last holder deleted the file between the two lines above: lock the new one


def no_link(path: str, flags: int) -> int:
    """An `opener` that follows no link, and does not wait for the reader of a pipe."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)


def flock(file: IO[bytes], *, shared: bool) -> bool:
    """Lock an open file unless another process has; True also if the file system has no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        log.warning("%s: this file system has no locks; run one command at a time there", file.name)
    return True


def sweep(files: Iterable[Path], targets: Iterable[str] | None = None) -> None:
    """Delete the leftovers of a killed `atomic`; for the only writer of a folder, or of its `targets`."""
    marks = None if targets is None else {_mark(name) for name in targets}
    for file in list(files):
        found = LEFTOVER.fullmatch(file.name)
        if found and (marks is None or found[1] in marks):
            file.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and its parents."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadInput(path, "a file", "a folder to write to", "choose another place") from None


def check_room(folder: Path, size: int, what: str, margin: int = MARGIN, *, reclaimed: int = 0) -> None:
    """Refuse to fill a disk.

    Args:
        folder: on the disk.
        size: bytes to write.
        what: they are, for the message.
        margin: bytes that must stay free.
        reclaimed: bytes that will be overwritten.

    Raises:
        BadInput: less is free.
    """
    free = shutil.disk_usage(folder).free + reclaimed
    if size + margin > free:
        found = f"{free / 1e9:.3f} GB free on the disk"
        wanted = f"{size / 1e9:.3f} GB for {what} and {margin / 1e9:.3f} GB to spare"
        raise BadInput(folder, found, wanted, "make room, or choose another disk")


def check_ours(path: Path, beginning: str) -> None:
    """Refuse to replace a file that does not begin like those of this command; an empty one may be replaced.

    Raises:
        BadInput: another file.
    """
    if path.is_file():
        with path.open("rb") as file:
            found = file.read(len(beginning.encode()))
        if found and found != beginning.encode():
            expected = "nothing, or what an earlier run wrote"
            raise BadInput(path, "another file", expected, "move it away, or choose another --out")


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_text(value: Any) -> str:
    """JSON with a stable layout: floats shortest round-trip, no NaN, a final newline."""
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` as `json_text` formats it."""
    with atomic(path) as temporary:
        temporary.write_text(json_text(value), "utf-8")
