"""Times of the method's parts against the plain account of the official code's structure, in one run, as ratios.

python benchmarks/method.py FOLDER [--parts evaluation sampling training] [--threads N]
python benchmarks/method.py FOLDER --parts cost                   `ours` beside `official`
python benchmarks/method.py FOLDER --parts memory [--dataset activitynet1.3] [--variant official]

FOLDER is a dataset in any public layout with one file per video and stream; `make bench` takes simulated THUMOS14.
`memory` prints what a training with a preset's sizes needs.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from helpers import oracle  # with PYTHONPATH=tests, as `make bench` sets it

from um import params
from um.datasets import annotations
from um.datasets.folder import Folder
from um.datasets.subset import Subset, load_subset
from um.device import has_bf16
from um.evaluation.metrics import evaluate
from um.evaluation.submission import COLUMNS
from um.evaluation.thresholds import threshold_range
from um.method import checkpoint
from um.method.localize import curves
from um.method.loss import um_loss
from um.method.model import UM
from um.method.predict import predict, segments
from um.method.sampling import Batches
from um.params import Localize, Train
from um.training import Recipe, Training, fit, open_run, seed_everything

CPU = torch.device("cpu")
OFFICIAL = params.load().of("thumos14", "official")  # in which the plain account is written
SHORT = {"num_segments": 100, "iterations": 100, "eval_every": 100, "lr": 1e-3, "held_out": 0.0}
WARM_UP = OFFICIAL.train.model_copy(update=SHORT)  # enough for curves like a trained model's


class Convolved(UM):
    """The network with the convolution that it has in the official code."""

    def __init__(self, *sizes: Any) -> None:
        super().__init__(*sizes)
        self._convolve = lambda features_BTF: self.embed(features_BTF.transpose(1, 2)).transpose(1, 2)


def timed(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Seconds per call, and what the last call gave."""
    started = time.perf_counter()
    for _ in range(repeats):
        result = work()
    return (time.perf_counter() - started) / repeats, result


def evaluation(folder: Folder, _: argparse.Namespace) -> None:
    """Localisation and average precision, with and without the forward pass that both accounts share."""
    settings = OFFICIAL.model_copy(update={"train": WARM_UP})
    with tempfile.TemporaryDirectory() as scratch:
        fit(open_run(folder, Recipe(settings, 0)), Path(scratch), CPU)
        model, _ = checkpoint.read(Path(scratch) / "last.safetensors", settings.train)
    subset, chosen = load_subset(folder, "test"), settings.localize
    names, tious = np.array(folder.classes), threshold_range(settings.evaluate.tiou)
    spans = [folder.span(*each) for each in zip(subset.videos, map(int, subset.length_V), strict=True)]

    plain = Convolved(subset.packed_NF.shape[1], len(names), settings.train).eval()
    plain.load_state_dict(model.state_dict())

    def forward(network: UM) -> list:
        return [curves(network, subset.features(i), chosen) for i in range(len(subset.videos))]

    def ours() -> float:
        each = zip(subset.videos, found, spans, strict=True)
        rows = [segments(video.id, curve, span, folder.classes, chosen) for video, curve, span in each]
        return evaluate(subset.videos, pd.concat(rows, ignore_index=True), settings.evaluate)["average_mAP"]

    def theirs() -> float:
        rows = []
        for video, curve, span in zip(subset.videos, found, spans, strict=True):
            rows += [(video.id, names[c], *row) for c, *row in oracle.localize(*curve, span.seconds, chosen)]
        ap = oracle.average_precision(annotations.frame(subset.videos), pd.DataFrame(rows, columns=COLUMNS), tious)
        return float(np.mean(list(ap.values())))

    plain_forward_s, _ = timed(lambda: forward(plain))
    forward_s, found = timed(lambda: forward(model))
    ours_s, score = timed(ours, 3)
    theirs_s, plain_score = timed(theirs)
    made = " on SIMULATED features" if folder.simulated else ""
    print(f"average mAP{made} {score:.6f}, of the plain account {plain_score:.6f}")
    print(f"localisation and AP: {ours_s:.2f} s, plain {theirs_s:.2f} s: {theirs_s / ours_s:.1f} x")
    whole = (plain_forward_s + theirs_s) / (forward_s + ours_s)
    print(f"with the forward pass, {forward_s:.1f} s, plain {plain_forward_s:.1f} s: {whole:.1f} x")


def sampling(folder: Folder, _: argparse.Namespace) -> None:
    """Choosing 16 x 750 snippets and bringing them together, from memory and (plain) from files."""
    train, settings = load_subset(folder, "train"), OFFICIAL.train
    batches = Batches(train.length_V, settings.batch_size, settings.num_segments, 0)
    batch_NF = train.packed_NF.new_empty(settings.batch_size * settings.num_segments, train.packed_NF.shape[1])
    files = [[folder.files[stream][video.id].file for stream in folder.streams] for video in train.videos]
    rng = np.random.RandomState(0)
    train.batch(*batches.next(), batch_NF)  # the memory is there from now on
    ours, _ = timed(lambda: train.batch(*batches.next(), batch_NF), 12)
    drawing, _ = timed(batches.next, 12)
    plain, _ = timed(lambda: oracle.batch(files[: settings.batch_size], settings.num_segments, rng), 3)
    lengths = train.length_V[: settings.batch_size].tolist()
    drawn, _ = timed(lambda: [oracle.sample_random(n, settings.num_segments, rng) for n in lengths], 3)
    print(f"sampling: {1e3 * drawing:.2f} ms, plain {1e3 * drawn:.0f} ms: {drawn / drawing:.0f} x")
    print(f"sampling and batch: {1e3 * ours:.1f} ms, plain {1e3 * plain:.0f} ms: {plain / ours:.1f} x")


def training(folder: Folder, _: argparse.Namespace) -> None:
    """A step of the official size: the share of the network, and the gain of bf16."""
    train = load_subset(folder, "train")
    step_s, batch_s = _step(folder, train, OFFICIAL.train)
    print(f"training step, batch 16 x 750 x {train.packed_NF.shape[1]}: {step_s:.2f} s")
    print(f"share of the network: {100 * (1 - batch_s / step_s):.2f} %")
    bf16_s, _ = _step(folder, train, OFFICIAL.train.model_copy(update={"precision": "bf16"}))
    units = "with" if has_bf16(CPU) else "without"
    print(f"bf16, {units} units for it: {bf16_s:.2f} s: {step_s / bf16_s:.2f} x")


def _step(folder: Folder, train: Subset, settings: Train) -> tuple[float, float]:
    """Seconds of a training step, and of its sampling and batch alone."""
    seed_everything(0)
    model = UM(train.packed_NF.shape[1], len(folder.classes), settings)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    batches = Batches(train.length_V, settings.batch_size, settings.num_segments, 0)
    batch_NF = train.packed_NF.new_empty(settings.batch_size * settings.num_segments, train.packed_NF.shape[1])
    label_VC, spent = train.labels(folder.classes), 0.0

    def step() -> None:
        nonlocal spent
        started = time.perf_counter()
        video_B, snippet_BT = batches.next()
        features_BTF = train.batch(video_B, snippet_BT, batch_NF)
        spent = time.perf_counter() - started
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            output = model(features_BTF)
        loss = um_loss(output, label_VC[video_B], settings)
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()

    step()
    return timed(step, 2)[0], spent


def cost(folder: Folder, _: argparse.Namespace) -> None:
    """Time of `ours` relative to `official`: a training step of the official size, and inference on the test subset."""
    both = {name: params.load().of("thumos14", name) for name in ("official", params.OURS)}
    with tempfile.TemporaryDirectory() as scratch:
        runs = {name: open_run(folder, Recipe(settings)) for name, settings in both.items()}
        trainings = {name: Training(run, run.train, Path(scratch) / name, CPU) for name, run in runs.items()}
        steps = _alternately({name: training.step for name, training in trainings.items()})
        warm = open_run(folder, Recipe(OFFICIAL.model_copy(update={"train": WARM_UP})))
        fit(warm, Path(scratch) / "model", CPU)
        model, _ = checkpoint.read(Path(scratch) / "model/last.safetensors", WARM_UP)
    subset = load_subset(folder, "test")

    def infer(settings: Localize) -> Callable[[int], Any]:
        features = map(subset.features, range(len(subset.videos)))
        videos = [(v.id, each, folder.span(v, len(each))) for v, each in zip(subset.videos, features, strict=True)]
        return lambda _: predict(model, videos, folder.classes, settings)

    inference = _alternately({name: infer(settings.localize) for name, settings in both.items()})
    for what, (official_s, ours_s) in (("training step", steps), ("inference, test subset", inference)):
        print(f"{what}: ours {ours_s:.2f} s, official {official_s:.2f} s: {ours_s / official_s:.2f} x")


def _alternately(work: dict[str, Callable[[int], Any]], rounds: int = 4) -> list[float]:
    """Median seconds of each, called in turn; the first round warms up."""
    spent: dict[str, list[float]] = {name: [] for name in work}
    for number in range(1, rounds + 1):
        for name, one in work.items():
            spent[name].append(timed(lambda one=one, number=number: one(number))[0])
    return [median(seconds[1:]) for seconds in spent.values()]


def memory(folder: Folder, chosen: argparse.Namespace) -> None:
    """What the training subset takes, and the most that this process ever took, after steps of a preset's sizes."""
    preset = params.load().of(chosen.dataset, chosen.variant)
    short = {"iterations": 3, "eval_every": 3, "held_out": 0.0}  # a second training would take no more
    run = open_run(folder, Recipe(preset.model_copy(update={"train": preset.train.model_copy(update=short)}), 0))
    with tempfile.TemporaryDirectory() as scratch:
        fit(run, Path(scratch), CPU)
    features = run.train.packed_NF.nbytes
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    train = preset.train
    print(f"{len(run.train.videos)} videos, {train.resident}: features {features / 1e9:.2f} GB")
    sizes = f"{train.batch_size} x {train.num_segments} x {run.train.packed_NF.shape[1]}, D {train.embedding_dim}"
    print(f"3 steps of {sizes}: peak of the process {peak / 1e9:.2f} GB")


PARTS = {part.__name__: part for part in (evaluation, sampling, training, cost, memory)}


def main() -> None:
    """Run the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["evaluation", "sampling", "training"])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all cores")
    parser.add_argument("--dataset", default="activitynet1.3", help="memory: the preset of params.yaml")
    parser.add_argument("--variant", default=params.OURS, help="memory: of params.yaml")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(f"{chosen.folder}, {chosen.threads} of {os.cpu_count()} cores")
    folder = Folder(chosen.folder)
    print(f"{chosen.folder}: {'SIMULATED features' if folder.simulated else 'features'}")
    for part in chosen.parts:
        PARTS[part](folder, chosen)


if __name__ == "__main__":
    main()
