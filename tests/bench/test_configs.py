"""The configurations name tasks and methods one by one: a new file changes no campaign by being there."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from benchmark_utils.tasks.known import known_tasks

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "bench" / "configs"
UCI = {"australian", "breast", "glass", "ionosphere", "vehicle", "waveform"}
REGRESSION = {name for name, task in known_tasks().items() if task.n_seeds is not None and "depth" not in name}


def listed(name: str, part: str) -> dict[str, dict[str, Any]]:
    """The names of a part of a configuration, with the parameters of the last entry that has them."""
    entries = yaml.safe_load((CONFIGS / f"{name}.yml").read_text())[part]
    return {
        key: value for entry in entries for key, value in (entry if isinstance(entry, dict) else {entry: {}}).items()
    }


@pytest.mark.parametrize("config", ["quick", "uci", "uci-small", "depth", "images"])
def test_every_task_is_named_and_has_the_seeds_that_are_asked_for(config: str) -> None:
    known = known_tasks()
    for name, parameters in listed(config, "dataset").items():
        n_seeds = known[name].n_seeds
        assert n_seeds is None or max(parameters["seed"]) < n_seeds
    assert all("*" not in name for name in listed(config, "solver"))


@pytest.mark.parametrize("config", ["quick", "uci", "depth", "snelson", "ablation", "uci-small", "images"])
def test_the_kept_results_are_of_these_tasks_seeds_and_methods(config: str) -> None:
    rows = pd.read_parquet(ROOT / "results" / config / "rows.parquet", columns=["task", "method", "settings", "seed"])
    tasks = {name: set(parameters["seed"]) for name, parameters in listed(config, "dataset").items()}
    assert tasks == {task: set(seeds) for task, seeds in rows.groupby("task")["seed"]}
    assert set(listed(config, "solver")) == set(rows["method"])
    per_method = rows.groupby(["method", "settings"]).size()
    assert set(per_method) == {sum(map(len, tasks.values()))}


def test_uci_is_six_classifications_and_nine_regressions_with_all_their_splits() -> None:
    tasks = listed("uci", "dataset")
    assert set(tasks) == UCI | REGRESSION
    for name in UCI:
        assert tasks[name]["seed"] == list(range(5))
    for name in REGRESSION:
        assert tasks[name]["seed"] == list(range(known_tasks()[name].n_seeds))


def test_depth_is_every_depth() -> None:
    assert list(listed("depth", "dataset")) == [f"depth-{depth}" for depth in range(1, 9)]
