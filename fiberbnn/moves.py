"""The moves of the walk's two modes, as functions from state to state; walk.py says what they are made of."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fiberbnn_kernels import (
    OPTIMIZER_MOMENTS,
    kinetic_energy,
    langevin_close,
    langevin_open,
    optimizer_step,
    perturb,
    philox_normal,
)

from .energy import Energy
from .streams import Stream
from .walk_state import WalkInfo, WalkSettings, WalkState

# Particles go through in chunks of about so many bytes where a copy of them, or their noise, is made.
COPY_BYTES = 1 << 26


def baoab(
    state: WalkState, energy: Energy, scale: Tensor, h: float, friction: float, seed: int, particle0: int
) -> tuple[WalkState, Tensor, Tensor]:
    """One BAOAB step, the energy error [K] of its deterministic parts, and the heat [K].

    The error is one only if the state was evaluated on this energy. The heat is the mean square of the velocity in the
    middle of the step: where the energy is quadratic it is exactly 1 there at any stable step, at the ends less.
    Friction that the thermostat has added takes heat out and puts no noise in: the noise of the gradients is there.
    """
    particles, velocity, kinetic = langevin_open(
        state.particles, state.velocity, state.grad, scale, step_size=h, friction=friction, seed=seed, step=state.time,
        stream=Stream.REFRESH, particle0=particle0, added_decay=torch.exp(-h * state.added_friction),
    )  # fmt: skip
    value, gradient = energy.value_and_grad(particles)
    last = langevin_close(velocity, gradient, scale, step_size=h)
    first, kicked, refreshed = kinetic.unbind(dim=1)
    error = (value - state.energy + (last - (first - kicked + refreshed))).to(value.dtype)
    new = WalkState(particles, velocity, value, gradient, state.time + 1, state.added_friction)
    return new, error, (2.0 * refreshed / scale.numel()).to(value.dtype)


def verlet(state: WalkState, energy: Energy, scale: Tensor, h: float) -> tuple[WalkState, Tensor]:
    """One step of velocity Verlet (the BAB part of OBABO), and its energy error [K]."""
    velocity = torch.addcmul(state.velocity, state.grad, scale, value=-0.5 * h)
    particles = torch.addcmul(state.particles, velocity, scale, value=h)
    value, gradient = energy.value_and_grad(particles)
    velocity.addcmul_(gradient, scale, value=-0.5 * h)
    error = (value - state.energy + (kinetic_energy(velocity) - kinetic_energy(state.velocity))).to(value.dtype)
    return WalkState(particles, velocity, value, gradient, state.time + 1, state.added_friction), error


def literal(
    state: WalkState,
    energy: Energy,
    settings: WalkSettings,
    scale: Tensor,
    h: float,
    seed: int,
    particle0: int,
) -> tuple[WalkState, WalkInfo]:
    """Move along the fixed drift, then refine by R gradient steps; a particle that leaves the finite is put back."""
    drifting = settings.drift_steps is None or state.time < settings.drift_steps
    particles = perturb(
        state.particles, drift=state.velocity, drift_length=settings.drift_length if drifting else 0.0,
        noise=settings.perturbation, scale=scale, seed=seed, step=state.time, stream=Stream.PERTURB,
        particle0=particle0,
    )  # fmt: skip
    value, gradient = energy.value_and_grad(particles)
    kept = OPTIMIZER_MOMENTS[settings.refine_rule]
    first, second = (torch.zeros_like(particles) if n < kept else None for n in range(2))
    for r in range(settings.refine_steps):
        optimizer_step(
            particles, gradient, rule=settings.refine_rule, learning_rate=0.5 * h * h, update=r + 1, scale=scale,
            noise=settings.refine_noise * h, seed=seed, step=state.time, stream=Stream.REFINE + r, particle0=particle0,
            first=first, second=second,
        )  # fmt: skip
        del gradient  # before the next is there
        value, gradient = energy.value_and_grad(particles)
    moved = value.isfinite() & gradient.isfinite().all(dim=1)
    new = WalkState(particles, state.velocity, value, gradient, state.time + 1, state.added_friction)
    put_back(~moved, new, state)
    return new, WalkInfo(moved.to(value.dtype), moved, torch.full_like(value, math.nan))


def put_back(undone: Tensor, new: WalkState, old: WalkState) -> None:
    """Overwrite positions, energies and gradients of the undone particles, bool [K], with the old ones."""
    for rows in chunks(new.particles):
        k = rows.start + undone[rows].nonzero().flatten()
        if len(k):
            for mine, theirs in zip(
                (new.particles, new.grad, new.energy), (old.particles, old.grad, old.energy), strict=True
            ):
                mine[k] = theirs[k]


def chunks(particles: Tensor) -> Iterator[slice]:
    """Yield the rows of [K, P], a chunk at a time."""
    size = max(1, COPY_BYTES // (particles.shape[1] * particles.element_size()))
    return (slice(at, min(at + size, len(particles))) for at in range(0, len(particles), size))


def noise_of(like: Tensor, time: int, seed: int, stream: int, particle0: int) -> Tensor:
    """Standard normal noise [K, P] of one step."""
    n_particles, n_params = like.shape
    return philox_normal(
        n_particles,
        n_params,
        seed=seed,
        step=time,
        stream=stream,
        particle0=particle0,
        dtype=like.dtype,
        device=like.device,
    )


def refresh(velocity: Tensor, decay: float, time: int, seed: int, stream: int, particle0: int) -> None:
    """Overwrite velocities [K, P] by a v + sqrt(1 - a^2) xi, a the decay."""
    for rows in chunks(velocity):
        v = velocity[rows]
        noise = noise_of(v, time, seed, stream, particle0 + rows.start)
        v.mul_(decay).add_(noise, alpha=math.sqrt(1.0 - decay * decay))


def acceptance_of(error: Tensor) -> Tensor:
    """Return min(1, exp(-error)) of energy errors [K], 0 where they are not finite."""
    return torch.exp(-error.clamp(min=0.0)).nan_to_num(nan=0.0)
