"""Laplace approximations of the posterior, by laplace-torch (Daxberger et al. 2021, arXiv:2106.14806)."""

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from benchopt import BaseSolver
from laplace import Laplace
from laplace.curvature import BackPackGGN, CurvlinopsGGN
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmark_utils.mixture import IMAGE_ROWS, mixture_prediction, samples_for
from benchmark_utils.prediction import Prediction
from benchmark_utils.task import Task
from fiberbnn import MapFit, Network

LARGEST_FULL = 5000  # weights of a dense Hessian
LARGEST_JACOBIAN = 100_000  # numbers in that of all outputs of one image
# The linearised predictive differentiates a whole batch at once: memory and time are quadratic in its rows.
GLM_ROWS = 128
GLM_ROWS_IMAGES = 4  # measured on the small network: 450 images a second, 60 in batches of 32
_WORST = 1e30  # nats


class Solver(BaseSolver):
    """A Gaussian around the MAP, whose precision is the generalised Gauss-Newton matrix plus the prior's.

    Predictives: "glm" linearises the network, with the probit approximation, into one distribution for each
    input, and is the right one for this Gaussian; "sampled" puts draws through the network itself. A "tuned"
    prior precision maximises the marginal likelihood; "fixed" is the task's.

    On images, Jacobians of all weights come from laplace-torch's BackPACK back end where it can be had: torch.func's,
    the default, are quadratic in the batch (512 images of the small network need 28 GB), and the values are the same.
    They still take 1 to 3 ms an image: `image_jacobians` skips what needs them, in a run that has to end soon.
    """

    name = "laplace"
    sampling_strategy = "run_once"
    requirements = ["pip::laplace-torch", "pip::torch", "pip::scipy"]
    parameters = {
        "structure": ["full", "kron", "diag", "last_layer"],
        "predictive": ["glm", "sampled"],
        "prior": ["fixed", "tuned"],
        "n_samples": [300],
        "image_jacobians": [True],
    }

    def skip(self, task: Task, map_fit: MapFit) -> tuple[bool, str | None]:
        """Skip what laplace-torch cannot do for this network."""
        n_params = map_fit.weights.numel()
        if self.structure == "full" and n_params > LARGEST_FULL:
            gib = 4 * n_params**2 / 2**30
            return True, f"the full structure needs {n_params} x {n_params} matrices ({gib:.1f} GiB each)"
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
        task = self.task
        last = self.structure == "last_layer"
        laplace = Laplace(
            copy.deepcopy(self.map_fit.model),
            task.kind,
            subset_of_weights="last_layer" if last else "all",
            hessian_structure="full" if last else self.structure,
            prior_precision=task.prior_precision,
            # Only a regression may have one that is not 1.
            sigma_noise=task.noise_std or 1.0,
            backend=BackPackGGN if self.by_backpack else CurvlinopsGGN,
        )
        rows = TensorDataset(task.x_train[:n_rows], task.y_train[:n_rows])
        with backpack_quiet():
            laplace.fit(DataLoader(rows, batch_size=512 if task.architecture is None else 128))
        return laplace

    @property
    def by_backpack(self) -> bool:
        """Return whether BackPACK differentiates: where images have Jacobians; its kron differs with the batch."""
        return self.task.architecture is not None and self.structure in ("full", "diag")

    def get_result(self) -> dict[str, Any]:
        """Return the linearised predictive, or the mixture of sampled networks and their weights."""
        task = self.task
        dense = self.structure in ("full", "last_layer") and not self.by_backpack
        cost = {
            # What laplace-torch does, not counted by it: one backward pass over the data an output for the
            # factored structures and for Jacobians; for the other full ones a product with every unit vector.
            "grad_evals": 0 if dense else n_outputs(task),
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


@contextmanager
def backpack_quiet() -> Iterator[None]:
    """Inside, torch does not warn that BackPACK hooks a first layer, whose inputs need no gradient: it means to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
        yield


def n_outputs(task: Task) -> int:
    """Return C, the outputs of the task's network."""
    return task.widths[-1] if task.widths else len(task.class_names)


def unknown_to_kron(model: nn.Module) -> str:
    """Return the kinds of layers whose weights Kronecker factors cannot have, in words; empty if there are none."""
    kinds = {
        type(module).__name__
        for module in model.modules()
        if not isinstance(module, (nn.Linear, nn.Conv2d)) and list(module.parameters(recurse=False))
    }
    return " and ".join(sorted(kinds))


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
