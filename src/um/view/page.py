"""A page for one video: a player, and a lane per class with its annotated and predicted segments.

The page holds all segments. Its script shows the distinct ones (`um.report.export.distinct`) or all, by score. Labels
and names reach the page as data or escaped text, and its policy lets no other script run.
"""

# T sampled snippets, C classes

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from um.datasets.annotations import Instance
from um.errors import printable
from um.report.export import distinct

if TYPE_CHECKING:  # importing it takes two seconds, for PyTorch
    from um.method.localize import Curves

BEGINNING = "<!doctype html>\n<!-- written by um view -->\n"  # of the files that we write
TEMPLATES = Path(__file__).parent / "templates"


class Traced(NamedTuple):
    """The curves that segments were cut from.

    Attributes:
        curves: of the video.
        classes: C names.
        seconds: spanned by the T values.
        start: of the first value, in seconds.
    """

    curves: "Curves"
    classes: Sequence[str]
    seconds: float
    start: float = 0.0


class Page(NamedTuple):
    """The content of a page.

    Attributes:
        name: of the video, used as the title.
        source: address of the video file, relative to the page.
        file: name of the video file.
        convert: command that makes a file all browsers play.
        duration: seconds spanned by the lanes.
        segments: columns label, score, start and end.
        truth: annotated instances; None if they are not known.
        traced: curves, if known.
    """

    name: str
    source: str
    file: str
    convert: str
    duration: float
    segments: pd.DataFrame
    truth: Sequence[Instance] | None = None
    traced: Traced | None = None


def address(video: Path, page: Path) -> str:
    """The address of a video file, relative to a page; both paths as the browser sees them, links not resolved."""
    return quote(os.fsencode(os.path.relpath(video, page.parent)))


def render(page: Page) -> str:
    """The page as HTML; equal arguments give equal text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["digest"] = _digest
    script, style = (Markup((TEMPLATES / f"view.{kind}").read_text("utf-8")) for kind in ("js", "css"))  # noqa: S704 (ours)
    return environment.get_template("view.html.j2").render(
        name=printable(page.name),
        source=page.source,
        file=printable(page.file),
        convert=printable(page.convert),
        annotated=page.truth is not None,
        curves=page.traced is not None,
        data=_embedded(_data(page)),
        script=script,
        style=style,
    )


def _digest(text: str) -> Markup:
    """The hash by which a policy admits an inline script or style."""
    return Markup("sha256-{}").format(base64.b64encode(hashlib.sha256(text.encode()).digest()).decode())


def _embedded(value: Any) -> Markup:
    """JSON for a script element: without a character that could end it, or that is not ASCII."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.translate({ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&"}))  # noqa: S704 (escaped here)


def _data(page: Page) -> dict[str, Any]:
    """What the script reads."""
    score = page.segments["score"]
    traced = page.traced
    return {
        "duration": page.duration,
        "annotated": page.truth is not None,
        "low": _short(min(0.0, score.min()) if len(score) else 0.0),
        "high": _short(max(score.max(), 1.0 if score.max() > 0.1 else 0.0) if len(score) else 1.0),
        "curveSeconds": traced.seconds if traced else None,
        "curveStart": traced.start if traced else None,
        "magnitude": _levels(traced.curves.magnitude_T) if traced else None,
        "lanes": _lanes(page),
    }


def _lanes(page: Page) -> list[dict[str, Any]]:
    """A lane per predicted or annotated class, the one with the best segment first."""
    numbered = page.segments.assign(video="", number=range(len(page.segments)))
    shown = set(distinct(numbered)["number"])
    ordered = numbered.sort_values("score", ascending=False, kind="stable")
    truth, traced, lanes = page.truth or (), page.traced, []
    columns = ["start", "end", "score", "number"]
    rows_of = {str(label): rows[columns] for label, rows in ordered.groupby("label", sort=False)}
    for label in dict.fromkeys([*rows_of, *sorted(instance.label for instance in truth)]):
        rows = rows_of.get(label, ordered[columns][:0]).itertuples(index=False, name=None)
        curve = None
        if traced and label in traced.classes:
            curve = _levels(traced.curves.fused_TC[:, traced.classes.index(label)])
        lanes.append(
            {
                "label": printable(label),
                "truth": [[_short(i.start), _short(i.end)] for i in truth if i.label == label],
                "found": [[_short(a), _short(b), _short(score), int(n in shown)] for a, b, score, n in rows],
                "curve": curve,
            }
        )
    return lanes


def _short(number: float) -> float:
    """Enough digits to show, without those that only fill the page."""
    return float(f"{number:.7g}")


def _levels(curve_T: Iterable[float]) -> list[float]:
    return [round(float(value), 3) for value in np.asarray(curve_T)]
