"""Values that the parameters of tasks and methods cannot have are refused before anything runs."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from benchopt import BaseSolver
from benchopt.benchmark import Benchmark, _list_parametrized_classes

from benchmark_utils.report.campaign import plan
from benchmark_utils.report.configuration import read_configuration
from benchmark_utils.report.refusals import ConfigurationError
from benchmark_utils.report.values import unknown_value

BENCH = Path(__file__).parents[2] / "bench"
CONFIGS = sorted(path for path in (BENCH / "configs").glob("*.yml") if path.stem not in ("dask", "slurm"))


@pytest.fixture(autouse=True)
def _modules_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every plan begins; benchopt puts a module of its own in the place of benchmark_utils."""
    monkeypatch.setattr("benchopt.benchmark._RUNNING_BENCHMARK", None)
    monkeypatch.setitem(sys.modules, "benchmark_utils", sys.modules["benchmark_utils"])
    monkeypatch.setenv("BENCHOPT_CACHE", "")


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (
            "laplace[structure=krn]",
            "the method laplace cannot have structure='krn', the nearest is kron; it may be full or kron or diag or",
        ),
        ("laplace[structure=[kron,2]]", "the method laplace cannot have structure=2; it may be full or"),
        ("laplace[image_jacobians=1]", "the method laplace cannot have image_jacobians=1; it may be True or False"),
        ("walk[drift=litteral]", "the method walk cannot have drift='litteral', the nearest are literal, literal-"),
        ("walk[steps=auto]", "the method walk cannot have steps='auto'; it may be settled or a whole number"),
        ("walk[steps=60.5]", "the method walk cannot have steps=60.5; it may be settled or a whole number"),
        ("walk[metropolis=yes]", "the method walk cannot have metropolis='yes'; it may be True or False"),
        ("metricbnn[rank=many]", "the method metricbnn cannot have rank='many'; it may be a whole number"),
        ("metricbnn[rank=True]", "the method metricbnn cannot have rank=True; it may be a whole number"),
        ("metricbnn[temperature=hot]", "the method metricbnn cannot have temperature='hot'; it may be a number"),
        ("riemannian-laplace[structure=last_layer]", "the method riemannian-laplace cannot have structure='last_"),
    ],
)
def test_a_value_that_a_method_cannot_have_is_refused_in_one_line(method: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^--solver: ") as refused:
        plan(BENCH / "configs" / "quick.yml", BENCH, ["breast[seed=0]"], [method])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_seed_is_a_whole_number() -> None:
    with pytest.raises(ConfigurationError, match="--dataset: the task breast cannot have seed='first'; it may be a w"):
        plan(BENCH / "configs" / "quick.yml", BENCH, ["breast[seed=first]"])


def of(parameters: dict[str, Any], choices: dict[str, list[Any]] | None = None, **changed: Any) -> str:
    """What is said of a method with these parameters, some of them changed."""

    class Solver(BaseSolver):
        name = "toy"

        def set_objective(self) -> None: ...

        def run(self, stop_val: Any) -> None: ...

        def get_result(self) -> None: ...

    Solver.parameters = parameters
    if choices is not None:
        Solver.choices = choices
    return unknown_value("solver", Solver.get_instance(**changed))


@pytest.mark.parametrize(
    "values",
    [[1, 0.1], [5, None], [1, "auto"], [False, 0.9], [1, np.int64(2)], [0.1, np.float32(0.2)], ["a"], [[1], "b"]],
)
def test_what_a_method_lists_itself_is_never_refused(values: list[Any]) -> None:
    for value in values:
        assert of({"n": values}, n=value) == ""
        assert of({"n": values}, {"n": ["other"]}, n=value) == ""


def test_types_are_those_of_all_listed_values() -> None:
    assert of({"n": [1]}, n=2) == of({"n": [1]}, n=np.int64(2)) == of({"n": 5}, n=7) == ""
    assert of({"x": [0.5]}, x=1) == of({"x": [1, 0.5]}, x=0.2) == ""
    assert of({"n": [1, None]}, n="many") == of({"n": [1, True]}, n="many") == of({"n": ["a"]}, n="b") == ""
    assert of({"a, b": [(1, 2.0), (3, 4.5)]}, a=4, b=1) == ""
    assert of({"a, b": [(1, 2.0), (3, 4.5)]}, a=0.5) == "the method toy cannot have a=0.5; it may be a whole number"
    assert of({"n": [1]}, n=0.5) == "the method toy cannot have n=0.5; it may be a whole number"
    assert of({"n": [1]}, n=True) == "the method toy cannot have n=True; it may be a whole number"
    assert of({"x": [1.0]}, x=None) == "the method toy cannot have x=None; it may be a number"
    for text in ("1e-3", "1e-8", "2e5"):  # numbers to Python, text to YAML
        assert yaml.safe_load(text) == text
        written = of({"x": [1.0]}, x=text).removesuffix(")").rpartition("it may be a number (this is text: write ")[2]
        assert yaml.safe_load(written) == float(text)


def test_choices_may_be_anything() -> None:
    assert of({"n": [1]}, {"n": [int, None]}, n=None) == of({"n": [1]}, {"n": [1, 2]}, n=2) == ""
    assert of({"n": [1]}, {"n": [1, 2]}, n=3) == "the method toy cannot have n=3; it may be 1 or 2"
    assert (
        of({"n": [1]}, {"n": [int, None]}, n="x")
        == "the method toy cannot have n='x'; it may be a whole number or None"
    )
    assert of({"n": [True]}, {"n": [True, "auto"]}, n=1) == "the method toy cannot have n=1; it may be True or auto"


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_configurations_have_values_that_there_are(config: Path) -> None:
    benchmark = Benchmark(BENCH, seed=0)
    options = read_configuration(config)
    methods = benchmark.check_solver_patterns(options["solver"])
    tasks = benchmark.check_dataset_patterns(options["dataset"])
    for kind, found in (("solver", methods), ("dataset", tasks)):
        listed = list(_list_parametrized_classes(*found))
        assert listed
        assert all(is_installed for _, is_installed in listed)
        assert {unknown_value(kind, component) for component, _ in listed} == {""}
