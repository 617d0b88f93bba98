"""Predictions of weight samples, and how they vary and score."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .averaging import Averaging
from .batch import Inputs, check_finite, n_rows, split, take
from .likelihood import Likelihood
from .network import Network
from .prediction import Predictive, joined

# Batch-norm statistics of S weight samples: name -> [S, ...].
Statistics = dict[str, Tensor]

# Inputs go through in batches, and samples in chunks, for which activations and outputs stay about below this.
BATCH_BYTES = 1 << 28
# Networks that run one sample at a time on the CPU are fastest where the feature maps of a batch stay in the cache.
CACHED_BYTES = 1 << 24
# More weight samples at once gain no speed.
MAX_CHUNK = 32
# What is assumed of networks: hidden units of each sample, and feature maps alive at once as a multiple of the input
# (of one sample: networks that are not perceptrons bound their samples themselves).
HIDDEN_UNITS = 64
FEATURE_MAPS = 16


def outputs_of(network: Network, weights: Tensor, x: Inputs, *, buffers: Statistics | None = None) -> Tensor:
    """Return the outputs of weight samples [S, P] at N inputs, [S, N, ...].

    Beside the result, memory is that of one batch of inputs. For predictions averaged over samples see `averaged`,
    which never holds the outputs of all.

    Args:
        network: the module as a function of weights.
        weights: samples, [S, P].
        x: inputs.
        buffers: batch-norm statistics of each sample, name -> [S, ...]; needed if the network refreshes them.

    Raises:
        ValueError: if x is empty or not finite, `weights` not [S, P], or statistics are missing.
        TypeError: if x is neither a tensor nor a mapping of names to tensors.
    """
    row_bytes, input_bytes = _bytes_of(network, weights, x, buffers)
    result, start = torch.empty(0), 0
    for batch in _prepared(network, x, input_bytes + len(weights) * row_bytes):
        outputs = network(weights, batch, buffers)
        if start == 0:
            result = outputs.new_empty(len(weights), n_rows(x), *outputs.shape[2:])
        result[:, start : start + outputs.shape[1]] = outputs
        start += outputs.shape[1]
    return result


def averaged(
    network: Network,
    likelihood: Likelihood,
    weights: Tensor | Iterable[Tensor],
    x: Inputs,
    *,
    buffers: Statistics | None = None,
) -> Predictive:
    """Return the predictive averaged over weight samples at N inputs, with its uncertainty taken apart.

    Outputs of all samples are never held at once: memory is that of the result in float64 and of one batch of inputs
    with one chunk of samples. However samples and inputs are divided, the result is the same up to rounding.

    Args:
        network: the module as a function of weights.
        likelihood: what its outputs mean.
        weights: samples, [S, P]; or chunks of them, one after the other, so that they need not be held at once either
            (then all prepared inputs are).
        x: inputs.
        buffers: as in `outputs_of`, of all samples.

    Raises:
        ValueError: if x is empty or not finite, weights are not [S, P], there are none, or statistics are missing.
        TypeError: if x is neither a tensor nor a mapping of names to tensors.
    """
    return joined([average.result() for average in averages(network, likelihood, weights, x, buffers=buffers)])


def averages(
    network: Network,
    likelihood: Likelihood,
    weights: Tensor | Iterable[Tensor],
    x: Inputs,
    *,
    buffers: Statistics | None = None,
) -> list[Averaging]:
    """Return the averages of `averaged` in float64, one for each batch of inputs, in order."""
    if not isinstance(weights, Tensor):
        return _averages_over_pieces(network, likelihood, iter(weights), x, buffers)
    row_bytes, input_bytes = _bytes_of(network, weights, x, buffers, averaging=True)
    chunk = _chunk(len(weights), row_bytes)
    found = []
    for batch in _prepared(network, x, input_bytes + chunk * row_bytes):
        found.append(Averaging(likelihood))
        _add(found[-1], network, weights, batch, buffers, chunk)
    return found


def _averages_over_pieces(
    network: Network, likelihood: Likelihood, pieces: Iterator[Tensor], x: Inputs, buffers: Statistics | None
) -> list[Averaging]:
    """The same for weights that come in pieces [S, P], each seen once."""
    if (piece := next(pieces, None)) is None:
        raise ValueError("there are no weight samples to average over")
    row_bytes, input_bytes = _bytes_of(network, piece, x, _some(buffers, 0, len(piece)), averaging=True)
    chunk = _chunk(len(piece), row_bytes)
    held = [(Averaging(likelihood), batch) for batch in _prepared(network, x, input_bytes + chunk * row_bytes)]
    seen = 0
    while piece is not None:
        for average, batch in held:
            _add(average, network, piece, batch, _some(buffers, seen, seen + len(piece)), chunk)
        seen += len(piece)
        piece = next(pieces, None)
    return [average for average, _ in held]


def _add(
    average: Averaging, network: Network, weights: Tensor, batch: Inputs, buffers: Statistics | None, chunk: int
) -> None:
    """Take in the outputs of weight samples at prepared inputs: those of perceptrons are never held."""
    layout = network.layout_for(batch)
    if layout is not None and isinstance(batch, Tensor):
        average.add_perceptron(weights, batch, layout)
        return
    for at in range(0, len(weights), chunk):
        average.add(network(weights[at : at + chunk], batch, _some(buffers, at, at + chunk)))


def spread(predictions: Tensor) -> float:
    """Return the mean standard deviation over samples of predictions [S, N, ...]; 0 for a single sample."""
    return float(predictions.double().std(dim=0).mean()) if len(predictions) > 1 else 0.0


def predictive_nll(likelihood: Likelihood, outputs: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the mean NLL of the averaged predictive, and the mean over single samples, in nats an example.

    An example's labels or targets are scored together: extra axes (pixels, outputs) are summed inside the average over
    samples, -1/N sum_n log(1/S sum_s prod_i p_s(y_ni | x_n)), and the mean is over the N examples.

    Args:
        likelihood: what the outputs mean.
        outputs: of S weight samples, [S, N, ...].
        y: labels or targets of the N examples.
    """
    log_p = likelihood.log_prob(outputs.double(), y.double() if y.is_floating_point() else y)
    together = torch.logsumexp(log_p, dim=0) - math.log(len(outputs))
    return -float(together.mean()), -float(log_p.mean())


def split_r_hat(chains: Tensor) -> Tensor:
    """Return the split R-hat of chains [K, T, ...] for every entry of the rest of the shape.

    Each chain is cut in two; the result compares the variance between the halves with that within. Entries that do not
    vary at all get 1, those that vary between chains alone infinity.

    Raises:
        ValueError: if there are fewer than two draws a half.

    Source: Gelman et al. (2013), Bayesian Data Analysis, 3rd edition, section 11.4.
    """
    half = chains.shape[1] // 2
    if half < 2:
        raise ValueError(f"split R-hat needs at least four draws a chain; got {chains.shape[1]}")
    halves = torch.cat([chains[:, :half], chains[:, -half:]]).double()
    within = halves.var(dim=1).mean(dim=0)
    between = halves.mean(dim=1).var(dim=0)
    r_hat = ((half - 1) / half + between / within).sqrt()
    return torch.where(within + between > 0, r_hat, torch.ones_like(r_hat))


def _prepared(network: Network, x: Inputs, row_bytes: int) -> Iterator[Inputs]:
    """Batches of inputs, of rows that take so many bytes, as the network wants them."""
    loops = network.layout_for(x) is None and not network.weights.is_cuda
    size = min(BATCH_BYTES, CACHED_BYTES) if loops else BATCH_BYTES
    return (network.prepare(batch) for batch in split(x, max(1, size // row_bytes)))


def _chunk(n_samples: int, row_bytes: int) -> int:
    """How many samples at once, if one takes so many bytes for a row of inputs."""
    return max(1, min(MAX_CHUNK, n_samples, BATCH_BYTES // row_bytes))


def _some(buffers: Statistics | None, start: int, stop: int) -> Statistics | None:
    """The statistics of some of the samples."""
    return None if buffers is None else {name: value[start:stop] for name, value in buffers.items()}


def _bytes_of(
    network: Network, weights: Tensor, x: Inputs, buffers: Statistics | None = None, *, averaging: bool = False
) -> tuple[int, int]:
    """Bytes that a row of inputs takes for each weight sample, and besides; with averages of outputs if asked.

    Raises:
        ValueError: if there is no row, rows are not finite, weights are not [S, P], or statistics are missing.
    """
    network.check_weights(weights)
    n = n_rows(x)
    if n == 0:
        raise ValueError("the inputs are empty: x has no rows")
    check_finite(x, "inputs")
    if network.batch_norm == "refresh" and buffers is None:
        raise ValueError(
            "this network refreshes its batch norm: give the statistics of every weight sample "
            "(batch_norm.refreshed_statistics), or predictions would depend on the batch they are made in"
        )
    # Two rows, as some models squeeze a batch of one. Only they tell how large outputs are.
    few = take(x, slice(0, 2))
    outputs = network(weights[:1], network.prepare(few), _some(buffers, 0, 1))
    item, n_outputs = outputs.element_size(), outputs.numel() // min(n, 2)
    tensors = [few] if isinstance(few, Tensor) else few.values()
    n_inputs = sum(tensor.numel() for tensor in tensors) // min(n, 2)
    # Averages hold copies in float64: of outputs, of predictions, and of what is summed.
    each = n_outputs * (item + 3 * 8 if averaging else item)
    return max(HIDDEN_UNITS * item, each), FEATURE_MAPS * n_inputs * item
