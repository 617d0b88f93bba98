"""Weight samples of a posterior and predictions with them: the side of `MetricBNN` that fits nothing."""

import copy
import math
import time
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from .assessment import reassessed
from .batch import Inputs
from .data import Data, Examples, examples_of
from .diagnostics import Diagnostics
from .draws import Draws
from .latent import LatentPosterior
from .likelihood import Likelihood, UnfittedGaussian
from .mode import Mode, ModeSettings
from .network import Network
from .pooled import PooledPosterior
from .prediction import GaussianPredictive, Predictive
from .predictive import Statistics


class Predictor:
    """A posterior once it is fitted: it draws weights from its modes, and predicts with them.

    Until it has modes, whatever needs them raises RuntimeError.

    Args:
        networks: of one architecture, one for each mode.
        mode_weights: share of the samples that each mode gets, adding up to 1.
        likelihood: what outputs mean; or one whose noise is yet to be fitted.
        temperature: factor on the variance of the latents' deviations from their mean.
        settings: of the fit, with the seed of the draws behind predictions.

    Attributes:
        modes: what was fitted.
    """

    def __init__(
        self,
        networks: list[Network],
        mode_weights: tuple[float, ...],
        likelihood: Likelihood | UnfittedGaussian,
        temperature: float,
        settings: ModeSettings,
    ) -> None:
        self.networks, self.mode_weights, self._likelihood = networks, mode_weights, likelihood
        self._temperature, self.settings, self._seed = positive("temperature", temperature), settings, settings.seed
        self.modes: tuple[Mode, ...] = ()
        self._examples: Examples | None = None
        self._statistics: Statistics = {}
        self._diagnostics = Diagnostics()

    @property
    def temperature(self) -> float:
        """Factor on the variance of the latents' deviations from their mean; it may be set.

        Diagnostics follow it, and batch-norm statistics, which were those of other weights, are refreshed anew.

        Raises:
            ValueError: if it is set to what is not positive and finite.
        """
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        value = positive("temperature", value)
        if value != self._temperature:
            self._statistics = {}
        self._temperature = value

    @property
    def seed(self) -> int:
        """The seed of the draws behind predictions; it may be set."""
        return self._seed

    @seed.setter
    def seed(self, value: int) -> None:
        if value != self._seed:
            self._statistics = {}
        self._seed = value

    @property
    def likelihood(self) -> Likelihood:
        """What the outputs mean.

        Raises:
            RuntimeError: if noise is yet to be fitted.
        """
        if isinstance(self._likelihood, UnfittedGaussian):
            raise RuntimeError("the noise has not been fitted yet: call fit(train_data) first, or give noise_std")
        return self._likelihood

    @property
    def network(self) -> Network:
        """The network as a function of flat weights; of the first model, if there are several."""
        return self.networks[0]

    @property
    def latent_posterior(self) -> LatentPosterior:
        """The latent posterior of the first model's walk.

        Raises:
            RuntimeError: before `fit` or `load`.
        """
        return self._draws().pooled.modes[0]

    @property
    def diagnostics(self) -> Diagnostics:
        """What is known from the fit alone, of draws at the present temperature.

        `diagnose` adds what held-out data say. After a change of temperature the energies of some draws are taken.
        """
        if self.modes and self._diagnostics.temperature != self.temperature:
            self._diagnostics = reassessed(
                self._diagnostics, self.modes, self.mode_weights, temperature=self.temperature, seed=self.seed
            )
        return self._diagnostics

    def at_temperature(self, temperature: float) -> Self:
        """Return the same fit with another temperature of its draws; refreshed statistics are not taken along."""
        other = copy.copy(self)
        other.temperature = temperature
        return other

    def sample(self, n_samples: int = 100, *, generator: torch.Generator | None = None) -> Tensor:
        """Return posterior weight samples, decoded in one pass, [S, P].

        With several models they fall to these in turn, by their weights.

        Args:
            n_samples: S.
            generator: of torch, which gives the seed of the draws; torch's global one if None.

        Raises:
            RuntimeError: before `fit` or `load`.
            ValueError: if `n_samples` is not positive.
        """
        device = generator.device if generator is not None else None
        seed = int(torch.randint(0, 2**62, (1,), generator=generator, device=device))
        return self._draws().pooled.sample(n_samples, seed=seed)

    def draws(self, n_samples: int = 100) -> Tensor:
        """Return the weight samples behind predictions, [S, P]: those of the posterior's own seed, in every call."""
        return self._draws().weights(n_samples)

    def predictive_samples(self, x: Inputs, n_samples: int = 100) -> Tensor:
        """Return the predictions of S posterior samples, [S, N, ...]: probabilities, or means of a regression.

        The S weight draws come from the posterior's own seed: they are the same for all x, in every call.

        Args:
            x: inputs, N rows.
            n_samples: S.

        Raises:
            RuntimeError: before `fit` or `load`, or if batch-norm statistics are to be refreshed without data.
            ValueError: if x is empty or not finite.
        """
        return self.likelihood.predictions(self.outputs(x, n_samples))

    def outputs(self, x: Inputs, n_samples: int = 100) -> Tensor:
        """Return the networks' outputs (logits, for a classification) for the same draws, [S, N, ...].

        Weight samples are decoded a few at a time.
        """
        return self._draws().outputs(x, n_samples, self._statistics_of(n_samples))

    def predict(self, x: Inputs, n_samples: int = 100) -> Predictive:
        """Return the averaged predictive with its uncertainty taken apart; see `ClassPredictive`, `GaussianPredictive`.

        Weight samples are decoded a few at a time, and outputs of single samples are not kept.
        """
        return self._draws().predict(self.likelihood, x, n_samples, self._statistics_of(n_samples))

    def __call__(self, x: Inputs, n_samples: int = 100) -> Tensor | tuple[Tensor, Tensor]:
        """Return the averaged predictive: probabilities [N, ...], or mean and variance [N, ...] of a regression.

        The variance is that of the observations: the spread of the means plus the noise. `predict` gives the parts.
        """
        found = self.predict(x, n_samples)
        return (found.mean, found.variance) if isinstance(found, GaussianPredictive) else found.probs

    def refresh(self, train_data: Data | None = None, n_samples: int = 100) -> float:
        """Recompute the batch-norm statistics of the first S posterior samples, and return the seconds that it took.

        Predictions do this by themselves after `fit`. After `load` it is needed for more samples than were saved.

        Args:
            train_data: as for `fit`; None for what `fit` was given.
            n_samples: S.

        Raises:
            RuntimeError: if there are no training data, or batch norm is frozen.
        """
        if self.network.batch_norm != "refresh":
            raise RuntimeError('batch norm is frozen: there is nothing to refresh unless batch_norm="refresh"')
        if train_data is not None:
            self._examples = examples_of(train_data)
        if self._examples is None:
            raise RuntimeError("batch-norm statistics need the training data: call refresh(train_data) first")
        start, examples = time.perf_counter(), self._examples
        size = self.settings.batch_size or examples.n
        self._statistics = self._draws().statistics(lambda: (x for x, _ in examples.batches(size)), n_samples)
        seconds = time.perf_counter() - start
        self._diagnostics = replace(self._diagnostics, refresh_s=seconds)
        return seconds

    def _draws(self) -> Draws:
        if not self.modes:
            raise RuntimeError("this posterior has not been fitted: call fit(train_data) first, or load a saved one")
        latents = tuple(mode.latent.at_temperature(self.temperature) for mode in self.modes)
        return Draws(self.modes, PooledPosterior(latents, self.mode_weights), self.seed)

    def _statistics_of(self, n_samples: int) -> Statistics | None:
        """Batch-norm statistics of the first samples, refreshed if there are too few; None if they are frozen."""
        if self.network.batch_norm != "refresh":
            return None
        if not self._statistics or len(next(iter(self._statistics.values()))) < n_samples:
            self.refresh(n_samples=n_samples)
        return {name: values[:n_samples] for name, values in self._statistics.items()}


def positive(name: str, value: float) -> float:
    """Return the value.

    Raises:
        ValueError: if it is not positive and finite.
    """
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite; got {value}")
    return float(value)
