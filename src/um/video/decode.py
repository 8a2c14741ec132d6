"""Windowed decoding: a video as 16-frame snippets, resampled by time stamps, one snippet in memory.

Resampling: source frame i, at p_i seconds after the first frame, is shown from output frame
⌊p_i · fps + ½⌋ up to that of the next source frame; the last one lasts its duration. Any constant or
variable rate gives round(duration · fps) frames, and a constant source at `fps` passes unchanged.
"""

import logging
from collections.abc import Iterator
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation

from um.errors import BadInput

log = logging.getLogger(__name__)

Frames = npt.NDArray[np.uint8]

TOLERANCE = Fraction(1)
"""Seconds that a container may declare beyond its last frame (sound that ends later, dropped frames).

A file that lost less than this at its end may pass, where its container has no other sign of the loss.
"""

HALF = Fraction(1, 2)

# the same bits on every processor, and no slower
EXACT_BILINEAR = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def snippets(
    path: Path, fps: float = 25.0, window: int = 16, short_side: int = 256, before: int = 0, after: int = 0
) -> Iterator[Frames]:
    """Yield (before + window + after, H, W, 3) uint8 RGB: snippets that do not overlap, with their surroundings.

    An incomplete snippet at the end is dropped; around the video its first and last frame are repeated.

    Args:
        path: any container and codec that FFmpeg reads.
        fps: frames per second after resampling.
        window: frames per snippet.
        short_side: pixels of the shorter side after bilinear resizing; the longer one is rounded to the
            nearest pixel (half to even), aspect kept in stored pixels.
        before: frames before the snippet.
        after: frames after the snippet.

    Raises:
        BadInput: not a video, damaged, cut off, or shorter than one snippet; a file that is cut off
            raises after its last whole snippet, so use nothing before the iterator ends.
    """
    rate = Fraction(str(fps))
    shown: list[Frames] = []  # from `before` frames before the next snippet on
    count = 0
    for frame, repeats in _shown(path, rate):
        if repeats:
            picture = _picture(frame, short_side)
        for _ in range(repeats):
            shown += [picture] * (1 if shown else before + 1)
            count += 1
            if len(shown) == before + window + after:
                yield np.stack(shown)
                del shown[:window]
    if count < window:
        found = f"{count} frames at {fps:g} fps"
        raise BadInput(path, found, f"at least {window} frames (one snippet)", "remove it from the list of videos")
    while len(shown) >= before + window:
        yield np.stack(shown + shown[-1:] * (before + window + after - len(shown)))
        del shown[:window]


def centre(frames_THWX: Frames, crop: int) -> Frames:
    """The central `crop` x `crop` pixels (the odd pixel is left at the bottom and right)."""
    height, width = frames_THWX.shape[1:3]
    top, left = (height - crop) // 2, (width - crop) // 2
    return frames_THWX[:, top : top + crop, left : left + crop]


def _shown(path: Path, rate: Fraction) -> Iterator[tuple[Any, int]]:
    """Source frames, each with the number of output frames that show it."""
    if not path.is_file():
        raise BadInput(path, "a folder" if path.is_dir() else "no such file", "a video file", "check the path")
    try:
        with av.open(path) as container:
            yield from _resampled(container, path, rate)
    except av.error.FFmpegError as error:
        found = f"a file that cannot be decoded ({error.strerror or error})"
        raise BadInput(path, found, "a whole video file", "fetch it again, or play it to see what is wrong") from None


def _resampled(container: Any, path: Path, rate: Fraction) -> Iterator[tuple[Any, int]]:
    streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not streams:
        raise BadInput(path, "no video stream", "a file with moving pictures", "is this a sound file?")
    stream = streams[0]
    # one thread: frame threads may drop different frames of a damaged file from run to run
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    frame, start, end, shown = None, Fraction(0), Fraction(0), 0
    for upcoming in _frames(container, stream, path):
        time = end if upcoming.pts is None else upcoming.pts * upcoming.time_base
        if frame is None:
            start = time
        else:
            until = floor((time - start) * rate + HALF)
            yield frame, max(until - shown, 0)
            shown = max(until, shown)
        frame = upcoming
        end = time + _duration(frame, stream)
    if frame is not None:
        yield frame, max(floor((end - start) * rate + HALF) - shown, 0)
    declared = _declared(container, stream, start)
    if declared is not None and end - start < declared - TOLERANCE:
        found = f"pictures for {float(end - start):.2f} s of the {float(declared):.2f} s that the file declares"
        raise BadInput(path, found, "a whole video", "the file is cut off: fetch it again")


def _frames(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise BadInput(path, "a packet that is cut off", "a whole video", "fetch it again")
        yield from packet.decode()


def _duration(frame: Any, stream: Any) -> Fraction:
    if frame.duration:
        return Fraction(frame.duration * frame.time_base)
    return 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)


def _declared(container: Any, stream: Any, start: Fraction) -> Fraction | None:
    """Seconds of pictures that the container promises; None where it does not say (a live recording).

    What FFmpeg estimates from the bytes that are there (AVI, MPEG-TS) shrinks with a file that is cut
    off, so the header's frame count is asked as well.
    """
    promises = []
    if stream.duration is not None:
        promises.append(Fraction(stream.duration * stream.time_base))
    elif container.duration is not None:  # Matroska and Flash count from zero, not from the first frame
        promises.append(Fraction(container.duration, av.time_base) - start)
    if stream.frames and stream.average_rate:
        promises.append(stream.frames / Fraction(stream.average_rate))
    return max(promises, default=None)


def _picture(frame: Any, short_side: int) -> Frames:
    """Turn as the file asks for and resize the shorter side to `short_side`: (H, W, 3) uint8 RGB."""
    scale = Fraction(short_side, min(frame.width, frame.height))
    width, height = round(frame.width * scale), round(frame.height * scale)
    image: Frames = frame.reformat(width, height, "rgb24", interpolation=EXACT_BILINEAR, threads=1).to_ndarray()
    return np.rot90(image, round(frame.rotation / 90))  # a telephone's display matrix, counter-clockwise
