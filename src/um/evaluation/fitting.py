"""Checks, before scoring, that predictions match the annotations in videos, labels and times."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from um.datasets.annotations import FEW, FRACTION, NOT_SECONDS, SLACK, UNITS, Annotations, Video, fractions
from um.errors import BadInput, some
from um.evaluation.submission import Submission

log = logging.getLogger(__name__)

Unlisted = Literal["count", "ignore"]
TOO_LONG = 1.5  # times the durations; more than rounding or a video's tail explains
NOTHING_LEFT = ("no video with predictions", "at least one", "--missing drop leaves out videos without an entry")
SUFFIX = re.compile(r"\.\w{1,5}$")


class Population(NamedTuple):
    """What is scored.

    Attributes:
        videos: the evaluated ones.
        absent: annotated videos without an entry; not evaluated under `missing: drop`.
        rows: predictions to score.
    """

    videos: list[Video]
    absent: list[Video]
    rows: pd.DataFrame


def population(
    path: Path, submitted: Submission, truth: Annotations, subset: str | None, missing: str, unlisted: Unlisted
) -> Population:
    """The videos and predictions to score; log what cannot match, and the annotated videos without an entry.

    Args:
        path: of the submission.
        submitted: its content.
        truth: all annotations.
        subset: of the videos; default: the layout's test subset.
        missing: whether videos without an entry are left out (`drop`).
        unlisted: whether predictions for other videos count or are left out.

    Raises:
        BadInput: as `fitted`, or no video is left.
    """
    videos = truth.evaluated(subset)
    rows = fitted(path, submitted, truth, videos, unlisted)
    there = set(submitted.videos)
    absent = [video for video in videos if video.id not in there]
    if absent:
        become = "are left out" if missing == "drop" else "count as videos without a prediction"
        log.warning("%s: no entry for %s, which %s", path, some([video.id for video in absent]), become)
    if missing == "drop":
        videos = [video for video in videos if video.id in there]
    if not videos:
        raise BadInput(path, *NOTHING_LEFT)
    return Population(videos, absent, rows)


def policy(name: str) -> Unlisted:
    """The value of `--unlisted`."""
    match name:
        case "count":
            return "count"
        case "ignore":
            return "ignore"
        case _:
            raise BadInput("command line", f"--unlisted {name}", "count or ignore", "choose one of them")


def fitted(
    path: Path, submitted: Submission, truth: Annotations, videos: Sequence[Video], unlisted: Unlisted = "count"
) -> pd.DataFrame:
    """The predictions to score; log those that cannot match, with counts and the nearest known name.

    Predictions for other videos are false positives, as in ANETdetection and the THUMOS'14 kit.

    Args:
        path: of the submission.
        submitted: its content.
        truth: all annotations.
        videos: the evaluated ones.
        unlisted: whether predictions for other videos count or are left out.

    Raises:
        BadInput: no video, label or time in common with the evaluated videos.
    """
    rows = submitted.predictions
    ids = {video.id for video in videos}
    inside = rows["video"].isin(ids)
    if submitted.videos and not ids.intersection(submitted.videos):
        _refuse_videos(path, submitted.videos, truth, videos)
    if not inside.any():
        log.warning("%s: no prediction for any video", path)
    _check_labels(path, rows["label"], truth, videos)
    _check_times(path, rows[inside], truth, videos)
    if not inside.all():
        _tell_unlisted(path, rows["video"][~inside], truth, ids, unlisted)
    return rows[inside].reset_index(drop=True) if unlisted == "ignore" else rows


def nearest(name: str, known: Iterable[str]) -> str:
    """` (perhaps 'CricketShot')`: the known name equal up to case, punctuation and suffix, or the most similar."""
    names = list(known)
    alike = {_bare(other): other for other in names}
    found = [alike[_bare(name)]] if _bare(name) in alike else get_close_matches(name[:250], names, 1)
    return f" (perhaps {found[0]!r})" if found else ""


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", SUFFIX.sub("", name.strip()).casefold())


def _refuse_videos(path: Path, names: Sequence[str], truth: Annotations, videos: Sequence[Video]) -> None:
    expected = f"ids as in {truth.path}: {some([video.id for video in videos])}"
    others = sorted({truth.videos[name].subset for name in names if name in truth.videos})
    if others:
        found = f"none of the annotated videos of subset {videos[0].subset}, but of {' and '.join(others)}"
        raise BadInput(path, found, expected, f"use --subset {others[0]}")
    like = nearest(names[0], (video.id for video in videos))
    found = f"none of the annotated videos, but {some(names)}{like}"
    raise BadInput(path, found, expected, "use the ids of the annotations")


def _check_labels(path: Path, predicted: "pd.Series[str]", truth: Annotations, videos: Sequence[Video]) -> None:
    known = {label for video in videos for label in video.labels}
    elsewhere = {label for video in truth.videos.values() for label in video.labels}
    counts = Counter(predicted.tolist())
    unknown = sorted(set(counts) - known)
    if not unknown:
        return

    def about(label: str) -> str:
        other = " (in other subsets only)" if label in elsewhere else ""
        return f"{label[:80]!r}: {counts[label]:,}{other}{nearest(label, sorted(known))}"

    told = ", ".join(map(about, unknown[:3]))
    told += ", …" if len(unknown) > 3 else ""
    if len(unknown) == len(counts):
        expected = f"labels as in {truth.path}: {some(sorted(known), 'label', 'labels')}"
        found = f"no label of the evaluated videos, but {told}"
        raise BadInput(path, found, expected, "use the labels of the annotations")
    count = sum(counts[label] for label in unknown)
    log.warning("%s: left out %s whose labels no evaluated video has: %s", path, _predictions(count), told)


def _check_times(path: Path, rows: pd.DataFrame, truth: Annotations, videos: Sequence[Video]) -> None:
    """Compare times with durations or, if unknown, with the last instance, which may end long before the video."""
    length = {video.id: max(video.duration or 0.0, video.last) for video in videos}
    stated = all(video.duration is not None for video in videos)
    length_R = rows["video"].map(length)
    rows, length_R = rows[length_R > 0], length_R[length_R > 0]
    if rows.empty:
        return
    ratio = float((rows["end"] / length_R).groupby(rows["video"]).max().median())
    much = TOO_LONG if stated else NOT_SECONDS
    what = "durations of their videos" if stated else "ends of the last instances"
    found = f"times {ratio:.3g} times the {what} (median)"
    if (rows["start"] > length_R + SLACK).all() and (stated or ratio >= much):
        raise BadInput(path, f"{found}; all predictions start after the end of their video", "seconds", UNITS)
    if ratio >= much and fractions(*_ends(rows, videos)):
        found = f"{found}, but no instance ends after 1: fractions of the video"
        raise BadInput(path, found, f"seconds, here and in {truth.path}", UNITS)
    if ratio >= much:
        log.warning("%s: %s; are they seconds? %s", path, found, UNITS)
    elif rows["end"].max() <= FRACTION and length_R.median() >= NOT_SECONDS:
        if len(rows) >= FEW:
            raise BadInput(path, f"{found}; no time above 1: fractions of the video", "seconds", UNITS)
        log.warning("%s: no time above 1: expected seconds, not fractions of the video", path)
    elif len(rows) >= FEW and ratio <= 1 / NOT_SECONDS and _apart(rows, videos):
        hint = f"give both in seconds: {UNITS}"
        raise BadInput(path, f"{found}; no prediction overlaps any instance", f"seconds, as in {truth.path}", hint)


def _ends(rows: pd.DataFrame, videos: Sequence[Video]) -> tuple[list[float], list[float]]:
    """The end of every instance of the predicted videos, and of its video's last prediction."""
    last = {str(name): float(end) for name, end in rows.groupby("video")["end"].max().items()}
    pairs = [(i.end, last[video.id]) for video in videos if video.id in last for i in video.instances]
    return [end for end, _ in pairs], [end for _, end in pairs]


def _apart(rows: pd.DataFrame, videos: Sequence[Video]) -> bool:
    """Whether no prediction, of any label, overlaps an instance of its video; needs at least `FEW` instances."""
    groups = {str(name): group for name, group in rows.groupby("video")}
    pairs = [(groups[video.id], i) for video in videos if video.id in groups for i in video.instances]
    met = (((rows["start"] <= i.end) & (rows["end"] >= i.start)).any() for rows, i in pairs)
    return len(pairs) >= FEW and not any(met)


def _tell_unlisted(path: Path, names: "pd.Series[str]", truth: Annotations, ids: set[str], unlisted: Unlisted) -> None:
    others = list(names.unique())
    unknown = [name for name in others if name not in truth.videos]
    like = nearest(unknown[0], ids) if unknown and _bare(unknown[0]) in map(_bare, ids) else ""
    become = "are left out" if unlisted == "ignore" else "are false positives; --unlisted ignore leaves them out"
    what = "that are not evaluated"
    log.warning("%s: %s for %s %s%s %s", path, _predictions(len(names)), some(others), what, like, become)


def _predictions(count: int) -> str:
    return f"{count:,} prediction{'' if count == 1 else 's'}"
