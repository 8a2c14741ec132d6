"""Weakly-supervised temporal action localisation by uncertainty modelling: a reproduction.

Python API: `um.extract`, `um.train`, `um.load_model`, `um.localize` and `um.evaluate`; see docs/python.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from um.infer import Model, Predictions, Segment, evaluate, extract, load_model, localize, train

__version__ = "0.1.0"
__all__ = ["Model", "Predictions", "Segment", "evaluate", "extract", "load_model", "localize", "train"]


def __getattr__(name: str) -> Any:
    """Import on first use: PyTorch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("um.infer"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
