"""Films that are damaged on purpose or at random: read, or refused with one line, at once and without much memory."""

import random
import struct
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from helpers.corpus import copied, film, font, muxed, patched, sounding, timed
from helpers.rendering import SIDE

from um.errors import BadInput
from um.video.decode import snippets
from um.video.probe import seconds

MUTANTS = 25  # of each film


def gif(width: int, height: int) -> bytes:
    """Twenty pictures of one pixel on a canvas of these sides."""
    one = b"\x21\xf9\x04\0\x04\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\x00"
    canvas = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return b"GIF89a" + canvas + one * 20 + b"\x3b"


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def mjpeg(folder: Path, name: str) -> Path:
    return film(folder / f"film-{name}", "mjpeg", frames=20)


def jpeg_sides(folder: Path, width: int, height: int) -> Path:
    old, new = struct.pack(">HH", SIDE, SIDE), struct.pack(">HH", height, width)
    return patched(mjpeg(folder, "v.mkv"), folder / "v.mkv", old, new)


def many_samples(folder: Path, kind: bytes, after: int) -> Path:
    """A table of an MP4 that declares 2³¹ samples."""
    flags = {"movflags": "frag_keyframe+empty_moov"} if kind == b"trun" else {}
    content = bytearray(film(folder / "film.mp4", frames=20, container=flags).read_bytes())
    place = content.index(kind) + 4 + after
    content[place - 4 : place + 4] = struct.pack(">II", 1 if kind == b"stsz" else 0, 1 << 31)
    return written(folder / "v.mp4", bytes(content))


def rate_of_years(folder: Path) -> Path:
    """A frame of AVI lasts 2³¹ seconds."""
    source = film(folder / "film.avi", "mjpeg", frames=20)
    return patched(source, folder / "v.avi", struct.pack("<II", 1, 25), struct.pack("<II", (1 << 31) - 1, 1))


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "canvas-65535.gif": (lambda f: written(f / "v.gif", gif(65535, 65535)), "cannot be decoded|at most"),
    "canvas-16000.gif": (lambda f: written(f / "v.gif", gif(16000, 16000)), "cannot be decoded|at most"),
    "canvas-of-nothing.gif": (lambda f: written(f / "v.gif", gif(0, 0)), "cannot be decoded"),
    "sides-of-65535.mkv": (lambda f: jpeg_sides(f, 65535, 65535), "cannot be decoded|at most"),
    "sides-of-16000.mkv": (lambda f: jpeg_sides(f, 16000, 16000), "cannot be decoded|at most"),
    "no-width.mkv": (lambda f: jpeg_sides(f, 0, 64), "cannot be decoded|pictures of 0x64"),
    "no-sides.mkv": (lambda f: jpeg_sides(f, 0, 0), "cannot be decoded"),
    "samples-without-end.mp4": (lambda f: many_samples(f, b"stsz", 8), "a table of 2147483648 samples in"),
    "samples-of-fragments-without-end.mp4": (
        lambda f: many_samples(f, b"trun", 4),
        "a table of 2147483648 samples in",
    ),
    "rate-of-years.avi": (rate_of_years, "time stamps that jump|declared|cannot be decoded"),
    "playlist-of-itself.mp4": (
        lambda f: written(f / "v.mp4", b"ffconcat version 1.0\nfile other.mp4\n"),
        "cannot be decoded",
    ),
    "playlist.m3u8": (lambda f: written(f / "v.m3u8", b"#EXTM3U\n#EXTINF:10,\nother.ts\n"), "cannot be decoded"),
    "noise.mp4": (lambda f: written(f / "v.mp4", random.Random(0).randbytes(20_000)), "cannot be decoded"),
    "zeros.mp4": (lambda f: written(f / "v.mp4", bytes(20_000)), "cannot be decoded"),
    "zeros.ts": (lambda f: written(f / "v.ts", bytes(188 * 100)), "cannot be decoded"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_claims_too_much_is_refused_at_once(tmp_path: Path, name: str) -> None:
    build, message = HOSTILE[name]
    path = build(tmp_path)
    before, began = memory(), time.process_time()
    with pytest.raises(BadInput, match=message) as caught:
        list(snippets(path, short_side=SIDE))
    assert time.process_time() - began < 2
    assert memory() - before < 200_000
    assert "\n" not in str(caught.value)


def memory() -> int:
    """Most that this process has ever had, in kB."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def test_a_header_alone_has_no_length(tmp_path: Path) -> None:
    content = film(tmp_path / "film.mp4", container={"movflags": "faststart"}).read_bytes()
    path = written(tmp_path / "v.mp4", content[: content.index(b"mdat") + 4])
    with pytest.raises(BadInput, match=r"no pictures after the header|cannot be decoded"):
        seconds(path)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One of each container, with other tracks."""
    folder = tmp_path_factory.mktemp("films")
    sound, mp3 = sounding(folder / "s.m4a", Fraction(2)), sounding(folder / "s.mp3", Fraction(2), codec="libmp3lame")
    h264 = film(folder / "h264.mp4", frames=32)
    aac, mpeg4 = lambda: copied(sound, "audio"), film(folder / "mpeg4.mp4", "mpeg4", frames=32)
    return [
        muxed(folder / "a.mp4", aac(), copied(h264), timed("bin_data", b"DEVC"), metadata={"timecode": "01:00:00:00"}),
        muxed(folder / "b.mkv", aac(), timed("subrip", b"hi"), copied(h264, later=Fraction(1)), font()),
        muxed(folder / "c.ts", aac(), copied(h264)),
        muxed(folder / "d.flv", aac(), copied(h264)),
        muxed(folder / "e.avi", copied(mp3, "audio"), copied(mpeg4)),
        muxed(folder / "f.mp4", aac(), copied(h264), movflags="frag_keyframe+empty_moov"),
        film(folder / "g.webm", "libvpx-vp9", frames=32),
        film(folder / "h.mov", "mjpeg", frames=20, prepare=lambda stream: stream.set_display_rotation(90)),
        film(folder / "i.mpg", "mpeg2video", frames=32),
    ]


def mutant(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, most of them where headers are: at both ends."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        place = rng.randrange(min(len(changed), 1500) if rng.random() < 0.6 else len(changed))
        if rng.random() < 0.3:
            place = len(changed) - 1 - place
        kind = rng.randrange(5)
        if kind == 0:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place] = rng.choice([0, 127, 128, 255, rng.randrange(256)])
        elif kind == 2:
            wide = rng.choice([2, 4, 8])
            value = rng.choice([0, 1, (1 << 8 * wide - 1) - 1, 1 << 8 * wide - 1, (1 << 8 * wide) - 1])
            changed[place : place + wide] = value.to_bytes(wide, rng.choice(["big", "little"]))
        elif kind == 3:
            del changed[place : place + rng.randrange(1, 400)]
        else:
            changed[place : place + rng.randrange(1, 64)] = rng.randbytes(rng.randrange(1, 64))
        changed += bytes(max(16 - len(changed), 0))
    return bytes(changed)


def test_bytes_changed_at_random_are_read_or_refused(films: list[Path], tmp_path: Path) -> None:
    rng, outcomes, lines = random.Random(11), Counter[str](), []
    for source in films:
        content = source.read_bytes()
        for _ in range(MUTANTS):
            path = written(tmp_path / f"v{source.suffix}", mutant(content, rng))
            for read in (seconds, lambda path: sum(1 for _ in snippets(path, short_side=8))):
                try:
                    read(path)
                    outcomes["read"] += 1
                except BadInput as error:
                    outcomes["refused"] += 1
                    lines.append(str(error))
    assert all("\n" not in line and len(line) < 1000 for line in lines)
    assert outcomes.total() == 2 * MUTANTS * len(films)
    assert min(outcomes["read"], outcomes["refused"]) > 50  # so that both are tried
