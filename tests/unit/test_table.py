"""The benchmark table, from metrics that `um.evaluation.metrics` computes."""

import contextlib
import csv
import io
import json
import re
import shutil
import statistics
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from um.datasets import annotations
from um.errors import BadInput
from um.evaluation.metrics import evaluate, match_predictions
from um.evaluation.submission import read_submission, submission
from um.files import write_json
from um.params import Params, Variation
from um.report import bootstrap
from um.report.table import benchmark, render

NONE = benchmark.Extra()

SEEDS = [0, 1, 2]
CONTROLS = ["Random segments", "Whole video", "True segments, our classes", "Our segments, true classes"]
SPEC = {"backbone": "i3d-inception", "streams": "rgb", "fps": 25.0, "window": 16, "weights_sha256": {"rgb": "ab" * 32}}


def make_annotations(path: Path) -> None:
    rng = np.random.default_rng(0)
    database = {}
    for number in range(9):
        starts = np.sort(rng.uniform(0, 50, 3)).round(2)
        database[f"clip{number}"] = {
            "subset": "train" if number < 4 else "test",
            "duration": 60.0,
            "annotations": [
                {"label": "ab"[number % 2], "segment": [start, round(start + rng.uniform(1, 9), 2)]} for start in starts
            ],
        }
    write_json(path, {"database": database})


def test_tables_of_others_are_not_replaced(tmp_path, monkeypatch):
    for name in ("benchmark.csv", "benchmark.html", "benchmark.md", "benchmark.tex"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("<!doctype html> mine")
        with pytest.raises(BadInput, match=f"{name}: found another file"):
            render.write(folder, "benchmark", [], "")
        assert [path.read_text() for path in folder.iterdir()] == ["<!doctype html> mine"]


def make_run(dataset: str, values: Params, seed: int, selection: str, run: str = "", left_out: str = "") -> None:
    """Real predictions and metrics: the ground truth moved at random."""
    videos = annotations.load(Path("data") / dataset / "annotations.json").subset("test")
    videos = [video for video in videos if video.id != left_out]
    rng = np.random.default_rng([seed, len(selection), len(run)])
    rows = annotations.frame(videos)
    rows["start"] += rng.normal(0, 1.0, len(rows))
    rows["end"] += rng.normal(0, 1.0, len(rows))
    rows["start"], rows["end"] = rows[["start", "end"]].min(axis=1), rows[["start", "end"]].max(axis=1)
    rows["score"] = rng.uniform(size=len(rows))
    model = {"selection": selection, "iteration": 10, "seed": seed}
    metrics = evaluate(videos, rows, values.of(dataset).evaluate) | {"accuracy": 0.5, "model": model}
    path = metrics_file(run or dataset, seed, selection)
    write_json(path, metrics)
    write_json(path.with_name("predictions.json"), submission(rows, [video.id for video in videos]))


def metrics_file(dataset: str, seed: int, selection: str) -> Path:
    folder = Path("results") / dataset / f"seed{seed}"
    return (folder if selection == "last" else folder / selection) / "metrics.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with two datasets of different tIoU sets, and its params."""
    root = tmp_path_factory.mktemp("made")
    with contextlib.chdir(root):
        return root, make_project()


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """A copy to change; returns its params."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return made[1]


@pytest.fixture(scope="module")
def written(made, tmp_path_factory):
    """The project with its tables."""
    root = shutil.copytree(made[0], tmp_path_factory.mktemp("written"), dirs_exist_ok=True)
    with contextlib.chdir(root):
        return root, write(made[1])


@pytest.fixture
def forms(written, monkeypatch):
    """Its tables, to be read alone."""
    monkeypatch.chdir(written[0])
    return written[1]


def make_project() -> Params:
    values = Params(
        datasets=["thumos14", "clips"], seeds=SEEDS, overrides={"clips": {"evaluate": {"tiou": "0.5:0.95:0.05"}}}
    )
    for dataset, title in (("thumos14", "THUMOS'14"), ("clips", "A & B_c <50 %>")):
        data = Path("data") / dataset
        make_annotations(data / "annotations.json")
        write_json(data / "features" / "spec.json", SPEC)
        there = annotations.load(data / "annotations.json").subset("test")
        write_json(data / "features" / "index.json", {"files": {f"test/rgb/{video.id}.npy": {} for video in there}})
        folder = Path("datasets") / dataset
        folder.mkdir(parents=True)
        (folder / "dataset.yaml").write_text(json.dumps({"title": title, "provider": "local", "source": "/nowhere"}))
        for seed in values.seeds:
            for selection in ("last", "best_on_test"):
                make_run(dataset, values, seed, selection)
    return values


def table_of(values: Params, datasets, out="results", variant="ours", extra=NONE) -> None:
    def rows(dataset: str, which: str) -> render.Group:
        return benchmark.rows(Path("results"), dataset, values, which, bool(extra.others))

    benchmark.write(rows, datasets, values, Path(out), variant, extra)


def write(values: Params, datasets=("thumos14", "clips")) -> dict[str, str]:
    table_of(values, datasets)
    return {form: Path(f"results/benchmark.{form}").read_text("utf-8") for form in ("csv", "md", "html", "tex")}


class Cells(HTMLParser):
    """Rows of (text, attributes) of a well-formed document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[tuple[str, dict]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag == "meta":
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(("", dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            text, attributes = self.rows[-1][-1]
            self.rows[-1][-1] = text + data, attributes


def test_means_and_spread_are_those_of_the_metrics_files(forms):
    frame = pd.read_csv("results/benchmark.csv")
    for dataset in ("thumos14", "clips"):
        for method, selection in (("Ours (last)", "last"), ("Ours (best on test)", "best_on_test")):
            files = [json.loads(metrics_file(dataset, seed, selection).read_text()) for seed in SEEDS]
            rows = frame[(frame["dataset"] == dataset) & (frame["method"] == method)]
            for tiou in files[0]["tiou"]:
                row = rows[(rows["metric"] == "mAP") & np.isclose(rows["tiou"], tiou)].squeeze()
                numbers = [file["mAP"][f"{tiou:.2f}"] for file in files]
                assert row["mean"] == statistics.fmean(numbers)
                assert row["sd"] == statistics.stdev(numbers)
                assert row["n"] == len(SEEDS)
            average = rows[rows["metric"] == "average_mAP"].squeeze()
            assert average["mean"] == statistics.fmean(file["average_mAP"] for file in files)
    assert not frame.duplicated(["dataset", "method", "metric", "tiou"]).any()


def test_intervals_are_those_of_the_bootstrap_and_of_the_average_alone(made, forms):
    frame = pd.read_csv("results/benchmark.csv")
    bounded = frame[frame["low"].notna()]
    assert set(bounded["metric"]) == {"average_mAP"}
    assert set(bounded["method"]) == {"Ours (last)", "Ours (best on test)", *CONTROLS[:2]}
    assert ((bounded["low"] <= bounded["mean"]) & (bounded["mean"] <= bounded["high"])).all()
    videos = annotations.load(Path("data/clips/annotations.json")).subset("test")
    evaluation = made[1].of("clips").evaluate
    files = [metrics_file("clips", seed, "last").with_name("predictions.json") for seed in SEEDS]
    runs = [match_predictions(videos, read_submission(file).predictions, evaluation) for file in files]
    row = bounded[(bounded["dataset"] == "clips") & (bounded["method"] == "Ours (last)")].squeeze()
    assert (row["low"], row["high"]) == pytest.approx(bootstrap.average_map_interval(runs), abs=1e-15)
    assert f">{100 * row['low']:.1f} to {100 * row['high']:.1f}<" in forms["html"]
    assert "1,000 bootstrap resamples" in forms["md"]


def test_predictions_that_are_not_those_of_the_metrics_are_refused(project):
    path = metrics_file("clips", 1, "last").with_name("predictions.json")
    shutil.copy(metrics_file("clips", 0, "last").with_name("predictions.json"), path)
    with pytest.raises(BadInput, match=r"seed1/predictions.json: .* as in metrics.json beside it; hint: run again"):
        write(project, ["clips"])
    path.unlink()
    with pytest.raises(BadInput, match=r"seed1/predictions.json: .*no such file"):
        write(project, ["clips"])


def test_csv_survives_a_round_trip(forms):
    text = forms["csv"]
    assert pd.read_csv("results/benchmark.csv").to_csv(index=False, lineterminator="\n") == text
    heads = next(csv.reader(text.splitlines()))
    figure = ["dataset", "method", "metric", "tiou", "mean", "sd", "low", "high", "n", "source"]
    assert heads == [*figure, "weights", "hardware", "libraries"]


def test_equal_inputs_give_equal_bytes(forms, project):
    assert write(project) == forms


def test_html_has_true_two_row_heads_and_every_method_of_the_csv(forms):
    """The field's table, in which two datasets are not built, and the other dataset's."""
    rows = Cells(forms["html"]).rows
    starts = [number for number, row in enumerate(rows) if row[0][0] == "Method"]
    assert len(starts) == 2
    tables = rows[: starts[1]], rows[starts[1] :]
    frame = pd.read_csv("results/benchmark.csv")
    widths = {"THUMOS'14": 9, "ActivityNet 1.2": 4, "ActivityNet 1.3": 4}, {"A & B_c <50 %>": 5}
    for (titles, columns, *body), expected in zip(tables, widths, strict=True):
        assert [cell[0] for cell in titles] == ["Method", *expected]
        assert [cell[1].get("colspan") for cell in titles[1:]] == [str(width) for width in expected.values()]
        assert titles[0][1]["rowspan"] == "2"
        assert {len(row) for row in body} == {1 + sum(expected.values())}
        assert len(columns) == sum(expected.values())
    clips, (_, columns, *body) = frame[frame["dataset"] == "clips"], tables[1]
    assert [cell[0] for cell in columns] == ["0.50", "0.75", "0.95", "average", "95 % interval"]
    assert {row[0][0] for row in body} == set(clips["method"])
    first = clips[(clips["method"] == "Ours (last)") & (clips["metric"] == "average_mAP")].iloc[0]
    cells = {row[0][0]: [text for text, _ in row[1:]] for row in body}
    assert cells["Ours (last)"][3] == f"{100 * first['mean']:.1f} ± {100 * first['sd']:.1f} (3)"
    field = {row[0][0]: [text for text, _ in row[1:]] for row in tables[0][2:]}
    assert field["Paper"][9:13] == ["41.2", "25.6", "6.0", "25.9"]
    assert field["Ours (last)"][9:] == ["–"] * 8


def test_the_best_of_each_column_is_bold_among_models(forms):
    text = forms["html"]
    frame = pd.read_csv("results/benchmark.csv").query("dataset == 'thumos14' and metric == 'average_mAP'")
    honest = frame[frame["method"].isin(["Ours (last)", "Paper", "Official code", "Seed"])].set_index("method")["mean"]
    bold = re.findall(r"<td>([^<]+)</td>(?:(?!</tr>).)*?<b>", text, re.DOTALL)
    assert honest.idxmax() in bold
    assert not {"Ours (best on test)", *CONTROLS} & set(bold)


def test_models_are_named_by_path_and_weights(project):
    for seed in SEEDS:
        path = metrics_file("clips", seed, "last")
        for file in (path, path.with_name("predictions.json")):
            content = json.loads(file.read_text())
            place = content if file == path else content["external_data"]
            place["model"] = json.loads(path.read_text())["model"] | {"weights": f"{seed}" * 64}
            write_json(file, content)
    forms = write(project)
    named = "models/clips/*/last.safetensors: 00000000 11111111 22222222"
    assert named in forms["html"]
    row = pd.read_csv("results/benchmark.csv").query("dataset == 'clips' and method == 'Ours (last)'").iloc[0]
    assert row["weights"] == " ".join(str(seed) * 64 for seed in SEEDS)
    assert row["libraries"].startswith("python 3.")


def test_markdown_holds_the_same_tables(forms):
    assert Cells(forms["md"]).rows == Cells(forms["html"]).rows


def test_tex_has_true_two_row_heads_and_as_many_cells_in_every_row(forms, tmp_path):
    text = forms["tex"]
    assert r"A \& B\_c $<$50 \%$>$" in text
    parts, widths = text.split(r"\begin{table*}")[1:], ([9, 4, 4], [5])
    for number, (part, groups) in enumerate(zip(parts, widths, strict=True), 1):
        columns = re.search(r"\\begin\{tabular\}\{(lc*)\}", part)[1]
        assert len(columns) == 1 + sum(groups)
        lines = [line for line in part.splitlines() if line.endswith(r"\\") and " & " in line and "multi" not in line]
        assert {line.replace(r"\&", "").count("&") for line in lines} == {len(columns) - 1}
        assert re.findall(r"\\multicolumn\{(\d+)\}", part) == [str(width) for width in groups]
        assert rf"\label{{tab:benchmark{number}}}" in part
    assert re.findall(r"\\cmidrule\(lr\)\{(\d+-\d+)\}", text) == ["2-10", "11-14", "15-18", "2-6"]
    opened, closed = (len(re.findall(rf"(?<!\\){re.escape(brace)}", text)) for brace in "{}")
    assert opened == closed
    if shutil.which("pdflatex"):
        source = tmp_path / "all.tex"
        source.write_text(
            rf"\documentclass{{article}}\usepackage{{booktabs,graphicx}}\begin{{document}}{text}\end{{document}}"
        )
        subprocess.run(["pdflatex", "-halt-on-error", source], check=True, cwd=tmp_path, capture_output=True)


@pytest.mark.parametrize("width", [80, 160])
def test_a_narrow_terminal_gets_a_narrow_table(project, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    write(project)
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= width
    assert ("interval" in "".join(lines)) == (width == 160)
    assert any(line.lstrip(" │").startswith("True segments, our classes ") for line in lines)  # one line per row


def test_published_rows_appear_only_for_their_dataset(forms, project):
    frame = pd.read_csv(io.StringIO(forms["csv"]))
    published = frame[frame["method"].isin(["Paper", "Official code", "Seed"])]
    assert set(published["dataset"]) == {"thumos14", "activitynet1.2", "activitynet1.3"}
    averages = published.query("metric == 'average_mAP' and dataset == 'thumos14'").set_index("method")["mean"]
    assert averages.to_dict() == {"Paper": 0.419, "Official code": 0.404, "Seed": 0.361}
    assert published["source"].notna().all()
    assert "Paper" not in write(project, ["clips"])["csv"]


def test_later_methods_have_their_averages_on_request(forms, project):
    table_of(project, ["thumos14"], "more", extra=benchmark.Extra(later=True))
    frame = pd.read_csv("more/benchmark.csv")
    averages = frame[frame["metric"] == "average_mAP"].set_index(["dataset", "method"])["mean"]
    assert averages["thumos14", "CO2-Net (2021)"] == 0.446
    assert averages["activitynet1.2", "CO2-Net (2021)"] == 0.264
    assert ("activitynet1.3", "CO2-Net (2021)") not in averages
    assert set(frame[frame["method"] == "CO2-Net (2021)"]["metric"]) == {"average_mAP"}
    assert Path("more/benchmark.md").read_text().count("Later methods: github.com/") == 3
    assert "CO2-Net" not in forms["csv"]


def test_a_published_average_stands_only_under_its_own_thresholds(project):
    narrow = project.model_copy(update={"overrides": {"thumos14": {"evaluate": {"tiou": "0.3:0.7:0.1"}}}})
    for seed in SEEDS:
        for selection in ("last", "best_on_test"):
            make_run("thumos14", narrow, seed, selection)
    write(narrow, ["thumos14"])
    frame = pd.read_csv("results/benchmark.csv")
    paper = frame[(frame["method"] == "Paper") & (frame["dataset"] == "thumos14")]
    assert set(paper["metric"]) == {"mAP"}
    assert paper["tiou"].tolist() == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.7])


def test_a_single_seed_has_no_spread(project):
    forms = write(project.model_copy(update={"seeds": [1]}))
    assert pd.read_csv("results/benchmark.csv")["sd"].isna().all()
    assert not any("±" in text for cell in Cells(forms["html"]).rows for text, _ in cell)


def test_the_notes_state_population_seeds_features_and_selection(forms):
    text = forms["md"]
    videos = annotations.load(Path("data/clips/annotations.json")).subset("test")
    assert f"{len(videos)} videos and {sum(len(v.instances) for v in videos)} instances" in text
    assert "n = 3 training seeds (0, 1, 2)" in text
    assert "i3d-inception, rgb, 25 fps, 16-frame snippets, weights sha256 abababababab" in text
    assert "not an honest score" in text


def test_whole_video_is_exact_where_one_instance_fills_the_video(project):
    database = {
        f"clip{i}": {
            "subset": ["train", "test"][i % 2],
            "duration": 10.0,
            "annotations": [{"label": "a", "segment": [0.0, 10.0]}],
        }
        for i in range(4)
    }
    write_json(Path("data/clips/annotations.json"), {"database": database})
    there = {f"test/rgb/clip{i}.npy": {} for i in (1, 3)}
    write_json(Path("data/clips/features/index.json"), {"files": there})
    for seed in SEEDS:
        for selection in ("last", "best_on_test"):
            make_run("clips", project, seed, selection)
    write(project, ["clips"])
    frame = pd.read_csv("results/benchmark.csv")
    assert (frame[frame["method"] == "Whole video"]["mean"] == 1.0).all()


def test_a_missing_file_is_named_with_the_command_that_makes_it(project):
    path = metrics_file("clips", 2, "best_on_test")
    path.unlink()
    with pytest.raises(BadInput) as error:
        write(project)
    assert str(path) in str(error.value)
    model = "models/clips/seed2/checkpoints/index.json"
    command = f"um test --dataset clips --model-file {model} --out results/clips/seed2/best_on_test"
    assert command in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(Path("results").glob("*benchmark*"))


@pytest.mark.parametrize(
    "change",
    [
        {"num_videos": 4},
        {"tiou": [0.5]},
        {"model": {"selection": "best_on_test", "iteration": 10, "seed": 0}},
        {"model": {"selection": "last", "iteration": 10, "seed": 1}},
        {"model": {}},
    ],
)
def test_metrics_of_another_model_or_evaluation_are_refused(project, change):
    path = metrics_file("thumos14", 0, "last")
    write_json(path, json.loads(path.read_text()) | change)
    with pytest.raises(BadInput, match="run again: um test"):
        write(project)


def edited(change) -> Path:
    path = metrics_file("clips", 1, "last")
    metrics = json.loads(path.read_text())
    change(metrics)
    path.write_text(json.dumps(metrics))
    return path


def put(*keys):
    *outer, last, value = keys

    def change(metrics):
        for key in outer:
            metrics = metrics[key]
        metrics[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (put("average_mAP", 0.5), "found average_mAP = 0"),
        (put("mAP", "0.50", 0.25), "found mAP.0.50 = 0"),
        (put("mAP", "0.10", 0.25), "found mAP.0.10 = None; expected 0.25"),
        (put("ap", "a", 3, 0.125), "found ap.a.3 = 0"),
        (put("ap", "a", [0.5]), "found ap.a = [0"),
        (put("ap", "zebra", [0.5] * 10), "found ap.zebra = None"),
        (put("num_predictions", 3), "found num_predictions = 15; expected 3"),
        (put("num_unlisted", 3), "found num_unlisted = 0; expected 3"),
        (put("missing", ["clip8"]), "found missing.0 = |found missing = []; expected ['clip8']"),
        (put("num_missing", 2), "found num_missing = 0; expected 2"),
        (put("missing_policy", "drop"), "found missing_policy = 'error'; expected 'drop'"),
        (put("accuracy", 0.75), "found accuracy = 0.6; expected 0.75"),
        (put("accuracy", 0.0), "found accuracy = 0.6; expected 0"),
    ],
)
def test_every_number_of_the_metrics_is_that_of_the_predictions(project, change, told):
    for seed in SEEDS:  # what um test writes: the labels, of which three in five are right
        path = metrics_file("clips", seed, "last")
        label(path, 0.6)
    path = edited(change)
    with pytest.raises(BadInput) as error:
        write(project, ["clips"])
    line = str(error.value)
    assert line.startswith(f"{path.with_name('predictions.json')}: ")
    assert any(part in line for part in told.split("|"))
    assert ", as in metrics.json beside it; hint: run again: um test --dataset clips --model-file " in line


def label(path: Path, accuracy: float) -> None:
    """Add the labels of every video to predictions, and the accuracy that they have to the metrics."""
    file = path.with_name("predictions.json")
    content = json.loads(file.read_text())
    names = sorted(content["results"])
    right = round(accuracy * len(names))
    truth = annotations.load(Path("data/clips/annotations.json")).videos
    content["external_data"]["labels"] = {n: truth[n].labels if i < right else [] for i, n in enumerate(names)}
    write_json(file, content)
    write_json(path, json.loads(path.read_text()) | {"accuracy": accuracy})


def test_without_stored_labels_the_segments_bound_the_accuracy(project):
    """Another class than its own was found in one video of five, which was not labelled right."""
    path = metrics_file("clips", 1, "last")
    file = path.with_name("predictions.json")
    content = json.loads(file.read_text())
    for row in content["results"]["clip5"]:
        row["label"] = "a"  # it has b
    write_json(file, content)
    rows = read_submission(file).predictions
    videos = annotations.load(Path("data/clips/annotations.json")).subset("test")
    metrics = evaluate(videos, rows, project.of("clips").evaluate)
    write_json(path, json.loads(path.read_text()) | metrics | {"accuracy": 0.8})
    write(project, ["clips"])
    edited(put("accuracy", 1.0))
    with pytest.raises(BadInput, match=r"found maximum accuracy = 0\.8; expected 1, as in metrics\.json beside it"):
        write(project, ["clips"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (put("average_mAP", float("nan")), "average_mAP = nan; expected a finite number"),
        (put("average_mAP", "0.5"), "average_mAP = '0.5'; expected a valid number"),
        (put("average_mAP", 1.5), "average_mAP = 1.5; expected less than or equal to 1"),
        (put("accuracy", -0.5), "accuracy = -0.5; expected greater than or equal to 0"),
        (put("accuracy", None), "accuracy = None; expected a valid number"),
        (put("mAP", []), "mAP = a list; expected a mapping"),
        (put("mAP", "0.50", None), "mAP.0.50 = None; expected a valid number"),
        (put("ap", {"a": 1.0}), "ap.a = 1.0; expected a list"),
        (put("num_videos", 10**1000), "num_videos = a number with more than a hundred digits"),
        (put("num_videos", True), "num_videos = True; expected a valid integer"),
        (put("num_instances", -1), "num_instances = -1; expected greater than or equal to 0"),
        (put("tiou", None), "tiou = None; expected a list"),
        (put("model", []), "model = a list"),
        (put("model", {"selection": "last", "seed": "1"}), "model.seed = '1'; expected a valid integer"),
        (lambda metrics: metrics.pop("ap"), "found no ap"),
    ],
)
def test_metrics_have_their_types_and_bounds(project, change, told):
    path = edited(change)
    with pytest.raises(BadInput) as error:
        write(project, ["clips"])
    assert told in str(error.value)
    assert str(error.value).startswith(f"{path}: found ")
    assert "hint: run again: um test --dataset clips" in str(error.value)


def test_controls_bound_what_was_moved_at_random(forms):
    frame = pd.read_csv(io.StringIO(forms["csv"])).query("metric == 'average_mAP'")
    for dataset in ("thumos14", "clips"):
        average = frame[frame["dataset"] == dataset].set_index("method")["mean"]
        assert average["True segments, our classes"] == 1  # the classes are right
        assert average["Our segments, true classes"] == average["Ours (last)"]
        assert average["Random segments"] < average["Ours (last)"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: {**row, "label": "ab"[row["label"] == "a"]}, "scores below random segments"),
        (lambda row: {**row, "segment": [0.0, 60.0]}, "scores below"),
    ],
)
def test_a_score_outside_its_controls_is_named(project, change, said, caplog):
    videos = annotations.load(Path("data/clips/annotations.json")).subset("test")
    for seed in SEEDS:
        path = metrics_file("clips", seed, "last")
        file = path.with_name("predictions.json")
        content = json.loads(file.read_text())
        content["results"] = {name: [change(row) for row in rows] for name, rows in content["results"].items()}
        write_json(file, content)
        scores = evaluate(videos, read_submission(file).predictions, project.of("clips").evaluate)
        write_json(path, json.loads(path.read_text()) | scores | {"accuracy": 0.0})
    text = write(project, ["clips"])["md"]
    assert f"Ours (last) {said}" in text
    assert f"clips: Ours (last) {said}" in caplog.text
    assert "scores below" not in write(project, ["thumos14"])["md"]


def test_names_are_no_markup_in_any_form(project, capsys):
    title = "[/red] <b>x</b> & | `a` *b* $c$ \\d \x1b[31m\u202e"
    (Path("datasets/clips") / "dataset.yaml").write_text(
        json.dumps({"title": title, "provider": "local", "source": "/nowhere"})
    )
    forms = write(project)
    for form, text in forms.items():
        assert "\x1b" not in text, form
        assert "\u202e" not in text, form
    assert "<b>x</b>" not in forms["html"]
    assert "<b>x</b>" not in forms["md"]
    assert r"\textbackslash{}d" in forms["tex"]
    assert r"\textbackslash{}x1b" in forms["tex"]
    printed = capsys.readouterr().out
    assert r"[/red] <b>x</b> & | `a` *b* $c$ \d \x1b[31m\u202e" in printed
    assert "\x1b" not in printed


def test_metrics_that_are_no_object_are_refused(project):
    write_json(metrics_file("thumos14", 0, "last"), [1])
    with pytest.raises(BadInput, match="found list; expected metrics"):
        write(project)


def test_features_without_a_specification_are_called_so(project):
    Path("data/clips/features/spec.json").unlink()
    assert "made elsewhere" in write(project, ["clips"])["md"]


def test_show_prints_the_numbers_of_one_file(project, capsys):
    metrics = json.loads(metrics_file("thumos14", 0, "last").read_text())
    render.show(metrics)
    printed = capsys.readouterr().out
    for number in (*metrics["mAP"].values(), metrics["average_mAP"], metrics["accuracy"]):
        assert f"{100 * number:.1f}" in printed
    render.show({key: value for key, value in metrics.items() if key != "accuracy"})
    assert "accuracy" not in capsys.readouterr().out


def test_the_selected_model_has_a_row_where_there_is_one(forms, project):
    assert "selected)" not in forms["csv"]
    values = project.model_copy(update={"train": project.train.model_copy(update={"held_out": 0.2})})
    with pytest.raises(BadInput, match=r"seed0/selected/metrics\.json.*selected\.safetensors"):
        write(values)
    for dataset in values.datasets:
        for seed in SEEDS:
            make_run(dataset, values, seed, "selected")
    write(values)
    frame = pd.read_csv("results/benchmark.csv")
    assert frame[frame["dataset"] == "clips"]["method"].drop_duplicates().tolist()[:3] == [
        "Ours (last)",
        "Ours (selected)",
        "Ours (best on test)",
    ]


def test_a_variant_has_a_table_of_its_own_runs(project):
    values = project.model_copy(update={"variants": {"plain": Variation(train={"iterations": 7})}})
    with pytest.raises(BadInput, match=r"results/clips-plain/seed0/metrics\.json.*--variant plain --model-file"):
        table_of(values, ["clips"], "results/clips-plain", "plain")
    for seed in SEEDS:
        for selection in ("last", "best_on_test"):
            make_run("clips", values, seed, selection, "clips-plain")
    table_of(values, ["clips"], "results/clips-plain", "plain")
    text = Path("results/clips-plain/benchmark.md").read_text()
    assert "variant plain" in text
    assert "10 iterations" in text  # as in the metrics: params.yaml may have `auto`
    found = pd.read_csv("results/clips-plain/benchmark.csv").query(
        "method == 'Ours (last)' and metric == 'average_mAP'"
    )
    files = [json.loads(metrics_file("clips-plain", seed, "last").read_text()) for seed in SEEDS]
    assert found["mean"].item() == statistics.fmean(file["average_mAP"] for file in files)


def test_compared_variants_have_rows_of_their_own(project):
    rows = {"official": "UM, our code", "cola": "CoLA, our code", "mine": "mine, our code"}
    values = project.model_copy(update={"compare": [*rows], "variants": {name: Variation() for name in rows}})
    for name in rows:
        for seed in SEEDS:
            for selection in ("last", "best_on_test"):
                make_run("clips", values, seed, selection, f"clips-{name}")
    table_of(values, ["clips"])
    frame = pd.read_csv("results/benchmark.csv").query("metric == 'average_mAP'").set_index("method")["mean"]
    assert frame.index.tolist() == ["Ours (last)", "Ours (best on test)", *rows.values(), *CONTROLS]
    for name, row in rows.items():
        files = [json.loads(metrics_file(f"clips-{name}", seed, "last").read_text()) for seed in SEEDS]
        assert frame[row] == statistics.fmean(file["average_mAP"] for file in files)


def test_a_submission_of_others_has_a_row(project):
    theirs = metrics_file("clips", 1, "last").with_name("predictions.json")
    expected = json.loads(metrics_file("clips", 1, "last").read_text())["average_mAP"]
    table_of(project, ["clips"], "other", extra=benchmark.Extra({"<b>Theirs</b>": theirs}))
    frame = pd.read_csv("other/benchmark.csv").query("metric == 'average_mAP'").set_index("method")
    assert frame.loc["<b>Theirs</b>", "mean"] == expected
    assert frame.loc["<b>Theirs</b>", "source"].startswith("predictions predictions.json, sha256 ")
    assert "Ours (last)" in frame.index
    assert "<b>Theirs</b>" not in Path("other/benchmark.html").read_text()
    kept = Path("kept.json")
    shutil.copy(theirs, kept)
    for folder in ("results/clips", "data/clips/features"):  # nothing built: annotations are enough
        shutil.rmtree(folder)
    table_of(project, ["clips"], "alone", extra=benchmark.Extra({"Theirs": kept}))
    frame = pd.read_csv("alone/benchmark.csv").query("metric == 'average_mAP'").set_index("method")
    assert frame.index.tolist() == ["Theirs", "Random segments", "Whole video"]
    assert frame.loc["Theirs", "mean"] == expected
    assert "Ours: not built here." in Path("alone/benchmark.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.json", "--out", "other"], "--predictions a.json; expected NAME=FILE"),
        (["=a.json", "--out", "other"], "expected NAME=FILE"),
        (["A=a.json"], "--predictions without --out"),
        (["Paper=results/clips/seed0/predictions.json", "--out", "other"], "--predictions Paper=…; expected a name"),
        (["A=a.json", "--out", "other"], "a.json: found no such file"),
        (["A=a.json", "--out", "other", "--dataset", "thumos14"], "--predictions with 2 datasets; expected one"),
    ],
)
def test_a_submission_needs_a_name_a_file_and_a_folder(project, um, words, said):
    Path("params.yaml").write_text(project.model_dump_json(exclude={"datasets"}))  # which would need every key
    code, _, err = um("table", "--dataset", "clips", "--predictions", *words)
    assert (code, len(err.splitlines())) == (2, 1)
    assert said in err
    assert not Path("other").exists()


def test_the_ablation_stands_beside_the_papers(project):
    rows = {name: {} for name in ("softmax", "fusion", "fusion_um", "official", "minmax")}
    values = project.model_copy(update={"variants": rows})
    for variant in rows:
        for seed in SEEDS:
            make_run("thumos14", values, seed, "last", f"thumos14-{variant}")
    benchmark.ablation(Path("results"), "thumos14", [*rows, "ours"], values, Path("results/thumos14-ablation"))
    frame = pd.read_csv("results/thumos14-ablation/ablation.csv")
    averages = frame[frame["metric"] == "average_mAP"].set_index("method")["mean"]
    names = ["Softmax", "Fusion", "Fusion, L_um", "Fusion, L_um, L_be"]
    ours = ["Ours, min-max foreground", "Ours"]
    assert averages.index.tolist() == [*(row for name in names for row in (name, f"{name}, paper")), *ours]
    assert averages[[f"{name}, paper" for name in names]].tolist() == [0.226, 0.325, 0.402, 0.419]
    for name, run in zip([*names, *ours], [*(f"thumos14-{variant}" for variant in rows), "thumos14"], strict=True):
        files = [json.loads(metrics_file(run, seed, "last").read_text()) for seed in SEEDS]
        assert averages[name] == statistics.fmean(file["average_mAP"] for file in files)
    with pytest.raises(BadInput, match="--variant seed"):
        benchmark.ablation(Path("results"), "thumos14", ["seed"], values, Path("results/thumos14-ablation"))


@pytest.mark.parametrize(
    ("policy", "become"), [("error", "left out"), ("drop", "left out"), ("miss", "counted as misses")]
)
def test_videos_without_features_are_counted_in_the_notes(project, policy, become):
    videos = annotations.load(Path("data/clips/annotations.json")).subset("test")
    there = [f"test/rgb/{video.id}.npy" for video in videos[1:]]
    write_json(Path("data/clips/features/index.json"), {"files": {path: {} for path in there}})
    evaluation = {"evaluate": {"tiou": "0.5:0.95:0.05", "missing": policy}}
    values = project.model_copy(update={"overrides": {"clips": evaluation}})
    for seed in SEEDS:
        for selection in ("last", "best_on_test"):
            make_run("clips", values, seed, selection, left_out="" if policy == "miss" else videos[0].id)
    text = write(values, ["clips"])["md"]
    assert f"annotated videos without features, {become}: 1." in text
    assert f"{len(videos) - (policy != 'miss')} videos and" in text
    assert "without features" not in write(project, ["thumos14"])["md"]


def test_the_title_of_simulated_features_says_so(project, capsys):
    write_json(Path("data/clips/features/spec.json"), SPEC | {"simulated": True, "seed": 0, "dims": 8})
    forms = write(project, ["clips"])
    titles = Cells(forms["html"]).rows[0]
    assert titles[1][0] == "A & B_c <50 %> (SIMULATED features)"
    assert "SIMULATED features" in capsys.readouterr().out
    described = {"title": "Clips (SIMULATED features)", "provider": "local", "source": "/nowhere"}
    Path("datasets/clips/dataset.yaml").write_text(json.dumps(described))
    assert Cells(write(project, ["clips"])["html"]).rows[0][1][0] == "Clips (SIMULATED features)"
