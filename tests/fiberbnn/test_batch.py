"""Batches of inputs: tensors and mappings, and how they meet a model."""

from collections import UserDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from fiberbnn.batch import (
    advising_on_integers,
    call_arguments,
    check_finite,
    concatenated,
    even_slices,
    moved,
    n_rows,
    outputs_from,
    split,
    take,
)

X = torch.arange(14.0).view(7, 2)
MAPPING = {"a": X, "ids": torch.arange(7)}


def test_rows_are_counted():
    assert n_rows(X) == 7
    assert n_rows(MAPPING) == 7
    assert n_rows(UserDict(MAPPING)) == 7  # as Hugging Face's tokenizers return


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ({}, ValueError, "mapping of inputs is empty"),
        ({"a": X, "b": X[:3]}, ValueError, r"same number of rows; got .*'a'.*7.*'b'.*3"),
        ({"a": X, "b": [1] * 7}, TypeError, r"inputs\['b'\] must be a tensor; got list"),
        (torch.tensor(1.0), ValueError, "without axes"),
        ([X], TypeError, "a tensor, or a mapping of names to tensors; got list$"),
        (X.numpy(), TypeError, r"names to tensors; got ndarray: make it a tensor by torch\.as_tensor"),
    ],
)
def test_what_has_no_rows_is_refused(x, error, message):
    with pytest.raises(error, match=message):
        n_rows(x)


@pytest.mark.parametrize("index", [torch.tensor([5, 0, 0]), X[:, 0] > 8.0, slice(2, 5)])
def test_rows_are_taken_from_every_tensor(index):
    assert torch.equal(take(X, index), X[index])
    taken = take(MAPPING, index)
    assert torch.equal(taken["a"], X[index])
    assert torch.equal(taken["ids"], MAPPING["ids"][index])


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_splitting_and_concatenating_give_the_batch_again(size):
    assert torch.equal(concatenated(list(split(X, size))), X)
    parts = list(split(MAPPING, size))
    assert len(parts) == -(-7 // size)
    again = concatenated(parts)
    assert all(torch.equal(again[name], MAPPING[name]) for name in MAPPING)


def test_a_batch_size_of_zero_is_refused():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        next(split(X, 0))


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ([], ValueError, "no batches"),
        ([X, MAPPING], TypeError, "some batches of inputs are tensors and some are mappings"),
        ([MAPPING, {"a": X}], ValueError, r"differ in their names: \['a', 'ids'\] and \['a'\]"),
        ([X, X[:, :1]], ValueError, r"differ in shape from batch to batch: \(1,\), \(2,\); pad them"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, error, message):
    with pytest.raises(error, match=message):
        concatenated(parts)


def test_only_floats_change_their_dtype():
    like = torch.zeros(1, dtype=torch.float64)
    assert moved(X.half(), like).dtype == torch.float64
    there = moved(MAPPING | {"mask": X[:, 0] > 0}, like)
    assert [tensor.dtype for tensor in there.values()] == [torch.float64, torch.int64, torch.bool]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_counted(bad):
    spoiled = X.clone()
    spoiled[2:4] = bad
    with pytest.raises(ValueError, match=r"the inputs hold 4 NaN or infinite values; remove or impute them first$"):
        check_finite(spoiled, "inputs")
    with pytest.raises(ValueError, match=r"the targets hold 4 NaN"):
        check_finite(MAPPING | {"a": spoiled}, "targets")
    check_finite(MAPPING, "inputs")


@pytest.mark.parametrize(("n", "batch_size"), [(193, 64), (10, 3), (7, 7), (7, 99), (5, 1), (12, np.int64(5))])
def test_batches_are_as_few_and_as_even_as_can_be(n, batch_size):
    slices = even_slices(n, batch_size)
    assert torch.equal(torch.cat([torch.arange(n)[rows] for rows in slices]), torch.arange(n))
    sizes = [rows.stop - rows.start for rows in slices]
    assert len(sizes) == -(-n // batch_size)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("batch_size", [32.0, "32", None, torch.tensor(2.0)])
def test_a_batch_size_that_is_no_integer_is_refused(batch_size):
    with pytest.raises(TypeError, match=r"batch_size must be an integer; got .*, a (float|str|NoneType|Tensor)"):
        even_slices(10, batch_size)


def test_a_batch_size_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        even_slices(10, 0)


@pytest.mark.parametrize("x", [torch.ones(2, 3, dtype=torch.uint8), torch.ones(2, 3, dtype=torch.int64)])
@pytest.mark.parametrize(
    "layer", [nn.Linear(3, 1), nn.LayerNorm(3), nn.BatchNorm1d(3), nn.LSTM(3, 1), nn.Conv1d(2, 1, 1)]
)
def test_integers_for_a_model_of_floats_are_explained(layer, x):
    message = rf"integers for inputs \({x.dtype}\): convert them to float.*torch says"
    with pytest.raises(TypeError, match=message), advising_on_integers(x):
        layer(x)
    named = {"pixels": x, "mask": x > 0, "scale": x.float()}
    with pytest.raises(TypeError, match=r"integers for inputs\['pixels'\] \(\S*\):"), advising_on_integers(named):
        layer(x)


def test_integers_are_no_error_where_they_belong_and_other_errors_are_left_alone():
    with advising_on_integers(MAPPING["ids"]):
        nn.Embedding(9, 2)(MAPPING["ids"])
    for error in (RuntimeError("out of memory"), ValueError("labels"), torch.OutOfMemoryError("no room")):
        with pytest.raises(type(error), match=str(error)), advising_on_integers(MAPPING["ids"]):
            raise error
    with pytest.raises(RuntimeError, match="the type of x"), advising_on_integers(X):
        raise RuntimeError("the type of x")


class Keywords(nn.Module):
    def forward(self, ids, a=None):
        return ids + a


class Anything(nn.Module):
    def forward(self, **tensors):
        return tensors


class OneArgument(nn.Module):
    def forward(self, batch, scale=1.0):
        return scale * batch["a"]


@pytest.mark.parametrize("model", [Keywords(), Anything()])
def test_a_mapping_goes_in_by_keywords_where_there_is_room(model):
    args, kwargs = call_arguments(model, UserDict(MAPPING))
    assert args == ()
    assert kwargs == MAPPING


@pytest.mark.parametrize("model", [OneArgument(), nn.Sequential(nn.Identity()), nn.Linear(1, 1)])
def test_a_mapping_is_the_one_argument_elsewhere(model):
    args, kwargs = call_arguments(model, MAPPING)
    assert args == (MAPPING,)
    assert kwargs == {}


def test_a_tensor_is_the_one_argument():
    assert call_arguments(Keywords(), X) == ((X,), {})


@dataclass
class Output:
    logits: torch.Tensor


@pytest.mark.parametrize("returned", [X, Output(X), {"logits": X, "loss": None}, UserDict(logits=X)])
def test_outputs_are_a_tensor_or_logits(returned):
    assert outputs_from(returned, 7) is X


@pytest.mark.parametrize("returned", [(X, X), {"out": X}, None, Output(None), [X]])
def test_other_outputs_are_refused(returned):
    with pytest.raises(TypeError, match=f"it returned {type(returned).__name__}: wrap it in a module"):
        outputs_from(returned, 7)


def test_outputs_need_the_rows_of_the_inputs():
    with pytest.raises(ValueError, match=r"the 8 rows .* they are \[7, 2\]"):
        outputs_from(X, 8)
