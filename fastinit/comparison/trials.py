"""Trial: one cell of a comparison and the outcome of its run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastinit.comparison.grid import Cell, as_code
from fastinit.comparison.statistics import (
    better_than_guessing,
    outcome_in_words,
    pace_in_words,
    saturated_shares,
    saturation_in_words,
    symmetric_layers,
    symmetry_in_words,
)
from fastinit.training.network import Array, Network
from fastinit.training.run import Run, Stack, _Summarized

# The largest number of evenly spaced points in a stored cost curve: more than a plot has pixels.
POINTS = 500


@dataclass(frozen=True, eq=False, repr=False)
class Trial(_Summarized):
    """One cell and the outcome of its run.

    Attributes
    ----------
    cell : Cell
    start, theta : ndarray of shape (n_parameters,)
        The parameters before and after the training.
    points : ndarray of shape (n_points,), intp
        The iterations whose costs are stored: evenly spaced ones, and the last.
    costs : ndarray of shape (n_points,), float64
        The cost before the update of each of these iterations; NaN from the divergence on.
    final_cost : float
        As in :class:`fastinit.Run`; NaN if the run diverged.
    iterations : int
        Number of complete iterations.
    diverged_at : int or None
        As in :class:`fastinit.Run`.
    converged : bool
        Whether the cost varied by less than 1 % over the last tenth of the iterations, however high
        it was. False for runs of fewer than ten iterations.
    train_accuracy, test_accuracy : float or None
        None if the network does not classify; ``test_accuracy`` also without test data.
    iterations_to_cost, iterations_to_accuracy : int or None
        Number of iterations until the target was first reached; None if it was not reached or not
        given. The cost is checked at every iteration, the accuracy at every stride of ``points``;
        both also at the end.
    verdict : str
        A description of the outcome in words.
    seconds : float
        Wall-clock time of the training. Runs that were trained as one stack have equal shares of
        its time.
    """

    cell: Cell
    start: Array
    theta: Array
    points: NDArray[np.intp]
    costs: NDArray[np.float64]
    final_cost: float
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
        """The network of the cell."""
        return self.cell.network

    @property
    def symmetric(self) -> bool:
        """Whether all units of some hidden layer are identical after the training."""
        return bool(symmetric_layers(self.network, self.theta[None]).any())

    def _summary(self) -> dict[str, str]:
        seed = self.cell.seed
        facts = {
            "scheme": self.cell.scheme,
            "seed": "default" if seed is None else as_code(seed),
            "network": str(self.network),
            "rate": f"{self.cell.learning_rate:g}",
            "iterations": f"{self.iterations:,}",
            "final cost": f"{self.final_cost:.6g}",
        }
        for name, accuracy in (("train", self.train_accuracy), ("test", self.test_accuracy)):
            if accuracy is not None:
                facts[name] = f"accuracy {accuracy:.1%}"
        return facts | {"verdict": self.verdict, "time": f"{self.seconds:.3g} s"}

    def is_complete(self, iterations: int) -> bool:
        """Return whether the run made all iterations or diverged, as opposed to being stopped."""
        return self.diverged_at is not None or self.iterations == iterations

    def record(self) -> dict[str, Any]:
        """Return cell and outcome as one flat row."""
        seed = self.cell.seed
        return {
            "scheme": self.cell.scheme,
            "seed": seed if seed is None or isinstance(seed, int) else as_code(seed),
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


def trials_of(
    cells: Sequence[Cell],
    starts: Array,
    stack: Stack,
    X: Array,
    Y: Array,
    test: tuple[Array, Array] | None,
    *,
    iterations: int,
    target_cost: float | None = None,
    iterations_to_accuracy: Sequence[int | None],
) -> list[Trial]:
    """Return the trials of a stack of runs: everything that needs the full cost curves.

    Parameters
    ----------
    cells : sequence of k Cell
        All of one network.
    starts : ndarray of shape (k, n_parameters)
    stack : Stack of k runs
    X, Y, test
        The checked data.
    iterations : int
        Number of iterations that were requested.
    target_cost : float, optional
    iterations_to_accuracy : sequence of k int or None
    """
    network = cells[0].network
    accuracies = _accuracies(network, stack, X, Y)
    test_accuracies = [None] * len(stack) if test is None else _accuracies(network, stack, *test)
    better: Sequence[bool | None] = [None] * len(stack)
    if network.classifies:
        better = better_than_guessing(network, Y, [a for a in accuracies if a is not None])
    symmetric = symmetric_layers(network, stack.theta)
    saturated = saturated_shares(network, starts, X)
    trials = []
    for k, (cell, run, accuracy) in enumerate(zip(cells, stack, accuracies, strict=True)):
        pace = pace_in_words(run.costs)
        points, costs = _stored_curve(run, iterations)
        verdict = [
            *symmetry_in_words(symmetric[k]),
            *saturation_in_words(saturated[k]),
            outcome_in_words(run, better[k], pace),
        ]
        trial = Trial(
            cell=cell,
            start=starts[k],
            theta=run.theta,
            points=points,
            costs=costs,
            final_cost=float("nan") if run.diverged_at is not None else run.final_cost,
            iterations=run.iterations,
            diverged_at=run.diverged_at,
            converged=run.diverged_at is None and pace == "converged",
            train_accuracy=accuracy,
            test_accuracy=test_accuracies[k],
            iterations_to_cost=_iterations_to_cost(run, target_cost),
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


def _stored_curve(run: Run, iterations: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the points of a run's cost curve and the costs there.

    A diverged run has the points of a complete one, although its own costs may end earlier:
    training appends a limited number of NaN after a divergence.
    """
    points = kept_points(run.iterations if run.diverged_at is None else iterations)
    costs = np.full(len(points), np.nan)
    known = points < len(run.costs)
    costs[known] = run.costs[points[known]]
    return points, costs


def stride(n: int) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, ... with at most POINTS multiples below n."""
    step = 1
    while n > POINTS * step:
        # Round numbers, so that every thousandth iteration is stored.
        step = step * 5 // 2 if str(step).startswith("2") else 2 * step
    return step


def kept_points(n: int) -> NDArray[np.intp]:
    """Return the iterations whose cost is stored: the multiples of the stride, and the last.

    Examples
    --------
    >>> kept_points(15_000)[[0, 1, 2, -2, -1]]
    array([    0,    50,   100, 14950, 14999])
    """
    points = np.arange(0, n, stride(n))
    return np.append(points, n - 1) if n and points[-1] != n - 1 else points


def _iterations_to_cost(run: Run, target: float | None) -> int | None:
    """Return the number of iterations after which the cost was first at most the target."""
    if target is None:
        return None
    reached = run.costs <= target
    if reached.any():
        return int(reached.argmax())
    return run.iterations if run.final_cost <= target else None
