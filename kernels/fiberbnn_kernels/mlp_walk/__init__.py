"""Many steps of the walk of a multilayer perceptron at once."""

from .api import MLPWalk, mlp_walk
from .tune import tune_mlp_walk

__all__ = ["MLPWalk", "mlp_walk", "tune_mlp_walk"]
