"""How close a predictive is to a reference posterior's, and how high in energy its samples lie."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.special import ndtr

from benchmark_utils.metrics.metric import metric
from benchmark_utils.metrics.prediction import Prediction

TV_CELLS = 250
_TV = "total variation distance; Izmailov et al. (2021), arXiv:2104.14421"


def _check_pair(prediction: Prediction, reference: Prediction) -> None:
    """Refuse predictions of different kinds, or for different examples or classes."""
    pair = (prediction, reference)
    shapes = [tuple((p.class_log_probs if p.kind == "classification" else p.gaussians[0]).shape[1:]) for p in pair]
    if prediction.kind != reference.kind or shapes[0] != shapes[1]:
        raise ValueError(f"the reference is {reference.kind} {shapes[1]}, the prediction {prediction.kind} {shapes[0]}")


@metric(
    "agreement-top1/1",
    "agreement_hmc",
    "classification",
    formula="mean_n [argmax_c p(c | x_n) = argmax_c q(c | x_n)], averaged over samples, q the reference",
    unit="fraction",
    direction="higher",
    reading="against a reference",
    source="Izmailov et al. (2021), arXiv:2104.14421",
)
def agreement(prediction: Prediction, reference: Prediction) -> float:
    """Return the share of examples for which both averaged predictives name the same class."""
    _check_pair(prediction, reference)
    top = [p.averaged_log_probs().argmax(-1) for p in (prediction, reference)]
    return float((top[0] == top[1]).double().mean())


@metric(
    "tv-categorical/1",
    "tv_hmc",
    "classification",
    formula="mean_n 1/2 sum_c |p(c | x_n) - q(c | x_n)|, averaged over samples, q the reference",
    unit="0 to 1",
    direction="lower",
    reading="against a reference",
    source=_TV,
)
def total_variation(prediction: Prediction, reference: Prediction) -> float:
    """Return the mean total variation distance of the averaged class probabilities from the reference's."""
    _check_pair(prediction, reference)
    gap = prediction.averaged_log_probs().exp() - reference.averaged_log_probs().exp()
    return float(0.5 * gap.abs().sum(-1).mean())


@metric(
    f"tv-gaussian-mixture-{TV_CELLS}/1",
    "tv_hmc",
    "regression",
    formula="mean_n 1/2 sum_j |P(cell_j | x_n) - Q(cell_j | x_n)|, near 1/2 integral |p - q| dy; "
    f"Q the reference; {TV_CELLS} equal cells over the mean +- 6 sd of all components",
    unit="0 to 1",
    direction="lower",
    reading="against a reference",
    source=_TV,
)
def total_variation_density(prediction: Prediction, reference: Prediction) -> float:
    """Return the mean total variation distance of the mixture densities from the reference's.

    The cells' probabilities are exact, so the sum is never above the integral, and never above one.
    """
    _check_pair(prediction, reference)
    pair = [(p.gaussians[0], p.gaussians[1].sqrt()) for p in (prediction, reference)]
    low = torch.stack([(mean - 6 * sd).amin(0) for mean, sd in pair]).amin(0)  # [N]
    high = torch.stack([(mean + 6 * sd).amax(0) for mean, sd in pair]).amax(0)
    total = 0.0
    # One example at a time: [S, cells] is small, [S, N, cells] is not.
    for n in range(len(low)):
        edges = low[n] + (high[n] - low[n]) * torch.linspace(0, 1, TV_CELLS + 1, dtype=torch.float64)
        levels = [ndtr((edges - mean[:, n, None]) / sd[:, n, None]).mean(0) for mean, sd in pair]
        gap = levels[0] - levels[1]  # [cells + 1]
        total += 0.5 * float(gap.diff().abs().sum())
    return total / len(low)


@metric(
    "energy-ratio/1",
    "energy_ratio",
    "classification",
    "regression",
    formula="2 (mean_s U(w_s) - U(w_MAP)) / P, U = -log posterior up to a constant, over all training data; "
    "1 for a Gaussian posterior",
    unit="1",
    direction="1",
    reading="energies",
    source="equipartition: half a nat for each of P directions at temperature 1",
)
def energy_ratio(energies: Tensor, map_energy: float, n_params: int) -> float:
    """Return how far samples lie above the MAP, in units of what a Gaussian posterior would give.

    Args:
        energies: U of each sample, [S], nats, prior included.
        map_energy: U at the MAP, nats.
        n_params: P.

    Raises:
        ValueError: if there is no sample or no parameter.
    """
    if energies.numel() == 0 or n_params < 1:
        raise ValueError("the energy ratio needs at least one sample and one parameter")
    return 2.0 * (float(energies.double().mean()) - map_energy) / n_params
