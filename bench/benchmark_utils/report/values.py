"""Values of tasks' and methods' parameters: refused before anything runs, where a run could only end in a traceback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchopt import BaseDataset, BaseSolver

from benchmark_utils.report.names import WORDS, nearest

Choice = str | type  # a word, or a type that any value of will do
KINDS = {bool: "True or False", int: "a whole number", float: "a number"}


def unknown_value(kind: str, component: BaseDataset | BaseSolver) -> str:
    """Return in words which value a task or method cannot have, and which it can; "" if none is at fault.

    The class may tell by `choices`, from a parameter's name to the words, or the types, that it may be; a parameter
    that it leaves out is checked if its first value is a number, or true or false: its values are then of that type.

    Args:
        kind: "dataset" or "solver".
        component: with its parameters set.
    """
    choices: dict[str, Sequence[Choice]] = getattr(component, "choices", {})
    for key, first in component.parameters.items():
        names = [part.strip() for part in key.split(",")]
        firsts = first[0] if len(names) > 1 else first[:1]
        for name, default in zip(names, firsts, strict=True):
            value = component._parameters[name]
            known = choices.get(name) or ((type(default),) if type(default) in KINDS else ())
            if known and not any(_is_one(value, choice) for choice in known):
                words = [choice for choice in known if isinstance(choice, str)]
                there = " or ".join([*words, *(KINDS[choice] for choice in known if not isinstance(choice, str))])
                near = nearest(value, words) if isinstance(value, str) else ""
                owner = f"the {WORDS[kind]} {component.name}"
                return f"{owner} cannot have {name}={value!r:.100}{near}; it may be {there}"
    return ""


def _is_one(value: Any, choice: Choice) -> bool:
    """Whether a value is the word, or of the type; a whole number is a number too, true is none."""
    if isinstance(choice, str):
        return bool(value == choice)
    if isinstance(value, bool) or choice is bool:
        return isinstance(value, bool) and choice is bool
    return isinstance(value, int | float if choice is float else choice)
