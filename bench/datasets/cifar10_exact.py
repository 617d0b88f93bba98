"""The 8,068 lossless images of CIFAR-10 in FIBERBNN_DATA, for a ResNet-20 with group norm and SiLU."""

from benchopt import BaseDataset

from benchmark_utils.tasks.known import benchopt_data
from benchmark_utils.tasks.task import MissingTask, Task


class Dataset(BaseDataset):
    """The 8,068 lossless images of CIFAR-10 in FIBERBNN_DATA, for a ResNet-20 with group norm and SiLU."""

    name = "cifar10-exact"
    parameters = {"seed": [0]}
    requirements = ["pip::torch", "pip::datasets", "pip::pillow"]

    def get_data(self) -> dict[str, Task | MissingTask]:
        """Return dict(task=...); see benchmark_utils/tasks/images.py and image_sets.py."""
        return benchopt_data(self.name, self.seed)
