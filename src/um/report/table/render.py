"""Tables of results: groups of columns with notes, written in several formats from the same cells."""

import html
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as Printed
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
ABSENT = "–"
WIDE = 140  # characters of a terminal that shows all columns


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
    weights: str | None = None  # sha256 of the models' weights, by seed
    hardware: str | None = None  # that the models were trained on
    libraries: str | None = None  # versions that the figure was computed with

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
    downloads: Mapping[str, str] = field(default_factory=dict)  # method → where its models are

    def figure(self, method: str, column: str) -> Figure | None:
        """The figure of one cell; that of the average in its interval's."""
        return self._placed.get((method, AVERAGE if column == INTERVAL else column))

    @cached_property
    def _placed(self) -> dict[tuple[str, str], Figure]:
        return {(figure.method, figure.column): figure for figure in self.figures}

    def cell(self, method: str, column: str) -> str:
        """The text of one cell."""
        figure = self.figure(method, column)
        if figure is None:
            return ABSENT
        if column == INTERVAL:
            return figure.interval
        return f"{figure} ({figure.n})" if column == AVERAGE and figure.n > 1 else str(figure)


@dataclass(frozen=True)
class Table:
    """Datasets side by side, with the same rows.

    Attributes:
        groups: of columns, from left to right.
        methods: rows, in this order; those without a figure are left out, but for `always`.
        always: rows that stay.
        ranked: rows of which the best in each column is bold.
    """

    groups: Sequence[Group]
    methods: Sequence[str]
    always: Sequence[str] = ()
    ranked: Sequence[str] = ()

    @property
    def figures(self) -> list[Figure]:
        """Of all groups."""
        return [figure for group in self.groups for figure in group.figures]

    @property
    def rows(self) -> list[str]:
        """The methods shown."""
        shown = {figure.method for figure in self.figures} | set(self.always)
        return [method for method in self.methods if method in shown]

    @property
    def downloads(self) -> dict[str, str]:
        """Row → where its models are; those that are known."""
        named = {row: [g.downloads[row] for g in self.groups if row in g.downloads] for row in self.rows}
        return {row: "; ".join(places) for row, places in named.items() if places}

    def is_best(self, group: Group, method: str, column: str) -> bool:
        """Whether a cell is the best of its column, as printed."""
        figure = group.figure(method, column) if method in self.ranked and column != INTERVAL else None
        return figure is not None and round(figure.mean, 3) == self._best[self.groups.index(group), column]

    @cached_property
    def _best(self) -> dict[tuple[int, str], float]:
        """Group and column → best mean among the ranked rows."""
        best: dict[tuple[int, str], float] = {}
        for number, group in enumerate(self.groups):
            for figure in (figure for figure in group.figures if figure.method in self.ranked):
                place = number, figure.column
                best[place] = max(best.get(place, 0.0), round(figure.mean, 3))
        return best


def write(out: Path, stem: str, tables: Sequence[Table], caption: str) -> None:
    """Write `<stem>.{csv,md,html,tex}` to `out`, and print the tables.

    The md file embeds HTML tables, because Markdown has no two-row headers.

    Args:
        out: folder.
        stem: of the file names.
        tables: one below the other.
        caption: below the tables, followed by library versions.
    """
    rows = [figure for table in tables for figure in table.figures]
    with held(out, "um table"):
        check_ours(out / f"{stem}.csv", ",".join(Figure._fields) + "\n")
        for form in FORMS:
            check_ours(out / f"{stem}.{form}", BEGINNINGS[form])
        with atomic(out / f"{stem}.csv") as temporary:
            pd.DataFrame(rows, columns=Figure._fields).to_csv(temporary, index=False, lineterminator="\n")
        for form in FORMS:
            with atomic(out / f"{stem}.{form}") as temporary:
                temporary.write_text(_render(form, tables, caption), "utf-8")
    for table in tables:
        for group in table.groups:
            if any(figure.libraries for figure in group.figures):
                _print(group, table.rows)


def _print(group: Group, methods: Sequence[str]) -> None:
    """Print a group; a narrow terminal gets fewer columns, and no deviations but that of the average."""
    console = Console()
    narrow = console.is_terminal and console.width < WIDE
    columns = [column for column in group.columns if not narrow or column != INTERVAL]
    rows = []
    for method in methods:
        cells = [group.cell(method, column) for column in columns]
        if narrow:  # no seeds, and no deviations but that of the average
            cells = [
                cell.split(" (" if column == AVERAGE else " ")[0] for column, cell in zip(columns, cells, strict=True)
            ]
        rows.append([method, *cells])
    print_table(group.title, ["mAP at tIoU", *columns], rows)


def _render(form: str, tables: Sequence[Table], caption: str) -> str:
    template = _templates().get_template(f"benchmark.{form}.j2")
    return template.render(tables=tables, caption=f"{caption} Written with {libraries()}.")


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("um.report.table"),
        autoescape=jinja2.select_autoescape(("html.j2",)),
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
    )
    environment.filters |= {"tex": _tex, "md": _md}
    return environment


@cache
def libraries() -> str:
    """Versions of Python and of the libraries that the figures depend on."""
    found = {dist.name: dist.version.split("+")[0] for name in LIBRARIES for dist in distributions(name=name)}
    return ", ".join(f"{name} {version}" for name, version in {"python": platform.python_version(), **found}.items())


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
    narrow = console.width < WIDE
    form: dict[str, Any] = {"box": SIMPLE, "padding": 0, "pad_edge": False} if narrow else {}
    name = Text(_visible(title))  # plain Text: [/red] in a name is not markup
    table = Printed(title=name, title_justify="left", **form)
    for position, head in enumerate(heads):
        table.add_column(Text(_visible(head)), justify="right" if position >= texts else "left")
    for row in rows:
        table.add_row(*(Text(_visible(cell)) for cell in row))
    console.print(table)
