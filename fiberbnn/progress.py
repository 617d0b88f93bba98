"""Progress bars of long work; only showing one needs tqdm."""

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self


class Progress(Protocol):
    """What work tells of itself; tqdm's bars have it."""

    total: float | None

    def update(self, n: float | None = 1) -> object:
        """Say that n more are done."""
        ...

    def set_postfix(self, ordered_dict: Mapping[str, object] | None = None, refresh: bool = True) -> None:
        """Say how it stands."""
        ...

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """End."""
        ...


class Silent:
    """A bar that is not shown."""

    total: float | None = None

    def update(self, n: float | None = 1) -> None:
        """Do nothing."""

    def set_postfix(self, ordered_dict: Mapping[str, object] | None = None, refresh: bool = True) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        """Return the bar."""
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing."""


def progress(desc: str, *, total: int, shown: bool, unit: str = "it") -> Progress:
    """Return a bar for `total` pieces of work; a silent one unless it is to be shown.

    Raises:
        ImportError: if it is to be shown and tqdm is not installed.
    """
    if not shown:
        return Silent()
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError("progress bars need tqdm: pip install tqdm, or pass progress_bar=False") from error
    return tqdm(total=total, desc=desc, unit=unit)
