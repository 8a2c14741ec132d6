"""What `metrics.json` holds: average precision under a protocol, with its population."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from um.datasets import annotations
from um.datasets.annotations import Video
from um.errors import BadInput
from um.evaluation.average_precision import average_precision
from um.params import Evaluate, threshold_range


def evaluate(videos: Sequence[Video], predictions: pd.DataFrame, settings: Evaluate) -> dict[str, Any]:
    """Score predictions against the annotated videos of one subset.

    Args:
        videos: ground truth; predictions for other videos are left out.
        predictions: rows of video, label, score, start, end.
        settings: protocol and thresholds.

    Returns:
        The metrics file: fractions in [0, 1].
    """
    thresholds = threshold_range(settings.tiou)
    truth = annotations.frame(videos)
    if truth.empty:
        hint = "an evaluation needs annotated instances"
        raise BadInput(videos[0].subset, f"no instance in {len(videos)} videos", "at least one", hint)
    known = predictions[predictions["video"].isin([video.id for video in videos])]
    ap = average_precision(truth, known, np.array(thresholds))
    mean_H = np.mean(list(ap.values()), axis=0)
    return {
        "protocol": settings.protocol,
        "subset": videos[0].subset,
        "num_videos": len(videos),
        "num_instances": len(truth),
        "num_predictions": len(known),
        "tiou": thresholds,
        "mAP": {name_of(threshold): float(value) for threshold, value in zip(thresholds, mean_H, strict=True)},
        "average_mAP": float(mean_H.mean()),
        "ap": {label: values.tolist() for label, values in ap.items()},
    }


def name_of(threshold: float) -> str:
    """`0.10`, or all digits of a threshold that needs more."""
    text = f"{threshold:.2f}"
    return text if float(text) == threshold else str(threshold)


def accuracy(videos: Sequence[Video], labels: dict[str, list[str]]) -> float:
    """Share of videos whose predicted label set is exactly the annotated one."""
    return float(np.mean([sorted(labels[video.id]) == video.labels for video in videos]))


def whole_video(videos: Sequence[Video]) -> pd.DataFrame:
    """The trivial detector: every video's true classes, each over its full length, all with score 1.

    A video of unknown duration ends with its last instance.
    """
    rows = [
        (video.id, label, 1.0, 0.0, video.duration or max(instance.end for instance in video.instances))
        for video in videos
        for label in video.labels
    ]
    return pd.DataFrame(rows, columns=["video", "label", "score", "start", "end"])
