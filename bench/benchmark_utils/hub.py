"""Images from the Hugging Face hub, through `datasets`; without a network the answer is quick and in words.

HF_ENDPOINT points to another hub, HF_HUB_OFFLINE=1 forbids the network, HF_HOME is where downloads are kept: all
three are Hugging Face's own variables. Nothing here runs code from the hub: its Parquet files alone are read.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import lru_cache

from datasets import Dataset

from benchmark_utils.sources import MissingDataError

PATIENCE_S = 3.0  # how long a hub may take to answer at all


@dataclass(frozen=True)
class HubSet:
    """A data set on the hub.

    Attributes:
        repository: such as "uoft-cs/cifar10".
        folder: of its Parquet files, the name of the configuration.
        image: name of the image column.
        label: name of the label column.
    """

    repository: str
    folder: str
    image: str = "image"
    label: str = "label"


def from_hub(hub: HubSet, part: str) -> Dataset:
    """Return one part ("train" or "test") as a table with the columns `image` (not decoded) and `label`.

    Raises:
        MissingDataError: if the hub is switched off, cannot be reached, or lacks the set.
    """
    import datasets

    if (why := unreachable()) is not None:
        raise MissingDataError(f"{hub.repository} is not at hand: {why}")
    try:
        # By file, since a configuration would bring all its parts: SVHN's "extra" alone is a gigabyte. Its own
        # counts are not checked for the same reason; the content is, by its hash.
        found = datasets.load_dataset(
            hub.repository,
            data_files={part: f"{hub.folder}/{part}-*.parquet"},
            split=part,
            verification_mode="no_checks",
        )
    # Whatever the hub or its client finds wrong, the answer is the same: this set is not at hand.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise MissingDataError(f"{hub.repository} did not come from the hub: {lines[0][:200]}") from error
    found = found.select_columns([hub.image, hub.label]).cast_column(hub.image, datasets.Image(decode=False))
    return found.rename_columns({a: b for a, b in ((hub.image, "image"), (hub.label, "label")) if a != b})


@lru_cache
def unreachable() -> str | None:
    """Return why the hub cannot be asked, in words, or None; asked once a process.

    Hugging Face's client tries for half a minute before it gives up, for each file: so one short question first.
    """
    from datasets import config

    if config.HF_HUB_OFFLINE:
        return "the hub is switched off by HF_HUB_OFFLINE"
    answer: list[str | None] = [f"no answer from {config.HF_ENDPOINT} within {PATIENCE_S:g} s"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(config.HF_ENDPOINT, timeout=PATIENCE_S):
                answer[0] = None
        except urllib.error.HTTPError:
            answer[0] = None  # an error, but an answer
        except (OSError, ValueError) as error:
            answer[0] = f"{config.HF_ENDPOINT} cannot be reached ({getattr(error, 'reason', error)})"

    # In a thread of its own, since looking up a name has no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_S + 0.5)
    return answer[0]
