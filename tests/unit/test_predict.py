"""Predictions and their submission form."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from um.datasets import annotations
from um.datasets.annotations import Instance, Video
from um.errors import BadInput
from um.evaluation.metrics import accuracy, evaluate
from um.evaluation.submission import COLUMNS, read_submission, submission
from um.forms import Span
from um.method.model import UM
from um.method.predict import predict
from um.params import Evaluate, Localize, Train
from um.report.table.controls import whole_video

CLASSES = ["a", "b", "c"]


@pytest.fixture
def model() -> UM:
    torch.manual_seed(0)
    return UM(4, 3, Train(embedding_dim=5)).eval()


def spread(name: str, rows: int) -> tuple[str, torch.Tensor, Span]:
    """Random features of 0.64 s per row."""
    return name, torch.randn(rows, 4), Span(0.0, rows * 0.64)


def video(name="v", label="a", start=0.0, end=1.0, duration=None) -> Video:
    return Video(name, "test", duration, (Instance(label, start, end),))


def test_every_video_is_predicted_whatever_its_length(model):
    torch.manual_seed(1)
    videos = [spread(f"v{length}", length) for length in (1, 2, 5, 8, 30)]
    frame, labels = predict(model, videos, CLASSES, Localize(class_threshold=0.0))
    assert list(labels) == [name for name, *_ in videos]
    assert all(found == CLASSES for found in labels.values())
    assert list(frame.columns) == COLUMNS
    for name, features, _ in videos:
        assert (frame[frame["video"] == name]["end"] <= len(features) * 0.64 + 1e-9).all()


def test_an_unreached_threshold_gives_the_best_class_s_segments(model):
    frame, labels = predict(model, [spread("v", 20)], CLASSES, Localize(class_threshold=1.0))
    assert labels == {"v": []}
    assert len(set(frame["label"])) == 1


def test_a_submission_survives_its_file(model, tmp_path):
    torch.manual_seed(1)
    videos = [spread("one", 20), spread("two", 9)]
    frame, _ = predict(model, videos, CLASSES, Localize())
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(submission(frame, ["one", "two", "empty"])))
    assert json.loads(path.read_text())["results"]["empty"] == []
    pd.testing.assert_frame_equal(read_submission(path).predictions, frame, check_dtype=False, check_exact=True)


def test_videos_without_any_segment_are_scored(model):
    with torch.no_grad():
        model.embed.weight.zero_()
        model.embed.bias.zero_()
    frame, _ = predict(model, [spread("v", 20)], CLASSES, Localize(whole_video=False))
    assert frame.empty
    assert submission(frame, ["v"])["results"] == {"v": []}
    assert evaluate([video()], frame, Evaluate())["average_mAP"] == 0


def test_ids_of_submissions_lose_their_prefix(tmp_path):
    path = tmp_path / "predictions.json"
    row = {"label": "a", "score": 1, "segment": [0, 1]}
    path.write_text(json.dumps({"results": {"v___dXUJsj3yo": [row]}}))
    assert read_submission(path).predictions["video"].tolist() == ["__dXUJsj3yo"]


def test_an_id_with_and_without_prefix_is_one_video_twice(tmp_path):
    path = tmp_path / "predictions.json"
    row = {"label": "a", "score": 1, "segment": [0, 1]}
    path.write_text(json.dumps({"results": {"v___dXUJsj3yo": [row], "__dXUJsj3yo": [row]}}))
    with pytest.raises(BadInput, match="with and without v_"):
        read_submission(path)


@pytest.mark.parametrize("protocol", ["activitynet", "thumos14"])
def test_predictions_for_other_videos_are_false_positives(protocol):
    """As in ANETdetection, which finds no ground truth for them, and in the kit, which takes the videos of both."""
    rows = [("v", "a", 1.0, 0.0, 1.0), ("train video", "a", 2.0, 0.0, 1.0), ("train video", "zebra", 3.0, 0.0, 1.0)]
    metrics = evaluate([video()], pd.DataFrame(rows, columns=COLUMNS), Evaluate(protocol=protocol))
    assert metrics["average_mAP"] == 0.5
    assert (metrics["num_videos"], metrics["num_predictions"], metrics["num_unlisted"]) == (1, 1, 2)


def test_a_predicted_class_that_the_truth_lacks_changes_no_score():
    rows = pd.DataFrame([("v", "a", 1.0, 0.0, 1.0), ("v", "zebra", 2.0, 0.0, 1.0)], columns=COLUMNS)
    metrics = evaluate([video()], rows, Evaluate())
    assert metrics["average_mAP"] == 1
    assert list(metrics["ap"]) == ["a"]


def test_the_average_is_that_of_classes_and_thresholds():
    videos = [video("v", "a", 0, 10), video("w", "b", 0, 10)]
    rows = pd.DataFrame([("v", "a", 1.0, 0.0, 10.0), ("w", "b", 1.0, 0.0, 4.5)], columns=COLUMNS)
    metrics = evaluate(videos, rows, Evaluate())
    assert list(metrics["mAP"]) == [f"0.{i}0" for i in range(1, 8)]
    assert list(metrics["mAP"].values()) == [1, 1, 1, 1, 0.5, 0.5, 0.5]
    assert metrics["average_mAP"] == pytest.approx(np.mean([1, 1, 1, 1, 0.5, 0.5, 0.5]))


def test_no_instance_to_find_is_an_error():
    with pytest.raises(BadInput, match="no instance in 1 videos"):
        evaluate([Video("v", "test", 1.0, ())], pd.DataFrame(columns=COLUMNS), Evaluate())


def test_thresholds_closer_than_a_hundredth_keep_their_own_score():
    metrics = evaluate([video()], pd.DataFrame(columns=COLUMNS), Evaluate(tiou="0.5:0.51:0.0025"))
    assert len(metrics["mAP"]) == len(metrics["tiou"]) == 5


def test_accuracy_counts_exact_label_sets():
    two = Video("w", "test", None, (Instance("a", 0, 1), Instance("b", 0, 1)))
    assert accuracy([video(), two], {"v": ["a"], "w": ["b", "a"]}) == 1
    assert accuracy([video(), two], {"v": ["a"], "w": ["a"]}) == 0.5
    assert accuracy([video(), two], {"v": ["a", "b"], "w": []}) == 0


def test_whole_videos_end_with_their_duration_or_last_instance():
    rows = whole_video([video("v", "a", 2, 3, duration=9.0), video("w", "a", 2, 3)])
    assert rows[["video", "start", "end"]].to_numpy().tolist() == [["v", 0.0, 9.0], ["w", 0.0, 3.0]]


def test_whole_videos_of_activitynet(reference_data):
    """Instances that fill their video are the only ones found at a threshold near 1."""
    path = reference_data / "data/activitynet/activity_net.v1-2.missing-removed.json"
    videos = annotations.load(path).subset("test")
    metrics = evaluate(videos, whole_video(videos), Evaluate(tiou="0.5:0.95:0.05"))
    values = list(metrics["mAP"].values())
    assert values == sorted(values, reverse=True)
    assert 0.15 < metrics["average_mAP"] < 0.25


def test_thumos14_without_ambiguous_segments_ignores_nothing():
    metrics = evaluate([video()], whole_video([video(duration=1.0)]), Evaluate(protocol="thumos14"))
    assert (metrics["average_mAP"], metrics["num_ambiguous"]) == (1, 0)


def test_the_label_ambiguous_is_a_class_to_activitynet_alone():
    listed = [Video("v", "test", None, (Instance("a", 0, 10), Instance("Ambiguous", 20, 30)))]
    rows = pd.DataFrame([("v", "a", 0.9, 20.0, 30.0), ("v", "a", 0.8, 0.0, 10.0)], columns=COLUMNS)
    ours, theirs = (evaluate(listed, rows, Evaluate(protocol=name)) for name in ("thumos14", "activitynet"))
    assert ours["ap"] == {"a": [1.0] * 7}
    assert (ours["num_instances"], ours["num_ambiguous"]) == (1, 1)
    assert theirs["ap"] == {"Ambiguous": [0.0] * 7, "a": [0.5] * 7}
    assert "num_ambiguous" not in theirs


def test_ambiguous_segments_are_no_class_to_activitynet():
    listed = [Video("v", "test", None, (Instance("a", 0, 10),), (Instance("Ambiguous", 20, 30),))]
    rows = pd.DataFrame([("v", "a", 0.9, 20.0, 30.0), ("v", "a", 0.8, 0.0, 10.0)], columns=COLUMNS)
    assert evaluate(listed, rows, Evaluate())["ap"] == {"a": [0.5] * 7}
    assert evaluate(listed, rows, Evaluate(protocol="thumos14"))["ap"] == {"a": [1.0] * 7}


ROW = {"label": "a", "score": 1.0, "segment": [0.0, 1.0]}
ODD_RESULTS = {  # results → what is said; None: they are read
    "numbers as texts": ({"v": [ROW | {"score": "0.5", "segment": ["0", "1.5"]}]}, None),
    "integers": ({"v": [ROW | {"score": 1, "segment": [0, 1]}]}, None),
    "other keys": ({"v": [ROW | {"label_id": 3}]}, None),
    "empty segments": ({"v": [ROW | {"segment": [1.0, 1.0]}]}, None),
    "none at all": ({}, None),
    "list": ([], "no 'results' by video"),
    "null": (None, "no 'results' by video"),
    "null video": ({"v": None}, "v: found a NoneType|v: found None"),
    "one row": ({"v": ROW}, "v: found a dict; expected a valid list"),
    "text": ({"v": "none"}, "v: found 'none'; expected a valid list"),
    "null row": ({"v": [None]}, "v: found 0 = None"),
    "no label": ({"v": [{"score": 1.0, "segment": [0.0, 1.0]}]}, "v: found no 0.label"),
    "integer label": ({"v": [ROW, ROW | {"label": 7}]}, "v: found 1.label = 7; expected a valid string"),
    "null label": ({"v": [ROW | {"label": None}]}, "v: found 0.label = None; expected a valid string"),
    "blank label": ({"v": [ROW | {"label": " "}]}, "v: found label ' '"),
    "long label": ({"v": [ROW | {"label": "x" * 10**6}]}, "v: found label 'xxx"),
    "nan": ({"v": [ROW | {"score": float("nan")}]}, "v: found a number that is not finite"),
    "infinite": ({"v": [ROW | {"segment": [0.0, float("inf")]}]}, "v: found a number that is not finite"),
    "nan text": ({"v": [ROW | {"score": "nan"}]}, "v: found 0.score = nan; expected a finite number"),
    "true": ({"v": [ROW | {"score": True}]}, "v: found 0.score = True; expected a valid number"),
    "null score": ({"v": [ROW | {"score": None}]}, "v: found 0.score = None; expected a valid number"),
    "absurd integer": ({"v": [ROW | {"score": 10**4000}]}, "v: found 0.score = a number with more than a hundred"),
    "absurd time": ({"v": [ROW | {"segment": [0.0, 1e300]}]}, "v: found a time beyond 1e9"),
    "reversed": ({"v": [ROW | {"segment": [2.0, 1.0]}]}, "v: found a segment that ends before it starts"),
    "three times": ({"v": [ROW | {"segment": [0.0, 1.0, 2.0]}]}, "v: found 0.segment = a list"),
    "no id": ({"": [ROW]}, "found the id ''"),
    "path": ({"../x": [ROW]}, "found the id '../x'"),
    "absolute": ({"/data/v.mp4": [ROW]}, "found the id '/data/v.mp4'"),
    "blanks": ({"v ": [ROW]}, "found the id 'v '"),
    "long id": ({"v" * 300: [ROW]}, "found the id 'vvv"),
}


@pytest.mark.parametrize("name", ODD_RESULTS)
def test_odd_submissions_are_read_or_refused_in_one_line(tmp_path, name):
    results, message = ODD_RESULTS[name]
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps({"results": results}))
    if message is None:
        assert read_submission(path).videos == list(results)
        return
    with pytest.raises(BadInput, match=message) as error:
        read_submission(path)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value)) < 800


@pytest.mark.parametrize(
    "remarks",
    [
        None,
        [],
        "text",
        {"model": []},
        {"model": {"selection": 3}},
        {"model": {"selection": "last", "seed": -1}},
        {"x": 1},
    ],
)
def test_what_others_write_to_external_data_does_not_matter(tmp_path, remarks):
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps({"results": {"v": [ROW]}, "external_data": remarks}))
    found = read_submission(path)
    assert (found.model, found.simulated, found.labels) == (None, False, None)


def test_a_submission_names_its_videos_with_or_without_predictions(tmp_path):
    path = tmp_path / "predictions.json"
    path.write_text('{"results": {"one": [], "v___dXUJsj3yo": []}}')
    found = read_submission(path)
    assert found.videos == ["one", "__dXUJsj3yo"]
    assert list(found.predictions.columns) == COLUMNS
