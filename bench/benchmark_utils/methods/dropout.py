"""Layers that drop units, and where their masks come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd


def dropouts(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a network that drop something."""
    return [module for module in model.modules() if isinstance(module, _DropoutNd) and module.p > 0]


@contextmanager
def masks_from(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, dropout draws from this seed; the global random state stays as it was."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
        yield
