"""Facts about a video from its container, without decoding."""

from fractions import Fraction
from pathlib import Path

import av

from um.errors import BadInput
from um.video.container import REFETCH, head_start, opened, packets, pictures


def seconds(path: Path) -> float | None:
    """Seconds from the file's start to the end of its pictures, as declared by the container; None if it does not.

    Raises:
        BadInput: not a video, or no pictures.
    """
    with opened(path) as container:
        stream = pictures(container, path)
        packet = next((packet for packet in packets(container, path) if packet.stream is stream), None)
        if packet is None:
            raise BadInput(path, "no pictures after the header", "an intact video", REFETCH)
        begun = next((stamp for stamp in (stream.start_time, packet.pts) if stamp is not None), 0)
        first, delay = begun, 0
        if packet.pts is not None and container.format.name != "avi":  # has empty packets before the first picture
            first = max(begun, packet.pts)  # an edit list may hide the first packet
        if packet.pts is not None and packet.dts is not None:
            delay = packet.pts - packet.dts
        time = Fraction(first * stream.time_base)
        start = time - head_start(container, stream, path, time, Fraction(delay * stream.time_base))
        if stream.duration:
            return float((begun + stream.duration) * stream.time_base - start)
        if not container.duration:
            return None
        length = Fraction(container.duration, av.time_base)
        # FFmpeg's Matroska and Flash count from zero, mkvmerge's Matroska from the start
        return float(length - start if start < length else length)
