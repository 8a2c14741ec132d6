"""The method against the official code's own outputs (`golden/` of the reference data).

`forward_*.npz` hold inputs, weights, masks and every output, loss and gradient; `predictions.json`, `scores.json` and
`ap_*.json` what the official test code makes of an official checkpoint.
"""

import json
import sys

import numpy as np
import pytest
import torch
from helpers.oracle import OFFICIAL

from um.cli import main
from um.datasets import annotations
from um.datasets.folder import Folder
from um.datasets.subset import load_subset
from um.evaluation.metrics import accuracy, evaluate
from um.evaluation.submission import read_submission
from um.method import checkpoint
from um.method.loss import um_loss
from um.method.model import UM
from um.method.predict import predict
from um.params import Evaluate, Train
from um.test import score as um_score


@pytest.fixture(params=["a", "b", "c"])
def problem(request, reference_data):
    return np.load(reference_data / "golden" / f"forward_{request.param}.npz", allow_pickle=False)


def build(problem):
    tensor = {name: torch.from_numpy(problem[name]) for name in problem.files}
    D, F, _ = problem["conv_weight"].shape
    ratios = {name: float(problem[name]) for name in ("r_act", "r_bkg", "margin", "alpha", "beta")}
    model = UM(F, len(problem["classifier_weight"]), Train(embedding_dim=D, dropout=0.0, **ratios))
    model.load_state_dict(
        {
            "embed.weight": tensor["conv_weight"],
            "embed.bias": tensor["conv_bias"],
            "classifier.weight": tensor["classifier_weight"],
        }
    )
    return model, tensor


NAMES = {
    "score_act": "action_score",
    "score_bkg": "background_score",
    "feat_act": "action_embedding",
    "feat_bkg": "background_embedding",
    "features": "embedding",
    "cas_softmax": "cas",
}


def check(output, tensor, mode):
    for theirs, ours in NAMES.items():
        if f"{mode}_{theirs}" in tensor:
            torch.testing.assert_close(getattr(output, ours), tensor[f"{mode}_{theirs}"], rtol=1e-5, atol=1e-6)


def test_forward_in_evaluation_mode(problem):
    model, tensor = build(problem)
    with torch.inference_mode():
        check(model.eval()(tensor["x"]), tensor, "eval")


def test_forward_losses_and_gradients_in_training_mode(problem):
    model, tensor = build(problem)
    output = model.train()(tensor["x"], tensor["mask"])
    check(output, tensor, "train")
    loss = um_loss(output, tensor["label"], model.settings)
    for ours, theirs in zip(loss, ("total", "cls", "be", "um"), strict=True):
        assert ours.item() == pytest.approx(problem[f"loss_{theirs}"].item(), rel=1e-5)
    loss.total.backward()
    for name, gradient in (
        ("conv_weight", model.embed.weight.grad),
        ("conv_bias", model.embed.bias.grad),
        ("classifier_weight", model.classifier.weight.grad),
    ):
        largest = tensor[f"grad_{name}"].abs().max().item()
        torch.testing.assert_close(gradient, tensor[f"grad_{name}"], rtol=1e-4, atol=1e-4 * largest)


@pytest.fixture(scope="module")
def predicted(reference_data):
    folder = Folder(reference_data / "golden" / "dataset")
    model, header = checkpoint.read(reference_data / "golden" / "model_seed_11.pkl", Train())
    assert header is None
    test = load_subset(folder, "test")
    videos = (
        (video.id, rows := test.features(i), folder.span(video, len(rows))) for i, video in enumerate(test.videos)
    )
    predictions, labels = predict(model, videos, folder.classes, OFFICIAL.localize)
    return test.videos, predictions, labels


def test_predictions_of_an_official_checkpoint(predicted, reference_data):
    _, ours, _ = predicted
    theirs = read_submission(reference_data / "golden" / "predictions.json").predictions
    assert set(ours["video"]) == set(theirs["video"])
    keys = ["video", "label", "start", "end"]
    # Equal scores come in no order, so rows are compared sorted by segment.
    ours, theirs = (frame.sort_values(keys, ignore_index=True) for frame in (ours, theirs))
    assert ours[["video", "label"]].equals(theirs[["video", "label"]])
    np.testing.assert_allclose(ours[["start", "end"]], theirs[["start", "end"]], atol=1e-9)
    np.testing.assert_allclose(ours["score"], theirs["score"], atol=1e-4)


def test_scores_of_an_official_checkpoint(predicted, reference_data):
    videos, predictions, labels = predicted
    scores = json.loads((reference_data / "golden" / "scores.json").read_text())
    metrics = evaluate(videos, predictions, Evaluate())
    assert accuracy(videos, labels) == pytest.approx(scores["test_acc"], abs=1e-6)
    assert metrics["average_mAP"] == pytest.approx(scores["average_mAP"], abs=1e-6)
    for tiou, value in metrics["mAP"].items():
        assert value == pytest.approx(scores[f"mAP@{float(tiou):.1f}"], abs=1e-6)


@pytest.mark.parametrize(("file", "tiou"), [("ap_thumos", "0.1:0.7:0.1"), ("ap_anet", "0.5:0.95:0.05")])
def test_per_class_average_precision_of_official_predictions(reference_data, file, tiou):
    golden = reference_data / "golden"
    expected = json.loads((golden / f"{file}.json").read_text())
    videos = annotations.load(golden / "dataset" / "gt.json").subset("test")
    metrics = evaluate(videos, read_submission(golden / "predictions.json").predictions, Evaluate(tiou=tiou))
    assert list(metrics["mAP"].values()) == pytest.approx(expected["mAP"], abs=1e-6)
    assert metrics["average_mAP"] == pytest.approx(expected["average"], abs=1e-6)
    assert metrics["ap"].keys() == expected["ap"].keys()
    for label, values in metrics["ap"].items():
        assert values == pytest.approx(expected["ap"][label], abs=1e-6)


def test_published_predictions_under_the_activitynet_protocol(reference_data):
    """AICL's: its repository reports 46.4."""
    videos = annotations.load(reference_data / "data/thumos14/gt.json").subset("test")
    published = read_submission(reference_data / "data/published/aicl_thumos14.json").predictions
    assert round(evaluate(videos, published, Evaluate())["average_mAP"], 4) == 0.4636


@pytest.mark.parametrize(
    ("predictions", "truth", "subset", "tiou", "expected"),
    [
        ("crnet_thumos14", "thumos14/gt.json", "test", "0.1:0.7:0.1", 41.68),
        ("autoloc_activitynet1.2", "published/autoloc_activitynet1.2_gt.json", "val", "0.5:0.95:0.05", 16.0),
    ],
)
def test_published_predictions_on_their_authors_videos(reference_data, predictions, truth, subset, tiou, expected):
    """No video more than in their own lists, so that whether others count does not matter."""
    data = reference_data / "data"
    how, file = Evaluate(tiou=tiou), data / f"published/{predictions}.json"
    metrics = um_score(data / truth, file, subset, how)
    assert round(100 * metrics["average_mAP"], len(str(expected).split(".")[1])) == expected
    assert metrics == um_score(data / truth, file, subset, how, "ignore")


@pytest.mark.parametrize(("tiou", "expected"), [("0.3", 0.3628), ("0.5", 0.1897)])
def test_published_predictions_under_the_thumos14_protocol(reference_data, tmp_path, monkeypatch, tiou, expected):
    """S-CNN's, after its suppression for that threshold: what its authors' run of the official kit stored."""
    words = ["um", "evaluate", "--protocol", "thumos14", "--tiou", f"{tiou}:{tiou}:0.1"]
    words += ["--annotations", str(reference_data / "data/thumos14/official_test")]
    words += ["--predictions", str(reference_data / f"data/published/scnn_thumos14_tiou{tiou}.json")]
    monkeypatch.setattr(sys, "argv", [*words, "--out", str(tmp_path / "metrics.json")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert len(metrics["ap"]) == 20
    assert (metrics["num_videos"], metrics["num_instances"], metrics["num_ambiguous"]) == (213, 3358, 99)
    assert round(metrics["average_mAP"], 4) == expected
