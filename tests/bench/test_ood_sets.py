"""Out-of-distribution sets: names, draws, and the same scale, size, colour and compression as the task."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from benchmark_utils.data import ood_sets as module
from benchmark_utils.data.image_sources import ImageContent, ImageOrigin
from benchmark_utils.data.ood_sets import (
    CIFAR10_SETS,
    FASHION_SETS,
    MNIST_SETS,
    OFFLINE_SETS,
    OodSpec,
    Scale,
    as_jpeg,
    fitted,
    load_ood,
    ood_sets,
)
from benchmark_utils.data.synthetic_images import LEAST_CONTRAST, font_letters, photo_patches

GREY = Scale((28, 28, 1), (0.25,), (0.5,))
COLOUR = Scale((32, 32, 3), (0.5, 0.25, 0.0), (0.25, 0.5, 1.0))
ORIGIN = ImageOrigin("other", {"test": None}, (32, 32, 3), "none", "none")


def pictures(n: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


@pytest.fixture
def numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source whose image number i is of grey level i throughout."""
    images = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None, None, None], (100, 28, 28, 1))
    content = ImageContent(images, np.zeros(100, np.int64), "abc", "here")
    monkeypatch.setattr(module, "find_images", lambda origin, part: content)
    monkeypatch.setattr(module, "why_absent", lambda origin, part: None)


def test_sets_have_openood_names_and_distances_where_it_has_them() -> None:
    named = {
        "mnist": {s.name: s.distance for s in MNIST_SETS},
        "fashion": {s.name: s.distance for s in FASHION_SETS},
        "cifar10": {s.name: s.distance for s in CIFAR10_SETS},
        "offline": {s.name: s.distance for s in OFFLINE_SETS},
    }
    assert named == {
        "mnist": {"notmnist": "near", "fashionmnist": "near", "emnist-letters": "near", "tin": "far"},
        "fashion": {"mnist": "near", "notmnist": "near", "tin": "far"},
        "cifar10": {"cifar100": "near", "tin": "near", "mnist": "far", "svhn": "far"},
        "offline": {"font-letters": "near", "photo-patches": "far"},
    }


def test_a_scale_standardises_each_channel_and_goes_back() -> None:
    images = pictures(3, (32, 32, 3))
    inputs = COLOUR.inputs(images)
    assert inputs.shape == (3, 3, 32, 32)
    assert inputs.dtype == torch.float32
    assert inputs.is_contiguous()
    expected = (images.transpose(0, 3, 1, 2) / 255 - np.array([0.5, 0.25, 0])[:, None, None]) / np.array(
        [0.25, 0.5, 1]
    )[:, None, None]
    assert np.allclose(inputs.numpy(), expected, atol=1e-6)
    raw = COLOUR.raw(inputs)
    assert torch.allclose(raw, torch.from_numpy(images).permute(0, 3, 1, 2) / 255, atol=1e-6)
    assert torch.allclose(COLOUR.standardised(raw), inputs, atol=1e-5)


def test_pictures_take_the_colour_and_the_size_of_the_task() -> None:
    colour = pictures(2, (32, 32, 3))
    grey = fitted(colour, GREY)
    assert grey.shape == (2, 28, 28, 1)
    picture = Picture.fromarray(colour[1]).convert("L").resize((28, 28), Picture.Resampling.BILINEAR)
    assert np.array_equal(grey[1, ..., 0], np.asarray(picture))
    digits = pictures(2, (28, 28, 1))
    found = fitted(digits, COLOUR)
    assert found.shape == (2, 32, 32, 3)
    assert np.array_equal(found[..., 0], found[..., 2])
    same = fitted(colour, COLOUR)
    assert np.array_equal(same, colour)
    assert same is not colour


def test_only_a_task_of_jpeg_pictures_compresses_the_others() -> None:
    smooth = np.broadcast_to(np.arange(0, 256, 8, dtype=np.uint8)[:, None, None], (32, 32, 3))[None].copy()
    smooth[..., 2] = 255 - smooth[..., 2].swapaxes(1, 2)
    compressed = fitted(smooth, Scale((32, 32, 3), (0.0,) * 3, (1.0,) * 3, jpeg=True))
    expected = np.asarray(as_jpeg(Picture.fromarray(smooth[0])))
    assert np.array_equal(compressed[0], expected)
    error = np.abs(compressed.astype(int) - smooth).mean()
    assert 0 < error < 10


def test_the_jpeg_setting_is_quality_75_with_halved_colour_resolution() -> None:
    picture = as_jpeg(Picture.fromarray(pictures(1, (32, 32, 3))[0]))
    assert picture.quantization[0][:8] == [8, 6, 5, 8, 12, 20, 26, 31]  # the standard's table at quality 75
    assert [(h, v) for _, h, v, _ in picture.layer] == [(2, 2), (1, 1), (1, 1)]


@pytest.mark.usefixtures("numbered")
def test_a_set_is_drawn_by_the_seed_without_repeats() -> None:
    spec = OodSpec("other", "near", ORIGIN)

    def levels(size: int, seed: int, name: str = "other") -> list[int]:
        x = load_ood(OodSpec(name, "near", spec.origin), GREY, size, seed)
        return (GREY.raw(x)[:, 0, 0, 0] * 255).round().int().tolist()

    assert levels(30, 1) == levels(30, 1)
    assert levels(30, 1) != levels(30, 2)
    assert levels(30, 1) != levels(30, 1, "another")
    assert len(set(levels(30, 1))) == 30
    assert sorted(levels(5000, 1)) == list(range(100))  # all that there are, if there are fewer


@pytest.mark.usefixtures("numbered")
def test_sets_are_loaded_when_asked_for_and_can_be_sent_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    found, missing = ood_sets((OodSpec("other", "near", ORIGIN), *OFFLINE_SETS), GREY, 10, 0)
    assert missing == {}
    assert [each.name for each in found] == ["other", "font-letters", "photo-patches"]
    for each in found:
        assert each.load().shape == (10, 1, 28, 28)
    copy = pickle.loads(pickle.dumps(found[1]))
    assert torch.equal(copy.load(), found[1].load())
    monkeypatch.setattr(module, "find_images", None)
    ood_sets((OodSpec("other", "near", ORIGIN),), GREY, 10, 0)  # asks no source for images


def test_what_is_not_at_hand_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "why_absent", lambda origin, part: "no such thing")
    found, missing = ood_sets((OodSpec("other", "near", ORIGIN), OFFLINE_SETS[0]), GREY, 10, 0)
    assert [each.name for each in found] == ["font-letters"]
    assert missing == {"other": "no such thing"}


@pytest.mark.usefixtures("numbered")
def test_other_content_is_used_but_reported() -> None:
    spec = OodSpec("other", "near", ImageOrigin("other", {"test": "def"}, (28, 28, 1), "none", "none"))
    with pytest.warns(UserWarning, match="set other: the content from here is not the expected one"):
        assert len(load_ood(spec, GREY, 10, 0)) == 10


def test_a_set_without_source_is_refused() -> None:
    with pytest.raises(ValueError, match="neither an origin nor a maker"):
        load_ood(OodSpec("nothing", "far"), GREY, 10, 0)


@pytest.mark.parametrize("make", [font_letters, photo_patches])
def test_synthetic_sets_come_from_their_seed(make) -> None:
    images = make(50, 3)
    assert images.shape == (50, 28, 28, 1)
    assert images.dtype == np.uint8
    assert np.array_equal(images, make(50, 3))
    assert not np.array_equal(images, make(50, 4))
    assert len({image.tobytes() for image in images}) == 50


def test_letters_look_like_digits_in_all_but_meaning() -> None:
    images = font_letters(200, 0)
    edge = np.concatenate([images[:, [0, -1]].ravel(), images[:, :, [0, -1]].ravel()])
    assert (edge > 0).mean() < 0.02  # black at the edges, nothing cut off
    assert 0.05 < images.mean() / 255 < 0.25  # MNIST has 0.13
    heights = (images[..., 0] > 64).any(2).sum(1)
    assert 15 < heights.mean() < 25  # 20 in MNIST


def test_patches_have_something_to_see() -> None:
    images = photo_patches(200, 0)
    assert images.reshape(200, -1).std(1).min() >= LEAST_CONTRAST
