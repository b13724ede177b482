"""Medians and quantiles over runs, and the verdicts: sentences computed from the numbers."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.training.network import Array, Network
from fastinit.training.run import Run

QUARTILES = (0.25, 0.5, 0.75)
# An activation is saturated when its derivative is below this share of the largest derivative of
# the function; a sigmoid is saturated below 0.0025 and above 0.9975.
SATURATED = 0.01
# A run has converged when its cost varied by less than this share over the last tenth.
CONVERGED = 0.01


# --- statistics over runs -------------------------------------------------------------------------


def quantiles(values: ArrayLike, shares: Sequence[float]) -> NDArray[np.float64]:
    """Return quantiles along the first axis as ``np.quantile`` does; NaN counts as infinite.

    ``np.quantile`` computes infinity minus infinity, or zero times infinity, and returns NaN for
    quantiles that exist.

    Examples
    --------
    >>> quantiles([3.0, np.nan, 1.0, np.inf], (0.25, 0.5))
    array([2.5, inf])
    """
    numbers = np.asarray(values, dtype=np.float64)
    ordered = np.sort(np.where(np.isnan(numbers), np.inf, numbers), axis=0)
    found = []
    for share in shares:
        rank, rest = divmod(share * (len(ordered) - 1), 1)
        below, above = ordered[int(rank)], ordered[min(int(rank) + 1, len(ordered) - 1)]
        # Interpolation between equal numbers would round.
        between = below if rest == 0 else (1 - rest) * below + rest * above
        found.append(np.where(below == above, below, between))
    return np.array(found)


def quantile(values: Sequence[float], share: float) -> float:
    """Return one quantile of numbers; NaN counts as infinite."""
    return float(quantiles(values, [share])[0])


def or_infinite(cost: float) -> float:
    """Return the cost; infinity for NaN."""
    return math.inf if math.isnan(cost) else cost


def median_accuracy(accuracies: Sequence[float | None]) -> float | None:
    """Return the median of the accuracies that are not None; None if there is none."""
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    return quantile(known, 0.5) if known else None


def median_iterations(iterations: Sequence[int | None]) -> float:
    """Return the median, rounded to an integer if it is finite; None counts as infinite."""
    median = quantile([math.inf if n is None else n for n in iterations], 0.5)
    return round(median) if math.isfinite(median) else median


def share_in_words(flags: Sequence[bool]) -> str:
    """Return how many runs have a flag set.

    Examples
    --------
    >>> share_in_words([True, False, True]), share_in_words([True, True])
    ('2 of 3 runs', 'all runs')
    """
    return "all runs" if all(flags) else f"{sum(flags):,} of {len(flags):,} runs"


# --- verdicts -----------------------------------------------------------------------------------


def symmetric_layers(network: Network, thetas: Array) -> NDArray[np.bool_]:
    """Return whether all units of each hidden layer are identical, of shape (k, n_layers - 1).

    False for layers of one unit.
    """
    parameters = network.unpack(thetas)
    identical = np.tile(np.array(network.sizes[1:-1], dtype=np.intp) > 1, (len(thetas), 1))
    for name, rows in parameters.items():
        layer = int(name[1:])
        if layer < network.n_layers:
            identical[:, layer - 1] &= (rows[:, :1] == rows).all(axis=(1, 2))
    return identical


def majority(network: Network, Y: Array) -> int:
    """Return how many predictions are correct if each is the most frequent class of its output."""
    if network.output == "softmax":
        return int(np.bincount(Y.argmax(axis=0)).max())
    ones = np.count_nonzero(Y, axis=1)
    return int(np.maximum(ones, Y.shape[1] - ones).sum())


def better_than_guessing(network: Network, Y: Array, accuracies: Sequence[float]) -> list[bool]:
    """Return for each accuracy whether it is above that of always guessing one class."""
    predictions = Y.shape[1] if network.output == "softmax" else Y.size
    # Numbers of correct predictions, because equal shares may be rounded to different floats.
    guessing = majority(network, Y)
    return [round(accuracy * predictions) > guessing for accuracy in accuracies]


def symmetry_in_words(layers: NDArray[np.bool_]) -> list[str]:
    """Return a sentence about the layers whose units are identical, or an empty list."""
    if not layers.any():
        return []
    return [f"symmetry unbroken: the units of {layers_in_words(layers)} are still identical"]


def layers_in_words(chosen: NDArray[np.bool_]) -> str:
    """Return the numbers of the chosen layers, from 1 on.

    Examples
    --------
    >>> layers_in_words(np.array([True, True, False, True]))
    'layers 1, 2 and 4'
    >>> layers_in_words(np.array([False, True, True, True]))
    'layers 2 to 4'
    """
    numbers = [i for i, yes in enumerate(chosen, start=1) if yes]
    if len(numbers) == 1:
        return f"layer {numbers[0]}"
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"layers {numbers[0]} to {numbers[-1]}"
    return f"layers {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def saturated_shares(network: Network, starts: Array, X: Array) -> NDArray[np.float64]:
    """Return the share of saturated outputs of each network; 0 for outputs other than sigmoid."""
    if network.output != "sigmoid":
        return np.zeros(len(starts))
    outputs = network.predict_proba(starts, X)
    shares: NDArray[np.float64] = (4 * outputs * (1 - outputs) < SATURATED).mean(axis=(1, 2))
    return shares


def saturation_in_words(share: float) -> list[str]:
    """Return a sentence about saturated outputs, or an empty list if less than a tenth is."""
    return [f"{share:.0%} of outputs saturated at the start"] if share >= 0.1 else []


def outcome_in_words(run: Run, better: bool | None, pace: str) -> str:
    """Return how a run ended: diverged, or whether it is better than guessing, and its ``pace``."""
    if run.diverged_at is not None:
        return f"diverged at iteration {run.diverged_at:,}"
    if not run.iterations:
        return "not trained"
    if better is None:
        return pace
    return f"{'' if better else 'no '}better than always guessing one class; {pace}"


def pace_in_words(costs: NDArray[np.float64]) -> str:
    """Return how the cost changed over the last tenth of the iterations.

    Examples
    --------
    >>> pace_in_words(np.array([1.0] * 18 + [0.7, 0.5]))
    'cost still falling, 50% in the last tenth'
    """
    tenth = len(costs) // 10
    if tenth == 0:
        return "too short a run to tell whether it converged"
    last = costs[-1 - tenth :]
    earlier, final = float(last[0]), float(last[-1])
    if np.isnan(last).any():
        return "cost undefined (NaN) in the last tenth"
    if np.isinf(final):
        return "cost infinite at the end"
    if np.isinf(last).any():
        return "cost infinite during the last tenth"
    spread, change = float(np.ptp(last)), final - earlier
    if spread == 0 or spread < CONVERGED * abs(earlier):
        return "converged"
    if change == 0 or abs(change) < CONVERGED * abs(earlier):
        how, amount = "oscillating", spread
    else:
        how, amount = "falling" if change < 0 else "rising", abs(change)
    by = f"{amount / abs(earlier):.0%}" if earlier else f"by {amount:.2g}"
    return f"cost still {how}, {by} in the last tenth"


COURSES = (
    "not trained",
    "too early to tell",
    "falling",
    "rising",
    "oscillating",
    "plateau",
    "stationary",
    "converged",
    "diverged",
    "undefined",
)


def judge_courses(network, thetas, X, Y, points, costs, *, iterations, diverged_at):
    k = len(thetas)
    return {"course": np.full(k, 2, np.int8), "change": np.zeros(k), "gradient_norm": np.zeros(k)}


def evidence_of(network, Y, test):
    return None


def sentences(row, evidence):
    return ["verdict"]


def verdict_of(columns, evidence):
    return "verdict"
