"""Statistics without a model: quantiles, exact tests and intervals, correction for many tests.

Every rule is a pure function of arrays. Its docstring has its source.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Claims have this two-sided level, and intervals the confidence of the rest.
ALPHA = 0.05
QUARTILES = (0.25, 0.5, 0.75)
# With fewer test examples, the standard error of a mean is not known well enough for a claim.
MIN_TEST = 10


def floats(values: ArrayLike) -> NDArray[np.float64]:
    """Return an array of float64."""
    return np.asarray(values, dtype=np.float64)


def quantiles(values: ArrayLike, shares: Sequence[float]) -> NDArray[np.float64]:
    """Return quantiles along the first axis as ``np.quantile`` does; NaN counts as infinite.

    ``np.quantile`` computes infinity minus infinity, or zero times infinity, and returns NaN for
    quantiles that exist.

    Examples
    --------
    >>> quantiles([3.0, np.nan, 1.0, np.inf], (0.25, 0.5))
    array([2.5, inf])
    """
    numbers = np.asarray(values, dtype=np.float64)
    last = len(numbers) - 1
    ranks = [divmod(share * last, 1) for share in shares]
    places = {place for rank, _ in ranks for place in (int(rank), min(int(rank) + 1, last))}
    ordered = np.partition(np.where(np.isnan(numbers), np.inf, numbers), sorted(places), axis=0)
    found = []
    for rank, rest in ranks:
        below, above = ordered[int(rank)], ordered[min(int(rank) + 1, last)]
        # Interpolation between equal numbers would round.
        with np.errstate(invalid="ignore"):
            between = below if rest == 0 else (1 - rest) * below + rest * above
        # The middle of the two infinities is zero.
        found.append(np.where(below == above, below, np.where(np.isnan(between), 0.0, between)))
    return np.array(found)


def quantile(values: ArrayLike, share: float) -> float:
    """Return one quantile of numbers; NaN counts as infinite."""
    return float(quantiles(values, [share])[0])


def median_iterations(iterations: ArrayLike) -> float:
    """Return the median, rounded to an integer if it is finite; negative ones are infinite."""
    numbers = np.asarray(iterations)
    median = quantile(np.where(numbers < 0, np.inf, numbers), 0.5)
    return round(median) if math.isfinite(median) else median


# --- exact tests ----------------------------------------------------------------------------------

_log_gamma = np.vectorize(math.lgamma, otypes=[np.float64])


def _beta_cdf(a: ArrayLike, b: ArrayLike, x: ArrayLike) -> NDArray[np.float64]:
    """Return the distribution function of the beta distribution at x.

    By the continued fraction of [1]_, section 6.4, for positive `a` and `b`.

    References
    ----------
    .. [1] Press, Teukolsky, Vetterling and Flannery, "Numerical Recipes", 3rd edition, 2007.
    """
    a, b, x = np.broadcast_arrays(floats(a), floats(b), floats(x))
    swapped = x > (a + 1) / (a + b + 2)
    # The fraction converges fast below the mean.
    a, b, x = np.where(swapped, b, a), np.where(swapped, a, b), np.where(swapped, 1 - x, x)
    tiny = 1e-300
    c = np.ones(a.shape)
    d = 1 - (a + b) * x / (a + 1)
    d = 1 / np.where(np.abs(d) < tiny, tiny, d)
    fraction = d
    # The number of terms grows with the square root of the larger parameter.
    for m in range(1, 100 + int(10 * math.sqrt(np.max(np.maximum(a, b), initial=1.0)))):
        change = np.ones(a.shape)
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + term * d
            c = 1 + term / c
            c = np.where(np.abs(c) < tiny, tiny, c)
            d = 1 / np.where(np.abs(d) < tiny, tiny, d)
            change = d * c
            fraction = fraction * change
        if (np.abs(change - 1) < 1e-15).all():
            break
    with np.errstate(divide="ignore"):
        logs = a * np.log(x) + b * np.log1p(-x)
    front = np.exp(logs + _log_gamma(a + b) - _log_gamma(a) - _log_gamma(b)) / a
    share: NDArray[np.float64] = np.where(swapped, 1 - front * fraction, front * fraction)
    return np.clip(share, 0.0, 1.0)


def _beta_quantile(a: ArrayLike, b: ArrayLike, share: float) -> NDArray[np.float64]:
    """Return the quantile of the beta distribution, by Newton's method within a bracket."""
    a, b = np.broadcast_arrays(floats(a), floats(b))
    low, high = np.zeros(a.shape), np.ones(a.shape)
    logs = _log_gamma(a + b) - _log_gamma(a) - _log_gamma(b)
    x: NDArray[np.float64] = a / (a + b)
    for _ in range(100):
        excess = _beta_cdf(a, b, x) - share
        low, high = np.where(excess < 0, x, low), np.where(excess < 0, high, x)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            density = np.exp(logs + (a - 1) * np.log(x) + (b - 1) * np.log1p(-x))
            next_x = x - excess / density
        inside = (next_x > low) & (next_x < high)
        next_x = np.where(inside, next_x, (low + high) / 2)
        if (np.abs(next_x - x) <= 1e-14 * x).all():
            break
        x = next_x
    return x


def t_quantile(level: float, freedom: int) -> float:
    """Return what the absolute value of Student's t exceeds with a probability of `level`.

    Examples
    --------
    >>> round(t_quantile(0.05, 10), 4)
    2.2281
    """
    share = float(_beta_quantile(freedom / 2, 0.5, level))
    return math.sqrt(freedom * (1 - share) / share)


def binomial_interval(
    hits: ArrayLike, n: int, confidence: float = 1 - ALPHA
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the exact interval of a share of which `hits` of `n` examples are known [1]_.

    References
    ----------
    .. [1] Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of
       the binomial", Biometrika 26, 1934.

    Examples
    --------
    >>> low, high = binomial_interval(93, 100)
    >>> round(float(low), 4), round(float(high), 4)
    (0.8611, 0.9714)
    """
    hits = floats(hits)
    tail = (1 - confidence) / 2
    low = _beta_quantile(np.maximum(hits, 1), n - hits + 1, tail)
    high = _beta_quantile(hits + 1, np.maximum(n - hits, 1), 1 - tail)
    return np.where(hits == 0, 0.0, low), np.where(hits == n, 1.0, high)


def median_interval(values: ArrayLike, confidence: float = 1 - ALPHA) -> tuple[float, float]:
    """Return the interval of a median, whatever the distribution of the values [1]_.

    The ends are order statistics: the number of values below the true median has a binomial
    distribution. They are NaN if even the range has less confidence: for fewer than six values if
    this is 95 %.

    References
    ----------
    .. [1] Thompson, "On confidence ranges for the median and other expectation distributions for
       populations of unknown distribution form", Ann. Math. Stat. 7, 1936.

    Examples
    --------
    >>> median_interval(range(1, 11))
    (2.0, 9.0)
    """
    numbers = floats(values)
    n, tail = len(numbers), (1 - confidence) / 2
    # The largest rank of which the probability that fewer values are below is at most the tail.
    if n > 1000:  # the normal approximation is exact to less than one rank
        rank = int((n - NormalDist().inv_cdf(1 - tail) * math.sqrt(n)) / 2)
    else:
        rank, below, term = 0, 0.0, 0.5**n
        while below + term <= tail:
            below += term
            term *= (n - rank) / (rank + 1)
            rank += 1
    if rank == 0:
        return math.nan, math.nan
    ordered = np.partition(numbers, (rank - 1, n - rank))
    return float(ordered[rank - 1]), float(ordered[n - rank])


def binomial_tail(hits: ArrayLike, n: int, share: float) -> NDArray[np.float64]:
    """Return the probability of at least `hits` of `n` if each has the probability `share`.

    Examples
    --------
    >>> round(float(binomial_tail(5, 5, 0.6)), 5)
    0.07776
    """
    given = floats(hits)
    # A million runs with the same test data have few different numbers of hits.
    hits, place = np.unique(given, return_inverse=True)
    tail: NDArray[np.float64] = np.where(
        hits <= 0, 1.0, _beta_cdf(np.maximum(hits, 1), n - np.minimum(hits, n) + 1, share)
    )
    return tail[place].reshape(given.shape)


def fisher_tail(hits: ArrayLike, n: int, others: ArrayLike, n_others: int) -> NDArray[np.float64]:
    """Return the p-value of Fisher's exact test [1]_ that the share of `others` is smaller.

    Parameters
    ----------
    hits, others : array_like of int
        Numbers of hits among `n` and among `n_others` examples.

    References
    ----------
    .. [1] Fisher, "The logic of inductive inference", J. R. Stat. Soc. 98, 1935.

    Examples
    --------
    >>> round(float(fisher_tail(10, 10, 5, 10)), 5)
    0.01625
    """
    # As in `binomial_tail`: few different pairs, each of which is one number.
    pairs = floats(hits) * (n_others + 1) + floats(others)
    unique, place = np.unique(pairs, return_inverse=True)
    hits, others = np.divmod(unique, n_others + 1)
    both = hits + others
    logs = _log_binomial(both, others) + _log_binomial(n + n_others - both, n_others - others)
    term = np.exp(logs - _log_binomial(floats(n + n_others), floats(n_others)))
    total, count = term.copy(), others.copy()
    while (term > 1e-17 * total).any():
        # The probability of one hit fewer among the others.
        term = term * count / (both - count + 1) * (n - both + count) / (n_others - count + 1)
        term, count = np.maximum(term, 0.0), count - 1
        total = total + term
    return np.minimum(total, 1.0)[place].reshape(pairs.shape)


def _log_binomial(n: NDArray[np.float64], k: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = _log_gamma(n + 1) - _log_gamma(k + 1) - _log_gamma(n - k + 1)
    return found


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return p-values corrected for the number of tests, along the last axis [1]_.

    The probability that any claim at a level is wrong is at most that level, whatever the tests
    depend on.

    References
    ----------
    .. [1] Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6, 1979.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, axis=-1, kind="stable")
    ordered = np.take_along_axis(p, order, axis=-1) * np.arange(p.shape[-1], 0, -1)
    corrected = np.empty_like(p)
    raised = np.minimum(np.maximum.accumulate(ordered, axis=-1), 1.0)
    np.put_along_axis(corrected, order, raised, axis=-1)
    return corrected


def t_tail(
    difference: NDArray[np.float64], error: NDArray[np.float64], freedom: int
) -> NDArray[np.float64]:
    """Return the probability of a larger difference, by Student's t distribution."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        t = difference / error
        share = _beta_cdf(freedom / 2, 0.5, np.nan_to_num(freedom / (freedom + t * t), nan=1.0)) / 2
    tail = np.where(t > 0, share, 1 - share)
    return np.where(np.isnan(t), 1.0, tail)
