"""Which perceptrons the table takes, how they lie in the kernels, and which path is chosen for them."""

import pytest
import torch

from fiberbnn_kernels import MLPLayout
from fiberbnn_kernels.mlp import paths, table
from fiberbnn_kernels.mlp.paths import path_for, predicted_cycles, shares_for

H200 = (90, 132)  # compute capability and multiprocessors


def test_table_takes_what_fits() -> None:
    for widths, size in {
        (2, 16, 16, 2): (2, 16, 16),
        (14, 50, 2): (1, 16, 64),
        (17, 33, 20, 3): (2, 32, 64),
        (64, 64, 64, 64, 16): (3, 64, 64),
        (2, 60, 4, 4, 2): (3, 16, 64),
    }.items():
        assert table.launch_for(MLPLayout(widths), 90).size[:3] == size
        assert table.why_not_in_table(MLPLayout(widths), 1000, 90) is None
    for widths in ((2, 2), (65, 8, 2), (2, 65, 65, 2), (1, 100, 1), (2, 129, 2), (2, 8, 17), (2, 8, 8, 8, 8, 2)):
        assert "no launch for widths" in table.why_not_in_table(MLPLayout(widths), 10, 90)
        assert all(table.launch_for(MLPLayout(widths), sm) is None for sm in table.ARCHITECTURES)
    layout = MLPLayout((3, 7, 5, 2))
    assert "compute capability 7.0" in table.why_not_in_table(layout, 10, 70)
    assert table.launch_for(layout, 70) is None
    assert "too many data" in table.why_not_in_table(layout, 1 << 27, 90)


def test_what_needs_too_much_shared_memory_is_not_taken_there() -> None:
    deep = MLPLayout((33, 60, 4, 4, 2))
    assert [sm for sm in table.ARCHITECTURES if table.launch_for(deep, sm)] == [80, 90, 100]
    assert all(table.launch_for(MLPLayout((32, 60, 4, 4, 2)), sm) for sm in table.ARCHITECTURES)
    assert set(table.ARCHITECTURES) == set(paths.CHIPS) > set(table.TOO_LARGE)


@pytest.mark.parametrize("widths", [(2, 16, 16, 2), (3, 7, 5, 2), (17, 33, 20, 9, 3), (1, 1, 1)])
def test_places_put_the_weights_into_the_corners_of_padded_ones(widths: tuple[int, ...]) -> None:
    layout = MLPLayout(widths)
    size = table.launch_for(layout, 90).size
    place = table.places(layout, size, layout.n_params + 5, torch.device("cpu"))
    wide = size.layout
    flat = torch.arange(1.0, layout.n_params + 1)
    spread = torch.zeros(wide.n_params)
    spread[place[: layout.n_params].long()] = flat
    for small, large in zip(layout.layers(), wide.layers(), strict=True):
        matrix = spread[large.weight : large.bias].view(large.n_out, large.n_in)
        assert torch.equal(matrix[: small.n_out, : small.n_in].flatten(), flat[small.weight : small.bias])
        bias = spread[large.bias : large.bias + large.n_out]
        assert torch.equal(bias[: small.n_out], flat[small.bias : small.bias + small.n_out])
    assert spread.count_nonzero() == layout.n_params
    origin = table.origins(layout, size, torch.device("cpu"))
    assert torch.equal(torch.where(origin < 0, 0.0, flat[origin]), spread)


@pytest.mark.parametrize("n_rows", [1, 16, 33, 552, 100_000])
@pytest.mark.parametrize("n_particles", [1, 5, 131, 132, 133, 1000])
def test_shares_fill_the_device_and_none_is_empty(n_rows: int, n_particles: int) -> None:
    launch = table.launch_for(MLPLayout((14, 50, 2)), 90)
    shares = shares_for(launch, n_rows, n_particles, 132)
    tiles = launch.tiles(n_rows)
    assert 1 <= shares <= tiles
    in_a_share = -(-tiles // shares)
    assert (shares - 1) * in_a_share < tiles
    # No more programs than run at once, unless every particle needs one; and half of them, if there are rows enough.
    assert shares * n_particles <= 132 or shares == 1
    if tiles >= 132:
        assert 2 * shares * n_particles > 132


def test_few_particles_with_many_rows_are_split() -> None:
    for particles in (1, 16, 64):
        assert path_for(MLPLayout((14, 50, 2)), 50_000, particles, *H200) == "split"


def test_few_rows_take_one_launch_however_few_the_particles() -> None:
    """A step's launches from Python would take longer than all its tiles."""
    for particles in (1, 16, 132, 1000):
        assert path_for(MLPLayout((14, 50, 2)), 500, particles, *H200) == "one launch"


def test_small_perceptrons_that_fill_the_device_take_one_launch() -> None:
    for widths in ((14, 50, 2), (8, 32, 32, 2), (16, 64, 64, 2)):
        assert path_for(MLPLayout(widths), 5000, 264, *H200) == "one launch"


def test_wide_and_unknown_perceptrons_are_batched() -> None:
    for widths in ((14, 128, 2), (100, 16, 2), (2, 8, 8, 8, 8, 2), (3, 2)):
        assert path_for(MLPLayout(widths), 500, 1000, *H200) == "batched"
    assert path_for(MLPLayout((14, 50, 2)), 500, 1000, 75, 68) == "batched"


def test_many_rows_and_particles_of_what_is_mostly_padding_are_batched() -> None:
    layout = MLPLayout((1, 33, 1))
    assert path_for(layout, 500, 1000, *H200) == "one launch"
    assert path_for(layout, 50_000, 1000, *H200) == "batched"


def test_predictions_are_those_of_the_design_for_its_cases() -> None:
    """Cycles a tile, and microseconds a step at 1.85 GHz, of two hidden layers on 132 multiprocessors, within 12 %."""
    for width, tile, n_rows, low, high in ((16, 2500, 64, 4, 5), (32, 5000, 128, 12, 14), (64, 4500, 256, 40, 45)):
        layout = MLPLayout((16, width, width, 2))
        launch = table.launch_for(layout, 90)
        assert paths.tile_cycles(launch, paths.CHIPS[90]) == pytest.approx(tile, rel=0.12)
        cycles = predicted_cycles(layout, launch, n_rows, 128, paths.CHIPS[90], 132)["one launch"]
        assert 0.88 * low <= cycles / 1850 <= 1.12 * high


def test_more_particles_never_cost_less() -> None:
    layout = MLPLayout((16, 64, 64, 2))
    launch = table.launch_for(layout, 90)
    for path in ("one launch", "batched"):
        cycles = [predicted_cycles(layout, launch, 3000, k, paths.CHIPS[90], 132)[path] for k in range(1, 400)]
        assert cycles == sorted(cycles)
        assert cycles[0] < cycles[-1]
