"""Cross-validation of many settings, all networks of which are trained at once."""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import wraps
from typing import Any

import numpy as np
import sklearn
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv

from fastinit.sklearn import parameters
from fastinit.sklearn.descent import Examples, without_damage
from fastinit.sklearn.estimators import MLPClassifier, MLPRegressor
from fastinit.sklearn.jobs import Job, Prepared, checked_weights, run_all, threads_of
from fastinit.validation import frames_inside


def cross_validate_stack(
    estimator: MLPClassifier | MLPRegressor,
    X: Any,
    y: Any,
    param_grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]],
    cv: Any = None,
    scoring: Any = None,
    groups: Any = None,
    *,
    params: Mapping[str, Any] | None = None,
    return_train_score: bool = False,
    error_score: Any = np.nan,
) -> dict[str, Any]:
    """Cross-validate all candidates of a grid, training all of their networks at once.

    The networks, scores, warnings and errors are those of
    ``GridSearchCV(estimator, param_grid, cv=cv, scoring=scoring)``. The folds are index sets of one
    ``X``, which is checked and copied once, and the networks are distributed over the cores. Some
    networks are fitted one by one instead: ensembles, networks of folds that lack a class, and all
    networks if only some folds pass the checks of the data.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        The estimator, of this module, not in a pipeline. Its ``random_state`` must be an int for
        the scores of ``GridSearchCV``.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Features. Sparse matrices of all formats are accepted; their indices are checked.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets.
    param_grid : dict or list of dict
        Values of each parameter, as in :class:`sklearn.model_selection.ParameterGrid`.
    cv : int, cross-validation generator or iterable, default=None
        As in ``GridSearchCV``: 5 folds by default, stratified for a classifier.
    scoring : str, callable, list, tuple or dict, default=None
        As in ``GridSearchCV``.
    groups : array-like of shape (n_samples,), default=None
        Group labels of the samples for ``cv``, as in ``GridSearchCV.fit``.
    params : dict of str to object, default=None
        Other arguments of ``GridSearchCV.fit``, such as ``{"sample_weight": weights}``. Values with
        one element per sample are split as ``X`` is. Scorers get weights if those of
        ``GridSearchCV`` do.
    return_train_score : bool, default=False
        Whether to add the scores of the samples that each network was trained on.
    error_score : "raise" or number, default=nan
        The score of a network that cannot be trained or scored; "raise" raises its error.

    Returns
    -------
    dict of str to ndarray
        The table ``GridSearchCV.cv_results_``; no estimator is fitted to all data. A fit time is
        that of the whole call divided by the number of networks.

    Raises
    ------
    TypeError
        If the estimator is not one of this module, or `params` is not a dict.
    ValueError
        If the lengths of the data differ, an index of a sparse matrix is out of bounds, a
        parameter is unknown, or no network can be trained. If only some can be trained, the scores
        of the others are `error_score`, with a :class:`sklearn.exceptions.FitFailedWarning`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastinit.sklearn import MLPClassifier, cross_validate_stack
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(tol=0.01, random_state=0)
    >>> table = cross_validate_stack(model, X, y, {"alpha": [0.01, 1.0]}, cv=3)
    >>> table["params"]
    [{'alpha': 0.01}, {'alpha': 1.0}]
    >>> table["mean_test_score"].shape
    (2,)
    """
    if not isinstance(estimator, (MLPClassifier, MLPRegressor)):
        raise TypeError(
            "estimator: expected an MLPClassifier or MLPRegressor of fastinit.sklearn, without a "
            f"pipeline or search around it; got {type(estimator).__name__}"
        )
    if params is not None and not isinstance(params, Mapping):
        raise TypeError(
            "params: expected a dict of arguments of GridSearchCV.fit, such as "
            f"{{'sample_weight': weights}}; got {type(params).__name__}"
        )
    arguments = {name: without_damage(value) for name, value in (params or {}).items()}
    if groups is not None:
        if arguments.get("groups") is not None:
            raise ValueError("groups: expected groups or params['groups']; got both")
        arguments["groups"] = groups
    started = time.perf_counter()
    # Networks are scored while others are trained.
    with closing(_Folds(estimator, param_grid, cv, arguments)) as folds:
        search = GridSearchCV(
            _taking_over(estimator, folds),
            param_grid,
            cv=folds,
            scoring=scoring,
            refit=False,
            n_jobs=1,
            return_train_score=return_train_score,
            error_score=error_score,
        )
        table: dict[str, Any] = search.fit(
            without_damage(X), without_damage(y), **arguments
        ).cv_results_
    n_candidates = len(table["params"])
    seconds = (time.perf_counter() - started) / (n_candidates * search.n_splits_)
    table["mean_fit_time"] = np.full(n_candidates, seconds)
    table["std_fit_time"] = np.zeros(n_candidates)
    return table


def _taking_over(estimator: Any, folds: "_Folds") -> Any:
    """Return an unfitted copy of an estimator whose fit takes over the next trained network."""
    kind = type(estimator)

    class Trained(kind):  # type: ignore[misc, valid-type]
        @wraps(kind.fit)
        def fit(self, *arguments: Any, **keywords: Any) -> Any:
            # Scorers may clone and fit what they get.
            self.__class__ = kind
            state = folds.next_state()
            if state is None:
                return self.fit(*arguments, **keywords)
            self.__dict__.update(state)
            return self

    # Errors and warnings mention the name.
    Trained.__name__ = Trained.__qualname__ = kind.__name__
    copy = clone(estimator)
    copy.__class__ = Trained
    return copy


class _Folds:
    """The splitter of a search, which also prepares the networks of all candidates.

    ``GridSearchCV`` checks its arguments first, and calls :meth:`split` with data that can be
    indexed.
    """

    def __init__(
        self, estimator: Any, param_grid: Any, cv: Any, arguments: Mapping[str, Any]
    ) -> None:
        self.estimator, self.param_grid, self.cv = estimator, param_grid, cv
        self.weights = arguments.get("sample_weight")
        # scikit-learn decides which estimators get other arguments.
        routed = sklearn.get_config().get("enable_metadata_routing", False)
        known = {"groups"} if routed else {"groups", "sample_weight"}
        kind = MLPClassifier if is_classifier(estimator) else MLPRegressor
        self.is_stack = set(arguments) <= known and all(
            getattr(type(estimator), name) is getattr(kind, name)
            for name in ("fit", "_fit", "_validate")
        )
        self.fits: Iterator[_Fit | None] = iter(())
        self.trained: Any = None

    def __repr__(self) -> str:
        return repr(self.cv)

    def __getattr__(self, name: str) -> Any:
        # A number or a list of folds has no such method.
        if name == "get_metadata_routing":
            return self.cv.get_metadata_routing
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def get_n_splits(self, X: Any = None, y: Any = None, **arguments: Any) -> Any:
        """Return the number of folds."""
        self.cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        return self.cv.get_n_splits(X, y, **arguments)

    def split(self, X: Any, y: Any = None, **arguments: Any) -> Any:
        """Return the folds, and prepare a network of each candidate for each fold."""
        folds = list(self.cv.split(X, y, **arguments))
        data = self._checked(X, y) if self.is_stack else None
        fits = [
            None if data is None else data.fit(values, train)
            for values in ParameterGrid(self.param_grid)
            for train, _ in folds
        ]
        self.fits = iter(fits)
        jobs = [fit.job for fit in fits if fit is not None]
        self.trained = run_all(jobs, threads_of(self.estimator))
        return folds

    def _checked(self, X: Any, y: Any) -> "_Data | None":
        """Return the checked data, or None where each fold must be checked by itself."""
        try:
            return _Data(self.estimator, X, y, self.weights)
        except Exception:
            # Folds without the rows in question can be fitted; the others raise the error again.
            return None

    def next_state(self) -> dict[str, Any] | None:
        """Return the attributes of the next network; warn and raise as its fit does.

        None if it must be fitted by itself.
        """
        fit = next(self.fits)
        return None if fit is None else fit.finish(self.trained)

    def close(self) -> None:
        """Stop the networks that are left."""
        if self.trained is not None:
            self.trained.close()


class _Fit:
    """A network of the stack."""

    def __init__(self, estimator: Any, job: Job, warned: list[Warning]) -> None:
        self.estimator, self.job, self.warned = estimator, job, warned

    def finish(self, trained: Iterator[Job]) -> dict[str, Any]:
        """Return the attributes of the fitted estimator; warn and raise as its fit does.

        ``trained`` yields the jobs in the order of the fits.
        """
        next(trained)
        for each in self.warned:
            warnings.warn(each, stacklevel=frames_inside())
        self.job.finish()
        return {k: v for k, v in vars(self.estimator).items() if k.endswith("_") or k[0] == "_"}


class _Data:
    """The checked data, which all networks share."""

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> None:
        self.estimator = estimator
        self.checked = clone(estimator)
        # Each fit repeats them, as those of GridSearchCV do.
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            self.X, self.y, self.targets = self.checked._validate(X, y, False, True)
            self.weights = None if sample_weight is None else checked_weights(sample_weight, self.X)
        self.warned = _messages(found)
        self.examples: Examples | None = None

    def fit(self, values: Mapping[str, Any], train: Any) -> _Fit | None:
        """Prepare the training of a candidate on the rows of a fold; None if it is not possible."""
        # Only a fit that GridSearchCV reaches warns: after an error it may stop.
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            try:
                each = clone(self.estimator).set_params(
                    **{name: clone(value, safe=False) for name, value in values.items()}
                )
                parameters.check(each, each._theirs)
                # Indices: the folds may be masks.
                train = np.arange(len(self.targets))[train]
                if not self._is_like(each, train):
                    return None
                for name in ("classes_", "_label_binarizer", "n_features_in_", "feature_names_in_"):
                    if hasattr(self.checked, name):
                        setattr(each, name, getattr(self.checked, name))
                job = Job(each, self._prepare(each, train), 1)
            except Exception:
                # Its own fit raises the error, where GridSearchCV handles it.
                return None
        return _Fit(each, job, [*self.warned, *_messages(found)])

    def _is_like(self, each: Any, train: Any) -> bool:
        """Whether a fold passes the checks of all data, and the candidate is one network."""
        if train.ndim != 1 or not train.size or each.n_networks > 1 or each.n_init > 1:
            return False
        if self.weights is not None and not self.weights[train].any():
            return False
        if is_classifier(each) and np.ndim(self.y) == 1:
            return np.array_equal(np.unique(self.y[train]), self.checked.classes_)
        return True

    def _prepare(self, each: Any, train: Any) -> Prepared:
        hidden = each._hidden()
        if each.solver == "lbfgs":
            weights = None if self.weights is None else self.weights[train]
            own = self.X[train], self.y[train], self.targets[train]
            return Prepared(each, *own, weights, hidden, True, False)
        prepared = Prepared(
            each, self.X, self.y, self.targets, self.weights, hidden, True, False,
            train, self.examples,
        )  # fmt: skip
        self.examples = prepared.examples
        return prepared


def _messages(found: Sequence[warnings.WarningMessage]) -> list[Warning]:
    return [each.message for each in found if isinstance(each.message, Warning)]
