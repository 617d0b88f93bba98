"""Geodesics where they are known: flat surfaces, curves by their length, and a reference solution of the equation."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from benchmark_utils.methods.geodesics import TooManyEvaluations, exponential_map, squared_speed

GENERATOR = torch.Generator().manual_seed(0)
VELOCITIES = torch.randn(4, 2, generator=GENERATOR, dtype=torch.float64)
START = torch.tensor([0.3, -0.2], dtype=torch.float64)


def bumps(weights: Tensor) -> Tensor:
    """The gradient of L = 2 sin(x) cos(2y) + x^4 / 4, [K, 2]."""
    x, y = weights.T
    return torch.stack([2 * x.cos() * (2 * y).cos() + x**3, -4 * x.sin() * (2 * y).sin()], dim=1)


def test_on_a_flat_surface_geodesics_are_straight_lines():
    found = exponential_map(torch.zeros_like, START, VELOCITIES)
    torch.testing.assert_close(found.ends, START + VELOCITIES, rtol=1e-12, atol=1e-12)
    # A slope without curvature bends nothing either.
    found = exponential_map(lambda w: torch.ones_like(w) * 5, START, VELOCITIES)
    torch.testing.assert_close(found.ends, START + VELOCITIES, rtol=1e-12, atol=1e-12)


def test_a_surface_with_bumps_has_the_geodesics_of_scipy():
    def equation(_: float, state: np.ndarray) -> np.ndarray:
        (x, y), (dx, dy) = state[:2], state[2:]
        slope = np.array([2 * np.cos(x) * np.cos(2 * y) + x**3, -4 * np.sin(x) * np.sin(2 * y)])
        xx, yy = -2 * np.sin(x) * np.cos(2 * y) + 3 * x**2, -8 * np.sin(x) * np.cos(2 * y)
        xy = -4 * np.cos(x) * np.sin(2 * y)
        return np.array([dx, dy, *(-slope * (xx * dx**2 + 2 * xy * dx * dy + yy * dy**2) / (1 + slope @ slope))])

    for rtol, error in ((1e-3, 3e-2), (1e-6, 1e-3)):
        found = exponential_map(bumps, START, VELOCITIES, rtol=rtol, atol=rtol / 1000)
        for end, velocity, first in zip(found.ends, found.velocities, VELOCITIES, strict=True):
            state = np.concatenate([START, first])
            exact = solve_ivp(equation, (0, 1), state, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
            np.testing.assert_allclose(torch.cat([end, velocity]), exact, atol=error)
    # Straight lines are far from there.
    assert float((found.ends - START - VELOCITIES).abs().max()) > 0.1


def test_speed_is_kept():
    found = exponential_map(bumps, START, VELOCITIES)
    before = squared_speed(bumps, START.expand_as(VELOCITIES), VELOCITIES)
    after = squared_speed(bumps, found.ends, found.velocities)
    torch.testing.assert_close(after, before, rtol=2e-2, atol=0)
    # It is no plain length.
    assert not torch.allclose(found.velocities.square().sum(1), VELOCITIES.square().sum(1), rtol=0.05)


@pytest.mark.parametrize("curvature", [0.5, 5.0, 100.0])
def test_on_a_parabola_a_geodesic_runs_the_length_of_its_velocity(curvature):
    velocity = torch.tensor([[1.5]]).double()
    found = exponential_map(lambda w: curvature * w, torch.zeros(1).double(), velocity, rtol=1e-6)
    slope = curvature * float(found.ends)
    assert (slope * math.sqrt(1 + slope**2) + math.asinh(slope)) / (2 * curvature) == pytest.approx(1.5, rel=2e-4)


def test_what_does_not_end_is_an_error_with_the_way_out():
    with pytest.raises(TooManyEvaluations, match=r"more than 5 evaluations.*raise most_evaluations"):
        exponential_map(bumps, START, VELOCITIES, most_evaluations=5)
    with pytest.raises(FloatingPointError, match="not finite"):
        exponential_map(lambda w: w / 0, START, VELOCITIES)


def test_every_evaluation_takes_three_gradients_a_geodesic():
    asked = []

    def counted(weights: Tensor) -> Tensor:
        asked.append(len(weights))
        return bumps(weights)

    found = exponential_map(counted, START, VELOCITIES)
    assert asked == [3 * 4] * found.evaluations
