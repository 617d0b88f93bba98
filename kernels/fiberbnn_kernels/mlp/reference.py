"""Multilayer perceptrons for many weight vectors at once, in plain torch; this file is the definition.

Activations lie transposed, [K, h, N], so that the softmax runs over rows and every pass is long. Each buffer
has one more row, of ones: the bias is then a column of the weight matrix, and neither adding it nor its
gradient costs a pass of its own over the activations. Particles and rows are taken in blocks that stay in
cache, so memory does not grow with K or N.
"""

import math
import threading
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .activation import ACTIVATION_PASSES
from .layout import MLPLayout

Likelihood = Literal["categorical", "gaussian"]

# Measured best on a core with 2 MB of second-level cache: smaller blocks lose more to the cost of the calls.
# A GPU wants few large launches instead.
CPU_BLOCK_BYTES = 1 << 22
GPU_BLOCK_BYTES = 1 << 28
KEPT_WORKSPACES = 4


class BlockPlan(NamedTuple):
    """How many particles and data rows a block holds."""

    particles: int
    rows: int


def plan_blocks(layout: MLPLayout, n_particles: int, n_rows: int, element_bytes: int, budget: int) -> BlockPlan:
    """Return the block whose activations fit in `budget` bytes.

    Rows are split only where one particle alone does not fit, so the split of the rows, and with it the order
    of every sum, does not depend on how many particles there are.
    """
    copies = 2 if ACTIVATION_PASSES[layout.activation].keeps_input else 1
    width = copies * sum(h + 1 for h in layout.hidden) + max(layout.widths[1:]) + layout.widths[-1]
    rows_that_fit = max(64, budget // (width * element_bytes))
    row_blocks = math.ceil(n_rows / rows_that_fit)
    rows = math.ceil(n_rows / row_blocks)
    particles_that_fit = max(1, budget // (rows * width * element_bytes))
    return BlockPlan(math.ceil(n_particles / math.ceil(n_particles / particles_that_fit)), rows)


class _Workspace:
    """Buffers of one block: weights with the bias as last column, activations with a last row of ones."""

    def __init__(self, layout: MLPLayout, plan: BlockPlan, like: Tensor) -> None:
        k, rows = plan
        self.layers = tuple(layout.layers())
        self.passes = ACTIVATION_PASSES[layout.activation]
        self.activations = [like.new_ones(k, h + 1, rows) for h in layout.hidden]
        keeps_input = self.passes.keeps_input
        self.preactivations = [like.new_empty(k, h, rows) for h in layout.hidden] if keeps_input else []
        self.output = like.new_empty(k, layout.widths[-1], rows)
        self.gradient = like.new_empty(k * max(layout.hidden, default=0) * rows)

    def weights(self, flat: Tensor) -> list[Tensor]:
        """Each layer's weights and bias side by side, [k, n_out, n_in + 1]."""
        matrices = [flat[:, at.weight : at.bias].view(-1, at.n_out, at.n_in) for at in self.layers]
        biases = [flat[:, at.bias : at.bias + at.n_out, None] for at in self.layers]
        return [torch.cat(parts, dim=-1) for parts in zip(matrices, biases, strict=True)]

    def forward(self, weights: list[Tensor], x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Run the layers on x [D + 1, rows] and return the outputs [k, C, rows].

        With them come each layer's input, and what the backward of each activation needs.
        """
        k, rows = weights[0].shape[0], x.shape[-1]
        inputs, saved = [x.expand(k, -1, -1)], []
        for i, buffer in enumerate(self.activations):
            a = buffer[:k, :, :rows]
            z = self.preactivations[i][:k, :, :rows] if self.passes.keeps_input else a[:, :-1]
            torch.bmm(weights[i], inputs[-1], out=z)
            self.passes.forward(z, a[:, :-1])
            inputs.append(a)
            saved.append(z)
        return torch.bmm(weights[-1], inputs[-1], out=self.output[:k, :, :rows]), inputs, saved


class _Kept(threading.local):
    """The last workspaces of this thread: memory fresh from the system costs more than its use."""

    def __init__(self) -> None:
        self.spaces: dict[tuple[MLPLayout, BlockPlan, torch.dtype], _Workspace] = {}


_kept = _Kept()


def workspace(layout: MLPLayout, plan: BlockPlan, like: Tensor) -> _Workspace:
    """Return a workspace, on the CPU a kept one; elsewhere the caching allocator serves as well."""
    if like.device.type != "cpu" or type(like) is not Tensor:
        return _Workspace(layout, plan, like)
    key = (layout, plan, like.dtype)
    space = _kept.spaces.pop(key, None)
    if space is None:
        # Buffers born in inference mode could not be written to outside it.
        with torch.inference_mode(False):
            space = _Workspace(layout, plan, like)
    _kept.spaces[key] = space
    if len(_kept.spaces) > KEPT_WORKSPACES:
        del _kept.spaces[next(iter(_kept.spaces))]
    return space


def blocks(total: int, size: int) -> Iterator[slice]:
    """Yield slices of `size` that make up `total`; the last may be shorter."""
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def with_ones(x: Tensor) -> Tensor:
    """Transpose the inputs [N, D] to [D + 1, N], the last row ones."""
    ones_below = x.new_ones(x.shape[1] + 1, x.shape[0])
    ones_below[:-1] = x.T
    return ones_below


def _budget(x: Tensor, block_bytes: int | None) -> int:
    return block_bytes or (CPU_BLOCK_BYTES if x.device.type == "cpu" else GPU_BLOCK_BYTES)


def mlp_forward(weights: Tensor, x: Tensor, layout: MLPLayout, *, block_bytes: int | None = None) -> Tensor:
    """Return the outputs [S, N, C] of the perceptron for each weight vector; see `api.mlp_forward`."""
    n_samples, n_rows = weights.shape[0], x.shape[0]
    plan = plan_blocks(layout, n_samples, n_rows, x.element_size(), _budget(x, block_bytes))
    space = workspace(layout, plan, x)
    out = x.new_empty(n_samples, n_rows, layout.widths[-1])
    x_ones = with_ones(x)
    for particles in blocks(n_samples, plan.particles):
        block = space.weights(weights[particles])
        for rows in blocks(n_rows, plan.rows):
            out[particles, rows] = space.forward(block, x_ones[:, rows])[0].mT
    return out


def mlp_nll_and_grad(
    weights: Tensor,
    x: Tensor,
    y: Tensor,
    layout: MLPLayout,
    *,
    likelihood: Likelihood,
    noise_precision: float = 1.0,
    block_bytes: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the NLL [K] and its gradient [K, P]; see `api.mlp_nll_and_grad`."""
    n_particles, n_rows = weights.shape[0], x.shape[0]
    plan = plan_blocks(layout, n_particles, n_rows, x.element_size(), _budget(x, block_bytes))
    space = workspace(layout, plan, x)
    nll, grad = x.new_zeros(n_particles), torch.empty_like(weights, memory_format=torch.contiguous_format)
    x_ones, target = with_ones(x), _transposed_target(y, x, layout, likelihood)

    for particles in blocks(n_particles, plan.particles):
        block = space.weights(weights[particles])
        grads = [torch.empty_like(w) for w in block]
        k = block[0].shape[0]
        for rows in blocks(n_rows, plan.rows):
            delta, inputs, saved = space.forward(block, x_ones[:, rows])
            if likelihood == "categorical":
                nll[particles] += _categorical_(delta, y[rows], target[:, rows])
            else:
                nll[particles] += _gaussian_(delta, target[:, rows], noise_precision)
            beta = float(rows.start > 0)
            for i in reversed(range(len(block))):
                grads[i].baddbmm_(delta, inputs[i].mT, beta=beta)
                if i == 0:
                    break
                a = inputs[i][:, :-1]
                grad_a = space.gradient[: a.numel()].view(a.shape)
                torch.bmm(block[i][:, :, :-1].mT, delta, out=grad_a)
                # The activation is not needed again: its buffer takes delta, and space.gradient is free.
                space.passes.backward(grad_a, saved[i - 1], a)
                delta = a
        for at, g in zip(space.layers, grads, strict=True):
            grad[particles, at.weight : at.bias].view(k, at.n_out, at.n_in).copy_(g[:, :, :-1])
            grad[particles, at.bias : at.bias + at.n_out] = g[:, :, -1]
    if likelihood == "gaussian":
        nll += 0.5 * y.numel() * (math.log(2 * math.pi) - math.log(noise_precision))
    return nll, grad


def _transposed_target(y: Tensor, x: Tensor, layout: MLPLayout, likelihood: Likelihood) -> Tensor:
    """One-hot labels or real targets, [C, N]."""
    if likelihood == "gaussian":
        return y.T
    return x.new_zeros(layout.widths[-1], x.shape[0]).scatter_(0, y[None], 1.0)


def _categorical_(logits: Tensor, labels: Tensor, one_hot: Tensor) -> Tensor:
    """Return the NLL [k] of logits [k, C, rows] and overwrite them with its gradient, softmax - one_hot."""
    log_probs = torch.log_softmax(logits, dim=1)
    nll = log_probs.gather(1, labels.expand(logits.shape[0], 1, -1)).sum(dim=(1, 2)).neg_()
    torch.exp(log_probs, out=logits).sub_(one_hot)
    return nll


def _gaussian_(mean: Tensor, target: Tensor, precision: float) -> Tensor:
    """Return the NLL [k] of means [k, C, rows] without its constants and overwrite them with its gradient."""
    mean.sub_(target)
    nll = mean.square().sum(dim=(1, 2)).mul_(0.5 * precision)
    mean.mul_(precision)
    return nll
