"""How the perceptron's operations reach torch: fake tensors, vmap and the compiler, on the CPU."""

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from fiberbnn_kernels import MLPLayout, mlp_forward, mlp_nll_and_grad
from fiberbnn_kernels.mlp import api

LAYOUT = MLPLayout((3, 7, 5, 2), "silu")


def make_inputs(*batch: int, n_rows: int = 11) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(*batch, LAYOUT.n_params, generator=generator)
    x = torch.randn(n_rows, 3, generator=generator)
    return weights, x, torch.randint(2, (n_rows,), generator=generator)


def test_operators_are_registered_soundly() -> None:
    weights, x, y = make_inputs(4)
    targets = torch.randn(11, 2, generator=torch.Generator().manual_seed(4))
    for likelihood, target in (("categorical", y), ("gaussian", targets)):
        arguments = (weights, x, target, [3, 7, 5, 2], "silu", likelihood, 2.0, "reference")
        assert set(torch.library.opcheck(api._nll_and_grad_op, arguments).values()) == {"SUCCESS"}
    assert set(torch.library.opcheck(api._forward_op, (weights, x, [3, 7, 5, 2], "silu")).values()) == {"SUCCESS"}


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
def test_they_compile_without_a_break(likelihood: str) -> None:
    weights, x, y = make_inputs(4)
    target = y if likelihood == "categorical" else torch.randn(11, 2)

    def both(w: Tensor) -> tuple[Tensor, ...]:
        nll, grad = mlp_nll_and_grad(w, x, target, LAYOUT, likelihood=likelihood, noise_precision=2.0)
        return mlp_forward(w, x, LAYOUT), nll, grad

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    assert all(torch.equal(a, b) for a, b in zip(compiled(weights), both(weights), strict=True))


def test_fake_tensors_stay_fake() -> None:
    with FakeTensorMode() as mode:
        weights, x, y = (mode.from_tensor(tensor) for tensor in make_inputs(4))
        nll, grad = mlp_nll_and_grad(weights, x, y, LAYOUT, likelihood="categorical")
        assert (nll.shape, grad.shape) == ((4,), weights.shape)
        assert mlp_forward(weights, x, LAYOUT).shape == (4, 11, 2)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_vmap_over_weights_is_one_call(dim: int) -> None:
    weights, x, y = make_inputs(2, 3)
    moved = weights.movedim(0, dim)

    def each(w: Tensor) -> tuple[Tensor, ...]:
        return mlp_forward(w, x, LAYOUT), *mlp_nll_and_grad(w, x, y, LAYOUT, likelihood="categorical")

    ours = torch.vmap(each, in_dims=dim)(moved)
    theirs = [torch.stack(values) for values in zip(*(each(w) for w in weights), strict=True)]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max()))
    twice = torch.vmap(torch.vmap(each))(weights[None])
    assert all(torch.equal(a[0], b) for a, b in zip(twice, ours, strict=True))


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_vmap_of_outputs_over_inputs_is_one_call(dim: int) -> None:
    weights, _, _ = make_inputs(4)
    x = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(8))
    ours = torch.vmap(lambda inputs: mlp_forward(weights, inputs, LAYOUT), in_dims=dim)(x.movedim(0, dim))
    theirs = torch.stack([mlp_forward(weights, inputs, LAYOUT) for inputs in x])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_vmap_that_would_need_a_loop_is_refused_in_words() -> None:
    weights, x, y = make_inputs(2, 3)
    inputs = torch.stack((x, x))
    with pytest.raises(RuntimeError, match="weights and inputs at once"):
        torch.vmap(lambda w, rows: mlp_forward(w, rows, LAYOUT))(weights, inputs)
    with pytest.raises(RuntimeError, match="not over data"):
        torch.vmap(lambda rows: mlp_nll_and_grad(weights[0], rows, y, LAYOUT, likelihood="categorical"))(inputs)
    with pytest.raises(RuntimeError, match="not over data"):
        torch.vmap(lambda w, rows: mlp_nll_and_grad(w, rows, y, LAYOUT, likelihood="categorical"))(weights, inputs)
