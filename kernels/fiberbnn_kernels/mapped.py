"""What `torch.vmap` does to the operators: the copies of a call lie one after the other on an axis of a single call."""

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class VmapInfo(Protocol):
    """What torch tells a rule besides its arguments."""

    @property
    def batch_size(self) -> int:
        """Number of copies."""

    @property
    def randomness(self) -> str:
        """Argument of `torch.vmap`."""


def join(tensor: Tensor, dim: int | None, size: int, axis: int = 0) -> Tensor:
    """Return the tensors of all copies one after the other along an axis; one that is not mapped is repeated."""
    if dim is None:
        copies = tensor.unsqueeze(axis).expand(*tensor.shape[:axis], size, *tensor.shape[axis:])
    else:
        copies = tensor.movedim(dim, axis)
    return copies.flatten(axis, axis + 1)


def copies_token() -> Tensor:
    """Return an empty tensor that `torch.vmap` tells copies apart by, for an operator without other tensors.

    It is what a random function of torch returns, so it obeys `randomness`: it is mapped if that is "different", the
    same for all copies if "same", and refused by default.
    """
    return torch.randperm(0, device="cpu")


def rows_rule(
    op: Any, function: Callable[..., Any], *, shared: Collection[str], written: Collection[str] = ()
) -> Callable[..., tuple[Any, Any]]:
    """Return the rule of an operator on rows, such as particles [K, P]: those of all copies go through one call.

    Row k of copy b gets the number particle0 + b K + k, so that copies never share noise.

    Args:
        op: the operator; it returns tensors with the rows first, or nothing.
        function: what it was made of, for the names of its arguments.
        shared: names of the tensors that belong to all rows, which cannot be mapped; all others have the rows first.
        written: names of the tensors that are overwritten, which must be mapped.
    """
    names = tuple(inspect.signature(function).parameters)

    def rule(info: VmapInfo, in_dims: Sequence[int | None], *given: Any) -> tuple[Any, Any]:
        arguments, dims = dict(zip(names, given, strict=True)), dict(zip(names, in_dims, strict=True))
        size, back = info.batch_size, []
        for name, value in arguments.items():
            if not isinstance(value, Tensor):
                continue
            if name in shared:
                if dims[name] is not None:
                    raise ValueError(f"{name} belongs to all rows of all copies: torch.vmap cannot map it")
            elif name in written:
                arguments[name], copied = _join_to_write(name, value, dims[name])
                if copied is not None:
                    back.append((copied, arguments[name]))
            else:
                arguments[name] = join(value, dims[name], size)
        if "particle0" in arguments:
            number_on(info, arguments["particle0"], len(arguments[names[0]]))
        outputs = op(*arguments.values())
        for target, source in back:
            target.copy_(source.view_as(target))
        if outputs is None:
            return None, None
        if isinstance(outputs, Tensor):
            return split(outputs, size), 0
        return tuple(split(output, size) for output in outputs), (0,) * len(outputs)

    return rule


def number_on(info: VmapInfo, particle0: int, n_rows: int) -> None:
    """Raise ValueError unless the rows of all copies can be numbered from `particle0`."""
    if info.randomness == "same":
        raise ValueError(
            'randomness="same" is not to be had: particles of all copies are numbered one after the other, and their '
            "noise is that of their numbers"
        )
    if particle0 + n_rows > 1 << 32:
        raise ValueError(
            f"particles must lie between 0 and 2^32; got {n_rows} particles of {info.batch_size} copies from number "
            f"{particle0}"
        )


def split(tensor: Tensor, size: int, axis: int = 0) -> Tensor:
    """Undo `join`: return the copies on an axis of their own."""
    return tensor.unflatten(axis, (size, tensor.shape[axis] // size))


def _join_to_write(name: str, tensor: Tensor, dim: int | None) -> tuple[Tensor, Tensor | None]:
    """Return the joined rows, and, if they had to be copied, the tensor to which they must be copied back."""
    if dim is None:
        raise ValueError(f"{name} is overwritten by every copy: torch.vmap must map it as well (in_dims)")
    copies = tensor.movedim(dim, 0)
    shape = (copies.shape[0] * copies.shape[1], *copies.shape[2:])
    try:
        return copies.view(shape), None
    except RuntimeError:  # rows of different copies do not lie at even distances
        return copies.reshape(shape), copies
