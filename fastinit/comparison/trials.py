"""Trial: one cell of a comparison and its outcome."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastinit.comparison.grid import Cell
from fastinit.comparison.statistics import (
    majority,
    outcome_in_words,
    pace_in_words,
    saturated_shares,
    saturation_in_words,
    symmetric_layers,
    symmetry_in_words,
)
from fastinit.training.network import Network
from fastinit.training.run import Stack

Array = NDArray[Any]

# A cost curve keeps at most so many points, and its last: more than a picture is wide in pixels.
POINTS = 500


@dataclass(frozen=True, eq=False)
class Trial:
    """What became of one cell.

    Attributes
    ----------
    cell : Cell
    start, theta : ndarray of shape (n_parameters,)
        The parameters before and after the training.
    points : ndarray of intp
        The iterations whose costs are kept: evenly spaced ones, and the last.
    costs : ndarray of float64, as long as ``points``
        The cost before the update of each of these; NaN from the iteration of divergence on.
    iterations : int
        Whole iterations that were run.
    diverged_at : int or None
        As in :class:`fastinit.Run`.
    converged : bool
        Whether the last tenth of the iterations changed the cost by less than 1 %, at whatever cost
        that is; a run of fewer than ten iterations has not.
    train_accuracy, test_accuracy : float or None
        None without test data, and unless the network classifies.
    iterations_to_cost, iterations_to_accuracy : int or None
        Iterations until the target was first reached; None if it never was, or there was no target.
        Every iteration is looked at for the cost, the ``points`` for the accuracy.
    verdict : str
        What became of it, in plain words.
    seconds : float
        Wall-clock time of the training; of those that were one stack, an equal share of its time.
    """

    cell: Cell
    start: Array
    theta: Array
    points: NDArray[np.intp]
    costs: NDArray[np.float64]
    iterations: int
    diverged_at: int | None
    converged: bool
    train_accuracy: float | None
    test_accuracy: float | None
    iterations_to_cost: int | None
    iterations_to_accuracy: int | None
    verdict: str
    seconds: float

    @property
    def network(self) -> Network:
        """That of the cell."""
        return self.cell.network

    @property
    def final_cost(self) -> float:
        """The last recorded cost; NaN if there is none or the training diverged."""
        return float(self.costs[-1]) if len(self.costs) else float("nan")

    @property
    def symmetric(self) -> bool:
        """Whether all units of some hidden layer still do the same."""
        return bool(symmetric_layers(self.network, self.theta[None]).any())

    def is_whole(self, iterations: int) -> bool:
        """Whether the run came to its own end, not to that of a callback."""
        return self.diverged_at is not None or self.iterations == iterations

    def record(self) -> dict[str, Any]:
        """Return cell and outcome as one flat row."""
        seed = self.cell.seed
        return {
            "scheme": self.cell.scheme,
            "seed": seed if seed is None or isinstance(seed, int) else str(seed),
            "depth": self.cell.depth,
            "width": self.cell.width,
            "learning_rate": self.cell.learning_rate,
            "activation": self.cell.activation,
            "train_accuracy": self.train_accuracy,
            "test_accuracy": self.test_accuracy,
            "final_cost": self.final_cost,
            "converged": self.converged,
            "diverged_at": self.diverged_at,
            "iterations": self.iterations,
            "iterations_to_cost": self.iterations_to_cost,
            "iterations_to_accuracy": self.iterations_to_accuracy,
            "seconds": self.seconds,
            "verdict": self.verdict,
        }


def finished(
    cells: Sequence[Cell],
    starts: Array,
    stack: Stack,
    X: Array,
    Y: Array,
    test: tuple[Array, Array] | None,
    *,
    target_cost: float | None = None,
    iterations_to_accuracy: Sequence[int | None],
) -> list[Trial]:
    """Return what is kept of runs of one network: all that needs a full cost curve is found here.

    Parameters
    ----------
    cells : sequence of k cells
    starts : ndarray of shape (k, n_parameters)
    stack : Stack of k runs
    X, Y, test
        The data, checked.
    target_cost : float, optional
    iterations_to_accuracy : sequence of k int or None
    """
    network = cells[0].network
    accuracies = _accuracies(network, stack, X, Y)
    test_accuracies = [None] * len(stack) if test is None else _accuracies(network, stack, *test)
    guessing = majority(network, Y) if network.classifies else None
    symmetric = symmetric_layers(network, stack.theta)
    saturated = saturated_shares(network, starts, X)
    trials = []
    for k, (cell, run, accuracy) in enumerate(zip(cells, stack, accuracies, strict=True)):
        pace = pace_in_words(run.costs)
        points = kept_points(len(run.costs))
        verdict = [
            *symmetry_in_words(symmetric[k]),
            *saturation_in_words(saturated[k]),
            outcome_in_words(run, accuracy, guessing, pace),
        ]
        trial = Trial(
            cell=cell,
            start=starts[k],
            theta=run.theta,
            points=points,
            costs=run.costs[points],
            iterations=run.iterations,
            diverged_at=run.diverged_at,
            converged=run.diverged_at is None and pace == "converged",
            train_accuracy=accuracy,
            test_accuracy=test_accuracies[k],
            iterations_to_cost=None if target_cost is None else _first(run.costs <= target_cost),
            iterations_to_accuracy=iterations_to_accuracy[k],
            verdict="; ".join(verdict),
            seconds=stack.seconds / len(stack),
        )
        trials.append(trial)
    return trials


def _accuracies(network: Network, stack: Stack, X: Array, Y: Array) -> list[float | None]:
    if not network.classifies:
        return [None] * len(stack)
    accuracies: list[float | None] = np.asarray(network.accuracy(stack.theta, X, Y)).tolist()
    return accuracies


def stride(n: int) -> int:
    """Return the least of 1, 2, 5, 10, 20, ... that goes at most POINTS times into n iterations."""
    step = 1
    while n > POINTS * step:
        # 1, 2, 5, 10: round numbers, so that the thousandth iteration is among those kept.
        step = step * 5 // 2 if str(step).startswith("2") else 2 * step
    return step


def kept_points(n: int) -> NDArray[np.intp]:
    """Return which of n iterations have their cost kept: every stride-th, and the last.

    Examples
    --------
    >>> kept_points(15_000)[[0, 1, 2, -2, -1]]
    array([    0,    50,   100, 14950, 14999])
    """
    points = np.arange(0, n, stride(n))
    return np.append(points, n - 1) if n and points[-1] != n - 1 else points


def _first(reached: NDArray[np.bool_]) -> int | None:
    return int(reached.argmax()) if reached.any() else None
