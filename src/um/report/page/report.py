"""`um report`: one page about what was built: the benchmark table, figures, errors, versions and hashes.

The page needs no network and no script. Names reach it as escaped text; the figures are SVG elements.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure as Drawing

from um import __version__
from um.errors import BadInput, printable, some
from um.evaluation.metrics import Matched
from um.files import atomic, check_ours
from um.journal import Journal
from um.params import OURS, Params
from um.progress import progress
from um.report.errors.errors import diagnosed
from um.report.figures import charts, example, failures
from um.report.figures.captions import CAPTIONS
from um.report.figures.drawing import drawn, inline
from um.report.page import built, collect, derive, looking
from um.report.page.collect import Collected
from um.report.table.benchmark import CAPTION
from um.report.table.render import Table, libraries

BEGINNING = "<!doctype html>\n<!-- written by um report -->\n"  # of the files that we write
FORMS = ("svg", "png")
TITLE = "Weakly-supervised temporal action localisation"
SHADES = "Black and shaded: true instances; coloured: distinct predictions, darker for higher scores."
KINDS = {  # of false positives → what is wrong
    "double detection": "a true instance that a better prediction has found",
    "wrong label": "close enough, but another class",
    "localisation": "the right class, overlapping too little",
    "confusion": "another class, overlapping too little",
    "background": "no instance there",
}


class Options(NamedTuple):
    """Options of a report.

    Attributes:
        variant: of the method; `ours` comes with those of `compare`.
        table: folder of benchmark.csv; default: that of the results.
        folder: of the figures as files, `<dataset>/<name>.svg` and `.png`; default: none.
        tiou: thresholds of the precision–recall curves; default: the first, middle and last.
        videos: shown as examples; default: those with the best, the median and the worst score.
    """

    variant: str = OURS
    table: Path | None = None
    folder: Path | None = None
    tiou: Sequence[float] = ()
    videos: Sequence[str] = ()


DEFAULT = Options()


class _Shown(NamedTuple):
    """A figure: its words, and its bytes by suffix."""

    name: str
    title: str
    text: str
    note: str
    files: dict[str, bytes]
    svg: Markup


class _Section(NamedTuple):
    """What the page says about a dataset."""

    id: str
    data: Collected
    facts: list[tuple[str, str]]
    table: Table | None
    figures: list[_Shown]
    errors: dict[str, Any] | None
    models: list[dict[str, str]]
    files: list[dict[str, str]]
    missing: list[str]


def write(results: Path, datasets: Sequence[str], values: Params, out: Path, options: Options = DEFAULT) -> None:
    """Write the report, and its figures as files if a folder is given.

    Args:
        results: folder of the metrics files.
        datasets: names, in the order of the sections.
        values: params.yaml.
        out: page to write.
        options: of the report.

    Raises:
        BadInput: nothing to report, unreadable files, or files of others in the way.
    """
    check_ours(out, BEGINNING)
    folder = options.folder
    pictures = Journal(folder, folder / ".um.jsonl", "um report").read() if folder else None
    if pictures:
        pictures.refuse(f"{dataset}/{name}.{form}" for dataset in datasets for name in CAPTIONS for form in FORMS)
    found = [collect.collect(results, dataset, values, options.variant) for dataset in datasets]
    if not any(data.results or data.trainings for data in found):
        hint = "snakemake --cores all builds them; dvc pull fetches recorded ones"
        raise BadInput(
            results, f"no metrics.json of {some(datasets, 'dataset', 'datasets')}", "results to report", hint
        )
    tables, sections = built.tables(options.table or results, found), []
    for number, data in enumerate(found):
        sections.append(_section(data, f"d{number}", values, tables.get(data.dataset), options))
    with atomic(out) as temporary:
        temporary.write_text(_render(sections), "utf-8")
    print(f"{out}: {sum(len(section.figures) for section in sections)} figures")
    for section in sections:
        for sentence in section.missing:
            print(f"{printable(section.data.dataset)}: {printable(sentence)}")
    if pictures:
        for section in sections:
            for shown in section.figures:
                for form, content in shown.files.items():
                    with pictures.write(f"{section.data.dataset}/{shown.name}.{form}") as path:
                        path.write_bytes(content)
        pictures.settle(pictures.entries)
        print(f"{pictures.root}/: each figure as {' and '.join(FORMS)}")


def _section(data: Collected, key: str, values: Params, table: Table | None, options: Options) -> _Section:
    missing = list(data.missing)
    if not table:
        missing.append("No benchmark table of this dataset beside the results: `um table` writes it.")
    drawings, notes, errors = _drawings(data, values, options, missing)
    shown = []
    with progress("figures", len(drawings)) as step:
        for name, draw in drawings.items():
            files, caption = drawn(f"{key}-{name}", draw, png=bool(options.folder)), CAPTIONS[name]
            svg = inline(files["svg"], caption.title)
            shown.append(_Shown(name, caption.title, caption.text, notes.get(name, ""), files, svg))
            step(name)
    facts = [*(collect.facts(data) if data.results else ()), *built.features(data)]
    facts += [("Average mAP, last model", told) for told in data.scores]
    return _Section(key, data, facts, table, shown, errors, built.models(data), built.files(data), missing)


def _drawings(
    data: Collected, values: Params, options: Options, missing: list[str]
) -> tuple[dict[str, Callable[[], Drawing]], dict[str, str], dict[str, Any] | None]:
    """The figures that the files allow, notes below them, and the table of errors; adds sentences to `missing`."""
    draw: dict[str, Callable[[], Drawing]] = {}
    notes, errors, first = {}, None, data.first
    if data.results:
        lines, by_class = derive.lines(data), derive.by_class(data)
        draw["map_by_tiou"] = lambda: charts.map_by_tiou(lines)
        draw["ap_by_class"] = lambda: charts.ap_by_class(by_class)
        count = len(next(iter(by_class.values())))
        if count > charts.MOST_CLASSES:
            notes["ap_by_class"] = f"The {charts.MOST_CLASSES // 2} best and worst of {count} classes."
    if data.trainings:
        draw["training"] = lambda: charts.training(data.trainings)
    if first and first.scored and first.matched:
        of_first = f"{first.run}, seed {first.seed}."
        tiou = _chosen(options.tiou, first.metrics.tiou)
        ranked = derive.ranked(first.matched, tiou)
        draw["precision_recall"] = lambda: charts.precision_recall(ranked)
        most = f" The {charts.MOST_PANELS} classes with most instances." * (len(ranked) > charts.MOST_PANELS)
        notes["precision_recall"] = f"{of_first} In brackets: instances.{most}"
        lost = looking.absent(first, data.dataset)
        if lost:
            missing.append(
                f"No {lost}: magnitudes and examples are left out; `dvc pull {lost}` fetches it if recorded."
            )
        else:
            told = _told(first.matched, options.videos)
            looked = looking.look(data, first, values.of(data.dataset, first.variant), told)
            draw["magnitudes"] = lambda: charts.magnitudes(looked.magnitudes)
            draw["examples"] = lambda: example.examples(looked.examples)
            notes |= {"magnitudes": f"Snippets of test videos; {of_first}", "examples": f"{SHADES} {of_first}"}
        settings, path = values.of(data.dataset).evaluate, first.folder / "predictions.json"
        found = diagnosed(path, first.scored, settings)
        draw["false_positives"] = lambda: failures.false_positives(found)
        draw["missed"] = lambda: failures.missed(found)
        notes |= dict.fromkeys(("false_positives", "missed"), of_first)
        errors = _errors(found, of_first)
    return {name: draw[name] for name in CAPTIONS if name in draw}, notes, errors


def _chosen(asked: Sequence[float], known: Sequence[float]) -> list[float]:
    """The thresholds of the precision–recall curves."""
    if unknown := [tiou for tiou in asked if tiou not in known]:
        expected = ", ".join(f"{tiou:g}" for tiou in known)
        raise BadInput("command line", f"--tiou {unknown[0]:g}", f"some of {expected}", "see evaluate.tiou")
    return sorted(asked) or [known[at] for at in sorted({0, (len(known) - 1) // 2, len(known) - 1})]


def _told(matched: Matched, asked: Sequence[str]) -> dict[str, str]:
    """The videos shown as examples → why."""
    scores = derive.per_video(matched)
    if not asked:
        return derive.chosen_videos(scores)
    known = [video.id for video in matched.videos]
    if unknown := [name for name in asked if name not in known]:
        raise BadInput("command line", f"--video {unknown[0]}", some(known), "choose test videos")
    return {
        name: f"average mAP on its classes {100 * scores[name]:.0f} %" if name in scores else "no instance"
        for name in asked
    }


def _errors(found: dict[str, Any], of_first: str) -> dict[str, Any]:
    """The table of false positives."""
    top, missed, never = found["top"], np.mean(found["missed"]), np.mean(found["never_hit"])
    told = (
        f"{of_first} Of each class, the best {top['factor']} predictions per instance are judged. "
        f"{100 * missed:.0f} % of the instances are missed, averaged over the tIoU thresholds: no prediction finds "
        f"them before many false ones; {100 * never:.0f} % are hit by no prediction at all. The analysis is DETAD's."
    )
    rows = [
        (kind, KINDS[kind], f"{100 * one['average_share']:.1f}", f"{100 * one['gain']:.1f}")
        for kind, one in found["kinds"].items()
    ]
    return {"told": told, "rows": rows}


def _render(sections: Sequence[_Section]) -> str:
    """The page; equal files give equal text."""
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder / "templates", folder.parent / "table/templates"]),
        autoescape=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    style = Markup((folder / "templates/report.css").read_text("utf-8"))  # noqa: S704 (ours)
    versions = f"Written by um {__version__} with {libraries()}, matplotlib {mpl.__version__}."
    title = f"{TITLE}: {', '.join(section.data.title for section in sections)}"
    return environment.get_template("report.html.j2").render(
        title=title, sections=sections, caption=CAPTION, style=style, versions=versions
    )
