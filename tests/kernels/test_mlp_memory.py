"""What gradients and predictions of perceptrons take beside their inputs and results, in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

PEAK = """
import json, resource, sys
import torch
from fiberbnn_kernels import MLPLayout, mlp_class_sums, mlp_nll_and_grad
torch.set_num_threads(1)
layout, count = MLPLayout((14, 50, 2)), int(sys.argv[2])
x, y = torch.randn(552, 14), torch.randint(2, (552,))
weights = 0.3 * torch.randn(count, layout.n_params)
def run(weights):
    if sys.argv[1] == "gradients":
        return mlp_nll_and_grad(weights, x, y, layout, likelihood="categorical")[1].nbytes
    mlp_class_sums(weights, x, layout)
    return 0
run(weights[:16])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
result = run(weights)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before - result))
"""


def beside(what: str, count: int) -> int:
    """Bytes by which the peak of the process has risen, less the result."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, what, str(count)], capture_output=True, text=True, timeout=200, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the peak of a process in KiB")
@pytest.mark.parametrize("what", ["gradients", "predictions"])
def test_peak_memory_does_not_grow_with_the_particles(what: str) -> None:
    # The activations of all would be 50 x 552 floats each, 430 MiB at the larger number.
    few, many = beside(what, 256), beside(what, 4096)
    assert many - few < 8 << 20
    assert many < 32 << 20
