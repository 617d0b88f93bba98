"""The flat part of a BAOAB step, on both sides of its gradient, against the same in eager torch.

Work: opening reads x, v, g [K, P] and the scale [P] and writes x and v; closing reads v, g and the scale and writes v.
Energies are no more than a few numbers a particle. Budget: 1e-6 of the length, of energies 1e-5, which float32 sums of
millions need. Methods with torch's own noise are compared without friction, which has none, and their noise by its
variance.
"""

from functools import lru_cache, partial

import pytest
import torch
from torch import Tensor

from bench.speed.ceilings import Work
from bench.speed.compiled import compiled
from bench.speed.exact import require_close, require_standard_normal
from bench.speed.problems import FLOAT
from fiberbnn_kernels import langevin_close, langevin_open

SIZES = {"cpu": (1 << 16, 1 << 20, 1 << 24), "cuda": (1 << 20, 1 << 24, 100_000_000)}
PARTICLES, STEP, FRICTION, BUDGET, ENERGY_BUDGET = 8, 0.1, 0.5, 1e-6, 1e-5
METHODS = ("fiberbnn", "eager", "compiled", "reference")
COUNTER = {"seed": 1, "step": 2, "stream": 3}
Flat = tuple[Tensor, Tensor, Tensor, Tensor]


def inputs(n_numbers: int, device: torch.device) -> Flat:
    torch.manual_seed(0)
    x, v, g = (torch.randn(PARTICLES, n_numbers // PARTICLES, device=device) for _ in range(3))
    return x, v, g, torch.rand(x.shape[1], device=device) + 0.5


def particle(tensors: Flat, k: int) -> Flat:
    """One of them in float64, on the CPU."""
    x, v, g, m = (tensor.cpu() if tensor.ndim == 1 else tensor[k : k + 1].cpu() for tensor in tensors)
    return x.double(), v.double(), g.double(), m.double()


@lru_cache(maxsize=4)
def exact_open(n_numbers: int, device: torch.device, k: int, friction: float) -> tuple[Tensor, Tensor, Tensor]:
    alone = particle(inputs(n_numbers, device), k)
    return langevin_open(*alone, step_size=STEP, friction=friction, particle0=k, **COUNTER, impl="reference")


def eager_open(x: Tensor, v: Tensor, g: Tensor, m: Tensor, decay: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    kicked = v - 0.5 * STEP * m * g
    place = x + 0.5 * STEP * m * kicked
    refreshed = decay * kicked + (1 - decay * decay).sqrt() * torch.randn_like(kicked)
    place = place + 0.5 * STEP * m * refreshed
    energies = [0.5 * velocity.square().sum(1) for velocity in (v, kicked, refreshed)]
    return place, refreshed, torch.stack(energies, 1)


def eager_close(v: Tensor, g: Tensor, m: Tensor) -> Tensor:
    v -= 0.5 * STEP * m * g
    return 0.5 * v.square().sum(1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", range(3))
def test_open(measure, sizes, device, number, method) -> None:
    n_numbers = sizes(SIZES, number)
    tensors = inputs(n_numbers, device)
    friction = FRICTION
    if method in ("fiberbnn", "reference"):
        skip_reference(method, device)
        impl = "auto" if method == "fiberbnn" else "reference"
        function = partial(langevin_open, *tensors, step_size=STEP, friction=FRICTION, **COUNTER, impl=impl)
    else:
        way, decay = eager_open, torch.exp(torch.tensor(-STEP * FRICTION, device=device))
        if method == "compiled":
            if number != 1:
                pytest.skip("compiled at one size")
            way = compiled(eager_open, device, *tensors, decay)
        function, friction = partial(way, *tensors, decay), 0.0

    def check(found: tuple[Tensor, Tensor, Tensor]) -> None:
        if friction == 0.0:
            noise = found[1] - decay * (tensors[1] - 0.5 * STEP * tensors[3] * tensors[2])
            require_standard_normal("noise", noise / (1 - decay * decay).sqrt())
            found = way(*tensors, torch.ones_like(decay))
        for k in (0, PARTICLES - 1):
            exact = exact_open(n_numbers, device, k, friction)
            budgets = {"place": BUDGET, "velocity": BUDGET, "energies": ENERGY_BUDGET}
            for (name, budget), one, other in zip(budgets.items(), found, exact, strict=True):
                require_close(name, one[k : k + 1].cpu(), other, budget)

    work = Work(FLOAT * (5 * n_numbers + n_numbers // PARTICLES))
    measure(f"BAOAB before the gradient, {n_numbers:,} numbers", method, function, work, check)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", range(3))
def test_close(measure, sizes, device, number, method) -> None:
    n_numbers = sizes(SIZES, number)
    tensors = inputs(n_numbers, device)
    _, v, g, m = tensors
    if method in ("fiberbnn", "reference"):
        skip_reference(method, device)
        way = partial(langevin_close, step_size=STEP, impl="auto" if method == "fiberbnn" else "reference")
    elif method == "eager":
        way = eager_close
    else:
        if number != 1:
            pytest.skip("compiled at one size")
        way = compiled(eager_close, device, v.clone(), g, m)
    moving = v.clone()

    def check(energy: Tensor) -> None:
        for k in (0, PARTICLES - 1):
            _, exact, slope, scale = particle(tensors, k)
            require_close(
                "energy", energy[k : k + 1].cpu(), langevin_close(exact, slope, scale, step_size=STEP), BUDGET
            )
            require_close("velocity", moving[k : k + 1].cpu(), exact, BUDGET)

    work = Work(FLOAT * (3 * n_numbers + n_numbers // PARTICLES))
    measure(f"BAOAB after the gradient, {n_numbers:,} numbers", method, partial(way, moving, g, m), work, check)


def skip_reference(method: str, device: torch.device) -> None:
    if method == "reference" and device.type != "cuda":
        pytest.skip("on the CPU it is what fiberbnn takes")
