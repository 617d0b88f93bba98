"""Size and training of the autoencoder."""

from dataclasses import dataclass

from .latent_metric import Distances

LOSSES = ("reconstruction", "function", "metric")


@dataclass(frozen=True)
class AutoencoderSettings:
    """Size and training of the autoencoder.

    The loss is the sum of three, each a mean over a batch: reconstruction, 1/2 |c - c^|^2 / r; function,
    N KL(p(. | theta) | p(. | theta^)) in nats; metric, the squared relative error of latent against walk distances, or
    what else `distances` says.

    Training goes on at a constant rate until the function loss (without it, the first of the others that there is) has
    stopped falling: its mean over 100 steps is no longer `settled_share` of that over the 100 before. The rate then
    falls to zero along a cosine, over `decay_steps`.

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
        reconstruction, function, metric: weights of the three losses; one of weight 0 is not computed.
        distances: what the metric loss holds distances between latents to: "chords" of the walk, "geodesics" on its
            nearest-neighbour graph, or a unit between "consecutive" points with all others pushed apart.

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
    distances: Distances = "chords"

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
        if max(self.reconstruction, self.function, self.metric) == 0:
            raise ValueError("one at least of the weights of the losses must be positive")
        if self.distances not in ("chords", "geodesics", "consecutive"):
            raise ValueError(f'distances must be "chords", "geodesics" or "consecutive"; got {self.distances!r}')
