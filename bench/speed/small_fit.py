"""A small posterior fitted on a device and on the CPU, from the same model, data and seed: how far they are apart.

Their noise is the same bits, their sums are not, and eigenvectors may have other signs, with which the autoencoder ends
elsewhere. On the CPU other rounding came to 1e-4 of a probability, and random signs to 0.034, and to 0.004 nats of the
NLL (four seeds, three draws of signs each): the budgets are three times that.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from bench.speed.record import write_whole
from fiberbnn import AutoencoderSettings, ClassPredictive, LatentSettings, MetricBNN, WalkSchedule

PROBS_BUDGET, NLL_BUDGET = 0.1, 0.012
ROWS, TEST_ROWS, SAMPLES = 240, 60, 200


def data(n_rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three overlapping classes in the plane, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n_rows) % 3
    centres = torch.tensor([[0.0, 1.0], [1.0, -0.5], [-1.0, -0.5]])
    return centres[y] + 0.7 * torch.randn(n_rows, 2, generator=generator), y


def predicted(device: torch.device, tiny: bool, seed: int = 3) -> tuple[torch.Tensor, float]:
    """Return predicted probabilities [N, C] of a posterior fitted on the device, and the seconds of the fit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3))
    x, y = data(ROWS, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=1 / ROWS)
    for _ in range(20 if tiny else 300):  # on the CPU for both: one model
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    length = 4 if tiny else 100
    posterior = MetricBNN(
        model.to(device),
        "classification",
        n_particles=6,
        seed=seed,
        schedule=WalkSchedule(max_steps=12 if tiny else 60, min_warmup=4 if tiny else 20, n_snapshots=4),
        latent=LatentSettings(autoencoder=AutoencoderSettings(latent_size=4, hidden=8, steps=length, max_steps=length)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the fit is too short
        start = perf_counter()
        posterior.fit((x, y))
        seconds = perf_counter() - start
        found = posterior.predict(data(TEST_ROWS, seed + 1)[0], SAMPLES)
    assert isinstance(found, ClassPredictive)
    return found.probs.cpu().double(), seconds


def compared(device: torch.device, tiny: bool) -> dict[str, Any]:
    """Return how far the device's probabilities and NLL are from the CPU's, and whether that is too far."""
    (here, seconds), (there, cpu_seconds) = predicted(device, tiny), predicted(torch.device("cpu"), tiny)
    labels = data(TEST_ROWS, 4)[1][:, None]
    nll, cpu_nll = (-float(probs.gather(1, labels).log().mean()) for probs in (here, there))
    apart = float((here - there).abs().max())
    good = apart <= PROBS_BUDGET and abs(nll - cpu_nll) <= NLL_BUDGET and bool(here.isfinite().all())
    return {
        "outcome": "passed" if good else "failed",
        "largest_difference_of_probabilities": apart,
        "budget_of_probabilities": PROBS_BUDGET,
        "nll": nll,
        "nll_on_cpu": cpu_nll,
        "budget_of_nll": NLL_BUDGET,
        "fit_seconds": seconds,
        "fit_seconds_on_cpu": cpu_seconds,
    }


def main() -> int:
    """Write what was found; return 1 if it is too far apart."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="where the posterior is fitted; default cuda")
    parser.add_argument("--tiny", action="store_true", help="steps too few to mean anything")
    parser.add_argument("--result", type=Path, required=True, help="JSON file for what is found")
    arguments = parser.parse_args()
    found = compared(torch.device(arguments.device), arguments.tiny)
    write_whole(arguments.result, json.dumps(found))
    return int(found["outcome"] == "failed")


if __name__ == "__main__":
    sys.exit(main())
