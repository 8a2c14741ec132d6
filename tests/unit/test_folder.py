"""A dataset as a folder, in our layout and in the official code's."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny import CLASSES, SNIPPET, make_dataset

from um.datasets.folder import Folder, loose_features
from um.datasets.subset import load_subset
from um.errors import BadInput
from um.files import sha256
from um.forms import Pace
from um.inspection.features import inspect


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("streams", [("rgb",), ("flow",), ("rgb", "flow")])
def test_both_layouts_give_every_video_its_own_features(tmp_path, official, streams):
    root = make_dataset(tmp_path / "d", official=official, streams=streams)
    folder = Folder(root)
    assert folder.classes == list(CLASSES)
    assert folder.streams == list(streams)
    for role, count in (("train", 6), ("test", 4)):
        subset = load_subset(folder, role)
        assert [video.id for video in subset.videos] == sorted(video.id for video in subset.videos)
        assert len(subset.videos) == count
        for position, video in enumerate(subset.videos):
            arrays = [np.load(root / "features" / role / stream / f"{video.id}.npy") for stream in streams]
            assert torch.equal(subset.features(position), torch.from_numpy(np.concatenate(arrays, axis=1)))
        assert subset.labels(folder.classes).sum(1).tolist() == [1.0] * count


def test_the_two_layouts_are_the_same_data(tmp_path):
    ours, official = (Folder(make_dataset(tmp_path / str(flag), official=flag)) for flag in (False, True))
    for role in ("train", "test"):
        assert load_subset(ours, role).fingerprint == load_subset(official, role).fingerprint


def test_split_lists_choose_the_videos(tmp_path):
    root = make_dataset(tmp_path / "d", official=True)
    (root / "split_test.txt").write_text("video_08\nvideo_06\n")
    assert [video.id for video in load_subset(Folder(root), "test").videos] == ["video_06", "video_08"]
    (root / "split_test.txt").write_text("video_08 video_08")
    with pytest.raises(BadInput, match="twice"):
        load_subset(Folder(root), "test")
    (root / "split_test.txt").write_text("video_77")
    with pytest.raises(BadInput, match="not annotated"):
        load_subset(Folder(root), "test")


def test_prefixes_and_subset_names_do_not_matter(tmp_path):
    root = make_dataset(tmp_path / "d")
    plain = load_subset(Folder(root), "train").fingerprint
    text = (root / "annotations.json").read_text()
    for number in range(10):
        new = f"abcdefghi{number:02d}"
        text = text.replace(f"video_{number:02d}", new)
        for path in root.glob(f"features/*/rgb/video_{number:02d}.npy"):
            path.rename(path.with_name(f"v_{new}.npy"))
    text = text.replace('"train"', '"training"').replace('"test"', '"validation"')
    (root / "annotations.json").write_text(text)
    (root / "features/test").rename(root / "features/val")
    renamed = load_subset(Folder(root), "train")
    assert [video.id for video in renamed.videos] == [f"abcdefghi{number:02d}" for number in range(6)]
    assert plain != renamed.fingerprint  # ids count


def test_a_fingerprint_changes_with_one_value_and_with_one_label(tmp_path):
    root = make_dataset(tmp_path / "d")
    before = load_subset(Folder(root), "train").fingerprint
    annotated = json.loads((root / "annotations.json").read_text())
    annotated["database"]["video_00"]["annotations"][0]["label"] = "run"
    (root / "annotations.json").write_text(json.dumps(annotated))
    relabelled = load_subset(Folder(root), "train").fingerprint
    path = root / "features/train/rgb/video_00.npy"
    features = np.load(path)
    features[0, 0] += 1
    np.save(path, features)
    assert len({before, relabelled, load_subset(Folder(root), "train").fingerprint}) == 3


def test_half_precision_is_read_as_single(tmp_path):
    root = make_dataset(tmp_path / "d")
    for path in root.rglob("*.npy"):
        np.save(path, np.load(path).astype(np.float16))
    assert load_subset(Folder(root), "train").packed_NF.dtype == torch.float32


def test_the_length_of_a_snippet_comes_from_the_specification(tmp_path):
    root = make_dataset(tmp_path / "d")
    assert Folder(root).pace.step == SNIPPET
    (root / "features/spec.json").write_text('{"window": 8, "fps": 10.0}')
    assert Folder(root).pace.step == 0.8


@pytest.mark.parametrize("text", ["{}", "[]", '{"window": 16, "fps": 0}', '{"window": "16", "fps": 25}'])
def test_a_specification_that_is_none(tmp_path, text):
    root = make_dataset(tmp_path / "d")
    (root / "features/spec.json").write_text(text)
    with pytest.raises(BadInput, match=r"spec\.json"):
        _ = Folder(root).pace


def test_streams_are_chosen_or_all(tmp_path):
    root = make_dataset(tmp_path / "d", streams=("rgb", "flow"))
    assert load_subset(Folder(root), "train").packed_NF.shape[1] == 12
    assert load_subset(Folder(root, "flow"), "train").packed_NF.shape[1] == 6
    shutil.rmtree(root / "features/test/flow")
    with pytest.raises(BadInput, match="no flow features of 4 videos"):
        load_subset(Folder(root), "test")


def test_two_annotation_files_are_ambiguous(tmp_path):
    root = make_dataset(tmp_path / "d")
    shutil.copy(root / "annotations.json", root / "gt.json")
    with pytest.raises(BadInput, match=r"annotations\.json and gt\.json"):
        Folder(root)


def test_loose_features(tmp_path):
    root = make_dataset(tmp_path / "d", streams=("rgb", "flow"))
    named = loose_features(root / "features/test", ["rgb", "flow"])
    assert sorted(named) == [f"video_{number:02d}" for number in range(6, 10)]
    assert all(read().shape[1] == 12 for read in named.values())
    (root / "features/test/flow/video_06.npy").unlink()
    with pytest.raises(BadInput, match="video_06"):
        loose_features(root / "features/test", ["rgb", "flow"])["video_06"]()


def extracted(root, clock=None):
    """Features as `um extract` leaves them, with spec.json and index.json beside the subsets."""
    features = root / "features"
    (features / "spec.json").write_text(json.dumps(clock or {"fps": 25, "window": 16}))
    files = {path.relative_to(features).as_posix(): {"sha256": sha256(path)} for path in features.rglob("*.npy")}
    value = {"spec": sha256(features / "spec.json"), "files": files}
    (features / "index.json").write_text(json.dumps(value))
    return features


@pytest.mark.parametrize("given", ["features/test", ".", "../test", "test"])
def test_loose_features_have_the_index_and_the_clock_of_the_folders_above(tmp_path, monkeypatch, given):
    features = extracted(make_dataset(tmp_path / "d"))
    here = {"features/test": tmp_path / "d", "test": features}.get(given, features / "test")
    monkeypatch.chdir(here)
    assert len([read() for read in loose_features(Path(given), ["rgb"], Pace(0.64)).values()]) == 4
    shutil.copy(features / "test/rgb/video_07.npy", features / "test/rgb/video_06.npy")
    named = loose_features(Path(given), ["rgb"], Pace(0.64))
    named["video_07"]()
    with pytest.raises(BadInput, match=r"video_06\.npy: found a file that does not match index"):
        named["video_06"]()
    extracted(tmp_path / "d", {"fps": 30, "window": 16, "stride": 4})
    with pytest.raises(BadInput, match=r"0\.1333 s per row"):
        loose_features(Path(given), ["rgb"], Pace(0.64))
    (features / "index.json").unlink()
    with pytest.raises(BadInput, match=r"0\.1333 s per row"):
        loose_features(Path(given), ["rgb"], Pace(0.64))


def test_an_index_above_that_is_of_other_files_is_no_matter(tmp_path):
    features = extracted(make_dataset(tmp_path / "d"))
    shutil.copytree(features / "test", features / "mine/test")
    assert all(len(read()) for read in loose_features(features / "mine/test", ["rgb"], 1.0).values())
    (features / "index.json").write_text("[]")
    assert all(len(read()) for read in loose_features(features / "test", ["rgb"], 1.0).values())


@pytest.mark.parametrize("given", ["", "features", "features/test/rgb"])
def test_loose_features_one_folder_off(tmp_path, given):
    root = make_dataset(tmp_path / "d")
    with pytest.raises(BadInput, match=rf"use .*{root}/features/test($|\b)") as error:
        loose_features(root / given, ["rgb"])
    for named in error.value.hint.removeprefix("use ").split(" or "):
        assert loose_features(Path(named), ["rgb"])


@pytest.mark.parametrize("journal", ["journal.jsonl", "shards/1-of-2.jsonl"])
def test_an_extraction_that_has_not_ended(tmp_path, journal):
    features = extracted(make_dataset(tmp_path / "d"))
    (features / journal).parent.mkdir(exist_ok=True)
    (features / journal).write_text('["test/rgb/video_06.npy", {"sha256": "' + "0" * 64 + '"}]\n')
    Folder(tmp_path / "d").check("train")
    index = (features / "index.json").read_text()
    (features / "index.json").unlink()
    for opened in (lambda: Folder(tmp_path / "d"), lambda: loose_features(features / "test", ["rgb"])):
        with pytest.raises(BadInput, match=f"unfinished extraction .{journal} without index.json.*um extract. again"):
            opened()
    shutil.move(features, tmp_path / "whole")
    (features / journal).parent.mkdir(parents=True)
    (features / journal).write_text("")  # before the first video is done
    with pytest.raises(BadInput, match="unfinished extraction"):
        Folder(tmp_path / "d")
    shutil.rmtree(features)
    shutil.move(tmp_path / "whole", features)
    (features / "index.json").write_text(index)
    Folder(tmp_path / "d").check("test")


def test_somebody_elses_journal_is_no_matter(tmp_path):
    root = make_dataset(tmp_path / "d")
    (root / "features/journal.jsonl").write_text("Dear diary,\n")
    Folder(root).check("train")


@pytest.mark.parametrize("lists", [("train",), ("test",), ("train", "test")])
def test_videos_of_both_train_and_test(tmp_path, lists):
    root = make_dataset(tmp_path / "d")
    for role in lists:
        names = range(8) if role == "train" else range(5 if len(lists) == 1 else 6, 10)
        (root / f"split_{role}.txt").write_text("\n".join(f"video_{number:02d}" for number in names))
    told = r"2 videos \(video_06, video_07\)|1 video \(video_05\)"
    for opened in (lambda: Folder(root).check("train"), lambda: Folder(root).check("test"), lambda: inspect(root)):
        with pytest.raises(BadInput, match=rf"split_{lists[0]}\.txt: found ({told}).* in both train and test"):
            opened()


def test_an_empty_split_list_is_named(tmp_path):
    root = make_dataset(tmp_path / "d")
    (root / "split_test.txt").write_text(" \n")
    with pytest.raises(BadInput, match=r"split_test\.txt: found no video ids"):
        Folder(root).check("test")


@pytest.mark.parametrize("closed", [".", "features", "features/test", "features/test/rgb"])
def test_folders_that_may_not_be_read(tmp_path, closed):
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    root = make_dataset(tmp_path / "d")
    (root / "features/test/itself").symlink_to("itself")
    assert len(loose_features(root / "features/test", ["rgb"])) == len(Folder(root).check("test")[0])
    for folder in {tmp_path, *tmp_path.parents} - {Path("/")}:
        folder.chmod(folder.stat().st_mode | 0o055)
    (root / closed).chmod(0o700)
    os.seteuid(65534)
    try:
        for opened in (lambda: Folder(root), lambda: loose_features(root / "features/test", ["rgb"])):
            with pytest.raises(PermissionError) as error:
                opened()
            assert str(root / closed) in str(error.value.filename)
    finally:
        os.seteuid(0)


def test_the_public_sample(reference_data, tmp_path):
    sample = reference_data / "data/thumos14/i3d_sample"
    for stream, suffix in (("rgb", ""), ("flow", "-flow")):
        (tmp_path / stream).mkdir()
        (tmp_path / stream / "sample.npy").symlink_to(sample / f"video_validation_0000051{suffix}.npy")
    (read,) = loose_features(tmp_path, ["rgb", "flow"]).values()
    assert read().shape == (265, 2048)


def without(root, *names):
    for name in names:
        for path in root.glob(f"features/*/*/{name}.npy"):
            path.unlink()


def test_missing_videos_are_an_error_or_dropped_or_counted(tmp_path):
    root = make_dataset(tmp_path / "d")
    without(root, "video_00", "video_07")
    with pytest.raises(BadInput, match=r"no rgb features of 1 video \(video_07\).*--missing drop or miss"):
        load_subset(Folder(root), "test")
    dropped, counted = (load_subset(Folder(root, missing=policy), "test") for policy in ("drop", "miss"))
    assert [v.id for v in dropped.population] == [v.id for v in dropped.videos] == ["video_06", "video_08", "video_09"]
    assert [v.id for v in counted.videos] == ["video_06", "video_08", "video_09"]
    assert [v.id for v in counted.population] == ["video_06", "video_07", "video_08", "video_09"]
    for policy in ("drop", "miss"):
        train = load_subset(Folder(root, missing=policy), "train")
        assert [v.id for v in train.population] == [f"video_{n:02d}" for n in range(1, 6)]
    without(root, "video_06", "video_08", "video_09")
    with pytest.raises(BadInput, match="no features of test video"):
        load_subset(Folder(root, missing="drop"), "test")


@pytest.mark.parametrize(("policy", "become"), [("drop", "are left out"), ("miss", "count as misses")])
def test_missing_videos_are_recorded_and_named_for_both_subsets(tmp_path, caplog, policy, become):
    root = make_dataset(tmp_path / "d")
    without(root, "video_00", "video_02", "video_07")
    folder = Folder(root, missing=policy)
    train, test = load_subset(folder, "train"), load_subset(folder, "test")
    assert [video.id for video in train.featureless] == ["video_00", "video_02"]
    assert [video.id for video in test.featureless] == ["video_07"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{root}/features: no features of 2 videos (video_00, video_02) annotated for train, which are left out",
        f"{root}/features: no features of 1 video (video_07) annotated for test, which {become}",
    ]


def test_features_without_annotation_are_fatal_or_ignored_with_one_warning(tmp_path, caplog):
    root = make_dataset(tmp_path / "d", streams=("rgb", "flow"))
    plain = [load_subset(Folder(root), role).fingerprint for role in ("train", "test")]
    for number, stream in enumerate(("rgb", "flow")):
        np.save(root / f"features/train/{stream}/extra_{number}.npy", np.ones((5, 9), np.float32))
    with pytest.raises(BadInput, match=r"features of 1 video \(extra_0\) without annotation.*--missing drop or miss"):
        load_subset(Folder(root), "train")
    for policy in ("drop", "miss"):
        caplog.clear()
        folder = Folder(root, missing=policy)
        assert [load_subset(folder, role).fingerprint for role in ("train", "test")] == plain
        (said,) = (record.getMessage() for record in caplog.records)
        assert said == f"{root}/features: ignored features of 2 videos (extra_0, extra_1) without annotation"


@pytest.mark.parametrize(
    ("spec", "simulated"),
    [(None, False), ('{"simulated": true}', True), ('{"simulated": false}', False), ("{}", False), ("[]", False)],
)
def test_simulated_features_are_what_their_specification_says(tmp_path, spec, simulated):
    root = make_dataset(tmp_path / "d")
    if spec:
        (root / "features/spec.json").write_text(spec)
    assert Folder(root).simulated is simulated


@pytest.mark.parametrize("missing", ["error", "drop"])
def test_a_segment_behind_the_features_is_told(tmp_path, caplog, missing):
    root = make_dataset(tmp_path / "d")
    content = json.loads((root / "annotations.json").read_text())
    entry = next(entry for entry in content["database"].values() if entry["subset"] == "test")
    entry.pop("duration", None)
    entry["annotations"][0]["segment"] = [0.5, 99999.0]
    (root / "annotations.json").write_text(json.dumps(content))
    message = r"found segment \[0.5, 99999\] of .*; expected an end within its features"
    with pytest.raises(BadInput, match=message):  # nothing of it lies within, whatever missing videos are
        load_subset(Folder(root, missing=missing), "test")
    entry["annotations"].append(entry["annotations"][0] | {"segment": [0.5, 1.0]})
    (root / "annotations.json").write_text(json.dumps(content))
    load_subset(Folder(root, missing=missing), "test")
    assert re.search(message, caplog.text)


def test_videos_that_could_not_be_read_are_left_out(tmp_path, caplog):
    root = make_dataset(tmp_path / "d")
    names = [path.stem for path in sorted(root.glob("features/test/rgb/*.npy"))]
    (root / f"features/test/rgb/{names[0]}.npy").unlink()
    with pytest.raises(BadInput, match=f"no rgb features of 1 video .{names[0]}."):
        load_subset(Folder(root), "test")
    (root / "features/missing.tsv").write_text(f"id\treason\ntest/{names[0]}\ta file that cannot be decoded\n")
    subset = load_subset(Folder(root), "test")
    assert [video.id for video in subset.videos] == [video.id for video in subset.population] == names[1:]
    assert [video.id for video in subset.featureless] == names[:1]
    assert "are left out" in caplog.text
    population = load_subset(Folder(root, missing="miss"), "test").population
    assert [video.id for video in population] == names
