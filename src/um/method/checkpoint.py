"""Model files: our safetensors, whose JSON header describes the model completely, and published checkpoints."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import ConfigDict, Field, field_validator, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from um import tensors
from um.errors import BadInput
from um.files import atomic, sha256
from um.forms import Form, Index, Pace, Sha256, check_file, load, parse_json, validate
from um.method.methods import METHODS
from um.method.model import Network
from um.params import OURS, Features, Name, Seed, Train

FOLDER = "checkpoints"  # one per evaluation, in the model folder
INDEX = f"{FOLDER}/index.json"  # file name → sha256, written last
BEGINNING = '{\n "files"'
EXPECTED = "a UM model"
HINT = "um train writes one; checkpoints of the official and the seed code work, too"

# Published key names (official code, then seed code) → ours.
PUBLISHED = {
    "cas_module.conv.0.weight": "embed.weight",
    "cas_module.conv.0.bias": "embed.bias",
    "cas_module.classifier.0.weight": "classifier.weight",
    "cas_module.classifier.weight": "classifier.weight",
}


Selection = Literal["last", "selected", "checkpoint", "best_on_test"]  # best_on_test: earlier versions


class Header(Form):
    """Everything but the weights.

    Attributes:
        classes: names, in the order of the network's outputs.
        streams: feature streams, in the order they are concatenated.
        snippet_seconds: time between feature rows; None: rescaled to each video's duration.
        snippet_start: time at which the first row begins.
        selection: `last`, `selected` (by held-out training videos), or `checkpoint` (of an evaluation).
        iteration: number of optimiser steps.
        seed: of the training run.
        data: sha256 of the training subset.
        dataset: name in params.yaml whose settings were used, if any.
        variant: of params.yaml.
        features: settings.
        train: settings.
        simulated: whether it was trained on simulated features.
        hardware: GPU or kind of processor it was trained on; None in models of earlier versions.
        weights: sha256 of the tensors and of the rest of the header; None in models of earlier versions.
    """

    model_config = ConfigDict(extra="forbid")
    hint: ClassVar[str] = HINT

    classes: list[Annotated[str, Field(min_length=1, max_length=1000)]] = Field(min_length=1, max_length=100_000)
    streams: list[Literal["rgb", "flow"]] = Field(min_length=1, max_length=2)
    snippet_seconds: float | None = Field(gt=0, le=3600)
    snippet_start: float = Field(0.0, ge=-3600, le=3600)
    selection: Selection
    iteration: int = Field(ge=0)
    seed: Seed
    data: str = Field(max_length=64)
    dataset: Name | None = None
    variant: Name = OURS
    features: Features
    train: Train
    simulated: bool = False
    hardware: Annotated[str, Field(max_length=200)] | None = None
    weights: Sha256 | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, values: Any) -> Any:
        """Earlier versions stored the localisation settings, did not average weights, and had no bf16."""
        if not isinstance(values, dict):
            return values
        had = {"train": {"ema": 0.0, "precision": "fp32"}, "features": {"precision": "fp32"}}
        known = {key: had[key] | values[key] for key in had if isinstance(values.get(key), dict)}
        return {key: value for key, value in (values | known).items() if key != "localize"}

    @field_validator("classes", "streams")
    @classmethod
    def _check_distinct(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("expected no duplicate names")
        return names

    @property
    def pace(self) -> Pace:
        """Where the rows of its features lie on the timeline."""
        return Pace(self.snippet_seconds, self.snippet_start)

    @property
    def model(self) -> dict[str, Any]:
        """The model's description in result files."""
        told = {"selection": self.selection, "iteration": self.iteration, "seed": self.seed}
        known = {"hardware": self.hardware, "weights": self.weights}
        return told | {name: value for name, value in known.items() if value}


def file(folder: Path, iteration: int) -> Path:
    """Path of a training's checkpoint."""
    return folder / FOLDER / f"{iteration:06d}.safetensors"


def files(folder: Path) -> list[Path]:
    """The checkpoints of a training, by iteration."""
    return sorted((folder / FOLDER).glob("[0-9]*.safetensors"))


def index_of(path: Path) -> Path | None:
    """The index of checkpoints at a path or in that folder; None for a model file."""
    name = Path(INDEX).name
    return path / name if path.is_dir() else path if path.name == name else None


def listed(index: Path) -> list[Path]:
    """The checkpoints listed in `models/<run>/seed<k>/checkpoints/index.json`, by iteration.

    Raises:
        BadInput: no index (the training has not finished), or a missing or changed file.
    """
    folder = index.parent
    check_file(index, "the index of a training's checkpoints", "um train writes it at the end")
    entries, hint = load(Index, index).files, "run um train again"
    for name, entry in entries.items():
        check_file(folder / name, f"a file listed in {index}", hint)
        if sha256(folder / name) != entry.sha256:
            raise BadInput(folder / name, "other bytes", f"the sha256 in {index}", hint)
    if not entries:
        raise BadInput(index, "no files", "at least one checkpoint", hint)
    return sorted(folder / name for name in entries)


def write(path: Path, model: Network, header: Header) -> None:
    """Write a model file; equal models give equal bytes."""
    state = {name: value.detach().cpu().contiguous() for name, value in sorted(model.state_dict().items())}
    head = header.model_dump(exclude={"weights"})
    if not header.simulated:
        del head["simulated"]
    head["weights"] = _digest(state, head)
    with atomic(path) as temporary:
        temporary.write_bytes(save(state, {"um": json.dumps(head, sort_keys=True)}))


def _digest(state: Mapping[str, Tensor], head: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in head.items() if name != "weights"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()


def is_ours(path: Path) -> bool:
    """Whether the file is an intact model written by `um train`."""
    try:
        return _ours(path) is not None
    except BadInput:
        return False


def header(path: Path) -> Header:
    """The header of a model written by `um train`.

    Raises:
        BadInput: another file, or a damaged one.
    """
    if not (found := _ours(path)):
        raise BadInput(path, "no safetensors file", EXPECTED, HINT)
    return found[1]


def read(path: Path, settings: Train) -> tuple[Network, Header | None]:
    """Read a model in evaluation mode, on the CPU, with its header (None for published checkpoints).

    Args:
        path: a file of ours, or a PyTorch state dict with the key names of the official or the seed code.
        settings: for published checkpoints, which do not contain `r_act` and `r_bkg`.

    Raises:
        BadInput: missing, damaged, or not a UM model.
    """
    check_file(path, EXPECTED, HINT)
    header = None
    if found := _ours(path):
        state, header = found
        settings = header.train
    else:
        state = _published(path)
    tensors.check(path, state, EXPECTED, HINT)
    try:
        D, F, _ = state["embed.weight"].shape
        C = state["classifier.weight"].shape[0]
        model = METHODS[settings.method].network(F, C, settings.model_copy(update={"embedding_dim": D}))
        model.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        found_here = f"weights that do not fit ({(str(error).splitlines() or [''])[0]})"
        raise BadInput(path, found_here, EXPECTED, HINT) from None
    if header and len(header.classes) != C:
        raise BadInput(path, f"{len(header.classes)} class names for {C} outputs", EXPECTED, HINT)
    return model.eval(), header


def _ours(path: Path) -> tuple[dict[str, Tensor], Header] | None:
    """Tensors and header of a file of ours; None if it is not a safetensors file.

    Raises:
        BadInput: another or a damaged safetensors file.
    """
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            text = (file.metadata() or {}).get("um")
    except (SafetensorError, OSError):
        return None
    try:
        values = parse_json(text or "")
    except (ValueError, RecursionError):
        raise BadInput(path, "safetensors without UM's header", EXPECTED, HINT) from None
    header = validate(Header, values, path)
    if header.weights not in (None, _digest(state, values)):
        found, hint = "content that does not match its sha256", "the file is damaged: copy it again, or train again"
        raise BadInput(path, found, "a file as written by um train", hint)
    return state, header


def _published(path: Path) -> dict[str, Tensor]:
    content = tensors.read(path, EXPECTED, HINT)
    state = tensors.unwrapped(content)
    if state is None:
        raise BadInput(path, type(content).__name__, EXPECTED, HINT)
    if other := [name for name in state if not isinstance(name, str) or name not in PUBLISHED]:
        names = [name if isinstance(name, str) else f"a {type(name).__name__}" for name in other]
        raise BadInput(path, f"keys {', '.join(names[:3])}", EXPECTED, HINT)
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise BadInput(path, f"{name} that is not a tensor", EXPECTED, HINT)
    return {PUBLISHED[name]: value for name, value in state.items()}


def check_width(where: Path | str, width: int, model: Network, model_file: Path) -> None:
    """Check that features have the width that a model was trained on.

    Raises:
        BadInput: another width.
    """
    if width != model.embed.in_channels:
        expected = f"{model.embed.in_channels}, as {model_file} was trained on"
        raise BadInput(where, f"features of width {width}", expected, "use other --streams or features")
