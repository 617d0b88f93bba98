"""Steps of the walk of a multilayer perceptron, in plain torch; this file is the definition.

On a GPU it is also the path of perceptrons that the kernel does not take: gradients of `mlp`, be they of its kernel or
batched matrix products, and the flat kernels of `langevin_step` around them.
"""

from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from ..backend import Impl
from ..langevin_step import langevin_close, langevin_open
from ..langevin_step import reference as flat
from ..mlp import MLPLayout, mlp_nll_and_grad
from ..mlp import reference as perceptron
from ..mlp.reference import Likelihood
from ..norms import squared_norms
from ..philox import philox_normal
from ..philox import reference as philox

# On the CPU small walks cost mostly calls: noise is then made for several steps at once, so many numbers.
CPU_NOISE_NUMBERS = 1 << 18
# Undone particles are put back, and given noise, in chunks of about so many bytes.
CHUNK_BYTES = 1 << 26


class Posterior(NamedTuple):
    """U(w) = -log p(y | x, w) + tau/2 |w|^2 of a perceptron."""

    x: Tensor  # [N, D]
    y: Tensor  # [N] or [N, C]
    layout: MLPLayout
    likelihood: Likelihood
    noise_precision: float
    prior_precision: float

    def value_and_grad(self, particles: Tensor, impl: Impl = "reference") -> tuple[Tensor, Tensor]:
        """Return the energies [K] and their gradients [K, P]."""
        data = particles, self.x, self.y, self.layout
        likelihood, noise_precision = self.likelihood, self.noise_precision
        if particles.device.type == "cpu":  # without the cost of an operator, which few particles feel
            nll, grad = perceptron.mlp_nll_and_grad(*data, likelihood=likelihood, noise_precision=noise_precision)
        else:
            nll, grad = mlp_nll_and_grad(*data, likelihood=likelihood, noise_precision=noise_precision, impl=impl)
        grad.add_(particles, alpha=self.prior_precision)
        return (nll + 0.5 * self.prior_precision * squared_norms(particles)).to(nll.dtype), grad


class Moves(NamedTuple):
    """How all steps of a walk are made."""

    step_size: float
    friction: float
    energy_error_limit: float
    n_steps: int
    store_every: int
    seed: int
    step0: int
    particle0: int
    refresh_stream: int
    revive_stream: int


class State(NamedTuple):
    """What the next step needs."""

    particles: Tensor  # [K, P]
    velocity: Tensor  # [K, P]
    energy: Tensor  # [K]
    grad: Tensor  # [K, P]


class Step(NamedTuple):
    """What happened in a step, or in all of them with an axis more."""

    energy: Tensor  # [K], after the step
    acceptance: Tensor  # [K]
    moved: Tensor  # [K], bool
    heat: Tensor  # [K]


def baoab(
    state: State, posterior: Posterior, scale: Tensor, moves: Moves, t: int, impl: Impl, noise: Tensor | None
) -> tuple[State, Step]:
    """Return the state after step number `t` of the moves, and what happened.

    `impl` is for flat updates and gradients; `noise` what the updates draw, [K, P], where it is at hand.
    """
    time, h = moves.step0 + t, moves.step_size
    before = state.particles, state.velocity, state.grad, scale
    counter = flat.Counter(moves.seed, time, moves.refresh_stream, moves.particle0)
    if noise is None:
        particles, velocity, kinetic = langevin_open(
            *before, step_size=h, friction=moves.friction, impl=impl, **counter._asdict()
        )
    else:
        particles, velocity, kinetic = flat.langevin_open(
            *before, step_size=h, friction=moves.friction, counter=counter, noise=noise
        )
    energy, grad = posterior.value_and_grad(particles, impl)
    if noise is None:
        last = langevin_close(velocity, grad, scale, step_size=h, impl=impl)
    else:
        last = flat.langevin_close(velocity, grad, scale, step_size=h)
    first, kicked, refreshed = kinetic.unbind(dim=1)
    error = (energy - state.energy + (last - (first - kicked + refreshed))).to(energy.dtype)

    moved = error < moves.energy_error_limit
    acceptance = torch.exp(-error.clamp(min=0.0)).nan_to_num(nan=0.0)
    heat = (2.0 * refreshed / scale.numel()).to(energy.dtype)
    if moved.all():
        return State(particles, velocity, energy, grad), Step(energy, acceptance, moved, heat)
    energy = torch.where(moved, energy, state.energy)
    for rows in _chunks(particles):
        if not (kept := moved[rows, None]).all():
            revived = philox_normal(
                *velocity[rows].shape, seed=moves.seed, step=time, stream=moves.revive_stream,
                particle0=moves.particle0 + rows.start, dtype=velocity.dtype, device=velocity.device,
            )  # fmt: skip
            velocity[rows] = torch.where(kept, velocity[rows], revived)
            particles[rows] = torch.where(kept, particles[rows], state.particles[rows])
            grad[rows] = torch.where(kept, grad[rows], state.grad[rows])
    return State(particles, velocity, energy, grad), Step(energy, acceptance, moved, heat)


def mlp_walk(
    state: State, posterior: Posterior, scale: Tensor, moves: Moves, impl: Impl = "reference"
) -> tuple[State, Tensor, Step]:
    """Return the last state, snapshots [T, K, P], and of every step what happened."""
    n_snapshots = moves.n_steps // moves.store_every if moves.store_every else 0
    snapshots = state.particles.new_empty(n_snapshots, *state.particles.shape)
    infos = []
    for t, noise in enumerate(_noises(state.particles, moves)):
        state, info = baoab(state, posterior, scale, moves, t, impl, noise)
        infos.append(info)
        if moves.store_every and (t + 1) % moves.store_every == 0:
            snapshots[t // moves.store_every] = state.particles
    return state, snapshots, Step(*(torch.stack(column) for column in zip(*infos, strict=True)))


def _noises(particles: Tensor, moves: Moves) -> Iterator[Tensor | None]:
    """Yield the noise of each step, [K, P], where making that of several at once is worth while; else None."""
    together = CPU_NOISE_NUMBERS // particles.numel() if particles.device.type == "cpu" else 0
    if not together:
        yield from repeat(None, moves.n_steps)
        return
    end = moves.step0 + moves.n_steps
    for start in range(moves.step0, end, together):
        yield from philox.philox_normal(
            *particles.shape, seed=moves.seed, steps=range(start, min(start + together, end)),
            stream=moves.refresh_stream, particle0=moves.particle0,
        ).to(particles.dtype)  # fmt: skip


def _chunks(rows: Tensor) -> Iterator[slice]:
    size = max(1, CHUNK_BYTES // (rows.shape[1] * rows.element_size()))
    return (slice(at, min(at + size, len(rows))) for at in range(0, len(rows), size))
