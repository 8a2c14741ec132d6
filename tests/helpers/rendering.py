"""Small videos whose frames carry their own number."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from math import floor
from pathlib import Path
from typing import Any

import av
import numpy as np

SIDE = 64
STEP = 12  # grey levels between neighbouring digits


def picture(number: int) -> np.ndarray:
    """Left half: the number's low digit to base 20; right half: the high one."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[:, : SIDE // 2] = 5 + STEP * (number % 20)
    image[:, SIDE // 2 :] = 5 + STEP * (number // 20)
    return image


def number(image: np.ndarray) -> int:
    """What `picture` wrote, from any resized copy."""
    quarter = image.shape[1] // 4
    low, high = image[:, :quarter].mean(), image[:, -quarter:].mean()
    return round((low - 5) / STEP) + 20 * round((high - 5) / STEP)


def render(
    path: Path, times: Sequence[Fraction], rate: Fraction, base: Fraction = Fraction(1, 90_000), **options: str
) -> Path:
    """Write numbered frames at `times` (s, in steps of `base`), each until the next, the last for 1 / rate."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "1", "g": "12"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = base
        encode(container, stream, picture, times, 1 / rate, base)
    return path


def encode(
    container: Any,
    stream: Any,
    draw: Callable[[int], np.ndarray],
    times: Sequence[Fraction],
    last: Fraction,
    base: Fraction,
) -> None:
    """Write frame i at times[i] (s, in steps of `base`), each until the next and the last one for `last`."""
    gaps = [b - a for a, b in pairwise(times)] + [last]
    for i, (time, gap) in enumerate(zip(times, gaps, strict=True)):
        frame = av.VideoFrame.from_ndarray(draw(i), format="rgb24")
        frame.pts, frame.time_base, frame.duration = round(time / base), base, round(gap / base)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def constant(path: Path, frames: int, rate: str = "25", **options: str) -> Path:
    """A video of constant frame rate."""
    fps = Fraction(rate)
    return render(path, [i / fps for i in range(frames)], fps, 1 / fps, **options)


def expected(times: Sequence[Fraction], end: Fraction, fps: int = 25) -> list[int]:
    """The definition, frame by frame: the last source frame whose rounded time is not later, in whole snippets."""
    starts = [floor(time * fps + Fraction(1, 2)) for time in times]
    total = floor(end * fps + Fraction(1, 2))
    shown, last = [], 0
    for j in range(total // 16 * 16):
        while last + 1 < len(starts) and starts[last + 1] <= j:
            last += 1
        shown.append(last)
    return shown
