"""What must hold on a GPU; skipped where there is none."""

import copy

import pytest
import torch

from um.loss import um_loss
from um.model import UM
from um.params import Train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


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
        torch.testing.assert_close(gpu, cpu, rtol=1e-3, atol=1e-5)
