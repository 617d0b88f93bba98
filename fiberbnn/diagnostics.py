"""What a fitted posterior says about itself, and the warnings that follow."""

import math
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from .likelihood import Gaussian, Likelihood


@dataclass(frozen=True)
class Diagnostics:
    """The state of a fitted posterior; numbers that were not measured are NaN.

    Attributes:
        energy_ratio_walk: mean energy rise of the walk over the P/2 nats of equipartition; near 1 when it has spread out.
        energy_ratio_latent: the same of decoded samples.
        settled: whether the walk's energy had stopped growing when snapshots began.
        undone: share of walk steps that were undone or refused.
        r_hat_median, r_hat_max: split R-hat of predictions over particles (Gelman et al. 2013, section 11.4).
        spread_walk, spread_latent: mean standard deviation of predictions over samples (probabilities; units of y).
        tv_latent: mean total variation between the averaged predictives of latent and walk (classification).
        nll_map, nll_walk, nll_latent: mean NLL on the validation data of the MAP and of the averaged predictives, nats.
        nll_single: the same of single latent samples, averaged.
        grad_evals, hvp_evals: passes over the full data that walk and latent fit took.
        walk_s, latent_s: wall-clock seconds.
        peak_mib: most memory during the fit, of the process (CPU) or of the allocator (CUDA).
        warnings: what to look at, in words.
    """

    energy_ratio_walk: float = math.nan
    energy_ratio_latent: float = math.nan
    settled: bool | None = None
    undone: float = math.nan
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
    if d.energy_ratio_walk < 0.5:
        found.append(
            f"the walk's energy ratio is {d.energy_ratio_walk:.2f}, far below 1: it has not spread out along all directions. "
            "Raise the schedule's max_steps."
        )
    if d.energy_ratio_walk > 1.5:
        found.append(
            f"the walk's energy ratio is {d.energy_ratio_walk:.2f}, far above 1: it overheats. Lower first_step or raise "
            "target_acceptance."
        )
    if d.undone > 0.2:
        found.append(f"{d.undone:.0%} of the walk's steps were undone or refused: raise target_acceptance.")
    if d.r_hat_median > 1.3:
        found.append(
            f"particles disagree about predictions (median R-hat {d.r_hat_median:.2f}): they have not mixed; raise max_steps."
        )
    collapsed = d.spread_latent < 0.1 * d.spread_walk
    if collapsed or d.spread_latent == 0.0:
        found.append("the latent posterior has collapsed: its predictions hardly vary. Raise latent_size or bandwidth.")
    if d.nll_latent > d.nll_map + 0.01:
        found.append(
            f"the posterior predicts worse than the MAP on the validation data (NLL {d.nll_latent:.3f} against "
            f"{d.nll_map:.3f}): do not use it as it is. Check prior_precision and the energy ratios."
        )
    if d.energy_ratio_latent > d.energy_ratio_walk + 0.3 and d.nll_latent <= d.nll_walk + 0.02:
        found.append("decoded samples are hotter than the walk, though they predict as well: energy and held-out NLL disagree.")
    return tuple(found)


def predictive_nll(likelihood: Likelihood, outputs: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the mean NLL of the averaged predictive, and the mean over single samples, in nats an example.

    Args:
        likelihood: what the outputs mean.
        outputs: of S weight samples, [S, N, C].
        y: labels [N] or targets [N, C].
    """
    outputs = outputs.double()
    if isinstance(likelihood, Gaussian):
        residual = (outputs - y.double()) / likelihood.noise_std
        constant = math.log(likelihood.noise_std * math.sqrt(2 * math.pi))
        log_p = -(0.5 * residual.square() + constant).sum(-1)
    else:
        log_p = outputs.log_softmax(-1).gather(-1, y[None, :, None].expand(len(outputs), -1, -1)).squeeze(-1)
    averaged = torch.logsumexp(log_p, dim=0) - math.log(len(outputs))
    return -float(averaged.mean()), -float(log_p.mean())


def split_r_hat(chains: Tensor) -> Tensor:
    """Return the split R-hat of chains [K, T, ...] for every entry of the rest of the shape.

    Each chain is cut in two; the result compares the variance between the halves with that within. Entries that do not
    vary at all get 1.

    Raises:
        ValueError: if there are fewer than two draws a half.

    Source: Gelman et al. (2013), Bayesian Data Analysis, 3rd edition, section 11.4.
    """
    half = chains.shape[1] // 2
    if half < 2:
        raise ValueError(f"split R-hat needs at least four draws a chain; got {chains.shape[1]}")
    halves = torch.cat([chains[:, :half], chains[:, -half:]]).double()
    within = halves.var(dim=1).mean(dim=0)
    between = halves.mean(dim=1).var(dim=0)
    r_hat = ((half - 1) / half + between / within).sqrt()
    return torch.where(within > 0, r_hat, torch.ones_like(r_hat))
