"""A step of Adam with prior, drift and noise, in place: one pass over memory, against two or many.

Work: x, g, both moments and the drift are read, x and the moments written. Budget: 1e-6 of the length, of x of the way
that it went 2e-5, as the way is a thousandth of x. Methods with torch's own noise are compared without it.
"""

from functools import partial

import pytest
import torch
from torch import Tensor

from bench.speed.ceilings import Work
from bench.speed.compiled import compiled, needs_cuda
from bench.speed.exact import require_close
from bench.speed.problems import FLOAT
from fiberbnn_kernels import optimizer_step

SIZES = {"cpu": (1 << 16, 1 << 22), "cuda": (1 << 20, 100_000_000)}
PARTICLES, RATE, DRIFT, NOISE, TAU, BETAS, EPS = 8, 0.01, 0.01, 0.01, 0.5, (0.9, 0.999), 1e-8
UPDATE, WAY_BUDGET = 7, 2e-5


class State:
    """Particles, gradient, moments of an earlier update, and drift, [K, P]."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.x, self.grad, self.first, self.second, self.drift = tensors

    @classmethod
    def of(cls, n_numbers: int, device: torch.device) -> "State":
        """Return random ones."""
        torch.manual_seed(0)
        tensors = [torch.randn(PARTICLES, n_numbers // PARTICLES, device=device) for _ in range(5)]
        tensors[3] = tensors[3].square() + 0.1
        return cls(tensors)

    def particle(self, k: int) -> "State":
        """One of them in float64, on the CPU."""
        return State([t[k : k + 1].cpu().double() for t in vars(self).values()])


def ours(state: State, noise: float, k: int = 0, impl: str = "auto") -> None:
    optimizer_step(
        state.x, state.grad, rule="adam", learning_rate=RATE, first=state.first, second=state.second, update=UPDATE,
        betas=BETAS, eps=EPS, prior_precision=TAU, drift=state.drift, drift_length=DRIFT, noise=noise, seed=1, step=2,
        stream=3, particle0=k, impl=impl,
    )  # fmt: skip


def eager(x: Tensor, grad: Tensor, first: Tensor, second: Tensor, drift: Tensor, noise: Tensor) -> None:
    slope = grad + TAU * x
    first.mul_(BETAS[0]).add_(slope, alpha=1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(slope, slope, value=1 - BETAS[1])
    rate, root = RATE / (1 - BETAS[0] ** UPDATE), (1 - BETAS[1] ** UPDATE) ** 0.5
    x.addcdiv_(first, second.sqrt().div_(root).add_(EPS), value=-rate)
    x.add_(drift, alpha=DRIFT)
    x.add_(noise * torch.randn_like(x))


class FusedAdam:
    """torch's own one-pass Adam, and the perturbation after it."""

    def __init__(self, state: State, noise: Tensor) -> None:
        self.x, self.drift, self.noise = state.x.requires_grad_(), state.drift, noise
        self.x.grad = state.grad
        self.adam = torch.optim.Adam([self.x], lr=RATE, betas=BETAS, eps=EPS, weight_decay=TAU, fused=True)
        moments = {"exp_avg": state.first, "exp_avg_sq": state.second}
        steps = torch.tensor(float(UPDATE - 1), device=self.x.device)
        self.adam.state[self.x] = {"step": steps, **moments}

    def __call__(self) -> None:
        """Take the step."""
        self.adam.step()
        with torch.no_grad():
            self.x.add_(self.drift, alpha=DRIFT)
            self.x.add_(self.noise * torch.randn_like(self.x))


@pytest.mark.parametrize("method", ["fiberbnn", "eager", "fused Adam, eager noise", "compiled", "reference"])
@pytest.mark.parametrize("number", range(2))
def test_adam(measure, sizes, device, number, method) -> None:
    n_numbers = sizes(SIZES, number)
    none, some = (torch.tensor(value, device=device) for value in (0.0, NOISE))
    if method == "reference":
        needs_cuda(device)
    if method in ("fiberbnn", "reference"):
        impl, checked_noise = "auto" if method == "fiberbnn" else "reference", NOISE

        def step_of(state: State, noise: Tensor) -> partial:
            return partial(ours, state, float(noise), impl=impl)

    elif method == "fused Adam, eager noise":
        step_of, checked_noise = FusedAdam, 0.0
    else:
        way, checked_noise = eager, 0.0
        if method == "compiled":
            if number:
                pytest.skip("compiled at one size")
            way = compiled(eager, device, *vars(State.of(n_numbers, device)).values(), some)

        def step_of(state: State, noise: Tensor) -> partial:
            return partial(way, *vars(state).values(), noise)

    def check(_: None) -> None:
        once = State.of(n_numbers, device)
        step_of(once, some if checked_noise else none)()
        start = State.of(n_numbers, device)
        for k in (0, PARTICLES - 1):
            exact = start.particle(k)
            before = exact.x.clone()
            ours(exact, checked_noise, k, "reference")
            found = State([t.detach()[k : k + 1].cpu() for t in vars(once).values()])
            require_close("particles", found.x, exact.x, WAY_BUDGET, exact.x - before)
            require_close("first moment", found.first, exact.first, 1e-6)
            require_close("second moment", found.second, exact.second, 1e-6)

    function = step_of(State.of(n_numbers, device), some)
    measure(f"Adam and noise, {n_numbers:,} numbers", method, function, Work(8 * FLOAT * n_numbers), check)
