"""Every public layout is read to what the official one gives, by video id; what does not fit is named."""

import json
import pickle
import shutil
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers.convert import LAYOUTS, Dataset, make_official, procl, save_objects, seed_activitynet, wtalc
from helpers.oracle import OFFICIAL
from helpers.tiny import SNIPPET, make_dataset

from um.datasets import annotations
from um.datasets.folder import Folder
from um.datasets.layouts import recognise
from um.datasets.objects import read_objects
from um.datasets.subset import load_subset
from um.errors import BadInput
from um.test import test as run_test


@pytest.fixture
def official(tmp_path) -> Path:
    return make_official(tmp_path / "official")


@pytest.fixture
def data(official) -> Dataset:
    return Dataset(official)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_same_data(official, data, tmp_path, layout):
    expected, folder = Folder(official), Folder(LAYOUTS[layout](data, tmp_path / "other"))
    assert folder.streams == ["rgb", "flow"]
    assert folder.classes == expected.classes
    for role in ("train", "test"):
        ours, theirs = load_subset(folder, role), load_subset(expected, role)
        assert [video.id for video in ours.videos] == [video.id for video in theirs.videos]
        assert [video.instances for video in ours.videos] == [video.instances for video in theirs.videos]
        assert torch.equal(ours.packed_NF, theirs.packed_NF)
        assert torch.equal(ours.labels(folder.classes), theirs.labels(folder.classes))
        assert ours.fingerprint == theirs.fingerprint
    assert torch.equal(load_subset(folder, "train").packed_NF, load_subset(expected, "train").packed_NF)  # once more


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_single_stream_of_every_layout(official, data, tmp_path, layout):
    root = LAYOUTS[layout](data, tmp_path / "other")
    for stream in ("rgb", "flow"):
        ours, theirs = (load_subset(Folder(path, stream), "test") for path in (root, official))
        assert ours.fingerprint == theirs.fingerprint


def outcome(golden, root, out):
    """Metrics and predictions of the golden model."""
    metrics = run_test(root, golden / "model_seed_11.pkl", out, OFFICIAL, torch.device("cpu"))
    return metrics, json.loads((out / "predictions.json").read_text())


@pytest.fixture(scope="module")
def expected(reference_data, tmp_path_factory):
    golden = reference_data / "golden"
    return outcome(golden, golden / "dataset", tmp_path_factory.mktemp("official"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_golden_dataset_in_every_layout(reference_data, expected, tmp_path, layout):
    golden = reference_data / "golden"
    root = LAYOUTS[layout](Dataset(golden / "dataset"), tmp_path / "other")
    metrics, predictions = outcome(golden, root, tmp_path / "out")
    scores = json.loads((golden / "scores.json").read_text())
    assert metrics["average_mAP"] == pytest.approx(scores["average_mAP"], abs=1e-6)
    assert metrics["mAP"] == expected[0]["mAP"]
    assert predictions == expected[1]


def test_half_precision_in_memory(official, tmp_path):
    single, half = (load_subset(Folder(official), "train", dtype) for dtype in (torch.float32, torch.float16))
    assert half.packed_NF.dtype == torch.float16
    assert half.features(2).dtype == torch.float32
    torch.testing.assert_close(half.features(2), single.features(2), rtol=1e-3, atol=1e-3)
    assert half.fingerprint == load_subset(Folder(official), "train", torch.float16).fingerprint != single.fingerprint
    path = official / "features/train/rgb/abcdefghi00.npy"
    np.save(path, np.load(path) + 1e5)
    load_subset(Folder(official), "train")
    with pytest.raises(BadInput, match="abcdefghi00 with values above 65504"):
        load_subset(Folder(official), "train", torch.float16)


@pytest.mark.parametrize("layout", ["acrnet", "a2cl_pt", "procl"])
def test_features_are_not_held_twice(tmp_path, data, layout):
    for streams in data.features.values():
        streams.update({stream: np.ones((1000, 64), np.float32) for stream in streams})
    for entry in data.entries.values():
        entry["duration"] = 1000 * SNIPPET
    folder = Folder(LAYOUTS[layout](data, tmp_path / "other"))
    tracemalloc.start()  # of numpy's memory; the packed tensor is PyTorch's
    subset = load_subset(folder, "train")
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    video = subset.packed_NF.nbytes // 6
    assert peak < 2.5 * video
    assert held < video


def test_versions_of_one_folder(data, tmp_path):
    root = seed_activitynet(data, tmp_path).with_name("activitynet")
    with pytest.raises(BadInput, match=r"annotations_1\.2\.json and annotations_1\.3\.json.*activitynet1\.2"):
        Folder(root)
    one, two = (load_subset(Folder(root.with_name(f"activitynet1.{minor}")), "test").packed_NF for minor in (2, 3))
    assert torch.equal(one + 1, two)
    with pytest.raises(BadInput, match=r"features_1\.4: found no features"):
        Folder(root.with_name("activitynet1.4"))
    shutil.rmtree(root / "features_1.3")
    (root / "annotations_1.3.json").unlink()
    assert torch.equal(load_subset(Folder(root), "test").packed_NF, one)


def test_official_lists_choose_from_a_package(data, official, tmp_path):
    root = wtalc(data, tmp_path / "other")
    (root / "split_test.txt").write_text("abcdefghi08\nabcdefghi06\n")
    assert [video.id for video in load_subset(Folder(root), "test").videos] == ["abcdefghi06", "abcdefghi08"]


def test_segments_without_a_class(data, tmp_path):
    """As THUMOS14's video_test_0000270 in W-TALC's package: segments, but no labels."""
    data.entries["abcdefghi06"]["annotations"] *= 2
    root = wtalc(data, tmp_path / "other")
    folder = root / "Thumos14reduced-Annotations"
    labels = [[item["label"].encode() for item in entry["annotations"]] for entry in data.entries.values()]
    labels[list(data.entries).index("abcdefghi06")] = []
    for kind in ("labels", "labels_all"):
        save_objects(folder / f"{kind}.npy", [sorted(listed) for listed in labels])
    (video, *others) = load_subset(Folder(root), "test").videos
    assert video.id == "abcdefghi06"
    assert not video.instances
    assert all(other.instances for other in others)


def lengthen(root: Path) -> None:
    path = root / "features/abcdefghi03_flow.npy"
    path = path if path.exists() else root / "features/v_abcdefghi03_flow.npy"
    np.save(path, np.load(path)[:-1])


MISMATCHES = {
    "rgb and flow of different lengths": ("acrnet", lengthen, "1 video .abcdefghi03.*equal lengths"),
    "a video without flow": (
        "acrnet",
        lambda root: (root / "features/v_abcdefghi07_flow.npy").unlink(),
        "no flow features of 1 video .abcdefghi07",
    ),
    "videos without annotation": (
        "a2cl_pt",
        lambda root: [
            shutil.copy(root / "features/v_abcdefghi00.npy", root / f"features/v_zbcdefghi0{number}.npy")
            for number in range(4)
        ],
        "features of 4 videos .zbcdefghi00, zbcdefghi01, zbcdefghi02, ….* without annotation",
    ),
    "a video twice": (
        "acm_net",
        lambda root: shutil.copy(root / "train/v_abcdefghi00.npy", root / "val/abcdefghi00.npy"),
        "abcdefghi00 again",
    ),
    "a single stream for two": (
        "a2cl_pt",
        lambda root: np.save(root / "features/v_abcdefghi00.npy", np.ones((5, 1024), np.float32)),
        "1024 columns.*rgb/ or flow/",
    ),
    "columns that are not two streams": (
        "a2cl_pt",
        lambda root: np.save(root / "features/v_abcdefghi00.npy", np.ones((5, 13), np.float32)),
        "13 columns",
    ),
    "fewer arrays than names": (
        "wtalc",
        lambda root: save_objects(root / "Thumos14reduced-I3D-JOINTFeatures.npy", [np.ones((5, 12))] * 9),
        "9 arrays.*10",
    ),
    "fewer labels than names": (
        "wtalc",
        lambda root: save_objects(root / "Thumos14reduced-Annotations/labels.npy", [[b"run"]] * 9),
        "9 entries.*10",
    ),
    "labels that do not fit the segments": (
        "wtalc",
        lambda root: save_objects(root / "Thumos14reduced-Annotations/labels.npy", [[b"run", b"run"]] * 10),
        "different numbers of labels and segments in 10 videos",
    ),
    "labels that are lost": (
        "wtalc",
        lambda root: save_objects(root / "Thumos14reduced-Annotations/labels_all.npy", [[b"run", b"jump"]] * 10),
        "labels and labels_all that differ in 10 videos",
    ),
    "labels of no class": (
        "wtalc",
        lambda root: np.save(root / "Thumos14reduced-Annotations/classlist.npy", np.array([b"jump", b"run"])),
        r"labels outside classlist.npy in \d videos",
    ),
    "an id twice in a package": (
        "wtalc",
        lambda root: np.save(root / "Thumos14reduced-Annotations/videoname.npy", np.array([b"abcdefghi00"] * 10)),
        "abcdefghi00",
    ),
    "no ids": (
        "wtalc",
        lambda root: (root / "Thumos14reduced-Annotations/videoname.npy").unlink(),
        "videoname.npy",
    ),
    "times that are texts": (
        "wtalc",
        lambda root: save_objects(root / "Thumos14reduced-Annotations/segments.npy", [[[b"a", b"b"]]] * 10),
        "abcdefghi",
    ),
    "a vector in a package": (
        "wtalc",
        lambda root: save_objects(root / "Thumos14reduced-I3D-JOINTFeatures.npy", [np.ones(5)] * 10),
        r"float64 \(5,\)",
    ),
    "HDF5 that is none": (
        "procl",
        lambda root: (root / "feature_rgb_val.h5").write_bytes(b"features"),
        "feature_rgb_val.h5.*unreadable HDF5",
    ),
    "HDF5 without rgb of the test videos": (
        "procl",
        lambda root: (root / "feature_rgb_val.h5").unlink(),
        "no rgb features of 4 videos .abcdefghi06",
    ),
    "two layouts": (
        "procl",
        lambda root: np.save(root / "v_abcdefghi00_rgb.npy", np.ones((5, 6), np.float32)),
        "_{rgb,flow}.npy and feature_",
    ),
    "two annotations": (
        "procl",
        lambda root: (root / "gt.json").write_text("{}"),
        "gt.json and ActivityNet1.3-Annotations",
    ),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_what_does_not_fit_is_named(data, tmp_path, case):
    layout, change, found = MISMATCHES[case]
    root = LAYOUTS[layout](data, tmp_path / "other")
    change(root)
    with pytest.raises(BadInput, match=found):  # noqa: PT012
        folder = Folder(root)
        load_subset(folder, "train")
        load_subset(folder, "test")


def test_nan_in_a_package(data, tmp_path):
    data.features["abcdefghi03"]["flow"][:] = np.nan
    with pytest.raises(BadInput, match=r"abcdefghi03: found \d+ of \d+ values NaN"):
        load_subset(Folder(wtalc(data, tmp_path / "other")), "train")


def test_a_group_for_a_video(data, tmp_path):
    root = procl(data, tmp_path / "other")
    with h5py.File(root / "feature_rgb_val.h5", "a") as file:
        del file["v_abcdefghi06"]
        file["v_abcdefghi06/features"] = np.ones((5, 6))
    with pytest.raises(BadInput, match=r"v_abcdefghi06: found a group"):
        load_subset(Folder(root), "test")


class Malicious:
    def __reduce__(self):
        return Path.write_text, (Path("hacked"), "!")


@pytest.mark.parametrize("python", [2, 3])
@pytest.mark.parametrize("name", ["Thumos14reduced-I3D-JOINTFeatures.npy", "Thumos14reduced-Annotations/segments.npy"])
def test_code_in_a_package_does_not_run(um, data, tmp_path, name, python):
    root = wtalc(data, tmp_path / "other")
    save_objects(root / name, [Malicious()] * 10, 3)
    if python == 2:
        content = (root / name).read_bytes()
        head = content[: content.index(b"\n") + 1]
        (root / name).write_bytes(head + pickle.dumps([Malicious()], protocol=2))
    for words in (["train", "--data-dir", root, "--out", "model"], ["features", "inspect", root]):
        code, _, printed = um(*words)
        assert code == 2
        assert printed.splitlines()[-1].startswith(f"um: {root / name}: found unreadable array (")
    assert not (tmp_path / "hacked").exists()
    assert not (tmp_path / "model").exists()


def test_python_2_bytes_that_python_3_wrote(tmp_path):
    array = np.empty(2, object)
    array[:] = [[b"run"], np.ones((2, 3), np.float32)]
    with (tmp_path / "objects.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        pickle.dump(array, file, protocol=2)
    labels, features = read_objects(tmp_path / "objects.npy")
    assert labels == [b"run"]
    assert np.array_equal(features, np.ones((2, 3)))


class Hostile:
    """Reduces to a call of what numpy uses itself, or of what it does not, and a state."""

    def __init__(self, *reduced) -> None:
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


OBJECT = (np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0))  # flags: no objects here
FIELDS = (np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 16))
EMPTY = (np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"))
HOSTILE = {
    "bytes as objects": Hostile(*EMPTY, (1, (2,), Hostile(*OBJECT), False, b"\x01" * 16)),
    "bytes as fields of objects": Hostile(*EMPTY, (1, (2,), Hostile(*FIELDS), False, b"\x01" * 16)),
    "too few bytes": Hostile(*EMPTY, (1, (1000,), np.dtype("f4"), False, b"1234")),
    "a call of evaluation": Hostile(eval, ("1",)),
    "a type of another package": Hostile(np.ma.MaskedArray, ()),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_arrays_that_are_none(tmp_path, case):
    """numpy's own reconstruction takes the first two, and reads the bytes as pointers."""
    path = tmp_path / "objects.npy"
    save_objects(path, [HOSTILE[case]], python=3)
    with pytest.raises(BadInput, match="unreadable array"):
        read_objects(path)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x03\x00abc"])
def test_damaged_packages(data, tmp_path, damage):
    root = wtalc(data, tmp_path / "other")
    (root / "Thumos14reduced-I3D-JOINTFeatures.npy").write_bytes(damage)
    with pytest.raises(BadInput, match="unreadable array"):
        load_subset(Folder(root), "train")


def test_features_lie_in_the_folder_or_below(tmp_path, official):
    """By subset or not, in features/ or not."""
    expected = load_subset(Folder(official), "train").fingerprint
    for path in sorted(official.glob("features/*/*")):
        for file in sorted(path.iterdir()):
            (official / path.name).mkdir(exist_ok=True)
            file.rename(official / path.name / file.name)
    shutil.rmtree(official / "features")
    assert load_subset(Folder(official), "train").fingerprint == expected
    assert recognise(official).features == official


def test_a_folder_without_features(tmp_path):
    root = make_dataset(tmp_path / "d")
    shutil.rmtree(root / "features")
    with pytest.raises(BadInput, match="no features in a known layout"):
        Folder(root)


def test_ambiguous_segments_of_a_package_count_for_thumos14_alone(data, official, tmp_path):
    """W-TALC's THUMOS14 package has the official file of them, which names other videos too."""
    from um.evaluation.metrics import evaluate
    from um.params import Evaluate

    root = wtalc(data, tmp_path / "other")
    (root / "Thumos14reduced-Annotations/Ambiguous_test.txt").write_text(
        "abcdefghi06  10000.0 10010.0\nabcdefghi06 20000 20020\nvideo_test_9999999 1 2\n"
    )
    plain, folder = Folder(official), Folder(root)
    assert folder.classes == plain.classes  # Ambiguous is no class
    videos, expected = load_subset(folder, "test").videos, load_subset(plain, "test").videos
    assert [video.instances for video in videos] == [video.instances for video in expected]
    assert {video.id: [(s.start, s.end) for s in video.ambiguous] for video in videos if video.ambiguous} == {
        "abcdefghi06": [(10000, 10010), (20000, 20020)]
    }
    label = videos[0].labels[0]
    rows = annotations.frame(videos).assign(score=0.5)
    rows.loc[len(rows)] = ["abcdefghi06", label, 10000.0, 10010.0, 0.9]  # a hit on what may or may not be an action
    scores = {protocol: evaluate(videos, rows, Evaluate(protocol=protocol)) for protocol in ("thumos14", "activitynet")}
    assert (scores["thumos14"]["average_mAP"], scores["thumos14"]["num_ambiguous"]) == (1, 2)
    assert scores["activitynet"]["average_mAP"] < 1
    without = evaluate(expected, rows, Evaluate(protocol="thumos14"))
    assert without["average_mAP"] < 1  # it is the file that makes the difference


def test_a_package_with_a_damaged_file_of_ambiguous_segments(data, tmp_path):
    root = wtalc(data, tmp_path / "other")
    (root / "Thumos14reduced-Annotations/Ambiguous_test.txt").write_text("abcdefghi06 5 x\n")
    with pytest.raises(BadInput, match=r"Ambiguous_test\.txt:1"):
        Folder(root)
