"""The average over weight samples, summed up as they come in, so that the outputs of all are never held at once."""

import torch
from torch import Tensor

from fiberbnn_kernels import (
    ClassSums,
    GaussianSums,
    MLPLayout,
    class_sums_of_logits,
    gaussian_sums_of_outputs,
    mlp_class_sums,
    mlp_gaussian_sums,
)

from .likelihood import Categorical, HeteroscedasticGaussian, Likelihood
from .prediction import GaussianPredictive, Predictive, cast, of_classes


class Averaging:
    """The average over weight samples whose outputs come in chunks.

    On the CPU outputs are summed in float64; of plain perceptrons, and on a GPU, an operation sums blocks in the dtype
    of the outputs and adds the blocks in float64.

    Args:
        likelihood: what the outputs mean.

    Attributes:
        dtype: of the outputs.
    """

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood, self.dtype = likelihood, torch.float64
        self._sums: ClassSums | GaussianSums | None = None
        self._shape = torch.Size()  # of one sample's outputs, [N, ...]

    def add(self, outputs: Tensor) -> "Averaging":
        """Take in the outputs of S further weight samples, [S, N, ...]; return self.

        Raises:
            ValueError: if S is zero, or the shape is not that of earlier outputs.
        """
        self._check(len(outputs), outputs.shape[1:])
        self.dtype = outputs.dtype
        exact = outputs.detach() if outputs.is_cuda and outputs.dtype == torch.float32 else outputs.detach().double()
        if isinstance(self.likelihood, Categorical):
            columns = exact.movedim(self._class_axis, -1)
            return self._merge(class_sums_of_logits(columns.reshape(len(exact), -1, columns.shape[-1])))
        columns = exact[..., None] if exact.ndim == 2 else exact
        columns = columns.reshape(len(exact), -1, columns.shape[-1])
        return self._merge(gaussian_sums_of_outputs(columns, noise_variance=self._noise(columns)))

    def add_perceptron(self, weights: Tensor, x: Tensor, layout: MLPLayout) -> "Averaging":
        """Take in a plain perceptron's outputs for S further weight samples [S, P] at inputs [N, D]; return self.

        Raises:
            ValueError: if S is zero, or the inputs are not as many as earlier ones.
        """
        self._check(len(weights), torch.Size((len(x), layout.widths[-1])))
        self.dtype = weights.dtype
        with torch.no_grad():
            if isinstance(self.likelihood, Categorical):
                return self._merge(mlp_class_sums(weights, x, layout))
            noise = self._noise(x.new_empty(1, layout.widths[-1]))
            return self._merge(mlp_gaussian_sums(weights, x, layout, noise_variance=noise))

    def result(self, *, exact: bool = False) -> Predictive:
        """Return the predictive of all samples so far, in the dtype of the outputs.

        Args:
            exact: leave it in float64, for `mixture`: mutual information is a small difference of entropies.

        Raises:
            ValueError: if there were none.
        """
        if self._sums is None:
            raise ValueError("there are no samples to average over")
        dtype = None if exact else self.dtype
        if isinstance(self._sums, ClassSums):
            assert isinstance(self.likelihood, Categorical)
            axis, shape = self._class_axis, list(self._shape)
            n_classes = shape.pop(axis)
            probs, variance = (
                each.view(*shape, n_classes).movedim(-1, axis) for each in (self._sums.probs, self._sums.variance)
            )
            return cast(
                of_classes(probs, variance, self._sums.aleatoric.view(shape), self.likelihood.class_axis), dtype
            )
        shape = list(self._shape)
        if isinstance(self.likelihood, HeteroscedasticGaussian):
            shape[-1] //= 2
        values = (self._sums.mean, self._sums.variance, self._sums.aleatoric)
        return cast(GaussianPredictive(*(value.view(shape) for value in values)), dtype)

    @property
    def _class_axis(self) -> int:
        """Counted from the end, so that it is the same with and without a sample axis."""
        assert isinstance(self.likelihood, Categorical)
        axis = self.likelihood.class_axis
        return axis if axis < 0 else axis - len(self._shape)

    def _noise(self, outputs: Tensor) -> Tensor | None:
        """Variance of the noise of each of the outputs [..., C], [C]; None if the network predicts it."""
        if isinstance(self.likelihood, HeteroscedasticGaussian):
            return None
        assert not isinstance(self.likelihood, Categorical)
        row = outputs.flatten(0, -2)[0]
        return self.likelihood.noise_variance(row).to(row.dtype)

    def _check(self, n_samples: int, shape: torch.Size) -> None:
        if not n_samples or (self._sums is not None and shape != self._shape):
            raise ValueError(
                f"a chunk must be [S, ...] with S > 0, all of one shape; got {[n_samples, *shape]}"
                + ("" if self._sums is None else f" after [S, ...] of {list(self._shape)}")
            )
        self._shape = shape

    def _merge(self, sums: ClassSums | GaussianSums) -> "Averaging":
        # The likelihood decides which of the two they are.
        self._sums = sums if self._sums is None else self._sums.merge(sums)  # type: ignore[arg-type]
        return self
