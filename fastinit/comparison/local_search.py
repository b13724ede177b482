"""The search for a lower cost near the end of trainings: limited-memory BFGS on a whole stack."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.comparison.statistics import floats
from fastinit.training.internals import is_weight
from fastinit.training.network import Array, Network

# Evaluations for the direction of the most negative curvature, where the gradient is tiny.
_LANCZOS = 8
_HISTORY = 5
# Numbers in memory during the search: 32 MB of float64.
_NUMBERS = 1 << 22
# Parameters times examples of one call of the kernel, which cannot be stopped: 0.1 s.
_PART = 1 << 24


class StoppedError(Exception):
    """The judgement of runs was stopped before its end."""


class Objective:
    """The cost of a stack with and without the penalty, and the gradient with it.

    A long evaluation is made in parts, between which ``stop`` is called. What the parts are depends
    on the network and the data alone, because the rounding errors depend on them.
    """

    def __init__(
        self,
        network: Network,
        X: Array,
        Y: Array,
        weight: Array | None,
        l2: ArrayLike,
        k: int,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self.network, self.stop = network, stop
        self.l2 = np.broadcast_to(np.asarray(l2, dtype=np.float64), (k,))
        m = X.shape[1]
        weights = np.ones(m) if weight is None else floats(weight)
        self.rows = max(1, _PART // (network.n_parameters * m))
        # The features, labels and weights of each part of the examples, and its share of the cost.
        self.parts: list[tuple[Array, Array, Array | None, float]] = []
        n = min(m, -(-network.n_parameters * m // _PART))
        for first, last in pairwise(np.linspace(0, m, n + 1).astype(np.intp).tolist()):
            share = float(weights[first:last].sum() / weights.sum())
            if share > 0:
                own = None if weight is None else weight[first:last]
                x, y = (np.ascontiguousarray(each[:, first:last]) for each in (X, Y))
                self.parts.append((x, y, own, share))

    def __call__(
        self, thetas: Array, rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return costs, penalised costs and gradients of some rows of the stack."""
        costs, gradients = np.zeros(len(thetas)), np.zeros(thetas.shape)
        for start in range(0, len(thetas), self.rows):
            few = slice(start, start + self.rows)
            for X, Y, weight, share in self.parts:
                if self.stop is not None and self.stop():
                    raise StoppedError
                cost, gradient = self.network.loss_and_gradient(
                    thetas[few], X, Y, sample_weight=weight
                )
                costs[few] += share * cost
                gradients[few] += share * gradient
        l2, penalized = self.l2[rows], costs
        if l2.any():
            weights = np.where(is_weight(self.network), thetas, 0).astype(np.float64)
            gradients += l2[:, None] * weights
            penalized = costs + l2 / 2 * np.square(weights).sum(axis=1)
        return costs, penalized, gradients


def lowest_costs(
    objective: Objective,
    thetas: Array,
    costs: NDArray[np.float64],
    gradients: NDArray[np.float64],
    rows: NDArray[np.intp],
    *,
    enough: NDArray[np.float64],
    saddle: NDArray[np.bool_],
    evaluations: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the lowest penalised cost that a short search finds near each theta.

    Parameters
    ----------
    objective : Objective
    thetas : ndarray of shape (n, n_parameters), the network's dtype
        The parameters near which to search.
    costs, gradients : ndarray of shape (n,) and (n, n_parameters), float64
        Penalised costs and gradients of `thetas`.
    rows : ndarray of shape (n,), intp
        The rows of the objective's stack.
    enough : ndarray of shape (n,), float64
        A search ends when it finds a cost below this one.
    saddle : ndarray of shape (n,), bool
        Whether theta may be a saddle point. If `evaluations` suffice, the search starts along the
        direction of the most negative curvature, and otherwise from disturbed parameters.
    evaluations : ndarray of shape (n,), int64
        Largest number of evaluations of the gradient, without the one at the start.

    Returns
    -------
    ndarray of shape (n,), float64

    Raises
    ------
    StoppedError
        If the objective's ``stop`` returned a true value.
    """
    lowest = costs.copy()
    saddle = saddle & (evaluations > _LANCZOS + 2)
    most = evaluations - np.where(saddle, _LANCZOS + 2, 0)
    size = max(1, _NUMBERS // (2 * _HISTORY * objective.network.n_parameters))
    for place in range(0, len(rows), size):
        few = slice(place, place + size)
        starts = _starts(objective, thetas[few], gradients[few], rows[few], saddle[few])
        lowest[few] = _descend(objective, starts, costs[few], enough[few], rows[few], most[few])
    return lowest


def _starts(
    objective: Objective,
    thetas: Array,
    gradients: NDArray[np.float64],
    rows: NDArray[np.intp],
    saddle: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return where the search for a lower cost starts, near each theta.

    Where ``saddle`` is set, the start is a tenth of the length of theta away along the direction of
    the most negative curvature, if there is one, on the side of the lower cost. Otherwise it is
    theta with random disturbances.
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
            norm = np.sqrt(dots(product, product))[:, None]
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


def _descend(
    objective: Objective,
    starts: NDArray[np.float64],
    costs: NDArray[np.float64],
    enough: NDArray[np.float64],
    rows: NDArray[np.intp],
    evaluations: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the lowest penalised cost that a short search finds from each start.

    All runs are searched at once, each with its own step lengths and corrections, until their cost
    is below ``enough`` or their gradient zero, or for as many ``evaluations`` of the gradient.
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
        length = 0.01 * size * math.sqrt(n) / np.maximum(np.sqrt(dots(g, g)), 1e-300)
        step, direction = np.ones(k), -length[:, None] * g
        for done in range(1, int(evaluations.max()) + 1):
            trial = x + step[:, None] * direction
            _, reached, slopes = objective(trial.astype(dtype), rows[own])
            expected = 1e-4 * step * dots(g, direction)
            taken = np.isfinite(slopes).all(axis=1) & (reached <= cost + expected)
            s, y = trial[taken] - x[taken], slopes[taken] - g[taken]
            x[taken], cost[taken], g[taken] = trial[taken], reached[taken], slopes[taken]
            found[own] = np.fmin(found[own], cost)
            step = np.where(taken, 1.0, 0.3 * step)
            sy, yy = dots(s, y), dots(y, y)
            curved = sy > 1e-8 * np.sqrt(dots(s, s) * yy)
            # Without curvature along the step, a longer one is tried.
            length[taken] = np.where(curved, sy / yy, 2 * length[taken])
            kept = np.flatnonzero(taken)[curved]
            for corrections, newest in ((S, s[curved]), (D, y[curved]), (inverse, 1 / sy[curved])):
                corrections[:-1, kept] = corrections[1:, kept]
                corrections[-1, kept] = newest
            # Where the gradient is exactly zero, no further step changes anything.
            left = (found[own] >= enough[own]) & (evaluations[own] > done) & g.any(axis=1)
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
            upward = dots(direction, g) >= 0
            direction[upward] = -length[upward, None] * g[upward]
    return found


def dots(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
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
        factors[i] = inverse[i] * dots(S[i], q)
        q -= factors[i][:, None] * D[i]
    q *= length[:, None]
    for i in range(len(S)):
        q += (factors[i] - inverse[i] * dots(D[i], q))[:, None] * S[i]
    return q
