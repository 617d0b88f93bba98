"""A small call of every public function that takes `impl`, on the CPU; run as a script, both ways of calling each."""

import inspect
import json
import sys
from collections.abc import Callable

import torch

import fiberbnn_kernels as kernels
from fiberbnn_kernels import MLPLayout

LAYOUT = MLPLayout((4, 5, 2))
STEP = {"seed": 0, "step": 0, "stream": 0}
STREAM = {"seed": 0, "stream": 0}


def ones(*shape: int) -> torch.Tensor:
    return torch.full(shape, 0.1)


def walk(impl: str) -> kernels.MLPWalk:
    w, x, y = ones(2, LAYOUT.n_params), ones(7, 4), torch.zeros(7, dtype=torch.int64)
    numbers = {"prior_precision": 1.0, "step_size": 0.1, "friction": 1.0, "energy_error_limit": 9.0, "n_steps": 2}
    streams = {"seed": 0, "step0": 0, "refresh_stream": 1, "revive_stream": 2}
    return kernels.mlp_walk(
        w, w, ones(2), w, x, y, LAYOUT, likelihood="categorical", scale=w[0], **numbers, **streams, impl=impl
    )


def nll(impl: str) -> object:
    labels = torch.zeros(7, dtype=torch.int64)
    weights, x = ones(2, LAYOUT.n_params), ones(7, 4)
    return kernels.mlp_nll_and_grad(weights, x, labels, LAYOUT, likelihood="categorical", impl=impl)


LAYER, FLAT = (ones(3, 7, 4), ones(3, 2, 4), ones(3, 2)), (ones(3, LAYOUT.n_params), ones(7, 4), LAYOUT)
X = (ones(2, 5),) * 3
NOISE = {"noise_variance": ones(2)}
CALLS: dict[str, Callable[[str], object]] = {
    "class_sums": lambda impl: kernels.class_sums(*LAYER, impl=impl),
    "class_sums_of_logits": lambda impl: kernels.class_sums_of_logits(LAYER[0], impl=impl),
    "decode": lambda impl: kernels.decode(ones(5), ones(5, 2), ones(3, 2), impl=impl),
    "decode_chunks": lambda impl: list(kernels.decode_chunks(ones(5), ones(5, 2), ones(3, 2), impl=impl)),
    "gaussian_sums": lambda impl: kernels.gaussian_sums(*LAYER, **NOISE, impl=impl),
    "gaussian_sums_of_outputs": lambda impl: kernels.gaussian_sums_of_outputs(ones(3, 7, 2), **NOISE, impl=impl),
    "langevin_close": lambda impl: kernels.langevin_close(*X[:2], ones(5), step_size=0.1, impl=impl),
    "langevin_open": lambda impl: kernels.langevin_open(*X, ones(5), step_size=0.1, friction=1.0, **STEP, impl=impl),
    "linear_act": lambda impl: kernels.linear_act(*LAYER, "gelu", impl=impl),
    "mlp_class_sums": lambda impl: kernels.mlp_class_sums(*FLAT, impl=impl),
    "mlp_forward": lambda impl: kernels.mlp_forward(*FLAT, impl=impl),
    "mlp_gaussian_sums": lambda impl: kernels.mlp_gaussian_sums(*FLAT, **NOISE, impl=impl),
    "mlp_nll_and_grad": nll,
    "mlp_walk": walk,
    "optimizer_step": lambda impl: kernels.optimizer_step(*X[:2], rule="sgd", learning_rate=0.1, noise=1.0, impl=impl),
    "perturb": lambda impl: kernels.perturb(X[0], noise=1.0, impl=impl),
    "philox_normal": lambda impl: kernels.philox_normal(2, 3, **STEP, impl=impl),
    "philox_normal_steps": lambda impl: kernels.philox_normal_steps(2, 3, steps=range(2), **STREAM, impl=impl),
    "philox_uniform": lambda impl: kernels.philox_uniform(2, **STEP, impl=impl),
}


def with_impl() -> set[str]:
    """Return the names of the public functions that take `impl`."""
    functions = {name: value for name, value in vars(kernels).items() if name in kernels.__all__ and callable(value)}
    return {name for name, value in functions.items() if "impl" in inspect.signature(value).parameters}


def outcomes() -> dict[str, list[str]]:
    """Return what "auto" and "fused" lead to, by function: "ran", or the error."""
    found: dict[str, list[str]] = {}
    for name, call in CALLS.items():
        found[name] = []
        for impl in ("auto", "fused"):
            try:
                call(impl)
                found[name].append("ran")
            except Exception as error:
                found[name].append(f"{type(error).__name__}: {error}")
    return found


if __name__ == "__main__":
    json.dump(outcomes(), sys.stdout)
