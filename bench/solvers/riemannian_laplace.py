"""Riemannian Laplace: samples of a Gaussian follow the loss surface (Bergamin et al. 2023, arXiv:2306.07158)."""

import copy
from typing import Any

import torch
from benchopt import BaseSolver
from torch import Tensor

from benchmark_utils.methods.geodesics import Gradient, exponential_map
from benchmark_utils.methods.laplace_fit import fitted_laplace, too_large_for_full
from benchmark_utils.methods.mixture import mixture_prediction
from benchmark_utils.tasks.task import Task
from fiberbnn import Energy, MapFit, Network


class Solver(BaseSolver):
    """Draws of laplace-torch's Gaussian as velocities: each sample is where its geodesic from the MAP ends.

    The surface is that of U as the library defines it: minus the log posterior, summed over the data, with the prior.
    The draws are those of `laplace` with the same structure and the task's prior. Geodesics are in float64, since
    gaps in the data make them stiff; they predict through the network itself, as in the paper's main results.

    `most_rows` skips tasks with more training rows: every evaluation takes three gradients over all data for
    each sample, and there are hundreds of them.
    """

    name = "riemannian-laplace"
    sampling_strategy = "run_once"
    requirements = ["pip::laplace-torch", "pip::torchdiffeq", "pip::torch"]
    parameters = {"structure": ["kron"], "n_samples": [20], "most_evaluations": [2000], "most_rows": [5000]}
    choices = {"structure": ["full", "kron", "diag"], "most_rows": [int, None]}

    def skip(self, task: Task, map_fit: MapFit) -> tuple[bool, str | None]:
        """Skip images, large tables, and Hessians that are too large."""
        if task.architecture is not None:
            return True, "geodesics take thousands of gradients over all data, too many for images: tables only"
        if self.most_rows is not None and len(task.x_train) > self.most_rows:
            return True, f"{len(task.x_train)} training rows take too long here, where at most {self.most_rows} are run"
        if self.structure == "full" and (too_large := too_large_for_full(map_fit.weights.numel())):
            return True, too_large
        return False, None

    def set_objective(self, task: Task, map_fit: MapFit) -> None:
        """Take the task and its MAP."""
        self.task, self.map_fit = task, map_fit

    def pre_run_hook(self, _: Any) -> None:
        """Pay for first calls outside the clock: a fit of eight rows, and geodesics that hardly leave the MAP."""
        fitted_laplace(self.task, self.map_fit, self.structure, n_rows=8)
        gradient, start = self.surface()
        exponential_map(gradient, start, torch.full_like(start, 1e-6)[None])

    def run(self, _: Any) -> None:
        """Fit the Gaussian, draw velocities from it, and follow their geodesics."""
        task, map_fit = self.task, self.map_fit
        laplace = fitted_laplace(task, map_fit, self.structure)
        draws = laplace.sample(self.n_samples, generator=torch.Generator().manual_seed(task.seed))
        gradient, start = self.surface()
        self.geodesics = exponential_map(
            gradient, start, draws.to(start) - start, most_evaluations=self.most_evaluations
        )
        self.weights = self.geodesics.ends.to(map_fit.weights)

    def surface(self) -> tuple[Gradient, Tensor]:
        """Return the gradient of U and the MAP, both in float64."""
        task, network = self.task, Network(copy.deepcopy(self.map_fit.model).double())
        y = task.y_train if task.kind == "classification" else task.y_train.double()
        energy = Energy(network, task.likelihood(), task.x_train.double(), y, task.prior_precision)
        return lambda weights: energy.value_and_grad(weights)[1], network.weights

    def get_result(self) -> dict[str, Any]:
        """Return the mixture of the networks at the ends of the geodesics."""
        network, weights, noise_std = Network(self.map_fit.model), self.weights, self.task.noise_std
        equations = self.geodesics.evaluations * len(weights)
        outputs = self.task.widths[-1]
        return {
            "predict": lambda x: mixture_prediction(network, weights, x, noise_std),
            "sample_weights": lambda n: weights[:n],
            # The Gaussian takes what it takes in `laplace`.
            "cost": {
                "grad_evals": equations + (0 if self.structure == "full" else outputs),
                "hvp_evals": equations + (len(self.map_fit.weights) if self.structure == "full" else 0),
            },
            "info": {"ode_evaluations": self.geodesics.evaluations},
        }
