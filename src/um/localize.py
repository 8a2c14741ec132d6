"""From the network's output for one video to scored segments (paper section 3.4; the official code's details).

Shape legend: T snippets, P points after interpolation, C classes, K predicted classes, R runs.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from um.model import UM
from um.params import Localize, threshold_range
from um.sampling import evenly

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Curves(NamedTuple):
    """What localisation needs of a forward pass; all in [0, 1]."""

    score_C: Floats  # video-level class scores
    fused_TC: Floats  # CAS x magnitude (or the CAS alone), min-max normalised over time per class
    magnitude_T: Floats  # normalised embedding magnitude: probability of being foreground


class Segments(NamedTuple):
    """Scored segments of one video, by class and then by falling score."""

    label: Ints
    score: Floats
    start: Floats  # seconds
    end: Floats  # seconds


@torch.inference_mode()
def curves(model: UM, features_TF: Tensor, settings: Localize) -> Curves:
    """Forward one video in evaluation mode and normalise its curves.

    Args:
        model: in evaluation mode.
        features_TF: all snippets of one video, on the model's device.
        settings: `max_segments` (longer videos are sampled evenly to this many snippets), `foreground`, `fusion`.
    """
    sampled_BTF = features_TF[evenly(len(features_TF), settings.max_segments).to(features_TF.device)][None]
    output = model(sampled_BTF)
    if settings.foreground == "margin":
        magnitude_BT = output.magnitude.clamp(max=model.settings.margin) / model.settings.margin
    else:
        background, foreground = (m.mean(dim=1) for m in (output.background_magnitude, output.action_magnitude))
        magnitude_BT = _normalise(output.magnitude, background[:, None], foreground[:, None])
    fused_BTC = output.cas * magnitude_BT[:, :, None] if settings.fusion else output.cas
    fused_BTC = _normalise(fused_BTC, fused_BTC.amin(dim=1, keepdim=True), fused_BTC.amax(dim=1, keepdim=True))
    score, fused, magnitude = (x[0].cpu().numpy() for x in (output.action_score, fused_BTC, magnitude_BT))
    return Curves(score, fused, magnitude)


def _normalise(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    delta = high - low
    return ((x - low) / torch.where(delta > 0, delta, 1.0)).clamp(0, 1)


def predicted_classes(score_C: Floats, threshold: float) -> Ints:
    """Classes whose score reaches the threshold, or the best one when none does."""
    classes = np.flatnonzero(score_C >= threshold)
    return classes if len(classes) else np.array([score_C.argmax()])


def localize(video: Curves, duration: float, settings: Localize) -> Segments:
    """Segments of every predicted class.

    Args:
        video: curves over the T sampled snippets.
        duration: seconds that the T curve values span, which sets the time scale.
        settings: thresholds, interpolation, scoring and suppression.
    """
    T = len(video.magnitude_T)
    classes_K = predicted_classes(video.score_C, settings.class_threshold)
    fused_KP = upscale(video.fused_TC[:, classes_K], settings.upscale).T
    magnitude_P = upscale(video.magnitude_T[:, None], settings.upscale)[:, 0]

    cas_H = np.array(threshold_range(settings.cas_thresholds))
    magnitude_H = np.array(threshold_range(settings.magnitude_thresholds) if settings.fusion else [])
    above_KHP = (fused_KP[:, None] >= cas_H[:, None]) & (fused_KP[:, None] > 0)
    # The CAS family is scored on the thresholded curve, so that below the threshold is nothing.
    cut_KHP = np.where(above_KHP, fused_KP[:, None], 0.0)
    above_HP = (magnitude_P >= magnitude_H[:, None]) & (magnitude_P > 0)
    from_cas = _score_runs(cut_KHP, above_KHP, settings.outer_ratio)
    whole_KHP = np.broadcast_to(fused_KP[:, None], (len(classes_K), *above_HP.shape))
    from_magnitude = _score_runs(whole_KHP, np.broadcast_to(above_HP, whole_KHP.shape), settings.outer_ratio)

    k, first, last, contrast = (np.concatenate(parts) for parts in zip(from_cas, from_magnitude, strict=True))
    score = contrast + settings.gamma * video.score_C[classes_K[k]]
    seconds = duration / (settings.upscale * T)
    start, end = first * seconds, (last + 1) * seconds
    if settings.whole_video and not len(k):
        inner_K = video.fused_TC[:, classes_K].mean(axis=0, dtype=np.float64)
        k, score = np.arange(len(classes_K)), inner_K + settings.gamma * video.score_C[classes_K]
        start, end = np.zeros(len(k)), np.full(len(k), duration)
    kept, scores = [], []
    plus = float(settings.nms_plus_one)
    for members in (np.flatnonzero(k == i) for i in range(len(classes_K))):
        if settings.nms == "hard":
            order = nms(start[members], end[members], score[members], settings.nms_iou, plus)
            new = score[members[order]]
        else:
            order, new = soft_nms(start[members], end[members], score[members], settings.nms_sigma, plus)
        kept.append(members[order])
        scores.append(new)
    order = np.concatenate(kept)
    return Segments(classes_K[k[order]], np.concatenate(scores), start[order], end[order])


def upscale(curve_TX: Floats, factor: int) -> Floats:
    """Linear interpolation to `factor` points per snippet; the tail after the last snippet is extrapolated."""
    T = len(curve_TX)
    if T == 1:
        return np.repeat(curve_TX.astype(np.float64), factor, axis=0)
    position_P = np.arange(0, T, 1 / factor)
    left_P = np.minimum(position_P.astype(np.int64), T - 2)
    slope_TX = np.diff(curve_TX.astype(np.float64), axis=0)
    return slope_TX[left_P] * (position_P - left_P)[:, None] + curve_TX[left_P]


def _score_runs(curve_KHP: Floats, above_KHP: NDArray[np.bool_], outer_ratio: float) -> tuple[Ints, Ints, Ints, Floats]:
    """Outer-inner contrast of every run of at least two points above a threshold.

    Returns:
        Per run: class position (R,), first point (R,), last point (R,), inner mean - outer mean (R,).
    """
    K, H, P = above_KHP.shape
    edges = np.diff(above_KHP.reshape(K * H, P).astype(np.int8), axis=1, prepend=0, append=0)
    row, first = np.nonzero(edges == 1)
    last = np.nonzero(edges == -1)[1] - 1
    long = last > first
    row, first, last = row[long], first[long], last[long]

    total = np.pad(np.cumsum(curve_KHP.reshape(K * H, P), axis=1), ((0, 0), (1, 0)))  # total[:, i] = sum before i
    length = last - first + 1
    outer_first = np.maximum(0, (first - outer_ratio * length).astype(np.int64))
    outer_last = np.minimum(P - 1, (last + outer_ratio * length).astype(np.int64))
    inner_sum = total[row, last + 1] - total[row, first]
    outer_sum = total[row, outer_last + 1] - total[row, outer_first] - inner_sum
    outer_length = outer_last - outer_first + 1 - length
    outer = np.divide(outer_sum, outer_length, out=np.zeros_like(outer_sum), where=outer_length > 0)
    return row // H, first, last, inner_sum / length - outer


def nms(start: Floats, end: Floats, score: Floats, iou: float, plus: float) -> Ints:
    """Greedy suppression: keep the best, drop what overlaps it by `iou` or more, repeat.

    Args:
        start: (R,) seconds.
        end: (R,) seconds.
        score: (R,).
        iou: overlap that suppresses.
        plus: seconds added to every length and intersection (the official code adds 1).

    Returns:
        Indices that are kept, best first; the first of equal scores comes first.
    """
    order = np.argsort(-score, kind="stable")
    length = end - start + plus
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        shared = np.maximum(0.0, np.minimum(end[best], end[rest]) - np.maximum(start[best], start[rest]) + plus)
        order = rest[shared / (length[best] + length[rest] - shared) < iou]
    return np.array(kept, dtype=np.int64)


def soft_nms(start: Floats, end: Floats, score: Floats, sigma: float, plus: float) -> tuple[Ints, Floats]:
    """Gaussian soft-NMS (Bodla et al. 2017): take the best, lower the others by exp(-overlap^2 / sigma), repeat.

    Args:
        start: (R,) seconds.
        end: (R,) seconds.
        score: (R,); falls towards 0 where overlaps are large, scores of 0 or less stay.
        sigma: width of the Gaussian.
        plus: seconds added to every length and intersection.

    Returns:
        All R indices, best first, and their new scores, falling.
    """
    length = end - start + plus
    shared_RR = np.minimum(end[:, None], end) - np.maximum(start[:, None], start) + plus
    shared_RR = np.maximum(0.0, shared_RR)
    decay_RR = np.exp(-((shared_RR / (length[:, None] + length - shared_RR)) ** 2) / sigma)
    left, order, scores = score.copy(), [], []
    for _ in range(len(score)):
        best = int(left.argmax())  # the first of equals
        order.append(best)
        scores.append(left[best])
        left[best] = -np.inf
        left = np.where(left > 0, left * decay_RR[best], left)
    return np.array(order, dtype=np.int64), np.array(scores)
