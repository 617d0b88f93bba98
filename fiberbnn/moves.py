"""The moves of the walk's two modes, as functions from state to state; walk.py says what they are made of."""

import math

import torch
from torch import Tensor

from fiberbnn_kernels import philox_normal

from .energy import Energy
from .streams import Stream
from .walk_state import WalkInfo, WalkSettings, WalkState


def baoab(
    state: WalkState, energy: Energy, scale: Tensor, h: float, decay: float, seed: int, particle0: int
) -> tuple[WalkState, Tensor]:
    """One BAOAB step, and the energy error [K] of its deterministic parts."""
    velocity = torch.addcmul(state.velocity, state.grad, scale, value=-0.5 * h)
    particles = torch.addcmul(state.particles, velocity, scale, value=0.5 * h)
    before = kinetic_energy(state.velocity) - kinetic_energy(velocity)
    velocity = refresh(velocity, noise_of(velocity, state.time, seed, Stream.REFRESH, particle0), decay)
    before += kinetic_energy(velocity)
    particles.addcmul_(velocity, scale, value=0.5 * h)
    value, gradient = energy.value_and_grad(particles)
    velocity = torch.addcmul(velocity, gradient, scale, value=-0.5 * h)
    error = value - state.energy + kinetic_energy(velocity) - before
    return WalkState(particles, velocity, value, gradient, state.time + 1), error


def verlet(state: WalkState, energy: Energy, scale: Tensor, h: float) -> tuple[WalkState, Tensor]:
    """One step of velocity Verlet (the BAB part of OBABO), and its energy error [K]."""
    velocity = torch.addcmul(state.velocity, state.grad, scale, value=-0.5 * h)
    particles = torch.addcmul(state.particles, velocity, scale, value=h)
    value, gradient = energy.value_and_grad(particles)
    velocity = torch.addcmul(velocity, gradient, scale, value=-0.5 * h)
    error = value - state.energy + kinetic_energy(velocity) - kinetic_energy(state.velocity)
    return WalkState(particles, velocity, value, gradient, state.time + 1), error


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
    length = settings.drift_length if drifting else 0.0
    particles = torch.addcmul(state.particles, state.velocity, scale, value=length)
    if settings.perturbation:
        noise = noise_of(particles, state.time, seed, Stream.PERTURB, particle0)
        particles.addcmul_(noise, scale, value=settings.perturbation)
    value, gradient = energy.value_and_grad(particles)
    for r in range(settings.refine_steps):
        particles = torch.addcmul(particles, gradient, scale.square(), value=-0.5 * h * h)
        if settings.refine_noise:
            noise = noise_of(particles, state.time, seed, Stream.REFINE + r, particle0)
            particles.addcmul_(noise, scale, value=settings.refine_noise * h)
        value, gradient = energy.value_and_grad(particles)
    moved = value.isfinite() & gradient.isfinite().all(dim=1)
    new = WalkState(
        torch.where(moved[:, None], particles, state.particles),
        state.velocity,
        torch.where(moved, value, state.energy),
        torch.where(moved[:, None], gradient, state.grad),
        state.time + 1,
    )
    return new, WalkInfo(moved.to(value.dtype), moved)


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


def refresh(velocity: Tensor, noise: Tensor, decay: float) -> Tensor:
    """Return a v + sqrt(1 - a^2) xi, [K, P]; `noise` is overwritten."""
    return noise.mul_(math.sqrt(1.0 - decay * decay)).add_(velocity, alpha=decay)


def kinetic_energy(velocity: Tensor) -> Tensor:
    """Return 1/2 |v|^2 of each particle, [K]."""
    return 0.5 * velocity.square().sum(dim=1)


def acceptance_of(error: Tensor) -> Tensor:
    """Return min(1, exp(-error)) of energy errors [K], 0 where they are not finite."""
    return torch.exp(-error.clamp(min=0.0)).nan_to_num(nan=0.0)
