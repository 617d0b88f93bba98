"""Which settings of a method stand for it in the ranks: fixed by its file, never by a test score.

Whoever picks each method's best variant by its test NLL flatters the method with the most variants. So the variant
is chosen by rules that know no score: `PREFERRED` for a method whose first settings cannot be run everywhere, else
the variant that agrees most with the first value of each parameter in the method's file, which are its defaults.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path

from benchmark_utils.report.settings import parse_settings
from benchmark_utils.rows.provenance import ROOT

# In this order the first that a task permits. Laplace: the linearised predictive, which is the right one for its
# Gaussian, with the task's own prior as every other method has it, and of the structures the richest that fits.
PREFERRED: dict[str, tuple[dict[str, str], ...]] = {
    "laplace": tuple(
        {"predictive": "glm", "prior": "fixed", "structure": structure} for structure in ("full", "kron", "last_layer")
    ),
}


def stands_for(method: str, settings: Collection[str], defaults: Mapping[str, Mapping[str, str]]) -> str | None:
    """Return which of a method's settings stands for it on a task.

    Args:
        method: its name.
        settings: those that were run there, as rows have them; not those that were skipped.
        defaults: as default_settings gives them.

    Returns:
        One of `settings`; None if there is none, or none that the method's preference allows.
    """
    variants = {text: parse_settings(text) for text in sorted(settings)}
    for wanted in PREFERRED.get(method, ()):
        for text, variant in variants.items():
            if wanted.items() <= variant.items():
                return text
    if method in PREFERRED or not variants:
        return None
    first = defaults.get(method, {})
    agreement = {text: sum(first.get(name) == value for name, value in v.items()) for text, v in variants.items()}
    return max(variants, key=agreement.__getitem__)  # the first by name of those that agree alike


@lru_cache
def default_settings(solvers: Path = ROOT / "bench" / "solvers") -> dict[str, dict[str, str]]:
    """Return, by method, the first value of each parameter, read from the methods' files without running them."""
    found = {}
    for path in sorted(solvers.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name == "Solver":
                given = {
                    target.id: statement.value
                    for statement in node.body
                    if isinstance(statement, ast.Assign)
                    for target in statement.targets
                    if isinstance(target, ast.Name)
                }
                if isinstance(name := given.get("name"), ast.Constant):
                    found[str(name.value)] = _first_values(given.get("parameters"))
    return found


def _first_values(parameters: ast.expr | None) -> dict[str, str]:
    """The first value of each parameter of a dict display; those that are no plain values are left out."""
    first = {}
    if isinstance(parameters, ast.Dict):
        for key, values in zip(parameters.keys, parameters.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(values, ast.List | ast.Tuple) and values.elts:
                try:
                    first[str(key.value)] = str(ast.literal_eval(values.elts[0]))
                except ValueError:
                    continue
    return first
