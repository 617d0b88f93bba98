"""How much clean runs differ: walk and MetricBNN again, from the same MAPs, with other sampling seeds.

The floors of calibration.py stand on these rows, and a test asks that the gate is quiet on each repetition. A machine
with other rounding differs less than another seed does. Half an hour on one core:
`PYTHONPATH=.:kernels:bench python -m benchmark_utils.gate.repeats results/baseline/quick/repeats.parquet`.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmark_utils.report.rows import KEY, split_name, write_rows
from benchmark_utils.rows.cost import Meter
from benchmark_utils.rows.row import evaluate_method
from benchmark_utils.tasks.known import load_task
from benchmark_utils.tasks.shared_map import train_map
from benchmark_utils.tasks.task import Task
from fiberbnn import MapFit

SOLVERS = Path(__file__).resolve().parents[2] / "solvers"
METHODS = ("walk", "metricbnn")
TASKS = ("gap-1-15-1", "gap-1-10-10-1", "banana", "breast", "vehicle")
KEPT = [
    *KEY, "repetition", "suite_version", "status", "reason", "kind", "dataset_sha256", "nll", "ece", "energy_ratio",
    "tv_hmc", "tv_walk", "gradients", "peak_rise_mib",
]  # fmt: skip


def repeated(
    methods: Iterable[str], tasks: Iterable[str], seeds: Iterable[int], repetitions: Iterable[int]
) -> pd.DataFrame:
    """Return a row for each method, task, seed and repetition; repetition 0 has the benchmark's own seeds.

    Args:
        methods: names of files in bench/solvers, with their default settings.
        tasks: names.
        seeds: of split, MAP and sampling.
        repetitions: numbers; each has sampling seeds of its own.
    """
    torch.set_num_threads(1)
    methods, repetitions, rows = list(methods), list(repetitions), []
    for task in (load_task(name, seed) for name in tasks for seed in seeds):
        fit = train_map(task)
        for repetition in repetitions:
            for method in methods:
                row = _row(method, task, fit, task.seed + 7919 * repetition)
                rows.append(row | {"repetition": repetition})
    frame = pd.DataFrame(rows)
    return frame[[name for name in KEPT if name in frame]]


def _row(method: str, task: Task, fit: MapFit, seed: int) -> dict[str, Any]:
    """The row of a method that samples with this seed."""
    solver = _solver(method)
    solver.set_objective(replace(task, seed=seed), fit)
    solver.pre_run_hook(None)
    with Meter() as meter:
        solver.run(None)
    result = solver.get_result()
    cost = {**result["cost"], "fit_s": meter.seconds, "peak_rise_mib": meter.peak_rise_mib}
    cost.pop("shared_s", None)  # of further MAPs, which tables have none of
    row = evaluate_method(task, fit, result["predict"], result["sample_weights"], cost, result["info"])
    return row | {"method": solver.name, "settings": split_name(str(solver))[1]}


def _solver(name: str) -> Any:
    """The solver of a file, with the first value of every parameter."""
    spec = importlib.util.spec_from_file_location(f"gate_solver_{name}", SOLVERS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Solver.get_instance()


def main() -> None:
    """Write the repetitions of all methods and tasks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="a Parquet file")
    parser.add_argument("--repetitions", type=int, default=10)
    arguments = parser.parse_args()
    rows = repeated(METHODS, TASKS, range(3), range(arguments.repetitions))
    write_rows(rows, arguments.output)


if __name__ == "__main__":
    main()
