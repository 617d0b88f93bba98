"""A batch of inputs: one tensor, or tensors by name; every one has the batch's N rows on its first axis."""

import inspect
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Tensor | Mapping[str, Tensor]


def n_rows(x: Inputs) -> int:
    """Return N.

    Raises:
        TypeError: if `x` is neither a tensor nor a mapping of names to tensors.
        ValueError: if it holds no tensor, a tensor without axes, or tensors of unequal numbers of rows.
    """
    if not isinstance(x, (Tensor, Mapping)):
        raise TypeError(f"inputs must be a tensor, or a mapping of names to tensors; got {kind_of(x)}")
    tensors = _by_name(x)
    if not tensors:
        raise ValueError("the mapping of inputs is empty")
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor; got {kind_of(tensor)}")
        if tensor.ndim == 0:
            raise ValueError(f"{name} must have rows on its first axis; got a tensor without axes")
    rows = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"all inputs must have the same number of rows; got {rows}")
    return next(iter(rows.values()))


def take(x: Inputs, index: Tensor | slice) -> Inputs:
    """Return the rows of an index [B], int64 or boolean, or of a slice (which copies nothing)."""
    if isinstance(x, Tensor):
        return _rows(x, index)
    return {name: _rows(tensor, index) for name, tensor in x.items()}


def split(x: Inputs, size: int) -> Iterator[Inputs]:
    """Yield the rows in order, `size` at a time; the last batch may be smaller. Nothing is copied.

    Raises:
        ValueError: if `size` is not positive.
    """
    if size < 1:
        raise ValueError(f"the size of a batch must be at least 1; got {size}")
    for start in range(0, n_rows(x), size):
        yield take(x, slice(start, start + size))


def even_slices(n: int, batch_size: int) -> list[slice]:
    """Return where the batches lie that N rows are divided into, in order.

    There are as few as can be of at most `batch_size` rows, and their sizes differ by at most one: a short batch at
    the end would count as much as a full one wherever batches are normalised or averaged.

    Raises:
        TypeError, ValueError: if `batch_size` is not a positive integer.
    """
    size = whole_size(batch_size)
    if size < 1:
        raise ValueError(f"batch_size must be at least 1; got {size}")
    n_batches = -(-n // size)
    return [slice(i * n // n_batches, (i + 1) * n // n_batches) for i in range(n_batches)]


def whole_size(batch_size: Any) -> int:
    """Return a batch size as an int; integers of numpy and torch will do.

    Raises:
        TypeError: if it is not an integer.
    """
    try:
        return operator.index(batch_size)
    except TypeError:
        raise TypeError(f"batch_size must be an integer; got {batch_size!r}, a {type(batch_size).__name__}") from None


def moved(x: Inputs, like: Tensor) -> Inputs:
    """Return the batch with floats in the dtype and on the device of `like`, integers and booleans on its device."""
    if isinstance(x, Tensor):
        return _moved(x, like)
    return {name: _moved(tensor, like) for name, tensor in x.items()}


def concatenated(parts: Sequence[Inputs], name: str = "inputs") -> Inputs:
    """Return the rows of all parts in one batch; `name` says in errors what they are.

    Raises:
        ValueError: if there is no part, if mappings differ in their names, or if rows differ in shape.
        TypeError: if some parts are tensors and some are mappings.
    """
    if not parts:
        raise ValueError("there are no batches to concatenate")
    first = parts[0]
    if len({isinstance(part, Tensor) for part in parts}) > 1:
        raise TypeError(f"some batches of {name} are tensors and some are mappings: they must all be of one kind")
    if isinstance(first, Tensor):
        return _concatenated(f"the {name}", [part for part in parts if isinstance(part, Tensor)])
    mappings = [part for part in parts if not isinstance(part, Tensor)]
    for part in mappings:
        if set(part) != set(first):
            raise ValueError(f"batches of {name} differ in their names: {sorted(first)} and {sorted(part)}")
    return {key: _concatenated(f"{name}[{key!r}]", [part[key] for part in mappings]) for key in first}


def check_finite(x: Inputs, name: str) -> None:
    """Raise ValueError if there are NaN or infinite values; `name` says what the batch is: "inputs", "targets"."""
    for tensor in _by_name(x).values():
        if tensor.is_floating_point() and not (finite := tensor.isfinite()).all():
            raise ValueError(
                f"the {name} hold {int((~finite).sum())} NaN or infinite values; remove or impute them first"
            )


def call_arguments(model: nn.Module, x: Inputs) -> tuple[tuple[Inputs, ...], dict[str, Tensor]]:
    """Return positional and keyword arguments with which a model takes the batch.

    A mapping goes in as keywords if the signature of the model's forward has room for all its names, as those of
    Hugging Face do; else as the one positional argument. A tensor always is the one positional argument.
    """
    if isinstance(x, Tensor):
        return (x,), {}
    try:
        inspect.signature(model.forward).bind(**x)
    except (TypeError, ValueError):  # no room for them, or a forward without a Python signature
        return (x,), {}
    return (), dict(x)


def outputs_from(returned: Any, n: int) -> Tensor:
    """Return the outputs [N, ...] in what a model returned: a tensor, or the logits of an object or a mapping.

    Raises:
        TypeError: if there is no such tensor.
        ValueError: if its first axis does not have the `n` rows of the inputs.
    """
    outputs = returned
    if not isinstance(returned, Tensor):
        outputs = getattr(returned, "logits", None)
        if outputs is None and isinstance(returned, Mapping):
            outputs = returned.get("logits")
    if not isinstance(outputs, Tensor):
        raise TypeError(
            "the model must return a tensor of outputs, or an object or a mapping with `logits`; it returned "
            f"{type(returned).__name__}: wrap it in a module that returns the outputs alone"
        )
    if outputs.ndim == 0 or len(outputs) != n:
        raise ValueError(
            f"the model's outputs must have the {n} rows of its inputs on their first axis; they are "
            f"{list(outputs.shape)} (recurrent layers and attention need batch_first=True)"
        )
    return outputs


@contextmanager
def advising_on_integers(x: Inputs) -> Iterator[None]:
    """Inside, a model's error about dtypes says what to do if the inputs are integers, as images of bytes are.

    Only the model knows whether it wants integers: those of token ids are right as they are.

    Raises:
        TypeError: in place of such an error.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        integers = [f"{name} ({tensor.dtype})" for name, tensor in _by_name(x).items() if not _is_float_or_bool(tensor)]
        if not integers or not re.search("type|not implemented for", str(error)):
            raise
        raise TypeError(
            f"the model does not take integers for {', '.join(integers)}: convert them to float, as in training "
            f"(images: x.float() / 255, or however they were scaled); torch says: {error}"
        ) from error


def kind_of(value: object) -> str:
    """Return the name of a value's type for an error, and how to make a tensor of it if it is an array."""
    name = type(value).__name__
    is_array = not isinstance(value, Tensor) and hasattr(value, "__array__")
    return f"{name}: make it a tensor by torch.as_tensor" if is_array else name


def _by_name(x: Inputs) -> Mapping[str, Tensor]:
    return {"inputs": x} if isinstance(x, Tensor) else {f"inputs[{name!r}]": tensor for name, tensor in x.items()}


def _is_float_or_bool(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.dtype == torch.bool


def _rows(tensor: Tensor, index: Tensor | slice) -> Tensor:
    return tensor[index] if isinstance(index, slice) else tensor[index.to(tensor.device)]


def _moved(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)


def _concatenated(name: str, parts: list[Tensor]) -> Tensor:
    shapes = {tuple(part.shape[1:]) for part in parts}
    if len(shapes) > 1:
        raise ValueError(
            f"rows of {name} differ in shape from batch to batch: {', '.join(map(str, sorted(shapes)))}; "
            "pad them to one shape"
        )
    return torch.cat(parts)
