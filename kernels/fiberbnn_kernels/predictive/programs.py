"""Triton kernels of reference.py: last layer, softmax and averages over samples in one pass; float32.

A program takes a block of rows and a chunk of samples, one after the other; only its averages leave the chip.
"""

# Triton's language has types of its own.
# ruff: noqa: ANN001, ANN202, D103, ANN201
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl

from ..linear_act.fused import matmul_tile
from . import reference

_LEAST_LOG = tl.constexpr(reference.LEAST_LOG)
_LOG_2PI = tl.constexpr(reference.LOG_2PI)


@triton.jit
def _add_log(peak, total, value):
    # Running log of a sum of exponentials: peak + log(total); one of the two is scaled, so one exponential does.
    smaller = tl.exp(-tl.abs(value - peak))
    total = tl.where(value > peak, total * smaller + 1.0, total + smaller)
    return tl.where(value > peak, value, peak), total


@triton.jit
def _outputs(
    h, weight, bias, rows, outputs, n_rows, n_hidden, n_outputs, row_stride, LAYER: tl.constexpr, ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr, HIDDEN: tl.constexpr,
):  # fmt: skip
    # One sample's outputs [ROWS, OUTPUTS]: of the layer, or h itself; zeros outside.
    if LAYER:
        z = matmul_tile(h, weight, rows, outputs, n_rows, n_hidden, n_outputs, ROWS, OUTPUTS, HIDDEN)
        return z + tl.load(bias + outputs, mask=outputs < n_outputs, other=0.0)[None, :]
    at = rows.to(tl.int64)[:, None] * row_stride + outputs[None, :]
    return tl.load(h + at, mask=(rows[:, None] < n_rows) & (outputs[None, :] < n_outputs), other=0.0)


@triton.jit
def _excess(t):
    # (1 + t) log(1 + t) - t, for t >= -1: zero at zero, positive elsewhere; a series where the difference would cancel.
    # Budget: 2e-5 relative.
    series = 1 / 12 - t * (1 / 20 - t * (1 / 30 - t * (1 / 42)))
    series = t * t * (1 / 2 - t * (1 / 6 - t * series))
    ratio = tl.maximum(1.0 + t, 1e-37)
    direct = ratio * tl.log(ratio) - t
    return tl.where(tl.abs(t) < 0.125, series, direct)


@triton.jit
def class_kernel(
    h,
    weight,
    bias,
    mean_out,
    squares_out,
    log_sum_out,
    divergence_out,
    n_samples,
    n_rows,
    n_hidden,
    n_outputs,
    h_stride,
    weight_stride,
    bias_stride,
    chunk,
    LAYER: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    HIDDEN: tl.constexpr,
):
    # One axis of programs: the others stop at 65,535.
    row_blocks = tl.cdiv(n_rows, ROWS)
    part = tl.program_id(0) // row_blocks
    rows = tl.program_id(0) % row_blocks * ROWS + tl.arange(0, ROWS)
    outputs = tl.arange(0, OUTPUTS)
    real = outputs[None, :] < n_outputs
    mean = tl.zeros((ROWS, OUTPUTS), dtype=tl.float32)
    squares = tl.zeros((ROWS, OUTPUTS), dtype=tl.float32)
    peak = tl.full((ROWS, OUTPUTS), _LEAST_LOG, dtype=tl.float32)
    total = tl.zeros((ROWS, OUTPUTS), dtype=tl.float32)
    divergence = tl.zeros((ROWS,), dtype=tl.float32)
    first = part * chunk
    last = tl.minimum(first + chunk, n_samples)
    h += first.to(tl.int64) * h_stride
    weight += first.to(tl.int64) * weight_stride
    bias += first.to(tl.int64) * bias_stride
    seen = 0.0
    for _ in range(first, last):
        z = _outputs(
            h, weight, bias, rows, outputs, n_rows, n_hidden, n_outputs, n_outputs, LAYER, ROWS, OUTPUTS, HIDDEN
        )
        # Finite, not -inf: it is subtracted from itself.
        z = tl.where(real, z, _LEAST_LOG)
        z -= tl.max(z, axis=1)[:, None]
        e = tl.exp(z)
        norm = tl.sum(e, axis=1)[:, None]
        log_p = z - tl.log(norm)
        # Not maximum, which would turn NaN into a number.
        log_p = tl.where(log_p < _LEAST_LOG, _LEAST_LOG, log_p)
        p = e / norm
        peak, total = _add_log(peak, total, log_p)
        seen += 1.0
        shift = p - mean
        mean += shift / seen
        squares += shift * (p - mean)
        # What samples disagree on, sum_s sum_c p_s log(p_s / mean): as a difference of entropies, each of them rounded,
        # it would be lost. A further sample adds KL(p || new mean) and, for each one before, KL(old mean || new mean);
        # relative to the new mean the old one is off by -1/before of what p is off by. All terms are positive.
        before = tl.maximum(seen - 1.0, 1.0)
        t = tl.where(mean > 1e-30, p - mean, 0.0) / tl.where(mean > 1e-30, mean, 1.0)
        divergence += tl.sum(mean * (_excess(t) + before * _excess(-t / before)), axis=1)
        h += h_stride
        weight += weight_stride
        bias += bias_stride
    inside = (rows[:, None] < n_rows) & real
    at = (part.to(tl.int64) * n_rows + rows[:, None]) * n_outputs + outputs[None, :]
    tl.store(mean_out + at, mean, mask=inside)
    tl.store(squares_out + at, squares, mask=inside)
    tl.store(log_sum_out + at, peak + tl.log(total), mask=inside)
    tl.store(divergence_out + part.to(tl.int64) * n_rows + rows, divergence, mask=rows < n_rows)


@triton.jit
def gaussian_kernel(
    h,
    weight,
    bias,
    log_variance,
    precision,
    targets,
    mean_out,
    squares_out,
    noise_out,
    density_out,
    n_samples,
    n_rows,
    n_hidden,
    n_outputs,
    row_stride,
    h_stride,
    weight_stride,
    bias_stride,
    chunk,
    LAYER: tl.constexpr,
    PREDICTED_NOISE: tl.constexpr,
    TARGETS: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    HIDDEN: tl.constexpr,
):
    row_blocks = tl.cdiv(n_rows, ROWS)
    part = tl.program_id(0) // row_blocks
    rows = tl.program_id(0) % row_blocks * ROWS + tl.arange(0, ROWS)
    outputs = tl.arange(0, OUTPUTS)
    inside = (rows[:, None] < n_rows) & (outputs[None, :] < n_outputs)
    mean = tl.zeros((ROWS, OUTPUTS), dtype=tl.float32)
    squares = tl.zeros((ROWS, OUTPUTS), dtype=tl.float32)
    noise = tl.zeros((ROWS, OUTPUTS), dtype=tl.float32)
    peak = tl.full((ROWS,), _LEAST_LOG, dtype=tl.float32)
    total = tl.zeros((ROWS,), dtype=tl.float32)
    if TARGETS:
        target_at = rows.to(tl.int64)[:, None] * n_outputs + outputs[None, :]
        y = tl.load(targets + target_at, mask=inside, other=0.0)
        if not PREDICTED_NOISE:
            s = tl.load(log_variance + outputs, mask=outputs < n_outputs, other=0.0)[None, :]
            lam = tl.load(precision + outputs, mask=outputs < n_outputs, other=0.0)[None, :]
    first = part * chunk
    last = tl.minimum(first + chunk, n_samples)
    h += first.to(tl.int64) * h_stride
    weight += first.to(tl.int64) * weight_stride
    bias += first.to(tl.int64) * bias_stride
    seen = 0.0
    for _ in range(first, last):
        m = _outputs(
            h, weight, bias, rows, outputs, n_rows, n_hidden, n_outputs, row_stride, LAYER, ROWS, OUTPUTS, HIDDEN
        )
        seen += 1.0
        shift = m - mean
        mean += shift / seen
        squares += shift * (m - mean)
        if PREDICTED_NOISE:
            # The second half of the outputs: of the layer's rows, or of h's columns.
            half = h
            if not LAYER:
                half = h + n_outputs
            s = _outputs(
                half,
                weight + n_outputs * n_hidden,
                bias + n_outputs,
                rows,
                outputs,
                n_rows,
                n_hidden,
                n_outputs,
                row_stride,
                LAYER,
                ROWS,
                OUTPUTS,
                HIDDEN,
            )
            noise += tl.exp(s)
            if TARGETS:
                lam = tl.exp(-s)
        if TARGETS:
            distance = (y - m) * (y - m) * lam + s + _LOG_2PI
            log_density = -0.5 * tl.sum(tl.where(inside, distance, 0.0), axis=1)
            peak, total = _add_log(peak, total, tl.where(log_density < _LEAST_LOG, _LEAST_LOG, log_density))
        h += h_stride
        weight += weight_stride
        bias += bias_stride
    at = (part.to(tl.int64) * n_rows + rows[:, None]) * n_outputs + outputs[None, :]
    tl.store(mean_out + at, mean, mask=inside)
    tl.store(squares_out + at, squares, mask=inside)
    if PREDICTED_NOISE:
        tl.store(noise_out + at, noise, mask=inside)
    if TARGETS:
        tl.store(density_out + part.to(tl.int64) * n_rows + rows, peak + tl.log(total), mask=rows < n_rows)
