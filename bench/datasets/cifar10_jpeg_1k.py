"""1,000 images of CIFAR-10 after JPEG compression, for a ResNet-20 with group norm and SiLU on a CPU."""

from benchopt import BaseDataset

from benchmark_utils.tasks.known import benchopt_data
from benchmark_utils.tasks.task import MissingTask, Task


class Dataset(BaseDataset):
    """1,000 images of CIFAR-10 after JPEG compression, for a ResNet-20 with group norm and SiLU on a CPU."""

    name = "cifar10-jpeg-1k"
    parameters = {"seed": [0]}
    requirements = ["pip::torch", "pip::datasets", "pip::pillow"]

    def get_data(self) -> dict[str, Task | MissingTask]:
        """Return dict(task=...); see benchmark_utils/tasks/images.py and image_sets.py."""
        return benchopt_data(self.name, self.seed)
