"""Features of elsewhere, brought to our layout by the stages that otherwise render and extract."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import convert
from helpers.tiny import make_dataset

from um import dataset
from um.datasets import wtalc
from um.datasets.folder import Folder
from um.datasets.subset import load_subset
from um.download.provide import provide
from um.errors import BadInput
from um.features.imported import bring
from um.params import Download


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project with one dataset of features in the official layout, whose folder is returned."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UM_FEATURES", str(tmp_path / "elsewhere"))
    root = make_dataset(tmp_path / "elsewhere/mine", official=True, streams=("rgb", "flow"))
    (tmp_path / "datasets/mine").mkdir(parents=True)
    (tmp_path / "datasets/mine/dataset.yaml").write_text("provider: features\nsource: $UM_FEATURES/mine\n")
    return root


def build() -> Path:
    provide("mine", Download(), Path("data/mine"))
    bring(dataset.location("mine"), Path("data/mine/features"))
    return Path("data/mine")


def test_the_data_are_the_same_and_the_folder_says_where_they_are_from(project):
    root = build()
    assert not dataset.comes_as_videos("mine", Download())
    ours, theirs = Folder(root), Folder(project)
    for role in ("train", "test"):
        assert load_subset(ours, role).fingerprint == load_subset(theirs, role).fingerprint
    assert (ours.classes, ours.streams, ours.pace.step) == (theirs.classes, ["rgb", "flow"], 0.64)
    spec = json.loads((root / "features/spec.json").read_text())
    assert spec == {"fps": 25.0, "window": 16, "imported": "{rgb,flow}/<id>.npy", "streams": "rgb,flow"}
    index = json.loads((root / "videos/index.json").read_text())
    assert (index["files"], sorted(index)) == ({}, ["files", "origin"])
    (path, *_) = (project / "features").rglob("*.npy")
    np.save(path, np.load(path) + 1)
    build()
    assert json.loads((root / "videos/index.json").read_text())["origin"] != index["origin"]
    listed = json.loads((root / "features/index.json").read_text())["files"]
    assert sorted(listed) == sorted(str(p.relative_to(root / "features")) for p in root.glob("features/*/*/*.npy"))


def test_a_second_time_copies_nothing_and_a_change_only_itself(project):
    root = build()
    before = {path: path.stat().st_mtime_ns for path in root.glob("features/*/*/*.npy")}
    build()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    changed = project / "features/test/rgb/video_07.npy"
    np.save(changed, np.load(changed) * 2)
    build()
    again = {path for path, when in before.items() if path.stat().st_mtime_ns != when}
    assert again == {root / "features/test/rgb/video_07.npy"}
    assert load_subset(Folder(root), "test").fingerprint == load_subset(Folder(project), "test").fingerprint


def test_half_precision_stays_half(project):
    for path in project.rglob("*.npy"):
        np.save(path, np.load(path).astype(np.float16))
    root = build()
    assert {np.load(path).dtype for path in root.rglob("*.npy")} == {np.dtype(np.float16)}
    assert torch.equal(load_subset(Folder(root), "test").packed_NF, load_subset(Folder(project), "test").packed_NF)


def test_what_a_simulation_says_of_itself_comes_along(project):
    (project / "features/spec.json").write_text('{"simulated": true, "window": 16, "fps": 25, "seed": 3, "dims": 12}')
    spec = json.loads((build() / "features/spec.json").read_text())
    assert (spec["simulated"], spec["seed"], spec["imported"]) == (True, 3, "{rgb,flow}/<id>.npy")


def test_videos_without_features_stay_in_the_annotations(project):
    for path in project.glob("features/test/*/video_07.npy"):
        path.unlink()
    root = build()
    assert "video_07" in json.loads((root / "annotations.json").read_text())["database"]
    with pytest.raises(BadInput, match=r"no rgb features of 1 video \(video_07\)"):
        load_subset(Folder(root), "test")
    assert len(load_subset(Folder(root, missing="miss"), "test").population) == 4


def test_a_source_that_is_not_set_is_one_line(project, monkeypatch):
    monkeypatch.delenv("UM_FEATURES")
    with pytest.raises(BadInput, match=r"datasets/mine/dataset\.yaml: found source = '\$UM_FEATURES/mine'"):
        build()


def test_a_package_of_all_videos_is_read_once(tmp_path, monkeypatch):
    root = convert.wtalc(convert.Dataset(convert.make_official(tmp_path / "official")), tmp_path / "package")
    opened = []
    plain = wtalc.Package._open
    monkeypatch.setattr(wtalc.Package, "_open", lambda self: opened.append(1) or plain(self))
    bring(root, tmp_path / "features")
    assert len(opened) == 1
    assert len(list((tmp_path / "features").glob("*/*/*.npy"))) == 20


def test_videos_that_cannot_be_brought_are_named(project, caplog):
    for path in project.glob("features/*/rgb/video_0[17].npy"):
        path.unlink()
    build()
    (said,) = (record.getMessage() for record in caplog.records)
    assert "no features of 2 videos (video_01, video_07)" in said


def test_ambiguous_segments_come_along(project, tmp_path):
    root = convert.wtalc(convert.Dataset(convert.make_official(tmp_path / "official")), tmp_path / "elsewhere/package")
    (root / "Thumos14reduced-Annotations/Ambiguous_test.txt").write_text("abcdefghi06 0.5 1.5\n")
    (tmp_path / "datasets/mine/dataset.yaml").write_text("provider: features\nsource: $UM_FEATURES/package\n")
    ours, theirs = Folder(build()), Folder(root)
    assert [video.ambiguous for video in ours.described()] == [video.ambiguous for video in theirs.described()]
    assert sum(len(video.ambiguous) for video in ours.described()) == 1
