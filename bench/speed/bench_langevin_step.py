"""The flat part of a BAOAB step, on both sides of its gradient, against the same in eager torch."""

import pytest
import torch

from bench.speed.problems import synchronised
from fiberbnn_kernels import langevin_close, langevin_open

SIZES = {"cpu": (1 << 16, 1 << 20), "cuda": (1 << 20, 1 << 24, 1 << 27)}
PARTICLES, STEP, FRICTION = 8, 0.1, 0.5


@pytest.mark.parametrize("method", ["fiberbnn", "eager"])
@pytest.mark.parametrize("number", range(3))
def test_step(benchmark, device, number, method) -> None:
    sizes = SIZES[device.type]
    if number >= len(sizes):
        pytest.skip("as many sizes as this device has")
    shape = (PARTICLES, sizes[number] // PARTICLES)
    x, v, g = (torch.randn(shape, device=device) for _ in range(3))
    m = torch.rand(shape[1], device=device) + 0.5

    def ours() -> torch.Tensor:
        place, velocity, _ = langevin_open(x, v, g, m, step_size=STEP, friction=FRICTION, seed=1, step=0, stream=1)
        langevin_close(velocity, g, m, step_size=STEP)
        return place

    def eager() -> torch.Tensor:
        decay = torch.exp(torch.tensor(-STEP * FRICTION, device=device))
        velocity = v - 0.5 * STEP * m * g
        place = x + 0.5 * STEP * m * velocity
        velocity = decay * velocity + (1 - decay * decay).sqrt() * torch.randn_like(velocity)
        place = place + 0.5 * STEP * m * velocity
        velocity = velocity - 0.5 * STEP * m * g
        velocity.square().sum(1)
        return place

    # Another noise: what both leave alone is compared, the spread of the particles.
    torch.testing.assert_close(ours().std(), eager().std(), rtol=0.02, atol=0.0)
    benchmark.group = f"BAOAB without its gradient, {sizes[number]:,} numbers"
    benchmark(synchronised(ours if method == "fiberbnn" else eager, device))
