"""The public layouts of a dataset, written in their real form from the official code's; positions are shuffled."""

import io
import json
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np

from helpers.tiny import make_dataset

STREAMS = ("rgb", "flow")


class Dataset:
    """What a folder in the official layout holds; ids of 11 characters are written with `v_`."""

    def __init__(self, root: Path) -> None:
        database = json.loads((root / "gt.json").read_text())["database"]
        self.entries = dict(random.Random(1).sample(sorted(database.items()), len(database)))
        self.features = {
            name: {s: np.load(root / "features" / entry["subset"] / s / f"{name}.npy") for s in STREAMS}
            for name, entry in self.entries.items()
        }

    def annotations(self, path: Path, **subsets: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        renamed = {file(n): e | {"subset": subsets.get(e["subset"], e["subset"])} for n, e in self.entries.items()}
        path.write_text(json.dumps({"database": renamed}))

    def joint(self, name: str) -> np.ndarray:
        return np.concatenate([self.features[name][stream] for stream in STREAMS], axis=1)


def file(name: str) -> str:
    return f"v_{name}" if len(name) == 11 else name


def make_official(root: Path) -> Path:
    """The tiny dataset with rgb and flow and YouTube's length of ids."""
    make_dataset(root, official=True, streams=STREAMS)
    for path in [root / "gt.json", *root.glob("split_*.txt")]:
        path.write_text(path.read_text().replace("video_", "abcdefghi"))
    for path in list(root.glob("features/*/*/*.npy")):
        path.rename(path.with_name(path.name.replace("video_", "abcdefghi")))
    return root


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def seed_thumos14(data: Dataset, root: Path) -> Path:
    data.annotations(root / "thumos14/annotations.json", train="val")
    for name, entry in data.entries.items():
        subset = {"train": "val", "test": "test"}[entry["subset"]]
        for stream in STREAMS:
            save(root / "thumos14/features" / subset / stream / f"{file(name)}.npy", data.features[name][stream])
    return root / "thumos14"


def seed_activitynet(data: Dataset, root: Path) -> Path:
    """Two versions in one folder; those of 1.3 are other features."""
    for version, change in (("1.2", 0), ("1.3", 1)):
        data.annotations(root / f"activitynet/annotations_{version}.json", train="training", test="validation")
        for name, entry in data.entries.items():
            subset = {"train": "train", "test": "val"}[entry["subset"]]
            for stream in STREAMS:
                path = root / f"activitynet/features_{version}" / subset / stream / f"{file(name)}.npy"
                save(path, data.features[name][stream] + change)
    return root / "activitynet1.2"


class Python2Pickler(pickle._Pickler):
    """Writes arrays as numpy under Python 2 did: bytes and texts are its plain strings."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value: bytes | str) -> None:
        data = value if isinstance(value, bytes) else value.encode()
        short = len(data) < 256
        self.write((b"U" + bytes([len(data)]) if short else b"T" + struct.pack("<i", len(data))) + data)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_string


def save_objects(path: Path, values: list, python: int = 2) -> None:
    """An object array as np.save writes it under Python 2 (as W-TALC's are), or 3."""
    array = np.empty(len(values), object)
    array[:] = values
    path.parent.mkdir(parents=True, exist_ok=True)
    if python == 3:
        np.save(path, array)
        return
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(array)
    with path.open("wb") as target:
        np.lib.format.write_array_header_1_0(target, np.lib.format.header_data_from_array_1_0(array))
        target.write(stream.getvalue().replace(b"cnumpy._core.", b"cnumpy.core."))


def wtalc_annotations(data: Dataset, folder: Path, python: int = 2, **subsets: str) -> None:
    entries = data.entries.values()
    labels = [[item["label"].encode() for item in entry["annotations"]] for entry in entries]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "videoname.npy", np.array([file(name).encode() for name in data.entries]))
    np.save(folder / "subset.npy", np.array([subsets[entry["subset"]].encode() for entry in entries]))
    np.save(folder / "classlist.npy", np.array(sorted({label for listed in labels for label in listed})))
    np.save(folder / "duration.npy", np.array([entry.get("duration", 0) for entry in entries]))
    np.save(folder / "extracted_fps.npy", np.full(len(labels), 10))
    save_objects(folder / "labels.npy", labels, python)
    save_objects(folder / "labels_all.npy", [sorted(set(listed)) for listed in labels], python)
    segments = [[[float(s) for s in item["segment"]] for item in entry["annotations"]] for entry in entries]
    save_objects(folder / "segments.npy", segments, python)


def wtalc(data: Dataset, root: Path, python: int = 2) -> Path:
    wtalc_annotations(data, root / "Thumos14reduced-Annotations", python, train="validation", test="test")
    arrays = [data.joint(name) for name in data.entries]
    save_objects(root / "Thumos14reduced-I3D-JOINTFeatures.npy", arrays, python)
    return root


def wtalc_python3(data: Dataset, root: Path) -> Path:
    return wtalc(data, root, python=3)


def acm_net(data: Dataset, root: Path) -> Path:
    data.annotations(root / "gt.json", test="val")
    for role, folder in (("train", "train"), ("test", "val")):
        names = [name for name, entry in data.entries.items() if entry["subset"] == role]
        (root / f"split_{role}.txt").write_text("\n".join(map(file, names)) + "\n")
        for name in names:
            save(root / folder / f"{file(name)}.npy", data.joint(name))
    return root


def a2cl_pt(data: Dataset, root: Path) -> Path:
    data.annotations(root / "gt.json", test="val")
    for name in data.entries:
        save(root / "features" / f"{file(name)}.npy", data.joint(name))
    return root


def procl(data: Dataset, root: Path) -> Path:
    wtalc_annotations(data, root / "ActivityNet1.3-Annotations", train="train", test="val")
    for stream in STREAMS:
        for role, subset in (("train", "train"), ("test", "val")):
            with h5py.File(root / f"feature_{stream}_{subset}.h5", "w") as target:
                for name, entry in data.entries.items():
                    if entry["subset"] == role:
                        target[file(name)] = data.features[name][stream]
    return root


def acrnet(data: Dataset, root: Path) -> Path:
    data.annotations(root / "annotations.json")
    for name in data.entries:
        for stream in STREAMS:
            save(root / "features" / f"{file(name)}_{stream}.npy", data.features[name][stream])
    return root


def flow_beside(data: Dataset, root: Path) -> Path:
    data.annotations(root / "annotations.json")
    for name, entry in data.entries.items():
        for stream, suffix in (("rgb", ""), ("flow", "-flow")):
            save(root / "features" / entry["subset"] / f"{file(name)}{suffix}.npy", data.features[name][stream])
    return root


LAYOUTS: dict[str, Callable[[Dataset, Path], Path]] = {
    make.__name__: make
    for make in (
        seed_thumos14,
        seed_activitynet,
        wtalc,
        wtalc_python3,
        acm_net,
        a2cl_pt,
        procl,
        acrnet,
        flow_beside,
    )
}
