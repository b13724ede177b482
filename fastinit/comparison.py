"""compare(): schemes x seeds x architectures x learning rates on one data set -> one table."""

import hashlib
import inspect
import json
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit import initializers
from fastinit.initializers import Seed
from fastinit.kernels import usable_cores
from fastinit.network import Array, Network
from fastinit.optimizers import GradientDescent
from fastinit.progress import Display
from fastinit.tables import Table
from fastinit.training import Run, Stack, train
from fastinit.trials import Cell, Trial, finished, majority, stride

if TYPE_CHECKING:
    from fastinit.store import Store

AXES = ("seed", "depth", "width", "learning_rate", "activation")
QUARTILES = (0.25, 0.5, 0.75)
# What one stack trains, in multiply-adds: about a quarter of a second, as much as a process that
# dies may lose. The second is what an iteration costs whatever the size of the network.
STACK_WORK = 5e9
ITERATION_WORK = 5e3


@dataclass(eq=False, repr=False)
class Comparison:
    """What became of each cell of the grid; prints as a table.

    With one run for each scheme, the lesson, that is :meth:`table`, otherwise :meth:`summary`.
    Iterating gives one dict for each run, the rows of :meth:`records`.

    Attributes
    ----------
    X, Y : ndarray
        The training data.
    test : pair of ndarray or None
    cells : tuple of Cell
        The whole grid, finished or not.
    iterations : int
        That each run was to make.
    target_cost, target_accuracy : float or None
    network : Network
        That was given.
    settings : dict
        The keywords that were given and determine the outcome, for whoever wants it again.
    """

    X: Array
    Y: Array
    test: tuple[Array, Array] | None
    cells: tuple[Cell, ...]
    iterations: int
    target_cost: float | None
    target_accuracy: float | None
    network: Network
    settings: dict[str, Any]
    _found: dict[int, Trial] = field(default_factory=dict)  # by the cell's place in the grid

    @property
    def trials(self) -> list[Trial]:
        """The finished runs, in the order of the grid."""
        return [self._found[place] for place in sorted(self._found)]

    @property
    def schemes(self) -> list[str]:
        """The schemes, in order."""
        return list(dict.fromkeys(cell.scheme for cell in self.cells))

    @property
    def varying(self) -> list[str]:
        """The axes of the grid, other than the scheme, that have more than one value."""
        # Each scheme may have a seed of its own, as in the lesson; that is no axis.
        values = {name: {(c.scheme, str(getattr(c, name))) for c in self.cells} for name in AXES}
        return [name for name in AXES if len(values[name]) > len(self.schemes)]

    @property
    def runs(self) -> dict[str, Trial]:
        """Each scheme's run; ValueError where schemes have several."""
        if len(self.cells) > len(self.schemes):
            raise ValueError(
                f"runs: expected one run for each scheme; got a grid of {len(self.cells)} cells, "
                f"whose runs are in trials"
            )
        return {trial.cell.scheme: trial for trial in self.trials}

    @property
    def starts(self) -> dict[str, Array]:
        """The ``theta`` that each scheme's run started from."""
        return {scheme: trial.start for scheme, trial in self.runs.items()}

    def of(self, scheme: str) -> list[Trial]:
        """Return the finished runs of one scheme."""
        return [trial for trial in self.trials if trial.cell.scheme == scheme]

    def typical(self, scheme: str) -> Trial:
        """Return a scheme's finished run of median final cost, the lower of the middle two."""
        ordered = sorted(self.of(scheme), key=lambda trial: _or_infinite(trial.final_cost))
        if not ordered:
            raise ValueError(f"scheme: expected one with finished runs; got {scheme!r}")
        return ordered[(len(ordered) - 1) // 2]

    def curves(self) -> dict[str, NDArray[np.float64]]:
        """Return the cost curves of each scheme's whole runs, shape (k, n_points).

        Where the points lie is in ``trials[0].points``, the same for all. A run that a callback
        ended is left out.
        """
        whole = {name: [t.costs for t in self.of(name) if _whole(t, self)] for name in self.schemes}
        return {name: np.array(costs) for name, costs in whole.items() if costs}

    def table(self) -> Table:
        """Return a row a run for reading: what sets it apart, what came out, and the verdict."""
        return Table([self._row(trial) for trial in self.trials])

    def records(self) -> Table:
        """Return a row a run for computing: all axes and outcomes, under one-word names."""
        return Table([trial.record() for trial in self.trials])

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`records` as CSV."""
        self.records().to_csv(path)

    def to_pandas(self) -> Any:
        """Return :meth:`records` as a ``pandas.DataFrame``."""
        return self.records().to_pandas()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.records())

    def __len__(self) -> int:
        return len(self._found)

    def summary(self, *by: str) -> Table:
        """Return medians, quartiles and shares of the runs of each scheme.

        Parameters
        ----------
        *by : "seed", "depth", "width", "learning_rate" or "activation"
            Axes by which the runs of a scheme are told apart as well.

        Notes
        -----
        A diverged run counts as one of infinite cost, and one that never reached the target as one
        that needs infinitely many iterations.
        """
        for name in by:
            if name not in AXES:
                raise ValueError(f"by: expected of {', '.join(AXES)}; got {name!r}")
        groups: dict[tuple[Any, ...], list[Trial]] = {}
        for scheme in self.schemes:
            for trial in self.of(scheme):
                key = (scheme, *(getattr(trial.cell, name) for name in by))
                groups.setdefault(key, []).append(trial)
        names = ("scheme", *(name.replace("_", " ") for name in by))
        return Table(
            [dict(zip(names, key, strict=True)) | self._outcomes(groups[key]) for key in groups]
        )

    def verdict(self, scheme: str) -> str:
        """Return in plain words what became of a scheme, computed from its runs."""
        trials = self.of(scheme)
        if not trials:
            raise ValueError(f"scheme: expected one with finished runs; got {scheme!r}")
        if len(trials) == 1:
            return trials[0].verdict
        guessing = majority(self.network, self.Y)
        accuracies = [t.train_accuracy for t in trials if t.train_accuracy is not None]
        better = [accuracy > guessing for accuracy in accuracies]
        shares = {
            "symmetry unbroken in": [trial.symmetric for trial in trials],
            "better than always guessing one class in": better,
            "converged in": [trial.converged for trial in trials],
            "diverged in": [trial.diverged_at is not None for trial in trials],
        }
        parts = [f"{words} {_share(flags)}" for words, flags in shares.items() if any(flags)]
        if better and not any(better):
            parts.append("never better than always guessing one class")
        if not self.iterations:
            return "; ".join([*parts, "not trained"])
        costs = [_quantile([trial.final_cost for trial in trials], share) for share in QUARTILES]
        low, median, high = (f"{cost:.3g}" if cost < math.inf else "infinite" for cost in costs)
        spread = "" if low == high else f", half of the runs from {low} to {high}"
        return "; ".join([*parts, f"median final cost {median}{spread}"])

    def _row(self, trial: Trial) -> dict[str, Any]:
        record = trial.record()
        return {
            "scheme": trial.cell.scheme,
            **{name.replace("_", " "): record[name] for name in self.varying},
            "train accuracy": trial.train_accuracy,
            "test accuracy": trial.test_accuracy,
            "final cost": trial.final_cost,
            **{name: getattr(trial, attribute) for name, attribute in self._targets().items()},
            "verdict": trial.verdict,
        }

    def _outcomes(self, trials: list[Trial]) -> dict[str, Any]:
        low, median, high = (_quantile([t.final_cost for t in trials], q) for q in QUARTILES)
        return {
            "runs": len(trials),
            "train accuracy": _median_accuracy([t.train_accuracy for t in trials]),
            "test accuracy": _median_accuracy([t.test_accuracy for t in trials]),
            "cost 25%": low,
            "median cost": median,
            "cost 75%": high,
            **{
                name: _median_iterations([getattr(t, attribute) for t in trials])
                for name, attribute in self._targets().items()
            },
            "converged": float(np.mean([t.converged for t in trials])),
            "diverged": float(np.mean([t.diverged_at is not None for t in trials])),
        }

    def _targets(self) -> dict[str, str]:
        """Return the attributes of a trial that tell when a target was reached, by column."""
        found = {}
        if self.target_cost is not None:
            found[f"iterations to cost {self.target_cost:g}"] = "iterations_to_cost"
        if self.target_accuracy is not None:
            found[f"iterations to accuracy {self.target_accuracy:g}"] = "iterations_to_accuracy"
        return found

    def _shown(self) -> Table:
        return self.table() if len(self.cells) == len(self.schemes) else self.summary()

    def __repr__(self) -> str:
        missing = len(self.cells) - len(self)
        lines = [f"{len(self):,} of {len(self.cells):,} runs finished"] if missing else []
        return "\n".join([repr(self._shown()), *lines])

    def _repr_html_(self) -> str:
        return self._shown()._repr_html_()


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a comparison. What is finished is in the attribute ``comparison``."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(f"{len(comparison)} of {len(comparison.cells)} runs finished")
        self.comparison = comparison


def compare(
    X: ArrayLike,
    Y: ArrayLike,
    network: Network,
    schemes: Sequence[str],
    *,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    learning_rate: float | None = None,
    iterations: int = 15_000,
    seed: Seed = None,
    seeds: Sequence[int] | None = None,
    depths: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    learning_rates: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
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
    schemes : sequence of str
        Names that :func:`fastinit.initializers.names` lists, each once.
    test : (X_test, Y_test), optional
    learning_rate : float, default 0.01
    iterations : int, default 15000
    seed : int, SeedSequence, Generator or None
        Every scheme starts from the same seed. Without one the lesson is followed: ``random`` draws
        from NumPy's global state as it stands, and ``he`` from the seed 3 that the lesson's own
        function sets; all other schemes take the seed 0. The global state is left as it was.
    seeds : sequence of int, optional
        An axis of the grid, in place of ``seed``; as all axes, each value once.
    depths, widths : sequence of int, optional
        Axes: the number of hidden layers, and the units of each. Of the two the one that is not
        given is that of the network, whose hidden layers must then be of one width.
    learning_rates : sequence of float, optional
        An axis, in place of ``learning_rate``.
    activations : sequence of str, optional
        An axis: what :class:`Network` takes as ``hidden``.
    target_cost, target_accuracy : float, optional
        Note for each run the iterations until its cost was first as low, until its training
        accuracy was first as high. The accuracy is looked at some 300 times in a run.
    store : path-like, optional
        An SQLite file (:class:`fastinit.store.Store`): every finished run is written there as it
        ends, and one that is there already is not trained again. Processes may share it. Short runs
        of one network train and end together, a quarter of a second's worth of them.
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
    >>> X, Y, X_test, Y_test = fi.datasets.load_dataset()
    >>> net = fi.Network([2, 10, 5, 1])
    >>> result = fi.compare(X, Y, net, ["zeros", "he"], test=(X_test, Y_test), iterations=1000)
    >>> [row["scheme"] for row in result.table()]
    ['zeros', 'he']
    >>> grid = fi.compare(
    ...     X, Y, net, ["he_normal", "glorot_uniform"], seeds=range(5), learning_rates=[0.1, 0.5],
    ...     iterations=500, target_cost=0.5,
    ... )
    >>> len(grid)
    20
    >>> [row["runs"] for row in grid.summary("learning_rate")]
    [5, 5, 5, 5]
    """
    if not isinstance(network, Network):
        raise TypeError(f"network: expected a Network; got {type(network).__name__}")
    names = _axis("schemes", schemes, "name", str)
    for scheme in names:
        initializers.get(scheme)
    X = network.check_X(X)
    Y = network.check_Y(Y, X)
    if test is not None:
        X_test = network.check_X(test[0], name="X_test")
        test = (X_test, network.check_Y(test[1], X_test, name="Y_test"))
    if not 0 <= _integer("iterations", iterations) < 2**48:
        raise ValueError(f"iterations: expected from 0 to 2**48 - 1; got {iterations}")
    if threads is not None and _integer("threads", threads) < 1:
        raise ValueError(f"threads: expected at least 1; got {threads}")
    _check_targets(network, target_cost, target_accuracy)

    rates = _one_or_axis("learning_rate", learning_rate, learning_rates, "number", float) or [0.01]
    rates = [float(rate) for rate in _axis("learning_rate", rates, "number", float)]
    for rate in rates:
        GradientDescent(rate)  # raises for a rate that it cannot take
    if isinstance(seed, np.random.Generator):
        seed = int(seed.integers(2**32))  # once: a generator moves on as it is asked
    own_seeds = _seeds(names, seed, seeds)
    cells = tuple(
        Cell(scheme, start, each, rate)
        for each in _networks(network, depths, widths, activations)
        for rate in rates
        for scheme in names
        for start in own_seeds[scheme]
    )
    if len(set(cells)) < len(cells):
        raise ValueError("grid: expected each cell once; got several of the same network")
    settings = {
        "seed": seed, "seeds": seeds, "depths": depths, "widths": widths,
        "learning_rate": learning_rate, "learning_rates": learning_rates,
        "activations": activations, "iterations": iterations,
        "target_cost": target_cost, "target_accuracy": target_accuracy,
    }  # fmt: skip
    settings = {name: _plain(value) for name, value in settings.items() if value is not None}
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
            workshop = _Workshop(
                result,
                None if store is None else stack.enter_context(_opened(store)),
                stack.enter_context(
                    Display(len(cells) * iterations, result.summary, progress is True)
                ),
                progress if callable(progress) else lambda _: None,
                callback,
            )
            workshop.finish(stacks, threads)
    except KeyboardInterrupt:
        raise Interrupted(result) from None
    return result


# --- the grid -----------------------------------------------------------------------------------


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer; got {type(value).__name__}")
    return int(value)


def _check_targets(network: Network, cost: Any, accuracy: Any) -> None:
    for name, target in (("target_cost", cost), ("target_accuracy", accuracy)):
        if target is not None:
            _axis(name, [target], "number", float)
    if cost is not None and not math.isfinite(cost):
        raise ValueError(f"target_cost: expected a finite cost; got {cost}")
    if accuracy is not None and not 0 < accuracy <= 1:
        raise ValueError(f"target_accuracy: expected 0 < accuracy <= 1; got {accuracy}")
    if accuracy is not None and not network.classifies:
        raise ValueError(
            f"target_accuracy: expected output sigmoid or softmax; got {network.output!r}"
        )


def _axis(name: str, values: Any, what: str, kind: type) -> list[Any]:
    """Return the values of one axis, checked: several of one type, each once."""
    if isinstance(values, str) or not isinstance(values, (Sequence, np.ndarray)):
        got = f"the string {values!r}" if isinstance(values, str) else type(values).__name__
        raise TypeError(f"{name}: expected a sequence of {what}s; got {got}")
    found = [value.item() if isinstance(value, np.generic) else value for value in values]
    for value in found:
        if isinstance(value, bool) or not isinstance(value, (kind, int) if kind is float else kind):
            raise TypeError(f"{name}: expected {what}s; got {value!r}")
    if not found:
        raise ValueError(f"{name}: expected at least one {what}; got none")
    if len(set(found)) < len(found):
        raise ValueError(f"{name}: expected each {what} once; got {', '.join(map(str, found))}")
    return found


def _one_or_axis(name: str, one: Any, several: Any, what: str, kind: type) -> list[Any] | None:
    """Return what is given by ``name`` or, as an axis, by its plural; None without either."""
    if several is None:
        return None if one is None else [one]
    if one is not None:
        raise TypeError(f"{name}: expected it or {name}s; got both")
    return _axis(f"{name}s", several, what, kind)


def _plain(value: Any) -> Any:
    """Return an argument as it would be written in Python."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return list(value) if isinstance(value, Sequence) and not isinstance(value, range) else value


def _seeds(schemes: list[str], seed: Seed, seeds: Any) -> dict[str, list[Seed]]:
    """Return the seeds of each scheme, so that every scheme starts alike."""
    given = _one_or_axis("seed", seed, seeds, "integer", int)
    # The lesson's own function for He weights seeds itself with 3.
    lesson: dict[str, Seed] = {"random": None, "he": 3}
    found = {scheme: given or [lesson.get(scheme, 0)] for scheme in schemes}
    for scheme, own in found.items():
        for each in own:
            initializers.shared_seed(scheme, each)  # raises for a seed that it cannot take
    return found


def _networks(network: Network, depths: Any, widths: Any, activations: Any) -> list[Network]:
    """Return the network in all depths, widths and activations."""
    shapes = [network.sizes]
    if depths is not None or widths is not None:
        hidden = network.sizes[1:-1]
        own_depths = [len(hidden)] if depths is None else _axis("depths", depths, "integer", int)
        own_widths = (
            list(set(hidden)) if widths is None else _axis("widths", widths, "integer", int)
        )
        if widths is None and len(own_widths) != 1:
            raise ValueError(
                f"depths: expected widths with them, for hidden layers of no one width; "
                f"got {list(hidden)}"
            )
        if min(own_depths) < 0:
            raise ValueError(f"depths: expected at least 0; got {min(own_depths)}")
        shapes = [
            (network.sizes[0], *[width] * depth, network.sizes[-1])
            for depth in own_depths
            for width in own_widths
        ]
    if activations is None:
        activations = [network.hidden]
    settings = {name: getattr(network, name) for name in inspect.signature(Network).parameters}
    return [
        Network(**settings | {"sizes": sizes, "hidden": hidden})
        for sizes in shapes
        for hidden in _axis("activations", activations, "name", str)
    ]


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
    from fastinit.store import Store

    return Store(path)


# --- the training -------------------------------------------------------------------------------


class _Workshop:
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
                self.note(place, found)
        if not missing:
            return
        cells = [result.cells[place] for place in missing]
        trials = self.train(cells, np.array([start for _, start in missing.values()]))
        # The way to a target accuracy may have been cut short, after a whole training.
        cut = self.stopped.is_set() and result.target_accuracy is not None
        kept = {
            place: trial
            for place, trial in zip(missing, trials, strict=True)
            if not cut and (_whole(trial, result) or not self.stopped.is_set())
        }
        if self.store is not None:
            self.store.add({missing[p][0]: t for p, t in kept.items() if _whole(t, result)})
        for place, trial in kept.items():
            self.note(place, trial)

    def note(self, place: int, trial: Trial) -> None:
        """Put a trial into the result, and tell of it."""
        self.result._found[place] = trial
        with self.one_at_a_time:
            self.progress(self.result)

    def train(self, cells: list[Cell], starts: Array) -> list[Trial]:
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
            starts.copy(),
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


def _whole(trial: Trial, result: Comparison) -> bool:
    """Return whether a run came to its own end, and not to that of a callback."""
    return trial.diverged_at is not None or trial.iterations == result.iterations


# --- what many runs have in common --------------------------------------------------------------


def _quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile as ``np.quantile`` does, but with infinities; NaN counts as one."""
    ordered = sorted(map(_or_infinite, values))
    rank, rest = divmod(share * (len(ordered) - 1), 1)
    below, above = ordered[int(rank)], ordered[min(int(rank) + 1, len(ordered) - 1)]
    # Infinity minus infinity, and infinity times zero, would make NaN of quantiles that exist.
    return below if rest == 0 or below == above else (1 - rest) * below + rest * above


def _or_infinite(cost: float) -> float:
    return math.inf if math.isnan(cost) else cost


def _median_accuracy(accuracies: Sequence[float | None]) -> float | None:
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    return _quantile(known, 0.5) if known else None


def _median_iterations(iterations: Sequence[int | None]) -> float:
    """Return the median; None counts as never. A whole number where it is finite."""
    median = _quantile([math.inf if n is None else n for n in iterations], 0.5)
    return round(median) if math.isfinite(median) else median


def _share(flags: Sequence[bool]) -> str:
    return "all runs" if all(flags) else f"{np.mean(flags):.0%} of runs"
