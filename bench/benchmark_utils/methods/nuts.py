"""NUTS by blackjax (Hoffman and Gelman 2014, JMLR 15). Import needs jax and blackjax (extra `hmc`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmark_utils.methods.mlp_posterior import MLPPosterior


@dataclass(frozen=True, eq=False)
class NutsRun:
    """What a NUTS run leaves behind; R chains, S stored draws a chain, P weights.

    Attributes:
        draws: every thin-th position after warm-up, [R, S, P], float32.
        log_density: of each stored draw, minus its energy U, [R, S], nats.
        step_size: of each chain, [R].
        grad_evals: gradients over the full data, all chains, warm-up included.
        divergences: diverging transitions after warm-up, all chains.
        acceptance: mean acceptance statistic after warm-up.
        tree_depth: mean number of doublings after warm-up.
        seconds: warm-up and draws, compilation not included.
    """

    draws: np.ndarray
    log_density: np.ndarray
    step_size: np.ndarray
    grad_evals: int
    divergences: int
    acceptance: float
    tree_depth: float
    seconds: float


class Nuts:
    """NUTS with Stan's window adaptation of step size and diagonal mass matrix.

    Compiled once for all chains and all data of one size. The chains run one after the other: a vmapped tree
    runs until the deepest of the chains is done, and on one CPU core two gradients together were no cheaper
    than two alone.

    Args:
        posterior: what to sample.
        n_rows: N, the number of training examples.
        n_warmup: transitions of adaptation a chain.
        max_tree_depth: most doublings of a trajectory.
        thin: transitions a stored draw.
        target_acceptance: of the step size adaptation.
        block: stored draws a compiled call; progress is reported after each.
    """

    def __init__(
        self,
        posterior: MLPPosterior,
        n_rows: int,
        *,
        n_warmup: int,
        max_tree_depth: int = 10,
        thin: int = 1,
        target_acceptance: float = 0.8,
        block: int = 50,
    ) -> None:
        self.posterior, self.n_warmup, self.thin, self.block = posterior, n_warmup, thin, block
        kernel = blackjax.nuts.build_kernel()

        def warm_up(data: tuple[Array, Array], key: Array, position: Array) -> tuple[Any, Array, Array, Array]:
            adaptation = blackjax.window_adaptation(
                blackjax.nuts,
                lambda weights: posterior.log_density(weights, *data),
                target_acceptance_rate=target_acceptance,
                # The default of 1 wastes the first transitions on divergences: these nets need 0.001 to 0.1.
                initial_step_size=0.01,
                adaptation_info_fn=lambda state, info, adaptation_state: info.num_integration_steps,
                max_num_doublings=max_tree_depth,
            )
            (state, parameters), steps = adaptation.run(key, position, n_warmup)
            return state, parameters["step_size"], parameters["inverse_mass_matrix"], steps.sum()

        def draw_block(
            data: tuple[Array, Array], key: Array, state: Any, step_size: Array, inverse_mass: Array
        ) -> tuple:
            def transition(carry: tuple[Any, Array], key: Array) -> tuple[tuple[Any, Array], None]:
                density = partial(posterior.log_density, x=data[0], targets=data[1])
                state, info = kernel(key, carry[0], density, step_size, inverse_mass, max_tree_depth)
                seen = (
                    info.num_integration_steps,
                    info.is_divergent,
                    info.acceptance_rate,
                    info.num_trajectory_expansions,
                )
                return (state, carry[1] + jnp.stack([jnp.float32(value) for value in seen])), None

            def stored(carry: tuple[Any, Array], key: Array) -> tuple[tuple[Any, Array], tuple[Array, Array]]:
                carry, _ = jax.lax.scan(transition, carry, jax.random.split(key, thin))
                return carry, (carry[0].position, carry[0].logdensity)

            return jax.lax.scan(stored, (state, jnp.zeros(4)), jax.random.split(key, block))

        # Compiled ahead of time, not by a trial run, so that a timed run neither compiles nor starts warm.
        widths, float32 = posterior.widths, jnp.float32
        data = tuple(jax.ShapeDtypeStruct((width, n_rows), float32) for width in (widths[0], widths[-1]))
        start = (data, jax.random.key(0), jax.ShapeDtypeStruct((posterior.n_params,), float32))
        self._warm_up = jax.jit(warm_up).lower(*start).compile()
        state = jax.eval_shape(warm_up, *start)[:3]
        self._draw_block = jax.jit(draw_block).lower(data, start[1], *state).compile()

    def run(
        self,
        x: np.ndarray,
        y: np.ndarray,
        initial: np.ndarray,
        *,
        n_draws: int,
        seed: int,
        progress: Callable[[int], None] | None = None,
    ) -> NutsRun:
        """Return n_draws stored draws of each chain.

        Args:
            x: training inputs, [N, D].
            y: labels, [N], or targets, [N, C].
            initial: starting weights of the chains, [R, P].
            n_draws: stored draws a chain, a multiple of block; thin * n_draws transitions are made for them.
            seed: the same seed gives the same draws on the same machine.
            progress: called with the number of transitions just made (warm-up counts too).

        Raises:
            ValueError: if n_draws is not a multiple of block.
            FloatingPointError: if the starting density or a draw is not finite.
        """
        if n_draws % self.block:
            raise ValueError(f"n_draws={n_draws} must be a multiple of block={self.block}")
        started, data = time.perf_counter(), self.posterior.prepare(x, y)
        chains, totals, warm_up_grads = [], np.zeros(4), 0
        for chain, position in enumerate(np.asarray(initial, np.float32)):
            key = jax.random.fold_in(jax.random.key(seed), chain)
            *tuned, steps = self._warm_up(data, jax.random.fold_in(key, 0), jnp.asarray(position))
            warm_up_grads += 1 + int(steps)
            (progress or _ignore)(self.n_warmup)
            kept, state = [], tuned[0]
            for block in range(n_draws // self.block):
                key_block = jax.random.fold_in(key, 1 + block)
                (state, seen), stored = self._draw_block(data, key_block, state, *tuned[1:])
                kept.append([np.asarray(values) for values in stored])
                totals += np.asarray(seen, np.float64)
                (progress or _ignore)(self.block * self.thin)
            positions, densities = (np.concatenate(values) for values in zip(*kept, strict=True))
            if not np.isfinite(densities).all():
                raise FloatingPointError(f"chain {chain} diverged: its log density is not finite")
            chains.append((positions, densities, np.asarray(tuned[1])))
        draws, log_density, step_size = (np.stack(values) for values in zip(*chains, strict=True))
        integration_steps, divergences, acceptance, doublings = totals
        n_transitions = len(chains) * n_draws * self.thin
        return NutsRun(
            draws=draws,
            log_density=log_density,
            step_size=step_size,
            grad_evals=warm_up_grads + int(integration_steps),
            divergences=int(divergences),
            acceptance=float(acceptance / n_transitions),
            tree_depth=float(doublings / n_transitions),
            seconds=time.perf_counter() - started,
        )


def _ignore(n_transitions: int) -> None:
    """Progress that nobody watches."""


# Seeds of a task share their shapes, and compiling takes longer than sampling the small nets.
compiled_nuts = lru_cache(maxsize=8)(Nuts)
