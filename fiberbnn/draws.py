"""The networks that a posterior predicts with: numbered draws from its modes, the same in every call."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from .batch import Inputs
from .batch_norm import refreshed_statistics
from .likelihood import Likelihood
from .mode import Mode
from .pooled import PooledPosterior
from .prediction import Predictive, mixture
from .predictive import Statistics, averaged, outputs_of
from .streams import seed_of_mode


@dataclass(frozen=True, eq=False)
class Draws:
    """Samples 0, 1, 2, ... of a posterior, as networks.

    Attributes:
        modes: whose networks run the samples.
        pooled: what draws them, mode by mode.
        seed: of the draws.
    """

    modes: tuple[Mode, ...]
    pooled: PooledPosterior
    seed: int

    def weights(self, n_samples: int) -> Tensor:
        """Return the first weight samples, [S, P]."""
        return self.pooled.sample(n_samples, seed=self.seed)

    def outputs(self, x: Inputs, n_samples: int, statistics: Statistics | None = None) -> Tensor:
        """Return the outputs of the first samples, [S, N, ...].

        Args:
            x: inputs, N rows.
            n_samples: S.
            statistics: of batch norm, name -> [S, ...], where they are refreshed.
        """
        weights, of_mode = self.weights(n_samples), self.pooled.modes_of(n_samples)
        outputs = weights.new_empty(0)
        for m, mode in enumerate(self.modes):
            mine = (of_mode == m).to(weights.device)
            if mine.any():
                one = outputs_of(mode.network, weights[mine], x, buffers=_of(statistics, mine))
                outputs = outputs if outputs.numel() else one.new_empty(n_samples, *one.shape[1:])
                outputs[mine] = one
        return outputs

    def predict(
        self, likelihood: Likelihood, x: Inputs, n_samples: int, statistics: Statistics | None = None
    ) -> Predictive:
        """Return the predictive averaged over the first samples; they are decoded a few at a time where they can be.

        Raises:
            ValueError: if `n_samples` is not positive.
        """
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1; got {n_samples}")
        parts, shares, of_mode = [], self.pooled.shares(n_samples), self.pooled.modes_of(n_samples)
        for m, (mode, share) in enumerate(zip(self.modes, shares, strict=True)):
            if not share:
                continue
            if statistics is None:
                pieces = self.pooled.modes[m].pieces(share, seed=seed_of_mode(self.seed, m))
                parts.append(averaged(mode.network, likelihood, pieces, x))
            else:
                weights = self.weights(n_samples)
                mine = (of_mode == m).to(weights.device)
                parts.append(averaged(mode.network, likelihood, weights[mine], x, buffers=_of(statistics, mine)))
        return mixture(parts, [share / n_samples for share in shares if share])

    def statistics(self, batches: Callable[[], Iterable[Inputs]], n_samples: int) -> Statistics:
        """Return the batch-norm statistics of the first samples over training data, name -> [S, ...]."""
        weights, of_mode = self.weights(n_samples), self.pooled.modes_of(n_samples)
        found: Statistics = {}
        for m, mode in enumerate(self.modes):
            mine = (of_mode == m).to(weights.device)
            if mine.any():
                for name, values in refreshed_statistics(mode.network, weights[mine], batches).items():
                    found.setdefault(name, values.new_empty(n_samples, *values.shape[1:]))[mine] = values
        return found


def _of(statistics: Statistics | None, chosen: Tensor) -> Statistics | None:
    """The statistics of the chosen samples, [S] bool."""
    return (
        None if statistics is None else {name: values[chosen.to(values.device)] for name, values in statistics.items()}
    )
