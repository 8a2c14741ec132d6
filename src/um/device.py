"""Choice of the device for networks."""

import torch

from um.errors import BadInput


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA if available, else the CPU; other names are PyTorch's."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    expected, hint = "auto, cpu, or a GPU such as cuda:0", "auto uses a GPU if available"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput("--device", repr(name), expected, hint) from None
    if device.type not in ("cpu", "cuda"):
        raise BadInput("--device", repr(name), expected, hint)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadInput("--device", f"{name}, but {torch.cuda.device_count()} GPUs are visible", expected, hint)
    return device
