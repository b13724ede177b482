"""Runs of a comparison: pure data in, columns of outcomes out.

A :class:`Task` is a stack of runs of one network, which :func:`run_task` trains on the
:class:`Data` that all tasks share, in any thread or process. The result is a :class:`Block`: the
outcomes of its runs as columns, because a comparison may have a million runs. A :class:`Trial` is
one run of a block, created when it is read.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.comparison.courses import COURSES, STOPPED, judge_courses
from fastinit.comparison.grid import Cell, as_code
from fastinit.comparison.statistics import MIN_TEST
from fastinit.comparison.verdicts import saturated_shares, symmetric_layers
from fastinit.kernels import level, usable_cores
from fastinit.training.internals import (
    costs_and_scores,
    outputs_of,
    sample_weight_of,
    variant,
)
from fastinit.training.loop import AnyOrder, train
from fastinit.training.network import Array, Matrix, Network
from fastinit.training.optimizers import Optimizer
from fastinit.training.run import Stack, _Summarized

# The largest number of evenly spaced points in a stored cost curve: more than a plot has pixels.
POINTS = 500
# The largest number of outputs that are computed at once for the losses of the examples: 32 MB.
MOST_OUTPUTS = 1 << 22
# The columns of a block, and their types. Missing numbers are NaN, missing integers -1.
COLUMNS: dict[str, np.dtype[Any]] = {
    "iterations": np.dtype(np.int64),
    "diverged_at": np.dtype(np.int64),
    "stopped": np.dtype(np.int8),
    "start_cost": np.dtype(np.float64),
    "final_cost": np.dtype(np.float64),
    "train_score": np.dtype(np.float64),
    "test_cost": np.dtype(np.float64),
    "test_gain_error": np.dtype(np.float64),
    "test_score": np.dtype(np.float64),
    "losses_p_value": np.dtype(np.float64),
    "course": np.dtype(np.int8),
    "change": np.dtype(np.float64),
    "gradient_norm": np.dtype(np.float64),
    "symmetric": np.dtype(np.int64),
    "saturated": np.dtype(np.float64),
    "iterations_to_cost": np.dtype(np.int64),
    "iterations_to_accuracy": np.dtype(np.int64),
    "seconds": np.dtype(np.float64),
}


# --- pure data in -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Training:
    """The settings of :func:`fastinit.train` that all runs of a comparison share.

    Attributes are those of :func:`fastinit.train`. Either ``iterations`` or ``epochs`` is None.
    """

    iterations: int | None = None
    epochs: int | None = None
    shuffle: AnyOrder = True
    sample_weight: ArrayLike | None = None
    class_weight: Any = None
    validation: tuple[ArrayLike, ArrayLike] | None = None
    validate_every: int | None = None
    monitor: Any = "cost"
    tol: float | None = None
    n_iter_no_change: int | None = None

    def iterations_of(self, batch_size: int | None, n_examples: int) -> int:
        """Return the number of updates of a run."""
        if self.iterations is not None:
            return self.iterations
        assert self.epochs is not None
        return self.epochs * updates_per_epoch(batch_size, n_examples)

    @property
    def keywords(self) -> dict[str, Any]:
        """The keywords of :func:`fastinit.train` other than the number of iterations."""
        names = (
            "shuffle", "sample_weight", "class_weight", "validation", "validate_every", "monitor",
            "tol", "n_iter_no_change",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, eq=False)
class Data:
    """What all runs of a comparison share: training and test data, settings and targets."""

    X: Array
    Y: Array
    test: tuple[Array, Array] | None
    training: Training
    target_cost: float | None = None
    target_accuracy: float | None = None

    def iterations_of(self, batch_size: int | None) -> int:
        """Return the number of updates of a run."""
        return self.training.iterations_of(batch_size, self.X.shape[1])

    def points_of(self, batch_size: int | None) -> NDArray[np.intp]:
        """Return the iterations whose costs are stored for a run."""
        return points_of(self.iterations_of(batch_size), batch_size, self.X.shape[1])


@dataclass(frozen=True, eq=False)
class Task:
    """Runs of one network that are trained as one stack.

    Attributes
    ----------
    network : Network
    optimizers : tuple of Optimizer
        One for each run, all of one class.
    batch_size : int or None
    starts : ndarray of shape (k, n_parameters), the network's dtype
    """

    network: Network
    optimizers: tuple[Optimizer, ...]
    batch_size: int | None
    starts: Matrix


def updates_per_epoch(batch_size: int | None, n_examples: int) -> int:
    """Return the number of updates in one pass over the examples."""
    return 1 if batch_size is None else -(-n_examples // min(batch_size, n_examples))


# --- columns out ------------------------------------------------------------------------------


@dataclass(eq=False)
class Block:
    """The outcomes of k runs of one network.

    Attributes
    ----------
    columns : dict of str to ndarray of shape (k,)
        Those of :data:`COLUMNS`.
    starts, thetas : ndarray of shape (k, n_parameters)
        The parameters before and after the training.
    points : ndarray of shape (n_points,), intp
        The iterations whose costs are stored.
    costs : ndarray of shape (k, n_points), float64
        The costs there; NaN from the end of a run on. With mini-batches each is the mean of the
        epoch that ends with this iteration, weighted by the sizes of the batches.
    """

    columns: dict[str, NDArray[Any]]
    starts: Matrix
    thetas: Matrix
    points: NDArray[np.intp]
    costs: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.thetas)

    def select(self, rows: ArrayLike) -> "Block":
        """Return the block of some of its runs."""
        chosen = np.asarray(rows)
        columns = {name: column[chosen] for name, column in self.columns.items()}
        return Block(
            columns, self.starts[chosen], self.thetas[chosen], self.points, self.costs[chosen]
        )

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Whether each run came to its end, as opposed to being stopped by a callback."""
        complete: NDArray[np.bool_] = self.columns["stopped"] != STOPPED.index("callback")
        return complete


def run_task(
    task: Task,
    data: Data,
    threads: int | None = None,
    callback: Callable[[Stack], Any] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Block:
    """Train the runs of a task and return their outcomes.

    Parameters
    ----------
    task : Task
    data : Data
    threads : int, optional
        As in :func:`fastinit.train`; the outcomes do not depend on it.
    callback : callable, optional
        Called with the stack about every 20 ms; a true value ends the training. With a target
        accuracy it is called every so many iterations instead.
    stop : callable, optional
        Called about every 0.1 s while the runs are judged after the training; a true value stops
        the judgement.

    Returns
    -------
    Block

    Raises
    ------
    fastinit.comparison.local_search.StoppedError
        If `stop` returned a true value.
    """
    network, starts, training = task.network, task.starts, data.training
    n_examples = data.X.shape[1]
    iterations = data.iterations_of(task.batch_size)
    threads = usable_cores() if threads is None else threads
    search = _Search(task, data, iterations, threads)
    began = perf_counter()
    stack = train(
        network,
        starts.copy(),
        data.X,
        data.Y,
        optimizer=task.optimizers,
        iterations=iterations,
        batch_size=task.batch_size,
        **training.keywords,
        threads=threads,
        callback=search.wrapped(callback),
        callback_every=search.every,
    )
    seconds = perf_counter() - began
    thetas = stack.theta
    done = np.array(stack.iterations, np.int64)
    diverged_at = np.array([-1 if at is None else at for at in stack.diverged_at], np.int64)
    best = [run.best_iteration for run in stack]
    # The weights of samples and of classes; scores have none.
    weights = sample_weight_of(stack)
    start_costs, start_scores = costs_and_scores(network, starts, data.X, data.Y, weights, threads)
    costs, scores = costs_and_scores(network, thetas, data.X, data.Y, weights, threads)
    final_costs = np.where(diverged_at < 0, costs, np.nan)
    # Parameters that were set back to the best ones are those of an earlier iteration.
    at_end = np.array([n if b is None else b for n, b in zip(done.tolist(), best, strict=True)])
    # A long training may have stopped early: only what was recorded takes memory.
    per_epoch = updates_per_epoch(task.batch_size, n_examples)
    longest = min(-(-int(done.max()) // per_epoch) * per_epoch, iterations)
    curve, after = _curve(_recorded(stack, longest), task.batch_size, n_examples)
    points = data.points_of(task.batch_size)
    curves = np.full((len(starts), len(points)), np.nan)
    kept = kept_points(-(-iterations // per_epoch))
    kept = kept[kept < len(after)]
    curves[:, : len(kept)] = curve[:, kept]
    columns = {
        "iterations": done,
        "diverged_at": diverged_at,
        "stopped": _stopped(stack),
        "start_cost": start_costs,
        "final_cost": final_costs,
        "train_score": scores,
        **_test_columns(network, thetas, data.test, threads),
        "losses_p_value": _losses_p_values(network, thetas, data),
        "symmetric": symmetric_layers(network, thetas) @ _powers(network),
        "saturated": saturated_shares(network, starts, data.X),
        "iterations_to_cost": _iterations_to_cost(
            curve, after, final_costs, at_end, data.target_cost
        ),
        "iterations_to_accuracy": search.ended(start_scores, scores, at_end),
        "seconds": np.full(len(starts), seconds / len(starts)),
    }
    # Runs that a callback ended are not searched for a lower cost, so that Ctrl-C returns soon.
    ended = columns["stopped"] == STOPPED.index("callback")
    columns |= judge_courses(
        network,
        thetas,
        data.X,
        data.Y,
        points,
        curves,
        iterations=done,
        passes=np.where(ended, 0, done // per_epoch),
        diverged_at=diverged_at,
        l2=[getattr(each, "l2", 0.0) for each in task.optimizers],
        sample_weight=weights,
        stop=stop,
    )
    typed = {name: np.asarray(columns[name], dtype) for name, dtype in COLUMNS.items()}
    return Block(typed, starts, thetas, points, curves)


def run_elsewhere(task: Task, data: Data, threads: int, version: str) -> tuple[str, Block]:
    """Train the runs of a task in another process.

    Parameters
    ----------
    task, data, threads
        As in :func:`run_task`.
    version : str
        The version of fastinit in the calling process.

    Returns
    -------
    level : str
        The CPU level of the kernels of this process, on which the last bits depend.
    block : Block
        Without ``starts``, which the caller has.

    Raises
    ------
    RuntimeError
        If this process has another version of fastinit.
    """
    from fastinit import __version__  # the package imports this module

    if version != __version__:
        raise RuntimeError(
            f"executor: expected fastinit {version} in its workers, as in the calling process; "
            f"got {__version__}"
        )
    block = run_task(task, data, threads)
    return level, replace(block, starts=block.starts[:0])


class _Search:
    """The search for the iteration at which each run first reaches the target accuracy."""

    def __init__(self, task: Task, data: Data, iterations: int, threads: int) -> None:
        self.network, self.data, self.threads = task.network, data, threads
        self.found = np.full(len(task.starts), -1, np.int64)
        self.seen = np.zeros(len(task.starts), np.int64)
        self.target = math.inf if data.target_accuracy is None else data.target_accuracy
        self.stride = stride(iterations)
        # Iterations between two calls; at most 1000, because callbacks also stop the training.
        self.every = None if data.target_accuracy is None else math.gcd(self.stride, 1000)

    def wrapped(self, callback: Callable[[Stack], Any] | None) -> Callable[[Stack], Any] | None:
        """Return the callback of the training, which scores runs and calls ``callback``."""
        if self.every is None:
            return callback

        def called(stack: Stack) -> bool:
            self.look(stack)
            return bool(callback is not None and callback(stack))

        return called

    def look(self, stack: Stack) -> None:
        """Score the runs that have reached a new multiple of the stride."""
        done = np.array(stack.iterations, np.int64)
        rows = np.flatnonzero((self.found < 0) & (done > self.seen) & (done % self.stride == 0))
        if len(rows):
            self.seen[rows] = done[rows]
            thetas = np.ascontiguousarray(stack.theta[rows])
            _, scores = costs_and_scores(
                self.network, thetas, self.data.X, self.data.Y, None, self.threads
            )
            reached = rows[scores >= self.target]
            self.found[reached] = done[reached]

    def ended(
        self,
        start_scores: NDArray[np.float64],
        scores: NDArray[np.float64],
        at_end: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Return the iterations that were found, with the initial and final parameters included."""
        earlier = (self.found < 0) | (at_end < self.found)
        found = np.where((scores >= self.target) & earlier, at_end, self.found)
        return np.where(start_scores >= self.target, 0, found)


def _stopped(stack: Stack) -> NDArray[np.int8]:
    """Return the code of why each run ended; the rules of L-BFGS count as a tolerance."""
    codes = {name: code for code, name in enumerate(STOPPED)}
    return np.array([codes.get(run.stopped_by, codes["tol"]) for run in stack], np.int8)


def _powers(network: Network) -> NDArray[np.int64]:
    """Return the bit of each hidden layer; layers beyond the 62nd share a bit."""
    powers: NDArray[np.int64] = 1 << np.minimum(np.arange(network.n_layers - 1), 62)
    return powers


def _test_columns(
    network: Network, thetas: Matrix, test: tuple[Array, Array] | None, threads: int
) -> dict[str, NDArray[np.float64]]:
    """Return cost and score on the test data, and the standard error of the gain; NaN without any.

    The gain is the difference of the cost to that of the best constant output.
    """
    names = ("test_cost", "test_score", "test_gain_error")
    if test is None:
        return {name: np.full(len(thetas), np.nan) for name in names}
    costs, scores = costs_and_scores(network, thetas, *test, None, threads)
    errors = np.where(np.isfinite(costs), _errors(network, thetas, *test), np.nan)
    return dict(zip(names, (costs, scores, errors), strict=True))


def _losses_p_values(network: Network, thetas: Matrix, data: Data) -> NDArray[np.float64]:
    """Return the p-value of each run for larger losses of test than of training examples.

    That of the one-sided rank-sum test, by the normal approximation; NaN for classifiers, whose
    accuracies are compared, and for fewer than ``MIN_TEST`` examples of either kind. Equal losses
    count as if that of the test example were smaller.
    """
    p_values = np.full(len(thetas), np.nan)
    n = data.X.shape[1]
    m = 0 if data.test is None else data.test[0].shape[1]
    if network.classifies or data.test is None or min(n, m) < MIN_TEST:
        return p_values
    for part in _parts(network, len(thetas), n + m):
        test, train = (
            example_costs(network, thetas[part], *own) for own in (data.test, (data.X, data.Y))
        )
        order = np.argsort(np.concatenate([test, train], axis=1), axis=1, kind="stable")
        # The number of pairs in which the test example has the larger loss.
        larger = np.where(order < m, np.arange(n + m), 0).sum(axis=1) - m * (m - 1) / 2
        deviations = (larger - n * m / 2 - 0.5) / math.sqrt(n * m * (n + m + 1) / 12)
        p_values[part] = [math.erfc(each / math.sqrt(2)) / 2 for each in deviations.tolist()]
    return p_values


def _errors(network: Network, thetas: Matrix, X: Array, Y: Array) -> NDArray[np.float64]:
    """Return the standard error of the gain of each network over the best constant output, (k,).

    The losses of both belong to the same examples. NaN for one example.
    """
    n = X.shape[1]
    errors = np.full(len(thetas), np.nan)
    if n == 1:
        return errors
    constant = _example_losses(network.output, _constant_logits(network.output, Y), Y)
    for part in _parts(network, len(thetas), n):
        with np.errstate(all="ignore"):
            gains = constant - example_costs(network, thetas[part], X, Y)
            errors[part] = gains.std(axis=1, ddof=1) / math.sqrt(n)
    return errors


def _parts(network: Network, k: int, n: int) -> list[slice]:
    """Return slices of a stack of k networks whose outputs for n examples fit into memory."""
    size = max(1, MOST_OUTPUTS // (n * network.sizes[-1]))
    return [slice(start, start + size) for start in range(0, k, size)]


def example_costs(network: Network, thetas: Matrix, X: Array, Y: Array) -> NDArray[np.float64]:
    """Return the loss of each example, of shape (k, n_examples).

    Its mean is the cost, except that losses which saturate or clip are replaced by those that do
    not.
    """
    # From logits: losses of probabilities that are rounded to 0 are infinite.
    logits = variant(network, output="identity", loss=None)
    Z = outputs_of(logits, thetas, X).astype(np.float64)
    with np.errstate(all="ignore"):
        return _example_losses(network.output, Z, Y)


def example_scores(network: Network, thetas: Matrix, X: Array, Y: Array) -> NDArray[np.float64]:
    """Return what each example contributes to the score, of shape (k, n_examples).

    The mean over the examples is the accuracy, or R2 minus 1.
    """
    outputs = outputs_of(network, thetas, X)
    if network.output == "sigmoid":
        return np.asarray(((outputs > 0.5) == Y).mean(axis=1))
    if network.output == "softmax":
        return np.asarray(outputs.argmax(axis=1) == Y.argmax(axis=0), np.float64)
    labels = np.asarray(Y, np.float64)
    total = np.square(labels - labels.mean(axis=1, keepdims=True)).mean(axis=1)
    with np.errstate(all="ignore"):
        return np.asarray(-(np.square(labels - outputs) / total[:, None]).mean(axis=1))


def _constant_logits(output: str, Y: Array) -> NDArray[np.float64]:
    """Return the logits of the best constant output, of shape (1, n_outputs, 1)."""
    mean: NDArray[np.float64] = np.asarray(Y, np.float64).mean(axis=1)[None, :, None]
    if output == "identity":
        return mean
    # The logit of an output that is always 0 is large instead of infinite.
    logs: NDArray[np.float64] = np.log(np.maximum(mean, 1e-300))
    return logs - np.log(np.maximum(1 - mean, 1e-300)) if output == "sigmoid" else logs


def _example_losses(output: str, Z: NDArray[np.float64], Y: Array) -> NDArray[np.float64]:
    """Return the loss of each example, (k, n_examples), from the logits (k, n_outputs, n)."""
    total: NDArray[np.float64]
    if output == "softmax":
        highest = Z.max(axis=1)
        total = np.log(np.exp(Z - highest[:, None]).sum(axis=1)) + highest - (Y * Z).sum(axis=1)
        return total
    if output == "identity":
        losses = (Z - Y) ** 2 / 2
    elif output == "exponential":
        losses = np.exp(Z) - Y * Z
    else:
        losses = np.maximum(Z, 0) - Y * Z + np.log1p(np.exp(-np.abs(Z)))
    total = losses.sum(axis=1)
    return total


# --- cost curves --------------------------------------------------------------------------------


def stride(n: int) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, ... with at most POINTS multiples below n."""
    step = 1
    while n > POINTS * step:
        # Round numbers, so that every thousandth iteration is stored.
        step = step * 5 // 2 if str(step).startswith("2") else 2 * step
    return step


def kept_points(n: int) -> NDArray[np.intp]:
    """Return the indices that are stored of a curve of n costs: multiples of the stride, and n - 1.

    Examples
    --------
    >>> kept_points(15_000)[[0, 1, 2, -2, -1]]
    array([    0,    50,   100, 14950, 14999])
    """
    points = np.arange(0, n, stride(n))
    return np.append(points, n - 1) if n and points[-1] != n - 1 else points


def points_of(iterations: int, batch_size: int | None, n_examples: int) -> NDArray[np.intp]:
    """Return the iterations whose costs are stored for a run.

    With mini-batches these are the last ones of epochs, and the last of all.
    """
    per_epoch = updates_per_epoch(batch_size, n_examples)
    kept = kept_points(-(-iterations // per_epoch))
    return np.minimum((kept + 1) * per_epoch, iterations) - 1


def _recorded(stack: Stack, iterations: int) -> NDArray[np.float64]:
    """Return the costs of all iterations, (k, iterations); NaN from the end of a run on."""
    costs = np.full((len(stack), iterations), np.nan)
    for row, run in zip(costs, stack, strict=True):
        done = min(run.iterations, iterations)
        row[:done] = run.costs[:done]
    return costs


def _curve(
    costs: NDArray[np.float64], batch_size: int | None, n_examples: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the cost curves, and the number of iterations after which each cost is known.

    With full batches these are the costs themselves: that of iteration i is the cost of the
    parameters after i iterations. With mini-batches they are the means of the epochs, weighted by
    the sizes of the batches, which are known at the end of the epoch. The last epoch may be
    incomplete.
    """
    iterations = costs.shape[1]
    per_epoch = updates_per_epoch(batch_size, n_examples)
    if batch_size is None or per_epoch == 1:
        return costs, np.arange(iterations)
    sizes = np.full(per_epoch, float(batch_size))
    sizes[-1] = n_examples - sizes[:-1].sum()
    full, rest = divmod(iterations, per_epoch)
    curve = np.empty((len(costs), full + (rest > 0)))
    with np.errstate(over="ignore"):
        epochs = costs[:, : full * per_epoch].reshape(len(costs), full, per_epoch)
        curve[:, :full] = (epochs * sizes).sum(axis=2) / sizes.sum()
        if rest:
            last = costs[:, full * per_epoch :] * sizes[:rest]
            curve[:, full] = last.sum(axis=1) / sizes[:rest].sum()
    return curve, np.minimum(np.arange(1, curve.shape[1] + 1) * per_epoch, iterations)


def _iterations_to_cost(
    curve: NDArray[np.float64],
    after: NDArray[np.int64],
    final_costs: NDArray[np.float64],
    at_end: NDArray[np.int64],
    target: float | None,
) -> NDArray[np.int64]:
    """Return the numbers of iterations after which the cost was first at most the target."""
    # The final cost is the last entry of each curve.
    costs = np.column_stack([curve, final_costs])
    known = np.append(after, 0)
    if target is None:
        return np.full(len(costs), -1)
    reached = costs <= target
    first = reached.argmax(axis=1)
    found = np.where(first < len(after), known[first], at_end)
    # Parameters that were set back to the best ones are those of an earlier iteration.
    found = np.where(reached[:, -1], np.minimum(found, at_end), found)
    return np.where(reached.any(axis=1), found, -1)


# --- one run ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Trial(_Summarized):
    """One cell and the outcome of its run.

    Attributes
    ----------
    cell : Cell
    start, theta : ndarray of shape (n_parameters,)
        The parameters before and after the training.
    points : ndarray of shape (n_points,), intp
        The iterations whose costs are stored: evenly spaced ones, and the last. With mini-batches
        these are the last iterations of epochs.
    costs : ndarray of shape (n_points,), float64
        The cost before the update of each of these iterations; with mini-batches the mean cost of
        the epoch. NaN from the end of the run on.
    outcome : dict
        The numbers of the run, by the names of the columns of :class:`Block`.
    verdict : str
        A description of the outcome in words.
    """

    cell: Cell
    start: Array
    theta: Array
    points: NDArray[np.intp]
    costs: NDArray[np.float64]
    outcome: Mapping[str, Any] = field(repr=False)
    verdict: str

    @property
    def network(self) -> Network:
        """The network of the cell."""
        return self.cell.network

    @property
    def final_cost(self) -> float:
        """The training cost of the final parameters; NaN if the run diverged."""
        return float(self.outcome["final_cost"])

    @property
    def iterations(self) -> int:
        """Number of complete iterations."""
        return int(self.outcome["iterations"])

    @property
    def diverged_at(self) -> int | None:
        """The iteration at which the run diverged, or None."""
        return _integer(self.outcome["diverged_at"])

    @property
    def course(self) -> str:
        """How the cost ended: one of :data:`fastinit.comparison.courses.COURSES`."""
        return COURSES[self.outcome["course"]]

    @property
    def converged(self) -> bool:
        """Whether the run has converged."""
        return self.course == "converged"

    @property
    def train_score(self) -> float:
        """Accuracy or R2 on the training data: see :meth:`fastinit.Network.score`."""
        return float(self.outcome["train_score"])

    @property
    def test_score(self) -> float | None:
        """Accuracy or R2 on the test data; None without any."""
        return _number(self.outcome["test_score"])

    @property
    def train_accuracy(self) -> float | None:
        """The training accuracy; None if the network does not classify."""
        return self.train_score if self.network.classifies else None

    @property
    def test_accuracy(self) -> float | None:
        """The test accuracy; None without test data or if the network does not classify."""
        return self.test_score if self.network.classifies else None

    @property
    def test_cost(self) -> float | None:
        """The cost on the test data; None without any."""
        return _number(self.outcome["test_cost"])

    @property
    def iterations_to_cost(self) -> int | None:
        """Number of iterations until the target cost was reached; None if it was not, or not given.

        The cost is checked at every iteration and at the end.
        """
        return _integer(self.outcome["iterations_to_cost"])

    @property
    def iterations_to_accuracy(self) -> int | None:
        """Number of iterations until the target accuracy was reached, as for the cost.

        The accuracy is checked up to 500 times in a run and at the end.
        """
        return _integer(self.outcome["iterations_to_accuracy"])

    @property
    def symmetric(self) -> bool:
        """Whether all units of some hidden layer are identical after the training."""
        return bool(self.outcome["symmetric"])

    @property
    def seconds(self) -> float:
        """Wall-clock time of the training; runs of one stack have equal shares of its time."""
        return float(self.outcome["seconds"])

    def _summary(self) -> dict[str, str]:
        seed = self.cell.seed
        facts = {
            "scheme": self.cell.scheme,
            "seed": "default" if seed is None else as_code(seed),
            "network": str(self.network),
            "optimizer": str(self.cell.optimizer),
            "iterations": f"{self.iterations:,}",
            "final cost": f"{self.final_cost:.6g}",
        }
        for name, score in (("train", self.train_score), ("test", self.test_score)):
            if score is not None:
                facts[name] = (
                    f"accuracy {score:.1%}" if self.network.classifies else f"R2 {score:.4g}"
                )
        return facts | {"verdict": self.verdict, "time": f"{self.seconds:.3g} s"}


def _integer(value: Any) -> int | None:
    return None if value < 0 else int(value)


def _number(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)


# --- metrics ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """A measure of a run, computed from its columns.

    Attributes
    ----------
    name : str
        As in the rows of :meth:`Comparison.records`, such as "test_accuracy".
    higher_is_better : bool
    compute : callable
        Takes the columns and returns an array of the same length.
    examples : callable or None
        Takes a network, parameters of shape (k, n_parameters), ``X`` and ``Y``, and returns what
        each example contributes to the measure, (k, n_examples): their mean is the measure, but
        for a constant. None for measures of the training data, all of whose examples were used.
    """

    name: str
    higher_is_better: bool
    compute: Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float64]]
    examples: Callable[[Network, Matrix, Array, Array], NDArray[np.float64]] | None = None

    @property
    def label(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ").replace(" r2", " R2").replace("rmse", "RMSE")


def metrics_of(network: Network, Y: Array, test: tuple[Array, Array] | None) -> list[Metric]:
    """Return the measures that fit the output of a network, the most important first.

    Accuracy and log loss for "sigmoid" and "softmax"; R2 and root mean squared error for
    "identity"; R2 and mean Poisson deviance, as in ``sklearn.metrics.mean_poisson_deviance``, for
    "exponential"; always the cost. The measures of the test data are first, if there are any, and
    then the final cost.
    """
    found = []
    if test is not None:
        found += _metrics(network, "test", "test_cost", test[1])
    *others, cost = _metrics(network, "train", "final_cost", Y)
    return [*found, cost, *others]


def _metrics(network: Network, part: str, cost: str, labels: Array) -> list[Metric]:
    """Return the measures on the training or test data; the last is the cost."""
    n_outputs = network.sizes[-1]
    score = Metric(scores_named(network, part), True, _column(f"{part}_score"), example_scores)
    if network.output == "identity":
        other = Metric(f"{part}_rmse", False, _rmse(cost, n_outputs), _example_rmse)
    elif network.output == "exponential":
        deviance = _scaled_costs(2 / n_outputs)
        other = Metric(f"{part}_deviance", False, _deviance(cost, labels), deviance)
    else:
        other = Metric(f"{part}_log_loss", False, _column(cost), example_costs)
    found = [score, other, Metric(cost, False, _column(cost), example_costs)]
    return found if part == "test" else [replace(each, examples=None) for each in found]


def _scaled_costs(factor: float) -> Callable[..., NDArray[np.float64]]:
    return lambda *arrays: factor * example_costs(*arrays)


def _example_rmse(network: Network, thetas: Matrix, X: Array, Y: Array) -> NDArray[np.float64]:
    # The root is replaced by its tangent.
    squares = 2 / network.sizes[-1] * example_costs(network, thetas, X, Y)
    root = np.sqrt(squares.mean(axis=1, keepdims=True))
    return np.asarray(squares / np.where(root > 0, 2 * root, 1.0) + root / 2)


def _column(name: str) -> Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float64]]:
    return lambda columns: columns[name]


def _rmse(cost: str, n_outputs: int) -> Callable[[Mapping[str, NDArray[Any]]], Any]:
    # The cost is half the squared error, summed over the outputs.
    return lambda columns: np.sqrt(2 * columns[cost] / n_outputs)


def _deviance(cost: str, labels: Array) -> Callable[[Mapping[str, NDArray[Any]]], Any]:
    # 2 (Y log(Y / A) - Y + A), where the cost is A - Y log A, both averaged over the examples.
    Y = np.asarray(labels, np.float64)
    least = float(np.sum(Y - Y * np.log(np.where(Y > 0, Y, 1))) / Y.shape[1])
    return lambda columns: 2 * (columns[cost] - least) / Y.shape[0]


def scores_named(network: Network, part: str) -> str:
    """Return the name of the score of a network in tables: accuracy or R2."""
    return f"{part}_{'accuracy' if network.classifies else 'r2'}"
