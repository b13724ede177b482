"""Medians and quantiles of many runs, and the verdicts: sentences computed from the numbers."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastinit.training.network import Network
from fastinit.training.run import Run

Array = NDArray[Any]

QUARTILES = (0.25, 0.5, 0.75)
# An activation is saturated when it passes on less than this share of the gradient that it could;
# for a sigmoid that is beyond 0.0025 and 0.9975.
SATURATED = 0.01
# A run has converged when its last tenth took less than this share off the cost.
CONVERGED = 0.01


# --- what many runs have in common --------------------------------------------------------------


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile as ``np.quantile`` does, but with infinities; NaN counts as one."""
    ordered: list[float] = sorted(map(or_infinite, values))
    rank, rest = divmod(share * (len(ordered) - 1), 1)
    below, above = ordered[int(rank)], ordered[min(int(rank) + 1, len(ordered) - 1)]
    # Infinity minus infinity, and infinity times zero, would make NaN of quantiles that exist.
    return below if rest == 0 or below == above else (1 - rest) * below + rest * above


def or_infinite(cost: float) -> float:
    """Return the cost; infinity for NaN."""
    return math.inf if math.isnan(cost) else cost


def median_accuracy(accuracies: Sequence[float | None]) -> float | None:
    """Return the median of those that are known; None if none is."""
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    return quantile(known, 0.5) if known else None


def median_iterations(iterations: Sequence[int | None]) -> float:
    """Return the median; None counts as never. A whole number where it is finite."""
    median = quantile([math.inf if n is None else n for n in iterations], 0.5)
    return round(median) if math.isfinite(median) else median


def share_in_words(flags: Sequence[bool]) -> str:
    """Return the share of runs for which a flag is set."""
    return "all runs" if all(flags) else f"{np.mean(flags):.0%} of runs"


# --- the verdict ------------------------------------------------------------------------------


def symmetric_layers(network: Network, thetas: Array) -> NDArray[np.bool_]:
    """Return, (k, hidden layers), whether the units of a layer, several, are all identical."""
    parameters = network.unpack(thetas)
    alike = np.tile(np.array(network.sizes[1:-1]) > 1, (len(thetas), 1))
    for layer in range(1, network.n_layers):
        for name in (f"W{layer}", f"b{layer}"):
            rows = parameters[name]
            alike[:, layer - 1] &= (rows[:, :1] == rows).all(axis=(1, 2))
    return alike


def majority(network: Network, Y: Array) -> float:
    """Return the accuracy of always guessing the most frequent class."""
    share = Y.mean(axis=1)
    if network.output == "softmax":
        return float(share.max())
    return float(np.maximum(share, 1 - share).mean())


def symmetry_in_words(layers: NDArray[np.bool_]) -> list[str]:
    """Return a sentence about the layers whose units are identical, if there are any."""
    identical = [str(layer) for layer in np.flatnonzero(layers) + 1]
    if not identical:
        return []
    which = f"layer{'s' if len(identical) > 1 else ''} {' and '.join(identical)}"
    return [f"symmetry unbroken: the units of {which} are still identical"]


def saturated_shares(network: Network, starts: Array, X: Array) -> NDArray[np.float64]:
    """Return the share of each network's outputs that pass on next to no gradient."""
    if network.output != "sigmoid":
        return np.zeros(len(starts))
    outputs = network.predict_proba(starts, X)
    shares: NDArray[np.float64] = (4 * outputs * (1 - outputs) < SATURATED).mean(axis=(1, 2))
    return shares


def saturation_in_words(share: float) -> list[str]:
    """Return a sentence about saturated outputs, if a tenth or more of them is saturated."""
    return [f"{share:.0%} of outputs saturated at the start"] if share >= 0.1 else []


def outcome_in_words(run: Run, accuracy: float | None, guessing: float | None, pace: str) -> str:
    """Return how a run ended, how good it is, and whether it converged."""
    if run.diverged_at is not None:
        return f"diverged at iteration {run.diverged_at:,}"
    if not run.iterations:
        return "not trained"
    if accuracy is None or guessing is None:
        return pace
    better = "better than always guessing one class"
    return f"{'' if accuracy > guessing else 'no '}{better}; {pace}"


def pace_in_words(costs: NDArray[np.float64]) -> str:
    """Return whether the cost still changed in the last tenth of the iterations."""
    tenth = len(costs) // 10
    if tenth == 0:
        return "too short a run to tell whether it converged"
    earlier, final = float(costs[-1 - tenth]), float(costs[-1])
    if math.isinf(final):
        return "cost infinite to the end"
    if math.isinf(earlier):
        return "cost infinite until the last tenth"
    change = (final - earlier) / abs(earlier) if earlier else 0.0
    if abs(change) < CONVERGED:
        return "converged"
    return (
        f"cost still {'falling' if change < 0 else 'rising'}, {abs(change):.0%} in the last tenth"
    )
