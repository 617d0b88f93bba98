"""Remarks under a table: which runs gave no numbers, and why; which numbers cannot be put beside others."""

from __future__ import annotations

import re

import pandas as pd

_NUMBER = re.compile(r"\d+")
_NOTHING = pd.Series(dtype=float)


def remarks(rows: pd.DataFrame, labels: dict[tuple[str, str], str]) -> list[str]:
    """Return a line for each reason why runs did not finish, and one if the data is not the expected.

    Reasons that differ in their numbers only, such as that of a row of a matrix, are one, in the words of the first.
    """
    lines = []
    missing = rows[rows["status"] != "done"].sort_values(["status", "reason"], kind="stable")
    for (status, _), group in missing.groupby(["status", missing["reason"].str.replace(_NUMBER, "0", regex=True)]):
        reason = group["reason"].iloc[0]
        methods = [labels[key] for key in dict.fromkeys(zip(group["method"], group["settings"], strict=True))]
        who = "all methods" if len(group) == len(rows) > 1 else ", ".join(methods)
        lines.append(f"{who}: {status} (seed {_listed(group['seed'])}): {reason or 'no reason given'}")
    for missing in sorted({name for name in rows.get("ood_missing", _NOTHING).dropna() if name}):
        lines.append(f"out-of-distribution sets that were not at hand: {missing}")
    if (rows["dataset_matches"] == 0).any():
        lines.append("the data's content is not the expected one: these numbers cannot be put beside others")
    return lines


def _listed(seeds: pd.Series) -> str:
    """Seeds in words: "0 to 19" for three or more without a gap, else one by one."""
    each = sorted(set(seeds))
    without_gap = len(each) > 2 and each[-1] - each[0] == len(each) - 1
    return f"{each[0]} to {each[-1]}" if without_gap else ", ".join(map(str, each))
