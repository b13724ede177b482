"""Selections of runs by the values of axes, and the numbers of the runs that are selected."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from synthetic import synthetic

import fastinit as fi


@pytest.fixture
def grid():
    return synthetic(
        ["zeros", "he_normal", "glorot_normal"], seed=range(4), depth=[0, 1, 2], width=5,
        optimizer=["sgd", "adam"], batch_size=[None, 10],
    )  # fmt: skip


def scattered(comparison, size):
    """The same comparison, its runs in blocks of few runs and in another order."""
    found = type(comparison)(
        comparison.data, comparison.cells, comparison.network, comparison.settings
    )
    parts = []
    for places, block in comparison._blocks:
        order = np.random.default_rng(0).permutation(len(places))
        parts += [(places, block, order[i : i + size]) for i in range(0, len(order), size)]
    for i in np.random.default_rng(1).permutation(len(parts)):
        places, block, rows = parts[i]
        found.add(places[rows], block.select(rows))
    return found


@pytest.mark.parametrize(
    "where",
    [
        {"depth": 2}, {"depth": 0, "width": None}, {"width": 5}, {"optimizer": "adam"},
        {"learning_rate": 0.001}, {"learning_rate": 0.01, "seed": 3}, {"scheme": "zeros"},
    ],
    ids=str,
)  # fmt: skip
def test_selections_are_those_of_the_records(grid, where):
    """Of a rate that was not given, the value is that of the optimiser."""
    rows = [
        i
        for i, row in enumerate(grid.records())
        if row["batch_size"] is None and all(row[name] == value for name, value in where.items())
    ]
    assert rows
    expected = [trial.costs for i, trial in enumerate(grid.trials) if i in rows]
    found = grid.curves(batch_size=None, **where)
    assert_array_equal(
        sorted(np.concatenate([*found.values()]).tolist()), sorted(map(np.ndarray.tolist, expected))
    )
    ranking = grid.ranking("final_cost", batch_size=None, **where)
    assert sum(row.runs for row in ranking.rows) == len(rows)


@pytest.mark.parametrize("method", ["curves", "points", "ranking"])
def test_bad_selections(grid, method):
    select = getattr(grid, method)
    with pytest.raises(ValueError, match="size: expected one of scheme, seed, depth, width"):
        select(size=3)
    with pytest.raises(ValueError, match=r"optimiser: expected .*did you mean optimizer\?"):
        select(optimiser="sgd")
    with pytest.raises(ValueError, match=r"depth: expected one of \[0, 1, 2\]; got 7"):
        select(depth=7)


def test_a_ranking_of_guesses_says_so(circles):
    """With zeros all predictions are equal; one scheme that learns is enough for a ranking."""
    X, Y, *test = circles
    net, rest = fi.Network([2, 8, 1]), {"seed": range(4), "iterations": 3000, "learning_rate": 0.1}
    caution = "No run is shown to be better than always guessing one class on test data."
    schemes = {"zeros": "zeros", "small": partial(fi.normal, std=1e-6)}
    guesses = fi.compare(X, Y, net, schemes, test=tuple(test), **rest)
    assert guesses.ranking().answer.endswith(caution)
    learned = fi.compare(X, Y, net, ["zeros", "he_normal"], test=tuple(test), **rest)
    assert "better than always guessing" in learned.verdict("he_normal")
    assert "shown" not in learned.ranking().answer
    assert learned.ranking(scheme="zeros").answer.endswith(caution)


def test_a_ranking_of_no_runs():
    """Each value exists, but no sampled cell has both."""
    grid = synthetic(["zeros"], depth=[1, 2], width=[3, 4], n_samples=2)
    [first, second] = grid.cells
    with pytest.raises(ValueError, match="ranking: expected at least one run with"):
        grid.ranking(depth=first.depth, width=second.width)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_curves_do_not_depend_on_the_blocks(grid, size):
    other = scattered(grid, size)
    for batch_size in (None, 10):
        ours, theirs = (each.curves(batch_size=batch_size) for each in (grid, other))
        assert list(ours) == list(theirs)
        for scheme in ours:
            assert_array_equal(ours[scheme], theirs[scheme])
    rows = np.flatnonzero(grid.cells.code("batch_size") == 0)[::-3]
    assert_array_equal(other.costs_of(rows), [grid.trials[int(i)].costs for i in rows])


def test_medians_of_many_blocks_are_those_of_few_runs(monkeypatch):
    """However small the blocks are, a median curve is not computed from more runs than it says."""
    plots = pytest.importorskip("fastinit.comparison.plots")
    monkeypatch.setattr(plots, "MOST_RUNS", 50)
    grid = scattered(synthetic(["zeros", "he_normal"], seed=range(400)), 1)
    read = []
    costs_of = type(grid).costs_of
    monkeypatch.setattr(
        type(grid), "costs_of", lambda self, rows: read.append(len(rows)) or costs_of(self, rows)
    )
    axes = plots.costs(grid, ax=plots.Figure().subplots())
    assert axes.get_ylabel().endswith("400 runs")
    assert read == [50, 50]


def test_a_figure_reads_a_limited_number_of_curves(monkeypatch):
    plots = pytest.importorskip("fastinit.comparison.plots")
    monkeypatch.setattr(plots, "MOST_CURVES", 900)
    grid = synthetic(["zeros", "he_normal", "lecun_normal"], seed=range(400), depth=[1, 2])
    read, costs_of = [], type(grid).costs_of
    monkeypatch.setattr(
        type(grid), "costs_of", lambda self, rows: read.append(len(rows)) or costs_of(self, rows)
    )
    picture = plots.pictures(grid)["costs"]
    assert "at most 150 evenly spaced runs are used" in picture.caption
    assert sum(read) <= 900
    assert min(read) > 100


def test_two_axes_have_panels_if_these_are_few(monkeypatch):
    plots = pytest.importorskip("fastinit.comparison.plots")
    grid = synthetic(["zeros", "he_normal"], seed=range(3), depth=[1, 2, 3], width=[3, 4, 5])
    effects = {"depth": 2.0, "width": 1.0}
    monkeypatch.setattr(plots, "_effects", lambda comparison: effects)
    assert plots.facet_axes(grid) == ["depth", "width"]
    monkeypatch.setattr(plots, "MOST_PANELS", 8)
    assert plots.facet_axes(grid) == ["depth"]
    assert plots.facet_axes(grid, ["width", "depth"]) == ["width", "depth"]


def rates_matter(grid):
    """ "zeros" is insensitive to the rate; "he_normal" is better than it at the rate 0.1 only."""
    rate = np.array(grid.labels("learning_rate"), float)[grid.code("learning_rate")]
    noise = 1 + 0.001 * np.random.default_rng(0).uniform(size=len(grid))
    cost = np.where(rate == 0.1, 0.1, np.where(rate == 1.0, np.nan, 0.9))
    return np.where(grid.code("scheme") == 0, 0.3 + 0.1 * (rate == 0.1), cost) * noise


def tuned(**axes):
    return synthetic(
        ["zeros", "he_normal"], final=rates_matter, seed=range(12),
        learning_rate=[0.01, 0.1, 1.0], **axes,
    )  # fmt: skip


def test_schemes_at_their_best_values():
    comparison = tuned(depth=[1, 2])
    pooled = comparison.ranking("final_cost")
    assert pooled.rows[0].scheme == "zeros"
    assert pooled.pooled == {"depth": 2, "learning_rate": 3}
    assert pooled.answer.endswith(
        " Each seed counts once, with the median over 2 depths and 3 learning rates."
    )
    ranking = comparison.ranking("final_cost", best_of="learning_rate")
    assert [row["scheme"] for row in ranking] == ["he_normal", "zeros"]
    assert ranking.best_of["he_normal"] == {"learning_rate": 0.1}
    assert ranking[0]["learning_rate"] == 0.1
    assert ranking[1]["learning_rate"] in (0.01, 1.0)
    assert ranking.rows[1].verdict == "worse"
    assert ranking.rows[1].paired
    assert [row.runs for row in ranking.rows] == [24, 24]
    assert ranking.pooled == {"depth": 2}
    assert "Each scheme is ranked at its learning rate of lowest median training cost." in (
        ranking.answer
    )
    # The same numbers as of the runs at these values.
    alone = comparison.ranking("final_cost", scheme="he_normal", learning_rate=0.1)
    assert alone.rows[0].median == ranking.rows[0].median
    both = comparison.ranking("final_cost", best_of=["learning_rate", "depth"], seed=3)
    assert [row.runs for row in both.rows] == [1, 1]


def test_the_choice_of_values_ignores_the_test_data():
    comparison = tuned()
    before = comparison.ranking("test_accuracy", best_of="learning_rate").best_of
    changed = type(comparison)(
        comparison.data, comparison.cells, comparison.network, comparison.settings
    )
    columns = comparison.columns()
    columns["test_score"] = columns["test_score"][::-1].copy()
    for places, block in comparison._blocks:
        rows = np.searchsorted(columns["place"], places)
        own = {name: column[rows] for name, column in columns.items()}
        changed.add(places, replace(block, columns=own))
    comparison = changed
    assert comparison.ranking("test_accuracy", best_of="learning_rate").best_of == before


def test_bad_best_values():
    with pytest.raises(ValueError, match="best_of: expected one of depth, width"):
        tuned().ranking(best_of="seed")
    several = synthetic(["zeros"], optimizer=["sgd", "adam"])
    with pytest.raises(ValueError, match="best_of: expected 'optimizer'"):
        several.ranking(best_of="learning_rate")


def test_the_best_schemes_of_many_groups():
    comparison = tuned()
    found = comparison.best("learning_rate", metric="final_cost")
    assert [(row["learning rate"], row["best"]) for row in found] == [
        (0.01, "zeros"), (0.1, "he_normal"), (1.0, "zeros"),
    ]  # fmt: skip
    for row in found:
        expected = comparison.ranking("final_cost", learning_rate=row["learning rate"])
        assert row["median final cost"] == expected.rows[0].median
        assert row["not distinguished"] == row["better in pairs"] == ""
    [row] = comparison.best(metric="final_cost", best_of="learning_rate")
    assert (row["best"], row["its learning rate"]) == ("he_normal", 0.1)
    with pytest.raises(ValueError, match="by: expected one of seed, depth"):
        comparison.best("size")


def test_an_unfinished_comparison_says_so():
    whole = synthetic(["zeros", "he_normal"], seed=range(12))
    part = type(whole)(whole.data, whole.cells, whole.network, whole.settings)
    [(places, block)] = whole._blocks
    codes = whole.cells.codes[places]
    rows = np.flatnonzero((codes[:, 0] == 0) | (codes[:, 1] < 8))
    part.add(places[rows], block.select(rows))
    ranking = part.ranking()
    assert ranking.finished == (20, 24)
    assert ranking.answer.startswith("20 of 24 runs are finished. zeros ")
    assert ranking.rows[1].common_seeds == 8
    assert "finished" not in whole.ranking().answer


@pytest.mark.parametrize("output", ["sigmoid", "identity"])
@pytest.mark.parametrize("test", [True, False], ids=["test", "no test"])
def test_the_table_has_the_scores_that_exist(output, test):
    comparison = synthetic(
        ["zeros", "he_normal"], network=fi.Network([3, 4, 1], output=output), test=test
    )
    score = "r2" if output == "identity" else "accuracy"
    assert (f"test {score}" in comparison.table().columns) == test
    assert f"train {score}" in comparison.table().columns
    assert "he_normal" in repr(comparison)


def test_the_median_run_is_the_lower_of_two():
    whole = synthetic(["zeros"], seed=range(4))
    costs = sorted(trial.final_cost for trial in whole.trials)
    assert whole.median_trial("zeros").final_cost == costs[1]


def test_schemes_of_a_group_are_ordered_by_the_default_metric():
    summary = tuned().summary("learning_rate")
    for rate in (0.01, 0.1):
        scores = [row["test accuracy"] for row in summary if row["learning rate"] == rate]
        assert len(scores) == 2
        assert scores == sorted(scores, reverse=True)
    diverged = [row["diverged"] for row in summary if row["learning rate"] == 1.0]
    assert diverged == [0.0, 1.0]


def test_values_that_were_not_sampled_are_not_missing():
    whole = synthetic(["zeros"], depth=[1, 2, 3], n_samples=2)
    part = type(whole)(whole.data, whole.cells, whole.network, whole.settings)
    first, second = whole.cells
    [block] = [block for places, block in whole._blocks if places[0] == 0]
    part.add([0], block)
    assert first.depth != second.depth
    assert part.missing() == (
        f"1 of 2 runs are missing: 1 of 2 of zeros. No runs of depth {second.depth}."
    )


def test_typical_runs_are_the_middle_half():
    """The test examples are judged by runs whose metric is between its quartiles."""
    whole = synthetic(["zeros", "he_normal"], seed=range(9))
    comparison = type(whole)(whole.data, whole.cells, whole.network, whole.settings)
    for places, block in whole._blocks:
        thetas = np.tile(block.columns["final_cost"][:, None], block.thetas.shape[1])
        comparison.add(places, replace(block, thetas=thetas))
    metric = replace(
        comparison.metrics["test_accuracy"],
        examples=lambda network, thetas, X, Y: np.tile(thetas[:, :1], X.shape[1]),
    )
    codes = comparison.cells.code("scheme")
    values = comparison.columns()["final_cost"].copy()
    values[0] = np.inf  # a run that failed
    found = comparison._examples(metric, codes, values, np.arange(len(values)))
    for code, row in enumerate(found):
        own = np.sort(values[(codes == code) & np.isfinite(values)])
        low, high = np.quantile(own, 0.25, method="lower"), np.quantile(own, 0.75, method="higher")
        typical = own[(own >= low) & (own <= high)]
        np.testing.assert_allclose(row, typical.mean(), rtol=1e-12)


def test_optimizers_that_differ_in_the_rate_are_not_pooled():
    optimizers = [fi.optimizers.GradientDescent(0.1), fi.optimizers.GradientDescent(0.03)]
    comparison = synthetic(["zeros", "he_normal"], seed=range(6), optimizer=[*optimizers, "adam"])
    labels = ["sgd(learning_rate=0.1)", "sgd(learning_rate=0.03)", "adam"]
    summary = comparison.summary("optimizer")
    assert [row["optimizer"] for row in summary] == [label for label in labels for _ in range(2)]
    for label in labels:
        assert [row.runs for row in comparison.ranking(optimizer=label).rows] == [6, 6]
    with pytest.raises(ValueError, match=r"optimizer: expected one of \['sgd\(learning_rate=0.1"):
        comparison.ranking(optimizer="sgd")
    assert [row["optimizer"] for row in comparison.best("optimizer")] == labels
    assert {row["optimizer"] for row in comparison.records()} == set(labels)


def test_a_sampled_axis_has_no_rankings():
    uniform = pytest.importorskip("scipy.stats").uniform(0.01, 0.1)
    sample = synthetic(["zeros", "he_normal"], seed=range(50), learning_rate=uniform, n_samples=40)
    value = sample.cells.values["learning_rate"][3]
    for select in (
        lambda: sample.best("learning_rate"),
        lambda: sample.ranking(learning_rate=value),
    ):
        with pytest.raises(ValueError, match="learning_rate: expected values that several runs"):
            select()
    assert "20 learning rates" in sample.ranking().answer
    # Of a list, each value is a question of its own, even with one run.
    listed = synthetic(["zeros", "he_normal"], learning_rate=[0.1, 0.2])
    assert len(listed.best("learning_rate")) == 2


def test_a_summary_is_that_of_the_runs_at_the_time(grid):
    part = type(grid)(grid.data, grid.cells, grid.network, grid.settings)
    for places, block in grid._blocks:
        part.add(places, block)
        assert sum(row["runs"] for row in part.summary()) == len(part)


def test_a_caller_may_change_a_summary(grid):
    expected = [dict(row) for row in grid.summary("depth")]
    grid.summary("depth")[0]["runs"] = 0
    assert list(grid.summary("depth")) == expected
