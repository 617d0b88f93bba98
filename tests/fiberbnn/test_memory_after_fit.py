"""What comes after a fit holds a few decoded weights at a time, however many samples are asked for."""

import gc
import weakref

import pytest
import torch
from torch import nn

from fiberbnn import MetricBNN, Network, fit_map, latent
from fiberbnn import posterior as posterior_module
from fiberbnn_kernels.decode import reference as decode_reference
from tests.fiberbnn.conftest import TOO_SHORT, make_mlp

pytestmark = TOO_SHORT

AT_ONCE, S = 3, 14  # samples
KINDS = ["one mode", "two modes", "two modes refreshed"]


def normed(seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))


@pytest.fixture(scope="module", params=KINDS)
def fitted(request, classification, quick) -> MetricBNN:
    x, y, likelihood = classification.x, classification.y, classification.likelihood
    seeds = (0, 1) if "two" in request.param else (0,)
    if "refreshed" not in request.param:
        models = [fit_map(make_mlp(2, 8, 3, seed=seed), x, y, likelihood).model for seed in seeds]
        return MetricBNN(models, "classification", **quick).fit((x, y))
    models = [fit_map(normed(seed), x, y, likelihood, batch_size=30, epochs=3).model for seed in seeds]
    return MetricBNN(models, "classification", batch_norm="refresh", **quick).fit((x, y))


def held(n_params: int) -> int:
    """How many weight vectors [P] live in tensors [*, P]."""
    found = {}
    for thing in gc.get_objects():
        if type(thing) is torch.Tensor and thing.ndim == 2 and thing.shape[1] == n_params:
            found[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes() // (4 * n_params)
    return sum(found.values())


@pytest.fixture
def peak(fitted, monkeypatch) -> dict[str, int]:
    """The most samples decoded at once, and the most weight vectors held while networks run; in pieces of three."""
    n_params, found = fitted.network.n_params, {"decoded": 0, "held": 0}
    before = held(n_params)
    decode, check = decode_reference.decode, Network.check_weights
    looked = [False]  # at the first use of each piece, for a look takes time

    def decoding(offset, directions, coefficients):
        looked[0] = False
        found["decoded"] = max(found["decoded"], len(coefficients))
        return decode(offset, directions, coefficients)

    def checked(self, weights):  # by all that networks do with weights
        if not looked[0]:
            found["held"] = max(found["held"], held(n_params) - before)
            looked[0] = True
        return check(self, weights)

    monkeypatch.setattr(latent, "CHUNK_BYTES", AT_ONCE * 4 * n_params)
    monkeypatch.setattr(decode_reference, "decode", decoding)
    monkeypatch.setattr(Network, "check_weights", checked)
    return found


@pytest.mark.parametrize("what", ["outputs", "predictive_samples", "predict", "refresh", "diagnose", "tune"])
def test_few_weights_are_decoded_and_held_at_once(classification, fitted, peak, what):
    x, y, one = classification.x_test[:20], classification.y_test[:20], fitted.at_temperature(0.9)
    if what == "refresh" and fitted.network.batch_norm == "frozen":
        return
    options = {"temperatures": (0.5,), "n_samples": S} if what == "tune" else {"n_samples": S}
    arguments = {"refresh": (), "diagnose": ((x, y),), "tune": ((x, y),)}.get(what, (x,))
    getattr(one, what)(*arguments, **options)
    assert peak["decoded"] == AT_ONCE
    # The piece at work, and the one before while it was decoded.
    assert AT_ONCE <= peak["held"] <= 2 * AT_ONCE


def test_in_pieces_outputs_are_those_of_the_weights(classification, fitted, monkeypatch):
    x, whole = classification.x_test[:20], fitted.at_temperature(0.9)
    outputs, probs = whole.outputs(x, S), whole.predict(x, S).probs
    monkeypatch.setattr(latent, "CHUNK_BYTES", AT_ONCE * 4 * fitted.network.n_params)
    pieces = fitted.at_temperature(0.9)
    torch.testing.assert_close(pieces.outputs(x, S), outputs, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(pieces.predict(x, S).probs, probs, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(pieces.predictive_samples(x, S).mean(0), probs, rtol=1e-3, atol=1e-3)
    if fitted.network.batch_norm == "frozen":
        of_mode = fitted._draws().pooled.modes_of(S)
        for s, weights in enumerate(whole.draws(S)):
            expected = fitted.modes[of_mode[s]].network.module(weights)(x).detach()
            torch.testing.assert_close(outputs[s], expected, rtol=1e-4, atol=1e-4)


def test_tuning_priors_keeps_the_walk_of_the_best_alone(classification, quick, make, monkeypatch):
    posterior = make(classification, quick).fit((classification.x, classification.y))
    whole, walks, alive = posterior_module.fit_mode, [], []

    def fit_mode(energy, settings, **options):
        gc.collect()
        alive.append(sum(walk() is not None for walk in walks))
        mode = whole(energy, settings, **options)
        walks.append(weakref.ref(mode.trajectory))
        return mode

    monkeypatch.setattr(posterior_module, "fit_mode", fit_mode)
    # The priors nobody needs come last: none of them is best.
    tuning = posterior.tune(
        (classification.x_test, classification.y_test), prior_precisions=(2.0, 1e3, 2e3, 3e3, 4e3), temperatures=(),
        n_samples=20,
    )  # fmt: skip
    assert tuning.best.prior_precision <= 2.0
    assert len(alive) == 5
    assert max(alive) <= 1
    gc.collect()
    assert sum(walk() is not None for walk in walks) == (tuning.best.prior_precision == 2.0)
