"""A tiny demo, built once by Snakemake and recorded by DVC; every scenario works on a copy of it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from helpers.forking import launchers
from helpers.remotes import UNSET
from helpers.workspace import ROOT, WEIGHTS, Workspace

TINY: dict[str, dict[str, Any]] = {
    "features": {"fps": 5.0, "short_side": 32, "crop": 32},
    "train": {"num_segments": 8, "embedding_dim": 32, "iterations": 4, "eval_every": 2},
}


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Workspace:
    """The project's files as git would have them, with tiny settings and nothing built."""
    workspace = Workspace(tmp_path_factory.mktemp("clone"))
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "dvc.lock")):
            (workspace / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, workspace / name)
    workspace.change("seeds", [0, 1])
    workspace.change("overrides.demo.download.train_videos", 7)  # the first with a class that another has too
    workspace.change("overrides.demo.download.test_videos", 2)
    for stage, values in TINY.items():
        for name, value in values.items():
            workspace.change(f"overrides.demo.{stage}.{name}", value)
    workspace.done("git", "init", "--quiet")
    workspace.done("dvc", "remote", "modify", "public", "url", UNSET)  # tests never ask the project's own host
    workspace.commit()
    return workspace


@pytest.fixture(scope="session")
def built(clone, kinetics_weights, tmp_path_factory) -> Workspace:
    """The same after `snakemake --cores all` and `um record`, made once for all test processes; not to be changed."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(base / "built.lock"):
        if (base / "built").exists():
            return Workspace(base / "built")
        workspace = clone.copy(base / "building")
        (workspace / WEIGHTS).parent.mkdir(parents=True)
        shutil.copy(kinetics_weights, workspace / WEIGHTS)
        workspace.done("snakemake", "--touch", "--forceall", "--config", "only=weights", "--", "weights")
        workspace.done("snakemake", "--cores", "all")
        workspace.done("um", "table")  # a look at it before the record changes nothing
        workspace.done("um", "record")
        workspace.commit()
        return Workspace(workspace.root.rename(base / "built"))


@pytest.fixture(autouse=True)
def _forked(monkeypatch) -> None:
    """What `um` calls inside the process of the tests is forked, too: it looks beside Python."""
    monkeypatch.setattr(sys, "executable", f"{launchers()}/python")


@pytest.fixture
def workspace(built, tmp_path) -> Workspace:
    """A copy of what is built."""
    return built.copy(tmp_path / "project")


@pytest.fixture(scope="module")
def shared(built, tmp_path_factory) -> Workspace:
    """A copy for tests that only plan; see `changed`."""
    return built.copy(tmp_path_factory.mktemp("shared") / "project")


def files_of(root: Path) -> dict[Path, tuple[int, int]]:
    """Files that a change or a plan may touch, with their size and time."""
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in (".git", ".dvc", "__pycache__", "log", "logs")]
        for path in (Path(folder, name) for name in names):
            state = path.stat()
            found[path.relative_to(root)] = state.st_size, state.st_mtime_ns
    return found


@pytest.fixture
def restored(built, shared) -> Workspace:
    """The shared copy, as it was built again afterwards: copying only what differs is faster than another copy."""
    yield shared
    before, after = files_of(built.root), files_of(shared.root)
    for name in after.keys() - before.keys():
        (shared.root / name).unlink()
    for name in (name for name, state in before.items() if after.get(name) != state):
        (shared.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(built.root / name, shared.root / name)


@pytest.fixture
def changed(shared) -> Callable[[str], Workspace]:
    """Give the shared copy with a file that is put back afterwards."""
    before: dict[Path, tuple[bytes, os.stat_result]] = {}

    def keep(name: str) -> Workspace:
        before[shared / name] = (shared / name).read_bytes(), (shared / name).stat()
        return shared

    yield keep
    for path, (content, state) in before.items():
        path.write_bytes(content)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
