"""A worked example: the posterior of a convolutional net with batch norm, on scikit-learn's handwritten digits.

`python docs/example_digits.py` trains three small networks the ordinary way, turns them into one posterior, with
frozen and with refreshed batch norm, tunes and checks it, and asks what it knows about images that are not digits as
it knows them. It does so for three seeds, prints what docs/guide.md quotes, and draws docs/example_digits.png.
No data is downloaded. It needs scikit-learn and matplotlib beside fiberbnn.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from fiberbnn import ClassPredictive, MetricBNN, WalkSchedule

PRIOR_PRECISION = 1.0
BATCH_SIZE = 100


@dataclass(frozen=True)
class Size:
    """How large the example is.

    Attributes:
        n_train: training images.
        epochs: of each network.
        n_models: networks, trained from different initial weights.
        n_particles: particles that walk from each.
        max_steps: steps of a walk.
        n_samples: posterior samples that predictions are averaged over.
    """

    n_train: int = 1000
    epochs: int = 40
    n_models: int = 3
    n_particles: int = 8
    max_steps: int = 200
    n_samples: int = 100


@dataclass(frozen=True, eq=False)
class Digits:
    """Images [N, 1, 8, 8], standardised, and labels [N]; what is odd has no label that could be right or wrong."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    odd: dict[str, Tensor]


def load(seed: int, size: Size) -> Digits:
    """Return a random split of the 1,797 digits, and test images inverted and turned by a quarter."""
    images, labels = load_digits(return_X_y=True)
    raw, y = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    train, val, test = order[: size.n_train], order[1000:1300], order[1300:]
    mean, sd = raw[train].mean(), raw[train].std()

    def scaled(x: Tensor) -> Tensor:
        return (x - mean) / sd

    odd = {"inverted": scaled(16 - raw[test]), "turned by 90°": scaled(raw[test].rot90(1, (2, 3)))}
    return Digits(*((scaled(raw[rows]), y[rows]) for rows in (train, val, test)), odd)


def train(data: Digits, seed: int, epochs: int) -> nn.Module:
    """Return a network trained by an ordinary loop; nothing of fiberbnn is in here."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    loader = DataLoader(TensorDataset(*data.train), batch_size=BATCH_SIZE, shuffle=True)
    # The prior N(0, 1 / PRIOR_PRECISION) as weight decay: the loss is a mean over the data, so the prior is divided by N.
    decay = PRIOR_PRECISION / len(data.train[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def posterior_of(models: list[nn.Module], data: Digits, seed: int, size: Size, batch_norm: str) -> MetricBNN:
    """Return the fitted posterior."""
    posterior = MetricBNN(
        models,
        "classification",
        prior_precision=PRIOR_PRECISION,
        batch_norm=batch_norm,
        batch_size=BATCH_SIZE,
        n_particles=size.n_particles,
        schedule=WalkSchedule(max_steps=size.max_steps),
        seed=seed,
    )
    return posterior.fit(data.train)


def by_ensemble(models: Sequence[nn.Module], x: Tensor) -> ClassPredictive:
    """Return the predictive of the networks themselves, as the library would take it apart."""
    from fiberbnn import Categorical
    from fiberbnn.prediction import Averaging

    with torch.no_grad():
        predictive = Averaging(Categorical()).add(torch.stack([model(x) for model in models])).result()
    assert isinstance(predictive, ClassPredictive)
    return predictive


def scores(predict, data: Digits) -> dict[str, float]:
    """Return accuracy, NLL and ECE on the test images, and how well uncertainty tells the odd ones from these."""
    (x, y), found = data.test, {}
    known = predict(x)
    right = (known.labels == y).float()
    found["accuracy"] = float(right.mean())
    found["NLL"] = float(nn.functional.nll_loss(known.probs.clamp(min=1e-12).log(), y))
    found["ECE"] = ece(known.confidence, right)
    for name, odd in data.odd.items():
        strange = predict(odd)
        for score in ("entropy", "mutual_information"):
            values = torch.cat([getattr(known, score), getattr(strange, score)])
            is_odd = torch.cat([torch.zeros(len(x)), torch.ones(len(odd))])
            found[f"AUROC {name}, {score}"] = float(roc_auc_score(is_odd, values))
    return found


def ece(confidence: Tensor, right: Tensor, n_bins: int = 15) -> float:
    """Return the expected calibration error with bins of equal width."""
    bins = (confidence * n_bins).long().clamp(max=n_bins - 1)
    return sum(
        float((confidence[bins == b].mean() - right[bins == b].mean()).abs() * (bins == b).float().mean())
        for b in bins.unique()
    )
