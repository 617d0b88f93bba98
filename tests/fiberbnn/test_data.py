"""Training data from tensors, loaders and other iterables."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from fiberbnn.data import collect

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
