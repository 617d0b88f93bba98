"""The energy U of weights in nats, its gradient and Hessian-vector products, counted."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, grad_and_value, vjp, vmap

from fiberbnn_kernels import mlp_nll_and_grad

from .likelihood import Gaussian, Likelihood
from .network import Network


@dataclass
class Cost:
    """What was computed, in passes of one weight vector over the full data."""

    grad_evals: int = 0
    hvp_evals: int = 0
    energy_evals: int = 0

    def __sub__(self, earlier: "Cost") -> "Cost":
        return Cost(
            self.grad_evals - earlier.grad_evals,
            self.hvp_evals - earlier.hvp_evals,
            self.energy_evals - earlier.energy_evals,
        )

    def copy(self) -> "Cost":
        """Return the count as it stands."""
        return Cost(self.grad_evals, self.hvp_evals, self.energy_evals)


class Energy:
    """U(w) = -log p(y | x, w) + tau/2 |w|^2, summed over the data: minus the log posterior up to a constant.

    Args:
        network: the network as a function of flat weights.
        likelihood: `Categorical()` or `Gaussian(noise_std)`.
        x: inputs, [N, ...].
        y: labels [N] int64, or targets [N, C].
        prior_precision: tau, one over the variance of the Gaussian prior on each weight; not divided by N.

    Attributes:
        cost: running count of gradients, Hessian-vector products and energies.

    Raises:
        ValueError: if there are no data, or they are not finite, or do not fit the likelihood and the network, or
            the prior precision is not positive and finite.
    """

    def __init__(
        self, network: Network, likelihood: Likelihood, x: Tensor, y: Tensor, prior_precision: float = 1.0
    ) -> None:
        if not 0.0 < prior_precision < float("inf"):
            raise ValueError(f"prior_precision must be positive and finite; got {prior_precision}")
        if len(x) == 0:
            raise ValueError("the training data are empty")
        if len(x) != len(y):
            raise ValueError(f"x has {len(x)} rows, y has {len(y)}")
        for name, values in (("inputs", x), ("targets", y)):
            if values.is_floating_point() and not values.isfinite().all():
                bad = (~values.isfinite()).flatten(1 if values.ndim > 1 else 0)
                raise ValueError(
                    f"the {name} hold {int(bad.sum())} NaN or infinite values; remove or impute them before fitting"
                )
        weights = network.weights
        x = x.to(weights) if x.is_floating_point() else x.to(weights.device)
        self.network, self.likelihood, self.prior_precision = network, likelihood, float(prior_precision)
        self.x, self.y = x, y.to(weights) if y.is_floating_point() else y.to(weights.device)
        with torch.no_grad():
            outputs = network.apply(weights, self.x)
        likelihood.check(outputs, self.y)
        if not outputs.isfinite().all():
            raise ValueError("the model's outputs on the training data are not finite; check its weights and inputs")
        self.cost = Cost()

    def nll(self, weights: Tensor) -> Tensor:
        """Return the negative log-likelihood of one weight vector [P], []; differentiable."""
        return self.likelihood.nll(self.network.apply(weights, self.x), self.y)

    def _single(self, weights: Tensor) -> Tensor:
        return self.nll(weights) + 0.5 * self.prior_precision * weights.square().sum()

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the energies of weights [K, P], [K]; nats."""
        self.network.check_weights(weights)
        self.cost.energy_evals += len(weights)
        with torch.no_grad():
            outputs = self.network(weights, self.x)
            nll = vmap(self.likelihood.nll, in_dims=(0, None))(outputs, self.y)
            return nll + 0.5 * self.prior_precision * weights.square().sum(-1)

    def value_and_grad(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the energies [K] and gradients [K, P] of weights [K, P]; nats."""
        self.network.check_weights(weights)
        self.cost.grad_evals += len(weights)
        if self.network.mlp_layout is None:
            gradient, value = vmap(grad_and_value(self._single))(weights)
            return value.detach(), gradient.detach()
        precision = self.likelihood.precision if isinstance(self.likelihood, Gaussian) else 1.0
        with torch.no_grad():
            nll, gradient = mlp_nll_and_grad(
                weights,
                self.x,
                self.y,
                self.network.mlp_layout,
                likelihood=self.likelihood.kind,
                noise_precision=precision,
            )
            gradient.add_(weights, alpha=self.prior_precision)
            return nll + 0.5 * self.prior_precision * weights.square().sum(-1), gradient

    def hvp(self, weights: Tensor, vectors: Tensor) -> Tensor:
        """Return the Hessian of U at weights [P] times each of vectors [R, P], [R, P]."""
        self.cost.hvp_evals += len(vectors)
        # Reverse over reverse: half the time of forward over reverse here, and LSTMs have no forward mode.
        pull = vjp(grad(self._single), weights)[1]
        return vmap(lambda vector: pull(vector)[0])(vectors).detach()

    def ggn_vp(self, weights: Tensor, vectors: Tensor) -> Tensor:
        """Return the generalised Gauss-Newton matrix of the NLL at weights [P] times each of vectors [R, P], [R, P].

        It is J^T H J with H the Hessian of the NLL in the outputs (Schraudolph 2002); J is never formed.
        """
        self.cost.hvp_evals += len(vectors)

        fx, pull = vjp(lambda w: self.network.apply(w, self.x), weights)[:2]
        push = vjp(lambda u: pull(u)[0], torch.zeros_like(fx))[1]  # J v, as the transpose of u -> J^T u
        return vmap(lambda v: pull(self.likelihood.curvature(fx, push(v)[0]))[0])(vectors).detach()

    def ggn_sqrt_vp(self, weights: Tensor, probes: Tensor) -> Tensor:
        """Return J^T L u at weights [P] for each of probes u [R, N, C], [R, P]; L L^T is the Hessian in the outputs.

        With E[u u^T] = I these are draws whose second moment is the generalised Gauss-Newton matrix.
        """
        self.cost.grad_evals += len(probes)
        fx, pull = vjp(lambda w: self.network.apply(w, self.x), weights)[:2]
        return vmap(lambda u: pull(self.likelihood.curvature_sqrt(fx, u))[0])(probes).detach()
