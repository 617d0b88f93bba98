"""Activations and their slopes for Triton kernels: float32, accurate near zero, never overflowing."""

# Triton's language has types of its own.
# ruff: noqa: ANN001, ANN201, D103
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl

_SQRT_HALF = tl.constexpr(0.7071067811865476)
_SQRT_HALF_OVER_PI = tl.constexpr(0.3989422804014327)  # 1/sqrt(2 pi)


@triton.jit
def tanh(x):
    # Budget: 5e-7 relative to the exact value, everywhere. Below 0.625 an odd polynomial (Cephes, tanhf), as the other
    # form would lose all digits of small values; above, the exact 1 is the larger part of the result.
    z = x * x
    p = ((((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z) + 1.33314422036e-1) * z
    small = (p - 3.33332819422e-1) * z * x + x
    size = tl.abs(x)
    e = tl.exp(-2.0 * size)
    large = 1.0 - 2.0 * e / (1.0 + e)
    return tl.where(size < 0.625, small, tl.where(x < 0.0, -large, large))


@triton.jit
def sigmoid(x):
    # The exponential never overflows.
    e = tl.exp(-tl.abs(x))
    return tl.where(x < 0.0, e, 1.0) / (1.0 + e)


@triton.jit
def activate(x, ACTIVATION: tl.constexpr):
    if ACTIVATION == "tanh":
        x = tanh(x)
    elif ACTIVATION == "relu":
        # Not maximum, which would turn NaN into zero.
        x = tl.where(x < 0.0, 0.0, x)
    elif ACTIVATION == "silu":
        x = x * sigmoid(x)
    elif ACTIVATION == "gelu":
        x = 0.5 * x * (1.0 + tl.erf(x * _SQRT_HALF))
    else:
        tl.static_assert(ACTIVATION == "none")
    return x


@triton.jit
def slope(z, a, ACTIVATION: tl.constexpr):
    # Derivative at z, where the activation is a.
    if ACTIVATION == "tanh":
        d = 1.0 - a * a
    elif ACTIVATION == "relu":
        d = tl.where(z > 0.0, 1.0, 0.0)
    elif ACTIVATION == "silu":
        s = sigmoid(z)
        d = s * (1.0 + z * (1.0 - s))
    else:
        tl.static_assert(ACTIVATION == "gelu")
        d = 0.5 * (1.0 + tl.erf(z * _SQRT_HALF)) + z * _SQRT_HALF_OVER_PI * tl.exp(-0.5 * z * z)
    return d
