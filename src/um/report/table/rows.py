"""The files of `um rows`: a run's rows of the benchmark table, and what DVC shows of the run."""

import io
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import pandas as pd
from pydantic import Field

from um.dataset import root
from um.datasets import annotations
from um.errors import BadInput
from um.evaluation.submission import read_submission
from um.files import atomic, check_ours, held, write_json
from um.forms import Form, load, read_text
from um.params import OURS, Params, run_name
from um.report.table import benchmark
from um.report.table.benchmark import CHOSEN
from um.report.table.render import Figure, Group
from um.report.table.runs import Run

FILES = {  # name → beginning
    "rows.json": '{\n "title": "',
    "metrics.json": '{\n "last": {',
    "losses.csv": "iteration,loss\n",
    "scores.csv": "iteration,average_mAP\n",
    "confusion.csv": "actual,predicted\n",
}


class Rows(Form):
    """`rows.json`."""

    hint: ClassVar[str] = "run `um rows` again"

    title: str
    columns: list[str]
    figures: list[Figure]
    notes: list[str]
    downloads: dict[str, str] = Field({})


def write(results: Path, models: Path, dataset: str, values: Params, out: Path, variant: str = OURS) -> None:
    """Write a run's rows of the table, and what `dvc metrics` and `dvc plots` show.

    - `rows.json`: the table's figures and notes.
    - `metrics.json`: row → average mAP and accuracy, means over seeds.
    - `losses.csv`, `scores.csv`: training loss and average mAP on the test subset by iteration, means over seeds.
    - `confusion.csv`: for every label of a test video, the class of the video's best segment.

    Args:
        results, dataset, values, variant: as for `benchmark.rows`.
        models: folder with `<run>/seed<k>/history.csv`.
        out: folder of the files.

    Raises:
        BadInput: missing or contradictory results, or other files in `out`.
    """
    with held(out, "um rows"):
        for name, beginning in FILES.items():
            check_ours(out / name, beginning)
        group = benchmark.rows(results, dataset, values, variant)
        runs = [Run(results, dataset, variant, seed, "last") for seed in values.seeds]
        trained = [models / run_name(dataset, variant) / f"seed{seed}" for seed in values.seeds]
        _write_csv(out / "losses.csv", _mean([path / "history.csv" for path in trained], "total", "loss"))
        scored = [run._replace(selection="best_on_test").file("checkpoints.csv") for run in runs]
        _write_csv(out / "scores.csv", _mean(scored, "test_average_mAP", "average_mAP"))
        _write_csv(out / "confusion.csv", pd.concat([confusion(run) for run in runs], ignore_index=True))
        write_json(out / "metrics.json", _metrics(group))
        write_json(out / "rows.json", vars(group) | {"figures": [each._asdict() for each in group.figures]})


def read(tables: Path, dataset: str, variant: str = OURS) -> Group:
    """The rows that `write` has written.

    Raises:
        BadInput: no such file, or not one of `um rows`.
    """
    return Group(**dict(load(Rows, tables / run_name(dataset, variant) / "rows.json")))


def _metrics(group: Group) -> dict[str, dict[str, float]]:
    """Row → its single figures."""
    found: dict[str, dict[str, float]] = {}
    for method, selection in CHOSEN.items():
        single = [each for each in group.figures if each.method == method and each.tiou is None]
        if single:
            found[selection] = {figure.metric: figure.mean for figure in single}
    return found


def _mean(paths: Sequence[Path], column: str, name: str) -> pd.DataFrame:
    """The mean of a column over files with the same iterations."""
    values: dict[int, list[float]] = {}
    for path in paths:
        try:
            table = pd.read_csv(io.StringIO(read_text(path, "a history of um train")))
            for iteration, value in zip(table["iteration"].astype(int), table[column].astype(float), strict=True):
                values.setdefault(iteration, []).append(value)
        except (ValueError, KeyError, pd.errors.ParserError, pd.errors.EmptyDataError):
            hint = "move it away, or build it again"
            raise BadInput(path, "no table of numbers", f"columns iteration and {column}", hint) from None
    rows = [(iteration, fmean(each)) for iteration, each in sorted(values.items())]
    return pd.DataFrame(rows, columns=["iteration", name])


def confusion(run: Run) -> pd.DataFrame:
    """Rows of actual and predicted class, one for every label of a test video.

    A video's predicted class is that of its best segment, if any. If it is one of the video's labels, there is one row.
    """
    predictions = read_submission(run.file("predictions.json")).predictions
    best = predictions.sort_values("score", ascending=False, kind="stable").drop_duplicates("video")
    top: dict[str, Any] = dict(zip(best["video"], best["label"], strict=True))
    rows = [
        (label, top[video.id])
        for video in annotations.load(root(run.dataset) / "annotations.json").subset("test")
        if video.id in top
        for label in ([top[video.id]] if top[video.id] in video.labels else video.labels)
    ]
    return pd.DataFrame(rows, columns=["actual", "predicted"])


def _write_csv(path: Path, rows: pd.DataFrame) -> None:
    with atomic(path) as temporary:
        rows.to_csv(temporary, index=False, lineterminator="\n")
