"""Training data: tensors, loaders, and examples that are read when they are needed."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

from .batch import Inputs, concatenated, even_slices, kind_of, n_rows, take

Batch = tuple[Inputs, Tensor] | Mapping[str, Tensor]
Data = Iterable[Batch] | Batch | Dataset[Any]

LABELS = "labels"  # the key that Hugging Face's collators and laplace-torch use
READ_AT_ONCE = 256  # examples of a dataset that comes without a loader


def collect(data: Data, *, labels: str = LABELS) -> tuple[Inputs, Tensor]:
    """Return all inputs and targets, N rows each, of a loader, a dataset or one batch.

    A batch is a pair (x, y), x a tensor or a mapping of names to tensors; or one mapping that holds the targets under
    the key `labels` and the inputs under all others.

    A torch `DataLoader` that goes over all of a map-style dataset, shuffled or not, is read in the dataset's own order
    and to its end: neither the global random state (`shuffle`) nor the batch size (`drop_last`) decides which examples
    there are or how they are numbered. Loaders with any other sampler, and other iterables, are read as they are.

    Raises:
        ValueError: if there are no data, the dataset has no length, a loader with a sampler of its own drops its last
            batch, or rows differ in shape.
        TypeError: if batches are not pairs or mappings of tensors.
    """
    if isinstance(data, (tuple, Mapping)):
        x, y = _pair(data, labels, "data must be a pair of tensors (x, y), or a loader of such pairs")
    else:
        if isinstance(data, Dataset):
            data = DataLoader(data, batch_size=READ_AT_ONCE)
        if isinstance(data, DataLoader):
            _check_length(data)
            data = _in_order(data)
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
        """Yield all examples in order, in batches of at most `size` whose sizes differ by at most one."""


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
        return ((take(self.x, rows), self.y[rows]) for rows in even_slices(self.n, size))


class ExamplesOnDemand(Examples):
    """Examples of a loader's dataset, read through the loader's `collate_fn` each time, in this process.

    They are those of one epoch: the whole dataset in its own order, whether the loader shuffles or not, or what a
    sampler of another kind gives once. `drop_last` does not matter. A dataset that draws a random augmentation at each
    reading has no fixed posterior; switch that off.

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
        return (self.take(torch.arange(rows.start, rows.stop)) for rows in even_slices(self.n, size))


def examples_of(data: Data, *, in_memory: bool = True, labels: str = LABELS) -> Examples:
    """Return the examples of a loader, a dataset or one batch.

    Args:
        data: as for `collect`.
        in_memory: read them all now; otherwise those of a loader or dataset are read when they are needed.
        labels: key of the targets, if the batches are mappings.

    Raises:
        ValueError, TypeError: as `collect`; and if data that are to be read on demand come neither from a `DataLoader`
            nor from a dataset.
    """
    if in_memory or isinstance(data, (tuple, Mapping)):
        return ExamplesInMemory(*collect(data, labels=labels))
    if isinstance(data, Dataset):
        data = DataLoader(data, batch_size=READ_AT_ONCE)
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
        parts = f" of {kind_of(batch[0])}" if isinstance(batch, (tuple, list)) and len(batch) == 2 else ""
        raise TypeError(f"{demand}; it gave {type(batch).__name__}{parts}")
    if not isinstance(y, Tensor):
        raise TypeError(f"{demand}; it gave {type(batch).__name__} with targets of type {kind_of(y)}")
    rows = n_rows(x)
    if y.ndim == 0 or len(y) != rows:
        raise ValueError(f"x has {rows} rows, y has {len(y) if y.ndim else 'none: it has no axes'}")
    return x, y


def _order(loader: "DataLoader[Any]") -> Any:
    """The places in the dataset that the loader's samplers visit, [N]."""
    if _visits_all(loader):
        return range(len(loader.dataset))  # type: ignore[arg-type]
    if (batches := _plain_batches(loader)) is not None:
        return list(batches.sampler)
    return [place for places in loader.batch_sampler or () for place in places]


def _in_order(loader: "DataLoader[Any]") -> "DataLoader[Any]":
    """The loader; without shuffling and dropping if it goes over a whole dataset."""
    batches = _plain_batches(loader)
    # Of a loader that iterates in a way of its own, nothing is known.
    if _visits_all(loader) and type(loader).__iter__ is DataLoader.__iter__:
        return DataLoader(
            loader.dataset, batch_size=None if batches is None else batches.batch_size, collate_fn=loader.collate_fn,
            num_workers=loader.num_workers, worker_init_fn=loader.worker_init_fn, timeout=loader.timeout,
            multiprocessing_context=loader.multiprocessing_context,
            generator=torch.Generator(),  # loaders draw a seed for their workers, if from nothing else the global state
        )  # fmt: skip
    if batches is not None and batches.drop_last and _length(batches.sampler) % batches.batch_size:
        raise ValueError("the loader drops its last batch (drop_last=True): the posterior would miss those examples")
    return loader


def _visits_all(loader: "DataLoader[Any]") -> bool:
    """Whether an epoch is the whole dataset, in its order or shuffled."""
    batches, n = _plain_batches(loader), len(loader.dataset)  # type: ignore[arg-type]
    sampler = batches.sampler if batches is not None else loader.sampler
    if batches is None and loader.batch_sampler is not None:
        return False
    if type(sampler) is SequentialSampler:
        return len(sampler) == n
    return type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == n


def _plain_batches(loader: "DataLoader[Any]") -> BatchSampler | None:
    """What puts the sampler's places into batches, if it is torch's own: the user's may choose as it likes."""
    return loader.batch_sampler if type(loader.batch_sampler) is BatchSampler else None


def _length(places: Any) -> int:
    """How many places a sampler gives; 0 if it does not tell."""
    return len(places) if isinstance(places, Sized) else 0


def _check_length(loader: "DataLoader[Any]") -> None:
    if isinstance(loader.dataset, IterableDataset) or not isinstance(loader.dataset, Sized):
        raise ValueError(
            "the dataset has no length, and the energy is a sum over a known number of examples: "
            "use a map-style dataset, or collect the stream into tensors first"
        )
