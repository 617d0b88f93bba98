"""The energy U of weights in nats, its gradient and curvature products, counted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor
from torch.func import vmap

from fiberbnn_kernels import MLPLayout, mlp_nll_and_grad, squared_norms

from .batch import Inputs, check_finite, moved, n_rows, take
from .cost import Cost
from .likelihood import Categorical, Gaussian, Likelihood
from .network import Network
from .sums import products_from

# Weight vectors whose outputs are held together, unless copies of them would take more bytes than this.
OUTPUTS_AT_ONCE = 32
WEIGHT_BYTES_AT_ONCE = 1 << 26


@dataclass(frozen=True, eq=False)
class Anchor:
    """Weights at which the NLL of all data and its gradient are known, for control variates."""

    weights: Tensor  # [P]
    nll: Tensor  # []
    gradient: Tensor  # [P]


class Energy:
    """U(w) = -log p(y | x, w) + tau/2 |w|^2, summed over the data: minus the log posterior up to a constant.

    Args:
        network: the network as a function of flat weights.
        likelihood: what its outputs mean.
        x: inputs, N rows.
        y: labels or targets, [N, ...].
        prior_precision: tau, one over the variance of the Gaussian prior on each weight; not divided by N.

    Attributes:
        cost: running count of gradients, Hessian-vector products and energies.
        perceptron: what the operations on perceptrons are told; None for other networks and likelihoods.

    Raises:
        ValueError: if there are no data, or they are not finite, or do not fit the likelihood and the network, or
            the prior precision is not positive and finite.
    """

    exact = True

    def __init__(
        self, network: Network, likelihood: Likelihood, x: Inputs, y: Tensor, prior_precision: float = 1.0
    ) -> None:
        prepared = check_data(network, likelihood, x, y, prior_precision)
        self._set(network, likelihood, x, y, prior_precision, prepared=prepared)

    def _set(
        self, network: Network, likelihood: Likelihood, x: Inputs, y: Tensor, prior_precision: float, *,
        factor: float = 1.0, share: float = 1.0, anchor: Anchor | None = None, cost: Cost | None = None,
        prepared: Inputs | None = None,
    ) -> None:  # fmt: skip
        self.network, self.likelihood, self.prior_precision = network, likelihood, float(prior_precision)
        self._inputs, self.x = x, network.prepare(x) if prepared is None else prepared
        self.y, self.n = moved_targets(y, network.weights), n_rows(x)
        self.factor, self.share, self.anchor = factor, share, anchor
        self.cost = Cost() if cost is None else cost
        self._at_anchor: tuple[Tensor, Tensor] | None = None
        self.perceptron = perceptron_problem(network, likelihood, self.x, self.y)

    @classmethod
    def of_batch(
        cls, network: Network, likelihood: Likelihood, x: Inputs, y: Tensor, prior_precision: float, *,
        factor: float, share: float, anchor: Anchor | None, cost: Cost,
    ) -> "Energy":  # fmt: skip
        """Return the estimate of U from a batch, `share` of the data: its NLL times `factor`, with control variates.

        With an anchor w* whose full NLL L and gradient g are known, the NLL f(w) of the batch becomes
        f(w) - f(w*) - (grad f(w*) - g) (w - w*) + L: unbiased as before, and quiet near w*
        (Baker et al. 2019, doi:10.1007/s11222-018-9826-2).
        """
        energy = cls.__new__(cls)
        energy._set(network, likelihood, x, y, prior_precision, factor=factor, share=share, anchor=anchor, cost=cost)
        return energy

    def at(self, time: int) -> "Energy":
        """Return this energy: every step sees all data."""
        return self

    def anchored(self, weights: Tensor) -> Self:
        """Return this energy: it has no noise that control variates could lower."""
        return self

    def rows(self, index: Tensor) -> Inputs:
        """Return the prepared inputs of examples, int64 [B]."""
        return take(self.x, index)

    def batches(self) -> Iterator[Inputs]:
        """Yield the inputs of all examples at once, not prepared."""
        yield self._inputs

    def nll(self, weights: Tensor) -> Tensor:
        """Return the negative log-likelihood of one weight vector [P], []; differentiable. No control variates."""
        return self.factor * self.likelihood.nll(self.network.apply(weights, self.x), self.y)

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the energies of weights [K, P], [K]; nats."""
        self.network.check_weights(weights)
        with torch.no_grad():
            nll = self.nll_each(weights)
            if self.anchor is not None:
                value, gradient = self._correction(self.anchor)
                nll = nll + value + products_from(weights, self.anchor.weights, gradient)
            return (nll + 0.5 * self.prior_precision * squared_norms(weights)).to(weights.dtype)

    def nll_each(self, weights: Tensor) -> Tensor:
        """Return the NLL of the batch times the factor for each of weights [K, P], [K]; outputs of a few at a time."""
        self.cost.energy_evals += len(weights) * self.share
        nll = vmap(self.likelihood.nll, in_dims=(0, None))
        fitting = WEIGHT_BYTES_AT_ONCE // (weights.shape[1] * weights.element_size())
        chunks = weights.split(max(1, min(OUTPUTS_AT_ONCE, fitting)))
        parts = [nll(self.network(some, self.x), self.y) for some in chunks]
        return self.factor * torch.cat(parts)

    def value_and_grad(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the energies [K] and gradients [K, P] of weights [K, P]; nats."""
        self.network.check_weights(weights)
        value, gradient = self.nll_and_grad(weights)
        with torch.no_grad():
            if self.anchor is not None:
                offset, slope = self._correction(self.anchor)
                value = value + offset + products_from(weights, self.anchor.weights, slope)
                gradient += slope
            gradient.add_(weights, alpha=self.prior_precision)
            return (value + 0.5 * self.prior_precision * squared_norms(weights)).to(weights.dtype), gradient

    def nll_and_grad(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch's NLL times the factor, [K], and its gradient, [K, P]; no prior, no control variates."""
        self.cost.grad_evals += len(weights) * self.share
        if not self.perceptron:
            return self.network.value_and_grad(
                weights, self.x, lambda outputs: self.factor * self.likelihood.nll(outputs, self.y)
            )
        assert isinstance(self.x, Tensor)
        layout, likelihood, noise_precision = self.perceptron
        with torch.no_grad():
            nll, gradient = mlp_nll_and_grad(
                weights, self.x, self.y, layout, likelihood=likelihood, noise_precision=noise_precision
            )
            return (nll, gradient) if self.factor == 1.0 else (nll * self.factor, gradient.mul_(self.factor))

    def _correction(self, anchor: Anchor) -> tuple[Tensor, Tensor]:
        """What the control variates add: a value [] and a slope [P] away from the anchor."""
        if self._at_anchor is None:
            value, gradient = self.nll_and_grad(anchor.weights[None])
            self.cost.shared_grads += self.share
            self._at_anchor = anchor.nll - value[0], torch.sub(anchor.gradient, gradient[0], out=gradient[0])
        return self._at_anchor

    def hvp(self, weights: Tensor, vectors: Tensor) -> Tensor:
        """Return the Hessian of U at weights [P] times each of vectors [R, P], [R, P].

        Central differences of gradients, so that any module will do: attention and many custom layers have no second
        derivatives. In float32 about three digits are right.
        """
        self.cost.hvp_evals += len(vectors) * self.share
        if self.anchor is not None:
            self._correction(self.anchor)  # a gradient of its own
        cost, products = self.cost.copy(), torch.empty_like(vectors)
        reach = torch.finfo(weights.dtype).eps ** (1 / 3) * (1.0 + float(weights.norm()))
        for vector, product in zip(vectors, products, strict=True):
            step = vector * (reach / float(vector.norm().clamp(min=torch.finfo(weights.dtype).tiny)))
            ahead, behind = self.value_and_grad(torch.stack([weights + step, weights - step]))[1]
            product.copy_((ahead - behind) * (float(vector.norm()) / (2 * reach)))
        self.cost.grad_evals, self.cost.shared_grads = cost.grad_evals, cost.shared_grads  # counted as products
        return products

    def ggn_sqrt_vp(self, weights: Tensor, probe: Callable[[Tensor], Tensor], n_probes: int) -> Iterator[Tensor]:
        """Yield J^T L u at weights [P], [P], for each of `n_probes` probes u; L L^T is the Hessian in the outputs.

        With E[u u^T] = I these are draws whose second moment is the generalised Gauss-Newton matrix; J is never formed.

        Args:
            weights: where.
            probe: gives the next u for outputs of that shape.
            n_probes: how many.
        """
        self.cost.grad_evals += n_probes * self.share
        self.cost.shared_grads += n_probes * self.share
        with torch.enable_grad():
            leaf = weights.detach().clone().requires_grad_()
            outputs = self.network.apply(leaf, self.x)
        for _ in range(n_probes):
            with torch.no_grad():
                direction = self.likelihood.curvature_sqrt(outputs.detach(), probe(outputs), self.y)
            yield torch.autograd.grad(outputs, leaf, self.factor**0.5 * direction, retain_graph=True)[0]


class PerceptronProblem(NamedTuple):
    """What the operations on perceptrons are told."""

    layout: MLPLayout
    likelihood: Literal["categorical", "gaussian"]
    noise_precision: float


def perceptron_problem(network: Network, likelihood: Likelihood, x: Inputs, y: Tensor) -> PerceptronProblem | None:
    """Return the problem if there are operations for it: a plain perceptron with plain classes or one noise."""
    layout = network.layout_for(x)
    if layout is None:
        return None
    # A subclass may have a likelihood of its own.
    if type(likelihood) is Gaussian and likelihood.is_scalar and y.ndim == 2:
        return PerceptronProblem(layout, "gaussian", likelihood.precision)
    if type(likelihood) is Categorical and y.ndim == 1:
        return PerceptronProblem(layout, "categorical", 1.0)
    return None


def moved_targets(y: Tensor, like: Tensor) -> Tensor:
    """Return labels or targets on the device of the weights, floats in their dtype."""
    targets = moved(y, like)
    assert isinstance(targets, Tensor)
    return targets


def check_data(network: Network, likelihood: Likelihood, x: Inputs, y: Tensor, prior_precision: float = 1.0) -> Inputs:
    """Return the prepared inputs.

    Raises:
        ValueError: if data, network and likelihood do not fit together, or the prior is none.
    """
    if not 0.0 < prior_precision < float("inf"):
        raise ValueError(f"prior_precision must be positive and finite; got {prior_precision}")
    if n_rows(x) == 0:
        raise ValueError("the training data are empty")
    if n_rows(x) != len(y):
        raise ValueError(f"x has {n_rows(x)} rows, y has {len(y)}")
    check_finite(x, "inputs")
    check_finite(y, "targets")
    y = moved_targets(y, network.weights)
    prepared = network.prepare(x)
    outputs = network(network.weights[None], prepared)[0]
    likelihood.check(outputs, y)
    if not outputs.isfinite().all():
        raise ValueError("the model's outputs on the training data are not finite; check its weights and inputs")
    return prepared
