"""Choosing prior precision, temperature and noise by the NLL of held-out data, as the posterior predicts them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from .batch import Inputs, check_finite
from .data import Data, collect
from .energy import Energy
from .likelihood import Gaussian, Likelihood
from .map import fit_map
from .predictive import predictive_nll

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

    What is scored is the averaged predictive of the very draws that the posterior predicts with. For each prior
    precision the posterior is fitted again, from models that were trained on with that prior (by `fit_map`, if the
    energy is of all data; a walk on minibatches goes there by itself). Temperature and noise are then searched one
    after the other, for they need no fit. The present setting is always among the candidates, so the NLL on these data
    never rises; nothing changes unless something finite was found.

    Args:
        posterior: fitted; it is changed.
        val_data: held out, and not what results are reported on.
        prior_precisions: candidates; each costs a fit.
        temperatures: candidates.
        noise_factors: candidates, factors on the noise of a `Gaussian` likelihood.
        n_samples: S, draws.
        progress_bar: show progress.

    Raises:
        RuntimeError: before `fit`, or if prior precisions are to be tuned after `load`.
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
    with tqdm(total=1 + len(prior_precisions), desc="tune", disable=not progress_bar) as bar:
        search.try_all(posterior, temperatures, noise_factors)
        bar.update()
        for precision in prior_precisions:
            if precision != posterior.prior_precision:
                search.try_prior(precision, temperatures, noise_factors)
            bar.update()
    best = min(search.trials, key=lambda trial: trial.nll)
    if not math.isfinite(best.nll):
        raise FloatingPointError("the held-out NLL is not finite for any candidate: check the data and the model")
    chosen = search.candidates[best.prior_precision]
    posterior.adopt(chosen, temperature=best.temperature, likelihood=search.likelihoods[best])
    return Tuning(tuple(search.trials), best)


class _Search:
    """Candidates, and what they scored."""

    def __init__(self, posterior: "MetricBNN", x: Inputs, y: "Tensor", n_samples: int) -> None:
        self.x, self.n_samples, self.start = x, n_samples, posterior
        self.y = y.to(posterior.network.weights) if y.is_floating_point() else y.to(posterior.network.weights.device)
        self.trials: list[Trial] = []
        self.candidates = {posterior.prior_precision: posterior}
        self.likelihoods: dict[Trial, Likelihood] = {}

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
        self.candidates[precision] = candidate
        self.try_all(candidate, temperatures, factors)

    def _has_energies(self) -> bool:
        return all(mode.energy is not None for mode in self.start.modes)

    def _trained(self, energy: Any, precision: float) -> Any:
        """The model of a mode, trained on with another prior where all data are at hand."""
        if energy is None:
            raise RuntimeError(
                "prior precisions need the training data: call fit(train_data), a loaded posterior has none"
            )
        network = energy.network
        model = network.module(network.weights)
        if not isinstance(energy, Energy) or network.subset is not None:
            return model
        x, y = next(iter(energy.batches())), energy.y
        return fit_map(model, x, y, energy.likelihood, prior_precision=precision, warmup_steps=0).model

    def _score(self, candidate: "MetricBNN", trial: Trial, likelihood: Likelihood) -> Trial:
        outputs = candidate.at_temperature(trial.temperature).outputs(self.x, self.n_samples)
        likelihood.check(outputs[0], self.y)
        nll = predictive_nll(likelihood, outputs, self.y)[0]
        finite = math.isfinite(nll)
        trial = replace(trial, nll=nll if finite else math.inf, reason="" if finite else f"the NLL is {nll}")
        self.trials.append(trial)
        self.likelihoods[trial] = likelihood
        return trial


def _scaled(likelihood: Gaussian, factor: float) -> Gaussian:
    """The likelihood with its noise multiplied."""
    std = likelihood.noise_std
    return Gaussian(tuple(factor * one for one in std) if isinstance(std, tuple) else factor * std)
