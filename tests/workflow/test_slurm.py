"""The demo on a real Slurm: the same bytes as on one machine, also after lost jobs and nodes."""

import json
import shutil
from collections.abc import Iterator

import pytest
from helpers.slurm import Cluster, cluster
from helpers.workspace import Workspace

from .test_faults import FULL
from .test_provenance import digests

PROFILE = ("--workflow-profile", "profiles/slurm")
FASTER = ("--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "5")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def project(slurm, workspace) -> Workspace:
    """A copy of what is built, whose Snakemake finds the cluster."""
    workspace.environment |= slurm.environment | {"PATH": slurm.path(workspace.environment["PATH"])}
    return workspace


@pytest.mark.skipif(not FULL, reason="`make faults` runs it: a minute and more")
def test_the_demo_has_the_same_bytes(project):
    before = digests(project)
    for folder in ("data/demo/features", "models", "results", "tables"):
        shutil.rmtree(project / folder)
    said = project.done("snakemake", *PROFILE, *FASTER)
    assert "SLURM jobid" in said
    assert "--gpus" in said
    assert digests(project) == before
    assert project.idle()


VIDEOS = ("ucf6_train_0001", "ucf6_val_0001")


@pytest.mark.skipif(not FULL, reason="make faults")
def test_shards_of_real_videos_have_the_same_bytes(project, reference_data, tmp_path):
    source = reference_data / "data/ucf6"
    annotations = json.loads((source / "annotations.json").read_text())
    annotations["database"] = {name: annotations["database"][name] for name in VIDEOS}
    (tmp_path / "real").mkdir()
    (tmp_path / "real/annotations.json").write_text(json.dumps(annotations))
    for name in VIDEOS:
        (tmp_path / f"real/{name}.mp4").symlink_to(source / f"videos/{name}.mp4")
    (project / "datasets/real").mkdir()
    (project / "datasets/real/dataset.yaml").write_text(f"provider: local\nsource: {tmp_path}/real\n")
    project.change("overrides.real", {"features": {"fps": 12.5, "short_side": 80, "crop": 64}})
    what = ("--config", "dataset=real", "seed=0", "--", "features")
    project.done("snakemake", "--cores", "2", *what)
    before = digests(project)
    shutil.rmtree(project / "data/real/features")
    said = project.done("snakemake", *PROFILE, *FASTER, "--set-scatter", "shards=2", *what)
    assert said.count("SLURM jobid") == 3
    assert digests(project) == before


LONGER = {"iterations": 600, "eval_every": 20}
MODELS = [f"models/demo/seed{seed}/last.safetensors" for seed in (0, 1)]


def files(project: Workspace) -> dict[str, bytes]:
    return {str(path.relative_to(project.root)): path.read_bytes() for path in (project / "models").rglob("*.*")}


@pytest.mark.skipif(not FULL, reason="make faults")
def test_lost_jobs_and_nodes_change_no_byte(project, slurm):
    """One training is cancelled; the node of the other crashes, with all its processes, and comes back."""
    for name, value in LONGER.items():
        project.change(f"overrides.demo.train.{name}", value)
    shutil.rmtree(project / "models")
    project.done("snakemake", "--cores", "2", "--", *MODELS)
    before = files(project)
    shutil.rmtree(project / "models")
    project.environment = project.forking
    running = project.start("snakemake", *PROFILE, *FASTER, "--", *MODELS)
    jobs = {}
    for seed in (0, 1):
        state = project / f"models/demo/seed{seed}/state.pt"
        slurm.until(state.exists)
        jobs[seed] = slurm.job(f"rule_train_model_wildcards_demo_{seed}")
    slurm.ask("scancel", jobs[0].number)
    slurm.crash(jobs[1].node)
    slurm.start_node(jobs[1].node)
    assert running.wait(90) == 0
    log = max((project / ".snakemake/log").iterdir()).read_text()
    assert log.count("Trying to restart job") == 2, log
    assert files(project) == before
