"""Recognisers with pretrained weights, built from mmengine configs and mmaction2's registry."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

from um.errors import BadInput
from um.features import mmaction2
from um.forms import check_file, check_fits

CONFIGS = Path(__file__).with_name("configs")
PUBLIC_HEAD = "logits.conv3d."  # in the public PyTorch port's rgb_imagenet.pt and flow_imagenet.pt


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


def config_file(backbone: str, stream: str = "rgb") -> Path:
    """The mmengine config of a backbone and a stream."""
    path = CONFIGS / f"{backbone}-{stream}.py"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.py")))
        raise BadInput("features.backbone", f"{backbone}-{stream}", f"one of {known}", "change backbone or streams")
    return path


def build(backbone: str, weights: Path | None, stream: str = "rgb") -> Any:
    """An mmaction2 `Recognizer3D` in evaluation mode on the CPU.

    Args:
        backbone: name of a config in `configs/`, without the stream.
        weights: safetensors, an mmengine checkpoint (`{"state_dict": …}`), or a file of the public
            PyTorch port of I3D; None leaves the random initialisation.
        stream: `rgb` (3 channels) or `flow` (2 channels).

    Raises:
        BadInput: no such config, or weights that do not fit the network.
    """
    path = config_file(backbone, stream)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Fail to import")  # compiled operators, unused here
        mmaction2.provide()
        from mmaction.registry import MODELS  # imported late: takes seconds
        from mmengine.registry import DefaultScope

        import um.features.inception  # noqa: F401  registers InceptionI3D

        with DefaultScope.overwrite_default_scope("mmaction"):  # the registry of the recogniser's parts
            recognizer = MODELS.build(_config(path).model)
    if weights is not None:
        _load(recognizer, weights)
    return recognizer.eval()


def _config(path: Path) -> Any:
    """Read a config; `mmaction::` refers to the configs installed with mmaction2.

    mmengine 0.10.7 cannot resolve it: it needs pkg_resources, which setuptools has removed, and fails on the list of
    configs in mmaction2 1.1.0's metafile of BSN (open-mmlab/mmaction2#2590).
    """
    mmaction2.provide()
    import mmaction
    from mmengine.config import Config

    text = path.read_text("utf-8")
    if "mmaction::" not in text:
        return Config.fromfile(path)
    installed = Path(mmaction.__file__).parent / ".mim/configs"
    return Config.fromstring(text.replace("mmaction::", f"{installed.as_posix()}/"), ".py")


def _load(recognizer: Any, path: Path) -> None:
    from um import tensors

    state = _read(path)
    needed = {key: value.shape for key, value in recognizer.state_dict().items()}
    given = {key: value.shape for key, value in state.items()}
    wrong = sorted(key for key in needed.keys() | given.keys() if needed.get(key) != given.get(key))
    # batch norm's counters are unused, and missing from older files
    wrong = [key for key in wrong if not key.endswith("num_batches_tracked")]
    if wrong:
        found = f"{len(wrong)} weights missing, unknown or of another shape, such as {wrong[0]}"
        raise BadInput(path, found, f"weights of {type(recognizer.backbone).__name__}", "choose the matching backbone")
    used = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    tensors.check(path, used, "pretrained weights", "choose another file")
    if wrong := [key for key, value in used.items() if key.endswith("running_var") and (value < 0).any()]:
        raise BadInput(path, f"{wrong[0]} below 0", "non-negative variances", "choose another file")
    recognizer.load_state_dict(state, strict=False)


def _read(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from um import tensors

    expected, hint = "safetensors or a PyTorch checkpoint of tensors", "is the file complete?"
    check_file(path, "pretrained weights", "`um weights` fetches the default ones")
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
