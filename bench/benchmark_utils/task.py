"""A benchmark task: one split of one data set, the network to train on it, and where the data came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


# Tensors have no single truth value, so a generated __eq__ would raise.
@dataclass(frozen=True, eq=False)
class Task:
    """What every method of one task and seed is given.

    Attributes:
        name: the task's name; a changed task gets a new one.
        kind: "classification" or "regression".
        x_train: training inputs, [N, D], float32, standardised by the training part where the task says so.
        y_train: labels, [N], int64; or targets, [N, 1], float32.
        x_test: test inputs, [M, D], float32, on the same scale.
        y_test: labels, [M], int64; or targets, [M, 1], float32.
        widths: (D, hidden..., C) of the network.
        activation: the network's hidden activation, a key of ACTIVATIONS.
        seed: drives the split, the initial weights and the sampling.
        sha256: of the canonical content that was loaded, before the split.
        expected_sha256: of the content that the task stands for.
        source: where the content came from, in words.
        licence: the licence of the data.
        citation: whom to cite.
        noise_std: known observation noise of a regression task, in the units of y; None for classification.
        prior_precision: 1 / variance of the Gaussian prior on each weight, not divided by N.
        x_plot: inputs to draw a one-dimensional task at, [M, 1], float32; None elsewhere.
        class_names: names of classes 0 to C - 1; empty for regression.
    """

    name: str
    kind: Literal["classification", "regression"]
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    widths: tuple[int, ...]
    activation: str
    seed: int
    sha256: str
    expected_sha256: str
    source: str
    licence: str
    citation: str
    noise_std: float | None = None
    prior_precision: float = 1.0
    x_plot: Tensor | None = None
    class_names: tuple[str, ...] = ()

    @property
    def content_matches(self) -> bool:
        """Return whether the loaded content is the one that the task stands for."""
        return self.sha256 == self.expected_sha256

    def make_model(self, seed: int | None = None) -> nn.Sequential:
        """Return a new network with torch's default initialisation; the global random state stays as it was.

        Args:
            seed: of the initial weights; the task's own seed if None.
        """
        layers: list[nn.Module] = []
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed if seed is None else seed)
            for fan_in, fan_out in zip(self.widths[:-1], self.widths[1:], strict=True):
                layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[self.activation]()]
        return nn.Sequential(*layers[:-1])

    def likelihood(self) -> Any:
        """Return fiberbnn's likelihood of this task: Categorical(), or Gaussian with the known noise."""
        # Imported here so that data and metrics can be looked at without the library.
        import fiberbnn

        if self.kind == "classification":
            return fiberbnn.Categorical()
        if self.noise_std is None:
            raise ValueError(f"regression task {self.name!r} needs a noise_std")
        return fiberbnn.Gaussian(self.noise_std)


@dataclass(frozen=True)
class MissingTask:
    """Stands where a task would when its data is not at hand; the objective's `skip` turns it into a skip.

    Attributes:
        name: the task's name.
        seed: the seed that was asked for.
        reason: why it is skipped and what to set, in words.
    """

    name: str
    seed: int
    reason: str
