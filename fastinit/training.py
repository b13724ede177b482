"""train(): the thin loop around one kernel; Run, what it returns."""

import html
import operator
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.kernels import dense
from fastinit.network import Array, Network
from fastinit.optimizers import GradientDescent

# A slice is what the kernel does between two returns to Python. Long enough that the way back, some
# microseconds, does not count; short enough for a smooth progress bar.
SLICE_SECONDS = 0.02


@dataclass(eq=False, repr=False)
class Run:
    """One training, as far as it has come.

    Attributes
    ----------
    network : Network
    theta : ndarray of shape (n_parameters,)
        The very array that was handed to :func:`train`, updated in place.
    optimizer : GradientDescent
    costs : ndarray of shape (iterations,), float64
        The cost before each update. NaN from the iteration of divergence on.
    diverged_at : int or None
        The first iteration whose update would have left the finite numbers. It was not made:
        ``theta`` keeps its last finite value.
    seconds : float
        Wall-clock time of the training.
    """

    network: Network
    theta: Array
    optimizer: GradientDescent
    costs: NDArray[np.float64]
    diverged_at: int | None = None
    seconds: float = 0.0

    @property
    def iterations(self) -> int:
        """Whole iterations that were run."""
        return len(self.costs) if self.diverged_at is None else self.diverged_at

    @property
    def final_cost(self) -> float:
        """The last recorded cost; NaN if there is none or the training diverged."""
        return float(self.costs[-1]) if len(self.costs) else float("nan")

    @property
    def parameters(self) -> dict[str, Array]:
        """``{"W1": ..., "b1": ..., ...}``: views that share memory with ``theta``."""
        return self.network.unpack(self.theta)

    def _facts(self) -> dict[str, str]:
        facts = {
            "network": str(self.network),
            "optimizer": str(self.optimizer),
            "iterations": f"{self.iterations:,}",
        }
        if len(self.costs):
            facts["cost"] = f"{self.costs[0]:.6g} -> {self.final_cost:.6g}"
        if self.diverged_at is not None:
            facts["diverged at"] = f"iteration {self.diverged_at:,}"
        facts["time"] = f"{self.seconds:.3g} s"
        return facts

    def __repr__(self) -> str:
        return "Run\n" + "\n".join(f"  {name:<12} {fact}" for name, fact in self._facts().items())

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(fact)}</td></tr>'
            for name, fact in self._facts().items()
        )
        return f"<table><caption>Run</caption>{rows}</table>"


def train(
    network: Network,
    theta: Array,
    X: ArrayLike,
    Y: ArrayLike,
    *,
    learning_rate: float | None = None,
    iterations: int = 1000,
    optimizer: GradientDescent | None = None,
    callback: Callable[[Run], Any] | None = None,
) -> Run:
    """Train by full-batch gradient descent, updating ``theta`` in place.

    Parameters
    ----------
    network : Network
    theta : ndarray of shape (n_parameters,), the network's dtype
        The start, and in the end the result: pass ``theta.copy()`` to keep the start.
    X : array_like of shape (n_features, n_examples)
    Y : array_like of shape (n_outputs, n_examples), each 0 or 1
    learning_rate : float, default 0.01
        Short for ``optimizer=GradientDescent(learning_rate)``.
    iterations : int, default 1000
        0 changes nothing.
    optimizer : GradientDescent, optional
    callback : callable, optional
        Called as ``callback(run)`` some 50 times a second and at the end, with the run as far as it
        has come; the training stops when it returns True.

    Returns
    -------
    Run
        With ``run.theta is theta``.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit, before anything is written.
    KeyboardInterrupt
        At Ctrl-C, with ``theta`` as the last whole iteration left it.

    Notes
    -----
    The same bits on one machine and CPU level, every time.

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, X_test, Y_test = fi.datasets.load_dataset()
    >>> net = fi.Network([2, 10, 5, 1])
    >>> theta = net.initialize("he", seed=3)
    >>> run = fi.train(net, theta, X, Y, learning_rate=0.01, iterations=15_000)
    >>> run.costs[[0, 1000, 14000]].round(6)
    array([0.883054, 0.687983, 0.073579])
    >>> net.accuracy(run.theta, X_test, Y_test)
    0.96
    """
    if not isinstance(network, Network):
        raise TypeError(f"network: expected a Network; got {type(network).__name__}")
    if optimizer is None:
        optimizer = GradientDescent() if learning_rate is None else GradientDescent(learning_rate)
    elif learning_rate is not None:
        raise TypeError("learning_rate: expected it in the optimizer; got both")
    elif not isinstance(optimizer, GradientDescent):
        raise TypeError(f"optimizer: expected GradientDescent; got {type(optimizer).__name__}")
    iterations = _count("iterations", iterations)
    theta = network.check_theta(theta, written=True)
    if not np.isfinite(theta).all():
        raise ValueError("theta: expected finite numbers; got NaN or infinity")
    X = network.check_X(X)
    Y = network.check_Y(Y, X)
    for name, array in (("X", X), ("Y", Y)):
        if np.may_share_memory(theta, array):
            raise ValueError(f"theta: expected memory of its own; got an overlap with {name}")

    costs = np.empty(iterations)
    run = Run(network, theta, optimizer, costs[:0])
    start = now = perf_counter()
    done, size = 0, 1
    while done < iterations:
        piece = costs[done : done + size]
        whole = dense.descend(network.layout, theta, X, Y, optimizer.learning_rate, piece)
        done += whole
        before, now = now, perf_counter()
        run.seconds = now - start
        run.costs = costs[:done]
        if whole < len(piece):
            costs[done:] = np.nan
            run.costs, run.diverged_at = costs, done
            break
        # Towards the time a slice should take, but never in one leap: the first are short.
        pace = max((now - before) / whole, 1e-9)
        size = max(1, min(int(SLICE_SECONDS / pace), 8 * size))
        if callback is not None and callback(run) is True:
            break
    return run


def _count(name: str, value: int) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer; got bool")
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer; got {type(value).__name__}") from None
    if count < 0:
        raise ValueError(f"{name}: expected >= 0; got {count}")
    return count
