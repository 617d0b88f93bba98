"""The methods the library is compared with, each on a tiny task, and Laplace where its answer is known."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.tasks.task import Task
from fiberbnn import Energy, MapFit, Network, fit_map

# torch scripts the functions that forward-mode differentiation needs, and torchvision scripts at import.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")

FOLDER = Path(__file__).resolve().parents[2] / "bench" / "solvers"

COST = {"grad_evals", "hvp_evals", "energy_evals", "shared_s"}


def make_solver(name: str, **settings: Any) -> Any:
    """The solver of a file of bench/solvers, with the first value of each parameter that is not set."""
    spec = importlib.util.spec_from_file_location(f"solver_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Solver.get_instance(**settings)


def make_task(kind: str, widths: tuple[int, ...], seed: int = 0) -> Task:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(60, widths[0], generator=generator)
    signal = x.sum(1, keepdim=True).sin()
    noise = 0.2 * torch.randn(60, 1, generator=generator)
    regression = kind == "regression"
    y = signal + noise if regression else torch.bucketize((signal + noise)[:, 0], torch.tensor([-0.4, 0.4]))
    return Task(
        "toy", kind, x[:40], y[:40], x[40:], y[40:], widths, "tanh", seed,
        "ab" * 32, "ab" * 32, "generated", "none", "none", noise_std=0.2 if regression else None,
    )  # fmt: skip


TASKS = {
    "regression": make_task("regression", (2, 4, 1)),
    "classification": make_task("classification", (2, 4, 3)),
}


@pytest.fixture(scope="module", params=TASKS)
def task_and_map(request) -> tuple[Task, MapFit]:
    task = TASKS[request.param]
    return task, fit_map(task.make_model(), task.x_train, task.y_train, task.likelihood())


def run(solver: Any, task: Task, map_fit: MapFit) -> dict[str, Any]:
    """One run in benchopt's order."""
    assert solver.skip(task=task, map_fit=map_fit) == (False, None)
    solver.set_objective(task=task, map_fit=map_fit)
    solver.pre_run_hook(None)
    solver.run(None)
    return solver.get_result()


def numbers(prediction: Prediction) -> torch.Tensor:
    return prediction.class_log_probs if prediction.kind == "classification" else torch.stack(prediction.gaussians)


METHODS = [
    ("map", {}, 1, 1),
    ("ensemble", {"members": 3}, 3, 3),
    ("swag", {"n_steps": 60, "n_snapshots": 20, "rank": 5, "n_samples": 7}, 7, 11),
    ("laplace", {"structure": "full", "predictive": "glm", "prior": "fixed"}, 1, None),
    ("laplace", {"structure": "full", "predictive": "sampled", "prior": "tuned", "n_samples": 7}, 7, 11),
    ("laplace", {"structure": "kron", "predictive": "glm", "prior": "tuned"}, 1, None),
    ("laplace", {"structure": "kron", "predictive": "sampled", "prior": "fixed", "n_samples": 7}, 7, 11),
    ("laplace", {"structure": "diag", "predictive": "glm", "prior": "tuned"}, 1, None),
    ("laplace", {"structure": "diag", "predictive": "sampled", "prior": "fixed", "n_samples": 7}, 7, 11),
    ("laplace", {"structure": "last_layer", "predictive": "glm", "prior": "tuned"}, 1, None),
    ("laplace", {"structure": "last_layer", "predictive": "sampled", "n_samples": 7}, 7, 11),
    ("laplace", {"structure": "subnetwork", "predictive": "glm", "prior": "tuned"}, 1, None),
    ("laplace", {"structure": "subnetwork", "predictive": "sampled", "prior": "fixed", "n_samples": 7}, 7, 11),
    ("riemannian_laplace", {"n_samples": 7}, 7, 7),
    ("vi", {"n_steps": 20, "n_samples": 7}, 7, 11),
    ("sghmc", {"n_steps": 20, "n_chains": 3, "n_samples": 6}, 6, 6),
    ("hmc", {"chains": 2, "n_warmup": 60, "n_draws": 40, "max_tree_depth": 4}, 80, 11),
]


@pytest.mark.parametrize(
    ("name", "settings", "n_components", "n_weights"),
    METHODS,
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_method_gives_a_prediction_and_its_price(name, settings, n_components, n_weights, task_and_map):
    if name == "hmc":
        pytest.importorskip("jax", reason="hmc needs jax")
        pytest.importorskip("blackjax", reason="hmc needs blackjax")
    task, map_fit = task_and_map
    before = map_fit.weights.clone()
    result = run(make_solver(name, **settings), task, map_fit)
    assert set(result) == {"predict", "sample_weights", "cost", "info"}
    with torch.no_grad():
        prediction = result["predict"](task.x_test)
    assert prediction.kind == task.kind
    assert prediction.n_samples == n_components
    weights = result["sample_weights"](11)
    if n_weights is None:
        assert weights is None
    else:
        assert weights.shape == (n_weights, len(map_fit.weights))
        assert weights.isfinite().all()
    assert {"grad_evals", "hvp_evals"} <= set(result["cost"]) <= COST
    assert all(isinstance(value, (int, float)) and np.isfinite(value) for value in result["info"].values())
    # The shared MAP is nobody's to change.
    torch.testing.assert_close(map_fit.weights, before, rtol=0, atol=0)
    torch.testing.assert_close(Network(map_fit.model).weights, before, rtol=0, atol=0)
    if name != "hmc":  # its own repeatability is tested with NUTS
        again = run(make_solver(name, **settings), task, map_fit)["predict"](task.x_test)
        torch.testing.assert_close(numbers(prediction), numbers(again), rtol=0, atol=0)


@pytest.mark.parametrize("rows", [1, 127, 128, 129, 300])
def test_glm_predicts_in_chunks_what_it_predicts_in_one(rows, task_and_map):
    task, map_fit = task_and_map
    solver = make_solver("laplace", structure="kron", predictive="glm", prior="fixed")
    predict = run(solver, task, map_fit)["predict"]
    x = torch.randn(rows, 2, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([numbers(predict(row[None])) for row in x], dim=-1 if task.kind == "regression" else 1)
    torch.testing.assert_close(numbers(predict(x)), alone, rtol=1e-4, atol=1e-6)


def linear_posterior(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean [P] and covariance [P, P] of Bayesian linear regression, float64."""
    design = torch.cat([task.x_train, torch.ones(len(task.x_train), 1)], dim=1).double()
    precision = design.T @ design / task.noise_std**2 + task.prior_precision * torch.eye(design.shape[1])
    covariance = precision.inverse()
    return covariance @ design.T @ task.y_train[:, 0].double() / task.noise_std**2, covariance


def test_full_laplace_of_a_linear_model_is_the_posterior():
    task = make_task("regression", (3, 1))
    map_fit = fit_map(task.make_model(), task.x_train, task.y_train, task.likelihood())
    mean, covariance = linear_posterior(task)
    design = torch.cat([task.x_test, torch.ones(len(task.x_test), 1)], dim=1).double()
    exact_variance = (design @ covariance * design).sum(1) + task.noise_std**2

    glm = run(make_solver("laplace", structure="full", predictive="glm", prior="fixed"), task, map_fit)
    found_mean, found_variance = glm["predict"](task.x_test).gaussians
    torch.testing.assert_close(found_mean[0], design @ mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found_variance[0], exact_variance, rtol=1e-4, atol=1e-6)

    sampled = run(make_solver("laplace", structure="full", predictive="sampled", prior="fixed"), task, map_fit)
    draws = sampled["sample_weights"](20_000).double()
    sd = covariance.diag().sqrt()
    # Four standard errors of a mean, of a variance and of a correlation from n draws.
    assert ((draws.mean(0) - mean).abs() < 4 * sd / 20_000**0.5).all()
    assert ((draws.var(0) / sd.square() - 1).abs() < 4 * (2 / 20_000) ** 0.5).all()
    assert ((draws.T.corrcoef() - covariance / sd.outer(sd)).abs() < 4 / 20_000**0.5).all()


def test_tuned_precision_maximises_the_evidence_of_a_linear_model():
    task = make_task("regression", (3, 1))
    map_fit = fit_map(task.make_model(), task.x_train, task.y_train, task.likelihood())
    solver = make_solver("laplace", structure="full", predictive="glm", prior="tuned")
    found = run(solver, task, map_fit)["info"]["prior_precision"]
    # At fixed weights, d/dτ [P/2 log τ - τ/2 |w|² - 1/2 log det(H + τ)] = 0.
    design = torch.cat([task.x_train, torch.ones(len(task.x_train), 1)], dim=1).double()
    curvatures = torch.linalg.eigvalsh(design.T @ design / task.noise_std**2)
    square = map_fit.weights.double().square().sum()

    def slope(precision: float) -> float:
        return float(len(curvatures) / precision - square - (1 / (curvatures + precision)).sum())

    assert slope(found * 0.9) > 0 > slope(found * 1.1)


def test_swag_of_a_quadratic_is_centred_on_the_map():
    task = make_task("regression", (3, 1))
    map_fit = fit_map(task.make_model(), task.x_train, task.y_train, task.likelihood())
    solver = make_solver("swag", relative_rate=0.1, n_steps=400, n_snapshots=200, rank=10)
    result = run(solver, task, map_fit)
    # 40 rows make one batch of 32 and one of 8.
    assert result["cost"] == {"grad_evals": 200, "hvp_evals": 20}
    # lambda_max of the mean loss, from the design itself.
    design = torch.cat([task.x_train, torch.ones(len(task.x_train), 1)], dim=1).double()
    hessian = design.T @ design / task.noise_std**2 + task.prior_precision * torch.eye(4)
    top = float(torch.linalg.eigvalsh(hessian)[-1]) / len(task.x_train)
    assert result["info"]["learning_rate"] == pytest.approx(0.1 / top, rel=0.05)
    draws = result["sample_weights"](4000)
    sd = draws.std(0)
    assert ((draws.mean(0) - solver.mean).abs() < 4 * sd / 4000**0.5).all()
    # SGD on a convex loss stays around its minimum.
    assert ((solver.mean - map_fit.weights).abs() < sd).all()
    # Half the covariance from the diagonal, half from the low-rank part (equation 1 of the paper).
    low_rank = solver.deviations.T @ solver.deviations / (10 - 1)
    expected = 0.5 * (solver.sd.square() + low_rank.diag())
    assert ((draws.var(0) / expected - 1).abs() < 4 * (2 / 4000) ** 0.5).all()


def test_ensemble_counts_the_other_members_only(task_and_map):
    task, map_fit = task_and_map
    result = run(make_solver("ensemble", members=2), task, map_fit)
    first, second = result["sample_weights"](100)
    torch.testing.assert_close(first, map_fit.weights, rtol=0, atol=0)
    model = task.make_model(1000 * (task.seed + 1) + 1)
    other = fit_map(model, task.x_train, task.y_train, task.likelihood(), prior_precision=task.prior_precision)
    torch.testing.assert_close(second, other.weights)
    assert result["cost"]["grad_evals"] == other.grad_evals
    energy = Energy(Network(map_fit.model), task.likelihood(), task.x_train, task.y_train, task.prior_precision)
    gradients = energy.value_and_grad(torch.stack([first, second]))[1]
    assert float(gradients.norm(dim=1).max()) < 0.1


@pytest.mark.parametrize(
    ("name", "settings", "network", "reason"),
    [
        ("ensemble", {"members": 1}, (2, 4, 1), "at least two members"),
        ("swag", {"rank": 30, "n_snapshots": 20}, (2, 4, 1), "not rank 30, 20 snapshots"),
        ("laplace", {"structure": "full"}, (2, 2000, 1), "needs 8001 x 8001 matrices"),
        ("laplace", {"structure": "last_layer"}, (2, 1), "the whole network"),
    ],
)
def test_what_cannot_be_done_is_skipped_with_a_reason(name, settings, network, reason):
    task = make_task("regression", network)
    model = task.make_model()
    map_fit = SimpleNamespace(model=model, weights=Network(model).weights)
    skipped, why = make_solver(name, **settings).skip(task=task, map_fit=map_fit)
    assert skipped
    assert reason in why


def test_hmc_is_skipped_for_other_networks():
    pytest.importorskip("jax", reason="hmc needs jax")
    pytest.importorskip("blackjax", reason="hmc needs blackjax")
    model = nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 1))
    skipped, why = make_solver("hmc").skip(task=TASKS["regression"], map_fit=SimpleNamespace(model=model))
    assert skipped
    assert "multilayer perceptrons only" in why


def test_swag_that_diverges_says_so(task_and_map):
    task, map_fit = task_and_map
    solver = make_solver("swag", relative_rate=1e12, n_steps=20, n_snapshots=5, rank=5)
    solver.set_objective(task=task, map_fit=map_fit)
    with pytest.raises(FloatingPointError, match="lower relative_rate"):
        solver.run(None)
