"""The options of the repository that this project started from."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from convert import Dataset, make_official, seed_activitynet, seed_thumos14

from um.aliases import translate
from um.errors import BadInput

TRAIN = "um train --data_name activitynet1.2 --num_segments 50 --seed 0"
TEST = "um test --model_file --data_name thumos14 --model_file result/thumos14_model.pth"
SMALL = "--num_iters 4 --eval_iter 2 --batch_size 3 --embedding-dim 8"


@pytest.fixture
def seed_folders(tmp_path) -> Path:
    data = Dataset(make_official(tmp_path / "official"))
    seed_activitynet(data, tmp_path / "data")
    seed_thumos14(data, tmp_path / "data")
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
    assert next(iter(json.loads(Path("out/metrics.json").read_text())["mAP"])) == "0.50"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("train --num_segments 50", "train --num-segments 50 --max-segments 50"),
        ("train --magnitude 50 --decay=0.001 --lr 1e-5", "train --margin 50 --weight-decay 0.001 --lr 1e-5"),
        ("test --act_th 0.1 --iou_th 0.5 --scale 16", "test --class-threshold 0.1 --nms-iou 0.5 --upscale 16"),
        ("test --seg_th 'np.arange(0.0, 0.25, 0.025)'", "test --cas-thresholds 0:0.225:0.025"),
        ("test --mag_th 'np.arange(0.4, 0.625, 0.025)'", "test --magnitude-thresholds 0.4:0.6:0.025"),
        ("train --r_act 5 --embedding_dim 8 --num-segments 9", "train --r-act 5 --embedding-dim 8 --num-segments 9"),
        ("train --data_path /mnt", "train --data-dir /mnt/thumos14 --out result/thumos14"),
        ("train --data_path /mnt --out here", "train --out here --data-dir /mnt/thumos14"),
        ("train --data_name thumos14", "train --data-dir /data/thumos14 --out result/thumos14"),
        ("localize a_b.mp4 --model_file m", "localize a_b.mp4 --model_file m"),
        ("", ""),
    ],
)
def test_options_have_a_counterpart(theirs, ours, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert translate(shlex.split(theirs)) == shlex.split(ours)


def test_where_there_are_presets_they_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("overrides: {activitynet1.2: {evaluate: {tiou: '0.5:0.95:0.05'}}}")
    ours = "train --seed 0 --dataset activitynet1.2 --data-dir /data/activitynet1.2 --out result/activitynet1.2"
    assert translate(shlex.split("train --data_name activitynet1.2 --seed 0")) == shlex.split(ours)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("train --data_name thumos15", "thumos15"),
        ("train --num_workers 8", "workers"),
        ("train --fps 16", "snippet"),
        ("train --seg_th np.arange(0,0,0.1)", "np.arange"),
        ("test --seg_th np.arange(0,1,0)", "np.arange"),
        ("test --data_name", "value"),
    ],
)
def test_what_has_no_counterpart(words, found):
    with pytest.raises(BadInput, match=found):
        translate(shlex.split(words))


@pytest.mark.parametrize("words", ["train --data_name thumos14 --seed -1", "train --no_such 1", "test --model_file"])
def test_wrong_usage_is_one_line(um, seed_folders, words):
    code, _, printed = um(*shlex.split(words))
    assert code == 2
    assert printed.count("\n") == 1
