"""Damage, and kills of `um record` and `um restore`: both refuse, and following what they say ends in a clean state.

`make faults` tries every fault alone and kills both verbs at many points; here is one run for each kind.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers.workspace import Workspace

FULL = bool(os.environ.get("UM_FAULTS"))
NPY = "data/demo/features/train/rgb/demo_train_0001.npy"
OTHER = "data/demo/features/train/rgb/demo_train_0002.npy"
MODEL = "models/demo/seed0/last.safetensors"
HISTORY = "models/demo/seed0/history.csv"
METRICS = "results/demo/seed0/metrics.json"
STEPS = 6  # pieces of advice that may be needed


def write(path: Path, content: bytes) -> None:
    """Other bytes, with the time that the file had."""
    state = path.stat()
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(state.st_mode)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def flip(path: Path) -> None:
    """One bit of one byte."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    write(path, bytes(content))


def flipped(name: str) -> Callable[[Workspace], None]:
    return lambda w: flip(w / name)


def cached(workspace: Workspace, name: str) -> Path:
    """The copy of a file in DVC's cache."""
    md5 = hashlib.md5((workspace / name).read_bytes(), usedforsecurity=False).hexdigest()
    return workspace / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def new(workspace: Workspace, name: str) -> None:
    (workspace / name).parent.mkdir(parents=True, exist_ok=True)
    (workspace / name).write_bytes(b"mine")


FAULTS: dict[str, Callable[[Workspace], None]] = {
    "features": flipped(NPY),
    "another video's features": lambda w: write(w / NPY, (w / OTHER).read_bytes()),
    "the index of the features": lambda w: write(w / "data/demo/features/index.json", b'{"files": {}}'),
    "a video": lambda w: flip(next((w / "data/demo/videos/test").glob("*.mp4"))),
    "no video": lambda w: next((w / "data/demo/videos/test").glob("*.mp4")).unlink(),
    "annotations": flipped("data/demo/annotations.json"),
    "weights": flipped("data/weights/i3d-inception-rgb.safetensors"),
    "another seed's model": lambda w: write(w / MODEL, (w / MODEL.replace("seed0", "seed1")).read_bytes()),
    "history": flipped(HISTORY),
    "no history": lambda w: (w / HISTORY).unlink(),
    "metrics": lambda w: write(w / METRICS, (w / METRICS.replace("seed0", "seed1")).read_bytes()),
    "metrics by hand": lambda w: (w / METRICS).write_text("{}"),
    "predictions": flipped("results/demo/seed1/selected/predictions.json"),
    "no results of a seed": lambda w: shutil.rmtree(w / "results/demo/seed1"),
    "a note": lambda w: new(w, "results/demo/seed0/notes.txt"),
    "another seed": lambda w: new(w, "models/demo/seed9/last.safetensors"),
    "the table": flipped("results/benchmark.md"),
    "the cache": lambda w: flip(cached(w, MODEL)),
    "file and cache": lambda w: (flip(cached(w, MODEL)), flip(w / MODEL)),
    "a file without copies": lambda w: (cached(w, MODEL).unlink(), flip(w / MODEL)),
    "a folder without copies": lambda w: ([p.unlink() for p in (w / ".dvc/cache").rglob("*.dir")], flip(w / MODEL)),
    "a torn dvc.lock": lambda w: write(w / "dvc.lock", (w / "dvc.lock").read_bytes().rpartition(b"5: ")[0]),
    "a lock that a kill left": lambda w: new(w, ".snakemake/locks/0.input.lock"),
    "nothing that Snakemake knows": lambda w: shutil.rmtree(w / ".snakemake"),
}
# .dvcignore leaves notes out; the last one is what `um restore` is for
NO_MATTER = {("record", "a note"), ("restore", "a note"), ("restore", "nothing that Snakemake knows")}
TOGETHER = ("features", "no history", "the table", "the cache", "a note", "metrics")


def contents(workspace: Workspace) -> dict[str, int]:
    """How many files of which bytes there are, in the workspace or aside."""
    tops = ("data", "models", "results", "aside", "datasets")
    files = [path for top in tops for path in (workspace / top).rglob("*") if path.is_file()]
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files if not path.name.startswith(".")]
    return {digest: sums.count(digest) for digest in sums}


def say(workspace: Workspace, command: str) -> tuple[bool, str]:
    """Whether commands succeed, and what `um` says last."""
    result = workspace.run("bash", "-c", command)
    lines = [line for line in result.stdout.splitlines() if line.startswith("um: ")]
    assert "Traceback" not in result.stdout, result.stdout
    return result.returncode == 0, lines[-1] if lines else ""


def follow(workspace: Workspace, verb: str) -> list[str]:
    """Run a verb and then, as long as it refuses, the first commands that its line names; what it said."""
    command, said = verb, []
    for _ in range(STEPS):
        done, line = say(workspace, command)
        if done and command.rpartition("; ")[2].startswith(("um record", "um restore")):
            assert workspace.idle(), [*said, workspace.run("dvc", "status").stdout]
            return said
        if line:
            said.append(line)
            named = re.findall("`([^`]*)`", line.partition("; hint: ")[2])
            assert named, said
            command = named[0]
        else:
            assert done, [*said, command]
            command = verb
    raise AssertionError("\n".join(said))


def check_nothing_is_lost(workspace: Workspace, before: dict[str, int], made: Workspace) -> None:
    """What was there is there still or aside, and what is recorded is what had been built."""
    assert before.keys() <= contents(workspace).keys()
    for top in ("data", "models", "results"):
        for path in (made / top).rglob("*"):
            if path.is_file():
                assert (workspace / str(path.relative_to(made.root))).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("verb", ["restore", *["record"] * FULL])
def test_all_damage_is_found_and_undone(workspace, built, verb):
    for fault in TOGETHER:
        FAULTS[fault](workspace)
    for name in (".um.lock", ".um-01234567-89.part"):  # which a killed training leaves, and nobody minds
        new(workspace, f"models/demo/seed1/{name}")
    before = contents(workspace)
    said = follow(workspace, f"um {verb}")
    assert len(said) == 1, said  # one piece of advice does for all
    check_nothing_is_lost(workspace, before, built)


@pytest.mark.skipif(not FULL, reason="make faults")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", ["restore", "record"])
def test_a_fault_is_named_and_its_advice_works(workspace, built, verb, fault):
    FAULTS[fault](workspace)
    before = contents(workspace)
    assert bool(follow(workspace, f"um {verb}")) == ((verb, fault) not in NO_MATTER)
    check_nothing_is_lost(workspace, before, built)


def killed(workspace: Workspace, verb: str, seconds: float, child: str = "") -> bool:
    """Kill a verb and all it has started some seconds after its start, or that of one of its children."""
    job = workspace.start("um", verb)
    while child and job.poll() is None and not any(child in line for line in commands(job.pid)):
        time.sleep(0.01)
    time.sleep(seconds)
    alive = job.poll() is None
    if alive:
        os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    return alive


def commands(session: int) -> list[str]:
    """The command lines of a session's processes."""
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                lines.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it has ended
    return lines


POINTS = [0, 0.5, 1, 1.5, 2, 2.5, 3, 4]
KILLS = [("record", "dvc commit", s) for s in POINTS] + [("restore", "snakemake --touch", s) for s in POINTS]
KILLS += [(verb, "", s) for verb in ("record", "restore") for s in (1, 3, 6, 9, 12, 15)]


@pytest.mark.skipif(not FULL, reason="make faults")
@pytest.mark.parametrize(("verb", "child", "seconds"), KILLS)
def test_a_kill_at_any_point_loses_nothing(workspace, built, verb, child, seconds):
    shutil.rmtree(workspace / ".dvc/cache")  # as before the first record: everything is to be moved
    (workspace / "dvc.lock").unlink() if verb == "record" else workspace.done("dvc", "commit", "--force")
    before = contents(workspace)
    killed(workspace, verb, seconds, child)
    write(workspace / ".dvc/tmp/rwlock", b'{"read": {')  # DVC rewrites it in place
    follow(workspace, f"um {verb}")
    check_nothing_is_lost(workspace, before, built)


def unknown_weights(workspace: Workspace) -> None:
    """Weights that were put there, so that Snakemake has no record of them."""
    for record in (workspace / ".snakemake/metadata").rglob("*"):
        if record.is_file() and json.loads(record.read_text())["rule"] == "weights":
            record.unlink()


def other_machine(workspace: Workspace) -> None:
    """A record of other bytes from the same inputs."""
    lock = workspace / "dvc.lock"
    md5 = yaml.safe_load(lock.read_text())["stages"]["evaluate@demo"]["outs"][0]["md5"]
    lock.write_text(lock.read_text().replace(md5, f"{md5[:30].translate(str.maketrans('01', '10'))}00.dir"))


EVALUATE = "snakemake --config only=evaluate dataset=demo seed=0 -- evaluate"
ADVICE: dict[str, tuple[Callable[[Workspace], object], str, int]] = {  # state, command, which of the named commands
    "work for DVC": (lambda w: w.change("overrides.demo.evaluate.tiou", "0.5:0.7:0.1"), "um restore", 0),
    "weights that Snakemake does not know": (unknown_weights, "um record", 2),
    "another machine": (other_machine, "um record", 1),
    "no model for the stage": (lambda w: (w / MODEL).unlink(), EVALUATE, 0),
}


@pytest.mark.skipif(not FULL, reason="make faults")
@pytest.mark.parametrize("case", ADVICE)
def test_other_advice_works_from_the_state_that_prints_it(workspace, case):
    state, command, which = ADVICE[case]
    state(workspace)
    done, line = say(workspace, command)
    assert not done
    named = re.findall("`([^`]*)`", line.partition("; hint: ")[2])
    assert say(workspace, named[which])[0], line
    done, line = say(workspace, command)
    assert done, line
    assert command == "um record" or say(workspace, "um record")[0]
    assert workspace.idle()
