"""Everything that there is to check and to time on a GPU, in under eight minutes; one record of it.

    python bench/speed/gpu.py --out results/gpu

It needs torch, Triton, numpy, pytest and pytest-benchmark, and no network. Each part runs in a process of its own
within its time; what fails or takes too long is recorded, and the others still run. `--dry-run` does a little of every
part on the CPU, kernels in Triton's interpreter.

Exit code: 0 if everything passed or was skipped for a reason, 1 if not, 2 if there is no GPU or no Triton.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import torch  # noqa: E402

from bench.speed.gpu_parts import parts  # noqa: E402
from bench.speed.gpu_record import new_record, save  # noqa: E402
from bench.speed.machine import triton_version  # noqa: E402


def why_not(dry_run: bool) -> str | None:
    """Return what is missing on this machine, None if nothing is."""
    if triton_version() is None:
        return "Triton is not installed: pip install triton"
    if dry_run:
        return None
    if not torch.cuda.is_available():
        return "torch finds no CUDA device (with --dry-run a little of everything runs on the CPU)"
    return None


def main() -> int:
    """Run all parts and write the record; see above for the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for record.json and table.md")
    parser.add_argument("--dry-run", action="store_true", help="a little of every part, on the CPU")
    parser.add_argument("--commit", help="what is recorded as the commit where git does not know it")
    parser.add_argument("--only", help="parts whose name holds this")
    arguments = parser.parse_args()
    if reason := why_not(arguments.dry_run):
        print(f"gpu.py: {reason}", file=sys.stderr)
        return 2
    known = parts(arguments.dry_run)
    chosen = [part for part in known if (arguments.only or "") in part.name]
    if not chosen:
        print(f"gpu.py: no part's name holds {arguments.only!r}: {', '.join(p.name for p in known)}", file=sys.stderr)
        return 2
    device = torch.device("cpu" if arguments.dry_run else "cuda")
    record = new_record(device, arguments.dry_run, arguments.commit)
    save(record, arguments.out)
    started = perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        for number, part in enumerate(chosen, 1):
            print(f"[{number}/{len(chosen)}] {part.name}, at most {part.limit:.0f} s ...", flush=True)
            found = part.run(Path(scratch) / str(number))
            record["parts"].append(found)
            record["seconds"] = round(perf_counter() - started, 1)
            save(record, arguments.out)
            print(f"      {found['outcome']}, {found['seconds']:.0f} s: {found['summary']}", flush=True)
    bad = [part["name"] for part in record["parts"] if part["outcome"] not in ("passed", "skipped")]
    skipped = [part["name"] for part in record["parts"] if part["outcome"] == "skipped"]
    said = f"not passed: {', '.join(bad)}" if bad else "passed"
    print(f"{arguments.out / 'record.json'}: {said}{'; skipped: ' + ', '.join(skipped) if skipped else ''}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
