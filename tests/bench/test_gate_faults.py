"""Faults planted in the library and the metrics, on a real task or a real timing: the gate's own functions see them."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import fiberbnn.energy
import fiberbnn.latent
import fiberbnn.run
from bench.speed import gradient_baselines
from bench.speed.problems import Problem
from benchmark_utils.gate import baseline, definitions, repeats, speed, step_size, workloads
from benchmark_utils.gate.calibration import calibration_checks
from benchmark_utils.gate.check import Check, exit_code
from benchmark_utils.gate.pairs import compared
from benchmark_utils.metrics import classification as metrics_classification
from benchmark_utils.metrics.evaluation import METRICS
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.tasks.shared_map import train_map
from benchmark_utils.tasks.task import Task
from fiberbnn import Categorical, Energy, MapFit, Network

BASELINE = Path(__file__).resolve().parents[2] / "results" / "baseline" / "quick"
TASK, SEEDS = "gap-1-15-1", (0, 1)  # the smallest task of the baseline


@pytest.fixture(scope="module")
def fits() -> dict[int, MapFit]:
    return {}


@pytest.fixture(autouse=True)
def _each_map_once(monkeypatch, fits) -> None:
    def trained(task: Task) -> MapFit:
        if task.seed not in fits:
            fits[task.seed] = train_map(task)
        return fits[task.seed]

    for module in (repeats, step_size):
        monkeypatch.setattr(module, "train_map", trained)


def failures(checks: list[Check]) -> set[str]:
    return {check.what for check in checks if check.verdict == "fail"}


# The latent calibration.


def calibrations(repetition: int) -> list[Check]:
    """The checks of MetricBNN, fitted here, against the stored baseline."""
    rows, _ = baseline.read(BASELINE)
    both, found = compared(rows, repeats.repeated(["metricbnn"], [TASK], SEEDS, [repetition]), partial=True)
    assert len(both) == len(SEEDS)
    return found + calibration_checks(both)


@pytest.mark.slow
def test_a_latent_calibration_that_is_switched_off_is_caught(monkeypatch):
    assert failures(calibrations(repetition=3)) == set()
    monkeypatch.setattr(fiberbnn.latent, "_calibrated", lambda posterior, *_: posterior)
    assert f"energy_ratio: metricbnn on {TASK}" in failures(calibrations(repetition=3))


# The step size.


def step_sizes() -> list[Check]:
    return step_size.step_size_checks(baseline.read(BASELINE)[1].step_sizes, step_size.measured())


def test_a_doubled_step_is_caught_though_the_walk_makes_up_for_it(monkeypatch):
    assert failures(step_sizes()) == set()
    steps = fiberbnn.run.steps

    def doubled(*arguments, step_size, **settings):
        return steps(*arguments, step_size=2 * step_size, **settings)

    monkeypatch.setattr(fiberbnn.run, "steps", doubled)
    assert failures(step_sizes()) == {f"settled step size on {TASK}"}


def test_a_doubled_first_step_is_caught(monkeypatch):
    curvature = fiberbnn.run.largest_eigenvalue
    monkeypatch.setattr(fiberbnn.run, "largest_eigenvalue", lambda *a, **k: curvature(*a, **k) / 4)
    assert failures(step_sizes()) == {f"first step size on {TASK}"}


# The definition of the ECE.


def definition_checks() -> list[Check]:
    return definitions.definition_checks(baseline.read(BASELINE)[1].definitions, definitions.values())


def test_ten_bins_under_the_old_id_are_caught(monkeypatch):
    monkeypatch.setattr(metrics_classification, "ECE_BINS", 10)
    assert failures(definition_checks()) == {
        "classification ece (ece-15ew-top1/1)", "classification ece_single (ece-15ew-top1-single/1)",
    }  # fmt: skip


def test_the_largest_gap_for_the_mean_gap_is_caught(monkeypatch):
    def largest(prediction: Prediction, y: torch.Tensor) -> float:
        bins = metrics_classification.reliability(prediction, y)
        return float((bins["confidence"] - bins["accuracy"]).abs().nan_to_num().max())

    monkeypatch.setitem(METRICS, "ece-15ew-top1/1", replace(METRICS["ece-15ew-top1/1"], compute=largest))
    assert failures(definition_checks()) == {"classification ece (ece-15ew-top1/1)"}


def test_a_definition_with_a_new_version_is_no_failure_but_not_comparable():
    stored = baseline.read(BASELINE)[1].definitions
    fresh = {**stored, "classification ece": {"id": "ece-10ew-top1/1", "value": 0.2}}
    checks = definitions.definition_checks(stored, fresh)
    assert exit_code(checks) == 2
    assert definitions.columns_of_other_ids(stored, fresh) == {"ece"}
    assert failures(definitions.definition_checks(stored, {})) == set(stored)


# Speed. Verdicts are tested on ratios that were written down; that of a real fallback on work that is far apart.


def recorded(factor: float, spread: float = 0.05, turns: int = 11, seed: int = 0) -> dict:
    noise = np.random.default_rng(seed).normal(0, spread, turns)
    ratios = list(factor * np.exp(noise))
    return {"processor": "one", "torch": "2", "ratios": {"walk": {"wall": ratios, "process": ratios}}}


@pytest.mark.parametrize(
    ("factor", "spread", "verdict"),
    [(1.0, 0.1, "pass"), (1.5, 0.05, "fail"), (3.5, 0.1, "fail"), (1.25, 0.1, "inconclusive"), (0.5, 0.1, "pass")],
)
def test_the_verdict_on_speed_is_that_of_the_ratios(factor, spread, verdict):
    (check,) = speed.speed_checks(recorded(1.0), recorded(factor, spread, seed=1))
    assert check.verdict == verdict
    assert ("faster" in check.remark) == (factor == 0.5)


@pytest.mark.parametrize(
    ("wall", "process", "verdict", "told"),
    [(1.5, 1.0, "fail", "wall"), (1.0, 1.5, "fail", "process"), (None, 1.0, "inconclusive", "wall")],
)
def test_either_clock_can_shut_the_gate(wall, process, verdict, told):
    """None is a wall clock of a machine whose processor others take."""

    def ratios(factor: float | None) -> list[float]:
        ours = recorded(1.0, 1.0, seed=2) if factor is None else recorded(factor, seed=1)
        return ours["ratios"]["walk"]["wall"]

    fresh = recorded(1.0) | {"ratios": {"walk": {"wall": ratios(wall), "process": ratios(process)}}}
    (check,) = speed.speed_checks(recorded(1.0), fresh)
    assert (check.verdict, check.remark) == (verdict, f"by the clock of the {told}")


def test_workloads_that_come_and_go_are_told():
    new = recorded(1.0) | {"ratios": {"decoding": recorded(1.0)["ratios"]["walk"]}}
    verdicts = {check.what: check.verdict for check in speed.speed_checks(recorded(1.0), new)}
    assert verdicts == {"walk": "fail", "decoding": "note"}
    assert speed.speed_checks({}, new) == []


def test_turns_are_interleaved_and_open_verdicts_get_more(monkeypatch):
    now, order = [0.0], []

    def takes(name, seconds):
        def call():
            order.append(name)
            now[0] += seconds

        return call

    work = workloads.Workload("walk", takes("ours", 0.1), takes("plain", 0.08))
    clocks = {"wall": lambda: now[0]}
    found = speed.measured([work], clocks=clocks)
    assert found["walk"]["wall"] == pytest.approx([1.25] * speed.TURNS)
    assert order[4:12] == ["ours", "plain", "plain", "ours", "ours", "plain", "plain", "ours"]
    monkeypatch.setattr(speed, "judged", lambda *_: "inconclusive")
    further = speed.measured([work], recorded(1.0), clocks)["walk"]["wall"]
    assert speed.TURNS < len(further) <= speed.SECONDS / 0.18 + 5


def timed_walk(slowed: Callable[[Callable], Callable] = lambda walk: walk, stored: dict | None = None) -> dict:
    """The record of a short walk beside plain torch, by the clock of the process: other tests run beside this one."""
    problem, n_steps = Problem.of(workloads.NET, torch.device("cpu")), 12
    plain = workloads.plain_walk(problem, problem.weights(30), gradient_baselines.batched(problem, 30), n_steps)
    energy = Energy(Network(problem.module()), Categorical(), problem.x, problem.y, 1.0)
    first = problem.weights(1)[0]
    ours = workloads.Workload("walk", slowed(lambda: workloads.walk_of(energy, first, n_steps)), plain)
    return speed.record(speed.measured([ours], stored, {"wall": time.process_time}))


def test_a_walk_that_falls_back_is_caught(monkeypatch):
    monkeypatch.setattr(speed, "TURNS", 3)
    stored = timed_walk()
    monkeypatch.setattr(fiberbnn.energy, "perceptron_problem", lambda *_: None)
    (check,) = speed.speed_checks(stored, timed_walk())
    assert check.verdict == "fail"


def test_a_walk_that_takes_half_as_long_again_is_caught():
    def slowed(walk: Callable[[], object]) -> Callable[[], None]:
        def and_then_dawdle() -> None:
            start = time.process_time()
            walk()
            end = start + 1.5 * (time.process_time() - start)
            while time.process_time() < end:
                pass

        return and_then_dawdle

    stored = timed_walk()
    (check,) = speed.speed_checks(stored, timed_walk(slowed, stored))  # further turns until it is decided
    assert check.verdict == "fail"
    (clean,) = speed.speed_checks(stored, timed_walk(stored=stored))
    assert clean.verdict != "fail"
