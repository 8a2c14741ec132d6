"""Numbers of the report's figures that follow from scores and matched predictions."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from um.evaluation.metrics import Matched
from um.evaluation.thresholds import threshold_range
from um.report import bootstrap
from um.report.figures.charts import Floats, Line, Ranked
from um.report.page.collect import Collected
from um.report.table.published import PUBLISHED

BLOCK = 256  # videos scored at a time


def lines(data: Collected) -> list[Line]:
    """mAP of every run at every threshold, with intervals if predictions are there, and published rows."""
    found = []
    for name, results in data.runs.items():
        tiou = results[0].metrics.tiou
        mean_H = np.mean([list(result.metrics.mAP.values()) for result in results], axis=0)
        matched = [result.matched for result in results if result.matched]
        low_H = high_H = None
        if len(matched) == len(results):
            resampled_BH = bootstrap.resample_runs(matched)
            bounds = [bootstrap.interval(resampled_BH[:, h], float(mean)) for h, mean in enumerate(mean_H)]
            low_H, high_H = ([float(np.clip(each[side], 0, 1)) for each in bounds] for side in (0, 1))
        found.append(Line(name, tiou, mean_H.tolist(), low_H, high_H))
    thresholds = set(found[0].tiou_H)
    for row in PUBLISHED.get(data.dataset, []):
        printed = {float(tiou): score / 100 for tiou, score in row.mAP.items() if float(tiou) in thresholds}
        if len(printed) > 1:
            found.append(Line(row.method, list(printed), list(printed.values()), published=True))
    return found


def by_class(data: Collected) -> dict[str, dict[str, list[float]]]:
    """Run → class → AP of every seed, averaged over thresholds."""
    return {
        name: {label: [fmean(result.metrics.ap[label]) for result in results] for label in results[0].metrics.ap}
        for name, results in data.runs.items()
    }


def ranked(matched: Matched, chosen: Sequence[float]) -> list[Ranked]:
    """Precision and recall of every class at the chosen thresholds, which are among those of the evaluation.

    Ignored misses (`thumos14`) do not count, as in the scores.
    """
    thresholds = threshold_range(matched.settings.tiou)
    classes = []
    for label, ranking in matched.rankings.items():
        instances, curves = int(ranking.instances_V.sum()), {}
        for tiou in chosen:
            hit_R = ranking.hit_HR[thresholds.index(tiou)]
            hit_R = hit_R[hit_R | ~ranking.ignored_R]
            true_R = np.cumsum(hit_R)
            curves[tiou] = (true_R / instances, true_R / np.arange(1, len(hit_R) + 1))
        classes.append(Ranked(label, instances, curves))
    return classes


def per_video(matched: Matched) -> dict[str, float]:
    """Average mAP of each video with instances, scored alone on its own classes."""
    found: dict[str, float] = {}
    for first in range(0, len(matched.videos), BLOCK):
        videos = matched.videos[first : first + BLOCK]
        alone_BV = np.zeros((len(videos), len(matched.videos)), np.int64)
        alone_BV[np.arange(len(videos)), np.arange(first, first + len(videos))] = 1
        score_B: Floats = bootstrap.scores(matched, alone_BV).mean(axis=1)
        found |= {video.id: float(score) for video, score in zip(videos, score_B, strict=True) if np.isfinite(score)}
    return found


def chosen_videos(scores: Mapping[str, float]) -> dict[str, str]:
    """The videos with the best, the median and the worst score → why they are shown; fewer of fewer videos."""
    ordered = sorted(scores, key=lambda name: (-scores[name], name))
    places = {"best": 0, "median": (len(ordered) - 1) // 2, "worst": len(ordered) - 1}
    told: dict[str, str] = {}
    for word, place in places.items():
        if ordered and ordered[place] not in told:
            told[ordered[place]] = (
                f"{word} of {len(ordered)}, average mAP on its classes {100 * scores[ordered[place]]:.0f} %"
            )
    return told
