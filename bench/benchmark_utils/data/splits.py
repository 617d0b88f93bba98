"""Ways to divide rows into a training and a test part, and to standardise by the training part."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

TRAIN_SHARE = 0.7
GAP_HALF_WIDTH = 0.6  # no training input of the gap tasks lies in (-0.6, 0.6)
GAP_N_TRAIN, GAP_N_TEST = 100, 200


def split_rows(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and the test rows, disjoint and together all rows, [0.7 N] and [0.3 N], int64."""
    order = np.random.default_rng(seed).permutation(n_rows)
    n_train = round(TRAIN_SHARE * n_rows)
    return order[:n_train], order[n_train:]


def split_gap(x: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return training rows outside the gap, [100], and test rows anywhere, [200], of x [N]; disjoint."""
    order = np.random.default_rng(seed).permutation(len(x))
    # The test rows are taken first, so that both parts are exactly uniform on their ranges.
    test, rest = order[:GAP_N_TEST], order[GAP_N_TEST:]
    return rest[np.abs(x[rest]) >= GAP_HALF_WIDTH][:GAP_N_TRAIN], test


def split_around(
    x: np.ndarray, gap: tuple[float, float], seed: int, test_share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return training and test rows of x [N], disjoint and together all rows.

    Every row inside the open interval `gap` is a test row, and so is a random share of the others, so that the test
    part is seen both where there were data and where there were none.
    """
    outside = (x <= gap[0]) | (x >= gap[1])
    rest = np.random.default_rng(seed).permutation(np.flatnonzero(outside))
    n_test = round(test_share * len(rest))
    return np.sort(rest[n_test:]), np.sort(np.r_[np.flatnonzero(~outside), rest[:n_test]])


def location_and_scale(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each column of [N, D], both [D]; a constant column has scale 1."""
    # np.ptp, not a scale of zero: neither the deviation nor the mean of equal numbers need be exact.
    constant = np.ptp(values, axis=0) == 0
    return np.where(constant, values[0], values.mean(axis=0)), np.where(constant, 1.0, values.std(axis=0))


def standardise(x_train: np.ndarray, x_test: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return both parts, float32, with mean 0 and standard deviation 1 in the training part.

    A column that is constant in the training part is only centred (scale 1).
    """
    mean, scale = location_and_scale(x_train)
    return torch.from_numpy((x_train - mean) / scale).float(), torch.from_numpy((x_test - mean) / scale).float()
