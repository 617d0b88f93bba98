"""Torch's default dtype and autocasting change nothing: results have the dtype and the digits of what went in."""

from collections.abc import Iterator
from dataclasses import is_dataclass

import pytest
import torch
from torch import Tensor

from fiberbnn_kernels import decode
from fiberbnn_kernels.linear_act import api as linear_act
from fiberbnn_kernels.philox import api as philox
from tests.kernels import every_function

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def inputs_are_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that a call makes for itself, too."""
    monkeypatch.setattr(every_function, "ones", lambda *shape: torch.full(shape, 0.1, dtype=torch.float32))
    monkeypatch.setattr(every_function, "X", every_function.X)


def outcome(name: str) -> list[Tensor]:
    """Return the tensors of a call's result, and those that it may change in place."""
    every_function.X = (torch.full((2, 5), 0.1, dtype=torch.float32),) * 3
    return [*tensors_of(every_function.CALLS[name]("auto")), every_function.X[0]]


def tensors_of(result: object) -> Iterator[Tensor]:
    """Yield the tensors that a result is made of."""
    if isinstance(result, Tensor):
        yield result
    elif is_dataclass(result):
        for value in vars(result).values():
            yield from tensors_of(value)
    elif isinstance(result, (tuple, list)):
        for value in result:
            yield from tensors_of(value)


def assert_same(found: object, expected: object) -> None:
    mine, others = list(tensors_of(found)), list(tensors_of(expected))
    assert len(mine) == len(others) > 0
    for a, b in zip(mine, others, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", sorted(every_function.CALLS))
def test_default_dtype(name: str, default: torch.dtype) -> None:
    expected = outcome(name)
    torch.set_default_dtype(default)
    try:
        found = outcome(name)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same(found, expected)


@pytest.mark.parametrize("name", sorted(every_function.CALLS))
def test_autocast(name: str) -> None:
    expected = outcome(name)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(outcome(name), expected)


def test_shapes_that_are_traced_under_another_default_dtype() -> None:
    copies, layer = torch.empty(0), (torch.ones(7, 4), torch.ones(3, 2, 4), torch.ones(3, 2))
    torch.set_default_dtype(torch.float64)
    try:
        for op, arguments in (
            (philox._normal_op, (3, 5, 1, 2, 2, 3, 4, CPU, False, copies)),
            (philox._uniform_op, (3, 1, 2, 3, 4, CPU, False, copies)),
            (linear_act._linear_act_op, (*layer, "gelu", False)),
        ):
            assert set(torch.library.opcheck(op, arguments).values()) == {"SUCCESS"}
    finally:
        torch.set_default_dtype(torch.float32)


def test_decode_differentiates_and_compiles_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    arguments = [torch.randn(shape, generator=generator).requires_grad_() for shape in ((50,), (50, 4), (6, 4))]
    expected = torch.autograd.grad(decode(*arguments).square().sum(), arguments)
    with torch.autocast("cpu", torch.bfloat16):
        found = decode(*arguments)
        compiled = torch.compile(decode, fullgraph=True, backend="eager")(*arguments)
    assert_same(torch.autograd.grad(found.square().sum(), arguments), expected)
    assert_same(compiled, found)
