"""Gradient steps of the literal mode: torch's own optimizers are the yardstick."""

import math

import pytest
import torch
from torch import Tensor

from fiberbnn.moves import literal
from fiberbnn.walk_state import WalkSettings, WalkState
from fiberbnn_kernels import philox_normal
from fiberbnn_kernels.langevin_step import optimizer_step, perturb, reference

RULES = {"sgd": (), "momentum": ("first",), "adam": ("first", "second")}


def draw(k: int, p: int, what: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return philox_normal(k, p, seed=0, step=what, stream=91, dtype=dtype)


def torchs(rule: str, z: Tensor) -> torch.optim.Optimizer:
    """Torch's optimizer of the rule, with rate 0.1, beta1 0.8 and prior precision 0.3."""
    if rule == "adam":
        return torch.optim.Adam([z], lr=0.1, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.3)
    return torch.optim.SGD([z], lr=0.1, momentum=0.8 if rule == "momentum" else 0.0, weight_decay=0.3)


@pytest.mark.parametrize("rule", RULES)
def test_steps_are_those_of_torch(rule: str) -> None:
    """Ten steps down a quartic whose gradient is x^3."""
    ours, theirs = draw(3, 17, 0), draw(3, 17, 0).requires_grad_()
    moments = {name: torch.zeros_like(ours) for name in RULES[rule]}
    optimizer_of_torch = torchs(rule, theirs)
    settings = {"rule": rule, "learning_rate": 0.1, "betas": (0.8, 0.99), "eps": 1e-6, "prior_precision": 0.3}
    for t in range(1, 11):
        theirs.grad = theirs.detach() ** 3
        optimizer_of_torch.step()
        optimizer_step(ours, ours**3, update=t, **settings, **moments)
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_a_scale_makes_it_a_step_in_preconditioned_coordinates(rule: str) -> None:
    """x = M z: a step of torch's on z, whose energy's gradient is M g and whose prior is that of x."""
    x, m = draw(3, 17, 0), draw(1, 17, 1)[0].abs() + 0.1
    z = (x / m).requires_grad_()
    moments = {name: torch.zeros_like(x) for name in RULES[rule]}
    on_z = torchs(rule, z)
    on_z.param_groups[0]["weight_decay"] = 0.0
    settings = {"rule": rule, "learning_rate": 0.1, "betas": (0.8, 0.99), "eps": 1e-6, "prior_precision": 0.3}
    for t in range(1, 6):
        at = m * z.detach()
        z.grad = m * (at**3 + 0.3 * at)
        on_z.step()
        optimizer_step(x, x**3, update=t, scale=m, **settings, **moments)
        torch.testing.assert_close(x, m * z.detach(), rtol=1e-11, atol=1e-11)


def test_the_snapshot_is_taken_before_the_perturbation() -> None:
    x, g, d, m = draw(3, 17, 0), draw(3, 17, 1), draw(3, 17, 2), draw(1, 17, 3)[0]
    plain, snapshot, start = x.clone(), torch.full_like(x, torch.nan), x.clone()
    optimizer_step(plain, g, rule="sgd", learning_rate=0.1, scale=m)
    counter = {"seed": 5, "step": 6, "stream": 7, "particle0": 8}
    perturbation = {"drift": d, "drift_length": 2.0, "noise": 0.5, "scale": m, **counter}
    optimizer_step(x, g, rule="sgd", learning_rate=0.1, snapshot=snapshot, **perturbation)
    assert torch.equal(snapshot, plain)
    assert torch.equal(x, perturb(plain, **perturbation))
    xi = philox_normal(3, 17, **counter, dtype=torch.float64)
    torch.testing.assert_close(perturb(start, **perturbation), start + m * (2 * d + 0.5 * xi), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(
        perturb(start, drift=d, drift_length=2.0, noise=0.5, **counter),
        start + 2 * d + 0.5 * xi,
        rtol=1e-14,
        atol=1e-14,
    )
    assert torch.equal(perturb(start), start)


class Quartic:
    """An energy with a gradient that differs from place to place: sum x^4/4."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x**4 / 4).sum(dim=1), x**3


def test_the_literal_walk_takes_the_same_steps() -> None:
    x, d, m, h = draw(3, 17, 0), draw(3, 17, 1), draw(1, 17, 2)[0].abs(), 0.2
    settings = WalkSettings(drift="literal", drift_length=0.7, perturbation=0.1, refine_steps=3, refine_noise=0.4)
    value, gradient = Quartic().value_and_grad(x)
    state = WalkState(x, d, value, gradient, 4, torch.zeros(3, dtype=torch.float64))
    walked, _ = literal(state, Quartic(), settings, m, h, 3, 11)
    counter = {"seed": 3, "step": 4, "particle0": 11, "scale": m}
    ours = perturb(x, drift=d, drift_length=0.7, noise=0.1, stream=5, **counter)
    for r in range(3):
        step = {"rule": "sgd", "learning_rate": h * h / 2, "noise": 0.4 * h, "stream": 1024 + r}
        optimizer_step(ours, ours**3, **step, **counter)
    torch.testing.assert_close(ours, walked.particles, rtol=1e-13, atol=1e-13)


def test_chunks_of_particles_step_as_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    x, g = draw(7, 45, 0), draw(7, 45, 1)
    settings = {"rule": "sgd", "learning_rate": 0.1, "noise": 0.3, "seed": 1}
    whole, parts = x.clone(), x.clone()
    optimizer_step(whole, g, particle0=2, **settings)
    monkeypatch.setattr(reference, "NOISE_BYTES", 2 * 45 * 8)
    for rows in (slice(0, 3), slice(3, 7)):
        optimizer_step(parts[rows], g[rows], particle0=2 + rows.start, **settings)
    assert torch.equal(whole, parts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "lion"}, "rule must be one of"),
        ({"rule": "adam", "first": torch.zeros(2, 3)}, "adam keeps 2 moments"),
        ({"first": torch.zeros(2, 3)}, "sgd keeps 0 moments"),
        ({"rule": "momentum", "second": torch.zeros(2, 3)}, "momentum keeps 1 moments, the first"),
        ({"grad": torch.zeros(2, 4)}, "grad must be"),
        ({"drift": torch.zeros(3)}, "drift must be"),
        ({"particles": torch.zeros(3, 2).T}, "particles is overwritten"),
        ({"learning_rate": math.nan}, "learning_rate must"),
        ({"noise": -1.0}, "noise must"),
        ({"drift_length": torch.ones(2)}, "drift_length must be one number"),
        ({"prior_precision": -1.0}, "prior_precision must"),
        ({"eps": -1.0}, "eps must"),
        ({"betas": (1.0, 0.9)}, "betas must"),
        ({"update": 0}, "updates count from 1"),
        ({"seed": -1}, "seed must"),
        ({"impl": "triton"}, "impl must"),
    ],
)
def test_bad_input_is_refused_in_words(change: dict[str, object], message: str) -> None:
    inputs = {"particles": torch.zeros(2, 3), "grad": torch.zeros(2, 3), "rule": "sgd", "learning_rate": 0.1}
    with pytest.raises(ValueError, match=message):
        optimizer_step(**{**inputs, **change})


def descend(x: Tensor, g: Tensor, rate: float | Tensor, update: int) -> tuple[Tensor, Tensor]:
    first, second, x = torch.zeros_like(x), torch.zeros_like(x), perturb(x, drift=g, drift_length=rate)
    settings = {"rule": "adam", "update": update, "step": update, "learning_rate": rate, "noise": rate}
    optimizer_step(x, g, first=first, second=second, **settings)
    return x, second


@pytest.mark.parametrize(("boxed", "backend"), [(False, "eager"), (True, "eager"), (True, "aot_eager")])
def test_compiles_without_a_break_and_without_a_graph_for_every_step(boxed: bool, backend: str) -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(descend, fullgraph=True, backend=backend)
    x, g = draw(3, 5, 0), draw(3, 5, 1)
    for update in range(1, 9):
        rate = 0.1 / update
        ours = compiled(x, g, torch.tensor(rate, dtype=torch.float64) if boxed else rate, update)
        assert all(torch.equal(a, b) for a, b in zip(ours, descend(x, g, rate, update), strict=True))
    assert 1 <= torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3


def test_fused_is_for_single_precision_only() -> None:
    with pytest.raises(RuntimeError, match=r"float32 only; got torch\.float64"):
        perturb(torch.zeros(2, 3, dtype=torch.float64), impl="fused")
