"""Values that the parameters of tasks and methods cannot have are refused before anything runs."""

import sys
from pathlib import Path

import pytest
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
    (laplace,) = benchmark.check_solver_patterns(["laplace[subnet_share=1]"])  # a whole number is a number
    assert {unknown_value("solver", solver) for solver, _ in _list_parametrized_classes(laplace)} == {""}
