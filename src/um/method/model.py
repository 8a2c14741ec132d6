"""UM's network (Lee et al., AAAI 2021, section 3), in the variants of docs/method.md, and its layers.

Shape legend of this package: B videos, T snippets, F input features, D embedding, C classes, K selected snippets.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, linear

from um.method.cpu import Convolution
from um.params import Train


class Output(NamedTuple):
    """The outputs of a forward pass."""

    action_score: Tensor  # (B, C) video-level softmax of the top-k pooled CAS
    background_score: Tensor  # (B, C) softmax of the CAS pooled over pseudo-background snippets
    action_embedding: Tensor  # (B, K_act, D) embeddings of the pseudo-action snippets
    background_embedding: Tensor  # (B, K_bkg, D) embeddings of the pseudo-background snippets
    action_magnitude: Tensor  # (B, K_act) their magnitudes
    background_magnitude: Tensor  # (B, K_bkg)
    embedding: Tensor  # (B, T, D)
    magnitude: Tensor  # (B, T) L2 norm of the embedding, smoothed
    cas: Tensor  # (B, T, C) class activation sequence after softmax over C

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Magnitudes (B, 1) of background and action, for the min-max foreground: means of the selected snippets."""
        return self.background_magnitude.mean(dim=1)[:, None], self.action_magnitude.mean(dim=1)[:, None]

    def fused(self, foreground_BT: Tensor) -> Tensor:
        """The curves (B, T, C) that are thresholded, given the probability of foreground."""
        return self.cas * foreground_BT[:, :, None]


class Network(nn.Module):
    """The layers that methods share (um.method.methods): an embedding over three snippets, and its classifier.

    Args:
        feature_dim: F.
        num_classes: C.
        settings: D, dropouts, K_act = max(1, T // r_act), K_bkg = max(1, T // r_bkg), smoothing, margin, selection.
    """

    def __init__(self, feature_dim: int, num_classes: int, settings: Train) -> None:
        super().__init__()
        self.settings = settings
        D = settings.embedding_dim
        self.embed = nn.Conv1d(feature_dim, D, kernel_size=3, padding=1)
        self.classifier = nn.Conv1d(D, num_classes, kernel_size=1, bias=False)
        self.input_dropout = nn.Dropout(settings.input_dropout)
        self.dropout = nn.Dropout(settings.dropout)
        self._convolve = Convolution(self.embed)

    def embedded(self, features_BTF: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (B, T, D) and class logits (B, T, C), smoothed over time."""
        embedding_BTD = self._convolve(self.input_dropout(features_BTF)).relu().float()
        logits_BTC = linear(self.dropout(embedding_BTD), self.classifier.weight.squeeze(2)).float()
        return embedding_BTD, self.smooth(logits_BTC.transpose(1, 2)).transpose(1, 2)

    def selected(self, T: int) -> tuple[int, int]:
        """K_act and K_bkg for videos of T snippets."""
        K_act, K_bkg = (max(1, int(T // ratio)) for ratio in (self.settings.r_act, self.settings.r_bkg))
        return K_act, K_bkg

    def smooth(self, curve: Tensor) -> Tensor:
        """Moving average over time, the last dimension."""
        width = self.settings.smoothing
        return curve if width == 1 else avg_pool1d(curve, width, 1, width // 2, count_include_pad=False)


class UM(Network):
    """Selection of pseudo-action and pseudo-background snippets by the magnitude of their embeddings."""

    def forward(self, features_BTF: Tensor, mask_BT: Tensor | None = None) -> Output:
        """Run the network.

        Args:
            features_BTF: rgb and flow features, concatenated.
            mask_BT: weights of the random snippet mask; default: dropout of ones (1 in evaluation).
        """
        embedding_BTD, logits_BTC = self.embedded(features_BTF)
        magnitude_BT = self.smooth(embedding_BTD.norm(dim=2))
        if mask_BT is None:
            mask_BT = self.dropout(torch.ones_like(magnitude_BT))
        K_act, K_bkg = self.selected(features_BTF.shape[1])
        action_BK = largest(magnitude_BT * mask_BT, K_act)
        if self.settings.background == "reversed":
            # Reverse before masking, so that the mask removes snippets from both selections.
            reversed_BT = magnitude_BT.amax(dim=1, keepdim=True) - magnitude_BT
            background_BK = largest(reversed_BT * mask_BT, K_bkg)
        else:
            background_BK = largest(-magnitude_BT * mask_BT, K_bkg)

        return Output(
            action_score=pooled(logits_BTC, K_act).softmax(dim=1),
            background_score=gather(logits_BTC, background_BK).mean(dim=1).softmax(dim=1),
            action_embedding=gather(embedding_BTD, action_BK),
            background_embedding=gather(embedding_BTD, background_BK),
            action_magnitude=magnitude_BT.gather(1, action_BK),
            background_magnitude=magnitude_BT.gather(1, background_BK),
            embedding=embedding_BTD,
            magnitude=magnitude_BT,
            cas=logits_BTC.softmax(dim=2),
        )


def pooled(logits_BTC: Tensor, K: int) -> Tensor:
    """Top-k pooling (B, C): the mean of each class's K largest values."""
    return logits_BTC.sort(dim=1, descending=True).values[:, :K].mean(dim=1)


def largest(values_BT: Tensor, K: int) -> Tensor:
    """Indices (B, K) of the K largest values, largest first.

    Ties (masked snippets, all 0, if fewer than K survive) follow PyTorch's unstable sort, as in the official code;
    `stable=True` or `topk` would pick other snippets.
    """
    return values_BT.sort(dim=1, descending=True).indices[:, :K]


def gather(values_BTX: Tensor, index_BK: Tensor) -> Tensor:
    """The selected rows (B, K, X)."""
    return values_BTX.gather(1, index_BK[:, :, None].expand(-1, -1, values_BTX.shape[2]))
