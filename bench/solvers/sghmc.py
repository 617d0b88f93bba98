"""Stochastic-gradient Hamiltonian Monte Carlo (Chen, Fox and Guestrin 2014, arXiv:1402.4102), by posteriors."""

from typing import Any

import torch
from benchopt import BaseSolver
from torch import Tensor

from benchmark_utils.methods.dropout import masks_from
from benchmark_utils.methods.log_posterior import energy_in_batches, log_posterior, sgmcmc
from benchmark_utils.methods.mixture import mixture_prediction, samples_for
from benchmark_utils.tasks.task import Task
from fiberbnn import Energy, MapFit, MinibatchEnergy, Network
from fiberbnn.curvature import diagonal_scale, ggn_diagonal, largest_eigenvalue

FRICTION = 0.3  # in units of the fastest frequency
FEWEST_ROWS = 1000  # of a table in a minibatch: fewer hardly save time
# On images they take 45 passes over the training data, about what the walks take.
IMAGE_CHAINS, IMAGE_STEPS, IMAGE_BATCHES = 3, 300, 20
CHECK_EVERY = 20  # steps
HALVINGS = 10
HOT, ENERGIES = 2.0, 30  # mean energy ratio, of so many snapshots on all data


class Solver(BaseSolver):
    """Chains from the MAP, all at once, preconditioned by the diagonal of the Gauss-Newton matrix there.

    In the preconditioned coordinates the largest curvature is lambda, measured at the MAP; the friction is 0.3
    sqrt(lambda). The step size follows from `excess`, by which share the variance in the direction of that curvature
    may be too large, to first order: the explicit Euler steps of `posteriors` add step * lambda / friction to it, and
    the noise of minibatches, whose covariance is about (batches - 1) times the curvature, (batches - 1) / 2 times as
    much. Other directions have less of both. 0.3 was chosen by the energies of the training data, which shorter steps
    leave lower still, since 3000 of them do not get far enough. It is the same for all tasks.

    Where the posterior is steeper than at the MAP such steps may be unstable: chains that diverge, or whose snapshots
    have a mean energy ratio of more than 2 (a Gaussian has 1), are begun again with half the step, and `info` says how
    often that was. The gradients and energies of all attempts are charged.

    The first `burn_in` of the steps are left out; snapshots are then taken at even distances. A step sees a fifth of
    a table's rows, at least 1000 of them if there are as many; of images a twentieth, with fewer chains and steps.
    """

    name = "sghmc"
    sampling_strategy = "run_once"
    requirements = ["pip::posteriors", "pip::torch"]
    parameters = {
        "excess": [0.3],
        "n_chains": [10],
        "n_steps": [3000],
        "burn_in": [0.3],
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
        n_rows, images = len(task.x_train), task.architecture is not None
        self.batch_rows = n_rows // IMAGE_BATCHES if images else max(FEWEST_ROWS, n_rows // self.batches)
        self.batch_rows = min(max(1, self.batch_rows), n_rows)
        self.chains, self.steps = (IMAGE_CHAINS, IMAGE_STEPS) if images else (self.n_chains, self.n_steps)

    def pre_run_hook(self, _: Any) -> None:
        """Pay for first calls outside the clock, with two steps."""
        energy = energy_in_batches(self.task, self.map_fit, self.batch_rows)
        self.sampled(energy, torch.ones_like(self.map_fit.weights), 1e-9, 1.0, n_steps=2)

    def run(self, _: Any) -> None:
        """Measure the curvature, and run the chains until they stay in the posterior."""
        task, start = self.task, self.map_fit.weights
        energy = energy_in_batches(task, self.map_fit, self.batch_rows)
        # All of a table; one minibatch of images.
        at_map = energy_in_batches(
            task, self.map_fit, self.batch_rows if task.architecture is not None else len(task.x_train)
        ).at(0)
        scale = diagonal_scale(ggn_diagonal(at_map, start, seed=task.seed), task.prior_precision)
        top = largest_eigenvalue(at_map, start, scale, seed=task.seed)
        friction = FRICTION * top**0.5
        batch_noise = (len(task.x_train) / self.batch_rows - 1) / 2
        step_size = self.excess * friction / (top * (1 + batch_noise))
        for halvings in range(HALVINGS):
            weights = self.sampled(energy, scale, step_size / 2**halvings, friction, n_steps=self.steps)
            if weights is not None:
                break
        else:
            raise FloatingPointError(f"the chains diverged, even at step size {step_size / 2**halvings:.2e}")
        self.weights, self.cost = weights, energy.cost + at_map.cost
        self.info = {"step_size": step_size / 2**halvings, "friction": friction, "halvings": halvings}

    def sampled(
        self, energy: Energy | MinibatchEnergy, scale: Tensor, step_size: float, friction: float, *, n_steps: int
    ) -> Tensor | None:
        """Return snapshots of all chains, [S, P], in the order that they were taken; None if unstable."""
        task, start = self.task, self.map_fit.weights

        def scaled_log_posterior(z: Tensor, batch: Energy) -> tuple[Tensor, Tensor]:
            return log_posterior(start + scale * z, batch)

        sampler = sgmcmc.sghmc.build(scaled_log_posterior, step_size, alpha=friction)
        per_chain = max(1, samples_for(task, self.n_samples) // self.chains)
        # Integers, evenly: the last step is the last snapshot.
        times = torch.linspace(int(self.burn_in * n_steps), n_steps, per_chain + 1).long().tolist()[1:]
        snapshots = []
        with masks_from(task.seed, start.device):
            state = sampler.init(torch.zeros_like(start).repeat(self.chains, 1))
            for step in range(1, n_steps + 1):
                state, _ = sampler.update(state, energy.at(step - 1), inplace=False)
                if step % CHECK_EVERY == 0 and not state.params.isfinite().all():
                    return None
                if step in times:
                    snapshots.append(start + scale * state.params)
        weights = torch.cat(snapshots)
        if not weights.isfinite().all():
            return None
        ratio = 2 * (energy(evenly(weights, ENERGIES)).mean() - self.map_fit.energy) / len(start)
        return weights if ratio <= HOT else None

    def get_result(self) -> dict[str, Any]:
        """Return the mixture of the snapshots."""
        network, weights, noise_std = Network(self.map_fit.model), self.weights, self.task.noise_std
        return {
            "predict": lambda x: mixture_prediction(network, weights, x, noise_std),
            "sample_weights": lambda n: evenly(weights, n),
            "cost": {
                "grad_evals": self.cost.grad_evals,
                "hvp_evals": self.cost.hvp_evals,
                "energy_evals": self.cost.energy_evals,
            },
            "info": self.info,
        }


def evenly(weights: Tensor, n: int) -> Tensor:
    """Return n of weights [S, P] at even distances, all if there are fewer."""
    return weights[torch.linspace(0, len(weights) - 1, min(n, len(weights))).long()]
