"""Other ways to run a baseline: through torch's compiler, and as a recorded CUDA graph."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from torch.utils._pytree import tree_leaves

Result = TypeVar("Result")
Replay = Callable[[], None]


def why_not_compiled(device: torch.device) -> str | None:
    """Return the reason why torch.compile cannot work, None if it may."""
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++", "gcc", "clang")):
        return "torch.compile needs a C++ compiler; there is none"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (7, 0):
        return "torch.compile needs compute capability 7.0"
    return None


def compiled(function: Callable[..., Result], device: torch.device, *arguments: object) -> Callable[..., Result]:
    """Return the function compiled for these arguments; skip the benchmark, with the reason, where that fails.

    The first call is made here, so that compiling is in no measured time.
    """
    if reason := why_not_compiled(device):
        pytest.skip(reason)
    torch._dynamo.reset()
    fast = torch.compile(function, dynamic=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about TensorFloat32, among others
        try:
            fast(*arguments)
        except Exception as error:
            pytest.skip(f"torch.compile failed: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
    return fast


def captured(
    function: Callable[[], Result], record: Callable[[Callable[[], Result]], tuple[Replay, Result]] | None = None
) -> Callable[[], Result]:
    """Return a function that replays the kernels of this one as a CUDA graph.

    The function must find its inputs in the same memory at every call; what it returns is overwritten by the next, and
    is NaN before the first: what a graph does not compute is not a result that was there before.

    Args:
        function: what is recorded; recording may call it several times, so state that it changes is to be set back.
        record: returns what replays it, and its result; None for a CUDA graph.
    """
    replay, result = (record or cuda_graph)(function)
    for tensor in tree_leaves(result):
        if isinstance(tensor, torch.Tensor):
            tensor.fill_(torch.nan)

    def replayed() -> Result:
        replay()
        return result

    return replayed


def cuda_graph(function: Callable[[], Result]) -> tuple[Replay, Result]:
    """Return what replays a function as a CUDA graph, and where its result will be."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()
    return graph.replay, result


def needs_cuda(device: torch.device) -> None:
    """Skip a method that there is on a GPU only."""
    if device.type != "cuda":
        pytest.skip("CUDA only")
