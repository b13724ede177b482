"""Run and Stack: what train() returns."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.kernels import usable_cores
from fastinit.markup import html_table
from fastinit.training.network import Array, Network
from fastinit.training.optimizers import Optimizer

# The order of the examples of each epoch: the key of their shuffling, None for that of X, or the
# caller's own, as an array or by the number of the epoch.
Order = int | NDArray[np.intp] | Callable[[int], ArrayLike] | None


class Data(NamedTuple):
    """Checked training data, as the kernels take them."""

    X: Array
    Y: Array
    sample_weight: Array | None


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: a KeyboardInterrupt that keeps what was done.

    Attributes
    ----------
    result : Run, Stack or Comparison
        As it was when it was interrupted. It can be continued: a run or a stack by
        ``train(resume=)``, a comparison by its store.
    """

    def __init__(self, result: Any, message: str) -> None:
        super().__init__(message)
        self.result = result


class _Printed(ABC):
    """Prints its facts in a terminal and in a notebook."""

    @abstractmethod
    def _facts(self) -> dict[str, str]:
        """Return what there is to say, by name."""

    def __repr__(self) -> str:
        lines = [f"  {name:<12} {fact}" for name, fact in self._facts().items()]
        return "\n".join([type(self).__name__, *lines])

    def _repr_html_(self) -> str:
        return html_table(list(self._facts().items()), caption=type(self).__name__)


@dataclass(eq=False, repr=False)
class Run(_Printed):
    """One training, as far as it has come.

    Attributes
    ----------
    network : Network
    theta : ndarray of shape (n_parameters,)
        The very array that was handed to :func:`train`, updated in place.
    optimizer : GradientDescent, Momentum, Adam, AdamW or LBFGS
    costs : ndarray of shape (ceil(iterations / cost_every),), float64
        The cost of every ``cost_every``-th iteration's examples before its update. After a
        divergence NaN follows, up to the number of iterations asked for, but at most 2**20 of them.
    diverged_at : int or None
        The first iteration whose update was not finite. It was not made: ``theta`` keeps its last
        finite value.
    cost_every : int
        Entry ``i`` of ``costs`` belongs to iteration ``i * cost_every``.
    seconds : float
        Wall-clock time of the training; in a stack, of the whole stack.
    batch_size : int or None
        None for full batches.
    stopped_by : str
        "iterations", "callback", "tol", "divergence", "interrupt"; of L-BFGS also "convergence",
        "max_fun" and "line_search", which found no lower cost. Empty during the training.
    validation_iterations : ndarray of shape (n,)
        The numbers of iterations after which the validation data were looked at.
    validation_costs, validation_scores : ndarray of shape (n,)
        Their cost and score (:meth:`Network.score`) then.
    best_iteration : int or None
        If the training monitored validation data, the number of iterations after which the value
        was best. At the end ``theta`` is set back to that iteration.
    """

    network: Network
    theta: Array
    optimizer: Optimizer
    costs: NDArray[np.float64]
    diverged_at: int | None = None
    seconds: float = 0.0
    batch_size: int | None = None
    stopped_by: str = ""
    validation_iterations: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    validation_costs: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    validation_scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    best_iteration: int | None = None
    cost_every: int = 1
    # What a resumed training goes on with.
    _iterations: int | None = None
    _state: Array = field(default_factory=lambda: np.empty((0, 0)))
    _state_start: int = 0  # the iteration at which the state was zero
    _order: Order = 0
    _data: Data | None = None

    @property
    def iterations(self) -> int:
        """Whole iterations that were run."""
        if self._iterations is not None:
            return self._iterations
        return len(self.costs) if self.diverged_at is None else self.diverged_at

    @property
    def final_cost(self) -> float:
        """The cost of ``theta`` on the training data, without penalties; NaN after a divergence."""
        if self.diverged_at is not None or self._data is None:
            return float("nan")
        return float(self.network.cost(self.theta, *self._data[:2], sample_weight=self._data[2]))

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
        if self.batch_size is not None:
            facts["batch size"] = f"{self.batch_size:,}"
        if len(self.costs):
            facts["cost"] = f"{self.costs[0]:.6g} -> {self.final_cost:.6g}"
        if len(self.validation_costs):
            score = self.validation_scores[-1]
            named = f"accuracy {score:.1%}" if self.network.classifies else f"R2 {score:.4g}"
            facts["validation"] = f"cost {self.validation_costs[-1]:.6g}, {named}"
        if self.best_iteration is not None:
            facts["best after"] = f"iteration {self.best_iteration:,}"
        if self.diverged_at is not None:
            facts["diverged at"] = f"iteration {self.diverged_at:,}"
        elif self.stopped_by not in ("", "iterations"):
            facts["stopped by"] = self.stopped_by
        facts["time"] = f"{self.seconds:.3g} s"
        return facts


class Stack(_Printed, Sequence[Run]):
    """The runs of many networks that were trained in one call; ``stack[i]`` is a :class:`Run`.

    Attributes
    ----------
    theta : ndarray of shape (k, n_parameters)
        The very array that was handed to :func:`train`, updated in place.

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
        """Costs of shape (k, n): NaN where a network had stopped. A new array."""
        costs = np.full((len(self), max((len(run.costs) for run in self), default=0)), np.nan)
        for row, run in zip(costs, self, strict=True):
            row[: len(run.costs)] = run.costs
        return costs

    @property
    def final_costs(self) -> NDArray[np.float64]:
        """The ``final_cost`` of each network, of shape (k,). A new array."""
        costs = np.full(len(self), np.nan)
        finite = [k for k, run in enumerate(self) if run.diverged_at is None]
        data = self[0]._data if len(self) else None
        if data is not None and finite:
            costs[finite] = self[0].network._score(self.theta[finite], *data, usable_cores())[0]
        return costs

    @property
    def diverged_at(self) -> list[int | None]:
        """The iteration of divergence of each network, or None."""
        return [run.diverged_at for run in self]

    @property
    def seconds(self) -> float:
        """Wall-clock time of the training."""
        return max((run.seconds for run in self), default=0.0)

    def _facts(self) -> dict[str, str]:
        diverged = sum(run.diverged_at is not None for run in self)
        final = self.final_costs
        final = final[~np.isnan(final)]
        facts = {"networks": f"{len(self):,}"}
        if len(self):
            facts |= {"network": str(self[0].network), "optimizer": str(self[0].optimizer)}
        facts["iterations"] = f"{max((run.iterations for run in self), default=0):,}"
        if final.size:
            facts["final costs"] = f"{final.min():.6g} to {final.max():.6g}"
        facts["diverged"] = f"{diverged:,}"
        facts["time"] = f"{self.seconds:.3g} s"
        return facts
