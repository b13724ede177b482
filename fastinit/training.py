"""train(): the thin loop around one kernel; Run and Stack, what it returns."""

import html
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.filling import Seed, key_of
from fastinit.kernels import dense, random, usable_cores
from fastinit.network import Array, Network
from fastinit.optimizers import LBFGS, OPTIMIZERS, GradientDescent, Optimizer, checked_rate

# A slice is what the kernel does between two returns to Python. Long enough that the way back, some
# microseconds, does not count; short enough for a smooth progress bar.
SLICE_SECONDS = 0.02
# In a stack every network runs at least so long: the last of a slice keeps other threads waiting.
STACK_SECONDS = 0.001
# Examples whose order is drawn at once, unless a single epoch has more.
MOST_ORDERED = 1 << 20
# The generator's streams from here on are for shuffling, one an epoch; those below are for weights.
SHUFFLES = 1 << 63


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
    costs : ndarray of shape (iterations,), float64
        The cost of each iteration's examples before its update, without penalties. NaN from the
        iteration of divergence on.
    diverged_at : int or None
        The first iteration whose update would have left the finite numbers. It was not made:
        ``theta`` keeps its last finite value.
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
    # What a resumed training goes on with.
    _state: Array = field(default_factory=lambda: np.empty((0, 0)))
    _shuffle_key: int = 0
    _best_theta: Array | None = None

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
    >>> X, Y, _, _ = fi.datasets.load_dataset()
    >>> net = fi.Network([2, 10, 5, 1])
    >>> theta = np.stack([net.initialize("he_normal", seed=seed) for seed in range(3)])
    >>> stack = fi.train(net, theta, X, Y, learning_rate=[0.01, 0.1, 1.0], iterations=50)
    >>> stack.costs.shape, stack[2].optimizer.learning_rate
    ((3, 50), 1.0)
    """

    def __init__(self, runs: Sequence[Run], theta: Array, costs: NDArray[np.float64]) -> None:
        self._runs = list(runs)
        self._costs = costs
        self.theta = theta

    def __getitem__(self, index: Any) -> Any:
        return self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def costs(self) -> NDArray[np.float64]:
        """Costs of shape (k, iterations): NaN where a network had stopped."""
        return self._costs[:, : max((len(run.costs) for run in self), default=0)]

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
        facts["iterations"] = f"{self.costs.shape[1]:,}"
        if final:
            facts["final costs"] = f"{min(final):.6g} to {max(final):.6g}"
        facts["diverged"] = f"{diverged:,}"
        facts["time"] = f"{self.seconds:.3g} s"
        return facts


def train(
    network: Network,
    theta: Array,
    X: ArrayLike,
    Y: ArrayLike,
    *,
    learning_rate: Any = None,
    iterations: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    seed: Seed = 0,
    weights: ArrayLike | None = None,
    class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    validate_every: int | None = None,
    patience: int | None = None,
    min_delta: float = 0.0,
    threads: int | None = None,
    callback: Callable[[Any], Any] | None = None,
    progress: bool = False,
    resume: Run | Stack | None = None,
) -> Any:
    """Train a network, or a stack of them, updating ``theta`` in place.

    Parameters
    ----------
    network : Network
    theta : ndarray of shape (n_parameters,) or (k, n_parameters), the network's dtype
        The start, and in the end the result: pass ``theta.copy()`` to keep the start. Two
        dimensions are a stack: k networks, spread over the threads, each to the same bits as if it
        were trained alone.
    X : array_like of shape (n_features, n_examples)
        Other dtypes, float16 among them, are converted to the network's.
    Y : array_like
        Labels, as the output wants them: see :class:`fastinit.Network`.
    learning_rate : float, callable or sequence, default 0.01
        Short for ``optimizer=GradientDescent(learning_rate)``; for a stack perhaps one each.
    iterations : int, default 1000
        Updates; 0 changes nothing.
    epochs : int, optional
        Instead of ``iterations``: how often to go through all examples.
    batch_size : int, optional
        Examples per update; all by default. They are shuffled anew for every epoch; what is left
        at its end is one shorter batch.
    optimizer : optional
        One of :mod:`fastinit.optimizers`; for a stack perhaps one each, of one kind.
    seed : int, SeedSequence, Generator or None, default 0
        Of the shuffling. None draws fresh entropy.
    weights : array_like of shape (n_examples,), optional
        How much each example counts; a batch's cost is its weighted mean.
    class_weight : dict or "balanced", optional
        Weight of each class, times ``weights``; classes that are not named weigh 1. ``balanced``
        is ``n_examples / (n_classes * count)``, as in scikit-learn.
    validation : (X, Y), optional
        Other examples, whose cost and accuracy are recorded.
    validate_every : int, optional
        After so many iterations each; an epoch by default.
    patience : int, optional
        Stop when so many looks at the validation data in a row have not improved its cost by more
        than ``min_delta``. At the end ``theta`` is that of the lowest validation cost.
    min_delta : float, default 0
    threads : int, optional
        At most so many threads; all usable cores by default. Small batches take one. The bits do
        not depend on it. The widest networks' products run on NumPy's BLAS and its own threads.
    callback : callable, optional
        Called as ``callback(run)`` after every 20 ms or so of training, and at the end, with the
        run, or the stack, as far as it has come; the training stops when it returns something true.
    progress : bool, default False
        Show a progress bar; needs rich.
    resume : Run or Stack, optional
        Go on with a run that ended by iterations or callback, bit for bit: with its optimiser's
        state, its place in the shuffled epoch, and its records, to which the new ones are added.
        Optimiser, batch size and seed are the run's; an optimiser of the same kind may be given.
        ``iterations`` and ``epochs`` count on top of what was run.

    Returns
    -------
    Run or Stack
        With ``run.theta is theta``.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit, before anything is written; from a schedule, with ``theta``
        as the last whole iteration left it.
    KeyboardInterrupt
        At Ctrl-C, with ``theta`` as the last whole iteration left it.

    Notes
    -----
    The same bits on one machine and CPU level, every time and for every number of threads.

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

    Mini-batches, another optimiser, and an eye on other examples:

    >>> theta = net.initialize("he_normal", seed=0)
    >>> run = fi.train(
    ...     net, theta, X, Y, optimizer=fi.Adam(0.01), batch_size=50, epochs=200,
    ...     validation=(X_test, Y_test), patience=20,
    ... )
    >>> bool(run.validation_accuracies.max() > 0.9)
    True
    """
    if not isinstance(network, Network):
        raise TypeError(f"network: expected a Network; got {type(network).__name__}")
    single = np.ndim(theta) != 2
    thetas = _checked_thetas(network, theta)
    X = network.check_X(X)
    Y = network.check_Y(Y, X)
    m = X.shape[1]
    w = _all_weights(network, X, Y, weights, class_weight)
    for name, array in (("X", X), ("Y", Y), ("weights", w)):
        if array is not None and np.may_share_memory(thetas, array):
            raise ValueError(f"theta: expected memory of its own; got an overlap with {name}")
    checked = None
    if validation is not None:
        checked = _checked_validation(network, validation)
    before = _resumed(resume, network, thetas)
    if before:
        key, batch_size = before[0]._shuffle_key, before[0].batch_size
    else:
        key = key_of(seed)
        if batch_size is not None:
            batch_size = _count("batch_size", batch_size, 1)
            if batch_size > m:
                raise ValueError(f"batch_size: expected at most {m} to match X {X.shape}; "
                                 f"got {batch_size}")  # fmt: skip
            batch_size = batch_size if batch_size < m else None
    optimizers = _optimizers(optimizer, learning_rate, len(thetas), single, before)
    lbfgs = isinstance(optimizers[0], LBFGS)
    if lbfgs and (batch_size is not None or before):
        raise ValueError(
            "optimizer: expected another than LBFGS with batch_size or resume: it takes full "
            "batches, and its line search keeps no state"
        )
    batches = 1 if batch_size is None else -(-m // batch_size)
    if epochs is not None:
        if iterations is not None:
            raise TypeError("epochs: expected either epochs or iterations; got both")
        iterations = _count("epochs", epochs) * batches
    iterations = 1000 if iterations is None else _count("iterations", iterations)
    every = batches if validate_every is None else _count("validate_every", validate_every, 1)
    if patience is not None:
        patience = _count("patience", patience, 1)
        if checked is None:
            raise ValueError("patience: expected validation data to watch; got none")
        if before:
            raise ValueError(f"patience: expected none with resume; got {patience}")
    min_delta = checked_rate(min_delta, "min_delta")
    threads = usable_cores() if threads is None else _count("threads", threads, 1)

    start = max((run.iterations for run in before), default=0)
    costs = np.full((len(thetas), start + iterations), np.nan)
    runs = []
    for k, each in enumerate(optimizers):
        old = before[k] if before else None
        if old is None:
            run = Run(network, theta if single else theta[k], each, costs[k, :0])
            run.batch_size, run._shuffle_key = batch_size, key
            run._state = np.zeros((each.slots, network.n_parameters), network.dtype)
        else:
            # A run that diverged has all its costs already, NaN to the end.
            costs[k, :start] = old.costs[:start]
            known = costs[k, :start] if old.diverged_at is None else costs[k]
            run = replace(old, theta=theta if single else theta[k], optimizer=each,
                          costs=known, _state=old._state.copy())  # fmt: skip
        if run.stopped_by in ("iterations", "callback"):
            run.stopped_by = ""
        runs.append(run)
    result = runs[0] if single else Stack(runs, theta, costs)
    data = _Data(network, X, Y, w, checked, batch_size, batches, key)
    watch = _Watch(every, patience, min_delta)
    with _bar(progress, iterations) as show:
        if lbfgs:
            for k, run in enumerate(runs):
                _minimize(run, thetas[k], data, costs[k], threads, watch, result, callback, show)
        else:
            _descend(runs, thetas, data, costs, start, threads, watch, result, callback, show)
    for run, values in zip(runs, thetas, strict=True):
        run.stopped_by = run.stopped_by or "iterations"
        if run._best_theta is not None:
            values[...] = run._best_theta
    return result


# --- the loop -------------------------------------------------------------------------------------


@dataclass
class _Data:
    """What a training looks at, checked."""

    network: Network
    X: Array
    Y: Array
    weights: Array | None
    validation: tuple[Array, Array] | None
    batch_size: int | None
    batches: int  # per epoch
    key: int

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            # Batches are gathered an example at a time: let each lie in one piece.
            self.X = np.asfortranarray(self.X)

    def orders(self, start: int, stop: int) -> NDArray[np.intp] | None:
        """Return the order of the examples in the epochs that these iterations touch."""
        if self.batch_size is None:
            return None
        epochs = range(start // self.batches, -(-stop // self.batches))
        orders = np.empty((len(epochs), self.X.shape[1]), np.intp)
        for order, epoch in zip(orders, epochs, strict=True):
            random.permutation(order, self.key, SHUFFLES + epoch)
        return orders


@dataclass
class _Watch:
    """When to look at the validation data, and when to stop for it."""

    every: int
    patience: int | None
    min_delta: float

    def next_stop(self, done: int) -> int:
        return (done // self.every + 1) * self.every

    def look(self, run: Run, theta: Array, validation: tuple[Array, Array]) -> None:
        """Record the validation cost and accuracy; stop a run that no longer improves."""
        cost, accuracy = run.network.score(theta, *validation)
        run.validation_iterations = np.append(run.validation_iterations, run.iterations)
        run.validation_costs = np.append(run.validation_costs, cost)
        run.validation_accuracies = np.append(run.validation_accuracies, accuracy)
        if self.patience is None:
            return
        at = run.validation_iterations
        seen = at == run.best_iteration
        if not seen.any() or cost < run.validation_costs[seen][0] - self.min_delta:
            run.best_iteration, run._best_theta = run.iterations, theta.copy()
        elif len(at) - 1 - int(np.flatnonzero(seen)[0]) >= self.patience:
            run.stopped_by = "patience"


def _descend(
    runs: list[Run],
    thetas: Array,
    data: _Data,
    costs: NDArray[np.float64],
    done: int,
    threads: int,
    watch: _Watch,
    result: Run | Stack,
    callback: Callable[[Any], Any] | None,
    show: Callable[[int], None],
) -> None:
    """Run all that are not stopped, in slices, up to the width of ``costs``."""
    start, spent, total = perf_counter(), max(run.seconds for run in runs), costs.shape[1]
    size = 1
    active = [k for k, run in enumerate(runs) if not run.stopped_by]
    scratch: dict[Any, Any] = {}
    while done < total and active:
        stop = min(done + size, total)
        if data.validation is not None:
            stop = min(stop, watch.next_stop(done))
        if data.batch_size is not None:
            fits = max(MOST_ORDERED // data.X.shape[1], 1) * data.batches
            stop = min(stop, done // data.batches * data.batches + fits)
        before = perf_counter()
        _advance(runs, thetas, data, costs, done, stop, active, threads, scratch)
        now = perf_counter()
        for run in runs:
            run.seconds = spent + now - start
        # Towards the time a slice should take, but never in one leap: the first are short.
        pace = max((now - before) / (stop - done), 1e-9)
        slice_seconds = max(SLICE_SECONDS, STACK_SECONDS * len(active) / min(threads, len(active)))
        size = max(1, min(int(slice_seconds / pace), 64 * size))
        show(stop - done)
        done = stop
        if data.validation is not None and done % watch.every == 0:
            for k in active:
                if not runs[k].stopped_by:
                    watch.look(runs[k], thetas[k], data.validation)
        if callback is not None and callback(result):
            for k in active:
                runs[k].stopped_by = runs[k].stopped_by or "callback"
        active = [k for k in active if not runs[k].stopped_by]


def _advance(
    runs: list[Run],
    thetas: Array,
    data: _Data,
    costs: NDArray[np.float64],
    start: int,
    stop: int,
    active: list[int],
    threads: int,
    scratch: dict[Any, Any],
) -> None:
    """Run some iterations of the networks that are not stopped."""
    optimizers = [runs[k].optimizer for k in active]
    rates = np.empty((len(active), stop - start))
    for row, optimizer in zip(rates, optimizers, strict=True):
        row[:] = _rates(optimizer, start, stop)
    shared = (
        start,
        data.X,
        data.Y,
        data.weights,
        data.orders(start, stop),
        data.batch_size or data.X.shape[1],
        start % data.batches,
    )
    layout, piece = data.network.layout, costs[:, start:stop]
    rules = [each.rule for each in optimizers if not isinstance(each, LBFGS)]
    states = [runs[k]._state for k in active]
    if len(active) == 1:
        k = active[0]
        own = rules[0], thetas[k], states[0]
        whole = [dense.descend(layout, *own, *shared, rates[0], piece[k], threads, scratch)]
    else:
        networks = np.array(active, np.intp)
        whole = dense.descend_stack(
            layout, rules, thetas, states, *shared, rates, piece, networks, threads, scratch
        )
    for k, n in zip(active, whole, strict=True):
        run = runs[k]
        run.costs = costs[k, : start + n]
        if n < stop - start:
            run.costs, run.diverged_at, run.stopped_by = costs[k], start + n, "divergence"


def _rates(optimizer: Optimizer, start: int, stop: int) -> float | list[float]:
    """Return the learning rate of these iterations, or that of each."""
    assert not isinstance(optimizer, LBFGS)
    rate = optimizer.learning_rate
    if not callable(rate):
        return float(rate)
    return [checked_rate(rate(i), f"learning_rate at iteration {i}") for i in range(start, stop)]


def _minimize(
    run: Run,
    theta: Array,
    data: _Data,
    costs: NDArray[np.float64],
    threads: int,
    watch: _Watch,
    result: Run | Stack,
    callback: Callable[[Any], Any] | None,
    show: Callable[[int], None],
) -> None:
    """Run SciPy's L-BFGS, which is one kernel call an evaluation."""
    from scipy.optimize import minimize

    network, optimizer = run.network, run.optimizer
    assert isinstance(optimizer, LBFGS)
    start = perf_counter()
    kernel = np.concatenate([
        np.arange(n_out * (n_in + 1)) < n_out * n_in
        for n_in, n_out in zip(network.sizes, network.sizes[1:], strict=False)
    ])  # fmt: skip
    gradient = np.empty_like(theta)

    def objective(x: Array) -> tuple[float, Array]:
        cost = dense.loss_and_gradient(
            network.layout, x.astype(network.dtype), data.X, data.Y, data.weights, gradient, threads
        )
        penalty = optimizer.l2 * np.where(kernel, x, 0)
        return cost + penalty @ x / 2, gradient + penalty

    def without_penalty(x: Array) -> float:
        return float(objective(x)[0] - optimizer.l2 * np.square(x[kernel]).sum() / 2)

    def after(intermediate_result: Any) -> None:
        # As everywhere, costs[i] is the cost before update i.
        done = run.iterations
        x = intermediate_result.x
        if not np.isfinite(x).all() or not np.isfinite(intermediate_result.fun):
            run.costs, run.diverged_at, run.stopped_by = costs, done, "divergence"
            raise StopIteration
        costs[done] = previous[0]
        previous[0] = float(intermediate_result.fun - optimizer.l2 * np.square(x[kernel]).sum() / 2)
        theta[...] = x
        run.costs, run.seconds = costs[: done + 1], perf_counter() - start
        show(1)
        if data.validation is not None and run.iterations % watch.every == 0:
            watch.look(run, theta, data.validation)
        if callback is not None and callback(result):
            run.stopped_by = run.stopped_by or "callback"
        if run.stopped_by:
            raise StopIteration

    if not len(costs):
        return
    previous = [without_penalty(theta.astype(np.float64))]
    minimize(
        objective,
        theta.astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        callback=after,
        options={
            "maxiter": len(costs),
            "maxfun": 100 * len(costs) + 100,
            "maxcor": optimizer.history,
            "gtol": optimizer.tolerance,
            "ftol": 0.0,
        },
    )
    run.seconds = perf_counter() - start
    if not run.stopped_by and run.iterations < len(costs):
        run.stopped_by = "convergence"


@contextmanager
def _bar(wanted: bool, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that moves a progress bar on by some iterations."""
    if not wanted:
        yield lambda advance: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("training", total=total)
        yield lambda advance: progress.advance(task, advance)


# --- checks ---------------------------------------------------------------------------------------


def _checked_thetas(network: Network, theta: Array) -> Array:
    """Return theta as the rows of a matrix, the same memory."""
    thetas = network.check_stack(theta, written=True)
    if not np.isfinite(thetas).all():
        raise ValueError("theta: expected finite numbers; got NaN or infinity")
    return thetas


def _checked_validation(network: Network, validation: Any) -> tuple[Array, Array]:
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise TypeError(f"validation: expected a pair (X, Y); got {type(validation).__name__}")
    X = network.check_X(validation[0], name="X of validation")
    return X, network.check_Y(validation[1], X, name="Y of validation")


def _all_weights(
    network: Network, X: Array, Y: Array, weights: ArrayLike | None, class_weight: Any
) -> Array | None:
    """Return the weights of the examples, by example and by class; None where all are 1."""
    w = None if weights is None else network.check_weights(weights, X)
    if class_weight is None:
        return w
    n_classes = 2 if network.output == "sigmoid" else network.sizes[-1]
    if not network.classifies or (network.output == "sigmoid" and network.sizes[-1] > 1):
        raise ValueError(
            "class_weight: expected a network with one class for each example; got "
            f"{network.sizes[-1]} outputs of {network.output}"
        )
    classes = (Y[0] if network.output == "sigmoid" else Y.argmax(axis=0)).astype(np.intp)
    factors = np.ones(n_classes)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight: expected a dict or 'balanced'; got {class_weight!r}")
        counts = np.bincount(classes, minlength=n_classes)
        factors = len(classes) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    elif not isinstance(class_weight, Mapping):
        raise TypeError(
            f"class_weight: expected a dict or 'balanced'; got {type(class_weight).__name__}"
        )
    else:
        for label, factor in class_weight.items():
            if label not in range(n_classes):
                raise ValueError(
                    f"class_weight: expected classes 0 to {n_classes - 1}; got {label!r}"
                )
            factors[int(label)] = checked_rate(factor, f"class_weight[{label}]")
    return network.check_weights(factors[classes] * (1 if w is None else w), X)


def _optimizers(
    optimizer: Any, learning_rate: Any, k: int, single: bool, before: list[Run]
) -> list[Optimizer]:
    """Return one optimiser for each network."""
    if optimizer is not None and learning_rate is not None:
        raise TypeError("learning_rate: expected it in the optimizer; got both")
    if optimizer is None and learning_rate is None:
        return [run.optimizer for run in before] if before else [GradientDescent()] * k
    found: list[Optimizer]
    if optimizer is None:
        if single or np.ndim(learning_rate) == 0:
            found = [GradientDescent(learning_rate)] * k
        else:
            found = [GradientDescent(rate) for rate in learning_rate]
    elif isinstance(optimizer, OPTIMIZERS):
        found = [optimizer] * k
    elif single or isinstance(optimizer, str) or not isinstance(optimizer, Sequence):
        names = ", ".join(kind.__name__ for kind in OPTIMIZERS)
        raise TypeError(f"optimizer: expected one of {names}; got {type(optimizer).__name__}")
    else:
        found = list(optimizer)
        kinds = {type(each) for each in found}
        if len(kinds) > 1 or not kinds <= set(OPTIMIZERS):
            raise TypeError("optimizer: expected optimisers of one kind")
    if len(found) != k:
        name = "learning_rate" if optimizer is None else "optimizer"
        raise ValueError(f"{name}: expected one for each of {k} networks; got {len(found)}")
    for run, each in zip(before, found, strict=False):
        if type(run.optimizer) is not type(each):
            raise ValueError(
                f"optimizer: expected {type(run.optimizer).__name__}, as in the run to resume; "
                f"got {type(each).__name__}"
            )
    return found


def _resumed(resume: Run | Stack | None, network: Network, thetas: Array) -> list[Run]:
    """Return the runs to go on with; none for a fresh start."""
    if resume is None:
        return []
    if not isinstance(resume, (Run, Stack)):
        raise TypeError(f"resume: expected a Run or a Stack; got {type(resume).__name__}")
    runs = [resume] if isinstance(resume, Run) else list(resume)
    if len(runs) != len(thetas):
        raise ValueError(
            f"resume: expected a run of {len(thetas)} networks to match theta; got {len(runs)}"
        )
    for run in runs:
        if run.network != network:
            raise ValueError(f"resume: expected a run of {network}; got one of {run.network}")
        if isinstance(resume, Run) and run.stopped_by not in ("", "iterations", "callback"):
            raise ValueError(
                f"resume: expected a run that iterations or callback ended; got {run.stopped_by}"
            )
        if run.best_iteration is not None:
            raise ValueError("resume: expected a run without patience; got one that went back")
    return runs


def _count(name: str, value: Any, least: int = 0) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer; got bool")
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer; got {type(value).__name__}") from None
    if not least <= count < 2**48:
        raise ValueError(f"{name}: expected from {least} to 2**48 - 1; got {count}")
    return count
