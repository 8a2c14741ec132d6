"""A film's file: opened, its pictures found among its tracks, its time zero.

The timeline is the file's, as in players and annotation tools: it starts where the first sound or picture is
presented. Time codes, data, chapters, subtitles and covers do not start it.
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

REFETCH = "fetch it again, or play it to see what is wrong"

PLAYLISTS = ("concat", "dash", "hls", "imf")
"""Formats that hold no pictures, but the names of other files."""

PIXELS = 1 << 26
"""Of the largest picture (8192 × 8192); a decoder may keep 16 of them."""

PRIMING = Fraction(3, 20)
"""Seconds that sound may start before the pictures without a gap: encoders put up to 1,105 samples at 8 kHz first."""

REORDERED = 8
"""Pictures that B-frames put off what is shown, at most."""

LONGEST_STILL = Fraction(3600)
"""Seconds that one frame may stand: a damaged time stamp can ask for years."""

BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide")
"""What MP4 and QuickTime begin with."""

NESTED = (b"moov", b"moof", b"trak", b"mdia", b"minf", b"stbl", b"traf")
"""What holds other boxes, on the way to the tables of samples."""

COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}
"""Tables of samples, and after how many bytes they say how many."""

MOST_BOXES = 1 << 18
"""That are looked at; a day in fragments of three seconds has as many."""

SAMPLES_PER_BYTE = 64
"""That a file may declare: old sound has up to 24 in a byte."""

FOREIGN = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Only for calls of PyAV: whatever it raises is the file's fault, in one line."""
    try:
        yield
    except av.error.FFmpegError as error:
        found = f"a file that cannot be decoded ({error.strerror or error})"
        raise BadInput(path, found, "a whole video file", REFETCH) from None
    except FOREIGN as error:
        found = f"a file that cannot be decoded ({type(error).__name__}: {error})"
        raise BadInput(path, found, "a whole video file", REFETCH) from None


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file as a PyAV container.

    Raises:
        BadInput: no file, or none that FFmpeg opens.
    """
    check_file(path, "a video file")
    _check_tables(path)
    with reading(path):
        # `file:`, as a colon in a name would be taken for a protocol; old cameras' titles are not UTF-8
        container = av.open(f"file:{path}", metadata_errors="replace", options={"max_pixels": str(PIXELS)})
    with container:
        if container.format.name in PLAYLISTS:
            raise BadInput(path, f"a playlist ({container.format.name})", "a video file", "give the files it names")
        yield container


def _check_tables(path: Path) -> None:
    """Refuse an MP4 of few bytes that declares millions of samples: FFmpeg makes room for all of them."""
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
                        raise BadInput(path, found, "a whole video file", REFETCH)
                place += length


def packets(container: Any, path: Path) -> Iterator[Any]:
    """Those of all streams.

    PyAV ends with an empty packet of each stream. They are left out, as it has no decoder for some, and fails at
    those of streams that appear midway.
    """
    first = container.streams[0]
    with reading(path):
        for packet in container.demux():
            if packet.stream is first and not packet.size and (packet.pts, packet.dts, packet.pos) == (None,) * 3:
                return
            yield packet


def pictures(container: Any, path: Path) -> Any:
    """The stream that players show: the first one that is marked as default, or else the first.

    Raises:
        BadInput: there is none, or none that can be decoded.
    """
    films = _films(container)
    if not films:
        raise BadInput(path, "no video stream", "a file with moving pictures", "is this a sound file?")
    readable = [stream for stream in films if stream.codec_context is not None and stream.time_base]
    if not readable:
        found = "pictures in a codec that there is no decoder for"
        raise BadInput(path, found, "a codec that PyAV's FFmpeg decodes", "convert it to H.264")
    stream = next((s for s in readable if s.disposition & s.disposition.default), readable[0])
    check_size(stream.codec_context, path)
    return stream


def _films(container: Any) -> list[Any]:
    """The video streams without cover pictures."""
    return [stream for stream in container.streams.video if not stream.disposition & stream.disposition.attached_pic]


def check_size(sized: Any, path: Path) -> None:
    """Refuse pictures that are too large to be meant, before they take memory."""
    if sized.width * sized.height > PIXELS:
        found, expected = f"pictures of {sized.width}x{sized.height}", f"at most {PIXELS} pixels"
        raise BadInput(path, found, expected, REFETCH)


def head_start(container: Any, stream: Any, path: Path, first: Fraction, delay: Fraction) -> Fraction:
    """Seconds from the file's start to its first picture; zero where only encoders' delays lie between them.

    Args:
        container: the file.
        stream: its pictures.
        path: for errors.
        first: when the first picture is shown.
        delay: how long after its decoding that is.

    Raises:
        BadInput: the picture would have to stand for hours.
    """
    others = [s for s in (*container.streams.audio, *_films(container)) if s is not stream]
    if container.format.name == "avi":  # where pictures begin late, it has empty ones instead
        others.append(stream)
    starts = [Fraction(s.start_time * s.time_base) for s in others if s.start_time is not None and s.time_base]
    if not container.format.flags & Flags.ts_discont.value:  # zero is a time, and what is before it is not presented
        starts = [max(start, Fraction(0)) for start in starts]
    start = min([first, *starts])
    if first - start - min(delay, REORDERED / Fraction(stream.average_rate or 25)) < PRIMING:
        return Fraction(0)
    if first - start > LONGEST_STILL:
        found = f"sound from {float(start):.2f} s on, and pictures only from {float(first):.2f} s on"
        hint = f"cut off what is before the pictures: ffmpeg -ss {float(first - start):.2f} -i IN OUT"
        raise BadInput(path, found, "pictures from the first hour on", hint)
    return first - start
