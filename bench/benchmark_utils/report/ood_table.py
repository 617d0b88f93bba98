"""Out-of-distribution detection in full, as OpenOOD shows it: a line a method, a column a set and metric."""

from __future__ import annotations

import pandas as pd

from benchmark_utils.metrics.ood import DETECTION
from benchmark_utils.metrics.predictive_scores import SCORES
from benchmark_utils.report.images import DISTANCES, ood_sets
from benchmark_utils.report.markdown_text import markdown_text
from benchmark_utils.report.table import Column, method_labels, task_table, text_table

HEADINGS = {"auroc": "AUROC", "fpr95": "FPR95", "aupr_in": "AUPR in", "aupr_out": "AUPR out"}

EXPLANATION = (
    "Out-of-distribution (OOD) examples are the positive class, the test set the negative one. AUROC: probability that "
    "an OOD example scores above a test example. FPR95: share of test examples flagged at the threshold that finds "
    "95 % of the OOD examples, as in OpenOOD v1.5; lower is better. AUPR: average precision with the test set (in) or "
    "the OOD set (out) as positive class. Near and far are unweighted means over those sets. Mean ± standard deviation "
    "over seeds, fractions, methods sorted by NLL; '-' where nothing was measured: mutual information needs two "
    "samples."
)


def ood_markdown(rows: pd.DataFrame, title: str) -> str:
    """Return Markdown with a table a task and score; "" if no task has out-of-distribution sets."""
    labels = method_labels(rows)
    parts = []
    for task, group in rows.groupby("task", sort=False):
        done = group[group["status"] == "done"]
        if not (sets := ood_sets(done)):
            continue
        parts.append(f"## {task}\n\n{_about(done, sets)}")
        for score, definition in SCORES.items():
            columns = [
                Column(f"{metric}_{name}_{score}", f"{HEADINGS[metric]} {name}")
                for metric in DETECTION
                for name in (*sets, *_means(sets))
            ]
            headings, lines = task_table(group, labels, columns)
            if len(headings) > 2:  # more than method and seeds
                parts.append(f"### {task}: score {score}, {definition.formula}")
                parts.append(text_table(headings, lines))
    return "\n\n".join([f"# {title}", EXPLANATION, *parts]) + "\n" if parts else ""


def _means(sets: dict[str, str]) -> list[str]:
    """The distances with more than one set, whose mean is no repetition."""
    return [distance for distance in DISTANCES if list(sets.values()).count(distance) > 1]


def _about(rows: pd.DataFrame, sets: dict[str, str]) -> str:
    """The sets of a task with their sizes, in words."""
    sizes = [f"{name} ({distance}, {rows[f'n_{name}'].max():,.0f})" for name, distance in sets.items()]
    text = f"{rows['n_test'].max():,.0f} test examples against: {', '.join(sizes)}."
    missing = [name for name in rows.get("ood_missing", pd.Series(dtype=str)).unique() if name]
    return text + (f" Not at hand: {markdown_text('; '.join(missing))}." if missing else "")
