"""Average precision against plain accounts of what ActivityNet's devkit and the THUMOS'14 kit do."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from um.evaluation.average_precision import average_precision
from um.evaluation.matching import match, tiou

COLUMNS = ["video", "label", "start", "end"]


def plain_tiou(a: tuple[float, float], b: tuple[float, float]) -> float:
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if union > 0 else 0.0


def plain_ap(truth: list[tuple], predictions: list[tuple], threshold: float) -> float:
    """One class: rows of (video, start, end) and of (video, start, end, score)."""
    taken: set[int] = set()
    precision, recall = [], []
    hits = 0
    for rank, (video, start, end, _) in enumerate(sorted(predictions, key=lambda row: -row[3]), 1):
        inside = [(plain_tiou((start, end), row[1:]), i) for i, row in enumerate(truth) if row[0] == video]
        for overlap, i in sorted(inside, key=lambda pair: -pair[0]):
            if overlap < threshold:
                break
            if i not in taken:
                taken.add(i)
                hits += 1
                break
        precision.append(hits / rank)
        recall.append(hits / len(truth))
    area, before = 0.0, 0.0
    for i, reached in enumerate(recall):
        area += (reached - before) * max(precision[i:])
        before = reached
    return area


def plain_thumos(truth: list[tuple], predictions: list[tuple], ambiguous: list[tuple], threshold: float) -> float:
    """One class, as the kit goes about it: video by video, instance by instance."""
    judged = []  # (score, right) of what counts
    for video in sorted({row[0] for row in [*truth, *predictions]}):
        found = sorted((row for row in predictions if row[0] == video), key=lambda row: -row[3])
        right = [False] * len(found)
        for instance in (row for row in truth if row[0] == video):
            free = [i for i, taken in enumerate(right) if not taken]
            best = max(free, key=lambda i: plain_tiou(found[i][1:3], instance[1:]), default=None)
            if best is not None and plain_tiou(found[best][1:3], instance[1:]) > threshold:
                right[best] = True
        for row, hit in zip(found, right, strict=True):
            if hit or not any(a[0] == video and plain_tiou(row[1:3], a[1:]) > 0 for a in ambiguous):
                judged.append((row[3], hit))
    hits, total = 0, 0.0
    for rank, (_, hit) in enumerate(sorted(judged, key=lambda pair: -pair[0]), 1):
        if hit:
            hits += 1
            total += hits / rank
    return total / len(truth)


# Eighths are exact in binary, so that overlaps hit thresholds exactly and ties are ties.
moment = st.integers(0, 80).map(lambda n: n / 8)
segment = st.tuples(moment, moment).map(lambda pair: (min(pair), max(pair)))
rows = st.tuples(st.sampled_from("vwx"), segment).map(lambda row: (row[0], *row[1]))
truths = st.lists(rows, min_size=1, max_size=8)
found = st.lists(st.tuples(rows, st.integers(0, 12)).map(lambda pair: (*pair[0], pair[1] / 16)), max_size=14)


Ranked = dict[str, list[float]]


def ap(
    truth: pd.DataFrame, predictions: pd.DataFrame, tiou_H: list[float], ambiguous: pd.DataFrame | None = None
) -> Ranked:
    """Class → AP at every threshold; given ambiguous segments, under the THUMOS'14 protocol."""
    videos = [*dict.fromkeys([*truth["video"], *predictions["video"]])]
    rankings = match(videos, truth, predictions, np.array(tiou_H), ambiguous=ambiguous)
    once = np.ones((1, len(videos)), int)
    return {k: average_precision(r, once, interpolated=ambiguous is None)[0].tolist() for k, r in rankings.items()}


def frames(truth: list[tuple], predictions: list[tuple], label: str = "a") -> tuple[pd.DataFrame, pd.DataFrame]:
    columns = ["video", "start", "end", "score"]
    return (
        pd.DataFrame(truth, columns=columns[:3]).assign(label=label),
        pd.DataFrame(predictions, columns=columns).assign(label=label),
    )


@given(truths, found, st.lists(st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=5, unique=True))
def test_average_precision_is_that_of_the_plain_account(truth, predictions, thresholds):
    assert ap(*frames(truth, predictions), thresholds)["a"] == pytest.approx(
        [plain_ap(truth, predictions, t) for t in thresholds], abs=1e-12
    )


@given(truths, found, st.lists(rows, max_size=4), st.lists(st.sampled_from([0.1, 0.5]), min_size=1, unique=True))
def test_thumos14_is_that_of_the_plain_account(truth, predictions, ambiguous, thresholds):
    doubtful = pd.DataFrame(ambiguous, columns=["video", "start", "end"])
    expected = [plain_thumos(truth, predictions, ambiguous, t) for t in thresholds]
    assert ap(*frames(truth, predictions), thresholds, doubtful)["a"] == pytest.approx(expected, abs=1e-12)


NONE = pd.DataFrame(columns=["video", "start", "end"])
LENGTHS = {"truth": [("v", 0, 4)], "found": [("v", 0, 2, 0.9)]}  # they overlap by exactly a half


def test_a_hit_reaches_the_threshold_or_exceeds_it_under_thumos14():
    listed = frames(LENGTHS["truth"], LENGTHS["found"])
    assert ap(*listed, [0.5]) == {"a": [1.0]}
    assert ap(*listed, [0.5], NONE) == {"a": [0.0]}
    assert ap(*listed, [0.499], NONE) == {"a": [1.0]}


def test_the_best_score_takes_an_instance_or_the_best_overlap():
    truth, predictions = frames([("v", 0, 10)], [("v", 0, 8, 0.9), ("v", 0, 10, 0.8)])
    assert ap(truth, predictions, [0.5]) == {"a": [1.0]}
    assert ap(truth, predictions, [0.5], NONE) == {"a": [0.5]}


def test_what_touches_an_ambiguous_segment_is_ignored_unless_it_is_a_hit():
    truth, predictions = frames([("v", 0, 10)], [("v", 19, 30, 0.9), ("v", 0, 10, 0.8), ("w", 19, 30, 0.7)])
    ambiguous = pd.DataFrame([("v", 9, 20)], columns=["video", "start", "end"])
    assert ap(truth, predictions, [0.5], NONE) == {"a": [0.5]}
    assert ap(truth, predictions, [0.5], ambiguous) == {"a": [1.0]}
    behind = ambiguous.assign(start=30.0, end=40.0)  # it touches nothing but an end
    assert ap(truth, predictions, [0.5], behind) == {"a": [0.5]}


def test_precision_is_interpolated_under_activitynet_alone():
    truth, predictions = frames([("v", 0, 1), ("v", 2, 3)], [("v", 8, 9, 0.9), ("v", 0, 1, 0.8), ("v", 2, 3, 0.7)])
    assert ap(truth, predictions, [0.5])["a"] == pytest.approx([2 / 3])
    assert ap(truth, predictions, [0.5], NONE)["a"] == pytest.approx([(1 / 2 + 2 / 3) / 2])


def test_equal_scores_are_in_the_order_of_rows_or_of_videos():
    truth, wrong_first = frames([("b", 0, 1)], [("a", 0, 1, 0.5), ("b", 0, 1, 0.5)])
    right_first = wrong_first[::-1]
    assert [ap(truth, p, [0.5])["a"] for p in (wrong_first, right_first)] == [[0.5], [1.0]]
    assert [ap(truth, p, [0.5], NONE)["a"] for p in (wrong_first, right_first)] == [[0.5], [0.5]]


@given(st.lists(st.tuples(segment, segment), min_size=1, max_size=6))
def test_tiou_is_symmetric_bounded_and_that_of_the_plain_account(pairs):
    some, others = np.array(pairs, float).transpose(1, 0, 2)
    overlap = tiou(some, others)
    assert (overlap == tiou(others, some)).all()
    assert ((overlap >= 0) & (overlap <= 1)).all()
    assert overlap.tolist() == [plain_tiou(a, b) for a, b in pairs]


@given(st.lists(segment, min_size=1, max_size=6))
def test_tiou_with_itself_is_one_unless_it_is_empty(some):
    whole = np.array(some, float)
    assert (tiou(whole, whole) == (whole[:, 1] > whole[:, 0])).all()


def test_classes_without_truth_or_without_predictions():
    truth = pd.DataFrame([("v", "a", 0, 1), ("v", "b", 2, 3)], columns=COLUMNS)
    predictions = pd.DataFrame([("v", "a", 0, 1, 0.5), ("v", "zebra", 2, 3, 0.9)], columns=[*COLUMNS, "score"])
    assert ap(truth, predictions, [0.5]) == {"a": [1.0], "b": [0.0]}
    assert ap(truth, predictions, [0.5], NONE) == {"a": [1.0], "b": [0.0]}


def test_no_predictions_at_all():
    truth = pd.DataFrame([("v", "a", 0, 1)], columns=COLUMNS)
    assert ap(truth, pd.DataFrame(columns=[*COLUMNS, "score"]), [0.1, 0.5])["a"] == [0.0, 0.0]
    assert ap(truth, pd.DataFrame(columns=[*COLUMNS, "score"]), [0.1, 0.5], NONE)["a"] == [0.0, 0.0]


def test_the_truth_finds_itself_and_a_second_answer_is_wrong():
    truth, _ = frames([("v", 0, 1), ("v", 2, 4)], [])
    predictions = pd.concat([truth.assign(score=0.9), truth.assign(score=0.5)])
    assert ap(truth, predictions, [1.0])["a"] == [1.0]
    twice = pd.concat([truth[:1].assign(score=s) for s in (0.9, 0.8)] + [truth[1:].assign(score=0.7)])
    assert ap(truth, twice, [0.5])["a"] == pytest.approx([1 / 2 + 1 / 2 * 2 / 3])


@given(truths, found)
def test_rank_and_not_the_value_of_the_score_counts(truth, predictions):
    truth_frame, frame = frames(truth, predictions)
    squashed = frame.assign(score=np.tanh(frame["score"].astype(float)) - 5)
    for ambiguous in (None, NONE):
        ours, theirs = (ap(truth_frame, f, [0.3, 0.5], ambiguous)["a"] for f in (frame, squashed))
        assert ours == theirs


@given(truths, found, st.booleans())
def test_other_videos_have_no_truth_and_need_not_be_listed(truth, predictions, kit):
    """What is predicted for them is wrong, however often the listed ones are repeated."""
    truth_frame, frame = frames(truth, predictions)
    listed = sorted(set(truth_frame["video"]))
    rankings = match(listed, truth_frame, frame, np.array([0.1, 0.5]), ambiguous=NONE if kit else None)
    (ours,) = (average_precision(r, np.ones((1, len(listed)), int), interpolated=not kit) for r in rankings.values())
    assert ours[0].tolist() == ap(truth_frame, frame, [0.1, 0.5], NONE if kit else None)["a"]
