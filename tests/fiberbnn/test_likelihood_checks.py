"""Data that fit a likelihood or do not, in words; choosing and saving one."""

import json

import pytest
import torch
from torch.func import vmap

from fiberbnn.likelihood import (
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    UnfittedGaussian,
    from_dict,
    likelihood_of,
)
from tests.fiberbnn.likelihood_cases import CASES, STDS


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


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
