"""ActivityNet-style annotations: one form for every dataset, ids and subset names normalised."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from um.errors import BadInput
from um.forms import read_json

SLACK = 1.0  # seconds: how far public annotations reach behind the end of their video (0.85 s in ActivityNet 1.3)
SUBSETS = {"train": "train", "training": "train", "val": "val", "validation": "val", "test": "test", "testing": "test"}
VIDEO_SUFFIXES = {
    ".mp4", ".m4v", ".mov", ".qt", ".avi", ".divx", ".mkv", ".webm", ".mts", ".m2ts", ".m2t", ".ts", ".mpg", ".mpeg",
    ".mpe", ".m1v", ".m2v", ".mp2v", ".vob", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3gpp", ".3g2", ".ogv", ".ogm",
    ".mxf", ".dv", ".rm", ".rmvb", ".y4m",
}  # fmt: skip
AMBIGUOUS = "Ambiguous"  # THUMOS'14's name for segments that may or may not be an action


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
    ambiguous: tuple[Instance, ...] = ()  # neither an instance nor background, as THUMOS'14 knows them

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

    A video may also have `"ambiguous": [[start, end]]`: segments that are neither an instance nor background.

    A folder is read as that of THUMOS'14's own files: `<class>_<subset>.txt` with lines of video, start and end.

    Raises:
        BadInput: not that form, an id twice, or a segment that is reversed or outside its video.
    """
    if path.is_dir():
        return _official(path)
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
        ambiguous = tuple(Instance(AMBIGUOUS, float(start), float(end)) for start, end in entry.get("ambiguous", []))
        video = Video(video_id(name), str(entry["subset"]), duration, instances, ambiguous)
    except (KeyError, TypeError, ValueError) as error:
        found = f"{type(error).__name__} {error}"
        raise BadInput(where, found, form, "compare the entry with docs/datasets.md") from None
    end = float("inf") if duration is None else duration + SLACK
    for instance in instances:
        if not 0 <= instance.start <= instance.end <= end:
            found = f"segment [{instance.start:g}, {instance.end:g}] of {instance.label}"
            within = f"0 <= start <= end <= {'the end' if duration is None else f'{duration:g} s'}"
            raise BadInput(where, found, within, "segments are seconds from the start of the video")
    if reversed_ := [segment for segment in ambiguous if not 0 <= segment.start <= segment.end < float("inf")]:
        found = f"ambiguous segment [{reversed_[0].start:g}, {reversed_[0].end:g}]"
        raise BadInput(where, found, "0 <= start <= end", "segments are seconds from the start of the video")
    return video


def database(videos: Iterable[Video]) -> dict[str, Any]:
    """The form of `load`, ids and subset names normalised."""
    entries: dict[str, Any] = {}
    for video in videos:
        listed = [{"label": i.label, "segment": [i.start, i.end]} for i in video.instances]
        known = {} if video.duration is None else {"duration": video.duration}
        doubtful = {"ambiguous": [[i.start, i.end] for i in video.ambiguous]} if video.ambiguous else {}
        subset = SUBSETS.get(video.subset, video.subset)
        entries[video.id] = {"subset": subset} | known | {"annotations": listed} | doubtful
    return {"database": entries}


def frame(videos: Iterable[Video]) -> pd.DataFrame:
    """Ground truth as rows of video, label, start, end."""
    rows = [(v.id, i.label, i.start, i.end) for v in videos for i in v.instances]
    return pd.DataFrame(rows, columns=["video", "label", "start", "end"])


def ambiguous_frame(videos: Iterable[Video]) -> pd.DataFrame:
    """Ambiguous segments as rows of video, label, start, end."""
    rows = [(v.id, i.label, i.start, i.end) for v in videos for i in v.ambiguous]
    return pd.DataFrame(rows, columns=["video", "label", "start", "end"])


def _official(folder: Path) -> Annotations:
    """THUMOS'14's per-class files; a video that has ambiguous segments alone is one of the videos too."""
    found: dict[tuple[str, str], list[Instance]] = {}
    files = sorted(path for path in folder.glob("*_*.txt") if path.stem.rpartition("_")[2] in SUBSETS)
    for path in files:
        for name, segment in official_file(path):
            found.setdefault((name, path.stem.rpartition("_")[2]), []).append(segment)
    if not found:
        hint = "name the folder of THUMOS'14's per-class files, or a JSON file"
        raise BadInput(folder, "no file <class>_test.txt or <class>_val.txt", "annotations", hint)
    videos: dict[str, Video] = {}
    for (name, subset), listed in sorted(found.items()):
        if name in videos:
            raise BadInput(folder, f"video {name} in {videos[name].subset} and {subset}", "one subset", "remove one")
        kept, doubtful = (tuple(i for i in listed if (i.label == AMBIGUOUS) == wanted) for wanted in (False, True))
        videos[name] = Video(name, subset, None, kept, doubtful)
    return Annotations(folder, videos)


def official_file(path: Path) -> Iterator[tuple[str, Instance]]:
    """Video ids and segments of one of THUMOS'14's files, `<class>_<subset>.txt`."""
    label = path.stem.rpartition("_")[0]
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if words := line.split():
            yield words[0], _official_segment(path, number, label, words)


def _official_segment(path: Path, number: int, label: str, words: list[str]) -> Instance:
    try:
        start, end = (float(word) for word in words[1:])
    except ValueError:
        start, end = 1.0, 0.0
    if not 0 <= start <= end < float("inf"):
        expected = "video, start and end in seconds, 0 <= start <= end"
        raise BadInput(f"{path}:{number}", repr(" ".join(words)), expected, "compare with the official files")
    return Instance(label, start, end)
