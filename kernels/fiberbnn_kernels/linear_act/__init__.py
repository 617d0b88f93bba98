"""A linear layer with activation for every weight sample."""

from .api import LinearActivation, linear_act

__all__ = ["LinearActivation", "linear_act"]
