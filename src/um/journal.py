"""Journals of the files that a command wrote into a folder, so that it deletes and overwrites no others.

A journal has a line `[path, {"sha256": …}]` per file, written before the file gets its name. Therefore, after a kill at
any time, our files are recognised by their bytes, and all others are foreign. A foreign file that equals the one to be
written is used; its line ends with `false`.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from um.errors import HIDDEN, BadInput, some
from um.files import atomic, make_folder, sha256, temporary_name
from um.forms import Listed, is_inside

AWAY = "move it away, then run again"
LONGEST_NAME = 255  # bytes, on all common file systems


class NotOurs(BadInput):
    """A file that we did not write, or that has changed, is in the way of one of ours."""


class Journal:
    """Our files below `root`.

    Attributes:
        entries: path below `root` → entry of its last line.
        known: path → sha256 of everything ever written there, as a kill may leave an earlier state.
    """

    def __init__(self, root: Path, file: Path, verb: str) -> None:
        self.root, self.file, self.verb = root, file, verb
        self.entries: dict[str, Listed] = {}
        self.known: dict[str, set[str]] = {}
        self._writing = threading.Lock()
        if link := link_on(root, file.relative_to(root).as_posix()):
            raise BadInput(link, "a link", "a real folder or file", f"link {root} as a whole, or remove the link")

    def read(self, file: Path | None = None) -> "Journal":
        """Read the lines of an earlier run, or of a shard's file."""
        for line in lines(file or self.file):
            if isinstance(line, list):
                self.learn(*line)
        return self

    def learn(self, path: str, entry: Listed | None, ours: bool = True) -> None:
        """Add a line about a file."""
        if entry:
            self.entries[path] = entry
        if entry and ours:
            self.known.setdefault(path, set()).add(entry.sha256)

    def owns(self, path: str) -> bool:
        """Whether a file or link made by us exists, unchanged and not reached through a link."""
        file = self.root / path
        if path not in self.known or (link := link_on(self.root, path)) not in (None, file):
            return False
        if not link and not file.is_file():
            return False
        with suppress(FileNotFoundError):  # just deleted by another shard
            return _digest(file) in self.known[path]
        return False

    def foreign(self, paths: Iterable[str]) -> list[str]:
        """The existing paths that are not ours."""
        return [path for path in paths if not self.owns(path) and os.path.lexists(self.root / path)]

    def refuse(self, paths: Iterable[str]) -> None:
        """Raise NotOurs if any of these exists and is not ours."""
        if found := self.foreign(paths):
            raise self.not_ours(found)

    def not_ours(self, paths: Sequence[str]) -> "NotOurs":
        """The error for existing files that are not ours."""
        where = self.root if len(paths) > 1 else self.root / paths[0]
        what = some(paths, "file", "files") if len(paths) > 1 else "a file"
        if len(paths) == 1 and (link := link_on(self.root, paths[0])):
            what = f"a link ({link.relative_to(self.root)})"
        them = "them" if len(paths) > 1 else "it"
        found = f"{what} that `{self.verb}` did not write, or that changed since"
        return NotOurs(where, found, "no file, or one that it wrote", f"move {them} away, then run again")

    def delete(self, paths: Iterable[str]) -> list[str]:
        """Delete our files; return the existing ones that are not ours."""
        left = []
        for path in paths:
            if self.owns(path):
                (self.root / path).unlink(missing_ok=True)
            elif os.path.lexists(self.root / path):
                left.append(path)
            self.entries.pop(path, None)
        return left

    @contextmanager
    def write(self, path: str, **facts: Any) -> Iterator[Path]:
        """Yield a temporary name; record the file and rename it to `path`, unless a foreign file is there.

        An equal foreign file is kept, and does not become ours.
        """
        with atomic(self.root / path) as temporary:
            yield temporary
            self.admit(temporary, self.root / path, **facts)

    def admit(self, temporary: Path, target: Path, **facts: Any) -> None:
        """Record a file before it is renamed to `target`; raises NotOurs if a foreign file is there."""
        path = target.relative_to(self.root).as_posix()
        entry = Listed(sha256=_digest(temporary), **facts)
        ours = not self.foreign([path])
        if not ours and (not target.is_file() or sha256(target) != entry.sha256):
            raise self.not_ours([path])
        if self.entries.get(path) != entry or ours != (entry.sha256 in self.known.get(path, ())):
            self.append(_line(path, entry, ours))
            self.learn(path, entry, ours)

    def note(self, target: Path) -> None:
        """Record an existing file."""
        path, entry = target.relative_to(self.root).as_posix(), Listed(sha256=_digest(target))
        self.append(_line(path, entry, True))
        self.learn(path, entry)

    def link(self, source: Path, target: Path) -> None:
        """Make `target` a link, unless a foreign file is there."""
        temporary = target.with_name(temporary_name(target))
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(source)
        try:
            self.admit(temporary, target)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def remove(self, folder: Path) -> list[str]:
        """Delete our files in a folder (or one file), then empty folders; return the remaining paths."""
        if folder.is_symlink() or not folder.is_dir():
            return self.delete([folder.relative_to(self.root).as_posix()])
        inside = sorted(folder.rglob("*"), reverse=True)
        files = [path for path in inside if path.is_symlink() or not path.is_dir()]
        left = self.delete([path.relative_to(self.root).as_posix() for path in files])
        for path in [*(path for path in inside if path.is_dir() and not path.is_symlink()), folder]:
            with suppress(OSError):  # not empty
                path.rmdir()
        return sorted(left)

    def append(self, *values: Any, before: str = "") -> None:
        """Append lines durably, so that a kill does not lose them."""
        make_folder(self.file.parent)
        with self._writing, self.file.open("a", encoding="utf-8") as file:
            file.write(before + "".join(f"{json.dumps(value)}\n" for value in values))
            file.flush()
            os.fsync(file.fileno())

    def rewrite(self, paths: Iterable[str]) -> None:
        """Keep only the lines of these files, sorted, so that equal files have equal journals."""
        with atomic(self.file) as temporary:
            temporary.write_text("".join(f"{json.dumps(line)}\n" for line in self.lines_of(paths)), "utf-8")

    def lines_of(self, paths: Iterable[str]) -> list[Any]:
        """All lines about these files, for `append`."""
        told: list[Any] = []
        for path in sorted(set(paths) & {*self.known, *self.entries}):
            entry, known = self.entries.get(path), self.known.get(path, set())
            told += [[path, {"sha256": old}] for old in sorted(known) if not entry or old != entry.sha256]
            told += [_line(path, entry, entry.sha256 in known)] if entry else []
        return told

    def settle(self, paths: Iterable[str]) -> None:
        """Finish: only these files are ours, as in their last lines."""
        self.entries = {path: self.entries[path] for path in paths if path in self.entries}
        ours = {path: {entry.sha256} & self.known.get(path, set()) for path, entry in self.entries.items()}
        self.known = {path: sums for path, sums in ours.items() if sums}
        if self.entries or self.file.is_file():
            self.rewrite(self.entries)


def _digest(file: Path) -> str:
    """The sha256 of a file's bytes, or of a link's target path."""
    return hashlib.sha256(b"-> " + os.fsencode(file.readlink())).hexdigest() if file.is_symlink() else sha256(file)


def _line(path: str, entry: Listed, ours: bool) -> list[Any]:
    return [path, entry.model_dump(exclude_none=True)] + [False] * (not ours)


def link_on(root: Path, path: str) -> Path | None:
    """The first link on the path from a folder (which may itself be a link) to a file below it."""
    here = root
    for part in path.split("/"):
        here = here / part
        if here.is_symlink():
            return here
    return None


def lines(journal: Path) -> list[Any]:
    """The lines of a journal: `[path, Listed or None]`, `[path, Listed, False]`, or a mapping; none without a file.

    Raises:
        BadInput: not a journal. Lines cut off by a kill are skipped.
    """
    if not os.path.lexists(journal):
        return []
    if not journal.is_file():
        raise BadInput(journal, "a folder, a pipe or a broken link", "a journal of um", AWAY)
    found: list[Any] = []
    torn = 0
    for line in journal.read_bytes().split(b"\n"):
        try:
            value = json.loads(line) if line else None
        except (ValueError, RecursionError):
            torn += 1 if line[:1] in (b"[", b"{") else 2
            continue
        match value:
            case None:
                continue
            case [str(path), *_] if not is_inside(path):
                torn = 2
                found.clear()
                break
            case [str(path), None]:  # earlier versions announced writes and deletions
                found.append([path, None])
            case [str(path), dict(entry)]:
                found.append([path, _entry(entry)])
            case [str(path), dict(entry), False]:
                found.append([path, _entry(entry), False])
            case {"spec": str()} | {"failed": str(), "source_sha256": str(), "error": [str(), str(), str(), str()]}:
                found.append(value)
            case _:
                torn = 2
                found.clear()
                break
    if torn > 1 and not found:
        raise BadInput(journal, "other content", "a journal of um", AWAY)
    return found


def _entry(values: dict[str, Any]) -> Listed | None:
    try:
        return Listed.model_validate(values)
    except ValidationError:
        return None


def check_name(where: str | Path, name: str) -> None:
    """Refuse a name that is not portable, is hidden, or leaves its folder.

    Raises:
        BadInput: a name that is empty or too long, starts with a dot, or contains a slash or control character.
    """
    hint = "rename it, also in the annotations"
    if not name or name.startswith(".") or "/" in name or HIDDEN.search(name):
        expected = "a name without slashes and control characters that does not start with a dot"
        raise BadInput(where, repr(name), expected, hint)
    if (size := len(os.fsencode(name))) > LONGEST_NAME:
        raise BadInput(where, f"{name!r}, {size} bytes long", f"at most {LONGEST_NAME} bytes", hint)


def check_apart(where: str | Path, source: Path, target: Path, hint: str) -> None:
    """Check that the folder to read and the folder to write do not overlap, with links resolved.

    Raises:
        BadInput: one of the folders is in the other, or they are the same.
    """
    here, there = Path(os.path.realpath(source)), Path(os.path.realpath(target))
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise BadInput(where, f"{source}, which overlaps with {target}", "separate folders", hint)
