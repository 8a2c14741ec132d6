"""Model files: ours, and published checkpoints by their key names."""

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch

from um.errors import BadInput
from um.method import checkpoint
from um.method.checkpoint import Header
from um.method.model import UM
from um.params import Features, Train

OFFICIAL = "cas_module.classifier.0.weight"
SEED = "cas_module.classifier.weight"


def header(**changed) -> Header:
    values = {
        "classes": ["a", "b"],
        "streams": ["rgb"],
        "snippet_seconds": 0.64,
        "selection": "last",
        "iteration": 3,
        "seed": 1,
        "data": "00",
        "features": Features(),
        "train": Train(r_act=3.5),
        "dataset": "demo",
    }
    return Header(**values | changed)


def build() -> UM:
    torch.manual_seed(0)
    return UM(6, 2, Train(embedding_dim=4, r_act=3.5))


def test_a_model_comes_back_as_it_was(tmp_path):
    model, path = build(), tmp_path / "m.safetensors"
    checkpoint.write(path, model, header())
    again, read = checkpoint.read(path, Train())
    assert read.weights is not None
    assert read == header(weights=read.weights)
    assert (again.settings.r_act, again.training) == (3.5, False)
    x = torch.randn(1, 20, 6)
    assert torch.equal(again(x).cas, model.eval()(x).cas)


def test_equal_models_are_equal_bytes(tmp_path):
    for name in ("one", "two"):
        checkpoint.write(tmp_path / name, build(), header())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def published(classifier: str, F: int = 1024, D: int = 2048, C: int = 20) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "cas_module.conv.0.weight": torch.randn(D, F, 3) / 50,
        "cas_module.conv.0.bias": torch.randn(D),
        classifier: torch.randn(C, D, 1) / 50,
    }


@pytest.mark.parametrize("classifier", [OFFICIAL, SEED])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_published_single_stream_checkpoint_loads(tmp_path, classifier, zipped):
    state, path = published(classifier), tmp_path / "m.pkl"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    model, read = checkpoint.read(path, Train(r_act=7))
    assert read is None
    assert model.settings.r_act == 7
    assert torch.equal(model.embed.weight, state["cas_module.conv.0.weight"])
    assert torch.equal(model.embed.bias, state["cas_module.conv.0.bias"])
    assert torch.equal(model.classifier.weight, state[classifier])


WRAPPED = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 7},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {}},
    "module": lambda state: {f"module.{name}": value for name, value in state.items()},
    "both": lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
}


@pytest.mark.parametrize("case", WRAPPED)
def test_a_published_checkpoint_in_the_usual_wrappers_loads(tmp_path, case):
    state, path = published(OFFICIAL, 4, 4, 2), tmp_path / "m.pkl"
    torch.save(WRAPPED[case](state), path)
    model, _ = checkpoint.read(path, Train())
    assert torch.equal(model.classifier.weight, state[OFFICIAL])


def test_the_official_checkpoint(reference_data):
    model, read = checkpoint.read(reference_data / "golden/model_seed_11.pkl", Train())
    assert read is None
    assert (model.embed.in_channels, model.embed.out_channels, model.classifier.out_channels) == (24, 48, 20)


class Hack:
    def __reduce__(self):
        return Path.touch, (Path("hacked"),)


@pytest.mark.parametrize("save", ["pickle", "torch"])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    content = published(OFFICIAL, 4, 4, 2) | {"cas_module.conv.0.bias": Hack()}
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(content)) if save == "pickle" else torch.save(content, path)
    with pytest.raises(BadInput, match="unreadable weights"):
        checkpoint.read(path, Train())
    assert not (tmp_path / "hacked").exists()


def test_a_missing_file(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        checkpoint.read(tmp_path / "m.safetensors", Train())


def test_other_safetensors(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "m.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(BadInput, match="without UM's header"):
        checkpoint.read(path, Train())


@pytest.mark.parametrize("cut", [4, 100, 600, -1])
def test_a_torn_file(tmp_path, cut):
    path = tmp_path / "m.safetensors"
    checkpoint.write(path, build(), header())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadInput, match=r"m\.safetensors"):
        checkpoint.read(path, Train())


def edit_header(path: Path, change) -> None:
    """Rewrite the JSON that a safetensors file begins with."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + length])
    change(head)
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        json.dumps(header().model_dump() | {"train": {"lr": -1.0}}),
        json.dumps(header().model_dump() | {"selection": "first"}),
    ],
)
def test_a_header_that_is_none(tmp_path, text):
    path = tmp_path / "m.safetensors"
    checkpoint.write(path, build(), header())
    edit_header(path, lambda head: head["__metadata__"].update(um=text))
    with pytest.raises(BadInput, match=r"m\.safetensors"):
        checkpoint.read(path, Train())


def test_a_header_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    checkpoint.write(path, build(), header())

    def change(head):
        values = json.loads(head["__metadata__"]["um"])
        head["__metadata__"]["um"] = json.dumps(values | {"classes": values["classes"][::-1]})

    edit_header(path, change)
    with pytest.raises(BadInput, match="content that does not match its sha256"):
        checkpoint.read(path, Train())


def test_a_model_of_simulated_features_says_so(tmp_path):
    for name, simulated in (("real", False), ("simulated", True)):
        checkpoint.write(tmp_path / name, build(), header(simulated=simulated))
        _, read = checkpoint.read(tmp_path / name, Train())
        assert read.simulated is simulated
        assert (b"simulated" in (tmp_path / name).read_bytes()) is simulated
