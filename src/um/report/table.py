"""Tables of results: groups of columns with notes, written in several formats from the same cells."""

import html
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from um.errors import printable
from um.evaluation.metrics import name_of
from um.files import atomic, check_ours, held
from um.report import bootstrap

FORMS = ("md", "html", "tex")
BEGINNINGS = {  # of files we write
    "md": "<table>\n<thead>\n",
    "html": '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Benchmark</title>\n',
    "tex": "% needs \\usepackage{booktabs,graphicx}\n\\begin{table*}\n",
}
AVERAGE = "average"
INTERVAL = f"{100 * bootstrap.LEVEL:.0f} % interval"
SIMULATED = "SIMULATED features"
LIBRARIES = ("torch", "mmaction2", "numpy")


class Figure(NamedTuple):
    """One result, a fraction; a line of the csv."""

    dataset: str
    method: str
    metric: str  # mAP, average_mAP, accuracy
    tiou: float | None
    mean: float
    sd: float | None  # sample standard deviation; None for a single value
    low: float | None  # bounds of the interval, if any
    high: float | None
    n: int
    source: str

    @property
    def column(self) -> str:
        """The column header."""
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


def write(out: Path, stem: str, groups: Sequence[Group], methods: Sequence[str], caption: str) -> None:
    """Write `<stem>.{csv,md,html,tex}` to `out`, and print the table.

    The md file embeds the HTML table, because Markdown has no two-row headers.

    Args:
        out: folder.
        stem: of the file names.
        groups: of columns, from left to right.
        methods: rows, in this order; empty rows are left out.
        caption: below the table, followed by library versions.
    """
    figures = [figure for group in groups for figure in group.figures]
    with held(out, "um table"):
        check_ours(out / f"{stem}.csv", ",".join(Figure._fields) + "\n")
        for form in FORMS:
            check_ours(out / f"{stem}.{form}", BEGINNINGS[form])
        with atomic(out / f"{stem}.csv") as temporary:
            pd.DataFrame(figures).to_csv(temporary, index=False, lineterminator="\n")
        for form in FORMS:
            with atomic(out / f"{stem}.{form}") as temporary:
                temporary.write_text(_render(form, groups, _shown(figures, methods), caption), "utf-8")
    for group in groups:
        rows = [
            [method, *(group.cell(method, column) for column in group.columns)]
            for method in _shown(group.figures, methods)
        ]
        print_table(group.title, ["mAP at tIoU", *group.columns], rows)


def _shown(figures: Sequence[Figure], methods: Sequence[str]) -> list[str]:
    shown = {figure.method for figure in figures}
    return [method for method in methods if method in shown]


def _render(form: str, groups: Sequence[Group], methods: list[str], caption: str) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("um.report"),
        autoescape=jinja2.select_autoescape(("html.j2",)),
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
    )
    environment.filters |= {"tex": _tex, "md": _md}
    libraries = ", ".join(f"{name} {version(name).split('+')[0]}" for name in LIBRARIES)
    caption = f"{caption} Written with python {platform.python_version()}, {libraries}."
    return environment.get_template(f"benchmark.{form}.j2").render(groups=groups, methods=methods, caption=caption)


def _visible(value: Any) -> Any:
    """Text with control characters escaped, except newlines."""
    if not isinstance(value, str):
        return value
    lines = map(printable, value.split("\n"))
    return "\n".join(lines)


def _md(text: str) -> str:
    return re.sub(r"([\\`*\[\]|])", r"\\\1", html.escape(text, quote=False))


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"}
    special |= {"±": r"$\pm$", "<": "$<$", ">": "$>$"}
    return "".join(f"\\{c}" if c in "&%$#_{}" else special.get(c, c) for c in _visible(text))


def show(metrics: dict[str, Any]) -> None:
    """Print one metrics file."""
    heads = [*metrics["mAP"], "average", *(["accuracy"] if "accuracy" in metrics else [])]
    numbers = [*metrics["mAP"].values(), metrics["average_mAP"], metrics.get("accuracy", 0.0)]
    about = [f"{metrics['subset']}: {metrics['num_videos']} videos, {metrics['num_instances']} instances"]
    if count := metrics.get("num_missing"):
        about.append(f"{count} missing, {'left out' if metrics['missing_policy'] == 'drop' else 'counted as misses'}")
    about.append(f"model: {selection_of(metrics.get('model'))}")
    if metrics.get("simulated"):
        about.append(SIMULATED)
    print_table("\n".join(about), ["mAP at tIoU", *heads], [["%", *(f"{100 * n:.1f}" for n in numbers[: len(heads)])]])


def selection_of(model: dict[str, Any] | None) -> str:
    """The selection stated in a result file: `last (iteration 300, seed 0)`."""
    if model is None:
        return "selection unknown"
    if model.get("iteration") is None or model.get("seed") is None:
        return f"selection {model['selection']} (published checkpoint)"
    return f"{model['selection']} (iteration {model['iteration']}, seed {model['seed']})"


def print_table(title: str, heads: list[str], rows: list[list[str]], texts: int = 1) -> None:
    """Print a table with a title; the first `texts` columns are aligned to the left."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # do not wrap lines in a log
    table = Table(title=Text(_visible(title)), title_justify="left")  # plain Text: [/red] in a name is not markup
    for position, head in enumerate(heads):
        table.add_column(Text(_visible(head)), justify="right" if position >= texts else "left")
    for row in rows:
        table.add_row(*(Text(_visible(cell)) for cell in row))
    console.print(table)
