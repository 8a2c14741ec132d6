"""Windowed decoding: a video as 16-frame snippets, resampled by time stamps, with one snippet in memory.

Resampling: source frame i, at p_i seconds after the file's start, is shown from output frame ⌊p_i · fps + ½⌋ up to that
of the next source frame; the last one lasts its duration. The first one is shown from the start, even if sound begins
earlier (um.video.container.head_start). Any constant or variable rate gives round(duration · fps) frames, and a
constant source at `fps` is unchanged.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import cos, floor, radians, sin
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from av.codec.context import Flags
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import Interpolation

from um.errors import BadInput
from um.video.container import PIXELS, check_size, head_start, opened, pictures, reading
from um.video.damage import Reached, check_length, check_step, whole_frames

Frames = npt.NDArray[np.uint8]


class Turn(NamedTuple):
    """Operations on a picture, in this order."""

    transpose: bool = False
    upside_down: bool = False
    mirror: bool = False


SLIMMEST = 16
"""Largest ratio of sides: above it a resized picture may need gigabytes."""

HALF = Fraction(1, 2)

# identical bits on every CPU, at the same speed
EXACT_BILINEAR = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def snippets(
    path: Path,
    fps: float = 25.0,
    window: int = 16,
    short_side: int = 256,
    before: int = 0,
    after: int = 0,
    stride: int | None = None,
) -> Iterator[Frames]:
    """Yield (before + window + after, H, W, 3) uint8 RGB: snippets with their surroundings.

    An incomplete snippet at the end is dropped. The first and last frame are repeated beyond the ends of the video.

    Args:
        path: any container and codec that FFmpeg reads.
        fps: frames per second after resampling.
        window: frames per snippet.
        short_side: pixels of the shorter side after bilinear resizing; the longer one is rounded to the nearest pixel
            (half to even), keeping the aspect ratio of stored pixels.
        before: frames before the snippet.
        after: frames after the snippet.
        stride: frames from one snippet to the next; default: the window, without overlap.

    Raises:
        BadInput: not a video, damaged, truncated, or shorter than one snippet. Damage is raised only after the snippets
            before it, so use none until the iterator ends.
    """
    rate = Fraction(str(fps))
    stride = stride or window
    shown: list[Frames] = []  # starts `before` frames before the next snippet
    count = skipped = 0  # frames so far, and those to skip before that start
    shape: tuple[int, ...] | None = None
    turns: dict[int, Turn] = {}  # by angle: reading a frame's side data keeps it alive until garbage collection
    for frame, repeats in _shown(path, rate):
        if repeats:
            if frame.rotation not in turns:
                turns[frame.rotation] = _turn(frame, path)
            picture = _turned(_picture(frame, short_side, path), turns[frame.rotation])
            if shape and picture.shape != shape:
                (height, width), (old_height, old_width) = picture.shape[:2], shape[:2]
                found = f"frames resized to {old_width}x{old_height}, then {width}x{height}"
                raise BadInput(path, found, "one aspect ratio", "split it where that changes")
            shape = picture.shape
        for _ in range(repeats):
            shown += [picture] * (1 if count else before + 1)
            count += 1
            if skipped:
                skipped -= 1
                shown.clear()
            if len(shown) == before + window + after:
                yield np.stack(shown)
                skipped = max(0, stride - len(shown))
                del shown[:stride]
    if count < window:
        found = f"{count} frames at {fps:g} fps"
        raise BadInput(path, found, f"at least {window} frames (one snippet)", "remove it from the list of videos")
    while len(shown) >= before + window:
        yield np.stack(shown + shown[-1:] * (before + window + after - len(shown)))
        del shown[:stride]


def centre(frames_THWX: Frames, crop: int) -> Frames:
    """The central `crop` x `crop` pixels (an odd pixel is dropped at the bottom and right)."""
    height, width = frames_THWX.shape[1:3]
    top, left = (height - crop) // 2, (width - crop) // 2
    return frames_THWX[:, top : top + crop, left : left + crop]


def _shown(path: Path, rate: Fraction) -> Iterator[tuple[Any, int]]:
    """Source frames, each with the number of output frames that show it."""
    with opened(path) as container:
        yield from _resampled(container, path, rate)


def _resampled(container: Any, path: Path, rate: Fraction) -> Iterator[tuple[Any, int]]:
    stream = pictures(container, path)
    # one thread: several may drop different frames of a damaged file in each run
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    stream.codec_context.flags |= Flags.output_corrupt  # otherwise they are dropped silently
    stream.codec_context.options = {"max_pixels": str(PIXELS)}
    if stream.codec_context.name == "mjpeg":  # does not mark concealed damage
        stream.codec_context.options |= {"err_detect": "explode"}
    frame, shown = None, 0
    first = start = last = end = Fraction(0)
    reached = Reached()
    in_order = container.format.name == "avi"  # has decoding times only, and FFmpeg guesses the others wrong
    for upcoming in whole_frames(container, stream, path, reached):
        stamp = upcoming.dts if in_order else upcoming.pts
        time = end if stamp is None else stamp * stream.time_base
        if frame is None:
            first = time
            start = time - head_start(container, stream, path, time, reached.delay or Fraction(0))
        else:
            check_step(last, time, path)
            until = floor((time - start) * rate + HALF)
            yield frame, max(until - shown, 0)
            shown = max(until, shown)
        frame, last = upcoming, time
        end = time + _duration(frame, stream)
    if frame is not None:
        check_step(last, end, path)
        yield frame, max(floor((end - start) * rate + HALF) - shown, 0)
    check_length(container, stream, path, first, end, reached)


def _duration(frame: Any, stream: Any) -> Fraction:
    if frame.duration:
        return Fraction(frame.duration * stream.time_base)
    return 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)


def _picture(frame: Any, short_side: int, path: Path) -> Frames:
    """The frame resized to a shorter side of `short_side`: (H, W, 3) uint8 RGB."""
    check_size(frame, path)
    short, long = sorted((frame.width, frame.height))
    if not short or long > SLIMMEST * short:
        expected = f"sides of at most {SLIMMEST}:1"
        raise BadInput(path, f"pictures of {frame.width}x{frame.height}", expected, "remove it from the list of videos")
    scale = Fraction(short_side, short)
    width, height = round(frame.width * scale), round(frame.height * scale)
    with reading(path):
        image: Frames = frame.reformat(width, height, "rgb24", interpolation=EXACT_BILINEAR, threads=1).to_ndarray()
    return image


def _turn(frame: Any, path: Path) -> Turn:
    """The rotation stored in the file: a phone's display matrix maps (x, y) to (ax + cy, bx + dy)."""
    try:
        matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
    except ValueError:  # PyAV fails on side data of unknown kinds (Exif), but knows the angle
        angle = radians(frame.rotation)
        a, b, c, d = (round(65536 * x) for x in (cos(angle), -sin(angle), sin(angle), cos(angle)))
    else:
        if matrix is None:
            return Turn()
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if min(max(abs(a), abs(d)), max(abs(b), abs(c))) * 100 > max(map(abs, (a, b, c, d))):
        found = f"pictures rotated by {frame.rotation} degrees"
        raise BadInput(path, found, "quarter turns", "rotate and re-encode it: ffmpeg -i IN OUT")
    return Turn(True, b < 0, c < 0) if abs(b) > abs(a) else Turn(False, d < 0, a < 0)


def _turned(image: Frames, turn: Turn) -> Frames:
    """The picture in its display orientation."""
    if turn.transpose:
        image = image.swapaxes(0, 1)
    return image[:: -1 if turn.upside_down else 1, :: -1 if turn.mirror else 1]
