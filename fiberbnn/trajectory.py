"""A run of the walk: warm-up with adaptation until the energy has settled, then snapshots."""

import math
import time
from dataclasses import dataclass, field
from typing import Never

import torch
from torch import Tensor
from tqdm import tqdm

from .adaptation import ScaleAdaptation, StepSizeAdaptation, has_settled
from .curvature import diagonal_scale, ggn_diagonal, largest_eigenvalue
from .energy import Cost, Energy
from .walk import init, step
from .walk_state import WalkInfo, WalkSettings


class WalkDivergedError(RuntimeError):
    """Most steps of the walk fail even though the step size has been cut: nothing that it visited is to be trusted."""


@dataclass(frozen=True)
class WalkSchedule:
    """How long the walk runs, and what it adapts to.

    Warm-up lasts from `min_warmup` steps until the energy has settled, at most half of `max_steps`. The walk then
    goes on for as many steps again (the time that it took to forget the MAP is its time scale), with snapshots.

    Attributes:
        max_steps: most steps in all.
        min_warmup: fewest warm-up steps.
        n_snapshots: snapshots of all particles, evenly spaced over the second half; fewer if it has fewer steps.
        target_acceptance: mean acceptance probability that the step size is steered to.
        first_step: c of the first step size, c / sqrt(largest eigenvalue at the MAP); in the literal mode, of all.
        least_ratio: share of the P/2 nats of equipartition that the energy must have reached to count as settled.
        settled_tolerance: growth of the energy per third of the warm-up, as a share of P/2, that counts as settled.

    Raises:
        ValueError: if a setting is out of range.
    """

    max_steps: int = 290
    min_warmup: int = 60
    n_snapshots: int = 10
    target_acceptance: float = 0.8
    first_step: float = 0.5
    least_ratio: float = 0.85
    settled_tolerance: float = 0.05

    def __post_init__(self) -> None:
        if self.max_steps < 2 or self.min_warmup < 1 or self.n_snapshots < 1:
            raise ValueError("max_steps must be at least 2, min_warmup and n_snapshots at least 1")
        if not (0.0 < self.target_acceptance < 1.0 and self.first_step > 0 and self.settled_tolerance > 0):
            raise ValueError("target_acceptance must lie in (0, 1), first_step and settled_tolerance be positive")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Where a walk went.

    Attributes:
        weights: snapshots, [M, P]; all particles of one snapshot stand together.
        energy: their energies, [M], nats.
        particle: which particle each is, [M], int64.
        lost: particles left out because more than half of their steps, while snapshots were taken, had to be undone.
        map_weights: where the walk started, [P].
        map_energy: U there, nats.
        scale: the preconditioner's diagonal at the end, [P].
        history: per step, [T, 4]: energy ratio of the particles, mean acceptance, share of steps undone, step size.
        settled: whether the energy settled within the warm-up.
        cost: gradients and Hessian-vector products of the walk, curvature included.
        seconds: wall-clock time.
    """

    weights: Tensor
    energy: Tensor
    particle: Tensor
    lost: int
    map_weights: Tensor
    map_energy: float
    scale: Tensor
    history: Tensor
    settled: bool
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0

    @property
    def energy_ratio(self) -> float:
        """Mean energy rise of the snapshots over the P/2 nats of equipartition; 1 for a Gaussian posterior."""
        return 2.0 * (float(self.energy.double().mean()) - self.map_energy) / self.weights.shape[1]

    @property
    def undone(self) -> float:
        """Share of steps after the first quarter that were undone or refused."""
        return float(self.history[len(self.history) // 4 :, 2].mean())


def walk_from(
    energy: Energy,
    weights: Tensor,
    *,
    n_particles: int = 30,
    settings: WalkSettings | None = None,
    schedule: WalkSchedule | None = None,
    seed: int = 0,
    particle0: int = 0,
    progress_bar: bool = False,
) -> Trajectory:
    """Return the trajectory of K particles from one weight vector [P], usually the MAP.

    Args:
        energy: U and its gradient; its cost counter runs on.
        weights: where all particles start, [P].
        n_particles: K.
        settings: how particles step.
        schedule: how long, and what is adapted.
        seed: of all noise.
        particle0: global number of the first particle.
        progress_bar: show steps, energy ratio and acceptance.

    Raises:
        WalkDivergedError: if most steps fail.
        FloatingPointError: if energy or curvature at the start are not finite.
        ValueError: if `n_particles` is not positive.
    """
    if n_particles < 1:
        raise ValueError(f"n_particles must be at least 1; got {n_particles}")
    settings, schedule = settings or WalkSettings(), schedule or WalkSchedule()
    start, cost_before = time.perf_counter(), energy.cost.copy()
    run = _Run(energy, weights, n_particles, settings, schedule, seed, particle0)
    with tqdm(total=schedule.max_steps, desc="walk", disable=not progress_bar) as bar:
        warmup = run.warm_up(bar)
        bar.total = 2 * warmup
        particles, energies = run.collect(warmup, bar)
    kept = run.alive(warmup)
    return Trajectory(
        weights=torch.cat([snapshot[kept] for snapshot in particles]),
        energy=torch.cat([snapshot[kept] for snapshot in energies]),
        particle=(particle0 + kept.nonzero().flatten()).repeat(len(particles)),
        lost=n_particles - int(kept.sum()),
        map_weights=weights.clone(),
        map_energy=run.map_energy,
        scale=run.scale,
        history=torch.tensor(run.history),
        settled=run.settled,
        cost=energy.cost - cost_before,
        seconds=time.perf_counter() - start,
    )


class _Run:
    """State and adaptation of one run."""

    def __init__(
        self, energy: Energy, weights: Tensor, n_particles: int, settings: WalkSettings, schedule: WalkSchedule,
        seed: int, particle0: int,
    ) -> None:  # fmt: skip
        self.energy, self.settings, self.schedule = energy, settings, schedule
        self.seed, self.particle0 = seed, particle0
        self.scale = diagonal_scale(ggn_diagonal(energy, weights, seed=seed), energy.prior_precision)
        eigenvalue = largest_eigenvalue(energy, weights, self.scale, seed=seed)
        self.step_size = StepSizeAdaptation(schedule.first_step / math.sqrt(eigenvalue), schedule.target_acceptance)
        self.scale_adaptation = ScaleAdaptation(energy.prior_precision)
        self.state = init(weights, energy, settings, n_particles=n_particles, seed=seed, particle0=particle0)
        self.map_energy = float(self.state.energy[0])
        if not math.isfinite(self.map_energy):
            raise FloatingPointError("the energy at the start of the walk is not finite")
        self.history: list[tuple[float, float, float, float]] = []
        self.settled = False
        self.failures = torch.zeros(n_particles, dtype=torch.int64, device=weights.device)

    def warm_up(self, bar: "tqdm[Never]") -> int:
        """Step and adapt until the energy has settled; return the number of steps."""
        rises: list[Tensor] = []
        longest = max(1, self.schedule.max_steps // 2)
        # The preconditioner is renewed at doubling times, so that each one rests on the later half of the walk so far.
        renewal = max(4, self.schedule.min_warmup // 3)
        for t in range(1, longest + 1):
            self._step(bar)
            rises.append(self.state.energy - self.map_energy)
            self.scale_adaptation.update(self.state.grad)
            if t == renewal:
                if self.settings.drift == "persistent":
                    self.scale = self.scale_adaptation.scale()
                renewal *= 2
            if t >= self.schedule.min_warmup and t % 10 == 0:
                self.settled = has_settled(
                    torch.stack(rises),
                    self.state.particles.shape[1],
                    least_ratio=self.schedule.least_ratio,
                    tolerance=self.schedule.settled_tolerance,
                )
                if self.settled:
                    return t
        return longest

    def collect(self, n_steps: int, bar: "tqdm[Never]") -> tuple[list[Tensor], list[Tensor]]:
        """Step on; return particles and energies of the snapshots. With Metropolis the step size is now fixed."""
        wanted = min(self.schedule.n_snapshots, n_steps)
        self.failures.zero_()
        particles: list[Tensor] = []
        energies: list[Tensor] = []
        for t in range(1, n_steps + 1):
            self._step(bar, adapt=not self.settings.metropolis)
            if t * wanted // n_steps > len(particles):
                particles.append(self.state.particles)
                energies.append(self.state.energy)
        self._raise_if_diverged()
        return particles, energies

    def alive(self, n_steps: int) -> Tensor:
        """Return which particles moved in at least half of the steps in which snapshots were taken, [K], bool.

        A refusal by Metropolis is part of the sampler, and loses nobody.

        Raises:
            WalkDivergedError: if no particle did.
        """
        alive = self.failures <= n_steps / 2
        if self.settings.metropolis:
            return torch.ones_like(alive)
        if not alive.any():
            raise WalkDivergedError("every particle had most of its steps undone: raise target_acceptance")
        return alive

    def _step(self, bar: "tqdm[Never]", *, adapt: bool = True) -> None:
        self.state, info = step(
            self.state, self.energy, self.settings, scale=self.scale, step_size=self.step_size.step_size,
            seed=self.seed, particle0=self.particle0,
        )  # fmt: skip
        self.failures += ~info.moved
        self._record(info)
        if adapt and self.settings.drift == "persistent":
            self.step_size.update(info.acceptance)
        bar.update()
        bar.set_postfix(
            energy_ratio=f"{self.history[-1][0]:.2f}", acceptance=f"{self.history[-1][1]:.2f}", refresh=False
        )

    def _record(self, info: WalkInfo) -> None:
        rise = float(self.state.energy.double().mean()) - self.map_energy
        failed = 1.0 - float(info.moved.float().mean())
        ratio = 2.0 * rise / self.state.particles.shape[1]
        self.history.append((ratio, float(info.acceptance.mean()), failed, self.step_size.step_size))
        if len(self.history) >= 20:  # so many the step size has to come down
            self._raise_if_diverged()

    def _raise_if_diverged(self) -> None:
        recent = self.history[-20:]
        if sum(entry[2] for entry in recent) > 0.8 * len(recent):
            raise WalkDivergedError(
                f"after {len(self.history)} steps more than 80 % of the last {len(recent)} failed (step size "
                f"{self.step_size.step_size:.1e}). "
                "Standardise the inputs, start from a trained model (fit_map), or raise prior_precision."
            )
