"""The folder that a download writes: which versions, its journal, and the files that are written last."""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from filecmp import cmp
from pathlib import Path
from typing import Any, TypeVar

from um.dataset import ANNOTATIONS, INDEX, Videos
from um.download.obtain import Fetcher, parts
from um.download.sources import Alternative, File, Table
from um.errors import BadInput, Gone, some
from um.files import held, sha256, sweep, write_json
from um.forms import Listed, load
from um.journal import AWAY, Journal, NotOurs
from um.params import Download
from um.progress import transfers
from um.shard import Shard

log = logging.getLogger(__name__)

VERB = "um download"
CONNECTIONS = 4
JOURNAL = "videos/journal.jsonl"  # of annotations and videos
FETCHED, SHARDS = "downloads/journal.jsonl", "downloads/shards"  # of what is in downloads/

T = TypeVar("T")


@dataclass(frozen=True)
class Site(Fetcher):
    """The download of one dataset from its table to its folder."""

    table: Table
    settings: Download
    out: Path

    def chosen(self, kind: str, source: str) -> list[Alternative]:
        """The versions of that kind to try."""
        known: list[Alternative] = getattr(self.table, kind)
        chosen = [version for version in known if source in ("auto", version.name)]
        if not chosen:
            names = ", ".join(["auto", *(version.name for version in known)])
            raise BadInput(self.dataset, f"no {kind} called {source}", f"one of {names}", "--source chooses")
        return chosen

    def first(self, kind: str, get: Callable[[Alternative], T], source: str = "auto") -> T:
        """Return what `get` returns for the first available version of that kind, and pin that version in the lock.

        A permanent failure leads to the next version; a temporary one is raised: other versions have other contents.
        """
        meant = self.lock.versions.get(kind, "auto") if source == "auto" else source
        chosen, failures = self.chosen(kind, meant), list[BadInput]()
        for version in chosen:
            try:
                made = get(version)
            except NotOurs:
                raise
            except Gone as error:
                if len(chosen) > 1:
                    log.warning("%s %s of %s: %s", self.dataset, kind, version.name, error)
                failures.append(error)
            except BadInput as error:
                raise self._otherwise(kind, version, error) from None
            else:
                self.lock.take(kind, version.name)
                return made
        if len(failures) == 1:
            raise self._otherwise(kind, chosen[0], failures[0])
        names = ", ".join(version.name for version in chosen)
        hint = "the lines above say why; set UM_MIRROR=FOLDER to use your own copies"
        raise BadInput(self.dataset, f"none of the {kind} of {names}", "one that is available", hint)

    def _otherwise(self, kind: str, version: Alternative, error: BadInput) -> BadInput:
        """The same error, with the other versions in its hint."""
        others = ", ".join(other.name for other in getattr(self.table, kind) if other != version)
        hint = f"{error.hint}; or --what {kind} --source NAME: {others}" if others else error.hint
        return type(error)(error.where, error.found, error.expected, hint)

    def pin(self, file: File, path: Path) -> None:
        """Pin a checked file in the lock, unless its checksum is published."""
        if file.sha256 is None:
            self.lock.pin(parts(file.file, path))

    def fetch(self, files: Sequence[File], folder: Path) -> list[Path]:
        """Files of the table in a folder, several at a time."""
        with transfers("files", len(files)) as begin:

            def one(file: File) -> Path:
                with begin(file.file) as report:
                    self.file(file, folder / file.file, folder.relative_to(self.out).as_posix(), report)
                return folder / file.file

            return in_parallel(one, files, self.machine.connections or CONNECTIONS)


def in_parallel(work: Callable[[Any], T], items: Sequence[Any], threads: int) -> list[T]:
    """Results in the order of the items; the first error ends it once the running ones are done."""
    pool = ThreadPoolExecutor(max(1, threads))
    try:
        results, futures = list[T](), [pool.submit(work, item) for item in items]
        for future in futures:
            while not future.done():  # a ^C that comes just before a wait without end is lost
                wait([future], timeout=1)
            results.append(future.result())
        return results
    except KeyboardInterrupt:  # without waiting for running downloads: they may take hours
        cursor = "\x1b[?25h" * sys.stderr.isatty()
        print(f"{cursor}stopped; what has been downloaded is kept", file=sys.stderr, flush=True)
        os._exit(130)  # as safe as a kill, which every step survives
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def at_work(dataset: str, out: Path, shard: Shard | None = None) -> Iterator[Journal]:
    """Hold the folder of a download, alone or with other shards, and yield its journal.

    Raises:
        BadInput: another command is at work there, or the user's files are where ours belong.
    """
    with held(out, f"{VERB} --dataset {dataset}" + (f" --shard {shard}" if shard else ""), shared=shard is not None):
        journal = Journal(out, out / JOURNAL, VERB).read()
        if shard is None:
            left = (out / "videos").glob("*/.um-*")
            sweep(file for file in left if not (file.parent.is_symlink() or file.parent.parent.is_symlink()))
        if not os.path.lexists(out / JOURNAL) and os.path.lexists(out / INDEX):  # of an earlier version
            try:
                listed = load(Videos, out / INDEX)
            except BadInput as error:
                raise BadInput(error.where, error.found, error.expected, AWAY) from None
            for file, entry in listed.files.items():
                journal.learn(f"videos/{file}", entry)
            journal.learn(INDEX, Listed(sha256=sha256(out / INDEX)))
        journal.refuse([INDEX])
        yield journal


def describe_in(journal: Journal, annotated: dict[str, Any] | Path) -> None:
    """Write `annotations.json`, or copy it."""
    if not isinstance(annotated, Path):
        with journal.write(ANNOTATIONS) as temporary:
            write_json(temporary, annotated)
    elif not ((there := journal.root / ANNOTATIONS).is_file() and cmp(annotated, there, shallow=False)):
        with journal.write(ANNOTATIONS) as temporary:
            shutil.copyfile(annotated, temporary)


def index_in(journal: Journal, value: dict[str, Any]) -> None:
    """Write `videos/index.json`, the last step of a download."""
    with journal.write(INDEX) as temporary:
        write_json(temporary, value)
    journal.settle([ANNOTATIONS, INDEX, *(f"videos/{file}" for file in value["files"])])


def remove(kept: Journal, path: Path) -> None:
    """Delete our files in a folder, our file, or our link to a mirror's."""
    if left := kept.remove(path):
        log.warning("%s: %s that um download did not write stay there", path.parent, some(left, "file", "files"))
