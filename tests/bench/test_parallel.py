"""Runs shared among workers of dask and submitit: the rows of a serial run, whatever dies on the way."""

import os
import sys
from pathlib import Path

import pandas as pd
import pytest
from distributed import Client, LocalCluster

from benchmark_utils.report import dask_workers
from benchmark_utils.report.configuration import read_parallel
from benchmark_utils.report.parallel import workers
from benchmark_utils.report.refusals import ConfigurationError
from benchmark_utils.rows.provenance import TIMING, timing
from tests.bench.slurm_stand_in import install

CONFIGS = Path(__file__).resolve().parents[2] / "bench" / "configs"
TIMES = ["timing", "map_s", "fit_s", "predict_s", "peak_mib", "peak_rise_mib"]

DASK = "backend: dask\nn_jobs: 2\n"

# Takes its worker with it: on seed 0 the first time only, on seed 1 each time.
DIES = '''
    import os
    from pathlib import Path
    from benchopt import BaseSolver
    from benchmark_utils.metrics.prediction import Prediction
    import torch

    class Solver(BaseSolver):
        """Kills its own worker process."""

        name = "aa-dies"
        sampling_strategy = "run_once"

        def set_objective(self, task, map_fit):
            self.task = task

        def run(self, _):
            deaths = Path(__file__).parents[1] / f"deaths-{self.task.seed}.txt"
            if self.task.seed == 1 or not deaths.exists():
                with open(deaths, "a") as file:
                    print(os.getpid(), file=file)
                os.kill(os.getpid(), 9)

        def get_result(self):
            def predict(x):
                mean = torch.zeros(1, len(x), dtype=torch.float64)
                return Prediction(mean=mean, variance=torch.ones_like(mean))

            return dict(predict=predict, sample_weights=lambda n: None, cost={}, info={})
'''


@pytest.fixture
def parallel(tiny, tmp_path):
    """Write a parallel configuration and return its path."""

    def write(text: str) -> str:
        path = tmp_path / "parallel.yml"
        path.write_text(text)
        return str(path)

    return write


def without_times(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns=TIMES)


@pytest.mark.slow
def test_dask_gives_the_rows_of_a_serial_run_and_a_worker_that_is_killed_costs_none(tiny, parallel, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "1")  # three, by default
    tiny.add("solvers/aa_dies.py", DIES)
    tiny.add_noisy("walk", sds=(0.01, 0.1))
    assert tiny.run("--parallel-config", parallel(DASK)) == 1
    rows = pd.read_parquet(tiny.output / "rows.parquet")
    by_run = rows.set_index(["method", "settings", "seed"])
    assert list(rows["status"]) == ["done", "failed", "done", "done", "done", "done"]
    assert by_run.loc[("aa-dies", "", 1), "reason"] == "2 worker processes died of this run, for lack of memory perhaps"
    assert len((tiny.folder / "deaths-0.txt").read_text().splitlines()) == 1
    assert len((tiny.folder / "deaths-1.txt").read_text().splitlines()) == 2
    assert len(tiny.executions()) == len(set(tiny.executions())) == 4
    assert "Traceback" not in tiny.said
    assert tiny.left_over() == []
    done = rows[rows["status"] == "done"]
    assert set(done["timing"]) == {"shared: dask, 2 workers"}
    assert "shared: dask, 2 workers (5 rows)" in (tiny.output / "table.md").read_text()
    # Whichever worker trained the MAP, all methods of a seed have it and its price.
    assert (done.groupby("seed")["map_s"].nunique() == 1).all()

    tiny.forget()
    assert tiny.run("--solver", "walk") == 0
    serial = pd.read_parquet(tiny.output / "rows.parquet")
    assert set(serial["timing"]) == {"one process"}
    shared = rows[rows["method"] == "walk"].reset_index(drop=True)
    # A column that only other methods fill is not there.
    pd.testing.assert_frame_equal(without_times(shared)[serial.columns.drop(TIMES)], without_times(serial))


@pytest.mark.slow
def test_submitit_sends_a_job_for_each_run(tiny, tmp_path, monkeypatch):
    install(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{tmp_path / 'slurm'}{os.pathsep}{os.environ['PATH']}")
    tiny.add_noisy()
    assert tiny.run("--parallel-config", str(CONFIGS / "slurm.yml")) == 0
    rows = pd.read_parquet(tiny.output / "rows.parquet")
    assert list(rows["status"]) == ["done", "done"]
    assert set(rows["timing"]) == {"shared: submitit"}
    assert len(tiny.executions()) == 2
    script = (tmp_path / "slurm" / "script.sh").read_text()
    for line in ("time=02:00:00", "partition=cpu", "account=my-account", "cpus-per-task=1", "mem=8GB", "array=0-1%2"):
        assert f"#SBATCH --{line}\n" in script
    assert tiny.left_over() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("backend: submitit\nslurm_tim: x", "submitit: Unknown argument 'tim' for executor 'slurm'"),
        ("backend: dask\ndask_address: tcp://127.0.0.1:9", "no dask cluster with a worker at tcp://127.0.0.1:9"),
        ("backend: dask\ndask_scheduler_file: nowhere.json", "no dask cluster with a worker at nowhere.json"),
        ("backend: dask\ndask_adress: x", "unknown option 'dask_adress'; for dask there are"),
    ],
)
def test_workers_that_cannot_be_had_are_said(text, said, tmp_path, monkeypatch):
    monkeypatch.setenv(TIMING, "")
    monkeypatch.setattr(dask_workers, "CONNECT_S", 0.5)
    (tmp_path / "p.yml").write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        workers(read_parallel(tmp_path / "p.yml"), tmp_path, {}).__enter__()


def test_workers_that_run_already_are_checked_and_told_how_to_work(tmp_path, monkeypatch):
    monkeypatch.setenv(TIMING, "")
    monkeypatch.setattr(dask_workers, "CONNECT_S", 60)
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        options = {"backend": "dask", "dask_address": cluster.scheduler_address}
        with workers(options, tmp_path, {"FIBERBNN_SAID": "one thread"}) as configuration:
            assert configuration == {**options, "batch_size": 1}
        with pytest.raises(ConfigurationError, match=r"a dask worker does not see .*nowhere: all machines must share"):
            workers(options, tmp_path / "nowhere", {}).__enter__()
        with Client(cluster) as client:
            for _ in range(2):  # and so are those that take the place of dead ones
                told = client.run(lambda: {name: os.environ.get(name) for name in (TIMING, "FIBERBNN_SAID")})
                assert list(told.values()) == [{TIMING: "shared: dask, 1 worker", "FIBERBNN_SAID": "one thread"}]
                client.restart_workers(list(client.scheduler_info()["workers"]))
    with LocalCluster(n_workers=1, threads_per_worker=3, processes=False, dashboard_address=None) as cluster:
        options = {"backend": "dask", "dask_address": cluster.scheduler_address}
        with pytest.raises(ConfigurationError, match="a dask worker has 3 threads, it must have one"):
            workers(options, tmp_path, {}).__enter__()


def test_a_back_end_that_is_not_installed_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv(TIMING, "")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigurationError, match="the back end submitit needs packages: pip install submitit"):
        workers({"backend": "submitit"}, tmp_path, {}).__enter__()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "one process"),
        ({"n_jobs": 1}, "one process"),
        ({"backend": "loky", "n_jobs": 3}, "shared: loky, 3 workers"),
    ],
)
def test_rows_say_beside_what_they_were_timed(options, said, tmp_path, monkeypatch):
    monkeypatch.delenv(TIMING, raising=False)
    assert timing() == "not recorded"
    monkeypatch.setenv(TIMING, "")
    with workers(options, tmp_path, {}):
        assert timing() == said


def test_parallel_configurations_are_no_benchmark_configurations(capsys):
    from run import parse

    with pytest.raises(SystemExit):
        parse(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "one of ablation, depth, images, quick" in said
    assert ", dask" not in said
    assert ", slurm" not in said
    assert parse(["quick", "--parallel-config", str(CONFIGS / "dask.yml")]).parallel_config == CONFIGS / "dask.yml"
    for wrong in (["--parallel-config", "nowhere.yml"], ["--jobs", "0"], ["--jobs", "two"]):
        with pytest.raises(SystemExit) as ended:
            parse(wrong)
        assert ended.value.code == 2
