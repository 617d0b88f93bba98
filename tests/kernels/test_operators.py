"""Every operator is registered soundly: odd and smallest shapes, with and without its options."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fiberbnn_kernels import MLPLayout
from fiberbnn_kernels.langevin_step import api as langevin
from fiberbnn_kernels.langevin_step import optimizer
from fiberbnn_kernels.linear_act import api as linear_act
from fiberbnn_kernels.philox import api as philox
from fiberbnn_kernels.predictive import api as predictive
from fiberbnn_kernels.predictive import perceptron

CPU = torch.device("cpu")
COUNTER = (1, 2, 3, 4)  # seed, step, stream, first particle


def draw(*shape: int, what: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(what), dtype=dtype)


def box(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def of_rows(k: int, p: int, dtype: torch.dtype) -> Iterator[tuple[str, Any, tuple[object, ...]]]:
    """Operators on particles [K, P]."""
    x, v, g, snapshot = (draw(k, p, what=i, dtype=dtype) for i in range(4))
    m, decay = draw(p, what=4, dtype=dtype).abs(), draw(k, what=5, dtype=dtype)
    copies = torch.empty(0)
    yield "normal", philox._normal_op, (k, p, 1, 2, 2, 3, 4, CPU, False, copies)
    yield "uniform", philox._uniform_op, (k, *COUNTER, CPU, False, copies)
    for options in ((None, None), (decay, None), (None, snapshot), (decay, snapshot)):
        yield "open", langevin._open_op, (x, v, g, m, *options, box(0.1), 0.2, *COUNTER, False)
    yield "close", langevin._close_op, (v, g, m, box(0.1), False)
    first, second = v.clone(), v.square()
    moments = {"sgd": (None, None), "momentum": (first, None), "adam": (first, second)}
    numbers = (box(0.1), 0.9, 0.99, 1e-8, 3, 0.5, box(0.2), box(0.3))
    for rule, kept in moments.items():
        for options in ((None, None, None), (snapshot, m, g)):
            yield rule, optimizer._step_op, (x, g, *kept, *options, rule, *numbers, *COUNTER, False)
    for options in ((None, None), (m, None), (None, g), (m, g)):
        yield "perturb", optimizer._perturb_op, (x, *options, box(0.2), box(0.3), *COUNTER, False)


def of_samples(s: int, n: int, h: int, c: int) -> Iterator[tuple[str, Any, tuple[object, ...]]]:
    """Operators on samples [S, ...] of weights, each a layer from H to C, and N inputs."""
    layout = MLPLayout((h, 3, c))
    each, shared, flat = draw(s, n, h), draw(n, h, what=1), draw(s, layout.n_params, what=2)
    weight, bias, noise, y = draw(s, c, h, what=3), draw(s, c, what=4), draw(c).abs(), draw(n, c, what=5)
    widths, pairs = layout.widths, (draw(s, 2 * c, h), draw(s, 2 * c))
    for inputs in (each, shared):
        yield "layer", linear_act._linear_act_op, (inputs, weight, bias, "gelu", False)
        yield "classes", predictive._class_sums_op, (inputs, weight, bias, False)
        for options in ((noise, None), (noise, y)):
            yield "gaussian", predictive._gaussian_sums_op, (inputs, weight, bias, *options, False)
        for options in ((None, None), (None, y)):
            yield "gaussian, own noise", predictive._gaussian_sums_op, (inputs, *pairs, *options, False)
    yield "logits", predictive._class_sums_op, (draw(s, n, c), None, None, False)
    yield "outputs", predictive._gaussian_sums_op, (draw(s, n, c), None, None, noise, y, False)
    yield "perceptron", perceptron._mlp_class_sums_op, (flat, shared, widths, "tanh", False)
    for options in ((noise, None), (noise, y)):
        yield "gaussian perceptron", perceptron._mlp_gaussian_sums_op, (flat, shared, widths, "relu", *options, False)


def calls() -> Iterator[Any]:
    """Odd shapes with all options; the smallest and the empty ones with those that come last."""
    for case in (*of_rows(3, 5, torch.float32), *of_samples(5, 4, 3, 2)):
        yield pytest.param(*case[1:], id=case[0])
    for shape, dtype in (((1, 1), torch.float32), ((0, 3), torch.float32), ((3, 0), torch.float64)):
        last = {case[1]: case for case in of_rows(*shape, dtype)}
        yield from (pytest.param(*case[1:], id=f"{case[0]} {shape}") for case in last.values())
    last = {case[1]: case for case in of_samples(1, 1, 1, 1)}
    yield from (pytest.param(*case[1:], id=f"{case[0]} of one") for case in last.values())


@pytest.mark.parametrize(("op", "arguments"), list(calls()))
def test_operators_are_registered_soundly(op: Any, arguments: tuple[object, ...]) -> None:
    assert set(torch.library.opcheck(op, arguments).values()) == {"SUCCESS"}


def test_opcheck_sees_what_is_wrong() -> None:
    """An operator that overwrites what it does not say it does, and one whose fake rule is of another shape."""

    @torch.library.custom_op("fiberbnn_test::silent", mutates_args=())
    def silent(x: Tensor) -> Tensor:
        return x.add_(1).clone()

    @torch.library.custom_op("fiberbnn_test::misshapen", mutates_args=())
    def misshapen(x: Tensor) -> Tensor:
        return x.sum(dim=0)

    silent.register_fake(torch.empty_like)
    misshapen.register_fake(torch.empty_like)
    for op in (silent, misshapen):
        with pytest.raises(torch.testing._internal.optests.generate_tests.OpCheckError):
            torch.library.opcheck(op, (draw(3, 2),))
