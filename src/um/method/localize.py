"""From the network's output for one video to scored segments (paper section 3.4; details from the official code).

Shape legend: T snippets, P points after interpolation, C classes, K predicted classes, R runs.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from um.evaluation.thresholds import threshold_range
from um.method.model import Network
from um.method.sampling import evenly
from um.method.suppression import nms, soft_nms
from um.params import Localize

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Curves(NamedTuple):
    """The outputs that localisation uses; all in [0, 1]."""

    score_C: Floats  # video-level class scores
    fused_TC: Floats  # CAS x magnitude (or the CAS alone), min-max normalised over time per class
    magnitude_T: Floats  # normalised embedding magnitude: probability of being foreground


class Segments(NamedTuple):
    """Scored segments of one video, by class, then by descending score."""

    label: Ints
    score: Floats
    start: Floats  # seconds
    end: Floats  # seconds


@torch.inference_mode()
def curves(model: Network, features_TF: Tensor, settings: Localize) -> Curves:
    """Run the network on one video and normalise its curves.

    Args:
        model: in evaluation mode.
        features_TF: all snippets of one video, on the model's device.
        settings: `max_segments`, `foreground` and `fusion` are used.
    """
    sampled_BTF = features_TF[evenly(len(features_TF), settings.max_segments).to(features_TF.device)][None]
    output = model(sampled_BTF)
    margin = model.settings.margin
    if settings.foreground == "saturating":
        magnitude_BT = output.magnitude / (output.magnitude + margin)
        magnitude_BT = _normalise(magnitude_BT, torch.zeros(()), magnitude_BT.amax(dim=1, keepdim=True))
    elif settings.foreground == "margin":
        magnitude_BT = output.magnitude.clamp(max=margin) / margin
    else:
        magnitude_BT = _normalise(output.magnitude, *output.bounds)
    fused_BTC = output.fused(magnitude_BT) if settings.fusion else output.cas
    fused_BTC = _normalise(fused_BTC, fused_BTC.amin(dim=1, keepdim=True), fused_BTC.amax(dim=1, keepdim=True))
    score, fused, magnitude = (x[0].cpu().numpy() for x in (output.action_score, fused_BTC, magnitude_BT))
    return Curves(score, fused, magnitude)


def _normalise(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    delta = high - low
    return ((x - low) / torch.where(delta > 0, delta, 1.0)).clamp(0, 1)


def predicted_classes(score_C: Floats, threshold: float) -> Ints:
    """Classes whose score reaches the threshold, or else the best one."""
    classes = np.flatnonzero(score_C >= threshold)
    return classes if len(classes) else np.array([score_C.argmax()])


def localize(video: Curves, duration: float, settings: Localize) -> Segments:
    """Segments of every predicted class.

    Args:
        video: curves over the T sampled snippets.
        duration: seconds spanned by the T curve values.
        settings: thresholds, interpolation, scoring and suppression.
    """
    T = len(video.magnitude_T)
    classes_K = predicted_classes(video.score_C, settings.class_threshold)
    fused_KP = upscale(video.fused_TC[:, classes_K], settings.upscale).T
    magnitude_P = upscale(video.magnitude_T[:, None], settings.upscale)[:, 0]

    cas_H = np.array(threshold_range(settings.cas_thresholds))
    magnitude_H = np.array(threshold_range(settings.magnitude_thresholds) if settings.fusion else [])
    # Runs of the CAS are scored on the thresholded curve: values below the threshold count as 0.
    above_KHP = (fused_KP[:, None] >= cas_H[:, None]) & (fused_KP[:, None] > 0)
    cut_KHP = fused_KP[:, None] * above_KHP
    K, H, P = above_KHP.shape
    row_R, first_R, last_R = _runs(above_KHP.reshape(K * H, P))
    contrast_R = _contrast(cut_KHP.reshape(K * H, P), row_R, first_R, last_R, settings.outer_ratio)
    # Runs of the magnitude are the same for every class.
    _, first_S, last_S = _runs((magnitude_P >= magnitude_H[:, None]) & (magnitude_P > 0))
    k_S = np.repeat(np.arange(K), len(first_S))
    first_S, last_S = np.tile(first_S, K), np.tile(last_S, K)
    contrast_S = _contrast(fused_KP, k_S, first_S, last_S, settings.outer_ratio)

    k, first, last, contrast = map(
        np.concatenate, ((row_R // H, k_S), (first_R, first_S), (last_R, last_S), (contrast_R, contrast_S))
    )
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


def _runs(above_XP: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Row, first and last point of every run of at least two points above a threshold, row by row."""
    rows, P = above_XP.shape
    padded = np.zeros((rows, P + 2), dtype=bool)
    padded[:, 1:-1] = above_XP
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    row, first = np.divmod(edges[::2], P + 2)
    last = edges[1::2] - row * (P + 2) - 1
    long = last > first
    return row[long], first[long], last[long]


def _contrast(curve_XP: Floats, row: Ints, first: Ints, last: Ints, outer_ratio: float) -> Floats:
    """Outer-inner contrast of runs: inner mean - mean of `outer_ratio` times their length on each side (R,)."""
    rows, P = curve_XP.shape
    total = np.zeros((rows, P + 1))  # total[:, i] = sum before i
    np.cumsum(curve_XP, axis=1, out=total[:, 1:])
    length = last - first + 1
    outer_first = np.maximum(0, (first - outer_ratio * length).astype(np.int64))
    outer_last = np.minimum(P - 1, (last + outer_ratio * length).astype(np.int64))
    inner_sum = total[row, last + 1] - total[row, first]
    outer_sum = total[row, outer_last + 1] - total[row, outer_first] - inner_sum
    outer_length = outer_last - outer_first + 1 - length
    outer = np.divide(outer_sum, outer_length, out=np.zeros_like(outer_sum), where=outer_length > 0)
    return np.asarray(inner_sum / length - outer)
