"""A picture of the segments predicted in one video: a lane per class, and the curves they were cut from.

Many thresholds give more segments than a picture can show. A lane shows segments with at least `CUT` times the best
score of its class, best first, as many as fit into `ROWS` rows without overlap; a picture has at most `LANES` lanes.
Counts such as `5 of 23` tell how many are shown; the predictions file lists all.
"""

# T sampled snippets, C classes

from bisect import bisect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from um.datasets.annotations import Instance
from um.files import atomic
from um.method.localize import Curves, Floats
from um.report.figures.drawing import COLOURS, word

CUT = 0.5
ROWS = 3
LANES = 10
SCORES = 8  # best segments per lane whose scores are printed
TEXT = 0.03  # width of a printed score, as a share of the picture
GAP = 0.002  # between bars of a row, as a share of the picture

TRUTH = "#222222"
LEGEND = "bars: predicted (darker: higher score);  areas: curve of the class, 0 to 1"
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)  # seconds between ticks
# Overrides the user's matplotlibrc, so that equal predictions give equal bytes.
STYLE: list[str | Path | dict[str, Any]] = [
    "default",
    {"font.family": "DejaVu Sans", "font.size": 8, "text.parse_math": False},
]


class Bar(NamedTuple):
    """A segment of a lane."""

    start: float  # seconds
    end: float
    score: float
    row: int  # from the top
    text: float | None  # centre of the printed score in seconds; None: not printed


class Lane(NamedTuple):
    """A class that is predicted or annotated."""

    label: str
    bars: list[Bar]  # best first
    found: int  # segments of the class, with or without a bar
    truth: list[tuple[float, float]]


def lanes(found: pd.DataFrame, truth: Sequence[Instance], duration: float) -> list[Lane]:
    """Lay out the segments of one video, the class with the best segment first.

    Args:
        found: columns label, score, start and end.
        truth: annotated instances, if any.
        duration: seconds spanned by the picture.
    """
    ordered = found.sort_values("score", ascending=False, kind="stable")
    annotated = sorted({instance.label for instance in truth})
    labels = list(dict.fromkeys([*ordered["label"], *annotated]))
    kept = sorted(labels, key=lambda label: label not in annotated)[:LANES]
    made = []
    for label in (label for label in labels if label in kept):
        segments = ordered[ordered["label"] == label]
        instances = [(instance.start, instance.end) for instance in truth if instance.label == label]
        made.append(Lane(label, _packed(segments, duration), len(segments), instances))
    return made


def _packed(segments: pd.DataFrame, duration: float) -> list[Bar]:
    """The bars of segments sorted by score; the best ones get space for a printed score."""
    if segments.empty:
        return []
    best = segments["score"].iloc[0]
    least = min(best, CUT * best)  # scores may be below 0
    bars: list[Bar] = []
    taken: list[list[tuple[float, float]]] = [[] for _ in range(ROWS)]  # sorted
    gap = GAP * duration

    def row_for(first: float, last: float) -> int | None:
        for row, spans in enumerate(taken):
            at = bisect(spans, (first, last))
            if (at == 0 or spans[at - 1][1] + gap <= first) and (at == len(spans) or last + gap <= spans[at][0]):
                spans.insert(at, (first, last))
                return row
        return None

    for score, start, end in segments[["score", "start", "end"]].itertuples(index=False, name=None):
        if score < least:
            break
        places: list[tuple[float, float, float | None]] = [(start, end, None)]
        if len(bars) < SCORES:
            places.insert(0, _with_text(start, end, duration))
        for first, last, text in places:
            if (row := row_for(first, last)) is not None:
                bars.append(Bar(start, end, score, row, text))
                break
    return bars


def _with_text(start: float, end: float, duration: float) -> tuple[float, float, float]:
    """Start and end of a bar with its score, and the centre of the score: inside, or beside a short bar."""
    room = TEXT * duration
    if end - start >= room:
        return start, end, (start + end) / 2
    return (start, end + room, end + room / 2) if end + room <= duration else (start - room, end, start - room / 2)


class Found(NamedTuple):
    """The content of one video's picture.

    Attributes:
        name: of the video, used as the title.
        segments: columns label, score, start and end.
        curves: from which the segments were cut.
        classes: C names of the curves.
        duration: seconds at the end of the curves.
        truth: annotated instances, drawn above the segments of their class.
        start: seconds at which the curves begin.
    """

    name: str
    segments: pd.DataFrame
    curves: Curves
    classes: Sequence[str]
    duration: float
    truth: Sequence[Instance] = ()
    start: float = 0.0


def draw(path: Path, video: Found) -> None:
    """Write the picture of one video as PNG; equal arguments give equal bytes."""
    with style.context(STYLE), atomic(path) as temporary:
        picture(video).savefig(temporary, dpi=100, metadata={"Software": None})


def picture(video: Found) -> Figure:
    """The figure that `draw` writes."""
    truth, duration, times = video.truth, video.duration, (video.start, video.duration)
    listed = lanes(video.segments, truth, duration)
    top = max((bar.score for lane in listed for bar in lane.bars), default=0.0)
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ticks, y = {}, 0.0  # y grows downwards, in rows
    for number, lane in enumerate(listed):
        colour = COLOURS[number % len(COLOURS)]
        begin = y
        if truth:
            axes.broken_barh([(a, b - a) for a, b in lane.truth], (y + 0.1, 0.5), color=TRUTH, linewidth=0.5)
            y += 0.7
        for row in range(ROWS):
            _draw_row(axes, [bar for bar in lane.bars if bar.row == row], y + row, colour, top)
        y += max((bar.row + 1 for bar in lane.bars), default=0)
        if lane.label in video.classes:
            curve_T = video.curves.fused_TC[:, video.classes.index(lane.label)]
            _draw_curve(axes, curve_T, times, y, 1.2, colour)
            y += 1.3
        shown = f"{len(lane.bars)} of {lane.found}" if lane.found else "not predicted"
        ticks[(begin + y) / 2] = f"{word(lane.label, 28)}\n{shown}"
        y += 0.3
        axes.axhline(y, color="#BBBBBB", linewidth=0.6)
        y += 0.3
    _draw_curve(axes, video.curves.magnitude_T, times, y, 1.8, "#666666")
    ticks[y + 0.9] = "probability\nof action"
    y += 1.9
    figure.set_size_inches(12, 1.0 + 0.2 * y)
    axes.set(xlim=(0, duration), ylim=(y, -0.2), yticks=list(ticks), yticklabels=list(ticks.values()))
    axes.tick_params(axis="y", length=0)
    step = next((step for step in STEPS if duration / step <= 14), duration / 14)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda second, _: clock(second, duration)))
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(word(video.name, 60), loc="left", fontsize=10, fontweight="bold")
    axes.set_title(_caption(listed, video.segments), loc="right", fontsize=8)
    axes.set_xlabel("black: annotated;  " * bool(truth) + LEGEND)
    return figure


def _draw_row(axes: Axes, bars: Sequence[Bar], y: float, colour: str, top: float) -> None:
    """Bars whose alpha grows with the score, up to `top`; edges too, since a short bar is mostly edge."""
    alphas = [0.25 + 0.75 * min(max(bar.score / top, 0.0), 1.0) if top > 0 else 1.0 for bar in bars]
    colours = [(colour, alpha) for alpha in alphas]
    spans = [(bar.start, bar.end - bar.start) for bar in bars]
    axes.broken_barh(spans, (y + 0.08, 0.84), facecolors=colours, edgecolors=colours, linewidth=0.8)
    for bar, alpha in zip(bars, alphas, strict=True):
        if bar.text is not None:
            dark = alpha * (1 - np.dot(to_rgb(colour), (0.299, 0.587, 0.114))) > 0.5
            ink = "white" if dark and bar.start <= bar.text <= bar.end else "black"
            axes.text(bar.text, y + 0.52, f"{bar.score:.2f}", ha="center", va="center", fontsize=7, color=ink)


def _draw_curve(axes: Axes, curve_T: Floats, times: tuple[float, float], y: float, height: float, colour: str) -> None:
    """A curve from 0 (at y + height) to 1 (at y); each value is drawn at the start of its snippet."""
    start, end = times
    time_T = start + np.arange(len(curve_T) + 1) * ((end - start) / len(curve_T))
    level_T = y + height * (1 - np.append(curve_T, curve_T[-1]))
    axes.fill_between(time_T, level_T, y + height, facecolor=(colour, 0.3), edgecolor=colour, linewidth=0.6)


def _caption(listed: Sequence[Lane], found: pd.DataFrame) -> str:
    bars = sum(len(lane.bars) for lane in listed)
    if bars == len(found):
        return f"{bars} segments"
    more = found["label"].nunique() - sum(lane.found > 0 for lane in listed)
    classes = f"; {more} more classes" if more else ""
    return (
        f"{bars} of {len(found)} segments: the best that fit, at least {CUT:g} × the best score of their class{classes}"
    )


def clock(second: float, duration: float) -> str:
    """A time in the format for a video of this duration: `7 s`, `1:07`, `1:02:07`."""
    if duration < 120:
        return f"{second:g} s"
    minutes, seconds = divmod(round(second), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if duration >= 3600 else f"{minutes}:{seconds:02d}"
