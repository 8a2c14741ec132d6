"""A description of a folder of features, from reading all of it: `um features inspect`."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from um.datasets import clock as clocks
from um.datasets import layouts, store
from um.datasets.annotations import Annotations, Video
from um.datasets.folder import Folder, listed, untaught
from um.datasets.layouts import STREAMS, Layout, Stored
from um.errors import BadInput, some
from um.forms import Spec
from um.progress import progress


@dataclass
class Findings:
    """The content of the arrays.

    Attributes:
        lengths: stream → video id → snippets.
        widths: stream → columns → number of videos.
        dtypes: stream → number type → number of videos.
        nan, infinite: video id → number of such values.
        blank: video ids with an array of zeros.
        twice: video ids with a duplicate stream.
        content: sha256 → video ids.
        problems: video id and error of each bad array.
    """

    lengths: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    widths: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    dtypes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    nan: Counter[str] = field(default_factory=Counter)
    infinite: Counter[str] = field(default_factory=Counter)
    blank: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    content: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    problems: list[tuple[str, BadInput]] = field(default_factory=list)


def inspect(root: Path, missing: str = "error", show: Callable[[str], None] = print, clock: Spec | None = None) -> None:
    """Describe a folder of features, with or without annotations.

    Args:
        root: the folder.
        missing: policy for annotated videos without features, as for `Folder`.
        show: called with every line of the description.
        clock: of the features, if given by options.

    Raises:
        BadInput: the first error that `um train` would raise; without annotations, the first bad array.
    """
    layout = layouts.recognise(root)
    found = _read(layout)
    show(f"layout        {layout.name} in {layout.features}")
    if store.made(layout.features).get("simulated") is True:
        show("made          SIMULATED, according to features/spec.json")
    specs = layouts.holders(layout.features, (array.file for array in layout.arrays), "spec.json")
    show(f"clock         {clocks.read(specs, clock)}")
    described = layout.annotated() if layout.annotations else None
    videos = {role: _role(layout, described, role) for role in ("train", "test")} if described else {}
    _annotations(layout, described, videos, show)
    ids = {array.id for array in layout.arrays}
    _streams(found, show)
    if described:
        _subsets(found, videos, show)
        _ids(show, "unannotated", sorted(ids - described.videos.keys()))
    for title, counts in (("NaN", found.nan), ("infinite", found.infinite)):
        _ids(show, title, sorted(counts), f"{sum(counts.values())} values in ")
    _ids(show, "only zeros", sorted(set(found.blank)))
    _ids(show, "twice", sorted(found.twice))
    same = [names for names in found.content.values() if len(names) > 1]
    _ids(show, "same content", sorted(set().union(*same)))
    rgb, flow = (found.lengths.get(stream, {}) for stream in STREAMS)
    uneven = sorted(name for name in rgb.keys() & flow.keys() if rgb[name] != flow[name])
    _ids(show, "rgb != flow", uneven)
    if described:
        folder = Folder(root, missing=missing, clock=clock)
        ids = {video.id for role in ("train", "test") for video in folder.check(role)[0]}
    else:
        layout.by_stream()
    for problem in (problem for name, problem in found.problems if name in ids):
        raise problem
    if uneven and not described:
        named = f"rgb and flow of different lengths in {some(uneven)}"
        raise BadInput(layout.features, named, "equal lengths", "extract both streams again")


def _read(layout: Layout) -> Findings:
    found = Findings()
    with progress("arrays", len(layout.arrays)) as step:
        for array in layout.arrays:
            if any(array.id in found.lengths[stream] for stream in array.streams):
                found.twice.append(array.id)
            try:
                _add(found, array)
            except BadInput as problem:
                found.problems.append((array.id, problem))
            step(array.id)
    return found


def _add(found: Findings, array: Stored) -> None:
    values = array.load()
    if np.issubdtype(values.dtype, np.floating):
        found.nan += Counter({array.id: int(np.isnan(values).sum())})
        found.infinite += Counter({array.id: int(np.isinf(values).sum())})
    if not values.any():
        found.blank.append(array.id)
    for stream in array.streams:
        found.dtypes[stream][str(values.dtype)] += 1
        found.widths[stream][array.width()] += 1
        values = values.reshape(array.shape())
        found.lengths[stream].setdefault(array.id, len(values))
        part = np.ascontiguousarray(array.columns(values, stream))
        found.content[f"{stream} {hashlib.sha256(part.data).hexdigest()}"].add(array.id)
    store.check(array.where, values)


def _annotations(
    layout: Layout, described: Annotations | None, videos: dict[str, list[Video]], show: Callable[[str], None]
) -> None:
    if described is None:
        show("annotations   none; um train and um test need them")
        return
    subsets = Counter(video.subset for video in described.videos.values())
    counts = ", ".join(f"{name} {count}" for name, count in sorted(subsets.items()))
    roles = ", ".join(f"{role} on {len(chosen)}" for role, chosen in videos.items())
    show(f"annotations   {described.path.name}: {counts} videos; {roles}")
    if splits := [name for name in ("split_train.txt", "split_test.txt") if (layout.root / name).exists()]:
        show(f"split lists   {', '.join(splits)}")


def _streams(found: Findings, show: Callable[[str], None]) -> None:
    for stream in (stream for stream in STREAMS if stream in found.lengths):
        lengths = found.lengths[stream]
        values = sorted(lengths.values()) or [0]
        spread = f"{values[0]} / {np.median(values):g} / {values[-1]} snippets (min / median / max)"
        columns, dtypes = (_counted(counts[stream]) for counts in (found.widths, found.dtypes))
        show(f"{stream:<13} {len(lengths)} videos, {spread}, width {columns}, {dtypes}")


def _subsets(found: Findings, videos: dict[str, list[Video]], show: Callable[[str], None]) -> None:
    """Count videos with all streams, and list those without, and classes that cannot be learnt."""
    there = {
        role: [video for video in chosen if all(video.id in lengths for lengths in found.lengths.values())]
        for role, chosen in videos.items()
    }
    counts = ", ".join(f"{role} {len(there[role])} of {len(chosen)}" for role, chosen in videos.items())
    show(f"with features {counts} videos")
    for stream in sorted(found.lengths, reverse=True):
        absent = {video.id for chosen in videos.values() for video in chosen} - found.lengths[stream].keys()
        _ids(show, f"no {stream}", sorted(absent))
    if names := untaught(there["train"], videos["test"]):
        show(f"not in train  {some(names, 'class', 'classes')} of test videos, which cannot be learnt")


def _role(layout: Layout, described: Annotations, role: str) -> list[Video]:
    try:
        return listed(layout.root, described, role)
    except BadInput:  # reported at the end
        return []


def _counted(counts: Counter[int] | Counter[str]) -> str:
    names = [f"{name}" if len(counts) == 1 else f"{name} ({count} videos)" for name, count in counts.items()]
    return " and ".join(names) or "unknown"


def _ids(show: Callable[[str], None], title: str, names: list[str], before: str = "") -> None:
    if names:
        show(f"{title:<13} {before}{some(names)}")
