"""The entries as a flat table, a number a line: what leaderboard.csv and leaderboard.parquet hold."""

from __future__ import annotations

import pandas as pd

from benchmark_utils.leaderboard.board import Board

IDENTITY = ["suite_version", "run", "task", "kind", "method", "settings", "label"]


def long_table(board: Board) -> pd.DataFrame:
    """Return a line for each entry and quantity.

    Columns: what names the entry; quantity (the rows' column), is_cost, id of the definition, unit, direction; mean,
    sd over seeds (NaN of one seed), n and the seeds; whether the entry is among the best of its task in it; how many
    runs ended how; whether the entry is on the front of NLL and training time; and the file of its rows. An entry
    without a finished run has one line without a quantity.
    """
    kinds = {task["name"]: task["kind"] for task in board["tasks"]}
    lines = []
    for entry in board["entries"]:
        kind = kinds.get(entry["task"], "")
        about = {
            **{name: entry.get(name, "") for name in IDENTITY},
            "suite_version": board["suite_version"],
            "kind": kind,
        }
        rest = {
            "seeds": " ".join(map(str, entry["seeds"])),
            **{f"n_{status}": count for status, count in entry["status"].items()},
            "reasons": "; ".join(entry["reasons"]),
            "pareto": entry["pareto"],
            "rows": entry["rows"],
        }
        numbers = [
            {
                "quantity": quantity["column"],
                "is_cost": is_cost,
                "id": quantity["id"],
                "unit": quantity["unit"],
                "direction": quantity["direction"],
                **values[quantity["column"]],
                "among_best": not is_cost and quantity["column"] in entry["among_best"],
            }
            for quantities, values, is_cost in (
                (board["metrics"], entry["values"], False),
                (board["costs"], entry["cost"], True),
            )
            for quantity in quantities
            if quantity["column"] in values and kind in quantity["kinds"]
        ]
        nothing = {"quantity": "", "is_cost": False, "id": "", "unit": "", "direction": "", "n": 0, "among_best": False}
        lines += [about | number | rest for number in numbers or [nothing]]
    return pd.DataFrame(lines).astype({"mean": float, "sd": float})
