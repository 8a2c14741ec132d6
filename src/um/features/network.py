"""The pretrained network as a function from uint8 snippets to feature rows."""

# N snippets, C channels, T frames, H × W pixels, D features

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from um.device import choose_device, choose_precision, has_bf16, send
from um.errors import BadInput
from um.features import cpu
from um.features.backbones import build, clip_of, sized, width
from um.params import Features

CONVOLUTIONS = nn.Conv1d, nn.Conv2d, nn.Conv3d
NORMS = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm


class Network:
    """A recogniser's backbone for one stream, ready for inference on one device.

    Batch norm is folded into the convolutions, and arrays are channels-last.

    Raises:
        BadInput: weights that do not fit, or a snippet that the network cannot process.
    """

    def __init__(self, settings: Features, weights: Path | None, device: str = "auto", stream: str = "rgb") -> None:
        chosen, self.device = choose_device(device), torch.device("cpu")
        settings, self.bf16 = sized(settings), False
        self.recognizer = build(settings.backbone, weights, stream)
        self.recognizer.test_cfg = None  # it could ask for views or fully convolutional testing
        self.flat = type(self.recognizer).__name__ == "Recognizer2D"
        self._try(settings, stream)
        for weight in self.recognizer.backbone.parameters():
            if weight.ndim in (4, 5):
                layout = torch.channels_last if weight.ndim == 4 else torch.channels_last_3d
                weight.data = weight.data.contiguous(memory_format=layout)
        if chosen.type == "cpu":
            cpu.accelerate(self.recognizer.backbone)
        self.device, self.bf16 = chosen, choose_precision(settings.precision, chosen) == "bf16"
        if self.bf16 and not has_bf16(chosen):
            cpu.imitate_bf16(self.recognizer.backbone)
            self.bf16 = False
        self.recognizer = self.recognizer.to(self.device)

    def _try(self, settings: Features, stream: str) -> None:
        """Run one black snippet, check its features, and fold batch norm."""
        clip = clip_of(settings.backbone, stream, settings.window)
        channels = len(self.recognizer.data_preprocessor.mean)
        black = np.zeros((1, clip.frames, settings.crop, settings.crop, channels), np.uint8)
        found, D = f"{clip.frames} frames of {settings.crop} pixels", width(settings.backbone, stream)
        where, hint = f"features.backbone {settings.backbone}", "docs/features.md lists each backbone's input"
        if channels != (2 if stream == "flow" else 3):
            raise BadInput(where, f"a network for {channels} channels", f"one for {stream}", "change the stream")
        with FoldBatchNorm(self.recognizer):
            try:
                shape = self.forward(self.inputs(black)).shape
            except (RuntimeError, AssertionError, ValueError, IndexError, TypeError, AttributeError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
                raise BadInput(where, found, "an input that it can process", f"{hint} ({reason})") from error
        if shape != (1, D):
            raise BadInput(where, f"features of shape {tuple(shape)}", f"(1, {D}), as its head takes", "correct it")

    def __call__(self, frames_NTHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(N, T, H, W, C) uint8 → (N, D) float32: the last feature maps' means over time and space."""
        features_ND: npt.NDArray[np.float32] = self.launch(frames_NTHWC).cpu().numpy()
        return features_ND

    def launch(self, frames_NTHWC: npt.NDArray[np.uint8]) -> Tensor:
        """Like calling it, but returns a tensor on the device, possibly still being computed."""
        return self.forward(self.inputs(frames_NTHWC))

    @torch.inference_mode()
    def inputs(self, frames_NTHWC: npt.NDArray[np.uint8]) -> Tensor:
        """Frames (uint8) through the recogniser's own preprocessor, float32 on the device.

        Returns:
            (N, C, T, H, W), or (N, T, C, H, W) for a recogniser of single pictures.
        """
        axes = (0, 1, 4, 2, 3) if self.flat else (0, 4, 1, 2, 3)
        clips = list(send(torch.from_numpy(frames_NTHWC), self.device).permute(axes))
        made: Tensor = self.recognizer.data_preprocessor({"inputs": clips, "data_samples": None})["inputs"]
        return made

    @torch.inference_mode()
    def forward(self, inputs: Tensor) -> Tensor:
        """What `inputs` returns → (N, D), on the device."""
        N = len(inputs)
        if not self.flat:
            inputs = inputs.contiguous(memory_format=torch.channels_last_3d).unsqueeze(1)  # one crop per clip
        # TF32 would change the fourth digit
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16),
        ):
            made, _ = self.recognizer.extract_feat(inputs, test_mode=True)
        head = self.recognizer.cls_head
        return pooled(head.pre_logits(made) if hasattr(head, "pre_logits") else made, N)


def pooled(made: Any, N: int) -> Tensor:
    """A backbone's output → (N, D): means over time and space, of several pathways side by side.

    As mmaction2's FeatureHead, for maps (N, D, T, H, W), vectors (N, D), maps of single pictures (N · T, D, H, W), and
    tuples of these.
    """
    if isinstance(made, tuple | list):
        return torch.cat([pooled(part, N) for part in made], dim=1)
    features: Tensor = made.float()
    if features.ndim > 2:
        features = features.mean(tuple(range(2, features.ndim)))
    return features if len(features) == N else features.view(N, -1, features.shape[1]).mean(1)


class FoldBatchNorm(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches a forward pass, and at its end folds batch norms into the convolutions before them, in place.

    A norm is folded if it was applied once, to the output of a convolution that was applied once, and nothing else read
    that output. The order of submodules says nothing: in R(2+1)D's units, it is not the order of execution.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.network = network
        self.calls: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()  # of a convolution's output
        self.made: Any = WeakIdKeyDictionary()  # a convolution's output → its name
        self.pairs: list[tuple[str, str]] = []  # convolution, norm
        self.hooks = [
            module.register_forward_hook(partial(self._note, name))
            for name, module in network.named_modules()
            if isinstance(module, CONVOLUTIONS + NORMS)
        ]

    def _note(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.calls[name] += 1
        if isinstance(module, CONVOLUTIONS):
            self.made[output] = name
        elif convolution := self.made.get(inputs[0]):
            self.pairs.append((convolution, name))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the reads of convolutions' outputs."""
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and (name := self.made.get(value)):
                self.reads[name] += 1
        return func(*args, **(kwargs or {}))

    def __exit__(self, kind: Any, *error: Any) -> None:
        for hook in self.hooks:
            hook.remove()
        super().__exit__(kind, *error)  # type: ignore[no-untyped-call]
        if kind is None:
            self._fold()

    def _fold(self) -> None:
        for convolution, norm in self.pairs:
            if self.calls[convolution] == self.calls[norm] == self.reads[convolution] == 1:
                pair: Any = self.network.get_submodule(convolution), self.network.get_submodule(norm)
                self.network.set_submodule(convolution, fuse_conv_bn_eval(*pair))
                self.network.set_submodule(norm, nn.Identity())
