"""A kernel as it is launched, for compilation without a GPU."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class KernelCase:
    """One kernel with its constants.

    Attributes:
        name: in the table.
        kernel: the jitted function.
        signature: types of its arguments by name, as Triton writes them; "constexpr" for constants.
        constants: values of the constants by name; `None` for a tensor that is left out.
        warps: of a program.
        divisible_by_16: arguments that are, at the launch that is meant.
        wide_stores: whether 16-byte stores are expected.
        bit_equal: whether it gives the bits of its reference, which no contracted product and sum may then change.
        options: of the compiler.
        outside_loop: local-memory instructions that it may have outside the loop that does most of its work; stack to
            match. Inside it there may be none.
        everywhere: whether it is launched on every architecture, also those with 99 kB of shared memory.
    """

    name: str
    kernel: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    warps: int
    divisible_by_16: tuple[str, ...]
    wide_stores: bool = False
    bit_equal: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    outside_loop: int = 0
    everywhere: bool = False
