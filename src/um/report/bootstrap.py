"""Variation of scores over test videos and seeds: the bootstrap (Efron and Tibshirani, 1993).

Videos are drawn with replacement. Matching is done within each video, so resampling does not change it: scores follow
exactly from the rankings of `um.evaluation.matching` and the number of times each video is drawn.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from um.evaluation.matching import Floats, Ints
from um.evaluation.metrics import Matched

RESAMPLES = 1000
LEVEL = 0.95


class Interval(NamedTuple):
    """Bounds of an interval of probability `LEVEL`."""

    low: float
    high: float


class Difference(NamedTuple):
    """Two systems on the same videos, by average mAP.

    Attributes:
        a, b: their scores.
        difference: a − b.
        interval: of the difference.
        p_value: two-sided: twice the smaller of the shares of resamples with a difference <= 0 and >= 0, at most 1.
            The data count as one more resample in both shares, so it is never zero.
    """

    a: float
    b: float
    difference: float
    interval: Interval
    p_value: float

    @property
    def differ(self) -> bool:
        """Whether the difference is significant at 1 − `LEVEL`."""
        return self.p_value < 1 - LEVEL


def draws(num_videos: int, resamples: int = RESAMPLES, seed: int = 0) -> Ints:
    """Count of each of V videos in each of B resamples of V draws with replacement: (B, V)."""
    counts_BV = np.random.default_rng([seed, 0]).multinomial(num_videos, [1 / num_videos] * num_videos, resamples)
    return np.asarray(counts_BV, dtype=np.int64)


def scores(matched: Matched, weight_BV: Ints) -> Floats:
    """mAP (B, H) of every resample at every threshold: the mean over the classes with instances in the resample.

    A resample without instances scores NaN.
    """
    return over_classes(np.stack(list(matched.ap(weight_BV).values())))


def over_classes(ap_CBH: Floats) -> Floats:
    """mAP (B, H) of APs (C, B, H) over the classes that are not NaN; NaN if all are."""
    occurring_BH = np.sum(~np.isnan(ap_CBH), axis=0)
    some_BH = occurring_BH > 0
    mean_BH = np.full(occurring_BH.shape, np.nan)
    np.divide(np.nansum(ap_CBH, axis=0), occurring_BH, out=mean_BH, where=some_BH)
    return mean_BH


def interval(values_B: Floats, score: float) -> Interval:
    """The middle `LEVEL` of resampled values, shifted so that their mean is the score of the original data.

    A video drawn twice confirms its own hits, which average precision rewards. Resamples therefore score too high, by
    about as much as the data score above the population. NaN are ignored.
    """
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(values_B - np.nanmean(values_B) + score, [tail, 1 - tail])
    return Interval(float(low), float(high))


def resample_runs(runs: Sequence[Matched], resamples: int = RESAMPLES, seed: int = 0, stream: int = 1) -> Floats:
    """mAP (B, H) of resamples of one method's runs, over test videos and seeds.

    Each resample draws videos, the same for all runs, and as many runs as given; its value is the mean over the drawn
    runs. A single run varies only with the videos.

    Args:
        runs: of several training seeds, matched with the same videos.
        resamples: B.
        seed: of the draws. Equal seeds draw equal videos, which makes comparisons of two methods paired.
        stream: random stream for runs; compared methods use different ones.
    """
    weight_BV = draws(len(runs[0].videos), resamples, seed)
    score_SBH = np.stack([scores(run, weight_BV) for run in runs])
    drawn_BS = np.random.default_rng([seed, stream]).integers(len(runs), size=(resamples, len(runs)))
    mean_BH: Floats = score_SBH[drawn_BS, np.arange(resamples)[:, None]].mean(axis=1)
    return mean_BH


def average_map(runs: Sequence[Matched]) -> float:
    """Average mAP of the original data, mean over runs."""
    once_BV = np.ones((1, len(runs[0].videos)), np.int64)
    return float(np.mean([scores(run, once_BV) for run in runs]))


def average_map_interval(runs: Sequence[Matched]) -> Interval:
    """Interval of the average mAP in a row of the benchmark table, over test videos and seeds."""
    low, high = interval(resample_runs(runs).mean(axis=1), average_map(runs))
    return Interval(max(0.0, low), min(1.0, high))


def compare(a: Sequence[Matched], b: Sequence[Matched], resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """Paired bootstrap: every resample scores both systems on the same videos and draws their seeds independently."""
    at_a_B, at_b_B = (resample_runs(runs, resamples, seed, stream).mean(axis=1) for stream, runs in ((1, a), (2, b)))
    score_a, score_b = average_map(a), average_map(b)
    difference, difference_B = score_a - score_b, (at_a_B - at_b_B)[~np.isnan(at_a_B)]
    moved_B = difference_B - difference_B.mean() + difference
    below, above = np.sum(moved_B <= 0), np.sum(moved_B >= 0)
    p_value = min(1.0, 2 * (min(below, above) + 1) / (len(moved_B) + 1))
    return Difference(score_a, score_b, difference, interval(difference_B, difference), float(p_value))
