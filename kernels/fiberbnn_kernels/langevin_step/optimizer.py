"""Gradient steps of the walk's literal mode: SGD, momentum or Adam, with prior, perturbation and snapshot fused in."""

from typing import Literal, get_args

import torch
from torch import Tensor

from ..backend import Impl
from ..mapped import rows_rule
from ..philox.api import check_counter
from . import reference
from .api import boxed, check_in_place, check_rows, choose_for, number
from .reference import Counter, Perturbation, update_of

Rule = Literal["sgd", "momentum", "adam"]
# Moments that a rule keeps: how many.
MOMENTS = {"sgd": 0, "momentum": 1, "adam": 2}


def optimizer_step(
    particles: Tensor,
    grad: Tensor,
    *,
    rule: Rule,
    learning_rate: float | Tensor,
    first: Tensor | None = None,
    second: Tensor | None = None,
    update: int = 1,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    prior_precision: float = 0.0,
    scale: Tensor | None = None,
    snapshot: Tensor | None = None,
    drift: Tensor | None = None,
    drift_length: float | Tensor = 0.0,
    noise: float | Tensor = 0.0,
    seed: int = 0,
    step: int = 0,
    stream: int = 0,
    particle0: int = 0,
    impl: Impl = "auto",
) -> None:
    """Move particles down their gradients in place, store them if asked to, then perturb them if asked to.

    In preconditioned coordinates, M = diag(scale), with s = M (g + tau x) the slope of energy and prior:

        sgd       x -= eta M s
        momentum  m = beta1 m + s;                                        x -= eta M m
        adam      m = beta1 m + (1 - beta1) s,  v = beta2 v + (1 - beta2) s^2;
                  x -= eta M m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    The prior is of the L2 kind: it goes through the moments, as the `weight_decay` of torch's SGD and Adam does. Then
    the snapshot is stored, and then x += drift_length M d + noise M xi as in `perturb`.

    It has no autograd formula. Under `torch.vmap` the particles of all copies go through one call: particle k of copy b
    gets the number particle0 + b K + k, so that copies never share noise. Everything that is overwritten must be
    mapped; a mapped `scale` or number is refused, and so is randomness="same".

    Args:
        particles: positions x, [K, P], contiguous; overwritten.
        grad: g, [K, P].
        rule: "sgd", "momentum" or "adam".
        learning_rate: eta; like `drift_length` and `noise` a number, or a tensor [] on the CPU: torch's compiler may
            make a graph for every number.
        first: m of momentum and Adam, [K, P], contiguous, zero before the first update; overwritten.
        second: v of Adam, like m.
        update: t, the number of this update, from 1; only Adam uses it.
        betas: beta1 and beta2; at least 0 and below 1.
        eps: of Adam.
        prior_precision: tau; 0 if the gradient is of the whole energy.
        scale: diagonal of M, [P]; None for one.
        snapshot: where the positions are stored before they are perturbed, [K, P], contiguous.
        drift: d, [K, P].
        drift_length: how far to go along d.
        noise: standard deviation of the noise.
        seed: as in `philox_normal`, like the next three.
        step: which draw of the stream.
        stream: keeps the uses of one seed apart.
        particle0: global number of the first particle.
        impl: "auto", "reference" or "fused".

    Raises:
        ValueError: if shapes, dtypes or devices disagree, a number is out of its range, the moments are not those of
            the rule, a gradient is asked for, or `rule` or `impl` is unknown.
        RuntimeError: if `impl` is "fused" and the kernel cannot run there, or not on this dtype.

    Source: Kingma and Ba (2015), arXiv 1412.6980, for Adam.
    """
    if rule not in get_args(Rule):
        raise ValueError(f"rule must be one of {get_args(Rule)}; got {rule!r}")
    moments = (first is not None) + (second is not None)
    if moments != MOMENTS[rule] or (rule == "momentum" and first is None):
        raise ValueError(f"{rule} keeps {MOMENTS[rule]} moments, the first of them in `first`; got {moments}")
    rows = {"grad": grad, "first": first, "second": second, "snapshot": snapshot, "drift": drift}
    check_rows(particles, rows, {"scale": scale})
    check_in_place(particles=particles, first=first, second=second, snapshot=snapshot)
    if not (0.0 <= betas[0] < 1.0 and 0.0 <= betas[1] < 1.0):
        raise ValueError(f"betas must be at least 0 and below 1; got {betas}")
    if update < 1:
        raise ValueError(f"updates count from 1; got {update}")
    check_counter(seed, step, 1, stream, particle0, particles.shape[0], particles.shape[1], particles.dtype)
    _step_op(
        particles,
        grad.contiguous(),
        first,
        second,
        snapshot,
        None if scale is None else scale.contiguous(),
        None if drift is None else drift.contiguous(),
        rule,
        boxed(learning_rate),
        betas[0],
        betas[1],
        eps,
        update,
        prior_precision,
        boxed(drift_length),
        boxed(noise),
        seed,
        step,
        stream,
        particle0,
        choose_for(impl, particles),
    )


def perturb(
    particles: Tensor,
    *,
    drift: Tensor | None = None,
    drift_length: float | Tensor = 0.0,
    noise: float | Tensor = 0.0,
    scale: Tensor | None = None,
    seed: int = 0,
    step: int = 0,
    stream: int = 0,
    particle0: int = 0,
    impl: Impl = "auto",
) -> Tensor:
    """Return x + drift_length M d + noise M xi, [K, P], with xi what `philox_normal` gives for (seed, step, stream).

    Not differentiable; `torch.vmap`, arguments and errors as of `optimizer_step`, but the particles are not changed.
    """
    check_rows(particles, {"drift": drift}, {"scale": scale})
    check_counter(seed, step, 1, stream, particle0, particles.shape[0], particles.shape[1], particles.dtype)
    return _perturb_op(
        particles.contiguous(),
        None if scale is None else scale.contiguous(),
        None if drift is None else drift.contiguous(),
        boxed(drift_length),
        boxed(noise),
        seed,
        step,
        stream,
        particle0,
        choose_for(impl, particles),
    )


def _step(
    particles: Tensor,
    grad: Tensor,
    first: Tensor | None,
    second: Tensor | None,
    snapshot: Tensor | None,
    scale: Tensor | None,
    drift: Tensor | None,
    rule: str,
    learning_rate: Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    update: int,
    prior_precision: float,
    drift_length: Tensor,
    noise: Tensor,
    seed: int,
    step: int,
    stream: int,
    particle0: int,
    fused: bool,
) -> None:
    rate, tau, eps = (
        number("learning_rate", learning_rate),
        number("prior_precision", prior_precision),
        number("eps", eps),
    )
    numbers = update_of(rule, tau, rate, beta1, beta2, eps, update)
    counter = Counter(seed, step, stream, particle0)
    perturbation = Perturbation(drift, number("drift_length", drift_length), number("noise", noise), counter)
    if fused:
        from . import fused_optimizer as kernels

        implementation = kernels.optimizer_step
    else:
        implementation = reference.optimizer_step
    implementation(
        particles,
        grad,
        numbers,
        first=first,
        second=second,
        snapshot=snapshot,
        scale=scale,
        perturbation=perturbation,
    )


_WRITTEN = ("particles", "first", "second", "snapshot")
_SHARED = ("scale", "learning_rate", "drift_length", "noise")
_step_op = torch.library.custom_op("fiberbnn::optimizer_step", _step, mutates_args=_WRITTEN)
_step_op.register_vmap(rows_rule(_step_op, _step, shared=_SHARED, written=_WRITTEN))


def _perturb(
    particles: Tensor,
    scale: Tensor | None,
    drift: Tensor | None,
    drift_length: Tensor,
    noise: Tensor,
    seed: int,
    step: int,
    stream: int,
    particle0: int,
    fused: bool,
) -> Tensor:
    counter = Counter(seed, step, stream, particle0)
    perturbation = Perturbation(drift, number("drift_length", drift_length), number("noise", noise), counter)
    if fused:
        from . import fused_optimizer as kernels

        return kernels.perturb(particles, scale, perturbation)
    new = particles.clone()
    reference.perturb_(new, scale, perturbation)
    return new


_perturb_op = torch.library.custom_op("fiberbnn::perturb", _perturb, mutates_args=())
_perturb_op.register_vmap(rows_rule(_perturb_op, _perturb, shared=_SHARED))


@_perturb_op.register_fake
def _(
    particles: Tensor,
    scale: Tensor | None,
    drift: Tensor | None,
    drift_length: Tensor,
    noise: Tensor,
    seed: int,
    step: int,
    stream: int,
    particle0: int,
    fused: bool,
) -> Tensor:
    return torch.empty_like(particles)
