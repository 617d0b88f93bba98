"""Time the walk's launches for a perceptron on this machine and keep the best; only ever by an explicit call."""

import statistics
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from ..backend import choose_fused
from ..mlp.api import kernel_wanted
from ..mlp.layout import MLPLayout
from ..mlp.reference import Likelihood
from ..mlp.table import Launch, architecture_of, launch_for, multiprocessors_of
from . import reference, tuned
from .reference import Moves, Posterior, State

Timer = Callable[[Callable[[], object]], float]

# Steps that are compared with the reference's; what they may differ by, in lengths of the walk; steps that are timed.
CHECKED_STEPS, BUDGET, TIMED_STEPS = 2, 2e-5, 20
_LINE = "{:>6}{:>7}{:>14}  {}"


class Timing(NamedTuple):
    """A launch and the time of a step with it, or why it has none."""

    launch: Launch
    seconds: float | None
    problem: str = ""


class Tuning(NamedTuple):
    """All launches that were tried, and the quickest of those that were right."""

    timings: list[Timing]
    best: Launch

    def __str__(self) -> str:
        lines = [_LINE.format("rows", "warps", "us a step", "")]
        for launch, seconds, problem in self.timings:
            time = "-" if seconds is None else f"{1e6 * seconds:.1f}"
            lines.append(
                _LINE.format(launch.rows, launch.warps, time, "best" if launch == self.best else problem).rstrip()
            )
        return "\n".join(lines)


def tune_mlp_walk(
    layout: MLPLayout,
    n_rows: int,
    *,
    n_particles: int | None = None,
    likelihood: Likelihood = "categorical",
    device: torch.device | str | None = None,
    candidates: Iterable[tuple[int, int]] | None = None,
    timer: Timer | None = None,
    store: bool = True,
) -> Tuning:
    """Time the walk of a perceptron with several launches, print the times, and keep the quickest for later walks.

    A launch is timed only if it takes the reference's first steps. The winner goes to `tuned.file_of_launches()` and
    is used from then on for all perceptrons that are padded alike, with this Triton on this kind of device. The last
    bits of a walk depend on its launch.

    Args:
        layout: widths and activation.
        n_rows: examples, N; random ones are made up.
        n_particles: K; None for as many as the device runs at once.
        likelihood: "categorical" or "gaussian".
        device: where; None for the current GPU.
        candidates: data rows a tile and warps of each launch to try; None for all. The table's is always tried.
        timer: returns the seconds that a call takes; None for the device's own clock.
        store: whether to keep the winner.

    Raises:
        RuntimeError: if the kernel cannot run there or not for this perceptron, or no launch is right.
    """
    place = torch.device("cuda" if device is None else device)
    choose_fused("fused", place)  # both of these raise in words if the kernel cannot run
    start, posterior, scale = _problem(layout, n_rows, n_particles, likelihood, place)
    kernel_wanted("fused", start.particles, posterior.x, layout)
    architecture = architecture_of(place)
    usual = launch_for(layout, architecture)
    assert usual is not None
    if candidates is None:
        candidates = [(rows, warps) for rows in tuned.ROWS for warps in tuned.WARPS]
    pairs = dict.fromkeys([(usual.rows, usual.warps), *candidates])
    with torch.cuda.device_of(start.particles):
        timings = [
            _timed(usual._replace(rows=rows, warps=warps), start, posterior, scale, timer or _device_clock)
            for rows, warps in pairs
        ]
    right = [timing for timing in timings if timing.seconds is not None]
    if not right:
        raise RuntimeError("no launch is right:\n" + "\n".join(f"{t.launch}: {t.problem}" for t in timings))
    tuning = Tuning(timings, min(right, key=lambda timing: timing.seconds or 0.0).launch)
    print(tuning)
    if store:
        print("kept in", tuned.store(tuning.best, architecture))
    return tuning


def _problem(
    layout: MLPLayout, n_rows: int, n_particles: int | None, likelihood: Likelihood, device: torch.device
) -> tuple[State, Posterior, Tensor]:
    """Random data, and particles with velocities, float32."""
    generator = torch.Generator().manual_seed(1)

    def normals(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32).to(device)

    x, y = normals(n_rows, layout.widths[0]), normals(n_rows, layout.widths[-1])
    if likelihood == "categorical":
        y = y.argmax(dim=1)
    if n_particles is None:
        launch = launch_for(layout, architecture_of(device))
        n_particles = multiprocessors_of(device) * (launch.per_multiprocessor if launch else 1)
    posterior = Posterior(x, y, layout, likelihood, 1.0, 1.0)
    particles = 0.3 * normals(n_particles, layout.n_params)
    state = State(particles, normals(n_particles, layout.n_params), *posterior.value_and_grad(particles))
    return state, posterior, torch.full((layout.n_params,), 0.3, dtype=torch.float32, device=device)


def _moves(n_steps: int) -> Moves:
    # Steps short enough to follow, and none undone.
    return Moves(0.02, 1.0, 1e30, n_steps, 0, 1, 0, 0, 0, 1)


def _timed(launch: Launch, start: State, posterior: Posterior, scale: Tensor, timer: Timer) -> Timing:
    from . import fused

    try:
        walked, *_ = fused.mlp_walk(start, posterior, scale, _moves(CHECKED_STEPS), launch)
        error = _error(walked, start, posterior, scale)
        if not error <= BUDGET:
            return Timing(launch, None, f"wrong: {error:.1e} of the walk's length away from the reference")
        seconds = timer(lambda: fused.mlp_walk(start, posterior, scale, _moves(TIMED_STEPS), launch))
    except Exception as error:  # what does not fit a device is refused in many ways, and the others shall be tried
        return Timing(launch, None, f"{type(error).__name__}: {error}".splitlines()[0])
    return Timing(launch, seconds / TIMED_STEPS)


def _error(walked: State, start: State, posterior: Posterior, scale: Tensor) -> float:
    """How far positions, velocities and gradients are from the reference's in float64, in lengths of the walk."""
    exact_posterior = posterior._replace(x=posterior.x.double())
    if posterior.likelihood == "gaussian":
        exact_posterior = exact_posterior._replace(y=posterior.y.double())
    exact_start = State(*(tensor.double() for tensor in start))
    exact, *_ = reference.mlp_walk(exact_start, exact_posterior, scale.double(), _moves(CHECKED_STEPS))
    errors = []
    for name in ("particles", "velocity", "grad"):
        ours, theirs, first = (getattr(state, name) for state in (walked, exact, exact_start))
        errors.append(float((ours - theirs).norm() / (theirs - first).norm()))
    errors.append(float(((walked.energy - exact.energy) / exact.energy).abs().max()))
    # max() would pass over what is not a number.
    return sum(errors) if any(error != error for error in errors) else max(errors)


def _device_clock(call: Callable[[], object]) -> float:
    """Return the median seconds of some calls after one that is not counted."""
    call()
    times = []
    for _ in range(5):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        call()
        last.record()
        last.synchronize()
        times.append(1e-3 * first.elapsed_time(last))
    return statistics.median(times)
