"""The benchmark table: one model of figures and notes, from which every form of it is written."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from rich.console import Console
from rich.table import Table

from um.datasets import annotations, source
from um.errors import BadInput
from um.evaluation import bootstrap
from um.evaluation.metrics import Matched, match_predictions, metrics_of, name_of, whole_video
from um.files import atomic, read_json
from um.params import Params, threshold_range
from um.published import OFFICIAL, PAPER, PUBLISHED, SEED
from um.submission import read_submission

LAST, BEST, WHOLE = "Ours (last)", "Ours (best on test)", "Whole video"
METHODS = (LAST, BEST, WHOLE, PAPER, OFFICIAL, SEED)
SELECTIONS = {LAST: "last", BEST: "best_on_test"}
POPULATION = ("protocol", "subset", "num_videos", "num_instances", "tiou")  # equal in all rows of a dataset
AVERAGE = "average"
FORMS = ("md", "html", "tex")
INTERVAL = f"{100 * bootstrap.LEVEL:.0f} % interval"
CAPTION = (
    "Mean average precision in % at temporal IoU thresholds and its average over them. "
    f"{LAST}: the model after its last iteration. "
    f"{BEST}: the model that scored highest of all looks at the test subset during training; it is chosen on the "
    "subset it is scored on, so this is not an honest score. "
    f"{WHOLE}: every video's true classes, each as one segment over its full length. "
    "Published rows are as printed by their sources, which used features of their own. "
    f"{INTERVAL}: where the average would lie with other test videos and other seeds; the middle of "
    f"{bootstrap.RESAMPLES:,} bootstrap resamples, each of as many videos and as many seeds as there are, drawn with "
    "replacement, and of the mean over the drawn seeds."
)
LIBRARIES = ("torch", "mmaction2", "numpy")


class Figure(NamedTuple):
    """One number, a fraction; a line of the csv."""

    dataset: str
    method: str
    metric: str  # mAP, average_mAP, accuracy
    tiou: float | None
    mean: float
    sd: float | None  # sample standard deviation; None for a single value
    low: float | None  # bounds of the interval; None where there is none
    high: float | None
    n: int
    source: str

    @property
    def column(self) -> str:
        """The head of its column."""
        return self.metric.removesuffix("_mAP") if self.tiou is None else name_of(self.tiou)

    def __str__(self) -> str:
        """In percent, one decimal."""
        sd = "" if self.sd is None else f" ± {100 * self.sd:.1f}"
        return f"{100 * self.mean:.1f}{sd}"

    @property
    def interval(self) -> str:
        """In percent, one decimal."""
        return "–" if self.low is None or self.high is None else f"{100 * self.low:.1f} to {100 * self.high:.1f}"


@dataclass(frozen=True)
class Group:
    """One dataset: a group of columns, and the notes below the table."""

    title: str
    columns: list[str]
    figures: list[Figure]
    notes: list[str]

    def cell(self, method: str, column: str) -> str:
        """The text of one cell."""
        if column == INTERVAL:
            average = next((f for f in self.figures if (f.method, f.column) == (method, AVERAGE)), None)
            return average.interval if average else "–"
        return next((str(f) for f in self.figures if (f.method, f.column) == (method, column)), "–")


def write(results: Path, datasets: Sequence[str], values: Params, out: Path | None = None) -> None:
    """Write `benchmark.{csv,md,html,tex}` to `out`, and print the table.

    The md form holds the HTML table, as Markdown has no two-row heads.

    Args:
        results: folder with `<dataset>/seed<k>/{metrics,predictions}.json` and the same in `best_on_test/` there.
        datasets: names, in the order of the column groups.
        values: params.yaml.
        out: `results` when not given.

    Raises:
        BadInput: metrics or predictions are missing, or are not those that params.yaml asks for.
    """
    out = out or results
    groups = [_group(results, name, values) for name in datasets]
    figures = [figure for group in groups for figure in group.figures]
    with atomic(out / "benchmark.csv") as temporary:
        pd.DataFrame(figures).to_csv(temporary, index=False, lineterminator="\n")
    methods = _ordered(figures)
    for form in FORMS:
        with atomic(out / f"benchmark.{form}") as temporary:
            temporary.write_text(_render(form, groups, methods), "utf-8")
    for group in groups:
        rows = [
            [method, *(group.cell(method, column) for column in group.columns)] for method in _ordered(group.figures)
        ]
        print_table(group.title, ["mAP at tIoU", *group.columns], rows)


def show(metrics: dict[str, Any]) -> None:
    """Print one metrics file."""
    heads = [*metrics["mAP"], "average", *(["accuracy"] if "accuracy" in metrics else [])]
    numbers = [*metrics["mAP"].values(), metrics["average_mAP"], metrics.get("accuracy", 0.0)]
    title = f"{metrics['subset']}: {metrics['num_videos']} videos, {metrics['num_instances']} instances"
    print_table(title, ["mAP at tIoU", *heads], [["%", *(f"{100 * n:.1f}" for n in numbers[: len(heads)])]])


def _group(results: Path, dataset: str, values: Params) -> Group:
    data = Path("data") / dataset
    settings = values.of(dataset)
    tested = annotations.load(data / "annotations.json").subset("test")
    whole = match_predictions(tested, whole_video(tested), settings.evaluate)
    trivial = metrics_of(whole)
    population = {key: trivial[key] for key in POPULATION}

    figures = []
    for method, selection in SELECTIONS.items():
        runs = [_Run(results, dataset, seed, selection) for seed in values.seeds]
        scores = [_metrics(run, population) for run in runs]
        matched = [_matched(run, score, whole) for run, score in zip(runs, scores, strict=True)]
        bounds = bootstrap.average_map_interval(matched)
        figures += _figures(dataset, method, scores, f"seeds {', '.join(map(str, values.seeds))}", bounds)
    figures += _figures(dataset, WHOLE, [trivial], "annotations", bootstrap.average_map_interval([whole]))
    tiou = threshold_range(settings.evaluate.tiou)
    published = PUBLISHED.get(dataset, [])
    for row in published:
        printed: dict[str, Any] = {
            "mAP": {t: round(percent / 100, 4) for t, percent in row.mAP.items() if float(t) in tiou}
        }
        if threshold_range(row.tiou) == tiou:
            printed["average_mAP"] = round(row.average / 100, 4)
        figures += _figures(dataset, row.method, [printed], row.source)

    columns = [*map(name_of, tiou), AVERAGE, INTERVAL]
    instances = f"{trivial['num_videos']} videos and {trivial['num_instances']} instances"
    spread = "mean ± sample standard deviation" if len(values.seeds) > 1 else "the value"
    notes = [
        f"Test subset ({trivial['subset']}): {instances} of {len(trivial['ap'])} classes; "
        f"protocol {trivial['protocol']}, tIoU {settings.evaluate.tiou}.",
        f"Ours: {spread} of n = {len(values.seeds)} training seeds ({', '.join(map(str, values.seeds))}), "
        f"{settings.train.iterations} iterations, a look at the test subset every {settings.train.eval_every}.",
        _features(data / "features" / "spec.json"),
        *(f"{row.method}: {row.source}." for row in published),
    ]
    return Group(source.describe(dataset).title or dataset, columns, figures, notes)


class _Run(NamedTuple):
    """One model's results."""

    results: Path
    dataset: str
    seed: int
    selection: str

    def file(self, name: str) -> Path:
        """One of its files, which has to be there."""
        path = self.folder / name
        if not path.is_file():
            raise BadInput(path, "no such file", path.stem, self.command)
        return path

    @property
    def folder(self) -> Path:
        return self.results / self.dataset / f"seed{self.seed}" / ("" if self.selection == "last" else self.selection)

    @property
    def command(self) -> str:
        """What makes the files."""
        model = f"models/{self.dataset}/seed{self.seed}/{self.selection}.safetensors"
        return f"um test --dataset {self.dataset} --model-file {model} --out {self.folder}"


def _metrics(run: _Run, population: dict[str, Any]) -> dict[str, Any]:
    """One metrics file, of that model and that evaluation and no other."""
    path, again = run.file("metrics.json"), f"run again: {run.command}"
    metrics = read_json(path)
    if not isinstance(metrics, dict):
        raise BadInput(path, type(metrics).__name__, "metrics", again)
    model = metrics.get("model", {})
    found = {key: metrics.get(key) for key in POPULATION} | {key: model.get(key) for key in ("selection", "seed")}
    for key, wanted in {**population, "selection": run.selection, "seed": run.seed}.items():
        if found[key] != wanted:
            raise BadInput(path, f"{key} = {found[key]!r}", repr(wanted), again)
    return metrics


def _matched(run: _Run, metrics: dict[str, Any], whole: Matched) -> Matched:
    """The predictions behind a metrics file, matched with the videos that the whole-video row is about."""
    path = run.file("predictions.json")
    matched = match_predictions(whole.videos, read_submission(path).predictions, whole.settings)
    score = bootstrap.average_map([matched])
    if abs(score - metrics["average_mAP"]) > 1e-9:
        expected = f"{metrics['average_mAP']:.4f}, as metrics.json beside it"
        raise BadInput(path, f"average_mAP = {score:.4f}", expected, f"run again: {run.command}")
    return matched


def _ordered(figures: list[Figure]) -> list[str]:
    shown = {figure.method for figure in figures}
    return [method for method in METHODS if method in shown]


def _figures(
    dataset: str, method: str, runs: list[dict[str, Any]], origin: str, bounds: bootstrap.Interval | None = None
) -> list[Figure]:
    """Mean and spread of every metric that the runs hold; the bounds are those of the average."""

    def figure(metric: str, tiou: float | None, numbers: list[float]) -> Figure:
        sd = stdev(numbers) if len(numbers) > 1 else None
        low, high = bounds if bounds and metric == "average_mAP" else (None, None)
        return Figure(dataset, method, metric, tiou, fmean(numbers), sd, low, high, len(numbers), origin)

    single = [metric for metric in ("average_mAP", "accuracy") if metric in runs[0]]
    return [
        *(figure("mAP", float(t), [run["mAP"][t] for run in runs]) for t in runs[0]["mAP"]),
        *(figure(metric, None, [run[metric] for run in runs]) for metric in single),
    ]


def _features(spec: Path) -> str:
    if not spec.exists():
        return "Features: made elsewhere (no spec.json)."
    made = read_json(spec)
    return (
        f"Features: {made['backbone']}, {made['streams']}, {made['fps']:g} fps, {made['window']}-frame snippets, "
        f"weights sha256 {made['weights_sha256'][:12]}."
    )


def _render(form: str, groups: list[Group], methods: list[str]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("um"),
        autoescape=jinja2.select_autoescape(("html.j2",)),
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["tex"] = _tex
    libraries = ", ".join(f"{name} {version(name).split('+')[0]}" for name in LIBRARIES)
    caption = f"{CAPTION} Written with python {platform.python_version()}, {libraries}."
    return environment.get_template(f"benchmark.{form}.j2").render(groups=groups, methods=methods, caption=caption)


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"}
    special |= {"±": r"$\pm$", "<": "$<$", ">": "$>$"}
    return "".join(f"\\{c}" if c in "&%$#_{}" else special.get(c, c) for c in text)


def print_table(title: str, heads: list[str], rows: list[list[str]]) -> None:
    """Print rows below their heads."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a log is not folded
    table = Table(title=title, title_justify="left")
    for position, head in enumerate(heads):
        table.add_column(head, justify="right" if position else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
