"""Predictions of samples, their score and their agreement, against torch.distributions and plain loops."""

import math

import pytest
import torch
from torch import distributions as D
from torch import nn

from fiberbnn import Categorical, Gaussian, Network, predictive
from fiberbnn.averaging import Averaging
from fiberbnn.batch_norm import refreshed_statistics
from fiberbnn.likelihood import HeteroscedasticGaussian
from fiberbnn.predictive import averaged, outputs_of, predictive_nll, split_r_hat, spread

S, N, C = 5, 8, 3
GENERATOR = torch.Generator().manual_seed(0)
OUTPUTS = torch.randn(S, N, C, generator=GENERATOR)
LABELS = torch.randint(C, (N,), generator=GENERATOR)
TARGETS = torch.randn(N, C, generator=GENERATOR)


def mixture(outputs: torch.Tensor, kind: str) -> D.MixtureSameFamily:
    """The averaged predictive as an equal-weight mixture of torch's."""
    outputs = outputs.double().transpose(0, 1)  # [N, S, C]
    part = D.Categorical(logits=outputs) if kind == "categorical" else D.Independent(D.Normal(outputs, 0.4), 1)
    return D.MixtureSameFamily(D.Categorical(torch.ones(len(outputs), outputs.shape[1])), part)


@pytest.mark.parametrize(
    ("kind", "likelihood", "y"), [("categorical", Categorical(), LABELS), ("gaussian", Gaussian(0.4), TARGETS)]
)
def test_nll_is_that_of_the_mixture_and_of_its_parts(kind, likelihood, y):
    averaged, single = predictive_nll(likelihood, OUTPUTS, y)
    assert averaged == pytest.approx(float(-mixture(OUTPUTS, kind).log_prob(y.double()).mean()))
    alone = [float(-mixture(OUTPUTS[s : s + 1], kind).log_prob(y.double()).mean()) for s in range(S)]
    assert single == pytest.approx(sum(alone) / S)
    assert averaged < single  # Jensen
    assert predictive_nll(likelihood, OUTPUTS[:1], y) == pytest.approx((alone[0], alone[0]))


def test_nll_of_the_uniform_predictive_is_log_c():
    assert predictive_nll(Categorical(), torch.zeros(S, N, C), LABELS) == pytest.approx((math.log(C), math.log(C)))


def test_nll_of_a_certain_error_is_large_but_finite():
    certain = torch.zeros(S, N, C)
    certain[..., 0] = 1e4
    assert predictive_nll(Categorical(), certain, torch.ones(N).long())[0] == pytest.approx(1e4)


def test_predictions_are_probabilities_or_means():
    probabilities = Categorical().predictions(OUTPUTS)
    torch.testing.assert_close(probabilities, OUTPUTS.exp() / OUTPUTS.exp().sum(-1, keepdim=True))
    assert torch.equal(Gaussian(1.0).predictions(OUTPUTS), OUTPUTS)


def test_spread_is_the_mean_standard_deviation_over_samples():
    assert spread(OUTPUTS) == pytest.approx(float(OUTPUTS.std(0).mean()))
    assert spread(OUTPUTS[:1]) == 0.0
    assert spread(OUTPUTS[:1].repeat(4, 1, 1)) == 0.0


@pytest.mark.parametrize(
    ("likelihood", "y"),
    [
        (Categorical(), torch.randint(3, (N, 4), generator=GENERATOR)),
        (Gaussian((0.4, 0.2, 1.0)), torch.randn(N, 4, 3, generator=GENERATOR)),
    ],
)
def test_nll_of_extra_axes_scores_an_example_together(likelihood, y):
    outputs = torch.randn(S, N, 4, 3, generator=torch.Generator().manual_seed(4))
    total = 0.0
    for n in range(N):
        one = [-float(likelihood.nll(outputs[s, n : n + 1].double(), y[n : n + 1])) for s in range(S)]
        total -= math.log(sum(map(math.exp, one)) / S)
    averaged_nll, single = predictive_nll(likelihood, outputs, y)
    assert averaged_nll == pytest.approx(total / N)
    assert single == pytest.approx(sum(float(likelihood.nll(o.double(), y)) for o in outputs) / (S * N))


# Networks of several kinds: outputs and averages must not depend on how inputs and samples are divided.


class Named(nn.Module):
    """Two inputs by name; a token's class logits [N, T, C]."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, ids, scale):
        return self.head(self.embed(ids) * scale[:, None])


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


NETWORKS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 3)), draw(11, 2), Categorical()),
    "pixels": (lambda: nn.Conv2d(1, 3, 3, padding=1), draw(11, 1, 4, 4), Categorical(class_axis=1)),
    "tokens": (Named, {"ids": torch.arange(33).view(11, 3) % 7, "scale": draw(11, 1)}, Categorical()),
    "head": (lambda: nn.Linear(2, 4), draw(11, 2), HeteroscedasticGaussian()),
    "flat": (lambda: nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), draw(11, 2), Gaussian(0.3)),
}


@pytest.fixture(params=NETWORKS)
def setting(request):
    """Network, weights, inputs and likelihood, in float64."""
    make, x, likelihood = NETWORKS[request.param]
    network = Network(seeded(make).double())
    return network, network.weights + 0.3 * draw(S, network.n_params), x, likelihood


def plain_outputs(network, weights, x):
    """All inputs at once, one module for each weight sample."""
    modules = [network.module(w) for w in weights]
    with torch.no_grad():
        return torch.stack([m(x) if isinstance(x, torch.Tensor) else m(**x) for m in modules])


@pytest.mark.parametrize("batch_bytes", [1, 20_000, 1 << 28])
def test_outputs_are_those_of_the_modules_in_any_batches(setting, monkeypatch, batch_bytes):
    network, weights, x, _ = setting
    monkeypatch.setattr(predictive, "BATCH_BYTES", batch_bytes)
    torch.testing.assert_close(outputs_of(network, weights, x), plain_outputs(network, weights, x))


@pytest.mark.parametrize("batch_bytes", [1, 20_000, 1 << 28])
@pytest.mark.parametrize("max_chunk", [2, 32])
def test_averages_are_those_of_stored_outputs_in_any_batches(setting, monkeypatch, batch_bytes, max_chunk):
    network, weights, x, likelihood = setting
    expected = Averaging(likelihood).add(plain_outputs(network, weights, x)).result()
    monkeypatch.setattr(predictive, "BATCH_BYTES", batch_bytes)
    monkeypatch.setattr(predictive, "MAX_CHUNK", max_chunk)
    for given in (weights, iter(weights.split([1, 3, 1]))):
        found = averaged(network, likelihood, given, x)
        assert type(found) is type(expected)
        names = ("probs", "entropy", "mutual_information") if isinstance(likelihood, Categorical) else ("mean", "std")
        for name in (*names, "variance", "epistemic", "aleatoric"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name))


class Recording:
    """A network that notes the shapes it was called with, and what it gave."""

    def __init__(self, network):
        self.network, self.calls, self.prepared = network, [], 0

    def __getattr__(self, name):
        return getattr(self.network, name)

    def prepare(self, x):
        self.prepared += 1
        return self.network.prepare(x)

    def __call__(self, weights, x, buffers=None):
        outputs = self.network(weights, x, buffers)
        self.calls.append(tuple(outputs.shape[:2]))
        return outputs


@pytest.mark.parametrize("run", [outputs_of, lambda n, w, x: averaged(n, Categorical(), w, x)])
def test_batches_shrink_with_samples_outputs_and_inputs(monkeypatch, run):
    monkeypatch.setattr(predictive, "BATCH_BYTES", 1 << 20)

    def most_rows(n_in, n_out, n_samples):
        network = Recording(Network(seeded(lambda: nn.Linear(n_in, n_out))))
        run(network, network.weights.expand(n_samples, -1), torch.zeros(5000, n_in))
        return max(rows for _, rows in network.calls)

    small = most_rows(2, 2, 2)
    assert small < 5000
    assert most_rows(2, 2, 20) < small / 5
    assert most_rows(2, 600, 2) < small / 5
    assert most_rows(200, 2, 2) < small / 5


def test_averages_never_hold_the_outputs_of_all_samples(monkeypatch):
    monkeypatch.setattr(predictive, "BATCH_BYTES", 1 << 16)  # two samples' outputs and their float64 copies
    network = Recording(Network(seeded(lambda: nn.Linear(2, 1000))))
    averaged(network, Categorical(), network.weights.expand(20, -1), torch.zeros(12, 2))
    assert max(samples * rows for samples, rows in network.calls) == 2
    # Inputs are prepared once a batch, however many chunks of samples there are; one more time to see two rows.
    assert network.prepared == 1 + 12
    assert len(network.calls) == 1 + 12 * 10


def test_the_last_layer_is_averaged_over_cached_features():
    model = seeded(lambda: nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 3)))
    network = Network(model.double(), subset="last_layer")
    weights, x = network.weights + 0.3 * draw(S, network.n_params), draw(11, 2)
    expected = plain_outputs(network, weights, x)
    torch.testing.assert_close(outputs_of(network, weights, x), expected)
    torch.testing.assert_close(averaged(network, Categorical(), weights, x).probs, expected.softmax(-1).mean(0))


def test_refreshed_batch_norm_takes_the_statistics_of_every_sample(monkeypatch):
    model = seeded(lambda: nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)))
    network = Network(model.double(), batch_norm="refresh")
    weights, x = network.weights + 0.3 * draw(S, network.n_params), draw(11, 2)
    buffers = refreshed_statistics(network, weights, lambda: [x])
    expected = network(weights, x, buffers)
    monkeypatch.setattr(predictive, "BATCH_BYTES", 10_000)
    monkeypatch.setattr(predictive, "MAX_CHUNK", 2)
    torch.testing.assert_close(outputs_of(network, weights, x, buffers=buffers), expected)
    found = averaged(network, Categorical(), weights, x, buffers=buffers)
    torch.testing.assert_close(found.probs, expected.softmax(-1).mean(0))
    for run in (lambda: outputs_of(network, weights, x), lambda: averaged(network, Categorical(), weights, x)):
        with pytest.raises(ValueError, match=r"refreshes its batch norm: give the statistics of every weight sample"):
            run()
    # Samples that come in pieces take theirs from the statistics of all.
    pieces = averaged(network, Categorical(), iter(weights.split([5, S - 5])), x, buffers=buffers)
    torch.testing.assert_close(pieces.probs, found.probs)
    torch.testing.assert_close(pieces.mutual_information, found.mutual_information)


def test_inputs_take_on_the_dtype_of_the_weights(classification):
    network = classification.energy().network
    whole = outputs_of(network, network.weights[None], classification.x)
    torch.testing.assert_close(outputs_of(network, network.weights[None], classification.x.double()), whole)
    assert averaged(network, Categorical(), network.weights[None], classification.x.double()).probs.dtype == whole.dtype


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(0, 2), "the inputs are empty: x has no rows"),
        (torch.tensor([[0.0, math.nan]]), "the inputs hold 1 NaN or infinite values"),
        (torch.tensor([[math.inf, 0.0]]), "the inputs hold 1 NaN or infinite values"),
    ],
)
def test_inputs_that_are_empty_or_not_finite_are_refused(classification, x, message):
    network = classification.energy().network
    with pytest.raises(ValueError, match=message):
        outputs_of(network, network.weights[None], x)
    with pytest.raises(ValueError, match=message):
        averaged(network, Categorical(), network.weights[None], x)


def test_samples_that_are_none_are_refused(classification):
    network, x = classification.energy().network, classification.x
    with pytest.raises(ValueError, match="no weight samples to average over"):
        averaged(network, Categorical(), [], x)
    for weights in (network.weights, network.weights.expand(0, -1), network.weights[None, 1:]):
        with pytest.raises(ValueError, match=r"weights must be \[S, "):
            averaged(network, Categorical(), weights, x)


def r_hat_by_loops(chains: torch.Tensor) -> float:
    """Gelman et al.'s formula for one quantity, chains [K, T]."""
    half = chains.shape[1] // 2
    halves = [part for chain in chains.tolist() for part in (chain[:half], chain[-half:])]
    means = [sum(part) / half for part in halves]
    grand = sum(means) / len(means)
    between = half / (len(means) - 1) * sum((mean - grand) ** 2 for mean in means)
    deviations = [
        sum((value - mean) ** 2 for value in part) / (half - 1) for part, mean in zip(halves, means, strict=True)
    ]
    within = sum(deviations) / len(deviations)
    return math.sqrt(((half - 1) / half * within + between / half) / within)


@pytest.mark.parametrize("length", [4, 7, 10])
def test_split_r_hat_is_the_formula(length):
    chains = torch.randn(6, length, 2, 3, generator=torch.Generator().manual_seed(2)).cumsum(1)
    found = split_r_hat(chains)
    assert found.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert float(found[i, j]) == pytest.approx(r_hat_by_loops(chains[:, :, i, j].double()), rel=1e-6)


def test_split_r_hat_of_independent_draws_is_near_one_and_of_a_trend_is_not():
    chains = torch.randn(20, 200, generator=torch.Generator().manual_seed(3))
    assert float(split_r_hat(chains)) == pytest.approx(1.0, abs=0.01)
    assert float(split_r_hat(chains + torch.linspace(0, 5, 200))) > 1.3
    assert float(split_r_hat(chains + torch.linspace(0, 5, 20)[:, None])) > 1.5


def test_split_r_hat_of_what_does_not_vary_is_one_and_of_chains_that_are_stuck_is_infinite():
    constant = torch.full((3, 8), 0.7)
    stuck = torch.tensor([[0.1], [0.2], [0.3]]).expand(3, 8)
    assert float(split_r_hat(constant)) == 1.0
    assert float(split_r_hat(stuck)) == math.inf


def test_split_r_hat_needs_four_draws():
    with pytest.raises(ValueError, match="at least four draws a chain; got 3"):
        split_r_hat(torch.zeros(5, 3))
