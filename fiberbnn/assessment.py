"""Measuring the diagnostics of a fit: of walks and latent posteriors alone, and on held-out data."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .batch import Inputs, check_finite
from .batch_norm import statistics_of
from .cost import Cost
from .diagnostics import Diagnostics, warnings_of
from .likelihood import Categorical, Likelihood
from .memory import peak_mib
from .mode import Mode
from .predictive import outputs_of, predictive_nll, split_r_hat, spread
from .streams import seed_of_mode
from .trajectory import Trajectory


def of_fit(modes: Sequence[Mode], shares: Sequence[float], *, temperature: float = 1.0, seed: int = 0) -> Diagnostics:
    """Return what is known after a fit, without held-out data.

    Args:
        modes: with their walks and energies; those count all that the fit computed.
        shares: weights of the modes.
        temperature: of the draws whose energies are taken.
        seed: of these draws.
    """
    cost, walks = sum((mode.cost.copy() for mode in modes), Cost()), [mode.trajectory for mode in modes]
    present = [walk for walk in walks if walk is not None]
    found = Diagnostics(
        minibatches=any(mode.energy is not None and not mode.energy.exact for mode in modes),
        energy_ratio_walk=_mean([walk.energy_ratio for walk in present], shares),
        settled=all(walk.settled for walk in present),
        heat=_mean([walk.heat for walk in present], shares),
        undone=_mean([walk.undone for walk in present], shares),
        lost=sum(walk.lost for walk in present),
        grad_evals=round(cost.grad_evals),
        hvp_evals=round(cost.hvp_evals),
        energy_evals=round(cost.energy_evals),
        walk_s=sum(walk.seconds for walk in present),
        latent_s=sum(mode.latent.seconds for mode in modes),
        peak_mib=peak_mib(modes[0].network.weights.device),
    )
    return reassessed(found, modes, shares, temperature=temperature, seed=seed)


def reassessed(
    d: Diagnostics, modes: Sequence[Mode], shares: Sequence[float], *, temperature: float, seed: int = 0
) -> Diagnostics:
    """Return what `of_fit` says of draws, of those at another temperature; the arguments are those of `of_fit`."""
    ratios = [_energy_ratio(mode, temperature, seed_of_mode(seed, m)) for m, mode in enumerate(modes)]
    d = replace(d, temperature=temperature, energy_ratio_latent=_mean(ratios, shares))
    return replace(d, warnings=warnings_of(d))


def _mean(values: Sequence[float], shares: Sequence[float]) -> float:
    return sum(value * share for value, share in zip(values, shares, strict=True))


def _energy_ratio(mode: Mode, temperature: float, seed: int) -> float:
    """Energy ratio of decoded samples, on all data or on one minibatch."""
    energy = mode.energy
    if energy is None or mode.trajectory is None:
        return math.nan
    seen, n_samples = (energy, 100) if energy.exact else (energy.at(0), 32)
    pieces = mode.latent.at_temperature(temperature).pieces(n_samples, seed=seed)
    total = sum(float(seen(piece).double().sum()) for piece in pieces)
    return 2.0 * (total / n_samples - mode.trajectory.map_energy) / energy.network.n_params


def judged(
    d: Diagnostics,
    modes: Sequence[Mode],
    shares: Sequence[float],
    likelihood: Likelihood,
    outputs: Tensor,
    x: Inputs,
    y: Tensor,
) -> Diagnostics:
    """Return diagnostics with what held-out data say added.

    Args:
        d: what is known from the fit.
        modes: their networks' own weights are the MAPs; their walks, if they are at hand, are compared with.
        shares: weights of the modes.
        likelihood: what outputs mean.
        outputs: of samples of the posterior at x, [S, N, ...].
        x: held-out inputs, N rows.
        y: their labels or targets.

    Raises:
        ValueError: if the data do not fit model and likelihood, or are not finite.
    """
    check_finite(y, "targets")
    y = y.to(outputs) if y.is_floating_point() else y.to(outputs.device)
    likelihood.check(outputs[0], y)
    maps = [_at_map(mode, x) for mode in modes]
    predictions = likelihood.predictions(outputs)
    averaged, single = predictive_nll(likelihood, outputs, y)
    d = replace(
        d,
        nll_map=_pooled_nll(likelihood, maps, shares, y),
        nll_latent=averaged,
        nll_single=single,
        spread_latent=spread(predictions),
    )
    walks = [mode.trajectory for mode in modes if mode.trajectory is not None and mode.network.batch_norm == "frozen"]
    if len(walks) == len(modes):
        walked = [outputs_of(mode.network, walk.weights, x) for mode, walk in zip(modes, walks, strict=True)]
        d = _with_walks(d, likelihood, walked, predictions, walks, shares, y)
    return replace(d, warnings=warnings_of(d))


def _at_map(mode: Mode, x: Inputs) -> Tensor:
    """The MAP's own outputs, with the running statistics that it was trained with, [1, N, ...]."""
    network = mode.network
    own = None
    if network.batch_norm == "refresh":
        own = {name: value[None] for name, value in statistics_of(network.model).items()}
    return outputs_of(network, network.weights[None], x, buffers=own)


def _with_walks(
    d: Diagnostics,
    likelihood: Likelihood,
    outputs: list[Tensor],
    latent_predictions: Tensor,
    walks: Sequence[Trajectory],
    shares: Sequence[float],
    y: Tensor,
) -> Diagnostics:
    """Add what compares the posterior with the walks' own snapshots, whose outputs are [M, N, ...] for each mode."""
    predictions = [likelihood.predictions(one) for one in outputs]
    r_hats = [_r_hat(one, walk) for one, walk in zip(predictions, walks, strict=True)]
    tv = math.nan
    if isinstance(likelihood, Categorical):
        mean = sum((share * one.mean(dim=0) for share, one in zip(shares, predictions, strict=True)))
        difference = (mean - latent_predictions.mean(dim=0)).abs().sum(likelihood.class_axis)
        tv = float(0.5 * difference.mean())
    return replace(
        d,
        nll_walk=_pooled_nll(likelihood, outputs, shares, y),
        spread_walk=_mean([spread(one) for one in predictions], shares)
        if len(walks) == 1
        else _spread(predictions, shares),
        tv_latent=tv,
        r_hat_median=max(float(r_hat.median()) for r_hat in r_hats),
        r_hat_max=max(float(r_hat.max()) for r_hat in r_hats),
    )


def _r_hat(predictions: Tensor, walk: Trajectory) -> Tensor:
    """Split R-hat of the predictions [M, N, ...] of one walk, over its particles."""
    n_particles = int(walk.particle.unique().numel())
    chains = predictions.unflatten(0, (-1, n_particles)).transpose(0, 1)  # [K, T, N, ...]
    return split_r_hat(chains) if n_particles > 1 and chains.shape[1] >= 4 else torch.tensor(math.nan)


def _pooled_nll(likelihood: Likelihood, outputs: list[Tensor], shares: Sequence[float], y: Tensor) -> float:
    """Mean NLL of the predictive that pools the modes' outputs [S, N, ...] by their weights, nats an example."""
    exact = y.double() if y.is_floating_point() else y
    each = [
        likelihood.log_prob(one.double(), exact).logsumexp(0) - math.log(len(one)) + math.log(share)
        for one, share in zip(outputs, shares, strict=True)
    ]
    return -float(torch.stack(each).logsumexp(0).mean())


def _spread(predictions: list[Tensor], shares: Sequence[float]) -> float:
    """Mean standard deviation over the samples of all walks, each walk by its weight."""
    mean = sum((share * one.double().mean(dim=0) for share, one in zip(shares, predictions, strict=True)))
    square = sum(
        (share * (one.double() - mean).square().mean(dim=0) for share, one in zip(shares, predictions, strict=True))
    )
    return float(torch.as_tensor(square).sqrt().mean())
