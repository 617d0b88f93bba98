"""What a saved posterior has to be: files are written by anyone, cut short, and changed by accident."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from fiberbnn_kernels.philox.api import SEED_END

from .basis import Basis
from .density import LatentDensity


@contextmanager
def damage_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Call whatever goes wrong when a posterior is put together from a file a damage of that file.

    Raises:
        ValueError: instead of the errors of missing parts, wrong types, shapes and values.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError, ValueError) as error:
        said = " ".join(f"{error}".split())[:300]
        raise ValueError(f"{path} is damaged, its parts do not fit together: {type(error).__name__}: {said}") from error


def seed_from(saved: dict[str, Any]) -> int:
    """Return the seed of the draws.

    Raises:
        ValueError: if it is none.
    """
    seed = saved["seed"]
    if type(seed) is not int or not 0 <= seed < SEED_END:
        raise ValueError(f"the seed is {str(seed)[:40]!r}")
    return seed


def check_shapes(basis: Basis, density: LatentDensity, inner: Tensor, hidden: float, n_params: int) -> None:
    """Check that the parts of a latent posterior fit together.

    Args:
        basis: of the latent posterior.
        density: of the latent posterior.
        inner: the first weight of the encoder, [H, r].
        hidden: H.
        n_params: P.

    Raises:
        ValueError: if they do not.
    """
    (rank,), (size,) = basis.deviations.shape, density.mean.shape
    expected = {
        "basis.offset": (basis.offset, (n_params,)),
        "basis.directions": (basis.directions, (n_params, rank)),
        "basis.scale": (basis.scale, (n_params,)),
        "density.points": (density.points, (max(len(density.points), 1), size)),
        "density.factor": (density.factor, (size, size)),
        "autoencoder.encoder.inner.weight": (inner, (hidden, rank)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise ValueError(f"{name} has shape {list(tensor.shape)} and type {tensor.dtype}")
    if not 0.0 <= density.bandwidth <= 1.0 or not 0.0 <= density.stretch < float("inf"):
        raise ValueError(f"bandwidth {density.bandwidth} or stretch {density.stretch} is out of bounds")
