"""Arrays that are not what they say: one line, exit code 2, at once, and no memory that a header asks for."""

import json
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers.convert import Dataset, make_official, procl, wtalc
from helpers.tiny import make_dataset
from hypothesis import given
from hypothesis import strategies as st

from um.datasets import store
from um.datasets.folder import Folder
from um.datasets.objects import read_objects
from um.datasets.subset import load_subset
from um.errors import BadInput
from um.files import sha256

VIDEO = "features/train/rgb/video_00.npy"
SHAPE = (27, 6)  # of that video


def npy(shape: object, dtype: str = "'<f4'", content: bytes = b"", version: int = 1, fortran: object = False) -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"
    return raw(text.encode(), content, version)


def raw(header: bytes, content: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(header) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + content


def saved(path: Path, array: np.ndarray) -> None:
    np.save(path, array)


FLOATS = np.ones(SHAPE, np.float32)
BAD: dict[str, bytes | Callable[[Path], object]] = {
    "nothing": b"",
    "a text": b"features",
    "the magic alone": b"\x93NUMPY",
    "half a header": npy(SHAPE)[:20],
    "another version": raw(b"{}", version=3),
    "a version that is none": raw(b"{}", version=9),
    "a header of 4 GB": raw(b"{}", version=2, length=2**32 - 1),
    "a header of 10 MB": raw(b" " * 10**7, version=2),
    "a header that is no dict": raw(b"[1, 2]\n"),
    "a header that calls": raw(b"__import__('os').system('touch hacked')\n"),
    "a header nested deep": raw(b"(" * 9000 + b"\n"),
    "a shape of text": npy("'27, 6'"),
    "a terabyte": npy((2**28, 1024)),
    "beyond all memory": npy((2**60, 2**60)),
    "a number of 3,000 digits": npy((int("9" * 3000), 6)),
    "a number of 9,000 digits": raw(b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 9000 + b", 6)}\n"),
    "negative": npy((-27, -6), content=FLOATS.tobytes()),
    "no values in endless axes": npy((2**40, 0)),
    "a type without bytes": npy((2**40, 2**40), "'V0'"),
    "no rows": npy((0, 6)),
    "no columns": npy((27, 0)),
    "no axis": npy((), content=b"1234"),
    "one axis": npy("(162,)", content=FLOATS.tobytes()),
    "three axes": npy((27, 6, 1), content=FLOATS.tobytes()),
    "crops": npy((27, 10, 6), content=FLOATS.tobytes() * 10),
    "maps of seven by seven": npy((27, 6, 7, 7), content=FLOATS.tobytes() * 49),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "cut in the header": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "two arrays in one file": lambda path: path.write_bytes(path.read_bytes() * 2),
    "objects": lambda path: np.save(path, np.array([[{}]], object), allow_pickle=True),
    "fields": lambda path: saved(path, np.zeros(SHAPE, [("a", "f4"), ("b", "f4")])),
    "arrays in a type": npy(SHAPE, "('<f4', (1000000,))"),
    "texts": lambda path: saved(path, np.full(SHAPE, "1.0")),
    "bytes": lambda path: saved(path, np.full(SHAPE, b"1.0")),
    "dates": lambda path: saved(path, np.zeros(SHAPE, "M8[s]")),
    "integers": lambda path: saved(path, np.ones(SHAPE, np.int64)),
    "bytes as numbers": lambda path: saved(path, np.ones(SHAPE, np.uint8)),
    "booleans": lambda path: saved(path, np.ones(SHAPE, bool)),
    "complex": lambda path: saved(path, np.ones(SHAPE, np.complex64)),
    "NaN alone": lambda path: saved(path, np.full(SHAPE, np.nan, np.float32)),
    "one NaN": lambda path: saved(path, np.where(np.arange(162).reshape(SHAPE) == 7, np.nan, 1).astype(np.float32)),
    "infinite": lambda path: saved(path, np.full(SHAPE, -np.inf, np.float16)),
    "beyond single precision": lambda path: saved(path, np.full(SHAPE, 1e300)),
    "a zip archive": lambda path: path.write_bytes(b"PK\3\4" + bytes(100)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nothing")),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
}  # fmt: skip


def refusal(read: Callable[[Path], object], path: Path) -> str:
    """The one line that reading ends with; empty when it does not."""
    try:
        read(path)
    except BadInput as error:
        return str(error)
    return ""


def spoil(path: Path, case: bytes | Callable[[Path], object]) -> None:
    path.write_bytes(case) if isinstance(case, bytes) else case(path)


def peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("case", BAD)
def test_an_npy_file_that_is_none(tmp_path, case):
    path = tmp_path / "a.npy"
    saved(path, FLOATS)
    spoil(path, BAD[case])
    started, before = time.perf_counter(), peak()
    for read in (store.read, lambda path: (store.shape(path), store.read(path))):
        with pytest.raises(BadInput) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1500
    assert time.perf_counter() - started < 2
    assert peak() - before < 100e6
    assert not Path("hacked").exists()


@pytest.mark.parametrize("case", BAD)
def test_features_that_are_none(um, tmp_path, case):
    root = make_dataset(tmp_path / "d")
    spoil(root / VIDEO, BAD[case])
    for words in (("train", "--data-dir", root, "--out", "model"), ("features", "inspect", root)):
        code, _, errors = um(*words)
        assert code == 2, errors
        assert errors.splitlines()[-1].startswith("um: ")
        assert errors.count("um: ") == 1


GOOD = {
    "big-endian": lambda array: array.astype(">f4"),
    "double": lambda array: array.astype(np.float64),
    "half": lambda array: array.astype(np.float16),
    "Fortran": np.asfortranarray,
    "maps of one place": lambda array: array[:, :, None, None],
    "maps of one place, channels last": lambda array: array[:, None, None, :],
}


@pytest.mark.parametrize("case", GOOD)
def test_forms_that_are_right(um, tmp_path, case):
    plain, root = make_dataset(tmp_path / "plain"), make_dataset(tmp_path / "d")
    for path in root.rglob("*.npy"):
        saved(path, GOOD[case](np.load(path)))
    ours, expected = (load_subset(Folder(path), "train").packed_NF for path in (root, plain))
    assert torch.equal(ours, expected.half().float() if case == "half" else expected)
    assert um("features", "inspect", root)[0] == 0


def test_version_2_and_python_2_headers(tmp_path):
    (tmp_path / "two.npy").write_bytes(npy(SHAPE, content=FLOATS.tobytes(), version=2))
    (tmp_path / "python.npy").write_bytes(npy("(27L, 6L)", content=FLOATS.tobytes()))
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(store.read(path), FLOATS)


@given(st.data())
def test_a_damaged_npy_file_is_read_or_one_line(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    content = bytearray(npy((5, 3), content=np.ones((5, 3), np.float32).tobytes()))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    assert "\n" not in refusal(store.read, path)


def test_hidden_files_are_not_features(um, tmp_path):
    root = make_dataset(tmp_path / "d")
    (root / VIDEO).with_name("._video_00.npy").write_bytes(b"\0\5\x16\7")
    (root / VIDEO).with_name(".um-01234567-1.part.npy").write_bytes(b"")
    assert um("features", "inspect", root)[0] == 0


def test_files_of_another_kind_are_named(um, tmp_path):
    (tmp_path / "d/features").mkdir(parents=True)
    np.savez(tmp_path / "d/features/a.npz", rgb=FLOATS)
    assert "but 1 file (a.npz)" in um("features", "inspect", tmp_path / "d")[2]


def test_more_than_memory_is_refused_before_it_is_asked_for(tmp_path, monkeypatch):
    root = make_dataset(tmp_path / "d")
    needed = load_subset(Folder(root), "train").packed_NF.nbytes
    monkeypatch.setattr("um.forms.memory", lambda: needed // 2)
    with pytest.raises(BadInput, match=r"features in memory.*--resident float16 halves it"):
        load_subset(Folder(root), "train")
    load_subset(Folder(root), "train", torch.float16)


def test_both_subsets_count(tmp_path, monkeypatch):
    folder = Folder(make_dataset(tmp_path / "d"))
    load_subset(folder, "train")
    monkeypatch.setattr("um.forms.memory", lambda: folder.held["train"] + 100)
    with pytest.raises(BadInput, match="features in memory"):
        load_subset(folder, "test")


def compressed(file: h5py.File, name: str, shape: tuple[int, int]) -> None:
    file.create_dataset(name, shape, "f4", chunks=(shape[0] // 64, shape[1]), compression="gzip")
    for first in range(0, shape[0], shape[0] // 64):
        file[name].id.write_direct_chunk((first, 0), b"x\x9c\x03\0\0\0\0\1")


def virtual(file: h5py.File, name: str, path: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[:] = h5py.VirtualSource(path.parent / "other.h5", "x", SHAPE)
    file.create_virtual_dataset(name, layout)


HDF5 = {
    "a group": lambda file, name, path: file.create_group(name).create_dataset("x", data=FLOATS),
    "a soft link": lambda file, name, path: file.__setitem__(name, h5py.SoftLink("/v_abcdefghi07")),
    "a broken link": lambda file, name, path: file.__setitem__(name, h5py.SoftLink("/nowhere")),
    "a link to itself": lambda file, name, path: file.__setitem__(name, h5py.SoftLink(f"/{name}")),
    "a file elsewhere": lambda file, name, path: file.__setitem__(name, h5py.ExternalLink("/etc/passwd", "/x")),
    "raw bytes elsewhere": lambda file, name, path: file.create_dataset(
        name, SHAPE, "f4", external=[("/etc/passwd", 0, 744)]
    ),
    "virtual": virtual,
    "nothing written": lambda file, name, path: file.create_dataset(name, SHAPE, "f4"),
    "a terabyte of the fill value": lambda file, name, path: file.create_dataset(
        name, (2**28, 1024), "f4", chunks=(1024, 1024), fillvalue=1.0
    ),
    "chunks that are not there": lambda file, name, path: file.create_dataset(
        name, (2**28, 1024), "f4", chunks=(1024, 1024), compression="gzip"
    ),
    "compressed a thousandfold": lambda file, name, path: compressed(file, name, (2**20, 64)),
    "fields": lambda file, name, path: file.create_dataset(name, data=np.zeros(SHAPE, [("a", "f4"), ("b", "f4")])),
    "lists": lambda file, name, path: file.create_dataset(name, SHAPE, h5py.vlen_dtype(np.float32)),
    "texts": lambda file, name, path: file.create_dataset(name, data="features"),
    "no space": lambda file, name, path: file.create_dataset(name, data=h5py.Empty("f4")),
    "integers": lambda file, name, path: file.create_dataset(name, data=FLOATS.astype(int)),
    "one axis": lambda file, name, path: file.create_dataset(name, data=np.ones(5, np.float32)),
    "no rows": lambda file, name, path: file.create_dataset(name, (0, 6), "f4"),
    "NaN": lambda file, name, path: file.create_dataset(name, data=np.full_like(FLOATS, np.nan)),
}


@pytest.mark.parametrize("case", HDF5)
def test_an_hdf5_dataset_that_is_none(um, tmp_path, case):
    data = Dataset(make_official(tmp_path / "official"))
    rows = len(data.features["abcdefghi06"]["rgb"])
    root = procl(data, tmp_path / "other")
    with h5py.File(root / "feature_rgb_val.h5", "a") as file:
        del file["v_abcdefghi06"]
        HDF5[case](file, "v_abcdefghi06", root / "feature_rgb_val.h5")
        if case == "NaN":
            del file["v_abcdefghi06"]
            file["v_abcdefghi06"] = np.full((rows, 6), np.nan, np.float32)
    started, before = time.perf_counter(), peak()
    code, _, errors = um("features", "inspect", root)
    assert code == 2
    assert "v_abcdefghi06: found" in errors.splitlines()[-1], errors
    with pytest.raises(BadInput, match="v_abcdefghi06: found"):
        load_subset(Folder(root), "test")
    assert time.perf_counter() - started < 4
    assert peak() - before < 200e6


def test_compressed_and_chunked_features_are_right(tmp_path):
    data = Dataset(make_official(tmp_path / "official"))
    plain, root = procl(data, tmp_path / "plain"), procl(data, tmp_path / "other")
    for path in root.glob("*.h5"):
        with h5py.File(path, "a") as file:
            for name in list(file):
                values = file[name][()]
                del file[name]
                file.create_dataset(name, data=values, chunks=(4, 4), compression="gzip", shuffle=True)
    assert torch.equal(*(load_subset(Folder(path), "test").packed_NF for path in (root, plain)))


def test_a_pipe_for_hdf5(um, tmp_path):
    root = procl(Dataset(make_official(tmp_path / "official")), tmp_path / "other")
    (root / "feature_rgb_val.h5").unlink()
    os.mkfifo(root / "feature_rgb_val.h5")
    assert "a pipe or a device" in um("features", "inspect", root)[2]


def doubling(levels: int) -> list:
    value: list = [1.0, 1.0]
    for _ in range(levels):
        value = [value, value]
    return value


def cycle() -> list:
    value: list = []
    value.append(value)
    return value


def nested() -> list:
    value: list = []
    for _ in range(300):
        value = [value]
    return value


def pickled(content: bytes) -> bytes:
    return npy("(1,)", "'|O'", content)


def array_of(shape: tuple[int, ...], dtype: bytes = b"f4") -> bytes:
    state = pickle.dumps((1, shape), 2)[2:-1]  # its frame and its end left out
    del state
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\x01btR"
    axes = b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in shape) + b"t"
    kind = b"cnumpy\ndtype\n(U" + bytes([len(dtype)]) + dtype + b"K\0K\x01tR"
    return head + b"(K\x01" + axes + kind + b"\x89U\0tb."


OBJECTS = {
    "unfolds to 2^30 values": lambda path: np.save(path, as_objects([doubling(30)]), allow_pickle=True),
    "holds itself": lambda path: np.save(path, as_objects([cycle()]), allow_pickle=True),
    "bytes of 2^60": lambda path: path.write_bytes(pickled(b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x.")),
    "bytes of 2^32": lambda path: path.write_bytes(pickled(b"\x80\x04B" + struct.pack("<I", 2**32 - 1) + b"x.")),
    "a text of 2 GB": lambda path: path.write_bytes(pickled(b"\x80\x02T" + struct.pack("<i", 2**31 - 1) + b"x.")),
    "a frame of 2^60": lambda path: path.write_bytes(pickled(b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.")),
    "far out in the memo": lambda path: path.write_bytes(pickled(b"\x80\x02Nr\xff\xff\xff\x7f.")),
    "far out in the memo, as text": lambda path: path.write_bytes(pickled(b"Np2147483647\n.")),
    "no end": lambda path: path.write_bytes(pickled(b"\x80\x02N")),
    "no line end": lambda path: path.write_bytes(pickled(b"I12345")),
    "no pickle": lambda path: path.write_bytes(pickled(b"\xff\xff")),
    "axes of 2^40 without a value": lambda path: path.write_bytes(pickled(array_of((2**40, 0)))),
    "a negative axis": lambda path: path.write_bytes(pickled(array_of((-1,)))),
    "a terabyte": lambda path: path.write_bytes(npy((2**37,), "'<f8'")),
    "long texts": lambda path: path.write_bytes(npy("(10,)", "'S1000000000'")),
    "no axis": lambda path: path.write_bytes(npy("()", "'|O'", b"N.")),
    "a pipe": lambda path: os.mkfifo(path),
    "a folder": lambda path: path.mkdir(),
}


def as_objects(values: list) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize("case", OBJECTS)
def test_an_object_array_that_is_none(tmp_path, case):
    path = tmp_path / "objects.npy"
    OBJECTS[case](path)
    started, before = time.perf_counter(), peak()
    line = refusal(read_objects, path)
    assert line
    assert "\n" not in line
    assert len(line) < 1500
    assert time.perf_counter() - started < 4
    assert peak() - before < 300e6


@given(st.data())
def test_a_damaged_object_array_is_read_or_one_line(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged-objects.npy"
    np.save(path, as_objects([[b"run", 1.5], np.ones((2, 3), np.float32), "jump"]), allow_pickle=True)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    assert "\n" not in refusal(read_objects, path)


@pytest.mark.parametrize("kind", ["segments", "labels", "labels_all", "subset", "duration", "videoname", "classlist"])
@pytest.mark.parametrize("values", [[None] * 10, [10**400] * 10, [[[1, 2, 3]]] * 10, [{}] * 10, [np.nan] * 3, []])
def test_annotation_arrays_of_anything_are_one_line(um, tmp_path, kind, values):
    root = wtalc(Dataset(make_official(tmp_path / "official")), tmp_path / "other")
    np.save(root / f"Thumos14reduced-Annotations/{kind}.npy", as_objects(values), allow_pickle=True)
    code, _, errors = um("features", "inspect", root)
    nothing_said = (kind, values) in (("duration", [None] * 10), ("labels_all", [{}] * 10))
    assert code == (0 if nothing_said else 2), errors


def indexed(root: Path) -> Path:
    """An index and a spec.json as um extract writes them."""
    folder = root / "features"
    (folder / "spec.json").write_text('{"fps": 25.0, "window": 16, "stride": 16}')
    files = {
        path.relative_to(folder).as_posix(): {
            "sha256": sha256(path),
            "snippets": len(np.load(path)),
            "source_sha256": "0" * 64,
        }
        for path in sorted(folder.rglob("*.npy"))
    }
    (folder / "index.json").write_text(json.dumps({"spec": sha256(folder / "spec.json"), "files": files}))
    return root


def swap(root: Path) -> None:
    path = root / VIDEO
    before = path.stat()
    np.save(path, np.load(path)[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # size and time say nothing


def unlist(root: Path) -> None:
    path = root / "features/index.json"
    index = json.loads(path.read_text())
    del index["files"]["train/rgb/video_00.npy"]
    path.write_text(json.dumps(index))


SWAPPED = {
    "another file": (swap, r"video_00\.npy: found a file that does not match index\.json"),
    "one that is not listed": (unlist, r"video_00\.npy: found a file not listed in .*index\.json"),
    "another spec.json": (
        lambda root: (root / "features/spec.json").write_text('{"fps": 25.0, "window": 16, "stride": 16 }'),
        r"spec\.json: found a spec\.json that does not match index\.json",
    ),
    "no spec.json": (lambda root: (root / "features/spec.json").unlink(), "found no spec.json"),
    "an index that is none": (
        lambda root: (root / "features/index.json").write_text('{"files": {"a": 1}}'),
        r"index\.json: found files\.a = 1",
    ),
    "an index that is cut": (
        lambda root: (root / "features/index.json").write_text('{"files": {"a"'),
        r"index\.json: found",
    ),
}


@pytest.mark.parametrize("case", SWAPPED)
def test_features_are_compared_with_their_index(um, tmp_path, case):
    import re

    root = indexed(make_dataset(tmp_path / "d"))
    assert um("features", "inspect", root)[0] == 0
    change, message = SWAPPED[case]
    change(root)
    for words in (("train", "--data-dir", root, "--out", "model"), ("features", "inspect", root)):
        code, _, errors = um(*words)
        assert code == 2
        assert re.search(message, errors.splitlines()[-1]), errors
    (root / "features/index.json").unlink()  # what the hint says of features that are meant to be other ones
    assert um("features", "inspect", root)[0] == 0


def test_an_index_of_somebody_else_is_left_alone(um, tmp_path):
    root = make_dataset(tmp_path / "d")
    (root / "features/index.json").write_text('{"pages": []}')
    assert um("features", "inspect", root)[0] == 0


def test_a_swapped_file_is_extracted_again(tmp_path):
    """What the error advises: the ledger that um extract works by no longer holds the file."""
    from um.features.ledger import Ledger

    root = indexed(make_dataset(tmp_path / "d"))
    spec = json.loads((root / "features/spec.json").read_text())
    swap(root)
    ledger = Ledger(root / "features", spec, {"train/rgb/video_00.npy", "train/rgb/video_01.npy"})
    assert not ledger.holds("train/rgb/video_00.npy", "0" * 64)
    assert ledger.holds("train/rgb/video_01.npy", "0" * 64)


def weights_zip(path: Path) -> None:
    torch.save({"a": torch.ones(3)}, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/9", bytes(10**7))


def state(**changed: object) -> dict[str, object]:
    from um.features.backbones import build

    return build("i3d-inception", None).state_dict() | changed


FIRST = "backbone.Conv3d_1a_7x7.conv3d.weight"
VARIANCE = "backbone.Conv3d_1a_7x7.bn.running_var"
WEIGHTS = {
    "NaN": (lambda: state(**{FIRST: torch.full((64, 3, 7, 7, 7), torch.nan)}), "NaN"),
    "integers": (
        lambda: state(**{FIRST: torch.ones((64, 3, 7, 7, 7), dtype=torch.int64)}),
        "of another shape, type or value",
    ),
    "a negative variance": (lambda: state(**{VARIANCE: torch.full((64,), -1.0)}), "running_var"),
    "an extra key": (lambda: state(extra=torch.ones(1)), "1 tensor .extra. unknown"),
    "keys that are numbers": (lambda: {1: torch.ones(1), "a": torch.ones(1)}, "no state_dict"),
    "a list": (lambda: {"state_dict": [torch.ones(1)]}, "no state_dict"),
    "nested": (lambda: {"state_dict": {"a": {"b": torch.ones(1)}}}, "no state_dict"),
    "one value, spread over a terabyte": (
        lambda: {"a": torch.ones(1).expand(2**19, 2**19)},
        "missing, 1 tensor .a. unknown",
    ),
    "sparse": (lambda: state(**{FIRST: torch.ones((64, 3, 7, 7, 7)).to_sparse()}), "dense"),
    "half of the public port's head": (lambda: {"logits.conv3d.weight": torch.ones(3)}, "missing"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_are_none(tmp_path, case):
    from um.features.backbones import build

    make, message = WEIGHTS[case]
    torch.save(make(), tmp_path / "w.pth")
    with pytest.raises(BadInput, match=message) as caught:
        build("i3d-inception", tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


def test_weights_in_files_that_are_none(tmp_path):
    from um.features.backbones import build

    weights_zip(tmp_path / "bomb.pth")
    (tmp_path / "header.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    deep = b'{"a":' * 10_000
    (tmp_path / "deep.safetensors").write_bytes(struct.pack("<Q", len(deep)) + deep)
    entry = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (tmp_path / "huge.safetensors").write_bytes(struct.pack("<Q", len(entry)) + entry)
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "folder.pth").mkdir()
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(BadInput, match=path.name) as caught:
            build("i3d-inception", path)
        assert "\n" not in str(caught.value)
