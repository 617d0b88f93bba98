"""A run of the walk, step by step: warm-up with adaptation until the energy has settled, then snapshots."""

import math

import torch
from torch import Tensor

from .adaptation import ScaleAdaptation, StepSizeAdaptation, has_settled
from .any_energy import AnyEnergy
from .curvature import diagonal_scale, ggn_diagonal, largest_eigenvalue
from .progress import Progress
from .ranks import Ranks
from .schedule import WalkSchedule
from .steps import steps
from .walk import init
from .walk_state import WalkSettings

# Steps of the warm-up of which one measures the energy error, where that costs a gradient.
MEASURED_EVERY = 5
# Steps with one step size, once the walk has settled: so many are one operation where there is one.
ADAPTED_EVERY = 5


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
        if settings.preconditioner == "identity":
            self.scale = torch.ones_like(weights)
        else:
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
        self.history: list[tuple[float, ...]] = []
        self.settled = False
        self.failures = torch.zeros(n_particles, dtype=torch.int64, device=weights.device)

    def warm_up(self, bar: Progress) -> int:
        """Step and adapt until the energy has settled; return the number of steps."""
        rises: list[Tensor] = []
        learns = self.settings.drift == "persistent" and self.settings.preconditioner == "learned"
        longest = max(1, self.schedule.max_steps // 2)
        # The preconditioner is renewed at doubling times, each time from the later half of the steps since the last.
        renewal, renewed = max(4, self.schedule.min_warmup // 3), 0
        for t in range(1, longest + 1):
            energies = self._steps(1, bar, measured=t % MEASURED_EVERY == 0)
            rises.append(energies - self.map_energy)
            if learns and 2 * t > renewed + renewal:
                self.scale_adaptation.update(self.state.grad)
            if t == renewal:
                if learns:
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

    def collect(self, n_steps: int, bar: Progress) -> tuple[Tensor, Tensor]:
        """Step on; return particles [T, K, P] and energies [T, K] of T snapshots.

        The step size now adapts every few steps. With Metropolis it is fixed, as it is on minibatches, where measuring
        has its price.
        """
        wanted, done = min(self.schedule.n_snapshots, n_steps), 0
        adapt = self.energy.exact and not self.settings.metropolis
        self.failures.zero_()
        particles = self.state.particles.new_empty(wanted, *self.state.particles.shape)
        energies = self.state.energy.new_empty(wanted, len(self.state.energy))
        for taken in range(wanted):
            end = math.ceil((taken + 1) * n_steps / wanted)
            while done < end:
                together = min(ADAPTED_EVERY, end - done)
                self._steps(together, bar, adapt=adapt)
                done += together
            particles[taken], energies[taken] = self.state.particles, self.state.energy
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

    def _steps(self, n_steps: int, bar: Progress, *, adapt: bool = True, measured: bool = False) -> Tensor:
        """Make steps with one step size, then adapt it; return the last energies of everybody's particles, [K]."""
        reports = []
        for state, energies, info in steps(
            self.state, self.energy, self.settings, n_steps=n_steps, scale=self.scale,
            step_size=self.step_size.step_size, seed=self.seed, particle0=self.particle0, measured=measured,
        ):  # fmt: skip
            self.state = state
            self.failures += (~info.moved).sum(dim=0)
            acceptance = torch.full_like(energies, math.nan) if info.acceptance is None else info.acceptance
            reports.append(torch.stack([energies, acceptance, (~info.moved).to(energies.dtype), info.heat], dim=2))
            bar.update(len(energies))
        # Together, as processes may have cut the steps into other pieces.
        energies, acceptance, failed, heat = self.ranks.gather(torch.cat(reports).transpose(0, 1)).permute(2, 1, 0)
        self._record(energies, acceptance, failed, heat)
        if adapt and self.settings.drift == "persistent":
            for of_step in acceptance:
                if not of_step.isnan().any():
                    self.step_size.update(of_step)
        # On minibatches few steps measure it: the last that did.
        accepted = next((entry[1] for entry in reversed(self.history[-MEASURED_EVERY:]) if entry[1] == entry[1]), None)
        shown = {} if accepted is None else {"acceptance": f"{accepted:.2f}"}
        bar.set_postfix({"energy_ratio": f"{self.history[-1][0]:.2f}"} | shown, refresh=False)
        return energies[-1]

    def _record(self, energies: Tensor, acceptance: Tensor, failed: Tensor, heat: Tensor) -> None:
        """Keep the means over particles of what happened in each step, [T, K]."""
        ratio = 2.0 * (energies.double().mean(dim=1) - self.map_energy) / self.state.particles.shape[1]
        step_size = torch.full_like(ratio, self.step_size.step_size)
        means = (values.mean(dim=1) for values in (acceptance, failed))
        rows = torch.stack([ratio, *means, step_size, heat.mean(dim=1)], dim=1).tolist()
        self.history += [tuple(row) for row in rows]
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
