"""Predictions as a file: ActivityNet's submission form."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import ConfigDict, Field, RootModel, ValidationError

from um import __version__
from um.datasets.annotations import LONGEST_LABEL, Label, Number, Seconds, unfit, unread, video_id
from um.errors import BadInput
from um.forms import Form, Sha256, no_cycles, read_json

COLUMNS = ["video", "label", "score", "start", "end"]
BEGINNING = '{\n "version": "um '  # of the files that we write
FORM = '{"results": {id: [{"label", "score", "segment": [start, end]}]}}'


class _Item(Form):
    model_config = ConfigDict(strict=False)  # lists and tuples

    label: Label
    score: Number
    segment: tuple[Seconds, Seconds]


class _Items(RootModel[list[_Item]]):
    pass


class Model(Form):
    """The model that made predictions, as `um test` writes it.

    Attributes:
        selection: last, selected, best_on_test, or unknown.
        iteration: that it was trained to.
        seed: of its training.
        hardware: it was trained on.
        weights: sha256 of its tensors and header.
    """

    selection: str = Field(max_length=100)
    iteration: int | None = Field(None, ge=0)
    seed: int | None = Field(None, ge=0)
    hardware: str | None = Field(None, max_length=200)
    weights: Sha256 | None = None


class _About(Form):
    """What `um test` and `um localize` write to `external_data`; other programs may write anything there."""

    model: Model | None = None
    simulated: bool = False
    labels: dict[str, list[str]] | None = None


class Submission(NamedTuple):
    """The content of a file: ids of its videos, with or without predictions, and rows of `COLUMNS`.

    Our own files also name the model (`selection`, and `iteration` and `seed` if known), whether features were
    simulated, and every video's labels whose scores reached the class threshold.
    """

    videos: list[str]
    predictions: pd.DataFrame
    model: dict[str, Any] | None = None
    simulated: bool = False
    labels: dict[str, list[str]] | None = None


def submission(
    predictions: pd.DataFrame,
    videos: Iterable[str],
    model: dict[str, Any] | None = None,
    simulated: bool = False,
    labels: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """ActivityNet's submission form; a video without a segment has an empty list.

    Model, simulated features and labels, as in `Submission`, go to the form's `external_data`.
    """
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in videos}
    for video, label, score, start, end in predictions[COLUMNS].itertuples(index=False, name=None):
        results[str(video)].append({"label": label, "score": score, "segment": [start, end]})
    about: dict[str, Any] = ({"model": model} if model else {}) | ({"simulated": True} if simulated else {})
    about |= {"labels": dict(labels)} if labels is not None else {}
    return {"version": f"um {__version__}", "results": results, "external_data": about}


def read_submission(path: Path) -> Submission:
    """Read a submission; ids are normalised, numbers may be texts.

    Raises:
        BadInput: not that form, an id that is a path or repeated, a label that is not a text, a score or a time that is
            not a finite number, a segment that ends before it starts.
    """
    content = read_json(path)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise BadInput(path, "no 'results' by video", FORM, "um test writes this form")
    if odd := [name for name in results if unfit(name)]:
        hint = "write the id that the annotations have"
        raise BadInput(path, f"the id {odd[0][:80]!r}", "a video's name, without a path and without blanks", hint)
    if twice := [name for name in results if video_id(name) != name and video_id(name) in results]:
        raise BadInput(path, f"video {twice[0]} with and without v_", "every id once", "remove one of the two")
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    with no_cycles():
        for name, entries in results.items():
            label, *numbers = _columns(entries) or _slowly(path, name, entries)
            columns["video"] += [video_id(name)] * len(label)
            columns["label"] += label
            for column, values in zip(COLUMNS[2:], numbers, strict=True):
                columns[column] += values
    predictions = pd.DataFrame(columns).astype(dict.fromkeys(("score", "start", "end"), float))
    _check(path, predictions)
    about = _about(remarks := content.get("external_data"))
    model = dict(remarks["model"]) if about.model else None
    return Submission([video_id(name) for name in results], predictions, model, about.simulated, about.labels)


def _columns(entries: Any) -> Sequence[Any] | None:
    """Labels, scores, starts and ends of one video; None if any has another type than ours."""
    try:
        segments = [entry["segment"] for entry in entries]
        label, score = [entry["label"] for entry in entries], [entry["score"] for entry in entries]
        start, end = [start for start, _ in segments], [end for _, end in segments]
    except (KeyError, TypeError, ValueError):
        return None
    fits = {*map(type, label)} <= {str} and {*map(type, score), *map(type, start), *map(type, end)} <= {float}
    return (label, score, start, end) if fits and isinstance(entries, list) else None


def _slowly(path: Path, name: str, entries: Any) -> Sequence[Any]:
    """The same in any accepted form, or an error that names the wrong value."""
    try:
        items = _Items.model_validate(entries).root
    except ValidationError as error:
        found, expected = unread(error, FORM)
        raise BadInput(f"{path}: {name}", found, expected, "check this video") from None
    starts, ends = ([item.segment[side] for item in items] for side in (0, 1))
    return [item.label for item in items], [item.score for item in items], starts, ends


def _check(path: Path, predictions: pd.DataFrame) -> None:
    numbers = predictions[["score", "start", "end"]]
    for label in predictions["label"].unique():
        if not label.strip() or len(label) > LONGEST_LABEL:
            where = f"{path}: {predictions['video'][predictions['label'] == label].iloc[0]}"
            raise BadInput(where, f"label {label[:80]!r}", f"a text of 1 to {LONGEST_LABEL} characters", "correct it")
    wrong = {
        "a number that is not finite": ~np.isfinite(numbers).all(axis=1),
        "a time beyond 1e9": (numbers[["start", "end"]].abs() > 1e9).any(axis=1),
        "a segment that ends before it starts": predictions["end"] < predictions["start"],
    }
    for found, rows in wrong.items():
        if rows.any():
            raise BadInput(f"{path}: {predictions['video'][rows.argmax()]}", found, FORM, "check this video")


def _about(remarks: Any) -> _About:
    try:
        return _About.model_validate(remarks)
    except ValidationError:
        return _About()
