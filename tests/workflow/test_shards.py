"""How many jobs share an extraction is the machine's: it changes neither bytes nor records."""

import json
import shutil

import pytest
from helpers.workspace import WEIGHTS, Workspace

from .test_faults import FULL
from .test_provenance import digests

COUNT = 2000


@pytest.mark.skipif(not FULL, reason="`make faults` runs it")
def test_shards_make_what_is_recorded(workspace):
    build = ("snakemake", "--cores", "all", "--set-scatter", "shards=2", "--", "features")
    before = digests(workspace)
    shutil.rmtree(workspace / "data/demo/features")
    assert planned(workspace, *build[1:]) == {"extract_shard": 2, "extract_features": 1}
    report = workspace.done(*build)
    count = len(json.loads((workspace / "data/demo/videos/index.json").read_text())["files"])
    for share in (count // 2, (count + 1) // 2):
        assert f"extracting {share} of {share} videos" in report
    assert f"extracting 0 of {count} videos" in report
    assert digests(workspace) == before
    assert not (workspace / "data/demo/features/shards").exists()
    assert workspace.idle()

    with (workspace / "profiles/default/config.yaml").open("a") as file:
        file.write("set-scatter: [shards=3]\n")
    workspace.done("um", "record")  # it plans with three shards, and has nothing to do
    workspace.change("overrides.demo.features.clips", 3)
    assert planned(workspace, "--", "features") == {"extract_shard": 3, "extract_features": 1}


def test_planning_needs_no_file_per_video(clone, tmp_path):
    workspace = clone.copy(tmp_path / "project")
    (workspace / "datasets/big").mkdir()
    (workspace / "datasets/big/dataset.yaml").write_text("provider: local\nsource: /nowhere\n")
    build = ("snakemake", "--config", "dataset=big", "seed=0")
    assert planned(workspace, *build[1:], "--set-scatter", "shards=20")["extract_shard"] == 20
    videos = {f"train/{number:05d}.mp4": {"sha256": "0" * 64, "bytes": 1} for number in range(COUNT)}
    folder = workspace / "data/big"
    for name, text in {
        WEIGHTS: "",
        "data/big/annotations.json": json.dumps({"database": {}}),
        "data/big/videos/index.json": json.dumps({"files": videos}),
        "data/big/features/index.json": json.dumps({"spec": "", "files": {}}),
    }.items():
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(text)
    workspace.done(*build, "--touch", "--forceall", "--", "features")
    assert not list(folder.rglob("*.mp4"))
    assert "Nothing to be done" in workspace.done(*build, "-n", "--set-scatter", "shards=20", "--", "features")


def planned(workspace: Workspace, *options: str) -> dict[str, int]:
    """Rule → its number of jobs in a dry run, without those that have no work."""
    lines = [line.split() for line in workspace.done("snakemake", "-n", "--quiet", "rules", *options).splitlines()]
    counts = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}
    return {rule: count for rule, count in counts.items() if rule not in ("total", "all", "features")}
