"""W-TALC's package: all videos' features in one pickled object array, annotations as pickled arrays beside it.

Videos are told apart by `videoname.npy`; the files' other names for them, and their order elsewhere, do not matter.
`extracted_fps.npy` is that of other features (UntrimmedNets'): I3D's are 16 frames at 25 fps here too.
"""

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from um.errors import BadInput, some
from um.features.weights import ArrayUnpickler

FEATURES = "-I3D-JOINTFeatures.npy"
ANNOTATIONS = "-Annotations"
HINT = "take the package as published"


class ObjectUnpickler(ArrayUnpickler):
    """Unpickles object arrays of arrays, numbers, texts and lists; every other name in the stream is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Resolve one of the names that numpy 1 or 2, under Python 2 or 3, writes into such a file."""
        if (module, name) == ("_codecs", "encode"):
            return _latin1  # how Python 3 writes bytes in Python 2's protocol
        module = module.replace("numpy._core", "numpy.core")
        if (module, name) == ("numpy.core.multiarray", "scalar"):
            return pickle.Unpickler.find_class(self, "numpy._core.multiarray", name)
        return super().find_class(module, name)


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"an encoding {encoding!r} in a file of numpy arrays")
    return codecs.encode(text, "latin1")


def read_objects(path: Path) -> list[Any]:
    """The elements of a one-dimensional .npy, an object array or a plain one, without running what it may hold.

    Raises:
        BadInput: no such file, another form, or a pickle of anything but arrays and plain values.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = read_header[version](file)
            if dtype.hasobject:
                array = ObjectUnpickler(file, encoding="bytes").load()
            else:
                file.seek(0)
                array = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise BadInput(path, "no such file", "a file of W-TALC's package", HINT) from None
    except Exception as error:  # a hostile or damaged stream can fail anywhere
        raise BadInput(path, f"no readable array ({error})", "an array of arrays and plain values", HINT) from None
    if not isinstance(array, np.ndarray) or array.shape != shape or not shape:
        raise BadInput(path, type(array).__name__, f"an array of shape {shape}", HINT)
    return list(array)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _names(folder: Path) -> list[str]:
    return [_text(name) for name in read_objects(folder / "videoname.npy")]


class Package:
    """The features file, opened when the first array is asked for.

    An array is let go once it is taken, so that features that are packed elsewhere are not held twice; the file is
    read again when it is asked for again.

    Raises:
        BadInput: no annotations beside the file, or an array more or less than they name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = _names(path.with_name(path.name.removesuffix(FEATURES) + ANNOTATIONS))
        self._arrays: list[Any] = []
        self._shapes: list[tuple[int, ...]] = []

    def _open(self) -> None:
        self._arrays = [np.asarray(array) for array in read_objects(self.path)]
        self._shapes = [array.shape for array in self._arrays]
        if len(self._arrays) != len(self.names):
            found = f"{len(self._arrays)} arrays"
            raise BadInput(self.path, found, f"{len(self.names)}, as videoname.npy has names", HINT)

    def shape(self, position: int) -> tuple[int, ...]:
        """Shape of an array."""
        if not self._shapes:
            self._open()
        return self._shapes[position]

    def take(self, position: int) -> NDArray[Any]:
        """An array, which is let go here."""
        if not self._arrays or self._arrays[position] is None:
            self._open()
        array: NDArray[Any] = self._arrays[position]
        self._arrays[position] = None
        return array


def database(folder: Path) -> dict[str, Any]:
    """The annotations in ActivityNet's form, `{"database": …}`.

    Segments take their labels from `labels`, which has one per segment. A video whose segments have none (THUMOS14's
    video_test_0000270 has none in `labels_all` either) has no instance.

    Raises:
        BadInput: arrays of different lengths, an id twice, or labels that do not fit their segments or `classlist`.
    """
    names = _names(folder)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(folder / "videoname.npy", f"{some(twice)} twice", "every id once", HINT)
    columns = {kind: read_objects(folder / f"{kind}.npy") for kind in ("subset", "labels", "labels_all", "segments")}
    columns["duration"] = read_objects(folder / "duration.npy")
    for kind, values in columns.items():
        if len(values) != len(names):
            raise BadInput(folder / f"{kind}.npy", f"{len(values)} entries", f"{len(names)}, one per video", HINT)
    classes = {_text(name) for name in read_objects(folder / "classlist.npy")}
    entries: dict[str, Any] = {}
    unpaired, uncovered, unknown = [], [], []
    for name, *values in zip(names, *columns.values(), strict=True):
        try:
            subset, labels, of_video, segments, duration = _entry(*values)
        except (TypeError, ValueError) as error:
            raise BadInput(f"{folder}: {name}", str(error), "texts, [start, end] and seconds", HINT) from None
        if labels and len(labels) != len(segments):
            unpaired.append(name)
        if labels and of_video and set(labels) != set(of_video):
            uncovered.append(name)
        if set(labels) - classes:
            unknown.append(name)
        annotated = [{"label": label, "segment": segment} for label, segment in zip(labels, segments, strict=False)]
        # a duration that is too short for its segments (it may be rounded) ends with the last of them
        end = max([duration, *(segment[1] for segment in segments)])
        entries[name] = {"subset": subset, "duration": end, "annotations": annotated}
    if unpaired:
        raise BadInput(folder, f"{some(unpaired)} with other labels than segments", "a label per segment", HINT)
    if uncovered:
        raise BadInput(folder, f"{some(uncovered)} with other labels in labels_all than in labels", "the same", HINT)
    if unknown:
        raise BadInput(folder, f"{some(unknown)} with labels outside classlist.npy", "its classes", HINT)
    return {"database": entries}


def _entry(
    subset: Any, labels: Any, of_video: Any, segments: Any, duration: Any
) -> tuple[str, list[str], list[str], list[tuple[float, float]], float]:
    """One video's values in plain types."""
    pairs = [(float(start), float(end)) for start, end in segments]
    labels, of_video = ([_text(label) for label in values] for values in (labels, of_video))
    return _text(subset), labels, of_video, pairs, float(np.asarray(duration, dtype=float).reshape(()))
