"""A dataset folder: annotations and features by video id, in any layout of `um.datasets.layouts`.

split_train.txt, split_test.txt     lists of the videos to use, if present (the official code, ACM-Net)
features/spec.json                  how the features were made, and their clock
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from um.datasets import clock as clocks
from um.datasets import layouts, store
from um.datasets.annotations import SLACK, Annotations, Video, video_id
from um.errors import BadInput, some
from um.forms import Pace, Span, Spec, read_text

log = logging.getLogger(__name__)

Features = NDArray[np.float32]  # (T, F), one row per snippet


class Folder:
    """A dataset on disk, in whichever layout it has.

    Args:
        root: the folder.
        streams: `rgb`, `flow`, `rgb,flow`, or `auto` for all present, rgb first.
        missing: annotated videos without features are an `error`, are left out (`drop`), or count as a `miss` if
            they are test videos. Features without annotation are refused under `error`, and ignored otherwise.
        annotated: the videos to use, instead of the folder's own annotations and split lists.
        clock: of the features, if given by options.

    Raises:
        BadInput: no annotations or features in a known layout.
    """

    def __init__(
        self,
        root: Path,
        streams: str = "auto",
        missing: str = "error",
        annotated: Annotations | None = None,
        clock: Spec | None = None,
    ) -> None:
        self.missing, self._given, self._option = missing, annotated, clock
        self.held: dict[str, int] = {}  # subset → bytes of its features in memory
        layout = layouts.recognise(root)
        self.root, self.features, self.layout = layout.root, layout.features, layout.name
        self.annotations: Annotations = annotated or layout.annotated()
        self.files = layout.by_stream()
        self.streams = list(self.files) if streams == "auto" else streams.split(",")
        if absent := [stream for stream in self.streams if stream not in self.files]:
            raise BadInput(root, f"no {absent[0]} features", " and ".join(self.streams), "choose others with --streams")
        if missing != "error":
            self._ignore_unannotated()

    @cached_property
    def classes(self) -> list[str]:
        """Class names of the train and test subsets, sorted, in the order of the network's outputs."""
        return sorted({label for video in self.described() for label in video.labels})

    @cached_property
    def unreadable(self) -> set[str]:
        """Ids of videos that `um extract` could not read: left out or misses, never an error."""
        listed = self.features / "missing.tsv"
        lines = read_text(listed).splitlines()[1:] if os.path.lexists(listed) else []
        return {video_id(line.split("\t")[0].rpartition("/")[2]) for line in lines}

    @cached_property
    def simulated(self) -> bool:
        """Whether the features are simulated, according to spec.json."""
        return any(store.made(spec.parent).get("simulated") is True for spec in self.specs)

    @cached_property
    def specs(self) -> list[Path]:
        """The spec.json files beside the features."""
        files = (array.file for named in self.files.values() for array in named.values())
        return layouts.holders(self.features, files, "spec.json")

    @cached_property
    def clock(self) -> clocks.Clock:
        """The clock of the features: from spec.json, from options, or else as in public features.

        Raises:
            BadInput: an invalid spec.json, or contradictory statements.
        """
        return clocks.read(self.specs, self._option)

    @property
    def pace(self) -> Pace:
        """Where the feature rows lie on the timeline."""
        return self.clock.spec.pace

    def span(self, video: Video, rows: int) -> Span:
        """The time that a video's rows cover."""
        return self.pace.span(rows, video.duration, self.annotations.path)

    def described(self) -> list[Video]:
        """The train and test videos."""
        return self.listed("train") + self.listed("test")

    def check(self, role: str) -> tuple[list[Video], list[int], int]:
        """Check a subset without reading its values; return its videos sorted by id, their lengths and the width.

        Raises:
            BadInput: videos without features or without labels, rgb and flow of different lengths, unusable arrays,
                or lengths that contradict the annotations.
        """
        videos = sorted(self.listed(role), key=lambda video: video.id)
        if not videos:
            raise BadInput(self.annotations.path, f"no {role} videos", "at least one", "check the subset names")
        if role == "train" and (bare := [video.id for video in videos if not video.instances]):
            found, expected = f"{some(bare)} without a label", "a label per training video"
            raise BadInput(self.annotations.path, found, expected, "label or remove them")
        self._check_coverage(videos)
        videos = [video for video in videos if self._has_features(video)]
        if not videos:
            raise BadInput(self.features, f"no features of {role} videos", "at least one", "extract them")
        arrays_V = [[self.files[stream][video.id] for stream in self.streams] for video in videos]
        shapes_V = [[array.shape() for array in arrays] for arrays in arrays_V]
        clocks.check_upright(self.features, videos, [shapes[0] for shapes in shapes_V], self.clock)
        lengths_V = [[shape[0] for shape in shapes] for shapes in shapes_V]
        if uneven := [video.id for video, lengths in zip(videos, lengths_V, strict=True) if len(set(lengths)) > 1]:
            first = next(lengths for lengths in lengths_V if len(set(lengths)) > 1)
            found = f"{' and '.join(self.streams)} of different lengths in {some(uneven)}: first {first} snippets"
            raise BadInput(self.features, found, "equal lengths", "extract both streams again")
        if len(widths := {sum(array.width() for array in arrays) for arrays in arrays_V}) > 1:
            raise BadInput(self.root, f"feature widths {sorted(widths)}", "one width", "extract with one backbone")
        lengths = [lengths[0] for lengths in lengths_V]
        clocks.check(self.features, self.annotations.path, self.clock, videos, lengths, " and ".join(self.streams))
        self._check_segments(videos, lengths)
        return videos, lengths, widths.pop()

    def without_features(self, role: str) -> list[Video]:
        """Annotated videos that lack a stream, sorted by id."""
        return sorted(
            (video for video in self.listed(role) if not self._has_features(video)), key=lambda video: video.id
        )

    def _has_features(self, video: Video) -> bool:
        return all(video.id in self.files[stream] for stream in self.streams)

    def read_into(self, rows_TF: Features, name: str) -> None:
        """Write a video's features to `rows_TF`, the streams side by side.

        Raises:
            BadInput: not finite floats.
        """
        arrays: dict[str, store.Features] = {}
        column = 0
        for stream in self.streams:
            source = self.files[stream][name]
            if source.where not in arrays:
                arrays[source.where] = source.read()
            part_TF = source.columns(arrays[source.where], stream)
            with np.errstate(over="ignore"):  # half precision overflows to inf, which the caller refuses
                rows_TF[:, column : column + part_TF.shape[1]] = part_TF
            column += part_TF.shape[1]

    def listed(self, role: str) -> list[Video]:
        """The annotated `train` or `test` videos to use, with or without features."""
        return self._given.subset(role) if self._given else listed(self.root, self.annotations, role)

    def _check_segments(self, videos: list[Video], lengths: list[int]) -> None:
        """Compare segments with the end of the features.

        Some instances past the end are a warning, as in four videos of THUMOS14. If all are, and the duration is
        unknown, the features belong to another video.
        """
        for video, length in zip(videos, lengths, strict=True):
            start, spanned = self.span(video, length)
            seconds = start + spanned
            within = seconds + spanned / length + SLACK
            last = max(video.instances, key=lambda instance: instance.end, default=None)
            if last and last.end > within:
                where = f"{self.annotations.path}: {video.id}"
                found = f"segment [{last.start:g}, {last.end:g}] of {last.label}"
                hint = "are they of this video? if not, move them away and use --missing drop or miss"
                error = BadInput(where, found, f"an end within its features, {seconds:g} s", hint)
                if not video.duration and min(instance.end for instance in video.instances) > within:
                    raise error
                log.warning("%s", error)

    def _check_coverage(self, videos: list[Video]) -> None:
        for stream in self.streams:
            files = self.files[stream]
            absent = [video.id for video in videos if video.id not in files and video.id not in self.unreadable]
            if absent and self.missing == "error":
                raise BadInput(
                    self.features,
                    f"no {stream} features of {some(absent)}",
                    f"a {stream} file per annotated video",
                    "extract them, or use --missing drop or miss",
                )
            if unknown := sorted(set(files) - set(self.annotations.videos)):
                raise BadInput(
                    self.features,
                    f"{stream} features of {some(unknown)} without annotation",
                    "annotated videos",
                    "annotate them, move the files away, or ignore them with --missing drop or miss",
                )

    def _ignore_unannotated(self) -> None:
        unknown = {name for files in self.files.values() for name in files} - set(self.annotations.videos)
        if unknown:
            log.warning("%s: ignored features of %s without annotation", self.features, some(sorted(unknown)))
            for stream, files in self.files.items():
                self.files[stream] = {name: array for name, array in files.items() if name not in unknown}


def listed(root: Path, annotations: Annotations, role: str) -> list[Video]:
    """The `train` or `test` videos of a folder: those in its split list, or else all of the subset.

    Raises:
        BadInput: a split list that is empty or has duplicate or unknown ids, or videos in both train and test.
    """
    split, ids = root / f"split_{role}.txt", _ids(root, annotations, role)
    if os.path.lexists(split):
        if not ids:
            hint = f"list them, or remove the file to use all {role} videos of {annotations.path.name}"
            raise BadInput(split, "no video ids", "at least one", hint)
        if twice := sorted(name for name, count in Counter(ids).items() if count > 1):
            raise BadInput(split, f"{some(twice)} twice", "unique ids", "remove the duplicates")
        if unknown := [name for name in ids if name not in annotations.videos]:
            raise BadInput(split, f"{some(unknown)} not annotated", "annotated ids", f"see {annotations.path}")
    names = {role: f"split_{role}.txt" for role in ("train", "test")}
    lists = [name for name in names.values() if os.path.lexists(root / name)]
    other = "test" if role == "train" else "train"
    if lists and (both := sorted(set(ids).intersection(_ids(root, annotations, other)))):
        hint = f"remove them from {' or '.join(lists)}"
        if len(lists) == 1:
            bare = next(role for role in names if names[role] not in lists)
            hint += f"; without {names[bare]}, all {bare} videos of {annotations.path.name} are used"
        raise BadInput(root / lists[0], f"{some(both)} in both train and test", "no video in both", hint)
    return [annotations.videos[name] for name in ids]


def _ids(root: Path, annotations: Annotations, role: str) -> list[str]:
    split = root / f"split_{role}.txt"
    if not os.path.lexists(split):
        return [video.id for video in annotations.subset(role)]
    return [video_id(line) for line in read_text(split, "a list of video ids").split()]


def untaught(train: Iterable[Video], test: Iterable[Video]) -> list[str]:
    """Classes of test videos without a training video, sorted: they cannot be learnt."""
    taught, tested = ({label for video in videos for label in video.labels} for videos in (train, test))
    return sorted(tested - taught)


def loose_features(folder: Path, streams: Sequence[str], pace: Pace | None = None) -> dict[str, Callable[[], Features]]:
    """Features written by `um extract` outside a dataset, `{rgb,flow}/<id>.npy`: id → reader of (T, F).

    Args:
        folder: of the features.
        streams: to read.
        pace: of the model, if known.

    Raises:
        BadInput: no features, an unfinished extraction, files that contradict index.json, or a spec.json with another
            clock; these two files may be up to two folders above.
    """
    if len(folder.parents) < 2 or ".." in folder.parts:  # two parents are searched, too
        folder = folder.resolve()
    layouts.look(folder, 1)
    names = sorted(path.stem for path in folder.glob(f"{streams[0]}/*.npy") if not path.name.startswith("."))
    files = {(name, stream): folder / stream / f"{name}.npy" for name in names for stream in streams}
    above = layouts.covering(folder, list(files.values()))
    layouts.check_ended(above, files.values())
    if not names:
        raise BadInput(folder, f"no {streams[0]}/<id>.npy", "a folder of um extract", _elsewhere(folder, streams[0]))
    specs = layouts.holders(above, files.values(), "spec.json")
    if specs and pace is not None:
        clock = clocks.read(specs, None)
        clocks.agree(str(clock.origin), clock.spec.pace, pace, "the model")
    stored = [layouts.npy(file, name, stream) for (name, stream), file in files.items()]
    by_file = {array.file: array for array in layouts.indexed(above, stored)}
    return {name: partial(_joined, [by_file[files[name, stream]] for stream in streams]) for name in names}


def _elsewhere(folder: Path, stream: str) -> str:
    """The hint for a folder without features: subfolders with some."""
    patterns = (f"*/{stream}/*.npy", f"features/{stream}/*.npy", f"features/*/{stream}/*.npy")
    below = {path.parent.parent for pattern in patterns for path in folder.glob(pattern)}
    if folder.name == stream and any(folder.glob("*.npy")):
        below.add(folder.parent)
    return f"use {' or '.join(map(str, sorted(below)))}" if below else "run um extract VIDEO… --out DIR"


def _joined(stored: Sequence[layouts.Stored]) -> Features:
    arrays = [array.read() for array in stored]
    if len({len(array) for array in arrays}) > 1:
        found = " and ".join(f"{len(array)} in {one.where}" for array, one in zip(arrays, stored, strict=True))
        raise BadInput(stored[0].where, f"{found} snippets", "equal lengths", "extract both streams again")
    return np.concatenate(arrays, axis=1).astype(np.float32)
