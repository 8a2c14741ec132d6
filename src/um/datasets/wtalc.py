"""W-TALC's package: features of all videos in one pickled object array, annotations as pickled arrays beside it.

`videoname.npy` lists the videos; other names in the files are ignored. `extracted_fps.npy` describes other features
(UntrimmedNets'); the I3D snippets are 16 frames at 25 fps, as elsewhere.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from um.datasets.annotations import AMBIGUOUS, official_file, video_id
from um.datasets.objects import read_objects
from um.errors import BadInput, some

FEATURES = "-I3D-JOINTFeatures.npy"
ANNOTATIONS = "-Annotations"
HINT = "use the package as published"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _names(folder: Path) -> list[str]:
    return [_text(name) for name in read_objects(folder / "videoname.npy")]


class Package:
    """The features file, read on first use.

    `take` releases the array, so that memory does not hold it twice; taking it again reads the file again.

    Raises:
        BadInput: no annotations beside the file, or a number of arrays that does not match them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = _names(path.with_name(path.name.removesuffix(FEATURES) + ANNOTATIONS))
        self._arrays: list[Any] = []
        self._forms: list[tuple[np.dtype[Any], tuple[int, ...]]] = []

    def _open(self) -> None:
        self._arrays = [np.asarray(array) for array in read_objects(self.path)]
        self._forms = [(array.dtype, array.shape) for array in self._arrays]
        if len(self._arrays) != len(self.names):
            found = f"{len(self._arrays)} arrays"
            raise BadInput(self.path, found, f"{len(self.names)}, one per name in videoname.npy", HINT)

    def form(self, position: int) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Type and shape of an array."""
        if not self._forms:
            self._open()
        return self._forms[position]

    def take(self, position: int) -> NDArray[Any]:
        """Return an array and release it here."""
        if not self._arrays or self._arrays[position] is None:
            self._open()
        array: NDArray[Any] = self._arrays[position]
        self._arrays[position] = None
        return array


def database(folder: Path) -> dict[str, Any]:
    """The annotations in ActivityNet's format, `{"database": …}`.

    `labels` has one label per segment. A video without labels has no instances (video_test_0000270 of THUMOS14,
    which lacks `labels_all`, too). THUMOS14's package includes the official Ambiguous_test.txt; other videos in it are
    ignored.

    Raises:
        BadInput: arrays of different lengths, duplicate ids, or labels that do not fit segments or `classlist`.
    """
    names = _names(folder)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(folder / "videoname.npy", f"{some(twice)} twice", "unique ids", HINT)
    columns = {kind: read_objects(folder / f"{kind}.npy") for kind in ("subset", "labels", "labels_all", "segments")}
    columns["duration"] = read_objects(folder / "duration.npy")
    for kind, values in columns.items():
        if len(values) != len(names):
            raise BadInput(folder / f"{kind}.npy", f"{len(values)} entries", f"{len(names)}, one per video", HINT)
    classes = {_text(name) for name in read_objects(folder / "classlist.npy")}
    entries: dict[str, Any] = {}
    ambiguous = _ambiguous(folder)
    unpaired, uncovered, unknown = [], [], []
    for name, *values in zip(names, *columns.values(), strict=True):
        try:
            subset, labels, of_video, segments, duration = _entry(*values)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadInput(f"{folder}: {name}", str(error), "texts, [start, end] and seconds", HINT) from None
        if labels and len(labels) != len(segments):
            unpaired.append(name)
        if labels and of_video and set(labels) != set(of_video):
            uncovered.append(name)
        if set(labels) - classes:
            unknown.append(name)
        annotated = [{"label": label, "segment": segment} for label, segment in zip(labels, segments, strict=False)]
        entries[name] = {"subset": subset, "annotations": annotated}
        if duration > 0:  # may be rounded below the end of a segment
            entries[name]["duration"] = max([duration, *(segment[1] for segment in segments)])
        if doubtful := ambiguous.get(video_id(name)):
            entries[name]["ambiguous"] = doubtful
    if unpaired:
        found = f"different numbers of labels and segments in {some(unpaired)}"
        raise BadInput(folder, found, "a label per segment", HINT)
    if uncovered:
        raise BadInput(folder, f"labels and labels_all that differ in {some(uncovered)}", "the same labels", HINT)
    if unknown:
        raise BadInput(folder, f"labels outside classlist.npy in {some(unknown)}", "its classes", HINT)
    return {"database": entries}


def _ambiguous(folder: Path) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    path = folder / f"{AMBIGUOUS}_test.txt"
    for name, segment in official_file(path) if path.is_file() else ():
        found.setdefault(video_id(name), []).append((segment.start, segment.end))
    return found


def _entry(
    subset: Any, labels: Any, of_video: Any, segments: Any, duration: Any
) -> tuple[str, list[str], list[str], list[tuple[float, float]], float]:
    """One video's values in plain types."""
    pairs = [(float(start), float(end)) for start, end in segments]
    labels, of_video = ([_text(label) for label in values] for values in (labels, of_video))
    return _text(subset), labels, of_video, pairs, float(np.asarray(duration, dtype=float).reshape(()))
