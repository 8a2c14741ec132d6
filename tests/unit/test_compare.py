"""`um compare`."""

import html
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.predicted import make
from helpers.tiny import TINY, make_dataset
from markdown_it import MarkdownIt

from um import params
from um.cli import main
from um.datasets import annotations
from um.evaluation.metrics import evaluate, match_predictions
from um.evaluation.submission import read_submission, submission
from um.files import write_json
from um.params import Evaluate
from um.report import bootstrap
from um.report.compare import moves
from um.report.errors import diagnosis, errors
from um.test import test as score
from um.training import Recipe, train


@pytest.fixture
def um(tmp_path, monkeypatch, capsys):
    """A folder with annotations and two systems of two seeds; returns a function that runs um."""
    monkeypatch.chdir(tmp_path)
    videos, _ = make(0, 12)
    entries = {
        v.id: {
            "subset": "test",
            "annotations": [{"label": i.label, "segment": [i.start, i.end]} for i in v.instances],
        }
        for v in videos
    }
    write_json(Path("gt.json"), {"database": entries})
    for name, noise in (("good", 0.1), ("bad", 4.0)):
        for seed in (0, 1):
            rows = make(0, 12, noise + seed)[1]
            rows[["start", "end"]] = rows[["start", "end"]].clip(0)
            write_json(Path(name) / f"seed{seed}/predictions.json", submission(rows, [v.id for v in videos]))

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["um", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def test_two_systems_of_several_seeds(um):
    code, printed, _ = um("compare", "good", "bad", "--annotations", "gt.json", "--out", "found.json")
    assert code == 0
    found = json.loads(Path("found.json").read_text())
    assert [len(found[name]["predictions"]) for name in "ab"] == [2, 2]
    assert found["difference"] == found["a"]["average_mAP"] - found["b"]["average_mAP"]
    assert found["low"] < found["difference"] < found["high"]
    assert found["differ"]
    assert found["p_value"] < 0.05
    for text in (
        f"{100 * found['a']['average_mAP']:.1f}",
        "A: good",
        f"{100 * found['difference']:+.1f}",
        "A and B differ",
    ):
        assert text in printed


def test_scores_are_those_of_um_evaluate_under_the_same_options(um):
    options = ["--annotations", "gt.json", "--protocol", "thumos14", "--tiou", "0.3:0.3:0.1"]
    files = [f"{name}/seed0/predictions.json" for name in ("good", "bad")]
    assert um("compare", *files, *options, "--out", "found.json", "--resamples", "100")[0] == 0
    found = json.loads(Path("found.json").read_text())
    assert (found["protocol"], found["tiou"], found["resamples"]) == ("thumos14", [0.3], 100)
    for name, file in zip("ab", files, strict=True):
        assert um("evaluate", *options, "--predictions", file)[0] == 0
        assert json.loads(Path("metrics.json").read_text())["average_mAP"] == pytest.approx(found[name]["average_mAP"])


def test_equal_inputs_give_equal_bytes_and_no_difference(um):
    for name in ("one.json", "two.json"):
        _, printed, _ = um("compare", "good/seed0", "good/seed0", "--annotations", "gt.json", "--out", name)
        assert "do not differ significantly" in printed
    assert Path("one.json").read_bytes() == Path("two.json").read_bytes()
    assert json.loads(Path("one.json").read_text())["p_value"] == 1


def test_a_dataset_by_name(um):
    Path("params.yaml").write_text("overrides: {clips: {evaluate: {tiou: '0.5:0.5:0.1'}}}\n")
    Path("data/clips").mkdir(parents=True)
    Path("gt.json").rename("data/clips/annotations.json")
    assert um("compare", "good", "bad", "--dataset", "clips", "--out", "found.json")[0] == 0
    assert json.loads(Path("found.json").read_text())["tiou"] == [0.5]


def drop(path: str, *names: str) -> None:
    value = json.loads(Path(path).read_text())
    for name in names:
        del value["results"][name]
    write_json(Path(path), value)


@pytest.mark.parametrize("path", ["good/seed0/predictions.json", "bad/seed1/predictions.json"])
def test_different_videos_are_named(um, path):
    drop(path, "v3", "v7")
    code, _, error = um("compare", "good", "bad", "--annotations", "gt.json", "--out", "found.json")
    assert code == 2
    assert error.count("\n") == 1
    assert error.startswith(f"um: {path}: found no entry for 2 videos (v3, v7)")
    assert not Path("found.json").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere", "bad", "--annotations", "gt.json"], "nowhere: found no such file or folder"),
        (["good", ".", "--annotations", "gt.json"], "neither predictions.json nor seed*/predictions.json"),
        (["good", "bad"], "neither --dataset nor --annotations"),
        (["good", "bad", "--annotations", "gt.json", "--dataset", "demo"], "both --dataset and --annotations"),
        (["good", "bad", "--annotations", "gt.json", "--subset", "val"], "no video of subset 'val'"),
        (["good", "bad", "--annotations", "gt.json", "--protocol", "voc"], "protocol"),
        (["good", "bad", "--annotations", "gt.json", "--resamples", "1"], "resamples"),
    ],
)
def test_bad_input_is_one_line(um, words, expected):
    code, _, error = um("compare", *words)
    assert code == 2
    assert expected in error
    assert error.count("\n") == 1


def test_predictions_for_none_of_the_videos(um):
    for name in ("good", "bad"):
        write_json(Path(name) / "seed0/predictions.json", {"results": {"other": []}})
    code, _, error = um("compare", "good/seed0", "bad/seed0", "--annotations", "gt.json")
    assert code == 2
    assert "none of the annotated videos" in error


def test_published_predictions_against_themselves_moved(reference_data, tmp_path):
    """210 videos, 36,195 predictions: a paired interval is narrow enough to see a tenth of a second."""
    from um.evaluation.metrics import match_predictions
    from um.evaluation.submission import read_submission
    from um.report import bootstrap

    videos = annotations.load(reference_data / "data/thumos14/gt.json").subset("test")
    rows = read_submission(reference_data / "data/published/aicl_thumos14.json").predictions
    late = rows.assign(start=rows["start"] + 0.3, end=rows["end"] + 0.3)
    a, b = (match_predictions(videos, frame, Evaluate()) for frame in (rows, late))
    found = bootstrap.compare([a], [b])
    assert found.a == pytest.approx(evaluate(videos, rows, Evaluate())["average_mAP"])
    assert found.differ
    assert found.interval.low <= found.difference <= found.interval.high


def test_missing_videos_may_be_left_out_as_in_the_evaluation(um):
    for path in Path().glob("*/seed*/predictions.json"):
        content = json.loads(path.read_text())
        first = next(iter(content["results"]))
        content["results"].pop(first)
        write_json(path, content)
    words = ("--annotations", "gt.json", "--missing", "drop", "--out", "d.json")
    code, table, printed = um("compare", "good", "bad", *words)
    assert code == 0, printed
    found = json.loads(Path("d.json").read_text())
    assert (found["num_videos"], found["num_missing"]) == (11, 1)
    assert "1 without an entry, left out" in table
    scored = ("evaluate", "--annotations", "gt.json", "--predictions", "good/seed0/predictions.json")
    counts = []
    for policy in ("error", "drop"):
        code, _, printed = um(*scored, "--missing", policy, "--out", "m.json")
        assert code == 0, printed
        counts.append(json.loads(Path("m.json").read_text())["num_videos"])
    assert counts == [12, 11]


@pytest.fixture
def selections(um):
    """Every seed's model in the places of the workflow; returns the function that runs um."""
    for file in sorted(Path().glob("*/seed*/predictions.json")):
        content = json.loads(file.read_text())
        for selection in ("last", "selected", "best_on_test"):
            content["external_data"] = {"model": {"selection": selection, "iteration": 3, "seed": 0}}
            write_json(file.parent / ("" if selection == "last" else selection) / "predictions.json", content)
    return um


@pytest.mark.parametrize("selection", ["last", "selected", "best_on_test"])
def test_models_of_one_selection_are_pooled_over_seeds(selections, selection):
    words = ("compare", "good", "bad", "--annotations", "gt.json", "--resamples", "100")
    code, printed, error = selections(*words, "--selection", selection, "--out", "found.json")
    assert code == 0, error
    found = json.loads(Path("found.json").read_text())
    inner = "" if selection == "last" else f"{selection}/"
    assert found["a"]["predictions"] == [f"good/seed{seed}/{inner}predictions.json" for seed in (0, 1)]
    assert found["b"]["selection"] == [selection]
    for system in ("A: good", "B: bad"):
        (line,) = (line for line in printed.splitlines() if system in line)
        assert selection in line


def test_the_selection_is_stated_or_unknown(selections, um):
    words = ("--annotations", "gt.json", "--resamples", "100", "--out", "found.json")
    content = json.loads(Path("bad/seed0/predictions.json").read_text())
    write_json(Path("bad/seed0/predictions.json"), content | {"external_data": ["of others"]})
    assert selections("compare", "good/seed0/selected", "bad/seed0", *words)[0] == 0
    found = json.loads(Path("found.json").read_text())
    assert (found["a"]["selection"], found["b"]["selection"]) == (["selected"], ["unknown"])
    assert selections("compare", "good/seed0", "bad/seed0", *words, "--selection", "last")[0] == 0
    found = json.loads(Path("found.json").read_text())
    assert (found["a"]["selection"], found["b"]["selection"]) == (["last"], ["last"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["good", "bad", "--selection", "first"], "--selection first; expected last or selected or best_on_test"),
        (
            ["good/seed0/predictions.json", "bad", "--selection", "selected"],
            "good/seed0/predictions.json: found predictions of the model 'last'; expected 'selected'",
        ),
        (["good/seed0/selected", "bad", "--selection", "selected"], "neither selected/predictions.json nor seed*/sel"),
    ],
)
def test_another_selection_than_asked_for_is_refused(selections, words, expected):
    code, _, error = selections("compare", *words, "--annotations", "gt.json")
    assert code == 2
    assert expected in error
    assert error.count("\n") == 1


WORDS = ("--annotations", "gt.json", "--resamples", "100")
VARIANTS = {
    "plain": {"train": {"ema": 0.0}, "localize": {"nms": "hard"}},
    "minmax": {"localize": {"foreground": "minmax"}},
}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A project with one model each of `clips` and its variant `plain`; `minmax` shares its model with `clips`."""
    root, cpu = tmp_path_factory.mktemp("built"), torch.device("cpu")
    make_dataset(root / "data/clips")
    # JSON is YAML
    write_json(root / "params.yaml", {"variants": VARIANTS, "overrides": {"clips": {"train": TINY}}})
    values = params.load(root / "params.yaml")
    for variant, trained in (("ours", "clips"), ("plain", "clips-plain"), ("minmax", "clips")):
        settings, out = values.of("clips", variant), root / "models" / trained / "seed0"
        if not out.exists():
            train(Recipe(settings, 0, "clips", variant), root / "data/clips", out, cpu)
        result = root / "results" / params.run_name("clips", variant) / "seed0"
        score(root / "data/clips", out / "last.safetensors", result, settings, cpu)
    score(
        root / "data/clips",
        root / "models/clips/seed0/checkpoints",
        root / "results/clips/seed0/best_on_test",
        values.of("clips"),
        cpu,
    )
    return root


@pytest.fixture
def project(um, built, tmp_path, monkeypatch):
    """Compares two runs of a copy of that project, by the command line: the account of what differs, and all output."""
    shutil.copytree(built, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")

    def compare(a: str, b: str, *words: str) -> tuple[dict, str]:
        truth = ("--annotations", str(tmp_path / "project/data/clips/annotations.json"), "--resamples", "100")
        code, printed, error = um("compare", a, b, *truth, "--out", str(tmp_path / "found.json"), *words)
        assert code == 0, error
        return json.loads((tmp_path / "found.json").read_text())["what_differs"], printed

    return compare


def test_the_settings_that_differ_are_those_that_were_changed(project):
    found, printed = project("results/clips", "results/clips-plain")
    assert found["models"] == [
        {"name": "variant", "a": ["ours"], "b": ["plain"]},
        {"name": "train.ema", "a": [0.98], "b": [0.0]},
    ]
    assert found["params"] == [{"name": "localize.nms", "a": ["soft"], "b": ["hard"]}]
    assert (found["results"], found["unknown"], found["same_models"]) == ([], [], False)
    assert found["equal"]["version"] == ["um 0.1.0"]
    assert found["equal"]["seeds"] == [0]
    assert len(found["equal"]["data"][0]) == 64
    for text in ("train.ema", "localize.nms", "today's values", "um 0.1.0"):
        assert text in printed


def test_a_project_elsewhere_is_compared_by_its_own_files(project, tmp_path, monkeypatch):
    before, _ = project("results/clips", "results/clips-plain")
    monkeypatch.chdir(tmp_path)
    found, _ = project(
        "project/results/clips/seed0", str(tmp_path / "project/results/clips-plain/seed0/predictions.json")
    )
    assert found == before
    monkeypatch.chdir(tmp_path / "project/results/clips")
    assert project("seed0", "../clips-plain")[0] == before


def test_checkpoints_and_other_training_data(project):
    make_dataset(Path("data/clips"), seed=1)
    out, settings = Path("models/clips/seed1"), params.load().of("clips")
    train(Recipe(settings, 1, "clips"), Path("data/clips"), out, torch.device("cpu"))
    score(Path("data/clips"), out / "last.safetensors", Path("results/clips/seed1"), settings, torch.device("cpu"))
    found, _ = project("results/clips/seed0/best_on_test", "results/clips/seed1")
    assert [entry["name"] for entry in found["results"]] == ["seeds", "selection"]
    assert [entry["name"] for entry in found["models"]] == ["data"]
    assert found["unknown"] == []


def test_runs_that_share_their_model(project):
    found, printed = project("results/clips", "results/clips-minmax")
    assert (found["models"], found["same_models"], found["unknown"]) == ([], True, [])
    assert [entry["name"] for entry in found["params"]] == ["localize.foreground"]
    assert "the same models" in printed


def test_models_that_are_missing_replaced_or_damaged_are_named(project):
    model, other = Path("models/clips-plain/seed0/last.safetensors"), Path("models/clips/seed0/last.safetensors")

    def reason() -> str:
        found, printed = project("results/clips", "results/clips-plain")
        assert found["models"] is None
        (entry,) = found["unknown"]
        (line,) = (line for line in printed.splitlines() if line.startswith("B: ") and entry["reason"] in line)
        assert (entry["system"], entry["files"][0].split(": ")[0]) == ("b", str(model))
        assert str(model) in line
        return entry["reason"]

    damaged = bytearray(model.read_bytes())
    damaged[-1] ^= 1
    model.write_bytes(damaged)
    assert "not a readable file" in reason()
    shutil.copy(other, model)
    assert "other weights" in reason()
    model.write_bytes(b"not a model")
    assert "other weights" in reason()
    model.unlink()
    assert "no model file" in reason()


def test_params_and_metrics_that_do_not_fit_are_named(project):
    path = Path("results/clips/seed0/metrics.json")
    metrics = json.loads(path.read_text())
    metrics["model"]["weights"] = "0" * 64
    write_json(path, metrics)
    Path("params.yaml").write_text("overrides: {clips: {}}\n")
    found, printed = project("results/clips", "results/clips-plain", "--tiou", "0.5:0.5:0.1")
    assert found["params"] is None
    assert [(entry["system"], entry["files"]) for entry in found["unknown"]] == [
        ("a", [str(path)]),
        ("b", ["results/clips-plain/seed0/predictions.json"]),
    ]
    assert "A: metrics.json states another model" in printed
    assert "B: not a run of a params.yaml" in printed


def test_nothing_is_claimed_about_files_of_others(um):
    assert um("compare", "good", "bad", *WORDS, "--out", "found.json")[0] == 0
    found = json.loads(Path("found.json").read_text())["what_differs"]
    assert (found["models"], found["params"], found["same_models"]) == (None, None, None)
    assert {entry["system"] for entry in found["unknown"]} == {"a", "b"}
    content = json.loads(Path("good/seed0/predictions.json").read_text())
    write_json(Path("good/seed0/predictions.json"), {"version": "VERSION 1.3", "results": content["results"]})
    assert um("compare", "good", "bad", *WORDS, "--out", "found.json")[0] == 0
    (version,) = json.loads(Path("found.json").read_text())["what_differs"]["results"]
    assert version == {"name": "version", "a": [None, "um 0.1.0"], "b": ["um 0.1.0"]}


def runs(name: str) -> list[pd.DataFrame]:
    return [read_submission(Path(name) / f"seed{seed}/predictions.json").predictions for seed in (0, 1)]


@pytest.mark.parametrize("protocol", ["activitynet", "thumos14"])
def test_classes_and_kinds_are_those_of_each_file(um, protocol):
    settings = Evaluate(protocol=protocol, tiou="0.3:0.7:0.2")
    options = ("--protocol", protocol, "--tiou", settings.tiou)
    assert um("compare", "good", "bad", *WORDS, *options, "--out", "found.json")[0] == 0
    found = json.loads(Path("found.json").read_text())
    truth = annotations.load(Path("gt.json"))
    videos = truth.subset("test")
    sizes = [abs(entry["difference"]) for entry in found["classes"]]
    assert sizes == sorted(sizes, reverse=True)
    assert {entry["label"] for entry in found["classes"]} == set("abc")
    *kinds, missed = found["kinds"]
    assert [entry["kind"] for entry in kinds] == list(diagnosis.KINDS)
    for name, system in (("a", "good"), ("b", "bad")):
        scored = [evaluate(videos, rows, settings)["ap"] for rows in runs(system)]
        for entry in found["classes"]:
            assert entry[name] == pytest.approx(np.mean([ap[entry["label"]] for ap in scored]))
        told = [errors.analyse(Path(system) / f"seed{seed}/predictions.json", truth, settings) for seed in (0, 1)]
        for entry in kinds:
            of = [one["kinds"][entry["kind"]] for one in told]
            assert entry[name]["count"] == pytest.approx(np.mean([one["count"] for one in of]))
            assert entry[name]["share"] == pytest.approx(np.mean([one["average_share"] for one in of]))
            assert entry[name]["gain"] == pytest.approx(np.mean([one["gain"] for one in of]))
        assert missed[name]["share"] == pytest.approx(np.mean([one["missed"] for one in told]))
    for entry in found["classes"]:
        assert entry["difference"] == pytest.approx(entry["a"] - entry["b"])
        assert entry["differ"] == (entry["low"] > 0 or entry["high"] < 0)
        assert entry["num_instances"] == sum(i.label == entry["label"] for v in videos for i in v.instances)
    for entry in found["kinds"]:
        for key, value in entry["difference"].items():
            assert value is None or value == pytest.approx(entry["a"][key] - entry["b"][key])


def test_the_resamples_of_the_classes_are_those_of_the_average(um):
    videos = annotations.load(Path("gt.json")).subset("test")
    for stream, name in enumerate(("good", "bad"), 1):
        matched = [moves.run(videos, rows, Evaluate()) for rows in runs(name)]
        plain = [match_predictions(videos, rows, Evaluate()) for rows in runs(name)]
        of_classes = np.nanmean(moves.resampled(matched, 100, stream), axis=0)
        np.testing.assert_allclose(of_classes, bootstrap.resample_runs(plain, 100, stream=stream).mean(axis=1))


def test_a_class_of_one_video_has_no_interval(um):
    relabel("gt.json", "good", "bad", old="c", new="rare", only="v3")
    assert um("compare", "good", "bad", *WORDS, "--out", "found.json")[0] == 0
    found = json.loads(Path("found.json").read_text())["classes"]
    rare = {entry["label"]: entry for entry in found}["rare"]
    assert (rare["num_videos"], rare["low"], rare["high"], rare["differ"]) == (1, None, None, None)
    assert all(entry["low"] is not None for entry in found if entry is not rare)


def relabel(truth: str, *systems: str, old: str, new: str, only: str = "") -> None:
    """Rename a class in the annotations and predictions, of one video or of all."""
    files = [file for name in systems for file in sorted(Path(name).glob("seed*/predictions.json"))]
    for path, key in [(Path(truth), "database"), *((file, "results") for file in files)]:
        content = json.loads(path.read_text())
        for video, entry in content[key].items():
            for one in entry["annotations"] if key == "database" else entry:
                if one["label"] == old and only in ("", video):
                    one["label"] = new
        write_json(path, content)


HOSTILE = r"a|b\|c `d` <img src=x> [e](http://f) @g #1 **h** www.i.com &lt; ~j~ _k_"


def test_markdown_shows_names_as_they_are(um):
    relabel("gt.json", "good", "bad", old="a", new=HOSTILE)
    folder = "bad`|<b> @x *y*"
    Path("bad").rename(folder)
    code, printed, error = um("compare", "good", folder, *WORDS, "--markdown")
    assert code == 0, error
    assert "`" not in printed
    page = MarkdownIt("commonmark").enable("table").render(printed)
    assert re.findall("<(?!/|code|h3|ul|li|p|strong|table|thead|tbody|tr|th|td)", page) == []
    names = [html.unescape(name) for name in re.findall("<code>(.*?)</code>", page)]
    assert {HOSTILE, folder, "good"} <= set(names)
    assert page.count("<table>") == 3  # scores, classes, errors: nothing is known to differ
    for table in re.findall("<table>(.*?)</table>", page, re.DOTALL):
        widths = {len(re.findall("<t[hd]", row)) for row in re.findall("<tr>(.*?)</tr>", table, re.DOTALL)}
        assert len(widths) == 1


def test_json_on_the_screen_is_that_of_the_file(um):
    code, printed, _ = um("compare", "good", "bad", *WORDS, "--json", "--out", "found.json")
    assert code == 0
    assert printed == Path("found.json").read_text("utf-8")
    assert json.loads(printed)["a"]["path"] == "good"
    code, printed, error = um("compare", "good", "bad", *WORDS, "--json", "--markdown")
    assert (code, printed) == (2, "")
    assert "both --markdown and --json" in error


def test_a_comparison_fits_into_a_terminal(project, monkeypatch):
    for name, value in {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    _, printed = project("results/clips", "results/clips-plain")
    lines = re.sub(r"\x1b\[[\d;]*m", "", printed).splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]
    assert any(line.split() == ["train.ema", "0.98", "0.0"] for line in lines)
