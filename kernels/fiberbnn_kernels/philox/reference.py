"""Counter-based normal and uniform numbers; this file is the definition, bit for bit.

Philox-4x32-10 maps (key, counter) to four 32-bit words. The key is the 64-bit seed, the counter is
(element >> 2, particle, step, stream), and an element takes word `element & 3`: a draw depends on nothing but
these numbers, neither on the shape asked for, nor on blocks, nor on the device.

Normals come in pairs by Box-Muller, made of integer operations, +, -, * and a correctly rounded square root
only, each of which gives the same bits everywhere. Multiply-add contraction would not: kernels switch it off.

It is written in NumPy because torch has no arithmetic on unsigned words, its float32 square root is not
correctly rounded on every CPU, and its calls cost twice as much, which small networks feel at every step.

Source: Salmon, Moraes, Dror and Shaw (2011), doi:10.1145/2063384.2063405; Box and Muller (1958).
"""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[np.uint64]
Floats = NDArray[np.float32]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
WORD = 0xFFFFFFFF

# Polynomials, lowest power first, minimax with coefficients rounded to float32 one after the other. Absolute
# errors: sin 8e-9, cos 5e-8; relative error of the logarithm 2.6e-7, halved by the square root.
SIN_HALF_PI = (
    1.5707963,
    -0.6459628,
    0.07968618,
    -0.0046689473,
    0.0001492835,
)  # sin(pi/2 h)/h in h^2, |h| < 1
COS_HALF_PI = (1.0, -1.2336988, 0.25365296, -0.02081347, 0.0008593972)  # cos(pi/2 h) in h^2, |h| < 1
# -2 log(1 + f)/f in f, 1 + f from sqrt(1/2) to sqrt(2).
LOG_RATIO = (-2.0, 1.0, -0.6666849, 0.49966535, -0.3984897, 0.342742, -0.32049027, 0.20383976)
LOG_PER_EXPONENT_BIT = -1.6525916635146132e-07  # -2 log(2) / 2^23, a float32
SQRT_HALF_BITS = 0x3F3504F3  # sqrt(1/2) as float32: mantissas run from here to twice this
EXPONENT_MASK = -0x800000  # sign and exponent of a float32, as a signed integer

# Philox blocks of four words worked on at once: measured best with 2 MB of second-level cache.
BLOCK = 1 << 14

_M0, _M1, _WORD, _32 = np.array([*MULTIPLIERS, WORD, 32], dtype=np.uint64)
_SIN, _COS, _LOG = (np.array(c, dtype=np.float32) for c in (SIN_HALF_PI, COS_HALF_PI, LOG_RATIO))


def philox_4x32(counter: Sequence[Words], seed: int) -> tuple[Words, Words, Words, Words]:
    """Return the four words of Philox-4x32-10.

    Shapes broadcast: the first rounds are done on [K, 1] or [P] for as long as a word depends on no more than
    that. Words 1 and 3 only meet a mask one round later, so until the last round they stay unmasked products.

    Args:
        counter: four arrays, values from 0 to 2^32 - 1, shapes that broadcast together.
        seed: the key, from 0 to 2^64 - 1.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = seed & WORD, seed >> 32
    keys = [((k0 + r * KEY_INCREMENTS[0]) & WORD, (k1 + r * KEY_INCREMENTS[1]) & WORD) for r in range(ROUNDS)]
    for key0, key1 in np.array(keys, dtype=np.uint64):
        p0, p1 = c0 * _M0, c2 * _M1
        c0 = (p1 >> _32) ^ c1
        c0 ^= key0
        c0 &= _WORD
        c2 = (p0 >> _32) ^ c3
        c2 ^= key1
        c2 &= _WORD
        c1, c3 = p1, p0
    return c0, c1 & _WORD, c2, c3 & _WORD


def box_muller(radius_word: NDArray[np.uint32], angle_word: NDArray[np.uint32]) -> tuple[Floats, Floats, Floats]:
    """Return radius, cosine and sine for pairs of words; radius * cosine and radius * sine are normals.

    The radius is sqrt(-2 log u) with u = n/2^24 and n from 1 to 2^24, so no draw exceeds 5.77. Its random
    sign, and an angle uniform between -pi/2 and pi/2, make the full circle.
    """
    h = (angle_word.view(np.int32) >> 8).astype(np.float32)
    h += np.float32(0.5)
    h *= np.float32(2.0**-23)
    z = h * h
    cos, sin = _horner(_COS, z), _horner(_SIN, z)
    sin *= h

    u = ((radius_word >> 8) + np.uint32(1)).view(np.int32).astype(np.float32)
    u *= np.float32(2.0**-24)
    bits = u.view(np.int32)
    exponent = bits - np.int32(SQRT_HALF_BITS)
    exponent &= np.int32(EXPONENT_MASK)
    bits -= exponent
    f = np.subtract(u, np.float32(1.0), out=u)
    radius = _horner(_LOG, f)
    radius *= f
    radius += exponent.astype(np.float32) * np.float32(LOG_PER_EXPONENT_BIT)
    np.sqrt(radius, out=radius)
    signed = radius.view(np.uint32)
    signed ^= angle_word << np.uint32(31)
    return radius, cos, sin


def _horner(coefficients: Floats, x: Floats) -> Floats:
    total = x * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        total += c
        total *= x
    total += coefficients[0]
    return total


def philox_normal(
    n_particles: int, n_elements: int, *, seed: int, steps: range, stream: int, particle0: int = 0
) -> Tensor:
    """Return standard normals [T, K, P], float32 on the CPU; see `api.philox_normal_steps`."""
    out = torch.empty(len(steps), n_particles, n_elements, dtype=torch.float32, device="cpu")
    for t, k, q in _blocks((len(steps), n_particles, -(-n_elements // 4))):
        words = philox_4x32(
            (
                np.arange(q.start, q.stop, dtype=np.uint64),
                np.arange(particle0 + k.start, particle0 + k.stop, dtype=np.uint64)[:, None],
                np.arange(steps[t.start], steps[t.start] + t.stop - t.start, dtype=np.uint64)[:, None, None],
                np.array(stream, dtype=np.uint64),
            ),
            seed,
        )
        radius, cos, sin = box_muller(
            np.stack((words[0], words[2]), dtype=np.uint32, casting="unsafe"),
            np.stack((words[1], words[3]), dtype=np.uint32, casting="unsafe"),
        )
        lanes = out[t, k, 4 * q.start : 4 * q.stop].numpy()
        for word in range(4):
            lane, pair = lanes[..., word::4], word // 2
            n = lane.shape[-1]
            np.multiply(radius[pair, ..., :n], (sin if word % 2 else cos)[pair, ..., :n], out=lane)
    return out


def philox_uniform(n_particles: int, *, seed: int, step: int, stream: int, particle0: int = 0) -> Tensor:
    """Return uniforms [K] inside (0, 1), float32 on the CPU; see `api.philox_uniform`."""
    particle = np.arange(particle0, particle0 + n_particles, dtype=np.uint64)
    counter = (
        np.zeros_like(particle),
        particle,
        np.full_like(particle, step),
        np.full_like(particle, stream),
    )
    word = philox_4x32(counter, seed)[0]
    return torch.from_numpy(((word >> np.uint64(9)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-23))


def _blocks(shape: tuple[int, int, int]) -> Iterator[list[slice]]:
    """Cut [T, K, Q] into boxes of at most BLOCK entries, long in the last axis first."""
    box: list[int] = []
    size = BLOCK
    for length in reversed(shape):
        box.insert(0, max(1, min(length, size)))
        size //= box[0]
    for starts in product(*(range(0, n, b) for n, b in zip(shape, box, strict=True))):
        yield [slice(s, min(s + b, n)) for s, b, n in zip(starts, box, shape, strict=True)]
