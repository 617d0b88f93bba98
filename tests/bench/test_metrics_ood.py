"""Detection metrics: worked cases, every pair by hand, scikit-learn, and what must hold for any scores."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmark_utils.metrics.evaluation import METRICS
from benchmark_utils.metrics.ood import DETECTION, aupr_in, aupr_out, auroc, fpr95, roc_points
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.metrics.predictive_scores import SCORES, foreign_scores


def tensor(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def by_pairs(test, ood) -> float:
    """Mann and Whitney's count over all pairs."""
    wins = [1.0 if b > a else 0.5 if b == a else 0.0 for a, b in itertools.product(test.tolist(), ood.tolist())]
    return sum(wins) / len(wins)


def fpr_by_search(test, ood, level=0.95) -> float:
    """Try every score as a threshold, from the largest down, until enough OOD examples are found."""
    for threshold in sorted({*test.tolist(), *ood.tolist()}, reverse=True):
        if (ood >= threshold).double().mean() >= level:
            return float((test >= threshold).double().mean())
    raise AssertionError("the lowest score finds all")


def precision_by_search(negative, positive) -> float:
    """Average precision: precision at each threshold, weighted by the recall that it adds."""
    total, before = 0.0, 0.0
    for threshold in sorted({*negative.tolist(), *positive.tolist()}, reverse=True):
        hits, misses = float((positive >= threshold).sum()), float((negative >= threshold).sum())
        total += (hits / len(positive) - before) * hits / (hits + misses)
        before = hits / len(positive)
    return total


def test_worked_by_hand() -> None:
    test, ood = tensor([0.1, 0.2, 0.6]), tensor([0.6, 0.9])
    # Of six pairs five are won and one, 0.6 against 0.6, is tied.
    assert auroc(test, ood) == pytest.approx(5.5 / 6)
    # 95 % of two is both: the threshold is 0.6, and it flags one of three test examples.
    assert fpr95(test, ood) == pytest.approx(1 / 3)
    # 0.9 finds half with precision 1; 0.6 the rest with precision 2/3.
    assert aupr_out(test, ood) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # From below: 0.1 and 0.2 at precision 1; 0.6 brings the third test example and an OOD one.
    assert aupr_in(test, ood) == pytest.approx(2 / 3 * 1 + 1 / 3 * 3 / 4)


def test_fpr95_is_of_the_test_set_when_95_percent_of_ood_is_found_and_not_the_other_way_round() -> None:
    # Twenty OOD examples, one of them low: the other 19 are 95 %, and no test example lies above them.
    ood = torch.cat([tensor([-5.0]), torch.linspace(2, 3, 19).double()])
    test = torch.linspace(0, 1, 10).double()
    assert fpr95(test, ood) == 0.0
    # With the test set as the positive class it would be the share of OOD below the test set's top, 1 of 20.
    assert fpr95(-ood, -test) == pytest.approx(1 / 20)


def test_fpr95_does_not_skip_thresholds_on_a_straight_line() -> None:
    # Every threshold adds one of each, so all points of the curve lie on the diagonal, where scikit-learn's
    # default keeps the ends alone and would give 1.
    scores = torch.arange(100).double()
    assert fpr95(scores, scores) == pytest.approx(0.95)


def test_perfect_reversed_and_empty_handed_scores() -> None:
    low, high = tensor([0.0, 1.0, 2.0]), tensor([3.0, 4.0])
    assert [metric(low, high) for metric in (auroc, fpr95, aupr_in, aupr_out)] == [1, 0, 1, 1]
    assert [metric(high, low) for metric in (auroc, fpr95)] == [0, 1]
    constant = [metric(torch.zeros(30), torch.zeros(10)) for metric in (auroc, fpr95, aupr_in, aupr_out)]
    assert constant == [0.5, 1.0, 0.75, 0.25]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(2, 30), st.integers(0, 2**31))
def test_all_agree_with_brute_force_also_with_ties(n: int, m: int, levels: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    test = torch.randint(levels, (n,), generator=generator).double() / levels
    ood = torch.randint(levels, (m,), generator=generator).double() / levels + 0.2 * (seed % 2)
    assert auroc(test, ood) == pytest.approx(by_pairs(test, ood))
    assert fpr95(test, ood) == pytest.approx(fpr_by_search(test, ood))
    assert aupr_out(test, ood) == pytest.approx(precision_by_search(test, ood))
    assert aupr_in(test, ood) == pytest.approx(precision_by_search(-ood, -test))
    # Neither scale nor order matters; a scale of four rounds nothing, so that ties stay ties.
    for metric in DETECTION.values():
        assert metric(4 * test.flip(0), 4 * ood.flip(0)) == pytest.approx(metric(test, ood))
    assert auroc(test, ood) + auroc(ood, test) == pytest.approx(1)


def test_they_are_scikit_learns_on_continuous_scores() -> None:
    rng = np.random.default_rng(0)
    test, ood = rng.normal(size=500), rng.normal(1.0, 1.5, size=300)
    labels, scores = np.r_[np.zeros(500), np.ones(300)], np.r_[test, ood]
    assert auroc(tensor(test), tensor(ood)) == pytest.approx(roc_auc_score(labels, scores))
    assert aupr_out(tensor(test), tensor(ood)) == pytest.approx(average_precision_score(labels, scores))
    assert aupr_in(tensor(test), tensor(ood)) == pytest.approx(average_precision_score(1 - labels, -scores))


@pytest.mark.parametrize("metric", DETECTION.values(), ids=DETECTION)
def test_no_scores_are_nan_and_broken_ones_refused(metric) -> None:
    nothing, some = torch.full((4,), math.nan), torch.rand(3)
    assert math.isnan(metric(nothing, some))
    assert math.isnan(metric(some, nothing))
    for broken in (tensor([0.5, math.nan]), tensor([math.inf]), tensor([]), torch.rand(2, 2)):
        with pytest.raises(ValueError, match="out-of-distribution scores"):
            metric(some, broken)
        with pytest.raises(ValueError, match="test scores"):
            metric(broken, some)


def test_a_thinned_roc_curve_is_short_whole_and_has_nearly_the_area() -> None:
    generator = torch.Generator().manual_seed(0)
    test, ood = torch.randn(4000, generator=generator), torch.randn(3000, generator=generator) + 1.5
    curve = roc_points(test, ood)
    assert curve.shape[0] == 2
    assert 100 < curve.shape[1] <= 200
    assert curve[:, 0].tolist() == [0, 0]
    assert curve[:, -1].tolist() == [1, 1]
    assert (np.diff(curve) >= 0).all()
    assert np.trapezoid(curve[1], curve[0]) == pytest.approx(auroc(test, ood), abs=1e-3)
    assert roc_points(tensor([0.0]), tensor([1.0])).tolist() == [[0, 0, 1], [0, 1, 1]]
    with pytest.raises(ValueError, match="no ROC curve"):
        roc_points(torch.full((2,), math.nan), tensor([1.0]))


def test_every_score_rises_with_foreignness_and_has_a_definition() -> None:
    sure = torch.tensor([0.98, 0.01, 0.01]).log().expand(4, 1, 3)
    contrary = torch.eye(4, 3).mul(0.96).add(0.0133).log().log_softmax(-1)[:, None]
    prediction = Prediction(log_probs=torch.cat([sure, contrary], dim=1))
    for name, scores in foreign_scores(prediction).items():
        assert scores.shape == (2,), name
        assert scores[1] > scores[0], name
        assert SCORES[name].id == f"{name}/1"
        assert SCORES[name].formula
        assert SCORES[name].source
    assert float(foreign_scores(prediction)["msp"][0]) == pytest.approx(-0.98)


def test_the_four_are_in_the_registry() -> None:
    found = {entry.column: entry for entry in METRICS.values() if entry.reading == "detection"}
    assert set(found) == {f"{name}_<set>_<score>" for name in DETECTION}
    assert found["fpr95_<set>_<score>"].direction == "lower"
    assert all(found[f"{name}_<set>_<score>"].compute is compute for name, compute in DETECTION.items())
