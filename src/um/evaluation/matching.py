"""Matching of predictions and instances under two protocols; resampling videos does not change it.

Both are greedy over pairs of a prediction and an instance of one video and class: a pair is a hit if both are still
free. They differ in the order of the pairs, the overlap required and the predictions ignored.

- `activitynet` (ANETdetection): each prediction, best score first, takes the instance it overlaps most. A hit needs
  IoU >= threshold.
- `thumos14` (TH14eventdetpr): each instance, in the order of the annotations, takes the prediction that overlaps it
  most. A hit needs IoU > threshold. A prediction that misses but touches an ambiguous segment is ignored.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BLOCK = 1 << 16  # predictions paired at a time, to bound memory


class Ranking(NamedTuple):
    """The predictions of one class, best first: R of them, in V videos, at H thresholds.

    Attributes:
        video_R: index of each prediction's video; V for other videos.
        instance_HR: row of the truth that it hits; -1 if it hits none.
        ignored_R: whether a miss is ignored instead of counted as wrong.
        instances_V: instances of the class in each video.
        row_R: row of each prediction.
    """

    video_R: Ints
    instance_HR: NDArray[np.int32]
    ignored_R: Bools
    instances_V: Ints
    row_R: Ints

    @property
    def hit_HR(self) -> Bools:  # noqa: N802
        """Whether each prediction hits an instance."""
        return self.instance_HR >= 0


def tiou(some_P2: Floats, others_P2: Floats) -> Floats:
    """Temporal intersection over union (P,) of rows of [start, end]; 0 if both are empty."""
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

    Tied scores keep the order of the rows under `activitynet`; under `thumos14` they are first sorted by video name, as
    in the kit. Predictions for other videos are wrong, as in both evaluators; those of other classes are left out.

    Args:
        videos: ids of the V videos.
        truth: columns video, label, start, end (seconds).
        predictions: the same columns and score.
        tiou_H: thresholds.
        ambiguous: columns video, start, end; selects `thumos14` if given, else `activitynet`.

    Returns:
        class → its ranking, sorted by class.
    """
    labels, kit = sorted(map(str, truth["label"].unique())), ambiguous is not None
    instances = _segments(truth, videos, labels)
    row_R, ranked = _ranked(predictions, videos, labels, kit=kit)
    instance_HR = _taken(ranked, instances, len(videos), tiou_H, kit=kit)
    ignored_R = np.zeros(len(ranked.video_N), dtype=bool)
    if ambiguous is not None:
        excused_N2 = ambiguous[["start", "end"]].to_numpy(np.float64)
        where_N = _codes(ambiguous["video"], videos)
        touching_P2, _ = _pairs(ranked.video_N, ranked.segment_N2, where_N, excused_N2, 0.0, kit=True)
        ignored_R[touching_P2[:, 0]] = True
    bounds = np.searchsorted(ranked.label_N, np.arange(len(labels) + 1))
    return {
        label: Ranking(
            video_R=ranked.video_N[low:high],
            instance_HR=instance_HR[:, low:high],
            ignored_R=ignored_R[low:high],
            instances_V=np.bincount(instances.video_N[instances.label_N == code], minlength=len(videos)),
            row_R=row_R[low:high],
        )
        for code, (label, low, high) in enumerate(zip(labels, bounds[:-1], bounds[1:], strict=True))
    }


def best_overlaps(
    videos: list[str], truth: pd.DataFrame, predictions: pd.DataFrame, least: float, *, kit: bool
) -> tuple[Floats, Floats]:
    """The IoU of every prediction with the instance it overlaps most: of any label, and of its own.

    Args:
        videos: ids of the V videos.
        truth: columns video, label, start, end (seconds).
        predictions: N rows of the same columns.
        least: smaller IoUs become 0.
        kit: whether IoU is rounded as under `thumos14`.

    Returns:
        (N,) and (N,); 0 in videos without an instance.
    """
    labels = sorted(map(str, truth["label"].unique()))
    found, instances = (_segments(rows, videos, labels) for rows in (predictions, truth))
    below = np.nextafter(least, 0)  # so that an IoU of exactly `least` is kept under both protocols
    pair_P2, overlap_P = _pairs(
        found.video_N, found.segment_N2, instances.video_N, instances.segment_N2, below, kit=kit
    )
    rank_P, instance_P = pair_P2.T
    own_P = found.label_N[rank_P] == instances.label_N[instance_P]
    any_N, own_N = np.zeros(len(predictions)), np.zeros(len(predictions))
    np.maximum.at(any_N, rank_P, overlap_P)
    np.maximum.at(own_N, rank_P[own_P], overlap_P[own_P])
    return any_N, own_N


class _Segments(NamedTuple):
    """N segments: indices of videos and labels, starts and ends."""

    video_N: Ints
    label_N: Ints
    segment_N2: Floats


def _segments(rows: pd.DataFrame, videos: list[str], labels: list[str]) -> _Segments:
    segment_N2 = rows[["start", "end"]].to_numpy(np.float64)
    return _Segments(_codes(rows["video"], videos), _codes(rows["label"], labels), segment_N2)


def _ranked(predictions: pd.DataFrame, videos: list[str], labels: list[str], *, kit: bool) -> tuple[Ints, _Segments]:
    """The predictions of known classes, by class, best first, and their rows; other videos have index V."""
    found = _segments(predictions, videos, labels)
    known_R = np.flatnonzero(found.label_N >= 0)
    keys = [-predictions["score"].to_numpy(np.float64)[known_R], found.label_N[known_R]]
    if kit:
        keys.insert(0, pd.factorize(predictions["video"].iloc[known_R], sort=True)[0])
    order_R = known_R[np.lexsort(keys)]
    video_R = np.where(found.video_N < 0, len(videos), found.video_N)[order_R]
    return order_R, _Segments(video_R, found.label_N[order_R], found.segment_N2[order_R])


def _taken(ranked: _Segments, instances: _Segments, num_videos: int, tiou_H: Floats, *, kit: bool) -> NDArray[np.int32]:
    """The instance that each of R ranked predictions hits at each of H thresholds, or -1: (H, R)."""
    group_R, group_G = (rows.label_N * (num_videos + 1) + rows.video_N for rows in (ranked, instances))
    pair_P2, overlap_P = _pairs(group_R, ranked.segment_N2, group_G, instances.segment_N2, tiou_H.min(), kit=kit)
    instance_HR = np.full((len(tiou_H), len(group_R)), -1, dtype=np.int32)
    for h, threshold in enumerate(tiou_H):
        reached_P = overlap_P > threshold if kit else overlap_P >= threshold
        rank_K, instance_K = _greedy(pair_P2[reached_P], len(group_R), len(group_G)).T
        instance_HR[h, rank_K] = instance_K
    return instance_HR


def _codes(names: "pd.Series[str]", known: list[str]) -> Ints:
    """Index of every name among the known ones; -1 if unknown."""
    return np.asarray(pd.Index(known, dtype=object).get_indexer(pd.Index(names, dtype=object)), dtype=np.int64)


def _shared(some_P2: Floats, others_P2: Floats) -> Floats:
    start_P = np.maximum(some_P2[:, 0], others_P2[:, 0])
    shared_P: Floats = np.maximum(0.0, np.minimum(some_P2[:, 1], others_P2[:, 1]) - start_P)
    return shared_P


def _hull_tiou(some_P2: Floats, others_P2: Floats) -> Floats:
    """The kit's IoU: equal to `tiou` for overlapping segments, except for rounding."""
    shared_P = _shared(some_P2, others_P2)
    hull_P = np.maximum(some_P2[:, 1], others_P2[:, 1]) - np.minimum(some_P2[:, 0], others_P2[:, 0])
    overlap_P: Floats = np.divide(shared_P, hull_P, out=np.zeros_like(shared_P), where=shared_P > 0)
    return overlap_P


def _pairs(
    group_R: Ints, segment_R2: Floats, group_G: Ints, segment_G2: Floats, least: float, *, kit: bool
) -> tuple[NDArray[np.int64], Floats]:
    """Pairs (P, 2) of rows of the same group, in the protocol's order, and their overlaps (P,), at least `least`."""
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
    """The pairs (K, 2) taken by a greedy pass, which takes each pair whose two sides are still free.

    A pair that is first for both of its sides is always taken. Each round takes all such pairs at once and drops the
    pairs they block.
    """
    taken = [np.empty((0, 2), np.int64)]
    rank_P, instance_P = pair_P2.T
    first_R, first_G = np.empty(ranks, np.int64), np.empty(instances, np.int64)
    free_R, free_G = np.ones(ranks, dtype=bool), np.ones(instances, dtype=bool)
    while len(rank_P):
        position_P = np.arange(len(rank_P))
        first_R[rank_P[::-1]] = position_P[::-1]
        first_G[instance_P[::-1]] = position_P[::-1]
        wins_P = (first_R[rank_P] == position_P) & (first_G[instance_P] == position_P)
        taken.append(np.column_stack([rank_P[wins_P], instance_P[wins_P]]))
        free_R[rank_P[wins_P]] = free_G[instance_P[wins_P]] = False
        open_P = free_R[rank_P] & free_G[instance_P]
        rank_P, instance_P = rank_P[open_P], instance_P[open_P]
    return np.concatenate(taken)
