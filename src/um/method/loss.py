"""UM's losses, in the official code's form and in the paper's."""

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
    """Scalars: the sum that is minimised and its parts, unweighted."""

    total: Tensor
    classification: Tensor
    background_entropy: Tensor
    uncertainty: Tensor


def um_loss(output: Output, label_BC: Tensor, settings: Train) -> Losses:
    """L = s (L_cls + beta * L_be) + alpha * L_um (paper eq. 9; s is `loss_scale`, 1 in the paper).

    L_cls and L_be compare the video-level scores with the normalised labels, and the background's with 1 / C
    (eq. 5 and 8). `summed_ce` is the paper's form: -sum_C y log p, and its mean over classes for L_be. `mean_bce` is
    the official code's: binary cross-entropy averaged over the classes, whose gradient falls as 1 / C.

    L_um = mean_B (max(0, m - |f_act|) + |f_bkg|)^2 with f the mean embedding over the selected snippets (eq. 7); with
    `uncertainty: channels` f is the mean over the channels of every selected snippet, as the seed has it.

    Args:
        output: of the network, in training mode.
        label_BC: multi-hot video-level labels, float, at least one class per video.
        settings: the form and the weights.
    """
    target_BC = label_BC / label_BC.sum(dim=1, keepdim=True)
    uniform_BC = torch.full_like(label_BC, 1 / label_BC.shape[1])
    if settings.loss == "mean_bce":
        classification = binary_cross_entropy(output.action_score, target_BC)
        background_entropy = binary_cross_entropy(output.background_score, uniform_BC)
    else:
        classification = -(target_BC * _log(output.action_score)).sum(dim=1).mean()
        background_entropy = -_log(output.background_score).mean()
    over = 1 if settings.uncertainty == "snippets" else 2
    action_B = (settings.margin - output.action_embedding.mean(dim=over).norm(dim=1)).relu()
    background_B = output.background_embedding.mean(dim=over).norm(dim=1)
    uncertainty = ((action_B + background_B) ** 2).mean()
    supervised = settings.loss_scale * (classification + settings.beta * background_entropy)
    return Losses(supervised + settings.alpha * uncertainty, classification, background_entropy, uncertainty)


def imbalance(settings: Train, C: int) -> str:
    """What to say of a `loss_scale` that is more than 20 % off C / 20; empty where it is not, and for summed losses.

    Below 20 classes 1 is right too, the official code's, with which the demo trains: what fails is many classes.
    """
    balanced = max(C, 20) / 20
    if settings.loss == "summed_ce" or abs(settings.loss_scale - balanced) <= 0.2 * balanced:
        return ""
    return (
        f"loss_scale is {settings.loss_scale:g}, but {C} classes ask for {balanced:g} (C / 20, at least 1): far from "
        "it the classes or the magnitudes are not learnt; --dataset NAME takes a preset's"
    )


def check_classes(where: Path, classes: Sequence[str]) -> None:
    """Refuse a training with one class: the softmax over it is 1 whatever the features, and both losses on it are 0.

    Raises:
        BadInput: fewer than two classes.
    """
    if len(classes) < 2:
        found = f"{some(classes, 'class', 'classes')}: UM compares classes, so its losses would be 0 and nothing learnt"
        hint = "annotate a second one, such as videos without the action as a class 'other'"
        raise BadInput(where, found, "at least 2 classes", hint)


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=torch.finfo(p.dtype).tiny).log()
