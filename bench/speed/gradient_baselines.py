"""Negative log-likelihoods of perceptrons and their gradients for many particles, as one would write them in torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.nn.functional import cross_entropy

from bench.speed.problems import Problem

ValueAndGrad = Callable[[Tensor], tuple[Tensor, Tensor]]


def single(problem: Problem) -> Callable[[Tensor], Tensor]:
    """Return the NLL of one weight vector, through `functional_call`."""
    module = problem.module()

    def nll(w: Tensor) -> Tensor:
        return cross_entropy(problem.apply(module, w, problem.x), problem.y, reduction="sum")

    return nll


def mapped(problem: Problem) -> ValueAndGrad:
    """Return `vmap(grad_and_value)`."""
    both = vmap(grad_and_value(single(problem)))

    def value_and_grad(weights: Tensor) -> tuple[Tensor, Tensor]:
        gradient, value = both(weights)
        return value, gradient

    return value_and_grad


def looped(problem: Problem) -> ValueAndGrad:
    """Return a loop over particles."""
    both = grad_and_value(single(problem))

    def value_and_grad(weights: Tensor) -> tuple[Tensor, Tensor]:
        gradients, values = zip(*(both(w) for w in weights), strict=True)
        return torch.stack(values), torch.stack(gradients)

    return value_and_grad


def batched(problem: Problem, n_particles: int) -> ValueAndGrad:
    """Return a batched matrix product for every layer, and autograd."""
    labels = problem.y.expand(n_particles, -1).flatten()

    def value_and_grad(weights: Tensor) -> tuple[Tensor, Tensor]:
        w = weights.detach().requires_grad_()
        with torch.enable_grad():
            outputs = outputs_of(problem, w)
            nll = cross_entropy(outputs.flatten(0, 1), labels, reduction="none").view(n_particles, -1).sum(1)
            (gradient,) = torch.autograd.grad(nll.sum(), w)
        return nll.detach(), gradient

    return value_and_grad


def outputs_of(problem: Problem, weights: Tensor) -> Tensor:
    """Return the outputs [K, N, C] of weights [K, P], a batched matrix product a layer."""
    h = problem.x.expand(len(weights), -1, -1)
    for at in problem.layout.layers():
        if at.weight:
            h = h.tanh()
        matrix = weights[:, at.weight : at.bias].view(-1, at.n_out, at.n_in)
        h = torch.baddbmm(weights[:, None, at.bias : at.bias + at.n_out], h, matrix.mT)
    return h
