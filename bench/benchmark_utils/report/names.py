"""Names of tasks, methods and their parameters: of what there is not, what comes nearest."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchopt import BaseDataset, BaseSolver
from benchopt.utils.parametrized_name_mixin import _extract_options, is_matched

Known = Sequence[type[BaseDataset] | type[BaseSolver]]
WORDS = {"dataset": "task", "solver": "method"}  # what benchopt calls them, and what they are here


def unknown_name(kind: str, chosen: Iterable[str | dict[str, Any]], known: Known, folder: Path) -> str:
    """Return in words which is the first name, or parameter of one, that there is not; "" if none of them is the fault.

    Args:
        kind: "dataset" or "solver".
        chosen: names such as "walk" or "walk[steps=60]", or names with their parameters; * stands for any letters.
        known: the classes of all files of this kind; those that could not be imported have a name only.
        folder: the benchmark's, for the message.
    """
    try:
        for name, parameters in _named(chosen):
            found = [cls for cls in known if is_matched(cls.name, [name])]
            if not found and not name.endswith(".py"):
                near = nearest(name, [cls.name for cls in known])
                return f"there is no {WORDS[kind]} {name!r:.100}{near}; each has a file in {folder.name}/{kind}s"
            for cls in found:
                if words := _unknown_parameter(kind, cls, parameters):
                    return words
    except (
        AttributeError,
        ValueError,
        re.error,
    ):  # no text or mapping, brackets that do not match, or letters that are no pattern
        pass
    return ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ", the nearest are a, b" of at most three known names that are like this one; "" if none is."""
    close = difflib.get_close_matches(name.lower(), list(known), n=3, cutoff=0.5)
    return f", the nearest {'is' if len(close) == 1 else 'are'} {', '.join(close)}" if close else ""


def _named(chosen: Iterable[str | dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Each name with those of the parameters that it is given; one key may stand for several, "a, b"."""
    for entry in chosen:
        if isinstance(entry, str):
            name, _, options = _extract_options(entry)
            pairs = [(name, options)]
        else:
            pairs = [(name, options if isinstance(options, dict) else {}) for name, options in entry.items()]
        for name, options in pairs:
            yield name, [part.strip() for key in options for part in str(key).split(",")]


def _unknown_parameter(kind: str, cls: type[BaseDataset] | type[BaseSolver], parameters: Sequence[str]) -> str:
    """The first parameter that a class does not have, in words; a file that could not be imported tells none."""
    if hasattr(cls, "_exc"):
        return ""
    known = [part.strip() for key in cls.parameters for part in key.split(",")]
    for name in parameters:
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "it has none"
            return f"the {WORDS[kind]} {cls.name} has no parameter {name!r:.100}{nearest(name, known)}; {there}"
    return ""
