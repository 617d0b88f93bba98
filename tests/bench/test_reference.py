"""Stored HMC references: what comes back, and which files are refused."""

import dataclasses

import numpy as np
import pytest
import torch

from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.rows.reference import (
    FORMAT,
    Reference,
    identity,
    load_reference,
    reference_path,
    reference_prediction,
    save_reference,
)
from benchmark_utils.tasks.task import Task


def make_task(kind: str) -> Task:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 2, generator=generator)
    regression = kind == "regression"
    y = torch.randn(12, 1, generator=generator) if regression else torch.arange(12) % 3
    return Task(
        "toy", kind, x[:8], y[:8], x[8:], y[8:], (2, 4, 1 if regression else 3), "tanh", 5,
        "ab" * 32, "ab" * 32, "generated", "none", "none", noise_std=0.3 if regression else None,
    )  # fmt: skip


def make_reference(task: Task) -> Reference:
    rng = np.random.default_rng(0)
    if task.kind == "classification":
        arrays = {"probs": rng.dirichlet(np.ones(3), 4).astype(np.float32)}
    else:
        arrays = {"quantiles": np.sort(rng.standard_normal((16, 4)), axis=0).astype(np.float16)}
    return Reference({"format": FORMAT, "identity": identity(task), "diagnostics": {"rhat_max": 1.01}}, arrays)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_round_trip(kind, tmp_path):
    task = make_task(kind)
    reference = make_reference(task)
    path = save_reference(reference, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    found = load_reference(task, tmp_path)
    assert found is not None
    assert found.about == reference.about
    assert found.arrays.keys() == reference.arrays.keys()
    for name, values in reference.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], values)
        assert found.arrays[name].dtype == values.dtype


def test_prediction_of_classes_is_the_averaged_one(tmp_path):
    task = make_task("classification")
    reference = make_reference(task)
    save_reference(reference, tmp_path)
    prediction = reference_prediction(task, tmp_path)
    assert isinstance(prediction, Prediction)
    torch.testing.assert_close(
        prediction.averaged_log_probs().exp(), torch.from_numpy(reference.arrays["probs"]).double()
    )


def test_prediction_of_regression_has_the_moments_of_the_draws():
    task = make_task("regression")
    draws = np.random.default_rng(1).gamma(2.0, 1.0, (20_000, 4))  # skewed on purpose
    quantiles = np.quantile(draws, (np.arange(64) + 0.5) / 64, axis=0).astype(np.float16)
    mean, sd = Reference({"identity": identity(task)}, {"quantiles": quantiles}).prediction().moments()
    # What is cut off beyond the outermost quantiles: a few percent of the spread.
    np.testing.assert_allclose(mean, draws.mean(0), rtol=0.02)
    np.testing.assert_allclose(sd, np.sqrt(draws.var(0) + task.noise_std**2), rtol=0.05)


def test_absent_reference_is_none(tmp_path):
    assert load_reference(make_task("classification"), tmp_path) is None
    assert reference_prediction(make_task("classification"), tmp_path) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sha256": "cd" * 32}, "data_sha256"),
        ({"prior_precision": 2.0}, "prior_precision"),
        ({"widths": (2, 5, 3)}, "widths"),
        ({"activation": "relu"}, "activation"),
        ({"y_test": torch.tensor([0, 0, 0, 0])}, "labels_sha256"),
        ({"x_test": torch.zeros(4, 2)}, "input_norms"),
    ],
)
def test_reference_of_something_else_is_refused(change, named, tmp_path):
    task = make_task("classification")
    save_reference(make_reference(task), tmp_path)
    other = dataclasses.replace(task, **change)
    with pytest.raises(ValueError, match=f"made with another {named}; make it again"):
        load_reference(other, tmp_path)
    with pytest.warns(UserWarning, match=named):
        assert reference_prediction(other, tmp_path) is None


def test_last_bits_of_the_inputs_do_not_matter(tmp_path):
    task = make_task("classification")
    save_reference(make_reference(task), tmp_path)
    assert load_reference(dataclasses.replace(task, x_train=task.x_train * (1 + 1e-6)), tmp_path) is not None


def test_damaged_and_foreign_files_are_refused(tmp_path):
    task = make_task("classification")
    reference = make_reference(task)
    path = save_reference(reference, tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot be read"):
        load_reference(task, tmp_path)
    save_reference(dataclasses.replace(reference, about=reference.about | {"format": FORMAT + 1}), tmp_path)
    with pytest.raises(ValueError, match=f"has format {FORMAT + 1}"):
        load_reference(task, tmp_path)
    # Arrays of objects would be pickles: never opened.
    np.savez(reference_path("toy", 5, tmp_path), about=np.array([{"format": FORMAT}], dtype=object))
    with pytest.raises(ValueError, match="cannot be read"):
        load_reference(task, tmp_path)


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    task = make_task("classification")
    path = save_reference(make_reference(task), tmp_path)
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        save_reference(make_reference(task), tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
