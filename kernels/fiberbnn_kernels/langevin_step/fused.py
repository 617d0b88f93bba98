"""Triton kernels of the two halves of a BAOAB step: one pass over memory each, energies without atomics."""

# Triton's language has types of its own.
# ruff: noqa: ANN001, ANN201, ANN202, D103
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..philox.fused import block_for, normals4
from .reference import Counter, refresh_of

# Partial energies that a program adds at once, and its warps.
TOTAL_BLOCK, TOTAL_WARPS = 1024, 4
# Noise is the reference's bit for bit only without contraction.
OPTIONS = {"enable_fp_fusion": False}
# Numbers that change from call to call, or from network to network, must not each compile a kernel of their own.
# What their divisibility would tell, ALIGNED tells.
RUNTIME = ["n_rows", "n_elements", "n_blocks", "seed", "step", "stream", "particle0"]


@triton.jit
def place_of(n_rows, n_elements, ALIGNED: tl.constexpr, BLOCK: tl.constexpr):
    """Return this program's row and block, where they start in [P] and in [K, P], and which lanes are in the row.

    Programs that share a block of columns are neighbours: what belongs to columns alone is read from memory once.
    """
    row = tl.program_id(0) % n_rows
    block = tl.program_id(0) // n_rows
    if ALIGNED:
        n_elements = n_elements // 4 * 4  # which says to the compiler that rows start at multiples of 16 bytes
    start = block.to(n_elements.dtype) * (4 * BLOCK)
    mask = tl.arange(0, 4 * BLOCK) < n_elements - start
    return row, block, start, row.to(tl.int64) * n_elements + start, mask


@triton.jit
def _half_square(x):
    x = x.to(tl.float64)
    return 0.5 * tl.sum(x * x)


@triton.jit(do_not_specialize=RUNTIME)
def open_kernel(
    particles,
    velocity,
    grad,
    scale,
    added_decay,
    new_particles,
    new_velocity,
    snapshot,
    energies,
    n_rows,
    n_elements,
    n_blocks,
    half_step,
    decay,
    noise,
    seed,
    step,
    stream,
    particle0,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, block, start, at, mask = place_of(n_rows, n_elements, ALIGNED, BLOCK)
    lane = tl.arange(0, 4 * BLOCK)
    x = tl.load(particles + at + lane, mask=mask, other=0.0)
    v = tl.load(velocity + at + lane, mask=mask, other=0.0)
    g = tl.load(grad + at + lane, mask=mask, other=0.0)
    m = tl.load(scale + start + lane, mask=mask, other=0.0)
    energy = energies + row.to(tl.int64) * 3 * n_blocks + block
    tl.store(energy, _half_square(v))
    v -= half_step * g * m
    tl.store(energy + n_blocks, _half_square(v))
    x += half_step * v * m
    if added_decay is not None:
        decay *= tl.load(added_decay + row)
    quad = block * BLOCK + tl.arange(0, BLOCK)
    v = v * decay + noise * normals4(quad, particle0.to(tl.int64) + row, step, stream, seed)
    tl.store(energy + 2 * n_blocks, _half_square(tl.where(mask, v, 0.0)))
    x += half_step * v * m
    tl.store(new_velocity + at + lane, v, mask=mask)
    tl.store(new_particles + at + lane, x, mask=mask)
    if snapshot is not None:
        tl.store(snapshot + at + lane, x, mask=mask)


@triton.jit(do_not_specialize=RUNTIME)
def close_kernel(
    velocity, grad, scale, energies, n_rows, n_elements, n_blocks, half_step, ALIGNED: tl.constexpr, BLOCK: tl.constexpr
):
    row, block, start, at, mask = place_of(n_rows, n_elements, ALIGNED, BLOCK)
    lane = tl.arange(0, 4 * BLOCK)
    v = tl.load(velocity + at + lane, mask=mask, other=0.0)
    g = tl.load(grad + at + lane, mask=mask, other=0.0)
    m = tl.load(scale + start + lane, mask=mask, other=0.0)
    v -= half_step * g * m
    tl.store(velocity + at + lane, v, mask=mask)
    tl.store(energies + row.to(tl.int64) * n_blocks + block, _half_square(v))


@triton.jit(do_not_specialize=["n_blocks"])
def total_kernel(parts, totals, n_blocks, BLOCK: tl.constexpr):
    """Add the parts of each row in an order that depends on their number alone, not on how many rows there are."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, n_blocks, BLOCK):
        total += tl.load(parts + row * n_blocks + first + lane, mask=lane < n_blocks - first, other=0.0)
    tl.store(totals + row, tl.sum(total))


def launch_of(particles: Tensor) -> tuple[tuple[int], int, dict[str, int | bool]]:
    """Return grid, blocks in a row, and constants of a kernel that goes over [K, P] once."""
    n_rows, n_elements = particles.shape
    block, warps = block_for(n_elements)
    n_blocks = triton.cdiv(n_elements, 4 * block)
    return (n_rows * n_blocks,), n_blocks, {"ALIGNED": n_elements % 4 == 0, "BLOCK": block, "num_warps": warps}


def langevin_open(
    particles: Tensor,
    velocity: Tensor,
    grad: Tensor,
    scale: Tensor,
    *,
    step_size: float,
    friction: float,
    counter: Counter,
    added_decay: Tensor | None,
    snapshot: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return new particles and velocities, and energies [K, 3], float64; see `api.langevin_open`."""
    new_particles, new_velocity = torch.empty_like(particles), torch.empty_like(velocity)
    if not particles.numel():
        return new_particles, new_velocity, particles.new_zeros(len(particles), 3, dtype=torch.float64)
    grid, n_blocks, constants = launch_of(particles)
    parts = particles.new_empty(len(particles), 3, n_blocks, dtype=torch.float64)
    with torch.cuda.device_of(particles):
        open_kernel[grid](
            particles,
            velocity,
            grad,
            scale,
            added_decay,
            new_particles,
            new_velocity,
            snapshot,
            parts,
            *particles.shape,
            n_blocks,
            0.5 * step_size,
            *refresh_of(step_size, friction),
            *counter,
            **constants,
            **OPTIONS,
        )
    return new_particles, new_velocity, _total(parts)


def langevin_close(velocity: Tensor, grad: Tensor, scale: Tensor, *, step_size: float) -> Tensor:
    """Kick velocities in place; return their kinetic energies [K], float64; see `api.langevin_close`."""
    if not velocity.numel():
        return velocity.new_zeros(len(velocity), dtype=torch.float64)
    grid, n_blocks, constants = launch_of(velocity)
    parts = velocity.new_empty(len(velocity), n_blocks, dtype=torch.float64)
    with torch.cuda.device_of(velocity):
        close_kernel[grid](
            velocity, grad, scale, parts, *velocity.shape, n_blocks, 0.5 * step_size, **constants, **OPTIONS
        )
    return _total(parts)


def _total(parts: Tensor) -> Tensor:
    """Return the sums of parts over their last axis, float64."""
    n_blocks = parts.shape[-1]
    if n_blocks == 1:
        return parts[..., 0]
    totals = parts.new_empty(parts.shape[:-1])
    with torch.cuda.device_of(parts):
        total_kernel[(totals.numel(),)](parts, totals, n_blocks, BLOCK=TOTAL_BLOCK, num_warps=TOTAL_WARPS, **OPTIONS)
    return totals
