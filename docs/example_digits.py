"""A worked example: the posterior of a convolutional net with batch norm, on scikit-learn's handwritten digits.

`python docs/example_digits.py` trains three small networks the ordinary way, turns them into one posterior, with
frozen and with refreshed batch norm, checks and tunes it, asks it about images that are no digits as it knows them,
and saves and loads it. `--seeds 0 1 2` makes the table and the figure that docs/guide.md shows. No data is
downloaded; it needs scikit-learn and matplotlib beside fiberbnn.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from fiberbnn import AutoencoderSettings, Categorical, ClassPredictive, LatentSettings, MetricBNN, WalkSchedule
from fiberbnn.averaging import Averaging

BATCH_SIZE = 100
Predict = Callable[[Tensor], ClassPredictive]


@dataclass(frozen=True)
class Setup:
    """What is trained and how long is walked.

    Attributes:
        prior_precision: one over the variance of the prior on each weight.
        n_train: training images, at most 1000.
        epochs: of each network's training.
        n_models: networks, trained from different initial weights.
        n_particles: particles that walk from each.
        max_steps: most steps of a walk.
        latent_steps: training steps of each autoencoder.
        n_samples: posterior samples that predictions are averaged over.
    """

    prior_precision: float = 10.0
    n_train: int = 1000
    epochs: int = 40
    n_models: int = 3
    n_particles: int = 5
    max_steps: int = 290
    latent_steps: int = 60
    n_samples: int = 100


TINY = Setup(n_train=100, epochs=2, n_models=2, n_particles=2, max_steps=16, latent_steps=3, n_samples=6)


@dataclass(frozen=True, eq=False)
class Digits:
    """Standardised images [N, 1, 8, 8] with labels [N], and images without a label that could be right."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    odd: dict[str, Tensor]


def load(seed: int, setup: Setup) -> Digits:
    """Return a random split of the 1,797 digits, and its test images inverted and turned by a quarter."""
    images, labels = load_digits(return_X_y=True)
    raw, y = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    train, val, test = order[: setup.n_train], order[1000:1300], order[1300:]
    mean, sd = raw[train].mean(), raw[train].std()
    odd = {"inverted": 16 - raw[test], "turned": raw[test].rot90(1, (2, 3))}  # pixels go from 0 to 16

    def part(rows: Tensor) -> tuple[Tensor, Tensor]:
        return (raw[rows] - mean) / sd, y[rows]

    return Digits(part(train), part(val), part(test), {name: (x - mean) / sd for name, x in odd.items()})


def train_network(data: Digits, seed: int, setup: Setup) -> nn.Module:
    """Return a network trained by an ordinary loop; nothing of fiberbnn is in here."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    loader = DataLoader(TensorDataset(*data.train), batch_size=BATCH_SIZE, shuffle=True)
    # The loss is a mean over the data, so the prior's share of it is divided by their number.
    weight_decay = setup.prior_precision / len(data.train[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, setup.epochs * len(loader))
    for _ in range(setup.epochs):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def fitted(
    models: list[nn.Module], data: Digits, seed: int, setup: Setup, batch_norm: Literal["frozen", "refresh"]
) -> MetricBNN:
    """Return the posterior around the networks."""
    # A few dozen snapshots of each walk fit into the latent space whole: little is left for the autoencoder to learn.
    steps = setup.latent_steps
    autoencoder = AutoencoderSettings(steps=steps, max_steps=steps, decay_steps=steps, batch_points=8, batch_inputs=32)
    posterior = MetricBNN(
        models,
        "classification",
        prior_precision=setup.prior_precision,
        batch_norm=batch_norm,
        batch_size=BATCH_SIZE,
        n_particles=setup.n_particles,
        schedule=WalkSchedule(max_steps=setup.max_steps),
        latent=LatentSettings(autoencoder=autoencoder),
        seed=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # `diagnose` repeats them
        return posterior.fit(data.train)


def of_networks(models: Sequence[nn.Module]) -> Predict:
    """Return what predicts with the networks themselves, each once, taken apart as a posterior's predictions are."""

    def predict(x: Tensor) -> ClassPredictive:
        with torch.no_grad():
            predictive = Averaging(Categorical()).add(torch.stack([model(x) for model in models])).result()
        assert isinstance(predictive, ClassPredictive)
        return predictive

    return predict


def of_posterior(posterior: MetricBNN, n_samples: int) -> Predict:
    """Return what predicts with samples of a posterior."""

    def predict(x: Tensor) -> ClassPredictive:
        predictive = posterior.predict(x, n_samples)
        assert isinstance(predictive, ClassPredictive)
        return predictive

    return predict


def scores(predict: Predict, data: Digits) -> dict[str, float]:
    """Return accuracy, NLL (nats) and ECE on test images, and AUROC of uncertainty against each kind of odd images.

    Odd images are the positive class: an AUROC of 1 means that all of them are less certain than all test images.
    """
    x, y = data.test
    known = predict(x)
    right = (known.labels == y).float()
    found = {
        "accuracy": float(right.mean()),
        "NLL": float(nn.functional.nll_loss(known.probs.clamp(min=1e-12).log(), y)),
        "ECE": expected_calibration_error(known.confidence, right),
    }
    for name, odd in data.odd.items():
        strange = predict(odd)
        is_odd = torch.cat([torch.zeros(len(x)), torch.ones(len(odd))])
        for short, score in (("H", "entropy"), ("MI", "mutual_information")):
            values = torch.cat([getattr(known, score), getattr(strange, score)])
            found[f"{name} {short}"] = float(roc_auc_score(is_odd, values))
    return found


def expected_calibration_error(confidence: Tensor, right: Tensor, n_bins: int = 15) -> float:
    """Return the mean distance of confidence and accuracy over bins of equal width, weighted by their counts."""
    bins = (confidence * n_bins).long().clamp(max=n_bins - 1)
    return sum(
        float((confidence[bins == b].mean() - right[bins == b].mean()).abs() * (bins == b).float().mean())
        for b in bins.unique()
    )


def saved_and_loaded(posterior: MetricBNN, blank: nn.Module, x: Tensor, n_samples: int) -> tuple[float, float]:
    """Return the size of the saved file in MiB, and the largest change of a probability after loading it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.safetensors"
        posterior.save(path)
        loaded, mib = MetricBNN.load(path, blank), path.stat().st_size / 2**20
    before, after = (of_posterior(one, n_samples)(x).probs for one in (posterior, loaded))
    return mib, float((before - after).abs().max())


def draw(predictives: dict[str, dict[str, ClassPredictive]]) -> Figure:
    """Return histograms of the predictions' entropies: method -> kind of images -> predictive."""
    figure = Figure(figsize=(3.4 * len(predictives), 2.9), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(predictives), sharex=True, sharey=True, squeeze=False)[0]
    largest = max(float(p.entropy.max()) for kinds in predictives.values() for p in kinds.values())
    for panel, (method, kinds) in zip(panels, predictives.items(), strict=True):
        for (kind, predictive), colour in zip(kinds.items(), ("#222222", "#1f77b4", "#d95f02"), strict=True):
            values = predictive.entropy.numpy()
            panel.hist(values, bins=24, range=(0.0, largest), histtype="step", lw=1.6, color=colour, label=kind)
        panel.set_title(method, fontsize=10)
        panel.set_xlabel("entropy of the prediction, nats")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("images")
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def run(seed: int, setup: Setup) -> tuple[dict[str, dict[str, float]], Figure]:
    """Run the example once and print what it finds; return the scores of each method, and the figure."""
    data, methods, seconds = load(seed, setup), dict[str, Predict](), dict[str, float]()
    start = time.perf_counter()
    bar = tqdm(range(setup.n_models), desc=f"seed {seed}: training")
    models = [train_network(data, 100 * seed + number, setup) for number in bar]
    seconds["training"] = time.perf_counter() - start
    methods["one network"] = of_networks(models[:1])
    methods["ensemble"] = of_networks(models)

    posteriors: dict[str, MetricBNN] = {}
    several = len(models)
    runs: list[tuple[str, int, Literal["frozen", "refresh"]]] = [
        ("posterior, one network", 1, "frozen"),
        ("posterior, frozen", several, "frozen"),
        ("posterior, refresh", several, "refresh"),
    ]
    for name, number, batch_norm in tqdm(runs, desc=f"seed {seed}: fitting"):
        start = time.perf_counter()
        posteriors[name] = fitted(models[:number], data, seed, setup, batch_norm)
        seconds[name] = time.perf_counter() - start
        methods[name] = of_posterior(posteriors[name], setup.n_samples)
    found = {name: scores(predict, data) for name, predict in methods.items()}

    for name, posterior in posteriors.items():
        print(f"\n{name}, on the validation images:\n{posterior.diagnose(data.val, setup.n_samples)}")
    posterior = posteriors["posterior, frozen"]
    mib, change = saved_and_loaded(posterior, models[0], data.test[0], setup.n_samples)
    print(f"\nsaved and loaded: {mib:.1f} MiB, largest change of a probability {change:.1e}")
    kinds = {"test images": data.test[0], **data.odd}
    shown = ("one network", "ensemble", "posterior, frozen")
    figure = draw({name: {kind: methods[name](x) for kind, x in kinds.items()} for name in shown})
    tuning = posterior.tune(data.val, n_samples=setup.n_samples)
    print(f"\ntuning on the validation images:\n{tuning}")
    found["posterior, tuned"] = scores(of_posterior(posterior, setup.n_samples), data)
    print("\nseconds: " + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()))
    return found, figure


def table(runs: Sequence[dict[str, dict[str, float]]]) -> str:
    """Return the scores as a Markdown table: mean, and standard deviation over several seeds."""

    def cell(values: list[float]) -> str:
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.3f}{spread}"

    columns = list(next(iter(runs[0].values())))
    lines = [f"| | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    lines += [
        f"| {name} | {' | '.join(cell([run[name][column] for run in runs]) for column in columns)} |"
        for name in runs[0]
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the example for the seeds that are asked for, and draw the figure of the first."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of split, training and sampling; default 0")
    parser.add_argument("--figure", type=Path, default=Path(__file__).with_suffix(".png"), help="where it is drawn")
    parser.add_argument("--max-steps", type=int, default=Setup.max_steps, help="of a walk; default %(default)s")
    parser.add_argument("--prior-precision", type=float, default=Setup.prior_precision, help="default %(default)s")
    parser.add_argument("--tiny", action="store_true", help="seconds, to see that all runs; the numbers mean nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setup = TINY if arguments.tiny else Setup(prior_precision=arguments.prior_precision, max_steps=arguments.max_steps)
    results = [run(seed, setup) for seed in arguments.seeds]
    results[0][1].savefig(arguments.figure)
    print(f"\n{table([found for found, _ in results])}\n\nfigure: {arguments.figure}")


if __name__ == "__main__":
    main()
