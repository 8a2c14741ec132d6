"""The embedded demo dataset: untrimmed videos of stick figures, drawn from a seed.

A figure performs one or two of six actions in front of drifting scenery. Between actions it idles, walks, stretches or
plays with a prop of any class, and other things pass by all the time. The background does not depend on a video's
classes, so neither "anything moves" nor "the whole video" finds the actions.

Every video depends only on (seed, id). Pixels are computed with integers and the encoder runs in one thread with a
constant quantiser, so that the same libraries give the same bytes on every machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from um.demo.figures import ACTIONS, FIDGETS, PASSERS, Array, Drawing, Motion, Point
from um.errors import BadInput
from um.files import atomic
from um.params import Download

FPS = 25
WIDTH, HEIGHT = 128, 96
MARGIN = 48  # pixels of scenery beyond each edge of the frame, for camera motion
DURATION = 12 * FPS, 22 * FPS  # frames
ACTION_SHARE = 0.31, 0.46  # of the frames of a video
INSTANCE = 26, 200  # frames: the shortest instance, and the largest mean over a video's instances
GAP = 33  # frames: the shortest background before, between and after instances

ENCODER = {
    "preset": "veryfast",
    "qp": "31",
    "bf": "0",
    "g": "50",
    "threads": "1",
    "flags": "+bitexact",
    "x264-params": "cpu-independent=1",
}
CLASSES = tuple(ACTIONS)


@dataclass(frozen=True)
class Show:
    """A motion shown from one frame to another."""

    motion: Motion
    rate: float
    start: int
    end: int
    phase: float = 0.0

    def at(self, frame: int) -> Drawing:
        """The drawing of one frame."""
        return self.motion(self.phase + self.rate * (frame - self.start) / FPS)


def _random(seed: int, video_id: str, purpose: str) -> np.random.Generator:
    return np.random.default_rng([seed, *f"{video_id} {purpose}".encode()])


def _split(rng: np.random.Generator, total: int, least: list[int]) -> Array:
    """Random integer parts of `total`, each at least its `least`."""
    weights = rng.uniform(0.5, 1.5, len(least))
    ends = np.round(np.cumsum(weights) / weights.sum() * (total - sum(least)))
    parts: Array = np.diff(ends, prepend=0).astype(int) + least
    return parts


def _instances(video_id: str, seed: int) -> tuple[int, list[tuple[str, int, int]]]:
    """The number of frames of a video, and class, first and end frame of each of its actions."""
    rng = _random(seed, video_id, "plan")
    group, first = divmod(int(video_id.rpartition("_")[2]) - 1, len(CLASSES))
    labels = [CLASSES[first]]
    if (group + first) % 5 == 0:  # a fifth of the videos, over all classes
        labels.append(CLASSES[(first + rng.integers(1, len(CLASSES))) % len(CLASSES)])
    frames = int(rng.integers(*DURATION, endpoint=True))
    action = int(frames * rng.uniform(*ACTION_SHARE))
    most = min(6, action // INSTANCE[0], (frames - action) // GAP - 1)
    count = int(rng.integers(max(len(labels), -(-action // INSTANCE[1])), most, endpoint=True))
    lengths = _split(rng, action, [INSTANCE[0]] * count)
    gaps = _split(rng, frames - action, [GAP] * (count + 1))
    ends = np.cumsum(gaps[:-1] + lengths)
    order = rng.permutation(np.resize(labels, count))
    return frames, [(str(c), int(end - n), int(end)) for c, n, end in zip(order, lengths, ends, strict=True)]


def plan(settings: Download) -> dict[str, Any]:
    """The demo's annotations in ActivityNet's format; times in seconds, exact to the frame."""
    database: dict[str, Any] = {}
    for subset, videos in (("train", settings.train_videos), ("test", settings.test_videos)):
        for number in range(1, videos + 1):
            video_id = f"demo_{subset}_{number:04d}"
            frames, instances = _instances(video_id, settings.render_seed)
            database[video_id] = {
                "subset": subset,
                "duration": round(frames / FPS, 2),
                "annotations": [
                    {"label": label, "segment": [round(start / FPS, 2), round(end / FPS, 2)]}
                    for label, start, end in instances
                ],
            }
    return {"version": f"um demo {settings.render_seed}", "database": database}


def _acts(rng: np.random.Generator, frames: int, instances: list[tuple[str, int, int]]) -> Iterator[Show]:
    """The figure's motions: the actions, and fidgets of one to three seconds between them."""
    now = 0
    for label, start, end in [*instances, ("", frames, frames)]:
        while now < start:
            motion, rate = FIDGETS[rng.integers(len(FIDGETS))]
            until = int(now + rng.integers(25, 75))
            until = start if start - until < 25 else until
            yield Show(motion, rate * rng.uniform(0.8, 1.2), now, until, rng.uniform())
            now = until
        if label:
            motion, rate = ACTIONS[label]
            yield Show(motion, rate * rng.uniform(0.85, 1.15), start, end, rng.uniform())
            now = end


def _passers(rng: np.random.Generator, frames: int) -> Iterator[tuple[Show, float, float]]:
    """Objects that cross the picture, one after the other: motion, position of its feet, and height (relative)."""
    now = int(rng.integers(50))
    while now < frames:
        motion, rate = PASSERS[rng.integers(len(PASSERS))]
        until = now + int(rng.integers(40, 110))
        yield Show(motion, rate, now, until), rng.uniform(0.6, 0.95), rng.uniform(0.3, 0.55)
        now = until + int(rng.integers(10, 90))


def _scenery(rng: np.random.Generator) -> Array:
    """A picture larger than the frame: hazy sky, boxes and poles, a tiled floor."""
    height, width = HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN
    floor = MARGIN + int(HEIGHT * rng.uniform(0.55, 0.8))
    hue = rng.integers(50, 200, 3)
    cells = np.clip(hue + rng.integers(-45, 46, (8, 12, 3)), 0, 255).astype(np.uint8)
    picture: Array = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    for _ in range(rng.integers(8, 20)):
        x, w, h = (int(rng.integers(*bounds)) for bounds in ((-20, width), (4, 40), (15, floor - MARGIN // 2)))
        paint = [int(v) for v in np.clip(hue + rng.integers(-70, 71, 3), 0, 255)]
        cv2.rectangle(picture, (x, floor - h), (x + w, floor), paint, -1)
        cv2.rectangle(picture, (x + w // 3, floor - h // 2), (x + w // 2, floor - h // 3), paint[::-1], -1)
    tiles = rng.integers(60, 190, (6, 24, 3)).astype(np.uint8)
    picture[floor:] = cv2.resize(tiles, (width, height - floor), interpolation=cv2.INTER_NEAREST_EXACT)
    return picture


def _camera(rng: np.random.Generator, frames: int) -> Array:
    """Camera positions (frames, 2), x and y, in eighths of a pixel from the centre."""
    time = np.arange(frames)[:, None] / FPS
    slow = np.sin(2 * np.pi * (time / rng.uniform(4, 8, 2) + rng.uniform(0, 1, 2))) * (0.6, 0.25)
    quick = np.sin(2 * np.pi * (time / rng.uniform(1.0, 2.2, 2) + rng.uniform(0, 1, 2))) * (0.35, 0.14)
    return np.round((slow + quick) * MARGIN * 8).astype(int)


def _view(picture: Array, x: int, y: int) -> Array:
    """The visible part of the scenery, shifted by eighths of a pixel (bilinear, in integers)."""
    (left, dx), (top, dy) = divmod(x + 8 * MARGIN, 8), divmod(y + 8 * MARGIN, 8)
    part: Array = picture[top : top + HEIGHT + 1, left : left + WIDTH + 1].astype(np.uint16)
    part = part[:-1] * (8 - dy) + part[1:] * dy
    part = (part[:, :-1] * (8 - dx) + part[:, 1:] * dx + 32) >> 6
    return np.ascontiguousarray(part, np.uint8)


def _draw(frame: Array, drawing: Drawing, foot: Point, height: float, mirror: int, palette: Array) -> None:
    """Draw with (0, 0) at pixel `foot` and `height` pixels per unit; strokes get a dark rim."""
    for stroke in drawing:
        points = np.round((foot + stroke.points * (mirror * height, -height)) * 16).astype(np.int32)
        width = max(1, round(stroke.width * height))
        for thickness, paint in ((width + 2, (20, 20, 20)), (width, palette[stroke.paint].tolist())):
            if len(points) == 1:
                cv2.circle(frame, points[0].tolist(), thickness * 8, paint, -1, cv2.LINE_AA, 4)
            else:
                cv2.polylines(frame, [points], False, paint, thickness, cv2.LINE_AA, 4)


def _frames(video_id: str, seed: int) -> Iterator[Array]:
    """The RGB frames of a video."""
    frames, instances = _instances(video_id, seed)
    rng = _random(seed, video_id, "render")
    picture, camera = _scenery(rng), _camera(rng, frames)
    acts, passers = list(_acts(rng, frames, instances)), list(_passers(rng, frames))
    palette = rng.integers(30, 256, (4, 3))
    others = rng.integers(30, 256, (4, 3))
    height, x, mirror = HEIGHT * rng.uniform(0.62, 0.74), WIDTH * rng.uniform(0.4, 0.6), int(rng.choice((-1, 1)))
    floor = HEIGHT * rng.uniform(0.88, 0.95)
    for number in range(frames):
        frame = _view(picture, *camera[number].tolist())
        for show, at, size in passers:
            if show.start <= number < show.end:
                way = (number - show.start) / (show.end - show.start)
                _draw(frame, show.at(number), ((1.4 * way - 0.2) * WIDTH, at * HEIGHT), size * HEIGHT, 1, others)
        act = next(a for a in acts if a.start <= number < a.end)
        shake = camera[number] / 64
        _draw(frame, act.at(number), (x - shake[0], floor - shake[1]), height, mirror, palette)
        yield frame


def render(video_id: str, settings: Download, path: Path) -> None:
    """Render one demo video and write it atomically, as H.264 in MP4.

    Raises:
        BadInput: the demo of these settings has no such video.
    """
    if video_id not in (known := list(plan(settings)["database"])):
        expected = f"one of {known[0]} … {known[-1]}"
        raise BadInput(video_id, "no such video", expected, "see download.train_videos and download.test_videos")
    with atomic(path) as temporary, av.open(str(temporary), "w", format="mp4", options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream("libx264", rate=FPS, options=ENCODER)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = WIDTH, HEIGHT, "yuv420p", 1
        for number, frame in enumerate(_frames(video_id, settings.render_seed)):
            planes = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).astype(np.uint8, copy=False)
            image = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            image.pts, image.time_base = number, Fraction(1, FPS)
            file.mux(stream.encode(image))
        file.mux(stream.encode())
