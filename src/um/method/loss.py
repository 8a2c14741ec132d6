"""UM's losses, as in the official code and as in the paper."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from um.errors import BadInput, some
from um.method.model import Output
from um.params import Train


class Losses(NamedTuple):
    """Scalars: the minimised total, and its unweighted parts."""

    total: Tensor
    classification: Tensor
    background_entropy: Tensor
    uncertainty: Tensor


def um_loss(output: Output, label_BC: Tensor, settings: Train) -> Losses:
    """L = s (L_cls + beta * L_be) + alpha * L_um (paper eq. 9; s is `loss_scale`, 1 in the paper).

    L_cls compares the video-level scores with the normalised labels, L_be the background scores with 1 / C (eq. 5 and
    8). `summed_ce`, as in the paper: -sum_C y log p for L_cls, the mean over classes for L_be. `mean_bce`, as in the
    official code: binary cross-entropy averaged over classes, whose gradient decreases as 1 / C.

    L_um = mean_B (max(0, m - |f_act|) + |f_bkg|)^2 with f the mean embedding over the selected snippets (eq. 7); with
    `uncertainty: channels`, as in the seed code, f is the mean over the channels of every selected snippet.

    Args:
        output: of the network, in training mode.
        label_BC: multi-hot video-level labels, float, at least one class per video.
        settings: form and weights of the losses.
    """
    classification = classification_loss(output.action_score, label_BC, settings)
    if settings.loss == "mean_bce":
        uniform_BC = torch.full_like(label_BC, 1 / label_BC.shape[1])
        background_entropy = binary_cross_entropy(output.background_score, uniform_BC)
    else:
        background_entropy = -_log(output.background_score).mean()
    over = 1 if settings.uncertainty == "snippets" else 2
    action_B = (settings.margin - output.action_embedding.mean(dim=over).norm(dim=1)).relu()
    background_B = output.background_embedding.mean(dim=over).norm(dim=1)
    uncertainty = ((action_B + background_B) ** 2).mean()
    supervised = settings.loss_scale * (classification + settings.beta * background_entropy)
    return Losses(supervised + settings.alpha * uncertainty, classification, background_entropy, uncertainty)


def classification_loss(score_BC: Tensor, label_BC: Tensor, settings: Train) -> Tensor:
    """L_cls of `um_loss`, from the video-level scores and labels."""
    target_BC = label_BC / label_BC.sum(dim=1, keepdim=True)
    if settings.loss == "mean_bce":
        return binary_cross_entropy(score_BC, target_BC)
    return -(target_BC * _log(score_BC)).sum(dim=1).mean()


def imbalance(settings: Train, C: int) -> str:
    """A warning if `loss_scale` is more than 20 % off max(C, 20) / 20; empty if not, and for summed losses.

    With fewer than 20 classes the official code's scale of 1 works, as the demo shows; it fails with many.
    """
    balanced = max(C, 20) / 20
    if settings.loss == "summed_ce" or abs(settings.loss_scale - balanced) <= 0.2 * balanced:
        return ""
    return (
        f"loss_scale is {settings.loss_scale:g}, but {C} classes need about {balanced:g} (C / 20, at least 1) to learn "
        "both classes and magnitudes; --dataset NAME uses a preset's"
    )


def check_classes(where: Path, classes: Sequence[str]) -> None:
    """Refuse to train with one class: its softmax is always 1, and both losses on it are always 0.

    Raises:
        BadInput: fewer than two classes.
    """
    if len(classes) < 2:
        found = f"{some(classes, 'class', 'classes')}: UM compares classes, so its losses would always be 0"
        hint = "annotate a second one, such as 'other' for videos without the action"
        raise BadInput(where, found, "at least 2 classes", hint)


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=torch.finfo(p.dtype).tiny).log()
