"""Saved posteriors: whole, bit for bit, refused in words where they do not fit."""

import copy
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from fiberbnn import (
    AutoencoderSettings,
    LatentSettings,
    MetricBNN,
    Network,
    WalkSchedule,
    WalkSettings,
    saved,
)

# Fits of this file are too short to be right, and say so.
pytestmark = pytest.mark.filterwarnings(
    "ignore:the walk's energy", "ignore:.* of the walk's steps were undone", "ignore:decoded samples are hotter"
)


@pytest.fixture(scope="module")
def fitted(problem, quick):
    return MetricBNN(problem.map_fit.model, problem.likelihood, seed=3, **quick).fit((problem.x, problem.y))


@pytest.fixture
def path(fitted, tmp_path):
    fitted.save(tmp_path / "p.safetensors")
    return tmp_path / "p.safetensors"


def untrained(problem) -> nn.Module:
    """The same architecture with other weights."""
    widths = (2, 8, 3) if problem.kind == "classification" else (1, 8, 1)
    return nn.Sequential(nn.Linear(*widths[:2]), nn.Tanh(), nn.Linear(*widths[1:]))


def metadata_of(path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def rewrite(path, **changes) -> None:
    """Change the metadata of a saved file."""
    save_file(load_file(path), path, metadata_of(path) | changes)


def test_a_loaded_posterior_predicts_bit_for_bit_the_same(problem, fitted, path):
    loaded = MetricBNN.load(path, untrained(problem))
    assert torch.equal(loaded.predictive_samples(problem.x, 7), fitted.predictive_samples(problem.x, 7))
    generator, again = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    assert torch.equal(loaded.sample(5, generator=generator), fitted.sample(5, generator=again))
    assert torch.equal(loaded.network.weights, fitted.network.weights)
    assert (loaded.likelihood, loaded.prior_precision, loaded.seed) == (problem.likelihood, 1.0, 3)
    assert loaded.trajectory is None
    assert all(torch.equal(value, fitted.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_a_loaded_posterior_keeps_the_diagnostics_of_its_fit(problem, fitted, path):
    before, after = (
        p.diagnose((problem.x, problem.y), n_samples=20) for p in (fitted, MetricBNN.load(path, untrained(problem)))
    )
    for name in ("energy_ratio_walk", "energy_ratio_latent", "undone", "settled", "grad_evals", "nll_latent"):
        assert getattr(after, name) == getattr(before, name)
    assert isinstance(after.warnings, tuple)
    assert after.nll_walk != after.nll_walk  # the walk is not kept: not measured


def test_a_loaded_posterior_can_be_saved_again(problem, fitted, path, tmp_path):
    MetricBNN.load(path, untrained(problem)).save(tmp_path / "again.safetensors")
    again = MetricBNN.load(tmp_path / "again.safetensors", untrained(problem))
    assert torch.equal(again.predictive_samples(problem.x, 3), fitted.predictive_samples(problem.x, 3))


def test_a_float64_model_gets_a_float64_posterior(problem, fitted, path):
    loaded = MetricBNN.load(path, untrained(problem).double())
    samples = loaded.predictive_samples(problem.x, 5)
    assert samples.dtype == torch.float64
    expected = fitted.predictive_samples(problem.x, 5).double()
    torch.testing.assert_close(samples, expected, rtol=1e-3, atol=1e-3)


def test_a_loaded_posterior_has_the_settings_of_its_fit(regression, tmp_path):
    settings = {
        "n_particles": 3,
        "batch_size": 20,
        "walk": WalkSettings(friction=0.3, thermostat=0.5, drift_steps=7),
        "schedule": WalkSchedule(max_steps=20, min_warmup=5, n_snapshots=3, target_acceptance=0.7),
        "latent": LatentSettings(
            rank=5,
            density="gaussian",
            calibrate=False,
            autoencoder=AutoencoderSettings(latent_size=3, steps=2, max_steps=2),
        ),
        "seed": 11,
    }
    posterior = MetricBNN(regression.map_fit.model, regression.likelihood, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        posterior.fit((regression.x, regression.y))
    posterior.seed = 12  # of the draws; the fit's stays
    posterior.save(tmp_path / "p.safetensors")
    loaded = MetricBNN.load(tmp_path / "p.safetensors", untrained(regression))
    assert loaded.settings == posterior.settings
    assert all(getattr(loaded.settings, name) == value for name, value in settings.items())
    assert loaded.seed == 12
    # A file without them, as early versions wrote it, gets the defaults.
    saved_settings = json.loads(metadata_of(tmp_path / "p.safetensors")["settings"])
    del saved_settings["fit"]
    for name in ("temperature", "minibatches", "energy_evals"):
        del saved_settings["diagnostics"][name]
    rewrite(tmp_path / "p.safetensors", settings=json.dumps(saved_settings | {"batch_size": 20}))
    early = MetricBNN.load(tmp_path / "p.safetensors", untrained(regression))
    assert (early.settings.batch_size, early.settings.seed, early.settings.n_particles) == (20, 12, 30)
    assert early.diagnostics.energy_ratio_walk == posterior.diagnostics.energy_ratio_walk
    torch.testing.assert_close(early.predictive_samples(regression.x, 3), loaded.predictive_samples(regression.x, 3))


def test_numbers_of_numpy_are_saved_as_plain_ones(problem, quick, tmp_path):
    settings = quick | {"n_particles": np.int64(8)}
    posterior = MetricBNN(problem.map_fit.model, problem.likelihood, **settings).fit((problem.x, problem.y))
    posterior.save(tmp_path / "p.safetensors")
    assert MetricBNN.load(tmp_path / "p.safetensors", untrained(problem)).settings == posterior.settings


def test_a_stretched_density_is_kept(problem, fitted, tmp_path):
    latent = fitted.latent_posterior
    stretched = copy.copy(fitted)
    latent = replace(latent, density=replace(latent.density, stretch=0.7))
    stretched.modes = (replace(fitted.modes[0], latent=latent),)
    stretched.save(tmp_path / "p.safetensors")
    loaded = MetricBNN.load(tmp_path / "p.safetensors", untrained(problem))
    assert torch.equal(loaded.predictive_samples(problem.x, 3), stretched.predictive_samples(problem.x, 3))
    assert not torch.equal(loaded.predictive_samples(problem.x, 3), fitted.predictive_samples(problem.x, 3))


def test_the_model_that_is_given_is_not_changed(problem, path):
    model = untrained(problem)
    before = [p.clone() for p in model.parameters()]
    MetricBNN.load(path, model)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_a_path_may_be_text(problem, fitted, tmp_path):
    fitted.save(str(tmp_path / "text.safetensors"))
    MetricBNN.load(str(tmp_path / "text.safetensors"), untrained(problem))


def test_saving_replaces_an_older_file(problem, fitted, path):
    path.write_bytes(b"old")
    fitted.save(path)
    MetricBNN.load(path, untrained(problem))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_file_says_what_it_is(fitted, path):
    metadata = metadata_of(path)
    assert metadata["format"] == saved.FORMAT
    assert metadata["version"] == str(saved.VERSION)
    assert json.loads(metadata["settings"])["seed"] == 3
    assert set(load_file(path)) == set(fitted.state_dict())


def test_others_may_read_the_file(path):
    assert path.stat().st_mode & 0o444 == 0o444


def test_a_failed_save_keeps_the_older_file_and_leaves_nothing_beside_it(problem, fitted, path, monkeypatch):
    whole = path.read_bytes()

    def fail(tensors, filename, metadata=None):
        Path(filename).write_bytes(whole[: len(whole) // 2])
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        fitted.save(path)
    assert path.read_bytes() == whole
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_fingerprint_knows_architectures_and_not_weights():
    def fingerprint(*layers):
        return saved.fingerprint(Network(nn.Sequential(*layers)))

    tanh = fingerprint(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    assert fingerprint(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)) == tanh
    others = [
        fingerprint(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)),
        fingerprint(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)),
        fingerprint(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2), nn.BatchNorm1d(2)),
        fingerprint(nn.Linear(2, 3).requires_grad_(False), nn.Tanh(), nn.Linear(3, 2)),
    ]
    assert len({tanh, *others}) == 5


# Files that are refused.


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(problem, path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"p\.safetensors is truncated or not a safetensors file"):
        MetricBNN.load(path, untrained(problem))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(2, 9), nn.Tanh(), nn.Linear(9, 3)),
        nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)),
    ],
)
def test_another_architecture_is_refused(path, model):
    with pytest.raises(ValueError, match=r"was saved for a model of another architecture.*has \d+ weights"):
        MetricBNN.load(path, model)


def test_a_newer_format_is_refused(problem, path):
    rewrite(path, version=str(saved.VERSION + 1))
    with pytest.raises(ValueError, match="format version 3, this fiberbnn reads up to 2: upgrade fiberbnn"):
        MetricBNN.load(path, untrained(problem))


def test_an_early_format_is_refused(problem, path):
    rewrite(path, version="1")
    with pytest.raises(ValueError, match="format version 1 of an early fiberbnn, which is no longer read: fit again"):
        MetricBNN.load(path, untrained(problem))


def test_other_safetensors_are_refused(problem, tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="not a saved posterior of fiberbnn"):
        MetricBNN.load(tmp_path / "model.safetensors", untrained(problem))


def test_a_file_that_is_not_there_is_refused(problem, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no saved posterior at .*nowhere\.safetensors"):
        MetricBNN.load(tmp_path / "nowhere.safetensors", untrained(problem))


def test_saving_into_a_missing_folder_leaves_nothing_half_written(fitted, tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        fitted.save(tmp_path / "missing" / "p.safetensors")
    assert list(tmp_path.iterdir()) == []
