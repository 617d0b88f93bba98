"""Which implementation of an operation can run where."""

import os
from importlib.util import find_spec
from typing import Literal, get_args

import torch

Impl = Literal["auto", "reference", "fused"]


def why_not_fused(device: torch.device) -> str | None:
    """Return the reason why Triton kernels cannot run on the device, None if they can."""
    if find_spec("triton") is None:
        return 'Triton is not installed (pip install "fiberbnn[triton]", Linux only)'
    if device.type == "cuda":
        return None if torch.cuda.is_available() else "torch finds no usable GPU"
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        return None
    return f"Triton kernels do not run on {device.type!r} tensors (on the CPU only under TRITON_INTERPRET=1)"


def choose_fused(impl: Impl, device: torch.device) -> bool:
    """Return whether to run the fused kernel.

    "auto" takes it on a GPU that can run it; the interpreter, which is slow, is never chosen by itself.

    Raises:
        ValueError: if `impl` is unknown.
        RuntimeError: if `impl` is "fused" and the kernel cannot run there.
    """
    if impl not in get_args(Impl):
        raise ValueError(f"impl must be one of {get_args(Impl)}; got {impl!r}")
    if impl == "reference":
        return False
    reason = why_not_fused(device)
    if impl == "fused" and reason is not None:
        raise RuntimeError(f'impl="fused" cannot run: {reason}')
    return reason is None and (impl == "fused" or device.type == "cuda")
