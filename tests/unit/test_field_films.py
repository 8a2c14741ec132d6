"""Films of cameras, telephones, recorders and cutters: other tracks change nothing, and time zero is the file's."""

import os
import struct
import subprocess
from collections.abc import Callable
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.corpus import Track, copied, film, font, muxed, packets, patched, remux, sounding, timed
from helpers.probing import require, resampled
from helpers.rendering import SIDE, expected, number, picture

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


def ffmpeg(*arguments: str | Path) -> None:
    require()
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", *arguments], check=True)


class Parts:
    """What the films are made of, each made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mp4 = film(folder / "film.mp4", frames=64)  # whole snippets: one picture less is one row less
        self.webm = film(folder / "film.webm", "libvpx-vp9", frames=64)
        self.mpeg4 = film(folder / "film.m4v.mp4", "mpeg4")
        self.other = film(folder / "other.mp4", frames=60, draw=lambda i: picture(399 - i))
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


# name → a film of 64 numbered pictures at 25 fps with other tracks around it
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
    longest = 9 if name == "subtitles-longer.mkv" else 3 if path.suffix in (".mkv", ".webm", ".flv", ".avi") else 2.56
    assert 64 / 25 - 0.1 <= seconds(path) <= longest + 0.1  # these declare the length of their longest track


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


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts", "flv"])
def test_a_cut_without_encoding_keeps_its_gap(tmp_path: Path, suffix: str) -> None:
    """`ffmpeg -i film -ss 1 -c copy`, key frames every 3 s: sound from 0 s, pictures from the fourth second on."""
    long = film(tmp_path / "long.mp4", frames=225, **{"x264-params": "keyint=75:min-keyint=75:scenecut=0"})
    sound = sounding(tmp_path / "long.m4a", Fraction(9))
    whole = muxed(tmp_path / "whole.mp4", copied(sound, "audio"), copied(long))
    path = tmp_path / f"v.{suffix}"
    ffmpeg("-i", whole, "-ss", "1.02", "-c", "copy", path)
    numbers = shown(path)
    assert len(numbers) == 192  # of 7.98 s
    held = numbers.count(75)
    assert held == pytest.approx((3 - 1.02) * 25 + 1, abs=1)
    assert numbers[held:] == list(range(76, 76 + 192 - held))
    assert seconds(path) == pytest.approx(7.98, abs=0.05)


def laced(source: Path, path: Path) -> Path:
    """Matroska with up to eight pieces of the first track's sound in one block, as mkvmerge writes it.

    `source` is one that was written live, so that no size has to be put right.
    """
    content, out, waiting = source.read_bytes(), bytearray(), []
    place = content.index(b"\x1f\x43\xb6\x75")

    def flush() -> None:
        if not waiting:
            return
        sizes = b"".join(b"\xff" * (len(piece) // 255) + bytes([len(piece) % 255]) for _, piece in waiting[:-1])
        body = waiting[0][0][:3] + b"\x82" + bytes([len(waiting) - 1]) + sizes + b"".join(p for _, p in waiting)
        out.extend(b"\xa3\x10" + len(body).to_bytes(3, "big") + body)
        waiting.clear()

    out += content[:place]
    while place < len(content):
        wide = 4 if content[place] < 0x20 else 1  # of the element's name
        length = 9 - content[place + wide].bit_length()
        size = int.from_bytes(content[place + wide :][:length], "big") & ((1 << 7 * length) - 1)
        begin = place + wide + length
        end = begin if content[place] == 0x1F else begin + size  # a cluster's parts follow it
        body = content[begin:end]
        if content[place] == 0xA3 and body[0] == 0x81:
            waiting.append((body[:4], body[4:]))
        if len(waiting) == 8 or not (content[place] == 0xA3 and body[0] == 0x81):
            flush()
        if not (content[place] == 0xA3 and body[0] == 0x81):
            out += content[place:end]
        place = end
    flush()
    path.write_bytes(out)
    return path


def sound_in_blocks(p: Parts, path: Path) -> Path:
    """Pictures pause for 3 s, while sound goes on, several pieces to a block."""
    pause = film(p.folder / "pause.mp4", frames=PAUSE)
    return laced(muxed(p.folder / "live.mkv", copied(p.mp3, "audio"), copied(pause), live="1"), path)


def turned_by_exif(p: Parts, path: Path) -> Path:
    """A camera's Motion JPEG: each picture says in its Exif part that the camera was turned."""
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x0112, 3, 1, 6, 0)
    part = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif

    def edit(found: list[av.Packet]) -> list[av.Packet]:
        made = []
        for packet in found:
            made.append(av.Packet(bytes(packet)[:2] + part + bytes(packet)[2:]))
            made[-1].pts, made[-1].dts, made[-1].time_base = packet.pts, packet.dts, packet.time_base
            made[-1].is_keyframe = True
        return made

    return remux(film(p.folder / "plain.mkv", "mjpeg", draw=upright), path, edit)


def upright(i: int) -> np.ndarray:
    """A numbered picture before it is turned by a quarter."""
    return np.rot90(picture(i))


PAUSE = [Fraction(i, 25) + 3 * (i > 20) for i in range(70)]

# name → a film and the numbers of the frames to be shown, at a time zero that is its first picture
NO_GAP: dict[str, tuple[Callable[[Parts, Path], Path], list[int]]] = {
    "priming-at-8-kHz.mkv": (lambda p, f: film(f, sound=3), list(range(64))),
    "priming-at-8-kHz.ts": (lambda p, f: film(f, sound=3), list(range(64))),
    "priming-at-8-kHz.flv": (lambda p, f: muxed(f, p.aac(), p.film()), list(range(64))),
    "b-frames-without-edit-list.mp4": (lambda p, f: muxed(f, p.aac(), p.film(), use_editlist="0"), list(range(64))),
    "b-frames-at-5-fps.mp4": (
        lambda p, f: muxed(f, p.aac(), copied(film(p.folder / "slow.mp4", frames=20, rate="5")), use_editlist="0"),
        [i // 5 for i in range(96)],
    ),
    "fragments.mp4": (lambda p, f: muxed(f, p.aac(), p.film(), movflags="frag_keyframe+empty_moov"), list(range(64))),
    "sound-before-zero.mp4": (
        lambda p, f: muxed(f, p.aac(later=Fraction(-1, 2)), p.film(), avoid_negative_ts="disabled"),
        list(range(64)),
    ),
    "sound-before-zero.mkv": (
        lambda p, f: muxed(f, p.aac(later=Fraction(-1, 2)), p.film(), avoid_negative_ts="disabled"),
        list(range(64)),
    ),
    "all-before-zero.mp4": (
        lambda p, f: muxed(f, p.aac(later=Fraction(-1)), p.film(later=Fraction(-1)), avoid_negative_ts="disabled"),
        list(range(25, 57)),
    ),
    "sound-later.mp4": (lambda p, f: muxed(f, p.aac(later=Fraction(2)), p.film()), list(range(64))),
    "sound-later.ts": (lambda p, f: muxed(f, p.aac(later=Fraction(2)), p.film()), list(range(64))),
    "a-tenth-of-a-second.mkv": (lambda p, f: muxed(f, p.aac(), p.film(later=Fraction(1, 10))), list(range(64))),
    "all-two-hours-later.ts": (
        lambda p, f: muxed(f, p.aac(later=Fraction(7200)), p.film(later=Fraction(7200))),
        list(range(64)),
    ),
    "all-two-hours-later.mkv": (
        lambda p, f: muxed(f, p.aac(later=Fraction(7200)), p.film(later=Fraction(7200))),
        list(range(64)),
    ),
    "all-three-seconds-later.mp4": (
        lambda p, f: muxed(f, p.aac(later=Fraction(3)), p.film(later=Fraction(3))),
        list(range(64)),
    ),
    "pictures-alone-later.mp4": (lambda p, f: muxed(f, p.film(later=Fraction(3))), list(range(64))),
    "subtitles-before.mkv": (
        lambda p, f: muxed(f, timed("subrip", b"hi"), p.film(later=Fraction(3))),
        list(range(64)),
    ),
    "telemetry-before.mp4": (
        lambda p, f: muxed(f, timed("bin_data", b"DEVC"), p.film(later=Fraction(3)), metadata=CLOCK),
        list(range(64)),
    ),
    "klv-before.ts": (lambda p, f: muxed(f, timed("klv", KLV), p.film(later=Fraction(3))), list(range(64))),
    "sound-in-blocks.mkv": (
        sound_in_blocks,
        expected(PAUSE, PAUSE[-1] + Fraction(1, 25)),
    ),
    "turned-by-exif.mkv": (turned_by_exif, list(range(64))),
    "thirty-a-second.mov": (
        lambda p, f: muxed(f, p.aac(), copied(film(p.folder / "30.mp4", frames=90, rate="30")), metadata=CLOCK),
        expected([Fraction(i, 30) for i in range(90)], Fraction(3)),
    ),
    "variable-rate.mov": (
        lambda p, f: muxed(f, p.aac(), copied(film(p.folder / "pause.mp4", frames=PAUSE))),
        expected(PAUSE, PAUSE[-1] + Fraction(1, 25)),
    ),
}


@pytest.mark.parametrize("name", NO_GAP)
def test_delays_of_encoders_and_other_tracks_are_no_gap(parts: Parts, tmp_path: Path, name: str) -> None:
    build, numbers = NO_GAP[name]
    assert shown(build(parts, tmp_path / name)) == numbers


def test_a_gap_before_pictures_of_variable_rate(parts: Parts, tmp_path: Path) -> None:
    pictures = copied(film(tmp_path / "pause.mp4", frames=PAUSE), later=START)
    path = muxed(tmp_path / "v.mp4", copied(parts.mp3, "audio"), pictures)
    times = [Fraction(0), *(START + time for time in PAUSE[1:])]
    assert shown(path) == expected(times, START + PAUSE[-1] + Fraction(1, 25))


def test_a_gap_at_other_rates(parts: Parts, tmp_path: Path) -> None:
    path = gap(parts, tmp_path / "v.mkv")
    frames = [number(frame) for s in snippets(path, fps=10, window=8, short_side=SIDE) for frame in s]
    assert len(frames) == 88  # of 89.8
    assert frames.count(0) == pytest.approx(30, abs=1)


def test_a_gap_of_hours_is_refused(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = gap(parts, tmp_path / "v.mp4", pictures=Fraction(4000))
    line = r"sound from 0.0\d s, but pictures only from 4000.00 s; .*: ffmpeg -ss (\S+) -i IN OUT"
    with pytest.raises(BadInput, match=line) as caught:
        list(snippets(path))
    with pytest.raises(BadInput, match=line):
        seconds(path)
    ffmpeg(*str(caught.value).split("hint: ")[1].split("ffmpeg ")[1].replace("IN", str(path)).split()[:-1], "v2.mp4")
    assert shown(Path("v2.mp4")) == list(range(144))


def test_what_is_no_file_is_refused_at_once(parts: Parts, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"ffconcat version 1.0\nfile {parts.mp4.name}\n")
    (tmp_path / parts.mp4.name).write_bytes(parts.mp4.read_bytes())
    for path, found in {
        tmp_path / "pipe.mp4": "a pipe or a device",
        Path("/dev/zero"): "a pipe or a device",
        tmp_path: "a folder",
        tmp_path / "absent.mp4": "no such file",
        playlist: "a playlist",
    }.items():
        for read in (seconds, shown):
            with pytest.raises(BadInput, match=found):
                read(path)
