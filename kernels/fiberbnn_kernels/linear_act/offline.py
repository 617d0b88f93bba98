"""What `kernels/offline_check.py` compiles of this operation."""

from collections.abc import Iterator

from ..offline import KernelCase
from . import fused

SIGNATURE = {
    **dict.fromkeys(("x", "weight", "bias", "out"), "*fp32"),
    **dict.fromkeys(("n_rows", "n_in", "n_out"), "i32"),
    **dict.fromkeys(("x_stride", "weight_stride", "bias_stride"), "i32"),
    **dict.fromkeys(("ROWS", "OUTPUTS", "INPUTS", "ACTIVATION"), "constexpr"),
}


def cases() -> Iterator[KernelCase]:
    """Yield every tile with the activation that needs most, the largest with all; addresses aligned and not."""
    aligned = ("x", "weight", "bias", "out", "n_in", "n_out", "x_stride", "weight_stride", "bias_stride")
    for tile in fused.TILES:
        for activation in ("none", "tanh", "relu", "silu", "gelu") if tile == fused.TILES[-1] else ("gelu",):
            for kind, divisible in (("aligned", aligned), ("ragged", ("x", "out"))):
                yield KernelCase(
                    f"linear_act {activation} {kind} {tile.outputs}",
                    fused.linear_act_kernel,
                    SIGNATURE,
                    {"ROWS": tile.rows, "OUTPUTS": tile.outputs, "INPUTS": tile.inputs, "ACTIVATION": activation},
                    tile.warps,
                    divisible,
                    options=fused.OPTIONS,
                    everywhere=True,
                )
