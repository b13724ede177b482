"""Trainings of single networks for the estimators, alone or many at once."""

import warnings
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import pairwise
from math import inf
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state
from sklearn.utils.class_weight import compute_sample_weight

from fastinit.kernels import dense, usable_cores
from fastinit.sklearn.descent import (
    Descent,
    Examples,
    Pace,
    Progress,
    minimize,
    solver_of,
    warn_of_convergence,
)
from fastinit.training.blas import single_blas_thread
from fastinit.training.network import Layout
from fastinit.validation import frames_inside

Array = NDArray[Any]

# More than any machine has; the kernels count threads in machine words.
MOST_THREADS = 1 << 16


def threads_of(estimator: Any) -> int:
    """Return the number of threads to use: one inside a worker of joblib."""
    if estimator.threads is not None:
        return min(int(estimator.threads), MOST_THREADS)
    from joblib.parallel import get_active_backend

    backend, _ = get_active_backend()
    return 1 if (getattr(backend, "nesting_level", 0) or 0) > 0 else usable_cores()


# Memory and threads of predictions, which take 0.1 ms to start. Those of all estimators share them:
# an estimator that kept its own would also keep a thread for each core.
_memories: list[Any] = []


def forward(layout: Layout, thetas: Array, X: Array, out: Array, threads: int) -> None:
    """Overwrite ``out`` with the outputs of each network, in any number of threads at once."""
    try:
        memory = _memories.pop()
    except IndexError:
        memory = dense.Descent()
    dense.forward(layout, thetas, X, None, None, out, threads, memory)
    if not _memories:
        _memories.append(memory)


def checked_weights(sample_weight: Any, X: Any) -> Array:
    """Return the weights after the checks of scikit-learn."""
    n = X.shape[0]
    weights: Array
    if np.isscalar(sample_weight):
        weights = np.full(n, sample_weight, X.dtype)
    else:
        weights = check_array(
            sample_weight, accept_sparse=False, ensure_2d=False, dtype=[np.float64, np.float32],
            order="C", copy=False, input_name="sample_weight",
        )  # fmt: skip
    if weights.ndim != 1:
        raise ValueError(
            f"Sample weights must be 1D array or scalar, got {weights.ndim}D array. Expected "
            f"either a scalar value or a 1D array of length {n}."
        )
    if weights.shape != (n,):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected {(n,)}!")
    if (weights == 0).all():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def quality(estimator: Any) -> float:
    """Return what the best of several starts has most of."""
    score = getattr(estimator, "best_validation_score_", None)
    value = float(-estimator.loss_ if score is None else score)
    return -inf if np.isnan(value) else value


class Prepared:
    """The checked data of a fit, which all networks of a stack share."""

    def __init__(
        self, estimator: Any, X: Any, y: Any, targets: Array, weights: Array | None,
        hidden: list[int], first: bool, incremental: bool,
        rows: NDArray[np.intp] | None = None, examples: Examples | None = None,
    ) -> None:  # fmt: skip
        self.first, self.incremental = first, incremental
        self.targets, self.weights = targets, weights
        self.sizes = [X.shape[1], *hidden, targets.shape[1]]
        self.dtype = X.dtype
        if not first:
            self.sizes = [len(estimator.coefs_[0]), *[W.shape[1] for W in estimator.coefs_]]
            if targets.shape[1] != self.sizes[-1]:
                raise ValueError(
                    f"y has {targets.shape[1]} outputs, but {type(estimator).__name__} was fitted "
                    f"with {self.sizes[-1]} outputs"
                )
            self.dtype = np.result_type(*estimator.coefs_)
        if self.dtype != np.float32:
            self.dtype = np.dtype(np.float64)
        class_weight = getattr(estimator, "class_weight", None)
        if class_weight is not None:
            used = slice(None) if rows is None else rows
            factors = np.zeros(len(targets))
            factors[used] = compute_sample_weight(class_weight, y[used])
            weights = factors if weights is None else weights * factors
        if weights is not None:
            weights = np.ascontiguousarray(weights, self.dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                total = weights[slice(None) if rows is None else rows].sum(dtype=np.float64)
            # The kernels would divide by it; the mean loss of others has no minimum.
            if not 0 < total < inf:
                raise ValueError(
                    "The product of sample and class weights must have a finite sum above 0; "
                    f"got {total}"
                )
        if examples is None:
            examples = Examples(X, np.ascontiguousarray(targets.T, self.dtype), weights)
        elif weights is not examples.weights:
            examples = Examples(examples.X, examples.Y, weights)
        self.examples, self.rows = examples, rows


class Job:
    """The training of one estimator of one network.

    :meth:`run` may be called in any thread; :meth:`finish` sets the attributes and warns.
    """

    def __init__(self, estimator: Any, data: Prepared, threads: int) -> None:
        self.estimator, self.data, self.threads = estimator, data, threads
        self.error: Exception | None = None
        estimator.n_outputs_ = data.sizes[-1]
        self.is_lbfgs = isinstance(estimator.solver, str) and estimator.solver == "lbfgs"
        self.random_state = estimator._random_state = self._seeded()
        if data.first:
            self._initialize()
        self.network = estimator._network_of(data.sizes, data.dtype)
        theta = estimator._get_theta()
        # In place, as scikit-learn trains: a best theta that is the current one changes with it.
        self.theta = theta.astype(data.dtype, copy=False)
        self.constants = self._constants()
        self.descent = None if self.is_lbfgs else self._stochastic()
        self.pace = Pace(threads) if self.descent is None else self.descent.pace

    def _seeded(self) -> np.random.RandomState:
        """Return scikit-learn's random state; that of a call before is seeded again."""
        seed = self.estimator.random_state
        kept: np.random.RandomState | None = self.estimator.__dict__.get("_random_state")
        if self.data.incremental and kept is not None and isinstance(seed, Integral):
            # A new one takes as long as a small batch.
            kept.seed(int(seed))
            return kept
        fresh: np.random.RandomState = check_random_state(seed)
        return fresh

    def _initialize(self) -> None:
        """Draw the first parameters as scikit-learn does, or by a scheme."""
        estimator, sizes, dtype = self.estimator, self.data.sizes, self.data.examples.X.dtype
        estimator.n_iter_, estimator.t_ = 0, 0
        estimator.n_layers_ = len(sizes)
        estimator.out_activation_ = estimator._output_activation()
        initialization = estimator.initialization
        if isinstance(initialization, str) and initialization == "auto":
            factor = 2.0 if estimator.activation == "logistic" else 6.0
            coefs, intercepts = [], []
            for n_in, n_out in pairwise(sizes):
                bound = np.sqrt(factor / (n_in + n_out))
                coefs.append(self.random_state.uniform(-bound, bound, (n_in, n_out)))
                intercepts.append(self.random_state.uniform(-bound, bound, n_out))
            estimator.coefs_ = [W.astype(dtype, copy=False) for W in coefs]
            estimator.intercepts_ = [b.astype(dtype, copy=False) for b in intercepts]
            theta = estimator._get_theta()
        else:
            network = estimator._network_of(sizes, dtype)
            seed = int(self.random_state.randint(np.iinfo(np.int32).max))
            try:
                theta = network.initialize(initialization, seed=seed)
            except (TypeError, ValueError) as error:
                expected = str(error).removeprefix("scheme: expected ")
                if expected == str(error):
                    raise
                raise type(error)(f"initialization: expected 'auto', or {expected}") from None
            estimator.coefs_ = [np.empty((a, b), dtype) for a, b in pairwise(sizes)]
        estimator._set_theta(theta)
        estimator._best_theta = None
        if not self.is_lbfgs:
            estimator.loss_curve_ = []
            self._start_records()

    def _start_records(self) -> None:
        """Set what the rule of stopping compares with."""
        estimator = self.estimator
        stops = bool(estimator.early_stopping)
        estimator._no_improvement_count = 0
        estimator.validation_scores_ = [] if stops else None
        estimator.best_validation_score_ = -inf if stops else None
        estimator.best_loss_ = None if stops else inf
        estimator._best_theta = None

    def _constants(self) -> Array | None:
        """Return ``y log y - y`` of each example, which scikit-learn's Poisson loss includes."""
        if self.estimator.out_activation_ != "exp":
            return None
        from scipy.special import xlogy

        targets = self.data.targets.astype(np.float64)
        constants: Array = (xlogy(targets, targets) - targets).sum(axis=1)
        return constants

    def _stochastic(self) -> Descent:
        estimator, data = self.estimator, self.data
        n_in_loss = estimator._n_in_loss()
        solver = estimator.__dict__.get("_optimizer")
        if not data.incremental or solver is None:
            n_layers = len(data.sizes) - 1
            solver = solver_of(estimator, self.theta.size, data.dtype, n_in_loss, n_layers)
            estimator._optimizer = solver
        else:
            solver.take_alpha(estimator)
        if estimator.early_stopping and data.incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        # A call before may have had another solver, or another value of early_stopping.
        has_scores = getattr(estimator, "validation_scores_", None) is not None
        if not hasattr(estimator, "loss_curve_"):
            estimator.loss_curve_ = []
            self._start_records()
        elif has_scores != bool(estimator.early_stopping):
            self._start_records()
        rows, score = self._split() if estimator.early_stopping else (data.rows, None)
        n = data.examples.X.shape[0] if rows is None else len(rows)
        if isinstance(estimator.batch_size, str):
            batch_size = min(200, n)
        else:
            if estimator.batch_size > n:
                warnings.warn(
                    "Got `batch_size` less than 1 or larger than "
                    "sample size. It is going to be clipped",
                    stacklevel=frames_inside(),
                )
            batch_size = int(np.clip(estimator.batch_size, 1, n))
        progress = Progress(
            t=estimator.t_,
            no_improvement=estimator._no_improvement_count,
            loss_curve=estimator.loss_curve_,
            validation_scores=getattr(estimator, "validation_scores_", None),
            best_loss=estimator.best_loss_,
            best_validation_score=getattr(estimator, "best_validation_score_", None),
            best_theta=getattr(estimator, "_best_theta", None),
        )
        if score is not None and progress.best_theta is None:
            progress.best_theta = self.theta.copy()
        return Descent(
            self.network.layout, self.theta, solver, data.examples, rows, batch_size,
            bool(estimator.shuffle), self.random_state, int(estimator.max_iter),
            float(estimator.tol), estimator.n_iter_no_change, score, n_in_loss, self.constants,
            int(estimator.verbose), self.threads, progress, data.incremental,
        )  # fmt: skip

    def _split(self) -> tuple[NDArray[np.intp], Callable[[Array], float]]:
        """Return the rows to train on, and the score of a theta on the others."""
        estimator, data = self.estimator, self.data
        rows = np.arange(len(data.targets)) if data.rows is None else data.rows
        is_single = is_classifier(estimator) and estimator.n_outputs_ == 1
        train, held_out = train_test_split(
            rows,
            random_state=self.random_state,
            test_size=estimator.validation_fraction,
            stratify=data.targets[rows] if is_single else None,
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' "
                "or the size of your dataset."
            )
        X, Y, _ = data.examples.take(held_out)
        weights = None if data.weights is None else data.weights[held_out]
        if weights is not None and not weights.any():
            # Of the scores; scikit-learn finds it after the first epoch.
            raise ValueError("Sample weights must contain at least one non-zero number.")
        outputs = np.empty((1, len(Y), len(held_out)), Y.dtype)

        def score(theta: Array) -> float:
            forward(self.network.layout, theta[None], X, outputs, self.threads)
            return float(estimator._score_of(outputs[0], Y, weights))

        return train, score

    def run(self) -> None:
        """Train the network; an error is raised by :meth:`finish`."""
        try:
            self._run()
        except Exception as error:
            self.error = error

    def _run(self) -> None:
        if self.descent is not None:
            self.descent.run()
            return
        constant = 0.0
        if self.constants is not None:
            constant = float(np.average(self.constants, weights=self.data.examples.weights))
        self.result = minimize(
            self.network.layout, self.theta, self.data.examples, self.network._is_weight, constant,
            self.estimator._n_in_loss(), self.estimator, self.pace,
        )  # fmt: skip
        self.theta = np.ascontiguousarray(self.result.x)

    def cancel(self) -> None:
        """Make the training in another thread stop soon."""
        self.pace.cancel()

    @property
    def is_interrupted(self) -> bool:
        """Whether Ctrl-C ended the training, as it ends one of scikit-learn."""
        return self.descent is not None and self.descent.interrupted

    def finish(self) -> None:
        """Set the attributes of the estimator, and warn; raise an error of the training."""
        if self.error is not None:
            raise self.error
        estimator = self.estimator
        theta = self.theta
        if self.descent is None:
            estimator.n_iter_ = warn_of_convergence(self.result, estimator.max_iter)
            estimator.loss_ = float(self.result.fun)
        else:
            progress = self.descent.progress
            estimator.n_iter_, estimator.t_ = progress.n_iter, progress.t
            estimator.loss_ = progress.loss
            estimator._no_improvement_count = progress.no_improvement
            estimator.best_loss_ = progress.best_loss
            estimator.best_validation_score_ = progress.best_validation_score
            estimator._best_theta = progress.best_theta
            if self.descent.interrupted:
                warnings.warn("Training interrupted by user.", stacklevel=frames_inside())
            elif (
                progress.n_iter == estimator.max_iter
                and not self.descent.converged
                and not self.data.incremental
            ):
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) "
                    "reached and the optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=frames_inside(),
                )
            if estimator.early_stopping and progress.best_theta is not None:
                theta = progress.best_theta
        estimator._set_theta(theta)
        if not np.isfinite(theta).all():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may"
                " contain large values and need to be preprocessed."
            )


def run_all(jobs: list[Job], threads: int) -> Generator[Job, None, None]:
    """Run jobs in parallel, each in one thread; yield them in order, each when it is done.

    Ctrl-C, or closing the iterator, stops the jobs that are left.
    """
    if threads == 1 or len(jobs) < 2:
        for job in jobs:
            job.run()
            if job.is_interrupted:
                raise KeyboardInterrupt
            yield job
        return
    any_lbfgs = any(job.is_lbfgs for job in jobs)
    # Here, because the threads of the pool end at different times.
    with (
        single_blas_thread() if any_lbfgs else nullcontext(),
        ThreadPoolExecutor(min(threads, len(jobs))) as pool,
    ):
        futures = [pool.submit(job.run) for job in jobs]
        try:
            for job, future in zip(jobs, futures, strict=True):
                future.result()
                if job.is_interrupted:
                    raise KeyboardInterrupt
                yield job
        except BaseException:
            for future in futures:
                future.cancel()
            for job in jobs:
                job.cancel()
            raise
