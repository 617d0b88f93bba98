"""Predictions of weight samples, and how they vary and score."""

import math

import torch
from torch import Tensor

from .likelihood import Gaussian, Likelihood
from .network import Network

# Inputs go through in batches for which S samples of a network 64 wide stay below this.
BATCH_BYTES = 1 << 28


def outputs_of(network: Network, weights: Tensor, x: Tensor) -> Tensor:
    """Return the outputs of weight samples [S, P] at inputs [N, ...], [S, N, C].

    Raises:
        ValueError: if x is empty or not finite.
    """
    if len(x) == 0 or (x.is_floating_point() and not x.isfinite().all()):
        raise ValueError("x is empty, or holds NaN or infinite values")
    x = x.to(network.weights) if x.is_floating_point() else x.to(network.weights.device)
    rows = max(1, BATCH_BYTES // (64 * weights.element_size() * len(weights)))
    return torch.cat([network(weights, batch) for batch in x.split(rows)], dim=1)


def predictions_of(likelihood: Likelihood, outputs: Tensor) -> Tensor:
    """Return class probabilities, or the means of a regression, of outputs [..., C], [..., C]."""
    return outputs if isinstance(likelihood, Gaussian) else outputs.softmax(-1)


def spread(predictions: Tensor) -> float:
    """Return the mean standard deviation over samples of predictions [S, N, C]; 0 for a single sample."""
    return float(predictions.double().std(dim=0).mean()) if len(predictions) > 1 else 0.0


def predictive_nll(likelihood: Likelihood, outputs: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the mean NLL of the averaged predictive, and the mean over single samples, in nats an example.

    Args:
        likelihood: what the outputs mean.
        outputs: of S weight samples, [S, N, C].
        y: labels [N] or targets [N, C].
    """
    outputs = outputs.double()
    if isinstance(likelihood, Gaussian):
        residual = (outputs - y.double()) / likelihood.noise_std
        constant = math.log(likelihood.noise_std * math.sqrt(2 * math.pi))
        log_p = -(0.5 * residual.square() + constant).sum(-1)
    else:
        log_p = outputs.log_softmax(-1).gather(-1, y[None, :, None].expand(len(outputs), -1, -1)).squeeze(-1)
    averaged = torch.logsumexp(log_p, dim=0) - math.log(len(outputs))
    return -float(averaged.mean()), -float(log_p.mean())


def split_r_hat(chains: Tensor) -> Tensor:
    """Return the split R-hat of chains [K, T, ...] for every entry of the rest of the shape.

    Each chain is cut in two; the result compares the variance between the halves with that within. Entries that do not
    vary at all get 1, those that vary between chains alone infinity.

    Raises:
        ValueError: if there are fewer than two draws a half.

    Source: Gelman et al. (2013), Bayesian Data Analysis, 3rd edition, section 11.4.
    """
    half = chains.shape[1] // 2
    if half < 2:
        raise ValueError(f"split R-hat needs at least four draws a chain; got {chains.shape[1]}")
    halves = torch.cat([chains[:, :half], chains[:, -half:]]).double()
    within = halves.var(dim=1).mean(dim=0)
    between = halves.mean(dim=1).var(dim=0)
    r_hat = ((half - 1) / half + between / within).sqrt()
    return torch.where(within + between > 0, r_hat, torch.ones_like(r_hat))
