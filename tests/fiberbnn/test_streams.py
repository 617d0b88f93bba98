"""Streams and seeds of noise: no two uses may share one."""

import pytest

from fiberbnn.streams import Stream, seed_of_mode


def test_no_two_uses_share_a_stream():
    assert len(Stream.__members__) == len(set(Stream))


def test_there_is_room_for_any_number_of_refinement_steps():
    # Step r takes stream REFINE + r.
    assert max(Stream) == Stream.REFINE


def test_modes_of_neighbouring_seeds_never_meet():
    seeds = {seed_of_mode(seed, mode) for seed in range(300) for mode in range(30)}
    assert len(seeds) == 300 * 30
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("seed", [-1, 0, 7, 2**63, 2**62 + 3, 2**63 - 1])
def test_the_first_mode_keeps_the_seed(seed):
    assert seed_of_mode(seed, 0) == seed
    assert len({seed_of_mode(seed, mode) for mode in range(100)}) == 100
