"""The noise of regressions: given, by output, and fitted."""

import math

import pytest
import torch

from fiberbnn.likelihood import (
    Gaussian,
    UnfittedGaussian,
    fitted_noise_std,
)
from tests.fiberbnn.likelihood_cases import CASES, STDS


def test_precision_is_one_over_the_variance():
    assert Gaussian(0.5).precision == pytest.approx(4.0)
    assert Gaussian((0.5,)).precision == pytest.approx(4.0)
    assert Gaussian((0.5,)).is_scalar


def test_noise_per_output_has_no_single_precision():
    assert not Gaussian(STDS).is_scalar
    with pytest.raises(ValueError, match="no single precision: use noise_variance"):
        _ = Gaussian(STDS).precision


@pytest.mark.parametrize("given", [list(STDS), torch.tensor(STDS, dtype=torch.float64)])
def test_noise_becomes_a_tuple(given):
    assert Gaussian(given) == Gaussian(STDS)
    assert hash(Gaussian(given)) == hash(Gaussian(STDS))


@pytest.mark.parametrize(
    "noise", [0.0, -1.0, math.nan, math.inf, (), (0.1, 0.0), (0.1, math.inf), "head", None, [[1.0]]]
)
def test_noise_that_is_none(noise):
    with pytest.raises(ValueError, match="noise_std must be positive and finite"):
        Gaussian(noise)


def test_fitted_noise_is_the_root_mean_square_residual():
    residuals = torch.tensor([[3.0, 1.0], [4.0, 1.0]])
    assert fitted_noise_std(torch.zeros(2, 2), residuals) == pytest.approx(math.sqrt(27 / 4))
    assert fitted_noise_std(torch.zeros(2, 2), residuals, per_output=True) == pytest.approx((math.sqrt(12.5), 1.0))
    assert fitted_noise_std(torch.zeros(2), residuals[:, 0]) == pytest.approx(math.sqrt(12.5))


@pytest.mark.parametrize("name", ["gaussian", "gaussian-series"])
@pytest.mark.parametrize("per_output", [False, True])
def test_fitted_noise_maximises_the_likelihood(name, per_output):
    outputs, y = CASES[name].outputs(), CASES[name].targets()
    best = UnfittedGaussian(per_output).fitted(outputs, y)
    stds = best.noise_std if per_output else (best.noise_std,)
    assert len(stds) == (outputs.shape[-1] if per_output else 1)
    for i in range(len(stds)):
        for factor in (0.98, 1.02):
            changed = tuple(std * (factor if i == j else 1.0) for j, std in enumerate(stds))
            assert Gaussian(changed).nll(outputs, y) > best.nll(outputs, y)


def test_noise_that_cannot_be_fitted():
    y = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match="fits the training targets exactly: give noise_std"):
        fitted_noise_std(y, y)
    with pytest.raises(ValueError, match=r"exactly at outputs \[1\]: give noise_std for each"):
        fitted_noise_std(y + torch.tensor([1.0, 0.0]), y, per_output=True)
    with pytest.raises(ValueError, match=r"outputs \[2, 2\] and targets \[2\] must have one shape"):
        fitted_noise_std(y, y[:, 0])
    with pytest.raises(ValueError, match=r"use y\[:, None\]"):
        UnfittedGaussian().fitted(y[:, :1], y[:, 0])
    with pytest.raises(ValueError, match=r"needs outputs \[N, \.\.\., C\]; the model gives \[2\]"):
        UnfittedGaussian(per_output=True).fitted(y[:, 0], 1 + y[:, 0])
