"""The two halves of a BAOAB step: what they compute, what they leave alone, and how they reach torch."""

import math
import os

import pytest
import torch
from torch import Tensor

from fiberbnn.moves import baoab
from fiberbnn.walk_state import WalkState
from fiberbnn_kernels import philox_normal
from fiberbnn_kernels.langevin_step import langevin_close, langevin_open, reference

SETTINGS = {"step_size": 0.3, "friction": 0.2, "seed": 2**40 + 1, "step": 5, "stream": 1, "particle0": 7}


def make_inputs(k: int, p: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, ...]:
    """Positions, velocities, gradients [K, P] and a scale [P]."""
    rows = [philox_normal(k, p, seed=seed, step=i, stream=90, dtype=dtype) for i in range(3)]
    return *rows, philox_normal(1, p, seed=seed, step=3, stream=90, dtype=dtype)[0].abs() + 0.1


class Quartic:
    """An energy with a gradient that differs from place to place: sum x^4/4 + x^2/2."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x**4 / 4 + x**2 / 2).sum(dim=1), x**3 + x


@pytest.mark.parametrize(("k", "p"), [(1, 1), (3, 17), (2, 4), (5, 1003)])
def test_the_step_is_the_textbooks(k: int, p: int) -> None:
    x, v, g, m = make_inputs(k, p)
    decay = torch.linspace(0.5, 1.5, k, dtype=torch.float64)
    h, gamma = SETTINGS["step_size"], SETTINGS["friction"]
    new_x, new_v, energies = langevin_open(x, v, g, m, added_decay=decay, **SETTINGS)
    xi = philox_normal(k, p, seed=2**40 + 1, step=5, stream=1, particle0=7, dtype=torch.float64)
    kicked = v - h / 2 * m * g
    refreshed = math.exp(-gamma * h) * decay[:, None] * kicked + math.sqrt(1 - math.exp(-2 * gamma * h)) * xi
    close = {"rtol": 1e-13, "atol": 1e-13}
    torch.testing.assert_close(new_v, refreshed, **close)
    torch.testing.assert_close(new_x, x + h / 2 * m * (kicked + refreshed), **close)
    expected = torch.stack([(u**2).sum(1) / 2 for u in (v, kicked, refreshed)], dim=1)
    torch.testing.assert_close(energies, expected, **close)
    closing = langevin_close(new_v, g, m, step_size=h)
    torch.testing.assert_close(new_v, refreshed - h / 2 * m * g, **close)
    torch.testing.assert_close(closing, (new_v**2).sum(1) / 2, **close)


@pytest.mark.parametrize(("dtype", "budget"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_the_walk_takes_the_same_step(dtype: torch.dtype, budget: float) -> None:
    x, v, _, m = make_inputs(4, 1003, dtype)
    energy, h, gamma = Quartic(), 0.02, 0.3
    value, gradient = energy.value_and_grad(x)
    state = WalkState(x, v, value, gradient, 9, torch.tensor([0.0, 0.4, -0.2, 1.0], dtype=dtype))
    walked, error, heat = baoab(state, energy, m, h, gamma, 3, 11)
    counter = {"seed": 3, "step": 9, "stream": 1, "particle0": 11}
    added_decay = torch.exp(-h * state.added_friction)
    new_x, new_v, kinetic = langevin_open(
        x, v, gradient, m, step_size=h, friction=gamma, added_decay=added_decay, **counter
    )
    value, gradient = energy.value_and_grad(new_x)
    closing = langevin_close(new_v, gradient, m, step_size=h)
    torch.testing.assert_close(new_x, walked.particles, rtol=budget, atol=budget)
    torch.testing.assert_close(new_v, walked.velocity, rtol=budget, atol=budget)
    torch.testing.assert_close(2 * kinetic[:, 2] / 1003, heat.double(), rtol=budget, atol=0)
    ours = value - state.energy + closing - kinetic[:, 2] + kinetic[:, 1] - kinetic[:, 0]
    # Differences of energies of thousands of nats.
    torch.testing.assert_close(ours, error.double(), rtol=0, atol=1000 * budget)


def test_single_precision_is_within_its_budget_of_double() -> None:
    inputs = make_inputs(3, 2051, torch.float32)
    single = langevin_open(*inputs, **SETTINGS)
    exact = langevin_open(*(t.double() for t in inputs), **SETTINGS)
    assert [t.dtype for t in single] == [torch.float32, torch.float32, torch.float64]
    for ours, right in zip(single[:2], exact[:2], strict=True):
        assert (ours - right).abs().max() <= 4 * torch.finfo(torch.float32).eps * right.abs().max()
    torch.testing.assert_close(single[2], exact[2], rtol=1e-6, atol=0)


def test_inputs_stay_and_the_snapshot_holds_the_new_positions() -> None:
    inputs = make_inputs(3, 6)
    copies = [t.clone() for t in inputs]
    trajectory = torch.full((4, 3, 6), torch.nan, dtype=torch.float64)
    new_x, new_v, _ = langevin_open(*inputs, snapshot=trajectory[2], **SETTINGS)
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))
    assert torch.equal(trajectory[2], new_x)
    assert trajectory[[0, 1, 3]].isnan().all()
    assert torch.equal(langevin_open(*inputs, **SETTINGS)[1], new_v)
    # Any strides will do where nothing is written.
    apart = [t.repeat_interleave(2, dim=-1)[..., ::2] for t in inputs]
    assert torch.equal(langevin_open(*apart, **SETTINGS)[0], new_x)


def test_chunks_of_particles_step_as_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    x, v, g, m = make_inputs(7, 1003)
    decay = torch.rand(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = langevin_open(x, v, g, m, added_decay=decay, **SETTINGS)
    monkeypatch.setattr(reference, "NOISE_BYTES", 2 * 1003 * 8)
    for rows in ([slice(0, 7)], [slice(0, 3), slice(3, 4), slice(4, 7)]):
        parts = [
            langevin_open(
                x[r], v[r], g[r], m, added_decay=decay[r], **{**SETTINGS, "particle0": SETTINGS["particle0"] + r.start}
            )
            for r in rows
        ]
        for one, several in zip(whole, zip(*parts, strict=True), strict=True):
            assert torch.equal(one, torch.cat(several))


def test_no_friction_adds_no_noise_and_empty_shapes_work() -> None:
    x, v, g, m = make_inputs(2, 5)
    _, new_v, kinetic = langevin_open(x, v, torch.zeros_like(g), m, **{**SETTINGS, "friction": 0.0})
    assert torch.equal(new_v, v)
    assert torch.equal(kinetic[:, 0], kinetic[:, 2])
    for shape in ((0, 3), (3, 0)):
        nothing = torch.zeros(shape)
        outputs = langevin_open(nothing, nothing, nothing, torch.ones(shape[1]), **SETTINGS)
        assert [t.shape for t in outputs] == [shape, shape, (shape[0], 3)]
        assert outputs[2].eq(0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"velocity": torch.zeros(2, 4)}, r"velocity must be \[2, 3\]"),
        ({"grad": torch.zeros(2, 3, dtype=torch.float64)}, "grad must be .*float32"),
        ({"scale": torch.zeros(1, 3)}, r"scale must be \[3\]"),
        ({"particles": torch.zeros(2, 3, dtype=torch.int64)}, "must be float32 or float64"),
        ({"particles": torch.zeros(3)}, r"must be \[K, P\]"),
        ({"particles": torch.zeros(2, 3, requires_grad=True)}, "no autograd formula"),
        ({"snapshot": torch.zeros(3, 2).T}, "snapshot is overwritten and must be contiguous"),
        ({"added_decay": torch.zeros(3)}, r"added_decay must be \[2\]"),
        ({"step_size": -0.1}, "step_size must"),
        ({"step_size": math.inf}, "step_size must"),
        ({"step_size": torch.ones(2)}, "step_size must be one number"),
        ({"friction": math.nan}, "friction must"),
        ({"seed": -1}, "seed must"),
        ({"step": 2**32}, "steps must"),
        ({"particle0": 2**32 - 1}, "particles must"),
        ({"impl": "triton"}, "impl must"),
    ],
)
def test_bad_input_is_refused_in_words(change: dict[str, object], message: str) -> None:
    zeros = {name: torch.zeros(2, 3) for name in ("particles", "velocity", "grad")}
    with pytest.raises(ValueError, match=message):
        langevin_open(**{**zeros, "scale": torch.ones(3), **SETTINGS, **change})


def test_closing_refuses_what_it_cannot_overwrite() -> None:
    with pytest.raises(ValueError, match="velocity is overwritten"):
        langevin_close(torch.zeros(3, 2).T, torch.zeros(2, 3), torch.ones(3), step_size=0.1)
    with pytest.raises(ValueError, match="grad must be"):
        langevin_close(torch.zeros(2, 3), torch.zeros(2, 4), torch.ones(3), step_size=0.1)


def step_and_close(x: Tensor, v: Tensor, g: Tensor, m: Tensor, h: float | Tensor, step: int) -> tuple[Tensor, ...]:
    snapshot = torch.zeros_like(x)
    x, v, kinetic = langevin_open(x, v, g, m, step_size=h, friction=0.2, seed=3, step=step, stream=1, snapshot=snapshot)
    return x, v, kinetic, langevin_close(v, g, m, step_size=h), snapshot


@pytest.mark.parametrize(("boxed", "backend"), [(False, "eager"), (True, "eager"), (True, "aot_eager")])
def test_compiles_without_a_break_and_without_a_graph_for_every_step(boxed: bool, backend: str) -> None:
    """Beyond Dynamo torch makes a constant of every Python float, so a step size that varies goes in a box."""
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(step_and_close, fullgraph=True, backend=backend)
    inputs = make_inputs(3, 5, torch.float32)
    for step in range(8):
        h = 0.1 + 0.01 * step
        ours = compiled(*inputs, torch.tensor(h, dtype=torch.float64) if boxed else h, step)
        assert all(torch.equal(a, b) for a, b in zip(ours, step_and_close(*inputs, h, step), strict=True))
    assert 1 <= torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3


def test_fused_is_for_single_precision_only() -> None:
    with pytest.raises(RuntimeError, match=r"float32 only; got torch\.float64"):
        langevin_open(*make_inputs(2, 3), **SETTINGS, impl="fused")


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where the kernel cannot run")
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter runs it")
def test_fused_that_cannot_run_says_why() -> None:
    x, v, g, m = make_inputs(2, 3, torch.float32)
    with pytest.raises(RuntimeError, match="cannot run: "):
        langevin_open(x, v, g, m, **SETTINGS, impl="fused")
    with pytest.raises(RuntimeError, match="cannot run: "):
        langevin_close(v, g, m, step_size=0.1, impl="fused")
