"""Training: the same bytes from the same run, however often it is killed."""

import hashlib
import io
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.forking import launchers
from helpers.tiny import make_dataset
from hypothesis import given
from hypothesis import strategies as st

from um.datasets.folder import Folder
from um.device import choose_device
from um.errors import BadInput
from um.method import checkpoint
from um.params import Evaluate, Settings, Train
from um.test import test as score
from um.training import STATE, Recipe, Run, fit, held_out, open_run
from um.training import train as run_train

CPU = torch.device("cpu")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
# A network wide enough for a run of some seconds, which leaves room to be killed in.
VALUES = {"num_segments": 20, "embedding_dim": 32, "iterations": 60, "eval_every": 4, "batch_size": 4, "lr": 0.01}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Equal bytes need equal numbers of threads, and these networks are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(**changed) -> Settings:
    return Settings(train=Train(**VALUES | changed))


def checkpoints(iterations: int, every: int = 4) -> list[str]:
    numbers = [n for n in range(1, iterations + 1) if n % every == 0 or n == iterations]
    return [*(f"checkpoints/{number:06d}.safetensors" for number in numbers), "checkpoints/index.json"]


def names(iterations: int = 60, every: int = 4) -> list[str]:
    """What a training writes."""
    return [*checkpoints(iterations, every), "history.csv", "last.safetensors"]


def products(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def put(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def scores(root: Path, models: Path, out: Path) -> pd.DataFrame:
    """Test accuracy and average mAP of every checkpoint."""
    score(root, models / "checkpoints", out, settings(), CPU)
    return pd.read_csv(out / "checkpoints.csv")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "d")


@pytest.fixture(scope="module")
def straight(root, tmp_path_factory) -> dict[str, bytes]:
    """What an uninterrupted run makes."""
    out = tmp_path_factory.mktemp("straight")
    fit(open_run(Folder(root), Recipe(settings(), 0)), out, CPU)
    return products(out)


def test_a_run_makes_a_model_checkpoints_and_a_history(straight):
    assert list(straight) == names()


def test_equal_runs_are_equal_bytes_and_seeds_are_not(root, straight, tmp_path):
    fit(open_run(Folder(root), Recipe(settings(), 0)), tmp_path / "again", CPU)
    assert products(tmp_path / "again") == straight
    fit(open_run(Folder(root), Recipe(settings(), 1)), tmp_path / "other", CPU)
    assert products(tmp_path / "other")["last.safetensors"] != straight["last.safetensors"]


def test_where_the_data_lie_does_not_matter(straight, tmp_path):
    fit(open_run(Folder(make_dataset(tmp_path / "d", official=True)), Recipe(settings(), 0)), tmp_path / "m", CPU)
    assert products(tmp_path / "m") == straight


class Stop(Exception):
    pass


def stop_at(step: int, run: Run, out: Path) -> None:
    """Train up to a step, of both trainings where there are two, and break off there."""

    def report(done, loss):
        if done == step:
            raise Stop

    with pytest.raises(Stop):
        fit(run, out, CPU, report)


@pytest.mark.parametrize("stops", [[1], [3], [4], [5], [30, 31], [59], [60], [7, 20, 41]])
def test_a_stopped_run_goes_on_to_the_same_bytes(root, straight, tmp_path, stops):
    run = open_run(Folder(root), Recipe(settings(), 0))
    for stop in stops:
        stop_at(stop, run, tmp_path)
    seen: list[int] = []
    fit(run, tmp_path, CPU, lambda iteration, loss: seen.append(iteration))
    first = stops[-1] // VALUES["eval_every"] * VALUES["eval_every"] + 1
    assert seen == list(range(first, 61))
    assert products(tmp_path) == straight


@pytest.mark.parametrize("changed", [{"lr": 0.02}, {"iterations": 61}, {"margin": 50.0}])
def test_the_state_of_another_run_is_not_taken_up(root, tmp_path, changed):
    stop_at(10, open_run(Folder(root), Recipe(settings(), 0)), tmp_path / "m")
    other = open_run(Folder(root), Recipe(settings(**changed), 0))
    fit(other, tmp_path / "m", CPU)
    fit(other, tmp_path / "fresh", CPU)
    assert products(tmp_path / "m") == products(tmp_path / "fresh")


@pytest.mark.parametrize("size", [0, 1000, -100])
def test_a_damaged_state_is_an_error(root, tmp_path, size):
    run = open_run(Folder(root), Recipe(settings(), 0))
    stop_at(10, run, tmp_path)
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[:size])
    with pytest.raises(BadInput, match=r"state\.pt.*move it away"):
        fit(run, tmp_path, CPU)


def test_the_model_is_the_moving_average_of_the_weights(root, tmp_path):
    """Of those after every step, which the same training without the average leaves as its checkpoints."""
    for name, decay in (("weights", 0.0), ("average", 0.75)):
        fit(open_run(Folder(root), Recipe(settings(iterations=8, eval_every=1, ema=decay), 0)), tmp_path / name, CPU)
    expected: dict[str, torch.Tensor] = {}
    for number in range(1, 9):
        models = [
            checkpoint.read(checkpoint.file(tmp_path / name, number), Train())[0] for name in ("weights", "average")
        ]
        weights, average = (model.state_dict() for model in models)
        for key, value in weights.items():
            expected[key] = 0.75 * expected.get(key, value) + 0.25 * value
            torch.testing.assert_close(average[key], expected[key])
    assert not torch.equal(average["embed.weight"], weights["embed.weight"])


def command(root: Path, out: Path, **values) -> list[str]:
    words = [f"{launchers()}/um", "train", "--data-dir", str(root), "--out", str(out)]
    return words + [w for name, value in values.items() for w in (f"--{name.replace('_', '-')}", str(value))]


def kill(words: list[str], state: Path, delay: float) -> bool:
    """SIGKILL a process some time after its next look; whether it was still running."""
    before = time.time_ns()
    process = subprocess.Popen(words, cwd=state.parents[1], env=ONE_THREAD, stderr=subprocess.PIPE)
    while process.poll() is None and not (state.exists() and state.stat().st_mtime_ns > before):
        time.sleep(0.002)
    time.sleep(delay)
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()  # to the end of all that had its error stream
    return running


def test_a_process_killed_at_any_moment_resumes_to_the_same_bytes(root, straight, tmp_path):
    """SIGKILL, again and again: at a look at the test subset, and at random moments after one."""
    rng = random.Random(0)
    words = command(root, tmp_path / "m", **VALUES)
    delays = (0.0, rng.uniform(0, 0.2), rng.uniform(0, 0.2))
    assert sum(kill(words, tmp_path / "m/state.pt", delay) for delay in delays) > 0
    for name in (".um-01234567-1.part.pt", "checkpoints/.um-01234567-89abcdef-1.part.safetensors"):
        (tmp_path / "m" / name).write_bytes(b"torn")  # a kill while it saved
    subprocess.run(words, cwd=tmp_path, env=ONE_THREAD, check=True, capture_output=True)
    assert products(tmp_path / "m") == straight


def test_a_kill_in_the_second_training_in_half_precision_resumes(root, tmp_path):
    values = VALUES | {"held_out": 0.34, "resident": "float16"}
    fit(open_run(Folder(root), Recipe(settings(**values), 0)), tmp_path / "straight", CPU)
    words = command(root, tmp_path / "m", **values)
    assert kill(words, tmp_path / "m/state_selected.pt", 0.0)
    assert (tmp_path / "m/state_selected.pt").exists()
    subprocess.run(words, cwd=tmp_path, env=ONE_THREAD, check=True, capture_output=True)
    assert products(tmp_path / "m") == products(tmp_path / "straight")
    assert "selected.safetensors" in products(tmp_path / "m")


def other_threads(state: Path) -> str:
    """As if a state had been saved under two threads; what it says then."""
    saved = torch.load(io.BytesIO(state.read_bytes().partition(b"\n")[2]), weights_only=True)
    saved["arithmetic"] = saved["arithmetic"].replace("1 threads", "2 threads")
    content = io.BytesIO()
    torch.save(saved, content)
    state.write_bytes(STATE + hashlib.sha256(content.getvalue()).hexdigest().encode() + b"\n" + content.getvalue())
    return saved["arithmetic"]


def test_going_on_under_other_threads_or_another_torch_is_said(root, tmp_path, caplog):
    run = open_run(Folder(root), Recipe(settings(), 0))
    stop_at(10, run, tmp_path)
    assert other_threads(tmp_path / "state.pt") == f"2 threads and PyTorch {torch.__version__}"
    fit(run, tmp_path, CPU)
    (said,) = caplog.messages
    assert f"resumes with 1 threads and PyTorch {torch.__version__}, started with 2 threads" in said
    assert list(products(tmp_path)) == names()


def test_going_on_under_the_same_threads_says_nothing(root, tmp_path, caplog):
    """Nor does a first training that was done with others: only the second goes on."""
    run = open_run(Folder(root), Recipe(with_selected(), 0))
    stop_at(30, run, tmp_path)
    other_threads(tmp_path / "state.pt")
    fit(run, tmp_path, CPU)
    assert caplog.messages == []


def test_every_checkpoint_is_scored_and_the_best_on_test_is_their_maximum(root, straight, tmp_path):
    models = put(straight, tmp_path / "m")
    history = scores(root, models, tmp_path / "best")
    assert history["iteration"].tolist() == list(range(4, 61, 4))
    assert pd.read_csv(models / "history.csv")["iteration"].tolist() == list(range(4, 61, 4))
    best = history.loc[history["test_average_mAP"].idxmax()]
    told = json.loads((tmp_path / "best/metrics.json").read_text())
    expected = {"selection": "best_on_test", "iteration": best["iteration"], "seed": 0}
    assert told["model"].items() > expected.items()
    assert told["average_mAP"] == best["test_average_mAP"]
    for name, selection, row in (
        ("last.safetensors", "last", history.iloc[-1]),
        ("checkpoints/000008.safetensors", "checkpoint", history.iloc[1]),
    ):
        _, header = checkpoint.read(models / name, Train())
        assert (header.selection, header.iteration) == (selection, row["iteration"])
        metrics = score(root, models / name, tmp_path / "results", settings(), CPU)
        assert metrics["average_mAP"] == row["test_average_mAP"]
        assert metrics["accuracy"] == row["test_accuracy"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "index.json").unlink(), "index.json: found no such file"),
        (lambda folder: (folder / "000008.safetensors").unlink(), "000008.safetensors: found no such file"),
        (lambda folder: (folder / "000008.safetensors").write_bytes(b"x"), "000008.safetensors: found other bytes"),
        (lambda folder: (folder / "index.json").write_text('{"files": {}}'), "index.json: found no files"),
        (lambda folder: (folder / "index.json").write_text('{"files": {"../x": {}}}'), "a path below"),
    ],
)
def test_checkpoints_that_are_not_whole_are_not_scored(root, straight, tmp_path, damage, said):
    models = put(straight, tmp_path / "m")
    damage(models / "checkpoints")
    with pytest.raises(BadInput, match=re.escape(said)):
        score(root, models / "checkpoints", tmp_path / "r", settings(), CPU)
    assert not (tmp_path / "r").exists()


def test_a_lost_checkpoint_makes_the_training_start_again(root, straight, tmp_path, caplog):
    run = open_run(Folder(root), Recipe(settings(), 0))
    stop_at(10, run, tmp_path)
    (tmp_path / "checkpoints/000004.safetensors").unlink()
    fit(run, tmp_path, CPU)
    assert "the checkpoints of the stopped run are gone; this run starts over" in caplog.text
    assert products(tmp_path) == straight


def test_checkpoints_of_an_earlier_training_go_and_other_files_stay(root, straight, tmp_path):
    put(straight, tmp_path)
    (tmp_path / "checkpoints/notes.txt").write_text("mine")
    fit(open_run(Folder(root), Recipe(settings(iterations=8), 0)), tmp_path, CPU)
    assert list(products(tmp_path)) == [*checkpoints(8), "checkpoints/notes.txt", "history.csv", "last.safetensors"]
    (tmp_path / "checkpoints/000012.safetensors").write_bytes(b"mine, too")
    with pytest.raises(BadInput, match=r"000012\.safetensors: found another file, or a damaged one"):
        fit(open_run(Folder(root), Recipe(settings(iterations=8), 0)), tmp_path, CPU)
    assert (tmp_path / "checkpoints/000012.safetensors").read_bytes() == b"mine, too"


def test_learning_lowers_the_loss_and_finds_the_actions(root, straight, tmp_path):
    losses = pd.read_csv(put(straight, tmp_path / "m") / "history.csv")
    assert losses["classification"].iloc[-1] < losses["classification"].iloc[0] / 2
    history = scores(root, tmp_path / "m", tmp_path / "r")
    assert history["test_accuracy"].iloc[-1] > history["test_accuracy"].iloc[0]
    assert history["test_average_mAP"].iloc[-1] > 0.9


def test_more_looks_do_not_change_the_last_model(root, straight, tmp_path):
    fit(open_run(Folder(root), Recipe(settings(eval_every=60), 0)), tmp_path, CPU)
    models = []
    for name, content in (("a", straight["last.safetensors"]), ("b", (tmp_path / "last.safetensors").read_bytes())):
        (tmp_path / name).write_bytes(content)
        models.append(checkpoint.read(tmp_path / name, Train())[0].state_dict())
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])


def test_one_rgb_stream_in_the_official_layout(tmp_path):
    root = make_dataset(tmp_path / "d", official=True, streams=("rgb",))
    fit(open_run(Folder(root), Recipe(settings(iterations=4), 0)), tmp_path / "m", CPU)
    _, header = checkpoint.read(tmp_path / "m/last.safetensors", Train())
    assert header.streams == ["rgb"]
    assert score(root, tmp_path / "m/last.safetensors", tmp_path / "r", settings(), CPU)["num_videos"] == 4


def test_videos_of_one_snippet(tmp_path):
    root = make_dataset(tmp_path / "d")
    for path in root.rglob("*.npy"):
        np.save(path, np.load(path)[:1])
    annotated = json.loads((root / "annotations.json").read_text())
    for video in annotated["database"].values():
        video["duration"] = 0.64
        for item in video["annotations"]:
            item["segment"] = [0.0, 0.5]
    (root / "annotations.json").write_text(json.dumps(annotated))
    fit(open_run(Folder(root), Recipe(settings(iterations=4), 0)), tmp_path / "m", CPU)
    assert list(products(tmp_path / "m")) == names(4)


def test_widths_that_differ_between_the_subsets(tmp_path):
    root = make_dataset(tmp_path / "d")
    for path in root.glob("features/test/rgb/*.npy"):
        np.save(path, np.load(path)[:, :5])
    fit(open_run(Folder(root), Recipe(settings(iterations=4), 0)), tmp_path / "m", CPU)
    with pytest.raises(BadInput, match="features of width 5; expected 6"):
        score(root, tmp_path / "m/last.safetensors", tmp_path / "r", settings(), CPU)


def test_devices():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda")
    for name in ("abacus", "xla", "meta", f"cuda:{torch.cuda.device_count()}", ""):
        with pytest.raises(BadInput, match="--device"):
            choose_device(name)


def with_selected(**changed) -> Settings:
    return settings(held_out=0.34, iterations=24, **changed)


@pytest.fixture(scope="module")
def selected(root, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("selected")
    fit(open_run(Folder(root), Recipe(with_selected(), 0)), out, CPU)
    return products(out)


def test_the_selected_model_is_the_look_with_the_lowest_held_out_loss(selected, tmp_path):
    assert list(selected) == [*names(24), "selected.csv", "selected.safetensors"]
    put(selected, tmp_path)
    looks = pd.read_csv(tmp_path / "selected.csv")
    assert looks["iteration"].tolist() == list(range(4, 25, 4))
    _, header = checkpoint.read(tmp_path / "selected.safetensors", Train())
    assert header.selection == "selected"
    assert header.iteration == looks.loc[looks["held_out_loss"].idxmin(), "iteration"]


def test_the_other_models_are_trained_on_all_videos(root, selected, tmp_path):
    fit(open_run(Folder(root), Recipe(settings(iterations=24), 0)), tmp_path, CPU)
    ours, theirs = tmp_path / "last.safetensors", tmp_path / "other"
    theirs.write_bytes(selected["last.safetensors"])
    a, b = (checkpoint.read(path, Train())[0].state_dict() for path in (ours, theirs))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_training_never_sees_the_test_subset(root, selected, tmp_path):
    """Other test videos, and none at all, give the same files."""
    other = make_dataset(tmp_path / "d")
    for path in other.glob("features/test/rgb/*.npy"):
        np.save(path, np.load(path)[::-1] * 0.5)
    fit(open_run(Folder(other), Recipe(with_selected(), 0)), tmp_path / "m", CPU)
    assert products(tmp_path / "m") == selected
    shutil.rmtree(other / "features/test")
    fit(open_run(Folder(other), Recipe(with_selected(), 0)), tmp_path / "n", CPU)
    assert products(tmp_path / "n") == selected


@pytest.mark.parametrize("stop", [23, 24, 25, 30, 48])
def test_a_run_stopped_in_its_second_training_goes_on_to_the_same_bytes(root, selected, tmp_path, stop):
    run = open_run(Folder(root), Recipe(with_selected(), 0))
    stop_at(stop, run, tmp_path)
    seen: list[int] = []
    fit(run, tmp_path, CPU, lambda done, loss: seen.append(done))
    assert seen == list(range(stop // 4 * 4 + 1, 49))
    assert products(tmp_path) == selected


def test_where_no_video_can_be_spared_there_is_no_selected_model(tmp_path):
    root = make_dataset(tmp_path / "d")
    annotated = json.loads((root / "annotations.json").read_text())
    for number in range(6):
        annotated["database"][f"video_{number:02d}"]["annotations"][0]["label"] = f"class {number}"
    (root / "annotations.json").write_text(json.dumps(annotated))
    with pytest.raises(BadInput, match="no training video to hold out"):
        fit(open_run(Folder(root), Recipe(with_selected(), 0)), tmp_path / "m", CPU)


@given(st.integers(1, 30), st.integers(1, 6), st.floats(0.01, 0.9), st.integers(0, 100))
def test_every_class_keeps_a_training_video(V, C, share, seed):
    rng = torch.Generator().manual_seed(seed)
    label_VC = torch.eye(C)[torch.randint(C, (V,), generator=rng)]
    label_VC[torch.rand(label_VC.shape, generator=rng) < 0.1] = 1
    held_V = held_out(label_VC, share, seed)
    assert held_V.sum() <= max(1, round(share * V))
    assert torch.equal(label_VC[~held_V].any(dim=0), label_VC.any(dim=0))
    assert torch.equal(held_V, held_out(label_VC, share, seed))


def test_short_training_videos_are_left_out(root):
    folder = Folder(root)
    everything, long = (open_run(folder, Recipe(settings(min_snippets=n), 0)) for n in (1, 15))
    assert 0 < len(long.train.videos) < len(everything.train.videos)
    assert long.train.length_V.min() >= 15
    for i, video in enumerate(long.train.videos):
        before = [other.id for other in everything.train.videos].index(video.id)
        assert torch.equal(long.train.features(i), everything.train.features(before))
    with pytest.raises(BadInput, match="no training video of 1000"):
        open_run(folder, Recipe(settings(min_snippets=1000), 0))


def test_features_in_half_precision_train_to_nearly_the_same(root, tmp_path):
    losses, mAPs = [], []
    for resident in ("float32", "float16"):
        fit(open_run(Folder(root), Recipe(settings(resident=resident), 0)), tmp_path / resident, CPU)
        losses.append(pd.read_csv(tmp_path / resident / "history.csv")["total"].iloc[0])
        mAPs.append(scores(root, tmp_path / resident, tmp_path / "r")["test_average_mAP"].iloc[-1])
    assert mAPs[1] == pytest.approx(mAPs[0], abs=0.1)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_training_in_bf16_learns_too(root, tmp_path):
    fit(open_run(Folder(root), Recipe(settings(precision="bf16"), 0)), tmp_path / "m", CPU)
    assert scores(root, tmp_path / "m", tmp_path / "r")["test_average_mAP"].iloc[-1] > 0.9


def test_a_loss_that_is_not_finite_is_an_error(root, tmp_path):
    chosen = settings(eval_every=1)
    beyond = chosen.model_copy(update={"train": chosen.train.model_copy(update={"margin": 1e25})})
    with pytest.raises(BadInput, match="a loss that is inf by step 1"):
        fit(open_run(Folder(root), Recipe(beyond, 0)), tmp_path, CPU)
    assert list(tmp_path.iterdir()) == []


def test_missing_test_videos_lower_the_score_only_where_they_count(root, straight, tmp_path):
    other = make_dataset(tmp_path / "d")
    (other / "features/test/rgb/video_07.npy").unlink()
    (tmp_path / "model.safetensors").write_bytes(straight["last.safetensors"])
    scores = {}
    for policy in ("drop", "miss"):
        chosen = settings().model_copy(update={"evaluate": Evaluate(missing=policy)})
        scores[policy] = score(other, tmp_path / "model.safetensors", tmp_path / policy, chosen, CPU)
        written = json.loads((tmp_path / policy / "predictions.json").read_text())["results"]
        assert (len(written), written.get("video_07")) == ((3, None) if policy == "drop" else (4, []))
    assert (scores["drop"]["num_videos"], scores["miss"]["num_videos"]) == (3, 4)
    for policy, score_of in scores.items():
        told = [score_of[key] for key in ("num_missing", "missing", "missing_policy")]
        assert told == [1, ["video_07"], policy]
    assert scores["miss"]["average_mAP"] < scores["drop"]["average_mAP"]
    assert scores["miss"]["accuracy"] < scores["drop"]["accuracy"]


def test_a_run_without_held_out_leaves_no_selected_model_of_another(root, selected, tmp_path):
    put(selected, tmp_path)
    fit(open_run(Folder(root), Recipe(settings(iterations=4), 0)), tmp_path, CPU)
    assert list(products(tmp_path)) == names(4)


def test_one_class_teaches_nothing_and_is_refused(um, tmp_path):
    """The softmax over one class is 1, so that both losses on it are 0 whatever the network says."""
    from um.method.loss import um_loss
    from um.method.model import UM
    from um.params import Train as Settings

    for form in ("mean_bce", "summed_ce"):
        settings = Settings(embedding_dim=5, num_segments=12, loss=form)
        loss = um_loss(UM(4, 1, settings)(torch.randn(2, 12, 4)), torch.ones(2, 1), settings)
        assert loss.classification == loss.background_entropy == 0
    root = make_dataset(tmp_path / "one")
    path = root / "annotations.json"
    content = json.loads(path.read_text())
    for entry in content["database"].values():
        entry["annotations"] = [item | {"label": "run"} for item in entry["annotations"]]
    path.write_text(json.dumps(content))
    code, _, error = um("train", "--data-dir", root, "--out", tmp_path / "models", "--device", "cpu")
    assert code == 2
    assert f"{path}: found 1 class (run): UM compares classes, so its losses would always be 0" in error
    assert "hint: annotate a second one" in error
    assert not (tmp_path / "models").exists()


def test_tensorboard_follows_a_training_and_a_resumed_one(root, tmp_path):
    """Each point of both histories, at its iteration; a run that starts over hides the old points."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def followed(model: str) -> dict[int, float]:
        events = EventAccumulator(str(tmp_path / "live/tiny/seed0" / model))
        events.Reload()
        return {event.step: event.value for event in events.Scalars("loss/total")}

    out = tmp_path / "models/tiny/seed0"
    for values in (with_selected(), with_selected(lr=0.02)):
        run_train(Recipe(values, 0), root, out, CPU, tmp_path / "live")
        for model, history in (("last", "history.csv"), ("selected", "selected.csv")):
            told = pd.read_csv(out / history)
            assert followed(model) == pytest.approx(dict(zip(told["iteration"], told["total"], strict=True)), rel=1e-6)


def test_tensorboard_that_is_not_installed_is_said(root, tmp_path, monkeypatch):
    monkeypatch.setattr("um.live.find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"no package tensorboard.* -m pip install tensorboard"):
        run_train(Recipe(settings(), 0), root, tmp_path / "m", CPU, tmp_path / "live")
    assert not (tmp_path / "m").exists()
    (tmp_path / "live").write_text("a note")
    monkeypatch.undo()
    with pytest.raises(BadInput, match="found a file; expected a folder"):
        run_train(Recipe(settings(), 0), root, tmp_path / "m", CPU, tmp_path / "live")


def test_models_and_scores_name_the_hardware_they_were_trained_on(root, straight, tmp_path):
    models = put(straight, tmp_path / "m")
    _, header = checkpoint.read(models / "last.safetensors", Train())
    assert header.hardware == f"{platform.machine()} CPU"
    assert (
        score(root, models / "last.safetensors", tmp_path / "r", settings(), CPU)["model"]["hardware"]
        == header.hardware
    )
