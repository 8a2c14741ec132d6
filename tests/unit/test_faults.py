"""The machine's faults: a full disk, a read-only one, no permission, a folder in a file's place.

One line names the path and the reason, nothing is half-written, and what was there is there.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.tiny import make_dataset, options

PAGE = os.sysconf("SC_PAGE_SIZE")
NOBODY = 65534


def verbs(dataset: Path, model: Path, out: Path) -> dict[str, list[object]]:
    """A command line for every verb that writes, with its output below `out`."""
    scored = ["--annotations", dataset / "annotations.json", "--predictions", model.parent / "predictions.json"]
    rendered = ["--train-videos", 7, "--test-videos", 1]
    return {
        "train": ["train", "--data-dir", dataset, "--out", out / "x", *options()],
        "test": ["test", "--data-dir", dataset, "--model-file", model, "--out", out / "x"],
        "localize": ["localize", dataset / "features/test", "--model-file", model, "--out", out / "x"],
        "evaluate": ["evaluate", *scored, "--out", out / "x"],
        "compare": ["compare", *[scored[3]] * 2, *scored[:2], "--resamples", 100, "--out", out / "x"],
        "simulate": ["simulate", "--dataset", "thumos14", *scored[:2], "--dims", 8, "--out", out / "x"],
        "download": ["download", "--dataset", "demo", *rendered, "--out", out / "x"],
    }


VERBS = tuple(verbs(Path(), Path("m"), Path()))
FOLDERS = ("train", "test", "simulate", "download")  # write a folder, the others a file


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    """A dataset, and a model with predictions beside it."""
    from um.cli import app

    folder = tmp_path_factory.mktemp("made")
    dataset, model = make_dataset(folder / "dataset"), folder / "model/last.safetensors"
    for words in (
        ["train", "--data-dir", dataset, "--out", folder / "model", *options()],
        ["test", "--data-dir", dataset, "--model-file", model, "--out", folder / "model"],
    ):
        app([str(word) for word in words], standalone_mode=False)
    return dataset, model


@pytest.fixture
def project(um, made, tmp_path):
    """Run a verb with its output in a folder."""
    facts = tmp_path / "datasets/demo/dataset.yaml"
    facts.parent.mkdir(parents=True)
    facts.write_text("provider: demo\n")
    (tmp_path / "params.yaml").write_text("seeds: [0]\n")

    def run(verb: str, out: Path) -> tuple[int, str, str]:
        return um(*verbs(*made, out)[verb])

    return run


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def told(outcome: tuple[int, str, str], code: int, *words: str) -> None:
    found, _, printed = outcome
    lines = [line for line in printed.splitlines() if line.startswith("um: ")]
    assert (found, len(lines)) == (code, 1), printed
    assert "Traceback" not in printed
    for word in words:
        assert word in lines[0]


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A file system of its own, of 64 pages."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={64 * PAGE}", "um", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(("verb", "free"), [(v, free) for v in VERBS for free in ((0, 1, 3) if v in FOLDERS else (0,))])
def test_a_full_disk(project, disk, verb, free):
    space = os.statvfs(disk)
    (disk / "filler").write_bytes(b"\0" * (space.f_bavail * space.f_frsize - free * PAGE))
    before = tree(disk)
    told(project(verb, disk), 1, str(disk), "no space left on device")
    after = tree(disk)
    whole = {name for name in after.keys() - before.keys() if name.startswith("x/") or name == "x"}
    assert before.items() <= after.items()
    assert not [name for name in after if ".part" in name or ".um.lock" in name]
    assert verb in ("train", "test", "download", "simulate") or not whole


@pytest.mark.parametrize("verb", VERBS)
def test_a_read_only_disk(project, disk, verb):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    told(project(verb, disk), 1, str(disk), "read-only file system")


@pytest.mark.parametrize("verb", VERBS)
def test_no_permission(project, tmp_path, made, verb):
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    for folder in {tmp_path, *tmp_path.parents, made[0].parent} - {Path("/")}:
        folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "out").mkdir()
    os.seteuid(NOBODY)
    try:
        outcome = project(verb, tmp_path / "out")
    finally:
        os.seteuid(0)
    told(outcome, 1, str(tmp_path / "out"), "permission denied")
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_in_a_files_place_and_the_reverse(project, tmp_path, verb):
    out = tmp_path / "out"
    out.mkdir()
    if verb in FOLDERS:
        (out / "x").write_text("mine")
    else:
        (out / "x/inner").mkdir(parents=True)
    before = tree(out)
    told(project(verb, out), 2, str(out / "x"), "a file" if verb in FOLDERS else "a folder")
    assert tree(out) == before


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        *(("train", name) for name in ("history.csv", "last.safetensors", "selected.csv", "state.pt")),
        *(("test", name) for name in ("predictions.json", "metrics.json")),
    ],
)
def test_files_of_others_are_not_replaced(project, tmp_path, verb, name):
    path = tmp_path / "out/x" / name
    path.parent.mkdir(parents=True)
    path.write_text("by somebody else\n")
    told(project(verb, tmp_path / "out"), 2, str(path), "move it away")
    assert tree(tmp_path / "out") == {"x": None, f"x/{name}": b"by somebody else\n"}
    path.rename(tmp_path / "moved")
    assert project(verb, tmp_path / "out")[0] == 0
    assert project(verb, tmp_path / "out")[0] == 0  # over its own


COLUMNS = "iteration,loss\n1,2\n"


@pytest.mark.parametrize("name", ["state_selected.pt", "history.csv", "selected.csv"])
def test_files_that_look_like_ours_are_not_replaced(project, tmp_path, name):
    path = tmp_path / "out/x" / name
    path.parent.mkdir(parents=True)
    path.write_text(COLUMNS)
    told(project("train", tmp_path / "out"), 2, str(path), "move it away")
    assert tree(tmp_path / "out") == {"x": None, f"x/{name}": COLUMNS.encode()}


def test_pictures_of_others_are_not_replaced(um, made, tmp_path):
    words = verbs(*made, tmp_path / "out")["localize"][:-1]
    (tmp_path / "out/p-timelines").mkdir(parents=True)
    (tmp_path / "out/p-timelines/video_06.png").write_text("mine")
    told(um(*words, tmp_path / "out/p.json"), 2, "video_06.png", "move it away")
    assert tree(tmp_path / "out") == {"p-timelines": None, "p-timelines/video_06.png": b"mine"}
    assert um(*words, "/dev/null")[0] == 0
    assert not Path("/dev/null-timelines").exists()


def test_results_of_another_verb_are_not_replaced(um, made, tmp_path):
    from shutil import copytree

    results = copytree(made[1].parent, tmp_path / "results")
    before = tree(results)
    compare, localize = (verbs(*made, tmp_path)[verb][:-1] for verb in ("compare", "localize"))
    told(um(*compare, results / "metrics.json"), 2, "metrics.json", "move it away")
    told(um(*localize, results / "predictions.json"), 2, "predictions.json", "choose another --out")
    assert tree(results) == before


def test_weights_of_others_are_not_taken_for_ours(um, tmp_path):
    (tmp_path / "w.safetensors").write_text("mine")
    told(um("weights", "--out", "w.safetensors"), 2, "w.safetensors", "sha256", "move it away")
    assert (tmp_path / "w.safetensors").read_text() == "mine"


def test_a_file_of_the_users_by_the_name_of_the_lock(project, tmp_path):
    (tmp_path / "out/x").mkdir(parents=True)
    (tmp_path / "out/x/.um.lock").write_text("mine")
    told(project("train", tmp_path / "out"), 2, ".um.lock", "move it away")
    assert (tmp_path / "out/x/.um.lock").read_text() == "mine"


@pytest.mark.parametrize("option", ["--lr=1000", "--alpha=1e6", "--margin=1e6", "--lr=1e30"])
def test_a_training_that_diverges(um, made, tmp_path, option):
    told(um(*verbs(*made, tmp_path)["train"], option), 2) if "e30" in option else None
    code, _, printed = um(*verbs(*made, tmp_path / "y")["train"], option)
    assert code in (0, 2), printed
    assert "a bug" not in printed


@pytest.mark.parametrize("verb", ["localize", "evaluate", "compare"])
def test_a_file_of_others_is_not_replaced(project, tmp_path, verb):
    path = tmp_path / "out/x"
    path.parent.mkdir()
    path.write_text('{"results": {}}\n')
    told(project(verb, tmp_path / "out"), 2, str(path), "move it away")
    assert path.read_text() == '{"results": {}}\n'
    path.write_text("")  # as mktemp makes it
    assert project(verb, tmp_path / "out")[0] == 0
    assert project(verb, tmp_path / "out")[0] == 0


def test_a_device_is_written_to_and_stays(um, made):
    words = verbs(*made, Path("/dev"))["evaluate"]
    assert um(*words[:-1], "/dev/null")[0] == 0
    assert Path("/dev/null").is_char_device()
    told(um(*words[:-1], "/dev/full"), 1, "/dev/full", "no space left on device")
    assert Path("/dev/full").is_char_device()


def test_a_folder_is_written_by_one_command_at_a_time(project, tmp_path):
    from um.files import held

    with held(tmp_path / "out/x", "um train"):
        for verb in FOLDERS:
            told(project(verb, tmp_path / "out"), 2, str(tmp_path / "out/x"), "`um train` (process", "wait until")
    assert not (tmp_path / "out/x").exists()
    (tmp_path / "out/x").mkdir(parents=True)
    (tmp_path / "out/x/.um.lock").write_text("`um train` (process 1 on a machine that was killed)")
    assert project("train", tmp_path / "out")[0] == 0


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("[/red]\nx" + "y" * 10_000_000), 1, "a bug in um, not in your input: ValueError [/red] x"),
        (RecursionError(), 1, "a bug in um, not in your input: RecursionError"),
        (MemoryError(), 1, "out of memory"),
        (OSError(28, "No space left on device"), 1, "this machine: no space left on device"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_every_error_is_one_line(um, monkeypatch, error, code, said, debug):
    from um.provenance import record

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(record, "record", fail)
    found, _, printed = um("record", *debug)
    *traceback, line = printed.splitlines()
    assert (found, line[: 4 + len(said)]) == (code, f"um: {said}")
    assert len(line) < 1000
    assert bool(traceback) == bool(debug and code != 130)


@pytest.mark.parametrize(
    ("table", "age", "cleared"),
    [
        ("", 0, True),  # torn by a kill
        ('{"write": {"/x": {"pid": 0,', 0, True),
        ('{"write": {"/x": {"pid": 4194305, "cmd": "commit"}}}', 0, True),  # no such process
        ('{"write": {"/x": {"pid": OURS, "cmd": "commit"}}}', 10**9, True),  # a later process has its number
        ('{"write": {"/x": {"pid": OURS, "cmd": "commit"}}}', -10, False),
    ],
)
def test_what_a_killed_dvc_leaves_is_cleared(tmp_path, monkeypatch, table, age, cleared):
    from um.provenance import record

    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True)
    path.write_text(table := table.replace("OURS", str(os.getpid())))
    os.utime(path, (then := path.stat().st_mtime - age, then))
    record._forget_killed()
    assert path.read_text() == ("{}" if cleared else table)
