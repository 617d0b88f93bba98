"""Stochastic-gradient Hamiltonian Monte Carlo (Chen, Fox and Guestrin 2014, arXiv:1402.4102), by posteriors."""

from typing import Any

import torch
from benchopt import BaseSolver
from torch import Tensor

from benchmark_utils.dropout import masks_from
from benchmark_utils.log_posterior import energy_in_batches, log_posterior, sgmcmc
from benchmark_utils.mixture import mixture_prediction, samples_for
from benchmark_utils.task import Task
from fiberbnn import Energy, MapFit, MinibatchEnergy, Network
from fiberbnn.cost import Cost
from fiberbnn.curvature import diagonal_scale, ggn_diagonal, largest_eigenvalue

FEWEST_ROWS = 1000  # in a minibatch: fewer hardly save time
FRICTION = 0.3  # in units of the fastest frequency
# A run on images takes 45 passes over the training data, about what the walks take.
IMAGE_CHAINS, IMAGE_STEPS, IMAGE_BATCHES = 3, 300, 20


class Solver(BaseSolver):
    """Chains from the MAP with minibatches, preconditioned by the diagonal of the Gauss-Newton matrix there.

    In the preconditioned coordinates the largest curvature is lambda, measured at the MAP; the friction is 0.3
    sqrt(lambda). The step size follows from `excess`, by how much the variance in the direction of that curvature may
    be too large: the explicit Euler steps of `posteriors` add step * lambda / friction to it, and the noise of
    minibatches, whose covariance is about (batches - 1) times the curvature, (batches - 1) / 2 times as much. Other
    directions have less of both. The same for all tasks, and no data but the training data are looked at.

    The first `burn_in` of the steps are left out; snapshots are then taken at even distances. Tables are seen in a
    fifth of their rows a step, at least 1000 of them; images in a twentieth, with fewer chains and steps.
    """

    name = "sghmc"
    sampling_strategy = "run_once"
    requirements = ["pip::posteriors", "pip::torch"]
    parameters = {
        "excess": [0.3],
        "n_chains": [10],
        "n_steps": [3000],
        "burn_in": [1 / 3],
        "batches": [5],
        "n_samples": [300],
    }

    def skip(self, task: Task, map_fit: MapFit) -> tuple[bool, str | None]:
        """Skip settings that leave nothing to sample."""
        if not (self.excess > 0 and 0 <= self.burn_in < 1 and self.batches >= 1):
            return True, "excess has to be positive, burn_in from 0 to less than 1, and batches at least 1"
        return False, None

    def set_objective(self, task: Task, map_fit: MapFit) -> None:
        """Take the task and its MAP."""
        self.task, self.map_fit = task, map_fit

    def pre_run_hook(self, _: Any) -> None:
        """Pay for first calls outside the clock, with two steps."""
        self.chains(2)

    def run(self, _: Any) -> None:
        """Measure the curvature, and run the chains."""
        images = self.task.architecture is not None
        self.weights, self.info, self.cost = self.chains(IMAGE_STEPS if images else self.n_steps)

    def chains(self, n_steps: int) -> tuple[Tensor, dict[str, float], Cost]:
        """Return snapshots of all chains [S, P], what the steps were, and what it cost."""
        task, start = self.task, self.map_fit.weights
        images = task.architecture is not None
        n_chains = IMAGE_CHAINS if images else self.n_chains
        n_rows, batches = len(task.x_train), IMAGE_BATCHES if images else self.batches
        batch_rows = max(FEWEST_ROWS, n_rows // batches)
        energy = energy_in_batches(task, self.map_fit, batch_rows)
        at_map = energy_in_batches(task, self.map_fit, batch_rows if images else n_rows).at(0)
        scale = diagonal_scale(ggn_diagonal(at_map, start, seed=task.seed), task.prior_precision)
        top = largest_eigenvalue(at_map, start, scale, seed=task.seed)
        noise = max(0.0, n_rows / batch_rows - 1) / 2
        friction = FRICTION * top**0.5
        step_size = self.excess * friction / (top * (1 + noise))

        def scaled_log_posterior(z: Tensor, batch: Energy) -> tuple[Tensor, Tensor]:
            return log_posterior(start + scale * z, batch)

        sampler = sgmcmc.sghmc.build(scaled_log_posterior, step_size, alpha=friction)
        n_burnt = int(self.burn_in * n_steps)
        per_chain = max(1, samples_for(task, self.n_samples) // n_chains)
        kept = set(torch.linspace(n_burnt, n_steps, per_chain + 1).long().tolist()[1:])
        snapshots = []
        with masks_from(task.seed, start.device):
            state = sampler.init(torch.zeros_like(start).repeat(n_chains, 1))
            for step in range(n_steps):
                state, _ = sampler.update(state, energy.at(step), inplace=False)
                if step + 1 in kept:
                    snapshots.append(start + scale * state.params)
        weights = torch.cat(snapshots)
        if not weights.isfinite().all():
            raise FloatingPointError(f"the chains diverged at step size {step_size:.2e}: lower excess")
        return weights, {"step_size": step_size, "friction": friction}, energy.cost + at_map.cost

    def get_result(self) -> dict[str, Any]:
        """Return the mixture of the snapshots."""
        network, weights, noise_std = Network(self.map_fit.model), self.weights, self.task.noise_std
        return {
            "predict": lambda x: mixture_prediction(network, weights, x, noise_std),
            "sample_weights": lambda n: weights[torch.linspace(0, len(weights) - 1, min(n, len(weights))).long()],
            "cost": {"grad_evals": self.cost.grad_evals, "hvp_evals": self.cost.hvp_evals},
            "info": self.info,
        }
