"""What the gate times: the library's parts as a user calls them, each with the same work in plain torch.

A pair is timed in turns, so its ratio says how the library stands to torch on this machine, whatever the machine. The
plain side is that of the speed suite: batched matrix products, and `vmap(grad)` for networks that are no perceptrons.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cross_entropy, kl_div

from bench.speed.gradient_baselines import ValueAndGrad, batched, outputs_of
from bench.speed.problems import Problem
from bench.speed.walk_baseline import EagerWalk, Start
from fiberbnn import (
    AutoencoderSettings,
    Categorical,
    Energy,
    LatentPosterior,
    LatentSettings,
    Network,
    Trajectory,
    WalkSchedule,
    walk_from,
)
from fiberbnn.predictive import averaged

NET, PARTICLES, DRAWS = "18-50-4", 30, 1000  # Vehicle's perceptron and rows
WALK_STEPS, OTHER_STEPS, LATENT_STEPS = 60, 20, 20
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Workload:
    """One thing that is timed.

    Attributes:
        name: in words.
        ours: does it with the library.
        plain: does work of the same size with torch alone; its number of calls makes both take about as long.
    """

    name: str
    ours: Callable[[], object]
    plain: Callable[[], object]


def workloads() -> list[Workload]:
    """Return all workloads, on data and weights that are the same at every call; it takes about a second."""
    problem = Problem.of(NET, CPU)
    network, likelihood = Network(problem.module()), Categorical()
    energy = Energy(network, likelihood, problem.x, problem.y, 1.0)
    first = problem.weights(1)[0]
    walked = walk_of(energy, first, WALK_STEPS)
    latent = latent_of(walked, energy)
    directions, offset, draws = latent.basis.directions, latent.basis.offset, problem.weights(DRAWS)

    def plain_decode() -> Tensor:
        with torch.no_grad():
            centres = latent.density.points[torch.randint(len(latent.density.points), (DRAWS,))]
            latents = centres + 0.1 * torch.randn_like(centres)
            return offset + latent.autoencoder.decode(latents) @ directions.T

    def plain_predictive() -> Tensor:
        with torch.no_grad():
            return outputs_of(problem, draws).softmax(-1).mean(0)

    return [
        Workload(
            "walk of a perceptron",
            lambda: walk_of(energy, first, WALK_STEPS),
            plain_walk(problem, problem.weights(PARTICLES), batched(problem, PARTICLES), WALK_STEPS),
        ),
        _walk_of_another_network(problem),
        Workload("fit of the latent posterior", lambda: latent_of(walked, energy), plain_latent(problem, walked)),
        Workload(f"decoding {DRAWS} draws", lambda: latent.sample(DRAWS, seed=1), plain_decode),
        Workload(
            f"predictive of {DRAWS} samples", lambda: averaged(network, likelihood, draws, problem.x), plain_predictive
        ),
    ]


def walk_of(energy: Energy, weights: Tensor, n_steps: int, n_particles: int = PARTICLES) -> Trajectory:
    """Return a walk of exactly so many steps, curvature at its start included."""
    schedule = WalkSchedule(max_steps=n_steps, min_warmup=n_steps // 2)
    return walk_from(energy, weights, n_particles=n_particles, schedule=schedule, seed=0)


def latent_of(walked: Trajectory, energy: Energy) -> LatentPosterior:
    """Return a latent posterior trained for exactly LATENT_STEPS, calibration included."""
    trained = AutoencoderSettings(steps=LATENT_STEPS, max_steps=LATENT_STEPS, decay_steps=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that so short a fit is none
        return LatentPosterior.fit(
            walked.weights, energy, scale=walked.scale, settings=LatentSettings(autoencoder=trained), seed=0
        )


def plain_walk(problem: Problem, particles: Tensor, value_and_grad: ValueAndGrad, n_steps: int) -> Callable[[], None]:
    """Return so many eager steps with these gradients, which start anew at every call."""
    value, gradient = value_and_grad(particles)
    velocity = torch.randn(particles.shape, generator=torch.Generator().manual_seed(2))
    start = Start(particles, velocity, value, gradient, torch.linspace(0.02, 0.06, particles.shape[1]))
    walk = EagerWalk(start, value_and_grad)

    def steps() -> None:
        walk.reset(start)
        for _ in range(n_steps):
            walk.step()

    return steps


def _walk_of_another_network(problem: Problem) -> Workload:
    """The walk where no operation is made for the network: a perceptron with a layer norm, on a sixth of the rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(18, 50), nn.LayerNorm(50), nn.Tanh(), nn.Linear(50, 4))
    x, y = problem.x[:100], problem.y[:100]
    energy = Energy(Network(model), Categorical(), x, y, 1.0)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}

    def nll(weights: Tensor) -> Tensor:
        pieces = weights.split([shape.numel() for shape in shapes.values()])
        named = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
        return cross_entropy(functional_call(model, named, x), y, reduction="sum")

    both = vmap(grad_and_value(nll))

    def value_and_grad(weights: Tensor) -> tuple[Tensor, Tensor]:
        gradient, value = both(weights)
        return value, gradient

    first = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    spread = 0.1 * torch.randn(PARTICLES, len(first), generator=torch.Generator().manual_seed(1))
    return Workload(
        "walk of another network",
        lambda: walk_of(energy, first, OTHER_STEPS),
        plain_walk(problem, first + spread, value_and_grad, OTHER_STEPS),
    )


def plain_latent(problem: Problem, walked: Trajectory) -> Callable[[], None]:
    """Return the fit of an autoencoder on the same weights, with the two losses that cost, written out in torch."""
    weights = walked.weights

    def fit() -> None:
        centred = weights - weights.mean(0)
        directions = torch.linalg.svd(centred, full_matrices=False)[2][:256]
        coefficients = centred @ directions.T
        rank = len(directions)
        encoder = nn.Sequential(nn.Linear(rank, 64), nn.Tanh(), nn.Linear(64, 64))
        decoder = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, rank))
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=2e-3)
        for _ in range(LATENT_STEPS):
            points, rows = torch.randint(len(weights), (32,)), torch.randint(len(problem.x), (64,))
            batch = Problem(problem.layout, problem.x[rows], problem.y[rows])
            decoded = decoder(encoder(coefficients[points]))
            there = outputs_of(batch, weights.mean(0) + decoded @ directions).log_softmax(-1)
            with torch.no_grad():
                here = outputs_of(batch, weights[points]).log_softmax(-1)
            loss = (coefficients[points] - decoded).square().mean() + kl_div(
                there, here, reduction="sum", log_target=True
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return fit
