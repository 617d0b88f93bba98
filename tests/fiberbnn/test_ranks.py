"""Shares of particles, and what a process that is alone gathers."""

import pytest
import torch

from fiberbnn.ranks import Ranks


@pytest.mark.parametrize(("n_particles", "size"), [(1, 1), (2, 2), (7, 3), (8, 3), (9, 3), (30, 4), (5, 5)])
def test_shares_are_in_order_whole_and_as_even_as_can_be(n_particles, size):
    shares = [Ranks(rank, size).share_of(n_particles) for rank in range(size)]
    assert [k for share in shares for k in share] == list(range(n_particles))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert min(map(len, shares)) >= 1


@pytest.mark.parametrize(("n_particles", "size"), [(1, 2), (3, 4), (0, 1)])
def test_fewer_particles_than_processes_are_refused(n_particles, size):
    with pytest.raises(ValueError, match=f"{n_particles} particles cannot be shared among {size} processes"):
        Ranks(0, size).share_of(n_particles)


def test_a_process_alone_has_all_and_speaks_to_nobody():
    assert Ranks.present() == Ranks(0, 1)
    values = torch.arange(6.0).view(3, 2)
    assert Ranks().gather(values) is values
    assert Ranks().sum(values) is values
