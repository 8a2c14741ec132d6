"""All flaws of an annotation file, not only the first: `um data check`.

Errors are flaws for which `um.datasets.annotations` refuses a file, labels that training cannot learn, and labels that
differ only in case or blanks. Notes are flaws known from public files.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from um.dataset import DATA
from um.datasets import layouts, wtalc
from um.datasets.annotations import (
    AMBIGUOUS,
    SLACK,
    SUBSETS,
    Entry,
    Instance,
    Video,
    entries,
    entries_of,
    not_seconds,
    past_end,
    spellings,
    text_files,
)
from um.errors import BadInput, plain, some

THUMOS14 = frozenset((
    "BaseballPitch", "BasketballDunk", "Billiards", "CleanAndJerk", "CliffDiving",
    "CricketBowling", "CricketShot", "Diving", "FrisbeeCatch", "GolfSwing",
    "HammerThrow", "HighJump", "JavelinThrow", "LongJump", "PoleVault",
    "Shotput", "SoccerPenalty", "TennisSwing", "ThrowDiscus", "VolleyballSpiking",
))  # fmt: skip


class Finding(NamedTuple):
    """A flaw, and the affected videos (or labels), once per occurrence."""

    error: bool
    what: str
    where: list[str]
    of: tuple[str, str] = ("video", "videos")

    def line(self) -> str:
        """`error  reversed: 3 in 2 videos (a, b)`."""
        names = list(dict.fromkeys(self.where))
        count = f"{len(self.where):,} in " if len(names) < len(self.where) else ""
        return f"{'error' if self.error else 'note':<6} {self.what}: {count}{some(names, *self.of)}"


def report(given: str | Path, echo: Callable[[str], None]) -> dict[str, Any]:
    """Describe annotations and list their problems.

    Args:
        given: an ActivityNet-style JSON, a folder with one or with THUMOS'14's text files, or a dataset in `data/`.
        echo: called with every line.

    Returns:
        The same facts: `file`, `videos`, `errors` and `notes` (lists of `{"what", "count", "where"}`), and `instances`
        (label → subset → number).

    Raises:
        BadInput: no annotations, or an unreadable file.
    """
    path = find(given)
    listed, classes = read(path)
    echo(f"{path}: {len(listed):,} videos")
    videos = [entry.video for entry in listed if entry.video]
    subsets = sorted({SUBSETS[video.subset] for video in videos}, key=lambda name: (name == "test", name))
    for subset in subsets:
        within = [video for video in videos if SUBSETS[video.subset] == subset]
        labels = [instance.label for video in within for instance in _instances(video)]
        echo(f"{subset:<6} {len(within):,} videos, {len(labels):,} instances of {len(set(labels))} classes")
    findings = examine(listed, classes)
    for finding in sorted(findings, key=lambda finding: not finding.error):
        echo(finding.line())
    for line in _table(counts := _counts(videos), subsets):
        echo(line)
    told: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for finding in findings:
        told[finding.error].append({"what": finding.what, "count": len(finding.where), "where": finding.where})
    facts = {"file": str(path), "videos": len(listed), "errors": told[True], "notes": told[False]}
    return facts | {"instances": {label: dict(counts[label]) for label in sorted(counts)}}


def find(given: str | Path) -> Path:
    """The annotation file, or folder of text files, for a path or dataset name."""
    path = Path(given) if Path(given).exists() else DATA / given
    if not path.is_dir():
        if path.exists():
            return path
        hint = "um download --dataset NAME --what annotations fetches those of a dataset"
        raise BadInput(given, "no such file or dataset", "annotations", hint)
    files = layouts.annotation_files(path)
    if not files and not text_files(path):
        hint = "give the JSON file, or the folder of THUMOS'14's per-class files"
        raise BadInput(path, "neither annotations.json nor <class>_<subset>.txt", "annotations", hint)
    return files[0] if files else path


def read(path: Path) -> tuple[list[Entry], frozenset[str]]:
    """The videos in file order, and the classes defined by the file or THUMOS'14, if any.

    Raises:
        BadInput: not a JSON file with a `database` of videos.
    """
    if path.is_dir() and not path.name.endswith(wtalc.ANNOTATIONS):
        return entries(path), THUMOS14
    content = layouts.annotation_content(path)
    listed = entries_of(path, content)
    taxonomy = content.get("taxonomy")
    nodes = [node for node in taxonomy if isinstance(node, dict)] if isinstance(taxonomy, list) else []
    leaves = {str(node.get("nodeName")) for node in nodes} - {str(node.get("parentName")) for node in nodes}
    if not leaves and all(entry.name.startswith(("video_validation_", "video_test_")) for entry in listed):
        return listed, THUMOS14
    return listed, frozenset(leaves)


def examine(listed: list[Entry], classes: Iterable[str] = ()) -> list[Finding]:
    """All flaws; default `classes`: those of the training videos."""
    flaws = [(flaw.kind, entry.name) for entry in listed for flaw in entry.flaws]
    videos = [entry.video for entry in listed if entry.video]
    train = "train" if any(SUBSETS[video.subset] == "train" for video in videos) else "val"
    trained = {video.id for video in videos if SUBSETS[video.subset] == train}
    labels = {instance.label for video in videos for instance in _instances(video)}
    taught = {instance.label for video in videos if video.id in trained for instance in _instances(video)}
    unknown = sorted(labels - (set(classes) or taught or labels))
    bare = [video.id for video in videos if not _instances(video)]
    other = not_seconds(videos)
    timed = [video.id for video in videos if video.duration and video.instances]
    past = {video.id: past_end(video) for video in videos}

    def copies(video: Video) -> int:
        return len(_segments(video)) - len(set(_segments(video)))

    findings = [
        *(Finding(True, kind, [name for of, name in flaws if of == kind]) for kind in dict(flaws)),
        Finding(True, other, timed if other else []),
        Finding(True, "labels that differ only in case or blanks", spellings(videos), ("class", "classes")),
        Finding(True, "unknown labels", unknown, ("label", "labels")),
        Finding(True, f"without a label in {train}", [name for name in bare if name in trained]),
        Finding(False, f"past the end by more than {SLACK:g} s", [name for name, by in past.items() if by > SLACK]),
        Finding(False, f"past the end by {SLACK:g} s or less", [name for name, by in past.items() if 0 < by <= SLACK]),
        Finding(False, "of zero length", [v.id for v in videos for i in _segments(v) if i.start == i.end]),
        Finding(False, "duplicate instances", [v.id for v in videos for _ in range(copies(v))]),
        Finding(False, "without a label elsewhere", [name for name in bare if name not in trained]),
        Finding(False, "without a duration", [video.id for video in videos if video.duration is None]),
    ]
    return [finding for finding in findings if finding.where]


def _segments(video: Video) -> tuple[Instance, ...]:
    return video.instances + video.ambiguous


def _instances(video: Video) -> list[Instance]:
    return [instance for instance in video.instances if instance.label != AMBIGUOUS]


def _counts(videos: list[Video]) -> dict[str, Counter[str]]:
    """Label → subset → number of instances."""
    counts: dict[str, Counter[str]] = {}
    for video in videos:
        for segment in _segments(video):
            counts.setdefault(segment.label, Counter())[SUBSETS[video.subset]] += 1
    return counts


def _table(counts: dict[str, Counter[str]], subsets: list[str]) -> Iterator[str]:
    """A table of instances by class and subset."""
    labels = sorted(counts)
    shown = {label: plain(label, 80) for label in labels}
    width = max(map(len, ["instances", *shown.values()]))
    yield " ".join([f"{'instances':<{width}}", *(f"{subset:>6}" for subset in subsets)])
    for label in labels:
        yield " ".join([f"{shown[label]:<{width}}", *(f"{counts[label][subset]:>6}" for subset in subsets)])
