"""Python in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path


def run_python(*arguments: str, **environment: str) -> str:
    """Run Python with this process's import path; fail with its output if it fails."""
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
