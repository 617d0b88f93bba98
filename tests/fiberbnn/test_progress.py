"""Progress is shown where it is asked for, and only that needs tqdm; only files need safetensors."""

import os
import subprocess
import sys

import pytest

from fiberbnn.progress import Silent, progress

WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(["tqdm", "safetensors", "triton"]))  # as if they were not installed
import torch
from torch import nn
from fiberbnn import MetricBNN, WalkSchedule, fit_map
x, y = torch.randn(30, 2), torch.randint(0, 2, (30,))
fitted = fit_map(nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)), x, y, "classification")
posterior = MetricBNN(fitted.model, "classification", n_particles=4, schedule=WalkSchedule(max_steps=20, min_warmup=5))
assert posterior.fit((x, y))(x).isfinite().all()
for shown in (lambda: posterior.fit((x, y), progress_bar=True), lambda: posterior.save("never.safetensors")):
    try:
        shown()
    except ImportError as error:
        print(error)
"""


def test_a_library_without_tqdm_safetensors_and_triton_fits_and_predicts(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT], capture_output=True, text=True, timeout=200, check=False,
        cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    bars, files = done.stdout.splitlines()
    assert bars == "progress bars need tqdm: pip install tqdm, or pass progress_bar=False"
    assert "safetensors" in files
    assert not list(tmp_path.iterdir())


def test_a_silent_bar_takes_what_a_shown_one_takes():
    assert isinstance(progress("walk", total=3, shown=False), Silent)
    for shown in (True, False):
        with progress("walk", total=3, shown=shown, unit="batch") as bar:
            bar.total = 4
            bar.update()
            bar.update(2)
            bar.set_postfix({"energy": "1"}, refresh=False)


def test_a_shown_bar_is_shown(capsys):
    with progress("walk", total=3, shown=True) as bar:
        bar.update(3)
    assert "walk: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("shown", [True, False])
def test_errors_pass_through(shown):
    with pytest.raises(KeyError), progress("walk", total=3, shown=shown):
        raise KeyError
