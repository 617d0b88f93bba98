"""Bad input: one clear error each, before time is spent, that says what to change."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from fiberbnn import Categorical, Gaussian, MetricBNN, WalkDivergedError, fit_map, memory
from fiberbnn import mode as mode_module
from fiberbnn_kernels.mlp import reference as mlp_reference

X, LABELS = torch.randn(12, 2, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
TARGETS = X.sum(1, keepdim=True)


def make_model(n_out: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, n_out))


def spoiled(values: torch.Tensor, bad: float) -> torch.Tensor:
    values = values.clone()
    values[2:4] = bad
    return values


@pytest.fixture(autouse=True)
def no_walk(monkeypatch):
    """Bad input has to be noticed before the walk."""

    def walk_from(*args, **kwargs):
        raise AssertionError("the walk began")

    monkeypatch.setattr(mode_module, "walk_from", walk_from)


def refused(data, message, *, kind="classification", error=ValueError, model=None, **options):
    model = model or make_model(3 if kind == "classification" else 1)
    with pytest.raises(error, match=message):
        MetricBNN(model, kind, **options).fit(data)


# Data.


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_inputs_that_are_not_finite(bad):
    refused((spoiled(X, bad), LABELS), "inputs hold 4 NaN or infinite values; remove or impute")


@pytest.mark.parametrize("noise_std", [None, 0.1])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_inputs_of_a_regression_that_are_not_finite(bad, noise_std):
    message = "inputs hold 4 NaN or infinite values; remove or impute"
    refused((spoiled(X, bad), TARGETS), message, kind="regression", noise_std=noise_std)


@pytest.mark.parametrize("noise_std", [None, 0.1])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_targets_that_are_not_finite(bad, noise_std):
    message = "targets hold 2 NaN or infinite values; remove or impute"
    refused((X, spoiled(TARGETS, bad)), message, kind="regression", noise_std=noise_std)


@pytest.mark.parametrize(("label", "message"), [(3, "labels run from 0 to 3"), (-1, "labels run from -1 to 2")])
def test_labels_out_of_range(label, message):
    refused((X, spoiled(LABELS, label)), message + r", but the model has 3 outputs: they must lie in 0 \.\. 2")


@pytest.mark.parametrize("labels", [LABELS.float(), LABELS.int(), LABELS[:, None], nn.functional.one_hot(LABELS)])
def test_labels_of_a_wrong_dtype_or_shape(labels):
    refused((X, labels), r"labels must be int64 \[12\]; got torch\.")


def test_float_labels_of_a_one_output_regression_are_a_shape_error():
    message = r"targets must be floats of shape \[12, 1\].*got torch.float32 \[12\] \(use y\[:, None\]\)"
    refused((X, TARGETS[:, 0]), message, kind="regression")


def test_integer_targets_of_a_regression():
    refused((X, TARGETS.long()), r"targets must be floats.*got torch\.int64", kind="regression")


def test_a_one_output_network_as_classification():
    refused((X, LABELS), "A binary network needs two outputs", model=make_model(1))


def test_targets_without_the_extra_axes_of_the_outputs():
    model = nn.Sequential(nn.Linear(2, 6), nn.Unflatten(1, (2, 3)))
    refused((X, LABELS), r"labels must be int64 \[12, 2\]; got torch.int64 \[12\]", model=model)
    refused(
        (X, TARGETS),
        r"targets must be floats of shape \[12, 2, 3\].*got torch.float32 \[12, 1\]",
        model=model,
        kind="regression",
    )


def test_rows_that_do_not_pair():
    refused((X, LABELS[:-1]), "x has 12 rows, y has 11")


def test_empty_tensors():
    refused((X[:0], LABELS[:0]), "training data are empty")


def test_an_empty_loader():
    refused(DataLoader(TensorDataset(X[:0], LABELS[:0])), "the loader is empty: it gave no batch")


def test_a_loader_of_a_stream():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(zip(X, LABELS, strict=True))

    refused(DataLoader(Stream()), "dataset has no length.*use a map-style dataset, or collect the stream into tensors")


def test_a_dataset_without_a_length():
    class NoLength(torch.utils.data.Dataset):
        def __getitem__(self, i):
            return X[i], LABELS[i]

    loader = DataLoader(NoLength(), sampler=range(12))
    refused(loader, "dataset has no length")


def test_a_loader_of_chosen_examples_that_drops_its_last_batch():
    loader = DataLoader(TensorDataset(X, LABELS), batch_size=5, sampler=range(11), drop_last=True)
    refused(loader, r"drops its last batch \(drop_last=True\)")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"x": X, "y": LABELS}], r"pairs of tensors \(x, y\); it gave dict"),
        ([(X, LABELS, LABELS)], "pairs of tensors.*it gave tuple"),
        ([(X, "labels")], "pairs of tensors.*it gave tuple"),
        ((X, LABELS, LABELS), r"a pair of tensors \(x, y\), or a loader of such pairs"),
        ((X.tolist(), LABELS.tolist()), "a pair of tensors"),
        (
            (X.numpy(), LABELS.numpy()),
            "a pair of tensors.* it gave tuple of ndarray: make it a tensor by torch.as_tensor",
        ),
        (X, "it gave Tensor"),
    ],
)
def test_data_that_are_not_pairs_of_tensors(data, message):
    refused(data, message, error=TypeError)


# The model.


def test_a_model_with_no_trainable_weights():
    model = make_model().requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable weights; set requires_grad=True"):
        MetricBNN(model, "classification")


def test_a_model_whose_outputs_are_not_finite():
    model = make_model()
    nn.init.constant_(model[2].bias, math.inf)
    refused((X, LABELS), "outputs on the training data are not finite; check its weights and inputs", model=model)


def test_a_model_that_is_not_at_a_minimum_is_warned_of():
    model = make_model()
    with torch.no_grad():
        model[2].bias[0] = 5.0
    message = r"\(gradient norm .*nats or more above one\).*fiberbnn\.fit_map\(model, x, y, \"classification\", prior"
    with pytest.warns(UserWarning, match=message) as caught, pytest.raises(AssertionError, match="the walk began"):
        MetricBNN(model, "classification").fit((X, LABELS))
    assert caught[0].filename == __file__  # the caller's line, not the library's


def test_a_model_at_a_minimum_is_not_warned_of():
    fit = fit_map(make_model(), X, LABELS, Categorical())
    with pytest.raises(AssertionError, match="the walk began"):  # warnings are errors here
        MetricBNN(fit.model, "classification").fit((X, LABELS))


def test_a_model_that_fits_the_targets_exactly_has_no_noise_to_fit():
    model = nn.Sequential(nn.Linear(2, 1))
    with torch.no_grad():
        y = model(X)
    refused((X, y), "fits the training targets exactly: give noise_std", kind="regression", model=model)


# Settings.


@pytest.mark.parametrize("kind", ["poisson", "", None, Categorical])
def test_an_unknown_likelihood(kind):
    with pytest.raises(ValueError, match=r'likelihood must be "classification", "regression", Categorical\(\)'):
        MetricBNN(make_model(), kind)


@pytest.mark.parametrize("kind", ["classification", Categorical(), Gaussian(1.0)])
def test_a_noise_that_does_not_belong(kind):
    with pytest.raises(ValueError, match='noise_std belongs to likelihood="regression"'):
        MetricBNN(make_model(), kind, noise_std=0.1)


@pytest.mark.parametrize("noise_std", [0.0, -1.0, math.nan, math.inf])
def test_a_noise_that_is_none(noise_std):
    with pytest.raises(ValueError, match="noise_std must be positive and finite"):
        MetricBNN(make_model(1), "regression", noise_std=noise_std)
    with pytest.raises(ValueError, match="noise_std must be positive and finite"):
        Gaussian(noise_std)


@pytest.mark.parametrize("prior_precision", [0.0, -1.0, math.nan])
def test_a_prior_precision_that_is_none(prior_precision):
    with pytest.raises(ValueError, match=r"prior_precision must be positive and finite.*; got (0|-1|nan)"):
        MetricBNN(make_model(), "classification", prior_precision=prior_precision)


@pytest.mark.parametrize("n_particles", [0, -3])
def test_no_particles(n_particles):
    with pytest.raises(ValueError, match=rf"n_particles.* at least 1; got .*{n_particles}"):
        MetricBNN(make_model(), "classification", n_particles=n_particles)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_batch_size_that_is_no_integer(kind):
    data = (X, LABELS if kind == "classification" else TARGETS)
    refused(data, r"batch_size must be an integer; got 4\.0", kind=kind, error=TypeError, batch_size=4.0)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range(seed):
    refused((X, LABELS), "seed must be from 0 to", seed=seed)


# Resources and numbers.


def test_weights_that_do_not_fit_into_memory(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    message = "GiB free: lower n_particles, the schedule's n_snapshots or the latent rank"
    refused((X, LABELS), message, error=MemoryError)


def test_energies_that_diverge(monkeypatch, quick):
    monkeypatch.undo()  # here the walk has to begin
    plain = mlp_reference.mlp_nll_and_grad

    def diverging(weights, *arguments, **options):
        value, gradient = plain(weights, *arguments, **options)
        return (value, gradient) if (weights == weights[0]).all() else (value * math.nan, gradient)

    fit = fit_map(make_model(), X, LABELS, Categorical())
    monkeypatch.setattr(mlp_reference, "mlp_nll_and_grad", diverging)
    posterior = MetricBNN(fit.model, "classification", **quick)
    with pytest.raises(WalkDivergedError, match="Standardise the inputs, start from a trained model"):
        posterior.fit((X, LABELS))
    with pytest.raises(RuntimeError, match="has not been fitted"):
        posterior.sample()


# Predictions.


@pytest.mark.filterwarnings("ignore:the walk's energy", "ignore:.* undone", "ignore:decoded samples are hotter")
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:0], "the inputs are empty: x has no rows"),
        (spoiled(X, math.nan), "inputs hold 4 NaN or infinite values; remove or impute them first$"),
        (torch.zeros(4, 5), r"x must be \[N, 2\]"),
    ],
)
def test_inputs_that_cannot_be_predicted(monkeypatch, quick, x, message):
    monkeypatch.undo()
    fit = fit_map(make_model(), X, LABELS, Categorical())
    posterior = MetricBNN(fit.model, "classification", **quick).fit((X, LABELS))
    with pytest.raises(ValueError, match=message):
        posterior(x)
    with pytest.raises(ValueError, match=message):
        posterior.diagnose((x, LABELS[: len(x)])) if len(x) else posterior.predictive_samples(x)
    with pytest.raises(ValueError, match="n_samples must be at least 1"):
        posterior(X, n_samples=0)
