"""compare(): train from several schemes, in every combination of the axes of a grid."""

# help() and editors then show the names of types, such as ArrayLike, not what they stand for.
from __future__ import annotations

import concurrent.futures
import hashlib
import json
import math
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.comparison.grid import (
    AnyScheme,
    Cell,
    Grid,
    as_code,
    check_size,
    dense,
    grid_of,
    labelled,
    partition,
    plain,
    reproducible,
    shuffled,
)
from fastinit.comparison.results import Comparison
from fastinit.comparison.tables import rich_table
from fastinit.comparison.trials import Block, Data, Task, Training, run_elsewhere, run_task
from fastinit.initializers.target import Seed
from fastinit.kernels import level, usable_cores
from fastinit.training.internals import is_weight
from fastinit.training.loop import AnyOrder, train
from fastinit.training.network import Matrix, Network
from fastinit.training.optimizers import LearningRate, Optimizer
from fastinit.training.progress import Display
from fastinit.training.run import Interrupted, Run, Stack
from fastinit.validation import (
    MOST_ITERATIONS,
    as_float,
    check_integer,
    frames_inside,
    is_sequence,
)

if TYPE_CHECKING:
    from fastinit.comparison.store import Writer

# Multiply-adds of the training of a stack of short runs, about 0.1 s: what a killed process loses
# in each thread.
STACK_WORK = 5e8
# A stack of this size trains small networks 2.7 times as fast as one by one. It may take longer,
# but not above about 2 s, unless a single run does.
STACK_SIZE = 16
MOST_STACK_WORK = 2e10
# What an iteration costs regardless of the size of the network, in multiply-adds.
ITERATION_WORK = 5e3
# An executor is given at least this many tasks, because Dask adds workers by the queue length.
LEAST_QUEUED = 64
# The shortest time between two updates of the progress bar by one task.
CALLBACK_SECONDS = 0.02


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
        at every iteration, the accuracy up to 500 times in a run; both also at the end. With
        mini-batches the cost is the mean of an epoch, known at its end.
    store : path-like, optional
        An SQLite file, created if it does not exist (:class:`fastinit.comparison.store.Store`).
        Finished runs are written to it, and runs that it already contains are not trained again.
        Several processes may share it, on a local disk: SQLite's locks are not reliable on network
        drives. There, write one file for each job and merge them with
        :func:`fastinit.comparison.merge`. Short runs of one network are trained and written
        together, up to about two seconds of training at a time.
    shard : (int, int), optional
        ``(i, n)`` runs only the i-th of n parts of the grid, counted from 1. The parts are disjoint
        and the same in every process, so that n jobs without a common scheduler can share the work.
    executor : concurrent.futures.Executor or dask.distributed.Client, optional
        Where the runs are trained, such as a ``ProcessPoolExecutor``, or an executor of loky or
        mpi4py. By default, in threads of this process. Tasks are data only: networks, initial
        parameters and settings. The store stays with the caller, and the executor remains open.
        Its workers must have the same version of fastinit. Schemes are called in this process;
        schedules and a ``shuffle`` callable must be picklable.
    threads : int, optional
        Maximum number of threads; all usable cores by default. With an executor, the threads of
        each task, 1 by default. Runs are trained in parallel, unless ``callback`` is given. The
        results do not depend on it.
    progress : bool or callable, default False
        True shows running medians and the remaining time if standard error is a terminal, or in a
        notebook. This requires rich, and ipywidgets in a notebook. A callable is called as
        ``progress(comparison)`` whenever runs are finished, in the calling thread.
    callback : callable, optional
        Called as ``callback(scheme, run)`` about every 20 ms while a run is trained, one run after
        another, in the calling thread. If it returns a true value, this run ends; it is not written
        to the store. Not with an executor.

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
    Exception
        Errors of a run, of a callback or of the executor, such as MemoryError or
        ``concurrent.futures.BrokenExecutor``, are raised as they are. Their attribute ``result``
        has the finished runs, and the store has them too.

    Warns
    -----
    UserWarning
        If workers of the executor have kernels of another CPU level than this process. Results
        agree bit for bit only on the same level.

    Notes
    -----
    The result of a run does not depend on the other cells of the grid, on ``threads``, on
    ``executor`` or on ``store``.

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
    iterations, epochs = _checked_length(iterations, epochs)
    axes = {
        "seed": seed, "depth": depth, "width": width, "activation": activation,
        "optimizer": optimizer, "learning_rate": learning_rate, "batch_size": batch_size,
        "scale": scale,
    }  # fmt: skip
    check_size({"schemes": schemes, **axes}, n_samples is not None)
    by_label = labelled(schemes)
    own_X, own_Y = _pair(network, (X, Y), "X", ("X", "Y"))
    test_pair = _pair(network, test, "test", ("X_test", "Y_test"))
    names = ("X of validation", "Y of validation")
    validation = _pair(network, validation, "validation", names)
    target_cost, target_accuracy = _checked_targets(network, target_cost, target_accuracy)
    # Copies, as of the data.
    training = Training(
        iterations, epochs, shuffle if callable(shuffle) else deepcopy(shuffle),
        deepcopy(sample_weight), deepcopy(class_weight), validation, validate_every, monitor, tol,
        n_iter_no_change,
    )  # fmt: skip
    data = Data(own_X, own_Y, test_pair, training, target_cost, target_accuracy)
    if threads is not None:
        threads = check_integer("threads", threads, 1)
    if executor is not None:
        executor, client, workers = _checked_executor(executor)
    axes["seed"] = reproducible(seed)
    cells = grid_of(network, by_label, **axes, n_samples=n_samples)
    _check_trainings(cells, by_label, data)
    if executor is not None and not _is_local(executor):
        _check_workers(executor, cells, data)
    result = Comparison(data, cells, network, _settings(axes, n_samples, data))
    keys = None if store is None else _Keys(result)
    places = _places(len(cells), shard)
    if store is not None:
        # In random order the finished runs of an unfinished comparison are a fair sample of it, and
        # processes that share a store seldom train the same run at the same time.
        np.random.default_rng().shuffle(places)
    cores = threads or usable_cores()
    if executor is None:
        workers = cores
    # With a callback, each run is trained alone, so that it can be ended alone.
    stacks = _stacks(result, places, 1 if callback is not None else len(places) // (2 * workers))
    if store is not None:
        order = np.random.default_rng().permutation(len(stacks))
        stacks = [stacks[i] for i in order]
    try:
        with ExitStack() as contexts:
            opened = None if store is None else contexts.enter_context(_opened(store, result))
            runner = _Runner(result, by_label, keys, opened, len(places), progress, callback)
            contexts.enter_context(runner.display)
            if executor is None:
                n = 1 if callback is not None else max(1, min(cores, len(stacks)))
                backend = contexts.enter_context(_own_threads(n, cores // n))
            elif _is_local(executor):
                backend = _Local(executor, workers, threads or 1, False)
            else:
                backend = _Remote(executor, client, threads or 1, workers, data)
            runner.finish(stacks, backend)
    except KeyboardInterrupt:
        raise Interrupted(result, f"{len(result)} of {len(places)} runs finished") from None
    except Exception as error:
        error.result = result  # type: ignore[attr-defined]
        if len(result):
            error.add_note(
                f"{len(result):,} of {len(places):,} runs are finished; they are in the attribute "
                f"result of this exception"
            )
        raise
    return result


def _settings(axes: Mapping[str, Any], n_samples: int | None, data: Data) -> dict[str, Any]:
    """Return the keywords of :func:`compare` that are not the defaults."""
    training = data.training
    given = {
        **axes, "n_samples": n_samples, "iterations": training.iterations,
        "epochs": training.epochs, **training.keywords, "target_cost": data.target_cost,
        "target_accuracy": data.target_accuracy,
    }  # fmt: skip
    defaults = {"scale": 1.0, "shuffle": True, "monitor": "cost"}
    return {
        name: value if isinstance(value, range) else plain(value)
        for name, value in given.items()
        if value is not None
        and not (name in defaults and not is_sequence(value) and value == defaults[name])
    }


# --- checks of arguments ------------------------------------------------------------------------


def _pair(network: Network, pair: Any, name: str, names: tuple[str, str]) -> Any:
    """Return copies of a pair (X, Y) that cannot be written to; None for None.

    Copies, because what is trained must remain what the key of its result says, also if a callback
    changes the arrays that were given.
    """
    if pair is None:
        return None
    expected = f"a pair ({', '.join(names)})"
    if not isinstance(pair, (tuple, list)):
        raise TypeError(f"{name}: expected {expected}; got {type(pair).__name__}")
    if len(pair) != 2:
        raise ValueError(f"{name}: expected {expected}; got {len(pair)} entries")
    X = network.check_X(pair[0], name=names[0]).copy()
    Y = network.check_Y(pair[1], X, name=names[1]).copy()
    for array in (X, Y):
        array.setflags(write=False)
    return X, Y


def _checked_length(iterations: Any, epochs: Any) -> tuple[int | None, int | None]:
    """Return the iterations or the epochs of a run, and None for the others."""
    if epochs is None:
        iterations = 15_000 if iterations is None else iterations
        return check_integer("iterations", iterations, 0, MOST_ITERATIONS), None
    if iterations is not None:
        raise TypeError("epochs: pass either epochs or iterations, not both")
    return None, check_integer("epochs", epochs, 0, MOST_ITERATIONS)


def _checked_targets(
    network: Network, cost: Any, accuracy: Any
) -> tuple[float | None, float | None]:
    """Return the two targets as floats; raise if the network cannot reach one."""
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


def _check_trainings(cells: Grid, schemes: Mapping[str, Any], data: Data) -> None:
    """Raise for settings that the training of a cell would not accept; nothing is trained.

    Each combination of network, optimiser and batch size makes no iteration, and each scheme fills
    each network once.
    """
    largest = max(cells.values["scale"])
    for network in cells.networks.values():
        for label, scheme in schemes.items():
            try:
                # Raises for a scheme that does not fit the shape of a matrix, with any seed.
                theta = _scaled(network, network.initialize(scheme, seed=0)[None], [largest])
            except Exception as error:
                error.add_note(f"compare: {label} would initialise {network}")
                raise
            if not np.isfinite(theta).all():
                raise ValueError(
                    f"scale: expected finite {network.dtype} weights; got {largest:g} times those "
                    f"of {label}"
                )
    for group in cells.groups(*GROUPED):
        cell = cells[int(group[0])]
        check_integer("epochs", data.iterations_of(cell.batch_size), 0, MOST_ITERATIONS)
        train(
            cell.network,
            cell.network.initialize("zeros", seed=0),
            data.X,
            data.Y,
            optimizer=cell.optimizer,
            iterations=0,
            batch_size=cell.batch_size,
            **data.training.keywords,
        )


def _scaled(network: Network, thetas: Matrix, scales: Sequence[float]) -> Matrix:
    """Return the parameters with the weights, not the biases, multiplied by a factor each."""
    factors = np.array(scales, network.dtype)
    if (factors != 1).any():
        with np.errstate(over="ignore"):
            thetas[:, is_weight(network)] *= factors[:, None]
    return thetas


def _places(n_cells: int, shard: Any) -> NDArray[np.intp]:
    """Return the indices of the cells to run: all, or those of one shard."""
    if shard is None:
        return np.arange(n_cells)
    if not is_sequence(shard):
        raise TypeError(f"shard: expected a pair of integers (i, n); got {shard!r}")
    if len(shard) != 2:
        raise ValueError(f"shard: expected a pair of integers (i, n); got {len(shard)} entries")
    n = check_integer("shard", shard[1], 1)
    i = check_integer("shard", shard[0], 1, n + 1)
    # Any regular order may give a part one scheme only, or one width.
    return np.sort(shuffled(n_cells)[i - 1 :: n])


# --- tasks ----------------------------------------------------------------------------------------

# Cells that differ on these axes differ in their network or in how it is trained.
GROUPED = ("depth", "width", "activation", "optimizer", "batch_size")


def _stacks(result: Comparison, places: NDArray[np.intp], most: int) -> list[NDArray[np.intp]]:
    """Partition indices of cells into stacks of at most ``most`` cells.

    Runs of one stack have one network and batch size, and optimisers of one class.
    """
    cells = result.cells
    classes = [type(each).__name__ for each in cells.values["optimizer"]]
    kinds = np.array([classes.index(name) for name in classes])
    others = [axis for axis in GROUPED if axis != "optimizer"]
    numbers, n = cells.numbers(*others, places=places)
    kind = kinds[cells.code("optimizer")[places]]
    numbers, n = dense(numbers * len(kinds) + kind, n * len(kinds))
    stacks = []
    # In the order of the places within a group, and of their first places between groups.
    for own in sorted(partition(numbers, n), key=lambda own: own[0]):
        group = places[own]
        work = _work(result, cells[int(group[0])])
        size = max(STACK_WORK / work, min(STACK_SIZE, MOST_STACK_WORK / work))
        size = max(1, min(most, int(size)))
        stacks += [group[start : start + size] for start in range(0, len(group), size)]
    return stacks


def _work(result: Comparison, cell: Cell) -> float:
    """Return the multiply-adds of one run."""
    n_examples = result.X.shape[1]
    batch = n_examples if cell.batch_size is None else min(cell.batch_size, n_examples)
    # Forward, the gradient by the parameters, and the gradient by the activations.
    iteration = 3 * cell.network.n_parameters * batch + ITERATION_WORK
    return float(iteration * max(1, result.data.iterations_of(cell.batch_size)))


def _opened(path: str | os.PathLike[str], result: Comparison) -> Writer:
    # Imported here, because not every build of Python has SQLite.
    from fastinit.comparison.store import Writer

    return Writer(path, result)


# --- where tasks run ------------------------------------------------------------------------------


class _Local:
    """Runs tasks in threads of this process, or in the calling thread.

    Parameters
    ----------
    pool : Executor or None
        A pool of threads; None for the calling thread.
    n : int
        Number of threads of the pool.
    threads : int
        The threads of each task.
    is_own : bool
        Whether the pool was created for this comparison.
    """

    local = True

    def __init__(self, pool: Executor | None, n: int, threads: int, is_own: bool) -> None:
        self.pool, self.threads, self.is_own = pool, threads, is_own
        # While a task runs, the next one of its thread is prepared.
        self.most = 1 if pool is None else 2 * n

    def submit(self, pending: _Pending, data: Data) -> Future[Any]:
        """Return the future of the block of a task."""
        future: Future[Any] = Future()
        claim = threading.Lock()

        def work() -> None:
            if not claim.acquire(blocking=False) or not future.set_running_or_notify_cancel():
                return
            try:
                stop = pending.runner.stopped.is_set
                future.set_result(run_task(pending.task, data, self.threads, pending, stop))
            except BaseException as error:  # KeyboardInterrupt too: the caller raises it
                future.set_exception(error)

        if self.pool is None:
            work()
            return future
        try:
            self.pool.submit(work)
        except RuntimeError:
            if not self.is_own:
                raise
            # The system refuses more threads. The task is also in the queue of the existing ones;
            # the thread that claims it first runs it.
            work()
        return future

    def block(self, pending: _Pending, future: Future[Any]) -> Block:
        """Return the block of a finished task, or raise its error."""
        block: Block = future.result()
        return block


@contextmanager
def _own_threads(n: int, threads: int) -> Iterator[_Local | _Remote]:
    """Run tasks in n threads of a pool for this comparison; one thread is the calling one."""
    if n == 1:
        yield _Local(None, 1, threads, True)
        return
    with ThreadPoolExecutor(n, thread_name_prefix="fastinit") as pool:
        yield _Local(pool, n, threads, True)


class _Remote:
    """Runs tasks on an executor whose workers are other processes."""

    local = False

    def __init__(self, executor: Executor, client: Any, threads: int, n: int, data: Data) -> None:
        from fastinit import __version__  # the package imports this module

        self.executor, self.threads, self.version = executor, threads, __version__
        self.most = max(LEAST_QUEUED, 2 * n)
        self.warned = False
        # Dask keeps the data with each of its workers, and computes them again if a worker is
        # killed. Other executors receive them with each task, which takes less time than a few
        # iterations.
        self.shared: Any = None
        if client is not None:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sending large graph")
                self.shared = client.submit(_same, data, pure=False)

    def submit(self, pending: _Pending, data: Data) -> Future[Any]:
        """Return the future of the level of the worker and the block of a task."""
        shared = data if self.shared is None else self.shared
        return self.executor.submit(run_elsewhere, pending.task, shared, self.threads, self.version)

    def block(self, pending: _Pending, future: Future[Any]) -> Block:
        """Return the block of a finished task, or raise its error."""
        found, block = future.result()
        if found != level and not self.warned:
            self.warned = True
            warnings.warn(
                f"executor: expected workers with the kernels {level} of this process; got {found}:"
                f" results agree up to rounding errors, which trainings may amplify",
                stacklevel=frames_inside(),
            )
        complete: Block = replace(block, starts=pending.task.starts)
        return complete


def _same(value: Any) -> Any:
    return value


def _checked_executor(executor: Any) -> tuple[Executor, Any, int]:
    """Return an executor, the client of Dask or None, and the number of its workers."""
    distributed = sys.modules.get("distributed")
    if distributed is not None and isinstance(executor, distributed.Client):
        if executor.asynchronous:
            raise ValueError("executor: expected a synchronous Client; got an asynchronous one")
        return (
            executor.get_executor(pure=False), executor, sum(executor.nthreads().values()),
        )  # fmt: skip
    if not isinstance(executor, Executor):
        raise TypeError(
            "executor: expected a concurrent.futures.Executor or a dask.distributed.Client; got "
            f"{type(executor).__name__}"
        )
    # The standard library and loky, and mpi4py.
    counts = [getattr(executor, name, None) for name in ("_max_workers", "num_workers")]
    n = next((each for each in counts if isinstance(each, int)), usable_cores())
    return executor, None, n


def _is_local(executor: Executor) -> bool:
    """Return whether an executor runs its tasks in threads of this interpreter."""
    others: Any = getattr(concurrent.futures, "InterpreterPoolExecutor", ())
    return isinstance(executor, ThreadPoolExecutor) and not isinstance(executor, others)


def _check_workers(executor: Executor, cells: Grid, data: Data) -> None:
    """Raise for a setting that cannot be sent to the workers of an executor, or read by them.

    A worker of Dask that cannot read a task ends, and so do all others that are given the task
    after it. Its future would never be done.
    """
    # Executors pickle what they send to other processes, so this finds out what they will. It goes
    # to the user's own workers; no file is read or written with pickle.
    dumps: Callable[[Any], bytes] = pickle.dumps
    if type(executor).__module__.partition(".")[0] in ("distributed", "loky"):
        # These use cloudpickle, which sends functions by value that cannot be imported by name.
        import cloudpickle

        dumps = cloudpickle.dumps
    rates = [getattr(value, "learning_rate", None) for value in cells.values["optimizer"]]
    settings = {
        "shuffle": data.training.shuffle,
        "learning_rate": [*rates, *cells.values["learning_rate"]],
        "optimizer": cells.values["optimizer"],
        "executor": run_elsewhere,
    }
    sent = {}
    for name, value in settings.items():
        try:
            sent[name] = dumps(value)
        except Exception as error:  # pickle raises errors of many types
            raise TypeError(
                f"{name}: expected functions that can be pickled, for the processes of the "
                f"executor; got {value!r}: {error}"
            ) from None
    futures = {executor.submit(pickle.loads, each): name for name, each in sent.items()}
    try:
        while wait(futures, 0.1).not_done:  # short waits, as in _Runner.finish
            pass
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    for future, name in futures.items():
        problem = future.exception()
        if isinstance(problem, (ImportError, AttributeError)):
            raise TypeError(
                f"{name}: expected what the workers of the executor can import; "
                f"got {settings[name]!r}: {problem}"
            )
        if problem is not None:
            raise problem


# --- training -----------------------------------------------------------------------------------


class _Runner:
    """Turns the cells of one comparison into blocks: looked up in the store, or trained."""

    def __init__(
        self,
        result: Comparison,
        schemes: Mapping[str, Any],
        keys: _Keys | None,
        store: Writer | None,
        n: int,
        progress: bool | Callable[[Comparison], Any],
        callback: Callable[[str, Run], Any] | None,
    ) -> None:
        self.result = result
        self.schemes = schemes
        self.keys = keys
        self.store = store
        self.progress = progress
        self.callback = callback
        self.display = Display(n, self.shown, progress is True)
        self.stopped = threading.Event()
        self.known = 0  # number of runs that were in the store
        self.unsaved: list[tuple[_Pending, Block]] = []
        # A copy, because other code may draw from the global state while the runs are trained.
        self.global_state = np.random.get_state()

    def finish(self, stacks: Sequence[NDArray[np.intp]], backend: _Local | _Remote) -> None:
        """Submit the tasks of all stacks, a limited number at a time, and record their results."""
        running: dict[Future[Any], _Pending] = {}
        left = iter(stacks)
        try:
            while True:
                while len(running) < backend.most and (places := next(left, None)) is not None:
                    pending = self.pending(places)
                    if pending is not None:
                        running[backend.submit(pending, self.result.data)] = pending
                if not running:
                    return
                # Short waits, because Ctrl-C does not interrupt a long one on Windows.
                done, _ = wait(running, 0.1, FIRST_COMPLETED)
                for future in done:
                    pending = running[future]
                    try:
                        block = backend.block(pending, future)
                    finally:
                        del running[future]
                    self.record(pending, block)
        except BaseException as error:
            self.stopped.set()
            # A broken pool of processes ends its tasks itself; Python 3.11 waits forever if one of
            # them was cancelled meanwhile.
            broken = isinstance(error, BrokenExecutor)
            left_over = [future for future in running if broken or not future.cancel()]
            # Nothing that is finished is lost. Trainings of this process stop within 20 ms or so.
            done, _ = wait(left_over, None if backend.local else 0)
            for future in done:
                if future.exception() is None:
                    self.keep(running[future], backend.block(running[future], future))
            with suppress(Exception):  # the error that is raised says more
                self.save()
            raise

    def pending(self, places: NDArray[np.intp]) -> _Pending | None:
        """Return the task of the runs of a stack that are not in the store; None if all are."""
        cells = [self.result.cells[place] for place in places.tolist()]
        starts = self.starts(cells)
        keys: list[bytes] = []
        if self.store is not None and self.keys is not None:
            keys = self.keys.of(places, starts)
            known, block = self.store.get(keys, places, starts)
            if known.any():
                self.known += len(block)
                self.result.add(places[known].tolist(), block)
                self.show(len(block))
            if known.all():
                return None
            rows = np.flatnonzero(~known).tolist()
            places, starts = places[rows], starts[rows]
            cells, keys = [cells[i] for i in rows], [keys[i] for i in rows]
        optimizers = tuple([cell.optimizer for cell in cells])
        task = Task(cells[0].network, optimizers, cells[0].batch_size, starts)
        return _Pending(self, places, cells, keys, task)

    def starts(self, cells: Sequence[Cell]) -> Matrix:
        """Return the initial parameters of cells of one network."""
        network = cells[0].network
        starts = np.empty((len(cells), network.n_parameters), network.dtype)
        rows: dict[str, list[int]] = {}
        for row, cell in enumerate(cells):
            rows.setdefault(cell.scheme, []).append(row)
        for label, own in rows.items():
            seeds = [self.seed(cells[row]) for row in own]
            starts[own] = network.initialize(self.schemes[label], seed=seeds)
        return _scaled(network, starts, [cell.scale for cell in cells])

    def seed(self, cell: Cell) -> Seed:
        """Return the seed of a cell; for None a copy of the global random state."""
        if cell.seed is not None:
            return cell.seed
        copy = np.random.RandomState()
        copy.set_state(self.global_state)
        return copy

    def record(self, pending: _Pending, block: Block) -> None:
        """Add finished runs to the result and to the store, and report the progress."""
        n = len(self.result)
        self.keep(pending, block)
        self.save()
        if len(self.result) > n:
            self.show(len(block) - pending.shown)

    def keep(self, pending: _Pending, block: Block) -> None:
        """Add finished runs to the result, and note those that are to be stored.

        Runs that were stopped before their end are discarded, unless the callback of the user ended
        them; these are not stored.
        """
        complete = block.complete
        if self.store is not None and complete.any():
            self.unsaved.append((pending, block))
        kept = complete | (not self.stopped.is_set())
        if kept.any():
            rows = block if kept.all() else block.select(kept)
            self.result.add(pending.places[kept].tolist(), rows)

    def save(self) -> None:
        """Write the noted runs to the store, which ignores those that it already contains."""
        while self.store is not None and self.unsaved:
            pending, block = self.unsaved[0]
            rows = np.flatnonzero(block.complete).tolist()
            keys = [pending.keys[i] for i in rows]
            self.store.add(keys, pending.places[rows], block.select(rows))
            self.unsaved.pop(0)

    def show(self, runs: float) -> None:
        """Report that so many more runs are finished."""
        self.display.advance(runs)
        self.display.update()
        if callable(self.progress):
            self.progress(self.result)

    def shown(self) -> Any:
        """Return what is shown above the progress bar."""
        from rich.console import Group

        table = rich_table(self.result.summary(), compact=True)
        return Group(table, f"{self.known:,} runs from the store") if self.known else table


class _Pending:
    """A submitted task, and the callback of its training if it runs in this process."""

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
        self.iterations = runner.result.data.iterations_of(task.batch_size)
        self.shown = 0.0  # the number of runs that the display shows as done
        self.time = 0.0

    def __call__(self, stack: Stack) -> bool:
        if self.runner.callback is not None:  # each stack has one run then
            ended = bool(self.runner.callback(self.cells[0].scheme, stack[0]))
            return ended or self.runner.stopped.is_set()
        # In a search for a target accuracy, the calls are frequent.
        if (now := perf_counter()) - self.time > CALLBACK_SECONDS:
            self.time = now
            done = sum(stack.iterations) / max(1, self.iterations)
            self.runner.display.advance(done - self.shown)
            self.shown = done
        return self.runner.stopped.is_set()


class _Keys:
    """Digests of everything that determines the outcome of a cell.

    This includes the initial parameters, and with them how the installed version draws from the
    seed.
    """

    def __init__(self, result: Comparison) -> None:
        data, self.cells = result.data, result.cells
        self.data = data
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
            self.data.iterations_of(cell.batch_size),
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
