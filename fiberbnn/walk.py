"""The walk of particles along the low-energy set around the MAP: one sampler, two readings of the drift.

"persistent" (our reading, the default). The drift is the particle's velocity: drawn once, uniform in orientation,
in preconditioned coordinates theta = theta* + M x with M = diag(scale). A step moves along it, lets the gradient
bend it and refreshes it partially: underdamped Langevin dynamics, integrated by BAOAB

    v -= h/2 M grad U;  x += h/2 v;  v = a v + sqrt(1 - a^2) xi;  x += h/2 v;  v -= h/2 M grad U,   a = exp(-gamma h)

(Leimkuhler and Matthews 2013, doi:10.1093/amrx/abs010), one gradient a step. With `metropolis=True` the step is
OBABO and accepted or refused with its velocity reversed (Horowitz 1991), which makes it exact.

"literal" (the words of the paper, arXiv 2512.01500). The drift is a fixed unit vector: a step moves
x += drift_length d + perturbation xi and then refines by R gradient steps x -= h^2/2 M grad U + refine_noise h xi.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fiberbnn_kernels import philox_uniform

from .energy import Energy
from .moves import acceptance_of, baoab, literal, noise_of, refresh, verlet
from .streams import Stream
from .walk_state import WalkInfo, WalkSettings, WalkState


class Sampler(NamedTuple):
    """A walk with its settings bound."""

    init: Callable[[Tensor], WalkState]
    step: Callable[[WalkState], tuple[WalkState, WalkInfo]]


def init(
    weights: Tensor,
    energy: Energy,
    settings: WalkSettings,
    *,
    n_particles: int,
    seed: int,
    particle0: int = 0,
) -> WalkState:
    """Return K particles at one weight vector [P], each with a drift of uniform orientation.

    The persistent drift has length sqrt(2P). A Maxwell velocity has sqrt(P), P/2 nats of kinetic energy; but the
    particles start without the P/2 nats of potential energy that equipartition gives them, and would need the time
    1/friction to take them from the noise. With both halves in the drift they stand on the typical set's energy from
    the first step. The literal drift has length one.
    """
    normal = noise_of(weights.expand(n_particles, -1), 0, seed, Stream.DRIFT, particle0)
    drift = normal / normal.norm(dim=1, keepdim=True)
    if settings.drift == "persistent":
        drift = drift * math.sqrt(2 * len(weights))
    particles = weights.repeat(n_particles, 1)
    value, gradient = energy.value_and_grad(particles)
    return WalkState(particles, drift, value, gradient, 0)


def step(
    state: WalkState,
    energy: Energy,
    settings: WalkSettings,
    *,
    scale: Tensor,
    step_size: float,
    seed: int,
    particle0: int = 0,
) -> tuple[WalkState, WalkInfo]:
    """Return the state after one step, and what happened in it.

    Args:
        state: where the particles are; it is not changed.
        energy: U and its gradient.
        settings: how to step.
        scale: diagonal of the preconditioner M, [P].
        step_size: h, preconditioned units.
        seed: of the noise.
        particle0: global number of the first particle, so that a walk in chunks draws what one walk draws.
    """
    if settings.drift == "literal":
        return literal(state, energy, settings, scale, step_size, seed, particle0)
    decay = math.exp(-settings.friction * step_size)
    if settings.metropolis:
        half = math.sqrt(decay)
        noise = noise_of(state.velocity, state.time, seed, Stream.REFRESH, particle0)
        state = state._replace(velocity=refresh(state.velocity, noise, half))
        proposal, error = verlet(state, energy, scale, step_size)
        acceptance = acceptance_of(error)
        uniform = philox_uniform(
            len(error),
            seed=seed,
            step=state.time,
            stream=Stream.ACCEPT,
            particle0=particle0,
            device=error.device,
        )
        moved = uniform < acceptance
        refused_velocity = -state.velocity
    else:
        proposal, error = baoab(state, energy, scale, step_size, decay, seed, particle0)
        acceptance, moved = acceptance_of(error), error < settings.energy_error_limit
        if moved.all():
            return proposal, WalkInfo(acceptance, moved)
        refused_velocity = noise_of(state.velocity, state.time, seed, Stream.REVIVE, particle0)
    keep = moved[:, None]
    new = WalkState(
        torch.where(keep, proposal.particles, state.particles),
        torch.where(keep, proposal.velocity, refused_velocity),
        torch.where(moved, proposal.energy, state.energy),
        torch.where(keep, proposal.grad, state.grad),
        proposal.time,
    )
    if settings.metropolis:
        noise = noise_of(new.velocity, state.time, seed, Stream.REFRESH_AGAIN, particle0)
        new = new._replace(velocity=refresh(new.velocity, noise, half))
    return new, WalkInfo(acceptance, moved)


def build(
    energy: Energy,
    *,
    scale: Tensor,
    step_size: float,
    n_particles: int = 30,
    seed: int = 0,
    particle0: int = 0,
    settings: WalkSettings | None = None,
) -> Sampler:
    """Return the walk's `init` and `step` with everything but weights and state bound.

    Raises:
        ValueError: if there are no particles, or the step size or the preconditioner is not positive and finite.
    """
    if n_particles < 1:
        raise ValueError(f"n_particles must be at least 1; got {n_particles}")
    if not 0.0 < step_size < math.inf:
        raise ValueError(f"step_size must be positive and finite; got {step_size}")
    if scale.shape != (energy.network.n_params,) or not (scale.isfinite() & (scale > 0)).all():
        raise ValueError(f"scale must be positive and finite, [{energy.network.n_params}]; got {list(scale.shape)}")
    chosen = settings or WalkSettings()
    return Sampler(
        lambda weights: init(weights, energy, chosen, n_particles=n_particles, seed=seed, particle0=particle0),
        lambda state: step(state, energy, chosen, scale=scale, step_size=step_size, seed=seed, particle0=particle0),
    )
