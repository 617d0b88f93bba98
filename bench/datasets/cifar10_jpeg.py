"""CIFAR-10 after JPEG compression, for a ResNet-20 with group norm and SiLU; only from FIBERBNN_DATA."""

from benchopt import BaseDataset

from benchmark_utils.tasks.known import benchopt_data
from benchmark_utils.tasks.task import MissingTask, Task


class Dataset(BaseDataset):
    """CIFAR-10 after JPEG compression, for a ResNet-20 with group norm and SiLU; only from FIBERBNN_DATA."""

    name = "cifar10-jpeg"
    parameters = {"seed": [0]}
    requirements = ["pip::torch", "pip::datasets", "pip::pillow"]

    def get_data(self) -> dict[str, Task | MissingTask]:
        """Return dict(task=...); see benchmark_utils/tasks/images.py and image_sets.py."""
        return benchopt_data(self.name, self.seed)
