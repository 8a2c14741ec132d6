"""The demo on a real Slurm: the same bytes as on one machine, also after lost jobs and nodes."""

import shutil
import time
from collections.abc import Iterator

import pytest
from helpers.slurm import Cluster, cluster
from helpers.workspace import WEIGHTS, Workspace

from .test_provenance import digests

PROFILE = ("--workflow-profile", "profiles/slurm")
FASTER = (
    "--seconds-between-status-checks", "1", "--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5",
    "--slurm-no-account",
)  # fmt: skip


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def project(slurm, workspace) -> Workspace:
    """A copy of what is built, whose Snakemake finds the cluster."""
    workspace.environment |= slurm.environment | {"PATH": slurm.path(workspace.environment["PATH"])}
    return workspace


def empty(project: Workspace, *folders: str) -> None:
    for folder in folders:
        shutil.rmtree(project / folder)


def test_the_demo_has_the_same_bytes(project):
    before = digests(project)
    kept = (project / WEIGHTS).read_bytes()
    empty(project, "data", "models", "results", ".snakemake")
    (project / WEIGHTS).parent.mkdir(parents=True)
    (project / WEIGHTS).write_bytes(kept)
    project.done("snakemake", "--touch", "--forceall", "--config", "only=weights", "--", "weights")
    start = time.monotonic()
    said = project.done("snakemake", *PROFILE, *FASTER)
    print(said, time.monotonic() - start)
    assert digests(project) == before
    assert project.idle()
