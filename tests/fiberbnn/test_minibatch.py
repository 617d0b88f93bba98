"""The energy seen through minibatches: unbiased, quiet near the MAP, the same at every call, and counted."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from fiberbnn import Categorical, Energy, Gaussian, MetricBNN, Network, WalkSchedule, WalkSettings, walk_from
from fiberbnn.data import ExamplesInMemory, examples_of
from fiberbnn.minibatch import MinibatchEnergy
from fiberbnn.walk import build
from tests.fiberbnn.conftest import make_mlp

N, B, TAU = 60, 12, 0.7
SHORT = WalkSchedule(max_steps=20, min_warmup=5, n_snapshots=2)


class Named(nn.Module):
    """A network of a dictionary of inputs that no perceptron operation takes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, a, b):
        return self.second(torch.tanh(self.norm(self.first(torch.cat([a, b], dim=1)))))


def case(kind: str, dtype: torch.dtype = torch.float64):
    """Network, likelihood, inputs and targets."""
    generator = torch.Generator().manual_seed(3)
    x, labels = torch.randn(N, 3, generator=generator), torch.randint(0, 3, (N,), generator=generator)
    if kind == "perceptron":
        return Network(make_mlp(3, 6, 3).to(dtype)), Categorical(), x.to(dtype), labels
    if kind == "mapping":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            model = Named().to(dtype)
        return Network(model), Categorical(), {"a": x[:, :1].to(dtype), "b": x[:, 1:].to(dtype)}, labels
    targets = torch.randn(N, 2, generator=generator)
    return Network(make_mlp(3, 6, 2).to(dtype)), Gaussian((0.4, 0.8)), x.to(dtype), targets.to(dtype)


KINDS = ["perceptron", "mapping", "two noises"]


def energies(kind: str, batch_size: int = B, *, anchored: bool = False, **options):
    """The exact energy, and that of minibatches."""
    network, likelihood, x, y = case(kind)
    exact = Energy(network, likelihood, x, y, TAU)
    mini = MinibatchEnergy(network, likelihood, ExamplesInMemory(x, y), TAU, batch_size=batch_size, **options)
    return exact, mini.anchored(network.weights) if anchored else mini


def points(network: Network, n: int = 4, distance: float = 0.5):
    """Weights around those of the network, [n, P]."""
    noise = torch.randn(n, network.n_params, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return network.weights + distance * noise


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("anchored", [False, True])
def test_values_and_gradients_average_to_those_of_all_data_over_an_epoch(kind, anchored):
    exact, mini = energies(kind, anchored=anchored)
    weights = points(exact.network)
    for epoch in (0, 3):
        seen = [mini.at(epoch * N // B + t) for t in range(N // B)]
        found = [energy.value_and_grad(weights) for energy in seen]
        value, gradient = (torch.stack(parts).mean(0) for parts in zip(*found, strict=True))
        torch.testing.assert_close(value, exact.value_and_grad(weights)[0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(gradient, exact.value_and_grad(weights)[1], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(torch.stack([energy(weights) for energy in seen]).mean(0), exact(weights))
        # Single batches are not all data.
        assert min(float((part[1] - exact.value_and_grad(weights)[1]).abs().max()) for part in found) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("anchored", [False, True])
def test_the_gradient_is_that_of_the_value(kind, anchored):
    exact, mini = energies(kind, anchored=anchored)
    weights, energy, step = points(exact.network, 1), mini.at(2), 1e-5
    offsets = step * torch.eye(exact.network.n_params, dtype=torch.float64)
    by_differences = (energy(weights + offsets) - energy(weights - offsets)) / (2 * step)
    value, gradient = energy.value_and_grad(weights)
    torch.testing.assert_close(gradient[0], by_differences, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(value, energy(weights))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, B, 17, N])
def test_every_batch_is_exact_at_the_anchor(kind, batch_size):
    exact, mini = energies(kind, batch_size, anchored=True)
    at_map = exact.network.weights[None]
    value, gradient = exact.value_and_grad(at_map)
    for time in range(5):
        seen = mini.at(time)
        torch.testing.assert_close(seen.value_and_grad(at_map)[0], value, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(seen.value_and_grad(at_map)[1], gradient, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(seen(at_map), exact(at_map))


@pytest.mark.parametrize("kind", KINDS)
def test_control_variates_take_the_noise_out_near_the_anchor(kind):
    noise = {}
    for distance in (0.01, 0.1):
        for anchored in (False, True):
            exact, mini = energies(kind, anchored=anchored)
            weights = points(exact.network, distance=distance)
            gradient = exact.value_and_grad(weights)[1]
            each = torch.stack([mini.at(t).value_and_grad(weights)[1] - gradient for t in range(N // B)])
            noise[distance, anchored] = float(each.square().mean())
    # The noise that is left grows with the square of the distance.
    assert noise[0.01, True] < 2e-3 * noise[0.01, False]
    assert noise[0.1, True] < 0.25 * noise[0.1, False]
    assert noise[0.1, True] / noise[0.01, True] == pytest.approx(100, rel=0.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [7, B, N])
def test_called_itself_it_is_the_energy_of_all_data(kind, batch_size):
    exact, mini = energies(kind, batch_size, anchored=True)
    weights = points(exact.network)
    torch.testing.assert_close(mini(weights), exact(weights), rtol=1e-11, atol=1e-11)


def test_the_batch_of_a_step_is_the_same_whenever_it_is_asked_for():
    _, mini = energies("perceptron", seed=4)
    _, again = energies("perceptron", seed=4)
    times = [0, 3, 4, 5, 11, 26]
    first = {t: mini.at(t).x.clone() for t in times}
    for t in reversed(times):
        assert torch.equal(again.at(t).x, first[t])
        assert torch.equal(mini.at(t).x, first[t])
    other = energies("perceptron", seed=5)[1]
    assert not torch.equal(other.at(0).x, first[0])
    assert not torch.equal(first[0], first[5])  # another epoch has another order


@pytest.mark.parametrize("batch_size", [B, 25])
def test_an_epoch_shows_every_example_at_most_once(batch_size):
    exact, mini = energies("perceptron", batch_size)
    steps = N // batch_size
    for epoch in range(3):
        rows = torch.cat([mini.at(epoch * steps + t).x for t in range(steps)])
        assert len(rows) == steps * batch_size
        assert rows.unique(dim=0).shape[0] == len(rows)
        assert (rows[:, None] == exact.x[None]).all(-1).any(1).all()


def test_costs_are_in_passes_over_the_data():
    exact, mini = energies("perceptron")
    weights = points(exact.network, 5)
    mini.at(0).value_and_grad(weights)
    assert mini.cost.grad_evals == pytest.approx(5 * B / N)
    assert mini.cost.shared_grads == 0
    mini.anchored(exact.network.weights)
    assert mini.cost.grad_evals == pytest.approx(1 + 5 * B / N)
    # Particles, and the anchor once for each new batch.
    for time, new_batch in ((0, True), (0, False), (1, True)):
        before = mini.cost.copy()
        mini.at(time).value_and_grad(weights)
        assert (mini.cost - before).grad_evals == pytest.approx((5 + new_batch) * B / N)
    assert mini.cost.shared_grads == pytest.approx(1 + 2 * B / N)
    before = mini.cost.copy()
    mini(weights)
    assert (mini.cost - before).energy_evals == pytest.approx(5)
    assert (mini.cost - before).grad_evals == 0
    before = mini.cost.copy()
    mini.at(1).hvp(exact.network.weights, weights)
    assert (mini.cost - before).hvp_evals == pytest.approx(5 * B / N)
    assert (mini.cost - before).grad_evals == 0
    before = mini.cost.copy()
    mini.at(2).hvp(exact.network.weights, weights)  # a batch whose gradient at the anchor was not known
    assert (mini.cost - before).grad_evals == pytest.approx(B / N)


def test_without_control_variates_anchoring_costs_and_changes_nothing():
    exact, mini = energies("perceptron", control_variates=False)
    weights = points(exact.network)
    before = mini.at(0).value_and_grad(weights)[1]
    cost = mini.cost.copy()
    assert mini.anchored(exact.network.weights) is mini
    assert mini.cost == cost
    assert torch.equal(mini.at(0).value_and_grad(weights)[1], before)


def test_a_walk_counts_steps_measurements_and_anchors():
    exact, mini = energies("perceptron")
    k = 4
    found = walk_from(mini, exact.network.weights, n_particles=k, schedule=SHORT)
    steps, measured = len(found.history), int(found.history[:, 1].isfinite().sum())
    assert (steps, measured) == (20, 2)
    batches = 1 + steps  # that of the start, too
    particles = k * (1 + steps + measured) * B / N
    shared = 1 + 16 * B / N + batches * B / N  # all data at the anchor, the preconditioner, the anchor in each batch
    assert found.cost.grad_evals == pytest.approx(particles + shared)
    assert found.cost.shared_grads == pytest.approx(shared)
    assert found.cost.hvp_evals == pytest.approx(20 * B / N)
    assert found.cost.energy_evals == pytest.approx(k)  # of the last snapshot, on all data
    torch.testing.assert_close(found.full_energy, exact(found.weights[-k:]))


class Rows(Dataset):
    """Examples that remember when they were read."""

    def __init__(self, x, y) -> None:
        self.x, self.y, self.read = x, y, []

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i):
        self.read.append(i)
        return self.x[i], self.y[i]


def test_examples_on_demand_give_the_same_walk_and_are_never_read_beyond_a_batch():
    network, likelihood, x, y = case("perceptron")
    rows, most = Rows(x, y), []
    on_demand = examples_of(DataLoader(rows, batch_size=30), in_memory=False)
    plain = on_demand.take

    def watched(index):
        rows.read.clear()
        batch = plain(index)
        most.append(len(rows.read))
        return batch

    on_demand.take = watched
    walks = [
        walk_from(
            MinibatchEnergy(network, likelihood, examples, TAU, batch_size=B),
            network.weights,
            n_particles=3,
            schedule=SHORT,
            seed=2,
        )
        for examples in (on_demand, ExamplesInMemory(x, y))
    ]
    assert torch.equal(walks[0].weights, walks[1].weights)
    assert max(most) == B
    # The check, the anchor, the start and its curvature, each step, and all data for the last snapshot.
    assert len(most) == 1 + 2 * N // B + 1 + len(walks[0].history)


@pytest.mark.parametrize("batch_size", [0, -1, N + 1])
def test_batch_sizes_out_of_range_are_refused(batch_size):
    with pytest.raises(ValueError, match=rf"batch_size must be from 1 to the {N} training examples; got {batch_size}"):
        energies("perceptron", batch_size)


def test_metropolis_is_refused():
    exact, mini = energies("perceptron")
    settings = WalkSettings(metropolis=True)
    with pytest.raises(ValueError, match="metropolis=True needs the energy of all data"):
        build(mini, scale=torch.ones(exact.network.n_params), step_size=0.1, settings=settings)
    with pytest.raises(ValueError, match="metropolis=True needs the energy of all data"):
        walk_from(mini, exact.network.weights, settings=settings)


@pytest.mark.parametrize(("where", "message"), [("inputs", "the inputs hold 1 NaN"), ("targets", "the targets hold 1")])
@pytest.mark.parametrize("control_variates", [True, False])
def test_a_later_batch_that_is_not_finite_stops_the_walk_in_words(where, message, control_variates):
    network, likelihood, x, y = case("two noises")
    (x if where == "inputs" else y)[N - 1, 0] = math.nan
    mini = MinibatchEnergy(
        network, likelihood, ExamplesInMemory(x, y), TAU, batch_size=B, control_variates=control_variates
    )
    with pytest.raises(ValueError, match=message):
        walk_from(mini, network.weights, n_particles=2, schedule=SHORT)
    # With control variates that is known before the first step.
    assert (mini.cost.grad_evals < 1) == control_variates


def test_inputs_that_the_walk_never_saw_are_checked_where_they_are_used():
    network, likelihood, x, y = case("perceptron")
    x[N - 1, 0] = math.inf
    mini = MinibatchEnergy(network, likelihood, ExamplesInMemory(x, y), TAU, batch_size=B)
    with pytest.raises(ValueError, match="the inputs hold 1 NaN or infinite"):
        mini.rows(torch.tensor([3, N - 1]))


def test_a_first_batch_that_does_not_fit_is_refused_at_once():
    network, likelihood, x, y = case("perceptron")
    with pytest.raises(ValueError, match="labels run from 0 to 7"):
        MinibatchEnergy(network, likelihood, ExamplesInMemory(x, torch.arange(N) % 8), TAU, batch_size=B)
    with pytest.raises(ValueError, match="prior_precision must be positive"):
        MinibatchEnergy(network, likelihood, ExamplesInMemory(x, y), 0.0, batch_size=B)


@pytest.mark.filterwarnings("ignore:the walk's energy", "ignore:decoded samples", "ignore:.*hardly vary")
def test_a_posterior_of_minibatches_is_one_of_the_same_data(classification, quick):
    posterior = MetricBNN(classification.map_fit.model, "classification", batch_size=15, **quick)
    data = DataLoader(Rows(classification.x, classification.y), batch_size=10)
    posterior.fit(data, in_memory=False)
    found = posterior.diagnose((classification.x_test, classification.y_test))
    assert math.isfinite(found.nll_latent)
    assert found.grad_evals < posterior.trajectory.cost.grad_evals + 15 * 32 * 64 / 60 + 2
    assert posterior(classification.x_test).shape == (300, 3)
