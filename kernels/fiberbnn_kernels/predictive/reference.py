"""Sums over weight samples for predictions, in plain torch; this file is the definition.

Outputs lie transposed, [k, C, rows], as the blocked perceptron makes them: then the softmax runs over a few long rows
and not over many short ones. Samples come in blocks that stay in cache; a block's sums are taken in the dtype of the
outputs, and blocks are merged in float64, always in the same order.
"""

import math

import torch
from torch import Tensor

from ..mlp import MLPLayout
from ..mlp.reference import CPU_BLOCK_BYTES, GPU_BLOCK_BYTES, blocks, plan_blocks, with_ones, workspace
from .sums import merged_moments

# Stands for the log of zero: finite, as zero times it must be zero.
LEAST_LOG = -1e30
LOG_2PI = math.log(2 * math.pi)
# Of a block's outputs; their average takes about four times as much.
CPU_OUTPUT_BYTES = 1 << 19


class _Moments:
    """Mean and squared deviations over samples of values [k, C, rows], for every row block apart."""

    def __init__(self, n_columns: int, n_rows: int, like: Tensor) -> None:
        # Not one allocation: an operator's results must not share memory.
        self.mean = like.new_zeros(n_columns, n_rows, dtype=torch.float64)
        self.squares = torch.zeros_like(self.mean)

    def add_(self, rows: slice, n_before: int, count: int, mean: Tensor, squares: Tensor) -> None:
        """Take in a block with its own mean [C, rows] and squares, after `n_before` samples."""
        mean, squares = mean.double(), squares.double()
        if n_before:
            mine = n_before, self.mean[:, rows], self.squares[:, rows]
            _, mean, squares = merged_moments(mine, (count, mean, squares))
        self.mean[:, rows], self.squares[:, rows] = mean, squares

    def result(self) -> tuple[Tensor, Tensor]:
        """Return mean and squared deviations, [N, C]."""
        return self.mean.T.contiguous(), self.squares.T.contiguous()


class ClassTotals:
    """Sums over samples of class probabilities, [C, N] and [N], float64."""

    def __init__(self, n_classes: int, n_rows: int, like: Tensor) -> None:
        self.moments = _Moments(n_classes, n_rows, like)
        self.log_sum = like.new_full((n_classes, n_rows), -math.inf, dtype=torch.float64)
        self.entropy = like.new_zeros(n_rows, dtype=torch.float64)

    def add_(self, rows: slice, n_before: int, logits: Tensor) -> None:
        """Take in logits [k, C, rows] of k further samples."""
        # Mutual information is a small difference of entropies: p, p log p and their means have to fit one another far
        # beyond float32, whatever the rounding of the logarithms themselves.
        log_p = torch.log_softmax(logits, dim=1).clamp_min_(LEAST_LOG).double()
        peak = log_p.amax(dim=0)
        p = (log_p - peak).exp_()
        total = p.sum(dim=0)
        log_sum = peak + total.log()
        self.log_sum[:, rows] = torch.logaddexp(self.log_sum[:, rows], log_sum)
        p *= peak.exp()
        self.entropy[rows] -= log_p.mul_(p).sum(dim=(0, 1))
        mean = p.mean(dim=0)
        self.moments.add_(rows, n_before, len(p), mean, p.sub_(mean).square_().sum(dim=0))

    def result(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return mean, squares, log of sums [N, C], and entropies [N]."""
        mean, squares = self.moments.result()
        return mean, squares, self.log_sum.T.contiguous(), self.entropy


class GaussianTotals:
    """Sums over samples of Gaussian outputs, [C, N] and [N], float64.

    Args:
        outputs: how many there are: C, or 2 C with the log-variances.
        noise_variance: [C], or None if the second half of the outputs are log-variances.
        targets: [N, C], or None.
        n_rows: N.
        like: gives dtype and device.
    """

    def __init__(
        self, outputs: int, noise_variance: Tensor | None, targets: Tensor | None, n_rows: int, like: Tensor
    ) -> None:
        self.width = outputs if noise_variance is not None else outputs // 2
        self.variance = None if noise_variance is None else noise_variance[:, None]
        self.targets = None if targets is None else targets.T.contiguous()
        self.moments = _Moments(self.width, n_rows, like)
        self.noise = like.new_zeros(self.width, n_rows, dtype=torch.float64)
        self.density = like.new_full((n_rows if targets is not None else 0,), -math.inf, dtype=torch.float64)

    def add_(self, rows: slice, n_before: int, outputs: Tensor) -> None:
        """Take in outputs [k, C or 2 C, rows] of k further samples."""
        means, log_variance = outputs[:, : self.width], outputs[:, self.width :]
        mean = means.mean(dim=0)
        self.moments.add_(rows, n_before, len(means), mean, (means - mean).square_().sum(dim=0))
        if self.variance is None:
            self.noise[:, rows] += log_variance.exp().sum(dim=0)
        else:
            self.noise[:, rows] += self.variance.double() * len(means)
            log_variance = self.variance.log()
        if self.targets is not None:
            precision = log_variance.neg().exp_() if self.variance is None else self.variance.reciprocal()
            distance = (self.targets[:, rows] - means).square_().mul_(precision).add_(log_variance).add_(LOG_2PI)
            log_density = distance.sum(dim=1).mul_(-0.5).clamp_min_(LEAST_LOG)
            self.density[rows] = torch.logaddexp(self.density[rows], log_density.logsumexp(dim=0).double())

    def result(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return mean, squares, noise [N, C], and log of summed densities [N], or [0] without targets."""
        mean, squares = self.moments.result()
        return mean, squares, self.noise.T.contiguous(), self.density


Totals = ClassTotals | GaussianTotals


def class_sums(h: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the sums of `ClassTotals`; see `api.class_sums`. Without a layer, h are the logits [S, N, C]."""
    totals = ClassTotals(h.shape[-1] if weight is None else weight.shape[1], h.shape[-2], h)
    return _add_layer(totals, h, weight, bias).result()


def gaussian_sums(
    h: Tensor, weight: Tensor | None, bias: Tensor | None, noise_variance: Tensor | None, targets: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the sums of `GaussianTotals`; see `api.gaussian_sums`. Without a layer, h are the outputs."""
    n_outputs = h.shape[-1] if weight is None else weight.shape[1]
    totals = GaussianTotals(n_outputs, noise_variance, targets, h.shape[-2], h)
    return _add_layer(totals, h, weight, bias).result()


def mlp_class_sums(weights: Tensor, x: Tensor, layout: MLPLayout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the sums of `ClassTotals` of a perceptron; see `perceptron.mlp_class_sums`."""
    return _add_perceptron(ClassTotals(layout.widths[-1], len(x), x), weights, x, layout).result()


def mlp_gaussian_sums(
    weights: Tensor, x: Tensor, layout: MLPLayout, noise_variance: Tensor | None, targets: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the sums of `GaussianTotals` of a perceptron; see `perceptron.mlp_gaussian_sums`."""
    totals = GaussianTotals(layout.widths[-1], noise_variance, targets, len(x), x)
    return _add_perceptron(totals, weights, x, layout).result()


def _add_layer(totals: Totals, h: Tensor, weight: Tensor | None, bias: Tensor | None) -> Totals:
    """Run the last layer block by block of samples, and of rows where one sample alone is too large."""
    n_samples, n_outputs = (h.shape[0], h.shape[-1]) if weight is None else weight.shape[:2]
    budget = CPU_OUTPUT_BYTES if h.device.type == "cpu" else GPU_BLOCK_BYTES
    n_rows, n_together = _output_block(n_samples, n_outputs, h.shape[-2], h.element_size(), budget)
    for rows in blocks(h.shape[-2], n_rows):
        for samples in blocks(n_samples, n_together):
            columns = (h[samples, rows] if h.ndim == 3 else h[rows].expand(samples.stop - samples.start, -1, -1)).mT
            if weight is not None and bias is not None:
                columns = torch.baddbmm(bias[samples, :, None], weight[samples], columns)
            totals.add_(rows, samples.start, columns.contiguous())
    return totals


def _add_perceptron(totals: Totals, weights: Tensor, x: Tensor, layout: MLPLayout) -> Totals:
    """Run the perceptron in blocks as `mlp.reference` does; average larger ones of its outputs, which are narrow."""
    cpu = x.device.type == "cpu"
    n_rows, n_together = _output_block(
        len(weights), layout.widths[-1], len(x), x.element_size(), CPU_OUTPUT_BYTES if cpu else GPU_BLOCK_BYTES
    )
    plan = plan_blocks(layout, len(weights), n_rows, x.element_size(), CPU_BLOCK_BYTES if cpu else GPU_BLOCK_BYTES)
    space, x_ones = workspace(layout, plan, x), with_ones(x)
    buffer = x.new_empty(n_together, layout.widths[-1], plan.rows)
    for rows in blocks(len(x), plan.rows):
        for samples in blocks(len(weights), n_together):
            outputs = buffer[: samples.stop - samples.start, :, : rows.stop - rows.start]
            for some in blocks(len(outputs), plan.particles):
                block = space.weights(weights[samples][some])
                outputs[some] = space.forward(block, x_ones[:, rows])[0]
            totals.add_(rows, samples.start, outputs)
    return totals


def _output_block(n_samples: int, n_outputs: int, n_rows: int, element_bytes: int, budget: int) -> tuple[int, int]:
    """Rows and samples of a block of outputs within the budget."""
    rows = min(n_rows, max(64, budget // (n_outputs * element_bytes)))
    return rows, max(1, min(n_samples, budget // (rows * n_outputs * element_bytes)))
