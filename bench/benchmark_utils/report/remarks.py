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
    unfinished = rows[rows["status"] != "done"].sort_values(["status", "reason"], kind="stable")
    alike = unfinished["reason"].str.replace(_NUMBER, "0", regex=True)
    for (status, _), group in unfinished.groupby(["status", alike]):
        reason = group["reason"].iloc[0]
        who: dict[str, list[str]] = {}  # methods by their seeds
        for key, runs in group.groupby(["method", "settings"], sort=False):
            who.setdefault(_listed(runs["seed"]), []).append(labels[key])
        differ = " (numbers differ between splits)" if group["reason"].nunique() > 1 else ""
        for seeds, methods in who.items():
            named = "all methods" if len(group) == len(rows) > 1 and len(who) == 1 else ", ".join(methods)
            lines.append(f"{named}: {status} (seed {seeds}): {reason or 'no reason given'}{differ}")
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
