"""How particles of the walk step, where they are, and what happened to them."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class WalkSettings:
    """How particles step.

    Attributes:
        drift: "persistent" or "literal" (see walk.py).
        preconditioner: of what M, the coordinates that particles step in, is made. "learned": the diagonal of the
            generalised Gauss-Newton matrix at the start, and in the persistent mode soon that of the gradients on the
            way; "initial": the former throughout; "identity": all ones.
        friction: gamma, per unit of preconditioned time; the drift persists for about 1/gamma.
        thermostat: rate at which friction grows while a particle's velocity is hotter than 1, and falls while it is
            colder, which is how the heat of minibatch gradients is taken out again; 0 for never. Energies of all data
            have no such heat.
        metropolis: accept or refuse each persistent step: exact once the step size is fixed, which it then is for the
            snapshots. Without it the step size goes on adapting, with a fading gain.
        energy_error_limit: nats; a step without Metropolis whose energy error is larger, or not finite, is undone and
            the particle given a new velocity. It happens where the step is far too long, and is counted.
        drift_length: of the literal drift, preconditioned units a step.
        drift_steps: steps after which the literal drift stops and the particles only settle; None for never.
        perturbation: standard deviation of the literal mode's perturbing noise, preconditioned units.
        refine_steps: R, gradient steps after each literal perturbation.
        refine_noise: 0 for plain gradient steps, 1 for Langevin steps in the literal refinement.
        refine_rule: what a literal gradient step is made of, with the learning rate h^2/2 in preconditioned
            coordinates: "sgd", "momentum" or "adam", whose moments begin anew after each perturbation.

    Raises:
        ValueError: if a setting is out of range.
    """

    drift: Literal["persistent", "literal"] = "persistent"
    preconditioner: Literal["learned", "initial", "identity"] = "learned"
    friction: float = 0.1
    thermostat: float = 1.0
    metropolis: bool = False
    energy_error_limit: float = 10.0
    drift_length: float = 1.0
    drift_steps: int | None = None
    perturbation: float = 0.0
    refine_steps: int = 5
    refine_noise: float = 0.0
    refine_rule: Literal["sgd", "momentum", "adam"] = "sgd"

    def __post_init__(self) -> None:
        if self.drift not in ("persistent", "literal"):
            raise ValueError(f'drift must be "persistent" or "literal"; got {self.drift!r}')
        if self.preconditioner not in ("learned", "initial", "identity"):
            raise ValueError(f'preconditioner must be "learned", "initial" or "identity"; got {self.preconditioner!r}')
        if not (self.friction > 0 and self.energy_error_limit > 0 and self.refine_steps >= 1):
            raise ValueError("friction and energy_error_limit must be positive, refine_steps at least 1")
        if not min(self.drift_length, self.perturbation, self.refine_noise, self.thermostat) >= 0:
            raise ValueError("drift_length, perturbation, refine_noise and thermostat must not be negative")
        if self.refine_rule not in ("sgd", "momentum", "adam"):
            raise ValueError(f'refine_rule must be "sgd", "momentum" or "adam"; got {self.refine_rule!r}')
        if self.metropolis and self.drift == "literal":
            raise ValueError('metropolis=True needs drift="persistent": the literal mode has no acceptance rule')


class WalkState(NamedTuple):
    """What the next step needs."""

    particles: Tensor  # [K, P]
    velocity: Tensor  # [K, P], preconditioned; the fixed unit drift in the literal mode
    energy: Tensor  # [K], nats; on the data that step number `time` saw
    grad: Tensor  # [K, P], of that energy
    time: int  # steps done
    added_friction: Tensor  # [K], friction that the thermostat has added; it can be negative


class WalkInfo(NamedTuple):
    """What a reader of the run needs."""

    acceptance: Tensor | None  # [K], min(1, exp(-energy error)), 0 where not finite; None if it was not measured
    moved: Tensor  # [K], bool; False where the step was refused (Metropolis) or undone
    heat: Tensor  # [K], mean square of the velocity where it is refreshed, 1 in equilibrium; NaN in the literal mode
