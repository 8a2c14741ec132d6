"""Pictures of predictions: they show what the file holds, are equal for equal predictions, and come with `um localize`.

The CLI is run on a tiny rendered video with a tiny model and a backbone of random weights.
"""

import json
import re
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from helpers.rendering import constant
from helpers.tiny import SNIPPET
from hypothesis import given
from hypothesis import strategies as st

from um.datasets.annotations import Instance
from um.evaluation.submission import COLUMNS
from um.method import checkpoint
from um.method.checkpoint import Header
from um.method.localize import Curves
from um.method.model import UM
from um.params import Features, Localize, Train
from um.report.figures.timeline import CUT, LANES, SCORES, Found, clock, draw, lanes, picture

CLASSES = ["jump", "run", "throw"]
DURATION = 20.0

times = st.floats(0, DURATION).map(lambda second: round(second, 2))
rows = st.tuples(st.sampled_from(CLASSES), st.floats(-1, 1.2), times, times)


def table(listed: list) -> pd.DataFrame:
    ordered = [("v", label, score, min(a, b), max(a, b)) for label, score, a, b in listed]
    return pd.DataFrame(ordered, columns=COLUMNS)


def curves(T: int = 30) -> Curves:
    rng = np.random.default_rng(0)
    return Curves(np.array([0.5, 0.3, 0.2]), rng.random((T, 3)), rng.random(T))


FOUND = table(
    [("run", 0.9, 2, 8), ("run", 0.6, 3, 7), ("run", 0.4, 0, 20), ("jump", 0.3, 19.8, 20), ("run", 0.8, 9, 9.1)]
)
TRUTH = [Instance("run", 2, 7), Instance("throw", 12, 15)]


@given(st.lists(rows, max_size=60))
def test_bars_are_the_best_segments_and_do_not_overlap(listed):
    found = table(listed)
    shown = lanes(found, [], DURATION)
    assert {lane.label for lane in shown} == set(found["label"])
    best = [lane.bars[0].score for lane in shown]
    assert best == sorted(best, reverse=True)
    for lane in shown:
        segments = found[found["label"] == lane.label]
        assert lane.found == len(segments)
        assert lane.bars[0].score == segments["score"].max()
        scores = [bar.score for bar in lane.bars]
        assert scores == sorted(scores, reverse=True)
        assert scores[-1] >= min(scores[0], CUT * scores[0])  # the best are below 0 at times
        # every bar is a segment of its own
        held = segments[["start", "end", "score"]].apply(tuple, axis=1).tolist()
        for bar in lane.bars:
            held.remove((bar.start, bar.end, bar.score))
        for row in {bar.row for bar in lane.bars}:
            spans = sorted((bar.start, bar.end) for bar in lane.bars if bar.row == row)
            assert all(end < start for (_, end), (start, _) in pairwise(spans))


def test_a_lower_score_than_the_cut_and_a_fourth_row_are_left_out():
    high, low = table([("run", 1.0, 0, 5), ("run", 0.5, 6, 8)]), table([("run", 1.0, 0, 5), ("run", 0.49, 6, 8)])
    assert [len(lanes(found, [], DURATION)[0].bars) for found in (high, low)] == [2, 1]
    (lane,) = lanes(table([("run", 1 - i / 100, i, 18) for i in range(5)]), [], DURATION)
    assert [(bar.row, bar.score) for bar in lane.bars] == [(0, 1.0), (1, 0.99), (2, 0.98)]
    assert lane.found == 5


def test_scores_are_printed_inside_a_long_bar_and_beside_a_short_one():
    (run, jump) = lanes(FOUND, [], DURATION)
    assert [(bar.start, bar.text) for bar in run.bars] == [(2, 5.0), (9, pytest.approx(9.4)), (3, 5.0)]
    (last,) = jump.bars
    assert last.text == pytest.approx(19.5)  # left of it, as the picture ends on its right
    (lane,) = lanes(table([("run", 1 - i / 100, 2 * i, 2 * i + 1) for i in range(10)]), [], DURATION)
    assert [bar.text is None for bar in lane.bars] == [False] * SCORES + [True] * 2


def test_a_class_that_is_only_annotated_has_a_lane():
    shown = lanes(FOUND, TRUTH, DURATION)
    assert [(lane.label, lane.found, lane.truth) for lane in shown] == [
        ("run", 4, [(2, 7)]),
        ("jump", 1, []),
        ("throw", 0, [(12, 15)]),
    ]


def test_of_too_many_classes_the_annotated_and_the_best_stay():
    found = table([(f"class {i:02d}", 1 - i / 100, 0, 5) for i in range(LANES + 5)])
    last = f"class {LANES + 4:02d}"
    shown = lanes(found, [Instance(last, 0, 5)], DURATION)
    assert [lane.label for lane in shown] == [*(f"class {i:02d}" for i in range(LANES - 1)), last]
    figure = picture(Found("v", found, curves(), CLASSES, DURATION))
    assert "5 more classes" in figure.axes[0].get_title(loc="right")


def drawn(figure) -> list[tuple[float, float]]:
    """Start and end of everything that is drawn, but for the curves, which span the picture."""
    spans = []
    for collection in figure.axes[0].collections:
        boxes = (path.get_extents() for path in collection.get_paths() if len(path.vertices))
        spans += [(round(box.x0, 6), round(box.x1, 6)) for box in boxes]
    return sorted(span for span in spans if span != (0, DURATION))


def test_what_is_drawn_is_what_is_laid_out():
    figure = picture(Found("v", FOUND, curves(), CLASSES, DURATION, TRUTH))
    bars = [(bar.start, bar.end) for lane in lanes(FOUND, TRUTH, DURATION) for bar in lane.bars]
    assert drawn(figure) == sorted([*bars, *((instance.start, instance.end) for instance in TRUTH)])
    assert {text.get_text() for text in figure.axes[0].texts} == {"0.90", "0.80", "0.60", "0.30"}
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["run\n3 of 4", "jump\n1 of 1", "throw\nnot predicted", "probability\nof action"]
    assert figure.axes[0].get_title(loc="right").startswith("4 of 5 segments")


def test_equal_predictions_give_equal_bytes_whatever_matplotlib_is_set_to(tmp_path, monkeypatch):
    draw(tmp_path / "a.png", Found("v", FOUND, curves(), CLASSES, DURATION, TRUTH))
    with mpl.rc_context({"font.size": 20, "font.family": "serif", "axes.facecolor": "red", "savefig.dpi": 30}):
        draw(tmp_path / "b.png", Found("v", FOUND, curves(), CLASSES, DURATION, TRUTH))
    content = (tmp_path / "a.png").read_bytes()
    assert content == (tmp_path / "b.png").read_bytes()
    assert b"tEXt" not in content  # matplotlib's version
    draw(tmp_path / "b.png", Found("v", FOUND[:3], curves(), CLASSES, DURATION, TRUTH))
    assert content != (tmp_path / "b.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_names_are_text_and_no_formula(tmp_path):
    """`$…$` is a formula to matplotlib, and this one is broken."""
    found = FOUND.assign(label=r"$\frac$")
    draw(tmp_path / "a.png", Found(r"$\frac$", found, curves(), [r"$\frac$", "run", "throw"], DURATION))
    assert (tmp_path / "a.png").exists()


def test_a_video_of_one_snippet_without_segments(tmp_path):
    draw(tmp_path / "a.png", Found("v", FOUND[:0], curves(1), CLASSES, 0.64))
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("second", "duration", "text"),
    [(7, 20, "7 s"), (67, 119, "67 s"), (67, 120, "1:07"), (67, 7200, "0:01:07"), (7200, 7200, "2:00:00")],
)
def test_times_are_written_for_the_length_of_the_video(second, duration, text):
    assert clock(second, duration) == text


@pytest.fixture
def model(tmp_path) -> Path:
    torch.manual_seed(0)
    settings, features = Train(embedding_dim=8), Features(short_side=64, crop=32, clips=2)
    header = Header(
        classes=list(CLASSES),
        streams=["rgb"],
        snippet_seconds=SNIPPET,
        selection="last",
        iteration=1,
        seed=0,
        data="",
        features=features,
        train=settings,
        localize=Localize(),
    )
    checkpoint.write(tmp_path / "model.safetensors", UM(1024, len(CLASSES), settings), header)
    return tmp_path / "model.safetensors"


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name, snippets in (("one", 30), ("v_abcdefghijk", 12)):
        (tmp_path / "made/rgb").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"made/rgb/{name}.npy", rng.random((snippets, 1024), np.float32))
    return tmp_path / "made"


def annotated(path: Path, *names: str) -> Path:
    entry = {"subset": "test", "annotations": [{"label": "swim", "segment": [1, 3]}]}
    path.write_text(json.dumps({"database": dict.fromkeys(names, entry)}))
    return path


def test_a_picture_of_every_video_lies_beside_the_predictions(um, folder, model):
    assert um("localize", folder, "--model-file", model, "--out", "some/found.json")[0] == 0
    names = ["found-timelines/.um.jsonl", "found-timelines/one.png", "found-timelines/v_abcdefghijk.png", "found.json"]
    files = {str(path.relative_to("some")): path for path in sorted(Path("some").rglob("*.*"))}
    assert list(files) == names
    before = {name: path.read_bytes() for name, path in files.items()}
    assert um("localize", folder, "--model-file", model, "--out", "some/found.json")[0] == 0
    assert before == {name: path.read_bytes() for name, path in files.items()}
    assert um("localize", folder, "--model-file", model, "--out", "none/found.json", "--no-timelines")[0] == 0
    assert [path.name for path in Path("none").iterdir()] == ["found.json"]
    assert Path("none/found.json").read_bytes() == before["found.json"]


def test_pictures_show_the_segments_of_the_file_and_the_truth(um, folder, model, monkeypatch):
    from um.report.figures import timeline

    seen = {}
    monkeypatch.setattr(timeline, "draw", lambda path, video: path.touch() or seen.update({video.name: video}))
    truth = annotated(Path("truth.json"), "one", "abcdefghijk")  # ids count without v_
    assert um("localize", folder, "--model-file", model, "--out", "found.json", "--annotations", truth)[0] == 0
    results = json.loads(Path("found.json").read_text())["results"]
    assert list(seen) == list(results) == ["one", "v_abcdefghijk"]
    for (name, found, _, classes, duration, instances, _), snippets in zip(seen.values(), (30, 12), strict=True):
        expected = [(entry["label"], entry["score"], *entry["segment"]) for entry in results[name]]
        assert found[["label", "score", "start", "end"]].apply(tuple, axis=1).tolist() == expected
        assert len(expected) > 0
        assert classes == CLASSES
        assert duration == pytest.approx(snippets * SNIPPET)
        assert instances == (Instance("swim", 1, 3),)


def refused(outcome: tuple[int, str, str], *words: str) -> None:
    code, _, printed = outcome
    assert code == 2, printed
    assert printed.count("\n") == 1
    for word in words:
        assert word in printed
    assert not Path("found.json").exists()
    assert not Path("found-timelines").exists()


def test_annotations_that_cannot_be_shown(um, folder, model, tmp_path):
    words = ("localize", folder, "--model-file", model, "--out", "found.json", "--annotations")
    refused(um(*words, annotated(Path("truth.json"), "one")), "truth.json", "no video v_abcdefghijk")
    refused(um(*words, "nowhere.json"), "nowhere.json")
    refused(um(*words, annotated(Path("truth.json"), "one", "abcdefghijk"), "--no-timelines"), "--no-timelines")
    video = tmp_path / "two.mp4"
    video.write_bytes(b"no video, which nobody finds out: the annotations are looked at first")
    refused(um("localize", video, *words[2:], annotated(Path("truth.json"), "one")), "no video two")


def test_pages_are_made_of_videos_only(um, folder, model):
    refused(um("localize", folder, "--model-file", model, "--out", "found.json", "--view"), "--view without a video")


def test_an_id_twice_is_still_an_error(um, folder, model, tmp_path):
    refused(um("localize", folder, folder, "--model-file", model, "--out", "found.json"), "duplicate id one")
    for name in ("a/x.mp4", "b/x.avi"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    refused(um("localize", "a/x.mp4", "b/x.avi", "--model-file", model, "--out", "found.json"), "duplicate id x")


def test_from_a_video_to_segments_and_a_picture(um, model, tmp_path):
    from safetensors.torch import save_file

    from um.features.backbones import build

    torch.manual_seed(0)
    save_file(build("i3d-inception", None, "rgb").state_dict(), tmp_path / "weights.safetensors")
    video = constant(tmp_path / "clip.mp4", 85)
    truth = annotated(Path("truth.json"), "clip")
    words = ("--model-file", model, "--weights", tmp_path / "weights.safetensors", "--device", "cpu")
    code, said, printed = um("localize", video, *words, "--out", "found.json", "--annotations", truth, "--view")
    assert code == 0, printed
    assert "found-view/: a page" in said
    (entries,) = json.loads(Path("found.json").read_text())["results"].values()
    assert entries
    assert all(0 <= start < end <= 5 * SNIPPET + 1e-9 for start, end in (entry["segment"] for entry in entries))
    assert Path("found-timelines/clip.png").read_bytes().startswith(b"\x89PNG")
    page = Path("found-view/clip.html").read_text()
    assert 'src="../clip.mp4"' in page
    assert f'"curveSeconds":{5 * SNIPPET:g}' in page
    found, *_ = re.findall(r'"label":"(\w+)","truth":(\[.*?\]),"found"', page)
    assert found[0] in CLASSES
    again = um("localize", video, *words, "--out", "found.json", "--view", "--no-timelines", "--annotations", truth)
    assert (again[0], Path("found-view/clip.html").read_text()) == (0, page)
    Path("found-view/clip.html").write_text("mine")
    code, _, printed = um("localize", video, *words, "--out", "found.json", "--view")
    assert (code, Path("found-view/clip.html").read_text()) == (2, "mine")
    assert "found-view/clip.html: found a file that `um localize` did not write" in printed
