"""Timing launches of the walk: those that are wrong do not count, the quickest of the others is kept."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from fiberbnn_kernels import MLPLayout
from fiberbnn_kernels.mlp.table import architecture_of
from fiberbnn_kernels.mlp_walk import tune, tune_mlp_walk, tuned
from fiberbnn_kernels.mlp_walk.reference import State

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="no GPU and not TRITON_INTERPRET=1"),
]
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
LAYOUT = MLPLayout((3, 5, 2))  # the table's launch: 32 rows, 4 warps


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIBERBNN_TUNED", str(tmp_path))
    monkeypatch.setattr(tune, "TIMED_STEPS", 2)
    return tmp_path / "mlp_walk.json"


class Clock:
    """A timer that tells the times it was given, one after the other, and runs what it times once."""

    def __init__(self, *seconds: float, run: bool = False) -> None:
        self.seconds, self.run = list(seconds), run

    def __call__(self, call: Callable[[], object]) -> float:
        if self.run:
            call()
        return self.seconds.pop(0)


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
def test_real_candidates_are_right_and_the_quickest_is_kept(
    likelihood: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(3.0, 1.0, 2.0, run=True)
    tuning = tune_mlp_walk(
        LAYOUT, 37, n_particles=2, likelihood=likelihood, device=DEVICE, candidates=[(16, 8), (64, 4)], timer=clock
    )
    assert [(t.launch.rows, t.launch.warps, t.seconds) for t in tuning.timings] == [
        (32, 4, 1.5), (16, 8, 0.5), (64, 4, 1.0)
    ]  # fmt: skip
    assert (tuning.best.rows, tuning.best.warps) == (16, 8)
    assert tuned.launch_for(LAYOUT, architecture_of(DEVICE)) == tuning.best
    printed = capsys.readouterr().out
    assert "500000.0  best" in printed
    assert str(file) in printed


def test_wrong_launches_and_those_that_fail_do_not_count(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    from fiberbnn_kernels.mlp_walk import fused

    right = fused.mlp_walk

    def broken(start: State, posterior: object, scale: object, moves: object, launch: object) -> object:
        state, *rest = right(start, posterior, scale, moves, launch)
        if launch.rows == 16:
            state = state._replace(particles=state.particles + 1e-4)
        elif launch.rows == 64:
            raise RuntimeError("out of shared memory\nand more words")
        elif launch.warps == 8:
            state.grad[1, 0] = torch.nan
        return state, *rest

    monkeypatch.setattr(fused, "mlp_walk", broken)
    candidates = [(16, 4), (64, 4), (32, 8)]
    tuning = tune_mlp_walk(
        LAYOUT, 20, n_particles=2, device=DEVICE, candidates=candidates, timer=Clock(5.0), store=False
    )
    assert [t.seconds for t in tuning.timings] == [2.5, None, None, None]
    assert (tuning.best.rows, tuning.best.warps) == (32, 4)
    table = str(tuning)
    assert "wrong: " in table
    assert "wrong: nan" in table
    assert "RuntimeError: out of shared memory" in table
    assert "more words" not in table
    assert not file.exists()


def test_no_right_launch_is_an_error_and_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    from fiberbnn_kernels.mlp_walk import fused

    right = fused.mlp_walk
    monkeypatch.setattr(fused, "mlp_walk", lambda start, *rest: (start, *right(start, *rest)[1:]))
    with pytest.raises(RuntimeError, match="no launch is right"):
        tune_mlp_walk(LAYOUT, 20, n_particles=2, device=DEVICE, candidates=[], timer=Clock(1.0))
    assert not file.exists()


def test_perceptrons_beyond_the_table_are_refused_in_words() -> None:
    with pytest.raises(RuntimeError, match="no launch for widths"):
        tune_mlp_walk(MLPLayout((3, 65, 2)), 20, n_particles=2, device=DEVICE)


def test_walks_use_the_launch_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from fiberbnn_kernels.mlp_walk import api, fused

    tune_mlp_walk(LAYOUT, 20, n_particles=2, device=DEVICE, candidates=[(16, 4)], timer=Clock(2.0, 1.0))
    seen = []
    walk = fused.mlp_walk
    monkeypatch.setattr(fused, "mlp_walk", lambda *rest: seen.append(rest[-1]) or walk(*rest))
    weights = torch.zeros(2, LAYOUT.n_params, device=DEVICE)
    x, y = torch.ones(4, 3, device=DEVICE), torch.zeros(4, dtype=torch.int64, device=DEVICE)
    api.mlp_walk(
        weights, weights, weights[:, 0], weights, x, y, LAYOUT, likelihood="categorical", prior_precision=1.0,
        scale=weights[0] + 1.0, step_size=0.1, friction=1.0, energy_error_limit=5.0, n_steps=1, seed=1, step0=0,
        refresh_stream=0, revive_stream=1, impl="fused",
    )  # fmt: skip
    assert [launch.rows for launch in seen] == [16]
