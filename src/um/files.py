"""Atomic files, and folders locked by one command at a time."""

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
MARGIN = 100_000_000  # bytes kept free on the disk
LEFTOVER = re.compile(r"\.um-([0-9a-f]{8})-(?:[0-9a-f]{8}-)?\d+\.part(\.\w{1,15})?")


def temporary_name(path: Path) -> str:
    """A short name, unique per target, host and process: nodes of a cluster share folders."""
    suffix = path.suffix if re.fullmatch(r"\.\w{1,15}", path.suffix) else ""
    return f".um-{_mark(path.name)}-{_mark(platform.node())}-{os.getpid()}.part{suffix}"


def lasting_name(path: Path, kind: str) -> str:
    """A name equal for all processes, so that a download of `path` can resume."""
    return f".um-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}{kind}"


def _mark(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:8]


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, delete it on any error.

    An equal file keeps its modification time, so that files made from it stay up to date. A device such as /dev/null is
    written to, not replaced.

    Raises:
        BadInput: `path` is a folder.
        OSError: with `path` as its file name.
    """
    make_folder(path.parent)
    if path.is_dir():
        raise BadInput(path, "a folder", "a file name to write to", "choose another name")
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
            raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk gives no path
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Lock `path` against other threads and processes, by an empty hidden file beside it."""
    make_folder(path.parent)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


@contextmanager
def held(folder: Path, verb: str, *, shared: bool = False) -> Iterator[None]:
    """Lock a folder while a command writes to it; `shared` locks do not exclude each other.

    The lock is a hidden file, deleted when the command ends; one left by a killed command has no effect. Half-written
    files of killed commands are deleted.

    Raises:
        BadInput: another command, named in the error, is using the folder.
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
        with suppress(OSError):  # remove new folders left empty by an error
            for place in new:
                place.rmdir()


def _say(lock: IO[bytes], text: str, path: Path) -> None:
    try:
        lock.truncate(0)
        lock.write(text.encode())
    except OSError as error:  # a full disk gives no path
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _locked(path: Path, folder: Path, *, shared: bool) -> Iterator[IO[bytes]]:
    while True:
        with open(path, "a+b", buffering=0, opener=no_link) as file:
            if not flock(file, shared=shared):
                file.seek(0)
                found = f"{file.read(300).decode(errors='replace') or 'another command'} running in it"
                hint = "wait until it ends, or choose another folder"
                raise BadInput(folder, found, "one command at a time per folder", hint)
            file.seek(0)
            if (said := file.read(1)) not in (b"", b"`"):
                found, hint = f"a file that starts with {said!r}", "move it away: um needs this name for its lock"
                raise BadInput(path, found, "no such file", hint)
            if is_at(file, path):
                yield file
                return
        # deleted by its last holder after it was opened: lock the new one


def is_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file still has this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def no_link(path: str, flags: int) -> int:
    """An `opener` that follows no links, and does not wait on pipes."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)


def flock(file: IO[bytes], *, shared: bool) -> bool:
    """Lock an open file, unless another process has; also returns True if the file system has no locks."""
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
        log.warning("%s: this file system has no locks; run only one command at a time", file.name)
    return True


def sweep(files: Iterable[Path], targets: Iterable[str] | None = None) -> None:
    """Delete temporary files of killed commands; for the only writer of a folder, or of `targets` in it."""
    marks = None if targets is None else {_mark(name) for name in targets}
    for file in list(files):
        found = LEFTOVER.fullmatch(file.name)
        if found and (marks is None or found[1] in marks):
            file.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create a folder and its parents."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadInput(path, "a file", "a folder to write to", "choose another path") from None


def check_room(folder: Path, size: int, what: str, margin: int = MARGIN, *, reclaimed: int = 0) -> None:
    """Check the free space of a disk.

    Args:
        folder: on the disk.
        size: bytes to write.
        what: name of the data, for the error.
        margin: bytes to keep free.
        reclaimed: bytes that will be overwritten.

    Raises:
        BadInput: not enough space.
    """
    free = shutil.disk_usage(folder).free + reclaimed
    if size + margin > free:
        found = f"{free / 1e9:.3f} GB free on the disk"
        wanted = f"{size / 1e9:.3f} GB for {what} and {margin / 1e9:.3f} GB to spare"
        raise BadInput(folder, found, wanted, "free some space, or use another disk")


@contextmanager
def room(path: Path, what: str) -> Iterator[None]:
    """Report a failed write, as on a full disk, in one line."""
    try:
        yield
    except OSError as error:
        raise BadInput(path, str(error.strerror), f"room for {what}", "make room, then start again") from None


def check_ours(path: Path, beginning: str) -> None:
    """Refuse to replace a file that does not start like this command's files; empty files may be replaced.

    Raises:
        BadInput: another file.
    """
    if path.is_file():
        with path.open("rb") as file:
            found = file.read(len(beginning.encode()))
        if found and found != beginning.encode():
            expected = "no file, or one from an earlier run"
            raise BadInput(path, "another file", expected, "move it away, or choose another --out")


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_text(value: Any) -> str:
    """JSON with a stable layout: shortest round-trip floats, no NaN, a final newline."""
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically, in the format of `json_text`."""
    with atomic(path) as temporary:
        temporary.write_text(json_text(value), "utf-8")
