"""What FFmpeg's own programs say of a video: the second opinion on ours."""

import json
import subprocess
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np

from helpers.debian import installed


@cache
def require() -> None:
    """Skip the test where there is no ffprobe."""
    installed("ffmpeg", "ffprobe")


def probe(path: Path) -> tuple[list[Fraction], Fraction]:
    """Seconds of every frame after the first one, and the end of the last, as ffprobe says."""
    require()
    entries = "frame=best_effort_timestamp,duration,pkt_duration:stream=time_base,avg_frame_rate"
    command = ["ffprobe", "-v", "quiet", "-threads", "1", "-select_streams", "V:0", "-show_entries", entries]
    said = json.loads(subprocess.run([*command, "-of", "json", f"file:{path}"], capture_output=True, check=True).stdout)
    base, rate = (Fraction(said["streams"][0][key]) for key in ("time_base", "avg_frame_rate"))
    frames = said["frames"]
    stamps = [frame.get("best_effort_timestamp") for frame in frames]
    if None in stamps:  # an elementary stream
        return [i / rate for i in range(len(frames))], len(frames) / rate
    times = [(stamp - stamps[0]) * base for stamp in stamps]
    last = frames[-1].get("duration") or frames[-1].get("pkt_duration")
    return times, times[-1] + (last * base if last else 1 / rate)


def first_picture(path: Path) -> np.ndarray:
    """The first frame as the ffmpeg program would show it: turned as the file asks, its sides as they are."""
    require()
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-i", path, "-frames:v", "1"]
    ppm = subprocess.run([*command, "-f", "image2pipe", "-c:v", "ppm", "-"], capture_output=True, check=True).stdout
    _, sides, _, pixels = ppm.split(b"\n", 3)
    width, height = map(int, sides.split())
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def resampled(path: Path, fps: int = 25) -> list[np.ndarray]:
    """Frames of `fps` from the file's start on, as the ffmpeg program shows them, its sides as they are."""
    require()
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-i", path, "-map", "V:0", "-vf", f"fps={fps}:start_time=0"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    command += ["-map", "a?", "-map", "V", "-f", "null", "-"]  # its start is that of the streams that it uses
    pixels = subprocess.run(command, capture_output=True, check=True).stdout
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        return list(np.frombuffer(pixels, np.uint8).reshape(-1, stream.height, stream.width, 3))
