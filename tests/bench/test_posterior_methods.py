"""Variational inference, SGHMC, Riemannian and subnetwork Laplace on linear models, where their answers are known."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmark_utils.methods.geodesics import exponential_map
from benchmark_utils.methods.log_posterior import energy_in_batches, log_posterior
from benchmark_utils.tasks.task import Task
from fiberbnn import Energy, MapFit, Network, fit_map
from tests.bench.test_solvers import TASKS, linear_posterior, make_solver, make_task, run

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")


def linear_task() -> tuple[Task, MapFit]:
    """Regression of three inputs, two of them alike: their weights are correlated."""
    task = make_task("regression", (3, 1))
    x = task.x_train.clone()
    x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    task = replace(task, x_train=x)
    return task, fit_map(task.make_model(), task.x_train, task.y_train, task.likelihood())


def test_vi_of_a_linear_model_is_the_best_diagonal_gaussian():
    task, map_fit = linear_task()
    mean, covariance = linear_posterior(task)
    result = run(solver := make_solver("vi", n_steps=1000), task, map_fit)
    assert result["cost"]["grad_evals"] == 1000 * 8
    best_sd = covariance.inverse().diag().rsqrt()
    assert ((solver.mean - mean).abs() < 0.1 * best_sd).all()
    assert ((solver.sd / best_sd - 1).abs() < 0.03).all()
    # That is less than the marginal deviation.
    assert float((best_sd / covariance.diag().sqrt()).min()) < 0.85
    draws = result["sample_weights"](20_000)
    assert ((draws.std(0) / solver.sd - 1).abs() < 4 * (2 * 20_000) ** -0.5).all()
    # The ELBO of the best diagonal Gaussian is the evidence less the divergence, which is that of the determinants.
    design = torch.cat([task.x_train, torch.ones(len(task.x_train), 1)], dim=1).double()
    marginal = design @ design.T / task.prior_precision + task.noise_std**2 * torch.eye(len(design))
    evidence = torch.distributions.MultivariateNormal(torch.zeros(len(design)).double(), marginal)
    gap = 0.5 * (covariance.logdet() - 2 * best_sd.log().sum())
    assert result["info"]["elbo"] == pytest.approx(float(evidence.log_prob(task.y_train[:, 0]) - gap), abs=0.1)


def test_sghmc_of_a_linear_model_has_the_moments_of_the_posterior():
    task, map_fit = linear_task()
    mean, covariance = linear_posterior(task)
    # One draw of each chain: all are independent.
    solver = make_solver("sghmc", excess=0.1, n_chains=1000, n_steps=600, n_samples=1000)
    result = run(solver, task, map_fit)
    draws = result["sample_weights"](1000).double()
    assert len(draws) == 1000
    assert ((draws.mean(0) - mean).abs() < 4 * (covariance.diag() / 1000) ** 0.5).all()
    whitened = (draws - mean) @ torch.linalg.cholesky(covariance.inverse())
    spread = torch.linalg.eigvalsh(whitened.T.cov())
    # Four standard errors, and what the steps add: at most `excess` to first order, 0.114 exactly.
    error = 4 * (2 / 1000) ** 0.5
    assert 1 - error < float(spread[0])
    assert float(spread[-1]) < 1.114 + error
    assert result["info"]["halvings"] == 0
    # 64 probes of the curvature's diagonal, 20 products, and the energies of 30 draws besides.
    assert result["cost"] == {"grad_evals": 600 * 1000 + 64, "hvp_evals": 20, "energy_evals": 30}


def test_sghmc_takes_shorter_steps_where_it_diverges():
    task, map_fit = linear_task()
    # Longer than the friction over the curvature, Euler steps are unstable.
    result = run(make_solver("sghmc", excess=4.0, n_chains=3, n_steps=300, n_samples=30), task, map_fit)
    assert result["info"]["halvings"] >= 1
    assert result["sample_weights"](30).isfinite().all()
    assert result["cost"]["grad_evals"] > 3 * 300 + 64


def test_sghmc_takes_shorter_steps_where_chains_are_hot():
    task, map_fit = linear_task()
    settings = {"excess": 0.1, "n_chains": 3, "n_steps": 60, "n_samples": 30}
    # Finite chains all of them; from a MAP that is said to lie lower, the same energies are far too high.
    lower = replace(map_fit, energy=map_fit.energy - 100.0)
    solver = make_solver("sghmc", **settings)
    solver.set_objective(task=task, map_fit=lower)
    with pytest.raises(FloatingPointError, match="diverged, even at step size"):
        solver.run(None)
    assert run(make_solver("sghmc", **settings), task, map_fit)["info"]["halvings"] == 0


def test_minibatches_are_charged_for_their_share_of_the_data():
    task, _ = linear_task()
    many = replace(task, x_train=task.x_train.repeat(60, 1), y_train=task.y_train.repeat(60, 1))
    map_fit = fit_map(many.make_model(), many.x_train, many.y_train, many.likelihood())
    result = run(make_solver("sghmc", n_chains=2, n_steps=12, n_samples=2), many, map_fit)
    assert result["cost"]["grad_evals"] == pytest.approx(2 * 12 * 1000 / 2400 + 64)
    result = run(make_solver("vi", n_steps=12, batch_rows=600), many, map_fit)
    assert result["cost"]["grad_evals"] == pytest.approx(12 * 8 / 4)


@pytest.mark.parametrize("kind", TASKS)
def test_posteriors_gets_the_gradients_of_the_energy(kind):
    task = TASKS[kind]
    map_fit = MapFit(model := task.make_model(), Network(model).weights, 0.0, 0.0, 0.0, 0, converged=False)
    energy = energy_in_batches(task, map_fit, 1000)
    assert isinstance(energy, Energy)
    weights = map_fit.weights + 0.1 * torch.randn(3, len(map_fit.weights), generator=torch.Generator().manual_seed(0))
    value, expected = energy.value_and_grad(weights)

    def total(w: Tensor) -> Tensor:
        return log_posterior(w, energy)[0]

    torch.testing.assert_close(torch.func.vmap(total)(weights), -value)
    torch.testing.assert_close(torch.func.grad(total)(weights), -expected)
    each = torch.func.grad(lambda w: (torch.func.vmap(total)(w) * torch.tensor([1.0, 2.0, 3.0])).sum())(weights)
    torch.testing.assert_close(each, -expected * torch.tensor([[1.0], [2.0], [3.0]]))


def test_geodesics_of_a_linear_model_run_the_length_of_its_draws():
    task, map_fit = linear_task()
    # A weak prior and an input that hardly varies: one direction with little curvature.
    task = replace(task, prior_precision=0.01, x_train=task.x_train * torch.tensor([1.0, 1.0, 1e-3]))
    map_fit = fit_map(
        task.make_model(), task.x_train, task.y_train, task.likelihood(), prior_precision=task.prior_precision
    )
    solver = make_solver("riemannian_laplace", structure="full", n_samples=3)
    result = run(solver, task, map_fit)
    evaluations = solver.geodesics.evaluations
    assert result["cost"] == {"grad_evals": 3 * evaluations, "hvp_evals": 3 * evaluations + 4}
    gradient, start = solver.surface()
    curvatures, directions = torch.linalg.eigh(linear_posterior(task)[1].inverse())
    ends = exponential_map(gradient, start, directions.T.contiguous(), rtol=1e-4).ends - start
    reach = (ends * directions.T).sum(1)
    # Along an eigenvector of a quadratic a geodesic is straight, and as long on the surface as its velocity. The MAP's
    # remaining gradient bends it a little.
    slope = curvatures * reach
    length = (slope * (1 + slope.square()).sqrt() + slope.asinh()) / (2 * curvatures)
    torch.testing.assert_close(length, torch.ones(4).double(), rtol=0.02, atol=0)
    # Where there is no curvature to speak of it is the draw of Laplace itself.
    assert float(reach[0]) == pytest.approx(1.0, abs=1e-3)
    assert float(reach[-1]) < 0.2


def test_a_subnetwork_has_the_conditional_covariance_of_its_weights():
    task, map_fit = linear_task()
    precision = linear_posterior(task)[1].inverse()
    settings = {"structure": "subnetwork", "predictive": "sampled", "prior": "fixed", "n_samples": 5}
    result = run(solver := make_solver("laplace", subnet_share=0.5, **settings), task, map_fit)
    assert result["cost"] == {"grad_evals": 2, "hvp_evals": 0}
    draws = result["sample_weights"](20_000).double()
    # The two of four weights with the largest variances under a diagonal precision; the others stay as in the MAP.
    chosen = precision.diag().argsort()[:2].sort().values
    others = torch.tensor([i for i in range(4) if i not in chosen])
    assert torch.equal(solver.laplace.backend.subnetwork_indices, chosen)
    assert torch.equal(draws[:, others], map_fit.weights[others].double().expand(20_000, -1))
    expected = precision[chosen][:, chosen].inverse()
    sd = expected.diag().sqrt()
    assert ((draws[:, chosen].std(0) / sd - 1).abs() < 4 * (2 * 20_000) ** -0.5).all()
    correlation = draws[:, chosen].T.corrcoef()
    assert ((correlation - expected / sd.outer(sd)).abs() < 4 / 20_000**0.5).all()


@pytest.mark.parametrize(
    ("name", "settings", "network", "reason"),
    [
        ("laplace", {"structure": "subnetwork", "subnet_share": 1.5}, (2, 4, 1), "at most 1, not 1.5"),
        ("riemannian_laplace", {"most_rows": 39}, (2, 4, 1), "40 training rows take too long"),
        ("riemannian_laplace", {"structure": "full"}, (2, 2000, 1), "needs 8001 x 8001 matrices"),
        ("vi", {"learning_rate": 0.0}, (2, 4, 1), "have to be positive"),
        ("sghmc", {"burn_in": 1.0}, (2, 4, 1), "less than 1"),
    ],
)
def test_what_cannot_be_done_is_skipped_with_a_reason(name, settings, network, reason):
    task = make_task("regression", network)
    model = task.make_model()
    untrained = MapFit(model, Network(model).weights, 0.0, 0.0, 0.0, 0, converged=False)
    skipped, why = make_solver(name, **settings).skip(task=task, map_fit=untrained)
    assert skipped
    assert reason in why
