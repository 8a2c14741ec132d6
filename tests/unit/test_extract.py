"""Extraction resumes, prunes, and never lies about what made a file."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from rendering import constant

from um.errors import BadInput
from um.features import network, store
from um.features.extract import extract, relative_path
from um.features.prefetch import prefetch
from um.files import sha256
from um.params import Features

TINY = Features(short_side=64, crop=32, clips=2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights."""
    from safetensors.torch import save_file

    from um.features.backbones import build

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(build("i3d-inception", None).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    lengths = {"train/a": 60, "train/b": 85, "val/c": 40, "val/d": 330}
    return {key: constant(folder / f"{key[-1]}.mp4", frames) for key, frames in lengths.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, videos: dict[str, Path], weights: Path) -> Path:
    """What one uninterrupted run makes."""
    out = tmp_path_factory.mktemp("features")
    extract(videos, out, TINY, weights, "cpu")
    return out


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that the network has seen."""
    seen: list[int] = []
    call = network.Network.__call__
    monkeypatch.setattr(network.Network, "__call__", lambda self, x: seen.append(len(x)) or call(self, x))
    return seen


def content(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_layout_index_and_specification(whole: Path, videos: dict[str, Path], weights: Path) -> None:
    names = ["train/rgb/a.npy", "train/rgb/b.npy", "val/rgb/c.npy", "val/rgb/d.npy"]
    assert list(content(whole)) == ["index.json", "journal.jsonl", "spec.json", *names]
    lengths = [len(store.read(whole / name)) for name in names]
    assert lengths == [3, 5, 2, 20]  # whole 16-frame snippets
    features = store.read(whole / names[0])
    assert features.dtype == np.float32
    assert features.shape[1] == 1024

    index = json.loads((whole / "index.json").read_text())
    assert index["spec"] == sha256(whole / "spec.json")
    assert list(index["files"]) == names
    entry = index["files"]["val/rgb/d.npy"]
    expected = {"sha256": sha256(whole / names[3]), "snippets": 20, "source_sha256": sha256(videos["val/d"])}
    assert entry == expected
    spec = json.loads((whole / "spec.json").read_text())
    assert spec["weights_sha256"] == sha256(weights)
    assert {"fps": 25.0, "window": 16, "stride": 16, "crop": 32, "precision": "fp32"}.items() <= spec.items()
    assert not any(str(value).startswith("/") for value in spec.values())


def test_nothing_to_do_costs_nothing(whole: Path, videos: dict[str, Path], weights: Path, forwards: list[int]) -> None:
    before = content(whole)
    extract(videos, whole, TINY, weights, "cpu")
    (whole / "index.json").unlink()  # Snakemake does so before it runs the rule again
    extract(videos, whole, TINY, weights, "cpu")
    assert content(whole) == before
    assert forwards == []


def test_two_runs_give_the_same_bits(tmp_path: Path, whole: Path, videos: dict[str, Path], weights: Path) -> None:
    # other videos beside it, another name, no subset: the features of a video are its own
    extract({"x": videos["train/b"]}, tmp_path, TINY, weights, "cpu")
    assert (tmp_path / "rgb/x.npy").read_bytes() == (whole / "train/rgb/b.npy").read_bytes()


def test_resumes_after_a_kill(tmp_path: Path, whole: Path, videos: dict[str, Path], weights: Path) -> None:
    arguments = json.dumps([{k: str(v) for k, v in videos.items()}, str(tmp_path), str(weights)])
    program = f"""
import json, time
from pathlib import Path
from um.features import extract as module, network
from um.params import Features
videos, out, weights = json.loads({arguments!r})
call = network.Network.__call__
network.Network.__call__ = lambda self, x: time.sleep(0.3) or call(self, x)
settings = Features(short_side=64, crop=32, clips=2)
module.extract({{k: Path(v) for k, v in videos.items()}}, Path(out), settings, Path(weights), "cpu")
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    last = tmp_path / "val/rgb/c.npy"  # then d's ten batches take seconds
    deadline = time.monotonic() + 400
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "index.json").exists()
    assert not (tmp_path / "val/rgb/d.npy").exists()
    (tmp_path / "val/rgb/.d.npy.1.part.npy").write_bytes(b"torn")  # a kill while it wrote
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy") if not path.name.startswith(".")}
    assert len(kept) == 3
    extract(videos, tmp_path, TINY, weights, "cpu")
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert content(tmp_path) == content(whole)


def test_only_what_changed_is_extracted_again(
    tmp_path: Path, videos: dict[str, Path], weights: Path, forwards: list[int]
) -> None:
    chosen = {"a": videos["train/a"], "c": videos["val/c"]}
    extract(chosen, tmp_path, TINY, weights, "cpu")
    first = content(tmp_path)
    forwards.clear()
    (tmp_path / "rgb/a.npy").write_bytes(b"damaged")
    extract(chosen, tmp_path, TINY, weights, "cpu")
    assert forwards == [2, 1]
    assert content(tmp_path) == first

    forwards.clear()
    extract(chosen | {"a": videos["train/b"]}, tmp_path, TINY, weights, "cpu")  # another file under the same id
    assert forwards == [2, 2, 1]
    assert len(store.read(tmp_path / "rgb/a.npy")) == 5

    forwards.clear()
    (tmp_path / "rgb/mine.npy").write_bytes(b"the user's")
    extract({"c": videos["val/c"]}, tmp_path, TINY, weights, "cpu")
    assert forwards == []
    assert list(content(tmp_path)) == ["index.json", "journal.jsonl", "rgb/c.npy", "rgb/mine.npy", "spec.json"]


def test_another_specification_empties_the_folder(tmp_path: Path, videos: dict[str, Path], weights: Path) -> None:
    a, c = {"train/a": videos["train/a"]}, {"val/c": videos["val/c"]}
    extract(a | c, tmp_path, TINY, weights, "cpu")
    old = content(tmp_path)
    (tmp_path / "notes.txt").write_text("the user's")
    other = TINY.model_copy(update={"fps": 12.5})
    extract(a, tmp_path, other, weights, "cpu")
    new = content(tmp_path)
    assert list(new) == ["index.json", "journal.jsonl", "notes.txt", "spec.json", "train/rgb/a.npy"]
    assert new["train/rgb/a.npy"] != old["train/rgb/a.npy"]
    assert json.loads(new["spec.json"])["fps"] == 12.5


def test_bad_videos_do_not_stop_the_others(tmp_path: Path, videos: dict[str, Path], weights: Path) -> None:
    text, cut = tmp_path / "text.mp4", tmp_path / "cut.mp4"
    text.write_text("no video")
    cut.write_bytes(videos["val/d"].read_bytes()[:5000])
    out = tmp_path / "out"
    named = {"b": text, "a": cut, "absent": tmp_path / "absent.mp4", "good": videos["train/a"]}
    with pytest.raises(BadInput, match=r"absent.mp4: found no such file \(and 2 more like it\)"):
        extract(named, out, TINY, weights, "cpu")
    assert list(content(out)) == ["journal.jsonl", "rgb/good.npy", "spec.json"]  # no index: it is not complete
    extract({"good": videos["train/a"]}, out, TINY, weights, "cpu")
    assert list(content(out)) == ["index.json", "journal.jsonl", "rgb/good.npy", "spec.json"]


def test_settings_and_names_that_cannot_be(tmp_path: Path, videos: dict[str, Path], weights: Path) -> None:
    assert relative_path("val/x.y") == "val/rgb/x.y.npy"
    one = {"a": videos["val/c"]}
    cases = [
        ({"../a": videos["val/c"]}, TINY, weights, "cpu", "'../a'"),
        ({"a/b/c": videos["val/c"]}, TINY, weights, "cpu", "'a/b/c'"),
        (one, TINY.model_copy(update={"streams": "rgb,flow"}), weights, "cpu", "features.streams: found rgb,flow"),
        (one, TINY, tmp_path / "absent", "cpu", "absent: found no such file"),
        (one, TINY, weights, "abacus", "--device: found 'abacus'"),
        (one, TINY.model_copy(update={"crop": 65}), weights, "cpu", "at most short_side"),
    ]
    for named, settings, file, device, message in cases:
        with pytest.raises(BadInput, match=message):
            extract(named, tmp_path / "out", settings, file, device)
    assert not list(tmp_path.rglob("*.npy"))


def test_r50_takes_the_same_way(tmp_path: Path, videos: dict[str, Path]) -> None:
    from um.features.backbones import build

    checkpoint = tmp_path / "r50.pth"
    torch.save({"meta": {}, "state_dict": build("i3d-r50", None).state_dict()}, checkpoint)
    settings = TINY.model_copy(update={"backbone": "i3d-r50"})
    extract({"c": videos["val/c"]}, tmp_path / "out", settings, checkpoint, "cpu")
    assert store.read(tmp_path / "out/rgb/c.npy").shape == (2, 2048)


def test_bf16_is_close_to_fp32(videos: dict[str, Path], weights: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 8, 32, 32, 3), dtype=np.uint8)
    exact = network.Network(TINY, weights, "cpu")(frames)
    rough = network.Network(TINY.model_copy(update={"precision": "bf16"}), weights, "cpu")(frames)
    assert rough.dtype == np.float32
    cosine = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert cosine.min() > 0.999


def test_a_store_takes_nothing_but_features(tmp_path: Path) -> None:
    wrong = {
        "flat": (np.zeros(3, "f4"), r"found float32 \(3,\)"),
        "integers": (np.zeros((3, 4), "i4"), "found int32"),
        "empty": (np.zeros((0, 4), "f4"), r"an empty array \(0, 4\)"),
        "nan": (np.array([[1, np.nan], [np.inf, 0]], "f4"), "2 of 4 values NaN or infinite"),
        "objects": (np.array([[{}]], object), "no readable array"),
    }
    for name, (array, message) in wrong.items():
        path = tmp_path / f"{name}.npy"
        np.save(path, array, allow_pickle=True)
        with pytest.raises(BadInput, match=message):
            store.read(path)
    (tmp_path / "text.npy").write_text("text")
    for name, message in {"text": "no readable array", "absent": "no such file"}.items():
        with pytest.raises(BadInput, match=message):
            store.read(tmp_path / f"{name}.npy")
    store.write(tmp_path / "good.npy", np.ones((2, 3), "f8"))
    np.testing.assert_array_equal(store.read(tmp_path / "good.npy"), np.ones((2, 3), "f4"))


def test_prefetch_keeps_order_and_passes_errors() -> None:
    produced = []

    def numbers(stop: int) -> Iterator[int]:
        for i in range(stop):
            produced.append(i)
            yield i
        raise ValueError("at the end")

    with prefetch(iter(range(100)), 2) as items:
        assert list(items) == list(range(100))
    with pytest.raises(ValueError, match="at the end"), prefetch(numbers(3), 2) as items:
        list(items)
    produced.clear()
    with prefetch(numbers(10**9), 2) as items:
        assert next(items) == 0
    assert len(produced) < 10  # left early: the thread has ended
