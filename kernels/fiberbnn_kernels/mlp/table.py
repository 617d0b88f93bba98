"""Which perceptrons the kernels take, how they lie in them, and how the kernels are launched for them."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .layout import MLPLayout

# Compute capabilities for which every launch was compiled, with Triton 3.9.0, and found to keep its data tiles in
# registers: `python kernels/offline_check.py --architectures 80 86 89 90 100 120`. By default, and so in CI, that check
# compiles for 80, 90 and 100; for 86, 89 and 120 it then holds the shared memory asked for on 80 against their 99 kB.
ARCHITECTURES = (80, 86, 89, 90, 100, 120)
# Of these, those where a program can have no more than 99 kB.
SMALL_SHARED = (86, 89, 120)
# What an AMD GPU is taken for, whose compute capabilities look like NVIDIA's (9.0 is gfx90a) and mean others.
AMD = 0
# What the interpreter, which has no device, is taken for.
INTERPRETED, INTERPRETED_MULTIPROCESSORS = 90, 4
INPUTS = (16, 32, 64)
OUTPUTS = 16
MOST_INPUT_NUMBERS = 1 << 31


class Size(NamedTuple):
    """Widths of the kernels, which hold those of the perceptron; padded weights lie in the order of `MLPLayout`."""

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


class Tile(NamedTuple):
    """Data rows, warps, and stages of loading: one less is the number of tiles loaded ahead.

    Fewer stages where more would make the compiler keep registers in memory in the loop over the tiles.
    """

    rows: int
    warps: int
    stages: int = 2


class Launch(NamedTuple):
    """Padded widths, and what `Tile` says."""

    size: Size
    rows: int
    warps: int
    stages: int

    @property
    def flat(self) -> int:
        """Weights that are updated at once: four to a thread, which is one Philox block."""
        return 128 * self.warps

    @property
    def per_multiprocessor(self) -> int:
        """Programs that registers let a multiprocessor run at once; predicted."""
        return max(1, 8 // self.warps)

    def tiles(self, n_rows: int) -> int:
        """Number of tiles that hold so many data rows."""
        return -(-n_rows // self.rows)


# By hidden layers and their padded width. What is not here takes the batched path: more layers, wider layers, more
# inputs or outputs, other architectures.
TILES = {
    (1, 16): Tile(32, 4),
    (1, 32): Tile(32, 4),
    (1, 64): Tile(16, 8),
    (2, 16): Tile(32, 4),
    (2, 32): Tile(32, 4, stages=1),
    (2, 64): Tile(16, 8),
    (3, 16): Tile(32, 4),
    (3, 32): Tile(16, 4),
    (3, 64): Tile(16, 8),
}
# Sizes that need more shared memory than a program can have there.
TOO_LARGE = {architecture: {Size(3, 64, 64)} for architecture in SMALL_SHARED}


def launches(architecture: int) -> Iterator[Launch]:
    """Yield every launch on a compute capability (90 for 9.0), the smaller first."""
    for (n_hidden, width), tile in TILES.items():
        for inputs in INPUTS:
            size = Size(n_hidden, inputs, width)
            if architecture in ARCHITECTURES and size not in TOO_LARGE.get(architecture, ()):
                yield Launch(size, *tile)


def compiled_offline() -> Iterator[tuple[Launch, str, bool]]:
    """Yield launches with an activation and whether for classes, as they are compiled without a GPU.

    They are all launches with the activation that needs most, and one with each activation and likelihood.
    """
    for launch in launches(90):
        yield launch, "gelu", True
    launch = next(launch for launch in launches(90) if launch.size[:3] == (2, 16, 32))
    for activation in ("tanh", "relu", "silu"):
        yield launch, activation, True
    yield launch, "tanh", False


def launched_everywhere(launch: Launch) -> bool:
    """Return whether it is a launch on all architectures, also those with little shared memory."""
    return all(launch in launches(architecture) for architecture in ARCHITECTURES)


@lru_cache(maxsize=256)
def launch_for(layout: MLPLayout, architecture: int) -> Launch | None:
    """Return how kernels are launched for a perceptron on a compute capability, None if they are not."""
    n_hidden, widest = len(layout.hidden), max(layout.hidden, default=0)
    for launch in launches(architecture):
        _, inputs, width, outputs = launch.size
        holds = inputs >= layout.widths[0] and width >= widest and outputs >= layout.widths[-1]
        if launch.size.n_hidden == n_hidden and holds:
            return launch
    return None


def why_not_in_table(layout: MLPLayout, n_rows: int, architecture: int) -> str | None:
    """Return the reason why there is no launch for a perceptron and its data, None if there is one."""
    if architecture == AMD:
        return "no launch is known for AMD's GPUs"
    if architecture not in ARCHITECTURES:
        return f"no launch is known for compute capability {architecture / 10}"
    launch = launch_for(layout, architecture)
    if launch is None:
        return f"no launch for widths {layout.widths}: see TILES in mlp/table.py"
    if n_rows * launch.size.inputs >= MOST_INPUT_NUMBERS:
        return f"too many data: {n_rows} rows of {launch.size.inputs} numbers"
    return None


def architecture_of(device: torch.device) -> int:
    """Return the compute capability, 90 for 9.0; on the CPU that of the interpreter; `AMD` on AMD's GPUs."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return INTERPRETED
    if torch.version.hip:
        return AMD
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def multiprocessors_of(device: torch.device) -> int:
    """Return the number of multiprocessors; on the CPU that of the interpreter."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return INTERPRETED_MULTIPROCESSORS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@lru_cache(maxsize=64)
def places(layout: MLPLayout, size: Size, row: int, device: torch.device) -> Tensor:
    """Return where each weight of a perceptron is among the padded ones, int32 [row]; zeros fill it up."""
    parts = []
    for real, at in zip(layout.layers(), size.layout.layers(), strict=True):
        parts.append(at.weight + torch.arange(at.n_in * at.n_out).view(at.n_out, at.n_in)[: real.n_out, : real.n_in])
        parts.append(at.bias + torch.arange(real.n_out))
    index = torch.zeros(row, dtype=torch.int32)
    index[: layout.n_params] = torch.cat([part.flatten() for part in parts])
    return index.to(device)


@lru_cache(maxsize=64)
def origins(layout: MLPLayout, size: Size, device: torch.device) -> Tensor:
    """Return which weight of a perceptron each padded one is, int32; -1 for those that are zero."""
    place = places(layout, size, layout.n_params, torch.device("cpu"))
    index = torch.full((size.n_params,), -1, dtype=torch.int32)
    index[place.long()] = torch.arange(layout.n_params, dtype=torch.int32)
    return index.to(device)
