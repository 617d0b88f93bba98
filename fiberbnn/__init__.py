"""Bayesian neural networks from trained ones: a walk on the fiber, and a latent posterior of it."""

from .autoencoder_settings import AutoencoderSettings
from .basis import Basis
from .cost import Cost
from .diagnostics import Diagnostics
from .energy import Energy
from .latent import LatentPosterior, LatentSettings
from .likelihood import Categorical, Gaussian, HeteroscedasticGaussian, Likelihood
from .map import MapFit, fit_map
from .minibatch import MinibatchEnergy
from .network import Network
from .pooled import PooledPosterior
from .posterior import MetricBNN
from .prediction import ClassPredictive, GaussianPredictive, Predictive
from .ranks import Ranks
from .run import WalkDivergedError
from .schedule import WalkSchedule
from .trajectory import Trajectory, walk_from
from .tuning import Trial, Tuning
from .walk import Sampler
from .walk_state import WalkInfo, WalkSettings, WalkState

__all__ = [
    "AutoencoderSettings",
    "Basis",
    "Categorical",
    "ClassPredictive",
    "Cost",
    "Diagnostics",
    "Energy",
    "Gaussian",
    "GaussianPredictive",
    "HeteroscedasticGaussian",
    "LatentPosterior",
    "LatentSettings",
    "Likelihood",
    "MapFit",
    "MetricBNN",
    "MinibatchEnergy",
    "Network",
    "PooledPosterior",
    "Predictive",
    "Ranks",
    "Sampler",
    "Trajectory",
    "Trial",
    "Tuning",
    "WalkDivergedError",
    "WalkInfo",
    "WalkSchedule",
    "WalkSettings",
    "WalkState",
    "fit_map",
    "walk_from",
]
