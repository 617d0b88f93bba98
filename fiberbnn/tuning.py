"""Choosing prior precision, temperature and noise by the NLL of held-out data, as the posterior predicts them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from .any_energy import AnyEnergy
from .batch import Inputs, check_finite
from .data import Data, collect
from .energy import Energy
from .likelihood import Gaussian, Likelihood
from .map import trained_on
from .predictive import predictive_nll
from .progress import progress

if TYPE_CHECKING:
    from torch import Tensor

    from .posterior import MetricBNN


@dataclass(frozen=True)
class Trial:
    """One setting that was tried, and the held-out NLL of the averaged predictive, nats an example.

    An NLL that was not finite, or a fit that diverged, is infinite here, with the reason.
    """

    prior_precision: float
    temperature: float
    noise_factor: float
    nll: float
    reason: str = ""


@dataclass(frozen=True)
class Tuning:
    """All that was tried, the setting before first, and the best of it, which the posterior now has."""

    trials: tuple[Trial, ...]
    best: Trial

    @property
    def before(self) -> Trial:
        """The setting that the posterior had."""
        return self.trials[0]

    def __str__(self) -> str:
        lines = [f"{'prior prec.':>12}{'temperature':>12}{'noise x':>9}{'NLL':>10}"]
        for trial in self.trials:
            mark = " <- best" if trial is self.best else (f"  {trial.reason}" if trial.reason else "")
            lines.append(
                f"{trial.prior_precision:12.4g}{trial.temperature:12.4g}{trial.noise_factor:9.3g}{trial.nll:10.4f}{mark}"
            )
        return "\n".join(lines)


def tune(
    posterior: "MetricBNN",
    val_data: Data,
    *,
    prior_precisions: Sequence[float] = (),
    temperatures: Sequence[float] = (),
    noise_factors: Sequence[float] = (),
    n_samples: int = 100,
    progress_bar: bool = False,
) -> Tuning:
    """Set a fitted posterior to the candidates of least held-out NLL, and return all that was tried.

    What is scored is the averaged predictive of the very draws that the posterior predicts with. Temperature and noise
    are searched one after the other, for they need no fit. The present setting is always among the candidates, so the
    NLL on these data never rises; nothing changes unless something finite was found.

    For each prior precision the posterior is fitted again. With the energy of all data, the walk starts from models
    whose walked weights (all of them, or the subset) were trained on to the minimum with that prior. On minibatches
    nothing is trained: the walk starts from the present weights, the minimum of another prior, and its warm-up has to
    bring it to where the new prior wants it. Candidates far from the present prior are then better fitted anew, from
    models that were trained with them.

    In memory are, besides the posterior itself, the best of the candidates so far and the one that is being fitted.

    Args:
        posterior: fitted; it is changed.
        val_data: held out, and not what results are reported on.
        prior_precisions: candidates; each costs a fit.
        temperatures: candidates.
        noise_factors: candidates, factors on the noise of a `Gaussian` likelihood.
        n_samples: S, draws.
        progress_bar: show progress.

    Raises:
        RuntimeError: before `fit`, under `torch.inference_mode`, or if prior precisions are to be tuned after `load`.
        ValueError: if a candidate is not positive and finite, or the data are not finite or do not fit.
        FloatingPointError: if the NLL is finite for no candidate.
    """
    for name, values in (
        ("prior_precisions", prior_precisions), ("temperatures", temperatures), ("noise_factors", noise_factors)
    ):  # fmt: skip
        if not all(0.0 < value < math.inf for value in values):
            raise ValueError(f"{name} must be positive and finite; got {list(values)}")
    x, y = collect(val_data)
    check_finite(y, "targets")
    search = _Search(posterior, x, y, n_samples)
    with progress("tune", total=1 + len(prior_precisions), shown=progress_bar) as bar:
        search.try_all(posterior, temperatures, noise_factors)
        bar.update()
        for precision in prior_precisions:
            if precision != posterior.prior_precision:
                search.try_prior(precision, temperatures, noise_factors)
            bar.update()
    if search.best is None:
        raise FloatingPointError("the held-out NLL is not finite for any candidate: check the data and the model")
    best = search.best.trial
    posterior.adopt(search.best.posterior, temperature=best.temperature, likelihood=search.best.likelihood)
    return Tuning(tuple(search.trials), best)


class _Scored(NamedTuple):
    """What a trial was of."""

    trial: Trial
    posterior: "MetricBNN"
    likelihood: Likelihood


class _Search:
    """What was tried, and the best of it; other candidates are let go, for each holds a walk."""

    def __init__(self, posterior: "MetricBNN", x: Inputs, y: "Tensor", n_samples: int) -> None:
        self.x, self.n_samples, self.start = x, n_samples, posterior
        self.y = y.to(posterior.network.weights) if y.is_floating_point() else y.to(posterior.network.weights.device)
        self.trials: list[Trial] = []
        self.best: _Scored | None = None

    def try_all(self, candidate: "MetricBNN", temperatures: Sequence[float], factors: Sequence[float]) -> None:
        """Score a fitted candidate as it is, at other temperatures, and with other noise at the best of these."""
        prior, likelihood = candidate.prior_precision, candidate.likelihood
        best = self._score(candidate, Trial(prior, candidate.temperature, 1.0, math.inf), likelihood)
        for temperature in temperatures:
            if temperature != candidate.temperature:
                trial = self._score(candidate, Trial(prior, temperature, 1.0, math.inf), likelihood)
                best = min(best, trial, key=lambda one: one.nll)
        if isinstance(likelihood, Gaussian):
            for factor in factors:
                if factor != 1.0:
                    self._score(
                        candidate, Trial(prior, best.temperature, factor, math.inf), _scaled(likelihood, factor)
                    )

    def try_prior(self, precision: float, temperatures: Sequence[float], factors: Sequence[float]) -> None:
        """Fit with another prior precision, and score that."""
        try:
            candidate = self.start.refitted(
                precision, [self._trained(mode.energy, precision) for mode in self.start.modes]
            )
        except (FloatingPointError, RuntimeError) as error:
            if not self._has_energies():
                raise
            self.trials.append(Trial(precision, self.start.temperature, 1.0, math.inf, f"the fit failed: {error}"))
            return
        self.try_all(candidate, temperatures, factors)

    def _has_energies(self) -> bool:
        return all(mode.energy is not None for mode in self.start.modes)

    def _trained(self, energy: AnyEnergy | None, precision: float) -> nn.Module:
        """The model of a mode, trained on with another prior where the energy is of all data."""
        if energy is None:
            raise RuntimeError(
                "prior precisions need the training data: call fit(train_data), a loaded posterior has none"
            )
        if isinstance(energy, Energy):
            return trained_on(energy, precision)
        return energy.network.module(energy.network.weights)

    def _score(self, candidate: "MetricBNN", trial: Trial, likelihood: Likelihood) -> Trial:
        outputs = candidate.at_temperature(trial.temperature).outputs(self.x, self.n_samples)
        likelihood.check(outputs[0], self.y)
        nll = predictive_nll(likelihood, outputs, self.y)[0]
        finite = math.isfinite(nll)
        trial = replace(trial, nll=nll if finite else math.inf, reason="" if finite else f"the NLL is {nll}")
        self.trials.append(trial)
        if finite and (self.best is None or nll < self.best.trial.nll):
            self.best = _Scored(trial, candidate, likelihood)
        return trial


def _scaled(likelihood: Gaussian, factor: float) -> Gaussian:
    """The likelihood with its noise multiplied."""
    std = likelihood.noise_std
    return Gaussian(tuple(factor * one for one in std) if isinstance(std, tuple) else factor * std)
