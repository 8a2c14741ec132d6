"""Inception-v1 inflated to three dimensions, as an mmaction2 backbone.

Carreira & Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017; layers and names from
github.com/deepmind/kinetics-i3d. Importing this module registers the backbone.
"""

# B clips, C channels, T frames, H × W pixels

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

Triple = tuple[int, int, int]


def same_padding(size: Sequence[int], kernel: Triple, stride: Triple) -> list[int]:
    """TensorFlow's "SAME" padding of the last three axes, in the order of `F.pad`; an odd pixel is added at the end."""
    padding: list[int] = []
    for n, k, s in zip(reversed(size), reversed(kernel), reversed(stride), strict=True):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        padding += [total // 2, total - total // 2]
    return padding


class Unit3D(nn.Module):
    """Convolution, batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Triple, stride: Triple = (1, 1, 1)) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride, bias=False)
        if stride == (1, 1, 1):  # then "SAME" does not depend on the input's size
            self.conv3d.padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.bn: nn.Module = nn.BatchNorm3d(out_channels, eps=1e-3, momentum=1e-3)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, out, ⌈T/stride⌉, ⌈H/stride⌉, ⌈W/stride⌉)."""
        if self.stride != (1, 1, 1):
            x_BCTHW = F.pad(x_BCTHW, same_padding(x_BCTHW.shape[2:], self.kernel, self.stride))
        return F.relu(self.bn(self.conv3d(x_BCTHW)), inplace=True)


class MaxPool(nn.Module):
    """Max-pooling with "SAME" padding by -inf."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, C, ⌈T/stride⌉, ⌈H/stride⌉, ⌈W/stride⌉)."""
        # pad both sides equally and let `ceil_mode` add the odd pixel: avoids a copy by F.pad
        before = same_padding(x_BCTHW.shape[2:], self.kernel, self.stride)[-2::-2]
        return F.max_pool3d(x_BCTHW, self.kernel, self.stride, before, ceil_mode=True)


class Mixed(nn.Module):
    """Inception module: four parallel branches, concatenated over channels."""

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.b0 = Unit3D(in_channels, channels[0], (1, 1, 1))
        self.b1a = Unit3D(in_channels, channels[1], (1, 1, 1))
        self.b1b = Unit3D(channels[1], channels[2], (3, 3, 3))
        self.b2a = Unit3D(in_channels, channels[3], (1, 1, 1))
        self.b2b = Unit3D(channels[3], channels[4], (3, 3, 3))
        self.b3a = nn.MaxPool3d(3, stride=1, padding=1)
        self.b3b = Unit3D(in_channels, channels[5], (1, 1, 1))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, channels 0 + 2 + 4 + 5, T, H, W)."""
        branches = [
            self.b0(x_BCTHW),
            self.b1b(self.b1a(x_BCTHW)),
            self.b2b(self.b2a(x_BCTHW)),
            self.b3b(self.b3a(x_BCTHW)),
        ]
        return torch.cat(branches, dim=1)


MIXED: dict[str, tuple[int, ...]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
POOLS: dict[str, tuple[Triple, Triple]] = {  # before the named module: kernel, stride
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


@MODELS.register_module()
class InceptionI3D(BaseModule):  # type: ignore[misc]
    """Two-stream I3D up to the last feature map.

    Submodules have the names of the public PyTorch port (`Mixed_3b.b1a.conv3d`), so that its files load.

    Args:
        in_channels: 3 for RGB in [-1, 1], 2 for optical flow in [-1, 1].
    """

    def __init__(self, in_channels: int = 3, init_cfg: dict[str, object] | None = None) -> None:
        super().__init__(init_cfg)
        self.Conv3d_1a_7x7 = Unit3D(in_channels, 64, (7, 7, 7), (2, 2, 2))
        self.MaxPool3d_2a_3x3 = MaxPool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit3D(64, 64, (1, 1, 1))
        self.Conv3d_2c_3x3 = Unit3D(64, 192, (3, 3, 3))
        width = 192
        for name, channels in MIXED.items():
            if name in POOLS:
                self.add_module(f"pool_before_{name}", MaxPool(*POOLS[name]))
            self.add_module(name, Mixed(width, channels))
            width = channels[0] + channels[2] + channels[4] + channels[5]

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """(B, in_channels, T, H, W) → (B, 1024, ⌈T/8⌉, ⌈H/32⌉, ⌈W/32⌉)."""
        for layer in self.children():
            x_BCTHW = layer(x_BCTHW)
        return x_BCTHW
