"""Methods on images: the shared MAP, members with batch norm of their own, dropout, Laplace's back ends."""

from __future__ import annotations

import importlib.util
import pickle
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from benchmark_utils.methods.mixture import IMAGE_ROWS, IMAGE_SAMPLES, mixture_prediction, samples_for
from benchmark_utils.tasks.shared_map import map_key, shared_energy, train_map
from benchmark_utils.tasks.task import Task, Training
from fiberbnn import Categorical, Energy, MapFit, Network, fit_map
from fiberbnn.batch_norm import statistics_of
from tests.bench.tiny_images import tiny_image_task

FOLDER = Path(__file__).resolve().parents[2] / "bench" / "solvers"


def make_solver(name: str, **settings: Any) -> Any:
    """The solver of a file of bench/solvers, with the first value of each parameter that is not set."""
    spec = importlib.util.spec_from_file_location(f"image_solver_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Solver.get_instance(**settings)


@lru_cache
def task_and_map(architecture: str) -> tuple[Task, MapFit]:
    task = tiny_image_task(architecture)
    return task, train_map(task)


def run(name: str, architecture: str, **settings: Any) -> dict[str, Any]:
    """The result of one run of a method."""
    task, map_fit = task_and_map(architecture)
    solver = make_solver(name, **settings)
    assert solver.skip(task=task, map_fit=map_fit) == (False, None)
    solver.set_objective(task=task, map_fit=map_fit)
    solver.pre_run_hook(None)
    solver.run(None)
    return solver.get_result()


def log_probs(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(x).double().log_softmax(-1)


def test_the_map_is_trained_as_the_task_says():
    task, map_fit = task_and_map("small-tanh-cnn")
    expected = fit_map(
        task.make_model(), task.x_train, task.y_train, Categorical(), batch_size=8, epochs=3, learning_rate=0.01, seed=1
    )
    assert torch.equal(map_fit.weights, expected.weights)
    assert map_fit.grad_evals == 4
    other = train_map(task, 7)
    assert not torch.equal(other.weights, map_fit.weights)
    assert train_map(task, briefly=True).grad_evals == 2


def test_a_stored_map_keeps_its_batch_norm():
    task, map_fit = task_and_map("resnet20-bn")
    stored = pickle.loads(pickle.dumps(map_fit))  # as joblib does
    assert any(float(value.abs().max()) > 0 for name, value in statistics_of(stored.model).items() if "mean" in name)
    torch.testing.assert_close(log_probs(stored.model, task.x_test), log_probs(map_fit.model, task.x_test))


@pytest.mark.parametrize(
    "change", [{"architecture": "lenet"}, {"training": Training(4, 8, 0.01)}, {"prior_precision": 2.0}, {"seed": 2}]
)
def test_the_key_of_a_map_changes_with_what_it_depends_on(change):
    task = tiny_image_task("small-tanh-cnn")
    assert map_key(task) == map_key(tiny_image_task("small-tanh-cnn"))
    assert map_key(replace(task, **change)) != map_key(task)


def test_the_energy_of_an_image_task_is_that_of_all_its_data():
    task, map_fit = task_and_map("small-tanh-cnn")
    weights = torch.stack([map_fit.weights, 1.1 * map_fit.weights])
    energy = shared_energy(task, map_fit)
    exact = Energy(Network(map_fit.model), Categorical(), task.x_train, task.y_train)
    torch.testing.assert_close(energy(weights), exact(weights))
    assert float(energy(weights)[0]) == pytest.approx(map_fit.energy, rel=1e-5)


@pytest.mark.parametrize("n", [1, IMAGE_ROWS - 1, IMAGE_ROWS, IMAGE_ROWS + 1])
def test_a_mixture_is_the_same_however_images_are_divided(n):
    task, map_fit = task_and_map("resnet20-bn")
    network = Network(map_fit.model)
    x = torch.randn(n, *task.x_test.shape[1:], generator=torch.Generator().manual_seed(0))
    weights = torch.stack([map_fit.weights, 1.01 * map_fit.weights])
    found = mixture_prediction(network, weights, x).class_log_probs
    assert found.shape == (2, n, 4)
    torch.testing.assert_close(found[0], log_probs(map_fit.model, x), rtol=1e-4, atol=1e-5)


def test_members_of_an_ensemble_predict_with_their_own_batch_norm():
    task, map_fit = task_and_map("resnet20-bn")
    result = run("ensemble", "resnet20-bn", members=3)
    found = result["predict"](task.x_test).class_log_probs
    members = [map_fit, *(train_map(task, 2000 + member) for member in (1, 2))]
    expected = torch.stack([log_probs(fit.model, task.x_test) for fit in members])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert result["cost"] == {"grad_evals": 8, "hvp_evals": 0}
    assert result["sample_weights"](10) is None  # their energy under the MAP's statistics would mean nothing


def test_swag_gathers_batch_norm_anew_for_each_sample():
    task, map_fit = task_and_map("resnet20-bn")
    settings = {"n_steps": 20, "n_snapshots": 10, "rank": 5, "n_samples": 3}
    solver = make_solver("swag", **settings)
    solver.set_objective(task=task, map_fit=map_fit)
    solver.run(None)
    result = solver.get_result()
    assert result["info"]["refresh_s"] > 0
    found = result["predict"](task.x_test).class_log_probs
    for sample, weights in zip(found, solver.sample(3), strict=True):
        model = Network(map_fit.model).module(weights)
        update_bn([task.x_train], model)
        torch.testing.assert_close(sample, log_probs(model, task.x_test), rtol=1e-3, atol=1e-4)
    assert result["sample_weights"](10) is None


def test_swag_with_dropout_repeats_itself_and_leaves_the_global_random_state():
    settings = {"n_steps": 20, "n_snapshots": 10, "rank": 5, "n_samples": 3}
    before = torch.get_rng_state()
    first = run("swag", "lenet", **settings)["sample_weights"](3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    torch.testing.assert_close(run("swag", "lenet", **settings)["sample_weights"](3), first, rtol=0, atol=0)


def test_mc_dropout_leaves_dropout_on_and_repeats_itself():
    task, map_fit = task_and_map("lenet")
    result = run("mc_dropout", "lenet", n_samples=400)
    before = torch.get_rng_state()
    prediction = result["predict"](task.x_test)
    assert torch.equal(torch.get_rng_state(), before)
    assert prediction.n_samples == IMAGE_SAMPLES
    torch.testing.assert_close(result["predict"](task.x_test).class_log_probs, prediction.class_log_probs)
    assert float(prediction.mutual_information().min()) > 0
    assert not map_fit.model.training
    assert not any(layer.training for layer in map_fit.model)
    # Masks keep the mean of each layer's input, so the passes lie about the network without dropout.
    mean = prediction.class_log_probs.mean(0)
    torch.testing.assert_close(mean, log_probs(map_fit.model, task.x_test), rtol=0, atol=0.5)


def test_mc_dropout_is_skipped_without_dropout():
    task, map_fit = task_and_map("small-tanh-cnn")
    skipped, why = make_solver("mc_dropout").skip(task=task, map_fit=map_fit)
    assert skipped
    assert "no dropout" in why


def test_hmc_is_skipped_on_images():
    pytest.importorskip("jax", reason="hmc needs jax")
    pytest.importorskip("blackjax", reason="hmc needs blackjax")
    task, map_fit = task_and_map("small-tanh-cnn")
    skipped, why = make_solver("hmc").skip(task=task, map_fit=map_fit)
    assert skipped
    assert "multilayer perceptrons only" in why


def test_last_layer_samples_predict_from_cached_features_what_whole_networks_predict():
    task, map_fit = task_and_map("resnet20-bn")
    result = run("laplace", "resnet20-bn", structure="last_layer", predictive="sampled", n_samples=4)
    weights = result["sample_weights"](4)
    # Only the last layer's 64 x 4 + 4 vary.
    assert torch.equal(weights[:, :-260], map_fit.weights[:-260].expand(4, -1))
    assert float(weights[:, -260:].std(0).min()) > 0
    expected = mixture_prediction(Network(map_fit.model), weights, task.x_test).class_log_probs
    torch.testing.assert_close(result["predict"](task.x_test).class_log_probs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("structure", ["full", "diag"])
def test_both_back_ends_of_laplace_give_the_same(structure, monkeypatch):
    task, _ = task_and_map("small-tanh-cnn")
    found = []
    for by_backpack in (True, False):
        solver = make_solver("laplace", structure=structure, predictive="glm", prior="fixed")
        monkeypatch.setattr(type(solver), "by_backpack", by_backpack)
        small = replace(task, x_train=task.x_train[:6], y_train=task.y_train[:6])
        solver.set_objective(task=small, map_fit=task_and_map("small-tanh-cnn")[1])
        solver.run(None)
        found.append(solver.predict_glm(task.x_test).class_log_probs)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "structure", "predictive", "reason"),
    [
        ("resnet20-bn", "kron", "sampled", "not BatchNorm2d"),
        ("resnet20-gn-silu", "kron", "glm", "not GroupNorm"),
        ("resnet20-bn", "diag", "glm", "Jacobian of 1,07"),
        ("resnet20-bn", "full", "glm", "matrices"),
        ("lenet", "kron", "glm", "use the last_layer structure"),
    ],
)
def test_what_laplace_cannot_do_on_images_is_skipped_with_a_reason(architecture, structure, predictive, reason):
    task = tiny_image_task(architecture)
    model = task.make_model()
    untrained = MapFit(model, Network(model).weights, 0.0, 0.0, 0.0, 0, False)
    solver = make_solver("laplace", structure=structure, predictive=predictive)
    skipped, why = solver.skip(task=task, map_fit=untrained)
    assert skipped
    assert reason in why


def test_a_short_run_leaves_jacobians_of_images_out():
    task, map_fit = task_and_map("small-tanh-cnn")
    for structure, predictive, expected in (
        ("kron", "glm", True),
        ("kron", "sampled", False),
        ("last_layer", "glm", False),
    ):
        solver = make_solver("laplace", structure=structure, predictive=predictive, image_jacobians=False)
        assert solver.skip(task=task, map_fit=map_fit)[0] is expected
    table = replace(task, architecture=None, widths=(784, 3, 4))
    solver = make_solver("laplace", structure="kron", predictive="glm", image_jacobians=False)
    assert not solver.skip(task=table, map_fit=map_fit)[0]


def test_images_are_predicted_with_fewer_samples():
    image_task = tiny_image_task("lenet")
    assert samples_for(image_task, 300) == IMAGE_SAMPLES
    assert samples_for(image_task, 5) == 5
    assert samples_for(replace(image_task, architecture=None), 300) == 300
