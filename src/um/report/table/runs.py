"""The result files of one model, every number of which is computed again before a table shows it."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pandas as pd
from pydantic import Field

from um.errors import BadInput
from um.evaluation.metrics import Matched, accuracy, match_predictions, metrics_of
from um.evaluation.submission import Model, Submission, read_submission
from um.forms import Form, read_json, validate
from um.params import OURS, SELECTIONS, run_name

POPULATION = ("protocol", "subset", "num_videos", "num_instances", "tiou")  # equal in all rows of a dataset

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class Metrics(Form):
    """`metrics.json` of `um test`; shares are fractions."""

    protocol: str
    subset: str
    num_videos: Count
    num_instances: Count
    num_predictions: Count
    num_ambiguous: Count | None = None
    tiou: list[Share]
    mAP: dict[str, Share]
    average_mAP: Share
    ap: dict[str, list[Share]]
    accuracy: Share
    model: Model
    simulated: bool = False
    num_missing: Count = 0
    missing_policy: str | None = None
    missing: list[str] = Field(default=[])


class Checked(NamedTuple):
    """The results of one model, checked.

    Attributes:
        metrics: content of metrics.json.
        predictions: rows of video, label, score, start, end.
        matched: the same, matched with the annotated videos.
    """

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    matched: Matched


class Run(NamedTuple):
    """One model's results."""

    results: Path
    dataset: str
    variant: str
    seed: int
    selection: str

    def file(self, name: str) -> Path:
        """One of its files.

        Raises:
            BadInput: no such file; the hint is the command that writes it.
        """
        path = self.folder / name
        if not path.is_file():
            raise BadInput(path, "no such file", path.stem, self.command)
        return path

    @property
    def folder(self) -> Path:
        """Of the result files."""
        return self.results / run_name(self.dataset, self.variant) / f"seed{self.seed}" / SELECTIONS[self.selection][0]

    @property
    def model(self) -> Path:
        """The model's file."""
        return (
            Path("models") / run_name(self.dataset, self.variant) / f"seed{self.seed}" / SELECTIONS[self.selection][1]
        )

    @property
    def command(self) -> str:
        """The command that writes the files."""
        chosen = [] if self.variant == OURS else ["--variant", self.variant]
        words = [
            "um",
            "test",
            "--dataset",
            self.dataset,
            *chosen,
            "--model-file",
            str(self.model),
            "--out",
            str(self.folder),
        ]
        return shlex.join(words)


def checked_metrics(run: Run, population: dict[str, Any]) -> dict[str, Any]:
    """One metrics file, checked against this model, and against what is known of the evaluation."""
    path, again = run.file("metrics.json"), f"run again: {run.command}"
    metrics = read_json(path)
    if not isinstance(metrics, dict):
        raise BadInput(path, type(metrics).__name__, "metrics", again)
    try:
        model = validate(Metrics, metrics, path).model
    except BadInput as error:
        raise BadInput(path, error.found, error.expected, again) from None
    found = {key: metrics[key] for key in POPULATION} | {"selection": model.selection, "seed": model.seed}
    for key, wanted in {**population, "selection": run.selection, "seed": run.seed}.items():
        if found[key] != wanted:
            raise BadInput(path, f"{key} = {found[key]!r}", repr(wanted), again)
    return metrics


def checked(run: Run, whole: Matched, absent: list[str]) -> Checked:
    """A model's results.

    Args:
        run: model.
        whole: the whole-video row, which has the same videos.
        absent: ids of annotated test videos without features.

    Raises:
        BadInput: the predictions do not reproduce the metrics.
    """
    population = metrics_of(whole)
    metrics = checked_metrics(run, {key: population[key] for key in POPULATION})
    path, again = run.file("predictions.json"), f"run again: {run.command}"
    submitted = read_submission(path)
    matched = match_predictions(whole.videos, submitted.predictions, whole.settings)
    scored = metrics_of(matched)
    policy = {"num_missing": len(absent), "missing_policy": whole.settings.missing, "missing": absent}
    stated = {"simulated": submitted.simulated, "model": submitted.model} if submitted.model else {}
    expected = {
        "average_mAP": scored.pop("average_mAP"),
        **scored,
        **{key: value for key, value in (policy | stated).items() if key in metrics},
    }
    expected |= {"num_unlisted": matched.num_unlisted} if "num_unlisted" in metrics else {}
    for key, given in expected.items():
        for name, ours, theirs in _differences(key, given, metrics.get(key)):
            raise BadInput(path, f"{name} = {ours}", f"{theirs}, as in metrics.json beside it", again)
    _check_accuracy(path, submitted, metrics["accuracy"], whole, again)
    return Checked(metrics, submitted.predictions, matched)


def _differences(key: str, ours: Any, theirs: Any) -> Iterator[tuple[str, str, str]]:
    """Differences of two values beyond rounding: key, and both values as text."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted({*ours, *theirs}):
            yield from _differences(f"{key}.{name}", ours.get(name), theirs.get(name))
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for position, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from _differences(f"{key}.{position}", *pair)
    elif isinstance(ours, float) and isinstance(theirs, int | float):
        if abs(ours - theirs) > 1e-9:
            yield key, f"{ours:.10g}", f"{theirs:.10g}"
    elif ours != theirs:
        yield key, repr(ours), repr(theirs)


def _check_accuracy(path: Path, submitted: Submission, stated: float, whole: Matched, again: str) -> None:
    """Check the accuracy exactly if the predictions list every video's labels, else check its upper bound.

    A video with a segment of a wrong class cannot have been labelled correctly.
    """
    if submitted.labels is not None:
        ours, told = accuracy(whole.videos, submitted.labels), "accuracy"
        if abs(ours - stated) <= 1e-9:
            return
    else:
        found = submitted.predictions.groupby("video")["label"].unique()
        possible = [set(found.get(video.id, ())) <= set(video.labels) for video in whole.videos if video.labels]
        ours, told = 1 - possible.count(False) / len(whole.videos), "maximum accuracy"
        if stated <= ours + 1e-9:
            return
    raise BadInput(path, f"{told} = {ours:.10g}", f"{stated:.10g}, as in metrics.json beside it", again)
