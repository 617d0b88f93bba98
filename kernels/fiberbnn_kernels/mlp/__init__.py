"""Multilayer perceptrons for many weight vectors at once."""

from .api import mlp_forward, mlp_nll_and_grad
from .layout import Activation, MLPLayout

__all__ = ["Activation", "MLPLayout", "mlp_forward", "mlp_nll_and_grad"]
