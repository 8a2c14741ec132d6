"""Training UM: one loop over features in memory; bit-exactly resumable."""

import copy
import hashlib
import io
import logging
import os
import platform
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from um.datasets import store
from um.datasets.folder import Folder, untaught
from um.datasets.subset import Subset, load_subset
from um.device import choose_precision, send
from um.errors import BadInput, some
from um.files import atomic, check_ours, held, sha256, sweep, write_json
from um.forms import Pace, Spec, check_file, check_fits
from um.live import tensorboard
from um.method import checkpoint, sizes
from um.method.checkpoint import Header, Selection
from um.method.loss import check_classes, imbalance
from um.method.methods import METHODS
from um.method.model import Network
from um.method.sampling import Batches
from um.params import OURS, Features, Settings, Train
from um.progress import progress

log = logging.getLogger(__name__)

Report = Callable[[int, dict[str, float]], None]
Evaluation = Callable[[Network, int], dict[str, float]]  # model, iteration → columns of the history
History = list[dict[str, float]]


def seed_everything(seed: int) -> None:
    """Seed all generators and request deterministic kernels."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # before cuBLAS starts; other values may not be deterministic
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (libraries draw from the global state)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


AS_PUBLISHED = ("official", "paper", "seed")  # variants that reproduce published code or text


class Recipe(NamedTuple):
    """The configuration of a training.

    Attributes:
        settings: of all stages.
        seed: random seed.
        dataset: name in params.yaml, if the settings come from there.
        variant: of params.yaml.
        clock: of the features, if given by options.
    """

    settings: Settings
    seed: int = 0
    dataset: str | None = None
    variant: str = OURS
    clock: Spec | None = None


def train(recipe: Recipe, data: Path, out: Path, device: torch.device, live: Path | None = None) -> None:
    """Train on a folder in any public layout, with a progress bar; `fit` lists the outputs.

    Args:
        recipe: settings, seed and names.
        data: folder.
        out: folder of the model files.
        device: of features and model.
        live: folder for TensorBoard, if any.

    Raises:
        BadInput: unusable data or settings.
    """
    settings = recipe.settings
    folder = Folder(data, settings.train.streams, settings.evaluate.missing, clock=recipe.clock)
    run = open_run(folder, recipe)
    if line := sizes.told(settings.train, run.settings, run.train.length_V):
        log.info(line)
    if recipe.variant not in AS_PUBLISHED and (warning := imbalance(settings.train, len(run.classes))):
        log.warning(warning)
    each = run.settings.iterations
    told: dict[str, float] = {}
    total = each * (2 if run.settings.held_out else 1)
    with progress(f"seed {recipe.seed}", total) as step, tensorboard(live, out) as follow:

        def report(done: int, means: dict[str, float]) -> None:
            nonlocal told
            step(f"loss {means['total']:.3f}" if means else "", done)
            if means and means is not told:
                told = means
                follow(*(("last", done) if done <= each else ("selected", done - each)), means)

        fit(run, out, device, report)


def hardware(device: torch.device) -> str:
    """What the numbers depend on: the GPU's name, or the processor's architecture (`x86_64 CPU`)."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"


class Run(NamedTuple):
    """The data and configuration of a training; equal runs give equal bytes."""

    classes: list[str]
    streams: list[str]
    pace: Pace
    train: Subset
    recipe: Recipe
    simulated: bool = False

    @property
    def settings(self) -> Train:
        """The `train` section."""
        return self.recipe.settings.train

    def header(self, selection: Selection, iteration: int, device: torch.device) -> Header:
        """The header of a model file."""
        return Header(
            classes=self.classes,
            streams=self.streams,  # type: ignore[arg-type]
            snippet_seconds=self.pace.step,
            snippet_start=self.pace.start,
            selection=selection,
            iteration=iteration,
            seed=self.recipe.seed,
            data=self.train.fingerprint,
            dataset=self.recipe.dataset,
            variant=self.recipe.variant,
            features=self.recipe.settings.features,
            train=self.settings,
            simulated=self.simulated,
            hardware=hardware(device),
        )


def open_run(folder: Folder, recipe: Recipe) -> Run:
    """Load a folder's training videos of at least `min_snippets`, and resolve the sizes that are `auto`."""
    settings = recipe.settings.train
    check_classes(folder.annotations.path, folder.classes)
    train = load_subset(folder, "train", getattr(torch, settings.resident))
    long_V = train.length_V >= settings.min_snippets
    if not long_V.any():
        found = f"no training video of {settings.min_snippets} snippets or more"
        raise BadInput(folder.root, found, "at least one", "lower --min-snippets")
    train = train.where(long_V)
    if names := untaught(train.videos, folder.listed("test")):
        tested = some(names, "class", "classes")
        log.warning("%s: no training video for %s of the test videos, which cannot be learnt", folder.root, tested)
    if folder.simulated:
        log.warning("%s: the features are SIMULATED: the model learns from simulated data", folder.root)
    numbers = sizes.resolved(settings, train.length_V, len(folder.classes))
    features = _as_made(recipe.settings.features, folder)
    return Run(
        classes=folder.classes,
        streams=folder.streams,
        pace=folder.pace,
        train=train,
        recipe=recipe._replace(settings=recipe.settings.model_copy(update={"train": numbers, "features": features})),
        simulated=folder.simulated,
    )


def _as_made(settings: Features, folder: Folder) -> Features:
    """The settings with the precision in the features' spec.json; without one, `auto` is fp32."""
    stated = {str(store.made(spec.parent).get("precision")) for spec in folder.specs}
    used = stated.pop() if stated in ({"fp32"}, {"bf16"}) else settings.precision
    return settings.model_copy(update={"precision": "fp32" if used == "auto" else used})


STATE = b"um training state "  # followed by the sha256 of the rest of the file
STATES = ("state.pt", "state_selected.pt")
MODELS = ("last.safetensors", "selected.safetensors")
HISTORIES = dict.fromkeys(("history.csv", "selected.csv"), "iteration,total,classification,")


def fit(run: Run, out: Path, device: torch.device, report: Report = lambda *_: None) -> None:
    """Train; write `last.safetensors`, `history.csv` (losses) and the checkpoints of all evaluations to `out`.

    Every `eval_every` steps and at the end, a checkpoint of the model and the whole training state are saved; a killed
    run resumes from that state to identical bytes. `um test` scores the checkpoints: training never sees the test
    subset.

    With `held_out`, a second model is trained without that share of the training videos. `selected.safetensors` is its
    checkpoint with the lowest UM loss on the held-out videos, computed from their video-level labels alone;
    `selected.csv` lists these losses.

    Args:
        run: data and settings.
        out: folder of the model files.
        device: of features and model.
        report: called after every step with the number of steps and the mean losses at the latest evaluation.

    Raises:
        BadInput: another command is using `out`, it holds files of other origin, memory is too small, or the loss is
            no longer finite.
    """
    _check_memory(run, out)
    with held(out, "um train"):
        _check_ours(out)
        run = _with_precision(run, out, device)
        sweep((out / checkpoint.FOLDER).glob(".um-*"))  # of a run that was killed
        label_VC = run.train.labels(run.classes)
        held_V = held_out(label_VC, run.settings.held_out, run.recipe.seed)
        if run.settings.held_out and not held_V.any():
            found = "no training video to hold out: each is the only one of a class"
            raise BadInput(out, found, "held-out videos for `selected`", "add videos, or set held_out to 0")
        for stale in (out / "selected.safetensors", out / "selected.csv", out / checkpoint.INDEX):
            stale.unlink(missing_ok=True)
        _fit_last(run, out, device, report)
        if run.settings.held_out:
            _fit_selected(run, held_V, out, device, report)
        for name in STATES:
            (out / name).unlink(missing_ok=True)


def _with_precision(run: Run, out: Path, device: torch.device) -> Run:
    """The run with a value for a precision of `auto`: that of a stopped run in `out`, or else the faster one."""
    if run.settings.precision != "auto":
        return run
    used = choose_precision("auto", device)
    stopped = checkpoint.files(out)[-1:] if (out / STATES[0]).is_file() else []
    for header in map(checkpoint.header, stopped):
        if header.hardware == hardware(device) and header.train.precision != used:
            used = header.train.precision
            log.warning("%s: continues in %s, as started, though it is slower here", out, used)
    if used == "bf16":
        log.info("trains in bf16, on %s", hardware(device))
    settings = run.recipe.settings
    train = settings.train.model_copy(update={"precision": used})
    return run._replace(recipe=run.recipe._replace(settings=settings.model_copy(update={"train": train})))


def _check_ours(out: Path) -> None:
    """Refuse to replace files that `um train` did not write."""
    beginnings = {out / name: beginning for name, beginning in HISTORIES.items()}
    beginnings |= {out / name: STATE.decode() for name in STATES}
    for path, beginning in {**beginnings, out / checkpoint.INDEX: checkpoint.BEGINNING}.items():
        check_ours(path, beginning)
    for path in (*(out / name for name in MODELS), *checkpoint.files(out)):
        if os.path.lexists(path) and not checkpoint.is_ours(path):
            expected, hint = "nothing, or an intact model of um train", "move it away, or choose another --out"
            raise BadInput(path, "another file, or a damaged one", expected, hint)


def _check_memory(run: Run, out: Path) -> None:
    """Memory of a training step: a batch, its embedding with the tensors kept for backpropagation, Adam's moments."""
    settings, F = run.settings, run.train.packed_NF.shape[1]
    rows = min(settings.batch_size, len(run.train.videos)) * settings.num_segments
    step = 4 * rows * (2 * F + 3 * settings.embedding_dim + 2 * len(run.classes))
    weights = 4 * 4 * settings.embedding_dim * (3 * F + len(run.classes))
    hint = "lower --batch-size, --num-segments or --embedding-dim"
    check_fits(out, step + weights, "a training step", hint)


def _fit_last(run: Run, out: Path, device: torch.device, report: Report) -> None:
    """Train on all training videos: `last.safetensors`, `history.csv` and `checkpoints/`."""

    def keep(model: Network, iteration: int) -> dict[str, float]:
        path = checkpoint.file(out, iteration)
        checkpoint.write(path, model, run.header("checkpoint", iteration, device))
        training.kept[path.name] = sha256(path)
        return {}

    def complete(kept: dict[str, str]) -> bool:
        paths = {name: out / checkpoint.FOLDER / name for name in kept}
        return all(path.is_file() and sha256(path) == kept[name] for name, path in paths.items())

    training = Training(run, run.train.to(device), out / "state.pt", device)
    training.resume(complete)
    for path in checkpoint.files(out):
        if path.name not in training.kept:
            path.unlink()
    model = training.loop(keep, report)
    checkpoint.write(out / "last.safetensors", model, run.header("last", run.settings.iterations, device))
    _write_csv(out / "history.csv", training.history)
    files = {name: {"sha256": digest} for name, digest in training.kept.items()}
    write_json(out / checkpoint.INDEX, {"files": files})  # last: it marks the others as complete


def _fit_selected(run: Run, held_V: Tensor, out: Path, device: torch.device, report: Report) -> None:
    """Train without the held-out videos: `selected.safetensors`, chosen by the loss on them, and `selected.csv`."""
    spared = run.train.where(held_V).to(device)
    label_HC = spared.labels(run.classes).to(device)

    def keep_best(model: Network, iteration: int) -> dict[str, float]:
        loss = loss_of(model, spared, label_HC)
        if loss < training.kept.get("loss", np.inf):
            weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            training.kept.update(loss=loss, iteration=iteration, model=weights)
        return {"held_out_loss": loss}

    training = Training(run, run.train.where(~held_V).to(device), out / "state_selected.pt", device)
    training.resume()
    model = training.loop(keep_best, lambda n, loss: report(run.settings.iterations + n, loss))
    model.load_state_dict(training.kept["model"])
    checkpoint.write(out / "selected.safetensors", model, run.header("selected", training.kept["iteration"], device))
    _write_csv(out / "selected.csv", training.history)


def held_out(label_VC: Tensor, share: float, seed: int) -> Tensor:
    """Which training videos are held out to choose `selected`: a random share, never the last video of a class.

    Args:
        label_VC: multi-hot video-level labels.
        share: of the V videos; above 0, at least one video if every class keeps one.
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
def loss_of(model: Network, subset: Subset, label_VC: Tensor) -> float:
    """The mean loss over videos, without dropout, on all snippets."""
    loss = METHODS[model.settings.method].loss
    losses = [
        loss(model(subset.features(i)[None]), label_C[None], model.settings).total for i, label_C in enumerate(label_VC)
    ]
    return torch.stack(losses).double().mean().item()


class Training:
    """The state of one training: model, optimiser, batches, history, and results kept by its evaluations.

    Args:
        run: data and settings.
        train: training videos, on the device.
        state_file: saved at every evaluation.
        device: of the model.
    """

    def __init__(self, run: Run, train: Subset, state_file: Path, device: torch.device) -> None:
        seed_everything(run.recipe.seed)
        self.train, self.settings, self.state_file, self.device = train, run.settings, state_file, device
        self.label_VC = train.labels(run.classes).to(device)
        self.method = METHODS[self.settings.method]
        self.model = self.method.network(train.packed_NF.shape[1], len(run.classes), self.settings).to(device)
        self.optimiser = torch.optim.Adam(
            self.model.parameters(), lr=self.settings.lr, weight_decay=self.settings.weight_decay
        )
        self.average = copy.deepcopy(self.model).eval() if self.settings.ema else None
        self.batches = Batches(train.length_V, self.settings.batch_size, self.settings.num_segments, run.recipe.seed)
        self.identity = repr((2, run.train.fingerprint, run.header("last", 0, device).model_dump()))
        self.history: History = []
        self.kept: dict[str, Any] = {}
        # Reused for every batch: allocating costs more than copying.
        rows = min(self.settings.batch_size, len(train.videos)) * self.settings.num_segments
        self.batch_NF = train.packed_NF.new_empty(rows, train.packed_NF.shape[1])

    def loop(self, evaluate: Evaluation, report: Report) -> Network:
        """Train from the current state to the last iteration; return the model in evaluation mode.

        Args:
            evaluate: called every `eval_every` steps and at the end; its result is added to the history.
            report: called after every step, and after its evaluation.
        """
        means: dict[str, float] = {}
        losses: list[Tensor] = []  # on the device: reading one would wait for it
        done = int(self.history[-1]["iteration"]) if self.history else 0
        for iteration in range(done + 1, self.settings.iterations + 1):
            losses.append(self.step(iteration))
            if iteration % self.settings.eval_every == 0 or iteration == self.settings.iterations:
                means = dict(zip(self.method.scalars, torch.stack(losses).double().mean(dim=0).tolist(), strict=True))
                losses = []
                if not np.isfinite(means["total"]):
                    raise self.diverged(f"a loss that is {means['total']}", iteration)
                figures = evaluate(self.outcome, iteration)
                self.history.append({"iteration": iteration} | means | figures)
                self.save()
            report(iteration, means)
        return self.outcome

    @property
    def outcome(self) -> Network:
        """The model that the training has reached, in evaluation mode: the average of the weights, if any."""
        return self.average or self.model.eval()

    def step(self, iteration: int) -> Tensor:
        """One optimiser step; returns the values of the losses, on the device."""
        self.model.train()
        video_B, snippet_BT = self.batches.next()
        features_BTF = self.train.batch(video_B, snippet_BT, self.batch_NF)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            output = self.model(features_BTF.float())
        try:
            loss = self.method.loss(output, self.label_VC[send(video_B, self.device)], self.settings)
        except RuntimeError:  # PyTorch refuses NaN as a probability
            if all(value.isfinite().all() for value in output):
                raise
            raise self.diverged("outputs that are NaN or infinite", iteration) from None
        self.optimiser.zero_grad()
        loss.total.backward()
        self.optimiser.step()
        if self.average:  # PyTorch's AveragedModel would wait for the GPU in every step
            share = 1 - self.settings.ema if iteration > 1 else 1.0
            with torch.no_grad():
                for averaged, latest in zip(self.average.parameters(), self.model.parameters(), strict=True):
                    averaged.lerp_(latest, share)
        return torch.stack(loss).detach()

    def diverged(self, found: str, iteration: int) -> BadInput:
        """The error of a training with NaN or infinite values."""
        hint = "lower --lr, or check the range of the features with `um features inspect`"
        return BadInput(self.state_file.parent, f"{found} by step {iteration}", "a training that converges", hint)

    def save(self) -> None:
        """Write the whole state, with its sha256."""
        content = io.BytesIO()
        torch.save(
            {
                "identity": self.identity,
                "arithmetic": _arithmetic(),
                "model": self.model.state_dict(),
                "average": self.average.state_dict() if self.average else None,
                "optimiser": self.optimiser.state_dict(),
                "batches": self.batches.state_dict(),
                "rng": torch.get_rng_state(),
                "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
                "history": self.history,
                "kept": self.kept,
            },
            content,
        )
        digest = hashlib.sha256(content.getbuffer()).hexdigest()
        with atomic(self.state_file) as temporary, temporary.open("wb") as file:
            file.write(STATE + digest.encode() + b"\n")
            file.write(content.getbuffer())

    def resume(self, complete: Callable[[dict[str, Any]], bool] = lambda _: True) -> None:
        """Restore the saved state, if it exists and belongs to the same run.

        Args:
            complete: whether the files kept by its evaluations still exist.

        Raises:
            BadInput: not a training state, or a damaged one.
        """
        if not self.state_file.exists():
            return
        expected = "the saved state of a stopped run"
        check_file(self.state_file, expected)
        head, _, content = self.state_file.read_bytes().partition(b"\n")
        if head != STATE + hashlib.sha256(content).hexdigest().encode():
            found = "another file, or a damaged state"
            raise BadInput(self.state_file, found, expected, "move it away to start over")
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if state["identity"] != self.identity:
            log.warning("%s: from a run with other data or settings; this run starts over", self.state_file)
            return
        if not complete(state["kept"]):
            log.warning("%s: the checkpoints of the stopped run are gone; this run starts over", self.state_file)
            return
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.batches.load_state_dict(state["batches"])
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)
        self.history, self.kept = state["history"], state["kept"]
        unfinished = self.history[-1]["iteration"] < self.settings.iterations
        if unfinished and state["arithmetic"] != _arithmetic():
            now, before = _arithmetic(), state["arithmetic"]  # the order of float sums depends on them
            log.warning("%s: resumes with %s, started with %s: bytes will differ", self.state_file, now, before)


def _arithmetic() -> str:
    return f"{torch.get_num_threads()} threads and PyTorch {torch.__version__}"


def _write_csv(path: Path, history: History) -> None:
    with atomic(path) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)
