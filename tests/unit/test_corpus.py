"""Videos as they are found in the world: each is right, by ffprobe's time stamps, or refused with one line."""

import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.corpus import damaged, film, noisy, packets, patched, remux, shifted, sized, with_cover
from helpers.probing import first_picture, probe
from helpers.rendering import SIDE, expected, number

from um.errors import BadInput
from um.features import network
from um.features.extract import Machine, extract
from um.params import Features
from um.video.decode import snippets

Build = Callable[[Path], Path]  # from an empty folder to a video in it

PAUSES = [Fraction(i, 25) + Fraction(3) * (i > 20) + Fraction(5) * (i > 40) for i in range(60)]
OPEN_GROUPS = {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0"}
OPEN_GROUPS_265 = {"x265-params": "log-level=none:keyint=12:bframes=3:b-adapt=0:open-gop=1:pools=none:frame-threads=1"}


def two_films(folder: Path) -> Path:
    with av.open(str(folder / "v.mkv"), "w") as out:
        sources = [film(folder / "a.mp4"), film(folder / "b.mp4", frames=50, draw=sized(96, 96))]
        pairs = []
        for source in sources:
            with av.open(str(source)) as file:
                stream = out.add_stream_from_template(file.streams.video[0])
            pairs += [(packet, stream) for packet in packets(source)]
        for packet, stream in sorted(pairs, key=lambda pair: pair[0].dts * pair[0].time_base):
            packet.stream = stream
            out.mux(packet)
    return folder / "v.mkv"


def from_second_group(folder: Path, codec: str, options: dict[str, str]) -> Path:
    """A recording that begins within a film: its first pictures refer to ones before it."""
    whole = film(folder / "whole.ts", codec, 100, **options)

    def edit(found: list[av.Packet]) -> list[av.Packet]:
        return found[[i for i, packet in enumerate(found) if packet.is_keyframe][1] :]

    return remux(whole, folder / "v.ts", edit)


def edited(folder: Path, frames: int) -> Path:
    """The first frames are there, but before the edit list's start: what `ffmpeg -ss -c copy` writes."""
    whole = film(folder / "whole.mp4", frames=120)
    ticks = 512  # of a frame in MP4 at 25 fps
    return remux(
        whole, folder / "v.mp4", lambda found: list(shifted(found, -frames * ticks)), avoid_negative_ts="disabled"
    )


def restamped(folder: Path, name: str, stamp: Callable[[int], int]) -> Path:
    """Frame i at stamp(i) · 40 ms."""
    whole = film(folder / "whole.mkv", "mjpeg", 80)

    def edit(found: list[av.Packet]) -> list[av.Packet]:
        for i, packet in enumerate(found):
            packet.pts = packet.dts = 40 * stamp(i)
        return found

    return remux(whole, folder / name, edit)


# what is right: name → (how it is made, the number of its first frame)
WHOLE: dict[str, tuple[Build, int]] = {
    "h264.mp4": (lambda f: film(f / "v.mp4"), 0),
    "h264.mov": (lambda f: film(f / "v.mov"), 0),
    "h264.mkv": (lambda f: film(f / "v.mkv"), 0),
    "h264.flv": (lambda f: film(f / "v.flv"), 0),
    "h264.ts": (lambda f: film(f / "v.ts"), 0),
    "h264.avi": (lambda f: film(f / "v.avi"), 0),
    "h264-fragments.mp4": (lambda f: film(f / "v.mp4", container={"movflags": "frag_keyframe+empty_moov"}), 0),
    "h264-10-bit.mp4": (lambda f: film(f / "v.mp4", pixels="yuv420p10le"), 0),
    "h264-bare.h264": (lambda f: film(f / "v.h264", bf="0"), 0),
    "hevc.mp4": (lambda f: film(f / "v.mp4", "libx265"), 0),
    "hevc.mkv": (lambda f: film(f / "v.mkv", "libx265"), 0),
    "av1.mp4": (lambda f: film(f / "v.mp4", "libsvtav1"), 0),
    "av1.webm": (lambda f: film(f / "v.webm", "libsvtav1"), 0),
    "vp9.webm": (lambda f: film(f / "v.webm", "libvpx-vp9"), 0),
    "mpeg4.avi": (lambda f: film(f / "v.avi", "mpeg4"), 0),
    "mpeg4.mp4": (lambda f: film(f / "v.mp4", "mpeg4"), 0),
    "mpeg2.mpg": (lambda f: film(f / "v.mpg", "mpeg2video"), 0),
    "mjpeg.avi": (lambda f: film(f / "v.avi", "mjpeg"), 0),
    "ntsc.mkv": (lambda f: film(f / "v.mkv", rate="30000/1001"), 0),
    "variable-with-pauses.mkv": (lambda f: film(f / "v.mkv", frames=PAUSES), 0),
    "variable-with-pauses.mp4": (lambda f: film(f / "v.mp4", frames=PAUSES), 0),
    "odd-sides-444.mp4": (lambda f: film(f / "v.mp4", draw=sized(101, 67), pixels="yuv444p"), 0),
    "odd-sides.webm": (lambda f: film(f / "v.webm", "libvpx-vp9", draw=sized(67, 101)), 0),
    "sound.mp4": (lambda f: film(f / "v.mp4", sound=3), 0),
    "sound-longer-by-5-s.mkv": (lambda f: film(f / "v.mkv", sound=8), 0),
    "sound-shorter.mkv": (lambda f: film(f / "v.mkv", sound=1), 0),
    "cover.mp4": (lambda f: with_cover(film(f / "film.mp4"), f / "v.mp4"), 0),
    "two-films.mkv": (two_films, 0),
    "no-duration.mkv": (lambda f: film(f / "v.mkv", container={"live": "1"}), 0),
    "no-index.avi": (lambda f: patched(film(f / "film.avi", "mpeg4"), f / "v.avi", b"idx1", b"JUNK"), 0),
    "title-in-latin-1.mp4": (
        lambda f: patched(film(f / "film.mp4"), f / "v.mp4", b"VideoHandler", b"Vid\xe9oHandler"),
        0,
    ),
    "starts-late.ts": (lambda f: film(f / "v.ts", frames=[5 + Fraction(i, 25) for i in range(60)]), 0),
    "edit-list-at-a-key-frame.mp4": (lambda f: edited(f, 36), 36),
    "edit-list-within-a-group.mp4": (lambda f: edited(f, 41), 41),
    "begins-in-an-open-group-h264.ts": (lambda f: from_second_group(f, "libx264", OPEN_GROUPS), 12),
    "begins-in-an-open-group-hevc.ts": (lambda f: from_second_group(f, "libx265", OPEN_GROUPS_265), 12),
    "doubled-time-stamps.mkv": (lambda f: restamped(f, "v.mkv", lambda i: i - i % 2), 0),
}


def shown(path: Path) -> list[int]:
    return [number(frame) for snippet in snippets(path, short_side=SIDE) for frame in snippet]


@pytest.mark.parametrize("name", WHOLE)
def test_whole_videos_have_the_frames_and_times_of_ffprobe(tmp_path: Path, name: str) -> None:
    build, first = WHOLE[name]
    path = build(tmp_path)
    frames = expected(*probe(path))
    assert len(frames) >= 48
    assert shown(path) == [first + frame for frame in frames]


def keyless(folder: Path, codec: str, name: str) -> Path:
    """Of a group in the middle, the key frame is lost."""
    whole = film(folder / "whole.mp4", codec, 100, draw=noisy)

    def edit(found: list[av.Packet]) -> list[av.Packet]:
        keys = [i for i, packet in enumerate(found) if packet.is_keyframe]
        return found[: keys[3]] + found[keys[3] + 1 :]

    return remux(whole, folder / name, edit)


def joined(folder: Path, name: str, *parts: Path) -> Path:
    (folder / name).write_bytes(b"".join(part.read_bytes() for part in parts))
    return folder / name


def sound_only(folder: Path) -> Path:
    with av.open(str(folder / "v.mp4"), "w") as file:
        audio = file.add_stream("aac", rate=8000, layout="mono")
        for i in range(40):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = 8000, i * 1024
            file.mux(audio.encode(silence))
        file.mux(audio.encode(None))
    return folder / "v.mp4"


def backwards(folder: Path) -> Path:
    """The third cluster says that it is the first one: Matroska's (1F43B675) carry the time (E7)."""
    clusters = {"cluster_time_limit": "1000"}
    content = bytearray(film(folder / "film.mkv", "mjpeg", 100, container=clusters).read_bytes())
    found = [match.end() for match in re.finditer(rb"\x1fC\xb6u.{8}\xe7\x82", content, re.DOTALL)]
    content[found[1] : found[1] + 2] = bytes(2)
    (folder / "v.mkv").write_bytes(content)
    return folder / "v.mkv"


def header_only(folder: Path) -> Path:
    content = film(folder / "film.mp4", container={"movflags": "faststart"}).read_bytes()
    (folder / "v.mp4").write_bytes(content[: content.index(b"mdat") + 4])
    return folder / "v.mp4"


def noise(folder: Path, name: str, codec: str, **options: str) -> Path:
    return film(folder / f"whole-{name}", codec, 100, draw=noisy, **options)


BROKEN = "cannot be decoded|a damaged picture|pictures missing|a truncated packet|damaged bytes|declared"

# what is refused: name → (how it is made, what is said)
REFUSED: dict[str, tuple[Build, str]] = {
    "empty.mp4": (lambda f: joined(f, "v.mp4"), "cannot be decoded"),
    "header-only.mp4": (header_only, BROKEN),
    "no-header.mp4": (lambda f: damaged(noise(f, "v.mp4", "libx264"), f / "v.mp4", 0.95), "cannot be decoded"),
    "cut-off.mkv": (lambda f: damaged(noise(f, "v.mkv", "libx264"), f / "v.mkv", 0.6), BROKEN),
    "cut-off.flv": (lambda f: damaged(noise(f, "v.flv", "libx264"), f / "v.flv", 0.6), BROKEN),
    "cut-off.webm": (lambda f: damaged(noise(f, "v.webm", "libvpx-vp9"), f / "v.webm", 0.6), BROKEN),
    "damaged-h264.mp4": (lambda f: damaged(noise(f, "v.mp4", "libx264"), f / "v.mp4", 0.5, 2000), BROKEN),
    "damaged-h264.mkv": (lambda f: damaged(noise(f, "v.mkv", "libx264"), f / "v.mkv", 0.5, 20_000), BROKEN),
    "damaged-h264.ts": (lambda f: damaged(noise(f, "v.ts", "libx264"), f / "v.ts", 0.5, 2000), BROKEN),
    "damaged-hevc.mp4": (lambda f: damaged(noise(f, "v.mp4", "libx265"), f / "v.mp4", 0.5, 20_000), BROKEN),
    "damaged-av1.mp4": (lambda f: damaged(noise(f, "v.mp4", "libsvtav1"), f / "v.mp4", 0.4, 2000), BROKEN),
    "damaged-vp9.webm": (lambda f: damaged(noise(f, "v.webm", "libvpx-vp9"), f / "v.webm", 0.5, 20_000), BROKEN),
    "damaged-mpeg4.avi": (lambda f: damaged(noise(f, "v.avi", "mpeg4"), f / "v.avi", 0.5, 2000), BROKEN),
    "damaged-mpeg2.mpg": (lambda f: damaged(noise(f, "v.mpg", "mpeg2video"), f / "v.mpg", 0.5, 2000), BROKEN),
    "damaged-mjpeg.avi": (lambda f: damaged(noise(f, "v.avi", "mjpeg"), f / "v.avi", 0.5, 2000), BROKEN),
    "key-frame-lost-hevc.mp4": (lambda f: keyless(f, "libx265", "v.mp4"), "a damaged picture"),
    "key-frame-lost-h264.mp4": (lambda f: keyless(f, "libx264", "v.mp4"), "pictures missing"),
    "key-frame-lost-h264.ts": (lambda f: keyless(f, "libx264", "v.ts"), "pictures missing"),
    "sound-only.mp4": (sound_only, "no video stream"),
    "unknown-codec.mp4": (
        lambda f: patched(film(f / "film.mp4"), f / "v.mp4", b"avc1", b"zzzz"),
        "without a decoder",
    ),
    "one-picture.mp4": (lambda f: film(f / "v.mp4", frames=1), "1 frames at 25 fps; expected at least 16"),
    "restarted-recording.ts": (
        lambda f: joined(f, "v.ts", film(f / "a.ts"), film(f / "b.ts")),
        "time stamps that jump from|a truncated packet",
    ),
    "runs-backwards.mkv": (backwards, "time stamps that jump"),
    "jumps-by-years.mkv": (lambda f: restamped(f, "v.mkv", lambda i: i + 10**9 * (i > 50)), "time stamps that jump"),
    "changes-shape.h264": (
        lambda f: joined(f, "v.h264", film(f / "a.h264"), film(f / "b.h264", draw=sized(128, 64))),
        "frames resized to 64x64, then 128x64",
    ),
    "thin.mkv": (lambda f: film(f / "v.mkv", "mjpeg", draw=sized(8, 200)), "pictures of 8x200; expected .* 16:1"),
    "turned-by-45.mp4": (
        lambda f: film(f / "v.mp4", prepare=lambda stream: stream.set_display_rotation(45)),
        "pictures rotated by 45 degrees",
    ),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, (build, _) in REFUSED.items():
        made[name] = build(tmp_path_factory.mktemp(name))
    return made


@pytest.mark.parametrize("name", REFUSED)
def test_others_are_refused_with_one_line(refused: dict[str, Path], name: str, capfd: pytest.CaptureFixture) -> None:
    lines = []
    for _ in range(2):
        with pytest.raises(BadInput, match=REFUSED[name][1]) as caught:
            list(snippets(refused[name], short_side=SIDE))
        lines.append(str(caught.value))
    assert lines[0].startswith(f"{refused[name]}: found ")
    assert "\n" not in lines[0]
    assert lines[0] == lines[1]
    assert capfd.readouterr() == ("", "")  # FFmpeg says nothing of its own


@pytest.mark.parametrize("codec", ["libvpx-vp9", "mpeg4"])
def test_a_lost_key_frame_of_other_codecs_costs_no_time(tmp_path: Path, codec: str) -> None:
    # a limit, not a promise: their pictures carry no numbers, so FFmpeg misses none and decodes wrong ones
    path = keyless(tmp_path, codec, "v.mp4")
    times, end = probe(path)
    assert len(times) < 100
    assert len(shown(path)) == len(expected(times, end)) == 96


def test_names_with_colons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film(tmp_path / "v.mp4").rename(tmp_path / "16:20.mp4")
    monkeypatch.chdir(tmp_path)
    assert shown(Path("16:20.mp4")) == list(range(64))


def corner(_: int) -> np.ndarray:
    """48 x 64, every quarter of another colour."""
    colours = np.array([[(200, 40, 40), (40, 200, 40)], [(40, 40, 200), (200, 200, 200)]], np.uint8)
    return colours.repeat(24, axis=0).repeat(32, axis=1)


@pytest.mark.parametrize("mirror", [{}, {"hflip": True}, {"vflip": True}], ids=["plain", "hflip", "vflip"])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_pictures_are_turned_as_ffmpeg_turns_them(tmp_path: Path, degrees: int, mirror: dict[str, bool]) -> None:
    path = film(tmp_path / "v.mp4", frames=16, draw=corner, prepare=lambda s: s.set_display_rotation(degrees, **mirror))
    (frames,) = snippets(path, short_side=48)
    theirs = first_picture(path)
    assert frames[0].shape == theirs.shape == ((64, 48, 3) if degrees % 180 else (48, 64, 3))
    assert np.abs(frames[0].astype(int) - theirs).mean() < 3  # their chroma is interpolated otherwise
    (small,) = snippets(path, short_side=24)
    assert np.abs(small[0].astype(int) - theirs[::2, ::2]).mean() < 5


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, codec in {"a.mp4": "libx264", "b.mp4": "libx265", "c.mp4": "libsvtav1", "d.webm": "libvpx-vp9"}.items():
        path = film(tmp_path / name, codec, 48, draw=noisy)
        runs = [b"".join(snippet.tobytes() for snippet in snippets(path, short_side=SIDE)) for _ in range(2)]
        assert runs[0] == runs[1]


def repeated(minute: Path, path: Path, times: int) -> Path:
    """A film of 60 frames, over and over."""
    step = 60 * packets(minute)[0].duration

    def edit(found: list[av.Packet]) -> list[av.Packet]:
        return [packet for i in range(times) for packet in shifted(packets(minute), i * step)]

    return remux(minute, path, edit)


def measured(*paths: Path) -> list[tuple[int, int, float]]:
    """Snippets of each video, peak memory in kB and CPU seconds so far, of a process that decodes one after another."""
    program = """
import sys
import time
from pathlib import Path
from um.video.decode import snippets
began = time.process_time()
for path in sys.argv[1:]:
    count = sum(1 for _ in snippets(Path(path), short_side=8))
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    peak = status["VmHWM"].split()[0]  # its own: getrusage's would be that of the process that started it
    print(count, peak, time.process_time() - began)
"""
    command = [sys.executable, "-c", program, *paths]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [(int(count), int(peak), float(seconds)) for count, peak, seconds in map(str.split, said)]


def test_four_hours_take_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    minute = film(tmp_path / "minute.mp4", frames=60, rate="1", draw=sized(32, 32))
    short, long = measured(minute, repeated(minute, tmp_path / "hours.mp4", 4 * 60))
    assert (short[0], long[0]) == (60 * 25 // 16, 4 * 3600 * 25 // 16)
    assert long[1] - short[1] < 10_000
    assert long[2] < 60


def test_no_frame_is_kept(tmp_path: Path) -> None:
    large = {"draw": sized(1280, 720), "prepare": lambda stream: stream.set_display_rotation(90), "preset": "ultrafast"}
    few, many = measured(*(film(tmp_path / f"{n}.mp4", frames=n, **large) for n in (20, 70)))
    assert many[1] - few[1] < 20_000  # fifty frames of 1.4 MB


class Mean:
    """A network of one feature: the mean of what it sees."""

    device = network.torch.device("cpu")

    def __init__(self, *_: object) -> None: ...

    def launch(self, clips: np.ndarray) -> "network.torch.Tensor":
        return network.torch.from_numpy(clips).float().mean((1, 2, 3, 4))[:, None]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(network, "Network", Mean)
    (tmp_path / "weights").write_text("none")
    return tmp_path / "weights"


def test_extraction_lists_what_it_refuses_and_goes_on(tmp_path: Path, refused: dict[str, Path], weights: Path) -> None:
    videos = refused | {"whole": film(tmp_path / "whole.mp4")}
    settings, out = Features(short_side=64, crop=32, clips=2), tmp_path / "out"
    with pytest.raises(BadInput, match=rf"and {len(refused) - 1} more failures"):
        extract(videos, out, settings, {"rgb": weights}, Machine("cpu", strict=True))
    assert not (out / "index.json").exists()
    extract(videos, out, settings, {"rgb": weights}, Machine("cpu"))
    assert np.load(out / "rgb/whole.npy").shape == (4, 1)
    assert [path.name for path in (out / "rgb").iterdir()] == ["whole.npy"]
    header, *lines = (out / "missing.tsv").read_text().splitlines()
    assert header == "id\treason"
    reasons = dict(line.split("\t") for line in lines)
    assert list(reasons) == sorted(refused)
    for name, (_, message) in REFUSED.items():
        assert any(part in reasons[name] for part in message.split(";")[0].split("|"))


def test_nothing_that_can_be_read_is_exit_code_2(
    um: Callable[..., tuple[int, str, str]], refused: dict[str, Path], weights: Path
) -> None:
    names = ["empty.mp4", "damaged-h264.mp4"]
    for i, name in enumerate(names):
        code, _, err = um("extract", refused[name], "--out", f"out{i}", "--weights", weights, "--device", "cpu")
        assert code == 2
        assert err.splitlines()[-1].startswith(f"um: {refused[name]}: found")
        assert "Traceback" not in err
        assert not Path(f"out{i}/index.json").exists()
