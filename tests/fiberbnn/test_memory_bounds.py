"""Peak memory of whole fits, each in a process of its own, against the estimate and a multiple of the weights."""

import json
import os
import subprocess
import sys

import pytest
import torch

from fiberbnn import sums
from fiberbnn.moves import chunks, put_back, refresh
from fiberbnn.streams import Stream
from fiberbnn.trajectory import _of_some
from fiberbnn.walk_state import WalkState
from fiberbnn_kernels import norms
from tests.fiberbnn import fit_in_memory

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the peak of a process")

# Activations and their gradients: 64 images of 16 x 16 through feature maps of at most 16 channels, several alive at
# a time, and what the libraries' own buffers take.
ACTIVATIONS = 64 << 20

# glibc keeps freed blocks of up to 32 MiB for later, which can add a tenth; the estimate is of tensors.
RETURNED_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 16)}


def fit(kind: str, width: int, *, n_particles: int = 8, n_snapshots: int = 4, batch_size: int = 0) -> dict:
    """What a fit took."""
    arguments = map(str, (kind, width, n_particles, n_snapshots, batch_size))
    done = subprocess.run(
        [sys.executable, fit_in_memory.__file__, *arguments], capture_output=True, text=True, timeout=500,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | RETURNED_AT_ONCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@linux
@pytest.mark.parametrize(
    ("kind", "width", "options"),
    [
        ("convolutions", 1000, {}),
        ("convolutions", 1000, {"batch_size": 16}),
        ("perceptron", 1500, {}),
    ],
)
def test_the_peak_of_a_fit_stays_within_the_estimate_and_a_multiple_of_the_weights(kind, width, options):
    found = fit(kind, width, **options)
    assert 4e6 < found["weights"] < 8e6
    assert found["risen"] < found["estimate"] + ACTIVATIONS
    # Two states of eight particles and their 32 snapshots are 80 weight vectors.
    assert 60 * found["weights"] < found["risen"] < 140 * found["weights"] + ACTIVATIONS
    assert found["risen"] > 0.5 * found["estimate"]  # nor is it an empty promise
    assert found["finite"]


@linux
def test_more_particles_and_snapshots_take_what_the_estimate_says():
    few, many = (fit("convolutions", 700, n_particles=k, n_snapshots=t) for k, t in ((4, 2), (12, 4)))
    grown, expected = many["risen"] - few["risen"], many["estimate"] - few["estimate"]
    assert 0.5 * expected < grown < 1.3 * expected


@linux
@pytest.mark.slow
def test_ten_million_weights_and_eight_particles_stay_below_six_gib():
    found = fit("convolutions", 2920)
    assert found["weights"] > 4e7
    assert found["peak"] < 6 << 30
    assert found["risen"] < found["estimate"] + ACTIVATIONS
    assert found["risen"] > 0.5 * found["estimate"]


# What goes through in chunks.


@pytest.mark.parametrize("columns", [1, 7, 100, 1 << 13])
def test_sums_over_weights_do_not_depend_on_their_pieces(monkeypatch, columns):
    generator = torch.Generator().manual_seed(0)
    x, origin, slope = torch.randn(5, 100, generator=generator), torch.randn(100), torch.randn(100)
    monkeypatch.setattr(norms, "COLUMNS", columns)
    torch.testing.assert_close(norms.squared_norms(x), x.double().square().sum(1), rtol=1e-13, atol=0)
    expected = (x - origin).double() @ slope.double()
    torch.testing.assert_close(sums.products_from(x, origin, slope), expected, rtol=1e-12, atol=1e-12)


def test_sums_of_many_squares_keep_small_differences():
    x = torch.full((1, 3_000_000), 3.0)
    y = x.clone()
    y[0, 0] = 4.0
    assert float(norms.squared_norms(y) - norms.squared_norms(x)) == pytest.approx(7.0, abs=1e-8)
    assert float(y.square().sum() - x.square().sum()) != 7.0  # float32 has lost it


@pytest.mark.parametrize("copy_bytes", [1, 3 * 5 * 8, 1 << 26])
def test_steps_in_chunks_of_particles_are_those_of_all_at_once(monkeypatch, copy_bytes):
    velocity = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = velocity.clone()
    refresh(whole, 0.7, 3, 11, Stream.REFRESH, 4)
    monkeypatch.setattr("fiberbnn.moves.COPY_BYTES", copy_bytes)
    assert sum(rows.stop - rows.start for rows in chunks(velocity)) == 7
    refresh(velocity, 0.7, 3, 11, Stream.REFRESH, 4)
    assert torch.equal(velocity, whole)

    old = WalkState(torch.zeros(7, 5), torch.zeros(7, 5), torch.zeros(7), torch.zeros(7, 5), 0, torch.zeros(7))
    new = WalkState(torch.ones(7, 5), torch.ones(7, 5), torch.ones(7), torch.ones(7, 5), 1, torch.zeros(7))
    undone = torch.tensor([True, False, False, True, True, False, False])
    put_back(undone, new, old)
    for field in (new.particles[:, 0], new.energy, new.grad[:, 0]):
        assert torch.equal(field, (~undone).float())
    assert (new.velocity == 1).all()  # the caller's to change


@pytest.mark.parametrize("kept", [[True] * 3, [True, False, True], [False, False, True], [False] * 3])
def test_snapshots_of_lost_particles_are_left_out_in_place(kept):
    particles = torch.arange(24.0).view(4, 3, 2)
    expected = particles[:, torch.tensor(kept)].flatten(0, 1).clone()
    found = _of_some(particles, torch.tensor(kept))
    assert torch.equal(found, expected)
    assert found.untyped_storage().data_ptr() == particles.untyped_storage().data_ptr()
