"""A dataset of sources.yaml, downloaded to `data/<dataset>`: annotations, published features, or videos.

downloads/annotations/<version>/…      the files as published, archives included: they are small
downloads/packed/<version>/…           archives of features and videos, until they are unpacked
downloads/features/<version>/…         features in their public layout; <version>.json beside it lists the files
downloads/journal.jsonl                which of these files are ours, and may be deleted
"""

import os
import tempfile
from collections.abc import Sequence
from filecmp import cmp
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, RootModel

from um.dataset import ANNOTATIONS, features_folder, inner
from um.datasets import annotations as form
from um.datasets.annotations import Annotations, Video
from um.datasets.folder import listed
from um.datasets.layouts import recognise
from um.download import archive, sources
from um.download.obtain import Machine, parts
from um.download.site import FETCHED, SHARDS, VERB, Site, at_work, describe_in, index_in, remove
from um.download.sources import Alternative, Lock
from um.download.videos import bring_videos
from um.errors import BadInput
from um.files import make_folder, sha256, write_json
from um.forms import Inside, Listed, load
from um.journal import AWAY, Journal, check_name
from um.params import Download
from um.shard import clear


def bring(dataset: str, folder: Path, settings: Download, out: Path, machine: Machine) -> None:
    """Download what `settings.what` names; existing files that are still valid are kept.

    Args:
        dataset: its name, also below a mirror.
        folder: of its sources.yaml, sources.lock.json and missing.tsv.
        settings: the kind (`what`) and the version (`source`) to download.
        out: `data/<dataset>`.
        machine: how.

    Raises:
        BadInput: none of the requested files is available.
    """
    if machine.shard and settings.what != "videos":
        raise BadInput("--shard", f"--what {settings.what}", "--what videos, which are many", "leave it out")
    table = sources.read(folder / "sources.yaml")
    kept = Journal(out, out / (f"{SHARDS}/{machine.shard}.jsonl" if machine.shard else FETCHED), VERB)
    site = Site(dataset, Lock(folder / "sources.lock.json"), machine, kept, table, settings, out)
    site.chosen(settings.what, settings.source)
    with at_work(dataset, out, machine.shard) as journal:
        for file in [out / FETCHED, *sorted((out / SHARDS).glob("*-of-*.jsonl"))]:
            kept.read(file)
        source = settings.source if settings.what == "annotations" else "auto"
        annotated = site.first("annotations", lambda version: _annotations(site, version), source)
        if not machine.shard:
            describe_in(journal, annotated)
        if settings.what == "features":
            version = site.first("features", lambda version: _features(site, version), settings.source)
            index_in(journal, {"files": {}, "features": version})
        if settings.what == "videos":
            videos = form.parse(out / ANNOTATIONS, annotated).videos.values()
            bring_videos(site, list(videos), folder / "missing.tsv", journal)
        if not machine.shard:
            kept.settle([path for path in kept.known if os.path.lexists(out / path)])
            clear(out / SHARDS, ".jsonl", ".tsv")


def _annotations(site: Site, version: Alternative) -> dict[str, Any]:
    """The content of `annotations.json`: videos of both subsets by id, without the excluded ones."""
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
    """Read the JSON file among these, or the text files in archives, in whatever folder."""
    if found := [file for file in files if file.suffix.lower() == ".json"]:
        return form.load(found[0])

    def place(name: str) -> Path | None:
        base = Path(name).name
        return scratch / base if base.endswith(".txt") and not base.startswith("._") else None  # a Mac's double

    for file in files:
        archive.extract(file, place)
    return form.load(scratch)


class _Came(RootModel[dict[str, dict[Inside, Annotated[int, Field(ge=0)]]]]):
    """`<version>.json`: file of sources.yaml → the files that it brought, path → bytes."""

    model_config = ConfigDict(strict=True)
    hint: ClassVar[str] = AWAY


def _features(site: Site, version: Alternative) -> str:
    """Download features in their public layout; return the name of the version."""
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
        made = [target for part in archives for target in archive.extract(part, folder).values()]
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
    """Move a file to its place, where only an equal one may exist; a mirror's file is linked."""
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
    """Whether all files that it brought still exist with their size."""
    files = [(folder / name, size) for name, size in (brought or {}).items()]
    return bool(files) and all(path.is_file() and path.stat().st_size == size for path, size in files)
