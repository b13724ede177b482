"""compare(): one network, one data set, several initialisations -> one table."""

import html
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit import initializers
from fastinit.initializers import Seed
from fastinit.network import Array, Network
from fastinit.training import Run, train

# A sigmoid output this close to 0 or 1 passes on less than 1 % of the gradient that it could.
SATURATED = 0.0025
# A run has converged when its last tenth took less than this share off the cost.
CONVERGED = 0.01


class Table(Sequence[dict[str, Any]]):
    """Rows of named values that print as a table in a terminal and in a notebook.

    Examples
    --------
    >>> Table([{"scheme": "he", "train accuracy": 0.99}])
    scheme  train accuracy
    ------  --------------
    he      0.99
    """

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = list(rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self._rows[0]) if self._rows else []

    def cells(self) -> Iterator[list[str]]:
        """Yield each row as printed: numbers to six significant digits, nothing for None."""
        for row in self._rows:
            yield [
                "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
                for value in row.values()
            ]

    def __repr__(self) -> str:
        if not self._rows:
            return "(no rows)"
        lines = [self.columns, *self.cells()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ["-" * width for width in widths])
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.cells()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


@dataclass(eq=False, repr=False)
class Comparison:
    """What became of each scheme; prints as its table.

    Attributes
    ----------
    runs : dict of str to Run
    starts : dict of str to ndarray
        The ``theta`` that each run started from.
    X, Y : ndarray
        The training data.
    test : pair of ndarray or None
    """

    X: Array
    Y: Array
    test: tuple[Array, Array] | None
    runs: dict[str, Run] = field(default_factory=dict)
    starts: dict[str, Array] = field(default_factory=dict)

    def table(self) -> Table:
        """Return the lesson's closing table: accuracies, final cost and a verdict per scheme."""
        return Table([self._row(scheme) for scheme in self.runs])

    def verdict(self, scheme: str) -> str:
        """Return in plain words what became of a scheme, computed from its run."""
        run = self.runs[scheme]
        return "; ".join(
            [
                *_symmetric(run),
                *_saturated(run.network, self.starts[scheme], self.X),
                _outcome(run, self.accuracy(scheme), self.Y),
            ]
        )

    def accuracy(self, scheme: str) -> float:
        """Return the accuracy on the training data."""
        run = self.runs[scheme]
        return run.network.accuracy(run.theta, self.X, self.Y)

    def test_accuracy(self, scheme: str) -> float | None:
        """Return the accuracy on the test data; None without any."""
        run = self.runs[scheme]
        return None if self.test is None else run.network.accuracy(run.theta, *self.test)

    def _row(self, scheme: str) -> dict[str, Any]:
        run = self.runs[scheme]
        return {
            "scheme": scheme,
            "train accuracy": self.accuracy(scheme),
            "test accuracy": self.test_accuracy(scheme),
            "final cost": run.final_cost,
            "verdict": self.verdict(scheme),
        }

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def compare(
    X: ArrayLike,
    Y: ArrayLike,
    network: Network,
    schemes: Sequence[str],
    *,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    learning_rate: float = 0.01,
    iterations: int = 15_000,
    seed: Seed = None,
    callback: Callable[[str, Run], Any] | None = None,
) -> Comparison:
    """Train the network once from each scheme, and put the outcomes side by side.

    Parameters
    ----------
    X : array_like of shape (n_features, n_examples)
    Y : array_like of shape (n_outputs, n_examples), each 0 or 1
    network : Network
    schemes : sequence of str
        Names that :func:`fastinit.initializers.names` lists, each once.
    test : (X_test, Y_test), optional
    learning_rate : float, default 0.01
    iterations : int, default 15000
    seed : int, SeedSequence, Generator or None
        Every scheme starts from the same seed. Without one the lesson is followed: ``random`` draws
        from NumPy's global state as it stands, and ``he`` from the seed 3 that the lesson's own
        function sets. The global state is left as it was.
    callback : callable, optional
        Called as ``callback(scheme, run)`` while a scheme trains; returning True ends its training.

    Returns
    -------
    Comparison

    Notes
    -----
    Large random weights amplify the last bit of rounding: changing ``X`` by one unit in the last
    place moves the lesson's cost at iteration 1000 between 0.386 and 0.418. Their accuracies are
    stable to about a hundredth; their costs are not, on any two machines.

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, X_test, Y_test = fi.datasets.load_dataset()
    >>> net = fi.Network([2, 10, 5, 1])
    >>> result = fi.compare(X, Y, net, ["zeros", "he"], test=(X_test, Y_test), iterations=1000)
    >>> [row["scheme"] for row in result.table()]
    ['zeros', 'he']
    """
    if not isinstance(network, Network):
        raise TypeError(f"network: expected a Network; got {type(network).__name__}")
    if isinstance(schemes, str):
        raise TypeError(f"schemes: expected a sequence of names; got the string {schemes!r}")
    if not schemes:
        raise ValueError("schemes: expected at least one name; got none")
    for scheme in schemes:
        initializers.get(scheme)
    if len(set(schemes)) < len(schemes):
        raise ValueError(f"schemes: expected each name once; got {', '.join(schemes)}")
    X = network.check_X(X)
    Y = network.check_Y(Y, X)
    if test is not None:
        X_test = network.check_X(test[0], name="X_test")
        test = (X_test, network.check_Y(test[1], X_test, name="Y_test"))
    if isinstance(seed, np.random.Generator):
        seed = int(seed.integers(2**32))  # once: a generator moves on as it is asked

    result = Comparison(X, Y, test)
    for scheme in schemes:
        theta = network.initialize(scheme, seed=_start(scheme, seed))
        result.starts[scheme] = theta.copy()
        result.runs[scheme] = train(
            network,
            theta,
            X,
            Y,
            learning_rate=learning_rate,
            iterations=iterations,
            callback=None if callback is None else _bound(callback, scheme),
        )
    return result


def _bound(callback: Callable[[str, Run], Any], scheme: str) -> Callable[[Run], Any]:
    return lambda run: callback(scheme, run)


def _start(scheme: str, seed: Seed) -> Seed:
    """Return the seed of one scheme, so that every scheme starts alike."""
    if seed is None and scheme == "random":
        copy = np.random.RandomState()
        copy.set_state(np.random.get_state())
        return copy
    if seed is None and scheme == "he":
        return 3  # what the lesson's initialize_parameters_he seeds itself with
    return seed


# --- the verdict ------------------------------------------------------------------------------


def _symmetric(run: Run) -> list[str]:
    parameters = run.parameters
    identical = [
        str(layer)
        for layer in range(1, run.network.n_layers)
        if run.network.sizes[layer] > 1
        and np.ptp(np.hstack([parameters[f"W{layer}"], parameters[f"b{layer}"]]), axis=0).max() == 0
    ]
    if not identical:
        return []
    layers = f"layer{'s' if len(identical) > 1 else ''} {' and '.join(identical)}"
    return [f"symmetry unbroken: the units of {layers} are still identical"]


def _saturated(network: Network, start: Array, X: Array) -> list[str]:
    outputs = network.predict_proba(start, X)
    share = float(np.mean(outputs * (1 - outputs) < SATURATED))
    return [f"{share:.0%} of outputs saturated at the start"] if share >= 0.1 else []


def _outcome(run: Run, accuracy: float, Y: Array) -> str:
    if run.diverged_at is not None:
        return f"diverged at iteration {run.diverged_at:,}"
    if not run.iterations:
        return "not trained"
    majority = max(float(np.mean(Y)), 1 - float(np.mean(Y)))
    better = "better than always guessing one class"
    return f"{'' if accuracy > majority else 'no '}{better}; {_pace(run.costs)}"


def _pace(costs: NDArray[np.float64]) -> str:
    tenth = len(costs) // 10
    if tenth == 0:
        return "too short a run to tell whether it converged"
    earlier, final = float(costs[-1 - tenth]), float(costs[-1])
    if math.isinf(final):
        return "cost infinite to the end"
    if math.isinf(earlier):
        return "cost infinite until the last tenth"
    change = (final - earlier) / earlier if earlier else 0.0
    if abs(change) < CONVERGED:
        return "converged"
    return (
        f"cost still {'falling' if change < 0 else 'rising'}, {abs(change):.0%} in the last tenth"
    )
