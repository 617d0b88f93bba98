"""What a fitted posterior says about itself, and the warnings that follow."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

TRAIN_FURTHER = "Train the model further with the same prior (fiberbnn.fit_map)"


@dataclass(frozen=True)
class Diagnostics:
    """The state of a fitted posterior; numbers that were not measured are NaN.

    With several models, energies are means over modes by their weights, R-hat is that of the mode where it is largest,
    costs are sums, and the NLL of the MAP is that of the averaged predictive of all MAPs, by the same weights.

    Costs are of one weight vector and all data each, so that a minibatch is a part of one. They are those of the fit:
    what training the model took before, and what predictions and diagnostics take afterwards, is not among them.

    Attributes:
        temperature: of the draws behind all that is said of latent samples; the walk has none.
        minibatches: whether the walk saw minibatches.
        energy_ratio_walk: mean energy rise of the walk over the P/2 nats of equipartition; near 1 when spread out.
        energy_ratio_latent: the same of decoded samples, in the energy of the fit; NaN without training data, so that
            it is only known at the temperature at which a loaded posterior was saved.
        settled: whether the walk's energy had stopped growing when snapshots began; of all walks.
        heat: mean square of the walk's velocities; 1 unless the noise of minibatches has heated them, or the walk
            came down from weights that were no minimum.
        undone: share of walk steps that were undone or refused.
        lost: particles left out because they could not move.
        r_hat_median, r_hat_max: split R-hat of predictions over particles (Gelman et al. 2013, section 11.4).
        spread_walk, spread_latent: mean standard deviation of predictions over samples (probabilities; units of y).
        tv_latent: mean total variation between the averaged predictives of latent and walk (classification).
        nll_map, nll_walk, nll_latent: mean NLL on the validation data of the MAP and of the averaged predictives, nats.
        nll_single: the same of single latent samples, averaged.
        grad_evals: gradients that walk and latent fit took, a forward and a backward pass each.
        hvp_evals: Hessian-vector products, two gradients each that `grad_evals` does not count.
        energy_evals: energies without gradients, a forward pass each.
        walk_s, latent_s: wall-clock seconds.
        refresh_s: seconds in which batch-norm statistics of weight samples were recomputed, if they are.
        peak_mib: most memory since the process began, resident (CPU) or allocated (CUDA).
        warnings: what to look at, in words.
    """

    temperature: float = 1.0
    minibatches: bool | None = None
    energy_ratio_walk: float = math.nan
    energy_ratio_latent: float = math.nan
    settled: bool | None = None
    heat: float = math.nan
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
    energy_evals: int = 0
    walk_s: float = math.nan
    latent_s: float = math.nan
    refresh_s: float = math.nan
    peak_mib: float = math.nan
    warnings: tuple[str, ...] = field(default=())

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Return the diagnostics whose `asdict` this is; tuples may have become lists, as JSON makes them."""
        return cls(**{**saved, "warnings": tuple(saved["warnings"])})

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
        # The literal mode has no velocity whose heat could be known.
        literal = math.isnan(d.heat)
        advice = (
            "Lower drift_length or raise refine_steps." if literal else "Lower first_step or raise target_acceptance."
        )
        found.append(f"the walk's energy ratio is {d.energy_ratio_walk:.2f}, far above 1: it overheats. {advice}")
    if d.heat > 1.2:
        found.append(_why_hot(d))
    if d.settled is False and d.energy_ratio_walk < 0.85:
        found.append(
            f"the walk's energy was still growing when it ended (energy ratio {d.energy_ratio_walk:.2f}): it may "
            "not have reached all of the posterior. Raise the schedule's max_steps."
            if d.energy_ratio_walk >= 0.0
            else f"the walk's energy fell below that of the model (energy ratio {d.energy_ratio_walk:.2f}), which was "
            f"at no minimum of it. {TRAIN_FURTHER}."
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
        found.append(
            "the latent posterior has collapsed: "
            + ("its" if d.temperature == 1.0 else f"at temperature {d.temperature:g} its")
            + " predictions hardly vary. Raise "
            + ("the temperature, latent_size" if d.temperature < 1.0 else "latent_size")
            + " or bandwidth."
        )
    if d.nll_latent > d.nll_map + 0.01:
        found.append(
            f"the posterior predicts worse than the MAP on the validation data (NLL {d.nll_latent:.3f} against "
            f"{d.nll_map:.3f}): do not use it as it is. Check prior_precision"
            + ("" if d.temperature == 1.0 else f", the temperature ({d.temperature:g})")
            + " and the energy ratios; tune(val_data) chooses a temperature."
        )
    if d.energy_ratio_latent > d.energy_ratio_walk + 0.3:
        as_well = d.nll_latent <= d.nll_walk + 0.02
        # Draws at a temperature above 1 are meant to be hotter than the walk.
        remedy = "train the autoencoder longer (steps), or raise latent_size"
        if d.temperature > 1.0:
            remedy = f"that is what a temperature of {d.temperature:g} does; lower it"
        found.append(
            f"decoded samples are hotter than the walk (energy ratio {d.energy_ratio_latent:.2f} against "
            f"{d.energy_ratio_walk:.2f})"
            + (", though they predict as well: energy and held-out NLL disagree." if as_well else f": {remedy}.")
        )
    return tuple(found)


def _why_hot(d: Diagnostics) -> str:
    """What heats a walk."""
    if d.minibatches is not False:
        return (
            f"the noise of minibatches heats the walk (mean square velocity {d.heat:.2f}): raise batch_size, or the "
            "friction or thermostat of WalkSettings. In a walk of a few dozen steps it can be what is left of the "
            "drift: raise max_steps."
        )
    # All data give no such noise: it is energy that the walk started with, and has not lost yet.
    if d.energy_ratio_walk < 0.0:
        why = f"it started away from a minimum of its energy. {TRAIN_FURTHER}."
    elif d.settled is False:
        why = f"it had not settled when snapshots began. Raise the schedule's max_steps. {TRAIN_FURTHER}, if need be."
    else:
        why = (
            "its particles are few, or it started away from a minimum of its energy. Raise n_particles. "
            f"{TRAIN_FURTHER}, if need be."
        )
    return f"the walk's velocities are too hot (mean square {d.heat:.2f}, 1 in equilibrium): {why}"
