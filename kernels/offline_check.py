"""Compile every Triton kernel for GPUs that need not be here, and hold the result against limits.

    python kernels/offline_check.py

Prints registers, stack, shared memory and local-memory instructions of each kernel, block and architecture.
Exits with 1 if a limit is broken, with 2 if nothing could be compiled. Missing tools are reported.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Shared memory one program may have, bytes. Triton does not check it when it compiles for an absent device.
SHARED_LIMIT = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}


@dataclass(frozen=True)
class KernelCase:
    """One kernel with its constants, as it is launched."""

    name: str
    kernel: Any
    signature: dict[str, str]
    constants: dict[str, int]
    warps: int
    divisible_by_16: tuple[str, ...]
    wide_stores: bool = False
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Usage:
    """What a compiled kernel needs; None where no tool was at hand to tell."""

    shared: int
    contracted: int
    registers: int | None = None
    stack: int | None = None
    local_accesses: int | None = None
    wide_stores: int | None = None


def cases() -> Iterator[KernelCase]:
    """Yield every kernel of the package in every block it is launched with."""
    from fiberbnn_kernels.philox import fused as philox

    counter = {"seed": "i64", "first_step": "i32", "stream": "i32", "particle0": "i32"}
    normal = {"out": "*fp32", "n_particles": "i32", "n_elements": "i32", **counter, "BLOCK": "constexpr"}
    for block, warps in philox.BLOCKS:
        for divisible in (("out", "n_elements"), ("out",)):
            kind = "aligned" if "n_elements" in divisible else "ragged"
            yield KernelCase(
                f"philox_normal {kind} {block}",
                philox.normal_kernel,
                normal,
                {"BLOCK": block},
                warps,
                divisible,
                wide_stores=kind == "aligned",
                options=philox.OPTIONS,
            )
    uniform = {"out": "*fp32", "n_particles": "i32", "seed": "i64", "step": "i32", "stream": "i32"}
    yield KernelCase(
        f"philox_uniform {philox.UNIFORM_BLOCK}",
        philox.uniform_kernel,
        {**uniform, "particle0": "i32", "BLOCK": "constexpr"},
        {"BLOCK": philox.UNIFORM_BLOCK},
        1,
        ("out",),
        options=philox.OPTIONS,
    )


def compile_case(case: KernelCase, arch: int, cuobjdump: str | None) -> Usage:
    """Return what the kernel needs on compute capability `arch` (80 for 8.0)."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = list(case.signature)
    source = ASTSource(
        case.kernel,
        case.signature,
        constexprs={(names.index(name),): value for name, value in case.constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in case.divisible_by_16},
    )
    compiled = triton.compile(
        source, target=GPUTarget("cuda", arch, 32), options={"num_warps": case.warps, **case.options}
    )
    # Without .rn the assembler may contract a product and a sum of its own accord.
    contracted = len(re.findall(r"\bfma\.|\b(?:mul|add|sub)\.(?:ftz\.)?f32\b", compiled.asm["ptx"]))
    if cuobjdump is None:
        return Usage(compiled.metadata.shared, contracted)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        resources = _run(cuobjdump, "-res-usage", str(cubin))
        sass = _run(cuobjdump, "-sass", str(cubin))
    return Usage(
        compiled.metadata.shared,
        contracted,
        registers=_number(r"REG:(\d+)", resources),
        stack=_number(r"STACK:(\d+)", resources),
        local_accesses=len(re.findall(r"\b(?:LDL|STL)\b", sass)),
        wide_stores=len(re.findall(r"\bSTG\.E\.128\b", sass)),
    )


def broken_limits(case: KernelCase, arch: int, usage: Usage) -> list[str]:
    """Return in words which limits the kernel breaks; what was not measured breaks none."""
    broken = []
    if usage.shared > SHARED_LIMIT[arch]:
        broken.append(f"{usage.shared} bytes of shared memory, the limit is {SHARED_LIMIT[arch]}")
    if usage.contracted and not case.options.get("enable_fp_fusion", True):
        broken.append(f"{usage.contracted} operations fused or free to be: bits would differ from the CPU's")
    if usage.stack:
        broken.append(f"{usage.stack} bytes of stack")
    if usage.local_accesses:
        broken.append(f"{usage.local_accesses} local-memory instructions (spilled registers)")
    if case.wide_stores and usage.wide_stores == 0:
        broken.append("no 16-byte stores")
    return broken


def find_cuobjdump() -> str | None:
    """Return the path of cuobjdump, the one that comes with Triton if there is one."""
    from triton import knobs

    try:
        return str(knobs.nvidia.cuobjdump.path)
    except RuntimeError:
        return shutil.which("cuobjdump")


def main() -> int:
    """Print the table; return 0 if all limits hold, 1 if one is broken, 2 if nothing can be compiled."""
    try:
        import triton
    except ImportError:
        print("Triton is not installed: nothing was checked", file=sys.stderr)
        return 2
    cuobjdump = find_cuobjdump()
    print(f"Triton {triton.__version__}")
    if cuobjdump is None:
        print("no cuobjdump found: registers, stack, spills and store widths are NOT checked")
    header = ("kernel", "sm", "warps", "registers", "stack", "shared", "local", "16-byte stores", "verdict")
    print("{:<26}{:>5}{:>7}{:>11}{:>7}{:>8}{:>7}{:>16}  {}".format(*header))
    failures = 0
    for case in cases():
        for arch in SHARED_LIMIT:
            usage = compile_case(case, arch, cuobjdump)
            broken = broken_limits(case, arch, usage)
            failures += bool(broken)
            shown = ("-" if v is None else v for v in (usage.registers, usage.stack))
            tail = ("-" if v is None else v for v in (usage.local_accesses, usage.wide_stores))
            row = (case.name, arch, case.warps, *shown, usage.shared, *tail, "; ".join(broken) or "ok")
            print("{:<26}{:>5}{:>7}{:>11}{:>7}{:>8}{:>7}{:>16}  {}".format(*row))
    print(f"{failures} broken" if failures else "all limits hold")
    return int(failures > 0)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _number(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    return int(found[1]) if found else None


if __name__ == "__main__":
    sys.exit(main())
