"""The Triton kernels against the reference, bit for bit: on a GPU, or in the interpreter if it was chosen."""

import os
from importlib.util import find_spec

import pytest
import torch

from fiberbnn_kernels import philox_normal, philox_normal_steps, philox_uniform
from fiberbnn_kernels.philox import api

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="no GPU and not TRITON_INTERPRET=1"),
]
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")


@pytest.mark.parametrize(
    ("n_particles", "n_elements", "n_steps"),
    [(1, 1, 1), (3, 17, 1), (2, 4, 3), (5, 129, 2), (2, 512, 1), (1, 1024, 2), (3, 2051, 2), (7, 46, 1)],
)
@pytest.mark.parametrize(
    ("seed", "particle0", "stream"), [(0, 0, 0), (2**40 + 7, 1, 16), (2**63 - 1, 2**32 - 40, 2**32 - 1)]
)
def test_normals_equal_the_reference(
    n_particles: int, n_elements: int, n_steps: int, seed: int, particle0: int, stream: int
) -> None:
    arguments = {"seed": seed, "stream": stream, "particle0": particle0, "steps": range(9, 9 + n_steps)}
    fused = philox_normal_steps(n_particles, n_elements, device=DEVICE, impl="fused", **arguments)
    plain = philox_normal_steps(n_particles, n_elements, impl="reference", **arguments)
    assert fused.device.type == DEVICE.type
    assert torch.equal(fused.cpu(), plain)


def test_every_bit_of_many_draws() -> None:
    """On a GPU enough draws that a rounding that differs once in a million would show."""
    size = (2, 40_001) if INTERPRETED else (64, 1_000_003)
    fused = philox_normal(*size, seed=1, step=2**32 - 1, stream=5, device=DEVICE, impl="fused")
    plain = philox_normal(*size, seed=1, step=2**32 - 1, stream=5, impl="reference")
    assert torch.equal(fused.cpu(), plain)


@pytest.mark.parametrize("n_particles", [1, 127, 128, 300])
def test_uniforms_equal_the_reference(n_particles: int) -> None:
    arguments = {"seed": 2**35, "step": 3, "stream": 4, "particle0": 2**32 - 300}
    fused = philox_uniform(n_particles, device=DEVICE, impl="fused", **arguments)
    assert torch.equal(fused.cpu(), philox_uniform(n_particles, impl="reference", **arguments))


def test_nothing_is_written_beyond_the_result() -> None:
    """Neighbouring memory is poisoned: draws into a larger buffer leave the rest alone."""
    from fiberbnn_kernels.philox import fused as kernels

    n_elements, n_rows = 37, 3
    buffer = torch.full((n_rows * n_elements + 4096,), torch.nan, device=DEVICE)
    block, warps = kernels.block_for(n_elements)
    kernels.normal_kernel[(n_rows,)](
        buffer, n_rows, n_elements, 1, 2, 3, 0, BLOCK=block, num_warps=warps, **kernels.OPTIONS
    )
    assert buffer[n_rows * n_elements :].isnan().all()
    plain = philox_normal(n_rows, n_elements, seed=1, step=2, stream=3, impl="reference")
    assert torch.equal(buffer[: n_rows * n_elements].cpu().view(n_rows, n_elements), plain)


def test_fused_operators_are_registered_soundly() -> None:
    for op, arguments in (
        (api._normal_op, (3, 7, 5, 2, 4, 1, 6, DEVICE, True, torch.empty(0))),
        (api._uniform_op, (3, 5, 2, 1, 6, DEVICE, True, torch.empty(0))),
    ):
        assert set(torch.library.opcheck(op, arguments).values()) == {"SUCCESS"}


def test_copies_under_vmap_are_the_particles_of_one_launch() -> None:
    counter = {"seed": 3, "step": 4, "stream": 5, "device": DEVICE, "impl": "fused"}
    place = torch.zeros(2, 1, 1, device=DEVICE)
    normal = torch.vmap(lambda x: x + philox_normal(3, 17, particle0=6, **counter), randomness="different")(place)
    assert torch.equal(normal.flatten(0, 1), philox_normal(6, 17, particle0=6, **counter))
    uniform = torch.vmap(lambda x: x[0] + philox_uniform(3, particle0=6, **counter), randomness="different")(place)
    assert torch.equal(uniform.flatten(), philox_uniform(6, particle0=6, **counter))


def test_default_dtype_changes_nothing() -> None:
    counter = {"seed": 3, "step": 4, "stream": 5, "device": DEVICE, "impl": "fused"}
    expected = philox_normal(3, 17, **counter), philox_uniform(3, **counter)
    torch.set_default_dtype(torch.float16)
    try:
        found = philox_normal(3, 17, **counter), philox_uniform(3, **counter)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
