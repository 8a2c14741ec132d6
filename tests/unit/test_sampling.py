"""Sampling against a plain-Python account of STPN's: `random.choice` of a range per bin."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from um.method.sampling import Batches, evenly, random_per_bin


def bins(length: int, T: int) -> list[range]:
    """What STPN chooses from: `range(first of this bin, first of the next + 1)`, the last one up to the end."""
    if length == T:
        return [range(i, i + 1) for i in range(T)]
    first = [int(i * length / T) for i in range(T)]
    return [range(first[i], (first[i + 1] if i < T - 1 else length - 1) + 1) for i in range(T)]


@given(st.integers(1, 300), st.integers(1, 60), st.integers(0, 2**32))
def test_every_index_is_one_of_its_bin(length, T, seed):
    (index_T,) = random_per_bin(torch.tensor([length]), T, torch.Generator().manual_seed(seed))
    assert all(index in choices for index, choices in zip(index_T.tolist(), bins(length, T), strict=True))


@pytest.mark.parametrize(("length", "T"), [(50, 7), (7, 50), (12, 12), (1, 5), (13, 12), (100, 1)])
def test_every_index_of_a_bin_is_drawn_equally_often(length, T):
    draws = 4000
    index_BT = random_per_bin(torch.full((draws,), length), T, torch.Generator().manual_seed(0)).numpy()
    for column, choices in zip(index_BT.T, bins(length, T), strict=True):
        share = np.bincount(column, minlength=length)[list(choices)] / draws
        assert share.sum() == pytest.approx(1)
        assert share == pytest.approx(1 / len(choices), abs=5 * (0.25 / draws) ** 0.5)


def test_videos_of_a_batch_are_drawn_apart():
    index_BT = random_per_bin(torch.tensor([500, 500]), 20, torch.Generator().manual_seed(1))
    assert not torch.equal(*index_BT)


@given(st.integers(1, 2000), st.integers(1, 800))
def test_evenly_is_all_or_the_floor_of_even_steps(length, T):
    expected = list(range(length)) if length <= T else [i * length // T for i in range(T)]
    assert evenly(length, T).tolist() == expected


@settings(max_examples=30)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 5), st.integers(0, 1000))
def test_every_pass_shows_every_video_once(lengths, size, seed):
    batches = Batches(torch.tensor(lengths), size, 4, seed)
    for _ in range(3):
        seen = [batches.next()[0] for _ in range(-(-len(lengths) // size))]
        assert sorted(torch.cat(seen).tolist()) == list(range(len(lengths)))
        assert all(len(video_B) == size for video_B in seen[:-1])


@settings(max_examples=30)
@given(st.integers(0, 20), st.integers(0, 1000))
def test_a_stream_goes_on_where_its_state_was_taken(before, seed):
    lengths = torch.tensor([5, 9, 30, 1, 12])
    straight = Batches(lengths, 2, 6, seed)
    for _ in range(before):
        straight.next()
    resumed = Batches(lengths, 2, 6, seed + 1)
    resumed.load_state_dict(straight.state_dict())
    for _ in range(8):
        for ours, theirs in zip(resumed.next(), straight.next(), strict=True):
            assert torch.equal(ours, theirs)


def test_seeds_differ():
    lengths = torch.full((64,), 30)
    assert not torch.equal(Batches(lengths, 64, 4, 0).next()[0], Batches(lengths, 64, 4, 1).next()[0])
