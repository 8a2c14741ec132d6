"""`um compare`."""

import json
import sys
from pathlib import Path

import pytest
from helpers.predicted import make

from um.cli import main
from um.datasets import annotations
from um.evaluation.metrics import evaluate
from um.evaluation.submission import submission
from um.files import write_json
from um.params import Evaluate


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
