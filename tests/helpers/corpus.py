"""Videos as they are found in the world: every codec and container, whole and damaged."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from helpers.rendering import SIDE, encode, picture

OPTIONS = {
    "libx264": {"crf": "1", "g": "12", "bf": "3", "threads": "1"},
    "libx265": {"crf": "1", "x265-params": "log-level=none:keyint=12:bframes=3:pools=none:frame-threads=1"},
    "libsvtav1": {"crf": "8", "preset": "11", "g": "12", "svtav1-params": "lp=1"},
    "libvpx-vp9": {"crf": "4", "b": "0", "g": "12", "cpu-used": "8", "deadline": "realtime"},
    "mpeg4": {"b": "4M", "qmax": "2", "g": "12", "bf": "2"},
    "mpeg2video": {"b": "4M", "qmax": "2", "g": "12", "bf": "2"},
    "mjpeg": {"qmax": "2"},
}
FORMATS = {"mjpeg": "yuvj420p"}
Numbered = Callable[[int], np.ndarray]


def sized(width: int, height: int) -> Numbered:
    """Numbered pictures of other sides."""

    def draw(number: int) -> np.ndarray:
        rows, columns = np.arange(height) * SIDE // height, np.arange(width) * SIDE // width
        return picture(number)[rows][:, columns]

    return draw


def noisy(number: int) -> np.ndarray:
    """A numbered picture whose bytes take room, so that there is something to damage."""
    noise = np.random.default_rng(number).normal(0, 2, (SIDE, SIDE, 1))
    return np.clip(picture(number) + noise, 0, 255).astype(np.uint8)


def film(
    path: Path,
    codec: str = "libx264",
    frames: int | Sequence[Fraction] = 70,
    rate: str = "25",
    draw: Numbered = picture,
    pixels: str = "",
    sound: int = 0,
    container: dict[str, str] | None = None,
    prepare: Callable[[Any], None] = lambda stream: None,
    **options: str,
) -> Path:
    """Write numbered frames, at a constant `rate` or at the given seconds, with `sound` seconds of silence."""
    fps = Fraction(rate)
    times = [i / fps for i in range(frames)] if isinstance(frames, int) else list(frames)
    base = 1 / fps if isinstance(frames, int) else Fraction(1, 1000)
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=fps, options=OPTIONS[codec] | options)
        stream.height, stream.width = draw(0).shape[:2]
        stream.pix_fmt = pixels or FORMATS.get(codec, "yuv420p")
        stream.codec_context.time_base = base
        prepare(stream)
        audio = file.add_stream("aac", rate=8000, layout="mono") if sound else None
        if audio:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate = 8000
            for i in range(sound * 8000 // 1024):
                silence.pts = i * 1024
                file.mux(audio.encode(silence))
        encode(file, stream, draw, times, 1 / fps, base)
        if audio:
            file.mux(audio.encode(None))
    if codec == "libsvtav1" and hasattr(os, "sched_setscheduler"):  # started by root, it makes this thread realtime
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


def packets(path: Path) -> list[Any]:
    """The pictures' packets in the order of the file; their bytes are their own."""
    with av.open(str(path)) as file:
        return [packet for packet in file.demux(video=0) if packet.size]


def remux(source: Path, path: Path, edit: Callable[[list[Any]], Sequence[Any]], **container: str) -> Path:
    """Write a video's packets again, as `edit` leaves them."""
    with av.open(str(source)) as file, av.open(str(path), "w", options=container) as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        for packet in edit([packet for packet in file.demux(video=0) if packet.size]):
            packet.stream = stream
            out.mux(packet)
    return path


def shifted(packets: Sequence[Any], by: int) -> Iterator[Any]:
    """The packets, later by `by` units of their time base."""
    for packet in packets:
        packet.pts += by
        packet.dts += by
        yield packet


def damaged(source: Path, path: Path, start: float, size: int = 0) -> Path:
    """A copy with `size` bytes overwritten from the share `start` on, or cut off there."""
    content = bytearray(source.read_bytes())
    first = int(len(content) * start)
    if size:
        content[first : first + size] = np.random.default_rng(0).bytes(size)
    else:
        del content[first:]
    path.write_bytes(content)
    return path


def patched(source: Path, path: Path, old: bytes, new: bytes) -> Path:
    """A copy with the same number of other bytes in one place."""
    content = source.read_bytes()
    if len(old) != len(new) or old not in content:
        raise ValueError(f"{old!r} is not in {source}, or of another length than {new!r}")
    path.write_bytes(content.replace(old, new))
    return path


def with_cover(source: Path, path: Path) -> Path:
    """A copy with a picture attached before the film, as music players do."""
    with av.open(str(source)) as file, av.open(str(path), "w") as out:
        cover = out.add_stream("mjpeg", rate=1, options={"qscale": "2"})
        cover.width = cover.height = SIDE
        cover.pix_fmt = "yuvj420p"
        cover.disposition = cover.disposition.attached_pic
        stream = out.add_stream_from_template(file.streams.video[0])
        still = av.VideoFrame.from_ndarray(picture(399), format="rgb24")
        out.mux(cover.encode(still))
        out.mux(cover.encode(None))
        for packet in [packet for packet in file.demux(video=0) if packet.size]:
            packet.stream = stream
            out.mux(packet)
    return path


MS = Fraction(1, 1000)


@dataclass
class Track:
    """What goes into a container: how its stream is added, and its packets, which have their own time stamps."""

    add: Callable[[Any], Any]
    packets: list[Any]
    default: bool | None = None  # what the container says of it, unless that is left to the muxer


def copied(source: Path, kind: str = "video", later: Fraction = Fraction(0), default: bool | None = None) -> Track:
    """The first stream of a kind, shifted by seconds."""
    file = av.open(str(source))  # stays open, as the stream is the template
    (stream, *_) = getattr(file.streams, kind)
    found = [packet for packet in file.demux(stream) if packet.size]
    list(shifted(found, round(later / stream.time_base)))
    return Track(lambda out: out.add_stream_from_template(stream), found, default)


def timed(codec: str, payload: bytes, every: int = 500, seconds: Fraction = Fraction(2), start: int = 0) -> Track:
    """Data or text of one content: a packet `every` so many milliseconds."""
    made = []
    for pts in range(start, round(seconds / MS), every):
        packet = av.Packet(payload)
        packet.pts = packet.dts = pts
        packet.duration, packet.time_base, packet.is_keyframe = every, MS, True
        made.append(packet)

    def add(out: Any) -> Any:
        text = codec in ("mov_text", "subrip", "ass", "webvtt", "dvb_subtitle")
        stream = out.add_mux_stream(codec) if text else out.add_data_stream(codec)
        stream.time_base = MS
        return stream

    return Track(add, made)


def font() -> Track:
    """A file that Matroska carries along."""
    return Track(lambda out: out.add_attachment("letters.ttf", "application/x-truetype-font", bytes(500)), [])


def sounding(path: Path, seconds: Fraction = Fraction(3), rate: int = 48000, codec: str = "aac") -> Path:
    """A file of silence."""
    with av.open(str(path), "w") as file:
        audio = file.add_stream(codec, rate=rate, layout="mono")
        for i in range(int(seconds * rate) // 1024):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = rate, i * 1024
            file.mux(audio.encode(silence))
        file.mux(audio.encode(None))
    return path


def muxed(path: Path, *tracks: Track, metadata: dict[str, str] | None = None, **container: str) -> Path:
    """A file of these tracks in this order, their packets by the time of decoding."""
    with av.open(str(path), "w", options=container) as out:
        out.metadata.update(metadata or {})
        streams = [track.add(out) for track in tracks]
        for stream, track in zip(streams, tracks, strict=True):
            if track.default is not None:
                stream.disposition = stream.disposition.default if track.default else stream.disposition & 0
        pairs = [(packet, stream) for stream, track in zip(streams, tracks, strict=True) for packet in track.packets]
        for packet, stream in sorted(pairs, key=lambda pair: pair[0].dts * pair[0].time_base):
            packet.stream = stream
            out.mux(packet)
    return path
