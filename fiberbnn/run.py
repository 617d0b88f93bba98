"""A run of the walk, step by step: warm-up with adaptation until the energy has settled, then snapshots."""

import math
from typing import Never

import torch
from torch import Tensor
from tqdm import tqdm

from .adaptation import ScaleAdaptation, StepSizeAdaptation, has_settled
from .any_energy import AnyEnergy
from .curvature import diagonal_scale, ggn_diagonal, largest_eigenvalue
from .ranks import Ranks
from .schedule import WalkSchedule
from .walk import init, step
from .walk_state import WalkSettings

# Steps of the warm-up of which one measures the energy error, where that costs a gradient.
MEASURED_EVERY = 5


class WalkDivergedError(RuntimeError):
    """Most steps of the walk fail even though the step size has been cut: nothing that it visited is to be trusted."""


class Run:
    """State and adaptation of one run; its particles may be some of many."""

    def __init__(
        self, energy: AnyEnergy, weights: Tensor, n_particles: int, settings: WalkSettings, schedule: WalkSchedule,
        seed: int, particle0: int, ranks: Ranks,
    ) -> None:  # fmt: skip
        self.energy, self.settings, self.schedule = energy, settings, schedule
        self.seed, self.particle0, self.ranks = seed, particle0, ranks
        first = energy.at(0)
        n_probes = 64 if energy.exact else 16  # the preconditioner is soon renewed
        curvature = ggn_diagonal(first, weights, n_probes=n_probes, seed=seed)
        self.scale = diagonal_scale(curvature, energy.prior_precision)
        eigenvalue = largest_eigenvalue(first, weights, self.scale, seed=seed)
        self.step_size = StepSizeAdaptation(
            schedule.first_step / math.sqrt(eigenvalue),
            schedule.target_acceptance,
            gain=0.5 if energy.exact else 1.5,  # few measurements have to do
        )
        self.scale_adaptation = ScaleAdaptation(energy.prior_precision, ranks)
        self.state = init(weights, energy, settings, n_particles=n_particles, seed=seed, particle0=particle0)
        # Without control variates the first minibatch is only an estimate.
        known = energy.exact or first.anchor is not None
        self.map_energy = float(self.state.energy[0] if known else energy(weights[None])[0])
        if not math.isfinite(self.map_energy):
            raise FloatingPointError("the energy at the start of the walk is not finite")
        self.history: list[tuple[float, float, float, float, float]] = []
        self.settled = False
        self.failures = torch.zeros(n_particles, dtype=torch.int64, device=weights.device)

    def warm_up(self, bar: "tqdm[Never]") -> int:
        """Step and adapt until the energy has settled; return the number of steps."""
        rises: list[Tensor] = []
        longest = max(1, self.schedule.max_steps // 2)
        # The preconditioner is renewed at doubling times, each time from the later half of the steps since the last.
        renewal, renewed = max(4, self.schedule.min_warmup // 3), 0
        for t in range(1, longest + 1):
            energies = self._step(bar, measured=t % MEASURED_EVERY == 0)
            rises.append(energies - self.map_energy)
            if self.settings.drift == "persistent" and 2 * t > renewed + renewal:
                self.scale_adaptation.update(self.state.grad)
            if t == renewal:
                if self.settings.drift == "persistent":
                    self.scale = self.scale_adaptation.scale(self.scale.dtype)
                renewal, renewed = 2 * renewal, renewal
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

    def collect(self, n_steps: int, bar: "tqdm[Never]") -> tuple[Tensor, Tensor]:
        """Step on; return particles [T, K, P] and energies [T, K] of T snapshots.

        With Metropolis the step size is now fixed, as it is on minibatches, where measuring has its price.
        """
        wanted, taken = min(self.schedule.n_snapshots, n_steps), 0
        adapt = self.energy.exact and not self.settings.metropolis
        self.failures.zero_()
        particles = self.state.particles.new_empty(wanted, *self.state.particles.shape)
        energies = self.state.energy.new_empty(wanted, len(self.state.energy))
        for t in range(1, n_steps + 1):
            self._step(bar, adapt=adapt)
            if t * wanted // n_steps > taken:
                particles[taken], energies[taken] = self.state.particles, self.state.energy
                taken += 1
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
        if not self.ranks.gather(alive).any():
            raise WalkDivergedError("every particle had most of its steps undone: raise target_acceptance")
        return alive

    def forget_state(self) -> None:
        """Let the tensors of the last step go."""
        del self.state

    def _step(self, bar: "tqdm[Never]", *, adapt: bool = True, measured: bool = False) -> Tensor:
        """Step all particles; return the energies of everybody's, [K]."""
        self.state, info = step(
            self.state, self.energy, self.settings, scale=self.scale, step_size=self.step_size.step_size,
            seed=self.seed, particle0=self.particle0, measured=measured,
        )  # fmt: skip
        self.failures += ~info.moved
        unknown = torch.full_like(self.state.energy, math.nan)
        report = torch.stack(
            [
                self.state.energy,
                unknown if info.acceptance is None else info.acceptance,
                (~info.moved).to(unknown.dtype),
                info.heat,
            ],
            dim=1,
        )
        energies, acceptance, failed, heat = self.ranks.gather(report).T
        self._record(energies, acceptance, failed, heat)
        if adapt and info.acceptance is not None and self.settings.drift == "persistent":
            self.step_size.update(acceptance)
        bar.update()
        # On minibatches few steps measure it: the last that did.
        accepted = next((entry[1] for entry in reversed(self.history[-MEASURED_EVERY:]) if entry[1] == entry[1]), None)
        shown = {} if accepted is None else {"acceptance": f"{accepted:.2f}"}
        bar.set_postfix({"energy_ratio": f"{self.history[-1][0]:.2f}"} | shown, refresh=False)
        return energies

    def _record(self, energies: Tensor, acceptance: Tensor, failed: Tensor, heat: Tensor) -> None:
        ratio = 2.0 * (float(energies.double().mean()) - self.map_energy) / self.state.particles.shape[1]
        averages = (float(values.mean()) for values in (acceptance, failed))
        accepted, undone = averages
        self.history.append((ratio, accepted, undone, self.step_size.step_size, float(heat.mean())))
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
