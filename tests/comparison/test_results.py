"""Selections of runs by the values of axes, and the numbers of the runs that are selected."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from synthetic import synthetic


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
    with pytest.raises(ValueError, match="where: expected one of scheme, seed, depth, width"):
        select(size=3)
    with pytest.raises(ValueError, match=r"depth: expected one of \[0, 1, 2\]; got 7"):
        select(depth=7)


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
    bands = plots._bands(grid, np.ones(len(grid.cells), bool))
    assert [band.runs for band in bands.values()] == [400, 400]
    assert read == [50, 50]
