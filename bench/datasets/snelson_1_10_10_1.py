"""Snelson's regression without training data in (1.5, 3), for a 1-10-10-1 tanh network."""

from benchopt import BaseDataset

from benchmark_utils.tasks.known import benchopt_data
from benchmark_utils.tasks.task import MissingTask, Task


class Dataset(BaseDataset):
    """Snelson's regression without training data in (1.5, 3), for a 1-10-10-1 tanh network."""

    name = "snelson-1-10-10-1"
    parameters = {"seed": [0]}
    requirements = ["pip::torch", "pip::datasets"]

    def get_data(self) -> dict[str, Task | MissingTask]:
        """Return dict(task=...); see benchmark_utils/tasks/tables.py and the sets that it names."""
        return benchopt_data(self.name, self.seed)
