"""Every kind of recogniser of mmaction2 by a config file: its features, its checkpoint and its folded batch norms."""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.rendering import constant

from um.datasets import store
from um.errors import BadInput
from um.features import backbones
from um.features.backbones import CONFIGS, build, clip_of, config_file, sized, source, width
from um.features.checkpoints import weights_of
from um.features.extract import Machine, extract, specification
from um.features.network import FoldBatchNorm, Network
from um.files import sha256
from um.params import Features

SHIPPED = sorted(path.stem.removesuffix("-rgb") for path in CONFIGS.glob("*-rgb.py"))
FULL = pytest.mark.skipif("UM_FAULTS" not in os.environ, reason="set UM_FAULTS to test with many more backbones")
ANY_SIZE = 64  # pixels; for those that accept any
OWN = {  # configs that a user could bring: small networks of every kind of output
    "pathways": (
        "um::slowfast-r50-8x8-rgb.py",
        "slowfast",
        {"slow_pathway": {"depth": 18, "base_channels": 16}, "fast_pathway": {"depth": 18, "base_channels": 2}},
        {"in_channels": 144},
    ),
    "vector": (
        "um::videomae-b-rgb.py",
        "vit",
        {"embed_dims": 48, "depth": 2, "num_heads": 4, "img_size": ANY_SIZE},
        {"in_channels": 48},
    ),
    "windows": (
        "um::swin-tiny-rgb.py",
        "swin",
        {"arch": {"_delete_": True, "embed_dims": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]}},
        {"in_channels": 192},
    ),
    "pictures": ("um::tsm-r50-dense-rgb.py", "tsm", {"depth": 18}, {"in_channels": 512}),
    "2+1": (
        "mmaction::recognition/r2plus1d/r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb.py",
        "r2plus1d",
        {"depth": 18, "base_channels": 8, "norm_cfg": {"type": "BN3d"}},
        {"in_channels": 64},
    ),
    "class token": (
        "mmaction::recognition/mvit/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb.py",
        "mvit",
        {"spatial_size": ANY_SIZE},
        {},
    ),
    "neck": ("mmaction::recognition/tpn/tpn-slowonly_r50_8xb8-8x8x1-150e_kinetics400-rgb.py", "tpn", {}, {}),
}
QUICK_OWN = {"pathways", "vector", "windows", "pictures", "2+1"}


def own_config(folder: Path, kind: str) -> str:
    """A config file outside the package."""
    base, name, backbone, head = OWN[kind]
    model = {"backbone": backbone, "cls_head": head}
    text = f'_base_ = "{base}"\n\nmodel = {model}\n'
    if base.startswith("mmaction::"):
        text += f"clip = {{'frames': {16 if name == 'mvit' else 8}, 'stride': 2}}\n"
    path = folder / f"{name}.py"
    path.write_text(text)
    return str(path)


def scrambled(backbone: str) -> Any:
    """A recogniser in which every learnt tensor is random: biases, scales and running statistics, too."""
    torch.manual_seed(3)
    recognizer = build(backbone, None)
    for name, value in recognizer.state_dict().items():
        if name.endswith(("running_var", "bn.weight", "norm.weight")):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("bias", "running_mean")):
            value.uniform_(-0.2, 0.2)
        elif value.ndim > 3:
            torch.nn.init.kaiming_normal_(value)  # the default one lets deep networks forget their input
    return recognizer


def published(recognizer: Any, path: Path, change: Callable[[dict], Any] = lambda state: None) -> Path:
    """A checkpoint in mmaction2's published form, named after its sha256."""
    state = {name: value.clone() for name, value in recognizer.state_dict().items()}
    change(state)
    torch.save({"meta": {"epoch": 1}, "state_dict": state}, path)
    return path.rename(path.with_name(f"{path.stem}_20220901-{sha256(path)[:8]}.pth"))


def theirs(backbone: str, checkpoint: Path, clips_NTHWC: np.ndarray) -> np.ndarray:
    """Features as mmaction2 makes them: its checkpoint loader, preprocessor, recogniser and FeatureHead."""
    from mmaction.models.heads import FeatureHead
    from mmengine.runner.checkpoint import load_checkpoint

    recognizer = build(backbone, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_checkpoint(recognizer, str(checkpoint), map_location="cpu")
    T = clips_NTHWC.shape[1]
    flat = recognizer.data_preprocessor.format_shape == "NCHW"
    samples = [torch.from_numpy(clip).permute((0, 3, 1, 2) if flat else (3, 0, 1, 2)) for clip in clips_NTHWC]
    inputs = recognizer.data_preprocessor({"inputs": samples, "data_samples": None})["inputs"]
    with torch.inference_mode():
        made, _ = recognizer.extract_feat(inputs if flat else inputs[:, None])
        if hasattr(recognizer.cls_head, "pre_logits"):  # MViT's class token, which FeatureHead does not know
            return recognizer.cls_head.pre_logits(made).numpy()
        kind = "slowfast" if isinstance(made, tuple) else "tsm" if flat else None
        return FeatureHead(backbone_name=kind, num_segments=T)(made, num_segs=T).numpy()


def check_features(backbone: str, folder: Path) -> None:
    checkpoint = published(scrambled(backbone), folder / "random.pth")
    settings = Features(backbone=backbone, precision="fp32")
    if clip_of(backbone, "rgb", 16).frames and "uniformerv2" not in backbone and "x3d" not in backbone:
        settings = settings.model_copy(update={"short_side": ANY_SIZE, "crop": ANY_SIZE})
    settings = sized(settings)
    frames = clip_of(backbone, "rgb", settings.window).frames
    size = (2, frames, settings.crop, settings.crop, 3)
    clips = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    clips[1] //= 4  # another brightness, for features that differ
    network = Network(settings, checkpoint, "cpu")
    found, expected = network(clips), theirs(backbone, checkpoint, clips)
    assert found.shape == (2, width(backbone, "rgb"))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(found[0] - found[1]).max() > 1e-3 * np.abs(found).max()
    assert not any("BatchNorm" in type(module).__name__ for module in network.recognizer.backbone.modules())


@pytest.mark.parametrize("backbone", SHIPPED)
@FULL
def test_features_of_shipped_backbones_are_mmaction2s(tmp_path: Path, backbone: str) -> None:
    check_features(backbone, tmp_path)


@pytest.mark.parametrize("kind", [pytest.param(k, marks=() if k in QUICK_OWN else FULL) for k in OWN])
def test_features_of_one_s_own_configs_are_mmaction2s(tmp_path: Path, kind: str) -> None:
    check_features(own_config(tmp_path, kind), tmp_path)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A small VideoMAE in a user's config, and a checkpoint in the published form."""
    folder = tmp_path_factory.mktemp("small")
    backbone = own_config(folder, "vector")
    return backbone, published(scrambled(backbone), folder / "small.pth")


def test_every_learnt_tensor_is_loaded_or_named(tmp_path: Path, small: tuple[str, Path]) -> None:
    backbone, _ = small
    recognizer = scrambled(backbone)
    query, key = "backbone.blocks.1.attn.q_bias", "backbone.blocks.1.attn.qkv.weight"

    def as_timm(state: dict) -> None:  # one bias for query, key and value
        parts = [state.pop(f"backbone.blocks.0.attn.{part}_bias") for part in "qv"]
        state["backbone.blocks.0.attn.qkv.bias"] = torch.cat([parts[0], torch.zeros(48), parts[1]])

    def as_transformers(state: dict) -> None:
        for name in list(state):
            state[name.replace("backbone.blocks", "videomae.encoder.layer")] = state.pop(name)

    wrong = {
        r"1 tensor \(backbone\.blocks\.1\.attn\.q_bias\) missing": lambda state: state.pop(query),
        r"found 1 tensor \(ema\.weight\) unknown": lambda state: state.update({"ema.weight": torch.ones(2)}),
        r"1 tensor \(backbone\.blocks\.1\.attn\.qkv\.weight\) of another shape": lambda state: state.update(
            {key: torch.ones(3, 3)}
        ),
        r"2 tensors \(\S+0\.attn\.q_bias, \S+v_bias\) missing, 1 tensor \(\S+0\.attn\.qkv\.bias\) unknown": as_timm,
        r"2\d tensors .* missing, 2\d tensors .* unknown": as_transformers,
    }
    for message, change in wrong.items():
        with pytest.raises(BadInput, match=message):
            build(backbone, published(recognizer, tmp_path / "wrong.pth", change))

    def as_older(state: dict) -> None:  # without a head of 400 classes and without the table of positions
        state.pop("cls_head.fc_cls.weight")
        state["cls_head.fc_cls.bias"] = torch.ones(710)
        state.pop("backbone.pos_embed")

    loaded = build(backbone, published(recognizer, tmp_path / "older.pth", as_older)).state_dict()
    expected = recognizer.state_dict()
    assert {name for name in loaded if not torch.equal(loaded[name], expected[name])} <= {
        "cls_head.fc_cls.weight",
        "cls_head.fc_cls.bias",
    }


def test_a_checkpoint_is_checked_against_its_name(tmp_path: Path, small: tuple[str, Path]) -> None:
    backbone, checkpoint = small
    other = tmp_path / checkpoint.name
    other.write_bytes(checkpoint.read_bytes() + b"0")
    with pytest.raises(BadInput, match=rf"sha256 [0-9a-f]{{8}}…; expected {sha256(checkpoint)[:8]}…, as its name says"):
        build(backbone, other)


def test_a_config_of_one_s_own_extracts_and_its_change_extracts_again(tmp_path: Path, small: tuple[str, Path]) -> None:
    origin, checkpoint = small
    config, video = tmp_path / "mine.py", constant(tmp_path / "v.mp4", 60)
    config.write_text(Path(origin).read_text())
    settings = Features(backbone=str(config), short_side=ANY_SIZE, crop=ANY_SIZE, clips=2)

    def made() -> tuple[np.ndarray, str]:
        extract({"v": video}, tmp_path / "out", settings, {"rgb": checkpoint}, Machine("cpu"))
        return store.read(tmp_path / "out/rgb/v.npy"), (tmp_path / "out/spec.json").read_text()

    rows, spec = made()
    assert rows.shape == (3, 48)
    assert backbones.digest(str(config), "rgb") in spec
    config.write_text(config.read_text() + "# a comment\n")
    assert made()[1] == spec
    config.write_text(config.read_text() + "clip = {'frames': 16, 'stride': 1}\n")
    changed, told = made()
    assert told != spec
    assert not np.array_equal(changed, rows)
    assert "config_sha256" not in specification(Features(), {"rgb": checkpoint})


def test_configs_and_inputs_that_cannot_be(tmp_path: Path, small: tuple[str, Path]) -> None:
    backbone, _ = small
    texts = {
        "model = {": "found unreadable",
        "x = 1": "found no model with a backbone",
        "model = {'backbone': {'type': 'X3D'}}": "found no width of the features",
        "_base_ = 'um::x3d-s-rgb.py'\nclip = {'frames': 0, 'stride': 1}": "found clip = {'frames': 0, 'stride': 1}",
        "_base_ = 'um::x3d-s-rgb.py'\nsize = {'side': 182}": "found size = {.*expected numbers above 0",
        "_base_ = 'um::x3d-s-rgb.py'\nmodel = {'data_preprocessor': None}": "found no mean and standard deviation",
        "_base_ = 'other::x.py'": "expected mmaction::, um:: or a path",
        "_base_ = 'um::x3d-s-rgb.py'\nmodel = {'backbone': {'type': 'Y3D'}}": "a model that mmaction2 cannot build",
    }
    for text, message in texts.items():
        (tmp_path / "bad.py").write_text(text + "\n")
        os.utime(tmp_path / "bad.py", ns=(len(text), len(text)))
        with pytest.raises(BadInput, match=message) as caught:
            build(str(tmp_path / "bad.py"), None)
        assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match=r"absent-flow\.py: found no such file"):
        config_file(str(tmp_path / "absent"), "flow")
    for changed, message in (
        (
            {"crop": 32, "short_side": 32, "window": 8, "backbone": wide(tmp_path, backbone, "frames", 9)},
            "9 frames of 32",
        ),
        ({"streams": "flow"}, "found a network for 3 channels; expected one for flow"),
        ({"backbone": wide(tmp_path, backbone, "in_channels", 47)}, r"features of shape \(1, 48\); expected \(1, 47\)"),
    ):
        settings = Features(backbone=backbone, short_side=ANY_SIZE, crop=ANY_SIZE).model_copy(update=changed)
        with pytest.raises(BadInput, match=message) as caught:
            Network(settings, None, "cpu", settings.streams)
        assert "\n" not in str(caught.value)


def wide(folder: Path, origin: str, key: str, value: int) -> str:
    """The config with another number of frames, or another stated width."""
    path = folder / f"{key}.py"
    said = (
        f"clip = {{'frames': {value}, 'stride': 1}}" if key == "frames" else f"model['cls_head'] = {{'{key}': {value}}}"
    )
    path.write_text(f"{Path(origin).read_text()}\n{said}\n")
    return str(path)


def test_sizes_and_sources_of_shipped_configs() -> None:
    for backbone in SHIPPED:
        settings = sized(Features(backbone=backbone))
        assert 32 <= settings.crop <= settings.short_side
        if backbone == backbones.DEFAULT:
            assert (settings.short_side, settings.crop) == (256, 224)
            continue
        assert backbones.HASHED.search(str(source(backbone)))
        with pytest.raises(BadInput, match=r"--weights: found none for .*hint: download https://download\.openmmlab"):
            weights_of(Features(backbone=backbone))
    assert sized(Features(backbone="x3d-s", short_side=80, crop=64)).crop == 64
    with pytest.raises(BadInput, match=r"crop: found 256 of x3d-m; expected at most short_side \(128\)"):
        sized(Features(backbone="x3d-m", short_side=128))


def test_a_norm_is_folded_only_where_nothing_else_sees_the_convolution() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = torch.nn.BatchNorm2d(4)  # the order of the modules is not that of their application
            self.after, self.plain = torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 4, 1)
            self.forked, self.of_fork = torch.nn.Conv2d(4, 4, 1), torch.nn.BatchNorm2d(4)
            self.twice, self.of_twice = torch.nn.Conv2d(4, 4, 1), torch.nn.BatchNorm2d(4)
            self.conv = torch.nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.after(self.bn(self.conv(x)).relu())
            fork = self.forked(x)
            x = self.of_fork(fork) + fork
            return self.of_twice(self.twice(self.of_twice(self.twice(x))) + self.plain(x).relu())

    torch.manual_seed(0)
    net, x = Net().eval(), torch.randn(2, 3, 8, 8)
    for name, value in net.state_dict().items():
        if value.is_floating_point() and "conv" not in name:
            value.uniform_(0.5, 1.5)
    with torch.inference_mode():
        with FoldBatchNorm(net):
            before = net(x)
        after = net(x)
    left = {name for name, module in net.named_children() if isinstance(module, torch.nn.BatchNorm2d)}
    assert left == {"after", "of_fork", "of_twice"}
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)


def test_own_config_overlap_and_sizes_by_command_line(um: Callable, tmp_path: Path, small: tuple[str, Path]) -> None:
    backbone, checkpoint = small
    video, out = constant(tmp_path / "v.mp4", 40), tmp_path / "out"
    words = ("extract", video, "--out", out, "--backbone", backbone, "--weights", checkpoint, "--clips", 2)
    assert um(*words, "--stride", 8, "--crop", ANY_SIZE, "--short-side", ANY_SIZE)[0] == 0
    assert store.read(out / "rgb/v.npy").shape == (4, 48)
    assert um(*words, "--crop", ANY_SIZE, "--short-side", "auto")[0] == 0  # 224, of the config that it inherits
    spec = json.loads((out / "spec.json").read_text())
    assert (spec["short_side"], spec["crop"], spec["stride"]) == (224, ANY_SIZE, 16)
    code, _, errors = um(*words, "--stride", 0)
    assert code == 2
    assert "stride" in errors
