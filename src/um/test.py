"""Scoring a model on a test subset (`um test`), and predictions against annotations (`um evaluate`)."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from um.datasets import clock as clocks
from um.datasets.annotations import AMBIGUOUS, Annotations, load
from um.datasets.folder import Folder
from um.datasets.subset import Subset, load_subset
from um.errors import BadInput, some
from um.evaluation import metrics as scores
from um.evaluation.fitting import Unlisted, population
from um.evaluation.submission import BEGINNING, Submission, read_submission, submission
from um.files import atomic, check_ours, held, write_json
from um.forms import Spec
from um.method import checkpoint
from um.method.checkpoint import Header
from um.method.predict import predict
from um.params import Evaluate, Settings
from um.progress import progress

CHECKPOINTS, COLUMNS = "checkpoints.csv", ["iteration", "test_accuracy", "test_average_mAP"]
BEGINNINGS = {
    "predictions.json": BEGINNING,
    "metrics.json": scores.BEGINNING,
    CHECKPOINTS: ",".join(COLUMNS) + "\n",
}


class Outcome(NamedTuple):
    """A model's results on a test subset: the contents of two files."""

    metrics: dict[str, Any]
    predictions: dict[str, Any]


def test(
    root: Path, model_file: Path, out: Path, settings: Settings, device: torch.device, clock: Spec | None = None
) -> dict[str, Any]:
    """Localise and score the test subset; write `predictions.json` and `metrics.json`.

    For a training's checkpoints folder, all checkpoints are scored: the files are those of the best on the test subset
    (the earliest, if tied), and `checkpoints.csv` lists all scores.

    Args:
        root: folder in a known layout.
        model_file: written by `um train`, a published checkpoint, or `models/<run>/seed<k>/checkpoints`.
        out: folder of the files.
        settings: of localisation and evaluation.
        device: where the network runs.
        clock: of the features, if given by options.

    Returns:
        The metrics.
    """
    index = checkpoint.index_of(model_file)
    with held(out, "um test"):
        for name, beginning in BEGINNINGS.items():
            if name != CHECKPOINTS or index:
                check_ours(out / name, beginning)
        trial = Trial(root, settings, device, clock)
        if index:
            outcome, history = _best(trial, index)
            with atomic(out / CHECKPOINTS) as temporary:
                history.to_csv(temporary, index=False)
        else:
            outcome = trial.outcome(model_file)
        write_json(out / "predictions.json", outcome.predictions)
        write_json(out / "metrics.json", outcome.metrics)
    return outcome.metrics


def _best(trial: "Trial", index: Path) -> tuple[Outcome, pd.DataFrame]:
    """The outcome of the checkpoint with the highest average mAP, and all scores."""
    paths, outcomes = checkpoint.listed(index), []
    with progress("checkpoints", len(paths)) as step:
        for path in paths:
            outcomes.append(trial.outcome(path, "best_on_test"))
            step(f"average mAP {outcomes[-1].metrics['average_mAP']:.3f}")
    figures = [outcome.metrics for outcome in outcomes]
    rows = [(one["model"]["iteration"], one["accuracy"], one["average_mAP"]) for one in figures]
    best = max(outcomes, key=lambda outcome: float(outcome.metrics["average_mAP"]))
    return best, pd.DataFrame(rows, columns=COLUMNS)


class Trial:
    """A test subset to score models on; its features are read once.

    Args:
        root, settings, device, clock: as for `test`.
    """

    def __init__(self, root: Path, settings: Settings, device: torch.device, clock: Spec | None) -> None:
        self.root, self.settings, self.device, self.clock = root, settings, device, clock
        self._folder: Folder | None = None
        self._subset: Subset | None = None

    def outcome(self, model_file: Path, selection: str | None = None) -> Outcome:
        """Predictions and metrics of one model.

        Args:
            model_file: written by `um train`, or a published checkpoint.
            selection: name in the results, instead of the model's own.
        """
        model, header = checkpoint.read(model_file, self.settings.train)
        folder, subset = self._open(model_file, header)
        classes = header.classes if header else folder.classes
        checkpoint.check_width(self.root, subset.packed_NF.shape[1], model, model_file)
        if len(classes) != (outputs := model.classifier.out_channels):
            expected = f"{outputs}, as {model_file} has"
            raise BadInput(self.root, f"{len(classes)} classes", expected, "use the dataset of the model")
        if header:
            _check_labels(folder, subset, header, model_file, self.settings)
        videos = (
            (video.id, features_TF := subset.features(i), folder.span(video, len(features_TF)))
            for i, video in enumerate(subset.videos)
        )
        localise = self.settings.localize
        predictions, labels = predict(model.to(self.device), videos, classes, localise)
        used = header.model if header else {"selection": "unknown"}  # published checkpoints do not state it
        used |= {"selection": selection} if selection else {}
        simulated = folder.simulated or bool(header and header.simulated)
        metrics = scores.evaluate(subset.population, predictions, self.settings.evaluate)
        metrics |= scores.featureless(subset.featureless, self.settings.evaluate.missing)
        metrics |= {"accuracy": scores.accuracy(subset.population, labels), "model": used, "simulated": simulated}
        entries = [video.id for video in subset.population]
        return Outcome(metrics, submission(predictions, entries, used, simulated, labels))

    def _open(self, model_file: Path, header: Header | None) -> tuple[Folder, Subset]:
        if not self._folder:
            streams = ",".join(header.streams) if header else self.settings.train.streams
            self._folder = Folder(self.root, streams, self.settings.evaluate.missing, clock=self.clock)
        if header:
            clocks.agree(self._folder.features, self._folder.pace, header.pace, model_file)
        self._subset = self._subset or load_subset(self._folder, "test").to(self.device)
        return self._folder, self._subset


def _check_labels(folder: Folder, subset: Subset, header: Header, model_file: Path, settings: Settings) -> None:
    """Refuse test labels unknown to the model: they would score 0, and usually are renamed classes."""
    ignored = {AMBIGUOUS} if settings.evaluate.protocol == "thumos14" else set()
    labels = {label for video in subset.population for label in video.labels}
    if unknown := sorted(labels - ignored - set(header.classes)):
        found = f"{some(unknown, 'class', 'classes')} of test videos that {model_file} was not trained for"
        expected = f"some of its {some(sorted(header.classes), 'class', 'classes')}"
        raise BadInput(folder.annotations.path, found, expected, "rename the labels as in training, or train on these")


def score(
    truth: Path, predictions: Path, subset: str | None, settings: Evaluate, unlisted: Unlisted = "count"
) -> dict[str, Any]:
    """Score a file of predictions against annotations.

    Args:
        truth: annotations, as `um.datasets.annotations.load` reads them.
        predictions: a submission.
        subset: of the videos; default: the layout's test subset.
        settings: protocol, thresholds, and whether videos without an entry count.
        unlisted: whether predictions for other videos count.

    Returns:
        The metrics, and what the submission states about its model and features.
    """
    return score_submission(load(truth), predictions, read_submission(predictions), subset, settings, unlisted)


def score_submission(
    listed: Annotations,
    where: Path,
    submitted: Submission,
    subset: str | None,
    settings: Evaluate,
    unlisted: Unlisted = "count",
) -> dict[str, Any]:
    """Like `score`, for parsed predictions; errors name `where`."""
    scored = population(where, submitted, listed, subset, settings.missing, unlisted)
    metrics = scores.evaluate(scored.videos, scored.rows, settings)
    metrics |= scores.featureless(scored.absent, settings.missing)
    stated = {"model": submitted.model} if submitted.model else {}
    return metrics | stated | {"simulated": submitted.simulated}
