"""The ranking against SciPy, and its error rates by simulation."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit as fi
from fastinit.comparison.ranking import answer, fewest_seeds, margin_of, rank

scipy_stats = pytest.importorskip("scipy.stats")


def verdicts(ranking):
    return [each.verdict for each in ranking.rows]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from([0.0, 1.0, 2.5, 7.0, np.nan])),
        min_size=1, max_size=40,
    )
)  # fmt: skip
def test_each_seed_counts_with_the_median_of_its_blocks(blocks):
    """Seeds have different numbers of blocks, some without a run."""
    owners, values = map(np.array, zip(*blocks, strict=True))
    own = [values[owners == seed] for seed in np.unique(owners)]
    medians = [np.median(each[~np.isnan(each)]) for each in own if not np.isnan(each).all()]
    found = rank(values[:, None], clusters=owners).rows[0]
    assert (found.seeds, found.runs) == (len(medians), np.count_nonzero(~np.isnan(values)))
    if medians:
        assert found.median == np.median(medians)


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
    assert answer(one, "cost").endswith(
        "(1 seed). 1 seed is too few to distinguish 2 schemes; at least 4 are needed."
    )
    # Two blocks of one seed are one observation.
    assert answer(rank([[0.1, 0.2], [0.1, 0.2]], clusters=[7, 7])).endswith(
        "1 seed is too few to distinguish 2 schemes; at least 4 are needed."
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


@pytest.mark.parametrize("kind", ["normal", "exponential"])
def test_the_seeds_needed_tell_the_difference(kind):
    """Half of the estimates are right to a factor, and none is below the seeds that were used."""
    rng = np.random.default_rng(3)

    def found(n):
        noise = rng.normal(size=(n, 2)) if kind == "normal" else rng.exponential(size=(n, 2))
        return rank(np.add(noise, [0.0, 0.7])).rows[1]

    sizes = np.array([10, 20, 40, 80])
    power = [np.mean([found(n).verdict == "worse" for _ in range(100)]) for n in sizes]
    true = np.interp(0.8, power, sizes)
    for n in (8, 14):
        rows = [each for each in (found(n) for _ in range(200)) if each.p_value > 0.05]
        needed = [each.seeds_needed for each in rows if each.seeds_needed is not None]
        assert len(needed) > 0.9 * len(rows)
        assert min(needed) > n
        assert true / 2 <= np.median(needed) <= 4 * true
    assert all(found(5).seeds_needed is None for _ in range(20)), "too few for an estimate"


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


def test_the_seeds_needed_are_those_of_noether(rng):
    """Sample sizes of the signed-rank test and of the rank-sum test for a power of 80 %."""
    deviations = scipy_stats.norm.isf(0.025) + scipy_stats.norm.isf(0.2)
    d = np.append(rng.normal(0.4, 1.0, 12), np.zeros(6))
    row = rank(np.stack([np.zeros(18), d], axis=1)).rows[1]
    own = d[d != 0]
    above = np.mean([a + b > 0 for i, a in enumerate(own) for b in own[:i]])
    # Seeds without a difference tell nothing.
    expected = deviations**2 / (3 * (above - 0.5) ** 2) / (12 / 18)
    assert row.seeds_needed == math.ceil(expected)
    a, b = rng.normal(0.0, 1.0, 15), rng.normal(0.4, 1.0, 15)
    values = np.full((30, 2), np.nan)
    values[:15, 0], values[15:, 1] = a, b
    above = scipy_stats.mannwhitneyu(b, a).statistic / 225
    expected = deviations**2 / (6 * (above - 0.5) ** 2)
    assert rank(values).rows[1].seeds_needed == math.ceil(expected)


def test_equal_medians_are_ordered_by_the_ranks_within_seeds():
    middle = np.arange(9.0) - 4
    values = np.stack([np.where(middle == 0, 0.0, middle + 0.1), middle], axis=1)
    found = rank(values, ["a", "b"])
    assert [(each.scheme, each.place) for each in found.rows] == [("b", 1), ("a", 1)]


def test_a_seed_has_the_median_of_its_blocks(rng):
    values = rng.normal(size=(30, 2))
    values[rng.random((30, 2)) < 0.2] = np.nan
    seeds = rng.integers(0, 6, 30)
    expected = [
        np.nanmedian([np.nanmedian(column[seeds == seed]) for seed in np.unique(seeds)])
        for column in values.T
    ]
    found = {each.scheme: each.median for each in rank(values, clusters=seeds).rows}
    assert found == pytest.approx(dict(zip("01", expected, strict=True)))


def test_the_interval_of_a_difference_without_common_seeds(rng):
    """Two intervals of 97.5 % hold together with 95 %."""
    values = np.full((32, 2), np.nan)
    values[:12, 0], values[12:, 1] = rng.normal(0.0, 1.0, 12), rng.normal(3.0, 1.0, 20)
    a, b = (
        scipy_stats.quantile_test(own[~np.isnan(own)], p=0.5).confidence_interval(0.975)
        for own in values.T
    )
    row = rank(values).rows[1]
    assert row.difference_low == pytest.approx(b.low - a.high)
    assert row.difference_high == pytest.approx(b.high - a.low)


def changed(ranking, *changes, **keywords):
    """Return a ranking whose rows after the best one have other attributes."""
    best, *others = ranking.rows
    rows = [replace(row, **change) for row, change in zip(others, changes, strict=True)]
    return replace(ranking, rows=(best, *rows), **keywords)


def test_words_of_answers(rng):
    three = rank(rng.normal(size=(20, 3)), ["a", "b", "c"])
    assert verdicts(three)[1:] == ["not distinguished"] * 2
    plain = {"margin": 0.0, "difference": 0.1}
    _, first, second = (row.scheme for row in three.rows)
    needed = answer(changed(three, plain | {"seeds_needed": 987}, plain | {"seeds_needed": 1234}))
    assert needed.endswith(f"; about 990 would be needed for the observed difference to {first}.")
    needed = answer(changed(three, plain | {"seeds_needed": 1300}, plain | {"seeds_needed": 1234}))
    assert needed.endswith(
        f"; about 1,300 would be needed for the observed difference to {second}."
    )
    # That the test examples are too few holds for all differences, or is not said.
    limited = {"seeds_needed": None, "difference": 0.1}
    margins = {"margin": math.inf}, {"margin": 0.2}
    for two, words in (
        (margins, "the differences are within the sampling error of the 50 test examples"),
        ((margins[0], margins[0]), "with these 20 seeds: the 50 test examples are too few."),
    ):
        found = changed(three, *(limited | margin for margin in two), test_examples=50)
        assert words in answer(found)
    better = {"verdict": "better in pairs"}
    found = changed(three, better | {"p_value": 0.001}, better | {"p_value": 0.02})
    assert f"but {first} and {second} are better in pairs of the same seed (p <= 0.02)" in (
        answer(found)
    )


def test_the_range_of_few_seeds_is_no_interval(rng):
    values = rng.normal(size=(6, 1))
    low, high = values[:5].min(), values[:5].max()
    assert f"(range {low:.3g} to {high:.3g}, 5 seeds)" in answer(rank(values[:5]))
    assert "(95% interval " in answer(rank(values))


def test_one_scheme_with_few_seeds_is_not_too_few_for_the_others(rng):
    values = rng.normal(size=(20, 3))
    values[2:, 2] = np.nan
    assert "too few" not in answer(rank(values))
    values[2:, 1] = np.nan
    assert "2 seeds are too few to distinguish 3 schemes" in answer(rank(values))


# --- the choice of the test examples --------------------------------------------------------------


def outcomes(rng, kind, n_seeds, n_schemes, n_test, effect=0.0):
    """Contributions of test examples, on whose population schemes differ by ``effect``.

    The schemes differ on each example, so that one of them is better on any test data.
    """
    shape = (n_seeds, n_schemes, n_test)
    difficulty = rng.normal(0.0, 2.0, n_test) + rng.normal(0.0, 1.0, shape[1:])
    difficulty += effect * np.arange(n_schemes)[:, None]
    if kind == "accuracy":
        return (rng.random(shape) < 1 / (1 + np.exp(-1 - difficulty))).astype(float)
    return np.exp(difficulty + rng.normal(0.0, 0.3, shape)) + rng.normal(0.0, 0.05, (*shape[:2], 1))


@pytest.mark.parametrize("kind", ["accuracy", "cost"])
@pytest.mark.parametrize("shape", [(20, 2, 10), (20, 4, 50), (30, 2, 500)])
def test_schemes_that_differ_on_these_test_examples_alone_are_not_told_apart(kind, shape):
    rng = np.random.default_rng(11)
    errors, before = 0, 0
    for _ in range(100):
        found = outcomes(rng, kind, *shape)
        values, examples = found.mean(axis=2), found.mean(axis=0)
        errors += any(each.p_value <= 0.05 for each in rank(values, examples=examples).rows)
        before += any(each.p_value <= 0.05 for each in rank(values).rows)
    assert errors <= scipy_stats.binom.ppf(0.999, 100, 0.05)
    # Of these very examples, the claims are true.
    assert before >= 20


def test_a_difference_on_many_test_examples_is_told():
    rng = np.random.default_rng(11)
    told = 0
    for _ in range(40):
        found = outcomes(rng, "accuracy", 20, 2, 1000, effect=0.6)
        ranking = rank(found.mean(axis=2), examples=found.mean(axis=0), higher_is_better=True)
        told += ranking.rows[1].verdict == "worse" and ranking.best.scheme == "1"
    assert told >= 36


def test_a_margin_is_that_of_the_paired_t_interval(rng):
    first, second = rng.exponential(size=(2, 40))
    for level in (0.05, 0.05 / 15):
        interval = scipy_stats.ttest_rel(second, first).confidence_interval(1 - level)
        assert margin_of(first, second, level) == pytest.approx((interval.high - interval.low) / 2)
    assert margin_of(first[:9], second[:9], 0.05) == math.inf
    # Five examples that differ have a p-value of 2 ** -4, whatever test is used.
    assert margin_of(np.zeros(100), np.arange(100) < 5, 0.05) == math.inf
    assert margin_of(np.zeros(100), np.arange(100) < 6, 0.05) < 0.06
    assert margin_of([math.nan] * 40, second, 0.05) == 0.0


def test_few_test_examples_are_said():
    values = np.tile([0.2, 1.0], (20, 1))
    few = rank(values, ["a", "b"], examples=[[0.0] * 5, [1.0] * 5], higher_is_better=True)
    assert few.rows[1].verdict == "not distinguished"
    assert few.rows[1].seeds_needed is None
    assert answer(few).endswith("with these 20 seeds: the 5 test examples are too few.")
    examples = np.zeros((2, 200))
    examples[0, :10], examples[1, 10:22] = 1.0, 1.0
    some = rank(np.tile(examples.mean(axis=1), (20, 1)), examples=examples, higher_is_better=True)
    assert answer(some).endswith(
        "the difference is within the sampling error of the 200 test examples, whatever the number "
        "of seeds."
    )
    # Failures are not due to the test examples.
    failed = rank(np.tile([0.2, np.inf], (20, 1)), examples=[[0.2] * 5, [math.nan] * 5])
    assert failed.rows[1].verdict == "worse"


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity", "exponential"])
def test_the_contributions_of_examples_add_up_to_the_metric(output, rng):
    X = rng.normal(size=(3, 60))
    Y = {
        "sigmoid": (rng.random((2, 60)) < 0.5) * 1.0,
        "softmax": np.eye(3)[rng.integers(0, 3, 60)].T,
        "identity": rng.normal(size=(2, 60)),
        "exponential": rng.poisson(2.0, (2, 60)) * 1.0,
    }[output]
    net = fi.Network([3, 4, len(Y)], output=output)
    found = fi.compare(
        X[:, :30], Y[:, :30], net, "he_normal", seed=range(4), iterations=30,
        test=(X[:, 30:], Y[:, 30:]),
    )  # fmt: skip
    thetas = np.stack([trial.theta for trial in found.trials])
    for name, metric in found.metrics.items():
        assert (metric.examples is None) == (not name.startswith("test_"))
        if metric.examples is not None:
            means = metric.examples(net, thetas, *found.test).mean(axis=1)
            values = metric.compute(found.columns())
            # But for a constant.
            np.testing.assert_allclose(np.diff(means), np.diff(values), rtol=1e-9, atol=1e-12)


def test_a_comparison_does_not_rank_by_five_test_examples(circles):
    X, Y, X_test, Y_test = circles
    net = fi.Network([2, 8, 1])
    schemes = ["he_normal", "glorot_uniform", "zeros"]
    settings = {"seed": range(12), "iterations": 1500, "learning_rate": 0.3}
    few = fi.compare(X, Y, net, schemes, test=(X_test[:, :5], Y_test[:, :5]), **settings)
    for metric in ("test_accuracy", "test_log_loss"):
        assert {row.verdict for row in few.ranking(metric).rows} == {"best", "not distinguished"}
    # The training cost needs no test examples.
    assert few.ranking("final_cost").rows[-1].verdict == "worse"
    many = fi.compare(X, Y, net, schemes, test=(X_test, Y_test), **settings).ranking()
    assert [many.rows[-1].scheme, many.rows[-1].verdict] == ["zeros", "worse"]


def test_values_near_the_largest_number_do_not_overflow():
    rng = np.random.default_rng(0)
    numbers = [1e308, -1e308, 1.7e308, -1.7e308, 0.0, np.inf, 5e-324, np.nan]
    for n in (1, 3, 12, 60):
        values = rng.choice(numbers, (n, 3))
        examples = rng.choice(numbers[:5], (3, 30))
        for clusters in (None, np.arange(n) % 7):
            answer(rank(values, clusters=clusters, examples=examples))


@pytest.mark.parametrize(
    ("values", "keywords"),
    [
        ([1.0, 2.0], {}),
        (np.zeros((3, 0)), {}),
        (np.zeros((3, 2)), {"names": ["a"]}),
        (np.zeros((3, 2)), {"clusters": [1]}),
        (np.zeros((3, 2)), {"examples": [[1.0]]}),
    ],
)
def test_wrong_shapes(values, keywords):
    with pytest.raises(ValueError, match="expected"):
        rank(values, **keywords)


def test_a_hundred_thousand_runs_are_ranked(rng):
    assert rank(rng.normal(size=(20_000, 5))).seeds == 20_000
