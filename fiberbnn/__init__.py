"""Bayesian neural networks from trained ones: a walk on the fiber, and a latent posterior of it."""

from .autoencoder import AutoencoderSettings
from .basis import Basis
from .diagnostics import Diagnostics
from .energy import Cost, Energy
from .latent import LatentPosterior, LatentSettings
from .likelihood import Categorical, Gaussian, Likelihood
from .map import MapFit, fit_map
from .network import Network
from .posterior import MetricBNN
from .trajectory import Trajectory, WalkDivergedError, WalkSchedule, walk_from
from .walk import Sampler
from .walk_state import WalkInfo, WalkSettings, WalkState

__all__ = [
    "AutoencoderSettings",
    "Basis",
    "Categorical",
    "Cost",
    "Diagnostics",
    "Energy",
    "Gaussian",
    "LatentPosterior",
    "LatentSettings",
    "Likelihood",
    "MapFit",
    "MetricBNN",
    "Network",
    "Sampler",
    "Trajectory",
    "WalkDivergedError",
    "WalkInfo",
    "WalkSchedule",
    "WalkSettings",
    "WalkState",
    "fit_map",
    "walk_from",
]
