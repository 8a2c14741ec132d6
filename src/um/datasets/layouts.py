"""The public layouts of annotations and features, recognised by their files.

annotations.json | gt.json | annotations_1.2.json          ActivityNet's format
<name>-Annotations/{videoname,subset,…}.npy                 W-TALC's arrays
features/<subset>/{rgb,flow}/<id>.npy                       ours, the official code, the seed code (features_1.2/…)
<id>_rgb.npy, <id>_flow.npy                                 ACRNet
<id>.npy, <id>-flow.npy                                     per-video files, flow beside rgb
<name>-I3D-JOINTFeatures.npy                                W-TALC: all videos in one file, rgb ‖ flow
feature_{rgb,flow}_{train,val}.h5                           ProCL: one dataset per video
<id>.npy                                                    A2CL-PT, ACM-Net: rgb ‖ flow

Feature files are in features/ or in the folder itself, directly or by subset.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from um.datasets import annotations, store, wtalc
from um.datasets.annotations import Annotations, video_id
from um.errors import BadInput, some
from um.files import sha256
from um.forms import Index, check_file, check_fits, read_json, validate
from um.journal import lines

STREAMS = ("rgb", "flow")
I3D = 1024  # columns of a single stream of Inception-I3D, never rgb and flow together
STRETCH, FREE = 100, 1 << 26  # compressed arrays may unpack to this many times their size, or this many bytes
VERSIONED = re.compile(r"(.+?)(\d\.\d)")  # activitynet1.2 means the _1.2 files in the folder activitynet


@dataclass(frozen=True)
class Stored:
    """One array of one video on disk.

    Attributes:
        id: of the video, normalised.
        streams: side by side in its columns, of equal widths.
        file: on disk; may hold several arrays.
        where: file, and the name in it if it holds several.
        shape: reads only (T, F); raises BadInput for another shape.
        load: reads the array, unchecked.
    """

    id: str
    streams: tuple[str, ...]
    file: Path
    where: str
    shape: Callable[[], tuple[int, int]]
    load: Callable[[], NDArray[Any]]

    def read(self) -> store.Features:
        """(T, F) floats, T >= 1, all finite; raises BadInput otherwise."""
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
    """A recognised folder.

    Attributes:
        name: of the feature layout.
        root: the folder.
        annotations: the JSON file or W-TALC's folder, if any.
        features: the folder of the features.
        arrays: all arrays found.
    """

    name: str
    root: Path
    annotations: Path | None
    features: Path
    arrays: list[Stored]

    def annotated(self) -> Annotations:
        """Read the annotations.

        Raises:
            BadInput: no annotations, or another format.
        """
        if self.annotations is None:
            found = "neither annotations.json nor gt.json"
            raise BadInput(self.root, found, "one of the two", "docs/datasets.md describes the layouts")
        return annotations.parse(self.annotations, annotation_content(self.annotations))

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
        raise BadInput(root, "no such folder", "a dataset folder", "um download and um extract create one")
    for folder in (root, *root.glob(f"*{wtalc.ANNOTATIONS}")):
        look(folder)
    described = annotation_files(root, version)
    if len(described) > 1:
        found = " and ".join(path.name for path in described)
        hint = "choose a version, e.g. activitynet1.2 in the folder activitynet; see docs/datasets.md"
        raise BadInput(root, found, "one of the two", hint)
    annotated = described[0] if described else None
    if annotated and (single := re.fullmatch(r"annotations_(\d\.\d)\.json", annotated.name)):
        version = single[1]
    folders = [root / f"features_{version}"] if version else [root / "features", root]
    for features in folders:
        look(features, 2)
        found_here = {name: arrays for name, find in LAYOUTS.items() if (arrays := list(find(features)))}
        check_ended(features, (array.file for arrays in found_here.values() for array in arrays))
        if len(found_here) > 1 and JOINT in found_here:
            found_here.pop(JOINT)  # any .npy looks like one
        if len(found_here) > 1:
            raise BadInput(features, " and ".join(found_here), "one of the two", "move the other features away")
        for name, arrays in found_here.items():
            return Layout(name, root, annotated, features, list(indexed(features, arrays)))
    others = [path.name for kind in FOREIGN for path in _files(folders[0], f"*.{kind}")]
    found = "no features in a known layout" + (f" but {some(sorted(others), 'file', 'files')}" if others else "")
    raise BadInput(folders[0], found, "feature files", "docs/datasets.md describes the layouts")


def annotation_files(root: Path, version: str = "") -> list[Path]:
    """The annotations in a folder: JSON files (of a version, if given) and W-TALC's folders."""
    if version:
        return [path for path in (root / f"annotations_{version}.json",) if path.is_file()]
    names = ("annotations.json", "gt.json", "annotations_?.?.json", f"*{wtalc.ANNOTATIONS}/videoname.npy")
    found = [path for name in names for path in sorted(root.glob(name))]
    return [path.parent if path.suffix == ".npy" else path for path in found]


def annotation_content(path: Path) -> Any:
    """Annotations in ActivityNet's format: a JSON file's content, or W-TALC's folder converted."""
    return wtalc.database(path) if path.is_dir() else read_json(path)


def look(folder: Path, depth: int = 0) -> None:
    """List a folder and its subfolders, because a glob treats unreadable ones as empty.

    Raises:
        PermissionError: one of them cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            below = [entry.path for entry in entries if depth and _is_folder(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in sorted(below):
        look(Path(path), depth - 1)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a visible folder or a link to one (but not to itself)."""
    linked = entry.is_symlink() and Path(entry.path).is_dir()
    return not entry.name.startswith(".") and (linked or entry.is_dir(follow_symlinks=False))


def check_ended(features: Path, files: Iterable[Path]) -> None:
    """Refuse features of an unfinished `um extract`: with a journal but without index.json.

    Raises:
        BadInput: an unfinished extraction.
    """
    files = list(files)
    names = ("journal.jsonl", "shards")
    for path in sorted({path for name in names for path in holders(features, files, name)}):
        found = [path] if path.is_file() else sorted(path.glob("*-of-*.jsonl"))
        if found and not os.path.lexists(path.with_name("index.json")) and _ours(found[0]):
            told = f"an unfinished extraction ({found[0].relative_to(path.parent)} without index.json)"
            hint = f"run the same `um extract` again; without {path.name}, features are used unchecked"
            raise BadInput(path.parent, told, "a finished one", hint)


def _ours(journal: Path) -> bool:
    try:
        lines(journal)
    except BadInput:  # another program's file
        return False
    return True


def covering(folder: Path, files: Sequence[Path]) -> Path:
    """The folder, or one up to two levels above whose index.json or spec.json covers these files."""
    return next((above for above in reversed(folder.parents[:2]) if _covers(above, files)), folder)


def _covers(folder: Path, files: Sequence[Path]) -> bool:
    try:
        content = read_json(folder / "index.json")
    except BadInput:  # absent or damaged; damage is reported later if the clock is ours
        return store.made(folder).keys() >= {"fps", "window"}
    listed = content.get("files") if isinstance(content, dict) else None
    return isinstance(listed, dict) and any(file.relative_to(folder).as_posix() in listed for file in files)


def holders(features: Path, files: Iterable[Path], name: str) -> list[Path]:
    """Files called `name` in a folder of features and in the folders between it and its `files`."""
    folders = {folder for path in {file.parent for file in files} for folder in (path, *path.parents)}
    inside = sorted(folder for folder in folders if folder.is_relative_to(features))
    return [folder / name for folder in dict.fromkeys([features, *inside]) if os.path.lexists(folder / name)]


def indexed(features: Path, arrays: Iterable[Stored]) -> Iterator[Stored]:
    """The arrays; if one of our index.json files covers them, reading checks them against it.

    Raises:
        BadInput: an invalid index.json, or one that does not match spec.json.
    """
    arrays = list(arrays)
    indexes: dict[Path, Index] = {}
    for path in holders(features, (array.file for array in arrays), "index.json"):
        content = read_json(path)
        if not isinstance(content, dict) or content.keys() & {"files", "spec"}:  # otherwise another program's file
            indexes[path.parent] = index = validate(Index, content, path)
            spec = path.with_name("spec.json")
            if index.spec and not (spec.is_file() and sha256(spec) == index.spec):
                found = "a spec.json that does not match index.json" if spec.is_file() else "no spec.json"
                raise BadInput(spec, found, f"sha256 {index.spec[:12]}…", store.RESTORE)
    for array in arrays:
        folder = next((folder for folder in array.file.parents if folder in indexes), None)
        yield _listed(array, folder, indexes[folder]) if folder and array.file.suffix == ".npy" else array


def _listed(array: Stored, folder: Path, index: Index) -> Stored:
    entry = index.files.get(array.file.relative_to(folder).as_posix())
    if entry:
        return replace(array, load=partial(store.load, array.file, entry.sha256))
    hint = "move it away; without index.json and journal.jsonl beside them, features are used unchecked"
    unlisted = BadInput(array.file, f"a file not listed in {folder / 'index.json'}", "listed files", hint)

    def refuse() -> NDArray[Any]:
        raise unlisted

    return replace(array, load=refuse)


def npy(path: Path, name: str, *streams: str) -> Stored:
    """The array of an .npy file."""
    return Stored(video_id(name), streams, path, str(path), partial(store.shape, path), partial(store.load, path))


def _files(features: Path, pattern: str) -> list[Path]:
    """Visible files of a folder and of its subfolders."""
    found = [*features.glob(pattern), *features.glob(f"*/{pattern}")]
    return sorted(path for path in found if not path.name.startswith("."))


def _stream_folders(features: Path) -> Iterator[Stored]:
    for stream in STREAMS:
        for path in _files(features, f"{stream}/*.npy"):
            yield npy(path, path.stem, stream)


def _stream_files(features: Path) -> Iterator[Stored]:
    for stream in STREAMS:
        for path in _files(features, f"*_{stream}.npy"):
            yield npy(path, path.stem.removesuffix(f"_{stream}"), stream)


def _flow_beside(features: Path) -> Iterator[Stored]:
    if any(_files(features, "*-flow.npy")):
        for path in _files(features, "*.npy"):
            stream = "flow" if path.stem.endswith("-flow") else "rgb"
            yield npy(path, path.stem.removesuffix("-flow"), stream)


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
        lambda: store.check_shape(where, *package.form(position)),
        lambda: package.take(position),
    )


def _hdf5(features: Path) -> Iterator[Stored]:
    for stream in STREAMS:
        for path in _files(features, f"feature_{stream}_*.h5"):
            check_file(path, "HDF5 with a dataset per video")
            try:
                with h5py.File(path, "r") as file:
                    declared = {name: _declared(path, file, name) for name in file}
            except BadInput:
                raise
            except Exception as error:  # a damaged file can fail anywhere in the library
                found = f"unreadable HDF5 ({error})"
                raise BadInput(path, found, "a dataset per video", "is the file complete?") from None
            for name, shape in declared.items():
                yield _dataset(path, name, stream, shape)


def _declared(path: Path, file: h5py.File, name: str) -> tuple[int, int] | BadInput:
    """(T, D) of a dataset, or why it cannot be used; all its values must be in this file."""
    where, hint = f"{path}: {name}", "use the file as published"

    def bad(found: str) -> BadInput:
        return BadInput(where, found, f"a dataset of {store.EXPECTED}", hint)

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return bad("a link")
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        return bad("a group")
    if found.is_virtual or found.external:
        return bad("values in other files")
    if found.shape is None or found.dtype.kind not in store.NUMBERS:
        return bad(f"values of type {found.dtype}")
    if not store.possible(found.shape):
        return bad("an impossible shape")
    needed, written = math.prod(found.shape) * found.dtype.itemsize, found.id.get_storage_size()
    written = min(written, path.stat().st_size)
    if found.chunks and found.id.get_create_plist().get_nfilters():
        chunks = math.prod(-(-n // size) for n, size in zip(found.shape, found.chunks, strict=True))
        if found.id.get_num_chunks() < chunks:
            return bad(f"{found.id.get_num_chunks()} of {chunks} chunks written")
        if needed > max(FREE, STRETCH * written):
            return bad(f"{needed:,} bytes compressed to {written:,}")
    elif written < needed:
        return bad(f"{written:,} of {needed:,} bytes written")
    try:
        return store.check_shape(where, found.dtype, found.shape)
    except BadInput as error:
        return error


def _dataset(path: Path, name: str, stream: str, declared: tuple[int, int] | BadInput) -> Stored:
    where = f"{path}: {name}"

    def shape() -> tuple[int, int]:
        if isinstance(declared, BadInput):
            raise declared
        return declared

    def load() -> NDArray[Any]:
        check_fits(where, math.prod(shape()) * 8, "an array", "split it")
        try:
            with h5py.File(path, "r") as file:
                return np.asarray(file[name])
        except Exception as error:  # a damaged file can fail anywhere in the library
            raise BadInput(where, f"unreadable array ({error})", store.EXPECTED, "is the file complete?") from None

    return Stored(video_id(name), (stream,), path, where, shape, load)


def _joint_files(features: Path) -> Iterator[Stored]:
    for path in _files(features, "*.npy"):
        if not path.parent.name.endswith(wtalc.ANNOTATIONS):
            yield npy(path, path.stem, *STREAMS)


FOREIGN = ("npz", "pt", "pth", "pkl", "pickle", "mat", "h5", "hdf5", "zip", "tar")
JOINT = "<id>.npy, rgb and flow side by side"
LAYOUTS: dict[str, Callable[[Path], Iterator[Stored]]] = {
    "{rgb,flow}/<id>.npy": _stream_folders,
    "<id>_{rgb,flow}.npy": _stream_files,
    "<id>.npy and <id>-flow.npy": _flow_beside,
    f"<name>{wtalc.FEATURES}": _package,
    "feature_{rgb,flow}_<subset>.h5": _hdf5,
    JOINT: _joint_files,
}
