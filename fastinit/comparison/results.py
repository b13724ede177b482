"""Comparison: the trials of a grid as tables, cost curves and verdicts."""

import hashlib
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
    better_than_guessing,
    median_accuracy,
    median_iterations,
    or_infinite,
    quantiles,
    share_in_words,
)
from fastinit.comparison.tables import Table
from fastinit.comparison.trials import Trial, kept_points
from fastinit.training.network import Array, Network


@dataclass(eq=False, repr=False)
class Comparison:
    """The runs of all cells of a grid; prints as a table.

    With one run for each scheme it prints as :meth:`table`, otherwise as :meth:`summary`. Iterating
    yields one dict for each run, the rows of :meth:`records`.

    Attributes
    ----------
    X, Y : ndarray
        The training data.
    test : (X_test, Y_test) or None
        The test data.
    cells : tuple of Cell
        The whole grid, finished or not.
    iterations : int
        Number of iterations requested of each run.
    target_cost, target_accuracy : float or None
    network : Network
        The network that was given; its cells may vary depth, width and activation.
    settings : dict
        Keywords of :func:`fastinit.compare` that reproduce the runs.
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
    _found: dict[int, Trial] = field(default_factory=dict)  # by the index of the cell

    @property
    def trials(self) -> list[Trial]:
        """The finished runs, in the order of the grid."""
        return [self._found[place] for place in sorted(self._found)]

    @property
    def schemes(self) -> list[str]:
        """The names of the schemes, in the order given."""
        return list(dict.fromkeys(cell.scheme for cell in self.cells))

    @property
    def varying(self) -> list[str]:
        """The axes with more than one value, other than the scheme."""
        # Default seeds differ between schemes; that does not make the seed an axis.
        values = {name: {(c.scheme, str(getattr(c, name))) for c in self.cells} for name in AXES}
        return [name for name in AXES if len(values[name]) > len(self.schemes)]

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

    def of(self, scheme: str) -> list[Trial]:
        """Return the finished runs of one scheme."""
        return [trial for trial in self.trials if trial.cell.scheme == scheme]

    def median_trial(self, scheme: str) -> Trial:
        """Return the run of median final cost of a scheme; the lower of two middle ones.

        Raises
        ------
        ValueError
            If the scheme has no finished run.
        """
        ordered = sorted(self._finished(scheme), key=lambda trial: or_infinite(trial.final_cost))
        return ordered[(len(ordered) - 1) // 2]

    @property
    def points(self) -> NDArray[np.intp]:
        """The iterations of the costs in :meth:`curves`, of shape (n_points,)."""
        return kept_points(self.iterations)

    def curves(self) -> dict[str, NDArray[np.float64]]:
        """Return the cost curves of the complete runs of each scheme.

        Returns
        -------
        dict of str to ndarray of shape (k, n_points)
            The costs of k runs at the iterations :attr:`points`; NaN after a divergence. Runs that
            a callback ended are left out.

        Examples
        --------
        >>> import fastinit as fi
        >>> X, Y, _, _ = fi.lesson.load_dataset()
        >>> net = fi.Network([2, 3, 1])
        >>> result = fi.compare(X, Y, net, "he_normal", seed=range(5), iterations=1000)
        >>> result.curves()["he_normal"].shape, result.points[[0, 1, -1]]
        ((5, 501), array([  0,   2, 999]))
        """
        complete = {
            scheme: [t.costs for t in self.of(scheme) if t.is_complete(self.iterations)]
            for scheme in self.schemes
        }
        return {scheme: np.array(costs) for scheme, costs in complete.items() if costs}

    def table(self) -> Table:
        """Return one row for each run: the axes that vary, accuracies, cost and verdict."""
        return Table([self._row(trial) for trial in self.trials])

    def records(self) -> Table:
        """Return one row for each run with all axes and outcomes, under names for programs."""
        return Table([trial.record() for trial in self.trials])

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`records` as CSV."""
        self.records().to_csv(path)

    def to_pandas(self) -> Any:
        """Return :meth:`records` as a ``pandas.DataFrame``."""
        return self.records().to_pandas()

    def digest(self) -> str:
        """Return the SHA-256 of the training and test data, in hexadecimal."""
        found = hashlib.sha256()
        for array in (self.X, self.Y, *(self.test or ())):
            found.update(f"{array.dtype} {array.shape}".encode())
            found.update(array.tobytes())
        return found.hexdigest()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.records())

    def __len__(self) -> int:
        return len(self._found)

    def summary(self, *by: str) -> Table:
        """Return medians, quartiles and shares over the runs of each scheme.

        Parameters
        ----------
        *by : {"seed", "depth", "width", "learning_rate", "activation"}
            Axes by which the runs of a scheme are grouped further.

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
        for name in by:
            if name not in AXES:
                raise ValueError(f"by: expected one of {', '.join(AXES)}; got {name!r}")
        groups: dict[tuple[Any, ...], list[Trial]] = {}
        for scheme in self.schemes:
            for trial in self.of(scheme):
                record = trial.record()
                key = (scheme, *(record[name] for name in by))
                groups.setdefault(key, []).append(trial)
        names = ("scheme", *(name.replace("_", " ") for name in by))
        return Table(
            [dict(zip(names, key, strict=True)) | self._outcomes(groups[key]) for key in groups]
        )

    def verdict(self, scheme: str) -> str:
        """Return a description of the runs of a scheme in words, computed from their numbers.

        Raises
        ------
        ValueError
            If the scheme has no finished run.
        """
        trials = self._finished(scheme)
        if len(trials) == 1:
            return trials[0].verdict
        accuracies = [t.train_accuracy for t in trials if t.train_accuracy is not None]
        better = better_than_guessing(self.network, self.Y, accuracies) if accuracies else []
        flags = {
            "symmetry unbroken in": [trial.symmetric for trial in trials],
            "better than always guessing one class in": better,
            "converged in": [trial.converged for trial in trials],
            "diverged in": [trial.diverged_at is not None for trial in trials],
        }
        parts = [f"{words} {share_in_words(own)}" for words, own in flags.items() if any(own)]
        if better and not any(better):
            parts.append("never better than always guessing one class")
        if not self.iterations:
            return "; ".join([*parts, "not trained"])
        low, median, high = (
            f"{cost:.3g}" if cost < math.inf else "infinite" for cost in _quartiles(trials)
        )
        spread = "" if low == high else f", quartiles {low} and {high}"
        return "; ".join([*parts, f"median final cost {median}{spread}"])

    def _finished(self, scheme: str) -> list[Trial]:
        """Return the finished runs of a scheme, of which there must be one at least."""
        trials = self.of(scheme)
        if not trials:
            raise ValueError(f"scheme: expected one with finished runs; got {scheme!r}")
        return trials

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
        low, median, high = _quartiles(trials)
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
        """Return the column name and the attribute of Trial of each target that was given."""
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


def _quartiles(trials: list[Trial]) -> list[float]:
    """Return the quartiles of the final costs."""
    found: list[float] = quantiles([trial.final_cost for trial in trials], QUARTILES).tolist()
    return found
