"""A GPU in ten minutes: do its results agree with the CPU's and repeat to the bit, and how fast is it.

python benchmarks/gpu.py [--minutes 10] [--device cuda] [--weights FILE]
python benchmarks/gpu.py --device cpu --small      the same code with tiny sizes; its times tell nothing

Videos and features are made here. The checks come first, then extraction, then trainings of the THUMOS14 protocol
(10,000 steps of 16 x 750 x 2048, with checkpoints). Every part has a limit in time. A training that reaches it is
stopped, and its time for all steps computed from those it made; the table says so. Ends with 1 if a check fails.
"""

import argparse
import json
import os
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pandas as pd
import torch

from um import params, progress
from um.datasets.folder import Folder
from um.device import choose_device, has_bf16
from um.errors import BadInput
from um.features.backbones import build
from um.features.extract import Machine, _motion, _run, extract
from um.features.network import Network
from um.features.weights import WEIGHTS
from um.params import Features, Settings, Train
from um.test import test
from um.training import Recipe, fit, hardware, open_run
from um.video.decode import snippets

CPU = torch.device("cpu")
BOTH = ("fp32", "bf16")
TARGET_S = 180  # for the protocol, on an H200
PEAKS = {"fp32": 67e12, "bf16": 989e12}  # FLOP/s of an H100 or H200, data sheet, without sparsity
LIMITS = {"features": 1e-3, "cosine": 0.999, "flow": 0.1, "losses": 1e-3, "mAP": 1e-3}
TRAINING = {"fp32": 300, "bf16": 60}  # most seconds of ten minutes
EXTRACTION = 35  # likewise, of each stream and precision


class Sizes(NamedTuple):
    """How large everything is.

    Attributes:
        features: settings of the extraction.
        frames: length of a video, at 25 fps.
        videos: most videos of an extraction.
        train: changes of the preset's training.
        snippets: average length of a training video.
        width: of the features.
    """

    features: Features
    frames: int
    videos: int
    train: dict[str, Any]
    snippets: int
    width: int


FULL = Sizes(Features(precision="fp32"), 300, 2000, {}, 345, 2048)
SMALL = Sizes(
    Features(precision="fp32", window=8, short_side=36, crop=32, clips=2),
    frames=10,
    videos=2,
    train={"num_segments": 20, "embedding_dim": 32, "iterations": 30, "eval_every": 10, "batch_size": 4},
    snippets=20,
    width=64,
)


class Table:
    """Printed line by line, and again at the end as Markdown."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []
        self.failed = False

    def add(self, what: str, figure: str, note: str = "") -> None:
        """A measurement."""
        self.rows.append((what, figure, note))
        print(f"{what}: {figure}{f' ({note})' if note else ''}", flush=True)

    def check(self, what: str, right: bool, figure: str, wanted: str) -> None:
        """A check, which fails the benchmark."""
        self.failed |= not right
        self.add(what, figure, f"{'ok' if right else 'FAILED'}: {wanted}")

    def attempt(self, what: str, part: Callable[..., None], *arguments: Any) -> None:
        """Run a part; its error fails the benchmark, but not the other parts."""
        try:
            part(*arguments)
        except Exception as error:
            traceback.print_exc()
            self.check(what, False, type(error).__name__, (str(error).splitlines() or ["no message"])[0])

    def show(self) -> None:
        """All lines."""
        print("\n| | | |\n|---|---|---|")
        for row in self.rows:
            print(f"| {' | '.join(row)} |")


def main() -> None:
    """Check, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script itself")
    parser.add_argument("--minutes", type=float, default=10, help="for everything")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="of the rgb network; random if missing")
    chosen = parser.parse_args()
    started = time.perf_counter()
    try:
        device = choose_device(chosen.device)
    except BadInput as error:
        parser.error(str(error))
    sizes, table, progress.shown = SMALL if chosen.small else FULL, Table(), False
    share = chosen.minutes / 10
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        weights = {stream: _weights(chosen.weights, root, stream) for stream in ("rgb", "flow")}
        words = [hardware(device), f"PyTorch {torch.__version__}", f"{os.cpu_count()} cores"]
        words += ["with bf16" if has_bf16(device) else "WITHOUT bf16 units"]
        words += ["SMALL: times tell nothing"] * chosen.small
        words += ["random weights"] * (weights["rgb"] != chosen.weights)
        table.add("machine", ", ".join(words))
        video = _film(root / "film.mp4", sizes.frames)
        data = _dataset(root / "data", sizes)
        table.attempt("checks of extraction", check_extraction, video, weights, sizes, device, table, root)
        table.attempt("checks of training", check_training, data, sizes, device, table, root)
        table.attempt("checks of scores", check_scores, device, table, root)
        for stream, precision in (("rgb", "fp32"), ("rgb", "bf16"), ("flow", "fp32")):
            how = sizes.features.model_copy(update={"streams": stream, "precision": precision})
            what = f"extraction, {stream}, {precision}"
            table.attempt(what, extraction, what, video, weights[stream], how, sizes, device, table, share * EXTRACTION)
        for precision in reversed(BOTH):  # the last one takes what is left
            left = started + 60 * chosen.minutes - time.perf_counter()
            limit = min(left, share * TRAINING[precision])
            table.attempt(f"protocol, {precision}", protocol, data, precision, sizes, device, table, limit)
    table.add("the whole benchmark", f"{(time.perf_counter() - started) / 60:.1f} minutes")
    table.show()
    if table.failed:
        raise SystemExit("a check failed")


# ---- checks


def check_extraction(
    video: Path, weights: dict[str, Path], sizes: Sizes, device: torch.device, table: Table, root: Path
) -> None:
    """Features and flow on both devices; two extractions."""
    how = sizes.features
    frames = next(snippets(video, how.fps, how.window, how.short_side, after=1))
    clip = frames[None, : how.window, : how.crop, : how.crop]
    on_cpu = Network(how, weights["rgb"], "cpu")(clip)
    rows = {
        name: Network(how.model_copy(update={"precision": name}), weights["rgb"], str(device))(clip) for name in BOTH
    }
    apart = float(np.abs(rows["fp32"] - on_cpu).max() / np.abs(on_cpu).max())
    wanted = f"at most {LIMITS['features']:g} of the largest"
    table.check("features, against the CPU's", apart <= LIMITS["features"], f"{apart:.1e}", wanted)
    cosine = _cosine(rows["bf16"][0], rows["fp32"][0])
    wanted = f"at least {LIMITS['cosine']}"
    table.check("features in bf16, cosine with fp32", cosine >= LIMITS["cosine"], f"{cosine:.5f}", wanted)

    motion = [_motion(frames[:3], how, where).astype(float) for where in ("cpu", str(device))]
    pixels = float(np.abs(motion[0] - motion[1]).mean()) * 20 / 127.5
    wanted = f"at most {LIMITS['flow']} pixels on average"
    table.check("flow, against the CPU's", pixels <= LIMITS["flow"], f"{pixels:.4f}", wanted)

    twice = [root / "once", root / "again"]
    for out in twice:
        extract({"a": video, "b": video}, out, how, weights, Machine(str(device)))
    table.check("two extractions", _bytes(twice[0]) == _bytes(twice[1]), *_equal(_bytes(twice[0]), _bytes(twice[1])))


def check_training(data: Path, sizes: Sizes, device: torch.device, table: Table, root: Path) -> None:
    """Losses on both devices, without dropout; two trainings in each precision."""
    few = {"iterations": 4, "eval_every": 1}
    exact = _settings(sizes, "fp32", **few, dropout=0.0)
    for name, where in (("cpu", CPU), ("device", device)):
        fit(open_run(Folder(data), Recipe(exact)), root / name, where)
    cpu, here = (pd.read_csv(root / name / "history.csv")["total"] for name in ("cpu", "device"))
    apart = float((here / cpu - 1).abs().max())
    wanted = f"at most {LIMITS['losses']:g}, relative"
    table.check("losses of four steps, against the CPU's", apart <= LIMITS["losses"], f"{apart:.1e}", wanted)
    for precision in BOTH:
        settings = _settings(sizes, precision, iterations=30, eval_every=15)
        outs = [root / f"{precision}-{number}" for number in range(2)]
        for out in outs:
            fit(open_run(Folder(data), Recipe(settings)), out, device)
        first, second = map(_bytes, outs)
        table.check(f"two trainings in {precision}", first == second, *_equal(first, second))


def check_scores(device: torch.device, table: Table, root: Path) -> None:
    """One checkpoint, localised on both devices."""
    data = _dataset(root / "easy", SMALL)
    small = Train(**SMALL.train | {"iterations": 60, "eval_every": 60}, lr=0.01, precision="fp32")
    settings = Settings(train=small)
    fit(open_run(Folder(data), Recipe(settings)), root / "model", CPU)
    model = root / "model/last.safetensors"
    cpu, here = (
        test(data, model, root / f"results-{number}", settings, where)["average_mAP"]
        for number, where in enumerate((CPU, device))
    )
    right = cpu > 0.1 and abs(here - cpu) <= LIMITS["mAP"]
    wanted = f"at most {100 * LIMITS['mAP']:.1f} from {100 * cpu:.2f}, which is above 10"
    table.check("average mAP, against the CPU's", right, f"{100 * here:.2f}", wanted)


def _equal(first: dict[str, bytes], second: dict[str, bytes]) -> tuple[str, str]:
    other = [name for name in first.keys() | second.keys() if first.get(name) != second.get(name)]
    return f"{len(other)} of {len(first)} files differ", "equal bytes"


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# ---- speed


def extraction(
    what: str,
    video: Path,
    weights: Path,
    how: Features,
    sizes: Sizes,
    device: torch.device,
    table: Table,
    limit: float,
) -> None:
    """Snippets per second of the same way as `um extract`, from video files to rows."""
    stream = how.streams
    torch.use_deterministic_algorithms(False)  # as in `um extract`; training has turned it on
    networks = {stream: Network(how, weights, str(device), stream)}
    count, started = 0, 0.0
    with _watched(device) as busy:
        for _, rows in _run({f"{i}": (video, "") for i in range(sizes.videos)}, how, networks, 0):
            now = time.perf_counter()
            if not isinstance(rows, dict):
                raise rows
            if not started:  # the first chooses kernels
                started = now
                continue
            count += len(rows[stream])
            if now - started > limit:
                break
        seconds = time.perf_counter() - started
    note = f"{how.clips} per batch, crop {how.crop}, {count} in {seconds:.0f} s"
    table.add(what, f"{count / seconds:.1f} snippets/s{_used(busy)}", note)


class Enough(Exception):
    """The time of a part is over."""


def protocol(data: Path, precision: str, sizes: Sizes, device: torch.device, table: Table, limit: float) -> None:
    """All steps of THUMOS14's preset, without its second training of `selected`, as `um train` makes them."""
    settings = _settings(sizes, precision)
    train, warm_up = settings.train, 10
    run = open_run(Folder(data), Recipe(settings))
    began = started = time.perf_counter()
    done = 0

    def report(iteration: int, _: dict[str, float]) -> None:
        nonlocal done, began
        done = iteration
        if iteration == warm_up or iteration % 50 == 0:
            _wait(device)
        if iteration == warm_up:
            began = time.perf_counter()
        if time.perf_counter() - started > limit and iteration > warm_up:
            _wait(device)
            raise Enough

    with tempfile.TemporaryDirectory() as out, _watched(device) as busy:
        try:
            fit(run, Path(out), device, report)
            _wait(device)
        except Enough:
            pass
        ended = time.perf_counter()
    whole = done == train.iterations
    seconds = ended - started if whole else (ended - began) / (done - warm_up) * train.iterations
    T, F, D, C = train.num_segments, run.train.packed_NF.shape[1], train.embedding_dim, len(run.classes)
    flop = 3 * 2 * train.batch_size * T * D * (3 * F + C) * train.iterations  # forward, and twice that backward
    note = "measured" if whole else f"COMPUTED from {done} steps in {ended - started:.0f} s"
    note += f"; target {TARGET_S} s on an H200, whose arithmetic alone takes {flop / PEAKS[precision]:.0f} s"
    what = f"{train.iterations} steps of {train.batch_size} x {T} x {F}, {precision}"
    table.add(what, f"{seconds:.0f} s{_used(busy)}", note)


def _settings(sizes: Sizes, precision: str, **changed: Any) -> Settings:
    preset = params.load().of("thumos14")
    update = {**sizes.train, "held_out": 0.0, "precision": precision, **changed}
    return preset.model_copy(update={"train": preset.train.model_copy(update=update)})


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _watched(device: torch.device) -> Iterator[list[int]]:
    """Utilisations of a GPU in percent, about one a second, from nvidia-smi; empty for a CPU."""
    busy: list[int] = []
    done = threading.Event()
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id"]

    def watch() -> None:
        name = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        while not done.wait(1.0):
            answer = subprocess.run([*command, name], capture_output=True, text=True)
            if answer.returncode or not answer.stdout.strip().isdecimal():
                print(f"nvidia-smi: {(answer.stdout + answer.stderr).strip()}", flush=True)
                return
            busy.append(int(answer.stdout))

    thread = threading.Thread(target=watch, daemon=True)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        thread.start()
    try:
        yield busy
    finally:
        done.set()


def _used(busy: list[int]) -> str:
    if not torch.cuda.is_available():
        return ""
    memory = torch.cuda.max_memory_allocated() / 1e9
    return f", GPU {sum(busy) / len(busy):.0f} % busy, {memory:.1f} GB" if busy else f", {memory:.1f} GB"


# ---- data


def _weights(given: Path, root: Path, stream: str) -> Path:
    """The given weights, for rgb; else random ones, as fast."""
    if stream == "rgb" and given.is_file():
        return given
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = root / f"{stream}.safetensors"
    save_file(build("i3d-inception", None, stream).state_dict(), path)
    return path


def _film(path: Path, frames: int) -> Path:
    """A textured picture that moves, 340 x 256 at 25 fps, in H.264."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    picture = np.kron(coarse, np.ones((16, 16, 1), np.uint8)) // 2 + rng.integers(0, 99, (640, 800, 3), dtype=np.uint8)
    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
        for i in range(frames):
            x, y = 3 * i % 400, 2 * i % 300
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[y : y + 256, x : x + 340]), "rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def _dataset(root: Path, sizes: Sizes) -> Path:
    """Random features with shifted snippets where an action is, as many as THUMOS14's for full sizes."""
    rng = np.random.default_rng(0)
    train, test_videos, classes, seconds = (200, 20, 20, 0.64) if sizes is FULL else (12, 6, 3, 0.64)
    database: dict[str, Any] = {}
    for number in range(train + test_videos):
        subset, name = ("train" if number < train else "test"), f"video_{number:03d}"
        length, label = max(12, int(sizes.snippets * rng.uniform(0.3, 1.7))), number % classes
        start = int(rng.integers(0, length // 2))
        end = start + length // 4 + 1
        rows = rng.standard_normal((length, sizes.width), dtype=np.float32) * np.float32(0.3)
        rows[start:end, label] += 2
        path = root / f"features/{subset}/rgb/{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, rows)
        instance = {"label": f"class {label:02d}", "segment": [seconds * start, seconds * end]}
        database[name] = {"subset": subset, "duration": seconds * length, "annotations": [instance]}
    (root / "annotations.json").write_text(json.dumps({"database": database}))
    return root


if __name__ == "__main__":
    main()
