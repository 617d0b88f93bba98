"""The streams of counter-based noise: a draw depends on (seed, element, particle, step, stream) and on nothing else."""

from enum import IntEnum


class Stream(IntEnum):
    """What noise is drawn for; no two uses share a stream."""

    DRIFT = 0
    REFRESH = 1
    REFRESH_AGAIN = 2  # the second half of OBABO's refresh
    ACCEPT = 3
    REVIVE = 4  # a new velocity for a particle whose step was undone
    PERTURB = 5
    CURVATURE_PROBE = 16
    POWER_ITERATION = 17
    BATCH_OF_POINTS = 32
    BATCH_OF_INPUTS = 33
    LATENT_JITTER = 34
    DENSITY_CENTRE = 48
    DENSITY_KERNEL = 49
    REFINE = 1024  # and one more for every refinement step


def seed_of_mode(seed: int, mode: int) -> int:
    """Return the seed of a mode's walk, latent fit and draws; the first mode keeps `seed`.

    Neighbouring seeds and modes must not meet: mode 1 of seed 0 is no mode of seed 1.
    """
    # Out of range, a seed is left so, to be refused.
    return seed if mode == 0 else (seed + mode * 0x9E3779B97F4A7C15) % 2**63
