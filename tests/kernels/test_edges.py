"""Strides, empty axes, dtypes, devices and gradients: what each operation does at the edges of its inputs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fiberbnn_kernels import (
    MLPLayout,
    class_sums,
    class_sums_of_logits,
    decode,
    gaussian_sums,
    gaussian_sums_of_outputs,
    langevin_close,
    langevin_open,
    linear_act,
    mlp_class_sums,
    mlp_gaussian_sums,
    optimizer_step,
    perturb,
    philox_uniform,
)

K, P, S, N, H, C = 3, 6, 5, 7, 4, 2
LAYOUT = MLPLayout((H, 3, C))
COUNTER = {"seed": 1, "step": 2, "stream": 3}


def opening(x: Tensor, v: Tensor, g: Tensor, m: Tensor, decay: Tensor) -> tuple[Tensor, ...]:
    return langevin_open(x, v, g, m, added_decay=decay, step_size=0.1, friction=0.2, **COUNTER)


def closing(v: Tensor, g: Tensor, m: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        v = v.detach().clone(memory_format=torch.contiguous_format)
    return v, langevin_close(v, g, m, step_size=0.1)


def stepping(x: Tensor, g: Tensor, m: Tensor, d: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        x = x.detach().clone(memory_format=torch.contiguous_format)
    optimizer_step(x, g, rule="sgd", learning_rate=0.1, scale=m, drift=d, drift_length=0.3, noise=0.2, **COUNTER)
    return (x,)


def perturbing(x: Tensor, m: Tensor, d: Tensor) -> tuple[Tensor, ...]:
    return (perturb(x, scale=m, drift=d, drift_length=0.3, noise=0.2, **COUNTER),)


def tensors(sums: Any) -> tuple[Tensor, ...]:
    return tuple(value for value in vars(sums).values() if isinstance(value, Tensor))


def gaussian(h: Tensor, w: Tensor, b: Tensor, v: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return tensors(gaussian_sums(h, w, b, noise_variance=v, targets=y))


def of_outputs(f: Tensor, v: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return tensors(gaussian_sums_of_outputs(f, noise_variance=v, targets=y))


def mlp_gaussian(w: Tensor, x: Tensor, v: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return tensors(mlp_gaussian_sums(w, x, LAYOUT, noise_variance=v, targets=y))


LAYER = [(S, N, H), (S, C, H), (S, C)]
FLAT = [(S, LAYOUT.n_params), (N, H)]
# What is called, and the shapes of its tensors.
CALLS = {
    "open": (opening, [(K, P), (K, P), (K, P), (P,), (K,)]),
    "close": (closing, [(K, P), (K, P), (P,)]),
    "step": (stepping, [(K, P), (K, P), (P,), (K, P)]),
    "perturb": (perturbing, [(K, P), (P,), (K, P)]),
    "layer": (lambda *t: (linear_act(*t, "gelu"),), LAYER),
    "layer of shared inputs": (lambda *t: (linear_act(*t, "relu"),), [(N, H), *LAYER[1:]]),
    "classes": (lambda *t: tensors(class_sums(*t)), LAYER),
    "logits": (lambda f: tensors(class_sums_of_logits(f)), [(S, N, C)]),
    "gaussian": (gaussian, [*LAYER, (C,), (N, C)]),
    "outputs": (of_outputs, [(S, N, C), (C,), (N, C)]),
    "perceptron": (lambda *t: tensors(mlp_class_sums(*t, LAYOUT)), FLAT),
    "gaussian perceptron": (mlp_gaussian, [*FLAT, (C,), (N, C)]),
    "decode": (lambda *t: (decode(*t),), [(P,), (P, 2), (S, 2)]),
}
Call = Callable[..., tuple[Tensor, ...]]


def inputs_of(name: str, dtype: torch.dtype = torch.float64) -> tuple[Call, list[Tensor]]:
    """The call and positive numbers of its shapes."""
    call, shapes = CALLS[name]
    generator = torch.Generator().manual_seed(0)
    return call, [torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype) + 0.1 for shape in shapes]


def spread(tensor: Tensor) -> Tensor:
    """The same numbers, no two of which lie side by side, first axes innermost, with NaN between."""
    wide = torch.full((*(2 * n for n in reversed(tensor.shape)), 2), torch.nan, dtype=tensor.dtype)
    place = wide[..., 0].permute(*reversed(range(tensor.ndim)))[tuple(slice(None, None, 2) for _ in tensor.shape)]
    place.copy_(tensor)
    return place


@pytest.mark.parametrize("name", CALLS)
def test_strides_do_not_matter(name: str) -> None:
    call, inputs = inputs_of(name)
    apart = [spread(t) for t in inputs]
    assert not any(t.is_contiguous() for t in apart)
    for ours, expected in zip(call(*apart), call(*inputs), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-13)
    for t, as_it_was in zip(apart, inputs, strict=True):
        assert torch.equal(t, as_it_was)


@pytest.mark.parametrize("name", CALLS)
def test_results_have_the_dtype_of_the_inputs_or_more(name: str) -> None:
    """Single precision is right to its own digits; sums over samples and energies are float64 anyway."""
    call, inputs = inputs_of(name)
    for single, double in zip(call(*(t.float() for t in inputs)), call(*inputs), strict=True):
        assert double.dtype == torch.float64
        assert single.dtype in (torch.float32, torch.float64)
        torch.testing.assert_close(single.double(), double, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", CALLS)
def test_tensors_elsewhere_are_named_with_both_devices(name: str) -> None:
    call, inputs = inputs_of(name)
    for at in range(1, len(inputs)):
        some = [t.to("meta") if i == at else t for i, t in enumerate(inputs)]
        with pytest.raises(ValueError, match=r"(?s)cpu.*meta"):
            call(*some)


@pytest.mark.parametrize("name", CALLS)
def test_other_dtypes_are_refused_by_name(name: str) -> None:
    call, inputs = inputs_of(name)
    for at in range(1, len(inputs)):
        if (name, at) == ("open", 4):  # decays are taken in any dtype
            continue
        some = [t.float() if i == at else t for i, t in enumerate(inputs)]
        with pytest.raises(ValueError, match=r"(?s)float64.*float32|float32.*float64"):
            call(*some)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "decode"])
def test_gradients_are_refused_unless_they_are_off(name: str) -> None:
    call, inputs = inputs_of(name)
    # Closing and stepping detach what they overwrite.
    for at in range(name in ("close", "step"), len(inputs)):
        some = [t.clone().requires_grad_() if i == at else t for i, t in enumerate(inputs)]
        with pytest.raises(ValueError, match="no autograd formula"):
            call(*some)
        with torch.no_grad():
            assert not any(t.requires_grad for t in call(*some))


def test_boxed_numbers_have_no_gradients_either() -> None:
    x, h = torch.ones(2, 3), torch.tensor(0.1, requires_grad=True)
    with pytest.raises(ValueError, match="no autograd formula"):
        perturb(x, noise=h)
    with pytest.raises(ValueError, match="no autograd formula"):
        langevin_close(x, x, x[0], step_size=h)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_no_particles_and_no_weights(shape: tuple[int, int]) -> None:
    x, m = torch.zeros(shape), torch.ones(shape[1])
    for rule, moments in (("sgd", ()), ("momentum", ("first",)), ("adam", ("first", "second"))):
        kept = {name: torch.zeros(shape) for name in moments}
        optimizer_step(x, x.clone(), rule=rule, learning_rate=0.1, noise=1.0, scale=m, snapshot=x.clone(), **kept)
    assert perturb(x, drift=x, drift_length=1.0, noise=1.0, scale=m).shape == shape
    assert langevin_close(x, x.clone(), m, step_size=0.1).tolist() == [0.0] * shape[0]
    assert philox_uniform(shape[0], **COUNTER).shape == shape[:1]


def test_no_samples_to_decode() -> None:
    assert decode(torch.zeros(4), torch.zeros(4, 2), torch.zeros(0, 2)).shape == (0, 4)
    assert torch.equal(decode(torch.ones(4), torch.zeros(4, 0), torch.zeros(3, 0)), torch.ones(3, 4))
