"""Comparison: the trials of a grid, as tables, curves and verdicts."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastinit.comparison.grid import AXES, Cell
from fastinit.comparison.statistics import (
    QUARTILES,
    majority,
    median_accuracy,
    median_iterations,
    or_infinite,
    quantile,
    share_in_words,
)
from fastinit.comparison.tables import Table
from fastinit.comparison.trials import Trial
from fastinit.training.network import Network

Array = NDArray[Any]


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

    def median_trial(self, scheme: str) -> Trial:
        """Return a scheme's finished run of median final cost, the lower of the middle two."""
        ordered = sorted(self.of(scheme), key=lambda trial: or_infinite(trial.final_cost))
        if not ordered:
            raise ValueError(f"scheme: expected one with finished runs; got {scheme!r}")
        return ordered[(len(ordered) - 1) // 2]

    def curves(self) -> dict[str, NDArray[np.float64]]:
        """Return the cost curves of each scheme's whole runs, shape (k, n_points).

        Where the points lie is in ``trials[0].points``, the same for all. A run that a callback
        ended is left out.
        """
        whole = {
            name: [t.costs for t in self.of(name) if t.is_whole(self.iterations)]
            for name in self.schemes
        }
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
        parts = [
            f"{words} {share_in_words(flags)}" for words, flags in shares.items() if any(flags)
        ]
        if better and not any(better):
            parts.append("never better than always guessing one class")
        if not self.iterations:
            return "; ".join([*parts, "not trained"])
        costs = [quantile([trial.final_cost for trial in trials], share) for share in QUARTILES]
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
        low, median, high = (quantile([t.final_cost for t in trials], q) for q in QUARTILES)
        return {
            "runs": len(trials),
            "train accuracy": median_accuracy([t.train_accuracy for t in trials]),
            "test accuracy": median_accuracy([t.test_accuracy for t in trials]),
            "cost 25%": low,
            "median cost": median,
            "cost 75%": high,
            **{
                name: median_iterations([getattr(t, attribute) for t in trials])
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
