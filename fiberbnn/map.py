"""Training a network to the maximum of its posterior (MAP)."""

import time
from dataclasses import dataclass
from typing import Never

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .energy import Energy
from .likelihood import Likelihood
from .network import Network


@dataclass(frozen=True, eq=False)
class MapFit:
    """A trained network.

    Attributes:
        model: a copy of the module with the trained weights, in evaluation mode.
        weights: the same weights, flat, [P].
        energy: U at the weights, nats.
        grad_norm: Euclidean norm of the gradient of U (of the sum over the data, not the mean), in float64, before
            the weights are rounded to the model's dtype.
        seconds: wall-clock time of the training.
        grad_evals: gradients over the full data.
        converged: whether the gradient norm reached the tolerance.
    """

    model: nn.Module
    weights: Tensor
    energy: float
    grad_norm: float
    seconds: float
    grad_evals: int
    converged: bool


def fit_map(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    likelihood: Likelihood,
    *,
    prior_precision: float = 1.0,
    max_steps: int = 20_000,
    warmup_steps: int = 300,
    learning_rate: float = 0.02,
    grad_tol: float = 1e-2,
    progress_bar: bool = False,
) -> MapFit:
    """Return the MAP that full-batch training reaches from the model's present weights.

    A few hundred steps of Adam choose the basin as usual training would, then L-BFGS (Nocedal 1980) runs to a
    small gradient, which first-order methods reach ten times slower.

    Args:
        model: the module; it is copied, and its present weights are where training starts.
        x: inputs, [N, ...].
        y: labels [N] int64, or targets [N, C].
        likelihood: `Categorical()` or `Gaussian(noise_std)`.
        prior_precision: of the Gaussian prior on each weight.
        max_steps: most L-BFGS iterations.
        warmup_steps: steps of Adam.
        learning_rate: of Adam, on the energy divided by N; decays to a tenth along a cosine.
        grad_tol: training ends when the norm of the gradient of U (the sum over the data) is below this.
        progress_bar: show progress.

    Raises:
        ValueError: if data, likelihood and model do not fit together (see `Energy`).
        FloatingPointError: if training diverges.
    """
    start = time.perf_counter()
    network = Network(model)
    energy = Energy(network, likelihood, x, y, prior_precision)
    weights = network.weights.clone()
    with tqdm(total=warmup_steps + max_steps, desc="MAP", disable=not progress_bar) as bar:
        _adam(energy, weights, warmup_steps, learning_rate, bar)
        # Near the minimum a float32 energy no longer resolves descent, and the line search stalls.
        precise = Energy(Network(network.model.double()), likelihood, x, y, prior_precision)
        weights64 = weights.double()
        _lbfgs(precise, weights64, max_steps, grad_tol, bar)
    value, gradient = precise.value_and_grad(weights64[None])
    if not (value.isfinite().all() and gradient.isfinite().all()):
        raise FloatingPointError("MAP training diverged: lower learning_rate, or standardise the inputs")
    grad_norm = float(gradient.norm())
    weights = weights64.to(network.weights.dtype)
    return MapFit(
        model=Network(model).module(weights),
        weights=weights,
        energy=float(value),
        grad_norm=grad_norm,
        seconds=time.perf_counter() - start,
        grad_evals=energy.cost.grad_evals + precise.cost.grad_evals,
        converged=grad_norm < grad_tol,
    )


def _adam(energy: Energy, weights: Tensor, n_steps: int, learning_rate: float, bar: "tqdm[Never]") -> None:
    """Train `weights` [P] in place."""
    parameter = nn.Parameter(weights)
    optimizer = torch.optim.Adam([parameter], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, n_steps), eta_min=0.1 * learning_rate)
    for _ in range(n_steps):
        value, gradient = energy.value_and_grad(weights[None])
        parameter.grad = gradient[0] / len(energy.x)
        optimizer.step()
        schedule.step()
        bar.update()
        bar.set_postfix(energy=f"{float(value):.3f}", refresh=False)


def _lbfgs(energy: Energy, weights: Tensor, max_steps: int, grad_tol: float, bar: "tqdm[Never]") -> None:
    """Train `weights` [P] in place until the gradient norm is below `grad_tol`, or no step lowers the energy."""
    parameter = nn.Parameter(weights)
    chunk = 50
    optimizer = torch.optim.LBFGS(
        [parameter],
        max_iter=chunk,
        history_size=30,
        line_search_fn="strong_wolfe",
        tolerance_grad=0.0,
        tolerance_change=0.0,
    )

    def closure() -> Tensor:
        value, gradient = energy.value_and_grad(parameter.detach()[None])
        parameter.grad = gradient[0]
        return value[0]

    best = float("inf")
    for _ in range(0, max_steps, chunk):
        value = float(optimizer.step(closure))
        bar.update(chunk)
        grad_norm = float(parameter.grad.norm()) if parameter.grad is not None else float("inf")
        bar.set_postfix(energy=f"{value:.3f}", grad_norm=f"{grad_norm:.1e}", refresh=False)
        if grad_norm < grad_tol or not grad_norm < float("inf") or value >= best:
            break
        best = value
