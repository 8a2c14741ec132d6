"""Average precision of scored segments, interpolated as PASCAL VOC 2011 and ActivityNet's ANETdetection do."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def tiou(segments_R2: Floats, others_G2: Floats) -> Floats:
    """Temporal intersection over union (R, G) of two sets of [start, end]; 0 where both are empty."""
    start = np.maximum(segments_R2[:, None, 0], others_G2[None, :, 0])
    end = np.minimum(segments_R2[:, None, 1], others_G2[None, :, 1])
    shared = np.maximum(0.0, end - start)
    union = np.diff(segments_R2) + np.diff(others_G2)[:, 0] - shared
    overlap: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def average_precision(truth: pd.DataFrame, predictions: pd.DataFrame, tiou_H: Floats) -> dict[str, Floats]:
    """AP of every class of the ground truth at every threshold.

    A prediction, best score first, is right when the best overlapping instance not yet taken in its video reaches
    the threshold; each instance is taken once. Predicted classes that the ground truth lacks are not scored.

    Args:
        truth: columns video, label, start, end (seconds).
        predictions: the same and score.
        tiou_H: thresholds.

    Returns:
        class → AP (H,) in [0, 1], classes sorted.
    """
    by_label = dict(iter(predictions.groupby("label", sort=True)))
    return {
        str(label): _class_ap(instances, by_label.get(label, predictions[:0]), tiou_H)
        for label, instances in truth.groupby("label", sort=True)
    }


def _class_ap(truth: pd.DataFrame, predictions: pd.DataFrame, tiou_H: Floats) -> Floats:
    if predictions.empty:
        return np.zeros(len(tiou_H))
    order = np.argsort(-predictions["score"].to_numpy(np.float64), kind="stable")
    segment_R2 = predictions[["start", "end"]].to_numpy(np.float64)[order]
    video_R = predictions["video"].to_numpy()[order]
    hit_HR = np.zeros((len(tiou_H), len(order)), dtype=bool)
    ranks = pd.Series(np.arange(len(order))).groupby(video_R).indices
    for video, instances in truth.groupby("video", sort=False):
        rank_r = ranks.get(video)
        if rank_r is not None:
            overlap_rG = tiou(segment_R2[rank_r], instances[["start", "end"]].to_numpy(np.float64))
            hit_HR[:, rank_r] = _match(overlap_rG, tiou_H)
    true_HR = np.cumsum(hit_HR, axis=1, dtype=np.float64)
    precision_HR = true_HR / np.arange(1, len(order) + 1)
    recall_HR = true_HR / len(truth)
    # VOC 2011: precision never rises with recall; sum it where recall steps up.
    envelope_HR = np.maximum.accumulate(precision_HR[:, ::-1], axis=1)[:, ::-1]
    return np.asarray((np.diff(recall_HR, axis=1, prepend=0) * envelope_HR).sum(axis=1))


def _match(overlap_rG: Floats, tiou_H: Floats) -> NDArray[np.bool_]:
    """Which predictions of one video and class, best first, take an instance: (H, r)."""
    thresholds = np.arange(len(tiou_H))
    free_HG = np.ones((len(tiou_H), overlap_rG.shape[1]), dtype=bool)
    hit_Hr = np.zeros((len(tiou_H), len(overlap_rG)), dtype=bool)
    for rank in np.flatnonzero(overlap_rG.max(axis=1) >= tiou_H.min()):
        candidate_HG = np.where(free_HG, overlap_rG[rank], -1.0)
        best_H = candidate_HG.argmax(axis=1)
        hit_H = candidate_HG[thresholds, best_H] >= tiou_H
        hit_Hr[:, rank] = hit_H
        free_HG[thresholds[hit_H], best_H[hit_H]] = False
    return hit_Hr
