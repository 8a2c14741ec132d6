"""Whether bf16 scores as fp32 does: average mAP over seeds, with features and trainings in either, and their times.

python benchmarks/precision.py FOLDER [--seeds 3] [--dim 256] [--iterations auto] [--work FOLDER]

FOLDER is a dataset in any public layout. With videos, as `um download` leaves them in data/NAME, their features are
extracted in both precisions. Otherwise its features are used, and noise of 2 % stands for an extraction in bf16, which
changes them by about 1 % (benchmarks/features.py --parts precision: 1 - cosine is half of its square). Settings are
those of params.yaml for the folder's name, if it has any. Runs everywhere: a processor without bf16 units rounds as
those with units do, and is slower; there, the scores count and the times do not.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch

from um import params
from um.dataset import INDEX, downloaded
from um.datasets.folder import Folder
from um.datasets.subset import load_subset
from um.device import choose_device, has_bf16
from um.features.backbones import sized
from um.features.checkpoints import weights_of
from um.features.extract import Machine, extract
from um.params import Settings
from um.test import test
from um.training import Recipe, fit, hardware, open_run

BOTH = ("fp32", "bf16")
NOISE = 0.02


def main() -> None:
    """Extract, train and score; print a line for each combination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each combination, at least 2")
    parser.add_argument("--dim", type=int, help="embedding_dim of the trainings")
    parser.add_argument("--iterations", type=int, help="of each training")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--work", type=Path, help="folder to keep features and models in; default: none are kept")
    chosen = parser.parse_args()
    device = choose_device(chosen.device)
    units = "with bf16 units" if has_bf16(device) else "without bf16 units: the times of bf16 tell nothing"
    print(f"{chosen.folder}, {hardware(device)} {units}, {torch.get_num_threads()} threads", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        work = chosen.work or Path(scratch)
        if (chosen.folder / INDEX).is_file():
            data = {name: _extracted(chosen.folder, work / name, name, chosen) for name in BOTH}
            # features of the training videos, of the test videos, arithmetic of the training
            cases = [("fp32", "fp32", "fp32"), ("fp32", "bf16", "fp32"), ("bf16", "bf16", "fp32"), ("bf16",) * 3]
        else:
            data = {"given": chosen.folder, "disturbed": _disturbed(chosen.folder, work / "disturbed")}
            cases = [("given", "given", "fp32"), ("given", "disturbed", "fp32"), ("given", "given", "bf16")]
        _compare(data, cases, work, chosen, device)


def _extracted(folder: Path, out: Path, precision: str, chosen: argparse.Namespace) -> Path:
    how = _settings(folder).features.model_copy(update={"precision": precision})
    started = time.perf_counter()
    extract(downloaded(folder), out / "features", how, weights_of(how), Machine(chosen.device))
    print(f"features in {precision}, crop {sized(how).crop}: {time.perf_counter() - started:.0f} s", flush=True)
    shutil.copyfile(folder / "annotations.json", out / "annotations.json")
    return out


def _disturbed(folder: Path, out: Path) -> Path:
    """The test features with noise of NOISE of each row's length."""
    rng, given = np.random.default_rng(0), Folder(folder)
    for stream in given.streams:
        subset = load_subset(Folder(folder, stream), "test")
        for i, video in enumerate(subset.videos):
            rows_TF = subset.features(i).numpy()
            noise_TF = rng.standard_normal(rows_TF.shape, dtype=np.float32)
            noise_TF *= NOISE * np.linalg.norm(rows_TF, axis=1, keepdims=True)
            noise_TF /= np.sqrt(rows_TF.shape[1])  # the expected length
            path = out / f"features/test/{stream}/{video.id}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, rows_TF + noise_TF)
    shutil.copyfile(given.annotations.path, out / "annotations.json")
    return out


def _settings(folder: Path) -> Settings:
    return params.load().of(folder.name)


def _compare(
    data: dict[str, Path],
    cases: list[tuple[str, ...]],
    work: Path,
    chosen: argparse.Namespace,
    device: torch.device,
) -> None:
    scores: list[list[float]] = []
    for trained, tested, precision in cases:
        preset, started, of_seeds = _settings(chosen.folder), time.perf_counter(), []
        given = {"embedding_dim": chosen.dim, "iterations": chosen.iterations, "eval_every": chosen.iterations}
        given = {name: value for name, value in given.items() if value} | {"precision": precision, "held_out": 0.0}
        settings = preset.model_copy(update={"train": preset.train.model_copy(update=given)})
        for seed in range(chosen.seeds):
            model = work / f"models-{trained}-{precision}/seed{seed}"
            if not (model / "last.safetensors").is_file():
                fit(open_run(Folder(data[trained]), Recipe(settings, seed)), model, device)
            out = work / f"results-{trained}-{tested}-{precision}/seed{seed}"
            metrics = test(data[tested], model / "last.safetensors", out, settings, device)
            of_seeds.append(100 * float(metrics["average_mAP"]))
        scores.append(of_seeds)
        took = time.perf_counter() - started
        line = f"features {trained}, at test {tested}, training {precision}"
        print(f"{line}: average mAP {fmean(of_seeds):.2f} ± {stdev(of_seeds):.2f}, {took:.0f} s", flush=True)
    noise = max(stdev(of_seeds) for of_seeds in scores)
    apart = max(abs(fmean(of_seeds) - fmean(scores[0])) for of_seeds in scores[1:])
    print(f"means up to {apart:.2f} from fp32's: {'within' if apart <= noise else 'MORE THAN'} the seeds' {noise:.2f}")


if __name__ == "__main__":
    main()
