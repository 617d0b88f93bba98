"""Which perceptrons the kernel takes, how they lie in it, and how it is launched for them."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..mlp.layout import MLPLayout

# Compute capabilities for which every launch was compiled and found to keep its data tiles in registers.
ARCHITECTURES = (80, 90, 100)
INTERPRETED = 90
INPUTS = (16, 32, 64)
OUTPUTS = 16
MOST_INPUT_NUMBERS = 1 << 31


class Launch(NamedTuple):
    """Data rows a tile, warps, and the padded inputs it is for."""

    rows: int
    warps: int
    inputs: tuple[int, ...] = INPUTS

    @property
    def flat(self) -> int:
        """Weights that are updated at once: four to a thread, which is one Philox block."""
        return 128 * self.warps


# By hidden layers and their padded width, for all inputs and architectures. What is not here takes the batched path:
# more layers, wider layers, more inputs or outputs, other architectures.
LAUNCHES = {
    (1, 16): Launch(32, 4),
    (1, 32): Launch(32, 4),
    (1, 64): Launch(16, 8),
    (2, 16): Launch(32, 4),
    (2, 32): Launch(32, 4),
    (2, 64): Launch(16, 8),
    (3, 16): Launch(32, 4),
    (3, 32): Launch(16, 4),
    # Padded to fewer inputs, the compiler keeps some registers in memory.
    (3, 64): Launch(16, 8, inputs=(64,)),
}


class Size(NamedTuple):
    """Widths of the kernel, which hold those of the perceptron; padded weights lie in the order of `MLPLayout`."""

    n_hidden: int
    inputs: int
    width: int
    outputs: int = OUTPUTS

    @property
    def layout(self) -> MLPLayout:
        """The padded perceptron."""
        return MLPLayout((self.inputs, *(self.width,) * self.n_hidden, self.outputs))

    @property
    def n_params(self) -> int:
        """Number of padded weights, a multiple of 16."""
        return self.layout.n_params


def padded(layout: MLPLayout) -> Size | None:
    """Return the kernel's widths for a perceptron, None if it has none."""
    n_hidden, widest = len(layout.hidden), max(layout.hidden, default=0)
    width = next((width for layers, width in LAUNCHES if layers == n_hidden and width >= widest), None)
    if width is None or layout.widths[-1] > OUTPUTS:
        return None
    inputs = next((n for n in LAUNCHES[n_hidden, width].inputs if n >= layout.widths[0]), None)
    if inputs is None:
        return None
    return Size(n_hidden, inputs, width)


def launch_for(layout: MLPLayout, architecture: int) -> Launch | None:
    """Return how the kernel is launched for a perceptron on a compute capability (90 for 9.0), None if it is not."""
    size = padded(layout)
    return None if size is None or architecture not in ARCHITECTURES else LAUNCHES[size.n_hidden, size.width]


def why_not_in_table(layout: MLPLayout, n_rows: int, architecture: int) -> str | None:
    """Return the reason why there is no launch for a perceptron and its data, None if there is one."""
    if architecture not in ARCHITECTURES:
        return f"no launch is known for compute capability {architecture / 10}"
    size = padded(layout)
    if size is None:
        return f"no launch for widths {layout.widths}: see LAUNCHES in mlp_walk/table.py"
    if n_rows * size.inputs >= MOST_INPUT_NUMBERS:
        return f"too many data: {n_rows} rows of {size.inputs} numbers"
    return None


@lru_cache(maxsize=64)
def places(layout: MLPLayout, row: int, device: torch.device) -> Tensor:
    """Return where each weight of a perceptron is among the padded ones, int32 [row]; zeros fill it up."""
    size = padded(layout)
    assert size is not None
    parts = []
    for real, at in zip(layout.layers(), size.layout.layers(), strict=True):
        parts.append(at.weight + torch.arange(at.n_in * at.n_out).view(at.n_out, at.n_in)[: real.n_out, : real.n_in])
        parts.append(at.bias + torch.arange(real.n_out))
    index = torch.zeros(row, dtype=torch.int32)
    index[: layout.n_params] = torch.cat([part.flatten() for part in parts])
    return index.to(device)
