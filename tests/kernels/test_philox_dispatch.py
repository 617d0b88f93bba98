"""How the counter-based numbers reach torch: operators, the compiler, the choice of implementation."""

import pytest
import torch
from torch import Tensor

from fiberbnn_kernels import philox_normal, philox_uniform


def test_compiles_without_a_break_and_without_a_graph_for_every_step() -> None:
    def drift(v: Tensor, step: int) -> Tensor:
        noise = philox_normal(*v.shape, seed=3, step=step, stream=1)
        return v + noise * philox_uniform(len(v), seed=3, step=step, stream=2)[:, None]

    graphs = 0

    def counting(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        nonlocal graphs
        graphs += 1
        return graph

    compiled = torch.compile(drift, fullgraph=True, backend=counting)
    v = torch.zeros(3, 5)
    assert all(torch.equal(compiled(v, step), drift(v, step)) for step in range(10))
    assert graphs <= 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_takes_the_kernel_by_itself() -> None:
    auto = philox_normal(3, 50, seed=1, step=2, stream=3, device="cuda")
    assert auto.device.type == "cuda"
    assert torch.equal(auto.cpu(), philox_normal(3, 50, seed=1, step=2, stream=3, device="cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where the kernel cannot run")
def test_fused_that_cannot_run_says_why() -> None:
    with pytest.raises(RuntimeError, match="cannot run: "):
        philox_normal(2, 3, seed=0, step=0, stream=0, impl="fused")
    with pytest.raises(RuntimeError, match="cannot run: "):
        philox_uniform(2, seed=0, step=0, stream=0, impl="fused")
