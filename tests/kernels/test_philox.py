"""The counter-based numbers: known answers, accuracy, statistics, and independence of how they are asked for."""

import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fiberbnn_kernels import philox_normal, philox_normal_steps, philox_uniform
from fiberbnn_kernels.philox import api, reference

ALL_ONES = reference.WORD
GOLDEN_NORMALS = [
    [1066652942, -1073654579, 1061057159, -1090557863, -1090239232],
    [1053784085, -1098858941, 1064901206, -1137257965, -1081618590],
]  # bits
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
def test_known_answers_of_random123(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    arrays = [np.array([c], dtype=np.uint64) for c in counter]
    assert tuple(int(w[0]) for w in reference.philox_4x32(arrays, key[0] | key[1] << 32)) == words


def exact_normals(radius_word: np.ndarray, angle_word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box-Muller of the same words in float64, with the library's own functions."""
    radius = np.sqrt(-2 * np.log(((radius_word >> 8).astype(np.float64) + 1) / 2**24))
    radius *= 1 - 2 * (angle_word & 1).astype(np.float64)
    angle = np.pi / 2 * ((angle_word.view(np.int32) >> 8) + 0.5) / 2**23
    return radius * np.cos(angle), radius * np.sin(angle)


def test_box_muller_is_accurate_for_every_size_of_word() -> None:
    rng = np.random.default_rng(0)
    corners = np.array([0, 1, 255, 256, 2**31 - 1, 2**31, 2**32 - 256, 2**32 - 1], dtype=np.uint32)
    near_one = (2**32 - 1 - np.arange(0, 1 << 20, 77)).astype(np.uint32)
    small = (rng.integers(0, 2**32, 100_000) >> rng.integers(0, 32, 100_000)).astype(np.uint32)
    words = np.concatenate((corners, near_one, small, rng.integers(0, 2**32, 500_000).astype(np.uint32)))
    others = np.concatenate((corners[::-1], rng.integers(0, 2**32, len(words) - 8).astype(np.uint32)))
    radius, cos, sin = reference.box_muller(words, others)
    ours = radius * cos, radius * sin
    for a, b in zip(ours, exact_normals(words, others), strict=True):
        assert a.dtype == np.float32
        assert np.abs(a - b).max() <= 1e-6
        assert np.abs(a).max() <= math.sqrt(48 * math.log(2)) + 1e-6


def test_first_draws_never_change() -> None:
    """Saved runs and other devices depend on these bits."""
    draws = philox_normal(2, 5, seed=42, step=7, stream=3, particle0=11)
    uniform = philox_uniform(3, seed=42, step=7, stream=3, particle0=11)
    assert draws.view(torch.int32).tolist() == GOLDEN_NORMALS
    assert uniform.tolist() == GOLDEN_UNIFORMS


def test_moments_and_distribution() -> None:
    n = 2_000_000
    draws = philox_normal(1000, n // 1000, seed=1, step=0, stream=0).double().flatten()
    # Standard errors of the mean, variance, skewness and fourth moment of n normals.
    assert abs(draws.mean()) < 4 / math.sqrt(n)
    assert abs(draws.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((draws**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((draws**4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert kolmogorov_distance(torch.special.ndtr(draws)) < 1.95


def kolmogorov_distance(probabilities: Tensor) -> float:
    """Return sqrt(n) times the largest distance to the uniform distribution; above 1.95 one time in a thousand."""
    ordered, n = probabilities.sort().values, len(probabilities)
    grid = torch.arange(n + 1, dtype=torch.float64) / n
    return float(torch.maximum(grid[1:] - ordered, ordered - grid[:-1]).max()) * math.sqrt(n)


@pytest.mark.parametrize("what", ["element", "quad", "particle", "step", "stream", "seed", "seed_high"])
def test_neighbours_are_independent(what: str) -> None:
    def draw(shift: int) -> Tensor:
        def at(name: str) -> int:
            return shift if what == name else 0

        seed = 5 + at("seed") + (at("seed_high") << 40)
        rows = philox_normal(
            200, 1008, seed=seed, step=at("step"), stream=at("stream"), particle0=at("particle")
        )
        skip = 4 * at("quad") + at("element")
        return rows[:, skip : skip + 1000].double().flatten()

    a, b = draw(0), draw(1)
    assert not torch.equal(a, b)
    # Four standard errors, also of the squares: the pairs of Box-Muller share a radius.
    for x, y, spread in ((a, b, 1.0), (a**2 - 1, b**2 - 1, 2.0), (a, b**2 - 1, math.sqrt(2))):
        assert abs((x * y).mean()) < 4 * spread / math.sqrt(len(a))


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


def test_uniforms_are_uniform_and_inside_the_open_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 500_000
    uniform = philox_uniform(n, seed=3, step=1, stream=2)
    assert uniform.shape == (n,)
    assert kolmogorov_distance(uniform.double()) < 1.95
    chunks = [philox_uniform(n // 2, seed=3, step=1, stream=2, particle0=p) for p in (0, n // 2)]
    assert torch.equal(torch.cat(chunks), uniform)
    assert torch.equal(philox_uniform(n, seed=3, step=1, stream=2, dtype=torch.float64), uniform.double())
    for word, expected in ((0, 2.0**-24), (ALL_ONES, 1 - 2.0**-24)):
        words = (np.array([word], dtype=np.uint64),) * 4
        monkeypatch.setattr(reference, "philox_4x32", lambda counter, seed, words=words: words)
        assert philox_uniform(1, seed=0, step=0, stream=0).item() == expected


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


def test_operators_are_registered_soundly() -> None:
    place = torch.device("cpu")
    for op, arguments in (
        (api._normal_op, (3, 7, 5, 2, 4, 1, 6, place, False)),
        (api._uniform_op, (3, 5, 2, 1, 6, place, False)),
    ):
        results = torch.library.opcheck(op, arguments)
        assert set(results.values()) == {"SUCCESS"}


def test_compiles_without_a_break_and_without_a_graph_for_every_step() -> None:
    def drift(v: Tensor, step: int) -> Tensor:
        noise = philox_normal(*v.shape, seed=3, step=step, stream=1)
        return v + noise * philox_uniform(len(v), seed=3, step=step, stream=2)[:, None]

    graphs = 0

    def counting(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        nonlocal graphs
        graphs += 1
        return graph

    compiled = torch.compile(drift, fullgraph=True, backend=counting)
    v = torch.zeros(3, 5)
    assert all(torch.equal(compiled(v, step), drift(v, step)) for step in range(10))
    assert graphs <= 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where the kernel cannot run")
def test_fused_that_cannot_run_says_why() -> None:
    with pytest.raises(RuntimeError, match="cannot run: "):
        philox_normal(2, 3, seed=0, step=0, stream=0, impl="fused")
    with pytest.raises(RuntimeError, match="cannot run: "):
        philox_uniform(2, seed=0, step=0, stream=0, impl="fused")


def test_works_without_triton() -> None:
    script = """
import sys
sys.modules["triton"] = None  # as if it were not installed
import torch
from fiberbnn_kernels import philox_normal
assert philox_normal(2, 3, seed=0, step=0, stream=0).shape == (2, 3)
try:
    philox_normal(2, 3, seed=0, step=0, stream=0, impl="fused")
except RuntimeError as error:
    assert "Triton is not installed" in str(error), error
else:
    raise AssertionError("fused ran without Triton")
"""
    run_python("-c", script)


def test_importing_the_package_does_not_import_kernels() -> None:
    run_python(
        "-c", "import sys, fiberbnn_kernels; assert 'fiberbnn_kernels.philox.fused' not in sys.modules"
    )


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_fused_kernels_in_the_interpreter() -> None:
    """The interpreter must be chosen before Triton is imported, so these tests run in a process of their own."""
    tests = Path(__file__).with_name("test_philox_fused.py")
    report = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests), TRITON_INTERPRET="1")
    assert " passed" in report
    assert "skipped" not in report


def run_python(*arguments: str, **environment: str) -> str:
    """Run Python with this process's import path; fail with its output if it fails."""
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
