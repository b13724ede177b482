"""Plots. This is the only module that imports matplotlib.

Each function draws on ``ax`` and returns it; the current axes are the default, as in pyplot. The
colours are those of Okabe and Ito, which colour-blind readers can distinguish; line styles and
markers distinguish curves and classes in greyscale. Text and axes have the colours of the current
style: ``with plt.style.context("dark_background")`` gives dark figures.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from fastinit.comparison.propagation import Propagation
from fastinit.comparison.results import Comparison
from fastinit.comparison.statistics import QUARTILES, quantiles
from fastinit.comparison.trials import Trial
from fastinit.training.network import Network
from fastinit.training.run import Run

# https://jfly.uni-koeln.de/color/ without black: visible on white and on black.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", "-.", ":")
MARKERS = "o^sDvPX"
GRID = 400  # points along each axis of a decision boundary
BINS = 30  # of a histogram
DECADES = 2  # positive values that span more are drawn on a logarithmic scale
PER_ROW = 4  # decision boundaries side by side


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


def costs(
    comparison: Comparison, *, yscale: Literal["log", "linear"] = "log", ax: Axes | None = None
) -> Axes:
    """Draw the cost of each scheme's run over the iterations; infinite costs leave a gap.

    Parameters
    ----------
    comparison : Comparison
        With one run for each scheme.
    yscale : {"log", "linear"}
        Logarithmic by default: from large random weights the cost falls by orders of magnitude.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TypeError
        If ``comparison`` is not a Comparison.
    ValueError
        If it has several runs for each scheme.
    """
    _check_comparison(comparison)
    runs = comparison.runs
    ax = plt.gca() if ax is None else ax
    for k, (scheme, run) in enumerate(runs.items()):
        values = np.where(np.isfinite(run.costs), run.costs, np.nan)
        color, style = _look(k)
        ax.plot(run.points, values, color=color, linestyle=style, label=scheme)
    return _cost_axes(ax, "cost", yscale)


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
    ax.set_title(f"{scheme}: {', '.join(accuracies)}")
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


def cost_bands(
    curves: Mapping[str, NDArray[Any]],
    *,
    iterations: NDArray[Any] | None = None,
    yscale: Literal["log", "linear"] = "log",
    ax: Axes | None = None,
) -> Axes:
    """Draw the median cost of each scheme over the iterations, in a band of the quartiles.

    NaN counts as infinite, so that diverged runs raise the quartiles of their scheme. Quartiles
    that are not finite leave a gap.

    Parameters
    ----------
    curves : mapping of str to ndarray of shape (k, n_points)
        The costs of k runs, by the name of their scheme.
    iterations : ndarray of shape (n_points,), optional
        The iterations of the points; 0, 1, 2, ... by default.
    yscale : {"log", "linear"}
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
    >>> ax.get_yscale()
    'log'
    """
    ax = plt.gca() if ax is None else ax
    for k, (name, values) in enumerate(curves.items()):
        values = np.asarray(values)
        if values.ndim != 2:
            raise ValueError(f"curves[{name!r}]: expected shape (k, n_points); got {values.shape}")
        x = np.arange(values.shape[1]) if iterations is None else np.asarray(iterations)
        if x.shape != values.shape[1:]:
            raise ValueError(
                f"iterations: expected shape {values.shape[1:]} to match curves[{name!r}]; "
                f"got {x.shape}"
            )
        lower, median, upper = _finite_quartiles(values)
        color, style = _look(k)
        ax.plot(x, median, color=color, linestyle=style, label=name)
        ax.fill_between(x, lower, upper, color=color, alpha=0.2, linewidth=0)
    return _cost_axes(ax, "cost: median and quartiles", yscale)


def _cost_axes(ax: Axes, label: str, yscale: Literal["log", "linear"]) -> Axes:
    ax.set(xlabel="iteration", ylabel=label, yscale=yscale)
    ax.grid(alpha=0.3)
    ax.legend(title="initialisation", frameon=False)
    return ax


def outcomes(
    values: Mapping[str, NDArray[Any]], *, label: str = "final cost", ax: Axes | None = None
) -> Axes:
    """Draw one histogram for each scheme, over common bins.

    Parameters
    ----------
    values : mapping of str to ndarray of shape (k,)
        One value for each of k runs, by the name of the scheme. The axis is logarithmic if all
        values are positive and span more than two decades. Values that are not finite are counted
        in the legend.
    label : str, default "final cost"
        Label of the axis.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> costs = {"he": np.array([0.06, 0.07, 0.09]), "random": np.array([0.2, 0.4, np.inf])}
    >>> ax = outcomes(costs, ax=Figure().subplots())
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['he', 'random (1 of 3 not finite)']
    """
    ax = plt.gca() if ax is None else ax
    arrays = {name: np.ravel(array).astype(float) for name, array in values.items()}
    finite = {name: array[np.isfinite(array)] for name, array in arrays.items()}
    everything = np.concatenate([np.empty(0), *finite.values()])
    logarithmic = _spans_decades(everything)
    edges = np.histogram_bin_edges(np.log10(everything) if logarithmic else everything, BINS)
    if logarithmic:
        edges = 10**edges
        # Rounding must not exclude the extremes from the outer bins.
        edges[0], edges[-1] = everything.min(), everything.max()
    for k, (name, array) in enumerate(finite.items()):
        color, style = _look(k)
        total, excluded = len(arrays[name]), len(arrays[name]) - len(array)
        counts, _ = np.histogram(array, edges)
        ax.stairs(counts, edges, fill=True, color=color, alpha=0.2, linewidth=0)
        ax.stairs(
            counts,
            edges,
            color=color,
            linestyle=style,
            linewidth=1.5,
            label=f"{name} ({excluded} of {total} not finite)" if excluded else name,
        )
    ax.set(xlabel=label, ylabel="runs", xscale="log" if logarithmic else "linear")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(title="initialisation", frameon=False)
    return ax


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
    ax.set_xticks(range(len(columns)), [str(name) for name in columns])
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


def figures(comparison: Comparison) -> dict[str, Figure]:
    """Return the figures of a comparison by name.

    Returns
    -------
    dict of str to matplotlib Figure
        ``data`` and ``boundaries`` for networks with two features that classify, ``costs`` if
        anything was trained, and for several runs of a scheme ``outcomes``, the final costs, and
        the median final cost by each axis that varies, except the seed.
    """
    _check_comparison(comparison)
    found = {}
    trials = {name: comparison.of(name) for name in comparison.schemes if comparison.of(name)}
    several = len(comparison.cells) > len(comparison.schemes)
    network = comparison.network
    one_label = network.output == "softmax" or (network.classifies and network.sizes[-1] == 1)
    if network.sizes[0] == 2 and one_label:
        found["data"] = Figure(figsize=(5, 5), layout="compressed")
        ax = examples(comparison.X, _labels(comparison), ax=found["data"].subplots())
        ax.set(title="Training data", aspect="equal")
        ax.legend(frameon=False, loc="upper right")
    if comparison.iterations:
        found["costs"], ax = _panel("Cost during training")
        if several:
            cost_bands(comparison.curves(), iterations=comparison.points, ax=ax)
        else:
            costs(comparison, ax=ax)
    if several:
        found["outcomes"], ax = _panel("Final costs")
        finals = {name: np.array([t.final_cost for t in own]) for name, own in trials.items()}
        outcomes(finals, ax=ax)
    if "data" in found:
        rows, columns = -(-len(trials) // PER_ROW), min(len(trials), PER_ROW)
        found["boundaries"] = Figure(figsize=(4.2 * columns, 4.6 * rows), layout="compressed")
        axes = found["boundaries"].subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for ax in axes.flat[len(trials) :]:
            ax.remove()
        for ax, scheme in zip(axes.flat, trials, strict=False):
            boundary_of(comparison, scheme, ax=ax).set_aspect("equal")
    for axis in comparison.varying:
        if axis != "seed":
            found[axis], ax = _panel(f"Median final cost by {axis.replace('_', ' ')}")
            medians_by(comparison, axis, ax=ax)
    return found


def medians_by(comparison: Comparison, axis: str, *, ax: Axes | None = None) -> Axes:
    """Draw the median final cost of each scheme for each value of one axis of the grid.

    Parameters
    ----------
    comparison : Comparison
    axis : {"depth", "width", "learning_rate", "activation"}
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
    name = axis.replace("_", " ")
    medians = {(r["scheme"], r[name]): r["median cost"] for r in comparison.summary(axis)}
    schemes = list(dict.fromkeys(scheme for scheme, _ in medians))
    values = list(dict.fromkeys(getattr(cell, axis) for cell in comparison.cells))
    return heat_map(
        schemes,
        values,
        np.array(
            [[medians.get((scheme, value), np.nan) for value in values] for scheme in schemes]
        ),
        row_label="initialisation",
        column_label=name,
        label="median final cost",
        ax=ax,
    )


def _labels(comparison: Comparison) -> NDArray[Any]:
    """Return the class of each example."""
    Y = comparison.Y
    return np.ravel(Y) if len(Y) == 1 else np.argmax(Y, axis=0)


def images(comparison: Comparison, *, dark: bool = False) -> dict[str, bytes]:
    """Return :func:`figures` as the bytes of PNG files, with a white or a black background."""
    files = {}
    with plt.style.context("dark_background" if dark else "default"):
        for name, figure in figures(comparison).items():
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=100)
            files[name] = file.getvalue()
    return files


def _panel(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    ax = figure.subplots()
    ax.set_title(title)
    return figure, ax


def show() -> None:
    """Show the current figure, as pyplot does."""
    plt.show()


# --- helpers ----------------------------------------------------------------------------------


def _n_classes(labels: ArrayLike) -> int:
    """Return the number of classes; at least two, even if one does not occur."""
    return max(2, int(np.max(labels, initial=0)) + 1)


def _look(k: int) -> tuple[str, str]:
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
