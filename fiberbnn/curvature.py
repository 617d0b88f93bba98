"""Curvature at a weight vector by matrix-vector products: the largest eigenvalue, and a diagonal preconditioner."""

import torch
from torch import Tensor

from fiberbnn_kernels import philox_normal

from .energy import Energy
from .streams import Stream


def ggn_diagonal(energy: Energy, weights: Tensor, *, n_probes: int = 64, seed: int = 0) -> Tensor:
    """Return an unbiased estimate of the diagonal of the generalised Gauss-Newton matrix of the NLL, [P].

    With probes u of unit second moment, E[(J^T L u)^2] = diag(J^T L L^T J); each probe costs one gradient and the
    relative error of every entry is about sqrt(2 / n_probes), plenty for a preconditioner. For a categorical
    likelihood this is the Fisher information with labels drawn from the model.

    Args:
        energy: its data and likelihood.
        weights: where to evaluate, [P].
        n_probes: number of random vectors.
        seed: of the probes.

    Source: Bekas, Kokiopoulou and Saad (2007), doi:10.1016/j.apnum.2007.01.003, applied to a factor of the matrix.
    """
    numbers = iter(range(n_probes))

    def signs(outputs: Tensor) -> Tensor:
        noise = philox_normal(
            1, outputs.numel(), seed=seed, step=0, stream=Stream.CURVATURE_PROBE, particle0=next(numbers),
            dtype=weights.dtype, device=weights.device,
        )  # fmt: skip
        # Random signs have the least variance of all probes with unit second moment.
        return noise.sign().view(outputs.shape)

    total = torch.zeros_like(weights)
    for product in energy.ggn_sqrt_vp(weights, signs, n_probes):
        total += product.square()
    return total / n_probes


def diagonal_scale(curvature: Tensor, prior_precision: float) -> Tensor:
    """Return the scale m = (curvature + tau)^(-1/2) of the preconditioner M = diag(m), [P]."""
    return (curvature + prior_precision).rsqrt()


def largest_eigenvalue(
    energy: Energy, weights: Tensor, scale: Tensor, *, n_iterations: int = 20, seed: int = 0
) -> float:
    """Return the largest eigenvalue, in magnitude, of M H M with H the Hessian of U at weights [P] and M = diag(scale).

    Power iteration; each iteration costs one Hessian-vector product. The value approaches from below.

    Raises:
        FloatingPointError: if the Hessian is not finite there.
    """
    vector = philox_normal(
        1, len(weights), seed=seed, step=0, stream=Stream.POWER_ITERATION, dtype=weights.dtype, device=weights.device
    )
    value = 0.0
    for _ in range(n_iterations):
        vector = vector / vector.norm()
        product = scale * energy.hvp(weights, scale * vector)
        value = float((product * vector).sum())
        vector = product
        if not vector.isfinite().all():
            raise FloatingPointError("the Hessian at the MAP is not finite: check the model's weights and inputs")
    return abs(value)


def newton_gain(
    energy: Energy, weights: Tensor, gradient: Tensor, *, n_iterations: int = 4, n_probes: int = 8, seed: int = 0
) -> float:
    """Return by how many nats, at least, a Newton step would lower the quadratic model of U: 1/2 g^T H^-1 g.

    Conjugate gradients on H with the diagonal of the curvature as preconditioner: each iteration adds what its
    direction gains, so the value approaches from below. The diagonal alone, 1/2 g^T diag(H)^-1 g, overstates the gain
    by as many weights as act together. A direction without positive curvature ends it: there the model has no minimum.

    Args:
        energy: its data and likelihood.
        weights: where, [P].
        gradient: of U there, [P].
        n_iterations: of conjugate gradients, a Hessian-vector product each.
        n_probes: for the diagonal, a gradient each.
        seed: of the probes.

    Source: Nocedal and Wright (2006), Numerical Optimization, algorithm 5.3.
    """
    scale = diagonal_scale(ggn_diagonal(energy, weights, n_probes=n_probes, seed=seed), energy.prior_precision)
    residual = -gradient
    direction = preconditioned = scale.square() * residual
    gain, slope = 0.0, float(residual @ preconditioned)
    for _ in range(n_iterations):
        product = energy.hvp(weights, direction[None])[0]
        curvature = float(direction @ product)
        if not curvature > 0:
            break
        length = slope / curvature
        gain += 0.5 * length * slope
        residual = residual - length * product
        preconditioned = scale.square() * residual
        slope, previous = float(residual @ preconditioned), slope
        direction = preconditioned + (slope / previous) * direction
    return gain
