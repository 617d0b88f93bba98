"""Likelihoods against torch.distributions, their curvature against torch.func; bad data and settings in words."""

import json
import math
from dataclasses import dataclass

import pytest
import torch
from torch import distributions as D
from torch.func import grad, jacrev, vmap

from fiberbnn.likelihood import (
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    Likelihood,
    UnfittedGaussian,
    fitted_noise_std,
    from_dict,
    likelihood_of,
)

N = 6
STDS = (0.7, 0.2, 1.9)


@dataclass(frozen=True)
class Case:
    """A likelihood with the shape of one example's outputs, and what torch has for it."""

    likelihood: Likelihood
    shape: tuple[int, ...]

    def outputs(self, *leading: int, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return 1.5 * torch.randn(*leading, N, *self.shape, generator=generator, dtype=torch.float64)

    def targets(self, outputs: torch.Tensor | None = None) -> torch.Tensor:
        """Drawn from the distribution of outputs, or of some."""
        outputs = self.outputs(seed=5) if outputs is None else outputs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return self.distribution(outputs).sample()

    def distribution(self, outputs: torch.Tensor) -> D.Distribution:
        """Of a batch [..., N], every example one event."""
        leading = outputs.ndim - len(self.shape)
        match self.likelihood:
            case Categorical(axis):
                part = D.Categorical(logits=outputs.movedim(axis if axis < 0 else axis + leading - 1, -1))
            case Gaussian(std):
                part = D.Normal(outputs, torch.tensor(std, dtype=outputs.dtype))
            case _:
                mean, log_variance = outputs.chunk(2, -1)
                part = D.Normal(mean, (0.5 * log_variance).exp())
        return D.Independent(part, len(part.batch_shape) - leading)


CASES = {
    "classes": Case(Categorical(), (3,)),
    "classes-tokens": Case(Categorical(), (4, 3)),
    "classes-pixels": Case(Categorical(class_axis=1), (3, 2, 4)),
    "classes-middle": Case(Categorical(class_axis=-2), (4, 3, 2)),
    "gaussian": Case(Gaussian(0.7), (3,)),
    "gaussian-flat": Case(Gaussian(0.7), ()),
    "gaussian-series": Case(Gaussian(0.7), (4, 2)),
    "gaussian-per-output": Case(Gaussian(STDS), (3,)),
    "gaussian-per-output-series": Case(Gaussian(STDS), (2, 3)),
    "head": Case(HeteroscedasticGaussian(), (4,)),
    "head-series": Case(HeteroscedasticGaussian(), (3, 2)),
}
HESSIAN = [name for name in CASES if not name.startswith("head")]


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


# Values.


def test_nll_is_minus_the_summed_log_prob_of_torch(case):
    outputs, y = case.outputs(), case.targets()
    expected = -case.distribution(outputs).log_prob(y).sum()
    torch.testing.assert_close(case.likelihood.nll(outputs, y), expected)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_log_prob_is_that_of_torch_for_any_leading_axes(case, leading):
    outputs, y = case.outputs(*leading), case.targets()
    log_prob = case.likelihood.log_prob(outputs, y)
    assert log_prob.shape == (*leading, N)
    torch.testing.assert_close(log_prob, case.distribution(outputs).log_prob(y))


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_kl_is_that_of_torch(case, leading):
    outputs, other = case.outputs(*leading), case.outputs(*leading, seed=2)
    kl = case.likelihood.kl(outputs, other, sample_axes=len(leading))
    expected = D.kl_divergence(case.distribution(outputs), case.distribution(other))
    assert kl.shape == (*leading, N)
    torch.testing.assert_close(kl, expected)
    assert (kl > 0).all()
    same = case.likelihood.kl(outputs, outputs, sample_axes=len(leading))
    torch.testing.assert_close(same, torch.zeros_like(same))


def test_kl_takes_one_sample_axis_unless_told(case):
    outputs, other = case.outputs(3), case.outputs(3, seed=2)
    assert torch.equal(case.likelihood.kl(outputs, other), case.likelihood.kl(outputs, other, sample_axes=1))


def test_kl_of_one_weight_vectors_logits_needs_to_be_told():
    with pytest.raises(ValueError, match=r"\[6, 3\] with sample_axes=1 have no class axis -1: give sample_axes=0"):
        Categorical().kl(torch.zeros(N, 3), torch.zeros(N, 3))


def test_kl_of_close_heteroscedastic_predictives_keeps_its_digits_in_float32():
    outputs = torch.tensor([[[0.3, -1.0]]])
    other = outputs + torch.tensor([0.0, 1e-3])
    assert float(HeteroscedasticGaussian().kl(outputs, other)) == pytest.approx(0.25e-6, rel=1e-3)


@pytest.mark.parametrize("leading", [(), (3,)])
def test_predictions_and_noise_are_the_moments_of_torch(case, leading):
    outputs = case.outputs(*leading)
    part = case.distribution(outputs).base_dist
    predictions = case.likelihood.predictions(outputs, sample_axes=len(leading))
    if isinstance(case.likelihood, Categorical):
        assert predictions.shape == outputs.shape
        axis = case.likelihood.class_axis
        torch.testing.assert_close(predictions.movedim(axis if axis < 0 else axis + len(leading), -1), part.probs)
    else:
        torch.testing.assert_close(predictions, part.mean)
        torch.testing.assert_close(case.likelihood.noise_variance(outputs), part.variance)


def test_nll_of_a_uniform_predictive_is_log_c():
    assert Categorical().nll(torch.zeros(N, 3), torch.arange(N) % 3) == pytest.approx(N * math.log(3))


def test_noise_per_output_that_is_the_same_for_all_is_one_noise():
    outputs, y = CASES["gaussian"].outputs(), CASES["gaussian"].targets()
    torch.testing.assert_close(Gaussian((0.7, 0.7, 0.7)).nll(outputs, y), Gaussian(0.7).nll(outputs, y))


def test_a_head_with_constant_noise_is_a_gaussian():
    outputs, y = CASES["gaussian"].outputs(), CASES["gaussian"].targets()
    with_head = torch.cat([outputs, torch.full_like(outputs, 2 * math.log(0.7))], dim=-1)
    torch.testing.assert_close(HeteroscedasticGaussian().log_prob(with_head, y), Gaussian(0.7).log_prob(outputs, y))


# Another class axis.


def test_a_class_axis_is_a_moved_axis():
    pixels, last = CASES["classes-pixels"], Categorical()
    outputs, other, y = pixels.outputs(5), pixels.outputs(5, seed=2), pixels.targets()
    moved, moved_other = outputs.movedim(2, -1), other.movedim(2, -1)
    torch.testing.assert_close(pixels.likelihood.nll(outputs[0], y), last.nll(moved[0], y))
    torch.testing.assert_close(pixels.likelihood.log_prob(outputs, y), last.log_prob(moved, y))
    torch.testing.assert_close(pixels.likelihood.kl(outputs, other), last.kl(moved, moved_other))
    torch.testing.assert_close(pixels.likelihood.predictions(outputs).movedim(2, -1), last.predictions(moved))
    for name in ("curvature", "curvature_sqrt"):
        ours = getattr(pixels.likelihood, name)(outputs[0], other)
        torch.testing.assert_close(ours.movedim(2, -1), getattr(last, name)(moved[0], moved_other))


@pytest.mark.parametrize("axis", [0, 1.0, None, True])
def test_a_class_axis_that_cannot_be(axis):
    with pytest.raises(ValueError, match="class_axis must be the number of an axis of the outputs, and not 0"):
        Categorical(axis)


# Labels that are left out.


@pytest.fixture(params=["classes-tokens", "classes-pixels", "classes-middle"])
def padded(request):
    """A case with its labels, a third of them left out and all those of the second example."""
    case = CASES[request.param]
    y = case.targets()
    y.view(-1)[::3] = -100
    y[1] = -100
    return case, y


def test_ignored_labels_add_nothing(padded):
    case, y = padded
    outputs = case.outputs(2)
    axis = case.likelihood.class_axis
    log_p = outputs.movedim(axis if axis < 0 else axis + 1, -1).log_softmax(-1)
    kept = y != -100
    picked = log_p.gather(-1, y.where(kept, 0).expand(2, *y.shape)[..., None]).squeeze(-1)
    expected = (picked * kept).flatten(2).sum(-1)
    torch.testing.assert_close(case.likelihood.log_prob(outputs, y), expected)
    torch.testing.assert_close(case.likelihood.nll(outputs[0], y), -expected[0].sum())
    assert (case.likelihood.log_prob(outputs, y)[:, 1] == 0).all()
    case.likelihood.check(outputs[0], y)


def test_ignored_labels_have_no_gradient_and_no_curvature(padded):
    case, y = padded
    outputs, likelihood = case.outputs(), case.likelihood
    dense = jacrev(jacrev(lambda f: likelihood.nll(f, y)))(outputs).reshape(outputs.numel(), -1)
    u = torch.eye(outputs.numel(), dtype=torch.float64).view(-1, *outputs.shape)
    torch.testing.assert_close(likelihood.curvature(outputs, u, y).reshape(dense.shape), dense)
    factor = likelihood.curvature_sqrt(outputs, u, y).reshape(dense.shape)  # rows are L e_i
    torch.testing.assert_close(factor.T @ factor, dense)
    assert (likelihood.curvature(outputs, u)[..., 1, :, :] != 0).any()  # without labels nothing is left out


# Curvature.


@pytest.mark.parametrize("name", HESSIAN)
def test_curvature_is_the_hessian_in_the_outputs(name):
    case = CASES[name]
    outputs, y = case.outputs(), case.targets()
    size = outputs.numel()
    dense = jacrev(jacrev(lambda f: case.likelihood.nll(f, y)))(outputs).reshape(size, size)
    u = torch.eye(size, dtype=torch.float64).view(-1, *outputs.shape)
    torch.testing.assert_close(case.likelihood.curvature(outputs, u).reshape(size, size), dense)
    torch.testing.assert_close(case.likelihood.curvature(outputs, u, y).reshape(size, size), dense)


def test_heteroscedastic_curvature_is_the_second_moment_of_the_score():
    likelihood, outputs = HeteroscedasticGaussian(), torch.tensor([[0.4, -1.0, -0.8, 0.6]], dtype=torch.float64)
    # Gauss-Hermite nodes integrate the score's fourth-degree products over the targets exactly.
    nodes, weights = torch.tensor([-(3**0.5), 0.0, 3**0.5]).double(), torch.tensor([1, 4, 1]).double() / 6
    mean, log_variance = outputs.chunk(2, -1)
    grid = torch.cartesian_prod(nodes, nodes)[:, None]
    score = vmap(grad(likelihood.nll), in_dims=(None, 0))(outputs, mean + (0.5 * log_variance).exp() * grid)
    p = torch.cartesian_prod(weights, weights).prod(-1)
    fisher = torch.einsum("sni,snj,s->ij", score, score, p)
    u = torch.eye(4, dtype=torch.float64)[:, None]
    torch.testing.assert_close(likelihood.curvature(outputs, u)[:, 0], fisher)


def test_curvature_sqrt_is_a_factor_of_the_curvature(case):
    outputs = case.outputs()
    size = outputs.numel()
    u = torch.eye(size, dtype=torch.float64).view(-1, *outputs.shape)
    factor = case.likelihood.curvature_sqrt(outputs, u).reshape(size, size)  # rows are L e_i
    torch.testing.assert_close(factor.T @ factor, case.likelihood.curvature(outputs, u).reshape(size, size))


# Under torch.func.


def test_all_is_the_same_under_vmap(case):
    likelihood, outputs, other, y = case.likelihood, case.outputs(3), case.outputs(3, seed=2), case.targets()
    labels = y.expand(3, *y.shape)
    one = [(f, u, t) for f, u, t in zip(outputs, other, labels, strict=True)]
    for together, alone in [
        (vmap(likelihood.nll)(outputs, labels), [likelihood.nll(f, t) for f, _, t in one]),
        (vmap(likelihood.log_prob)(outputs, labels), [likelihood.log_prob(f, t) for f, _, t in one]),
        (vmap(likelihood.curvature)(outputs, other, labels), [likelihood.curvature(*each) for each in one]),
        (vmap(likelihood.curvature_sqrt)(outputs, other), [likelihood.curvature_sqrt(f, u) for f, u, _ in one]),
        (vmap(grad(likelihood.nll))(outputs, labels), [grad(likelihood.nll)(f, t) for f, _, t in one]),
    ]:
        torch.testing.assert_close(together, torch.stack(alone))
    torch.testing.assert_close(
        vmap(lambda f, u: likelihood.kl(f, u, sample_axes=0))(outputs, other), likelihood.kl(outputs, other)
    )


def test_plain_autograd_and_torch_func_agree(case):
    outputs, y = case.outputs().requires_grad_(), case.targets()
    case.likelihood.nll(outputs, y).backward()
    torch.testing.assert_close(outputs.grad, grad(case.likelihood.nll)(outputs.detach(), y))
    other = case.outputs(seed=2).requires_grad_()
    case.likelihood.kl(outputs.detach(), other, sample_axes=0).sum().backward()
    assert other.grad.isfinite().all()
    assert (other.grad != 0).any()


# Noise.


def test_precision_is_one_over_the_variance():
    assert Gaussian(0.5).precision == pytest.approx(4.0)
    assert Gaussian((0.5,)).precision == pytest.approx(4.0)
    assert Gaussian((0.5,)).is_scalar


def test_noise_per_output_has_no_single_precision():
    assert not Gaussian(STDS).is_scalar
    with pytest.raises(ValueError, match="no single precision: use noise_variance"):
        _ = Gaussian(STDS).precision


@pytest.mark.parametrize("given", [list(STDS), torch.tensor(STDS, dtype=torch.float64)])
def test_noise_becomes_a_tuple(given):
    assert Gaussian(given) == Gaussian(STDS)
    assert hash(Gaussian(given)) == hash(Gaussian(STDS))


@pytest.mark.parametrize(
    "noise", [0.0, -1.0, math.nan, math.inf, (), (0.1, 0.0), (0.1, math.inf), "head", None, [[1.0]]]
)
def test_noise_that_is_none(noise):
    with pytest.raises(ValueError, match="noise_std must be positive and finite"):
        Gaussian(noise)


def test_fitted_noise_is_the_root_mean_square_residual():
    residuals = torch.tensor([[3.0, 1.0], [4.0, 1.0]])
    assert fitted_noise_std(torch.zeros(2, 2), residuals) == pytest.approx(math.sqrt(27 / 4))
    assert fitted_noise_std(torch.zeros(2, 2), residuals, per_output=True) == pytest.approx((math.sqrt(12.5), 1.0))
    assert fitted_noise_std(torch.zeros(2), residuals[:, 0]) == pytest.approx(math.sqrt(12.5))


@pytest.mark.parametrize("name", ["gaussian", "gaussian-series"])
@pytest.mark.parametrize("per_output", [False, True])
def test_fitted_noise_maximises_the_likelihood(name, per_output):
    outputs, y = CASES[name].outputs(), CASES[name].targets()
    best = UnfittedGaussian(per_output).fitted(outputs, y)
    stds = best.noise_std if per_output else (best.noise_std,)
    assert len(stds) == (outputs.shape[-1] if per_output else 1)
    for i in range(len(stds)):
        for factor in (0.98, 1.02):
            changed = tuple(std * (factor if i == j else 1.0) for j, std in enumerate(stds))
            assert Gaussian(changed).nll(outputs, y) > best.nll(outputs, y)


def test_noise_that_cannot_be_fitted():
    y = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match="fits the training targets exactly: give noise_std"):
        fitted_noise_std(y, y)
    with pytest.raises(ValueError, match=r"exactly at outputs \[1\]: give noise_std for each"):
        fitted_noise_std(y + torch.tensor([1.0, 0.0]), y, per_output=True)
    with pytest.raises(ValueError, match=r"outputs \[2, 2\] and targets \[2\] must have one shape"):
        fitted_noise_std(y, y[:, 0])
    with pytest.raises(ValueError, match=r"use y\[:, None\]"):
        UnfittedGaussian().fitted(y[:, :1], y[:, 0])
    with pytest.raises(ValueError, match=r"needs outputs \[N, \.\.\., C\]; the model gives \[2\]"):
        UnfittedGaussian(per_output=True).fitted(y[:, 0], 1 + y[:, 0])


# Checks.


def test_data_that_fit_are_accepted(case):
    case.likelihood.check(case.outputs(), case.targets())


PIXELS = torch.zeros(6, 3, 2, 4)


@pytest.mark.parametrize(
    ("likelihood", "outputs", "y", "message"),
    [
        (Categorical(), torch.zeros(6), torch.arange(6), r"needs outputs \[N, C\].*gives \[6\].*needs two outputs"),
        (Categorical(), torch.zeros(6, 1), torch.zeros(6).long(), "A binary network needs two outputs"),
        (
            Categorical(),
            torch.zeros(6, 3),
            torch.zeros(6),
            r"labels must be int64 \[6\]; got torch.float32 \[6\].*long",
        ),
        (Categorical(), torch.zeros(6, 3), torch.zeros(6, 3).long(), r"not one-hot rows: use y\.argmax\(-1\)"),
        (
            Categorical(),
            torch.zeros(6, 3),
            torch.zeros(6, 1).long(),
            r"\[6\]; got torch.int64 \[6, 1\] \(use y\[\.\.\., 0\]",
        ),
        (Categorical(), torch.zeros(6, 3), torch.tensor([0, 1, 2, 3, 0, 0]), r"from 0 to 3, but.*3 outputs.*0 \.\. 2$"),
        (Categorical(), torch.zeros(2, 3), torch.tensor([0, -100]), r"labels run from -100 to 0.*in 0 \.\. 2$"),
        (
            Categorical(),
            PIXELS,
            torch.zeros(6, 2, 4).long(),
            r"int64 \[6, 3, 2\]; got.*use Categorical\(class_axis=1\)",
        ),
        (
            Categorical(1),
            PIXELS,
            torch.zeros(6, 3, 2).long(),
            r"int64 \[6, 2, 4\]; got.*use Categorical\(class_axis=3\)",
        ),
        (Categorical(1), PIXELS, torch.full((6, 2, 4), 3), r"from 3 to 3.*or be -100 to be left out"),
        (Categorical(1), PIXELS, torch.full((6, 2, 4), -100), "every label is -100.*nothing is left to learn from"),
        (Categorical(), torch.zeros(2, 3), torch.tensor([-100, -100]), "labels run from -100 to -100"),
        (Categorical(4), PIXELS, torch.zeros(6, 2, 4).long(), "class_axis=4 is not an axis after the first of the out"),
        (Categorical(-4), PIXELS, torch.zeros(6, 2, 4).long(), "class_axis=-4 is not an axis after the first of the o"),
        (Gaussian(1.0), torch.zeros(6, 1), torch.zeros(6), r"of shape \[6, 1\], as the model's.*\(use y\[:, None\]\)"),
        (Gaussian(1.0), torch.zeros(6, 2, 1), torch.zeros(6, 2), r"\(use y\[\.\.\., None\]\)"),
        (Gaussian(1.0), torch.zeros(6), torch.zeros(6, 1), r"of shape \[6\].*\(use y\[\.\.\., 0\]\)"),
        (Gaussian(1.0), torch.zeros(6), torch.zeros(6).long(), r"must be floats.*got torch.int64 \[6\] \(use y.float"),
        (Gaussian(1.0), torch.zeros(6, 4), torch.zeros(6, 2), 'means and log-variances: noise_std="head"'),
        (Gaussian(1.0), torch.tensor(0.0), torch.zeros(6), "a single number for the whole batch"),
        (Gaussian((1.0, 2.0)), torch.zeros(6, 3), torch.zeros(6, 3), "noise_std has 2 entries, but the model has 3"),
        (
            Gaussian((1.0, 2.0)),
            torch.zeros(2),
            torch.zeros(2),
            r"needs outputs \[N, \.\.\., C\]; the model gives \[2\]",
        ),
        (HeteroscedasticGaussian(), torch.zeros(6, 3), torch.zeros(6, 3), "an even number; the model gives.*6, 3"),
        (HeteroscedasticGaussian(), torch.zeros(6), torch.zeros(6), r"needs outputs \[N, \.\.\., C\]"),
        (
            HeteroscedasticGaussian(),
            torch.zeros(6, 4),
            torch.zeros(6, 4),
            r"shape \[6, 2\], half of the model's outputs",
        ),
        (HeteroscedasticGaussian(), torch.zeros(6, 2), torch.zeros(6), r"shape \[6, 1\].*\(use y\[:, None\]\)"),
    ],
)
def test_data_that_do_not_fit(likelihood, outputs, y, message):
    with pytest.raises(ValueError, match=message):
        likelihood.check(outputs, y)


# Choosing and saving.


@pytest.mark.parametrize(
    ("kind", "noise_std", "expected"),
    [
        ("classification", None, Categorical()),
        ("regression", 0.5, Gaussian(0.5)),
        ("regression", 2, Gaussian(2.0)),
        ("regression", list(STDS), Gaussian(STDS)),
        ("regression", None, UnfittedGaussian()),
        ("regression", "per_output", UnfittedGaussian(per_output=True)),
        ("regression", "head", HeteroscedasticGaussian()),
        (Categorical(1), None, Categorical(1)),
        (Gaussian(STDS), None, Gaussian(STDS)),
        (HeteroscedasticGaussian(), None, HeteroscedasticGaussian()),
    ],
)
def test_the_likelihood_that_was_asked_for(kind, noise_std, expected):
    assert likelihood_of(kind, noise_std) == expected


@pytest.mark.parametrize(
    ("kind", "noise_std", "message"),
    [
        ("poisson", None, r'likelihood must be "classification", "regression", Categorical\(\)'),
        (None, None, "likelihood must be"),
        ("regression", "heads", "noise_std must be numbers, 'per_output' or 'head'; got 'heads'"),
        ("regression", -1.0, "noise_std must be positive and finite"),
        ("classification", 0.1, 'noise_std belongs to likelihood="regression"'),
        (Gaussian(1.0), "head", 'noise_std belongs to likelihood="regression"'),
    ],
)
def test_a_likelihood_that_is_none(kind, noise_std, message):
    with pytest.raises(ValueError, match=message):
        likelihood_of(kind, noise_std)


def test_a_likelihood_survives_json(case):
    assert from_dict(json.loads(json.dumps(case.likelihood.to_dict()))) == case.likelihood


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (
            {"kind": "poisson"},
            "unknown likelihood 'poisson'; this version of fiberbnn knows categorical, gaussian, het",
        ),
        ({}, "unknown likelihood None"),
        ({"kind": "gaussian", "precision": 1.0}, r"'gaussian' has no fields \['precision'\]"),
        ({"kind": "gaussian", "noise_std": -1.0}, "noise_std must be positive and finite"),
    ],
)
def test_a_saved_likelihood_that_is_not_known(saved, message):
    with pytest.raises(ValueError, match=message):
        from_dict(saved)


def test_a_part_of_the_data_may_leave_all_positions_out():
    y = torch.full((6, 2, 4), -100)
    Categorical(1).check(PIXELS, y, part=True)
    with pytest.raises(ValueError, match="labels run from 5 to 5"):
        Categorical(1).check(PIXELS, y.fill_(5), part=True)
    with pytest.raises(ValueError, match="labels run from -100 to -100"):
        Categorical().check(torch.zeros(2, 3), torch.full((2,), -100), part=True)


@pytest.mark.parametrize("label", [-100, -1, 3])
def test_no_label_of_a_plain_classification_is_left_out(label):
    outputs, y = torch.randn(4, 5, 3), torch.tensor([0, 1, 2, 0, label])
    nll = Categorical().nll
    for found in (lambda: nll(outputs[0], y), lambda: vmap(nll, (0, None))(outputs, y)):
        with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
            found()
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        Categorical().log_prob(outputs, y)
