"""The training of one network as scikit-learn does it, with the kernels of fastinit.

scikit-learn decides after each epoch whether to stop. The decision can first change after
``n_iter_no_change`` epochs without an improvement, so that the epochs until then are one call of
the kernel.
"""

import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from math import inf, nan
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from fastinit.kernels import dense, random
from fastinit.training.blas import single_blas_thread
from fastinit.training.network import Layout
from fastinit.training.optimizers import (
    AdamW,
    LearningRate,
    Optimizer,
    Rule,
    learning_rates,
)
from fastinit.validation import frames_inside

Array = NDArray[Any]
Score = Callable[[Array], float]

# Largest number of indices of examples that are drawn for one call of the kernel.
MOST_ORDERED = 1 << 20
# Multiply-adds of a call whose time decides on the number of threads: several milliseconds.
TRIAL_WORK = 1 << 25
# Calls with the faster number of threads between two trials of the other.
CALLS_PER_TRIAL = 16
# Sparse examples are made dense in parts of at most this many bytes.
DENSE_BYTES = 1 << 28


def rows_at_once(columns: int, dtype: np.dtype[Any]) -> int:
    """Return how many sparse examples are made dense at once."""
    return max(DENSE_BYTES // (columns * dtype.itemsize), 1)


class Pace:
    """Chooses the number of threads of kernel calls by the times of the calls before.

    Several threads wait for each other at every batch. Where other processes use the cores, a
    single one is faster. The results do not depend on the number.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.seconds = {1: inf, threads: inf}
        self.memories = {n: dense.Descent() for n in self.seconds}
        self.calls = 0
        self.memory = self.memories[threads]
        self.cancelled = False

    def is_trial(self) -> bool:
        """Whether the next call is to compare the numbers of threads."""
        return self.threads > 1 and (self.calls < 3 or self.calls % CALLS_PER_TRIAL == 0)

    def run(self, kernel: Callable[[int, Any], None], work: float) -> None:
        """Call ``kernel(threads, memory)``, which takes a time in proportion to ``work``."""
        n = min(self.seconds, key=self.seconds.__getitem__)
        if self.calls < 3:
            # The first call with several threads also starts them.
            n = 1 if self.calls == 1 else self.threads
        elif self.is_trial():
            n = 1 if n == self.threads else self.threads
        self.memory = self.memories[n]
        self.check()
        start = perf_counter()
        kernel(n, self.memory)
        self.check()
        self.seconds[n] = (perf_counter() - start) / work
        self.calls += 1

    def cancel(self) -> None:
        """Make the current call and all later ones raise CancelledError; from another thread."""
        self.cancelled = True
        self.memory.interrupt()

    def check(self) -> None:
        """Raise CancelledError after a call of :meth:`cancel`."""
        if self.cancelled:
            raise CancelledError


def checked_csr(X: Any) -> Any:
    """Return a sparse matrix of any format as CSR; raise ValueError if an index is out of bounds.

    SciPy does not check indices, and would read and write other memory.
    """
    if hasattr(X, "check_format"):
        X.check_format(full_check=True)
    elif X.format == "coo":
        # The constructors check the indices, and copy nothing.
        coords = X.coords if hasattr(X, "coords") else (X.row, X.col)
        type(X)((X.data, coords), shape=X.shape)
    elif X.format == "dia":
        type(X)((X.data, X.offsets), shape=X.shape)
    elif X.format == "lil":
        _check_lists(X)
    csr = X.tocsr()
    if csr is not X:
        csr.check_format(full_check=True)
    return csr


def _check_lists(X: Any) -> None:
    """Raise ValueError if the lists of a LIL matrix do not match; SciPy copies them unchecked."""
    if not X.rows.shape == X.data.shape == X.shape[:1]:
        raise ValueError(
            f"X: expected a list of indices and one of values for each of {X.shape[0]} rows; got "
            f"{X.rows.shape} and {X.data.shape}"
        )
    for row, (indices, values) in enumerate(zip(X.rows, X.data, strict=True)):
        if len(indices) != len(values):
            raise ValueError(
                f"X: expected as many indices as values in row {row}; got {len(indices)} and "
                f"{len(values)}"
            )


def without_damage(data: Any) -> Any:
    """Return a sparse matrix as a checked CSR matrix, and anything else as it is."""
    return checked_csr(data) if scipy.sparse.issparse(data) else data


@dataclass
class Examples:
    """The examples of a training.

    Attributes
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features)
    Y : ndarray of shape (n_outputs, n_samples)
    weights : ndarray of shape (n_samples,) or None
    """

    X: Any
    Y: Array
    weights: Array | None

    def __post_init__(self) -> None:
        rows, columns = self.X.shape
        self.rows_at_once = rows_at_once(columns, self.Y.dtype)
        if not isinstance(self.X, np.ndarray):
            self.X = checked_csr(self.X)
            if rows <= self.rows_at_once:
                self.X = self.X.toarray()
        self.is_sparse = not isinstance(self.X, np.ndarray)
        if not self.is_sparse:
            # The kernels gather examples, which must be contiguous.
            self.X = np.ascontiguousarray(self.X, self.Y.dtype)

    def take(self, rows: Any) -> tuple[Array, Array, Array | None]:
        """Return dense features (n_features, n), labels and weights of some examples."""
        X = self.X[rows]
        X = X.toarray() if self.is_sparse else X
        Y = np.ascontiguousarray(self.Y[:, rows])
        weights = None if self.weights is None else np.ascontiguousarray(self.weights[rows])
        return np.ascontiguousarray(X, self.Y.dtype).T, Y, weights


@dataclass
class Solver:
    """An optimiser with its state; it survives calls of ``partial_fit``.

    Attributes
    ----------
    rule : Rule
        The update of the kernels.
    learning_rate : float
        The current learning rate.
    state : ndarray of shape (slots, n_parameters)
    updates : int
        Number of updates so far.
    """

    rule: Rule
    learning_rate_init: float
    schedule: Any
    power_t: float
    state: Array
    learning_rate: float = 0.0
    updates: int = 0

    def __post_init__(self) -> None:
        self.learning_rate = float(self.learning_rate_init)

    def rates(self, epochs: int, per_epoch: int, t: int, n: int, n_layers: int) -> Array:
        """Return the rates of the next epochs, for the kernels; ``t`` examples were seen before."""
        if self.schedule == "invscaling":
            seen = t + n * np.arange(1, epochs + 1)
            later = self.learning_rate_init / (seen + 1.0) ** self.power_t
            rates = np.repeat(np.append(self.learning_rate, later[:-1]), per_epoch)
            self.learning_rate = float(later[-1])
            return rates.reshape(1, -1, 1)
        if isinstance(self.schedule, str):
            return np.array([[[self.learning_rate]]])
        iterations = epochs * per_epoch
        proxy = _Rated(self.schedule)
        rates = learning_rates([proxy], self.updates, self.updates + iterations, n_layers)
        self.learning_rate = float(rates[0, -1, 0])
        return rates

    def take_alpha(self, estimator: Any) -> None:
        """Take the penalty of an estimator that was changed between two calls of partial_fit.

        scikit-learn keeps the other settings of the first call.
        """
        if isinstance(estimator.solver, str):
            alpha = float(estimator.alpha)
            if estimator.solver == "adamw":
                self.rule = self.rule._replace(weight_decay=alpha)
            else:
                self.rule = self.rule._replace(l2=alpha)

    def slow_down(self) -> bool:
        """Divide an adaptive learning rate by 5; return whether the training must stop instead."""
        if self.schedule != "adaptive" or self.learning_rate <= 1e-6:
            return True
        self.learning_rate /= 5.0
        return False


@dataclass
class _Rated:
    learning_rate: LearningRate


def solver_of(
    estimator: Any, n_parameters: int, dtype: Any, n_in_loss: int, n_layers: int
) -> Solver:
    """Return the solver that the parameters of an estimator describe."""
    kind, schedule = estimator.solver, estimator.learning_rate
    common: dict[str, Any] = {
        "l2": float(estimator.alpha),
        "l2_by_batch": True,
        # Costs are divided by the outputs that the loss is averaged over.
        "penalty_in_cost": float(n_in_loss),
    }
    slots = 2
    if isinstance(kind, Optimizer):
        rule = kind.rule._replace(penalty_in_cost=float(n_in_loss))
        slots, schedule = kind.slots, kind.learning_rate
        if isinstance(schedule, float):
            schedule = "constant"
        elif isinstance(schedule, tuple) and len(schedule) != n_layers:
            raise ValueError(
                f"solver: expected a learning rate for each of {n_layers} layers; "
                f"got {len(schedule)}"
            )
    elif kind == "sgd":
        slots = int(estimator.momentum > 0)
        rule = Rule(
            "momentum" if slots else "gradient_descent",
            float(estimator.momentum),
            nesterov=bool(estimator.nesterovs_momentum),
            rate_in_velocity=bool(slots),
            **common,
        )
    else:
        betas = float(estimator.beta_1), float(estimator.beta_2), float(estimator.epsilon)
        if kind == "adamw":
            rule = AdamW(1.0, *betas, float(estimator.alpha)).rule
        else:
            rule = Rule("adam", *betas, epsilon_hat=True, **common)
        if isinstance(schedule, str):
            schedule = "constant"
    rate = kind.learning_rate if isinstance(kind, Optimizer) else estimator.learning_rate_init
    return Solver(
        rule,
        rate if isinstance(rate, (int, float)) else 0.0,
        schedule,
        float(estimator.power_t),
        np.zeros((slots, n_parameters), dtype),
    )


@dataclass
class Progress:
    """What scikit-learn's loop keeps of a training, between calls of ``fit`` too."""

    n_iter: int = 0
    t: int = 0
    no_improvement: int = 0
    loss: float = nan
    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] | None = None
    best_loss: float | None = inf
    best_validation_score: float | None = None
    best_theta: Array | None = None


@dataclass
class Descent:
    """A stochastic training of one network, whose ``theta`` is updated in place.

    Attributes
    ----------
    rows : ndarray of shape (n,) or None
        The examples to train on; None for all.
    score : callable or None
        Returns the validation score of a theta.
    constants : ndarray of shape (n_samples,) or None
        What scikit-learn's loss of each example has in addition to that of the kernels.
    """

    layout: Layout
    theta: Array
    solver: Solver
    examples: Examples
    rows: NDArray[np.intp] | None
    batch_size: int
    shuffle: bool
    random_state: np.random.RandomState
    max_iter: int
    tol: float
    n_iter_no_change: float
    score: Score | None
    n_in_loss: int
    constants: Array | None
    verbose: int
    threads: int
    progress: Progress
    incremental: bool = False
    converged: bool = False
    interrupted: bool = False

    def __post_init__(self) -> None:
        self.n = self.examples.X.shape[0] if self.rows is None else len(self.rows)
        self.per_epoch = -(-self.n // self.batch_size)
        sizes = np.full(self.per_epoch, self.batch_size)
        sizes[-1] = self.n - sizes[:-1].sum()
        self.shares = sizes / (self.n * self.n_in_loss)
        self.starts = np.arange(self.per_epoch) * self.batch_size
        self.whole = self.per_epoch == 1 and self.rows is None and not self.examples.is_sparse
        weights = self.examples.weights
        self.may_vanish = weights is not None and bool((weights <= 0).any())
        self.pace = Pace(self.threads)
        self.work = max(3 * self.n * self.theta.size, 1)
        self.first_network = np.zeros(1, np.intp)
        self.X = None if self.examples.is_sparse else self.examples.X.T

    def run(self) -> None:
        """Train until scikit-learn's rule stops it, or for ``max_iter`` epochs."""
        progress = self.progress
        progress.n_iter = 0
        if self.per_epoch == 1 and self.rows is not None and not self.examples.is_sparse:
            self._take_rows()
        self.sample = np.arange(self.n) if self.rows is None else np.array(self.rows, np.intp)
        # An epoch at a time where something happens after each.
        singly = self.verbose or self.score is not None or self.incremental
        try:
            while progress.n_iter < self.max_iter:
                ahead = 1.0 if singly else self.n_iter_no_change + 1 - progress.no_improvement
                ahead = min(ahead, self.max_iter - progress.n_iter, MOST_ORDERED // self.n)
                if self.pace.is_trial():
                    ahead = min(ahead, TRIAL_WORK // self.work)
                if self._advance(max(int(ahead), 1)):
                    self.converged = True
                    return
                if self.incremental:
                    return
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            # Those of a search outlive their training, and may each have a copy.
            del self.examples, self.X

    def _take_rows(self) -> None:
        """Copy the examples of a single batch: the kernels then round as in a fit to these rows."""
        assert self.rows is not None
        if self.may_vanish:
            self._check_weights(self.rows[None])
        X, Y, weights = self.examples.take(self.rows)
        self.examples, self.X = Examples(X.T, Y, weights), X
        if self.constants is not None:
            self.constants = self.constants[self.rows]
        self.rows, self.whole = None, True

    def _advance(self, epochs: int) -> bool:
        """Run some epochs; return whether the training stops after them."""
        progress = self.progress
        orders = self._orders(epochs)
        if self.may_vanish and orders is not None:
            self._check_weights(orders)
        rates = self.solver.rates(
            epochs, self.per_epoch, progress.t, self.n, len(self.layout.sizes) - 1
        )
        costs = np.full((epochs, self.per_epoch), nan)
        counts = np.zeros(1, np.intp)
        try:
            if np.isfinite(self.theta[0]):
                if self.X is None:
                    self._descend_sparse(orders, rates, costs, counts)
                else:
                    self._descend(orders, rates, costs, counts)
        except KeyboardInterrupt:
            done = int(counts[0]) // self.per_epoch
            self._record(self._losses(costs[:done], orders))
            raise
        self.solver.updates += costs.size
        if counts[0] < costs.size:
            # scikit-learn continues with NaN, which nothing can change.
            self.theta[:] = nan
        return self._record(self._losses(costs, orders))

    def _orders(self, epochs: int) -> NDArray[np.intp] | None:
        """Draw the orders of the examples as scikit-learn does, each from the one before."""
        orders = np.empty((epochs, self.n), np.intp)
        if self.shuffle:
            # scikit-learn applies a shuffled range to the order before, which is this.
            random.shuffles(self.random_state._bit_generator, self.sample, orders)
        else:
            orders[:] = self.sample
        return None if self.whole else orders

    def _check_weights(self, orders: NDArray[np.intp]) -> None:
        weights = self.examples.weights
        assert weights is not None
        sums = np.add.reduceat(weights[orders], self.starts, axis=1)
        if (sums == 0).any():
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        if (sums < 0).any():
            raise ValueError("The weights of a batch must have a sum above 0")

    def _descend(
        self, orders: NDArray[np.intp] | None, rates: Array, costs: Array, counts: Array
    ) -> None:
        def kernel(threads: int, memory: Any) -> None:
            dense.descend(
                self.layout, [self.solver.rule], self.theta[None], self.solver.state[None],
                self.solver.updates, self.X, self.examples.Y, self.examples.weights, orders,
                self.batch_size, 0, rates, costs.reshape(1, -1), counts, self.first_network,
                threads, memory,
            )  # fmt: skip

        self.pace.run(kernel, len(costs))

    def _descend_sparse(
        self, orders: NDArray[np.intp] | None, rates: Array, costs: Array, counts: Array
    ) -> None:
        """Make a few batches dense at a time."""
        assert orders is not None
        batches = max(self.examples.rows_at_once // self.batch_size, 1)
        flat = costs.reshape(1, -1)
        for epoch, order in enumerate(orders):
            for first in range(0, self.per_epoch, batches):
                self.pace.check()
                rows = order[first * self.batch_size : (first + batches) * self.batch_size]
                X, Y, weights = self.examples.take(rows)
                start = epoch * self.per_epoch + first
                stop = start + min(batches, self.per_epoch - first)
                own = np.zeros(1, np.intp)
                try:
                    dense.descend(
                        self.layout, [self.solver.rule], self.theta[None], self.solver.state[None],
                        self.solver.updates + start, X, Y, weights, np.arange(len(rows))[None],
                        self.batch_size, 0,
                        np.ascontiguousarray(rates[:, start:stop] if rates.shape[1] > 1 else rates),
                        flat[:, start:stop], own, self.first_network, self.threads,
                    )  # fmt: skip
                finally:
                    counts += own
                if own[0] < stop - start:
                    return

    def _losses(self, costs: Array, orders: NDArray[np.intp] | None) -> list[float]:
        """Return scikit-learn's losses of complete epochs."""
        losses = costs @ self.shares
        if self.constants is not None:
            rows = orders[: len(costs)] if orders is not None else np.arange(self.n)[None]
            weights = self.examples.weights
            w = np.ones(len(self.constants)) if weights is None else weights
            sums = np.add.reduceat((w * self.constants)[rows], self.starts, axis=1)
            losses = losses + sums / np.add.reduceat(w[rows], self.starts, axis=1) @ self.shares
        found: list[float] = losses.tolist()
        return found

    def _record(self, losses: list[float]) -> bool:
        """Record epochs and apply scikit-learn's rule; return whether the training stops."""
        progress = self.progress
        stops = False
        for loss in losses:
            progress.n_iter += 1
            progress.t += self.n
            progress.loss = loss
            progress.loss_curve.append(loss)
            if self.verbose:
                print(f"Iteration {progress.n_iter}, loss = {loss:.8f}")
            self._compare(loss)
            if progress.no_improvement > self.n_iter_no_change:
                stops = self.solver.slow_down()
                if self.verbose:
                    self._tell(stops)
                if not stops:
                    progress.no_improvement = 0
        return stops

    def _compare(self, loss: float) -> None:
        """Count the epochs without an improvement."""
        progress = self.progress
        if self.score is None:
            assert progress.best_loss is not None
            worse = loss > progress.best_loss - self.tol
            if loss < progress.best_loss:
                progress.best_loss = loss
        else:
            assert progress.validation_scores is not None
            assert progress.best_validation_score is not None
            score = self.score(self.theta)
            progress.validation_scores.append(score)
            if self.verbose:
                print(f"Validation score: {score:f}")
            worse = score < progress.best_validation_score + self.tol
            if score > progress.best_validation_score:
                progress.best_validation_score = score
                progress.best_theta = self.theta.copy()
        progress.no_improvement = progress.no_improvement + 1 if worse else 0

    def _tell(self, stops: bool) -> None:
        what = "Training loss" if self.score is None else "Validation score"
        message = (
            f"{what} did not improve more than tol={self.tol:f} for "
            f"{self.n_iter_no_change} consecutive epochs."
        )
        if not stops:
            print(f"{message} Setting learning rate to {self.solver.learning_rate:f}")
        elif self.solver.schedule == "adaptive":
            print(f"{message} Learning rate too small. Stopping.")
        else:
            print(f"{message} Stopping.")


def loss_and_gradient(
    layout: Layout,
    theta: Array,
    examples: Examples,
    is_weight: Array,
    alpha: float,
    n_in_loss: int,
    pace: Pace,
    gradient: Array,
) -> float:
    """Return scikit-learn's loss of all examples, and overwrite its gradient."""
    m = examples.X.shape[0]
    total = float(m if examples.weights is None else examples.weights.sum())
    if not examples.is_sparse:
        cost = nan

        def kernel(threads: int, memory: Any) -> None:
            nonlocal cost
            [cost] = dense.loss_and_gradient(
                layout, theta[None], examples.X.T, examples.Y, examples.weights, gradient[None],
                threads, memory,
            )  # fmt: skip

        pace.run(kernel, 1)
    else:
        cost, part = 0.0, np.empty_like(gradient)
        gradient[:] = 0
        for start in range(0, m, examples.rows_at_once):
            pace.check()
            X, Y, weights = examples.take(slice(start, start + examples.rows_at_once))
            share = (X.shape[1] if weights is None else weights.sum()) / total
            [own] = dense.loss_and_gradient(
                layout, theta[None], X, Y, weights, part[None], pace.threads
            )
            cost += share * own
            gradient += share * part
    decay = (alpha / total) * (theta * is_weight)
    gradient += decay
    return float(cost / n_in_loss + decay @ theta / 2)


def minimize(
    layout: Layout,
    theta: Array,
    examples: Examples,
    is_weight: Array,
    constant: float,
    n_in_loss: int,
    estimator: Any,
    pace: Pace,
) -> Any:
    """Run SciPy's L-BFGS from ``theta`` and return its result."""
    import scipy.optimize

    def objective(x: Array) -> tuple[float, Array]:
        gradient = np.empty_like(x)  # SciPy keeps it
        loss = loss_and_gradient(
            layout, x, examples, is_weight, estimator.alpha, n_in_loss, pace, gradient
        )
        return loss + constant, gradient

    options = {"maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol}
    with single_blas_thread():
        return scipy.optimize.minimize(
            objective, theta, method="L-BFGS-B", jac=True, options=options
        )


def warn_of_convergence(result: Any, max_iter: int) -> int:
    """Warn as scikit-learn does if L-BFGS did not converge; return the number of iterations."""
    from sklearn.exceptions import ConvergenceWarning

    n_iter = min(int(result.nit), max_iter)
    if result.status != 0:
        message = (
            f"lbfgs failed to converge after {n_iter} iteration(s) (status={result.status}):\n"
            f"{result.message}\n"
        )
        if n_iter == max_iter:
            message += (
                "\nIncrease the number of iterations to improve the convergence "
                f"(max_iter={max_iter})."
            )
        message += (
            "\nYou might also want to scale the data as shown in:\n"
            "    https://scikit-learn.org/stable/modules/preprocessing.html"
        )
        warnings.warn(message, ConvergenceWarning, stacklevel=frames_inside())
    return n_iter
