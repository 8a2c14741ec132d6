"""What must hold on a GPU; skipped where there is none."""

import copy

import pandas as pd
import pytest
import torch
from helpers.tiny import make_dataset

from um.datasets.folder import Folder
from um.method.loss import um_loss
from um.method.model import UM
from um.params import Settings, Train
from um.test import test as score
from um.training import Recipe, fit, open_run

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
MAP_TOLERANCE = 1e-3  # of one checkpoint's average mAP, 0.1 percentage points
TOLERANCE = 1e-3  # relative, of losses and gradients, and of the losses of the first eight steps


def losses(model, features, labels, mask):
    loss = um_loss(model(features, mask), labels, model.settings)
    loss.total.backward()
    return torch.stack(loss).detach().cpu(), model.embed.weight.grad.cpu()


def test_losses_and_gradients_agree_with_the_cpu():
    torch.manual_seed(0)
    model = UM(64, 5, Train(embedding_dim=32, dropout=0.0))
    features, labels = torch.randn(4, 50, 64), torch.eye(5)[:4]
    mask = torch.ones(4, 50)
    on_cpu = losses(copy.deepcopy(model), features, labels, mask)
    on_gpu = losses(model.cuda(), features.cuda(), labels.cuda(), mask.cuda())
    for cpu, gpu in zip(on_cpu, on_gpu, strict=True):
        torch.testing.assert_close(gpu, cpu, rtol=TOLERANCE, atol=1e-5)


def test_training_repeats_to_the_bit_and_follows_the_cpu(tmp_path):
    """Two runs on the GPU are equal bytes; their losses are those of the CPU within TOLERANCE."""
    root = make_dataset(tmp_path / "d")
    small = Train(num_segments=20, embedding_dim=32, dropout=0.0, iterations=8, eval_every=4, batch_size=4, lr=1e-3)
    run = open_run(Folder(root), Recipe(Settings(train=small), 0))
    for name, device in (("a", "cuda"), ("b", "cuda"), ("c", "cpu")):
        fit(run, tmp_path / name, torch.device(device))
    for file in ("last.safetensors", "checkpoints/000004.safetensors", "history.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    gpu, cpu = (pd.read_csv(tmp_path / name / "history.csv") for name in "ac")
    for loss in ("total", "classification", "background_entropy", "uncertainty"):
        assert gpu[loss].tolist() == pytest.approx(cpu[loss].tolist(), rel=TOLERANCE)


def test_a_checkpoint_scores_as_on_the_cpu(tmp_path):
    """Within MAP_TOLERANCE, after a training that finds the actions."""
    root = make_dataset(tmp_path / "d")
    small = Train(num_segments=20, embedding_dim=32, iterations=60, eval_every=60, batch_size=4, lr=0.01)
    settings = Settings(train=small)
    fit(open_run(Folder(root), Recipe(settings, 0)), tmp_path / "m", torch.device("cpu"))
    model = tmp_path / "m/last.safetensors"
    cpu, gpu = (
        score(root, model, tmp_path / name, settings, torch.device(name))["average_mAP"] for name in ("cpu", "cuda")
    )
    assert cpu > 0.5
    assert gpu == pytest.approx(cpu, abs=MAP_TOLERANCE)
