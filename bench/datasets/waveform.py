"""Waveform Database Generator (Version 1), three classes, for a 21-50-3 tanh network."""

from benchopt import BaseDataset

from benchmark_utils.tasks.known import benchopt_data
from benchmark_utils.tasks.task import MissingTask, Task


class Dataset(BaseDataset):
    """Waveform Database Generator (Version 1), three classes, for a 21-50-3 tanh network."""

    name = "waveform"
    parameters = {"seed": [0]}
    requirements = ["pip::torch", "pip::datasets"]

    def get_data(self) -> dict[str, Task | MissingTask]:
        """Return dict(task=...); see benchmark_utils/tasks/tables.py and the sets that it names."""
        return benchopt_data(self.name, self.seed)
