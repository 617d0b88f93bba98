"""The walk's kernel as it is launched, for compilation without a GPU."""

from collections.abc import Iterator

from ..mlp.table import Launch, compiled_offline, launched_everywhere
from ..offline import KernelCase
from . import fused

_TENSORS = (
    "particles", "velocity", "energy", "grad", "x", "y", "scale", "place", "work", "out_particles", "out_velocity",
    "out_energy", "out_grad", "snapshots", "energies", "acceptance", "moved", "heat",
)  # fmt: skip
_FLOATS = (
    "noise_precision", "nll_constant", "prior_precision", "half_step", "decay", "spread", "energy_error_limit",
)  # fmt: skip


def cases() -> Iterator[KernelCase]:
    """Yield the launches of `compiled_offline`."""
    return (walk_case(*chosen) for chosen in compiled_offline())


def walk_case(launch: Launch, activation: str, categorical: bool) -> KernelCase:
    """Return one launch of the walk."""
    size = launch.size
    kinds = {"y": "*i64" if categorical else "*fp32", "place": "*i32", "moved": "*i8", "seed": "i64"}
    constants = {
        "HIDDEN": size.n_hidden, "IN": size.inputs, "WIDTH": size.width, "OUT": size.outputs, "PADDED": size.n_params,
        "BM": launch.rows, "FB": launch.flat, "ACT": activation, "CATEGORICAL": categorical,
    }  # fmt: skip
    signature = {}
    for name in fused.walk_kernel.arg_names:
        usual = "*fp32" if name in _TENSORS else "fp32" if name in _FLOATS else "i32"
        signature[name] = "constexpr" if name in constants else kinds.get(name, usual)
    likelihood = "classes" if categorical else "gaussian"
    return KernelCase(
        f"mlp_walk {size.inputs}{f'-{size.width}' * size.n_hidden} {activation} {likelihood}",
        fused.walk_kernel,
        signature,
        constants,
        launch.warps,
        (*_TENSORS, "row"),
        options={**fused.OPTIONS, "num_stages": launch.stages},
        outside_loop=20,
        everywhere=launched_everywhere(launch),
    )
