"""A dataset of sources.yaml, brought to `data/<dataset>`: annotations, published features, or videos.

downloads/annotations/<version>/…      the files as they came, archives included: they are small
downloads/packed/<version>/…           archives of features and videos, until they are unpacked
downloads/features/<version>/…         features in their public layout; <version>.json beside it says what came
downloads/journal.jsonl                which of these files are ours, so that they may be deleted
"""

import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from filecmp import cmp
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import ConfigDict, Field, RootModel

from um.dataset import ANNOTATIONS, VERB, at_work, describe_in, index_in
from um.datasets import annotations as form
from um.datasets.annotations import Annotations, Video
from um.datasets.folder import listed
from um.datasets.layouts import recognise
from um.download import archive, sources
from um.download.obtain import Ways, obtain, parts
from um.download.sources import Alternative, File, Lock, Table
from um.errors import BadInput, Gone, some
from um.files import make_folder, sha256, write_json
from um.forms import Inside, Listed, load
from um.journal import AWAY, Journal, NotOurs, check_name
from um.params import Download
from um.progress import transfers
from um.shard import NAME, Shard

log = logging.getLogger(__name__)

CONNECTIONS = 4
JOURNAL, SHARDS = "downloads/journal.jsonl", "downloads/shards"
SHARD_FILE = re.compile(rf"{NAME.pattern}(\.jsonl|\.tsv)?")

T = TypeVar("T")


@dataclass(frozen=True)
class Machine:
    """What is the machine's and the user's, not the science's.

    Attributes:
        ways: to the outside world.
        connections: files that are fetched at the same time; None: as many as their hosts like.
        keep: archives, after they are unpacked.
        retry: videos that an earlier run found missing.
        give_up: count what does not come for a reason that may pass as missing, too.
        date: of this run, for the list of missing videos.
        shard: this process's share of the videos, beside others at the same time.
    """

    ways: Ways
    connections: int | None = None
    keep: bool = False
    retry: bool = False
    give_up: bool = False
    date: str = "-"
    shard: Shard | None = None


MACHINE = Machine(Ways())


@dataclass(frozen=True)
class Site:
    """One dataset on its way from its table to its folder."""

    dataset: str
    table: Table
    lock: Lock
    settings: Download
    out: Path
    machine: Machine
    kept: Journal  # of what is in downloads/

    def chosen(self, kind: str, source: str) -> list[Alternative]:
        """The versions of that kind that may be taken."""
        known: list[Alternative] = getattr(self.table, kind)
        chosen = [version for version in known if source in ("auto", version.name)]
        if not chosen:
            names = ", ".join(["auto", *(version.name for version in known)])
            raise BadInput(self.dataset, f"no {kind} called {source}", f"one of {names}", "--source chooses")
        return chosen

    def first(self, kind: str, get: Callable[[Alternative], T], source: str = "auto") -> T:
        """What `get` makes of the first version of that kind that there is; from then on, that version is meant.

        Another one is taken where a version is gone, or is for people to fetch by hand, but not where a server is down:
        it would be other videos, or other features.
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
        hint = "the lines above say why; UM_MIRROR=FOLDER takes copies"
        raise BadInput(self.dataset, f"none of the {kind} of {names}", "one that is to be had", hint)

    def _otherwise(self, kind: str, version: Alternative, error: BadInput) -> BadInput:
        """The same error, with the other versions that may be asked for."""
        others = ", ".join(other.name for other in getattr(self.table, kind) if other != version)
        hint = f"{error.hint}; or --what {kind} --source NAME: {others}" if others else error.hint
        return type(error)(error.where, error.found, error.expected, hint)

    def pin(self, file: File, path: Path) -> None:
        """Enter what came, and was found good, in the lock, unless its checksum is published."""
        if file.sha256 is None:
            self.lock.pin(parts(file.file, path))

    def fetch(self, files: Iterable[File], folder: Path) -> list[Path]:
        """Files of the table in a folder, several at a time."""
        wanted = list(files)
        with transfers("files", len(wanted)) as begin:

            def one(file: File) -> Path:
                with begin(file.file) as report:
                    beside = folder.relative_to(self.out).as_posix()
                    obtain(
                        self.dataset, file, folder / file.file, beside, self.lock, self.machine.ways, report, self.kept
                    )
                return folder / file.file

            return in_parallel(one, wanted, self.machine.connections or CONNECTIONS)


def in_parallel(work: Callable[[Any], T], items: Sequence[Any], threads: int) -> list[T]:
    """Results in the items' order; the first error ends it, when what has been begun is done."""
    pool = ThreadPoolExecutor(max(1, threads))
    try:
        return list(pool.map(work, items))
    except KeyboardInterrupt:  # not when everything that is on its way has come: that may be hours
        print("\x1b[?25h" * sys.stderr.isatty() + "stopped; what has come is kept", file=sys.stderr, flush=True)
        os._exit(130)  # as safe as a kill, which every step of a download bears
    finally:
        pool.shutdown(cancel_futures=True)


def bring(dataset: str, folder: Path, settings: Download, out: Path, machine: Machine) -> None:
    """Bring what `settings.what` asks for; what is there already and still true is kept.

    Args:
        dataset: its name, also below a mirror.
        folder: of its sources.yaml, sources.lock.json and missing.tsv.
        settings: which of what.
        out: `data/<dataset>`.
        machine: how.

    Raises:
        BadInput: nothing that was asked for is to be had.
    """
    if machine.shard and settings.what != "videos":
        raise BadInput("--shard", f"--what {settings.what}", "--what videos, which are many", "leave it out")
    table = sources.read(folder / "sources.yaml")
    kept = Journal(out, out / (f"downloads/shards/{machine.shard}.jsonl" if machine.shard else JOURNAL), VERB)
    site = Site(dataset, table, Lock(folder / "sources.lock.json"), settings, out, machine, kept)
    site.chosen(settings.what, settings.source)
    with at_work(dataset, out, machine.shard) as journal:
        for file in [out / JOURNAL, *sorted((out / SHARDS).glob("*-of-*.jsonl"))]:
            kept.read(file)
        _bring(site, journal, folder)
        if not machine.shard:
            kept.settle([path for path in kept.known if os.path.lexists(out / path)])
            clear_shards(out / SHARDS)


def _bring(site: Site, journal: Journal, folder: Path) -> None:
    from um.download.videos import bring_videos  # it builds on this module

    settings, machine = site.settings, site.machine
    only = settings.what == "annotations"
    annotated = site.first(
        "annotations", lambda version: _annotations(site, version), settings.source if only else "auto"
    )
    if not machine.shard:
        describe_in(journal, annotated)
    if settings.what == "features":
        version = site.first("features", lambda version: _features(site, version), settings.source)
        index_in(journal, {"files": {}, "features": version})
    if settings.what == "videos":
        videos = form.parse(site.out / ANNOTATIONS, annotated).videos.values()
        bring_videos(site, list(videos), folder / "missing.tsv", journal)


def clear_shards(folder: Path) -> None:
    """Delete the journals of shards, their lists of missing videos, and the workflow's marks that they are done."""
    for file in folder.glob("*-of-*"):
        if SHARD_FILE.fullmatch(file.name) and not file.is_symlink() and (file.suffix or not file.stat().st_size):
            file.unlink()
    with suppress(OSError):  # not there, or with a user's file in it
        folder.rmdir()


def _annotations(site: Site, version: Alternative) -> dict[str, Any]:
    """The form of `annotations.json`: videos of both subsets by id, those that do not count left out."""
    files = site.fetch(version.files, site.out / "downloads/annotations" / version.name)
    videos = []
    with tempfile.TemporaryDirectory() as scratch:
        read = _read_annotations(files, Path(scratch))
        for role, subset in (("train", site.table.train), ("test", site.table.test)):
            counted = [video for video in listed(files[0].parent, read, role) if video.id not in site.table.exclude]
            videos += [_named(video, subset) for video in counted]
    for video in videos:
        check_name(f"{site.dataset} annotations", f"{video.id}.mp4")
    for file, path in zip(version.files, files, strict=True):
        site.pin(file, path)
    origin = {file.name: sha256(file) for file in sorted(files)}
    return {"version": version.name, "sources": origin} | form.database(sorted(videos, key=lambda video: video.id))


def _named(video: Video, subset: str) -> Video:
    instances = sorted(video.instances, key=lambda i: (i.start, i.end, i.label))
    ambiguous = sorted(video.ambiguous, key=lambda i: (i.start, i.end))
    return Video(video.id, subset, video.duration, tuple(instances), tuple(ambiguous))


def _read_annotations(files: Sequence[Path], scratch: Path) -> Annotations:
    """A JSON file among these, or the text files of archives, whatever folders they are in."""
    if found := [file for file in files if file.suffix.lower() == ".json"]:
        return form.load(found[0])

    def place(name: str) -> Path | None:
        base = Path(name).name
        return scratch / base if base.endswith(".txt") and not base.startswith("._") else None  # a Mac's double

    for file in files:
        archive.extract(file, place)
    return form.load(scratch)


class _Came(RootModel[dict[str, dict[Inside, Annotated[int, Field(ge=0)]]]]):
    """`<version>.json`: what is listed in sources.yaml → what came of it, file → bytes."""

    model_config = ConfigDict(strict=True)
    hint: ClassVar[str] = AWAY


def _features(site: Site, version: Alternative) -> str:
    """Bring features in their public layout; return the version's name."""
    kept, folder = site.kept, features_folder(site.out, version.name)
    state = f"downloads/features/{version.name}.json"
    done: dict[str, dict[str, int]] = {}
    if os.path.lexists(site.out / state):
        done = load(_Came, site.out / state).root
        kept.learn(state, Listed(sha256=sha256(site.out / state)))
    wanted = [file for file in version.files if not _there(folder, done.get(file.file))]
    for file, path in zip(wanted, site.fetch(wanted, site.out / "downloads/packed" / version.name), strict=True):
        inside = list(parts(file.file, path).values())
        archives = [part for part in inside if archive.is_archive(part)]
        made = [target for part in archives for target in archive.unpack(part, folder).values()]
        site.pin(file, path)
        loose = {folder / (p.relative_to(path) if path.is_dir() else p.name): p for p in inside if p not in archives}
        sizes = {target: part.stat().st_size for target, part in [*zip(made, made, strict=True), *loose.items()]}
        if not (path.is_symlink() and path.is_dir()):  # a mirror's folder may get more files
            brought = {target.relative_to(folder).as_posix(): size for target, size in sizes.items()}
            done[file.file] = done.get(file.file, {}) | brought
            with kept.write(state) as temporary:
                write_json(temporary, done)
        for target, part in loose.items():
            make_folder(target.parent)
            _move(kept, part, target, link=path.is_symlink())
        if path.is_symlink() or not site.machine.keep:
            remove(kept, path)
    recognise(inner(folder))
    return version.name


def _move(kept: Journal, part: Path, target: Path, *, link: bool) -> None:
    """Give a file its place, where none may be but an equal one; one of a mirror is linked there."""
    if os.path.lexists(target) and (link or not target.is_file() or not cmp(part, target, shallow=False)):
        if target.exists() and target.resolve() == part.resolve():
            return
        kept.refuse([target.relative_to(kept.root).as_posix()])
    if link:
        kept.link(part.resolve(), target)
    elif os.path.lexists(target):
        kept.delete([part.relative_to(kept.root).as_posix()])
    else:
        part.rename(target)


def _there(folder: Path, brought: dict[str, int] | None) -> bool:
    """Whether all that came of a file is still there, with its size."""
    files = [(folder / name, size) for name, size in (brought or {}).items()]
    return bool(files) and all(path.is_file() and path.stat().st_size == size for path, size in files)


def remove(kept: Journal, path: Path) -> None:
    """Delete what is ours of a file or a folder, or the link to a mirror's."""
    if left := kept.remove(path):
        log.warning("%s: %s that um download did not write stay there", path.parent, some(left, "file", "files"))


def features_folder(out: Path, version: str) -> Path:
    """Where a version of the published features is."""
    return out / "downloads/features" / version


def inner(folder: Path) -> Path:
    """The folder itself, or the only one in it, where an archive has all its files in one."""
    if not folder.is_dir():
        raise BadInput(folder, "no such folder", "the features that um download brought", "run um download again")
    inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    if len(inside) == 1 and inside[0].is_dir() and inside[0].name != "features":
        return inner(inside[0])
    return folder
