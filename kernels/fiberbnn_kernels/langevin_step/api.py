"""A BAOAB step in two halves around its gradient: one pass over memory each."""

import math

import torch
from torch import Tensor

from ..backend import Impl, choose_fused
from ..mapped import rows_rule
from ..philox.api import check_counter
from . import reference
from .reference import Counter


def langevin_open(
    particles: Tensor,
    velocity: Tensor,
    grad: Tensor,
    scale: Tensor,
    *,
    step_size: float | Tensor,
    friction: float,
    seed: int,
    step: int,
    stream: int,
    particle0: int = 0,
    added_decay: Tensor | None = None,
    snapshot: Tensor | None = None,
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the particles where the gradient is needed next, their velocities, and kinetic energies on the way.

    The part of a BAOAB step before its gradient, element by element (M = diag(scale), a = exp(-gamma h)):

        v -= h/2 M g;  x += h/2 M v;  v = a b v + sqrt(1 - a^2) xi;  x += h/2 M v

    with b the added decay of the particle and xi what `philox_normal` gives for (seed, step, stream). Results do not
    depend on how particles are cut into chunks, bit for bit, if each chunk is given its first particle's number.

    It has no autograd formula. Under `torch.vmap` the particles of all copies go through one call: particle k of copy b
    gets the number particle0 + b K + k, so that copies never share noise, if any tensor is mapped. A mapped `scale` or
    `step_size` is refused, and so are a snapshot that is not mapped and randomness="same".

    Args:
        particles: positions x, [K, P].
        velocity: v, [K, P]; it is not changed, nor are the positions.
        grad: g, gradients of the energy at `particles`, [K, P].
        scale: diagonal of M, [P].
        step_size: h; a number, or a tensor [] on the CPU: torch's compiler may make a graph for every number.
        friction: gamma, per unit of time.
        seed: of the noise; as in `philox_normal`, like the next three.
        step: which draw of the stream.
        stream: keeps the uses of one seed apart.
        particle0: global number of the first particle.
        added_decay: b, [K]; None for one.
        snapshot: where the new positions are stored a second time, [K, P] and contiguous; None for nowhere.
        impl: "auto" (fused where there is a GPU and Triton and the numbers are float32), "reference" or "fused".

    Returns:
        New positions [K, P]; new velocities [K, P]; 1/2 |v|^2 of the incoming velocity, after the kick and after the
        refresh, [K, 3], float64.

    Raises:
        ValueError: if shapes, dtypes or devices disagree, a number is out of its range, a gradient is asked for, or
            `impl` is unknown.
        RuntimeError: if `impl` is "fused" and the kernel cannot run there, or not on this dtype.

    Source: Leimkuhler and Matthews (2013), doi:10.1093/amrx/abs010.
    """
    check_rows(particles, {"velocity": velocity, "grad": grad, "snapshot": snapshot}, {"scale": scale})
    check_in_place(snapshot=snapshot)
    if added_decay is not None and (added_decay.shape != particles.shape[:1] or added_decay.device != particles.device):
        raise ValueError(
            f"added_decay must be [{len(particles)}] on {particles.device}; "
            f"got {list(added_decay.shape)} on {added_decay.device}"
        )
    check_no_gradients(added_decay)
    check_counter(seed, step, 1, stream, particle0, particles.shape[0], particles.shape[1], particles.dtype)
    return _open_op(
        particles.contiguous(),
        velocity.contiguous(),
        grad.contiguous(),
        scale.contiguous(),
        None if added_decay is None else added_decay.to(particles.dtype),
        snapshot,
        boxed(step_size),
        friction,
        seed,
        step,
        stream,
        particle0,
        choose_for(impl, particles),
    )


def langevin_close(
    velocity: Tensor, grad: Tensor, scale: Tensor, *, step_size: float | Tensor, impl: Impl = "auto"
) -> Tensor:  # fmt: skip
    """Give velocities the closing kick of a BAOAB step, v -= h/2 M g, in place; return 1/2 |v|^2, [K], float64.

    Under `torch.vmap`, as `langevin_open`; the velocity, which is overwritten, must be mapped.

    Args:
        velocity: v, [K, P], contiguous; overwritten.
        grad: g, gradients at the new positions, [K, P].
        scale: diagonal of M, [P].
        step_size: h, as in `langevin_open`.
        impl: "auto", "reference" or "fused".

    Raises:
        ValueError: as `langevin_open`.
        RuntimeError: as `langevin_open`.
    """
    check_rows(velocity, {"grad": grad}, {"scale": scale})
    check_in_place(velocity=velocity)
    return _close_op(velocity, grad.contiguous(), scale.contiguous(), boxed(step_size), choose_for(impl, velocity))


# Opaque to the compiler on purpose: nothing here could be fused, and a triton_op needs a driver to be traced.
def _open(
    particles: Tensor,
    velocity: Tensor,
    grad: Tensor,
    scale: Tensor,
    added_decay: Tensor | None,
    snapshot: Tensor | None,
    step_size: Tensor,
    friction: float,
    seed: int,
    step: int,
    stream: int,
    particle0: int,
    fused: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    h, gamma = number("step_size", step_size), number("friction", friction)
    counter = Counter(seed, step, stream, particle0)
    if fused:
        from . import fused as kernels

        implementation = kernels.langevin_open
    else:
        implementation = reference.langevin_open
    return implementation(
        particles,
        velocity,
        grad,
        scale,
        step_size=h,
        friction=gamma,
        counter=counter,
        added_decay=added_decay,
        snapshot=snapshot,
    )


_open_op = torch.library.custom_op("fiberbnn::langevin_open", _open, mutates_args={"snapshot"})
_open_op.register_vmap(rows_rule(_open_op, _open, shared=("scale", "step_size"), written=("snapshot",)))


@_open_op.register_fake
def _(
    particles: Tensor,
    velocity: Tensor,
    grad: Tensor,
    scale: Tensor,
    added_decay: Tensor | None,
    snapshot: Tensor | None,
    step_size: Tensor,
    friction: float,
    seed: int,
    step: int,
    stream: int,
    particle0: int,
    fused: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    energies = particles.new_empty(particles.shape[0], 3, dtype=torch.float64)
    return torch.empty_like(particles), torch.empty_like(velocity), energies


def _close(velocity: Tensor, grad: Tensor, scale: Tensor, step_size: Tensor, fused: bool) -> Tensor:
    h = number("step_size", step_size)
    if fused:
        from . import fused as kernels

        return kernels.langevin_close(velocity, grad, scale, step_size=h)
    return reference.langevin_close(velocity, grad, scale, step_size=h)


_close_op = torch.library.custom_op("fiberbnn::langevin_close", _close, mutates_args={"velocity"})
_close_op.register_vmap(rows_rule(_close_op, _close, shared=("scale", "step_size"), written=("velocity",)))


@_close_op.register_fake
def _(velocity: Tensor, grad: Tensor, scale: Tensor, step_size: Tensor, fused: bool) -> Tensor:
    return velocity.new_empty(velocity.shape[0], dtype=torch.float64)


def choose_for(impl: Impl, particles: Tensor) -> bool:
    """Return whether to run the fused kernel, which is for float32 only, on these particles."""
    if particles.dtype == torch.float32:
        return choose_fused(impl, particles.device)
    if impl == "fused":
        raise RuntimeError(f'impl="fused" cannot run: the kernel is for float32 only; got {particles.dtype}')
    return choose_fused("reference" if impl == "auto" else impl, particles.device)


def check_rows(particles: Tensor, rows: dict[str, Tensor | None], columns: dict[str, Tensor | None]) -> None:
    """Raise ValueError unless all rows are like particles, [K, P], and all columns like one of them, [P]."""
    if particles.ndim != 2:
        raise ValueError(f"particles and their velocities must be [K, P]; got {list(particles.shape)}")
    if particles.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"particles must be float32 or float64; got {particles.dtype}")
    for shape, tensors in ((particles.shape, rows), (particles.shape[1:], columns)):
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            if tensor.shape != shape or tensor.dtype != particles.dtype or tensor.device != particles.device:
                raise ValueError(
                    f"{name} must be {list(shape)}, {particles.dtype} on {particles.device}; "
                    f"got {list(tensor.shape)}, {tensor.dtype} on {tensor.device}"
                )
    check_no_gradients(particles, *rows.values(), *columns.values())


def check_no_gradients(*tensors: Tensor | None) -> None:
    """Raise ValueError if a gradient is asked for."""
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        raise ValueError("no autograd formula: detach the inputs, or call this under torch.no_grad()")


def check_in_place(**tensors: Tensor | None) -> None:
    """Raise ValueError if a tensor that is written to is not contiguous."""
    for name, tensor in tensors.items():
        if tensor is not None and not tensor.is_contiguous():
            raise ValueError(f"{name} is overwritten and must be contiguous; its strides are {tensor.stride()}")


def boxed(value: float | Tensor) -> Tensor:
    """Return a number as a tensor on the CPU, which the compiler does not take for a constant."""
    if not isinstance(value, Tensor):
        return torch.tensor(value, dtype=torch.float64, device="cpu")
    check_no_gradients(value)
    return value


def number(name: str, value: float | Tensor) -> float:
    """Return what is in a box; raise ValueError unless it is one finite number, not negative, and on the CPU."""
    if isinstance(value, Tensor) and (value.numel() != 1 or value.device.type != "cpu"):
        raise ValueError(f"{name} must be one number on the CPU; got {list(value.shape)} on {value.device}")
    if not 0.0 <= (unboxed := float(value)) < math.inf:
        raise ValueError(f"{name} must be finite and not negative; got {unboxed}")
    return unboxed
