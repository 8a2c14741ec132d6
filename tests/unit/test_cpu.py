"""The layers for CPUs compute what the network's own compute."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from um.features import cpu
from um.features.cpu import PointwiseConv3d, WinogradConv3d, accelerate
from um.features.inception import InceptionI3D
from um.features.network import FoldBatchNorm, Network
from um.params import Features


@pytest.fixture(autouse=True)
def however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "SIDE", 0)
    monkeypatch.setattr(cpu, "ENOUGH", 0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 5, 3), (3, 8, 8), (4, 14, 14), (8, 21, 18)])
def test_is_the_convolution(size: tuple[int, int, int], bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "TILES", 20)  # several steps a picture
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
    monkeypatch.setattr(cpu, "SIDE", 9)
    assert torch.equal(tried(x), convolution(x))


@torch.inference_mode()
def test_a_clip_does_not_depend_on_its_batch() -> None:
    tried, x = WinogradConv3d(nn.Conv3d(5, 7, 3, padding=1)), torch.randn(4, 5, 2, 9, 8)
    assert torch.equal(tried(x)[2], tried(x[2:3])[0])
    assert torch.equal(tried(x)[2], tried(x.flip(0))[1])


def test_i3d_is_the_same_network() -> None:
    torch.manual_seed(0)
    plain = InceptionI3D().eval()
    x = torch.randn(1, 3, 8, 64, 64)
    with torch.inference_mode(), FoldBatchNorm(plain):
        plain(x)
    faster = copy.deepcopy(plain)
    accelerate(faster)
    replaced = [name for name, module in faster.named_modules() if isinstance(module, WinogradConv3d)]
    assert len(replaced) == 19
    with torch.inference_mode():
        theirs, ours = plain(x), faster(x)
    assert not torch.equal(ours, theirs)
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


@torch.inference_mode()
def test_a_network_on_a_cpu_uses_it_from_a_size_on(
    tmp_path: Path, kinetics_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    for precision, crop, expected in (("fp32", 224, 9), ("fp32", 80, 1), ("bf16", 80, 0)):
        network = Network(Features(crop=crop, precision=precision), kinetics_weights, "cpu")
        if precision == "fp32":
            network.forward(torch.zeros(1, 3, 16, crop, crop))
        used = [module for module in network.recognizer.modules() if "kernels" in vars(module)]
        assert len(used) == expected


@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_pointwise_is_the_convolution_and_stays_channels_last(bias: bool) -> None:
    convolution, x = nn.Conv3d(5, 7, 1, bias=bias), torch.randn(2, 5, 3, 4, 6)
    y = PointwiseConv3d(convolution)(x.to(memory_format=torch.channels_last_3d))
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(y, convolution(x))


def test_others_are_not_replaced() -> None:
    kept = [
        nn.Conv3d(2, 2, 3),
        nn.Conv3d(2, 2, 3, 2, 1),
        nn.Conv3d(2, 2, 3, padding=1, groups=2),
        nn.Conv3d(2, 2, 1, 2),
    ]
    taken = nn.Sequential(nn.Conv3d(2, 2, 3, padding=1), nn.Conv3d(2, 2, 1))
    network = nn.Sequential(*kept, taken)
    accelerate(network)
    accelerate(network)  # changes nothing more
    assert list(network)[: len(kept)] == kept
    assert [type(layer) for layer in taken] == [WinogradConv3d, PointwiseConv3d]
    assert isinstance(taken[0].convolution, nn.Conv3d)
