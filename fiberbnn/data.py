"""Training data: tensors, loaders, and examples that are read when they are needed."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from .batch import Inputs, concatenated, n_rows, split, take

Batch = tuple[Inputs, Tensor] | Mapping[str, Tensor]
Data = Iterable[Batch] | Batch

LABELS = "labels"  # the key that Hugging Face's collators and laplace-torch use


def collect(data: Data, *, labels: str = LABELS) -> tuple[Inputs, Tensor]:
    """Return all inputs and targets, N rows each, of a loader or of one batch.

    A batch is a pair (x, y), x a tensor or a mapping of names to tensors; or one mapping that holds the targets under
    the key `labels` and the inputs under all others.

    Raises:
        ValueError: if there are no data, the loader's dataset has no length, the loader drops its last batch, or rows
            differ in shape.
        TypeError: if batches are not pairs or mappings of tensors.
    """
    if isinstance(data, (tuple, Mapping)):
        x, y = _pair(data, labels, "data must be a pair of tensors (x, y), or a loader of such pairs")
    else:
        if isinstance(data, DataLoader):
            _check_length(data)
            _check_whole(data)
        pairs = [_pair(batch, labels, _OF_A_LOADER) for batch in data]
        if not pairs:
            raise ValueError("the loader is empty: it gave no batch")
        x, targets = concatenated([x for x, _ in pairs]), concatenated([y for _, y in pairs], "targets")
        assert isinstance(targets, Tensor)
        y = targets
    if n_rows(x) == 0:
        raise ValueError("the training data are empty")
    return x, y


class Examples(ABC):
    """A fixed number of training examples, to be had in any order and more than once.

    Attributes:
        n: N, how many.
    """

    n: int

    @abstractmethod
    def take(self, index: Tensor) -> tuple[Inputs, Tensor]:
        """Return inputs and targets of the examples of an index, int64 [B], 0 to N - 1."""

    @abstractmethod
    def batches(self, size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield all examples in order, `size` at a time; the last batch may be smaller."""


class ExamplesInMemory(Examples):
    """Examples that lie in tensors.

    Args:
        x: inputs, N rows.
        y: targets, [N, ...].
    """

    def __init__(self, x: Inputs, y: Tensor) -> None:
        self.x, self.y, self.n = x, y, n_rows(x)

    def take(self, index: Tensor) -> tuple[Inputs, Tensor]:
        """Return copies of the rows."""
        return take(self.x, index), self.y[index.to(self.y.device)]

    def batches(self, size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield views of the rows."""
        return zip(split(self.x, size), self.y.split(size), strict=True)


class ExamplesOnDemand(Examples):
    """Examples of a loader's dataset, read through the loader's `collate_fn` each time, in this process.

    They are those of one epoch: the whole dataset, or what the loader's own sampler gives once. `drop_last` does not
    matter. A dataset that draws a random augmentation at each reading has no fixed posterior; switch that off.

    Args:
        loader: of a map-style dataset.
        labels: key of the targets, if the batches are mappings.

    Raises:
        ValueError: if the dataset has no length or no examples, or the loader does not put examples into batches.
    """

    def __init__(self, loader: "DataLoader[Any]", *, labels: str = LABELS) -> None:
        _check_length(loader)
        if loader.batch_sampler is None:
            raise ValueError("the loader must put examples into batches to be read on demand: give it a batch_size")
        self._dataset, self._collate, self._labels = loader.dataset, loader.collate_fn, labels
        self._order = _order(loader)
        self.n = len(self._order)
        if self.n == 0:
            raise ValueError("the training data are empty")

    def take(self, index: Tensor) -> tuple[Inputs, Tensor]:
        """Return the examples, read anew."""
        places = [self._order[i] for i in index.tolist()]
        many = getattr(self._dataset, "__getitems__", None)  # as loaders do
        rows = many(places) if callable(many) else [self._dataset[i] for i in places]
        return _pair(self._collate(rows), self._labels, _OF_A_LOADER)

    def batches(self, size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield batches, each read when its turn comes."""
        return (self.take(index) for index in torch.arange(self.n).split(size))


def examples_of(data: Data, *, in_memory: bool = True, labels: str = LABELS) -> Examples:
    """Return the examples of a loader or of one batch.

    Args:
        data: as for `collect`.
        in_memory: read them all now; otherwise a loader's are read when they are needed.
        labels: key of the targets, if the batches are mappings.

    Raises:
        ValueError, TypeError: as `collect`; and if data that are to be read on demand do not come from a `DataLoader`.
    """
    if in_memory or isinstance(data, (tuple, Mapping)):
        return ExamplesInMemory(*collect(data, labels=labels))
    if not isinstance(data, DataLoader):
        raise TypeError(f"only a torch DataLoader can be read on demand; got {type(data).__name__}")
    return ExamplesOnDemand(data, labels=labels)


_OF_A_LOADER = "the loader must give pairs of tensors (x, y)"


def _pair(batch: Any, labels: str, demand: str) -> tuple[Inputs, Tensor]:
    """Inputs and targets of one batch, of the same number of rows."""
    x: Inputs
    if isinstance(batch, Mapping):
        if labels not in batch:
            names = ", ".join(map(repr, batch))
            raise TypeError(f"{demand}; it gave {type(batch).__name__}, which could hold {labels!r} but holds {names}")
        x, y = {name: value for name, value in batch.items() if name != labels}, batch[labels]
    elif isinstance(batch, (tuple, list)) and len(batch) == 2 and isinstance(batch[0], (Tensor, Mapping)):
        x, y = batch
    else:
        raise TypeError(f"{demand}; it gave {type(batch).__name__}")
    if not isinstance(y, Tensor):
        raise TypeError(f"{demand}; it gave {type(batch).__name__} with targets of type {type(y).__name__}")
    rows = n_rows(x)
    if y.ndim == 0 or len(y) != rows:
        raise ValueError(f"x has {rows} rows, y has {len(y) if y.ndim else 'none: it has no axes'}")
    return x, y


def _order(loader: "DataLoader[Any]") -> Any:
    """The places in the dataset that the loader's samplers visit, [N]."""
    everything, sampler, batch_sampler = range(len(loader.dataset)), loader.sampler, loader.batch_sampler  # type: ignore[arg-type]
    if loader.batch_size is None:  # a batch sampler of the user's own
        return [place for places in batch_sampler or () for place in places]
    if isinstance(sampler, SequentialSampler):
        return everything
    if isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == len(everything):
        return everything
    return list(sampler)


def _check_length(loader: "DataLoader[Any]") -> None:
    if isinstance(loader.dataset, IterableDataset) or not isinstance(loader.dataset, Sized):
        raise ValueError(
            "the loader's dataset has no length, and the energy is a sum over a known number of examples: "
            "use a map-style dataset, or collect the stream into tensors first"
        )


def _check_whole(loader: "DataLoader[Any]") -> None:
    n = len(loader.dataset)  # type: ignore[arg-type]
    if loader.drop_last and loader.batch_size and n % loader.batch_size:
        raise ValueError("the loader drops its last batch (drop_last=True): the posterior would miss those examples")
