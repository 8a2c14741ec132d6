"""What a folder of features holds and what made it: spec.json, index.json and journal.jsonl.

The journal has a line per file, appended as soon as the file is done. It stays when the index is written:
Snakemake deletes a rule's outputs, the index among them, before it runs the rule again.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from um.errors import BadInput
from um.features import store
from um.files import atomic, read_json, sha256, sweep, write_json

OWN_FILE = re.compile(r"([^/.][^/]*/)?(rgb|flow)/[^/.][^/]*\.npy")
ENTRY = {"sha256": str, "snippets": int, "source_sha256": str}

Entry = dict[str, Any]


class Ledger:
    """The files of one features folder, which one process at a time may open.

    Opening it empties a folder of another specification and prunes files that are not `wanted`. Only
    files that the folder's own index or journal names are ever deleted.
    """

    def __init__(self, folder: Path, spec: dict[str, Any], wanted: set[str]) -> None:
        self.folder = folder
        self.spec, self.index, self.journal = (folder / n for n in ("spec.json", "index.json", "journal.jsonl"))
        self.missing = folder / "missing.tsv"
        if folder.exists() and not folder.is_dir():
            raise BadInput(folder, "a file", "a folder for features", "choose another --out")
        folder.mkdir(parents=True, exist_ok=True)
        same = self.spec.is_file() and read_json(self.spec) == spec
        self.entries: dict[str, Entry] = {}
        for path, entry in self._read().items():
            if same and path in wanted and entry is not None:
                self.entries[path] = entry
            else:
                (folder / path).unlink(missing_ok=True)
        sweep(folder.rglob(".*"))
        # the stamp comes last: a kill before it leaves the old one, and the next run empties the folder again
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
        files = {path: self.entries[path] for path in sorted(self.entries)}
        write_json(self.index, {"spec": sha256(self.spec), "files": files})

    def _write_journal(self) -> None:
        lines = [json.dumps([path, self.entries[path]]) + "\n" for path in sorted(self.entries)]
        with atomic(self.journal) as temporary:
            temporary.write_text("".join(lines), "utf-8")

    def _note(self, path: str, entry: Entry | None) -> None:
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps([path, entry]) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> dict[str, Entry | None]:
        """Own files → entry; None for a file that was being written or deleted."""
        pairs: list[Any] = []
        if self.index.is_file():
            index = read_json(self.index)
            files = index.get("files") if isinstance(index, dict) else None
            pairs += files.items() if isinstance(files, dict) else []
        if self.journal.is_file():
            for line in self.journal.read_text("utf-8", errors="replace").splitlines():
                try:
                    path, entry = json.loads(line)
                except (ValueError, TypeError):
                    continue  # the line that a kill tore
                pairs.append((path, entry))
        own = {str(path): entry for path, entry in pairs if OWN_FILE.fullmatch(str(path))}
        return {path: entry if _is_entry(entry) else None for path, entry in own.items()}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in ENTRY.items())
