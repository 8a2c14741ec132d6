"""Choice of the device and the precision for networks."""

import torch
from torch import Tensor

from um.errors import BadInput
from um.params import Precision


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA if available, else the CPU; other names are PyTorch's."""
    torch.set_float32_matmul_precision("highest")  # NVIDIA's containers turn TF32 on: fp32 with ten bits
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


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is known to be faster: GPUs from Ampere on, x86 processors with AVX-512-BF16 or AMX.

    Arm processors with bf16 units are not counted: nobody has measured them here, and not all layers use their units.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).major >= 8
    units: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # older PyTorch cannot tell
    return bool(units.get("avx512_bf16") or units.get("amx_bf16"))


def choose_precision(asked: Precision, device: torch.device) -> Precision:
    """`auto` is bf16 on devices that compute faster in it, else fp32."""
    return ("bf16" if has_bf16(device) else "fp32") if asked == "auto" else asked


def send(values: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device; a GPU's earlier work goes on meanwhile, as only pinned memory allows."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values
