"""Normal numbers of the counter against torch's generator, which is another one.

Work: every number is written once, 4 bytes. Budget: none, the definition's bits; of torch's numbers mean and variance.
"""

from functools import partial

import pytest
import torch
from torch import Tensor

from bench.speed.ceilings import Work
from bench.speed.compiled import needs_cuda
from bench.speed.exact import require_equal, require_standard_normal
from fiberbnn_kernels import philox_normal

PARTICLES = 16
SIZES = {"cpu": (1 << 14, 1 << 20), "cuda": (1 << 20, 100_000_000)}
SETTINGS = {"seed": 1, "step": 2, "stream": 3}


@pytest.mark.parametrize("method", ["fiberbnn", "torch.randn", "reference"])
@pytest.mark.parametrize("number", range(2))
def test_normals(measure, sizes, device, number, method) -> None:
    n_numbers = sizes(SIZES, number)
    shape = PARTICLES, n_numbers // PARTICLES
    if method == "torch.randn":
        function, check = partial(torch.randn, shape, device=device), partial(require_standard_normal, "torch.randn")
    else:
        if method == "reference":
            needs_cuda(device)
            if number:
                pytest.skip("the reference makes them on the CPU, slowly")
        impl = "auto" if method == "fiberbnn" else "reference"
        function = partial(philox_normal, *shape, **SETTINGS, device=device, impl=impl)

        def check(found: Tensor) -> None:
            for row in (0, PARTICLES - 1):
                expected = philox_normal(1, shape[1], particle0=row, impl="reference", device="cpu", **SETTINGS)
                require_equal(f"row {row}", found[row : row + 1], expected)

    measure(f"normal numbers, {n_numbers:,}", method, function, Work(4 * n_numbers), check)
