"""Whether two systems differ: their predictions for the same videos, scored on the same resamples of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from um.datasets.annotations import Annotations
from um.errors import BadInput, some
from um.evaluation.fitting import NOTHING_LEFT, Unlisted, fitted
from um.evaluation.metrics import Matched, match_predictions
from um.evaluation.submission import Submission, read_submission
from um.params import Evaluate, threshold_range
from um.report import bootstrap
from um.report.table import SIMULATED, print_table

BEGINNING = '{\n "a": {'  # of the files that we write
SELECTIONS = ("last", "selected", "best_on_test")  # the first lies in seed*/ itself, the others in folders there


def compare(
    a: Path,
    b: Path,
    truth: Annotations,
    subset: str | None,
    settings: Evaluate,
    resamples: int,
    selection: str | None = None,
    unlisted: Unlisted = "count",
) -> dict[str, Any]:
    """Compare two systems by average mAP.

    Args:
        a: predictions.json, or a folder that holds it, or one that holds seed*/predictions.json.
        b: the same of the other system.
        truth: annotations.
        subset: of their videos; the one that the layout tests on by default.
        settings: protocol and thresholds.
        resamples: of the bootstrap.
        selection: which models of the folders: one of `SELECTIONS`; what lies in seed*/ itself by default.
        unlisted: whether predictions for other videos count, as in `um evaluate`.

    Returns:
        What `um compare --out` writes; scores are fractions in [0, 1], `difference` is a − b, `low` and `high` bound
        it, and `p_value` is that of `um.report.bootstrap.Difference`.

    Raises:
        BadInput: no predictions, predictions for different videos, or of another selection than asked for.
    """
    submitted = [{file: read_submission(file) for file in _files(path, selection)} for path in (a, b)]
    if selection:
        _check_selection(submitted, selection)
    videos = truth.evaluated(subset)
    rows = {file: fitted(file, found, truth, videos, unlisted) for files in submitted for file, found in files.items()}
    annotated = len(videos)
    if settings.missing == "drop":
        there = set().union(*(submission.videos for files in submitted for submission in files.values()))
        videos = [video for video in videos if video.id in there]
    if not videos:
        raise BadInput(a, *NOTHING_LEFT)
    first: tuple[Path, set[str]] | None = None
    systems: list[list[Matched]] = []
    for files in submitted:
        systems.append([])
        for file, submission in files.items():
            covered = {video.id for video in videos}.intersection(submission.videos)
            first = first or (file, covered)
            _check_same(*first, file, covered)
            systems[-1].append(match_predictions(videos, rows[file], settings))
    found = bootstrap.compare(systems[0], systems[1], resamples)
    return {
        "a": _about(a, submitted[0], selection) | _scored(systems[0], found.a),
        "b": _about(b, submitted[1], selection) | _scored(systems[1], found.b),
        "protocol": settings.protocol,
        "subset": videos[0].subset,
        "num_videos": len(videos),
        "num_instances": systems[0][0].num_instances,
        "num_missing": annotated - len(videos),
        "tiou": threshold_range(settings.tiou),
        "difference": found.difference,
        "low": found.interval.low,
        "high": found.interval.high,
        "level": bootstrap.LEVEL,
        "p_value": found.p_value,
        "resamples": resamples,
        "differ": found.differ,
    }


def show(found: dict[str, Any]) -> None:
    """Print a comparison."""
    title = f"{found['subset']}: {found['num_videos']} videos, {found['num_instances']} instances; {found['protocol']}"
    if found["num_missing"]:
        title += f"\n{found['num_missing']} without an entry, left out"
    rows = []
    for name in ("a", "b"):
        system = found[name]
        score, runs = f"{100 * system['average_mAP']:.1f}", str(len(system["predictions"]))
        named = f"{name.upper()}: {system['path']}" + (f", {SIMULATED}" if system["simulated"] else "")
        rows.append([named, score, "", "", runs, " and ".join(system["selection"])])
    bounds = f"[{100 * found['low']:.1f}, {100 * found['high']:.1f}]"
    rows.append(["A − B", f"{100 * found['difference']:+.1f}", bounds, f"{found['p_value']:.3g}", "", ""])
    heads = ["average mAP", "%", f"{100 * found['level']:.0f} % interval", "p", "runs", "model selection"]
    print_table(title, heads, rows)
    verdict = "differ" if found["differ"] else "are not shown to differ"
    print(f"A and B {verdict} (p {'<' if found['differ'] else '>='} {1 - found['level']:.2g}).")


def _files(path: Path, selection: str | None) -> list[Path]:
    """The prediction files of one system: of every seed, or a single one."""
    if selection and selection not in SELECTIONS:
        raise BadInput("command line", f"--selection {selection}", " or ".join(SELECTIONS), "choose one of them")
    if path.is_file():
        return [path]
    inner = Path("" if selection in (None, "last") else selection) / "predictions.json"
    if seeds := sorted(path.glob(str("seed*" / inner))):
        return seeds
    if (path / inner).is_file():
        return [path / inner]
    found = f"neither {inner} nor {'seed*' / inner}" if path.is_dir() else "no such file or folder"
    raise BadInput(path, found, "predictions of one system", "um test writes them")


def _check_selection(submitted: Sequence[dict[Path, Submission]], selection: str) -> None:
    for file, submission in ((file, found) for files in submitted for file, found in files.items()):
        stated = submission.model["selection"] if submission.model else selection
        if stated != selection:
            hint = "name another file or --selection, or run um test again"
            raise BadInput(file, f"predictions of the model {stated!r}", repr(selection), hint)


def _about(path: Path, files: dict[Path, Submission], selection: str | None) -> dict[str, Any]:
    """What is known of a system: a file states its model's selection itself, or else by the folder it was found in."""
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


def _check_same(first: Path, expected: set[str], file: Path, covered: set[str]) -> None:
    for path, other, missing in ((file, first, expected - covered), (first, file, covered - expected)):
        if missing:
            found = f"no entry for {some(sorted(missing))}"
            raise BadInput(path, found, f"the same videos as {other}", 'a video without predictions has the entry "[]"')
