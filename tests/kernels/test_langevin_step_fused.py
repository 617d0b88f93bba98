"""The Triton kernels of the BAOAB step against the reference in double precision: on a GPU, or in the interpreter."""

import math
import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from fiberbnn_kernels import philox_normal
from fiberbnn_kernels.langevin_step import api, langevin_close, langevin_open

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="no GPU and not TRITON_INTERPRET=1"),
]
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
EPS = torch.finfo(torch.float32).eps
# One element, ragged, one quad, one full block, blocks and a rest with and without a multiple of 4.
SHAPES = [(1, 1), (3, 17), (2, 4), (5, 1024), (2, 1028), (1, 2051), (4, 130)]
COUNTER = {"seed": 2**40 + 7, "step": 5, "stream": 16, "particle0": 2**32 - 40}
SETTINGS = {"step_size": 0.3, "friction": 0.4, **COUNTER}


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Let torch fill what it allocates without a value with NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3, device=DEVICE).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)


def make_inputs(k: int, p: int) -> tuple[Tensor, ...]:
    """Positions, velocities, gradients [K, P], a scale [P] and added decays [K]."""
    rows = [philox_normal(k, p, seed=0, step=i, stream=90, device=DEVICE, impl="reference") for i in range(3)]
    scale = philox_normal(1, p, seed=0, step=3, stream=90, device=DEVICE, impl="reference")[0].abs() + 0.1
    return *rows, scale, torch.linspace(0.5, 1.5, k, device=DEVICE)


@pytest.mark.parametrize(("k", "p"), SHAPES)
@pytest.mark.parametrize("options", [False, True])
def test_opening_is_within_its_budget_of_double_precision(k: int, p: int, options: bool) -> None:
    """Four roundings of the sizes that are added, for each element."""
    *inputs, decay = make_inputs(k, p)
    x, v, g, m = (t.double() for t in inputs)
    trajectory = torch.full((3, k, p), torch.nan, device=DEVICE)
    extra = {"added_decay": decay, "snapshot": trajectory[1]} if options else {}
    new_x, new_v, energies = langevin_open(*inputs, **SETTINGS, **extra, impl="fused")
    exact = langevin_open(x, v, g, m, added_decay=decay.double() if options else None, **SETTINGS, impl="reference")
    half, a = 0.5 * SETTINGS["step_size"], math.exp(-SETTINGS["step_size"] * SETTINGS["friction"])
    xi = philox_normal(k, p, **COUNTER, dtype=torch.float64, device=DEVICE, impl="reference")
    kicked = v.abs() + half * m * g.abs()
    refreshed = a * kicked * (decay[:, None] if options else 1.0) + math.sqrt(1 - a * a) * xi.abs()
    assert ((new_v - exact[1]).abs() <= 4 * EPS * refreshed).all()
    assert ((new_x - exact[0]).abs() <= 4 * EPS * (x.abs() + half * m * (kicked + refreshed))).all()
    # Energies are exact sums of the kernel's own velocities.
    after_kick = inputs[1].clone()
    langevin_close(after_kick, *inputs[2:], step_size=SETTINGS["step_size"], impl="fused")
    for i, velocity in enumerate((inputs[1], after_kick, new_v)):
        torch.testing.assert_close(energies[:, i], velocity.double().square().sum(1) / 2, rtol=1e-14, atol=0)
    torch.testing.assert_close(energies, exact[2], rtol=1e-5, atol=0)
    if options:
        assert torch.equal(trajectory[1], new_x)
        assert trajectory[[0, 2]].isnan().all()


@pytest.mark.parametrize(("k", "p"), SHAPES)
def test_closing_is_within_its_budget_of_double_precision(k: int, p: int) -> None:
    """In the middle of poisoned memory, of which nothing else is touched; also from an odd address."""
    _, v, g, m, _ = make_inputs(k, p)
    for start in (1, 4):
        buffer = torch.full((k * p + 4096,), torch.nan, device=DEVICE)
        inside = buffer[start : start + k * p].view(k, p).copy_(v)
        energy = langevin_close(inside, g, m, step_size=0.3, impl="fused")
        assert buffer[:start].isnan().all()
        assert buffer[start + k * p :].isnan().all()
        exact = v.double() - 0.15 * g.double() * m.double()
        assert ((inside - exact).abs() <= 2 * EPS * (v.abs() + 0.15 * g.abs() * m)).all()
        torch.testing.assert_close(energy, inside.double().square().sum(1) / 2, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    "counter", [COUNTER, {"seed": 0, "step": 0, "stream": 0, "particle0": 0},
                {"seed": 2**63 - 1, "step": 2**32 - 1, "stream": 2**32 - 1, "particle0": 2**31 - 2}]
)  # fmt: skip
def test_noise_is_philoxs_bit_for_bit(counter: dict[str, int]) -> None:
    """With no velocity left, what is new is the noise alone."""
    for k, p in SHAPES:
        zeros = torch.zeros(k, p, device=DEVICE)
        settings = {"step_size": 1.0, "friction": 1e4, **counter}
        _, new_v, _ = langevin_open(zeros, zeros, zeros, torch.ones(p, device=DEVICE), **settings, impl="fused")
        assert torch.equal(new_v, philox_normal(k, p, **counter, device=DEVICE, impl="reference"))


def test_particles_in_chunks_step_as_all_of_them() -> None:
    """Bit for bit, energies too: what decides about a particle must not depend on its neighbours."""
    x, v, g, m, decay = make_inputs(7, 3001)
    settings = {**SETTINGS, "impl": "fused"}
    whole = langevin_open(x, v, g, m, added_decay=decay, **settings)
    parts = []
    for r in (slice(0, 1), slice(1, 4), slice(4, 7)):
        settings["particle0"] = SETTINGS["particle0"] + r.start
        parts.append(langevin_open(x[r], v[r], g[r], m, added_decay=decay[r], **settings))
    for one, several in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(one, torch.cat(several))
    closing = langevin_close(whole[1], g, m, step_size=0.3, impl="fused")
    parts = [langevin_close(part[1], g[r], m, step_size=0.3, impl="fused") for part, r in zip(
        parts, (slice(0, 1), slice(1, 4), slice(4, 7)), strict=True)]  # fmt: skip
    assert torch.equal(closing, torch.cat(parts))


@pytest.mark.parametrize("p", [1028, 2051])
def test_blocks_do_not_show(p: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor in how many pieces the parts of the energies are added, but for the last bits of double precision."""
    from fiberbnn_kernels.langevin_step import fused as kernels

    x, v, g, m, _ = make_inputs(2, p)
    results = []
    for (block, warps), total in zip(((32, 1), (64, 1), (128, 2), (256, 4)), (2, 4, 1024, 1024), strict=True):
        monkeypatch.setattr(kernels, "block_for", lambda _, choice=(block, warps): choice)
        monkeypatch.setattr(kernels, "TOTAL_BLOCK", total)
        results.append(langevin_open(x, v, g, m, **SETTINGS, impl="fused"))
    for new_x, new_v, energies in results[1:]:
        assert torch.equal(new_x, results[0][0])
        assert torch.equal(new_v, results[0][1])
        torch.testing.assert_close(energies, results[0][2], rtol=1e-14, atol=0)


def test_the_same_call_gives_the_same_bits() -> None:
    *inputs, decay = make_inputs(*((3, 2051) if INTERPRETED else (64, 200_003)))
    first = langevin_open(*inputs, added_decay=decay, **SETTINGS, impl="fused")
    for _ in range(2 if INTERPRETED else 20):
        again = langevin_open(*inputs, added_decay=decay, **SETTINGS, impl="fused")
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_empty_shapes_work() -> None:
    for shape in ((0, 3), (3, 0)):
        nothing, scale = torch.zeros(shape, device=DEVICE), torch.ones(shape[1], device=DEVICE)
        outputs = langevin_open(nothing, nothing, nothing, scale, **SETTINGS, impl="fused")
        assert [t.shape for t in outputs] == [shape, shape, (shape[0], 3)]
        assert outputs[2].eq(0).all()
        assert langevin_close(nothing, nothing, scale, step_size=0.1, impl="fused").eq(0).all()


def test_fused_operators_are_registered_soundly() -> None:
    *inputs, decay = make_inputs(3, 7)
    h = torch.tensor(0.1, dtype=torch.float64)
    for extra in ((None, None), (decay, torch.zeros(3, 7, device=DEVICE))):
        arguments = (*inputs, *extra, h, 0.2, 1, 2, 3, 4, True)
        assert set(torch.library.opcheck(api._open_op, arguments).values()) == {"SUCCESS"}
    assert set(torch.library.opcheck(api._close_op, (*inputs[1:], h, True)).values()) == {"SUCCESS"}


def test_copies_under_vmap_are_the_rows_of_one_launch() -> None:
    x, v, g, scale, _ = make_inputs(6, 17)
    whole = langevin_open(x, v, g, scale, **SETTINGS, impl="fused")
    copies = [t.view(2, 3, 17) for t in (x, v, g)]
    mapped = torch.vmap(lambda x, v, g: langevin_open(x, v, g, scale, **SETTINGS, impl="fused"))(*copies)
    assert all(torch.equal(a.flatten(0, 1), b) for a, b in zip(mapped, whole, strict=True))
    kicked, kicked_copies = v.clone(), v.clone().view(2, 3, 17)
    energy = langevin_close(kicked, g, scale, step_size=0.3, impl="fused")
    close = torch.vmap(lambda v, g: langevin_close(v, g, scale, step_size=0.3, impl="fused"))
    assert torch.equal(close(kicked_copies, copies[2]).flatten(), energy)
    assert torch.equal(kicked_copies.flatten(0, 1), kicked)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_rows_beyond_the_reach_of_32_bits() -> None:
    """K P = 2^31 + 2^29: elements of the last row are as those of the same row alone."""
    k, p = 5, 2**29
    if torch.cuda.mem_get_info()[0] < 7 * 4 * k * p:
        pytest.skip("not enough memory for six tensors of ten gigabytes")
    x = torch.ones(k, p, device=DEVICE)
    scale = torch.ones(p, device=DEVICE)
    new_x, new_v, _ = langevin_open(x, x, x, scale, **SETTINGS, impl="fused")
    alone = {**SETTINGS, "particle0": SETTINGS["particle0"] + k - 1}
    last = langevin_open(x[-1:], x[-1:], x[-1:], scale, **alone, impl="fused")
    assert torch.equal(new_x[-1:], last[0])
    assert torch.equal(new_v[-1:], last[1])
