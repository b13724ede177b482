"""Ranking: schemes in the order of a metric, and which of them the runs distinguish."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.comparison.statistics import (
    ALPHA,
    MIN_TEST,
    holm,
    median_interval,
    quantile,
    t_quantile,
)
from fastinit.comparison.tables import joined
from fastinit.training.network import Array

Verdict = Literal["best", "not distinguished", "worse", "better in pairs"]
# Probability with which `seeds_needed` seeds would distinguish schemes of the observed difference.
POWER = 0.8
# With fewer, the estimate of the number of seeds is wrong by a factor of five or more too often.
FEWEST_SEEDS = 6
# Up to this number of pairs, or of values of both schemes, p-values are exact.
_EXACT = 50


@dataclass(frozen=True)
class Rank:
    """The place of one scheme in a :class:`Ranking`.

    Attributes
    ----------
    scheme : str
    place : int
        From 1, by the median; schemes of equal medians share a place.
    seeds, runs : int
        Numbers of seeds and of runs with a value.
    common_seeds : int
        Number of seeds with a value of both this and the best scheme.
    failed : int
        Number of runs whose value is infinite.
    median, low, high : float
        The median of the seeds, and its interval; NaN for an interval of one seed.
    difference, difference_low, difference_high : float
        The median of the differences, the metric of this scheme minus that of the best one, paired
        by block, and its interval, in the unit of the metric; 0, NaN and NaN for the best scheme. A
        difference of two infinite values is 0. Where a low metric is better, a negative difference
        says that this scheme is better than that of the best median in most blocks.
    margin : float
        Differences up to this size may be due to the choice of the test examples, whatever the
        number of seeds; 0 for metrics of the training data, infinite for too few test examples.
    p_value : float
        Of the test for a difference to the best scheme, corrected for the number of pairs of
        schemes; NaN for the best scheme.
    verdict : {"best", "not distinguished", "worse", "better in pairs"}
        The first scheme is "best": it has the best median. Of the others, the test at the corrected
        level of 5 % does not distinguish a scheme from the best one, finds it worse, or finds it
        better. The latter is possible because the median of differences is not the difference of
        medians.
    seeds_needed : int or None
        The number of seeds with which schemes of the observed difference would be distinguished
        with a probability of 80 %; larger than the number of common seeds. None if they are
        already, if the seeds give no estimate of it, or if the difference is within the margin.
    paired : bool
        Whether the test pairs the runs of both schemes by block.
    """

    scheme: str
    place: int
    seeds: int
    common_seeds: int
    runs: int
    failed: int
    median: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    margin: float
    p_value: float
    verdict: Verdict
    seeds_needed: int | None
    paired: bool


@dataclass(frozen=True)
class Ranking:
    """The schemes of a comparison, from the best to the worst by one metric.

    Attributes
    ----------
    rows : tuple of Rank
    higher_is_better : bool
    seeds : int
        Number of seeds.
    comparisons : int
        Number of pairs of schemes that p-values are corrected for.
    test_examples : int
        Number of test examples whose choice is taken into account; 0 for none.
    """

    rows: tuple[Rank, ...]
    higher_is_better: bool
    seeds: int
    comparisons: int
    test_examples: int = 0

    @property
    def best(self) -> Rank:
        """The scheme of the best median."""
        return self.rows[0]

    def with_verdict(self, verdict: Verdict) -> list[Rank]:
        """Return the rows of one verdict."""
        return [row for row in self.rows if row.verdict == verdict]


def rank(
    values: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    higher_is_better: bool = False,
    clusters: ArrayLike | None = None,
    examples: ArrayLike | None = None,
) -> Ranking:
    """Rank schemes by a metric, and test which of them can be distinguished.

    Parameters
    ----------
    values : array_like of shape (n_blocks, n_schemes)
        The metric of each run. The runs of a block have the same seed and the same values of all
        other axes. NaN: no such run. Infinite: the run failed; worse than every finite value.
    names : sequence of str, optional
        The names of the schemes; "0", "1", ... by default.
    higher_is_better : bool, default False
    clusters : array_like of shape (n_blocks,), optional
        The seed of each block, as a number. By default, each block has a seed of its own. Blocks of
        one seed are not independent: each seed counts as one observation, the median of its blocks.
    examples : array_like of shape (n_schemes, n_test), optional
        For a metric of test data, what each test example contributes to that of each scheme, in the
        mean over typical runs; their mean over the examples is the metric, but for a constant. NaN
        for a scheme whose runs all failed. By default, claims are made about these test data only.

    Returns
    -------
    Ranking

    Raises
    ------
    ValueError
        If the shapes do not match, or there is no scheme.

    Notes
    -----
    Everything depends on the order of the values only, so that failed runs count and outliers do
    not dominate, and everything is deterministic:

    - The interval of a median is the pair of order statistics with a confidence of at least 95 %
      whatever the distribution [1]_. Five seeds or fewer have no such pair: the interval is the
      range, of confidence ``1 - 2 ** (1 - n)``.
    - The test is the signed-rank test of Wilcoxon [2]_ of the differences within blocks, without
      those that are zero. Its null hypothesis is that the runs of both schemes are exchangeable, so
      that a difference has the distribution of its negative; no other symmetry is assumed. If a
      scheme varies more than another of the same median, their runs are not exchangeable, and the
      test may find it: "worse" then says that the mean of two differences is more often against
      the scheme than for it. Its smallest p-value of n seeds is ``2 ** (1 - n)``. Where this cannot
      reach the corrected level, as with five seeds, or where schemes share fewer than half of their
      seeds, the rank-sum test of the same paper (Mann and Whitney) is used, without pairs. Both use
      the distribution given the ties: exactly up to 50 pairs or values, and by the normal
      approximation beyond. Without common seeds, the interval of the difference is that of two
      medians of confidence 97.5 %.
    - The best scheme is chosen from the same values. The p-values are therefore corrected for all
      pairs of schemes, by :func:`holm`, not only for those with the best. The probability that any
      two equal schemes are distinguished is at most 5 %.
    - All runs share the test examples, whose choice is a second source of error. The contributions
      of an example to both schemes are paired: the margin of a pair of schemes is the t interval of
      the mean of their differences, at the level of one of all pairs. The differences of the runs
      are reduced by it before they are tested. Thus a difference counts where it exceeds the sum
      of both errors; the error of a difference that varies with seeds and with examples is the
      root of the sum of their squares [3]_, which is smaller. The margin is infinite for fewer than
      10 examples, and where m examples differ and ``2 ** (1 - m)``, the smallest p-value of a test
      of their signs, is above the level.
    - ``seeds_needed`` follows from the probability that the mean of two differences, reduced by the
      margin, is positive [4]_, at the level of one of all pairs. It is an estimate from few values:
      with 8 to 20 seeds, half of the estimates are between half and four times the number that is
      needed. None is made with fewer than 6.
    - Intervals of bootstrap samples, the usual alternative, are random, have less than their
      confidence for few seeds, and say little where runs failed, because the mean is infinite. The
      order statistics are deterministic, and their confidence holds with infinite values.

    References
    ----------
    .. [1] Thompson, "On confidence ranges for the median and other expectation distributions for
       populations of unknown distribution form", Ann. Math. Stat. 7, 1936.
    .. [2] Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1, 1945.
    .. [3] Cameron, Gelbach and Miller, "Robust inference with multiway clustering", J. Bus. Econ.
       Stat. 29, 2011.
    .. [4] Noether, "Sample size determination for some common nonparametric tests", J. Am. Stat.
       Assoc. 82, 1987.

    Examples
    --------
    >>> costs = np.random.default_rng(0).normal([1.0, 1.1, 2.0], 0.2, (20, 3))
    >>> [(row.scheme, row.verdict) for row in rank(costs, ["a", "b", "c"]).rows]
    [('a', 'best'), ('b', 'not distinguished'), ('c', 'worse')]
    """
    table = np.array(values, dtype=np.float64)
    if table.ndim != 2 or not table.shape[1]:
        raise ValueError(f"values: expected shape (n_blocks, n_schemes); got {table.shape}")
    n_blocks, k = table.shape
    labels = [str(i) for i in range(k)] if names is None else list(names)
    if len(labels) != k:
        raise ValueError(f"names: expected {k} to match values; got {len(labels)}")
    owners = np.arange(n_blocks) if clusters is None else np.asarray(clusters)
    if owners.shape != (n_blocks,):
        raise ValueError(f"clusters: expected shape ({n_blocks},); got {owners.shape}")
    seeds = _Seeds(owners)
    shares = np.zeros((k, 0)) if examples is None else np.array(examples, np.float64)
    if shares.ndim != 2 or len(shares) != k:
        raise ValueError(f"examples: expected shape ({k}, n_test); got {shares.shape}")
    sign = -1.0 if higher_is_better else 1.0
    # Lower is better from here on.
    table = np.where(np.isinf(table), np.inf, sign * table)
    medians = np.stack([seeds.medians(column) for column in table.T], axis=1)
    known = [column[~np.isnan(column)] for column in medians.T]
    overall = np.array([_median(own) for own in known])
    order = np.lexsort((_mean_ranks(medians), np.nan_to_num(overall, nan=np.inf, posinf=np.inf)))
    order = order[np.argsort(np.isnan(overall[order]), kind="stable")]
    best = int(order[0])
    level = ALPHA / max(k * (k - 1) // 2, 1)
    pairs = {
        (i, j): _Pair.of(
            table,
            medians,
            seeds,
            i,
            j,
            level,
            0.0 if examples is None else margin_of(shares[i], shares[j], level),
        )
        for i, j in combinations(range(k), 2)
    }
    corrected = holm([pair.p_value for pair in pairs.values()]) if pairs else np.empty(0)
    p_values = dict(zip(pairs, corrected.tolist(), strict=True))
    rows = []
    for scheme in order.tolist():
        interval = _interval_or_range(known[scheme], ALPHA)
        column = table[:, scheme]
        outcome: dict[str, Any] = {
            "common_seeds": len(known[scheme]),
            "difference": 0.0,
            "difference_low": math.nan,
            "difference_high": math.nan,
            "margin": 0.0,
            "p_value": math.nan,
            "verdict": "best",
            "seeds_needed": None,
            "paired": True,
        }
        if scheme != best:
            key = min(best, scheme), max(best, scheme)
            pair, p = pairs[key], p_values[key]
            verdict = _verdict(pair, p, first_is_best=key[0] == best)
            open_ = verdict == "not distinguished"
            # From the best to this scheme, in the units of the values.
            away = sign if key[1] == scheme else -sign
            ends = sorted((away * pair.low, away * pair.high))
            outcome = {
                "common_seeds": pair.common,
                "difference": away * pair.difference + 0.0,
                "difference_low": ends[0] + 0.0,
                "difference_high": ends[1] + 0.0,
                "margin": pair.margin,
                "p_value": p,
                "verdict": verdict,
                "seeds_needed": pair.seeds_needed(level) if open_ else None,
                "paired": pair.paired,
            }
        rows.append(
            Rank(
                scheme=labels[scheme],
                place=1 + int(np.count_nonzero(overall < overall[scheme]))
                if len(known[scheme])
                else k,
                seeds=len(known[scheme]),
                runs=int(np.count_nonzero(~np.isnan(column))),
                failed=int(np.count_nonzero(np.isinf(column))),
                median=_shown(overall[scheme], sign),
                low=_shown(interval[0 if sign > 0 else 1], sign),
                high=_shown(interval[1 if sign > 0 else 0], sign),
                **outcome,
            )
        )
    return Ranking(tuple(rows), higher_is_better, seeds.n, len(pairs), shares.shape[1])


def margin_of(first: ArrayLike, second: ArrayLike, level: float) -> float:
    """Return the size up to which a mean difference may be due to the choice of the test examples.

    Parameters
    ----------
    first, second : array_like of shape (n_test,)
        What each test example contributes to the metric of two schemes.
    level : float
        The two-sided level.

    Returns
    -------
    float
        Half the width of the t interval of the mean difference; infinite for too few examples, and
        0 for NaN: that all runs of a scheme failed is not due to the test examples.

    Examples
    --------
    >>> round(margin_of(np.zeros(100), np.repeat([0.0, 1.0], [90, 10]), 0.05), 4)
    0.0598
    >>> margin_of(np.zeros(95), np.repeat([0.0, 1.0], [90, 5]), 0.05)
    inf
    """
    with np.errstate(over="ignore", invalid="ignore"):
        own = np.subtract(second, first, dtype=np.float64)
    n, m = len(own), np.count_nonzero(own)
    if np.isnan(own).any():
        return 0.0
    if n < MIN_TEST or 2.0 ** (1 - m) > level:
        return math.inf
    with np.errstate(over="ignore", invalid="ignore"):
        margin = t_quantile(level, n - 1) * own.std(ddof=1) / math.sqrt(n)
    return float(margin) if math.isfinite(margin) else math.inf


def _verdict(pair: "_Pair", p: float, *, first_is_best: bool) -> Verdict:
    """Return the verdict on the scheme of a pair that does not have the best median."""
    worse = pair.probability if first_is_best else 1 - pair.probability
    if p > ALPHA or worse == 0.5:
        return "not distinguished"
    return "worse" if worse > 0.5 else "better in pairs"


def _shown(value: float, sign: float) -> float:
    """Return a value in its own units: 0.0 instead of -0.0, and as given if it is infinite."""
    return float(sign * value + 0.0)


class _Seeds:
    """Reduces values of blocks to one for each seed."""

    def __init__(self, owners: Array) -> None:
        _, codes, counts = np.unique(owners, return_inverse=True, return_counts=True)
        self.n = len(counts)
        order, first = np.argsort(codes, kind="stable"), np.cumsum(counts) - counts
        # Seeds with equally many blocks, and the places of these, one row for each seed.
        self._parts = [
            (seeds := np.flatnonzero(counts == n), order[first[seeds, None] + np.arange(n)])
            for n in np.unique(counts).tolist()
        ]

    def medians(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the median of each seed, of its values that are not NaN; NaN if there is none."""
        medians = np.empty(self.n)
        for seeds, places in self._parts:
            if places.shape[1] == 1:
                medians[seeds] = column[places[:, 0]]
                continue
            ordered = np.sort(column[places], axis=1)  # NaN is last
            known = np.count_nonzero(~np.isnan(ordered), axis=1)
            row = np.arange(len(seeds))
            low, high = ordered[row, (known - 1) // 2], ordered[row, known // 2]
            # Halves are added, because the sum of two large numbers overflows.
            with np.errstate(invalid="ignore"):
                middle = np.where(low == high, low, low / 2 + high / 2)
            # The middle of the two infinities is zero.
            medians[seeds] = np.where(np.isnan(middle) & (known > 0), 0.0, middle)
        return medians


def _median(values: NDArray[np.float64]) -> float:
    return quantile(values, 0.5) if len(values) else math.nan


def _mean_ranks(medians: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean share of the other schemes that each is worse than, ties counted half."""
    ranks = np.zeros(medians.shape[1])
    for place, own in enumerate(medians.T):
        both = ~np.isnan(own)[:, None] & ~np.isnan(medians)
        worse = (own[:, None] > medians) + 0.5 * (own[:, None] == medians)
        ranks[place] = worse[both].mean() if both.any() else 1.0
    return ranks


def _interval_or_range(values: NDArray[np.float64], alpha: float) -> tuple[float, float]:
    """Return the interval of the median; the range if there are too few values; NaN for one."""
    if len(values) > 1 and _is_range(len(values), alpha):
        return float(values.min()), float(values.max())
    return median_interval(values, 1 - alpha)


def _is_range(n: int, alpha: float) -> bool:
    """Return whether even the range of n values misses the median with more probability."""
    return 2.0 ** (1 - n) > alpha


@dataclass(frozen=True)
class _Pair:
    """The comparison of two schemes: the second minus the first, where lower is better."""

    paired: bool
    seeds: int
    common: int
    difference: float
    low: float
    high: float
    margin: float
    p_value: float
    # The probability that the mean of two differences is positive; without pairs, that a value of
    # the second scheme is the larger one.
    probability: float
    # How much more probable than one half this is, or its opposite, for differences that are
    # reduced by the margin; and their share that is not zero.
    effect: float
    unequal: float

    @classmethod
    def of(
        cls,
        table: NDArray[np.float64],
        medians: NDArray[np.float64],
        seeds: _Seeds,
        first: int,
        second: int,
        level: float,
        margin: float,
    ) -> "_Pair":
        """Return the comparison of two columns, by a test that can reach the level."""
        a, b = table[:, first], table[:, second]
        with np.errstate(invalid="ignore", over="ignore"):
            # Two failed runs are equal.
            differences = seeds.medians(np.where(a == b, 0.0, b - a))
        differences = differences[~np.isnan(differences)]
        a, b = (own[~np.isnan(own)] for own in (medians[:, first], medians[:, second]))
        n, fewer = len(differences), min(len(a), len(b))
        if not fewer:
            return cls(False, 0, 0, math.nan, math.nan, math.nan, margin, 1.0, 0.5, 0.0, 1.0)
        if 2 * n >= fewer:
            middle, (low, high) = _median(differences), _interval_or_range(differences, ALPHA)
        else:
            ends_a, ends_b = (_interval_or_range(own, ALPHA / 2) for own in (a, b))
            middle = _minus(_median(b), _median(a))
            low, high = _minus(ends_b[0], ends_a[1]), _minus(ends_b[1], ends_a[0])
        common, paired = n, 2 * n >= fewer and 2.0 ** (1 - n) <= level
        if paired:
            probability = _signed_rank(differences)[2]
            (_, up, more), (down, _, less) = (
                _signed_rank(_moved(differences, by)) for by in (-margin, margin)
            )
            unequal = float(np.count_nonzero(differences)) / n
        else:
            n, unequal = fewer, 1.0
            probability = _rank_sum(a, b)[2]
            (_, up, more), (down, _, less) = (
                _rank_sum(a, _moved(b, by)) for by in (-margin, margin)
            )
        return cls(
            paired, n, common, middle, low, high, margin,
            p_value=min(2 * up, 2 * down, 1.0),
            probability=probability,
            effect=max(more - 0.5, 0.5 - less, 0.0),
            unequal=unequal,
        )  # fmt: skip

    def seeds_needed(self, level: float) -> int | None:
        """Return the number of seeds that would distinguish the schemes at a two-sided level."""
        effect = self.effect
        if self.seeds < FEWEST_SEEDS or effect == 0:
            return None
        normal = NormalDist()
        deviations = normal.inv_cdf(1 - level / 2) + normal.inv_cdf(POWER)
        if self.paired:
            number = deviations**2 / (3 * effect**2) / self.unequal
        else:
            number = deviations**2 / (6 * effect**2)
        if number > 1e6:
            return None
        return max(math.ceil(number), fewest_seeds(level), self.seeds + 1)


def fewest_seeds(level: float) -> int:
    """Return the number of seeds with which the rank-sum test can reach a two-sided level.

    Examples
    --------
    >>> fewest_seeds(0.05), fewest_seeds(0.05 / 15)
    (4, 6)
    """
    n = 1
    while 2 / math.comb(2 * n, n) > level:
        n += 1
    return n


def _minus(a: float, b: float) -> float:
    return 0.0 if a == b else a - b


def _moved(values: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    """Return finite values moved by a number, which may be infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(np.isinf(values), values, values + by)


def _mid_ranks(values: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return twice the ranks from 1 on, ties at their mean, and the numbers of tied values."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (2 * last - counts + 1)[places], counts


def _signed_rank(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return both one-sided p-values of the signed-rank test, and P(d + d' > 0) of two seeds.

    The first p-value is small if the differences are mostly negative, the second if positive.
    """
    unequal = differences[differences != 0]
    n = len(unequal)
    if n == 0:
        return 1.0, 1.0, 0.5
    ranks, _ = _mid_ranks(np.abs(unequal))
    positive = int(ranks[unequal > 0].sum())
    total = int(ranks.sum())
    if n <= _EXACT:
        chances = np.zeros(total + 1)
        chances[0] = 1.0
        for own in ranks.tolist():
            chances /= 2
            chances[own:] += chances[: total + 1 - own].copy()
        # The distribution is symmetric.
        tails = [float(chances[: each + 1].sum()) for each in (positive, total - positive)]
    else:
        variance = float(np.square(ranks, dtype=np.float64).sum()) / 4
        tails = [_tail(sign * (positive - total / 2), variance) for sign in (1, -1)]
    # The signed-rank statistic counts the pairs, and single values, of positive sum.
    if n == 1:
        return tails[0], tails[1], 0.5
    singles = int(np.count_nonzero(unequal > 0))
    pairs = positive / 2 - singles
    return tails[0], tails[1], min(max(pairs / (n * (n - 1) / 2), 0.0), 1.0)


def _rank_sum(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return both one-sided p-values of the rank-sum test, and P(b > a) with ties counted half.

    The first p-value is small if `b` is mostly below `a`, the second if above.
    """
    n, m = len(a), len(b)
    ranks, counts = _mid_ranks(np.concatenate([a, b]))
    own, total = int(ranks[n:].sum()), int(ranks.sum())
    probability = (own / 2 - m * (m + 1) / 2) / (n * m)
    if n + m <= _EXACT:
        ways = np.zeros((m + 1, total + 1))
        ways[0, 0] = 1.0
        for each in ranks.tolist():
            ways[1:, each:] += ways[:-1, : total + 1 - each].copy()
        chances = ways[m] / ways[m].sum()
        tails = [float(chances[: own + 1].sum()), float(chances[own:].sum())]
    else:
        ties = float((counts.astype(np.float64) ** 3 - counts).sum())
        size = n + m
        # Of twice the rank sum.
        variance = 4 * n * m / 12 * (size + 1 - ties / (size * (size - 1)))
        tails = [_tail(sign * (own - m * (size + 1)), variance) for sign in (1, -1)]
    return tails[0], tails[1], probability


def _tail(above: float, variance: float) -> float:
    """Return the normal probability that twice a rank statistic is at most so far above its mean.

    With a correction for its steps.
    """
    if variance <= 0:
        return 1.0
    return math.erfc(-(above + 1) / math.sqrt(2 * variance)) / 2


def answer(ranking: Ranking, metric: str = "value") -> str:
    """Return which scheme is best and from which ones it is distinguished, in two sentences.

    Parameters
    ----------
    ranking : Ranking
    metric : str
        The name of the metric in the sentences, such as "test accuracy".

    Returns
    -------
    str

    Examples
    --------
    >>> costs = np.random.default_rng(0).normal([1.0, 2.0], 0.2, (20, 2))
    >>> for sentence in answer(rank(costs, ["a", "b"]), "final cost").split(". "):
    ...     print(sentence)
    a is best: median final cost 0.901 (95% interval 0.867 to 1.04, 20 seeds)
    It can be distinguished from b, whose median is 2.02.
    """
    best, others = ranking.best, ranking.rows[1:]
    if not best.seeds:
        return "There are no runs to rank."
    median = f"median {metric} {_value(best.median)} ({_interval_in_words(best)})"
    if not others:
        return f"{best.scheme}: {median}."
    if all(row.verdict == "worse" for row in others):
        second = others[0]
        rest = f"the other {len(others)} schemes, of which {second.scheme} is next with a median of"
        if len(others) == 1:
            rest = f"{second.scheme}, whose median is"
        whole = all(row.common_seeds == ranking.seeds for row in others)
        seeds = "" if whole else f", with {_seeds_in_words(ranking, others)}"
        return (
            f"{best.scheme} is best: {median}. It can be distinguished from {rest} "
            f"{_value(second.median)}{seeds}."
        )
    if all(row.median == best.median and row.difference == 0 for row in others):
        first = f"All schemes have the same {median}"
    else:
        first = f"{best.scheme} has the best {median}"
    better = ranking.with_verdict("better in pairs")
    if better:
        same = " of the same seed" if all(row.paired for row in better) else " of seeds"
        p = max(row.p_value for row in better)
        first += (
            f", but {_listed(better, 'and')} {'is' if len(better) == 1 else 'are'} better in pairs"
            f"{same} (p {'=' if len(better) == 1 else '<='} {p:.2g})"
        )
    return " ".join([f"{first}.", *_not_distinguished(ranking)])


def _not_distinguished(ranking: Ranking) -> list[str]:
    """Return a sentence on the schemes that are not distinguished from the best one, if any."""
    best, rows = ranking.best, ranking.with_verdict("not distinguished")
    if not rows:
        return []
    used = max(min(best.seeds, row.seeds) for row in ranking.rows[1:])
    fewest = fewest_seeds(ALPHA / ranking.comparisons)
    if used < fewest:
        return [
            f"{used} seed{'s are' if used != 1 else ' is'} too few to distinguish "
            f"{len(ranking.rows)} schemes; at least {fewest} are needed."
        ]
    seeds = _seeds_in_words(ranking, rows)
    if len(rows) == 1:
        words = f"{best.scheme} and {rows[0].scheme} cannot be distinguished with {seeds}"
    else:
        words = f"{best.scheme} cannot be distinguished from {_listed(rows, 'or')} with {seeds}"
    needed = [row for row in rows if row.seeds_needed is not None]
    limited = [row for row in rows if abs(row.difference) <= row.margin and row.difference != 0]
    if len(limited) == len(rows):
        examples = f"the {ranking.test_examples:,} test examples"
        if math.isinf(min(row.margin for row in rows)):
            words += f": {examples} are too few"
        else:
            one = len(rows) == 1
            words += (
                f": the difference{' is' if one else 's are'} within the sampling error of "
                f"{examples}, whatever the number of seeds"
            )
    elif needed:
        row = min(needed, key=lambda row: row.seeds_needed or 0)
        to = "" if len(rows) == 1 else f" to {row.scheme}"
        words += (
            f"; about {_round(row.seeds_needed or 0):,} would be needed for the observed "
            f"difference{to}"
        )
    return [f"{words}."]


def _seeds_in_words(ranking: Ranking, rows: Sequence[Rank]) -> str:
    """Return the seeds with which schemes were compared with the best one."""
    low, high = (of(row.common_seeds for row in rows) for of in (min, max))
    if low == high == ranking.seeds:
        return f"these {high:,} seeds"
    common = f"{high:,}" if low == high else f"{low:,} to {high:,}"
    if all(row.paired for row in rows):
        return f"their {common} common seeds"
    # The rank-sum test uses the other seeds as well.
    return f"these runs, which have {common if high else 'no'} seeds in common"


def _listed(rows: Sequence[Rank], last: str) -> str:
    """Return the schemes of some rows in words; of more than three, their number."""
    if len(rows) > 3:
        return f"{len(rows)} other schemes"
    return joined([row.scheme for row in rows], last)


def _round(n: int) -> int:
    """Return a number with two digits, rounded up."""
    unit: int = 10 ** max(len(str(n)) - 2, 0)
    return -(-n // unit) * unit


def _value(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "infinite"


def _interval_in_words(row: Rank) -> str:
    if row.seeds == 1:
        return "1 seed"
    kind = "range" if _is_range(row.seeds, ALPHA) else "95% interval"
    return f"{kind} {_value(row.low)} to {_value(row.high)}, {row.seeds:,} seeds"
