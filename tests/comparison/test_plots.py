import io
import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from synthetic import synthetic

import fastinit as fi
from fastinit import init_utils

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")
plots = pytest.importorskip("fastinit.comparison.plots")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture
def comparison(circles):
    X, Y, X_test, Y_test = circles
    net = fi.Network([2, 10, 5, 1])
    return fi.compare(X, Y, net, ["zeros", "lesson.he"], test=(X_test, Y_test), iterations=200)


def test_each_takes_and_returns_axes(comparison):
    X, Y = comparison.X, comparison.Y
    _, axes = plt.subplots(2, 2)
    assert plots.examples(X, Y, ax=axes[0, 0]) is axes[0, 0]
    assert plots.decision_boundary(lambda p: p[:, 0] > 0, X, Y, ax=axes[0, 1]) is axes[0, 1]
    assert plots.costs(comparison, ax=axes[1, 0]) is axes[1, 0]
    assert plots.boundary_of(comparison, "lesson.he", ax=axes[1, 1]) is axes[1, 1]
    assert all(ax.get_xlabel() and ax.get_ylabel() for ax in axes.flat)
    assert [text.get_text() for text in axes[1, 0].texts] == ["zeros", "lesson.he"]
    assert axes[1, 1].get_title().startswith("lesson.he\ntrain ")


def test_three_classes():
    """Each class has its own marker and region."""
    X = np.array([[0.0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1]])
    _, ax = plt.subplots()
    plots.decision_boundary(lambda points: points[:, 0].round().clip(0, 2), X, X[0], ax=ax)
    regions, *markers = ax.collections
    assert len(regions.get_facecolors()) == 3
    assert [len(each.get_offsets()) for each in markers] == [2, 2, 2]
    assert len({each.get_paths()[0].vertices.tobytes() for each in markers}) == 3
    colors = [tuple(each.get_facecolors()[0][:3]) for each in markers]
    assert colors == [tuple(color[:3]) for color in regions.get_facecolors()]


def test_current_axes_without_any(comparison):
    _, ax = plt.subplots()
    assert plots.costs(comparison) is ax


def test_infinite_costs_are_at_the_rim(circles):
    net = fi.Network([2, 10, 5, 1], loss="saturating_cross_entropy")
    comparison = fi.compare(*circles[:2], net, ["lesson.random"], seed=3, iterations=50)
    infinite = np.isposinf(comparison.runs["lesson.random"].costs)
    assert infinite[0]
    _, ax = plt.subplots()
    plots.costs(comparison, ax=ax)
    line, marks = ax.lines[:2]
    drawn = line.get_ydata()
    finite = comparison.runs["lesson.random"].costs[~infinite]
    assert (drawn[infinite] == drawn[0]).all()
    assert drawn[0] > np.quantile(finite, 0.95)
    assert drawn[0] < ax.get_ylim()[1], "within the picture"
    assert marks.get_marker() == "x"
    assert_array_equal(line.values, comparison.runs["lesson.random"].costs)


def test_figures(comparison):
    figures = plots.figures(comparison)
    assert list(figures) == ["data", "costs", "scores", "boundaries"]
    assert len(figures["boundaries"].axes) == 2


def test_no_title_is_drawn_over_a_legend_or_another_title(comparison):
    legends = 0
    for figure in plots.figures(comparison).values():
        figure.draw_without_rendering()
        boxes = [figure._suptitle] if figure._suptitle else []
        for ax in figure.axes:
            legends += ax.get_legend() is not None
            boxes += [each for each in (ax.title, ax.get_legend()) if each is not None]
        drawn = [box for each in boxes if (box := each.get_window_extent()).width]
        assert drawn
        assert not any(a.overlaps(b) for a, b in itertools.combinations(drawn, 2))
    assert legends == 1


def test_figures_of_more_features():
    X = np.random.default_rng(0).standard_normal((3, 20))
    Y = (X[:1] > 0).astype(int)
    comparison = fi.compare(X, Y, fi.Network([3, 4, 1]), ["lesson.he"], seed=0, iterations=5)
    assert list(plots.figures(comparison)) == ["costs"]


def test_lessons_plot(circles, monkeypatch):
    """The notebook sets title and limits before it draws on the same axes."""
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


# --- many runs --------------------------------------------------------------------------------


@pytest.fixture
def curves():
    rng = np.random.default_rng(0)
    return {
        "zeros": np.full((20, 50), np.log(2)),
        "he": np.exp(-np.arange(50) / 10) * rng.uniform(1, 2, size=(20, 1)),
    }


def medians(ax):
    """The curves, without marks and the leaders of labels."""
    return [line for line in ax.lines if isinstance(line, plots.MedianLine)]


def band(collection):
    """The lower and upper edge that fill_between drew."""
    points = collection.get_paths()[0].vertices
    return [
        [points[points[:, 0] == x, 1].min(), points[points[:, 0] == x, 1].max()]
        for x in np.unique(points[:, 0])
    ]


def test_cost_bands_are_median_and_quartiles(curves):
    _, ax = plt.subplots()
    iterations = np.arange(0, 500, 10)
    assert plots.cost_bands(curves, iterations=iterations, ax=ax) is ax
    lines = medians(ax)
    for line, collection, (name, values) in zip(lines, ax.collections, curves.items(), strict=True):
        assert line.get_label() == name
        assert_array_equal(line.get_xdata(), iterations)
        assert_allclose(line.get_ydata(), np.median(values, axis=0), rtol=1e-14)
        assert_allclose(band(collection), np.quantile(values, [0.25, 0.75], axis=0).T, rtol=1e-14)
    assert ax.get_yscale() == "log"
    assert plots.cost_bands(curves, yscale="linear", ax=plt.figure().gca()).get_yscale() == "linear"
    assert ax.get_xlabel()
    assert ax.get_ylabel()


def test_diverged_runs_weigh_on_the_median():
    """NaN counts as infinite: with two of five the median is the largest finite cost."""
    values = np.array([[1.0, 1, 1], [2, 2, 2], [3, 3, 3], [4, 4, np.nan], [5, np.nan, np.inf]])
    values = np.vstack([values, values])  # quartiles between a finite and an infinite cost
    ax = plots.cost_bands({"random": values}, ax=plt.figure().gca())
    assert_array_equal(medians(ax)[0].get_ydata(), [3, 3, 3])
    assert ax.texts[0].get_text() == "random ✕2/10"
    ax = plots.cost_bands({"random": values[2:5]}, ax=plt.figure().gca())
    assert_array_equal(medians(ax)[0].values, [4, 4, np.inf])
    assert 4 < medians(ax)[0].get_ydata()[2] < ax.get_ylim()[1]
    assert ax.texts[0].get_text() == "random ✕1/3 ↑∞"


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("n", [3, 6, 10])
def test_one_wild_scheme_does_not_press_the_others(n, log):
    """The others fill three quarters of the axis at least; the wild one is marked at the edge."""
    curves = {f"s{i}": np.linspace(0.7, 0.05 * (i + 1), 100)[None] for i in range(n - 1)}
    curves["wild"] = np.full((1, 100), 1e6)
    ax = plots.cost_bands(curves, yscale="log" if log else "linear", ax=plt.figure().gca())
    places = [ax.transLimits.transform(ax.transScale.transform((0, y)))[1] for y in (0.05, 0.7)]
    assert places[1] - places[0] > 0.75
    wild = medians(ax)[-1]
    assert_array_equal(wild.values, 1e6)
    assert 0.7 < wild.get_ydata()[0] < ax.get_ylim()[1] < 3
    assert [line.get_marker() for line in ax.lines if line.get_linestyle() == "None"] == ["^"]
    assert ax.texts[-1].get_text() == "wild ↑1e+06"


def test_the_best_scheme_is_never_cut_off():
    curves = {f"s{i}": np.geomspace(0.7, 0.5, 100)[None] for i in range(9)}
    curves["best"] = np.geomspace(0.7, 1e-9, 100)[None]
    ax = plots.cost_bands(curves, ax=plt.figure().gca())
    assert_array_equal(medians(ax)[-1].get_ydata(), curves["best"][0])
    assert ax.texts[-1].get_text() == "best"


def test_costs_that_a_logarithm_cannot_show():
    """Zeros are at the lower rim; with costs below zero the axis is linear."""
    ax = plots.cost_bands({"a": np.array([[1.0, 0.1, 0.0]])}, ax=plt.figure().gca())
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] < medians(ax)[0].get_ydata()[2] < 0.1
    ax = plots.cost_bands({"a": np.array([[1.0, 0.1, -0.4]])}, ax=plt.figure().gca())
    assert ax.get_yscale() == "linear"
    assert_array_equal(medians(ax)[0].get_ydata(), [1, 0.1, -0.4])


def test_one_run_is_no_median(curves):
    one = plots.cost_bands({name: each[:1] for name, each in curves.items()})
    assert one.get_ylabel() == "cost"
    assert not one.collections, "no band"
    several = plots.cost_bands(curves, ax=plt.figure().gca())
    assert several.get_ylabel() == "cost: median and quartiles of 20 runs"


def overlaps(boxes):
    return [
        (i, j)
        for i, a in enumerate(boxes)
        for j, b in enumerate(boxes[:i])
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 0 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5
    ]


NAMES = [f"variance_scaling(scale={i}.0, mode='fan_avg')" for i in range(10)]


@pytest.mark.parametrize("spacing", [0, 0.001, 0.05])
def test_labels_of_ten_curves_do_not_overlap(spacing):
    """They stand at the ends of the curves, in their order, inside the figure; no legend."""
    curves = {name: np.linspace(1, 0.3 + spacing * i, 50)[None] for i, name in enumerate(NAMES)}
    figure = matplotlib.figure.Figure(figsize=(5.4, 3.4), layout="constrained")
    ax = plots.cost_bands(curves, ax=figure.subplots())
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 10
    assert not overlaps(boxes)
    assert len({text.get_text() for text in ax.texts}) == 10
    assert all(box.x0 > ax.bbox.x1 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert all(box.y0 >= 0 and box.y1 <= figure.bbox.y1 for box in boxes)
    if spacing:
        assert [box.y0 for box in boxes] == sorted(box.y0 for box in boxes)
    assert ax.get_legend() is None


def test_spread_is_the_nearest():
    """Compared with SciPy's solver for the same quadratic programme."""
    optimize = pytest.importorskip("scipy.optimize")
    wanted, gap = np.array([0.3, 0.32, 0.9, 0.33, 0.99, 0.0]), 0.12
    order = np.argsort(wanted)
    found = optimize.minimize(
        lambda places: ((places - wanted[order]) ** 2).sum(),
        np.arange(6) * gap,
        bounds=[(0, 1)] * 6,
        constraints={"type": "ineq", "fun": lambda places: np.diff(places) - gap},
    )
    assert_allclose(plots.spread(wanted, gap)[order], found.x, atol=1e-6)


def test_dots_are_all_runs():
    values = {
        "he": np.array([0.5, 0.6, 0.6, 0.7]),
        "random": np.array([0.5, 0.9, np.inf, np.nan]),
        "lost": np.array([np.inf]),
    }
    _, ax = plt.subplots()
    assert plots.outcomes(values, label="final cost (nats)", ax=ax) is ax
    assert sum(len(each.get_offsets()) for each in ax.collections) == 9
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(values)
    assert [text.get_text() for text in ax.texts] == ["0.6", "∞ ✕2/4", "∞ ✕1/1"]
    assert ax.get_xlabel() == "final cost (nats)"
    assert ax.get_xscale() == "linear"
    low, high = ax.get_xlim()
    places = np.concatenate([each.get_offsets() for each in ax.collections])
    assert ((low <= places[:, 0]) & (places[:, 0] <= high)).all()
    assert (np.abs(places[:, 1] - places[:, 1].round()) < 0.5).all(), "each in its own row"
    assert len(np.unique(places, axis=0)) == 9, "equal values lie side by side"
    assert ax.get_legend() is None


def test_dots_of_thousands_of_runs_keep_their_shape():
    values = np.random.default_rng(0).lognormal(size=100_000)
    ax = plots.outcomes({"he": values})
    dots = np.asarray(ax.collections[0].get_offsets())[:, 0]
    assert len(dots) <= 300
    assert_allclose(
        np.quantile(dots, [0.25, 0.5, 0.75]), np.quantile(values, [0.25, 0.5, 0.75]), rtol=0.05
    )


def test_one_wild_row_does_not_press_the_others():
    rng = np.random.default_rng(0)
    values = {f"s{i}": rng.uniform(0.1, 0.5, 30) for i in range(5)} | {"wild": np.full(30, 1e6)}
    ax = plots.outcomes(values)
    assert ax.get_xlim()[1] < 5
    scores = {name: 1 - each for name, each in values.items()}
    ax = plots.outcomes(scores, higher_is_better=True, ax=plt.figure().gca())
    assert ax.get_xlim()[0] > -1


def test_a_median_beyond_the_axis_has_no_bar():
    rng = np.random.default_rng(0)
    values = {f"s{i}": rng.uniform(0.1, 0.5, 30) for i in range(5)} | {"wild": np.full(30, 1e6)}
    ax = plots.outcomes(values)
    bars = [line.get_xdata()[0] for line in ax.lines if np.ptp(line.get_ydata()) > 0]
    assert_allclose(bars, [np.median(each) for each in list(values.values())[:5]])
    assert ax.texts[-1].get_text() == "1e+06"


def test_dots_over_decades():
    ax = plots.outcomes({"he": np.logspace(-7, 3, 111)})
    assert ax.get_xscale() == "log"
    assert sum(len(each.get_offsets()) for each in ax.collections) == 111


def test_heat_map():
    values = np.array([[1e-4, 0.5, 2], [0.1, np.nan, np.inf]])
    _, ax = plt.subplots()
    names = {"row_label": "hidden layers", "column_label": "scale", "label": "final cost"}
    assert plots.heat_map([2, 8], [0.5, 1, 2], values, ax=ax, **names) is ax
    assert [text.get_text() for text in ax.texts] == ["0.0001", "0.5", "2", "0.1", "nan", "inf"]
    assert len(ax.patches) == 2, "what is not finite is hatched"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0.5", "1", "2"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["2", "8"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("hidden layers", "scale")
    assert ax.figure.axes[1].get_ylabel() == "final cost"
    with pytest.raises(ValueError, match=r"values: expected shape \(2, 3\) to match .*\(3, 2\)"):
        plots.heat_map([2, 8], [0.5, 1, 2], values.T, **names)


@pytest.mark.parametrize("values", [np.full((1, 2), np.inf), np.zeros((1, 2)), -np.ones((1, 2))])
def test_heat_map_of_one_value(values):
    ax = plots.heat_map(["a"], ["b", "c"], values, row_label="x", column_label="y", label="z")
    ax.figure.canvas.draw()
    assert len(ax.texts) == 2


def test_heat_map_numbers_are_legible():
    """The WCAG 2 contrast between a number and its cell is at least 4.5."""
    values = np.linspace(0, 1, 50).reshape(5, 10)
    ax = plots.heat_map(range(5), range(10), values, row_label="", column_label="", label="")
    image = ax.images[0]
    for text, value in zip(ax.texts, values.flat, strict=True):
        assert contrast(text.get_color(), image.cmap(image.norm(value))) >= 4.5


def test_boundaries_side_by_side(comparison):
    axes = plots.boundaries(comparison.runs, comparison.X, comparison.Y)
    assert len(axes) == 2
    assert [ax.get_title() for ax in axes] == [
        "zeros: 50%",
        f"lesson.he: {comparison.runs['lesson.he'].train_accuracy:.0%}",
    ]
    fresh = [plt.figure().gca() for _ in comparison.runs]
    assert plots.boundaries(comparison.runs, comparison.X, comparison.Y, axes=fresh) == fresh
    with pytest.raises(ValueError, match="axes: expected one for each of 2 runs; got 1"):
        plots.boundaries(comparison.runs, comparison.X, comparison.Y, axes=fresh[:1])


def test_wrong_arguments(comparison):
    """Refused before a figure is created."""
    X, Y, three = comparison.X, comparison.Y, np.ones((3, 300))
    run = comparison.runs["zeros"]
    plane = r"X: expected shape \(2, n_examples\); got \(3, 300\)"
    for call in (
        lambda: plots.boundaries(comparison.runs, three, Y),
        lambda: plots.examples(three, Y),
        lambda: plots.decision_boundary(lambda points: points[:, 0] > 0, three, Y),
    ):
        with pytest.raises(ValueError, match=plane):
            call()
    with pytest.raises(ValueError, match="Y: expected one label for each of 300 examples; got 299"):
        plots.examples(X, Y[:, 1:])
    for net in (fi.Network([3, 2, 1]), fi.Network([2, 2, 1], output="identity")):
        data = np.ones((net.sizes[0], 4))
        wide = fi.train(net, net.initialize("zeros"), data, np.ones((1, 4)), iterations=1)
        with pytest.raises(ValueError, match=r"runs\['wide'\]: expected a network of two features"):
            plots.boundaries({"wide": wide}, data, np.ones((1, 4)))
        other = fi.compare(data, np.ones((1, 4)), net, "zeros", iterations=1)
        with pytest.raises(ValueError, match="network of zeros: expected a network of two feature"):
            plots.boundary_of(other, "zeros")
    with pytest.raises(TypeError, match="runs: expected a mapping of names to Run or Trial; got T"):
        plots.boundaries(run, X, Y)
    with pytest.raises(TypeError, match=r"runs\['zeros'\]: expected a Run or Trial; got ndarray"):
        plots.boundaries({"zeros": run.theta}, X, Y)
    for call in (
        lambda: plots.costs(run),
        lambda: plots.boundary_of(run, "zeros"),
        lambda: plots.figures(run),
        lambda: plots.images(run),
        lambda: plots.medians_by(run, "depth"),
    ):
        with pytest.raises(TypeError, match="comparison: expected a Comparison; got Trial"):
            call()
    assert not plt.get_fignums()


# --- layer by layer ---------------------------------------------------------------------------


@pytest.fixture
def measured(circles):
    net = fi.Network([2, 30, 30, 30, 1])

    def stack(scheme):
        thetas = np.stack([net.initialize(scheme, seed=seed) for seed in range(5)])
        return fi.propagation.measure_stack(net, thetas, *circles[:2])

    return {scheme: stack(scheme) for scheme in ("glorot_normal", "he_normal", "zeros")}


def test_profiles_of_one_network(measured):
    _, ax = plt.subplots()
    one = measured["he_normal"][0]
    assert plots.profiles(one, ax=ax) is ax
    markers, theory = ax.lines
    assert_array_equal(markers.get_xdata(), [1, 2, 3, 4])
    assert_array_equal(markers.get_ydata(), one.z.rms)
    assert_array_equal(theory.get_ydata(), one.theory.z_rms)
    assert (ax.get_xlabel(), ax.get_yscale()) == ("layer", "log")


def test_profiles_of_stacks(measured):
    _, ax = plt.subplots()
    plots.profiles(measured, quantity="gradient", ax=ax)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[:2] == ["glorot_normal", "he_normal"]
    assert labels[2:] == ["zeros (zero in 3 of 4 layers)", "mean-field theory"]
    sizes = np.array([each.dz.rms for each in measured["glorot_normal"]])
    assert_allclose(ax.containers[0].lines[0].get_ydata(), np.median(sizes, axis=0))
    bars = np.array(ax.containers[0].lines[2][0].get_segments())[:, :, 1]
    assert_allclose(bars, np.quantile(sizes, [0.25, 0.75], axis=0).T)


@pytest.mark.parametrize("quantity", ["update", "rank", "dead units", "saturation"])
def test_profiles_without_theory(measured, quantity):
    _, ax = plt.subplots()
    plots.profiles(measured, quantity=quantity, ax=ax)
    ax.figure.canvas.draw()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [label.split()[0] for label in labels] == list(measured)
    assert ax.get_ylabel()


def test_profiles_say_what_a_logarithm_cannot_show(measured):
    ax = plots.profiles(measured, quantity="signal")
    ax.figure.canvas.draw()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [
        "glorot_normal",
        "he_normal",
        "zeros (zero in 4 of 4 layers)",
        "mean-field theory",
    ]


def test_profiles_refuse(measured):
    with pytest.raises(
        ValueError, match=r"quantity: expected one of signal, gradient, .*; got 'a'"
    ):
        plots.profiles(measured, quantity="a")


# --- accessibility ----------------------------------------------------------------------------


def contrast(first, second):
    """Return the WCAG 2 contrast ratio of two colours."""
    light, dark = sorted(
        (plots._luminance(matplotlib.colors.to_rgb(color)) for color in (first, second)),
        reverse=True,
    )
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_wcag():
    """The published extremes, and the lightest grey that passes on white."""
    assert contrast("white", "black") == pytest.approx(21)
    assert contrast("red", "red") == 1
    assert contrast("#767676", "white") == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_curves_are_seen_on_light_and_dark(style, curves):
    with plt.style.context(style):
        _, ax = plt.subplots()
        plots.cost_bands({str(k): curves["he"] for k in range(7)}, ax=ax)
        ground = ax.get_facecolor()
        for line in medians(ax):
            assert contrast(line.get_color(), ground) >= 3
        assert contrast(medians(ax)[6].get_color(), ground) == pytest.approx(21)
        assert ax.xaxis.label.get_color() == plt.rcParams["axes.labelcolor"]


@pytest.mark.parametrize(
    ("style", "lightness"), [("default", (0.5, 1)), ("dark_background", (0, 0.1))]
)
def test_regions_follow_the_ground(style, lightness, circles):
    with plt.style.context(style):
        figure, ax = plt.subplots()
        plots.decision_boundary(lambda p: p[:, 0] > 0, *circles[:2], ax=ax)
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255
        x, y = ax.transData.transform([[-1.2, 1.2], [1.2, 1.2]]).astype(int).T
        left, right = pixels[pixels.shape[0] - y, x]
        assert tuple(left) != tuple(right)
        for region in (left, right):
            assert lightness[0] < plots._luminance(region) < lightness[1]


def test_curves_are_told_apart(curves):
    _, ax = plt.subplots()
    plots.cost_bands({str(k): curves["he"] for k in range(20)}, ax=ax)
    lines = medians(ax)
    assert len({line.get_linestyle() for line in lines[:4]}) == 4, "without colour"
    assert len({(line.get_linestyle(), line.get_color()) for line in lines}) == 20


# --- grids --------------------------------------------------------------------------------------


@pytest.fixture
def grid(balanced):
    return fi.compare(
        *balanced, fi.Network([2, 3, 1]), ["lesson.he", "zeros"], seed=range(3),
        learning_rate=[0.1, 1e200], width=[2, 4], iterations=30,
    )  # fmt: skip


def test_figures_of_a_grid(grid):
    figures = plots.figures(grid)
    assert list(figures) == ["data", "costs", "outcomes", "width", "boundaries"]
    panels = figures["costs"].axes
    assert [ax.get_title() for ax in panels] == ["learning rate 0.1", "learning rate 1e+200"]
    for ax in panels:
        assert [line.get_label() for line in medians(ax)] == ["lesson.he", "zeros"]
        assert all(len(line.get_xdata()) == 30 for line in medians(ax))
        assert ax.get_ylabel() == "cost: median and quartiles of 6 runs"
    cells = [text.get_text() for text in plots.medians_by(grid, "learning_rate").texts]
    rows = sorted(grid.summary("learning_rate"), key=lambda row: row["scheme"])
    assert cells == [f"{row['median cost']:.2g}" for row in rows]
    by_width = plots.figures(grid, by="width")["costs"].axes
    assert [ax.get_title() for ax in by_width] == ["width 2", "width 4"]
    both = plots.figures(grid, by=["width", "learning_rate"])["costs"].axes
    assert len(both) == 4
    for by, message in (("a", "by: expected one of seed"), (["seed", "depth", "width"], "at most")):
        with pytest.raises(ValueError, match=message):
            plots.figures(grid, by=by)


def test_panels_are_those_of_what_matters_most():
    def final(cells):
        depths = np.array(cells.values["depth"])[cells.code("depth")]
        return 0.1 * depths * np.where(cells.code("activation"), 1.01, 1)

    comparison = synthetic(
        ["he_normal", "zeros"], seed=range(3), depth=[1, 2, 4], width=4,
        activation=["relu", "tanh"], final=final,
    )  # fmt: skip
    assert plots.facet_axes(comparison) == ["depth"]
    assert plots.facet_axes(comparison, "activation") == ["activation"]
    figures = plots.figures(comparison)
    assert [ax.get_title() for ax in figures["costs"].axes] == ["depth 1", "depth 2", "depth 4"]
    assert "activation" in figures, "a heat map of what has no panels"
    assert "depth" in figures, "and the cost against an axis of numbers"


def test_titles_of_panels_follow_the_axes_given():
    comparison = synthetic(
        ["he_normal", "zeros"], learning_rate=[0.1, 0.01, 0.001], optimizer=["sgd", "adam"]
    )
    for by in (["optimizer", "learning_rate"], ["learning_rate", "optimizer"]):
        assert plots.facet_axes(comparison, by) == by
        axes = plots.figures(comparison, by=by)["costs"].axes
        titles = [ax.get_title().split(", ") for ax in axes]
        assert len(titles) == 6
        assert all((title[0] in ("sgd", "adam")) == (by[0] == "optimizer") for title in titles)


def test_costs_against_an_axis_are_those_of_one_optimizer():
    """Each panel has the medians of its own runs, and shows them."""

    def final(cells):
        return 0.1 * np.where(cells.code("optimizer") == 1, 1000.0, 1) * (1 + cells.code("depth"))

    comparison = synthetic(
        ["he_normal", "zeros"], seed=range(3), learning_rate=[0.001, 0.003, 0.01],
        optimizer=["sgd", "adam"], depth=[1, 2], width=4, final=final,
    )  # fmt: skip
    picture = plots.pictures(comparison, by="learning_rate")["learning_rate"]
    assert [title for title, _ in picture.panels] == ["sgd", "adam"]
    assert "Medians are over all values of seed (3 values), depth (2 values)." in picture.caption
    axes = picture.figure().axes
    for ax, cost in zip(axes, (0.15, 150.0), strict=True):
        for line in medians(ax):
            assert_allclose(line.values, cost)
        assert ax.get_ylim()[0] < cost < ax.get_ylim()[1]
    assert "Each panel has an axis of its own." in picture.caption
    both = plots.pictures(comparison, by=["depth", "learning_rate"])["learning_rate"]
    assert [title for title, _ in both.panels] == [
        "sgd, depth 1", "sgd, depth 2", "adam, depth 1", "adam, depth 2"
    ]  # fmt: skip


def drawn_ticks(axis):
    """The labels of an axis, with their boxes."""
    texts = [tick for tick in axis.get_ticklabels(which="both") if tick.get_text()]
    low, high = sorted(axis.get_view_interval())
    return [tick for tick in texts if low <= tick.get_position()[axis.axis_name == "y"] <= high]


def assert_apart(ax, least=2):
    for axis in (ax.xaxis, ax.yaxis):
        labels = drawn_ticks(axis)
        boxes = [label.get_window_extent() for label in labels]
        assert not overlaps(boxes), [label.get_text() for label in labels]
        assert len({label.get_text() for label in labels}) == len(labels) >= least


@pytest.mark.parametrize("width", [3.2, 4.4, 8.0])
@pytest.mark.parametrize(
    "limits",
    [
        (1e-14, 1), (1e-150, 1e150), (1e-5, 3e-3), (0.2, 30), (0.012, 0.019), (0.1, 0.9),
        (123456, 123789), (1e-3, 1e-1), (-4e5, 9e5), (0.2, 0.5),
    ],
)  # fmt: skip
@pytest.mark.parametrize("log", [False, True])
def test_ticks_do_not_overlap(width, limits, log):
    if log and limits[0] <= 0:
        pytest.skip("a logarithm needs positive values")
    figure = matplotlib.figure.Figure(figsize=(width, 3.0), layout="constrained")
    ax = figure.subplots()
    for axis in ("x", "y"):
        plots._Rim(*limits, log).set(ax, axis)
    ax.text(1.02, 0.5, "he_normal", transform=ax.transAxes)
    figure.draw_without_rendering()
    assert_apart(ax)


@pytest.mark.parametrize(
    ("rates", "shown"),
    [
        ([0.001, 0.003, 0.01, 0.03, 0.1], ["0.001", "0.003", "0.01", "0.03", "0.1"]),
        ([0.1, 0.2, 0.3], ["0.1", "0.2", "0.3"]),
        ([0.01, 0.0101, 0.0102, 0.1], None),
        ([0.01 * 10 ** (i / 11 + 1e-9) for i in range(12)], None),
        ([1e-12, 1e-9, 1e-4, 1.0], ["1e-12", "1e-09", "0.0001", "1"]),
    ],
)
def test_ticks_of_values_do_not_overlap(rates, shown):
    comparison = synthetic(["he_normal", "zeros"], seed=range(2), learning_rate=rates)
    picture = plots.pictures(comparison, by="seed")["learning_rate"]
    figure = matplotlib.figure.Figure(figsize=(4.4, 3.0), layout="constrained")
    ax = figure.subplots()
    picture.panels[0][1](ax)
    figure.draw_without_rendering()
    assert_apart(ax)
    assert ax.get_xscale() == ("log" if max(rates) >= 9.99 * min(rates) else "linear")
    if shown:
        assert [tick.get_text() for tick in drawn_ticks(ax.xaxis)] == shown


def test_names_below_a_heat_map_do_not_overlap():
    names = [f"Adam(beta1=0.{i})" for i in range(8)]
    labels = {"row_label": "", "column_label": "optimizer", "label": "cost"}
    figure = matplotlib.figure.Figure(figsize=(5.4, 3.0), layout="constrained")
    ax = plots.heat_map(["he"], names, np.ones((1, 8)), **labels, ax=figure.subplots())
    figure.draw_without_rendering()
    assert_apart(ax, least=1)


def test_panels_share_their_axes():
    comparison = synthetic(["he_normal", "zeros"], seed=range(3), depth=[1, 2], width=4)
    for name in ("costs", "outcomes", "scores"):
        axes = plots.figures(comparison, by="depth")[name].axes
        assert len({(ax.get_ylim(), ax.get_xlim()) for ax in axes}) == 1


def test_batch_sizes_have_panels(circles):
    """Their points differ."""
    comparison = fi.compare(
        *circles[:2], fi.Network([2, 3, 1]), ["he_normal"], seed=[0, 1], batch_size=[100, None],
        epochs=5,
    )  # fmt: skip
    axes = plots.figures(comparison)["costs"].axes
    assert [ax.get_title() for ax in axes] == ["batches of 100", "full batches"]
    for ax in axes:
        assert ax.get_xlabel() == "epoch"
        assert_array_equal(medians(ax)[0].get_xdata(), [1, 2, 3, 4, 5])


def test_runs_that_stop_early_keep_their_cost(circles):
    comparison = fi.compare(
        *circles[:2], fi.Network([2, 3, 1]), ["zeros"], seed=[0, 1, 2], iterations=400, tol=1e-3,
        n_iter_no_change=5,
    )  # fmt: skip
    assert (comparison.columns()["iterations"] < 400).all()
    ax = plots.costs(comparison)
    assert_allclose(medians(ax)[0].values, np.log(2), rtol=1e-6)
    assert ax.texts[0].get_text() == "zeros"


def test_an_axis_of_many_values():
    """The median of neighbouring values; every run is in one group."""
    comparison = synthetic(
        ["he_normal", "zeros"], scale=list(np.geomspace(0.01, 100, 120)), seed=range(2)
    )
    ax = plots.figures(comparison)["scale"].axes[0]
    assert ax.get_xscale() == "log"
    assert all(len(line.get_xdata()) == plots.MOST_VALUES for line in medians(ax))
    with pytest.raises(ValueError, match="axis: expected one of numbers; got 'optimizer'"):
        plots.cost_against(comparison, "optimizer")


def test_diverged_runs_are_counted():
    def final(cells):
        costs = np.full(len(cells), 0.1)
        costs[cells.code("scheme") == 1] = np.where(np.arange(20) < 5, np.nan, 0.2)
        return costs

    comparison = synthetic(["he_normal", "normal"], seed=range(20), final=final)
    figures = plots.figures(comparison)
    assert [text.get_text() for text in figures["costs"].axes[0].texts] == [
        "he_normal",
        "normal ✕5/20",
    ]
    assert [text.get_text() for text in figures["outcomes"].axes[0].texts] == [
        "0.1",
        "0.2 ✕5/20",
    ]


@pytest.mark.parametrize("label", ["$x^$", "_hidden", "日本語", "<script>", "a" * 500, "a\nb"])
def test_labels_are_the_users(label):
    """They are no formulas, and are shortened."""
    comparison = synthetic({label: "zeros", "he": "he_normal"}, seed=range(3))
    assert all(each.startswith(b"\x89PNG") for each in plots.images(comparison).values())
    for figure in plots.figures(comparison).values():
        for ax in figure.axes:
            assert all(len(text.get_text()) < 40 for text in ax.texts)


def test_boundary_is_that_of_the_typical_run(grid):
    typical = grid.median_trial("lesson.he")
    assert f"train {typical.train_accuracy:.1%}" in plots.boundary_of(grid, "lesson.he").get_title()


@pytest.mark.parametrize("keywords", [{"iterations": 0}, {"learning_rate": 1e200}, {"depth": [0]}])
def test_figures_of_odd_grids(circles, keywords):
    """Figures exist if nothing was trained, all runs diverged, or there are no hidden layers."""
    net = fi.Network([2, 3, 1])
    arguments = {"seed": range(2), "iterations": 40} | keywords
    grid = fi.compare(*circles[:2], net, ["he_normal", "normal"], **arguments)
    for image in plots.images(grid).values():
        assert image.startswith(b"\x89PNG")


def test_figures_of_other_outputs():
    X = np.random.default_rng(0).standard_normal((2, 30))
    softmax = fi.Network([2, 4, 3], output="softmax")
    labels = np.arange(30) % 3
    several = fi.compare(X, labels, softmax, ["lesson.he"], seed=[0, 1], iterations=5)
    assert list(plots.figures(several)) == ["data", "costs", "outcomes", "boundaries"]
    regression = fi.Network([2, 4, 1], output="identity")
    numbers = fi.compare(
        X, X[:1], regression, ["lesson.he"], seed=[0, 1], iterations=5, test=(X, X[:1])
    )
    figures = plots.figures(numbers)
    assert list(figures) == ["costs", "outcomes", "scores"]
    assert figures["scores"].axes[0].get_xlabel() == "test R2"


def test_dark_images_are_dark(comparison):
    light = plots.images(comparison)
    with plt.style.context("dark_background"):
        dark = plots.images(comparison)
    assert list(light) == list(dark) == ["data", "costs", "scores", "boundaries"]
    for name in light:
        corners = [plt.imread(io.BytesIO(each[name]))[0, 0, :3].mean() for each in (light, dark)]
        assert corners == [1, 0]


def test_no_data():
    """A comparison that was read from a store has no data."""
    comparison = synthetic(["zeros", "he_normal"], seed=range(3), with_data=False)
    assert list(plots.figures(comparison)) == ["costs", "outcomes", "scores"]
