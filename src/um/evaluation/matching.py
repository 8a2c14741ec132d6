"""Which predictions find an instance, under two protocols; resampling videos does not change it.

Both are greedy over pairs of a prediction and an instance of one video and class: a pair whose two sides are free is a
hit, and takes both. They differ in the order of the pairs, in what counts as overlap and in what is ignored.

- `activitynet` (ANETdetection): predictions choose, best score first, each the instance it overlaps most. A hit needs
  IoU >= threshold.
- `thumos14` (TH14eventdetpr): instances choose, in the order of the annotations, each the prediction that overlaps it
  most. A hit needs IoU > threshold. What is no hit and touches an ambiguous segment of its video is ignored.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BLOCK = 1 << 16  # predictions paired at a time, which bounds memory


class Ranking(NamedTuple):
    """The predictions of one class, best first: R of them, in V videos, at H thresholds.

    Attributes:
        video_R: index of each one's video; V of a video that is not among them, where there is nothing to find.
        hit_HR: it finds an instance.
        ignored_R: where it is no hit, it does not count as wrong either.
        instances_V: instances of the class in each video.
    """

    video_R: Ints
    hit_HR: Bools
    ignored_R: Bools
    instances_V: Ints


def tiou(some_P2: Floats, others_P2: Floats) -> Floats:
    """Temporal intersection over union (P,) of rows of [start, end]; 0 where both are empty."""
    shared_P = _shared(some_P2, others_P2)
    union_P = (some_P2[:, 1] - some_P2[:, 0]) + (others_P2[:, 1] - others_P2[:, 0]) - shared_P
    overlap_P: Floats = np.divide(shared_P, union_P, out=np.zeros_like(shared_P), where=union_P > 0)
    return overlap_P


def match(
    videos: list[str],
    truth: pd.DataFrame,
    predictions: pd.DataFrame,
    tiou_H: Floats,
    *,
    ambiguous: pd.DataFrame | None = None,
) -> dict[str, Ranking]:
    """Match the predictions of every class of the ground truth at every threshold.

    Equal scores keep the order of the rows under `activitynet`; under `thumos14` they are in the order of their videos'
    names first, as in the kit. Predictions for other videos are wrong, as in both evaluators; those for other classes
    are left out.

    Args:
        videos: ids of the V videos.
        truth: columns video, label, start, end (seconds).
        predictions: the same and score.
        tiou_H: thresholds.
        ambiguous: columns video, start, end; given, the protocol is `thumos14`, else `activitynet`.

    Returns:
        class → its ranking, classes sorted.
    """
    labels = sorted(map(str, truth["label"].unique()))
    video_G, label_G = _codes(truth["video"], videos), _codes(truth["label"], labels)
    segment_G2 = truth[["start", "end"]].to_numpy(np.float64)

    video_R, label_R = _codes(predictions["video"], videos), _codes(predictions["label"], labels)
    video_R[video_R < 0] = len(videos)
    score_R = predictions["score"].to_numpy(np.float64)
    known = np.flatnonzero(label_R >= 0)
    keys = [-score_R[known], label_R[known]]
    if ambiguous is not None:
        keys.insert(0, pd.factorize(predictions["video"].iloc[known], sort=True)[0])
    order = known[np.lexsort(keys)]
    video_R, label_R = video_R[order], label_R[order]
    segment_R2 = predictions[["start", "end"]].to_numpy(np.float64)[order]

    group_R, group_G = (label * (len(videos) + 1) + video for label, video in ((label_R, video_R), (label_G, video_G)))
    pair_P2, overlap_P = _pairs(group_R, segment_R2, group_G, segment_G2, tiou_H.min(), kit=ambiguous is not None)
    hit_HR = np.zeros((len(tiou_H), len(order)), dtype=bool)
    for h, threshold in enumerate(tiou_H):
        reached_P = overlap_P >= threshold if ambiguous is None else overlap_P > threshold
        hit_HR[h, _greedy(pair_P2[reached_P], len(order), len(truth))] = True

    ignored_R = np.zeros(len(order), dtype=bool)
    if ambiguous is not None:
        doubtful_A2 = ambiguous[["start", "end"]].to_numpy(np.float64)
        touching_P2, _ = _pairs(video_R, segment_R2, _codes(ambiguous["video"], videos), doubtful_A2, 0.0, kit=True)
        ignored_R[touching_P2[:, 0]] = True

    bounds = np.searchsorted(label_R, np.arange(len(labels) + 1))
    return {
        label: Ranking(
            video_R[low:high],
            hit_HR[:, low:high],
            ignored_R[low:high],
            np.bincount(video_G[label_G == code], minlength=len(videos)),
        )
        for code, (label, low, high) in enumerate(zip(labels, bounds[:-1], bounds[1:], strict=True))
    }


def _codes(names: "pd.Series[str]", known: list[str]) -> Ints:
    """Position of every name among the known ones; -1 of others."""
    return np.asarray(pd.Index(known, dtype=object).get_indexer(pd.Index(names, dtype=object)), dtype=np.int64)


def _shared(some_P2: Floats, others_P2: Floats) -> Floats:
    start_P = np.maximum(some_P2[:, 0], others_P2[:, 0])
    shared_P: Floats = np.maximum(0.0, np.minimum(some_P2[:, 1], others_P2[:, 1]) - start_P)
    return shared_P


def _hull_tiou(some_P2: Floats, others_P2: Floats) -> Floats:
    """The kit's IoU: the same quotient where segments overlap, but rounded as the kit's."""
    shared_P = _shared(some_P2, others_P2)
    hull_P = np.maximum(some_P2[:, 1], others_P2[:, 1]) - np.minimum(some_P2[:, 0], others_P2[:, 0])
    overlap_P: Floats = np.divide(shared_P, hull_P, out=np.zeros_like(shared_P), where=shared_P > 0)
    return overlap_P


def _pairs(
    group_R: Ints, segment_R2: Floats, group_G: Ints, segment_G2: Floats, least: float, *, kit: bool
) -> tuple[NDArray[np.int64], Floats]:
    """Pairs (P, 2) of rows of equal group, in the protocol's order, and their overlaps (P,), none below `least`."""
    order_G = np.argsort(group_G, kind="stable")
    low_R, high_R = (np.searchsorted(group_G[order_G], group_R, side) for side in ("left", "right"))
    pairs, overlaps = [np.empty((0, 2), np.int64)], [np.empty(0)]
    for block in range(0, len(group_R), BLOCK):
        low_r, count_r = low_R[block : block + BLOCK], (high_R - low_R)[block : block + BLOCK]
        skip_r = np.cumsum(count_r) - count_r
        rank_P = block + np.repeat(np.arange(len(low_r)), count_r)
        instance_P = order_G[np.repeat(low_r - skip_r, count_r) + np.arange(count_r.sum())]
        overlap_P = (_hull_tiou if kit else tiou)(segment_R2[rank_P], segment_G2[instance_P])
        keep_P = overlap_P > least if kit else overlap_P >= least
        pairs.append(np.column_stack([rank_P, instance_P])[keep_P])
        overlaps.append(overlap_P[keep_P])
    pair_P2, overlap_P = np.concatenate(pairs), np.concatenate(overlaps)
    chooser, chosen = (1, 0) if kit else (0, 1)
    order_P = np.lexsort([pair_P2[:, chosen], -overlap_P, pair_P2[:, chooser]])
    return pair_P2[order_P], overlap_P[order_P]


def _greedy(pair_P2: NDArray[np.int64], ranks: int, instances: int) -> Ints:
    """The ranks of the pairs taken, when each pair in turn is taken if both of its sides are free.

    A pair that is the first of both its sides is taken whatever the others do; so all such are, at once, and then those
    of what they leave free.
    """
    taken = [np.empty(0, np.int64)]
    rank_P, instance_P = pair_P2.T
    first_R, first_G = np.empty(ranks, np.int64), np.empty(instances, np.int64)
    free_R, free_G = np.ones(ranks, dtype=bool), np.ones(instances, dtype=bool)
    while len(rank_P):
        position_P = np.arange(len(rank_P))
        first_R[rank_P[::-1]] = position_P[::-1]
        first_G[instance_P[::-1]] = position_P[::-1]
        wins_P = (first_R[rank_P] == position_P) & (first_G[instance_P] == position_P)
        taken.append(rank_P[wins_P])
        free_R[rank_P[wins_P]] = free_G[instance_P[wins_P]] = False
        open_P = free_R[rank_P] & free_G[instance_P]
        rank_P, instance_P = rank_P[open_P], instance_P[open_P]
    return np.concatenate(taken)
