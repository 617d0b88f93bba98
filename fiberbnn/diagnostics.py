"""What a fitted posterior says about itself, and the warnings that follow."""

import math
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from .energy import Energy
from .latent import LatentPosterior
from .likelihood import Categorical, Likelihood
from .memory import peak_mib
from .network import Network
from .predictive import outputs_of, predictions_of, predictive_nll, split_r_hat, spread
from .trajectory import Trajectory


@dataclass(frozen=True)
class Diagnostics:
    """The state of a fitted posterior; numbers that were not measured are NaN.

    Attributes:
        energy_ratio_walk: mean energy rise of the walk over the P/2 nats of equipartition; near 1 when spread out.
        energy_ratio_latent: the same of decoded samples.
        settled: whether the walk's energy had stopped growing when snapshots began.
        undone: share of walk steps that were undone or refused.
        lost: particles left out because they could not move.
        r_hat_median, r_hat_max: split R-hat of predictions over particles (Gelman et al. 2013, section 11.4).
        spread_walk, spread_latent: mean standard deviation of predictions over samples (probabilities; units of y).
        tv_latent: mean total variation between the averaged predictives of latent and walk (classification).
        nll_map, nll_walk, nll_latent: mean NLL on the validation data of the MAP and of the averaged predictives, nats.
        nll_single: the same of single latent samples, averaged.
        grad_evals, hvp_evals: passes over the full data that walk and latent fit took.
        walk_s, latent_s: wall-clock seconds.
        peak_mib: most memory since the process began, resident (CPU) or allocated (CUDA).
        warnings: what to look at, in words.
    """

    energy_ratio_walk: float = math.nan
    energy_ratio_latent: float = math.nan
    settled: bool | None = None
    undone: float = math.nan
    lost: int = 0
    r_hat_median: float = math.nan
    r_hat_max: float = math.nan
    spread_walk: float = math.nan
    spread_latent: float = math.nan
    tv_latent: float = math.nan
    nll_map: float = math.nan
    nll_walk: float = math.nan
    nll_latent: float = math.nan
    nll_single: float = math.nan
    grad_evals: int = 0
    hvp_evals: int = 0
    walk_s: float = math.nan
    latent_s: float = math.nan
    peak_mib: float = math.nan
    warnings: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        rows = [(f.name, getattr(self, f.name)) for f in fields(self) if f.name != "warnings"]
        lines = [f"{name:<20} {_show(value)}" for name, value in rows]
        return "\n".join(lines + [f"warning: {text}" for text in self.warnings])


def _show(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return "-" if value is None else str(value)


def warnings_of(d: Diagnostics) -> tuple[str, ...]:
    """Return what is wrong with a posterior, in words; empty if nothing is."""
    found = []
    if d.energy_ratio_walk > 1.5:
        found.append(
            f"the walk's energy ratio is {d.energy_ratio_walk:.2f}, far above 1: it overheats. Lower first_step or "
            "raise target_acceptance."
        )
    if d.settled is False and d.energy_ratio_walk < 0.85:
        found.append(
            f"the walk's energy was still growing when it ended (energy ratio {d.energy_ratio_walk:.2f}): it may "
            "not have reached all of the posterior. Raise the schedule's max_steps."
        )
    if d.lost:
        found.append(f"{d.lost} particles could not move and were left out: raise target_acceptance.")
    if d.undone > 0.2:
        found.append(f"{d.undone:.0%} of the walk's steps were undone or refused: raise target_acceptance.")
    if d.r_hat_median > 1.3:
        found.append(
            f"particles disagree about predictions (median R-hat {d.r_hat_median:.2f}): they have not mixed; "
            "raise max_steps."
        )
    collapsed = d.spread_latent < 0.1 * d.spread_walk
    if collapsed or d.spread_latent == 0.0:
        found.append("the latent posterior has collapsed: its predictions hardly vary. Raise latent_size or bandwidth.")
    if d.nll_latent > d.nll_map + 0.01:
        found.append(
            f"the posterior predicts worse than the MAP on the validation data (NLL {d.nll_latent:.3f} against "
            f"{d.nll_map:.3f}): do not use it as it is. Check prior_precision and the energy ratios."
        )
    if d.energy_ratio_latent > d.energy_ratio_walk + 0.3:
        as_well = d.nll_latent <= d.nll_walk + 0.02
        found.append(
            f"decoded samples are hotter than the walk (energy ratio {d.energy_ratio_latent:.2f} against "
            f"{d.energy_ratio_walk:.2f})"
            + (
                ", though they predict as well: energy and held-out NLL disagree."
                if as_well
                else ": train the autoencoder longer (steps), or raise latent_size."
            )
        )
    return tuple(found)


def of_fit(energy: Energy, walk: Trajectory, latent: LatentPosterior, *, seed: int = 0) -> Diagnostics:
    """Return what is known after a fit, without held-out data.

    Args:
        energy: with the count of all that the fit computed.
        walk: the walk.
        latent: the latent posterior fitted to it.
        seed: of the draws whose energies are taken.
    """
    weights = energy.network.weights
    cost = energy.cost.copy()
    rise = float(energy(latent.sample(100, seed=seed)).double().mean()) - walk.map_energy
    found = Diagnostics(
        energy_ratio_walk=walk.energy_ratio,
        energy_ratio_latent=2.0 * rise / len(weights),
        settled=walk.settled,
        undone=walk.undone,
        lost=walk.lost,
        grad_evals=cost.grad_evals,
        hvp_evals=cost.hvp_evals,
        walk_s=walk.seconds,
        latent_s=latent.seconds,
        peak_mib=peak_mib(weights.device),
    )
    return replace(found, warnings=warnings_of(found))


def judged(
    d: Diagnostics,
    network: Network,
    likelihood: Likelihood,
    samples: Tensor,
    walk: Trajectory | None,
    x: Tensor,
    y: Tensor,
) -> Diagnostics:
    """Return diagnostics with what held-out data say added.

    Args:
        d: what is known from the fit.
        network: the module as a function of weights; its own weights are the MAP.
        likelihood: what outputs mean.
        samples: of the latent posterior, [S, P].
        walk: the walk that it was fitted to, if it is at hand.
        x: held-out inputs, [N, ...].
        y: their labels [N] or targets [N, C].

    Raises:
        ValueError: if the data do not fit model and likelihood, or are not finite.
    """
    map_outputs = outputs_of(network, network.weights[None], x)
    y = y.to(map_outputs) if y.is_floating_point() else y.to(map_outputs.device)
    likelihood.check(map_outputs[0], y)
    if not y.isfinite().all():
        raise ValueError("the targets hold NaN or infinite values")
    outputs = outputs_of(network, samples, x)
    predictions = predictions_of(likelihood, outputs)
    averaged, single = predictive_nll(likelihood, outputs, y)
    d = replace(
        d,
        nll_map=predictive_nll(likelihood, map_outputs, y)[0],
        nll_latent=averaged,
        nll_single=single,
        spread_latent=spread(predictions),
    )
    if walk is not None:
        d = _with_walk(d, likelihood, outputs_of(network, walk.weights, x), predictions, walk, y)
    return replace(d, warnings=warnings_of(d))


def _with_walk(
    d: Diagnostics,
    likelihood: Likelihood,
    outputs: Tensor,
    latent_predictions: Tensor,
    walk: Trajectory,
    y: Tensor,
) -> Diagnostics:
    """Add what compares the latent posterior with the walk's own snapshots, whose outputs are [M, N, C]."""
    predictions = predictions_of(likelihood, outputs)
    n_particles = int(walk.particle.unique().numel())
    chains = predictions.unflatten(0, (-1, n_particles)).transpose(0, 1)  # [K, T, N, C]
    r_hat = split_r_hat(chains) if n_particles > 1 and chains.shape[1] >= 4 else torch.tensor(math.nan)
    tv = math.nan
    if isinstance(likelihood, Categorical):
        difference = predictions.mean(dim=0) - latent_predictions.mean(dim=0)
        tv = float(0.5 * difference.abs().sum(-1).mean())
    return replace(
        d,
        nll_walk=predictive_nll(likelihood, outputs, y)[0],
        spread_walk=spread(predictions),
        tv_latent=tv,
        r_hat_median=float(r_hat.median()),
        r_hat_max=float(r_hat.max()),
    )
