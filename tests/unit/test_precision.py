"""`precision: auto`: bf16 where it is faster, never two in one place, and always said which."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.rendering import constant
from helpers.tiny import TINY

from um import infer, params
from um.datasets.folder import Folder
from um.device import choose_precision
from um.features import network
from um.features.extract import Machine, extract
from um.method import checkpoint
from um.params import Features, Settings, Train
from um.shard import Shard
from um.training import Recipe, fit, open_run

CPU, ROOT = torch.device("cpu"), Path(__file__).parents[2]
SMALL = Features(short_side=40, crop=32, clips=2)


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch):
    """Set what the processor can do."""

    def to(**found: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)

    return to


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch):
    """Let `auto` be as on another machine; the network still imitates bf16."""

    def to(precision: str) -> None:
        chosen = lambda asked, _: precision if asked == "auto" else asked  # noqa: E731
        for name in ("um.device", "um.training", "um.infer", "um.features.network"):
            monkeypatch.setattr(f"{name}.choose_precision", chosen)

    return to


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from safetensors.torch import save_file

    from um.features.backbones import build

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "rgb.safetensors"
    save_file(build("i3d-inception", None).state_dict(), path)
    return {"rgb": path}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {name: constant(folder / f"{name}.mp4", 20) for name in "ab"}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, "fp32"),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"architecture": "aarch64", "bf16": True}, "fp32"),  # not measured
    ],
)
def test_auto_follows_the_processor(units, found, expected):
    units(**found)
    assert choose_precision("auto", CPU) == expected
    assert [choose_precision(asked, CPU) for asked in ("fp32", "bf16")] == ["fp32", "bf16"]


@pytest.mark.parametrize(("major", "expected"), [(7, "fp32"), (8, "bf16"), (9, "bf16")])
def test_auto_follows_the_gpu(monkeypatch, major, expected):
    found = type("Properties", (), {"major": major})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: found)
    assert choose_precision("auto", torch.device("cuda:1")) == expected


def test_benchmarks_stay_in_fp32_and_plans_are_equal_everywhere(units):
    values = params.load(ROOT / "params.yaml")
    for dataset in values.overrides:
        for variant in ("ours", *values.variants):
            settings = values.of(dataset, variant)
            assert (settings.features.precision, settings.train.precision) == ("fp32", "fp32")
    digests = set()
    for found in ({}, {"avx512_bf16": True}):
        units(**found)
        own = values.of("cooking")
        assert (own.features.precision, own.train.precision) == ("auto", "auto")
        digests.add((own.digest("features"), own.digest("train")))
    assert len(digests) == 1


def test_imitated_bf16_is_pytorchs(weights, units):
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 32, 32, 3), dtype=np.uint8)
    rows = {}
    for name, precision, found in (("fp32", "fp32", {}), ("imitated", "bf16", {}), ("native", "bf16", {"amx_bf16": 1})):
        units(**found)
        made = network.Network(SMALL.model_copy(update={"precision": precision}), weights["rgb"], "cpu")
        rows[name] = made(frames[:2])[0]
        assert rows[name].dtype == np.float32
        assert np.array_equal(rows[name], made(frames[[0, 2]])[0])  # a row does not depend on its batch

    def error(a: str, b: str) -> float:
        return float(np.linalg.norm(rows[a] - rows[b]) / np.linalg.norm(rows[b]))

    assert 1e-3 < error("imitated", "fp32") < 2e-2
    assert 1e-3 < error("native", "fp32") < 2e-2


def test_a_folder_keeps_the_precision_it_was_begun_in(tmp_path, videos, weights, elsewhere, caplog):
    out, machine = tmp_path / "out", Machine("cpu")
    caplog.set_level(logging.INFO)
    elsewhere("bf16")
    extract({"a": videos["a"]}, out, SMALL, weights, machine)
    before = content(out)
    assert json.loads(before["spec.json"])["precision"] == "bf16"
    elsewhere("fp32")
    extract(videos, out, SMALL, weights, machine)  # of which one is new
    after = content(out)
    assert (after["a.npy"], after["spec.json"]) == (before["a.npy"], before["spec.json"])
    assert "continues in bf16; --precision fp32 is faster here, but starts over" in caplog.text
    extract(videos, out, SMALL.model_copy(update={"precision": "fp32"}), weights, machine)  # the hint
    other = content(out)
    assert json.loads(other["spec.json"])["precision"] == "fp32"
    assert not np.array_equal(*(np.frombuffer(each["a.npy"], "u1") for each in (other, after)))


def test_shards_on_unlike_machines_agree(tmp_path, videos, weights, elsewhere, monkeypatch):
    for precision, shard in (("bf16", "1-of-2"), ("fp32", "2-of-2")):
        elsewhere(precision)
        extract(videos, tmp_path, SMALL, weights, Machine("cpu", shard=Shard.parse(shard)))
    monkeypatch.setattr(network.Network, "launch", None)  # nothing is left to do
    extract(videos, tmp_path, SMALL, weights, Machine("cpu"))
    assert json.loads((tmp_path / "spec.json").read_text())["precision"] == "bf16"
    assert sorted(json.loads((tmp_path / "index.json").read_text())["files"]) == ["rgb/a.npy", "rgb/b.npy"]


def run_of(root: Path, **changed: str):
    return open_run(Folder(root), Recipe(Settings(train=Train(**TINY, **changed)), 0))


@pytest.mark.parametrize(("stated", "expected"), [("bf16", "bf16"), ("fp32", "fp32"), (None, "fp32"), (["x"], "fp32")])
def test_a_model_tells_the_precisions_that_were_used(dataset, tmp_path, elsewhere, stated, expected):
    if stated:
        spec = {"fps": 25, "window": 16, "precision": stated}
        (dataset / "features/spec.json").write_text(json.dumps(spec))
    elsewhere("bf16")
    fit(run_of(dataset), tmp_path / "m", CPU)
    header = checkpoint.header(tmp_path / "m/last.safetensors")
    assert (header.features.precision, header.train.precision) == (expected, "bf16")


def test_a_stopped_training_goes_on_in_its_precision(dataset, tmp_path, elsewhere, caplog):
    elsewhere("bf16")
    fit(run_of(dataset), tmp_path / "whole", CPU)

    def stop(done: int, _: dict[str, float]) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(run_of(dataset), tmp_path / "stopped", CPU, stop)
    elsewhere("fp32")
    fit(run_of(dataset), tmp_path / "stopped", CPU)
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")
    assert "continues in bf16, as started" in caplog.text
    fit(run_of(dataset), tmp_path / "stopped", CPU)  # nothing is unfinished
    assert checkpoint.header(tmp_path / "stopped/last.safetensors").train.precision == "fp32"


def test_models_of_earlier_versions_are_fp32(dataset, tmp_path):
    fit(run_of(dataset, precision="fp32"), tmp_path, CPU)
    values = checkpoint.header(tmp_path / "last.safetensors").model_dump()
    del values["train"]["precision"], values["features"]["precision"]
    header = checkpoint.Header.model_validate(values)
    assert (header.features.precision, header.train.precision) == ("fp32", "fp32")


def test_localize_uses_what_is_faster_and_says_so(
    dataset, tmp_path, videos, weights, elsewhere, caplog, um, monkeypatch
):
    caplog.set_level(logging.INFO)
    for path in dataset.glob("features/*/rgb/*.npy"):
        np.save(path, np.pad(np.load(path), ((0, 0), (0, 1018))))
    run = run_of(dataset, precision="fp32")
    settings = run.recipe.settings.model_copy(update={"features": SMALL.model_copy(update={"precision": "fp32"})})
    fit(run._replace(recipe=run.recipe._replace(settings=settings)), tmp_path / "m", CPU)
    model = tmp_path / "m/last.safetensors"

    used, run_extract = [], infer.extraction.extract
    monkeypatch.setattr(
        infer.extraction, "extract", lambda *given: used.append(given[2].precision) or run_extract(*given)
    )
    for machine, asked in (("fp32", "auto"), ("bf16", "fp32"), ("bf16", "auto")):
        assert "the model was trained on" not in caplog.text
        elsewhere(machine)
        infer.localize(videos["a"], model, device="cpu", weights=weights, precision=asked)
    assert used == ["fp32", "fp32", "bf16"]
    assert "extracts in bf16; the model was trained on fp32" in caplog.text
    code, _, line = um("localize", videos["a"], "--model-file", model, "--precision", "fp8")
    assert (code, line.count("\n")) == (2, 1)
    assert "precision" in line
