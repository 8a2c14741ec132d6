"""dvc.yaml and the rules are two views of one pipeline: the same stages, files, parameters and code."""

import ast
import re
import shutil
from pathlib import Path

import networkx as nx
import pytest
import yaml
from dvc.repo import Repo
from helpers.workspace import ROOT, Workspace

from um import params
from um.report.table.render import FORMS

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # pygtrie, through DVC

WRITTEN = yaml.safe_load((ROOT / "dvc.yaml").read_text().replace("${item}", "${item.dataset}"))["stages"]
ALIKE = {
    "fetch": "download",
    "train_compared": "train",
    "evaluate_compared": "evaluate",
    "rows_compared": "rows",
}
STAGES = {name: stage.get("do", stage) for name, stage in WRITTEN.items() if name not in ALIKE}
MODULES = {  # the module behind each stage's verb
    "weights": "um.features.weights",
    "download": "um.download.provide",
    "features": "um.features.extract",
    "train": "um.training",
    "evaluate": "um.test",
    "rows": "um.report.table.rows",
    "table": "um.report.table.render",
}
PLUMBING = {
    "um.errors",
    "um.files",
    "um.forms",
    "um.journal",
    "um.live",
    "um.params",
    "um.progress",
    "um.shard",
}  # make no values
ASIDE = {  # imports for other verbs: a dataset's title; annotations of datasets that come as features;
    # and what a download finds its way by
    ("um.download.bring", "um.datasets.folder"),
    ("um.download.bring", "um.datasets.layouts"),
    ("um.download.videos", "um.video.probe"),
    ("um.download.provide", "um.datasets.folder"),
    ("um.report.table.benchmark", "um.dataset"),
    ("um.report.table.rows", "um.dataset"),
}


def test_stages_are_the_rules_files():
    files = {path.stem for path in (ROOT / "workflow/rules").glob("*.smk")} - {"common", "ablation", "report"}
    assert files == set(STAGES) == set(MODULES)
    for name, stage in STAGES.items():
        assert stage["cmd"].startswith("snakemake ")
        assert f"only={name}" in stage["cmd"]
        assert stage["cmd"].endswith(f" -- {name}")


def test_compared_methods_run_the_same_code():
    for name in ("train", "evaluate", "rows"):
        ours, compared = (WRITTEN[stage] for stage in (name, f"{name}_compared"))
        assert compared["cmd"] == ours["cmd"].replace(" -- ", " variant=${item.variant} -- ")
        for files in ("deps", "outs", "metrics", "plots"):
            text = yaml.safe_dump(ours.get(files))
            marked = re.sub(r"((?:models|results|tables)/\$\{item\.dataset\})", r"\1-${item.variant}", text)
            assert yaml.safe_dump(compared.get(files)) == marked


def test_metrics_and_plots_are_shown(built):
    shown = built.done("dvc", "metrics", "show")
    for run in ("demo", "demo-official"):
        assert re.search(rf"tables/{run}/metrics.json +0\.\d+ +0\.\d+ ", shown)
    assert "index.html" in built.done("dvc", "plots", "show", "--out", "plots")
    text = (built / "plots/index.html").read_text()
    for name in ("losses.csv", "scores.csv", "confusion.csv"):
        assert f"tables/demo/{name}" in text
    shutil.rmtree(built / "plots")


def test_others_videos_are_recorded_but_not_stored():
    ours, theirs = WRITTEN["download"], WRITTEN["fetch"]
    assert (ours["foreach"], theirs["foreach"]) == ("${shared}", "${unshared}")
    videos = theirs["do"]["outs"][1]["data/${item.dataset}/videos"]
    assert videos.pop("cache") is False
    assert theirs["do"] == ours["do"]


def source(module: str) -> Path | None:
    path = ROOT / "src" / module.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def imports(module: str) -> set[str]:
    """The modules of ours that one imports, anywhere in its code."""
    path = source(module)
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name for name in found if name.startswith("um.") and source(name)} - {module}


@pytest.mark.parametrize("stage", MODULES)
def test_code_dependencies_are_complete(stage):
    todo, needed = {MODULES[stage]}, set()
    while todo:
        module = todo.pop()
        needed.add(module)
        following = {name for name in imports(module) if (module, name) not in ASIDE}
        todo |= following - needed - PLUMBING
    listed = [ROOT / dependency for dependency in STAGES[stage]["deps"] if dependency.startswith("src/")]
    assert all(path.exists() for path in listed)
    files = {source(module) for module in needed}
    files -= {path for path in files if path.name == "__init__.py" and not path.read_text().strip()}
    covered = {path for path in files if any(path == entry or entry in path.parents for entry in listed)}
    assert {str(path) for path in files - covered} == set()
    for entry in listed:
        assert entry.name == "templates" or any(path == entry or entry in path.parents for path in files), entry


def planned_by_snakemake(workspace: Workspace) -> set[str]:
    """The files that Snakemake would make."""
    lines = re.findall(r"^    output: (.+)$", workspace.done("snakemake", "--dry-run"), re.MULTILINE)
    return {file for line in lines for file in line.split(", ")}


def outs_of(repo: Repo, files: set[str]) -> set[str]:
    """The DVC outs that files belong to; every file has one."""
    outs = {str(Path(out.fs_path).relative_to(repo.root_dir)) for out in repo.index.outs}
    found = {file: next((out for out in outs if file == out or file.startswith(f"{out}/")), None) for file in files}
    assert None not in found.values(), found
    return set(found.values())


def planned_by_dvc(repo: Repo) -> set[str]:
    """The outs of the stages that DVC calls changed, and of all stages after them."""
    changed = repo.status()
    graph = repo.index.graph  # from a stage to those it depends on
    again = {stage for stage in repo.index.stages if stage.addressing in changed}
    again = again.union(*(nx.ancestors(graph, stage) for stage in again))
    return {str(Path(out.fs_path).relative_to(repo.root_dir)) for stage in again for out in stage.outs}


def test_outputs_are_the_same(shared):
    lines = [line.split("\t") for line in shared.done("snakemake", "--summary").splitlines() if "\t" in line]
    repo = Repo(str(shared.root))
    made = outs_of(repo, {line[0] for line in lines[1:]})
    assert made == {str(Path(out.fs_path).relative_to(repo.root_dir)) for out in repo.index.outs}


def test_planning_loads_no_large_library(shared):
    """PyTorch would double the time of every snakemake call; those of pictures would add a sixth."""
    traced = re.sub(" +", " ", shared.done("python", "-X", "importtime", "-m", "snakemake", "-n"))
    assert "| um.dataset" in traced
    assert not re.findall(r"\| (torch|h5py|av|cv2|matplotlib)\n", traced)


def test_another_compared_method_means_the_same_to_both(changed):
    workspace = changed("params.yaml")
    workspace.change("compare", ["official", "cola"])
    repo = Repo(str(workspace.root))
    outs = planned_by_dvc(repo)
    assert outs_of(repo, planned_by_snakemake(workspace)) == outs
    made = {f"{kind}/demo-cola" for kind in ("models", "results")}
    made |= {out for out in outs if out.startswith("tables/demo-cola/")}
    assert outs == made | {f"results/benchmark.{form}" for form in ("csv", *FORMS)}


def test_schema_is_that_of_the_params():
    hint = "`make schema` writes it anew"
    assert (ROOT / "workflow/schemas/params.schema.json").read_text("utf-8") == params.schema(), hint
