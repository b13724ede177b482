"""train(): the thin loop around one kernel."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.initializers.target import Seed, key_of
from fastinit.kernels import dense, random, usable_cores
from fastinit.training.network import Array, Network
from fastinit.training.optimizers import (
    LBFGS,
    OPTIMIZERS,
    GradientDescent,
    Optimizer,
    checked_rate,
    learning_rates,
)
from fastinit.training.progress import Display
from fastinit.training.run import Run, Stack
from fastinit.validation import MOST_ITERATIONS, check_bool, check_integer, is_sequence

# A slice is what the kernel does between two returns to Python. Long enough that the way back, some
# microseconds, does not count; short enough for a smooth progress bar.
SLICE_SECONDS = 0.02
# In a stack every network runs at least so long: the last of a slice keeps other threads waiting.
STACK_SECONDS = 0.001
# Multiply-adds a second that the length of the first slice is reckoned with: those of a slow core.
FIRST_PACE = 4e9
# Costs that memory is taken for before they come: 64 MB.
COSTS_AT_ONCE = 1 << 23
# Costs that a slice may write: it needs memory for them where not all are recorded.
MOST_COSTS = 1 << 20
# After a divergence so many NaN at most.
MOST_NAN = 1 << 20
# Examples whose order is drawn at once, unless a single epoch has more.
MOST_ORDERED = 1 << 20
# The generator's streams from here on are for shuffling, one an epoch; those below are for weights.
SHUFFLES = 1 << 63


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
    shuffle: bool = True,
    seed: Seed = 0,
    sample_weight: ArrayLike | None = None,
    class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    validate_every: int | None = None,
    patience: int | None = None,
    min_delta: float = 0.0,
    cost_every: int | None = None,
    threads: int | None = None,
    callback: Callable[[Any], Any] | None = None,
    callback_every: int | Literal["epoch"] | None = None,
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
        Short for ``optimizer=GradientDescent(learning_rate)``: a sequence has one rate for each
        layer, or a pair for each layer's weights and biases. For a stack, a sequence has one entry
        for each network, and each may be such a sequence.
    iterations : int, default 1000
        Updates; 0 changes nothing.
    epochs : int, optional
        Instead of ``iterations``: how often to go through all examples.
    batch_size : int, optional
        Examples per update; all by default, and all if it is above their number. The last batch of
        an epoch may be shorter.
    optimizer : optional
        One of :mod:`fastinit.training.optimizers`; for a stack perhaps one each, of one kind.
    shuffle : bool, default True
        Whether the examples of mini-batches are shuffled anew for every epoch.
    seed : int, SeedSequence, Generator or None, default 0
        Of the shuffling. None draws fresh entropy.
    sample_weight : array_like of shape (n_examples,), optional
        How much each example counts; a batch's cost is its weighted mean.
    class_weight : dict or "balanced", optional
        Weight of each class, times ``sample_weight``; classes that are not named weigh 1.
        ``balanced`` is ``n_examples / (n_classes * count)``, as in scikit-learn.
    validation : (X, Y), optional
        Other examples, whose cost and accuracy are recorded.
    validate_every : int, optional
        After so many iterations each; an epoch by default.
    patience : int, optional
        Stop when so many looks at the validation data in a row have not improved its cost by more
        than ``min_delta``. At the end ``theta`` is that of the lowest validation cost.
    min_delta : float, default 0
    cost_every : int, default 1
        Record the cost of every so many iterations only, which saves memory in long trainings of
        many networks.
    threads : int, optional
        At most so many threads; all usable cores by default. Small batches take one. The bits do
        not depend on it.
    callback : callable, optional
        Called as ``callback(run)`` after every 20 ms or so of training, and at the end, with the
        run, or the stack, as far as it has come; the training stops when it returns something true.
    callback_every : int or "epoch", optional
        Call it after every so many iterations instead, and at the end.
    progress : bool, default False
        Show a progress bar; needs rich.
    resume : Run or Stack, optional
        Go on with a run that ended by iterations or callback, bit for bit: with its optimiser's
        state, its place in the shuffled epoch, and its records, to which the new ones are added.
        Optimiser, batch size, shuffling and seed are the run's; an optimiser of the same kind may
        be given.
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
    >>> X, Y, X_test, Y_test = fi.lesson.load_dataset()
    >>> net = fi.Network([2, 10, 5, 1])
    >>> theta = net.initialize("lesson.he", seed=3)
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
    w = _all_weights(network, X, Y, sample_weight, class_weight)
    for name, array in (("X", X), ("Y", Y), ("sample_weight", w)):
        if array is not None and np.may_share_memory(thetas, array):
            raise ValueError(f"theta: expected memory of its own; got an overlap with {name}")
    checked = None
    if validation is not None:
        checked = _checked_validation(network, validation)
    before = _resumed(resume, network, thetas, m)
    if before:
        key, batch_size = before[0]._shuffle_key, before[0].batch_size
    else:
        key = key_of(seed) if check_bool("shuffle", shuffle) else None
        if batch_size is not None:
            batch_size = check_integer("batch_size", batch_size, 1, MOST_ITERATIONS)
            batch_size = batch_size if batch_size < m else None
    optimizers = _optimizers(optimizer, learning_rate, network, len(thetas), single, before)
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
        iterations = check_integer("epochs", epochs, 0, MOST_ITERATIONS) * batches
    iterations = (
        1000 if iterations is None else check_integer("iterations", iterations, 0, MOST_ITERATIONS)
    )
    watch = None
    if patience is not None:
        patience = check_integer("patience", patience, 1, MOST_ITERATIONS)
        if checked is None:
            raise ValueError("patience: expected validation data to watch; got none")
        if before:
            raise ValueError(f"patience: expected none with resume; got {patience}")
    every = (
        batches
        if validate_every is None
        else check_integer("validate_every", validate_every, 1, MOST_ITERATIONS)
    )
    min_delta = checked_rate(min_delta, "min_delta")
    if checked is not None:
        watch = _Watch(*checked, every, patience, min_delta)
    cost_every = _cost_every(cost_every, before)
    if callback_every is not None and callback is None:
        raise ValueError(f"callback_every: expected a callback as well; got {callback_every!r}")
    if callback_every == "epoch":
        callback_every = batches
    elif callback_every is not None:
        callback_every = check_integer("callback_every", callback_every, 1, MOST_ITERATIONS)
    threads = (
        usable_cores() if threads is None else check_integer("threads", threads, 1, MOST_ITERATIONS)
    )

    start = max((run.iterations for run in before), default=0)
    costs = _Costs(len(thetas), start + iterations, cost_every)
    states = np.zeros((len(thetas), 0 if lbfgs else optimizers[0].slots, network.n_parameters),
                      network.dtype)  # fmt: skip
    runs = []
    for k, each in enumerate(optimizers):
        own = theta if single else theta[k]
        if before:
            old = before[k]
            run, run.theta, run.optimizer, run._iterations = old, own, each, old.iterations
            if states.shape[1]:
                states[k] = old._state
            run.costs = costs.resumed(k, old)
            if run.stopped_by in ("iterations", "callback"):
                run.stopped_by = ""
        else:
            run = Run(network, own, each, costs.of(k, 0), batch_size=batch_size)
            run.cost_every, run._shuffle_key = cost_every, key
        run._state = states[k]
        runs.append(run)
    result = runs[0] if single else Stack(runs, theta)
    training = _Training(
        network, thetas, states, optimizers, X, Y, w, batch_size, batches, key, costs, runs, result,
        watch, callback, callback_every, threads,
    )  # fmt: skip
    with Display(iterations, None, progress) as display:
        training.run(lbfgs, start, start + iterations, display.advance)
    return result


# --- the loop -------------------------------------------------------------------------------------


class _Costs:
    """The recorded costs of all networks, in memory that grows with the iterations."""

    def __init__(self, k: int, total: int, every: int) -> None:
        self.every = every
        self.total = self.kept(total)
        # A short training gets all its memory at once.
        self.rows = np.empty((k, min(self.total, max(1024, COSTS_AT_ONCE // k))))

    def kept(self, iterations: int) -> int:
        """Return how many of the first so many iterations are recorded."""
        return -(-iterations // self.every)

    def grow(self, iterations: int) -> None:
        """Allocate memory for the costs of so many iterations."""
        needed, capacity = self.kept(iterations), self.rows.shape[1]
        if needed > capacity:
            rows = np.empty((len(self.rows), min(self.total, max(needed, 2 * capacity))))
            rows[:, :capacity] = self.rows
            self.rows = rows

    def write(self, k: int, start: int, costs: NDArray[np.float64]) -> None:
        """Record the costs of the iterations from ``start`` on."""
        first = self.kept(start)
        recorded = costs[first * self.every - start :: self.every]
        self.rows[k, first : first + len(recorded)] = recorded

    def of(self, k: int, iterations: int) -> NDArray[np.float64]:
        """Return the recorded costs of a network."""
        return self.rows[k, : self.kept(iterations)]

    def diverged(self, k: int, iterations: int) -> NDArray[np.float64]:
        """Return the costs of a network, with NaN from the iteration of divergence on."""
        kept = self.kept(iterations)
        costs = np.full(min(self.total, kept + MOST_NAN), np.nan)
        costs[:kept] = self.rows[k, :kept]
        return costs

    def resumed(self, k: int, run: Run) -> NDArray[np.float64]:
        """Take over the costs of a run, and return what is known of them now."""
        done = run.iterations
        self.grow(done)
        kept = self.kept(done)
        self.rows[k, :kept] = run.costs[:kept]
        return self.of(k, done) if run.diverged_at is None else self.diverged(k, done)


@dataclass
class _Watch:
    """When to look at the validation data, and when to stop for it."""

    X: Array
    Y: Array
    every: int
    patience: int | None
    min_delta: float

    def next_stop(self, done: int) -> int:
        return (done // self.every + 1) * self.every


class _Looks:
    """What was seen of one network on the validation data."""

    def __init__(self, run: Run) -> None:
        self.iterations = run.validation_iterations
        self.costs = run.validation_costs
        self.accuracies = run.validation_accuracies
        self.best: int | None = None  # the look with the lowest cost
        self.best_theta: Array | None = None

    def add(self, watch: _Watch, done: int, cost: float, accuracy: float, theta: Array) -> bool:
        """Record a look; return whether the cost has not improved for too long."""
        self.iterations = np.append(self.iterations, done)
        self.costs = np.append(self.costs, cost)
        self.accuracies = np.append(self.accuracies, accuracy)
        if watch.patience is None:
            return False
        last = len(self.costs) - 1
        if self.best is None or cost < self.costs[self.best] - watch.min_delta:
            self.best, self.best_theta = last, theta.copy()
        return last - self.best >= watch.patience

    def show(self, run: Run) -> None:
        run.validation_iterations = self.iterations
        run.validation_costs = self.costs
        run.validation_accuracies = self.accuracies
        run.best_iteration = None if self.best is None else int(self.iterations[self.best])


@dataclass
class _Training:
    """One call of :func:`train`: what it works on, checked, and how far it has come.

    The runs only show what happens here: what callbacks do to their attributes has no effect on the
    training.
    """

    network: Network
    thetas: Array
    states: Array  # (k, slots, n_parameters)
    optimizers: list[Optimizer]
    X: Array
    Y: Array
    sample_weight: Array | None
    batch_size: int | None
    batches: int  # per epoch
    key: int | None  # of the shuffling; None without
    costs: _Costs
    runs: list[Run]
    result: Run | Stack
    watch: _Watch | None
    callback: Callable[[Any], Any] | None
    callback_every: int | None
    threads: int

    def __post_init__(self) -> None:
        self.stopped = [run.stopped_by for run in self.runs]
        self.shown = [(run.iterations, run.diverged_at, run.costs) for run in self.runs]
        self.looks = [_Looks(run) for run in self.runs]
        self.clock, self.spent = perf_counter(), max(run.seconds for run in self.runs)
        self.descent = dense.Descent()

    def run(self, lbfgs: bool, start: int, stop: int, show: Callable[[int], None]) -> None:
        """Run the iterations from ``start`` to ``stop`` of all networks that are not stopped."""
        if lbfgs:
            for k in range(len(self.runs)):
                self._minimize(k, stop, show)
        elif stop > start:
            self._descend(start, stop, show)
        for k, run in enumerate(self.runs):
            run.stopped_by = self.stopped[k] or "iterations"
            run._iterations, run.diverged_at, run.costs = self.shown[k]
            self.looks[k].show(run)
            best = self.looks[k].best_theta
            if best is not None:
                self.thetas[k] = best

    def _descend(self, done: int, total: int, show: Callable[[int], None]) -> None:
        active = [k for k, why in enumerate(self.stopped) if not why]
        if self.batch_size is not None:
            # Batches are gathered an example at a time: let each be contiguous.
            self.X = np.asfortranarray(self.X)
        # By the clock, a callback hears of the first iteration, however short the others are.
        by_clock = self.callback is not None and self.callback_every is None
        size = 1 if by_clock else self._first_slice(len(active))
        while done < total and active:
            stop = min(done + size, total)
            if self.watch is not None:
                stop = min(stop, self.watch.next_stop(done))
            if self.callback is not None and self.callback_every is not None:
                stop = min(stop, (done // self.callback_every + 1) * self.callback_every)
            if self.batch_size is not None:
                fits = max(MOST_ORDERED // self.X.shape[1], 1) * self.batches
                stop = min(stop, done // self.batches * self.batches + fits)
            before = perf_counter()
            self._advance(active, done, stop)
            now = perf_counter()
            for run in self.runs:
                run.seconds = self.spent + now - self.clock
            # Towards the time a slice should take, but never in one leap: the first are short.
            pace = max((now - before) / (stop - done), 1e-9)
            size = max(1, min(int(self._slice_seconds(len(active)) / pace), 64 * size))
            show(stop - done)
            done = stop
            if self.watch is not None and done % self.watch.every == 0:
                self._look([k for k in active if not self.stopped[k]], done)
            if self._calls_back(done, total, active):
                for k in active:
                    self._stop(k, "callback")
            active = [k for k in active if not self.stopped[k]]

    def _calls_back(self, done: int, total: int, active: list[int]) -> bool:
        """Call the callback if it is due; return whether it wants the training to stop."""
        if self.callback is None:
            return False
        every = self.callback_every
        ended = done == total or all(self.stopped[k] for k in active)
        due = every is None or done % every == 0 or ended
        return due and bool(self.callback(self.result))

    def _slice_seconds(self, n: int) -> float:
        return max(SLICE_SECONDS, STACK_SECONDS * n / min(self.threads, n))

    def _first_slice(self, n: int) -> int:
        """Return how many iterations take some milliseconds, by the work there is in each."""
        examples = self.batch_size or self.X.shape[1]
        iteration = max(n, 1) * (2e-7 + 3 * self.network.n_parameters * examples / FIRST_PACE)
        return max(1, min(int(SLICE_SECONDS / iteration), MOST_COSTS // max(n, 1)))

    def _stop(self, k: int, why: str) -> None:
        self.stopped[k] = self.stopped[k] or why
        self.runs[k].stopped_by = self.stopped[k]

    def _look(self, networks: list[int], done: int) -> None:
        """Look at the validation data."""
        assert self.watch is not None
        if not networks:
            return
        thetas = self.thetas if len(networks) == len(self.thetas) else self.thetas[networks]
        scores = self.network._score(thetas, self.watch.X, self.watch.Y, None, self.threads)
        for k, cost, accuracy in zip(networks, *scores, strict=True):
            looks = self.looks[k]
            if looks.add(self.watch, done, float(cost), float(accuracy), self.thetas[k]):
                self._stop(k, "patience")
            looks.show(self.runs[k])

    def _advance(self, active: list[int], start: int, stop: int) -> None:
        """Run some iterations of the networks that are not stopped."""
        costs, n = self.costs, stop - start
        costs.grow(stop)
        direct = costs.every == 1 and len(active) == len(self.runs)
        piece = costs.rows[:, start:stop] if direct else np.empty((len(active), n))
        optimizers = [self.optimizers[k] for k in active]
        whole = dense.descend(
            self.network.layout,
            [each.rule for each in optimizers if not isinstance(each, LBFGS)],
            self.thetas,
            self.states,
            start,
            self.X,
            self.Y,
            self.sample_weight,
            self._orders(start, stop),
            self.batch_size or self.X.shape[1],
            start % self.batches,
            learning_rates(optimizers, start, stop, self.network.n_layers),
            piece,
            np.array(active, np.intp),
            self.threads,
            self.descent,
        )
        for i, k in enumerate(active):
            done = start + whole[i]
            if not direct:
                costs.write(k, start, piece[i, : whole[i]])
            self._show(k, done, whole[i] < n)

    def _show(self, k: int, done: int, diverged: bool = False) -> None:
        """Let a run show how far its network has come."""
        run = self.runs[k]
        self.shown[k] = (
            (done, done, self.costs.diverged(k, done))
            if diverged
            else (done, None, self.costs.of(k, done))
        )
        run._iterations, run.diverged_at, run.costs = self.shown[k]
        if diverged:
            self._stop(k, "divergence")

    def _orders(self, start: int, stop: int) -> NDArray[np.intp] | None:
        """Return the order of the examples in the epochs that these iterations touch."""
        if self.batch_size is None:
            return None
        epochs = range(start // self.batches, -(-stop // self.batches))
        orders = np.empty((len(epochs), self.X.shape[1]), np.intp)
        for order, epoch in zip(orders, epochs, strict=True):
            if self.key is None:
                order[:] = np.arange(len(order))
            else:
                random.permutation(order, self.key, SHUFFLES + epoch)
        return orders

    def _minimize(self, k: int, total: int, show: Callable[[int], None]) -> None:
        """Run SciPy's L-BFGS, which is one kernel call an evaluation."""
        from scipy.optimize import minimize

        network, run, theta, optimizer = (
            self.network, self.runs[k], self.thetas[k], self.optimizers[k],
        )  # fmt: skip
        assert isinstance(optimizer, LBFGS)
        start, l2 = perf_counter(), optimizer.l2
        kernel = network._is_weight
        gradient = np.empty((1, theta.size), theta.dtype)
        raised: list[StopIteration] = []

        def objective(x: Array) -> tuple[float, Array]:
            [cost] = dense.loss_and_gradient(
                network.layout, x.astype(network.dtype)[None], self.X, self.Y, self.sample_weight,
                gradient, self.threads, self.descent,
            )  # fmt: skip
            penalty = l2 * np.where(kernel, x, 0)
            return float(cost + penalty @ x / 2), gradient[0] + penalty

        def without_penalty(cost: float, x: Array) -> float:
            return float(cost - l2 * np.square(x[kernel]).sum() / 2)

        def after(intermediate_result: Any) -> None:
            # As everywhere, costs[i] is the cost before update i.
            done = self.shown[k][0]
            x = intermediate_result.x
            if not np.isfinite(x).all() or not np.isfinite(intermediate_result.fun):
                self._show(k, done, True)
                raise StopIteration
            self.costs.grow(done + 1)
            self.costs.write(k, done, previous)
            previous[0] = without_penalty(float(intermediate_result.fun), x)
            theta[...] = x
            self._show(k, done + 1)
            run.seconds = perf_counter() - start
            show(1)
            if self.watch is not None and (done + 1) % self.watch.every == 0:
                self._look([k], done + 1)
            try:
                if self._calls_back(done + 1, total, [k]):
                    self._stop(k, "callback")
            except StopIteration as error:
                # SciPy takes it for an early end; it is an error of the callback, as elsewhere.
                raised.append(error)
                raise
            if self.stopped[k]:
                raise StopIteration

        self._show(k, 0)
        if total == 0:
            return
        x = theta.astype(np.float64)
        previous = np.array([without_penalty(objective(x)[0], x)])
        minimize(
            objective,
            x,
            jac=True,
            method="L-BFGS-B",
            callback=after,
            options={
                "maxiter": total,
                "maxfun": 100 * total + 100,
                "maxcor": optimizer.history,
                "gtol": optimizer.tolerance,
                "ftol": 0.0,
            },
        )
        run.seconds = perf_counter() - start
        if raised:
            raise raised[0]
        done = self.shown[k][0]
        if not self.stopped[k] and done < total:
            self._stop(k, "convergence")
            if self.callback_every is not None and done % self.callback_every:
                self._calls_back(done, done, [k])


def _checked_thetas(network: Network, theta: Array) -> Array:
    """Return theta as the rows of a matrix, the same memory."""
    thetas = network.check_stack(theta, written=True)
    if not dense.all_finite(thetas):
        raise ValueError("theta: expected finite numbers; got NaN or infinity")
    return thetas


def _checked_validation(network: Network, validation: Any) -> tuple[Array, Array]:
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise TypeError(f"validation: expected a pair (X, Y); got {type(validation).__name__}")
    X = network.check_X(validation[0], name="X of validation")
    return X, network.check_Y(validation[1], X, name="Y of validation")


def _all_weights(
    network: Network, X: Array, Y: Array, sample_weight: ArrayLike | None, class_weight: Any
) -> Array | None:
    """Return the weights of the examples, by example and by class; None where all are 1."""
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
    """Return one optimiser for each network."""
    if optimizer is not None and learning_rate is not None:
        raise TypeError("learning_rate: expected it in the optimizer; got both")
    found: list[Optimizer]
    if optimizer is None and learning_rate is None:
        found = [run.optimizer for run in before] if before else [GradientDescent()] * k
    elif optimizer is None:
        if single or not is_sequence(learning_rate):
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
    if found and (len(kinds) > 1 or not kinds <= set(OPTIMIZERS)):
        raise TypeError("optimizer: expected optimisers of one kind")
    if len(found) != k:
        name = "learning_rate" if optimizer is None else "optimizer"
        raise ValueError(f"{name}: expected one for each of {k} networks; got {len(found)}")
    for each in found:
        rate = None if isinstance(each, LBFGS) else each.learning_rate
        if isinstance(rate, tuple) and len(rate) != network.n_layers:
            raise ValueError(
                f"learning_rate: expected one for each of {network.n_layers} layers; "
                f"got {len(rate)}"
            )
    for run, each in zip(before, found, strict=False):
        if type(run.optimizer) is not type(each):
            raise ValueError(
                f"optimizer: expected {type(run.optimizer).__name__}, as in the run to resume; "
                f"got {type(each).__name__}"
            )
        slots = 0 if isinstance(each, LBFGS) else each.slots
        state = run._state
        fits = isinstance(state, np.ndarray) and state.dtype == network.dtype
        if slots and not (fits and state.shape == (slots, network.n_parameters)):
            raise ValueError(
                f"resume: expected the state of {type(each).__name__}, of shape "
                f"{(slots, network.n_parameters)}; got {np.shape(state)}"
            )
    return found


def _cost_every(cost_every: int | None, before: list[Run]) -> int:
    """Return how many iterations lie between two recorded costs."""
    own = before[0].cost_every if before else 1
    if cost_every is None:
        return own
    cost_every = check_integer("cost_every", cost_every, 1, MOST_ITERATIONS)
    if before and cost_every != own:
        raise ValueError(f"cost_every: expected {own}, as in the run to resume; got {cost_every}")
    return cost_every


def _resumed(resume: Run | Stack | None, network: Network, thetas: Array, m: int) -> list[Run]:
    """Return copies of the runs to go on with, checked; none for a fresh start."""
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
        if isinstance(resume, Run) and run.stopped_by not in ("", "iterations", "callback"):
            raise ValueError(
                f"resume: expected a run that iterations or callback ended; got {run.stopped_by}"
            )
        if run.best_iteration is not None:
            raise ValueError("resume: expected a run without patience; got one that went back")
        if (run.batch_size, run.cost_every) != (runs[0].batch_size, runs[0].cost_every):
            raise ValueError("resume: expected runs of one training; got several")
    return runs


def _checked_run(run: Run, network: Network, m: int) -> Run:
    """Return a copy of a run whose attributes fit each other: anybody may have set them."""
    wrong = "resume: expected a run as train returned it; got"
    if not isinstance(run.network, Network) or run.network != network:
        raise ValueError(f"resume: expected a run of {network}; got one of {run.network!r}")
    if not isinstance(run.stopped_by, str):
        raise ValueError(f"{wrong} stopped_by of {type(run.stopped_by).__name__}")
    check_integer("resume.cost_every", run.cost_every, 1, MOST_ITERATIONS)
    done = check_integer("resume.iterations", run.iterations, 0, MOST_ITERATIONS)
    if run._shuffle_key is not None:
        check_integer("resume._shuffle_key", run._shuffle_key, 0, 2**64)
    if (
        run.batch_size is not None
        and check_integer("resume.batch_size", run.batch_size, 1, MOST_ITERATIONS) > m
    ):
        raise ValueError(f"{wrong} batches of {run.batch_size} of {m} examples")
    for name, dtype in (
        ("costs", np.float64), ("validation_costs", np.float64),
        ("validation_accuracies", np.float64), ("validation_iterations", np.intp),
    ):  # fmt: skip
        value = getattr(run, name)
        if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype != dtype:
            raise ValueError(f"{wrong} {name} that are no vector of {np.dtype(dtype)}")
    if len(run.costs) < -(-done // run.cost_every):
        raise ValueError(f"{wrong} {len(run.costs)} costs of {done} iterations")
    own = copy(run)
    own.seconds = checked_rate(run.seconds, "resume.seconds")
    return own
