"""Simulated features of real annotations: what is real, what is drawn, and that it can be learned from."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from um.datasets.folder import Folder
from um.datasets.subset import load_subset
from um.errors import BadInput
from um.evaluation.metrics import evaluate
from um.files import held, sha256
from um.params import Settings
from um.report.table.controls import whole_video
from um.simulation import simulate, truth
from um.simulation.simulate import STREAMS, Choice, Model, World, fit, snippets

DIMS = 64
REAL = {"rgb": "video_validation_0000051", "flow": "video_validation_0000051-flow"}


def made(videos: dict[str, tuple[str, list]]) -> dict:
    """The form of the official code's gt.json: text for seconds, no durations."""
    return {
        name: {
            "subset": subset,
            "annotations": [{"segment": [str(start), str(end)], "label": label} for label, start, end in instances],
        }
        for name, (subset, instances) in videos.items()
    }


@pytest.fixture
def gt(tmp_path) -> Path:
    """Three classes, 12 + 6 videos of which half a dozen carry two labels on one segment."""
    rng = np.random.default_rng(0)
    videos = {}
    for number in range(18):
        label = ("Billiards", "CliffDiving", "LongJump")[number % 3]
        starts = np.cumsum(rng.uniform(8, 30, 4)).round(1)
        both = [label, "Diving"] if label == "CliffDiving" else [label]
        instances = [(name, start, round(start + 6, 1)) for start in starts for name in both]
        videos[f"video_{number:02d}"] = "train" if number < 12 else "test", instances
    path = tmp_path / "gt.json"
    path.write_text(json.dumps({"database": made(videos)}))
    return path


def hashes(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): sha256(path) for path in root.rglob("*") if path.is_file()}


def write(gt: Path, out: Path, report=lambda _: None, **changed) -> Path:
    simulate.simulate("thumos14", gt, out, Choice(**{"dims": DIMS, **changed}), report)
    return out


def test_equal_arguments_give_equal_bytes_and_another_seed_others(gt, tmp_path):
    first = hashes(write(gt, tmp_path / "a"))
    assert first == hashes(write(gt, tmp_path / "b"))
    other = hashes(write(gt, tmp_path / "c", seed=1))
    assert first["annotations.json"] == other["annotations.json"]
    assert not set(first.values()) & {sha for name, sha in other.items() if name.endswith(".npy")}


def test_a_video_does_not_depend_on_the_others(gt, tmp_path):
    first, few = hashes(write(gt, tmp_path / "a")), hashes(write(gt, tmp_path / "b", count=6))
    assert {name: first[name] for name in few if name.endswith(".npy")} == {
        name: sha for name, sha in few.items() if name.endswith(".npy")
    }


def test_a_killed_run_goes_on_and_keeps_what_it_has(gt, tmp_path):
    whole = hashes(write(gt, tmp_path / "whole"))
    out, seen = tmp_path / "killed", []

    def kill(name: str) -> None:
        seen.append(name)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(gt, out, report=kill)
    (torn,) = [path for path in out.rglob("*.npy") if seen[-1] in path.name and path.parent.name == "flow"]
    torn.rename(torn.with_name(".um-01234567-1.part.npy"))  # as a kill while it was being written leaves it
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.npy") if seen[0] in path.name}
    write(gt, out)
    assert hashes(out) == whole
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_folder_of_anything_else_is_refused(gt, tmp_path):
    out = write(gt, tmp_path / "out", count=4)
    before = hashes(out)
    with pytest.raises(BadInput, match="another simulation"):
        write(gt, out, count=4, seed=1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="an empty folder"):
        write(gt, tmp_path / "other")
    assert hashes(out) == before


def test_the_folder_says_that_it_is_simulated(gt, tmp_path):
    out = write(gt, tmp_path / "out", count=4)
    spec = json.loads((out / "features/spec.json").read_text())
    assert spec["simulated"] is True
    assert spec["title"] == "THUMOS14 (simulated)"
    assert (spec["seed"], spec["dims"], spec["dtype"]) == (0, DIMS, "float32")
    assert spec["model"] == Model().model_dump()
    assert "simulated" in json.loads((out / "annotations.json").read_text())["version"]
    assert Folder(out).pace == (16 / 25, 0)


def test_half_precision(gt, tmp_path):
    exact, half = (
        load_subset(Folder(write(gt, tmp_path / name, half=name == "half")), "test") for name in ("full", "half")
    )
    assert torch.allclose(exact.packed_NF, half.packed_NF, rtol=1e-3, atol=1e-4)
    assert np.load(next((tmp_path / "half").rglob("*.npy"))).dtype == np.float16


def test_two_labels_on_one_segment_share_it(gt):
    database = truth.read("thumos14", gt)
    world = World(0, DIMS, Model(spread=0, confusion=0, context=0), truth.classes(database))
    entry = next(e for e in database.values() if len(e["annotations"]) == 8)
    weight_JT, direction_JD = world._signals(simulate.random(0), snippets(entry), entry["annotations"])
    inside = weight_JT[:8].max(axis=1)
    assert inside == pytest.approx(Model().strength / np.sqrt(2))
    assert direction_JD.min() >= 0
    assert (direction_JD**2).mean(axis=1) == pytest.approx(1, rel=1e-5)


def test_an_instance_fades_in_and_out_by_the_share_of_a_snippet():
    assert simulate.coverage(np.array([[1.25, 3.5]]), 5).tolist() == [[0, 0.75, 1, 0.5, 0]]


def test_ambiguous_is_no_class_and_a_video_without_labels_is_left_out(gt):
    content = json.loads(gt.read_text())
    content["database"]["video_00"]["annotations"] = [{"label": "Ambiguous", "segment": ["1", "2"]}]
    content["database"]["video_01"]["annotations"].append({"label": "Ambiguous", "segment": ["1", "2"]})
    gt.write_text(json.dumps(content))
    database = truth.read("thumos14", gt)
    assert "video_00" not in database
    assert truth.classes(database) == ["Billiards", "CliffDiving", "Diving", "LongJump"]


def test_a_choice_of_videos_keeps_classes_and_proportions(gt):
    database = truth.read("thumos14", gt)
    for count in (6, 9, 12):
        chosen = truth.choose(database, count)
        assert len(chosen) == count
        assert [e["subset"] for e in chosen.values()].count("train") == count * 2 / 3
        assert truth.classes(chosen) == truth.classes(database)


@pytest.mark.parametrize(
    ("dataset", "content", "found"),
    [
        ("thumos15", "{}", "--dataset thumos15"),
        ("thumos14", "[]", "a list"),
        ("thumos14", '{"database": {}}', "no 'database' of videos"),
        ("thumos14", '{"database": {"a": {"subset": "test", "annotations": []}}}', "0 classes"),
        ("thumos14", '{"database": {"a": {}}}', "a: found no subset"),
        (
            "thumos14",
            '{"database": {"a": {"subset": "test", "annotations": [{"label": "x", "segment": ["a", 1]}]}}}',
            "= 'a'",
        ),
        ("activitynet1.3", '{"v_a": {"annotations": []}}', r"anet1\.3_video_info\.csv: found no such file"),
        (
            "thumos14",
            json.dumps({"database": made({str(i): ("test", [(str(i), 0, 1)]) for i in range(21)})}),
            "21 classes",
        ),
    ],
)
def test_wrong_annotations(tmp_path, dataset, content, found):
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(BadInput, match=found):
        simulate.simulate(dataset, tmp_path / "file.json", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line(um, gt, tmp_path, monkeypatch):
    monkeypatch.delenv("UM_REFERENCE_DATA", raising=False)
    words = ("simulate", "--dataset", "thumos14", "--dims", DIMS, "--videos", 4)
    assert um(*words, "--annotations", gt.parent, "--out", "here")[0] == 0
    assert len(load_subset(Folder(tmp_path / "here"), "train").videos) == 3
    assert um(*words, "--annotations", gt)[0] == 0
    assert len(load_subset(Folder(tmp_path / "data/simulated/thumos14"), "train").videos) == 3
    for wrong in ((), ("--annotations", "nowhere.json"), ("--annotations", gt, "--dims", 3)):
        code, _, printed = um(*words, *wrong, "--out", "there")
        assert code == 2
        assert printed.count("\n") == 1
        assert not (tmp_path / "there").exists()


def test_a_simulation_replaces_nothing(gt, tmp_path):
    out = tmp_path / "out"
    simulate.simulate("thumos14", gt, out, Choice(dims=DIMS, count=4))
    one = sorted(out.glob("features/*/*/*.npy"))[0]
    for path in (out / "annotations.json", one):
        content = path.read_bytes()
        path.write_bytes(b"mine")
        if path == one:  # of the two streams of a video, the other one is missing
            other = path.parents[1] / ("flow" if path.parent.name == "rgb" else "rgb") / path.name
            other.unlink()
        with pytest.raises(
            BadInput, match=rf"{path.name}: found a file that `um simulate` did not write.*move it away"
        ):
            simulate.simulate("thumos14", gt, out, Choice(dims=DIMS, count=4))
        assert path.read_bytes() == b"mine"
        path.unlink()
        simulate.simulate("thumos14", gt, out, Choice(dims=DIMS, count=4))
        assert path.read_bytes() == content
    for kind in ("file", "link"):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "mine").write_text("mine") if kind == "file" else (folder / "features").symlink_to(out)
        before = sorted(out.rglob("*"))
        with pytest.raises(BadInput, match="other files"):
            simulate.simulate("thumos14", gt, folder, Choice(dims=DIMS, count=4))
        assert sorted(out.rglob("*")) == before
    with held(out, "um simulate --dataset other"), pytest.raises(BadInput, match="`um simulate --dataset other`"):
        simulate.simulate("thumos14", gt, out, Choice(dims=DIMS, count=4))


def test_durations_are_real_if_known(gt, tmp_path, caplog):
    drawn = truth.read("thumos14", gt)
    assert "no durations, and no durations.json beside it: drawing them" in caplog.text
    names = list(drawn)
    real = {name: {"duration": 100.0 + number, "fps": 30.0} for number, name in enumerate(names)}
    file = tmp_path / "lengths.json"
    file.write_text(json.dumps(real))
    known = truth.read("thumos14", gt, file)
    assert {name: entry["duration"] for name, entry in known.items()} == {n: e["duration"] for n, e in real.items()}
    (tmp_path / "durations.json").write_text(json.dumps({name: e["duration"] for name, e in real.items()}))
    assert truth.read("thumos14", gt) == known
    out = write(gt, tmp_path / "out", count=4)
    folder = Folder(out)
    assert sorted(folder.check("train")[1] + folder.check("test")[1]) == sorted(
        int(folder.annotations.videos[name].duration * 25 / 16) for name in folder.annotations.videos
    )
    file.write_text(json.dumps(dict.fromkeys(names, 99)))
    with pytest.raises(BadInput, match="another simulation"):  # other durations are other features
        write(gt, out, count=4, durations=file)
    for wrong in ({}, [], real | {names[3]: {"duration": -1}}, real | {names[3]: {"fps": 30}}, real | {names[3]: True}):
        file.write_text(json.dumps(wrong))
        with pytest.raises(BadInput, match=r"lengths\.json: found no duration of video_"):
            truth.read("thumos14", gt, file)
    full = {"database": {name: {**entry, "subset": "train"} for name, entry in known.items()}}
    (tmp_path / "full.json").write_text(json.dumps(full))
    with pytest.raises(BadInput, match=r"--durations: found durations in full\.json already"):
        truth.read("thumos14", tmp_path / "full.json", file)


# What follows needs the reference data.


def test_thumos14_has_its_real_durations(reference_data):
    path = reference_data / truth.BENCHMARKS["thumos14"].file
    real = json.loads(path.with_name(truth.DURATIONS).read_text())
    database = truth.read("thumos14", path)
    assert {name: entry["duration"] for name, entry in database.items()} == {n: e["duration"] for n, e in real.items()}
    assert sum(entry["duration"] for entry in database.values()) / 3600 == pytest.approx(24.3, abs=0.05)
    assert sum(map(snippets, database.values())) == 136_395


@pytest.mark.parametrize(
    ("dataset", "videos", "classes", "instances", "total"),
    [
        ("thumos14", (200, 210), 20, 6318, 136_395),
        ("activitynet1.2", (4441, 2198), 100, None, 1_199_000),
        ("activitynet1.3", (9649, 4728), 200, None, 2_647_000),
    ],
)
def test_annotations_are_the_real_ones(reference_data, dataset, videos, classes, instances, total):
    path = reference_data / truth.BENCHMARKS[dataset].file
    database = truth.read(dataset, path)
    published = json.loads(path.read_text())
    published = published.get("database", published)
    subsets = [entry["subset"] for entry in database.values()]
    names = ("train", "test" if dataset == "thumos14" else "val")
    assert tuple(subsets.count(name) for name in names) == videos
    assert len(truth.classes(database)) == classes
    assert instances in (None, sum(len(entry["annotations"]) for entry in database.values()))
    for name, entry in database.items():
        real = published.get(name) or published[f"v_{name}"]
        assert entry["annotations"] == [
            {"label": item["label"], "segment": [float(second) for second in item["segment"]]}
            for item in real["annotations"]
        ]
        assert entry["duration"] == real.get("duration", real.get("duration_second", entry["duration"])) or (
            entry["duration"] == max(item["segment"][1] for item in entry["annotations"])
        )
    assert sum(map(snippets, database.values())) == pytest.approx(total, rel=0.03)


def test_the_constants_are_fitted_to_the_real_sample(reference_data):
    for stream, name in REAL.items():
        refitted = fit(np.load(reference_data / f"data/thumos14/i3d_sample/{name}.npy"))
        assert STREAMS[stream] == pytest.approx(refitted, rel=0.02, abs=0.01)


def statistics(features_TD: np.ndarray) -> dict[str, float]:
    x = features_TD.astype(np.float64)
    z = x - x.mean(axis=0)
    share = np.linalg.svd(z, compute_uv=False) ** 2
    share = share[share > 0] / share.sum()
    return {
        "mean": x.mean(),
        "sd over time": x.std(axis=0).mean(),
        "sd over dimensions": x.mean(axis=0).std(),
        "below 0.01": (x < 0.01).mean(),
        "autocorrelation": (z[1:] * z[:-1]).mean() / (z * z).mean(),
        "effective rank": np.exp(-(share * np.log(share)).sum()),
        "norm": np.linalg.norm(x, axis=1).mean(),
    }


TOLERANCE = {"mean": 0.1, "sd over time": 0.15, "sd over dimensions": 0.4, "below 0.01": 0.4, "norm": 0.25}


def test_simulated_videos_look_like_the_real_sample(reference_data):
    """On average over eight videos of about its length."""
    database = truth.read("thumos14", reference_data / truth.BENCHMARKS["thumos14"].file)
    world = World(0, 2048, Model(), truth.classes(database))
    names = [name for name, entry in database.items() if 200 < snippets(entry) < 330][:8]
    videos = [world.video(name, database[name]) for name in names]
    for number, name in enumerate(REAL.values()):
        real = statistics(np.load(reference_data / f"data/thumos14/i3d_sample/{name}.npy"))
        drawn = pd.DataFrame([statistics(np.split(video, 2, axis=1)[number]) for video in videos]).mean()
        for key, value in real.items():
            assert drawn[key] == pytest.approx(value, rel=TOLERANCE.get(key, 0.3)), key


def test_um_learns_from_it(reference_data, tmp_path):
    """A short training on part of THUMOS14 beats the commonest class and true classes over whole videos."""
    from um.test import test
    from um.training import Recipe, open_run
    from um.training import fit as train

    out = tmp_path / "thumos14"
    path = reference_data / truth.BENCHMARKS["thumos14"].file
    simulate.simulate("thumos14", path, out, Choice(dims=256, count=120))
    settings = {"num_segments": 64, "embedding_dim": 64, "lr": 3e-3, "iterations": 120, "eval_every": 120}
    settings |= {"margin": 10.0, "alpha": 5e-3, "ema": 0.9}  # 120 steps are too few for an average of 50
    run = open_run(Folder(out), Recipe(Settings.model_validate({"train": settings})))
    train(run, tmp_path / "model", torch.device("cpu"))
    chosen, videos = run.recipe.settings, Folder(out).listed("test")
    last = test(out, tmp_path / "model/last.safetensors", tmp_path / "results", chosen, torch.device("cpu"))
    trivial = evaluate(videos, whole_video(videos), chosen.evaluate)["average_mAP"]
    assert last["average_mAP"] > 1.5 * trivial
    commonest = pd.Series([str(video.labels) for video in videos]).value_counts(normalize=True).max()
    assert last["accuracy"] > 2 * commonest
