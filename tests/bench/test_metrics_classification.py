"""Classification metrics against scikit-learn and netcal, and against what must hold for any predictive."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from benchmark_utils.metrics.classification import reliability
from benchmark_utils.metrics.evaluation import METRICS, evaluate
from benchmark_utils.metrics.prediction import Prediction

COLUMNS = ["nll", "brier", "accuracy", "ece"]


def random_case(n_samples: int, n_examples: int, n_classes: int, seed: int) -> tuple[Prediction, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n_samples, n_examples, n_classes, generator=generator, dtype=torch.float64)
    y = torch.randint(n_classes, (n_examples,), generator=generator)
    return Prediction(log_probs=logits.log_softmax(-1)), y


def golden(probabilities: np.ndarray, y: np.ndarray) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # netcal imports packages that warn of their own future
        from netcal.metrics import ECE
    labels = list(range(probabilities.shape[1]))
    return {
        "nll": log_loss(y, probabilities, labels=labels),
        "brier": brier_score_loss(y, probabilities, labels=labels, scale_by_half=False),
        "accuracy": accuracy_score(y, probabilities.argmax(-1)),
        # Given two classes, netcal would score the second; confidence and hit make it score the top label.
        "ece": ECE(bins=15).measure(probabilities.max(-1), (probabilities.argmax(-1) == y).astype(int)),
    }


@pytest.mark.parametrize(("n_samples", "n_examples", "n_classes"), [(1, 40, 2), (5, 300, 3), (3, 200, 10)])
def test_both_readings_match_scikit_learn_and_netcal(n_samples: int, n_examples: int, n_classes: int) -> None:
    prediction, y = random_case(n_samples, n_examples, n_classes, seed=n_classes)
    row = evaluate(prediction, y)
    probabilities = prediction.class_log_probs.exp().numpy()
    averaged = golden(probabilities.mean(0), y.numpy())
    single = [golden(sample, y.numpy()) for sample in probabilities]
    for column in COLUMNS:
        assert row[column] == pytest.approx(averaged[column], abs=1e-9)
        assert row[f"{column}_single"] == pytest.approx(np.mean([s[column] for s in single]), abs=1e-9)


def test_ece_worked_by_hand() -> None:
    # Bins of 1/15: 0.55 and 0.59 share (8/15, 9/15], 0.95 is alone.
    top = torch.tensor([0.55, 0.59, 0.95], dtype=torch.float64)
    prediction = Prediction(log_probs=torch.stack([top, 1 - top], -1).log()[None])
    row = evaluate(prediction, torch.tensor([0, 1, 0]))
    assert row["ece"] == pytest.approx((abs(1 - 0.55 - 0.59) + abs(1 - 0.95)) / 3)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    edges = torch.linspace(0, 1, 16, dtype=torch.float64)[8:15]
    edge = edges[edges.log().exp() == edges][0]  # one that survives the logarithm
    top = torch.stack([edge, edge - 0.01])
    prediction = Prediction(log_probs=torch.stack([top, 1 - top], -1).log()[None])
    assert evaluate(prediction, torch.tensor([0, 1]))["ece"] == pytest.approx(float((2 * edge - 0.01 - 1) / 2))


def test_the_bins_of_a_reliability_diagram_give_the_ece() -> None:
    prediction, y = random_case(4, 300, 5, seed=1)
    bins = reliability(prediction, y)
    assert bins["count"].sum() == 300
    filled = bins["count"] > 0
    assert bool(bins["confidence"][~filled].isnan().all() & bins["accuracy"][~filled].isnan().all())
    gaps = bins["count"] / 300 * (bins["accuracy"] - bins["confidence"]).abs()
    assert float(gaps[filled].sum()) == pytest.approx(evaluate(prediction, y)["ece"])
    lower = torch.arange(15)[filled] / 15
    assert bool(((bins["confidence"][filled] > lower) & (bins["confidence"][filled] <= lower + 1 / 15)).all())


def test_reliability_worked_by_hand() -> None:
    top = torch.tensor([0.55, 0.59, 0.95], dtype=torch.float64)
    prediction = Prediction(log_probs=torch.stack([top, 1 - top], -1).log()[None])
    bins = reliability(prediction, torch.tensor([0, 1, 0]))
    assert bins["count"].tolist() == [0] * 8 + [2] + [0] * 5 + [1]
    assert bins["confidence"][[8, 14]].tolist() == pytest.approx([0.57, 0.95])
    assert bins["accuracy"][[8, 14]].tolist() == [0.5, 1.0]


def test_only_the_columns_asked_for_are_computed() -> None:
    prediction, y = random_case(2, 10, 3, seed=0)
    every = evaluate(prediction, y)
    assert evaluate(prediction, y, columns=("nll", "ece")) == {name: every[name] for name in ("nll", "ece")}


@pytest.mark.parametrize("n_classes", [2, 4, 10])
def test_a_uniform_predictive_scores_what_it_must(n_classes: int) -> None:
    y = torch.arange(n_classes).repeat(3)
    log_probs = torch.full((2, len(y), n_classes), -math.log(n_classes), dtype=torch.float64)
    row = evaluate(Prediction(log_probs=log_probs), y)
    for suffix in ("", "_single"):
        assert row[f"nll{suffix}"] == pytest.approx(math.log(n_classes))
        assert row[f"brier{suffix}"] == pytest.approx(1 - 1 / n_classes)
        assert row[f"accuracy{suffix}"] == pytest.approx(1 / n_classes)
        assert row[f"ece{suffix}"] == pytest.approx(0, abs=1e-12)


def test_a_perfect_and_an_impossible_predictive() -> None:
    y = torch.tensor([0, 2, 1])
    certain = torch.nn.functional.one_hot(y, 3).double().log()[None]
    perfect = evaluate(Prediction(log_probs=certain), y)
    assert [perfect[column] for column in COLUMNS] == [0, 0, 1, 0]
    wrong = evaluate(Prediction(log_probs=certain), (y + 1) % 3)
    assert [wrong[column] for column in COLUMNS] == [math.inf, 2, 0, 1]


def test_nll_is_exact_where_probabilities_underflow() -> None:
    log_probs = torch.tensor([[[0.0, -5000.0]]], dtype=torch.float64)
    assert evaluate(Prediction(log_probs=log_probs), torch.tensor([1]))["nll"] == 5000


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(1, 6), st.integers(1, 30), st.integers(2, 5), st.integers(0, 2**31))
def test_order_never_matters_and_averaging_never_hurts(
    n_samples: int, n_examples: int, n_classes: int, seed: int
) -> None:
    prediction, y = random_case(n_samples, n_examples, n_classes, seed)
    row = evaluate(prediction, y)
    generator = torch.Generator().manual_seed(seed)
    samples, examples, classes = (torch.randperm(n, generator=generator) for n in (n_samples, n_examples, n_classes))
    turned = prediction.class_log_probs[samples][:, examples][:, :, classes]
    # Class c now stands in place argsort(classes)[c].
    turned_row = evaluate(Prediction(log_probs=turned), classes.argsort()[y[examples]])
    assert turned_row == pytest.approx(row)
    # Jensen: both scores are convex in the probabilities.
    assert row["nll"] <= row["nll_single"] + 1e-12
    assert row["brier"] <= row["brier_single"] + 1e-12
    assert all(0 <= row[c] <= 1 for c in ("ece", "ece_single", "accuracy", "accuracy_single"))
    if n_samples == 1:
        assert all(row[c] == pytest.approx(row[f"{c}_single"]) for c in COLUMNS)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 1, 2]), "from 0 to 1"),
        (torch.tensor([0, -1, 0]), "from 0 to 1"),
        (torch.tensor([0, 1]), r"int64 \[3\]"),
        (torch.tensor([0.0, 1.0, 0.0]), r"int64 \[3\]"),
    ],
)
def test_labels_that_do_not_fit_are_refused(y: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(Prediction(log_probs=torch.full((2, 3, 2), 0.5).log()), y)


def test_every_definition_is_complete_and_versioned() -> None:
    assert METRICS["ece-15ew-top1/1"].column == "ece"
    for id, entry in METRICS.items():
        name, version = id.split("/")
        assert id == entry.id
        assert name
        assert int(version) >= 1
        assert all((entry.formula, entry.unit, entry.direction, entry.source, entry.kinds))


def test_an_id_or_a_column_cannot_be_registered_twice() -> None:
    from benchmark_utils.metrics.metric import metric

    for id, column in [("ece-15ew-top1/1", "new"), ("new/1", "ece")]:
        with pytest.raises(ValueError, match="repeats 'ece-15ew-top1/1'"):
            metric(
                id,
                column,
                "classification",
                formula="f",
                unit="1",
                direction="lower",
                reading="averaged predictive",
                source="s",
            )(lambda prediction, y: 0.0)
    assert "new/1" not in METRICS
