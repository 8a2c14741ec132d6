"""`um download`: write the annotations and videos of a dataset, by its provider."""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from filecmp import cmp
from functools import partial
from pathlib import Path
from typing import Any

from um.dataset import (
    ANNOTATIONS,
    DATASETS,
    INDEX,
    OWN,
    check_source,
    describe,
    expanded,
    facts_of,
    location,
    spelling,
    videos_below,
)
from um.datasets import annotations
from um.datasets.annotations import SUBSETS
from um.datasets.folder import Folder
from um.demo import videos
from um.download.bring import bring
from um.download.obtain import MACHINE, Machine
from um.download.site import at_work, describe_in, index_in
from um.errors import BadInput, some
from um.files import atomic, sha256
from um.journal import Journal, NotOurs, check_name
from um.params import Download
from um.progress import progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """One video of a dataset: its path below `videos/`, the function that writes it, and the original of a copy."""

    file: str  # <subset>/<id>.<suffix>
    make: Callable[[Path], object]
    origin: Path | None = None


def provide(dataset: str, settings: Download, out: Path, machine: Machine | None = None) -> None:
    """Write the annotations and videos of a dataset to `out`, and list them in `videos/index.json`.

    A dataset of features has no videos: `um.features.imported.bring` imports the features.

    Args:
        dataset: a folder of `datasets/`.
        settings: of the demo's rendering, and the wanted part of a dataset of sources.yaml.
        out: `data/<dataset>`.
        machine: how to download a dataset of sources.yaml.

    Raises:
        BadInput: no such dataset, wrong annotations, a video without annotation or the reverse, a failed download.
    """
    description = describe(dataset)
    own = (settings.what, settings.source) == ("features", "auto") and expanded(description.source) is not None
    if own and description.provider == "sources" and not location(dataset).is_dir():
        hint = f"{description.source} points there; unset the variable to download them"
        raise BadInput(location(dataset), "no such folder", "your features", hint)
    if description.provider == "sources" and not own:
        bring(dataset, _adopted(dataset), settings, out, machine or MACHINE)
        return
    if machine and machine.shard:
        raise BadInput("--shard", f"{dataset}, which is not fetched", "a dataset of sources.yaml", "leave it out")
    check_source(dataset, out)
    sources: list[Source] = []
    annotated: dict[str, Any] | Path
    brought: dict[str, str] = {}
    if description.provider == "demo":
        annotated = videos.plan(settings)
        made = annotated["database"].items()
        sources = [Source(f"{v['subset']}/{name}.mp4", partial(videos.render, name, settings)) for name, v in made]
    elif description.provider == "local":
        annotated = location(dataset) / ANNOTATIONS
        sources = _local(location(dataset))
    else:
        folder = Folder(location(dataset))
        annotated, brought = annotations.database(folder.described()), {"origin": _origin(folder)}
        brought |= {"features": OWN} if description.provider == "sources" else {}
    with at_work(dataset, out) as journal:
        describe_in(journal, annotated)
        if description.provider != "sources":  # what was fetched stays
            _prune(journal, {f"videos/{source.file}" for source in sources})
        files = _make(journal, sources)
        index_in(journal, {"files": dict(sorted(files.items()))} | brought)


def _adopted(dataset: str) -> Path:
    """`datasets/<name>` here, where downloads note checksums and missing videos; copied from the presets if needed."""
    own, preset = DATASETS / dataset, facts_of(dataset)
    for file in preset.iterdir() if preset != own else ():
        if not os.path.lexists(own / file.name):
            with atomic(own / file.name) as temporary:
                shutil.copyfile(file, temporary)
    return own


def _origin(folder: Folder) -> str:
    """sha256 over all features and descriptions in a folder: features are imported again when they change."""
    files = {stored.file for stream in folder.files.values() for stored in stream.values()} | {*folder.specs}
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(folder.root).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()


def _prune(journal: Journal, listed: set[str]) -> None:
    """Delete our videos that are no longer listed; report how many other files there are."""
    videos = journal.root / "videos"
    journal.delete(
        sorted(path for path in journal.known if path.startswith("videos/") and path not in {INDEX, *listed})
    )
    there = {path.relative_to(journal.root).as_posix() for path in videos.glob("[!.]*/[!.]*") if path.is_file()}
    if others := sorted(there - listed):
        log.warning("%s: %s that do not belong to this dataset stay as they are", videos, some(others, "file", "files"))


def _make(journal: Journal, sources: list[Source]) -> dict[str, dict[str, str | int]]:
    """Write the missing videos; return the index entry of each."""
    files: dict[str, dict[str, str | int]] = {}
    refused: list[str] = []
    with progress("videos", len(sources)) as step:
        for source in sources:
            name, target = f"videos/{source.file}", journal.root / "videos" / source.file
            try:
                if not (source.origin and target.is_file() and cmp(source.origin, target, shallow=False)):
                    with journal.write(name) as temporary:
                        source.make(temporary)
                files[source.file] = {"sha256": sha256(target), "bytes": target.stat().st_size}
            except NotOurs:
                refused.append(name)
            step(source.file)
    if refused:
        raise journal.not_ours(refused)
    return files


def _local(folder: Path) -> list[Source]:
    listed = annotations.load(folder / ANNOTATIONS)
    found: dict[str, Path] = {}
    for path in videos_below(folder):
        name = spelling(path.stem)
        if name in found:
            raise BadInput(path, f"video {name} again", f"one file, as {found[name]}", "rename one, or move it away")
        found[name] = path
    used = [*listed.subset("train"), *listed.subset("test")]
    names = {video.id: spelling(video.id) for video in used}
    hint = f"compare the file names with {listed.path}"
    if missing := [video.id for video in used if names[video.id] not in found]:
        raise BadInput(folder, f"no file for {some(missing)}", "a file per annotated video", hint)
    if unknown := sorted(set(found) - {spelling(name) for name in listed.videos}):
        raise BadInput(folder, f"{some(unknown)} without annotation", "annotated videos", hint)
    if len(set(names.values())) < len(names):
        first = next(name for name in names if list(names.values()).count(names[name]) > 1)
        raise BadInput(listed.path, f"video {first!r} in two Unicode spellings", "every id once", "remove one")

    sources = []
    for video in used:
        path = found[names[video.id]]
        file = f"{video.id}{path.suffix.lower()}"
        check_name(path, file)
        sources.append(
            Source(f"{SUBSETS.get(video.subset, video.subset)}/{file}", partial(shutil.copyfile, path), path)
        )
    return sources
