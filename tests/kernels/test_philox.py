"""The counter-based numbers: known answers, accuracy, and the same draws however asked for."""

import math

import numpy as np
import pytest
import torch

from fiberbnn_kernels import philox_normal, philox_normal_steps, philox_uniform
from fiberbnn_kernels.philox import reference

ALL_ONES = reference.WORD
GOLDEN_NORMALS = [  # bits
    [1066652942, -1073654579, 1061057159, -1090557863, -1090239232],
    [1053784085, -1098858941, 1064901206, -1137257965, -1081618590],
]
GOLDEN_UNIFORMS = [0.06661921739578247, 0.8925142884254456, 0.1244320273399353]


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ALL_ONES,) * 4, (ALL_ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers_of_random123(counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]) -> None:
    arrays = [np.array([c], dtype=np.uint64) for c in counter]
    assert tuple(int(w[0]) for w in reference.philox_4x32(arrays, key[0] | key[1] << 32)) == words


def exact_box_muller(radius_word: np.ndarray, angle_word: np.ndarray) -> tuple[np.ndarray, ...]:
    """Radius, cosine and sine of the same words in float64, with NumPy's functions."""
    radius = np.sqrt(-2 * np.log(((radius_word >> 8).astype(np.float64) + 1) / 2**24))
    radius *= 1 - 2 * (angle_word & 1).astype(np.float64)
    angle = np.pi / 2 * ((angle_word.view(np.int32) >> 8) + 0.5) / 2**23
    return radius, np.cos(angle), np.sin(angle)


def test_box_muller_is_accurate_for_every_size_of_word() -> None:
    rng = np.random.default_rng(0)
    corners = np.array([0, 1, 255, 256, 2**31 - 1, 2**31, 2**32 - 256, 2**32 - 1], dtype=np.uint32)
    near_one = (2**32 - 1 - np.arange(0, 1 << 20, 77)).astype(np.uint32)
    small = (rng.integers(0, 2**32, 100_000) >> rng.integers(0, 32, 100_000)).astype(np.uint32)
    words = np.concatenate((corners, near_one, small, rng.integers(0, 2**32, 500_000).astype(np.uint32)))
    others = np.concatenate((corners[::-1], rng.integers(0, 2**32, len(words) - 8).astype(np.uint32)))
    radius, cos, sin = reference.box_muller(words, others)
    exact_radius, exact_cos, exact_sin = exact_box_muller(words, others)
    for ours, exact in ((radius * cos, exact_radius * exact_cos), (radius * sin, exact_radius * exact_sin)):
        assert ours.dtype == np.float32
        assert np.abs(ours - exact).max() <= 1.5e-6
        # In units of the radius, also where it is near zero: four roundings.
        assert (np.abs(ours - exact) <= 4 * np.finfo(np.float32).eps * np.abs(exact_radius)).all()
        assert np.abs(ours).max() <= math.sqrt(48 * math.log(2)) + 1e-6


def test_first_draws_never_change() -> None:
    """Saved runs and other devices depend on these bits."""
    draws = philox_normal(2, 5, seed=42, step=7, stream=3, particle0=11)
    uniform = philox_uniform(3, seed=42, step=7, stream=3, particle0=11)
    assert draws.view(torch.int32).tolist() == GOLDEN_NORMALS
    assert uniform.tolist() == GOLDEN_UNIFORMS


def test_draws_do_not_depend_on_the_shape_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = {"seed": 2**63 - 1, "stream": 2**32 - 1}
    whole = philox_normal(9, 1003, step=2**32 - 1, particle0=2**32 - 9, **seeds)
    assert torch.equal(philox_normal(9, 1, step=2**32 - 1, particle0=2**32 - 9, **seeds), whole[:, :1])
    assert torch.equal(philox_normal(9, 502, step=2**32 - 1, particle0=2**32 - 9, **seeds), whole[:, :502])
    ranks = [philox_normal(3, 1003, step=2**32 - 1, particle0=2**32 - 9 + r, **seeds) for r in (0, 3, 6)]
    assert torch.equal(torch.cat(ranks), whole)
    for block in (1, 7, 100, 251, 600):
        monkeypatch.setattr(reference, "BLOCK", block)
        assert torch.equal(philox_normal(9, 1003, step=2**32 - 1, particle0=2**32 - 9, **seeds), whole)


def test_steps_at_once_are_the_steps_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = [philox_normal(3, 45, seed=9, step=step, stream=1, particle0=2) for step in range(4, 15)]
    for block in (reference.BLOCK, 12, 50, 100):
        monkeypatch.setattr(reference, "BLOCK", block)
        at_once = philox_normal_steps(3, 45, seed=9, steps=range(4, 15), stream=1, particle0=2)
        assert torch.equal(at_once, torch.stack(one_by_one))


def test_dtypes_hold_the_same_draws() -> None:
    single = philox_normal(4, 33, seed=0, step=0, stream=0)
    assert single.dtype == torch.float32
    assert single.is_contiguous()
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        assert torch.equal(philox_normal(4, 33, seed=0, step=0, stream=0, dtype=dtype), single.to(dtype))
    assert philox_normal(0, 5, seed=0, step=0, stream=0).shape == (0, 5)
    assert philox_normal(5, 0, seed=0, step=0, stream=0).shape == (5, 0)
    assert philox_normal_steps(2, 3, seed=0, steps=range(5, 5), stream=0).shape == (0, 2, 3)


def test_result_is_fresh_memory_and_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state()
    a = philox_normal(2, 8, seed=0, step=0, stream=0)
    a.zero_()
    assert philox_normal(2, 8, seed=0, step=0, stream=0).abs().min() > 0
    assert torch.equal(torch.get_rng_state(), before)
    with torch.inference_mode():
        inside = philox_normal(2, 8, seed=0, step=0, stream=0)
    assert torch.equal(inside, philox_normal(2, 8, seed=0, step=0, stream=0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed must"),
        ({"seed": 2**63}, "seed must"),
        ({"step": -1}, "steps must"),
        ({"step": 2**32}, "steps must"),
        ({"stream": 2**32}, "stream must"),
        ({"particle0": -1}, "particles must"),
        ({"particle0": 2**32 - 1}, "particles must"),
        ({"dtype": torch.int64}, "dtype must"),
        ({"impl": "triton"}, "impl must"),
    ],
)
def test_bad_input_is_refused_in_words(change: dict[str, object], message: str) -> None:
    arguments = {"seed": 0, "step": 0, "stream": 0, **change}
    with pytest.raises(ValueError, match=message):
        philox_normal(2, 3, **arguments)
    with pytest.raises(ValueError, match=message):
        philox_uniform(2, **arguments)


def test_more_bad_input() -> None:
    with pytest.raises(ValueError, match="n_elements must"):
        philox_normal(2, -3, seed=0, step=0, stream=0)
    with pytest.raises(ValueError, match="follow one another"):
        philox_normal_steps(2, 3, seed=0, steps=range(0, 9, 2), stream=0)
    with pytest.raises(ValueError, match="float32 or float64"):
        philox_uniform(2, seed=0, step=0, stream=0, dtype=torch.bfloat16)
