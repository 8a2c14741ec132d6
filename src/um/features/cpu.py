"""Faster layers for inference on a CPU; outputs agree with the original layers to rounding.

Gains are ratios of the whole network's CPU time without and with a kernel (i3d-inception, one thread, AMD EPYC without
AVX-512). oneDNN's matrix products and max-pooling axis by axis gained nothing (0.9 to 1.0).
"""

# N clips, C input and K output channels, T frames, H × W pixels; 36 = 6 × 6 inputs of a tile of 4 × 4 outputs

import ctypes
import sys
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE, ENOUGH = 14, 2_000_000  # smallest H and W, and H x W x C x K, where Winograd's convolution beats oneDNN's
LAYERS = nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear
TILES = 1024  # per step: matrices large enough for full speed, small enough for the cache

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h

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


def accelerate(network: nn.Module) -> None:
    """Replace layers by faster ones, in place; the weights must not change afterwards."""
    keep_freed_memory()
    for module in [module for module in network.modules() if not isinstance(module, (PointwiseConv3d, WinogradConv3d))]:
        for name, child in module.named_children():
            match child:
                case nn.Conv3d(kernel_size=(1, 1, 1), padding=(0, 0, 0)) if _is_plain(child):
                    setattr(module, name, PointwiseConv3d(child))
                case nn.Conv3d(kernel_size=(3, 3, 3), padding=(1, 1, 1)) if _is_plain(child):
                    setattr(module, name, WinogradConv3d(child))


def _is_plain(convolution: nn.Conv3d) -> bool:
    steps = convolution.stride, convolution.dilation
    return steps == ((1, 1, 1), (1, 1, 1)) and convolution.groups == 1 and convolution.padding_mode == "zeros"


def imitate_bf16(network: nn.Module) -> None:
    """Round the layers' weights, inputs and outputs to bfloat16, in place, and compute in float32.

    So do processors with bfloat16 units. PyTorch's own bfloat16 was 190 times slower than float32 without them.
    """

    def rounded(values: Tensor) -> Tensor:
        return values.bfloat16().float()

    for module in network.modules():
        if isinstance(module, LAYERS):
            module.weight.data = rounded(module.weight.data)
        if isinstance(module, (*LAYERS, PointwiseConv3d, WinogradConv3d)):
            module.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0]),))
            module.register_forward_hook(lambda _, __, output: rounded(output))


def keep_freed_memory() -> None:
    """Make glibc keep freed memory: gain 1.3 at crop 224, none at 80 (fewer page faults), on Linux with glibc only."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


class PointwiseConv3d(nn.Module):
    """A channels-last 1 × 1 × 1 convolution as a matrix product: gain 1.1, for any input."""

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """(N, C, T, H, W) → (N, K, T, H, W), channels-last."""
        x_NTHWC = x_NCTHW.permute(0, 2, 3, 4, 1)
        y_MK = F.linear(x_NTHWC.flatten(0, 3), self.convolution.weight.flatten(1), self.convolution.bias)
        return y_MK.view(*x_NTHWC.shape[:4], -1).permute(0, 4, 1, 2, 3)


class WinogradConv3d(nn.Module):
    """A 3 × 3 × 3 convolution with a quarter of the products: gain 1.2 at crop 224, for float32 above SIDE and ENOUGH.

    Winograd's F(4, 3) over space: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016, section
    4, with the transforms for 4 × 4 outputs. Time is summed directly. Equal up to 1e-5 of the largest output; a clip's
    output does not depend on the others in its batch.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.convolution = convolution
        weight, bias = convolution.weight.detach(), convolution.bias
        self.bias_K = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        self.into_36_36, self.out_of_16_36 = (torch.kron(one, one).to(weight) for one in (_IN, _OUT))

    @cached_property
    def kernels(self) -> Tensor:
        """The transformed kernels (3, 36, C, K), by frame; computed on first use, as they take 4 times the memory."""
        weight_KC333 = self.convolution.weight.detach()
        transformed = torch.einsum("ai,bj,kctij->tabkc", _KERNEL, _KERNEL, weight_KC333.double())
        return transformed.flatten(1, 2).to(weight_KC333.dtype).transpose(2, 3)

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """(N, C, T, H, W) → (N, K, T, H, W), channels-last."""
        N, C, T, H, W = x_NCTHW.shape
        K = self.convolution.out_channels
        if x_NCTHW.dtype != torch.float32 or min(H, W) < SIDE or H * W * C * K < ENOUGH:
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
        """(T + 2, M, C) → (T · M, K), for one of a tile's 36 positions."""
        made = input_TMC[:T].flatten(0, 1) @ self.kernels[0, i]
        for t in (1, 2):
            made.addmm_(input_TMC[t : T + t].flatten(0, 1), self.kernels[t, i])
        return made
