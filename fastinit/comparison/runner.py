"""compare(): train from several schemes, in every combination of the axes of a grid."""

# help() and editors then show the names of types, such as ArrayLike, not what they stand for.
from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.comparison.grid import (
    AnyScheme,
    Cell,
    Grid,
    as_code,
    check_size,
    grid_of,
    labelled,
    plain,
    reproducible,
)
from fastinit.comparison.results import Comparison
from fastinit.comparison.tables import rich_table
from fastinit.comparison.trials import Block, Data, Task, Training, run_task
from fastinit.initializers.target import Seed
from fastinit.kernels import usable_cores
from fastinit.training.loop import AnyOrder, train
from fastinit.training.network import Array, Matrix, Network
from fastinit.training.optimizers import LearningRate, Optimizer
from fastinit.training.progress import Display
from fastinit.training.run import Interrupted, Run, Stack
from fastinit.validation import (
    MOST_ITERATIONS,
    as_float,
    check_integer,
    is_sequence,
)

if TYPE_CHECKING:
    from fastinit.comparison.store import Writer

# Multiply-adds of the training of one stack, about a quarter of a second: what a killed process
# loses at most in each thread, unless a single run takes longer.
STACK_WORK = 5e9
# What an iteration costs regardless of the size of the network, in multiply-adds.
ITERATION_WORK = 5e3
# The largest number of tasks that an executor holds: more would only take memory.
MOST_QUEUED = 256


def compare(
    X: ArrayLike,
    Y: ArrayLike,
    network: Network,
    schemes: AnyScheme | Mapping[str, AnyScheme],
    *,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    seed: Seed | Sequence[int] = None,
    depth: int | Sequence[int] | None = None,
    width: int | Sequence[int] | None = None,
    activation: str | Sequence[str] | None = None,
    optimizer: str | Optimizer | Sequence[str | Optimizer] | None = None,
    learning_rate: LearningRate | Any | None = None,
    batch_size: int | Sequence[int | None] | None = None,
    scale: float | Sequence[float] | Any = 1.0,
    n_samples: int | None = None,
    iterations: int | None = None,
    epochs: int | None = None,
    shuffle: AnyOrder = True,
    sample_weight: ArrayLike | None = None,
    class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    validate_every: int | None = None,
    monitor: Literal["cost", "score"] = "cost",
    tol: float | None = None,
    n_iter_no_change: int | None = None,
    target_cost: float | None = None,
    target_accuracy: float | None = None,
    store: str | os.PathLike[str] | None = None,
    shard: tuple[int, int] | None = None,
    executor: Executor | Any | None = None,
    threads: int | None = None,
    progress: bool | Callable[[Comparison], Any] = False,
    callback: Callable[[str, Run], Any] | None = None,
) -> Comparison:
    """Train a network from several initialisations and compare the results.

    Each run starts from one scheme and one seed. ``seed``, ``depth``, ``width``, ``activation``,
    ``optimizer``, ``learning_rate``, ``batch_size`` and ``scale`` are the axes of a grid: each
    takes one value or a sequence of different values, and every combination is run.

    Parameters
    ----------
    X : array_like of shape (n_features, n_examples)
        Training data.
    Y : array_like
        Labels, as the output of the network takes them: see :class:`fastinit.Network`.
    network : Network
        The network to train. ``depth``, ``width`` and ``activation`` replace its own settings.
    schemes : scheme, sequence of schemes, or mapping of str to scheme
        A scheme is a name from :func:`fastinit.initializers.names`, an initialiser such as
        ``functools.partial(fi.normal, std=0.1)``, or, inside a sequence or a mapping, a list with
        one of these per layer. The keys of a mapping are the labels of the schemes in the result.
    test : (X_test, Y_test), optional
        Test data, on which claims about accuracy are made.
    seed : int, sequence of int, SeedSequence, Generator, RandomState or None
        The same seeds are used for every scheme. One integer is drawn from a Generator or a
        RandomState. By default each scheme has its own seed: ``lesson.random`` draws from a copy of
        NumPy's global random state, the seed of ``lesson.he`` is 3, as in the lesson, and that of
        all others is 0.
    depth, width : int or sequence of int, optional
        The number of hidden layers and their number of units; those of the network by default. If
        only ``depth`` is given, all hidden layers of the network must have the same width. If only
        ``width`` is given, the network must have hidden layers; all of them get that width.
    activation : str or sequence of str, optional
        Activation of the hidden layers, as in :class:`fastinit.Network`.
    optimizer : str, Optimizer or sequence of these, optional
        "sgd", "momentum", "nesterov", "adam", "adamw" or "lbfgs" with their default settings, or
        one of :mod:`fastinit.optimizers`. By default, gradient descent.
    learning_rate : float, callable or sequence of these, optional
        Learning rates or schedules, in place of those of the optimisers. With `n_samples` also a
        distribution: see there.
    batch_size : int, None or sequence of these, optional
        Examples per update; None uses all examples for every update. The order of the examples is
        the same in all runs: that of :func:`fastinit.train` with ``seed=0``.
    scale : float or sequence of float, default 1
        Factors by which the initial weights, not the biases, are multiplied. With `n_samples` also
        a distribution.
    n_samples : int, optional
        Run only so many cells of the grid: the first ones of a quasi-random order in which the
        combinations of the axes are spread evenly, and in which each combination is run with every
        scheme before the next one. `learning_rate` and `scale` may then be distributions with a
        method ``ppf``, such as ``scipy.stats.loguniform(0.01, 1)``.
    iterations : int, default 15000
        Number of updates of each run.
    epochs : int, optional
        Number of passes over the examples. Pass either `epochs` or `iterations`.
    shuffle, sample_weight, class_weight, validation, validate_every, monitor, tol, n_iter_no_change
        As in :func:`fastinit.train`.
    target_cost, target_accuracy : float, optional
        Record the number of iterations after which each run first had a cost of at most
        ``target_cost`` or a training accuracy of at least ``target_accuracy``. The cost is checked
        at every iteration, the accuracy up to 500 times in a run; both also at the end.
    store : path-like, optional
        An SQLite file, created if it does not exist (:class:`fastinit.comparison.store.Store`).
        Finished runs are written to it, and runs that it already contains are not trained again.
        Several processes may share it, on a local disk: SQLite's locks are not reliable on network
        drives. There, write one file for each job and merge them with
        :func:`fastinit.comparison.merge`. Short runs of one network are trained and written
        together, about a quarter of a second of training at a time.
    shard : (int, int), optional
        ``(i, n)`` runs only the i-th of n parts of the grid, counted from 1. The parts are disjoint
        and the same in every process, so that n jobs without a common scheduler can share the work.
    executor : concurrent.futures.Executor or dask.distributed.Client, optional
        Where the runs are trained. By default, in threads of this process. Tasks are data only:
        networks, initial parameters and settings. The store stays with the caller.
    threads : int, optional
        Maximum number of threads; all usable cores by default. With an executor, the threads of
        each task, 1 by default. Runs are trained in parallel, unless ``callback`` is given. The
        results do not depend on it.
    progress : bool or callable, default False
        True shows running medians and the remaining time in a notebook or if standard error is a
        terminal; this requires rich. A callable is called as ``progress(comparison)`` whenever runs
        are finished, in the calling thread.
    callback : callable, optional
        Called as ``callback(scheme, run)`` about every 20 ms while a run is trained, one run after
        another. If it returns a true value, this run ends; it is not written to the store. Not with
        an executor.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        For invalid arguments, before anything is trained or written; also if the file of ``store``
        is not a store or is damaged.
    OSError
        If the store cannot be read or written; runs that it contains are kept.
    Interrupted
        On Ctrl-C: a KeyboardInterrupt whose attribute ``result`` has the finished runs.

    Notes
    -----
    The result of a run does not depend on the other cells of the grid, on ``threads`` or on
    ``store``.

    Large random weights amplify rounding errors: changing one input by one unit in the last place
    moves the lesson's cost at iteration 1000, 0.386, to anywhere from 0.370 to 0.425. Accuracies
    agree between machines to about 0.01 there; costs do not.

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, X_test, Y_test = fi.lesson.load_dataset()
    >>> net = fi.Network([2, 10, 5, 1])
    >>> schemes = ["zeros", "lesson.he"]
    >>> result = fi.compare(X, Y, net, schemes, test=(X_test, Y_test), iterations=1000)
    >>> [row["scheme"] for row in result.table()]
    ['zeros', 'lesson.he']
    >>> grid = fi.compare(
    ...     X, Y, net, ["he_normal", "glorot_uniform"], seed=range(5), learning_rate=[0.1, 0.5],
    ...     iterations=500, target_cost=0.5,
    ... )
    >>> len(grid)
    20
    >>> [row["runs"] for row in grid.summary("learning_rate")]
    [5, 5, 5, 5]
    """
    if not isinstance(network, Network):
        raise TypeError(f"network: expected a Network; got {type(network).__name__}")
    if not (isinstance(progress, bool) or callable(progress)):
        raise TypeError(f"progress: expected a bool or a callable; got {type(progress).__name__}")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: expected a callable; got {type(callback).__name__}")
    if callback is not None and executor is not None:
        raise ValueError("callback: expected none with an executor; got one")
    axes = {
        "seed": seed, "depth": depth, "width": width, "activation": activation,
        "optimizer": optimizer, "learning_rate": learning_rate, "batch_size": batch_size,
        "scale": scale,
    }  # fmt: skip
    check_size({"schemes": schemes, **axes} if n_samples is None else {"schemes": schemes})
    by_label = labelled(schemes)
    if iterations is not None and epochs is not None:
        raise TypeError("epochs: pass either epochs or iterations, not both")
    if epochs is not None:
        epochs = check_integer("epochs", epochs, 0, MOST_ITERATIONS)
    else:
        iterations = 15_000 if iterations is None else iterations
        iterations = check_integer("iterations", iterations, 0, MOST_ITERATIONS)
    X, Y, test = _checked_data(network, X, Y, test)
    target_cost, target_accuracy = _checked_targets(network, target_cost, target_accuracy)
    training = Training(
        iterations, epochs, shuffle, _kept(sample_weight), class_weight,
        None if validation is None else validation, validate_every, monitor, tol, n_iter_no_change,
    )  # fmt: skip
    data = Data(X, Y, test, training, target_cost, target_accuracy)
    if threads is not None:
        threads = check_integer("threads", threads, 1)
    axes["seed"] = reproducible(seed)
    cells = grid_of(network, by_label, **axes, n_samples=n_samples)
    _check_trainings(cells, by_label, data)
    settings = {
        name: value if isinstance(value, range) else plain(value)
        for name, value in (
            *axes.items(),
            ("n_samples", n_samples), ("iterations", iterations), ("epochs", epochs),
            *((n, v) for n, v in training.keywords.items() if n not in ("shuffle", "monitor")),
            ("target_cost", target_cost), ("target_accuracy", target_accuracy),
        )
        if value is not None
    }  # fmt: skip
    for name, default in (("shuffle", True), ("monitor", "cost")):
        if getattr(training, name) is not default and getattr(training, name) != default:
            settings[name] = getattr(training, name)
    if scale == 1.0:
        del settings["scale"]
    result = Comparison(data, cells, network, settings)
    places = _places(len(cells), shard)
    # In random order the finished runs of an unfinished comparison are a fair sample of it, and
    # processes that share a store seldom train the same run at the same time.
    if store is not None:
        np.random.default_rng().shuffle(places)
    # With a callback, each run is trained alone, so that it can be ended alone.
    cores = usable_cores() if threads is None else threads
    most = 1 if callback is not None else len(places) // (4 * cores)
    stacks = _stacks(result, places, most)
    if store is not None:
        order = np.random.default_rng().permutation(len(stacks))
        stacks = [stacks[i] for i in order]
    try:
        with ExitStack() as contexts:
            runner = _Runner(
                result,
                by_label,
                None if store is None else contexts.enter_context(_opened(store, result)),
                contexts.enter_context(
                    Display(
                        len(places),
                        lambda: rich_table(result.summary(), compact=True),
                        progress is True,
                    )
                ),
                progress if callable(progress) else lambda _: None,
                callback,
            )
            runner.finish(stacks, executor, threads)
    except KeyboardInterrupt:
        raise Interrupted(result, f"{len(result)} of {len(places)} runs finished") from None
    return result


# --- checks of arguments ------------------------------------------------------------------------


def _checked_data(
    network: Network, X: Any, Y: Any, test: Any
) -> tuple[Array, Array, tuple[Array, Array] | None]:
    """Return copies of the data that cannot be written to.

    Copies, because what is trained must remain what the key of its result says, also if a callback
    changes the arrays that were given.
    """
    X = network.check_X(X).copy()
    Y = network.check_Y(Y, X).copy()
    if test is not None:
        if not isinstance(test, (tuple, list)):
            raise TypeError(f"test: expected a pair (X_test, Y_test); got {type(test).__name__}")
        if len(test) != 2:
            raise ValueError(f"test: expected a pair (X_test, Y_test); got {len(test)} entries")
        X_test = network.check_X(test[0], name="X_test").copy()
        test = X_test, network.check_Y(test[1], X_test, name="Y_test").copy()
    for array in (X, Y, *(test or ())):
        array.setflags(write=False)
    return X, Y, test


def _checked_targets(
    network: Network, cost: Any, accuracy: Any
) -> tuple[float | None, float | None]:
    """Return the two targets as floats; raise for one that no training of the network can reach."""
    if cost is not None:
        cost = as_float("target_cost", cost)
        if not math.isfinite(cost):
            raise ValueError(f"target_cost: expected a finite number; got {cost}")
    if accuracy is not None:
        accuracy = as_float("target_accuracy", accuracy)
        if not 0 < accuracy <= 1:
            raise ValueError(f"target_accuracy: expected 0 < accuracy <= 1; got {accuracy}")
        if not network.classifies:
            raise ValueError(
                f"target_accuracy: expected output sigmoid or softmax; got {network.output!r}"
            )
    return cost, accuracy


def _kept(array: Any) -> Any:
    """Return a copy of an array that the caller may change later; other values unchanged."""
    return array.copy() if isinstance(array, np.ndarray) else array


def _check_trainings(cells: Grid, schemes: Mapping[str, Any], data: Data) -> None:
    """Raise for what no training of the grid accepts; nothing is trained.

    Each combination of network, optimiser and batch size makes no iteration, and each scheme fills
    each network once.
    """
    for network in cells.networks.values():
        for scheme in schemes.values():
            # Raises for a scheme that does not fit the shape of a matrix, with any seed.
            theta = network.initialize(scheme, seed=0)
    columns = [cells.code(axis) for axis in GROUPED]
    _, first = np.unique(np.stack(columns), axis=1, return_index=True)
    for place in first.tolist():
        cell = cells[place]
        theta = cell.network.initialize("zeros", seed=0)
        train(
            cell.network,
            theta,
            data.X,
            data.Y,
            optimizer=cell.optimizer,
            iterations=0,
            batch_size=cell.batch_size,
            **data.training.keywords,
        )


def _places(n_cells: int, shard: Any) -> NDArray[np.intp]:
    """Return the indices of the cells to run: all, or those of one shard."""
    if shard is None:
        return np.arange(n_cells)
    if not is_sequence(shard) or len(shard) != 2:
        raise TypeError(f"shard: expected a pair of integers (i, n); got {shard!r}")
    n = check_integer("shard", shard[1], 1)
    i = check_integer("shard", shard[0], 1, n + 1)
    # The same in every process. Without it, a part might have one scheme only.
    return np.sort(np.random.default_rng(0).permutation(n_cells)[i - 1 :: n])


# --- tasks ----------------------------------------------------------------------------------------

# Runs of one stack have the same values on these axes, except that only the class of the optimiser
# must be the same.
GROUPED = ("depth", "width", "activation", "optimizer", "batch_size")


def _stacks(result: Comparison, places: NDArray[np.intp], most: int) -> list[NDArray[np.intp]]:
    """Partition indices of cells into stacks of at most ``most`` cells."""
    cells = result.cells
    classes = [type(each).__name__ for each in cells.values["optimizer"]]
    by_class = np.array([classes.index(name) for name in classes], np.int32)
    columns = [cells.code(axis)[places] for axis in GROUPED]
    columns[GROUPED.index("optimizer")] = by_class[columns[GROUPED.index("optimizer")]]
    # In the order of the places within a group, and of their first places between groups.
    _, first, inverse = np.unique(np.stack(columns), axis=1, return_index=True, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    groups = np.split(places[order], np.cumsum(np.bincount(inverse.ravel()))[:-1])
    stacks = []
    for i in np.argsort(first):
        group = groups[i]
        size = max(1, min(most, int(STACK_WORK / _work(result, cells[int(group[0])]))))
        stacks += [group[start : start + size] for start in range(0, len(group), size)]
    return stacks


def _work(result: Comparison, cell: Cell) -> float:
    """Return the multiply-adds of one run."""
    n_examples = result.X.shape[1]
    batch = n_examples if cell.batch_size is None else min(cell.batch_size, n_examples)
    # Forward, the gradient by the parameters, and the gradient by the activations.
    iteration = 3 * cell.network.n_parameters * batch + ITERATION_WORK
    return iteration * max(1, result.data.training.iterations_of(cell.batch_size, n_examples))


def _opened(path: str | os.PathLike[str], result: Comparison) -> Writer:
    # Imported here, because not every build of Python has SQLite.
    from fastinit.comparison.store import Writer

    _Keys(result)  # raises for what has no key before the file is created
    return Writer(path, result)


# --- training -----------------------------------------------------------------------------------


class _Runner:
    """Turns the cells of one comparison into blocks: looked up in the store, or trained."""

    def __init__(
        self,
        result: Comparison,
        schemes: Mapping[str, Any],
        store: Writer | None,
        display: Display,
        progress: Callable[[Comparison], Any],
        callback: Callable[[str, Run], Any] | None,
    ) -> None:
        self.result = result
        self.schemes = schemes
        self.store = store
        self.keys = None if store is None else _Keys(result)
        self.display = display
        self.progress = progress
        self.callback = callback
        self.stopped = threading.Event()
        # A copy, because other code may draw from the global state while the runs are trained.
        self.global_state = np.random.get_state()

    def finish(
        self, stacks: Sequence[NDArray[np.intp]], executor: Executor | None, threads: int | None
    ) -> None:
        """Finish all stacks, in threads of this process or on an executor."""
        if executor is not None:
            self.finish_on(executor, stacks, threads or 1, MOST_QUEUED)
            return
        threads = usable_cores() if threads is None else threads
        n = max(1, min(threads, len(stacks))) if self.callback is None else 1
        with ThreadPoolExecutor(n, thread_name_prefix="fastinit") as pool:
            try:
                self.finish_on(pool, stacks, min(threads // n, usable_cores()), 2 * n)
            finally:
                # After an error or Ctrl-C, trainings in progress stop within 20 ms or so.
                self.stopped.set()

    def finish_on(
        self, executor: Executor, stacks: Sequence[NDArray[np.intp]], threads: int, most: int
    ) -> None:
        """Submit the tasks of all stacks, at most ``most`` at a time, and record their results."""
        running: dict[Future[Block], _Pending] = {}
        left = iter(stacks)
        try:
            while True:
                while len(running) < most and (places := next(left, None)) is not None:
                    pending = self.pending(places)
                    if pending is not None:
                        running[self.submit(executor, pending, threads)] = pending
                if not running:
                    return
                # Short waits, because Ctrl-C does not interrupt a long one on Windows.
                done, _ = wait(running, 0.1, FIRST_COMPLETED)
                for future in done:
                    self.record(running.pop(future), future.result())
        except BaseException:
            self.stopped.set()
            for future, pending in running.items():
                future.cancel()
                # Nothing that is finished is lost.
                if future.done() and not future.cancelled() and future.exception() is None:
                    self.record(pending, future.result())
            raise

    def submit(self, executor: Executor, pending: _Pending, threads: int) -> Future[Block]:
        """Submit one task; tasks of this process report their progress."""
        work = pending.task, self.result.data, threads
        if not isinstance(executor, ThreadPoolExecutor):
            return executor.submit(run_task, *work)
        try:
            return executor.submit(run_task, *work, pending)
        except RuntimeError:  # the system refuses more threads: this one does the work
            future: Future[Block] = Future()
            future.set_result(run_task(*work, pending))
            return future

    def pending(self, places: NDArray[np.intp]) -> _Pending | None:
        """Return the task of the runs of a stack that are not in the store; None if all are."""
        cells = [self.result.cells[place] for place in places.tolist()]
        starts = self.starts(cells)
        keys: list[bytes] = []
        if self.store is not None and self.keys is not None:
            keys = self.keys.of(places, starts)
            known, block = self.store.get(keys, places, starts)
            if known.any():
                self.result.add(places[known], block)
                self.display.advance(len(block))
                self.progress(self.result)
            if known.all():
                return None
            rows = np.flatnonzero(~known)
            places, starts = places[rows], starts[rows]
            cells, keys = [cells[i] for i in rows], [keys[i] for i in rows]
        optimizers = tuple(cell.optimizer for cell in cells)
        task = Task(cells[0].network, optimizers, cells[0].batch_size, starts)
        return _Pending(self, places, cells, keys, task)

    def starts(self, cells: Sequence[Cell]) -> Matrix:
        """Return the initial parameters of cells of one network."""
        network = cells[0].network
        starts = np.empty((len(cells), network.n_parameters), network.dtype)
        for start, cell in zip(starts, cells, strict=True):
            start[:] = network.initialize(self.schemes[cell.scheme], seed=self.seed(cell))
        scales = np.array([cell.scale for cell in cells], network.dtype)
        if (scales != 1).any():
            starts[:, network._is_weight] *= scales[:, None]
        return starts

    def seed(self, cell: Cell) -> Seed:
        """Return the seed of a cell; for None a copy of the global random state."""
        if cell.seed is not None:
            return cell.seed
        copy = np.random.RandomState()
        copy.set_state(self.global_state)
        return copy

    def record(self, pending: _Pending, block: Block) -> None:
        """Store finished runs, add them to the result, and report the progress.

        Runs that were stopped before their end are discarded, unless the callback of the user ended
        them; these are not stored.
        """
        complete = block.complete
        if self.store is not None and complete.any():
            rows = np.flatnonzero(complete)
            self.store.add(
                [pending.keys[i] for i in rows.tolist()],
                pending.places[rows],
                block.select(rows),
            )
        kept = complete | (not self.stopped.is_set())
        if kept.any():
            self.result.add(pending.places[kept], block if kept.all() else block.select(kept))
            self.display.advance(len(block) - pending.shown)
            self.progress(self.result)


class _Pending:
    """A task on its way, and the callback of its training if it runs in this process."""

    def __init__(
        self,
        runner: _Runner,
        places: NDArray[np.intp],
        cells: Sequence[Cell],
        keys: Sequence[bytes],
        task: Task,
    ) -> None:
        self.runner = runner
        self.places, self.cells, self.keys, self.task = places, cells, keys, task
        data = runner.result.data
        self.iterations = data.training.iterations_of(task.batch_size, data.X.shape[1])
        self.shown = 0.0  # the number of runs that the display shows as done

    def __call__(self, stack: Stack) -> bool:
        done = sum(run.iterations for run in stack) / max(1, self.iterations)
        self.runner.display.advance(done - self.shown)
        self.shown = done
        # With a callback each stack has one run.
        callback = self.runner.callback
        ended = callback is not None and callback(self.cells[0].scheme, stack[0])
        return bool(ended) or self.runner.stopped.is_set()


class _Keys:
    """Digests of everything that determines the outcome of a cell.

    This includes the initial parameters, and with them how the installed version draws from the
    seed.
    """

    def __init__(self, result: Comparison) -> None:
        data, self.cells = result.data, result.cells
        self.training, self.n_examples = data.training, data.X.shape[1]
        shared = [
            result.digest(),
            data.target_cost,
            data.target_accuracy,
            {name: _content(name, value) for name, value in data.training.keywords.items()},
        ]
        self.shared = hashlib.blake2b(json.dumps(shared).encode(), digest_size=16)
        # Raises before the training for a schedule that has no key.
        for name in ("optimizer", "learning_rate"):
            _content("learning_rate", self.cells.values[name])
        # By the codes of all axes but the seed.
        self.prefixes: dict[tuple[int, ...], Any] = {}

    def of(self, places: NDArray[np.intp], starts: Matrix) -> list[bytes]:
        """Return the keys of cells, whose initial parameters are the rows of ``starts``."""
        seeds = self.cells.values["seed"]
        found = []
        for place, codes, start in zip(
            places.tolist(), self.cells.codes[places].tolist(), starts, strict=True
        ):
            scheme, seed, *rest = codes
            prefix = self.prefixes.get((scheme, *rest))
            if prefix is None:
                prefix = self.prefixes[scheme, *rest] = self.prefix(self.cells[place])
            digest = prefix.copy()
            value = seeds[seed]
            digest.update(f"{value if type(value) is int else as_code(value)} ".encode())
            digest.update(start)
            found.append(digest.digest())
        return found

    def prefix(self, cell: Cell) -> Any:
        """Return the digest of all that cells of different seeds share."""
        about = [
            repr(cell.network),
            _content("learning_rate", cell.optimizer),
            cell.batch_size,
            self.training.iterations_of(cell.batch_size, self.n_examples),
            cell.scheme,
            cell.scale,
        ]
        digest = self.shared.copy()
        digest.update(json.dumps(about).encode())
        return digest


def _content(name: str, value: Any) -> str:
    """Return text that identifies a setting; raise if there is none."""
    # The repr of a long array, pandas.Series or torch.Tensor has dots in place of most numbers.
    if hasattr(value, "__array__"):
        value = np.asarray(value)
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if is_sequence(value):
        return f"[{', '.join(_content(name, each) for each in value)}]"
    text = repr(value)
    # The repr of most functions has an address, which identifies nothing in another process.
    if " at 0x" in text or "<lambda>" in text:
        raise ValueError(f"{name}: expected a value with a repr of its own for a store; got {text}")
    return text
