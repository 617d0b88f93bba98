"""docs/leaderboard.md is followed to the letter, with its toy method in a folder outside the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "leaderboard.md"

# What the sessions do, in the environment that the test runs in already.
NOX = f"""
set -euo pipefail
nox() {{
    local session="$2"; shift 3
    case "$session" in
        bench) "{sys.executable}" bench/run.py "$@" ;;
        export) "{sys.executable}" bench/export.py "$@" ;;
    esac
}}
"""


def blocks(language: str) -> list[str]:
    """The page's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_page_leads_from_a_method_to_rows_that_pass(tmp_path):
    # A root of its own, whose parent can be written to: the page puts its folders beside the repository.
    root = tmp_path / "repository"
    root.mkdir()
    for name in ("bench", "results", "docs"):
        (root / name).symlink_to(ROOT / name)
    text = PAGE.read_text(encoding="utf-8")
    (method,) = blocks("python")
    where = re.search(r"Write `\.\./(\S+)`", text)
    make_folder, *commands = blocks("sh")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels"), str(ROOT / "bench")])}

    def follow(script: str) -> str:
        done = subprocess.run(
            ["bash", "-c", NOX + script], cwd=root, env=environment, capture_output=True, text=True, timeout=300
        )
        print(done.stdout, done.stderr)
        assert done.returncode == 0
        return done.stdout

    follow(make_folder)
    (tmp_path / where[1]).write_text(method)
    said = [follow(command) for command in commands]

    rows = pd.read_parquet(tmp_path / "my-results" / "rows.parquet")
    assert list(rows["seed"]) == [0, 1, 2]
    assert set(rows["method"]) == {"map-noise"}
    assert set(rows["status"]) == {"done"}
    assert rows["accuracy"].min() > 0.9  # noise this small leaves the MAP's quality
    assert "3 rows, nothing to mend" in said[-1]
    assert not list((ROOT / "bench" / "solvers").glob("map_noise*"))


def test_every_file_and_section_that_the_page_names_is_there():
    text = PAGE.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!http)([^)#]+)(?:#([^)]*))?\)", text):
        path = PAGE.parent / target
        assert path.is_file(), target
        headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert anchor in {"", *(heading.lower().replace(" ", "-") for heading in headings)}
