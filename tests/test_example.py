"""What the documents show, run: the worked example, and the Python snippets of README.md and docs/guide.md."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fiberbnn
from fiberbnn import AutoencoderSettings, LatentSettings, MetricBNN, WalkSchedule

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.filterwarnings(
    "ignore:the model is not at a minimum",
    "ignore:the walk's energy",
    "ignore:the noise of minibatches heats",
    "ignore:the walk's velocities are too hot",
    "ignore:decoded samples are hotter",
    "ignore:.*of the walk's steps were undone",
    "ignore:.*particles could not move",
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Quick(MetricBNN):
    """The same with less to do, where a snippet leaves the settings to the library."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        autoencoder = AutoencoderSettings(steps=2, max_steps=2, decay_steps=1, batch_points=2, batch_inputs=4)
        schedule = WalkSchedule(max_steps=12, min_warmup=4, n_snapshots=4)
        less = {"n_particles": 3, "schedule": schedule, "latent": LatentSettings(autoencoder=autoencoder)}
        super().__init__(*args, **(less | settings))


def snippets(document: str) -> list[str]:
    """Python blocks of a document, in order."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def conv_net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5)
    )


@pytest.fixture
def names(monkeypatch, tmp_path) -> dict[str, Any]:
    """What snippets take for given, small; files go to a temporary folder."""
    monkeypatch.setattr(fiberbnn, "MetricBNN", Quick)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    x, y = torch.randn(160, 3, 8, 8), torch.randint(5, (160,))
    return {
        "train_x": x[:128],
        "train_y": y[:128],
        "train_loader": DataLoader(TensorDataset(x[:128], y[:128]), batch_size=32, shuffle=True),
        "val_loader": DataLoader(TensorDataset(x[128:], y[128:]), batch_size=32),
        "x": x[:6],
        "images": x[:6],
        "model": conv_net(0),
        "resnet": conv_net(0),
        "another_model": conv_net(1),
        "regressor": nn.Linear(3, 2),
        "two_headed": nn.Linear(3, 4),
        "weight_decay": 0.1,
        "n_train": 128,
    }


def run(code: str, names: dict[str, Any], document: str) -> None:
    exec(compile(code, f"snippet of {document}", "exec"), names)


def test_snippets_of_the_readme_run_on_a_convolutional_net(names):
    found = snippets("README.md")
    assert any("subset=" in code for code in found)
    for code in found:
        run(code, names, "README.md")
    assert names["probs"].shape == (6, 5)
    assert torch.allclose(names["found"].probs.sum(-1), torch.ones(6))
    assert Path("posterior.safetensors").exists()


def test_snippets_of_the_guide_run_in_their_order(names, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    for code in snippets("docs/guide.md"):
        run(code, names, "docs/guide.md")
    assert names["probs"].shape == (6, 5)
    assert names["last"].network.n_params == 16 * 5 + 5
    assert len(names["posterior"].modes) == 1, "the last snippet fits one model"


def test_snippets_on_the_kernels_run():
    names: dict[str, Any] = {}
    for code in snippets("docs/kernels.md"):
        run(code, names, "docs/kernels.md")
    assert names["sums"].probs.shape == (50, 3)


def test_worked_example_runs_and_tells_odd_images_apart(monkeypatch, tmp_path, capsys):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(ROOT / "docs")
    import example_digits

    figure = tmp_path / "figure.png"
    monkeypatch.setattr(sys, "argv", ["example_digits.py", "--tiny", "--figure", str(figure)])
    example_digits.main()
    printed = capsys.readouterr().out
    assert figure.stat().st_size > 0
    rows = dict(re.findall(r"^\| (\w[\w, ]*\w) \| (.+) \|$", printed, re.MULTILINE))
    assert list(rows) == [
        "one network", "ensemble", "posterior, one network", "posterior, frozen", "posterior, refresh",
        "posterior, tuned",
    ]  # fmt: skip
    numbers = {name: [float(cell) for cell in row.split(" | ")] for name, row in rows.items()}
    assert all(0.0 <= accuracy <= 1.0 and 0.0 < nll < 5.0 for accuracy, nll, *_ in numbers.values())
    # One network has no mutual information: every comparison of it is a tie.
    assert numbers["one network"][4] == numbers["one network"][6] == 0.5 != numbers["posterior, frozen"][4]
    assert "largest change of a probability 0.0e+00" in printed
