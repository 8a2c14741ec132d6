"""What a container says of its video, without decoding it."""

from fractions import Fraction
from pathlib import Path

import av

from um.video.container import head_start, opened, pictures, reading


def seconds(path: Path) -> float | None:
    """Time from the file's start to the end of its pictures, as the container declares it; None where it does not.

    Raises:
        BadInput: not a video, or one without pictures.
    """
    with opened(path) as container:
        stream = pictures(container, path)
        first = Fraction((stream.start_time or 0) * stream.time_base)
        with reading(path):
            packet = next((p for p in container.demux(stream) if p.dts is not None and p.pts is not None), None)
        delay = Fraction((packet.pts - packet.dts) * packet.time_base) if packet else Fraction(0)
        before = head_start(container, stream, path, first, delay)
        if stream.duration:
            return float(stream.duration * stream.time_base + before)
        # of Matroska and Flash, which count from zero
        return float(Fraction(container.duration, av.time_base) - first + before) if container.duration else None
