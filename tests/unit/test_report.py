"""`um report` on results of a tiny dataset: its numbers are those of the files, and missing files are named."""

import json
import re
import shutil
import statistics
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.tiny import TINY, make_dataset

from um.params import Settings
from um.report.figures.captions import CAPTIONS
from um.report.page import derive

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(evaluate={"tiou": "0.1:0.5:0.2"}, train={**TINY, "held_out": 0.0}).model_dump()
PARAMS = {"datasets": ["tiny"], "seeds": [0, 1], "compare": [], "overrides": {"tiny": SETTINGS}}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A project with two seeds of a tiny dataset, trained and scored."""
    from um.cli import main

    root = tmp_path_factory.mktemp("built")
    make_dataset(root / "data/tiny")
    (root / "datasets/tiny").mkdir(parents=True)
    described = {"title": "Tiny <b>", "provider": "features", "source": "/nowhere"}
    (root / "datasets/tiny/dataset.yaml").write_text(json.dumps(described))
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    patch = pytest.MonkeyPatch()
    patch.chdir(root)
    for seed in (0, 1):
        model, result = f"models/tiny/seed{seed}", f"results/tiny/seed{seed}"
        words = ["--dataset", "tiny", "--seed", str(seed), "--out", model]
        tests = [(f"{model}/last.safetensors", result), (f"{model}/checkpoints", f"{result}/best_on_test")]
        for line in (
            ["train", *words],
            *(["test", "--dataset", "tiny", "--model-file", m, "--out", o] for m, o in tests),
        ):
            patch.setattr("sys.argv", ["um", *line])
            with pytest.raises(SystemExit) as ended:
                main()
            assert not ended.value.code
    patch.undo()
    return root


@pytest.fixture
def project(built, um, tmp_path) -> Path:
    """A copy, in which `um` runs."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def quick(monkeypatch) -> dict[str, object]:
    """Figures are not drawn but for their data: name → what its function was given."""
    from um.report.figures import charts, example, failures
    from um.report.page import report

    given: dict[str, object] = {}
    for module in (charts, failures, example):
        for name in CAPTIONS:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda data, name=name: given.update({name: data}))
    empty = {"svg": b'<svg viewBox="0 0 1 1"></svg>', "png": b""}
    monkeypatch.setattr(report, "drawn", lambda name, draw, png: draw() or empty)
    return given


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data


def test_the_page_shows_the_numbers_of_the_files_and_asks_for_nothing(project, um):
    code, said, printed = um("report")
    assert code == 0, printed
    text = Path("results/report.html").read_text("utf-8")
    page = Page(text)
    assert page.tags.count("svg") == len(CAPTIONS)
    assert "script" not in page.tags
    assert "Tiny <b>" in page.text
    assert "default-src 'none'" in text
    addresses = [value for name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith(("#", "data:")) for value in addresses)
    for seed in (0, 1):
        metrics = json.loads(Path(f"results/tiny/seed{seed}/metrics.json").read_text())
        assert metrics["model"]["weights"] in page.text
        assert f"{100 * metrics['average_mAP']:.1f}" in page.text
    assert f"{len(CAPTIONS)} figures" in said


def test_equal_files_give_equal_bytes(project, um, quick):
    assert um("report", "--figures", "drawn")[0] == 0
    files = [Path("results/report.html"), *Path("drawn").rglob("*.*")]
    names = {f"{name}.{form}" for name in CAPTIONS for form in ("svg", "png")}
    assert {path.name for path in files} == {"report.html", ".um.jsonl", *names}
    before = {path: path.read_bytes() for path in files}
    assert um("report", "--figures", "drawn")[0] == 0
    assert before == {path: path.read_bytes() for path in files}


def test_what_is_missing_is_named(project, um, quick):
    shutil.rmtree("data/tiny/features")
    shutil.rmtree("models/tiny/seed1")
    Path("results/tiny/seed1/predictions.json").unlink()
    code, said, printed = um("report")
    assert code == 0, printed
    for sentence in (
        "No data/tiny/features: magnitudes and examples are left out",
        "Ours: no history.csv of seed 1, left out",
        "Ours: no predictions.json of seed 1, left out",
        "No benchmark table",
    ):
        assert sentence in said
        assert sentence in Page(Path("results/report.html").read_text()).text
    Path("data/tiny/annotations.json").unlink()
    assert um("report")[0] == 0
    text = Path("results/report.html").read_text()
    assert text.count("<figure>") == len(("map_by_tiou", "ap_by_class", "training"))
    shutil.rmtree("models")
    shutil.rmtree("results")
    code, said, printed = um("report")
    assert code == 2
    assert "results: found no metrics.json of 1 dataset (tiny)" in printed
    assert not Path("results").exists()


def test_files_of_others_are_not_replaced(project, um, quick):
    Path("results/report.html").write_text("<!doctype html> mine")
    code, _, printed = um("report")
    assert (code, Path("results/report.html").read_text()) == (2, "<!doctype html> mine")
    assert "results/report.html: found another file" in printed
    Path("drawn/tiny").mkdir(parents=True)
    Path("drawn/tiny/missed.svg").write_text("mine")
    code, _, printed = um("report", "--out", "page.html", "--figures", "drawn")
    assert (code, Path("drawn/tiny/missed.svg").read_text()) == (2, "mine")
    assert "drawn/tiny/missed.svg: found a file that `um report` did not write" in printed
    assert not Path("page.html").exists()


def test_predictions_and_models_must_be_those_of_the_scores(project, um, quick):
    shutil.copy("models/tiny/seed1/last.safetensors", "models/tiny/seed0/last.safetensors")
    code, _, printed = um("report")
    assert code == 2
    assert "models/tiny/seed0/last.safetensors: found weights" in printed
    shutil.copy("results/tiny/seed1/predictions.json", "results/tiny/seed0/predictions.json")
    code, _, printed = um("report")
    assert code == 2
    assert "results/tiny/seed0/predictions.json: found average_mAP" in printed


def test_scores_of_other_thresholds_or_classes_are_refused(project, um):
    path = Path("results/tiny/seed1/metrics.json")
    metrics = json.loads(path.read_text())
    path.with_name("predictions.json").unlink()  # with them, every number is computed again
    path.write_text(json.dumps(metrics | {"ap": dict(list(metrics["ap"].items())[1:])}))
    assert "seed1/metrics.json: found 2 classes; expected those of results/tiny/seed0" in um("report")[2]
    path.write_text(json.dumps(metrics | {"mAP": {"0.10": 0.5}}))
    assert "found 1 scores; expected one for each of 3 thresholds" in um("report")[2]
    path.write_text(json.dumps(metrics | {"tiou": [0.1]}))
    assert "found tiou = [0.1]; expected [0.1, 0.3, 0.5]; hint: run again: um test" in um("report")[2]


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "iteration,test_average_mAP\nx,y\n", "iteration,test_average_mAP\n1,nan\n"]
)
def test_a_history_of_others_is_refused(project, um, text):
    Path("results/tiny/seed0/best_on_test/checkpoints.csv").write_text(text)
    code, _, printed = um("report")
    assert code == 2
    assert "checkpoints.csv: found" in printed
    assert printed.count("\n") == 1


def test_chosen_videos_and_thresholds(project, um, quick):
    assert um("report", "--video", "video_07", "--video", "video_09", "--tiou", "0.3")[0] == 0
    assert [one.name for one in quick["examples"]] == ["video_07", "video_09"]
    assert {tiou for one in quick["precision_recall"] for tiou in one.curves} == {0.3}
    action, background = len(quick["magnitudes"][1].action_N), len(quick["magnitudes"][1].background_N)
    shapes = [np.load(path).shape for path in Path("data/tiny/features/test/rgb").iterdir()]
    assert action + background == sum(length for length, _ in shapes)
    metrics = json.loads(Path("results/tiny/seed1/metrics.json").read_text())
    assert {label: seeds[1] for label, seeds in quick["ap_by_class"]["Ours"].items()} == {
        label: statistics.fmean(values) for label, values in metrics["ap"].items()
    }
    losses = pd.read_csv("models/tiny/seed1/history.csv")
    assert quick["training"][1].losses["uncertainty"].tolist() == losses["uncertainty"].tolist()
    assert "--video video_00" in um("report", "--video", "video_00")[2]
    assert "--tiou 0.4; expected some of 0.1, 0.3, 0.5" in um("report", "--tiou", "0.4")[2]


def test_the_best_median_and_worst_videos_are_chosen():
    assert list(derive.chosen_videos({"a": 0.1, "b": 0.9, "c": 0.5})) == ["b", "c", "a"]
    assert list(derive.chosen_videos({"a": 0.5, "b": 0.5})) == ["a", "b"]
    assert list(derive.chosen_videos({"a": 0.5})) == ["a"]
    assert derive.chosen_videos({}) == {}


def test_precision_and_recall_are_counted_from_the_ranking():
    from helpers.predicted import make

    from um.evaluation.metrics import match_predictions
    from um.params import Evaluate

    videos, rows = make(0)
    for protocol in ("activitynet", "thumos14"):
        matched = match_predictions(videos, rows, Evaluate(protocol=protocol, tiou="0.3:0.5:0.2"))
        for one in derive.ranked(matched, [0.3, 0.5]):
            ap = matched.ap(np.ones((1, len(videos)), int))[one.label][0]
            for h, (recall_R, precision_R) in enumerate(one.curves.values()):
                gain_R = np.diff(recall_R, prepend=0)
                envelope_R = np.maximum.accumulate(precision_R[::-1])[::-1]
                area = gain_R @ (envelope_R if protocol == "activitynet" else precision_R)
                assert area == pytest.approx(ap[h])
        scores = derive.per_video(matched)
        assert set(scores) == {video.id for video in videos}


def test_captions_of_snakemakes_report_are_the_same():
    for name, caption in CAPTIONS.items():
        assert " ".join((ROOT / f"workflow/report/{name}.rst").read_text().split()) == caption.text
        assert len(re.findall(r"\.(\s|$)", caption.text)) == 1  # one sentence
