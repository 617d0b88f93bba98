"""Intervals by the bootstrap: of a mean over tasks and seeds, and of a median of ratios."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVEL = 0.95
RESAMPLES = 4000
_SEED = 20260101  # the same resamples at every run: one pair of files has one verdict


def mean_interval(groups: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the percentile interval of the mean over groups of their means.

    Groups (tasks) are drawn with replacement, and within each one drawn its members (seeds): members of one group
    have a split's and a network's difficulties in common. One group of three gives its smallest and largest member.

    Source: Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8.

    Args:
        groups: at least one array of at least one number.
    """
    generator = np.random.default_rng(_SEED)
    # Mean of each resample of each group's members, [groups, RESAMPLES].
    means = np.stack(
        [
            group[generator.integers(len(group), size=(RESAMPLES, len(group)))].mean(1)
            for group in map(np.asarray, groups)
        ]
    )
    if len(groups) > 1:
        drawn = generator.integers(len(groups), size=(len(groups), RESAMPLES))
        means = np.take_along_axis(means, drawn, axis=0)
    return _percentiles(means.mean(0))


def median_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval of the median of values [n]."""
    return _percentiles(_medians(values))


def ratio_of_medians_interval(values: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval of the median of values [n] over that of others [m], both resampled."""
    return _percentiles(_medians(values) / _medians(others))


def _medians(values: np.ndarray) -> np.ndarray:
    """Medians of resamples, [RESAMPLES]."""
    generator = np.random.default_rng([_SEED, len(values)])
    return np.median(values[generator.integers(len(values), size=(RESAMPLES, len(values)))], axis=1)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
