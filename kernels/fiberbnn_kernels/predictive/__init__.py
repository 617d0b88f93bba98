"""Predictions averaged over weight samples, in one pass and without the outputs of all samples."""

from .api import class_sums, class_sums_of_logits, gaussian_sums, gaussian_sums_of_outputs
from .perceptron import mlp_class_sums, mlp_gaussian_sums
from .sums import ClassSums, GaussianSums

__all__ = [
    "ClassSums",
    "GaussianSums",
    "class_sums",
    "class_sums_of_logits",
    "gaussian_sums",
    "gaussian_sums_of_outputs",
    "mlp_class_sums",
    "mlp_gaussian_sums",
]
