"""Gaussians of laplace-torch around a task's MAP, and what stands in their way."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from laplace import DiagLaplace, Laplace
from laplace.curvature import BackPackGGN, CurvlinopsGGN
from laplace.utils import LargestVarianceDiagLaplaceSubnetMask
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmark_utils.tasks.task import Task
from fiberbnn import MapFit

LARGEST_FULL = 5000  # weights of a dense Hessian


def fitted_laplace(
    task: Task,
    map_fit: MapFit,
    structure: str,
    *,
    n_rows: int | None = None,
    backpack: bool = False,
    n_params_subnet: int = 0,
) -> Any:
    """Return laplace-torch's posterior with the task's prior and noise; the MAP's network is copied.

    Args:
        task: the task.
        map_fit: its MAP.
        structure: "full", "kron" or "diag" of all weights; "last_layer" or "subnetwork", full on those.
        n_rows: how many of the training rows, the first ones; None for all.
        backpack: whether BackPACK differentiates, not torch.func.
        n_params_subnet: of a subnetwork: the weights with the largest variances under the diagonal structure (Daxberger
            et al. 2021, arXiv:2010.14689).
    """
    subset = structure if structure in ("last_layer", "subnetwork") else "all"
    rows = TensorDataset(task.x_train[:n_rows], task.y_train[:n_rows])
    # Jacobians by torch.func are quadratic in the batch; those of a subnetwork are taken from those of all weights.
    loader = DataLoader(rows, batch_size=512 if task.architecture is None and subset != "subnetwork" else 128)
    settings: dict[str, Any] = {
        "prior_precision": task.prior_precision,
        # Only a regression may have one that is not 1.
        "sigma_noise": task.noise_std or 1.0,
        "backend": BackPackGGN if backpack else CurvlinopsGGN,
    }
    with backpack_quiet():
        if subset == "subnetwork":
            diagonal = DiagLaplace(copy.deepcopy(map_fit.model), task.kind, **settings)
            mask = LargestVarianceDiagLaplaceSubnetMask(diagonal.model, n_params_subnet, diagonal)
            # laplace-torch takes indices on the CPU only, wherever the network is.
            settings["subnetwork_indices"] = mask.select(loader).cpu()
        laplace = Laplace(
            copy.deepcopy(map_fit.model),
            task.kind,
            subset_of_weights=subset,
            hessian_structure="full" if subset != "all" else structure,
            **settings,
        )
        laplace.fit(loader)
    return laplace


@contextmanager
def backpack_quiet() -> Iterator[None]:
    """Inside, torch does not warn that BackPACK hooks a first layer, whose inputs need no gradient: it means to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
        yield


def too_large_for_full(n_params: int) -> str | None:
    """Return why so many weights cannot have a dense Hessian; None if they can."""
    if n_params <= LARGEST_FULL:
        return None
    gib = 4 * n_params**2 / 2**30
    return f"the full structure needs {n_params} x {n_params} matrices ({gib:.1f} GiB each)"


def unknown_to_kron(model: nn.Module) -> str:
    """Return the kinds of layers whose weights Kronecker factors cannot have, in words; empty if there are none."""
    kinds = {
        type(module).__name__
        for module in model.modules()
        if not isinstance(module, (nn.Linear, nn.Conv2d)) and list(module.parameters(recurse=False))
    }
    return " and ".join(sorted(kinds))
