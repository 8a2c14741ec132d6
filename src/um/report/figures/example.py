"""The paper's qualitative figure: how the curves of a video become segments, on one time axis."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import NDArray

from um.datasets.annotations import Instance
from um.report.figures.drawing import COLOURS, GREY, LINES, blank, word
from um.report.figures.timeline import STEPS, clock

Floats = NDArray[np.float64]
MOST = 3  # classes
ROWS = ("class score", "probability\nof action", "fused score")


class Example(NamedTuple):
    """One video.

    Attributes:
        name: of the video.
        told: why it is shown.
        classes: up to `MOST`, the annotated ones first.
        class_TC, action_T, fused_TC: the curves of these classes, in [0, 1].
        segments: columns label, score, start, end, of any class.
        truth: annotated instances.
        duration: seconds at the end of the curves.
        start: seconds at which they begin.
    """

    name: str
    told: str
    classes: Sequence[str]
    class_TC: Floats
    action_T: Floats
    fused_TC: Floats
    segments: pd.DataFrame
    truth: Sequence[Instance]
    duration: float
    start: float = 0.0


def examples(videos: Sequence[Example]) -> Figure:
    """A block per video: true and predicted segments, then the curves."""
    figure = blank(0.35 + sum(2.1 + 0.42 * len(video.classes) for video in videos))
    parts = figure.subfigures(len(videos), 1, squeeze=False).ravel()
    for part, video in zip(parts, videos, strict=True):
        lanes = max(1, len(video.classes))
        grid = part.subplots(4, 1, sharex=True, height_ratios=(0.55 * lanes, 0.8, 0.8, 0.8))
        part.suptitle(f"{word(video.name, 40)}: {video.told}", x=0.01, ha="left", fontsize=9, fontweight="bold")
        _bars(grid[0], video)
        for axes, name, curve_TC in zip(grid[1:], ROWS, (video.class_TC, None, video.fused_TC), strict=True):
            _curves(axes, name, curve_TC, video)
        step = next((step for step in STEPS if video.duration / step <= 8), video.duration / 8)
        grid[-1].xaxis.set_major_locator(MultipleLocator(step))
        grid[-1].xaxis.set_major_formatter(FuncFormatter(lambda at, _, length=video.duration: clock(at, length)))
        grid[-1].set_xlim(0, video.duration)
    return figure


def _bars(axes: Axes, video: Example) -> None:
    """A lane per class: true segments in black above the predicted ones, which are darker for higher scores."""
    top = max([*video.segments["score"], 1e-9])
    for lane, label in enumerate(video.classes):
        true = [(one.start, one.end - one.start) for one in video.truth if one.label == label]
        axes.broken_barh(true, (lane + 0.08, 0.38), color="#222222", linewidth=0)
        found = video.segments[video.segments["label"] == label]
        spans = list(zip(found["start"], found["end"] - found["start"], strict=True))
        shades = [(COLOURS[lane], 0.25 + 0.75 * min(max(score / top, 0.0), 1.0)) for score in found["score"]]
        axes.broken_barh(spans, (lane + 0.52, 0.38), facecolors=shades, edgecolors=COLOURS[lane], linewidth=0.6)
    names = [word(label, 18) for label in video.classes]
    axes.set(yticks=np.arange(len(names)) + 0.5, yticklabels=names, ylim=(max(1, len(names)), 0))
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")


def _curves(axes: Axes, name: str, curve_TC: Floats | None, video: Example) -> None:
    """Curves as steps, a step per snippet; true segments are shaded."""
    edge_T = np.linspace(video.start, video.duration, len(video.action_T) + 1)
    for one in video.truth:
        if one.label in video.classes:
            axes.axvspan(one.start, one.end, color="#000000", alpha=0.08, linewidth=0)
    if curve_TC is None:
        axes.stairs(video.action_T, edge_T, color=GREY, fill=True, alpha=0.5)
    else:
        for number in range(curve_TC.shape[1]):
            axes.stairs(curve_TC[:, number], edge_T, color=COLOURS[number], linestyle=LINES[number], linewidth=1.3)
    axes.set(ylim=(0, 1.05), yticks=(0, 1))
    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
