"""The tasks that rows can be of: their kind, and the content that they stand for."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark_utils.image_tasks import IMAGE_TASKS, NOT_RECORDED, joined
from benchmark_utils.tasks import TASKS


@dataclass(frozen=True)
class KnownTask:
    """What can be said of a task without its data.

    Attributes:
        kind: "classification" or "regression".
        sha256: of its content; None where no copy was at hand when it was recorded.
    """

    kind: str
    sha256: str | None


def known_tasks() -> dict[str, KnownTask]:
    """Return every task of the benchmark by name."""
    tables = {name: KnownTask(spec.kind, spec.origin.sha256) for name, spec in TASKS.items()}
    images = {name: joined(list(spec.origin.sha256.values())) for name, spec in IMAGE_TASKS.items()}
    return tables | {
        name: KnownTask("classification", None if sha256 == NOT_RECORDED else sha256) for name, sha256 in images.items()
    }
