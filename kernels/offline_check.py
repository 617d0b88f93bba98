"""Compile every Triton kernel for GPUs that need not be here, and hold the result against limits.

    python kernels/offline_check.py

Prints registers, stack, shared memory and local-memory instructions of each kernel, block and architecture.
Exits with 1 if a limit is broken, with 2 if nothing could be compiled. Missing tools are reported.
"""

import importlib
import multiprocessing
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path

import fiberbnn_kernels
from fiberbnn_kernels.offline import KernelCase

LOCAL = re.compile(r"\b(?:LDL|STL)\b")  # instructions that reach for memory of a thread's own: spilled registers
LINE = "{:<44}{:>5}{:>7}{:>11}{:>7}{:>8}{:>7}{:>16}  {}"  # of the table
# Shared memory one program may have, bytes. Triton does not check it when it compiles for an absent device.
SHARED_LIMIT = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}


@dataclass(frozen=True)
class Usage:
    """What a compiled kernel needs; None where no tool was at hand to tell."""

    shared: int
    contracted: int
    registers: int | None = None
    stack: int | None = None
    local_accesses: int | None = None
    loop_accesses: int | None = None
    wide_stores: int | None = None


def cases() -> Iterator[KernelCase]:
    """Yield every kernel of the package as it is launched: what the operations' `offline.py` name."""
    package = Path(fiberbnn_kernels.__file__).parent
    for file in sorted(package.glob("*/offline.py")):
        yield from importlib.import_module(f"fiberbnn_kernels.{file.parent.name}.offline").cases()


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
        local_accesses=len(LOCAL.findall(sass)),
        loop_accesses=loop_accesses(sass),
        wide_stores=len(re.findall(r"\bSTG\.E\.128\b", sass)),
    )


def loop_accesses(sass: str) -> int:
    """Return the local-memory instructions in the shortest loop that holds most products of the assembly."""
    lines = [(int(at, 16), text) for at, text in re.findall(r"/\*([0-9a-f]{4,})\*/\s+([^;]*);", sass)]
    products = [at for at, text in lines if "FFMA" in text]
    loops = []
    for at, text in lines:
        target = re.search(r"\bBRA\b.*?0x([0-9a-f]+)", text)
        if target and int(target[1], 16) < at:
            loops.append((int(target[1], 16), at))
    most = [(a, b) for a, b in loops if 2 * sum(a <= at <= b for at in products) > len(products)]
    first, last = min(most, key=lambda loop: loop[1] - loop[0], default=(0, -1))
    return sum(first <= at <= last and bool(LOCAL.search(text)) for at, text in lines)


def compile_numbered(number: int, arch: int, cuobjdump: str | None) -> Usage:
    """Return what case `number` needs; a kernel itself cannot be sent to another process."""
    return compile_case(next(islice(cases(), number, None)), arch, cuobjdump)


def broken_limits(case: KernelCase, arch: int, usage: Usage) -> list[str]:
    """Return in words which limits the kernel breaks; what was not measured breaks none."""
    broken = []
    if usage.shared > SHARED_LIMIT[arch]:
        broken.append(f"{usage.shared} bytes of shared memory, the limit is {SHARED_LIMIT[arch]}")
    if usage.contracted and case.bit_equal:
        broken.append(f"{usage.contracted} operations fused or free to be: bits would differ from the CPU's")
    if (usage.stack or 0) > 4 * case.outside_loop:
        broken.append(f"{usage.stack} bytes of stack")
    if (usage.local_accesses or 0) > case.outside_loop:
        broken.append(f"{usage.local_accesses} local-memory instructions (spilled registers)")
    if usage.loop_accesses:
        broken.append(f"{usage.loop_accesses} local-memory instructions in the loop that does the work")
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
    print(LINE.format(*header))
    failures, every = 0, list(cases())
    wanted = [(number, arch) for number in range(len(every)) for arch in SHARED_LIMIT]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        usages = pool.map(compile_numbered, *zip(*wanted, strict=True), repeat(cuobjdump), chunksize=len(SHARED_LIMIT))
        for (number, arch), usage in zip(wanted, usages, strict=True):
            case = every[number]
            broken = broken_limits(case, arch, usage)
            failures += bool(broken)
            shown = ("-" if v is None else v for v in (usage.registers, usage.stack))
            tail = ("-" if v is None else v for v in (usage.local_accesses, usage.wide_stores))
            row = (case.name, arch, case.warps, *shown, usage.shared, *tail, "; ".join(broken) or "ok")
            print(LINE.format(*row))
    print(f"{failures} broken" if failures else f"all limits hold ({len(wanted)} compilations)")
    return int(failures > 0)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _number(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    return int(found[1]) if found else None


if __name__ == "__main__":
    sys.exit(main())
