"""Which perceptrons the table takes, how they lie in the kernels, and which path is chosen for them."""

from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fiberbnn_kernels import MLPLayout, mlp_forward, mlp_nll_and_grad, mlp_walk
from fiberbnn_kernels.mlp import paths, reference, table
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
        assert path_for(MLPLayout((14, 50, 2)), 50_000, particles, *H200, 5) == "split"


def test_few_rows_take_one_launch_however_few_the_particles() -> None:
    """A step's launches from Python would take longer than all its tiles."""
    for particles in (1, 16, 132, 1000):
        assert path_for(MLPLayout((14, 50, 2)), 500, particles, *H200, 5) == "one launch"


def test_small_perceptrons_that_fill_the_device_take_one_launch() -> None:
    for widths in ((14, 50, 2), (8, 32, 32, 2), (16, 64, 64, 2)):
        assert path_for(MLPLayout(widths), 5000, 264, *H200, 5) == "one launch"


def test_a_call_of_one_step_pays_for_its_launch_alone() -> None:
    layout = MLPLayout((16, 16, 16, 2))
    launch = table.launch_for(layout, 90)
    one, five, forty = (
        predicted_cycles(layout, launch, 64, 128, paths.CHIPS[90], 132, n_steps) for n_steps in (1, 5, 40)
    )
    step = (40 * forty["one launch"] - one["one launch"]) / 39
    call = one["one launch"] - step
    assert call > paths.CALL_LAUNCHES * paths.LAUNCH_CYCLES
    assert five["one launch"] == pytest.approx(step + call / 5)
    for path in ("split", "batched"):  # which pay in every step
        assert one[path] == five[path] == forty[path]


@pytest.mark.parametrize(("times", "path"), [(1.01, "one launch"), (1.49, "one launch"), (1.51, "other")])
@pytest.mark.parametrize("other", ["split", "batched"])
def test_one_launch_is_taken_unless_another_path_is_much_quicker(other: str, times: float, path: str) -> None:
    cycles = {"one launch": 1000.0, "split": 1e6, "batched": 1e6} | {other: 1000.0 / times}
    assert paths.chosen(cycles) == (other if path == "other" else path)
    assert paths.chosen(cycles, gradient_alone=True) == other


def test_the_steps_of_a_call_decide_where_the_launch_does() -> None:
    """2-16-16-2 with 4,200 rows: its tiles are 1.2 times, with the launch of one step 1.55 times as long as a split."""
    layout = MLPLayout((2, 16, 16, 2))
    assert path_for(layout, 4200, 1, *H200, 1) == "split"
    assert path_for(layout, 4200, 1, *H200, 40) == "one launch"
    assert path_for(layout, 4200, 1, *H200, None) == "split"


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_the_launches_that_are_charged_to_a_call_are_those_it_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    from fiberbnn_kernels.mlp_walk import fused
    from fiberbnn_kernels.mlp_walk.reference import Moves, Posterior, State

    layout = MLPLayout((3, 5, 2))  # all is padded
    posterior = Posterior(torch.randn(9, 3), torch.randint(2, (9,)), layout, "categorical", 1.0, 1.0)
    state = State(*(torch.randn(2, layout.n_params) for _ in range(2)), torch.randn(2), torch.randn(2, layout.n_params))
    kernel = CountedLaunches()
    monkeypatch.setattr(fused, "walk_kernel", kernel)

    def walk() -> None:
        launch = table.launch_for(layout, 90)
        fused.mlp_walk(state, posterior, torch.ones(layout.n_params), Moves(0.1, 1, 1, 3, 1, 0, 0, 0, 0, 1), launch)

    walk()  # makes the places, once for all calls
    kernel.launches = 0
    with CountedOperations() as counted:
        walk()
    counted.names["ones"] -= 1  # of this test
    found = +counted.names
    allocated = sum(count for name, count in found.items() if name.startswith(("empty", "new_empty")))
    others = {name: count for name, count in found.items() if not name.startswith(("empty", "new_empty"))}
    assert (kernel.launches, others) == (1, {"constant_pad_nd": 2, "_to_copy": 1})
    # A pad fills its tensor and copies into it.
    assert kernel.launches + 2 * others["constant_pad_nd"] + others["_to_copy"] == paths.CALL_LAUNCHES
    assert allocated + others["constant_pad_nd"] + others["_to_copy"] == paths.CALL_TENSORS


class CountedOperations(TorchDispatchMode):
    """Counts what torch is asked for, by name, but for views."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        if not function.is_view:
            self.names[function.overloadpacket.__name__] += 1
        return function(*arguments, **(named or {}))


class CountedLaunches:
    """Stands where a kernel does."""

    launches = 0

    def __getitem__(self, grid: object) -> Callable[..., None]:
        return self.launch

    def launch(self, *arguments: object, **constants: object) -> None:
        self.launches += 1


@pytest.mark.parametrize("capability", [(9, 0), (12, 0)])  # gfx90a, and RDNA 4
def test_no_launch_of_the_table_is_for_gpus_of_amd(
    capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, layout = torch.device("cuda"), MLPLayout((14, 50, 2))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.version, "hip", None)
    assert table.launch_for(layout, table.architecture_of(device)) is not None
    monkeypatch.setattr(torch.version, "hip", "7.0.51831")
    architecture = table.architecture_of(device)
    assert table.launch_for(layout, architecture) is None
    assert "AMD" in table.why_not_in_table(layout, 500, architecture)
    assert path_for(layout, 500, 1000, architecture, 304, 5) == "batched"


def test_autocast_changes_neither_gradients_nor_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits; and inside, where the next version may take other products, autocast is off."""
    layout = MLPLayout((3, 7, 5, 2))
    x, y, weights = torch.randn(9, 3), torch.randint(2, (9,)), 0.3 * torch.randn(4, layout.n_params)

    def results() -> list[torch.Tensor]:
        nll, grad = mlp_nll_and_grad(weights, x, y, layout, likelihood="categorical")
        walk = mlp_walk(
            weights, torch.ones_like(weights), nll, grad, x, y, layout, likelihood="categorical", prior_precision=1.0,
            scale=torch.ones(layout.n_params), step_size=0.1, friction=0.5, energy_error_limit=10.0, n_steps=3, seed=1,
            step0=0, refresh_stream=1, revive_stream=2,
        )  # fmt: skip
        return [mlp_forward(weights, x, layout), nll, grad, *walk]

    usual = results()
    around = []
    for name in ("mlp_forward", "mlp_nll_and_grad"):
        original = getattr(reference, name)

        def watched(*arguments, original=original, **named):
            around.append(torch.is_autocast_enabled("cpu"))
            return original(*arguments, **named)

        monkeypatch.setattr(reference, name, watched)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(results(), usual, strict=True))
        assert torch.is_autocast_enabled("cpu")
    assert around == [False] * 5  # outputs, a gradient, and of the walk three


def test_wide_and_unknown_perceptrons_are_batched() -> None:
    for widths in ((14, 128, 2), (100, 16, 2), (2, 8, 8, 8, 8, 2), (3, 2)):
        assert path_for(MLPLayout(widths), 500, 1000, *H200, 5) == "batched"
    assert path_for(MLPLayout((14, 50, 2)), 500, 1000, 75, 68, 5) == "batched"


def test_many_rows_and_particles_of_what_is_mostly_padding_are_batched() -> None:
    layout = MLPLayout((1, 33, 1))
    assert path_for(layout, 500, 1000, *H200, 5) == "one launch"
    assert path_for(layout, 50_000, 1000, *H200, 5) == "batched"


def test_predictions_are_those_of_the_design_for_its_cases() -> None:
    """Cycles a tile, and microseconds a step at 1.85 GHz, of two hidden layers on 132 multiprocessors, within 12 %.

    The design counted no launch: of forty steps a call, what a call costs but once is taken away.
    """
    for width, tile, n_rows, low, high in ((16, 2500, 64, 4, 5), (32, 5000, 128, 12, 14), (64, 4500, 256, 40, 45)):
        layout = MLPLayout((16, width, width, 2))
        launch = table.launch_for(layout, 90)
        assert paths.tile_cycles(launch, paths.CHIPS[90]) == pytest.approx(tile, rel=0.12)
        cycles = predicted_cycles(layout, launch, n_rows, 128, paths.CHIPS[90], 132, 40)["one launch"]
        cycles -= (paths.CALL_LAUNCHES * paths.LAUNCH_CYCLES + paths.CALL_TENSORS * paths.TENSOR_CYCLES) / 40
        assert 0.88 * low <= cycles / 1850 <= 1.12 * high


def test_more_particles_never_cost_less() -> None:
    layout = MLPLayout((16, 64, 64, 2))
    launch = table.launch_for(layout, 90)
    for path in ("one launch", "batched"):
        cycles = [predicted_cycles(layout, launch, 3000, k, paths.CHIPS[90], 132, 5)[path] for k in range(1, 400)]
        assert cycles == sorted(cycles)
        assert cycles[0] < cycles[-1]
