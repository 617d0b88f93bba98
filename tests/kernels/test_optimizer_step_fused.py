"""The Triton kernel of the literal mode's steps against the reference in double precision: GPU or interpreter."""

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from fiberbnn_kernels import philox_normal
from fiberbnn_kernels.langevin_step import optimizer, optimizer_step, perturb

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="no GPU and not TRITON_INTERPRET=1"),
]
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
EPS = torch.finfo(torch.float32).eps
SHAPES = [(1, 1), (3, 17), (2, 4), (2, 1028), (1, 2051)]
RULES = {"sgd": (), "momentum": ("first",), "adam": ("first", "second")}
COUNTER = {"seed": 2**40 + 7, "step": 5, "stream": 16, "particle0": 2**32 - 40}


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Let torch fill what it allocates without a value with NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def draw(k: int, p: int, what: int) -> Tensor:
    return philox_normal(k, p, seed=0, step=what, stream=91, device=DEVICE, impl="reference")


@pytest.mark.parametrize(("k", "p"), SHAPES)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("options", [False, True])
def test_a_step_is_within_its_budget_of_double_precision(k: int, p: int, rule: str, options: bool) -> None:
    tensors = {"particles": draw(k, p, 0), "grad": draw(k, p, 1)}
    # A second moment that fits the first.
    tensors |= {name: draw(k, p, 2) if name == "first" else draw(k, p, 2).square() + 0.1 for name in RULES[rule]}
    if options:
        tensors |= {"scale": draw(1, p, 3)[0].abs() + 0.1, "drift": draw(k, p, 4)}
        tensors |= {"snapshot": torch.full((k, p), torch.nan, device=DEVICE)}
    settings = {"rule": rule, "learning_rate": 0.05, "update": 7, "prior_precision": 0.3, "betas": (0.8, 0.99)}
    settings |= {"drift_length": 0.7, "noise": 0.2, **COUNTER} if options else {}
    exact = {name: tensor.double() for name, tensor in tensors.items()}
    start = tensors["particles"].clone()
    optimizer_step(**tensors, **settings, impl="fused")
    optimizer_step(**exact, **settings, impl="reference")
    for name, right in exact.items():
        error, size = (tensors[name] - right).abs(), 1 + right.abs().max()
        assert error.max() <= 4 * EPS * size, name
    ours, right = tensors["particles"] - start.double(), exact["particles"] - start
    assert (ours - right).norm() <= 2e-7 * (exact["particles"].norm() + right.norm())
    assert not torch.equal(tensors["particles"], start)


def test_a_hundred_steps_of_adam_stay_on_the_path() -> None:
    x, exact = draw(2, 45, 0), draw(2, 45, 0).double()
    moments = [{name: torch.zeros_like(z) for name in RULES["adam"]} for z in (x, exact)]
    start = exact.clone()
    for t in range(1, 101):
        settings = {"rule": "adam", "learning_rate": 0.01, "update": t, "noise": 0.01, "seed": 3, "step": t}
        optimizer_step(x, x**3, **settings, **moments[0], impl="fused")
        optimizer_step(exact, exact**3, **settings, **moments[1], impl="reference")
    assert (x - exact).norm() <= 1e-5 * (exact - start).norm()


@pytest.mark.parametrize(("k", "p"), SHAPES)
def test_perturbation_is_within_its_budget_and_its_noise_philoxs(k: int, p: int) -> None:
    x, d, m = draw(k, p, 0), draw(k, p, 1), draw(1, p, 2)[0]
    moves = {"drift_length": 0.7, "noise": 0.2, **COUNTER}
    fused = perturb(x, drift=d, scale=m, **moves, impl="fused")
    exact = perturb(x.double(), drift=d.double(), scale=m.double(), **moves, impl="reference")
    assert (fused - exact).abs().max() <= 2 * EPS * (1 + exact.abs().max())
    noise = perturb(torch.zeros_like(x), noise=1.0, **COUNTER, impl="fused")
    assert torch.equal(noise, philox_normal(k, p, **COUNTER, device=DEVICE, impl="reference"))
    assert torch.equal(perturb(x, impl="fused"), x)
    assert torch.equal(perturb(x, drift=d, drift_length=0.0, impl="fused"), x)


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_written_beyond_the_rows(rule: str) -> None:
    """In the middle of poisoned memory, from an odd address and from an even one: the same bits."""
    k, p, results = 3, 130, []
    for start in (1, 4):
        buffers = {name: torch.full((k * p + 2048,), torch.nan, device=DEVICE) for name in ("particles", *RULES[rule])}
        inside = {
            name: buffer[start : start + k * p].view(k, p).copy_(draw(k, p, i).abs())
            for i, (name, buffer) in enumerate(buffers.items())
        }
        optimizer_step(**inside, grad=draw(k, p, 5), rule=rule, learning_rate=0.1, noise=0.1, impl="fused")
        for buffer in buffers.values():
            assert buffer[:start].isnan().all()
            assert buffer[start + k * p :].isnan().all()
        results.append(list(inside.values()))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_blocks_and_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    from fiberbnn_kernels.langevin_step import fused as kernels

    settings = {"rule": "sgd", "learning_rate": 0.1, "noise": 0.3, "seed": 1, "impl": "fused"}
    x, g = draw(5, 1030, 0), draw(5, 1030, 1)
    whole = x.clone()
    optimizer_step(whole, g, particle0=2, **settings)
    for block, warps in ((32, 1), (64, 1), (128, 2)):
        monkeypatch.setattr(kernels, "block_for", lambda _, choice=(block, warps): choice)
        parts = x.clone()
        for rows in (slice(0, 2), slice(2, 5)):
            optimizer_step(parts[rows], g[rows], particle0=2 + rows.start, **settings)
        assert torch.equal(parts, whole)


def test_fused_operators_are_registered_soundly() -> None:
    def box(value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64)

    x, g, d, first, second = (draw(3, 7, i).abs() for i in range(5))
    numbers = (box(0.1), 0.9, 0.99, 1e-8, 3, 0.5, box(0.2), box(0.3))
    for extra in (
        (None, None, None, None, None, "sgd"),
        (first, second, torch.zeros_like(x), torch.ones(7, device=DEVICE), d, "adam"),
    ):
        results = torch.library.opcheck(optimizer._step_op, (x, g, *extra, *numbers, 1, 2, 3, 4, True))
        assert set(results.values()) == {"SUCCESS"}
        results = torch.library.opcheck(optimizer._perturb_op, (x, *extra[3:5], *numbers[-2:], 1, 2, 3, 4, True))
        assert set(results.values()) == {"SUCCESS"}
