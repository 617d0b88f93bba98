"""Negative log-likelihood of a perceptron and its gradient for one particle, on data tiles in registers."""

# Triton's language has types of its own, and its functions are inlined: long signatures cost nothing.
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl

from .activation_fused import activate, slope


@triton.jit
def _at(IN: tl.constexpr, OUT: tl.constexpr):
    return tl.arange(0, OUT)[:, None] * IN + tl.arange(0, IN)[None, :]


@triton.jit
def _weight(w, IN: tl.constexpr, OUT: tl.constexpr):
    return tl.load(w + _at(IN, OUT))


@triton.jit
def _linear(a, w, IN: tl.constexpr, OUT: tl.constexpr):
    bias = tl.load(w + IN * OUT + tl.arange(0, OUT))
    wt = tl.load(w + tl.arange(0, OUT)[None, :] * IN + tl.arange(0, IN)[:, None])
    return _dot(a, wt) + bias[None, :]


@triton.jit
def _put(g, dw, db, IN: tl.constexpr, OUT: tl.constexpr):
    tl.store(g + _at(IN, OUT), dw)
    tl.store(g + IN * OUT + tl.arange(0, OUT), tl.sum(db, 0))


@triton.jit
def _dot(a, b):
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def _outer(delta, a, total):
    """Add delta^T a, a layer's gradient on these rows."""
    return tl.dot(tl.trans(delta), a, total, input_precision="ieee")


@triton.jit
def _loss(out, y, rows, n_rows, n_out, noise_precision, OUT: tl.constexpr, CATEGORICAL: tl.constexpr):
    """NLL [BM] of the rows, without the Gaussian's constants, and its gradient in the outputs [BM, OUT]."""
    cols = tl.arange(0, OUT)[None, :]
    used = (rows < n_rows)[:, None] & (cols < n_out)
    if CATEGORICAL:
        label = tl.load(y + rows, mask=rows < n_rows, other=0).to(tl.int32)
        hit = cols == label[:, None]
        logits = tl.where(cols < n_out, out, float("-inf"))
        top = tl.max(logits, 1)
        p = tl.exp(logits - top[:, None])
        total = tl.sum(p, 1)
        each = tl.log(total) + (top - tl.sum(tl.where(hit, out, 0.0), 1))
        # A label that is no class must not pass unseen.
        each = tl.where((label >= 0) & (label < n_out), each, float("nan"))
        nll = tl.where(rows < n_rows, each, 0.0)
        delta = tl.where(used, p / total[:, None] - hit.to(tl.float32), 0.0)
    else:
        target = tl.load(y + rows[:, None] * n_out + cols, mask=used, other=0.0)
        residual = tl.where(used, out - target, 0.0)
        nll = 0.5 * noise_precision * tl.sum(residual * residual, 1)
        delta = noise_precision * residual
    return nll, delta


@triton.jit
def nll_and_grad(
    w, g, x, y, n_rows, n_out, noise_precision,
    HIDDEN: tl.constexpr, IN: tl.constexpr, WIDTH: tl.constexpr, OUT: tl.constexpr, BM: tl.constexpr,
    ACT: tl.constexpr, CATEGORICAL: tl.constexpr,
):  # fmt: skip
    """Return the NLL of the weights at w on the first n_rows rows, float64, and store its gradient at g.

    Both are zero where there are no rows.

    Weights, gradient and x lie padded (table.py). What is beyond the real widths holds zeros: every activation maps
    zero to zero, so it neither takes nor gives anything.
    """
    SQUARE: tl.constexpr = (WIDTH + 1) * WIDTH
    w2, g2 = w + (IN + 1) * WIDTH, g + (IN + 1) * WIDTH
    w3, g3 = w2 + SQUARE, g2 + SQUARE
    w_out, g_out = w2 + (HIDDEN - 1) * SQUARE, g2 + (HIDDEN - 1) * SQUARE

    nll = tl.zeros((BM,), tl.float64)
    # Sums over the rows of a tile wait until the end: there they need no barriers.
    dw1 = tl.zeros((WIDTH, IN), tl.float32)
    db1 = tl.zeros((BM, WIDTH), tl.float32)
    if HIDDEN >= 2:
        dw2 = tl.zeros((WIDTH, WIDTH), tl.float32)
        db2 = tl.zeros((BM, WIDTH), tl.float32)
    if HIDDEN >= 3:
        dw3 = tl.zeros((WIDTH, WIDTH), tl.float32)
        db3 = tl.zeros((BM, WIDTH), tl.float32)
    dw_out = tl.zeros((OUT, WIDTH), tl.float32)
    db_out = tl.zeros((BM, OUT), tl.float32)

    for start in range(0, n_rows, BM):
        rows = start + tl.arange(0, BM)
        a0 = tl.load(x + rows[:, None] * IN + tl.arange(0, IN)[None, :], mask=(rows < n_rows)[:, None], other=0.0)
        z1 = _linear(a0, w, IN, WIDTH)
        a1 = activate(z1, ACT)
        last = a1
        if HIDDEN >= 2:
            z2 = _linear(a1, w2, WIDTH, WIDTH)
            a2 = activate(z2, ACT)
            last = a2
        if HIDDEN >= 3:
            z3 = _linear(a2, w3, WIDTH, WIDTH)
            a3 = activate(z3, ACT)
            last = a3
        out = _linear(last, w_out, WIDTH, OUT)
        nll_of_row, delta = _loss(out, y, rows, n_rows, n_out, noise_precision, OUT, CATEGORICAL)
        nll += nll_of_row.to(tl.float64)

        dw_out = _outer(delta, last, dw_out)
        db_out += delta
        delta = _dot(delta, _weight(w_out, WIDTH, OUT))
        if HIDDEN >= 3:
            delta *= slope(z3, a3, ACT)
            dw3 = _outer(delta, a2, dw3)
            db3 += delta
            delta = _dot(delta, _weight(w3, WIDTH, WIDTH))
        if HIDDEN >= 2:
            delta *= slope(z2, a2, ACT)
            dw2 = _outer(delta, a1, dw2)
            db2 += delta
            delta = _dot(delta, _weight(w2, WIDTH, WIDTH))
        delta *= slope(z1, a1, ACT)
        dw1 = _outer(delta, a0, dw1)
        db1 += delta

    _put(g, dw1, db1, IN, WIDTH)
    if HIDDEN >= 2:
        _put(g2, dw2, db2, WIDTH, WIDTH)
    if HIDDEN >= 3:
        _put(g3, dw3, db3, WIDTH, WIDTH)
    _put(g_out, dw_out, db_out, WIDTH, OUT)
    return tl.sum(nll, 0)
