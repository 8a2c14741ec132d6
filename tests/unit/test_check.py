"""`um data check`: every finding of a file is listed, not only the first."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from um.datasets import annotations
from um.errors import BadInput
from um.inspection import annotations as check
from um.inspection.annotations import report


def video(subset="train", segments=((0, 1),), label="run", **more):
    listed = [{"label": label, "segment": list(segment)} for segment in segments]
    return {"subset": subset, "duration": 10, "annotations": listed} | more


def write(folder, database, **more):
    path = folder / "annotations.json"
    path.write_text(json.dumps(more | {"database": database}))
    return path


def told(given):
    lines = []
    return bool(report(given, lines.append)["errors"]), lines


def wrong(lines):
    return [line for line in lines if line.startswith(("error", "note"))]


GOOD = {"a": video(), "b": video("val")}


def test_good_annotations_have_no_findings(tmp_path):
    assert told(write(tmp_path, GOOD)) == (
        False,
        [
            f"{tmp_path}/annotations.json: 2 videos",
            "train  1 videos, 1 instances of 1 classes",
            "val    1 videos, 1 instances of 1 classes",
            "instances  train    val",
            "run            1      1",
        ],
    )


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        ({"c": video(segments=[(3, 2)])}, "error  reversed: 1 video (c)"),
        ({"c": video(segments=[(-1, 2)])}, "error  before the start: 1 video (c)"),
        ({"c": video(segments=[(0, 12)])}, "note   past the end by more than 1 s: 1 video (c)"),
        ({"c": video(segments=[(0, 10.5)])}, "note   past the end by 1 s or less: 1 video (c)"),
        ({"c": video(segments=[(2, 2)])}, "note   of zero length: 1 video (c)"),
        ({"c": video(segments=[(1, 2)] * 3)}, "note   duplicate instances: 2 in 1 video (c)"),
        ({"c": video("val", label="swim")}, "error  unknown labels: 1 label (swim)"),
        ({"c": video(segments=[])}, "error  without a label in train: 1 video (c)"),
        ({"c": video("val", segments=[])}, "note   without a label elsewhere: 1 video (c)"),
        ({"c": video(duration=None)}, "note   without a duration: 1 video (c)"),
        ({"c": video(segments=[(1, "x")])}, "error  unreadable: 1 video (c)"),
        ({"c": video(segments=[(1,)])}, "error  unreadable: 1 video (c)"),
        ({"c": video(segments=[(1, 2), (0, float("nan"))])}, "error  unreadable: 1 video (c)"),
        ({"c": video(duration="long")}, "error  unreadable: 1 video (c)"),
        ({"c": {"subset": "train"}}, "error  unreadable: 1 video (c)"),
        ({"c": "video"}, "error  unreadable: 1 video (c)"),
        (
            {"v_12345678901": video(), "12345678901": video()},
            "error  twice, with and without v_: 1 video (12345678901)",
        ),
    ],
)
def test_findings(tmp_path, entries, line):
    bad, lines = told(write(tmp_path, GOOD | entries))
    assert line in lines
    assert bad == any(line.startswith("error") for line in lines)
    assert bad or line.startswith("note")


def test_all_findings_are_listed_errors_first_with_three_videos_each(tmp_path):
    database = {f"v{i}": video(segments=[(5, 5), (3, 2), (0, 30)]) for i in range(4)} | {"b": video("val")}
    assert wrong(told(write(tmp_path, database))[1]) == [
        "error  reversed: 4 videos (v0, v1, v2, …)",
        "note   past the end by more than 1 s: 4 videos (v0, v1, v2, …)",
        "note   of zero length: 4 videos (v0, v1, v2, …)",
    ]


LONG = "x" * 252
ODD_ENTRIES = {  # one entry → whether every verb refuses the file
    "reversed": ({"c": video(segments=[(3, 2)])}, True),
    "before the start": ({"c": video(segments=[(-1, 2)])}, True),
    "past the end": ({"c": video(segments=[(0, 12)])}, False),
    "all past the end": ({"c": video(segments=[(11, 12)])}, False),
    "of zero length": ({"c": video(segments=[(2, 2)])}, False),
    "twice": ({"c": video(segments=[(1, 2)] * 2)}, False),
    "no duration": ({"c": video(duration=None)}, False),
    "text numbers": ({"c": video(segments=[("0.5", "1.5")], duration="10")}, False),
    "ambiguous reversed": ({"c": video(ambiguous=[[3, 2]])}, True),
    "unknown keys": ({"c": video(fps=25.0, duration_frame=250, label_id=3)}, False),
    "subset in capitals": ({"c": video(" Validation ")}, False),
    "unknown subset": ({"c": video("trainval")}, True),
    "null subset": ({"c": video(None)}, True),
    "no subset": ({"c": {"annotations": []}}, True),
    "null label": ({"c": video(label=None)}, True),
    "integer label": ({"c": video(label=3)}, True),
    "empty label": ({"c": video(label=" ")}, True),
    "endless label": ({"c": video(label="x" * 501)}, True),
    "nan": ({"c": video(segments=[(0, float("nan"))])}, True),
    "infinite": ({"c": video(segments=[(0, float("inf"))])}, True),
    "nan text": ({"c": video(segments=[(0, "nan")])}, True),
    "true": ({"c": video(segments=[(True, 2)])}, True),
    "null": ({"c": video(segments=[(0, None)])}, True),
    "three": ({"c": video(segments=[(0, 1, 2)])}, True),
    "absurd": ({"c": video(segments=[(0, 1e300)])}, True),
    "absurd integer": ({"c": video(segments=[(0, 10**4000)])}, True),
    "no time": ({"c": video(duration=0)}, True),
    "negative time": ({"c": video(duration=-3)}, True),
    "time that is none": ({"c": video(duration=[3])}, True),
    "no annotations": ({"c": {"subset": "train"}}, True),
    "null annotations": ({"c": {"subset": "train", "annotations": None}}, True),
    "annotations by key": ({"c": {"subset": "train", "annotations": {"0": {}}}}, True),
    "list": ({"c": []}, True),
    "null entry": ({"c": None}, True),
    "both names": ({"v_12345678901": video(), "12345678901": video()}, True),
    "no id": ({"": video()}, True),
    "path": ({"../c": video()}, True),
    "absolute": ({"/etc/c": video()}, True),
    "backslash": ({"a\\c": video()}, True),
    "blank around": ({"c ": video()}, True),
    "new line": ({"c\nd": video()}, True),
    "long id": ({LONG: video()}, True),
    "80 characters of three bytes": ({"視" * 80: video()}, False),
}


@pytest.mark.parametrize("name", ODD_ENTRIES)
def test_the_check_and_every_other_verb_agree(tmp_path, um, name):
    """In one line, without what they quote making it long."""
    entries, refused = ODD_ENTRIES[name]
    path = write(tmp_path, GOOD | entries)
    assert um("data", "check", path)[0] == (1 if refused else 0)
    predictions = tmp_path / "predictions.json"
    row = {"label": "run", "score": 1, "segment": [0, 1]}
    predictions.write_text(json.dumps({"results": {"b": [row], "c": [row]}}))
    code, _, error = um("evaluate", "--annotations", path, "--predictions", predictions, "--subset", "val")
    assert code == (2 if refused else 0), error
    if refused:
        assert error.startswith(f"um: {path}")
        assert error.count("\n") == 1
        assert len(error) < 1000


@pytest.mark.parametrize("factor", [30, 1000])
def test_times_in_frames_or_milliseconds_are_told_with_their_ratio(tmp_path, factor):
    database = {f"v{i}": video("val", segments=[(factor * 4, factor * 5), (factor * 8, factor * 9)]) for i in range(5)}
    path = write(tmp_path, database | {"a": video()})
    with pytest.raises(
        BadInput, match=r"10 of 11 instances after the end of their video: times are \d+ times"
    ) as error:
        annotations.load(path)
    assert error.value.found in "\n".join(told(path)[1])
    assert told(path)[0]


def test_times_that_are_fractions_of_the_video_are_refused(tmp_path):
    database = {f"v{i}": video("val", segments=[(0.25, 0.5), (0.75, 1)]) for i in range(5)} | {"a": video()}
    path = write(tmp_path, database)
    with pytest.raises(
        BadInput, match="all 11 instances within the first second: times are fractions of the video"
    ) as error:
        annotations.load(path)
    bad, lines = told(path)
    assert bad
    assert f"error  {error.value.found}: 6 videos (v0, v1, v2, …)" in lines
    for few in ({"v0": database["v0"]}, {name: entry | {"duration": 1.5} for name, entry in database.items()}):
        annotations.load(write(tmp_path, few))


@pytest.mark.parametrize("other", ["Run", "run ", " RUN", "r un", "r\u00a0un", "ｒｕｎ"])
def test_labels_that_differ_only_in_case_or_blanks(tmp_path, caplog, other):
    """An error of the check and a warning of the others, which keep them apart."""
    path = write(tmp_path, GOOD | {"c": video(label=other), "d": video("val", label=other)})
    bad, lines = told(path)
    assert bad
    (line,) = wrong(lines)
    both = " and ".join(f"{label!r}: 2" for label in sorted(["run", other]))
    assert line == f"error  labels that differ only in case or blanks: 1 class ({both})"
    assert len({label for v in annotations.load(path).videos.values() for label in v.labels}) == 2
    assert caplog.messages == [f"{path}: labels that differ only in case or blanks are different classes: {both}"]


def test_actionformers_file_is_read_with_one_warning(reference_data, actionformer, um, caplog):
    """What most code for THUMOS14 uses; AICL's predictions have 210 of its 212 test videos."""
    code, lines, _ = um("data", "check", actionformer)
    assert code == 0
    assert "note   past the end by more than 1 s: 4 videos (" in lines
    assert "test   212 videos, 3,358 instances of 20 classes" in lines
    published = reference_data / "data/published/aicl_thumos14.json"
    code, _, error = um("evaluate", "--annotations", actionformer, "--predictions", published)
    assert code == 0, error
    metrics = json.loads(Path("metrics.json").read_text())
    assert round(100 * metrics["average_mAP"], 1) == 45.8
    assert (metrics["num_videos"], metrics["num_instances"], metrics["num_missing"]) == (212, 3358, 2)
    assert caplog.text.count("past the end of 4 videos") == 1
    assert "no entry for 2 videos" in caplog.text


@pytest.fixture
def actionformer(reference_data, tmp_path):
    """ActionFormer's thumos14.json: subsets in capitals, durations, frames, label ids; built from the same sources."""
    folder = reference_data / "data/thumos14"
    known = json.loads((folder / "durations.json").read_text())
    gt = annotations.load(folder / "gt.json")
    videos = [*gt.subset("train"), *(v for v in annotations.load(folder / "official_test").subset("test") if v.labels)]
    database = {}
    for video in videos:
        about = known.get(video.id, {"duration": video.last + 10, "fps": 30.0})  # 270 and 1496: invented
        database[video.id] = {
            "subset": "Validation" if "validation" in video.id else "Test",
            "duration": about["duration"],
            "fps": about["fps"],
            "duration_frame": round(about["duration"] * about["fps"]),
            "annotations": [
                {
                    "label": i.label,
                    "segment": [i.start, i.end],
                    "segment(frames)": [i.start * about["fps"], i.end * about["fps"]],
                    "label_id": sorted(check.THUMOS14).index(i.label),
                }
                for i in video.instances
            ],
        }
    assert len(database) == 412
    path = tmp_path / "thumos14.json"
    path.write_text(json.dumps({"version": "Thumos14-30fps", "database": database}))
    return path


@given(
    st.lists(
        st.tuples(st.floats(-2, 14), st.floats(-2, 14)).map(lambda pair: [round(second, 2) for second in pair]),
        min_size=1,
        max_size=4,
    )
)
def test_segments_are_errors_when_load_refuses_them(tmp_path_factory, segments):
    path = write(tmp_path_factory.mktemp("any"), {"a": video(segments=segments), "b": video("val")})
    try:
        annotations.load(path)
        refused = False
    except BadInput:
        refused = True
    assert told(path)[0] == refused


def test_labels_are_known_by_the_taxonomy_where_there_is_one(tmp_path):
    nodes = [{"nodeName": "run", "parentName": "sport"}, {"nodeName": "sport", "parentName": "root"}]
    database = GOOD | {"c": video(label="sport")}  # a node, but no class
    assert "error  unknown labels: 1 label (sport)" in told(write(tmp_path, database, taxonomy=nodes))[1]
    assert wrong(told(write(tmp_path, database, taxonomy=[]))[1]) == []


def test_labels_of_thumos14_are_its_twenty(tmp_path):
    database = {
        "video_validation_0000001": video("train", label="Diving"),
        "video_test_0000001": video("test", label="GolfSwing"),  # no training video has it, and it is known
        "video_test_0000002": video("test", label="Golf"),
    }
    assert "error  unknown labels: 1 label (Golf)" in told(write(tmp_path, database))[1]


def test_a_file_without_training_videos_has_no_unknown_labels(tmp_path):
    assert wrong(told(write(tmp_path, {"b": video("test")}))[1]) == []


def test_ambiguous_segments_are_no_instances(tmp_path):
    database = GOOD | {"c": video("val", segments=[], ambiguous=[[1, 2]]), "d": video("val", label="Ambiguous")}
    lines = told(write(tmp_path, database))[1]
    assert wrong(lines) == ["note   without a label elsewhere: 2 videos (c, d)"]
    assert lines[-3:] == ["instances  train    val", "Ambiguous      0      2", "run            1      1"]


def test_the_text_files_of_thumos14(tmp_path):
    (tmp_path / "Diving_test.txt").write_text("v1  1.0 2.0\nv1  5.0 4.0\n\nv2 1.0\n")
    (tmp_path / "Dives_val.txt").write_text("v3  1.0 2.0\n")
    (tmp_path / "Ambiguous_test.txt").write_text("v4  1.0 2.0\n")
    (tmp_path / "detclasslist.txt").write_text("26 Diving\n")
    bad, lines = told(tmp_path)
    assert bad
    assert wrong(lines) == [
        "error  reversed: 1 video (v1)",
        "error  unreadable: 1 video (v2)",
        "error  unknown labels: 1 label (Dives)",
        "note   without a label elsewhere: 2 videos (v2, v4)",
        "note   without a duration: 4 videos (v1, v2, v3, …)",
    ]
    assert lines[-4:] == [
        "instances    val   test",
        "Ambiguous      0      1",
        "Dives          1      0",
        "Diving         0      1",
    ]


def test_annotations_are_found_by_folder_and_by_dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/tiny"
    folder.mkdir(parents=True)
    path = write(folder, GOOD)
    assert told(folder)[1][0] == f"{path}: 2 videos"
    assert told("tiny")[1][0] == "data/tiny/annotations.json: 2 videos"
    path.rename(folder / "gt.json")
    assert told("tiny")[1][0] == "data/tiny/gt.json: 2 videos"
    (folder / "gt.json").rename(folder / "annotations_1.3.json")
    assert told("tiny")[1][0] == "data/tiny/annotations_1.3.json: 2 videos"


@pytest.mark.parametrize("content", ["[]", "{}", '{"database": {}}', '{"database": []}', "{"])
def test_what_is_no_annotation_file_is_said(tmp_path, content):
    path = tmp_path / "annotations.json"
    path.write_text(content)
    with pytest.raises(BadInput):
        report(path, print)


def test_where_there_is_nothing_it_is_said(tmp_path):
    with pytest.raises(BadInput, match="no such file or dataset"):
        report("nowhere", print)
    with pytest.raises(BadInput, match="neither annotations"):
        report(tmp_path, print)


def test_ids_that_are_there_twice_in_json_are_told_by_its_reader(tmp_path):
    (tmp_path / "gt.json").write_text('{"database": {"a": {}, "a": {}}}')
    with pytest.raises(BadInput, match="'a' twice"):
        check.read(tmp_path / "gt.json")
