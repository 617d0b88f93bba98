"""A posterior on CUDA: all of it from fit to file, and the same predictions there and on the CPU."""

import math

import pytest
import torch
from torch import Tensor, nn

from fiberbnn import AutoencoderSettings, Categorical, LatentSettings, MetricBNN, WalkSchedule
from tests.fiberbnn.conftest import TOO_SHORT

pytestmark = [
    TOO_SHORT,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

S, N = 20, 48
SETTINGS = {
    "n_particles": 6,
    "schedule": WalkSchedule(max_steps=24, min_warmup=8, n_snapshots=4),
    "latent": LatentSettings(autoencoder=AutoencoderSettings(latent_size=4, hidden=8, steps=5, max_steps=5)),
}


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3))


def convolutions() -> nn.Sequential:
    pooled = [nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), *pooled, nn.Linear(16, 3))


def made(build, seed: int = 3) -> nn.Module:
    """On the CPU, with weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images of three classes; on the CPU, as a loader gives them."""
    y = torch.arange(N) % 3
    x = 0.5 * torch.randn(N, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    x[torch.arange(N), 0, 2 * y] += 1.0
    return x, y


@pytest.fixture(params=[perceptron, convolutions], ids=["perceptron", "convolutions"])
def build(request):
    return request.param


@pytest.fixture(params=[None, 16], ids=["full batch", "minibatches"])
def batch_size(request) -> int | None:
    return request.param


@pytest.fixture(autouse=True)
def exact_float32():
    """Convolutions and products in float32, not in TensorFloat32, which has three digits."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products


def fitted(build, batch_size: int | None, device: str, **options) -> MetricBNN:
    return MetricBNN(made(build).to(device), "classification", batch_size=batch_size, **SETTINGS | options).fit(data())


def test_all_of_a_posterior_runs_on_cuda(build, batch_size):
    posterior, (x, y) = fitted(build, batch_size, "cuda"), data(1)
    weights = posterior.sample(S, generator=torch.Generator().manual_seed(0))
    assert weights.device.type == posterior.draws(2).device.type == "cuda"
    assert weights.isfinite().all()
    samples = posterior.predictive_samples(x, S)  # inputs may lie anywhere
    torch.testing.assert_close(samples.sum(-1), torch.ones_like(samples[..., 0]))
    torch.testing.assert_close(posterior(x.cuda(), S), samples.mean(0), rtol=1e-4, atol=1e-5)
    d = posterior.diagnose((x, y), n_samples=S)
    measured = (d.nll_map, d.nll_latent, d.nll_walk, d.energy_ratio_walk, d.energy_ratio_latent, d.r_hat_median, d.heat)
    assert all(math.isfinite(value) for value in measured)
    assert d.nll_latent == pytest.approx(float(-samples.mean(0).cpu()[torch.arange(N), y].log().mean()), rel=1e-3)
    assert d.peak_mib > 0
    tuning = posterior.tune((x, y), prior_precisions=(2.0,), temperatures=(0.5,), n_samples=S)
    assert all(math.isfinite(trial.nll) for trial in tuning.trials)
    assert len(tuning.trials) == 4


@pytest.mark.parametrize(("saved_on", "loaded_on"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_saved_posterior_predicts_the_same_on_either_device(build, batch_size, saved_on, loaded_on, tmp_path):
    posterior, (x, y) = fitted(build, batch_size, saved_on), data(1)
    posterior.save(tmp_path / "p.safetensors")
    same, other = (MetricBNN.load(tmp_path / "p.safetensors", build().to(device)) for device in (saved_on, loaded_on))
    assert (same.network.weights.device.type, other.network.weights.device.type) == (saved_on, loaded_on)
    expected = posterior.predictive_samples(x, S).cpu()
    torch.testing.assert_close(same.predictive_samples(x, S).cpu(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other.predictive_samples(x, S).cpu(), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(other.draws(S).cpu(), posterior.draws(S).cpu(), rtol=1e-3, atol=1e-4)
    here, there = posterior.predict(x, S), other.predict(x, S)
    for name in ("probs", "entropy", "mutual_information"):
        one, two = getattr(here, name).cpu(), getattr(there, name).cpu()
        torch.testing.assert_close(two, one, rtol=1e-2, atol=1e-4)
    assert other.diagnose((x, y), S).nll_latent == pytest.approx(posterior.diagnose((x, y), S).nll_latent, rel=1e-3)


def test_several_modes_and_the_last_layer_run_on_cuda(batch_size):
    models = [made(convolutions, seed).cuda() for seed in (3, 4)]
    options = {"subset": "last_layer", "batch_size": batch_size, "mode_weights": (1, 2)}
    posterior = MetricBNN(models, Categorical(), **SETTINGS | options).fit(data())
    found, samples = posterior.predict(data(1)[0], S), posterior.predictive_samples(data(1)[0], S)
    torch.testing.assert_close(found.probs, samples.mean(0), rtol=1e-4, atol=1e-5)
    assert (found.mutual_information > 0).any()
    assert posterior.sample(3).device.type == "cuda"


def test_refreshed_batch_norm_runs_on_cuda_and_is_saved(tmp_path):
    posterior, x = fitted(convolutions, 16, "cuda", batch_norm="refresh"), data(1)[0]
    expected = posterior.predictive_samples(x, S).cpu()
    posterior.save(tmp_path / "p.safetensors")
    loaded = MetricBNN.load(tmp_path / "p.safetensors", convolutions())
    torch.testing.assert_close(loaded.predictive_samples(x, S), expected, rtol=1e-3, atol=1e-4)
