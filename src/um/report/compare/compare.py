"""Comparison of two systems: predictions for the same videos, scored on the same resamples, and what differs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from um.datasets.annotations import Annotations
from um.errors import BadInput, some
from um.evaluation.fitting import NOTHING_LEFT, Unlisted, fitted
from um.evaluation.metrics import Matched
from um.evaluation.submission import Submission, read_submission
from um.evaluation.thresholds import threshold_range
from um.params import SELECTIONS, Evaluate
from um.report import bootstrap
from um.report.compare import moves
from um.report.compare.differs import differences

BEGINNING = '{\n "a": {'  # of files we write


class Options(NamedTuple):
    """Options of a comparison.

    Attributes:
        subset: of the annotated videos; default: the layout's test subset.
        selection: one of `SELECTIONS`, for folders; default: the predictions in seed*/ itself.
        unlisted: whether predictions for other videos count, as in `um evaluate`.
        resamples: of the bootstrap.
    """

    subset: str | None = None
    selection: str | None = None
    unlisted: Unlisted = "count"
    resamples: int = bootstrap.RESAMPLES


DEFAULT = Options()


def compare(a: Path, b: Path, truth: Annotations, settings: Evaluate, options: Options = DEFAULT) -> dict[str, Any]:
    """Compare two systems: average mAP, settings and data, classes, and kinds of errors.

    Args:
        a: predictions.json, or a folder with it or with seed*/predictions.json.
        b: the same for the other system.
        truth: annotations.
        settings: protocol and thresholds.
        options: subset, selection, unlisted videos, resamples.

    Returns:
        The content of `um compare --out` and `--json`. Scores are fractions in [0, 1]; `difference` is always a − b.

        - `a`, `b`: `path`, `predictions`, `selection`, `simulated`, `average_mAP` (mean over runs), `num_unlisted`.
        - `protocol`, `subset`, `num_videos`, `num_instances`, `num_missing` (left out), `tiou`: of both.
        - `difference` of the average mAP with bounds `low` and `high` at `level`, from `resamples`; `p_value` and
          `differ` as in `um.report.bootstrap.Difference`.
        - `what_differs`: as `um.report.compare.differs.differences` returns it.
        - `classes`: as `um.report.compare.moves.classes`; `kinds`: as `um.report.compare.moves.kinds`.

    Raises:
        BadInput: no predictions, predictions for different videos, or another selection than requested.
    """
    files_a, files_b = ({file: read_submission(file) for file in _files(path, options.selection)} for path in (a, b))
    files = files_a | files_b
    if options.selection:
        _check_selection(files, options.selection)
    annotated = truth.evaluated(options.subset)
    rows = {file: fitted(file, found, truth, annotated, options.unlisted) for file, found in files.items()}
    videos = annotated
    if settings.missing == "drop":
        listed = set().union(*(submission.videos for submission in files.values()))
        videos = [video for video in annotated if video.id in listed]
    if not videos:
        raise BadInput(a, *NOTHING_LEFT)
    _check_same(files, {video.id for video in videos})
    rows_a, rows_b = ([rows[file] for file in of] for of in (files_a, files_b))
    runs_a, runs_b = ([moves.run(videos, each, settings) for each in of] for of in (rows_a, rows_b))
    found = bootstrap.compare(runs_a, runs_b, options.resamples)
    return {
        "a": _about(a, files_a, options.selection) | _scored(runs_a, found.a),
        "b": _about(b, files_b, options.selection) | _scored(runs_b, found.b),
        "protocol": settings.protocol,
        "subset": videos[0].subset,
        "num_videos": len(videos),
        "num_instances": runs_a[0].num_instances,
        "num_missing": len(annotated) - len(videos),
        "tiou": threshold_range(settings.tiou),
        "difference": found.difference,
        "low": found.interval.low,
        "high": found.interval.high,
        "level": bootstrap.LEVEL,
        "p_value": found.p_value,
        "resamples": options.resamples,
        "differ": found.differ,
        "what_differs": differences(files_a, files_b),
        "classes": moves.classes((runs_a, runs_b), options.resamples),
        "kinds": moves.kinds((runs_a, runs_b), (rows_a, rows_b)),
    }


def _files(path: Path, selection: str | None) -> list[Path]:
    """The prediction files of one system: one per seed, or a single one."""
    if selection and selection not in SELECTIONS:
        raise BadInput("command line", f"--selection {selection}", " or ".join(SELECTIONS), "choose one of them")
    if path.is_file():
        return [path]
    inner = Path(SELECTIONS[selection or "last"][0]) / "predictions.json"
    if seeds := sorted(path.glob(str("seed*" / inner))):
        return seeds
    if (path / inner).is_file():
        return [path / inner]
    found = f"neither {inner} nor {'seed*' / inner}" if path.is_dir() else "no such file or folder"
    raise BadInput(path, found, "predictions of one system", "um test writes them")


def _check_selection(files: dict[Path, Submission], selection: str) -> None:
    for file, submission in files.items():
        stated = submission.model["selection"] if submission.model else selection
        if stated != selection:
            hint = "use another file or --selection, or run um test again"
            raise BadInput(file, f"predictions of the model {stated!r}", repr(selection), hint)


def _about(path: Path, files: dict[Path, Submission], selection: str | None) -> dict[str, Any]:
    """Facts about a system; a file that does not state its selection gets that of its folder."""
    by_place = (selection if path.is_dir() else None) or "unknown"
    stated = {found.model["selection"] if found.model else by_place for found in files.values()}
    return {
        "path": str(path),
        "predictions": [str(file) for file in files],
        "selection": sorted(stated),
        "simulated": any(found.simulated for found in files.values()),
    }


def _scored(runs: Sequence[Matched], score: float) -> dict[str, Any]:
    return {"average_mAP": score, "num_unlisted": sum(run.num_unlisted for run in runs)}


def _check_same(files: dict[Path, Submission], evaluated: set[str]) -> None:
    """Check that all files have entries for the same evaluated videos."""
    covered = {file: evaluated.intersection(submission.videos) for file, submission in files.items()}
    first = next(iter(covered))
    for file, ids in covered.items():
        for lacking, other, absent in ((file, first, covered[first] - ids), (first, file, ids - covered[first])):
            if absent:
                found, expected = f"no entry for {some(sorted(absent))}", f"the same videos as {other}"
                raise BadInput(lacking, found, expected, 'give a video without predictions the entry "[]"')
