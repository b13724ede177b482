"""Cross-validation of many settings, all networks of which are trained at once."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv

from fastinit.sklearn import parameters
from fastinit.sklearn.descent import Examples
from fastinit.sklearn.estimators import MLPClassifier, MLPRegressor
from fastinit.sklearn.jobs import Job, Prepared, run_all, threads_of


def cross_validate_stack(
    estimator: MLPClassifier | MLPRegressor,
    X: Any,
    y: Any,
    param_grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]],
    cv: Any = None,
    scoring: Any = None,
    groups: Any = None,
) -> dict[str, Any]:
    """Cross-validate all candidates of a grid, training all of their networks at once.

    The networks are those that ``GridSearchCV(estimator, param_grid, cv=cv, scoring=scoring)``
    trains, and so are the scores. The folds are index sets of one ``X``, which is checked and
    copied once, and the networks are shared out to the cores.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        The estimator, of this module, not in a pipeline. Its ``random_state`` must be an int for
        the scores of ``GridSearchCV``.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Features.
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

    Returns
    -------
    dict of str to ndarray
        The table ``GridSearchCV.cv_results_``; no estimator is fitted to all data. A fit time is
        that of the whole call divided by the number of networks.

    Raises
    ------
    TypeError
        If the estimator is not one of this module.
    ValueError
        If a parameter is unknown, or no network can be trained. Candidates that cannot be trained
        score NaN, with a warning, if others can.

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
    folds = list(check_cv(cv, y, classifier=is_classifier(estimator)).split(X, y, groups))
    data = _Data(estimator, X, y)
    candidates = list(ParameterGrid(param_grid))
    started = time.perf_counter()
    fits = [data.fit(values, train) for values in candidates for train, _ in folds]
    waiting = iter(fits)
    jobs = [fit.job for fit in fits if fit.job is not None]
    # Networks are scored while others are trained.
    with closing(run_all(jobs, threads_of(estimator))) as trained:

        class Trained(type(estimator)):  # type: ignore[misc]
            """An estimator whose fit takes over the next trained network."""

            def fit(self, X: Any, y: Any) -> Any:
                self.__dict__.update(next(waiting).finish(trained))
                return self

        search = GridSearchCV(
            Trained(**estimator.get_params(deep=False)),
            param_grid,
            cv=folds,
            scoring=scoring,
            refit=False,
            n_jobs=1,
        )
        table: dict[str, Any] = search.fit(X, y).cv_results_
    seconds = (time.perf_counter() - started) / len(fits)
    table["mean_fit_time"] = np.full(len(candidates), seconds)
    table["std_fit_time"] = np.zeros(len(candidates))
    return table


class _Fit:
    """A network of the stack, or the reason why it cannot be trained."""

    def __init__(self, estimator: Any, job: Job | None, error: Exception | None = None) -> None:
        self.estimator, self.job, self.error = estimator, job, error

    def finish(self, trained: Iterator[Job]) -> dict[str, Any]:
        """Return the attributes of the fitted estimator; warn and raise as its fit does.

        ``trained`` yields the jobs in the order of the fits.
        """
        if self.error is not None:
            raise self.error
        if self.job is not None:
            next(trained).finish()
        return {k: v for k, v in vars(self.estimator).items() if k.endswith("_") or k[0] == "_"}


class _Data:
    """The checked data, which all networks share."""

    def __init__(self, estimator: Any, X: Any, y: Any) -> None:
        self.estimator, self.X, self.y = estimator, X, y
        self.checked = clone(estimator)
        self.X_checked, self.y_checked, self.targets = self.checked._validate(X, y, False, True)
        self.examples: Examples | None = None

    def fit(self, values: Mapping[str, Any], train: Any) -> _Fit:
        """Prepare the training of a candidate on the rows of a fold."""
        each = clone(self.estimator).set_params(
            **{name: clone(value, safe=False) for name, value in values.items()}
        )
        try:
            parameters.check(each, each._theirs)
            # Indices: a mask does not select from a list.
            train = np.arange(len(self.targets))[train]
            if not self._is_like(each, train):
                each.fit(_rows(self.X, train), _rows(self.y, train))
                return _Fit(each, None)
            for name in ("classes_", "_label_binarizer", "n_features_in_", "feature_names_in_"):
                if hasattr(self.checked, name):
                    setattr(each, name, getattr(self.checked, name))
            return _Fit(each, Job(each, self._prepare(each, train), 1))
        except Exception as error:
            return _Fit(each, None, error)

    def _is_like(self, each: Any, train: Any) -> bool:
        """Whether a fold has the classes of all data, and the candidate is one network."""
        if each.n_networks > 1 or each.n_init > 1:
            return False
        if is_classifier(each) and np.ndim(self.y_checked) == 1:
            return np.array_equal(np.unique(self.y_checked[train]), self.checked.classes_)
        return True

    def _prepare(self, each: Any, train: Any) -> Prepared:
        hidden = each._hidden()
        y, targets = self.y_checked, self.targets
        if each.solver == "lbfgs":
            own = self.X_checked[train], y[train], targets[train]
            return Prepared(each, *own, None, hidden, True, False)
        prepared = Prepared(
            each, self.X_checked, y, targets, None, hidden, True, False,
            train, self.examples,
        )  # fmt: skip
        self.examples = prepared.examples
        return prepared


def _rows(data: Any, rows: Any) -> Any:
    """Return some rows of an array, a sparse matrix, a list or a data frame."""
    if hasattr(data, "iloc"):
        return data.iloc[rows]
    if hasattr(data, "shape"):
        return data[rows]
    return [data[i] for i in rows]
