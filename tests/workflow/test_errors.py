"""What goes wrong before any work is one line that says what to do."""

import re

import pytest
from ruamel.yaml import YAML

from um.params import Train

SETTINGS = Train(held_out=0.2).model_dump()  # `selected` for all datasets, or for none


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
        (
            "overrides.demo.train.num_segmets",
            3,
            "train.num_segmets; expected one of streams, method",
        ),
        ("overrides.demo.evaluate.tiou", "wide", "expected start:stop:step"),
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


def test_a_dataset_is_added_in_params_yaml_alone(clone):
    """With the settings that the hint prints, DVC has its stages and Snakemake plans it."""
    before = (clone / "params.yaml").read_text()
    try:
        clone.change("datasets", ["demo", "ucf6"])
        said = clone.run("snakemake", "-n").stdout
        (command,) = re.findall("hint: `(.+?)` prints them", said)
        assert "found overrides.ucf6.download without what, source, mirrors, …" in said
        printed = YAML(typ="safe").load(clone.done(*command.split()))
        clone.change("overrides.ucf6", printed["overrides"]["ucf6"] | {"train": SETTINGS})
        assert "['demo', 'ucf6'] in one of the two lists" in clone.run("snakemake", "-n").stdout
        clone.change("unshared", ["ucf6"])
        stages = clone.done("dvc", "stage", "list")
        planned = clone.done("snakemake", "-n")
    finally:
        (clone / "params.yaml").write_text(before)
    for stage in ("fetch", "features", "train", "train_compared", "evaluate", "rows"):
        assert f"{stage}@ucf6" in stages
    assert "models/ucf6/seed0/last.safetensors" in planned


def test_use_as_a_module_is_refused_in_one_line(clone, tmp_path):
    text = f'module um:\n    snakefile: "{clone.root}/Snakefile"\n\nuse rule * from um as um_*\n'
    (tmp_path / "Snakefile").write_text(text)
    result = clone.run("snakemake", "-n", "--snakefile", str(tmp_path / "Snakefile"), "--directory", str(tmp_path))
    lines = [line for line in result.stdout.splitlines() if not line.startswith("Using workflow specific profile")]
    assert result.returncode == 2
    assert len(lines) == 1
    assert f"um: {tmp_path}: found no Snakefile and dvc.yaml; expected a checkout" in lines[0]
