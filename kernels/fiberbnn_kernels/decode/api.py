"""Weights from their coefficients in a low-rank basis, all at once or a few at a time."""

from collections.abc import Iterator

from torch import Tensor

from ..backend import Impl
from . import reference

# Decoded weights of a chunk, in bytes. Measured on a CPU with 2 MB of second-level cache, perceptrons of 900 to 80,000
# weights decoded and run: smaller chunks are slower, up to sevenfold, as each reads all directions anew; larger ones
# gain nothing. On a GPU it is half of the second-level cache (predicted, not measured).
CPU_CHUNK_BYTES = 16 << 20
GPU_CHUNK_BYTES = 24 << 20


def decode(offset: Tensor, directions: Tensor, coefficients: Tensor, *, impl: Impl = "auto") -> Tensor:
    """Return offset + coefficients directions^T: one weight vector for each row of coefficients, [S, P].

    Differentiable in all three. No operator of its own: `torch.addmm` already traces, maps and differentiates in every
    mode, and an opaque operator around it would take `torch.func.grad` and `jvp` away.

    Args:
        offset: [P].
        directions: [P, r].
        coefficients: [S, r].
        impl: "auto" or "reference"; there is no fused kernel, the matrix library is at the floor of memory traffic.

    Raises:
        ValueError: if shapes, dtypes or devices disagree, or `impl` is unknown.
        RuntimeError: if `impl` is "fused".
    """
    _check(offset, directions, coefficients, impl)
    return reference.decode(offset, directions, coefficients)


def decode_chunks(
    offset: Tensor,
    directions: Tensor,
    coefficients: Tensor,
    *,
    chunk_bytes: int | None = None,
    impl: Impl = "auto",
) -> Iterator[tuple[slice, Tensor]]:
    """Yield (samples, weights) of a few samples at a time, so that they are never all held.

    Each sample comes once and in order; its weights are `decode(...)[samples]`, new memory for every chunk. Chunks are
    of even size and hold one sample at least.

    Args:
        offset: as in `decode`, like the arguments not named here.
        directions: [P, r].
        coefficients: [S, r].
        chunk_bytes: how many bytes of weights a chunk may have; None for 16 MiB on the CPU and 24 MiB
            elsewhere, but no fewer than r/2 samples, as every chunk reads all directions.
        impl: "auto" or "reference".

    Raises:
        ValueError: as `decode`, or if `chunk_bytes` is not positive.
        RuntimeError: as `decode`.
    """
    _check(offset, directions, coefficients, impl)
    at_least = 1
    if chunk_bytes is None:
        chunk_bytes = CPU_CHUNK_BYTES if offset.device.type == "cpu" else GPU_CHUNK_BYTES
        at_least = max(1, directions.shape[1] // 2)
    if chunk_bytes < 1:
        raise ValueError(f"chunk_bytes must be positive; got {chunk_bytes}")
    n_samples = coefficients.shape[0]
    at_most = max(at_least, chunk_bytes // max(1, offset.numel() * offset.element_size()))
    n_chunks = -(-n_samples // at_most)
    # A generator of its own, so that wrong arguments are refused at the call and not at the first chunk.
    return _chunks(offset, directions, coefficients, -(-n_samples // n_chunks) if n_chunks else 1)


def _chunks(offset: Tensor, directions: Tensor, coefficients: Tensor, size: int) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(coefficients), size):
        samples = slice(start, min(start + size, len(coefficients)))
        yield samples, reference.decode(offset, directions, coefficients[samples])


def _check(offset: Tensor, directions: Tensor, coefficients: Tensor, impl: str) -> None:
    if impl not in ("auto", "reference", "fused"):
        raise ValueError(f"impl must be 'auto' or 'reference'; got {impl!r}")
    if impl == "fused":
        raise RuntimeError('decode has no fused kernel; use impl="auto" or "reference"')
    if offset.ndim != 1 or directions.ndim != 2 or coefficients.ndim != 2:
        raise ValueError(
            "offset, directions and coefficients must be [P], [P, r] and [S, r]; "
            f"got {list(offset.shape)}, {list(directions.shape)} and {list(coefficients.shape)}"
        )
    if directions.shape[0] != offset.shape[0] or coefficients.shape[1] != directions.shape[1]:
        raise ValueError(
            f"shapes must be [P], [P, r] and [S, r]; got {list(offset.shape)}, {list(directions.shape)} "
            f"and {list(coefficients.shape)}"
        )
    if not offset.is_floating_point() or any(
        t.dtype != offset.dtype or t.device != offset.device for t in (directions, coefficients)
    ):
        raise ValueError(
            f"all three must share a float dtype and a device; got {offset.dtype} on {offset.device}, "
            f"{directions.dtype} on {directions.device}, {coefficients.dtype} on {coefficients.device}"
        )
