"""Detection of damaged videos, which FFmpeg itself decodes as far as possible.

Damage that leaves a valid stream is not detected: most codecs have no checksum.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from itertools import chain
from pathlib import Path
from typing import Any

import av

from um.errors import BadInput
from um.video.container import LONGEST_STILL, REFETCH, packets, reading

TOLERANCE = Fraction(1)
"""Seconds that a container may declare beyond its last frame (sound that ends later, dropped frames).

A file that lost less than this at its end may pass, if nothing else in the container shows the loss.
"""

JITTER = Fraction(1, 4)
"""Seconds by which time stamps may run backwards, or B-frames delay pictures."""

HEADER_BYTES, HOLE_BYTES = 64, 256
"""Matroska's header of a packet; a gap between packets that is larger than padding."""


@dataclass
class Reached:
    """How far a file has been read."""

    any_time: Fraction = Fraction(0)  # of all streams
    time: Fraction | None = None  # of the pictures
    delay: Fraction | None = None  # from the decoding of the first picture to its presentation
    block: int | None = None  # offset of the last packet, in bytes
    position: int = 0  # its end
    skipped: int = 0  # bytes outside packets since the last packet of pictures

    def add(self, packet: Any, pictures: bool) -> None:
        """Count a packet of any stream."""
        base = packet.time_base
        if packet.pts is not None and base:
            end = Fraction((packet.pts + (packet.duration or 0)) * base)
            self.any_time = max(self.any_time, end)
            if pictures:
                self.time = max(self.time or end, end)
                if self.delay is None:
                    self.delay = Fraction(0 if packet.dts is None else (packet.pts - packet.dts) * base)
        if packet.pos is None or not packet.size:
            return
        if packet.pos == self.block:  # several sound packets share one
            self.position += packet.size
            return
        if self.block is not None:
            self.skipped += max(packet.pos - self.position - HEADER_BYTES, 0)
        self.block, self.position = packet.pos, packet.pos + packet.size


class Awaited:
    """Time stamps of packets whose pictures have not been shown yet: decoders drop pictures they cannot repair."""

    def __init__(self) -> None:
        self.stamps: list[int] = []  # a heap

    def expect(self, stamp: int) -> None:
        """Add the time stamp of a packet sent to the decoder."""
        heappush(self.stamps, stamp)

    def show(self, frame: Any) -> list[int]:
        """Remove a decoded frame; return the time stamps of frames that should have come before it."""
        lost: list[int] = []
        if frame.pts is None or frame.interlaced_frame:  # packets may be half pictures
            self.stamps.clear()
        while self.stamps and self.stamps[0] <= frame.pts:
            lost.append(heappop(self.stamps))
        return [stamp for stamp in lost if stamp < frame.pts]


def whole_frames(container: Any, stream: Any, path: Path, reached: Reached) -> Iterator[Any]:
    """Decoded frames from the first intact one: earlier ones end a group of pictures that begins elsewhere."""
    begun, awaited = False, Awaited()
    # in these codecs every packet is a picture; AVI has no presentation times
    told = stream.codec_context.name in ("h264", "hevc") and container.format.name != "avi"
    for packet in chain(packets(container, path), [None]):
        before = reached.time
        if packet is not None:
            reached.add(packet, packet.stream is stream)
            if packet.stream is not stream:
                continue
            if packet.is_corrupt:
                raise BadInput(path, "a truncated packet", "an intact video", "fetch it again")
            if not packet.size:  # a skipped picture; for the decoder, an empty packet is the end
                continue
            if packet.pts is not None and before is not None and "matroska" in container.format.name:
                _check_hole(packet.pts * packet.time_base, before, reached.skipped, path)
            reached.skipped = 0
            if told and packet.pts is not None and not packet.is_discard:
                awaited.expect(packet.pts)
        with reading(path):
            frames = stream.decode(packet)  # at the end, the delayed ones
        for frame in frames:
            if frame.is_corrupt and begun:
                at = "" if frame.pts is None else f" at {float(frame.pts * stream.time_base):.2f} s"
                raise BadInput(path, f"a damaged picture{at}", "an intact video", REFETCH)
            if frame.is_corrupt:
                continue
            lost = awaited.show(frame)
            if lost and begun:
                time = float(lost[0] * stream.time_base)
                raise BadInput(path, f"{len(lost)} pictures missing at {time:.2f} s", "an intact video", REFETCH)
            begun = True
            yield frame


def _check_hole(time: Fraction, before: Fraction, skipped: int, path: Path) -> None:
    """Refuse a Matroska file in which FFmpeg skipped damaged bytes with pictures."""
    if skipped > HOLE_BYTES and time - before > JITTER:
        found = f"{skipped} damaged bytes instead of pictures from {float(before):.2f} to {float(time):.2f} s"
        raise BadInput(path, found, "an intact video", "fetch it again")


def check_step(time: Fraction, following: Fraction, path: Path) -> None:
    """Refuse time stamps that would skip pictures or show one for hours."""
    if not -JITTER <= following - time <= LONGEST_STILL:
        found = f"time stamps that jump from {float(time):.2f} to {float(following):.2f} s"
        raise BadInput(path, found, "pictures in the order of their time", "split it there, or re-encode it")


def check_length(container: Any, stream: Any, path: Path, first: Fraction, end: Fraction, reached: Reached) -> None:
    """Refuse a file shorter than its header declares; live recordings declare nothing.

    FFmpeg's estimates from the file size (AVI, MPEG-TS) shrink with a truncated file, so the header's frame count is
    checked as well; except in MP4, where it includes pictures hidden by the edit list.
    """
    # durations may count from before the first picture: in AVI, and if FFmpeg uses the file's for the stream
    start = first if stream.start_time is None else min(first, Fraction(stream.start_time * stream.time_base))
    promises = []
    if stream.duration is not None:
        promises.append((end - start, Fraction(stream.duration * stream.time_base)))
    elif container.duration is not None:  # of all streams; Matroska and Flash count from zero
        promises.append((reached.any_time, Fraction(container.duration, av.time_base)))
    if stream.frames and stream.average_rate and "mp4" not in container.format.name:
        promises.append((end - start, stream.frames / Fraction(stream.average_rate)))
    for held, declared in promises:
        if held < declared - TOLERANCE:
            found = f"pictures for {float(held):.2f} s of the declared {float(declared):.2f} s"
            raise BadInput(path, found, "an intact video", "the file is truncated: fetch it again")
