"""The gradient's kernels as they are launched, for compilation without a GPU."""

from collections.abc import Iterator

from ..offline import KernelCase
from . import fused
from .table import Launch, compiled_offline, launched_everywhere

_TYPES = {
    **dict.fromkeys(("weights", "x", "work", "grads", "grad", "nll"), "*fp32"),
    **dict.fromkeys(("origin", "place"), "*i32"),
    "nlls": "*fp64",
    **dict.fromkeys(("noise_precision", "nll_constant"), "fp32"),
}


def cases() -> Iterator[KernelCase]:
    """Yield the launches of `compiled_offline`, and the sum."""
    for launch, activation, categorical in compiled_offline():
        yield share_case(launch, activation, categorical)
    constants = {"PADDED": launch.size.n_params, "BLOCK": fused.ADD_BLOCK}
    tensors = ("grads", "nlls", "place", "grad", "nll")
    signature = {name: _TYPES.get(name, "i32") for name in fused.add_kernel.arg_names}
    signature |= dict.fromkeys(constants, "constexpr")
    yield KernelCase(
        "mlp shares added",
        fused.add_kernel,
        signature,
        constants,
        fused.ADD_WARPS,
        tensors,
        options={"enable_fp_fusion": False},
        everywhere=True,
    )


def share_case(launch: Launch, activation: str, categorical: bool) -> KernelCase:
    """Return one launch of the gradient on shares of the rows."""
    size = launch.size
    constants = {
        "HIDDEN": size.n_hidden, "IN": size.inputs, "WIDTH": size.width, "OUT": size.outputs, "PADDED": size.n_params,
        "BM": launch.rows, "FB": launch.flat, "ACT": activation, "CATEGORICAL": categorical,
    }  # fmt: skip
    types = {**_TYPES, "y": "*i64" if categorical else "*fp32", **dict.fromkeys(constants, "constexpr")}
    return KernelCase(
        f"mlp_nll_and_grad {size.inputs}{f'-{size.width}' * size.n_hidden} {activation} "
        f"{'classes' if categorical else 'gaussian'}",
        fused.share_kernel,
        {name: types.get(name, "i32") for name in fused.share_kernel.arg_names},
        constants,
        launch.warps,
        ("weights", "x", "y", "origin", "work", "grads", "nlls"),
        options={**fused.OPTIONS, "num_stages": launch.stages},
        outside_loop=20,
        everywhere=launched_everywhere(launch),
    )
