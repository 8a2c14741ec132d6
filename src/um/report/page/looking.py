"""The part of `um report` that runs a model on the test videos: magnitudes, and the curves of examples."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from um.dataset import root
from um.datasets.annotations import AMBIGUOUS, Video
from um.datasets.folder import Folder
from um.errors import BadInput
from um.evaluation.matching import Bools
from um.forms import Span
from um.method import checkpoint
from um.method.localize import Curves, Floats, curves
from um.method.model import Network
from um.method.sampling import evenly
from um.params import Localize, Settings
from um.progress import progress
from um.report.export import distinct
from um.report.figures.charts import Split
from um.report.figures.example import MOST, Example
from um.report.page.collect import Collected, Result


class Looked(NamedTuple):
    """What a model makes of the test videos."""

    magnitudes: list[Split]
    examples: list[Example]


class _Seen(NamedTuple):
    """One video's output."""

    norm_T: Floats
    magnitude_T: Floats
    class_TC: Floats
    curves: Curves


def absent(result: Result, dataset: str) -> Path | None:
    """The first file that `look` needs and does not find."""
    needed = (result.model, root(dataset) / "features")
    return next((path for path in needed if not path.exists()), None)


def look(data: Collected, result: Result, settings: Settings, told: Mapping[str, str]) -> Looked:
    """Run a model on every test video with features.

    Args:
        data: the dataset.
        result: with predictions; its model is run.
        settings: of the dataset and the variant.
        told: videos to show as examples → why.

    Raises:
        BadInput: unusable features, or a model other than the scored one.
    """
    network, header = checkpoint.read(result.model, settings.train)
    scored = result.metrics.model.weights
    if header is None or (scored and header.weights != scored):
        found = f"weights {str(header.weights)[:12]}" if header else "a published checkpoint"
        raise BadInput(result.model, found, f"the model of {result.folder}", "`um test` scores it")
    folder = Folder(root(data.dataset), ",".join(header.streams), settings.evaluate.missing)
    parts: dict[str, list[Floats]] = {"before": [], "before, background": [], "after": [], "after, background": []}
    shown: dict[str, Example] = {}
    for video, features_TF in _features(folder, network, result.model):
        seen = _run(network, features_TF, settings.localize)
        span = folder.span(video, len(features_TF))
        inside_T, known_T = _actions(video, len(seen.magnitude_T), span)
        for when, value_T in (("before", seen.norm_T), ("after", seen.magnitude_T)):
            parts[when].append(value_T[inside_T & known_T])
            parts[f"{when}, background"].append(value_T[~inside_T & known_T])
        if video.id in told:
            rows = result.of_video(video.id)
            shown[video.id] = _example(video, told[video.id], seen, header.classes, rows, span)
    by_norm = network.settings.method == "um"
    named, margin = ("Trained embeddings", network.settings.margin) if by_norm else ("Trained actionness", None)
    before, before_bkg, after, after_bkg = map(np.concatenate, parts.values())
    splits = [Split("Input features", before, before_bkg), Split(named, after, after_bkg, margin)]
    return Looked(splits, [shown[name] for name in told if name in shown])


def _features(folder: Folder, network: Network, model: Path) -> Iterator[tuple[Video, Tensor]]:
    """The test videos and their features (T, F), one at a time."""
    videos, lengths, width = folder.check("test")
    checkpoint.check_width(folder.features, width, network, model)
    with progress("test videos", len(videos)) as step:
        for video, length in zip(videos, lengths, strict=True):
            rows_TF = np.empty((length, width), np.float32)
            folder.read_into(rows_TF, video.id)
            yield video, torch.from_numpy(rows_TF)
            step(video.id)


@torch.inference_mode()
def _run(network: Network, features_TF: Tensor, settings: Localize) -> _Seen:
    sampled_TF = features_TF[evenly(len(features_TF), settings.max_segments)]
    output = network(sampled_TF[None])
    magnitude_T, cas_TC = (each[0].double().numpy() for each in (output.magnitude, output.cas))
    norm_T = sampled_TF.norm(dim=1).double().numpy()
    return _Seen(norm_T, magnitude_T, cas_TC / max(1.0, cas_TC.max()), curves(network, features_TF, settings))


def _actions(video: Video, snippets: int, span: Span) -> tuple[Bools, Bools]:
    """Whether the middle of each snippet is in an instance, and whether it is outside all ambiguous segments."""
    middle_T = span.start + (np.arange(snippets) + 0.5) * (span.seconds / snippets)
    inside_T, known_T = np.zeros(snippets, bool), np.ones(snippets, bool)
    for one in (*video.instances, *video.ambiguous):
        in_T = (one.start <= middle_T) & (middle_T < one.end)
        if one.label == AMBIGUOUS or one in video.ambiguous:
            known_T &= ~in_T
        else:
            inside_T |= in_T
    return inside_T, known_T


def _example(video: Video, told: str, seen: _Seen, classes: list[str], rows: pd.DataFrame, span: Span) -> Example:
    """A video's curves for its annotated classes, then for the best predicted ones."""
    segments = distinct(rows)
    best = segments.sort_values("score", ascending=False, kind="stable")["label"]
    names = [name for name in dict.fromkeys([*video.labels, *best]) if name in classes][:MOST]
    column = [classes.index(name) for name in names]
    class_TC, fused_TC = seen.class_TC[:, column], seen.curves.fused_TC[:, column]
    curves = class_TC, seen.curves.magnitude_T, fused_TC
    end = span.start + span.seconds
    return Example(video.id, told, names, *curves, segments, video.instances, end, span.start)
