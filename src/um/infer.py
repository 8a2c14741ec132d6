"""The Python API: using a model on videos or features, and the verbs as functions."""

import logging
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from um import params
from um.dataset import by_id
from um.datasets import clock as clocks
from um.datasets import store
from um.datasets.annotations import load
from um.datasets.folder import loose_features
from um.device import choose_device, choose_precision
from um.errors import BadInput, some
from um.evaluation.fitting import Unlisted
from um.evaluation.submission import Submission, submission
from um.features import backbones
from um.features import extract as extraction
from um.features.checkpoints import weights_of
from um.files import json_text
from um.forms import Span, Spec, validate
from um.method import checkpoint
from um.method.checkpoint import Header
from um.method.localize import Curves
from um.method.model import Network
from um.method.predict import predict
from um.params import Features, Localize, Precision, Train
from um.test import score, score_submission

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

Array = NDArray[np.float32]
Input = Path | str


class Model(NamedTuple):
    """A trained model: the network in evaluation mode, and its file's header."""

    network: Network
    header: Header
    path: Path


class Segment(NamedTuple):
    """A predicted action; times in seconds."""

    video: str
    label: str
    score: float
    start: float
    end: float


class Predictions:
    """A model's predictions for videos.

    Attributes:
        segments: of all videos; within a video by class, then by descending score.
        curves: video → class scores (C,), class activation sequences (T, C) and magnitudes (T,), all in [0, 1].
        spans: video → start and length of the time that its T snippets cover, in seconds.
        classes: C names.
        left_out: video → the error that kept it from being used.
        simulated: whether the model's or the videos' features are simulated.
    """

    def __init__(self, rows: pd.DataFrame, curves: dict[str, Curves], spans: dict[str, Span], by: Header) -> None:
        self._rows, self._header = rows, by
        self.curves, self.spans = curves, spans
        self.classes, self.simulated = by.classes, by.simulated
        self.left_out: dict[str, BadInput] = {}

    @property
    def durations(self) -> dict[str, float]:
        """Video → seconds at the end of its T snippets."""
        return {name: span.start + span.seconds for name, span in self.spans.items()}

    @property
    def segments(self) -> list[Segment]:
        """All segments, as typed rows."""
        return [Segment(*row) for row in self._rows.itertuples(index=False, name=None)]

    def to_frame(self) -> pd.DataFrame:
        """Columns video, label, score, start, end."""
        return self._rows.copy()

    def to_json(self) -> str:
        """ActivityNet's submission format, as written by `um localize`."""
        return json_text(self.submission())

    def submission(self) -> dict[str, Any]:
        """`to_json` before serialisation."""
        return submission(self._rows, self.curves, self._header.model, self.simulated)

    def best(self, min_score: float | None = None, top: int | None = None) -> "Predictions":
        """The same with only the segments that score at least `min_score`, and at most `top` per video."""
        from um.report import export

        return self.with_rows(export.best(self._rows, min_score, top))

    def with_rows(self, rows: pd.DataFrame) -> "Predictions":
        """The same with other segments, in the columns of `to_frame`."""
        other = Predictions(rows, self.curves, self.spans, self._header)
        other.left_out = self.left_out
        return other

    def __repr__(self) -> str:
        return f"<{len(self._rows)} segments of {len(self.curves)} videos>"


def load_model(path: Input) -> Model:
    """Read a model written by `um train`.

    Raises:
        BadInput: a missing or damaged file, or a published checkpoint, which lacks class names.
    """
    network, header = checkpoint.read(Path(path), Train())
    if header is None:
        expected, hint = "a model written by um train", "use `um test --data-dir`"
        raise BadInput(path, "a checkpoint without class names", expected, hint)
    return Model(network, header, Path(path))


def localize(
    inputs: Input | Array | Sequence[Input] | Mapping[str, Array],
    model: Model | Input,
    *,
    device: str = "auto",
    weights: Mapping[str, Path] | None = None,
    precision: Precision = "auto",
    **settings: Any,
) -> Predictions:
    """Find actions in videos.

    Args:
        inputs: one or more video files or folders written by `um extract`; or an array of features (T, F), or a
            mapping of names to such arrays, of the kind the model was trained on.
        model: from `load_model`, or a path.
        device: auto (CUDA, else CPU), cpu, cuda, cuda:1, …
        weights: stream → weights of the backbone; the default ones are fetched if a video needs them.
        precision: arithmetic of the backbone: fp32, bf16, or auto (bf16 on hardware that is faster in it).
        settings: of the `localize` section of params.yaml. The others come from params.yaml in the working directory,
            or else this package, for the model's dataset, or else are the defaults.

    Returns:
        Segments and curves. Unusable files are in `left_out`.

    Raises:
        BadInput: an unusable model or setting, or no usable input.
    """
    model = model if isinstance(model, Model) else load_model(model)
    return localized(resolve(inputs, model), model, choose_device(device), weights, settings, precision)


def extract(
    videos: Input | Sequence[Input],
    *,
    device: str = "auto",
    weights: Mapping[str, Path] | None = None,
    **settings: Any,
) -> dict[str, Array]:
    """Extract snippet features of video files into memory.

    Args:
        videos: one or more files.
        device: auto (CUDA, else CPU), cpu, cuda, cuda:1, …
        weights: stream → weights of the backbone; the default ones are fetched.
        settings: of the `features` section of params.yaml. The others are the common ones of params.yaml in the
            working directory, or else the defaults.

    Returns:
        Video id → float32 (T, F), one row per snippet, the streams side by side.

    Raises:
        BadInput: unusable settings or weights, or a video that cannot be decoded.
    """
    paths = [videos] if isinstance(videos, str | Path) else list(videos)
    how = params.chosen(None, {"features": settings}).features
    with tempfile.TemporaryDirectory() as scratch:
        named = by_id(Path(path) for path in paths)
        extraction.extract(named, Path(scratch), how, weights_of(how, weights), extraction.Machine(device, strict=True))
        return {name: read() for name, read in loose_features(Path(scratch), how.streams.split(",")).items()}


def train(
    data: Input,
    out: Input,
    *,
    seed: int = 0,
    dataset: str | None = None,
    variant: str = params.OURS,
    device: str = "auto",
    **settings: Any,
) -> Path:
    """Train UM on a folder in any public layout; resume an interrupted training.

    Args:
        data: folder of annotations and features.
        out: folder of the model files, as listed in `um.training.fit`.
        seed: random seed.
        dataset: name in params.yaml of the working directory, for its settings.
        variant: of params.yaml.
        device: auto (CUDA, else CPU), cpu, cuda, cuda:1, …
        settings: of the `train` section of params.yaml, on top.

    Returns:
        The path of the model after the last iteration.

    Raises:
        BadInput: unusable data or settings.
    """
    from um import training

    chosen = params.chosen(dataset, {"train": settings}, variant)
    training.train(training.Recipe(chosen, seed, dataset, variant), Path(data), Path(out), choose_device(device))
    return Path(out) / "last.safetensors"


def evaluate(
    annotations: Input,
    predictions: Predictions | Input,
    *,
    subset: str | None = None,
    unlisted: Unlisted = "count",
    **settings: Any,
) -> dict[str, Any]:
    """Score predictions against annotations.

    Args:
        annotations: ActivityNet-style JSON, or THUMOS'14's folder of txt files.
        predictions: a submission in ActivityNet's format, or the result of `um.localize`.
        subset: of the videos; default: the layout's test subset.
        unlisted: `count` predictions for other videos as false positives, or `ignore` them.
        settings: `protocol`, `tiou` and `missing` of the `evaluate` section of params.yaml.

    Returns:
        The metrics, as fractions, and what the submission states about its model and features.

    Raises:
        BadInput: an unknown format, or predictions that do not fit the annotations.
    """
    how = params.chosen(None, {"evaluate": settings}).evaluate
    if isinstance(predictions, str | Path):
        return score(Path(annotations), Path(predictions), subset, how, unlisted)
    submitted = Submission(list(predictions.curves), predictions.to_frame(), simulated=predictions.simulated)
    return score_submission(load(Path(annotations)), Path("predictions"), submitted, subset, how, unlisted)


class Inputs(NamedTuple):
    """The source of each video's features."""

    videos: dict[str, Path]  # still to be extracted
    features: "dict[str, tuple[Path, Callable[[], Array]]]"  # path and reader
    simulated: bool = False  # whether the features are
    durations: Mapping[str, float | None] = {}  # of videos, if annotated; seconds


def resolve(inputs: Input | Array | Sequence[Input] | Mapping[str, Array], model: Model) -> Inputs:
    """The inputs by video id, checked before the long work starts."""
    if isinstance(inputs, Mapping):
        return Inputs({}, {name: (Path(name), partial(_rows, name, value)) for name, value in inputs.items()})
    if isinstance(inputs, np.ndarray):
        return resolve({"video": inputs}, model)
    paths = [Path(inputs)] if isinstance(inputs, str | Path) else [Path(path) for path in inputs]
    for path in paths:
        if not path.exists():
            raise BadInput(path, "no such file or folder", "a video, or a folder of features", "check the path")
    videos = by_id(path for path in paths if not path.is_dir())
    header = model.header
    if videos:
        width = sum(backbones.width(header.features.backbone, stream) for stream in header.streams)
        checkpoint.check_width(f"features.backbone {header.features.backbone}", width, model.network, model.path)
        how = header.features
        clocks.agree("features", Spec(fps=how.fps, window=how.window, stride=how.stride).pace, header.pace, model.path)
    folders = [(path, loose_features(path, header.streams, header.pace)) for path in paths if path.is_dir()]
    places = [*videos.items(), *((name, path) for path, own in folders for name in own)]
    counts = Counter(name for name, _ in places)
    for name, where in places:
        if counts[name] > 1:
            raise BadInput(where, f"duplicate id {name}", "unique ids", "rename or leave out one of the two")
    specs = [store.made(place) for path, _ in folders for place in (path, path.parent)]  # a subset's lies above it
    simulated = any(spec.get("simulated") is True for spec in specs)
    return Inputs(videos, {name: (path, read) for path, own in folders for name, read in own.items()}, simulated)


def _rows(name: str, value: Array) -> Array:
    array = np.asarray(value, dtype=np.float32)
    if array.ndim != 2 or not len(array) or not np.isfinite(array).all():
        raise BadInput(name, f"an array of shape {array.shape}", "finite features (T, F)", "one row per snippet")
    return array


def localized(
    inputs: Inputs,
    model: Model,
    device: torch.device,
    weights: Mapping[str, Path] | None,
    settings: Mapping[str, Any],
    precision: str = "auto",
) -> Predictions:
    """Extract the features of videos, and localise all; arguments as for `localize`."""
    header, how = model.header, chosen_for(model, settings)
    asked = validate(Features, {"precision": precision}, Path("command line")).precision
    network = model.network.to(device)
    named: dict[str, torch.Tensor] = {}
    spans: dict[str, Span] = {}
    left_out: dict[str, BadInput] = {}

    def take(features: "Mapping[str, tuple[Path, Callable[[], Array]]]") -> None:
        for name, (where, read) in features.items():
            try:
                array = read()
                checkpoint.check_width(where, array.shape[1], network, model.path)
                spans[name] = header.pace.span(len(array), inputs.durations.get(name), where)
            except BadInput as error:
                left_out[name] = error
                log.warning("%s left out: %s", name, error)
            else:
                named[name] = torch.from_numpy(array).to(device)

    take(inputs.features)
    if inputs.videos:
        with tempfile.TemporaryDirectory() as scratch:
            rows, trained_on = Path(scratch), header.features.precision
            used = choose_precision(asked, device)
            spec = header.features.model_copy(update={"precision": used})
            if used != trained_on:
                log.info("extracts in %s; the model was trained on %s (docs/features.md#precision)", used, trained_on)
            files = weights_of(spec, weights)
            machine = extraction.Machine(str(device), strict=None)
            unread = extraction.extract(inputs.videos, rows, spec, files, machine)
            left_out |= unread
            if len(unread) < len(inputs.videos):
                take({name: (rows, read) for name, read in loose_features(rows, header.streams).items()})
    if not named:
        raise refusal(left_out, len(left_out), "no predictions were written")
    curves: dict[str, Curves] = {}
    videos = ((name, features_TF, spans[name]) for name, features_TF in named.items())
    segments, _ = predict(network, videos, header.classes, how, curves.__setitem__)
    by = header.model_copy(update={"simulated": header.simulated or inputs.simulated})
    predictions = Predictions(segments, curves, spans, by)
    predictions.left_out = left_out
    return predictions


def chosen_for(model: Model, settings: Mapping[str, Any]) -> Localize:
    """A model's localisation settings: those given, else params.yaml's for its dataset, else the defaults."""
    header, known = model.header, params.load()
    if header.dataset and params.file() != params.FILE and not known.has(header.dataset):
        log.warning("no params.yaml here: using default localisation settings, not those of %s", header.dataset)
    variant = header.variant if header.variant in known.variants else params.OURS
    return params.chosen(header.dataset, {"localize": dict(settings)}, variant).localize


def refusal(failures: Mapping[str, BadInput], total: int, rest: str) -> BadInput:
    """One error for all unusable inputs."""
    first = failures[min(failures)]
    if total == 1:
        return first
    found = f"{some(sorted(failures))} of {total} unusable; {Path(first.where).name}: {first.found}"
    return BadInput(first.where, found, first.expected, f"{rest}; {first.hint}")
