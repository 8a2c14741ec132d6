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


@pytest.mark.parametrize("segment", [(0, 11.01 + SLACK), (30, 40)])
def test_an_instance_past_the_end_is_kept_with_a_warning(tmp_path, caplog, segment):
    """As the official evaluators have it; the public files have five such videos of THUMOS14."""
    found = load(tmp_path, {"a": video(segments=[segment, (0, 1)], duration=10), "b": video(segments=[segment])})
    assert [i.end for i in found.videos["a"].instances] == [segment[1], 1]
    assert caplog.messages == [f"{found.path}: kept instances past the end of 1 video (a)"]


def test_an_instance_may_reach_a_second_past_the_end_without_a_word(tmp_path, caplog):
    load(tmp_path, {"a": video(segments=[(0, 10 + SLACK)], duration=10)})
    assert caplog.messages == []


@pytest.mark.parametrize("subset", ["Test", " TEST ", "Testing"])
def test_subsets_are_read_in_any_case(tmp_path, subset):
    found = load(tmp_path, {"a": video(subset), "b": video("Validation")})
    assert [v.id for v in found.subset("test")] == [v.id for v in found.named("tEst")] == ["a"]
    assert [v.id for v in found.subset("train")] == ["b"]
    assert annotations.database(found.videos.values())["database"]["a"]["subset"] == "test"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_text_files_of_other_editors(tmp_path, encoding):
    folder = official(tmp_path / "test")
    (folder / "Läufe_Test.txt").write_bytes("v1 1 2\r\nv1 3 4\r\n".encode(encoding))
    (folder / "._Läufe_Test.txt").write_bytes(b"\0\5\26\7\xff")  # macOS' double
    (found,) = annotations.load(folder).subset("test")
    assert [(i.label, i.start, i.end) for i in found.instances] == [("Läufe", 1, 2), ("Läufe", 3, 4)]


def test_another_encoding_is_named(tmp_path):
    folder = official(tmp_path / "test")
    (folder / "Run_test.txt").write_bytes("vidéo 1 2\n".encode("latin-1"))
    with pytest.raises(BadInput, match=r"Run_test\.txt: found byte 3 is not UTF-8 \(it looks like Latin-1\)"):
        annotations.load(folder)


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


def official(folder, **files):
    folder.mkdir()
    (folder / "detclasslist.txt").write_text("7 BaseballPitch\n")
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_the_official_files_of_thumos14_are_one_more_form(tmp_path):
    files = {"Run_test": "v1  1.0 2.5\nv1 3 4\n", "Jump_test": "v1 1 2\n\n", "Ambiguous_test": "v2 0.5 1\nv1 7 8\n"}
    videos = annotations.load(official(tmp_path / "test", **files)).subset("test")
    assert [(v.id, v.subset, v.labels, len(v.instances), len(v.ambiguous)) for v in videos] == [
        ("v1", "test", ["Jump", "Run"], 3, 1),
        ("v2", "test", [], 0, 1),
    ]
    assert annotations.frame(videos).query("label == 'Run'")[["start", "end"]].to_numpy().tolist() == [[1, 2.5], [3, 4]]
    assert annotations.ambiguous_frame(videos)["video"].tolist() == ["v1", "v2"]


@pytest.mark.parametrize("line", ["v1 2 1", "v1 1", "v1 1 2 3", "v1 one 2", "v1 nan 2", "v1 1 inf", "v1 -1 2"])
def test_a_wrong_line_of_an_official_file_is_named(tmp_path, line):
    folder = official(tmp_path / "test", Run_test=f"v1 1 2\n{line}\n")
    with pytest.raises(BadInput, match=r"Run_test\.txt:2"):
        annotations.load(folder)


def test_a_folder_without_official_files_and_a_video_of_two_subsets(tmp_path):
    with pytest.raises(BadInput, match="no file <class>_test"):
        annotations.load(official(tmp_path / "none"))
    with pytest.raises(BadInput, match="v1 in test and val"):
        annotations.load(official(tmp_path / "both", Run_test="v1 1 2", Run_val="v1 1 2"))


def test_official_files_of_the_public_test_subset(reference_data):
    videos = annotations.load(reference_data / "data/thumos14/official_test").subset("test")
    assert (len(videos), len(annotations.frame(videos)), len(annotations.ambiguous_frame(videos))) == (213, 3358, 99)
    assert [v.id for v in videos if not v.instances] == ["video_test_0001292"]


def test_ambiguous_segments_of_a_video(tmp_path):
    found = load(tmp_path, {"a": video(ambiguous=[[2, 3.5]]), "b": video()})
    assert [(i.label, i.start, i.end) for i in found.videos["a"].ambiguous] == [("Ambiguous", 2, 3.5)]
    assert found.videos["a"].labels == ["run"]
    written = annotations.database(found.videos.values())
    assert written["database"]["a"]["ambiguous"] == [[2, 3.5]]
    assert "ambiguous" not in written["database"]["b"]
    assert annotations.parse(found.path, written).videos == found.videos


@pytest.mark.parametrize("wrong", [[[2, 1]], [[-1, 1]], [[0, "inf"]], [3], [[1]], 3, [["a", "b"]]])
def test_ambiguous_segments_that_are_none(tmp_path, wrong):
    with pytest.raises(BadInput, match=r"annotations\.json: a: "):
        load(tmp_path, {"a": video(ambiguous=wrong)})
