"""Where two systems differ: the average precision of every class, and the kinds of errors.

B resamples; C classes; S runs (seeds) of one system; V videos.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from um.datasets.annotations import Video
from um.evaluation.matching import Floats, Ints
from um.evaluation.metrics import Matched, match_predictions
from um.params import Evaluate
from um.report import bootstrap
from um.report.errors import diagnosis, errors
from um.report.errors.diagnosis import KINDS


@dataclass(frozen=True)
class Run(Matched):
    """Keeps the APs of resamples, which take seconds and which the average and the classes both need."""

    @cached_property
    def _kept(self) -> dict[str, Floats]:
        return {}

    def ap(self, weight_BV: Ints) -> dict[str, Floats]:
        """As of `Matched`; keeps the means over thresholds."""
        found = super().ap(weight_BV)
        self._kept[_digest(weight_BV)] = np.stack([ap_BH.mean(axis=1) for ap_BH in found.values()])
        return found

    def of_classes(self, weight_BV: Ints) -> Floats:
        """AP (C, B), mean over thresholds."""
        if _digest(weight_BV) not in self._kept:
            self.ap(weight_BV)
        return self._kept[_digest(weight_BV)]


Systems = tuple[Sequence[Run], Sequence[Run]]


def run(videos: Sequence[Video], predictions: pd.DataFrame, settings: Evaluate) -> Run:
    """As `um.evaluation.metrics.match_predictions`."""
    return Run(**vars(match_predictions(videos, predictions, settings)))


def _digest(weight_BV: Ints) -> str:
    return hashlib.sha256(weight_BV.tobytes()).hexdigest()


def classes(systems: Systems, resamples: int = bootstrap.RESAMPLES) -> list[dict[str, Any]]:
    """The AP of every class, as means over thresholds and runs; the largest differences first.

    Returns:
        `label`, `num_videos` and `num_instances` of the ground truth, `a`, `b`, `difference` (a − b), its bounds `low`
        and `high` from the resamples of `um.report.bootstrap.compare` in which the class occurs, and `differ`: whether
        they exclude 0. Null for a class of a single video, over which nothing can be resampled.
    """
    rankings = systems[0][0].rankings
    once_BV = np.ones((1, len(systems[0][0].videos)), np.int64)
    a_C, b_C = (np.mean([each.of_classes(once_BV)[:, 0] for each in runs], axis=0) for runs in systems)
    at_a_CB, at_b_CB = (resampled(runs, resamples, stream) for stream, runs in enumerate(systems, 1))
    found = []
    for c, (label, ranking) in enumerate(rankings.items()):
        difference, videos = float(a_C[c] - b_C[c]), int((ranking.instances_V > 0).sum())
        low, high = bootstrap.interval(at_a_CB[c] - at_b_CB[c], difference) if videos > 1 else (None, None)
        entry = {
            "label": label,
            "num_videos": videos,
            "num_instances": int(ranking.instances_V.sum()),
            "a": float(a_C[c]),
            "b": float(b_C[c]),
            "difference": difference,
            "low": low,
            "high": high,
            "differ": None if low is None or high is None else low > 0 or high < 0,
        }
        found.append(entry)
    return sorted(found, key=lambda entry: (-abs(entry["difference"]), entry["label"]))


def resampled(runs: Sequence[Run], resamples: int, stream: int, seed: int = 0) -> Floats:
    """The AP (C, B) of every class in the resamples of `um.report.bootstrap.resample_runs`, mean over thresholds."""
    weight_BV = bootstrap.draws(len(runs[0].videos), resamples, seed)
    ap_SCB = np.stack([each.of_classes(weight_BV) for each in runs])
    drawn_BS = np.random.default_rng([seed, stream]).integers(len(runs), size=(resamples, len(runs)))
    mean_BC: Floats = ap_SCB[drawn_BS, :, np.arange(resamples)[:, None]].mean(axis=1)
    return mean_BC.T


def kinds(systems: Systems, rows: tuple[Sequence[pd.DataFrame], Sequence[pd.DataFrame]]) -> list[dict[str, Any]]:
    """The kinds of false positives of `um errors`, and missed instances, as means over thresholds and runs.

    Args:
        systems: matched with the same videos.
        rows: the predictions of every run.

    Returns:
        `kind`, and for `a`, `b` and `difference` (a − b): `count`, `share` of the false positives, `gain` in average
        mAP without them. The last entry, `missed instance`, has a share of the instances, and null as gain.
    """
    a, b = (
        [_errors(each, frame) for each, frame in zip(runs, frames, strict=True)]
        for runs, frames in zip(systems, rows, strict=True)
    )
    found = []
    for kind in a[0]:
        of_a, of_b = (_means([each[kind] for each in system]) for system in (a, b))
        difference = {key: None if value is None else value - of_b[key] for key, value in of_a.items()}
        found.append({"kind": kind, "a": of_a, "b": of_b, "difference": difference})
    return found


def _errors(matched: Matched, rows: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Mean count, share and gain of every kind in one run."""
    judged = errors.false_positives(matched, rows)["kinds"]
    found: dict[str, dict[str, float | None]] = {
        kind: {
            "count": float(np.mean(judged[kind]["count"])),
            "share": judged[kind]["average_share"],
            "gain": judged[kind]["gain"],
        }
        for kind in KINDS
    }
    missed_HG = ~diagnosis.detected(matched)
    count = float(missed_HG.sum(axis=1).mean())
    return found | {"missed instance": {"count": count, "share": float(missed_HG.mean()), "gain": None}}


def _means(runs: Sequence[dict[str, float | None]]) -> dict[str, Any]:
    values = {key: [each[key] for each in runs] for key in runs[0]}
    return {key: None if None in value else float(np.mean(value)) for key, value in values.items()}  # type: ignore[arg-type]
