"""A Triton kernel of an optimizer step with prior, snapshot and perturbation, all in one pass over memory."""

# Triton's language has types of its own.
# ruff: noqa: ANN001, ANN201, D103
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..philox.fused import normals4
from .fused import OPTIONS, RUNTIME, launch_of, place_of
from .reference import Perturbation, Update

ONLY_PERTURB = Update("none", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@triton.jit(do_not_specialize=RUNTIME)
def update_kernel(
    particles,
    new_particles,
    grad,
    first,
    second,
    snapshot,
    scale,
    drift,
    n_rows,
    n_elements,
    prior_precision,
    rate,
    beta1,
    other1,
    beta2,
    other2,
    root,
    eps,
    drift_length,
    noise,
    seed,
    step,
    stream,
    particle0,
    RULE: tl.constexpr,
    NOISE: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, block, start, at, mask = place_of(n_rows, n_elements, ALIGNED, BLOCK)
    lane = tl.arange(0, 4 * BLOCK)
    x = tl.load(particles + at + lane, mask=mask, other=0.0)
    if scale is not None:
        m = tl.load(scale + start + lane, mask=mask, other=0.0)
    if RULE != "none":
        slope = tl.load(grad + at + lane, mask=mask, other=0.0) + prior_precision * x
        if scale is not None:
            slope *= m
        if RULE == "momentum":
            slope += beta1 * tl.load(first + at + lane, mask=mask, other=0.0)
            tl.store(first + at + lane, slope, mask=mask)
        if RULE == "adam":
            mean = beta1 * tl.load(first + at + lane, mask=mask, other=0.0) + other1 * slope
            square = beta2 * tl.load(second + at + lane, mask=mask, other=0.0) + other2 * slope * slope
            tl.store(first + at + lane, mean, mask=mask)
            tl.store(second + at + lane, square, mask=mask)
            slope = tl.div_rn(mean, tl.sqrt_rn(square) * root + eps)
        if scale is not None:
            slope *= m
        x -= rate * slope
    if snapshot is not None:
        tl.store(snapshot + at + lane, x, mask=mask)
    if drift is not None:
        move = drift_length * tl.load(drift + at + lane, mask=mask, other=0.0)
        if scale is not None:
            move *= m
        x += move
    if NOISE:
        quad = block * BLOCK + tl.arange(0, BLOCK)
        move = noise * normals4(quad, particle0.to(tl.int64) + row, step, stream, seed)
        if scale is not None:
            move *= m
        x += move
    tl.store(new_particles + at + lane, x, mask=mask)


def optimizer_step(
    particles: Tensor,
    grad: Tensor,
    numbers: Update,
    *,
    first: Tensor | None,
    second: Tensor | None,
    snapshot: Tensor | None,
    scale: Tensor | None,
    perturbation: Perturbation,
) -> None:
    """Step, store and perturb in place; see `optimizer.optimizer_step`."""
    _launch(particles, particles, (grad, first, second, snapshot, scale), numbers, perturbation)


def perturb(particles: Tensor, scale: Tensor | None, perturbation: Perturbation) -> Tensor:
    """Return the perturbed particles; see `optimizer.perturb`."""
    new = torch.empty_like(particles)
    _launch(particles, new, (None, None, None, None, scale), ONLY_PERTURB, perturbation)
    return new


def _launch(
    particles: Tensor,
    new_particles: Tensor,
    tensors: tuple[Tensor | None, ...],
    numbers: Update,
    perturbation: Perturbation,
) -> None:
    if not particles.numel():
        return
    grid, _, constants = launch_of(particles)
    with torch.cuda.device_of(particles):
        update_kernel[grid](
            particles,
            new_particles,
            *tensors,
            perturbation.drift,
            *particles.shape,
            numbers.prior_precision,
            numbers.rate,
            numbers.beta1,
            1.0 - numbers.beta1,
            numbers.beta2,
            1.0 - numbers.beta2,
            numbers.root,
            numbers.eps,
            perturbation.drift_length,
            perturbation.noise,
            *perturbation.counter,
            RULE=numbers.rule,
            NOISE=perturbation.noise > 0.0,
            **constants,
            **OPTIONS,
        )
