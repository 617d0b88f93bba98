"""The networks that a posterior predicts with: numbered draws from its modes, the same in every call."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from .batch import Inputs
from .batch_norm import refreshed_statistics
from .likelihood import Likelihood
from .mode import Mode
from .pooled import PooledPosterior
from .prediction import Predictive, joined, mixture
from .predictive import Statistics, averages, outputs_of
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
        """Return the outputs of the first samples, [S, N, ...]; weights are decoded a few samples at a time.

        Args:
            x: inputs, N rows.
            n_samples: S.
            statistics: of batch norm, name -> [S, ...], where they are refreshed.

        Raises:
            ValueError: if `n_samples` is not positive.
        """
        outputs = None
        for mode, numbers, pieces in self._by_mode(n_samples):
            for some, weights in _numbered(numbers, pieces):
                one = outputs_of(mode.network, weights, x, buffers=_of(statistics, some))
                outputs = one.new_empty(n_samples, *one.shape[1:]) if outputs is None else outputs
                outputs[some.to(outputs.device)] = one
        assert outputs is not None
        return outputs

    def predict(
        self, likelihood: Likelihood, x: Inputs, n_samples: int, statistics: Statistics | None = None
    ) -> Predictive:
        """Return the predictive averaged over the first samples; weights are decoded a few samples at a time.

        Raises:
            ValueError: if `n_samples` is not positive.
        """
        parts, shares, dtype = [], [], None
        for mode, numbers, pieces in self._by_mode(n_samples):
            found = averages(mode.network, likelihood, pieces, x, buffers=_of(statistics, numbers))
            dtype = found[0].dtype
            parts.append(joined([average.result(exact=True) for average in found]))
            shares.append(len(numbers) / n_samples)
        return mixture(parts, shares, dtype)

    def statistics(self, batches: Callable[[], Iterable[Inputs]], n_samples: int) -> Statistics:
        """Return the batch-norm statistics of the first samples over training data, name -> [S, ...].

        Raises:
            ValueError: if `n_samples` is not positive.
        """
        found: Statistics = {}
        for mode, numbers, pieces in self._by_mode(n_samples):
            for some, weights in _numbered(numbers, pieces):
                for name, values in refreshed_statistics(mode.network, weights, batches).items():
                    whole = found.setdefault(name, values.new_empty(n_samples, *values.shape[1:]))
                    whole[some.to(values.device)] = values
        return found

    def _by_mode(self, n_samples: int) -> Iterator[tuple[Mode, Tensor, Iterator[Tensor]]]:
        """Modes that have some of the first samples, the numbers [s] of these, and their weights in pieces [_, P]."""
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1; got {n_samples}")
        of_mode = self.pooled.modes_of(n_samples)
        for m, (mode, latent) in enumerate(zip(self.modes, self.pooled.modes, strict=True)):
            numbers = (of_mode == m).nonzero().flatten()
            if len(numbers):
                yield mode, numbers, latent.pieces(len(numbers), seed=seed_of_mode(self.seed, m))


def _numbered(numbers: Tensor, pieces: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of weights, each with the numbers of its samples."""
    start = 0
    for weights in pieces:
        yield numbers[start : start + len(weights)], weights
        start += len(weights)


def _of(statistics: Statistics | None, numbers: Tensor) -> Statistics | None:
    """The statistics of the samples of these numbers, int64 [s]."""
    if statistics is None:
        return None
    return {name: values[numbers.to(values.device)] for name, values in statistics.items()}
