"""The records of a features folder: spec.json, index.json and journal.jsonl.

The journal has a line per file, appended before the file gets its name. It is kept when the index is written, because
Snakemake deletes a rule's outputs, including the index, before it runs the rule again.

Shards are processes that work on the folder at the same time. Each writes only the features of its own videos and its
own journal, `shards/3-of-40.jsonl`. The next process with the folder to itself merges these journals. Shards only
append to their journals, so entries from another number of shards or an earlier list of videos are kept.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from um.datasets import store
from um.errors import BadInput, some
from um.files import flock, make_folder, sha256, sweep, write_json
from um.forms import Index, Listed, load, read_json
from um.journal import AWAY, Journal, check_name, lines, link_on
from um.shard import NAME, Shard, clear

log = logging.getLogger(__name__)

OWN_FILE = re.compile(r"([^/.][^/]*/)?(rgb|flow)/[^/.][^/]*\.npy")
SPEC, INDEX, MISSING = STATE = ("spec.json", "index.json", "missing.tsv")
VERB = "um extract"


class Ledger:
    """The files of one features folder, opened by one process at a time or by all shards.

    Opening it deletes files of another specification and files that are not `wanted`. Only files that are listed in the
    folder's journals and unchanged since are ever deleted or replaced. Shards delete nothing; the next process does.

    Raises:
        BadInput: files of other origin, or links, are in the way.
    """

    def __init__(self, folder: Path, spec: dict[str, Any], wanted: set[str], shard: Shard | None = None) -> None:
        self.folder, self.shard = folder, shard
        self.spec, self.index, self.missing, self.shards = (folder / name for name in (*STATE, "shards"))
        for path in sorted(wanted):
            _check(path)
        file = self.shards / f"{shard}.jsonl" if shard else folder / "journal.jsonl"
        self.journal = Journal(folder, file, VERB)
        _check_links(folder, {path.rpartition("/")[0] for path in wanted} | {"shards"})
        make_folder(file.parent)
        self.stamp = _stamp(spec)
        same = says(self.spec, spec)
        self._failed: dict[tuple[str, str], BadInput] = {}
        self.entries = {path: entry for path, entry in self._read(same).items() if path in wanted}
        self.journal.refuse([INDEX, MISSING] if same else STATE)
        if shard:
            told = self.journal.lines_of(self.journal.known) if os.path.lexists(self.index) else []
            self.journal.append(
                *told, {"spec": self.stamp}, before="\n"
            )  # the last line may be incomplete after a kill
            self.journal.delete([INDEX])
            return
        files = set(self.journal.known) - set(STATE)
        left = self.journal.delete(sorted(files - set(self.entries)))
        _sweep(folder, files | wanted)
        if others := [path for path in left if path in wanted]:
            self.journal.refuse(others)
        if left:
            log.warning("%s: kept %s changed since `um extract` wrote them", folder, some(left, "file", "files"))
        if not same:
            # first: the old spec must not describe files merged from shards; the new one is written last
            self.journal.delete([SPEC])
        self.journal.entries = dict(self.entries) | {
            name: entry for name, entry in self.journal.entries.items() if name in STATE
        }
        self.journal.rewrite([*self.entries, *STATE])
        self.journal.delete([INDEX])
        if not same:
            with self.journal.write(SPEC) as temporary:
                write_json(temporary, spec)

    def holds(self, path: str, source_sha256: str) -> bool:
        """Whether `path` was made from that video and is unchanged."""
        entry, file = self.entries.get(path), self.folder / path
        if entry is None or entry.source_sha256 != source_sha256 or not file.is_file():
            return False
        return sha256(file) == entry.sha256

    def failure(self, key: str, source_sha256: str) -> BadInput | None:
        """The error of a shard that could not decode that video, so that it is not tried again."""
        return self._failed.get((key, source_sha256))

    def save(
        self, path: str, features_TD: store.Features, source_sha256: str, dtype: npt.DTypeLike = np.float32
    ) -> None:
        """Record and write a feature file."""
        with self.journal.write(path, snippets=len(features_TD), source_sha256=source_sha256) as temporary:
            store.write(temporary, features_TD, dtype)
        self.entries[path] = self.journal.entries[path]

    def drop(self, paths: Iterable[str], replaced: Iterable[str] = ()) -> None:
        """Delete outdated files listed in this folder's journals.

        Raises:
            BadInput: a file to be `replaced` is not listed.
        """
        for path in paths:
            self.entries.pop(path, None)
            self.journal.delete([path])
        self.journal.refuse(replaced)

    def fail(self, key: str, source_sha256: str, error: BadInput) -> None:
        """Record in a shard's journal that a video cannot be decoded, for `missing.tsv`."""
        if self.shard:
            told = [error.where, error.found, error.expected, error.hint]
            self.journal.append({"failed": key, "source_sha256": source_sha256, "error": told})

    def close(self, missing: Mapping[str, str] | None = None) -> None:
        """Write the index, and `missing.tsv` with the unavailable videos and the reasons."""
        if missing:
            rows = [f"{key}\t{' '.join(reason.split())}\n" for key, reason in missing.items()]
            with self.journal.write(MISSING) as temporary:
                temporary.write_text("".join(["id\treason\n", *rows]), "utf-8")
        else:
            self.journal.delete([MISSING])
        clear(self.shards, ".jsonl")
        files = {path: self.entries[path].model_dump(exclude_none=True) for path in sorted(self.entries)}
        value = {"spec": sha256(self.spec), "files": files}
        with self.journal.write(INDEX) as temporary:
            write_json(temporary, value)
        self.journal.settle([*self.entries, *STATE])

    def _read(self, same: bool) -> dict[str, Listed]:
        """Our files of this specification → entry; the journal learns all others as well."""
        told: list[tuple[list[Any], bool]] = []  # path, entry, …; whether of this specification
        main = self.folder / "journal.jsonl"
        known = lines(main)
        earlier = not any(line[0] == SPEC for line in known if isinstance(line, list))  # written by an earlier version
        if earlier and (known or not os.path.lexists(main)):
            told += [([path, entry], same) for path, entry in self._listed().items()]
        journals = [path for path in self.shards.glob("*.jsonl") if NAME.fullmatch(path.stem)]
        # if two journals list a file, the newer one counts; `holds` checks the bytes
        for journal in sorted([main] * main.is_file() + journals, key=lambda path: path.stat().st_mtime_ns):
            true = same and journal == main
            for line in known if journal == main else lines(journal):
                match line:
                    case {"spec": found}:
                        true = found == self.stamp
                    case {"failed": key, "source_sha256": source, "error": error}:
                        if true and not self.shard:
                            self._failed[key, source] = BadInput(*error)
                    case list():
                        told.append((line, true))
        told = [(line, true) for line, true in told if line[0] in STATE or OWN_FILE.fullmatch(line[0])]
        for line, _ in told:
            self.journal.learn(*line)
        if earlier and any(path not in STATE for path in self.journal.known):
            for name in STATE:
                with contextlib.suppress(FileNotFoundError):
                    self.journal.learn(name, Listed(sha256=sha256(self.folder / name)))
        entries = {line[0]: line[1] for line, true in told if true}
        return {path: entry for path, entry in entries.items() if entry and entry.snippets and entry.source_sha256}

    def _listed(self) -> Mapping[str, Listed]:
        """The files listed in an earlier version's index, which another shard may just have deleted."""
        try:
            return load(Index, self.index).files if os.path.lexists(self.index) else {}
        except BadInput as error:
            if os.path.lexists(self.index):
                raise BadInput(error.where, error.found, error.expected, AWAY) from None
            return {}


def _stamp(spec: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


def begun(folder: Path, specs: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The first of the specifications by which features in the folder were made, or shards have begun to."""
    journals = [path for path in sorted(folder.glob("shards/*.jsonl")) if NAME.fullmatch(path.stem)]
    stamps = {line.get("spec") for path in journals for line in lines(path) if isinstance(line, dict)}
    return next((spec for spec in specs if says(folder / SPEC, spec) or _stamp(spec) in stamps), None)


def says(path: Path, spec: dict[str, Any]) -> bool:
    """Whether a spec.json equals the specification."""
    try:
        return bool(read_json(path) == spec)
    except BadInput:
        return False


@contextlib.contextmanager
def at_work(ledger: Ledger) -> Iterator[None]:
    """Lock a shard's journal while it runs.

    Raises:
        BadInput: the same shard, or one with other settings, is running.
    """
    with contextlib.ExitStack() as stack:
        if ledger.shard:
            own = stack.enter_context(ledger.journal.file.open("ab"))
            if not flock(own, shared=False):
                raise BadInput(ledger.folder, f"shard {ledger.shard} running", "no second one", "wait until it ends")
            for other in sorted(set(ledger.shards.glob("*.jsonl")) - {ledger.journal.file}):
                specs = [line["spec"] for line in lines(other) if isinstance(line, dict) and "spec" in line]
                if specs and specs[-1] != ledger.stamp:
                    with other.open("ab") as file:
                        if not flock(file, shared=False):
                            found = f"shard {other.stem} running with other settings"
                            raise BadInput(ledger.folder, found, "one specification", "wait, or choose another folder")
        yield


def _check(path: str) -> None:
    """Refuse an invalid name of a feature file."""
    for part in path.split("/"):
        check_name("features", part)
    if not OWN_FILE.fullmatch(path):
        raise BadInput("features", repr(path), "<subset>/<stream>/<id>.npy", "ids must not contain slashes")


def _check_links(folder: Path, below: Iterable[str]) -> None:
    """Refuse links among the feature folders: they may lead to another dataset."""
    for path in sorted(below):
        if link := link_on(folder, path):
            raise BadInput(link, "a link", "a real folder", f"link {folder} as a whole, or choose another")


def _sweep(folder: Path, files: Iterable[str]) -> None:
    """Delete temporary files of killed runs in the feature folders."""
    for path in {(folder / file).parent for file in files}:
        if path.is_dir() and not path.is_symlink():
            sweep(path.glob(".um-*"))
