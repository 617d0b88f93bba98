"""The averaged predictive and its parts: against stored samples, in any chunks; what adds up, and what cannot be."""

import math

import pytest
import torch

from fiberbnn.averaging import Averaging
from fiberbnn.likelihood import Categorical, Gaussian, HeteroscedasticGaussian, Likelihood
from fiberbnn.prediction import ClassPredictive, GaussianPredictive, joined, mixture

S, N = 12, 5
CLASSES = {"classes": (Categorical(), (3,)), "pixels": (Categorical(class_axis=1), (3, 2, 4))}
REALS = {
    "gaussian": (Gaussian(0.7), (2,)),
    "gaussian-flat": (Gaussian(0.7), ()),
    "gaussian-per-output": (Gaussian((0.7, 0.2)), (4, 2)),
    "head": (HeteroscedasticGaussian(), (4,)),
}


def draw(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return 1.5 * torch.randn(S, N, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def average(likelihood: Likelihood, outputs: torch.Tensor, chunks: tuple[int, ...] = (S,)):
    found = Averaging(likelihood)
    for chunk in outputs.split(chunks):
        found.add(chunk)
    return found.result()


@pytest.fixture(params=CLASSES)
def classes(request):
    likelihood, shape = CLASSES[request.param]
    return likelihood, draw(shape)


@pytest.fixture(params=REALS)
def reals(request):
    likelihood, shape = REALS[request.param]
    return likelihood, draw(shape)


CHUNKS = pytest.mark.parametrize("chunks", [(12,), (1,) * 12, (5, 7), (11, 1), (3, 3, 4, 2)])


@CHUNKS
def test_classes_in_any_chunks_are_those_of_all_samples_at_once(classes, chunks):
    likelihood, outputs = classes
    found = average(likelihood, outputs, chunks)
    axis = likelihood.class_axis
    p = outputs.movedim(axis if axis < 0 else axis + 1, -1).softmax(-1)  # [S, N, ..., C]
    mean = p.mean(0)
    entropy = -(mean * mean.log()).sum(-1)
    aleatoric = -(p * p.log()).sum(-1).mean(0)
    torch.testing.assert_close(found.probs.movedim(axis, -1), mean)
    torch.testing.assert_close(found.variance.movedim(axis, -1), p.var(0, correction=0))
    torch.testing.assert_close(found.entropy, entropy)
    torch.testing.assert_close(found.aleatoric, aleatoric)
    torch.testing.assert_close(found.mutual_information, entropy - aleatoric)
    torch.testing.assert_close(found.labels, mean.argmax(-1))
    torch.testing.assert_close(found.confidence, mean.amax(-1))
    assert found.probs.shape == outputs.shape[1:]
    assert found.entropy.shape == mean.shape[:-1]


@CHUNKS
def test_regressions_in_any_chunks_are_those_of_all_samples_at_once(reals, chunks):
    likelihood, outputs = reals
    found = average(likelihood, outputs, chunks)
    if isinstance(likelihood, HeteroscedasticGaussian):
        means, noise = outputs[..., :2], outputs[..., 2:].exp()
    else:
        means, noise = outputs, torch.tensor(likelihood.noise_std, dtype=outputs.dtype).square().expand_as(outputs)
    torch.testing.assert_close(found.mean, means.mean(0))
    torch.testing.assert_close(found.epistemic, means.var(0, correction=0))
    torch.testing.assert_close(found.aleatoric, noise.mean(0))
    # The law of total variance, from the second moment of the mixture.
    second = (means.square() + noise).mean(0)
    torch.testing.assert_close(found.variance, second - found.mean.square())
    torch.testing.assert_close(found.std.square(), found.variance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_entropy_is_aleatoric_plus_mutual_information(dtype):
    found = average(Categorical(), draw((3,), dtype))
    torch.testing.assert_close(found.entropy, found.aleatoric + found.mutual_information)
    assert (found.mutual_information > 0.01).all()
    assert torch.equal(found.epistemic, found.mutual_information)
    assert {part.dtype for part in (found.probs, found.variance, found.entropy, found.aleatoric)} == {dtype}


def test_mutual_information_of_samples_that_agree_is_never_negative():
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(1, 2000, 10, generator=generator, dtype=torch.float64)  # rounding alone would go below zero
    outputs = one + 1e-9 * torch.randn(S, 2000, 10, generator=generator, dtype=torch.float64)
    found = average(Categorical(), outputs, (5, 7))
    assert (found.mutual_information >= 0).all()
    assert (found.mutual_information < 1e-12).all()


def test_one_sample_has_no_epistemic_part():
    for likelihood, shape in (CLASSES | REALS).values():
        found = average(likelihood, draw(shape)[:1], (1,))
        assert (found.epistemic == 0).all()
        assert (found.variance == 0).all() == isinstance(found, ClassPredictive)


def test_samples_that_are_certain_of_different_classes_are_all_mutual_information():
    outputs = torch.tensor([[[1e4, 0.0]], [[0.0, 1e4]]])
    found = average(Categorical(), outputs, (1, 1))
    assert found.entropy.item() == pytest.approx(math.log(2))
    assert (found.aleatoric.item(), found.mutual_information.item()) == (0.0, pytest.approx(math.log(2)))
    assert found.variance.tolist() == [[0.25, 0.25]]


def test_permuted_samples_give_the_same_predictive(classes):
    likelihood, outputs = classes
    order = torch.randperm(S, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(average(likelihood, outputs).entropy, average(likelihood, outputs[order]).entropy)


def test_a_small_spread_around_a_large_mean_is_kept():
    outputs = 1e6 + 1e-3 * draw((2,))
    found = average(Gaussian(1.0), outputs, (5, 7))
    torch.testing.assert_close(found.epistemic, 1e-6 * draw((2,)).var(0, correction=0), rtol=1e-5, atol=0.0)


def test_chunks_of_another_shape_or_none_are_refused():
    average = Averaging(Gaussian(1.0))
    with pytest.raises(ValueError, match=r"with S > 0, all of one shape; got \[0, 2\]$"):
        average.add(torch.zeros(0, 2))
    average.add(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"got \[3, 1\] after \[S, \.\.\.\] of \[2\]"):
        average.add(torch.zeros(3, 1))


def test_nothing_to_average():
    with pytest.raises(ValueError, match="no samples to average over"):
        Averaging(Categorical()).result()


def test_batches_are_joined_in_order(classes, reals):
    for likelihood, outputs in (classes, reals):
        whole = average(likelihood, outputs)
        parts = joined([average(likelihood, part) for part in outputs.split([2, 3], dim=1)])
        assert type(parts) is type(whole)
        names = ("mean",) if isinstance(whole, GaussianPredictive) else ("probs", "entropy", "mutual_information")
        for name in (*names, "variance", "aleatoric", "epistemic"):
            torch.testing.assert_close(getattr(parts, name), getattr(whole, name))
    assert joined([average(*classes)]).class_axis == classes[0].class_axis


def test_batches_of_several_kinds_are_not_joined():
    parts = [average(Categorical(), draw((3,))), average(Gaussian(1.0), draw((3,)))]
    with pytest.raises(ValueError, match="one predictive at least, and all of one kind"):
        joined(parts)
    with pytest.raises(ValueError, match="one predictive at least"):
        joined([])


def test_a_mixture_is_the_average_over_all_samples(classes, reals):
    for likelihood, outputs in (classes, reals):
        whole = average(likelihood, outputs)
        parts = [average(likelihood, part, (len(part),)) for part in outputs.split([3, 9])]
        found = mixture(parts, [0.25, 0.75])
        assert type(found) is type(whole)
        names = ("mean",) if isinstance(whole, GaussianPredictive) else ("probs", "entropy", "mutual_information")
        for name in (*names, "variance", "aleatoric", "epistemic"):
            torch.testing.assert_close(getattr(found, name), getattr(whole, name))


def test_small_mutual_information_survives_mixing():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(8, 2000, 10, generator=generator)
    outputs[..., 0] += torch.linspace(5, 30, 2000)  # ever more certain
    whole = average(Categorical(), outputs, (8,))
    parts = [Averaging(Categorical()).add(part).result(exact=True) for part in outputs.split(4)]
    assert {part.probs.dtype for part in parts} == {torch.float64}
    found = mixture(parts, [0.5, 0.5], torch.float32)
    clear = whole.mutual_information > 1e-9
    assert 1000 < clear.sum() < 2000
    torch.testing.assert_close(found.mutual_information[clear], whole.mutual_information[clear], rtol=1e-6, atol=0.0)
    assert {t.dtype for t in (found.probs, found.variance, found.entropy, found.mutual_information)} == {torch.float32}


def test_predictives_of_several_kinds_are_not_mixed():
    parts = [average(Categorical(), draw((3,))), average(Gaussian(1.0), draw((3,)))]
    with pytest.raises(ValueError, match="one predictive at least, and all of one kind"):
        mixture(parts, [0.5, 0.5])
