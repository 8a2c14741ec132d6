"""A model on a test subset (`um test`), and a file of predictions against annotations (`um evaluate`)."""

import logging
from pathlib import Path
from typing import Any

import torch

from um.datasets import annotations
from um.datasets import clock as clocks
from um.datasets.annotations import AMBIGUOUS
from um.datasets.folder import Folder
from um.datasets.subset import Subset, load_subset
from um.errors import BadInput, some
from um.evaluation import metrics as scores
from um.evaluation.fitting import NOTHING_LEFT, Unlisted, fitted
from um.evaluation.metrics import accuracy, evaluate, missing
from um.evaluation.submission import BEGINNING, read_submission, submission
from um.files import check_ours, held, write_json
from um.forms import Spec
from um.method import checkpoint
from um.method.checkpoint import Header
from um.method.predict import predict
from um.params import Evaluate, Localize, Settings

log = logging.getLogger(__name__)


def test(
    root: Path, model_file: Path, out: Path, settings: Settings, device: torch.device, clock: Spec | None = None
) -> dict[str, Any]:
    """Localise and score the test subset; write `predictions.json` and `metrics.json`.

    Args:
        root: folder in a known layout.
        model_file: ours or a published checkpoint.
        out: folder of the two files.
        settings: of localisation and evaluation.
        device: where the network runs.
        clock: of the features, where options give it.

    Returns:
        The metrics.
    """
    with held(out, "um test"):
        check_ours(out / "predictions.json", BEGINNING)
        check_ours(out / "metrics.json", scores.BEGINNING)
        return _test(root, model_file, out, settings, device, clock)


def _test(
    root: Path, model_file: Path, out: Path, settings: Settings, device: torch.device, clock: Spec | None
) -> dict[str, Any]:
    model, header = checkpoint.read(model_file, settings.train)
    streams = ",".join(header.streams) if header else settings.train.streams
    folder = Folder(root, streams, settings.evaluate.missing, clock=clock)
    if header:
        clocks.agree(folder.features, folder.snippet_seconds, header.snippet_seconds, model_file)
    classes = header.classes if header else folder.classes
    subset = load_subset(folder, "test")
    checkpoint.check_width(root, subset.packed_NF.shape[1], model, model_file)
    outputs = model.classifier.out_channels
    if len(classes) != outputs:
        raise BadInput(root, f"{len(classes)} classes", f"{outputs}, as {model_file} has", "choose the dataset it fits")
    if header:
        _check_labels(folder, subset, header, model_file, settings)
    if header and (other := _differences(header.localize, settings.localize)):
        log.warning("%s: localised with %s than in its training", model_file, other)
    model, subset = model.to(device), subset.to(device)
    videos = ((video.id, subset.features(i)) for i, video in enumerate(subset.videos))
    predictions, labels = predict(model, videos, classes, settings.localize, folder.snippet_seconds)
    metrics = evaluate(subset.population, predictions, settings.evaluate)
    used = header.model if header else {"selection": "unknown"}  # a published checkpoint does not say it
    simulated = folder.simulated or bool(header and header.simulated)
    metrics |= missing(subset.missing, settings.evaluate.missing)
    metrics |= {"accuracy": accuracy(subset.population, labels), "model": used, "simulated": simulated}
    entries = [video.id for video in subset.population]
    write_json(out / "predictions.json", submission(predictions, entries, used, simulated, labels))
    write_json(out / "metrics.json", metrics)
    return metrics


def _check_labels(folder: Folder, subset: Subset, header: Header, model_file: Path, settings: Settings) -> None:
    """A class that the model does not have scores 0, and is more often a renamed one than a new one."""
    ignored = {AMBIGUOUS} if settings.evaluate.protocol == "thumos14" else set()
    labels = {label for video in subset.population for label in video.labels}
    if unknown := sorted(labels - ignored - set(header.classes)):
        found = f"{some(unknown, 'class', 'classes')} of test videos that {model_file} was not trained for"
        expected = f"some of its {some(sorted(header.classes), 'class', 'classes')}"
        raise BadInput(folder.annotations.path, found, expected, "name the labels as in training, or train on these")


def _differences(trained: Localize, settings: Localize) -> str:
    """`another gamma (0.2, not 0.5) and …`, of the settings that a model was looked at with; empty if none differ."""
    now = settings.model_dump()
    changed = [f"another {name} ({now[name]}, not {old})" for name, old in trained if now[name] != old]
    return " and ".join(changed)


def score(
    truth: Path, predictions: Path, subset: str | None, settings: Evaluate, unlisted: Unlisted = "count"
) -> dict[str, Any]:
    """Score predictions against annotations.

    Args:
        truth: annotations, as `um.datasets.annotations.load` reads them.
        predictions: a submission.
        subset: of the videos; the one that the layout tests on by default.
        settings: protocol, thresholds, and whether videos without an entry count.
        unlisted: whether predictions for other videos count.

    Returns:
        The metrics, and what the submission says of its model and features.
    """
    listed = annotations.load(truth)
    videos = listed.evaluated(subset)
    submitted = read_submission(predictions)
    rows = fitted(predictions, submitted, listed, videos, unlisted)
    there = set(submitted.videos)
    absent = [video for video in videos if video.id not in there]
    if absent:
        become = "are left out" if settings.missing == "drop" else "count as videos without a prediction"
        log.warning("%s: no entry for %s, which %s", predictions, some([video.id for video in absent]), become)
    if settings.missing == "drop":
        videos = [video for video in videos if video.id in there]
    if not videos:
        raise BadInput(predictions, *NOTHING_LEFT)
    metrics = evaluate(videos, rows, settings) | missing(absent, settings.missing)
    stated = {"model": submitted.model} if submitted.model else {}
    return metrics | stated | {"simulated": submitted.simulated}
