"""What `um report` shows of a dataset: it reads the files that are there, and tells what is missing."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
import pandas as pd

from um.dataset import describe, root
from um.datasets.annotations import Annotations, load
from um.errors import BadInput
from um.evaluation.fitting import NOTHING_LEFT, Population
from um.evaluation.metrics import Matched, match_predictions, metrics_of
from um.evaluation.submission import COLUMNS, read_submission
from um.forms import load as read_form
from um.forms import read_text
from um.params import OURS, Params, Settings, run_name, threshold_range
from um.report.figures.charts import PANELS, SCORE, Training
from um.report.table.benchmark import NAMES
from um.report.table.render import SIMULATED
from um.report.table.runs import Metrics

OUR_NAME = "Ours"
MODELS = Path("models")
AGAIN = "run `um test` again"


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
        name, run = OUR_NAME if other == OURS else NAMES.get(other, f"{other}, our code"), run_name(dataset, other)
        lost: dict[str, list[int]] = {
            "metrics.json": [],
            "predictions.json": [],
            "history.csv": [],
            "checkpoints.csv": [],
        }
        for seed in values.seeds:
            folder, trained = results / run / f"seed{seed}", MODELS / run / f"seed{seed}"
            files = [folder / "metrics.json", folder / "predictions.json", trained / "history.csv"]
            files.append(folder / "best_on_test/checkpoints.csv")
            there = [path.is_file() for path in files]
            for path, is_there in zip(files, there, strict=True):
                if not is_there:
                    lost[path.name].append(seed)
            if there[0]:
                metrics = read_form(Metrics, files[0])
                _check(files[0], metrics, values.of(dataset), found)
                result = Result(name, other, seed, folder, trained / "last.safetensors", metrics)
                found.append(_with_predictions(result, truth, values.of(dataset)) if there[1] and truth else result)
            if there[2]:
                scores = table(files[3], [SCORE]) if there[3] else None
                trainings.append(Training(name, seed, table(files[2], []), scores))
        for file, seeds in lost.items():
            if seeds:
                numbers = ", ".join(map(str, seeds))
                missing.append(f"{name}: no {file} of seed{'s' * (len(seeds) > 1)} {numbers}, left out.")
    told = describe(dataset).title or dataset
    simulated = any(result.metrics.simulated for result in found)
    title = f"{told} ({SIMULATED})" if simulated and SIMULATED.casefold() not in told.casefold() else told
    return Collected(dataset, title, found, trainings, truth, missing)


def _check(path: Path, metrics: Metrics, settings: Settings, others: Sequence[Result]) -> None:
    """Scores of different thresholds or classes cannot be averaged."""
    tiou = threshold_range(settings.evaluate.tiou)
    lengths = {len(metrics.mAP), *(len(scores) for scores in metrics.ap.values())}
    if metrics.tiou != tiou or lengths != {len(tiou)}:
        raise BadInput(path, f"tiou = {metrics.tiou}", f"scores at {settings.evaluate.tiou}, as in params.yaml", AGAIN)
    if others and set(others[0].metrics.ap) != set(metrics.ap):
        raise BadInput(path, f"{len(metrics.ap)} classes", f"those of {others[0].folder}", AGAIN)


def _with_predictions(result: Result, truth: Annotations, settings: Settings) -> Result:
    """The result with its predictions, which must give the scores of the metrics file."""
    path, evaluated = result.folder / "predictions.json", settings.evaluate
    submitted = read_submission(path)
    there, videos = set(submitted.videos), truth.evaluated(None)
    absent = [video for video in videos if video.id not in there]
    if evaluated.missing == "drop":
        videos = [video for video in videos if video.id in there]
    if not videos:
        raise BadInput(path, *NOTHING_LEFT)
    scored = Population(videos, absent, submitted.predictions)
    matched = match_predictions(scored.videos, scored.rows, evaluated)
    ours, theirs = metrics_of(matched), result.metrics.model_dump()
    for key in ("tiou", "num_videos", "num_instances", "average_mAP"):
        same = abs(ours[key] - theirs[key]) <= 1e-9 if key == "average_mAP" else ours[key] == theirs[key]
        if not same:
            raise BadInput(path, f"{key} = {ours[key]}", f"{theirs[key]}, as in metrics.json beside it", AGAIN)
    return result._replace(scored=scored, matched=matched)


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
