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
from um.evaluation.metrics import evaluate, name_of, whole_video
from um.files import atomic, read_json
from um.params import Params, threshold_range
from um.published import OFFICIAL, PAPER, PUBLISHED, SEED

LAST, BEST, WHOLE = "Ours (last)", "Ours (best on test)", "Whole video"
METHODS = (LAST, BEST, WHOLE, PAPER, OFFICIAL, SEED)
SELECTIONS = {LAST: "last", BEST: "best_on_test"}
POPULATION = ("protocol", "subset", "num_videos", "num_instances", "tiou")  # equal in all rows of a dataset
FORMS = ("md", "html", "tex")
CAPTION = (
    "Mean average precision in % at temporal IoU thresholds and its average over them. "
    f"{LAST}: the model after its last iteration. "
    f"{BEST}: the model that scored highest of all looks at the test subset during training; it is chosen on the "
    "subset it is scored on, so this is not an honest score. "
    f"{WHOLE}: every video's true classes, each as one segment over its full length. "
    "Published rows are as printed by their sources, which used features of their own."
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


@dataclass(frozen=True)
class Group:
    """One dataset: a group of columns, and the notes below the table."""

    title: str
    columns: list[str]
    figures: list[Figure]
    notes: list[str]

    def cell(self, method: str, column: str) -> str:
        """The text of one cell."""
        return next((str(f) for f in self.figures if (f.method, f.column) == (method, column)), "–")


def write(results: Path, datasets: Sequence[str], values: Params, out: Path | None = None) -> None:
    """Write `benchmark.{csv,md,html,tex}` to `out`, and print the table.

    The md form holds the HTML table, as Markdown has no two-row heads.

    Args:
        results: folder with `<dataset>/seed<k>/metrics.json` and `<dataset>/seed<k>/best_on_test/metrics.json`.
        datasets: names, in the order of the column groups.
        values: params.yaml.
        out: `results` when not given.

    Raises:
        BadInput: metrics are missing, or are those of another evaluation than params.yaml asks for.
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
        _print(group.title, ["mAP at tIoU", *group.columns], rows)


def show(metrics: dict[str, Any]) -> None:
    """Print one metrics file."""
    heads = [*metrics["mAP"], "average", *(["accuracy"] if "accuracy" in metrics else [])]
    numbers = [*metrics["mAP"].values(), metrics["average_mAP"], metrics.get("accuracy", 0.0)]
    title = f"{metrics['subset']}: {metrics['num_videos']} videos, {metrics['num_instances']} instances"
    _print(title, ["mAP at tIoU", *heads], [["%", *(f"{100 * n:.1f}" for n in numbers[: len(heads)])]])


def _group(results: Path, dataset: str, values: Params) -> Group:
    data = Path("data") / dataset
    settings = values.of(dataset)
    tested = annotations.load(data / "annotations.json").subset("test")
    trivial = evaluate(tested, whole_video(tested), settings.evaluate)
    population = {key: trivial[key] for key in POPULATION}

    figures = []
    for method, selection in SELECTIONS.items():
        runs = [_metrics(results, dataset, seed, selection, population) for seed in values.seeds]
        figures += _figures(dataset, method, runs, f"seeds {', '.join(map(str, values.seeds))}")
    figures += _figures(dataset, WHOLE, [trivial], "annotations")
    tiou = threshold_range(settings.evaluate.tiou)
    published = PUBLISHED.get(dataset, [])
    for row in published:
        scores: dict[str, Any] = {
            "mAP": {t: round(percent / 100, 4) for t, percent in row.mAP.items() if float(t) in tiou}
        }
        if threshold_range(row.tiou) == tiou:
            scores["average_mAP"] = round(row.average / 100, 4)
        figures += _figures(dataset, row.method, [scores], row.source)

    columns = [*map(name_of, tiou), "average"]
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


def _metrics(results: Path, dataset: str, seed: int, selection: str, population: dict[str, Any]) -> dict[str, Any]:
    """One metrics file, of that model and that evaluation and no other."""
    folder = results / dataset / f"seed{seed}" / ("" if selection == "last" else selection)
    path = folder / "metrics.json"
    command = (
        f"um test --dataset {dataset} --model-file models/{dataset}/seed{seed}/{selection}.safetensors --out {folder}"
    )
    if not path.is_file():
        raise BadInput(path, "no such file", "metrics", command)
    metrics = read_json(path)
    if not isinstance(metrics, dict):
        raise BadInput(path, type(metrics).__name__, "metrics", f"run again: {command}")
    model = metrics.get("model", {})
    found = {key: metrics.get(key) for key in POPULATION} | {key: model.get(key) for key in ("selection", "seed")}
    for key, wanted in {**population, "selection": selection, "seed": seed}.items():
        if found[key] != wanted:
            raise BadInput(path, f"{key} = {found[key]!r}", repr(wanted), f"run again: {command}")
    return metrics


def _ordered(figures: list[Figure]) -> list[str]:
    shown = {figure.method for figure in figures}
    return [method for method in METHODS if method in shown]


def _figures(dataset: str, method: str, runs: list[dict[str, Any]], origin: str) -> list[Figure]:
    """Mean and spread of every metric that the runs hold."""

    def figure(metric: str, tiou: float | None, numbers: list[float]) -> Figure:
        sd = stdev(numbers) if len(numbers) > 1 else None
        return Figure(dataset, method, metric, tiou, fmean(numbers), sd, len(numbers), origin)

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


def _print(title: str, heads: list[str], rows: list[list[str]]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a log is not folded
    table = Table(title=title, title_justify="left")
    for position, head in enumerate(heads):
        table.add_column(head, justify="right" if position else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
