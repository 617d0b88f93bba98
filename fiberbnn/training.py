"""Ordinary training of a module by minibatches: Adam, weight decay, dropout and batch norm as usual."""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .batch import Inputs, call_arguments, n_rows, outputs_from, take, whole_size
from .likelihood import Likelihood
from .progress import progress


def train_by_minibatches(
    model: nn.Module,
    x: Inputs,
    y: Tensor,
    likelihood: Likelihood,
    *,
    prior_precision: float,
    batch_size: int,
    epochs: int,
    learning_rate: float,
    seed: int,
    progress_bar: bool = False,
) -> None:
    """Train a module in place on the energy N/B sum NLL + tau/2 |w|^2 of minibatches; leave it in evaluation mode.

    Adam (Kingma and Ba 2015), its rate falling to zero along a cosine. Each epoch takes every example once, in an order
    of its own, in batches of sizes that differ by at most one. Dropout is on, and batch norm uses and gathers the
    statistics of its batches, but for layers whose weights are all frozen. The global random state stays as it was.

    Args:
        model: the module, with its trainable weights.
        x: inputs, N rows, on the device of the model and in its dtype.
        y: labels or targets, [N, ...], likewise.
        likelihood: what the outputs mean.
        prior_precision: tau; not divided by N.
        batch_size: B, examples a step at most.
        epochs: passes over the data.
        learning_rate: the highest; on the energy divided by N.
        seed: of the orders and of dropout.
        progress_bar: show progress.

    Raises:
        TypeError: if the batch size is not an integer.
        FloatingPointError: at the end of the first epoch in which a loss was not finite.
    """
    n = n_rows(x)
    n_batches = -(-n // whole_size(batch_size))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Adam with decay in the gradient is exactly the prior's: tau w / N.
    optimizer = torch.optim.Adam(parameters, learning_rate, weight_decay=prior_precision / n, fused=_has_fused(y))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, epochs * n_batches))
    orders = torch.Generator().manual_seed(seed)
    devices = [y.device] if y.is_cuda else []
    _set_training(model)
    with (
        torch.random.fork_rng(devices),
        torch.enable_grad(),
        progress("MAP", total=epochs * n_batches, unit="batch", shown=progress_bar) as bar,
    ):
        # Dropout draws from the global generators; torch.manual_seed would touch those of other devices too.
        torch.default_generator.manual_seed(seed)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        for epoch in range(epochs):
            total = torch.zeros((), dtype=torch.float64, device=y.device)
            for index in torch.randperm(n, generator=orders).to(y.device).tensor_split(n_batches):
                optimizer.zero_grad()
                args, kwargs = call_arguments(model, take(x, index))
                loss = likelihood.nll(outputs_from(model(*args, **kwargs), len(index)), y[index]) / len(index)
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.detach() * len(index)
                bar.update()
            # Once an epoch, so that a GPU need not be waited for at every step.
            if not math.isfinite(mean := float(total) / n):
                raise FloatingPointError(
                    f"MAP training diverged in epoch {epoch + 1} (mean loss {mean}): lower learning_rate, or "
                    "standardise the inputs"
                )
            bar.set_postfix({"epoch": epoch + 1, "nll": f"{mean:.3f}"}, refresh=False)
    model.eval()


def _set_training(model: nn.Module) -> None:
    """Put the module in training mode, except batch norm with frozen weights: its statistics belong to these."""
    model.train()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, _BatchNorm) and own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _has_fused(tensor: Tensor) -> bool:
    """Whether torch has Adam in one kernel for this device."""
    return tensor.device.type in ("cpu", "cuda")
