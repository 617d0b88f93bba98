"""Training data from tensors, loaders and other iterables."""

from collections import UserDict

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset

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


def test_a_shuffled_loader_keeps_pairs_together():
    generator = torch.Generator().manual_seed(0)
    x, y = collect(DataLoader(TensorDataset(X, Y), batch_size=3, shuffle=True, generator=generator))
    assert not torch.equal(y, Y)
    assert torch.equal(y.sort().values, Y)
    assert torch.equal(x, X[y])


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


@pytest.mark.parametrize("size", [1, 4, 10, 99])
def test_batches_go_over_all_examples_in_order_and_anew_each_time(examples, size):
    for _ in range(2):
        batches = list(examples.batches(size))
        assert [len(y) for _, y in batches] == [len(y) for y in Y.split(size)]
        assert same(concatenated([x for x, _ in batches]), whole(examples))
        assert torch.equal(torch.cat([y for _, y in batches]), Y)


def test_only_what_is_needed_is_read_on_demand():
    dataset = Rows()
    examples = examples_of(DataLoader(dataset, batch_size=4, shuffle=True, drop_last=True), in_memory=False)
    assert dataset.read == []
    examples.take(torch.tensor([3, 8]))
    next(examples.batches(3))
    assert dataset.read == [3, 8, 0, 1, 2]


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


def test_a_stream_is_refused_on_demand():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(zip(X, Y, strict=True))

    with pytest.raises(ValueError, match="dataset has no length"):
        examples_of(DataLoader(Stream()), in_memory=False)
