"""The network: TensorFlow's padding, mmaction2's doors, and what it recognises."""

import json
import subprocess
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from um.errors import BadInput
from um.features.backbones import build
from um.features.inception import POOLS, InceptionI3D, MaxPool, Triple, Unit3D, same_padding
from um.features.network import FoldBatchNorm, Network
from um.params import Features
from um.video.decode import centre, snippets


@given(st.integers(1, 65), st.integers(1, 7), st.integers(1, 3))
def test_same_padding_is_tensorflows(n: int, k: int, s: int) -> None:
    before, after = same_padding([n], (k,), (s,))  # type: ignore[arg-type]
    outputs = -(-n // s)
    assert 0 <= after - before <= 1
    assert (n + before + after - k) // s + 1 == outputs or k < s
    if n % s == 0:
        assert before + after == max(k - s, 0)


@torch.inference_mode()
def test_pointwise_units_are_convolutions() -> None:
    unit, x = Unit3D(5, 7, (1, 1, 1)).eval(), torch.randn(2, 5, 3, 4, 6)
    torch.testing.assert_close(unit(x), unit.bn(unit.conv3d(x)).relu())


def test_padding_of_layers() -> None:
    # TensorFlow: the first 7×7×7 convolution pads an even input by 2 before and 3 behind
    unit = Unit3D(1, 1, (7, 7, 7), (2, 2, 2)).eval()
    torch.nn.init.zeros_(unit.conv3d.weight)
    unit.conv3d.weight.data[..., 0, 0, 0] = 1
    x = torch.arange(1.0, 1 + 8**3).reshape(1, 1, 8, 8, 8)
    y = unit(x)
    assert y.shape == (1, 1, 4, 4, 4)
    assert y[0, 0, 0, 0, 0] == 0  # reaches two before the start
    torch.testing.assert_close(y[0, 0, 1:, 1:, 1:], x[0, 0, 0:6:2, 0:6:2, 0:6:2], rtol=1e-3, atol=0)
    # a padded value never wins, whatever the sign
    assert (MaxPool((1, 3, 3), (1, 2, 2))(torch.full((1, 1, 1, 8, 8), -3.0)) == -3).all()


@given(st.tuples(*[st.integers(1, 12)] * 3), st.sampled_from(sorted(POOLS.values())))
def test_pools_are_those_of_what_is_padded(size: tuple[int, int, int], pool: tuple[Triple, Triple]) -> None:
    kernel, stride = pool
    x = torch.randn(1, 2, *size)
    padded = torch.nn.functional.pad(x, same_padding(size, kernel, stride), value=float("-inf"))
    assert torch.equal(MaxPool(kernel, stride)(x), torch.nn.functional.max_pool3d(padded, kernel, stride))


@pytest.mark.parametrize("channels", [2, 3])
def test_output_shape(channels: int) -> None:
    with torch.device("meta"):
        network = InceptionI3D(channels)
    for frames, side in ((16, 224), (15, 97), (8, 32)):
        out = network(torch.empty(2, channels, frames, side, side, device="meta"))
        assert out.shape == (2, 1024, -(-frames // 8), -(-side // 32), -(-side // 32))


def test_kernels_are_inception_v1s() -> None:
    recognizer = build("i3d-inception", None)
    kernels = [m.weight for m in recognizer.modules() if isinstance(m, torch.nn.Conv3d)]
    assert len(kernels) == 57
    # as counted for the public PyTorch port without its logits: kernels, batch norm's scale and shift
    assert sum(k.numel() + 2 * len(k) for k in kernels) == 12_287_264


def test_built_through_mmaction2() -> None:
    recognizer = build("i3d-inception", None)
    assert type(recognizer).__name__ == "Recognizer3D"
    assert type(recognizer.backbone) is InceptionI3D
    assert not recognizer.training
    white = torch.full((3, 2, 4, 4), 255, dtype=torch.uint8)
    data = recognizer.data_preprocessor({"inputs": [white], "data_samples": None})
    assert (data["inputs"] == 1).all()
    assert build("i3d-inception", None, "flow").backbone.Conv3d_1a_7x7.conv3d.in_channels == 2
    for backbone, stream in (("resnet", "rgb"), ("i3d-r50", "flow")):
        with pytest.raises(BadInput, match="expected one of i3d-inception-flow, i3d-inception-rgb, i3d-r50-32x2-rgb, "):
            build(backbone, None, stream)


def test_folding_batch_norm_changes_nothing() -> None:
    network = InceptionI3D().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    x = torch.rand(1, 3, 8, 48, 48) * 2 - 1
    with torch.inference_mode():
        with FoldBatchNorm(network):
            before = network(x)
        after = network(x)
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in network.modules())
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)


def test_checkpoints_of_mmengine_and_of_the_public_port(tmp_path: Path) -> None:
    torch.manual_seed(1)
    r50 = build("i3d-r50", None)
    torch.save({"meta": {"epoch": 100}, "state_dict": r50.state_dict()}, tmp_path / "r50.pth")
    x = torch.rand(1, 3, 8, 32, 32)
    with torch.inference_mode():
        expected, found = r50.backbone(x), build("i3d-r50", tmp_path / "r50.pth").backbone(x)
    assert expected.shape[1] == 2048
    assert torch.equal(expected, found)

    inception = build("i3d-inception", None).state_dict()
    public = {key.removeprefix("backbone."): v for key, v in inception.items() if key.startswith("backbone.")}
    public = {key: v for key, v in public.items() if not key.endswith("num_batches_tracked")}
    public["logits.conv3d.weight"] = inception["cls_head.fc_cls.weight"][..., None, None, None]
    public["logits.conv3d.bias"] = inception["cls_head.fc_cls.bias"]
    torch.save(public, tmp_path / "rgb_imagenet.pt")
    loaded = build("i3d-inception", tmp_path / "rgb_imagenet.pt").state_dict()
    assert all(torch.equal(loaded[key], inception[key]) for key in inception)

    with pytest.raises(BadInput, match=r"r50.pth: found \d+ tensors \(.*\) missing, \d+ tensors \(.*\) unknown"):
        build("i3d-inception", tmp_path / "r50.pth")
    with pytest.raises(BadInput, match=r"1 tensor \(backbone\.Conv3d_1a_7x7\.conv3d\.weight\) of another"):
        build("i3d-inception", tmp_path / "rgb_imagenet.pt", "flow")


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    torch.save({"state_dict": {"x": subprocess.run}}, tmp_path / "code.pth")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save([1], tmp_path / "list.pth")
    for name in ("absent.pth", "code.pth", "text.pth", "text.safetensors", "list.pth"):
        with pytest.raises(BadInput, match=name) as caught:
            build("i3d-inception", tmp_path / name)
        assert "\n" not in str(caught.value)


# class of ucf6 → what counts as recognised: Kinetics-400's classes in alphabetical order
KINETICS = {
    "Archery": {5: "archery"},
    "BasketballDunk": {107: "dunking basketball", 220: "playing basketball", 296: "shooting basketball"},
    "HorseRace": {273: "riding or walking with horse", 272: "riding mule"},
    "PlayingPiano": {241: "playing piano", 236: "playing keyboard", 239: "playing organ"},
    "PlayingViolin": {250: "playing violin", 223: "playing cello"},
    "Surfing": {337: "surfing water"},
}


def instances(folder: Path) -> list[tuple[str, str, float]]:
    """A fixed sample: of each class, the first instance in order of video and time, with its middle (s)."""
    database = json.loads((folder / "annotations.json").read_text())["database"]
    found: dict[str, list[tuple[str, str, float]]] = {}
    for name in sorted(database):
        for item in sorted(database[name]["annotations"], key=lambda a: a["segment"]):
            start, end = map(float, item["segment"])
            found.setdefault(item["label"], []).append((item["label"], name, (start + end) / 2))
    assert set(found) == set(KINETICS)
    return [items[0] for items in found.values()]


@pytest.fixture(scope="module")
def network(kinetics_weights: Path) -> Network:
    return Network(Features(), kinetics_weights, "cpu")


def test_recognises_real_actions(reference_data: Path, network: Network) -> None:
    folder = reference_data / "data/ucf6"
    head = network.recognizer.cls_head  # linear: the mean over the feature map gives the mean logits
    for label, name, middle in instances(folder):
        index = int(middle * 25 / 16 - 0.5)
        clip = next(islice(snippets(folder / f"videos/{name}.mp4"), index, None))
        features = torch.from_numpy(network(centre(clip, 224)[None]))
        top5 = head.fc_cls(features)[0].topk(5).indices.tolist()
        assert KINETICS[label].keys() & set(top5), (label, name, top5)


def test_features_are_the_independent_implementations(reference_data: Path, network: Network) -> None:
    for name, start in (("ucf6_train_0001", 10), ("ucf6_val_0002", 4)):
        video = reference_data / f"data/ucf6/videos/{name}.mp4"
        clips = np.stack([centre(clip, 224) for clip in islice(snippets(video), start, start + 1)])
        expected = np.load(reference_data / f"data/ucf6/features_rgb_reference/{name}.npy")[start : start + 1]
        found, expected = network(clips), expected.astype(np.float32)
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        assert ((found * expected).sum(1) / norms).min() > 0.99
