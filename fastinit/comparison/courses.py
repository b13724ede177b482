"""Courses: how the cost of a training ended, judged by its curve, the gradient and a search."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.comparison.local_search import Objective, dots, lowest_costs
from fastinit.comparison.statistics import floats
from fastinit.training.network import Array, Network

COURSES = (
    "not trained",
    "too early to tell",
    "falling",
    "rising",
    "oscillating",
    "plateau",
    "stationary",
    "converged",
    "diverged",
    "undefined",
)
CODES = {name: np.int8(code) for code, name in enumerate(COURSES)}
# Why a run ended, the codes of the column "stopped".
STOPPED = ("iterations", "divergence", "tol", "callback")

# A cost is level if it changes by less than this share when the iterations grow tenfold, and a run
# has converged if no lower cost than by this share is found near its end.
LEVEL = 0.01
# A cost that changes by less than this share when the iterations grow tenfold is on a plateau if a
# lower cost is found near its end. A constant rate of this size is 0.5 % in the last tenth.
SLOW = 0.1
# Costs below this share of the cost of a constant output are zero for the purpose of convergence.
NEGLIGIBLE = 1e-6
# A converged network without hidden layers may have a cost above that of a constant output by this
# share.
ABOVE_CONSTANT = 1e-3
# A gradient is small if the cost would fall by less than this share along it, over the length of
# theta, and tiny if by less than the next. Curves that are not level need a tiny one.
FLAT = 0.02
TINY = 2e-3
# A gradient is zero if the cost would fall by less than this share of that of a constant output, in
# units of the rounding error of the dtype. A larger one escapes from a saddle point in time.
ROUNDING = 100
# A cost has left its start if it fell by this share of it, and that of a constant output likewise.
LEFT = 0.02
# With fewer iterations, the course is not judged: its tenths would be single costs.
FEWEST = 20
# Evaluations of the gradient in the search for a lower cost: at most this number and a quarter of
# the passes over the data in the training, or half of them in a short one.
PROBES = 200
FEW_PROBES = 20
# With fewer, no search is made: it would find nothing.
FEWEST_PROBES = 4
# In a shorter search than this, a smaller fall of the cost counts, in proportion to its length.
LONG = 60
# The means of the cost over these windows, shares of the iterations, are compared: from the end on.
_WINDOWS = ((0.9, 1.0), (0.8, 0.9), (0.55, 0.65), (0.25, 0.35))


class Constant(NamedTuple):
    """Costs that no network needs to be trained for."""

    cost: float  # of the best constant output
    lowest: float  # of the outputs that equal the labels: 0, but for counts


def constant_costs(
    network: Network,
    Y: Array,
    sample_weight: Array | None = None,
) -> Constant:
    """Return the cost of the best constant output, and the lowest possible cost.

    Parameters
    ----------
    network : Network
    Y : ndarray of shape (n_outputs, n_examples)
        Labels as :meth:`Network.check_Y` returns them.
    sample_weight : ndarray of shape (n_examples,), optional
        Weights of the examples of `Y`.

    Returns
    -------
    Constant
        A named tuple ``(cost, lowest)``.

    Examples
    --------
    >>> import fastinit as fi
    >>> net = fi.Network([1, 1], output="identity")
    >>> constant_costs(net, np.array([[0.0, 2.0]]))
    Constant(cost=0.5, lowest=0.0)
    """
    labels = np.asarray(Y, dtype=np.float64)
    weights = np.ones(labels.shape[1]) if sample_weight is None else floats(sample_weight)
    weights = weights / weights.sum()
    output = labels @ weights
    if network.output == "identity":
        return Constant(float(np.square(labels - output[:, None]).sum(axis=0) @ weights) / 2, 0.0)
    if network.output == "exponential":
        lowest = float((labels - _times_log(labels, labels)).sum(axis=0) @ weights)
        return Constant(float((output - _times_log(output, output)).sum()), lowest)
    cost = -_times_log(output, output).sum()
    if network.output == "sigmoid":
        cost -= _times_log(1 - output, 1 - output).sum()
    return Constant(max(float(cost), 0.0), 0.0)


def _times_log(factor: Array, number: Array) -> Array:
    """Return ``factor * log(number)``, zero where the factor is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        product: Array = np.where(factor == 0, 0.0, factor * np.log(number))
    return product


def judge_courses(
    network: Network,
    thetas: Array,
    X: Array,
    Y: Array,
    points: NDArray[np.intp],
    costs: NDArray[np.float64],
    *,
    iterations: ArrayLike,
    passes: ArrayLike | None = None,
    diverged_at: ArrayLike = -1,
    l2: ArrayLike = 0.0,
    sample_weight: Array | None = None,
    stop: Callable[[], bool] | None = None,
) -> dict[str, NDArray[Any]]:
    r"""Return the course of the cost of each run of a stack.

    The course is judged by the curve of the costs at several scales of the number of iterations, by
    the gradient at the end, and, where the curve is level, by a search for a lower cost near the
    end. The rules are tried in this order:

    ================== ==========================================================================
    course             rule
    ================== ==========================================================================
    diverged           `diverged_at` is not negative
    not trained        no iterations
    undefined          the cost at the end, or of the last tenth, is NaN or infinite
    converged          the cost exceeds the lowest possible cost by less than ``NEGLIGIBLE``
                       (1e-6) of what a constant output does; or the gradient is small and the cost
                       level, or the gradient tiny, no cost lower by ``LEVEL`` (1 %) is found near
                       the end, and a network with biases is better than a constant output by
                       ``LEFT`` (2 %), or at least not worse if it has no hidden layers
    too early to tell  fewer than ``FEWEST`` (20) iterations, or fewer costs than windows
    stationary         the cost is level and the gradient zero up to ``ROUNDING`` (100) rounding
                       errors, but a lower cost is found near the end, or the cost is that of a
                       constant output
    too early to tell  as for a plateau, but the cost is at most ``LEFT`` (2 %) below its start
    plateau            the cost changes by less than ``SLOW`` (10 %) in ten times the iterations,
                       but a cost lower by 1 % is found near the end; or it is level at the cost of
                       a constant output
    falling, rising    the cost of the last tenth, or of the last half, differs from that before by
                       more than three times its standard error
    oscillating        otherwise
    ================== ==========================================================================

    Parameters
    ----------
    network : Network
    thetas : ndarray of shape (k, n_parameters), the network's dtype
        The parameters at the end.
    X, Y : ndarray
        The training data, as :meth:`Network.check_X` and :meth:`Network.check_Y` return them.
    points : ndarray of shape (n_points,), intp
        The iterations of `costs`, increasing from 0.
    costs : ndarray of shape (k, n_points), float64
        Training costs without penalties, of full batches or of mini-batches. Entries from the end
        of a run on are ignored.
    iterations : int or array_like of shape (k,)
        Number of completed iterations.
    passes : int or array_like of shape (k,), optional
        Number of passes over the training data, which limits the search; `iterations` by default.
    diverged_at : int or array_like of shape (k,), default -1
        The iteration of the divergence; negative for none.
    l2 : float or array_like of shape (k,), default 0
        Coefficient of the penalty of the optimiser, ``l2 / 2 * sum(W ** 2)``.
    sample_weight : ndarray of shape (n_examples,), optional
        Weights of the examples in the training.
    stop : callable, optional
        Called about every 0.1 s; a true value stops the judgement.

    Returns
    -------
    dict of str to ndarray of shape (k,)
        ``course``, int8, the place of the course in ``COURSES``; ``change``, float64, the mean cost
        of the last tenth of the iterations relative to that of the tenth before, minus 1, NaN if
        there is none; ``gradient_norm``, float64, the Euclidean norm of the gradient of the
        training cost at the end, with the penalty.

    Raises
    ------
    fastinit.comparison.local_search.StoppedError
        If `stop` returned a true value.

    Notes
    -----
    A curve is compared in the logarithm of the number of iterations: an exponential decay becomes
    level in it, and a power law does not. Costs are measured from the lowest possible cost, which
    is not zero for counts. The noise of mini-batches is estimated from the second differences of
    the costs in the second half, and slow oscillations from ten parts of the last fifth. A change
    counts where it exceeds three standard errors, because few costs give the error itself with an
    error. Noise may hide a slow change: "oscillating" says that no trend can be shown.

    The gradient is small or tiny if the cost would fall by less than ``FLAT`` (2 %) or ``TINY``
    (0.2 %) along it, over the length of theta, if the slope did not change.

    The search is limited-memory BFGS [1]_ with backtracking. At a saddle point the gradient is
    zero. Where it is tiny, the search starts along the direction of the most negative curvature, by
    the method of Lanczos [2]_, and elsewhere from parameters that are disturbed by 0.1 %. It takes
    a quarter of the `passes` over the data in the training, at most ``PROBES`` (200); of fewer than
    80, it takes a half, at most ``FEW_PROBES`` (20). A search of fewer than ``LONG`` (60) has found
    a lower cost if it is lower by 1 % times their share of 60. Below ``FEWEST_PROBES`` (4) there is
    none, and "converged" requires a network without hidden layers, whose cost is convex. The curve
    alone cannot tell a plateau from a minimum.

    References
    ----------
    .. [1] Liu and Nocedal, "On the limited memory BFGS method for large scale optimization",
       Math. Program. 45, 1989.
    .. [2] Lanczos, "An iteration method for the solution of the eigenvalue problem of linear
       differential and integral operators", J. Res. Natl. Bur. Stand. 45, 1950.

    Examples
    --------
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> net = fi.Network([2, 10, 5, 1])
    >>> run = fi.train(net, net.initialize("lesson.he", seed=3), X, Y, iterations=1000)
    >>> found = judge_courses(
    ...     net, run.theta[None], X, Y, np.arange(1000), run.costs[None], iterations=1000
    ... )
    >>> COURSES[found["course"][0]]
    'plateau'
    """
    k = len(thetas)
    X = network.check_X(X)
    Y = network.check_Y(Y, X)
    done = np.broadcast_to(np.asarray(iterations, dtype=np.int64), (k,))
    diverged = np.broadcast_to(np.asarray(diverged_at, dtype=np.int64), (k,)) >= 0
    seen = done if passes is None else np.broadcast_to(np.asarray(passes, dtype=np.int64), (k,))
    budget = np.minimum(PROBES, np.maximum(seen // 4, np.minimum(seen // 2, FEW_PROBES)))
    objective = Objective(network, X, Y, sample_weight, l2, k, stop)
    with np.errstate(over="ignore", invalid="ignore"):
        cost, penalized, gradients = objective(thetas, np.arange(k))
        norms = np.sqrt(dots(gradients, gradients))
        lengths = np.linalg.norm(thetas.astype(np.float64), axis=1)
    constant = constant_costs(network, Y, sample_weight)
    means, errors, recorded = _window_means(points, costs, done)
    few = (done < FEWEST) | ~recorded
    excess = cost - constant.lowest
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        change = (means[:, 0] - means[:, 1]) / np.abs(means[:, 1])
        start = costs[:, 0] - constant.lowest if costs.shape[1] else np.full(k, np.nan)
        scales = _scales(Y, constant, start)
        unit = excess + NEGLIGIBLE / LEVEL * scales
        centers = np.log10([(low + high) / 2 for low, high in _WINDOWS])
        # Falls in ten times the iterations, at three scales, and their errors; shares of the cost.
        decades = (centers[0] - centers[1:]) * unit[:, None]
        falls = (means[:, 1:] - means[:, :1]) / decades
        errors = 2 * np.hypot(errors[:, 1:], errors[:, :1]) / decades
        sizes = np.abs(falls)
        level, slow = (
            (sizes[:, :2] <= share + errors[:, :2]).all(axis=1)
            # A noisy curve is level only if the noise is smaller than the share at some scale.
            & (sizes[:, 1:] + errors[:, 1:] <= share).any(axis=1)
            for share in (LEVEL, SLOW)
        )
        # Two standard errors would be too few of those that are known from few costs.
        trend = np.where(sizes[:, :2] > 1.5 * errors[:, :2], falls[:, :2], 0.0)
        way = np.where(trend[:, 0] != 0, trend[:, 0], trend[:, 1])
        left = ~(start - excess <= LEFT * start)
    defined = np.isfinite(cost) & np.isfinite(norms) & (np.isfinite(means[:, 0]) | few)
    trained = (done > 0) & ~diverged & defined
    zero = excess <= NEGLIGIBLE * scales
    # The fall along the gradient, over the length of theta, if its slope did not change.
    steep = norms * (lengths + 0.1 * math.sqrt(network.n_parameters))
    flat = steep <= FLAT * unit
    still = level & (steep <= ROUNDING * np.finfo(network.dtype).eps * scales)
    # Without hidden layers, the cost of a constant output may be the minimum, and without biases
    # the network may not have it.
    margin = LEFT if network.n_layers > 1 else -ABOVE_CONSTANT
    blocked = network.bias & (excess >= (1 - margin) * scales)
    # Where the training ended before the curve became level, the gradient has to be tiny.
    tiny = steep <= TINY * unit
    settled = flat & (level | tiny)
    # The cost of a network without hidden layers has no other stationary points than minima.
    convex = network.n_layers == 1
    searched = trained & ~zero & (settled | (slow & ~few)) & ~(still & blocked)
    searched &= budget >= FEWEST_PROBES
    gains = np.zeros(k)
    rows = np.flatnonzero(searched)
    lowest = lowest_costs(
        objective,
        thetas[rows],
        penalized[rows],
        gradients[rows],
        rows,
        enough=penalized[rows] - 1.01 * LEVEL * unit[rows],
        saddle=tiny[rows],
        evaluations=budget[rows],
    )
    gains[rows] = (penalized[rows] - lowest) / unit[rows]
    lower = gains > LEVEL * np.minimum(1.0, budget / LONG)
    # The first condition that holds decides.
    conditions = [
        ("diverged", diverged),
        ("not trained", done <= 0),
        ("undefined", ~trained),
        (
            "converged",
            zero | (settled & (searched | (convex & tiny & trained)) & ~lower & ~blocked),
        ),
        ("too early to tell", few),
        ("stationary", still & (lower | blocked)),
        ("too early to tell", slow & lower & ~left),
        ("plateau", slow & (lower | (blocked & level))),
        ("falling", way > 0),
        ("rising", way < 0),
    ]
    courses = np.select(
        [here for _, here in conditions],
        [CODES[name] for name, _ in conditions],
        CODES["oscillating"],
    )
    return {
        "course": courses.astype(np.int8),
        "change": np.where(np.isfinite(change), change, np.nan),
        "gradient_norm": norms,
    }


def _scales(Y: Array, constant: Constant, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cost that counts as large for each run: that of a constant output.

    If the labels are all equal, a constant output fits them, and only their size is known. The cost
    at the start may be of any size: it is not a measure of what can be learned.
    """
    scale = constant.cost - constant.lowest
    labels = np.asarray(Y, dtype=np.float64)
    size = float(np.square(labels).sum(axis=0).mean()) / 2
    # The rounding of the mean of equal labels is not a difference between them.
    if np.ptp(labels, axis=1).any() and scale > 1e-28 * size:
        return np.full(len(start), scale)
    return np.where(np.isfinite(start), np.minimum(start, size if size > 0 else 1.0), 1.0)


def _window_means(
    points: NDArray[np.intp], costs: NDArray[np.float64], iterations: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return the mean cost of each window of each run and its standard error, (k, n_windows).

    NaN for windows without a cost. The third array tells whether each window has one, (k,). The
    error is zero for smooth curves: a parabola has constant second differences, and those of
    independent noise have six times its variance.
    """
    means = np.full((len(costs), len(_WINDOWS)), np.nan)
    errors = np.zeros(means.shape)
    recorded = np.zeros(len(costs), dtype=np.bool_)
    for n in np.unique(iterations):
        rows = iterations == n
        own = costs[rows]
        edges = np.searchsorted(points, np.ceil(np.array(_WINDOWS) * n - 1e-9))
        recorded[rows] = (edges[:, 1] > edges[:, 0]).all()
        # The median is not affected by the last point, whose distance may be different.
        kept = own[:, np.searchsorted(points, n // 2) : np.searchsorted(points, n)]
        noise = np.zeros(len(own))
        with np.errstate(invalid="ignore", over="ignore"):
            second = np.abs(np.diff(kept, 2, axis=1))
            if second.shape[1]:
                noise = np.median(second, axis=1) / (0.6745 * math.sqrt(6))
            slow = _slow_noise(points, own, int(n))
            for place, (first, last) in enumerate(edges):
                if last > first:
                    means[rows, place] = own[:, first:last].mean(axis=1)
                    errors[rows, place] = np.fmax(noise / math.sqrt(last - first), slow)
    return means, errors, recorded


def _slow_noise(
    points: NDArray[np.intp], costs: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Return the standard error of the mean of a tenth, from ten parts of the last fifth.

    Oscillations over many iterations do not average out as independent noise does. A straight line
    is subtracted, because it is the change that is to be found. So is a change that has the same
    sign in all parts, such as exponential growth. Of few costs, the parts are those of the last
    half, of one cost each if there are fewer than ten.
    """
    for length in (0.2, 0.5):
        edges = np.searchsorted(points, np.ceil(n * np.linspace(1 - length, 1.0, 11) - 1e-9))
        if (np.diff(edges) > 0).all():
            break
    edges = np.unique(edges)
    k = len(edges) - 1
    if k < 4:
        return np.zeros(len(costs))
    parts = np.stack([costs[:, first:last].mean(axis=1) for first, last in pairwise(edges)], axis=1)
    changes = np.diff(parts, axis=1)
    monotone = (changes > 0).all(axis=1) | (changes < 0).all(axis=1)
    line = np.arange(k) - (k - 1) / 2
    parts -= parts.mean(axis=1, keepdims=True)
    parts -= (parts @ line)[:, None] * line / (line @ line)
    in_a_tenth = max(k * 0.1 / length, 1.0)
    errors: NDArray[np.float64] = np.sqrt(np.square(parts).sum(axis=1) / (k - 2) / in_a_tenth)
    return np.where(monotone, 0.0, errors)
