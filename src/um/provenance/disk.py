"""Files in the workspace and in DVC's cache, compared with dvc.lock."""

import hashlib
import json
from functools import cache
from pathlib import Path

from pathspec import GitIgnoreSpec

from um.forms import parse_json, read_text
from um.provenance import tools


@cache
def _ignored() -> GitIgnoreSpec:
    path = Path(".dvcignore")
    return GitIgnoreSpec.from_lines(read_text(path).splitlines() if path.exists() else [])


def is_ignored(path: Path) -> bool:
    """Whether .dvcignore excludes a file in the project, or a folder above it."""
    name = f"{path}/" if path.is_dir() else str(path)
    return any(_ignored().match_file(each) for each in (*(f"{above}/" for above in path.parents), name))


@cache
def _cache(project: Path) -> Path:
    """The folder of DVC's cache; asking DVC takes a second."""
    cache = Path(tools.run("dvc", "cache", "dir").strip().splitlines()[-1])
    return cache.relative_to(project) if cache.is_relative_to(project) else cache


class Disk:
    """Hashes of the files on disk, each read once; DVC would skip files of unchanged size and time."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def file(self, path: Path) -> str:
        """md5 of a file's bytes."""
        if path not in self._known:
            with path.open("rb") as file:
                self._known[path] = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return self._known[path]

    def files(self, out: Path) -> dict[str, str]:
        """Relative path → md5 of every file in a folder that DVC would record; a single file has the empty path."""
        if not out.is_dir():
            return {"": self.file(out)} if out.exists() else {}
        below = [(path, path.relative_to(out)) for path in sorted(out.rglob("*")) if path.is_file()]
        return {name.as_posix(): self.file(path) for path, name in below if not is_ignored(path)}

    def md5(self, out: Path) -> str:
        """The md5 that DVC would record, with `.dir` for a folder; empty if there is no such file."""
        files = self.files(out)
        return listing_md5(files) if out.is_dir() else files.get("", "")

    def listed(self, out: Path, md5: str) -> dict[str, str] | None:
        """The recorded files of a folder, from DVC's cache or from the unchanged folder; None if neither has them."""
        if not md5.endswith(".dir"):
            return {"": md5}
        path = self.object(md5)
        if path.is_file() and self.file(path) == md5.removesuffix(".dir"):
            return {entry["relpath"]: entry["md5"] for entry in parse_json(path.read_bytes())}
        return self.files(out) if out.exists() and self.md5(out) == md5 else None

    def object(self, md5: str) -> Path:
        """Path of an md5 in DVC's cache."""
        return _cache(Path.cwd()) / "files" / "md5" / md5[:2] / md5[2:]

    def differences(self, out: Path, md5: str) -> dict[Path, str]:
        """The files that differ from the record, and how."""
        if not out.exists() or self.md5(out) == md5:
            return {}
        there, listed = self.files(out), self.listed(out, md5)
        if listed is None:
            return {out: "other files"}
        how = {
            name: "no such file" if name not in there else "a file that is not recorded" if name not in listed else ""
            for name in sorted(there.keys() | listed.keys())
            if there.get(name) != listed.get(name)
        }
        return {out / name if name else out: text or "other bytes" for name, text in how.items()}

    def damaged(self, out: Path, md5: str) -> dict[Path, Path | bytes | None]:
        """Damaged objects of the cache, each with a source of its correct bytes if there is one."""
        listed, there = self.listed(out, md5) or {}, self.files(out)
        right: dict[str, Path | bytes | None] = {
            known: out / name if there.get(name) == known else None for name, known in listed.items()
        }
        if md5.endswith(".dir"):
            right[md5] = _listing(listed) if listed else None
        objects = {self.object(known): (known.removesuffix(".dir"), source) for known, source in right.items()}
        return {
            path: source for path, (known, source) in objects.items() if path.is_file() and self.file(path) != known
        }


def listing_md5(files: dict[str, str]) -> str:
    """The md5 that DVC records for a folder of files with these md5s."""
    return _md5(_listing(files)) + ".dir"


def _listing(files: dict[str, str]) -> bytes:
    """The file list of a folder, in the form of DVC's cache."""
    return json.dumps([{"md5": files[name], "relpath": name} for name in sorted(files)]).encode()


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
