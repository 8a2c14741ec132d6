"""Recognisers with pretrained weights, built from mmengine configs and mmaction2's registry."""

import hashlib
import json
import logging
import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from um.errors import BadInput, some
from um.features import mmaction2
from um.files import sha256
from um.forms import check_file, check_fits
from um.params import AUTO, Features

CONFIGS = Path(__file__).with_name("configs")
DEFAULT = "i3d-inception"  # the backbone whose weights `um weights` fetches
SUFFIXES = (".py", ".yaml", ".yml", ".json")  # of a config file that a user brings
SIZE = {"short_side": 256, "crop": 224}  # pixels, if a config states none
PUBLIC_HEAD = "logits.conv3d."  # in the public PyTorch port's rgb_imagenet.pt and flow_imagenet.pt
HASHED = re.compile(r"_\d{8}-([0-9a-f]{8})\.pth")  # mmaction2's file names end in a date and the sha256's first digits
HEAD = "cls_head."


class Clip(NamedTuple):
    """A network's input frames for a snippet: its own, or every `stride`-th around its middle."""

    frames: int
    stride: int

    def around(self, window: int) -> tuple[int, int]:
        """Frames needed before and after a snippet of `window` frames."""
        more = max(0, self.frames * self.stride - window)
        return more // 2, more - more // 2


def clip_of(backbone: str, stream: str, window: int) -> Clip:
    """The `clip` in a backbone's config; default: the snippet itself."""
    clip = _config(config_file(backbone, stream)).get("clip")
    return Clip(clip["frames"], clip["stride"]) if clip else Clip(window, 1)


def width(backbone: str, stream: str) -> int:
    """Columns of a backbone's features."""
    return int(_config(config_file(backbone, stream)).model.cls_head.in_channels)


def sized(settings: Features) -> Features:
    """The settings with `short_side` and `crop` of the backbone's config where they are `auto`."""
    size = SIZE | dict(_config(config_file(settings.backbone, settings.streams.split(",")[0])).get("size", {}))
    chosen = {key: getattr(settings, key) if getattr(settings, key) != AUTO else size[key] for key in size}
    if chosen["crop"] > chosen["short_side"]:
        found, expected = f"{chosen['crop']} of {settings.backbone}", f"at most short_side ({chosen['short_side']})"
        raise BadInput("features.crop", found, expected, "set both, or neither")
    return settings.model_copy(update=chosen)


def config_file(backbone: str, stream: str = "rgb") -> Path:
    """The mmengine config of a backbone and a stream.

    `backbone` is a name in `configs/`; the path of a config file; or that of two, `<path>-rgb.py` and `<path>-flow.py`.
    """
    if own(backbone):
        path = Path(backbone) if backbone.endswith(SUFFIXES) else Path(f"{backbone}-{stream}.py")
        check_file(path, f"an mmengine config of a recogniser for {stream}", "docs/features.md shows one")
        return path
    path = CONFIGS / f"{backbone}-{stream}.py"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.py")))
        hint = "change backbone or streams; the path of a file of your own needs a / or ends in .py"
        raise BadInput("features.backbone", f"{backbone}-{stream}", f"one of {known}", hint)
    return path


def own(backbone: str) -> bool:
    """Whether a backbone is the path of a user's own config."""
    return "/" in backbone or backbone.endswith(SUFFIXES)


def digest(backbone: str, stream: str) -> str:
    """The sha256 of what a config says about the features, whichever files it inherits from."""
    config = _config(config_file(backbone, stream))
    values = {key: config.get(key) for key in ("model", "clip")}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def build(backbone: str, weights: Path | None, stream: str = "rgb") -> Any:
    """An mmaction2 recogniser in evaluation mode on the CPU.

    Args:
        backbone: as for `config_file`.
        weights: safetensors, an mmengine checkpoint (`{"state_dict": …}`), or a file of the public
            PyTorch port of I3D; None leaves the random initialisation.
        stream: `rgb` (3 channels) or `flow` (2 channels).

    Raises:
        BadInput: no such config, a config that mmaction2 cannot build, or weights that do not fit the network.
    """
    path = config_file(backbone, stream)
    config = _config(path).model
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Fail to import")  # compiled operators, unused here
        mmaction2.provide()
        from mmaction.registry import MODELS  # imported late: takes seconds
        from mmengine.logging import MMLogger
        from mmengine.registry import DefaultScope

        import um.features.inception  # noqa: F401  registers InceptionI3D

        MMLogger.get_current_instance().setLevel(logging.WARNING)  # UniFormerV2 reports every layer
        try:
            with DefaultScope.overwrite_default_scope("mmaction"):  # the registry of the recogniser's parts
                recognizer = MODELS.build(_without_initial_weights(config))
        except Exception as error:  # whatever a constructor raises
            found = f"a model that mmaction2 cannot build ({(str(error).splitlines() or [''])[-1][:200]})"
            raise BadInput(path, found, "a recogniser of mmaction2", "correct `model` in the config") from error
    if weights is not None:
        _load(recognizer, weights)
    return recognizer.eval()


def _without_initial_weights(config: Any) -> Any:
    """A copy whose parts do not fetch weights (`pretrained=<URL>`): the checkpoint replaces them all."""
    if isinstance(config, dict):
        values = {
            key: None if key == "pretrained" and isinstance(value, str) else _without_initial_weights(value)
            for key, value in config.items()
        }
        return type(config)(values)
    return [_without_initial_weights(value) for value in config] if isinstance(config, list) else config


def _config(path: Path) -> Any:
    """A config; in its `_base_`, `mmaction::` is the folder of configs installed with mmaction2, `um::` ours."""
    return _parsed(path, path.stat().st_mtime_ns)


@cache
def _parsed(path: Path, _: int) -> Any:
    from mmengine.config import Config

    Config._get_cfg_path = staticmethod(_base_path)
    try:
        config = Config.fromfile(path)
    except Exception as error:  # a config is a program
        found = f"unreadable ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]})"
        raise BadInput(path, found, "an mmengine config", "docs/features.md shows one") from None
    _check(path, config)
    return config


def _base_path(base: str, filename: str) -> tuple[str, str | None]:
    """The file that `_base_` of `filename` names.

    It replaces mmengine 0.10.7's, which cannot resolve `mmaction::`: it needs pkg_resources, which setuptools has
    removed, and fails on the list of configs in mmaction2 1.1.0's metafile of BSN (open-mmlab/mmaction2#2590).
    """
    mmaction2.provide()
    import mmaction

    folders = {"mmaction": Path(mmaction.__file__).parent / ".mim/configs", "um": CONFIGS}
    scope, colons, name = base.partition("::")
    folder = folders.get(scope) if colons else Path(filename).parent
    if folder is None:
        raise ValueError(f"_base_ = {base!r}: expected mmaction::, um:: or a path")
    return str(folder / (name if colons else base)), None


def _check(path: Path, config: Any) -> None:
    """Refuse a config without what extraction needs."""
    model, clip, size = config.get("model"), config.get("clip"), config.get("size", {})
    hint = "docs/features.md shows one"
    if not isinstance(model, dict) or not isinstance(model.get("backbone"), dict):
        raise BadInput(path, "no model with a backbone", "model = {…} of a recogniser", hint)
    if not isinstance((model.get("cls_head") or {}).get("in_channels"), int):
        raise BadInput(path, "no width of the features", "model.cls_head.in_channels", hint)
    if not (model.get("data_preprocessor") or {}).get("mean"):
        raise BadInput(path, "no mean and standard deviation of pixels", "model.data_preprocessor", hint)
    for name, given, keys in (("clip", clip, ("frames", "stride")), ("size", size, ("short_side", "crop"))):
        if given and (
            set(given) != set(keys) or not all(isinstance(n, int) and 0 < n <= 10_000 for n in given.values())
        ):
            raise BadInput(path, f"{name} = {dict(given)}", f"numbers above 0 for {' and '.join(keys)}", hint)


def source(backbone: str, stream: str = "rgb") -> str | None:
    """Where the checkpoint of a backbone is published, if its config says so."""
    published: str | None = _config(config_file(backbone, stream)).get("checkpoint")
    return published


def _load(recognizer: Any, path: Path) -> None:
    """Load a checkpoint that has every learnt tensor of the network, and no others.

    The classifier is loaded only if it fits, because features do not depend on it. Tensors that the network computes
    itself (tables of positions) may be missing, as they are in older files.
    """
    import torch

    from um import tensors

    state, needed = _read(path), recognizer.state_dict()
    learnt = {name for name, _ in recognizer.named_parameters()}
    learnt |= {name for name in needed if name.endswith(("running_mean", "running_var"))}
    fitting = {
        name: value
        for name, value in state.items()
        if name in needed
        and needed[name].shape == value.shape
        and (value.is_floating_point() or name.endswith("num_batches_tracked") or torch.equal(value, needed[name]))
    }
    problems = {
        "missing": learnt - set(state),
        "unknown": set(state) - set(needed),
        "of another shape, type or value": set(state) & set(needed) - set(fitting),
    }
    told = [
        f"{some(sorted(names), 'tensor', 'tensors')} {what}"
        for what, found in problems.items()
        if (names := {name for name in found if not name.startswith(HEAD) and not name.endswith("num_batches_tracked")})
    ]
    if told:
        expected = f"exactly the weights of {type(recognizer.backbone).__name__}"
        raise BadInput(path, ", ".join(told), expected, "choose the matching backbone or checkpoint")
    floats = {name: value for name, value in fitting.items() if value.is_floating_point()}
    tensors.check(path, floats, "pretrained weights", "choose another file")
    if wrong := [key for key, value in floats.items() if key.endswith("running_var") and (value < 0).any()]:
        raise BadInput(path, f"{wrong[0]} below 0", "non-negative variances", "choose another file")
    recognizer.load_state_dict(fitting, strict=False)


def _read(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from um import tensors

    expected, hint = "safetensors or a PyTorch checkpoint of tensors", "is the file complete?"
    check_file(path, "pretrained weights", "`um weights` fetches the default ones")
    if (told := HASHED.search(path.name)) and not (found := sha256(path)).startswith(told[1]):
        raise BadInput(path, f"sha256 {found[:8]}…", f"{told[1]}…, as its name says", "download it again")
    if path.suffix == ".safetensors":
        check_fits(path, path.stat().st_size, "weights", hint)
        try:
            return load_file(path)
        except SafetensorError as error:
            raise BadInput(path, f"unreadable weights ({error})", expected, hint) from None
    state = tensors.unwrapped(tensors.read(path, expected, hint))
    if not state or not all(map(_is_weight, state.items())):
        raise BadInput(path, "no state_dict of tensors", "an mmengine checkpoint", "choose another file")
    return _from_public_port(state) if f"{PUBLIC_HEAD}weight" in state else state


def _is_weight(item: tuple[Any, Any]) -> bool:
    import torch

    return isinstance(item[0], str) and isinstance(item[1], torch.Tensor)


def _from_public_port(state: dict[str, Any]) -> dict[str, Any]:
    renamed = {f"backbone.{key}": value for key, value in state.items() if not key.startswith(PUBLIC_HEAD)}
    head = {key.removeprefix(PUBLIC_HEAD): value for key, value in state.items() if key.startswith(PUBLIC_HEAD)}
    head["weight"] = head["weight"].flatten(1) if head["weight"].ndim > 1 else head["weight"]
    renamed |= {f"cls_head.fc_cls.{key}": value for key, value in head.items()}
    return renamed
