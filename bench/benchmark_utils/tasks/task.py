"""A benchmark task: one split of one data set, the network to train on it, and where the data came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmark_utils.data.ood_sets import OodSet, Scale
from benchmark_utils.data.shifts import Shift
from benchmark_utils.tasks.networks import make_network

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


@dataclass(frozen=True)
class Training:
    """How the network of an image task is trained, by minibatches; tasks without it use the full batch.

    Attributes:
        epochs: passes over the training part.
        batch_size: images a step.
        learning_rate: of Adam, at its highest.
    """

    epochs: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class Units:
    """How standardised numbers become those of the data: number * scale + mean."""

    mean: float = 0.0
    scale: float = 1.0

    def original(self, values: Tensor) -> Tensor:
        """Return standardised values of any shape in the data's units."""
        return values * self.scale + self.mean


@dataclass(frozen=True)
class NoiseFit:
    """The observation noise of a regression as it was fitted to the training part.

    Attributes:
        std: its standard deviation, in the units of y_train.
        seconds: wall-clock time that it took.
        grad_evals: gradients over all of the training part.
    """

    std: float
    seconds: float
    grad_evals: float


# Tensors have no single truth value, so a generated __eq__ would raise.
@dataclass(frozen=True, eq=False)
class Task:
    """What every method of one task and seed is given.

    Attributes:
        name: the task's name; a changed task gets a new one.
        kind: "classification" or "regression".
        x_train: training inputs, [N, D], float32, standardised by the training part where the task says so; images
            are [N, C, H, W], standardised by the training part's mean and deviation of each channel.
        y_train: labels, [N], int64; or targets, [N, 1], float32.
        x_test: test inputs, [M, D] or [M, C, H, W], float32, on the same scale.
        y_test: labels, [M], int64; or targets, [M, 1], float32.
        widths: (D, hidden..., C) of the network; () if it has an architecture.
        activation: the network's hidden activation, a key of ACTIVATIONS; "" if it has an architecture.
        seed: drives the split, the initial weights and the sampling.
        sha256: of the canonical content that was loaded, before the split.
        expected_sha256: of the content that the task stands for.
        source: where the content came from, in words.
        licence: the licence of the data.
        citation: whom to cite.
        noise_std: observation noise of a regression task, in the units of y_train; None for classification, and for
            noise that is yet to be fitted, see noise.with_fitted_noise.
        prior_precision: 1 / variance of the Gaussian prior on each weight, not divided by N.
        x_plot: inputs to draw a one-dimensional task at, [M, 1], float32, on the scale of x_train; None elsewhere.
        gap_middle: where a task with x_plot has the middle of its gap, on the scale of x_train.
        x_units: of the input of a task with x_plot.
        y_units: of the targets: scores are given in the data's own units.
        noise_fit: how noise_std was fitted; None if it is known.
        map_steps: most L-BFGS steps to the MAP by full batches; None for shared_map's MAX_STEPS.
        class_names: names of classes 0 to C - 1; empty for regression.
        architecture: a key of networks.ARCHITECTURES; None for the MLP of `widths` and `activation`.
        training: how the network is trained by minibatches; None for the full batch.
        scale: how images of other sets become inputs of this task; None for tables.
        ood: the out-of-distribution sets that are at hand, loaded when asked for.
        ood_missing: those that are not, name to reason: rows that lack a set were made without it.
        shifts: the ways to shift test images, in growing strength.
        n_shifted: how many test images, the first ones, are shifted.
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
    gap_middle: float = 0.0
    x_units: Units = Units()
    y_units: Units = Units()
    noise_fit: NoiseFit | None = None
    map_steps: int | None = None
    class_names: tuple[str, ...] = ()
    architecture: str | None = None
    training: Training | None = None
    scale: Scale | None = None
    ood: tuple[OodSet, ...] = ()
    ood_missing: Mapping[str, str] = field(default_factory=dict)
    shifts: tuple[Shift, ...] = ()
    n_shifted: int = 1000

    @property
    def content_matches(self) -> bool:
        """Return whether the loaded content is the one that the task stands for."""
        return self.sha256 == self.expected_sha256

    def shifted(self) -> Iterator[tuple[Shift, Tensor, Tensor]]:
        """Yield each shift with shifted copies of the first n_shifted test images, on the task's scale, and labels."""
        if self.scale is None:
            return
        raw, labels = self.scale.raw(self.x_test[: self.n_shifted]), self.y_test[: self.n_shifted]
        for shift in self.shifts:
            yield shift, self.scale.standardised(shift.apply(raw)), labels

    def make_model(self, seed: int | None = None) -> nn.Module:
        """Return a new network: the MLP with torch's default initialisation, an architecture with its own.

        The global random state stays as it was.

        Args:
            seed: of the initial weights; the task's own seed if None.
        """
        if self.architecture is not None:
            first = self.seed if seed is None else seed
            return make_network(self.architecture, len(self.class_names), self.x_train.shape[1], first)
        layers: list[nn.Module] = []
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed if seed is None else seed)
            for fan_in, fan_out in zip(self.widths[:-1], self.widths[1:], strict=True):
                layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[self.activation]()]
        return nn.Sequential(*layers[:-1])

    def likelihood(self) -> Any:
        """Return fiberbnn's likelihood of this task: Categorical(), or Gaussian with its noise.

        Raises:
            ValueError: if the noise of a regression is yet to be fitted.
        """
        # Imported here so that data and metrics can be looked at without the library.
        import fiberbnn

        if self.kind == "classification":
            return fiberbnn.Categorical()
        if self.noise_std is None:
            raise ValueError(f"regression task {self.name!r} needs a noise_std: noise.with_fitted_noise(task) fits it")
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
