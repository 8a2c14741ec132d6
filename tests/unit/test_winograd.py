"""Winograd's convolution is the convolution."""

import pytest
import torch
from torch import nn

from um.features import winograd
from um.features.winograd import WinogradConv3d, replace_convolutions


@pytest.fixture(autouse=True)
def however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "SIDE", 0)
    monkeypatch.setattr(winograd, "ENOUGH", 0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 5, 3), (3, 8, 8), (4, 14, 14), (8, 21, 18)])
def test_is_the_convolution(size: tuple[int, int, int], bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "TILES", 20)  # several steps a picture
    torch.manual_seed(0)
    convolution = nn.Conv3d(5, 7, 3, padding=1, bias=bias)
    x = torch.randn(2, 5, *size)
    with torch.inference_mode():
        y = WinogradConv3d(convolution)(x)
        exact = convolution.double()(x.double())
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    assert (y - exact).abs().max() < 1e-5 * exact.abs().max()


@torch.inference_mode()
def test_small_ones_are_left_to_the_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    convolution, x = nn.Conv3d(5, 7, 3, padding=1), torch.randn(1, 5, 2, 8, 8)
    tried = WinogradConv3d(convolution)
    assert not torch.equal(tried(x), convolution(x))
    monkeypatch.setattr(winograd, "SIDE", 9)
    assert torch.equal(tried(x), convolution(x))


@torch.inference_mode()
def test_a_clip_does_not_depend_on_its_batch() -> None:
    tried, x = WinogradConv3d(nn.Conv3d(5, 7, 3, padding=1)), torch.randn(4, 5, 2, 9, 8)
    assert torch.equal(tried(x)[2], tried(x[2:3])[0])
    assert torch.equal(tried(x)[2], tried(x.flip(0))[1])


def test_others_are_not_replaced() -> None:
    kept = [nn.Conv3d(2, 2, 1), nn.Conv3d(2, 2, 3), nn.Conv3d(2, 2, 3, 2, 1), nn.Conv3d(2, 2, 3, padding=1, groups=2)]
    network = nn.Sequential(*kept, nn.Sequential(nn.Conv3d(2, 2, 3, padding=1)))
    replace_convolutions(network)
    assert list(network)[:4] == kept
    assert isinstance(network[4][0], WinogradConv3d)
