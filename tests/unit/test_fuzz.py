"""Every reader of files from outside, on random damage: it reads, or says in one line why not.

The budget is small and the same on every machine. `make fuzz` draws anew for as long as UM_FUZZ says, in seconds.
"""

import copy
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from helpers.tiny import entry
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from um import dataset, params
from um.datasets import annotations, layouts, store, wtalc
from um.datasets.objects import read_objects
from um.download import missing, sources
from um.errors import BadInput
from um.evaluation.submission import read_submission
from um.features.ledger import Ledger
from um.forms import Index, Spec, load
from um.inspection import annotations as check
from um.method import checkpoint
from um.method.checkpoint import Header
from um.method.model import UM
from um.params import Train

BUDGET = int(os.environ.get("UM_FUZZ", "0"))
STRANGE = [10**400, -(2**63), 1e308, 1e-320, "../x", "/etc/passwd", "\x1b[0m", "[/red]", "nan", "1e999", "v_"]
ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(STRANGE)
VALUE = st.recursive(
    ODD, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3), max_leaves=6
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield from places(inner, (*at, key))


@st.composite
def documents(draw: Any, valid: Any) -> Any:
    """A valid document with a few of its values replaced, removed or renamed."""
    document = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from(list(places(document))))
        if not at:
            if draw(st.integers(0, 9)) == 0:
                document = draw(VALUE)
            continue
        *parents, last = at
        inner = document
        for key in parents:
            inner = inner[key]
        action = draw(st.sampled_from(["replace", "remove", "rename", "again"]))
        if action == "replace" or isinstance(inner, list):
            inner[last] = draw(VALUE)
        elif action == "remove":
            del inner[last]
        else:
            inner[draw(st.text(max_size=6))] = inner.pop(last) if action == "rename" else inner[last]
    return document


@st.composite
def damaged(draw: Any, whole: bytes) -> bytes:
    """Bytes with a few changed, removed or repeated, or cut off."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.sampled_from(["set", "flip", "remove", "repeat", "insert", "cut"])):
            case "set" if content:
                content[at] = draw(st.integers(0, 255))
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "remove":
                del content[at : at + draw(st.integers(1, 16))]
            case "repeat":
                content[at:at] = content[at : at + 64]
            case "insert":
                content[at:at] = draw(st.binary(max_size=8))
            case "cut":
                del content[at:]
    return bytes(content)


DATABASE = {f"video_{n}": entry("train" if n else "test", [("run", 1, 3)], 9) for n in range(2)}
DATABASE["video_0"]["ambiguous"] = [[0.0, 1.0]]
SUBMISSION = {
    "version": "um 0",
    "results": {"video_0": [{"label": "run", "score": 0.5, "segment": [0.0, 1.0]}]},
    "external_data": {"model": {"selection": "last", "iteration": 1, "seed": 0}, "simulated": False},
}
LISTED = {"sha256": "0" * 64, "bytes": 1, "snippets": 2, "source_sha256": "1" * 64}
INDEX = {"files": {"train/rgb/a.npy": LISTED}, "missing": {"train/b": "gone"}, "spec": "2" * 64}
LOCK = {"versions": {"annotations": "one"}, "files": {"a.json": {"sha256": "0" * 64, "bytes": 3}}}
FILE = {"file": "a.zip", "urls": ["https://example.org/{id}"], "sha256": "0" * 64, "bytes": 9}
TABLE = {
    "train": "val", "test": "test", "exclude": {"a": "b"}, "splits": [{"name": "n", "train": 1, "test": 2}],
    "annotations": [{"name": "one", "about": "x", "terms": "y", "files": [FILE]}],
}  # fmt: skip
PARAMS = {"seeds": [0], "train": {"lr": 0.1, "streams": "rgb"}, "overrides": {"a": {"localize": {"nms": "hard"}}}}
JOURNAL = "".join(json.dumps(line) + "\n" for line in (["train/rgb/a.npy", LISTED], ["rgb/b.npy", None], {"spec": "x"}))
HEADER = {
    "classes": ["a", "b"], "streams": ["rgb"], "snippet_seconds": 0.64, "selection": "last", "iteration": 3, "seed": 1,
    "data": "00", "features": {}, "train": {}, "localize": {},
}  # fmt: skip
TEXTS: dict[str, tuple[Any, Callable[[Path], object]]] = {  # a valid document, and its reader
    "annotations.json": ({"database": DATABASE, "version": "x"}, annotations.load),
    "checked.json": ({"database": DATABASE, "taxonomy": []}, lambda path: check.report(path, lambda _: None)),
    "predictions.json": (SUBMISSION, read_submission),
    "index.json": (INDEX, lambda path: load(Index, path)),
    "spec.json": ({"fps": 25.0, "window": 16, "stride": 16, "more": [1]}, lambda path: load(Spec, path)),
    "sources.lock.json": (LOCK, sources.Lock),
    "sources.yaml": (TABLE, sources.read),
    "params.yaml": (PARAMS, params.load),
}


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def attempt(read: Callable[[Path], object], path: Path) -> None:
    """Any error but the one for people is a failure of the test."""
    began, said = time.monotonic(), ""
    try:
        read(path)
    except BadInput as error:
        said = str(error)
    assert said.isprintable()
    assert len(said) < 10_000
    assert time.monotonic() - began < 5


def fuzz(strategy: st.SearchStrategy[Any], test: Callable[[Any], None]) -> None:
    """Try a fixed number of cases, or new ones until the time is up."""
    until, count = time.monotonic() + BUDGET, 0

    def counted(case: Any) -> None:
        nonlocal count
        count += 1
        test(case)

    options = {"suppress_health_check": list(HealthCheck), "database": None}
    while True:
        settings(max_examples=200 if BUDGET else 25, derandomize=not BUDGET, **options)(given(strategy)(counted))()
        if time.monotonic() >= until:
            print(f"{count} cases")
            return


@pytest.mark.parametrize("name", TEXTS)
def test_documents(folder, name):
    valid, read = TEXTS[name]
    dump = yaml.safe_dump if name.endswith(".yaml") else json.dumps

    def test(document: Any) -> None:
        path = folder / name
        path.write_text(dump(document), "utf-8", errors="surrogatepass")
        attempt(read, path)

    fuzz(documents(valid), test)


def made(name: str, folder: Path) -> bytes:
    """The bytes of a valid file of every form."""
    path = folder / "whole"
    match name:
        case "array.npy":
            np.save(folder / "whole.npy", np.ones((3, 4), np.float32))
            path = folder / "whole.npy"
        case "objects.npy":
            values = np.empty(2, object)
            values[:] = [np.ones((2, 2), np.float32), [b"a", "b"]]
            np.save(folder / "whole.npy", values, allow_pickle=True)
            path = folder / "whole.npy"
        case "feature_rgb_train.h5":
            with h5py.File(path, "w") as file:
                file["a"] = np.ones((3, 4), np.float32)
                file.create_dataset("b", data=np.ones((3, 4), np.float32), chunks=(1, 4), compression="gzip")
        case "model.safetensors":
            sections = {key: getattr(params.Settings(), key) for key in ("features", "train", "localize")}
            header = Header.model_validate(HEADER | sections)
            checkpoint.write(path, UM(4, 2, Train(embedding_dim=3)), header)
        case "model.pkl" | "old.pkl":
            state = {"cas_module.conv.0.weight": torch.ones(3, 4, 3), "cas_module.conv.0.bias": torch.ones(3)}
            state["cas_module.classifier.0.weight"] = torch.ones(2, 3, 1)
            torch.save(state, path, _use_new_zipfile_serialization=name == "model.pkl")
        case "missing.tsv":
            path.write_text("id\treason\tdate\tsource\nabc\tprivate\t-\tothers\n")
        case "run_test.txt":
            path.write_text("video_test_0000001  1.0 2.5\nvideo_test_0000002  0.1 0.2\n")
        case "dataset.yaml":
            path.write_text("title: x\nprovider: local\nsource: /a\n")
        case "journal.jsonl":
            path.write_text(JOURNAL)
        case _:
            valid, _ = TEXTS[name]
            path.write_text((yaml.safe_dump if name.endswith(".yaml") else json.dumps)(valid))
    return path.read_bytes()


def opened(path: Path) -> None:
    for array in layouts.recognise(path.parent).arrays:
        array.shape()
        array.read()


def described(path: Path) -> None:
    kept, dataset.DATASETS = dataset.DATASETS, path.parents[1]
    try:
        dataset.describe(path.parent.name)
    finally:
        dataset.DATASETS = kept


def resumed(path: Path) -> None:
    Ledger(path.parent, {"fps": 25.0}, {"train/rgb/a.npy"})


BYTES: dict[str, Callable[[Path], object]] = {name: read for name, (_, read) in TEXTS.items()} | {
    "array.npy": store.read,
    "objects.npy": read_objects,
    "feature_rgb_train.h5": opened,
    "model.safetensors": lambda path: checkpoint.read(path, Train()),
    "model.pkl": lambda path: checkpoint.read(path, Train()),
    "old.pkl": lambda path: checkpoint.read(path, Train()),
    "missing.tsv": missing.read,
    "run_test.txt": lambda path: annotations.load(path.parent),
    "dataset.yaml": described,
    "journal.jsonl": resumed,
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes(folder, name):
    whole = made(name, folder)

    def test(content: bytes) -> None:
        own = folder / "own"
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir()
        (own / name).write_bytes(content)
        attempt(BYTES[name], own / name)

    fuzz(damaged(whole), test)


def test_a_wtalc_package(folder):
    names = {"videoname": [b"a", b"b"], "subset": [b"test", b"validation"], "duration": [9.0, 8.0]}
    lists = {"labels": [["run"], ["run"]], "labels_all": [["run"], ["run"]], "segments": [[[0.0, 1.0]], [[1.0, 2.0]]]}
    for name, values in (names | lists | {"classlist": [b"run"]}).items():
        array = np.empty(len(values), object)
        array[:] = values
        np.save(folder / f"{name}.npy", array if name in lists else np.array(values), allow_pickle=True)
    wtalc.database(folder)
    whole = {path: path.read_bytes() for path in folder.iterdir()}

    def test(change: tuple[Path, bytes]) -> None:
        path, content = change
        path.write_bytes(content)
        try:
            attempt(wtalc.database, folder)
        finally:
            path.write_bytes(whole[path])

    fuzz(st.sampled_from(sorted(whole)).flatmap(lambda path: damaged(whole[path]).map(lambda new: (path, new))), test)
