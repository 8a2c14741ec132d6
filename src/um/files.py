"""Files that are whole or absent, and how they are told apart."""

import fcntl
import filecmp
import gc
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from um.errors import BadInput

LEFTOVER = re.compile(r"\..+\.\d+\.part(\.[^.]+)?")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, delete it on any error.

    A file that is equal already stays as it is, with its time: what is made from it needs no update.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        if not (path.is_file() and filecmp.cmp(temporary, path, shallow=False)):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Let one thread or process at a time do what it does to `path`; the lock is an empty hidden file beside it."""
    make_folder(path.parent)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sweep(files: Iterable[Path]) -> None:
    """Delete those that `atomic` left where it was killed; only the one owner of a folder may do so."""
    for file in [path for path in files if LEFTOVER.fullmatch(path.name)]:
        file.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder to write to, and those above it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadInput(path, "a file", "a folder to write to", "choose another place") from None


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write `value` with a stable layout: floats shortest round-trip, no NaN, a final newline."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Parse a JSON file or raise `BadInput`."""
    try:
        text = path.read_text("utf-8")
        with _no_cycles():
            return json.loads(text, object_pairs_hook=_unique_keys)
    except FileNotFoundError:
        raise BadInput(path, "no such file", "a JSON file", "check the path") from None
    except IsADirectoryError:
        raise BadInput(path, "a folder", "a JSON file", "name the file inside it") from None
    except UnicodeDecodeError as error:
        raise BadInput(path, f"bytes that are not UTF-8 ({error.reason})", "a JSON file", "check the path") from None
    except json.JSONDecodeError as error:
        raise BadInput(path, f"{error.msg} at line {error.lineno}", "a JSON file", "is the file whole?") from None
    except _DuplicateKey as error:
        raise BadInput(path, f"{error.args[0]!r} twice", "every id once", "remove one of the two") from None


@contextmanager
def _no_cycles() -> Iterator[None]:
    """Do not search for reference cycles, which parsing never makes: that takes longer than parsing a large file."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _DuplicateKey(Exception):
    pass


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKey(next(key for key in keys if keys.count(key) > 1))
    return result
