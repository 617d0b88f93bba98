"""Training data from a loader or a pair of tensors."""

from collections.abc import Iterable, Sized
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

Data = Iterable[tuple[Tensor, Tensor]] | tuple[Tensor, Tensor]


def collect(data: Data) -> tuple[Tensor, Tensor]:
    """Return all inputs [N, ...] and targets [N, ...] of a loader or of a pair (x, y).

    Raises:
        ValueError: if there are no data, the loader's dataset has no length, or the loader drops its last batch.
        TypeError: if batches are not pairs of tensors.
    """
    if isinstance(data, tuple):
        if len(data) != 2 or not all(isinstance(part, Tensor) for part in data):
            raise TypeError("data must be a pair of tensors (x, y), or a loader of such pairs")
        x, y = cast(tuple[Tensor, Tensor], data)
    else:
        if isinstance(data, DataLoader):
            _check_loader(data)
        batches = list(data)
        if not batches:
            raise ValueError("the loader is empty: it gave no batch")
        for batch in batches:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not all(isinstance(b, Tensor) for b in batch):
                raise TypeError(f"the loader must give pairs of tensors (x, y); it gave {type(batch).__name__}")
        x, y = torch.cat([batch[0] for batch in batches]), torch.cat([batch[1] for batch in batches])
    if len(x) == 0:
        raise ValueError("the training data are empty")
    return x, y


def _check_loader(loader: "DataLoader[tuple[Tensor, Tensor]]") -> None:
    if isinstance(loader.dataset, IterableDataset) or not isinstance(loader.dataset, Sized):
        raise ValueError(
            "the loader's dataset has no length, and the energy is a sum over a known number of examples: "
            "use a map-style dataset, or collect the stream into tensors first"
        )
    if loader.drop_last and loader.batch_size and len(loader.dataset) % loader.batch_size:
        raise ValueError("the loader drops its last batch (drop_last=True): the posterior would miss those examples")
