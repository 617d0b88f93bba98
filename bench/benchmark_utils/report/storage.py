"""Where a command writes: held for it alone, tried before anything runs, and replaced only by what is whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

from filelock import FileLock, Timeout

from benchmark_utils.report.refusals import StorageError

LEAST_FREE = 32 << 20  # bytes that have to be free; a run's result and MAP take less
# What a run writes beside its rows, some of it only if it has something to show.
WRITTEN = (
    "arrays.npz", "table.md", "ood.md", "targets.md", "ablation.md", "depth.md", "benchopt.html",
    "nll_against_cost.png", "predictive_bands.png", "uncertainty_maps.png", "reliability.png", "ood_roc.png",
    "shift.png", "ablation_*.png", "depth.png",
)  # fmt: skip
PROBE = bytes(1 << 16)


class Workspace:
    """The hidden folder .part in a results folder, which one command at a time has for what is not done yet.

    What a killed command left in it is removed by the next one.

    Attributes:
        path: the folder.
    """

    def __init__(self, results: Path, cache: Path) -> None:
        """Hold nothing yet.

        Args:
            results: the results folder.
            cache: where finished runs are kept.
        """
        self.path = results.absolute() / ".part"
        self._results, self._cache = results, cache
        self._lock = FileLock(self.path / "lock")

    def __enter__(self) -> Workspace:
        """Make and hold the folder.

        Raises:
            StorageError: if it cannot be made, or another command holds it.
        """
        with _in_words(self._results, "give another folder with --output"):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout as error:
                raise StorageError(
                    f"another command writes to {self._results}: let it end, or give another folder with --output"
                ) from error
            for left in self.path.iterdir():
                if left.name != "lock":
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            self.check()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        """Remove the folder, and the results folder if nothing came into it."""
        self._leave()

    def _leave(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()
        with suppress(OSError):  # it has results in it
            self._results.rmdir()

    def check(self) -> None:
        """Make sure that results and finished runs can be written.

        Raises:
            StorageError: if they cannot, or if hardly any space is left.
        """
        for folder, advice in ((self.path, "give another folder with --output"), (self._cache, "make it writable")):
            with _in_words(folder, advice):
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder, buffering=0) as file:  # it has no name where the system can
                    file.write(PROBE)
                    os.fsync(file.fileno())
                free = shutil.disk_usage(folder).free
            if free < LEAST_FREE:
                raise StorageError(
                    f"{free >> 20} MiB are free in {folder}, {LEAST_FREE >> 20} MiB are needed: make room; "
                    "finished runs are kept"
                )

    @contextmanager
    def replacing(self) -> Iterator[Path]:
        """Yield a folder to write into; once all its files are written they go to the results folder, one by one.

        The rows go last: new rows have everything else of their run beside them. Then the figures, texts and pages of
        an earlier run that this one did not write are removed. Whoever stops the command between the first and the
        last file finds new files beside old rows; the same command again puts that right.

        Raises:
            StorageError: if something could not be written; then the results folder is as it was, unless it was the
                renaming itself that failed.
        """
        whole = self.path / self._results.name
        with _in_words(self._results, "finished runs are kept, the same command writes them"):
            whole.mkdir()
            yield whole
            files = sorted(whole.iterdir(), key=lambda file: file.name == "rows.parquet")
            for file in files:
                file.replace(self._results / file.name)
            for name in stale_names(self._results, {file.name for file in files}):
                (self._results / name).unlink()


def stale_names(results: Path, written: Collection[str]) -> list[str]:
    """Return the files of an earlier run in a results folder that this run, which wrote its rows, did not write.

    Only those whose names a run gives; whatever else lies there is somebody's.
    """
    if "rows.parquet" not in written:
        return []
    names = {path.name for path in results.iterdir() if path.is_file()} - set(written)
    return sorted(name for name in names if any(fnmatchcase(name, pattern) for pattern in WRITTEN))


@contextmanager
def _in_words(folder: Path, advice: str) -> Iterator[None]:
    """Say an error of the file system in one line."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        said = error.strerror or " ".join(str(error).split())
        raise StorageError(f"cannot write to {folder}: {said}; {advice}") from error
