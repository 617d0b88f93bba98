"""Training data from tensors, loaders and other iterables."""

from collections import UserDict

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from fiberbnn.batch import concatenated, take
from fiberbnn.data import ExamplesInMemory, collect, examples_of

X, Y = torch.arange(20.0).view(10, 2), torch.arange(10)


def assert_whole(data) -> None:
    x, y = collect(data)
    assert torch.equal(x, X)
    assert torch.equal(y, Y)


def test_a_pair_of_tensors_is_taken_as_it_is():
    x, y = collect((X, Y))
    assert x is X
    assert y is Y


@pytest.mark.parametrize("batch_size", [1, 3, 5, 100])
def test_a_loader_is_read_to_its_end(batch_size):
    assert_whole(DataLoader(TensorDataset(X, Y), batch_size=batch_size))


ROWS = TensorDataset(X, Y)
WHOLE = {
    "shuffled": {"batch_size": 3, "shuffle": True},
    "shuffled by a generator": {"batch_size": 3, "shuffle": True, "generator": torch.Generator().manual_seed(0)},
    "a random sampler": {"batch_size": 4, "sampler": RandomSampler(ROWS)},
    "batches of a random sampler": {"batch_sampler": BatchSampler(RandomSampler(ROWS), 4, drop_last=True)},
    "dropping": {"batch_size": 4, "drop_last": True},
    "shuffled and dropping": {"batch_size": 4, "shuffle": True, "drop_last": True},
    "all dropped": {"batch_size": 11, "shuffle": True, "drop_last": True},
}


@pytest.mark.parametrize("options", WHOLE.values(), ids=WHOLE)
def test_a_loader_of_a_whole_dataset_is_read_in_the_order_of_the_dataset(options):
    state = torch.get_rng_state()
    assert_whole(DataLoader(ROWS, **options))
    assert torch.equal(torch.get_rng_state(), state)
    on_demand = examples_of(DataLoader(ROWS, **options), in_memory=False)
    assert torch.equal(on_demand.take(torch.arange(on_demand.n))[1], Y)


def test_a_shuffled_loader_that_makes_no_batches_is_read_in_order_too():
    class Batches(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return X.split(5)[i], Y.split(5)[i]

    assert_whole(DataLoader(Batches(), batch_size=None, shuffle=True))


def test_a_shuffled_loader_keeps_its_own_collation():
    def collate(rows):
        return torch.stack([2 * x for x, _ in rows]), torch.stack([y for _, y in rows])

    x, y = collect(DataLoader(ROWS, batch_size=3, shuffle=True, collate_fn=collate))
    assert torch.equal(x, 2 * X)
    assert torch.equal(y, Y)


class Choosing(RandomSampler):
    """A sampler that is not the one it derives from."""

    def __iter__(self):
        return iter([4, 2, 2])


class Iterating(DataLoader):
    """A loader that makes its batches in a way of its own."""

    def __iter__(self):
        return iter([(X[6:], Y[6:]), (X[:6], Y[:6])])


@pytest.mark.parametrize(
    ("loader", "labels"),
    [
        (DataLoader(ROWS, batch_size=2, sampler=[7, 1, 5]), [7, 1, 5]),
        (DataLoader(ROWS, batch_size=2, sampler=Choosing(ROWS)), [4, 2, 2]),
        (DataLoader(ROWS, batch_sampler=[[3, 3], [8]]), [3, 3, 8]),
        (Iterating(ROWS, shuffle=True), [6, 7, 8, 9, 0, 1, 2, 3, 4, 5]),
    ],
    ids=["list", "derived sampler", "batch sampler", "derived loader"],
)
def test_other_loaders_are_read_as_they_are(loader, labels):
    x, y = collect(loader)
    assert y.tolist() == labels
    assert torch.equal(x, X[y])


def test_random_samplers_of_parts_are_read_as_they_are():
    for sampler in (RandomSampler(ROWS, replacement=True, num_samples=25), RandomSampler(ROWS, num_samples=6)):
        x, y = collect(DataLoader(ROWS, batch_size=4, sampler=sampler))
        assert len(y) == sampler.num_samples
        assert torch.equal(x, X[y])


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 2, "sampler": SubsetRandomSampler([1, 5, 6])},
        {"batch_sampler": BatchSampler(SubsetRandomSampler([1, 5, 6]), 2, drop_last=True)},
    ],
)
def test_a_sampler_of_a_part_must_not_be_cut_short(options):
    if "sampler" in options:
        assert len(collect(DataLoader(ROWS, **options))[1]) == 3
        options = options | {"drop_last": True}
    with pytest.raises(ValueError, match=r"drops its last batch \(drop_last=True\)"):
        collect(DataLoader(ROWS, **options))
    assert examples_of(DataLoader(ROWS, **options), in_memory=False).n == 3


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("dataset", [ROWS, Subset(ROWS, range(10))], ids=["tensors", "subset"])
def test_a_dataset_needs_no_loader(dataset, in_memory):
    examples = examples_of(dataset, in_memory=in_memory)
    x, y = examples.take(torch.arange(examples.n))
    assert torch.equal(x, X)
    assert torch.equal(y, Y)
    assert isinstance(examples, ExamplesInMemory) == in_memory


def test_any_iterable_of_pairs_will_do():
    assert_whole([(X[:4], Y[:4]), [X[4:], Y[4:]]])
    assert_whole((X[i : i + 5], Y[i : i + 5]) for i in (0, 5))


def test_dropping_nothing_is_no_loss():
    assert_whole(DataLoader(TensorDataset(X, Y), batch_size=5, drop_last=True))


MAPPING = {"a": X, "ids": torch.arange(10) % 3}


class Rows(Dataset):
    """Examples as dictionaries, counting how often one is read."""

    def __init__(self, labels: str = "labels") -> None:
        self.labels, self.read = labels, []

    def __len__(self):
        return 10

    def __getitem__(self, i):
        self.read.append(i)
        return {"a": X[i], "ids": MAPPING["ids"][i], self.labels: Y[i]}


def same(x, expected) -> bool:
    if isinstance(expected, torch.Tensor):
        return torch.equal(x, expected)
    return set(x) == set(expected) and all(torch.equal(x[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "data",
    [
        (MAPPING, Y),
        [({name: t[:4] for name, t in MAPPING.items()}, Y[:4]), ({name: t[4:] for name, t in MAPPING.items()}, Y[4:])],
        MAPPING | {"labels": Y},
        DataLoader(Rows(), batch_size=3),
        [UserDict(MAPPING | {"labels": Y})],
    ],
    ids=["pair", "pairs", "one mapping", "loader of mappings", "mappings of another class"],
)
def test_inputs_may_be_mappings(data):
    x, y = collect(data)
    assert same(x, MAPPING)
    assert torch.equal(y, Y)


def test_the_key_of_the_labels_can_be_another():
    x, y = collect(DataLoader(Rows("target"), batch_size=4), labels="target")
    assert same(x, MAPPING)
    assert torch.equal(y, Y)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([MAPPING], TypeError, "it gave dict, which could hold 'labels' but holds 'a', 'ids'"),
        ([MAPPING | {"labels": [1]}], TypeError, "it gave dict with targets of type list"),
        ([({"a": ["text"]}, Y)], TypeError, r"inputs\['a'\] must be a tensor; got list"),
        ([({}, Y)], ValueError, "mapping of inputs is empty"),
        ([({"labels": Y}, Y), (X, Y)], TypeError, "some batches of inputs are tensors and some are mappings"),
        ([(X, Y), (X[:, :1], Y)], ValueError, r"rows of the inputs differ in shape .*\(1,\), \(2,\); pad them"),
        ([(X, Y), (X, X)], ValueError, "rows of the targets differ in shape"),
        ([(X, Y[:5])], ValueError, "x has 10 rows, y has 5"),
        ([(X, Y[0])], ValueError, "y has none: it has no axes"),
        ((X.numpy(), Y.numpy()), TypeError, r"tensors \(x, y\), or .*; it gave tuple of ndarray: .* torch\.as_tensor"),
        ((X, Y.numpy()), TypeError, "with targets of type ndarray: make it a tensor by torch.as_tensor"),
        (({"a": X.numpy()}, Y), TypeError, r"inputs\['a'\] must be a tensor; got ndarray: .* torch\.as_tensor"),
        (TensorDataset(X), TypeError, r"pairs of tensors \(x, y\); it gave list"),
        ((X[:0], Y[:0]), ValueError, "training data are empty"),
        ([], ValueError, "gave no batch"),
    ],
)
def test_data_that_cannot_be_read_are_refused_in_words(data, error, message):
    with pytest.raises(error, match=message):
        collect(data)


# Examples.


@pytest.fixture(params=["in memory", "on demand", "mappings in memory", "mappings on demand"])
def examples(request):
    dataset = Rows() if "mappings" in request.param else TensorDataset(X, Y)
    return examples_of(DataLoader(dataset, batch_size=4), in_memory="memory" in request.param)


def whole(examples):
    return MAPPING if isinstance(examples.take(torch.tensor([0]))[0], dict) else X


def test_examples_are_taken_by_index(examples):
    index = torch.tensor([7, 0, 7])
    x, y = examples.take(index)
    assert examples.n == 10
    assert same(x, take(whole(examples), index))
    assert torch.equal(y, Y[index])


@pytest.mark.parametrize("size", [1, 3, 4, 9, 10, 99, np.int64(4)])
def test_batches_go_over_all_examples_in_order_and_anew_each_time(examples, size):
    for _ in range(2):
        batches = list(examples.batches(size))
        sizes = [len(y) for _, y in batches]
        assert len(sizes) == -(-10 // size)
        assert max(sizes) <= size
        assert max(sizes) - min(sizes) <= 1
        assert same(concatenated([x for x, _ in batches]), whole(examples))
        assert torch.equal(torch.cat([y for _, y in batches]), Y)


def test_only_what_is_needed_is_read_on_demand():
    dataset = Rows()
    examples = examples_of(DataLoader(dataset, batch_size=4, shuffle=True, drop_last=True), in_memory=False)
    assert dataset.read == []
    examples.take(torch.tensor([3, 8]))
    next(examples.batches(3))
    assert dataset.read == [3, 8, 0, 1]  # ten are four batches of two or three


def test_the_loaders_own_collation_is_used_on_demand():
    def collate(rows):
        return torch.stack([2 * x for x, _ in rows]), torch.stack([y for _, y in rows])

    examples = examples_of(DataLoader(TensorDataset(X, Y), batch_size=3, collate_fn=collate), in_memory=False)
    assert torch.equal(examples.take(torch.tensor([4]))[0], 2 * X[4:5])


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": SubsetRandomSampler([1, 5, 6]), "batch_size": 2},
        {"batch_sampler": [[1, 5], [6]]},
    ],
)
def test_examples_on_demand_are_those_that_the_loaders_sampler_gives(options):
    examples = examples_of(DataLoader(TensorDataset(X, Y), **options), in_memory=False)
    assert examples.n == 3
    assert examples.take(torch.arange(3))[1].sort().values.tolist() == [1, 5, 6]
    first = examples.take(torch.arange(3))[1]
    assert torch.equal(torch.cat([y for _, y in examples.batches(2)]), first)


def test_tensors_are_in_memory_whatever_is_asked():
    examples = examples_of((X, Y), in_memory=False)
    assert isinstance(examples, ExamplesInMemory)
    assert examples.x is X


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([(X, Y)], TypeError, "only a torch DataLoader can be read on demand; got list"),
        (DataLoader(TensorDataset(X, Y), batch_size=None), ValueError, "give it a batch_size"),
        (DataLoader(TensorDataset(X[:0], Y[:0])), ValueError, "training data are empty"),
    ],
)
def test_what_cannot_be_read_on_demand_is_refused(data, error, message):
    with pytest.raises(error, match=message):
        examples_of(data, in_memory=False)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_stream_is_refused(in_memory):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(zip(X, Y, strict=True))

    for data in (DataLoader(Stream()), Stream()):
        with pytest.raises(ValueError, match=r"the dataset has no length.*use a map-style dataset"):
            examples_of(data, in_memory=in_memory)
