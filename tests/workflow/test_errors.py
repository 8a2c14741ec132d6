"""What goes wrong before any work is one line that says what to do."""

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["only=train"], "data/demo/annotations.json: found no such file"),
        (["only=features"], "`snakemake -- data/demo/videos/index.json` builds it; `dvc pull` fetches it"),
        (["only=trian"], "found only = 'trian'; expected one of weights, download"),
        (["num_segments=3"], "unknown key num_segments"),
        (["dataset=thumos15"], "um: datasets: found no thumos15; expected one of "),
        (["dataset=../demo"], "um: --config: dataset: found '../demo'; expected a name of letters"),
        (["dataset=2024_05"], "um: datasets: found no 2024_05; expected one of "),
        (["dataset=1e5"], "um: datasets: found no 1e5; expected one of "),
        (["dataset=null"], "um: datasets: found no null; expected one of "),
        (["dataset=$(touch X)"], "um: --config: dataset: found '$(touch X)'; expected a name of letters"),
        (["variant=0x10"], "um: params.yaml: found no variant '0x10'"),
        (["seed=1e0"], "um: --config: seed: found '1e0'; expected a whole number"),
        (["only=train", "seed=9"], "found seed = 9; expected a seed of params.yaml"),
    ],
)
def test_wrong_config(clone, settings, expected):
    result = clone.run("snakemake", "-n", "--config", *settings)
    assert result.returncode != 0
    assert expected in result.stdout
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train.num_segmets", 3, "unknown key train.num_segmets; expected one of streams, method"),
        ("evaluate.tiou", "wide", "expected start:stop:step"),
        ("datasets", ["demo", "ucf6"], "found overrides.ucf6.download without what, source, mirrors, …"),
    ],
)
def test_wrong_params(clone, key, value, expected):
    before = (clone / "params.yaml").read_text()
    try:
        clone.change(key, value)
        result = clone.run("snakemake", "-n")
    finally:
        (clone / "params.yaml").write_text(before)
    lines = [line for line in result.stdout.splitlines() if not line.startswith("Using workflow specific profile")]
    assert result.returncode == 2
    assert len(lines) == 1
    assert lines[0].startswith("um: params.yaml: found ")
    assert expected in lines[0]


def test_a_dataset_that_the_table_does_not_know(clone, monkeypatch):
    from um import params
    from um.errors import BadInput
    from um.provenance import pipeline

    monkeypatch.chdir(clone.root)
    values = params.Params(datasets=["demo", "ucf6"])
    with pytest.raises(BadInput, match="found ucf6 not in one of the lists `ours` and `theirs`"):
        pipeline.check_ledger(values)
    monkeypatch.setattr(pipeline, "LEDGER", Path("changed.yaml"))
    Path("changed.yaml").write_text(Path("dvc.yaml").read_text().replace("ours: [demo]", "ours: [demo, ucf6]"))
    with pytest.raises(BadInput, match=r"changed\.yaml: found stage table without results/ucf6"):
        pipeline.check_ledger(values)
    Path("changed.yaml").unlink()
