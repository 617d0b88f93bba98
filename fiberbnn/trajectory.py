"""Where a walk went: the snapshots of its particles, of this process or of all."""

import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .any_energy import AnyEnergy
from .cost import Cost
from .progress import progress
from .ranks import Ranks
from .run import Run
from .schedule import WalkSchedule
from .walk import check_metropolis
from .walk_state import WalkSettings


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
        full_energy: energies of snapshots on all data, [M'], nats: of all of them, or of the last one's particles if
            the walk only saw minibatches (whose own `energy` is an estimate).
        history: per step, [T, 5]: energy ratio of the particles, mean acceptance (NaN where it was not measured), share
            of steps undone, step size, and mean square of the velocity, which is 1 without heat from minibatches.
        settled: whether the energy settled within the warm-up.
        cost: gradients and Hessian-vector products of the walk, curvature included. That of all particles if they were
            gathered: what every process computes for itself (curvature, control variates) counts once, so that it does
            not depend on how many processes there were.
        seconds: wall-clock time.
    """

    weights: Tensor
    energy: Tensor
    particle: Tensor
    lost: int
    map_weights: Tensor
    map_energy: float
    scale: Tensor
    full_energy: Tensor
    history: Tensor
    settled: bool
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0

    @property
    def energy_ratio(self) -> float:
        """Mean energy rise of the snapshots over the P/2 nats of equipartition; 1 for a Gaussian posterior."""
        return 2.0 * (float(self.full_energy.double().mean()) - self.map_energy) / self.weights.shape[1]

    @property
    def heat(self) -> float:
        """Mean square of the velocities in the second half; above 1 by the heat that gradient noise has left."""
        return float(self.history[len(self.history) // 2 :, 4].mean())

    @property
    def undone(self) -> float:
        """Share of steps after the first quarter that were undone or refused."""
        return float(self.history[len(self.history) // 4 :, 2].mean())


def walk_from(
    energy: AnyEnergy,
    weights: Tensor,
    *,
    n_particles: int = 30,
    settings: WalkSettings | None = None,
    schedule: WalkSchedule | None = None,
    seed: int = 0,
    particle0: int = 0,
    ranks: Ranks | None = None,
    gather: bool = True,
    progress_bar: bool = False,
) -> Trajectory:
    """Return the trajectory of K particles from one weight vector [P], usually the MAP.

    Under `torch.distributed` the particles are divided among the processes; each must be given the same arguments. A
    particle draws what it would draw in a process of its own.

    Args:
        energy: U and its gradient; its cost counter runs on, by the cost of the trajectory that comes back.
        weights: where all particles start, [P].
        n_particles: K, of all processes together.
        settings: how particles step.
        schedule: how long, and what is adapted.
        seed: of all noise.
        particle0: global number of the first particle.
        ranks: who shares the particles; None for the default process group, if there is one.
        gather: return the trajectory of all particles to every process; otherwise each keeps its own.
        progress_bar: show steps, energy ratio and acceptance.

    Raises:
        WalkDivergedError: if most steps fail.
        FloatingPointError: if energy or curvature at the start are not finite.
        ValueError: if there are fewer particles than processes, or Metropolis is to accept on minibatches.
    """
    ranks = ranks or Ranks.present()
    if n_particles < 1:
        raise ValueError(f"n_particles must be at least 1; got {n_particles}")
    mine = ranks.share_of(n_particles)
    settings, schedule = settings or WalkSettings(), schedule or WalkSchedule()
    check_metropolis(settings, energy)
    start, cost_before = time.perf_counter(), energy.cost.copy()
    run = Run(energy.anchored(weights), weights, len(mine), settings, schedule, seed, particle0 + mine.start, ranks)
    with progress("walk", total=schedule.max_steps, shown=progress_bar and ranks.rank == 0) as bar:
        warmup = run.warm_up(bar)
        bar.total = 2 * warmup
        particles, energies = run.collect(warmup, bar)
    kept = run.alive(warmup)
    # What a step holds is let go before the snapshots are copied.
    last, numbers = run.state.particles, particle0 + mine.start + kept.nonzero().flatten()
    run.forget_state()
    full = energies[:, kept].flatten() if energy.exact else _full_energy(energy, last[kept])
    del last
    walked = Trajectory(
        weights=_of_some(particles, kept),
        energy=energies[:, kept].flatten(),
        particle=numbers.repeat(len(particles)),
        lost=len(mine) - int(kept.sum()),
        map_weights=weights.clone(),
        map_energy=run.map_energy,
        scale=run.scale,
        full_energy=full,
        history=torch.tensor(run.history),
        settled=run.settled,
        cost=energy.cost - cost_before,
        seconds=time.perf_counter() - start,
    )
    if not gather:
        return walked
    n_snapshots = len(particles)
    del particles  # only the trajectory holds it now, or a copy
    whole = gathered(walked, ranks, n_snapshots, energy.exact)
    energy.cost += whole.cost - walked.cost
    return whole


def _of_some(particles: Tensor, kept: Tensor) -> Tensor:
    """Snapshots [T, K, P] of the particles that are kept, bool [K], as [T K', P]; moved up in place, without a copy."""
    rows, chosen = particles.flatten(0, 1), kept.repeat(len(particles)).nonzero().flatten()
    for at, row in enumerate(chosen.tolist()):
        if at != row:
            rows[at] = rows[row]
    return rows[: len(chosen)]


def _full_energy(energy: AnyEnergy, particles: Tensor) -> Tensor:
    """Energies of particles [K, P] on all data, [K]; of none, if this process has lost all of its own."""
    return energy(particles) if len(particles) else particles.new_empty(0)


def gathered(part: Trajectory, ranks: Ranks, n_snapshots: int, exact: bool) -> Trajectory:
    """Return the trajectory of all processes' particles, the same on each, with what they cost together.

    Snapshots stand as if one process had walked with all particles.

    Args:
        part: of this process's particles.
        ranks: who has the others.
        n_snapshots: how often the particles were looked at.
        exact: whether `full_energy` is of all snapshots, not of the last alone.
    """
    if ranks.size == 1:
        return part

    def rows(values: Tensor, n_snapshots: int = n_snapshots) -> Tensor:
        # One snapshot after the other, into its place.
        whole = values.new_empty(0)
        for t, snapshot in enumerate(values.unflatten(0, (n_snapshots, -1)) if len(values) else [values] * n_snapshots):
            everybodys = ranks.gather(snapshot)
            whole = whole if t else everybodys.new_empty(n_snapshots, *everybodys.shape)
            whole[t] = everybodys
        return whole.flatten(0, 1)

    own = part.cost
    of_particles = [own.grad_evals - own.shared_grads, own.energy_evals, float(part.lost)]
    counts = torch.tensor(of_particles, dtype=torch.float64, device=part.weights.device)
    grad_evals, energy_evals, lost = ranks.sum(counts).tolist()
    cost = Cost(grad_evals + own.shared_grads, own.hvp_evals, energy_evals, own.shared_grads)
    return replace(
        part, weights=rows(part.weights), energy=rows(part.energy), particle=rows(part.particle),
        full_energy=rows(part.full_energy, n_snapshots if exact else 1), lost=int(lost), cost=cost,
    )  # fmt: skip
