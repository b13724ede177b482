"""compare(): schemes x seeds x architectures x learning rates on one data set -> one table."""

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
from numpy.typing import ArrayLike, NDArray

from fastinit.comparison.grid import Cell, check_targets, networks_of, plain, seeds_of, values_of
from fastinit.comparison.results import Comparison, Interrupted
from fastinit.comparison.tables import rich_table
from fastinit.comparison.trials import Trial, finished, stride
from fastinit.initializers import scheme as registry
from fastinit.initializers.target import Seed
from fastinit.kernels import usable_cores
from fastinit.training.loop import train
from fastinit.training.network import Matrix, Network
from fastinit.training.optimizers import GradientDescent
from fastinit.training.progress import Display
from fastinit.training.run import Run, Stack
from fastinit.validation import MOST_ITERATIONS, check_integer

if TYPE_CHECKING:
    from fastinit.comparison.store import Store

Array = NDArray[Any]

# What one stack trains, in multiply-adds: about a quarter of a second, as much as a process that
# dies may lose. The second is what an iteration costs whatever the size of the network.
STACK_WORK = 5e9


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
    """Train from each scheme, in every combination of the axes, and put the outcomes side by side.

    Without any axis each scheme gets one run: the lesson.

    Parameters
    ----------
    X : array_like of shape (n_features, n_examples)
    Y : array_like of shape (n_outputs, n_examples), each 0 or 1
    network : Network
        Its settings hold for all runs, except where an axis says else.
    schemes : str or sequence of str
        Names that :func:`fastinit.initializers.names` lists, each once.
    test : (X_test, Y_test), optional
    learning_rate : float or sequence of float, default 0.01
        As ``seed``, ``depth``, ``width`` and ``activation``, one value or several: several are an
        axis of the grid, each value once.
    iterations : int, default 15000
    seed : int, sequence of int, SeedSequence, Generator or None
        Every scheme starts from the same seeds. None takes the default of each scheme:
        ``lesson.random`` draws from NumPy's global state, which is left as it was, ``lesson.he``
        takes 3 as in the lesson, and all others take 0.
    depth, width : int or sequence of int, optional
        The number of hidden layers, and the units of each; those of the network by default. If
        only one of them is given, the hidden layers of the network must have a single width.
    activation : str or sequence of str, optional
        Activation of the hidden layers, as in :class:`fastinit.Network`.
    target_cost, target_accuracy : float, optional
        Record for each run the iterations until its cost was first as low, until its training
        accuracy was first as high. The accuracy is looked at some 300 times in a run.
    store : path-like, optional
        An SQLite file (:class:`fastinit.comparison.store.Store`): every finished run is written
        there as it ends, and one that is there already is not trained again. Processes may share
        it. Short runs of one network train and end together, a quarter of a second's worth of them.
    threads : int, optional
        At most so many; all usable cores if left out. So many runs train side by side, except with
        a callback: then one after the other.
    progress : bool or callable, default False
        True shows running medians and the time left, if standard error is a terminal (this needs
        rich). A callable is called as ``progress(comparison)`` after every run, with all that is
        finished, by the thread that trained it, one call at a time.
    callback : callable, optional
        Called as ``callback(scheme, run)`` while a run trains, by the thread that trains it;
        returning True ends this run. A run ended so is not written to the store.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit, before anything is trained or written.
    OSError
        Where the store cannot be written; what was in it stays.
    Interrupted
        At Ctrl-C; a KeyboardInterrupt with all finished runs in its attribute ``comparison``.

    Notes
    -----
    The outcome of a run depends neither on the other cells nor on threads and store.

    Large random weights amplify the last bit of rounding: changing ``X`` by one unit in the last
    place moves the lesson's cost at iteration 1000 between 0.386 and 0.418. Their accuracies are
    stable to about a hundredth; their costs are not, on any two machines.

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
    names = values_of("schemes", schemes, "name", str)
    for scheme in names:
        registry.get(scheme)
    X = network.check_X(X)
    Y = network.check_Y(Y, X)
    if test is not None:
        X_test = network.check_X(test[0], name="X_test")
        test = (X_test, network.check_Y(test[1], X_test, name="Y_test"))
    iterations = check_integer("iterations", iterations, 0, MOST_ITERATIONS)
    if threads is not None:
        threads = check_integer("threads", threads, 1, MOST_ITERATIONS)
    check_targets(network, target_cost, target_accuracy)

    rates = list(map(float, values_of("learning_rate", learning_rate, "number", float)))
    for rate in rates:
        GradientDescent(rate)  # raises for a rate that it cannot take
    seeds = seeds_of(names, seed)
    cells = tuple(
        Cell(scheme, start, each, rate)
        for each in networks_of(network, depth, width, activation)
        for rate in rates
        for scheme in names
        for start in seeds[scheme]
    )
    if len(set(cells)) < len(cells):
        raise ValueError("grid: expected each cell once; got several of the same network")
    settings = {
        "seed": seed, "depth": depth, "width": width, "learning_rate": learning_rate,
        "activation": activation, "iterations": iterations,
        "target_cost": target_cost, "target_accuracy": target_accuracy,
    }  # fmt: skip
    settings = {name: plain(value) for name, value in settings.items() if value is not None}
    result = Comparison(
        X, Y, test, cells, iterations, target_cost, target_accuracy, network, settings
    )
    # The finished runs of a comparison are a fair sample of it when they come in any order, and
    # processes that share a store then seldom train the same one at the same time.
    threads = threads or usable_cores()
    places = list(range(len(cells)))
    shuffle = np.random.default_rng().shuffle if store is not None else lambda _: None
    shuffle(places)
    # As long as there is a callback one run goes after another, each to its own end.
    most = 1 if callback is not None else len(cells) // (4 * threads)
    stacks = _stacks(result, places, most)
    shuffle(stacks)
    try:
        with ExitStack() as stack:
            runner = _Runner(
                result,
                None if store is None else stack.enter_context(_opened(store)),
                stack.enter_context(
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
        raise Interrupted(result) from None
    return result


def _stacks(result: Comparison, places: Iterable[int], most: int) -> list[list[int]]:
    """Cut places of the grid into stacks: at most so many cells of one network each."""
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


def _opened(path: str | os.PathLike[str]) -> "Store":
    # Here, for not every build of Python has SQLite, and who stores nothing does not wait for it.
    from fastinit.comparison.store import Store

    return Store(path)


# --- the training -------------------------------------------------------------------------------


class _Runner:
    """Where the cells of one comparison become trials: looked up, or trained and stored."""

    def __init__(
        self,
        result: Comparison,
        store: "Store | None",
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
        self.data = digest(result)
        # As it stands now: it may move on while other runs train.
        self.global_state = np.random.get_state()

    def finish(self, stacks: Iterable[list[int]], threads: int) -> None:
        """Finish the cells at these places of the grid, those of a stack in one training."""
        left = deque(stacks)
        n = min(threads, len(left)) if self.callback is None else 1
        self.threads = threads // n
        with ThreadPoolExecutor(n, thread_name_prefix="fastinit") as pool:
            workers = []
            with suppress(RuntimeError):  # no more threads to be had: fewer do the work
                for _ in range(n):
                    workers.append(pool.submit(self.work, left))
            try:
                if not workers:
                    self.work(left)
                # In short waits, for on Windows Ctrl-C does not end a long one.
                while workers and wait(workers, 0.1, FIRST_EXCEPTION).not_done:
                    if any(worker.done() and worker.exception() for worker in workers):
                        break
            finally:
                # After an error or Ctrl-C: what is in flight stops within a slice of its training.
                self.stopped.set()
        for worker in workers:
            worker.result()

    def work(self, left: deque[list[int]]) -> None:
        """Finish stacks, in the calling thread, as long as any are left."""
        while left and not self.stopped.is_set():
            try:
                places = left.popleft()
            except IndexError:  # another thread was faster
                return
            self.finish_stack(places)

    def finish_stack(self, places: list[int]) -> None:
        """Finish cells of one network, in the calling thread: those not in the store are trained.

        A run that is stopped on its way leaves nothing.
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
        # The way to a target accuracy may have been cut short, after a whole training.
        cut = self.stopped.is_set() and result.target_accuracy is not None
        kept = {
            place: trial
            for place, trial in zip(missing, trials, strict=True)
            if not cut and (trial.is_whole(result.iterations) or not self.stopped.is_set())
        }
        if self.store is not None:
            self.store.add(
                {missing[p][0]: t for p, t in kept.items() if t.is_whole(result.iterations)}
            )
        for place, trial in kept.items():
            self.record(place, trial)

    def record(self, place: int, trial: Trial) -> None:
        """Put a trial into the result, and tell of it."""
        self.result._found[place] = trial
        with self.one_at_a_time:
            self.progress(self.result)

    def train(self, cells: list[Cell], starts: Matrix) -> list[Trial]:
        """Train cells of one network as a stack, as far as nobody stops it."""
        result = self.result
        shown = 0

        def advance(stack: Stack) -> bool:
            nonlocal shown
            done = sum(run.iterations for run in stack)
            self.display.advance(done - shown)
            shown = done
            # With a callback each stack is of one run.
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
        )
        self.display.advance(len(cells) * result.iterations - shown)
        return finished(
            cells,
            starts,
            stack,
            result.X,
            result.Y,
            result.test,
            target_cost=result.target_cost,
            iterations_to_accuracy=[
                self.iterations_to_accuracy(cell, start, run.iterations)
                for cell, start, run in zip(cells, starts, stack, strict=True)
            ],
        )

    def iterations_to_accuracy(self, cell: Cell, start: Array, iterations: int) -> int | None:
        """Train again, up to the first look at which the accuracy has reached the target.

        The second training has the bits of the first; so the first need not stop for every look.
        """
        result, theta = self.result, start.copy()
        if result.target_accuracy is None:
            return None
        step = stride(result.iterations)
        for done in range(0, iterations + 1, step):
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
            )
        return None

    def seed(self, cell: Cell) -> Seed:
        """Return the seed of a cell; the global state is copied, not drawn from."""
        if cell.seed is not None:
            return cell.seed
        copy = np.random.RandomState()
        copy.set_state(self.global_state)
        return copy

    def key(self, cell: Cell, start: Array) -> bytes:
        """Return the digest of all that determines the outcome of a cell.

        The start is part of it, and with it the stream that the scheme drew from, whatever the
        version of fastinit.
        """
        result = self.result
        about = [
            self.data,
            repr(cell.network),
            repr(GradientDescent(cell.learning_rate)),
            int(result.iterations),
            result.target_cost,
            result.target_accuracy,
            cell.scheme,
            str(cell.seed),
            hashlib.sha256(start.tobytes()).hexdigest(),
        ]
        return hashlib.sha256(json.dumps(about).encode()).digest()


def digest(result: Comparison) -> str:
    """Return the SHA-256 of the data, of the test data as well where there are some."""
    found = hashlib.sha256()
    for array in (result.X, result.Y, *(result.test or ())):
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()
