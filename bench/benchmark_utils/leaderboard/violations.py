"""What a row's schema refuses, in words that tell how to mend it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from benchmark_utils.leaderboard.schema import LARGEST, row_schema
from benchmark_utils.metrics.evaluation import METRICS

OTHER_TEXT = ("ood_near", "ood_far", "ood_missing", "shift_units")  # columns of text that no schema is needed for
TYPES = {"string": "text", "number": "a number", "integer": "a whole number"}


@dataclass(frozen=True)
class Problem:
    """Something wrong with some rows.

    Attributes:
        what: is wrong.
        mend: what to do about it.
        rows: their numbers, from 1, the heading not counted; empty if it is about the whole file.
    """

    what: str
    mend: str
    rows: tuple[int, ...] = ()


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each row as its schema wants it: without NaN and, for CSV's text, with numbers where they are due.

    A score of a run that is not done may be infinite, which its status says already: it is left out.
    """
    properties = row_schema()["properties"]
    texts = {name for name, about in properties.items() if about.get("type") == "string"}
    texts |= {"suite_version", "status", "kind", *OTHER_TEXT}
    found = []
    for record in rows.to_dict("records"):
        done = record.get("status") == "done"
        kept = {}
        for name, value in record.items():
            if isinstance(value, str) and name not in texts:
                value = _number(value)
            if value is None or (isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and not done))):
                continue
            kept[str(name)] = value
        found.append(kept)
    return found


def _number(text: str) -> float | bool | str | None:
    """The number or truth value that a cell of CSV stands for; None if it is empty, the text if it is neither."""
    if text.strip().lower() in ("", "nan"):
        return None
    if text in ("True", "False"):
        return text == "True"
    try:
        return float(text)
    except ValueError:
        return text


def violations(rows: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Yield a problem for each thing that the schema refuses, with all rows that have it."""
    validator = Draft202012Validator(row_schema())
    columns = sorted({name for row in rows for name in row})
    found: dict[tuple[str, str, str], tuple[ValidationError, list[int]]] = {}
    for number, row in enumerate(rows, start=1):
        for error in (leaf for whole in validator.iter_errors(row) for leaf in _leaves(whole)):
            # What is required stands in a list that all missing columns of a row share.
            absent = error.validator == "required"
            key = (_missing(error), "", "") if absent else (_column(error), error.validator, str(error.validator_value))
            _, numbers = found.setdefault(key, (error, []))
            if number not in numbers[-1:]:
                numbers.append(number)
    for (column, _, _), (error, numbers) in found.items():
        if error.validator == "required":
            what, mend = f"{column} is missing, empty or NaN", _hint(column, columns)
        else:
            what, mend = _in_words(column, error), _about(column, error)
        yield Problem(what, mend, tuple(numbers))


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    """The errors inside one of allOf, which comes as one."""
    if error.context:
        for inner in error.context:
            yield from _leaves(inner)
    else:
        yield error


def _column(error: ValidationError) -> str:
    """The column that an error is about."""
    return str(error.absolute_path[-1]) if error.absolute_path else "the row"


def _missing(error: ValidationError) -> str:
    """The column that is not there, which jsonschema tells in its message only."""
    return error.message.split("'")[1]


def _hint(name: str, columns: Sequence[str]) -> str:
    """What to do about a column that is not there."""
    known = {*row_schema()["properties"], *(metric.column for metric in METRICS.values())}
    close = difflib.get_close_matches(name, [column for column in columns if column not in known], 1, cutoff=0.7)
    return f"is it the column {close[0]!r}? Rename it" if close else "fill it in, or give the row the status failed"


def _about(name: str, error: ValidationError) -> str:
    """What a column has to hold."""
    if name == "suite_version":
        return "run again with the present code: numbers of different suites cannot stand together"
    known = row_schema()["properties"].get(name, {})
    description = known.get("description") or (error.schema.get("description") if error.schema else None)
    return f"{name} is: {description}" if description else f"correct {name}"


def _in_words(name: str, error: ValidationError) -> str:
    """What is wrong with a value; of rows with the same mistake the first is shown."""
    limit, value = error.validator_value, _shown(error.instance)
    if error.validator == "minimum":
        return f"{name} is infinite" if limit == -LARGEST else f"{name} is {value}, below {_bound(limit)}"
    if error.validator == "maximum":
        return f"{name} is infinite" if limit == LARGEST else f"{name} is {value}, above {_bound(limit)}"
    if error.validator == "type":
        return f"{name} is {value}, not {TYPES.get(limit, limit)}"
    if error.validator == "enum":
        return f"{name} is {value}, not one of {', '.join(repr(option) for option in limit)}"
    if error.validator == "minLength":
        return f"{name} is empty"
    if error.validator == "maxLength":
        return f"{name} has more than {limit} letters"
    if error.validator == "not":
        return f"{name} holds a line break or another control character"
    return f"{name} is {value}, which does not fit {limit!r}"


def _bound(limit: float) -> str:
    """A bound without what is granted to rounding."""
    return f"{round(limit, 8) + 0.0:g}"


def _shown(value: Any) -> str:
    """A value, short."""
    return f"{value:g}" if isinstance(value, float) else repr(value)[:60]
