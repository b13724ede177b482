import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi
from fastinit import init_utils

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")
plots = pytest.importorskip("fastinit.plots")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture
def comparison(circles):
    X, Y, X_test, Y_test = circles
    net = fi.Network([2, 10, 5, 1])
    return fi.compare(X, Y, net, ["zeros", "he"], test=(X_test, Y_test), iterations=200)


def test_each_takes_and_returns_axes(comparison):
    X, Y = comparison.X, comparison.Y
    _, axes = plt.subplots(2, 2)
    assert plots.examples(X, Y, ax=axes[0, 0]) is axes[0, 0]
    assert plots.decision_boundary(lambda p: p[:, 0] > 0, X, Y, ax=axes[0, 1]) is axes[0, 1]
    assert plots.costs(comparison, ax=axes[1, 0]) is axes[1, 0]
    assert plots.boundary_of(comparison, "he", ax=axes[1, 1]) is axes[1, 1]
    assert all(ax.get_xlabel() and ax.get_ylabel() for ax in axes.flat)
    assert [text.get_text() for text in axes[1, 0].get_legend().get_texts()] == ["zeros", "he"]
    assert axes[1, 1].get_title().startswith("he: train ")


def test_current_axes_without_any(comparison):
    _, ax = plt.subplots()
    assert plots.costs(comparison) is ax


def test_infinite_costs_leave_a_gap(circles):
    net = fi.Network([2, 10, 5, 1], loss="saturating_cross_entropy")
    comparison = fi.compare(*circles[:2], net, ["random"], seed=3, iterations=50)
    infinite = np.isposinf(comparison.runs["random"].costs)
    assert infinite[0]
    _, ax = plt.subplots()
    line = plots.costs(comparison, ax=ax).lines[0]
    assert_array_equal(np.isnan(line.get_ydata()), infinite)


def test_figures(comparison):
    figures = plots.figures(comparison)
    assert list(figures) == ["data", "costs", "boundaries"]
    assert len(figures["boundaries"].axes) == 2


def test_figures_of_more_features():
    X = np.random.default_rng(0).standard_normal((3, 20))
    Y = (X[:1] > 0).astype(int)
    comparison = fi.compare(X, Y, fi.Network([3, 4, 1]), ["he"], seed=0, iterations=5)
    assert list(plots.figures(comparison)) == ["costs"]


def test_lessons_plot(circles, monkeypatch):
    """The notebook sets title and limits first, and draws on the same axes."""
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    X, Y, _, _ = circles
    parameters = init_utils.initialize_parameters_zeros([2, 10, 5, 1])
    plt.title("Model with Zeros initialization")
    axes = plt.gca()
    axes.set_xlim([-1.5, 1.5])
    axes.set_ylim([-1.5, 1.5])
    init_utils.plot_decision_boundary(lambda x: init_utils.predict_dec(parameters, x.T), X, Y)
    assert shown == [True]
    assert plt.gca() is axes
    assert axes.get_title() == "Model with Zeros initialization"
    assert axes.get_xlim() == (-1.5, 1.5)
