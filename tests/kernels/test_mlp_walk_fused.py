"""The walk's kernel against the reference in float64: on a GPU, or in the interpreter if it was chosen."""

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from fiberbnn_kernels import MLPLayout, philox_normal
from fiberbnn_kernels.mlp_walk import MLPWalk, api, mlp_walk
from fiberbnn_kernels.mlp_walk.reference import Posterior, State

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="no GPU and not TRITON_INTERPRET=1"),
]
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
SEED = 2**40 + 5
# What a float32 walk may be away from the float64 one, in lengths of the walk.
BUDGET = 5e-6
SIZES = [
    ((17, 33, 20, 3), "tanh", "categorical", 3, 37),
    ((2, 16, 16, 2), "gelu", "categorical", 2, 64),
    ((20, 18, 30, 17, 16), "relu", "gaussian", 2, 19),
    ((5, 9, 7, 11, 4), "silu", "categorical", 2, 33),
    ((9, 60, 2), "gelu", "gaussian", 2, 17),
    ((1, 1, 1), "tanh", "gaussian", 1, 1),
    ((3, 5, 1), "relu", "categorical", 3, 31),
    ((3, 5, 2), "tanh", "gaussian", 2, 40),
    ((3, 4, 6, 2), "silu", "gaussian", 2, 40),
    ((3, 4, 6, 2), "relu", "categorical", 2, 40),
]


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Memory that was not written to holds NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty_like(torch.zeros(3)).isnan().all()
    assert torch.zeros(3).new_empty(4).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


class Case(NamedTuple):
    """Where a walk starts, and on what; float32, on the CPU."""

    state: State
    posterior: Posterior
    scale: Tensor

    def walk(self, impl: str, **changes: object) -> MLPWalk:
        """Walk the kernel's float32 way, or the reference's in float64 from the same numbers."""
        posterior = self.posterior
        arguments = {
            "likelihood": posterior.likelihood, "noise_precision": posterior.noise_precision,
            "prior_precision": posterior.prior_precision, "step_size": 0.1, "friction": 0.4,
            "energy_error_limit": 10.0, "n_steps": 3, "seed": SEED, "step0": 5, "refresh_stream": 1,
            "revive_stream": 4, **changes,
        }  # fmt: skip
        fused = impl == "fused"

        def cast(tensor: Tensor) -> Tensor:
            if fused:
                return tensor.to(DEVICE)
            return tensor.double() if tensor.is_floating_point() else tensor

        result = mlp_walk(
            *(cast(t) for t in self.state), cast(posterior.x), cast(posterior.y), posterior.layout,
            scale=cast(self.scale), impl=impl, **arguments,
        )  # fmt: skip
        return MLPWalk(*(tensor.cpu() for tensor in result))


class CountedCalls:
    """A function that counts its calls."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *arguments: object) -> object:
        self.calls += 1
        return self.function(*arguments)


def make_case(widths: tuple[int, ...], activation: str, likelihood: str, n_particles: int, n_rows: int) -> Case:
    layout = MLPLayout(widths, activation)
    generator = torch.Generator().manual_seed(17)

    def normals(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    x, y = normals(n_rows, widths[0]), normals(n_rows, widths[-1])
    if likelihood == "categorical":
        y = torch.randint(widths[-1], (n_rows,), generator=generator)
    particles, velocity = 0.3 * normals(n_particles, layout.n_params), normals(n_particles, layout.n_params)
    posterior = Posterior(x, y, layout, likelihood, 2.0, 1.5)
    state = State(particles, velocity, *posterior.value_and_grad(particles))
    return Case(state, posterior, torch.linspace(0.1, 0.6, layout.n_params))


def assert_same_walk(fused: MLPWalk, exact: MLPWalk, start: State) -> None:
    assert torch.equal(fused.moved, exact.moved)
    for name in ("particles", "velocity", "grad"):
        ours, theirs = getattr(fused, name), getattr(exact, name)
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() <= BUDGET * (theirs - getattr(start, name)).norm()
    torch.testing.assert_close(fused.energy.double(), exact.energy, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(fused.energies.double(), exact.energies, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(fused.acceptance.double(), exact.acceptance, rtol=0, atol=1e-4)
    torch.testing.assert_close(fused.heat.double(), exact.heat, rtol=1e-6, atol=1e-6)
    if len(fused.snapshots):
        assert (fused.snapshots - exact.snapshots).norm() <= BUDGET * (exact.snapshots - start.particles).norm()


@pytest.mark.parametrize(("widths", "activation", "likelihood", "n_particles", "n_rows"), SIZES)
def test_walk_matches_the_reference(
    widths: tuple[int, ...], activation: str, likelihood: str, n_particles: int, n_rows: int
) -> None:
    case = make_case(widths, activation, likelihood, n_particles, n_rows)
    settings = {"store_every": 2, "particle0": 2**32 - 3}
    fused, exact = case.walk("fused", **settings), case.walk("reference", **settings)
    assert fused.snapshots.shape == (1, n_particles, case.posterior.layout.n_params)
    assert_same_walk(fused, exact, case.state)


@pytest.mark.parametrize(("likelihood", "step_size"), [("categorical", 1.0), ("gaussian", 0.2)])
def test_undone_steps_match_the_reference(likelihood: str, step_size: float) -> None:
    """A limit in the middle of the energy errors: of some particles some steps are undone."""
    case = make_case((3, 5, 2), "tanh", likelihood, 3, 40)
    settings = {"step_size": step_size, "energy_error_limit": 0.2, "n_steps": 6, "store_every": 1}
    fused, exact = case.walk("fused", **settings), case.walk("reference", **settings)
    assert 0 < exact.moved.sum() < exact.moved.numel()
    assert_same_walk(fused, exact, case.state)


def test_undone_particles_stay_and_take_the_noise_of_the_counter() -> None:
    case = make_case((3, 5, 2), "relu", "categorical", 2, 20)
    fused = case.walk("fused", step_size=300.0, n_steps=1, store_every=1, particle0=9)
    assert not fused.moved.any()
    assert not fused.acceptance.any()
    for name in ("particles", "energy", "grad"):
        assert torch.equal(getattr(fused, name), getattr(case.state, name))
    assert torch.equal(fused.snapshots[0], fused.particles)
    noise = philox_normal(*fused.velocity.shape, seed=SEED, step=5, stream=4, particle0=9, impl="reference")
    assert torch.equal(fused.velocity, noise)


def test_the_noise_of_every_step_is_that_of_the_counter_bit_for_bit() -> None:
    """With all velocity forgotten at once, in steps that lead nowhere, the noise is what is left."""
    case = make_case((9, 17, 3), "tanh", "gaussian", 2, 16)
    fused = case.walk("fused", step_size=1e-20, friction=1e25, n_steps=2, step0=2**32 - 2, particle0=2**31)
    noise = philox_normal(*fused.velocity.shape, seed=SEED, step=2**32 - 1, stream=1, particle0=2**31, impl="reference")
    assert fused.moved.all()
    assert torch.equal(fused.velocity, noise)
    assert torch.equal(fused.particles, case.state.particles)


def test_energy_errors_of_a_tenth_are_right_at_a_thousand_nats() -> None:
    case = make_case((3, 8, 8, 4), "tanh", "categorical", 2, 800)
    settings = {"step_size": 0.05, "n_steps": 3}
    fused, exact = case.walk("fused", **settings), case.walk("reference", **settings)
    assert exact.energy.min() > 1e3
    assert ((exact.acceptance > 0.02) & (exact.acceptance < 0.98)).any()
    torch.testing.assert_close(fused.energies.double(), exact.energies, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(fused.acceptance.double(), exact.acceptance, rtol=0, atol=1e-3)


def test_cut_anywhere_it_gives_the_same_bits() -> None:
    case = make_case((3, 5, 4, 2), "silu", "categorical", 3, 35)
    settings = {"step_size": 1.0, "energy_error_limit": 0.2, "particle0": 2}
    whole = case.walk("fused", n_steps=4, **settings)
    again = case.walk("fused", n_steps=4, **settings)
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    assert not whole.moved.all()
    first = case.walk("fused", n_steps=3, **settings)
    last = case._replace(state=State(*first[:4])).walk("fused", n_steps=1, **{**settings, "step0": 8})
    assert all(torch.equal(a, b) for a, b in zip(last[:4], whole[:4], strict=True))
    alone = case._replace(state=State(*(tensor[1:2] for tensor in case.state)))
    one = alone.walk("fused", n_steps=4, **{**settings, "particle0": 3})
    assert all(torch.equal(a[0], b[1]) for a, b in zip(one[:4], whole[:4], strict=True))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the interpreter, about NaN
def test_particles_out_of_bounds_stay_alone() -> None:
    """NaN in one particle, and labels that are none, make undone steps and nothing else."""
    case = make_case((3, 5, 2), "relu", "categorical", 3, 20)
    clean = case.walk("fused")
    particles = case.state.particles.clone()
    particles[1, 4] = torch.nan
    poisoned = case._replace(state=case.state._replace(particles=particles)).walk("fused")
    assert poisoned.moved.all(dim=0).tolist() == [True, False, True]
    assert torch.equal(poisoned.velocity[::2], clean.velocity[::2])
    labels = case.posterior.y.clone()
    labels[7] = 2
    unknown = case._replace(posterior=case.posterior._replace(y=labels)).walk("fused")
    assert not unknown.moved.any()
    assert torch.equal(unknown.particles, case.state.particles)


def test_fused_operator_is_registered_soundly() -> None:
    case = make_case((3, 5, 2), "tanh", "categorical", 2, 9)
    tensors = (tensor.to(DEVICE) for tensor in (*case.state, case.posterior.x, case.posterior.y, case.scale))
    arguments = (
        *tensors, torch.tensor(0.1, dtype=torch.float64), [3, 5, 2], "tanh", "categorical", 1.0, 1.5, 0.4, 5.0, 2,
        SEED, 0, 1, 4, 0, 2, "fused",
    )  # fmt: skip
    assert set(torch.library.opcheck(api._walk_op, arguments).values()) == {"SUCCESS"}


@pytest.mark.parametrize(("path", "fused"), [("one launch", True), ("split", False), ("batched", False)])
def test_auto_takes_the_predicted_path(path: str, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case((3, 5, 2), "tanh", "categorical", 2, 20)
    ours = case.walk("fused")
    monkeypatch.setattr(api, "kernel_wanted", lambda *_: True)
    monkeypatch.setattr(api, "path_of", lambda *_: path)
    from fiberbnn_kernels.mlp_walk import fused as fused_walk

    monkeypatch.setattr(fused_walk, "mlp_walk", counting := CountedCalls(fused_walk.mlp_walk))
    tensors = (tensor.to(DEVICE) for tensor in (*case.state, case.posterior.x, case.posterior.y, case.scale))
    result = api._walk_op(
        *tensors, torch.tensor(0.1, dtype=torch.float64), [3, 5, 2], "tanh", "categorical", 2.0, 1.5, 0.4, 10.0, 3,
        SEED, 5, 1, 4, 0, 0, "auto",
    )  # fmt: skip
    assert counting.calls == fused
    torch.testing.assert_close(result[0].cpu(), ours.particles, rtol=1e-5, atol=1e-5)


def test_perceptrons_beyond_the_table_are_refused_in_words() -> None:
    case = make_case((3, 5, 17), "tanh", "gaussian", 2, 9)
    with pytest.raises(RuntimeError, match="no launch for widths"):
        case.walk("fused")
