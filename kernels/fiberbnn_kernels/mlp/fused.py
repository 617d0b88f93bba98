"""Negative log-likelihoods of perceptrons and their gradients, a program for every particle and share of the data."""

# Triton's language has types of its own.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from .gradient import nll_and_grad
from .layout import MLPLayout
from .reference import Likelihood
from .table import Launch, origins, places

# Weights that a program adds up, and its warps.
ADD_BLOCK, ADD_WARPS = 256, 2
# Of its own accord the assembler would spill registers so that more programs fit than are launched.
OPTIONS = {"enable_fp_fusion": False, "maxnreg": 255}
# Numbers that change from call to call, or from net to net, must not each compile a kernel of their own.
_RUNTIME = ["n_particles", "n_params", "n_rows", "n_out", "share"]


@triton.jit(do_not_specialize=_RUNTIME)
def share_kernel(
    weights, x, y, origin, work, grads, nlls, n_particles, n_params, n_rows, n_out, share, noise_precision,
    HIDDEN: tl.constexpr, IN: tl.constexpr, WIDTH: tl.constexpr, OUT: tl.constexpr, BM: tl.constexpr,
    PADDED: tl.constexpr, FB: tl.constexpr, ACT: tl.constexpr, CATEGORICAL: tl.constexpr,
):  # fmt: skip
    """Store the NLL of one particle on one share of the rows, and its gradient, padded as `work` is."""
    k, g = tl.program_id(0), tl.program_id(1)
    at_nll = g.to(tl.int64) * n_particles + k
    work += at_nll * PADDED
    weights += k.to(tl.int64) * n_params
    for start in range(0, PADDED, FB):
        at = start + tl.arange(0, FB)
        source = tl.load(origin + at, mask=at < PADDED, other=-1)
        tl.store(work + at, tl.load(weights + source, mask=source >= 0, other=0.0), mask=at < PADDED)
    tl.debug_barrier()
    first = g * share
    x += first.to(tl.int64) * IN
    y += first.to(tl.int64) * (1 if CATEGORICAL else n_out)
    nll = nll_and_grad(
        work, grads + at_nll * PADDED, x, y, tl.minimum(share, n_rows - first), n_out, noise_precision,
        HIDDEN, IN, WIDTH, OUT, BM, ACT, CATEGORICAL,
    )  # fmt: skip
    tl.store(nlls + at_nll, nll)


@triton.jit(do_not_specialize=["n_particles", "n_params", "n_shares"])
def add_kernel(
    grads, nlls, place, grad, nll, n_particles, n_params, n_shares, nll_constant,
    PADDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add the shares of one particle, from the first to the last."""
    k = tl.program_id(0) % n_particles
    block = tl.program_id(0) // n_particles
    at = block * BLOCK + tl.arange(0, BLOCK)
    real = at < n_params
    grads += k.to(tl.int64) * PADDED + tl.load(place + at, mask=real, other=0)
    nlls += k
    total = tl.zeros((BLOCK,), tl.float32)
    total_nll = tl.full((), 0.0, tl.float64)
    for _ in range(n_shares):
        total += tl.load(grads, mask=real, other=0.0)
        total_nll += tl.load(nlls)
        grads += n_particles.to(tl.int64) * PADDED
        nlls += n_particles
    tl.store(grad + k.to(tl.int64) * n_params + at, total, mask=real)
    tl.store(nll + k, (total_nll + nll_constant).to(tl.float32), mask=block == 0)


def mlp_nll_and_grad(
    weights: Tensor,
    x: Tensor,
    y: Tensor,
    layout: MLPLayout,
    *,
    likelihood: Likelihood,
    noise_precision: float,
    launch: Launch,
    n_shares: int,
) -> tuple[Tensor, Tensor]:
    """Return the NLL [K] and its gradient [K, P] for float32 and contiguous tensors of a perceptron in the table."""
    size, device = launch.size, weights.device
    n_particles, n_params = weights.shape
    if layout.widths[0] < size.inputs:
        x = pad(x, (0, size.inputs - layout.widths[0]))
    share = launch.rows * -(-launch.tiles(len(x)) // n_shares)
    work, grads = weights.new_empty(2, n_shares, n_particles, size.n_params)
    nlls = weights.new_empty(n_shares, n_particles, dtype=torch.float64)
    nll, grad = weights.new_empty(n_particles), torch.empty_like(weights)
    categorical = likelihood == "categorical"
    constant = 0.0
    if not categorical:
        constant = 0.5 * y.numel() * (math.log(2 * math.pi) - math.log(noise_precision))
    with torch.cuda.device_of(weights):
        share_kernel[(n_particles, n_shares)](
            weights, x, y, origins(layout, size, device), work, grads, nlls, n_particles, n_params, len(x),
            layout.widths[-1], share, noise_precision, HIDDEN=size.n_hidden, IN=size.inputs, WIDTH=size.width,
            OUT=size.outputs, BM=launch.rows, PADDED=size.n_params, FB=launch.flat, ACT=layout.activation,
            CATEGORICAL=categorical, num_warps=launch.warps, num_stages=launch.stages, **OPTIONS,
        )  # fmt: skip
        add_kernel[(n_particles * triton.cdiv(n_params, ADD_BLOCK),)](
            grads, nlls, places(layout, size, n_params, device), grad, nll, n_particles, n_params, n_shares,
            constant, PADDED=size.n_params, BLOCK=ADD_BLOCK, num_warps=ADD_WARPS,
            enable_fp_fusion=False,
        )  # fmt: skip
    return nll, grad
