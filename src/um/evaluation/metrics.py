"""The content of `metrics.json`: average precision under a protocol, with its population."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from um.datasets import annotations
from um.datasets.annotations import AMBIGUOUS, Video
from um.errors import BadInput
from um.evaluation.average_precision import average_precision
from um.evaluation.matching import Floats, Ints, Ranking, match
from um.evaluation.thresholds import threshold_range
from um.params import Evaluate

BEGINNING = '{\n "protocol": "'  # of files we write


@dataclass(frozen=True)
class Matched:
    """Predictions matched with the annotated videos of one subset; all scores derive from it.

    Attributes:
        videos: ground truth, V videos.
        settings: protocol and H thresholds.
        truth: its instances, rows of video, label, start, end.
        rankings: class of the ground truth → its ranked predictions.
        num_predictions: for these videos, of any class.
        num_unlisted: for other videos: false positives if their class occurs in the ground truth.
        num_ambiguous: ambiguous segments, which excuse the predictions that touch them.
    """

    videos: Sequence[Video]
    settings: Evaluate
    truth: pd.DataFrame
    rankings: dict[str, Ranking]
    num_predictions: int
    num_unlisted: int
    num_ambiguous: int

    def ap(self, weight_BV: Ints) -> dict[str, Floats]:
        """AP (B, H) of every class with the videos repeated by weight; NaN if the class does not occur."""
        interpolated = self.settings.protocol == "activitynet"
        return {
            label: average_precision(ranking, weight_BV, interpolated=interpolated)
            for label, ranking in self.rankings.items()
        }

    @property
    def num_instances(self) -> int:
        """Number of instances."""
        return sum(int(ranking.instances_V.sum()) for ranking in self.rankings.values())


def match_predictions(videos: Sequence[Video], predictions: pd.DataFrame, settings: Evaluate) -> Matched:
    """Match predictions with the annotated videos of one subset.

    `thumos14` excuses predictions that touch ambiguous segments or instances labelled Ambiguous. `activitynet` does not
    use ambiguous segments, and treats Ambiguous like any other label.

    Args:
        videos: ground truth; predictions for other videos are wrong, as in both evaluators.
        predictions: rows of video, label, score, start, end.
        settings: protocol and thresholds.
    """
    truth, ambiguous = annotations.frame(videos), None
    if settings.protocol == "thumos14":
        doubtful = truth["label"] == AMBIGUOUS
        ambiguous = pd.concat([annotations.ambiguous_frame(videos), truth[doubtful]])
        truth = truth[~doubtful].reset_index(drop=True)
    if truth.empty:
        hint = "annotate instances to evaluate on"
        raise BadInput(videos[0].subset, f"no instance in {len(videos)} videos", "at least one", hint)
    ids = [video.id for video in videos]
    rankings = match(ids, truth, predictions, np.array(threshold_range(settings.tiou)), ambiguous=ambiguous)
    known = int(predictions["video"].isin(ids).sum())
    others = len(predictions) - known
    return Matched(videos, settings, truth, rankings, known, others, 0 if ambiguous is None else len(ambiguous))


def evaluate(videos: Sequence[Video], predictions: pd.DataFrame, settings: Evaluate) -> dict[str, Any]:
    """Score predictions against the annotated videos of one subset.

    Args:
        videos: ground truth; predictions for other videos are wrong, as in both evaluators.
        predictions: rows of video, label, score, start, end.
        settings: protocol and thresholds.

    Returns:
        The metrics file: fractions in [0, 1].
    """
    return metrics_of(match_predictions(videos, predictions, settings))


def metrics_of(matched: Matched) -> dict[str, Any]:
    """The metrics file: fractions in [0, 1]."""
    videos, settings = matched.videos, matched.settings
    thresholds = threshold_range(settings.tiou)
    ap = {label: ap_BH[0] for label, ap_BH in matched.ap(np.ones((1, len(videos)), np.int64)).items()}
    mean_H = np.mean(list(ap.values()), axis=0)
    return {
        "protocol": settings.protocol,
        "subset": videos[0].subset,
        "num_videos": len(videos),
        "num_instances": matched.num_instances,
        **({"num_ambiguous": matched.num_ambiguous} if settings.protocol == "thumos14" else {}),
        "num_predictions": matched.num_predictions,
        **({"num_unlisted": matched.num_unlisted} if matched.num_unlisted else {}),
        "tiou": thresholds,
        "mAP": {name_of(threshold): float(value) for threshold, value in zip(thresholds, mean_H, strict=True)},
        "average_mAP": float(mean_H.mean()),
        "ap": {label: values.tolist() for label, values in ap.items()},
    }


def featureless(videos: Sequence[Video], policy: str) -> dict[str, Any]:
    """The metrics file's entries about annotated videos without features or predictions.

    `num_videos` counts them, as videos without a prediction, unless the policy is `drop`.
    """
    return {
        "num_missing": len(videos),
        "missing_policy": policy,
        "missing": sorted(video.id for video in videos),
    }


def name_of(threshold: float) -> str:
    """A threshold with two decimals, `0.10`, or more if needed."""
    text = f"{threshold:.2f}"
    return text if float(text) == threshold else str(threshold)


def accuracy(videos: Sequence[Video], labels: dict[str, list[str]]) -> float:
    """Share of videos whose predicted set of labels (possibly empty) is exactly the annotated one."""
    return float(np.mean([sorted(labels.get(video.id, [])) == video.labels for video in videos]))
