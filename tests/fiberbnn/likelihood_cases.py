"""Every likelihood with the shape of its outputs, and what torch has for it."""

from dataclasses import dataclass

import torch
from torch import distributions as D

from fiberbnn.likelihood import Categorical, Gaussian, HeteroscedasticGaussian, Likelihood

N = 6
STDS = (0.7, 0.2, 1.9)


@dataclass(frozen=True)
class Case:
    """A likelihood with the shape of one example's outputs, and what torch has for it."""

    likelihood: Likelihood
    shape: tuple[int, ...]

    def outputs(self, *leading: int, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return 1.5 * torch.randn(*leading, N, *self.shape, generator=generator, dtype=torch.float64)

    def targets(self, outputs: torch.Tensor | None = None) -> torch.Tensor:
        """Drawn from the distribution of outputs, or of some."""
        outputs = self.outputs(seed=5) if outputs is None else outputs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return self.distribution(outputs).sample()

    def distribution(self, outputs: torch.Tensor) -> D.Distribution:
        """Of a batch [..., N], every example one event."""
        leading = outputs.ndim - len(self.shape)
        match self.likelihood:
            case Categorical(axis):
                part = D.Categorical(logits=outputs.movedim(axis if axis < 0 else axis + leading - 1, -1))
            case Gaussian(std):
                part = D.Normal(outputs, torch.tensor(std, dtype=outputs.dtype))
            case _:
                mean, log_variance = outputs.chunk(2, -1)
                part = D.Normal(mean, (0.5 * log_variance).exp())
        return D.Independent(part, len(part.batch_shape) - leading)


CASES = {
    "classes": Case(Categorical(), (3,)),
    "classes-tokens": Case(Categorical(), (4, 3)),
    "classes-pixels": Case(Categorical(class_axis=1), (3, 2, 4)),
    "classes-middle": Case(Categorical(class_axis=-2), (4, 3, 2)),
    "gaussian": Case(Gaussian(0.7), (3,)),
    "gaussian-flat": Case(Gaussian(0.7), ()),
    "gaussian-series": Case(Gaussian(0.7), (4, 2)),
    "gaussian-per-output": Case(Gaussian(STDS), (3,)),
    "gaussian-per-output-series": Case(Gaussian(STDS), (2, 3)),
    "head": Case(HeteroscedasticGaussian(), (4,)),
    "head-series": Case(HeteroscedasticGaussian(), (3, 2)),
}
