"""Gap regression, sin(3x) + noise without training data in (-0.6, 0.6), for a 1-15-1 tanh network."""

from benchopt import BaseDataset

from benchmark_utils.tasks.known import benchopt_data
from benchmark_utils.tasks.task import MissingTask, Task


class Dataset(BaseDataset):
    """Gap regression, sin(3x) + noise without training data in (-0.6, 0.6), for a 1-15-1 tanh network."""

    name = "gap-1-15-1"
    parameters = {"seed": [0]}
    requirements = ["pip::torch", "pip::datasets"]

    def get_data(self) -> dict[str, Task | MissingTask]:
        """Return dict(task=...); see benchmark_utils/tasks/tables.py and the sets that it names."""
        return benchopt_data(self.name, self.seed)
