"""What is wrong with a file of annotations, all of it and not only the first: `um data check`.

`um.datasets.annotations` refuses what cannot be used. Here the same files are read without refusing, so that every
finding is listed. Errors are what training or a score would be wrong by; notes are what public files are known for.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from um.datasets.annotations import AMBIGUOUS, SLACK, SUBSETS, video_id
from um.errors import BadInput, some
from um.forms import read_json

DATA = Path("data")
THUMOS14 = frozenset((
    "BaseballPitch", "BasketballDunk", "Billiards", "CleanAndJerk", "CliffDiving",
    "CricketBowling", "CricketShot", "Diving", "FrisbeeCatch", "GolfSwing",
    "HammerThrow", "HighJump", "JavelinThrow", "LongJump", "PoleVault",
    "Shotput", "SoccerPenalty", "TennisSwing", "ThrowDiscus", "VolleyballSpiking",
))  # fmt: skip


class Segment(NamedTuple):
    """A labelled segment in seconds, wherever it lies."""

    label: str
    start: float
    end: float


class Entry(NamedTuple):
    """A video as its file has it.

    Attributes:
        name: its id in the file; `video_id` of it is the same with and without `v_`.
        subset: normalised.
        duration: in seconds, where it is stated.
        segments: ambiguous ones too.
        unreadable: segments, or a duration, that are no numbers.
    """

    name: str
    subset: str
    duration: float | None
    segments: list[Segment]
    unreadable: int


class Finding(NamedTuple):
    """What is wrong, and the videos (or labels) it is wrong with, one by occurrence."""

    error: bool
    what: str
    where: list[str]
    of: tuple[str, str] = ("video", "videos")

    def line(self) -> str:
        """`error  reversed: 3 in 2 videos (a, b)`."""
        names = list(dict.fromkeys(self.where))
        count = f"{len(self.where):,} in " if len(names) < len(self.where) else ""
        return f"{'error' if self.error else 'note':<6} {self.what}: {count}{some(names, *self.of)}"


def report(given: str | Path, echo: Callable[[str], None]) -> bool:
    """Describe annotations and list what is wrong with them; return whether there are errors.

    Args:
        given: an ActivityNet-style JSON, a folder with one or with THUMOS'14's text files, or a dataset in `data/`.
        echo: gets every line.

    Raises:
        BadInput: nothing of that kind is there, or the file cannot be read at all.
    """
    path = find(given)
    entries, classes = read(path)
    echo(f"{path}: {len(entries):,} videos")
    subsets = sorted({entry.subset for entry in entries}, key=lambda name: (name == "test", name))
    for subset in subsets:
        videos = [entry for entry in entries if entry.subset == subset]
        labels = [segment.label for entry in videos for segment in _instances(entry)]
        echo(f"{subset:<6} {len(videos):,} videos, {len(labels):,} instances of {len(set(labels))} classes")
    findings = examine(entries, classes)
    for finding in sorted(findings, key=lambda finding: not finding.error):
        echo(finding.line())
    for line in _table(entries, subsets):
        echo(line)
    return any(finding.error for finding in findings)


def find(given: str | Path) -> Path:
    """The file, or the folder of text files, that is meant by a path or a dataset's name."""
    path = Path(given) if Path(given).exists() else DATA / given
    if not path.is_dir():
        if path.exists():
            return path
        raise BadInput(given, "no such file or dataset", "annotations", "um download --what annotations brings them")
    files = [path / name for name in ("annotations.json", "gt.json") if (path / name).is_file()]
    if not files and not _text_files(path):
        hint = "name the JSON file, or the folder of THUMOS'14's per-class files"
        raise BadInput(path, "neither annotations.json nor <class>_<subset>.txt", "annotations", hint)
    return files[0] if files else path


def read(path: Path) -> tuple[list[Entry], frozenset[str]]:
    """The videos in the file's order, and the classes that it, or THUMOS'14, knows; none where it says nothing.

    Raises:
        BadInput: no JSON with a `database` of videos.
    """
    if path.is_dir():
        return list(_texts(path)), THUMOS14
    content = read_json(path)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not database:
        raise BadInput(path, "no 'database' of videos", "an ActivityNet-style JSON", "see docs/datasets.md")
    nodes = [node for node in content.get("taxonomy") or [] if isinstance(node, dict)]
    leaves = {str(node.get("nodeName")) for node in nodes} - {str(node.get("parentName")) for node in nodes}
    if not leaves and all(name.startswith(("video_validation_", "video_test_")) for name in database):
        return [_entry(*item) for item in database.items()], THUMOS14
    return [_entry(*item) for item in database.items()], frozenset(leaves)


def examine(entries: list[Entry], classes: Iterable[str] = ()) -> list[Finding]:
    """Everything that is wrong with them; without `classes`, those of the training videos are known."""
    names = Counter(video_id(entry.name) for entry in entries)
    train = "train" if any(entry.subset == "train" for entry in entries) else "val"
    labels = {segment.label for entry in entries for segment in _instances(entry)}
    taught = {segment.label for entry in entries if entry.subset == train for segment in _instances(entry)}
    unknown = sorted(labels - (set(classes) or taught or labels))
    bare = [entry for entry in entries if not _instances(entry)]

    def videos(wrong: Callable[[Segment, float], bool]) -> list[str]:
        return [
            e.name for e in entries for s in e.segments if wrong(s, float("inf") if e.duration is None else e.duration)
        ]

    def copies(entry: Entry) -> int:
        return len(entry.segments) - len(set(entry.segments))

    findings = [
        Finding(True, "unreadable", [entry.name for entry in entries for _ in range(entry.unreadable)]),
        Finding(True, "twice, with and without v_", [name for name, count in names.items() if count > 1]),
        Finding(True, "reversed", videos(lambda s, _: s.end < s.start)),
        Finding(True, "before the start", videos(lambda s, _: min(s.start, s.end) < 0)),
        Finding(True, f"behind the end by more than {SLACK:g} s", videos(lambda s, end: max(s[1:]) > end + SLACK)),
        Finding(
            False, f"behind the end by {SLACK:g} s or less", videos(lambda s, end: end < max(s[1:]) <= end + SLACK)
        ),
        Finding(False, "without length", videos(lambda s, _: s.start == s.end)),
        Finding(False, "the same instance again", [e.name for e in entries for _ in range(copies(e))]),
        Finding(True, "unknown labels", unknown, ("label", "labels")),
        Finding(True, f"without a label in {train}", [entry.name for entry in bare if entry.subset == train]),
        Finding(False, "without a label elsewhere", [entry.name for entry in bare if entry.subset != train]),
        Finding(False, "without a duration", [entry.name for entry in entries if entry.duration is None]),
    ]
    return [finding for finding in findings if finding.where]


def _instances(entry: Entry) -> list[Segment]:
    return [segment for segment in entry.segments if segment.label != AMBIGUOUS]


def _table(entries: list[Entry], subsets: list[str]) -> Iterator[str]:
    """Instances of every class by subset."""
    counts = {subset: Counter[str]() for subset in subsets}
    for entry in entries:
        counts[entry.subset].update(segment.label for segment in entry.segments)
    labels = sorted(set(chain(*counts.values())))
    width = max(map(len, ["instances", *labels]))
    yield " ".join([f"{'instances':<{width}}", *(f"{subset:>6}" for subset in subsets)])
    for label in labels:
        yield " ".join([f"{label:<{width}}", *(f"{counts[subset][label]:>6}" for subset in subsets)])


def _entry(name: str, entry: Any) -> Entry:
    values = entry if isinstance(entry, dict) else {}
    subset, duration = str(values.get("subset", "?")), _seconds(values.get("duration"))
    items = values.get("annotations")
    listed = [*(items if isinstance(items, list) else [None])]
    listed += [{"label": AMBIGUOUS, "segment": pair} for pair in values.get("ambiguous") or []]
    found = [_segment(item) for item in listed]
    bad = found.count(None) + (duration is None and values.get("duration") is not None) + (subset == "?")
    return Entry(name, SUBSETS.get(subset, subset), duration, [segment for segment in found if segment], bad)


def _segment(item: Any) -> Segment | None:
    try:
        start, end = (_seconds(second) for second in item["segment"])
        label = str(item["label"])
    except (TypeError, KeyError, ValueError):
        return None
    return None if start is None or end is None else Segment(label, start, end)


def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if isfinite(seconds) else None


def _text_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*_*.txt") if path.stem.rpartition("_")[2] in SUBSETS)


def _texts(folder: Path) -> Iterator[Entry]:
    """THUMOS'14's per-class files, by video."""
    lines: dict[tuple[str, str], list[Segment | None]] = {}
    for path in _text_files(folder):
        label, _, subset = path.stem.rpartition("_")
        for words in map(str.split, path.read_text("utf-8").splitlines()):
            if words:
                found = _segment({"label": label, "segment": words[1:]})
                lines.setdefault((words[0], SUBSETS[subset]), []).append(found)
    for (name, subset), segments in sorted(lines.items()):
        yield Entry(name, subset, None, [segment for segment in segments if segment], segments.count(None))
