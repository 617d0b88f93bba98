"""What no schema of one row can tell: duplicates, tasks and their content, seeds, scores that contradict each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd

from benchmark_utils.leaderboard.violations import Problem
from benchmark_utils.report.rows import KEY
from benchmark_utils.tasks.known import KnownTask

ROUND_OFF = 1e-6
# The averaged predictive is never worse than its samples are on average: these scores are convex (Jensen).
CONVEX = ("nll", "brier", "rmse", "crps")
SHARES = ("accuracy", "coverage90")  # of the test examples
SIZES = ("n_train", "n_test", "n_params")

Rule = Callable[[pd.DataFrame, Mapping[str, KnownTask], Mapping[str, pd.DataFrame]], Iterator[Problem]]


def one_suite(rows: pd.DataFrame, _tasks: object, _runs: object) -> Iterator[Problem]:
    """All rows are of one suite version."""
    versions = rows["suite_version"][rows["suite_version"] != ""].value_counts()
    if len(versions) > 1:
        rare = rows["suite_version"].isin(versions.index[1:])
        counts = ", ".join(f"{n} rows of {version!r:.20}" for version, n in versions.items())
        yield Problem(
            f"suite versions are mixed: {counts}", "split the file, and run the older rows again", _numbers(rare)
        )


def no_duplicates(rows: pd.DataFrame, _tasks: object, runs: Mapping[str, pd.DataFrame]) -> Iterator[Problem]:
    """No row comes twice, here or in the repository."""
    repeated = rows.duplicated(KEY, keep=False)
    for key, group in rows[repeated].groupby(KEY, sort=False):
        yield Problem(f"{_named(key)} comes {len(group)} times", "keep one row", _numbers(group.index))
    for run, others in runs.items():
        known = pd.MultiIndex.from_frame(_plain_keys(others))
        again = pd.MultiIndex.from_frame(rows[KEY]).isin(known)
        if again.any():
            first = _named(tuple(rows.loc[again, KEY].iloc[0]))
            yield Problem(
                f"the leaderboard has {again.sum()} of these rows already, in results/{run}, such as {first}",
                "leave them out; another method or variant needs another name or other settings",
                _numbers(again),
            )


def known_content(rows: pd.DataFrame, tasks: Mapping[str, KnownTask], _runs: object) -> Iterator[Problem]:
    """Tasks are the benchmark's, of their kind, and made of the content that they stand for."""
    for name, group in rows.groupby("task", sort=False):
        if name not in tasks:
            yield Problem(
                f"there is no task {name!r:.70}; there are {', '.join(tasks)}",
                "correct the name, or propose the task first: docs/leaderboard.md says how",
                _numbers(group.index),
            )
            continue
        # Diverged rows count in the ranks; those of earlier commands do not say what data they were of.
        task, done = tasks[str(name)], group[(group["status"] == "done") | _told_divergence(group)]
        if (wrong := done["kind"] != task.kind).any():
            yield Problem(f"{name} is of kind {task.kind}", "correct the kind", _numbers(done.index[wrong]))
        if task.sha256 is None:
            continue
        if (other := done["dataset_sha256"] != task.sha256).any():
            yield Problem(
                f"dataset_sha256 is not that of {name}, {task.sha256}: the numbers are of other data",
                "run on the data that the task names; FIBERBNN_DATA may point to a changed copy",
                _numbers(done.index[other]),
            )
        if (denied := ~other & ~done["dataset_matches"].isin([1, True, "True", "1", "1.0"])).any():
            yield Problem(
                f"dataset_matches is false, but dataset_sha256 is that of {name}",
                "take both from the run as it wrote them",
                _numbers(done.index[denied]),
            )


def _told_divergence(rows: pd.DataFrame) -> pd.Series:
    """Which rows diverged and say on what data."""
    return (rows["status"] == "diverged") & (rows["dataset_sha256"].fillna("") != "")


def same_sizes(rows: pd.DataFrame, _tasks: object, runs: Mapping[str, pd.DataFrame]) -> Iterator[Problem]:
    """A task has one network and one split, whose sizes the repository's rows tell."""
    sized = rows[(rows["status"] == "done") | _told_divergence(rows)]
    for column in SIZES:
        for name, values in sized.groupby("task", sort=False)[column]:
            known = {
                float(value)
                for others in runs.values()
                for value in others.loc[(others["task"] == name) & (others["status"] == "done"), column]
            }
            wrong = values[~values.isin(known) & values.notna()]
            if known and len(wrong):
                yield Problem(
                    f"{column} of {name} is {wrong.iloc[0]:g}, where it is {' or '.join(f'{v:g}' for v in known)}",
                    "run the whole task as it is, network and split",
                    _numbers(wrong.index),
                )


def all_seeds(rows: pd.DataFrame, _tasks: object, runs: Mapping[str, pd.DataFrame]) -> Iterator[Problem]:
    """A method brings every seed of some run of the task, so that it can be compared over the same splits."""
    for (task, method, settings), group in rows.groupby(KEY[:-1], sort=False):
        seeds = set(group["seed"].dropna().astype(int))
        wanted = [set(own) for others in runs.values() if len(own := others.loc[others["task"] == task, "seed"])]
        if wanted and not any(run <= seeds for run in wanted):
            missing = sorted(min(wanted, key=len) - seeds)
            yield Problem(
                f"{_named((task, method, settings))} lacks seed {', '.join(map(str, missing))}",
                "run these too; a run that failed is a row with status failed and its reason",
                _numbers(group.index),
            )


def possible_scores(rows: pd.DataFrame, _tasks: object, _runs: object) -> Iterator[Problem]:
    """Scores of one predictive on one test set do not contradict each other."""
    done = rows[rows["status"] == "done"]
    mend = "take all scores from one run as it wrote them"
    for name in CONVEX:
        worse = done[name] > done[f"{name}_single"] + ROUND_OFF * (1 + done[name].abs())
        if worse.any():
            what = f"{name} is above {name}_single, which no average of predictives can be"
            yield Problem(what, mend, _numbers(done.index[worse]))
    # A wrong top class leaves the label at most half of the probability.
    wrong = 1 - done["accuracy"]
    of_classes = done["kind"] == "classification"
    for name, least in (("nll", wrong * math.log(2)), ("brier", wrong / 2)):
        if (below := of_classes & (done[name] < least - ROUND_OFF)).any():
            yield Problem(
                f"{name} is lower than the accuracy allows: every error costs at least "
                f"{'log 2 nats' if name == 'nll' else '1/2'}",
                mend,
                _numbers(done.index[below]),
            )
    for name in SHARES:
        hits = done[name] * done["n_test"]
        if (broken := (hits - hits.round()).abs() > 1e-3).any():
            what = f"{name} is not a share of n_test examples: {name} times n_test is no whole number"
            yield Problem(what, mend, _numbers(done.index[broken]))


def counted_gradients(rows: pd.DataFrame, _tasks: object, _runs: object) -> Iterator[Problem]:
    """The gradients are the sum of what they stand for, where a row has all parts."""
    total = rows["grad_evals"] + 2 * rows["hvp_evals"] + rows["energy_evals"] / 3
    off = (rows["gradients"] - total).abs() > ROUND_OFF * (1 + total.abs())
    if (wrong := off & (rows["status"] == "done")).any():
        yield Problem(
            "gradients is not grad_evals + 2 hvp_evals + energy_evals / 3",
            "take all counts from one run as it wrote them",
            _numbers(wrong),
        )


RULES: tuple[Rule, ...] = (
    one_suite, no_duplicates, known_content, same_sizes, all_seeds, possible_scores, counted_gradients,
)  # fmt: skip
NUMBERS = (
    "seed", *SIZES, *SHARES, *CONVEX, *(f"{name}_single" for name in CONVEX),
    "gradients", "grad_evals", "hvp_evals", "energy_evals",
)  # fmt: skip
TEXTS = ("suite_version", "task", "method", "settings", "status", "kind", "dataset_sha256")


def comparable(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that the rules read: text without gaps and numbers, NaN where there is none."""
    plain = {name: rows[name].map(_text) if name in rows else "" for name in TEXTS}
    numbers = {name: _finite(rows[name]) if name in rows else np.nan for name in NUMBERS}
    matches = {"dataset_matches": rows.get("dataset_matches", np.nan)}
    return pd.DataFrame({**plain, **numbers, **matches}, index=pd.RangeIndex(len(rows)))


def _text(value: object) -> str:
    """Text as it is, anything else as none."""
    return value if isinstance(value, str) else ""


def _finite(values: pd.Series) -> pd.Series:
    """Numbers, NaN for what is none, or infinite, or too large for a seed or a score."""
    numbers = pd.to_numeric(values.astype(object).where(values.notna(), np.nan), errors="coerce").astype(float)
    return numbers.where(numbers.abs() < 1e15)


def _plain_keys(rows: pd.DataFrame) -> pd.DataFrame:
    """The key of each row, with the seed as the rules have it."""
    return rows[KEY].astype({"seed": float})


def _numbers(which: pd.Series | pd.Index | np.ndarray) -> tuple[int, ...]:
    """Row numbers, from 1, of an index or of what is true."""
    places = which if isinstance(which, pd.Index) else np.flatnonzero(np.asarray(which))
    return tuple(int(place) + 1 for place in places)


def _named(key: tuple[object, ...]) -> str:
    """A row's key, or its first parts, in words."""
    pairs = zip(KEY, key, strict=False)
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value!r:.120}" for name, value in pairs
    )
