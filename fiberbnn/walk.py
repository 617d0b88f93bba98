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
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from fiberbnn_kernels import philox_normal, philox_uniform
from torch import Tensor

from .energy import Energy

# Streams of the counter-based noise: a draw depends on (seed, element, particle, step, stream) and on nothing else.
DRIFT_STREAM, NOISE_STREAM, NOISE_AGAIN_STREAM, ACCEPT_STREAM, REVIVE_STREAM, REFINE_STREAM = 0, 1, 2, 3, 4, 32


@dataclass(frozen=True)
class WalkSettings:
    """How particles step.

    Attributes:
        drift: "persistent" or "literal" (see the module's docstring).
        friction: gamma, per unit of preconditioned time; the drift persists for about 1/gamma.
        metropolis: accept or refuse each persistent step, so that the walk samples the posterior exactly.
        energy_error_limit: nats; a step without Metropolis whose energy error is larger, or not finite, is undone and
            the particle given a new velocity. It happens where the step is far too long, and is counted.
        drift_length: of the literal drift, preconditioned units a step.
        drift_steps: steps after which the literal drift stops and the particles only settle; None for never.
        perturbation: standard deviation of the literal mode's perturbing noise, preconditioned units.
        refine_steps: R, gradient steps after each literal perturbation.
        refine_noise: 0 for plain gradient steps, 1 for Langevin steps in the literal refinement.

    Raises:
        ValueError: if a setting is out of range.
    """

    drift: Literal["persistent", "literal"] = "persistent"
    friction: float = 0.1
    metropolis: bool = False
    energy_error_limit: float = 10.0
    drift_length: float = 1.0
    drift_steps: int | None = None
    perturbation: float = 0.0
    refine_steps: int = 5
    refine_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.drift not in ("persistent", "literal"):
            raise ValueError(f'drift must be "persistent" or "literal"; got {self.drift!r}')
        if self.friction <= 0 or self.energy_error_limit <= 0 or self.refine_steps < 1:
            raise ValueError("friction and energy_error_limit must be positive, refine_steps at least 1")
        if min(self.drift_length, self.perturbation, self.refine_noise) < 0:
            raise ValueError("drift_length, perturbation and refine_noise must not be negative")
        if self.metropolis and self.drift == "literal":
            raise ValueError('metropolis=True needs drift="persistent": the literal mode has no acceptance rule')


class WalkState(NamedTuple):
    """What the next step needs."""

    particles: Tensor  # [K, P]
    velocity: Tensor  # [K, P], preconditioned; the fixed unit drift in the literal mode
    energy: Tensor  # [K], nats
    grad: Tensor  # [K, P]
    time: int  # steps done


class WalkInfo(NamedTuple):
    """What a reader of the run needs."""

    acceptance: Tensor  # [K], min(1, exp(-energy error)) of the step, 0 where it was not finite
    moved: Tensor  # [K], bool; False where the step was refused (Metropolis) or undone


class Sampler(NamedTuple):
    """A walk with its settings bound."""

    init: Callable[[Tensor], WalkState]
    step: Callable[[WalkState], tuple[WalkState, WalkInfo]]


def init(
    weights: Tensor, energy: Energy, settings: WalkSettings, *, n_particles: int, seed: int, particle0: int = 0
) -> WalkState:
    """Return K particles at one weight vector [P], each with a drift of uniform orientation.

    The persistent drift has length sqrt(2P). A Maxwell velocity has sqrt(P), P/2 nats of kinetic energy; but the
    particles start without the P/2 nats of potential energy that equipartition gives them, and would need the time
    1/friction to take them from the noise. With both halves in the drift they stand on the typical set's energy from
    the first step. The literal drift has length one.
    """
    normal = _noise(weights.expand(n_particles, -1), 0, seed, DRIFT_STREAM, particle0)
    drift = normal / normal.norm(dim=1, keepdim=True)
    if settings.drift == "persistent":
        drift = drift * math.sqrt(2 * len(weights))
    particles = weights.repeat(n_particles, 1)
    value, gradient = energy.value_and_grad(particles)
    return WalkState(particles, drift, value, gradient, 0)


def step(
    state: WalkState, energy: Energy, settings: WalkSettings, *, scale: Tensor, step_size: float, seed: int, particle0: int = 0
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
        return _literal_step(state, energy, settings, scale, step_size, seed, particle0)
    decay = math.exp(-settings.friction * step_size)
    if settings.metropolis:
        half = math.sqrt(decay)
        noise = _noise(state.velocity, state.time, seed, NOISE_STREAM, particle0)
        state = state._replace(velocity=_refresh(state.velocity, noise, half))
        proposal, error = _verlet(state, energy, scale, step_size)
        acceptance = _acceptance(error)
        uniform = philox_uniform(
            len(error), seed=seed, step=state.time, stream=ACCEPT_STREAM, particle0=particle0, device=error.device
        )
        moved = uniform < acceptance
        refused_velocity = -state.velocity
    else:
        proposal, error = _baoab(state, energy, scale, step_size, decay, seed, particle0)
        acceptance, moved = _acceptance(error), error < settings.energy_error_limit
        if moved.all():
            return proposal, WalkInfo(acceptance, moved)
        refused_velocity = _noise(state.velocity, state.time, seed, REVIVE_STREAM, particle0)
    keep = moved[:, None]
    new = WalkState(
        torch.where(keep, proposal.particles, state.particles),
        torch.where(keep, proposal.velocity, refused_velocity),
        torch.where(moved, proposal.energy, state.energy),
        torch.where(keep, proposal.grad, state.grad),
        proposal.time,
    )
    if settings.metropolis:
        noise = _noise(new.velocity, state.time, seed, NOISE_AGAIN_STREAM, particle0)
        new = new._replace(velocity=_refresh(new.velocity, noise, half))
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


def _baoab(
    state: WalkState, energy: Energy, scale: Tensor, h: float, decay: float, seed: int, particle0: int
) -> tuple[WalkState, Tensor]:
    """One BAOAB step, and the energy error [K] of its deterministic parts."""
    velocity = torch.addcmul(state.velocity, state.grad, scale, value=-0.5 * h)
    particles = torch.addcmul(state.particles, velocity, scale, value=0.5 * h)
    kinetic = _kinetic(state.velocity) - _kinetic(velocity)
    velocity = _refresh(velocity, _noise(velocity, state.time, seed, NOISE_STREAM, particle0), decay)
    kinetic += _kinetic(velocity)
    particles.addcmul_(velocity, scale, value=0.5 * h)
    value, gradient = energy.value_and_grad(particles)
    velocity = torch.addcmul(velocity, gradient, scale, value=-0.5 * h)
    error = value - state.energy + _kinetic(velocity) - kinetic
    return WalkState(particles, velocity, value, gradient, state.time + 1), error


def _verlet(state: WalkState, energy: Energy, scale: Tensor, h: float) -> tuple[WalkState, Tensor]:
    """One step of velocity Verlet (the BAB part of OBABO), and its energy error [K]."""
    velocity = torch.addcmul(state.velocity, state.grad, scale, value=-0.5 * h)
    particles = torch.addcmul(state.particles, velocity, scale, value=h)
    value, gradient = energy.value_and_grad(particles)
    velocity = torch.addcmul(velocity, gradient, scale, value=-0.5 * h)
    error = value - state.energy + _kinetic(velocity) - _kinetic(state.velocity)
    return WalkState(particles, velocity, value, gradient, state.time + 1), error


def _literal_step(
    state: WalkState, energy: Energy, settings: WalkSettings, scale: Tensor, h: float, seed: int, particle0: int
) -> tuple[WalkState, WalkInfo]:
    """Move along the fixed drift, then refine by R gradient steps; a particle that leaves the finite is put back."""
    drifting = settings.drift_steps is None or state.time < settings.drift_steps
    length = settings.drift_length if drifting else 0.0
    particles = torch.addcmul(state.particles, state.velocity, scale, value=length)
    if settings.perturbation:
        noise = _noise(particles, state.time, seed, NOISE_STREAM, particle0)
        particles.addcmul_(noise, scale, value=settings.perturbation)
    value, gradient = energy.value_and_grad(particles)
    for r in range(settings.refine_steps):
        particles = torch.addcmul(particles, gradient, scale.square(), value=-0.5 * h * h)
        if settings.refine_noise:
            noise = _noise(particles, state.time, seed, REFINE_STREAM + r, particle0)
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


def _noise(like: Tensor, time: int, seed: int, stream: int, particle0: int) -> Tensor:
    """Standard normal noise [K, P] of one step."""
    n_particles, n_params = like.shape
    return philox_normal(
        n_particles, n_params, seed=seed, step=time, stream=stream, particle0=particle0, dtype=like.dtype, device=like.device
    )


def _refresh(velocity: Tensor, noise: Tensor, decay: float) -> Tensor:
    return noise.mul_(math.sqrt(1.0 - decay * decay)).add_(velocity, alpha=decay)


def _kinetic(velocity: Tensor) -> Tensor:
    return 0.5 * velocity.square().sum(dim=1)


def _acceptance(error: Tensor) -> Tensor:
    return torch.exp(-error.clamp(min=0.0)).nan_to_num(nan=0.0)
