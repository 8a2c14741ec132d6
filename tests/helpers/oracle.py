"""A plain account of the method's slow parts, in the structure of the official code (docs/method.md).

Loops over thresholds, classes, proposals, rows and tIoUs, one thing at a time: what the package's vectorised code is
checked against, and what `make bench` times it against.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from um import params
from um.evaluation.thresholds import threshold_range

OFFICIAL = params.load(Path(__file__).parents[2] / "params.yaml").of("", "official")


def sample_random(length: int, T: int, rng: np.random.RandomState) -> np.ndarray:
    """One random snippet of each of T equal bins, bin by bin, by a choice of the bin's list."""
    if length == T:
        return np.arange(T)
    edges = np.arange(T + 1) * length // T
    chosen = []
    for i in range(T):
        last = edges[i + 1] if i < T - 1 else length - 1
        chosen.append(int(rng.choice(range(edges[i], last + 1))))
    return np.array(chosen)


def batch(files: list[list[Path]], T: int, rng: np.random.RandomState) -> np.ndarray:
    """Read both streams of every video, concatenate, sample and stack, as a data loader's worker does."""
    videos = []
    for streams in files:
        features = np.concatenate([np.load(path).astype(np.float32) for path in streams], axis=1)
        videos.append(features[sample_random(len(features), T, rng)])
    return np.stack(videos)


def upscale(curve: np.ndarray, factor: int) -> np.ndarray:
    """Linear interpolation of one curve with an extrapolated tail."""
    T = len(curve)
    if T == 1:
        return np.repeat(curve.astype(np.float64), factor)
    points = []
    for position in np.arange(0, T, 1 / factor):
        left = min(int(position), T - 2)
        points.append(curve[left] + (float(curve[left + 1]) - float(curve[left])) * (position - left))
    return np.array(points)


def group(points: np.ndarray) -> list[np.ndarray]:
    """Runs of consecutive points."""
    return np.split(points, np.where(np.diff(points) != 1)[0] + 1) if len(points) else []


def proposals(curve: np.ndarray, points: np.ndarray, score: float, seconds: float, ratio: float, gamma: float) -> list:
    """(score, start, end) of every run of at least two points: inner mean - outer mean + gamma * class score."""
    rows = []
    for run in group(points):
        if len(run) < 2:
            continue
        first, last, length = int(run[0]), int(run[-1]), len(run)
        left = max(0, int(first - ratio * length))
        right = min(len(curve) - 1, int(last + ratio * length))
        outer = list(range(left, first)) + list(range(last + 1, right + 1))
        inner_mean = np.mean(curve[run])
        outer_mean = np.mean(curve[outer]) if outer else 0.0
        rows.append([inner_mean - outer_mean + gamma * score, first * seconds, (last + 1) * seconds])
    return rows


def nms(rows: list, iou: float, plus: float) -> list:
    """Greedy suppression of (score, start, end) rows."""
    left = sorted(rows, key=lambda row: -row[0])
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        remaining = []
        for row in left:
            shared = max(0.0, min(best[2], row[2]) - max(best[1], row[1]) + plus)
            if shared / (best[2] - best[1] + row[2] - row[1] + 2 * plus - shared) < iou:
                remaining.append(row)
        left = remaining
    return kept


def found(score_C, fused_TC, magnitude_T, duration, values) -> dict[int, list]:
    """Class → (score, start, end) of both threshold families, before suppression."""
    seconds = duration / (values.upscale * len(magnitude_T))
    classes = np.flatnonzero(score_C >= values.class_threshold)
    classes = classes if len(classes) else np.array([score_C.argmax()])
    fused = {c: upscale(fused_TC[:, c], values.upscale) for c in classes}
    magnitude = upscale(magnitude_T, values.upscale)
    rows: dict[int, list] = {int(c): [] for c in classes}
    for threshold in threshold_range(values.cas_thresholds):
        for c in classes:
            curve = fused[c].copy()
            curve[curve < threshold] = 0
            points = np.where(curve > 0)[0]
            rows[c] += proposals(curve, points, score_C[c], seconds, values.outer_ratio, values.gamma)
    for threshold in threshold_range(values.magnitude_thresholds):
        above = magnitude.copy()
        above[above < threshold] = 0
        points = np.where(above > 0)[0]
        for c in classes:
            rows[c] += proposals(fused[c], points, score_C[c], seconds, values.outer_ratio, values.gamma)
    return rows


def localize(score_C, fused_TC, magnitude_T, duration, values) -> list:
    """(class, score, start, end) of one video after suppression, class by class."""
    by_class = found(score_C, fused_TC, magnitude_T, duration, values)
    plus = float(values.nms_plus_one)
    return [(c, *row) for c, rows in by_class.items() for row in nms(rows, values.nms_iou, plus)]


def average_precision(truth: pd.DataFrame, predictions: pd.DataFrame, tious: list[float]) -> dict[str, np.ndarray]:
    """AP per class and tIoU, prediction by prediction, interpolated as in VOC 2011."""
    result = {}
    for label in sorted(truth["label"].unique()):
        instances = truth[truth["label"] == label].reset_index(drop=True)
        by_video = instances.groupby("video")
        rows = predictions[predictions["label"] == label]
        rows = rows.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
        taken = np.zeros((len(tious), len(instances)), dtype=bool)
        true = np.zeros((len(tious), len(rows)))
        for rank, row in rows.iterrows():
            try:
                candidates = by_video.get_group(row["video"])
            except KeyError:
                continue
            shared = np.minimum(row["end"], candidates["end"]) - np.maximum(row["start"], candidates["start"])
            shared = shared.clip(lower=0)
            lengths = row["end"] - row["start"] + candidates["end"] - candidates["start"]
            overlap = (shared / (lengths - shared)).fillna(0.0)
            order = np.argsort(-overlap.to_numpy(), kind="stable")
            for level, tiou in enumerate(tious):
                for position in order:
                    if overlap.iloc[position] < tiou:
                        break
                    if not taken[level, candidates.index[position]]:
                        taken[level, candidates.index[position]] = True
                        true[level, rank] = 1
                        break
        result[label] = np.array([interpolated(hits, len(instances)) for hits in true])
    return result


def interpolated(hits: np.ndarray, count: int) -> float:
    """The area under the precision envelope."""
    if not len(hits):
        return 0.0
    true = np.cumsum(hits)
    precision, recall = true / np.arange(1, len(hits) + 1), true / count
    precision, recall = np.hstack([[0], precision, [0]]), np.hstack([[0], recall, [1]])
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    steps = np.where(recall[1:] != recall[:-1])[0] + 1
    return float(np.sum((recall[steps] - recall[steps - 1]) * precision[steps]))
