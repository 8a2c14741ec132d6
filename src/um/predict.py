"""Predictions of a model for a set of videos, and their ActivityNet submission form."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from um import __version__
from um.datasets.annotations import video_id
from um.errors import BadInput
from um.files import read_json
from um.localize import curves, localize
from um.model import UM
from um.params import Localize

COLUMNS = ["video", "label", "score", "start", "end"]


def predict(
    model: UM,
    videos: Iterable[tuple[str, Tensor]],
    classes: Sequence[str],
    settings: Localize,
    snippet_seconds: float,
) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Localise every video.

    Args:
        model: in evaluation mode.
        videos: (id, features (T, F) on the model's device).
        classes: names of the network's outputs.
        settings: of the localisation.
        snippet_seconds: length of a snippet.

    Returns:
        Rows of video, label, score, start, end; and by video the labels whose score reaches the class threshold.
    """
    names = np.array(classes)
    rows, labels = [], {}
    for name, features_TF in videos:
        video = curves(model, features_TF, settings)
        found = localize(video, len(features_TF) * snippet_seconds, settings)
        labels[name] = names[video.score_C >= settings.class_threshold].tolist()
        columns = (name, names[found.label], found.score, found.start, found.end)
        rows.append(pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))))
    return pd.concat(rows, ignore_index=True), labels


def submission(predictions: pd.DataFrame, videos: Iterable[str]) -> dict[str, Any]:
    """ActivityNet's submission form; a video without a segment has an empty list."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in videos}
    for video, label, score, start, end in predictions[COLUMNS].itertuples(index=False, name=None):
        results[str(video)].append({"label": label, "score": score, "segment": [start, end]})
    return {"version": f"um {__version__}", "results": results, "external_data": {}}


def read_submission(path: Path) -> pd.DataFrame:
    """Rows of video, label, score, start, end from a submission.

    Raises:
        BadInput: not that form, a score or a time that is not a finite number, a reversed segment.
    """
    results = read_json(path)
    results = results.get("results") if isinstance(results, dict) else None
    form = '{"results": {id: [{"label", "score", "segment": [start, end]}]}}'
    if not isinstance(results, dict):
        raise BadInput(path, "no 'results' by video", form, "um test writes this form")
    rows = []
    if twice := [name for name in results if video_id(name) != name and video_id(name) in results]:
        raise BadInput(path, f"video {twice[0]} with and without v_", "every id once", "remove one of the two")
    for name, entries in results.items():
        try:
            for entry in entries:
                start, end = (float(second) for second in entry["segment"])
                rows.append((video_id(name), str(entry["label"]), float(entry["score"]), start, end))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{path}: {name}", f"{type(error).__name__} {error}", form, "check this video") from None
    predictions = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(("score", "start", "end"), float))
    bad = predictions[~np.isfinite(predictions[["score", "start", "end"]]).all(axis=1)]
    if len(bad):
        raise BadInput(f"{path}: {bad.iloc[0]['video']}", "a number that is not finite", form, "check this video")
    bad = predictions[predictions["end"] < predictions["start"]]
    if len(bad):
        found = "a segment that ends before it starts"
        raise BadInput(f"{path}: {bad.iloc[0]['video']}", found, form, "check this video")
    return predictions
