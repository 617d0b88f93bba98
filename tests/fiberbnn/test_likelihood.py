"""Likelihoods against torch.distributions, their curvature against torch.func."""

import math

import pytest
import torch
from torch import distributions as D
from torch.func import grad, jacrev, vmap

from fiberbnn.likelihood import (
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
)
from tests.fiberbnn.likelihood_cases import CASES, N

HESSIAN = [name for name in CASES if not name.startswith("head")]


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


# Values.


def test_nll_is_minus_the_summed_log_prob_of_torch(case):
    outputs, y = case.outputs(), case.targets()
    expected = -case.distribution(outputs).log_prob(y).sum()
    torch.testing.assert_close(case.likelihood.nll(outputs, y), expected)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_log_prob_is_that_of_torch_for_any_leading_axes(case, leading):
    outputs, y = case.outputs(*leading), case.targets()
    log_prob = case.likelihood.log_prob(outputs, y)
    assert log_prob.shape == (*leading, N)
    torch.testing.assert_close(log_prob, case.distribution(outputs).log_prob(y))


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_kl_is_that_of_torch(case, leading):
    outputs, other = case.outputs(*leading), case.outputs(*leading, seed=2)
    kl = case.likelihood.kl(outputs, other, sample_axes=len(leading))
    expected = D.kl_divergence(case.distribution(outputs), case.distribution(other))
    assert kl.shape == (*leading, N)
    torch.testing.assert_close(kl, expected)
    assert (kl > 0).all()
    same = case.likelihood.kl(outputs, outputs, sample_axes=len(leading))
    torch.testing.assert_close(same, torch.zeros_like(same))


def test_kl_takes_one_sample_axis_unless_told(case):
    outputs, other = case.outputs(3), case.outputs(3, seed=2)
    assert torch.equal(case.likelihood.kl(outputs, other), case.likelihood.kl(outputs, other, sample_axes=1))


def test_kl_of_one_weight_vectors_logits_needs_to_be_told():
    with pytest.raises(ValueError, match=r"\[6, 3\] with sample_axes=1 have no class axis -1: give sample_axes=0"):
        Categorical().kl(torch.zeros(N, 3), torch.zeros(N, 3))


def test_kl_of_close_heteroscedastic_predictives_keeps_its_digits_in_float32():
    outputs = torch.tensor([[[0.3, -1.0]]])
    other = outputs + torch.tensor([0.0, 1e-3])
    assert float(HeteroscedasticGaussian().kl(outputs, other)) == pytest.approx(0.25e-6, rel=1e-3)


@pytest.mark.parametrize("leading", [(), (3,)])
def test_predictions_and_noise_are_the_moments_of_torch(case, leading):
    outputs = case.outputs(*leading)
    part = case.distribution(outputs).base_dist
    predictions = case.likelihood.predictions(outputs, sample_axes=len(leading))
    if isinstance(case.likelihood, Categorical):
        assert predictions.shape == outputs.shape
        axis = case.likelihood.class_axis
        torch.testing.assert_close(predictions.movedim(axis if axis < 0 else axis + len(leading), -1), part.probs)
    else:
        torch.testing.assert_close(predictions, part.mean)
        torch.testing.assert_close(case.likelihood.noise_variance(outputs), part.variance)


def test_nll_of_a_uniform_predictive_is_log_c():
    assert Categorical().nll(torch.zeros(N, 3), torch.arange(N) % 3) == pytest.approx(N * math.log(3))


def test_noise_per_output_that_is_the_same_for_all_is_one_noise():
    outputs, y = CASES["gaussian"].outputs(), CASES["gaussian"].targets()
    torch.testing.assert_close(Gaussian((0.7, 0.7, 0.7)).nll(outputs, y), Gaussian(0.7).nll(outputs, y))


def test_a_head_with_constant_noise_is_a_gaussian():
    outputs, y = CASES["gaussian"].outputs(), CASES["gaussian"].targets()
    with_head = torch.cat([outputs, torch.full_like(outputs, 2 * math.log(0.7))], dim=-1)
    torch.testing.assert_close(HeteroscedasticGaussian().log_prob(with_head, y), Gaussian(0.7).log_prob(outputs, y))


# Another class axis.


def test_a_class_axis_is_a_moved_axis():
    pixels, last = CASES["classes-pixels"], Categorical()
    outputs, other, y = pixels.outputs(5), pixels.outputs(5, seed=2), pixels.targets()
    moved, moved_other = outputs.movedim(2, -1), other.movedim(2, -1)
    torch.testing.assert_close(pixels.likelihood.nll(outputs[0], y), last.nll(moved[0], y))
    torch.testing.assert_close(pixels.likelihood.log_prob(outputs, y), last.log_prob(moved, y))
    torch.testing.assert_close(pixels.likelihood.kl(outputs, other), last.kl(moved, moved_other))
    torch.testing.assert_close(pixels.likelihood.predictions(outputs).movedim(2, -1), last.predictions(moved))
    for name in ("curvature", "curvature_sqrt"):
        ours = getattr(pixels.likelihood, name)(outputs[0], other)
        torch.testing.assert_close(ours.movedim(2, -1), getattr(last, name)(moved[0], moved_other))


@pytest.mark.parametrize("axis", [0, 1.0, None, True])
def test_a_class_axis_that_cannot_be(axis):
    with pytest.raises(ValueError, match="class_axis must be the number of an axis of the outputs, and not 0"):
        Categorical(axis)


# Labels that are left out.


@pytest.fixture(params=["classes-tokens", "classes-pixels", "classes-middle"])
def padded(request):
    """A case with its labels, a third of them left out and all those of the second example."""
    case = CASES[request.param]
    y = case.targets()
    y.view(-1)[::3] = -100
    y[1] = -100
    return case, y


def test_ignored_labels_add_nothing(padded):
    case, y = padded
    outputs = case.outputs(2)
    axis = case.likelihood.class_axis
    log_p = outputs.movedim(axis if axis < 0 else axis + 1, -1).log_softmax(-1)
    kept = y != -100
    picked = log_p.gather(-1, y.where(kept, 0).expand(2, *y.shape)[..., None]).squeeze(-1)
    expected = (picked * kept).flatten(2).sum(-1)
    torch.testing.assert_close(case.likelihood.log_prob(outputs, y), expected)
    torch.testing.assert_close(case.likelihood.nll(outputs[0], y), -expected[0].sum())
    assert (case.likelihood.log_prob(outputs, y)[:, 1] == 0).all()
    case.likelihood.check(outputs[0], y)


def test_ignored_labels_have_no_gradient_and_no_curvature(padded):
    case, y = padded
    outputs, likelihood = case.outputs(), case.likelihood
    dense = jacrev(jacrev(lambda f: likelihood.nll(f, y)))(outputs).reshape(outputs.numel(), -1)
    u = torch.eye(outputs.numel(), dtype=torch.float64).view(-1, *outputs.shape)
    torch.testing.assert_close(likelihood.curvature(outputs, u, y).reshape(dense.shape), dense)
    factor = likelihood.curvature_sqrt(outputs, u, y).reshape(dense.shape)  # rows are L e_i
    torch.testing.assert_close(factor.T @ factor, dense)
    assert (likelihood.curvature(outputs, u)[..., 1, :, :] != 0).any()  # without labels nothing is left out


# Curvature.


@pytest.mark.parametrize("name", HESSIAN)
def test_curvature_is_the_hessian_in_the_outputs(name):
    case = CASES[name]
    outputs, y = case.outputs(), case.targets()
    size = outputs.numel()
    dense = jacrev(jacrev(lambda f: case.likelihood.nll(f, y)))(outputs).reshape(size, size)
    u = torch.eye(size, dtype=torch.float64).view(-1, *outputs.shape)
    torch.testing.assert_close(case.likelihood.curvature(outputs, u).reshape(size, size), dense)
    torch.testing.assert_close(case.likelihood.curvature(outputs, u, y).reshape(size, size), dense)


def test_heteroscedastic_curvature_is_the_second_moment_of_the_score():
    likelihood, outputs = HeteroscedasticGaussian(), torch.tensor([[0.4, -1.0, -0.8, 0.6]], dtype=torch.float64)
    # Gauss-Hermite nodes integrate the score's fourth-degree products over the targets exactly.
    nodes, weights = torch.tensor([-(3**0.5), 0.0, 3**0.5]).double(), torch.tensor([1, 4, 1]).double() / 6
    mean, log_variance = outputs.chunk(2, -1)
    grid = torch.cartesian_prod(nodes, nodes)[:, None]
    score = vmap(grad(likelihood.nll), in_dims=(None, 0))(outputs, mean + (0.5 * log_variance).exp() * grid)
    p = torch.cartesian_prod(weights, weights).prod(-1)
    fisher = torch.einsum("sni,snj,s->ij", score, score, p)
    u = torch.eye(4, dtype=torch.float64)[:, None]
    torch.testing.assert_close(likelihood.curvature(outputs, u)[:, 0], fisher)


def test_curvature_sqrt_is_a_factor_of_the_curvature(case):
    outputs = case.outputs()
    size = outputs.numel()
    u = torch.eye(size, dtype=torch.float64).view(-1, *outputs.shape)
    factor = case.likelihood.curvature_sqrt(outputs, u).reshape(size, size)  # rows are L e_i
    torch.testing.assert_close(factor.T @ factor, case.likelihood.curvature(outputs, u).reshape(size, size))


# Under torch.func.


def test_all_is_the_same_under_vmap(case):
    likelihood, outputs, other, y = case.likelihood, case.outputs(3), case.outputs(3, seed=2), case.targets()
    labels = y.expand(3, *y.shape)
    one = [(f, u, t) for f, u, t in zip(outputs, other, labels, strict=True)]
    for together, alone in [
        (vmap(likelihood.nll)(outputs, labels), [likelihood.nll(f, t) for f, _, t in one]),
        (vmap(likelihood.log_prob)(outputs, labels), [likelihood.log_prob(f, t) for f, _, t in one]),
        (vmap(likelihood.curvature)(outputs, other, labels), [likelihood.curvature(*each) for each in one]),
        (vmap(likelihood.curvature_sqrt)(outputs, other), [likelihood.curvature_sqrt(f, u) for f, u, _ in one]),
        (vmap(grad(likelihood.nll))(outputs, labels), [grad(likelihood.nll)(f, t) for f, _, t in one]),
    ]:
        torch.testing.assert_close(together, torch.stack(alone))
    torch.testing.assert_close(
        vmap(lambda f, u: likelihood.kl(f, u, sample_axes=0))(outputs, other), likelihood.kl(outputs, other)
    )


def test_plain_autograd_and_torch_func_agree(case):
    outputs, y = case.outputs().requires_grad_(), case.targets()
    case.likelihood.nll(outputs, y).backward()
    torch.testing.assert_close(outputs.grad, grad(case.likelihood.nll)(outputs.detach(), y))
    other = case.outputs(seed=2).requires_grad_()
    case.likelihood.kl(outputs.detach(), other, sample_axes=0).sum().backward()
    assert other.grad.isfinite().all()
    assert (other.grad != 0).any()
