"""Steps and noise under `torch.vmap`: the loop over copies, with particles numbered on so that no two share noise."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fiberbnn_kernels import (
    langevin_close,
    langevin_open,
    optimizer_step,
    perturb,
    philox_normal,
    philox_normal_steps,
    philox_uniform,
)

B, K, P, FIRST = 4, 3, 5, 7
COUNTER = {"seed": 2**40 + 1, "step": 5, "stream": 1}
SETTINGS = {"step_size": 0.3, "friction": 0.2, **COUNTER}
STREAM = {"seed": 2**40 + 1, "stream": 1}


def draw(*shape: int, what: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(what), dtype=torch.float64)


M = draw(P, what=99).abs() + 0.1


# Every step takes five rows [K, P], some of which it overwrites, and the number of the first particle.
def opening(x: Tensor, v: Tensor, g: Tensor, decay: Tensor, snapshot: Tensor, number: int) -> tuple[Tensor, ...]:
    options = {"added_decay": decay[:, 0], "snapshot": snapshot, "particle0": number}
    return langevin_open(x, v, g, M, **options, **SETTINGS)


def opening_plainly(x: Tensor, v: Tensor, g: Tensor, _: Tensor, __: Tensor, number: int) -> tuple[Tensor, ...]:
    return langevin_open(x, v, g, M, particle0=number, **SETTINGS)


def closing(v: Tensor, g: Tensor, _: Tensor, __: Tensor, ___: Tensor, ____: int) -> tuple[Tensor, ...]:
    return v, langevin_close(v, g, M, step_size=0.3)


def adam(x: Tensor, g: Tensor, first: Tensor, second: Tensor, snapshot: Tensor, number: int) -> tuple[Tensor, ...]:
    numbers = {"learning_rate": 0.1, "update": 2, "prior_precision": 0.5, "noise": 0.4, "drift_length": 0.3}
    tensors = {"first": first, "second": second, "snapshot": snapshot, "scale": M, "drift": g}
    optimizer_step(x, g, rule="adam", **tensors, **numbers, particle0=number, **COUNTER)
    return x, first, second, snapshot


def sgd(x: Tensor, g: Tensor, _: Tensor, __: Tensor, ___: Tensor, number: int) -> tuple[Tensor, ...]:
    optimizer_step(x, g, rule="sgd", learning_rate=0.1, noise=0.4, particle0=number, **COUNTER)
    return (x,)


def perturbing(x: Tensor, d: Tensor, _: Tensor, __: Tensor, ___: Tensor, number: int) -> tuple[Tensor, ...]:
    return (perturb(x, drift=d, drift_length=2.0, noise=0.4, scale=M, particle0=number, **COUNTER),)


# And which of its rows a step overwrites.
STEPS = [
    pytest.param(opening, (4,), id="open"),
    pytest.param(opening_plainly, (), id="open plainly"),
    pytest.param(closing, (0,), id="close"),
    pytest.param(adam, (0, 2, 3, 4), id="adam"),
    pytest.param(sgd, (0,), id="sgd"),
    pytest.param(perturbing, (), id="perturb"),
]
Step = Callable[..., tuple[Tensor, ...]]


def five(n_copies: int) -> list[Tensor]:
    """Rows of all copies; the fourth can be a mean of squares."""
    return [draw(n_copies, K, P, what=i).abs() if i == 3 else draw(n_copies, K, P, what=i) for i in range(5)]


def looped(step: Step, rows: list[Tensor], first: int = FIRST) -> tuple[Tensor, ...]:
    """Each copy by itself, its particles numbered after those of the copy before."""
    copies = [step(*(t[b] for t in rows), first + b * K) for b in range(len(rows[0]))]
    return tuple(torch.stack(part) for part in zip(*copies, strict=True))


def equal(ours: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize(("step", "written"), STEPS)
def test_a_step_is_the_loop_over_copies(step: Step, written: tuple[int, ...], dim: int) -> None:
    """What is only read may be mapped on any axis; what is written changes in place."""
    rows = five(B)
    ours = [t.clone() if i in written else t.movedim(0, dim).contiguous() for i, t in enumerate(rows)]
    dims = tuple(0 if i in written else dim for i in range(5))
    mapped = torch.vmap(lambda *t: step(*t, FIRST), in_dims=dims)(*ours)
    assert equal(mapped, looped(step, rows))
    assert all(torch.equal(ours[i], rows[i]) for i in written)


@pytest.mark.parametrize(("step", "written"), STEPS)
def test_nested_copies_are_numbered_through(step: Step, written: tuple[int, ...]) -> None:
    rows = five(6)
    ours = [t.clone().view(2, 3, K, P) for t in rows]
    mapped = torch.vmap(torch.vmap(lambda *t: step(*t, FIRST)))(*ours)
    assert equal(tuple(t.flatten(0, 1) for t in mapped), looped(step, rows))
    assert all(torch.equal(ours[i].view_as(rows[i]), rows[i]) for i in written)


@pytest.mark.parametrize("shape", [(1, 3, 5), (4, 1, 5), (4, 3, 1), (1, 1, 1), (4, 0, 5), (4, 3, 0)])
def test_axes_of_one_and_none(shape: tuple[int, ...]) -> None:
    x, m = draw(*shape), torch.ones(shape[2], dtype=torch.float64)
    settings = {"scale": m, "noise": 0.4, **COUNTER}
    mapped = torch.vmap(lambda x: perturb(x, particle0=FIRST, **settings))(x)
    assert torch.equal(mapped, perturb(x.flatten(0, 1), particle0=FIRST, **settings).view(shape))


def test_copies_differ_in_their_noise_alone() -> None:
    x = draw(K, P)
    same = [x.expand(B, K, P).clone() for _ in range(3)]
    new_x, new_v, _ = torch.vmap(lambda x, v, g: langevin_open(x, v, g, M, **SETTINGS))(*same)
    assert len({tuple(row.tolist()) for row in new_v.flatten(0, 1)}) == B * K
    assert len({tuple(row.tolist()) for row in new_x.flatten(0, 1)}) == B * K


def test_what_is_not_mapped_is_that_of_every_copy() -> None:
    x, v, g = draw(K, P), draw(B, K, P, what=1), draw(K, P, what=2)
    mapped = torch.vmap(lambda v: langevin_open(x, v, g, M, particle0=FIRST, **SETTINGS))(v)
    rows = [x.expand(B, K, P), v, g.expand(B, K, P), v, v]
    assert equal(mapped, looped(opening_plainly, rows))


def test_rows_of_copies_that_lie_apart_are_written_where_they_lie() -> None:
    x = draw(B, K, P)
    trajectory = torch.full((B, 3, K, P), torch.nan, dtype=torch.float64)
    step = {"scale": M, **SETTINGS}
    mapped = torch.vmap(lambda x, s: langevin_open(x, x, x, snapshot=s, **step)[0])(x, trajectory[:, 1])
    assert torch.equal(trajectory[:, 1], mapped)
    assert trajectory[:, [0, 2]].isnan().all()


def noise(_: Tensor, number: int = FIRST) -> tuple[Tensor, ...]:
    counter = {**COUNTER, "particle0": number}
    many = philox_normal_steps(K, P, steps=range(2, 4), particle0=number, **STREAM)
    return philox_normal(K, P, **counter), many, philox_uniform(K, **counter)


def test_noise_obeys_the_randomness_of_vmap() -> None:
    copies = torch.zeros(B, 1)
    different = torch.vmap(lambda _: noise(_), randomness="different")(copies)
    each = [noise(copies, FIRST + b * K) for b in range(B)]
    assert equal(different, tuple(torch.stack(part) for part in zip(*each, strict=True)))
    same = torch.vmap(lambda _: noise(_), randomness="same")(copies)
    assert equal(same, tuple(t.expand(B, *t.shape) for t in noise(copies)))
    with pytest.raises(RuntimeError, match="random operation while in randomness error mode"):
        torch.vmap(noise)(copies)


def test_nested_noise_is_numbered_through() -> None:
    both = torch.vmap(torch.vmap(noise, randomness="different"), randomness="different")(torch.zeros(2, 3, 1))
    each = [noise(torch.zeros(1), FIRST + b * K) for b in range(6)]
    assert equal(tuple(t.flatten(0, 1) for t in both), tuple(torch.stack(part) for part in zip(*each, strict=True)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": torch.ones(B, 3)}, "scale belongs to all rows"),
        ({"step_size": torch.ones(B)}, "step_size belongs to all rows"),
    ],
)
def test_what_belongs_to_all_particles_is_not_mapped(change: dict[str, Tensor], message: str) -> None:
    x = torch.ones(2, 3)
    settings = {**SETTINGS, "scale": torch.ones(3)}
    with pytest.raises(ValueError, match=message):
        torch.vmap(lambda value: langevin_open(x, x, x, **{**settings, next(iter(change)): value}))(*change.values())


def test_refusals_in_words() -> None:
    x, ones = torch.ones(B, 2, 3), torch.ones(3)
    for call, message in (
        (lambda x: langevin_open(x, x, x, ones, snapshot=torch.ones(2, 3), **SETTINGS)[0], "snapshot is overwritten"),
        (lambda g: langevin_close(torch.ones(2, 3), g, ones, step_size=0.1), "velocity is overwritten by every copy"),
        (lambda g: optimizer_step(torch.ones(2, 3), g, rule="sgd", learning_rate=0.1), "particles is overwritten"),
        (lambda x: perturb(x, noise=x.sum()), "noise belongs to all rows"),
        (lambda x: perturb(x, noise=1.0, particle0=2**32 - 7), r"between 0 and 2\^32; got 8 particles of 4 copies"),
    ):
        with pytest.raises(ValueError, match=message):
            torch.vmap(call)(x)
    with pytest.raises(ValueError, match='randomness="same" is not to be had'):
        torch.vmap(lambda x: perturb(x, noise=1.0), randomness="same")(x)
    with pytest.raises(ValueError, match="particles is overwritten and must be contiguous"):
        torch.vmap(lambda x: optimizer_step(x, x, rule="sgd", learning_rate=0.1), in_dims=1)(torch.ones(2, B, 3))
    with pytest.raises(ValueError, match=r"between 0 and 2\^32"):
        torch.vmap(lambda _: philox_uniform(2, **{**COUNTER, "particle0": 2**32 - 7}), randomness="different")(x)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_under_vmap_without_a_break(backend: str) -> None:
    def step(x: Tensor, snapshot: Tensor) -> tuple[Tensor, ...]:
        stored = torch.vmap(lambda x, s: (*langevin_open(x, x, x, M, snapshot=s, **SETTINGS), s.clone()))
        draws = torch.vmap(lambda x: x + philox_normal(K, P, **COUNTER), randomness="different")
        return *stored(x, snapshot), draws(x)

    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    x, ours, expected = draw(B, K, P), torch.zeros(B, K, P).double(), torch.zeros(B, K, P).double()
    assert equal(compiled(x, ours), step(x, expected))
    assert torch.equal(ours, expected)
    assert ours.abs().min() > 0
