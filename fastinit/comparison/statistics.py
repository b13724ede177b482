"""Rules computed from the numbers of runs: quantiles, courses of trainings, exact tests, verdicts.

Every rule is a pure function of arrays. Its docstring has the rule and its source.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.training.network import Array, Network

QUARTILES = (0.25, 0.5, 0.75)
# An activation is saturated when its derivative is below this share of the largest derivative of
# the function; a sigmoid is saturated below 0.0025 and above 0.9975.
SATURATED = 0.01
# A smaller share of saturated outputs is not worth a sentence.
FEW_SATURATED = 0.1


# --- statistics over runs -------------------------------------------------------------------------


def _floats(values: ArrayLike) -> NDArray[np.float64]:
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
    ordered = np.sort(np.where(np.isnan(numbers), np.inf, numbers), axis=0)
    found = []
    for share in shares:
        rank, rest = divmod(share * (len(ordered) - 1), 1)
        below, above = ordered[int(rank)], ordered[min(int(rank) + 1, len(ordered) - 1)]
        # Interpolation between equal numbers would round.
        between = below if rest == 0 else (1 - rest) * below + rest * above
        found.append(np.where(below == above, below, between))
    return np.array(found)


def quantile(values: ArrayLike, share: float) -> float:
    """Return one quantile of numbers; NaN counts as infinite."""
    return float(quantiles(values, [share])[0])


def median_iterations(iterations: ArrayLike) -> float:
    """Return the median, rounded to an integer if it is finite; negative ones are infinite."""
    numbers = np.asarray(iterations)
    median = quantile(np.where(numbers < 0, np.inf, numbers), 0.5)
    return round(median) if math.isfinite(median) else median


def share_in_words(flags: Sequence[bool] | NDArray[np.bool_]) -> str:
    """Return how many runs have a flag set.

    Examples
    --------
    >>> share_in_words([True, False, True]), share_in_words([True, True])
    ('2 of 3 runs', 'all runs')
    """
    n = np.count_nonzero(flags)
    return "all runs" if n == len(flags) else f"{n:,} of {len(flags):,} runs"


# --- facts about runs -----------------------------------------------------------------------------


def symmetric_layers(network: Network, thetas: Array) -> NDArray[np.bool_]:
    """Return whether all units of each hidden layer are identical, of shape (k, n_layers - 1).

    False for layers of one unit.
    """
    parameters = network.unpack(thetas)
    identical = np.tile(np.array(network.sizes[1:-1], dtype=np.intp) > 1, (len(thetas), 1))
    for name, rows in parameters.items():
        layer = int(name[1:])
        if layer < network.n_layers:
            identical[:, layer - 1] &= (rows[:, :1] == rows).all(axis=(1, 2))
    return identical


def majority(network: Network, Y: Array) -> int:
    """Return how many predictions are correct if each is the most frequent class of its output."""
    if network.output == "softmax":
        return int(np.bincount(Y.argmax(axis=0)).max())
    ones = np.count_nonzero(Y, axis=1)
    return int(np.maximum(ones, Y.shape[1] - ones).sum())


def symmetry_in_words(layers: NDArray[np.bool_]) -> list[str]:
    """Return a sentence about the layers whose units are identical, or an empty list."""
    if not layers.any():
        return []
    return [f"symmetry unbroken: the units of {layers_in_words(layers)} are still identical"]


def layers_in_words(chosen: NDArray[np.bool_]) -> str:
    """Return the numbers of the chosen layers, from 1 on.

    Examples
    --------
    >>> layers_in_words(np.array([True, True, False, True]))
    'layers 1, 2 and 4'
    >>> layers_in_words(np.array([False, True, True, True]))
    'layers 2 to 4'
    """
    numbers = [i for i, yes in enumerate(chosen, start=1) if yes]
    if len(numbers) == 1:
        return f"layer {numbers[0]}"
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"layers {numbers[0]} to {numbers[-1]}"
    return f"layers {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def saturated_shares(network: Network, starts: Array, X: Array) -> NDArray[np.float64]:
    """Return the share of saturated outputs of each network; 0 for outputs other than sigmoid."""
    if network.output != "sigmoid":
        return np.zeros(len(starts))
    outputs = network.predict_proba(starts, X)
    shares: NDArray[np.float64] = (4 * outputs * (1 - outputs) < SATURATED).mean(axis=(1, 2))
    return shares


def saturation_in_words(share: float) -> list[str]:
    """Return a sentence about saturated outputs, or an empty list if less than a tenth is."""
    return [f"{share:.0%} of outputs saturated at the start"] if share >= FEW_SATURATED else []


# --- the course of a training ---------------------------------------------------------------------

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
_CODES = {name: np.int8(code) for code, name in enumerate(COURSES)}
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
# The cost of a network without hidden layers may exceed that of a constant output by this share.
UNUSED = 1e-3
# A gradient is small if the cost would fall by less than this share along it, over the length of
# theta, and tiny if by less than the next. Curves that are not level need a tiny one.
FLAT = 0.02
TINY = 2e-3
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
# A shorter search than this has to find nothing but a smaller fall, in proportion.
LONG = 60
# Evaluations for the direction of the most negative curvature, where the gradient is tiny.
_LANCZOS = 8
_HISTORY = 5
# Numbers in memory during the search: 32 MB of float64.
_PROBE_NUMBERS = 1 << 22
# The means of the cost over these shares of the iterations are compared. The last is first.
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
    weights = np.ones(labels.shape[1]) if sample_weight is None else _floats(sample_weight)
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
    stationary         the cost is level and the gradient zero up to rounding, but a lower cost is
                       found near the end, or the cost is that of a constant output
    too early to tell  as for a plateau, but the cost is at most ``LEFT`` (2 %) below its start
    plateau            the cost changes by less than ``SLOW`` (10 %) in ten times the iterations,
                       but a cost lower by 1 % is found near the end; or it is level at the cost of
                       a constant output
    falling, rising    the cost of the last tenth, or of the last half, differs from that before by
                       more than twice its standard error
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

    Returns
    -------
    dict of str to ndarray of shape (k,)
        ``course``, int8, the place of the course in ``COURSES``; ``change``, float64, the mean cost
        of the last tenth of the iterations relative to that of the tenth before, minus 1, NaN if
        there is none; ``gradient_norm``, float64, the Euclidean norm of the gradient of the
        training cost at the end, with the penalty.

    Notes
    -----
    A curve is compared in the logarithm of the number of iterations: an exponential decay becomes
    level in it, and a power law does not. Costs are measured from the lowest possible cost, which
    is not zero for counts. The noise of mini-batches is estimated from the second differences of
    the costs in the second half, and slow oscillations from ten parts of the last fifth. A change
    counts where it exceeds two standard errors. Noise may hide a slow change: "oscillating" says
    that no trend can be shown.

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
    objective = _Objective(network, X, Y, sample_weight, l2, k)
    with np.errstate(over="ignore", invalid="ignore"):
        cost, penalized, gradients = objective(thetas, np.arange(k))
        norms = np.sqrt(_dots(gradients, gradients))
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
        trend = np.where(sizes[:, :2] > errors[:, :2], falls[:, :2], 0.0)
        way = np.where(trend[:, 0] != 0, trend[:, 0], trend[:, 1])
        left = ~(start - excess <= LEFT * start)
    defined = np.isfinite(cost) & np.isfinite(norms) & (np.isfinite(means[:, 0]) | few)
    trained = (done > 0) & ~diverged & defined
    zero = excess <= NEGLIGIBLE * scales
    # The fall along the gradient, over the length of theta, if its slope did not change.
    steep = norms * (lengths + 0.1 * math.sqrt(network.n_parameters))
    flat = steep <= FLAT * unit
    still = level & (steep <= 1e-5 * scales)
    # Without hidden layers, the cost of a constant output may be the minimum, and without biases
    # the network may not have it.
    margin = LEFT if network.n_layers > 1 else -UNUSED
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
    size = max(1, _PROBE_NUMBERS // (2 * _HISTORY * network.n_parameters))
    for place in range(0, len(rows), size):
        part = rows[place : place + size]
        enough = penalized[part] - 1.01 * LEVEL * unit[part]
        saddle = tiny[part] & (budget[part] > _LANCZOS + 2)
        starts = _starts(objective, thetas[part], gradients[part], part, saddle)
        most = budget[part] - np.where(saddle, _LANCZOS + 2, 0)
        lowest = _probe(objective, starts, penalized[part], enough, part, most)
        gains[part] = (penalized[part] - lowest) / unit[part]
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
        [_CODES[name] for name, _ in conditions],
        _CODES["oscillating"],
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


class _Objective:
    """The cost of a stack with and without the penalty, and the gradient with it."""

    def __init__(
        self, network: Network, X: Array, Y: Array, weight: Array | None, l2: ArrayLike, k: int
    ) -> None:
        self.network, self.X, self.Y, self.weight = network, X, Y, weight
        self.l2 = np.broadcast_to(np.asarray(l2, dtype=np.float64), (k,))

    def __call__(
        self, thetas: Array, rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return costs, penalised costs and gradients of some rows of the stack."""
        costs, gradients = self.network.loss_and_gradient(
            thetas, self.X, self.Y, sample_weight=self.weight
        )
        gradients = gradients.astype(np.float64)
        l2, penalized = self.l2[rows], costs
        if l2.any():
            weights = np.where(self.network._is_weight, thetas, 0).astype(np.float64)
            gradients += l2[:, None] * weights
            penalized = costs + l2 / 2 * np.square(weights).sum(axis=1)
        return costs, penalized, gradients


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
    sign in all parts, such as exponential growth.
    """
    edges = np.searchsorted(points, np.ceil(n * np.linspace(0.8, 1.0, 11) - 1e-9))
    if (np.diff(edges) == 0).any():
        return np.zeros(len(costs))
    parts = np.stack([costs[:, first:last].mean(axis=1) for first, last in pairwise(edges)], axis=1)
    changes = np.diff(parts, axis=1)
    monotone = (changes > 0).all(axis=1) | (changes < 0).all(axis=1)
    line = np.arange(10) - 4.5
    parts -= parts.mean(axis=1, keepdims=True)
    parts -= (parts @ line)[:, None] * line / (line @ line)
    errors: NDArray[np.float64] = np.sqrt(np.square(parts).sum(axis=1) / 8 / 5)
    return np.where(monotone, 0.0, errors)


def _starts(
    objective: _Objective,
    thetas: Array,
    gradients: NDArray[np.float64],
    rows: NDArray[np.intp],
    saddle: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return where the search for a lower cost starts, near each theta.

    Where ``saddle`` is set, it is a tenth of the length of theta along the direction of the most
    negative curvature, if there is one, to the side of the lower cost. Elsewhere it is disturbed.
    """
    n = thetas.shape[1]
    dtype = objective.network.dtype
    x = thetas.astype(np.float64)
    size = np.sqrt(np.square(x).mean(axis=1)) + 0.1
    noise = np.random.default_rng(0).standard_normal(n)
    starts: NDArray[np.float64] = x + 1e-3 * size[:, None] * noise
    own = np.flatnonzero(saddle)
    if not len(own):
        return starts
    x, rows, lengths = x[own], rows[own], (size[own] * math.sqrt(n))[:, None]
    # The method of Lanczos, with differences of gradients and all vectors made orthogonal.
    step = 1e-3 if dtype == np.float32 else 1e-5
    steps = min(_LANCZOS, n)
    Q = np.zeros((len(own), steps, n))
    T = np.zeros((len(own), steps, steps))
    q = np.tile(noise / np.linalg.norm(noise), (len(own), 1))
    with np.errstate(all="ignore"):
        for i in range(steps):
            Q[:, i] = q
            near = (x + step * lengths * q).astype(dtype)
            product = (objective(near, rows)[2] - gradients[own]) / (step * lengths)
            T[:, i] = np.einsum("kin,kn->ki", Q, product)
            T[:, :, i] = T[:, i]
            for _ in range(2):
                product -= np.einsum("ki,kin->kn", np.einsum("kin,kn->ki", Q, product), Q)
            norm = np.sqrt(_dots(product, product))[:, None]
            q = np.where(norm > 1e-12 * np.abs(T[:, i, i])[:, None], product / norm, 0.0)
    usable: NDArray[np.bool_] = np.asarray(np.isfinite(T).all(axis=(1, 2)))
    curvatures, vectors = np.linalg.eigh(np.where(usable[:, None, None], T, 0.0))
    direction = np.einsum("ki,kin->kn", vectors[:, :, 0], Q)
    sides = [(x + sign * 0.1 * lengths * direction) for sign in (1.0, -1.0)]
    with np.errstate(all="ignore"):
        plus, minus = (objective(side.astype(dtype), rows)[1] for side in sides)
    better = np.where((plus <= minus)[:, None], *sides)
    down = np.flatnonzero(usable & (curvatures[:, 0] < 0) & np.isfinite(np.fmin(plus, minus)))
    starts[own[down]] = better[down]
    return starts


def _probe(
    objective: _Objective,
    starts: NDArray[np.float64],
    costs: NDArray[np.float64],
    enough: NDArray[np.float64],
    rows: NDArray[np.intp],
    evaluations: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the lowest penalised cost that a short search finds from each start.

    All runs are searched at once, each with its own step lengths and corrections, until their cost
    is below ``enough``, or for as many ``evaluations`` of the gradient.
    """
    k, n = starts.shape
    dtype = objective.network.dtype
    found = costs.copy()
    own = np.arange(k)  # the runs that are still searched
    x = starts.copy()
    size = np.sqrt(np.square(x).mean(axis=1)) + 0.1
    S, D = np.zeros((_HISTORY, k, n)), np.zeros((_HISTORY, k, n))
    inverse = np.zeros((_HISTORY, k))
    with np.errstate(all="ignore"):
        _, cost, g = objective(x.astype(dtype), rows)
        found = np.fmin(found, cost)
        length = 0.01 * size * math.sqrt(n) / np.maximum(np.sqrt(_dots(g, g)), 1e-300)
        step, direction = np.ones(k), -length[:, None] * g
        for done in range(1, int(evaluations.max()) + 1):
            trial = x + step[:, None] * direction
            _, reached, slopes = objective(trial.astype(dtype), rows[own])
            expected = 1e-4 * step * _dots(g, direction)
            taken = np.isfinite(slopes).all(axis=1) & (reached <= cost + expected)
            s, y = trial[taken] - x[taken], slopes[taken] - g[taken]
            x[taken], cost[taken], g[taken] = trial[taken], reached[taken], slopes[taken]
            found[own] = np.fmin(found[own], cost)
            step = np.where(taken, 1.0, 0.3 * step)
            sy, yy = _dots(s, y), _dots(y, y)
            curved = sy > 1e-8 * np.sqrt(_dots(s, s) * yy)
            # Without curvature along the step, a longer one is tried.
            length[taken] = np.where(curved, sy / yy, 2 * length[taken])
            kept = np.flatnonzero(taken)[curved]
            for corrections, newest in ((S, s[curved]), (D, y[curved]), (inverse, 1 / sy[curved])):
                corrections[:-1, kept] = corrections[1:, kept]
                corrections[-1, kept] = newest
            left = (found[own] >= enough[own]) & (evaluations[own] > done)
            if not left.any():
                break
            if bool((evaluations[own] == done).any()) or np.count_nonzero(left) < 0.8 * len(own):
                own, x, cost, g = own[left], x[left], cost[left], g[left]
                step, direction, length = step[left], direction[left], length[left]
                S, D, inverse, taken = S[:, left], D[:, left], inverse[:, left], taken[left]
            # A step that was not taken is shortened, in the same direction.
            moved = slice(None) if taken.all() else taken
            direction[moved] = -_two_loops(
                g[moved], S[:, moved], D[:, moved], inverse[:, moved], length[moved]
            )
            upward = _dots(direction, g) >= 0
            direction[upward] = -length[upward, None] * g[upward]
    return found


def _dots(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scalar product of each pair of rows."""
    products: NDArray[np.float64] = np.einsum("ij,ij->i", a, b)
    return products


def _two_loops(
    g: NDArray[np.float64],
    S: NDArray[np.float64],
    D: NDArray[np.float64],
    inverse: NDArray[np.float64],
    length: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the product of the inverse Hessian of limited-memory BFGS and each gradient."""
    q = g.copy()
    factors = np.zeros_like(inverse)
    for i in reversed(range(len(S))):
        factors[i] = inverse[i] * _dots(S[i], q)
        q -= factors[i][:, None] * D[i]
    q *= length[:, None]
    for i in range(len(S)):
        q += (factors[i] - inverse[i] * _dots(D[i], q))[:, None] * S[i]
    return q


# --- exact tests ----------------------------------------------------------------------------------

# Claims have this two-sided level, and intervals the confidence of the rest.
ALPHA = 0.05

_log_gamma = np.vectorize(math.lgamma, otypes=[np.float64])


def _beta_cdf(a: ArrayLike, b: ArrayLike, x: ArrayLike) -> NDArray[np.float64]:
    """Return the distribution function of the beta distribution at x.

    By the continued fraction of [1]_, section 6.4, for positive `a` and `b`.

    References
    ----------
    .. [1] Press, Teukolsky, Vetterling and Flannery, "Numerical Recipes", 3rd edition, 2007.
    """
    a, b, x = np.broadcast_arrays(_floats(a), _floats(b), _floats(x))
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
    a, b = np.broadcast_arrays(_floats(a), _floats(b))
    low, high = np.zeros(a.shape), np.ones(a.shape)
    logs = _log_gamma(a + b) - _log_gamma(a) - _log_gamma(b)
    x: NDArray[np.float64] = a / (a + b)
    for _ in range(100):
        excess = _beta_cdf(a, b, x) - share
        low, high = np.where(excess < 0, x, low), np.where(excess < 0, high, x)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            density = np.exp(logs + (a - 1) * np.log(x) + (b - 1) * np.log1p(-x))
            following = x - excess / density
        inside = (following > low) & (following < high)
        following = np.where(inside, following, (low + high) / 2)
        if (np.abs(following - x) <= 1e-14 * x).all():
            break
        x = following
    return x


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
    hits = _floats(hits)
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
    ordered = np.sort(_floats(values))
    n, tail = len(ordered), (1 - confidence) / 2
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
    return float(ordered[rank - 1]), float(ordered[n - rank])


@lru_cache(maxsize=1024)
def _cached_interval(hits: float, n: int) -> tuple[float, float]:
    """Return one interval: runs with the same test data have few different accuracies."""
    low, high = binomial_interval(hits, n)
    return float(low), float(high)


def binomial_tail(hits: ArrayLike, n: int, share: float) -> NDArray[np.float64]:
    """Return the probability of at least `hits` of `n` if each has the probability `share`.

    Examples
    --------
    >>> round(float(binomial_tail(5, 5, 0.6)), 5)
    0.07776
    """
    given = _floats(hits)
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
    pairs = np.stack(np.broadcast_arrays(_floats(hits), _floats(others)))
    # As in `binomial_tail`. A complex number has two parts.
    unique, place = np.unique(pairs[0] + 1j * pairs[1], return_inverse=True)
    hits, others = unique.real, unique.imag
    both = hits + others
    logs = _log_binomial(both, others) + _log_binomial(n + n_others - both, n_others - others)
    term = np.exp(logs - _log_binomial(_floats(n + n_others), _floats(n_others)))
    total, count = term.copy(), others.copy()
    while (term > 1e-17 * total).any():
        # The probability of one hit fewer among the others.
        term = term * count / (both - count + 1) * (n - both + count) / (n_others - count + 1)
        term, count = np.maximum(term, 0.0), count - 1
        total = total + term
    return np.minimum(total, 1.0)[place].reshape(pairs.shape[1:])


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


# --- verdicts -------------------------------------------------------------------------------------

# A difference between training and test accuracy below this is not called overfitting.
GAP = 0.05
# A ratio of test and training cost (without the lowest possible cost) below this is not either.
RATIO = 1.5
# A training accuracy from here on counts as memorised if the test accuracy is that of guessing.
MEMORISED = 0.99
# With fewer test examples, the standard error of their cost is not known well enough for a claim.
MIN_TEST = 10
# The order of the courses in the verdict on several runs, and what they are called there.
_ORDER = [_CODES[name] for name in ("converged", "falling", "plateau", "stationary")]
_ORDER += [code for code in _CODES.values() if code not in _ORDER]
_IN_RUNS = {
    "falling": "cost still falling",
    "rising": "cost rising",
    "oscillating": "cost oscillating",
    "plateau": "on a plateau",
    "undefined": "cost undefined",
}


@dataclass(frozen=True)
class Evidence:
    """What a verdict needs to know about the data beside the columns of a run.

    Attributes
    ----------
    output : str
        The output of the network.
    n_outputs, n_train, n_test : int
        Numbers of outputs and of examples; ``n_test`` is 0 without test data.
    train_chance, test_chance : float
        Accuracy of always guessing one class on the training and test data; NaN if the network does
        not classify or there are no such data. The class is the most frequent one of these same
        data: a network that always guesses the other class is no better than guessing either.
    train_constant, test_constant : float
        Cost of the best constant output of the training and of the test data. For squared errors
        and counts it is the mean of their labels. On the test data, no constant is better.
    train_lowest, test_lowest : float
        The lowest possible costs.
    """

    output: str
    n_outputs: int
    n_train: int
    n_test: int
    train_chance: float
    test_chance: float
    train_constant: float
    test_constant: float
    train_lowest: float
    test_lowest: float

    @property
    def classifies(self) -> bool:
        """Whether the scores are accuracies."""
        return self.output in ("sigmoid", "softmax")


def evidence_of(
    network: Network,
    Y: Array,
    test: tuple[Array, Array] | None = None,
    *,
    sample_weight: Array | None = None,
) -> Evidence:
    """Return what a verdict needs to know about the data.

    Parameters
    ----------
    network : Network
    Y : ndarray of shape (n_outputs, n_examples)
        The training labels as :meth:`Network.check_Y` returns them.
    test : tuple (X, Y), optional
        The test data, checked likewise.
    sample_weight : ndarray of shape (n_examples,), optional
        Weights of the training examples.

    Examples
    --------
    >>> import fastinit as fi
    >>> evidence = evidence_of(fi.Network([1, 1]), np.array([[0, 0, 0, 1]]))
    >>> evidence.train_chance, evidence.n_test
    (0.75, 0)
    """
    train = constant_costs(network, Y, sample_weight)
    labels = None if test is None else test[1]
    none = Constant(math.nan, math.nan)
    held = none if labels is None else constant_costs(network, labels)
    return Evidence(
        output=network.output,
        n_outputs=network.sizes[-1],
        n_train=Y.shape[1],
        n_test=0 if labels is None else labels.shape[1],
        train_chance=_chance(network, Y),
        test_chance=_chance(network, labels),
        train_constant=train.cost,
        test_constant=held.cost,
        train_lowest=train.lowest,
        test_lowest=held.lowest,
    )


def _chance(network: Network, Y: Array | None) -> float:
    if Y is None or not network.classifies:
        return math.nan
    return majority(network, Y) / (Y.shape[1] if network.output == "softmax" else Y.size)


def _hits(scores: ArrayLike, n: int, rounding: Callable[[Any], Any]) -> NDArray[np.float64]:
    """Return numbers of examples from accuracies; NaN counts as none.

    Several sigmoid outputs of one example are not independent. An example is then counted as one,
    and the sum of its correct shares is rounded to the unfavourable side.
    """
    exact = np.nan_to_num(_floats(scores)) * n
    whole = np.rint(exact)
    return np.where(np.abs(exact - whole) < 1e-6 * max(n, 1), whole, rounding(exact))


def _counted(columns: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the runs about whose predictions claims are made: trained, and not diverged."""
    done, diverged = np.asarray(columns["iterations"]), np.asarray(columns["diverged_at"])
    return np.atleast_1d((done > 0) & (diverged < 0))


def better_p_values(columns: Mapping[str, Any], evidence: Evidence) -> NDArray[np.float64]:
    """Return the p-value of each run for being better than a constant prediction.

    One-sided. For classifiers, that of the exact binomial test of the accuracy against always
    guessing one class, on the test data, or on the training data if there are none. If predictions
    are independent of the labels, the number of hits varies at most as much as a binomial one. For
    other outputs, that of a paired t statistic: the gain over the best constant output of the test
    data, whose R2 is 0, in standard errors of the gains of the examples; NaN without test data.

    Parameters
    ----------
    columns : mapping of str to array_like of shape (k,)
    evidence : Evidence

    Returns
    -------
    ndarray of shape (k,), float64
        1 for runs that diverged or were not trained.
    """
    counted = _counted(columns)
    if evidence.classifies:
        name, n, chance = ("test", evidence.n_test, evidence.test_chance)
        if not n:
            name, n, chance = ("train", evidence.n_train, evidence.train_chance)
        hits = _hits(np.atleast_1d(columns[f"{name}_score"]), n, np.floor)
        return np.where(counted, binomial_tail(hits, n, min(chance, 1.0)), 1.0)
    if evidence.n_test < 2:
        return np.full(len(counted), np.nan)
    cost = np.atleast_1d(_floats(columns["test_cost"]))
    error = np.atleast_1d(_floats(columns["test_gain_error"]))
    return np.where(
        counted, _t_tail(evidence.test_constant - cost, error, evidence.n_test - 1), 1.0
    )


def _t_tail(
    difference: NDArray[np.float64], error: NDArray[np.float64], freedom: int
) -> NDArray[np.float64]:
    """Return the probability of a larger difference, by Student's t distribution."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        t = difference / error
        share = _beta_cdf(freedom / 2, 0.5, np.nan_to_num(freedom / (freedom + t * t), nan=1.0)) / 2
    tail = np.where(t > 0, share, 1 - share)
    return np.where(np.isnan(t), 1.0, tail)


def overfitting_p_values(columns: Mapping[str, Any], evidence: Evidence) -> NDArray[np.float64]:
    """Return the p-value of each run for a training score far above the test score.

    For classifiers, that of Fisher's exact test of both accuracies; 1 where they differ by less
    than ``GAP`` (5 points). For other outputs, that of a t statistic, test cost minus ``RATIO``
    (1.5) times the training cost in standard errors of the test cost; costs are measured from the
    lowest possible ones.

    Returns
    -------
    ndarray of shape (k,), float64
        1 for runs that diverged or were not trained, and without test data.
    """
    counted = _counted(columns)
    if evidence.n_test < 2:
        return np.ones(len(counted))
    if evidence.classifies:
        train, test = (np.atleast_1d(_floats(columns[f"{n}_score"])) for n in ("train", "test"))
        counted = counted & (train - test >= GAP)
        p = np.ones(len(counted))
        hits = _hits(train[counted], evidence.n_train, np.floor)
        others = _hits(test[counted], evidence.n_test, np.ceil)
        p[counted] = fisher_tail(hits, evidence.n_train, others, evidence.n_test)
        return p
    cost = np.atleast_1d(_floats(columns["test_cost"])) - evidence.test_lowest
    own = np.atleast_1d(_floats(columns["final_cost"])) - evidence.train_lowest
    error = np.atleast_1d(_floats(columns["test_cost_error"]))
    # A negligible cost on both data is no overfitting.
    far = RATIO * own + NEGLIGIBLE * (evidence.train_constant - evidence.train_lowest)
    with np.errstate(invalid="ignore"):
        excess = cost - far
    return np.where(counted, _t_tail(excess, error, evidence.n_test - 1), 1.0)


def sentences(row: Mapping[str, Any], evidence: Evidence) -> list[str]:
    """Return the verdict on one run, in short sentences.

    ========================================== ===================================================
    sentence                                   rule
    ========================================== ===================================================
    symmetry unbroken: ...                     all units of these layers are identical
    N% of outputs saturated at the start       a tenth or more; see :func:`saturated_shares`
    better than always guessing one class      lower limit of the exact 95 % interval of the
                                               accuracy [1]_ is above the accuracy of the guess
    too few to distinguish from guessing       all correct would not be enough for that
    better than a constant                     paired t statistic of the losses of the test data,
                                               two-sided level 5 %; R2 is positive
    overfits                                   Fisher's exact test [2]_ at 2.5 %, one-sided, and 5
                                               points between the accuracies; or a test cost more
                                               than 1.5 times the training cost, by t statistic
    memorises the training data                overfits, the training accuracy is 99 % or more, and
                                               the test accuracy not better than guessing
    stopped early after ...                    the tolerance ended the run before its iterations
    the course                                 :func:`judge_courses`
    ========================================== ===================================================

    Parameters
    ----------
    row : mapping of str to scalar
        The columns ``iterations, stopped, diverged_at, course, change, final_cost, train_score,
        test_score, test_cost, test_cost_error, test_gain_error, symmetric, saturated`` of the run.
    evidence : Evidence

    References
    ----------
    .. [1] Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of
       the binomial", Biometrika 26, 1934.
    .. [2] Fisher, "The logic of inductive inference", J. R. Stat. Soc. 98, 1935.
    """
    return [
        *symmetry_in_words(_layers(int(row["symmetric"]))),
        *saturation_in_words(float(row["saturated"])),
        *_prediction_in_words(row, evidence),
        *_stop_in_words(row),
        course_in_words(row, evidence),
    ]


def _stop_in_words(row: Mapping[str, Any]) -> list[str]:
    """Return a sentence about a run that its tolerance ended."""
    if int(row["stopped"]) != STOPPED.index("tol"):
        return []
    n = int(row["iterations"])
    return [f"stopped early after {n:,} iteration{'' if n == 1 else 's'}"]


def _layers(bits: int) -> NDArray[np.bool_]:
    return np.array([bits >> place & 1 for place in range(max(bits.bit_length(), 1))], np.bool_)


def _prediction_in_words(row: Mapping[str, Any], evidence: Evidence) -> list[str]:
    """Return sentences about the predictions of a trained run."""
    if not _counted(row)[0]:
        return []
    p = float(better_p_values(row, evidence)[0])
    overfits = float(overfitting_p_values(row, evidence)[0]) <= ALPHA / 2
    if evidence.classifies:
        return _accuracy_in_words(row, evidence, p, overfits)
    if not evidence.n_test:
        return [f"R2 {row['train_score']:.3g} on training data (no test data were given)"]
    if evidence.n_test < MIN_TEST:
        return [_too_few(evidence)]
    better = "better" if p <= ALPHA / 2 else "not shown to be better"
    found = [f"{better} than a constant on test data (R2 {row['test_score']:.3g})"]
    if overfits:
        found.append(
            f"overfits: cost {row['final_cost']:.3g} in training, "
            f"{row['test_cost']:.3g} on test data"
        )
    return found


def _accuracy_in_words(
    row: Mapping[str, Any], evidence: Evidence, p: float, overfits: bool
) -> list[str]:
    train, chance = float(row["train_score"]), evidence.test_chance
    found = []
    if not evidence.n_test:
        better = "better" if p <= ALPHA / 2 else "not shown to be better"
        found.append(
            f"{better} than always guessing one class on training data, "
            f"{train:.1%} against {evidence.train_chance:.1%} (no test data were given)"
        )
    elif binomial_tail(evidence.n_test, evidence.n_test, chance) > ALPHA / 2:
        found.append(_too_few(evidence))
    else:
        test = float(row["test_score"])
        low, high = _cached_interval(float(_hits(test, evidence.n_test, np.floor)), evidence.n_test)
        claim = "not shown to be better"
        if p <= ALPHA / 2:
            claim = "better"
        elif high < chance:
            claim = "worse"
        found.append(
            f"{claim} than always guessing one class on test data, {test:.1%} "
            f"(95% interval {low:.1%} to {high:.1%}) against {chance:.1%}"
        )
        if overfits and claim != "better" and train >= MEMORISED:
            found.append(f"memorises the training data, accuracy {train:.1%}")
        elif overfits:
            found.append(f"overfits: accuracy {train:.1%} in training, {test:.1%} on test data")
        return found
    if train == 1:
        found.append("all training examples are classified correctly")
    return found


def _too_few(evidence: Evidence) -> str:
    if evidence.test_chance == 1:
        return "the test data have one class only, which guessing always finds"
    one = evidence.n_test == 1
    return (
        f"{evidence.n_test:,} test example{' is' if one else 's are'} too few to distinguish from "
        f"{'guessing' if evidence.classifies else 'a constant'}"
    )


def course_in_words(row: Mapping[str, Any], evidence: Evidence) -> str:
    """Return the course of the training of one run as a sentence."""
    name, change = COURSES[int(row["course"])], float(row["change"])
    if name == "diverged":
        return f"diverged at iteration {int(row['diverged_at']):,}"
    if name == "undefined":
        infinite = math.isinf(float(row["final_cost"]))
        return "cost infinite at the end" if infinite else "cost undefined in the last tenth"
    if name == "too early to tell":
        reason = "the cost has hardly left its start"
        if int(row["iterations"]) < FEWEST:
            reason = f"{int(row['iterations']):,} iterations"
        elif math.isnan(change):
            reason = "too few costs were recorded"
        return f"too early to tell whether it converges: {reason}"
    if name in ("falling", "rising"):
        agrees = change < 0 if name == "falling" else change > 0
        # The trend may be that of the last half, where the tenths are too noisy.
        by = f", {_percent(abs(change))} in the last tenth" if agrees else ""
        return f"cost still {name}{by}"
    if name == "oscillating":
        return "cost oscillates, no trend is shown"
    constant, lowest = evidence.train_constant, evidence.train_lowest
    near = abs(float(row["final_cost"]) - constant) <= LEFT * (constant - lowest)
    at = " the cost of a constant output" if near and constant > lowest else ""
    if name == "plateau":
        return f"on a plateau{' at' if at else ', not converged'}{at}"
    if name == "stationary":
        return f"stationary{' at' if at else ''}{at}: the gradient is zero"
    if name == "converged":
        return f"converged{' to' if at else ''}{at}"
    return name


def _percent(share: float) -> str:
    return "less than 0.1%" if share < 0.001 else f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def verdict_of(columns: Mapping[str, NDArray[Any]], evidence: Evidence) -> str:
    """Return the verdict on the runs of one scheme.

    A single run has the verdict of :func:`sentences`. For several, it says in how many runs each
    claim holds. The runs share the test examples, so their hits are not added up: each run is
    tested by itself, and the p-values are corrected for the number of runs by :func:`holm`. With a
    probability of 95 %, the claim is true of all runs that are counted.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (k,)
        The columns of :func:`sentences`.
    evidence : Evidence
    """
    k = len(columns["course"])
    if k == 1:
        return "; ".join(sentences({name: own[0] for name, own in columns.items()}, evidence))
    courses = np.asarray(columns["course"])
    parts = []
    symmetric = np.asarray(columns["symmetric"]) != 0
    if symmetric.any():
        parts.append(f"symmetry unbroken in {share_in_words(symmetric)}")
    saturated = np.asarray(columns["saturated"]) >= FEW_SATURATED
    if saturated.any():
        parts.append(f"outputs saturated at the start in {share_in_words(saturated)}")
    if _counted(columns).any():
        parts += _predictions_in_words(columns, evidence, k)
    early = np.asarray(columns["stopped"]) == STOPPED.index("tol")
    if early.any():
        parts.append(f"stopped early in {share_in_words(early)}")
    for code in _ORDER:
        here = courses == code
        if here.any():
            parts.append(f"{_IN_RUNS.get(COURSES[code], COURSES[code])} in {share_in_words(here)}")
    if _counted(columns).any() or (courses == _CODES["diverged"]).any():
        low, median, high = (
            f"{cost:.3g}" if cost < math.inf else "infinite"
            for cost in quantiles(columns["final_cost"], QUARTILES)
        )
        spread = "" if low == high else f", quartiles {low} and {high}"
        parts.append(f"median final cost {median}{spread}")
    return "; ".join(parts)


def _predictions_in_words(
    columns: Mapping[str, NDArray[Any]], evidence: Evidence, k: int
) -> list[str]:
    """Return in how many runs the claims about predictions hold."""
    n, data = evidence.n_test, "test data"
    guess = "always guessing one class" if evidence.classifies else "a constant"
    if not n and not evidence.classifies:
        return ["no test data were given"]
    if n and (
        n < MIN_TEST
        if not evidence.classifies
        else float(binomial_tail(n, n, evidence.test_chance)) > ALPHA / 2
    ):
        return [_too_few(evidence)]
    if not n:
        data = "training data (no test data were given)"
    better = holm(better_p_values(columns, evidence)) <= ALPHA / 2
    parts = [
        f"better than {guess} on {data} in {share_in_words(better)}"
        if better.any()
        else f"not shown to be better than {guess} on {data} in any run"
    ]
    overfits = holm(overfitting_p_values(columns, evidence)) <= ALPHA / 2
    memorises = np.zeros(k, dtype=np.bool_)
    if evidence.classifies and n:
        memorises = overfits & ~better & (np.asarray(columns["train_score"]) >= MEMORISED)
    for words, here in (
        ("memorises the training data", memorises),
        ("overfits", overfits & ~memorises),
    ):
        if here.any():
            parts.append(f"{words} in {share_in_words(here)}")
    return parts
