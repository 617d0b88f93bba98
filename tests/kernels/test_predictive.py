"""Sums over weight samples: against all outputs at once in float64, in chunks, in blocks, and as operators."""

import math

import pytest
import torch
from torch import Tensor

from fiberbnn_kernels import MLPLayout, mlp_forward
from fiberbnn_kernels.predictive import (
    ClassSums,
    GaussianSums,
    class_sums,
    class_sums_of_logits,
    gaussian_sums,
    gaussian_sums_of_outputs,
    mlp_class_sums,
    mlp_gaussian_sums,
    reference,
)

# (S, N, H, C): ragged, with one sample, row, feature, output.
SIZES = [(37, 29, 13, 5), (1, 7, 3, 2), (9, 1, 4, 3), (6, 5, 1, 4), (3, 4, 2, 1), (1, 1, 1, 1), (130, 3, 2, 2)]


def make_layer(size: tuple[int, ...], *, factor: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Features, weight and bias in float64, the outputs `factor` times as many."""
    n_samples, n_rows, n_hidden, n_out = size
    generator = torch.Generator().manual_seed(3)
    shapes = ((n_samples, n_rows, n_hidden), (n_samples, factor * n_out, n_hidden), (n_samples, factor * n_out))
    h, weight, bias = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return h, weight, bias


def outputs_of(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.einsum("snh,sch->snc", h, weight) + bias[:, None]


def exact_class_sums(logits: Tensor) -> ClassSums:
    log_p = logits.double().log_softmax(-1)
    p = log_p.exp()
    entropy = torch.special.entr(p).sum((0, 2))
    squares = (p - p.mean(0)).square().sum(0)
    return ClassSums(len(p), p.mean(0), squares, log_p.logsumexp(0), entropy)


def exact_gaussian_sums(outputs: Tensor, noise_variance: Tensor | None, targets: Tensor | None) -> GaussianSums:
    outputs = outputs.double()
    if noise_variance is None:
        means, log_variance = outputs.chunk(2, dim=-1)
        variance = log_variance.exp()
    else:
        means, variance = outputs, noise_variance.double().expand_as(outputs)
    squares = (means - means.mean(0)).square().sum(0)
    density = None
    if targets is not None:
        density = torch.distributions.Normal(means, variance.sqrt()).log_prob(targets.double()).sum(-1).logsumexp(0)
    return GaussianSums(len(means), means.mean(0), squares, variance.sum(0), density)


def assert_close(ours: ClassSums | GaussianSums, exact: ClassSums | GaussianSums, tolerance: float) -> None:
    assert ours.count == exact.count
    for name, value in vars(exact).items():
        if isinstance(value, Tensor):
            mine = getattr(ours, name)
            assert mine.dtype == torch.float64
            assert mine.is_contiguous()
            torch.testing.assert_close(mine, value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("size", SIZES)
def test_class_sums(size: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    layer = tuple(t.to(dtype) for t in make_layer(size))
    exact = exact_class_sums(outputs_of(*(t.double() for t in layer)))
    assert_close(class_sums(*layer), exact, tolerance)
    assert_close(class_sums_of_logits(outputs_of(*layer)), exact, tolerance)
    shared = exact_class_sums(outputs_of(layer[0][:1].double().expand_as(layer[0]), *(t.double() for t in layer[1:])))
    assert_close(class_sums(layer[0][0], *layer[1:]), shared, tolerance)


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("predicted_noise", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("size", SIZES)
def test_gaussian_sums(
    size: tuple[int, ...], dtype: torch.dtype, tolerance: float, predicted_noise: bool, with_targets: bool
) -> None:
    layer = tuple(t.to(dtype) for t in make_layer(size, factor=1 + predicted_noise))
    generator = torch.Generator().manual_seed(4)
    noise = None if predicted_noise else 0.3 + torch.rand(size[3], generator=generator).to(dtype)
    targets = torch.randn(size[1], size[3], generator=generator).to(dtype) if with_targets else None
    exact = exact_gaussian_sums(outputs_of(*(t.double() for t in layer)), noise, targets)
    ours = gaussian_sums(*layer, noise_variance=noise, targets=targets)
    assert_close(ours, exact, tolerance)
    assert (ours.log_density_sum is None) == (targets is None)
    of_outputs = gaussian_sums_of_outputs(outputs_of(*layer), noise_variance=noise, targets=targets)
    assert_close(of_outputs, exact, tolerance)


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu", "gelu"])
@pytest.mark.parametrize("widths", [(7, 11, 3), (2, 16, 16, 2), (5, 4), (1, 1, 1), (3, 6, 5, 4, 2)])
def test_perceptrons_give_what_their_outputs_give(widths: tuple[int, ...], activation: str) -> None:
    layout = MLPLayout(widths, activation)
    generator = torch.Generator().manual_seed(9)
    weights = torch.randn(23, layout.n_params, generator=generator, dtype=torch.float64)
    x = torch.randn(31, widths[0], generator=generator, dtype=torch.float64)
    outputs = mlp_forward(weights, x, layout)
    assert_close(mlp_class_sums(weights, x, layout), exact_class_sums(outputs), 1e-12)
    noise = torch.full((widths[-1],), 0.7, dtype=torch.float64)
    targets = torch.zeros(31, widths[-1], dtype=torch.float64)
    ours = mlp_gaussian_sums(weights, x, layout, noise_variance=noise, targets=targets)
    assert_close(ours, exact_gaussian_sums(outputs, noise, targets), 1e-12)
    if widths[-1] % 2 == 0:
        ours = mlp_gaussian_sums(weights, x, layout, noise_variance=None)
        assert_close(ours, exact_gaussian_sums(outputs, None, None), 1e-12)


def test_properties_are_the_moments_of_the_predictive() -> None:
    logits = outputs_of(*make_layer((37, 29, 13, 5)))
    p, sums = logits.softmax(-1), class_sums_of_logits(logits)
    torch.testing.assert_close(sums.variance, p.var(0, correction=0))
    torch.testing.assert_close(sums.log_probs, p.mean(0).log())
    torch.testing.assert_close(sums.aleatoric, torch.special.entr(p).sum(-1).mean(0))
    noise, y = torch.tensor([0.5] * 5, dtype=torch.float64), torch.ones(29, 5, dtype=torch.float64)
    outputs = gaussian_sums_of_outputs(logits, noise_variance=noise, targets=y)
    density = torch.distributions.Normal(logits, noise.sqrt()).log_prob(y).sum(-1).exp().mean(0)
    torch.testing.assert_close(outputs.log_density, density.log())
    torch.testing.assert_close(outputs.variance, logits.var(0, correction=0))
    torch.testing.assert_close(outputs.aleatoric, noise.expand(29, 5))
    with pytest.raises(ValueError, match="need targets"):
        _ = gaussian_sums_of_outputs(logits, noise_variance=noise).log_density


@pytest.mark.parametrize("sizes", [(37,), (1, 36), (36, 1), (10, 20, 7), (1,) * 37])
def test_chunks_merge_to_the_whole(sizes: tuple[int, ...]) -> None:
    h, weight, bias = make_layer((37, 29, 13, 4))
    chunks = list(zip(h.split(sizes), weight.split(sizes), bias.split(sizes), strict=True))
    merged = class_sums(*chunks[0])
    for chunk in chunks[1:]:
        merged = merged.merge(class_sums(*chunk))
    assert_close(merged, class_sums(h, weight, bias), 1e-12)
    y = torch.zeros(29, 2, dtype=torch.float64)
    one = gaussian_sums(*chunks[0], noise_variance=None, targets=y)
    for chunk in chunks[1:]:
        one = one.merge(gaussian_sums(*chunk, noise_variance=None, targets=y))
    assert_close(one, gaussian_sums(h, weight, bias, noise_variance=None, targets=y), 1e-12)
    if len(chunks) > 1:
        with pytest.raises(ValueError, match="same targets"):
            one.merge(gaussian_sums(*chunks[0], noise_variance=None))


@pytest.mark.parametrize("budget", [1, 1000, 40_000, 1 << 30])
def test_result_does_not_depend_on_the_block(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = MLPLayout((4, 9, 6, 4))
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(19, layout.n_params, generator=generator, dtype=torch.float64)
    x = torch.randn(333, 4, generator=generator, dtype=torch.float64)
    layer, y = make_layer((19, 333, 5, 4)), torch.zeros(333, 2, dtype=torch.float64)

    def everything() -> list[ClassSums | GaussianSums]:
        return [
            mlp_class_sums(weights, x, layout),
            mlp_gaussian_sums(weights, x, layout, noise_variance=None, targets=y),
            class_sums(*layer),
            gaussian_sums(*layer, noise_variance=None, targets=y),
        ]

    whole = everything()
    monkeypatch.setattr(reference, "CPU_OUTPUT_BYTES", budget)
    monkeypatch.setattr(reference, "CPU_BLOCK_BYTES", budget)
    for ours, expected in zip(everything(), whole, strict=True):
        assert_close(ours, expected, 1e-12)


def test_uniform_and_certain_predictions() -> None:
    sums = class_sums_of_logits(torch.full((6, 3, 10), 2.5))
    torch.testing.assert_close(sums.probs, torch.full((3, 10), 0.1, dtype=torch.float64))
    assert sums.variance.max() <= 1e-16
    torch.testing.assert_close(sums.aleatoric, torch.full((3,), math.log(10), dtype=torch.float64))
    # One class has all the weight, the others none: not even the log of a float32 is left.
    logits = torch.zeros(4, 2, 3)
    logits[..., 0] = 1000.0
    sums = class_sums_of_logits(logits)
    assert (sums.aleatoric == 0).all()
    assert (sums.probs == torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)).all()
    torch.testing.assert_close(sums.log_probs[:, 1:], torch.full((2, 2), -1000.0, dtype=torch.float64))
    logits[..., 1] = -math.inf
    sums = class_sums_of_logits(logits)
    assert (sums.log_probs[:, 1] <= -9e29).all()
    assert not any(value.isnan().any() for value in vars(sums).values() if isinstance(value, Tensor))


def test_variance_survives_a_large_mean() -> None:
    """Sums of squares would lose it in float32: the spread is a ten-thousandth of the mean."""
    outputs = 1000 + 0.1 * torch.randn(500, 3, 2, generator=torch.Generator().manual_seed(1))
    sums = gaussian_sums_of_outputs(outputs, noise_variance=torch.ones(2))
    torch.testing.assert_close(sums.variance, outputs.double().var(0, correction=0), rtol=1e-4, atol=0)


def test_nan_of_one_row_stays_there() -> None:
    logits = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(1))
    logits[2, 1, 0] = torch.nan
    sums = class_sums_of_logits(logits)
    assert sums.probs[1].isnan().all()
    assert sums.entropy.isnan().tolist() == [False, True, False, False]


def test_compiles_without_a_break() -> None:
    layout = MLPLayout((3, 6, 2))
    weights, x = torch.randn(5, layout.n_params), torch.randn(4, 3)

    def probabilities(x: Tensor) -> Tensor:
        first, second = mlp_class_sums(weights[:2], x, layout), mlp_class_sums(weights[2:], x, layout)
        return first.merge(second).probs

    compiled = torch.compile(probabilities, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), probabilities(x))


def test_refuses_what_does_not_fit() -> None:
    h, weight, bias = make_layer((5, 4, 3, 2))
    layout, weights = MLPLayout((3, 6, 2)), torch.randn(5, 38, dtype=torch.float64)
    noise, y = torch.ones(2, dtype=torch.float64), torch.zeros(4, 2, dtype=torch.float64)
    for call, word in (
        (lambda: class_sums(h[:2], weight, bias), "inputs must be"),
        (lambda: class_sums(h, weight.clone().requires_grad_(), bias), "no autograd"),
        (lambda: class_sums_of_logits(h[:0]), "no axis empty"),
        (lambda: class_sums_of_logits(h.clone().requires_grad_()), "no autograd"),
        (lambda: class_sums(h, weight, bias, impl="fast"), "impl"),
        (lambda: gaussian_sums(h, weight, bias, noise_variance=noise[:1]), "noise_variance must be"),
        (lambda: gaussian_sums(h, weight, bias, noise_variance=None, targets=y), "targets must be"),
        (lambda: gaussian_sums_of_outputs(h, noise_variance=None), "pairs of outputs"),
        (lambda: gaussian_sums(h, weight, bias, noise_variance=noise, targets=y.float()), "targets must be"),
        (lambda: mlp_class_sums(weights[:, 1:], h[0], layout), "weights must be"),
        (lambda: mlp_class_sums(weights, h[0].float(), layout), "share a float dtype"),
        (lambda: mlp_gaussian_sums(weights, h[0, :, :2], layout, noise_variance=noise), "x must be"),
    ):
        with pytest.raises(ValueError, match=word):
            call()


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where the kernels cannot run")
def test_fused_that_cannot_run_says_why() -> None:
    layer = make_layer((5, 4, 3, 2))
    with pytest.raises(RuntimeError, match="cannot run: "):
        class_sums(*layer, impl="fused")
    with pytest.raises(RuntimeError, match="cannot run: "):
        gaussian_sums(*layer, noise_variance=None, impl="fused")
