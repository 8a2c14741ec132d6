"""The network's selections and losses, on what golden files do not hold."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from um.method.cpu import WIDE, winograd, winograd_kernels
from um.method.loss import um_loss
from um.method.model import UM
from um.params import Train


def build(F=4, D=5, C=3, r_act=9, r_bkg=4, dropout=0.7, seed=0, **settings) -> UM:
    torch.manual_seed(seed)
    return UM(F, C, Train(embedding_dim=D, r_act=float(r_act), r_bkg=float(r_bkg), dropout=dropout, **settings))


@given(st.integers(1, 40), st.sampled_from([1, 2.5, 4, 9, 9.0, 100]), st.sampled_from([1, 3.5, 4.0, 50]))
def test_every_length_selects_at_least_one_snippet_and_is_finite(T, r_act, r_bkg):
    output = build(r_act=r_act, r_bkg=r_bkg).eval()(torch.randn(2, T, 4))
    assert output.action_embedding.shape == (2, max(1, int(T // r_act)), 5)
    assert output.background_embedding.shape == (2, max(1, int(T // r_bkg)), 5)
    assert all(torch.isfinite(value).all() for value in output)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(0, 2**31))
def test_winograd_is_the_convolution(B, T, seed):
    generator = torch.Generator().manual_seed(seed)
    values_BTF, weight_DF3 = (torch.randn(*shape, generator=generator).double() for shape in ((B, T, 5), (4, 5, 3)))
    expected_BDT = torch.conv1d(values_BTF.transpose(1, 2), weight_DF3, padding=1)
    torch.testing.assert_close(winograd(values_BTF, winograd_kernels(weight_DF3)), expected_BDT.transpose(1, 2))


def test_a_wide_network_embeds_as_its_convolution_does():
    model, x = build(F=1024, D=WIDE // 1024).eval(), torch.randn(2, 31, 1024)
    for seed in (None, 1, 2):
        if seed == 1:
            model.load_state_dict(build(F=1024, D=WIDE // 1024, seed=seed).state_dict())
        elif seed == 2:
            model.embed.weight.data = build(F=1024, D=WIDE // 1024, seed=seed).embed.weight.data
        expected = model.embed(x.transpose(1, 2)).relu().transpose(1, 2)
        with torch.inference_mode():
            found = model(x).embedding
        assert not torch.equal(found, expected)  # the other algorithm
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_whole_ratio_given_as_a_float_is_the_same():
    x = torch.randn(2, 30, 4)
    for ours, theirs in zip(build(r_act=9, r_bkg=4).eval()(x), build(r_act=9.0, r_bkg=4.0).eval()(x), strict=True):
        assert torch.equal(ours, theirs)


def test_a_video_of_one_snippet_trains():
    model = build().train()
    output = model(torch.randn(2, 1, 4))
    loss = um_loss(output, torch.eye(3)[:2], Train())
    loss.total.backward()
    assert torch.isfinite(loss.total)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_selections_are_by_magnitude_and_embeddings_are_not_dropped():
    model = build(r_act=5, r_bkg=4, dropout=0.0).train()
    output = model(torch.randn(1, 20, 4))
    order_T = output.embedding[0].norm(dim=1).argsort(descending=True)
    torch.testing.assert_close(output.action_embedding[0], output.embedding[0, order_T[:4]])
    torch.testing.assert_close(output.background_embedding[0], output.embedding[0, order_T.flip(0)[:5]])


def test_masked_snippets_are_in_neither_selection():
    model = build(r_act=5, r_bkg=4, dropout=0.0).train()
    x = torch.randn(1, 20, 4)
    mask = torch.zeros(1, 20)
    mask[0, ::2] = 1
    output = model(x, mask)
    kept = output.embedding[0, ::2]
    for selected in (output.action_embedding[0], output.background_embedding[0]):
        assert all(any(torch.equal(row, other) for other in kept) for row in selected)


def test_magnitudes_are_of_the_embedding_before_dropout():
    model = build(dropout=0.7).train()
    x = torch.randn(3, 20, 4)
    assert torch.equal(model(x).embedding, model.eval()(x).embedding)


def test_evaluation_is_the_same_every_time_and_training_is_not():
    model, x = build(), torch.randn(3, 20, 4)
    assert torch.equal(model.eval()(x).action_score, model(x).action_score)
    assert not torch.equal(model.train()(x).action_score, model(x).action_score)


def test_video_scores_ignore_the_order_of_videos():
    model, x = build().eval(), torch.randn(4, 20, 4)
    for ours, theirs in zip(model(x), model(x.flip(0)), strict=True):
        torch.testing.assert_close(ours.flip(0), theirs)


def test_scores_are_distributions():
    output = build().eval()(torch.randn(4, 20, 4))
    for scores in (output.action_score, output.background_score, output.cas):
        torch.testing.assert_close(scores.sum(-1), torch.ones(scores.shape[:-1]))


def plain_losses(output, label_BC, margin):
    """The formulas of docs/method.md, video by video and class by class."""
    B, C = label_BC.shape
    classification = background = uncertainty = 0.0
    for b in range(B):
        target = label_BC[b] / label_BC[b].sum()
        for c in range(C):
            p, q = output.action_score[b, c], output.background_score[b, c]
            classification -= target[c] * p.log() + (1 - target[c]) * (1 - p).log()
            background -= q.log() / C + (1 - 1 / C) * (1 - q).log()
        action = output.action_embedding[b].mean(0).square().sum().sqrt()
        scene = output.background_embedding[b].mean(0).square().sum().sqrt()
        uncertainty += (max(torch.tensor(0.0), margin - action) + scene) ** 2
    return classification / (B * C), background / (B * C), uncertainty / B


@given(st.integers(0, 100), st.sampled_from([0.1, 1.0, 100.0]))
def test_losses_are_those_of_the_formulas(seed, margin):
    output = build(seed=seed).eval()(torch.randn(3, 20, 4))
    label_BC = torch.tensor([[1.0, 0, 0], [0, 1, 1], [1, 1, 1]])
    loss = um_loss(output, label_BC, Train(margin=margin, alpha=0.5, beta=2.0))
    classification, background, uncertainty = plain_losses(output, label_BC, margin)
    assert loss.classification.item() == pytest.approx(classification.item(), rel=1e-4)
    assert loss.background_entropy.item() == pytest.approx(background.item(), rel=1e-4)
    assert loss.uncertainty.item() == pytest.approx(uncertainty.item(), rel=1e-4)
    total = classification + 0.5 * uncertainty + 2.0 * background
    assert loss.total.item() == pytest.approx(total.item(), rel=1e-4)


def test_the_papers_losses_sum_over_classes():
    output = build().eval()(torch.randn(3, 20, 4))
    label_BC = torch.tensor([[1.0, 0, 0], [0, 1, 1], [1, 1, 1]])
    loss = um_loss(output, label_BC, Train(loss="summed_ce", loss_scale=3.0, alpha=0.0, beta=2.0))
    target_BC = label_BC / label_BC.sum(1, keepdim=True)
    classification = torch.nn.functional.cross_entropy(output.action_score.log(), target_BC)
    assert loss.classification.item() == pytest.approx(classification.item(), rel=1e-5)
    assert loss.background_entropy.item() == pytest.approx(-output.background_score.log().mean().item(), rel=1e-5)
    total = 3 * (classification + 2 * loss.background_entropy)
    assert loss.total.item() == pytest.approx(total.item(), rel=1e-5)


def test_the_papers_losses_are_finite_where_a_score_vanishes():
    model = build()
    with torch.no_grad():
        model.classifier.weight.mul_(1e4)
    output = model.eval()(torch.randn(3, 20, 4))
    assert (output.action_score == 0).any()
    loss = um_loss(output, torch.eye(3), Train(loss="summed_ce")).total
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("C", [20, 100, 200])
def test_the_gradient_of_mean_bce_falls_with_c_and_c_over_20_keeps_it(C):
    """docs/method.md: -1 / C on the true logit at a uniform softmax, against -0.95 of the summed cross-entropy."""
    logits = torch.zeros(1, C, requires_grad=True)
    label = torch.eye(C)[:1]
    target = torch.nn.functional.binary_cross_entropy(logits.softmax(1), label)
    gradient = torch.autograd.grad(target, logits)[0][0, 0]
    assert gradient.item() == pytest.approx(-1 / C, rel=0.1)
    assert C / 20 * gradient.item() == pytest.approx(-0.05, rel=0.1)


def test_the_seeds_uncertainty_is_of_the_mean_over_channels():
    output = build().eval()(torch.randn(2, 20, 4))
    action_B, background_B = (
        embedding.mean(2).square().sum(1).sqrt() for embedding in (output.action_embedding, output.background_embedding)
    )
    expected = ((5.0 - action_B).relu() + background_B).square().mean()
    loss = um_loss(output, torch.eye(3)[:2], Train(uncertainty="channels", margin=5.0))
    assert loss.uncertainty.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_seeds_background_is_what_the_mask_removes():
    model = build(r_act=5, r_bkg=4, dropout=0.0, background="masked").train()
    mask = torch.ones(1, 20)
    mask[0, 3:8] = 0
    output = model(torch.randn(1, 20, 4), mask)
    removed = output.embedding[0, 3:8]
    assert all(any(torch.equal(row, other) for other in removed) for row in output.background_embedding[0])


def test_the_seeds_background_in_evaluation_is_the_smallest_magnitudes():
    x = torch.randn(2, 20, 4)
    ours, theirs = build().eval()(x), build(background="masked").eval()(x)
    torch.testing.assert_close(ours.background_magnitude, theirs.background_magnitude)


@given(st.integers(1, 20), st.sampled_from([1, 3, 7]))
def test_smoothing_averages_the_snippets_there_are(T, width):
    x = torch.randn(1, T, 4)
    plain, smooth = build().eval()(x), build(smoothing=width).eval()(x)
    reach = width // 2
    for t in range(T):
        around = plain.magnitude[0, max(0, t - reach) : t + reach + 1]
        assert smooth.magnitude[0, t].item() == pytest.approx(around.mean().item(), rel=1e-4)


def test_input_dropout_is_for_training_only():
    model, x = build(input_dropout=0.7), torch.randn(2, 20, 4)
    assert torch.equal(model.eval()(x).embedding, build().eval()(x).embedding)
    assert not torch.equal(model.train()(x).embedding, model(x).embedding)
