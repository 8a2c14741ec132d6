"""Every file that a verb reads, damaged in every way: one line, exit code 2, nothing written, and soon."""

import json
import os
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import make_dataset, options

from um.method.checkpoint import Header

FULL = bool(os.environ.get("UM_FAULTS"))  # every key of every file gets every value
SECONDS = 5  # 2 are promised; the test machine is shared

SOURCES = """
train: val
test: test
annotations:
  - {name: one, about: a, terms: b, files: [{file: a.json, urls: ["https://example.org/a.json"]}]}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Data, a model, its results and facts of two datasets: `tiny` comes as features, `listed` is fetched."""
    from um.cli import app

    root = tmp_path_factory.mktemp("project")
    made = make_dataset(root / "elsewhere")
    (made / "features/spec.json").write_text('{"fps": 25.0, "window": 16, "stride": 16}\n')
    facts = root / "datasets/tiny"
    facts.mkdir(parents=True)
    (facts / "dataset.yaml").write_text(f"provider: features\nsource: {root}/elsewhere\ntitle: Tiny\n")
    facts = root / "datasets/listed"
    facts.mkdir()
    (facts / "dataset.yaml").write_text("provider: sources\n")
    (facts / "sources.yaml").write_text(SOURCES)
    pinned = {"a.json": {"sha256": "0" * 64, "bytes": 3}}
    (facts / "sources.lock.json").write_text(json.dumps({"versions": {"annotations": "one"}, "files": pinned}))
    (facts / "missing.tsv").write_text("id\treason\tdate\tsource\nabc\tprivate\t-\tothers\n")
    (root / "params.yaml").write_text("seeds: [0]\noverrides: {tiny: {train: {num_segments: 12}}}\n")
    before = Path.cwd()
    os.chdir(root)
    try:
        for words in (
            ["download", "--dataset", "tiny"],
            ["extract", "--dataset", "tiny"],
            ["train", "--dataset", "tiny", "--out", "models/tiny/seed0", *options()],
            *(
                ["test", "--dataset", "tiny", "--model-file", f"models/tiny/seed0/{models}", "--out", out]
                for models, out in (
                    ("last.safetensors", "results/tiny/seed0"),
                    ("checkpoints", "results/tiny/seed0/best_on_test"),
                )
            ),
            ["table", "--dataset", "tiny", "--out", "table"],
        ):
            app(words, standalone_mode=False)
    finally:
        os.chdir(before)
    for role in ("train", "test"):
        names = sorted(path.stem for path in (root / f"data/tiny/features/{role}/rgb").iterdir())
        (root / f"data/tiny/split_{role}.txt").write_text("\n".join(names) + "\n")
    return root


TRAIN = ["train", "--dataset", "tiny", "--out", "out", *options()]
TEST = ["test", "--dataset", "tiny", "--model-file", "models/tiny/seed0/last.safetensors", "--out", "out"]
EVALUATE = ["evaluate", "--annotations", "data/tiny/annotations.json", "--out", "out/metrics.json"]
EVALUATE += ["--predictions", "results/tiny/seed0/predictions.json"]
CHECKPOINTS = ["test", "--dataset", "tiny", "--model-file", "models/tiny/seed0/checkpoints", "--out", "out"]
CHECKPOINT = "models/tiny/seed0/checkpoints/000004.safetensors"
LOCALIZE = ["localize", "data/tiny/features/test", "--model-file", CHECKPOINT, "--out", "out/p"]
TABLE = ["table", "--dataset", "tiny", "--out", "out"]
STATUS = ["data", "status", "--dataset", "listed"]
READERS = {  # file → a verb that reads it
    "data/tiny/annotations.json": EVALUATE,
    "results/tiny/seed0/predictions.json": EVALUATE,
    "results/tiny/seed0/metrics.json": TABLE,
    "results/tiny/seed0/best_on_test/predictions.json": TABLE,
    "data/tiny/features/spec.json": TRAIN,
    "data/tiny/features/index.json": TRAIN,
    "data/tiny/features/train/rgb/video_00.npy": TRAIN,
    "data/tiny/features/test/rgb/video_06.npy": TEST,
    "data/tiny/split_train.txt": TRAIN,
    "models/tiny/seed0/last.safetensors": TEST,
    "models/tiny/seed0/checkpoints/index.json": CHECKPOINTS,
    CHECKPOINT: LOCALIZE,
    "params.yaml": TABLE,
    "datasets/tiny/dataset.yaml": TABLE,
    "datasets/listed/sources.yaml": STATUS,
    "datasets/listed/sources.lock.json": STATUS,
    "datasets/listed/missing.tsv": STATUS,
    "data/tiny/videos/index.json": ["data", "status", "--dataset", "tiny"],
}

Damage = Callable[[Path], object]


def content(value: bytes | str) -> Damage:
    return lambda path: path.write_bytes(value if isinstance(value, bytes) else value.encode())


def changed(change: Callable[[bytes], bytes]) -> Damage:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def special(make: Callable[[Path], object]) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


DAMAGES: dict[str, Damage] = {
    "gone": Path.unlink,
    "empty": content(""),
    "blanks": content(" \n\n"),
    "zeros": content(b"\0" * 4096),
    "noise": content(np.random.default_rng(0).bytes(4096)),
    "cut": changed(lambda old: old[: len(old) // 2]),
    "Latin-1": changed(lambda old: old[:2] + b"\xe9t\xe9" + old[2:]),
    "UTF-16 without its mark": changed(lambda old: old.decode("latin1").encode("utf-16-le")),
    "null": content("null"),
    "a number": content("3"),
    "a text": content('"x"'),
    "a list": content("[]"),
    "a list of lists": content("[[[]]]"),
    "nested without end": content("[" * 200_000),
    "mappings nested without end": content('{"a":' * 100_000 + "1" + "}" * 100_000),
    "a number of 5,000 digits": content(f'{{"fps": {"9" * 5000}}}'),
    "half a surrogate pair": content('{"\\ud800": "\\udfff"}'),
    "keys twice": content('{"a": 1, "a": 2}'),
    "one line of 3 MB": content("x" * 3_000_000),
    "control characters": content('\x1b[31m{"[/red]\x07'),
    "a pipe": special(os.mkfifo),
    "a folder": special(Path.mkdir),
    "a link to nothing": special(lambda path: path.symlink_to("nowhere")),
    "a link to itself": special(lambda path: path.symlink_to(path)),
    "an endless device": special(lambda path: path.symlink_to("/dev/zero")),
}
# damage that a file survives: it may be absent, or half of it says as much as the whole
FINE = {
    "data/tiny/features/index.json": ("gone",),
    "data/tiny/split_train.txt": ("gone", "cut"),
    "datasets/tiny/dataset.yaml": ("cut",),
    "datasets/listed/sources.lock.json": ("gone",),
    "datasets/listed/missing.tsv": ("gone", "cut"),
    "data/tiny/videos/index.json": ("gone",),
}
CASES = [(file, damage) for file in READERS for damage in DAMAGES if damage not in FINE.get(file, ())]


def tree(root: Path) -> dict[str, tuple[int, int] | None]:
    files = (path for path in sorted(root.rglob("*")) if not path.is_dir())
    return {str(path.relative_to(root)): (s := path.lstat()) and (s.st_mtime_ns, s.st_size) for path in files}


@pytest.fixture
def damaged(project, monkeypatch) -> Iterator[Callable[[str, Damage], None]]:
    """Damage a file of the project, which is whole again afterwards."""
    monkeypatch.chdir(project)
    kept: dict[Path, Path] = {}

    def damage(name: str, change: Damage) -> None:
        path = project / name
        kept[path] = shutil.copy2(path, project.parent / f"kept{len(kept)}")
        change(path)

    yield damage
    for path, copy in kept.items():
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        shutil.move(copy, path)
    shutil.rmtree(project / "out", ignore_errors=True)


@pytest.fixture
def run(monkeypatch, capfd) -> Callable[[list[str]], tuple[int, str]]:
    from um.cli import main

    def late(*_: object) -> None:
        raise AssertionError("no answer in time")

    def call(words: list[str], seconds: int = SECONDS) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["um", *words])
        capfd.readouterr()
        signal.signal(signal.SIGALRM, late)
        signal.alarm(seconds)
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.alarm(0)
        return int(ended.value.code or 0), capfd.readouterr().err

    return call


def refused(outcome: tuple[int, str], name: str) -> None:
    code, printed = outcome
    (line,) = [line for line in printed.splitlines() if line.startswith("um: ")] or [printed]
    assert code == 2, line
    assert Path(name).name in line or Path(name).parent.name in line
    assert len(line) < 2000
    assert line.isprintable()


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_a_damaged_file_is_told_in_one_line(project, damaged, run, name, damage):
    damaged(name, DAMAGES[damage])
    before = tree(project)
    refused(run(READERS[name]), name)
    assert tree(project) == before


def test_whole_files_are_read(project, damaged, run):
    for name, words in READERS.items():
        damaged(name, lambda path: None)
        code, printed = run(words, 6 * SECONDS)  # all the work is done
        assert code == 0, (name, printed)
        shutil.rmtree(project / "out", ignore_errors=True)


# Values that a key of a form may have by mistake.
VALUES = {
    "null": None, "true": True, "-1": -1, "0": 0, "1e308": 1e308, "digits": 10**30, "NaN": float("nan"),
    "text": "x", "empty": "", "list": [], "mapping": {}, "up": "../../x",
}  # fmt: skip


def leaves(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths to all values of a document, of every list and of alike mappings the first alone."""
    if at:
        yield at
    if isinstance(value, dict):
        for key in list(value)[: 20 if len(at) < 2 else 12]:
            yield from leaves(value[key], (*at, key))
    elif isinstance(value, list) and value:
        yield from leaves(value[0], (*at, 0))


def put(document: Any, at: tuple[str | int, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return copy


JSONS = [name for name in READERS if name.endswith(".json")]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", JSONS)
def test_a_wrong_value_of_any_key_never_ends_in_a_bug(project, damaged, run, name, value):
    """Some are fine (a title, one score); none is a traceback, and none is slow."""
    document = json.loads((project / name).read_text())
    damaged(name, lambda path: None)
    seen = set()
    for at in leaves(document):
        shape = tuple("*" if isinstance(key, int) or key.startswith("video_") else key for key in at)
        if shape in seen:
            continue
        seen.add(shape)
        if not FULL and len(seen) > 2 and (len(seen) + list(VALUES).index(value)) % 3:
            continue  # after two keys with all values, every key gets every third, and neighbours others
        (project / name).write_text(json.dumps(put(document, at, VALUES[value])))
        code, printed = run(READERS[name])
        shutil.rmtree(project / "out", ignore_errors=True)
        assert code == 2 or (code == 0 and "um: " not in printed), (at, printed)


@pytest.fixture
def with_header(project, damaged) -> Callable[[dict[str, Any]], None]:
    """Put values into a model's header, whose checksum stays as it is."""
    name = "models/tiny/seed0/last.safetensors"
    damaged(name, lambda path: None)
    whole = (project / name).read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    head = json.loads(whole[8 : 8 + length])
    header = json.loads(head["__metadata__"]["um"])

    def put(values: dict[str, Any]) -> None:
        text = json.dumps(head | {"__metadata__": {"um": json.dumps(header | values)}}).encode()
        text += b" " * (-len(text) % 8)
        (project / name).write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])

    return put


HEADER = [*(set(Header.model_fields) - {"simulated"}), "new"]


@pytest.mark.parametrize("value", VALUES)
def test_a_wrong_value_in_a_models_header(project, with_header, run, value):
    """In a model of an earlier version, which has no checksum."""
    fine = (
        {(name, "hardware") for name in ("null", "text", "empty", "up")}
        | {("null", "weights")}
        | {("0", key) for key in ("iteration", "seed", "snippet_start")}
        | {("digits", "iteration")}
    )
    fine |= {(text, "data") for text in ("text", "empty", "up")}
    fine |= {("mapping", key) for key in ("features", "train")}
    fine |= {("null", "dataset"), ("text", "dataset"), ("text", "variant")}
    for key in HEADER:
        with_header({"weights": None} | {key: VALUES[value]})
        code, printed = run(TEST)
        shutil.rmtree(project / "out", ignore_errors=True)
        assert code == (0 if (value, key) in fine else 2), (key, printed)


@pytest.mark.parametrize("key", sorted(HEADER))
def test_a_models_header_that_somebody_changed(with_header, run, key):
    with_header(
        {key: {"iteration": 7, "seed": 7, "data": "", "snippet_seconds": 0.5, "snippet_start": 0.5}.get(key, 0)}
    )
    code, printed = run(TEST)
    assert code == 2, printed
