"""Shifts of images against known answers."""

import pickle

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from benchmark_utils.data.shifts import add_noise, blur, blur_matrix, rotate, standard_shifts


def images(n: int = 3, channels: int = 3, side: int = 12) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("turns", [0, 1, 2, 3, -1])
def test_quarter_turns_are_those_of_rot90(turns: int, side: int) -> None:
    x = images(side=side)
    assert torch.allclose(rotate(x, 90.0 * turns), torch.rot90(x, turns, dims=(2, 3)), atol=1e-9)


def test_a_turn_goes_anticlockwise_and_brings_in_black() -> None:
    x = torch.ones(1, 1, 28, 28)
    turned = rotate(x, 45.0)
    assert float(turned[0, 0, 0, 0]) == 0.0
    assert float(turned[0, 0, 14, 14]) == pytest.approx(1.0)
    mark = torch.zeros(1, 1, 21, 21)
    mark[0, 0, 10, 18] = 1.0  # eight pixels to the right of the centre
    row, column = divmod(int(rotate(mark, 30.0).argmax()), 21)
    assert (row, column) == (6, 17)  # 8 sin 30° = 4 up, 8 cos 30° = 6.9 to the right


@pytest.mark.parametrize("sd", [0.02, 0.1])
def test_noise_has_the_stated_deviation_where_nothing_is_cut(sd: float) -> None:
    x = torch.full((50, 1, 28, 28), 0.5)
    noise = add_noise(x, sd, seed=0) - x
    n = noise.numel()
    assert abs(float(noise.std()) / sd - 1) < 4 / (2 * n) ** 0.5
    assert abs(float(noise.mean())) < 4 * sd / n**0.5


def test_noise_comes_from_its_seed() -> None:
    x = images()
    assert torch.equal(add_noise(x, 0.2, seed=1), add_noise(x, 0.2, seed=1))
    assert not torch.equal(add_noise(x, 0.2, seed=1), add_noise(x, 0.2, seed=2))


@pytest.mark.parametrize("sd", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("side", [5, 28])
def test_blur_is_that_of_scipy_and_keeps_the_mean(sd: float, side: int) -> None:
    x = images(side=side)
    expected = np.stack([[gaussian_filter(page, sd, mode="reflect") for page in image] for image in x.numpy()])
    found = blur(x, sd)
    assert np.allclose(found.numpy(), expected, atol=1e-12)
    assert torch.allclose(found.mean((2, 3)), x.mean((2, 3)), atol=1e-12)
    assert torch.all(found.var((2, 3)) < x.var((2, 3)))


def test_rows_and_columns_of_a_blur_sum_to_one() -> None:
    matrix = blur_matrix(7, 2.0)
    assert torch.allclose(matrix.sum(0), torch.ones(7).double())
    assert torch.allclose(matrix.sum(1), torch.ones(7).double())


@pytest.mark.parametrize("shift", standard_shifts(3), ids=lambda shift: f"{shift.name}-{shift.strength}")
def test_a_standard_shift_keeps_shape_type_and_range_and_does_not_touch_its_input(shift) -> None:
    x = images(2, 1, 28).float()
    before = x.clone()
    found = shift.apply(x)
    assert found.shape == x.shape
    assert found.dtype == torch.float32
    assert float(found.min()) >= 0.0
    assert float(found.max()) <= 1.0
    assert torch.equal(x, before)
    assert not torch.allclose(found, x, atol=0.01)
    assert torch.equal(pickle.loads(pickle.dumps(shift)).apply(x), found)


def test_standard_shifts_grow_and_say_their_unit() -> None:
    shifts = standard_shifts(0)
    strengths = {name: [s.strength for s in shifts if s.name == name] for name in ("rotation", "noise", "blur")}
    assert strengths == {
        "rotation": [15, 30, 45, 60],
        "noise": [0.1, 0.2, 0.3, 0.5],
        "blur": [0.5, 1.0, 1.5, 2.0],
    }
    x = images(2, 1, 28).float()
    for name in strengths:
        distances = [float((s.apply(x) - x).norm()) for s in shifts if s.name == name]
        # On noise-like images a turn by 15 degrees changes as much as one by 60: only the order of the rest is fixed.
        assert name == "rotation" or distances == sorted(distances)
    assert all(shift.unit for shift in shifts)
