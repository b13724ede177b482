"""Run and Stack, the classes that :func:`train` returns."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.kernels import usable_cores
from fastinit.markup import html_table
from fastinit.training.network import Array, Network
from fastinit.training.optimizers import Optimizer

# The order of the examples in each epoch: the key of the shuffle, None for the order of X, an
# array, or a callable that returns the array of an epoch.
Order = int | NDArray[np.intp] | Callable[[int], ArrayLike] | None


# Ends of a training that a summary of a stack need not mention, or mentions otherwise.
_EXPECTED = ("", "iterations", "divergence")


class Data(NamedTuple):
    """Training data in the layout and dtype of the kernels."""

    X: Array
    Y: Array
    sample_weight: Array | None


class Interrupted(KeyboardInterrupt):
    """Raised on Ctrl-C: a KeyboardInterrupt that carries the result so far.

    Parameters
    ----------
    result : Run, Stack or Comparison
        The result at the time of the interrupt.
    message : str
        The text of the exception.

    Attributes
    ----------
    result : Run, Stack or Comparison
        The result at the time of the interrupt. Continue a run or a stack with
        ``train(..., resume=result)``, and a comparison from its store.

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> net = fi.Network([2, 10, 5, 1])
    >>> theta = net.initialize("he_normal", seed=0)
    >>> def press_ctrl_c(run):
    ...     raise KeyboardInterrupt
    >>> try:
    ...     fi.train(net, theta, X, Y, iterations=100, callback=press_ctrl_c, callback_every=40)
    ... except fi.Interrupted as error:
    ...     run = error.result
    >>> run.iterations, run.stopped_by
    (40, 'interrupt')
    """

    def __init__(self, result: Any, message: str) -> None:
        super().__init__(result, message)
        self.result = result

    def __str__(self) -> str:
        return str(self.args[1])


class _Summarized(ABC):
    """A class whose repr is a summary, as text or, in notebooks, as HTML."""

    @abstractmethod
    def _summary(self) -> dict[str, str]:
        """Return the lines of the summary: name and text."""

    def __repr__(self) -> str:
        lines = [f"  {name:<12} {text}" for name, text in self._summary().items()]
        return "\n".join([type(self).__name__, *lines])

    def _repr_html_(self) -> str:
        return html_table(list(self._summary().items()), caption=type(self).__name__)


@dataclass(eq=False, repr=False)
class Run(_Summarized):
    """The result of training one network. Returned by :func:`fastinit.train`.

    Attributes
    ----------
    network : Network
        The network that was trained.
    theta : ndarray of shape (n_parameters,), the network's dtype
        The array that was passed to :func:`fastinit.train`, updated in place.
    optimizer : GradientDescent, Momentum, Adam, AdamW or LBFGS
        The optimiser with its settings.
    costs : ndarray of shape (ceil(iterations / cost_every),), float64
        Training costs. Entry ``i`` is the cost of the batch of iteration ``i * cost_every``, before
        its update. After a divergence, the remaining entries are NaN, up to the requested number of
        iterations and to at most 2**20 entries.
    diverged_at : int or None
        The first iteration whose update was not finite, or None. That update is discarded:
        ``theta`` keeps its last finite value.
    seconds : float
        Wall-clock time of the training in seconds; in a stack, that of the whole stack.
    batch_size : int or None
        Examples per update; None for full batches.
    stopped_by : str
        "iterations", "callback", "tol", "divergence" or "interrupt". For :class:`LBFGS` also
        "convergence", "max_fun", or "line_search" if the line search found no lower cost. Empty
        during the training.
    best_iteration : int or None
        With early stopping on validation data, the number of iterations after which the monitored
        value was best. At the end of the training, ``theta`` is set to the parameters of that
        iteration.
    cost_every : int
        Number of iterations between two recorded costs.

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> net = fi.Network([2, 10, 5, 1])
    >>> run = fi.train(net, net.initialize("he_normal", seed=0), X, Y, iterations=50)
    >>> run.iterations, run.stopped_by, run.costs.shape
    (50, 'iterations', (50,))
    """

    network: Network
    theta: Array
    optimizer: Optimizer
    costs: NDArray[np.float64]
    diverged_at: int | None = None
    seconds: float = 0.0
    batch_size: int | None = None
    stopped_by: str = ""
    best_iteration: int | None = None
    cost_every: int = 1
    # The state that a resumed training continues from.
    _iterations: int | None = None
    _state: Array = field(default_factory=lambda: np.empty((0, 0)))
    _state_start: int = 0  # the iteration at which the state was zero
    _order: Order = 0
    _data: Data | None = None
    _validations: list[tuple[int, float, float]] = field(default_factory=list)
    _best: Any = None  # the monitored values

    def __copy__(self) -> Self:
        # The general method of the module copy takes 3 us, as long as a short training's kernel.
        own = object.__new__(type(self))
        vars(own).update(vars(self))
        return own

    @property
    def iterations(self) -> int:
        """Number of completed iterations."""
        if self._iterations is not None:
            return self._iterations
        return len(self.costs) if self.diverged_at is None else self.diverged_at

    @property
    def final_cost(self) -> float:
        """Cost of ``theta`` on the training data, without penalties; NaN after a divergence."""
        if self.diverged_at is not None or self._data is None:
            return float("nan")
        return float(self.network.cost(self.theta, *self._data[:2], sample_weight=self._data[2]))

    @property
    def validation_iterations(self) -> NDArray[np.intp]:
        """Number of completed iterations at each validation, of shape (n,)."""
        return np.array([done for done, _, _ in self._validations], np.intp)

    @property
    def validation_costs(self) -> NDArray[np.float64]:
        """Cost of the validation data at each validation, of shape (n,)."""
        return np.array([cost for _, cost, _ in self._validations], np.float64)

    @property
    def validation_scores(self) -> NDArray[np.float64]:
        """Score (:meth:`Network.score`) of the validation data at each validation, (n,)."""
        return np.array([score for _, _, score in self._validations], np.float64)

    @property
    def parameters(self) -> dict[str, Array]:
        """Dictionary ``{"W1": ..., "b1": ..., ...}`` of views that share memory with ``theta``."""
        return self.network.unpack(self.theta)

    def _summary(self) -> dict[str, str]:
        facts = {
            "network": str(self.network),
            "optimizer": str(self.optimizer),
            "iterations": f"{self.iterations:,}",
        }
        if self.batch_size is not None:
            facts["batch size"] = f"{self.batch_size:,}"
        if len(self.costs):
            facts["costs"] = f"{self.costs[0]:.6g} -> {self.costs[-1]:.6g}"
        if self._data is not None:
            facts["final cost"] = f"{self.final_cost:.6g}"
        # Of the parameters in theta: those of the best iteration, if it was set back.
        last = self._validations[-1:]
        if self.best_iteration is not None:
            last = [each for each in self._validations if each[0] == self.best_iteration]
        for _, cost, score in last:
            named = f"accuracy {score:.1%}" if self.network.classifies else f"R2 {score:.4g}"
            facts["validation"] = f"cost {cost:.6g}, {named}"
        if self.best_iteration is not None:
            facts["best after"] = f"iteration {self.best_iteration:,}"
        if self.diverged_at is not None:
            facts["diverged at"] = f"iteration {self.diverged_at:,}"
        elif self.stopped_by not in ("", "iterations"):
            facts["stopped by"] = self.stopped_by
        facts["time"] = f"{self.seconds:.3g} s"
        return facts


class Stack(_Summarized, Sequence[Run]):
    """The results of training k networks in one call. Returned by :func:`fastinit.train`.

    A stack is a sequence: ``stack[i]`` is the :class:`Run` of network ``i``.

    Parameters
    ----------
    runs : sequence of Run
        One run for each network.
    theta : ndarray of shape (k, n_parameters)
        The parameters of all networks.

    Attributes
    ----------
    theta : ndarray of shape (k, n_parameters), the network's dtype
        The array that was passed to :func:`fastinit.train`, updated in place.

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> net = fi.Network([2, 10, 5, 1])
    >>> theta = np.stack([net.initialize("he_normal", seed=seed) for seed in range(3)])
    >>> stack = fi.train(net, theta, X, Y, learning_rate=[0.01, 0.1, 1.0], iterations=50)
    >>> stack.costs.shape, stack[2].optimizer.learning_rate
    ((3, 50), 1.0)
    """

    def __init__(self, runs: Sequence[Run], theta: Array) -> None:
        self._runs = list(runs)
        self.theta = theta

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> list[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | list[Run]:
        return self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def costs(self) -> NDArray[np.float64]:
        """Training costs as a new array of shape (k, n), NaN after a network has stopped."""
        costs = np.full((len(self), max((len(run.costs) for run in self), default=0)), np.nan)
        for row, run in zip(costs, self, strict=True):
            row[: len(run.costs)] = run.costs
        return costs

    @property
    def final_costs(self) -> NDArray[np.float64]:
        """The ``final_cost`` of each network, as a new array of shape (k,)."""
        costs = np.full(len(self), np.nan)
        finite = [k for k, run in enumerate(self) if run.diverged_at is None]
        data = self[0]._data if len(self) else None
        if data is not None and finite:
            costs[finite] = self[0].network._score(self.theta[finite], *data, usable_cores())[0]
        return costs

    @property
    def iterations(self) -> list[int]:
        """Number of completed iterations of each network."""
        return [run.iterations for run in self]

    @property
    def diverged_at(self) -> list[int | None]:
        """The ``diverged_at`` of each network: an iteration, or None."""
        return [run.diverged_at for run in self]

    @property
    def stopped_by(self) -> list[str]:
        """The ``stopped_by`` of each network."""
        return [run.stopped_by for run in self]

    @property
    def seconds(self) -> float:
        """Wall-clock time of the training in seconds."""
        return max((run.seconds for run in self), default=0.0)

    def _summary(self) -> dict[str, str]:
        diverged = sum(run.diverged_at is not None for run in self)
        final = self.final_costs
        final = final[~np.isnan(final)]
        facts = {"networks": f"{len(self):,}"}
        if len(self):
            first = self[0].optimizer
            same = all(run.optimizer == first for run in self)
            text = str(first) if same else f"{type(first).__name__}, other settings in each network"
            facts |= {"network": str(self[0].network), "optimizer": text}
        facts["iterations"] = f"{max((run.iterations for run in self), default=0):,}"
        if final.size:
            facts["final costs"] = f"{final.min():.6g} to {final.max():.6g}"
        facts["diverged"] = f"{diverged:,}"
        reasons = Counter(self.stopped_by)
        other = [f"{n:,} by {name}" for name, n in reasons.items() if name not in _EXPECTED]
        if other:
            facts["stopped"] = ", ".join(other)
        facts["time"] = f"{self.seconds:.3g} s"
        return facts
