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
    interpreted = device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
    if device.type != "cuda" and not interpreted:
        return f"Triton kernels do not run on {device.type!r} tensors (on the CPU only under TRITON_INTERPRET=1)"
    if device.type == "cuda" and not torch.cuda.is_available():
        return "torch finds no usable GPU"
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"Triton is installed but cannot be imported: {error}"
    return None


def choose_fused(impl: Impl, device: torch.device) -> bool:
    """Return whether to run the fused kernel.

    "auto" takes it on a GPU that can run it; the interpreter, which is slow, is never chosen by itself.

    Raises:
        ValueError: if `impl` is unknown.
        RuntimeError: if `impl` is "fused" and the kernel cannot run there.
    """
    if impl not in get_args(Impl):
        raise ValueError(f"impl must be one of {get_args(Impl)}; got {impl!r}")
    # Whether Triton is there need not be asked then, which takes longer than a step of a small network.
    if impl == "reference" or (impl == "auto" and device.type != "cuda"):
        return False
    reason = why_not_fused(device)
    if impl == "fused" and reason is not None:
        raise RuntimeError(f'impl="fused" cannot run: {reason}')
    return reason is None
