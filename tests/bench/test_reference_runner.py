"""bench/reference.py on a tiny task: what it stores, and that it goes on where it stopped."""

import numpy as np
import pytest
import torch

pytest.importorskip("jax", reason="NUTS needs jax (extra hmc)")
pytest.importorskip("blackjax", reason="NUTS needs blackjax (extra hmc)")

import reference

from benchmark_utils.data.sources import MissingDataError
from benchmark_utils.rows.reference import load_reference, reference_path
from benchmark_utils.tasks.task import Task


def tiny_task(name: str, seed: int) -> Task:
    generator = torch.Generator().manual_seed(seed)
    x = torch.linspace(-2, 2, 20)[:, None]
    noise = 0.3 * torch.randn(20, 1, generator=generator)
    if name == "absent":
        raise MissingDataError("the data is not at hand")
    regression = name == "line"
    y = x.sin() + noise if regression else (x + noise > 0)[:, 0].long()
    return Task(
        name, "regression" if regression else "classification", x[::2], y[::2], x[1::2], y[1::2],
        (1, 3, 1 if regression else 2), "tanh", seed, "ab" * 32, "ab" * 32, "generated", "none", "none",
        noise_std=0.3 if regression else None,
        x_plot=torch.linspace(-3, 3, 7)[:, None] if regression else None,
    )  # fmt: skip


@pytest.fixture
def tiny_tasks(monkeypatch):
    monkeypatch.setattr(reference, "load_task", tiny_task)
    monkeypatch.setattr(reference, "TASKS", {"line": None, "classes": None, "absent": None})
    short = reference.Settings(chains=2, n_warmup=100, n_draws=100, max_tree_depth=5)
    monkeypatch.setattr(reference, "SETTINGS", {"line": short, "classes": short})


@pytest.mark.slow
def test_runs_are_stored_once_and_what_is_missing_is_said(tiny_tasks, tmp_path, capsys, monkeypatch):
    assert reference.main(["--seeds", "0", "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "absent, seed 0: the data is not at hand" in " ".join(said.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes-0.npz", "line-0.npz"]

    found = load_reference(tiny_task("line", 0), tmp_path)
    assert found.about["settings"]["chains"] == 2
    assert found.about["cost"]["grad_evals"] > 2 * 200
    assert np.isfinite(list(found.about["scores"].values())).all()
    # The posterior spreads less at the data than far outside.
    assert found.arrays["plot_sd"][0] > found.arrays["train_sd"].mean()
    # The stored quantiles stand for the draws' own moments.
    mean, _ = found.prediction().moments()
    np.testing.assert_allclose(mean, found.arrays["test_mean"], atol=0.02)
    classes = load_reference(tiny_task("classes", 0), tmp_path)
    assert classes.arrays["probs"].shape == (10, 2)
    assert 0 <= classes.about["diagnostics"]["tv_chain"] < 0.1

    monkeypatch.setattr(reference, "make_reference", None)  # a second run would call it and fail
    assert reference.main(["--seeds", "0", "--output", str(tmp_path)]) == 0
    assert "wrote" not in capsys.readouterr().out


def test_a_file_of_other_data_is_not_overwritten_unasked(tiny_tasks, tmp_path, capsys):
    assert reference.main(["classes", "--seeds", "0", "--output", str(tmp_path)]) == 0
    path = reference_path("classes", 1, tmp_path)
    path.write_bytes(reference_path("classes", 0, tmp_path).read_bytes())
    before = path.read_bytes()
    capsys.readouterr()
    assert reference.main(["classes", "--seeds", "1", "--output", str(tmp_path)]) == 1
    assert "--force" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert reference.main(["classes", "--seeds", "1", "--output", str(tmp_path), "--force"]) == 0
    assert load_reference(tiny_task("classes", 1), tmp_path).about["identity"]["seed"] == 1


def test_show_makes_nothing(tiny_tasks, tmp_path):
    assert reference.main(["--show", "--output", str(tmp_path)]) == 0
    assert list(tmp_path.iterdir()) == []


def test_unknown_task_is_refused(tiny_tasks, capsys):
    with pytest.raises(SystemExit):
        reference.main(["nosuch"])
    assert "no task nosuch; there are line, classes, absent" in capsys.readouterr().err
