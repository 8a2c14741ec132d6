"""CoLA, the second method, against plain accounts of its paper's equations."""

import json

import numpy as np
import pandas as pd
import torch
from helpers.tiny import make_dataset, options
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from um.method import checkpoint
from um.method.cola import TEMPERATURE, CoLA, Mined, borders, cola_loss
from um.method.localize import curves
from um.params import Localize, Train, load

SETTINGS = Train(method="cola", embedding_dim=5, r_act=5.0, r_bkg=5.0, dropout=0.0, alpha=0.01)


def build(F=4, C=3) -> CoLA:
    torch.manual_seed(0)
    return CoLA(F, C, SETTINGS)


@given(st.integers(1, 60), st.integers(0, 2**31))
def test_borders_are_differences_of_erosions_and_dilations(T, seed):
    actionness = torch.rand(2, T, generator=torch.Generator().manual_seed(seed))
    above = actionness.numpy() > np.median(actionness.numpy(), axis=1, keepdims=True)
    near, far = np.ones((1, 3)), np.ones((1, 6))
    inside = ndimage.binary_erosion(above, near) & ~ndimage.binary_erosion(above, far)
    outside = ndimage.binary_dilation(above, far) & ~ndimage.binary_dilation(above, near)
    for ours, plain in zip(borders(actionness), (inside, outside), strict=True):
        np.testing.assert_array_equal(ours.numpy(), plain)


@given(st.integers(1, 60))
def test_easy_snippets_have_the_most_and_the_least_actionness(T):
    model, x = build().eval(), torch.randn(1, T, 4)
    output, K = model(x), max(1, T // 5)
    order = output.magnitude[0].detach().numpy().argsort(kind="stable")
    embedding = model.embedded(x)[0][0].detach()
    ranks = [output.magnitude[0][order[::-1].copy()[:K]].sum(), output.magnitude[0][order[:K].copy()].sum()]
    for found, rank in zip((output.easy_action, output.easy_background), ranks, strict=True):
        rows = [int((embedding == row).all(dim=1).nonzero()[0]) for row in found[0]]
        assert len(rows) == K
        torch.testing.assert_close(output.magnitude[0][rows].sum(), rank)
    assert output.hard_action.shape == output.hard_background.shape == (1, max(1, T // 20), 5)
    assert (output.cas >= 0).all()
    torch.testing.assert_close(output.cas.sum(dim=2), output.magnitude)


def plain_contrast(query, alike, other) -> float:
    q = query.mean(axis=0)
    cosine = [q @ k / np.linalg.norm(q) / np.linalg.norm(k) for k in (alike.mean(axis=0), *other)]
    exponent = np.exp(np.array(cosine) / TEMPERATURE)
    return -np.log(exponent[0] / exponent.sum())


def test_the_loss_is_the_papers():
    g = torch.Generator().manual_seed(0)
    easy, background, hard, hard_background = (torch.rand(2, K, 5, generator=g).double() for K in (4, 3, 2, 2))
    score = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]]).double()
    label = torch.tensor([[1.0, 0, 0], [0, 1, 1]]).double()
    output = Mined(score, easy, background, hard, hard_background, torch.zeros(2, 9), torch.zeros(2, 9, 3))
    found = cola_loss(output, label, SETTINGS)
    y, p = (label / label.sum(dim=1, keepdim=True)).numpy(), score.numpy()
    classification = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    a, b, c, d = (x.numpy() for x in (easy, background, hard, hard_background))
    contrast = np.mean([plain_contrast(c[i], a[i], b[i]) + plain_contrast(d[i], b[i], a[i]) for i in range(2)])
    np.testing.assert_allclose([*found], [classification + 0.01 * contrast, classification, contrast])


def test_localisation_takes_unweighted_class_scores_and_scaled_actionness():
    model, x = build().eval(), torch.randn(12, 4)
    found, output = curves(model, x, Localize(foreground="minmax")), model(x[None])
    cas, actionness = output.cas[0].detach().numpy(), output.magnitude[0].detach().numpy()
    spread = np.ptp(cas, axis=0)
    np.testing.assert_allclose(found.fused_TC, (cas - cas.min(axis=0)) / np.where(spread, spread, 1), atol=1e-6)
    np.testing.assert_allclose(found.magnitude_T, (actionness - actionness.min()) / np.ptp(actionness), atol=1e-6)


def test_every_command_works_with_it(um, tmp_path):
    root, method = make_dataset(tmp_path / "d"), ["--method", "cola", *options()]
    assert um("train", "--data-dir", root, *method, "--held-out", 0.5, "--out", tmp_path / "m")[0] == 0
    model, header = checkpoint.read(tmp_path / "m/last.safetensors", Train())
    assert isinstance(model, CoLA)
    assert header.train.method == "cola"
    for name, more in (("history.csv", []), ("selected.csv", ["held_out_loss"])):
        columns = pd.read_csv(tmp_path / "m" / name).columns.tolist()
        assert columns == ["iteration", "total", "classification", "contrast", *more]
    files = ["--model-file", tmp_path / "m/last.safetensors"]
    assert um("test", "--data-dir", root, *files, "--out", tmp_path / "r")[0] == 0
    assert json.loads((tmp_path / "r/metrics.json").read_text())["num_predictions"] > 0
    assert um("localize", *files, root / "features/test", "--out", tmp_path / "p.json")[0] == 0
    assert (tmp_path / "p.json").is_file()


def test_the_variant_has_the_published_values():
    train, localise = load().of("thumos14", "cola").train, load().of("thumos14", "cola").localize
    assert (train.r_act, train.r_bkg, train.alpha, train.loss, train.dropout) == (5, 5, 0.01, "mean_bce", 0.7)
    assert (localise.cas_thresholds, localise.magnitude_thresholds) == ("0:0.225:0.025", "0.1:0.9:0.025")
    assert (localise.nms, localise.nms_iou, localise.foreground) == ("hard", 0.6, "minmax")
