import csv
import itertools
import re
from time import perf_counter

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastinit as fi
from fastinit.comparison import runner, statistics, trials
from fastinit.comparison.store import Store
from fastinit.training import loop


def test_every_scheme_starts_alike(net, circles):
    """The results do not depend on the order of the schemes; the global state is unchanged."""
    X, Y, _, _ = circles
    before = np.random.get_state()
    first = fi.compare(X, Y, net, ["lesson.random", "lesson.he", "zeros"], iterations=20)
    second = fi.compare(X, Y, net, ["zeros", "lesson.random", "lesson.he"], iterations=20)
    after = np.random.get_state()
    assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    for scheme in ("zeros", "lesson.random", "lesson.he"):
        assert_array_equal(first.starts[scheme], second.starts[scheme])
        assert_array_equal(first.runs[scheme].costs, second.runs[scheme].costs)
    assert_array_equal(first.starts["lesson.he"], net.initialize("lesson.he", seed=3))
    assert_array_equal(first.starts["lesson.random"], net.initialize("lesson.random"))
    assert_array_equal(first.runs["zeros"].theta[:20], np.zeros(20))


def test_seed_is_that_of_every_scheme(net, circles):
    X, Y, _, _ = circles
    result = fi.compare(
        X, Y, net, ["lesson.he", "lesson.random", "he_normal"], seed=8, iterations=1
    )
    for scheme in result.runs:
        assert_array_equal(result.starts[scheme], net.initialize(scheme, seed=8))


def test_table(net, circles):
    X, Y, X_test, Y_test = circles
    result = fi.compare(X, Y, net, ["zeros", "lesson.he"], test=(X_test, Y_test), iterations=50)
    table = result.table()
    assert table.columns == ["scheme", "train accuracy", "test accuracy", "final cost", "verdict"]
    assert len(table) == 2
    assert table[1]["train accuracy"] == net.accuracy(result.runs["lesson.he"].theta, X, Y)
    assert table[1]["test accuracy"] == net.accuracy(result.runs["lesson.he"].theta, X_test, Y_test)
    lines = repr(table).splitlines()
    assert len(lines) == 4
    assert lines[0].split()[0] == "scheme"
    assert repr(result) == repr(table)
    page = result._repr_html_()
    assert page.count("<tr>") == 3
    assert '<th scope="col">train accuracy</th>' in page


def test_without_test_data(net, circles):
    table = fi.compare(*circles[:2], net, ["lesson.he"], iterations=1).table()
    assert table[0]["test accuracy"] is None


def test_table_escapes():
    table = fi.Table([{"<b>": "<script>"}])
    assert "<script>" not in table._repr_html_()
    assert "&lt;script&gt;" in table._repr_html_()
    assert repr(fi.Table([])) == "(no rows)"


@pytest.mark.parametrize(
    ("scheme", "keywords", "expected"),
    [
        ("zeros", {"iterations": 500}, "symmetry unbroken: the units of layers 1 and 2"),
        ("zeros", {"iterations": 500}, "; no better than always guessing one class; converged"),
        ("lesson.he", {"iterations": 0}, "not trained"),
        ("lesson.he", {"iterations": 9}, "; too short a run to tell whether it converged"),
        ("lesson.he", {"learning_rate": 1e200, "iterations": 50}, "diverged at iteration"),
        ("lesson.random", {"iterations": 100}, "% of outputs saturated at the start"),
        ("lesson.random", {"learning_rate": 0, "iterations": 20}, "; cost infinite at the end"),
        ("lesson.he", {"learning_rate": 0, "iterations": 20}, "; converged"),
        ("lesson.he", {"learning_rate": 0.1, "iterations": 500}, "; cost still falling, "),
    ],
)
def test_verdicts_follow_the_run(lesson_net, circles, scheme, keywords, expected):
    seed = 3 if scheme == "lesson.random" else None
    result = fi.compare(*circles[:2], lesson_net, [scheme], seed=seed, **keywords)
    assert expected in result.verdict(scheme)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([np.inf] * 20, "cost infinite at the end"),
        ([1.0] * 19 + [np.inf], "cost infinite at the end"),
        ([np.inf] * 19 + [1.0], "cost infinite during the last tenth"),
        ([1.0] * 18 + [np.inf, 1.0], "cost infinite during the last tenth"),
        ([np.inf] * 17 + [1.0] * 3, "converged"),
        ([1.0] * 18 + [np.nan, 1.0], "cost undefined (NaN) in the last tenth"),
        ([0.0] * 20, "converged"),
        ([0.0] * 18 + [2.0, 5.0], "cost still rising, by 5 in the last tenth"),
        ([0.0] * 18 + [-2.0, -5.0], "cost still falling, by 5 in the last tenth"),
        ([0.0] * 18 + [5.0, 0.0], "cost still oscillating, by 5 in the last tenth"),
        ([1.0] * 18 + [1.5, 1.0], "cost still oscillating, 50% in the last tenth"),
        ([1.0] * 18 + [1.001, 0.998], "converged"),
        ([-1.0] * 18 + [-1.5, -2.0], "cost still falling, 100% in the last tenth"),
        ([1.0] * 18 + [1.5, 2.0], "cost still rising, 100% in the last tenth"),
        ([1.0] * 18 + [0.7, 0.5], "cost still falling, 50% in the last tenth"),
    ],
)
def test_pace(costs, expected):
    assert statistics.pace_in_words(np.array(costs)) == expected


def test_callback_names_the_scheme(net, circles):
    seen = []
    fi.compare(
        *circles[:2], net, ["zeros", "lesson.he"], iterations=10,
        callback=lambda scheme, run: seen.append((scheme, run.iterations)),
    )  # fmt: skip
    assert [scheme for scheme, _ in seen if scheme == "zeros"]
    assert seen[-1] == ("lesson.he", 10)


@pytest.mark.parametrize(
    ("schemes", "error", "message"),
    [
        (3, TypeError, "schemes: expected a name or a sequence of names; got 3"),
        ([], ValueError, "schemes: expected at least one name; got none"),
        (
            ["lesson.he", "lesson.he"],
            ValueError,
            "schemes: expected each name once; got lesson.he, lesson.he",
        ),
        (["lesson.he", "xavier"], ValueError, "got 'xavier'"),
    ],
)
def test_bad_schemes(net, circles, schemes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        fi.compare(*circles[:2], net, schemes)


def test_bad_test_data(net, circles):
    X, Y, X_test, Y_test = circles
    with pytest.raises(
        ValueError, match=r"Y_test: expected shape \(100,\) or \(1, 100\) to match X_test"
    ):
        fi.compare(X, Y, net, ["lesson.he"], test=(X_test, Y_test[0, 1:]))
    with pytest.raises(ValueError, match=r"X_test: expected shape \(2, n_examples\)"):
        fi.compare(X, Y, net, ["lesson.he"], test=(X_test.T, Y_test))
    for bad, error, got in (
        (5, TypeError, "int"),
        (X_test, TypeError, "ndarray"),
        ("ab", TypeError, "str"),
        ((), ValueError, "0 entries"),
        ((X_test, Y_test, None), ValueError, "3 entries"),
    ):
        message = re.escape(f"test: expected a pair (X_test, Y_test); got {got}")
        with pytest.raises(error, match=f"^{message}$"):
            fi.compare(X, Y, net, ["lesson.he"], test=bad)
    with pytest.raises(TypeError, match="Y_test: expected real numbers; got dtype object"):
        fi.compare(X, Y, net, ["lesson.he"], test=(X_test, None))


def test_not_a_network(circles):
    with pytest.raises(TypeError, match="network: expected a Network; got list"):
        fi.compare(*circles[:2], [2, 1], ["lesson.he"])


@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState])
def test_generator_is_one_seed_for_all(net, circles, kind):
    """One 64-bit integer is drawn, which reproduces the runs."""
    generator, twin = kind(0), kind(0)
    schemes = ["he_normal", "lesson.he", "lesson.random"]
    result = fi.compare(*circles[:2], net, schemes, iterations=5, seed=generator)
    draw = getattr(twin, "integers", None) or twin.randint
    seed = int(draw(2**64, dtype=np.uint64))
    assert seed >= 2**32
    assert generator.bytes(8) == twin.bytes(8), "nothing else was drawn"
    assert {cell.seed for cell in result.cells} == {seed}
    assert result.settings["seed"] == seed
    again = fi.compare(*circles[:2], net, schemes, iterations=5, seed=seed)
    assert again.cells == result.cells
    for scheme in schemes:
        assert_array_equal(result.starts[scheme], net.initialize(scheme, seed=seed))
        assert_array_equal(result.runs[scheme].theta, again.runs[scheme].theta)
    # As every initialiser fills from such a generator.
    assert_array_equal(result.starts["he_normal"], net.initialize("he_normal", seed=kind(0)))


def test_seed_sequence_is_one_expression_in_the_tables(net, circles):
    seed = np.random.SeedSequence(5).spawn(2)[1]
    result = fi.compare(*circles[:2], net, ["he_normal"], iterations=1, seed=seed)
    [row] = result.records()
    assert row["seed"] == "np.random.SeedSequence(5, spawn_key=(1,))"
    assert_array_equal(net.initialize("he_normal", seed=seed), result.trials[0].start)


def test_without_biases(circles, tmp_path):
    net = fi.Network([2, 4, 3, 1], bias=False)
    result = fi.compare(
        *circles[:2], net, ["he_normal", "zeros"], width=[3, 4], iterations=30, store=tmp_path / "s"
    )
    assert all(not cell.network.bias for cell in result.cells)
    assert result.verdict("zeros").startswith("symmetry unbroken in all runs")
    for trial in result.trials:
        theta = trial.network.initialize(trial.cell.scheme, seed=0)
        fi.train(trial.network, theta, *circles[:2], learning_rate=0.01, iterations=30)
        assert_array_equal(trial.theta, theta)


# --- grids --------------------------------------------------------------------------------------


@pytest.fixture
def grid(net, circles):
    """A grid of three axes, of which some runs diverge."""
    X, Y, X_test, Y_test = circles
    return fi.compare(
        X,
        Y,
        fi.Network([2, 4, 1], loss="saturating_cross_entropy"),
        ["he_normal", "zeros"],
        test=(X_test, Y_test),
        seed=range(3),
        depth=[1, 2],
        learning_rate=[0.1, 1e200],
        iterations=1200,
        target_cost=0.69,
        target_accuracy=0.6,
    )


def test_grid_is_every_combination(grid):
    cells = {(t.cell.scheme, t.cell.seed, t.cell.depth, t.cell.learning_rate) for t in grid.trials}
    assert cells == set(itertools.product(["he_normal", "zeros"], range(3), [1, 2], [0.1, 1e200]))
    assert len(grid) == len(grid.cells) == 24
    assert {t.network.sizes for t in grid.trials} == {(2, 4, 1), (2, 4, 4, 1)}
    assert grid.varying == ["seed", "depth", "learning_rate"]


def test_each_run_of_a_grid_is_train(grid, circles):
    """Compared with train, from the start that Network.initialize returns."""
    X, Y, X_test, Y_test = circles
    for trial in grid.trials:
        cell, net = trial.cell, trial.network
        theta = net.initialize(cell.scheme, seed=cell.seed)
        assert_array_equal(trial.start, theta)
        run = fi.train(net, theta, X, Y, learning_rate=cell.learning_rate, iterations=1200)
        assert_array_equal(trial.theta, theta)
        assert_array_equal(trial.costs, run.costs[trial.points])
        assert trial.iterations == run.iterations
        assert trial.diverged_at == run.diverged_at
        assert trial.train_accuracy == net.accuracy(theta, X, Y)
        assert trial.test_accuracy == net.accuracy(theta, X_test, Y_test)
        reached = np.flatnonzero(run.costs <= 0.69)
        assert trial.iterations_to_cost == (reached[0] if len(reached) else None)


def test_curves_of_runs_that_diverged_early(net, circles, monkeypatch):
    """Training limits the number of NaN after a divergence: the curves have the same points."""
    monkeypatch.setattr(loop, "MOST_NAN", 100)
    result = fi.compare(
        *circles[:2], net, "he_normal", seed=range(2), learning_rate=[0.1, 1e200], iterations=1500
    )
    curves = result.curves()["he_normal"]
    assert curves.shape == (4, len(result.points))
    assert result.points[-1] == 1499
    for trial, costs in zip(result.trials, curves, strict=True):
        assert_array_equal(trial.points, result.points)
        made = result.points < (trial.diverged_at or 1500)
        assert_array_equal(np.isfinite(costs), made)
        assert np.isnan(trial.final_cost) == (trial.diverged_at is not None)
    assert {trial.diverged_at is None for trial in result.trials} == {True, False}


def test_final_cost_is_that_of_the_run(net, circles):
    [trial] = fi.compare(*circles[:2], net, "he_normal", seed=5, iterations=30).trials
    run = fi.train(net, trial.start.copy(), *circles[:2], learning_rate=0.01, iterations=30)
    assert trial.final_cost == run.final_cost


@pytest.mark.parametrize("iterations", [1004, 1007, 1010])
def test_targets_are_checked_at_the_end(circles, iterations):
    """Also when the number of iterations is not a multiple of the stride."""
    X, Y, _, _ = circles
    net, at_end = fi.Network([2, 4, 1]), 0
    for seed in range(13, 18):
        keywords = {"seed": seed, "learning_rate": 0.1, "iterations": iterations}
        [first] = fi.compare(X, Y, net, "he_normal", **keywords).trials
        run = fi.train(net, first.start.copy(), X, Y, learning_rate=0.1, iterations=iterations)
        targets = {"target_cost": first.final_cost, "target_accuracy": first.train_accuracy}
        [trial] = fi.compare(X, Y, net, "he_normal", **keywords, **targets).trials
        reached = np.flatnonzero(run.costs <= first.final_cost)
        assert trial.iterations_to_cost == (reached[0] if len(reached) else iterations)
        assert trial.iterations_to_accuracy is not None
        at_end += not len(reached)
    assert at_end


def test_iterations_to_accuracy_after_the_last_stride(circles):
    """A run whose accuracy is reached in the iterations after the last multiple of the stride."""
    X, Y, _, _ = circles
    net = fi.Network([2, 4, 1])
    theta = net.initialize("he_normal", seed=13)
    found = []
    for _ in range(1004):
        fi.train(net, theta, X, Y, learning_rate=0.1, iterations=1)
        found.append(net.accuracy(theta, X, Y))
    # The best accuracy so far at the end, and first reached after iteration 1000.
    n = next(
        n
        for n in range(1000, 0, -1)
        if n % trials.stride(n) and found[n - 1] > max(found[: n - n % trials.stride(n)])
    )
    result = fi.compare(
        X, Y, net, "he_normal", seed=13, learning_rate=0.1, iterations=n,
        target_accuracy=found[n - 1],
    )  # fmt: skip
    assert result.trials[0].train_accuracy == found[n - 1]
    assert result.trials[0].iterations_to_accuracy == n


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_changing_the_data_changes_no_run(circles, tmp_path, dtype):
    """Callbacks that write to the arrays given affect neither the runs nor the store."""
    net = fi.Network([2, 4, 1], dtype=dtype)
    given = [np.array(each, dtype) for each in circles]
    before = [each.copy() for each in given]
    keywords = {"seed": [0, 1, 2], "iterations": 200, "threads": 1}

    def spoil(*_):
        for each in given:
            each[:] = 0

    def compared(arrays, **more):
        return fi.compare(*arrays[:2], net, "he_normal", test=tuple(arrays[2:]), **keywords, **more)

    alone = compared(before)
    for name in ("callback", "progress"):
        for each, original in zip(given, before, strict=True):
            each[:] = original
        store = tmp_path / f"{name}.sqlite"
        spoilt = compared(given, store=store, **{name: spoil})
        assert not given[0].any()
        read = compared(before, store=store)
        for trials_ in zip(alone.trials, spoilt.trials, read.trials, strict=True):
            assert len({repr(trial.record() | {"seconds": 0}) for trial in trials_}) == 1
            for trial in trials_:
                assert_array_equal(trial.theta, trials_[0].theta)
        with pytest.raises(ValueError, match="read-only"):
            spoilt.X[:] = 0
    assert given[0].flags.writeable


def test_a_trial_prints_as_a_summary(net, circles):
    [trial] = fi.compare(*circles[:2], net, "lesson.he", iterations=20).trials
    lines = repr(trial).splitlines()
    assert lines[0] == "Trial"
    assert "  scheme       lesson.he" in lines
    assert "  iterations   20" in lines
    assert f"  verdict      {trial.verdict}" in lines
    assert "array" not in repr(trial)
    assert len(lines) == 10
    assert "<caption>Trial</caption>" in trial._repr_html_()


def test_iterations_to_accuracy(grid, circles):
    """The first multiple of the stride at which the accuracy is reached."""
    X, Y, _, _ = circles
    seen = set()
    for trial in grid.trials:
        net, theta, expected = trial.network, trial.start.copy(), None
        for done in range(0, trial.iterations + 1, 5):
            if net.accuracy(theta, X, Y) >= 0.6:
                expected = done
                break
            fi.train(net, theta, X, Y, learning_rate=trial.cell.learning_rate, iterations=5)
        assert trial.iterations_to_accuracy == expected
        seen.add(expected is None)
    assert seen == {True, False}


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_change_nothing(net, circles, threads):
    keywords = {"seed": range(4), "iterations": 300}
    first = fi.compare(
        *circles[:2], net, ["lesson.he", "lesson.random"], threads=threads, **keywords
    )
    second = fi.compare(*circles[:2], net, ["lesson.he", "lesson.random"], **keywords)
    for ours, theirs in zip(first.trials, second.trials, strict=True):
        assert ours.cell == theirs.cell
        assert_array_equal(ours.theta, theirs.theta)
        assert_array_equal(ours.costs, theirs.costs)


def test_summary_against_pandas(grid):
    pd = pytest.importorskip("pandas")
    frame = grid.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 24
    frame["final_cost"] = frame["final_cost"].fillna(np.inf)
    rows = grid.summary("depth", "learning_rate")
    assert len(rows) == 8
    for row in rows:
        mine = frame[
            (frame.scheme == row["scheme"])
            & (frame.depth == row["depth"])
            & (frame.learning_rate == row["learning rate"])
        ]
        assert row["runs"] == len(mine) == 3
        assert row["diverged"] == mine.diverged_at.notna().mean()
        assert row["converged"] == mine.converged.mean()
        assert row["train accuracy"] == mine.train_accuracy.median()
        if np.isfinite(mine.final_cost).all():
            expected = mine.final_cost.quantile([0.25, 0.5, 0.75]).tolist()
            assert [row["cost 25%"], row["median cost"], row["cost 75%"]] == pytest.approx(expected)
    diverged = [row for row in rows if row["learning rate"] == 1e200]
    assert any(row["median cost"] == np.inf for row in diverged)


@pytest.mark.parametrize("shares", [(0.25, 0.5, 0.75), (0, 0.1, 1)])
@pytest.mark.parametrize("k", [1, 2, 3, 10, 11])
def test_quantiles_are_those_of_numpy(k, shares):
    values = np.random.default_rng(k).standard_normal((k, 7))
    assert_allclose(
        statistics.quantiles(values, shares), np.quantile(values, shares, axis=0), rtol=1e-13
    )


def test_quantiles_keep_infinities():
    values = [1.0, 2.0, np.nan, np.inf]
    assert [statistics.quantile(values, share) for share in (0, 0.25, 0.5, 1)] == [
        1.0, 1.75, np.inf, np.inf,
    ]  # fmt: skip
    assert statistics.quantile([1.0, 2.0, np.inf], 0.5) == 2.0


def test_records_and_csv(grid, tmp_path):
    """Records are dicts without pandas, and the file contains every digit."""
    rows = list(grid)
    assert rows[0]["scheme"] == "he_normal"
    assert [rows[0][name] for name in ("seed", "depth", "width", "learning_rate")] == [0, 1, 4, 0.1]
    grid.to_csv(tmp_path / "runs.csv")
    with open(tmp_path / "runs.csv", encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == 24
    for written, row in zip(read, rows, strict=True):
        assert list(written) == list(row)
        assert float(written["final_cost"]) == pytest.approx(row["final_cost"], rel=0, nan_ok=True)
        assert written["diverged_at"] == (
            "" if row["diverged_at"] is None else str(row["diverged_at"])
        )


def test_grid_prints_its_summary(grid):
    assert repr(grid) == repr(grid.summary())
    assert grid.summary().columns == [
        "scheme", "runs", "train accuracy", "test accuracy", "cost 25%", "median cost", "cost 75%",
        "iterations to cost 0.69", "iterations to accuracy 0.6", "converged", "diverged",
    ]  # fmt: skip
    assert "diverged in 4 of 12 runs" in grid.verdict("he_normal")
    assert "; median final cost infinite, quartiles 0." in grid.verdict("he_normal")
    assert grid.verdict("zeros").startswith("symmetry unbroken in all runs")
    assert "; never better than always guessing one class; " in grid.verdict("zeros")
    with pytest.raises(
        ValueError, match="runs: expected one run for each scheme; got a grid of 24"
    ):
        grid.runs["he_normal"]
    with pytest.raises(ValueError, match="by: expected one of seed, depth"):
        grid.summary("colour")


def test_verdict_of_untrained_runs(net, circles):
    result = fi.compare(*circles[:2], net, ["lesson.he"], seed=range(3), iterations=0)
    assert result.verdict("lesson.he").endswith("; not trained")
    with pytest.raises(ValueError, match="scheme: expected one with finished runs; got 'zeros'"):
        result.verdict("zeros")


def test_typical_run_has_the_median_cost(grid):
    costs = sorted(
        np.inf if np.isnan(trial.final_cost) else trial.final_cost for trial in grid.of("zeros")
    )
    typical = grid.median_trial("zeros").final_cost
    assert (np.inf if np.isnan(typical) else typical) == costs[5]


@pytest.mark.parametrize(
    ("n", "step", "length"),
    [(0, 1, 0), (1, 1, 1), (500, 1, 500), (501, 2, 251), (502, 2, 252), (15_000, 50, 301),
     (400_000, 1000, 401)],
)  # fmt: skip
def test_kept_points(n, step, length):
    """At most 501 points, with the first, the last and every thousandth iteration."""
    points = trials.kept_points(n)
    assert trials.stride(n) == step
    assert len(points) == length <= trials.POINTS + 1
    assert set(range(0, n, 1000)) <= set(points.tolist())
    assert n == 0 or (points[0] == 0 and points[-1] == n - 1)


def test_axes_of_architecture(circles):
    net = fi.Network([2, 5, 5, 1], dtype="float32")
    X, Y, _, _ = circles
    by_depth = fi.compare(X, Y, net, ["zeros"], depth=[0, 3], iterations=1)
    assert [cell.network.sizes for cell in by_depth.cells] == [(2, 1), (2, 5, 5, 5, 1)]
    by_width = fi.compare(X, Y, net, ["zeros"], width=[7, 2], iterations=1)
    assert [cell.network.sizes for cell in by_width.cells] == [(2, 7, 7, 1), (2, 2, 2, 1)]
    mixed = fi.compare(X, Y, fi.Network([2, 3, 4, 1]), ["zeros"], width=6, iterations=1)
    assert [cell.network.sizes for cell in mixed.cells] == [(2, 6, 6, 1)]
    both = fi.compare(X, Y, net, ["zeros"], width=[7, 2], depth=[1, 2], iterations=1)
    assert len(both) == 4
    assert all(cell.network.dtype == np.float32 for cell in both.cells)
    assert [fi.Cell("zeros", 0, each, 0.1).width for each in (net, fi.Network([2, 3, 4, 1]))] == [
        5, None,
    ]  # fmt: skip


def test_settings_of_the_network_hold_for_the_grid(circles):
    net = fi.Network(
        [2, 3, 1], activation="leaky_relu", negative_slope=0.2, loss="saturating_cross_entropy"
    )
    result = fi.compare(
        *circles[:2],
        net,
        ["lesson.he"],
        activation=["leaky_relu", "tanh"],
        width=[3, 4],
        iterations=5,
    )
    assert [(row["activation"], row["width"]) for row in result.table()] == [
        ("leaky_relu", 3), ("tanh", 3), ("leaky_relu", 4), ("tanh", 4),
    ]  # fmt: skip
    assert result.cells[0].network == net
    assert all(cell.network.loss == net.loss for cell in result.cells)


@pytest.mark.parametrize(
    ("sizes", "keywords", "message"),
    [
        ([2, 1], {"width": 3}, "width: expected depth as well, because the network has no hidden"),
        ([2, 1], {"depth": 2}, "depth: expected width as well, because the network has no hidden"),
        ([2, 3, 4, 1], {"depth": 2}, "depth: expected width as well, because the hidden layers d"),
    ],
)
def test_width_and_depth_that_need_each_other(circles, sizes, keywords, message):
    with pytest.raises(ValueError, match=message):
        fi.compare(*circles[:2], fi.Network(sizes), ["zeros"], **keywords)


def test_networks_that_do_not_classify(tmp_path):
    """There are no accuracies in table, verdict and store, and no target for them."""
    X = np.random.default_rng(0).standard_normal((3, 40))
    net = fi.Network([3, 4, 1], output="identity")
    for _ in range(2):
        result = fi.compare(
            X, X[:1] * X[1:2], net, ["he_normal", "zeros"], seed=range(2), iterations=50,
            test=(X, X[:1]), store=tmp_path / "runs.sqlite",
        )  # fmt: skip
        assert all(row["train_accuracy"] is row["test_accuracy"] is None for row in result)
        assert [row["train accuracy"] for row in result.summary()] == [None, None]
        assert "guessing" not in result.verdict("zeros") + result.trials[0].verdict
    with pytest.raises(ValueError, match="target_accuracy: expected output sigmoid or softmax"):
        fi.compare(X, X[:1], net, ["zeros"], target_accuracy=0.5)


def test_guessing_of_several_classes():
    net = fi.Network([2, 3, 3], output="softmax")
    X = np.random.default_rng(0).standard_normal((2, 10))
    labels = np.array([0, 1, 2, 2, 2, 2, 1, 0, 0, 1])
    result = fi.compare(X, labels, net, ["zeros"], learning_rate=0, iterations=20)
    trial = result.trials[0]
    assert statistics.majority(net, result.Y) == 4
    assert trial.train_accuracy == 0.3, "the first class, at a tie"
    assert "; no better than always guessing one class; converged" in trial.verdict
    assert "saturated" not in trial.verdict


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("output", "n"), [("sigmoid", 1), ("sigmoid", 2), ("softmax", 3)])
def test_always_guessing_one_class_is_not_better(output, n, dtype):
    """The counts are compared: as floats, the shares of equal counts may differ."""
    net = fi.Network([2, 3, n], output=output, dtype=dtype)
    theta = net.initialize("zeros")
    net.unpack(theta)[f"b{net.n_layers}"][0] = -1 if output == "sigmoid" else 1
    for m in range(2, 60):
        for k in {1, 2, (m - 1) // 2} & set(range(1, (m + 1) // 2)):
            labels = np.zeros(m, dtype=int)
            labels[:k] = 1
            Y = labels if output == "softmax" else np.tile(labels, (n, 1))
            if output == "sigmoid":
                Y[1:] = 0
            Y = net.check_Y(Y, np.ones((2, m), dtype))
            guessed = net.accuracy(theta, np.ones((2, m), dtype), Y)
            right = round(guessed * (m if output == "softmax" else Y.size))
            assert right == statistics.majority(net, Y)
            assert statistics.better_than_guessing(net, Y, [guessed]) == [False]
            above = (right + 1) / (m if output == "softmax" else Y.size)
            assert statistics.better_than_guessing(net, Y, [above]) == [True]


def test_verdict_of_a_network_that_always_guesses_one_class():
    X = np.random.default_rng(0).standard_normal((2, 11))
    Y = np.zeros((1, 11))
    Y[0, :2] = 1
    result = fi.compare(X, Y, fi.Network([2, 3, 1]), "zeros", seed=[0, 1], iterations=50)
    assert "; no better than always guessing one class; " in result.trials[0].verdict
    assert "; never better than always guessing one class; " in result.verdict("zeros")


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"seed": []}, ValueError, "seed: expected at least one integer; got none"),
        ({"depth": []}, ValueError, "depth: expected at least one integer; got none"),
        ({"learning_rate": []}, ValueError, "learning_rate: expected at least one number"),
        ({"activation": []}, ValueError, "activation: expected at least one name; got none"),
        ({"seed": [1, 1]}, ValueError, "seed: expected each integer once; got 1, 1"),
        ({"width": [8, 8], "depth": [1]}, ValueError, "width: expected each integer once"),
        ({"learning_rate": [0.1, 0.1]}, ValueError, "learning_rate: expected each number once"),
        (
            {"width": [2, 3], "depth": [0]},
            ValueError,
            "width: expected one value for depth 0; got several",
        ),
        ({"seed": "5"}, TypeError, "seed: expected int, SeedSequence"),
        (
            {"seed": [0.5]},
            TypeError,
            "seed: expected an integer or a sequence of integers; got 0.5",
        ),
        ({"seed": [True]}, TypeError, "seed: expected an integer or a sequence of integers; got T"),
        (
            {"seed": [[1]]},
            TypeError,
            "seed: expected an integer or a sequence of integers; got [1]",
        ),
        ({"seed": 2**64}, ValueError, "seed: expected 0 <= seed < 2**64"),
        (
            {"learning_rate": 10**400},
            ValueError,
            "learning_rate: expected finite and >= 0; got inf",
        ),
        ({"seed": [-1]}, ValueError, "seed: expected 0 <= seed"),
        ({"learning_rate": [-1]}, ValueError, "learning_rate: expected finite and >= 0; got -1"),
        ({"depth": [-1], "width": [2]}, ValueError, "depth: expected at least 0; got -1"),
        ({"depth": [2]}, ValueError, "depth: expected width as well"),
        ({"width": [0]}, ValueError, "sizes: expected an integer from 1 to 2**31 - 1; got 0"),
        ({"activation": ["rleu"]}, ValueError, "got 'rleu'"),
        ({"activation": 3}, TypeError, "activation: expected a name or a sequence of names; got 3"),
        (
            {"iterations": -1},
            ValueError,
            "iterations: expected an integer from 0 to 2**48 - 1; got -1",
        ),
        ({"iterations": 1.5}, TypeError, "iterations: expected an integer; got float"),
        ({"threads": 0}, ValueError, "threads: expected an integer from 1 to "),
        ({"threads": "2"}, TypeError, "threads: expected an integer; got str"),
        ({"target_cost": np.inf}, ValueError, "target_cost: expected a finite number; got inf"),
        ({"target_cost": "low"}, TypeError, "target_cost: expected a number; got str"),
        ({"target_accuracy": 1.1}, ValueError, "target_accuracy: expected 0 < accuracy <= 1"),
        ({"callback": 5}, TypeError, "callback: expected a callable; got int"),
        ({"progress": 5}, TypeError, "progress: expected a bool or a callable; got int"),
        ({"progress": None}, TypeError, "progress: expected a bool or a callable; got NoneType"),
        ({"schemes": ["zeros", "dirac"]}, ValueError, "expected 3 to 5 axes"),
        (
            {"seed": range(10**12)},
            ValueError,
            "seed: expected a grid of at most 10,000,000 cells; got 1,000,000,000,000",
        ),
        (
            {"seed": range(10**30, 0, -(10**7)), "learning_rate": []},
            ValueError,
            f"seed: expected a grid of at most 10,000,000 cells; got {10**23:,}",
        ),
        (
            {"seed": range(10_000), "width": range(1, 1002)},
            ValueError,
            "seed: expected a grid of at most 10,000,000 cells; got 10,010,000",
        ),
    ],
)
def test_bad_grids(net, circles, tmp_path, keywords, error, message):
    """Bad arguments are refused before anything is trained or written."""
    seen = []
    arguments = {"schemes": "he_normal", "callback": lambda scheme, run: seen.append(scheme)}
    with pytest.raises(error, match=re.escape(message)):
        fi.compare(*circles[:2], net, store=tmp_path / "runs.sqlite", **arguments | keywords)
    assert not seen
    assert not list(tmp_path.iterdir())


def test_progress_is_called_for_every_run(net, circles):
    seen = []
    result = fi.compare(
        *circles[:2], net, ["lesson.he", "zeros"], seed=range(3), iterations=10,
        progress=lambda so_far: seen.append((len(so_far), len(so_far.summary()))),
    )  # fmt: skip
    assert len(seen) == 6
    assert seen[-1] == (6, 2)
    assert len(result) == 6


def test_callback_ends_a_run_and_no_other(net, circles, tmp_path):
    result = fi.compare(
        *circles[:2], net, ["lesson.he", "zeros"], seed=[0, 1], iterations=5000,
        store=tmp_path / "runs.sqlite", callback=lambda scheme, run: scheme == "lesson.he",
    )  # fmt: skip
    assert all(trial.iterations < 5000 for trial in result.of("lesson.he"))
    assert all(trial.iterations == 5000 for trial in result.of("zeros"))
    assert list(result.curves()) == ["zeros"]
    with Store(tmp_path / "runs.sqlite") as store:
        assert len(store) == 2


def test_interrupt_keeps_finished_runs(interrupt):
    finished, threads = interrupt("""
        import threading, time
        import fastinit as fi
        X, Y, _, _ = fi.lesson.load_dataset()
        net = fi.Network([2, 10, 5, 1])
        said = []
        def say(comparison):
            if not said:
                said.append(print("ready", flush=True))
        try:
            fi.compare(X, Y, net, ["lesson.he"], seed=range(10_000), iterations=2000, progress=say)
        except fi.Interrupted as stop:
            print(time.time())
            trials = stop.result.trials
            assert all(trial.iterations == 2000 for trial in trials)
            assert f"{len(trials)} of 10000 runs finished" in str(stop)
            assert f"{len(trials):,} of 10,000 runs finished" in repr(stop.result)
            print(len(trials))
            print(threading.active_count())
    """)
    assert int(finished) >= 1
    assert int(threads) == 1


def test_stacks_cover_the_grid(grid):
    """Stacks contain each cell once, cells of one network, and at most the requested number."""
    places = list(range(len(grid.cells)))
    for most in (0, 1, 5, 100):
        stacks = runner._stacks(grid, places, most)
        assert sorted(itertools.chain(*stacks)) == places
        assert all(len({grid.cells[p].network for p in stack}) == 1 for stack in stacks)
        assert max(map(len, stacks)) == max(1, min(most, 12))


def test_a_stack_of_long_trainings_has_one_cell(circles):
    """Long trainings are stacks of one cell, so that a killed process loses little."""
    X, Y, _, _ = circles
    result = fi.compare(X, Y, fi.Network([2, 4, 1]), ["zeros"], seed=range(40), iterations=0)
    result.iterations = 1_000_000
    assert runner._stacks(result, range(40), 10) == [[place] for place in range(40)]


def test_stacks_of_a_grid_are_its_runs_alone(circles):
    """Forty cells on one thread form stacks of ten; some runs diverge."""
    X, Y, X_test, Y_test = circles
    keywords = {
        "test": (X_test, Y_test), "seed": range(10), "iterations": 300, "threads": 1,
        "learning_rate": [0.1, 1e200], "target_cost": 0.5, "target_accuracy": 0.6,
    }  # fmt: skip
    net, schemes = fi.Network([2, 4, 3, 1]), ["zeros", "lesson.he"]
    stacked = fi.compare(X, Y, net, schemes, **keywords)
    alone = fi.compare(X, Y, net, schemes, callback=lambda scheme, run: None, **keywords)
    for ours, theirs in zip(stacked.trials, alone.trials, strict=True):
        # As text, because NaN is not equal to NaN.
        assert repr(ours.record() | {"seconds": 0}) == repr(theirs.record() | {"seconds": 0})
        for name in ("start", "theta", "points", "costs"):
            assert_array_equal(getattr(ours, name), getattr(theirs, name), strict=True)
    assert {trial.diverged_at is None for trial in stacked.trials} == {True, False}


def test_seconds_are_a_share_of_the_stack(net, circles):
    before = perf_counter()
    result = fi.compare(*circles[:2], net, ["lesson.he"], seed=range(40), iterations=500, threads=1)
    spent = perf_counter() - before
    assert 0 < sum(trial.seconds for trial in result.trials) < spent


def test_a_failing_csv_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "runs.csv"
    table = fi.Table([{"scheme": "zeros", "seed": 0}])
    table.to_csv(path)
    before = path.read_bytes()
    assert before == b"scheme,seed\r\nzeros,0\r\n"

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fi.Table([{"scheme": "he_normal"}]).to_csv(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["runs.csv"]


def test_compare_without_threads(few_threads, net, X, Y):
    settings = {"seed": range(6), "iterations": 20}
    expected = fi.compare(X, Y, net, ["he_normal"], **settings, threads=1)
    found = fi.compare(X, Y, net, ["he_normal"], **settings, threads=3)
    for ours, theirs in zip(found.trials, expected.trials, strict=True):
        assert_array_equal(ours.costs, theirs.costs)
