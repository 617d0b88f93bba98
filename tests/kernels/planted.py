"""Kernels that break the limits of the offline check, each one of them; it needs Triton."""

import triton
import triton.language as tl

from fiberbnn_kernels.offline import KernelCase


@triton.jit
def product_kernel(a, b, out, n, ROWS: tl.constexpr, INNER: tl.constexpr, PRECISION: tl.constexpr):
    rows, inner = tl.arange(0, ROWS), tl.arange(0, INNER)
    total = tl.zeros((ROWS, ROWS), dtype=tl.float32)
    for _ in range(0, n):
        left = tl.load(a + rows[:, None] * INNER + inner[None, :])
        right = tl.load(b + inner[:, None] * ROWS + rows[None, :])
        total = tl.dot(left, right, total, input_precision=PRECISION)
        a += ROWS * INNER
        b += ROWS * INNER
    tl.store(out + rows[:, None] * ROWS + rows[None, :], total)


def product_case(rows: int, inner: int, warps: int, precision: str, **more: bool) -> KernelCase:
    constants = {"ROWS": rows, "INNER": inner, "PRECISION": precision}
    signature = {**dict.fromkeys(("a", "b", "out"), "*fp32"), "n": "i32", **dict.fromkeys(constants, "constexpr")}
    options = {"enable_fp_fusion": False, "num_stages": 1}
    name = f"planted {rows} {inner} {warps}"
    return KernelCase(name, product_kernel, signature, constants, warps, ("a", "b", "out"), options=options, **more)
