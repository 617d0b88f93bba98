"""CIFAR-10 from the Hugging Face hub, for a ResNet-20 with group norm and SiLU."""

from benchopt import BaseDataset

from benchmark_utils.task import MissingTask, Task
from benchmark_utils.tasks import benchopt_data


class Dataset(BaseDataset):
    """CIFAR-10 from the Hugging Face hub, for a ResNet-20 with group norm and SiLU."""

    name = "cifar10"
    parameters = {"seed": [0]}
    requirements = ["pip::torch", "pip::datasets", "pip::pillow"]

    def get_data(self) -> dict[str, Task | MissingTask]:
        """Return dict(task=...); see benchmark_utils/image_tasks.py and image_sets.py."""
        return benchopt_data(self.name, self.seed)
