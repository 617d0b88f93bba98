"""Images from the Hugging Face hub, through `datasets`; without a network the answer is quick and in words.

HF_ENDPOINT points to another hub, HF_HUB_OFFLINE=1 forbids the network, HF_HOME is where downloads are kept: all
three are Hugging Face's own variables. Nothing here runs code from the hub: its Parquet files alone are read.
"""

from __future__ import annotations

from dataclasses import dataclass

from datasets import Dataset

from benchmark_utils.data.content import MissingDataError
from benchmark_utils.data.reachable import why_unreachable


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

    if (why := why_unreachable(datasets.config.HF_ENDPOINT)) is not None:
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
