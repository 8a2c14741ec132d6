"""Training UM: one loop over resident features, resumable to the bit."""

import hashlib
import io
import logging
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from um.datasets.folder import Folder, untaught
from um.datasets.subset import Subset, load_subset
from um.errors import BadInput, some
from um.evaluation.metrics import accuracy, evaluate
from um.files import atomic, check_ours, held
from um.forms import check_file, check_fits
from um.method import checkpoint
from um.method.checkpoint import Header
from um.method.loss import Losses, check_classes, um_loss
from um.method.model import UM
from um.method.predict import predict
from um.method.sampling import Batches, evenly
from um.params import Settings

log = logging.getLogger(__name__)

Report = Callable[[int, dict[str, float]], None]
Look = Callable[[UM], tuple[float, dict[str, float]]]  # how good a model is, and what its line of the history says
History = list[dict[str, float]]


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
    simulated: bool = False

    def header(self, selection: str, iteration: int) -> Header:
        """What a model file says about itself."""
        of_settings = {name: getattr(self.settings, name) for name in ("features", "train", "localize")}
        of_model = {"selection": selection, "iteration": iteration, "seed": self.seed, "data": self.train.fingerprint}
        of_data = {name: getattr(self, name) for name in ("classes", "streams", "snippet_seconds", "simulated")}
        return Header.model_validate(of_data | of_model | of_settings)


def open_run(folder: Folder, settings: Settings, seed: int) -> Run:
    """Load both subsets of a folder; training videos of fewer than `min_snippets` are left out."""
    check_classes(folder.annotations.path, folder.classes)
    dtype = getattr(torch, settings.train.resident)
    train, test = load_subset(folder, "train", dtype), load_subset(folder, "test", dtype)
    if train.packed_NF.shape[1] != test.packed_NF.shape[1]:
        widths = f"{train.packed_NF.shape[1]} and {test.packed_NF.shape[1]}"
        raise BadInput(folder.root, f"feature widths {widths} in train and test", "one width", "extract again")
    long_V = train.length_V >= settings.train.min_snippets
    if not long_V.any():
        found = f"no training video of {settings.train.min_snippets} snippets or more"
        raise BadInput(folder.root, found, "at least one", "lower --min-snippets")
    train = train.where(long_V)
    if names := untaught(train.videos, test.population):
        tested = some(names, "class", "classes")
        log.warning("%s: no training video of %s that are tested, which cannot be learnt", folder.root, tested)
    if folder.simulated:
        log.warning("%s: these features are SIMULATED, and so is what is trained on them", folder.root)
    of_run = (train, test, settings, seed, folder.simulated)
    return Run(folder.classes, folder.streams, folder.snippet_seconds, *of_run)


STATE = b"um training state "  # and the sha256 of what follows
STATES = ("state.pt", "state_selected.pt")
MODELS = ("last.safetensors", "best_on_test.safetensors", "selected.safetensors")
LOSSES = ["iteration", *Losses._fields]
HISTORIES = {"history.csv": [*LOSSES, "test_accuracy", "test_average_mAP"], "selected.csv": [*LOSSES, "held_out_loss"]}


def fit(run: Run, out: Path, device: torch.device, report: Report = lambda *_: None) -> None:
    """Train; write `last.safetensors`, `best_on_test.safetensors` and `history.csv` to `out`.

    Every `eval_every` steps and at the end the model is looked at: it scores the test subset, and the whole state, the
    best model so far included, is saved, from which a killed run goes on to identical bytes.

    With `held_out`, a second training follows, on the training videos but for that share of them. It never sees the
    test subset: `selected.safetensors` is the look at which UM's loss on the held-out videos, which takes no more than
    their video-level labels, was lowest (`selected.csv`).

    Args:
        run: data and settings.
        out: folder of the model files.
        device: where features and model live.
        report: called after every step with the steps done and the mean losses up to the latest look.

    Raises:
        BadInput: another command is at work in `out`, files there are not this command's, the memory does not suffice,
            or the loss is no longer finite.
    """
    _check_memory(run, out)
    with held(out, "um train"):
        _check_ours(out)
        _fit(run, out, device, report)


def _check_ours(out: Path) -> None:
    """Refuse to replace what `um train` did not write."""
    beginnings = {out / name: ",".join(columns) + "\n" for name, columns in HISTORIES.items()}
    beginnings |= {out / name: STATE.decode() for name in STATES}
    for path, beginning in beginnings.items():
        check_ours(path, beginning)
    for path in (out / name for name in MODELS):
        if os.path.lexists(path) and not checkpoint.is_ours(path):
            expected, hint = "nothing, or a model as um train wrote it", "move it away, or choose another --out"
            raise BadInput(path, "another file, or a damaged one", expected, hint)


def _check_memory(run: Run, out: Path) -> None:
    """A training step holds a batch, its embedding with what backpropagation keeps of it, and Adam's moments."""
    settings, F = run.settings.train, run.train.packed_NF.shape[1]
    rows = min(settings.batch_size, len(run.train.videos)) * settings.num_segments
    step = 4 * rows * (2 * F + 3 * settings.embedding_dim + 2 * len(run.classes))
    weights = 4 * 4 * settings.embedding_dim * (3 * F + len(run.classes))
    hint = "lower --batch-size, --num-segments or --embedding-dim"
    check_fits(out, step + weights, "a training step", hint)


def _fit(run: Run, out: Path, device: torch.device, report: Report) -> None:
    train, test = run.train.to(device), run.test.to(device)
    state_file, second_state_file = out / "state.pt", out / "state_selected.pt"
    settings = run.settings
    label_VC = train.labels(run.classes)
    held_V = held_out(label_VC, settings.train.held_out, run.seed)
    if settings.train.held_out and not held_V.any():
        found = "no training video that its classes can spare"
        raise BadInput(out, found, "some to choose `selected` by", "add videos, or set held_out to 0")
    for stale in (out / "selected.safetensors", out / "selected.csv"):
        stale.unlink(missing_ok=True)

    def on_test(model: UM) -> tuple[float, dict[str, float]]:
        videos = ((video.id, test.features(i)) for i, video in enumerate(test.videos))
        predictions, labels = predict(model, videos, run.classes, settings.localize, run.snippet_seconds)
        score = evaluate(test.population, predictions, settings.evaluate)["average_mAP"]
        return score, {"test_accuracy": accuracy(test.population, labels), "test_average_mAP": score}

    model, best, history = _train(run, train, on_test, state_file, device, report)
    checkpoint.write(out / "last.safetensors", model, run.header("last", settings.train.iterations))
    model.load_state_dict(best["model"])
    checkpoint.write(out / "best_on_test.safetensors", model, run.header("best_on_test", best["iteration"]))
    _write_csv(out / "history.csv", history)

    if settings.train.held_out:
        held, label_HC = train.where(held_V), label_VC[held_V].to(device)

        def on_held_out(model: UM) -> tuple[float, dict[str, float]]:
            loss = loss_of(model, held, label_HC, settings.localize.max_segments)
            return -loss, {"held_out_loss": loss}

        def count_on(iteration: int, loss: dict[str, float]) -> None:
            report(settings.train.iterations + iteration, loss)

        model, best, history = _train(run, train.where(~held_V), on_held_out, second_state_file, device, count_on)
        model.load_state_dict(best["model"])
        checkpoint.write(out / "selected.safetensors", model, run.header("selected", best["iteration"]))
        _write_csv(out / "selected.csv", history)
    state_file.unlink(missing_ok=True)
    second_state_file.unlink(missing_ok=True)


def held_out(label_VC: Tensor, share: float, seed: int) -> Tensor:
    """Which training videos choose `selected`: a random share, but never the last video of a class.

    Args:
        label_VC: multi-hot video-level labels.
        share: of the V videos; more than 0 is at least one video, where that leaves every class a video.
        seed: of the run.

    Returns:
        (V,) bool.
    """
    left_C = label_VC.sum(dim=0)
    held_V = torch.zeros(len(label_VC), dtype=torch.bool)
    for video in torch.randperm(len(label_VC), generator=torch.Generator().manual_seed(seed)).tolist():
        if held_V.sum() >= (max(1, round(share * len(label_VC))) if share else 0):
            break
        if (left_C - label_VC[video])[label_VC[video] > 0].min() >= 1:
            held_V[video] = True
            left_C = left_C - label_VC[video]
    return held_V


@torch.inference_mode()
def loss_of(model: UM, subset: Subset, label_VC: Tensor, max_segments: int) -> float:
    """UM's mean loss over videos, in evaluation mode: without dropout, all snippets up to `max_segments`."""
    losses = []
    for i, label_C in enumerate(label_VC):
        features_TF = subset.features(i)
        sampled_BTF = features_TF[evenly(len(features_TF), max_segments).to(features_TF.device)][None]
        losses.append(um_loss(model(sampled_BTF), label_C[None], model.settings).total)
    return torch.stack(losses).double().mean().item()


def _train(
    run: Run, train: Subset, look: Look, state_file: Path, device: torch.device, report: Report
) -> tuple[UM, dict[str, Any], History]:
    """The one training loop: the model after the last step, the best look's weights and step, and all looks."""
    settings = run.settings.train
    seed_everything(run.seed)
    label_VC = train.labels(run.classes).to(device)
    model = UM(train.packed_NF.shape[1], len(run.classes), settings).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    batches = Batches(train.length_V, settings.batch_size, settings.num_segments, run.seed)
    data = (run.train.fingerprint, run.test.fingerprint)
    identity = repr((data, run.settings.model_dump(), run.seed, device.type))
    history: History = []
    best: dict[str, Any] = {"goodness": -np.inf}
    if state := _resumable(state_file, identity):
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        batches.load_state_dict(state["batches"])
        torch.set_rng_state(state["rng"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], device)
        history, best = state["history"], state["best"]

    first = int(history[-1]["iteration"]) + 1 if history else 1
    arithmetic = f"{torch.get_num_threads()} threads and PyTorch {torch.__version__}"
    if state and first <= settings.iterations and (before := state.get("arithmetic")) != arithmetic:
        same = "the bytes will be neither run's"  # sums of floats depend on their order
        log.warning("%s: goes on with %s after %s: %s", state_file, arithmetic, before, same)
    # One batch's place, used again and again: new memory would cost more than the copying.
    rows = min(settings.batch_size, len(train.videos)) * settings.num_segments
    batch_NF = train.packed_NF.new_empty(rows, train.packed_NF.shape[1])
    means: dict[str, float] = {}
    losses: list[Tensor] = []  # on the device: to read one is to wait for it
    for iteration in range(first, settings.iterations + 1):
        model.train()
        video_B, snippet_BT = batches.next()
        features_BTF = train.batch(video_B, snippet_BT, batch_NF)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            output = model(features_BTF.float())
        try:
            loss = um_loss(output, label_VC[video_B.to(device)], settings)
        except RuntimeError:  # PyTorch refuses NaN as a probability
            if output.action_score.isfinite().all() and output.background_score.isfinite().all():
                raise
            raise _diverged(state_file.parent, "outputs that are NaN or infinite", iteration) from None
        optimiser.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(torch.stack(loss).detach())
        report(iteration, means)
        if iteration % settings.eval_every and iteration != settings.iterations:
            continue

        model.eval()
        means = dict(zip(loss._fields, torch.stack(losses).double().mean(dim=0).tolist(), strict=True))
        losses = []
        if not np.isfinite(means["total"]):
            raise _diverged(state_file.parent, f"a loss that is {means['total']}", iteration)
        goodness, figures = look(model)
        history.append({"iteration": iteration} | means | figures)
        if goodness > best["goodness"]:
            weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            best = {"goodness": goodness, "iteration": iteration, "model": weights}
        saved = {
            "identity": identity,
            "arithmetic": arithmetic,
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "batches": batches.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "history": history,
            "best": best,
        }
        _save(state_file, saved)
    return model.eval(), best, history


def _diverged(out: Path, found: str, iteration: int) -> BadInput:
    hint = "lower --lr, or look at the range of the features: um features inspect"
    return BadInput(out, f"{found} by step {iteration}", "a training that converges", hint)


def _write_csv(path: Path, history: History) -> None:
    with atomic(path) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)


def _save(path: Path, state: dict[str, Any]) -> None:
    content = io.BytesIO()
    torch.save(state, content)
    digest = hashlib.sha256(content.getbuffer()).hexdigest()
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(STATE + digest.encode() + b"\n")
        file.write(content.getbuffer())


def _resumable(path: Path, identity: str) -> dict[str, Any] | None:
    """The saved state of the same run, if there is one."""
    if not path.exists():
        return None
    expected = "what a stopped run left"
    check_file(path, expected)
    head, _, content = path.read_bytes().partition(b"\n")
    if head != STATE + hashlib.sha256(content).hexdigest().encode():
        raise BadInput(path, "no state of a training, or a damaged one", expected, "move it away to begin anew")
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if state["identity"] != identity:
        log.warning("%s: of a stopped run with other data or settings, which is given up: this one begins anew", path)
        return None
    return state
