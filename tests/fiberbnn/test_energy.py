"""The energy against torch.distributions, its derivatives against dense float64 ones."""

import copy

import pytest
import torch
from torch import distributions as D
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

from fiberbnn import Categorical, Energy, Gaussian, Network

TAU = 2.5


class Wrapped(nn.Module):
    """The same function, but not a plain perceptron to the library."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


class Recurrent(nn.Module):
    """An LSTM over the features, read at its last step."""

    def __init__(self, n_out: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 3, batch_first=True)
        self.out = nn.Linear(3, n_out)

    def forward(self, x):
        return self.out(self.lstm(x[:, :, None])[0][:, -1])


class Attention(nn.Module):
    """One layer of self-attention over the features."""

    def __init__(self, n_out: int) -> None:
        super().__init__()
        self.embed = nn.Linear(1, 2)
        self.attention = nn.MultiheadAttention(2, 1, batch_first=True)
        self.out = nn.Linear(2, n_out)

    def forward(self, x):
        h = self.embed(x[:, :, None])
        return self.out(self.attention(h, h, h, need_weights=False)[0].mean(1))


def conv(n_out: int) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 2), nn.LayerNorm(3), nn.SiLU(), nn.Flatten(), nn.Linear(9, n_out)
    )


MODELS = {
    "perceptron": lambda n_out: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, n_out)),
    "wrapped perceptron": lambda n_out: Wrapped(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, n_out))),
    "conv and layer norm": conv,
    "lstm": Recurrent,
    "attention": Attention,
}
LIKELIHOODS = {"categorical": Categorical(), "gaussian": Gaussian(0.4)}

# torch's batching of LSTM cells on the CPU falls back to a loop, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")


def make_energy(name: str, kind: str, dtype: torch.dtype = torch.float64) -> Energy:
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    labels, targets = torch.randint(3, (7,), generator=generator), torch.randn(7, 3, generator=generator).double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        model = MODELS[name](3).to(dtype)
    return Energy(Network(model), LIKELIHOODS[kind], x, labels if kind == "categorical" else targets, TAU)


def draws(energy: Energy, n: int = 5) -> torch.Tensor:
    noise = torch.randn(n, energy.network.n_params, generator=torch.Generator().manual_seed(13), dtype=torch.float64)
    return energy.network.weights + 0.5 * noise.to(energy.network.weights)


def log_joint(energy: Energy, weights: torch.Tensor) -> torch.Tensor:
    """log p(y | x, w) + log p(w) by torch's own means, without the constant of the prior, []."""
    named, at = {}, 0
    for name, p in energy.network.model.named_parameters():
        named[name] = weights[at : at + p.numel()].view(p.shape)
        at += p.numel()
    outputs = functional_call(energy.network.model, named, (energy.x,))
    gaussian = isinstance(energy.likelihood, Gaussian)
    predictive = D.Normal(outputs, energy.likelihood.noise_std) if gaussian else D.Categorical(logits=outputs)
    prior = D.Normal(torch.zeros_like(weights), TAU**-0.5)
    constant = prior.log_prob(torch.zeros_like(weights)).sum()
    return predictive.log_prob(energy.y).sum() + prior.log_prob(weights).sum() - constant


@pytest.fixture(params=LIKELIHOODS)
def kind(request):
    return request.param


@pytest.fixture(params=MODELS)
def energy(request, kind):
    return make_energy(request.param, kind)


def test_value_and_gradient_are_those_of_minus_the_log_joint(energy):
    weights = draws(energy)
    value, gradient = energy.value_and_grad(weights)
    for w, v, g in zip(weights, value, gradient, strict=True):
        w = w.clone().requires_grad_()
        expected = -log_joint(energy, w)
        torch.testing.assert_close(v, expected.detach())
        torch.testing.assert_close(g, torch.autograd.grad(expected, w)[0])


@pytest.mark.parametrize("name", ["perceptron", "wrapped perceptron", "conv and layer norm"])
def test_call_is_the_value(name, kind):
    energy = make_energy(name, kind)
    weights = draws(energy)
    torch.testing.assert_close(energy(weights), energy.value_and_grad(weights)[0])


@pytest.mark.parametrize("name", MODELS)
def test_hvp_is_the_dense_hessian_times_vectors(name, kind):
    energy = make_energy(name, kind)
    weights, vectors = draws(energy)[0], draws(energy, 3)
    with sdpa_kernel(SDPBackend.MATH):  # the only attention of torch's that has second derivatives
        hessian = torch.autograd.functional.hessian(lambda w: -log_joint(energy, w), weights)
    # Central differences of step h: h^2 of third derivatives, and the rounding of gradients over h.
    torch.testing.assert_close(energy.hvp(weights, vectors), vectors @ hessian, rtol=1e-6, atol=1e-6)


def test_hvp_has_three_digits_in_float32_at_any_length_of_the_vectors(kind):
    single, double = (make_energy("perceptron", kind, dtype) for dtype in (torch.float32, torch.float64))
    weights, vectors = draws(double)[0], draws(double, 3)
    expected = double.hvp(weights, vectors)
    for length in (1e-6, 1.0, 1e6):
        found = single.hvp(weights.float(), (length * vectors).float()).double() / length
        assert (found - expected).norm() < 3e-3 * expected.norm()
    assert (single.hvp(weights.float(), torch.zeros(1, len(weights))) == 0).all()


@pytest.mark.parametrize("name", ["perceptron", "conv and layer norm"])
def test_ggn_roots_square_to_the_dense_matrix(name, kind):
    energy = make_energy(name, kind)
    weights = draws(energy)[0]
    outputs = energy.network.apply(weights, energy.x)
    jacobian = jacrev(lambda w: energy.network.apply(w, energy.x))(weights)  # [N, C, P]
    curvature = jacrev(jacrev(lambda f: energy.likelihood.nll(f, energy.y)))(outputs)  # [N, C, N, C]
    ggn = torch.einsum("ncp,ncmd,mdq->pq", jacobian, curvature, jacobian)
    # J^T L for every unit probe has J^T H J as its square.
    units = iter(torch.eye(outputs.numel(), dtype=torch.float64))
    root = torch.stack(list(energy.ggn_sqrt_vp(weights, lambda f: next(units).view(f.shape), outputs.numel())))
    torch.testing.assert_close(root.T @ root, ggn)


def test_the_perceptrons_own_backward_agrees_with_the_general_one(kind):
    fast, general = make_energy("perceptron", kind), make_energy("wrapped perceptron", kind)
    assert fast.network.mlp_layout is not None
    assert general.network.mlp_layout is None
    weights = draws(fast)
    torch.testing.assert_close(fast.value_and_grad(weights), general.value_and_grad(weights))
    torch.testing.assert_close(fast(weights), general(weights))


def test_float32_agrees_with_float64(kind):
    single, double = (make_energy("perceptron", kind, dtype) for dtype in (torch.float32, torch.float64))
    weights = draws(double)
    value, gradient = single.value_and_grad(weights.float())
    expected, expected_gradient = double.value_and_grad(weights)
    assert value.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-4, atol=1e-4)


def test_particles_do_not_meet(kind):
    energy = make_energy("perceptron", kind)
    weights = draws(energy)
    order = torch.tensor([3, 1, 4, 0, 2])
    value, gradient = energy.value_and_grad(weights)
    torch.testing.assert_close(energy.value_and_grad(weights[order]), (value[order], gradient[order]))
    torch.testing.assert_close(energy.value_and_grad(weights[2:3])[1], gradient[2:3])


def test_a_uniform_predictive_at_zero_weights_costs_log_c_an_example():
    energy = make_energy("perceptron", "categorical")
    value = energy(torch.zeros(1, energy.network.n_params, dtype=torch.float64))
    torch.testing.assert_close(value, 7 * torch.tensor([3.0], dtype=torch.float64).log())


def test_the_data_count_in_full_and_the_prior_once(kind):
    energy = make_energy("perceptron", kind)
    doubled = copy.copy(energy)
    doubled.x, doubled.y = torch.cat([energy.x] * 2), torch.cat([energy.y] * 2)
    weights = draws(energy)
    prior = 0.5 * TAU * weights.square().sum(1)
    torch.testing.assert_close(doubled(weights) - prior, 2 * (energy(weights) - prior))


def test_every_pass_over_the_data_is_counted():
    energy = make_energy("perceptron", "categorical")
    weights = draws(energy)
    before = energy.cost.copy()
    assert (before.grad_evals, before.hvp_evals, before.energy_evals) == (0, 0, 0)
    energy.value_and_grad(weights)
    energy.hvp(weights[0], weights[:2])
    list(energy.ggn_sqrt_vp(weights[0], torch.ones_like, 6))
    energy(weights[:3])
    spent = energy.cost - before
    assert (spent.grad_evals, spent.hvp_evals, spent.energy_evals) == (5 + 6, 2, 3)
    assert before.grad_evals == 0


@pytest.mark.parametrize("name", ["perceptron", "conv and layer norm"])
def test_results_carry_no_graph(name, kind):
    energy = make_energy(name, kind)
    weights = draws(energy)
    results = [energy(weights), *energy.value_and_grad(weights)]
    results += [energy.hvp(weights[0], weights[:1]), *energy.ggn_sqrt_vp(weights[0], torch.ones_like, 1)]
    assert not any(result.requires_grad for result in results)


@pytest.mark.parametrize("tau", [0.0, -1.0, float("inf"), float("nan")])
def test_a_prior_precision_that_is_none_is_refused(tau):
    with pytest.raises(ValueError, match="prior_precision must be positive and finite"):
        Energy(Network(nn.Linear(1, 2)), Categorical(), torch.zeros(3, 1), torch.zeros(3).long(), tau)
