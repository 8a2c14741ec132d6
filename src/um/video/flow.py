"""Optical flow for two-stream networks: TV-L1, in PyTorch for many pairs at once, or by OpenCV.

Duality-based TV-L1 (Zach, Pock and Bischof, DAGM 2007) in the multi-scale warping scheme of Sánchez Pérez,
Meinhardt-Llopis and Facciolo (IPOL 2013), with the defaults, borders and stopping rule of OpenCV's DualTVL1.
The two backends differ by rounding, magnified by later warps and the stopping rule: about as much as OpenCV's own flow
changes if its pictures change by 2e-5 grey levels. Where almost nothing moves, this is most of the flow.
"""

from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad

from um.errors import BadInput

# N pairs, H × W pixels, 2 components of the flow (x, y); M = N·H·W: the pixels of all pairs, concatenated

TAU, LAMBDA, THETA = 0.25, 0.15, 0.3
SCALES, SCALE_STEP, SMALLEST = 5, 0.8, 16
WARPS, MEDIANS, ITERATIONS = 5, 10, 30
"""WARPS linearisations per scale, each with at most MEDIANS median filters, each followed by ITERATIONS steps."""
EPSILON = 0.01
"""A pair has converged when the root mean square change of its flow in one step is at most this, in pixels."""

BOUND = 20.0
"""Motion in pixels represented by the bytes 0 and 255; faster motion is clipped."""

FIXED = 2.0**24
"""Fixed-point steps per squared pixel: integer sums do not depend on their order, hence not on the batch."""

CACHED = 2**17
"""Pixels at once on a CPU: 1.2 times as fast as one pair of 256 x 256, twice as fast at 128 x 128."""

Backend = Literal["torch", "opencv"]


def grey(frames_NHW3: Tensor) -> Tensor:
    """Luma as in OpenCV's RGB2GRAY: (N, H, W) uint8 from (N, H, W, 3) uint8 RGB, on the frames' device."""
    red, green, blue = frames_NHW3.to(torch.int32).unbind(-1)
    # BT.601 in fifteen bits, rounded
    return ((9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15).to(torch.uint8)


def flow(first_NHW: Tensor, second_NHW: Tensor, backend: Backend = "torch", at_once: int | None = None) -> Tensor:
    """Motion from each first picture to its second: (N, 2, H, W) float32 in pixels, x then y, on their device.

    A pair's result does not depend on the others, nor on the batch size.

    Args:
        first_NHW: (N, H, W) uint8 grey; `flow(g[:-1], g[1:])` gives the motion between consecutive frames.
        second_NHW: of the same shape.
        backend: `torch` runs on the pictures' device; `opencv` on the CPU, pair by pair.
        at_once: batch size of `torch`; a pair takes the memory of about 40 float32 pictures. Default: on a CPU as
            many as its caches hold, else 64.

    Raises:
        BadInput: pictures of another type or shape, or smaller than 16 pixels; an unknown backend.
    """
    _check(first_NHW, second_NHW)
    if backend == "opencv":
        return _opencv(first_NHW, second_NHW)
    if backend != "torch":
        raise BadInput("flow backend", repr(backend), "torch or opencv", "torch is faster, opencv the reference")
    N, H, W = first_NHW.shape
    flow_N2HW = torch.empty(N, 2, H, W, device=first_NHW.device)
    at_once = at_once or (max(1, CACHED // (H * W)) if first_NHW.device.type == "cpu" else 64)
    with torch.inference_mode():
        for start in range(0, N, at_once):
            part = slice(start, start + at_once)
            flow_N2HW[part] = _pyramid(first_NHW[part].float(), second_NHW[part].float()).transpose(0, 1)
    return flow_N2HW


def quantise(flow_N2HW: Tensor) -> Tensor:
    """Clip to ±BOUND pixels and scale to bytes (I3D's preprocessing): uint8 of the same shape.

    Zero is 127.5, which rounds (half to even) to 128; a byte is 0.157 pixels.
    """
    return (flow_N2HW.clamp(-BOUND, BOUND) * (127.5 / BOUND) + 127.5).round().to(torch.uint8)


def _check(first_NHW: Tensor, second_NHW: Tensor) -> None:
    for frames in (first_NHW, second_NHW):
        if frames.dtype != torch.uint8 or frames.ndim != 3 or min(frames.shape[1:]) < SMALLEST:
            found = f"{str(frames.dtype).removeprefix('torch.')} of shape {tuple(frames.shape)}"
            expected = f"uint8 of shape (N, H, W), H and W at least {SMALLEST}"
            raise BadInput("flow", found, expected, "convert RGB frames with um.video.flow.grey")
    if first_NHW.shape != second_NHW.shape:
        found = f"{tuple(first_NHW.shape)} and {tuple(second_NHW.shape)}"
        raise BadInput("flow", found, "first and second pictures of equal shapes", "pass g[:-1] and g[1:]")


def _opencv(first_NHW: Tensor, second_NHW: Tensor) -> Tensor:
    N, H, W = first_NHW.shape
    flow_NHW2 = np.empty((N, H, W, 2), np.float32)
    solver = cv2.optflow.DualTVL1OpticalFlow.create()
    for result, first, second in zip(flow_NHW2, first_NHW.cpu().numpy(), second_NHW.cpu().numpy(), strict=True):
        solver.calc(first, second, result)  # writes into it
    return torch.from_numpy(flow_NHW2).permute(0, 3, 1, 2).contiguous().to(first_NHW.device)


def _pyramid(first_NHW: Tensor, second_NHW: Tensor) -> Tensor:
    """(2, N, H, W) flow, from the coarsest scale to the finest."""
    scales = [(first_NHW, second_NHW)]
    while len(scales) < SCALES and min(round(SCALE_STEP * side) for side in scales[-1][0].shape[1:]) >= SMALLEST:
        first, second = scales[-1]
        scales.append((_shrunk(first), _shrunk(second)))
    flow_2NHW = torch.zeros(2, *scales[-1][0].shape, device=first_NHW.device)
    for first, second in reversed(scales):
        if flow_2NHW.shape[1:] != first.shape:
            # one image per field: three pairs as channels would be treated as RGB, and rounded differently
            larger = interpolate(flow_2NHW.flatten(0, 1)[:, None], first.shape[1:], mode="bilinear") / SCALE_STEP
            flow_2NHW = larger.view(2, *first.shape)
        _solve_scale(first, second, flow_2NHW)
    return flow_2NHW


def _shrunk(image_NHW: Tensor) -> Tensor:
    """Bilinear downscaling by SCALE_STEP; unlike PyTorch, OpenCV rounds the new sides (half to even)."""
    height, width = (round(SCALE_STEP * side) for side in image_NHW.shape[1:])
    padded = pad(image_NHW[:, None], (0, 2, 0, 2), "replicate")
    small = interpolate(padded, scale_factor=SCALE_STEP, mode="bilinear", recompute_scale_factor=False)
    return small[:, 0, :height, :width].contiguous()


def _solve_scale(first_NHW: Tensor, second_NHW: Tensor, flow_2NHW: Tensor) -> None:
    """Refine the flow in place, by WARPS linearisations of the second picture around it."""
    N, H, W = first_NHW.shape
    around = pad(second_NHW[:, None], (1, 1, 1, 1), "replicate")
    slope_x = (around[..., 1:-1, 2:] - around[..., 1:-1, :-2]) / 2
    slope_y = (around[..., 2:, 1:-1] - around[..., :-2, 1:-1]) / 2
    # sides are powers of two, so that grid_sample's -1…1 represents pixels exactly and static parts stay static
    width, height = (2 ** (side - 1).bit_length() for side in (W, H))
    images_N3XY = pad(torch.cat((second_NHW[:, None], slope_x, slope_y), 1), (0, width - W, 0, height - H))
    columns = torch.arange(W, device=first_NHW.device)
    rows = torch.arange(H, device=first_NHW.device)[:, None]
    dual_22NHW = flow_2NHW.new_zeros(2, 2, N, H, W)  # direction of the derivative, component of the flow
    for _ in range(WARPS):
        x, y = (flow_2NHW[0] + columns) * 2 / width, (flow_2NHW[1] + rows) * 2 / height
        grid_NHW2 = torch.stack((x + (1 / width - 1), y + (1 / height - 1)), -1)
        # cubic with a = -0.75, and black beyond the border, as in OpenCV's remap
        warped_N3HW = grid_sample(images_N3XY, grid_NHW2, "bicubic", "zeros", align_corners=False)
        slope_2NHW = warped_N3HW[:, 1:].transpose(0, 1).contiguous()
        residual_NHW = warped_N3HW[:, 0] - (slope_2NHW * flow_2NHW).sum(0) - first_NHW
        _minimise(residual_NHW, slope_2NHW, flow_2NHW, dual_22NHW)


def _minimise(residual_NHW: Tensor, slope_2NHW: Tensor, flow_2NHW: Tensor, dual_22NHW: Tensor) -> None:
    """Minimise one linearisation, changing flow and dual in place; converged pairs are skipped."""
    # the step to the closest flow without residual is slope · (constant + target · flow), clipped to ±λθ·slope
    inverse_NHW = -1 / slope_2NHW.square().sum(0).clamp_min(torch.finfo(torch.float32).eps)
    problem = (residual_NHW * inverse_NHW, slope_2NHW * inverse_NHW, slope_2NHW, flow_2NHW, dual_22NHW)
    N = flow_2NHW.shape[1]
    live, step = torch.arange(N, device=flow_2NHW.device), 0
    while len(live) and step < MEDIANS * ITERATIONS:
        part = problem if len(live) == N else tuple(field.index_select(-3, live) for field in problem)
        flow, dual, settled, step = _iterate(step, *part)
        flow_2NHW[:, live], dual_22NHW[:, :, live] = flow, dual
        live = live[~settled]


def _iterate(
    step: int, constant_NHW: Tensor, target_2NHW: Tensor, slope_2NHW: Tensor, flow_2NHW: Tensor, dual_22NHW: Tensor
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Alternate the thresholding step and Chambolle's dual step until at least one pair converges.

    The dual variable is θ times the paper's. It is zero in the last column (x) and the last row (y), and so is the
    forward gradient; therefore concatenated fields can be shifted as a whole, by one pixel or one row.
    """
    _, N, H, W = flow_2NHW.shape
    M = N * H * W
    constant_M, target_2M, slope_2M = constant_NHW.reshape(M), target_2NHW.reshape(2, M), slope_2NHW.reshape(2, M)
    flow_X, dual_2X = flow_2NHW.new_zeros(2 * M + W), flow_2NHW.new_zeros(2, W + 2 * M)  # one more row to shift into
    flow_P, dual_2P = flow_X[: 2 * M], dual_2X[:, W:]  # P = 2·M
    flow_P.copy_(flow_2NHW.reshape(2 * M))
    dual_2P.copy_(dual_22NHW.reshape(2, 2 * M))
    flow_2M = flow_P.view(2, M)
    gradient_2P, change_P, norm_P = torch.empty_like(dual_2P), torch.empty_like(flow_P), torch.empty_like(flow_P)
    factor_M, one = torch.empty_like(constant_M), flow_P.new_ones(())
    tolerance, settled_N = EPSILON**2 * H * W * FIXED, torch.zeros(N, dtype=torch.bool, device=flow_P.device)
    while step < MEDIANS * ITERATIONS and not settled_N.any():
        if step % ITERATIONS == 0:
            flow_P.copy_(median(flow_P.view(2 * N, H, W)).reshape(2 * M))
        torch.addcmul(constant_M, target_2M[0], flow_2M[0], out=factor_M)
        factor_M.addcmul_(target_2M[1], flow_2M[1]).clamp_(-LAMBDA * THETA, LAMBDA * THETA)
        torch.sub(dual_2P[0], dual_2X[0, W - 1 : -1], out=change_P)
        change_P.add_(dual_2P[1]).sub_(dual_2X[1, :-W])  # the divergence
        change_P.view(2, M).addcmul_(slope_2M, factor_M)
        flow_P.add_(change_P)

        torch.sub(flow_X[1 : 2 * M + 1], flow_P, out=gradient_2P[0])
        torch.sub(flow_X[W:], flow_P, out=gradient_2P[1])
        gradient_2P[0].view(2, N, H, W)[..., -1] = 0
        gradient_2P[1].view(2, N, H, W)[..., -1, :] = 0
        torch.mul(gradient_2P[0], gradient_2P[0], out=norm_P)
        norm_P.addcmul_(gradient_2P[1], gradient_2P[1]).sqrt_()
        torch.add(one, norm_P, alpha=TAU / THETA, out=norm_P)
        dual_2P.add_(gradient_2P, alpha=TAU).div_(norm_P)

        rows_2NH = torch.linalg.vector_norm(change_P.view(2, N, H, W), dim=-1).square()
        settled_N = (rows_2NH.double() * FIXED).long().sum((0, 2)) <= tolerance
        step += 1
    return flow_2M.view(2, N, H, W), dual_2P.view(2, 2, N, H, W), settled_N, step


def median(fields_KHW: Tensor) -> Tensor:
    """The median of each pixel's 5 × 5 neighbourhood, borders repeated: (K, H, W) float32, exact on any device."""
    if fields_KHW.device.type == "cpu":  # same values, 15 times as fast
        return torch.from_numpy(np.stack([cv2.medianBlur(field, 5) for field in fields_KHW.numpy()]))
    return median_network(fields_KHW)


NETWORKS = {
    4: ((0, 1), (2, 3), (0, 2), (1, 3), (1, 2)),
    5: ((0, 1), (3, 4), (2, 4), (2, 3), (1, 4), (0, 3), (0, 2), (1, 3), (1, 2)),
}
"""Sorting networks, by number of values."""


def median_network(fields_KHW: Tensor) -> Tensor:
    """`median` by minima and maxima of shifted pictures only.

    In a 5 × 5 matrix with columns, then rows sorted, six values have more than twelve larger ones and six more than
    twelve smaller ones. The other thirteen are on three anti-diagonals. Only five of them can be the median: the two
    largest of the lower one, the middle of the main one, and the two smallest of the upper one.
    """
    H, W = fields_KHW.shape[1:]
    padded = pad(fields_KHW, (2, 2, 2, 2), "replicate")
    columns = _ranked([padded[:, i : i + H] for i in range(5)], (0, 1, 2, 3, 4))
    kept = ((3, 4), (2, 3, 4), (1, 2, 3), (0, 1, 2), (0, 1))
    first, second, third, fourth, fifth = (
        _ranked([column[..., j : j + W] for j in range(5)], ranks) for column, ranks in zip(columns, kept, strict=True)
    )
    lower, low = _ranked([first[0], second[0], third[0], fourth[0]], (2, 3))
    (middle,) = _ranked([first[1], second[1], third[1], fourth[1], fifth[0]], (2,))
    high, higher = _ranked([second[2], third[2], fourth[2], fifth[1]], (0, 1))
    x, y = torch.maximum(lower, high), torch.minimum(low, higher)
    return torch.maximum(torch.minimum(x, y), torch.minimum(torch.maximum(x, y), middle))


def _ranked(values: list[Tensor], ranks: tuple[int, ...]) -> list[Tensor]:
    """The values of these ranks (0: smallest), elementwise, with only the comparisons needed."""
    needed, steps = set(ranks), []
    for a, b in reversed(NETWORKS[len(values)]):
        steps.append((a, b, a in needed, b in needed))
        if a in needed or b in needed:
            needed |= {a, b}
    values = list(values)
    for a, b, smaller, larger in reversed(steps):
        low, high = values[a], values[b]
        if smaller:
            values[a] = torch.minimum(low, high)
        if larger:
            values[b] = torch.maximum(low, high)
    return [values[rank] for rank in ranks]
