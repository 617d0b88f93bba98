"""The kernels of the flat steps, as they are launched, for compilation without a GPU."""

from collections.abc import Iterator
from typing import Any

from ..offline import KernelCase
from ..philox.fused import BLOCKS
from . import fused
from .fused_optimizer import update_kernel

_COUNTER = {"seed": "i64", "step": "i32", "stream": "i32", "particle0": "i32"}


def cases() -> Iterator[KernelCase]:
    """Yield the kernels for rows of 16-byte pieces and for others, with and without options.

    All blocks of the BAOAB step and of the optimizer with everything in it; of other optimizers the largest block.
    """
    everything = ("scale", "drift", "snapshot")
    for aligned in (True, False):
        for block, warps in BLOCKS:
            yield _open(block, warps, aligned, ())
            yield _open(block, warps, aligned, ("added_decay", "snapshot"))
            yield _close(block, warps, aligned)
            yield _update("adam", everything, True, block, warps, aligned)
        yield _update("none", ("scale", "drift"), True, *BLOCKS[-1], aligned)
        yield _update("sgd", ("scale",), False, *BLOCKS[-1], aligned)
        yield _update("sgd", ("scale",), True, *BLOCKS[-1], aligned)
        yield _update("momentum", ("scale",), False, *BLOCKS[-1], aligned)
        yield _update("adam", (), False, *BLOCKS[-1], aligned)
    yield KernelCase(
        f"langevin_total {fused.TOTAL_BLOCK}",
        fused.total_kernel,
        {"parts": "*fp64", "totals": "*fp64", "n_blocks": "i32", "BLOCK": "constexpr"},
        {"BLOCK": fused.TOTAL_BLOCK},
        fused.TOTAL_WARPS,
        ("parts", "totals"),
        options=fused.OPTIONS,
        everywhere=True,
    )


def _open(block: int, warps: int, aligned: bool, options: tuple[str, ...]) -> KernelCase:
    tensors = dict.fromkeys(("particles", "velocity", "grad", "scale"), "*fp32")
    tensors |= {"added_decay": "*fp32" if "added_decay" in options else "constexpr"}
    tensors |= dict.fromkeys(("new_particles", "new_velocity"), "*fp32")
    tensors |= {"snapshot": "*fp32" if "snapshot" in options else "constexpr", "energies": "*fp64"}
    numbers = {"n_rows": "i32", "n_elements": "i32", "n_blocks": "i32"}
    numbers |= dict.fromkeys(("half_step", "decay", "noise"), "fp32") | _COUNTER
    name = "langevin_open all" if options else "langevin_open"
    return _case(name, fused.open_kernel, tensors, numbers, {}, block, warps, aligned)


def _close(block: int, warps: int, aligned: bool) -> KernelCase:
    tensors = dict.fromkeys(("velocity", "grad", "scale"), "*fp32") | {"energies": "*fp64"}
    numbers = {"n_rows": "i32", "n_elements": "i32", "n_blocks": "i32", "half_step": "fp32"}
    return _case("langevin_close", fused.close_kernel, tensors, numbers, {}, block, warps, aligned)


def _update(
    rule: str, options: tuple[str, ...], noise: bool, block: int, warps: int, aligned: bool
) -> KernelCase:  # fmt: skip
    present = {"particles", "new_particles", *options}
    present |= {"grad"} if rule != "none" else set()
    present |= {"first"} if rule in ("momentum", "adam") else set()
    present |= {"second"} if rule == "adam" else set()
    names = ("particles", "new_particles", "grad", "first", "second", "snapshot", "scale", "drift")
    tensors = {name: "*fp32" if name in present else "constexpr" for name in names}
    numbers = {"n_rows": "i32", "n_elements": "i32"}
    floats = ("prior_precision", "rate", "beta1", "other1", "beta2", "other2", "root", "eps", "drift_length", "noise")
    numbers |= dict.fromkeys(floats, "fp32") | _COUNTER
    what = "optimizer " + "+".join((rule, *options, *(("noise",) if noise else ())))
    return _case(what, update_kernel, tensors, numbers, {"RULE": rule, "NOISE": noise}, block, warps, aligned)


def _case(
    name: str,
    kernel: Any,
    tensors: dict[str, str],
    numbers: dict[str, str],
    constants: dict[str, Any],
    block: int,
    warps: int,
    aligned: bool,
) -> KernelCase:
    constants = {**constants, "ALIGNED": aligned, "BLOCK": block}
    signature = {**tensors, **numbers, **dict.fromkeys(constants, "constexpr")}
    return KernelCase(
        f"{name} {'aligned' if aligned else 'ragged'} {block}",
        kernel,
        signature,
        {**dict.fromkeys(name for name, kind in tensors.items() if kind == "constexpr"), **constants},
        warps,
        tuple(name for name, kind in tensors.items() if kind != "constexpr"),
        wide_stores=aligned,
        bit_equal=True,
        options=fused.OPTIONS,
        everywhere=True,
    )
