"""The question of this benchmark: how good is a posterior predictive on held-out data, at what cost?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchopt import BaseObjective
from torch import Tensor

from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.rows.row import diverged_row, evaluate_method
from benchmark_utils.rows.run_once import RunOnce, diverged, failure_noted, reason_of, say_torn_files_in_one_line
from benchmark_utils.tasks.noise import with_fitted_noise
from benchmark_utils.tasks.shared_map import shared_map
from benchmark_utils.tasks.task import MissingTask, Task

say_torn_files_in_one_line()  # here, since this is the file that every worker loads


class Objective(BaseObjective):
    """How good is this posterior predictive on held-out data, and what did it cost?

    Every method of a task and seed gets the same split, the same MAP weights, the same prior and noise, on
    one CPU thread.
    """

    name = "posterior predictive"
    url = "fiberbnn"  # benchopt names its files after the last part of it
    min_benchopt_version = "1.10"
    sampling_strategy = "run_once"
    stopping_criterion = RunOnce(strategy="run_once")
    test_dataset_name = "gap-1-15-1"

    def skip(self, task: Task | MissingTask) -> tuple[bool, str | None]:
        """Skip a task whose data is not at hand, with the reason."""
        return (True, task.reason) if isinstance(task, MissingTask) else (False, None)

    def set_data(self, task: Task) -> None:
        """Take one task at one seed."""
        self.task = task

    def get_objective(self) -> dict[str, Any]:
        """Return the task, its noise fitted if it is not known, and its MAP, made by the first method that asks."""
        with failure_noted(self):
            self.task = with_fitted_noise(self.task)
            self.map_fit = shared_map(self.task)
        return {"task": self.task, "map_fit": self.map_fit}

    def evaluate_result(
        self,
        predict: Callable[[Tensor], Prediction],
        sample_weights: Callable[[int], Tensor | None],
        cost: dict[str, float],
        info: dict[str, Any],
    ) -> dict[str, Any]:
        """Return one flat row, also of a method that diverged; see benchmark_utils/rows/row.py for its columns."""
        with failure_noted(self):
            try:
                return evaluate_method(self.task, self.map_fit, predict, sample_weights, cost, info)
            except Exception as error:
                if not diverged(error):
                    raise
                return diverged_row(self.task, self.map_fit, cost, reason_of(error))
