"""What a folder of features holds and what made it: spec.json, index.json and journal.jsonl.

The journal has a line per file, appended before the file gets its name. It stays when the index is written:
Snakemake deletes a rule's outputs, the index among them, before it runs the rule again.

Shards are processes that work on the folder at the same time. Each writes the features of its own videos and a
journal of its own, `shards/3-of-40.jsonl`, and nothing that belongs to all. The next process that has the folder to
itself takes over what these journals tell. A shard's journal is only ever appended to: what another number of shards
or an earlier list of videos left there stays known.
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
from um.journal import AWAY, Journal, check_name, lines
from um.shard import NAME, Shard

log = logging.getLogger(__name__)

OWN_FILE = re.compile(r"([^/.][^/]*/)?(rgb|flow)/[^/.][^/]*\.npy")
SHARD_FILE = re.compile(rf"{NAME.pattern}(\.jsonl)?")  # a journal, or the workflow's mark that a shard is done
SPEC, INDEX, MISSING = STATE = ("spec.json", "index.json", "missing.tsv")
VERB = "um extract"


class Ledger:
    """The files of one features folder, which one process at a time may open, or all shards.

    Opening it empties a folder of another specification and prunes files that are not `wanted`. Only files that the
    folder's own journals name, and whose bytes are still those, are ever deleted or replaced. A shard does neither: it
    leaves that to the process after it.

    Raises:
        BadInput: files of somebody else's are in the way, or links are.
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
        self.stamp = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
        same = says(self.spec, spec)
        self._failed: dict[tuple[str, str], BadInput] = {}
        self.entries = {path: entry for path, entry in self._read(same).items() if path in wanted}
        self.journal.refuse([INDEX, MISSING] if same else STATE)
        if shard:
            told = self.journal.lines_of(self.journal.known) if os.path.lexists(self.index) else []
            self.journal.append(*told, {"spec": self.stamp}, before="\n")  # a kill may have torn the last line
            self.journal.delete([INDEX])
            return
        files = set(self.journal.known) - set(STATE)
        left = self.journal.delete(sorted(files - set(self.entries)))
        _sweep(folder, files | wanted)
        if others := [path for path in left if path in wanted]:
            self.journal.refuse(others)
        if left:
            log.warning("%s: %s changed since `um extract` wrote them, and stay", folder, some(left, "file", "files"))
        if not same:
            # first, as the journal may take over what shards made: the old stamp must never stand over that. The new
            # one comes last: a kill before it leaves none, and the next run empties the folder again
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
        """Whether `path` is the product of that video, unchanged since."""
        entry, file = self.entries.get(path), self.folder / path
        if entry is None or entry.source_sha256 != source_sha256 or not file.is_file():
            return False
        return sha256(file) == entry.sha256

    def failure(self, key: str, source_sha256: str) -> BadInput | None:
        """Why a shard could not decode that video: nobody has to try it again after the shards."""
        return self._failed.get((key, source_sha256))

    def save(
        self, path: str, features_TD: store.Features, source_sha256: str, dtype: npt.DTypeLike = np.float32
    ) -> None:
        """Enter a feature file and write it; from here on a kill does not lose it."""
        with self.journal.write(path, snippets=len(features_TD), source_sha256=source_sha256) as temporary:
            store.write(temporary, features_TD, dtype)
        self.entries[path] = self.journal.entries[path]

    def drop(self, paths: Iterable[str], replaced: Iterable[str] = ()) -> None:
        """Delete outdated files, if this folder's journals list them.

        Raises:
            BadInput: some of those that are to be `replaced` are not.
        """
        for path in paths:
            self.entries.pop(path, None)
            self.journal.delete([path])
        self.journal.refuse(replaced)

    def fail(self, key: str, source_sha256: str, error: BadInput) -> None:
        """Record that a video cannot be decoded, in a shard's journal; other processes list it in `missing.tsv`."""
        if self.shard:
            told = [error.where, error.found, error.expected, error.hint]
            self.journal.append({"failed": key, "source_sha256": source_sha256, "error": told})

    def close(self, missing: Mapping[str, str] | None = None) -> None:
        """Everything is done: write the index, and `missing.tsv` of the unavailable videos with the reasons.

        The journal stays: a workflow engine may delete the index, its output, before it runs the extraction again.
        """
        if missing:
            rows = [f"{key}\t{' '.join(reason.split())}\n" for key, reason in missing.items()]
            with self.journal.write(MISSING) as temporary:
                temporary.write_text("".join(["id\treason\n", *rows]), "utf-8")
        else:
            self.journal.delete([MISSING])
        for file in [path for path in self.shards.glob("*") if SHARD_FILE.fullmatch(path.name)]:
            if file.suffix or not file.stat().st_size:
                file.unlink()
        with contextlib.suppress(OSError):  # not there, or a user's file in it
            self.shards.rmdir()
        files = {path: self.entries[path].model_dump(exclude_none=True) for path in sorted(self.entries)}
        value = {"spec": sha256(self.spec), "files": files}
        with self.journal.write(INDEX) as temporary:
            write_json(temporary, value)
        self.journal.settle([*self.entries, *STATE])

    def _read(self, same: bool) -> dict[str, Listed]:
        """Own files of this specification → entry; the journal learns of all others as well."""
        told: list[tuple[list[Any], bool]] = []  # path, entry, …; whether of this specification
        main = self.folder / "journal.jsonl"
        known = lines(main)
        earlier = not any(
            line[0] == SPEC for line in known if isinstance(line, list)
        )  # of a version that had no line of it
        if earlier and (known or not os.path.lexists(main)):
            told += [([path, entry], same) for path, entry in self._listed().items()]
        journals = [path for path in self.shards.glob("*.jsonl") if SHARD_FILE.fullmatch(path.name)]
        # of what two journals tell of a file the newer one counts; were that wrong, `holds` would find out
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
        """What the index of an earlier version lists; a shard may find that another one has just deleted it."""
        try:
            return load(Index, self.index).files if os.path.lexists(self.index) else {}
        except BadInput as error:
            if os.path.lexists(self.index):
                raise BadInput(error.where, error.found, error.expected, AWAY) from None
            return {}


def says(path: Path, spec: dict[str, Any]) -> bool:
    """Whether a spec.json is that specification."""
    try:
        return bool(read_json(path) == spec)
    except BadInput:
        return False


@contextlib.contextmanager
def at_work(ledger: Ledger) -> Iterator[None]:
    """Keep a shard's journal locked while it runs.

    Raises:
        BadInput: the same shard, or one that makes other features, is running.
    """
    with contextlib.ExitStack() as stack:
        if ledger.shard:
            own = stack.enter_context(ledger.journal.file.open("ab"))
            if not flock(own, shared=False):
                raise BadInput(ledger.folder, f"shard {ledger.shard} at work", "it once", "wait until it has ended")
            for other in sorted(set(ledger.shards.glob("*.jsonl")) - {ledger.journal.file}):
                specs = [line["spec"] for line in lines(other) if isinstance(line, dict) and "spec" in line]
                if specs and specs[-1] != ledger.stamp:
                    with other.open("ab") as file:
                        if not flock(file, shared=False):
                            found = f"shard {other.stem} at work with other settings"
                            raise BadInput(ledger.folder, found, "one specification", "wait, or choose another folder")
        yield


def _check(path: str) -> None:
    """Refuse a name that no feature file can have."""
    for part in path.split("/"):
        check_name("features", part)
    if not OWN_FILE.fullmatch(path):
        raise BadInput("features", repr(path), "<subset>/<stream>/<id>.npy", "ids may not hold slashes")


def _check_links(folder: Path, below: Iterable[str]) -> None:
    """Refuse links among the folders of features: what they lead to may be another dataset's."""
    for path in sorted(below):
        here = folder
        for part in path.split("/"):
            here = here / part
            if here.is_symlink():
                raise BadInput(here, "a link", "a folder of its own", f"link {folder} as a whole, or choose another")


def _sweep(folder: Path, files: Iterable[str]) -> None:
    """Delete what a kill left unnamed in the folders of features."""
    for path in {(folder / file).parent for file in files}:
        if path.is_dir() and not path.is_symlink():
            sweep(list(path.glob(".um-*")))
