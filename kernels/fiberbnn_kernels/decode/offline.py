"""What `kernels/offline_check.py` compiles of this operation: nothing, as it has no kernel of its own."""

from collections.abc import Iterator

from ..offline import KernelCase


def cases() -> Iterator[KernelCase]:
    """Yield no case."""
    return iter(())
