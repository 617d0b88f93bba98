"""The walk of a perceptron in one launch: one program a particle, all its steps."""

# Triton's language has types of its own.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from ..langevin_step.reference import refresh_of
from ..mlp.gradient import nll_and_grad
from ..mlp.table import Launch, places
from ..philox.fused import normals4
from .reference import Moves, Posterior, State, Step

# Contracting a product and a sum into one rounding would change bits of the noise. Of its own accord the assembler
# would spill registers so that more programs fit on a multiprocessor than are launched.
OPTIONS = {"enable_fp_fusion": False, "maxnreg": 255}
# Numbers that change from call to call, or from net to net, must not each compile a kernel of their own.
_RUNTIME = [
    "n_particles", "n_params", "n_rows", "n_out", "seed", "step0", "particle0",
    "refresh_stream", "revive_stream", "n_steps", "store_every",
]  # fmt: skip


@triton.jit(do_not_specialize=_RUNTIME)
def walk_kernel(
    particles, velocity, energy, grad, x, y, scale, place, work,
    out_particles, out_velocity, out_energy, out_grad, snapshots, energies, acceptance, moved, heat,
    n_particles, n_params, row, n_rows, n_out,
    noise_precision, nll_constant, prior_precision, half_step, decay, spread, energy_error_limit,
    seed, step0, particle0, refresh_stream, revive_stream, n_steps, store_every,
    HIDDEN: tl.constexpr, IN: tl.constexpr, WIDTH: tl.constexpr, OUT: tl.constexpr, BM: tl.constexpr,
    PADDED: tl.constexpr, FB: tl.constexpr, ACT: tl.constexpr, CATEGORICAL: tl.constexpr,
):  # fmt: skip
    """Take all steps of one particle.

    Its `work` holds five rows of `row` numbers, P rounded up, zeros beyond P: two positions, their two gradients, the
    velocity. A step goes from one position to the other, so that undoing it is not going. Behind them lie the weights
    as the data tiles want them, padded, and the gradient of the NLL; `place` says where an element is in those.
    """
    k = tl.program_id(0)
    mine = k.to(tl.int64) * n_params
    work += k.to(tl.int64) * (5 * row + 2 * PADDED)
    v_at = work + 4 * row
    weights = work + 5 * row
    nll_grad = weights + PADDED
    for start in range(0, PADDED, FB):
        at = start + tl.arange(0, FB)
        tl.store(weights + at, tl.zeros((FB,), tl.float32), mask=at < PADDED)
    for start in range(0, n_params, FB):
        at = start + tl.arange(0, FB)
        real = at < n_params
        g = tl.load(grad + mine + at, mask=real, other=0.0)
        tl.store(work + at, tl.load(particles + mine + at, mask=real, other=0.0), mask=at < row)
        tl.store(work + 2 * row + at, g, mask=at < row)
        tl.store(work + 3 * row + at, g, mask=at < row)
        tl.store(v_at + at, tl.load(velocity + mine + at, mask=real, other=0.0), mask=at < row)
    u = tl.load(energy + k)
    here = 0
    info = k.to(tl.int64)
    slot = k.to(tl.int64)
    tl.debug_barrier()

    for t in range(n_steps):
        old_x, old_g = work + here * row, work + (2 + here) * row
        new_x, new_g = work + (1 - here) * row, work + (3 - here) * row
        gained = tl.full((), 0.0, tl.float64)
        square_v = tl.full((), 0.0, tl.float64)
        square_x = tl.full((), 0.0, tl.float64)
        for start in range(0, n_params, FB):
            at = start + tl.arange(0, FB)
            used = at < row
            s = tl.load(scale + at, mask=used, other=0.0)
            v = tl.load(v_at + at, mask=used, other=0.0)
            kicked = v - half_step * tl.load(old_g + at, mask=used, other=0.0) * s
            gained += tl.sum((kicked - v) * (kicked + v), 0).to(tl.float64)
            moving = tl.load(old_x + at, mask=used, other=0.0) + half_step * kicked * s
            xi = normals4(start // 4 + tl.arange(0, FB // 4), particle0 + k, step0 + t, refresh_stream, seed)
            v = tl.where(at < n_params, decay * kicked + spread * xi, 0.0)
            moving += half_step * v * s
            square_v += tl.sum(v * v, 0).to(tl.float64)
            square_x += tl.sum(moving * moving, 0).to(tl.float64)
            tl.store(v_at + at, v, mask=used)
            tl.store(new_x + at, moving, mask=used)
            tl.store(weights + tl.load(place + at, mask=used, other=0), moving, mask=at < n_params)
        tl.debug_barrier()

        nll = nll_and_grad(
            weights, nll_grad, x, y, n_rows, n_out, noise_precision, HIDDEN, IN, WIDTH, OUT, BM, ACT, CATEGORICAL
        )
        tl.debug_barrier()

        for start in range(0, n_params, FB):
            at = start + tl.arange(0, FB)
            used = at < row
            g = tl.load(nll_grad + tl.load(place + at, mask=used, other=0), mask=at < n_params, other=0.0)
            g += prior_precision * tl.load(new_x + at, mask=used, other=0.0)
            v = tl.load(v_at + at, mask=used, other=0.0)
            kicked = v - half_step * g * tl.load(scale + at, mask=used, other=0.0)
            gained += tl.sum((kicked - v) * (kicked + v), 0).to(tl.float64)
            tl.store(new_g + at, g, mask=used)
            tl.store(v_at + at, kicked, mask=used)

        new_u = (nll + nll_constant + 0.5 * prior_precision * square_x).to(tl.float32)
        error = (new_u.to(tl.float64) - u + 0.5 * gained).to(tl.float32)
        accepted = error < energy_error_limit
        chance = tl.exp(-tl.where(error > 0.0, error, 0.0))
        tl.store(acceptance + info, tl.where(error == error, chance, 0.0))
        tl.store(moved + info, accepted.to(tl.int8))
        tl.store(heat + info, square_v.to(tl.float32) / n_params)
        tl.debug_barrier()
        if accepted:
            here = 1 - here
            u = new_u
        else:
            for start in range(0, n_params, FB):
                at = start + tl.arange(0, FB)
                xi = normals4(start // 4 + tl.arange(0, FB // 4), particle0 + k, step0 + t, revive_stream, seed)
                tl.store(v_at + at, tl.where(at < n_params, xi, 0.0), mask=at < row)
        tl.store(energies + info, u)
        info += n_particles
        if (t + 1) % store_every == 0:
            for start in range(0, n_params, FB):
                at = start + tl.arange(0, FB)
                point = tl.load(work + here * row + at, mask=at < row, other=0.0)
                tl.store(snapshots + slot * n_params + at, point, mask=at < n_params)
            slot += n_particles
        tl.debug_barrier()

    for start in range(0, n_params, FB):
        at = start + tl.arange(0, FB)
        real = at < n_params
        tl.store(out_particles + mine + at, tl.load(work + here * row + at, mask=real), mask=real)
        tl.store(out_grad + mine + at, tl.load(work + (2 + here) * row + at, mask=real), mask=real)
        tl.store(out_velocity + mine + at, tl.load(v_at + at, mask=real), mask=real)
    tl.store(out_energy + k, u)


def mlp_walk(
    state: State, posterior: Posterior, scale: Tensor, moves: Moves, launch: Launch
) -> tuple[State, Tensor, Step]:
    """Return what `reference.mlp_walk` returns, for float32 and contiguous tensors of a perceptron in the table."""
    layout, categorical = posterior.layout, posterior.likelihood == "categorical"
    size = launch.size
    particles, energy = state.particles, state.energy
    n_particles, n_params = particles.shape
    row = -(-n_params // 16) * 16
    x = pad(posterior.x, (0, size.inputs - layout.widths[0]))
    n_snapshots = moves.n_steps // moves.store_every if moves.store_every else 0
    out = State(*(torch.empty_like(tensor) for tensor in state))
    snapshots = particles.new_empty(n_snapshots, n_particles, n_params)
    energies, acceptance, heat = (energy.new_empty(moves.n_steps, n_particles) for _ in range(3))
    moved = energy.new_empty(moves.n_steps, n_particles, dtype=torch.int8)
    constant = 0.0
    if not categorical:
        constant = 0.5 * posterior.y.numel() * (math.log(2 * math.pi) - math.log(posterior.noise_precision))
    decay, spread = refresh_of(moves.step_size, moves.friction)
    with torch.cuda.device_of(particles):
        walk_kernel[(n_particles,)](
            *state, x, posterior.y, pad(scale, (0, row - n_params)), places(layout, size, row, particles.device),
            particles.new_empty(n_particles, 5 * row + 2 * size.n_params), *out, snapshots, energies,
            acceptance, moved, heat, n_particles, n_params, row, len(x), layout.widths[-1],
            posterior.noise_precision, constant, posterior.prior_precision, 0.5 * moves.step_size, decay, spread,
            moves.energy_error_limit, moves.seed, moves.step0, moves.particle0, moves.refresh_stream,
            moves.revive_stream, moves.n_steps, moves.store_every or moves.n_steps + 1,
            HIDDEN=size.n_hidden, IN=size.inputs, WIDTH=size.width, OUT=size.outputs, PADDED=size.n_params,
            BM=launch.rows, FB=launch.flat, ACT=layout.activation, CATEGORICAL=categorical, num_warps=launch.warps,
            num_stages=launch.stages, **OPTIONS,
        )  # fmt: skip
    return out, snapshots, Step(energies, acceptance, moved.bool(), heat)
