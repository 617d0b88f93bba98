"""The page of a run: ceilings of the machine, every method against ours, and the walk by particles."""

from __future__ import annotations

import json
from typing import Any

from bench.speed import targets

GIB = 1 << 30


def page(record: dict[str, Any]) -> str:
    """Return Markdown of all that `Record.as_dict` holds."""
    head = ["# Speed", "Made by `nox -s speed`. Machine: " + json.dumps(record["machine"])]
    return "\n\n".join([*head, *body(record)]) + "\n"


def body(record: dict[str, Any]) -> list[str]:
    """Return the parts of the page but for its head."""
    parts = [
        ceilings(record["ceilings"]),
        targets.table_of(record["rows"], on_gpu="capability" in record["machine"]),
        "A row's floor is the bytes that it must move, each read or written once, over the bandwidth of a copy of that "
        "size, or the FLOPs of its matrix products over the rate of a large float32 product, whichever is more; its "
        "share is the floor over the median. Results were compared with float64 before they were timed.",
        table(record["rows"]),
    ]
    if by_particle := walks(record["rows"]):
        parts += ["Of one particle's step of the walk, microseconds by number of particles:", by_particle]
    if failed := [row["name"] for row in record["missing"] if row["reason"] == "failed"]:
        parts.append("Failed, and so without a time: " + ", ".join(failed))
    return [part for part in parts if part]


def ceilings(measured: dict[str, Any]) -> str:
    """Return the sentence about the largest copy and the matrix products."""
    size, copy = max(((int(size), rate) for size, rate in measured["copy_gb_per_s"].items()))
    products = ", ".join(f"{kind} {rate:,.0f} GFLOP/s" for kind, rate in measured["product_gflop_per_s"].items())
    return (
        f"Ceilings, measured in this run: copy {copy:,.1f} GB/s, read and written ({size / GIB:g} GiB); "
        f"matrix product {products}."
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Return Markdown: seconds of each method, how many times ours it takes, and its share of the ceiling.

    Args:
        rows: of one run, as `Record.add` makes them.
    """
    lines = [
        "| what | method | median, ms | quartiles apart, ms | rounds | times ours | rate | share of ceiling |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    ours = {row["group"]: row["median_s"] for row in rows if row["method"] == targets.OURS}
    for group in dict.fromkeys(row["group"] for row in rows):
        for row in (row for row in rows if row["group"] == group):
            ratio = f"{row['median_s'] / ours[group]:.2f}" if group in ours else "-"
            numbers = f"{digits(1e3 * row['median_s'])} | {digits(1e3 * row['iqr_s'])} | {row['rounds']}"
            share = f"{row['floor_s'] / row['median_s']:.0%}"
            lines.append(f"| {group} | {row['method']} | {numbers} | {ratio} | {rate(row)} | {share} |")
    return "\n".join(lines)


def rate(row: dict[str, Any]) -> str:
    """Return GB/s where copying is the floor, GFLOP/s where the matrix products are."""
    if row["bound"] == "copy":
        return f"{digits(row['bytes'] / row['median_s'] / 1e9)} GB/s"
    return f"{digits(row['flops'] / row['median_s'] / 1e9)} GFLOP/s"


def digits(number: float) -> str:
    """Return a number with three digits, or all before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def walks(rows: list[dict[str, Any]]) -> str:
    """Return Markdown: a line for each perceptron and method, a column for each number of particles.

    If calls of several numbers of steps were timed, a line for each.
    """
    walked = [row for row in rows if "particle_steps" in row]
    counts = sorted({row["particles"] for row in walked})
    if not counts:
        return ""
    lines = [
        f"| perceptron | method | {' | '.join(map(str, counts))} | largest over smallest |",
        f"| --- | --- | {'---: | ' * len(counts)}---: |",
    ]
    kinds = {(row["net"], row["method"], targets.steps(row)): {} for row in walked}
    for row in walked:
        found = kinds[row["net"], row["method"], targets.steps(row)]
        found[row["particles"]] = 1e6 * row["median_s"] / row["particle_steps"]
    several = len({n_steps for _, _, n_steps in kinds}) > 1
    for (net, method, n_steps), found in kinds.items():
        cells = " | ".join(digits(found[n]) if n in found else "-" for n in counts)
        flat = f"{max(found.values()) / min(found.values()):.2f}" if len(found) > 1 else "-"
        steps = f", {n_steps} a call" if several else ""
        lines.append(f"| {net} | {method}{steps} | {cells} | {flat} |")
    return "\n".join(lines)
