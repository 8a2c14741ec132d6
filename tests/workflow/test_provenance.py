"""`um record` and `um restore`: between Snakemake and DVC, and never over a dirty tree."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from helpers.workspace import Workspace

from um.errors import BadInput
from um.files import held
from um.forms import read_yaml
from um.provenance import accept, record

from .test_faults import FULL, follow


def digests(workspace: Workspace) -> dict[str, str]:
    """sha256 of everything that is built."""
    files = (p for top in ("data", "models", "results", "tables") for p in (workspace / top).rglob("*") if p.is_file())
    return {str(p.relative_to(workspace.root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)}


def test_both_are_idle_after_a_run_and_its_record(built):
    assert built.idle()


@pytest.mark.skipif(not FULL, reason="`make faults` runs it")
def test_round_trip_through_a_remote(workspace, tmp_path):
    workspace.done("dvc", "remote", "add", "--quiet", "-d", "storage", str(tmp_path / "remote"))
    workspace.commit()
    workspace.done("dvc", "push")
    subprocess.run(["git", "clone", "--quiet", str(workspace.root), str(tmp_path / "other")], check=True)
    other = Workspace(tmp_path / "other")
    other.done("dvc", "pull", "evaluate@demo")
    assert "hint: `um restore` if it comes from `dvc pull`" in other.run("snakemake", "-n").stdout
    assert "train_model" in other.done("um", "restore").partition("snakemake has work left for ")[2]
    other.done("dvc", "pull", "train@demo", "features@demo")
    left = other.done("um", "restore").partition("snakemake has work left for ")[2]
    assert "download_dataset" in left
    other.done("dvc", "pull")
    assert "work left" not in other.done("um", "restore")
    assert other.idle()
    assert digests(other) == digests(workspace)
    other.change("overrides.demo.train.iterations", 5)
    assert "train_model" in other.done("snakemake", "-n")


def test_damage_in_a_remote_is_not_blessed(workspace, tmp_path, monkeypatch):
    """Without `verify`, DVC itself pulls it and says nothing."""
    remote, model = tmp_path / "remote", "models/demo/seed0/last.safetensors"
    workspace.done("dvc", "remote", "add", "--quiet", "-d", "storage", str(remote))
    workspace.commit()
    workspace.done("dvc", "push")
    md5 = hashlib.md5((workspace / model).read_bytes(), usedforsecurity=False).hexdigest()
    damaged = remote / "files/md5" / md5[:2] / md5[2:]
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"X")
    subprocess.run(["git", "clone", "--quiet", str(workspace.root), str(tmp_path / "other")], check=True)
    other = Workspace(tmp_path / "other")
    other.done("dvc", "pull")
    monkeypatch.chdir(other.root)
    with pytest.raises(BadInput, match=f"{model}: found other bytes; expected what dvc.lock records"):
        record.restore()
    assert not (other / ".snakemake/metadata").exists()
    if FULL:
        said = follow(other, "um restore")
        assert "hint: `dvc repro --force --single-item train@demo; um restore` builds it again" in said[1], said
        assert (other / model).read_bytes() == (workspace / model).read_bytes()


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        (
            "models/demo/seed0/last.safetensors",
            "models/demo/seed1/last.safetensors",
            "found other bytes; expected what",
        ),
        ("models/demo/seed0/history.csv", "models/demo/seed1/history.csv", "found other bytes; expected what dvc.lock"),
        ("results/demo/seed0/metrics.json", "results/demo/seed1/metrics.json", "found other bytes; expected what"),
        ("data/demo/annotations.json", "params.yaml", "found other bytes; expected what dvc.lock"),
        ("results/benchmark.md", "results/benchmark.csv", "found other bytes; expected what dvc.lock"),
    ],
)
def test_equal_times_prove_nothing(changed, monkeypatch, name, source, expected):
    workspace = changed(name)
    monkeypatch.chdir(workspace.root)
    state = (workspace / name).stat()
    (workspace / name).write_bytes((workspace / source).read_bytes())
    os.utime(workspace / name, ns=(state.st_atime_ns, state.st_mtime_ns))
    for verb in (record.record, record.restore):
        with pytest.raises(BadInput, match=f"{name}: {expected}"):
            verb()


def test_what_a_job_has_read_is_known(restored, monkeypatch):
    """Also before the first record, when there is no dvc.lock to compare with."""
    monkeypatch.chdir(restored.root)
    (restored / "dvc.lock").unlink()
    for name, of in (("metrics", "tables/demo/confusion.csv"), ("predictions", "tables/demo/confusion.csv")):
        path = restored / f"results/demo/seed0/{name}.json"
        content, state = path.read_bytes(), path.stat()
        path.write_bytes(content.replace(b"0", b"1"))
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        with pytest.raises(BadInput, match=f"{path.relative_to(restored.root)}: found changes after {of} was made"):
            record.record()
        path.write_bytes(content)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_one_command_at_a_time(restored, monkeypatch):
    monkeypatch.chdir(restored.root)
    for verb in (record.record, record.restore):
        with held(Path(), "um record"), pytest.raises(BadInput, match=r"found `um record` .process .* running"):
            verb()
    (restored / ".snakemake/locks").mkdir(exist_ok=True)
    (restored / ".snakemake/locks/0.output.lock").touch()
    for verb in (record.record, record.restore):
        with pytest.raises(BadInput, match="snakemake: found its lock on this folder"):
            verb()


@pytest.mark.skipif(not FULL, reason="`make faults` runs it")
def test_features_alone_are_enough_to_train(workspace, tmp_path):
    """Others' videos are recorded, but not copied to DVC's cache or the remote, and nobody needs them."""
    (workspace / "datasets/demo/.sources.lock.json.lock").touch()  # which a download leaves, and git does not know
    workspace.change("shared", [])
    workspace.change("unshared", ["demo"])
    workspace.done("um", "record")
    workspace.done("dvc", "remote", "add", "--quiet", "-d", "storage", str(tmp_path / "remote"))
    workspace.commit()
    workspace.done("dvc", "push")
    subprocess.run(["git", "clone", "--quiet", str(workspace.root), str(tmp_path / "other")], check=True)
    other = Workspace(tmp_path / "other")
    other.done("dvc", "pull", "data/demo/annotations.json", "data/demo/features")
    assert not (other / "data/demo/videos").exists()
    other.done("um", "train", "--dataset", "demo", "--seed", "0", "--out", "models/demo/seed0")
    model = "models/demo/seed0/last.safetensors"
    assert (other / model).read_bytes() == (workspace / model).read_bytes()
    other.done("snakemake", "--config", "only=evaluate", "dataset=demo", "seed=0", "--", "evaluate")
    scores = "results/demo/seed0/metrics.json"
    assert (other / scores).read_bytes() == (workspace / scores).read_bytes()
    other.done("dvc", "pull", "--force")
    assert "not here: data/demo/videos" in other.done("um", "restore")


def test_comments_are_accepted_and_other_code_is_not(workspace, monkeypatch, caplog):
    monkeypatch.chdir(workspace.root)
    caplog.set_level("INFO")
    path = workspace / "src/um/training.py"
    text = path.read_text()
    edited = text.replace('"""Seed all generators', '"""Seed every generator').replace(
        "\nHistory = ", "\n# mine\nHistory = "
    )
    path.write_text(edited.replace("Report = Callable[", "Report = Callable[  # a comment\n"))
    assert not workspace.idle()
    before = digests(workspace)
    accept.accept()
    assert "accepted, with the same code as recorded: 1 file (src/um/training.py)" in caplog.text
    assert workspace.idle()
    assert digests(workspace) == before
    path.write_text(edited.replace("random.seed(seed)", "random.seed(seed + 1)"))
    with pytest.raises(BadInput, match=r"training\.py: found other (code|bytes); expected"):
        accept.accept()
    path.write_text(text)
    workspace.change("overrides.demo.train.margin", 50.0)
    with pytest.raises(BadInput, match=r"overrides\.demo\.train that differs from dvc\.lock"):
        accept.accept()


def test_record_refuses_unfinished_work(restored, monkeypatch):
    monkeypatch.chdir(restored.root)
    ledger = (restored / "dvc.lock").read_bytes()
    restored.change("overrides.demo.evaluate.tiou", "0.5:0.7:0.1")
    with pytest.raises(BadInput, match="snakemake: found work for rows_of_run, table, test_checkpoints, test_model"):
        record.record()
    assert (restored / "dvc.lock").read_bytes() == ledger


def test_record_refuses_what_snakemake_did_not_make(restored, monkeypatch):
    monkeypatch.chdir(restored.root)
    shutil.rmtree(restored / ".snakemake")
    with pytest.raises(BadInput, match=r"found a file that Snakemake has no record of; .* `um restore` if it"):
        record.record()


@pytest.mark.parametrize("name", ["train/rgb/demo_train_0001.npy", "train/rgb/stray.npy", "spec.json"])
def test_record_refuses_files_that_differ_from_their_index(restored, monkeypatch, name):
    monkeypatch.chdir(restored.root)
    (restored / "data/demo/features" / name).write_bytes(b"by hand")
    with pytest.raises(BadInput, match=f"data/demo/features: found {name} not as listed"):
        record.record()


def test_record_refuses_models_of_other_seeds(restored, monkeypatch):
    monkeypatch.chdir(restored.root)
    restored.change("seeds", [0])
    with pytest.raises(BadInput, match="models/demo: found seed1, not of the seeds 0"):
        record.record()


def test_record_refuses_selected_models_that_are_not_asked_for(restored, monkeypatch):
    monkeypatch.chdir(restored.root)
    restored.change("overrides.demo.train.held_out", 0.0)
    with pytest.raises(BadInput, match="results/demo: found seed0/selected, seed1/selected, not of"):
        record.record()


@pytest.mark.parametrize(
    "name", ["results/benchmark.md", "models/demo/seed0/history.csv", "results/demo/seed1/metrics.json"]
)
def test_record_refuses_what_was_changed_by_hand(restored, monkeypatch, name):
    monkeypatch.chdir(restored.root)
    ledger = (restored / "dvc.lock").read_bytes()
    with (restored / name).open("a") as file:
        file.write("99.9")
    with pytest.raises(BadInput, match=f"{name}: found changes after it was made"):
        record.record()
    assert (restored / "dvc.lock").read_bytes() == ledger


def test_record_refuses_files_that_no_rule_makes(restored, monkeypatch):
    monkeypatch.chdir(restored.root)
    (restored / "models/demo/seed0/stray.safetensors").write_bytes(b"by hand")
    with pytest.raises(BadInput, match=r"models/demo/seed0/stray.safetensors: found a file that no rule makes"):
        record.record()


def test_restore_refuses_what_dvc_did_not_record(restored, monkeypatch):
    monkeypatch.chdir(restored.root)
    (restored / "results/demo/seed0/metrics.json").write_text("{}")
    with pytest.raises(BadInput, match=r"results/demo/seed0/metrics\.json: found other bytes; expected what dvc\.lock"):
        record.restore()


def test_dvc_drives_snakemake(workspace):
    for name in ("src/um/report/table/render.py", "src/um/features/prefetch.py"):
        with (workspace / name).open("a") as file:
            file.write("# edited\n")
    before = digests(workspace)
    times = {p: p.stat().st_mtime_ns for p in (workspace / "data/demo/features").rglob("*.npy")}
    report = workspace.done("dvc", "repro")
    assert [line for line in report.splitlines() if line.startswith("Running stage")] == [
        "Running stage 'features@demo':",
        "Running stage 'rows@demo':",
        "Running stage 'rows_compared@demo-official':",
        "Running stage 'table':",
    ]
    assert digests(workspace) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times  # resumed: nothing was extracted again
    assert "up to date" in workspace.done("dvc", "status")


@pytest.mark.skipif(not FULL, reason="`make faults` runs it: a minute")
def test_an_experiment_of_dvc_edits_params_and_leaves_both_idle(workspace):
    for name, value in (("user.name", "t"), ("user.email", "t@t")):
        workspace.done("git", "config", name, value)
    changed = "overrides.demo.train.alpha", "overrides.demo.localize.cas_thresholds"
    words = ["--set-param", f"{changed[0]}=0.00001", "--set-param", f"{changed[1]}=0:1:0.1"]
    before = yaml.safe_load((workspace / "params.yaml").read_text())
    report = workspace.done("dvc", "exp", "run", "--name", "small", *words)
    assert "Running stage 'train@demo'" in report
    assert "Running stage 'train_compared@demo-official'" not in report
    after = read_yaml(workspace / "params.yaml")
    assert after["overrides"]["demo"]["train"]["alpha"] == 1e-5
    assert after["overrides"]["demo"]["localize"]["cas_thresholds"] == "0:1:0.1"
    assert after["variants"] == before["variants"]
    assert workspace.idle()
    assert "small" in workspace.done("dvc", "exp", "list")
    workspace.done("git", "checkout", "--quiet", ".")
    workspace.done("dvc", "exp", "apply", "small")
    assert read_yaml(workspace / "params.yaml") == after


@pytest.mark.skipif(not FULL, reason="`make faults` runs it: minutes")
def test_queued_experiments_leave_the_project_alone(workspace):
    for name, value in (("user.name", "t"), ("user.email", "t@t")):
        workspace.done("git", "config", name, value)
    before = digests(workspace)
    workspace.done("dvc", "exp", "run", "--queue", "--set-param", "overrides.demo.train.margin=50,200")
    workspace.done("dvc", "exp", "run", "--run-all")
    rows = workspace.done("dvc", "exp", "show", "--csv").splitlines()
    assert sum("Success" in row for row in rows) == 2, rows
    assert digests(workspace) == before
    assert workspace.idle()


@pytest.mark.skipif(not FULL, reason="`make faults` runs it: a minute")
def test_a_training_killed_under_dvc_continues(workspace, tmp_path):
    """Finished seeds stay, the killed one resumes, and DVC's output names the way out of Snakemake's lock."""
    workspace.change("overrides.demo.train.iterations", 400)
    straight = workspace.copy(tmp_path / "straight")
    straight.done("dvc", "repro", "train@demo")
    job = workspace.start("dvc", "repro", "train@demo")
    first = workspace / "models/demo/seed0/last.safetensors"
    before = first.stat().st_mtime_ns
    while not (workspace / "models/demo/seed1/state.pt").exists():
        assert job.poll() is None
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    said = workspace.run("dvc", "repro", "train@demo")
    assert said.returncode != 0
    assert "snakemake --unlock" in said.stdout or "--unlock" in said.stdout
    workspace.done("snakemake", "--unlock")
    finished = first.stat().st_mtime_ns if first.exists() else before
    workspace.done("dvc", "repro", "train@demo")
    assert finished == before or first.stat().st_mtime_ns == finished
    for path in (straight / "models/demo").rglob("*.safetensors"):
        assert (workspace / path.relative_to(straight.root)).read_bytes() == path.read_bytes()
    assert not [*(workspace / "models/demo").rglob("state*.pt")]


def test_a_killed_training_goes_on_to_the_same_bytes(workspace):
    target, folder = "models/demo/seed0/last.safetensors", workspace / "models/demo/seed0"
    workspace.change("overrides.demo.train.iterations", 60)
    job = workspace.start("snakemake", target)
    while not (folder / "state.pt").exists():
        assert job.poll() is None
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    left = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    assert left == ["checkpoints", "state.pt"]
    workspace.done("snakemake", "--unlock")
    workspace.done("snakemake", target)
    resumed = {path: path.read_bytes() for path in folder.rglob("*.*")}
    assert {path.name for path in resumed if path.parent == folder} == {
        *("last.safetensors", "history.csv", "selected.safetensors", "selected.csv")
    }
    assert len([path for path in resumed if path.parent.name == "checkpoints"]) == 31  # of 60 / 2, and their index
    workspace.done("snakemake", "--forcerun", "train_model", "--", target)
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == resumed
