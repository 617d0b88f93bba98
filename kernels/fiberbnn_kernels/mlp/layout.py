"""Where the layers of a multilayer perceptron lie in its flat weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

Activation = Literal["tanh", "relu", "silu", "gelu"]


class LayerSlice(NamedTuple):
    """One layer: weight [n_out, n_in] at `weight`, bias [n_out] at `bias`, both offsets into [P]."""

    n_in: int
    n_out: int
    weight: int
    bias: int


@dataclass(frozen=True)
class MLPLayout:
    """Shape of Linear -> activation -> ... -> Linear, and its place in flat weights [P].

    The order is that of `torch.nn.utils.parameters_to_vector`: W_1 [h, D] row by row, b_1 [h], W_2, b_2, ...

    Args:
        widths: (D, h_1, ..., C), at least input and output.
        activation: "tanh", "relu", "silu" or "gelu" (exact), after every layer but the last.

    Raises:
        ValueError: if there are fewer than two widths, a width is not positive, or the activation is unknown.
    """

    widths: tuple[int, ...]
    activation: Activation = "tanh"

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(int(width) for width in self.widths))
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"widths must be at least (inputs, outputs), all positive; got {self.widths}")
        if self.activation not in get_args(Activation):
            raise ValueError(f"activation must be one of {get_args(Activation)}; got {self.activation!r}")

    @property
    def n_params(self) -> int:
        """Number of weights and biases, P."""
        return sum((n_in + 1) * n_out for n_in, n_out in pairwise(self.widths))

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return self.widths[1:-1]

    def layers(self) -> Iterator[LayerSlice]:
        """Yield the layers from input to output."""
        offset = 0
        for n_in, n_out in pairwise(self.widths):
            yield LayerSlice(n_in, n_out, offset, offset + n_in * n_out)
            offset += (n_in + 1) * n_out
