"""Data that come in minibatches: all of them are checked, divided evenly, and numbered alike in every run."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fiberbnn import Categorical, Energy, Gaussian, MetricBNN, Network, WalkSchedule, fit_map
from fiberbnn.data import ExamplesInMemory, examples_of
from fiberbnn.minibatch import MinibatchEnergy
from tests.fiberbnn.conftest import TOO_SHORT, make_mlp

N, B, TAU = 60, 12, 0.7
SHORT = WalkSchedule(max_steps=20, min_warmup=5, n_snapshots=2)


def points(network: Network, n: int = 4) -> torch.Tensor:
    """Weights around those of the network, [n, P]."""
    noise = torch.randn(n, network.n_params, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return network.weights + 0.5 * noise


def conv_net(*norm: nn.Module, n_classes: int = 5) -> nn.Module:
    """A network of images [N, 1, 4, 4] that the operations on perceptrons do not take."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        return nn.Sequential(nn.Conv2d(1, 2, 3), *norm, nn.ReLU(), nn.Flatten(), nn.Linear(8, n_classes))


IMAGES = torch.randn(N, 1, 4, 4, generator=torch.Generator().manual_seed(8))


@pytest.mark.parametrize("model", [conv_net(), nn.Sequential(nn.Flatten(), nn.Linear(16, 5))], ids=["conv", "linear"])
@pytest.mark.parametrize(("label", "message"), [(-100, "from -100 to 4"), (9, "from 0 to 9"), (-1, "from -1 to 4")])
def test_labels_of_later_batches_are_checked(model, label, message):
    y = torch.arange(N) % 5
    y[N - 1] = label
    network, data = Network(model), ExamplesInMemory(IMAGES, y)
    refusal = rf"labels run {message}, but the model has 5 outputs: they must lie in 0 \.\. 4$"
    mini = MinibatchEnergy(network, Categorical(), data, TAU, batch_size=B)
    with pytest.raises(ValueError, match=refusal):
        mini.anchored(network.weights)
    with pytest.raises(ValueError, match=refusal):
        mini(network.weights[None])
    with pytest.raises(ValueError, match=refusal):
        [mini.at(time) for time in range(N // B)]
    with pytest.raises(ValueError, match=refusal):
        MetricBNN(model, "classification", batch_size=B, schedule=SHORT).fit((IMAGES, y))


def test_targets_of_later_batches_are_checked():
    x, y = torch.randn(12, 3), torch.randn(12, 2)

    def collate(rows):
        return x[rows], y[rows, :1] if 11 in rows else y[rows]  # one column would be broadcast

    network = Network(make_mlp(3, 4, 2))
    examples = examples_of(DataLoader(range(12), batch_size=2, collate_fn=collate), in_memory=False)
    mini = MinibatchEnergy(network, Gaussian(0.3), examples, TAU, batch_size=4)
    with pytest.raises(ValueError, match=r"targets must be floats of shape \[4, 2\].*got torch.float32 \[4, 1\]"):
        mini(network.weights[None])


class Tagger(nn.Module):
    """A class for every token of sequences of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.out = nn.Embedding(10, 4), nn.Linear(4, 3)

    def forward(self, tokens):
        return self.out(torch.tanh(self.embedding(tokens)))


def padded(rows):
    """Token ids and labels, as long as the longest row; positions beyond a row have the label -100."""
    tokens, labels = zip(*rows, strict=True)
    pad = nn.utils.rnn.pad_sequence
    return pad(tokens, batch_first=True), pad(labels, batch_first=True, padding_value=-100)


def test_sequences_may_be_longer_in_later_batches_and_a_batch_may_leave_all_labels_out():
    generator = torch.Generator().manual_seed(9)
    lengths = [2, 3, 2, 3, 4, 6, 5, 5]
    rows = [(torch.randint(10, (n,), generator=generator), torch.arange(n) % 3) for n in lengths]
    rows[6:] = [(tokens, torch.full_like(labels, -100)) for tokens, labels in rows[6:]]
    network = Network(Tagger().double())
    examples = examples_of(DataLoader(rows, batch_size=2, collate_fn=padded), in_memory=False)
    mini = MinibatchEnergy(network, Categorical(), examples, TAU, batch_size=2)
    exact = Energy(network, Categorical(), *padded(rows), TAU)
    weights = points(network)
    torch.testing.assert_close(mini(weights), exact(weights))
    rows[5][1][0] = 3
    with pytest.raises(ValueError, match=r"labels run from 0 to 3.*or be -100 to be left out"):
        mini(weights)


def test_all_data_are_divided_evenly():
    network = Network(conv_net(nn.BatchNorm2d(2)).double(), batch_norm="refresh")
    x, y = IMAGES[:25].double(), torch.arange(25) % 5
    mini = MinibatchEnergy(network, Categorical(), ExamplesInMemory(x, y), TAU, batch_size=12)
    assert [len(part) for part in mini.batches()] == [8, 8, 9]
    weights = points(network, 2)
    # Every batch is normalised by itself; one of a single row would be far from the others.
    parts = [Energy(network, Categorical(), x[a:b], y[a:b], TAU) for a, b in ((0, 8), (8, 16), (16, 25))]
    prior = 0.5 * TAU * weights.square().sum(1)
    torch.testing.assert_close(mini(weights), torch.stack([part(weights) - prior for part in parts]).sum(0) + prior)


@pytest.mark.parametrize(("n", "batch_size"), [(24, 1), (25, 2), (1, 1)])
@pytest.mark.parametrize("norm", [nn.BatchNorm1d(3), nn.Sequential(nn.Unflatten(1, (1, 3)), nn.BatchNorm1d(1))])
def test_batches_of_one_row_are_refused_where_they_are_normalised(norm, n, batch_size):
    model = nn.Sequential(nn.Linear(16, 3), norm, nn.Flatten(), nn.Linear(3, 2))
    x, y = IMAGES[:n].flatten(1), torch.arange(n) % 2
    data = ExamplesInMemory(x, y)
    with pytest.raises(ValueError, match="one of the batches has a single row: use a batch_size of at least 3"):
        MinibatchEnergy(Network(model, batch_norm="refresh"), Categorical(), data, TAU, batch_size=batch_size)
    MinibatchEnergy(Network(model), Categorical(), data, TAU, batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [np.int64(B), torch.tensor(B)])
def test_batch_sizes_may_be_integers_of_numpy_and_torch(batch_size):
    network, data = Network(conv_net()), ExamplesInMemory(IMAGES, torch.arange(N) % 5)
    mini = MinibatchEnergy(network, Categorical(), data, TAU, batch_size=batch_size)
    assert type(mini.batch_size) is int
    assert torch.equal(mini.at(3).x, MinibatchEnergy(network, Categorical(), data, TAU, batch_size=B).at(3).x)
    fits = [
        fit_map(network.model, IMAGES, data.y, Categorical(), batch_size=size, epochs=1) for size in (batch_size, B)
    ]
    assert torch.equal(fits[0].weights, fits[1].weights)


@pytest.mark.parametrize("batch_size", [32.0, "12"])
def test_batch_sizes_that_are_no_integers_are_refused(batch_size):
    network, y = Network(conv_net()), torch.arange(N) % 5
    with pytest.raises(TypeError, match=rf"batch_size must be an integer; got {batch_size!r}"):
        MinibatchEnergy(network, Categorical(), ExamplesInMemory(IMAGES, y), TAU, batch_size=batch_size)
    with pytest.raises(TypeError, match=rf"batch_size must be an integer; got {batch_size!r}"):
        fit_map(network.model, IMAGES, y, Categorical(), batch_size=batch_size, epochs=1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize("model", [conv_net(), nn.Sequential(nn.Flatten(), nn.Linear(16, 5))], ids=["conv", "linear"])
def test_images_of_integers_are_refused_in_words(model, dtype):
    data = ExamplesInMemory((10 * IMAGES).abs().to(dtype), torch.arange(N) % 5)
    with pytest.raises(TypeError, match=rf"does not take integers for inputs \({dtype}\): convert them to float"):
        MinibatchEnergy(Network(model), Categorical(), data, TAU, batch_size=B)


@TOO_SHORT
def test_a_shuffled_loader_gives_the_same_draws_whatever_the_global_random_state(classification, quick):
    data, found = TensorDataset(classification.x, classification.y), []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            posterior = MetricBNN(classification.map_fit.model, "classification", batch_size=15, **quick)
            posterior.fit(DataLoader(data, batch_size=7, shuffle=True, drop_last=True))
        found.append(posterior.draws(4))
    assert torch.equal(*found)
