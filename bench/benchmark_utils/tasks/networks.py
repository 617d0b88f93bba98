"""The convolutional networks of the image tasks, by name.

No activation works in place, so that every network can be run by torch.func; none is pre-trained.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8  # channels are normalised in 8 groups: 2, 4 and 8 channels each at widths 16, 32 and 64


def small_tanh_cnn(n_classes: int, in_channels: int) -> nn.Sequential:
    """Return a network for 28x28 images that is small enough for exact comparisons: 1,938 weights for 1 -> 10.

    Two 5x5 convolutions of four channels, each followed by tanh and an average pool, then 64-16-10-C with tanh.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 4, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 16),
        nn.Tanh(),
        nn.Linear(16, 10),
        nn.Tanh(),
        nn.Linear(10, 10),
        nn.Tanh(),
        nn.Linear(10, n_classes),
    )


def lenet(n_classes: int, in_channels: int) -> nn.Sequential:
    """Return a network of LeNet-5's size for 28x28 images, with dropout: 61,706 weights for 1 -> 10.

    The sizes are those of Y. LeCun et al. (1998), doi:10.1109/5.726791, with full connections between the two
    convolutions and a linear last layer. Dropout of 0.2 before the last two layers is ours: MC dropout needs it.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Tanh(),
        nn.Dropout(0.2),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Dropout(0.2),
        nn.Linear(84, n_classes),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without weights (option A of the paper).

    Args:
        fan_in: channels that come in.
        fan_out: channels that go out; where there are more, the side of the image is halved.
        norm: makes a normalisation layer for a number of channels.
        activation: makes an activation.
    """

    def __init__(
        self, fan_in: int, fan_out: int, norm: Callable[[int], nn.Module], activation: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.stride = 1 if fan_in == fan_out else 2
        self.extra = fan_out - fan_in
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, self.stride, padding=1, bias=False)
        self.norm1 = norm(fan_out)
        self.act1 = activation()
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False)
        self.norm2 = norm(fan_out)
        self.act2 = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, fan_out, H / stride, W / stride] for x [N, fan_in, H, W]."""
        residual = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))
        return self.act2(residual + shortcut)


def resnet20(
    n_classes: int, in_channels: int, *, norm: Callable[[int], nn.Module], activation: Callable[[], nn.Module]
) -> nn.Sequential:
    """Return the ResNet-20 for 32x32 images: 269,722 weights for 3 -> 10, with either normalisation.

    Source: K. He et al. (2016), arXiv:1512.03385, section 4.2: nine blocks of 16, 32 and 64 channels; convolutions
    start normal with variance 2 / fan-out.
    """
    widths = [16] * 4 + [32] * 3 + [64] * 3
    blocks = [ResidualBlock(a, b, norm, activation) for a, b in pairwise(widths)]
    model = nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1, bias=False),
        norm(16),
        activation(),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, n_classes),
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def resnet20_gn_silu(n_classes: int, in_channels: int) -> nn.Sequential:
    """Return a ResNet-20 with group norm and SiLU: smooth, and each image is treated by itself."""
    return resnet20(n_classes, in_channels, norm=lambda width: nn.GroupNorm(GROUPS, width), activation=nn.SiLU)


def resnet20_bn(n_classes: int, in_channels: int) -> nn.Sequential:
    """Return a ResNet-20 with batch norm and ReLU, as published."""
    return resnet20(n_classes, in_channels, norm=nn.BatchNorm2d, activation=nn.ReLU)


ARCHITECTURES: dict[str, Callable[[int, int], nn.Module]] = {
    "small-tanh-cnn": small_tanh_cnn,
    "lenet": lenet,
    "resnet20-gn-silu": resnet20_gn_silu,
    "resnet20-bn": resnet20_bn,
}


def make_network(name: str, n_classes: int, in_channels: int, seed: int) -> nn.Module:
    """Return a new network whose weights come from the seed; the global random state stays as it was.

    Args:
        name: a key of ARCHITECTURES.
        n_classes: C, outputs.
        in_channels: channels of the images.
        seed: of the initial weights.

    Raises:
        KeyError: if no architecture has this name.
    """
    if name not in ARCHITECTURES:
        raise KeyError(f"no architecture {name!r}; there are {', '.join(ARCHITECTURES)}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return ARCHITECTURES[name](n_classes, in_channels)
