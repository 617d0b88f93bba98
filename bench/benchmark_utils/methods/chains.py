"""Markov chains on a task: where they start, and how well they agree on predictions."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector

from benchmark_utils.tasks.task import Task
from fiberbnn import Network


def initial_chains(task: Task, n_chains: int) -> np.ndarray:
    """Return the weights of untrained networks, each of its own seed, [R, P], float32.

    Chains that start apart and end together are what R-hat can judge. Warm-up finds the way down: chains
    from draws of the prior, which start far higher, agreed as well.
    """
    seeds = [1000 + 100 * task.seed + chain for chain in range(n_chains)]
    chains = [parameters_to_vector(task.make_model(seed).parameters()) for seed in seeds]
    return torch.stack(chains).detach().numpy()


def predicted_values(task: Task, network: Network, draws: np.ndarray, x: torch.Tensor) -> np.ndarray:
    """Return the class probabilities or outputs, [R, S, N, C], of draws [R, S, P] at x [N, D]."""
    outputs = network(torch.from_numpy(draws).flatten(0, 1), x)
    values = outputs.softmax(-1) if task.kind == "classification" else outputs
    return values.numpy().reshape(*draws.shape[:2], *values.shape[1:])


def predictive_diagnostics(values: np.ndarray) -> dict[str, float]:
    """Return how well chains agree on predictions; weights never mix over a network's symmetries.

    Args:
        values: predicted quantities of each draw, [R, S, ...] (R chains, S draws), such as class
            probabilities at test points. What never varies is left out, and one of two class probabilities.

    Returns:
        rhat_max: largest rank-normalised split R-hat over the quantities; ess_min, ess_median: bulk
        effective sample sizes of all chains together.

    Source: Vehtari et al. (2021), Rank-normalization, folding, and localization, doi:10.1214/20-BA1221.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # arviz announces its next version at import
        import arviz
    if values.shape[-1] == 2:
        values = values[..., :1]  # two probabilities say the same
    varying = values[:, :, np.ptp(values, axis=(0, 1)) > 0].astype(np.float64)  # [R, S, M]
    data = arviz.convert_to_dataset({"value": varying})
    rhat = arviz.rhat(data, method="rank")["value"].values
    ess = arviz.ess(data, method="bulk")["value"].values
    return {"rhat_max": float(rhat.max()), "ess_min": float(ess.min()), "ess_median": float(np.median(ess))}
