"""The results as a table per task, mean ± standard deviation over seeds: for a terminal and as Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark_utils.report.markdown_text import markdown_text
from benchmark_utils.report.remarks import remarks
from benchmark_utils.report.settings import in_words, parse_settings, telling_names

MISSING = "-"
REFERENCE = "(long HMC reference)"
_BARE_PIPE = re.compile(r"(?<!\\)\|")
_NOTHING = pd.Series(dtype=float)


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        name: the row's column.
        heading: over the table's.
        digits: after the point; None for two significant digits of the mean, at most three after the point.
        significant: the fewest significant digits of the mean, where that takes more after the point.
        in_terminal: whether a terminal has room for it.
    """

    name: str
    heading: str
    digits: int | None = 3
    significant: int = 0
    in_terminal: bool = True


COLUMNS = [
    Column("nll", "NLL"),
    Column("nll_single", "NLL single", in_terminal=False),
    Column("ece", "ECE"),
    Column("brier", "Brier", in_terminal=False),
    Column("accuracy", "acc."),
    Column("auroc_near_entropy", "AUROC near"),
    Column("auroc_far_entropy", "AUROC far"),
    Column("fpr95_near_entropy", "FPR95 near", in_terminal=False),
    Column("fpr95_far_entropy", "FPR95 far", in_terminal=False),
    Column("nll_shifted", "NLL shifted", in_terminal=False),
    Column("accuracy_shifted", "acc. shifted", in_terminal=False),
    Column("ece_shifted", "ECE shifted", in_terminal=False),
    Column("rmse", "RMSE", significant=2),  # in the targets' units, which may be small
    Column("crps", "CRPS", significant=2, in_terminal=False),
    Column("coverage90", "cov. 90 %"),
    Column("sd_gap", "sd gap"),
    Column("sd_data", "sd data"),
    Column("tv_hmc", "TV to HMC"),
    Column("agreement_hmc", "agree HMC", in_terminal=False),
    Column("energy_ratio", "energy r.", 2),
    Column("fit_s", "fit s", None),
    Column("predict_s", "predict s", None, in_terminal=False),
    Column("gradients", "gradients", 0),
    Column("hvp_evals", "HVPs", 0, in_terminal=False),
    Column("peak_rise_mib", "+MiB", 0, in_terminal=False),
]

EXPLANATION = (
    "Mean ± standard deviation over seeds, '-' where nothing was measured; methods sorted by NLL. NLL in "
    "nats per test example of the averaged predictive ('single': mean over single samples); ECE with 15 "
    "equal-width bins; sd gap, sd data: standard deviation of the function in the middle of the gap and "
    "at the training inputs, without observation noise. TV and agreement compare the predictive with the "
    "long HMC reference run (last line, where stored). AUROC, FPR95: out-of-distribution detection by the entropy "
    "of the averaged predictive, mean over the near and the far sets, which are the positive class; FPR95 is the "
    "share of test examples flagged when 95 % of the others are found. shifted: mean over all kinds and "
    "strengths of shift. fit s and gradients are the method's own, on top "
    "of the shared MAP; a gradient is one pass over all training data for one weight vector, a Hessian-vector product "
    "counts as two, an energy alone as a third. predict s is"
    " for the whole test set; +MiB is the memory that the fit added to the process at its peak."
)
SHORT = (
    "Mean±standard deviation over seeds, lowest NLL first; fit s and gradients are on top of the MAP. More: table.md"
)


def timing_note(rows: pd.DataFrame) -> str:
    """Return a sentence that says beside what the seconds were measured; "" for rows that do not tell."""
    counts = rows.get("timing", pd.Series(dtype=str)).replace("", pd.NA).value_counts()
    if counts.empty:
        return ""
    how = "; ".join(f"{name} ({count} rows)" for name, count in counts.items())
    return f"Seconds were measured by: {how}. Those of workers that share a machine are upper bounds."


def method_labels(rows: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Return a label for each (method, settings): the name, and the settings that tell its variants apart.

    Settings that are words need no name: laplace[glm, kron]; numbers and truth values keep theirs:
    walk[friction=0.1]. See telling_names for which these are.
    """
    pairs = sorted(set(zip(rows["method"], rows["settings"], strict=True)))
    labels = {}
    for method in {method for method, _ in pairs}:
        variants = {settings: parse_settings(settings) for name, settings in pairs if name == method}
        telling = telling_names(list(variants.values()))
        for settings, variant in variants.items():
            shown = [in_words(name, variant[name]) for name in telling if name in variant]
            labels[method, settings] = f"{method}[{', '.join(shown)}]" if shown else method
    return labels


def task_table(
    rows: pd.DataFrame, labels: dict[tuple[str, str], str], columns: Sequence[Column] = COLUMNS
) -> tuple[list[str], list[list[str]]]:
    """Return headings and lines of one task's table, without columns in which no method has a number.

    Args:
        rows: the rows of one task.
        labels: as method_labels gives them.
        columns: what to show.
    """
    done = rows[rows["status"] == "done"]
    columns = [column for column in columns if column.name in done and done[column.name].notna().any()]
    mean_nll = done.groupby(["method", "settings"])["nll"].mean()
    groups = dict(list(rows.groupby(["method", "settings"])))
    lines = []
    for key in sorted(groups, key=lambda key: (mean_nll.get(key, math.inf), labels[key])):
        every = groups[key]
        finished = every[every["status"] == "done"]
        seeds = str(len(every)) if len(finished) == len(every) else f"{len(finished)} of {len(every)}"
        lines.append(
            [
                labels[key],
                seeds,
                *(mean_and_spread(finished[column.name], column.digits, column.significant) for column in columns),
            ]
        )
    if "nll_hmc" in done and done["nll_hmc"].notna().any():
        once = done.dropna(subset=["nll_hmc"]).drop_duplicates("seed")
        cells = [mean_and_spread(once.get(f"{column.name}_hmc", _NOTHING), column.digits) for column in columns]
        lines.append([REFERENCE, str(len(once)), *cells])
    return ["method", "seeds", *(column.heading for column in columns)], lines


def mean_and_spread(values: pd.Series, digits: int | None = 3, significant: int = 0) -> str:
    """Return "mean ± standard deviation" of the values that are there; of one the value, of none "-".

    `digits` and `significant` are as in Column.
    """
    values = values.dropna()
    if values.empty:
        return MISSING
    mean = float(values.mean())
    if digits is None:
        digits = min(3, _digits_for(mean, 2))
    elif significant:
        digits = max(digits, _digits_for(mean, significant))
    number = f"{mean:z,.{digits}f}"  # z: what rounds to 0 is not -0
    return number if len(values) == 1 else f"{number} ± {values.std(ddof=1):,.{digits}f}"


def _digits_for(mean: float, significant: int) -> int:
    """How many digits after the point give a number so many significant ones."""
    return max(0, significant - 1 - math.floor(math.log10(abs(mean)))) if mean and math.isfinite(mean) else 0


def _tables(
    rows: pd.DataFrame, columns: Sequence[Column] = COLUMNS
) -> Iterator[tuple[str, list[str], list[list[str]], list[str]]]:
    """Title, headings, lines and remarks of every task, in the order of the rows."""
    labels = method_labels(rows)
    for task, group in rows.groupby("task", sort=False):
        headings, lines = task_table(group, labels, columns) if (group["status"] == "done").any() else ([], [])
        yield _title(str(task), group), headings, lines, remarks(group, labels)


def _title(task: str, rows: pd.DataFrame) -> str:
    """The task's name, its sizes, and what the shared MAP cost."""
    done = rows.dropna(subset=["n_params"])
    if done.empty:
        return task
    one = done.iloc[0]
    once = done.drop_duplicates("seed")["map_s"]  # all methods of a seed share it
    sizes = f"{one['n_train']:.0f} training and {one['n_test']:.0f} test examples, {one['n_params']:.0f} weights"
    return f"{task} ({sizes}; MAP {mean_and_spread(once, None)} s)"


def print_tables(rows: pd.DataFrame, console: Console) -> None:
    """Print one rich table per task, with the columns that a terminal has room for."""
    columns = [column for column in COLUMNS if column.in_terminal]
    for title, headings, lines, notes in _tables(rows, columns):
        console.print(f"\n{title}", style="bold", markup=False, highlight=False)
        if lines:
            table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for heading in headings:
                first = heading == "method"
                table.add_column(heading, justify="left" if first else "right", no_wrap=first, overflow="fold")
            for line in lines:
                # No blanks around ±, for width; and laplace[kron] is no markup.
                table.add_row(*(escape(cell.replace(" ± ", "±")) for cell in line))
            console.print(table)
        for note in notes:
            console.print(note, markup=False, highlight=False)
    console.print(f"\n{SHORT}", style="dim", highlight=False)


def markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]], n_left: int = 1) -> str:
    """Return a Markdown table, the first `n_left` columns to the left, the others to the right; "" without lines.

    Cells are Markdown, in which a bare | is escaped; for text that is none see text_table.
    """
    rule = ["---" if i < n_left else "---:" for i in range(len(headings))]
    cells = [headings, rule, *lines] if lines else []
    return "\n".join("| " + " | ".join(_BARE_PIPE.sub(r"\\|", cell) for cell in line) + " |" for line in cells)


def text_table(headings: Sequence[str], lines: Sequence[Sequence[str]], n_left: int = 1) -> str:
    """Return a Markdown table of plain text, which it shows as it stands; see markdown_table."""
    return markdown_table(
        [markdown_text(heading) for heading in headings],
        [[markdown_text(cell) for cell in line] for line in lines],
        n_left,
    )


def markdown(rows: pd.DataFrame, title: str) -> str:
    """Return all tables as Markdown."""
    parts = [f"# {title}", EXPLANATION, timing_note(rows)]
    for heading, headings, lines, notes in _tables(rows):
        parts.append(f"## {heading}")
        parts.append(text_table(headings, lines))
        if notes:
            parts.append("\n".join(f"- {markdown_text(note)}" for note in notes))
    return "\n\n".join(part for part in parts if part) + "\n"
