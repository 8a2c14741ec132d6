"""CoLA (Zhang et al., CVPR 2021; values of github.com/zhang-can/CoLA): a second method in the same pipeline.

It has UM's layers, but ranks snippets by actionness, the sum of their class scores, and not by magnitudes. Its second
loss draws the embeddings of hard snippets, those beside a border of an action, to those of easy ones.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, dropout, max_pool1d, normalize, pad

from um.method.loss import classification_loss
from um.method.model import Network, gather, largest, pooled
from um.params import Train

R_HARD = 20  # K_hard = max(1, T // R_HARD)
NEAR, FAR = 3, 6  # m and M: hard snippets lie between erosions, or dilations, of these widths
TEMPERATURE = 0.07
MASK = 0.6  # dropout of the snippet mask


class Mined(NamedTuple):
    """The outputs of a forward pass."""

    action_score: Tensor  # (B, C) video-level softmax of the top-k pooled CAS
    easy_action: Tensor  # (B, K_act, D) embeddings of the highest actionness
    easy_background: Tensor  # (B, K_bkg, D) of the lowest
    hard_action: Tensor  # (B, K_hard, D) just inside the borders of actions
    hard_background: Tensor  # (B, K_hard, D) just outside
    magnitude: Tensor  # (B, T) actionness
    cas: Tensor  # (B, T, C) class scores after ReLU

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Least and greatest actionness (B, 1)."""
        return self.magnitude.amin(dim=1, keepdim=True), self.magnitude.amax(dim=1, keepdim=True)

    def fused(self, _: Tensor) -> Tensor:
        """The CAS (B, T, C): CoLA does not weight it by actionness."""
        return self.cas


class CoLA(Network):
    """Selection of easy and hard snippets by actionness (sections 3.2 and 3.3)."""

    def forward(self, features_BTF: Tensor, mask_BT: Tensor | None = None) -> Mined:
        """Run the network.

        Args:
            features_BTF: rgb and flow features, concatenated.
            mask_BT: weights of the random snippet mask; default: dropout of ones (1 in evaluation).
        """
        embedding_BTD, logits_BTC = self.embedded(features_BTF)
        cas_BTC = logits_BTC.relu()
        actionness_BT = cas_BTC.sum(dim=2)
        T = actionness_BT.shape[1]
        if mask_BT is None:
            mask_BT = dropout(torch.ones_like(actionness_BT), MASK, self.training)
        K_act, K_bkg = self.selected(T)
        reversed_BT = actionness_BT.amax(dim=1, keepdim=True) - actionness_BT
        inside_BT, outside_BT = (actionness_BT * region_BT for region_BT in borders(actionness_BT.detach()))
        chosen = (
            largest(actionness_BT * mask_BT, K_act),
            largest(reversed_BT * mask_BT, K_bkg),
            largest(inside_BT, max(1, T // R_HARD)),
            largest(outside_BT, max(1, T // R_HARD)),
        )
        action, background, hard_action, hard_background = (gather(embedding_BTD, index_BK) for index_BK in chosen)
        score_BC = pooled(cas_BTC, K_act).softmax(dim=1)
        return Mined(score_BC, action, background, hard_action, hard_background, actionness_BT, cas_BTC)


def borders(actionness_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Snippets just inside and just outside the runs above the video's median (B, T): 1 or 0 (eq. 5 and 6)."""
    above_BT = (actionness_BT > actionness_BT.quantile(0.5, dim=1, keepdim=True)).float()
    return _eroded(above_BT, NEAR) - _eroded(above_BT, FAR), _dilated(above_BT, FAR) - _dilated(above_BT, NEAR)


def _eroded(above_BT: Tensor, width: int) -> Tensor:
    return -max_pool1d(-pad(above_BT, (width // 2, (width - 1) // 2)), width, 1)


def _dilated(above_BT: Tensor, width: int) -> Tensor:
    return max_pool1d(pad(above_BT, ((width - 1) // 2, width // 2)), width, 1)


class Losses(NamedTuple):
    """Scalars: the minimised total, and its unweighted parts."""

    total: Tensor
    classification: Tensor
    contrast: Tensor


def cola_loss(output: Mined, label_BC: Tensor, settings: Train) -> Losses:
    """L = s L_cls + alpha L_s (eq. 9 and 10; s is `loss_scale`, 1 in the paper).

    L_s is the contrast of hard with easy action against easy background, and that of hard with easy background
    against easy action.

    Args:
        output: of the network, in training mode.
        label_BC: multi-hot video-level labels, float, at least one class per video.
        settings: form of L_cls, and weights.
    """
    classification = classification_loss(output.action_score, label_BC, settings)
    action, background = output.easy_action, output.easy_background
    contrast = _nce(output.hard_action, action, background) + _nce(output.hard_background, background, action)
    return Losses(settings.loss_scale * classification + settings.alpha * contrast, classification, contrast)


def _nce(query_BKD: Tensor, alike_BKD: Tensor, other_BKD: Tensor) -> Tensor:
    """InfoNCE of mean embeddings against every embedding of the other kind, by cosine."""
    query_BD, alike_BD = (normalize(x.mean(dim=1), dim=1) for x in (query_BKD, alike_BKD))
    positive_B1 = (query_BD * alike_BD).sum(dim=1, keepdim=True)
    negative_BK = (normalize(other_BKD, dim=2) @ query_BD[:, :, None]).squeeze(2)
    logits_BK = torch.cat([positive_B1, negative_BK], dim=1) / TEMPERATURE
    return cross_entropy(logits_BK, torch.zeros(len(logits_BK), dtype=torch.int64, device=logits_BK.device))
