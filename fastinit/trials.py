"""Cell and Trial: one place of a comparison's grid, and what became of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastinit.initializers import Seed
from fastinit.network import Array, Network
from fastinit.training import Run, Stack

# A sigmoid output this close to 0 or 1 passes on less than 1 % of the gradient that it could.
SATURATED = 0.0025
# A run has converged when its last tenth took less than this share off the cost.
CONVERGED = 0.01
# A cost curve keeps at most so many points, and its last: more than a picture is wide in pixels.
POINTS = 500


@dataclass(frozen=True)
class Cell:
    """One place of the grid: all that sets a run apart from the others.

    Attributes
    ----------
    scheme : str
    seed : int, SeedSequence or None
        None is NumPy's global random state, for the lesson's ``random``.
    network : Network
    learning_rate : float

    Examples
    --------
    >>> cell = Cell("he_normal", 0, Network([2, 10, 10, 1]), 0.01)
    >>> cell.depth, cell.width, cell.activation
    (2, 10, 'relu')
    """

    scheme: str
    seed: Seed
    network: Network
    learning_rate: float

    @property
    def depth(self) -> int:
        """Hidden layers."""
        return self.network.n_layers - 1

    @property
    def width(self) -> int | None:
        """Units of each hidden layer; None where they differ or there is none."""
        widths = set(self.network.sizes[1:-1])
        return widths.pop() if len(widths) == 1 else None

    @property
    def activation(self) -> str:
        """Activation of the hidden layers."""
        return self.network.hidden


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
    saturated = _saturated_shares(network, starts, X)
    trials = []
    for k, (cell, run, accuracy) in enumerate(zip(cells, stack, accuracies, strict=True)):
        pace = _pace(run.costs)
        points = kept_points(len(run.costs))
        verdict = [
            *_symmetric(symmetric[k]),
            *_saturated(saturated[k]),
            _outcome(run, accuracy, guessing, pace),
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
    accuracies: list[float | None] = network.accuracy(stack.theta, X, Y).tolist()
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


def _symmetric(layers: NDArray[np.bool_]) -> list[str]:
    identical = [str(layer) for layer in np.flatnonzero(layers) + 1]
    if not identical:
        return []
    which = f"layer{'s' if len(identical) > 1 else ''} {' and '.join(identical)}"
    return [f"symmetry unbroken: the units of {which} are still identical"]


def _saturated_shares(network: Network, starts: Array, X: Array) -> NDArray[np.float64]:
    """Return the share of each network's outputs that pass on next to no gradient."""
    if network.output != "sigmoid":
        return np.zeros(len(starts))
    outputs = network.predict_proba(starts, X)
    shares: NDArray[np.float64] = (outputs * (1 - outputs) < SATURATED).mean(axis=(1, 2))
    return shares


def _saturated(share: float) -> list[str]:
    return [f"{share:.0%} of outputs saturated at the start"] if share >= 0.1 else []


def _outcome(run: Run, accuracy: float | None, guessing: float | None, pace: str) -> str:
    if run.diverged_at is not None:
        return f"diverged at iteration {run.diverged_at:,}"
    if not run.iterations:
        return "not trained"
    if accuracy is None or guessing is None:
        return pace
    better = "better than always guessing one class"
    return f"{'' if accuracy > guessing else 'no '}{better}; {pace}"


def _pace(costs: NDArray[np.float64]) -> str:
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
