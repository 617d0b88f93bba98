"""The posterior of a multilayer perceptron's flat weights, in JAX.

The network is written again over the weights that torch flattens, because gradients called back into
torch would cost several times as much.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "gelu": partial(jax.nn.gelu, approximate=False),
}


@dataclass(frozen=True)
class MLPPosterior:
    """The posterior of an MLP's flat weights [P], in the order of torch's parameters_to_vector.

    Attributes:
        widths: (D, hidden..., C).
        activation: tanh, relu, silu or gelu.
        kind: "classification" (softmax) or "regression" (Gaussian noise).
        prior_precision: 1 / variance of the Gaussian prior on each weight.
        noise_std: of the observation noise; None for classification.

    Raises:
        ValueError: for an unknown activation or kind, or a regression without noise.
    """

    widths: tuple[int, ...]
    activation: str
    kind: Literal["classification", "regression"]
    prior_precision: float = 1.0
    noise_std: float | None = None

    def __post_init__(self) -> None:
        if self.activation not in _ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, not {self.activation!r}")
        if self.kind not in ("classification", "regression"):
            raise ValueError(f"kind must be 'classification' or 'regression', not {self.kind!r}")
        if self.kind == "regression" and self.noise_std is None:
            raise ValueError("regression needs noise_std, the standard deviation of the observation noise")

    @property
    def n_params(self) -> int:
        """Return P."""
        return sum((n_in + 1) * n_out for n_in, n_out in zip(self.widths[:-1], self.widths[1:], strict=True))

    def prepare(self, x: np.ndarray, y: np.ndarray) -> tuple[Array, Array]:
        """Return x [N, D] as inputs [D, N], and y as targets [C, N], one-hot for classification; float32."""
        targets = np.eye(self.widths[-1])[np.asarray(y)] if self.kind == "classification" else np.asarray(y)
        return jnp.asarray(np.asarray(x).T, jnp.float32), jnp.asarray(targets.T, jnp.float32)

    def outputs(self, weights: Array, x: Array) -> Array:
        """Return the network's outputs [C, N] for weights [P] at x [D, N].

        Features first: the long example axis is contiguous, which halves the time of narrow nets on a CPU.
        """
        act, at = _ACTIVATIONS[self.activation], 0
        for layer, (n_in, n_out) in enumerate(zip(self.widths[:-1], self.widths[1:], strict=True)):
            kernel = weights[at : at + n_in * n_out].reshape(n_out, n_in)
            at += n_in * n_out
            x = kernel @ x + weights[at : at + n_out, None]
            at += n_out
            if layer < len(self.widths) - 2:
                x = act(x)
        return x

    def log_density(self, weights: Array, x: Array, targets: Array) -> Array:
        """Return log p(y | x, w) - prior_precision / 2 |w|^2, [], nats: minus fiberbnn's energy U.

        Args:
            weights: flat weights, [P].
            x: inputs, [D, N], as `prepare` gives them.
            targets: [C, N], as `prepare` gives them.
        """
        out = self.outputs(weights, x)
        if self.noise_std is None:
            # A product with one-hot labels, because the gradient of a gather is a slow scatter.
            log_likelihood = (targets * out).sum() - jax.nn.logsumexp(out, axis=0).sum()
        else:
            constant = targets.size * math.log(self.noise_std * math.sqrt(2 * math.pi))
            log_likelihood = -0.5 * ((out - targets) ** 2).sum() / self.noise_std**2 - constant
        return log_likelihood - 0.5 * self.prior_precision * weights @ weights
