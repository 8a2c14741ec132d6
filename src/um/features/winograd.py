"""Convolutions over 3 × 3 × 3 with a quarter of the products, for CPUs.

Winograd's F(4, 3) over the picture: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016,
section 4 and its transforms for 4 × 4 outputs. Time is summed as it is.
"""

# N clips, C channels in, K channels out, T frames, H × W pixels; 36 = 6 × 6 inputs of a tile of 4 × 4 outputs

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from um.features.products import product

SIDE, ENOUGH = 14, 2_000_000  # H and W, and H x W x C x K, from which it is faster than oneDNN's convolution
TILES = 1024  # at a time: matrices large enough for full speed, and small enough for the cache

_IN = torch.tensor(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]], dtype=torch.float64
)  # fmt: skip
_KERNEL = torch.tensor(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64
) / 24  # fmt: skip
_OUT = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=torch.float64
)


PLAIN = {
    "kernel_size": (3, 3, 3),
    "stride": (1, 1, 1),
    "padding": (1, 1, 1),
    "dilation": (1, 1, 1),
    "groups": 1,
    "padding_mode": "zeros",
}


def replace_convolutions(network: nn.Module) -> None:
    """Take `WinogradConv3d` for every convolution that it can stand for, in place."""
    for module in [module for module in network.modules() if not isinstance(module, WinogradConv3d)]:
        for name, child in module.named_children():
            if isinstance(child, nn.Conv3d) and all(getattr(child, key) == value for key, value in PLAIN.items()):
                setattr(module, name, WinogradConv3d(child))


class WinogradConv3d(nn.Module):
    """In place of a convolution, which still does what is too small: equal to about 1e-5 of the largest output.

    For inference on a CPU, with weights that change no more. What else is in a batch changes nothing.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.convolution = convolution
        weight, bias = convolution.weight.detach(), convolution.bias
        self.bias_K = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        self.into_36_36, self.out_of_16_36 = (torch.kron(one, one).to(weight) for one in (_IN, _OUT))

    @cached_property
    def kernels(self) -> Tensor:
        """The transformed kernels (3, 36, K, C), by frame; made when asked for, as they take 4 times the memory."""
        weight_KC333 = self.convolution.weight.detach()
        transformed = torch.einsum("ai,bj,kctij->tabkc", _KERNEL, _KERNEL, weight_KC333.double())
        return transformed.flatten(1, 2).to(weight_KC333.dtype)

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """(N, C, T, H, W) → (N, K, T, H, W), channels-last."""
        N, C, T, H, W = x_NCTHW.shape
        K = self.convolution.out_channels
        if min(H, W) < SIDE or H * W * C * K < ENOUGH:
            convolved: Tensor = self.convolution(x_NCTHW)
            return convolved
        rows, columns = -(-H // 4), -(-W // 4)
        padding = (0, 0, 1, 4 * columns + 1 - W, 1, 4 * rows + 1 - H, 1, 1)
        tiles = F.pad(x_NCTHW.permute(0, 2, 3, 4, 1), padding).unfold(2, 6, 4).unfold(3, 6, 4)
        out = x_NCTHW.new_empty(N, T, rows, 4, columns, 4, K)
        step = max(1, TILES // (T * columns))
        for n in range(N):
            for first in range(0, rows, step):
                part = tiles[n, :, first : first + step].permute(4, 5, 0, 1, 2, 3)
                inputs = (self.into_36_36 @ part.reshape(36, -1)).view(36, T + 2, -1, C)
                products = torch.stack([self._over_time(inputs[i], i, T) for i in range(36)])
                outputs = (self.out_of_16_36 @ products.view(36, -1)).view(4, 4, T, -1, columns, K)
                target = out[n, :, first : first + step]
                torch.add(outputs.permute(2, 3, 0, 4, 1, 5), self.bias_K, out=target)
        cropped_NTHWK = out.view(N, T, 4 * rows, 4 * columns, K)[:, :, :H, :W]
        return cropped_NTHWK.permute(0, 4, 1, 2, 3).contiguous(memory_format=torch.channels_last_3d)

    def _over_time(self, input_TMC: Tensor, i: int, T: int) -> Tensor:
        """(T + 2, M, C) → (T · M, K), of one of the 36 places of a tile."""
        made = product(input_TMC[:T].flatten(0, 1), self.kernels[0, i])
        for t in (1, 2):
            made = product(input_TMC[t : T + t].flatten(0, 1), self.kernels[t, i], plus_MK=made)
        return made
