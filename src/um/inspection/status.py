"""The parts of a dataset that are present, compared with its table: `um data status`."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from um.dataset import INDEX, Videos, facts_of
from um.dataset import index as read_index
from um.datasets import annotations as form
from um.datasets import layouts
from um.datasets.annotations import SUBSETS, VIDEO_SUFFIXES, Annotations, Video
from um.datasets.folder import listed
from um.download import missing
from um.download.sources import KINDS, Alternative, File, Lock, Split, Table
from um.errors import BadInput, some

Echo = Callable[[str], None]
ROLES = ("train", "test")


class Counts(NamedTuple):
    """Numbers of videos to train and to test on."""

    train: int
    test: int


def status(dataset: str | None, folder: Path, table: Table | None, lock: Lock | None, echo: Echo) -> dict[str, Any]:
    """Describe a data folder: annotations, videos, features, and the sources in the dataset's table.

    Args:
        dataset: name, for `datasets/<name>/missing.tsv`.
        folder: `data/<dataset>`, or any folder in a public layout.
        table: the dataset's sources.yaml, if any; numbers of videos are compared with its `splits`.
        lock: the dataset's sources.lock.json.
        echo: called with every line.

    Returns:
        The same facts: `annotations`, `videos`, `features`, `missing` and `sources`; None where there is nothing.

    Raises:
        BadInput: no such folder, or an unreadable file in it.
    """
    if not folder.is_dir() and table is None:
        raise BadInput(folder, "no such folder", "a data folder", "um download creates one")
    splits = table.splits if table else []
    layout = _layout(folder)
    annotated = layout.annotations if layout else next(iter(layouts.annotation_files(folder)), None)
    described, annotations = _annotations(annotated, folder, splits, echo)
    return {
        "annotations": annotations,
        "videos": _videos(folder, described, splits, echo),
        "features": _features(layout, described, splits, echo),
        "missing": _unavailable(facts_of(dataset) / "missing.tsv", echo) if dataset is not None else None,
        "sources": _sources(table, lock, echo) if table is not None else [],
    }


def matching(counts: Counts, splits: Iterable[Split]) -> str:
    """The named split with these counts, or the nearest one."""
    known = list(splits)
    if named := [split.name for split in known if (split.train, split.test) == counts]:
        return f": {' and '.join(named)}"
    if not known:
        return ""
    near = min(known, key=lambda split: abs(split.train - counts.train) + abs(split.test - counts.test))
    return f": no published split; the nearest is {near.name}, {near.train:,} / {near.test:,}"


def _layout(folder: Path) -> layouts.Layout | None:
    try:
        return layouts.recognise(folder)
    except BadInput:  # no features, or two layouts; still describe the rest
        return None


def _annotations(
    path: Path | None, folder: Path, splits: list[Split], echo: Echo
) -> tuple[dict[str, list[Video]], dict[str, Any] | None]:
    """Describe the annotations; also return the videos of both roles."""
    if path is None:
        echo("annotations  none")
        return {}, None
    content = layouts.annotation_content(path)
    annotated = form.parse(path, content)
    instances = sum(len(video.instances) for video in annotated.videos.values())
    classes = {label for video in annotated.videos.values() for label in video.labels}
    subsets = Counter(SUBSETS.get(video.subset, video.subset) for video in annotated.videos.values())
    videos = ", ".join(f"{name} {count:,}" for name, count in sorted(subsets.items()))
    echo(f"annotations  {path.name}: {videos} videos, {instances:,} instances, {len(classes)} classes")
    sources = content.get("sources", {})
    for name, digest in sources.items():
        echo(f"             from {name}, sha256 {digest}")
    described = {role: _role(folder, annotated, role) for role in ROLES}
    counted = _population(Counts(*(len(described[role]) for role in ROLES)), splits, echo)
    facts = {"file": str(path), "videos": dict(sorted(subsets.items())), "instances": instances}
    return described, facts | {"classes": len(classes), "sources": sources} | counted


def _role(folder: Path, annotated: Annotations, role: str) -> list[Video]:
    try:
        return listed(folder, annotated, role)
    except BadInput:  # no such videos
        return []


def _population(counts: Counts, splits: list[Split], echo: Echo) -> dict[str, Any]:
    echo(f"             {counts.train:,} to train on, {counts.test:,} to test on{matching(counts, splits)}")
    named = [split.name for split in splits if (split.train, split.test) == counts]
    return {"train": counts.train, "test": counts.test, "published": named}


def _videos(folder: Path, described: dict[str, list[Video]], splits: list[Split], echo: Echo) -> dict[str, Any] | None:
    index = read_index(folder) if os.path.lexists(folder / INDEX) else Videos(files={})
    files, absent = index.files, index.missing
    if not files and not absent:
        begun = sum(file.suffix.lower() in VIDEO_SUFFIXES for file in folder.glob("videos/*/*"))
        unfinished = f"{begun:,} of an unfinished download" if begun else "none"
        echo(f"videos       {unfinished}")
        if index.features:
            echo(f"             features of {index.features} are downloaded: um extract imports them")
        return {"unfinished": begun} if begun else None
    size = sum(entry.bytes or 0 for entry in files.values()) / 1e9
    echo(f"videos       {len(files):,} of {len(files) + len(absent):,}, {len(absent):,} missing, {size:.1f} GB")
    reasons = dict(Counter(absent.values()).most_common())
    for reason, count in reasons.items():
        echo(f"             {count:,} missing: {reason}")
    facts: dict[str, Any] = {"present": len(files), "missing": len(absent), "reasons": reasons, "gigabytes": size}
    if described:
        facts |= _population(_among({Path(file).stem for file in files}, described), splits, echo)
    return facts


def _features(
    layout: layouts.Layout | None, described: dict[str, list[Video]], splits: list[Split], echo: Echo
) -> dict[str, Any] | None:
    if layout is None:
        echo("features     none in a known layout")
        return None
    streams: dict[str, set[str]] = {stream: set() for stream in layouts.STREAMS}
    for array in layout.arrays:
        for stream in array.streams:
            streams[stream].add(array.id)
    wanted = {video.id for videos in described.values() for video in videos}
    there = {stream: ids for stream, ids in streams.items() if ids}
    for stream, ids in there.items():
        beside = f", {some(sorted(ids - wanted))} not annotated" if described and ids - wanted else ""
        of = f" of {len(wanted):,}" if described else ""
        echo(f"features     {stream}: {len(ids & wanted if described else ids):,}{of} videos{beside}")
    echo(f"             {layout.name} in {layout.features}")
    facts: dict[str, Any] = {"layout": layout.name, "folder": str(layout.features)}
    facts |= {stream: len(ids) for stream, ids in there.items()}
    if described:
        facts |= _population(_among(set.intersection(*there.values()), described), splits, echo)
    return facts


def _among(ids: set[str], described: dict[str, list[Video]]) -> Counts:
    return Counts(*(sum(video.id in ids for video in described[role]) for role in ROLES))


def _unavailable(path: Path, echo: Echo) -> dict[str, int]:
    rows = missing.read(path)
    tried = sum(row.date != "-" for row in rows.values())
    echo(f"missing.tsv  {len(rows):,} videos, {tried:,} of them tried here")
    return {"listed": len(rows), "tried": tried}


def _sources(table: Table, lock: Lock | None, echo: Echo) -> list[dict[str, str]]:
    facts = []
    for kind in KINDS:
        versions: list[Alternative] = getattr(table, kind)
        for version in versions:
            for file in version.files:
                facts.append({"kind": kind, "name": version.name, "file": file.file, "checksum": _known(file, lock)})
                echo(f"source       {kind} {version.name}: {file.file}, {facts[-1]['checksum']}")
    return facts


def _known(file: File, lock: Lock | None) -> str:
    if file.sha256:
        return "checksum published"
    if lock is not None and lock.expected(file.file):
        return "checksum pinned in sources.lock.json"
    if lock is not None and (inside := sum(name.startswith(f"{file.file}/") for name in lock.files)):
        return f"{inside:,} of its files pinned in sources.lock.json"
    return "one per video" if file.each else "checksum unknown"
