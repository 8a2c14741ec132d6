"""The public annotation files of THUMOS14 and ActivityNet, converted to our format.

thumos14         gt.json of the official code, and a JSON of durations: {"<id>": {"duration": <seconds>}}
activitynet1.2   ActivityNet's own JSON
activitynet1.3   ActivityNet's own JSON, or a JSON of durations beside a csv of subsets
"""

import csv
import io
import logging
import os
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from um.datasets.annotations import SLACK, SUBSETS, parse
from um.errors import BadInput
from um.forms import read_json, read_text

log = logging.getLogger(__name__)

TAIL = 34.7  # seconds; mean of the tail drawn after the last instance if durations are unknown (docs/simulation.md)
DURATIONS = "durations.json"  # beside an annotation file without durations
LONGEST = 1e6  # seconds
SUBSET_CSV = "anet1.3_video_info.csv"
NO_CLASS = {"Ambiguous"}

Database = dict[str, dict[str, Any]]


class Benchmark(NamedTuple):
    """A dataset with public annotations."""

    title: str
    classes: int
    file: str  # below UM_REFERENCE_DATA
    half: bool  # features are float16 by default


BENCHMARKS = {
    "thumos14": Benchmark("THUMOS14", 20, "data/thumos14/gt.json", half=False),
    "activitynet1.2": Benchmark(
        "ActivityNet 1.2", 100, "data/activitynet/activity_net.v1-2.missing-removed.json", half=True
    ),
    "activitynet1.3": Benchmark("ActivityNet 1.3", 200, "data/activitynet/anet1.3_durations.json", half=True),
}


def benchmark(dataset: str) -> Benchmark:
    """One of `BENCHMARKS` by name."""
    if dataset not in BENCHMARKS:
        raise BadInput("command line", f"--dataset {dataset}", f"one of {', '.join(BENCHMARKS)}", "check the spelling")
    return BENCHMARKS[dataset]


def annotation_file(dataset: str, given: Path | None) -> Path:
    """The annotation file: `given`, or the dataset's usual file in the folder `given` or in UM_REFERENCE_DATA."""
    usual = Path(benchmark(dataset).file)
    if given is not None:
        return given / usual.name if given.is_dir() else given
    if not (reference := os.environ.get("UM_REFERENCE_DATA")):
        hint = f"use --annotations with {usual.name} of {BENCHMARKS[dataset].title}"
        raise BadInput("command line", "no --annotations, and UM_REFERENCE_DATA is not set", "one of the two", hint)
    return Path(reference) / usual


def read(dataset: str, path: Path, durations: Path | None = None) -> Database:
    """Labelled videos of a public annotation file in our format: id → subset, duration, annotations.

    Labels and segments are as published. Videos without labels (ActivityNet's testing subset) and the label `Ambiguous`
    are left out. If annotations exceed a duration in their own file by more than `SLACK`, it is increased to their end.

    Args:
        dataset: a name of `BENCHMARKS`.
        path: the annotation file.
        durations: file of durations that `path` lacks; default: `DURATIONS` beside it. Without one, they are drawn.

    Raises:
        BadInput: another file, more classes than the dataset has, or durations that lack a video.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise BadInput(path, f"a {type(content).__name__}", "a mapping of videos", "see docs/simulation.md")
    if "database" not in content:
        subsets = _subsets(path.with_name(SUBSET_CSV))
        content = {"database": {name: _described(entry, subsets.get(name)) for name, entry in content.items()}}
    database: Database = {}
    videos = parse(path, content).videos
    labelled = (video for video in videos.values() if not NO_CLASS.issuperset(video.labels))
    known = _durations(path, durations, [video.id for video in labelled if video.duration is None])
    for video in videos.values():
        kept = [{"label": i.label, "segment": [i.start, i.end]} for i in video.instances if i.label not in NO_CLASS]
        if kept:
            end = max(i.end for i in video.instances)
            if video.duration is None:
                duration = known[video.id] if known else _drawn_duration(video.id, end)
            else:
                duration = video.duration if end <= video.duration + SLACK else end
            database[video.id] = {"subset": SUBSETS[video.subset], "duration": duration, "annotations": kept}
    about, count = BENCHMARKS[dataset], len(classes(database))
    if not 0 < count <= about.classes:
        expected = f"1 to {about.classes} of {about.title}"
        raise BadInput(path, f"{count} classes", expected, "is it the annotation file of another dataset?")
    return database


def classes(database: Database) -> list[str]:
    """All labels, sorted."""
    return sorted({item["label"] for entry in database.values() for item in entry["annotations"]})


def choose(database: Database, count: int) -> Database:
    """`count` of the videos, in proportion to the subsets and as evenly over classes as possible.

    Within a subset, every class gets its first video before any gets a second; a video counts for its rarest class.
    """
    frequency = Counter(item["label"] for entry in database.values() for item in entry["annotations"])
    ranked: dict[str, list[tuple[int, int, str]]] = {}
    taken: Counter[tuple[str, str]] = Counter()
    for number, name in sorted((zlib.crc32(name.encode()), name) for name in database):
        entry = database[name]
        label = min({item["label"] for item in entry["annotations"]}, key=lambda c: (frequency[c], c))
        ranked.setdefault(entry["subset"], []).append((taken[entry["subset"], label], number, name))
        taken[entry["subset"], label] += 1
    share = count / len(database)
    kept = {n for videos in ranked.values() for *_, n in sorted(videos)[: max(1, round(share * len(videos)))]}
    return {name: entry for name, entry in database.items() if name in kept}


def _durations(path: Path, given: Path | None, needed: list[str]) -> dict[str, float]:
    """Video → seconds, for those whose duration the annotations lack; empty to draw them."""
    file = given or path.with_name(DURATIONS)
    if given and not needed:
        raise BadInput("--durations", f"durations in {path.name} already", "annotations without", "leave it out")
    if not needed or not (given or file.is_file()):
        if needed:
            log.warning("%s: no durations, and no %s beside it: drawing them", path, DURATIONS)
        return {}
    content, expected = read_json(file), 'seconds per video: {"<id>": {"duration": <seconds>}}'
    known: dict[str, float] = {}
    for name in needed:
        entry = content.get(name) if isinstance(content, dict) else None
        value = entry.get("duration") if isinstance(entry, dict) else entry
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST:
            raise BadInput(file, f"no duration of {name}", expected, "are these the durations of this dataset?")
        known[name] = float(value)
    return known


def _drawn_duration(name: str, end: float) -> float:
    """End of the last instance plus an exponential tail that depends only on the id, in seconds."""
    return round(end + np.random.default_rng(zlib.crc32(name.encode())).exponential(TAIL), 2)


def _described(entry: Any, subset: str | None) -> Any:
    """An entry of the file of durations, converted to ActivityNet's format."""
    if not isinstance(entry, dict):
        return entry
    return {"subset": subset, "duration": entry.get("duration_second")} | entry


def _subsets(path: Path) -> dict[str, str]:
    expected = "columns video and subset"
    text = read_text(path, expected, "put it beside the durations")
    try:
        return {row["video"]: row["subset"] for row in csv.DictReader(io.StringIO(text))}
    except (KeyError, csv.Error) as error:
        raise BadInput(path, f"no column {error}", expected, "is it the public file?") from None
