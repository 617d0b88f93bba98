"""What Hugging Face's hub reads: the dataset card with its `model-index`, and the files of `.eval_results/`.

Neither format has a place for a direction, a spread or a definition: the notes and the metric's arguments say them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from huggingface_hub import (
    DatasetCardData,
    EvalResult,
    EvalResultEntry,
    eval_result_entries_to_yaml,
    parse_eval_result_entries,
)
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from benchmark_utils.leaderboard.board import Board
from benchmark_utils.leaderboard.ranks import what_ranks_are_over
from benchmark_utils.leaderboard.standing import default_settings, stands_for
from benchmark_utils.leaderboard.texts import ABOUT, ABOUT_RANKS
from benchmark_utils.report.markdown_text import markdown_text

RAN = ("done", "failed", "diverged")  # what takes part in the ranks
METRICS = ("nll", "ece", "brier", "accuracy", "crps", "rmse", "coverage90", "auroc_near_entropy", "auroc_far_entropy")

Reported = tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]


def reported(board: Board) -> Iterator[Reported]:
    """Yield (entry, task, metric, mean-sd-n) of the settings that stand for each method, for the chief metrics.

    These are the settings of the ranks, whether they finished or not, and only those that finished on all seeds that
    the run has of the task.
    """
    tasks = {task["name"]: task for task in board["tasks"]}
    seeds_of: dict[tuple[str, str], set[int]] = {}
    for entry in board["entries"]:
        seeds_of.setdefault((entry["run"], entry["task"]), set()).update(entry["seeds"])
    variants: dict[tuple[str, str, str], set[str]] = {}
    for entry in board["entries"]:
        if any(entry["status"][status] for status in RAN):
            variants.setdefault((entry["run"], entry["task"], entry["method"]), set()).add(entry["settings"])
    for entry in board["entries"]:
        own = variants.get((entry["run"], entry["task"], entry["method"]), set())
        if entry["settings"] not in own or stands_for(entry["method"], own, default_settings()) != entry["settings"]:
            continue
        # A mean over other seeds than the others' is none to put beside them.
        if set(entry["seeds"]) != seeds_of[entry["run"], entry["task"]]:
            continue
        task = tasks[entry["task"]]
        for metric in board["metrics"]:
            if metric["column"] in METRICS and task["kind"] in metric["kinds"] and metric["column"] in entry["values"]:
                yield entry, task, metric, entry["values"][metric["column"]]


def eval_result_files(board: Board, hub_id: str) -> dict[str, str]:
    """Return the YAML of `.eval_results/METHOD.yaml` by file name: a value an entry, for a model's repository.

    Args:
        board: the leaderboard.
        hub_id: of the benchmark's dataset on the hub, OWNER/NAME.
    """
    files: dict[str, list[EvalResultEntry]] = {}
    for entry, task, metric, value in reported(board):
        result = EvalResultEntry(
            dataset_id=hub_id,
            task_id=f"{entry['run']}/{task['name']}/{metric['column']}",
            value=value["mean"],
            notes=f"{note(metric, value, entry['seeds'])}; settings: {entry['settings'] or 'none'}",
        )
        files.setdefault(f"{entry['method']}.yaml", []).append(result)
    texts = {}
    for name, results in files.items():
        data = eval_result_entries_to_yaml(results)
        if parse_eval_result_entries(data) != results:
            raise ValueError(f".eval_results/{name} does not read back as it was written")
        texts[name] = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=1000)
    return texts


def note(metric: dict[str, Any], value: dict[str, Any], seeds: list[int]) -> str:
    """Return what a bare value leaves open: direction, unit, definition, spread and seeds."""
    spread = "" if value["sd"] is None else f", standard deviation {value['sd']:.6g}"
    over = f"mean over seeds {', '.join(map(str, seeds))}{spread}"
    return f"{metric['better']}; {metric['unit']}; definition {metric['id']}; {over}"


def dataset_card(board: Board, hub_id: str) -> str:
    """Return README.md: YAML with the `model-index` of every method, and what the files are.

    Raises:
        ValueError: if the metadata does not read back as it was written.
    """
    by_method: dict[str, list[EvalResult]] = {}
    for entry, task, metric, value in reported(board):
        by_method.setdefault(entry["method"], []).append(_eval_result(entry, task, metric, value, hub_id))
    index = [part for method, results in by_method.items() for part in eval_results_to_model_index(method, results)]
    for part in index:
        name, results = model_index_to_eval_results([part])
        if {_key(result) for result in results} != {_key(result) for result in by_method[name]}:
            raise ValueError(f"the model-index of {name} does not read back as it was written")
    data = DatasetCardData(
        language="en",
        license="apache-2.0",
        pretty_name="fiberbnn leaderboard: posterior predictives of neural networks, and their cost",
        task_categories=["tabular-classification", "tabular-regression", "image-classification"],
        tags=["benchmark", "leaderboard", "bayesian-neural-networks", "uncertainty", "calibration"],
    )
    data["configs"] = [{"config_name": "default", "data_files": "leaderboard.parquet"}]
    data["model-index"] = index
    return f"---\n{data.to_yaml()}\n---\n\n{_body(board)}"


def _key(result: EvalResult) -> tuple[str, Any, str | None, float]:
    """What an evaluation result says, without what the hub may drop."""
    return result.metric_type, result.dataset_config, result.metric_name, result.metric_value


def _eval_result(
    entry: dict[str, Any], task: dict[str, Any], metric: dict[str, Any], value: dict[str, Any], hub_id: str
) -> EvalResult:
    """One value of the model-index."""
    images = any(name.startswith("auroc") for name in entry["values"])
    return EvalResult(
        task_type="image-classification" if images else f"tabular-{task['kind']}",
        task_name=task["name"],
        dataset_type=hub_id,
        dataset_name=task["name"],
        dataset_config=f"{entry['run']}/{task['name']}",
        dataset_split="test",
        dataset_args={"sha256": task["dataset_sha256"]},
        metric_type=metric["column"],
        metric_name=f"{metric['name']} ({metric['better']})",
        metric_value=value["mean"],
        metric_args={"id": metric["id"], "sd": value["sd"], "seeds": entry["seeds"], "settings": entry["settings"]},
    )


def _body(board: Board) -> str:
    """The card's text."""
    runs = "\n".join(
        f"- {markdown_text(each['run'])}: {each['n_rows']} rows of commit {markdown_text(each['commit'])}, in "
        f"{markdown_text(each['rows'])}"
        for each in board["made_from"]
    )
    files = {
        "index.html": "the leaderboard as a page; it needs no server",
        "leaderboard.md": "the leaderboard as text, with all definitions",
        "leaderboard.parquet, leaderboard.csv": "a line for each method, settings, task and quantity: mean, standard "
        "deviation, seeds, unit, direction and id of the definition",
        "ood.md": "out-of-distribution detection in full",
        "rows.schema.json": "JSON Schema of a row, by which `nox -s export -- --check FILE` judges rows",
        "ranks.png, pareto.png": "average ranks with their critical difference; cost beside quality",
        "headline.md, headline.png": "the same of one run, in one table and one figure: how good, and at what cost",
        ".eval_results/": "a file a method for its own repository on the hub, a value an entry. The format has no "
        "field for the direction: the notes of each entry say whether lower is better",
    }
    listed = "\n".join(f"- `{name}`: {about}" for name, about in files.items())
    over = markdown_text(what_ranks_are_over(board["ranks"], [each["run"] for each in board["made_from"]]))
    about_all = "\n\n".join(text for text in (ABOUT, over, ABOUT_RANKS) if text)
    return (
        "# fiberbnn leaderboard\n\n"
        f"How good is a posterior predictive on held-out data, and what did it cost? Suite version "
        f"{board['suite_version']}; {len(board['entries'])} entries of {len(board['methods'])} methods on "
        f"{len(board['tasks'])} tasks. Made by `nox -s export` from\n\n{runs}\n\n## Files\n\n{listed}\n\n"
        f"## How to read it\n\n{about_all}\n\nThe model-index above and `.eval_results/` hold the settings that stand "
        "for each method. Seconds are compared within a run only, since runs come from different machines or days."
        "\n\n## How to join\n\n`docs/leaderboard.md` in the repository tells how to add a "
        "method or a task and to submit rows.\n"
    )
