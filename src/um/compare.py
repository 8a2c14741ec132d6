"""Whether two systems differ: their predictions for the same videos, scored on the same resamples of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from um.datasets.annotations import Video
from um.errors import BadInput, some
from um.evaluation import bootstrap
from um.evaluation.metrics import Matched, match_predictions
from um.params import Evaluate, threshold_range
from um.submission import read_submission
from um.table import print_table


def compare(a: Path, b: Path, videos: Sequence[Video], settings: Evaluate, resamples: int) -> dict[str, Any]:
    """Compare two systems by average mAP.

    Args:
        a: predictions.json, or a folder that holds it, or one that holds seed*/predictions.json.
        b: the same of the other system.
        videos: ground truth.
        settings: protocol and thresholds.
        resamples: of the bootstrap.

    Returns:
        What `um compare --out` writes; scores are fractions in [0, 1], `difference` is a − b, `low` and `high` bound
        it, and `p_value` is that of `um.evaluation.bootstrap.Difference`.

    Raises:
        BadInput: no predictions, or predictions for different videos.
    """
    files = [_files(path) for path in (a, b)]
    if settings.missing == "drop":
        there = set().union(*(read_submission(file).videos for listed in files for file in listed))
        videos = [video for video in videos if video.id in there]
    first: tuple[Path, set[str]] | None = None
    systems: list[list[Matched]] = []
    for listed in files:
        systems.append([])
        for file in listed:
            submission = read_submission(file)
            covered = {video.id for video in videos}.intersection(submission.videos)
            first = first or (file, covered)
            _check_same(*first, file, covered)
            systems[-1].append(match_predictions(videos, submission.predictions, settings))
    found = bootstrap.compare(systems[0], systems[1], resamples)
    return {
        "protocol": settings.protocol,
        "subset": videos[0].subset,
        "num_videos": len(videos),
        "num_instances": systems[0][0].num_instances,
        "tiou": threshold_range(settings.tiou),
        "a": {"path": str(a), "predictions": [str(file) for file in files[0]], "average_mAP": found.a},
        "b": {"path": str(b), "predictions": [str(file) for file in files[1]], "average_mAP": found.b},
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
    rows = []
    for name in ("a", "b"):
        system = found[name]
        score, runs = f"{100 * system['average_mAP']:.1f}", str(len(system["predictions"]))
        rows.append([f"{name.upper()}: {system['path']}", score, "", "", runs])
    bounds = f"[{100 * found['low']:.1f}, {100 * found['high']:.1f}]"
    rows.append(["A − B", f"{100 * found['difference']:+.1f}", bounds, f"{found['p_value']:.3g}", ""])
    print_table(title, ["average mAP", "%", f"{100 * found['level']:.0f} % interval", "p", "runs"], rows)
    verdict = "differ" if found["differ"] else "are not shown to differ"
    print(f"A and B {verdict} (p {'<' if found['differ'] else '>='} {1 - found['level']:.2g}).")


def _files(path: Path) -> list[Path]:
    """The prediction files of one system: of every seed, or a single one."""
    if path.is_file():
        return [path]
    if seeds := sorted(path.glob("seed*/predictions.json")):
        return seeds
    if (path / "predictions.json").is_file():
        return [path / "predictions.json"]
    found = "neither predictions.json nor seed*/predictions.json" if path.is_dir() else "no such file or folder"
    raise BadInput(path, found, "predictions of one system", "um test writes them")


def _check_same(first: Path, expected: set[str], file: Path, covered: set[str]) -> None:
    if not covered:
        raise BadInput(file, "none of the annotated videos", "predictions for them", "are --annotations theirs?")
    for path, other, missing in ((file, first, expected - covered), (first, file, covered - expected)):
        if missing:
            found = f"no entry for {some(sorted(missing))}"
            raise BadInput(path, found, f"the same videos as {other}", 'a video without predictions has the entry "[]"')
