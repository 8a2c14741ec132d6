"""UM's losses as the official code computes them: BCE of a softmax, averaged over videos and classes."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from um.model import Output


class Losses(NamedTuple):
    """Scalars: the sum that is minimised and its parts, unweighted."""

    total: Tensor
    classification: Tensor
    background_entropy: Tensor
    uncertainty: Tensor


def um_loss(output: Output, label_BC: Tensor, margin: float, alpha: float, beta: float) -> Losses:
    """L = L_cls + alpha * L_um + beta * L_be (paper eq. 9; classification terms in the official code's form).

    L_um = mean_B (max(0, m - |f_act|) + |f_bkg|)^2 with f the mean embedding over the selected snippets (eq. 7).

    Args:
        output: of the network, in training mode.
        label_BC: multi-hot video-level labels, float, at least one class per video.
        margin: m.
        alpha: weight of L_um.
        beta: weight of L_be.
    """
    classification = binary_cross_entropy(output.action_score, label_BC / label_BC.sum(dim=1, keepdim=True))
    uniform_BC = torch.full_like(label_BC, 1 / label_BC.shape[1])
    background_entropy = binary_cross_entropy(output.background_score, uniform_BC)
    action_B = (margin - output.action_embedding.mean(dim=1).norm(dim=1)).relu()
    background_B = output.background_embedding.mean(dim=1).norm(dim=1)
    uncertainty = ((action_B + background_B) ** 2).mean()
    total = classification + alpha * uncertainty + beta * background_entropy
    return Losses(total, classification, background_entropy, uncertainty)
