"""What MetricBNN is meant to reach on images, against MAP, last-layer Laplace, SWAG and an ensemble of five."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from benchmark_utils.report.images import mean_auroc, ood_sets
from benchmark_utils.report.table import MISSING, mean_and_spread, method_labels, text_table
from benchmark_utils.report.training_time import total_gradients

OURS = ("metricbnn", "walk")


@dataclass(frozen=True)
class Rival:
    """A method to compare with.

    Attributes:
        name: in the table.
        chosen: whether a row, by method and settings, belongs to it.
        nll: how far our NLL may lie above its NLL, nats.
        auroc: how far our AUROC may lie below its AUROC.
        no_dearer: whether our gradients may not be more than its own.
    """

    name: str
    chosen: Callable[[str, str], bool]
    nll: float = 0.0
    auroc: float = 0.0
    no_dearer: bool = False


RIVALS = (
    Rival("MAP", lambda method, _: method == "map"),
    Rival("last-layer Laplace", lambda method, settings: method == "laplace" and "structure=last_layer" in settings),
    Rival("SWAG", lambda method, _: method == "swag"),
    Rival(
        "ensemble of 5",
        lambda method, settings: method == "ensemble" and (not settings or "members=5" in settings.split(",")),
        nll=0.02,
        auroc=0.01,
        no_dearer=True,
    ),
)

EXPLANATION = (
    "Ours minus the rival's, paired by seed, mean ± standard deviation over seeds; a target is reached if the mean "
    "difference lies in the range. Of a rival's variants the best one is taken, for NLL and for AUROC separately. "
    "AUROC: mean over all out-of-distribution sets of the task, score entropy of the averaged predictive. Gradients: "
    "passes over all training data for one weight vector (a Hessian-vector product counts as two, an energy alone as a "
    "third), the training of the MAP or MAPs included; the rival's are "
    "those of its variant with the best NLL."
)
HEAD = ["ours", "against", "seeds", "NLL − rival's", "", "AUROC − rival's", "", "gradients", "rival's"]


def image_targets(rows: pd.DataFrame) -> str:
    """Return Markdown: for each task with out-of-distribution sets a line for each of ours and each rival.

    Args:
        rows: of a whole run, as in rows.parquet.

    Returns:
        "" if there is no such task on which one of ours and a rival finished.
    """
    labels = method_labels(rows)
    parts = []
    for task, group in rows[rows["status"] == "done"].groupby("task", sort=False):
        if not (sets := ood_sets(group)):
            continue
        group = group.assign(auroc=mean_auroc(group), gradients=total_gradients(group))
        variants = dict(list(group.groupby(["method", "settings"])))
        ours = [key for method in OURS for key in variants if key[0] == method]
        lines = [
            _line(labels[key], variants[key], rival, [variants[other] for other in variants if rival.chosen(*other)])
            for key in ours
            for rival in RIVALS
        ]
        if any(line[2] != MISSING for line in lines):
            table = text_table(HEAD, lines, n_left=2)
            parts.append(f"## {task} (against {', '.join(sets)})\n\n{table}")
    return "\n\n".join([*parts, EXPLANATION]) if parts else ""


def _line(label: str, own: pd.DataFrame, rival: Rival, variants: list[pd.DataFrame]) -> list[str]:
    """Cells of one comparison; "-" where the rival did not finish on any of our seeds."""
    differences = {
        name: [(own.set_index("seed")[name] - other.set_index("seed")[name]).dropna() for other in variants]
        for name in ("nll", "auroc")
    }
    nll = max((found for found in differences["nll"] if len(found)), key=pd.Series.mean, default=None)
    auroc = min((found for found in differences["auroc"] if len(found)), key=pd.Series.mean, default=None)
    if nll is None or auroc is None:
        return [label, rival.name, *[MISSING] * 7]
    best = min(variants, key=lambda other: other["nll"].mean())
    gradients, dear = own["gradients"].mean(), best["gradients"].mean()
    dearer = rival.no_dearer and gradients > dear
    below, above = f"≤ {rival.nll:g}", f"≥ {0 - rival.auroc:g}"
    return [
        label,
        rival.name,
        str(len(nll)),
        _signed(nll),
        _verdict(nll.mean() <= rival.nll, dearer, below),
        _signed(auroc),
        _verdict(auroc.mean() >= -rival.auroc, dearer, above),
        f"{gradients:,.0f}",
        f"{dear:,.0f}",
    ]


def _signed(values: pd.Series) -> str:
    """Mean and spread with a sign."""
    text = mean_and_spread(values)
    return text if text.startswith("-") else f"+{text}"


def _verdict(reached: bool, dearer: bool, aim: str) -> str:
    """Whether a target is reached, in words."""
    if not reached:
        return f"{aim}: no !"
    return f"{aim}: but at more gradients !" if dearer else f"{aim}: yes"
