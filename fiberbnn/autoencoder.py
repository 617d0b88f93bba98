"""An autoencoder over weights with a structured latent space.

Encoder and decoder act on the coefficients of a `Basis`. Each is a linear map that starts as the truncated singular
value decomposition, plus a small network that starts at zero: training begins at the linear model and only bends it.
Our reading of the method, which says no more than that there is an autoencoder with a structured latent space.
"""

import math
import statistics
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fiberbnn_kernels import philox_normal, philox_uniform

from .any_energy import AnyEnergy
from .basis import CHUNK_BYTES, Basis
from .batch import Inputs
from .progress import progress
from .streams import Stream


@dataclass(frozen=True)
class AutoencoderSettings:
    """Size and training of the autoencoder.

    The loss is the sum of three, each a mean over a batch: reconstruction, 1/2 |c - c^|^2 / r; function,
    N KL(p(. | theta) | p(. | theta^)) in nats; metric, the squared relative error of latent against walk distances.

    Training goes on at a constant rate until the function loss has stopped falling: its mean over 100 steps is no
    longer `settled_share` of that over the 100 before. The rate then falls to zero along a cosine, over `decay_steps`.

    Attributes:
        latent_size: L.
        hidden: width of the bending networks.
        steps: fewest, of Adam, the decay included; 0 leaves the linear model.
        max_steps: most, the decay included.
        decay_steps: in which the rate falls.
        settled_share: see above; 0 stops at `steps`.
        learning_rate: of Adam.
        batch_points: walk points a step.
        batch_inputs: training inputs a step, for the function-space loss.
        jitter: noise on the latents in training, as a share of their spread, so that the decoder meets what a kernel
            density of this bandwidth will give it.
        reconstruction, function, metric: weights of the three losses.

    Raises:
        ValueError: if a setting is out of range.
    """

    latent_size: int = 64
    hidden: int = 64
    steps: int = 200
    max_steps: int = 600
    decay_steps: int = 100
    settled_share: float = 0.8
    learning_rate: float = 2e-3
    batch_points: int = 32
    batch_inputs: int = 64
    jitter: float = 0.1
    reconstruction: float = 1.0
    function: float = 1.0
    metric: float = 1.0

    def __post_init__(self) -> None:
        if min(self.latent_size, self.hidden, self.batch_inputs) < 1 or self.batch_points < 2 or self.steps < 0:
            raise ValueError(
                "latent_size, hidden and batch_inputs must be at least 1, batch_points at least 2, steps at least 0"
            )
        if self.max_steps < self.steps or self.decay_steps < 0 or not 0.0 <= self.settled_share <= 1.0:
            raise ValueError(
                "max_steps must be at least steps, decay_steps not negative, and settled_share in [0, 1]; "
                f"got {self.max_steps}, {self.decay_steps} and {self.settled_share}"
            )
        if self.learning_rate <= 0 or min(self.jitter, self.reconstruction, self.function, self.metric) < 0:
            raise ValueError("learning_rate must be positive, jitter and the weights of the losses not negative")


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
    settings: AutoencoderSettings | None = None,
    seed: int = 0,
    progress_bar: bool = False,
) -> tuple[Autoencoder, list[dict[str, float]]]:
    """Return an autoencoder of walk points, and its losses step by step.

    Args:
        basis: of the walk.
        coefficients: of the walk points, [M, r].
        energy: for the network, the divergence of its predictives, and the training inputs.
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
            losses = {
                "reconstruction": 0.5 * (c - decoded).square().mean(),
                "function": energy.n * _divergence(energy, basis, c, decoded, energy.rows(rows[t])),
                "metric": _metric_error(c / model.unit, z),
            }
            loss = (
                settings.reconstruction * losses["reconstruction"]
                + settings.function * losses["function"]
                + settings.metric * losses["metric"]
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            history.append({name: float(value.detach()) for name, value in losses.items()})
            bar.update()
            bar.set_postfix({name: f"{value:.3g}" for name, value in history[-1].items()}, refresh=False)
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise FloatingPointError("training of the autoencoder diverged: lower its learning_rate")
    return model.requires_grad_(False), history


def _is_enough(history: list[dict[str, float]], settings: AutoencoderSettings) -> bool:
    """Whether the rate may begin to fall: after the fewest steps, once the function loss has stopped falling."""
    t, window = len(history), 100
    if t + settings.decay_steps < settings.steps:
        return False
    if settings.settled_share == 0.0:
        return True
    if t < 2 * window or t % 20:
        return False
    recent, before = (
        statistics.fmean(entry["function"] for entry in part)
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


def _metric_error(c: Tensor, z: Tensor) -> Tensor:
    """Mean squared error of latent distances against chords of the walk, relative to the mean chord, []."""
    chords, distances = torch.pdist(c), torch.pdist(z)
    # A batch drawn with replacement can hold one point only.
    return ((distances - chords) / chords.mean().clamp(min=torch.finfo(c.dtype).tiny)).square().mean()


def _indices(total: int, shape: tuple[int, int], seed: int, stream: int, device: torch.device) -> Tensor:
    """Indices below `total` drawn with replacement, int64."""
    uniform = philox_uniform(shape[0] * shape[1], seed=seed, step=0, stream=stream, device=device)
    return (uniform * total).long().clamp_(max=total - 1).view(shape)
