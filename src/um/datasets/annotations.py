"""ActivityNet-style annotations: one form for every dataset, ids and subset names normalised."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from um.errors import BadInput
from um.files import read_json

SLACK = 0.64  # seconds, one snippet: how far public annotations reach behind the end of their video
SUBSETS = {"train": "train", "training": "train", "val": "val", "validation": "val", "test": "test", "testing": "test"}


@dataclass(frozen=True)
class Instance:
    """One labelled segment, in seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Video:
    """One entry of the annotations."""

    id: str
    subset: str  # as the file calls it
    duration: float | None
    instances: tuple[Instance, ...]

    @property
    def labels(self) -> list[str]:
        """Video-level labels, sorted."""
        return sorted({instance.label for instance in self.instances})


@dataclass(frozen=True)
class Annotations:
    """The videos of a file by normalised id, in the file's order."""

    path: Path
    videos: dict[str, Video]

    def subset(self, role: str) -> list[Video]:
        """The videos used for `train` or `test`.

        A file without `train` follows THUMOS14: it trains on `val` and tests on `test`. Any other file follows
        ActivityNet: it tests on `val`, or on `test` when it has no `val`.
        """
        names = {SUBSETS.get(video.subset, video.subset) for video in self.videos.values()}
        train = "train" if "train" in names else "val"
        test = "val" if "val" in names and train != "val" else "test"
        name = {"train": train, "test": test}[role]
        videos = [video for video in self.videos.values() if SUBSETS.get(video.subset, video.subset) == name]
        if not videos:
            known = ", ".join(sorted({video.subset for video in self.videos.values()}))
            raise BadInput(self.path, f"no {role} videos among {known}", "at least one", "check the subset names")
        return videos

    def named(self, subset: str) -> list[Video]:
        """The videos of a subset by its name in any spelling."""
        name = SUBSETS.get(subset, subset)
        videos = [video for video in self.videos.values() if SUBSETS.get(video.subset, video.subset) == name]
        if not videos:
            known = ", ".join(sorted({video.subset for video in self.videos.values()}))
            raise BadInput(self.path, f"no video of subset {subset!r}", f"one of {known}", "choose with --subset")
        return videos


def video_id(name: str) -> str:
    """A video's id without the `v_` that derived files put before YouTube's 11 characters."""
    return name[2:] if re.fullmatch(r"v_[\w-]{11}", name) else name


def load(path: Path) -> Annotations:
    """Read `{"database": {id: {"subset", "duration"?, "annotations": [{"label", "segment": [start, end]}]}}}`.

    Raises:
        BadInput: not that form, an id twice, or a segment that is reversed or outside its video.
    """
    return parse(path, read_json(path))


def parse(path: Path, content: Any) -> Annotations:
    """The annotations that `content`, read from `path`, holds in the form of `load`."""
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not database:
        raise BadInput(path, "no 'database' of videos", "an ActivityNet-style JSON", "see docs/datasets.md")
    videos: dict[str, Video] = {}
    for name, entry in database.items():
        video = _video(path, name, entry)
        if video.id in videos:
            raise BadInput(path, f"video {video.id} twice, with and without v_", "every id once", "remove one")
        videos[video.id] = video
    return Annotations(path, videos)


def _video(path: Path, name: str, entry: Any) -> Video:
    where = f"{path}: {name}"
    form = '{"subset": text, "annotations": [{"label": text, "segment": [start, end]}]}'
    try:
        duration = float(entry["duration"]) if "duration" in entry else None
        instances = tuple(
            Instance(str(item["label"]), *(float(second) for second in item["segment"]))
            for item in entry["annotations"]
        )
        video = Video(video_id(name), str(entry["subset"]), duration, instances)
    except (KeyError, TypeError, ValueError) as error:
        found = f"{type(error).__name__} {error}"
        raise BadInput(where, found, form, "compare the entry with docs/datasets.md") from None
    end = float("inf") if duration is None else duration + SLACK
    for instance in instances:
        if not 0 <= instance.start <= instance.end <= end:
            found = f"segment [{instance.start:g}, {instance.end:g}] of {instance.label}"
            within = f"0 <= start <= end <= {'the end' if duration is None else f'{duration:g} s'}"
            raise BadInput(where, found, within, "segments are seconds from the start of the video")
    return video


def frame(videos: Iterable[Video]) -> pd.DataFrame:
    """Ground truth as rows of video, label, start, end."""
    rows = [(v.id, i.label, i.start, i.end) for v in videos for i in v.instances]
    return pd.DataFrame(rows, columns=["video", "label", "start", "end"])
