"""Hamiltonian Monte Carlo, NUTS by blackjax: the posterior itself where it can be afforded."""

from typing import Any

import numpy as np
import torch
from benchopt import BaseSolver

from benchmark_utils.methods.chains import initial_chains, predicted_values, predictive_diagnostics
from benchmark_utils.methods.mixture import mixture_prediction
from benchmark_utils.methods.mlp_posterior import MLPPosterior
from benchmark_utils.methods.nuts import compiled_nuts
from benchmark_utils.tasks.task import Task
from fiberbnn import MapFit, Network


class Solver(BaseSolver):
    """Chains from untrained networks of different seeds; the shared MAP is not used.

    Gradients are those of all leapfrog steps, warm-up included. `info` has how well the chains agree on
    predictions (R-hat, effective sample sizes), divergences and acceptance. `most_rows` skips tasks with more
    training rows, in a run that has to end soon.
    """

    name = "hmc"
    sampling_strategy = "run_once"
    requirements = ["pip::blackjax", "pip::jax", "pip::arviz"]
    parameters = {"chains": [2], "n_warmup": [200], "n_draws": [300], "max_tree_depth": [8], "most_rows": [None]}

    def skip(self, task: Task, map_fit: MapFit) -> tuple[bool, str | None]:
        """Skip networks that are not multilayer perceptrons, which is all that is written in JAX."""
        if task.architecture is not None or Network(map_fit.model).mlp_layout is None:
            return True, "hmc runs on plain multilayer perceptrons only: its network is written again in JAX"
        if self.most_rows is not None and len(task.x_train) > self.most_rows:
            return True, f"{len(task.x_train)} training rows take too long here, where at most {self.most_rows} are run"
        return False, None

    def set_objective(self, task: Task, map_fit: MapFit) -> None:
        """Take the task; of the MAP only the network's form is used."""
        self.task, self.network = task, Network(map_fit.model)

    def pre_run_hook(self, _: Any) -> None:
        """Compile, untimed: seconds of XLA would hide what sampling costs.

        Not in warm_up, which benchopt calls once for a solver and not once for each task. Nothing is run
        here: compilation is ahead of time, so the timed part starts cold in all else.
        """
        task = self.task
        posterior = MLPPosterior(task.widths, task.activation, task.kind, task.prior_precision, task.noise_std)
        self.nuts = compiled_nuts(
            posterior,
            len(task.x_train),
            n_warmup=self.n_warmup,
            max_tree_depth=self.max_tree_depth,
            block=self.n_draws,
        )

    def run(self, _: Any) -> None:
        """Warm up and draw all chains."""
        task = self.task
        self.result = self.nuts.run(
            task.x_train.numpy(),
            task.y_train.numpy(),
            initial_chains(task, self.chains),
            n_draws=self.n_draws,
            seed=task.seed,
        )

    def get_result(self) -> dict[str, Any]:
        """Return the mixture of all draws, and the diagnostics on the test inputs."""
        run, task, network = self.result, self.task, self.network
        weights = torch.from_numpy(run.draws).flatten(0, 1)  # [S, P]

        def sample_weights(n: int) -> torch.Tensor:
            return weights[torch.linspace(0, len(weights) - 1, min(n, len(weights))).long()]

        return {
            "predict": lambda x: mixture_prediction(network, weights, x, task.noise_std),
            "sample_weights": sample_weights,
            "cost": {"grad_evals": run.grad_evals, "hvp_evals": 0},
            "info": {
                "starts_from_map": False,
                **predictive_diagnostics(predicted_values(task, network, run.draws, task.x_test)),
                "divergences": run.divergences,
                "acceptance": run.acceptance,
                "tree_depth": run.tree_depth,
                "step_size": float(np.mean(run.step_size)),
            },
        }
