"""The metric losses: what each holds the distances between latents to."""

import math

import pytest
import torch

from fiberbnn import AutoencoderSettings, LatentPosterior, LatentSettings, walk_from
from fiberbnn.latent_metric import geodesics, metric_loss, successors


def circle(n: int) -> torch.Tensor:
    """Three quarters of a unit circle, [n, 2]: its ends are near, but far along it."""
    angle = torch.linspace(0.0, 1.5 * math.pi, n)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_geodesics_follow_the_points_and_chords_cut_across():
    found = geodesics(circle(60), 4)
    assert float(found[0, -1]) == pytest.approx(1.5 * math.pi, rel=0.01)
    assert float(found[10, 11]) == pytest.approx(1.5 * math.pi / 59, rel=0.01)
    assert torch.equal(found, found.T)
    assert (found.diagonal() == 0).all()


def test_geodesics_are_chords_where_all_are_neighbours():
    points = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(geodesics(points, 11), torch.cdist(points, points), atol=1e-5, rtol=1e-5)


def test_groups_far_apart_are_joined_by_their_shortest_chord():
    # Two pairs on a line: with one neighbour each, only the spanning tree joins them.
    points = torch.tensor([[0.0], [1.0], [11.0], [13.0]])
    torch.testing.assert_close(geodesics(points, 1)[0], torch.tensor([0.0, 1.0, 11.0, 13.0]))


def test_a_successor_is_the_same_particles_next_point_and_for_the_last_the_one_before():
    particle = torch.tensor([4, 7, 4, 7, 4, 9])
    assert successors(6, particle, particle.device).tolist() == [2, 3, 4, 1, 2, 5]
    assert successors(3, None, particle.device).tolist() == [1, 2, 1]


def test_distances_that_are_right_cost_nothing():
    points, numbers = circle(30), torch.tensor([3, 20, 8, 29, 3])
    straight = metric_loss("chords", points)
    assert float(straight(numbers, points[numbers], lambda n: points[n])) == pytest.approx(0.0, abs=1e-10)
    # On a line at the lengths along the circle, geodesics are right and chords are not.
    line = torch.linspace(0.0, 1.5 * math.pi, 30)[:, None]
    along = metric_loss("geodesics", points, n_neighbours=2)
    assert float(along(numbers, line[numbers], lambda n: line[n])) == pytest.approx(0.0, abs=1e-4)
    assert float(straight(numbers, line[numbers], lambda n: line[n])) > 0.05


def test_consecutive_points_are_drawn_to_a_unit_and_all_others_apart():
    points = torch.arange(6.0)[:, None]
    loss = metric_loss("consecutive", points, torch.zeros(6, dtype=torch.int64))
    numbers = torch.tensor([0, 5])

    def at(z: torch.Tensor) -> float:
        return float(loss(numbers, z[numbers], lambda n: z[n]))

    # The successors of 0 and 5 are 1 and 4, both a unit away; 0 and 5 are five units apart.
    assert at(points) == pytest.approx(-math.log(5.0))
    stretched = points.clone()
    stretched[0] = -1.0
    assert at(stretched) == pytest.approx((2.0 - 1.0) ** 2 / 2 - math.log(6.0))
    same = torch.tensor([2, 2])  # no pair of different points: nothing to push
    assert float(loss(same, points[same], lambda n: points[n])) == pytest.approx(0.0)


@pytest.mark.parametrize("distances", ["geodesics", "consecutive"])
def test_every_loss_can_train_a_latent_posterior(classification, distances):
    walked = walk_from(classification.energy(), classification.map_fit.weights, n_particles=10)
    alone = {"reconstruction": 0.0, "function": 0.0, "metric": 1.0, "distances": distances}
    few = AutoencoderSettings(steps=60, max_steps=60, decay_steps=10, latent_size=4, **alone)
    latent = LatentPosterior.fit(
        walked.weights, classification.energy(), scale=walked.scale, particle=walked.particle,
        settings=LatentSettings(autoencoder=few),
    )  # fmt: skip
    assert latent.sample(5, seed=0).isfinite().all()
    losses = torch.tensor([entry["metric"] for entry in latent.losses])
    assert losses[-10:].mean() < losses[:10].mean()
