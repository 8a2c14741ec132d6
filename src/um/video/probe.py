"""What a container says of its video, without decoding it."""

from fractions import Fraction
from pathlib import Path

import av

from um.video.container import head_start, opened, packets, pictures


def seconds(path: Path) -> float | None:
    """Time from the file's start to the end of its pictures, as the container declares it; None where it does not.

    Raises:
        BadInput: not a video, or one without pictures.
    """
    with opened(path) as container:
        stream = pictures(container, path)
        shown = (p for p in packets(container, path) if p.stream is stream and p.pts is not None)
        packet = next(shown, None)
        if packet is None:
            return None
        begun = packet.pts if stream.start_time is None else stream.start_time
        # an edit list may hide the first packet; AVI has empty ones before it
        first = Fraction((begun if container.format.name == "avi" else max(begun, packet.pts)) * stream.time_base)
        delay = Fraction(0 if packet.dts is None else (packet.pts - packet.dts) * stream.time_base)
        start = first - head_start(container, stream, path, first, delay)
        if stream.duration:
            return float((begun + stream.duration) * stream.time_base - start)
        if not container.duration:
            return None
        length = Fraction(container.duration, av.time_base)
        # Matroska written by FFmpeg and Flash count from zero, that by mkvmerge from the start
        return float(length - start if start < length else length)
