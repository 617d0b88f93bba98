"""Values of tasks' and methods' parameters: refused before anything runs, where a run could only end in a traceback."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from benchopt import BaseDataset, BaseSolver
from benchopt.utils.parametrized_name_mixin import product_param

from benchmark_utils.report.names import WORDS, nearest

KINDS: dict[Any, str] = {bool: "True or False", int: "a whole number", float: "a number"}


def unknown_value(kind: str, component: BaseDataset | BaseSolver) -> str:
    """Return in words which value a task or method cannot have, and which it can; "" if none is at fault.

    The class may tell by `choices`, from a parameter's name to the values it may have; bool, int and float among them
    stand for all of that type. A parameter that is left out there is checked if the values in the class's
    `parameters` are all numbers, or all True or False. What stands in `parameters` is never refused.

    Args:
        kind: "dataset" or "solver".
        component: with its parameters set.
    """
    choices: dict[str, Sequence[Any]] = getattr(component, "choices", {})
    listed: dict[str, list[Any]] = {}
    for values in product_param(component.parameters):
        for name, value in values.items():
            listed.setdefault(name, []).append(value)
    for name, value in component._parameters.items():
        own = listed.get(name, [])
        known = choices.get(name) or _type_of(own)
        if known and not any(_is_one(value, choice) for choice in [*known, *own]):
            there = " or ".join(_said(choice) for choice in known)
            near = nearest(value, [one for one in known if isinstance(one, str)]) if isinstance(value, str) else ""
            owner = f"the {WORDS[kind]} {component.name}"
            return f"{owner} cannot have {name}={value!r:.100}{near}; it may be {there}{_hint(value, known)}"
    return ""


def _type_of(values: Sequence[Any]) -> list[Any]:
    """The type that all of these values are of, in a list; none if they are neither numbers nor all True or False."""
    switches = [isinstance(value, bool | np.bool_) for value in values]
    if values and all(switches):
        return [bool]
    if not values or any(switches) or not all(isinstance(value, Real) for value in values):
        return []
    return [int if all(isinstance(value, Integral) for value in values) else float]


def _is_one(value: Any, choice: Any) -> bool:
    """Whether a value is the choice, or of the type; a whole number is a number too, True is none."""
    is_switch = isinstance(value, bool | np.bool_)
    if choice is bool or is_switch:
        return is_switch and (choice is bool or choice is value)
    if choice is int or choice is float:
        return isinstance(value, Integral if choice is int else Real)
    return value is choice or (type(value) is type(choice) and bool(np.all(value == choice)))


def _said(choice: Any) -> str:
    """A choice in words."""
    return KINDS[choice] if choice in (bool, int, float) else str(choice)


def _hint(value: Any, known: Sequence[Any]) -> str:
    """What to write for a number that YAML took for text."""
    if not isinstance(value, str) or not {int, float} & {one for one in known if isinstance(one, type)}:
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    return f" (this is text: write {number:#})"
