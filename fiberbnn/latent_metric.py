"""What the distances between latents are held to: three readings of "structured", as losses of the autoencoder.

All three are ours; the paper says no more than that the latent space is structured.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Distances = Literal["chords", "geodesics", "consecutive"]
# From the numbers of a batch's points [B], their latents [B, L] and the encoder of numbered points to a loss, [].
MetricLoss = Callable[[Tensor, Tensor, Callable[[Tensor], Tensor]], Tensor]


def metric_loss(
    kind: Distances, points: Tensor, particle: Tensor | None = None, *, n_neighbours: int = 10
) -> MetricLoss:
    """Return the metric loss of walk points.

    Args:
        kind: "chords": mean squared error of latent against straight distances, relative to the mean distance of a
            batch. "geodesics": the same against `geodesics`. "consecutive": two consecutive points of a particle lie a
            unit apart, and all of a batch are pushed away from each other, by minus the mean logarithm of their
            distances; the unit is the mean chord of consecutive points, so that latents need not be rescaled.
        points: walk points on the latents' scale, [M, r], in the order in which they were visited.
        particle: whose points they are, [M], int64; None if all are of one.
        n_neighbours: of each point in the graph of "geodesics".
    """
    if kind == "chords":
        return lambda numbers, z, _: _relative_error(torch.pdist(points[numbers]), z)
    if kind == "geodesics":
        along = geodesics(points, n_neighbours)
        return lambda numbers, z, _: _relative_error(_pairs(along, numbers), z)
    following = successors(len(points), particle, points.device)
    unit = (points - points[following]).norm(dim=1).mean().clamp(min=torch.finfo(points.dtype).tiny)

    def consecutive(numbers: Tensor, z: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        steps = _safe_norm(z - encode(following[numbers])) / unit
        apart = torch.pdist(z)[_pairs(numbers[:, None] != numbers, torch.arange(len(numbers)))] / unit
        pushed = apart.clamp(min=1e-3).log().mean() if len(apart) else z.new_zeros(())
        return (steps - 1.0).square().mean() - pushed

    return consecutive


def geodesics(points: Tensor, n_neighbours: int) -> Tensor:
    """Return the lengths of the shortest paths between points [M, r] on their nearest-neighbour graph, [M, M].

    Two points are neighbours if either is among the `n_neighbours` nearest of the other, or they are joined in the
    minimum spanning tree: without it a graph of few neighbours may fall apart. Takes O(M^3) time.

    Source: Tenenbaum, de Silva and Langford (2000), doi:10.1126/science.290.5500.2319; paths by Floyd (1962).
    """
    chords = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    k = min(n_neighbours, len(points) - 1)
    near = torch.zeros_like(chords, dtype=torch.bool)
    near.scatter_(1, chords.clone().fill_diagonal_(torch.inf).topk(k, largest=False).indices, True)
    near |= _spanning_tree(chords)
    lengths = torch.where(near | near.T, chords, torch.inf).fill_diagonal_(0.0)
    for via in range(len(points)):
        lengths = torch.minimum(lengths, lengths[:, via, None] + lengths[via])
    return lengths


def successors(n_points: int, particle: Tensor | None, device: torch.device) -> Tensor:
    """Return the number of the point that each point's particle visited next, [M]; for its last one, the one before.

    A particle with one point only is its own successor.
    """
    particle = torch.zeros(n_points, dtype=torch.int64, device=device) if particle is None else particle
    following = torch.arange(n_points, device=device)
    for one in particle.unique():
        own = (particle == one).nonzero().flatten()
        if len(own) > 1:
            following[own] = torch.cat([own[1:], own[-2:-1]])
    return following


def _spanning_tree(chords: Tensor) -> Tensor:
    """The edges of the minimum spanning tree, bool [M, M], each in one direction; by Prim's algorithm."""
    edges = torch.zeros_like(chords, dtype=torch.bool)
    outside = torch.ones(len(chords), dtype=torch.bool, device=chords.device)
    outside[0] = False
    nearest, link = chords[0].clone(), torch.zeros(len(chords), dtype=torch.int64, device=chords.device)
    for _ in range(len(chords) - 1):
        new = torch.where(outside, nearest, torch.inf).argmin()
        edges[new, link[new]], outside[new] = True, False
        link = torch.where(chords[new] < nearest, new, link)
        nearest = torch.minimum(nearest, chords[new])
    return edges


def _relative_error(distances: Tensor, z: Tensor) -> Tensor:
    """Mean squared error of the distances between latents, relative to the mean of those wanted, []."""
    # A batch drawn with replacement can hold one point only.
    return ((torch.pdist(z) - distances) / distances.mean().clamp(min=torch.finfo(z.dtype).tiny)).square().mean()


def _pairs(matrix: Tensor, numbers: Tensor) -> Tensor:
    """The entries of a symmetric matrix that belong to pairs of points, in the order of `torch.pdist`."""
    first, second = torch.triu_indices(len(numbers), len(numbers), offset=1, device=matrix.device)
    return matrix[numbers[first], numbers[second]]


def _safe_norm(difference: Tensor) -> Tensor:
    """Norms along the last axis, with a gradient of zero instead of NaN where there is no difference."""
    squares = difference.square().sum(dim=-1)
    return squares.clamp(min=torch.finfo(squares.dtype).tiny).sqrt()
