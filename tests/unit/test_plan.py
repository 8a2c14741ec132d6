"""What the Snakefile builds, from --config and params.yaml."""

import shutil
from pathlib import Path

import pytest
import yaml

from um.errors import BadInput
from um.params import OURS
from um.plan import ABLATION, Asked, Plan

ROOT = Path(__file__).parents[2]
NAMES = ("params.yaml", "dvc.yaml", "datasets")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """The project's own settings, nothing built."""
    for name in NAMES:
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UM_REFERENCE_DATA", "/nowhere")
    return tmp_path


def change(project: Path, **keys: object) -> None:
    """Set `a__b__c` in params.yaml."""
    values = yaml.safe_load((project / "params.yaml").read_text())
    for key, value in keys.items():
        *parents, last = key.split("__")
        section = values
        for name in parents:
            section = section.setdefault(name, {})
        section[last] = value
    (project / "params.yaml").write_text(yaml.safe_dump(values))


def test_config_is_read_as_it_was_written():
    asked = Asked.read({"dataset": 202405, "seed": 1, "what": ""}, ["dataset=2024_05", "seed='1'", "what="])
    assert asked == Asked(dataset="2024_05", seed="1")
    assert Asked.read({}) == Asked()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"datasets": "demo"}, "unknown key datasets; expected only, dataset, variant, seed or what"),
        ({"only": "training"}, "only = 'training'; expected one of weights, download"),
        ({"dataset": "../demo"}, "--config: dataset"),
        ({"variant": "a b"}, "--config: variant"),
        ({"seed": "-1"}, "--config: seed"),
        ({"what": "annotations"}, "what=annotations; expected videos or features"),
    ],
)
def test_config_that_cannot_be_meant_is_one_line(config, said):
    with pytest.raises(BadInput) as error:
        Asked.read(config)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_everything_of_params_yaml_is_the_ledgers(project):
    plan = Plan()
    assert (plan.datasets, plan.built, plan.seeds) == (["demo"], ["demo", "demo-official"], [0, 1, 2])
    assert plan.selections == ["", "best_on_test/", "selected/"]
    assert (plan.is_main, plan.table) == (True, "results/benchmark")
    assert {run.removeprefix("demo-") for run in plan.runs} == {*ABLATION, "demo"} - {OURS}
    own = {"demo", "demo-official", "demo-softmax", "demo-fusion_um"}
    assert {run: model for run, model in plan.trained.items() if run not in own} == {
        "demo-fusion": "demo-softmax",
        "demo-no_average": "demo-official",
        **dict.fromkeys(("demo-minmax", "demo-official_thresholds", "demo-interpolation", "demo-hard_nms"), "demo"),
    }
    assert all(plan.trained[run] == run for run in own)
    assert plan.variants["demo-softmax"] == "softmax"
    assert plan.settings["demo-softmax"].train.alpha == 0
    assert plan.from_videos == {"demo"}


@pytest.mark.parametrize(
    ("asked", "table"),
    [
        ({"dataset": "ucf6"}, "results/ucf6/benchmark"),
        ({"variant": "paper"}, "results/all-paper/benchmark"),
        ({"dataset": "demo", "variant": "paper", "seed": "1"}, "results/demo-paper-seed1/benchmark"),
        ({"dataset": "thumos14", "what": "videos"}, "results/thumos14-videos/benchmark"),
        ({"only": "train", "dataset": "demo", "seed": "1"}, "results/demo/benchmark"),
    ],
)
def test_a_part_has_a_table_of_its_own(project, asked, table):
    plan = Plan(Asked(**asked))
    assert (plan.is_main, plan.table) == (False, table)


def test_what_says_where_features_come_from(project):
    assert Plan(Asked(dataset="thumos14")).from_videos == set()
    assert Plan(Asked(dataset="thumos14", what="videos")).from_videos == {"thumos14"}
    assert Plan(Asked(dataset="thumos14", what="videos")).shared == {"thumos14"}


def test_without_held_out_videos_there_is_no_selected_model(project):
    assert Plan(Asked(dataset="ucf6")).selections == ["", "best_on_test/"]
    change(project, datasets=["demo", "ucf6"], overrides__ucf6__train__held_out=0.0)
    with pytest.raises(BadInput):  # dvc.yaml has not every dataset, and one table cannot have both
        Plan()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"dataset": "cooking"}, "no cooking; expected one of activitynet1.2"),
        ({"seed": "7"}, "seed = 7; expected a seed of params.yaml"),
        ({"variant": "mine"}, "no variant 'mine'"),
    ],
)
def test_what_is_not_there_is_named(project, asked, said):
    with pytest.raises(BadInput, match=said):
        Plan(Asked(**asked))


def test_a_single_stage_names_what_it_starts_from(project):
    pattern = "models/{run}/seed{seed}/last.safetensors"
    assert Plan().earlier(pattern) == pattern
    plan = Plan(Asked(only="evaluate", dataset="demo", variant="paper"))
    with pytest.raises(BadInput) as error:
        plan.earlier(pattern)
    path = "models/demo-paper/seed0/last.safetensors"
    assert f"{path}: found no such file; expected an input of stage evaluate" in str(error.value)
    assert f"`snakemake --config dataset=demo variant=paper -- {path}` builds it" in str(error.value)
    for seed in (0, 1, 2):
        made = project / f"models/demo-paper/seed{seed}/last.safetensors"
        made.parent.mkdir(parents=True)
        made.touch()
    assert plan.earlier(pattern) == pattern
