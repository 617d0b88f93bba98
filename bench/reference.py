"""Make the long HMC reference runs under results/reference/.

Every method of the benchmark is compared with these: they give the columns agreement_hmc and tv_hmc. One
file a task and seed, written when it is done; those that are there are skipped, so an interrupted run goes on
where it stopped. A file made for other data, split, network or prior is refused and stays until --force. Runs
on one core; five seeds of the small tasks, the default, take more than an hour. Tasks whose data is not at hand are
left out, with the reason.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

# Before JAX is imported: more threads gain nothing on nets this small, and seconds stay comparable.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"

import numpy as np
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from benchmark_utils.data.sources import MissingDataError
from benchmark_utils.methods.chains import initial_chains, predicted_values, predictive_diagnostics
from benchmark_utils.methods.mlp_posterior import MLPPosterior
from benchmark_utils.methods.nuts import NutsRun, compiled_nuts
from benchmark_utils.metrics.evaluation import evaluate_task
from benchmark_utils.rows import provenance
from benchmark_utils.rows.reference import (
    FOLDER,
    FORMAT,
    Reference,
    identity,
    load_reference,
    reference_path,
    save_reference,
)
from benchmark_utils.tasks.known import TASKS, load_task
from benchmark_utils.tasks.noise import with_fitted_noise
from benchmark_utils.tasks.task import Task
from fiberbnn import Network

QUANTILES = 64  # of the function at each test input, regression


@dataclass(frozen=True)
class Settings:
    """How long a reference run is; `reference.py --show` tells how well its chains agree."""

    chains: int = 4
    n_warmup: int = 300
    n_draws: int = 1000
    max_tree_depth: int = 8


# Small steps along long, flat directions: deep trees, longer adaptation.
GAP_SETTINGS = Settings(n_warmup=500, max_tree_depth=10)
SETTINGS = {
    **{name: GAP_SETTINGS for name, spec in TASKS.items() if spec.split in ("gap", "around")},
    # Longer paths, fewer draws: the same gradients at depth 8 leave slow directions behind.
    "banana": Settings(n_draws=400, max_tree_depth=9),
}
# Run when they are named: twenty splits each, thousands of rows, or many layers take hours.
ON_REQUEST = {"waveform"} | {name for name, spec in TASKS.items() if spec.split == "published"}


def make_reference(task: Task, settings: Settings, progress: Callable[[int], None] | None = None) -> Reference:
    """Return the reference of one task and seed from a run of NUTS.

    Args:
        task: what to run.
        settings: how long.
        progress: called with the number of transitions just made.
    """
    posterior = MLPPosterior(task.widths, task.activation, task.kind, task.prior_precision, task.noise_std)
    nuts = compiled_nuts(
        posterior,
        len(task.x_train),
        n_warmup=settings.n_warmup,
        max_tree_depth=settings.max_tree_depth,
        block=math.gcd(settings.n_draws, 50),
    )
    run = nuts.run(
        task.x_train.numpy(),
        task.y_train.numpy(),
        initial_chains(task, settings.chains),
        n_draws=settings.n_draws,
        seed=task.seed,
        progress=progress,
    )
    return summarise(task, settings, run)


def summarise(task: Task, settings: Settings, run: NutsRun) -> Reference:
    """Return what is kept of a run: predictions, and how far they can be trusted."""
    network = Network(task.make_model())
    on_test = predicted_values(task, network, run.draws, task.x_test)  # [R, S, N, C]
    diagnostics = predictive_diagnostics(on_test) | {
        "divergences": run.divergences,
        "acceptance": run.acceptance,
        "tree_depth": run.tree_depth,
        "step_size": run.step_size.tolist(),
        "energy_mean": float(-run.log_density.mean(dtype=np.float64)),
        "energy_sd": float(run.log_density.std(dtype=np.float64)),
    }
    arrays: dict[str, np.ndarray] = {}
    spread: dict[str, float] = {}
    if task.kind == "classification":
        arrays["probs"] = on_test.mean((0, 1), dtype=np.float64)
        by_chain = on_test.mean(1, dtype=np.float64)
        # How far one chain alone is from the others together, as methods are compared with the reference.
        others = (by_chain.sum(0) - by_chain) / max(1, len(by_chain) - 1)
        diagnostics["tv_chain"] = float(0.5 * np.abs(by_chain - others).sum(-1).mean())
    else:
        levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
        function = on_test[..., 0].reshape(-1, len(task.x_test))
        arrays["quantiles"] = np.quantile(function, levels, axis=0)
        arrays |= {
            "test_mean": function.mean(0, dtype=np.float64),
            "test_sd": function.std(0, dtype=np.float64),
        }
        on_train = predicted_values(task, network, run.draws, task.x_train)[..., 0]
        arrays["train_sd"] = on_train.std((0, 1), dtype=np.float64)
        if task.x_plot is not None:
            on_plot = predicted_values(task, network, run.draws, task.x_plot)[..., 0]
            arrays |= {
                "plot_mean": on_plot.mean((0, 1), dtype=np.float64),
                "plot_sd": on_plot.std((0, 1), dtype=np.float64),
            }
        if task.x_plot is not None:
            in_gap = predicted_values(task, network, run.draws, torch.full_like(task.x_train[:1], task.gap_middle))
            scale = task.y_units.scale
            spread = {"sd_gap": scale * float(in_gap.std()), "sd_data": scale * float(arrays["train_sd"].mean())}
    reference = Reference(
        {
            "format": FORMAT,
            "identity": identity(task),
            "data_source": task.source,
            "settings": asdict(settings) | {"start": "untrained networks of different seeds"},
            "diagnostics": diagnostics,
            "cost": {"grad_evals": run.grad_evals, "seconds": run.seconds},
            "versions": json.loads(provenance.versions()),
            "commit": provenance.commit(),
        },
        # Half precision of a quantile is a hundredth of the noise that is put around it.
        {name: values.astype(np.float16 if name == "quantiles" else np.float32) for name, values in arrays.items()},
    )
    reference.about["scores"] = {"nll": evaluate_task(task, reference.prediction())["nll"]} | spread
    return reference


def show(console: Console, references: list[Reference]) -> None:
    """Print what the stored references say about themselves."""
    table = Table(title="HMC references: agreement of the chains on test predictions")
    names = (
        "task",
        "seed",
        "R-hat",
        "ESS min",
        "median",
        "diverged",
        "TV of a chain",
        "NLL",
        "10⁶ gradients",
        "min",
    )
    for name in names:
        table.add_column(name, justify="left" if name == "task" else "right", no_wrap=name == "task")
    for reference in references:
        about, found = reference.about, reference.about["diagnostics"]
        table.add_row(
            about["identity"]["task"],
            str(about["identity"]["seed"]),
            f"{found['rhat_max']:.3f}",
            f"{found['ess_min']:.0f}",
            f"{found['ess_median']:.0f}",
            str(found["divergences"]),
            f"{found['tv_chain']:.4f}" if "tv_chain" in found else "-",
            f"{about['scores']['nll']:.4f}",
            f"{about['cost']['grad_evals'] / 1e6:.2f}",
            f"{about['cost']['seconds'] / 60:.1f}",
        )
    console.print(table)


def main(arguments: list[str] | None = None) -> int:
    """Make what is missing, print the diagnostics of all, and return 1 if a stored file was refused."""
    parser = argparse.ArgumentParser(prog="nox -s reference --", description=__doc__.split("\n\n", 1)[1])
    known = ", ".join(TASKS)
    parser.add_argument("tasks", nargs="*", metavar="task", help=f"any of {known} (default: all but the large)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)), help="default: 0 to 4")
    parser.add_argument("--force", action="store_true", help="make also those that are there")
    parser.add_argument("--show", action="store_true", help="make nothing, print the diagnostics of what is there")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder (default: results/reference)")
    options = parser.parse_args(arguments)
    if unknown := set(options.tasks) - set(TASKS):
        parser.error(f"no task {', '.join(sorted(unknown))}; there are {', '.join(TASKS)}")
    torch.set_num_threads(1)
    console, references, refused = Console(), [], False
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    default = [name for name in TASKS if name not in ON_REQUEST]
    # Seed by seed: an interrupted run leaves whole seeds.
    jobs = [(name, seed) for seed in options.seeds for name in options.tasks or default]
    with Progress(*columns, console=console) as bars:
        overall = bars.add_task("references", total=len(jobs))
        for name, seed in jobs:
            try:
                task = with_fitted_noise(load_task(name, seed))
                stored = None if options.force else load_reference(task, options.output)
            except (MissingDataError, ValueError) as error:
                bars.console.print(f"{name}, seed {seed}: {error}", style="yellow")
                refused |= isinstance(error, ValueError)
                bars.advance(overall)
                continue
            if stored is None and not options.show:
                settings = SETTINGS.get(name, Settings())
                total = settings.chains * (settings.n_warmup + settings.n_draws)
                bar = bars.add_task(f"  {name}, seed {seed}: transitions", total=total)
                stored = make_reference(task, settings, lambda n, bar=bar: bars.advance(bar, n))
                save_reference(stored, options.output)
                bars.console.print(f"wrote {reference_path(name, seed, options.output).name}")
                bars.remove_task(bar)
            references += [stored] if stored else []
            bars.advance(overall)
    show(console, references)
    return int(refused)


if __name__ == "__main__":
    raise SystemExit(main())
