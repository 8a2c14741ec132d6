"""What a folder of features holds and what made it: spec.json, index.json and journal.jsonl.

The journal has a line per file, appended as soon as the file is done. It stays when the index is written:
Snakemake deletes a rule's outputs, the index among them, before it runs the rule again.

Shards are processes that work on the folder at the same time. Each writes the features of its own videos and a
journal of its own, `shards/3-of-40.jsonl`, and nothing that belongs to all. The next process that has the folder to
itself takes over what these journals tell. A shard's journal is only ever appended to: what another number of shards
or an earlier list of videos left there stays known.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from um.errors import BadInput
from um.features import store
from um.features.shard import NAME, Shard
from um.files import atomic, make_folder, sha256, sweep, write_json
from um.forms import read_json

OWN_FILE = re.compile(r"([^/.][^/]*/)?(rgb|flow)/[^/.][^/]*\.npy")
SHARD_FILE = re.compile(rf"{NAME.pattern}(\.jsonl)?")  # a journal, or the workflow's mark that a shard is done
ENTRY = {"sha256": str, "snippets": int, "source_sha256": str}

Entry = dict[str, Any]


class Ledger:
    """The files of one features folder, which one process at a time may open, or all shards.

    Opening it empties a folder of another specification and prunes files that are not `wanted`. Only
    files that the folder's own index or journals name are ever deleted. A shard does neither: it leaves that to
    the process after it.
    """

    def __init__(self, folder: Path, spec: dict[str, Any], wanted: set[str], shard: Shard | None = None) -> None:
        self.folder, self.shard = folder, shard
        self.spec, self.index = folder / "spec.json", folder / "index.json"
        self.missing, self.shards = folder / "missing.tsv", folder / "shards"
        self.journal = self.shards / f"{shard}.jsonl" if shard else folder / "journal.jsonl"
        if folder.exists() and not folder.is_dir():
            raise BadInput(folder, "a file", "a folder for features", "choose another --out")
        make_folder(self.journal.parent)
        same = self.spec.is_file() and read_json(self.spec) == spec
        stamp = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
        self._failed: dict[tuple[str, str], BadInput] = {}
        known = self._read(same, stamp)
        self.entries = {path: entry for path, entry in known.items() if entry is not None and path in wanted}
        if shard:
            self._append({"spec": stamp}, before="\n")  # a kill may have torn the last line
            self.index.unlink(missing_ok=True)
            return
        for path in known.keys() - self.entries.keys():
            (folder / path).unlink(missing_ok=True)
        sweep(folder.rglob(".*"))
        if not same:
            # first, as the journal may take over what shards made: the old stamp must never stand over that. The new
            # one comes last: a kill before it leaves none, and the next run empties the folder again
            self.spec.unlink(missing_ok=True)
        self._write_journal()
        self.index.unlink(missing_ok=True)
        if not same:
            write_json(self.spec, spec)

    def holds(self, path: str, source_sha256: str) -> bool:
        """Whether `path` is the product of that video, unchanged since."""
        entry, file = self.entries.get(path), self.folder / path
        if entry is None or entry["source_sha256"] != source_sha256 or not file.is_file():
            return False
        return bool(sha256(file) == entry["sha256"])

    def failure(self, key: str, source_sha256: str) -> BadInput | None:
        """Why a shard could not decode that video: nobody has to try it again after the shards."""
        return self._failed.get((key, source_sha256))

    def save(
        self, path: str, features_TD: store.Features, source_sha256: str, dtype: npt.DTypeLike = np.float32
    ) -> None:
        """Write a feature file and enter it; from here on a kill does not lose it."""
        self._note(path, None)  # so that a kill between the two lines leaves no file that nobody owns
        store.write(self.folder / path, features_TD, dtype)
        self.entries[path] = {
            "sha256": sha256(self.folder / path),
            "snippets": len(features_TD),
            "source_sha256": source_sha256,
        }
        self._note(path, self.entries[path])

    def drop(self, path: str) -> None:
        """Delete a file that is no longer true, if it is the folder's own."""
        if self.entries.pop(path, None):
            self._note(path, None)
            (self.folder / path).unlink(missing_ok=True)

    def fail(self, key: str, source_sha256: str, error: BadInput) -> None:
        """A video cannot be decoded: a shard tells those after it, any other process says so in `missing.tsv`."""
        if self.shard:
            told = [error.where, error.found, error.expected, error.hint]
            self._append({"failed": key, "source_sha256": source_sha256, "error": told})

    def close(self, missing: Mapping[str, str] | None = None) -> None:
        """Everything is done: write the index, and `missing.tsv` of the videos that are not to be had, by reason.

        The journal stays: a workflow engine may delete the index, its output, before it runs the extraction again.
        """
        self._write_journal()
        self.missing.unlink(missing_ok=True)
        if missing:
            lines = [f"{key}\t{' '.join(reason.split())}\n" for key, reason in missing.items()]
            with atomic(self.missing) as temporary:
                temporary.write_text("".join(["id\treason\n", *lines]), "utf-8")
        for file in [path for path in self.shards.glob("*") if SHARD_FILE.fullmatch(path.name)]:
            file.unlink()
        with contextlib.suppress(OSError):  # not there, or a user's file in it
            self.shards.rmdir()
        files = {path: self.entries[path] for path in sorted(self.entries)}
        write_json(self.index, {"spec": sha256(self.spec), "files": files})

    def _write_journal(self) -> None:
        lines = [json.dumps([path, self.entries[path]]) + "\n" for path in sorted(self.entries)]
        with atomic(self.journal) as temporary:
            temporary.write_text("".join(lines), "utf-8")

    def _note(self, path: str, entry: Entry | None) -> None:
        self._append([path, entry])

    def _append(self, value: Any, before: str = "") -> None:
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(f"{before}{json.dumps(value)}\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self, same: bool, stamp: str) -> dict[str, Entry | None]:
        """Own files → entry; None for a file of another specification, or that was being written or deleted."""
        told: list[tuple[Any, Any, bool]] = []  # path, entry, whether of this specification
        if self.index.is_file() and not self.shard:  # another shard may be deleting it, and the journal knows all of it
            index = read_json(self.index)
            files = index.get("files") if isinstance(index, dict) else None
            told += [(path, entry, same) for path, entry in (files if isinstance(files, dict) else {}).items()]
        journals = [path for path in (self.folder / "journal.jsonl", *self.shards.glob("*.jsonl")) if path.is_file()]
        # of what two journals tell of a file the newer one counts; were that wrong, `holds` would find out
        for journal in sorted(journals, key=lambda path: path.stat().st_mtime_ns):
            true = same and journal.parent == self.folder
            for line in _lines(journal):
                match line:
                    case {"spec": found}:
                        true = found == stamp
                    case {"failed": str(key), "source_sha256": str(source), "error": [_, _, _, _] as error}:
                        if true and not self.shard:
                            self._failed[key, source] = BadInput(*error)
                    case [str(path), entry]:
                        told.append((path, entry, true))
        own = [(path, entry, true) for path, entry, true in told if OWN_FILE.fullmatch(path)]
        known: dict[str, Entry | None] = dict.fromkeys(path for path, _, _ in own)
        return known | {path: entry if _is_entry(entry) else None for path, entry, true in own if true}


def _lines(journal: Path) -> Iterator[Any]:
    for line in journal.read_text("utf-8", errors="replace").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue  # the line that a kill tore


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in ENTRY.items())
