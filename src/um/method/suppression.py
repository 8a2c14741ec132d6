"""Non-maximum suppression of overlapping segments; without PyTorch, so that `um view` starts fast.

Shape legend: R segments, A and B segments compared.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BLOCK = 64  # segments compared with all others at a time


def nms(start: Floats, end: Floats, score: Floats, iou: float, plus: float) -> Ints:
    """Greedy suppression: keep the best, drop those that overlap it by `iou` or more, repeat.

    Args:
        start: (R,) seconds.
        end: (R,) seconds.
        score: (R,).
        iou: smallest overlap that suppresses.
        plus: seconds added to every length and intersection (the official code adds 1).

    Returns:
        Kept indices, best first; ties in input order.
    """
    left = np.argsort(-score, kind="stable")
    kept = [left[:0]]
    while len(left):
        block, others = left[:BLOCK], left[BLOCK:]
        hit_BR = _overlap(start[block], end[block], start[left], end[left], plus) >= iou
        free_B = np.ones(len(block), dtype=bool)
        for i in range(len(block)):
            if free_B[i]:
                free_B[i + 1 :] &= ~hit_BR[i, i + 1 : len(block)]
        kept.append(block[free_B])
        left = others[~hit_BR[free_B, len(block) :].any(axis=0)]
    return np.concatenate(kept)


def soft_nms(start: Floats, end: Floats, score: Floats, sigma: float, plus: float) -> tuple[Ints, Floats]:
    """Gaussian soft-NMS (Bodla et al. 2017): take the best, lower the others by exp(-overlap^2 / sigma), repeat.

    Args:
        start: (R,) seconds.
        end: (R,) seconds.
        score: (R,); scores of 0 or less stay unchanged.
        sigma: width of the Gaussian.
        plus: seconds added to every length and intersection.

    Returns:
        All R indices, best first, and their new scores, in descending order.
    """
    decay_RR = np.exp(-(_overlap(start, end, start, end, plus) ** 2) / sigma)
    left, order, scores = score.copy(), [], []
    for _ in range(len(score)):
        best = int(left.argmax())  # the first, if tied
        order.append(best)
        scores.append(left[best])
        left[best] = -np.inf
        left = np.where(left > 0, left * decay_RR[best], left)
    return np.array(order, dtype=np.int64), np.array(scores)


def _overlap(start_A: Floats, end_A: Floats, start_B: Floats, end_B: Floats, plus: float) -> Floats:
    """Intersection over union (A, B) with `plus` seconds added to every length and intersection."""
    shared_AB = np.minimum(end_A[:, None], end_B)
    shared_AB -= np.maximum(start_A[:, None], start_B) - plus
    np.maximum(0.0, shared_AB, out=shared_AB)
    union_AB = (end_A - start_A + plus)[:, None] + (end_B - start_B + plus)
    union_AB -= shared_AB
    shared_AB /= union_AB
    return shared_AB
