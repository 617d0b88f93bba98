"""Small models and data of many kinds, on which every method of the library has to work."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from fiberbnn.batch import Inputs
from fiberbnn.likelihood import Categorical, Likelihood
from fiberbnn.subset import Subset


@dataclass(frozen=True)
class Case:
    """A model, its likelihood and its data.

    Attributes:
        name: of the case.
        build: the untrained module, from torch's global generator.
        data: inputs and targets of a generator, 16 to 40 rows.
        likelihood, noise_std, subset, batch_norm: as for `MetricBNN`.
    """

    name: str
    build: Callable[[], nn.Module]
    data: Callable[[torch.Generator], tuple[Inputs, Tensor]]
    likelihood: Literal["classification", "regression"] | Likelihood = "classification"
    noise_std: float | Literal["per_output", "head"] | None = None
    subset: Subset | None = None
    batch_norm: Literal["frozen", "refresh"] = "frozen"

    def make_model(self) -> nn.Module:
        """The module with torch's own initial weights, the same at every call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            return self.build()

    def make_data(self, seed: int = 0) -> tuple[Inputs, Tensor]:
        """Inputs and targets, the same at every call with a seed."""
        return self.data(torch.Generator().manual_seed(seed))

    def options(self) -> dict[str, Any]:
        """What `Network` needs to know beside the model."""
        return {"subset": self.subset, "batch_norm": self.batch_norm}


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


def noise(generator: torch.Generator, like: Tensor) -> Tensor:
    return 0.2 * torch.randn(like.shape, generator=generator)


def third(values: Tensor) -> Tensor:
    """Labels 0, 1, 2 from real values."""
    return (values > -0.5).long() + (values > 0.5).long()


# Data.


def points(g: torch.Generator) -> tuple[Tensor, Tensor]:
    x = normal(g, 36, 3)
    return x, third(x[:, 0] * x[:, 1] + 0.3 * normal(g, 36))


def double_points(g: torch.Generator) -> tuple[Tensor, Tensor]:
    x, y = points(g)
    return x.double(), y


def half_points(g: torch.Generator) -> tuple[Tensor, Tensor]:
    x, y = points(g)
    return x.bfloat16(), y


def images(g: torch.Generator) -> tuple[Tensor, Tensor]:
    y = torch.arange(24) % 3
    x = 0.5 * normal(g, 24, 1, 8, 8)
    x[torch.arange(24), 0, 2 * y] += 1.0  # a bright row
    return x, y


def series(g: torch.Generator) -> tuple[Tensor, Tensor]:
    x = normal(g, 24, 6, 2)
    return x, third(x[:, :, 0].sum(1) / 2)


def series_to_mean(g: torch.Generator) -> tuple[Tensor, Tensor]:
    x = normal(g, 24, 6, 2)
    y = x.mean(1)[:, :1]
    return x, y + noise(g, y)


def tokens(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens and, for each, whether it is above 4; those that are 0 carry no label."""
    x = torch.randint(9, (20, 5), generator=g)
    return x, (x > 4).long().masked_fill(x == 0, -100)


def masked_tokens(g: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
    """Tokens with a mask of true lengths; the label says whether most are above 4."""
    ids = torch.randint(9, (32, 5), generator=g)
    mask = torch.arange(5) < torch.randint(1, 6, (32, 1), generator=g)
    share = ((ids > 4) & mask).sum(1) / mask.sum(1)
    return {"ids": ids, "mask": mask}, (share > 0.5).long()


def two_tables(g: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
    x = {"left": normal(g, 32, 2), "right": normal(g, 32, 3)}
    y = (x["left"][:, :1] - x["right"][:, :1]).sin()
    return x, y + noise(g, y)


def maps(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images, and a class for each pixel."""
    x = normal(g, 16, 1, 5, 5)
    return x, third(F.avg_pool2d(x, 3, stride=1, padding=1)[:, 0] * 2)


def copies(g: torch.Generator) -> tuple[Tensor, Tensor]:
    x = normal(g, 32, 2) @ normal(g, 2, 4)
    return x, x + noise(g, x)


def curves(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two outputs, one much noisier than the other."""
    x = normal(g, 40, 2)
    y = torch.stack([x.sum(1).sin(), x[:, 0] - x[:, 1]], dim=1)
    return x, y + torch.tensor([0.1, 0.5]) * torch.randn(y.shape, generator=g)


def widening(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """A curve whose noise grows with x."""
    x = 2 * torch.rand(40, 1, generator=g)
    return x, x.sin() + 0.3 * x * normal(g, 40, 1)


# Models.


def mlp(n_in: int = 3, n_out: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, 8), nn.Tanh(), nn.Linear(8, n_out))


def conv_batch_norm() -> nn.Sequential:
    """Its running statistics are those of the data."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3)
    )
    torch.optim.swa_utils.update_bn([images(torch.Generator().manual_seed(0))[0]], model)
    return model


def conv_group_norm() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3)
    )


def conv_instance_norm() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.InstanceNorm2d(4, affine=True),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 3),
    )


def layer_norm() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.2), nn.Linear(8, 3))


def frozen_first() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    model[0].requires_grad_(False)
    return model


def segmentation() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 1))


class Recurrent(nn.Module):
    """A recurrent layer read at its last step."""

    def __init__(self, kind: type[nn.RNNBase], n_out: int, **options: Any) -> None:
        super().__init__()
        self.recurrent = kind(2, 5, batch_first=True, **options)
        self.out = nn.Linear(5, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.recurrent(x)[0][:, -1])


class TokenClassifier(nn.Module):
    """A transformer encoder that sorts each token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.1, batch_first=True)
        self.out = nn.Linear(8, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.encoder(self.embed(ids)))


class Tied(nn.Module):
    """A residual autoencoder whose two layers have one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(4, 4), nn.Linear(4, 4)
        self.decode.weight = self.encode.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(torch.tanh(self.encode(x)))


class Bare(nn.Module):
    """Parameters without layers, one of them a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(3, 6))
        self.shift = nn.Parameter(torch.zeros(6))
        self.gain = nn.Parameter(torch.tensor(0.5))
        self.mixing = nn.Parameter(0.4 * torch.randn(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * torch.tanh(x @ self.directions + self.shift) @ self.mixing


class Pooled(nn.Module):
    """A mean of embeddings over the true length, called by keywords."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.out = mlp(6, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        mask = mask[:, :, None].to(self.embed.weight)
        return self.out((self.embed(ids) * mask).sum(1) / mask.sum(1))


class TwoTables(nn.Module):
    """Two inputs in one mapping, the model's only argument."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(5, 1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.body(torch.cat([batch["left"], batch["right"]], dim=1))


class WithLogits(nn.Module):
    """Logits in an object, as Hugging Face's models return them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(loss=None, logits=self.body(x))


CASES = [
    Case("mlp", mlp, points),
    Case("conv and batch norm", conv_batch_norm, images),
    Case("conv and batch norm, refreshed", conv_batch_norm, images, batch_norm="refresh"),
    Case("conv and group norm", conv_group_norm, images),
    Case("conv and instance norm", conv_instance_norm, images),
    Case("layer norm and dropout", layer_norm, points),
    Case("lstm classifier", lambda: Recurrent(nn.LSTM, 3, num_layers=2, dropout=0.1), series),
    Case("gru regression", lambda: Recurrent(nn.GRU, 1), series_to_mean, "regression"),
    Case("transformer token classification", TokenClassifier, tokens),
    Case("segmentation", segmentation, maps, Categorical(class_axis=1)),
    Case("tied weights", Tied, copies, "regression"),
    Case("bare parameters", Bare, points),
    Case("mapping by keywords", Pooled, masked_tokens),
    Case("mapping as the one argument", TwoTables, two_tables, "regression", noise_std=0.2),
    Case("object with logits", WithLogits, points),
    Case("one noise per output", lambda: mlp(2, 2), curves, "regression", noise_std="per_output"),
    Case("heteroscedastic head", lambda: mlp(1, 2), widening, "regression", noise_std="head"),
    Case("bfloat16", lambda: mlp().bfloat16(), half_points),
    Case("float64", lambda: conv_group_norm().double(), lambda g: (images(g)[0].double(), images(g)[1])),
    Case("float64 mlp", lambda: mlp().double(), double_points),
    Case("weight norm", lambda: nn.Sequential(weight_norm(nn.Linear(3, 8)), nn.Tanh(), nn.Linear(8, 3)), points),
    Case("frozen first layer", frozen_first, points),
    Case("last layer of a conv net", conv_batch_norm, images, subset="last_layer"),
    Case("chosen weights", conv_group_norm, images, subset=lambda name, parameter: parameter.ndim > 1),
]
