"""Steps of the walk of a multilayer perceptron, in plain torch; this file is the definition.

On a GPU it is also the path of perceptrons that the kernel does not take: a batched matrix product for every layer,
and the flat kernels of `langevin_step` around them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..backend import Impl
from ..langevin_step import langevin_close, langevin_open
from ..mlp.layout import MLPLayout
from ..mlp.reference import Likelihood, mlp_nll_and_grad
from ..philox import philox_normal

# Undone particles are put back, and given noise, in chunks of about so many bytes.
CHUNK_BYTES = 1 << 26
# Weights of every particle whose squares are summed at once.
COLUMNS = 1 << 13


class Posterior(NamedTuple):
    """U(w) = -log p(y | x, w) + tau/2 |w|^2 of a perceptron."""

    x: Tensor  # [N, D]
    y: Tensor  # [N] or [N, C]
    layout: MLPLayout
    likelihood: Likelihood
    noise_precision: float
    prior_precision: float

    def value_and_grad(self, particles: Tensor) -> tuple[Tensor, Tensor]:
        """Return the energies [K] and their gradients [K, P]."""
        nll, grad = mlp_nll_and_grad(
            particles, self.x, self.y, self.layout, likelihood=self.likelihood, noise_precision=self.noise_precision
        )
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

    acceptance: Tensor  # [K]
    moved: Tensor  # [K], bool
    heat: Tensor  # [K]


def baoab(
    state: State, posterior: Posterior, scale: Tensor, moves: Moves, t: int, impl: Impl = "reference"
) -> tuple[State, Step]:
    """Return the state after step number `t` of the moves, and what happened; `impl` is for the flat updates."""
    time, h = moves.step0 + t, moves.step_size
    particles, velocity, kinetic = langevin_open(
        state.particles, state.velocity, state.grad, scale, step_size=h, friction=moves.friction, seed=moves.seed,
        step=time, stream=moves.refresh_stream, particle0=moves.particle0, impl=impl,
    )  # fmt: skip
    energy, grad = posterior.value_and_grad(particles)
    last = langevin_close(velocity, grad, scale, step_size=h, impl=impl)
    first, kicked, refreshed = kinetic.unbind(dim=1)
    error = (energy - state.energy + (last - (first - kicked + refreshed))).to(energy.dtype)

    moved = error < moves.energy_error_limit
    acceptance = torch.exp(-error.clamp(min=0.0)).nan_to_num(nan=0.0)
    info = Step(acceptance, moved, (2.0 * refreshed / scale.numel()).to(energy.dtype))
    if moved.all():
        return State(particles, velocity, energy, grad), info
    for rows in _chunks(particles):
        if not (kept := moved[rows, None]).all():
            revived = philox_normal(
                *velocity[rows].shape, seed=moves.seed, step=time, stream=moves.revive_stream,
                particle0=moves.particle0 + rows.start, dtype=velocity.dtype, device=velocity.device,
            )  # fmt: skip
            velocity[rows] = torch.where(kept, velocity[rows], revived)
            particles[rows] = torch.where(kept, particles[rows], state.particles[rows])
            grad[rows] = torch.where(kept, grad[rows], state.grad[rows])
    return State(particles, velocity, torch.where(moved, energy, state.energy), grad), info


def mlp_walk(
    state: State, posterior: Posterior, scale: Tensor, moves: Moves, impl: Impl = "reference"
) -> tuple[State, Tensor, Tensor, Step]:
    """Return the last state, snapshots [T, K, P] and their energies [T, K], and of every step what happened."""
    n_snapshots = moves.n_steps // moves.store_every if moves.store_every else 0
    snapshots = state.particles.new_empty(n_snapshots, *state.particles.shape)
    energies = state.energy.new_empty(n_snapshots, len(state.energy))
    infos = []
    for t in range(moves.n_steps):
        state, info = baoab(state, posterior, scale, moves, t, impl)
        infos.append(info)
        if moves.store_every and (t + 1) % moves.store_every == 0:
            snapshots[t // moves.store_every], energies[t // moves.store_every] = state.particles, state.energy
    return state, snapshots, energies, Step(*(torch.stack(column) for column in zip(*infos, strict=True)))


def squared_norms(rows: Tensor) -> Tensor:
    """Return the sums of squares of rows [K, P], [K]; float64, without a float64 copy of them all."""
    total = rows.new_zeros(len(rows), dtype=torch.float64)
    for piece in rows.split(COLUMNS, dim=1):
        total += piece.double().square().sum(dim=1)
    return total


def _chunks(rows: Tensor) -> Iterator[slice]:
    size = max(1, CHUNK_BYTES // (rows.shape[1] * rows.element_size()))
    return (slice(at, min(at + size, len(rows))) for at in range(0, len(rows), size))
