"""Sampling of snippets (STPN's, as in the official code)."""

from typing import Any

import torch
from torch import Tensor


def random_per_bin(length_B: Tensor, T: int, generator: torch.Generator) -> Tensor:
    """One random snippet from each of T equal bins of every video.

    A bin ends with the next bin's first snippet, the last bin with the video's last snippet. Videos shorter than T
    repeat snippets; a video of exactly T snippets is used unchanged.

    Args:
        length_B: snippets per video, int64, at least 1.
        T: snippets to draw.
        generator: source of randomness, on the CPU.

    Returns:
        (B, T) snippet indices, non-decreasing except for neighbours swapped at bin edges.
    """
    edges_BT = torch.arange(T + 1) * length_B[:, None] // T
    first_BT, last_BT = edges_BT[:, :-1], edges_BT[:, 1:].clone()
    last_BT[:, -1] = length_B - 1
    draw_BT = torch.rand(first_BT.shape, generator=generator, dtype=torch.float64)
    index_BT = first_BT + (draw_BT * (last_BT - first_BT + 1)).long()
    return torch.where(length_B[:, None] == T, first_BT, index_BT)


def evenly(length: int, T: int) -> Tensor:
    """Snippet indices at test time: all, or T evenly spaced ones of a longer video."""
    return torch.arange(length) if length <= T else torch.arange(T) * length // T


class Batches:
    """An endless, resumable stream of (video, snippet) indices, in shuffled passes; their last batch may be short."""

    def __init__(self, length_V: Tensor, batch_size: int, T: int, seed: int) -> None:
        self.length_V, self.batch_size, self.T = length_V, batch_size, T
        self.generator = torch.Generator().manual_seed(seed)
        self.order_V = torch.empty(0, dtype=torch.int64)  # videos left in this pass

    def next(self) -> tuple[Tensor, Tensor]:
        """The next batch: video indices (B,) and snippet indices (B, T)."""
        if not len(self.order_V):
            self.order_V = torch.randperm(len(self.length_V), generator=self.generator)
        video_B, self.order_V = self.order_V[: self.batch_size], self.order_V[self.batch_size :]
        return video_B, random_per_bin(self.length_V[video_B], self.T, self.generator)

    def state_dict(self) -> dict[str, Any]:
        """The state that determines all further batches."""
        return {"generator": self.generator.get_state(), "order": self.order_V.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self.generator.set_state(state["generator"])
        self.order_V = state["order"]
