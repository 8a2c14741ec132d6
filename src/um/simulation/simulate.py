"""Simulated I3D features of real annotations.

For snippet t and dimension d, with h in units of the square root of a feature (docs/simulation.md has the equations):

    x = max(0, h)²
    h = location + video + scale · (noise + Σ_i weight_i(t) · direction_i)

The sum runs over the video's instances, the context of its classes, and bouts of action-like background. Location,
scale and noise are fitted to real features; `Model` sets the rest.

Shape legend: T snippets, D dimensions of both streams, K noise components, J signals of a video.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from filecmp import cmp
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from um.datasets import store
from um.errors import BadInput
from um.files import atomic, held, sweep, write_json
from um.forms import Section, read_json
from um.journal import AWAY, NotOurs, check_name
from um.simulation import truth

Floats = NDArray[np.float32]

GENERATOR = 1  # increase it if equal arguments give other features
WINDOW, FPS = 16, 25  # frames per snippet, frames per second
SNIPPETS = FPS / WINDOW  # per second
COMPONENTS = 128  # K, correlated directions of the noise
PARTS, PARTS_PER_DIRECTION = 64, 4
DISTRACTORS = 40
ACTIVE = 1.28  # standard deviations: 10 % of a part's dimensions exceed it
HALO = 5.0  # seconds; decay of context with the distance from an instance
VIDEO_SHARE, SIGNAL_SHARE = 0.1, 0.4  # of the variance of location over dimensions: per video; from signals


class Stream(NamedTuple):
    """Parameters fitted to real features of one stream; h is the square root of a feature."""

    location: float  # mean over dimensions of the median of h
    location_sd: float
    scale: float  # mean over dimensions of the standard deviation of h
    scale_sd: float
    slow: float  # share of the noise that persists …
    decay: float  # … and its autocorrelation at one snippet
    spectrum: float  # p: the k-th eigenvalue of the noise covariance decays as k^-p
    coupling: float  # correlation of location and scale over dimensions
    grain: float  # share of the noise beyond the first K eigenvalues, independent for every value


STREAMS = {
    "rgb": Stream(0.440, 0.159, 0.200, 0.086, 0.69, 0.87, 1.09, -0.06, 0.039),
    "flow": Stream(0.270, 0.163, 0.210, 0.091, 0.48, 0.83, 0.95, -0.49, 0.068),
}


class Model(Section):
    """The difficulty of the task, equal for all datasets. Strengths are root mean squares relative to the noise."""

    strength: float = Field(0.5, ge=0, description="strength of an instance's signal")
    spread: float = Field(0.3, ge=0, description="standard deviation of the logarithm of a signal's strength")
    variation: float = Field(0.8, ge=0, description="deviation of an instance's direction, relative to its class's")
    context: float = Field(0.8, ge=0, description="strength of class context at an instance, relative to the instance")
    context_floor: float = Field(0.7, ge=0, le=1, description="class context far from instances, relative to near them")
    confusion: float = Field(0.2, ge=0, description="expected share of the background with action-like bouts")
    lookalike: float = Field(0.3, ge=0, le=1, description="share of the bouts that point partly to another class")


def fit(features_TD: NDArray[np.floating]) -> Stream:
    """Fit the parameters of one stream to the real features (T, D) of a video."""
    h = np.sqrt(features_TD.astype(np.float64))
    location = np.median(h, axis=0)
    scale = np.quantile(h, 0.8413, axis=0) - location  # the upper side only: the lower one is clipped at 0
    z = (h - h.mean(axis=0)) / np.maximum(h.std(axis=0), 1e-6)

    def correlation(lag: int) -> float:
        return float((z[lag:] * z[:-lag]).mean() / (z * z).mean())

    decay = (correlation(5) / correlation(2)) ** (1 / 3)
    eigenvalue = np.linalg.svd(z, compute_uv=False) ** 2
    rank = np.arange(1, 51)
    spectrum = -np.polyfit(np.log(rank), np.log(eigenvalue[:50]), 1)[0]
    grain = eigenvalue[COMPONENTS:].sum() / eigenvalue.sum()
    slow = correlation(2) / decay**2 / (1 - grain)
    coupling = np.corrcoef(location, scale)[0, 1]
    parts = location.mean(), location.std(), scale.mean(), scale.std(), slow, decay, spectrum, coupling, grain
    return Stream(*(float(part) for part in parts))


def random(seed: int, *purpose: str) -> np.random.Generator:
    """A separate generator per purpose, so that results do not depend on the order of the work."""
    digest = hashlib.sha256("\0".join(purpose).encode()).digest()
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *np.frombuffer(digest, np.uint32)])))


class World:
    """The parts shared by all videos of a simulation: dimensions and class directions.

    Args:
        seed: random seed.
        dims: D, half of them rgb and half flow.
        model: the task.
        labels: classes of the dataset.
    """

    def __init__(self, seed: int, dims: int, model: Model, labels: list[str]) -> None:
        self.seed, self.model, self.width = seed, model, dims // 2
        draws = [(stream, random(seed, "dimensions", name)) for name, stream in STREAMS.items()]
        dimensions = [_dimensions(rng, stream, self.width) for stream, rng in draws]
        self.location_D, self.scale_D = (np.concatenate(parts) for parts in zip(*dimensions, strict=True))
        self.part_PD = np.concatenate(
            [np.maximum(rng.standard_normal((PARTS, self.width), np.float32) - ACTIVE, 0) for _, rng in draws], axis=1
        )
        self.action = {label: self.direction(random(seed, "class", label)) for label in labels}
        self.context = {label: self.direction(random(seed, "context", label)) for label in labels}
        self.distractors = [self.direction(random(seed, "distractor", str(i))) for i in range(DISTRACTORS)]

    def direction(self, rng: np.random.Generator) -> Floats:
        """A sparse, non-negative direction (D,) of root mean square 1, mixed from a few parts."""
        chosen = rng.choice(PARTS, PARTS_PER_DIRECTION, replace=False)
        return _unit(rng.uniform(0.5, 1.5, PARTS_PER_DIRECTION).astype(np.float32) @ self.part_PD[chosen])

    def video(self, name: str, entry: dict[str, Any]) -> Floats:
        """Features (T, D) of an annotated video, T = max(1, floor(duration · 25 / 16))."""
        rng = random(self.seed, "video", name)
        T = snippets(entry)
        weight_JT, direction_JD = self._signals(rng, T, entry["annotations"])
        h = np.concatenate([self._noise(rng, T, stream) for stream in STREAMS.values()], axis=1)
        signal_TD = weight_JT.T @ direction_JD
        h += signal_TD - signal_TD.mean()  # the fitted location includes signals
        h *= self.scale_D
        deviation = [
            np.sqrt(VIDEO_SHARE) * s.location_sd * rng.standard_normal(self.width, np.float32) for s in STREAMS.values()
        ]
        h += self.location_D + np.concatenate(deviation)
        np.maximum(h, 0, out=h)
        h *= h
        return h

    def _noise(self, rng: np.random.Generator, T: int, stream: Stream) -> Floats:
        """Noise (T, D/2) of variance 1 with the stream's autocorrelation and spectrum, in random directions."""
        eigenvalue_K = np.arange(1, COMPONENTS + 1) ** -stream.spectrum
        loading_KD = rng.standard_normal((COMPONENTS, self.width), np.float32)
        loading_KD *= np.sqrt((1 - stream.grain) * eigenvalue_K / eigenvalue_K.sum()).astype(np.float32)[:, None]
        slow_TK = rng.standard_normal((T, COMPONENTS), np.float32)
        fresh = np.float32(np.sqrt(1 - stream.decay**2))
        slow_TK[1:] *= fresh
        for t in range(1, T):
            slow_TK[t] += np.float32(stream.decay) * slow_TK[t - 1]
        fast_TK = rng.standard_normal((T, COMPONENTS), np.float32)
        latent_TK = np.float32(np.sqrt(stream.slow)) * slow_TK + np.float32(np.sqrt(1 - stream.slow)) * fast_TK
        noise: Floats = rng.standard_normal((T, self.width), np.float32)
        noise *= np.float32(np.sqrt(stream.grain))
        noise += latent_TK @ loading_KD
        return noise

    def _signals(self, rng: np.random.Generator, T: int, annotations: list[dict[str, Any]]) -> tuple[Floats, Floats]:
        """Strength (J, T) and direction (J, D) of instances, class context and bouts."""
        model = self.model
        labels = sorted({item["label"] for item in annotations})
        bounds = np.array([item["segment"] for item in annotations]) * SNIPPETS
        cover_IT = coverage(bounds, T)
        at_once_T = np.maximum(1, cover_IT.sum(axis=0))  # labels on the same segment share its strength
        action_T = cover_IT.max(axis=0)

        def strength(count: int) -> Floats:
            drawn: Floats = (model.strength * np.exp(model.spread * rng.standard_normal((count, 1)))).astype(np.float32)
            return drawn

        weights = [strength(len(annotations)) * cover_IT / np.sqrt(at_once_T)]
        directions = [self._varied(rng, self.action[item["label"]]) for item in annotations]
        for label in labels:
            own = bounds[[item["label"] == label for item in annotations]]
            away_T = np.maximum(own[:, :1] - np.arange(T) - 1, np.arange(T) - own[:, 1:]).min(axis=0)
            near_T = np.exp(-np.maximum(away_T, 0) / (HALO * SNIPPETS))
            level_T = model.context_floor + (1 - model.context_floor) * near_T
            weights.append(strength(1) * model.context * level_T[None])
            directions.append(self._varied(rng, self.context[label]))

        length = (bounds[:, 1] - bounds[:, 0]).clip(1, T)
        count = rng.poisson(model.confusion * T / length.mean())  # parts that overlap action are removed
        drawn = rng.choice(length, count) * rng.uniform(0.5, 1.5, count)
        start = rng.uniform(-drawn / 2, T - drawn / 2)
        weights.append(strength(count) * coverage(np.stack([start, start + drawn], axis=1), T) * (1 - action_T))
        others = [label for label in self.action if label not in labels]
        for _ in range(count):
            direction = self.distractors[rng.integers(DISTRACTORS)]
            if others and rng.uniform() < model.lookalike:
                direction = _unit(direction + self.action[others[rng.integers(len(others))]])
            directions.append(self._varied(rng, direction))
        return np.concatenate(weights).astype(np.float32), np.stack(directions)

    def _varied(self, rng: np.random.Generator, direction_D: Floats) -> Floats:
        return _unit(direction_D + np.float32(self.model.variation) * self.direction(rng))


def _dimensions(rng: np.random.Generator, stream: Stream, width: int) -> tuple[Floats, Floats]:
    """Normal locations and lognormal scales of a stream's dimensions: (D/2,) each."""
    z, other = rng.standard_normal((2, width))
    location = stream.location + np.sqrt(1 - VIDEO_SHARE - SIGNAL_SHARE) * stream.location_sd * z
    variance = np.log1p((stream.scale_sd / stream.scale) ** 2)
    mixed = stream.coupling * z + np.sqrt(1 - stream.coupling**2) * other
    scale = stream.scale * np.exp(np.sqrt(variance) * mixed - variance / 2)
    return location.astype(np.float32), scale.astype(np.float32)


def _unit(direction_D: Floats) -> Floats:
    size = np.sqrt((direction_D**2).mean())
    unit: Floats = direction_D / (size or 1)  # few dimensions may all be 0
    return unit


def coverage(bounds_I2: NDArray[np.floating], T: int) -> Floats:
    """Share of each snippet, from t to t + 1, within each pair of bounds: (I, T)."""
    t = np.arange(T)
    shared = np.minimum(bounds_I2[:, 1:], t + 1) - np.maximum(bounds_I2[:, :1], t)
    share: Floats = np.clip(shared, 0, 1).astype(np.float32)
    return share


def snippets(entry: dict[str, Any]) -> int:
    """T of a video."""
    return max(1, int(entry["duration"] * SNIPPETS))


@dataclass(frozen=True)
class Choice:
    """Options of a simulation.

    Attributes:
        seed: random seed.
        dims: D, both streams together.
        count: number of videos; default: all.
        half: store float16 instead of float32; default: the dataset's.
        model: the task; default: that of all published figures.
        durations: file of the videos' durations, as for `truth.read`.
    """

    seed: int = 0
    dims: int = 2048
    count: int | None = None
    half: bool | None = None
    model: Model = field(default_factory=Model)
    durations: Path | None = None


DEFAULT = Choice()


def simulate(
    dataset: str,
    source: Path,
    out: Path,
    choice: Choice = DEFAULT,
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Write a dataset folder with real annotations and simulated features; resume a killed run.

    Args:
        dataset: a name of `BENCHMARKS`.
        source: its public annotation file.
        out: the folder, new or of the same simulation.
        choice: seed, width, number of videos, precision and task.
        report: called with the id of every finished video.

    Raises:
        BadInput: an unknown dataset, another annotation file, or a folder with other content or in use.
    """
    about, dims = truth.benchmark(dataset), choice.dims
    if dims < 2 or dims % 2:
        raise BadInput("command line", f"--dims {dims}", "an even number above 0", "rgb and flow get half each")
    database = truth.read(dataset, source, choice.durations)
    labels = truth.classes(database)
    if choice.count is not None:
        database = truth.choose(database, choice.count)
    for name in database:
        check_name(source, f"{name}.npy")
    dtype = np.dtype(np.float16 if (about.half if choice.half is None else choice.half) else np.float32)
    with held(out, f"um simulate --dataset {dataset}"):
        _open(out, _stamp(about.title, database, choice, dtype))
        with _new(out / "annotations.json") as temporary:
            write_json(temporary, {"version": f"{about.title}; features are simulated", "database": database})
        world = World(choice.seed, dims, choice.model, labels)
        for name, entry in database.items():
            files = [out / "features" / entry["subset"] / stream / f"{name}.npy" for stream in STREAMS]
            if not all(file.exists() for file in files):
                for file, features_TD in zip(files, np.split(world.video(name, entry), 2, axis=1), strict=True):
                    with _new(file) as temporary:
                        store.write(temporary, features_TD, dtype)
            report(name)


def _stamp(title: str, database: truth.Database, choice: Choice, dtype: np.dtype[Any]) -> dict[str, Any]:
    """`spec.json`: everything that determines the features."""
    return {
        "simulated": True,
        "title": f"{title} (simulated)",
        "generator": GENERATOR,
        "window": WINDOW,
        "fps": FPS,
        "seed": choice.seed,
        "dims": choice.dims,
        "dtype": dtype.name,
        "annotations_sha256": hashlib.sha256(repr(sorted(database.items())).encode()).hexdigest(),
        "model": choice.model.model_dump(),
        "streams": {name: stream._asdict() for name, stream in STREAMS.items()},
    }


def _open(out: Path, spec: dict[str, Any]) -> None:
    """Create the folder and its spec.json, or resume in one with the same spec.json."""
    stamp = out / "features" / "spec.json"
    if stamp.is_file() and read_json(stamp) != spec:
        raise BadInput(out, "another simulation, or other features", "an empty folder", "delete it, or choose another")
    if not stamp.is_file() and any(not path.name.startswith(".um") for path in out.iterdir()):
        raise BadInput(out, "other files", "an empty folder or one of the same simulation", "choose another --out")
    for folder in (out / "features", *out.glob("features/*/*")):
        if folder.is_dir() and not folder.is_symlink():
            sweep(folder.glob(".um-*"))
    with _new(stamp) as temporary:
        write_json(temporary, spec)


@contextmanager
def _new(path: Path) -> Iterator[Path]:
    """Yield a temporary name for a file. Nothing is replaced: an existing file must be equal."""
    with atomic(path) as temporary:
        yield temporary
        if os.path.lexists(path) and not (path.is_file() and cmp(temporary, path, shallow=False)):
            raise NotOurs(path, "a file that `um simulate` did not write, or that changed since", "no file", AWAY)
