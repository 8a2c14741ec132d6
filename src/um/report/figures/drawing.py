"""Style and files of the report's figures: equal data give equal bytes, whatever matplotlib is set to."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from um.errors import printable

WIDTH = 6.0  # inches: text of 9 points is readable if a page shows the figure 400 pixels wide
DPI = 160
BLUE, RED, GREEN, PINK, ORANGE, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#767676"
COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY)  # Okabe and Ito's; lines and markers also differ, for grey prints
LINES = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")
STYLE: list[str | Path | dict[str, Any]] = [
    "default",
    {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": "#DDDDDD",
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "hatch.linewidth": 0.6,
        "svg.fonttype": "none",  # text stays text
        "text.parse_math": False,  # `$` in a name is no formula
    },
]
METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def drawn(name: str, draw: Callable[[], Figure], *, png: bool = True) -> dict[str, bytes]:
    """A figure as files: suffix → bytes.

    Args:
        name: of the figure, with which its ids begin: a page may hold several.
        draw: makes the figure.
        png: whether to make one, too.
    """
    with style.context([*STYLE, {"svg.hashsalt": name}]):
        figure, content = draw(), io.BytesIO()
        figure.savefig(content, format="svg", metadata=METADATA)
        files = {"svg": _finished(content.getvalue().decode(), name).encode()}
        if png:
            figure.set_layout_engine("none")  # it is laid out
            figure.savefig(content := io.BytesIO(), format="png", dpi=DPI, metadata={"Software": None})
            files["png"] = content.getvalue()
    return files


def _finished(svg: str, name: str) -> str:
    """The SVG with more fonts, and with ids `<name>-1` and so on: matplotlib hashes some from addresses in memory."""
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)  # matplotlib repeats every text in one
    known: dict[str, str] = {}

    def renamed(found: re.Match[str]) -> str:
        return found[1] + known.setdefault(found[2], f"{name}-{len(known) + 1}") + found[3]

    def of_tag(tag: re.Match[str]) -> str:
        return re.sub(r'(\bid="|url\(#|href="#)([^")]+)([")])', renamed, _portable(tag[0]))

    return re.sub(r"<[^>]+>", of_tag, svg)


def _portable(tag: str) -> str:
    """Verdana is as wide as DejaVu Sans, and on the machines that lack it."""
    return tag.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")


def inline(svg: bytes, title: str) -> Markup:
    """An SVG of `drawn` as an element of a page: without prolog, scaled to its place."""
    text = svg[svg.index(b"<svg") :].decode()
    box = re.search(r'viewBox="[\d. ]+"', text)
    label = f'role="img" aria-label="{escape(title)}"'
    head = f'<svg {box[0] if box else ""} xmlns:xlink="http://www.w3.org/1999/xlink" {label}>'
    return Markup(head + text[text.index(">") + 1 :])  # noqa: S704 (matplotlib escapes names)


def blank(height: float) -> Figure:
    """An empty figure of the common width."""
    return Figure((WIDTH, height), layout="constrained")


def word(text: str, most: int = 24) -> str:
    """A name as a label: printable, its middle cut if it is long."""
    text = printable(text)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) + 1 :]}"


def percent(axes: Axes, axis: str, top: float | None = None) -> None:
    """Label the ticks of fractions in percent, from 0."""
    which = axes.xaxis if axis == "x" else axes.yaxis
    which.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
    (axes.set_xlim if axis == "x" else axes.set_ylim)(0, top)
