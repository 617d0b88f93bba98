"""Saved posteriors: safetensors with a format version and a fingerprint of the model."""

import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .autoencoder import Autoencoder
from .autoencoder_settings import AutoencoderSettings
from .basis import Basis
from .density import LatentDensity
from .latent import LatentPosterior, LatentSettings
from .mode import Mode, ModeSettings
from .network import Network
from .predictive import Statistics
from .saved_checks import check_shapes, damage_named
from .schedule import WalkSchedule
from .walk_state import WalkSettings

FORMAT = "fiberbnn-posterior"
VERSION = 2


def fingerprint(network: Network) -> str:
    """Return a hash of the architecture: names and shapes of weights and buffers, and the module's structure."""
    described = {
        "weights": {name: list(shape) for name, shape in network.shapes.items()},
        "buffers": {name: list(buffer.shape) for name, buffer in network.model.named_buffers()},
        "structure": str(network.model),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def save(path: str | os.PathLike[str], tensors: dict[str, Tensor], settings: dict[str, Any], network: Network) -> None:
    """Write tensors and settings to `path`; the file is written beside it and renamed, so it is whole or not there.

    Raises:
        OSError: if the folder cannot be written.
    """
    target = Path(path)
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "fingerprint": fingerprint(network),
        "settings": json.dumps(settings, default=lambda scalar: scalar.item()),  # numpy's, for example
    }
    from safetensors.torch import save_file  # only files need it

    handle, beside = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    os.close(handle)
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, beside, metadata)
        Path(beside).chmod(0o644)  # a temporary file is its owner's alone
        Path(beside).replace(target)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def load(path: str | os.PathLike[str], network: Network) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and settings of a saved posterior of this architecture, on the network's device and dtype.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated, damaged, not a saved posterior, of a newer format, or of another
            architecture.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no saved posterior at {path}")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or not a safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is a safetensors file, but not a saved posterior of fiberbnn")
    said = metadata.get("version", "")
    if not (said.isascii() and said.isdecimal() and len(said) < 10):
        raise ValueError(f"{path} is damaged: its format version is {said[:20]!r}")
    version = int(said)
    if version < VERSION:
        raise ValueError(
            f"{path} has format version {version} of an early fiberbnn, which is no longer read: fit again"
        )
    if version > VERSION:
        raise ValueError(
            f"{path} has format version {version}, this fiberbnn reads up to {VERSION}: upgrade fiberbnn to load it"
        )
    if metadata.get("fingerprint") != fingerprint(network):
        raise ValueError(
            f"{path} was saved for a model of another architecture: pass the model that it was fitted to "
            f"(this one has {network.n_params} weights that are walked), with the subset of it, if there was one"
        )
    with damage_named(path):
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise ValueError(f"{name} holds NaN or infinite values")
        settings = json.loads(metadata["settings"])
    like = network.weights
    moved = {name: t.to(like) if t.is_floating_point() else t.to(like.device) for name, t in tensors.items()}
    return moved, settings


def tensors_of(modes: Sequence[Mode], statistics: Statistics) -> dict[str, Tensor]:
    """Return by name the state of each mode's model at its MAP, its latent posterior, and batch-norm statistics."""
    found: dict[str, Tensor] = {}
    for m, mode in enumerate(modes):
        # Weights that are tied, or share memory, are written once each.
        model = {f"model.{name}": tensor.detach().clone() for name, tensor in mode.network.model.state_dict().items()}
        found |= {f"mode{m}.{name}": t for name, t in (model | latent_tensors(mode.latent)).items()}
    return found | {f"statistics.{name}": values for name, values in statistics.items()}


def models_from(tensors: dict[str, Tensor], model: nn.Module, n_modes: int) -> list[nn.Module]:
    """Return copies of a module that carry the weights and buffers of `tensors_of`."""
    models = []
    for m in range(n_modes):
        models.append(copy.deepcopy(model))
        models[-1].load_state_dict(part(tensors, f"mode{m}.model."))
    return models


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def latent_tensors(latent: LatentPosterior) -> dict[str, Tensor]:
    """Return the tensors of a latent posterior by name."""
    basis = {f"basis.{field.name}": getattr(latent.basis, field.name) for field in fields(Basis)}
    autoencoder = {f"autoencoder.{name}": tensor for name, tensor in latent.autoencoder.state_dict().items()}
    density = {f"density.{name}": getattr(latent.density, name) for name in ("points", "mean", "factor")}
    return basis | autoencoder | density


def latent_settings(latent: LatentPosterior) -> dict[str, float]:
    """Return what `latent_from` needs beside the tensors."""
    return {
        "hidden": latent.autoencoder.encoder.inner.out_features,
        "bandwidth": latent.density.bandwidth,
        "stretch": latent.density.stretch,
    }


def settings_of(settings: ModeSettings) -> dict[str, Any]:
    """Return how the modes were fitted, as plain dictionaries for JSON."""
    return asdict(settings)


def settings_from(saved: dict[str, Any]) -> dict[str, Any]:
    """Return what `MetricBNN` takes to fit as saved settings say; as its defaults say where a file has none."""
    if "fit" not in saved:  # files of early versions
        return {"batch_size": saved["batch_size"], "seed": saved["seed"]}
    latent = saved["fit"]["latent"]
    return saved["fit"] | {
        "walk": WalkSettings(**saved["fit"]["walk"]),
        "schedule": WalkSchedule(**saved["fit"]["schedule"]),
        "latent": LatentSettings(**latent | {"autoencoder": AutoencoderSettings(**latent["autoencoder"])}),
    }


def latents_from(
    tensors: dict[str, Tensor], settings: Sequence[dict[str, float]], n_params: int
) -> list[LatentPosterior]:
    """Return the latent posteriors of the modes of `tensors_of`, given the `latent_settings` of each.

    Raises:
        ValueError: if they are not over `n_params` weights, or their parts do not fit together.
    """
    return [latent_from(part(tensors, f"mode{m}."), one, n_params) for m, one in enumerate(settings)]


def latent_from(tensors: dict[str, Tensor], settings: dict[str, float], n_params: int) -> LatentPosterior:
    """Return the latent posterior of `latent_tensors` and `latent_settings`.

    Raises:
        ValueError: if it is not over `n_params` weights, its parts do not fit together, or a setting is out of bounds.
    """
    basis = Basis(**part(tensors, "basis."))
    density = LatentDensity(**part(tensors, "density."), bandwidth=settings["bandwidth"], stretch=settings["stretch"])
    # Before the autoencoder is made: sizes that are no tensor's could ask for any memory.
    check_shapes(basis, density, tensors["autoencoder.encoder.inner.weight"], settings["hidden"], n_params)
    autoencoder = Autoencoder(basis.deviations, len(density.mean), int(settings["hidden"]))
    autoencoder.load_state_dict(part(tensors, "autoencoder."))
    return LatentPosterior(basis, autoencoder.requires_grad_(False), density)


def statistics_from(tensors: dict[str, Tensor]) -> Statistics:
    """Return the batch-norm statistics of `tensors_of`; empty if none were saved."""
    return part(tensors, "statistics.")
