"""What cannot be a function of flat weights is refused in words."""

import pytest
import torch
from torch import nn

from fiberbnn import Network


@pytest.mark.parametrize("shape", [(17,), (0, 17), (2, 16), (1, 2, 17)])
def test_weights_of_a_wrong_shape_are_refused(shape):
    network = Network(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)))
    assert network.n_params == 17
    with pytest.raises(ValueError, match=r"weights must be \[S, 17\]"):
        network(torch.zeros(shape), torch.zeros(6, 2))


def test_weights_of_two_dtypes_are_refused():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2).double())
    with pytest.raises(ValueError, match="share a dtype"):
        Network(model)


def test_complex_weights_are_refused():
    with pytest.raises(ValueError, match=r"must be real floats; they are torch\.complex64"):
        Network(nn.Linear(3, 2, dtype=torch.complex64))


def test_lazy_layers_without_weights_are_refused():
    with pytest.raises(ValueError, match="run one batch through it first"):
        Network(nn.Sequential(nn.LazyLinear(2), nn.Tanh(), nn.Linear(2, 2)))


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_old_norms_that_cannot_be_copied_are_refused(kind):
    model = nn.Sequential(getattr(nn.utils, kind)(nn.Linear(3, 2)))
    with pytest.raises(ValueError, match=rf"layer '0' has the old .*use torch\.nn\.utils\.parametrizations\.{kind}"):
        Network(model)


def test_no_particles_at_once_are_refused():
    with pytest.raises(ValueError, match="particles_at_once must be at least 1; got 0"):
        Network(nn.Linear(3, 2), particles_at_once=0)


@pytest.mark.parametrize(
    ("forward", "error", "message"),
    [
        (lambda x: (x, x), TypeError, "must return a tensor of outputs.*it returned tuple"),
        (lambda x: {"scores": x}, TypeError, "it returned dict"),
        (lambda x: x.T, ValueError, r"the 6 rows of its inputs on their first axis; they are \[3, 6\] .*batch_first"),
        (lambda x: x.sum(), ValueError, r"first axis; they are \[\]"),
    ],
)
def test_outputs_that_are_no_rows_are_refused(forward, error, message):
    class Odd(nn.Linear):
        def forward(self, x):
            return forward(super().forward(x))

    network = Network(Odd(3, 3))
    with pytest.raises(error, match=message):
        network(network.weights[None], torch.ones(6, 3))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize("options", [{}, {"subset": "last_layer"}, {"vectorize": True}])
@pytest.mark.parametrize(
    "model",
    [nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), nn.Sequential(nn.Flatten(), nn.Linear(4, 2))],
    ids=["perceptron", "module"],
)
def test_integers_for_a_model_of_floats_are_refused_in_words(model, options, dtype):
    network, x = Network(model, **options), torch.ones(5, 4, dtype=dtype)
    with pytest.raises(TypeError, match=rf"does not take integers for inputs \({dtype}\): convert them to float"):
        network(network.weights[None], network.prepare(x))


def test_integers_for_embeddings_are_right():
    network = Network(nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(12, 2)))
    x = torch.arange(8).view(2, 4)
    assert torch.equal(network(network.weights[None], network.prepare(x))[0], network.model(x))


def test_something_that_is_not_a_module_is_refused():
    with pytest.raises(TypeError, match=r"torch\.nn\.Module; got function"):
        Network(lambda x: x)
