"""The clock of features, and checks that it agrees with the annotations.

A video's length follows from its duration (or else the end of its last instance), and from rows x seconds per row.
docs/features.md explains legitimate differences and the limits below.

Shape legend: V videos.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from math import exp, lgamma, log1p
from math import log as ln
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from um.datasets.annotations import SLACK, Video
from um.errors import BadInput, some
from um.forms import Pace, Spec, load, validate

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

PUBLIC = Spec(fps=25, window=16)  # of public features
OPTION = "--feature-"
DRIFT = 0.04  # of a duration: ActivityNet's declared frame rates are within 3.9 % for 99.9 % of its videos
BIAS = 0.03  # likewise, for the median over videos; 0.1 % in ActivityNet, 1 % in ucf6 (short videos)
OUTLIERS = 10  # one video in ten may disagree
UNLIKELY, FEW = 0.03, 3  # significance level; fewest videos for a verdict
REACH = 0.9  # share of the features that some instance of many videos exceeds
RATES = (25, 30, 24, 15, 10, 50, 60, 5, 1)  # frames per second, common ones first
STRIDES, LONG_STRIDES = (16, 8, 4, 2, 1), (32, 64)  # frames
WIDTHS = (512, 1024, 2048, 4096)  # columns of public features
SHARPER = 0.5  # another clock is more likely if it at least halves the error
LONGEST_ROW = 5.0  # seconds; longer rows mean that the times are in another unit


class Clock(NamedTuple):
    """The time base of features.

    Attributes:
        spec: frames per second, frames per row, frames between rows and the middle of the first; or rows per video.
        origin: spec.json or command line; None if assumed, as for public features.
        made: whether `um extract` wrote the spec.json.
    """

    spec: Spec
    origin: str | Path | None = None
    made: bool = False

    def __str__(self) -> str:
        said = "assumed" if self.origin is None else f"from {self.origin}"
        if self.spec.rows:
            return f"{self.spec.rows} rows per video, rescaled to its duration ({said})"
        return f"{self.spec.snippet_seconds:.4g} s per row ({_words(self.spec)}; {said})"


def stated(
    fps: float | None = None, window: int | None = None, stride: int | None = None, rows: int | None = None
) -> Spec | None:
    """The clock given by options, with defaults as in public features; None without options.

    Raises:
        BadInput: a number out of range.
    """
    options = {"fps": fps, "window": window, "stride": stride, "rows": rows}
    given = {key: value for key, value in options.items() if value is not None}
    public = {"fps": PUBLIC.fps, "window": max(PUBLIC.window, stride or 0)}
    return validate(Spec, public | given, "command line", OPTION) if given else None


def read(specs: Sequence[Path], option: Spec | None) -> Clock:
    """The clock of features, from the spec.json files beside them and from options.

    Raises:
        BadInput: an invalid spec.json, or contradictory statements.
    """
    said = [Clock(load(Spec, path), path, path.with_name("index.json").is_file()) for path in specs]
    said += [Clock(option, "the command line")] if option else []
    for other in said[1:]:
        agree(str(other.origin), other.spec.pace, said[0].spec.pace, str(said[0].origin))
    return said[0] if said else Clock(PUBLIC)


def agree(where: str | Path, pace: Pace, other: Pace, who: str | Path) -> None:
    """Check that two statements of the pace agree.

    Raises:
        BadInput: they differ by more than rounding.
    """
    if not pace.agrees(other):
        found, expected = str(pace), f"{other}, as in {who}"
        hint = "use features with the same clock, or correct it (docs/features.md, Features from elsewhere)"
        raise BadInput(where, found, expected, hint)


def check_upright(features: Path, videos: Sequence[Video], shapes_V: Sequence[tuple[int, int]], clock: Clock) -> None:
    """Refuse transposed arrays (D, T): equal numbers of rows, and columns that vary or fit the durations.

    Raises:
        BadInput: transposed arrays.
    """
    rows_V, columns_V = np.array(shapes_V).T
    if len(set(rows_V)) > 1:
        return
    d_V = _durations(videos)
    known_V = np.isfinite(d_V)
    fit = known_V.any() and not clock.spec.rows and _share(clock.spec, columns_V[known_V], d_V[known_V]) > 0.9
    fit = fit and _share(clock.spec, rows_V[known_V], d_V[known_V]) < 0.1
    wide = rows_V[0] in WIDTHS and columns_V.max() < rows_V[0] and columns_V[0] not in WIDTHS
    if len(set(columns_V)) > 1 or fit or (wide and not known_V.any()):
        found = f"{rows_V[0]} rows and {_range(columns_V)} columns in {len(videos)} videos: arrays of (D, T)"
        raise BadInput(features, found, "floats (T, D), one row per snippet", "transpose them: np.load(file).T")


def check(
    features: Path, annotations: Path, clock: Clock, videos: Sequence[Video], rows_V: Sequence[int], streams: str
) -> None:
    """Compare the lengths of videos according to features and annotations.

    Args:
        features: folder, for errors.
        annotations: file, for errors.
        clock: of the features.
        videos: V videos.
        rows_V: their numbers of rows.
        streams: for errors.

    Raises:
        BadInput: more than a few disagree, or all disagree slightly in one direction; the hint names a clock that fits.
    """
    rows, d_V, last_V = np.array(rows_V), _durations(videos), _lasts(videos)
    if clock.spec.rows:
        _check_rescaled(features, annotations, clock, videos, rows)
        return
    seconds_V = _seconds(clock.spec, rows)
    known_V = np.isfinite(d_V)
    wrong_V = known_V & ~_agree(clock.spec, rows, d_V)
    short_V = ~known_V & _short(clock.spec, rows, last_V)
    systematic = _contradicted(clock.spec, rows[known_V], d_V[known_V])
    possible = partial(_possible, rows, d_V, last_V)
    if systematic or short_V.sum() > _few((~known_V).sum()):
        told_V = known_V if systematic else ~known_V & np.isfinite(last_V)
        statement_V = np.where(known_V, d_V, last_V)
        ratio_V = statement_V / seconds_V
        biased = systematic and wrong_V.sum() <= known_V.sum() // OUTLIERS
        blamed_V = known_V if biased else wrong_V if systematic else short_V
        worst = int(np.argmax(np.where(blamed_V, np.abs(np.log(np.maximum(ratio_V, 1e-9))), -1)))
        found = (
            f"{videos[worst].id}: {seconds_V[worst]:.4g} s in its {streams} features ({rows[worst]} rows, "
            f"{clock.spec.snippet_seconds:.4g} s per row), {statement_V[worst]:.4g} s "
            f"{'' if systematic else 'or more '}in {annotations.name}; {blamed_V.sum()} of {len(videos)} videos differ"
        )
        within = f"a difference of at most {_slack(clock.spec, statement_V[worst]):.2g} s"
        if biased:
            found += f", by {_bias(clock.spec, rows[known_V], d_V[known_V]):+.1%} (median)"
            within = f"a median between {-BIAS:+.0%} and {BIAS:+.0%}"
        if systematic:
            raise BadInput(features, found, within, _hint(features, clock, rows[told_V], d_V[told_V], possible()))
        row = float(np.quantile(last_V[told_V] / rows[told_V], 0.98))
        raise BadInput(features, found, within, _rough_hint(features, clock, rows[told_V], row, possible()))
    if wrong_V.any():
        named = some([video.id for video, wrong in zip(videos, wrong_V, strict=True) if wrong])
        first = int(np.argmax(wrong_V))
        found = f"the first is {seconds_V[first]:.4g} s long by its features, {d_V[first]:.4g} s by its annotations"
        log.warning("%s: lengths of %s differ from the annotations, %s: the right videos?", features, named, found)
    told_V = ~known_V & np.isfinite(last_V)
    assumed = clock.origin is None and not known_V.any()
    _check_reach(features, annotations, clock, last_V[told_V], rows[told_V], possible, assumed=assumed)


def _check_rescaled(
    features: Path, annotations: Path, clock: Clock, videos: Sequence[Video], rows_V: NDArray[np.int64]
) -> None:
    """Every video has the stated number of rows, and a duration to spread them over."""
    if other := [video.id for video, rows in zip(videos, rows_V, strict=True) if rows != clock.spec.rows]:
        found = f"{_range(rows_V)} rows per video: {some(other)}"
        raise BadInput(features, found, f"{clock.spec.rows} rows, as in {clock.origin}", "correct `rows`")
    if unknown := [video.id for video in videos if not video.duration]:
        hint = "rescaled features need durations to be placed in time: annotate them"
        raise BadInput(annotations, f"no duration of {some(unknown)}", "a duration per video", hint)


def _check_reach(
    features: Path,
    annotations: Path,
    clock: Clock,
    last_V: Floats,
    rows_V: NDArray[np.int64],
    possible: Callable[[], list[Spec]],
    *,
    assumed: bool,
) -> None:
    """Without durations: if all instances end long before the features, the clock is probably wrong.

    If last instances ended uniformly in their videos, the chance that at most k of n end after a share q would be that
    of at most k successes with probability 1 - q. Real ones end late: half of them after nine tenths. This is an error
    if the clock is `assumed`, i.e. supported by neither a statement nor a duration.
    """
    seconds_V = _seconds(clock.spec, rows_V)
    reach_V = np.sort(last_V / seconds_V)
    n, k = len(reach_V), len(reach_V) // OUTLIERS
    q = float(reach_V[n - 1 - k]) if n else 1.0
    if n < FEW or q >= REACH or _binomial(n, k, max(q, 1e-9)) > UNLIKELY:
        return
    found = (
        f"no instance after {q:.0%} of the features in {n - k} of the {n} videos without a duration in "
        f"{annotations.name}, {_range(seconds_V)} s at {clock.spec.snippet_seconds:.4g} s per row"
    )
    hint = _rough_hint(features, clock, rows_V, q * clock.spec.snippet_seconds, possible())
    if assumed:
        hint += f"; or, if 16 frames at 25 fps is right, use {OPTION}fps 25 or add durations"
    error = BadInput(features, found, "features no longer than the videos", hint)
    if assumed:
        raise error
    log.warning("%s", error)


def _binomial(n: int, k: int, q: float) -> float:
    """The probability of at most k successes in n trials with probability 1 - q."""
    return sum(
        exp(lgamma(n + 1) - lgamma(j + 1) - lgamma(n - j + 1) + j * log1p(-q) + (n - j) * ln(q)) for j in range(k + 1)
    )


def _durations(videos: Iterable[Video]) -> Floats:
    return np.array([video.duration or np.nan for video in videos], dtype=float)


def _lasts(videos: Iterable[Video]) -> Floats:
    ends = [max((instance.end for instance in video.instances), default=np.nan) for video in videos]
    return np.array(ends, dtype=float)


def _seconds(spec: Spec, rows: NDArray[np.int64]) -> Floats:
    """Seconds from the start of a video to the end of its last row's window."""
    frames: Floats = spec.middle + (rows - 1).astype(float) * (spec.stride or spec.window) + spec.window / 2
    return frames / spec.fps


def _short(spec: Spec, rows_V: NDArray[np.int64], last_V: Floats) -> NDArray[np.bool_]:
    """Which videos have an instance that ends after their last row."""
    short: NDArray[np.bool_] = last_V > _seconds(spec, rows_V) + spec.snippet_seconds + SLACK
    return short


def _few(videos: int) -> int:
    """Number of videos without a duration that may be too short."""
    return max(1, videos // OUTLIERS)


def _slack(spec: Spec, d: float | Floats) -> float | Floats:
    """Tolerance for a dropped or padded last snippet, a rounded duration and a wrong declared frame rate."""
    return SLACK + max(spec.window, spec.stride or 0) / spec.fps + DRIFT * d


def _agree(spec: Spec, rows_V: NDArray[np.int64], d_V: Floats) -> NDArray[np.bool_]:
    agreed: NDArray[np.bool_] = np.abs(_seconds(spec, rows_V) - d_V) <= _slack(spec, d_V)
    return agreed


def _biased(spec: Spec, rows_V: NDArray[np.int64], d_V: Floats) -> bool:
    """Whether videos tend to be too long, or too short, by more than the last snippet explains."""
    if len(d_V) < 5:
        return False
    off_V = _seconds(spec, rows_V) + spec.snippet_seconds / 2 - d_V
    return bool(abs(_bias(spec, rows_V, d_V)) > BIAS and abs(np.median(off_V)) > _slack(spec, 0.0))


def _bias(spec: Spec, rows_V: NDArray[np.int64], d_V: Floats) -> float:
    """Median relative difference of the features' lengths."""
    return float(np.median((_seconds(spec, rows_V) + spec.snippet_seconds / 2) / d_V - 1))


def _contradicted(spec: Spec, rows_V: NDArray[np.int64], d_V: Floats) -> bool:
    """Whether more than a few videos have another length, or all slightly in one direction."""
    return (~_agree(spec, rows_V, d_V)).sum() > len(d_V) // OUTLIERS or _biased(spec, rows_V, d_V)


def _off(spec: Spec, rows_V: NDArray[np.int64], d_V: Floats) -> float:
    """Median error in seconds."""
    return float(np.median(np.abs(_seconds(spec, rows_V) + spec.snippet_seconds / 2 - d_V)))


def _share(spec: Spec, rows_V: NDArray[np.int64], d_V: Floats) -> float:
    return float(_agree(spec, rows_V, d_V).mean())


def _hint(features: Path, clock: Clock, rows_V: NDArray[np.int64], d_V: Floats, possible: Sequence[Spec]) -> str:
    """An explanation of the lengths, and what to do."""
    row = float(np.median(d_V / rows_V))
    if (equal := _rescaled(rows_V)) and np.ptp(d_V) > _slack(clock.spec, d_V.min()):
        how = _rescale(features, clock, equal)
        return f"{equal} rows for videos of {_range(d_V)} s are features rescaled to one length: {how}"
    if (other := _other(clock, row)) is not None:
        return other
    fitting = _fitting(rows_V, d_V, possible)
    sharper = fitting and _off(fitting, rows_V, d_V) < SHARPER * _off(clock.spec, rows_V, d_V)
    if _share(clock.spec, rows_V, d_V) > 0.5 and not sharper and not _biased(clock.spec, rows_V, d_V):
        return "the others agree: are these the features, or the durations, of other videos?"
    if fitting:
        return f"by the annotations, rows are {row:.3g} s apart ({_words(fitting)}): {_said(features, clock, fitting)}"
    if _native(rows_V, d_V):
        fits = "rows fit 16 frames at each video's own frame rate, which is not one clock"
        return f"{fits}: extract all videos at one rate, as um extract does"
    return _doubt(features, clock)


def _doubt(features: Path, clock: Clock) -> str:
    return f"are these the features of these videos? if so, {_said(features, clock)}"


def _rough_hint(features: Path, clock: Clock, rows_V: NDArray[np.int64], row: float, possible: Sequence[Spec]) -> str:
    """Like `_hint`, from the ends of last instances, shortly before the videos' ends: `row` seconds per row."""
    if len(rows_V) > 3 and (equal := _rescaled(rows_V)):
        how = _rescale(features, clock, equal)
        return f"{equal} rows for every video may be features rescaled to one length: add durations, and {how}"
    if (other := _other(clock, row)) is not None:
        return other
    if not possible:
        return _doubt(features, clock)
    near = min(possible, key=lambda spec: abs(spec.snippet_seconds / row - 1.02))
    return f"by the annotations, rows are about {row:.2g} s apart ({_words(near)}): {_said(features, clock, near)}"


def _rescaled(rows_V: NDArray[np.int64]) -> int:
    """The length of nearly all videos; 0 if they differ."""
    values, counts = np.unique(rows_V, return_counts=True)
    return int(values[counts.argmax()]) if len(rows_V) > 1 and counts.max() >= 0.9 * len(rows_V) else 0


def _other(clock: Clock, row: float) -> str | None:
    if row > LONGEST_ROW:
        return "are the times of the annotations in seconds, not frames or milliseconds?"
    if clock.made:
        return "um extract made these features: are the annotations in seconds, and of the same videos?"
    return None


def _usual() -> list[Spec]:
    pairs = [*product(RATES, STRIDES), *product(RATES, LONG_STRIDES)]
    return [Spec(fps=fps, window=max(16, stride), stride=stride) for fps, stride in pairs]


def _possible(rows_V: NDArray[np.int64], d_V: Floats, last_V: Floats) -> list[Spec]:
    """The common clocks that pass `check`."""
    known_V = np.isfinite(d_V)
    few = _few((~known_V).sum())
    return [
        spec
        for spec in _usual()
        if not _contradicted(spec, rows_V[known_V], d_V[known_V])
        and _short(spec, rows_V[~known_V], last_V[~known_V]).sum() <= few
    ]


def _fitting(rows_V: NDArray[np.int64], d_V: Floats, possible: Sequence[Spec]) -> Spec | None:
    """The first clock with about the smallest error."""
    off = [_off(spec, rows_V, d_V) for spec in possible]
    return next((spec for spec, each in zip(possible, off, strict=True) if each <= min(off) + 0.05), None)


def _native(rows_V: NDArray[np.int64], d_V: Floats) -> bool:
    """Whether most videos fit 16 frames per row at some common rate."""
    fits = [_agree(Spec(fps=rate, window=16), rows_V, d_V) for rate in (*RATES, 12, 20)]
    return bool(np.any(fits, axis=0).mean() >= 0.8)


def _said(features: Path, clock: Clock, spec: Spec | None = None) -> str:
    """How and where to state the clock."""
    values = {"fps": f"{spec.fps:g}", "window": spec.window, "stride": spec.stride} if spec else _ASKED
    text = "{" + ", ".join(f'"{key}": {value}' for key, value in values.items()) + "}"
    options = " ".join(f"{OPTION}{key} {value}" for key, value in values.items())
    if isinstance(clock.origin, Path):
        return f"write {text} to {clock.origin}"
    return f"use {options}" if clock.origin else f"write {text} to {features / 'spec.json'}, or use {options}"


def _rescale(features: Path, clock: Clock, rows: int) -> str:
    """How and where to state that features are rescaled."""
    file = clock.origin if isinstance(clock.origin, Path) else features / "spec.json"
    return f'write {{"rows": {rows}}} to {file}' + (
        "" if isinstance(clock.origin, Path) else f", or use {OPTION}rows {rows}"
    )


_ASKED = {"fps": "FPS", "window": "FRAMES", "stride": "FRAMES"}


def _words(spec: Spec) -> str:
    stride = spec.stride or spec.window
    return f"{spec.window} frames" + (f" every {stride}" if stride != spec.window else "") + f" at {spec.fps:g} fps"


def _range(values: NDArray[np.int64] | Floats) -> str:
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low} to {high}"
