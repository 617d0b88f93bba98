"""Compile every Triton kernel for GPUs that need not be here, and hold the result against limits.

    python kernels/offline_check.py                       # or nox -s kernels
    python kernels/offline_check.py -k langevin_open      # those whose name holds this
    python kernels/offline_check.py --amd all             # on AMD's gfx942 every case, not one of each kernel
    python kernels/offline_check.py --architectures 80 86 89 90 100 120

Prints registers, stack, local-memory instructions inside and outside the loop that does the work, shared memory and
its limit, for each kernel, block and architecture. Then, as information that breaks no limit, what AMD's compiler makes
of the kernels. Exits with 1 if a limit is broken, with 2 if nothing could be compiled. Missing tools are reported.
"""

import argparse
import importlib
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from offline_compile import AMD, AMDUsage, Usage, compile_case, compile_for_amd, find_cuobjdump

import fiberbnn_kernels
from fiberbnn_kernels.mlp.table import SMALL_SHARED
from fiberbnn_kernels.offline import KernelCase

# What is compiled by default, and so in CI.
ARCHITECTURES = (80, 90, 100)
# Shared memory one program may have, bytes. Triton does not check it when it compiles for an absent device.
SMALL_SHARED_LIMIT = 99 << 10
SHARED_LIMIT = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10} | dict.fromkeys(SMALL_SHARED, SMALL_SHARED_LIMIT)
# For compute capabilities 8.6, 8.9 and 12.0 nothing is compiled by default: what a kernel that is launched there asks
# for on 8.0 is held against their limit instead. With --architectures it is compiled for them and held against all
# limits; kernels that are not launched there are left out.
NVIDIA_LINE = "{:<52}{:>5}{:>6}{:>10}{:>6}{:>9}{:>10}{:>15}{:>12}{:>15}  {}"
NVIDIA_HEADER = (
    "kernel", "sm", "warps", "registers", "stack", "in loop", "elsewhere", "shared/limit", "fits 99 kB",
    "16-byte stores", "verdict",
)  # fmt: skip
AMD_SHARED_LIMIT = 64 << 10
AMD_LINE = "{:<52}{:>6}{:>7}{:>7}{:>13}{:>13}{:>9}{:>13}  {}"
AMD_HEADER = ("kernel", "warps", "VGPRs", "AGPRs", "VGPR spills", "SGPR spills", "scratch", "LDS/limit", "note")


def cases() -> Iterator[KernelCase]:
    """Yield every kernel of the package as it is launched: what the operations' `offline.py` name."""
    package = Path(fiberbnn_kernels.__file__).parent
    for file in sorted(package.glob("*/offline.py")):
        yield from importlib.import_module(f"fiberbnn_kernels.{file.parent.name}.offline").cases()


def compile_numbered(work: tuple[int, int | None], cuobjdump: str | None) -> tuple[Usage | AMDUsage | str, float]:
    """Return what case `number` needs on an architecture, None for AMD's, and the seconds of processor time it took.

    A kernel itself cannot be sent to another process.
    """
    number, arch = work
    start = sum(os.times()[:4])  # with that of the assembler, a process of its own
    case = next(islice(cases(), number, None))
    usage = compile_for_amd(case) if arch is None else compile_case(case, arch, cuobjdump)
    return usage, sum(os.times()[:4]) - start


def broken_limits(case: KernelCase, arch: int, usage: Usage) -> list[str]:
    """Return in words which limits the kernel breaks; what was not measured breaks none."""
    broken = []
    if usage.shared > SHARED_LIMIT[arch]:
        broken.append(f"{usage.shared} bytes of shared memory, the limit is {SHARED_LIMIT[arch]}")
    if arch == 80 and case.everywhere and usage.shared > SMALL_SHARED_LIMIT:
        broken.append(f"{usage.shared} bytes of shared memory, on 8.6, 8.9 and 12.0 the limit is {SMALL_SHARED_LIMIT}")
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


def one_of_each(every: dict[int, KernelCase]) -> list[int]:
    """Return the number of one case for every kernel: of most constants it is given, the last."""
    return sorted({case.kernel.__name__: number for number, case in every.items()}.values())


def nvidia_row(case: KernelCase, arch: int, usage: Usage, broken: list[str]) -> str:
    """Return a line of the table."""
    elsewhere = None
    if usage.local_accesses is not None and usage.loop_accesses is not None:
        elsewhere = usage.local_accesses - usage.loop_accesses
    measured = ("-" if v is None else v for v in (usage.registers, usage.stack, usage.loop_accesses, elsewhere))
    small = "-" if arch != 80 else "yes" if usage.shared <= SMALL_SHARED_LIMIT else "no"
    stores = "-" if usage.wide_stores is None else usage.wide_stores
    shared = f"{usage.shared}/{SHARED_LIMIT[arch]}"
    verdict = "; ".join(broken) or "ok"
    return NVIDIA_LINE.format(case.name, arch, case.warps, *measured, shared, small, stores, verdict)


def amd_row(case: KernelCase, usage: AMDUsage | str) -> str:
    """Return a line of the table for information."""
    if isinstance(usage, str):
        return AMD_LINE.format(case.name, case.warps, *6 * "-", usage)
    numbers = (usage.vgprs, usage.agprs, usage.vgpr_spills, usage.sgpr_spills, usage.scratch)
    notes = ["spills"] if usage.vgpr_spills else []  # spilled SGPRs lie in VGPRs
    if usage.shared > AMD_SHARED_LIMIT:
        notes.append("too much LDS")
    lds = f"{usage.shared}/{AMD_SHARED_LIMIT}"
    return AMD_LINE.format(case.name, case.warps, *numbers, lds, ", ".join(notes))


def compiled(
    wanted: Sequence[tuple[int, int | None]], cuobjdump: str | None, jobs: int
) -> Iterator[tuple[Usage | AMDUsage | str, float]]:
    """Yield what `compile_numbered` returns for all that is wanted, in order."""
    work = partial(compile_numbered, cuobjdump=cuobjdump)
    if jobs == 1:
        yield from map(work, wanted)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, wanted, chunksize=len(ARCHITECTURES))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", metavar="NAME", default="", help="only the kernels whose name in the table holds NAME")
    parser.add_argument(
        "--amd", choices=("none", "some", "all"), default="some",
        help=f"how many to compile for AMD's {AMD}, as information: one case of each kernel by default",
    )  # fmt: skip
    parser.add_argument(
        "--architectures", nargs="+", type=int, choices=sorted(SHARED_LIMIT), default=ARCHITECTURES,
        help="compute capabilities, 80 for 8.0; default " + " ".join(map(str, ARCHITECTURES)),
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes; all processors by default")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return 0 if all limits hold, 1 if one is broken, 2 if nothing can be compiled."""
    options = parsed(arguments)
    try:
        import triton
        from triton.backends import backends
    except ImportError:
        print("Triton is not installed: nothing was checked", file=sys.stderr)
        return 2
    every = {number: case for number, case in enumerate(cases()) if options.k in case.name}
    if not every:
        print(f"no kernel has {options.k!r} in its name: nothing was checked", file=sys.stderr)
        return 2
    print(f"Triton {triton.__version__}")
    cuobjdump = find_cuobjdump()
    if cuobjdump is None:
        print("no cuobjdump found: registers, stack, spills and store widths are NOT checked")
    wanted: list[tuple[int, int | None]] = [
        (number, arch)
        for number, case in every.items()
        for arch in options.architectures
        if case.everywhere or arch not in SMALL_SHARED
    ]
    if options.amd != "none" and "amd" not in backends:
        print(f"this Triton has no compiler for AMD: nothing is known of {AMD}")
    elif options.amd != "none":
        wanted += [(number, None) for number in (every if options.amd == "all" else one_of_each(every))]
    print(NVIDIA_LINE.format(*NVIDIA_HEADER))
    failures, seconds, amd_rows, amd_seconds = 0, 0.0, [], 0.0
    for (number, arch), (usage, took) in zip(wanted, compiled(wanted, cuobjdump, options.jobs), strict=True):
        seconds += took
        if isinstance(usage, Usage):
            assert arch is not None
            broken = broken_limits(every[number], arch, usage)
            failures += bool(broken)
            print(nvidia_row(every[number], arch, usage, broken))
        else:
            amd_rows.append(amd_row(every[number], usage))
            amd_seconds += took
    if amd_rows:
        print(f"\n{AMD}, for information: no limit is held against it, nothing has run there")
        print("\n".join((AMD_LINE.format(*AMD_HEADER), *amd_rows)))
    spent = f"{seconds:.0f} s of processor time, {amd_seconds:.0f} s of it for {AMD}"
    n_checked = len(wanted) - len(amd_rows)
    print(f"\n{f'{failures} broken' if failures else 'all limits hold'} ({n_checked} compilations checked; {spent})")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
