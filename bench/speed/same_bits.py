"""A walk in one launch, several times over: whether its bits are always the same. A race would show."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from bench.speed.record import write_whole
from fiberbnn_kernels import MLPLayout, MLPWalk, mlp_nll_and_grad, mlp_walk

# Widths, rows and particles; one, two and three hidden layers.
SIZES = (
    ((18, 50, 4), 592, 256),
    ((2, 16, 16, 2), 1000, 256),
    ((16, 32, 32, 2), 128, 128),
    ((16, 64, 64, 2), 256, 128),
    ((20, 32, 32, 32, 3), 256, 128),
)
TINY = (((3, 5, 2), 9, 2),)


def walk(widths: tuple[int, ...], n_rows: int, n_particles: int, n_steps: int, device: torch.device) -> MLPWalk:
    """Return a walk by the kernel; some steps are undone."""
    layout = MLPLayout(widths)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(n_rows, widths[0], generator=generator).to(device)
    y = torch.randint(widths[-1], (n_rows,), generator=generator).to(device)
    particles, velocity = (
        scale * torch.randn(n_particles, layout.n_params, generator=generator).to(device) for scale in (0.3, 1.0)
    )
    nll, grad = mlp_nll_and_grad(particles, x, y, layout, likelihood="categorical", impl="reference")
    energy = nll + 0.5 * particles.square().sum(1)
    return mlp_walk(
        particles, velocity, energy, grad + particles, x, y, layout,
        likelihood="categorical", prior_precision=1.0, scale=torch.full((layout.n_params,), 0.1, device=device),
        step_size=0.25, friction=0.5, energy_error_limit=0.5, n_steps=n_steps, seed=1, step0=0, refresh_stream=1,
        revive_stream=2, store_every=n_steps, impl="fused",
    )  # fmt: skip


def main() -> int:
    """Write what was found; return 1 if any bits differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, or cpu under TRITON_INTERPRET=1")
    parser.add_argument("--tiny", action="store_true", help="one small walk")
    parser.add_argument("--result", type=Path, required=True, help="JSON file for what is found")
    arguments = parser.parse_args()
    device, times, n_steps = torch.device(arguments.device), 2 if arguments.tiny else 5, 2 if arguments.tiny else 20
    cases: list[dict[str, Any]] = []
    for widths, n_rows, n_particles in TINY if arguments.tiny else SIZES:
        first, *others = (walk(widths, n_rows, n_particles, n_steps, device) for _ in range(times))
        same = all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))
        undone = 1 - float(first.moved.float().mean())
        finite = bool(first.particles.isfinite().all())
        cases.append({"widths": widths, "runs": times, "same": same, "finite": finite, "undone": round(undone, 4)})
    good = all(case["same"] and case["finite"] for case in cases)
    write_whole(arguments.result, json.dumps({"outcome": "passed" if good else "failed", "cases": cases}))
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
