"""Seconds and memory of a run."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from benchmark_utils.rows.cost import Meter, gradients_of, resident_mib

needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can reset the peak")


@needs_proc
def test_the_peak_is_that_of_the_run_and_not_of_an_earlier_one():
    with Meter() as large:
        np.ones(30 * 2**20 // 8 * 4)  # 120 MiB, freed at once
    with Meter() as small:
        np.ones(10 * 2**20 // 8)
    assert large.peak_rise_mib == pytest.approx(120, abs=15)
    assert small.peak_rise_mib == pytest.approx(10, abs=8)
    assert small.peak_mib < large.peak_mib


def test_the_peak_includes_what_was_there_before():
    with Meter() as meter:
        pass
    assert meter.peak_mib >= 0.9 * resident_mib("VmRSS") or not Path("/proc/self/status").exists()


def test_seconds_are_of_the_block():
    with Meter() as meter:
        time.sleep(0.05)
    assert 0.05 <= meter.seconds < 0.5


def test_products_count_twice_and_energies_a_third():
    assert gradients_of({"grad_evals": 5, "hvp_evals": 2, "energy_evals": 6}) == 11
    assert gradients_of({"grad_evals": 4.5, "fit_s": 100.0}) == 4.5
