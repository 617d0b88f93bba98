"""A walk of several steps for many particles: one call, against a loop over gradients and eager updates.

Work: of every step the gradient's products; the state is read and written once. Budget: after three steps the distance
from the float64 walk is 1e-5 of the way, of velocities 2e-5 of their length. Walks with torch's own noise are compared
without friction, which has none.
"""

from functools import lru_cache, partial

import pytest
import torch
from torch import Tensor

from bench.speed import gradient_baselines as baselines
from bench.speed.ceilings import Work
from bench.speed.compiled import captured, compiled, needs_cuda
from bench.speed.exact import WrongResult, require_close
from bench.speed.problems import FLOAT, RUNS, Problem
from bench.speed.walk_baseline import FRICTION, LIMIT, PRIOR_PRECISION, STEP_SIZE, EagerWalk, Start
from fiberbnn_kernels import MLPWalk, mlp_nll_and_grad, mlp_walk

BUDGET, CHECKED_STEPS = 1e-5, 3
STEPS = {"cpu": 5, "cuda": 40}
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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", range(max(map(len, RUNS.values()))))
def test_walk(measure, sizes, device, number, method) -> None:
    net, n_particles = sizes(RUNS, number)
    n_steps = STEPS[device.type]
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
        still = EagerWalk(start, value_and_grad, friction=0.0)
        require_walk(tuple(still.run(CHECKED_STEPS)), exact(net, n_particles, device, 0.0), start)
        walk = EagerWalk(start, value_and_grad)
        step = walk.step if not method.startswith("graph") else captured(walk.step)

        def function() -> list[Tensor]:
            for _ in range(n_steps):
                step()
            return walk.state

        def check(found: list[Tensor]) -> None:
            if not all(tensor.isfinite().all() for tensor in found) or torch.equal(found[0], start.particles):
                raise WrongResult("the walk has left for infinity, or not left")

    gradients = problem.gradient_work(n_particles)
    state = FLOAT * (6 * n_particles * problem.layout.n_params + 2 * n_particles)
    work = Work(state + problem.data_bytes, n_steps * gradients.flops)
    more = {"net": net, "particles": n_particles, "particle_steps": n_particles * n_steps}
    measure(f"walk {net}, {n_particles} particles, {n_steps} steps", method, function, work, check, **more)
