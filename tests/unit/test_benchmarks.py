"""The scripts of benchmarks/ on a tiny dataset: what they print, not how fast it is."""

import re
import runpy
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.tiny import TINY, make_dataset

from um import params
from um.datasets.folder import Folder
from um.training import Recipe, fit, open_run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def printed(monkeypatch, capsys) -> Callable[..., str]:
    """What a script prints, which runs in this process: importing PyTorch again would take longer than it."""
    monkeypatch.chdir(ROOT)
    threads = torch.get_num_threads()

    def run(script: str, *words: object) -> str:
        monkeypatch.setattr("sys.argv", [script, *map(str, words)])
        capsys.readouterr()
        runpy.run_path(str(ROOT / "benchmarks" / script), run_name="__main__")
        return capsys.readouterr().out

    yield run
    torch.set_num_threads(threads)


def test_memory_is_that_of_a_training_of_the_presets_sizes(tmp_path, printed):
    root = make_dataset(tmp_path / "d")
    words = ("--parts", "memory", "--dataset", "activitynet1.2", "--threads", 1)
    text = printed("method.py", root, *words)
    assert "1 of " in text.splitlines()[0]
    assert "float16: features" in text
    assert "3 steps of 64 x 50 x 6, D 2048: peak" in text


def test_bf16_is_compared_with_fp32_over_seeds(tmp_path, printed):
    root = make_dataset(tmp_path / "d")
    text = printed("precision.py", root, "--seeds", 2, "--iterations", 3, "--dim", 8, "--device", "cpu")
    for precision in ("fp32", "bf16"):
        assert f"training {precision}: average mAP " in text
    assert re.search(r"means up to \d+\.\d\d from fp32's: (within|MORE THAN) the seeds", text)


GPU_ROWS = (
    *("features, against the CPU's", "features in bf16, cosine", "flow, against the CPU's", "two extractions"),
    *("losses of four steps", "two trainings in fp32", "two trainings in bf16", "average mAP, against the CPU's"),
    *("extraction, rgb, fp32", "extraction, rgb, bf16", "extraction, flow, fp32"),
    *("30 steps of 4 x 20 x 64, bf16", "30 steps of 4 x 20 x 64, fp32", "the whole benchmark"),
)


def test_the_gpu_script_runs_all_of_its_parts_on_a_cpu(printed, monkeypatch, capsys):
    """With two extractions that differ, and no time for the trainings."""
    from um.features import extract as extraction

    saved, number = extraction.Ledger.save, count()
    monkeypatch.setattr(
        extraction.Ledger, "save", lambda self, path, rows, *more: saved(self, path, rows + next(number), *more)
    )
    with pytest.raises(SystemExit, match="a check failed"):
        printed("gpu.py", "--device", "cpu", "--small", "--minutes", 0)
    table = capsys.readouterr().out.partition("|---|---|---|")[2]
    rows = [line.split(" | ") for line in table.strip().splitlines()]
    assert rows[0][0] == "| machine"
    for row, start in zip(rows[1:], GPU_ROWS, strict=True):
        assert row[0].startswith(f"| {start}")
        assert ("FAILED" in row[2]) == (start == "two extractions")
        assert ("ok: " in row[2]) == (row in rows[1:9] and start != "two extractions")
        assert ("COMPUTED from" in row[2]) == (row[0].startswith("| 30 steps"))


@pytest.mark.parametrize("arms", [["scaled"], ["official", "ours"]])
def test_the_loss_scale_trains_the_arms_that_are_asked_for(tmp_path, printed, arms):
    sizes = ("--iterations", 2, "--evaluations", 1, "--embedding-dim", 8)
    root, out = make_dataset(tmp_path / "d"), tmp_path / "out"
    printed("loss_scale.py", root, "--dataset", "activitynet1.2", "--out", out, "--arms", *arms, *sizes)
    assert sorted(path.name for path in out.iterdir()) == sorted(arms)
    # float32 kernels and a bias of 8 outputs, and the classifier: far from the preset's 2048
    assert (out / arms[0] / "last.safetensors").stat().st_size < 10_000


def test_settings_are_chosen_on_the_other_datasets(printed, tmp_path):
    words, names = [], ["mine", "activitynet1.2-simulated"]
    for number, name in enumerate(names):
        data = make_dataset(tmp_path / f"data{number}", seed=number)
        for variant, ending in (("ours", ""), ("official", "-official")):
            how = params.load(ROOT / "params.yaml").of("", variant)
            train = how.train.model_copy(update={**TINY, "iterations": 10})
            run = open_run(Folder(data), Recipe(how.model_copy(update={"train": train}), 0))
            fit(run, tmp_path / f"models{number}{ending}/seed0", torch.device("cpu"))
        words.append(f"{name}={data}:{tmp_path}/models{number}")
    lines = printed("selection.py", *words, "--out", tmp_path / "scores.csv").splitlines()
    scores = pd.read_csv(tmp_path / "scores.csv", index_col=0)
    assert len(scores) == 3 * 3 * 2 * 3 * 2
    for name, other, line in zip(names, names[::-1], lines, strict=True):
        shown = re.fullmatch(
            rf"{name}: official (.+), chosen .+ (.+), params.yaml .+, best .+ (.+); chosen: (.+)", line
        )
        assert scores.loc[shown[4], other] == scores[other].max()
        assert [float(shown[2]), float(shown[3])] == pytest.approx(
            [scores.loc[shown[4], name], scores[name].max()], abs=0.051
        )
