"""Ranking: schemes in the order of a metric, and which differences the runs can tell."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.comparison.statistics import ALPHA, holm, median_interval, quantile
from fastinit.training.network import Array

# Probability with which `seeds_needed` seeds would tell the difference seen.
POWER = 0.8
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
    failed : int
        Number of runs whose value is infinite.
    median, low, high : float
        The median of the seeds, and its interval; NaN for an interval of one seed.
    difference, difference_low, difference_high : float
        The median of the differences to the best scheme, paired by block, and its interval; 0, NaN
        and NaN for the best scheme. A difference of two infinite values is 0.
    p_value : float
        Of the test for a difference to the best scheme, corrected for the number of pairs of
        schemes; NaN for the best scheme.
    tied : bool
        Whether no difference to the best scheme can be told: False for the best scheme only if all
        others can be told from it.
    seeds_needed : int or None
        The number of seeds with which the difference seen would be told with a probability of 80 %;
        None if it is told already, or the seeds give no estimate of it.
    paired : bool
        Whether the test pairs the runs of both schemes by block.
    """

    scheme: str
    place: int
    seeds: int
    runs: int
    failed: int
    median: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    p_value: float
    tied: bool
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
    """

    rows: tuple[Rank, ...]
    higher_is_better: bool
    seeds: int
    comparisons: int

    @property
    def best(self) -> Rank:
        """The scheme of the best median."""
        return self.rows[0]


def rank(
    values: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    higher_is_better: bool = False,
    clusters: ArrayLike | None = None,
) -> Ranking:
    """Rank schemes by a metric, and test which differences can be told.

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
      those that are zero. Its smallest p-value of n seeds is ``2 ** (1 - n)``. Where this cannot
      reach the corrected level, as with five seeds, or where schemes share fewer than half of their
      seeds, the rank-sum test of the same paper (Mann and Whitney) is used, without pairs. Both use
      the distribution given the ties: exactly up to 50 pairs or values, and by the normal
      approximation beyond. Without common seeds, the interval of the difference is that of two
      medians of confidence 97.5 %.
    - The best scheme is chosen from the same values. The p-values are therefore corrected for all
      pairs of schemes, by :func:`holm`, not only for those with the best. The probability that any
      two equal schemes are told apart is at most 5 %.
    - ``seeds_needed`` follows from the probability that the mean of two differences is positive
      [3]_, at the level of one of all pairs. It is an estimate from few values.

    References
    ----------
    .. [1] Thompson, "On confidence ranges for the median and other expectation distributions for
       populations of unknown distribution form", Ann. Math. Stat. 7, 1936.
    .. [2] Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1, 1945.
    .. [3] Noether, "Sample size determination for some common nonparametric tests", J. Am. Stat.
       Assoc. 82, 1987.

    Examples
    --------
    >>> costs = np.random.default_rng(0).normal([1.0, 1.1, 2.0], 0.2, (20, 3))
    >>> [(row.scheme, row.tied) for row in rank(costs, ["a", "b", "c"]).rows]
    [('a', True), ('b', True), ('c', False)]
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
        pair: _Pair.of(table, medians, seeds, *pair, level) for pair in combinations(range(k), 2)
    }
    corrected = holm([pair.p_value for pair in pairs.values()]) if pairs else np.empty(0)
    p_values = dict(zip(pairs, corrected.tolist(), strict=True))
    rows = []
    for scheme in order.tolist():
        interval = _interval_or_range(known[scheme], ALPHA)
        column = table[:, scheme]
        outcome: dict[str, Any] = {
            "difference": 0.0,
            "difference_low": math.nan,
            "difference_high": math.nan,
            "p_value": math.nan,
            "seeds_needed": None,
            "paired": True,
        }
        if scheme == best:
            tied = any(
                _is_tied(pairs[pair], p, first_is_best=pair[0] == best)
                for pair, p in p_values.items()
                if best in pair
            )
        else:
            key = min(best, scheme), max(best, scheme)
            pair, p = pairs[key], p_values[key]
            tied = _is_tied(pair, p, first_is_best=key[0] == best)
            # From the best to this scheme, in the units of the values.
            away = sign if key[1] == scheme else -sign
            ends = sorted((away * pair.low, away * pair.high))
            outcome = {
                "difference": away * pair.difference + 0.0,
                "difference_low": ends[0] + 0.0,
                "difference_high": ends[1] + 0.0,
                "p_value": p,
                "seeds_needed": pair.seeds_needed(level) if tied else None,
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
                tied=tied,
                **outcome,
            )
        )
    return Ranking(tuple(rows), higher_is_better, seeds.n, len(pairs))


def _is_tied(pair: "_Pair", p: float, *, first_is_best: bool) -> bool:
    """Return whether the best scheme is not told from the other of a pair.

    A test of the pairs that favours the scheme of the worse median tells nothing either.
    """
    worse = pair.probability if first_is_best else 1 - pair.probability
    return p > ALPHA or worse <= 0.5


def _shown(value: float, sign: float) -> float:
    """Return a value in its own units: 0.0 instead of -0.0, and as given if it is infinite."""
    return float(sign * value + 0.0)


class _Seeds:
    """Reduces values of blocks to one for each seed."""

    def __init__(self, owners: Array) -> None:
        found, self.codes = np.unique(owners, return_inverse=True)
        self.n = len(found)

    def medians(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the median of each seed, of its values that are not NaN; NaN if there is none."""
        medians = np.full(self.n, np.nan)
        if self.n == len(column):
            medians[self.codes] = column
            return medians
        missing = np.isnan(column)
        order = np.lexsort((column, missing, self.codes))
        counts = np.bincount(self.codes, ~missing, minlength=self.n).astype(np.intp)
        starts = np.searchsorted(self.codes[order], np.arange(self.n))
        some = counts > 0
        low = column[order[starts[some] + (counts[some] - 1) // 2]]
        high = column[order[starts[some] + counts[some] // 2]]
        # Halves are added, because the sum of two large numbers overflows.
        with np.errstate(invalid="ignore"):
            medians[some] = np.where(low == high, low, low / 2 + high / 2)
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
    interval = median_interval(values, 1 - alpha)
    if math.isnan(interval[0]) and len(values) > 1:
        return float(values.min()), float(values.max())
    return interval


@dataclass(frozen=True)
class _Pair:
    """The comparison of two schemes: the second minus the first, where lower is better."""

    paired: bool
    seeds: int
    difference: float
    low: float
    high: float
    p_value: float
    # The probability that the mean of two differences is positive, and the share of seeds with a
    # difference; without pairs, that a value of the second scheme is the larger one.
    probability: float
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
    ) -> "_Pair":
        """Return the comparison of two columns, by a test that can reach the level."""
        a, b = table[:, first], table[:, second]
        with np.errstate(invalid="ignore"):
            # Two failed runs are equal.
            differences = seeds.medians(np.where(a == b, 0.0, b - a))
        differences = differences[~np.isnan(differences)]
        a, b = (own[~np.isnan(own)] for own in (medians[:, first], medians[:, second]))
        n, fewer = len(differences), min(len(a), len(b))
        if not fewer:
            return cls(False, 0, math.nan, math.nan, math.nan, 1.0, 0.5, 1.0)
        if 2 * n >= fewer:
            middle, (low, high) = _median(differences), _interval_or_range(differences, ALPHA)
        else:
            ends_a, ends_b = (_interval_or_range(own, ALPHA / 2) for own in (a, b))
            middle = _minus(_median(b), _median(a))
            low, high = _minus(ends_b[0], ends_a[1]), _minus(ends_b[1], ends_a[0])
        if 2 * n >= fewer and 2.0 ** (1 - n) <= level:
            p, probability = _signed_rank(differences)
            unequal = float(np.count_nonzero(differences)) / n
            return cls(True, n, middle, low, high, p, probability, unequal)
        p, probability = _rank_sum(a, b)
        return cls(False, fewer, middle, low, high, p, probability, 1.0)

    def seeds_needed(self, level: float) -> int | None:
        """Return the number of seeds that would tell the difference at this two-sided level."""
        effect = abs(self.probability - 0.5)
        if self.seeds < 3 or effect == 0:
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


def _mid_ranks(values: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return twice the ranks from 1 on, ties at their mean, and the numbers of tied values."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (2 * last - counts + 1)[places], counts


def _signed_rank(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the two-sided p-value of the signed-rank test, and P(d + d' > 0) of two seeds."""
    unequal = differences[differences != 0]
    n = len(unequal)
    if n == 0:
        return 1.0, 0.5
    ranks, _ = _mid_ranks(np.abs(unequal))
    positive = int(ranks[unequal > 0].sum())
    total = int(ranks.sum())
    if n <= _EXACT:
        chances = np.zeros(total + 1)
        chances[0] = 1.0
        for own in ranks.tolist():
            chances /= 2
            chances[own:] += chances[: total + 1 - own].copy()
        extreme = min(positive, total - positive)
        p = 2 * float(chances[: extreme + 1].sum())
    else:
        variance = float(np.square(ranks, dtype=np.float64).sum()) / 4
        p = _two_sided(abs(positive - total / 2), variance)
    # The signed-rank statistic counts the pairs, and single values, of positive sum.
    if n == 1:
        return min(p, 1.0), 0.5
    singles = int(np.count_nonzero(unequal > 0))
    pairs = positive / 2 - singles
    return min(p, 1.0), min(max(pairs / (n * (n - 1) / 2), 0.0), 1.0)


def _rank_sum(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    """Return the two-sided p-value of the rank-sum test, and P(b > a) with ties counted half."""
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
        p = 2 * min(float(chances[: own + 1].sum()), float(chances[own:].sum()))
    else:
        ties = float((counts.astype(np.float64) ** 3 - counts).sum())
        size = n + m
        # Of twice the rank sum.
        variance = 4 * n * m / 12 * (size + 1 - ties / (size * (size - 1)))
        p = _two_sided(abs(own - m * (size + 1)), variance)
    return min(p, 1.0), probability


def _two_sided(distance: float, variance: float) -> float:
    """Return the normal p-value of twice a rank statistic, with a correction for its steps."""
    if variance <= 0:
        return 1.0
    return math.erfc(max(distance - 1, 0.0) / math.sqrt(2 * variance))


def answer(ranking: Ranking, metric: str = "value") -> str:
    """Return which scheme is best and which differences can be told, in two sentences.

    Parameters
    ----------
    ranking : Ranking
    metric : str
        The name of the metric in the sentences, such as "test accuracy".

    Examples
    --------
    >>> costs = np.random.default_rng(0).normal([1.0, 2.0], 0.2, (20, 2))
    >>> for sentence in answer(rank(costs, ["a", "b"]), "final cost").split(". "):
    ...     print(sentence)
    a is best: median final cost 0.901 (95% interval 0.867 to 1.04, 20 seeds)
    It can be told from b, whose median is 2.02.
    """
    best, others = ranking.best, ranking.rows[1:]
    if not best.seeds:
        return "There are no runs to rank."
    median = f"median {metric} {_value(best.median)} ({_interval_in_words(best)})"
    if not others:
        return f"{best.scheme}: {median}."
    tied = [row for row in others if row.tied]
    if not tied:
        second = others[0]
        rest = f"the other {len(others)} schemes, of which {second.scheme} is next with a"
        rest = f"{second.scheme}, whose" if len(others) == 1 else rest
        verb = "median is" if len(others) == 1 else "median of"
        return (
            f"{best.scheme} is best: {median}. It can be told from {rest} {verb} "
            f"{_value(second.median)}."
        )
    if all(row.median == best.median and row.difference == 0 for row in others):
        first = f"All schemes have the same {median}."
    else:
        first = f"{best.scheme} has the best {median}."
    if ranking.seeds == 1:
        return f"{first} One seed: no difference can be told."
    fewest = fewest_seeds(ALPHA / ranking.comparisons)
    if ranking.seeds < fewest:
        return (
            f"{first} {ranking.seeds} seeds are too few to tell {len(ranking.rows)} schemes apart; "
            f"at least {fewest} are needed."
        )
    names = [row.scheme for row in tied]
    listed = names[0] if len(names) == 1 else f"any of {', '.join(names)}"
    listed = listed if len(names) <= 3 else f"{len(names)} other schemes"
    second_sentence = (
        f"No difference between {best.scheme} and {listed} can be told "
        f"with these {ranking.seeds:,} seeds"
    )
    needed = [row.seeds_needed for row in tied]
    if len(tied) == 1 and needed[0] is not None:
        second_sentence += f"; about {_round(needed[0]):,} would be needed for the difference seen"
    elif len(tied) > 1 and any(n is not None for n in needed):
        row = max((r for r in tied if r.seeds_needed), key=lambda r: -(r.seeds_needed or 0))
        second_sentence += (
            f"; about {_round(row.seeds_needed or 0):,} would be needed for the difference seen "
            f"to {row.scheme}"
        )
    return f"{first} {second_sentence}."


def _round(n: int) -> int:
    """Return a number with two digits, rounded up."""
    unit: int = 10 ** max(len(str(n)) - 2, 0)
    return -(-n // unit) * unit


def _value(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "infinite"


def _interval_in_words(row: Rank) -> str:
    if row.seeds == 1:
        return "1 seed"
    kind = "range" if row.seeds < 6 else "95% interval"
    return f"{kind} {_value(row.low)} to {_value(row.high)}, {row.seeds:,} seeds"
