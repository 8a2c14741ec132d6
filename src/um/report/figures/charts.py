"""Figures of scores, trainings and magnitudes, each drawn from plain numbers (`um.report.page.collect` reads them).

H tIoU thresholds; E evaluations of a training; C classes; R ranked predictions; N snippets. Scores are fractions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from um.report.figures.drawing import BLUE, COLOURS, GREY, LINES, MARKERS, RED, blank, percent, word

Floats = NDArray[np.float64]

PANELS = {  # column of history.csv → title
    "classification": "Classification loss L_cls",
    "background_entropy": "Background entropy L_be",
    "uncertainty": "Uncertainty L_um",
    "contrast": "Contrast L_s",
}
SCORE = "test_average_mAP"
SCORED = "Average mAP on the test subset, %"
MOST_CLASSES, MOST_PANELS = 40, 12
BINS = 40


class Training(NamedTuple):
    """One training: the rows of its history, and of the scores of its checkpoints, by iteration."""

    run: str
    seed: int
    losses: pd.DataFrame  # iteration and columns of PANELS
    scores: pd.DataFrame | None = None  # iteration, SCORE


class Line(NamedTuple):
    """mAP at every threshold; published values have no bounds."""

    name: str
    tiou_H: Sequence[float]
    mean_H: Sequence[float]
    low_H: Sequence[float] | None = None
    high_H: Sequence[float] | None = None
    published: bool = False


class Ranked(NamedTuple):
    """The predictions of one class: their precision and recall by rank, at some thresholds."""

    label: str
    instances: int
    curves: Mapping[float, tuple[Floats, Floats]]  # tIoU → recall (R,), precision (R,)


class Split(NamedTuple):
    """Magnitudes of action and of background snippets."""

    title: str
    action_N: Floats
    background_N: Floats
    margin: float | None = None


def training(trainings: Sequence[Training]) -> Figure:
    """A panel per loss, and one for the scores of the checkpoints."""
    names = [name for name in PANELS if any(name in one.losses for one in trainings)]
    tables = {name: [(one.run, one.losses) for one in trainings if name in one.losses] for name in names}
    scored = [(one.run, one.scores) for one in trainings if one.scores is not None]
    if scored:
        tables[SCORE] = scored
    rows = (len(tables) + 1) // 2
    figure = blank(2.0 * rows + 0.4)
    grid = figure.subplots(rows, 2, squeeze=False).ravel()
    runs = list(dict.fromkeys(one.run for one in trainings))
    for axes, (name, listed) in zip(grid, tables.items(), strict=False):
        for number, run in enumerate(runs):
            seeds = [table.set_index("iteration")[name] for owner, table in listed if owner == run]
            for seed in seeds:
                axes.plot(seed.index, seed, color=COLOURS[number % 6], linewidth=0.7, alpha=0.55)
            if seeds:
                mean = pd.concat(seeds, axis=1).mean(axis=1)
                axes.plot(mean.index, mean, label=word(run), **_look(number))
        axes.set_title(PANELS.get(name, SCORED))
        top = max(table[name].max() for _, table in listed)
        percent(axes, "y") if name == SCORE else axes.set_ylim(0, 1.05 * top or 1)
    for axes in grid[len(tables) :]:
        axes.set_visible(False)
    for axes in grid[: len(tables)][-2:]:
        axes.set_xlabel("iteration")
    if len(runs) > 1:
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def _look(number: int) -> dict[str, Any]:
    """Colour, dashes and marker of a line, so that lines also differ in grey."""
    number %= len(COLOURS)
    return {"color": COLOURS[number], "linestyle": LINES[number], "marker": MARKERS[number], "markersize": 4}


def map_by_tiou(lines: Sequence[Line]) -> Figure:
    """mAP over the thresholds, with intervals; published rows in grey."""
    figure = blank(3.4)
    axes = figure.subplots()
    ours = [line for line in lines if not line.published]
    for number, line in enumerate(ours):
        look = _look(number)
        if line.low_H is not None and line.high_H is not None:
            axes.fill_between(line.tiou_H, line.low_H, line.high_H, color=look["color"], alpha=0.15, linewidth=0)
        axes.plot(line.tiou_H, line.mean_H, label=word(line.name, 40), **look)
    for number, line in enumerate(line for line in lines if line.published):
        dashes = LINES[1 + number % (len(LINES) - 1)]
        name = f"{word(line.name, 40)} (published)"
        axes.plot(line.tiou_H, line.mean_H, label=name, color=GREY, linestyle=dashes, linewidth=1.2)
    axes.set(xlabel="temporal IoU threshold", ylabel="mAP, %", xticks=lines[0].tiou_H)
    axes.set_xticklabels([f"{tiou:g}" for tiou in lines[0].tiou_H])
    percent(axes, "y")
    axes.legend()
    return figure


def ap_by_class(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """A row per class, the best of the first run at the top; of many classes, the best and the worst.

    Args:
        scores: run → class → AP of every seed.
    """
    first = next(iter(scores.values()))
    ordered = sorted(first, key=lambda label: (-float(np.mean(first[label])), label))
    if len(ordered) > MOST_CLASSES:
        ordered = [*ordered[: MOST_CLASSES // 2], *ordered[-MOST_CLASSES // 2 :]]
    figure = blank(0.24 * len(ordered) + 1.0)
    axes = figure.subplots()
    if len(first) > len(ordered):
        axes.axhline(MOST_CLASSES // 2 - 0.5, color="black", linewidth=1, linestyle=":")
    for number, (run, by_class) in enumerate(scores.items()):
        look, shift = _look(number), 0.3 * (number - (len(scores) - 1) / 2) / max(1, len(scores) - 1)
        shown = [(y + shift, by_class[label]) for y, label in enumerate(ordered) if label in by_class]
        at, means = [y for y, _ in shown], [float(np.mean(values)) for _, values in shown]
        for y, values in shown:
            axes.plot(values, [y] * len(values), ".", color=look["color"], markersize=3, alpha=0.6)
        axes.plot(means, at, linestyle="", marker=look["marker"], color=look["color"], markersize=6, label=word(run))
    axes.set(yticks=range(len(ordered)), yticklabels=[word(label) for label in ordered], xlabel="average precision, %")
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    percent(axes, "x", 1.02)
    figure.legend(loc="outside upper left", ncols=3)
    return figure


def precision_recall(classes: Sequence[Ranked]) -> Figure:
    """A panel per class, the classes with most instances if there are many."""
    kept = sorted(sorted(classes, key=lambda one: -one.instances)[:MOST_PANELS], key=lambda one: one.label)
    columns = min(3, len(kept))
    rows = -(-len(kept) // columns)
    figure = blank(1.75 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, one in zip(grid.ravel(), kept, strict=False):
        for number, (tiou, (recall_R, precision_R)) in enumerate(one.curves.items()):
            axes.plot(
                recall_R, precision_R, color=COLOURS[number % 6], linestyle=LINES[number % 6], label=f"tIoU {tiou:g}"
            )
        axes.set_title(f"{word(one.label, 20)} ({one.instances})", fontsize=8.5)
        percent(axes, "x", 1.02)
        percent(axes, "y", 1.05)
    for axes in grid.ravel()[len(kept) :]:
        axes.set_visible(False)
    figure.supxlabel("recall, %", fontsize=9)
    figure.supylabel("precision, %", fontsize=9)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def magnitudes(panels: Sequence[Split]) -> Figure:
    """Histograms of action (filled) and background (hatched), each with an area of 1."""
    figure = blank(2.6)
    grid = figure.subplots(1, len(panels), squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=True):
        every = np.concatenate([panel.action_N, panel.background_N])
        low, high = (every.min(), every.max()) if len(every) else (0.0, 1.0)
        edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
        for values_N, name, look in (
            (panel.background_N, "background", {"facecolor": "none", "edgecolor": RED, "hatch": "////"}),
            (panel.action_N, "action", {"facecolor": (BLUE, 0.45), "edgecolor": BLUE}),
        ):
            if len(values_N):
                label = f"{name} ({len(values_N):,} snippets)"
                axes.hist(values_N, edges, density=True, histtype="stepfilled", label=label, **look)
        if panel.margin is not None and low <= panel.margin <= high:
            axes.axvline(panel.margin, color="black", linewidth=1, linestyle=":")
            axes.text(panel.margin, 1.0, " margin", transform=axes.get_xaxis_transform(), va="top", fontsize=8)
        axes.set_title(panel.title)
        axes.set(xlabel="L2 norm", yticks=[])
        axes.grid(visible=False)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure
