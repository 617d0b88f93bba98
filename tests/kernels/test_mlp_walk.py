"""Many steps of a perceptron's walk: the reference against the library's walk, and how it reaches torch."""

import copy

import pytest
import torch
from torch import Tensor, nn

from fiberbnn import walk
from fiberbnn.energy import Energy
from fiberbnn.likelihood import Categorical, Gaussian
from fiberbnn.network import Network
from fiberbnn.streams import Stream
from fiberbnn.walk_state import WalkSettings, WalkState
from fiberbnn_kernels import MLPLayout
from fiberbnn_kernels.mlp_walk import MLPWalk, api, mlp_walk

SETTINGS = WalkSettings(friction=0.4, energy_error_limit=5.0)
LAYOUT = MLPLayout((3, 7, 5, 2), "silu")
SEED = 2**40 + 5


def make_energy(likelihood: str, dtype: torch.dtype, n_rows: int = 41) -> Energy:
    """The energy of random data, on the library's side."""
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = nn.Sequential(nn.Linear(3, 7), nn.SiLU(), nn.Linear(7, 5), nn.SiLU(), nn.Linear(5, 2)).to(dtype)
    x = torch.randn(n_rows, 3, generator=generator, dtype=dtype)
    if likelihood == "categorical":
        return Energy(Network(model), Categorical(), x, torch.randint(2, (n_rows,), generator=generator), 1.5)
    y = torch.randn(n_rows, 2, generator=generator, dtype=dtype)
    return Energy(Network(model), Gaussian(4.0), x, y, 1.5)


def walk_with_op(state: WalkState, energy: Energy, **changes: object) -> MLPWalk:
    likelihood = energy.likelihood
    arguments = {
        "likelihood": likelihood.kind, "prior_precision": energy.prior_precision,
        "noise_precision": likelihood.precision if isinstance(likelihood, Gaussian) else 1.0,
        "scale": scale_of(energy), "step_size": 0.3, "friction": SETTINGS.friction,
        "energy_error_limit": SETTINGS.energy_error_limit, "n_steps": 6, "seed": SEED, "step0": state.time,
        "refresh_stream": Stream.REFRESH, "revive_stream": Stream.REVIVE, **changes,
    }  # fmt: skip
    tensors = (state.particles, state.velocity, state.energy, state.grad)
    return mlp_walk(*tensors, energy.x, energy.y, LAYOUT, **arguments)


def scale_of(energy: Energy) -> Tensor:
    n = energy.network.n_params
    return torch.linspace(0.1, 0.5, n, dtype=energy.network.weights.dtype)


def start(energy: Energy, n_particles: int = 5, particle0: int = 0) -> WalkState:
    weights = energy.network.weights
    return walk.init(weights, energy, SETTINGS, n_particles=n_particles, seed=SEED, particle0=particle0)


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
@pytest.mark.parametrize("step_size", [0.05, 1.2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_it_is_the_walk_step_by_step(likelihood: str, step_size: float, dtype: torch.dtype, tolerance: float) -> None:
    """Long steps are undone: that is in it too."""
    energy = make_energy(likelihood, dtype)
    state = start(energy, particle0=7)
    ours = walk_with_op(state, energy, step_size=step_size, particle0=7, store_every=2, n_steps=8)
    moved = []
    for t in range(8):
        state, info = walk.step(
            state, energy, SETTINGS, scale=scale_of(energy), step_size=step_size, seed=SEED, particle0=7
        )
        moved.append(info.moved)
        torch.testing.assert_close(ours.acceptance[t], info.acceptance, rtol=0, atol=tolerance)
        torch.testing.assert_close(ours.heat[t], info.heat, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(ours.energies[t], state.energy, rtol=tolerance, atol=0)
        if t % 2:
            torch.testing.assert_close(ours.snapshots[t // 2], state.particles, rtol=tolerance, atol=tolerance)
    assert torch.equal(ours.moved, torch.stack(moved))
    assert bool(ours.moved.all()) == (step_size < 0.1)
    for name in ("particles", "velocity", "energy", "grad"):
        theirs = getattr(state, name)
        torch.testing.assert_close(getattr(ours, name), theirs, rtol=tolerance, atol=tolerance * float(theirs.std()))


def test_cut_anywhere_it_is_the_same_walk() -> None:
    energy = make_energy("gaussian", torch.float64)
    whole = walk_with_op(start(energy), energy, n_steps=6, store_every=3, step_size=1.2)
    assert not whole.moved.all()
    first = walk_with_op(start(energy), energy, n_steps=4, store_every=3, step_size=1.2)
    state = WalkState(*first[:4], time=4, added_friction=torch.zeros(5))
    last = walk_with_op(state, energy, n_steps=2, step_size=1.2)
    assert torch.equal(last.particles, whole.particles)
    assert torch.equal(torch.cat((first.moved, last.moved)), whole.moved)
    assert torch.equal(first.snapshots, whole.snapshots[:1])
    assert last.snapshots.shape == (0, 5, energy.network.n_params)
    assert torch.equal(whole.snapshots[-1], whole.particles)
    chunks = [
        walk_with_op(start(energy, n, p), energy, n_steps=6, step_size=1.2, particle0=p) for n, p in ((2, 0), (3, 2))
    ]
    torch.testing.assert_close(torch.cat([c.velocity for c in chunks]), whole.velocity, rtol=1e-12, atol=1e-12)


def test_undone_steps_leave_the_particle_and_give_it_the_revived_velocity() -> None:
    from fiberbnn_kernels import philox_normal

    energy = make_energy("categorical", torch.float32)
    state = start(energy)
    ours = walk_with_op(state, energy, n_steps=1, step_size=200.0, particle0=3)
    assert not ours.moved.any()
    for name in ("particles", "energy", "grad"):
        assert torch.equal(getattr(ours, name), getattr(state, name))
    noise = philox_normal(*state.velocity.shape, seed=SEED, step=0, stream=Stream.REVIVE, particle0=3)
    assert torch.equal(ours.velocity, noise)


def test_operator_is_registered_soundly() -> None:
    energy = make_energy("categorical", torch.float32)
    state = start(energy, 2)
    arguments = (
        state.particles, state.velocity, state.energy, state.grad, energy.x, energy.y, scale_of(energy),
        torch.tensor(0.1, dtype=torch.float64), list(LAYOUT.widths), LAYOUT.activation, "categorical", 1.0, 1.5, 0.4,
        5.0, 3, SEED, 0, 1, 4, 0, 2, "reference",
    )  # fmt: skip
    assert set(torch.library.opcheck(api._walk_op, arguments).values()) == {"SUCCESS"}


def test_compiles_without_a_break_and_without_a_graph_for_every_step_size() -> None:
    energy = make_energy("gaussian", torch.float32)
    state = start(energy, 2)
    graphs = 0

    def counting(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        nonlocal graphs
        graphs += 1
        return graph

    def two_steps(particles: Tensor, step_size: Tensor) -> Tensor:
        return walk_with_op(state._replace(particles=particles), energy, n_steps=2, step_size=step_size).particles

    compiled = torch.compile(two_steps, fullgraph=True, backend=counting)
    for h in (0.1, 0.2, 0.3):
        size = torch.tensor(h, dtype=torch.float64)
        assert torch.equal(compiled(state.particles, size), two_steps(state.particles, size))
    assert graphs == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_steps": 0}, "n_steps must"),
        ({"store_every": -1}, "store_every at least"),
        ({"prior_precision": 0.0}, "prior_precision must"),
        ({"energy_error_limit": float("nan")}, "energy_error_limit must"),
        ({"likelihood": "poisson"}, "likelihood must"),
        ({"likelihood": "gaussian"}, "y must"),
        ({"step_size": -0.1}, "step_size must"),
        ({"friction": float("inf")}, "friction must"),
        ({"scale": torch.ones(3)}, "scale must"),
        ({"seed": -1}, "seed must"),
        ({"step0": 2**32 - 1}, "steps must"),
        ({"revive_stream": -1}, "stream must"),
        ({"impl": "triton"}, "impl must"),
    ],
)
def test_bad_input_is_refused_in_words(change: dict[str, object], message: str) -> None:
    energy = make_energy("categorical", torch.float32)
    with pytest.raises(ValueError, match=message):
        walk_with_op(start(energy), energy, **change)


def test_tensors_that_do_not_fit_are_refused_in_words() -> None:
    energy = make_energy("categorical", torch.float32)
    state = start(energy)
    with pytest.raises(ValueError, match="velocity must"):
        walk_with_op(state._replace(velocity=state.velocity[:2]), energy)
    with pytest.raises(ValueError, match="energy must"):
        walk_with_op(state._replace(energy=state.energy.double()), energy)
    with pytest.raises(ValueError, match="no autograd formula"):
        walk_with_op(state._replace(grad=state.grad.clone().requires_grad_()), energy)


def test_fused_says_why_it_cannot_run() -> None:
    energy = make_energy("categorical", torch.float64)
    with pytest.raises(RuntimeError, match="float32 only"):
        walk_with_op(start(energy), energy, impl="fused")
    if not torch.cuda.is_available():
        energy = make_energy("categorical", torch.float32)
        with pytest.raises(RuntimeError, match="cannot run: "):
            walk_with_op(start(energy), energy, impl="fused")


def test_under_vmap_the_copies_are_more_particles() -> None:
    energy = make_energy("categorical", torch.float64)
    whole = start(energy, n_particles=6, particle0=4)
    state = [getattr(whole, name) for name in ("particles", "velocity", "energy", "grad")]

    def walked(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(walk_with_op(whole._replace(**dict(zip(NAMES, tensors, strict=True))), energy, **OPTIONS))

    together = MLPWalk(*walked(*state))
    copies = torch.vmap(walked, in_dims=(0, 1, 0, 0), randomness="different")(
        *(t.unflatten(0, (2, 3)).movedim(0, at) for t, at in zip(state, (0, 1, 0, 0), strict=True))
    )
    for name, found in zip(MLPWalk._fields, copies, strict=True):
        expected = getattr(together, name)
        axis = 0 if name in NAMES else 1
        torch.testing.assert_close(found.movedim(0, axis).flatten(axis, axis + 1), expected, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="belong to all particles"):
        torch.vmap(lambda x: walk_with_op(whole, copied(energy, x), **OPTIONS).energy, randomness="different")(
            energy.x.expand(2, -1, -1)
        )


NAMES = ("particles", "velocity", "energy", "grad")
OPTIONS = {"step_size": 0.05, "particle0": 4, "store_every": 2}


def copied(energy: Energy, x: Tensor) -> Energy:
    other = copy.copy(energy)
    other.x = x
    return other
