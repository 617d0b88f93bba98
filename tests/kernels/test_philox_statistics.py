"""The counter-based numbers as random numbers: distribution, and independence of neighbouring counters."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fiberbnn_kernels import philox_normal, philox_uniform
from fiberbnn_kernels.philox import reference


def test_moments_and_distribution() -> None:
    n = 2_000_000
    draws = philox_normal(1000, n // 1000, seed=1, step=0, stream=0).double().flatten()
    # Standard errors of the mean, variance, skewness and fourth moment of n normals.
    assert abs(draws.mean()) < 4 / math.sqrt(n)
    assert abs(draws.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((draws**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((draws**4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert kolmogorov_distance(torch.special.ndtr(draws)) < 1.95


def kolmogorov_distance(probabilities: Tensor) -> float:
    """Return sqrt(n) times the largest distance to the uniform; above 1.95 once in a thousand."""
    ordered, n = probabilities.sort().values, len(probabilities)
    grid = torch.arange(n + 1, dtype=torch.float64) / n
    return float(torch.maximum(grid[1:] - ordered, ordered - grid[:-1]).max()) * math.sqrt(n)


@pytest.mark.parametrize("what", ["element", "quad", "particle", "step", "stream", "seed", "seed_high"])
def test_neighbours_are_independent(what: str) -> None:
    def draw(shift: int) -> Tensor:
        def at(name: str) -> int:
            return shift if what == name else 0

        seed = 5 + at("seed") + (at("seed_high") << 40)
        rows = philox_normal(200, 1008, seed=seed, step=at("step"), stream=at("stream"), particle0=at("particle"))
        skip = 4 * at("quad") + at("element")
        return rows[:, skip : skip + 1000].double().flatten()

    a, b = draw(0), draw(1)
    assert not torch.equal(a, b)
    # Four standard errors, also of the squares: the pairs of Box-Muller share a radius.
    for x, y, spread in ((a, b, 1.0), (a**2 - 1, b**2 - 1, 2.0), (a, b**2 - 1, math.sqrt(2))):
        assert abs((x * y).mean()) < 4 * spread / math.sqrt(len(a))


def test_uniforms_are_uniform_and_inside_the_open_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 500_000
    uniform = philox_uniform(n, seed=3, step=1, stream=2)
    assert uniform.shape == (n,)
    assert kolmogorov_distance(uniform.double()) < 1.95
    chunks = [philox_uniform(n // 2, seed=3, step=1, stream=2, particle0=p) for p in (0, n // 2)]
    assert torch.equal(torch.cat(chunks), uniform)
    assert torch.equal(philox_uniform(n, seed=3, step=1, stream=2, dtype=torch.float64), uniform.double())
    for word, expected in ((0, 2.0**-24), (reference.WORD, 1 - 2.0**-24)):
        words = (np.array([word], dtype=np.uint64),) * 4
        monkeypatch.setattr(reference, "philox_4x32", lambda counter, seed, words=words: words)
        assert philox_uniform(1, seed=0, step=0, stream=0).item() == expected
