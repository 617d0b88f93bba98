"""What each process of the distributed tests runs; pieces of it run alone for comparison."""

import datetime
import io
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn

from fiberbnn import (
    AutoencoderSettings,
    Categorical,
    Energy,
    LatentSettings,
    MetricBNN,
    Network,
    WalkSchedule,
    WalkSettings,
    walk_from,
)
from fiberbnn.any_energy import AnyEnergy
from fiberbnn.data import ExamplesInMemory
from fiberbnn.minibatch import MinibatchEnergy
from fiberbnn.trajectory import Trajectory

K = 7
SCHEDULE = WalkSchedule(max_steps=40, min_warmup=10, n_snapshots=3)


def model(kind: str, dtype: torch.dtype) -> nn.Module:
    """A perceptron, or a network that no perceptron operation takes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inner = [nn.Tanh()] if kind == "perceptron" else [nn.LayerNorm(6), nn.SiLU()]
        return nn.Sequential(nn.Linear(3, 6), *inner, nn.Linear(6, 3)).to(dtype)


def data(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Forty examples of three classes."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 3, generator=generator)
    return x.to(dtype), (x @ torch.randn(3, 3, generator=generator)).argmax(1)


def energy(kind: str, dtype: torch.dtype, batch_size: int | None) -> AnyEnergy:
    """All data, or minibatches."""
    network, (x, y) = Network(model(kind, dtype)), data(dtype)
    if batch_size is None:
        return Energy(network, Categorical(), x, y)
    return MinibatchEnergy(network, Categorical(), ExamplesInMemory(x, y), batch_size=batch_size)


def walk(kind: str, dtype: torch.dtype, batch_size: int | None = None, **options: object) -> Trajectory:
    """The walk that all processes share."""
    seen = energy(kind, dtype, batch_size)
    found = walk_from(seen, seen.network.weights, n_particles=K, schedule=SCHEDULE, seed=3, **options)  # type: ignore[arg-type]
    # Whoever goes on counting with the energy counts from what came back.
    assert seen.cost == found.cost
    return found


def fitted() -> MetricBNN:
    """A posterior in float64."""
    settings = LatentSettings(autoencoder=AutoencoderSettings(steps=20, max_steps=20))
    posterior = MetricBNN(
        model("perceptron", torch.float64), "classification", n_particles=K, schedule=SCHEDULE, latent=settings
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return posterior.fit(data(torch.float64))


WALKS: dict[str, Callable[[], Trajectory]] = {
    "perceptron float64": lambda: walk("perceptron", torch.float64),
    "perceptron float64 minibatches": lambda: walk("perceptron", torch.float64, 8),
    "perceptron float64 metropolis": lambda: walk("perceptron", torch.float64, settings=WalkSettings(metropolis=True)),
    "perceptron float32": lambda: walk("perceptron", torch.float32),
    "module float64": lambda: walk("module", torch.float64),
    "module float32": lambda: walk("module", torch.float32),
    "module float32 minibatches": lambda: walk("module", torch.float32, 8),
}


def refusal(call: Callable[[], object]) -> str:
    """What an error says."""
    try:
        call()
    except (ValueError, RuntimeError) as error:
        return str(error)
    return ""


def everything() -> dict[str, object]:
    """All that one process of several finds, as tensors, numbers and text."""
    found: dict[str, object] = {name: contents(run()) for name, run in WALKS.items()}
    found["share"] = contents(walk("perceptron", torch.float64, gather=False))
    seen = energy("perceptron", torch.float64, None)
    few = dist.get_world_size() - 1
    found["too few"] = refusal(lambda: walk_from(seen, seen.network.weights, n_particles=max(few, 0)))
    # Steps that all fail: every process has to see it, or the others would wait.
    hopeless = WalkSchedule(max_steps=60, min_warmup=30, first_step=1e9)
    found["diverged"] = refusal(lambda: walk_from(seen, seen.network.weights, n_particles=K, schedule=hopeless))
    shown = io.StringIO()
    with redirect_stderr(shown):
        walk("perceptron", torch.float64, progress_bar=True)
    found["shown"] = shown.getvalue()
    posterior = fitted()
    found["samples"] = posterior.latent_posterior.sample(20, seed=5)
    found["predicted"] = posterior(data(torch.float64)[0])
    found["grad_evals"] = posterior.diagnose(data(torch.float64)).grad_evals
    return found


def contents(trajectory: Trajectory) -> dict[str, object]:
    """The fields of a trajectory that can be compared."""
    found = dict(vars(trajectory), cost=vars(trajectory.cost))
    del found["seconds"]
    return found


def process(rank: int, size: int, folder: str) -> None:
    """Join the group, run everything, and leave what was found in a file."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size,
        timeout=datetime.timedelta(seconds=60),
    )  # fmt: skip
    torch.save(everything(), Path(folder) / f"found{rank}.pt")
    leave()


def leave() -> None:
    """Leave the group together and end this process, without what Python does at its end.

    A thread of the group that is still at work there can end the process by "terminate called without an active
    exception", rarely and on busy machines only. What was found is in its file by then.
    """
    dist.barrier()
    dist.destroy_process_group()
    sys.stderr.flush()
    os._exit(0)


def failing(rank: int, size: int, folder: str) -> None:
    """The last process fails in the middle of a walk, while the others wait for its energies."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size,
        timeout=datetime.timedelta(seconds=5),
    )  # fmt: skip
    seen = energy("perceptron", torch.float64, None)
    seen.perceptron = None  # step by step
    plain, calls = Energy.value_and_grad, []

    def broken(self: Energy, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(1)
        if rank == size - 1 and len(calls) == 40:
            raise OSError("this process has lost its data")
        return plain(self, weights)

    Energy.value_and_grad = broken  # type: ignore[method-assign]
    walk_from(seen, seen.network.weights, n_particles=K, schedule=SCHEDULE, seed=3)


def main() -> None:
    """What torchrun starts: a walk, and its weights in a file of each rank."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.save(contents(walk("perceptron", torch.float64)), Path(sys.argv[1]) / f"found{dist.get_rank()}.pt")
    leave()


if __name__ == "__main__":
    main()
