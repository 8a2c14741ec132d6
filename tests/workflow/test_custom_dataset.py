"""A folder of real videos with annotations is a dataset: a slice of ucf6 through the whole chain."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers.tiny import TINY, make_dataset

SLICE = ["ucf6_train_0001", "ucf6_train_0004", "ucf6_val_0001", "ucf6_val_0002"]
SMALL = {
    "features": {"fps": 12.5, "short_side": 80, "crop": 64},
    "train": {"num_segments": 32, "embedding_dim": 64, "iterations": 60, "eval_every": 30, "lr": 1e-3, "ema": 0.9},
}


@pytest.fixture
def folder(reference_data, tmp_path):
    """What a user has: videos and annotations.json below one folder."""
    source = reference_data / "data/ucf6"
    annotations = json.loads((source / "annotations.json").read_text())
    annotations["database"] = {name: annotations["database"][name] for name in SLICE}
    (tmp_path / "mine/videos").mkdir(parents=True)
    (tmp_path / "mine/annotations.json").write_text(json.dumps(annotations))
    for name in SLICE:
        (tmp_path / "mine/videos" / f"{name}.mp4").symlink_to(source / "videos" / f"{name}.mp4")
    return tmp_path / "mine"


def test_a_folder_of_real_videos_goes_through_the_whole_chain(workspace, folder):
    before = (workspace / "results/benchmark.md").read_bytes()
    (workspace / "datasets/mine").mkdir()
    (workspace / "datasets/mine/dataset.yaml").write_text(f"title: Mine\nprovider: local\nsource: {folder}\n")
    workspace.change("overrides.mine", SMALL)
    build = ("snakemake", "--cores", "all", "--config", "dataset=mine", "seed=0")
    workspace.done(*build)

    scores = pd.read_csv(workspace / "results/mine-seed0/benchmark.csv").set_index(["method", "metric", "tiou"])["mean"]
    low = scores[("Ours (last)", "mAP", 0.1)]
    # Two training videos teach little; but a chain that mixed up videos, times or classes would find nothing.
    assert low > 0.4
    videos = json.loads((workspace / "results/mine/seed0/predictions.json").read_text())["results"]
    assert sorted(videos) == SLICE[2:]
    assert (workspace / "results/benchmark.md").read_bytes() == before
    assert "Nothing to be done" in workspace.done(*build, "-n")

    model, video = "models/mine/seed0/last.safetensors", folder / "videos" / f"{SLICE[2]}.mp4"
    workspace.done("um", "localize", str(video), "--model-file", model, "--out", "found.json")
    (found,) = json.loads((workspace / "found.json").read_text())["results"].values()
    assert found
    assert [entry["label"] for entry in found] == [entry["label"] for entry in videos[SLICE[2]]]
    for ours, tested in zip(found, videos[SLICE[2]], strict=True):
        assert ours["segment"] == pytest.approx(tested["segment"], abs=0.05)
        assert ours["score"] == pytest.approx(tested["score"], abs=1e-3)


def test_a_folder_of_features_needs_no_video_and_no_weights(workspace, tmp_path):
    """Features in the official layout become a dataset: brought, trained on, scored and in a table.

    Its name is one that Snakemake takes for a number.
    """
    source = make_dataset(tmp_path / "mine", official=True, streams=("rgb", "flow"))
    (workspace / "datasets/2024_05").mkdir()
    (workspace / "datasets/2024_05/dataset.yaml").write_text(f"provider: features\nsource: {source}\n")
    workspace.change("overrides.2024_05", {"train": TINY, "evaluate": {"missing": "miss"}})
    for path in source.glob("features/test/*/video_07.npy"):
        path.unlink()
    (workspace / "data/weights/i3d-inception-rgb.safetensors").unlink()
    build = ("snakemake", "--cores", "all", "--config", "dataset=2024_05", "seed=1")
    workspace.done(*build, "--", "evaluate")
    metrics = json.loads((workspace / "results/2024_05/seed1/metrics.json").read_text())
    assert (metrics["num_videos"], metrics["num_missing"]) == (4, 1)
    assert "Nothing to be done" in workspace.done(*build, "-n", "--", "evaluate")
    assert not (workspace / "data/weights/i3d-inception-rgb.safetensors").exists()
    changed = source / "features/test/rgb/video_08.npy"
    np.save(changed, np.load(changed)[::-1])
    workspace.done("um", "extract", "--dataset", "2024_05")
    assert "test_model" in workspace.done(*build, "-n", "--", "evaluate")
