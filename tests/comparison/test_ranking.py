"""The ranking against SciPy, and its error rates by simulation."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinit.comparison.ranking import answer, fewest_seeds, rank

scipy_stats = pytest.importorskip("scipy.stats")


def verdicts(ranking):
    return [each.verdict for each in ranking.rows]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_best_scheme_is_first(rng):
    costs = rng.normal([2.0, 1.0, 3.0], 0.1, (20, 3))
    found = rank(costs, ["b", "a", "c"])
    assert [(each.scheme, each.place, each.verdict) for each in found.rows] == [
        ("a", 1, "best"),
        ("b", 2, "worse"),
        ("c", 3, "worse"),
    ]
    assert found.rows[1].difference == pytest.approx(np.median(costs[:, 0] - costs[:, 1]))
    # Plain numbers, which JSON can write.
    for each in found.rows:
        kinds = {type(value) for value in vars(each).values()}
        assert kinds <= {str, int, float, bool, type(None)}
    assert answer(found, "final cost").startswith(
        "a is best: median final cost 0.987 (95% interval"
    )
    higher = rank(-costs, ["b", "a", "c"], higher_is_better=True)
    for lower_row, higher_row in zip(found.rows, higher.rows, strict=True):
        assert lower_row.median == -higher_row.median
        assert (lower_row.low, lower_row.high) == (-higher_row.high, -higher_row.low)
        assert lower_row.p_value == higher_row.p_value or lower_row.place == 1
        assert lower_row.difference == -higher_row.difference


def test_the_paired_p_value_is_that_of_scipy(rng):
    for n in (8, 20, 45):
        values = rng.normal([0.0, 0.3], 1.0, (n, 2))
        expected = scipy_stats.wilcoxon(values[:, 0], values[:, 1], method="exact").pvalue
        assert rank(values).rows[1].p_value == pytest.approx(expected, rel=1e-9)
    values = np.round(rng.normal([0.0, 0.1], 1.0, (300, 2)), 1)
    expected = scipy_stats.wilcoxon(
        values[:, 0], values[:, 1], method="approx", correction=True
    ).pvalue
    assert rank(values).rows[1].p_value == pytest.approx(expected, rel=1e-6)


def test_the_unpaired_p_value_is_that_of_scipy(rng):
    for n in (6, 20, 200):
        values = np.full((2 * n, 2), np.nan)
        values[:n, 0], values[n:, 1] = rng.normal(0.0, 1.0, n), rng.normal(0.4, 1.0, n)
        method = "exact" if n <= 20 else "asymptotic"
        expected = scipy_stats.mannwhitneyu(values[:n, 0], values[n:, 1], method=method).pvalue
        found = rank(values).rows[1]
        assert not found.paired
        assert found.p_value == pytest.approx(expected, rel=1e-6)


def test_ties_keep_the_permutation_distribution(rng):
    values = np.round(rng.normal([0.0, 0.8], 1.0, (9, 2)))
    d = values[:, 1] - values[:, 0]
    d = d[d != 0]
    ranks = scipy_stats.rankdata(np.abs(d))
    signs = np.array([[code >> i & 1 for i in range(len(d))] for code in range(1 << len(d))])
    sums, own = signs @ ranks, ranks[d > 0].sum()
    expected = min(1.0, 2 * min(np.mean(sums <= own + 1e-9), np.mean(sums >= own - 1e-9)))
    assert rank(values).rows[1].p_value == pytest.approx(expected, rel=1e-9)


def test_equal_values_and_one_seed_tell_nothing():
    found = rank(np.full((20, 3), 0.95), ["a", "b", "c"], higher_is_better=True)
    assert {each.place for each in found.rows} == {1}
    assert verdicts(found) == ["best", "not distinguished", "not distinguished"]
    assert all(each.seeds_needed is None for each in found.rows)
    assert answer(found, "test accuracy").startswith(
        "All schemes have the same median test accuracy"
    )
    one = rank([[0.1, 0.2]], ["a", "b"])
    assert verdicts(one) == ["best", "not distinguished"]
    assert answer(one, "cost").endswith("One seed: the schemes cannot be distinguished.")
    # Two blocks of one seed are one observation.
    assert answer(rank([[0.1, 0.2], [0.1, 0.2]], clusters=[7, 7])).endswith(
        "One seed: the schemes cannot be distinguished."
    )


def test_a_median_and_a_test_that_contradict_each_other_are_both_said():
    # The median of "a" is lower, but "b" is lower within 18 of 20 pairs.
    a = np.concatenate([np.arange(9.0), [9.0, 9.1], np.arange(20.0, 29.0)])
    b = a - 0.5
    b[[9, 10]] = 40.0, 41.0
    found = rank(np.stack([a, b], axis=1), ["a", "b"])
    assert found.rows[1].p_value < 0.05
    assert verdicts(found) == ["best", "better in pairs"]
    # The sign says so too, in the unit of the metric.
    assert found.rows[1].difference == -0.5
    assert found.rows[1].seeds_needed is None
    assert re.fullmatch(
        r"a has the best median cost 9.05 \(95% interval .*, 20 seeds\), but b is better in pairs "
        r"of the same seed \(p = 0.\d+\)\.",
        answer(found, "cost"),
    )
    higher = rank(-np.stack([a, b], axis=1), ["a", "b"], higher_is_better=True)
    assert verdicts(higher) == ["best", "better in pairs"]
    assert higher.rows[1].difference == 0.5
    # A third scheme that is not distinguished is named as well.
    third = rank(np.stack([a, b, a + np.tile([0.1, -0.1], 10) + 0.01], axis=1), ["a", "b", "c"])
    assert set(verdicts(third)) == {"best", "better in pairs", "not distinguished"}
    assert ". a and c cannot be distinguished with these 20 seeds" in answer(third)


def test_few_seeds_are_called_too_few():
    values = np.arange(5)[:, None] + np.array([0.0, 100.0])
    assert rank(values).rows[1].verdict == "worse"
    six = np.arange(5)[:, None] + 100.0 * np.arange(6)
    assert answer(rank(six)).endswith(
        "5 seeds are too few to distinguish 6 schemes; at least 6 are needed."
    )
    assert fewest_seeds(0.05) == 4


def test_failed_runs_are_worst(rng):
    values = rng.normal(0.0, 1.0, (20, 3))
    values[:15, 0], values[:, 1] = np.inf, np.inf
    found = rank(values, ["a", "b", "c"])
    assert [(each.scheme, each.failed, each.median) for each in found.rows][1:] == [
        ("a", 15, np.inf),
        ("b", 20, np.inf),
    ]
    assert found.best.scheme == "c"
    assert found.rows[1].difference == np.inf
    accuracy = rank(
        np.where(np.isinf(values), -np.inf, values), ["a", "b", "c"], higher_is_better=True
    )
    assert [each.scheme for each in accuracy.rows] == ["c", "a", "b"]
    assert "infinite" in answer(rank(values[:, :2]), "cost")


def test_missing_runs(rng):
    values = rng.normal([0.0, 0.2, 0.0], 1.0, (20, 3))
    values[:5, 0], values[:, 2] = np.nan, np.nan
    found = {each.scheme: each for each in rank(values).rows}
    assert (found["0"].runs, found["1"].runs, found["2"].runs) == (15, 20, 0)
    assert math.isnan(found["2"].median)
    assert found["2"].verdict == "not distinguished"
    assert found["2"].place == 3
    assert answer(rank(np.full((3, 2), np.nan))) == "There are no runs to rank."


def test_blocks_of_a_seed_are_one_observation(rng):
    """A difference in one seed is not evidence, however many depths it was trained with."""
    seeds = np.repeat(np.arange(6), 10)
    values = rng.normal(0.0, 1.0, (6, 1))[seeds % 6] + rng.normal(0.0, 0.01, (60, 2))
    values[:, 1] += rng.normal(0.0, 1.0, 6)[seeds]
    alone, clustered = rank(values), rank(values, clusters=seeds)
    assert alone.seeds == 60
    assert clustered.seeds == clustered.best.seeds == 6
    assert alone.best.runs == clustered.best.runs == 60
    assert alone.rows[1].verdict == "worse"
    assert clustered.rows[1].verdict == "not distinguished"


@settings(deadline=None, max_examples=40)
@given(st.integers(6, 200))
def test_the_interval_of_a_median_has_its_confidence(n):
    found = rank(np.arange(1.0, n + 1)[:, None]).best
    first = int(found.low)
    assert found.high == n + 1 - first
    below = scipy_stats.binom.cdf([first - 1, first], n, 0.5)
    assert below[0] <= 0.025 < below[1]


@pytest.mark.parametrize("kind", ["normal", "ties", "skewed", "failed", "unpaired"])
@pytest.mark.parametrize("shape", [(5, 2), (20, 2), (20, 4)])
def test_equal_schemes_are_told_apart_in_five_percent(shape, kind):
    rng = np.random.default_rng(7)
    n, k = shape
    errors = covered = trials = 0
    for _ in range(150):
        values = rng.normal(size=shape) + rng.normal(size=(n, 1))
        if kind == "ties":
            values = np.round(values)
        elif kind == "skewed":
            values = np.exp(2 * values)
        elif kind == "failed":
            values = np.where(rng.random(shape) < 0.2, np.inf, values)
        elif kind == "unpaired":
            values = np.where(np.repeat(np.eye(k), n, axis=0) > 0, np.tile(values, (k, 1)), np.nan)
        found = rank(values)
        errors += any(each.p_value <= 0.05 for each in found.rows)
        if kind != "failed":
            center = 1.0 if kind == "skewed" else 0.0
            covered += sum(each.low <= center <= each.high for each in found.rows)
            trials += k
    assert errors <= scipy_stats.binom.ppf(0.999, 150, 0.05)
    # The runs of a block are correlated: as if each block had one.
    confidence = 1 - 2.0 ** (1 - n) if n < 6 else 0.95
    assert covered >= k * scipy_stats.binom.ppf(0.001, 150, confidence) if trials else True


def test_the_seeds_needed_tell_the_difference():
    rng = np.random.default_rng(3)
    n = 400
    found = rank(rng.normal([0.0, 0.1], 1.0, (n, 2))).rows[1]
    small = [rank(rng.normal([0.0, 0.7], 1.0, (12, 2))).rows[1].seeds_needed for _ in range(40)]
    needed = int(np.median([each for each in small if each is not None]))
    told = np.mean(
        [
            rank(rng.normal([0.0, 0.7], 1.0, (needed, 2))).rows[1].verdict == "worse"
            for _ in range(100)
        ]
    )
    assert told >= 0.6
    assert found.seeds_needed is None or found.seeds_needed > n


def test_answers_name_what_cannot_be_distinguished(rng):
    values = rng.normal([0.0, 0.05, 0.1], 1.0, (20, 3))
    values -= np.median(values, axis=0) - [0.0, 0.05, 0.1]
    found = rank(values, ["a", "b", "c"])
    words = answer(found, "final cost")
    assert ". a cannot be distinguished from b or c with these 20 seeds" in words
    two = rank(values[:, :2], ["a", "b"])
    words = answer(two, "final cost")
    needed = two.rows[1].seeds_needed
    assert ". a and b cannot be distinguished with these 20 seeds" in words
    assert (" would be needed for the observed difference." in words) == (needed is not None)
    assert answer(rank(values[:, :1], ["a"]), "final cost").startswith("a: median final cost")


def test_answers_count_the_common_seeds(rng):
    values = rng.normal(size=(20, 1)) + rng.normal(0.0, 1.0, (20, 2))
    values[:12, 0] = np.nan
    found = rank(values)
    assert [each.seeds for each in sorted(found.rows, key=lambda row: row.scheme)] == [8, 20]
    assert found.rows[1].common_seeds == 8
    assert "with their 8 common seeds" in answer(found)
    clear = answer(rank(np.add(values, [0.0, 100.0]), ["a", "b"]))
    assert clear.endswith(", with their 8 common seeds.")
    apart = rank(np.where(np.arange(20)[:, None] < 12, [np.nan, 1.0], [1.0, np.nan]))
    assert apart.rows[1].common_seeds == 0
    assert "with these runs, which have no seeds in common." in answer(apart)


@pytest.mark.parametrize(
    ("values", "keywords"),
    [
        ([1.0, 2.0], {}),
        (np.zeros((3, 0)), {}),
        (np.zeros((3, 2)), {"names": ["a"]}),
        (np.zeros((3, 2)), {"clusters": [1]}),
    ],
)
def test_wrong_shapes(values, keywords):
    with pytest.raises(ValueError, match="expected"):
        rank(values, **keywords)


def test_a_hundred_thousand_runs_are_ranked(rng):
    assert rank(rng.normal(size=(20_000, 5))).seeds == 20_000
