"""Predictions and their submission form."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from um.datasets import annotations
from um.datasets.annotations import Instance, Video
from um.errors import BadInput
from um.evaluation.metrics import accuracy, evaluate, whole_video
from um.model import UM
from um.params import Evaluate, Localize, Train
from um.predict import predict
from um.submission import COLUMNS, read_submission, submission

CLASSES = ["a", "b", "c"]


@pytest.fixture
def model() -> UM:
    torch.manual_seed(0)
    return UM(4, 3, Train(embedding_dim=5)).eval()


def video(name="v", label="a", start=0.0, end=1.0, duration=None) -> Video:
    return Video(name, "test", duration, (Instance(label, start, end),))


def test_every_video_is_predicted_whatever_its_length(model):
    torch.manual_seed(1)
    videos = [(f"v{length}", torch.randn(length, 4)) for length in (1, 2, 5, 8, 30)]
    frame, labels = predict(model, videos, CLASSES, Localize(class_threshold=0.0), 0.64)
    assert list(labels) == [name for name, _ in videos]
    assert all(found == CLASSES for found in labels.values())
    assert list(frame.columns) == COLUMNS
    for name, features in videos:
        assert (frame[frame["video"] == name]["end"] <= len(features) * 0.64 + 1e-9).all()


def test_an_unreached_threshold_gives_no_label_but_the_best_class_s_segments(model):
    frame, labels = predict(model, [("v", torch.randn(20, 4))], CLASSES, Localize(class_threshold=1.0), 0.64)
    assert labels == {"v": []}
    assert len(set(frame["label"])) == 1


def test_a_submission_survives_its_file(model, tmp_path):
    torch.manual_seed(1)
    videos = [("one", torch.randn(20, 4)), ("two", torch.randn(9, 4))]
    frame, _ = predict(model, videos, CLASSES, Localize(), 0.64)
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(submission(frame, ["one", "two", "empty"])))
    assert json.loads(path.read_text())["results"]["empty"] == []
    pd.testing.assert_frame_equal(read_submission(path).predictions, frame, check_dtype=False, check_exact=True)


def test_videos_without_any_segment_are_scored(model):
    with torch.no_grad():
        model.embed.weight.zero_()
        model.embed.bias.zero_()
    frame, _ = predict(model, [("v", torch.randn(20, 4))], CLASSES, Localize(), 0.64)
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


def test_only_the_videos_of_the_subset_count():
    rows = [("v", "a", 1.0, 0.0, 1.0), ("train video", "a", 2.0, 0.0, 1.0)]
    metrics = evaluate([video()], pd.DataFrame(rows, columns=COLUMNS), Evaluate())
    assert metrics["average_mAP"] == 1
    assert (metrics["num_videos"], metrics["num_instances"], metrics["num_predictions"]) == (1, 1, 1)


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


def test_a_label_ambiguous_is_ignored_by_thumos14_and_a_class_to_activitynet():
    listed = [Video("v", "test", None, (Instance("a", 0, 10), Instance("Ambiguous", 20, 30)))]
    rows = pd.DataFrame([("v", "a", 0.9, 20.0, 30.0), ("v", "a", 0.8, 0.0, 10.0)], columns=COLUMNS)
    ours, theirs = (evaluate(listed, rows, Evaluate(protocol=name)) for name in ("thumos14", "activitynet"))
    assert ours["ap"] == {"a": [1.0] * 7}
    assert (ours["num_instances"], ours["num_ambiguous"]) == (1, 1)
    assert theirs["ap"] == {"Ambiguous": [0.0] * 7, "a": [0.5] * 7}
    assert "num_ambiguous" not in theirs


def test_ambiguous_segments_beside_the_instances_are_no_class_to_activitynet():
    listed = [Video("v", "test", None, (Instance("a", 0, 10),), (Instance("Ambiguous", 20, 30),))]
    rows = pd.DataFrame([("v", "a", 0.9, 20.0, 30.0), ("v", "a", 0.8, 0.0, 10.0)], columns=COLUMNS)
    assert evaluate(listed, rows, Evaluate())["ap"] == {"a": [0.5] * 7}
    assert evaluate(listed, rows, Evaluate(protocol="thumos14"))["ap"] == {"a": [1.0] * 7}


def test_a_submission_names_its_videos_with_or_without_predictions(tmp_path):
    path = tmp_path / "predictions.json"
    path.write_text('{"results": {"one": [], "v___dXUJsj3yo": []}}')
    found = read_submission(path)
    assert found.videos == ["one", "__dXUJsj3yo"]
    assert list(found.predictions.columns) == COLUMNS
