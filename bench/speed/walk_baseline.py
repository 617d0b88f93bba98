"""A walk of a perceptron's weights in eager torch, noise of its own generator: what `mlp_walk` replaces."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.speed.gradient_baselines import ValueAndGrad
from bench.speed.problems import Problem

PRIOR_PRECISION, STEP_SIZE, FRICTION, LIMIT = 1.0, 0.1, 0.5, 1e4


@dataclass(frozen=True)
class Start:
    """Where a walk starts; its energies and their gradients are the exact ones, rounded."""

    particles: Tensor  # [K, P]
    velocity: Tensor  # [K, P]
    energy: Tensor  # [K]
    grad: Tensor  # [K, P]
    scale: Tensor  # [P]

    @classmethod
    def of(cls, problem: Problem, n_particles: int, value_and_grad: ValueAndGrad) -> Start:
        """Return a start near a mode of nothing, with steps short enough to be stable there."""
        particles = problem.weights(n_particles)
        velocity = torch.randn(particles.shape, generator=torch.Generator().manual_seed(2)).to(particles)
        value, grad = value_and_grad(particles.double())
        energy = value + 0.5 * PRIOR_PRECISION * particles.double().square().sum(1)
        grad = grad + PRIOR_PRECISION * particles.double()
        scale = torch.linspace(0.02, 0.06, particles.shape[1], device=particles.device)
        return cls(particles, velocity, energy.float(), grad.float(), scale)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what changes on the way."""
        return self.particles, self.velocity, self.energy, self.grad


class EagerWalk:
    """Steps of BAOAB that leave no trace: the state is overwritten, as a recorded graph wants it.

    Args:
        start: where it starts.
        value_and_grad: of the negative log-likelihood.
        friction: gamma; zero means no noise, for comparison with the definition.
    """

    def __init__(self, start: Start, value_and_grad: ValueAndGrad, friction: float = FRICTION) -> None:
        self.state = [tensor.clone() for tensor in start.tensors()]
        self.scale, self.value_and_grad = start.scale, value_and_grad
        self.decay = math.exp(-friction * STEP_SIZE)
        self.spread = math.sqrt(1 - self.decay**2)

    def step(self) -> None:
        """Move all particles, and back those whose energy error is too large."""
        x, v, u, g = self.state
        half = 0.5 * STEP_SIZE
        kicked = v - half * self.scale * g
        place = x + half * self.scale * kicked
        refreshed = self.decay * kicked + self.spread * torch.randn_like(kicked)
        place = place + half * self.scale * refreshed
        nll, slope = self.value_and_grad(place)
        slope = slope + PRIOR_PRECISION * place
        energy = nll + 0.5 * PRIOR_PRECISION * place.square().sum(1)
        last = refreshed - half * self.scale * slope
        gained = (kicked.square() - v.square() + last.square() - refreshed.square()).sum(1)
        moved = energy - u + 0.5 * gained < LIMIT
        # No branch on the device's numbers: it would wait for them, and no graph can have one.
        for old, new in zip(self.state, (place, last, energy, slope), strict=True):
            old.copy_(torch.where(moved if new.ndim == 1 else moved[:, None], new, old))

    def reset(self, start: Start) -> None:
        """Go back to the start, in the same memory."""
        for old, first in zip(self.state, start.tensors(), strict=True):
            old.copy_(first)
