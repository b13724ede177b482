"""Every picture. matplotlib is imported here and nowhere else.

Each function takes ``ax``, draws on it, and returns it; without one it draws on the current axes,
as pyplot does. The colours are those of Okabe and Ito, which stay apart for colour-blind readers;
line styles and markers tell curves and classes apart in grey.
"""

from collections.abc import Callable
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from fastinit.comparison import Comparison

# https://jfly.uni-koeln.de/color/
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
REGIONS = ListedColormap(["#CFE3F0", "#F6DCC8"])
MARKERS = (("o", COLORS[0]), ("^", COLORS[1]))
GRID = 400  # points along each axis of a decision boundary


def examples(X: ArrayLike, Y: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Draw two-dimensional examples, one marker per class.

    Parameters
    ----------
    X : array_like of shape (2, m)
    Y : array_like of m labels, each 0 or 1
    ax : matplotlib Axes, optional
    """
    ax = plt.gca() if ax is None else ax
    X, Y = np.asarray(X), np.ravel(Y)
    for label, (marker, color) in enumerate(MARKERS):
        chosen = X[:, label == Y]
        ax.scatter(
            chosen[0],
            chosen[1],
            s=22,
            marker=marker,
            color=color,
            edgecolors="white",
            linewidths=0.5,
            label=f"class {label}",
        )
    ax.set(xlabel="x1", ylabel="x2")
    return ax


def decision_boundary(
    predict: Callable[[Any], Any], X: ArrayLike, Y: ArrayLike, *, ax: Axes | None = None
) -> Axes:
    """Draw the regions of both classes, with the examples on top.

    Parameters
    ----------
    predict : callable
        From points of shape (n, 2) to their n classes.
    X : array_like of shape (2, m)
    Y : array_like of m labels, each 0 or 1
    ax : matplotlib Axes, optional
    """
    ax = plt.gca() if ax is None else ax
    X = np.asarray(X)
    low, high = X.min(axis=1) - 0.5, X.max(axis=1) + 0.5
    x1, x2 = np.meshgrid(*np.linspace(low, high, GRID, axis=1))
    classes = np.reshape(predict(np.column_stack([x1.ravel(), x2.ravel()])), x1.shape)
    ax.contourf(x1, x2, classes, levels=[-0.5, 0.5, 1.5], cmap=REGIONS)
    return examples(X, Y, ax=ax)


def costs(
    comparison: Comparison, *, yscale: Literal["log", "linear"] = "log", ax: Axes | None = None
) -> Axes:
    """Draw the cost of each scheme over the iterations; infinite costs leave a gap.

    Logarithmic by default: large random weights begin a hundred times higher than they end.
    """
    ax = plt.gca() if ax is None else ax
    for k, (scheme, run) in enumerate(comparison.runs.items()):
        values = np.where(np.isfinite(run.costs), run.costs, np.nan)
        ax.plot(
            values, color=COLORS[k % len(COLORS)], linestyle=STYLES[k % len(STYLES)], label=scheme
        )
    ax.set(xlabel="iteration", ylabel="cost (cross-entropy, nats)", yscale=yscale)
    ax.grid(alpha=0.3)
    ax.legend(title="initialisation", frameon=False)
    return ax


def boundary_of(comparison: Comparison, scheme: str, *, ax: Axes | None = None) -> Axes:
    """Draw where a scheme's trained network puts the line between the classes."""
    run = comparison.runs[scheme]
    ax = decision_boundary(
        lambda points: run.network.predict(run.theta, points.T),
        comparison.X,
        comparison.Y,
        ax=ax,
    )
    accuracies = [f"train {comparison.accuracy(scheme):.1%}"]
    if comparison.test is not None:
        accuracies.append(f"test {comparison.test_accuracy(scheme):.1%}")
    ax.set_title(f"{scheme}: {', '.join(accuracies)}")
    return ax


def figures(comparison: Comparison) -> dict[str, Figure]:
    """Return the lesson's pictures by name: costs, and for two features data and boundaries."""
    found = {}
    if comparison.X.shape[0] == 2 and comparison.Y.shape[0] == 1:
        found["data"] = Figure(figsize=(5, 5), layout="compressed")
        ax = examples(comparison.X, comparison.Y, ax=found["data"].subplots())
        ax.set(title="Training data", aspect="equal")
        ax.legend(frameon=False, loc="upper right")
    found["costs"] = Figure(figsize=(8, 4.6), layout="constrained")
    costs(comparison, ax=found["costs"].subplots()).set_title("Cost while training")
    if "data" in found:
        n = len(comparison.runs)
        found["boundaries"] = Figure(figsize=(4.2 * n, 4.6), layout="compressed")
        axes = found["boundaries"].subplots(1, n, sharex=True, sharey=True, squeeze=False)
        for ax, scheme in zip(axes[0], comparison.runs, strict=True):
            boundary_of(comparison, scheme, ax=ax).set_aspect("equal")
    return found


def show() -> None:
    """Show the current figure, as pyplot does."""
    plt.show()
