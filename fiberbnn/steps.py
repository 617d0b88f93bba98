"""Steps of the walk with one step size: one after the other, or many in one operation where there is one."""

from collections.abc import Iterator

from torch import Tensor

from fiberbnn_kernels import mlp_walk

from .any_energy import AnyEnergy
from .energy import Energy
from .streams import Stream
from .walk import step
from .walk_state import WalkInfo, WalkSettings, WalkState

# Several steps in one operation hold a state more than one does; where particles take more, it is no faster on a CPU.
CPU_TOGETHER_BYTES = 1 << 22


def steps(
    state: WalkState,
    energy: AnyEnergy,
    settings: WalkSettings,
    *,
    n_steps: int,
    scale: Tensor,
    step_size: float,
    seed: int,
    particle0: int = 0,
    measured: bool = False,
) -> Iterator[tuple[WalkState, Tensor, WalkInfo]]:
    """Yield, a piece of t steps after the other, the state, the energies after each step, [t, K], and what happened.

    What happened is that of `walk.step` with an axis [t] in front. Plain perceptrons on all data take the operation
    `mlp_walk`, which makes the same steps up to rounding.

    Args:
        state: where the particles are; it is not changed.
        energy: U and its gradient.
        settings: how to step.
        n_steps: of all pieces together.
        scale: diagonal of the preconditioner, [P].
        step_size: h, of all these steps.
        seed: of the noise.
        particle0: global number of the first particle.
        measured: as in `walk.step`.
    """
    # A subclass may have an energy of its own.
    perceptron = type(energy) is Energy and energy.perceptron
    if perceptron and settings.drift == "persistent" and not settings.metropolis:
        assert isinstance(energy, Energy)
        few = state.particles.is_cuda or state.particles.nbytes <= CPU_TOGETHER_BYTES
        together = n_steps if few else 1
        for done in range(0, n_steps, together):
            count = min(together, n_steps - done)
            state, energies, info = _of_perceptron(state, energy, settings, count, scale, step_size, seed, particle0)
            yield state, energies, info
        return
    for _ in range(n_steps):
        state, one = step(
            state, energy, settings, scale=scale, step_size=step_size, seed=seed, particle0=particle0, measured=measured
        )
        acceptance = None if one.acceptance is None else one.acceptance[None]
        yield state, state.energy[None], WalkInfo(acceptance, one.moved[None], one.heat[None])


def _of_perceptron(
    state: WalkState, energy: Energy, settings: WalkSettings, n_steps: int, scale: Tensor, step_size: float, seed: int,
    particle0: int,
) -> tuple[WalkState, Tensor, WalkInfo]:  # fmt: skip
    """Take the steps in one operation."""
    assert energy.perceptron
    assert isinstance(energy.x, Tensor)
    layout, likelihood, noise_precision = energy.perceptron
    walked = mlp_walk(
        state.particles, state.velocity, state.energy, state.grad, energy.x, energy.y, layout, likelihood=likelihood,
        noise_precision=noise_precision, prior_precision=energy.prior_precision, scale=scale, step_size=step_size,
        friction=settings.friction, energy_error_limit=settings.energy_error_limit, n_steps=n_steps, seed=seed,
        step0=state.time, refresh_stream=Stream.REFRESH, revive_stream=Stream.REVIVE, particle0=particle0,
    )  # fmt: skip
    energy.cost.grad_evals += n_steps * len(state.particles)
    new = WalkState(*walked[:4], state.time + n_steps, state.added_friction)
    return new, walked.energies, WalkInfo(walked.acceptance, walked.moved, walked.heat)
