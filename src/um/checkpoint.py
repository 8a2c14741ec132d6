"""Model files: our safetensors with a JSON header that holds all that rebuilds the model, and published checkpoints."""

import json
import pickle
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from um.errors import BadInput
from um.files import atomic
from um.forms import validate
from um.model import UM
from um.params import Train

# Published key names (the official code's, then the seed's) → ours.
PUBLISHED = {
    "cas_module.conv.0.weight": "embed.weight",
    "cas_module.conv.0.bias": "embed.bias",
    "cas_module.classifier.0.weight": "classifier.weight",
    "cas_module.classifier.weight": "classifier.weight",
}


@dataclass(frozen=True)
class Header:
    """Everything but the weights.

    Attributes:
        classes: names, in the order of the network's outputs.
        streams: feature streams, in the order they are concatenated.
        snippet_seconds: length of a snippet in seconds.
        selection: `last`, `selected` (by held-out training videos), or `best_on_test` (the look at the test subset that
            scored highest).
        iteration: optimiser steps done.
        seed: of the training run.
        data: sha256 of the training subset.
        features: settings.
        train: settings.
        localize: settings.
        simulated: whether it was trained on simulated features.
    """

    classes: list[str]
    streams: list[str]
    snippet_seconds: float
    selection: str
    iteration: int
    seed: int
    data: str
    features: dict[str, Any]
    train: dict[str, Any]
    localize: dict[str, Any]
    simulated: bool = False

    @property
    def model(self) -> dict[str, Any]:
        """How results name the model."""
        return {"selection": self.selection, "iteration": self.iteration, "seed": self.seed}


def write(path: Path, model: UM, header: Header) -> None:
    """Write a model file; equal models give equal bytes."""
    head = asdict(header)
    if not header.simulated:
        del head["simulated"]  # models of real features stay, to the byte, what they were before there was the key
    tensors = {name: value.detach().cpu().contiguous() for name, value in sorted(model.state_dict().items())}
    with atomic(path) as temporary:
        temporary.write_bytes(save(tensors, {"um": json.dumps(head, sort_keys=True)}))


def read(path: Path, settings: Train) -> tuple[UM, Header | None]:
    """Read a model in evaluation mode, on the CPU, with its header (None for published checkpoints).

    Args:
        path: a file of ours, or a PyTorch state dict with the official code's or the seed's key names.
        settings: `r_act` and `r_bkg` of a published checkpoint, which does not hold them.

    Raises:
        BadInput: missing, damaged, or not a UM model.
    """
    expected, hint = "a UM model", "um train writes one; the official and the seed's checkpoints load too"
    header = None
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            header = Header(**json.loads((file.metadata() or {})["um"]))
        settings = validate(Train, header.train, path, "train.")
    except FileNotFoundError:
        raise BadInput(path, "no such file", expected, hint) from None
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise BadInput(path, f"safetensors without UM's header ({error})", expected, hint) from None
    except (SafetensorError, OSError):
        state = _published(path, expected, hint)
    try:
        D, F, _ = state["embed.weight"].shape
        C = state["classifier.weight"].shape[0]
        model = UM(F, C, settings.model_copy(update={"embedding_dim": D}))
        model.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise BadInput(path, f"weights that do not fit ({str(error).splitlines()[0]})", expected, hint) from None
    return model.eval(), header


def _published(path: Path, expected: str, hint: str) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise BadInput(path, "no weights (not tensors alone)", expected, hint) from None
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        found = f"no weights ({(str(error).splitlines() or [type(error).__name__])[0][:80]})"
        raise BadInput(path, found, expected, hint) from None
    if not isinstance(state, dict) or not set(state) <= set(PUBLISHED):
        found = f"keys {', '.join(map(str, list(state)[:3]))}" if isinstance(state, dict) else type(state).__name__
        raise BadInput(path, found, expected, hint)
    if other := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise BadInput(path, f"{other[0]} that is no tensor", expected, hint)
    return {PUBLISHED[name]: value for name, value in state.items()}
