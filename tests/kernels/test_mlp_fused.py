"""The gradient's kernel against the reference in float64, for every way to share the rows."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from fiberbnn_kernels import MLPLayout, mlp_nll_and_grad
from fiberbnn_kernels.mlp import api, reference
from fiberbnn_kernels.mlp.table import Launch, architecture_of, launch_for

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="no GPU and not TRITON_INTERPRET=1"),
]
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
# Rounding of float32, relative to the largest number, and of one addition more for every share.
BUDGET = 2e-6
ACTIVATIONS = ("tanh", "relu", "silu", "gelu")
# (widths, K, N): the smallest, ragged ones, a tile and one row more, every padded width, one to three hidden layers.
SIZES = [
    ((1, 1, 1), 1, 1),
    ((3, 5, 2), 3, 33),
    ((17, 33, 20, 3), 2, 37),
    ((5, 9, 7, 11, 4), 2, 32),
    ((33, 18, 30, 17, 16), 1, 19),
    ((2, 64, 64, 1), 2, 16),
    ((2, 40, 5, 6, 2), 1, 17),
]


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Memory that was not written to holds NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.zeros(3).new_empty(2, 4).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


class Case(NamedTuple):
    """Weights, data and what they mean; float32, on the CPU."""

    weights: Tensor
    x: Tensor
    y: Tensor
    layout: MLPLayout
    likelihood: str

    def fused(self, n_shares: int | None = None) -> tuple[Tensor, Tensor]:
        """The kernel's likelihoods and gradients, with so many shares or the operation's own number of them."""
        tensors = tuple(tensor.to(DEVICE) for tensor in self[:3])
        arguments = {"likelihood": self.likelihood, "noise_precision": 3.0}
        if n_shares is None:
            nll, grad = mlp_nll_and_grad(*tensors, self.layout, impl="fused", **arguments)
        else:
            from fiberbnn_kernels.mlp import fused as kernels

            nll, grad = kernels.mlp_nll_and_grad(
                *tensors, self.layout, launch=self.launch(), n_shares=n_shares, **arguments
            )
        return nll.cpu(), grad.cpu()

    def exact(self) -> tuple[Tensor, Tensor]:
        """The reference's, in float64 from the same numbers."""
        y = self.y.double() if self.likelihood == "gaussian" else self.y
        return reference.mlp_nll_and_grad(
            self.weights.double(), self.x.double(), y, self.layout, likelihood=self.likelihood, noise_precision=3.0
        )

    def launch(self) -> Launch:
        launch = launch_for(self.layout, architecture_of(DEVICE))
        assert launch is not None
        return launch


def make_case(widths: tuple[int, ...], activation: str, likelihood: str, n_particles: int, n_rows: int) -> Case:
    layout = MLPLayout(widths, activation)
    generator = torch.Generator().manual_seed(17)
    weights = 0.4 * torch.randn(n_particles, layout.n_params, generator=generator)
    x = torch.randn(n_rows, widths[0], generator=generator)
    y = torch.randn(n_rows, widths[-1], generator=generator)
    if likelihood == "categorical":
        y = torch.randint(widths[-1], (n_rows,), generator=generator)
    return Case(weights, x, y, layout, likelihood)


def assert_right(result: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor]) -> None:
    (nll, grad), (exact_nll, exact_grad) = result, exact
    assert nll.dtype == grad.dtype == torch.float32
    assert nll.shape == exact_nll.shape
    torch.testing.assert_close(nll.double(), exact_nll, rtol=BUDGET, atol=BUDGET)
    # By particle: one with large gradients must not hide another's errors.
    largest = exact_grad.abs().amax(dim=1).clamp(min=1.0)
    assert ((grad - exact_grad).abs().amax(dim=1) <= BUDGET * largest).all()


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
@pytest.mark.parametrize(("widths", "n_particles", "n_rows"), SIZES)
def test_every_size_matches_the_reference(
    widths: tuple[int, ...], n_particles: int, n_rows: int, likelihood: str
) -> None:
    activation = ACTIVATIONS[sum(widths) % 4]
    case = make_case(widths, activation, likelihood, n_particles, n_rows)
    assert_right(case.fused(), case.exact())


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_matches_the_reference(activation: str, likelihood: str) -> None:
    case = make_case((3, 6, 5, 3), activation, likelihood, 2, 35)
    assert_right(case.fused(), case.exact())


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
@pytest.mark.parametrize("n_rows", [1, 69, 256])
@pytest.mark.parametrize("n_shares", [1, 2, 7, 11])
def test_rows_may_be_shared_in_any_way(n_shares: int, n_rows: int, likelihood: str) -> None:
    """Most of 11 shares of 69 rows in tiles of 32 have no rows at all."""
    case = make_case((3, 5, 2), "tanh", likelihood, 2, n_rows)
    assert case.launch().rows == 32
    assert_right(case.fused(n_shares), case.exact())


def test_same_call_gives_the_same_bits_and_particles_do_not_see_one_another() -> None:
    case = make_case((3, 5, 4, 2), "silu", "categorical", 3, 100)
    first, again = case.fused(3), case.fused(3)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    alone = case._replace(weights=case.weights[1:2]).fused(3)
    assert all(torch.equal(a[0], b[1]) for a, b in zip(alone, first, strict=True))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the interpreter, about NaN
def test_nan_weights_stay_with_their_particle_and_labels_that_are_none_are_seen() -> None:
    case = make_case((3, 5, 2), "relu", "categorical", 3, 40)
    clean = case.fused()
    weights = case.weights.clone()
    weights[1, 0] = torch.nan
    nll, grad = case._replace(weights=weights).fused()
    assert nll.isnan().tolist() == [False, True, False]
    assert torch.equal(grad[::2], clean[1][::2])
    for label in (-1, 2):
        labels = case.y.clone()
        labels[39] = label
        assert case._replace(y=labels).fused()[0].isnan().all()


def test_inputs_may_be_strided_and_are_left_alone() -> None:
    case = make_case((4, 6, 3), "gelu", "gaussian", 3, 23)
    weights = torch.stack((case.weights, torch.full_like(case.weights, torch.nan)), dim=-1)[..., 0]
    x, y = case.x.T.contiguous().T, case.y.T.contiguous().T
    strided = case._replace(weights=weights, x=x, y=y)
    assert all(torch.equal(a, b) for a, b in zip(strided.fused(), case.fused(), strict=True))
    assert torch.equal(x, case.x)
    assert torch.equal(weights, case.weights)


def test_vmap_over_weights_is_one_call() -> None:
    case = make_case((3, 5, 2), "tanh", "categorical", 6, 40)
    x, y = case.x.to(DEVICE), case.y.to(DEVICE)

    def each(weights: Tensor) -> tuple[Tensor, Tensor]:
        return mlp_nll_and_grad(weights, x, y, case.layout, likelihood="categorical", impl="fused")

    batch = case.weights.view(2, 3, -1).to(DEVICE)
    nll, grad = torch.vmap(each)(batch)
    whole = case.fused()
    assert torch.equal(nll.flatten().cpu(), whole[0])
    assert torch.equal(grad.flatten(0, 1).cpu(), whole[1])


def test_fused_operator_is_registered_soundly_and_compiles_without_a_break() -> None:
    case = make_case((3, 5, 2), "tanh", "gaussian", 2, 9)
    tensors = tuple(tensor.to(DEVICE) for tensor in case[:3])
    arguments = (*tensors, [3, 5, 2], "tanh", "gaussian", 3.0, "fused")
    assert set(torch.library.opcheck(api._nll_and_grad_op, arguments).values()) == {"SUCCESS"}
    compiled = torch.compile(
        lambda w: mlp_nll_and_grad(
            w, *tensors[1:], case.layout, likelihood="gaussian", noise_precision=3.0, impl="fused"
        ),
        fullgraph=True,
        backend="aot_eager",
    )
    assert all(torch.equal(a.cpu(), b) for a, b in zip(compiled(tensors[0]), case.fused(), strict=True))


@pytest.mark.parametrize(("path", "fused"), [("one launch", True), ("split", True), ("batched", False)])
def test_auto_takes_the_predicted_path(path: str, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case((3, 5, 2), "tanh", "categorical", 2, 40)
    monkeypatch.setattr(api, "kernel_wanted", lambda *_: True)
    monkeypatch.setattr(api, "path_of", lambda *_: path)
    tensors = tuple(tensor.to(DEVICE) for tensor in case[:3])
    _, grad = api._nll_and_grad_op(*tensors, [3, 5, 2], "tanh", "categorical", 1.0, "auto")
    plain = reference.mlp_nll_and_grad(*tensors, case.layout, likelihood="categorical")[1]
    assert torch.equal(grad.cpu(), case.fused()[1]) == fused
    assert torch.equal(grad, plain) != fused


def test_what_the_kernel_cannot_do_is_refused_in_words() -> None:
    wide = make_case((3, 65, 2), "tanh", "categorical", 1, 5)
    with pytest.raises(RuntimeError, match="no launch for widths"):
        wide.fused()
    double = make_case((3, 5, 2), "tanh", "categorical", 1, 5)
    with pytest.raises(RuntimeError, match="float32 only"):
        double._replace(weights=double.weights.double(), x=double.x.double()).fused()


def test_small_activations_keep_their_digits() -> None:
    """With hidden features of 1e-4, the output's gradient is as small and still right to float32's rounding."""
    layout = MLPLayout((3, 5, 2))
    generator = torch.Generator().manual_seed(8)
    weights, x = torch.randn(2, layout.n_params, generator=generator), torch.randn(20, 3, generator=generator)
    _, second = layout.layers()
    weights[:, : second.weight] *= 1e-4
    case = Case(weights, x, torch.randn(20, 2, generator=generator), layout, "gaussian")
    last = slice(second.weight, second.bias)
    (_, grad), (_, exact) = case.fused(), case.exact()
    assert exact[:, last].abs().max() < 0.1
    assert (grad[:, last] - exact[:, last]).abs().max() <= BUDGET * exact[:, last].abs().max()
