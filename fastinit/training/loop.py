"""The function :func:`train`: a loop over calls of one kernel."""

# With this import, help() and editors show ArrayLike by name instead of its expansion.
from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from math import inf
from time import perf_counter
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.initializers.target import Seed, key_of
from fastinit.kernels import dense, random, usable_cores
from fastinit.training.blas import single_blas_thread
from fastinit.training.network import Array, Matrix, Network, Vector
from fastinit.training.optimizers import (
    LBFGS,
    OPTIMIZERS,
    GradientDescent,
    LearningRate,
    Optimizer,
    checked_rate,
    learning_rates,
)
from fastinit.training.progress import Display
from fastinit.training.run import Data, Interrupted, Order, Run, Stack
from fastinit.validation import MOST_ITERATIONS, check_bool, check_integer, check_name, is_sequence

# A training is divided into slices; each is one call of the kernel. A slice is long enough to make
# the overhead of a call, some microseconds, negligible, and short enough for a smooth progress bar.
SLICE_SECONDS = 0.02
# Lower bound on the time per network in a slice of a stack: threads idle at the end of a slice
# until the last network is done.
STACK_SECONDS = 0.001
# Multiply-adds per second, for the estimate of the first slice: the speed of a slow core.
FIRST_SPEED = 4e9
# Number of costs that are allocated in advance: 64 MB.
PREALLOCATED_COSTS = 1 << 23
# Largest number of costs in a slice, which are all allocated even if few of them are recorded.
MOST_COSTS = 1 << 20
# Largest number of NaN recorded after a divergence.
MOST_NAN = 1 << 20
# Largest number of examples whose order is drawn for one slice, unless a single epoch has more.
MOST_ORDERED = 1 << 20
# First of the random streams that shuffle, one for each epoch. Lower streams draw weights.
SHUFFLES = 1 << 63
# scikit-learn's defaults.
TOL, N_ITER_NO_CHANGE = 1e-4, 10
# Created once: a short training would spend a twentieth of its time on it.
DEFAULT = GradientDescent()

Callback = Callable[[Any], Any]
AnyOrder = bool | ArrayLike | Callable[[int], ArrayLike]


class Keywords(TypedDict, total=False):
    """The keywords of :func:`train`, for type checkers."""

    learning_rate: LearningRate | Sequence[LearningRate] | None
    iterations: int | None
    epochs: int | None
    batch_size: int | None
    optimizer: Optimizer | Sequence[Optimizer] | None
    shuffle: AnyOrder
    seed: Seed
    sample_weight: ArrayLike | None
    class_weight: Mapping[int, float] | Literal["balanced"] | None
    validation: tuple[ArrayLike, ArrayLike] | None
    validate_every: int | None
    monitor: Literal["cost", "score"]
    tol: float | None
    n_iter_no_change: int | None
    cost_every: int | None
    penalty_in_cost: bool
    threads: int | None
    callback: Callback | None
    callback_every: int | Literal["epoch"] | None
    progress: bool
    resume: Run | Stack | None


@overload
def train(
    network: Network, theta: Vector, X: ArrayLike, Y: ArrayLike, **keywords: Unpack[Keywords]
) -> Run: ...
@overload
def train(
    network: Network, theta: Matrix, X: ArrayLike, Y: ArrayLike, **keywords: Unpack[Keywords]
) -> Stack: ...
def train(
    network: Network,
    theta: Array,
    X: ArrayLike,
    Y: ArrayLike,
    *,
    learning_rate: LearningRate | Sequence[LearningRate] | None = None,
    iterations: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    shuffle: AnyOrder = True,
    seed: Seed = 0,
    sample_weight: ArrayLike | None = None,
    class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    validate_every: int | None = None,
    monitor: Literal["cost", "score"] = "cost",
    tol: float | None = None,
    n_iter_no_change: int | None = None,
    cost_every: int | None = None,
    penalty_in_cost: bool = False,
    threads: int | None = None,
    callback: Callback | None = None,
    callback_every: int | Literal["epoch"] | None = "epoch",
    progress: bool = False,
    resume: Run | Stack | None = None,
) -> Run | Stack:
    """Train a network, or a stack of networks. ``theta`` is updated in place.

    Parameters
    ----------
    network : Network
        The network to train.
    theta : ndarray of shape (n_parameters,) or (k, n_parameters), the network's dtype
        The initial parameters, which are overwritten by the result; pass ``theta.copy()`` to keep
        them. The array must be contiguous, aligned and writable. A two-dimensional array is a stack
        of k networks, which are trained in parallel; each gives the same bits as when it is trained
        alone.
    X : array_like of shape (n_features, n_examples)
        Features; converted to the network's dtype.
    Y : array_like
        Labels, in the format of the network's output: see :class:`fastinit.Network`.
    learning_rate : float, callable or sequence, default 0.01
        Shorthand for ``optimizer=GradientDescent(learning_rate)``. A sequence has one entry per
        layer: a learning rate, or a pair for the weights and the biases. For a stack, a sequence
        has one entry per network, which may itself be such a sequence.
    iterations : int, default 1000
        Number of updates, >= 0.
    epochs : int, optional
        Number of passes over the examples, >= 0. Pass either `epochs` or `iterations`.
    batch_size : int, optional
        Number of examples per update, clipped to `n_examples`. By default, every update uses all
        examples. The last batch of an epoch may be smaller.
    optimizer : Optimizer or sequence of Optimizer, optional
        One of :mod:`fastinit.optimizers`. For a stack, a sequence has one optimiser per network,
        all of the same class.
    shuffle : bool, array_like of int or callable, default True
        Whether to shuffle the examples before each epoch of mini-batches. An array of shape
        (n_examples,) gives the order of the examples in every epoch. A callable takes the epoch,
        counted from 0, and returns such an array; it is called once per epoch, perhaps earlier than
        the epoch begins. Indices may repeat.
    seed : int, SeedSequence, Generator, RandomState or None, default 0
        Seed of the shuffle. None draws fresh entropy.
    sample_weight : array_like of shape (n_examples,), optional
        Weights of the examples; the cost of a batch is the weighted mean. Finite, >= 0, not all
        zero.
    class_weight : dict or "balanced", optional
        Weights of the classes, which multiply `sample_weight`. Classes that are not in the
        dictionary have weight 1. "balanced" means ``n_examples / (n_classes * count)`` for each
        class, as in scikit-learn.
    validation : tuple (X, Y), optional
        Validation data, whose cost and score are recorded.
    validate_every : int, optional
        Number of iterations between two validations. By default, one epoch.
    monitor : {"cost", "score"}, default "cost"
        The value that early stopping monitors: the cost of the validation data, or their score (see
        :meth:`Network.score`). Without validation data, it is the training cost of each epoch: the
        mean of the costs of its batches, weighted by their numbers of examples.
    tol : float, optional
        Smallest change that counts as an improvement. Passing `tol` or `n_iter_no_change` enables
        early stopping; the other one then defaults to 1e-4 or 10, as in scikit-learn.
    n_iter_no_change : int, optional
        Stop after this many consecutive validations, or epochs without validation data, in which
        the monitored value did not improve by more than `tol` on the best one. With validation
        data, `theta` is set to the parameters with the best value at the end.
    cost_every : int, default 1
        Record the cost of every `cost_every`-th iteration. Larger values save memory in long
        trainings of many networks.
    penalty_in_cost : bool, default False
        Whether the recorded training costs include the penalty of the optimiser,
        ``l2 / 2 * sum(W ** 2)``, as scikit-learn's ``loss_curve_`` does.
    threads : int, optional
        Largest number of threads; all usable cores by default. Small batches use one thread. The
        results do not depend on it.
    callback : callable, optional
        Called with the :class:`Run` or :class:`Stack` during the training and after its last
        iteration, before `theta` is set back to the best parameters. If it returns a true value,
        the training of all networks stops.
        It must not change `X`, `Y` or `sample_weight`, of which there may be copies.
    callback_every : int, "epoch" or None, default "epoch"
        Number of iterations between two calls of `callback`. None calls it about every 20 ms, as a
        display needs: short trainings are faster, but when it is called depends on the machine.
    progress : bool, default False
        Whether to show a progress bar, in a terminal or a notebook. Requires rich.
    resume : Run or Stack, optional
        Continue an earlier training. The result is the same, bit for bit, as that of a single
        longer training: the state of the optimiser, the position in the epoch and the records
        continue. The order of the examples and the batch size are those of the run; the optimiser
        may have other settings, but must be of the same class. `theta` must be as the run left it.
        `iterations` and `epochs` are added to those already completed, and the monitored values are
        kept, except after a stop by `tol`. A `shuffle` callable is called again for the current
        epoch. After a divergence, the training continues from the last finite parameters with a new
        optimiser state; pass a smaller learning rate. In a stack, networks that diverged or were
        stopped by `tol` are not trained further. A run whose `theta` was set back to its best
        parameters cannot be resumed. :class:`LBFGS` keeps no state and restarts from `theta`.

    Returns
    -------
    Run or Stack
        The result, with ``run.theta is theta``. A stack if `theta` has two dimensions.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid; nothing is written then. If a schedule or a `shuffle` callable
        returns an invalid value during the training, `theta` contains the result of the last
        completed iteration.
    Interrupted
        On Ctrl-C. A KeyboardInterrupt whose attribute ``result`` is the Run or Stack after the last
        completed iteration, which can be resumed.

    Notes
    -----
    On one machine and CPU level, results are reproducible bit for bit, for any number of threads.

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, X_test, Y_test = fi.lesson.load_dataset()
    >>> net = fi.Network([2, 10, 5, 1])
    >>> theta = net.initialize("lesson.he", seed=3)
    >>> run = fi.train(net, theta, X, Y, learning_rate=0.01, iterations=15_000)
    >>> run.costs[[0, 1000, 14000]].round(6)
    array([0.883054, 0.687983, 0.073579])
    >>> net.accuracy(run.theta, X_test, Y_test)
    0.96

    Mini-batches, Adam, and early stopping on validation data:

    >>> theta = net.initialize("he_normal", seed=0)
    >>> run = fi.train(
    ...     net, theta, X, Y, optimizer=fi.Adam(0.01), batch_size=50, epochs=200,
    ...     validation=(X_test, Y_test), n_iter_no_change=20,
    ... )
    >>> bool(run.validation_scores.max() > 0.9)
    True

    A stack of three networks with different learning rates:

    >>> thetas = net.initialize("he_normal", seed=0, n=3)
    >>> fi.train(net, thetas, X, Y, learning_rate=[0.01, 0.1, 1.0], iterations=100).costs.shape
    (3, 100)
    """
    if not isinstance(network, Network):
        raise TypeError(f"network: expected a Network; got {type(network).__name__}")
    single = np.ndim(theta) != 2
    thetas = _checked_thetas(network, theta)
    data = _checked_data(network, thetas, X, Y, sample_weight, class_weight)
    m = data.X.shape[1]
    before = _resumed(resume, network, thetas, m)
    batches = _batches(batch_size, shuffle, seed, m, before)
    optimizers = _optimizers(optimizer, learning_rate, network, len(thetas), single, before)
    lbfgs = isinstance(optimizers[0], LBFGS)
    if lbfgs and importlib.util.find_spec("scipy") is None:
        raise ImportError("optimizer: LBFGS requires SciPy, which is not installed")
    if lbfgs and batches.size is not None:
        raise ValueError("optimizer: expected another than LBFGS, which requires full batches")
    if epochs is not None:
        if iterations is not None:
            raise TypeError("epochs: pass either epochs or iterations, not both")
        iterations = check_integer("epochs", epochs, 0, MOST_ITERATIONS) * batches.per_epoch
    iterations = (
        1000 if iterations is None else check_integer("iterations", iterations, 0, MOST_ITERATIONS)
    )
    held_out = _validation(network, thetas, validation, validate_every, batches.per_epoch)
    stopping = _stopping(monitor, tol, n_iter_no_change, held_out)
    cost_every = _cost_every(cost_every, before)
    penalty_in_cost = check_bool("penalty_in_cost", penalty_in_cost)
    progress = check_bool("progress", progress)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: expected a callable; got {type(callback).__name__}")
    if callback_every not in (None, "epoch") and callback is None:
        raise ValueError(f"callback_every: expected a callback as well; got {callback_every!r}")
    if isinstance(callback_every, str):
        check_name("callback_every", callback_every, ("epoch",))
        # Without a callback the kernel need not return at every epoch.
        callback_every = None if callback is None else batches.per_epoch
    elif callback_every is not None:
        callback_every = check_integer("callback_every", callback_every, 1, MOST_ITERATIONS)
    threads = usable_cores() if threads is None else check_integer("threads", threads, 1)

    stop = max((run.iterations for run in before), default=0) + iterations
    training = _Training(
        network=network,
        thetas=thetas,
        # Those of resumed runs are overwritten.
        states=(np.empty if before else np.zeros)(
            (len(thetas), 0 if lbfgs else optimizers[0].slots, network.n_parameters), network.dtype
        ),
        optimizers=optimizers,
        data=data,
        batches=batches,
        costs=_Costs(len(thetas), stop, cost_every),
        penalty_in_cost=penalty_in_cost,
        validation=held_out,
        stopping=stopping,
        callback=callback,
        callback_every=callback_every,
        threads=threads,
    )
    for k, each in enumerate(optimizers):
        own = theta if single else theta[k]
        run = before[k] if before else Run(network, own, each, np.empty(0))
        training.add(run, own, bool(before))
    result = training.runs[0] if single else Stack(training.runs, theta)
    training.result = result
    with Display(iterations, None, progress) as display:
        training.run(lbfgs, stop, display.advance)
    return result


# --- the parts of a training ----------------------------------------------------------------------


@dataclass
class _Batches:
    """How each epoch is divided into batches."""

    m: int
    size: int | None  # None: every iteration takes all examples, in the order of X
    order: Order

    def __post_init__(self) -> None:
        self.per_epoch = 1 if self.size is None else -(-self.m // self.size)
        self.returned: dict[int, NDArray[np.intp]] = {}  # by the user's callable, for each epoch

    def orders(self, start: int, stop: int) -> NDArray[np.intp] | None:
        """Return the orders of the examples, one row for each epoch of these iterations."""
        if self.size is None:
            return None
        epochs = range(start // self.per_epoch, -(-stop // self.per_epoch))
        orders = np.empty((len(epochs), self.m), np.intp)
        for row, epoch in zip(orders, epochs, strict=True):
            if self.order is None:
                row[:] = np.arange(self.m)
            elif isinstance(self.order, int):
                random.permutation(row, self.order, SHUFFLES + epoch)
            elif callable(self.order):
                # Called once per epoch, although a slice may end within one or be repeated.
                if epoch not in self.returned:
                    name = f"shuffle at epoch {epoch}"
                    self.returned[epoch] = _checked_indices(name, self.order(epoch), self.m)
                row[:] = self.returned[epoch]
            else:
                row[:] = self.order
        self.returned = {i: order for i, order in self.returned.items() if i >= epochs.start}
        return orders


@dataclass
class _Validation:
    """The validation data and the number of iterations between two validations."""

    X: Array
    Y: Array
    every: int


@dataclass
class _Stopping:
    """The settings of early stopping."""

    monitor: str  # "training", or "cost" or "score" of the validation data
    tol: float
    n_iter_no_change: int


class _Best:
    """The monitored values of one network; a run keeps them, so that it can be resumed.

    Attributes
    ----------
    monitor : str
        "training", or "cost" or "score" of the validation data.
    value, since : float, int
        The lowest value, and the number of values since it improved.
    theta, iteration : ndarray or None, int
        The parameters with the lowest value of the validation data.
    epoch_costs : ndarray
        The costs of the batches of the current epoch.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.value, self.since = inf, 0
        self.theta: Array | None = None
        self.iteration = 0
        self.epoch_costs = np.empty(0)

    def add(self, values: NDArray[np.float64], stopping: _Stopping) -> int | None:
        """Add values in order; return the index of the one that stops the training, or None."""
        if not len(values):
            return None
        best = np.fmin.accumulate(np.append(self.value, values))
        with np.errstate(invalid="ignore"):  # infinity less infinity is no improvement
            improved = values < best[:-1] - stopping.tol
        index = np.arange(len(values))
        # An improvement before these values has a negative index.
        since = index - np.maximum.accumulate(np.where(improved, index, -1 - self.since))
        self.value, self.since = float(best[-1]), int(since[-1])
        stops = since >= stopping.n_iter_no_change
        return int(stops.argmax()) if stops.any() else None

    def fits(self, network: Network) -> bool:
        """Return whether the attributes have the types of an unchanged instance."""
        theta, costs = self.theta, self.epoch_costs
        return (
            isinstance(self.value, float)
            and isinstance(self.since, int)
            and isinstance(self.iteration, int)
            and isinstance(costs, np.ndarray)
            and costs.ndim == 1
            and costs.dtype == np.float64
            and (
                theta is None
                or (isinstance(theta, np.ndarray) and theta.dtype == network.dtype
                    and theta.shape == (network.n_parameters,))
            )
        )  # fmt: skip


class _Costs:
    """The recorded costs of all networks; the array grows with the number of iterations."""

    def __init__(self, k: int, total: int, every: int) -> None:
        self.every = every
        self.total = self.kept(total)
        self.rows = np.empty((k, min(self.total, max(1024, PREALLOCATED_COSTS // k))))

    def kept(self, iterations: int) -> int:
        """Return how many costs are recorded in the first ``iterations`` iterations."""
        return -(-iterations // self.every)

    def grow(self, iterations: int) -> None:
        """Enlarge the array, if necessary, to hold the costs of ``iterations`` iterations."""
        needed, capacity = self.kept(iterations), self.rows.shape[1]
        if needed > capacity:
            rows = np.empty((len(self.rows), min(self.total, max(needed, 2 * capacity))))
            rows[:, :capacity] = self.rows
            self.rows = rows

    def write(self, k: int, start: int, costs: NDArray[np.float64]) -> None:
        """Record the costs of consecutive iterations that begin at ``start``."""
        first = self.kept(start)
        recorded = costs[first * self.every - start :: self.every]
        self.rows[k, first : first + len(recorded)] = recorded

    def of(self, k: int, iterations: int) -> NDArray[np.float64]:
        """Return the recorded costs of a network."""
        return self.rows[k, : self.kept(iterations)]

    def diverged(self, k: int, iterations: int) -> NDArray[np.float64]:
        """Return the costs of a network that diverged, followed by NaN."""
        kept = self.kept(iterations)
        costs = np.full(min(self.total, kept + MOST_NAN), np.nan)
        costs[:kept] = self.rows[k, :kept]
        return costs

    def copy_from(self, k: int, run: Run) -> None:
        """Copy the costs of a resumed run."""
        kept = self.kept(run.iterations)
        self.grow(run.iterations)
        self.rows[k, :kept] = run.costs[:kept]


@dataclass
class _Slice:
    """One call of the kernel, and the arrays that it writes."""

    networks: list[int]
    start: int
    costs: NDArray[np.float64]  # (n, iterations)
    counts: NDArray[np.intp]  # completed iterations of each network, valid after Ctrl-C too
    recorded: bool = False  # whether ``costs`` is a view of the recorded costs
    ended: bool = False  # whether the kernel returned: a lower count then means a divergence


@dataclass
class _Unmonitored:
    """A slice whose costs are to be monitored, and the parameters before it."""

    networks: list[int | None]  # None once a network is monitored
    start: int
    thetas: Array
    states: Array
    costs: NDArray[np.float64] | None = None


# --- the loop -------------------------------------------------------------------------------------


@dataclass
class _Training:
    """One call of :func:`train`: its checked arguments and its progress.

    The runs are copies of this state for the user: a callback that assigns to their attributes does
    not affect the training.
    """

    network: Network
    thetas: Array
    states: Array  # (k, slots, n_parameters)
    optimizers: list[Optimizer]
    data: Data
    batches: _Batches
    costs: _Costs
    penalty_in_cost: bool
    validation: _Validation | None
    stopping: _Stopping | None
    callback: Callback | None
    callback_every: int | None  # iterations; None to call by time
    threads: int
    runs: list[Run] = field(default_factory=list)
    result: Run | Stack | None = None

    def __post_init__(self) -> None:
        k = len(self.thetas)
        self.done = [0] * k
        self.diverged = [False] * k
        self.stopped = [""] * k
        # One copy for all runs: the kernels trust the indices of their own.
        order = self.batches.order
        self.shown_order = order.copy() if isinstance(order, np.ndarray) else order
        self.best: list[_Best] = []
        self.unmonitored: _Unmonitored | None = None
        self.validations: list[list[tuple[int, float, float]]] = []
        self.state_start = 0
        self.slice: _Slice | None = None
        self.started, self.seconds_before = perf_counter(), 0.0
        self.descent = dense.Descent()

    def add(self, run: Run, theta: Array, resumed: bool) -> None:
        """Add the next network, with a new run or a copy of the run to resume."""
        k = len(self.runs)
        self.runs.append(run)
        run.theta, run.optimizer, run._data = theta, self.optimizers[k], self.data
        run.batch_size, run._order = self.batches.size, self.shown_order
        run.cost_every = self.costs.every
        run._validations = list(run._validations)
        self.validations.append(run._validations)
        if self.stopping is not None:
            monitor = self.stopping.monitor
            # After a stop by tol the count starts again.
            kept = isinstance(run._best, _Best) and run._best.monitor == monitor
            kept = kept and run.stopped_by != "tol"
            self.best.append(copy(run._best) if kept else _Best(monitor))
        state, run._state = run._state, self.states[k]
        if not resumed:
            return
        self.done[k] = run.iterations
        self.seconds_before = max(self.seconds_before, run.seconds)
        if run.stopped_by == "divergence":
            if len(self.thetas) > 1:
                self.stopped[k], self.diverged[k] = "divergence", True
            else:
                # The discarded update has changed the state, which must restart from zero.
                run._state_start = run.iterations
        elif run.stopped_by == "tol" and len(self.thetas) > 1:
            self.stopped[k] = "tol"
        if self.states.shape[1]:
            # The state of a discarded update is not that of theta.
            self.states[k] = 0 if run.stopped_by == "divergence" else state
        self.state_start = max(self.state_start, run._state_start)
        self.costs.copy_from(k, run)
        self._update_run(k)

    def run(self, lbfgs: bool, stop: int, show: Callable[[int], None]) -> None:
        """Train every network that has not stopped, up to iteration ``stop``."""
        self.total = stop
        try:
            if lbfgs:
                for k in range(len(self.runs)):
                    if not self.stopped[k]:
                        self._minimize(k, stop, show)
            else:
                self._descend(stop, show)
        except KeyboardInterrupt:
            self._record_slice()
            self._monitor()
            self._finish(interrupted=True)
            left = [done for done, why in zip(self.done, self.stopped, strict=True)
                    if why == "interrupt"]  # fmt: skip
            message = f"after {min(left, default=stop):,} of {stop:,} iterations"
            raise Interrupted(self.result, message) from None
        except BaseException:
            self._record_slice()
            raise
        self._finish(interrupted=False)

    def _finish(self, interrupted: bool) -> None:
        for k, run in enumerate(self.runs):
            ended = not interrupted or self.done[k] == self.total
            self._stop(k, "iterations" if ended else "interrupt")
            if self.callback is not None:  # it may have assigned to the attributes of the runs
                self._update_run(k)
            if self.best:
                run._best = self.best[k]
            # After Ctrl-C theta remains the latest, so that the training can be resumed.
            if self.best and self.best[k].theta is not None and self.stopped[k] != "interrupt":
                self.thetas[k], run.best_iteration = self.best[k].theta, self.best[k].iteration

    def _descend(self, total: int, show: Callable[[int], None]) -> None:
        if self.batches.size is not None:
            # Batches are gathered example by example, which is faster if each one is contiguous.
            self.data = self.data._replace(X=np.asfortranarray(self.data.X))
        by_time = self.callback is not None and self.callback_every is None
        # A callback by time gets its first call after one iteration.
        size = 1 if by_time else self._first_slice()
        while networks := [k for k, why in enumerate(self.stopped) if not why]:
            done = min([self.done[k] for k in networks])
            if done >= total:
                return
            networks = [k for k in networks if self.done[k] == done]
            # Ctrl-C may have come between the last iteration and its validation.
            self._validate(networks, done)
            stop = self._end_of_slice(done, min(done + size, total))
            before = perf_counter()
            self._advance(networks, done, stop)
            now = perf_counter()
            for run in self.runs:
                run.seconds = self.seconds_before + now - self.started
            if stop < total:
                # The growth is limited because the first iterations are not representative.
                seconds = max((now - before) / (stop - done), 1e-9)
                size = min(int(self._slice_seconds(len(networks)) / seconds), 64 * size)
                size = max(1, min(size, MOST_COSTS // len(networks)))
            show(stop - done)
            self._validate([k for k in networks if not self.stopped[k]], stop)
            self._call_back(stop, total, networks)

    def _end_of_slice(self, done: int, stop: int) -> int:
        """Return the last iteration at which the slice from ``done`` to ``stop`` may end."""
        validate_every = None if self.validation is None else self.validation.every
        for every in (validate_every, self.callback_every):
            if every is not None:
                stop = min(stop, (done // every + 1) * every)
        if self.batches.size is not None:
            epoch = self.batches.per_epoch
            stop = min(stop, (done // epoch + max(MOST_ORDERED // self.batches.m, 1)) * epoch)
        # The networks of a stack that was interrupted may differ by some iterations.
        return min([stop, *[each for each in self.done if each > done]])

    def _call_back(self, done: int, total: int, networks: list[int]) -> None:
        """Call the callback if it is due; it may stop the training of all networks."""
        if self.callback is None:
            return
        ended = done == total or all(self.stopped[k] for k in networks)
        due = self.callback_every is None or done % self.callback_every == 0 or ended
        if due and self.callback(self.result):
            for k in range(len(self.runs)):
                self._stop(k, "iterations" if self.done[k] == self.total else "callback")

    def _slice_seconds(self, n: int) -> float:
        return max(SLICE_SECONDS, STACK_SECONDS * n / min(self.threads, n))

    def _first_slice(self) -> int:
        """Return the number of iterations in the first slice, estimated from their operations."""
        n, examples = len(self.runs), self.batches.size or self.batches.m
        iteration = n * (2e-7 + 3 * self.network.n_parameters * examples / FIRST_SPEED)
        return max(1, min(int(SLICE_SECONDS / iteration), MOST_COSTS // n))

    def _advance(self, networks: list[int], start: int, stop: int) -> None:
        """Run iterations ``start`` to ``stop`` of networks that all stand at ``start``."""
        if self.stopping is None or self.stopping.monitor != "training":
            self._run_slice(networks, start, stop)
            return
        thetas, states = self.thetas[networks], self.states[networks]
        self.unmonitored = _Unmonitored(list(networks), start, thetas, states)
        self._run_slice(networks, start, stop)
        self._monitor()

    def _monitor(self) -> None:
        """Stop networks whose training cost has not improved, where the last slice shows it."""
        last = self.unmonitored
        if last is None or last.costs is None:
            return
        start = last.start
        for i, k in enumerate(last.networks):
            if k is None:
                continue
            best = copy(self.best[k])
            end = self._last_epoch(best, start, last.costs[i, : self.done[k] - start])
            if end is not None and (end < self.done[k] or self.diverged[k]):
                # The training stops within the slice: restore the parameters and repeat the slice
                # up to that iteration, because the result must not depend on where slices end.
                self.slice = _Slice([k], start, last.costs[i : i + 1], np.zeros(1, np.intp))
                self.thetas[k], self.states[k] = last.thetas[i], last.states[i]
                self.diverged[k], self.stopped[k] = False, ""
                self._run_slice([k], start, end)
            # Ctrl-C before this line monitors the network again, from the same values.
            self.best[k], last.networks[i] = best, None
            if end is not None:
                self._stop(k, "tol")
        self.unmonitored = None

    def _run_slice(self, networks: list[int], start: int, stop: int) -> None:
        """Run one slice and record it."""
        costs = self.costs
        costs.grow(stop)
        direct = costs.every == 1 and len(networks) == len(self.runs)
        slice_costs = (
            costs.rows[:, start:stop] if direct else np.empty((len(networks), stop - start))
        )
        optimizers = [self.optimizers[k] for k in networks]
        rules = [each.rule for each in optimizers if not isinstance(each, LBFGS)]
        if self.penalty_in_cost:
            rules = [rule._replace(penalty_in_cost=1.0) for rule in rules]
        # User code may raise here, before the kernel writes anything.
        orders = self.batches.orders(start, stop)
        rates = learning_rates(optimizers, start, stop, self.network.n_layers)
        counts = np.zeros(len(networks), np.intp)
        if self.unmonitored is not None and self.unmonitored.costs is None:
            self.unmonitored.costs = slice_costs
        self.slice = _Slice(networks, start, slice_costs, counts, direct)
        dense.descend(
            self.network.layout,
            rules,
            self.thetas,
            self.states,
            start - self.state_start,
            self.data.X,
            self.data.Y,
            self.data.sample_weight,
            orders,
            self.batches.size or self.batches.m,
            start % self.batches.per_epoch,
            rates,
            slice_costs,
            counts,
            np.array(networks, np.intp),
            self.threads,
            self.descent,
        )
        self.slice.ended = True
        self._record_slice()

    def _record_slice(self) -> None:
        """Record the last slice; after Ctrl-C, the iterations of it that were completed."""
        if self.slice is None:
            return
        start, costs, ended = self.slice.start, self.slice.costs, self.slice.ended
        counts, iterations = self.slice.counts.tolist(), costs.shape[1]
        for i, (k, count) in enumerate(zip(self.slice.networks, counts, strict=True)):
            self.done[k] = start + count
            if not self.slice.recorded:
                self.costs.write(k, start, costs[i, :count])
            self.diverged[k] = ended and count < iterations
            if self.diverged[k]:
                self._stop(k, "divergence")
            self._update_run(k)
        self.slice = None

    def _update_run(self, k: int) -> None:
        """Copy the progress of network ``k`` to its run."""
        run, done, costs = self.runs[k], self.done[k], self.costs
        run._iterations, run.stopped_by = done, self.stopped[k]
        run._validations = self.validations[k]
        run.diverged_at = done if self.diverged[k] else None
        run.costs = costs.diverged(k, done) if self.diverged[k] else costs.of(k, done)

    def _stop(self, k: int, why: str) -> None:
        self.stopped[k] = self.stopped[k] or why
        self.runs[k].stopped_by = self.stopped[k]

    def _last_epoch(self, best: _Best, start: int, costs: NDArray[np.float64]) -> int | None:
        """Add the costs of completed epochs; return the iteration to stop at, or None."""
        assert self.stopping is not None
        epoch = self.batches.per_epoch
        if epoch == 1:
            stop = best.add(costs, self.stopping)
            return None if stop is None else start + stop + 1
        # Summed when the epoch is complete: the mean must not depend on where slices end.
        first = start - len(best.epoch_costs)
        costs = np.append(best.epoch_costs, costs)
        ends = np.arange(epoch - first % epoch, len(costs) + 1, epoch)
        *epochs, best.epoch_costs = np.split(costs, ends)
        sizes = np.full(epoch, self.batches.size)
        sizes[-1] = self.batches.m - sizes[:-1].sum()
        means = [
            np.average(each, weights=sizes[epoch - len(each) :]) for each in epochs
        ]  # a run that was resumed within an epoch has only the end of the first
        stop = best.add(np.array(means), self.stopping)
        return None if stop is None else first + int(ends[stop])

    def _validate(self, networks: list[int], done: int) -> None:
        """Validate networks that are due; stop those that do not improve."""
        if self.validation is None or done == 0 or done % self.validation.every:
            return
        networks = [
            k for k in networks if not self.validations[k] or self.validations[k][-1][0] < done
        ]
        if not networks:
            return
        thetas = self.thetas if len(networks) == len(self.thetas) else self.thetas[networks]
        found = self.network._score(
            thetas, self.validation.X, self.validation.Y, None, self.threads
        )
        for k, cost, score in zip(networks, *found, strict=True):
            self.validations[k].append((done, float(cost), float(score)))
            if self.stopping is None:
                continue
            best, value = self.best[k], -score if self.stopping.monitor == "score" else cost
            if value < best.value:
                best.theta, best.iteration = self.thetas[k].copy(), done
            if best.add(np.array([value]), self.stopping) is not None:
                self._stop(k, "tol")

    def _minimize(self, k: int, total: int, show: Callable[[int], None]) -> None:
        """Train network ``k`` with SciPy's L-BFGS; each evaluation is one call of the kernel."""
        from scipy.optimize import minimize

        network, run, theta, optimizer = (
            self.network, self.runs[k], self.thetas[k], self.optimizers[k],
        )  # fmt: skip
        assert isinstance(optimizer, LBFGS)
        l2 = optimizer.l2
        weights = network._is_weight
        gradient = np.empty((1, theta.size), theta.dtype)
        by_cost = self.stopping if self.validation is None else None
        raised: list[StopIteration] = []

        def objective(x: Array) -> tuple[float, Array]:
            [cost] = dense.loss_and_gradient(
                network.layout, x.astype(network.dtype)[None], *self.data, gradient, self.threads,
                self.descent,
            )  # fmt: skip
            penalty = l2 * np.where(weights, x, 0)
            return float(cost + penalty @ x / 2), gradient[0] + penalty

        def recorded(cost: float, x: Array) -> float:
            penalty = 0.0 if self.penalty_in_cost else l2 * np.square(x[weights]).sum() / 2
            return float(cost - penalty)

        def after(intermediate_result: Any) -> None:
            # costs[i] is the cost before update i, as for the other optimisers.
            done = self.done[k]
            x = intermediate_result.x
            if not np.isfinite(x).all() or not np.isfinite(intermediate_result.fun):
                self.diverged[k] = True
                self._stop(k, "divergence")
                self._update_run(k)
                raise StopIteration
            self.costs.grow(done + 1)
            self.costs.write(k, done, np.array([previous[0]]))
            last, previous[0] = previous[0], recorded(float(intermediate_result.fun), x)
            theta[...] = x
            self.done[k] = done + 1
            self._update_run(k)
            run.seconds = self.seconds_before + perf_counter() - self.started
            show(1)
            self._validate([k], done + 1)
            if by_cost is not None and self.best[k].add(np.array([last]), by_cost) is not None:
                self._stop(k, "tol")
            try:
                self._call_back(done + 1, total, [k])
            except StopIteration as error:
                # SciPy would take it as a request to stop; raise it after minimize() returns.
                raised.append(error)
                raise
            if self.stopped[k]:
                raise StopIteration

        if self.done[k] == total:
            return
        x = theta.astype(np.float64)
        previous = [recorded(objective(x)[0], x)]
        with single_blas_thread():
            found = minimize(
                objective,
                x,
                jac=True,
                method="L-BFGS-B",
                callback=after,
                options={
                    "maxiter": total - self.done[k],
                    "maxfun": optimizer.max_fun,
                    "maxcor": optimizer.history,
                    "gtol": optimizer.tol,
                    "ftol": 0.0,
                },
            )
        if raised:
            raise raised[0]
        done = self.done[k]
        if not self.stopped[k] and done < total:
            reasons = {0: "convergence", 1: "max_fun"}
            self._stop(k, reasons.get(found.status, "line_search"))
            if self.callback_every is not None and done % self.callback_every:
                self._call_back(done, done, [k])


# --- checks of arguments --------------------------------------------------------------------------


def _checked_thetas(network: Network, theta: Array) -> Array:
    """Return a checked view of theta as a matrix with one row per network."""
    # One look at a single theta that needs no other check.
    if dense.usable(theta, network.dtype, (network.n_parameters,), "finite", True):
        return theta[None]
    thetas = network.check_stack(theta, written=True)
    if not dense.all_finite(thetas):
        raise ValueError("theta: expected finite numbers; got NaN or infinity")
    return thetas


def _checked_data(
    network: Network,
    thetas: Array,
    X: ArrayLike,
    Y: ArrayLike,
    sample_weight: ArrayLike | None,
    class_weight: Any,
) -> Data:
    X = network.check_X(X)
    Y = network.check_Y(Y, X)
    data = Data(X, Y, _all_weights(network, X, Y, sample_weight, class_weight))
    _check_apart(thetas, X=X, Y=Y, sample_weight=data.sample_weight)
    return data


def _check_apart(thetas: Array, **arrays: Array | None) -> None:
    """Raise ValueError if an array that is read shares memory with theta, which is written."""
    for name, array in arrays.items():
        if array is not None and np.may_share_memory(thetas, array):
            raise ValueError(f"theta: expected memory of its own; got an overlap with {name}")


def _batches(
    batch_size: int | None, shuffle: AnyOrder, seed: Seed, m: int, before: list[Run]
) -> _Batches:
    if batch_size is not None:
        batch_size = min(check_integer("batch_size", batch_size, 1), m)
    if before:
        size = before[0].batch_size
        if batch_size is not None and batch_size != (size or m):
            raise ValueError(
                f"batch_size: expected {size}, as in the run to resume; got {batch_size}"
            )
        if shuffle is not True or not (isinstance(seed, int) and seed == 0):
            name = "seed" if shuffle is True else "shuffle"
            raise ValueError(f"{name}: expected none with resume, which keeps that of the run")
        # A copy: the kernels trust its indices, and anyone may change those of the run.
        order = before[0]._order
        if order is not None and not isinstance(order, int):
            order = _checked_order("resume._order", order, m)
        return _Batches(m, size, order)
    if isinstance(shuffle, (bool, np.bool_)):
        size = None if batch_size == m else batch_size
        return _Batches(m, size, key_of(seed) if shuffle else None)
    order = _checked_order("shuffle", shuffle, m)
    return _Batches(m, batch_size or m, order)


def _checked_order(name: str, order: Any, m: int) -> Order:
    """Return a checked order of the examples that the user passed."""
    if callable(order):
        return order  # type: ignore[no-any-return]
    return _checked_indices(name, order, m)


def _checked_indices(name: str, order: ArrayLike, m: int) -> NDArray[np.intp]:
    if np.ma.isMaskedArray(order):
        raise TypeError(f"{name}: expected an array without a mask; got a masked array")
    try:
        indices = np.array(order)
    except ValueError:
        raise ValueError(f"{name}: expected shape ({m},); got a ragged sequence") from None
    if indices.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: expected True, False, integers or a callable; got dtype {indices.dtype}"
        )
    if indices.shape != (m,):
        raise ValueError(f"{name}: expected shape ({m},); got {indices.shape}")
    wrong = indices[(indices < 0) | (indices >= m)]
    if wrong.size:
        raise ValueError(f"{name}: expected indices from 0 to {m - 1}; got {wrong[0]}")
    return indices.astype(np.intp)


def _validation(
    network: Network, thetas: Array, validation: Any, validate_every: int | None, epoch: int
) -> _Validation | None:
    if validate_every is not None:
        validate_every = check_integer("validate_every", validate_every, 1, MOST_ITERATIONS)
    if validation is None:
        if validate_every is not None:
            raise ValueError(
                f"validate_every: expected validation data as well; got {validate_every}"
            )
        return None
    if not isinstance(validation, (tuple, list)):
        raise TypeError(f"validation: expected a pair (X, Y); got {type(validation).__name__}")
    if len(validation) != 2:
        raise ValueError(f"validation: expected a pair (X, Y); got {len(validation)} values")
    X = network.check_X(validation[0], name="X of validation")
    Y = network.check_Y(validation[1], X, name="Y of validation")
    _check_apart(thetas, **{"X of validation": X, "Y of validation": Y})
    return _Validation(X, Y, validate_every or epoch)


def _stopping(
    monitor: str, tol: float | None, n_iter_no_change: int | None, validation: _Validation | None
) -> _Stopping | None:
    by_score = check_name("monitor", monitor, ("cost", "score")) == "score"
    if by_score and validation is None:
        raise ValueError("monitor: expected validation data with 'score'; got none")
    if tol is not None:
        tol = checked_rate(tol, "tol")
    if n_iter_no_change is not None:
        n_iter_no_change = check_integer("n_iter_no_change", n_iter_no_change, 1, MOST_ITERATIONS)
    if tol is None and n_iter_no_change is None:
        if by_score:
            raise ValueError("monitor: expected tol or n_iter_no_change with 'score'; got none")
        return None
    monitor = "training" if validation is None else monitor
    return _Stopping(monitor, TOL if tol is None else tol, n_iter_no_change or N_ITER_NO_CHANGE)


def _all_weights(
    network: Network, X: Array, Y: Array, sample_weight: ArrayLike | None, class_weight: Any
) -> Array | None:
    """Return the product of sample and class weights of each example; None without weights."""
    w = None if sample_weight is None else network.check_sample_weight(sample_weight, X)
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
    return network.check_sample_weight(factors[classes] * (1 if w is None else w), X)


def _optimizers(
    optimizer: Any, learning_rate: Any, network: Network, k: int, single: bool, before: list[Run]
) -> list[Optimizer]:
    """Return one optimiser per network."""
    if optimizer is not None and learning_rate is not None:
        if isinstance(optimizer, LBFGS):
            raise TypeError(f"learning_rate: expected none with LBFGS; got {learning_rate!r}")
        raise TypeError("learning_rate: pass it either directly or in the optimizer, not both")
    found: list[Optimizer]
    if optimizer is None and learning_rate is None:
        found = [run.optimizer for run in before] if before else [DEFAULT] * k
    elif optimizer is None:
        if single or not is_sequence(learning_rate):
            found = [GradientDescent(learning_rate)] * k
        else:
            found = [GradientDescent(rate) for rate in learning_rate]
    elif isinstance(optimizer, OPTIMIZERS):
        found = [optimizer] * k
    elif single or isinstance(optimizer, str) or not isinstance(optimizer, Sequence):
        names = ", ".join(kind.__name__ for kind in OPTIMIZERS)
        text = type(optimizer).__name__
        if isinstance(optimizer, str):
            text = repr(optimizer)
        elif isinstance(optimizer, type):
            text = f"the class {optimizer.__name__}"
        raise TypeError(f"optimizer: expected an instance of one of {names}; got {text}")
    else:
        found = list(optimizer)
    kinds = {type(each) for each in found}
    if found and (len(kinds) > 1 or not kinds <= set(OPTIMIZERS)):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"optimizer: expected optimisers of one class; got {names}")
    if len(found) != k:
        name = "learning_rate" if optimizer is None else "optimizer"
        hint = ""
        if optimizer is None and len(found) == network.n_layers:
            hint = "; pass rates per layer as optimizer=GradientDescent(...)"
        raise ValueError(f"{name}: expected one for each of {k} networks; got {len(found)}{hint}")
    for each in found:
        rate = None if isinstance(each, LBFGS) else each.learning_rate
        if isinstance(rate, tuple) and len(rate) != network.n_layers:
            raise ValueError(
                f"learning_rate: expected one for each of {network.n_layers} layers; "
                f"got {len(rate)}"
            )
    for run, each in zip(before, found, strict=False):
        if type(run.optimizer) is not type(each):
            own = type(run.optimizer).__name__
            if optimizer is None:
                raise ValueError(
                    f"learning_rate: expected in optimizer={own}(...), the class of the run to "
                    f"resume; got {learning_rate!r}"
                )
            raise ValueError(
                f"optimizer: expected {own}, as in the run to resume; got {type(each).__name__}"
            )
        slots = 0 if isinstance(each, LBFGS) else each.slots
        state = run._state
        fits = isinstance(state, np.ndarray) and state.dtype == network.dtype
        if slots and not (fits and state.shape == (slots, network.n_parameters)):
            raise ValueError(
                f"resume: expected the state of {type(each).__name__}, of shape "
                f"{(slots, network.n_parameters)}, {network.dtype}; got {np.shape(state)}, "
                f"{getattr(state, 'dtype', type(state).__name__)}"
            )
    return found


def _cost_every(cost_every: int | None, before: list[Run]) -> int:
    """Return the number of iterations between two recorded costs."""
    own = before[0].cost_every if before else 1
    if cost_every is None:
        return own
    cost_every = check_integer("cost_every", cost_every, 1, MOST_ITERATIONS)
    if before and cost_every != own:
        raise ValueError(f"cost_every: expected {own}, as in the run to resume; got {cost_every}")
    return cost_every


def _resumed(resume: Run | Stack | None, network: Network, thetas: Array, m: int) -> list[Run]:
    """Return checked copies of the runs to resume; an empty list for a new training."""
    if resume is None:
        return []
    if not isinstance(resume, (Run, Stack)):
        raise TypeError(f"resume: expected a Run or a Stack; got {type(resume).__name__}")
    runs = [resume] if isinstance(resume, Run) else list(resume)
    if len(runs) != len(thetas):
        raise ValueError(
            f"resume: expected a run of {len(thetas)} networks to match theta; got {len(runs)}"
        )
    runs = [_checked_run(run, network, m) for run in runs]
    for run in runs:
        # In a stack, networks that were stopped by tol are not trained further.
        if run.best_iteration is not None and (len(runs) == 1 or run.stopped_by != "tol"):
            raise ValueError(
                "resume: expected a run whose theta is the latest; got one whose theta was set "
                f"back to iteration {run.best_iteration}"
            )
        if (run.batch_size, run.cost_every, run._state_start) != (
            runs[0].batch_size, runs[0].cost_every, runs[0]._state_start,
        ) or not _is_same_order(run._order, runs[0]._order):  # fmt: skip
            raise ValueError("resume: expected runs of the same training; got different ones")
    return runs


def _is_same_order(a: Order, b: Order) -> bool:
    return a is b or bool(np.array_equal(a, b))  # type: ignore[arg-type]


def _checked_run(run: Run, network: Network, m: int) -> Run:
    """Return a copy of a run after a check of its attributes, which users may have changed."""
    wrong = "resume: expected a run as train returned it; got"
    if not isinstance(run, Run):
        raise TypeError(f"resume: expected a stack of Run; got {type(run).__name__}")
    if not isinstance(run.network, Network) or run.network != network:
        raise ValueError(f"resume: expected a run of {network}; got one of {run.network!r}")
    if not isinstance(run.stopped_by, str):
        raise ValueError(f"{wrong} stopped_by of {type(run.stopped_by).__name__}")
    costs = run.costs
    if not isinstance(costs, np.ndarray) or costs.ndim != 1 or costs.dtype != np.float64:
        raise ValueError(f"{wrong} costs that are not a vector of float64")
    check_integer("resume.cost_every", run.cost_every, 1, MOST_ITERATIONS)
    done = check_integer("resume.iterations", run.iterations, 0, MOST_ITERATIONS)
    check_integer("resume._state_start", run._state_start, 0, done + 1)
    if isinstance(run._order, int):
        check_integer("resume._order", run._order, 0, 2**64)
    elif run._order is not None:
        _checked_order("resume._order", run._order, m)
    if (
        run.batch_size is not None
        and check_integer("resume.batch_size", run.batch_size, 1, MOST_ITERATIONS) > m
    ):
        raise ValueError(f"{wrong} batches of {run.batch_size} of {m} examples")
    if not isinstance(run._validations, list):
        raise ValueError(f"{wrong} _validations of {type(run._validations).__name__}")
    if run._best is not None and not (isinstance(run._best, _Best) and run._best.fits(network)):
        raise ValueError(f"{wrong} _best of {type(run._best).__name__}")
    if len(run.costs) < -(-done // run.cost_every):
        raise ValueError(f"{wrong} {len(run.costs)} costs of {done} iterations")
    own = copy(run)
    own.seconds = checked_rate(run.seconds, "resume.seconds")
    return own
