"""An autoencoder over weights with a structured latent space.

Encoder and decoder act on the coefficients of a `Basis`. Each is a linear map that starts as the truncated singular
value decomposition, plus a small network that starts at zero: training begins at the linear model and only bends it.
Our reading of the method, which says no more than that there is an autoencoder with a structured latent space.
"""

import math
import statistics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fiberbnn_kernels import philox_normal, philox_uniform

from .any_energy import AnyEnergy
from .autoencoder_settings import LOSSES, AutoencoderSettings
from .basis import CHUNK_BYTES, Basis
from .batch import Inputs
from .latent_metric import metric_loss
from .progress import progress
from .streams import Stream


class BentLinear(nn.Module):
    """y = W x + g(x), W starting as a truncated identity and the network g at zero.

    Args:
        n_in, n_out: sizes.
        hidden: width of g.
    """

    def __init__(self, n_in: int, n_out: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Parameter(torch.eye(n_out, n_in))
        self.inner = nn.Linear(n_in, hidden)
        self.outer = nn.Linear(hidden, n_out)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., n_out] from [..., n_in]."""
        return F.linear(x, self.linear) + self.outer(torch.tanh(self.inner(x)))


class Autoencoder(nn.Module):
    """Coefficients c [S, r] to latents z [S, L] and back.

    Latents are in units of the largest deviation of the walk, so that the origin is its centre and distances keep
    their proportion to those between weights in preconditioned coordinates.

    Args:
        deviations: of the coefficients, [r]; a `Basis`'s.
        latent_size: L, cut to r.
        hidden: width of the bending networks.
    """

    unit: Tensor

    def __init__(self, deviations: Tensor, latent_size: int, hidden: int) -> None:
        super().__init__()
        rank = len(deviations)
        self.latent_size = min(latent_size, rank)
        self.encoder = BentLinear(rank, self.latent_size, hidden)
        self.decoder = BentLinear(self.latent_size, rank, hidden)
        self.register_buffer("unit", deviations[:1].clone())
        self.to(deviations)

    def encode(self, coefficients: Tensor) -> Tensor:
        """Return latents [S, L] of coefficients [S, r]."""
        return self.encoder(coefficients / self.unit)

    def decode(self, latents: Tensor) -> Tensor:
        """Return coefficients [S, r] of latents [S, L]."""
        return self.decoder(latents) * self.unit


def fit_autoencoder(
    basis: Basis,
    coefficients: Tensor,
    energy: AnyEnergy,
    *,
    particle: Tensor | None = None,
    settings: AutoencoderSettings | None = None,
    seed: int = 0,
    progress_bar: bool = False,
) -> tuple[Autoencoder, list[dict[str, float]]]:
    """Return an autoencoder of walk points, and its losses step by step.

    Args:
        basis: of the walk.
        coefficients: of the walk points, [M, r].
        energy: for the network, the divergence of its predictives, and the training inputs.
        particle: which particle visited each, [M]; None if the points are one chain's, or in no order that matters.
        settings: size and training.
        seed: of batches and initial weights.
        progress_bar: show progress.

    Raises:
        FloatingPointError: if training diverges.
    """
    settings = settings or AutoencoderSettings()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = Autoencoder(basis.deviations, settings.latent_size, settings.hidden)
    if settings.steps == 0:
        return model.requires_grad_(False), []
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
    like, side, steps = coefficients, settings.batch_points, settings.max_steps
    # All random numbers of the fit at once: each call for a few has a price of its own.
    points = _indices(len(coefficients), (steps, side), seed, Stream.BATCH_OF_POINTS, like.device)
    rows = _indices(energy.n, (steps, settings.batch_inputs), seed, Stream.BATCH_OF_INPUTS, like.device)
    noise = philox_normal(
        steps, side * side, seed=seed, step=0, stream=Stream.LATENT_JITTER, dtype=like.dtype, device=like.device
    ).view(-1, side, side)
    weights = {name: getattr(settings, name) for name in LOSSES if getattr(settings, name)}
    distances = metric_loss(settings.distances, coefficients / model.unit, particle) if settings.metric else None
    history: list[dict[str, float]] = []
    # Steps at the constant rate; as many as are wanted, until the loss says that it is enough.
    end = settings.max_steps
    with progress("latent", total=end, shown=progress_bar) as bar:
        while len(history) < end:
            t = len(history)
            if end == settings.max_steps and _is_enough(history, settings):
                end = bar.total = min(end, t + settings.decay_steps)
            remaining = (end - t) / max(1, settings.decay_steps)
            optimizer.param_groups[0]["lr"] = settings.learning_rate * (
                0.5 - 0.5 * math.cos(math.pi * min(1, remaining))
            )
            c = coefficients[points[t]]
            z = model.encode(c)
            decoded = model.decode(z + settings.jitter * _kernel_noise(z.detach(), noise[t]))
            losses = {"reconstruction": 0.5 * (c - decoded).square().mean()}
            if settings.function:
                losses["function"] = energy.n * _divergence(energy, basis, c, decoded, energy.rows(rows[t]))
            if distances:
                losses["metric"] = distances(points[t], z, lambda numbers: model.encode(coefficients[numbers]))
            optimizer.zero_grad()
            torch.stack([weight * losses[name] for name, weight in weights.items()]).sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            history.append({name: float(value.detach()) for name, value in losses.items()})
            bar.update()
            bar.set_postfix({name: f"{value:.3g}" for name, value in history[-1].items()}, refresh=False)
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise FloatingPointError("training of the autoencoder diverged: lower its learning_rate")
    return model.requires_grad_(False), history


def _is_enough(history: list[dict[str, float]], settings: AutoencoderSettings) -> bool:
    """Whether the rate may begin to fall: after the fewest steps, once the loss that matters has stopped falling."""
    t, window = len(history), 100
    if t + settings.decay_steps < settings.steps:
        return False
    if settings.settled_share == 0.0:
        return True
    if t < 2 * window or t % 20:
        return False
    watched = "function" if settings.function else "reconstruction" if settings.reconstruction else "metric"
    recent, before = (
        statistics.fmean(entry[watched] for entry in part)
        for part in (history[-window:], history[-2 * window : -window])
    )
    return recent > settings.settled_share * before


def _divergence(energy: AnyEnergy, basis: Basis, c: Tensor, decoded: Tensor, inputs: Inputs) -> Tensor:
    """Mean over points and inputs of KL from the predictive of the weights to that of the decoded weights, []; nats."""
    network, likelihood = energy.network, energy.likelihood
    few = decoded.shape[0] * network.n_params * decoded.element_size() <= CHUNK_BYTES
    if few and network.layout_for(inputs) is not None:
        target = network(basis.decode(c), inputs)
        return likelihood.kl(target, network.apply_each(basis.decode(decoded), inputs)).mean()
    # One point after the other: its weights, and the gradient with respect to them, are all that is held.
    values, slopes = torch.zeros_like(decoded[:, 0]), torch.zeros_like(decoded)
    for i in range(len(c)):
        with torch.no_grad():
            target = network(basis.decode(c[i : i + 1]), inputs)[0]
            weights = basis.decode(decoded[i : i + 1])

        def divergence(outputs: Tensor, target: Tensor = target) -> Tensor:
            return likelihood.kl(target, outputs, sample_axes=0).mean()

        value, gradient = network.value_and_grad(weights, inputs, divergence)
        values[i], slopes[i] = value[0], gradient[0] @ basis.directions
    # Its value is that of the divergences, its gradient in the coefficients the slopes.
    return (values + ((decoded - decoded.detach()) * slopes).sum(-1)).mean()


def _kernel_noise(z: Tensor, noise: Tensor) -> Tensor:
    """Noise [B, L] with the covariance of the latents [B, L] of a batch, as a kernel density adds to a point."""
    return noise @ (z - z.mean(dim=0)) / max(1, len(z) - 1) ** 0.5


def _indices(total: int, shape: tuple[int, int], seed: int, stream: int, device: torch.device) -> Tensor:
    """Indices below `total` drawn with replacement, int64."""
    uniform = philox_uniform(shape[0] * shape[1], seed=seed, step=0, stream=stream, device=device)
    return (uniform * total).long().clamp_(max=total - 1).view(shape)
