"""Video files: opening them, choosing the video stream, and finding time zero.

The timeline is the file's, as in players and annotation tools: it starts with the first sound or picture presented.
Time codes, data, chapters, subtitles and covers do not count.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from struct import unpack
from typing import Any

import av
from av.format import Flags

from um.errors import BadInput
from um.forms import check_file

REFETCH = "fetch it again, or play it to find the problem"

PLAYLISTS = ("concat", "dash", "hls", "imf")
"""Formats that only list other files."""

PIXELS = 1 << 26
"""Largest picture (8192 × 8192); a decoder may keep 16 of them."""

PRIMING = Fraction(3, 20)
"""Seconds of encoder delay: sound may start this early without a gap (up to 1,105 samples at 8 kHz)."""

REORDERED = 8
"""Largest delay by B-frames, in pictures."""

LONGEST_STILL = Fraction(3600)
"""Longest duration of one frame in seconds: a damaged time stamp can imply years."""

BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide")
"""First boxes of MP4 and QuickTime files."""

NESTED = (b"moov", b"moof", b"trak", b"mdia", b"minf", b"stbl", b"traf")
"""Boxes that contain others, down to the sample tables."""

COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}
"""Sample tables, and the offset of their counts in bytes."""

MOST_BOXES = 1 << 18
"""Most boxes to read; enough for a day in three-second fragments."""

SAMPLES_PER_BYTE = 64
"""Most samples a file may declare per byte: old sound has up to 24."""

FOREIGN = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of PyAV into BadInput; wrap only calls of PyAV."""
    try:
        yield
    except av.error.FFmpegError as error:
        found = f"a file that cannot be decoded ({error.strerror or error})"
        raise BadInput(path, found, "an intact video file", REFETCH) from None
    except FOREIGN as error:
        found = f"a file that cannot be decoded ({type(error).__name__}: {error})"
        raise BadInput(path, found, "an intact video file", REFETCH) from None


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file as a PyAV container.

    Raises:
        BadInput: no such file, or not a video file.
    """
    check_file(path, "a video file")
    _check_tables(path)
    with reading(path):
        # `file:` because a colon in a name would mean a protocol; old cameras' titles are not UTF-8
        container = av.open(f"file:{path}", metadata_errors="replace", options={"max_pixels": str(PIXELS)})
    with container:
        if container.format.name in PLAYLISTS:
            raise BadInput(path, f"a playlist ({container.format.name})", "a video file", "use the files it lists")
        yield container


def _check_tables(path: Path) -> None:
    """Refuse a small MP4 that declares millions of samples, for which FFmpeg would allocate memory."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(4)
        places, left = [(0, size)] if file.read(4) in BOXES else [], MOST_BOXES
        while places:
            place, end = places.pop()
            while place + 16 <= end and left:
                left -= 1
                file.seek(place)
                length, kind, long = unpack(">I4sQ", file.read(16))
                begin = place + (16 if length == 1 else 8)
                length = long if length == 1 else length or end - place
                if length < begin - place:
                    break
                if kind in NESTED:
                    places.append((begin, min(place + length, end)))
                elif kind in COUNTS:
                    file.seek(begin + COUNTS[kind])
                    count = int.from_bytes(file.read(4), "big")
                    if count > SAMPLES_PER_BYTE * size:
                        found = f"a table of {count} samples in {size} bytes"
                        raise BadInput(path, found, "an intact video file", REFETCH)
                place += length


def packets(container: Any, path: Path) -> Iterator[Any]:
    """The packets of all streams.

    PyAV ends with an empty packet per stream. These are left out, because PyAV lacks decoders for some streams and
    fails on streams that appear midway.
    """
    first = container.streams[0]
    with reading(path):
        for packet in container.demux():
            if packet.stream is first and not packet.size and (packet.pts, packet.dts, packet.pos) == (None,) * 3:
                return
            yield packet


def pictures(container: Any, path: Path) -> Any:
    """The stream that players show: the first one marked as default, or else the first.

    Raises:
        BadInput: no video stream, or none that can be decoded.
    """
    films = _films(container)
    if not films:
        raise BadInput(path, "no video stream", "a video file", "is it audio only?")
    readable = [stream for stream in films if stream.codec_context is not None and stream.time_base]
    if not readable:
        found = "a video codec without a decoder"
        raise BadInput(path, found, "a codec supported by PyAV's FFmpeg", "convert it to H.264")
    stream = next((s for s in readable if s.disposition & s.disposition.default), readable[0])
    check_size(stream.codec_context, path)
    return stream


def _films(container: Any) -> list[Any]:
    """The video streams, except cover pictures."""
    return [stream for stream in container.streams.video if not stream.disposition & stream.disposition.attached_pic]


def check_size(sized: Any, path: Path) -> None:
    """Refuse implausibly large pictures before they take memory."""
    if sized.width * sized.height > PIXELS:
        found, expected = f"pictures of {sized.width}x{sized.height}", f"at most {PIXELS} pixels"
        raise BadInput(path, found, expected, REFETCH)


def head_start(container: Any, stream: Any, path: Path, first: Fraction, delay: Fraction) -> Fraction:
    """Seconds from the file's start to its first picture; zero if only encoder delays separate them.

    Args:
        container: the file.
        stream: its pictures.
        path: for errors.
        first: presentation time of the first picture.
        delay: from its decoding to its presentation.

    Raises:
        BadInput: the first picture would have to be shown for hours.
    """
    others = [s for s in (*container.streams.audio, *_films(container)) if s is not stream]
    if container.format.name == "avi":  # late pictures are preceded by empty ones
        others.append(stream)
    starts = [Fraction(s.start_time * s.time_base) for s in others if s.start_time is not None and s.time_base]
    if not container.format.flags & Flags.ts_discont.value:  # times before zero are not presented
        starts = [max(start, Fraction(0)) for start in starts]
    start = min([first, *starts])
    if first - start - min(delay, REORDERED / Fraction(stream.average_rate or 25)) < PRIMING:
        return Fraction(0)
    if first - start > LONGEST_STILL:
        found = f"sound from {float(start):.2f} s, but pictures only from {float(first):.2f} s"
        hint = f"cut off the part before the pictures: ffmpeg -ss {float(first - start):.2f} -i IN OUT"
        raise BadInput(path, found, "pictures within the first hour", hint)
    return first - start
