"""Average precision against a plain account of what ActivityNet's devkit does."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from um.evaluation.average_precision import average_precision, tiou

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


# Eighths are exact in binary, so that overlaps hit thresholds exactly and ties are ties.
moment = st.integers(0, 80).map(lambda n: n / 8)
segment = st.tuples(moment, moment).map(lambda pair: (min(pair), max(pair)))
rows = st.tuples(st.sampled_from("vwx"), segment).map(lambda row: (row[0], *row[1]))
truths = st.lists(rows, min_size=1, max_size=8)
found = st.lists(rows, max_size=14).flatmap(
    lambda listed: st.permutations(range(len(listed))).map(
        lambda order: [(*row, rank / 16) for row, rank in zip(listed, order, strict=True)]
    )
)


def frames(truth: list[tuple], predictions: list[tuple], label: str = "a") -> tuple[pd.DataFrame, pd.DataFrame]:
    columns = ["video", "start", "end", "score"]
    return (
        pd.DataFrame(truth, columns=columns[:3]).assign(label=label),
        pd.DataFrame(predictions, columns=columns).assign(label=label),
    )


@settings(max_examples=100)
@given(truths, found, st.lists(st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=5, unique=True))
def test_average_precision_is_that_of_the_plain_account(truth, predictions, thresholds):
    ap = average_precision(*frames(truth, predictions), np.array(thresholds))
    assert ap["a"] == pytest.approx([plain_ap(truth, predictions, t) for t in thresholds], abs=1e-12)


@given(st.lists(segment, min_size=1, max_size=6), st.lists(segment, min_size=1, max_size=6))
def test_tiou_is_symmetric_bounded_and_that_of_the_plain_account(some, others):
    overlap = tiou(np.array(some), np.array(others))
    assert (overlap == tiou(np.array(others), np.array(some)).T).all()
    assert ((overlap >= 0) & (overlap <= 1)).all()
    assert overlap.tolist() == [[plain_tiou(a, b) for b in others] for a in some]


@given(st.lists(segment, min_size=1, max_size=6))
def test_tiou_with_itself_is_one_unless_it_is_empty(some):
    whole = np.array(some)
    assert (np.diagonal(tiou(whole, whole)) == (whole[:, 1] > whole[:, 0])).all()


def test_a_class_the_truth_lacks_is_not_scored_and_one_without_predictions_is_zero():
    truth = pd.DataFrame([("v", "a", 0, 1), ("v", "b", 2, 3)], columns=COLUMNS)
    predictions = pd.DataFrame([("v", "a", 0, 1, 0.5), ("v", "zebra", 2, 3, 0.9)], columns=[*COLUMNS, "score"])
    ap = average_precision(truth, predictions, np.array([0.5]))
    assert {label: values.tolist() for label, values in ap.items()} == {"a": [1.0], "b": [0.0]}


def test_no_predictions_at_all():
    truth = pd.DataFrame([("v", "a", 0, 1)], columns=COLUMNS)
    ap = average_precision(truth, pd.DataFrame(columns=[*COLUMNS, "score"]), np.array([0.1, 0.5]))
    assert ap["a"].tolist() == [0.0, 0.0]


def test_the_truth_finds_itself_and_a_second_answer_is_wrong():
    truth, _ = frames([("v", 0, 1), ("v", 2, 4)], [])
    predictions = pd.concat([truth.assign(score=0.9), truth.assign(score=0.5)])
    assert average_precision(truth, predictions, np.array([1.0]))["a"].tolist() == [1.0]
    twice = pd.concat([truth[:1].assign(score=s) for s in (0.9, 0.8)] + [truth[1:].assign(score=0.7)])
    assert average_precision(truth, twice, np.array([0.5]))["a"].tolist() == pytest.approx([1 / 2 + 1 / 2 * 2 / 3])


@given(truths, found)
def test_rank_and_not_the_value_of_the_score_counts(truth, predictions):
    thresholds = np.array([0.3, 0.5])
    truth_frame, frame = frames(truth, predictions)
    squashed = frame.assign(score=np.tanh(frame["score"].astype(float)) - 5)
    ours, theirs = (average_precision(truth_frame, f, thresholds)["a"] for f in (frame, squashed))
    assert ours.tolist() == theirs.tolist()
