"""Normal and uniform numbers that depend on a counter alone: the same on any device, rank and chunk."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..backend import Impl, choose_fused
from ..mapped import VmapInfo, copies_token, number_on, split
from . import reference

WORD_END = 1 << 32
SEED_END = 1 << 63


def philox_normal(
    n_particles: int,
    n_elements: int,
    *,
    seed: int,
    step: int,
    stream: int,
    particle0: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """Return the standard normals of one step, [K, P].

    A draw is a function of (seed, element, particle0 + row, step, stream): it does not change with K, P, the
    device or the implementation. Draws are float32 numbers, at most 5.77 in size, in every dtype.

    Under `torch.vmap` it obeys `randomness`, as torch's own random functions: "different" numbers the rows of all
    copies, row k of copy b as particle0 + b K + k; with "same" all copies have one draw; by default torch refuses.

    Args:
        n_particles: rows, K.
        n_elements: columns, P.
        seed: from 0 to 2^63 - 1.
        step: which draw of the stream, from 0 to 2^32 - 1.
        stream: keeps the uses of one seed apart, from 0 to 2^32 - 1.
        particle0: global number of the first row; a walk in chunks passes each chunk's first particle.
        dtype: of the result, rounded from float32.
        device: of the result; the current default device if None.
        impl: "auto" (fused where there is a GPU and Triton), "reference" or "fused".

    Raises:
        ValueError: if a number is out of its range, the dtype is not a float type, or `impl` is unknown.
        RuntimeError: if `impl` is "fused" and the kernel cannot run there.

    Source: Salmon, Moraes, Dror and Shaw (2011), doi:10.1145/2063384.2063405.
    """
    check_counter(seed, step, 1, stream, particle0, n_particles, n_elements, dtype)
    place = torch.empty(0, device=device).device
    fused = choose_fused(impl, place)
    draws = _normal_op(n_particles, n_elements, seed, step, 1, stream, particle0, place, fused, copies_token())
    return draws[0].to(dtype)


def philox_normal_steps(
    n_particles: int,
    n_elements: int,
    *,
    seed: int,
    steps: range,
    stream: int,
    particle0: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """Return the standard normals of consecutive steps, [T, K, P]: what `philox_normal` gives for each.

    On the CPU small shapes cost mostly calls: several steps at once are up to five times cheaper.

    Args:
        n_particles: rows, K.
        n_elements: columns, P.
        seed: as in `philox_normal`, like the arguments not named here.
        steps: T steps one after the other, `range(first, end)`.
        stream: keeps the uses of one seed apart.
        particle0: global number of the first row.
        dtype: of the result.
        device: of the result.
        impl: "auto", "reference" or "fused".

    Raises:
        ValueError: as `philox_normal`, or if `steps` does not count by one.
        RuntimeError: as `philox_normal`.
    """
    if steps.step != 1:
        raise ValueError(f"steps must follow one another; got {steps}")
    first, count = steps.start, len(steps)
    check_counter(seed, first, count, stream, particle0, n_particles, n_elements, dtype)
    place = torch.empty(0, device=device).device
    fused = choose_fused(impl, place)
    draws = _normal_op(n_particles, n_elements, seed, first, count, stream, particle0, place, fused, copies_token())
    return draws.to(dtype)


def philox_uniform(
    n_particles: int,
    *,
    seed: int,
    step: int,
    stream: int,
    particle0: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """Return one uniform number inside (0, 1) for each particle, [K]: multiples of 2^-24, never 0 or 1.

    It reads the same words as `philox_normal`, so give it a stream of its own.

    Args:
        n_particles: K.
        seed: as in `philox_normal`, like the arguments not named here.
        step: which draw of the stream.
        stream: keeps the uses of one seed apart.
        particle0: global number of the first particle.
        dtype: float32 or float64; narrower types could round to 1.
        device: of the result.
        impl: "auto", "reference" or "fused".

    Raises:
        ValueError: as `philox_normal`.
        RuntimeError: as `philox_normal`.
    """
    check_counter(seed, step, 1, stream, particle0, n_particles, 1, dtype)
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"uniform numbers come as float32 or float64; got {dtype}")
    place = torch.empty(0, device=device).device
    fused = choose_fused(impl, place)
    return _uniform_op(n_particles, seed, step, stream, particle0, place, fused, copies_token()).to(dtype)


# Opaque to the compiler on purpose: nothing here could be fused, and a triton_op needs a driver to be traced.
@torch.library.custom_op("fiberbnn::philox_normal", mutates_args=())
def _normal_op(
    n_particles: int,
    n_elements: int,
    seed: int,
    first_step: int,
    n_steps: int,
    stream: int,
    particle0: int,
    device: torch.device,
    fused: bool,
    copies: Tensor,
) -> Tensor:
    steps = range(first_step, first_step + n_steps)
    if fused:
        from . import fused as kernels

        return kernels.philox_normal(
            n_particles,
            n_elements,
            seed=seed,
            steps=steps,
            stream=stream,
            particle0=particle0,
            device=device,
        )
    draws = reference.philox_normal(n_particles, n_elements, seed=seed, steps=steps, stream=stream, particle0=particle0)
    return draws.to(device)


@_normal_op.register_fake
def _(
    n_particles: int,
    n_elements: int,
    seed: int,
    first_step: int,
    n_steps: int,
    stream: int,
    particle0: int,
    device: torch.device,
    fused: bool,
    copies: Tensor,
) -> Tensor:
    return torch.empty(n_steps, n_particles, n_elements, dtype=torch.float32, device=device)


@torch.library.custom_op("fiberbnn::philox_uniform", mutates_args=())
def _uniform_op(
    n_particles: int,
    seed: int,
    step: int,
    stream: int,
    particle0: int,
    device: torch.device,
    fused: bool,
    copies: Tensor,
) -> Tensor:
    if fused:
        from . import fused as kernels

        return kernels.philox_uniform(
            n_particles, seed=seed, step=step, stream=stream, particle0=particle0, device=device
        )
    draws = reference.philox_uniform(n_particles, seed=seed, step=step, stream=stream, particle0=particle0)
    return draws.to(device)


@_uniform_op.register_fake
def _(
    n_particles: int,
    seed: int,
    step: int,
    stream: int,
    particle0: int,
    device: torch.device,
    fused: bool,
    copies: Tensor,
) -> Tensor:
    return torch.empty(n_particles, dtype=torch.float32, device=device)


def _copies_rule(op: Any, axis: int) -> Callable[..., tuple[Tensor, int]]:
    """Return the rule of `torch.vmap`: all copies are drawn at once, particles on an axis."""

    def rule(info: VmapInfo, in_dims: Sequence[int | None], n_particles: int, *others: Any) -> tuple[Tensor, int]:
        *others_but_last, copies = others
        number_on(info, others[-4], n_particles * info.batch_size)
        draws = op(n_particles * info.batch_size, *others_but_last, copies.select(in_dims[-1], 0))
        return split(draws, info.batch_size, axis), axis

    return rule


_normal_op.register_vmap(_copies_rule(_normal_op, 1))
_uniform_op.register_vmap(_copies_rule(_uniform_op, 0))


def check_counter(
    seed: int,
    first_step: int,
    n_steps: int,
    stream: int,
    particle0: int,
    n_particles: int,
    n_elements: int,
    dtype: torch.dtype,
) -> None:
    """Raise ValueError if a number is out of its range, or the dtype is no float type; see `philox_normal`."""
    if not 0 <= seed < SEED_END:
        raise ValueError(f"seed must be from 0 to 2^63 - 1; got {seed}")
    if first_step < 0 or first_step + n_steps > WORD_END:
        raise ValueError(f"steps must lie between 0 and 2^32; got {n_steps} from step {first_step}")
    if not 0 <= stream < WORD_END:
        raise ValueError(f"stream must be from 0 to 2^32 - 1; got {stream}")
    if n_particles < 0 or particle0 < 0 or particle0 + n_particles > WORD_END:
        raise ValueError(f"particles must lie between 0 and 2^32; got {n_particles} particles from number {particle0}")
    if not 0 <= n_elements <= 4 * WORD_END:
        raise ValueError(f"n_elements must be from 0 to 2^34; got {n_elements}")
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be a float type; got {dtype}")
