"""Average precision of ranked predictions, for one set of videos or many resamples of it at once."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from um.evaluation.matching import Floats, Ints, Ranking


def average_precision(
    ranking: Ranking, weight_BV: Ints, *, interpolated: bool, positives: float | None = None
) -> Floats:
    """AP of one class at every threshold, with every video repeated by its weight.

    Copies of a prediction have consecutive ranks. Interpolated (PASCAL VOC 2011, ANETdetection): precision is made
    non-increasing in recall and summed where recall increases. Otherwise (TH14evalDet): precision is summed over all
    hits. Either sum is divided by the number of instances.

    Args:
        ranking: of the class: R predictions at H thresholds.
        weight_BV: count of each of V videos in each of B resamples; ones give the original data. Predictions for other
            videos count once in each.
        interpolated: definition to use.
        positives: if given, the normalised AP_N of Hoiem et al. (2012): precision as if the class had this many
            instances, with the same recall. Weights are then 0 or 1.

    Returns:
        AP (B, H) in [0, 1]; NaN for a resample without any instance of the class.
    """
    instances_B = weight_BV @ ranking.instances_V
    weight_VB = np.vstack([weight_BV.T, np.ones((1, len(weight_BV)), weight_BV.dtype)])  # the last row: other videos
    hit_HR = ranking.hit_HR
    rank_K = np.flatnonzero(hit_HR.any(axis=0))  # only these ranks change the result
    counted_KB = _counted(ranking, rank_K, weight_VB)
    ap_BH = np.full((len(weight_BV), len(hit_HR)), np.nan)
    some_B = instances_B > 0
    for h, hit_R in enumerate(hit_HR):
        here_K = hit_R[rank_K]
        video_k, ignored_k = ranking.video_R[rank_K[here_K]], ranking.ignored_R[rank_K[here_K]]
        weight_kB = weight_VB[video_k]
        true_kB = np.cumsum(weight_kB, axis=0)
        total_kB = counted_KB[here_K] + np.cumsum(weight_kB * ignored_k[:, None], axis=0)
        if positives is not None:
            precision_kB = normalised_precision(true_kB, total_kB - true_kB, positives / np.maximum(instances_B, 1))
        else:
            precision_kB = true_kB / np.maximum(total_kB, 1)
        if interpolated:
            envelope_kB = np.maximum.accumulate(precision_kB[::-1], axis=0)[::-1]
            area_B = (weight_kB * envelope_kB).sum(axis=0)
        elif positives is not None:
            area_B = (weight_kB * precision_kB).sum(axis=0)
        else:
            area_B = _sum_of_precisions(true_kB, total_kB, weight_kB)
        ap_BH[some_B, h] = area_B[some_B] / instances_B[some_B]
    return ap_BH


def normalised_precision(true: Ints, wrong: Ints, scale: float | Floats) -> Floats:
    """Precision with every hit counted `scale` times; 0 before the first prediction."""
    hits = true * scale
    precision: Floats = np.divide(hits, hits + wrong, out=np.zeros(hits.shape), where=hits + wrong > 0)
    return precision


def _counted(ranking: Ranking, rank_K: Ints, weight_VB: Ints) -> Ints:
    """Weight of the predictions up to each of K ranks, without those ignored on a miss: (K, B)."""
    before_R = np.searchsorted(rank_K, np.arange(len(ranking.video_R)))  # the first of the K ranks at or after each
    counts_R = (before_R < len(rank_K)) & ~ranking.ignored_R
    places = before_R[counts_R], ranking.video_R[counts_R]
    table_KV = csr_array((np.ones(counts_R.sum(), np.int64), places), shape=(len(rank_K), len(weight_VB)))
    counted_KB: NDArray[np.int64] = np.cumsum(table_KV @ weight_VB, axis=0)
    return counted_KB


def _sum_of_precisions(true_kB: Ints, total_kB: Ints, weight_kB: Ints) -> Floats:
    """Sum of true / total over all copies of all hits, Σ 1 − wrong / n, n from total − weight + 1 to total: (B,)."""
    if not len(total_kB):
        return np.zeros(total_kB.shape[1])
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, total_kB.max() + 1))])
    wrong_kB = total_kB - true_kB
    precision_kB = weight_kB - wrong_kB * (harmonic[total_kB] - harmonic[total_kB - weight_kB])
    area_B: Floats = precision_kB.sum(axis=0)
    return area_B
