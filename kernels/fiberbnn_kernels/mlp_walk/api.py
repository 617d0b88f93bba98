"""Steps of the walk of a multilayer perceptron: many of them, and all of a particle's, in one launch."""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple, cast, get_args

import torch
from torch import Tensor

from ..autocast import no_autocast
from ..backend import Impl
from ..langevin_step.api import boxed, check_rows, number
from ..mapped import VmapInfo, join, number_on, split
from ..mlp.api import check as check_perceptron
from ..mlp.api import kernel_wanted, path_of
from ..mlp.layout import Activation, MLPLayout
from ..mlp.reference import Likelihood
from ..mlp.table import architecture_of
from ..philox.api import check_counter
from . import reference
from .reference import Moves, Posterior, State
from .tuned import launch_for


class MLPWalk(NamedTuple):
    """Where the particles are after the steps, where they were on the way, and what happened at every step."""

    particles: Tensor  # [K, P]
    velocity: Tensor  # [K, P]
    energy: Tensor  # [K], nats
    grad: Tensor  # [K, P]
    snapshots: Tensor  # [T, K, P]
    energies: Tensor  # [n_steps, K], nats; after every step
    acceptance: Tensor  # [n_steps, K], min(1, exp(-energy error)), 0 where it is not a number
    moved: Tensor  # [n_steps, K], bool; False where the step was undone
    heat: Tensor  # [n_steps, K], mean square of the refreshed velocity, 1 in equilibrium


def mlp_walk(
    particles: Tensor,
    velocity: Tensor,
    energy: Tensor,
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    layout: MLPLayout,
    *,
    likelihood: Likelihood,
    noise_precision: float = 1.0,
    prior_precision: float,
    scale: Tensor,
    step_size: float | Tensor,
    friction: float,
    energy_error_limit: float,
    n_steps: int,
    seed: int,
    step0: int,
    refresh_stream: int,
    revive_stream: int,
    particle0: int = 0,
    store_every: int = 0,
    impl: Impl = "auto",
) -> MLPWalk:
    """Return the walk of a perceptron's weights over some steps of underdamped Langevin dynamics.

    A step is BAOAB on U(w) = -log p(y | x, w) + tau/2 |w|^2 in preconditioned coordinates, as `langevin_open` and
    `langevin_close` make it around the gradient. Where its energy error is not below the limit, or not a number, the
    particle stays where it was and has its velocity drawn anew. Steps may be cut into calls and particles into chunks
    anywhere, if each call is given its first step and particle: the fused kernel then gives the same bits.

    It has no autograd formula. Under `torch.vmap` over particles and their state the copies run as one call, and
    particle k of copy b gets the number particle0 + b K + k, so that copies never share noise.

    Args:
        particles: weights in `MLPLayout`'s order, [K, P].
        velocity: v, [K, P].
        energy: U at the particles, [K]; nats.
        grad: its gradient there, [K, P].
        x: inputs, [N, D].
        y: labels from 0 to C - 1, [N], int64, or targets, [N, C]; what the kernel is given as a label and is none
            makes all its energies NaN.
        layout: widths and activation.
        likelihood: "categorical" or "gaussian", as in `mlp_nll_and_grad`.
        noise_precision: of the Gaussian noise.
        prior_precision: tau.
        scale: diagonal of the preconditioner, [P].
        step_size: h; a number, or a tensor [] on the CPU: torch's compiler may make a graph for every number.
        friction: gamma, per unit of time.
        energy_error_limit: nats; a step with no smaller energy error is undone.
        n_steps: how many, at least one.
        seed: of the noise; as in `philox_normal`, like the next four.
        step0: which draw of the streams the first step takes.
        refresh_stream: of the noise of every step.
        revive_stream: of the new velocities after undone steps.
        particle0: global number of the first particle.
        store_every: steps from snapshot to snapshot; 0 for none.
        impl: "auto" (the kernel where there is a GPU, Triton, float32 and a launch for the perceptron in mlp/table.py,
            and `mlp.paths.path_for` chooses it for so many steps a call), "reference" or "fused".

    Raises:
        ValueError: if shapes, dtypes or devices disagree, a number is out of its range, a gradient is asked for, or
            `impl` is unknown.
        RuntimeError: if `impl` is "fused" and the kernel cannot run there, or not for this perceptron or dtype; on the
            reference's path, if a label is out of range.

    Source: Leimkuhler and Matthews (2013), doi:10.1093/amrx/abs010.
    """
    check_perceptron(particles, x, layout, impl)
    check_rows(particles, {"velocity": velocity, "grad": grad}, {"scale": scale})
    check_rows(particles[:, :1], {"energy": energy[:, None]}, {})
    _check_targets(x, y, layout, likelihood)
    _check_numbers(n_steps, store_every, positive={
        "noise_precision": noise_precision, "prior_precision": prior_precision,
        "energy_error_limit": energy_error_limit,
    })  # fmt: skip
    n_particles, n_params = particles.shape
    for stream in (refresh_stream, revive_stream):
        check_counter(seed, step0, n_steps, stream, particle0, n_particles, n_params, particles.dtype)
    walk = _walk_op(
        particles.contiguous(), velocity.contiguous(), energy.contiguous(), grad.contiguous(),
        x.contiguous(), y.contiguous(), scale.contiguous(), boxed(step_size), list(layout.widths), layout.activation,
        likelihood, noise_precision, prior_precision, friction, energy_error_limit, n_steps, seed, step0,
        refresh_stream, revive_stream, particle0, store_every, impl,
    )  # fmt: skip
    return MLPWalk(*walk)


def walks_in_one_launch(impl: Impl, particles: Tensor, x: Tensor, layout: MLPLayout, n_steps: int) -> bool:
    """Return whether the kernel takes all steps; else the reference does, its flat updates and gradients by `impl`.

    Raises:
        RuntimeError: if `impl` is "fused" and the kernel cannot run.
    """
    wanted = kernel_wanted(impl, particles, x, layout)
    return wanted and (impl == "fused" or path_of(particles, x, layout, n_steps) == "one launch")


# Opaque to the compiler on purpose: nothing here could be fused, and a triton_op needs a driver to be traced.
def _walk(
    particles: Tensor, velocity: Tensor, energy: Tensor, grad: Tensor, x: Tensor, y: Tensor, scale: Tensor,
    step_size: Tensor, widths: list[int], activation: str, likelihood: str, noise_precision: float,
    prior_precision: float, friction: float, energy_error_limit: float, n_steps: int, seed: int, step0: int,
    refresh_stream: int, revive_stream: int, particle0: int, store_every: int, impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    layout = MLPLayout(tuple(widths), cast(Activation, activation))
    posterior = Posterior(x, y, layout, cast(Likelihood, likelihood), noise_precision, prior_precision)
    moves = Moves(
        number("step_size", step_size), number("friction", friction), energy_error_limit, n_steps, store_every, seed,
        step0, particle0, refresh_stream, revive_stream,
    )  # fmt: skip
    start = State(particles, velocity, energy, grad)
    if walks_in_one_launch(cast(Impl, impl), particles, x, layout, n_steps):
        from . import fused as kernels

        launch = launch_for(layout, architecture_of(particles.device))
        assert launch is not None
        with no_autocast(particles.device):
            state, snapshots, steps = kernels.mlp_walk(start, posterior, scale, moves, launch)
    else:
        with no_autocast(particles.device):
            state, snapshots, steps = reference.mlp_walk(start, posterior, scale, moves, cast(Impl, impl))
    return *state, snapshots, *steps


_walk_op = torch.library.custom_op("fiberbnn::mlp_walk", mutates_args=())(_walk)


@_walk_op.register_fake
def _(
    particles: Tensor, velocity: Tensor, energy: Tensor, grad: Tensor, x: Tensor, y: Tensor, scale: Tensor,
    step_size: Tensor, widths: list[int], activation: str, likelihood: str, noise_precision: float,
    prior_precision: float, friction: float, energy_error_limit: float, n_steps: int, seed: int, step0: int,
    refresh_stream: int, revive_stream: int, particle0: int, store_every: int, impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    k, n_snapshots = particles.shape[0], n_steps // store_every if store_every else 0
    snapshots, each = particles.new_empty(n_snapshots, *particles.shape), energy.new_empty(n_steps, k)
    moved = torch.empty_like(each, dtype=torch.bool)
    return (
        torch.empty_like(particles), torch.empty_like(velocity), torch.empty_like(energy), torch.empty_like(grad),
        snapshots, each, torch.empty_like(each), moved, torch.empty_like(each),
    )  # fmt: skip


@_walk_op.register_vmap
def _(info: VmapInfo, in_dims: Sequence[int | None], *given: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Particles of copy b are numbered from particle0 + b K, so that copies never share noise."""
    n_state = len(State._fields)
    others = zip(given[n_state:], in_dims[n_state:], strict=True)
    if any(dim is not None for value, dim in others if isinstance(value, Tensor)):
        raise ValueError("data, preconditioner and step size belong to all particles: torch.vmap cannot map them")
    state = [join(tensor, dim, info.batch_size) for tensor, dim in zip(given[:n_state], in_dims, strict=False)]
    number_on(info, given[list(inspect.signature(_walk).parameters).index("particle0")], len(state[0]))
    walked = _walk_op(*state, *given[n_state:])
    # The state has its particles first; snapshots, and what happened in every step, have them second.
    axes = (0,) * n_state + (1,) * (len(walked) - n_state)
    return tuple(split(tensor, info.batch_size, axis) for tensor, axis in zip(walked, axes, strict=True)), axes


def _check_targets(x: Tensor, y: Tensor, layout: MLPLayout, likelihood: str) -> None:
    if likelihood not in get_args(Likelihood):
        raise ValueError(f"likelihood must be one of {get_args(Likelihood)}; got {likelihood!r}")
    categorical = likelihood == "categorical"
    shape, dtype = (x.shape[:1], torch.int64) if categorical else ((len(x), layout.widths[-1]), x.dtype)
    if y.shape != shape or y.dtype != dtype or y.device != x.device:
        raise ValueError(
            f"y must be {list(shape)}, {dtype} on {x.device}; got {list(y.shape)}, {y.dtype} on {y.device}"
        )


def _check_numbers(n_steps: int, store_every: int, positive: dict[str, float]) -> None:
    if n_steps < 1 or store_every < 0:
        raise ValueError(f"n_steps must be at least 1 and store_every at least 0; got {n_steps} and {store_every}")
    for name, value in positive.items():
        if not 0.0 < value < float("inf"):
            raise ValueError(f"{name} must be positive and finite; got {value}")
