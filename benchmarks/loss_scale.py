"""Whether ActivityNet fails by the scale of the classification loss: official, official with C / 20, and ours.

python benchmarks/loss_scale.py FOLDER --dataset activitynet1.2 --out OUT [--arms official scaled] [--draw curves.svg]

FOLDER is a dataset in any public layout, for instance of `um simulate`. The three trainings differ in nothing but what
params.yaml says of the variants: batch size, learning rate, number of steps and `--embedding-dim` are the same for all.
What OUT already holds is not trained again. Prints a table of the evaluations; `--draw` writes their curves.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import torch

from um import params
from um.datasets.folder import Folder
from um.params import Settings, Train
from um.test import test
from um.training import Recipe, fit, open_run

ARMS = {"official": "official", "scaled": "official, loss times C / 20", "ours": "ours"}
COLUMNS = {"classification": "L_cls", "test_accuracy": "accuracy", "test_average_mAP": "average mAP"}


def settings(dataset: str, arm: str, common: dict[str, float]) -> Settings:
    """The settings of one arm."""
    values = params.load()
    ours, official = values.of(dataset), values.of(dataset, "official")
    chosen = ours if arm == "ours" else official
    scale = official.train.loss_scale if arm == "official" else ours.train.loss_scale
    train = chosen.train.model_dump() | common | {"loss_scale": scale, "held_out": 0.0}
    return chosen.model_copy(update={"train": Train(**train)})


def draw(histories: dict[str, pd.DataFrame], path: Path, about: str) -> None:
    """A curve per arm for the classification loss, the accuracy and the average mAP."""
    mpl.rcParams["svg.hashsalt"] = "um"
    figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    for axis, (column, title) in zip(axes, COLUMNS.items(), strict=True):
        for arm, history in histories.items():
            axis.plot(history["iteration"], history[column], marker="o", markersize=3, label=ARMS[arm])
        axis.set(title=title, xlabel="step", ylim=(0, None))
    axes[0].legend(fontsize="small")
    figure.suptitle(about)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Train what is missing, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draw", type=Path)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--evaluations", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--embedding-dim", type=int, help="default: that of params.yaml")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    common = {
        "batch_size": 16,
        "lr": chosen.lr,
        "iterations": chosen.iterations,
        "eval_every": chosen.iterations // chosen.evaluations,
    }
    if chosen.embedding_dim:
        common["embedding_dim"] = chosen.embedding_dim
    folder = Folder(chosen.folder, missing="drop")
    about = chosen.dataset + (", SIMULATED features" if folder.simulated else "")
    histories = {}
    for arm in chosen.arms:
        out, how = chosen.out / arm, settings(chosen.dataset, arm, common)
        if not (out / "checkpoints.csv").exists():
            fit(open_run(folder, Recipe(how, 0)), out, torch.device("cpu"))
            test(folder.root, out / "checkpoints", out, how, torch.device("cpu"))
        histories[arm] = pd.read_csv(out / "history.csv").merge(pd.read_csv(out / "checkpoints.csv"))
    print(f"{about}\n")
    print(f"| | step | {' | '.join(COLUMNS.values())} |\n|---|---|{'---|' * len(COLUMNS)}")
    for arm, table in histories.items():
        for row in table.to_dict("records"):
            figures = f"{row['classification']:.4f} | {100 * row['test_accuracy']:.1f} | "
            print(f"| {ARMS[arm]} | {row['iteration']:.0f} | {figures}{100 * row['test_average_mAP']:.2f} |")
    if chosen.draw:
        draw(histories, chosen.draw, about)


if __name__ == "__main__":
    main()
