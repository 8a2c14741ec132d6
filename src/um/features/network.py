"""The pretrained network as a function from uint8 snippets to feature rows."""

# N snippets, C channels, T frames, H × W pixels, D features

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from um.device import choose_device, choose_precision, has_bf16, send
from um.features import cpu
from um.features.backbones import build
from um.params import Features


class Network:
    """A recogniser's backbone for one stream, ready for inference on one device.

    Batch norm is folded into the convolutions, and arrays are channels-last.
    """

    def __init__(self, settings: Features, weights: Path, device: str = "auto", stream: str = "rgb") -> None:
        self.device = choose_device(device)
        self.bf16 = choose_precision(settings.precision, self.device) == "bf16"
        recognizer = build(settings.backbone, weights, stream)
        fold_batch_norm(recognizer.backbone)
        recognizer.backbone.to(memory_format=torch.channels_last_3d)
        if self.device.type == "cpu":
            cpu.accelerate(recognizer.backbone)
        if self.bf16 and not has_bf16(self.device):
            cpu.imitate_bf16(recognizer.backbone)
            self.bf16 = False
        self.recognizer = recognizer.to(self.device)

    def __call__(self, frames_NTHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(N, T, H, W, C) uint8 → (N, D) float32, the last feature map's mean over time and space."""
        features_ND: npt.NDArray[np.float32] = self.launch(frames_NTHWC).cpu().numpy()
        return features_ND

    def launch(self, frames_NTHWC: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Like calling it, but returns a tensor on the device, possibly still being computed."""
        return self.forward(self.inputs(frames_NTHWC))

    @torch.inference_mode()
    def inputs(self, frames_NTHWC: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Frames (uint8) through the recogniser's own preprocessor: (N, C, T, H, W) float32, on the device."""
        clips = list(send(torch.from_numpy(frames_NTHWC), self.device).permute(0, 4, 1, 2, 3))
        inputs_NCTHW: torch.Tensor = self.recognizer.data_preprocessor({"inputs": clips, "data_samples": None})[
            "inputs"
        ]
        return inputs_NCTHW

    @torch.inference_mode()
    def forward(self, inputs_NCTHW: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) → (N, D), on the device."""
        inputs = inputs_NCTHW.contiguous(memory_format=torch.channels_last_3d).unsqueeze(1)  # one crop per clip
        # TF32 would change the fourth digit
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16),
        ):
            maps_NDTHW, _ = self.recognizer.extract_feat(inputs, stage="backbone")
        features_ND: torch.Tensor = maps_NDTHW.float().mean((2, 3, 4))
        return features_ND


def fold_batch_norm(network: nn.Module) -> None:
    """Fold every batch norm into the convolution before it in the same module, in place."""
    for module in network.modules():
        convolution, norm = None, None
        for name, child in module.named_children():
            if isinstance(child, nn.Conv3d):
                convolution = name, child
            elif isinstance(child, nn.BatchNorm3d):
                norm = name, child
        if convolution and norm:
            setattr(module, convolution[0], fuse_conv_bn_eval(convolution[1], norm[1]))
            setattr(module, norm[0], nn.Identity())
