"""What one setting is worth: runs in which it alone was changed, beside the defaults, seed by seed.

Which run belongs to which ablation follows from its settings. Solvers whose rows name changed settings only
(changed_settings.py) have a default, whose settings are empty; a run that names one setting is of that setting's
ablation, and a run that names several is of none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark_utils.report.markdown_text import markdown_text
from benchmark_utils.report.remarks import remarks
from benchmark_utils.report.table import (
    MISSING,
    REFERENCE,
    Column,
    mean_and_spread,
    method_labels,
    text_table,
)

DEFAULT = "default"
# By solver, the first values of its settings.
Defaults = Mapping[str, Mapping[str, object]]

COLUMNS = [
    Column("nll", "NLL"),
    Column("nll_difference", "NLL − default's"),
    Column("tv_hmc", "TV to HMC"),
    Column("tv_walk", "TV to walk"),
    Column("energy_ratio", "energy r.", 2),
    Column("sd_gap", "sd gap"),
    Column("sd_data", "sd data"),
    Column("gradients", "gradients", 0),
    Column("fit_s", "fit s", None),
    Column("fit_ratio", "fit s / default's", 2),
]

EXPLANATION = (
    "One setting is changed at a time; all others are the solver's defaults. Mean ± standard deviation over seeds. "
    "Differences and ratios to the default are taken seed by seed, on the same split and from the same MAP, before "
    "they are averaged: their spread is that of the setting's effect, not of the splits. NLL in nats per test example "
    "of the averaged predictive; TV: total variation between the predictive and that of the long HMC run, or of the "
    "walk which the latent posterior was fitted to; energy r.: 1 for a Gaussian posterior; sd gap, sd data: standard "
    "deviation of the function in the middle of the gap and at the training inputs. Gradients and seconds are the "
    "method's own, on top of the shared MAP. '-': nothing was measured, since the run diverged or the task has no such "
    "number."
)


@dataclass(frozen=True)
class Ablation:
    """One setting of one method.

    Attributes:
        method: whose it is.
        factor: the setting's name.
        rows: of the runs in which it alone was changed and of the default's on the same tasks, with columns `value`
            (in words), `nll_difference` and `fit_ratio` (NaN where one of the pair is missing).
        values: all of `value` in order: the default first, or in its place among numbers.
    """

    method: str
    factor: str
    rows: pd.DataFrame
    values: list[str]

    @property
    def name(self) -> str:
        """The method and the setting, as file names have them."""
        return f"{self.method}_{self.factor}"


def ablations(rows: pd.DataFrame, defaults: Defaults | None = None) -> list[Ablation]:
    """Return the ablations that there are rows of, by method and setting.

    Args:
        rows: as in rows.parquet.
        defaults: the solvers' own values, to be named in words; otherwise they are called "default".
    """
    found = []
    for method, own in rows.groupby("method", sort=True):
        base = own[own["settings"] == ""]
        changed = own["settings"].str.fullmatch(r"[^=,]+=[^,]*")  # one setting, and no other
        if base.empty or not changed.any():
            continue
        pairs = own.loc[changed, "settings"].str.split("=", n=1, expand=True)
        for factor, chosen in pairs.groupby(0, sort=True):
            default = (defaults or {}).get(str(method), {}).get(str(factor))
            words = DEFAULT if default is None else f"{default} ({DEFAULT})"
            variants = own.loc[chosen.index].assign(value=chosen[1])
            both = pd.concat([base[base["task"].isin(variants["task"])].assign(value=words), variants])
            values = [words, *dict.fromkeys(chosen[1])]
            found.append(Ablation(str(method), str(factor), _paired(both, base), sorted(values, key=_order(values))))
    return found


def without_variants(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without changed settings of methods that were run with their defaults too."""
    has_default = rows["method"].isin(rows.loc[rows["settings"] == "", "method"])
    return rows[~has_default | (rows["settings"] == "")]


def _paired(rows: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    """The rows beside the default's of the same task and seed."""
    of_default = base[base["status"] == "done"].set_index(["task", "seed"])[["nll", "fit_s"]].add_suffix("_default")
    rows = rows.join(of_default, on=["task", "seed"])
    done = rows["status"] == "done"
    difference = (rows["nll"] - rows["nll_default"]).where(done & (rows["settings"] != ""))
    return rows.assign(
        nll_difference=difference, fit_ratio=(rows["fit_s"] / rows["fit_s_default"]).where(difference.notna())
    )


def _order(values: list[str]) -> Callable[[str], Any]:
    """Numbers by size; else the default, which is first, and the others as they come."""
    numbers = {value: _number(value) for value in values}
    if all(number is not None for number in numbers.values()):
        return lambda value: numbers[value]
    return lambda value: (value != values[0], numbers[value] is None, numbers[value] or 0.0)


def _number(value: str) -> float | None:
    """The number that a value is, the remark that it is the default aside."""
    try:
        return float(value.removesuffix(f" ({DEFAULT})"))
    except ValueError:
        return None


def ablation_markdown(found: list[Ablation], title: str) -> str:
    """Return Markdown with a section and a table for each ablation; "" if there is none."""
    parts = [f"# {title}", EXPLANATION] if found else []
    for one in found:
        parts.append(f"## {one.method}: {one.factor}\n\n![{one.factor}](ablation_{one.name}.png)")
        headings, lines = ablation_table(one)
        parts.append(text_table(headings, lines, n_left=2))
        if notes := remarks(one.rows, method_labels(one.rows)):
            parts.append("\n".join(f"- {markdown_text(note)}" for note in notes))
    return "\n\n".join(parts) + "\n" if parts else ""


def ablation_table(ablation: Ablation) -> tuple[list[str], list[list[str]]]:
    """Return headings and lines of one ablation: a line a task and value, and the long HMC run's where there is one."""
    rows = ablation.rows
    done = rows[rows["status"] == "done"]
    columns = [column for column in COLUMNS if column.name in done and done[column.name].notna().any()]
    lines = []
    for task, own in rows.groupby("task", sort=False):
        for value in ablation.values:
            every = own[own["value"] == value]
            if every.empty:
                continue
            finished = every[every["status"] == "done"]
            whole = len(finished) == len(every)
            seeds = str(len(every)) if whole else f"{len(finished)} of {len(every)}"
            lines.append([str(task), value, seeds, *(_cell(finished, column) for column in columns)])
        once = own.dropna(subset=["nll_hmc"]).drop_duplicates("seed") if "nll_hmc" in own else own.iloc[:0]
        if len(once):
            cells = [_reference_cell(once, column) for column in columns]
            lines.append([str(task), REFERENCE, str(len(once)), *cells])
    return ["task", ablation.factor, "seeds", *(column.heading for column in columns)], lines


def _cell(rows: pd.DataFrame, column: Column) -> str:
    """Mean and spread of a column, a difference with its sign."""
    text = mean_and_spread(rows[column.name], column.digits)
    signed = column.name == "nll_difference" and text != MISSING and not text.startswith("-")
    return f"+{text}" if signed else text


def _reference_cell(rows: pd.DataFrame, column: Column) -> str:
    """What the long HMC run scored or cost."""
    name = f"{column.name}_hmc"
    return mean_and_spread(rows[name], column.digits) if name in rows else MISSING
