"""From curves to segments, against plain accounts."""

import numpy as np
import pytest
import torch
from helpers import oracle
from hypothesis import given
from hypothesis import strategies as st

from um.method.localize import Curves, curves, localize, predicted_classes, upscale
from um.method.model import UM
from um.method.suppression import nms, soft_nms
from um.params import Localize, Train

moment = st.integers(0, 200).map(lambda n: n / 8)


def plain_nms(rows: list[tuple[float, float, float]], iou: float, plus: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: -rows[i][2]):
        start, end, _ = rows[i]
        for j in kept:
            shared = max(0.0, min(end, rows[j][1]) - max(start, rows[j][0]) + plus)
            union = (end - start + plus) + (rows[j][1] - rows[j][0] + plus) - shared
            if shared / union >= iou:
                break
        else:
            kept.append(i)
    return kept


segments = st.lists(
    st.tuples(moment, st.integers(1, 80).map(lambda n: n / 8), st.integers(0, 6)).map(
        lambda row: (row[0], row[0] + row[1], row[2] / 4)
    ),
    max_size=15,
)


@given(segments, st.sampled_from([0.25, 0.5, 0.6, 1.0]), st.sampled_from([0.0, 1.0]))
def test_suppression_is_that_of_the_plain_account(rows, iou, plus):
    start, end, score = np.array(rows, np.float64).reshape(-1, 3).T
    assert nms(start, end, score, iou, plus).tolist() == plain_nms(rows, iou, plus)


@given(segments)
def test_suppressing_twice_changes_nothing(rows):
    start, end, score = np.array(rows, np.float64).reshape(-1, 3).T
    kept = nms(start, end, score, 0.5, 0.0)
    assert nms(start[kept], end[kept], score[kept], 0.5, 0.0).tolist() == list(range(len(kept)))


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=20), st.integers(1, 24))
def test_interpolation_is_linear_between_and_beyond_the_snippets(values, factor):
    curve_TX = np.array(values)[:, None]
    fine_P = upscale(curve_TX, factor)[:, 0]
    assert len(fine_P) == len(values) * factor
    for p, value in enumerate(fine_P):
        left = min(p // factor, len(values) - 2)
        expected = values[left] + (values[left + 1] - values[left]) * (p / factor - left)
        assert value == pytest.approx(expected, abs=1e-9)


def test_one_snippet_is_repeated():
    assert upscale(np.array([[0.25, 0.5]]), 3).tolist() == [[0.25, 0.5]] * 3


def test_classes_reach_the_threshold_or_the_best_one_stands():
    score_C = np.array([0.1, 0.6, 0.3])
    assert predicted_classes(score_C, 0.3).tolist() == [1, 2]
    assert predicted_classes(score_C, 0.7).tolist() == [1]


def plain_proposals(video: Curves, duration: float, values: Localize) -> list[tuple[int, float, float, float]]:
    """Every run of both threshold families before suppression: class, start, end, score."""
    by_class = oracle.found(*video, duration, values)
    return [(c, start, end, score) for c, rows in by_class.items() for score, start, end in rows]


@given(st.integers(1, 25), st.integers(0, 10_000), st.sampled_from([1, 4]), st.sampled_from([0.125, 0.25, 1.0]))
def test_segments_are_those_of_the_plain_account(T, seed, factor, outer_ratio):
    rng = np.random.default_rng(seed)
    video = Curves(rng.dirichlet([1, 1, 1]), rng.uniform(size=(T, 3)), rng.uniform(size=T))
    values = Localize(upscale=factor, outer_ratio=outer_ratio, nms="hard", nms_iou=1.0, whole_video=False)
    found = localize(video, 20.0, values)
    expected = plain_proposals(video, 20.0, values)
    # With suppression at an overlap of 1 only the best of equal segments stays.
    best: dict[tuple, float] = {}
    for c, start, end, score in expected:
        key = c, round(start, 6), round(end, 6)
        best[key] = max(score, best.get(key, -np.inf))
    ours = {
        (int(c), round(float(start), 6), round(float(end), 6)): float(score)
        for c, score, start, end in zip(*found, strict=True)
    }
    assert ours.keys() == best.keys()
    assert ours == pytest.approx(best)


def test_nothing_above_any_threshold_is_no_segment():
    video = Curves(np.array([1.0, 0.0]), np.zeros((5, 2)), np.zeros(5))
    assert all(len(column) == 0 for column in localize(video, 10.0, Localize(whole_video=False)))


def test_single_points_are_no_segment():
    fused = np.array([[0.0], [1.0], [0.0], [1.0], [0.0]])
    video = Curves(np.array([1.0]), fused, fused[:, 0])
    assert len(localize(video, 5.0, Localize(whole_video=False)).label) == 0


def test_a_clear_action_is_found_where_it_is():
    fused = np.zeros((20, 2))
    fused[5:10, 1] = 1
    video = Curves(np.array([0.1, 0.9]), fused, fused[:, 1])
    found = localize(video, 20.0, Localize())
    assert set(found.label) == {1}
    best = found.score.argmax()
    assert found.start[best] == pytest.approx(5, abs=1)
    assert found.end[best] == pytest.approx(10, abs=1)


@pytest.mark.parametrize("T", [1, 2, 8, 9, 40])
def test_videos_of_every_length_pass_through_network_and_localisation(T):
    torch.manual_seed(0)
    model = UM(4, 3, Train(embedding_dim=5)).eval()
    video = curves(model, torch.randn(T, 4), Localize(max_segments=30))
    assert video.fused_TC.shape == (min(T, 30), 3)
    for values in video:
        assert np.isfinite(values).all()
        assert values.min() >= 0
        assert values.max() <= 1
    found = localize(video, T * 0.64, Localize())
    assert (found.start >= 0).all()
    assert (found.end <= T * 0.64 + 1e-9).all()
    assert (found.start < found.end).all()


def test_a_video_of_constant_magnitude_divides_by_nothing():
    model = UM(4, 3, Train(embedding_dim=5)).eval()
    with torch.no_grad():
        model.embed.weight.zero_()
        model.embed.bias.fill_(1)
    video = curves(model, torch.randn(12, 4), Localize())
    assert all(np.isfinite(values).all() for values in video)


def test_without_fusion_the_magnitude_does_not_matter():
    rng = np.random.default_rng(0)
    fused, score = rng.uniform(size=(20, 2)), np.array([0.3, 0.7])
    values = Localize(fusion=False)
    a, b = (localize(Curves(score, fused, rng.uniform(size=20)), 10.0, values) for _ in range(2))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert len(a.label) > 0


def test_without_fusion_the_curve_is_the_cas():
    torch.manual_seed(0)
    model, x = UM(4, 3, Train(embedding_dim=5)).eval(), torch.randn(12, 4)
    cas = model(x[None]).cas[0].detach().numpy()
    expected = (cas - cas.min(0)) / (cas.max(0) - cas.min(0))
    np.testing.assert_allclose(curves(model, x, Localize(fusion=False)).fused_TC, expected, atol=1e-5)


def test_the_papers_foreground_is_the_share_of_the_margin():
    torch.manual_seed(0)
    model, x = UM(4, 3, Train(embedding_dim=5, margin=0.8)).eval(), torch.randn(12, 4)
    norm = model(x[None]).embedding[0].norm(dim=1).detach().numpy()
    assert norm.min() < 0.8 < norm.max()
    found = curves(model, x, Localize(foreground="margin")).magnitude_T
    np.testing.assert_allclose(found, np.minimum(0.8, norm) / 0.8, rtol=1e-5)
    assert found.max() == 1
    assert found.min() < 1


def test_our_foreground_saturates_and_is_relative_to_the_videos_largest():
    torch.manual_seed(0)
    model, x = UM(4, 3, Train(embedding_dim=5, margin=0.8)).eval(), torch.randn(12, 4)
    norm = model(x[None]).embedding[0].norm(dim=1).detach().numpy()
    share = norm / (norm + 0.8)
    np.testing.assert_allclose(curves(model, x, Localize()).magnitude_T, share / share.max(), rtol=1e-5)


def test_a_video_without_a_segment_becomes_one_segment():
    video = Curves(np.array([0.9, 0.0]), np.zeros((5, 2)), np.zeros(5))
    found = localize(video, 3.2, Localize(whole_video=True))
    assert [tuple(column) for column in found] == [(0,), (0.2 * 0.9,), (0.0,), (3.2,)]


def test_a_video_with_a_segment_is_left_as_it_is():
    rng = np.random.default_rng(0)
    video = Curves(np.array([0.3, 0.7]), rng.uniform(size=(20, 2)), rng.uniform(size=20))
    for a, b in zip(localize(video, 9.0, Localize(whole_video=False)), localize(video, 9.0, Localize()), strict=True):
        assert np.array_equal(a, b)


def plain_soft_nms(rows: list[list[float]], sigma: float, plus: float) -> list[tuple[int, float]]:
    left = [[score, index, start, end] for index, (start, end, score) in enumerate(rows)]
    taken = []
    while left:
        best = max(left, key=lambda row: (row[0], -row[1]))
        left.remove(best)
        taken.append((best[1], best[0]))
        for row in left:
            shared = max(0.0, min(best[3], row[3]) - max(best[2], row[2]) + plus)
            union = best[3] - best[2] + row[3] - row[2] + 2 * plus - shared
            if row[0] > 0:
                row[0] *= np.exp(-((shared / union) ** 2) / sigma)
    return taken


@given(st.integers(0, 25), st.integers(0, 1000), st.sampled_from([0.1, 0.3, 2.0]), st.sampled_from([0.0, 1.0]))
def test_soft_suppression_is_that_of_the_plain_account(count, seed, sigma, plus):
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 10, count)
    end, score = start + rng.uniform(0.1, 5, count), rng.uniform(-0.2, 1, count)
    order, scores = soft_nms(start, end, score, sigma, plus)
    expected = plain_soft_nms(np.column_stack([start, end, score]).tolist(), sigma, plus)
    assert order.tolist() == [index for index, _ in expected]
    assert scores.tolist() == pytest.approx([value for _, value in expected])


def test_soft_suppression_keeps_every_segment_and_orders_by_new_scores():
    rng = np.random.default_rng(0)
    video = Curves(np.array([0.2, 0.8]), rng.uniform(size=(30, 2)), rng.uniform(size=30))
    soft = localize(video, 20.0, Localize())
    everything = plain_proposals(video, 20.0, Localize())
    assert len(soft.label) == len(everything)
    for label in np.unique(soft.label):
        assert (np.diff(soft.score[soft.label == label]) <= 0).all()


def test_suppression_in_blocks_is_that_without():
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 100, 1000)
    end, score = start + rng.uniform(0.5, 20, 1000), rng.uniform(size=1000)
    kept = nms(start, end, score, 0.4, 1.0)
    rows = oracle.nms(np.column_stack([score, start, end]).tolist(), 0.4, 1.0)
    assert len(kept) > 64
    assert start[kept].tolist() == [row[1] for row in rows]
