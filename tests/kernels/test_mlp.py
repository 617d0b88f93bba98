"""The batched perceptron against torch.func, for sizes, activations, likelihoods and block sizes."""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from fiberbnn_kernels import MLPLayout, mlp_forward, mlp_nll_and_grad
from fiberbnn_kernels.mlp import reference

MODULES = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}
# (widths, K, N): the usual sizes, ragged ones, the smallest ones, one to three hidden layers and none.
SIZES = [
    ((14, 50, 2), 5, 48),
    ((2, 16, 16, 2), 3, 371),
    ((7, 13, 5, 9, 3), 4, 33),
    ((1, 15, 1), 2, 17),
    ((3, 4, 2), 1, 9),
    ((5, 3, 2), 6, 1),
    ((1, 1, 1), 1, 1),
    ((6, 4), 3, 21),
]


def make_model(layout: MLPLayout, dtype: torch.dtype) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(layout.widths):
        layers += [nn.Linear(n_in, n_out, dtype=dtype), MODULES[layout.activation]()]
    return nn.Sequential(*layers[:-1])


def make_inputs(layout: MLPLayout, n_particles: int, n_rows: int, likelihood: str) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, inputs and targets in float64."""
    generator = torch.Generator().manual_seed(17)
    weights = torch.randn(n_particles, layout.n_params, generator=generator, dtype=torch.float64)
    x = torch.randn(n_rows, layout.widths[0], generator=generator, dtype=torch.float64)
    if likelihood == "categorical":
        return weights, x, torch.randint(layout.widths[-1], (n_rows,), generator=generator)
    return weights, x, torch.randn(n_rows, layout.widths[-1], generator=generator, dtype=torch.float64)


def cast(values: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(v.to(dtype) if v.is_floating_point() else v for v in values)


def functional_nll(
    layout: MLPLayout, weights: Tensor, x: Tensor, y: Tensor, likelihood: str, precision: float
) -> tuple[Tensor, Tensor]:
    """NLL [K] and gradient [K, P] of an nn.Sequential by torch.func, and nothing of ours."""
    model = make_model(layout, x.dtype)
    shapes = {name: p.shape for name, p in model.named_parameters()}

    def nll(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes.values()])
        params = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        out = functional_call(model, params, (x,))
        if likelihood == "categorical":
            return nn.functional.cross_entropy(out, y, reduction="sum")
        return -torch.distributions.Normal(out, precision**-0.5).log_prob(y).sum()

    grad, value = vmap(grad_and_value(nll))(weights)
    return value, grad


def assert_within_rounding(ours: Tensor, *, plain: Tensor, exact: Tensor, n_summed: int) -> None:
    """Twice the error of plain torch in the same dtype, and the rounding of the sums, is allowed."""
    eps = torch.finfo(ours.dtype).eps
    budget = 2 * (plain - exact).abs().max() + (eps + eps * math.sqrt(n_summed)) * exact.abs().max()
    assert (ours - exact).abs().max() <= budget


@pytest.mark.parametrize("activation", MODULES)
@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
@pytest.mark.parametrize(("widths", "n_particles", "n_rows"), SIZES)
def test_nll_and_grad_match_torch_func(
    widths: tuple[int, ...], n_particles: int, n_rows: int, likelihood: str, activation: str
) -> None:
    layout = MLPLayout(widths, activation)
    double = make_inputs(layout, n_particles, n_rows, likelihood)
    exact = functional_nll(layout, *double, likelihood, 7.0)
    ours = mlp_nll_and_grad(*double, layout, likelihood=likelihood, noise_precision=7.0)
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12 * float(b.abs().max()))
    single = cast(double, torch.float32)
    # The budget is about arithmetic, so the exact value is that of the rounded inputs.
    exact = functional_nll(layout, *cast(single, torch.float64), likelihood, 7.0)
    plain = functional_nll(layout, *single, likelihood, 7.0)
    ours = mlp_nll_and_grad(*single, layout, likelihood=likelihood, noise_precision=7.0)
    for a, b, c in zip(ours, plain, exact, strict=True):
        assert a.dtype == torch.float32
        assert_within_rounding(a, plain=b, exact=c, n_summed=n_rows)


@pytest.mark.parametrize("activation", MODULES)
@pytest.mark.parametrize(("widths", "n_particles", "n_rows"), SIZES)
def test_forward_matches_the_module(widths: tuple[int, ...], n_particles: int, n_rows: int, activation: str) -> None:
    layout = MLPLayout(widths, activation)
    model = make_model(layout, torch.float64)
    weights, x, _ = make_inputs(layout, n_particles, n_rows, "gaussian")
    out = mlp_forward(weights, x, layout)
    assert out.shape == (n_particles, n_rows, widths[-1])
    assert out.is_contiguous()
    for flat, ours in zip(weights, out, strict=True):
        vector_to_parameters(flat, model.parameters())
        torch.testing.assert_close(ours, model(x).detach(), rtol=1e-12, atol=1e-12)


def test_flat_order_is_that_of_parameters_to_vector() -> None:
    layout = MLPLayout((3, 5, 2))
    model = make_model(layout, torch.float32)
    flat = parameters_to_vector(model.parameters()).detach()
    assert layout.n_params == flat.numel()
    for at, linear in zip(layout.layers(), [model[0], model[2]], strict=True):
        assert torch.equal(flat[at.weight : at.bias].view(at.n_out, at.n_in), linear.weight)
        assert torch.equal(flat[at.bias : at.bias + at.n_out], linear.bias)


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_result_does_not_depend_on_the_block(likelihood: str, activation: str) -> None:
    layout = MLPLayout((4, 12, 6, 3), activation)
    weights, x, y = make_inputs(layout, 7, 513, likelihood)
    whole = reference.mlp_nll_and_grad(weights, x, y, layout, likelihood=likelihood, block_bytes=1 << 30)
    out = mlp_forward(weights, x, layout)
    for block_bytes in (1, 1 << 15, 1 << 17, 1 << 19):
        ours = reference.mlp_nll_and_grad(weights, x, y, layout, likelihood=likelihood, block_bytes=block_bytes)
        for a, b in zip(ours, whole, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12 * float(b.abs().max()))
        blocked = reference.mlp_forward(weights, x, layout, block_bytes=block_bytes)
        torch.testing.assert_close(blocked, out, rtol=1e-13, atol=1e-13)


def test_block_plan_splits_rows_alike_for_any_number_of_particles() -> None:
    layout = MLPLayout((2, 16, 16, 2))
    plans = [reference.plan_blocks(layout, k, 100_000, 4, 1 << 20) for k in (1, 2, 30, 1000)]
    assert len({plan.rows for plan in plans}) == 1
    assert all(plan.particles == 1 and 64 <= plan.rows < 100_000 for plan in plans)
    # Nor does the block grow with the number of particles.
    blocks = {reference.plan_blocks(layout, k, 500, 4, 1 << 20).particles for k in (1000, 10_000, 100_000)}
    assert max(blocks) * 500 * (17 + 17 + 16 + 2) * 4 <= 1 << 20


def test_particles_do_not_see_one_another() -> None:
    layout = MLPLayout((14, 50, 2))
    weights, x, y = cast(make_inputs(layout, 37, 480, "categorical"), torch.float32)
    nll, grad = mlp_nll_and_grad(weights, x, y, layout, likelihood="categorical")
    order = torch.randperm(37, generator=torch.Generator().manual_seed(1))
    permuted = mlp_nll_and_grad(weights[order], x, y, layout, likelihood="categorical")
    torch.testing.assert_close(permuted[0], nll[order], rtol=1e-5, atol=0)
    torch.testing.assert_close(permuted[1], grad[order], rtol=1e-5, atol=1e-5 * float(grad.abs().max()))
    poisoned = weights.clone()
    poisoned[3] = torch.nan
    others = torch.arange(37) != 3
    with_nan = mlp_nll_and_grad(poisoned, x, y, layout, likelihood="categorical")
    assert with_nan[0][3].isnan()
    assert torch.equal(with_nan[1][others], grad[others])
    # Buffers are kept between calls: the NaNs must not come back.
    assert torch.equal(mlp_nll_and_grad(weights, x, y, layout, likelihood="categorical")[1], grad)


def test_inputs_may_be_strided_and_are_left_alone() -> None:
    layout = MLPLayout((4, 6, 3))
    weights, x, y = make_inputs(layout, 5, 23, "categorical")
    strided = torch.stack((weights, weights), dim=-1)[..., 0], x.T.contiguous().T
    ours = mlp_nll_and_grad(*strided, y, layout, likelihood="categorical")
    assert torch.equal(strided[0], weights)
    assert torch.equal(strided[1], x)
    assert torch.equal(ours[1], mlp_nll_and_grad(weights, x, y, layout, likelihood="categorical")[1])
    assert ours[1].is_contiguous()


def test_known_values() -> None:
    layout = MLPLayout((2, 3, 5))
    x = torch.randn(11, 2, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros(1, layout.n_params)
    nll, _ = mlp_nll_and_grad(zero, x, torch.arange(11) % 5, layout, likelihood="categorical")
    torch.testing.assert_close(nll, torch.tensor([11 * math.log(5)]))
    nll, grad = mlp_nll_and_grad(zero, x, torch.zeros(11, 5), layout, likelihood="gaussian", noise_precision=4.0)
    torch.testing.assert_close(nll, torch.tensor([55 * 0.5 * math.log(2 * math.pi / 4)]))
    assert not grad.any()


def test_threads_do_not_share_buffers() -> None:
    layout = MLPLayout((4, 32, 3))
    weights, x, y = make_inputs(layout, 8, 257, "categorical")
    expected = mlp_nll_and_grad(weights, x, y, layout, likelihood="categorical")[1]
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(mlp_nll_and_grad, weights, x, y, layout, likelihood="categorical") for _ in range(40)]
        assert all(torch.equal(run.result()[1], expected) for run in runs)


def test_inference_mode_leaves_no_trace() -> None:
    layout = MLPLayout((4, 11, 3))
    weights, x, y = make_inputs(layout, 3, 29, "categorical")
    with torch.inference_mode():
        inside = mlp_nll_and_grad(weights, x, y, layout, likelihood="categorical")
    outside = mlp_nll_and_grad(weights, x, y, layout, likelihood="categorical")
    assert torch.equal(inside[1], outside[1])


@pytest.mark.parametrize(("widths", "activation"), [((3,), "tanh"), ((3, 0, 2), "tanh"), ((3, 2), "elu"), ((), "relu")])
def test_bad_layout_is_refused(widths: tuple[int, ...], activation: str) -> None:
    with pytest.raises(ValueError, match=r"widths must|activation must"):
        MLPLayout(widths, activation)


def test_bad_input_is_refused_in_words() -> None:
    layout = MLPLayout((3, 4, 2))
    weights, x, labels = cast(make_inputs(layout, 2, 5, "categorical"), torch.float32)
    targets = torch.zeros(5, 2)
    with pytest.raises(ValueError, match=r"weights must be \[K, 26\]"):
        mlp_forward(weights[:, :-1], x, layout)
    with pytest.raises(ValueError, match=r"x must be \[N, 3\]"):
        mlp_forward(weights, x[:, :2], layout)
    with pytest.raises(ValueError, match="float dtype"):
        mlp_forward(weights.double(), x, layout)
    with pytest.raises(ValueError, match="no autograd formula"):
        mlp_forward(weights.clone().requires_grad_(), x, layout)
    with pytest.raises(ValueError, match="labels must be int64"):
        mlp_nll_and_grad(weights, x, labels.int(), layout, likelihood="categorical")
    with pytest.raises(ValueError, match="targets must be"):
        mlp_nll_and_grad(weights, x, targets[:, 0], layout, likelihood="gaussian")
    with pytest.raises(ValueError, match="likelihood must be"):
        mlp_nll_and_grad(weights, x, labels, layout, likelihood="poisson")
    with pytest.raises(ValueError, match="noise_precision"):
        mlp_nll_and_grad(weights, x, targets, layout, likelihood="gaussian", noise_precision=0.0)
    with pytest.raises(RuntimeError, match="no fused kernel"):
        mlp_forward(weights, x, layout, impl="fused")
    with pytest.raises(RuntimeError, match="float32 only"):
        mlp_nll_and_grad(weights.double(), x.double(), labels, layout, likelihood="categorical", impl="fused")
    with pytest.raises(ValueError, match="impl must be"):
        mlp_forward(weights, x, layout, impl="triton")
    with pytest.raises(RuntimeError, match="out of bounds"):
        mlp_nll_and_grad(weights, x, labels + 2, layout, likelihood="categorical")
