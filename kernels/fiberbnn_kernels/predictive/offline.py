"""What `kernels/offline_check.py` compiles of this operation."""

from collections.abc import Iterator

from ..offline import KernelCase
from . import fused, programs

POINTERS = ("h", "weight", "bias")
SIZES = ("n_samples", "n_rows", "n_hidden", "n_outputs")
STRIDES = ("h_stride", "weight_stride", "bias_stride")
TILE = ("ROWS", "OUTPUTS", "HIDDEN")


def cases() -> Iterator[KernelCase]:
    """Yield both kernels in every tile, with and without a layer, and every form of regression."""
    class_out = ("mean_out", "squares_out", "log_sum_out", "divergence_out")
    class_signature = {
        **dict.fromkeys((*POINTERS, *class_out), "*fp32"),
        **dict.fromkeys((*SIZES, *STRIDES, "chunk"), "i32"),
        **dict.fromkeys(("LAYER", *TILE), "constexpr"),
    }
    gaussian_in = (*POINTERS, "log_variance", "precision", "targets")
    gaussian_out = ("mean_out", "squares_out", "noise_out", "density_out")
    gaussian_signature = {
        **dict.fromkeys((*gaussian_in, *gaussian_out), "*fp32"),
        **dict.fromkeys((*SIZES, "row_stride", *STRIDES, "chunk"), "i32"),
        **dict.fromkeys(("LAYER", "PREDICTED_NOISE", "TARGETS", *TILE), "constexpr"),
    }
    for tile in fused.TILES:
        block = {"ROWS": tile.rows, "OUTPUTS": tile.outputs, "HIDDEN": tile.hidden}
        for layer in (True, False):
            source = "layer" if layer else "logits"
            for kind, more in (("aligned", ("weight", "bias", "n_hidden", *STRIDES)), ("ragged", ())):
                yield KernelCase(
                    f"class_sums {source} {kind} {tile.outputs}",
                    programs.class_kernel,
                    class_signature,
                    {"LAYER": layer, **block},
                    tile.warps,
                    ("h", *class_out, *more),
                    options=fused.OPTIONS,
                    everywhere=True,
                )
            for predicted, targets in ((False, False), (False, True), (True, False), (True, True)):
                form = ("predicted" if predicted else "known") + (" density" if targets else "")
                yield KernelCase(
                    f"gaussian_sums {source} {form} {tile.outputs}",
                    programs.gaussian_kernel,
                    gaussian_signature,
                    {"LAYER": layer, "PREDICTED_NOISE": predicted, "TARGETS": targets, **block},
                    tile.warps,
                    ("h", "log_variance", "precision", "targets", *gaussian_out),
                    options=fused.OPTIONS,
                    everywhere=True,
                )
