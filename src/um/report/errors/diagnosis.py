"""Error analysis of a detector, after DETAD (Alwassel et al., "Diagnosing Error in Temporal Action Detectors", 2018).

G instances of C classes; H tIoU thresholds α; R ranked predictions of one class; V bins or other groups.

- **False positives** (`outcomes`): of each class, the best `FACTOR` · G predictions, G its number of instances. Each is
  a true positive or one of `KINDS`, by the instance of any label that it overlaps most.
- **Gain** (`gains`): average mAP without the false positives of one kind, minus average mAP with them.
- **Sensitivity** (`sensitivity`): average mAP_N of all predictions, for the instances of one bin of a characteristic.
- **Missed instances** (`detected`): no prediction hits them at a normalised precision above `LEAST_PRECISION`.

mAP_N is the normalised mAP of Hoiem et al. (2012): every class, or the part of it in a bin, has the precision that it
would have with N instances, the mean per class. Bins with many and with few instances are therefore comparable.

Differences from DETAD's code: N is not rounded down; an instance longer than its video counts as covering it, and one
of zero length is missed (DETAD leaves both out); if a prediction overlaps two instances equally, the one with its label
decides (DETAD: the first in the file); sensitivity at one threshold does not depend on the others. DETAD's context size
and distance and the agreement of annotators are left out: they need further annotations.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from um.datasets.annotations import Video
from um.evaluation.average_precision import average_precision, normalised_precision
from um.evaluation.matching import Bools, Floats, Ints, Ranking, best_overlaps
from um.evaluation.metrics import Matched
from um.evaluation.thresholds import threshold_range
from um.report.bootstrap import over_classes

KINDS = ("double detection", "wrong label", "localisation", "confusion", "background")
DOUBLE, WRONG_LABEL, LOCALISATION, CONFUSION, BACKGROUND, TRUE, IGNORED = range(7)
OUTCOMES = (*KINDS, "true positive", "ignored")
FACTOR = 10
NEAR = 0.1  # least IoU of a prediction that is not background
LEAST_PRECISION = 0.05  # hits at a normalised precision up to this find nothing
UNKNOWN = "unknown"
SIZES = ("XS", "S", "M", "L", "XL")
BINS: dict[str, dict[str, tuple[float, ...]]] = {  # upper edges, which belong to their bin; the last bin is open
    "activitynet": {"length": (30, 60, 120, 180), "coverage": (0.2, 0.4, 0.6, 0.8), "per_video": (1, 4, 8)},
    "thumos14": {"length": (3, 6, 12, 18), "coverage": (0.02, 0.04, 0.06, 0.08), "per_video": (1, 40, 80)},
}
SHORT = BINS["thumos14"]["length"][-1]

Codes = NDArray[np.int8]
ByClass = Mapping[str, NDArray[np.integer]]


class Binned(NamedTuple):
    """The bins of one characteristic.

    Attributes:
        edges: upper edges of all bins but the last.
        names: of the V bins: `SIZES`, and `UNKNOWN` if some instances have no value.
        bin_G: of every instance.
    """

    edges: tuple[float, ...]
    names: tuple[str, ...]
    bin_G: Ints

    def share(self, chosen_HG: Bools) -> Floats:
        """Share of each bin's instances that are chosen: (V, H); NaN for an empty bin."""
        count_V = np.bincount(self.bin_G, minlength=len(self.names))
        chosen_VH = np.array([np.bincount(self.bin_G[one_G], minlength=len(self.names)) for one_G in chosen_HG]).T
        share_VH = np.full(chosen_VH.shape, np.nan)
        np.divide(chosen_VH, count_V[:, None], out=share_VH, where=count_V[:, None] > 0)
        return share_VH


def characteristics(videos: Sequence[Video], truth: pd.DataFrame) -> pd.DataFrame:
    """Of every instance: length (s), coverage (length / duration of its video, at most 1), instances per video.

    As in DETAD's published file for THUMOS14, instances of all labels count. Coverage is NaN for unknown durations.
    """
    duration = truth["video"].map({video.id: video.duration for video in videos}).astype(float)
    length = truth["end"] - truth["start"]
    count = truth.groupby("video")["label"].transform("size")
    return pd.DataFrame({"length": length, "coverage": (length / duration).clip(upper=1), "per_video": count})


def bins_for(values: pd.DataFrame) -> str:
    """The bins that fit: THUMOS14's if at least half of the instances are shorter than its last edge of length."""
    return "thumos14" if (values["length"] < SHORT).mean() >= 0.5 else "activitynet"


def binned(values: pd.DataFrame, bins: str) -> dict[str, Binned]:
    """Every characteristic with a known value in the bins of one dataset."""
    found = {}
    for name, edges in BINS[bins].items():
        value_G = values[name].to_numpy(np.float64)
        unknown_G = np.isnan(value_G)
        if not unknown_G.all():
            names = (*SIZES[: len(edges) + 1], *([UNKNOWN] if unknown_G.any() else []))
            bin_G = np.where(unknown_G, len(edges) + 1, np.searchsorted(edges, value_G))
            found[name] = Binned(edges, names, bin_G)
    return found


def outcomes(matched: Matched, predictions: pd.DataFrame) -> dict[str, Codes]:
    """The outcome of the best `FACTOR` · G predictions of every class, as codes of `OUTCOMES`: class → (H, R).

    A prediction that hits no instance is judged by the instance of any label in its video that it overlaps most, by IoU
    o. At least α (`thumos14`: above α): a double detection, or a wrong label if the instance has another label than the
    prediction. Below, but at least `NEAR`: localisation, or confusion. Otherwise background, like all predictions for
    videos that are not evaluated. A double detection's instance is always taken: by a prediction with a better score,
    or under `thumos14` with a better overlap. Under `thumos14`, misses that touch an ambiguous segment are ignored.
    """
    kit = matched.settings.protocol == "thumos14"
    tiou_H1 = np.array(threshold_range(matched.settings.tiou))[:, None]
    tops = {label: ranking.row_R[: FACTOR * ranking.instances_V.sum()] for label, ranking in matched.rankings.items()}
    rows = predictions.iloc[np.concatenate(list(tops.values()))]
    ids = [video.id for video in matched.videos]
    any_N, own_N = best_overlaps(ids, matched.truth, rows, min(NEAR, tiou_H1[0, 0]), kit=kit)
    own_label_N = own_N == any_N
    reached_HN = any_N > tiou_H1 if kit else any_N >= tiou_H1
    missed_N = np.where(any_N < NEAR, BACKGROUND, np.where(own_label_N, LOCALISATION, CONFUSION))
    code_HN = np.where(reached_HN, np.where(own_label_N, DOUBLE, WRONG_LABEL), missed_N).astype(np.int8)
    ends = np.cumsum([len(row_R) for row_R in tops.values()])
    found = dict(zip(tops, np.split(code_HN, ends[:-1], axis=1), strict=True))
    for label, code_HR in found.items():
        ranking, top = matched.rankings[label], code_HR.shape[1]
        code_HR[:, ranking.ignored_R[:top]] = IGNORED
        code_HR[ranking.hit_HR[:, :top]] = TRUE
    return found


def tally(found: Mapping[str, Codes]) -> Ints:
    """Number of predictions with each of `OUTCOMES` at every threshold: (H, outcomes)."""
    code_HN = np.concatenate(list(found.values()), axis=1)
    return np.array([np.bincount(code_N, minlength=len(OUTCOMES)) for code_N in code_HN])


def profile(matched: Matched, found: Mapping[str, Codes]) -> Ints:
    """Like `tally`, summed over thresholds, in each of F = `FACTOR` slices of G ranks: (F, outcomes)."""
    count_FO = np.zeros((FACTOR, len(OUTCOMES)), np.int64)
    for label, code_HR in found.items():
        slice_R = np.arange(code_HR.shape[1]) // matched.rankings[label].instances_V.sum()
        np.add.at(count_FO, (np.broadcast_to(slice_R, code_HR.shape), code_HR), 1)
    return count_FO


def positives(matched: Matched) -> float:
    """N of mAP_N: the mean number of instances of a class."""
    return matched.num_instances / len(matched.rankings)


def gains(matched: Matched, found: Mapping[str, Codes], normal: float | None = None) -> Floats:
    """Average mAP of the predictions in `found`, and of these without each of `KINDS`; mAP_N if N is given."""
    group = {label: np.minimum(code_HR, TRUE) for label, code_HR in found.items()}
    instances = {label: np.eye(TRUE + 1, dtype=np.int64)[TRUE] * r.instances_V.sum() for label, r in _classes(matched)}
    without_BV = np.ones((TRUE + 1, TRUE + 1), np.int64)
    without_BV[np.arange(1, TRUE + 1), np.arange(TRUE)] = 0
    return _average(matched, group, instances, without_BV, normal)


def sensitivity(matched: Matched, by: Binned) -> Floats:
    """Average mAP_N for the instances of each bin: (V,); NaN for an empty bin.

    Predictions that hit an instance of another bin are left out; classes without an instance in the bin, too.
    """
    size = len(by.names)
    bin_G1 = np.append(by.bin_G, size)  # the last one: false positives, which count in every bin
    group = {label: bin_G1[ranking.instance_HR] for label, ranking in _classes(matched)}
    label_G = matched.truth["label"].to_numpy()
    instances = {label: np.bincount(by.bin_G[label_G == label], minlength=size) for label in matched.rankings}
    return _average(matched, group, instances, np.eye(size, dtype=np.int64), positives(matched))


def _classes(matched: Matched) -> list[tuple[str, Ranking]]:
    return list(matched.rankings.items())


def _average(
    matched: Matched, group: ByClass, instances: Mapping[str, Ints], weight_BV: Ints, normal: float | None
) -> Floats:
    """Average mAP with some groups of predictions left out: groups take the place of `average_precision`'s videos.

    Args:
        matched: gives hits and ignored predictions.
        group: class → group of its first R predictions at every threshold (H, R); V: always kept.
        instances: class → its instances in every group (V,).
        weight_BV: groups to keep.
        normal: N, for mAP_N.

    Returns:
        (B,).
    """
    interpolated, ap_CBH = matched.settings.protocol == "activitynet", []
    for label, ranking in matched.rankings.items():
        top, ap_HB = group[label].shape[1], []
        for h, group_R in enumerate(group[label]):
            hits_R, ignored_R = ranking.instance_HR[h : h + 1, :top], ranking.ignored_R[:top]
            one = Ranking(group_R.astype(np.int64), hits_R, ignored_R, instances[label], ranking.row_R[:top])
            ap_HB.append(average_precision(one, weight_BV, interpolated=interpolated, positives=normal)[:, 0])
        ap_CBH.append(np.array(ap_HB).T)
    mean_B: Floats = over_classes(np.array(ap_CBH)).mean(axis=1)
    return mean_B


def detected(matched: Matched, least: float = LEAST_PRECISION) -> Bools:
    """Whether a prediction hits each instance, at a normalised precision above `least`, at every threshold: (H, G).

    DETAD's 0.05 excludes hits among many false positives; -1 takes every hit.
    """
    found_HG = np.zeros((len(threshold_range(matched.settings.tiou)), len(matched.truth)), dtype=bool)
    for ranking in matched.rankings.values():
        hit_HR = ranking.hit_HR
        true_HR, wrong_HR = (
            np.cumsum(each_HR, axis=1, dtype=np.int64) for each_HR in (hit_HR, ~hit_HR & ~ranking.ignored_R)
        )
        precision_HR = normalised_precision(true_HR, wrong_HR, positives(matched) / ranking.instances_V.sum())
        level, rank = np.nonzero(hit_HR & (precision_HR > least))
        found_HG[level, ranking.instance_HR[level, rank]] = True
    return found_HG
