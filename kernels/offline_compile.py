"""Kernels compiled for GPUs that need not be here, and what the compiler made of them."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fiberbnn_kernels.offline import KernelCase

AMD = "gfx942"
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+([^;]*);")  # address and text of each
LOCAL = re.compile(r"\b(?:LDL|STL)\b")  # instructions that reach for memory of a thread's own: spilled registers


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
    instructions: int | None = None


@dataclass(frozen=True)
class AMDUsage:
    """What a kernel compiled for an AMD GPU needs: registers of both kinds, spilled ones, bytes of memory."""

    vgprs: int
    agprs: int
    vgpr_spills: int
    sgpr_spills: int
    scratch: int
    shared: int


def compile_case(case: KernelCase, arch: int, cuobjdump: str | None) -> Usage:
    """Return what the kernel needs on compute capability `arch` (80 for 8.0)."""
    compiled = _compile(case, "cuda", arch, 32)
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
        instructions=sum(not text.startswith("NOP") for _, text in re.findall(INSTRUCTION, sass)),
    )


def compile_for_amd(case: KernelCase) -> AMDUsage | str:
    """Return what the kernel needs on AMD's gfx942, or why it does not compile there."""
    try:
        compiled = _compile(case, "hip", AMD, 64)
    except Exception as error:  # a compiler for information only: whatever it fails with is what is to be known
        return f"does not compile: {type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
    said = compiled.asm["amdgcn"]
    found = {
        name: _number(rf"\.{key}:\s+(\d+)", said) or 0
        for name, key in (
            ("vgprs", "vgpr_count"), ("agprs", "agpr_count"), ("vgpr_spills", "vgpr_spill_count"),
            ("sgpr_spills", "sgpr_spill_count"), ("scratch", "private_segment_fixed_size"),
        )
    }  # fmt: skip
    return AMDUsage(shared=compiled.metadata.shared, **found)


def _compile(case: KernelCase, backend: str, arch: int | str, warp_size: int) -> Any:
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
    options = {"num_warps": case.warps, **case.options}
    return triton.compile(source, target=GPUTarget(backend, arch, warp_size), options=options)


def loop_accesses(sass: str) -> int:
    """Return the local-memory instructions in the shortest loop that holds most products of the assembly."""
    lines = [(int(at, 16), text) for at, text in re.findall(INSTRUCTION, sass)]
    products = [at for at, text in lines if "FFMA" in text]
    loops = []
    for at, text in lines:
        target = re.search(r"\bBRA\b.*?0x([0-9a-f]+)", text)
        if target and int(target[1], 16) < at:
            loops.append((int(target[1], 16), at))
    most = [(a, b) for a, b in loops if 2 * sum(a <= at <= b for at in products) > len(products)]
    first, last = min(most, key=lambda loop: loop[1] - loop[0], default=(0, -1))
    return sum(first <= at <= last and bool(LOCAL.search(text)) for at, text in lines)


def find_cuobjdump() -> str | None:
    """Return the path of cuobjdump, the one that comes with Triton if there is one."""
    from triton import knobs

    try:
        return str(knobs.nvidia.cuobjdump.path)
    except RuntimeError:
        return shutil.which("cuobjdump")


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _number(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    return int(found[1]) if found else None
