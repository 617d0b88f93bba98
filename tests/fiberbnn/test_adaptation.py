"""What the walk learns while it runs, on curves and series whose answers are known."""

import math

import pytest
import torch

from fiberbnn import Ranks, WalkSchedule, run, walk_from
from fiberbnn.adaptation import ScaleAdaptation, StepSizeAdaptation, has_settled

P = 100


def settled(rise: torch.Tensor) -> bool:
    return has_settled(rise, P, least_ratio=0.8, tolerance=0.03)


def noisy(mean: torch.Tensor, n_particles: int = 30, deviation: float = 7.0, seed: int = 0) -> torch.Tensor:
    """Energy rises [T, K] around a mean [T]; 7 = sqrt(P/2) nats is the spread of a Gaussian posterior's."""
    noise = torch.randn(len(mean), n_particles, generator=torch.Generator().manual_seed(seed))
    return mean[:, None] + deviation * noise


@pytest.mark.parametrize(("acceptance", "sign"), [(0.5, -1), (1.0, 1), (0.8, 0)])
def test_step_size_moves_towards_the_target(acceptance, sign):
    adaptation = StepSizeAdaptation(0.3, target=0.8)
    adaptation.update(torch.full((4,), acceptance))
    change = math.log(adaptation.step_size / 0.3)
    assert math.copysign(1, change) * (abs(change) > 1e-6) == sign
    assert abs(change) < 0.5


def test_changes_of_the_step_size_fade_with_time():
    adaptation = StepSizeAdaptation(1.0, target=0.8, time_scale=10.0)
    sizes = [1.0]
    for _ in range(40):
        adaptation.update(torch.ones(1))
        sizes.append(adaptation.step_size)
    changes = torch.tensor(sizes).log().diff()
    assert (changes > 0).all()
    assert (changes.diff() < 0).all()
    torch.testing.assert_close(changes[30] / changes[0], torch.tensor(0.5))


@pytest.mark.parametrize("start", [1e-3, 5.0])
def test_step_size_finds_the_acceptance_asked_for(start):
    generator = torch.Generator().manual_seed(1)
    adaptation = StepSizeAdaptation(start, target=0.8)
    trace = []
    for _ in range(400):
        # A toy walk whose acceptance is exp(-h^2), seen in 30 noisy particles.
        noise = 0.05 * torch.randn(30, generator=generator)
        adaptation.update((math.exp(-(min(adaptation.step_size, 20.0) ** 2)) + noise).clamp(0, 1))
        trace.append(adaptation.step_size)
    assert sum(trace[-50:]) / 50 == pytest.approx(math.sqrt(-math.log(0.8)), rel=0.05)


def test_scale_is_the_inverse_root_of_the_hessian_diagonal_of_a_gaussian():
    generator = torch.Generator().manual_seed(2)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    hessian = root @ root.T + torch.diag(torch.tensor([1.0, 2.0, 4.0, 50.0, 1e3, 1e4], dtype=torch.float64))
    factor = torch.linalg.cholesky(torch.linalg.inv(hessian))
    n_particles, n_steps = 200, 40
    adaptation = ScaleAdaptation(1.0, Ranks())
    for _ in range(n_steps):
        noise = torch.randn(n_particles, 6, generator=generator, dtype=torch.float64)
        adaptation.update(noise @ factor.T @ hessian)  # gradients H w of draws w from the Gaussian
    curvature = adaptation.scale(torch.float64) ** -2
    # The mean square of n draws has the relative standard error sqrt(2 / n).
    error = (curvature / hessian.diagonal() - 1) / math.sqrt(2 / (n_particles * n_steps))
    assert error.abs().max() < 4


def test_all_steps_since_the_last_call_count_and_then_it_begins_anew():
    adaptation = ScaleAdaptation(1e-6, Ranks())
    for size in (1.0, 7.0):
        adaptation.update(torch.full((3, 2), size))
    torch.testing.assert_close(adaptation.scale(torch.float32), torch.full((2,), 0.2))  # 25 on average
    adaptation.update(torch.full((3, 2), 4.0))
    torch.testing.assert_close(adaptation.scale(torch.float64), torch.full((2,), 0.25, dtype=torch.float64))
    with pytest.raises(ValueError, match="no gradients"):
        adaptation.scale(torch.float32)


def test_the_walk_learns_its_scale_at_doubling_times_from_the_later_half_of_the_steps(classification, monkeypatch):
    events = []

    class Watched(ScaleAdaptation):
        def update(self, gradient):
            events.append("update")
            super().update(gradient)

        def scale(self, dtype):
            events.append("scale")
            return super().scale(dtype)

    class Counted(StepSizeAdaptation):
        def update(self, acceptance):  # once a step, before the gradients are taken in
            events.append("step")
            super().update(acceptance)

    monkeypatch.setattr(run, "ScaleAdaptation", Watched)
    monkeypatch.setattr(run, "StepSizeAdaptation", Counted)
    schedule = WalkSchedule(max_steps=36, min_warmup=14, n_snapshots=1, least_ratio=1e9)
    found = walk_from(classification.energy(), classification.map_fit.weights, n_particles=3, schedule=schedule)
    assert not found.settled  # 18 steps of warm-up, a third of 14 before the first renewal
    steps, taken_in, renewals = 0, [], []
    for event in events:
        steps += event == "step"
        {"step": [], "update": taken_in, "scale": renewals}[event].append(steps)
    assert taken_in == [3, 4, 7, 8, 13, 14, 15, 16]
    assert renewals == [4, 8, 16]


def test_no_scale_is_longer_than_the_priors():
    adaptation = ScaleAdaptation(4.0, Ranks())
    adaptation.update(torch.zeros(3, 2))
    torch.testing.assert_close(adaptation.scale(torch.float32), torch.full((2,), 0.5))


def test_a_flat_energy_at_equipartition_has_settled():
    assert settled(torch.full((40, 5), P / 2))
    assert sum(settled(noisy(torch.full((80,), P / 2.0), seed=s)) for s in range(20)) >= 18


def test_a_rising_energy_has_not():
    rise = torch.linspace(0.5, 1.0, 80) * P / 2  # 17 % of P/2 a third
    assert not settled(rise[:, None].expand(80, 5))
    assert not any(settled(noisy(rise, seed=s)) for s in range(20))


def test_a_flat_energy_far_below_equipartition_has_not():
    rise = torch.full((80,), 0.5 * P / 2)
    assert not settled(rise[:, None].expand(80, 5))
    assert not any(settled(noisy(rise, seed=s)) for s in range(20))


def test_an_energy_that_has_come_up_and_stands_has_settled():
    time = torch.arange(160.0)
    rise = (1 - (-time / 15).exp()) * P / 2
    assert [settled(rise[:end, None].expand(end, 5)) for end in (20, 40, 160)] == [False, False, True]


def test_growth_within_the_standard_error_counts_as_none():
    # 5 % a third is above the tolerance; two particles that differ as much cannot tell it from none.
    growth = torch.linspace(1.0, 1.16, 80) * P / 2
    assert not settled(growth[:, None].expand(80, 2))
    disagreeing = growth[:, None] + torch.linspace(0, 1, 80)[:, None] * torch.tensor([[40.0, -40.0]])
    assert settled(disagreeing)


def test_a_falling_energy_has_settled():
    assert settled((torch.linspace(2.0, 1.0, 80) * P / 2)[:, None].expand(80, 5))


@pytest.mark.parametrize("length", [0, 1, 2])
def test_too_short_a_series_has_not_settled(length):
    assert not settled(torch.full((length, 5), 1.0 * P))


def test_one_particle_is_enough():
    assert settled(torch.full((40, 1), P / 2))
