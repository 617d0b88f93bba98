"""Operations of fiberbnn on many particles at once, for CPU and GPU."""

from .mlp import Activation, MLPLayout, mlp_forward, mlp_nll_and_grad
from .philox import philox_normal, philox_normal_steps, philox_uniform

__all__ = [
    "Activation",
    "MLPLayout",
    "mlp_forward",
    "mlp_nll_and_grad",
    "philox_normal",
    "philox_normal_steps",
    "philox_uniform",
]
