"""A leaderboard as its page is given it, made of the rows of real runs by a few lines of pandas."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark_utils.leaderboard.among_best import mark_best
from benchmark_utils.leaderboard.quantities import metric_quantities
from benchmark_utils.metrics.evaluation import METRICS
from benchmark_utils.report.table import method_labels

RESULTS = Path(__file__).resolve().parents[3] / "results"
RUNS = ("quick", "images", "uci-small")
COSTS = {
    "total_s": ("Training", "s"),
    "fit_s": ("Fit", "s"),
    "gradients": ("Gradients", "passes over the training data"),
}
COLUMNS = ("nll", "ece", "brier", "accuracy", "rmse", "crps", "coverage90", "energy_ratio", "sd_gap")


def summary(values: pd.Series) -> dict[str, float | int | None]:
    """Mean, standard deviation and number of seeds."""
    return {"mean": values.mean(), "sd": values.std(ddof=1) if len(values) > 1 else None, "n": len(values)}


def summaries(rows: pd.DataFrame, columns: tuple[str, ...]) -> dict[str, Any]:
    """Those of the columns that have a value."""
    return {name: summary(rows[name].dropna()) for name in columns if name in rows and rows[name].notna().any()}


@cache
def real_board() -> dict[str, Any]:
    """Return the board of three runs that the repository has the rows of."""
    board: dict[str, Any] = {
        "suite_version": "1",
        "made_from": [],
        "metrics": [
            {
                "column": m.column, "id": m.id, "name": m.column.upper(), "direction": m.direction, "unit": m.unit,
                "formula": m.formula, "kinds": list(m.kinds),
            }
            for m in METRICS.values() if m.column in COLUMNS
        ],
        "costs": [
            {
                "column": column, "id": f"{column}/1", "name": name, "direction": "lower", "unit": unit,
                "formula": "as measured", "kinds": ["classification", "regression"],
            }
            for column, (name, unit) in COSTS.items()
        ],
        "tasks": [],
        "methods": [],
        "entries": [],
        "ranks": [
            {
                "metric": "nll", "kind": "classification", "n_blocks": 7, "critical_difference": 1.5,
                "methods": [
                    {"method": "swag", "label": "swag", "mean_rank": 2.5},
                    {"method": "metricbnn", "label": "metricbnn", "mean_rank": 1.25},
                    {"method": "map", "label": "map", "mean_rank": 3.0},
                ],
            }
        ],
    }  # fmt: skip
    tasks: dict[str, dict[str, Any]] = {}
    for run in RUNS:
        path = f"../{run}/rows.parquet"
        rows = pd.read_parquet(RESULTS / run / "rows.parquet").assign(
            total_s=lambda rows: rows["fit_s"] + rows["map_s"]
        )
        board["made_from"].append({"run": run, "rows": path, "n_rows": len(rows), "commit": rows["commit"].max()})
        labels = method_labels(rows)
        for (task, method, settings), group in rows.groupby(["task", "method", "settings"]):
            done = group[group["status"] == "done"]
            reasons = sorted({reason for reason in group["reason"] if reason})
            board["entries"].append(
                {
                    "run": run, "task": task, "method": method, "settings": settings, "label": labels[method, settings],
                    "seeds": sorted(int(seed) for seed in done["seed"]), "reasons": reasons, "rows": path,
                    "status": {name: int(n) for name, n in group["status"].value_counts().items()},
                    "pareto": False, "among_best": [],
                    "values": summaries(done, COLUMNS), "cost": summaries(done, tuple(COSTS)),
                }
            )  # fmt: skip
        mark_best([e for e in board["entries"] if e["run"] == run], rows, metric_quantities(COLUMNS))
        for name, group in rows[rows["status"] == "done"].groupby("task"):
            one = group.iloc[0]
            task = tasks.setdefault(str(name), {"name": name, "kind": one["kind"], "runs": []})
            task |= {column: int(one[column]) for column in ("n_train", "n_test", "n_params")}
            task |= {"dataset_sha256": one["dataset_sha256"], "dataset_matches": bool(one["dataset_matches"])}
            task["runs"].append(run)
    board["tasks"] = list(tasks.values())
    board["methods"] = sorted({entry["method"] for entry in board["entries"]})
    return board


def tiny_board() -> dict[str, Any]:
    """Return a board of one task and three methods with round numbers: a, b near it, and c, which failed once."""

    def entry(method: str, nll: float, seconds: float, n: int) -> dict[str, Any]:
        return {
            "run": "one", "task": "coin", "method": method, "settings": "", "label": method, "seeds": list(range(n)),
            "status": {"done": n, "failed": 3 - n}, "reasons": ["out of luck"] * (n < 3), "pareto": False,
            "among_best": ["nll"] if n == 3 else [],
            "values": {"nll": {"mean": nll, "sd": 0.1, "n": n}},
            "cost": {"total_s": {"mean": seconds, "sd": 0.5, "n": n}},
            "rows": "../one/rows.parquet",
        }  # fmt: skip

    board = real_board()
    return {
        "suite_version": "1",
        "made_from": [{"run": "one", "rows": "../one/rows.parquet", "n_rows": 9, "commit": "abc"}],
        "metrics": [metric for metric in board["metrics"] if metric["column"] == "nll"],
        "costs": [cost for cost in board["costs"] if cost["column"] == "total_s"],
        "tasks": [
            {
                "name": "coin", "kind": "classification", "n_train": 4, "n_test": 4, "n_params": 2, "runs": ["one"],
                "dataset_sha256": "f" * 64, "dataset_matches": False,
            }
        ],
        "methods": ["a", "b", "c"],
        "entries": [entry("a", 0.5, 10.0, 3), entry("b", 0.58, 2.0, 3), entry("c", 0.4, 1.0, 2)],
        "ranks": [],
    }  # fmt: skip
