"""Time stamps decide which frame is shown when; nothing damaged passes for a video."""

import random
import tracemalloc
import wave
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
from helpers.rendering import SIDE, constant, expected, number, picture, render

from um.errors import BadInput
from um.video.decode import centre, snippets

SMALL = {"short_side": SIDE}


def shown(path: Path, **options: object) -> list[int]:
    return [number(frame) for snippet in snippets(path, **(SMALL | options)) for frame in snippet]


def test_constant_25_fps_passes_unchanged(tmp_path: Path) -> None:
    assert shown(constant(tmp_path / "v.mp4", 70)) == list(range(64))


@pytest.mark.parametrize("rate", ["981/50", "24", "30000/1001", "30", "60"])
def test_constant_rates_are_resampled_by_time(tmp_path: Path, rate: str) -> None:
    frames, fps = 130, Fraction(rate)
    times = [i / fps for i in range(frames)]
    result = shown(constant(tmp_path / "v.mp4", frames, rate))
    assert len(result) == floor(frames / fps * 25 + Fraction(1, 2)) // 16 * 16
    assert result == expected(times, frames / fps)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_variable_rates_are_resampled_by_time(tmp_path: Path, seed: int, container: str) -> None:
    rng = random.Random(seed)
    times = [Fraction(0)]
    for _ in range(99):
        times.append(times[-1] + Fraction(rng.choice([10, 33, 41, 60, 200]), 1000))
    path = render(tmp_path / f"v.{container}", times, Fraction(25))
    assert shown(path) == expected(times, times[-1] + Fraction(1, 25))


def test_a_stream_may_start_late(tmp_path: Path) -> None:
    times = [Fraction(3) + Fraction(i, 25) for i in range(32)]
    assert shown(render(tmp_path / "v.mkv", times, Fraction(25))) == list(range(32))


def test_other_target_rate_and_window(tmp_path: Path) -> None:
    path = constant(tmp_path / "v.mp4", 50)
    assert [len(s) for s in snippets(path, fps=10.0, window=8, **SMALL)] == [8, 8]
    assert shown(path, fps=12.5, window=5) == list(range(0, 50, 2))


def test_shape_crop_and_aspect(tmp_path: Path) -> None:
    path = constant(tmp_path / "v.mp4", 16)
    (snippet,) = snippets(path, short_side=128)
    assert snippet.shape == (16, 128, 128, 3)
    assert snippet.dtype == np.uint8
    assert np.abs(snippet[0].astype(int) - picture(0)[0, 0]).max() <= 3  # flat, so resizing changes nothing
    numbered = np.arange(7 * 10).reshape(1, 7, 10, 1)
    assert centre(numbered, 4)[0, :, :, 0].tolist() == [
        [13, 14, 15, 16],
        [23, 24, 25, 26],
        [33, 34, 35, 36],
        [43, 44, 45, 46],
    ]


@pytest.mark.parametrize("frames", [16, 31, 32, 33, 50])
@pytest.mark.parametrize(("before", "after"), [(0, 1), (24, 24), (3, 0), (0, 40)])
def test_surroundings_of_a_snippet_are_those_of_the_video(tmp_path: Path, frames: int, before: int, after: int) -> None:
    path = constant(tmp_path / "v.mp4", frames)
    found = [[number(frame) for frame in s] for s in snippets(path, before=before, after=after, **SMALL)]
    starts = range(0, frames - 15, 16)
    assert found == [
        [min(max(i, 0), frames - 1) for i in range(start - before, start + 16 + after)] for start in starts
    ]


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    path = constant(tmp_path / "v.mp4", 380)
    tracemalloc.start()
    count = sum(1 for _ in snippets(path, **SMALL))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 23
    assert peak < 5 * 16 * SIDE * SIDE * 3


def refused(path: Path, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        list(snippets(path, **SMALL))
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "absent.mp4", "no such file")
    refused(tmp_path, "a folder")
    text = tmp_path / "text.mp4"
    text.write_text("not a video\n" * 100)
    refused(text, "cannot be decoded")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    refused(empty, "cannot be decoded")
    sound = tmp_path / "sound.wav"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16_000))
    refused(sound, "no video stream")


def test_too_short_a_video_is_refused(tmp_path: Path) -> None:
    refused(constant(tmp_path / "v.mp4", 15), "15 frames at 25 fps; expected at least 16")
    assert len(list(snippets(constant(tmp_path / "w.mp4", 16), **SMALL))) == 1


@pytest.mark.parametrize("kept", [0.3, 0.6])
@pytest.mark.parametrize(
    ("name", "options"),
    [("v.mp4", {}), ("v.mp4", {"movflags": "faststart"}), ("v.mkv", {}), ("v.avi", {})],
    ids=["mp4", "mp4-faststart", "mkv", "avi"],
)
def test_what_is_cut_off_is_refused(tmp_path: Path, name: str, options: dict[str, str], kept: float) -> None:
    path = constant(tmp_path / name, 380, **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    refused(path, "cannot be decoded|truncated|declared")
