"""Annotations of all datasets in ActivityNet's format, with normalised ids and subset names."""

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import pandas as pd
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError

from um.errors import HIDDEN, BadInput, some
from um.forms import Form, no_cycles, quoted, read_json, read_text

log = logging.getLogger(__name__)

SLACK = 1.0  # seconds past the end of a video; public annotations reach up to 0.85 s (ActivityNet 1.3)
SUBSETS = {"train": "train", "training": "train", "val": "val", "validation": "val", "test": "test", "testing": "test"}
VIDEO_SUFFIXES = {
    ".mp4", ".m4v", ".mov", ".qt", ".avi", ".divx", ".mkv", ".webm", ".mts", ".m2ts", ".m2t", ".ts", ".mpg", ".mpeg",
    ".mpe", ".m1v", ".m2v", ".mp2v", ".vob", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3gpp", ".3g2", ".ogv", ".ogm",
    ".mxf", ".dv", ".rm", ".rmvb", ".y4m",
}  # fmt: skip
AMBIGUOUS = "Ambiguous"  # THUMOS'14's name for segments that may or may not be an action
FORM = '{"subset": text, "annotations": [{"label": text, "segment": [start, end]}]}'
COMPARE = "compare the entry with docs/datasets.md"
SECONDS = "segments are seconds from the start of the video"
NOT_SECONDS = 5  # times whose median exceeds this many durations are not seconds
FRACTION = 1.05  # latest end if times are fractions of the video; some reach a little past the end
FEW = 3  # fewer instances or predictions can look like another unit by chance
UNITS = "divide frames by the frame rate, milliseconds by 1000; multiply fractions by the duration"
LONGEST_ID, LONGEST_LABEL = 251, 500  # bytes (ids name files); characters
PREFIXED = re.compile(r"v_[\w-]{11}")
UNFIT = re.compile(r"[/\\\x00-\x1f\x7f]|^\.{0,2}$|^\s|\s$")


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
    subset: str  # as in the file, in lower case: a key of SUBSETS
    duration: float | None
    instances: tuple[Instance, ...]
    ambiguous: tuple[Instance, ...] = ()  # THUMOS'14: neither an instance nor background

    @property
    def labels(self) -> list[str]:
        """Video-level labels, sorted."""
        return sorted({instance.label for instance in self.instances})

    @property
    def last(self) -> float:
        """End of the last segment, in seconds; 0 if there is none."""
        return max((segment.end for segment in (*self.instances, *self.ambiguous)), default=0.0)


@dataclass(frozen=True)
class Annotations:
    """The videos of a file by normalised id, in file order."""

    path: Path
    videos: dict[str, Video]

    def subset(self, role: str, hint: str = "check the subset names") -> list[Video]:
        """The videos used for `train` or `test`.

        Without a `train` subset, as in THUMOS14, train on `val` and test on `test`. Otherwise, as in ActivityNet, test
        on `val`, or on `test` if `val` is missing.
        """
        names = {SUBSETS.get(video.subset, video.subset) for video in self.videos.values()}
        train = "train" if "train" in names else "val"
        test = "val" if "val" in names and train != "val" else "test"
        videos = self._of({"train": train, "test": test}[role])
        if not videos:
            raise BadInput(self.path, f"no {role} videos among {self._known()}", "at least one", hint)
        return videos

    def named(self, subset: str) -> list[Video]:
        """The videos of a subset, by its name in any spelling."""
        name = subset.strip().casefold()
        videos = self._of(SUBSETS.get(name, name))
        if not videos:
            found = f"no video of subset {subset!r}"
            raise BadInput(self.path, found, f"one of {self._known()}", "use --subset")
        return videos

    def evaluated(self, subset: str | None) -> list[Video]:
        """The videos of the named subset, or else of the layout's test subset."""
        if subset is not None:
            return self.named(subset)
        return self.subset("test", f"use --subset {next(iter(self.videos.values())).subset}")

    def _of(self, name: str) -> list[Video]:
        return [video for video in self.videos.values() if SUBSETS.get(video.subset, video.subset) == name]

    def _known(self) -> str:
        return ", ".join(sorted({video.subset for video in self.videos.values()}))


class Flaw(NamedTuple):
    """Why an entry is refused: its kind, counted by `um data check`, and the error raised by `load`."""

    kind: str
    found: str
    expected: str
    hint: str


class Entry(NamedTuple):
    """A video as written in its file.

    Attributes:
        name: its id in the file, with or without `v_`.
        where: file and name, or file and line.
        video: without its flawed segments; None if the entry is unreadable.
        flaws: reasons to refuse the file.
    """

    name: str
    where: str
    video: Video | None
    flaws: list[Flaw]


def video_id(name: str) -> str:
    """A video's id without the `v_` that some files put before YouTube ids."""
    return name[2:] if len(name) == 13 and PREFIXED.fullmatch(name) else name


def unfit(name: str) -> bool:
    """Whether an id cannot be a file name: empty, a path, too long, control characters, or blanks around it."""
    return bool(UNFIT.search(name) or HIDDEN.search(name)) or len(name.encode()) > LONGEST_ID


def load(path: Path) -> Annotations:
    """Read `{"database": {id: {"subset", "duration"?, "annotations": [{"label", "segment": [start, end]}]}}}`.

    A video may also have `"ambiguous": [[start, end]]`: segments that are neither an instance nor background. Other
    keys are ignored. Instances past the end of their video are kept, as in the official evaluators, with a warning.
    Labels that differ only in case or blanks are different classes, also with a warning.

    For a folder, read THUMOS'14's own files: `<class>_<subset>.txt` with lines of video, start and end.

    Raises:
        BadInput: another format, a subset outside `SUBSETS`, a duplicate or invalid id, a segment that is reversed or
            starts before 0, or times that are not seconds.
    """
    return _accepted(path, entries(path))


def parse(path: Path, content: Any) -> Annotations:
    """Like `load`, for the content read from `path`."""
    return _accepted(path, entries_of(path, content))


def entries(path: Path) -> list[Entry]:
    """All entries with all their flaws, in file order.

    Raises:
        BadInput: neither a JSON file with a `database` of videos, nor a folder of THUMOS'14's text files.
    """
    return _official(path) if path.is_dir() else entries_of(path, read_json(path))


def _accepted(path: Path, listed: list[Entry]) -> Annotations:
    videos: dict[str, Video] = {}
    for entry in listed:
        if entry.flaws or not entry.video:
            _, found, expected, hint = entry.flaws[0]
            raise BadInput(entry.where, found, expected, hint)
        videos[entry.video.id] = entry.video
    if found := not_seconds(videos.values()):
        raise BadInput(path, found, "seconds", UNITS)
    if alike := spellings(videos.values()):
        told = ", ".join(alike[:3]) + (", …" if len(alike) > 3 else "")
        log.warning("%s: labels that differ only in case or blanks are different classes: %s", path, told)
    if past := [video.id for video in videos.values() if past_end(video) > SLACK]:
        log.warning("%s: kept instances past the end of %s", path, some(past))
    return Annotations(path, videos)


def past_end(video: Video) -> float:
    """Seconds by which the last instance exceeds the video; 0 if the duration is unknown."""
    if video.duration is None:
        return 0.0
    return max([0.0, *(instance.end - video.duration for instance in video.instances)])


def not_seconds(videos: Iterable[Video]) -> str:
    """Evidence that times are frames, milliseconds or fractions of the video; empty if there is none.

    In public files some instances are past the end, but never more than half of them, nor far past it.
    """
    pairs = [(i, video.duration) for video in videos if video.duration for i in video.instances]
    if fractions([i.end for i, _ in pairs], [duration for _, duration in pairs]):
        return f"all {len(pairs):,} instances within the first second: times are fractions of the video"
    after = sum(instance.start > duration for instance, duration in pairs)
    if 2 * after <= len(pairs):
        return ""
    ratio = median(instance.end / duration for instance, duration in pairs)
    if ratio < NOT_SECONDS:
        return ""
    return f"{after:,} of {len(pairs):,} instances after the end of their video: times are {ratio:.3g} times durations"


def fractions(ends: Sequence[float], lengths: Sequence[float]) -> bool:
    """Whether times look like fractions of videos of these lengths (s): `FEW` or more, not all whole numbers."""
    return (
        len(ends) >= FEW
        and max(ends) <= FRACTION
        and median(lengths) >= NOT_SECONDS
        and any(end != int(end) for end in ends)
    )


def spellings(videos: Iterable[Video]) -> list[str]:
    """Labels that differ only in case or blanks, with counts: `'Jump': 1 and 'jump': 9`, one text per group."""
    counts = Counter(instance.label for video in videos for instance in video.instances)
    groups: dict[str, list[str]] = {}
    for label in sorted(counts):
        groups.setdefault(_folded(label), []).append(label)
    return [" and ".join(f"{s[:30]!r}: {counts[s]:,}" for s in group) for group in groups.values() if len(group) > 1]


def _folded(label: str) -> str:
    return re.sub(r"[\s_]+", "", HIDDEN.sub("", unicodedata.normalize("NFKC", label)).casefold())


def _number(value: Any) -> Any:
    if isinstance(value, str) and len(value) < 100:
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _subset(name: str) -> str:
    name = name.strip().casefold()
    if name not in SUBSETS:
        raise ValueError(f"one of {', '.join(SUBSETS)}")
    return name


def _label(name: str) -> str:
    if not name.strip():
        raise ValueError("a non-empty text")
    return name


Number = Annotated[float, Field(strict=True, allow_inf_nan=False), BeforeValidator(_number)]
Seconds = Annotated[Number, Field(ge=-1e9, le=1e9)]
Label = Annotated[str, Field(max_length=LONGEST_LABEL), AfterValidator(_label)]


class _Item(Form):
    model_config = ConfigDict(strict=False)  # lists and tuples

    label: Label
    segment: tuple[Seconds, Seconds]


class _Values(Form):
    model_config = ConfigDict(strict=False)

    subset: Annotated[str, AfterValidator(_subset)]
    annotations: list[_Item]
    duration: Annotated[Seconds, Field(gt=0)] | None = None
    ambiguous: tuple[tuple[Seconds, Seconds], ...] = ()


def entries_of(path: Path, content: Any) -> list[Entry]:
    """The entries of a parsed JSON file."""
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not database:
        raise BadInput(path, "no 'database' of videos", "an ActivityNet-style JSON", "see docs/datasets.md")
    where = str(path)
    with no_cycles():
        listed = [_entry(f"{where}: {name[:LONGEST_ID]}", name, values) for name, values in database.items()]
    seen: set[str] = set()
    for entry in listed:
        known = video_id(entry.name)
        if known in seen:
            found = f"video {known} twice, with and without v_"
            entry.flaws.append(Flaw("twice, with and without v_", found, "unique ids", "remove one of the two"))
        seen.add(known)
    return listed


def _entry(where: str, name: str, values: Any) -> Entry:
    if unfit(name):
        expected = f"a name without slashes and control characters, no blanks around it, at most {LONGEST_ID} bytes"
        return Entry(name, where, None, [Flaw("invalid ids", f"the id {name[:80]!r}", expected, COMPARE)])
    try:
        read = _Values.model_validate(values)
    except ValidationError as error:
        return Entry(name, where, None, [Flaw("unreadable", *unread(error), COMPARE)])
    segments = [Instance(item.label, *item.segment) for item in read.annotations]
    doubtful = [Instance(AMBIGUOUS, *segment) for segment in read.ambiguous]
    flaws = [flaw for segment in segments + doubtful if (flaw := _misplaced(segment))]
    if flaws:
        segments, doubtful = ([s for s in both if not _misplaced(s)] for both in (segments, doubtful))
    video = Video(video_id(name), read.subset, read.duration, tuple(segments), tuple(doubtful))
    return Entry(name, where, video, flaws)


def unread(error: ValidationError, form: str = FORM) -> tuple[str, str]:
    """What was found and what expected at the first invalid value."""
    first = error.errors(include_url=False, include_context=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"no {key}", form
    expected = re.sub("^(Value error, )?(Input should be )?", "", first["msg"])
    return f"{key} = {quoted(first['input'])}".removeprefix(" = "), expected


def _misplaced(segment: Instance) -> Flaw | None:
    if 0 <= segment.start <= segment.end:
        return None
    kind = "reversed" if segment.end < segment.start else "before the start"
    found = f"segment [{segment.start:g}, {segment.end:g}] of {segment.label}"
    return Flaw(kind, found, "0 <= start <= end", SECONDS)


def database(videos: Iterable[Video]) -> dict[str, Any]:
    """Videos in the format read by `load`, with normalised ids and subset names."""
    written: dict[str, Any] = {}
    for video in videos:
        listed = [{"label": i.label, "segment": [i.start, i.end]} for i in video.instances]
        known = {} if video.duration is None else {"duration": video.duration}
        doubtful = {"ambiguous": [[i.start, i.end] for i in video.ambiguous]} if video.ambiguous else {}
        subset = SUBSETS.get(video.subset, video.subset)
        written[video.id] = {"subset": subset} | known | {"annotations": listed} | doubtful
    return {"database": written}


def frame(videos: Iterable[Video]) -> pd.DataFrame:
    """Ground truth as rows of video, label, start, end."""
    rows = [(v.id, i.label, i.start, i.end) for v in videos for i in v.instances]
    return pd.DataFrame(rows, columns=["video", "label", "start", "end"])


def ambiguous_frame(videos: Iterable[Video]) -> pd.DataFrame:
    """Ambiguous segments as rows of video, label, start, end."""
    rows = [(v.id, i.label, i.start, i.end) for v in videos for i in v.ambiguous]
    return pd.DataFrame(rows, columns=["video", "label", "start", "end"])


def text_files(folder: Path) -> dict[Path, tuple[str, str]]:
    """THUMOS'14's per-class files in a folder → class and subset; without hidden files such as macOS's `._*`."""
    found = {}
    for path in sorted(folder.glob("*_*.txt")):
        label, _, subset = path.stem.rpartition("_")
        if label and subset.casefold() in SUBSETS and not path.name.startswith("."):
            found[path] = label, subset.casefold()
    return found


def _official(folder: Path) -> list[Entry]:
    """The entries of THUMOS'14's per-class files, including videos with only ambiguous segments."""
    lines: dict[str, list[tuple[str, _Line]]] = {}  # video → subset and line
    for path, (label, subset) in text_files(folder).items():
        for line in _lines(path, label):
            lines.setdefault(line.name, []).append((subset, line))
    if not lines:
        hint = "give the folder of THUMOS'14's per-class files, or a JSON file"
        raise BadInput(folder, "no file <class>_test.txt or <class>_val.txt", "annotations", hint)
    return [_official_entry(folder, name, found) for name, found in sorted(lines.items())]


def _official_entry(folder: Path, name: str, found: list[tuple[str, "_Line"]]) -> Entry:
    flawed = [line for _, line in found if line.flaw]
    flaws, where = [line.flaw for line in flawed if line.flaw], f"{folder}: {name}"
    subsets = list(dict.fromkeys(subset for subset, _ in found))
    if len({SUBSETS[subset] for subset in subsets}) > 1:
        flaws.append(Flaw("in two subsets", f"video {name} in {' and '.join(subsets)}", "one subset", "remove one"))
    segments = [line.segment for _, line in found if line.segment]
    kept, doubtful = (tuple(i for i in segments if (i.label == AMBIGUOUS) == wanted) for wanted in (False, True))
    return Entry(name, flawed[0].where if flawed else where, Video(name, subsets[0], None, kept, doubtful), flaws)


class _Line(NamedTuple):
    where: str
    name: str
    segment: Instance | None
    flaw: Flaw | None


def _lines(path: Path, label: str) -> Iterator[_Line]:
    text = read_text(path, "lines of video, start and end")
    for number, words in enumerate(map(str.split, text.splitlines()), 1):
        if words:
            segment, flaw = _line(label, words)
            yield _Line(f"{path}:{number}", words[0], segment, flaw)


def _line(label: str, words: list[str]) -> tuple[Instance | None, Flaw | None]:
    found, expected = repr(" ".join(words)), "video, start and end in seconds, 0 <= start <= end"
    hint = "compare with the official files"
    try:
        start, end = (float(word) for word in words[1:])
    except ValueError:
        return None, Flaw("unreadable", found, expected, hint)
    if unfit(words[0]):
        return None, Flaw("invalid ids", found, expected, hint)
    if not (abs(start) <= 1e9 and abs(end) <= 1e9):
        return None, Flaw("unreadable", found, expected, hint)
    if flaw := _misplaced(Instance(label, start, end)):
        return None, flaw._replace(found=found, expected=expected, hint=hint)
    return Instance(label, start, end), None


def official_file(path: Path) -> Iterator[tuple[str, Instance]]:
    """Video ids and segments of one of THUMOS'14's files, `<class>_<subset>.txt`.

    Raises:
        BadInput: a line that is not video, start and end.
    """
    for line in _lines(path, path.stem.rpartition("_")[0]):
        if line.flaw or not line.segment:
            _, found, expected, hint = line.flaw or Flaw("", "", "", "")
            raise BadInput(line.where, found, expected, hint)
        yield line.name, line.segment
