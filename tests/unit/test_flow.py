"""TV-L1 in PyTorch against OpenCV's and against motion that is known; its bits do not depend on the batch."""

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from um.errors import BadInput
from um.video import flow as module
from um.video.flow import flow, grey, median, median_network, quantise


def texture(points_HW2: np.ndarray, seed: int = 0) -> Tensor:
    """A picture known at every point of the plane: forty waves of 5 to 60 pixels, so moved ones are exact too."""
    rng = np.random.default_rng(seed)
    angle, length, phase = rng.uniform(0, 2 * np.pi, 40), rng.uniform(5, 60, 40), rng.uniform(0, 2 * np.pi, 40)
    wave_2K = 2 * np.pi / length * np.stack((np.cos(angle), np.sin(angle)))
    brightness = np.sin(points_HW2 @ wave_2K + phase).sum(-1)
    return torch.from_numpy(np.clip(127.5 + 16 * brightness, 0, 255).round().astype(np.uint8))


def moved(matrix: np.ndarray, shift: tuple[float, float], height: int = 96, width: int = 120, seed: int = 0):
    """A pair of (1, H, W), where the point p of the first goes to `matrix @ p + shift` about the centre; its flow."""
    y, x = np.mgrid[:height, :width] - np.array([[[height / 2]], [[width / 2]]])
    points = np.stack((x, y), -1)
    first, second = texture(points, seed), texture((points - shift) @ np.linalg.inv(matrix).T, seed)
    truth = torch.from_numpy(points @ matrix.T + shift - points).permute(2, 0, 1)[None]
    return first[None], second[None], truth


def turned(degrees: float, zoom: float = 1.0) -> np.ndarray:
    angle = np.radians(degrees)
    return zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


STAY = np.eye(2)
MOTIONS = {
    "a quarter of a pixel": (STAY, (0.25, -0.4)),
    "a pixel and a half": (STAY, (1.5, 0.7)),
    "six pixels": (STAY, (-5.0, 3.3)),
    "rotation": (turned(2.5), (0.0, 0.0)),
    "zoom": (turned(0, 1.04), (0.0, 0.0)),
    "rotation, zoom and shift": (turned(-1.5, 0.97), (1.2, -0.8)),
}


def inner_error(found_N2HW: Tensor, truth_N2HW: Tensor) -> Tensor:
    """End-point errors, without the border that moves in and out of the picture."""
    return (found_N2HW - truth_N2HW).norm(dim=1)[:, 8:-8, 8:-8].flatten()


@pytest.mark.parametrize("motion", MOTIONS)
def test_known_motion_is_found_as_well_as_by_opencv(motion):
    first, second, truth = moved(*MOTIONS[motion])
    ours, theirs = (inner_error(flow(first, second, backend), truth) for backend in ("torch", "opencv"))
    assert ours.mean() <= 1.02 * theirs.mean() + 0.002
    assert ours.mean() <= 0.12  # of it, about 0.03 are the pictures' rounding to whole grey levels


def differences(first: Tensor, second: Tensor, scales: int, warps: int, medians: int, iterations: int) -> Tensor:
    """Lengths of the differences to OpenCV, both told to take no more steps than these."""
    solver = cv2.optflow.DualTVL1OpticalFlow.create(
        nscales=scales, warps=warps, outerIterations=medians, innnerIterations=iterations
    )
    theirs = torch.from_numpy(solver.calc(first[0].numpy(), second[0].numpy(), None))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("SCALES", scales), ("WARPS", warps), ("MEDIANS", medians), ("ITERATIONS", iterations)):
            patch.setattr(module, name, value)
        return (flow(first, second)[0].permute(1, 2, 0) - theirs).norm(dim=2).flatten()


@pytest.mark.parametrize("motion", MOTIONS)
def test_one_linearisation_is_that_of_opencv(motion):
    """To rounding: steps, borders, medians, and the step at which it settles. Later warps magnify the rounding."""
    first, second, _ = moved(*MOTIONS[motion])
    assert differences(first, second, scales=1, warps=1, medians=10, iterations=30).max() <= 1e-4


@settings(max_examples=20, deadline=None)
@given(st.integers(16, 70), st.integers(16, 70), st.floats(-3, 3), st.floats(-3, 3), st.integers(0, 9))
def test_scales_of_any_size_are_those_of_opencv(height, width, x, y, seed):
    """Sides that the scales round up, down and to even; pictures that have fewer than five of them."""
    first, second, _ = moved(STAY, (x, y), height, width, seed)
    difference = differences(first, second, scales=5, warps=1, medians=1, iterations=6)
    assert difference.median() <= 1e-4
    assert difference.quantile(0.95) <= 3e-3


@pytest.fixture(scope="module")
def pairs() -> tuple[Tensor, Tensor]:
    """Pairs that settle at different times, of which the last does not move; PyTorch may treat three like RGB."""
    made = [moved(*motion, height=62, width=80, seed=seed)[:2] for seed, motion in enumerate(MOTIONS.values())]
    first, second = (torch.cat(pictures[:3]) for pictures in zip(*made, strict=True))
    return torch.cat((first, first[:1])), torch.cat((second, first[:1]))


def test_bits_do_not_depend_on_the_batch(pairs):
    first, second = pairs
    alone = flow(first, second, at_once=1)
    for at_once in (3, 4):
        assert torch.equal(flow(first, second, at_once=at_once), alone)
    order = torch.tensor([3, 0, 2])
    assert torch.equal(flow(first[order], second[order], at_once=3), alone[order])
    assert torch.equal(flow(first[2:3], second[2:3], "opencv"), flow(first, second, "opencv")[2:3])


def test_bits_do_not_depend_on_the_threads(monkeypatch):
    monkeypatch.setattr(module, "WARPS", 1)
    first, second, _ = moved(*MOTIONS["rotation"], height=170, width=210)  # large enough to be shared out
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(flow(first, second))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_a_pair_that_has_settled_is_left_alone(pairs):
    assert flow(*pairs, at_once=4)[-1].count_nonzero() == 0


def test_bits_are_the_same_with_the_median_of_gpus(pairs, monkeypatch):
    on_cpu = flow(*pairs)
    monkeypatch.setattr(module, "median", median_network)
    assert torch.equal(flow(*pairs), on_cpu)


def test_no_texture_is_no_motion():
    flat = torch.full((2, 30, 40), 90, dtype=torch.uint8)
    assert flow(flat, flat + torch.tensor([0, 60], dtype=torch.uint8)[:, None, None]).abs().max() < 1e-3


def test_grey_is_that_of_opencv():
    frames = np.random.default_rng(0).integers(0, 256, (3, 200, 210, 3), np.uint8)
    frames[0, 0, :2] = [[0, 0, 0], [255, 255, 255]]
    expected = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    assert np.array_equal(grey(torch.from_numpy(frames)), expected)


def test_median_network_by_the_zero_one_principle():
    """A network of comparators that is right for all zeros and ones is right for all values.

    It sorts the columns first (and that five comparators' sort is tried on all 32 columns), so it is enough to try
    every number of ones in each column.
    """
    counts_K5 = torch.cartesian_prod(*[torch.arange(6)] * 5)
    patches_K55 = (torch.arange(5)[:, None] < counts_K5[:, None]).float()
    assert torch.equal(median_network(patches_K55)[:, 2, 2], (counts_K5.sum(1) > 12).float())
    columns_K5 = torch.cartesian_prod(*[torch.arange(2.0)] * 5)
    assert torch.equal(torch.stack(module._ranked(list(columns_K5.T), (0, 1, 2, 3, 4)), 1), columns_K5.sort(1).values)


def test_medians_are_those_of_opencv():
    fields = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 21, 34)).astype(np.float32).round(1))
    expected = torch.from_numpy(np.stack([cv2.medianBlur(field, 5) for field in fields.numpy()]))
    assert torch.equal(median_network(fields), expected)
    assert torch.equal(median(fields), expected)


def test_bytes_stand_for_twenty_pixels_each_way():
    motion = torch.tensor([0.0, -20, 20, -1e9, 1e9, 0.1, -0.1, 40 / 255])
    assert quantise(motion).tolist() == [128, 0, 255, 0, 255, 128, 127, 128]
    spread = torch.linspace(-20, 20, 4001)
    assert ((quantise(spread).float() - 127.5) / 127.5 * 20 - spread).abs().max() <= 20 / 255 + 1e-5


@pytest.mark.parametrize(
    ("first", "second", "backend", "message"),
    [
        (torch.zeros(2, 20, 20), torch.zeros(2, 20, 20), "torch", "found float32"),
        (torch.zeros(2, 20, 20, 3).byte(), torch.zeros(2, 20, 20, 3).byte(), "torch", "convert RGB frames"),
        (torch.zeros(2, 20, 15).byte(), torch.zeros(2, 20, 15).byte(), "opencv", "at least 16"),
        (
            torch.zeros(2, 20, 20).byte(),
            torch.zeros(1, 20, 20).byte(),
            "torch",
            "first and second pictures of equal shapes",
        ),
        (torch.zeros(2, 20, 20).byte(), torch.zeros(2, 20, 20).byte(), "farneback", "torch or opencv"),
    ],
)
def test_what_is_no_pair_of_pictures_is_refused(first, second, backend, message):
    with pytest.raises(BadInput, match=message):
        flow(first, second, backend)


@pytest.mark.parametrize("backend", ["torch", "opencv"])
def test_no_pairs_are_no_flow(backend):
    none = torch.zeros(0, 20, 30, dtype=torch.uint8)
    assert flow(none, none, backend).shape == (0, 2, 20, 30)


@pytest.mark.parametrize(("video", "start"), [("v_GGSY1Qvo990.mp4", 30), ("plastering.avi", 30)])
def test_real_snippets_agree_with_opencv(reference_data, video, start):
    """3 pairs, smaller than those of benchmarks/flow.py for time; texture is 5 grey levels a pixel."""
    with av.open(reference_data / "data/videos" / video) as container:
        frames = [
            f.reformat(136, 102, "rgb24").to_ndarray()
            for f, _ in zip(container.decode(video=0), range(start + 4), strict=False)
        ]
    pictures = grey(torch.from_numpy(np.stack(frames[start:])))
    ours, theirs = (flow(pictures[:-1], pictures[1:], backend) for backend in ("torch", "opencv"))
    gradient = torch.stack(torch.gradient(pictures[:-1].float(), dim=(1, 2))).norm(dim=0)
    difference = (ours - theirs).norm(dim=1)[gradient >= 5]
    assert len(difference) > 10_000
    assert difference.median() <= 0.1
    assert np.percentile(difference, 95) <= 0.5
    a, b = (((quantise(motion).double() - 127.5) / 127.5).flatten() for motion in (ours, theirs))
    assert a @ b / a.norm() / b.norm() >= 0.99


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu(pairs):
    first, second = (pictures.cuda() for pictures in pairs)
    on_gpu = flow(first, second)
    assert on_gpu.device == first.device
    assert torch.equal(flow(first, second, at_once=2), on_gpu)
    difference = (on_gpu.cpu() - flow(*pairs)).norm(dim=1).flatten()
    assert difference.median() <= 0.02
    assert difference.quantile(0.95) <= 0.2
