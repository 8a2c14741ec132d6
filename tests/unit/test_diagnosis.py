"""`um errors`, against a plain account of what DETAD's code does, one prediction and one threshold at a time."""

import json
from collections import defaultdict
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from helpers.predicted import make
from hypothesis import given
from hypothesis import strategies as st

from um.datasets import annotations
from um.datasets.annotations import Instance, Video
from um.evaluation.metrics import evaluate, match_predictions
from um.evaluation.submission import COLUMNS, read_submission, submission
from um.evaluation.thresholds import threshold_range
from um.files import write_json
from um.params import Evaluate
from um.report.errors import diagnosis
from um.report.errors.diagnosis import KINDS, OUTCOMES

PROTOCOLS = pytest.mark.parametrize("protocol", ["activitynet", "thumos14"])


def iou(a: tuple, b: tuple) -> float:
    """Of segments (start, end)."""
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if union > 0 else 0.0


class Plain:
    """The analysis at one threshold.

    Instances are (video, label, start, end), predictions (video, label, score, start, end), ambiguous segments (video,
    start, end); `kit` is for the thumos14 protocol.
    """

    def __init__(self, truth, predictions, alpha, kit=False, ambiguous=(), factor=10):
        self.truth, self.alpha, self.kit, self.ambiguous = truth, alpha, kit, ambiguous
        self.inside = defaultdict(list)  # video → instances
        for row in truth:
            self.inside[row[0]].append(row)
        self.labels = sorted({row[1] for row in truth})
        self.count = {label: sum(row[1] == label for row in truth) for label in self.labels}
        self.normal = len(truth) / len(self.labels)
        self.ranked = {label: self.ranking(predictions, label) for label in self.labels}  # label → rows, best first
        self.hits = {label: self.matched(label) for label in self.labels}  # label → instance or None, of each
        self.top = {label: factor * self.count[label] for label in self.labels}
        self.kinds = {
            label: [self.kind(row, hit) for row, hit in self.judged(label)[: self.top[label]]] for label in self.labels
        }

    def ranking(self, predictions, label):
        rows = [row for row in predictions if row[1] == label]
        return sorted(rows, key=(lambda row: (-row[2], row[0])) if self.kit else (lambda row: -row[2]))

    def judged(self, label):
        return list(zip(self.ranked[label], self.hits[label], strict=True))

    def enough(self, overlap):
        return overlap > self.alpha if self.kit else overlap >= self.alpha

    def matched(self, label):
        hits = [None] * len(self.ranked[label])
        own = [g for g, row in enumerate(self.truth) if row[1] == label]
        if self.kit:
            for g in own:
                video, _, start, end = self.truth[g]
                free = [r for r, row in enumerate(self.ranked[label]) if row[0] == video and hits[r] is None]
                best = max(free, key=lambda r: iou(self.ranked[label][r][3:], (start, end)), default=None)
                if best is not None and self.enough(iou(self.ranked[label][best][3:], (start, end))):
                    hits[best] = g
            return hits
        for r, row in enumerate(self.ranked[label]):
            free = [g for g in own if self.truth[g][0] == row[0]]
            best = max(free, key=lambda g: iou(row[3:], self.truth[g][2:]), default=None)
            if best is not None and self.enough(iou(row[3:], self.truth[best][2:])):
                hits[r] = best
                own.remove(best)
        return hits

    def ignored(self, row):
        return self.kit and any(a[0] == row[0] and iou(a[1:], row[3:]) > 0 for a in self.ambiguous)

    def kind(self, row, hit):
        if hit is not None:
            return "true positive"
        if self.ignored(row):
            return "ignored"
        around = [(iou(row[3:], other[2:]), other[1] == row[1]) for other in self.inside[row[0]]]
        overlap, own = max(around, default=(0.0, False))  # of equal overlaps, that of the own label
        if self.enough(overlap):
            return "double detection" if own else "wrong label"
        if overlap >= 0.1:
            return "localisation" if own else "confusion"
        return "background"

    def ap(self, label, keep, count, normal=None):
        """AP with the predictions for which keep(row, hit, rank); AP_N if normal is given."""
        scale, true, wrong, precisions, at_hits = (normal / count if normal else 1.0), 0, 0, [], []
        for rank, (row, hit) in enumerate(self.judged(label)):
            if not keep(hit, rank) or (hit is None and self.ignored(row)):
                continue
            true, wrong = true + (hit is not None), wrong + (hit is None)
            precisions.append(scale * true / (scale * true + wrong))
            if hit is not None:
                at_hits.append(len(precisions) - 1)
        return sum(precisions[i] if self.kit else max(precisions[i:]) for i in at_hits) / count

    def gained(self, without, normal=None):
        """mAP of the best predictions, without those of a kind."""
        aps = []
        for label in self.labels:
            kinds = self.kinds[label]
            aps.append(self.ap(label, lambda _, r, k=kinds: r < len(k) and k[r] != without, self.count[label], normal))
        return np.mean(aps)

    def sensitivity(self, bins, wanted):
        """mAP_N of the instances in one bin, given the bin of every instance."""
        aps = []
        for label in self.labels:
            count = sum(b == wanted and row[1] == label for b, row in zip(bins, self.truth, strict=True))
            if count:
                aps.append(self.ap(label, lambda hit, _: hit is None or bins[hit] == wanted, count, self.normal))
        return np.mean(aps) if aps else np.nan

    def detected(self, least):
        found = set()
        for label in self.labels:
            true, wrong, scale = 0, 0, self.normal / self.count[label]
            for row, hit in self.judged(label):
                true, wrong = true + (hit is not None), wrong + (hit is None and not self.ignored(row))
                if hit is not None and scale * true / (scale * true + wrong) > least:
                    found.add(hit)
        return [g in found for g in range(len(self.truth))]


# Eighths are exact in binary, so that overlaps hit thresholds exactly and ties are ties.
moment = st.integers(0, 40).map(lambda n: n / 8)
segment = st.tuples(moment, moment).map(lambda pair: (min(pair), max(pair)))
placed = st.tuples(st.sampled_from("vw"), st.sampled_from("abc"), segment).map(lambda row: (*row[:2], *row[2]))
truths = st.lists(placed, min_size=1, max_size=8)
predicted = st.lists(
    st.tuples(st.sampled_from("vwx"), st.sampled_from("abcz"), st.integers(0, 9), segment).map(
        lambda row: (row[0], row[1], row[2] / 8, *row[3])
    ),
    max_size=16,
)
doubtful = st.lists(st.tuples(st.sampled_from("vw"), segment).map(lambda row: (row[0], *row[1])), max_size=2)
TIOUS = ("0.1:0.7:0.3", "0.5:0.5:0.1", "0.05:0.95:0.3", "0.25:0.75:0.25")


def case(truth, ambiguous=()):
    """The videos v and w, of 10 s and of unknown duration, and the instances in the order of the ground truth."""
    videos = []
    for name, duration in (("v", 10.0), ("w", None)):
        own = tuple(Instance(label, *times) for video, label, *times in truth if video == name)
        excused = tuple(Instance("Ambiguous", *times) for video, *times in ambiguous if video == name)
        videos.append(Video(name, "test", duration, own, excused))
    return videos, sorted(truth, key=lambda row: row[0])


@given(truths, predicted, doubtful, st.sampled_from(TIOUS), st.booleans(), st.integers(1, 2))
def test_the_plain_account_finds_the_same(truth, predictions, ambiguous, tiou, kit, factor):
    videos, listed = case(truth, ambiguous)
    rows = pd.DataFrame(predictions, columns=COLUMNS).astype(dict.fromkeys(COLUMNS[2:], float))
    matched = match_predictions(videos, rows, Evaluate(protocol="thumos14" if kit else "activitynet", tiou=tiou))
    plain = [Plain(listed, predictions, alpha, kit, ambiguous, factor) for alpha in threshold_range(tiou)]

    with patch.object(diagnosis, "FACTOR", factor):
        outcomes = diagnosis.outcomes(matched, rows)
    for label, code_HR in outcomes.items():
        assert [[OUTCOMES[code] for code in code_R] for code_R in code_HR] == [one.kinds[label] for one in plain]

    for normal in (None, len(truth) / len(outcomes)):
        expected = [np.mean([one.gained(without, normal) for one in plain]) for without in (None, *KINDS)]
        assert diagnosis.gains(matched, outcomes, normal) == pytest.approx(expected, abs=1e-12)

    for least in (0.05, 0.4, -1):
        assert diagnosis.detected(matched, least).tolist() == [one.detected(least) for one in plain]

    values = diagnosis.characteristics(videos, matched.truth)
    for by in diagnosis.binned(values, "thumos14").values():
        for v, score in enumerate(diagnosis.sensitivity(matched, by)):
            expected = np.mean([one.sensitivity(list(by.bin_G), v) for one in plain])
            assert score == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(truths, predicted, st.sampled_from(TIOUS), st.booleans())
def test_every_prediction_counts_once_and_no_removal_costs(truth, predictions, tiou, kit):
    videos, _ = case(truth)
    rows = pd.DataFrame(predictions, columns=COLUMNS).astype(dict.fromkeys(COLUMNS[2:], float))
    matched = match_predictions(videos, rows, Evaluate(protocol="thumos14" if kit else "activitynet", tiou=tiou))
    outcomes = diagnosis.outcomes(matched, rows)
    known = {label for _, label, *_ in truth}
    best = sum(
        min(10 * sum(row[1] == label for row in truth), sum(row[1] == label for row in predictions)) for label in known
    )
    assert diagnosis.tally(outcomes).sum(axis=1).tolist() == [best] * len(threshold_range(tiou))
    assert (diagnosis.profile(matched, outcomes).sum(axis=0) == diagnosis.tally(outcomes).sum(axis=0)).all()
    gains = diagnosis.gains(matched, outcomes)
    assert (gains[1:] >= gains[0] - 1e-12).all()
    assert (gains <= 1 + 1e-12).all()


@PROTOCOLS
@pytest.mark.parametrize("seed", range(3))
def test_all_predictions_score_as_in_the_evaluation(protocol, seed):
    videos, rows = make(seed)
    how = Evaluate(protocol=protocol)
    matched = match_predictions(videos, rows, how)
    with patch.object(diagnosis, "FACTOR", 1000):
        scores = diagnosis.gains(matched, diagnosis.outcomes(matched, rows))
    assert scores[0] == pytest.approx(evaluate(videos, rows, how)["average_mAP"], abs=1e-12)


def kinds_of(truth, predictions, tiou="0.5:0.5:0.1", **how):
    """The outcome of every prediction of label a, best first."""
    videos, _ = case(truth, how.pop("ambiguous", ()))
    rows = pd.DataFrame(predictions, columns=COLUMNS).astype(dict.fromkeys(COLUMNS[2:], float))
    matched = match_predictions(videos, rows, Evaluate(tiou=tiou, **how))
    return [OUTCOMES[code] for code in diagnosis.outcomes(matched, rows)["a"][0]]


def test_each_kind_once():
    truth = [("v", "a", 0, 10), ("v", "b", 20, 30)]
    segments = {"true positive": (0, 10), "double detection": (0, 9), "localisation": (0, 2)}
    segments |= {"wrong label": (20, 29), "confusion": (28, 34), "background": (40, 50)}
    rows = [("v", "a", 1 - i / 10, *times) for i, times in enumerate(segments.values())]
    assert kinds_of(truth, rows) == list(segments)
    assert kinds_of(truth, [("x", "a", 2, 0, 10), *rows]) == ["background", *segments]


def test_the_own_label_decides_between_equal_overlaps():
    """As with THUMOS14's dives from cliffs, which are annotated twice."""
    rows = [("v", "a", 0.9, 0, 10), ("v", "a", 0.8, 0, 10), ("v", "a", 0.7, 0, 3)]
    for truth in ([("v", "a", 0, 10), ("v", "b", 0, 10)], [("v", "b", 0, 10), ("v", "a", 0, 10)]):
        assert kinds_of(truth, rows) == ["true positive", "double detection", "localisation"]


def test_a_closer_instance_of_another_label_decides():
    truth = [("v", "a", 0, 10), ("v", "b", 0, 8)]
    rows = [("v", "a", 0.9, 0, 10), ("v", "a", 0.8, 0, 8)]
    assert kinds_of(truth, rows) == ["true positive", "wrong label"]


def test_bounds_belong_to_the_better_kind_or_not_under_thumos14():
    truth, rows = [("v", "a", 0, 10), ("v", "a", 20, 30)], [("v", "a", 0.9, 0, 5), ("v", "a", 0.8, 20, 21)]
    assert kinds_of(truth, rows) == ["true positive", "localisation"]
    assert kinds_of(truth, rows, protocol="thumos14") == ["localisation", "localisation"]
    assert kinds_of(truth, rows, "0.1:0.1:0.1", protocol="thumos14") == ["true positive", "localisation"]


def test_ambiguous_segments_excuse_misses_under_thumos14_alone():
    truth, rows = [("v", "a", 0, 10)], [("v", "a", 0.9, 0, 10), ("v", "a", 0.8, 0, 9), ("v", "a", 0.7, 20, 30)]
    excused = [("v", 25, 40)]
    assert kinds_of(truth, rows, ambiguous=excused) == ["true positive", "double detection", "background"]
    thumos14 = kinds_of(truth, rows, ambiguous=excused, protocol="thumos14")
    assert thumos14 == ["true positive", "double detection", "ignored"]


@pytest.mark.parametrize(
    ("value", "bin_"), [(0.0, 0), (3.0, 0), (3.1, 1), (6.0, 1), (12.0, 2), (18.0, 3), (18.1, 4), (1e6, 4)]
)
def test_upper_edges_belong_to_their_bin(value, bin_):
    values = pd.DataFrame({"length": [value], "coverage": [np.nan], "per_video": [1]})
    found = diagnosis.binned(values, "thumos14")
    assert found["length"].bin_G.tolist() == [bin_]
    assert "coverage" not in found
    assert found["per_video"].names == ("XS", "S", "M", "L")


def test_characteristics_of_known_and_unknown_durations():
    videos, _ = case([("v", "a", 0, 2), ("v", "b", 0, 20), ("w", "a", 1, 2)])
    values = diagnosis.characteristics(videos, annotations.frame(videos))
    assert values["coverage"].tolist() == pytest.approx([0.2, 1.0, np.nan], nan_ok=True)
    assert values["per_video"].tolist() == [2, 2, 1]
    by = diagnosis.binned(values, "activitynet")["coverage"]
    assert [by.names[v] for v in by.bin_G] == ["XS", "XL", "unknown"]


# Video, start, end → coverage and number of instances, in DETAD's thumos14_test_extra_characteristics.json.
DETAD = {
    ("video_test_0000292", 65.9, 67.4): (0.01971971708779218, 1),
    ("video_test_0000896", 18.6, 24.8): (0.027340838834574693, 7),
    ("video_test_0000897", 10.4, 13.4): (0.024961102282276784, 9),
    ("video_test_0000950", 11.6, 20.8): (0.006994102147341406, 40),
    ("video_test_0000635", 0.0, 8.4): (0.2655538694992413, 4),
    ("video_test_0000846", 10.4, 26.6): (0.593493552168816, 3),
    ("video_test_0001079", 353.1, 355.6): (0.005092780270976653, 8),
    ("video_test_0001339", 0.2, 3.5): (0.021104197177153745, 84),  # 42 dives, each annotated with two labels
    ("video_test_0001460", 2.9, 3.6): (0.023992322456813826, 3),  # two labels, of 2 and 1 instances
    ("video_test_0001468", 137.2, 143.5): (0.03411730938984177, 21),  # two labels, of 2 and 19 instances
}


def test_characteristics_are_those_that_detad_published(reference_data):
    folder = reference_data / "data/thumos14"
    durations = json.loads((folder / "durations.json").read_text())
    content = json.loads((folder / "gt.json").read_text())
    for name, entry in content["database"].items():
        entry["duration"] = durations[name]["duration"]
    videos = annotations.parse(Path("gt.json"), content).subset("test")
    truth = annotations.frame(videos)
    table = pd.concat([truth, diagnosis.characteristics(videos, truth)], axis=1)
    assert diagnosis.bins_for(table) == "thumos14"
    for (video, start, end), (coverage, count) in DETAD.items():
        rows = table[(table["video"] == video) & (table["start"] == start) & (table["end"] == end)]
        assert len(rows) >= 1
        assert rows["coverage"].tolist() == pytest.approx([coverage] * len(rows), rel=1e-3)
        assert rows["per_video"].tolist() == [count] * len(rows)
        assert rows["length"].tolist() == pytest.approx([end - start] * len(rows))


@pytest.mark.parametrize(
    ("file", "truth", "subset", "alpha"),
    [
        ("crnet_thumos14", "thumos14/gt.json", "test", 0.5),
        ("autoloc_activitynet1.2", "published/autoloc_activitynet1.2_gt.json", "val", 0.7),
    ],
)
def test_the_plain_account_finds_the_same_in_published_predictions(reference_data, file, truth, subset, alpha):
    data = reference_data / "data"
    videos = annotations.load(data / truth).named(subset)
    rows = read_submission(data / f"published/{file}.json").predictions
    matched = match_predictions(videos, rows, Evaluate(tiou=f"{alpha}:{alpha}:0.1"))
    listed, predictions = (list(frame.itertuples(index=False, name=None)) for frame in (matched.truth, rows))
    plain = Plain(listed, predictions, alpha)
    outcomes = diagnosis.outcomes(matched, rows)
    assert {label: [OUTCOMES[code] for code in code_HR[0]] for label, code_HR in outcomes.items()} == plain.kinds
    assert diagnosis.detected(matched)[0].tolist() == plain.detected(0.05)


@pytest.fixture
def files(um):
    """Annotations of 12 videos and predictions for them, in the current folder."""
    videos, rows = make(0, 12)
    rows[["start", "end"]] = rows[["start", "end"]].clip(0)
    write_json(Path("gt.json"), annotations.database(videos))
    write_json(Path("predictions.json"), submission(rows, [video.id for video in videos]))
    return um


WORDS = ("errors", "--annotations", "gt.json", "--predictions", "predictions.json")


@PROTOCOLS
def test_the_file_and_the_tables(files, protocol):
    how = ("--protocol", protocol)
    code, printed, error = files(*WORDS, *how, "--out", "errors.json")
    assert code == 0, error
    found = json.loads(Path("errors.json").read_text())
    assert files("evaluate", *WORDS[1:], *how, "--out", "metrics.json")[0] == 0
    metrics = json.loads(Path("metrics.json").read_text())
    assert found["average_mAP"] == metrics["average_mAP"]
    assert {name: found[name] for name in ("num_videos", "num_instances", "tiou")} == {
        name: metrics[name] for name in ("num_videos", "num_instances", "tiou")
    }
    top = found["top"]
    for h in range(len(found["tiou"])):
        counts = [kind["count"][h] for kind in found["kinds"].values()]
        ignored = top["ignored"][h] if protocol == "thumos14" else 0
        assert sum(counts) + top["true_positives"][h] + ignored == top["num_predictions"]
        assert sum(kind["share"][h] for kind in found["kinds"].values()) == pytest.approx(1)
    for bins in found["characteristics"].values():
        assert sum(one["num_instances"] for one in bins) == found["num_instances"]
        for name in ("missed", "never_hit"):
            parts = [one["num_instances"] * np.array(one[name]) for one in bins if one["num_instances"]]
            assert np.sum(parts, axis=0) / found["num_instances"] == pytest.approx(np.array(found[name]))
    for kind, one in found["kinds"].items():
        (line,) = (line for line in printed.splitlines() if kind in line)
        assert f"{100 * one['gain']:.1f}" in line
    assert max(map(len, printed.splitlines())) <= 80
    assert "coverage: unknown" in printed


def test_equal_inputs_give_equal_bytes(files):
    for name in ("one.json", "two.json"):
        assert files(*WORDS, "--out", name)[0] == 0
    assert Path("one.json").read_bytes() == Path("two.json").read_bytes()
    assert files(*WORDS, "--out", "one.json")[0] == 0, "it replaces a file that it wrote"


def test_a_dataset_by_name_and_its_settings(files):
    Path("params.yaml").write_text("overrides: {clips: {evaluate: {tiou: '0.5:0.5:0.1'}}}\n")
    Path("data/clips").mkdir(parents=True)
    Path("gt.json").rename("data/clips/annotations.json")
    words = ("--dataset", "clips", "--predictions", "predictions.json", "--bins", "activitynet")
    assert files("errors", *words, "--out", "errors.json")[0] == 0
    found = json.loads(Path("errors.json").read_text())
    assert (found["tiou"], found["bins"]) == ([0.5], "activitynet")


def test_no_predictions_at_all(files):
    names = json.loads(Path("gt.json").read_text())["database"]
    write_json(Path("predictions.json"), {"results": {name: [] for name in names}})
    code, _, error = files(*WORDS, "--out", "errors.json")
    assert code == 0, error
    found = json.loads(Path("errors.json").read_text())
    assert (found["average_mAP"], found["top"]["num_predictions"], set(found["missed"])) == (0, 0, {1})
    assert all(one["average_share"] == one["gain"] == 0 for one in found["kinds"].values())


def test_predictions_for_other_labels_and_other_videos(files):
    content = json.loads(Path("predictions.json").read_text())
    content["results"]["v0"].append({"label": "zebra", "score": 1.0, "segment": [0, 1]})
    content["results"]["other"] = [{"label": "a", "score": 2.0, "segment": [0, 1]}]
    write_json(Path("predictions.json"), content)
    background = []
    for policy in ("count", "ignore"):
        assert files(*WORDS, "--unlisted", policy, "--out", "errors.json")[0] == 0
        found = json.loads(Path("errors.json").read_text())
        background.append(found["kinds"]["background"]["count"][0])
        assert found["num_other_labels"] == 1
    assert background[0] == background[1] + 1


def test_videos_without_an_entry_count_or_are_left_out(files):
    content = json.loads(Path("predictions.json").read_text())
    content["results"].pop("v3")
    write_json(Path("predictions.json"), content)
    for policy, count, told in (("error", 12, "counted as misses"), ("drop", 11, "left out")):
        code, printed, _ = files(*WORDS, "--missing", policy, "--out", "errors.json")
        assert code == 0
        assert json.loads(Path("errors.json").read_text())["num_videos"] == count
        assert f"1 without an entry, {told}" in printed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((*WORDS, "--dataset", "demo"), "both --dataset and --annotations"),
        (("errors", "--predictions", "predictions.json"), "neither --dataset nor --annotations"),
        ((*WORDS, "--bins", "coco"), "found --bins coco; expected auto or activitynet or thumos14"),
        ((*WORDS, "--unlisted", "no"), "--unlisted no"),
        ((*WORDS, "--subset", "val"), "no video of subset 'val'"),
        ((*WORDS, "--out", "gt.json"), "gt.json"),
        (("errors", "--annotations", "gt.json", "--predictions", "none.json"), "none.json"),
    ],
)
def test_bad_input_is_one_line(files, words, expected):
    before = Path("gt.json").read_bytes()
    code, _, error = files(*words)
    assert code == 2
    assert expected in error
    assert error.count("\n") == 1
    assert Path("gt.json").read_bytes() == before
