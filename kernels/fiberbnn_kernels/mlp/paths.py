"""Which of three ways to walk perceptrons on a GPU is predicted to be the quickest.

"one launch" runs a program for every particle that takes all its steps (`mlp_walk/fused.py`); "split" a gradient with
programs for every particle and share of the rows (`fused.py`) between flat updates; "batched" a batched matrix product
for every layer (`reference.py`) between flat updates. A gradient alone has the last two to choose from.

All numbers here are predictions, none was measured on a GPU: instructions are counted in compiled loops, launches in
the reference's steps, and cycles are guessed from both. A choice changes the time and the last bits of a result, no
more. It depends on how many particles there are: chunks of them may take another path than all of them would.
"""

from typing import Literal, NamedTuple

from .layout import MLPLayout
from .table import Launch, launch_for

Path = Literal["one launch", "split", "batched"]

# Instructions of a thread for a data tile: so many, and so many for each of its products (at seven of eight sizes that
# were counted within 12 %, at one 28 % too many); and the cycles each takes where few warps hide latencies.
TILE_INSTRUCTIONS, PRODUCT_INSTRUCTIONS, LATENCY_CYCLES = 450.0, 1.25, 2.5
# Cycles for each weight in the flat updates of a program, and in its copy of the padded weights; cycles at barriers.
UPDATE_CYCLES, COPY_CYCLES, BARRIER_CYCLES = 2.5, 0.5, 1500.0
# A launch from Python, about 5 microseconds; launches of a step that are not its gradient's, of a gradient by the
# kernel, and by batched products: so many, and so many for each layer.
LAUNCH_CYCLES = 10_000.0
STEP_LAUNCHES, KERNEL_LAUNCHES, BATCHED_LAUNCHES, LAYER_LAUNCHES = 26, 3, 9, 9
# Of a call that takes all its steps in one launch: two launches for each of the two tensors that it pads, one for
# flags made of bytes, and its own; tensors that it allocates, about a microsecond each. The kernel reads and writes
# its state before and after the steps, which is as much as so many copies of padded weights.
CALL_LAUNCHES, CALL_TENSORS, TENSOR_CYCLES, STATE_COPIES = 6, 13, 2000.0, 4
# One launch is taken unless another path is predicted to be so many times quicker: the guesses are no better than that,
# and one launch is the path that leaves Python and the memory alone.
PREFERENCE = 1.5
# How often a gradient by batched products reads or writes the activations of a hidden layer, and what share of the
# peak these products reach. They are float32's, as in the kernels, not the tensor cores', unless torch is told to use
# these; then, too, the passes over the activations remain, which cost more than the products.
ACTIVATION_PASSES, BATCHED_SHARE = 11, 0.6


class Chip(NamedTuple):
    """Float32 products a multiprocessor can start in a cycle, and bytes of memory it gets in one."""

    products: int
    bytes: float


CHIPS = {
    80: Chip(64, 13.0),
    86: Chip(128, 6.0),
    89: Chip(128, 3.0),
    90: Chip(128, 17.0),
    100: Chip(128, 28.0),
    120: Chip(128, 4.0),
}


def path_for(
    layout: MLPLayout, n_rows: int, n_particles: int, architecture: int, multiprocessors: int, n_steps: int | None
) -> Path:
    """Return the path for calls of so many steps, None for a gradient alone; "batched" if the table has no launch."""
    launch = launch_for(layout, architecture)
    if launch is None:
        return "batched"
    chip = CHIPS[architecture]
    cycles = predicted_cycles(layout, launch, n_rows, n_particles, chip, multiprocessors, n_steps or 1)
    return chosen(cycles, gradient_alone=n_steps is None)


def chosen(cycles: dict[Path, float], gradient_alone: bool = False) -> Path:
    """Return which path is taken by predicted cycles."""
    other: Path = "split" if cycles["split"] <= cycles["batched"] else "batched"
    if gradient_alone or PREFERENCE * cycles[other] <= cycles["one launch"]:
        return other
    return "one launch"


def predicted_cycles(
    layout: MLPLayout, launch: Launch, n_rows: int, n_particles: int, chip: Chip, multiprocessors: int, n_steps: int
) -> dict[Path, float]:
    """Return the cycles of a step on each path: those of its waves of programs, and of its launches from Python.

    What a call costs but once is shared by its steps. It is counted for one launch only: what the others pay once a
    call is little beside what they pay in every step.
    """
    n_at_once = multiprocessors * launch.per_multiprocessor
    tile = tile_cycles(launch, chip)
    flat = STEP_LAUNCHES * LAUNCH_CYCLES

    tiles = launch.tiles(n_rows)
    waves = -(-n_particles // n_at_once)
    one = waves * (tiles * tile + UPDATE_CYCLES * layout.n_params + BARRIER_CYCLES)
    call = waves * STATE_COPIES * COPY_CYCLES * launch.size.n_params
    one += (call + CALL_LAUNCHES * LAUNCH_CYCLES + CALL_TENSORS * TENSOR_CYCLES) / n_steps

    n_shares = shares_for(launch, n_rows, n_particles, multiprocessors)
    share = -(-tiles // n_shares) * tile + COPY_CYCLES * launch.size.n_params + BARRIER_CYCLES
    split = -(-n_particles * n_shares // n_at_once) * share + flat + KERNEL_LAUNCHES * LAUNCH_CYCLES

    n_layers = len(layout.widths) - 1
    row = products_of(layout) / (BATCHED_SHARE * chip.products)
    row += 4 * ACTIVATION_PASSES * sum(layout.hidden) / chip.bytes
    launches = BATCHED_LAUNCHES + LAYER_LAUNCHES * n_layers
    batched = n_particles * n_rows * row / multiprocessors + flat + launches * LAUNCH_CYCLES
    return {"one launch": one, "split": split, "batched": batched}


def tile_cycles(launch: Launch, chip: Chip) -> float:
    """Return the cycles of a program for one tile: of latencies, or of issue slots that programs share."""
    products = products_of(launch.size.layout) * launch.rows / (32 * launch.warps)
    instructions = TILE_INSTRUCTIONS + PRODUCT_INSTRUCTIONS * products
    warps = launch.per_multiprocessor * launch.warps
    issued = 32 * warps * max(instructions / 128, products / chip.products)
    return max(LATENCY_CYCLES * instructions, issued)


def products_of(layout: MLPLayout) -> int:
    """Return the products that a data row's gradient takes: each layer forward and twice back, the first but once."""
    layers = [at.n_in * at.n_out for at in layout.layers()]
    return 3 * sum(layers) - layers[0]


def shares_for(launch: Launch, n_rows: int, n_particles: int, multiprocessors: int) -> int:
    """Return into how many shares the data rows are cut, so that programs of (particle, share) fill the device.

    Shares are of whole tiles, all alike but for the last, and none is empty. Sums over rows, and with them the last
    bits of a gradient, depend on this number, and so on sizes and device, but not from run to run.
    """
    tiles = launch.tiles(n_rows)
    wanted = max(1, multiprocessors * launch.per_multiprocessor // n_particles)
    return -(-tiles // -(-tiles // min(wanted, tiles)))
