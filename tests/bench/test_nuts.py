"""NUTS against a closed form, and its density against the library's."""

import numpy as np
import pytest
import torch

import fiberbnn

pytest.importorskip("jax", reason="NUTS needs jax (extra hmc)")
pytest.importorskip("blackjax", reason="NUTS needs blackjax (extra hmc)")

from benchmark_utils.methods.chains import initial_chains, predicted_values, predictive_diagnostics
from benchmark_utils.methods.mlp_posterior import MLPPosterior
from benchmark_utils.methods.nuts import Nuts, compiled_nuts
from benchmark_utils.tasks.task import Task

CHAINS, DRAWS = 2, 500


def linear_task(seed: int = 0) -> Task:
    """Bayesian linear regression as a network without a hidden layer."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((30, 3)).astype(np.float32)
    y = (x @ [[1.0], [-0.5], [0.2]] + 0.3 + 0.5 * rng.standard_normal((30, 1))).astype(np.float32)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    return Task(
        "linear", "regression", x[:20], y[:20], x[20:], y[20:], (3, 1), "tanh", seed,
        "a" * 64, "a" * 64, "generated", "none", "none", noise_std=0.5, prior_precision=2.0,
    )  # fmt: skip


def class_task(widths: tuple[int, ...] = (2, 5, 4, 3), activation: str = "tanh") -> Task:
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.standard_normal((40, widths[0])).astype(np.float32))
    y = torch.from_numpy(rng.integers(0, widths[-1], 40))
    return Task(
        "blobs", "classification", x[:25], y[:25], x[25:], y[25:], widths, activation, 0,
        "a" * 64, "a" * 64, "generated", "none", "none", prior_precision=0.7,
    )  # fmt: skip


def posterior_of(task: Task) -> MLPPosterior:
    return MLPPosterior(task.widths, task.activation, task.kind, task.prior_precision, task.noise_std)


def closed_form(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Mean [P] and covariance [P, P] of the weights (w, b) of a linear regression."""
    design = np.concatenate([task.x_train.double().numpy(), np.ones((len(task.x_train), 1))], axis=1)
    precision = design.T @ design / task.noise_std**2 + task.prior_precision * np.eye(design.shape[1])
    covariance = np.linalg.inv(precision)
    return covariance @ design.T @ task.y_train.double().numpy()[:, 0] / task.noise_std**2, covariance


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu", "gelu"])
@pytest.mark.parametrize("make", [class_task, lambda activation: linear_task()], ids=["classes", "linear"])
def test_log_density_is_minus_the_library_s_energy(make, activation):
    task = make(activation=activation)
    posterior = posterior_of(task)
    weights = torch.randn(4, posterior.n_params, generator=torch.Generator().manual_seed(0))
    network = fiberbnn.Network(task.make_model())
    energy = fiberbnn.Energy(network, task.likelihood(), task.x_train, task.y_train, task.prior_precision)
    data = posterior.prepare(task.x_train.numpy(), task.y_train.numpy())
    found = [float(posterior.log_density(w, *data)) for w in weights.numpy()]
    np.testing.assert_allclose(found, -energy(weights).numpy(), rtol=2e-5)


@pytest.fixture(scope="module")
def linear_run():
    task = linear_task()
    nuts = Nuts(posterior_of(task), len(task.x_train), n_warmup=200, max_tree_depth=6, block=DRAWS)
    arguments = (task.x_train.numpy(), task.y_train.numpy(), initial_chains(task, CHAINS))
    return task, nuts, arguments, nuts.run(*arguments, n_draws=DRAWS, seed=3)


def test_linear_regression_matches_the_closed_form(linear_run):
    import arviz

    task, _, _, run = linear_run
    mean, covariance = closed_form(task)
    sd = np.sqrt(np.diag(covariance))
    data = arviz.convert_to_dataset({"w": run.draws.astype(np.float64)})
    n_effective = arviz.ess(data, method="bulk")["w"].values
    assert n_effective.min() > 200
    draws = run.draws.reshape(-1, len(mean)).astype(np.float64)
    # Four standard errors of a mean, sd / sqrt(ESS).
    assert (np.abs(draws.mean(0) - mean) < 4 * sd / np.sqrt(n_effective)).all()
    # A variance's standard error is sqrt(2 / ESS) of it, with the ESS of the squares, which is smaller.
    squares = arviz.convert_to_dataset({"w": ((run.draws - mean) / sd).astype(np.float64) ** 2})
    n_squares = arviz.ess(squares, method="mean")["w"].values
    assert (np.abs(draws.var(0) / sd**2 - 1) < 4 * np.sqrt(2 / n_squares)).all()
    correlation = np.corrcoef(draws.T) - covariance / np.outer(sd, sd)
    assert np.abs(correlation).max() < 4 / np.sqrt(n_squares.min())


def test_run_reports_what_it_did(linear_run):
    task, nuts, arguments, run = linear_run
    assert run.draws.shape == (CHAINS, DRAWS, 4)
    assert run.divergences == 0
    assert 0.6 < run.acceptance <= 1.0
    # Each transition makes between 1 and 2^depth - 1 leapfrog steps.
    transitions = CHAINS * (200 + DRAWS)
    assert transitions < run.grad_evals < transitions * (2**6 - 1)
    energy = fiberbnn.Energy(
        fiberbnn.Network(task.make_model()),
        task.likelihood(),
        task.x_train,
        task.y_train,
        task.prior_precision,
    )
    np.testing.assert_allclose(run.log_density[1], -energy(torch.from_numpy(run.draws[1])).numpy(), rtol=1e-4)
    seen: list[int] = []
    again = nuts.run(*arguments, n_draws=DRAWS, seed=3, progress=seen.append)
    assert sum(seen) == transitions
    np.testing.assert_array_equal(run.draws, again.draws)
    assert not np.array_equal(run.draws, nuts.run(*arguments, n_draws=DRAWS, seed=4).draws)


def test_chains_agree_on_predictions(linear_run):
    task, _, _, run = linear_run
    values = predicted_values(task, fiberbnn.Network(task.make_model()), run.draws, task.x_test)
    assert values.shape == (CHAINS, DRAWS, 10, 1)
    found = predictive_diagnostics(values)
    assert found["rhat_max"] < 1.03
    assert 200 < found["ess_min"] <= found["ess_median"]
    values[1] += 5 * values.std()
    assert predictive_diagnostics(values)["rhat_max"] > 1.5


def test_diagnostics_leave_out_what_never_varies():
    values = np.random.default_rng(0).uniform(0.2, 0.8, (2, 100, 4, 2))
    values[..., 1] = 1 - values[..., 0]
    full = predictive_diagnostics(values)
    values[:, :, 0] = [1.0, 0.0]
    assert predictive_diagnostics(values)["rhat_max"] <= full["rhat_max"]


def test_chains_start_apart_and_repeatably():
    task = class_task()
    first = initial_chains(task, 3)
    assert first.shape == (3, posterior_of(task).n_params)
    np.testing.assert_array_equal(first, initial_chains(task, 3))
    assert not np.array_equal(first[0], first[1])


def test_compilation_is_shared_between_seeds():
    arguments = {"n_warmup": 20, "max_tree_depth": 2, "block": 5}
    posterior = posterior_of(linear_task())
    assert compiled_nuts(posterior, 20, **arguments) is compiled_nuts(posterior_of(linear_task(1)), 20, **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "sine"}, "activation must be one of"),
        ({"kind": "ranking"}, "kind must be"),
        ({"noise_std": None}, "needs noise_std"),
    ],
)
def test_bad_posterior_is_refused(change, message):
    arguments = {"widths": (3, 1), "activation": "tanh", "kind": "regression", "noise_std": 0.5} | change
    with pytest.raises(ValueError, match=message):
        MLPPosterior(**arguments)


def test_draws_must_fill_blocks(linear_run):
    _, nuts, arguments, _ = linear_run
    with pytest.raises(ValueError, match="multiple of block"):
        nuts.run(*arguments, n_draws=DRAWS + 1, seed=0)
