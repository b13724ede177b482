"""compare(): train from several schemes, in every combination of the axes of a grid."""

# help() and editors then show the names of types, such as ArrayLike, not what they stand for.
from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastinit.comparison.grid import (
    Cell,
    as_code,
    check_size,
    checked_targets,
    checked_test,
    networks_of,
    plain,
    reproducible,
    seeds_of,
    values_of,
)
from fastinit.comparison.results import Comparison
from fastinit.comparison.tables import rich_table
from fastinit.comparison.trials import Trial, stride, trials_of
from fastinit.initializers import scheme as registry
from fastinit.initializers.target import Seed
from fastinit.kernels import usable_cores
from fastinit.training.loop import train
from fastinit.training.network import Array, Matrix, Network
from fastinit.training.optimizers import GradientDescent
from fastinit.training.progress import Display
from fastinit.training.run import Interrupted, Run, Stack
from fastinit.validation import MOST_ITERATIONS, as_float, check_integer

if TYPE_CHECKING:
    from fastinit.comparison.store import Store

# Multiply-adds of the training of one stack, about a quarter of a second: what a killed process
# loses at most in each thread, unless a single run takes longer.
STACK_WORK = 5e9
# What an iteration costs regardless of the size of the network, in multiply-adds.
ITERATION_WORK = 5e3


def compare(
    X: ArrayLike,
    Y: ArrayLike,
    network: Network,
    schemes: str | Sequence[str],
    *,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    learning_rate: float | Sequence[float] = 0.01,
    iterations: int = 15_000,
    seed: Seed | Sequence[int] = None,
    depth: int | Sequence[int] | None = None,
    width: int | Sequence[int] | None = None,
    activation: str | Sequence[str] | None = None,
    target_cost: float | None = None,
    target_accuracy: float | None = None,
    store: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: bool | Callable[[Comparison], Any] = False,
    callback: Callable[[str, Run], Any] | None = None,
) -> Comparison:
    """Train a network from several initialisations and compare the results.

    Each run starts from one scheme and one seed and is trained by gradient descent on the full
    batch. ``learning_rate``, ``seed``, ``depth``, ``width`` and ``activation`` are the axes of a
    grid: each takes one value or a sequence of different values, and every combination is run.

    Parameters
    ----------
    X : array_like of shape (n_features, n_examples)
        Training data.
    Y : array_like
        Labels, as the output of the network takes them: see :class:`fastinit.Network`.
    network : Network
        The network to train. ``depth``, ``width`` and ``activation`` replace its own settings.
    schemes : str or sequence of str
        Names from :func:`fastinit.initializers.names`, each once.
    test : (X_test, Y_test), optional
        Test data, for the test accuracies.
    learning_rate : float or sequence of float, default 0.01
        Learning rates of gradient descent.
    iterations : int, default 15000
        Number of updates of each run.
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
    target_cost, target_accuracy : float, optional
        Record the number of iterations after which each run first had a cost of at most
        ``target_cost`` or a training accuracy of at least ``target_accuracy``. The cost is checked
        at every iteration, the accuracy up to 500 times in a run; both also at the end.
    store : path-like, optional
        An SQLite file, created if it does not exist (:class:`fastinit.comparison.store.Store`).
        Finished runs are written to it, and runs that it already contains are not trained again.
        Several processes may share it. Short runs of one network are trained and written together,
        about a quarter of a second of training at a time.
    threads : int, optional
        Maximum number of threads; all usable cores by default. Runs are trained in parallel, unless
        ``callback`` is given. The results do not depend on it.
    progress : bool or callable, default False
        True shows running medians and the remaining time if standard error is a terminal; this
        requires rich. A callable is called as ``progress(comparison)`` after every finished run, in
        the thread that trained it; no two calls overlap.
    callback : callable, optional
        Called as ``callback(scheme, run)`` about every 20 ms while a run is trained, one run after
        another. If it returns a true value, this run ends; it is not written to the store.

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
    check_size(
        {
            "schemes": schemes, "seed": seed, "depth": depth, "width": width,
            "learning_rate": learning_rate, "activation": activation,
        }
    )  # fmt: skip
    names = values_of("schemes", schemes, str)
    for scheme in names:
        registry.get(scheme)
    # Copies, because what is trained must remain what the key of its result says, also if a
    # callback changes the arrays that were given.
    X = network.check_X(X).copy()
    Y = network.check_Y(Y, X).copy()
    test = checked_test(network, test)
    for array in (X, Y, *(test or ())):
        array.setflags(write=False)
    iterations = check_integer("iterations", iterations, 0, MOST_ITERATIONS)
    threads = usable_cores() if threads is None else check_integer("threads", threads, 1)
    target_cost, target_accuracy = checked_targets(network, target_cost, target_accuracy)
    rates = [as_float("learning_rate", r) for r in values_of("learning_rate", learning_rate, float)]
    for rate in rates:
        GradientDescent(rate)  # raises for an invalid rate
    networks = networks_of(network, depth, width, activation)
    seed = reproducible(seed)
    seeds = seeds_of(names, seed)
    cells = tuple(
        Cell(scheme, start, each, rate)
        for each in networks
        for rate in rates
        for scheme in names
        for start in seeds[scheme]
    )
    if len(set(cells)) < len(cells):
        raise ValueError("width: expected one value for depth 0; got several")
    # Raises for a scheme that does not fit the shape of a matrix, with any seed.
    for each in networks:
        for scheme in names:
            each.initialize(scheme, seed=0)
    settings = {
        "seed": seed, "depth": depth, "width": width, "learning_rate": learning_rate,
        "activation": activation, "iterations": iterations,
        "target_cost": target_cost, "target_accuracy": target_accuracy,
    }  # fmt: skip
    settings = {
        name: value if isinstance(value, range) else plain(value)
        for name, value in settings.items()
        if value is not None
    }
    result = Comparison(
        X, Y, test, cells, iterations, target_cost, target_accuracy, network, settings
    )
    # In random order the finished runs of an unfinished comparison are a fair sample of it, and
    # processes that share a store seldom train the same run at the same time.
    places = list(range(len(cells)))
    shuffle = np.random.default_rng().shuffle if store is not None else lambda _: None
    shuffle(places)
    # With a callback, each run is trained alone, so that it can be ended alone.
    most = 1 if callback is not None else len(cells) // (4 * threads)
    stacks = _stacks(result, places, most)
    shuffle(stacks)
    try:
        with ExitStack() as contexts:
            runner = _Runner(
                result,
                None if store is None else contexts.enter_context(_opened(store)),
                contexts.enter_context(
                    Display(
                        len(cells) * iterations,
                        lambda: rich_table(result.summary(), compact=True),
                        progress is True,
                    )
                ),
                progress if callable(progress) else lambda _: None,
                callback,
            )
            runner.finish(stacks, threads)
    except KeyboardInterrupt:
        raise Interrupted(result, f"{len(result)} of {len(cells)} runs finished") from None
    return result


def _stacks(result: Comparison, places: Iterable[int], most: int) -> list[list[int]]:
    """Partition indices of cells into stacks of one network each, of at most ``most`` cells."""
    groups: dict[Network, list[int]] = {}
    for place in places:
        groups.setdefault(result.cells[place].network, []).append(place)
    stacks = []
    for network, group in groups.items():
        # Forward, the gradient by the parameters, and the gradient by the activations.
        iteration = 3 * network.n_parameters * result.X.shape[1] + ITERATION_WORK
        size = max(1, min(most, int(STACK_WORK / (iteration * max(result.iterations, 1)))))
        stacks += [group[start : start + size] for start in range(0, len(group), size)]
    return stacks


def _opened(path: str | os.PathLike[str]) -> Store:
    # Imported here, because not every build of Python has SQLite.
    from fastinit.comparison.store import Store

    return Store(path)


# --- training -----------------------------------------------------------------------------------


class _Runner:
    """Turns the cells of one comparison into trials: looked up in the store, or trained."""

    def __init__(
        self,
        result: Comparison,
        store: Store | None,
        display: Display,
        progress: Callable[[Comparison], Any],
        callback: Callable[[str, Run], Any] | None,
    ) -> None:
        self.result = result
        self.store = store
        self.display = display
        self.progress = progress
        self.one_at_a_time = threading.Lock()
        self.callback = callback
        self.stopped = threading.Event()
        self.threads = 1  # of each training
        self.data = result.digest()
        # A copy, because other code may draw from the global state while the runs are trained.
        self.global_state = np.random.get_state()

    def finish(self, stacks: Iterable[list[int]], threads: int) -> None:
        """Finish all stacks, in up to ``threads`` threads."""
        left = deque(stacks)
        n = min(threads, len(left)) if self.callback is None else 1
        self.threads = min(threads // n, usable_cores())
        with ThreadPoolExecutor(n, thread_name_prefix="fastinit") as pool:
            workers = []
            with suppress(RuntimeError):  # the system refuses more threads: fewer do the work
                for _ in range(n):
                    workers.append(pool.submit(self.work, left))
            try:
                if not workers:
                    self.work(left)
                # Short waits, because Ctrl-C does not interrupt a long one on Windows.
                while workers and wait(workers, 0.1, FIRST_EXCEPTION).not_done:
                    if any(worker.done() and worker.exception() for worker in workers):
                        break
            finally:
                # After an error or Ctrl-C, trainings in progress stop within 20 ms or so.
                self.stopped.set()
        for worker in workers:
            worker.result()

    def work(self, left: deque[list[int]]) -> None:
        """Finish stacks, in the calling thread, until none is left or the runner is stopped."""
        while left and not self.stopped.is_set():
            try:
                places = left.popleft()
            except IndexError:  # another thread took the last one
                return
            self.finish_stack(places)

    def finish_stack(self, places: list[int]) -> None:
        """Finish cells of one network, in the calling thread.

        Runs that are not in the store are trained. Those that are stopped before their end are
        discarded.
        """
        result = self.result
        missing: dict[int, tuple[bytes, Array]] = {}
        for place in places:
            cell = result.cells[place]
            start = cell.network.initialize(cell.scheme, seed=self.seed(cell))
            key = self.key(cell, start)
            found = self.store.get(key, cell, start) if self.store is not None else None
            if found is None:
                missing[place] = key, start
            else:
                self.display.advance(result.iterations)
                self.record(place, found)
        if not missing:
            return
        cells = [result.cells[place] for place in missing]
        trials = self.train(cells, np.array([start for _, start in missing.values()]))
        # The search for the target accuracy may have been stopped after a complete training.
        cut = self.stopped.is_set() and result.target_accuracy is not None
        kept = {
            place: trial
            for place, trial in zip(missing, trials, strict=True)
            if not cut and (trial.is_complete(result.iterations) or not self.stopped.is_set())
        }
        if self.store is not None:
            self.store.add(
                {missing[p][0]: t for p, t in kept.items() if t.is_complete(result.iterations)}
            )
        for place, trial in kept.items():
            self.record(place, trial)

    def record(self, place: int, trial: Trial) -> None:
        """Add a trial to the result and report the progress."""
        self.result._found[place] = trial
        with self.one_at_a_time:
            self.progress(self.result)

    def train(self, cells: list[Cell], starts: Matrix) -> list[Trial]:
        """Train cells of one network as a stack, until their end or until the runner is stopped."""
        result = self.result
        shown = 0

        def advance(stack: Stack) -> bool:
            nonlocal shown
            done = sum(run.iterations for run in stack)
            self.display.advance(done - shown)
            shown = done
            # With a callback each stack has one run.
            ended = self.callback is not None and self.callback(cells[0].scheme, stack[0])
            return bool(ended) or self.stopped.is_set()

        stack = train(
            cells[0].network,
            np.array(starts),
            result.X,
            result.Y,
            learning_rate=[cell.learning_rate for cell in cells],
            iterations=result.iterations,
            threads=self.threads,
            callback=advance,
            callback_every=None,
        )
        self.display.advance(len(cells) * result.iterations - shown)
        return trials_of(
            cells,
            starts,
            stack,
            result.X,
            result.Y,
            result.test,
            iterations=result.iterations,
            target_cost=result.target_cost,
            iterations_to_accuracy=[
                self.iterations_to_accuracy(cell, start, run.iterations)
                for cell, start, run in zip(cells, starts, stack, strict=True)
            ],
        )

    def iterations_to_accuracy(self, cell: Cell, start: Array, iterations: int) -> int | None:
        """Return the number of iterations at which the target accuracy is first reached.

        The run is trained a second time, to the same bits, and stops at every stride and at the end
        to compute the accuracy; the first training need not stop.
        """
        result, theta = self.result, start.copy()
        if result.target_accuracy is None:
            return None
        step = stride(result.iterations)
        done: int
        for done in [*range(0, iterations, step), iterations]:
            if cell.network.accuracy(theta, result.X, result.Y) >= result.target_accuracy:
                return done
            train(
                cell.network,
                theta,
                result.X,
                result.Y,
                learning_rate=cell.learning_rate,
                iterations=min(step, iterations - done),
                threads=self.threads,
                callback=lambda _: self.stopped.is_set(),
                callback_every=None,
            )
        return None

    def seed(self, cell: Cell) -> Seed:
        """Return the seed of a cell; for None a copy of the global random state."""
        if cell.seed is not None:
            return cell.seed
        copy = np.random.RandomState()
        copy.set_state(self.global_state)
        return copy

    def key(self, cell: Cell, start: Array) -> bytes:
        """Return the digest of everything that determines the outcome of a cell.

        This includes the start, and with it how the installed version draws from the seed.
        """
        result = self.result
        about = [
            self.data,
            repr(cell.network),
            repr(GradientDescent(cell.learning_rate)),
            result.iterations,
            result.target_cost,
            result.target_accuracy,
            cell.scheme,
            as_code(cell.seed),
            hashlib.sha256(start.tobytes()).hexdigest(),
        ]
        return hashlib.sha256(json.dumps(about).encode()).digest()
