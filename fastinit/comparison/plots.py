"""Plots. Only this module and :mod:`fastinit.comparison.vectors` import matplotlib.

Each function draws on ``ax`` and returns it; the current axes are the default, as in pyplot. Curves
are labelled at their right ends, outside the axes: use figures with ``layout="constrained"``. The
colours are those of Okabe and Ito, which colour-blind readers can distinguish, two of them darkened
so that each has a contrast of 3 on white and on black; line styles and markers distinguish curves
and classes in greyscale. Text and axes have the colours of the current style:
``with plt.style.context("dark_background")`` gives dark figures.

A scheme may have costs a million times those of the others. The axes of costs cover the others;
what exceeds them, and what is infinite, is drawn along the edge.
"""

import io
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, NamedTuple, TypeVar

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray

from fastinit.comparison.courses import STOPPED
from fastinit.comparison.grid import AXES, Grid
from fastinit.comparison.propagation import Propagation
from fastinit.comparison.results import Comparison
from fastinit.comparison.statistics import (
    QUARTILES,
    median_interval,
    quantile,
    quantiles,
)
from fastinit.comparison.tables import rounded, shortened
from fastinit.comparison.trials import Trial
from fastinit.training.network import Network
from fastinit.training.run import Run

T = TypeVar("T")
# Rows of the columns of a comparison, by the label of their scheme.
Rows = Mapping[str, NDArray[np.intp]]

# https://jfly.uni-koeln.de/color/ without black and yellow; orange and sky blue are darkened.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#BD8200", "#3399D6")
STYLES = ("-", "--", "-.", ":")
MARKERS = "o^sDvPX"
GRID = 400  # points along each axis of a decision boundary
DECADES = 2  # positive values that span more are drawn on a logarithmic scale
PER_ROW = 4  # decision boundaries side by side
LABEL = 22  # characters of a scheme's label in a figure
LABEL_SIZE = 8.5  # points
MOST_RUNS = 2000  # of which the median curve of a scheme is computed in one panel
MOST_CURVES = 30_000  # that are read in one figure; at least a hundred for each median curve
MOST_POINTS = 200  # of a band of quartiles
MOST_DOTS = 6000  # in one figure
MOST_FACETS = 8  # values of an axis that each have a panel
MOST_PANELS = 16  # of two axes that were not asked for
MOST_VALUES = 12  # values of an axis at which medians are drawn
# A second axis has facets if it explains this share of the variance that the first one explains.
SECOND = 0.02
# The range of a robust axis is at most so many times that of the lower half of the schemes,
# measured in decades on a logarithmic one, which spans half a decade at least.
GROWTH, GROWTH_OF_DECADES = 4.0, 2.0
LEAST_DECADES = 0.5


class Quantity(NamedTuple):
    """A quantity that ``profiles`` can draw: its axis, and how to compute its values."""

    label: str
    yscale: Literal["log", "linear"]
    measured: Callable[[Propagation], NDArray[np.float64]]
    expected: Callable[[Propagation], NDArray[np.float64]] | None = None


QUANTITIES = {
    "signal": Quantity(
        "pre-activations, root mean square", "log", lambda p: p.z.rms, lambda p: p.theory.z_rms
    ),
    "gradient": Quantity(
        "gradient, root mean square", "log", lambda p: p.dz.rms, lambda p: p.theory.dz_rms
    ),
    "update": Quantity("gradient / weights", "log", lambda p: p.gradient_to_parameter),
    "rank": Quantity("effective rank", "linear", lambda p: p.effective_rank),
    "dead units": Quantity("share of dead units", "linear", lambda p: p.dead_units),
    "saturation": Quantity("share of saturated activations", "linear", lambda p: p.saturation),
}


def examples(X: ArrayLike, Y: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Draw two-dimensional examples with one marker for each class.

    Parameters
    ----------
    X : array_like of shape (2, n_examples)
    Y : array_like of shape (n_examples,) or (1, n_examples)
        Labels 0, 1, ...
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    X, Y = _two_features(X), np.ravel(Y)
    if len(Y) != X.shape[1]:
        raise ValueError(
            f"Y: expected one label for each of {X.shape[1]} examples; got {len(Y)} labels"
        )
    ax = plt.gca() if ax is None else ax
    for label in range(_n_classes(Y)):
        chosen = X[:, label == Y]
        ax.scatter(
            chosen[0],
            chosen[1],
            s=22,
            marker=MARKERS[label % len(MARKERS)],
            color=COLORS[label % len(COLORS)],
            edgecolors=ax.get_facecolor(),
            linewidths=0.5,
            label=f"class {label}",
        )
    ax.set(xlabel="x1", ylabel="x2")
    return ax


def decision_boundary(
    predict: Callable[[Any], Any], X: ArrayLike, Y: ArrayLike, *, ax: Axes | None = None
) -> Axes:
    """Draw the regions of the predicted classes and the examples.

    Parameters
    ----------
    predict : callable
        Takes points of shape (n, 2) and returns their n classes.
    X : array_like of shape (2, n_examples)
    Y : array_like of shape (n_examples,) or (1, n_examples)
        Labels 0, 1, ...
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    X = _two_features(X)
    ax = plt.gca() if ax is None else ax
    low, high = X.min(axis=1) - 0.5, X.max(axis=1) + 0.5
    x1, x2 = np.meshgrid(*np.linspace(low, high, GRID, axis=1))
    classes = np.reshape(predict(np.column_stack([x1.ravel(), x2.ravel()])), x1.shape)
    n = max(_n_classes(Y), _n_classes(classes))
    colors = [COLORS[label % len(COLORS)] for label in range(n)]
    ax.contourf(x1, x2, classes, levels=np.arange(n + 1) - 0.5, colors=colors, alpha=0.25)
    return examples(X, Y, ax=ax)


class MedianLine(Line2D):
    """A drawn curve, which may be cut off at the edge.

    Attributes
    ----------
    values : ndarray of shape (n_points,)
        Its values without the limits of the axis.
    """

    values: NDArray[np.float64]


class Band(NamedTuple):
    """The median and the quartiles of the curves of a scheme.

    Attributes
    ----------
    x, lower, median, upper : ndarray of shape (n_points,)
    runs, diverged : int
        Numbers of runs.
    """

    x: NDArray[Any]
    lower: NDArray[np.float64]
    median: NDArray[np.float64]
    upper: NDArray[np.float64]
    runs: int
    diverged: int


def costs(
    comparison: Comparison,
    *,
    yscale: Literal["log", "linear"] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the cost of each scheme over the iterations; of several runs the median and quartiles.

    A run that ended early keeps its last cost; from the end of a diverged run on its cost is
    infinite. Infinite costs, and those of a scheme far above all others, are drawn at the edge.

    Parameters
    ----------
    comparison : Comparison
    yscale : {"log", "linear"}, optional
        Logarithmic if the costs are positive: from large random weights the cost falls by orders of
        magnitude.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TypeError
        If ``comparison`` is not a Comparison.
    ValueError
        If runs of several batch sizes have different points.
    """
    _check_comparison(comparison)
    comparison.points()  # raises if they differ
    bands = _bands(comparison, _rows(comparison), MOST_RUNS)
    return _draw_bands(_axes(ax), bands, _x_label(comparison), yscale)


def cost_bands(
    curves: Mapping[str, NDArray[Any]],
    *,
    iterations: NDArray[Any] | None = None,
    yscale: Literal["log", "linear"] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the median cost of each scheme over the iterations, in a band of the quartiles.

    NaN counts as infinite, so that diverged runs raise the quartiles of their scheme. Infinite
    medians, and those of a scheme far above all others, are drawn at the edge.

    Parameters
    ----------
    curves : mapping of str to ndarray of shape (k, n_points)
        The costs of k runs, by the name of their scheme.
    iterations : ndarray of shape (n_points,), optional
        The iterations of the points; 0, 1, 2, ... by default.
    yscale : {"log", "linear"}, optional
        Logarithmic if the costs are positive.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> falling = np.exp(-np.arange(100) / 30) * rng.uniform(1, 2, size=(20, 1))
    >>> curves = {"he": falling, "zeros": np.full((20, 100), np.log(2))}
    >>> ax = cost_bands(curves, ax=Figure().subplots())
    >>> ax.get_ylabel(), [text.get_text() for text in ax.texts]
    ('cost: median and quartiles of 20 runs', ['he', 'zeros'])
    """
    bands = {}
    for name, values in curves.items():
        values = np.asarray(values, float)
        if values.ndim != 2:
            raise ValueError(f"curves[{name!r}]: expected shape (k, n_points); got {values.shape}")
        x = np.arange(values.shape[1]) if iterations is None else np.asarray(iterations)
        if x.shape != values.shape[1:]:
            raise ValueError(
                f"iterations: expected shape {values.shape[1:]} to match curves[{name!r}]; "
                f"got {x.shape}"
            )
        bands[name] = _band(x, values, int(np.isnan(values[:, -1:]).sum()))
    return _draw_bands(_axes(ax), {n: b for n, b in bands.items() if b.runs}, "iteration", yscale)


def _band(x: NDArray[Any], values: NDArray[np.float64], diverged: int) -> Band:
    runs = len(values)
    if runs == 1:
        only = np.where(np.isnan(values[0]), np.inf, values[0])
        return Band(x, only, only, only, 1, diverged)
    lower, median, upper = quantiles(values, QUARTILES) if runs else np.empty((3, len(x)))
    return Band(x, lower, median, upper, runs, diverged)


def _rows(comparison: Comparison) -> Rows:
    """Return the rows of the finished runs of each scheme."""
    return {key["scheme"]: rows for key, rows in comparison.groups()}


def _bands(comparison: Comparison, rows_of: Rows, most: int) -> dict[str, Band]:
    """Return the band of each scheme over some of its runs, which share their points.

    Of more than ``most`` runs of a scheme, evenly spaced ones are used.
    """
    columns, found = comparison.columns(), {}
    for name, rows in rows_of.items():
        rows = rows[columns["stopped"][rows] != STOPPED.index("callback")]
        if not len(rows):
            continue
        cell = comparison.cells[int(columns["place"][rows[0]])]
        points = comparison.data.points_of(cell.batch_size)
        if len(points):
            costs = _held(comparison, rows[:: -(-len(rows) // most)], points)
            diverged = int((columns["diverged_at"][rows] >= 0).sum())
            band = _band(_x_values(comparison, points), costs, diverged)
            found[name] = band._replace(runs=len(rows))
    return found


def _held(
    comparison: Comparison, rows: NDArray[np.intp], points: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return cost curves in which runs that ended early keep their final cost."""
    found = comparison.costs_of(rows)
    iterations, stopped, final = (
        comparison.columns()[name][rows] for name in ("iterations", "stopped", "final_cost")
    )
    ended = np.flatnonzero(stopped == STOPPED.index("tol"))
    after = points >= iterations[ended, None]
    found[ended] = np.where(after, final[ended, None], found[ended])
    return found


def _x_values(comparison: Comparison, points: NDArray[np.intp]) -> NDArray[Any]:
    """Return the places of points: iterations, or epochs if these were given."""
    epochs = comparison.data.training.epochs
    return (points + 1) * epochs / (points[-1] + 1) if epochs and len(points) else points


def _x_label(comparison: Comparison) -> str:
    return "epoch" if comparison.data.training.epochs else "iteration"


def _draw_bands(
    ax: Axes,
    bands: Mapping[str, Band],
    xlabel: str,
    yscale: Literal["log", "linear"] | None = None,
    rim: "_Rim | None" = None,
    looks: Mapping[str, int] | None = None,
) -> Axes:
    """Draw medians in bands of their quartiles, with the labels at their ends."""
    if rim is None:
        rim = _rim_of(list(bands.values()), None if yscale is None else yscale == "log")
    short = dict(zip(bands, shortened(list(bands), LABEL), strict=True))
    # Many bands on top of each other would be grey.
    alpha = 0.2 * min(1.0, 3 / max(1, len(bands)))
    ends = []
    for k, (name, band) in enumerate(bands.items()):
        k = looks[name] if looks else k
        color, style = _look(k)
        line = MedianLine(band.x, rim.inside(band.median), color=color, linestyle=style, label=name)
        line.set_gid(f"c{k}")
        line.values = band.median
        ax.add_line(line)
        _mark_outside(ax, rim, band.x, band.median, color, k)
        if band.runs > 1:
            x, lower, upper = _thinned(band.x, rim.inside(band.lower), rim.inside(band.upper))
            ax.fill_between(x, lower, upper, color=color, alpha=alpha, linewidth=0)
        ends.append((rim.at_end(band.median), _ending(short[name], band, rim), color, k))
    rim.set(ax)
    ax.set(xlabel=xlabel, ylabel=_cost_label([band.runs for band in bands.values()]))
    ax.margins(x=0.01)
    ax.autoscale_view(scaley=False)
    if bands:
        ends_of_x = [float(x) for band in bands.values() for x in (band.x.min(), band.x.max())]
        _set_ticks(ax.xaxis, PlainTicks(min(ends_of_x), max(ends_of_x), False, integer=True))
    ax.grid(alpha=0.3)
    _end_labels(ax, ends)
    return ax


def _rim_of(bands: Sequence[Band], log: bool | None = None) -> "_Rim":
    """Return the axis of curves: robust limits of the medians, and most of the lower quartiles."""
    medians = [band.median for band in bands]
    log = _is_log(medians) if log is None else log
    low, high = robust_limits(medians, log=log)
    for band in bands:
        known = band.lower[np.isfinite(band.lower) & ((band.lower > 0) | (not log))]
        if len(known):
            low = min(low, float(np.quantile(known, 0.05)))
    return _Rim(low, high, log)


def _rims(
    parts: Sequence[Sequence[T]],
    values: Sequence[Sequence[NDArray[np.float64]]],
    rim_of: "Callable[[Sequence[T]], _Rim]",
) -> "tuple[list[_Rim], str]":
    """Return the axis of each panel, and a sentence on it.

    Panels share one, unless all finite values of a panel would be outside: those of two optimisers
    may be orders of magnitude apart.
    """
    shared = rim_of([each for part in parts for each in part])
    for own in values:
        finite = np.concatenate([np.empty(0), *(each[np.isfinite(each)] for each in own)])
        if len(finite) and not ((finite >= shared.low) & (finite <= shared.high)).any():
            return [rim_of(part) for part in parts], "Each panel has an axis of its own. "
    return [shared] * len(parts), ""


def _cost_label(runs: Sequence[int]) -> str:
    if max(runs, default=1) == 1:
        return "cost"
    number = f"{max(runs):,}" if min(runs) == max(runs) else f"{min(runs):,} to {max(runs):,}"
    return f"cost: median and quartiles of {number} runs"


def _ending(label: str, band: Band, rim: "_Rim") -> str:
    """Return the label of a curve, with its last value if that is outside the axis."""
    last = float(band.median[-1])
    if band.diverged:
        label += " ✕" if band.runs == 1 else f" ✕{band.diverged}/{band.runs}"
    if not math.isfinite(last):
        return f"{label} ↑∞"
    return f"{label} {'↑' if last > rim.high else '↓'}{last:.2g}" if rim.is_outside(last) else label


def _thinned(
    x: NDArray[Any], lower: NDArray[np.float64], upper: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """Return a band of at most MOST_POINTS points that contains the given one."""
    step = -(-len(x) // MOST_POINTS)
    if step == 1:
        return x, lower, upper
    starts = np.arange(0, len(x), step)
    places = np.append(x[starts[:-1]], x[-1])
    return places, np.minimum.reduceat(lower, starts), np.maximum.reduceat(upper, starts)


def _mark_outside(
    ax: Axes, rim: "_Rim", x: NDArray[Any], y: NDArray[np.float64], color: str, k: int
) -> None:
    """Mark where a curve is at the edge: triangles for finite values, crosses for infinite ones."""
    for marker, where in (
        ("^", (y > rim.high) & np.isfinite(y)),
        ("x", ~np.isfinite(y)),
        ("v", y < rim.low),
    ):
        places = np.flatnonzero(where)
        if len(places):
            # About eight marks over the axis, those of different curves side by side.
            step = max(1, len(x) // 8)
            chosen = places[(k * max(1, step // 5)) % min(step, len(places)) :: step]
            ax.plot(
                x[chosen],
                rim.inside(y[chosen]),
                marker=marker,
                markersize=5,
                linestyle="none",
                color=color,
                clip_on=False,
            )


@dataclass(frozen=True)
class _Rim:
    """A robust axis: values outside ``low`` and ``high`` are drawn at its edge."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, series: Sequence[NDArray[np.float64]], log: bool) -> "_Rim":
        return cls(*robust_limits(series, log=log), log)

    def _scaled(self, value: float, by: float) -> float:
        """Return the value, moved by a share of the range."""
        if self.log:
            return float(value * (self.high / self.low) ** by)
        return value + by * (self.high - self.low)

    @property
    def top(self) -> float:
        """Where values above are drawn."""
        return self._scaled(self.high, 0.06)

    @property
    def bottom(self) -> float:
        """Where values below are drawn."""
        return self._scaled(self.low, -0.06)

    def inside(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values, those outside at the edge; NaN counts as infinite."""
        known = np.where(np.isnan(values), np.inf, values)
        return np.clip(known, self.bottom, self.top)

    def at_end(self, values: NDArray[np.float64]) -> float:
        return float(self.inside(values[-1:])[0])

    def is_outside(self, value: float) -> bool:
        return not self.low <= value <= self.high

    def set(self, ax: Axes, axis: Literal["x", "y"] = "y") -> None:
        """Set scale, limits and ticks of an axis."""
        limits = self._scaled(self.low, -0.08), self._scaled(self.high, 0.1)
        if axis == "y":
            ax.set_yscale("log" if self.log else "linear")
            ax.set_ylim(*limits)
        else:
            ax.set_xscale("log" if self.log else "linear")
            ax.set_xlim(*limits)
        ticks = PlainTicks(self.low, self.high, self.log)
        _set_ticks(ax.yaxis if axis == "y" else ax.xaxis, ticks)


class PlainTicks(Locator):
    """Ticks within limits, as many as fit on the axis with their labels as it is drawn.

    Parameters
    ----------
    low, high : float
    log : bool
        Whether the axis is logarithmic. Over more than a part of a decade, labels are then at
        powers of ten, or at every n-th of them, and between them if there are few.
    wanted : sequence of float, optional
        The ticks, in ascending order; some are left out if their labels would overlap.
    integer : bool, default False
    """

    def __init__(
        self,
        low: float,
        high: float,
        log: bool,
        wanted: Sequence[float] = (),
        *,
        integer: bool = False,
    ) -> None:
        self.low, self.high, self.log, self.integer = low, high, log, integer
        self.wanted = np.array(wanted, float)
        places = self.wanted.tolist()
        self.texts = dict(zip(places, rounded(places), strict=True))

    def __call__(self) -> list[float]:
        """Return the ticks for the axis as it is."""
        for places in self._candidates():
            if len(places) == 1 or (len(places) and (self._gaps(places) >= 0).all()):
                return [float(place) for place in places]
        return [self.low]

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """Return the ticks; the limits are those given to the locator."""
        return self()

    def text(self, value: float) -> str:
        """Return the label of a tick."""
        return str(self.texts.get(value, f"{value:g}"))

    def _candidates(self) -> Iterator[NDArray[np.float64]]:
        """Yield sets of ticks, fewer and fewer."""
        if len(self.wanted):
            kept = [self.wanted[0]]
            for place in self.wanted[1:]:
                if (self._gaps(np.array([kept[-1], place])) >= 0).all():
                    kept.append(place)
            yield np.array(kept)
        elif self.log and self.high > 6 * self.low:
            yield from map(self._within, self._powers())
        else:
            for n in range(5, 0, -1):
                found = MaxNLocator(n, integer=self.integer).tick_values(self.low, self.high)
                yield self._within(np.asarray(found))

    def _powers(self) -> Iterator[NDArray[np.float64]]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        decades = math.log10(self.high / self.low)
        exponents = np.arange(first, last + 1)
        if decades < 2.5:
            yield np.outer(10.0**exponents, [1, 2, 5]).ravel()
            if decades < 1.5:
                yield np.outer(10.0**exponents, [1, 3]).ravel()
        for step in range(1, last - first + 1):
            chosen = exponents[exponents % step == 0]
            if len(self._within(10.0**chosen)) > 1:
                yield 10.0**chosen

    def _within(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        # Rounding must not put the extremes outside.
        slack = 1e-6 * (self.high - self.low)
        low = self.low * (1 - 1e-6) if self.log else self.low - slack
        kept: NDArray[np.float64] = places[(places >= low) & (places <= self.high + slack)]
        return kept

    def _gaps(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the space between neighbouring labels in points, less the width of a blank."""
        axis: Any = self.axis
        ax = axis.axes
        across = axis.axis_name == "x"
        length = (ax.bbox.width if across else ax.bbox.height) * 72 / ax.figure.dpi
        named = plt.rcParams["xtick.labelsize" if across else "ytick.labelsize"]
        size = FontProperties(size=named).get_size_in_points()
        scaled = axis.get_transform().transform(places)
        ends = axis.get_transform().transform(np.array(axis.get_view_interval()))
        at = (scaled - ends[0]) / (ends[1] - ends[0]) * length
        # A digit of the default font is 0.64 times as wide as its size.
        extent = (
            np.array([0.64 * size * len(self.text(v)) for v in places.tolist()])
            if across
            else np.full(len(places), size)
        )
        found: NDArray[np.float64] = np.abs(np.diff(at)) - (extent[1:] + extent[:-1]) / 2
        return found - 0.6 * size


def _set_ticks(axis: Any, ticks: PlainTicks) -> None:
    """Label the ticks of an axis with plain numbers."""
    axis.set_major_locator(ticks)
    axis.set_major_formatter(FuncFormatter(lambda value, _: ticks.text(value)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def robust_limits(
    series: Sequence[NDArray[np.float64]] | NDArray[np.float64], *, log: bool = False
) -> tuple[float, float]:
    """Return limits of an axis that one series of large values cannot stretch.

    The lower limit is the least value. The range up to the upper one contains the lower half of the
    series, each up to its 95th percentile, and of the other percentiles and the maxima those that
    make it at most four times as long, twice on a logarithmic axis.

    Parameters
    ----------
    series : sequence of ndarray
        Values that are not finite are left out, on a logarithmic axis also those that are not
        positive.
    log : bool
        Whether lengths are those on a logarithmic axis.

    Returns
    -------
    low, high : float

    Examples
    --------
    >>> robust_limits([np.array([0.1, 0.7]), np.array([0.2, 0.7]), np.array([1e6])])
    (0.1, 0.7)
    """
    cleaned = [values[np.isfinite(values) & ((values > 0) | (not log))] for values in series]
    kept = [np.log10(v) if log else v for v in cleaned if len(v)]
    if not kept:
        return (0.1, 1.0) if log else (0.0, 1.0)
    tops = sorted(float(np.quantile(values, 0.95)) for values in kept)
    low = min(float(values.min()) for values in kept)
    least = LEAST_DECADES if log else 1e-3 * max(abs(low), abs(tops[0]), 1e-12)
    high = tops[(len(tops) - 1) // 2]
    most = low + (GROWTH_OF_DECADES if log else GROWTH) * max(high - low, least)
    high = max([high, *(v for v in (*tops, *(float(k.max()) for k in kept)) if v <= most)])
    missing = max(0.0, least - (high - low)) / 2
    low, high = low - missing, high + missing
    # Rounding must not put the extremes outside.
    return (10**low * (1 - 1e-9), 10**high * (1 + 1e-9)) if log else (low, high)


def _is_log(series: Sequence[NDArray[np.float64]]) -> bool:
    """Return whether there are positive values, and none below zero."""
    values = np.concatenate([np.empty(0), *series])
    return bool((values > 0).any() and not (values < 0).any())


def _end_labels(ax: Axes, ends: Sequence[tuple[float, str, str, int]]) -> None:
    """Write labels at the right ends of curves, apart from each other.

    ``ends`` has the last value, the text, the colour and the number of each curve.
    """
    if not ends:
        return
    figure: Any = ax.figure
    # The final height of the axes is unknown before the layout; it is rarely less than this.
    height = ax.get_position().height * figure.get_figheight() * 72 * 0.88
    size = min(LABEL_SIZE, height / (1.2 * len(ends)))
    to_axes = ax.transScale + ax.transLimits
    wanted = np.array([to_axes.transform((0, end[0]))[1] for end in ends])
    places = spread(wanted, 1.25 * size / height)
    for (_, text, color, k), y, place in zip(ends, wanted, places, strict=True):
        if abs(place - y) > 0.01:
            ax.plot(
                [1.0, 1.02],
                [y, place],
                transform=ax.transAxes,
                color=color,
                linewidth=0.7,
                clip_on=False,
            )
        ax.text(
            1.025,
            place,
            text,
            transform=ax.transAxes,
            color=color if color != plt.rcParams["text.color"] else None,
            fontsize=size,
            va="center",
            parse_math=False,
            gid=f"l{k}",
        )


def spread(wanted: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Return the places nearest to the wanted ones, in least squares, that are a gap apart.

    Parameters
    ----------
    wanted : ndarray of shape (n,)
        In [0, 1].
    gap : float

    Returns
    -------
    ndarray of shape (n,)
        In [0, 1] if n places fit; ordered as the wanted ones.

    Examples
    --------
    >>> spread(np.array([0.5, 0.5, 0.9]), 0.1).round(2)
    array([0.45, 0.55, 0.9 ])
    """
    order = np.argsort(wanted, kind="stable")
    shifts = gap * np.arange(len(wanted))
    # Isotonic regression of what remains without the gaps, by pooling adjacent violators.
    pools: list[list[float]] = []
    for value in wanted[order] - shifts:
        pools.append([value, 1])
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (a, m), (b, n) = pools[-2], pools.pop()
            pools[-1] = [(a * m + b * n) / (m + n), m + n]
    placed = np.concatenate([np.full(int(n), value) for value, n in pools])
    found = np.empty(len(wanted))
    found[order] = np.clip(placed, 0, max(0.0, 1 - shifts[-1])) + shifts
    return found


def outcomes(
    values: Mapping[str, NDArray[Any]],
    *,
    label: str = "final cost",
    higher_is_better: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw one row for each scheme: a dot for each run, the median, and its interval.

    The interval is that of 95 % confidence for a median; there is none for fewer than six runs. Of
    many runs, dots at evenly spaced quantiles are drawn. Values far from those of the other
    schemes, and infinite ones, are drawn at the edge and counted.

    Parameters
    ----------
    values : mapping of str to ndarray of shape (k,)
        One value for each of k runs, by the name of the scheme, from top to bottom. The axis is
        logarithmic if all values are positive and span more than two decades. NaN is a run that
        diverged.
    label : str, default "final cost"
        Label of the axis.
    higher_is_better : bool, default False
        The axis is robust against bad values only.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> costs = {"he": np.array([0.06, 0.07, 0.09]), "random": np.array([0.2, 0.4, np.inf])}
    >>> ax = outcomes(costs, ax=Figure().subplots())
    >>> [text.get_text() for text in ax.texts]
    ['0.07', '0.4 ✕1/3']
    """
    arrays = {name: np.ravel(array).astype(float) for name, array in values.items()}
    return _draw_dots(
        _axes(ax), arrays, label, higher_is_better, _dot_rim(arrays.values(), higher_is_better)
    )


def _dot_rim(arrays: Iterable[NDArray[np.float64]], higher_is_better: bool) -> _Rim:
    """Return the axis of dots; of values that are better if higher, the lower end is robust."""
    series = list(arrays)
    finite = np.concatenate([np.empty(0), *(each[np.isfinite(each)] for each in series)])
    if higher_is_better and len(finite) and finite.min() >= 0:  # accuracies
        return _Rim(float(min(finite.min(), 0.9)), 1.0, False)
    if higher_is_better:
        low, high = robust_limits([-each for each in series])
        return _Rim(-high, -low, False)
    low, high = robust_limits(series)
    within = finite[(finite >= low) & (finite <= high)]
    if _spans_decades(finite) and (finite > 0).all():
        return _Rim.of(series, True)
    return _Rim(low, high, False) if len(within) else _Rim(0.0, 1.0, False)


def _draw_dots(
    ax: Axes,
    arrays: Mapping[str, NDArray[np.float64]],
    label: str,
    higher_is_better: bool,
    rim: _Rim,
    looks: Mapping[str, int] | None = None,
    most: int = MOST_DOTS,
) -> Axes:
    ink = plt.rcParams["text.color"]
    each = max(20, min(300, most // max(1, len(arrays))))
    bad = -np.inf if higher_is_better else np.inf
    for row, (name, array) in enumerate(arrays.items()):
        color, _ = _look(looks[name] if looks else row)
        finite = np.isfinite(array)
        known, lost = np.sort(np.where(finite, array, bad)), int(np.count_nonzero(~finite))
        n_dots = min(each, len(known))
        dots = known[np.linspace(0, len(known) - 1, n_dots).round().astype(int)]
        places = rim.inside(dots)
        heights = row + _swarm(places, rim)
        for marker, chosen in (
            ("o", (dots >= rim.low) & (dots <= rim.high)),
            (">", (dots > rim.high) & np.isfinite(dots)),
            ("<", (dots < rim.low) & np.isfinite(dots)),
            ("x", ~np.isfinite(dots)),
        ):
            if chosen.any():
                ax.scatter(
                    places[chosen],
                    heights[chosen],
                    s=14 if len(dots) > 10 else 26,
                    marker=marker,
                    color=color,
                    alpha=0.55,
                    linewidths=1 if marker == "x" else 0,
                )
        text = ""
        if len(known):
            median = quantile(known, 0.5)
            low, high = median_interval(known)
            if not math.isnan(low):
                ends = rim.inside(np.array([low, high]))
                ax.plot(ends, [row, row], color=ink, linewidth=1.6, solid_capstyle="butt")
            # A bar at the edge would be read as a value there.
            if len(known) > 1 and not rim.is_outside(median):
                ax.plot([median, median], [row - 0.34, row + 0.34], color=ink, linewidth=1.8)
            text = f"{median:.3g}".replace("inf", "∞")
        if lost:
            text += f" ✕{lost:,}/{len(array):,}"
        ax.text(
            1.015,
            row,
            text,
            transform=ax.get_yaxis_transform(),
            fontsize=LABEL_SIZE,
            va="center",
        )
    rim.set(ax, "x")
    ax.set_yticks(range(len(arrays)), shortened(list(arrays), LABEL))
    for tick in ax.get_yticklabels():
        tick.set(parse_math=False, fontsize=LABEL_SIZE)
    ax.set_ylim(len(arrays) - 0.4, -0.6)
    ax.set_xlabel(label)
    ax.grid(axis="x", alpha=0.3)
    ax.tick_params(axis="y", length=0)
    return ax


def _swarm(places: NDArray[np.float64], rim: _Rim) -> NDArray[np.float64]:
    """Return offsets of dots from the middle of their row, so that equal values lie side by side.

    ``places`` are in order.
    """
    scaled = np.log10(places) if rim.log else places
    length = math.log10(rim.high / rim.low) if rim.log else rim.high - rim.low
    bins = np.round((scaled - scaled[:1]) / length * 60) if len(places) else scaled
    _, first, counts = np.unique(bins, return_index=True, return_counts=True)
    number = np.arange(len(places)) - np.repeat(first, counts)
    # 0, 1, -1, 2, -2, ...
    signed = np.where(number % 2, (number + 1) // 2, -(number // 2))
    widest = max(1.0, counts.max(initial=1) / 2)
    offsets: NDArray[np.float64] = signed * min(0.09, 0.3 / widest)
    return offsets


def cost_against(
    comparison: Comparison,
    axis: str,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw the median final cost of each scheme against an axis of numbers, in a band of quartiles.

    Of an axis with many values, such as a distribution of learning rates, neighbouring values
    form groups of equal numbers of runs.

    Parameters
    ----------
    comparison : Comparison
    axis : {"depth", "width", "learning_rate", "batch_size", "scale"}
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If the values of the axis are not numbers.

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> net = fi.Network([2, 3, 1])
    >>> result = fi.compare(X, Y, net, "he_normal", seed=range(3), width=[2, 4, 8], iterations=10)
    >>> cost_against(result, "width", ax=Figure().subplots()).lines[0].get_xdata().tolist()
    [2.0, 4.0, 8.0]
    """
    _check_comparison(comparison)
    if _numbers(comparison, axis) is None:
        raise ValueError(f"axis: expected one of numbers; got {axis!r}")
    bands = _bands_over(comparison, axis, _rows(comparison))
    return _draw_against(_axes(ax), comparison, axis, bands, _rim_of(list(bands.values())))


def _bands_over(comparison: Comparison, axis: str, rows_of: Rows) -> dict[str, Band]:
    """Return the final costs of some runs of each scheme, over an axis of numbers."""
    values = _numbers(comparison, axis)
    assert values is not None
    columns, codes = comparison.columns(), comparison.cells.code(axis)
    return {
        name: _band_over(values[codes[columns["place"][rows]]], columns["final_cost"][rows])
        for name, rows in rows_of.items()
    }


def _draw_against(
    ax: Axes, comparison: Comparison, axis: str, bands: Mapping[str, Band], rim: _Rim
) -> Axes:
    looks = {name: k for k, name in enumerate(comparison.schemes)}
    _draw_bands(ax, bands, axis.replace("_", " "), rim=rim, looks=looks)
    for line in ax.lines:
        if isinstance(line, MedianLine):
            line.set(marker=MARKERS[int(str(line.get_gid())[1:]) % len(MARKERS)], markersize=4)
    places = np.unique(np.concatenate([band.x for band in bands.values()]))
    low, high = float(places[0]), float(places[-1])
    # Rounding must not make 0.1 less than ten times 0.01.
    log = low > 0 and high >= 10 * low * (1 - 1e-9)
    if log:
        ax.set_xscale("log")
    few = len(np.unique(_numbers(comparison, axis))) <= MOST_VALUES  # type: ignore[arg-type]
    _set_ticks(ax.xaxis, PlainTicks(low, high, log, places.tolist() if few else ()))
    several = max(band.runs for band in bands.values()) > 1
    ax.set_ylabel(f"final {'cost: median and quartiles' if several else 'cost'}")
    return ax


def _numbers(comparison: Comparison, axis: str) -> NDArray[np.float64] | None:
    """Return the values of an axis of numbers, full batches as n_examples; None for other axes."""
    labels = comparison.cells.labels(axis)
    if axis == "batch_size":
        labels = [comparison.X.shape[1] if each is None else each for each in labels]
    if not all(isinstance(each, (int, float)) for each in labels):
        return None
    return np.array(labels, float)


def _band_over(x: NDArray[np.float64], values: NDArray[np.float64]) -> Band:
    order = np.argsort(x, kind="stable")
    x, values = x[order], values[order]
    places, starts = np.unique(x, return_index=True)
    if len(places) > MOST_VALUES:
        starts = np.linspace(0, len(x), MOST_VALUES, endpoint=False).astype(int)
        places = np.array([np.median(part) for part in np.split(x, starts[1:])])
    parts = [quantiles(part, QUARTILES) for part in np.split(values, starts[1:])]
    lower, median, upper = np.array(parts).T
    # Diverged runs are part of the quartiles. Their number is given in the figure of the outcomes.
    return Band(places, lower, median, upper, len(x) if len(x) > len(places) else 1, 0)


def boundary_of(comparison: Comparison, scheme: str, *, ax: Axes | None = None) -> Axes:
    """Draw the regions of the classes that a scheme's network predicts, with its accuracies.

    Parameters
    ----------
    comparison : Comparison
        Of networks with two features that classify.
    scheme : str
        Of several runs, the one of median final cost is drawn.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    _check_comparison(comparison)
    run = comparison.median_trial(scheme)
    _check_classifier(f"network of {scheme}", run.network)
    ax = decision_boundary(_classifier(run), comparison.X, _labels(comparison), ax=ax)
    accuracies = [f"train {run.train_accuracy:.1%}"]
    if run.test_accuracy is not None:
        accuracies.append(f"test {run.test_accuracy:.1%}")
    name = shortened([scheme], LABEL)[0]
    ax.set_title(f"{name}\n{', '.join(accuracies)}", parse_math=False)
    return ax


def boundaries(
    runs: Mapping[str, Run | Trial],
    X: ArrayLike,
    Y: ArrayLike,
    *,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Draw the decision boundaries of several runs side by side.

    Parameters
    ----------
    runs : mapping of str to Run or Trial
        Networks with two features that classify, by the title of their axes; the accuracy is
        appended to it.
    X : array_like of shape (2, n_examples)
    Y : array_like
        Labels, as the outputs of the networks take them; one for each example.
    axes : sequence of matplotlib Axes, optional
        One for each run. By default a row of new axes is added to the current figure.

    Returns
    -------
    list of matplotlib Axes

    Raises
    ------
    TypeError
        If an entry of ``runs`` is not a Run or Trial.
    ValueError
        If a network does not classify or has another number of features, if the arrays do not
        match, or if there are not as many axes as runs.
    """
    if not isinstance(runs, Mapping):
        raise TypeError(
            f"runs: expected a mapping of names to Run or Trial; got {type(runs).__name__}"
        )
    for name, run in runs.items():
        if not isinstance(run, (Run, Trial)):
            raise TypeError(f"runs[{name!r}]: expected a Run or Trial; got {type(run).__name__}")
        _check_classifier(f"runs[{name!r}]", run.network)
    _two_features(X)
    if axes is None:
        axes = list(plt.gcf().subplots(1, len(runs), sharex=True, sharey=True, squeeze=False)[0])
    if len(axes) != len(runs):
        raise ValueError(f"axes: expected one for each of {len(runs)} runs; got {len(axes)}")
    for ax, (name, run) in zip(axes, runs.items(), strict=True):
        decision_boundary(_classifier(run), X, Y, ax=ax)
        ax.set(title=f"{name}: {run.network.accuracy(run.theta, X, Y):.0%}", aspect="equal")
        ax.label_outer()
    return list(axes)


def _check_comparison(comparison: Comparison) -> None:
    if not isinstance(comparison, Comparison):
        raise TypeError(f"comparison: expected a Comparison; got {type(comparison).__name__}")


def _check_classifier(name: str, network: Network) -> None:
    """Raise if the classes that a network predicts cannot be drawn in a plane."""
    if not network.classifies or network.sizes[0] != 2:
        raise ValueError(
            f"{name}: expected a network of two features that classifies; got {network}"
        )


def _two_features(X: ArrayLike) -> NDArray[Any]:
    """Return the examples as an array; raise if they are not points of a plane."""
    array = np.asarray(X)
    if array.ndim != 2 or len(array) != 2:
        raise ValueError(f"X: expected shape (2, n_examples); got {array.shape}")
    return array


def _classifier(run: Run | Trial) -> Callable[[Any], Any]:
    return lambda points: run.network.predict(run.theta, points.T)


def heat_map(
    rows: Sequence[Any],
    columns: Sequence[Any],
    values: NDArray[Any],
    *,
    row_label: str,
    column_label: str,
    label: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw a matrix as coloured cells with their values, such as the cost by depth and scale.

    Parameters
    ----------
    rows, columns : sequence
        Tick labels of the rows, from top to bottom, and of the columns.
    values : ndarray of shape (len(rows), len(columns))
        The scale of colours is logarithmic if all values are positive and span more than two
        decades. Cells that are not finite are hatched.
    row_label, column_label, label : str
        Labels of the rows, the columns and the scale of colours.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> costs = np.array([[0.1, 0.2], [0.3, np.inf]])
    >>> names = {"row_label": "hidden layers", "column_label": "scale", "label": "final cost"}
    >>> ax = heat_map([2, 8], [1.0, 2.0], costs, **names, ax=Figure().subplots())
    >>> [text.get_text() for text in ax.texts]
    ['0.1', '0.2', '0.3', 'inf']
    """
    ax = plt.gca() if ax is None else ax
    values = np.asarray(values, dtype=float)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(
            f"values: expected shape {(len(rows), len(columns))} to match rows and columns; "
            f"got {values.shape}"
        )
    shown = np.ma.masked_invalid(values)
    norm = LogNorm() if _spans_decades(shown.compressed()) else Normalize()
    image = ax.imshow(shown, norm=norm, cmap="cividis", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        finite = np.isfinite(value)
        if not finite:
            ax.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5),
                    1,
                    1,
                    fill=False,
                    hatch="///",
                    linewidth=0,
                    edgecolor=plt.rcParams["text.color"],
                    alpha=0.4,
                )
            )
        background: Any = image.cmap(image.norm(value)) if finite else ax.get_facecolor()
        ax.text(
            column,
            row,
            f"{value:.2g}",
            ha="center",
            va="center",
            color="black" if _luminance(background[:3]) > 0.18 else "white",
        )
    names = [str(name) for name in columns]
    # Side by side, the labels of many columns would overlap.
    figure: Any = ax.figure
    space = 72 * 0.6 * ax.get_position().width * figure.get_figwidth() / max(1, len(names))
    upright = max(map(len, names), default=0) * 0.64 * plt.rcParams["font.size"] > space
    ax.set_xticks(range(len(names)), names, rotation=90 if upright else 0)
    ax.set_yticks(range(len(rows)), [str(name) for name in rows])
    ax.set(xlabel=column_label, ylabel=row_label)
    ax.figure.colorbar(image, ax=ax, label=label)
    return ax


def profiles(
    propagation: Propagation | Mapping[Any, Propagation | Sequence[Propagation]],
    *,
    quantity: str = "signal",
    ax: Axes | None = None,
) -> Axes:
    """Draw a quantity over the layers: measurements as markers, theory as lines.

    Parameters
    ----------
    propagation : Propagation, or mapping of names to Propagation or sequence of Propagation
        Measurements of :mod:`fastinit.comparison.propagation`: of one network, or of several by
        name. For a sequence the median is drawn with error bars from quartile to quartile, and the
        theory of the first.
    quantity : {"signal", "gradient", "update", "rank", "dead units", "saturation"}
        Root mean square of the pre-activations; of the gradient by them; of the gradient by the
        weights, divided by that of the weights; effective rank; share of dead units; share of
        saturated activations.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        For another quantity.

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> net = fi.Network([2, *[100] * 10, 1])
    >>> measured = {
    ...     scheme: fi.propagation.measure(net, net.initialize(scheme, seed=0), X, Y)
    ...     for scheme in ["glorot_normal", "he_normal"]
    ... }
    >>> ax = profiles(measured, quantity="gradient", ax=Figure().subplots())
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['glorot_normal', 'he_normal', 'mean-field theory']
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity: expected one of {', '.join(QUANTITIES)}; got {quantity!r}")
    label, yscale, measured_in, expected_in = QUANTITIES[quantity]
    ax = plt.gca() if ax is None else ax
    named = propagation if isinstance(propagation, Mapping) else {"measured": propagation}
    for k, (name, several) in enumerate(named.items()):
        group = several if isinstance(several, Sequence) else [several]
        layers = np.arange(1, group[0].network.n_layers + 1)
        lower, median, upper = _finite_quartiles([measured_in(p) for p in group])
        color, style = _look(k)
        # A logarithmic axis cannot show zeros; the legend counts them.
        zeros = np.count_nonzero(~(median > 0)) if yscale == "log" else 0
        ax.errorbar(
            layers,
            median,
            yerr=[median - lower, upper - median] if len(group) > 1 else None,
            marker=MARKERS[k % len(MARKERS)],
            markersize=5,
            capsize=2,
            label=f"{name} (zero in {zeros} of {len(layers)} layers)" if zeros else name,
            color=color,
            linestyle=style if expected_in is None else "none",
        )
        if expected_in is not None:
            expected = expected_in(group[0])
            expected = np.where(expected > 0, expected, np.nan)
            ax.plot(layers, expected, color=color, linestyle=style, linewidth=1)
    handles, labels = ax.get_legend_handles_labels()
    if expected_in is not None:
        handles.append(Line2D([], [], color=plt.rcParams["text.color"], linewidth=1))
        labels.append("mean-field theory")
    ax.set(xlabel="layer", ylabel=label, yscale=yscale)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    ax.legend(handles, labels, frameon=False)
    return ax


def facet_axes(comparison: Comparison, by: str | Sequence[str] | None = None) -> list[str]:
    """Return the axes, two at most, whose values have panels of their own, in the order given.

    By default the axis is chosen whose values change the outcome most: by the variance of the
    median logarithmic cost over its values, averaged over the schemes. A second one is chosen if
    its variance is a fiftieth of that at least, and both together have 16 panels at most. Runs of
    different batch sizes have different points, so that a batch size that varies is one of them.

    Raises
    ------
    ValueError
        For an unknown axis, or more than two.
    """
    if by is not None:
        chosen = [by] if isinstance(by, str) else list(by)
        for name in chosen:
            if name not in AXES:
                raise ValueError(f"by: expected one of {', '.join(AXES)}; got {name!r}")
        if len(chosen) > 2:
            raise ValueError(f"by: expected at most two axes; got {len(chosen)}")
    else:
        effects = _effects(comparison)
        chosen = sorted(effects, key=lambda name: -effects[name])[:2]
        if len(chosen) == 2 and (
            effects[chosen[1]] < SECOND * effects[chosen[0]]
            or math.prod(len(comparison.cells.values[name]) for name in chosen) > MOST_PANELS
        ):
            chosen.pop()
    if "batch_size" in _varied(comparison) and "batch_size" not in chosen:
        chosen = [*chosen[:1], "batch_size"]
    return chosen


def _varied(comparison: Comparison) -> list[str]:
    """Return the axes other than the seed with several values."""
    return [name for name in AXES[1:] if len(comparison.cells.values[name]) > 1]


def _effects(comparison: Comparison) -> dict[str, float]:
    """Return how much each axis with few values changes the cost."""
    found = {}
    costs = comparison.columns()["final_cost"]
    for axis in _varied(comparison):
        if len(comparison.cells.values[axis]) > MOST_FACETS:
            continue
        groups = comparison.groups(axis)
        medians = np.array([quantiles(costs[rows], [0.5])[0] for _, rows in groups])
        # Clipped, so that one scheme with extreme costs does not decide.
        log = _is_log([medians])
        low, high = robust_limits(medians[:, None], log=log)
        medians = np.clip(medians, low, high)
        medians = np.log10(medians) if log else medians
        schemes = np.array([key["scheme"] for key, _ in groups], object)
        variances = [np.var(medians[schemes == name]) for name in dict.fromkeys(schemes)]
        found[axis] = float(np.mean(variances))
    return found


class Facet(NamedTuple):
    """The runs that share the values of the facets' axes.

    Attributes
    ----------
    title : str
    rows : dict of str to ndarray of intp
        The rows of each scheme in the columns of the comparison, in the order of the schemes.
    """

    title: str
    rows: Rows


def _facets(comparison: Comparison, by: Sequence[str]) -> tuple[list[Facet], int]:
    """Return the facets that have finished runs, row by row, and the number of columns.

    Of an axis with many values, evenly spaced ones are shown.
    """
    grid, places = comparison.cells, comparison.columns()["place"]
    # The columns of a figure are those of the axis of fewer values.
    axes = sorted(by, key=lambda name: -len(grid.values[name]))
    shown = []
    for axis in axes:
        codes = np.arange(len(grid.values[axis]))
        if len(codes) > MOST_FACETS:
            codes = codes[np.linspace(0, len(codes) - 1, MOST_FACETS).round().astype(int)]
        shown.append(codes.tolist())
    # The panels side by side, and within each the schemes in their order.
    parts: dict[tuple[int, ...], dict[str, NDArray[np.intp]]] = {
        codes: {} for codes in product(*shown)
    }
    for rows in grid.groups(*axes, "scheme", places=places):
        first = int(places[rows[0]])
        key = tuple(int(grid.code(axis)[first]) for axis in axes)
        if key in parts:
            parts[key][comparison.schemes[grid.code("scheme")[first]]] = rows
    found = []
    for key, rows_of in parts.items():
        code = dict(zip(axes, key, strict=True))
        title = ", ".join(value_named(grid, axis, code[axis]) for axis in by)
        if rows_of:
            found.append(Facet(title, rows_of))
    columns = len(shown[-1]) if len(by) == 2 else min(len(found), 3)
    return found, max(1, columns)


def value_named(grid: Grid, axis: str, code: int) -> str:
    """Return the value of an axis as a title, such as "adam" or "learning rate 0.1"."""
    labels = grid.labels(axis)
    label = labels[code]
    if axis == "batch_size":
        return "full batches" if label is None else f"batches of {label}"
    if axis in ("activation", "optimizer"):
        return str(label)
    return f"{axis.replace('_', ' ')} {rounded(labels)[code]}"


@dataclass
class Picture:
    """A figure of one or more panels.

    Attributes
    ----------
    title, caption : str
    panels : list of (str, callable)
        The title of each panel, and a function that draws it on axes.
    columns : int
        Panels side by side.
    size : (float, float)
        Width and height of a panel in inches.
    """

    title: str
    caption: str
    panels: list[tuple[str, Callable[[Axes], Any]]]
    columns: int = 1
    size: tuple[float, float] = (5.4, 3.4)
    square: bool = False

    def figure(self) -> Figure:
        """Return all panels as one figure."""
        rows, columns = -(-len(self.panels) // self.columns), self.columns
        width, height = self.size
        if len(self.panels) == 1 and not self.square:
            width, height = max(width, 8.0), max(height, 4.6)
        size = width * columns, height * rows + 0.4
        figure = Figure(figsize=size, layout="compressed" if self.square else "constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[len(self.panels) :]:
            ax.remove()
        for ax, (title, draw) in zip(axes, self.panels, strict=False):
            draw(ax)
            if title:
                ax.set_title(title, parse_math=False)
        # Unlike a title of axes, that of a figure is placed above their legends.
        if len(self.panels) > 1 or not axes[0].get_title():
            figure.suptitle(self.title)
        return figure


def pictures(
    comparison: Comparison,
    by: str | Sequence[str] | None = None,
    *,
    metric: str | None = None,
    best_of: str | Sequence[str] = (),
) -> dict[str, Picture]:
    """Return what :func:`figures` draws, panel by panel."""
    _check_comparison(comparison)
    if not len(comparison):
        raise ValueError("comparison: expected at least one finished run; got none")
    chosen = facet_axes(comparison, by)
    facets, columns = _facets(comparison, chosen)
    order = [row.scheme for row in comparison.ranking(metric, best_of=best_of).rows if row.runs]
    several = len(comparison.cells) > len(comparison.schemes)
    found: dict[str, Picture] = {}
    if _in_plane(comparison):
        panels = [("", _data_drawer(comparison))]
        found["data"] = Picture("Training data", "", panels, size=(5.0, 5.0), square=True)
    trained = _cost_picture(comparison, facets, columns, chosen)
    if trained.panels:
        found["costs"] = trained
    if several:
        found["outcomes"] = _dot_picture(
            comparison, order, facets, columns, "final_cost", "final cost", False
        )
    if np.isfinite(comparison.columns()["test_score"]).any():
        name = "test accuracy" if comparison.network.classifies else "test R2"
        found["scores"] = _dot_picture(comparison, order, facets, columns, "test_score", name, True)
    found |= _axis_pictures(comparison, chosen)
    if "data" in found:
        found["boundaries"] = _boundary_picture(comparison, order)
    return found


def figures(
    comparison: Comparison,
    by: str | Sequence[str] | None = None,
    *,
    metric: str | None = None,
    best_of: str | Sequence[str] = (),
) -> dict[str, Figure]:
    """Return the figures of a comparison by name.

    Parameters
    ----------
    comparison : Comparison
        With at least one finished run.
    by : str or sequence of two str, optional
        The axes whose values have panels of their own: "depth", "width", "activation", "optimizer",
        "learning_rate", "batch_size", "scale" or "seed". By default those whose values change the
        final cost most.
    metric, best_of
        As in :meth:`Comparison.ranking`, in whose order the schemes are listed.

    Returns
    -------
    dict of str to matplotlib Figure
        ``costs``, the cost curves, if anything was trained; ``outcomes``, the final costs, for
        several runs of a scheme; ``scores``, with test data; by its name each axis that varies and
        is not shown by the panels; ``data`` and ``boundaries`` for networks with two features that
        classify.

    Raises
    ------
    TypeError
        If ``comparison`` is not a Comparison.
    ValueError
        For an unknown axis, or if no run is finished.
    """
    found = pictures(comparison, by, metric=metric, best_of=best_of)
    return {name: picture.figure() for name, picture in found.items()}


def _in_plane(comparison: Comparison) -> bool:
    network = comparison.network
    one_label = network.output == "softmax" or (network.classifies and network.sizes[-1] == 1)
    return network.sizes[0] == 2 and one_label and comparison.has_data


def _data_drawer(comparison: Comparison) -> Callable[[Axes], Any]:
    def draw(ax: Axes) -> None:
        examples(comparison.X, _labels(comparison), ax=ax).set_aspect("equal")
        ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)

    return draw


def _panel_size(comparison: Comparison) -> tuple[float, float]:
    return 5.4, max(3.4, 1.1 + 0.17 * len(comparison.schemes))


def _cost_picture(
    comparison: Comparison, facets: Sequence[Facet], columns: int, by: Sequence[str]
) -> Picture:
    most = max(100, MOST_CURVES // max(1, sum(len(facet.rows) for facet in facets)))
    most = min(most, MOST_RUNS)
    bands = [(facet.title, _bands(comparison, facet.rows, most)) for facet in facets]
    every = [band for _, own in bands for band in own.values()]
    rim = _rim_of(every)
    looks = {name: k for k, name in enumerate(comparison.schemes)}
    xlabel = _x_label(comparison)

    def drawer(own: Mapping[str, Band]) -> Callable[[Axes], Any]:
        return lambda ax: _draw_bands(ax, own, xlabel, rim=rim, looks=looks)

    caption = _pooled(comparison, by, "Curves")
    if any(band.runs > most for band in every):
        caption += f"Of each scheme, at most {most:,} evenly spaced runs are used in a panel. "
    caption += _shown_values(comparison, by)
    if any(((band.median > rim.high) & np.isfinite(band.median)).any() for band in every):
        caption += "▲ at the edge: costs above the axis. "
    if not all(np.isfinite(band.median).all() for band in every):
        caption += "✕ at the edge: infinite costs, such as those of diverged runs. "
    return Picture(
        "Cost during training",
        caption.strip(),
        [(title, drawer(own)) for title, own in bands if own],
        columns,
        _panel_size(comparison),
    )


def _shown_values(comparison: Comparison, by: Sequence[str]) -> str:
    """Return a sentence about axes of which not all values have a panel."""
    return "".join(
        f"{MOST_FACETS} of {len(comparison.cells.values[axis]):,} values of "
        f"{axis.replace('_', ' ')} are shown. "
        for axis in by
        if len(comparison.cells.values[axis]) > MOST_FACETS
    )


def _dot_picture(
    comparison: Comparison,
    ranked: Sequence[str],
    facets: Sequence[Facet],
    columns: int,
    column: str,
    label: str,
    higher_is_better: bool,
) -> Picture:
    values = comparison.columns()[column]
    looks = {name: comparison.schemes.index(name) for name in ranked}
    parts = [
        (facet.title, {name: values[facet.rows[name]] for name in ranked if name in facet.rows})
        for facet in facets
    ]
    series = [list(rows.values()) for _, rows in parts]
    rims, apart = _rims(series, series, lambda rows: _dot_rim(rows, higher_is_better))
    most = MOST_DOTS // max(1, len(parts))

    def drawer(rows: Mapping[str, NDArray[np.float64]], rim: _Rim) -> Callable[[Axes], Any]:
        return lambda ax: _draw_dots(ax, rows, label, higher_is_better, rim, looks, most)

    n = max(len(row) for _, rows in parts for row in rows.values())
    caption = "One dot for each run. "
    if n > 1:
        caption += "The bar is the median, also given at the right"
        caption += ", the line its 95 % interval. " if n >= 6 else ". "
    each = max(20, min(300, most // max(1, len(ranked))))
    if n > each:
        caption += f"Of more than {each} runs in a row, dots at {each} quantiles are drawn. "
    if not np.isfinite(values).all():
        caption += "✕ runs that diverged, with their number. "
    if any(
        (np.isfinite(each) & ((each < rim.low) | (each > rim.high))).any()
        for own, rim in zip(series, rims, strict=True)
        for each in own
    ):
        caption += "◀ ▶ at the edge: values beyond the axis. "
    caption += apart
    height = max(1.6, 0.9 + 0.3 * len(ranked))
    return Picture(
        f"{label[0].upper()}{label[1:]}",
        caption.strip(),
        [(title, drawer(rows, rim)) for (title, rows), rim in zip(parts, rims, strict=True)],
        columns,
        (5.4, height),
    )


def _axis_pictures(comparison: Comparison, by: Sequence[str]) -> dict[str, Picture]:
    """Return the cost against each axis of numbers, and heat maps of names that have no panels."""
    found = {}
    for axis in _varied(comparison):
        values = comparison.cells.values[axis]
        if _numbers(comparison, axis) is not None and len(values) > 2:
            found[axis] = _against_picture(comparison, axis, by)
        elif axis not in by and len(values) <= MOST_VALUES:
            height = max(2.2, 1.2 + 0.32 * len(comparison.schemes))
            draw = _map_drawer(comparison, axis)
            title = f"Median final cost by {axis.replace('_', ' ')}"
            found[axis] = Picture(title, "", [("", draw)], size=(5.4, height))
    return found


def _against_picture(comparison: Comparison, axis: str, by: Sequence[str]) -> Picture:
    """Return the cost against an axis of numbers, with panels for the optimisers and for ``by``.

    Costs of different optimisers at one learning rate are of different orders of magnitude.
    """
    varied = _varied(comparison)
    others = [name for name in ("optimizer", *by) if name in varied and name != axis]
    panels = list(dict.fromkeys(others))[:2]
    facets, columns = _facets(comparison, panels)
    bands = [(facet.title, _bands_over(comparison, axis, facet.rows)) for facet in facets]
    parts = [list(own.values()) for _, own in bands]
    rims, apart = _rims(parts, [[band.median for band in own] for own in parts], _rim_of)

    def drawer(own: Mapping[str, Band], rim: _Rim) -> Callable[[Axes], Any]:
        return lambda ax: _draw_against(ax, comparison, axis, own, rim)

    many = len(comparison.cells.values[axis]) > MOST_VALUES
    caption = _pooled(comparison, [axis, *panels], "Medians")
    caption += "Neighbouring values are grouped. " if many else ""
    caption += f"Bands are from quartile to quartile. {apart}"
    caption += _shown_values(comparison, panels)
    return Picture(
        f"Final cost by {axis.replace('_', ' ')}",
        caption.strip(),
        [(title, drawer(own, rim)) for (title, own), rim in zip(bands, rims, strict=True)],
        columns,
        (5.4, _panel_size(comparison)[1]),
    )


def _pooled(comparison: Comparison, apart: Sequence[str], what: str) -> str:
    """Return a sentence about the axes over whose values something is taken."""
    pooled = [
        f"{axis.replace('_', ' ')} ({len(comparison.cells.values[axis]):,} values)"
        for axis in comparison.varying
        if axis not in apart
    ]
    return f"{what} are over all values of {', '.join(pooled)}. " if pooled else ""


def _map_drawer(comparison: Comparison, axis: str) -> Callable[[Axes], Any]:
    return lambda ax: medians_by(comparison, axis, ax=ax)


def _boundary_picture(comparison: Comparison, names: Sequence[str]) -> Picture:
    def drawer(name: str) -> Callable[[Axes], Any]:
        return lambda ax: boundary_of(comparison, name, ax=ax).set_aspect("equal")

    several = len(comparison.cells) > len(comparison.schemes)
    caption = "Of each scheme, the run of median final cost." if several else ""
    return Picture(
        "Predicted classes",
        caption,
        [("", drawer(name)) for name in names],
        min(len(names), PER_ROW),
        (4.2, 4.5),
        square=True,
    )


def medians_by(comparison: Comparison, axis: str, *, ax: Axes | None = None) -> Axes:
    """Draw the median final cost of each scheme for each value of one axis of the grid.

    Parameters
    ----------
    comparison : Comparison
    axis : str
        One of the axes of the grid, such as "activation".
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> net = fi.Network([2, 3, 1])
    >>> result = fi.compare(X, Y, net, ["lesson.he"], seed=[0, 1], width=[2, 4], iterations=10)
    >>> len(medians_by(result, "width", ax=Figure().subplots()).texts)
    2
    """
    _check_comparison(comparison)
    costs = comparison.columns()["final_cost"]
    medians = {
        (key["scheme"], key[axis]): float(quantiles(costs[rows], [0.5])[0])
        for key, rows in comparison.groups(axis)
    }
    names = list(dict.fromkeys(name for name, _ in medians))
    values = list(dict.fromkeys(value for _, value in medians))
    found = np.array([[medians.get((name, value), np.nan) for value in values] for name in names])
    drawn = heat_map(
        shortened(names, LABEL),
        ["full" if v is None else text for v, text in zip(values, rounded(values), strict=True)],
        found,
        row_label="",
        column_label=axis.replace("_", " "),
        label="median final cost",
        ax=ax,
    )
    for tick in drawn.get_yticklabels():
        tick.set_parse_math(False)
    return drawn


def _labels(comparison: Comparison) -> NDArray[Any]:
    """Return the class of each example."""
    Y = comparison.Y
    return np.ravel(Y) if len(Y) == 1 else np.argmax(Y, axis=0)


def images(
    comparison: Comparison,
    by: str | Sequence[str] | None = None,
    *,
    metric: str | None = None,
    best_of: str | Sequence[str] = (),
) -> dict[str, bytes]:
    """Return :func:`figures` as the bytes of PNG files."""
    files = {}
    with missing_glyphs():
        for name, figure in figures(comparison, by, metric=metric, best_of=best_of).items():
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=144)
            files[name] = file.getvalue()
    return files


@contextmanager
def missing_glyphs() -> Iterator[None]:
    """Let labels contain characters that the font lacks: browsers have other fonts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def show() -> None:
    """Show the current figure, as pyplot does."""
    plt.show()


# --- helpers ----------------------------------------------------------------------------------


def _n_classes(labels: ArrayLike) -> int:
    """Return the number of classes; at least two, even if one does not occur."""
    return max(2, int(np.asarray(labels).max(initial=0)) + 1)


def _axes(ax: Axes | None) -> Axes:
    """Return the axes, or the current ones; a new figure leaves space for the labels of curves."""
    if ax is not None:
        return ax
    return plt.gca() if plt.get_fignums() else plt.figure(layout="constrained").gca()


def _look(k: int) -> tuple[str, Any]:
    """Return the colour and the line style of curve k; the seventh has the colour of the text."""
    colors = (*COLORS, plt.rcParams["text.color"])
    return colors[k % len(colors)], STYLES[k % len(STYLES)]


def _finite_quartiles(values: ArrayLike) -> NDArray[np.float64]:
    """Return the quartiles along the first axis, NaN where they are infinite, to leave a gap."""
    found = quantiles(values, QUARTILES)
    return np.where(np.isfinite(found), found, np.nan)


def _spans_decades(values: NDArray[Any]) -> bool:
    return bool(values.size and values.min() > 0 and values.max() > 10**DECADES * values.min())


def _luminance(color: Sequence[float]) -> float:
    """Return the relative luminance of WCAG 2: black and white text have equal contrast on 0.18."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
