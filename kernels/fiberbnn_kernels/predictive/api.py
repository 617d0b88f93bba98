"""Last layer and average over weight samples in one pass; samples may come in chunks.

Sums of chunks merge: `class_sums(h1, w1, b1).merge(class_sums(h2, w2, b2))` is that of all samples, however they are
divided, up to rounding.

Under `torch.vmap` sets of inputs and targets become rows of one call. Sets of weights or of noise variances are done
one after the other, as each is a reduction of its own that keeps the whole machine busy. What is returned has no axis
of copies before the mapped function returns its tensors: `vmap(lambda h: class_sums(h, w, b).probs)(sets)`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..autocast import no_autocast
from ..backend import Impl, choose_fused
from ..linear_act.api import check_layer
from ..mapped import VmapInfo, join, split
from . import reference
from .sums import ClassSums, GaussianSums

# The averages of more outputs do not fit the registers of a program without spilling.
MAX_FUSED_OUTPUTS = 64

FourTensors = tuple[Tensor, Tensor, Tensor, Tensor]


def class_sums(h: Tensor, weight: Tensor, bias: Tensor, *, impl: Impl = "auto") -> ClassSums:
    """Return the class probabilities softmax(h_s W_s^T + b_s), summed over weight samples s.

    The logits [S, N, C] are never held at once. Not differentiable: tensors that require gradients are refused unless
    gradients are off.

    Args:
        h: last hidden features of every sample, [S, N, H], or the same inputs for all, [N, H].
        weight: of the last layer, [S, C, H].
        bias: [S, C].
        impl: "auto" (fused on a GPU with Triton, for float32 and up to 64 classes), "reference" or "fused".

    Raises:
        ValueError: if shapes, dtypes or devices disagree, `impl` is unknown, or a gradient is asked for.
        RuntimeError: if `impl` is "fused" and the kernel cannot run there, or not for that dtype or so many classes.
    """
    check_layer(h, weight, bias, shared=True)
    fused = fused_or_not(impl, h, weight.shape[1])
    return ClassSums(weight.shape[0], *_class_sums_op(h, weight, bias, fused))


def class_sums_of_logits(logits: Tensor, *, impl: Impl = "auto") -> ClassSums:
    """Return the class probabilities of logits [S, N, C], summed over the samples; see `class_sums`."""
    _check_outputs(logits)
    fused = fused_or_not(impl, logits, logits.shape[2])
    return ClassSums(logits.shape[0], *_class_sums_op(logits, None, None, fused))


def gaussian_sums(
    h: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    noise_variance: Tensor | None,
    targets: Tensor | None = None,
    impl: Impl = "auto",
) -> GaussianSums:
    """Return means and noise variances of a regression, h_s W_s^T + b_s, summed over weight samples s.

    The outputs [S, N, C] are never held at once. Not differentiable, as `class_sums`.

    Args:
        h: last hidden features of every sample, [S, N, H], or the same inputs for all, [N, H].
        weight: of the last layer, [S, C, H]; [S, 2 C, H] if the noise is predicted.
        bias: [S, C] or [S, 2 C].
        noise_variance: of the C outputs, [C], positive; None if the network predicts it: then the second half of the
            outputs are its logarithms.
        targets: [N, C], where the density of the mixture is wanted.
        impl: as in `class_sums`.

    Raises:
        ValueError: as `class_sums`.
        RuntimeError: as `class_sums`.
    """
    check_layer(h, weight, bias, shared=True)
    width = check_noise(h.shape[-2], weight.shape[1], noise_variance, targets, h)
    fused = fused_or_not(impl, h, width)
    return as_gaussian_sums(weight.shape[0], _gaussian_sums_op(h, weight, bias, noise_variance, targets, fused))


def gaussian_sums_of_outputs(
    outputs: Tensor, *, noise_variance: Tensor | None, targets: Tensor | None = None, impl: Impl = "auto"
) -> GaussianSums:
    """Return the means and noise variances of outputs [S, N, C] or [S, N, 2 C], summed; see `gaussian_sums`."""
    _check_outputs(outputs)
    width = check_noise(outputs.shape[1], outputs.shape[2], noise_variance, targets, outputs)
    fused = fused_or_not(impl, outputs, width)
    return as_gaussian_sums(outputs.shape[0], _gaussian_sums_op(outputs, None, None, noise_variance, targets, fused))


def as_gaussian_sums(count: int, parts: FourTensors) -> GaussianSums:
    """Name what an operator returns; it has no log-densities where there were no targets."""
    return GaussianSums(count, *parts[:3], parts[3] if parts[3].numel() else None)


def fused_or_not(impl: Impl, h: Tensor, n_outputs: int) -> bool:
    """Return whether the fused kernel runs; see `class_sums` for what it raises."""
    if not choose_fused(impl, h.device):
        return False
    if h.dtype == torch.float32 and n_outputs <= MAX_FUSED_OUTPUTS:
        return True
    if impl == "fused":
        raise RuntimeError(
            f'impl="fused" cannot run: the kernel takes float32 and up to {MAX_FUSED_OUTPUTS} outputs, '
            f"not {h.dtype} and {n_outputs}"
        )
    return False


def check_noise(n_rows: int, n_outputs: int, noise_variance: Tensor | None, targets: Tensor | None, h: Tensor) -> int:
    """Return C; raise ValueError unless noise [C] or None and targets [N, C] or None go with so many outputs."""
    if noise_variance is None and n_outputs % 2:
        raise ValueError(f"predicted noise needs pairs of outputs (means, log-variances); got {n_outputs} outputs")
    width = n_outputs // 2 if noise_variance is None else n_outputs
    for name, tensor, shape in (("noise_variance", noise_variance, (width,)), ("targets", targets, (n_rows, width))):
        if tensor is not None and (tensor.shape != shape or tensor.dtype != h.dtype or tensor.device != h.device):
            raise ValueError(
                f"{name} must be {h.dtype} {list(shape)} on {h.device}; "
                f"got {tensor.dtype} {list(tensor.shape)} on {tensor.device}"
            )
        if tensor is not None and tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"no autograd formula: detach {name}, or call this under torch.no_grad()")
    return width


def _check_outputs(outputs: Tensor) -> None:
    if outputs.ndim != 3 or min(outputs.shape) < 1 or not outputs.is_floating_point():
        raise ValueError(f"outputs must be floats [S, N, C], no axis empty; got {outputs.dtype} {list(outputs.shape)}")
    if torch.is_grad_enabled() and outputs.requires_grad:
        raise ValueError("no autograd formula: detach the outputs, or call this under torch.no_grad()")


def sums_rule(op: Any, rows: Sequence[int]) -> Callable[..., tuple[FourTensors, tuple[int, ...]]]:
    """Return the rule of `torch.vmap` of an operator that averages over samples.

    Args:
        op: the operator; it returns three tensors [N, C] and one [N] or [0].
        rows: which of its arguments have the rows on their last axis but one, inputs first; they may be `None`.
    """

    def rule(info: VmapInfo, in_dims: Sequence[Any], *given: Any) -> tuple[FourTensors, tuple[int, ...]]:
        size, arguments = info.batch_size, list(given)
        mapped = [at for at, value in enumerate(given) if isinstance(value, Tensor) and in_dims[at] is not None]
        if set(mapped) <= set(rows):
            for at in rows:
                if arguments[at] is not None:
                    axis = arguments[at].ndim - 2 - (in_dims[at] is not None)
                    arguments[at] = join(arguments[at], in_dims[at], size, axis)
            parts = op(*arguments)
            *sums, last = parts
            last = split(last, size) if last.numel() else last.expand(size, 0)
            a, b, c = (split(part, size) for part in sums)
            return (a, b, c, last), (0, 0, 0, 0)
        sets = []
        for copy in range(size):
            for at in mapped:
                arguments[at] = given[at].select(in_dims[at], copy)
            sets.append(op(*arguments))
        a, b, c, d = (torch.stack(part) for part in zip(*sets, strict=True))
        return (a, b, c, d), (0, 0, 0, 0)

    return rule


@torch.library.custom_op("fiberbnn::class_sums", mutates_args=())
def _class_sums_op(h: Tensor, weight: Tensor | None, bias: Tensor | None, fused: bool) -> FourTensors:
    if fused:
        from . import fused as kernels

        return kernels.class_sums(h, weight, bias)
    with no_autocast(h.device):
        return reference.class_sums(h, weight, bias)


@_class_sums_op.register_fake
def _(h: Tensor, weight: Tensor | None, bias: Tensor | None, fused: bool) -> FourTensors:
    return fake_sums(h, h.shape[-2], h.shape[-1] if weight is None else weight.shape[1], h.shape[-2])


@torch.library.custom_op("fiberbnn::gaussian_sums", mutates_args=())
def _gaussian_sums_op(
    h: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    noise_variance: Tensor | None,
    targets: Tensor | None,
    fused: bool,
) -> FourTensors:
    if fused:
        from . import fused as kernels

        return kernels.gaussian_sums(h, weight, bias, noise_variance, targets)
    with no_autocast(h.device):
        return reference.gaussian_sums(h, weight, bias, noise_variance, targets)


@_gaussian_sums_op.register_fake
def _(
    h: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    noise_variance: Tensor | None,
    targets: Tensor | None,
    fused: bool,
) -> FourTensors:
    n_rows, n_outputs = h.shape[-2], h.shape[-1] if weight is None else weight.shape[1]
    width = n_outputs if noise_variance is not None else n_outputs // 2
    return fake_sums(h, n_rows, width, 0 if targets is None else n_rows)


_class_sums_op.register_vmap(sums_rule(_class_sums_op, rows=(0,)))
_gaussian_sums_op.register_vmap(sums_rule(_gaussian_sums_op, rows=(0, 4)))


def fake_sums(like: Tensor, n_rows: int, width: int, n_last: int) -> FourTensors:
    """Three tensors [N, C] and one of `n_last`, float64: the results' shapes."""
    a, b, c = (like.new_empty(n_rows, width, dtype=torch.float64) for _ in range(3))
    return a, b, c, like.new_empty(n_last, dtype=torch.float64)
