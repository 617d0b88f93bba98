"""Training a network to the maximum of its posterior (MAP)."""

import copy
import math
import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from .batch import Inputs, check_finite, moved, n_rows
from .batch_norm import refreshed_statistics
from .data import ExamplesInMemory
from .energy import Energy, moved_targets
from .likelihood import Likelihood, UnfittedGaussian, likelihood_of
from .minibatch import MinibatchEnergy
from .network import Network
from .progress import Progress, Silent, progress
from .subset import raised_to_float32
from .training import train_by_minibatches

# Rates that suit most networks: full batches bear far longer steps.
LEARNING_RATE, LEARNING_RATE_MINIBATCH = 0.02, 0.002


@dataclass(frozen=True, eq=False)
class MapFit:
    """A trained network.

    Attributes:
        model: a copy of the module with the trained weights and batch-norm statistics, in evaluation mode.
        weights: the same weights, flat, [P].
        energy: U at the weights over all data, nats; dropout off, batch norm as it is in evaluation mode.
        grad_norm: Euclidean norm of the gradient of that U (of the sum over the data, not the mean). After full
            batches in float64, before the weights are rounded to the model's dtype.
        seconds: wall-clock time of the training.
        grad_evals: gradients over the full data; an epoch of minibatches is one.
        converged: whether the gradient norm reached the tolerance. Minibatches hardly ever do: their noise, dropout
            and batch statistics leave a gradient, and that they stopped says nothing against the weights.
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
    x: Inputs,
    y: Tensor,
    likelihood: Literal["classification"] | Likelihood,
    *,
    prior_precision: float = 1.0,
    max_steps: int = 20_000,
    warmup_steps: int = 300,
    learning_rate: float | None = None,
    grad_tol: float = 1e-2,
    batch_size: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    progress_bar: bool = False,
) -> MapFit:
    """Return the MAP that training reaches from the model's present weights.

    Full batches, the default, suit small networks and data: a few hundred steps of Adam choose the basin as usual
    training would, then L-BFGS (Nocedal 1980) runs to a small gradient, which first-order methods reach ten times
    slower. Dropout is off, batch norm frozen.

    With `batch_size` it is ordinary training by minibatches for `epochs`: Adam, the rate falling to zero along a
    cosine, with dropout and with batch norm that gathers its statistics.

    Args:
        model: the module; it is copied, and its present weights are where training starts.
        x: inputs, N rows: [N, ...], or a mapping of names to such tensors.
        y: labels [N] int64, or targets [N, C].
        likelihood: "classification", or `Categorical()`, `Gaussian(noise_std)` or `HeteroscedasticGaussian()`.
        prior_precision: of the Gaussian prior on each weight; not divided by N.
        max_steps: most L-BFGS iterations; full batches only.
        warmup_steps: steps of Adam; full batches only.
        learning_rate: of Adam at its highest, on the energy divided by N; None for 0.02 with full batches, where it
            decays to a tenth along a cosine, and for 0.002 with minibatches.
        grad_tol: `converged` is that the norm of the gradient of U (the sum over the data) is below this; full-batch
            training ends there.
        batch_size: examples a step; None for all.
        epochs: passes over the data; needed with `batch_size`, and only then.
        seed: of the order of examples and of dropout; full batches use neither.
        progress_bar: show progress.

    Raises:
        ValueError: if data, likelihood and model do not fit together (see `Energy`), or `batch_size` and `epochs` do
            not.
        FloatingPointError: if training diverges.
    """
    start = time.perf_counter()
    likelihood = _known(likelihood)
    if batch_size is None:
        if epochs is not None:
            raise ValueError("epochs are counted with minibatches only: give a batch_size too, or leave epochs out")
        rate = LEARNING_RATE if learning_rate is None else learning_rate
        return _fit_full(
            model, x, y, likelihood, prior_precision, max_steps, warmup_steps, rate, grad_tol, progress_bar, start
        )
    if epochs is None or epochs < 0:
        raise ValueError(f"with a batch_size, say how many epochs to train; got {epochs}")
    rate = LEARNING_RATE_MINIBATCH if learning_rate is None else learning_rate
    trained = raised_to_float32(copy.deepcopy(model))
    energy = _checked_energy(Network(trained), likelihood, x, y, prior_precision, batch_size)
    x, y = moved(x, energy.network.weights), moved_targets(y, energy.network.weights)
    train_by_minibatches(
        trained, x, y, likelihood, prior_precision=prior_precision, batch_size=batch_size, epochs=epochs,
        learning_rate=rate, seed=seed, progress_bar=progress_bar,
    )  # fmt: skip
    network = Network(trained)
    energy = MinibatchEnergy(network, likelihood, ExamplesInMemory(x, y), prior_precision, batch_size=batch_size)
    anchor = energy.anchored(network.weights).anchor
    assert anchor is not None
    gradient = (anchor.gradient + prior_precision * network.weights).double()
    grad_norm = float(gradient.norm())
    value = float(anchor.nll) + 0.5 * prior_precision * float(network.weights.double().square().sum())
    if not math.isfinite(value + grad_norm):
        raise FloatingPointError("MAP training diverged: lower learning_rate, or standardise the inputs")
    return MapFit(
        model=network.module(network.weights),
        weights=network.weights.clone(),
        energy=value,
        grad_norm=grad_norm,
        seconds=time.perf_counter() - start,
        grad_evals=epochs + 1,  # the last one looks at the result
        converged=grad_norm < grad_tol,
    )


def _known(likelihood: str | Likelihood) -> Likelihood:
    """The likelihood, by its name where that says it all."""
    if likelihood == "regression":
        raise ValueError('training needs the noise of a regression: give Gaussian(noise_std) in place of "regression"')
    found = likelihood_of(likelihood, None)
    assert not isinstance(found, UnfittedGaussian)
    return found


def _checked_energy(
    network: Network, likelihood: Likelihood, x: Inputs, y: Tensor, prior_precision: float, batch_size: int
) -> MinibatchEnergy:
    """The energy over minibatches, all data checked before time is spent."""
    if n_rows(x) != len(y):
        raise ValueError(f"x has {n_rows(x)} rows, y has {len(y)}")
    check_finite(x, "inputs")
    check_finite(y, "targets")
    energy = MinibatchEnergy(network, likelihood, ExamplesInMemory(x, y), prior_precision, batch_size=batch_size)
    with torch.no_grad():
        for rows, targets in energy.examples.batches(batch_size):
            outputs = network(network.weights[None], network.prepare(rows))[0]
            likelihood.check(outputs, moved_targets(targets, network.weights))
    return energy


def _fit_full(
    model: nn.Module,
    x: Inputs,
    y: Tensor,
    likelihood: Likelihood,
    prior_precision: float,
    max_steps: int,
    warmup_steps: int,
    learning_rate: float,
    grad_tol: float,
    progress_bar: bool,
    start: float,
) -> MapFit:
    """The MAP by full batches."""
    network = Network(model)
    energy = Energy(network, likelihood, x, y, prior_precision)
    weights = network.weights.clone()
    with progress("MAP", total=warmup_steps + max_steps, shown=progress_bar) as bar:
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
        grad_evals=round(energy.cost.grad_evals + precise.cost.grad_evals),
        converged=grad_norm < grad_tol,
    )


def trained_on(energy: Energy, prior_precision: float, *, max_steps: int = 20_000, grad_tol: float = 1e-2) -> nn.Module:
    """Return the module of an energy's network, trained on to a minimum of that energy with another prior.

    L-BFGS over the network's weights, a subset or all, from the present ones, in float64. What is not among the weights
    stays as it is, but for batch-norm statistics that the network refreshes: those become the minimum's own.

    Args:
        energy: of all data.
        prior_precision: the other prior.
        max_steps: as for `fit_map`.
        grad_tol: as for `fit_map`.

    Raises:
        FloatingPointError: if it diverges.
    """
    network, x = energy.network, next(energy.batches())
    raised = network.module(network.weights).double()
    precise = Energy(
        Network(raised, subset=network.subset, batch_norm=network.batch_norm), energy.likelihood, x, energy.y,
        prior_precision,
    )  # fmt: skip
    weights64 = precise.network.weights.clone()
    _lbfgs(precise, weights64, max_steps, grad_tol, Silent())
    value, gradient = precise.value_and_grad(weights64[None])
    if not (value.isfinite().all() and gradient.isfinite().all()):
        raise FloatingPointError(f"training with prior_precision={prior_precision:g} diverged")
    weights = weights64.to(network.weights.dtype)
    model = network.module(weights)
    if network.batch_norm == "refresh":
        statistics = refreshed_statistics(network, weights[None], lambda: [x])
        model.load_state_dict({name: values[0] for name, values in statistics.items()}, strict=False)
    return model


def _adam(energy: Energy, weights: Tensor, n_steps: int, learning_rate: float, bar: Progress) -> None:
    """Train `weights` [P] in place."""
    parameter = nn.Parameter(weights)
    optimizer = torch.optim.Adam([parameter], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, n_steps), eta_min=0.1 * learning_rate)
    for _ in range(n_steps):
        value, gradient = energy.value_and_grad(weights[None])
        parameter.grad = gradient[0] / energy.n
        optimizer.step()
        schedule.step()
        bar.update()
        bar.set_postfix({"energy": f"{float(value):.3f}"}, refresh=False)


def _lbfgs(energy: Energy, weights: Tensor, max_steps: int, grad_tol: float, bar: Progress) -> None:
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
        bar.set_postfix({"energy": f"{value:.3f}", "grad_norm": f"{grad_norm:.1e}"}, refresh=False)
        if grad_norm < grad_tol or not grad_norm < float("inf") or value >= best:
            break
        best = value
