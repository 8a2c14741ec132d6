"""The public layouts of annotations and features, recognised by their files.

annotations.json | gt.json | annotations_1.2.json          ActivityNet form
<name>-Annotations/{videoname,subset,…}.npy                 W-TALC's arrays
features/<subset>/{rgb,flow}/<id>.npy                       ours, the official code's, the seed's (features_1.2/…)
<id>_rgb.npy, <id>_flow.npy                                 ACRNet
<id>.npy, <id>-flow.npy                                     per-video files, flow beside rgb
<name>-I3D-JOINTFeatures.npy                                W-TALC: all videos in one file, rgb ‖ flow
feature_{rgb,flow}_{train,val}.h5                           ProCL: one dataset per video
<id>.npy                                                    A2CL-PT, ACM-Net: rgb ‖ flow

Feature files lie in features/ or in the folder itself, directly or by subset.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from um.datasets import annotations, wtalc
from um.datasets.annotations import Annotations, video_id
from um.errors import BadInput
from um.features import store

STREAMS = ("rgb", "flow")
I3D = 1024  # columns of a single stream of Inception-I3D, which nobody splits in two
VERSIONED = re.compile(r"(.+?)(\d\.\d)")  # activitynet1.2 is the folder activitynet with its _1.2 files


@dataclass(frozen=True)
class Stored:
    """One array of one video as it lies on disk.

    Attributes:
        id: of the video, normalised.
        streams: what its columns hold, in equal shares, side by side.
        file: that holds it, alone or with others.
        where: file, and place in it where it holds more than one.
        shape: reads (T, F) alone; a (T, F) that is none is BadInput.
        load: reads the array, unchecked.
    """

    id: str
    streams: tuple[str, ...]
    file: Path
    where: str
    shape: Callable[[], tuple[int, int]]
    load: Callable[[], NDArray[Any]]

    def read(self) -> store.Features:
        """(T, F) floats, T >= 1, all finite; anything else is BadInput."""
        return store.check(self.where, self.load())

    def width(self) -> int:
        """Columns of each stream."""
        columns = self.shape()[1]
        if len(self.streams) > 1 and (columns % len(self.streams) or columns == I3D):
            expected = "rgb and flow side by side, of equal widths"
            raise BadInput(self.where, f"{columns} columns", expected, "a single stream belongs in rgb/ or flow/")
        return columns // len(self.streams)

    def columns(self, array_TF: store.Features, stream: str) -> store.Features:
        """One stream's columns of the array."""
        width, position = array_TF.shape[1] // len(self.streams), self.streams.index(stream)
        return array_TF[:, position * width : (position + 1) * width]


@dataclass(frozen=True)
class Layout:
    """What a folder was recognised as.

    Attributes:
        name: of the feature layout.
        root: the folder.
        annotations: the JSON file or W-TALC's folder, where there is one.
        features: the folder of the features.
        arrays: every array that is there.
    """

    name: str
    root: Path
    annotations: Path | None
    features: Path
    arrays: list[Stored]

    def annotated(self) -> Annotations:
        """Read the annotations.

        Raises:
            BadInput: there are none, or they hold anything else.
        """
        if self.annotations is None:
            found = "neither annotations.json nor gt.json"
            raise BadInput(self.root, found, "one of the two", "layouts are in docs/datasets.md")
        if self.annotations.is_dir():
            return annotations.parse(self.annotations, wtalc.database(self.annotations))
        return annotations.load(self.annotations)

    def by_stream(self) -> dict[str, dict[str, Stored]]:
        """Stream → video id → array, rgb first.

        Raises:
            BadInput: a video has a stream twice.
        """
        files: dict[str, dict[str, Stored]] = {}
        for stream in STREAMS:
            found: dict[str, Stored] = {}
            for array in (array for array in self.arrays if stream in array.streams):
                if array.id in found:
                    expected = f"one array per video, as {found[array.id].where}"
                    raise BadInput(array.where, f"{array.id} again", expected, "remove one of the two")
                found[array.id] = array
            if found:
                files[stream] = found
        return files


def recognise(root: Path) -> Layout:
    """Find annotations and features below a folder; `DIR/activitynet1.2` means the 1.2 files of `DIR/activitynet`.

    Raises:
        BadInput: no such folder, no features in a known layout, or more than one layout.
    """
    version = ""
    if not root.exists() and (named := VERSIONED.fullmatch(root.name)) and root.with_name(named[1]).is_dir():
        root, version = root.with_name(named[1]), named[2]
    if not root.is_dir():
        raise BadInput(root, "no such folder", "a dataset folder", "um download and um extract make one")
    if version:
        described = [path for path in (root / f"annotations_{version}.json",) if path.is_file()]
    else:
        names = ("annotations.json", "gt.json", "annotations_?.?.json", "*-Annotations/videoname.npy")
        described = [path for name in names for path in sorted(root.glob(name))]
        described = [path.parent if path.suffix == ".npy" else path for path in described]
    if len(described) > 1:
        found = " and ".join(path.name for path in described)
        hint = "a version is chosen as activitynet1.2 for the folder activitynet; layouts are in docs/datasets.md"
        raise BadInput(root, found, "one of the two", hint)
    annotated = described[0] if described else None
    if annotated and (single := re.fullmatch(r"annotations_(\d\.\d)\.json", annotated.name)):
        version = single[1]
    folders = [root / f"features_{version}"] if version else [root / "features", root]
    for features in folders:
        found_here = {name: arrays for name, find in LAYOUTS.items() if (arrays := list(find(features)))}
        if len(found_here) > 1 and JOINT in found_here:
            found_here.pop(JOINT)  # any .npy looks like one
        if len(found_here) > 1:
            raise BadInput(features, " and ".join(found_here), "one of the two", "move the other features away")
        for name, arrays in found_here.items():
            return Layout(name, root, annotated, features, arrays)
    raise BadInput(folders[0], "no features in a known layout", "feature files", "layouts are in docs/datasets.md")


def _npy(path: Path, name: str, *streams: str) -> Stored:
    def shape() -> tuple[int, int]:
        try:
            found = np.lib.format.open_memmap(path, mode="r").shape
        except (OSError, ValueError, EOFError, SyntaxError):
            found = ()
        rows, columns = found if len(found) == 2 and all(found) else store.read(path).shape  # says what is wrong
        return rows, columns

    return Stored(video_id(name), streams, path, str(path), shape, lambda: store.load(path))


def _files(features: Path, pattern: str) -> list[Path]:
    return sorted([*features.glob(pattern), *features.glob(f"*/{pattern}")])


def _stream_folders(features: Path) -> Iterator[Stored]:
    for stream in STREAMS:
        for path in _files(features, f"{stream}/*.npy"):
            yield _npy(path, path.stem, stream)


def _stream_files(features: Path) -> Iterator[Stored]:
    for stream in STREAMS:
        for path in _files(features, f"*_{stream}.npy"):
            yield _npy(path, path.stem.removesuffix(f"_{stream}"), stream)


def _flow_beside(features: Path) -> Iterator[Stored]:
    if any(_files(features, "*-flow.npy")):
        for path in _files(features, "*.npy"):
            stream = "flow" if path.stem.endswith("-flow") else "rgb"
            yield _npy(path, path.stem.removesuffix("-flow"), stream)


def _package(features: Path) -> Iterator[Stored]:
    for path in sorted(features.glob(f"*{wtalc.FEATURES}")):
        package = wtalc.Package(path)
        for position, name in enumerate(package.names):
            yield _member(package, position, name)


def _member(package: wtalc.Package, position: int, name: str) -> Stored:
    where = f"{package.path}: {name}"
    return Stored(
        video_id(name),
        STREAMS,
        package.path,
        where,
        lambda: _two(where, package.shape(position)),
        lambda: package.take(position),
    )


def _hdf5(features: Path) -> Iterator[Stored]:
    for stream in STREAMS:
        for path in _files(features, f"feature_{stream}_*.h5"):
            try:
                with h5py.File(path) as file:
                    shapes = {name: getattr(array, "shape", ()) for name, array in file.items()}
            except (OSError, KeyError) as error:
                raise BadInput(path, f"no readable HDF5 ({error})", "a dataset per video", "is it whole?") from None
            for name, shape in shapes.items():
                yield _dataset(path, name, stream, shape)


def _dataset(path: Path, name: str, stream: str, shape: tuple[int, ...]) -> Stored:
    where = f"{path}: {name}"

    def load() -> NDArray[Any]:
        try:
            with h5py.File(path) as file:
                return np.asarray(file[name])
        except (OSError, ValueError, TypeError) as error:
            raise BadInput(where, f"no readable array ({error})", store.EXPECTED, "is the file whole?") from None

    return Stored(video_id(name), (stream,), path, where, lambda: _two(where, shape), load)


def _two(where: str, shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 2:
        raise BadInput(where, f"shape {shape}", store.EXPECTED, "is the file whole?")
    return shape[0], shape[1]


def _joint_files(features: Path) -> Iterator[Stored]:
    for path in _files(features, "*.npy"):
        if not path.parent.name.endswith(wtalc.ANNOTATIONS):
            yield _npy(path, path.stem, *STREAMS)


JOINT = "<id>.npy, rgb and flow side by side"
LAYOUTS: dict[str, Callable[[Path], Iterator[Stored]]] = {
    "{rgb,flow}/<id>.npy": _stream_folders,
    "<id>_{rgb,flow}.npy": _stream_files,
    "<id>.npy and <id>-flow.npy": _flow_beside,
    f"<name>{wtalc.FEATURES}": _package,
    "feature_{rgb,flow}_<subset>.h5": _hdf5,
    JOINT: _joint_files,
}
