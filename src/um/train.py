"""Training UM: one loop over resident features, resumable to the bit."""

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from um import checkpoint
from um.checkpoint import Header
from um.datasets.folder import Folder, Subset
from um.errors import BadInput
from um.evaluation.metrics import accuracy, evaluate
from um.files import atomic, make_folder, sweep
from um.loss import um_loss
from um.model import UM
from um.params import Settings
from um.predict import predict
from um.sampling import Batches

Report = Callable[[int, dict[str, float]], None]


def seed_everything(seed: int) -> None:
    """The one place that seeds generators and asks for deterministic kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (libraries draw from the global state)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


class Run(NamedTuple):
    """What a training run works on; equal runs give equal bytes."""

    classes: list[str]
    streams: list[str]
    snippet_seconds: float
    train: Subset
    test: Subset
    settings: Settings
    seed: int


def open_run(folder: Folder, settings: Settings, seed: int) -> Run:
    """Load both subsets of a folder."""
    train, test = folder.load("train"), folder.load("test")
    if train.packed_NF.shape[1] != test.packed_NF.shape[1]:
        widths = f"{train.packed_NF.shape[1]} and {test.packed_NF.shape[1]}"
        raise BadInput(folder.root, f"feature widths {widths} in train and test", "one width", "extract again")
    return Run(folder.classes, folder.streams, folder.snippet_seconds, train, test, settings, seed)


def fit(run: Run, out: Path, device: torch.device, report: Report = lambda *_: None) -> None:
    """Train and write `last.safetensors`, `best_on_test.safetensors` and `history.csv` to `out`.

    Every `eval_every` steps and at the end the test subset is scored and the whole state, the best model so far
    included, is saved to `state.pt`, from which a killed run goes on to identical bytes; it is removed at the end.

    Args:
        run: data and settings.
        out: folder of the model files.
        device: where features and model live.
        report: called with the step and its loss after every step.
    """
    make_folder(out)
    sweep(out.glob(".*"))
    settings = run.settings.train
    seed_everything(run.seed)
    train, test = run.train.to(device), run.test.to(device)
    label_VC = train.labels(run.classes).to(device)
    model = UM(
        train.packed_NF.shape[1],
        settings.embedding_dim,
        len(run.classes),
        settings.r_act,
        settings.r_bkg,
        settings.dropout,
    ).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    batches = Batches(train.length_V, settings.batch_size, settings.num_segments, run.seed)
    data = train.fingerprint()
    identity = repr((data, test.fingerprint(), run.settings.model_dump(), run.seed, device.type))
    history: list[dict[str, float]] = []
    best: dict[str, Any] = {}
    state_file = out / "state.pt"
    if state := _resumable(state_file, identity):
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        batches.load_state_dict(state["batches"])
        torch.set_rng_state(state["rng"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], device)
        history, best = state["history"], state["best"]

    def header(selection: str, iteration: int) -> Header:
        dumped = run.settings.model_dump()
        return Header(
            run.classes,
            run.streams,
            run.snippet_seconds,
            selection,
            iteration,
            run.seed,
            data,
            dumped["features"],
            dumped["train"],
            dumped["localize"],
        )

    first = int(history[-1]["iteration"]) + 1 if history else 1
    losses: list[list[float]] = []
    for iteration in range(first, settings.iterations + 1):
        model.train()
        video_B, snippet_BT = batches.next()
        rows_BT = (train.offset_V[video_B, None] + snippet_BT).to(device)
        output = model(train.packed_NF[rows_BT])
        loss = um_loss(output, label_VC[video_B.to(device)], settings.margin, settings.alpha, settings.beta)
        optimiser.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(torch.stack(loss).tolist())
        report(iteration, dict(zip(loss._fields, losses[-1], strict=True)))
        if iteration % settings.eval_every and iteration != settings.iterations:
            continue

        model.eval()
        means = dict(zip(loss._fields, np.mean(losses, axis=0).tolist(), strict=True))
        history.append({"iteration": iteration} | means | _look(model, test, run))
        losses = []
        if history[-1]["test_average_mAP"] > max((h["test_average_mAP"] for h in history[:-1]), default=-1.0):
            weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            best = {"iteration": iteration, "model": weights}
        with atomic(state_file) as temporary:
            saved = {
                "identity": identity,
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "batches": batches.state_dict(),
                "rng": torch.get_rng_state(),
                "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
                "history": history,
                "best": best,
            }
            torch.save(saved, temporary)
    checkpoint.write(out / "last.safetensors", model, header("last", settings.iterations))
    model.load_state_dict(best["model"])
    checkpoint.write(out / "best_on_test.safetensors", model, header("best_on_test", best["iteration"]))
    with atomic(out / "history.csv") as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)
    state_file.unlink(missing_ok=True)


def _look(model: UM, test: Subset, run: Run) -> dict[str, float]:
    """Score the test subset as it will be scored at the end."""
    videos = ((video.id, test.features(i)) for i, video in enumerate(test.videos))
    predictions, labels = predict(model, videos, run.classes, run.settings.localize, run.snippet_seconds)
    metrics = evaluate(test.videos, predictions, run.settings.evaluate)
    return {"test_accuracy": accuracy(test.videos, labels), "test_average_mAP": metrics["average_mAP"]}


def _resumable(path: Path, identity: str) -> dict[str, Any] | None:
    """The saved state of the same run, if there is one."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state if state["identity"] == identity else None
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, TypeError) as error:
        found = f"no state ({(str(error).splitlines() or [type(error).__name__])[0][:80]})"
        raise BadInput(path, found, "what a stopped run left", "delete it to begin anew") from None
