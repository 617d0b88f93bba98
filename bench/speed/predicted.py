"""What the design predicts on one H200, where nothing has been measured yet: `python bench/speed/predicted.py`.

The floor of an operation is the time of the traffic and the products that its formula cannot avoid. Predicted is the
longer of memory at `SHARE` of its bandwidth and of the instructions counted in the compiled code; of perceptrons, the
cycles of `fiberbnn_kernels/mlp/paths.py`, by which a path is chosen: one launch unless another is 1.5 times quicker.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from bench.speed.ceilings import Work
from bench.speed.problems import SIZES
from fiberbnn_kernels import MLPLayout
from fiberbnn_kernels.mlp.paths import CHIPS, chosen, predicted_cycles
from fiberbnn_kernels.mlp.table import launch_for

# Of the card: bytes a second of a copy, float32 operations a second, multiprocessors, cycles a second.
BANDWIDTH, FLOPS, MULTIPROCESSORS, CLOCK = 4.3e12, 67e12, 132, 1.85e9
# Instructions of threads a second: four schedulers of 32 lanes.
ISSUE = MULTIPROCESSORS * 128 * CLOCK
SHARE = 0.9  # of the bandwidth that simple kernels reach
ARCHITECTURE = 90

# Flat operations: bytes a weight (inputs read once, results written once), and instructions a weight, counted in the
# machine code for sm_90 of four weights a lane or more (tests/kernels/test_offline_check.py counts them again).
FLAT = {
    "philox_normal": (4, 63),
    "langevin_open": (20, 106),
    "langevin_close": (12, 22),
    "optimizer_step, SGD": (12, 17),
    "optimizer_step, Adam and perturbation": (32, 132),
}
WEIGHTS = 10**8
# Particles, and steps a call: the library makes one while it warms up, five later.
CALLS = ((16, 5), (128, 1), (128, 5), (128, 40), (1024, 5))


def flat() -> Iterator[tuple[str, str, float, float, str]]:
    """Yield operation, size, floor and predicted seconds, and what bounds it, of the flat operations."""
    for name, (n_bytes, instructions) in FLAT.items():
        floor = WEIGHTS * n_bytes / BANDWIDTH
        memory, issued = floor / SHARE, WEIGHTS * instructions / ISSUE
        bound = "memory" if memory > issued else "instructions"
        yield name, "10^8 weights", floor, max(memory, issued), bound


def walks() -> Iterator[tuple[str, str, float, float, str]]:
    """Yield the same of a step of perceptrons' walks, with the path that is taken."""
    for net, (widths, rows) in SIZES.items():
        layout = MLPLayout(widths)
        launch = launch_for(layout, ARCHITECTURE)
        assert launch is not None
        for k, n_steps in CALLS:
            weights = [n_in * n_out for n_in, n_out in pairwise(widths)]
            products = 3 * sum(weights) - weights[0]
            floor = max(2 * k * rows * products / FLOPS, 4 * 6 * k * layout.n_params / BANDWIDTH)
            cycles = predicted_cycles(layout, launch, rows, k, CHIPS[ARCHITECTURE], MULTIPROCESSORS, n_steps)
            path = chosen(cycles)
            others = ", ".join(f"{name} {1e3 * cycles[name] / CLOCK:.3g}" for name in cycles if name != path)
            size = f"{k} particles, {rows} rows, {n_steps} a call"
            yield f"a step of `mlp_walk` {net}", size, floor, cycles[path] / CLOCK, f"{path} (others: {others})"


def sums() -> Iterator[tuple[str, str, float, float, str]]:
    """Yield the same of predictions and decoding."""
    s, n, h, c = 1000, 10_000, 64, 10
    last = Work(4 * (s * n * h + s * c * (h + 1)), 2 * s * n * h * c)
    samples, rank, weights = 64, 64, 10**7
    decoded = Work(4 * (weights * rank + samples * (weights + rank) + weights), 2 * samples * weights * rank)
    for name, size, work in (
        ("class_sums", f"S = {s}, N = {n}, H = {h}, C = {c}", last),
        ("decode", f"S = r = {rank}, 10^7 weights", decoded),
    ):
        memory, products = work.bytes / BANDWIDTH, work.flops / FLOPS
        bound = "memory" if memory > products else "products"
        yield name, size, max(memory, products), max(memory, products) / SHARE, bound


def table() -> str:
    """Return the predictions in Markdown."""
    lines = [
        "| operation | size | floor, ms | predicted, ms | bound by, or path |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for name, size, floor, predicted, why in (*flat(), *walks(), *sums()):
        lines.append(f"| {name} | {size} | {1e3 * floor:.3g} | {1e3 * predicted:.3g} | {why} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
