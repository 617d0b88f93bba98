"""Concrete Compressive Strength for a 8-50-1 ReLU network; the seed is one of 20 published splits."""

from benchopt import BaseDataset

from benchmark_utils.tasks.known import benchopt_data
from benchmark_utils.tasks.task import MissingTask, Task


class Dataset(BaseDataset):
    """Concrete Compressive Strength for a 8-50-1 ReLU network; the seed is one of 20 published splits."""

    name = "concrete"
    parameters = {"seed": [0]}
    requirements = ["pip::torch", "pip::datasets"]

    def get_data(self) -> dict[str, Task | MissingTask]:
        """Return dict(task=...); see benchmark_utils/tasks/tables.py and the sets that it names."""
        return benchopt_data(self.name, self.seed)
