"""Concrete for 1 hidden layer of 20 tanh units; the seed is one of 20 published splits."""

from benchopt import BaseDataset

from benchmark_utils.tasks.known import benchopt_data
from benchmark_utils.tasks.task import MissingTask, Task


class Dataset(BaseDataset):
    """Concrete for 1 hidden layer of 20 tanh units; the seed is one of 20 published splits."""

    name = "depth-1"
    parameters = {"seed": [0]}
    requirements = ["pip::torch", "pip::datasets"]

    def get_data(self) -> dict[str, Task | MissingTask]:
        """Return dict(task=...); see benchmark_utils/tasks/tables.py and the sets that it names."""
        return benchopt_data(self.name, self.seed)
