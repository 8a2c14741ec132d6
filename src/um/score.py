"""Scoring a file of predictions (`um evaluate`)."""

import logging
from pathlib import Path
from typing import Any

from um.datasets import annotations
from um.errors import BadInput, some
from um.evaluation.fitting import NOTHING_LEFT, Unlisted, fitted
from um.evaluation.metrics import evaluate, missing
from um.evaluation.submission import read_submission
from um.params import Evaluate

log = logging.getLogger(__name__)


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
