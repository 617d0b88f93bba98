"""Operations of fiberbnn on many particles at once, for CPU and GPU."""

from .decode import decode, decode_chunks
from .langevin_step import OPTIMIZER_MOMENTS, langevin_close, langevin_open, optimizer_step, perturb
from .linear_act import LinearActivation, linear_act
from .mlp import Activation, MLPLayout, mlp_forward, mlp_nll_and_grad
from .mlp_walk import MLPWalk, mlp_walk, tune_mlp_walk
from .norms import kinetic_energy, squared_norms
from .philox import philox_normal, philox_normal_steps, philox_uniform
from .predictive import (
    ClassSums,
    GaussianSums,
    class_sums,
    class_sums_of_logits,
    gaussian_sums,
    gaussian_sums_of_outputs,
    mlp_class_sums,
    mlp_gaussian_sums,
)

__all__ = [
    "OPTIMIZER_MOMENTS",
    "Activation",
    "ClassSums",
    "GaussianSums",
    "LinearActivation",
    "MLPLayout",
    "MLPWalk",
    "class_sums",
    "class_sums_of_logits",
    "decode",
    "decode_chunks",
    "gaussian_sums",
    "gaussian_sums_of_outputs",
    "kinetic_energy",
    "langevin_close",
    "langevin_open",
    "linear_act",
    "mlp_class_sums",
    "mlp_forward",
    "mlp_gaussian_sums",
    "mlp_nll_and_grad",
    "mlp_walk",
    "optimizer_step",
    "perturb",
    "philox_normal",
    "philox_normal_steps",
    "philox_uniform",
    "squared_norms",
    "tune_mlp_walk",
]
