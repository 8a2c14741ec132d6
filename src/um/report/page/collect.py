"""What `um report` shows of a dataset: it reads the files that are there, and tells what is missing."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
import pandas as pd

from um.dataset import root
from um.datasets.annotations import Annotations, load
from um.errors import BadInput
from um.evaluation.fitting import NOTHING_LEFT, Population
from um.evaluation.metrics import Matched, match_predictions
from um.evaluation.submission import COLUMNS
from um.evaluation.thresholds import threshold_range
from um.forms import read_text, validate
from um.params import OURS, Params, Settings
from um.report.figures.charts import PANELS, SCORE, Training
from um.report.table.benchmark import row_of, title_of
from um.report.table.controls import whole_video
from um.report.table.runs import Metrics, Run, checked, checked_metrics

OUR_NAME = "Ours"


class Result(NamedTuple):
    """One model's scores and predictions, after the last iteration.

    Attributes:
        run: name shown.
        variant: of the method.
        seed: of the training.
        folder: in results/.
        model: file of the model, which may not be there.
        metrics: of metrics.json.
        scored: its predictions, if they and the annotations are there.
        matched: the same, matched with the annotations.
    """

    run: str
    variant: str
    seed: int
    folder: Path
    model: Path
    metrics: Metrics
    scored: Population | None = None
    matched: Matched | None = None

    def of_video(self, name: str) -> pd.DataFrame:
        """The predictions for one video."""
        rows = self.scored.rows if self.scored else pd.DataFrame(columns=COLUMNS)
        return rows[rows["video"] == name]


@dataclass(frozen=True)
class Collected:
    """A dataset's files.

    Attributes:
        dataset: name.
        title: as shown.
        results: of all runs and seeds, the first run first.
        trainings: of the same.
        truth: annotations, if there.
        missing: a sentence per kind of missing file.
    """

    dataset: str
    title: str
    results: list[Result]
    trainings: list[Training]
    truth: Annotations | None
    missing: list[str] = field(default_factory=list)

    @property
    def runs(self) -> dict[str, list[Result]]:
        """Name → the results of its seeds."""
        names = dict.fromkeys(result.run for result in self.results)
        return {name: [result for result in self.results if result.run == name] for name in names}

    @property
    def first(self) -> Result | None:
        """The result whose predictions are looked at: the first seed of the first run with predictions."""
        return next((result for result in self.results if result.matched), None)

    @property
    def scores(self) -> list[str]:
        """Average mAP of every run, as text."""
        told = []
        for name, results in self.runs.items():
            values = [100 * result.metrics.average_mAP for result in results]
            spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
            told.append(f"{name}: {fmean(values):.1f}{spread} %")
        return told


def collect(results: Path, dataset: str, values: Params, variant: str = OURS) -> Collected:
    """Read the results and trainings of a dataset.

    Args:
        results: folder of the metrics files.
        dataset: of params.yaml.
        values: params.yaml.
        variant: of the method; `ours` comes with those of `compare`.

    Raises:
        BadInput: an unreadable file, or predictions that do not give the scores beside them.
    """
    place, missing = root(dataset) / "annotations.json", []
    truth = load(place) if place.is_file() else None
    if not truth:
        missing.append(f"No {place}: intervals, precision and recall, examples and errors are left out.")
    found: list[Result] = []
    trainings: list[Training] = []
    for other in values.compared(variant):
        name = OUR_NAME if other == OURS else row_of(other)
        lost: dict[str, list[int]] = {
            "metrics.json": [],
            "predictions.json": [],
            "history.csv": [],
            "checkpoints.csv": [],
        }
        for seed in values.seeds:
            run = Run(results, dataset, other, seed, "last")
            folder, trained = run.folder, run.model.parent
            files = [folder / "metrics.json", folder / "predictions.json", trained / "history.csv"]
            files.append(folder / "best_on_test/checkpoints.csv")
            there = [path.is_file() for path in files]
            for path, is_there in zip(files, there, strict=True):
                if not is_there:
                    lost[path.name].append(seed)
            if there[0]:
                found.append(_result(name, run, truth if there[1] else None, values.of(dataset)))
                if set(found[0].metrics.ap) != set(found[-1].metrics.ap):
                    expected, hint = f"those of {found[0].folder}", f"run again: {run.command}"
                    raise BadInput(files[0], f"{len(found[-1].metrics.ap)} classes", expected, hint)
            if there[2]:
                scores = table(files[3], [SCORE]) if there[3] else None
                trainings.append(Training(name, seed, table(files[2], []), scores))
        for file, seeds in lost.items():
            if seeds:
                numbers = ", ".join(map(str, seeds))
                missing.append(f"{name}: no {file} of seed{'s' * (len(seeds) > 1)} {numbers}, left out.")
    title = title_of(dataset, any(result.metrics.simulated for result in found))
    return Collected(dataset, title, found, trainings, truth, missing)


def _result(name: str, run: Run, truth: Annotations | None, settings: Settings) -> Result:
    """A model's scores, and its predictions if the annotations are there."""
    path, evaluated = run.file("metrics.json"), settings.evaluate
    metrics = validate(Metrics, checked_metrics(run, {"tiou": threshold_range(evaluated.tiou)}), path)
    tiou, again = len(metrics.tiou), f"run again: {run.command}"
    if lengths := {len(metrics.mAP), *map(len, metrics.ap.values())} - {tiou}:
        raise BadInput(path, f"{lengths.pop()} scores", f"one for each of {tiou} thresholds", again)
    result = Result(name, run.variant, run.seed, run.folder, run.model, metrics)
    if not truth:
        return result
    videos, lost = truth.evaluated(None), set(metrics.missing)
    absent = [video for video in videos if video.id in lost]
    if evaluated.missing != "miss":
        videos = [video for video in videos if video.id not in lost]
    if not videos:
        raise BadInput(path, *NOTHING_LEFT)
    whole = match_predictions(videos, whole_video(videos), evaluated)
    _, rows, matched = checked(run, whole, sorted(lost))
    return result._replace(scored=Population(videos, absent, rows), matched=matched)


def table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV file of numbers by iteration: history.csv or checkpoints.csv.

    Raises:
        BadInput: another file, or values that are not finite numbers.
    """
    expected = ", ".join(["columns iteration", *columns]) + ", all finite numbers"
    try:
        rows = pd.read_csv(io.StringIO(read_text(path, expected)))
        numbers = rows.astype(float)
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError):
        raise BadInput(path, "no table of numbers", expected, "move it away, or build it again") from None
    known = {"iteration", *columns} <= set(rows.columns)
    if not known or rows.empty or not np.isfinite(numbers.to_numpy()).all():
        found = "no rows" if rows.empty else "values that are not finite" if known else "other columns"
        raise BadInput(path, found, expected, "move it away, or build it again")
    return numbers[[name for name in numbers if name in ("iteration", *PANELS, *columns)]]


def facts(data: Collected) -> Iterator[tuple[str, str]]:
    """What was scored, in words."""
    metrics = data.results[0].metrics
    yield "Test subset", f"{metrics.num_videos} videos, {metrics.num_instances} instances, {len(metrics.ap)} classes"
    tiou = metrics.tiou
    spread = f"tIoU {tiou[0]:g} to {tiou[-1]:g}" if len(tiou) > 1 else f"tIoU {tiou[0]:g}"
    yield "Protocol", f"{metrics.protocol}, {spread}"
