"""The Triton kernels of the predictive sums against float64: on a GPU, or in the interpreter if it was chosen."""

import os
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from fiberbnn_kernels import MLPLayout
from fiberbnn_kernels.predictive import (
    ClassSums,
    GaussianSums,
    api,
    class_sums,
    class_sums_of_logits,
    gaussian_sums,
    gaussian_sums_of_outputs,
    mlp_class_sums,
    mlp_gaussian_sums,
    perceptron,
)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="no GPU and not TRITON_INTERPRET=1"),
]
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
EPS = torch.finfo(torch.float32).eps
# (S, N, H, C): several chunks and row blocks, every tile, ragged sizes, and sizes of one.
SIZES = [(19, 67, 13, 5), (11, 33, 17, 20), (9, 35, 5, 40), (9, 17, 3, 64), (1, 3, 2, 2), (9, 1, 1, 1), (1, 1, 1, 1)]

_empty = torch.empty


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries of new memory that no kernel writes show as NaN."""
    monkeypatch.setattr(torch, "empty", lambda *size, **options: _empty(*size, **options).fill_(torch.nan))


def make_layer(size: tuple[int, ...], *, factor: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    n_samples, n_rows, n_hidden, n_out = size
    generator = torch.Generator().manual_seed(3)
    shapes = ((n_samples, n_rows, n_hidden), (n_samples, factor * n_out, n_hidden), (n_samples, factor * n_out))
    h, weight, bias = (torch.randn(shape, generator=generator).to(DEVICE) for shape in shapes)
    return h, weight, bias


def doubled(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(t.double() for t in tensors)


def assert_error_is_that_of_float32(
    fused: ClassSums | GaussianSums, plain: ClassSums | GaussianSums, exact: ClassSums | GaussianSums, n_summed: int
) -> None:
    """Twice the error of plain torch, and the rounding of products, exponentials and sums over a chunk."""
    for name, value in vars(exact).items():
        if isinstance(value, Tensor):
            mine = getattr(fused, name)
            assert mine.dtype == torch.float64
            budget = 2 * (getattr(plain, name) - value).abs().max()
            budget += EPS * (8 + n_summed**0.5) * value.abs().max().clamp_min(1)
            assert (mine - value).abs().max() <= budget, name


@pytest.mark.parametrize("size", SIZES)
def test_class_sums(size: tuple[int, ...]) -> None:
    layer = make_layer(size)
    exact = class_sums(*doubled(layer), impl="reference")
    plain = class_sums(*layer, impl="reference")
    n_summed = size[0] + size[2]
    assert_error_is_that_of_float32(class_sums(*layer, impl="fused"), plain, exact, n_summed)
    logits = torch.baddbmm(layer[2][:, None], layer[0], layer[1].mT)
    exact, plain = class_sums_of_logits(logits.double(), impl="reference"), class_sums_of_logits(logits)
    assert_error_is_that_of_float32(class_sums_of_logits(logits, impl="fused"), plain, exact, n_summed)
    shared = (layer[0][0], *layer[1:])
    exact, plain = class_sums(*doubled(shared), impl="reference"), class_sums(*shared, impl="reference")
    assert_error_is_that_of_float32(class_sums(*shared, impl="fused"), plain, exact, n_summed)


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("predicted_noise", [False, True])
@pytest.mark.parametrize("size", SIZES[:3] + SIZES[4:])
def test_gaussian_sums(size: tuple[int, ...], predicted_noise: bool, with_targets: bool) -> None:
    layer = make_layer(size, factor=1 + predicted_noise)
    generator = torch.Generator().manual_seed(4)
    noise = None if predicted_noise else (0.3 + torch.rand(size[3], generator=generator)).to(DEVICE)
    targets = torch.randn(size[1], size[3], generator=generator).to(DEVICE) if with_targets else None
    options = {"noise_variance": noise, "targets": targets}
    exact_options = {name: None if value is None else value.double() for name, value in options.items()}
    outputs = torch.baddbmm(layer[2][:, None], layer[0], layer[1].mT)
    for call, arguments in ((gaussian_sums, layer), (gaussian_sums_of_outputs, (outputs,))):
        exact = call(*doubled(arguments), **exact_options, impl="reference")
        plain = call(*arguments, **options, impl="reference")
        fused = call(*arguments, **options, impl="fused")
        assert (fused.log_density_sum is None) == (targets is None)
        assert_error_is_that_of_float32(fused, plain, exact, size[0] + size[2])


@pytest.mark.parametrize("limits", [(1, 1, 3, 12), (1 << 20, 1 << 20, 64, 64)])
@pytest.mark.parametrize("widths", [(7, 11, 3), (2, 16, 16, 2), (5, 4), (1, 1, 1)])
def test_perceptrons(widths: tuple[int, ...], limits: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, limits)
    layout = MLPLayout(widths)
    generator = torch.Generator().manual_seed(9)
    weights = torch.randn(5, layout.n_params, generator=generator).to(DEVICE)
    x = torch.randn(31, widths[0], generator=generator).to(DEVICE)
    inputs, n_summed = (weights, x), 5 + max(widths)
    exact, plain = mlp_class_sums(*doubled(inputs), layout), mlp_class_sums(*inputs, layout, impl="reference")
    assert_error_is_that_of_float32(mlp_class_sums(*inputs, layout, impl="fused"), plain, exact, n_summed)
    noise = torch.full((widths[-1],), 0.7, device=DEVICE)
    y = torch.randn(31, widths[-1], generator=generator).to(DEVICE)
    plain = mlp_gaussian_sums(*inputs, layout, noise_variance=noise, targets=y, impl="reference")
    fused = mlp_gaussian_sums(*inputs, layout, noise_variance=noise, targets=y, impl="fused")
    exact = mlp_gaussian_sums(*doubled(inputs), layout, noise_variance=noise.double(), targets=y.double())
    assert_error_is_that_of_float32(fused, plain, exact, n_summed)


def limit(monkeypatch: pytest.MonkeyPatch, limits: tuple[int, ...]) -> None:
    from fiberbnn_kernels.predictive import fused_perceptron

    for name, value in zip(("HIDDEN_BYTES", "SUMS_BYTES", "MIN_GROUP", "MIN_ROWS"), limits, strict=True):
        monkeypatch.setattr(fused_perceptron, name, value)


def test_results_do_not_depend_on_how_rows_and_samples_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs have eight samples each in both cases; then no more than the last merge is rounded differently."""
    from fiberbnn_kernels.predictive import fused_perceptron

    layout = MLPLayout((3, 5, 4))
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(43, layout.n_params, generator=generator).to(DEVICE)
    x, y = torch.randn(70, 3, generator=generator).to(DEVICE), torch.randn(70, 2, generator=generator).to(DEVICE)

    def found() -> tuple[ClassSums, GaussianSums]:
        classes = mlp_class_sums(weights, x, layout, impl="fused")
        return classes, mlp_gaussian_sums(weights, x, layout, noise_variance=None, targets=y, impl="fused")

    whole, plan = found(), fused_perceptron.plan_for(43, 70, layout, 4)
    assert plan[:3] == (70, 43, 8)
    limit(monkeypatch, (1, 8000, 16, 35))
    plan = fused_perceptron.plan_for(43, 70, layout, 4)
    assert plan == (35, 16, 8, 32)
    for together, divided in zip(whole, found(), strict=True):
        for name, value in vars(together).items():
            torch.testing.assert_close(getattr(divided, name), value, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("hidden", "launches", "merges"), [(4, 22, 2), (64, 352, 22)])
def test_many_samples_and_rows_take_few_merges(
    hidden: int, launches: int, merges: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Activations of all samples are far more than a cache holds: as many launches as that takes, merged by pieces."""
    from fiberbnn_kernels.predictive import fused, fused_perceptron

    calls = {"layer": 0, "class": 0, "merge": 0}
    merged = fused.Classes.merged

    def layer(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
        calls["layer"] += 1
        return x.new_empty(1).expand(len(weight), len(x), hidden)

    def launch(self: object, layer: tuple[Tensor, ...], rows: slice, chunk: int, parts: object) -> None:
        calls["class"] += 1

    def merge(self: fused.Classes, parts: fused.Parts, n_samples: int, chunk: int) -> ClassSums:
        calls["merge"] += 1
        return merged(self, parts, n_samples, chunk)

    monkeypatch.setattr(fused_perceptron, "linear_act", layer)
    monkeypatch.setattr(fused.Classes, "launch", launch)
    monkeypatch.setattr(fused.Classes, "merged", merge)
    layout = MLPLayout((1, hidden, 2))
    weights, x = torch.zeros(1, 1, device=DEVICE).expand(1000, layout.n_params), torch.zeros(32_768, 1, device=DEVICE)
    sums = mlp_class_sums(weights, x, layout, impl="fused")
    assert sums.probs.shape == (32_768, 2)
    assert calls == {"layer": launches, "class": launches, "merge": merges}


def mutual_information(sums: ClassSums) -> Tensor:
    return torch.special.entr(sums.probs).sum(dim=1) - sums.aleatoric


@pytest.mark.parametrize(("n_samples", "n_classes"), [(2, 2), (9, 40), (70, 10)])
def test_mutual_information_is_right_where_samples_hardly_differ(n_samples: int, n_classes: int) -> None:
    """It is some 1e-7 there, less than the rounding of the entropies whose difference it is.

    The budget is that of float32 probabilities: it grows with the samples' distance, the square root.
    """
    generator = torch.Generator().manual_seed(6)
    same = 3 * torch.randn(17, n_classes, generator=generator).to(DEVICE)
    same[0, 1:] = -200.0
    none = mutual_information(class_sums_of_logits(same.expand(n_samples, -1, -1).contiguous(), impl="fused"))
    assert none.abs().max() <= 1e-13
    for size in (1e-3, 0.1, 10.0):
        logits = same + size * torch.randn(n_samples, 17, n_classes, generator=generator).to(DEVICE)
        exact = mutual_information(class_sums_of_logits(logits.double(), impl="reference"))[1:]
        error = (mutual_information(class_sums_of_logits(logits, impl="fused"))[1:] - exact).abs()
        assert (error <= 4 * EPS * exact.sqrt() + 1e-6 * exact).all()


def test_underflow_and_infinite_logits() -> None:
    logits = torch.zeros(12, 2, 3, device=DEVICE)
    logits[..., 0] = 500.0
    sums = class_sums_of_logits(logits, impl="fused")
    assert (sums.aleatoric == 0).all()
    torch.testing.assert_close(sums.log_probs[:, 1:].cpu(), torch.full((2, 2), -500.0, dtype=torch.float64))
    logits[..., 1] = -torch.inf
    sums = class_sums_of_logits(logits, impl="fused")
    assert (sums.log_probs[:, 1] <= -9e29).all()
    assert not any(value.isnan().any() for value in vars(sums).values() if isinstance(value, Tensor))


def test_nan_of_one_row_stays_there() -> None:
    logits = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    logits[2, 1, 0] = torch.nan
    sums = class_sums_of_logits(logits, impl="fused")
    assert sums.probs[1].isnan().all()
    assert sums.log_sum[1].isnan().all()
    assert sums.entropy.isnan().tolist() == [False, True, False, False]


def test_the_same_bits_every_time() -> None:
    layer = make_layer((70, 40, 5, 3))
    first, second = vars(class_sums(*layer, impl="fused")), vars(class_sums(*layer, impl="fused"))
    assert all(torch.equal(value, second[name]) for name, value in first.items() if isinstance(value, Tensor))


def test_what_the_kernel_cannot_do_is_refused_in_words() -> None:
    layer = make_layer((2, 3, 2, 65))
    with pytest.raises(RuntimeError, match="up to 64 outputs"):
        class_sums(*layer, impl="fused")
    with pytest.raises(RuntimeError, match="float32"):
        class_sums(*doubled(make_layer((2, 3, 2, 2))), impl="fused")
    assert class_sums(*layer).probs.shape == (3, 65)


def test_fused_operators_are_registered_soundly() -> None:
    h, weight, bias = make_layer((5, 4, 3, 2))
    layout, y, noise = MLPLayout((3, 6, 2)), torch.zeros(4, 2, device=DEVICE), torch.ones(2, device=DEVICE)
    weights = torch.ones(5, layout.n_params, device=DEVICE)
    for op, arguments in (
        (api._class_sums_op, (h, weight, bias, True)),
        (api._gaussian_sums_op, (h, weight, bias, noise, y, True)),
        (api._gaussian_sums_op, (h, weight, bias, None, None, True)),
        (perceptron._mlp_class_sums_op, (weights, h[0], layout.widths, "tanh", True)),
        (perceptron._mlp_gaussian_sums_op, (weights, h[0], layout.widths, "relu", None, y[:, :1], True)),
    ):
        assert set(torch.library.opcheck(op, arguments).values()) == {"SUCCESS"}


def test_default_dtype_changes_nothing() -> None:
    layer = make_layer((9, 6, 4, 2))
    expected = [class_sums(*layer, impl="fused"), gaussian_sums(*layer, noise_variance=None, impl="fused")]
    torch.set_default_dtype(torch.float16)
    try:
        found = [class_sums(*layer, impl="fused"), gaussian_sums(*layer, noise_variance=None, impl="fused")]
    finally:
        torch.set_default_dtype(torch.float32)
    for mine, other in zip(found, expected, strict=True):
        assert all(torch.equal(v, getattr(other, k)) for k, v in vars(mine).items() if isinstance(v, Tensor))
