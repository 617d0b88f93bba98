"""Geodesics of a loss surface: where a straight line goes that follows the surface, for many starts at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchdiffeq import odeint

Gradient = Callable[[Tensor], Tensor]


class TooManyEvaluations(FloatingPointError):
    """The solver of a differential equation would not come to an end."""


@dataclass(frozen=True, eq=False)
class Geodesics:
    """Where geodesics have got to after unit time.

    Attributes:
        ends: their points, [K, P].
        velocities: theirs there, [K, P].
        evaluations: of the equation, each a gradient and a Hessian-vector product for each geodesic.
    """

    ends: Tensor
    velocities: Tensor
    evaluations: int


def exponential_map(
    gradient: Gradient,
    start: Tensor,
    velocities: Tensor,
    *,
    rtol: float = 1e-3,
    atol: float = 1e-6,
    most_evaluations: int = 20_000,
) -> Geodesics:
    """Return the geodesics of a loss L that leave one point, after unit time: Exp_start(velocity).

    The metric is that of the graph of L over the weights, G = I + grad L grad L^T. All geodesics are one equation to
    torchdiffeq's Bogacki-Shampine solver, with steps that suit the most curved of them. Steep walls make the equation
    stiff, where a low order pays: Dormand-Prince took twice as many evaluations on most tables, and kept the speed
    along the geodesics a hundred times worse.

    Args:
        gradient: weights [K, P] to grad L at each of them, [K, P].
        start: w, [P]; float64, unless the surface is smooth and its curvature mild.
        velocities: [K, P].
        rtol: relative error of a step, that of scipy.integrate.solve_ivp.
        atol: absolute error of a step.
        most_evaluations: of the equation.

    Raises:
        TooManyEvaluations: if they do not suffice, or the steps become too small to count.
        FloatingPointError: if a geodesic is not finite.

    Source: Bergamin, Moreno-Munoz, Hauberg and Arvanitidis (2023), arXiv:2306.07158, section 3.
    """
    evaluations = 0

    def equation(_: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        nonlocal evaluations
        evaluations += 1
        if evaluations > most_evaluations:
            raise TooManyEvaluations(
                f"the geodesics took more than {most_evaluations} evaluations: the surface is too steep for them; "
                "raise most_evaluations, or have a sharper posterior"
            )
        weights, moving = state
        found = acceleration(gradient, weights, moving)
        if not found.isfinite().all():
            raise FloatingPointError("a geodesic diverged: the gradient of the loss is not finite there")
        return moving, found

    times = torch.tensor([0.0, 1.0], dtype=start.dtype, device=start.device)
    begin = (start.expand_as(velocities), velocities)
    try:
        with torch.no_grad():
            ends, moving = odeint(equation, begin, times, rtol=rtol, atol=atol, method="bosh3")
    except AssertionError as error:  # how torchdiffeq says that steps underflow
        raise TooManyEvaluations(f"the geodesics need steps that are too small: {error}; lower rtol") from error
    return Geodesics(ends[-1], moving[-1], evaluations)


def acceleration(gradient: Gradient, weights: Tensor, velocities: Tensor) -> Tensor:
    """Return c'' = -grad L (c'^T H c') / (1 + |grad L|^2), [K, P], with H the Hessian of L; equation 6 of the paper.

    The product H c' is a central difference of gradients along c', exact to about ten digits in float64.

    Args:
        gradient: weights [K, P] to grad L at each of them, [K, P]; asked for all three at once.
        weights: c, [K, P].
        velocities: c', [K, P].
    """
    norms = velocities.norm(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    reach = torch.finfo(weights.dtype).eps ** (1 / 3) * (1.0 + weights.norm(dim=1, keepdim=True)) / norms
    ahead, behind = weights + reach * velocities, weights - reach * velocities
    slope, slope_ahead, slope_behind = gradient(torch.cat([weights, ahead, behind])).chunk(3)
    curving = (velocities * (slope_ahead - slope_behind)).sum(1, keepdim=True) / (2 * reach)
    return -slope * curving / (1.0 + slope.square().sum(1, keepdim=True))


def squared_speed(gradient: Gradient, weights: Tensor, velocities: Tensor) -> Tensor:
    """Return c'^T G c' = |c'|^2 + (grad L . c')^2, [K], which stays the same along a geodesic; arguments as above."""
    return velocities.square().sum(1) + (gradient(weights) * velocities).sum(1).square()
