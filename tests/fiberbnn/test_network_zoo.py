"""Gradients, transforms and vectorized particles on models of all kinds, against plain copies of the modules."""

import copy

import pytest
import torch
from torch import nn
from torch.func import grad, vjp, vmap
from torch.nn.utils import vector_to_parameters
from torch.nn.utils.parametrizations import weight_norm

from fiberbnn import Network
from fiberbnn.batch import call_arguments, n_rows, outputs_from, take
from tests.fiberbnn.zoo import CASES, Case, TokenClassifier

K = 3
# vmap has no rule for these, and runs a slow loop of its own or none at all.
NEVER_VECTORIZED = {"lstm classifier", "gru regression"}


def named(cases: list[Case]):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def loss(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.sin().square().sum()


def draws(network: Network) -> torch.Tensor:
    noise = torch.randn(K, network.n_params, generator=torch.Generator().manual_seed(7))
    return network.weights + 0.2 * noise.to(network.weights)


def setup(case: Case, **options) -> tuple[Network, torch.Tensor, object]:
    network = Network(case.make_model(), **case.options(), **options)
    return network, draws(network), network.prepare(case.make_data()[0])


def by_hand(network: Network, case: Case, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient by plain autograd on a copy of the whole module with the weights loaded."""
    model = copy.deepcopy(network.model)
    parameters = [dict(model.named_parameters())[name] for name in network.shapes]
    vector_to_parameters(weights.clone(), parameters)
    if case.batch_norm == "refresh":
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train()
    # Without the fused attention of evaluation mode, as wherever gradients are needed.
    args, kwargs = call_arguments(model, prepared_by_hand(network, case))
    value = loss(outputs_from(model(*args, **kwargs), n_rows(case.make_data()[0])))
    gradients = torch.autograd.grad(value, parameters)
    return value.detach(), torch.cat([g.reshape(-1) for g in gradients])


def prepared_by_hand(network: Network, case: Case):
    x = case.make_data()[0]
    return x if isinstance(x, dict) or not x.is_floating_point() else x.to(network.weights)


@named(CASES)
def test_values_and_gradients_are_those_of_a_plain_copy(case):
    network, weights, x = setup(case)
    values, gradients = network.value_and_grad(weights, x, loss)
    for k, w in enumerate(weights):
        value, gradient = by_hand(network, case, w)
        torch.testing.assert_close(values[k], value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradients[k], gradient, rtol=1e-4, atol=1e-5)
    assert gradients.abs().amax(1).min() > 1e-3
    assert not gradients.requires_grad


@named(CASES)
def test_outputs_follow_the_weights_and_agree_on_every_path(case):
    network, weights, x = setup(case)
    outputs = network(weights, x)
    torch.testing.assert_close(network.apply_each(weights, x), outputs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.apply(weights[1], x), outputs[1], rtol=1e-4, atol=1e-5)
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3
    few = take(x, slice(0, 4))
    if case.batch_norm == "frozen":  # else each row depends on the others
        torch.testing.assert_close(network(weights, few), outputs[:, :4], rtol=1e-4, atol=1e-5)


@named([case for case in CASES if case.name not in NEVER_VECTORIZED])
def test_particles_together_are_particles_one_by_one(case):
    _, weights, x = setup(case)
    alone = Network(case.make_model(), **case.options(), vectorize=False)
    together = Network(case.make_model(), **case.options(), vectorize=True, particles_at_once=2)
    torch.testing.assert_close(together(weights, x), alone(weights, x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.apply_each(weights, x), alone.apply_each(weights, x), rtol=1e-4, atol=1e-5)
    for a, b in zip(together.value_and_grad(weights, x, loss), alone.value_and_grad(weights, x, loss), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@named(CASES)
def test_modules_that_vmap_cannot_run_are_found_out(case):
    network, _, x = setup(case)
    assert network.can_run_together(x) == (case.name not in NEVER_VECTORIZED)


def test_a_module_that_looks_at_its_values_runs_one_by_one():
    class Careful(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y if y.sum() > 0 else -y

    assert not Network(Careful(3, 2)).can_run_together(torch.ones(4, 3))


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # LSTM cells, by a loop of vmap's own
@named(CASES)
def test_apply_has_second_derivatives_under_transforms(case):
    network = Network(case.make_model().double(), **case.options())
    w, x = draws(network)[0], network.prepare(case.make_data()[0])
    vectors = torch.randn(2, network.n_params, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradient = grad(lambda w: loss(network.apply(w, x)))
    pull = vjp(gradient, w)[1]
    products = vmap(lambda v: pull(v)[0])(vectors)
    step = 1e-6
    for v, product in zip(vectors, products, strict=True):
        numeric = (gradient(w + step * v) - gradient(w - step * v)) / (2 * step)
        # A kink of ReLU or of max pooling within the step would show as one large error; there is none here.
        torch.testing.assert_close(product, numeric, rtol=1e-3, atol=1e-5 * float(numeric.abs().max()))


def test_a_shared_parameter_counts_once():
    case = next(case for case in CASES if case.name == "tied weights")
    network = Network(case.make_model())
    assert network.n_params == 16 + 4 + 4
    assert list(network.shapes) == ["encode.weight", "encode.bias", "decode.bias"]


@torch.no_grad()
def test_fused_attention_does_not_change_values_at_masked_places():
    class Masked(TokenClassifier):
        def forward(self, ids, mask):
            return self.out(self.encoder(self.embed(ids), src_key_padding_mask=~mask))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Masked()
    network = Network(model)
    x = {"ids": torch.randint(9, (4, 5)), "mask": torch.arange(5) < torch.tensor([5, 3, 2, 1])[:, None]}
    with torch.enable_grad():  # where gradients are needed, torch does not fuse
        expected = network.model(**x).detach()
    torch.testing.assert_close(network(network.weights[None], x)[0], expected)
    assert torch.backends.mha.get_fastpath_enabled()


def test_cudnns_recurrent_layers_are_off_inside_and_on_again_after():
    class Watched(nn.LSTM):
        def forward(self, x):
            seen.append(torch.backends.cudnn.enabled)
            return super().forward(x)[0]

    seen = []
    network, x = Network(Watched(2, 3, batch_first=True)), torch.ones(4, 5, 2)
    network.apply(network.weights, x)
    network(network.weights[None], x)
    network.value_and_grad(network.weights[None], x, loss)
    assert seen == [False] * 3
    assert torch.backends.cudnn.enabled


def test_attention_by_the_function_has_second_derivatives():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(8, 24)

        def forward(self, x):
            q, k, v = self.qkv(x).unflatten(-1, (2, 12)).transpose(1, 2).chunk(3, dim=-1)
            return nn.functional.scaled_dot_product_attention(q, k, v).mean((1, 2))

    network = Network(Attention().double())
    x = torch.randn(3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradient = grad(lambda w: network.apply(w, x).square().sum())
    v = torch.randn(network.n_params, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    product = vjp(gradient, network.weights)[1](v)[0]
    numeric = (gradient(network.weights + 1e-5 * v) - gradient(network.weights - 1e-5 * v)) / 2e-5
    torch.testing.assert_close(product, numeric, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm_over_any_axis_is_torchs(dim):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = weight_norm(nn.Conv2d(2, 3, 2), dim=dim)
    network, x = Network(model), torch.ones(4, 2, 3, 3).cumsum(0)
    with torch.no_grad():
        torch.testing.assert_close(network.apply(network.weights, x), model(x))
        torch.testing.assert_close(network(network.weights[None], x)[0], model(x))
    assert all("forward" not in vars(module) for module in network.model.modules())


@named([CASES[3]])
def test_the_copy_carries_its_own_weights_again_after_a_failure(case):
    network, weights, x = setup(case)
    before = network.apply(network.weights, x)

    def failing(outputs):
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        network.value_and_grad(weights, x, failing)
    assert torch.equal(network.model(x), before)
    assert all(p.grad is None for p in network.model.parameters())


@pytest.mark.parametrize("vectorize", [False, True])
def test_weights_that_do_not_matter_have_no_gradient(vectorize):
    class Idle(nn.Linear):
        def __init__(self):
            super().__init__(3, 2)
            self.idle = nn.Parameter(torch.ones(4))

    network = Network(Idle(), vectorize=vectorize)
    gradients = network.value_and_grad(network.weights[None], torch.ones(5, 3), loss)[1]
    (named,) = (network.unflatten(g) for g in gradients)
    assert torch.equal(named["idle"], torch.zeros(4))
    assert named["weight"].abs().min() > 0


@named([CASES[3]])
def test_weights_of_any_strides_will_do(case):
    network, weights, x = setup(case)
    transposed = weights.T.contiguous().T
    for a, b in zip(network.value_and_grad(transposed, x, loss), network.value_and_grad(weights, x, loss), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(network(transposed, x), network(weights, x))


@named([CASES[3]])
def test_predicting_in_inference_mode_leaves_a_network_that_can_be_trained(case):
    network, weights, x = setup(case)
    with torch.inference_mode():
        outputs = network(weights + 0.0, x + 0.0)
    torch.testing.assert_close(outputs.clone(), network(weights, x))
    assert network.value_and_grad(weights, x, loss)[1].abs().max() > 0
