"""Figures of an error analysis, drawn from what `um.report.errors.errors.analyse` returns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from um.report.errors.diagnosis import KINDS, OUTCOMES
from um.report.figures.drawing import BLUE, ORANGE, PINK, RED, SKY, blank, percent

INKS = dict(zip(OUTCOMES, (ORANGE, PINK, SKY, RED, "#CFCFCF", BLUE, "white"), strict=True))
HATCHES = dict(zip(OUTCOMES, ("///", "...", "\\\\\\", "xxx", "", "", ""), strict=True))
MEASURES = {
    "length": ("length", 1, " s"),
    "coverage": ("share of the video", 100, " %"),
    "per_video": ("number in the video", 1, ""),
}


def false_positives(found: Mapping[str, Any]) -> Figure:
    """Outcomes by rank, and the gain without each kind; `found` is what `um.report.errors.errors.analyse` returns."""
    figure = blank(3.3)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    ranks, by_rank = np.arange(1, len(found["by_rank"]) + 1), found["by_rank"]
    base = np.zeros(len(ranks))
    order = [name for name in ("true positive", *KINDS, "ignored") if name in by_rank[0]]
    for name in order:
        share = np.array([step[name] for step in by_rank])
        look = {"color": INKS[name], "hatch": HATCHES[name], "edgecolor": "white", "linewidth": 0.5}
        left.bar(ranks, share, 0.9, bottom=base, label=name, **look)
        base += share
    left.set(xlabel="rank / number of instances", ylabel="predictions, %")
    left.set_xticks(ranks)
    percent(left, "y", 1.0)
    left.grid(visible=False)
    kinds = found["kinds"]
    for y, (kind, one) in enumerate(kinds.items()):
        right.barh(y, one["gain"], 0.7, color=INKS[kind], hatch=HATCHES[kind], edgecolor="white", linewidth=0.5)
        right.text(one["gain"], y, f" {100 * one['gain']:.1f}", va="center", fontsize=8)
    right.set(yticks=range(len(kinds)), yticklabels=list(kinds), xlabel="gain in average mAP, points")
    right.invert_yaxis()
    percent(right, "x", max(0.01, 1.25 * max(one["gain"] for one in kinds.values())))
    right.grid(visible=False)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def missed(found: Mapping[str, Any]) -> Figure:
    """The share of instances missed in every bin, a panel per characteristic."""
    every = found["characteristics"].items()
    groups = {name: [one for one in bins if one["num_instances"]] for name, bins in every}
    widths = [3 + len(bins) for bins in groups.values()]
    figure = blank(2.9)
    grid = figure.subplots(1, len(groups), sharey=True, squeeze=False, width_ratios=widths).ravel()
    overall = float(np.mean(found["missed"]))
    for axes, (name, bins) in zip(grid, groups.items(), strict=True):
        _missed(axes, name, bins)
        axes.axhline(overall, color="black", linewidth=1, linestyle="--", label=f"all: {100 * overall:.0f} %")
    grid[0].set_ylabel("missed, %")
    percent(grid[0], "y", 1.0)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left")
    return figure


def _missed(axes: Axes, name: str, bins: Sequence[Mapping[str, Any]]) -> None:
    title, scale, unit = MEASURES[name]
    shares = [float(np.mean(one["missed"])) for one in bins]
    axes.bar(range(len(bins)), shares, 0.7, color=BLUE)
    for x, share in enumerate(shares):
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.text(x, share + 0.02, f"{100 * share:.0f}", ha="center", fontsize=8, bbox=behind)
    names = [f"{_bound(one, scale, unit)}\nn={one['num_instances']}" for one in bins]
    axes.set_xticks(range(len(bins)), names, fontsize=7)
    axes.set(title=title, xlim=(-0.7, len(bins) - 0.3))
    axes.grid(visible=False, axis="x")


def _bound(one: Mapping[str, Any], scale: float, unit: str) -> str:
    if one["up_to"] is not None:
        return f"≤{scale * one['up_to']:g}{unit}"
    return f">{scale * one['above']:g}{unit}" if one["above"] is not None else str(one["bin"])
