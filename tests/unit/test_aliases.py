"""The options of the repository that this project started from."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import typer
from helpers.convert import Dataset, make_official, seed_activitynet, seed_thumos14

from um.aliases import translate
from um.cli import app
from um.errors import BadInput
from um.method import checkpoint
from um.params import Train

TRAIN = "um train --data_name activitynet1.2 --num_segments 50 --seed 0"
TEST = "um test --model_file --data_name thumos14 --model_file result/thumos14_model.pth"
SMALL = "--num_iters 4 --eval_iter 2 --batch_size 3 --embedding-dim 8"
PARSER = (  # every option that its parser has, with the default
    "--save_path result --alpha 0.0005 --beta 1.0 --magnitude 100 --r_act 9 --r_bkg 4 --act_th 0.2 --iou_th 0.6 "
    "--seg_th 'np.arange(0.0, 0.25, 0.025)' --mag_th 'np.arange(0.4, 0.625, 0.025)' --data_name thumos14 "
    "--num_segments 750 --scale 24 --fps 16 --sampling_frames 25 --lr 0.0001 --decay 0.0005 --num_iter 10000 "
    "--eval_iter 100 --batch_size 16 --num_workers 8 --seed -1"
)
PRESETS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def seed_folders(tmp_path) -> Path:
    data = Dataset(make_official(tmp_path / "official"))
    seed_activitynet(data, tmp_path / "data")
    seed_thumos14(data, tmp_path / "data")
    shutil.copy(PRESETS, tmp_path)
    return tmp_path / "data"


def save_model(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "cas_module.conv.0.weight": torch.randn(8, 12, 3),
        "cas_module.conv.0.bias": torch.randn(8),
        "cas_module.classifier.weight": torch.randn(3, 8, 1),
    }
    torch.save(state, path)


def test_its_readme_runs(um, seed_folders, tmp_path, reference_data):
    readme = (reference_data / "seed-readme.md").read_text()
    for line in (TRAIN, TEST):
        assert re.sub(r"^um (\w+)", r"python \1.py", line) in readme
    code, _, printed = um(*shlex.split(f"{TRAIN} {SMALL}")[1:])
    assert code == 0, printed
    assert Path("result/activitynet1.2/last.safetensors").exists()
    save_model(tmp_path / "result/thumos14_model.pth")
    code, _, printed = um(*shlex.split(TEST)[1:])
    assert code == 0, printed
    metrics = json.loads(Path("result/thumos14/metrics.json").read_text())
    assert list(metrics["mAP"]) == [f"0.{tenth}0" for tenth in range(1, 8)]
    assert metrics["num_videos"] == 4


def test_activitynet_is_scored_at_its_thresholds(um, seed_folders, tmp_path):
    save_model(tmp_path / "result/model.pth")
    words = f"test --data_name activitynet1.3 --data_path {seed_folders} --model_file result/model.pth --save_path out"
    code, _, printed = um(*shlex.split(words))
    assert code == 0, printed
    assert next(iter(json.loads(Path("out/activitynet1.3/metrics.json").read_text())["mAP"])) == "0.50"


THUMOS = "--dataset thumos14"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("train --num_segments 50", "train --num-segments 50"),
        ("test --num_segments 50", "test --num-segments 50 --max-segments 50"),
        ("train --act_th 0.1 --iou_th=0.5 --lr 1", "train --lr 1"),
        ("train --magnitude 50 --decay=0.001 --lr 1e-5", "train --margin 50 --weight-decay 0.001 --lr 1e-5"),
        ("test --act_th 0.1 --iou_th 0.5 --scale 16", "test --class-threshold 0.1 --nms-iou 0.5 --upscale 16"),
        ("test --seg_th 'np.arange(0.0, 0.25, 0.025)'", "test --cas-thresholds 0:0.225:0.025"),
        ("test --mag_th 'np.arange(0.4, 0.625, 0.025)'", "test --magnitude-thresholds 0.4:0.6:0.025"),
        ("train --r_act 5 --embedding_dim 8 --num-segments 9", "train --r-act 5 --embedding-dim 8 --num-segments 9"),
        ("train --data_path /mnt", f"train {THUMOS} --data-dir /mnt/thumos14 --out result/thumos14"),
        ("train --data_path /mnt --out here", f"train --out here {THUMOS} --data-dir /mnt/thumos14"),
        ("train --data_name thumos14", f"train {THUMOS} --data-dir /data/thumos14 --out result/thumos14"),
        ("train --save_path R", f"train {THUMOS} --data-dir /data/thumos14 --out R/thumos14"),
        ("train --dataset cooking --save_path R", "train --dataset cooking --out R"),
        ("train --data-dir X --save_path R", "train --data-dir X --out R"),
        ("train --data-dir X --data_name thumos14", f"train --data-dir X {THUMOS} --out result/thumos14"),
        ("train --seed -1 --lr 0.1", "train --seed 0 --lr 0.1"),
        ("train --seed=-1", "train --seed 0"),
        ("train --seed 3 --num_workers 8", "train --seed 3"),
        ("test --seed 3 --fps 16 --sampling_frames=25", "test"),
        ("localize a.mp4 --seed -1", "localize a.mp4 --seed -1"),
        ("localize a_b.mp4 --model_file m", "localize a_b.mp4 --model_file m"),
        ("", ""),
    ],
)
def test_options_have_a_counterpart(theirs, ours, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert translate(shlex.split(theirs)) == shlex.split(ours)


@pytest.mark.parametrize("here", [True, False])
def test_its_training_takes_the_preset(um, seed_folders, tmp_path, here):
    if not here:  # then those of the package apply
        (tmp_path / "params.yaml").unlink()
    code, _, printed = um(*shlex.split(f"{TRAIN} {SMALL}")[1:])
    assert code == 0, printed
    _, header = checkpoint.read(Path("result/activitynet1.2/last.safetensors"), Train())
    assert (header.train.loss_scale, header.train.smoothing, header.dataset) == (5.0, 13, "activitynet1.2")


@pytest.mark.parametrize("verb", ["train", "test"])
def test_every_option_of_its_parser_is_taken(verb, tmp_path, monkeypatch, caplog):
    """As far as the command line goes; the training of the defaults would take hours."""
    monkeypatch.chdir(tmp_path)
    model = " --model_file result/thumos14_model.pth" if verb == "test" else ""
    words = translate(shlex.split(f"{verb} --data_path /data {PARSER}{model}"))
    command = typer.main.get_command(app)
    name, verb_command, rest = command.resolve_command(command.make_context("um", list(words)), words)
    chosen = verb_command.make_context(name, rest).params
    assert (chosen["dataset"], chosen["out"], chosen["lr"]) == ("thumos14", Path("result/thumos14"), 1e-4)
    if verb == "test":
        assert (chosen["max_segments"], chosen["cas_thresholds"]) == (750, "0:0.225:0.025")
    assert chosen.get("seed", 0) == 0
    for option in ("--num_workers", "--fps", "--sampling_frames", "--seed"):
        assert sum(message.startswith(option) for message in caplog.messages) == 1


def test_two_datasets_with_one_save_path_stay_apart(um, seed_folders):
    for name in ("thumos14", "activitynet1.2"):
        code, _, printed = um(*shlex.split(f"train --data_name {name} --save_path R --num_segments 12 {SMALL}"))
        assert code == 0, printed
        assert Path(f"R/{name}/last.safetensors").is_file()
    _, header = checkpoint.read(Path("R/thumos14/last.safetensors"), Train())
    assert header.train.loss_scale == 1.0


def test_the_second_command_of_its_readme_finds_the_model_of_our_training(um, seed_folders, tmp_path, caplog):
    code, _, printed = um(*shlex.split(f"train --data_name thumos14 --num_segments 12 {SMALL}"))
    assert code == 0, printed
    code, _, printed = um(*shlex.split(TEST)[1:])
    assert code == 0, printed
    assert "no result/thumos14_model.pth: using result/thumos14/last.safetensors" in caplog.text
    metrics = json.loads(Path("result/thumos14/metrics.json").read_text())
    assert metrics["model"].items() > {"selection": "last", "iteration": 4, "seed": 0}.items()
    caplog.clear()
    save_model(tmp_path / "result/thumos14_model.pth")  # a model of that name comes first
    assert um(*shlex.split(TEST)[1:])[0] == 0
    assert caplog.messages == []
    assert json.loads(Path("result/thumos14/metrics.json").read_text())["model"] == {"selection": "unknown"}


def test_without_any_model_the_one_that_was_asked_for_is_missing(um, seed_folders):
    code, _, printed = um(*shlex.split(TEST)[1:])
    assert (code, printed.count("\n")) == (2, 1)
    assert "result/thumos14_model.pth: found no such file" in printed


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("train --data_name thumos15", "thumos15"),
        ("train --fps 25", "fps 25; expected 16"),
        ("test --sampling_frames 30", "sampling_frames 30; expected 25"),
        ("test --seg_th np.arange(0,0,0.1)", "np.arange"),
        ("test --seg_th np.arange(0,1,0)", "np.arange"),
        ("test --data_name", "value"),
    ],
)
def test_what_has_no_counterpart(words, found):
    with pytest.raises(BadInput, match=found):
        translate(shlex.split(words))


@pytest.mark.parametrize("words", ["train --data_name thumos14 --seed -2", "train --no_such 1", "test --model_file"])
def test_wrong_usage_is_one_line(um, seed_folders, words):
    code, _, printed = um(*shlex.split(words))
    assert code == 2
    assert printed.count("\n") == 1
