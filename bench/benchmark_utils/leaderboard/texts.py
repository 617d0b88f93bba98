"""leaderboard.md: ranks, then each task's entries with cost beside quality, then the definitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from benchmark_utils.leaderboard.board import Board
from benchmark_utils.leaderboard.ranks import what_ranks_are_over
from benchmark_utils.report.markdown_text import markdown_text
from benchmark_utils.report.table import MISSING, text_table

SHOWN = {
    "classification": ("nll", "ece", "brier", "accuracy", "auroc_near_entropy", "auroc_far_entropy"),
    "regression": ("nll", "crps", "rmse", "coverage90", "sd_gap"),
}
COST = ("total_s", "gradients", "predict_s", "peak_rise_mib")
ABOUT = (
    "Mean ± standard deviation over seeds of what finished, '-' where nothing was measured. ● marks the front: no "
    "entry of the run that has all seeds is as good in both NLL and training time and better in one. Each number's "
    "definition has an id."
)
ABOUT_RANKS = (
    "Mean rank over blocks, 1 is best. A block is a data set, its seeds averaged, since splits of one data set are no "
    "independent evidence; tasks on the same data are one block. Two methods whose ranks differ by less than the "
    "critical difference are not told apart (Nemenyi's test at 0.05, Demšar, JMLR 7, 2006); p is that of Friedman's "
    "test that all rank alike. Runs that failed or diverged rank last; methods and tasks that leave gaps are left out, "
    "by number of gaps alone. The settings that stand for a method were fixed by its file, not chosen by a test score: "
    "its first listed values, and for `laplace` the linearised predictive with the task's prior and the richest "
    "structure that the network permits."
)


def leaderboard_markdown(board: Board) -> str:
    """Return the leaderboard as Markdown."""
    sources = ", ".join(
        f"[{markdown_text(each['run'])}]({quote(each['rows'])}) ({each['n_rows']} rows)" for each in board["made_from"]
    )
    parts = [
        "# Leaderboard",
        f"Suite version {board['suite_version']}, made from {sources} by `nox -s export`. The same as a page: "
        "[index.html](index.html); as a table: [leaderboard.csv](leaderboard.csv). {ABOUT}".replace("{ABOUT}", ABOUT),
        *_ranks(board),
        "![Cost beside quality](pareto.png)",
    ]
    for task in board["tasks"]:
        for run in task["runs"]:
            parts += _task(board, task, run)
    parts += ["## Definitions", _definitions(board)]
    return "\n\n".join(parts) + "\n"


def mean_sd(summary: Mapping[str, float] | None, digits: int = 3) -> str:
    """Return "mean ± sd" of a summary; "-" if there is none."""
    if summary is None:
        return MISSING
    mean = f"{summary['mean']:,.{digits}f}"
    return mean if summary["sd"] is None else f"{mean} ± {summary['sd']:,.{digits}f}"


def _ranks(board: Board) -> list[str]:
    """The section on ranks."""
    if not board["ranks"]:
        return ["## Ranks", "No metric has two data sets and two methods that were run on all of them."]
    over = markdown_text(what_ranks_are_over(board["ranks"], [each["run"] for each in board["made_from"]]))
    parts = ["## Ranks", over, ABOUT_RANKS, "![Average ranks](ranks.png)"]
    for kind in dict.fromkeys(ranks["kind"] for ranks in board["ranks"]):
        own = [ranks for ranks in board["ranks"] if ranks["kind"] == kind]
        order = list(dict.fromkeys(method["method"] for ranks in own for method in ranks["methods"]))
        mean = [{method["method"]: method["mean_rank"] for method in ranks["methods"]} for ranks in own]
        lines = [[name, *(f"{ranks[name]:.2f}" if name in ranks else MISSING for ranks in mean)] for name in order]
        lines.append(["critical difference", *(f"{ranks['critical_difference']:.2f}" for ranks in own)])
        lines.append(["blocks", *(str(ranks["n_blocks"]) for ranks in own)])
        lines.append(
            ["p", *(MISSING if ranks["friedman_p"] is None else f"{ranks['friedman_p']:.2g}" for ranks in own)]
        )
        parts += [f"### {kind}", text_table(["mean rank", *(ranks["id"] for ranks in own)], lines)]
        tasks, left = own[0]["tasks"], own[0]["left_out"]
        out = ", ".join([*left["methods"], *left["tasks"]])
        parts.append(
            f"Over {', '.join(tasks)}." + (f" Left out for their gaps (of {own[0]['id']}): {out}." if out else "")
        )
    return parts


def _task(board: Board, task: Mapping[str, Any], run: str) -> list[str]:
    """One task in one run, best NLL first."""
    entries = [entry for entry in board["entries"] if (entry["task"], entry["run"]) == (task["name"], run)]
    done = sorted((e for e in entries if "nll" in e["values"]), key=lambda e: e["values"]["nll"]["mean"])
    metrics = [m for m in board["metrics"] if m["column"] in SHOWN[task["kind"]] and task["kind"] in m["kinds"]]
    metrics = [m for m in metrics if any(m["column"] in entry["values"] for entry in done)]
    costs = [cost for cost in board["costs"] if cost["column"] in COST]
    headings = [
        "method",
        "seeds",
        *(m["name"] for m in metrics),
        *(f"{c['name']} ({_unit(c)})" for c in costs),
        "front",
    ]
    lines = [
        [
            entry["label"],
            " ".join(map(str, entry["seeds"])),
            *(mean_sd(entry["values"].get(m["column"])) for m in metrics),
            *(mean_sd(entry["cost"].get(c["column"]), 0 if c["column"] == "gradients" else 2) for c in costs),
            "●" if entry["pareto"] else "",
        ]
        for entry in done
    ]
    unfinished = [
        f"- {markdown_text(entry['label'])}: {', '.join(f'{n} {status}' for status, n in entry['status'].items() if n)}"
        f" ({markdown_text('; '.join(entry['reasons']))})"
        for entry in entries
        if entry["reasons"]
    ]
    sizes = f"{task['n_train']:,} training and {task['n_test']:,} test examples, {task['n_params']:,} weights"
    parts = [
        f"## {task['name']} ({markdown_text(run)})",
        f"{task['kind']}, {sizes}; content {task['dataset_sha256'][:12]}.",
        text_table(headings, lines),
    ]
    return parts + ["\n".join(unfinished)] * bool(unfinished)


def _unit(cost: Mapping[str, str]) -> str:
    """A cost's unit, short."""
    return "passes" if cost["column"] == "gradients" else cost["unit"]


def _definitions(board: Board) -> str:
    """Every quantity that this file shows, by id."""
    shown = {*SHOWN["classification"], *SHOWN["regression"]}
    quantities = [m for m in board["metrics"] if m["column"] in shown] + board["costs"]
    lines = [[q["id"], q["name"], q["formula"], q["unit"], q["better"]] for q in quantities]
    return text_table(["id", "name", "definition", "unit", "better"], lines, n_left=5)
