"""The energy estimated from minibatches, for data that do not fit one batch."""

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from fiberbnn_kernels import squared_norms

from .batch import Inputs, check_finite, even_slices, n_rows, take, whole_size
from .batch_norm import check_rows
from .cost import Cost
from .data import Examples
from .energy import Anchor, Energy, check_data
from .likelihood import Likelihood
from .network import Network


class MinibatchEnergy:
    """U as `Energy` has it, seen through one minibatch a step: N/B times the NLL of the batch, with control variates.

    All particles share the batch of a step. It is read and prepared once for all of them, its first layer runs as one
    product, and the control variates at the MAP cost one weight vector more, however many particles there are. The
    price is that their noises are alike: it averages out over steps, not over particles. A batch holds the examples of
    one part of a random order of all of them, a new order for each epoch; examples left over wait for the next order.

    Args:
        network: the network as a function of flat weights.
        likelihood: what its outputs mean.
        examples: the training data.
        prior_precision: tau; not divided by N.
        batch_size: B, examples a step; also how many go through at once where all are needed.
        control_variates: whether `anchored` sets them up.
        seed: of the orders.

    Attributes:
        cost: running count; B examples are B/N of a pass.

    Raises:
        TypeError: if the batch size is not an integer, or the network takes no integers but inputs are.
        ValueError: if the first batch does not fit likelihood and network or is not finite, the batch size is not from
            1 to N, or it leaves a batch of one row to a network that normalises with the statistics of its batch. The
            targets of every batch, and whether it is finite, are checked when it is read: those of all examples before
            the walk starts, if there are control variates.
    """

    exact = False

    def __init__(
        self,
        network: Network,
        likelihood: Likelihood,
        examples: Examples,
        prior_precision: float = 1.0,
        *,
        batch_size: int,
        control_variates: bool = True,
        seed: int = 0,
    ) -> None:
        batch_size = whole_size(batch_size)
        if not 1 <= batch_size <= examples.n:
            raise ValueError(f"batch_size must be from 1 to the {examples.n} training examples; got {batch_size}")
        if network.batch_norm == "refresh":
            check_rows(min(rows.stop - rows.start for rows in even_slices(examples.n, batch_size)))
        check_data(network, likelihood, *next(examples.batches(batch_size)), prior_precision)
        self.network, self.likelihood, self.prior_precision = network, likelihood, float(prior_precision)
        self.examples, self.n, self.batch_size, self.seed = examples, examples.n, batch_size, seed
        self.control_variates, self.anchor, self.cost = control_variates, None, Cost()
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        self._seen: tuple[int, Energy] | None = None
        self._shapes: dict[torch.Size, torch.Size] = {}  # of an example's outputs, by that of its targets

    anchor: Anchor | None

    def at(self, time: int) -> Energy:
        """Return the energy that the minibatch of step number `time` gives; the same at every call."""
        if self._seen is None or self._seen[0] != time:
            epoch, place = divmod(time, self.n // self.batch_size)
            if self._order[0] != epoch:
                generator = torch.Generator().manual_seed((self.seed * 0x9E3779B97F4A7C15 + epoch) % 2**63)
                self._order = epoch, torch.randperm(self.n, generator=generator)
            index = self._order[1][place * self.batch_size : (place + 1) * self.batch_size]
            self._seen = time, self._of(*self.examples.take(index), self.n / self.batch_size, self.anchor)
        return self._seen[1]

    def anchored(self, weights: Tensor) -> Self:
        """Set the control variates up at weights [P], usually the MAP, for one gradient over all data; return self."""
        if self.control_variates:
            total, gradient = weights.new_zeros((), dtype=torch.float64), torch.zeros_like(weights)
            for x, y in self.examples.batches(self.batch_size):
                batch = self._of(x, y, 1.0, None)
                value, part = batch.nll_and_grad(weights[None])
                self.cost.shared_grads += batch.share
                total += value[0]
                gradient += part[0]
            self.anchor, self._seen = Anchor(weights.clone(), total.to(weights.dtype), gradient), None
        return self

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the energies of weights [K, P] on all data, [K]; nats, exact."""
        self.network.check_weights(weights)
        total = weights.new_zeros(len(weights), dtype=torch.float64)
        for x, y in self.examples.batches(self.batch_size):
            total += self._of(x, y, 1.0, None).nll_each(weights)
        return (total + 0.5 * self.prior_precision * squared_norms(weights)).to(weights.dtype)

    def rows(self, index: Tensor) -> Inputs:
        """Return the prepared inputs of examples, int64 [B]."""
        x, _ = self.examples.take(index)
        check_finite(x, "inputs")
        return self.network.prepare(x)

    def batches(self) -> Iterator[Inputs]:
        """Yield the inputs of all examples, a batch at a time, not prepared."""
        return (x for x, _ in self.examples.batches(self.batch_size))

    def _of(self, x: Inputs, y: Tensor, factor: float, anchor: Anchor | None) -> Energy:
        check_finite(x, "inputs")
        check_finite(y, "targets")
        energy = Energy.of_batch(
            self.network, self.likelihood, x, y, self.prior_precision,
            factor=factor, share=len(y) / self.n, anchor=anchor, cost=self.cost,
        )  # fmt: skip
        self._check_targets(energy.x, y)
        return energy

    def _check_targets(self, x: Inputs, y: Tensor) -> None:
        """Raise ValueError if the targets do not fit the outputs at prepared inputs, whose shape is all that it takes.

        Two rows tell it for all batches with targets of that shape; sequences may be longer in one batch than another.
        """
        if y.shape[1:] not in self._shapes:
            outputs = self.network(self.network.weights[None], take(x, slice(0, 2)))[0]
            self._shapes[y.shape[1:]] = outputs.shape[1:]
        outputs = self.network.weights[:1].expand(n_rows(x), *self._shapes[y.shape[1:]])
        self.likelihood.check(outputs, y, part=True)
