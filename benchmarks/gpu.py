"""The official THUMOS14 protocol on a GPU: 10,000 steps of 16 x 750 x 2048 with a look every 100; time and ceiling.

python benchmarks/gpu.py FOLDER [--precision fp32|bf16] [--iterations 10000]

FOLDER is a dataset in any public layout; simulated THUMOS14 has the official size.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import torch

from um import params
from um.datasets.folder import Folder
from um.training import Recipe, fit, open_run

DENSE_PEAK = {"H200": {"fp32": 67e12, "bf16": 989e12}, "H100": {"fp32": 67e12, "bf16": 989e12}}  # FLOP/s, data sheets


def main() -> None:
    """Train, and say how long it took, how busy the GPU was and how long its arithmetic alone would take."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--iterations", type=int, default=10_000)
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA device")
    preset = params.load().of("thumos14")
    settings = preset.train.model_copy(update={"precision": chosen.precision, "iterations": chosen.iterations})
    device, recipe = torch.device("cuda"), Recipe(preset.model_copy(update={"train": settings}), 0)
    run = open_run(Folder(chosen.folder), recipe)
    busy: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            busy.append(torch.cuda.utilization())  # needs nvidia-ml-py

    threading.Thread(target=watch, daemon=True).start()
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        fit(run, Path(out), device)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    done.set()
    F, D, C = run.train.packed_NF.shape[1], settings.embedding_dim, len(run.classes)
    snippets = settings.batch_size * settings.num_segments
    flop = 3 * 2 * snippets * D * (3 * F + C) * settings.iterations  # forward, and twice that backward
    name = torch.cuda.get_device_name()
    peak = next((peaks[chosen.precision] for model, peaks in DENSE_PEAK.items() if model in name), float("nan"))
    evaluations = settings.iterations // settings.eval_every
    print(f"{name}, {chosen.precision}: {settings.iterations} steps and {evaluations} checkpoints in {seconds:.0f} s")
    print(f"utilisation {sum(busy) / max(1, len(busy)):.0f} %")
    print(f"the arithmetic of the steps alone: {flop / peak:.0f} s at {peak / 1e12:.0f} TFLOP/s (data sheet)")


if __name__ == "__main__":
    main()
