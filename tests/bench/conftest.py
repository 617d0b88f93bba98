"""A whole benchmark in a temporary folder: the real objective and plots, a tiny task, methods as needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"

TINY_TASK = '''
    import torch
    from benchmark_utils.tasks.task import Task
    from benchopt import BaseDataset

    class Dataset(BaseDataset):
        """Twelve points on a line, with a gap in the middle."""

        name = "tiny"
        parameters = {"seed": [0, 1]}

        def get_data(self):
            x = torch.cat([torch.linspace(-2, -1, 6), torch.linspace(1, 2, 6)])[:, None]
            y = x.sin() + 0.1 * torch.randn(12, 1, generator=torch.Generator().manual_seed(self.seed))
            return dict(task=Task(
                name="tiny", kind="regression", x_train=x, y_train=y, x_test=x + 0.05, y_test=y,
                widths=(1, 3, 1), activation="tanh", seed=self.seed, sha256="abc", expected_sha256="abc",
                source="here", licence="none", citation="none", noise_std=0.1,
                x_plot=torch.linspace(-3, 3, 31)[:, None],
            ))
'''

TINY_PLANE = '''
    import torch
    from benchmark_utils.tasks.task import Task
    from benchopt import BaseDataset

    class Dataset(BaseDataset):
        """Two classes in the plane."""

        name = "plane"
        parameters = {"seed": [0]}

        def get_data(self):
            x = torch.randn(20, 2, generator=torch.Generator().manual_seed(self.seed))
            y = (x.sum(1) > 0).long()
            return dict(task=Task(
                name="plane", kind="classification", x_train=x, y_train=y, x_test=x, y_test=y,
                widths=(2, 3, 2), activation="tanh", seed=self.seed, sha256="abc", expected_sha256="abc",
                source="here", licence="none", citation="none",
            ))
'''

# Draws around the MAP; each run adds a line to a file beside the benchmark, so that runs can be counted.
NOISY_METHOD = '''
    from pathlib import Path

    import torch
    from benchmark_utils.metrics.prediction import Prediction
    from benchopt import BaseSolver
    from fiberbnn import Network

    class Solver(BaseSolver):
        """The MAP with noise on its weights."""

        name = "{name}"
        sampling_strategy = "run_once"
        parameters = {{"sd": {sds}}}

        def set_objective(self, task, map_fit):
            self.task, self.map_fit, self.network = task, map_fit, Network(map_fit.model)

        def run(self, _):
            with open(Path(__file__).parents[1] / "executions.txt", "a") as file:
                print(self, self.task.name, self.task.seed, file=file)
            generator = torch.Generator().manual_seed(self.task.seed)
            weights = self.map_fit.weights
            self.weights = weights + self.sd * torch.randn(8, len(weights), generator=generator)

        def predict(self, x):
            outputs = self.network(self.weights, x)
            if self.task.kind == "classification":
                return Prediction(log_probs=outputs.log_softmax(-1))
            mean = outputs[..., 0]
            return Prediction(mean=mean, variance=torch.full_like(mean, self.task.noise_std**2))

        def get_result(self):
            return dict(
                predict=self.predict, sample_weights=lambda n: self.weights[:n],
                cost=dict(grad_evals=3, hvp_evals=0), info=dict(friction=0.5),
            )
'''


class TinyBenchmark:
    """A benchmark folder to add files to, and to run with bench/run.py."""

    def __init__(self, folder: Path, output: Path) -> None:
        self.folder, self.output = folder, output
        for name in ("datasets", "solvers"):
            (folder / name).mkdir(parents=True)
        for name in ("objective.py", "config.yml"):
            shutil.copy(BENCH / name, folder / name)
        for name in ("benchmark_utils", "plots"):
            (folder / name).symlink_to(BENCH / name)
        self.config = folder / "tiny.yml"
        self.config.write_text("no-timeout: true\n")
        self.add("datasets/tiny.py", TINY_TASK)

    def add(self, path: str, text: str) -> None:
        """Write a file of the benchmark."""
        (self.folder / path).write_text(dedent(text))

    def add_noisy(self, name: str = "noisy", sds: tuple[float, ...] = (0.01,)) -> None:
        """Add a method that works."""
        self.add(f"solvers/{name}.py", NOISY_METHOD.format(name=name, sds=list(sds)))

    def executions(self) -> list[str]:
        """Return a line for each time that a noisy method really ran."""
        path = self.folder / "executions.txt"
        return path.read_text().splitlines() if path.exists() else []

    def left_over(self) -> list[str]:
        """Return what lies in the results folder and is no result."""
        return sorted(path.name for path in self.output.parent.rglob(".*"))

    def forget(self) -> None:
        """Throw away what is finished."""
        shutil.rmtree(self.folder / "__cache__")

    def command(self, *arguments: str) -> list[str]:
        """Return what Python is given to run it."""
        folders = ["--bench", str(self.folder), "--output", str(self.output)]
        return [str(BENCH / "run.py"), str(self.config), *folders, *arguments]

    def run(self, *arguments: str) -> int:
        """Run it in a process of its own, as its users do; return the exit code, keep what it said."""
        done = subprocess.run(
            [sys.executable, *self.command(*arguments)], capture_output=True, text=True, timeout=900, check=False,
            env=os.environ | {"COLUMNS": "200"},
        )  # fmt: skip
        self.printed, self.said = done.stdout, done.stderr
        print(done.stdout, done.stderr)  # for whoever reads why a test failed
        return done.returncode


@pytest.fixture
def tiny(tmp_path: Path) -> TinyBenchmark:
    """A benchmark with one task of two seeds and no methods yet."""
    return TinyBenchmark(tmp_path / "bench", tmp_path / "results" / "tiny")


@pytest.fixture
def plane() -> str:
    """A second task, of two classes in the plane."""
    return TINY_PLANE
