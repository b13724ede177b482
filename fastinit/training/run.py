"""Run and Stack: what train() returns."""

import html
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastinit.training.network import Array, Network
from fastinit.training.optimizers import Optimizer


class _Printed(ABC):
    """Prints its facts in a terminal and in a notebook."""

    @abstractmethod
    def _facts(self) -> dict[str, str]:
        """Return what there is to say, by name."""

    def __repr__(self) -> str:
        lines = [f"  {name:<12} {fact}" for name, fact in self._facts().items()]
        return "\n".join([type(self).__name__, *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(fact)}</td></tr>'
            for name, fact in self._facts().items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"


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
        The cost of every ``cost_every``-th iteration's examples before its update, without
        penalties. After a divergence NaN follows, up to the number of iterations asked for, but at
        most 2**20 of them.
    diverged_at : int or None
        The first iteration whose update would have left the finite numbers. It was not made:
        ``theta`` keeps its last finite value.
    cost_every : int
        Entry ``i`` of ``costs`` belongs to iteration ``i * cost_every``.
    seconds : float
        Wall-clock time of the training; in a stack, of the whole stack.
    batch_size : int or None
        None for full batches.
    stopped_by : {"", "iterations", "callback", "patience", "divergence", "convergence"}
        Empty while the training is on; convergence is what L-BFGS says.
    validation_iterations : ndarray of shape (n,)
        After how many iterations the validation data was looked at.
    validation_costs, validation_accuracies : ndarray of shape (n,)
        What was found; accuracies are NaN unless the network classifies.
    best_iteration : int or None
        With ``patience``, after how many iterations the validation cost was lowest: at the end
        ``theta`` is what it was then.
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
    validation_accuracies: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    best_iteration: int | None = None
    cost_every: int = 1
    # What a resumed training goes on with.
    _iterations: int | None = None
    _state: Array = field(default_factory=lambda: np.empty((0, 0)))
    _shuffle_key: int | None = 0

    @property
    def iterations(self) -> int:
        """Whole iterations that were run."""
        if self._iterations is not None:
            return self._iterations
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
        if self.batch_size is not None:
            facts["batch size"] = f"{self.batch_size:,}"
        if len(self.costs):
            facts["cost"] = f"{self.costs[0]:.6g} -> {self.final_cost:.6g}"
        if len(self.validation_costs):
            accuracy = self.validation_accuracies[-1]
            share = "" if np.isnan(accuracy) else f", accuracy {accuracy:.1%}"
            facts["validation"] = f"cost {self.validation_costs[-1]:.6g}{share}"
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

    def __getitem__(self, index: Any) -> Any:
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
    def diverged_at(self) -> list[int | None]:
        """The iteration of divergence of each network, or None."""
        return [run.diverged_at for run in self]

    @property
    def seconds(self) -> float:
        """Wall-clock time of the training."""
        return max((run.seconds for run in self), default=0.0)

    def _facts(self) -> dict[str, str]:
        diverged = sum(run.diverged_at is not None for run in self)
        final = [run.final_cost for run in self if not np.isnan(run.final_cost)]
        facts = {"networks": f"{len(self):,}"}
        if len(self):
            facts |= {"network": str(self[0].network), "optimizer": str(self[0].optimizer)}
        facts["iterations"] = f"{max((run.iterations for run in self), default=0):,}"
        if final:
            facts["final costs"] = f"{min(final):.6g} to {max(final):.6g}"
        facts["diverged"] = f"{diverged:,}"
        facts["time"] = f"{self.seconds:.3g} s"
        return facts
