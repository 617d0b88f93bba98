"""The layer and the sums over samples under `torch.vmap`: the loop over copies, in one call where one does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fiberbnn_kernels import (
    ClassSums,
    GaussianSums,
    MLPLayout,
    class_sums,
    class_sums_of_logits,
    gaussian_sums,
    gaussian_sums_of_outputs,
    linear_act,
    mlp_class_sums,
    mlp_gaussian_sums,
)
from fiberbnn_kernels.linear_act import reference as layer_reference
from fiberbnn_kernels.predictive import reference

B, S, N, H, C = 3, 5, 7, 4, 2
LAYOUT = MLPLayout((H, 6, C))
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def draw(*shape: int, what: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(what), dtype=torch.float64)


def tensors(sums: ClassSums | GaussianSums) -> tuple[Tensor, ...]:
    return tuple(value for value in vars(sums).values() if isinstance(value, Tensor))


def gaussian(h: Tensor, w: Tensor, b: Tensor, v: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return tensors(gaussian_sums(h, w, b, noise_variance=v.exp(), targets=y))


def mlp_gaussian(w: Tensor, x: Tensor, v: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return tensors(mlp_gaussian_sums(w, x, LAYOUT, noise_variance=v.exp(), targets=y))


# What is called, the shapes of one copy's tensors, and which of them may be rows of one call.
CALLS = [
    pytest.param(lambda *a: tensors(class_sums(*a)), [(S, N, H), (S, C, H), (S, C)], (0,), id="classes"),
    pytest.param(lambda *a: tensors(class_sums(*a)), [(N, H), (S, C, H), (S, C)], (0,), id="classes of shared inputs"),
    pytest.param(lambda x: tensors(class_sums_of_logits(x)), [(S, N, C)], (0,), id="logits"),
    pytest.param(gaussian, [(S, N, H), (S, C, H), (S, C), (C,), (N, C)], (0, 4), id="gaussian"),
    pytest.param(gaussian, [(N, H), (S, C, H), (S, C), (C,), (N, C)], (0, 4), id="gaussian of shared inputs"),
    pytest.param(
        lambda f: tensors(gaussian_sums_of_outputs(f, noise_variance=None)), [(S, N, C)], (0,), id="outputs, no targets"
    ),
    pytest.param(
        lambda w, x: tensors(mlp_class_sums(w, x, LAYOUT)), [(S, LAYOUT.n_params), (N, H)], (1,), id="perceptron"
    ),
    pytest.param(mlp_gaussian, [(S, LAYOUT.n_params), (N, H), (C,), (N, C)], (1, 3), id="gaussian perceptron"),
]
Call = Callable[..., tuple[Tensor, ...]]


def assert_is_the_loop(call: Call, shapes: list[tuple[int, ...]], dims: tuple[int | None, ...]) -> None:
    """Compare with the calls for each copy; dims say on which axes the tensors are mapped."""
    given = [
        draw(*s, what=i) if d is None else draw(B, *s, what=i)
        for i, (s, d) in enumerate(zip(shapes, dims, strict=True))
    ]
    moved = [t if d is None else t.movedim(0, d).contiguous() for t, d in zip(given, dims, strict=True)]
    mapped = torch.vmap(call, in_dims=dims)(*moved)
    copies = [call(*(t if d is None else t[b] for t, d in zip(given, dims, strict=True))) for b in range(B)]
    for ours, expected in zip(mapped, zip(*copies, strict=True), strict=True):
        torch.testing.assert_close(ours, torch.stack(expected), **CLOSE)


@pytest.mark.parametrize(("call", "shapes", "rows"), CALLS)
def test_sums_are_the_loop_over_copies(call: Call, shapes: list[tuple[int, ...]], rows: tuple[int, ...]) -> None:
    """Each tensor by itself, all that are rows, and all there are."""
    n = len(shapes)
    for some in [*({at} for at in range(n)), set(rows), set(range(n))]:
        for dim in (0, 1, -1):
            assert_is_the_loop(call, shapes, tuple(dim if at in some else None for at in range(n)))


@pytest.mark.parametrize(("call", "shapes", "rows"), CALLS)
def test_sets_of_inputs_are_one_call_and_sets_of_weights_one_each(
    call: Call, shapes: list[tuple[int, ...]], rows: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("class_sums", "gaussian_sums", "mlp_class_sums", "mlp_gaussian_sums"):
        whole = getattr(reference, name)
        monkeypatch.setattr(reference, name, lambda *a, whole=whole: calls.append("") or whole(*a))
    for mapped, expected in (set(rows), 1), (set(range(len(shapes))), 1 if len(rows) == len(shapes) else B):
        calls.clear()
        given = [draw(*((B, *shape) if at in mapped else shape)) for at, shape in enumerate(shapes)]
        torch.vmap(call, in_dims=tuple(0 if at in mapped else None for at in range(len(shapes))))(*given)
        assert len(calls) == expected


@pytest.mark.parametrize("weights_inside", [False, True])
def test_nested_sets_of_weights_and_of_inputs(weights_inside: bool) -> None:
    w, x = draw(B, S, LAYOUT.n_params), draw(2, N, H, what=1)

    def log_sum(w: Tensor, x: Tensor) -> Tensor:
        return mlp_class_sums(w, x, LAYOUT).log_sum

    if weights_inside:
        mapped = torch.vmap(torch.vmap(log_sum, (0, None)), (None, 0))(w, x).transpose(0, 1)
    else:
        mapped = torch.vmap(torch.vmap(log_sum, (None, 0)), (0, None))(w, x)
    for i in range(B):
        for j in range(2):
            torch.testing.assert_close(mapped[i, j], log_sum(w[i], x[j]), **CLOSE)


@pytest.mark.parametrize("shared", [False, True])
def test_nested_layers(shared: bool) -> None:
    x, w, b = draw(2, *((N, H) if shared else (S, N, H))), draw(B, S, C, H, what=1), draw(B, S, C, what=2)
    layer = torch.vmap(torch.vmap(lambda x, w, b: linear_act(x, w, b, "silu"), (None, 0, 0)), (0, None, None))
    mapped = layer(x, w, b)
    for i in range(2):
        for j in range(B):
            torch.testing.assert_close(mapped[i, j], linear_act(x[i], w[j], b[j], "silu"), **CLOSE)


def test_sets_of_inputs_of_a_layer_are_rows_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights are then not repeated."""
    x, w, b = draw(B, N, H), draw(S, C, H, what=1), draw(S, C, what=2)
    seen = []
    whole = layer_reference.linear_act
    monkeypatch.setattr(layer_reference, "linear_act", lambda *a: seen.append([t.shape for t in a[:2]]) or whole(*a))
    assert torch.vmap(lambda x: linear_act(x, w, b))(x).shape == (B, S, N, C)
    assert seen == [[(B * N, H), (S, C, H)]]


def test_compiles_under_vmap_without_a_break() -> None:
    w, b, x = draw(S, C, H, what=1), draw(S, C, what=2), draw(B, N, H)

    def predict(x: Tensor) -> Tensor:
        return torch.vmap(lambda x: class_sums(linear_act(x, w, b, "tanh"), w[:, :, :C], b).probs)(x)

    torch.compiler.reset()
    compiled = torch.compile(predict, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), predict(x), **CLOSE)
