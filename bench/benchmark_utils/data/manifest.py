"""What an entry of a data folder's manifest may be: a data set's name, and the path of a file beside the manifest."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any


def check_listed(entry: Any) -> None:
    """Check an entry: of whoever wrote the manifest nothing but files beside it is opened.

    fsspec would open far more: "x::http://host/y" is a file of that host, whatever folder stands before it.

    Raises:
        ValueError: if it is no mapping, or its dataset or path are not text, or the path leads elsewhere.
    """
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in ("dataset", "path")):
        raise ValueError("each of its files must have a dataset and a path, both text")
    path = entry["path"]
    parts = PurePosixPath(path).parts
    if not parts or not path.isprintable() or {":", "\\"} & set(path) or {"..", "/", "//"} & set(parts):
        raise ValueError(f"the path {path[:100]!r} must be that of a file beside the manifest")
