"""Films of cameras, telephones, recorders and cutters: other tracks change nothing, and time zero is the file's."""

import os
import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import av
import numpy as np
import pytest
from corpus import Track, copied, film, font, muxed, packets, patched, remux, shifted, sized, sounding, timed
from probing import resampled
from rendering import SIDE, expected, number, picture

from um.errors import BadInput
from um.video.decode import snippets
from um.video.probe import seconds

TEXT = b"\0\5hello"  # of MP4, with its length
KLV = b"\x06\x0e\x2b\x34" * 5
CLOCK = {"timecode": "01:00:00:00"}
CHAPTERS = [
    {"id": i, "start": i * 1000, "end": (i + 1) * 1000, "time_base": Fraction(1, 1000), "metadata": {"title": "a"}}
    for i in range(2)
]


def shown(path: Path) -> list[int]:
    return [number(frame) for snippet in snippets(path, short_side=SIDE) for frame in snippet]


class Parts:
    """What the films are made of, each made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mp4, self.webm = film(folder / "film.mp4"), film(folder / "film.webm", "libvpx-vp9")
        self.mpeg4 = film(folder / "film.m4v.mp4", "mpeg4")
        self.other = film(folder / "other.mp4", frames=66, draw=lambda i: picture(399 - i))
        self.long = film(folder / "long.mp4", frames=150)
        self.sound = sounding(folder / "sound.m4a")
        self.long_sound = sounding(folder / "long.m4a", Fraction(9))
        self.opus = sounding(folder / "sound.webm", codec="libopus")
        self.mp3 = sounding(folder / "sound.mp3", Fraction(9), codec="libmp3lame")

    def film(self, **options: object) -> Track:
        return copied(self.mp4, **options)

    def second(self, **options: object) -> Track:
        return copied(self.other, **options)

    def aac(self, **options: object) -> Track:
        return copied(self.sound, "audio", **options)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts(tmp_path_factory.mktemp("parts"))


def with_chapters(source: Path, path: Path) -> Path:
    with av.open(str(source)) as file, av.open(str(path), "w") as out:
        out.set_chapters(CHAPTERS)
        stream = out.add_stream_from_template(file.streams.video[0])
        for packet in packets(source):
            packet.stream = stream
            out.mux(packet)
    return path


def with_attached_cover(source: Path, path: Path) -> Path:
    """What `mkvmerge --attach-file cover.jpg` makes: FFmpeg shows it as a track of one picture."""
    jpeg = packets(film(path.parent / "cover.mkv", "mjpeg", frames=1))[0]
    with av.open(str(source)) as file, av.open(str(path), "w") as out:
        out.add_attachment("cover.jpg", "image/jpeg", bytes(jpeg))
        stream = out.add_stream_from_template(file.streams.video[0])
        for packet in packets(source):
            packet.stream = stream
            out.mux(packet)
    return path


def undecodable_first(p: Parts, path: Path) -> Path:
    """A track of pictures that nothing decodes, then the film, both meant to be shown."""
    other = film(p.folder / "other.webm", "libvpx-vp9", frames=80)
    whole = muxed(p.folder / "both.mp4", copied(other, default=True), p.film(default=True))
    return patched(whole, path, b"vp09", b"zz09")


# name → a film of 70 numbered pictures at 25 fps with other tracks around it
TRACKS: dict[str, Callable[[Parts, Path], Path]] = {
    "timecode.mov": lambda p, f: muxed(f, p.film(), metadata=CLOCK),
    "timecode-sound-first.mov": lambda p, f: muxed(f, p.aac(), p.film(), metadata=CLOCK),
    "timecode-of-every-track.mp4": lambda p, f: muxed(f, p.film(), p.second(), p.aac(), metadata=CLOCK),
    "telemetry.mp4": lambda p, f: muxed(f, p.film(), p.aac(), timed("bin_data", b"DEVC" * 20), metadata=CLOCK),
    "telemetry-first.mp4": lambda p, f: muxed(f, timed("bin_data", b"DEVC" * 20), p.aac(), p.film(), metadata=CLOCK),
    "telemetry-longer.mp4": lambda p, f: muxed(f, timed("bin_data", b"DEVC", seconds=Fraction(9)), p.film()),
    "klv.ts": lambda p, f: muxed(f, p.film(), timed("klv", KLV)),
    "klv-first.ts": lambda p, f: muxed(f, timed("klv", KLV), p.aac(), p.film()),
    "id3.ts": lambda p, f: muxed(f, timed("timed_id3", b"ID3\4\0\0\0\0\0\0"), p.film()),
    "chapters.mp4": lambda p, f: with_chapters(p.mp4, f),
    "chapters.mkv": lambda p, f: with_chapters(p.mp4, f),
    "fonts.mkv": lambda p, f: muxed(f, p.film(), p.aac(), font(), font()),
    "fonts-first.mkv": lambda p, f: muxed(f, font(), font(), p.film()),
    "attached-cover.mkv": lambda p, f: with_attached_cover(p.mp4, f),
    "attached-cover.mka.mkv": lambda p, f: with_attached_cover(muxed(p.folder / "a.mkv", p.film()), f),
    "subtitles.mkv": lambda p, f: muxed(f, p.film(), timed("subrip", b"hello")),
    "subtitles-first.mkv": lambda p, f: muxed(f, timed("subrip", b"hello"), timed("ass", b"0,0,,,0,0,0,,a"), p.film()),
    "subtitles-longer.mkv": lambda p, f: muxed(f, timed("subrip", b"hello", seconds=Fraction(9)), p.film()),
    "subtitles.webm": lambda p, f: muxed(f, timed("webvtt", b"hello"), copied(p.webm), copied(p.opus, "audio")),
    "text.mp4": lambda p, f: muxed(f, p.film(), timed("mov_text", TEXT)),
    "text-first.mp4": lambda p, f: muxed(f, timed("mov_text", TEXT), p.film(), p.aac()),
    "sound-first.mp4": lambda p, f: muxed(f, p.aac(), p.film()),
    "sound-first.mov": lambda p, f: muxed(f, p.aac(), p.film()),
    "sound-first.mkv": lambda p, f: muxed(f, p.aac(), p.film()),
    "sound-first.webm": lambda p, f: muxed(f, copied(p.opus, "audio"), copied(p.webm)),
    "sound-first.ts": lambda p, f: muxed(f, p.aac(), p.film()),
    "sound-first.flv": lambda p, f: muxed(f, p.aac(), p.film()),
    "sound-first.avi": lambda p, f: muxed(f, copied(p.mp3, "audio"), copied(p.mpeg4)),
    "two-sounds.mp4": lambda p, f: muxed(f, p.film(), p.aac(), p.aac()),
    "two-sounds-around.mkv": lambda p, f: muxed(f, p.aac(), p.film(), p.aac()),
    "two-sounds-first.ts": lambda p, f: muxed(f, p.aac(), p.aac(), p.film()),
    "second-film.mp4": lambda p, f: muxed(f, p.film(), p.second()),
    "second-film.ts": lambda p, f: muxed(f, p.film(), p.second(), p.aac()),
    "second-film-first.mp4": lambda p, f: muxed(f, p.second(default=False), p.film(default=True)),
    "second-film-first.mkv": lambda p, f: muxed(f, p.second(default=False), p.aac(), p.film(default=True)),
    "no-decoder-first.mp4": undecodable_first,
    "sound-without-decoder.mp4": lambda p, f: patched(
        muxed(p.folder / "s.mp4", p.aac(), p.film()), f, b"mp4a\0\0\0\0", b"zzzz\0\0\0\0"
    ),
    "everything.mkv": lambda p, f: muxed(
        f, font(), timed("subrip", b"hi"), p.aac(), p.second(default=False), p.film(default=True), p.aac(), font()
    ),
    "everything.mp4": lambda p, f: muxed(
        f,
        timed("mov_text", TEXT),
        p.aac(),
        timed("bin_data", b"DEVC"),
        p.second(default=False),
        p.film(default=True),
        p.aac(default=False),
        metadata=CLOCK,
    ),
}


@pytest.mark.parametrize("name", TRACKS)
def test_other_tracks_change_nothing(parts: Parts, tmp_path: Path, name: str) -> None:
    path = TRACKS[name](parts, tmp_path / name)
    with av.open(str(path)) as file:
        assert len(file.streams) > 1 or "chapters" in name
    assert shown(path) == list(range(64))
    longest = 9 if name == "subtitles-longer.mkv" else 3 if path.suffix in (".mkv", ".webm", ".flv") else 70 / 25
    assert 70 / 25 - 0.1 <= seconds(path) <= longest + 0.1  # these declare the length of their longest track


def test_tracks_in_any_order_give_the_same_bytes(parts: Parts, tmp_path: Path) -> None:
    """Those of the plain film, not only as many."""

    def content(path: Path) -> bytes:
        return b"".join(snippet.tobytes() for snippet in snippets(path, short_side=SIDE, before=3, after=9))

    plain = content(parts.mp4)
    kinds = [parts.film, parts.aac, lambda: timed("mov_text", TEXT), lambda: timed("bin_data", b"DEVC")]
    for i, order in enumerate(permutations(kinds)):
        assert content(muxed(tmp_path / f"{i}.mp4", *(make() for make in order))) == plain


START = Fraction(3)
"""Seconds before the first picture of the films that begin with sound alone."""


def gap(p: Parts, path: Path, shift: Fraction = Fraction(0), pictures: Fraction = START, **container: str) -> Path:
    """Six seconds of pictures from 3 s on, sound from 0.02 s on."""
    sound = copied(p.long_sound, "audio", later=shift + Fraction(1, 50))
    return muxed(path, sound, copied(p.long, later=shift + pictures), **container)


def gap_avi(p: Parts, path: Path) -> Path:
    """AVI has empty pictures instead."""
    mpeg4 = film(p.folder / "long.m4v.mp4", "mpeg4", frames=150, bf="0")
    return muxed(path, copied(p.mp3, "audio"), copied(mpeg4, later=START))


def cut(p: Parts, path: Path, *options: str, **film_options: object) -> Path:
    """What `ffmpeg -i film -ss 1 -c copy` makes of key frames every 3 s."""
    long = film(path.parent / "whole.mp4", frames=225, g="75", **{"x264-params": "scenecut=0:keyint=75:min-keyint=75"})
    whole = muxed(path.parent / "both.mp4", copied(long), copied(sounding(path.parent / "s.m4a", Fraction(9)), "audio"))
    ffmpeg("-i", whole, "-ss", "1", "-c", "copy", *options, path)
    return path


# name → a film whose pictures begin 2.98 s (AVI: 3 s) after its sound, and are 150
GAPS: dict[str, Callable[[Parts, Path], Path]] = {
    "gap.mp4": gap,
    "gap.mov": gap,
    "gap.mkv": gap,
    "gap.ts": gap,
    "gap.flv": gap,
    "gap.avi": gap_avi,
    "gap-fragments.mp4": lambda p, f: gap(p, f, movflags="frag_keyframe+delay_moov"),
    "gap-after-two-hours.ts": lambda p, f: gap(p, f, Fraction(7200)),
    "gap-after-two-hours.mkv": lambda p, f: gap(p, f, Fraction(7200)),
    # 33 bits of 90 kHz
    "gap-where-the-clock-wraps.ts": lambda p, f: gap(p, f, Fraction(2**33, 90_000) - 5),
    "gap-with-second-sound.mkv": lambda p, f: muxed(
        f,
        p.aac(later=Fraction(3)),
        copied(p.long, later=START),
        copied(p.long_sound, "audio", later=Fraction(1, 50)),
    ),
    "gap-with-second-film.mkv": lambda p, f: muxed(
        f, copied(p.long, later=START, default=True), copied(p.other, later=Fraction(1, 50), default=False)
    ),
    "gap-with-timecode.mov": lambda p, f: muxed(
        f,
        copied(p.long_sound, "audio", later=Fraction(1, 50)),
        copied(p.long, later=START),
        metadata=CLOCK,
    ),
}


@pytest.mark.parametrize("name", GAPS)
def test_the_first_picture_stands_from_the_files_start(parts: Parts, tmp_path: Path, name: str) -> None:
    path = GAPS[name](parts, tmp_path / name)
    numbers = shown(path)
    assert len(numbers) == 224  # not 144
    held = numbers.count(0)
    assert held in (75, 76)  # containers round to milliseconds, and 2.98 s are 74.5 frames
    assert numbers[held:] == list(range(1, 225 - held))
    assert seconds(path) == pytest.approx(9, abs=0.1)
    theirs = resampled(path)[:224]  # the ffmpeg program is asked to begin at the file's start
    assert [number(frame) for frame in theirs] == pytest.approx(numbers, abs=1)
