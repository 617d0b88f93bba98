"""Triton kernels that draw the numbers of reference.py, bit for bit."""

# Triton's language has types of its own.
# ruff: noqa: ANN001, ANN201, ANN202, D103
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import reference

_SIN = tl.constexpr(reference.SIN_HALF_PI)
_COS = tl.constexpr(reference.COS_HALF_PI)
_LOG = tl.constexpr(reference.LOG_RATIO)
_LOG_PER_EXPONENT_BIT = tl.constexpr(reference.LOG_PER_EXPONENT_BIT)
_SQRT_HALF_BITS = tl.constexpr(reference.SQRT_HALF_BITS)
_EXPONENT_MASK = tl.constexpr(reference.EXPONENT_MASK)

# (Philox blocks of four words, warps), smallest first: two blocks a thread keep the stores 16 bytes wide.
BLOCKS = ((32, 1), (64, 1), (128, 2), (256, 4))
UNIFORM_BLOCK = 128
# Contracting a product and a sum into one rounding would change bits.
OPTIONS = {"enable_fp_fusion": False}
# Numbers that change from call to call must not each compile a kernel of their own.
_RUNTIME = ["seed", "first_step", "step", "stream", "particle0"]


@triton.jit
def _horner(coefficients: tl.constexpr, LAST: tl.constexpr, x):
    total = x * coefficients[LAST]
    for i in tl.static_range(LAST - 1, 0, -1):
        total = (total + coefficients[i]) * x
    return total + coefficients[0]


@triton.jit
def _box_muller(radius_word, angle_word):
    h = ((angle_word.to(tl.int32, bitcast=True) >> 8).to(tl.float32) + 0.5) * 1.1920928955078125e-07
    z = h * h
    cos = _horner(_COS, 4, z)
    sin = _horner(_SIN, 4, z) * h

    u = ((radius_word >> 8) + 1).to(tl.int32, bitcast=True).to(tl.float32) * 5.960464477539063e-08
    bits = u.to(tl.int32, bitcast=True)
    exponent = (bits - _SQRT_HALF_BITS) & _EXPONENT_MASK
    f = (bits - exponent).to(tl.float32, bitcast=True) - 1.0
    log = _horner(_LOG, 7, f) * f + exponent.to(tl.float32) * _LOG_PER_EXPONENT_BIT
    radius = tl.sqrt_rn(log).to(tl.uint32, bitcast=True) ^ (angle_word << 31)
    radius = radius.to(tl.float32, bitcast=True)
    return radius * cos, radius * sin


@triton.jit
def normals4(quad, particle, step, stream, seed):
    """Return the normals of a block of quads, four to each, in the order of elements: element 4 q + i of quad q.

    Particle, step and stream are numbers or blocks like `quad`; they may be negative by overflow, the words are right.
    """
    zero = (quad * 0).to(tl.uint32)
    particle = (zero + particle).to(tl.uint32)
    step = (zero + step).to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(seed, quad.to(tl.uint32), particle, step, (zero + stream).to(tl.uint32))
    n0, n1 = _box_muller(w0, w1)
    n2, n3 = _box_muller(w2, w3)
    return tl.reshape(tl.join(tl.join(n0, n2), tl.join(n1, n3)), (4 * quad.shape[0],))


@triton.jit(do_not_specialize=_RUNTIME)
def normal_kernel(
    out,
    n_particles,
    n_elements,
    seed,
    first_step,
    stream,
    particle0,
    BLOCK: tl.constexpr,
):
    # One axis of programs: the others stop at 65,535.
    blocks_in_row = tl.cdiv(n_elements, 4 * BLOCK)
    row = tl.program_id(0) // blocks_in_row
    block = tl.program_id(0) % blocks_in_row
    quad = block * BLOCK + tl.arange(0, BLOCK)
    zero = (quad * 0).to(tl.uint32)
    particle = zero + particle0 + row % n_particles
    step = zero + first_step + row // n_particles
    normals = normals4(quad, particle, step, stream, seed)
    element = block.to(tl.int64) * 4 * BLOCK + tl.arange(0, 4 * BLOCK)
    tl.store(out + row.to(tl.int64) * n_elements + element, normals, mask=element < n_elements)


@triton.jit(do_not_specialize=_RUNTIME)
def uniform_kernel(out, n_particles, seed, step, stream, particle0, BLOCK: tl.constexpr):
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    zero = (row * 0).to(tl.uint32)
    particle = (zero + particle0 + row).to(tl.uint32)
    word, _, _, _ = tl.philox(seed, zero, particle, (zero + step).to(tl.uint32), (zero + stream).to(tl.uint32))
    uniform = ((word >> 9).to(tl.int32, bitcast=True).to(tl.float32) + 0.5) * 1.1920928955078125e-07
    tl.store(out + row, uniform, mask=row < n_particles)


def block_for(n_elements: int) -> tuple[int, int]:
    """Return the Philox blocks and warps of a program for rows of so many elements."""
    quads = -(-n_elements // 4)
    return next((choice for choice in BLOCKS if choice[0] >= quads), BLOCKS[-1])


def philox_normal(
    n_particles: int,
    n_elements: int,
    *,
    seed: int,
    steps: range,
    stream: int,
    particle0: int,
    device: torch.device,
) -> Tensor:
    """Return standard normals [T, K, P], float32; see `api.philox_normal_steps`."""
    out = torch.empty(len(steps), n_particles, n_elements, dtype=torch.float32, device=device)
    if out.numel():
        block, warps = block_for(n_elements)
        grid = (len(steps) * n_particles * triton.cdiv(n_elements, 4 * block),)
        with torch.cuda.device_of(out):
            normal_kernel[grid](
                out,
                n_particles,
                n_elements,
                seed,
                steps.start,
                stream,
                particle0,
                BLOCK=block,
                num_warps=warps,
                **OPTIONS,
            )
    return out


def philox_uniform(
    n_particles: int, *, seed: int, step: int, stream: int, particle0: int, device: torch.device
) -> Tensor:
    """Return uniforms [K], float32; see `api.philox_uniform`."""
    out = torch.empty(n_particles, dtype=torch.float32, device=device)
    if n_particles:
        grid = (triton.cdiv(n_particles, UNIFORM_BLOCK),)
        with torch.cuda.device_of(out):
            uniform_kernel[grid](
                out, n_particles, seed, step, stream, particle0, BLOCK=UNIFORM_BLOCK, num_warps=1, **OPTIONS
            )
    return out
