"""Predictions in forms that other programs read: tables, subtitles, and pseudo-labels to train on."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from um import __version__
from um.datasets.annotations import Video, video_id
from um.errors import printable
from um.evaluation.submission import COLUMNS
from um.method.suppression import nms
from um.report.table.render import print_table

CUT = 0.5  # least score of a distinct segment, relative to the best of its class in the video
SHOWN, PER_VIDEO = 20, 5  # rows of the printed table
PSEUDO = '{\n "version": "pseudo-labels of um '  # beginning of the files that we write


def distinct(rows: pd.DataFrame) -> pd.DataFrame:
    """Of the many nested segments of a prediction, those that a person would list, by video and start.

    Within a video and class, best first, a segment is kept if it overlaps no better one and has at least CUT times the
    score of the best.
    """
    kept = [rows[:0]]
    for _, group in rows.groupby(["video", "label"], sort=False):
        start, end, score = (group[name].to_numpy(float) for name in ("start", "end", "score"))
        best = group.iloc[nms(start, end, score, np.finfo(float).tiny, 0.0)]
        kept.append(best[best["score"] >= min(score.max(), CUT * score.max())])  # scores may be below 0
    return pd.concat(kept).sort_values(["video", "start", "label"], kind="stable", ignore_index=True)


def best(rows: pd.DataFrame, min_score: float | None = None, top: int | None = None) -> pd.DataFrame:
    """The segments that score at least `min_score`, at most `top` of each video, in the order given."""
    if min_score is not None:
        rows = rows[rows["score"] >= min_score]
    if top is not None:
        rows = rows.sort_values("score", ascending=False, kind="stable").groupby("video", sort=False).head(top)
    return rows.sort_index().reset_index(drop=True)


def show(rows: pd.DataFrame) -> None:
    """Print the best distinct segments of each video."""
    found = distinct(rows)
    listed = best(found, top=PER_VIDEO)
    cells = [
        [name, label, f"{score:.2f}", f"{start:.1f}", f"{end:.1f}"]
        for name, label, score, start, end in listed[:SHOWN][COLUMNS].itertuples(index=False, name=None)
    ]
    print_table("Segments, in seconds", ["video", "label", "score", "start", "end"], cells, texts=2)
    if more := len(found) - len(cells):
        print(f"and {more} more without overlap")


def csv(rows: pd.DataFrame) -> str:
    """All segments, with a header line."""
    return rows[COLUMNS].to_csv(index=False, lineterminator="\n")


def srt(rows: pd.DataFrame) -> str:
    """SubRip subtitles of one video's distinct segments."""
    cues = enumerate(_cues(rows, ","), 1)
    return "".join(f"{number}\n{times}\n{text.replace('-->', '→')}\n\n" for number, (times, text) in cues)


def vtt(rows: pd.DataFrame) -> str:
    """WebVTT subtitles of one video's distinct segments."""
    escaped = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    return "WEBVTT\n\n" + "".join(f"{times}\n{text.translate(escaped)}\n\n" for times, text in _cues(rows, "."))


def _cues(rows: pd.DataFrame, point: str) -> Iterable[tuple[str, str]]:
    for label, score, start, end in distinct(rows)[["label", "score", "start", "end"]].itertuples(index=False):
        yield f"{_clock(start, point)} --> {_clock(end, point)}", f"{printable(label)} ({score:.2f})"


def _clock(seconds: float, point: str) -> str:
    """`01:02:03.500`."""
    minutes, milliseconds = divmod(round(1000 * max(0.0, seconds)), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"


SUBTITLES = {"srt": srt, "vtt": vtt}
FORMS = ("csv", *SUBTITLES)


def pseudo_labels(videos: Mapping[str, Video], rows: pd.DataFrame, labelled: Iterable[str]) -> dict[str, Any]:
    """Annotations to train another model on: distinct segments for some videos, the true instances for the others.

    Args:
        videos: the dataset's, by id.
        rows: predictions for the labelled videos, of the classes that each is annotated with.
        labelled: ids of the videos whose instances are replaced.
    """
    found, replaced = dict(list(distinct(rows).groupby("video"))), {video_id(name) for name in labelled}
    database: dict[str, dict[str, Any]] = {}
    for name in sorted(videos):
        video = videos[name]
        entries: list[dict[str, Any]] = [{"label": i.label, "segment": [i.start, i.end]} for i in video.instances]
        if name in replaced:
            part = found.get(name, rows[:0])
            columns = part[["label", "score", "start", "end"]].itertuples(index=False, name=None)
            end = np.inf if video.duration is None else video.duration  # the last snippet may reach past it
            spans = [(label, score, a, min(b, end)) for label, score, a, b in columns if a < end]
            entries = [{"label": label, "segment": [a, b], "score": score} for label, score, a, b in spans]
        database[name] = {"subset": video.subset, "annotations": entries}
        if video.duration is not None:
            database[name]["duration"] = video.duration
        if video.ambiguous:
            database[name]["ambiguous"] = [[i.start, i.end] for i in video.ambiguous]
    return {"version": f"pseudo-labels of um {__version__}", "database": database}
