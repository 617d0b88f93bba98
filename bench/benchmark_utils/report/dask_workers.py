"""Workers of dask: a cluster of this machine's own, or one that runs already; and what they could not finish."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import joblib
from distributed import Client, KilledWorker, LocalCluster
from distributed.diagnostics.plugin import Environ
from joblib._dask import DaskDistributedBackend

from benchmark_utils.report.refusals import ConfigurationError
from benchmark_utils.rows.provenance import TIMING, timing_of
from benchmark_utils.rows.run_once import FAILURE_FILE

CONNECT_S = 60  # until a cluster that runs already must have answered, and have a worker


class DaskBackend(DaskDistributedBackend):
    """joblib's dask back end, which also passes on what dask gave up, and sends out no more than there are workers.

    joblib's own passes on results only: if dask gives a run up, because the worker died each time that it was tried,
    whoever takes the results in waits for it forever. And dask blames a worker's death on all that it was sent, on
    runs that only waited there too.
    """

    def start_call(self) -> None:
        """Begin to send out batches of runs."""
        super().start_call()
        self._free, self._lock = self.effective_n_jobs(-1), threading.Lock()
        self._waiting: deque[tuple[Any, Callable[[Any], Any], Future]] = deque()

    def terminate(self) -> None:
        """Leave the cluster, to which benchopt made this connection, before it is gone."""
        super().terminate()
        self.client.close()

    def submit(self, func: Any, callback: Callable[[Any], Any]) -> Future:
        """Send out a batch when a worker is free for it; `callback` gets its results or dask's exception."""
        promised: Future = Future()
        promised.get = promised.result  # type: ignore[attr-defined]  # as joblib wants it
        self._waiting.append((func, callback, promised))
        self._send()
        return promised

    def _send(self) -> None:
        """Send what waits to workers that are free."""
        with self._lock:
            while self._free > 0 and self._waiting:
                self._free -= 1
                func, callback, promised = self._waiting.popleft()
                super().submit(func, _ignored).add_done_callback(partial(self._came_back, func, callback, promised))

    def _came_back(self, func: Any, callback: Callable[[Any], Any], promised: Future, sent: Future) -> None:
        """Pass on what became of a batch, and send the next one."""
        error = sent.exception()
        found = sent.result() if error is None else _given_up(func, error) if isinstance(error, KilledWorker) else error
        promised.set_result(found)
        with self._lock:
            self._free += 1
        callback(found)
        self._send()


def _ignored(_: Any) -> None:
    """What joblib's own back end calls with a result."""


def _given_up(batch: Any, error: KilledWorker) -> list[tuple[Any, ...]]:
    """What benchopt gets of a failed run, for each of a batch; the reason is noted where failures are."""
    results: list[tuple[Any, ...]] = []
    for _, _, run in batch.items:
        meta = run["meta"]
        reason = f"{error.allowed_failures + 1} worker processes died of this run, for lack of memory perhaps"
        note = run["run_context"].get_run_output_path() / FAILURE_FILE
        note.write_text(json.dumps({"status": "failed", "reason": reason}))
        results.append(([], (meta["dataset_name"], meta["objective_name"], meta["solver_name"]), "error", ""))
    return results


@contextmanager
def dask_workers(
    options: dict[str, Any], n_workers: int, folder: Path, variables: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """Start a local cluster of workers of one thread each, or reach one; yield benchopt's configuration for it.

    Args:
        options: the parallel configuration.
        n_workers: of a local cluster.
        folder: one that all workers must see.
        variables: of the environment of workers that run already.

    Raises:
        ConfigurationError: if no cluster answers, or its workers have several threads or other folders.
    """
    joblib.register_parallel_backend("dask", DaskBackend)
    where = {name: options[f"dask_{name}"] for name in ("address", "scheduler_file") if f"dask_{name}" in options}
    if where:
        with _reached(where) as client:
            variables = {**variables, TIMING: timing_of("dask", len(client.nthreads()))}
            _prepare(client, folder, variables)
            yield _configuration(client, options)
        return
    memory = {"memory_limit": options["dask_memory_limit"]} if "dask_memory_limit" in options else {}
    # Workers write their data where the command's other temporary files are, and show no page.
    with (
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, processes=True, dashboard_address=None,
            silence_logs=logging.CRITICAL, local_directory=str(folder), **memory,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield _configuration(client, options)


def _configuration(client: Client, options: dict[str, Any]) -> dict[str, Any]:
    """Return benchopt's configuration for a cluster."""
    address = client.scheduler_info()["address"]
    return {"backend": "dask", "dask_address": address, "batch_size": options.get("batch_size", 1)}


@contextmanager
def _reached(where: dict[str, str]) -> Iterator[Client]:
    """A client of a cluster that runs already and has a worker."""
    try:
        if "scheduler_file" in where:  # Client would wait for it for ever
            where = {"scheduler_file": str(Path(where["scheduler_file"]).resolve(strict=True))}
        client = Client(**where, timeout=CONNECT_S)
        client.wait_for_workers(1, timeout=CONNECT_S)
    except (OSError, ValueError) as error:  # a TimeoutError is an OSError
        said = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"no dask cluster with a worker at {', '.join(where.values())}: {said}") from error
    with client:
        yield client


def _prepare(client: Client, folder: Path, variables: dict[str, str]) -> None:
    """Check the workers of a cluster that runs already, and set their environment and that of those to come."""
    if threads := [n for n in client.nthreads().values() if n != 1]:
        raise ConfigurationError(f"a dask worker has {threads[0]} threads, it must have one: dask worker --nthreads 1")
    if not all(client.run(os.path.isdir, str(folder)).values()):
        raise ConfigurationError(
            f"a dask worker does not see {folder}: all machines must share the repository's folder"
        )

    def update() -> None:  # sent as code: of os.environ itself, workers would change a copy
        os.environ.update(variables)

    client.run(update)
    plugin = Environ(variables)
    plugin.restart = False  # what runs on the cluster goes on
    client.register_plugin(plugin)
