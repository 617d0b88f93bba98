"""What `kernels/offline_check.py` compiles of this operation."""

from collections.abc import Iterator

from ..offline import KernelCase
from . import fused


def cases() -> Iterator[KernelCase]:
    """Yield both kernels in every block they are launched with."""
    counter = {"seed": "i64", "first_step": "i32", "stream": "i32", "particle0": "i32"}
    normal = {"out": "*fp32", "n_particles": "i32", "n_elements": "i32", **counter, "BLOCK": "constexpr"}
    for block, warps in fused.BLOCKS:
        for divisible in (("out", "n_elements"), ("out",)):
            kind = "aligned" if "n_elements" in divisible else "ragged"
            yield KernelCase(
                f"philox_normal {kind} {block}",
                fused.normal_kernel,
                normal,
                {"BLOCK": block},
                warps,
                divisible,
                wide_stores=kind == "aligned",
                bit_equal=True,
                options=fused.OPTIONS,
                everywhere=True,
            )
    uniform = {"out": "*fp32", "n_particles": "i32", "seed": "i64", "step": "i32", "stream": "i32"}
    yield KernelCase(
        f"philox_uniform {fused.UNIFORM_BLOCK}",
        fused.uniform_kernel,
        {**uniform, "particle0": "i32", "BLOCK": "constexpr"},
        {"BLOCK": fused.UNIFORM_BLOCK},
        1,
        ("out",),
        bit_equal=True,
        options=fused.OPTIONS,
        everywhere=True,
    )
