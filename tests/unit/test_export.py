"""What `um localize` prints and writes for other programs: tables, subtitles, pseudo-labels."""

import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from helpers.tiny import make_dataset, options
from hypothesis import given
from hypothesis import strategies as st

from um.datasets import annotations
from um.report import export

SEGMENT = st.tuples(
    st.sampled_from("ab"), st.sampled_from(["x", "y"]), st.floats(-1, 1), st.integers(0, 20), st.integers(1, 9)
)
LONG = {**dict.fromkeys(("embedding_dim", "batch_size"), 16), "iterations": 60, "eval_every": 60, "lr": 0.01}


def rows_of(*segments) -> pd.DataFrame:
    columns = ["video", "label", "score", "start", "end"]
    rows = [
        (video, label, score, float(start), float(start + length)) for video, label, score, start, length in segments
    ]
    return pd.DataFrame(rows, columns=columns)


@given(st.lists(SEGMENT, max_size=12))
def test_distinct_segments_do_not_overlap_and_no_better_one_is_missing(segments):
    rows = rows_of(*segments)
    kept = export.distinct(rows)
    for key, group in rows.groupby(["video", "label"]):
        ours = kept[(kept["video"] == key[0]) & (kept["label"] == key[1])]
        assert group["score"].max() in ours["score"].to_numpy()
        spans = ours[["start", "end"]].to_numpy()
        assert (spans[1:, 0] >= spans[:-1, 1]).all()
        cut = min(group["score"].max(), group["score"].max() / 2)
        for _, row in group[group["score"] >= cut].iterrows():
            over = ours[(ours["start"] < row["end"]) & (ours["end"] > row["start"])]
            assert over["score"].max() >= row["score"]
    assert kept.sort_values(["video", "start"], kind="stable").equals(kept)


def test_the_best_of_each_video_stay_in_their_order():
    rows = rows_of(("a", "x", 0.1, 0, 1), ("a", "x", 0.9, 1, 1), ("b", "x", 0.2, 0, 1), ("a", "y", 0.5, 2, 1))
    assert export.best(rows, top=1)["score"].tolist() == [0.9, 0.2]
    assert export.best(rows, top=2)["score"].tolist() == [0.9, 0.2, 0.5]
    assert export.best(rows, min_score=0.2)["score"].tolist() == [0.9, 0.2, 0.5]
    assert export.best(rows, min_score=0.95).empty


def test_subtitles_hold_any_label_as_text():
    rows = rows_of(("a", "<b>--> jump\n\n2", 0.5, 3661, 2), ("a", "run & hide", 0.25, 0, 1))
    assert export.srt(rows) == (
        "1\n00:00:00,000 --> 00:00:01,000\nrun & hide (0.25)\n\n"
        "2\n01:01:01,000 --> 01:01:03,000\n<b>→ jump\\n\\n2 (0.50)\n\n"
    )
    assert export.vtt(rows) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nrun &amp; hide (0.25)\n\n"
        "01:01:01.000 --> 01:01:03.000\n&lt;b&gt;--&gt; jump\\n\\n2 (0.50)\n\n"
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    from um.cli import app

    folder = tmp_path_factory.mktemp("trained")
    root = make_dataset(folder / "d")
    words = ["train", "--data-dir", root, *options(LONG), "--num-segments", 12, "--out", folder / "m"]
    app(list(map(str, words)), standalone_mode=False)
    return folder / "m/last.safetensors"


@pytest.fixture
def trained(model, tmp_path) -> tuple[Path, list]:
    return make_dataset(tmp_path / "d"), ["--model-file", model, "--no-timelines"]


def test_the_best_segments_are_printed_and_every_file_is_named(um, trained):
    root, model = trained
    code, out, _ = um(
        "localize", root / "features/test", *model, "--out", "p.json", "--export", "csv", "--export", "srt"
    )
    assert code == 0
    assert "video_06" in out
    assert re.search(r"p\.json: \d+ segments of 4 videos", out)
    names = [f"video_{number:02d}.srt" for number in range(6, 10)]
    assert sorted(path.name for path in Path("p-export").iterdir()) == sorted([".um.jsonl", "segments.csv", *names])
    with Path("p-export/segments.csv").open() as file:
        listed = [(row["video"], row["label"], float(row["score"])) for row in csv.DictReader(file)]
    results = json.loads(Path("p.json").read_text())["results"]
    assert sorted(listed) == sorted((name, r["label"], r["score"]) for name, rows in results.items() for r in rows)
    assert max(len(line) for line in out.splitlines()) <= 80


def test_a_dataset_is_localised_as_um_test_does(um, trained):
    root, model = trained
    assert um("test", "--data-dir", root, *model[:2], "--out", "r")[0] == 0
    assert um("localize", "--data-dir", root, *model, "--out", "p.json")[0] == 0
    assert (
        json.loads(Path("p.json").read_text())["results"]
        == json.loads(Path("r/predictions.json").read_text())["results"]
    )
    assert um("localize", "--data-dir", root, "--subset", "train", *model, "--out", "t.json", "--top", 2)[0] == 0
    results = json.loads(Path("t.json").read_text())["results"]
    assert sorted(results) == [f"video_{number:02d}" for number in range(6)]
    assert max(map(len, results.values())) <= 2


def test_pseudo_labels_are_annotations_of_the_videos_own_classes(um, trained, caplog):
    root, model = trained
    words = ("localize", "--data-dir", root, "--pseudo-labels", *model, "--out", "pseudo.json")
    assert um(*words)[0] == 0
    before, after = annotations.load(root / "annotations.json").videos, annotations.load(Path("pseudo.json")).videos
    assert before.keys() == after.keys()
    for name, video in after.items():
        assert (video.subset, video.duration) == (before[name].subset, before[name].duration)
        if video.subset == "train":
            assert video.labels == before[name].labels  # the labels decide, not the model
            assert all(0 <= i.start < i.end <= video.duration for i in video.instances)
        else:
            assert video.instances == before[name].instances
    assert um("data", "check", "pseudo.json")[0] == 0
    (root / "features/train/rgb/video_00.npy").unlink()
    assert um(*words[:-1], "fewer.json")[0] == 0
    assert "left out, without features: 1 video (video_00)" in caplog.text  # not its true segments
    assert annotations.load(Path("fewer.json")).videos.keys() == before.keys() - {"video_00"}
    make_dataset(root)
    once = Path("pseudo.json").read_bytes()
    assert um(*words)[0] == 0
    assert Path("pseudo.json").read_bytes() == once
    (root / "annotations.json").write_bytes(once)  # a student
    assert um("train", "--data-dir", root, *options(LONG), "--num-segments", 12, "--out", "student")[0] == 0


def test_another_clock_is_refused_and_simulated_features_are_told(um, trained):
    root, model = trained
    (root / "features/spec.json").write_text(
        json.dumps({"simulated": True, "fps": 25.0, "window": 16, "streams": "rgb"})
    )
    assert um("localize", "--data-dir", root, *model, "--out", "p.json")[0] == 0
    assert um("localize", root / "features/test", *model, "--out", "s.json")[0] == 0
    for name in ("p.json", "s.json"):
        assert json.loads(Path(name).read_text())["external_data"]["simulated"]
    (root / "features/spec.json").write_text(json.dumps({"fps": 30.0, "window": 16, "streams": "rgb"}))
    code, _, err = um("localize", "--data-dir", root, *model, "--out", "q.json")
    assert (code, len(err.splitlines())) == (2, 1)
    assert not Path("q.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "neither inputs nor a dataset"),
        (["d/features/test", "--data-dir", "d"], "both inputs and a dataset"),
        (["d/features/test", "--pseudo-labels"], "--pseudo-labels without a dataset"),
        (["--data-dir", "d", "--subset", "test", "--pseudo-labels"], "--pseudo-labels of the subset test; expected"),
        (["d/features/test", "--export", "ass"], "--export ass; expected one of csv, srt, vtt"),
        (["--data-dir", "d", "--subset", "all"], "--subset all; expected one of train, test"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(um, trained, words, said):
    code, _, err = um("localize", *words, *trained[1], "--out", "p.json")
    assert (code, len(err.splitlines())) == (2, 1)
    assert said in err
    assert not Path("p.json").exists()


def test_files_of_others_are_not_replaced(um, trained):
    root, model = trained
    theirs = Path("p-export/segments.csv")
    theirs.parent.mkdir()
    theirs.write_text("video,label,score,start,end\nmine\n")
    code, _, err = um("localize", root / "features/test", *model, "--out", "p.json", "--export", "csv")
    assert code == 2
    assert "segments.csv" in err
    assert theirs.read_text().endswith("mine\n")
    assert not Path("p.json").exists()
    mine = (root / "annotations.json").read_bytes()
    code, _, err = um("localize", "--data-dir", root, "--pseudo-labels", *model, "--out", root / "annotations.json")
    assert code == 2
    assert (root / "annotations.json").read_bytes() == mine
