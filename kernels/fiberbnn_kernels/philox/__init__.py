"""Counter-based normal and uniform numbers."""

from .api import philox_normal, philox_normal_steps, philox_uniform

__all__ = ["philox_normal", "philox_normal_steps", "philox_uniform"]
