"""Likelihoods against torch.distributions, their curvature against torch.func."""

import math

import pytest
import torch
from torch import distributions as D
from torch.func import jacrev

from fiberbnn import Categorical, Gaussian
from fiberbnn.likelihood import fitted_noise_std

N, C = 7, 3
GENERATOR = torch.Generator().manual_seed(3)
OUTPUTS = 2 * torch.randn(N, C, generator=GENERATOR, dtype=torch.float64)
OTHER = 2 * torch.randn(N, C, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.randint(C, (N,), generator=GENERATOR)
TARGETS = torch.randn(N, C, generator=GENERATOR, dtype=torch.float64)
LIKELIHOODS = {"categorical": (Categorical(), LABELS), "gaussian": (Gaussian(0.7), TARGETS)}


def distribution(kind: str, outputs: torch.Tensor) -> D.Distribution:
    """The predictive as torch has it."""
    return D.Categorical(logits=outputs) if kind == "categorical" else D.Independent(D.Normal(outputs, 0.7), 1)


@pytest.fixture(params=LIKELIHOODS)
def kind(request):
    return request.param


def test_nll_is_minus_log_prob(kind):
    likelihood, y = LIKELIHOODS[kind]
    torch.testing.assert_close(likelihood.nll(OUTPUTS, y), -distribution(kind, OUTPUTS).log_prob(y).sum())


def test_nll_of_a_uniform_predictive_is_log_c():
    assert Categorical().nll(torch.zeros(N, C), LABELS) == pytest.approx(N * math.log(C))


def test_kl_is_that_of_the_predictives(kind):
    likelihood, _ = LIKELIHOODS[kind]
    expected = D.kl_divergence(distribution(kind, OUTPUTS), distribution(kind, OTHER))
    torch.testing.assert_close(likelihood.kl(OUTPUTS, OTHER), expected)
    assert (likelihood.kl(OUTPUTS, OUTPUTS) == 0).all()
    # It is not symmetric for classes, so the order of the arguments is tested above.
    assert (expected > 0).all()


def test_curvature_is_the_hessian_in_the_outputs(kind):
    likelihood, y = LIKELIHOODS[kind]
    dense = jacrev(jacrev(lambda f: likelihood.nll(f, y)))(OUTPUTS).reshape(N * C, N * C)
    u = torch.eye(N * C, dtype=torch.float64).view(-1, N, C)
    ours = likelihood.curvature(OUTPUTS, u).reshape(N * C, N * C)
    torch.testing.assert_close(ours, dense)


def test_curvature_sqrt_is_a_factor_of_the_curvature(kind):
    likelihood, _ = LIKELIHOODS[kind]
    basis = torch.eye(C, dtype=torch.float64)[:, None].expand(C, N, C)
    factor = likelihood.curvature_sqrt(OUTPUTS, basis).permute(1, 2, 0)  # L, [N, C, C]
    curvature = likelihood.curvature(OUTPUTS, basis).permute(1, 2, 0)
    torch.testing.assert_close(factor @ factor.mT, curvature)


def test_curvature_takes_any_number_of_leading_axes(kind):
    likelihood, _ = LIKELIHOODS[kind]
    u = torch.stack([OTHER, -2 * OTHER])
    for apply in (likelihood.curvature, likelihood.curvature_sqrt):
        torch.testing.assert_close(apply(OUTPUTS, u)[1], -2 * apply(OUTPUTS, OTHER))


def test_fitted_noise_is_the_root_mean_square_residual():
    assert fitted_noise_std(torch.zeros(2, 1), torch.tensor([[3.0], [4.0]])) == pytest.approx(math.sqrt(12.5))


def test_fitted_noise_maximises_the_likelihood():
    best = fitted_noise_std(OUTPUTS, TARGETS)
    nll = [float(Gaussian(best * factor).nll(OUTPUTS, TARGETS)) for factor in (0.98, 1.0, 1.02)]
    assert nll[1] < min(nll[0], nll[2])


def test_precision_is_one_over_the_variance():
    assert Gaussian(0.5).precision == pytest.approx(4.0)
