"""The dataset files as benchopt sees them."""

from pathlib import Path

import pytest
from benchopt.benchmark import Benchmark

from benchmark_utils.task import MissingTask, Task
from benchmark_utils.tasks import TASKS

FOLDER = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def datasets() -> dict[str, type]:
    return {dataset.name: dataset for dataset in Benchmark(FOLDER).get_datasets()}


def test_every_task_has_one_file_named_after_it(datasets: dict[str, type]) -> None:
    assert set(datasets) == set(TASKS)
    files = {path.stem for path in (FOLDER / "datasets").glob("*.py")}
    assert files == {name.replace("-", "_") for name in TASKS}


@pytest.mark.parametrize("name", TASKS)
def test_a_dataset_gives_its_own_task_at_its_seed(
    datasets: dict[str, type], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FIBERBNN_DATA", raising=False)
    dataset = datasets[name].get_instance(seed=4)
    data = dataset.get_data()
    assert list(data) == ["task"]
    assert (data["task"].name, data["task"].seed) == (name, 4)
    kind = MissingTask if name in ("australian", "ionosphere") else Task
    assert isinstance(data["task"], kind)
