"""Launches of the walk that were timed on this machine, in a file of the user's cache."""

import json
import os
import sys
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path

from ..mlp import table
from ..mlp.layout import MLPLayout
from ..mlp.table import Launch, Size

VARIABLE = "FIBERBNN_TUNED"
# Data rows a tile and warps that a file may name.
ROWS, WARPS = (16, 32, 64), (4, 8)


def launch_for(layout: MLPLayout, architecture: int) -> Launch | None:
    """Return how the walk is launched for a perceptron: as timed here if it was, else as the table says."""
    launch = table.launch_for(layout, architecture)
    if launch is None:
        return None
    rows, warps = _read().get(key_of(launch.size, architecture), (launch.rows, launch.warps))
    return launch._replace(rows=rows, warps=warps)


def file_of_launches() -> Path:
    """Return the file, in the folder that FIBERBNN_TUNED names or the platform's for caches; it need not exist."""
    if folder := os.environ.get(VARIABLE):
        return Path(folder) / "mlp_walk.json"
    if sys.platform == "win32":
        caches = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "fiberbnn" / "mlp_walk.json"


def key_of(size: Size, architecture: int) -> str:
    """Return what a launch was timed for: padded widths, compute capability, Triton's version."""
    import triton

    widths = "-".join(str(width) for width in size.layout.widths)
    return f"{widths} sm{architecture} triton {triton.__version__}"


def store(launch: Launch, architecture: int) -> Path:
    """Write a launch into the file beside those that are there, in one piece; return the file."""
    file = file_of_launches()
    launches = {**_read(), key_of(launch.size, architecture): (launch.rows, launch.warps)}
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=file.name, suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as part:
            json.dump(launches, part, indent=1, sort_keys=True)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return file


def _read() -> dict[str, tuple[int, int]]:
    """The launches in the file, none if there is none or it is not to be read."""
    file = file_of_launches()
    try:
        facts = file.stat()
    except OSError:
        return {}
    return _parsed(file, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=8)
def _parsed(file: Path, _time: int, _size: int) -> dict[str, tuple[int, int]]:
    # Kept until the file changes: so a warning comes once for every state of it.
    try:
        launches = json.loads(file.read_text(encoding="utf-8"))
        pairs = {str(key): (int(rows), int(warps)) for key, (rows, warps) in launches.items()}
        if not all(rows in ROWS and warps in WARPS for rows, warps in pairs.values()):
            raise ValueError("it names launches that do not exist")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        warnings.warn(
            f"{file} is ignored, launches are those of the table: {error}; tune_mlp_walk writes it anew", stacklevel=2
        )
        return {}
    return pairs
