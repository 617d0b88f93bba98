"""Solvers of many settings: their rows name those that were changed, and nothing else."""

from __future__ import annotations

from typing import Any


class ChangedSettings:
    """Beside benchopt's BaseSolver: a run is called by its settings that differ from the solver's first values.

    So a run of the defaults is `walk`, with empty settings in its rows, and `walk[drift=literal]` is one in which the
    drift alone was changed: what an ablation looks for.
    """

    name: str
    parameters: dict[str, list[Any]]
    _parameters: dict[str, Any]

    def __repr__(self) -> str:
        changed = [
            f"{name}={value}" for name, value in sorted(self._parameters.items()) if value != self.parameters[name][0]
        ]
        return f"{self.name}[{','.join(changed)}]" if changed else self.name
