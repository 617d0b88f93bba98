"""The walk of particles along the low-energy set around the MAP: one sampler, two readings of the drift.

"persistent" (our reading, the default). The drift is the particle's velocity: drawn once, uniform in orientation,
in preconditioned coordinates theta = theta* + M x with M = diag(scale). A step moves along it, lets the gradient
bend it and refreshes it partially: underdamped Langevin dynamics, integrated by BAOAB

    v -= h/2 M grad U;  x += h/2 v;  v = a v + sqrt(1 - a^2) xi;  x += h/2 v;  v -= h/2 M grad U,   a = exp(-gamma h)

(Leimkuhler and Matthews 2013, doi:10.1093/amrx/abs010), one gradient a step. With `metropolis=True` the step is
OBABO and accepted or refused with its velocity reversed (Horowitz 1991), which makes it exact.

With minibatches the gradient of each step is another batch's. What heat that adds shows in the velocity, whose mean
square should be 1; a thermostat on each particle adds friction xi while it is larger and takes it back while smaller,

    d xi / dt = thermostat (|v|^2 / P - 1),

without noise of its own. Held above zero it would cool: chance
alone would add friction, and nothing take it back. For gradient noise of one strength in all directions the posterior
stays exact, xi then has the variance thermostat / P (adaptive Langevin: Jones and Leimkuhler 2011,
doi:10.1063/1.3626941; Leimkuhler and Shang 2016, doi:10.1137/15M102318X).

"literal" (the words of the paper, arXiv 2512.01500). The drift is a fixed unit vector: a step moves
x += drift_length d + perturbation xi and then refines by R gradient steps x -= h^2/2 M grad U + refine_noise h xi,
or as many of momentum or Adam.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fiberbnn_kernels import kinetic_energy, philox_uniform

from .any_energy import AnyEnergy
from .energy import Energy
from .moves import acceptance_of, baoab, chunks, literal, noise_of, put_back, refresh, verlet
from .streams import Stream
from .walk_state import WalkInfo, WalkSettings, WalkState


class Sampler(NamedTuple):
    """A walk with its settings bound."""

    init: Callable[[Tensor], WalkState]
    step: Callable[[WalkState], tuple[WalkState, WalkInfo]]


def init(
    weights: Tensor,
    energy: AnyEnergy,
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
    drift = noise_of(weights.expand(n_particles, -1), 0, seed, Stream.DRIFT, particle0)
    drift.div_(drift.norm(dim=1, keepdim=True))
    if settings.drift == "persistent":
        drift.mul_(math.sqrt(2 * len(weights)))
    particles = weights.repeat(n_particles, 1)
    value, gradient = energy.at(0).value_and_grad(particles)
    return WalkState(particles, drift, value, gradient, 0, value.new_zeros(n_particles))


def step(
    state: WalkState,
    energy: AnyEnergy,
    settings: WalkSettings,
    *,
    scale: Tensor,
    step_size: float,
    seed: int,
    particle0: int = 0,
    measured: bool = False,
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
        measured: whether the energy error is wanted. On all data it costs nothing and is always given; on minibatches
            both ends of the step have to see the same batch, for one gradient more.
    """
    now = energy.at(state.time + 1)
    if settings.drift == "literal":
        return literal(state, now, settings, scale, step_size, seed, particle0)
    if settings.metropolis:
        return _accepted_or_refused(state, now, settings, scale, step_size, seed, particle0)
    if measured and not energy.exact:
        value, gradient = now.value_and_grad(state.particles)
        state = state._replace(energy=value, grad=gradient)
    proposal, error, heat = baoab(state, now, scale, step_size, settings.friction, seed, particle0)
    if energy.exact or measured:
        acceptance, moved = acceptance_of(error), error < settings.energy_error_limit
    else:
        # Only a particle that is out of all bounds can be told: the drift starts with P nats.
        acceptance, moved = None, kinetic_energy(proposal.velocity) < 10 * scale.numel()
        moved &= proposal.energy.isfinite()
    if not energy.exact and settings.thermostat:
        proposal = _with_thermostat(proposal, heat, settings, step_size)
    if moved.all():
        return proposal, WalkInfo(acceptance, moved, heat)
    put_back(~moved, proposal, state)
    for rows in chunks(proposal.velocity):
        if not (kept := moved[rows]).all():
            revived = noise_of(state.velocity[rows], state.time, seed, Stream.REVIVE, particle0 + rows.start)
            proposal.velocity[rows] = torch.where(kept[:, None], proposal.velocity[rows], revived)
    added = torch.where(moved, proposal.added_friction, state.added_friction)
    return proposal._replace(added_friction=added), WalkInfo(acceptance, moved, heat)


def _accepted_or_refused(
    state: WalkState, energy: Energy, settings: WalkSettings, scale: Tensor, step_size: float, seed: int, particle0: int
) -> tuple[WalkState, WalkInfo]:
    """One OBABO step with the Metropolis rule."""
    half = math.exp(-0.5 * settings.friction * step_size)
    velocity = state.velocity.clone()
    refresh(velocity, half, state.time, seed, Stream.REFRESH, particle0)
    state = state._replace(velocity=velocity)
    proposal, error = verlet(state, energy, scale, step_size)
    acceptance = acceptance_of(error)
    uniform = philox_uniform(
        len(error), seed=seed, step=state.time, stream=Stream.ACCEPT, particle0=particle0, device=error.device
    )
    moved = uniform < acceptance
    put_back(~moved, proposal, state)
    for rows in chunks(velocity):
        reversed_if_refused = torch.where(moved[rows, None], proposal.velocity[rows], -velocity[rows])
        proposal.velocity[rows] = reversed_if_refused
    refresh(proposal.velocity, half, state.time, seed, Stream.REFRESH_AGAIN, particle0)
    heat = 2.0 * kinetic_energy(proposal.velocity) / scale.numel()
    return proposal, WalkInfo(acceptance, moved, heat.to(acceptance.dtype))


def _with_thermostat(state: WalkState, heat: Tensor, settings: WalkSettings, step_size: float) -> WalkState:
    """The state with the friction that its velocities ask for.

    Friction and heat answer each other, as d friction = r (heat - 1) and d heat = -2 friction heat, and swing at the
    rate sqrt(2 r). The step is linearly implicit in that pair, or it would build the swing up where steps are long.
    """
    rate = settings.thermostat * step_size / (1.0 + 2.0 * settings.thermostat * step_size**2)
    return state._replace(added_friction=state.added_friction + rate * (heat - 1.0))


def check_metropolis(settings: WalkSettings, energy: AnyEnergy) -> None:
    """Raise ValueError if Metropolis is to accept on minibatches."""
    if settings.metropolis and not energy.exact:
        raise ValueError("metropolis=True needs the energy of all data: minibatches give no acceptance probability")


def build(
    energy: AnyEnergy,
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
        ValueError: if there are no particles, the step size or the preconditioner is not positive and finite, or
            Metropolis is to accept on minibatches.
    """
    if n_particles < 1:
        raise ValueError(f"n_particles must be at least 1; got {n_particles}")
    chosen = settings or WalkSettings()
    check_metropolis(chosen, energy)
    if not 0.0 < step_size < math.inf:
        raise ValueError(f"step_size must be positive and finite; got {step_size}")
    if scale.shape != (energy.network.n_params,) or not (scale.isfinite() & (scale > 0)).all():
        raise ValueError(f"scale must be positive and finite, [{energy.network.n_params}]; got {list(scale.shape)}")
    return Sampler(
        lambda weights: init(weights, energy, chosen, n_particles=n_particles, seed=seed, particle0=particle0),
        lambda state: step(state, energy, chosen, scale=scale, step_size=step_size, seed=seed, particle0=particle0),
    )
