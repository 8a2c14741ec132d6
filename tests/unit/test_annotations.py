"""Annotations: one form for every dataset."""

import json

import pytest

from um.datasets import annotations
from um.datasets.annotations import SLACK, video_id
from um.errors import BadInput


def load(tmp_path, database):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"database": database}))
    return annotations.load(path)


def video(subset="train", segments=((0, 1),), **more):
    listed = [{"label": "run", "segment": list(segment)} for segment in segments]
    return {"subset": subset, "annotations": listed} | more


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("v___dXUJsj3yo", "__dXUJsj3yo"),
        ("__dXUJsj3yo", "__dXUJsj3yo"),
        ("v_12345678901", "12345678901"),
        ("video_test_0000004", "video_test_0000004"),
        ("v_Archery_g01_c01", "v_Archery_g01_c01"),
        ("v_short", "v_short"),
    ],
)
def test_ids_lose_the_prefix_of_derived_files_and_nothing_else(name, expected):
    assert video_id(name) == expected


@pytest.mark.parametrize(
    ("subsets", "train", "test"),
    [
        (("val", "test"), "val", "test"),
        (("validation", "test"), "validation", "test"),
        (("train", "val"), "train", "val"),
        (("training", "validation"), "training", "validation"),
        (("training", "validation", "testing"), "training", "validation"),
        (("train", "test"), "train", "test"),
    ],
)
def test_subsets_play_the_roles_of_their_dataset(tmp_path, subsets, train, test):
    listed = load(tmp_path, {name: video(name) for name in subsets})
    assert [v.subset for v in listed.subset("train")] == [train]
    assert [v.subset for v in listed.subset("test")] == [test]


def test_a_subset_is_named_in_any_spelling(tmp_path):
    listed = load(tmp_path, {"a": video("training"), "b": video("validation")})
    assert [v.id for v in listed.named("val")] == ["b"]
    assert [v.id for v in listed.named("validation")] == ["b"]
    with pytest.raises(BadInput, match="one of training, validation"):
        listed.named("test")


def test_an_empty_role_is_an_error(tmp_path):
    with pytest.raises(BadInput, match="no test videos among train"):
        load(tmp_path, {"a": video("train")}).subset("test")


def test_seconds_may_be_text(tmp_path):
    (found,) = load(tmp_path, {"a": video(segments=[("1.5", "2.25")])}).videos["a"].instances
    assert (found.start, found.end) == (1.5, 2.25)


def test_a_segment_may_reach_a_snippet_behind_the_end_and_no_further(tmp_path):
    load(tmp_path, {"a": video(segments=[(0, 10 + SLACK)], duration=10)})
    with pytest.raises(BadInput, match="0 <= start <= end <= 10 s"):
        load(tmp_path, {"a": video(segments=[(0, 10.01 + SLACK)], duration=10)})


def test_a_segment_without_length_is_kept(tmp_path):
    assert load(tmp_path, {"a": video(segments=[(3, 3)])}).videos["a"].instances[0].end == 3


def test_labels_are_sorted_and_once(tmp_path):
    entry = video()
    entry["annotations"] = [{"label": label, "segment": [0, 1]} for label in ("run", "jump", "run")]
    assert load(tmp_path, {"a": entry}).videos["a"].labels == ["jump", "run"]


@pytest.mark.parametrize(
    ("file", "train", "test", "classes"),
    [
        ("thumos14/gt.json", (200, 3007), (210, 3311), 20),
        ("activitynet/activity_net.v1-2.missing-removed.json", None, None, 100),
    ],
)
def test_public_files(reference_data, file, train, test, classes):
    listed = annotations.load(reference_data / "data" / file)
    for role, expected in (("train", train), ("test", test)):
        videos = listed.subset(role)
        assert expected in (None, (len(videos), len(annotations.frame(videos))))
    assert len({label for v in listed.videos.values() for label in v.labels}) == classes
