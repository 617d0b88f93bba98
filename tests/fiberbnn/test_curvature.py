"""Curvature from products, against dense matrices in float64."""

from types import SimpleNamespace

import pytest
import torch
from torch.func import jacrev

from fiberbnn import Energy, Gaussian, Network
from fiberbnn.curvature import diagonal_scale, ggn_diagonal, largest_eigenvalue, newton_gain


def dense_ggn(energy, weights):
    outputs = energy.network.apply(weights, energy.x)
    jacobian = jacrev(lambda w: energy.network.apply(w, energy.x))(weights)
    curvature = jacrev(jacrev(lambda f: energy.likelihood.nll(f, energy.y)))(outputs)
    return torch.einsum("ncp,ncmd,mdq->pq", jacobian, curvature, jacobian)


def dense_hessian(energy, weights):
    return energy.hvp(weights, torch.eye(len(weights), dtype=weights.dtype))


@pytest.mark.parametrize("n_probes", [500, 4000])
def test_ggn_diagonal_is_unbiased_with_the_stated_error(problem, n_probes):
    energy = problem.energy(torch.float64)
    weights = energy.network.weights
    exact = dense_ggn(energy, weights).diagonal()
    estimate = ggn_diagonal(energy, weights, n_probes=n_probes, seed=3)
    # An entry's relative standard error is at most sqrt(2 / n_probes), what Gaussian probes have.
    z = (estimate / exact - 1) / (2 / n_probes) ** 0.5
    assert z.abs().max() < 4
    assert z.mean().abs() < 1  # entries share their probes, so their mean is no better known than one of them
    assert z.square().mean() < 2
    assert energy.cost.grad_evals == n_probes


def test_ggn_diagonal_depends_on_seed_and_number_of_probes_only(classification):
    energy = classification.energy()
    weights = energy.network.weights
    first, again, other = (ggn_diagonal(energy, weights, n_probes=20, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_scale_is_one_over_the_root_of_curvature_and_prior():
    scale = diagonal_scale(torch.tensor([0.0, 12.0]), 4.0)
    torch.testing.assert_close(scale, torch.tensor([0.5, 0.25]))


def test_largest_eigenvalue_of_the_preconditioned_hessian(problem):
    energy = problem.energy(torch.float64)
    weights = energy.network.weights
    scale = diagonal_scale(dense_ggn(energy, weights).diagonal(), 1.0)
    exact = torch.linalg.eigvalsh(scale[:, None] * dense_hessian(energy, weights) * scale)[-1]
    values = [largest_eigenvalue(energy, weights, scale, n_iterations=n) for n in (5, 20, 300)]
    assert values[0] <= values[1] <= values[2] <= exact * (1 + 1e-9)
    assert values[1] > 0.8 * exact
    assert values[2] == pytest.approx(float(exact), rel=1e-3)


def test_largest_eigenvalue_costs_one_product_an_iteration(classification):
    energy = classification.energy()
    largest_eigenvalue(energy, energy.network.weights, torch.ones_like(energy.network.weights), n_iterations=7)
    assert (energy.cost.hvp_evals, energy.cost.grad_evals) == (7, 0)


def test_largest_eigenvalue_is_the_largest_in_magnitude():
    matrix = torch.diag(torch.tensor([1.0, -5.0, 2.0]))
    energy = SimpleNamespace(hvp=lambda weights, vectors: vectors @ matrix)
    assert largest_eigenvalue(energy, torch.zeros(3), torch.ones(3), n_iterations=50) == pytest.approx(5.0, rel=1e-5)
    halves = torch.full((3,), 0.5)
    assert largest_eigenvalue(energy, torch.zeros(3), halves, n_iterations=50) == pytest.approx(1.25, rel=1e-5)


def test_a_hessian_that_is_not_finite_is_refused(regression):
    energy = regression.energy()
    with pytest.raises(FloatingPointError, match="Hessian at the MAP is not finite"):
        largest_eigenvalue(energy, torch.full_like(energy.network.weights, 1e30), torch.ones(25))


def test_newton_gain_is_exact_where_the_curvature_is_diagonal():
    # One input that is never on together with the other, no bias: the GGN of the linear model is diagonal.
    x = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
    linear = torch.nn.Linear(2, 1, bias=False).double()
    energy = Energy(Network(linear), Gaussian(0.5), x, torch.ones(3, 1, dtype=torch.float64), 2.0)
    weights = energy.network.weights
    value, gradient = energy.value_and_grad(weights[None])
    hessian = torch.diag(torch.tensor([4.0, 10.0], dtype=torch.float64)) / 0.25 + 2 * torch.eye(2)
    minimum = weights - torch.linalg.solve(hessian, gradient[0])
    expected = float(value - energy(minimum[None]))
    assert newton_gain(energy, weights, gradient[0]) == pytest.approx(expected, rel=1e-6)
    assert newton_gain(energy, minimum, torch.zeros_like(minimum)) == 0.0


def test_newton_gain_is_exact_where_weights_act_together():
    # Forty copies of one input: the diagonal alone would overstate the gain about forty times.
    torch.manual_seed(0)
    x = torch.randn(30, 1, dtype=torch.float64).expand(30, 40)
    linear = torch.nn.Linear(40, 1, bias=False).double()
    energy = Energy(Network(linear), Gaussian(0.5), x, torch.randn(30, 1, dtype=torch.float64))
    weights = energy.network.weights
    value, gradient = energy.value_and_grad(weights[None])
    hessian = x.T @ x / 0.25 + torch.eye(40, dtype=torch.float64)
    expected = float(value - energy((weights - torch.linalg.solve(hessian, gradient[0]))[None]))
    before = energy.cost.copy()
    gain = newton_gain(energy, weights, gradient[0])
    assert gain == pytest.approx(expected, rel=1e-6)
    diagonal = 0.5 * float((gradient[0].square() / hessian.diagonal()).sum())
    assert diagonal > 20 * gain
    assert (energy.cost.grad_evals - before.grad_evals, energy.cost.hvp_evals - before.hvp_evals) == (8, 4)


def test_newton_gain_approaches_from_below(classification):
    energy = classification.energy(torch.float64)
    weights = energy.network.weights + 0.01  # still where the energy is convex along the gradients
    gradient = energy.value_and_grad(weights[None])[1][0]
    gains = [newton_gain(energy, weights, gradient, n_iterations=n) for n in (0, 1, 2, 4, 8)]
    assert gains[0] == 0.0
    assert gains == sorted(gains)
    assert gains[-1] > 0.0


def test_newton_gain_ends_where_the_curvature_is_not_positive():
    energy = SimpleNamespace(hvp=lambda weights, vectors: -vectors, prior_precision=1.0, ggn_sqrt_vp=lambda *_: [])
    assert newton_gain(energy, torch.zeros(3), torch.ones(3)) == 0.0


def test_probes_are_signs_and_so_exact_for_a_single_output():
    # (J^T L u)^2 with u = 1 or -1 has no spread where one output is all there is.
    x = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.float64)
    energy = Energy(Network(torch.nn.Linear(3, 1).double()), Gaussian(0.5), x, torch.ones(1, 1, dtype=torch.float64))
    expected = torch.tensor([4.0, 1.0, 0.25, 1.0], dtype=torch.float64) / 0.5**2
    torch.testing.assert_close(ggn_diagonal(energy, energy.network.weights, n_probes=3), expected)
