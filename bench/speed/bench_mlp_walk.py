"""A walk of several steps for many particles: one call, against a loop over gradients and eager updates.

The library makes one step a call while it warms up and five later: five are timed here, and on a GPU also one, and
forty, of which a call is the smaller part.

Work: of every step the gradient's products; the state is read and written once. Budget: after three steps the distance
from the float64 walk is 1e-5 of the way, of velocities 2e-5 of their length. Walks with torch's own noise are compared
without friction, which has none; a CUDA graph is compared as it is replayed, from the start.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import pytest
import torch
from torch import Tensor

from bench.speed import gradient_baselines as baselines
from bench.speed.ceilings import Work
from bench.speed.compiled import captured, compiled, needs_cuda
from bench.speed.exact import WrongResult, require_close
from bench.speed.gradient_baselines import ValueAndGrad
from bench.speed.problems import FLOAT, RUNS, Problem
from bench.speed.walk_baseline import FRICTION, LIMIT, PRIOR_PRECISION, STEP_SIZE, EagerWalk, Start
from fiberbnn_kernels import MLPWalk, mlp_nll_and_grad, mlp_walk

Step = Callable[[], None]
BUDGET, CHECKED_STEPS = 1e-5, 3
STEPS = 5
# Calls of other lengths, on a GPU: net, particles, steps.
CALLS = {
    "cpu": (),
    "cuda": tuple((*run, n_steps) for run in RUNS["cuda"] if run[1] in (64, 128) for n_steps in (1, 40)),
}
METHODS = ("fiberbnn", "vmap(grad)", "batched products", "compiled", "graph of batched products", "reference")


@lru_cache(maxsize=1)
def start_of(net: str, n_particles: int, device: torch.device) -> tuple[Problem, Start]:
    problem = Problem.of(net, device)

    def exact(weights: Tensor) -> tuple[Tensor, Tensor]:
        x, y = problem.x.double(), problem.y
        return mlp_nll_and_grad(weights, x, y, problem.layout, likelihood="categorical", impl="reference")

    return problem, Start.of(problem, n_particles, exact)


def ours(
    problem: Problem, start: Start, n_steps: int, friction: float, impl: str, dtype: torch.dtype = torch.float32
) -> MLPWalk:
    return mlp_walk(
        *(tensor.to(dtype) for tensor in start.tensors()), problem.x.to(dtype), problem.y, problem.layout,
        likelihood="categorical", prior_precision=PRIOR_PRECISION, scale=start.scale.to(dtype), step_size=STEP_SIZE,
        friction=friction, energy_error_limit=LIMIT, n_steps=n_steps, seed=1, step0=2, refresh_stream=3,
        revive_stream=4, impl=impl,
    )  # fmt: skip


@lru_cache(maxsize=2)
def exact(net: str, n_particles: int, device: torch.device, friction: float) -> MLPWalk:
    walk = ours(*start_of(net, n_particles, device), CHECKED_STEPS, friction, "reference", torch.float64)
    assert walk.moved.all(), "a step was undone: this walk is not the one that is meant"
    return walk


def require_walk(found: tuple[Tensor, ...], walk: MLPWalk, start: Start) -> None:
    particles, velocity, energy, grad = found
    require_close("particles", particles, walk.particles, BUDGET, walk.particles - start.particles)
    require_close("velocity", velocity, walk.velocity, 2 * BUDGET)
    require_close("energy", energy, walk.energy, BUDGET)
    require_close("gradient", grad, walk.grad, 2 * BUDGET)


def steps_of(
    start: Start, value_and_grad: ValueAndGrad, still_walk: MLPWalk, wrap: Callable[[Step], Step] | None = None
) -> tuple[EagerWalk, Step]:
    """Return a walk at its start and what makes a step of it: wrapped, if need be, as one that was compared.

    Without friction `CHECKED_STEPS` of them must be those of the definition, which is given.
    """
    for friction in (0.0, FRICTION):
        walk = EagerWalk(start, value_and_grad, friction)
        step = wrap(walk.step) if wrap else walk.step
        walk.reset(start)  # recording a graph has made steps, or what is none has left the state as it was
        if friction == 0.0:
            for _ in range(CHECKED_STEPS):
                step()
            require_walk(tuple(walk.state), still_walk, start)
    return walk, step


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", range(max(map(len, RUNS.values()))))
def test_walk(measure, sizes, device, number, method) -> None:
    time_walk(measure, device, method, *sizes(RUNS, number), STEPS)


@pytest.mark.parametrize("method", ["fiberbnn", "graph of batched products"])
@pytest.mark.parametrize("number", range(max(map(len, CALLS.values()))))
def test_steps_of_a_call(measure, sizes, device, number, method) -> None:
    time_walk(measure, device, method, *sizes(CALLS, number))


def time_walk(
    measure: Callable[..., None], device: torch.device, method: str, net: str, n_particles: int, n_steps: int
) -> None:
    problem, start = start_of(net, n_particles, device)
    if method == "compiled" and (n_particles != 64 or net != "14-50-2"):
        pytest.skip("compiled at one size")
    if method.startswith("graph") or method == "reference":
        needs_cuda(device)

    if method in ("fiberbnn", "reference"):
        impl = "auto" if method == "fiberbnn" else "reference"
        require_walk(
            ours(problem, start, CHECKED_STEPS, FRICTION, impl)[:4], exact(net, n_particles, device, FRICTION), start
        )
        function = partial(ours, problem, start, n_steps, FRICTION, impl)

        def check(found: MLPWalk) -> None:
            if not found.moved.all():
                raise WrongResult("a step was undone")

    else:
        if method == "vmap(grad)":
            value_and_grad = baselines.mapped(problem)
        elif method == "compiled":
            value_and_grad = compiled(baselines.mapped(problem), device, start.particles)
        else:
            value_and_grad = baselines.batched(problem, n_particles)
        wrap = captured if method.startswith("graph") else None
        walk, step = steps_of(start, value_and_grad, exact(net, n_particles, device, 0.0), wrap)

        def function() -> list[Tensor]:
            for _ in range(n_steps):
                step()
            return walk.state

        def check(found: list[Tensor]) -> None:
            if not all(tensor.isfinite().all() for tensor in found):
                raise WrongResult("the walk has left for infinity")
            if any(torch.equal(now, first) for now, first in zip(found, start.tensors(), strict=True)):
                raise WrongResult("the walk has not left its start")

    gradients = problem.gradient_work(n_particles)
    state = FLOAT * (6 * n_particles * problem.layout.n_params + 2 * n_particles)
    work = Work(state + problem.data_bytes, n_steps * gradients.flops)
    more = {"net": net, "particles": n_particles, "particle_steps": n_particles * n_steps}
    measure(f"walk {net}, {n_particles} particles, {n_steps} steps", method, function, work, check, **more)
