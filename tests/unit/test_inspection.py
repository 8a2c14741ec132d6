"""`um features inspect`: what a folder is, and whether um train would take it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.convert import LAYOUTS, Dataset, make_official

from um.datasets.folder import Folder
from um.datasets.subset import load_subset


@pytest.fixture
def official(tmp_path):
    return make_official(tmp_path / "official")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_described(um, official, tmp_path, layout):
    root = LAYOUTS[layout](Dataset(official), tmp_path / "other")
    code, printed, errors = um("features", "inspect", root)
    assert code == 0, errors
    assert "train on 6, test on 4" in printed
    for stream in ("rgb", "flow"):
        assert f"{stream:<13} 10 videos, 7 / " in printed
    assert printed.count("width 6, float32") == 2


def test_features_alone(um, official):
    (official / "gt.json").unlink()
    code, printed, _ = um("features", "inspect", official / "features")
    assert code == 0
    assert "annotations   none" in printed
    assert um("train", "--data-dir", official)[0] == 2


def test_the_public_sample(um, reference_data):
    code, printed, _ = um("features", "inspect", reference_data / "data/thumos14/i3d_sample")
    assert code == 0
    assert printed.count("1 videos, 265 / 265 / 265 snippets (min / median / max), width 1024, float32") == 2


def edit(path, change):
    array = np.load(path)
    change(array)
    np.save(path, array)


RGB, FLOW = "features/train/rgb/abcdefghi0{}.npy", "features/train/flow/abcdefghi0{}.npy"


def spoil(root):
    """Everything that can be wrong at once."""
    edit(root / RGB.format(0), lambda array: array.__setitem__((0, slice(2)), np.nan))
    edit(root / RGB.format(1), lambda array: array.__setitem__((0, 0), np.inf))
    (root / RGB.format(2)).unlink()
    np.save(root / FLOW.format(3), np.load(root / FLOW.format(3))[:-1])
    shutil.copy(root / RGB.format(4), root / RGB.format(5))
    shutil.copy(root / FLOW.format(4), root / FLOW.format(5))
    shutil.copy(root / RGB.format(4), root / "features/test/rgb/abcdefghi04.npy")
    np.save(root / "features/test/rgb/abcdefghi99.npy", np.ones((4, 6), np.float16))


def test_zeros_alone_are_said(um, official, caplog):
    path = official / RGB.format(0)
    np.save(path, np.zeros_like(np.load(path)))
    code, printed, _ = um("features", "inspect", official)
    assert code == 0
    assert "only zeros    1 video (abcdefghi00)" in printed
    flow = official / FLOW.format(0)
    np.save(flow, np.zeros_like(np.load(flow)))
    load_subset(Folder(official), "train")
    assert "only zeros in the features of 1 video (abcdefghi00)" in caplog.text


def test_all_that_is_wrong_is_listed(um, official):
    spoil(official)
    code, printed, errors = um("features", "inspect", official)
    assert code == 2
    assert "abcdefghi04 again" in errors.splitlines()[-1]
    for line in (
        "no rgb        1 video (abcdefghi02)",
        "unannotated   1 video (abcdefghi99)",
        "NaN           2 values in 1 video (abcdefghi00)",
        "infinite      1 values in 1 video (abcdefghi01)",
        "twice         1 video (abcdefghi04)",
        "rgb != flow   1 video (abcdefghi03)",
        "float32 (",
    ):
        assert line in printed
    (same,) = (line for line in printed.splitlines() if line.startswith("same content"))
    assert "abcdefghi04" in same
    assert "abcdefghi05" in same


PROBLEMS = {
    "NaN": lambda root: edit(root / RGB.format(0), lambda array: array.fill(np.nan)),
    "no rgb features of 1 video (abcdefghi02)": lambda root: (root / RGB.format(2)).unlink(),
    "equal lengths": lambda root: np.save(root / FLOW.format(3), np.load(root / FLOW.format(3))[:-1]),
    "unreadable array": lambda root: (root / RGB.format(3)).write_bytes(b"none"),
    "int64": lambda root: np.save(root / RGB.format(3), np.ones(np.load(root / RGB.format(3)).shape, np.int64)),
    "(5,)": lambda root: np.save(root / RGB.format(3), np.ones(5)),
    "no test videos": lambda root: (root / "gt.json").write_text(
        (root / "gt.json").read_text().replace('"test"', '"train"')
    ),
}


@pytest.mark.parametrize("found", PROBLEMS)
def test_refused_as_by_train(um, official, found):
    for path in official.glob("split_*.txt"):
        path.unlink()
    PROBLEMS[found](official)
    inspected, trained = um("features", "inspect", official), um("train", "--data-dir", official, "--out", "model")
    assert inspected[0] == trained[0] == 2
    assert found in inspected[2].splitlines()[-1]
    assert inspected[2].splitlines()[-1] == trained[2].splitlines()[-1]


def test_videos_that_do_not_count_may_be_bad(um, official):
    (official / "split_train.txt").write_text("abcdefghi00 abcdefghi01 abcdefghi02")
    edit(official / RGB.format(3), lambda array: array.fill(np.nan))
    code, printed, _ = um("features", "inspect", official)
    assert code == 0
    assert "values in 1 video (abcdefghi03)" in printed


def test_nothing_to_inspect(um, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/annotations.json").write_text(json.dumps({"database": {}}))
    for folder in ("nowhere", "empty"):
        code, _, errors = um("features", "inspect", folder)
        assert code == 2
        assert errors.count("\n") == 1


def test_split_lists_are_what_counts(um, official):
    (official / "split_train.txt").write_text("abcdefghi00 abcdefghi01 abcdefghi02")
    for path in official.glob("features/train/*/abcdefghi0[35].npy"):
        path.unlink()
    code, printed, _ = um("features", "inspect", official)
    assert code == 0
    assert "annotations   gt.json: test 4, train 6 videos; train on 3, test on 4" in printed
    assert "with features train 3 of 3, test 4 of 4 videos" in printed
    assert "no rgb" not in printed
    (official / RGB.format(2)).unlink()
    code, printed, errors = um("features", "inspect", official)
    assert code == 2
    assert "with features train 2 of 3, test 4 of 4 videos" in printed
    assert "no rgb        1 video (abcdefghi02)" in printed
    assert "no flow" not in printed
    assert "abcdefghi02" in errors


def test_what_a_policy_accepts_is_not_refused(um, official):
    (official / RGB.format(2)).unlink()
    np.save(official / "features/test/rgb/abcdefghi99.npy", np.ones((4, 6), np.float32))
    Path("params.yaml").write_text("overrides: {mine: {evaluate: {missing: drop}}}\n")
    for words, accepted in (
        ((), False),
        (("--missing", "error"), False),
        (("--missing", "drop"), True),
        (("--missing", "miss"), True),
        (("--dataset", "mine"), True),
        (("--dataset", "mine", "--missing", "error"), False),
    ):
        code, printed, errors = um("features", "inspect", official, *words)
        assert code == (0 if accepted else 2), errors
        assert "no rgb        1 video (abcdefghi02)" in printed
        assert "unannotated   1 video (abcdefghi99)" in printed
    code, _, errors = um("features", "inspect", official, "--missing", "ignore")
    assert code == 2
    assert "evaluate.missing = 'ignore'" in errors


def test_classes_that_cannot_be_learnt_are_named(um, official):
    assert "not in train" not in um("features", "inspect", official)[1]
    relabel(official, "test", run="swim", jump="dive")
    code, printed, _ = um("features", "inspect", official)
    assert code == 0
    assert "not in train  2 classes (dive, swim) of test videos, which cannot be learnt" in printed


def relabel(root, subset, **names):
    content = json.loads((root / "gt.json").read_text())
    for entry in content["database"].values():
        for item in entry["annotations"] if entry["subset"] == subset else ():
            item["label"] = names.get(item["label"], item["label"])
    (root / "gt.json").write_text(json.dumps(content))


def test_simulated_features_are_called_so(um, official):
    assert "SIMULATED" not in um("features", "inspect", official)[1]
    (official / "features/spec.json").write_text('{"simulated": true, "window": 16, "fps": 25}')
    assert "SIMULATED" in um("features", "inspect", official)[1]
