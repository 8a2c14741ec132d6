"""Untrusted PyTorch checkpoints, read without running code or expanding beyond the file's size."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from um.errors import BadInput, some
from um.forms import check_fits


def read(path: Path, expected: str, hint: str) -> Any:
    """Read a file of `torch.save` on the CPU: tensors and plain values only.

    Raises:
        BadInput: another file, or a compressed archive, which PyTorch does not write.
    """
    size = path.stat().st_size
    check_fits(path, size, "weights", hint)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(member.file_size for member in archive.infolist()) > size:
                    raise ValueError("an archive larger than its file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except pickle.UnpicklingError:
        raise BadInput(path, "unreadable weights (not only tensors)", expected, hint) from None
    except Exception as error:  # a hostile or damaged stream can fail anywhere in the unpickler
        found = f"unreadable weights ({(str(error).splitlines() or [type(error).__name__])[0][:80]})"
        raise BadInput(path, found, expected, hint) from None


def unwrapped(content: Any) -> dict[Any, Any] | None:
    """A checkpoint's weights by name, without outer mappings and DataParallel's `module.`; None if there are none."""
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        return None
    return {name.removeprefix("module.") if isinstance(name, str) else name: content[name] for name in content}


def check(path: Path, weights: Mapping[str, Tensor], expected: str, hint: str) -> None:
    """Refuse weights that PyTorch would silently convert or expand.

    Raises:
        BadInput: sparse, empty, integer, NaN or infinite weights, or more values than the file can hold.
    """
    size = path.stat().st_size
    if sparse := [name for name, value in weights.items() if value.layout != torch.strided]:
        raise BadInput(path, f"{some(sparse, 'sparse tensor', 'sparse tensors')}", f"{expected}, all dense", hint)
    if sum(value.numel() * value.element_size() for value in weights.values()) > size:
        raise BadInput(path, "tensors larger than the file", expected, hint)
    if empty := [name for name, value in weights.items() if not value.numel()]:
        raise BadInput(path, f"{some(empty, 'tensor', 'tensors')} without a value", expected, hint)
    if other := [str(value.dtype) for value in weights.values() if not value.is_floating_point()]:
        raise BadInput(path, f"weights of {other[0]}", f"{expected} with float weights", hint)
    if bad := [name for name, value in weights.items() if not value.float().isfinite().all()]:
        raise BadInput(path, f"NaN or infinite values in {some(bad, 'tensor', 'tensors')}", "finite weights", hint)
