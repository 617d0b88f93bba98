"""How many kernels steps compile: one for each layout of the rows, not one for each step, step size or network."""

import os
from importlib.util import find_spec
from itertools import product
from typing import Any

import pytest
import torch

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"),
]
MANY_INTS = (0, 1, 3, 16, 1024, 2**31 - 1)


def variants(kernel: Any, calls: list[tuple[tuple[object, ...], dict[str, object]]]) -> int:
    """Return how many kernels Triton would compile for the calls on an H100, which need not be here."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend
    from triton.runtime.jit import create_function_from_signature

    bind = create_function_from_signature(kernel.signature, kernel.params, make_backend(GPUTarget("cuda", 90, 32)))
    return len({str(bind(*arguments, **constants)[1]) for arguments, constants in calls})


def test_the_count_sees_a_number_that_compiles_a_kernel_of_its_own() -> None:
    from fiberbnn_kernels.langevin_step import fused

    parts = torch.zeros(4, dtype=torch.float64)
    constants = [{"BLOCK": 512}, {"BLOCK": 1024}]
    assert variants(fused.total_kernel, [((parts, parts, 3), c) for c in constants]) == 2
    assert variants(fused.total_kernel, [((parts, parts, n), constants[0]) for n in (3, 2**31)]) == 2


def test_langevin_compiles_one_kernel_whatever_the_numbers() -> None:
    from fiberbnn_kernels.langevin_step import fused

    x = torch.zeros(64)
    constants = {"ALIGNED": True, "BLOCK": 256}
    tensors = (x, x, x, x, None, x, x, None, x.double())
    opening = [
        ((*tensors, n, p, n, h, 1.0 - h, h, n, n, p, n), constants)
        for n, p, h in product(MANY_INTS, MANY_INTS, (0.0, 0.1, 1.0, 1e-9))
    ]
    assert variants(fused.open_kernel, opening) == 1
    closing = [((x, x, x, x.double(), n, p, n, h), constants) for n, p, h in product(MANY_INTS, MANY_INTS, (0.1, 1.0))]
    assert variants(fused.close_kernel, closing) == 1
    total = [((x.double(), x.double(), n), {"BLOCK": 1024}) for n in MANY_INTS]
    assert variants(fused.total_kernel, total) == 1


def test_optimizer_compiles_one_kernel_whatever_the_numbers() -> None:
    from fiberbnn_kernels.langevin_step.fused_optimizer import update_kernel

    x = torch.zeros(64)
    constants = {"RULE": "adam", "NOISE": True, "ALIGNED": True, "BLOCK": 256}
    calls = [
        ((x, x, x, x, x, None, x, None, n, p, *(h,) * 10, n, p, n, p), constants)
        for n, p, h in product(MANY_INTS, MANY_INTS, (0.0, 0.1, 1.0, 1e-9))
    ]
    assert variants(update_kernel, calls) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_walk_on_a_gpu_compiles_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from triton import knobs

    from fiberbnn_kernels.langevin_step import langevin_open

    compiled = []
    monkeypatch.setattr(knobs.runtime, "jit_post_compile_hook", lambda *_, **seen: compiled.append(seen))
    for k, p, step in ((3, 4100, 1), (16, 4100, 2), (1, 8192, 16), (3, 8196, 17)):
        x = torch.ones(k, p, device="cuda")
        settings = {"step_size": 0.1 * step, "friction": 1.0 / step, "seed": step, "step": step, "stream": step}
        langevin_open(x, x, x, x[0], **settings, impl="fused")
    assert len(compiled) <= 2  # opening and total, if no test before has compiled them
