"""`um errors`: where predictions fail, as a JSON file and as tables (`um.report.errors.diagnosis` computes them)."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from um.datasets.annotations import Annotations
from um.errors import BadInput, printable
from um.evaluation.average_precision import average_precision
from um.evaluation.fitting import Population, Unlisted, population
from um.evaluation.matching import Bools, Floats
from um.evaluation.metrics import Matched, match_predictions, metrics_of, name_of
from um.evaluation.submission import read_submission
from um.params import Evaluate
from um.report.errors import diagnosis
from um.report.errors.diagnosis import BINS, FACTOR, IGNORED, KINDS, LEAST_PRECISION, OUTCOMES, TRUE, Binned
from um.report.table.render import SIMULATED, print_table

BEGINNING = '{\n "errors_of": "'  # of files we write
UNITS = {"length": (1, " s"), "coverage": (100, " %"), "per_video": (1, "")}


class Options(NamedTuple):
    """Options of an analysis.

    Attributes:
        subset: of the annotated videos; default: the layout's test subset.
        unlisted: whether predictions for other videos count, as in `um evaluate`.
        bins: a key of `BINS`, or auto: those that fit.
    """

    subset: str | None = None
    unlisted: Unlisted = "count"
    bins: str = "auto"


DEFAULT = Options()


def analyse(path: Path, truth: Annotations, settings: Evaluate, options: Options = DEFAULT) -> dict[str, Any]:
    """Analyse a file of predictions.

    Args:
        path: a submission.
        truth: annotations.
        settings: protocol, H thresholds, and whether videos without an entry count.
        options: subset, unlisted videos, bins.

    Returns:
        The content of `um errors --out`. Scores and shares are fractions in [0, 1], null where there is nothing to
        average; lists have one value per tIoU.

        - as in the metrics file: protocol to tiou, and `average_mAP`; also `average_mAP_N`.
        - `num_other_labels`: predictions with labels that no evaluated video has, left out.
        - `top`: the best `factor` · G predictions of each class: their number, scores, true positives and (thumos14)
          those ignored.
        - `kinds`: kind of false positive → its number, its share of the false positives, the mean share, and the gain
          in average mAP and mAP_N without it.
        - `by_rank`: share of every outcome in the best G predictions of each class, the next G, and so on; mean over
          thresholds.
        - `missed`: share of instances not detected (`diagnosis.detected`); `never_hit`: by any prediction.
        - `bins`, and `characteristics`: length (s), coverage (if durations are known), per_video (number of instances)
          → bins with bounds (`above` excluded, `up_to` included), number of instances, `average_mAP_N`, `missed`,
          `never_hit`.

    Raises:
        BadInput: unknown bins, or predictions that do not fit the annotations.
    """
    if options.bins not in ("auto", *BINS):
        found = f"--bins {options.bins}"
        raise BadInput("command line", found, " or ".join(("auto", *BINS)), "choose one of them")
    submitted = read_submission(path)
    scored = population(path, submitted, truth, options.subset, settings.missing, options.unlisted)
    return diagnosed(path, scored, settings, options.bins, simulated=submitted.simulated)


def diagnosed(
    path: Path, scored: Population, settings: Evaluate, bins: str = "auto", *, simulated: bool = False
) -> dict[str, Any]:
    """The same of predictions that are read already."""
    matched = match_predictions(scored.videos, scored.rows, settings)
    metrics = metrics_of(matched)
    values = diagnosis.characteristics(matched.videos, matched.truth)
    bins = diagnosis.bins_for(values) if bins == "auto" else bins
    missed_HG, never_HG = ~diagnosis.detected(matched), ~diagnosis.detected(matched, -1)
    score = metrics.pop("average_mAP")
    del metrics["mAP"], metrics["ap"]
    return {
        "errors_of": str(path),
        **metrics,
        "num_other_labels": len(scored.rows) - sum(len(ranking.row_R) for ranking in matched.rankings.values()),
        "num_missing": len(scored.absent),
        "missing_policy": settings.missing,
        "simulated": simulated,
        "average_mAP": score,
        "average_mAP_N": _normalised(matched),
        **false_positives(matched, scored.rows),
        "least_precision": LEAST_PRECISION,
        "missed": _listed(missed_HG.mean(axis=1)),
        "never_hit": _listed(never_HG.mean(axis=1)),
        "bins": bins,
        "characteristics": {
            name: _bins(matched, by, missed_HG, never_HG) for name, by in diagnosis.binned(values, bins).items()
        },
    }


def _normalised(matched: Matched) -> float:
    """Average mAP_N of all predictions."""
    once_BV, kit = np.ones((1, len(matched.videos)), np.int64), matched.settings.protocol == "thumos14"
    normal = diagnosis.positives(matched)
    ap = [average_precision(r, once_BV, interpolated=not kit, positives=normal) for r in matched.rankings.values()]
    return float(np.mean(ap))


def false_positives(matched: Matched, rows: pd.DataFrame) -> dict[str, Any]:
    """`top`, `kinds` and `by_rank` of `analyse`, for predictions `rows`."""
    found = diagnosis.outcomes(matched, rows)
    count_HO = diagnosis.tally(found)
    wrong_H1 = count_HO[:, : len(KINDS)].sum(axis=1, keepdims=True)
    share_HO = count_HO / np.maximum(wrong_H1, 1)
    plain, normal = diagnosis.gains(matched, found), diagnosis.gains(matched, found, diagnosis.positives(matched))
    count_FO = diagnosis.profile(matched, found)
    top = {
        "factor": FACTOR,
        "num_predictions": int(count_HO[0].sum()),
        "average_mAP": float(plain[0]),
        "average_mAP_N": float(normal[0]),
        "true_positives": count_HO[:, TRUE].tolist(),
    }
    kit = matched.settings.protocol == "thumos14"
    kinds = {
        kind: {
            "count": count_HO[:, k].tolist(),
            "share": share_HO[:, k].tolist(),
            "average_share": float(share_HO[:, k].mean()),
            "gain": max(0.0, float(plain[1 + k] - plain[0])),  # rounding can make it negative
            "gain_N": max(0.0, float(normal[1 + k] - normal[0])),
        }
        for k, kind in enumerate(KINDS)
    }
    share_FO = count_FO / np.maximum(count_FO.sum(axis=1, keepdims=True), 1)
    counted = OUTCOMES if kit else OUTCOMES[:IGNORED]
    by_rank = [dict(zip(counted, share_O.tolist(), strict=False)) for share_O in share_FO]
    return {
        "top": top | ({"ignored": count_HO[:, IGNORED].tolist()} if kit else {}),
        "kinds": kinds,
        "by_rank": by_rank,
    }


def _bins(matched: Matched, by: Binned, missed_HG: Bools, never_HG: Bools) -> list[dict[str, Any]]:
    count_V, score_V = np.bincount(by.bin_G, minlength=len(by.names)), diagnosis.sensitivity(matched, by)
    missed_VH, never_VH = by.share(missed_HG), by.share(never_HG)
    above, up_to = [0, *by.edges, None], [*by.edges, None, None]
    return [
        {
            "bin": name,
            "above": above[v] if name != diagnosis.UNKNOWN else None,
            "up_to": up_to[v],
            "num_instances": int(count_V[v]),
            "average_mAP_N": _listed(score_V)[v],
            "missed": _listed(missed_VH[v]),
            "never_hit": _listed(never_VH[v]),
        }
        for v, name in enumerate(by.names)
    ]


def _listed(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def show(found: dict[str, Any]) -> None:
    """Print an analysis."""
    print(printable(found["errors_of"]) + (f", {SIMULATED}" if found["simulated"] else ""))
    print(f"{found['subset']}: {found['num_videos']} videos, {found['num_instances']} instances; {found['protocol']}")
    if found["num_missing"]:
        become = "left out" if found["missing_policy"] == "drop" else "counted as misses"
        print(f"{found['num_missing']} without an entry, {become}")
    top, levels = found["top"], _levels(found["tiou"])
    print(f"all predictions: {_scores(found)}")
    print(f"best {top['num_predictions']}, {FACTOR} per instance: {_scores(top)}")
    heads = ["", *(f"tIoU\n{level}" for level in levels), "gain in\nmAP", "gain in\nmAP_N"]
    rows = [
        [kind, *map(_percent, [*_summary(one["share"]), one["gain"], one["gain_N"]])]
        for kind, one in found["kinds"].items()
    ]
    print_table("False positives, and gain without them, %", heads, rows)
    heads = ["", "number", "mAP_N", *(f"missed\n{level}" for level in levels)]
    bins = [(name, one) for name, listed in found["characteristics"].items() for one in listed]
    rows = [_cells("all", found), *(_cells(_described(name, one), one) for name, one in bins)]
    print_table("Instances, and those missed, %", heads, rows)
    if "coverage" not in found["characteristics"]:
        print("coverage: unknown, because the annotations have no durations")


def _scores(found: dict[str, Any]) -> str:
    return f"average mAP {_percent(found['average_mAP'])} %, mAP_N {_percent(found['average_mAP_N'])} %"


def _levels(tiou: list[float]) -> list[str]:
    return [name_of(tiou[h]) for h in _shown(len(tiou))] + (["mean"] if len(tiou) > 1 else [])


def _shown(count: int) -> list[int]:
    """The first, middle and last threshold."""
    return sorted({0, (count - 1) // 2, count - 1})


def _summary(values: list[Any]) -> list[Any]:
    """The values at the thresholds shown, and the mean of all."""
    mean = None if None in values else float(np.mean(values))
    return values if len(values) == 1 else [*(values[h] for h in _shown(len(values))), mean]


def _cells(name: str, one: dict[str, Any]) -> list[str]:
    return [name, str(one["num_instances"]), *map(_percent, [one["average_mAP_N"], *_summary(one["missed"])])]


def _described(name: str, one: dict[str, Any]) -> str:
    """A bin with its bound: `length XS ≤ 3 s`."""
    scale, unit = UNITS[name]
    title = f"{name.replace('_', ' ')} {one['bin']}"
    if one["up_to"] is not None:
        return f"{title} ≤ {scale * one['up_to']:g}{unit}"
    return title if one["above"] is None else f"{title} > {scale * one['above']:g}{unit}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
