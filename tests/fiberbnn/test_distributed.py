"""Particles shared among real processes: the same trajectory and posterior as in one."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from tests.fiberbnn import distributed_worker as worker

pytestmark = [
    pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="torch was built without gloo"),
    pytest.mark.filterwarnings("ignore:the walk's energy"),
]

# One process adds the gradients of all particles in one sum for the preconditioner, several add up their sums. In
# float64 that is all; operations on fewer particles round otherwise in float32. Either grows over the steps.
WITHIN = {True: {"rtol": 1e-8, "atol": 1e-10}, False: {"rtol": 1e-3, "atol": 1e-4}}


def run_processes(target, size: int, folder: Path, seconds: float = 300.0) -> None:
    """Run the target in `size` processes; whatever has not ended in time is killed."""
    context = multiprocessing.spawn(target, args=(size, str(folder)), nprocs=size, join=False)
    deadline = time.monotonic() + seconds
    try:
        while not context.join(timeout=1.0):
            assert time.monotonic() < deadline, "the processes hang"
    finally:
        for child in context.processes:
            if child.is_alive():
                child.kill()


@pytest.fixture(scope="module", params=[1, 2, 3])
def found(request, tmp_path_factory) -> list[dict]:
    """What each of 1, 2 or 3 processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    run_processes(worker.process, request.param, folder)
    return [torch.load(folder / f"found{rank}.pt") for rank in range(request.param)]


@pytest.fixture(scope="module")
def alone() -> dict[str, dict]:
    """The same walks in this process."""
    return {name: worker.contents(run()) for name, run in worker.WALKS.items()}


@pytest.mark.parametrize("name", worker.WALKS)
def test_processes_together_walk_as_one(found, alone, name):
    one = alone[name]
    for of_rank in found:
        many = of_rank[name]
        for field in ("weights", "energy", "full_energy", "scale", "history"):
            tolerance = WITHIN["float64" in name]
            torch.testing.assert_close(many[field], one[field], equal_nan=True, **tolerance)
        assert torch.equal(many["particle"], one["particle"])
        assert (many["lost"], many["settled"]) == (one["lost"], one["settled"])
        assert many["map_energy"] == pytest.approx(one["map_energy"], rel=1e-6)
        # Every process has to the bit what the others have.
        assert all(torch.equal(many[field], found[0][name][field]) for field in ("weights", "energy", "scale"))


@pytest.mark.parametrize("name", worker.WALKS)
def test_the_cost_does_not_depend_on_how_many_share_it(found, alone, name):
    for of_rank in found:
        assert of_rank[name]["cost"] == pytest.approx(alone[name]["cost"])


def test_shares_that_are_not_gathered_make_up_the_whole(found):
    whole, shares = found[0]["perceptron float64"], [of_rank["share"] for of_rank in found]
    snapshots = [share["weights"].unflatten(0, (worker.SCHEDULE.n_snapshots, -1)) for share in shares]
    size = len(found)
    assert [len(s[0]) for s in snapshots] == [7 * (r + 1) // size - 7 * r // size for r in range(size)]
    assert torch.equal(torch.cat(snapshots, dim=1).flatten(0, 1), whole["weights"])
    numbers = torch.cat([share["particle"].unflatten(0, (len(snapshots[0]), -1)) for share in shares], dim=1)
    assert torch.equal(numbers.flatten(), whole["particle"])
    # Its own cost: what belongs to no particle is in each.
    particles = [share["cost"]["grad_evals"] - share["cost"]["shared_grads"] for share in shares]
    assert sum(particles) + shares[0]["cost"]["shared_grads"] == whole["cost"]["grad_evals"]


def test_a_fit_has_the_same_posterior_in_every_process(found):
    posterior = worker.fitted()
    for of_rank in found:
        assert torch.equal(of_rank["samples"], found[0]["samples"])
        # The steps of Adam come on top of the walk's.
        torch.testing.assert_close(
            of_rank["samples"], posterior.latent_posterior.sample(20, seed=5), rtol=1e-5, atol=1e-7
        )
        torch.testing.assert_close(of_rank["predicted"], posterior(worker.data(torch.float64)[0]), rtol=1e-5, atol=1e-7)
        assert of_rank["grad_evals"] == posterior.diagnose(worker.data(torch.float64)).grad_evals


def test_more_processes_than_particles_are_refused(found):
    for of_rank in found:
        expected = "n_particles must be at least 1" if len(found) == 1 else "cannot be shared among"
        assert expected in of_rank["too few"]


def test_a_walk_that_diverges_does_so_in_every_process(found):
    for of_rank in found:
        assert "80 % of the last" in of_rank["diverged"]


def test_the_first_process_alone_shows_progress(found):
    assert "energy_ratio" in found[0]["shown"]
    assert [of_rank["shown"] for of_rank in found[1:]] == [""] * (len(found) - 1)


def test_a_process_that_fails_ends_the_others(tmp_path):
    start = time.monotonic()
    with pytest.raises(
        multiprocessing.ProcessRaisedException, match=r"lost its data|Connection closed|timed out|reset"
    ):
        run_processes(worker.failing, 2, tmp_path, seconds=200)
    assert time.monotonic() - start < 200


@pytest.mark.slow
def test_torchrun_starts_it(tmp_path, alone):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, worker.__file__, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        found = torch.load(tmp_path / f"found{rank}.pt")
        torch.testing.assert_close(found["weights"], alone["perceptron float64"]["weights"], rtol=1e-8, atol=1e-10)
