"""The bootstrap of scores: exact, deterministic, and as wide as it should be."""

import numpy as np
import pandas as pd
import pytest
from helpers.predicted import make
from hypothesis import given
from hypothesis import strategies as st

from um.datasets.annotations import Instance, Video
from um.evaluation.metrics import evaluate, match_predictions
from um.evaluation.submission import COLUMNS
from um.params import Evaluate
from um.report import bootstrap

PROTOCOLS = pytest.mark.parametrize("protocol", ["activitynet", "thumos14"])


def repeated(videos, predictions, weights):
    """The same with every video as often as its weight says, under new ids; copies are beside their original."""
    copies = [(v, f"{v.id}#{i}") for v, weight in zip(videos, weights, strict=True) for i in range(weight)]
    listed = [Video(name, v.subset, None, v.instances, v.ambiguous) for v, name in copies]
    rows = [predictions[predictions["video"] == v.id].assign(video=name) for v, name in copies]
    return listed, pd.concat(rows).sort_values("score", ascending=False, kind="stable")


@PROTOCOLS
@pytest.mark.parametrize("seed", range(3))
def test_ones_give_the_evaluation_itself(protocol, seed):
    videos, predictions = make(seed)
    how = Evaluate(protocol=protocol, tiou="0.1:0.7:0.1")
    metrics = evaluate(videos, predictions, how)
    matched = match_predictions(videos, predictions, how)
    once = bootstrap.scores(matched, np.ones((2, len(videos)), int))
    assert once.tolist() == [pytest.approx(list(metrics["mAP"].values()), abs=1e-12)] * 2
    assert bootstrap.average_map([matched, matched]) == pytest.approx(metrics["average_mAP"], abs=1e-12)


@PROTOCOLS
@given(seed=st.integers(0, 9), weights=st.lists(st.integers(0, 4), min_size=6, max_size=6).filter(any))
def test_weights_give_the_evaluation_of_the_repeated_videos(protocol, seed, weights):
    videos, predictions = make(seed)
    how = Evaluate(protocol=protocol, tiou="0.1:0.7:0.3")
    expected = evaluate(*repeated(videos, predictions, weights), how)
    matched = match_predictions(videos, predictions, how)
    weight_1V = np.array([weights])
    assert bootstrap.scores(matched, weight_1V)[0].tolist() == pytest.approx(list(expected["mAP"].values()), abs=1e-12)
    ap = {label: values[0] for label, values in matched.ap(weight_1V).items()}
    absent = {label for label, values in ap.items() if np.isnan(values).all()}
    assert ap.keys() - absent == expected["ap"].keys()
    for label, values in expected["ap"].items():
        assert ap[label].tolist() == pytest.approx(values, abs=1e-12)


def test_draws_are_as_many_as_there_are_videos_and_repeatable():
    drawn = bootstrap.draws(7, 500, seed=3)
    assert drawn.shape == (500, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert (drawn == bootstrap.draws(7, 500, seed=3)).all()
    assert (drawn != bootstrap.draws(7, 500, seed=4)).any()
    assert np.abs(drawn.mean(axis=0) - 1).max() < 0.2


def test_a_resample_without_any_instance_is_left_out():
    videos = [Video("v", "test", None, (Instance("a", 0, 1),)), Video("w", "test", None, ())]
    matched = match_predictions(videos, pd.DataFrame([("v", "a", 1.0, 0.0, 1.0)], columns=COLUMNS), Evaluate())
    scored = bootstrap.scores(matched, np.array([[0, 2], [1, 1]]))
    assert np.isnan(scored[0]).all()
    assert bootstrap.interval(scored.mean(axis=1), 1.0) == (1, 1)
    assert bootstrap.average_map_interval([matched]) == (1, 1)


def test_an_interval_is_the_middle_of_the_resamples_about_the_score():
    low, high = bootstrap.interval(np.arange(1001.0), 500.0)
    assert (low, high) == pytest.approx((25, 975))
    assert bootstrap.interval(np.arange(1001.0), 400.0) == pytest.approx((-75, 875))


def test_an_interval_holds_its_score_with_few_videos_per_class_too():
    matched = match_predictions(*make(0), Evaluate())
    low, high = bootstrap.average_map_interval([matched])
    assert 0 <= low < bootstrap.average_map([matched]) < high <= 1


@PROTOCOLS
def test_the_interval_is_that_of_evaluations_of_drawn_videos_and_seeds(protocol):
    """Against a plain bootstrap that repeats videos and evaluates each resample anew, with the same draws."""
    how = Evaluate(protocol=protocol, tiou="0.3:0.5:0.2")
    runs = [make(0), (make(0)[0], make(0, noise=3.0)[1])]
    matched = [match_predictions(*run, how) for run in runs]
    drawn_BS = np.random.default_rng([0, 1]).integers(2, size=(40, 2))
    expected = [
        np.mean([evaluate(*repeated(*runs[s], weights), how)["average_mAP"] for s in drawn])
        for weights, drawn in zip(bootstrap.draws(6, 40), drawn_BS, strict=True)
    ]
    assert bootstrap.resample_runs(matched, 40).mean(axis=1).tolist() == pytest.approx(expected, abs=1e-12)


def test_a_system_does_not_differ_from_itself():
    matched = match_predictions(*make(0), Evaluate())
    found = bootstrap.compare([matched], [matched])
    assert (found.difference, found.interval, found.p_value, found.differ) == (0, (0, 0), 1, False)


def test_a_better_system_differs_and_the_comparison_is_antisymmetric():
    videos, noisy = make(0, 30, noise=4.0)
    good, bad = (match_predictions(videos, rows, Evaluate()) for rows in (make(0, 30, noise=0.1)[1], noisy))
    found, other = bootstrap.compare([good], [bad]), bootstrap.compare([bad], [good])
    assert found.differ
    assert found.p_value == other.p_value == 2 / 1001
    assert 0 < found.interval.low < found.difference < found.interval.high
    assert other.difference == -found.difference
    assert other.interval == pytest.approx((-found.interval.high, -found.interval.low))
    assert found == bootstrap.compare([good], [bad])


def test_pairing_makes_the_interval_narrower_than_that_of_one_system():
    videos, rows = make(1, 30)
    worse = rows.assign(score=rows["score"] + np.random.default_rng(0).normal(0, 0.1, len(rows)))
    a, b = (match_predictions(videos, frame, Evaluate()) for frame in (rows, worse))
    alone, difference = bootstrap.average_map_interval([a]), bootstrap.compare([a], [b]).interval
    assert difference.high - difference.low < alone.high - alone.low


@PROTOCOLS
def test_what_is_predicted_for_other_videos_counts_once_in_every_resample(protocol):
    how = Evaluate(protocol=protocol, tiou="0.3:0.5:0.2")
    videos, rows = make(0)
    others = rows[:3].assign(video="other", score=rows["score"].max() + 1)
    matched = match_predictions(videos, pd.concat([rows, others]), how)
    weight_BV = bootstrap.draws(len(videos), 20)
    expected = []
    for weights in weight_BV:
        listed, repeated_rows = repeated(videos, rows, weights)
        expected.append(evaluate(listed, pd.concat([repeated_rows, others]), how)["average_mAP"])
    assert bootstrap.scores(matched, weight_BV).mean(axis=1).tolist() == pytest.approx(expected, abs=1e-12)
    assert max(expected) < 1
