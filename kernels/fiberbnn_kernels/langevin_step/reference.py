"""Steps of particles [K, P] in plain torch, on any device, in float32 or float64; this file is the definition."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..norms import kinetic_energy
from ..philox import philox_normal

# Particles go through in chunks of about so many bytes where their noise is made.
NOISE_BYTES = 1 << 26


class Counter(NamedTuple):
    """What noise depends on besides the element: see `philox_normal`."""

    seed: int
    step: int
    stream: int
    particle0: int


class Perturbation(NamedTuple):
    """What is added to particles: drift_length M d + noise M xi."""

    drift: Tensor | None
    drift_length: float
    noise: float
    counter: Counter


class Update(NamedTuple):
    """Numbers of one optimizer step as `update_of` makes them, in double precision."""

    rule: str
    prior_precision: float
    rate: float  # learning rate, divided by Adam's first bias correction
    beta1: float
    beta2: float
    root: float  # one over the square root of Adam's second bias correction
    eps: float


def refresh_of(step_size: float, friction: float) -> tuple[float, float]:
    """Return a = exp(-gamma h), what is left of a velocity, and sqrt(1 - a^2), the noise that makes up for it."""
    return math.exp(-friction * step_size), math.sqrt(-math.expm1(-2.0 * friction * step_size))


def update_of(
    rule: str, prior_precision: float, learning_rate: float, beta1: float, beta2: float, eps: float, update: int
) -> Update:
    """Return the numbers of the optimizer step number `update`, counted from 1."""
    if rule != "adam":
        return Update(rule, prior_precision, learning_rate, beta1, beta2, 1.0, eps)
    rate, root = learning_rate / (1.0 - beta1**update), 1.0 / math.sqrt(1.0 - beta2**update)
    return Update(rule, prior_precision, rate, beta1, beta2, root, eps)


def langevin_open(
    particles: Tensor,
    velocity: Tensor,
    grad: Tensor,
    scale: Tensor,
    *,
    step_size: float,
    friction: float,
    counter: Counter,
    added_decay: Tensor | None = None,
    snapshot: Tensor | None = None,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return new particles and velocities, and energies [K, 3], float64; see `api.langevin_open`.

    `noise` is what the counter gives, [K, P], where it is at hand.
    """
    decay, spread = refresh_of(step_size, friction)
    new_velocity = torch.addcmul(velocity, grad, scale, value=-0.5 * step_size)
    new_particles = torch.addcmul(particles, new_velocity, scale, value=0.5 * step_size)
    energies = [kinetic_energy(velocity), kinetic_energy(new_velocity)]
    for rows, xi in _noise_of(new_velocity, counter) if noise is None else [(slice(None), noise)]:
        v = new_velocity[rows]
        v.mul_(decay if added_decay is None else decay * added_decay[rows, None]).add_(xi, alpha=spread)
    energies.append(kinetic_energy(new_velocity))
    new_particles.addcmul_(new_velocity, scale, value=0.5 * step_size)
    if snapshot is not None:
        snapshot.copy_(new_particles)
    return new_particles, new_velocity, torch.stack(energies, dim=1)


def langevin_close(velocity: Tensor, grad: Tensor, scale: Tensor, *, step_size: float) -> Tensor:
    """Kick velocities in place; return their kinetic energies [K], float64; see `api.langevin_close`."""
    velocity.addcmul_(grad, scale, value=-0.5 * step_size)
    return kinetic_energy(velocity)


def optimizer_step(
    particles: Tensor,
    grad: Tensor,
    numbers: Update,
    *,
    first: Tensor | None,
    second: Tensor | None,
    snapshot: Tensor | None,
    scale: Tensor | None,
    perturbation: Perturbation,
) -> None:
    """Step, store and perturb in place; see `optimizer.optimizer_step`."""
    slope = torch.add(grad, particles, alpha=numbers.prior_precision)
    if scale is not None:
        slope.mul_(scale)
    if numbers.rule == "momentum":
        assert first is not None
        slope = first.mul_(numbers.beta1).add_(slope).clone()
    elif numbers.rule == "adam":
        assert first is not None
        assert second is not None
        first.mul_(numbers.beta1).add_(slope, alpha=1.0 - numbers.beta1)
        second.mul_(numbers.beta2).addcmul_(slope, slope, value=1.0 - numbers.beta2)
        slope = first / second.sqrt().mul_(numbers.root).add_(numbers.eps)
    if scale is not None:
        slope.mul_(scale)
    particles.add_(slope, alpha=-numbers.rate)
    if snapshot is not None:
        snapshot.copy_(particles)
    perturb_(particles, scale, perturbation)


def perturb_(particles: Tensor, scale: Tensor | None, perturbation: Perturbation) -> None:
    """Add drift and noise in place; see `optimizer.perturb`."""
    drift, drift_length, noise, counter = perturbation
    if drift is not None:
        particles.add_(drift if scale is None else drift * scale, alpha=drift_length)
    if noise:
        for rows, xi in _noise_of(particles, counter):
            particles[rows] += noise * (xi if scale is None else xi * scale)


def _noise_of(like: Tensor, counter: Counter) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows and their standard normals, a chunk at a time."""
    n_particles, n_params = like.shape
    size = max(1, NOISE_BYTES // max(1, n_params * like.element_size()))
    for start in range(0, n_particles, size):
        rows = slice(start, min(start + size, n_particles))
        yield (
            rows,
            philox_normal(
                rows.stop - start,
                n_params,
                seed=counter.seed,
                step=counter.step,
                stream=counter.stream,
                particle0=counter.particle0 + start,
                dtype=like.dtype,
                device=like.device,
            ),
        )
