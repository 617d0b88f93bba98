"""Steps of many particles in flat weights: underdamped Langevin around a gradient, optimizers, perturbation."""

from .api import langevin_close, langevin_open
from .optimizer import MOMENTS as OPTIMIZER_MOMENTS
from .optimizer import optimizer_step, perturb

__all__ = ["OPTIMIZER_MOMENTS", "langevin_close", "langevin_open", "optimizer_step", "perturb"]
