"""Predictions as a file: ActivityNet's submission form."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from um import __version__
from um.datasets.annotations import video_id
from um.errors import BadInput
from um.forms import read_json

COLUMNS = ["video", "label", "score", "start", "end"]
BEGINNING = '{\n "version": "um '  # of the files that we write
FORM = '{"results": {id: [{"label", "score", "segment": [start, end]}]}}'


class Submission(NamedTuple):
    """What a file holds: ids of its videos, those without a prediction too, and rows of `COLUMNS`.

    Where it is ours it also says which model it is of (`selection`, and `iteration` and `seed` where they are known),
    and whether features were simulated.
    """

    videos: list[str]
    predictions: pd.DataFrame
    model: dict[str, Any] | None = None
    simulated: bool = False


def submission(
    predictions: pd.DataFrame, videos: Iterable[str], model: dict[str, Any] | None = None, simulated: bool = False
) -> dict[str, Any]:
    """ActivityNet's submission form; a video without a segment has an empty list.

    What `Submission` says of model and features is in the form's place for remarks, `external_data`.
    """
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in videos}
    for video, label, score, start, end in predictions[COLUMNS].itertuples(index=False, name=None):
        results[str(video)].append({"label": label, "score": score, "segment": [start, end]})
    about: dict[str, Any] = ({"model": model} if model else {}) | ({"simulated": True} if simulated else {})
    return {"version": f"um {__version__}", "results": results, "external_data": about}


def read_submission(path: Path) -> Submission:
    """Read a submission; ids are normalised.

    Raises:
        BadInput: not that form, a score or a time that is not a finite number, a reversed segment.
    """
    content = read_json(path)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise BadInput(path, "no 'results' by video", FORM, "um test writes this form")
    if twice := [name for name in results if video_id(name) != name and video_id(name) in results]:
        raise BadInput(path, f"video {twice[0]} with and without v_", "every id once", "remove one of the two")
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for name, entries in results.items():
        try:
            segments = [entry["segment"] for entry in entries]
            columns["start"] += [float(start) for start, _ in segments]
            columns["end"] += [float(end) for _, end in segments]
            columns["label"] += [str(entry["label"]) for entry in entries]
            columns["score"] += [float(entry["score"]) for entry in entries]
            columns["video"] += [video_id(name)] * len(segments)
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{path}: {name}", f"{type(error).__name__} {error}", FORM, "check this video") from None
    predictions = pd.DataFrame(columns).astype(dict.fromkeys(("score", "start", "end"), float))
    bad = predictions[~np.isfinite(predictions[["score", "start", "end"]]).all(axis=1)]
    if len(bad):
        raise BadInput(f"{path}: {bad.iloc[0]['video']}", "a number that is not finite", FORM, "check this video")
    bad = predictions[predictions["end"] < predictions["start"]]
    if len(bad):
        found = "a segment that ends before it starts"
        raise BadInput(f"{path}: {bad.iloc[0]['video']}", found, FORM, "check this video")
    about = content.get("external_data")
    about = about if isinstance(about, dict) else {}  # others write what they like there
    model = about.get("model")
    model = model if isinstance(model, dict) and isinstance(model.get("selection"), str) else None
    return Submission([video_id(name) for name in results], predictions, model, about.get("simulated") is True)
