"""Memory of the process: what is free, what was used, and what does not fit."""

import os
import sys

import pytest
import torch

from fiberbnn import memory

CPU = torch.device("cpu")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_free_memory_is_between_a_thousandth_and_all():
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert installed / 1000 < memory.free_bytes(CPU) <= installed


def test_where_the_system_does_not_tell_everything_fits(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: None)
    memory.check_fits(2**60, CPU, "buy more")


def test_what_does_not_fit_is_refused_with_advice(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 3 * 2**30)
    memory.check_fits(3 * 2**30, CPU, "buy more")
    with pytest.raises(MemoryError, match=r"needs about 4\.0 GiB, cpu has 3\.0 GiB free: buy more"):
        memory.check_fits(2**32, CPU, "buy more")


def test_the_peak_has_seen_what_was_allocated():
    before = memory.peak_mib(CPU)
    block = torch.ones(2**25)  # 128 MiB, written to
    after = memory.peak_mib(CPU)
    assert after >= 128
    assert after >= before
    assert block[-1] == 1
