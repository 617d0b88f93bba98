"""Glass Identification, six classes, for a 9-50-6 tanh network."""

from benchopt import BaseDataset

from benchmark_utils.tasks.known import benchopt_data
from benchmark_utils.tasks.task import MissingTask, Task


class Dataset(BaseDataset):
    """Glass Identification, six classes, for a 9-50-6 tanh network."""

    name = "glass"
    parameters = {"seed": [0]}
    requirements = ["pip::torch", "pip::datasets"]

    def get_data(self) -> dict[str, Task | MissingTask]:
        """Return dict(task=...); see benchmark_utils/tasks/tables.py and the sets that it names."""
        return benchopt_data(self.name, self.seed)
