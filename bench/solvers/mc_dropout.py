"""MC dropout: dropout stays on when predicting (Gal and Ghahramani 2016, arXiv:1506.02142)."""

import copy
from typing import Any

import torch
from benchopt import BaseSolver
from torch import Tensor

from benchmark_utils.methods.dropout import dropouts, masks_from
from benchmark_utils.methods.mixture import IMAGE_ROWS, samples_for
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.tasks.task import Task
from fiberbnn import MapFit


class Solver(BaseSolver):
    """The shared MAP, which was trained with dropout, with other units dropped at each of S passes.

    Every input has masks of its own, as in training; all other layers are as in evaluation.
    """

    name = "mc-dropout"
    sampling_strategy = "run_once"
    requirements = ["pip::torch"]
    parameters = {"n_samples": [300]}

    def skip(self, task: Task, map_fit: MapFit) -> tuple[bool, str | None]:
        """Skip networks that were trained without dropout."""
        if not dropouts(map_fit.model):
            return True, "the network has no dropout layers to leave on"
        return False, None

    def set_objective(self, task: Task, map_fit: MapFit) -> None:
        """Take the task and its MAP."""
        self.task, self.model = task, copy.deepcopy(map_fit.model).eval()

    def run(self, _: Any) -> None:
        """Switch dropout on; there is nothing to fit."""
        for layer in dropouts(self.model):
            layer.train()

    def get_result(self) -> dict[str, Any]:
        """Return the mixture of passes; the method has no weight samples to hand out."""
        return {
            "predict": self.predict,
            "sample_weights": lambda n: None,
            "cost": {"grad_evals": 0, "hvp_evals": 0},
            "info": {},
        }

    @torch.no_grad()
    def predict(self, x: Tensor) -> Prediction:
        """Return the mixture of S passes at x [N, ...]; the same for the same x."""
        n_samples, noise_std = samples_for(self.task, self.n_samples), self.task.noise_std
        device, parts = next(self.model.parameters()).device, []
        with masks_from(self.task.seed, device):
            for part in x.to(device).split(IMAGE_ROWS):
                parts.append(torch.stack([self.model(part) for _ in range(n_samples)]).cpu())
        outputs = torch.cat(parts, dim=1)  # [S, N, C]
        if noise_std is None:
            return Prediction(log_probs=outputs.double().log_softmax(-1))
        mean = outputs[..., 0]
        return Prediction(mean=mean, variance=torch.full_like(mean, noise_std**2))
