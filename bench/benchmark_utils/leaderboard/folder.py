"""Writes the leaderboard's folder: all files beside it first, and only when all are there in its place."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from benchmark_utils.leaderboard.board import make_board, without_single_sets
from benchmark_utils.leaderboard.figures import draw_pareto, draw_ranks
from benchmark_utils.leaderboard.headline import draw_headline, headline_markdown, make_headline
from benchmark_utils.leaderboard.hub import dataset_card, eval_result_files
from benchmark_utils.leaderboard.long_table import long_table
from benchmark_utils.leaderboard.page import page
from benchmark_utils.leaderboard.quantities import metric_quantities
from benchmark_utils.leaderboard.schema import row_schema
from benchmark_utils.leaderboard.texts import leaderboard_markdown
from benchmark_utils.report.ood_table import ood_markdown


def write_leaderboard(rows_by_run: Mapping[str, pd.DataFrame], folder: Path, hub_id: str) -> list[str]:
    """Write every file of the leaderboard, in place of what was in `folder`, and return their names.

    Args:
        rows_by_run: as make_board takes them.
        folder: beside the runs' folders, to which its files link.
        hub_id: of the dataset on Hugging Face's hub that the folder is to be, OWNER/NAME.

    Raises:
        ValueError: if `folder` holds anything but a leaderboard.
        OSError: if it cannot be written; what was there stays.
    """
    _refuse_other(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        new = Path(name) / "new"
        new.mkdir()
        _fill(new, rows_by_run, hub_id)
        if folder.exists():
            folder.rename(Path(name) / "old")
        try:
            new.rename(folder)
        except OSError:
            (Path(name) / "old").rename(folder)
            raise
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _refuse_other(folder: Path) -> None:
    """Refuse a folder whose files are not a leaderboard's: they would be gone."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    marks = all((folder / name).is_file() for name in ("rows.schema.json", "leaderboard.csv"))
    if not marks or (folder / "rows.parquet").exists():
        raise ValueError(
            f"{folder} holds something else than a leaderboard, which would be lost: give a folder that is new or "
            "empty with --output"
        )


def _fill(folder: Path, rows_by_run: Mapping[str, pd.DataFrame], hub_id: str) -> None:
    """Write every file to an empty folder."""
    board = make_board(rows_by_run)
    shown = without_single_sets(board)
    columns = {column for rows in rows_by_run.values() for column in rows.columns}
    headline = make_headline(rows_by_run, metric_quantities(columns))
    table = long_table(shown)
    table.to_csv(folder / "leaderboard.csv", index=False, lineterminator="\n", float_format="%.9g")
    table.to_parquet(folder / "leaderboard.parquet", index=False)
    ood = "\n".join(
        text
        for run, rows in rows_by_run.items()
        if (text := ood_markdown(rows, f"Out-of-distribution detection: {run}"))
    )
    texts = {
        "README.md": dataset_card(board, hub_id),
        "headline.md": headline_markdown(headline) if headline else "",
        "index.html": page(shown),
        "leaderboard.md": leaderboard_markdown(board),
        "ood.md": ood,
        "rows.schema.json": json.dumps(row_schema(), indent=2) + "\n",
        **{f".eval_results/{name}": text for name, text in eval_result_files(board, hub_id).items()},
    }
    (folder / ".eval_results").mkdir()
    for name, text in texts.items():
        if text:
            (folder / name).write_text(text, encoding="utf-8")
    figures = {
        "headline.png": draw_headline(headline) if headline else None,
        "ranks.png": draw_ranks(board),
        "pareto.png": draw_pareto(board),
    }
    for name, figure in figures.items():
        if figure is not None:
            figure.savefig(folder / name)
            plt.close(figure)
