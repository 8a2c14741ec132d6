"""The command line: bad input is one line and exit code 2, and leaves nothing behind."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny import TINY, make_dataset, options

from um import __version__ as um_version
from um.method.loss import imbalance
from um.params import Evaluate, Localize, Train

FIRST = "features/train/rgb/video_00.npy"


def refused(outcome: tuple[int, str, str], *words: str) -> None:
    code, _, printed = outcome
    assert code == 2, printed
    assert printed.count("\n") == 1
    assert printed.startswith("um: ")
    for word in words:
        assert word in printed


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content["database"])
    path.write_text(json.dumps(content))


def duplicate(path: Path) -> None:
    text = path.read_text()
    path.write_text(text.replace('"video_01"', '"video_00"', 1))


def prefixed_duplicate(path: Path) -> None:
    def change(database):
        database["abcdefghijk"] = database["video_00"]
        database["v_abcdefghijk"] = database["video_00"]

    edit(path, change)


ANNOTATIONS = {
    "missing": (Path.unlink, "annotations.json"),
    "not json": (lambda path: path.write_text("{'database'"), "line 1"),
    "not text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "UTF-16"),
    "empty": (lambda path: path.write_text(""), "line 1"),
    "another form": (lambda path: path.write_text("[]"), "database"),
    "no videos": (lambda path: edit(path, dict.clear), "database"),
    "id twice": (duplicate, "'video_00' twice"),
    "id twice, once with v_": (prefixed_duplicate, "abcdefghijk twice"),
    "segment past the end of the features": (
        lambda path: edit(
            path, lambda d: d["video_00"].pop("duration") and d["video_00"]["annotations"][0].update(segment=[0, 1e4])
        ),
        "video_00",
    ),
    "reversed segment": (
        lambda path: edit(path, lambda d: d["video_00"]["annotations"][0].update(segment=[2, 1])),
        "video_00",
    ),
    "segment before the start": (
        lambda path: edit(path, lambda d: d["video_00"]["annotations"][0].update(segment=[-1, 1])),
        "video_00",
    ),
    "segment NaN": (
        lambda path: edit(path, lambda d: d["video_00"]["annotations"][0].update(segment=[0, float("nan")])),
        "video_00",
    ),
    "segment of three": (
        lambda path: edit(path, lambda d: d["video_00"]["annotations"][0].update(segment=[0, 1, 2])),
        "video_00",
    ),
    "no label": (lambda path: edit(path, lambda d: d["video_00"]["annotations"][0].pop("label")), "label"),
    "no subset": (lambda path: edit(path, lambda d: d["video_00"].pop("subset")), "subset"),
    "no instance in training": (lambda path: edit(path, lambda d: d["video_00"].update(annotations=[])), "video_00"),
    "no test video": (
        lambda path: edit(path, lambda d: [video.update(subset="train") for video in d.values()]),
        "no test videos",
    ),
    "label without video": (lambda path: edit(path, lambda d: d.update(video_99=d["video_00"])), "video_99"),
    "video without label": (lambda path: edit(path, lambda d: d.pop("video_00")), "video_00"),
}


@pytest.mark.parametrize("case", ANNOTATIONS)
def test_wrong_annotations(um, dataset, tmp_path, case):
    change, found = ANNOTATIONS[case]
    change(dataset / "annotations.json")
    refused(um("train", "--data-dir", dataset, "--out", tmp_path / "model", *options()), found)
    assert not (tmp_path / "model").exists()


FEATURES = {
    "missing": (Path.unlink, "video_00"),
    "not an array": (lambda path: path.write_bytes(b"nothing"), "video_00"),
    "torn": (lambda path: path.write_bytes(path.read_bytes()[:-5]), "video_00"),
    "one axis": (lambda path: np.save(path, np.ones(5, np.float32)), "(5,)"),
    "three axes": (lambda path: np.save(path, np.ones((5, 6, 1), np.float32)), "(5, 6, 1)"),
    "integers": (lambda path: np.save(path, np.ones((31, 6), np.int32)), "int32"),
    "no snippet": (lambda path: np.save(path, np.ones((0, 6), np.float32)), "(0, 6)"),
    "another width": (lambda path: np.save(path, np.ones((5, 7), np.float32)), "[6, 7]"),
    "NaN": (lambda path: np.save(path, np.full((31, 6), np.nan, np.float32)), "NaN"),
    "infinite": (lambda path: np.save(path, np.full((31, 6), np.inf, np.float32)), "infinite"),
    "pickled": (lambda path: np.save(path, np.array([[{}]], object), allow_pickle=True), "video_00"),
    "twice": (lambda path: path.rename(path.parents[2] / "test/rgb/video_00.npy") and np.save(path, [[1.0]]), "again"),
}


@pytest.mark.parametrize("case", FEATURES)
def test_wrong_features(um, dataset, tmp_path, case):
    change, found = FEATURES[case]
    change(dataset / FIRST)
    refused(um("train", "--data-dir", dataset, "--out", tmp_path / "model", *options()), found)
    assert not (tmp_path / "model").exists()


def test_streams_of_different_lengths(um, tmp_path):
    root = make_dataset(tmp_path / "both", streams=("rgb", "flow"))
    path = root / "features/train/flow/video_00.npy"
    np.save(path, np.load(path)[:-1])
    refused(um("train", "--data-dir", root, "--out", tmp_path / "model", *options()), "video_00", "equal lengths")


def test_absent_stream(um, dataset, tmp_path):
    refused(um("train", "--data-dir", dataset, "--out", tmp_path / "model", "--streams", "flow"), "flow")


PARAMS = {
    "unknown key": ("train: {num_segment: 5}", "train.num_segment"),
    "unknown section": ("training: {}", "training"),
    "unknown key of an override": ("overrides: {demo: {train: {iteration: 5}}}", "overrides.demo.train.iteration"),
    "unknown section of an override": ("overrides: {demo: {training: {}}}", "training"),
    "text for a number": ("train: {num_segments: 750s}", "train.num_segments = '750s'"),
    "quoted number": ('train: {num_segments: "750"}', "train.num_segments"),
    "fraction for a whole number": ("train: {batch_size: 2.5}", "train.batch_size"),
    "truth value for a number": ("train: {lr: true}", "train.lr"),
    "out of range": ("train: {dropout: 1.0}", "train.dropout"),
    "not finite": ("train: {margin: .nan}", "train.margin"),
    "infinite": ("train: {lr: .inf}", "train.lr"),
    "a range that is none": ('evaluate: {tiou: "0.1-0.7"}', "start:stop:step"),
    "a range backwards": ('evaluate: {tiou: "0.7:0.1:0.1"}', "evaluate.tiou"),
    "not YAML": ("train: [", "line"),
    "a list": ("- train", "params.yaml"),
    "a section that is a number": ("train: 3", "train"),
    "an override that is a number": ("overrides: {demo: {train: 3}}", "overrides.demo.train"),
}


@pytest.mark.parametrize("case", PARAMS)
def test_wrong_params(um, dataset, tmp_path, case):
    text, found = PARAMS[case]
    (tmp_path / "params.yaml").write_text(text)
    refused(um("train", "--data-dir", dataset, "--out", tmp_path / "model"), found)
    assert not (tmp_path / "model").exists()


USAGE = {
    "unknown verb": ["trian"],
    "unknown option": ["train", "--data-dir", "dataset", "--out", "model", "--num-segment", "5"],
    "text for a number": ["train", "--data-dir", "dataset", "--out", "model", "--num-segments", "many"],
    "out of range": ["train", "--data-dir", "dataset", "--out", "model", "--num-segments", "0"],
    "negative seed": ["train", "--data-dir", "dataset", "--out", "model", "--seed", "-2"],
    "no data": ["train", "--out", "model"],
    "no params.yaml": ["train", "--dataset", "demo", "--out", "model"],
    "a file for a folder": ["train", "--data-dir", "dataset/annotations.json", "--out", "model"],
    "unknown device": ["train", "--data-dir", "dataset", "--out", "model", "--device", "abacus"],
    "a device PyTorch cannot use here": ["train", "--data-dir", "dataset", "--out", "model", "--device", "xla"],
    "wrong range": ["test", "--data-dir", "dataset", "--model-file", "x", "--out", "model", "--tiou", "1"],
    "no model": ["test", "--data-dir", "dataset", "--model-file", "x.pkl", "--out", "model"],
    "no option at all": ["test"],
    "no video": ["extract", "--out", "model"],
    "a dataset that is not there": ["download", "--dataset", "kinetics", "--out", "model"],
    "a path for a dataset": ["download", "--dataset", "../datasets", "--out", "model"],
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage(um, dataset, tmp_path, case):
    refused(um(*USAGE[case]))
    assert not (tmp_path / "model").exists()


def test_an_output_folder_that_is_a_file(um, dataset, tmp_path):
    (tmp_path / "model").write_text("mine")
    refused(um("train", "--data-dir", dataset, "--out", tmp_path / "model", *options()), "model")
    assert (tmp_path / "model").read_text() == "mine"


class Malicious:
    def __reduce__(self):
        return Path.write_text, (Path("hacked"), "!")


def make_pickle(path: Path) -> None:
    with path.open("wb") as file:
        pickle.dump({"cas_module.conv.0.weight": Malicious()}, file)


MODELS = {
    "text": (lambda path: path.write_text("weights"), "unreadable weights"),
    "empty": (lambda path: path.write_bytes(b""), "x.pkl"),
    "a folder": (Path.mkdir, "x.pkl"),
    "a plain pickle with code": (make_pickle, "unreadable weights"),
    "a checkpoint with code": (
        lambda path: torch.save({"cas_module.conv.0.weight": Malicious()}, path),
        "unreadable weights",
    ),
    "other keys": (lambda path: torch.save({"weight": torch.ones(1)}, path), "keys weight"),
    "a tensor": (lambda path: torch.save(torch.ones(1), path), "Tensor"),
    "a checkpoint without its classifier": (
        lambda path: torch.save({"cas_module.conv.0.weight": torch.ones(2, 3, 3)}, path),
        "do not fit",
    ),
    "a checkpoint of numbers": (lambda path: torch.save({"cas_module.conv.0.weight": 1.0}, path), "x.pkl"),
}


@pytest.mark.parametrize("case", MODELS)
def test_wrong_model(um, dataset, tmp_path, case):
    make, found = MODELS[case]
    make(tmp_path / "x.pkl")
    outcome = um("test", "--data-dir", dataset, "--model-file", "x.pkl", "--out", "results")
    refused(outcome, found)
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "hacked").exists()


@pytest.fixture
def model(um, dataset) -> Path:
    code, _, printed = um("train", "--data-dir", dataset, "--out", "model", *options())
    assert code == 0, printed
    return Path("model/last.safetensors")


def many_classes(path: Path, number: int) -> None:
    """Annotations of that many classes; the network has an output for each."""

    def change(database):
        instances = database["video_06"]["annotations"]
        instances += [instances[0] | {"label": f"class {other}"} for other in range(number - 3)]

    edit(path, change)


@pytest.mark.parametrize(
    ("classes", "changed", "said"),
    [
        (3, {}, ""),  # fewer than 20: 1, as the demo
        (3, {"loss_scale": 5.0}, "loss_scale is 5, but 3 classes need about 1 "),
        (20, {}, ""),
        (24, {}, ""),
        (40, {}, "loss_scale is 1, but 40 classes need about 2 "),
        (40, {"loss_scale": 2.0}, ""),
        (40, {"loss_scale": 1.7}, ""),
        (40, {"loss_scale": 1.5}, "loss_scale is 1.5, but 40 classes need about 2 "),
        (40, {"loss_scale": 2.5}, "loss_scale is 2.5, but 40 classes need about 2 "),
        (40, {"loss": "summed_ce"}, ""),
    ],
)
def test_a_loss_scale_off_a_twentieth_of_the_classes_is_named(classes, changed, said):
    found = imbalance(Train(**changed), classes)
    assert found.startswith(said)
    assert bool(found) == bool(said)


@pytest.mark.parametrize(("variant", "said"), [("ours", 1), ("softmax", 1), ("official", 0)])
def test_a_loss_scale_that_does_not_fit_is_named_but_for_published_forms(um, dataset, tmp_path, caplog, variant, said):
    many_classes(dataset / "annotations.json", 40)
    (tmp_path / "params.yaml").write_text("variants: {official: {}, softmax: {train: {alpha: 0.0}}}")
    code, _, printed = um("train", "--data-dir", dataset, "--out", "model", "--variant", variant, *options())
    assert code == 0, printed
    assert sum("loss_scale is 1, but 40 classes" in message for message in caplog.messages) == said


def test_train_test_evaluate_and_localize(um, dataset, model):
    code, printed, _ = um("test", "--data-dir", dataset, "--model-file", model, "--out", "results")
    assert code == 0
    metrics = json.loads(Path("results/metrics.json").read_text())
    assert f"{100 * metrics['average_mAP']:.1f}" in printed
    assert metrics["model"].items() > {"selection": "last", "iteration": 6, "seed": 0}.items()

    words = ["--annotations", dataset / "annotations.json", "--predictions", "results/predictions.json"]
    assert um("evaluate", *words, "--subset", "testing", "--out", "again.json")[0] == 0
    again = json.loads(Path("again.json").read_text())
    assert again["mAP"] == metrics["mAP"]
    assert again["ap"] == metrics["ap"]

    words = ("localize", dataset / "features/test", "--model-file", model, "--no-timelines", "--out", "found.json")
    assert um(*words)[0] == 0
    found, tested = (json.loads(Path(p).read_text())["results"] for p in ("found.json", "results/predictions.json"))
    assert found == tested


def test_a_model_of_another_width(um, model, tmp_path):
    other = make_dataset(tmp_path / "other", width=5)
    refused(um("test", "--data-dir", other, "--model-file", model, "--out", "results"), "width 5")
    refused(um("localize", other / "features/test", "--model-file", model, "--out", "found.json"), "width 5")
    assert not Path("found.json").exists()
    assert not Path("results").exists()


def test_localize_of_a_video_by_a_model_of_other_features(um, model):
    """Said before weights are fetched and the video is decoded."""
    Path("film.mp4").write_bytes(b"")
    refused(um("localize", "film.mp4", "--model-file", model, "--out", "found.json"), "i3d-inception", "width 1024")
    assert not Path("found.json").exists()


def test_localize_needs_features_and_class_names(um, model, dataset):
    refused(um("localize", dataset, "--model-file", model), "rgb")
    refused(um("localize", "nowhere", "--model-file", model), "nowhere")
    refused(um("localize", dataset / "features/test", "--model-file", "nothing.safetensors"), "nothing.safetensors")
    state = {
        "cas_module.conv.0.weight": torch.zeros(4, 6, 3),
        "cas_module.conv.0.bias": torch.zeros(4),
        "cas_module.classifier.0.weight": torch.zeros(3, 4, 1),
    }
    torch.save(state, "published.pkl")
    refused(um("localize", dataset / "features/test", "--model-file", "published.pkl"), "class names")


PREDICTIONS = {
    "not json": "x",
    "another form": "[]",
    "no results": "{}",
    "no score": '{"results": {"video_06": [{"label": "run", "segment": [0, 1]}]}}',
    "a score that is no number": '{"results": {"video_06": [{"label": "run", "score": "?", "segment": [0, 1]}]}}',
    "a score that is not finite": '{"results": {"video_06": [{"label": "run", "score": NaN, "segment": [0, 1]}]}}',
    "an endless segment": '{"results": {"video_06": [{"label": "run", "score": 1, "segment": [0, Infinity]}]}}',
    "half a segment": '{"results": {"video_06": [{"label": "run", "score": 1, "segment": [0]}]}}',
    "a list of videos": '{"results": []}',
    "a number for a video": '{"results": {"video_06": 3}}',
    "a video twice": '{"results": {"video_06": [], "video_06": []}}',
    "a reversed segment": '{"results": {"video_06": [{"label": "run", "score": 1, "segment": [2, 1]}]}}',
}


@pytest.mark.parametrize("case", PREDICTIONS)
def test_wrong_predictions(um, dataset, tmp_path, case):
    (tmp_path / "predictions.json").write_text(PREDICTIONS[case])
    words = ["--annotations", dataset / "annotations.json", "--predictions", "predictions.json"]
    refused(um("evaluate", *words, "--out", "out/metrics.json"), "predictions.json")
    assert not (tmp_path / "out").exists()


def test_evaluate_an_unknown_subset(um, dataset, tmp_path):
    (tmp_path / "predictions.json").write_text('{"results": {}}')
    words = ["--annotations", dataset / "annotations.json", "--predictions", "predictions.json"]
    refused(um("evaluate", *words, "--subset", "holdout"), "holdout", "test, train")


def test_evaluate_annotations_without_a_test_subset(um, dataset, tmp_path):
    edit(dataset / "annotations.json", lambda d: [video.update(subset="train") for video in d.values()])
    (tmp_path / "predictions.json").write_text('{"results": {}}')
    words = ["--annotations", dataset / "annotations.json", "--predictions", "predictions.json"]
    refused(um("evaluate", *words), "annotations.json")


def test_no_predictions_at_all_score_zero(um, dataset, tmp_path):
    (tmp_path / "predictions.json").write_text('{"results": {}}')
    words = ["--annotations", dataset / "annotations.json", "--predictions", "predictions.json"]
    code, out, _ = um("evaluate", *words, "--json")
    assert (code, out) == (0, Path("metrics.json").read_text())
    assert json.loads(Path("metrics.json").read_text())["average_mAP"] == 0


def test_every_hyper_parameter_is_an_option_with_its_choices_and_default(um, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    for verb, sections in {"train": [Train], "test": [Localize, Evaluate], "localize": [Localize]}.items():
        _, said, _ = um(verb, "--help")
        for section in sections:
            for name in section.model_fields:
                assert f"--{name.replace('_', '-')}" in said
        assert ("<mean_bce|summed_ce>" in said) == (verb == "train")  # um test takes them, too
        assert ("<soft|hard>" in said) == (verb != "train")
    assert re.search(r"--nms-iou .*default: \(0\.6\)", said)


def test_version_and_help(um):
    assert um("--version")[:2] == (0, f"um {um_version}\n")
    assert um("-h")[1] == um("--help")[1] != ""
    assert um("train", "-h")[1] == um("train", "--help")[1] != ""


@pytest.mark.parametrize("flags", [["-q"], ["--quiet"]])
def test_quiet_leaves_results_and_errors(um, dataset, flags):
    words = ["train", "--data-dir", dataset, *options(TINY), "--out", "model"]
    assert um(*words)[2] != ""
    assert um(*words, *flags)[1:] == ("", "")
    assert um(*flags, *words, "--seed", 1)[1:] == ("", "")
    (dataset / FIRST).unlink()
    refused(um(*words, *flags), "video_00")


def test_the_installed_command_behaves_the_same(dataset, tmp_path):
    command = [Path(sys.executable).with_name("um"), "train", "--data-dir", dataset, "--out", tmp_path / "model"]
    (dataset / FIRST).unlink()
    ended = subprocess.run([*command, *options(TINY)], capture_output=True, text=True, cwd=tmp_path)
    refused((ended.returncode, ended.stdout, ended.stderr), "video_00")
    assert not (tmp_path / "model").exists()


def relabel(root: Path, subset: str, **names: str) -> None:
    def change(database):
        for entry in database.values():
            for item in entry["annotations"] if entry["subset"] == subset else ():
                item["label"] = names.get(item["label"], item["label"])

    edit(root / "annotations.json", change)


def test_a_model_of_other_labels_is_refused(um, dataset, model):
    relabel(dataset, "test", jump="leap", run="dash")
    outcome = um("test", "--data-dir", dataset, "--model-file", model, "--out", "results")
    refused(outcome, "annotations.json: found 2 classes (dash, leap)", str(model), "3 classes (jump, run, throw)")
    assert not Path("results").exists()


def test_ambiguous_is_no_class_to_the_protocol_that_ignores_it(um, dataset, model):
    edit(
        dataset / "annotations.json",
        lambda d: [
            v["annotations"].append(dict(v["annotations"][0], label="Ambiguous"))
            for v in d.values()
            if v["subset"] == "test"
        ],
    )
    words = ("test", "--data-dir", dataset, "--model-file", model, "--out", "results")
    refused(um(*words), "1 class (Ambiguous)")
    assert um(*words, "--protocol", "thumos14")[0] == 0


def test_classes_that_cannot_be_learnt_are_said_in_training(um, dataset, caplog):
    words = ("train", "--data-dir", dataset, "--out", "model", *options())
    assert um(*words)[0] == 0
    assert "cannot be learnt" not in caplog.text
    relabel(dataset, "test", run="dash")
    assert um(*words)[0] == 0
    assert "no training video for 1 class (dash) of the test videos, which cannot be learnt" in caplog.text


def test_simulated_features_are_named_wherever_a_number_appears(um, dataset, model, caplog):
    words = ("test", "--data-dir", dataset, "--model-file", model, "--out", "real")
    assert "SIMULATED" not in um(*words)[1]
    assert json.loads(Path("real/metrics.json").read_text())["simulated"] is False
    real = dataset.parent / "real_dataset"
    shutil.copytree(dataset, real)
    (dataset / "features/spec.json").write_text('{"simulated": true, "window": 16, "fps": 25}')

    assert um("train", "--data-dir", dataset, "--out", "simulated", *options())[0] == 0
    assert "SIMULATED" in caplog.text
    trained = Path("simulated/last.safetensors")
    # on simulated features, by a model of simulated features, and both
    for root, file in ((dataset, model), (real, trained), (dataset, trained)):
        code, printed, _ = um("test", "--data-dir", root, "--model-file", file, "--out", "results")
        assert code == 0
        assert "SIMULATED features" in printed
        assert json.loads(Path("results/metrics.json").read_text())["simulated"] is True
    truth = ("--annotations", dataset / "annotations.json")
    _, printed, _ = um("evaluate", *truth, "--predictions", "results/predictions.json")
    assert "SIMULATED features" in printed
    assert json.loads(Path("metrics.json").read_text())["simulated"] is True
    _, printed, _ = um("compare", "real", "results", *truth, "--resamples", 100)
    (a,) = (line for line in printed.splitlines() if "A: real" in line)
    (b,) = (line for line in printed.splitlines() if "B: results" in line)
    assert "SIMULATED" in b
    assert "SIMULATED" not in a
    words = ("localize", dataset / "features/test", "--model-file", trained, "--no-timelines", "--out", "found.json")
    assert um(*words)[0] == 0
    assert json.loads(Path("found.json").read_text())["external_data"]["simulated"] is True


def test_the_selection_of_the_model_is_printed(um, dataset, model):
    test = ("test", "--data-dir", dataset, "--out", "results", "--model-file")
    truth = ("--annotations", dataset / "annotations.json", "--predictions", "results/predictions.json")
    assert "model: last (iteration 6, seed 0)" in um(*test, model)[1]
    assert "model: last (iteration 6, seed 0)" in um("evaluate", *truth)[1]
    assert "model: best_on_test (iteration " in um(*test, model.with_name("checkpoints"))[1]
    torch.manual_seed(0)
    state = {
        "cas_module.conv.0.weight": torch.randn(4, 6, 3),
        "cas_module.conv.0.bias": torch.zeros(4),
        "cas_module.classifier.0.weight": torch.randn(3, 4, 1),
    }
    torch.save(state, "published.pkl")
    assert "model: selection unknown (published checkpoint)" in um(*test, "published.pkl")[1]
    assert json.loads(Path("results/metrics.json").read_text())["model"] == {"selection": "unknown"}
    Path("results/predictions.json").write_text('{"results": {"video_06": []}, "external_data": {"used": false}}')
    assert "model: selection unknown" in um("evaluate", *truth)[1]
    assert "model" not in json.loads(Path("metrics.json").read_text())


@pytest.mark.parametrize(("policy", "become", "videos"), [("drop", "left out", 3), ("error", "counted as misses", 4)])
def test_videos_without_an_entry_are_counted_by_evaluate(um, dataset, caplog, policy, become, videos):
    results = {f"video_0{number}": [] for number in (6, 8, 9)}
    Path("predictions.json").write_text(json.dumps({"results": results}))
    words = ("--annotations", dataset / "annotations.json", "--predictions", "predictions.json", "--missing", policy)
    _, printed, _ = um("evaluate", *words)
    metrics = json.loads(Path("metrics.json").read_text())
    assert (metrics["num_videos"], metrics["num_missing"], metrics["missing"]) == (videos, 1, ["video_07"])
    assert f"1 missing, {become}" in printed
    assert "no entry for 1 video (video_07)" in caplog.text


def test_json_holds_what_the_lines_say(um, dataset):
    code, out, _ = um("data", "status", "--data-dir", dataset, "--json")
    facts = json.loads(out)
    assert (code, facts["annotations"]["videos"], facts["videos"]) == (0, {"test": 4, "train": 6}, None)
    assert (facts["features"]["rgb"], facts["features"]["test"], facts["sources"]) == (10, 4, [])
    code, out, _ = um("data", "check", dataset / "annotations.json", "--json")
    assert (code, json.loads(out)["videos"], json.loads(out)["errors"]) == (0, 10, [])
    edit(dataset / "annotations.json", lambda d: d["video_00"]["annotations"][0].update(segment=[3.0, 1.0]))
    code, out, _ = um("data", "check", dataset / "annotations.json", "--json")
    error = next(each for each in json.loads(out)["errors"] if each["what"] == "reversed")
    assert (code, error["count"], error["where"]) == (1, 1, ["video_00"])
    code, out, _ = um("doctor", "--json")  # an empty folder: no checkout
    states = {each["what"]: each["state"] for each in json.loads(out)}
    assert (code, states["checkout"], states["python"], "git" in states) == (0, "note", "ok", False)
