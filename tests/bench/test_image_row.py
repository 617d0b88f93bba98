"""The columns of out-of-distribution sets and shifts, on a small stand-in of a task."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark_utils.metrics.evaluation import evaluate
from benchmark_utils.metrics.ood import auroc
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.rows import row
from benchmark_utils.rows.figure_arrays import figure_arrays
from benchmark_utils.rows.image_row import detection, shifted


@dataclass
class OodSet:
    name: str
    distance: str
    load: Callable[[], Tensor]


@dataclass
class Shift:
    name: str
    strength: float
    unit: str


@dataclass
class Task:
    """What the functions look at, and nothing else."""

    ood: tuple[OodSet, ...] = ()
    ood_missing: dict[str, str] = field(default_factory=dict)
    shifts: list[tuple[Shift, Tensor, Tensor]] = field(default_factory=list)
    kind: str = "classification"
    x_plot: Tensor | None = None
    noise_std: float | None = None
    x_train: Tensor = field(default_factory=lambda: torch.zeros(3, 1, 4, 4))
    y_train: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.int64))
    y_test: Tensor = field(default_factory=lambda: torch.arange(12) % 3)

    def shifted(self) -> Iterator[tuple[Shift, Tensor, Tensor]]:
        return iter(self.shifts)


def images(n: int, level: float) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(n)) + level


class Method:
    """Five random linear readers of 4 x 4 images; the brighter, the surer; counts what it is asked for."""

    def __init__(self, n_samples: int = 5) -> None:
        self.weights = torch.randn(n_samples, 16, 3, generator=torch.Generator().manual_seed(0))
        self.asked: list[int] = []

    def __call__(self, x: Tensor) -> Prediction:
        self.asked.append(len(x))
        return Prediction(log_probs=(x.flatten(1) @ self.weights).double().log_softmax(-1))


SETS = (
    OodSet("fashion-mnist", "far", lambda: images(7, -0.5)),
    OodSet("letters", "near", lambda: images(9, 0.2)),
    OodSet("noise", "far", lambda: images(5, -0.45)),
)


def test_every_set_and_score_has_its_columns_and_each_set_is_predicted_once() -> None:
    method, task = Method(), Task(ood=SETS, ood_missing={"tin": "no network"})
    prediction = method(images(12, 1.0))
    columns, curves = detection(task, method, prediction)
    assert method.asked == [12, 7, 9, 5]  # the test set was not predicted again
    for name, n in (("fashion_mnist", 7), ("letters", 9), ("noise", 5)):
        assert columns[f"n_{name}"] == n
        for metric in ("auroc", "fpr95", "aupr_in", "aupr_out"):
            for score in ("msp", "entropy", "mi"):
                assert 0 <= columns[f"{metric}_{name}_{score}"] <= 1
    expected = auroc(prediction.entropy(), method(images(9, 0.2)).entropy())
    assert columns["auroc_letters_entropy"] == columns["auroc_near_entropy"] == expected
    assert (columns["ood_near"], columns["ood_far"]) == ("letters", "fashion_mnist, noise")
    assert columns["ood_missing"] == "tin: no network"
    for metric in ("auroc", "fpr95"):
        both = [columns[f"{metric}_{name}_msp"] for name in ("fashion_mnist", "noise")]
        assert columns[f"{metric}_far_msp"] == pytest.approx(np.mean(both))
        assert both[0] != both[1]  # or the mean would be no test
    assert set(curves) == {
        f"{kind}/{name}" for kind in ("roc", "auroc") for name in ("fashion_mnist", "letters", "noise")
    }
    assert float(curves["auroc/letters"]) == expected
    area = np.trapezoid(curves["roc/letters"][1], curves["roc/letters"][0])
    assert area == pytest.approx(expected)


def test_one_sample_has_every_score_but_mutual_information() -> None:
    method = Method(n_samples=1)
    columns, _ = detection(Task(ood=SETS[1:2]), method, method(images(12, 1.0)))
    assert math.isnan(columns["auroc_letters_mi"])
    assert math.isnan(columns["auroc_near_mi"])
    assert not math.isnan(columns["auroc_letters_msp"])
    assert math.isnan(columns["auroc_far_msp"])  # no far set


def test_a_task_without_sets_has_no_columns_and_one_whose_sets_are_all_missing_says_so() -> None:
    method = Method()
    prediction = method(images(12, 1.0))
    assert detection(Task(), method, prediction) == ({}, {})
    columns, curves = detection(Task(ood_missing={"svhn": "gone", "tin": "lost"}), method, prediction)
    assert columns["ood_missing"] == "svhn: gone; tin: lost"
    assert columns["ood_near"] == ""
    assert curves == {}


@pytest.mark.parametrize("names", [("a", "a"), ("a-b", "a_b"), ("near", "a")])
def test_names_that_would_share_a_column_are_refused(names: tuple[str, str]) -> None:
    method = Method()
    sets = tuple(OodSet(name, "far", lambda: images(3, 0.0)) for name in names)
    with pytest.raises(ValueError, match="different names"):
        detection(Task(ood=sets), method, method(images(12, 1.0)))


def test_shifts_have_a_column_a_strength_and_their_mean() -> None:
    method, y = Method(), torch.arange(8) % 3
    settings = [("rotation", 15.0, "degrees"), ("noise", 0.1, "sd"), ("noise", 0.5, "sd")]
    shifts = [(Shift(*each), images(8, i / 10), y) for i, each in enumerate(settings)]
    test = method(images(12, 0.0))
    columns = shifted(Task(shifts=shifts), method, test)
    assert columns["n_shifted"] == 8
    assert json.loads(str(columns["shift_units"])) == {"rotation": "degrees", "noise": "sd"}
    for i, place in enumerate(("rotation_15", "noise_0.1", "noise_0.5")):
        expected = evaluate(method(images(8, i / 10)), y)
        for score in ("nll", "accuracy", "ece"):
            assert columns[f"{score}_{place}"] == expected[score]
    three = [columns[f"nll_{place}"] for place in ("rotation_15", "noise_0.1", "noise_0.5")]
    assert columns["nll_shifted"] == pytest.approx(np.mean(three))
    first = Prediction(log_probs=test.class_log_probs[:, :8])
    assert columns["nll_unshifted"] == evaluate(first, y)["nll"]
    assert columns["nll_unshifted"] != evaluate(test, Task().y_test)["nll"]
    assert shifted(Task(), method, test) == {}
    with pytest.raises(ValueError, match="comes twice"):
        shifted(Task(shifts=[shifts[0], shifts[0]]), method, test)


def test_images_keep_their_reliability_and_no_map_or_training_data() -> None:
    method = Method()
    found = figure_arrays(Task(), method, method(images(12, 0.0)))
    assert {name: value.shape for name, value in found.items()} == {
        f"reliability/{name}": (15,) for name in ("confidence", "accuracy", "count")
    }
    two_channels = Task(x_train=torch.zeros(3, 2, 4, 4))  # its second axis has length two, as a plane's
    assert set(figure_arrays(two_channels, method, method(images(12, 0.0)))) == set(found)
    assert method.asked == [12, 12]  # nothing more was predicted


def test_the_energy_of_an_image_net_is_taken_at_few_samples_evenly_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def energy(weights: Tensor) -> Tensor:
        seen.append(weights[:, 0])
        return weights[:, 0]

    monkeypatch.setattr(row, "shared_energy", lambda task, map_fit: energy)
    map_fit = SimpleNamespace(energy=0.0, weights=torch.zeros(2))
    weights = torch.arange(191.0)[:, None].expand(191, 2)
    found = row.measured_energy_ratio(Task(), map_fit, lambda n: weights)
    assert seen[0].tolist() == list(range(0, 191, 10))
    assert found == pytest.approx(95.0)  # 2 (mean - 0) / 2
    row.measured_energy_ratio(Task(x_train=torch.zeros(3, 4)), map_fit, lambda n: weights)
    assert len(seen[1]) == 191  # tables keep all
    assert math.isnan(row.measured_energy_ratio(Task(), map_fit, lambda n: None))
