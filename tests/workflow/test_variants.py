"""Variants, another method and the paper's ablation, run by Snakemake beside what the ledger records."""

import json

import pandas as pd

from um.report.table.benchmark import INGREDIENTS


def header(path):
    """The JSON header of a model."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(json.loads(file.read(length))["__metadata__"]["um"])


def test_a_variant_has_its_own_models_results_and_table(workspace):
    workspace.done("snakemake", "--cores", "all", "--config", "variant=cola", "seed=1")
    folder = workspace / "models/demo-cola/seed1"
    model = header(folder / "last.safetensors")
    assert (model["train"]["method"], model["train"]["r_act"], model["train"]["alpha"]) == ("cola", 5, 0.01)
    assert pd.read_csv(folder / "history.csv").columns.tolist() == ["iteration", "total", "classification", "contrast"]
    assert (workspace / "results/demo-cola/seed1/selected/metrics.json").is_file()
    assert not (workspace / "models/demo-cola/seed0").exists()
    text = (workspace / "results/all-cola-seed1/benchmark.md").read_text()
    assert "variant cola" in text
    assert "n = 1 training seeds (1)" in text
    assert workspace.idle()  # what is recorded is as it was


def test_the_ablation_trains_its_rows_and_takes_the_full_method_as_it_is(workspace):
    full = workspace / "models/demo/seed0/last.safetensors"
    before = full.read_bytes(), full.stat().st_mtime_ns
    workspace.done("snakemake", "--cores", "all", "--config", "seed=0", "--", "ablation")
    frame = pd.read_csv(workspace / "results/demo-ablation/ablation.csv")
    rows = frame[frame["metric"] == "average_mAP"].set_index("method")
    names = ["Softmax", "Fusion", "Fusion, L_um", "Fusion, L_um, L_be"]
    assert rows.index.tolist()[:8] == [row for name in names for row in (name, f"{name}, paper")]
    assert rows.index.tolist()[8:] == list(INGREDIENTS.values())
    assert set(rows.loc[[*names, *INGREDIENTS.values()], "n"]) == {1}
    weights = [
        header(workspace / f"models/demo-{run}/seed0/last.safetensors")["train"] for run in ("softmax", "fusion_um")
    ]
    assert [(w["alpha"], w["beta"]) for w in weights] == [(0.0, 0.0), (5e-4, 0.0)]
    assert not any((workspace / f"models/demo-{run}").exists() for run in ("fusion", "minmax", "no_average"))
    recorded = json.loads((workspace / "results/demo/seed0/metrics.json").read_text())["average_mAP"]
    assert rows.loc["Ours", "mean"] == recorded
    assert (full.read_bytes(), full.stat().st_mtime_ns) == before
    assert workspace.idle()


def test_an_unknown_variant_is_one_line(clone):
    result = clone.run("snakemake", "-n", "--config", "variant=other")
    assert result.returncode != 0
    assert "um: params.yaml: found no variant 'other'; expected one of ours, official, paper, seed" in result.stdout


def test_params_without_the_rows_of_the_ablation_build_everything_else(changed):
    workspace = changed("params.yaml")
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(text.replace("  softmax:", "  other:"))
    assert "Nothing to be done" in workspace.done("snakemake", "-n")
