"""No Triton, no driver, no Linux: everything imports, runs on the CPU, and says why it is not fused."""

import json
import os

import pytest
import torch

from tests.kernels.every_function import CALLS, with_impl
from tests.kernels.processes import run_python

# What other people's packages need is imported before the system is said to be another.
OTHERS = "import sys, torch, numpy, safetensors.torch, tqdm, statistics\n"
NO_TRITON = OTHERS + 'sys.modules["triton"] = None\n'
PLACES = {
    "not installed": NO_TRITON,
    "installed but broken": """
import importlib.machinery, sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == "triton" else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        raise ImportError("libcuda.so.1: cannot open shared object file")
sys.meta_path.insert(0, Broken())
""",
    # What a broken driver may do to whoever asks: nobody may, as all tensors are on the CPU.
    "driver that fails": OTHERS
    + """
def fail(*_, **__):
    raise RuntimeError("CUDA driver initialization failed")
for name in ("is_available", "device_count", "current_device", "get_device_capability", "init", "_lazy_init"):
    setattr(torch.cuda, name, fail)
""",
    "macOS": NO_TRITON + 'sys.platform = "darwin"\n',
    # Modules that Python does not have on Windows.
    "Windows": NO_TRITON
    + 'sys.platform = "win32"\nfor name in ("resource", "fcntl", "pwd", "grp", "termios"): sys.modules[name] = None\n',
}
OF_PACKAGE = """
def loaded(of, what):
    return [name for name, module in sys.modules.items() if module and name.split(".")[0] == of and what in name]
import fiberbnn_kernels
import fiberbnn
imported = loaded("triton", "") + loaded("fiberbnn_kernels", "fused")
import json
from tests.kernels.every_function import outcomes
found = outcomes()
print(json.dumps({"found": found, "imported": imported, "called": loaded("fiberbnn_kernels", "fused")}))
"""
Place = tuple[str, dict[str, dict[str, list[str]]]]


@pytest.fixture(scope="module", params=PLACES)
def there(request: pytest.FixtureRequest) -> Place:
    """What calls lead to in a process of such a place, and which modules it has loaded before and after."""
    script = "import sys\n" + PLACES[request.param] + OF_PACKAGE
    said = run_python("-c", script, CUDA_VISIBLE_DEVICES="", TRITON_INTERPRET="0").splitlines()[-1]
    return request.param, json.loads(said)


@pytest.mark.parametrize("function", CALLS)
def test_it_runs_by_itself_and_says_why_it_is_not_fused(function: str, there: Place) -> None:
    place, said = there
    auto, fused = said["found"][function]
    assert auto == "ran"
    kind, _, message = fused.partition(": ")
    assert kind == "RuntimeError"
    if "fused kernel" in message:  # which operations without one say
        assert 'impl="auto"' in message
    elif place in ("driver that fails", "installed but broken"):
        assert "do not run on 'cpu' tensors" in message
    else:
        assert "Triton is not installed" in message
        assert "Linux only" in message


def test_neither_triton_nor_kernels_are_loaded_without_need(there: Place) -> None:
    """Triton itself is loaded by torch, at the first call of any operator of ours: by `torch._dynamo`, if it can."""
    assert there[1]["imported"] == []
    assert there[1]["called"] == []


def test_every_function_is_called() -> None:
    assert set(CALLS) == with_impl()


def test_a_triton_that_does_not_import_is_named_where_it_would_run() -> None:
    script = (
        PLACES["installed but broken"]
        + """
import torch
from fiberbnn_kernels import perturb
from fiberbnn_kernels.backend import choose_fused
try:
    perturb(torch.ones(2, 3), noise=1.0, impl="fused")
except RuntimeError as error:
    assert "Triton is installed but cannot be imported: libcuda.so.1" in str(error), error
else:
    raise AssertionError("fused ran without Triton")
torch.cuda.is_available = lambda: True
assert not choose_fused("auto", torch.device("cuda"))
"""
    )
    run_python("-c", script, TRITON_INTERPRET="1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter runs kernels on the CPU")
def test_fused_says_why_here() -> None:
    for call in CALLS.values():
        with pytest.raises(RuntimeError, match=r"cannot run: |fused kernel"):
            call("fused")
