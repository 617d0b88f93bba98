"""Laplace approximations of the posterior, by laplace-torch (Daxberger et al. 2021, arXiv:2106.14806)."""

import math
from typing import Any

import torch
from benchopt import BaseSolver
from scipy.optimize import minimize_scalar
from torch import Tensor

from benchmark_utils.methods.laplace_fit import backpack_quiet, fitted_laplace, too_large_for_full, unknown_to_kron
from benchmark_utils.methods.mixture import IMAGE_ROWS, mixture_prediction, samples_for
from benchmark_utils.metrics.prediction import Prediction
from benchmark_utils.tasks.task import Task
from fiberbnn import MapFit, Network

LARGEST_JACOBIAN = 100_000  # numbers in that of all outputs of one image
# The linearised predictive differentiates a whole batch at once: memory and time are quadratic in its rows.
GLM_ROWS = 128
GLM_ROWS_IMAGES = 4  # measured on the small network: 450 images a second, 60 in batches of 32
_WORST = 1e30  # nats


class Solver(BaseSolver):
    """A Gaussian around the MAP, whose precision is the generalised Gauss-Newton matrix plus the prior's.

    Predictives: "glm" linearises the network, with the probit approximation, into one distribution for each
    input, and is the right one for this Gaussian; "sampled" puts draws through the network itself. A "tuned"
    prior precision maximises the marginal likelihood; "fixed" is the task's. A "subnetwork" has a full covariance over
    `subnet_share` of the weights, those with the largest variances under the diagonal structure.

    On images, Jacobians of all weights come from laplace-torch's BackPACK back end where it can be had: torch.func's,
    the default, are quadratic in the batch (512 images of the small network need 28 GB), and the values are the same.
    They still take 1 to 3 ms an image: `image_jacobians` skips what needs them, in a run that has to end soon.
    """

    name = "laplace"
    sampling_strategy = "run_once"
    requirements = ["pip::laplace-torch", "pip::torch", "pip::scipy"]
    parameters = {
        "structure": ["full", "kron", "diag", "last_layer", "subnetwork"],
        "predictive": ["glm", "sampled"],
        "prior": ["fixed", "tuned"],
        "n_samples": [300],
        "subnet_share": [0.2],
        "image_jacobians": [True],
    }
    choices = {
        "structure": ["full", "kron", "diag", "last_layer", "subnetwork"],
        "predictive": ["glm", "sampled"],
        "prior": ["fixed", "tuned"],
    }

    def skip(self, task: Task, map_fit: MapFit) -> tuple[bool, str | None]:
        """Skip what laplace-torch cannot do for this network."""
        n_params = map_fit.weights.numel()
        if self.structure == "subnetwork" and not 0 < self.subnet_share <= 1:
            return True, f"subnet_share must be above 0 and at most 1, not {self.subnet_share}"
        n_dense = {"full": n_params, "subnetwork": self.subnet_size(n_params)}.get(self.structure, 0)
        if too_large := too_large_for_full(n_dense):
            return True, too_large
        if self.structure == "last_layer" and len(task.widths) == 2:
            return True, "without a hidden layer the last layer is the whole network: use the full structure"
        if task.architecture is None or self.structure == "last_layer":
            return False, None
        if self.structure == "kron" and (unknown := unknown_to_kron(map_fit.model)):
            return True, f"laplace-torch's kron structure knows linear and convolutional layers only, not {unknown}"
        if self.structure == "kron" and self.predictive == "sampled":
            return False, None
        if not self.image_jacobians:
            return True, "it needs Jacobians of all weights for every image, which take too long here"
        if (numbers := n_params * n_outputs(task)) > LARGEST_JACOBIAN:
            return True, f"it needs a Jacobian of {numbers:,} numbers for every image: use the last_layer structure"
        return False, None

    def set_objective(self, task: Task, map_fit: MapFit) -> None:
        """Take the task and its MAP."""
        self.task, self.map_fit = task, map_fit

    def pre_run_hook(self, _: Any) -> None:
        """Pay for first calls outside the clock, with a fit of eight rows."""
        self.fitted(8)

    def run(self, _: Any) -> None:
        """Fit the Gaussian and tune its prior precision."""
        self.laplace = self.fitted(len(self.task.x_train))
        if self.prior == "tuned":
            maximise_evidence(self.laplace)

    def fitted(self, n_rows: int) -> Any:
        """Return laplace-torch's posterior of the first rows of the training data."""
        return fitted_laplace(
            self.task,
            self.map_fit,
            self.structure,
            n_rows=n_rows,
            backpack=self.by_backpack,
            n_params_subnet=self.subnet_size(self.map_fit.weights.numel()),
        )

    def subnet_size(self, n_params: int) -> int:
        """Return how many of the weights are in a subnetwork, at least one."""
        return max(1, round(self.subnet_share * n_params))

    @property
    def by_backpack(self) -> bool:
        """Return whether BackPACK differentiates: where images have Jacobians; its kron differs with the batch."""
        return self.task.architecture is not None and self.structure in ("full", "diag", "subnetwork")

    def get_result(self) -> dict[str, Any]:
        """Return the linearised predictive, or the mixture of sampled networks and their weights."""
        task = self.task
        dense = self.structure in ("full", "last_layer") and not self.by_backpack
        cost = {
            # What laplace-torch does, not counted by it: one backward pass over the data an output for the
            # factored structures and for Jacobians, and as many to choose a subnetwork; for the other full ones a
            # product with every unit vector.
            "grad_evals": 0 if dense else n_outputs(task) * (2 if self.structure == "subnetwork" else 1),
            "hvp_evals": self.laplace.n_params if dense else 0,
        }
        info = {"prior_precision": float(self.laplace.prior_precision)}
        if self.predictive == "glm":
            return {"predict": self.predict_glm, "sample_weights": lambda n: None, "cost": cost, "info": info}
        network, weights = self.sampled_network()
        return {
            "predict": lambda x: mixture_prediction(network, weights, x, task.noise_std),
            "sample_weights": self.sample,
            "cost": cost,
            "info": info,
        }

    def sampled_network(self) -> tuple[Network, Tensor]:
        """Return a network and the draws of its weights to predict with, [S, P]; last layers share their features."""
        n = samples_for(self.task, self.n_samples)
        if self.structure == "last_layer" and self.task.architecture is not None:
            return Network(self.map_fit.model, subset="last_layer"), self.draws(n)
        return Network(self.map_fit.model), self.sample(n)

    def predict_glm(self, x: Tensor) -> Prediction:
        """Return the linearised predictive at x [N, ...]: one distribution for each input, S = 1."""
        x = x.to(self.map_fit.weights.device)
        with backpack_quiet(), torch.set_grad_enabled(self.by_backpack):  # which calls backward itself
            parts = [self.laplace(rows, pred_type="glm", link_approx="probit") for rows in x.split(self.glm_rows)]
        if self.task.noise_std is None:
            return Prediction(log_probs=torch.cat(parts).double().log()[None])
        mean, variance = (torch.cat(values).flatten() for values in zip(*parts, strict=True))
        # laplace-torch gives the function's variance, without the noise.
        return Prediction(mean=mean[None], variance=variance[None] + self.task.noise_std**2)

    @property
    def glm_rows(self) -> int:
        """Return how many rows the linearised predictive takes at once."""
        if self.task.architecture is None or self.by_backpack:
            return GLM_ROWS
        return IMAGE_ROWS if self.structure == "last_layer" else GLM_ROWS_IMAGES

    def draws(self, n: int) -> Tensor:
        """Return n draws of the weights that the Gaussian is over, always the same."""
        device = self.map_fit.weights.device
        return self.laplace.sample(n, generator=torch.Generator(device).manual_seed(self.task.seed))

    def sample(self, n: int) -> Tensor:
        """Return n weight draws [n, P], always the same; of the last layer alone, the rest as in the MAP."""
        draws = self.draws(n)
        weights = self.map_fit.weights.repeat(n, 1)
        weights[:, weights.shape[1] - draws.shape[1] :] = draws
        return weights


def n_outputs(task: Task) -> int:
    """Return C, the outputs of the task's network."""
    return task.widths[-1] if task.widths else len(task.class_names)


def maximise_evidence(laplace: Any) -> None:
    """Set the prior precision, between 1e-4 and 1e4, that maximises laplace-torch's marginal likelihood.

    A bounded scalar search takes about 15 evaluations; laplace-torch's own loop takes 100, each of them a
    P x P determinant for the full structure. The same search for all structures.

    Raises:
        FloatingPointError: if the marginal likelihood is nowhere finite.
    """

    @torch.no_grad()
    def negative(log10_precision: float) -> float:
        value = float(laplace.log_marginal_likelihood(torch.tensor(10.0**log10_precision)))
        # Near-singular float32 determinants give NaN, which no search survives, nor an infinity.
        return -value if math.isfinite(value) else _WORST

    best = minimize_scalar(negative, bounds=(-4, 4), method="bounded", options={"xatol": 0.02})
    if best.fun >= _WORST:
        raise FloatingPointError("the marginal likelihood is not finite at any prior precision that was tried")
    laplace.prior_precision = torch.tensor(10.0 ** float(best.x))
