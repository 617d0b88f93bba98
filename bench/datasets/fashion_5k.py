"""Fashion-MNIST, 5,000 training images, for the small tanh CNN of 1,938 weights."""

from benchopt import BaseDataset

from benchmark_utils.tasks.known import benchopt_data
from benchmark_utils.tasks.task import MissingTask, Task


class Dataset(BaseDataset):
    """Fashion-MNIST, 5,000 training images, for the small tanh CNN of 1,938 weights."""

    name = "fashion-5k"
    parameters = {"seed": [0]}
    requirements = ["pip::torch", "pip::datasets", "pip::pillow"]

    def get_data(self) -> dict[str, Task | MissingTask]:
        """Return dict(task=...); see benchmark_utils/tasks/images.py and image_sets.py."""
        return benchopt_data(self.name, self.seed)
