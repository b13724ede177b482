"""Comparison: the runs of a grid as columns, tables, cost curves, verdicts and a ranking."""

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.comparison.courses import COURSES, STOPPED
from fastinit.comparison.grid import AXES, Grid, depth_of, rate_label, width_of
from fastinit.comparison.ranking import Ranking, answer, rank
from fastinit.comparison.statistics import (
    QUARTILES,
    median_iterations,
    quantile,
    quantiles,
)
from fastinit.comparison.tables import Table, counted, joined
from fastinit.comparison.trials import (
    COLUMNS,
    Block,
    Data,
    Metric,
    Trial,
    metrics_of,
    scores_named,
)
from fastinit.comparison.verdicts import (
    PREDICTIONS,
    Evidence,
    caution_of,
    evidence_of,
    sentences,
    verdict_of,
)
from fastinit.training.network import Array, Network
from fastinit.validation import check_name

T = TypeVar("T")

# The axes whose values determine the network of a cell.
NETWORK = ("depth", "width", "activation")
# Bytes of the parameters that are read from a store at once.
MOST_READ = 1 << 22
# The largest number of runs of a scheme from which the error of the choice of the test examples is
# estimated: their mean varies little with more.
MOST_TYPICAL = 50


@dataclass(eq=False, repr=False)
class Comparison:
    """The runs of all cells of a grid; prints as a table.

    With one run for each scheme it prints as :meth:`table`, otherwise as :meth:`summary`. Iterating
    yields one dict for each run, the rows of :meth:`records`.

    Attributes
    ----------
    data : Data
        The training and test data, the settings of the training, and the targets.
    cells : Grid
        The whole grid, finished or not: a sequence of :class:`Cell`.
    network : Network
        The network that was given; its cells may vary depth, width and activation.
    settings : dict
        Keywords of :func:`fastinit.compare` that reproduce the runs.
    """

    data: Data
    cells: Grid
    network: Network
    settings: dict[str, Any]
    # Indices of cells, and their runs, in the order in which they were finished. The columns of the
    # first _known blocks are in _columns, and no longer in the blocks: they take 100 MB in a
    # comparison of a million runs.
    _blocks: list[tuple[NDArray[np.intp], Block]] = field(default_factory=list)
    _columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    _known: int = -1
    _computed: dict[Any, Any] = field(default_factory=dict)  # from the columns
    # The digest of data that a store does not have.
    _digest: str | None = None

    # --- data ---------------------------------------------------------------------------------

    @property
    def X(self) -> Array:
        """The training data, of shape (n_features, n_examples)."""
        return self.data.X

    @property
    def Y(self) -> Array:
        """The training labels, of shape (n_outputs, n_examples)."""
        return self.data.Y

    @property
    def test(self) -> tuple[Array, Array] | None:
        """The test data ``(X_test, Y_test)``, or None."""
        return self.data.test

    @property
    def has_data(self) -> bool:
        """Whether the data are there; those of a store may be too large, and are NaN then."""
        return self._digest is None

    def digest(self) -> str:
        """Return the SHA-256 of the training and test data, in hexadecimal."""
        if self._digest is not None:
            return self._digest
        found = hashlib.sha256()
        for array in (self.X, self.Y, *(self.test or ())):
            found.update(f"{array.dtype} {array.shape}".encode())
            found.update(array.tobytes())
        return found.hexdigest()

    # --- the grid -----------------------------------------------------------------------------

    @property
    def schemes(self) -> list[str]:
        """The labels of the schemes, in the order given."""
        return list(self.cells.values["scheme"])

    @property
    def varying(self) -> list[str]:
        """The axes with more than one value, other than the scheme."""
        several = [name for name in AXES if len(self.cells.values[name]) > 1]
        # Default seeds differ between schemes; that does not make the seed an axis.
        if "seed" in several and self._one_seed_each:
            several.remove("seed")
        return several

    @cached_property
    def _one_seed_each(self) -> bool:
        return self.cells.numbers("scheme", "seed")[1] <= len(self.schemes)

    def add(self, places: ArrayLike, block: Block) -> None:
        """Add finished runs: the indices of their cells, and their outcomes."""
        self._blocks.append((np.asarray(places, np.intp), block))

    def restore(
        self,
        places: NDArray[np.intp],
        columns: Mapping[str, NDArray[Any]],
        parts: Sequence[tuple[NDArray[np.intp], Block]],
    ) -> None:
        """Take over the runs of a store, all at once.

        Parameters
        ----------
        places : ndarray of shape (n_runs,), intp
            The indices of their cells, in ascending order.
        columns : dict of str to ndarray of shape (n_runs,)
            Their outcomes.
        parts : sequence of (ndarray of intp, Block)
            For each network the indices of its runs in the columns, and their arrays, as blocks
            without columns.
        """
        numbers = np.empty(len(places), np.intp)
        numbers[np.concatenate([np.empty(0, np.intp), *(rows for rows, _ in parts)])] = range(
            len(places)
        )
        self._blocks = [(places[rows], block) for rows, block in parts]
        self._columns = {"place": places, **columns, "_row": numbers}
        self._known, self._computed = len(parts), {}

    # --- the runs as columns ------------------------------------------------------------------

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the outcomes of the finished runs as columns, in the order of the grid.

        Returns
        -------
        dict of str to ndarray of shape (n_runs,)
            The columns of :class:`fastinit.comparison.trials.Block`, and ``place``, the index of
            the cell of each run.
        """
        n = len(self._blocks)
        if n != self._known:
            first = max(0, self._known)
            new = [(places, dict(block.columns)) for places, block in self._blocks[first:]]
            known = self._columns.pop("place", np.empty(0, np.intp))
            places = np.concatenate([known, *(places for places, _ in new)])
            order = np.argsort(places, kind="stable")
            columns = {"place": places[order]}
            for name, dtype in {**COLUMNS, "_row": np.dtype(np.intp)}.items():
                old = self._columns.pop(name, np.empty(0, dtype))
                if name == "_row":
                    parts = [np.arange(len(old), len(places))]
                else:
                    parts = [own.pop(name) for _, own in new]
                columns[name] = np.concatenate([old, *parts])[order]
            self._blocks[first:] = [
                (places, replace(block, columns={})) for places, block in self._blocks[first:]
            ]
            self._columns, self._known, self._computed = columns, n, {}
        return dict(self._columns)

    def _once(self, key: Any, compute: Callable[[], T]) -> T:
        """Return what depends on the finished runs, computed once until there are more."""
        self.columns()  # empties the memory if there are more
        if key not in self._computed:
            self._computed[key] = compute()
        found: T = self._computed[key]
        return found

    def __len__(self) -> int:
        return sum(len(places) for places, _ in self._blocks)

    @property
    def trials(self) -> "Trials":
        """The finished runs, in the order of the grid: a sequence of :class:`Trial`."""
        return Trials(self, np.arange(len(self)))

    def of(self, scheme: str) -> "Trials":
        """Return the finished runs of one scheme."""
        return Trials(self, np.flatnonzero(self._code("scheme") == self._scheme_code(scheme)))

    def _scheme_code(self, scheme: str) -> int:
        return self.schemes.index(check_name("scheme", scheme, self.schemes))

    def _code(self, axis: str) -> NDArray[np.int32]:
        """Return the code of each finished run on one axis."""
        codes: NDArray[np.int32] = self.cells.code(axis)[self.columns()["place"]]
        return codes

    @property
    def runs(self) -> dict[str, Trial]:
        """The run of each scheme; raises ValueError if there are several for each scheme."""
        if len(self.cells) > len(self.schemes):
            raise ValueError(
                f"runs: expected one run for each scheme; got a grid of {len(self.cells)} cells, "
                f"whose runs are in trials"
            )
        return {trial.cell.scheme: trial for trial in self.trials}

    @property
    def starts(self) -> dict[str, Array]:
        """The initial ``theta`` of each scheme's run."""
        return {scheme: trial.start for scheme, trial in self.runs.items()}

    def median_trial(self, scheme: str) -> Trial:
        """Return the run of median final cost of a scheme; the lower of two middle ones.

        Raises
        ------
        ValueError
            If the scheme is unknown or has no finished run.
        """
        rows = self._rows_of(scheme)
        costs = self.columns()["final_cost"][rows]
        order = np.argsort(np.where(np.isnan(costs), math.inf, costs), kind="stable")
        return Trials(self, rows)[int(order[(len(rows) - 1) // 2])]

    def _rows_of(self, scheme: str) -> NDArray[np.intp]:
        """Return the rows of a scheme in the columns, of which there must be one at least."""
        rows = np.flatnonzero(self._code("scheme") == self._scheme_code(scheme))
        if not len(rows):
            raise ValueError(f"scheme: expected one with finished runs; got {scheme!r}")
        return rows

    # --- cost curves ----------------------------------------------------------------------------

    def curves(self, *, most: int | None = None, **where: Any) -> dict[str, NDArray[np.float64]]:
        """Return the cost curves of the complete runs of each scheme.

        Parameters
        ----------
        most : int, optional
            Return the curves of at most so many runs of each scheme, drawn at random and always the
            same: those of a million runs are seldom needed, and may take gigabytes.
        **where
            Values of axes, such as ``depth=2``: only these runs are returned.

        Returns
        -------
        dict of str to ndarray of shape (k, n_points)
            The costs of k runs at the iterations :meth:`points`, in the order of the grid; NaN from
            the end of a run on. Runs that a callback ended are left out.

        Raises
        ------
        ValueError
            For an unknown axis or value, or if the runs have different points because they differ
            in their batch size: pass ``batch_size=`` then.

        Examples
        --------
        >>> import fastinit as fi
        >>> X, Y, _, _ = fi.lesson.load_dataset()
        >>> net = fi.Network([2, 3, 1])
        >>> result = fi.compare(X, Y, net, "he_normal", seed=range(5), iterations=1000)
        >>> result.curves()["he_normal"].shape, result.points()[[0, 1, -1]]
        ((5, 501), array([  0,   2, 999]))
        """
        self.points(**where)  # raises if they differ
        columns = self.columns()
        wanted = self._selected(columns["place"], where)
        wanted &= columns["stopped"] != STOPPED.index("callback")
        found = {}
        for code, scheme in enumerate(self.schemes):
            rows = np.flatnonzero(wanted & (self._code("scheme") == code))
            if most is not None and len(rows) > most:
                rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
            if len(rows):
                found[scheme] = self.costs_of(rows)
        return found

    def costs_of(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the cost curves of some runs, which must have the same points.

        Parameters
        ----------
        rows : ndarray of shape (k,), intp
            Different rows of :meth:`columns`.

        Returns
        -------
        ndarray of shape (k, n_points), float64
        """
        numbers = self.columns()["_row"][rows]
        found, end = [], 0
        order = np.argsort(numbers, kind="stable")
        for places, block in self._blocks:
            first, end = end, end + len(places)
            own = numbers[order[slice(*np.searchsorted(numbers, (first, end), sorter=order))]]
            if len(own):
                found.append(block.costs[own - first])
        curves = np.concatenate(found)
        curves[order] = curves.copy()
        return curves

    def points(self, **where: Any) -> NDArray[np.intp]:
        """Return the iterations of the costs in :meth:`curves`, of shape (n_points,)."""
        used = np.bincount(self.cells.code("batch_size")[self._selected(None, where)])
        sizes = {self.cells.values["batch_size"][c] for c in np.flatnonzero(used)}
        several = [self.data.points_of(size) for size in sizes]
        if any(not np.array_equal(each, several[0]) for each in several):
            raise ValueError(
                "batch_size: expected one value, because their points differ; got none"
            )
        return several[0]

    def _selected(
        self, places: NDArray[np.intp] | None, where: Mapping[str, Any]
    ) -> NDArray[np.bool_]:
        """Return which of some cells have these values, by their places; of all if it is None."""
        chosen = np.ones(len(self.cells) if places is None else len(places), np.bool_)
        for axis, value in where.items():
            check_name(axis, axis, ("scheme", *AXES))
            labels, index = self._axis_labels(axis, places)
            own = np.array([label == value for label in labels], np.bool_)[index]
            if not own.any():
                known = list(dict.fromkeys(labels[i] for i in np.unique(index).tolist()))
                raise ValueError(f"{axis}: expected one of {known}; got {value!r}")
            chosen &= own
        return chosen

    # --- tables -------------------------------------------------------------------------------

    @property
    def metrics(self) -> dict[str, Metric]:
        """The measures of a run by name, the default of :meth:`ranking` first."""
        return {each.name: each for each in metrics_of(self.network, self.Y, self.test)}

    def table(self) -> Table:
        """Return one row for each run: the axes that vary, scores, cost and verdict.

        Without test data there is no column of test scores.
        """
        parts = ["train"] if self.test is None else ["train", "test"]
        shown = [scores_named(self.network, part) for part in parts]
        targets = self._targets()
        rows = []
        for record, trial in zip(self.records(), self.trials, strict=True):
            rows.append(
                {
                    "scheme": record["scheme"],
                    **{name.replace("_", " "): record[name] for name in self.varying},
                    **{name.replace("_", " "): record[name] for name in shown},
                    "final cost": record["final_cost"],
                    **{name: record[attribute] for name, attribute in targets.items()},
                    "verdict": trial.verdict,
                }
            )
        return Table(rows)

    def records(self) -> Table:
        """Return one row for each run with all axes and outcomes, under names for programs."""
        columns = self._record_columns()
        lists = [column.tolist() for column in columns.values()]
        return Table([dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)])

    def _record_columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns of :meth:`records` as arrays; missing values are None."""
        columns = self.columns()
        found: dict[str, NDArray[Any]] = {}
        for axis in ("scheme", *AXES):
            found[axis] = self._axis_values(axis, columns["place"])
        for metric in self.metrics.values():
            found[metric.name] = _objects(metric.compute(columns), np.isnan)
        # A diverged run has a final cost: NaN.
        found["final_cost"] = columns["final_cost"]
        courses = np.array(COURSES, object)
        found["course"] = courses[columns["course"]]
        found["diverged_at"] = _objects(columns["diverged_at"], _is_negative)
        for name in ("iterations", "gradient_norm", "change"):
            found[name] = columns[name]
        for name in ("iterations_to_cost", "iterations_to_accuracy"):
            found[name] = _objects(columns[name], _is_negative)
        found["seconds"] = columns["seconds"]
        return found

    def _axis_values(self, axis: str, places: NDArray[np.intp]) -> NDArray[Any]:
        """Return the values of an axis at some cells, as an array of objects."""
        labels, index = self._axis_labels(axis, places)
        values: NDArray[Any] = np.empty(len(labels), object)
        values[:] = labels
        found: NDArray[Any] = values[index]
        return found

    def _axis_labels(
        self, axis: str, places: NDArray[np.intp] | None
    ) -> tuple[list[Any], NDArray[np.integer[Any]]]:
        """Return the values of an axis, and the indices of those of some cells."""
        grid = self.cells
        if axis in ("depth", "width"):
            # These are properties of the network, which may have been given without them.
            of = depth_of if axis == "depth" else width_of
            keys, lengths = list(grid.networks), [len(grid.values[name]) for name in NETWORK]
            number = np.zeros(math.prod(lengths), np.int32)
            number[np.ravel_multi_index(tuple(np.array(keys).T), tuple(lengths))] = range(len(keys))
            codes = tuple(grid.code(name)[_rows(places)] for name in NETWORK)
            index = number[np.ravel_multi_index(codes, tuple(lengths))]
            return [of(grid.networks[key]) for key in keys], index
        labels = grid.labels(axis)
        if axis == "learning_rate" and grid.values[axis] == (None,):
            labels = [rate_label(each) for each in grid.values["optimizer"]]
        return labels, grid.codes[_rows(places), self._place(axis)]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`records` as CSV."""
        self.records().to_csv(path)

    def to_pandas(self) -> Any:
        """Return :meth:`records` as a ``pandas.DataFrame``."""
        return self.records().to_pandas()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.records())

    def summary(self, *by: str) -> Table:
        """Return medians, quartiles and shares over the runs of each scheme.

        With axes, the schemes of one group follow each other, the best first by their medians of
        the default metric.

        Parameters
        ----------
        *by : str
            Axes by which the runs of a scheme are grouped further: "seed", "depth", "width",
            "activation", "optimizer", "learning_rate", "batch_size" or "scale".

        Returns
        -------
        Table

        Raises
        ------
        ValueError
            For another axis.

        Notes
        -----
        A diverged run counts as a run of infinite cost, and a run that did not reach a target as
        one that needs infinitely many iterations.

        Examples
        --------
        >>> import fastinit as fi
        >>> X, Y, _, _ = fi.lesson.load_dataset()
        >>> net = fi.Network([2, 3, 1])
        >>> result = fi.compare(X, Y, net, "zeros", learning_rate=[0.1, 0.2], iterations=20)
        >>> [(row["learning rate"], row["runs"]) for row in result.summary("learning_rate")]
        [(0.1, 1), (0.2, 1)]
        """
        # Copies, because a caller may change the rows of a table.
        return Table([*map(dict, self._once(("summary", *by), lambda: self._summary(*by)))])

    def _summary(self, *by: str) -> list[dict[str, Any]]:
        return [
            {name.replace("_", " "): value for name, value in key.items()} | self._medians(rows)
            for key, rows in self._by_group(*by)
        ]

    def groups(self, *by: str) -> list[tuple[dict[str, Any], NDArray[np.intp]]]:
        """Return the groups of runs that share a scheme and the values of other axes.

        Parameters
        ----------
        *by : str
            Axes, as in :meth:`summary`.

        Returns
        -------
        list of (dict, ndarray of intp)
            The values of the scheme and the axes, and the rows of the group in :meth:`columns`.
        """
        for name in by:
            if name not in AXES:
                raise ValueError(f"by: expected one of {', '.join(AXES)}; got {name!r}")
        columns = self.columns()
        if not len(columns["place"]):
            return []
        groups = self.cells.groups("scheme", *by, places=columns["place"])
        first = columns["place"][[group[0] for group in groups]]
        values = {name: self._axis_values(name, first) for name in ("scheme", *by)}
        return [
            ({name: values[name][i] for name in values}, group) for i, group in enumerate(groups)
        ]

    def _by_group(self, *by: str) -> list[tuple[dict[str, Any], NDArray[np.intp]]]:
        """Return :meth:`groups`, those of the same values of the axes together, the best first."""
        groups = self.groups(*by)
        if not by:
            return groups
        columns, codes = self.columns(), self.cells.codes
        metric = next(iter(self.metrics.values()))
        sign = -1 if metric.higher_is_better else 1
        values = sign * np.array(metric.compute(columns), np.float64)
        values[columns["diverged_at"] >= 0] = np.inf
        used = [self._place(name) for name in by]

        def place(group: tuple[dict[str, Any], NDArray[np.intp]]) -> tuple[list[int], float]:
            own = values[group[1]]
            median = float(quantiles(own, [0.5])[0])
            return codes[columns["place"][group[1][0]], used].tolist(), median

        return sorted(groups, key=place)

    def _medians(self, rows: NDArray[np.intp]) -> dict[str, Any]:
        """Return the row of :meth:`summary` for some runs."""
        columns = self.columns()
        low, median, high = quantiles(columns["final_cost"][rows], QUARTILES).tolist()
        courses = columns["course"][rows]
        return {
            "runs": len(courses),
            **{
                scores_named(self.network, part).replace("_", " "): _median(
                    columns[f"{part}_score"][rows]
                )
                for part in ("train", "test")
            },
            "cost 25%": low,
            "median cost": median,
            "cost 75%": high,
            **{
                name: median_iterations(columns[attribute][rows])
                for name, attribute in self._targets().items()
            },
            "converged": float(np.mean(courses == COURSES.index("converged"))),
            "diverged": float(np.mean(columns["diverged_at"][rows] >= 0)),
        }

    def _targets(self) -> dict[str, str]:
        """Return the column name and the attribute of Trial of each target that was given."""
        found = {}
        if self.data.target_cost is not None:
            found[f"iterations to cost {self.data.target_cost:g}"] = "iterations_to_cost"
        if self.data.target_accuracy is not None:
            name = f"iterations to accuracy {self.data.target_accuracy:g}"
            found[name] = "iterations_to_accuracy"
        return found

    # --- ranking ------------------------------------------------------------------------------

    def ranking(
        self, metric: str | None = None, *, best_of: str | Sequence[str] = (), **where: Any
    ) -> "RankingTable":
        """Rank the schemes by a metric, and test which of them can be distinguished.

        Runs of the same seed and the same values of all other axes are compared with each other.
        The rules are those of :func:`fastinit.comparison.ranking.rank`. A diverged run counts as
        worse than every other run. Each seed counts once, with the median over its runs with all
        values of the other axes.

        Parameters
        ----------
        metric : str, optional
            One of :attr:`metrics`; the first of them by default: the test score, or the final cost
            if there are no test data.
        best_of : str or sequence of str, optional
            Axes other than the seed, such as "learning_rate". Each scheme is ranked at its own best
            values of these axes: those with the lowest median of the final training cost over its
            runs, whatever the metric is. Test data do not influence the choice. All schemes must be
            run with the same values, or those with more of them have an advantage.
        **where
            Values of axes, such as ``depth=2``: only these runs are ranked.

        Returns
        -------
        RankingTable
            One row for each scheme with finished runs, the best first. Its attribute ``answer``
            says which scheme is best, from which ones it is distinguished, over what the runs are
            pooled, and how many runs are finished if some are not.

        Raises
        ------
        ValueError
            For an unknown metric, axis or value, or if no run is finished; if ``best_of`` has the
            seed; or if ``where`` has an axis that was sampled from a distribution, of whose values
            each belongs to one run of a scheme.

        Examples
        --------
        >>> import fastinit as fi
        >>> X, Y, _, _ = fi.lesson.load_dataset()
        >>> net = fi.Network([2, 10, 5, 1])
        >>> result = fi.compare(X, Y, net, ["zeros", "he_normal"], seed=range(8), iterations=500,
        ...                     learning_rate=[0.03, 0.1])
        >>> for sentence in result.ranking(learning_rate=0.1).answer.split(". "):
        ...     print(sentence)
        he_normal is best: median final cost 0.463 (95% interval 0.411 to 0.639, 8 seeds)
        It can be distinguished from zeros, whose median is 0.693.
        >>> ranking = result.ranking(best_of="learning_rate")
        >>> [(row["scheme"], row["learning_rate"]) for row in ranking]
        [('he_normal', 0.1), ('zeros', 0.03)]
        """
        metrics = self.metrics
        metric = next(iter(metrics)) if metric is None else check_name("metric", metric, metrics)
        axes = [best_of] if isinstance(best_of, str) else list(best_of)
        for axis in axes:
            check_name("best_of", axis, AXES[1:])
            if (
                self._place(axis) != list(self.cells.values).index(axis)
                and len(self.cells.values["optimizer"]) > 1
            ):
                raise ValueError(
                    "best_of: expected 'optimizer', because each optimiser has its own learning "
                    "rate; got 'learning_rate'"
                )
        self.check_by(*where)
        if not len(self):
            raise ValueError("ranking: expected at least one finished run; got none")
        key = ("ranking", metric, *axes, *sorted((name, repr(v)) for name, v in where.items()))
        return self._once(key, lambda: self._ranking(metric, axes, where))

    def _ranking(
        self, metric: str, axes: Sequence[str], where: Mapping[str, Any]
    ) -> "RankingTable":
        columns = self.columns()
        rows = np.flatnonzero(self._selected(columns["place"], where))
        if not len(rows):
            raise ValueError(f"ranking: expected at least one run with {where}; got none")
        cells = int(np.count_nonzero(self._selected(None, where)))
        finished = len(rows)
        best: dict[str, dict[str, Any]] = {}
        if axes:
            rows, best = self._chosen(rows, axes)
        place = columns["place"][rows]
        # The runs of different values of these axes are compared.
        compared = {self._place(axis) for axis in axes}
        names = [axis for i, axis in enumerate(self.cells.values) if i and i not in compared]
        pooled = {
            axis: int(np.count_nonzero(np.bincount(self.cells.code(axis)[place])))
            for axis in self.varying
            if axis in names and axis != "seed"
        }
        # Default seeds differ between schemes; that does not make the runs independent.
        seeds = np.zeros_like(place) if self._one_seed_each else self.cells.code("seed")[place]
        block, n = self.cells.numbers(*names[self._one_seed_each :], places=place)
        clusters = np.empty(n, np.intp)
        clusters[block] = seeds
        scheme = self.cells.code("scheme")[place]
        values = np.array(self.metrics[metric].compute(columns), np.float64)[rows]
        values[columns["diverged_at"][rows] >= 0] = np.inf
        table = np.full((n, len(self.schemes)), np.nan)
        table[block, scheme] = values
        # In an unfinished comparison, some schemes may have no runs yet.
        known = np.flatnonzero(np.bincount(scheme))
        ranking = rank(
            table[:, known],
            [self.schemes[code] for code in known],
            higher_is_better=self.metrics[metric].higher_is_better,
            clusters=clusters,
            examples=self._examples(self.metrics[metric], scheme, values, rows),
        )
        return RankingTable(
            ranking,
            self.metrics[metric],
            pooled={axis: n for axis, n in pooled.items() if n > 1},
            best_of=best,
            finished=(finished, cells),
            caution=caution_of(
                {name: columns[name][rows] for name in PREDICTIONS}, scheme, self.evidence
            ),
        )

    def _examples(
        self,
        metric: Metric,
        schemes: NDArray[np.int32],
        values: NDArray[np.float64],
        rows: NDArray[np.intp],
    ) -> NDArray[np.float64] | None:
        """Return what each test example contributes to a metric, in the mean of typical runs.

        Typical runs of a scheme are the middle half of those that did not fail, or some of it.

        Returns
        -------
        ndarray of shape (n_schemes, n_test), or None
            None for metrics of the training data, and if the data are not there.
        """
        if metric.examples is None or self.test is None or not self.has_data:
            return None
        found = []
        for code in np.unique(schemes):
            own = np.flatnonzero((schemes == code) & np.isfinite(values))
            own = own[np.argsort(values[own], kind="stable")]
            own = own[(len(own) - 1) // 4 : len(own) - (len(own) - 1) // 4]
            few = np.unique(np.linspace(0, len(own) - 1, MOST_TYPICAL).astype(np.intp))
            total, n = np.zeros(self.test[1].shape[1]), 0
            for network, thetas in self.thetas_of(rows[own[few]] if len(own) else rows[:0]):
                total += metric.examples(network, thetas, *self.test).sum(axis=0)
                n += len(thetas)
            found.append(total / n if n else np.full(len(total), np.nan))
        return np.stack(found)

    def thetas_of(self, rows: NDArray[np.intp]) -> Iterator[tuple[Network, Array]]:
        """Yield the networks of some runs, each with the final parameters of its runs."""
        columns = self.columns()
        numbers, first = np.sort(columns["_row"][rows]), 0
        for places, block in self._blocks:
            own = numbers[slice(*np.searchsorted(numbers, (first, first + len(places))))] - first
            first += len(places)
            if len(own):
                yield self.cells[int(places[own[0]])].network, block.thetas[own]

    def _place(self, axis: str) -> int:
        """Return the column of the codes that has the values of an axis."""
        # A rate that was not given is that of the optimiser.
        if axis == "learning_rate" and self.cells.values[axis] == (None,):
            axis = "optimizer"
        return list(self.cells.values).index(axis)

    def _chosen(
        self, rows: NDArray[np.intp], axes: Sequence[str]
    ) -> tuple[NDArray[np.intp], dict[str, dict[str, Any]]]:
        """Return the rows at the best values of the axes, and these values by scheme."""
        columns = self.columns()
        places = columns["place"][rows]
        names = [list(self.cells.values)[self._place(axis)] for axis in axes]
        best: dict[int, tuple[float, NDArray[np.intp]]] = {}
        for group in self.cells.groups("scheme", *names, places=places):
            code = int(self.cells.code("scheme")[places[group[0]]])
            median = quantile(columns["final_cost"][rows[group]], 0.5)
            if code not in best or median < best[code][0]:
                best[code] = median, group
        found = {
            self.schemes[code]: {
                axis: self._axis_values(axis, places[group[:1]])[0] for axis in axes
            }
            for code, (_, group) in best.items()
        }
        return rows[np.sort(np.concatenate([group for _, group in best.values()]))], found

    def best(self, *by: str, metric: str | None = None, best_of: str | Sequence[str] = ()) -> Table:
        """Return the best scheme of each group of runs: an overview of many rankings.

        Parameters
        ----------
        *by : str
            Axes, as in :meth:`summary`: one row for each combination of their values.
        metric, best_of
            As in :meth:`ranking`.

        Returns
        -------
        Table
            The values of the axes; ``best``, the scheme of the best median; its ``median``, named
            by the metric; its values of the axes ``best_of``; the number of ``seeds``; and the
            schemes that are ``not distinguished`` from it, or ``better in pairs``.

        Raises
        ------
        ValueError
            As :meth:`ranking`.

        Examples
        --------
        >>> import fastinit as fi
        >>> X, Y, _, _ = fi.lesson.load_dataset()
        >>> net = fi.Network([2, 10, 5, 1])
        >>> result = fi.compare(X, Y, net, ["zeros", "he_normal"], seed=range(8), iterations=500,
        ...                     learning_rate=[0.0001, 0.1])
        >>> for row in result.best("learning_rate"):
        ...     print(row["learning rate"], row["best"], repr(row["not distinguished"]))
        0.0001 zeros ''
        0.1 he_normal ''
        """
        self.check_by(*by)
        keys: dict[tuple[Any, ...], None] = dict.fromkeys(
            tuple(key[name] for name in by) for key, _ in self.groups(*by)
        )
        rows = []
        for values in keys:
            where = dict(zip(by, values, strict=True))
            ranking = self.ranking(metric, best_of=best_of, **where)
            first, *others = ranking.rows
            rows.append(
                {
                    **{name.replace("_", " "): value for name, value in where.items()},
                    "best": first.scheme,
                    **{
                        f"its {name.replace('_', ' ')}": value
                        for name, value in ranking.best_of.get(first.scheme, {}).items()
                    },
                    f"median {ranking.metric.label}": first.median,
                    "seeds": first.seeds,
                    **{
                        verdict: ", ".join(row.scheme for row in others if row.verdict == verdict)
                        for verdict in ("not distinguished", "better in pairs")
                    },
                }
            )
        return Table(rows)

    def check_by(self, *by: str) -> None:
        """Raise ValueError for an axis whose values each have one run of a scheme.

        A sample from a distribution is such an axis: it has no groups of runs to be ranked.
        """
        for axis in by:
            if axis not in ("learning_rate", "scale") or self.settings.get("n_samples") is None:
                continue
            n = len(self.cells.values[axis])
            different = self.cells.numbers(*AXES)[1]
            if n > 1 and different == n == self.cells.numbers(axis)[1]:
                raise ValueError(
                    f"{axis}: expected values that several runs of a scheme share; got a sample of "
                    f"{n:,} values with one run each (the figure of the cost by "
                    f"{axis.replace('_', ' ')} shows all of them; for a ranking, pass a list of "
                    f"values)"
                )

    # --- verdicts -----------------------------------------------------------------------------

    @property
    def evidence(self) -> Evidence:
        """What verdicts need to know about the data, in addition to the columns."""
        return evidence_of(self.network, self.Y, self.test)

    def verdict(self, scheme: str) -> str:
        """Return a description of the runs of a scheme in words, computed from their numbers.

        Raises
        ------
        ValueError
            If the scheme is unknown or has no finished run.
        """
        rows = self._rows_of(scheme)
        return self._once(("verdict", scheme), lambda: self._verdict(rows))

    def _verdict(self, rows: NDArray[np.intp]) -> str:
        columns = {name: column[rows] for name, column in self.columns().items()}
        return verdict_of(columns, self.evidence)

    def verdicts(self, *by: str) -> Table:
        """Return the verdict of each scheme, of the runs of each group.

        Parameters
        ----------
        *by : str
            Axes, as in :meth:`summary`.

        Returns
        -------
        Table
            With the columns "scheme", the axes, and "verdict".

        Examples
        --------
        >>> import fastinit as fi
        >>> X, Y, _, _ = fi.lesson.load_dataset()
        >>> net = fi.Network([2, 3, 1])
        >>> result = fi.compare(X, Y, net, "zeros", learning_rate=[0.1, 0.2], iterations=20)
        >>> [row["learning rate"] for row in result.verdicts("learning_rate")]
        [0.1, 0.2]
        """
        return Table(
            [
                {name.replace("_", " "): value for name, value in key.items()}
                | {"verdict": self._verdict(rows) if by else self.verdict(key["scheme"])}
                for key, rows in self._by_group(*by)
            ]
        )

    def missing(self) -> str:
        """Return in a sentence or two which runs are not finished; empty if all are.

        Examples
        --------
        >>> import fastinit as fi
        >>> X, Y, _, _ = fi.lesson.load_dataset()
        >>> net = fi.Network([2, 3, 1])
        >>> result = fi.compare(X, Y, net, "zeros", seed=range(3), learning_rate=[0.1, 1.0],
        ...                     iterations=5, shard=(1, 4))
        >>> print(result.missing())
        4 of 6 runs are missing: 4 of 6 of zeros. No runs of learning rate 1.0.
        """
        n, places = len(self.cells), self.columns()["place"]
        if len(places) == n:
            return ""
        parts, none = [], []
        # Not for seeds: most of them are missing in each part of a comparison.
        for axis in ("scheme", *(axis for axis in self.varying if axis != "seed")):
            # The numbers of all and of finished runs of each value.
            labels, index = self._axis_labels(axis, None)
            counts: dict[Any, NDArray[np.intp]] = {}
            for label, *own in zip(
                labels,
                np.bincount(index, minlength=len(labels)),
                np.bincount(index[places], minlength=len(labels)),
                strict=True,
            ):
                counts[label] = counts.get(label, 0) + np.array(own)
            if axis == "scheme":
                parts = [
                    f"{cells - done:,} of {cells:,} of {label}"
                    for label, (cells, done) in counts.items()
                    if done < cells
                ]
            elif len(places):
                absent = [
                    str(label) for label, (cells, done) in counts.items() if cells and not done
                ]
                none += [f"{_noun(axis)} {_few(absent)}"] if absent else []
        sentence = f"{n - len(places):,} of {n:,} runs are missing: {_few(parts)}."
        return f"{sentence} No runs of {'; '.join(none)}." if none else sentence

    def _shown(self) -> Table:
        return self.table() if len(self.cells) == len(self.schemes) else self.summary()

    def __repr__(self) -> str:
        return "\n".join(filter(None, [repr(self._shown()), self.missing()]))

    def _repr_html_(self) -> str:
        return self._shown()._repr_html_()


class Trials(Sequence[Trial]):
    """Runs of a comparison, each created when it is read."""

    def __init__(self, comparison: Comparison, rows: NDArray[np.intp]) -> None:
        self._comparison, self._rows = comparison, rows
        self._columns = comparison.columns()
        self._blocks = [block for _, block in comparison._blocks]
        self._ends = np.cumsum([len(block) for block in self._blocks])
        self._evidence = comparison.evidence

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> "Trials": ...
    def __getitem__(self, index: int | slice) -> "Trial | Trials":
        if isinstance(index, slice):
            return Trials(self._comparison, self._rows[index])
        return self._read(self._rows[[index]])[0]

    def __iter__(self) -> Iterator[Trial]:
        # Several at a time, because those of a store are read from the file.
        sizes = [block.thetas.shape[1] * block.thetas.dtype.itemsize for block in self._blocks]
        size = max(1, MOST_READ // max(sizes, default=1))
        for start in range(0, len(self), size):
            yield from self._read(self._rows[start : start + size])

    def _read(self, rows: NDArray[np.intp]) -> list[Trial]:
        """Return the runs of some rows of the columns."""
        columns = {name: column[rows] for name, column in self._columns.items()}
        places = columns.pop("place")
        # The numbers of the runs among all blocks, one after another.
        numbers = columns.pop("_row")
        blocks = np.searchsorted(self._ends, numbers, side="right")
        found: dict[int, Trial] = {}
        for which in np.unique(blocks).tolist():
            block, chosen = self._blocks[which], np.flatnonzero(blocks == which)
            own = numbers[chosen] - self._ends[which] + len(block)
            arrays = zip(block.starts[own], block.thetas[own], block.costs[own], strict=True)
            for i, (start, theta, costs) in zip(chosen.tolist(), arrays, strict=True):
                outcome = {name: column[i] for name, column in columns.items()}
                found[i] = Trial(
                    cell=self._comparison.cells[int(places[i])],
                    start=start,
                    theta=theta,
                    points=block.points,
                    costs=costs,
                    outcome=outcome,
                    verdict="; ".join(sentences(outcome, self._evidence)),
                )
        return [found[i] for i in range(len(rows))]

    def __repr__(self) -> str:
        return f"Trials({len(self):,} runs)"


class RankingTable(Table):
    """The ranking of the schemes of a comparison: one row for each scheme, the best first.

    Attributes
    ----------
    rows : tuple of Rank
        The rows as :class:`fastinit.comparison.ranking.Rank`.
    metric : Metric
    pooled : dict of str to int
        The axes over whose values each seed has its median, and their numbers of values.
    best_of : dict of str to dict
        For each scheme its best values, by axis; they are columns of the table as well.
    finished : tuple of int, or None
        The numbers of finished runs and of all runs that were to be ranked.
    answer : str
        Which scheme is best, and from which ones it is distinguished, in sentences; and whether no
        run is shown to be better than a constant prediction.
    """

    def __init__(
        self,
        ranking: Ranking,
        metric: Metric,
        *,
        pooled: Mapping[str, int] | None = None,
        best_of: Mapping[str, dict[str, Any]] | None = None,
        finished: tuple[int, int] | None = None,
        caution: str = "",
    ) -> None:
        self.best_of = dict(best_of or {})
        super().__init__(
            [
                {"scheme": row.scheme} | self.best_of.get(row.scheme, {}) | asdict(row)
                for row in ranking.rows
            ]
        )
        self.rows = ranking.rows
        self.metric = metric
        self.pooled = dict(pooled or {})
        self.finished = finished
        sentences = [answer(ranking, metric.label)]
        if self.best_of:
            names = joined([_noun(axis) for axis in next(iter(self.best_of.values()))])
            sentences.append(
                f"Each scheme is ranked at its {names} of lowest median training cost."
            )
        if self.pooled:
            over = joined([counted(n, _noun(axis)) for axis, n in self.pooled.items()])
            sentences.append(f"Each seed counts once, with the median over {over}.")
        if caution:
            sentences.append(caution)
        if finished is not None and finished[0] < finished[1]:
            sentences.insert(0, f"{finished[0]:,} of {finished[1]:,} runs are finished.")
        self.answer = " ".join(sentences)

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n{self.answer}"


def _rows(places: NDArray[np.intp] | None) -> Any:
    return slice(None) if places is None else places


def _noun(axis: str) -> str:
    return axis.replace("_", " ").replace("optimizer", "optimiser")


def _few(words: Sequence[str]) -> str:
    """Return words as a list, shortened: an axis may have thousands of values."""
    return ", ".join([*words[:5], f"... ({len(words):,} in all)"] if len(words) > 8 else words)


def _objects(
    column: NDArray[Any], missing: Callable[[NDArray[Any]], NDArray[np.bool_]]
) -> NDArray[Any]:
    """Return a column as an array of objects, None where ``missing`` says so."""
    found = column.astype(object)
    found[missing(column)] = None
    return found


def _is_negative(column: NDArray[Any]) -> NDArray[np.bool_]:
    negative: NDArray[np.bool_] = column < 0
    return negative


def _median(scores: NDArray[np.float64]) -> float | None:
    """Return the median of the scores that are known; None if there is none."""
    known = scores[~np.isnan(scores)]
    return float(np.median(known)) if len(known) else None
