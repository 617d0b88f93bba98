"""What walk and latent fit need of an energy, be it of all data or of minibatches."""

from collections.abc import Iterator
from typing import Protocol, Self

from torch import Tensor

from .batch import Inputs
from .cost import Cost
from .energy import Energy
from .likelihood import Likelihood
from .network import Network


class AnyEnergy(Protocol):
    """What walk and latent fit need of an energy: `Energy` and `MinibatchEnergy` have it."""

    network: Network
    likelihood: Likelihood
    prior_precision: float
    cost: Cost
    n: int
    exact: bool

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the energies of weights [K, P] on all data, [K]; nats."""
        ...

    def at(self, time: int) -> Energy:
        """Return the energy that step number `time` sees: all data, or one minibatch scaled up."""
        ...

    def anchored(self, weights: Tensor) -> Self:
        """Return the energy with control variates at weights [P], if it has any use for them."""
        ...

    def rows(self, index: Tensor) -> Inputs:
        """Return the prepared inputs of examples, int64 [B]."""
        ...

    def batches(self) -> Iterator[Inputs]:
        """Yield the inputs of all examples, not prepared."""
        ...
