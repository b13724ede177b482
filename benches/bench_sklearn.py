"""How fast are the estimators of fastinit.sklearn, compared with scikit-learn's?

Both train the same networks to the same numbers. scikit-learn's BLAS has the number of threads that
is faster for the row, one or all cores.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from timing import Contender, absent, in_turns, needs, ratio

OURS, THEIRS = "fastinit.sklearn", "scikit-learn"
GRID = {
    "alpha": [1e-4, 1e-3, 1e-2],
    "learning_rate_init": [1e-3, 1e-2],
    "activation": ["relu", "tanh"],
}


def classes(m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_classification

    return make_classification(m, n, random_state=0)  # type: ignore[no-any-return]


def module(name: str) -> Any:
    if name == OURS:
        import fastinit.sklearn

        return fastinit.sklearn
    import sklearn.neural_network

    return sklearn.neural_network


def quietly(work: Callable[[], object], limit: int | None) -> Contender:
    """Return a contender that limits the threads of BLAS and ignores warnings."""
    from threadpoolctl import threadpool_limits

    def contender(n: int) -> None:
        with warnings.catch_warnings(), threadpool_limits(limit, "blas"):
            warnings.simplefilter("ignore")
            for _ in range(n):
                work()

    return contender


def fits(data: str, kind: str = "MLPClassifier", **settings: Any) -> Callable[[str], Any]:
    def make(name: str) -> Callable[[], object]:
        from sklearn import datasets

        if data in ("digits", "breast_cancer"):
            X, y = getattr(datasets, f"load_{data}")(return_X_y=True)
        elif kind == "MLPRegressor":
            X, y = datasets.make_regression(10_000, 50, random_state=0)
        else:
            X, y = classes(1000, 20)
        estimator = getattr(module(name), kind)(random_state=0, **settings)
        return lambda: estimator.fit(X, y)

    return make


def partial_fits(name: str) -> Callable[[], object]:
    X, y = classes(20_000, 20)
    batches = [(X[i : i + 200], y[i : i + 200]) for i in range(0, len(X), 200)]
    estimator = module(name).MLPClassifier(random_state=0)

    def work() -> None:
        for each in batches:
            estimator.partial_fit(*each, classes=[0, 1])

    return work


def predictions(rows: int) -> Callable[[str], Any]:
    def make(name: str) -> Callable[[], object]:
        X, y = classes(20_000, 20)
        estimator = module(name).MLPClassifier(random_state=0, max_iter=5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(X[:1000], y[:1000])
        return lambda: estimator.predict_proba(X[:rows])

    return make


def grid(n_jobs: dict[str, int]) -> Callable[[str], Any]:
    def make(name: str) -> Callable[[], object]:
        from sklearn.model_selection import GridSearchCV

        X, y = classes(1000, 20)
        estimator = module(name).MLPClassifier(random_state=0)
        search = GridSearchCV(estimator, GRID, cv=5, n_jobs=n_jobs[name], refit=False)
        return lambda: search.fit(X, y)

    return make


def stack(name: str) -> Callable[[], object]:
    if name == THEIRS:
        return grid({THEIRS: 2})(name)  # type: ignore[no-any-return]
    X, y = classes(1000, 20)
    estimator = module(OURS).MLPClassifier(random_state=0)
    return lambda: module(OURS).cross_validate_stack(estimator, X, y, GRID, 5)


def ensemble(name: str) -> Callable[[], object]:
    """Ten networks as one stack, and ten fits one after the other; both are ours."""
    X, y = classes(1000, 20)
    kind = module(OURS).MLPClassifier
    if name == OURS:
        return lambda: kind(n_networks=10, random_state=0).fit(X, y)
    return lambda: [kind(random_state=seed).fit(X, y) for seed in range(10)]


# Question, peer, work, target, turns.
TASKS: tuple[tuple[str, str, Callable[[str], Any], float, int], ...] = (
    ("`fit` on digits, 100 units", THEIRS, fits("digits"), 5, 3),
    ("`fit` on breast_cancer", THEIRS, fits("breast_cancer"), 8, 5),
    ("`fit` on 1,000 examples of 20 features", THEIRS, fits("classes"), 10, 5),
    (
        "`fit` on 10,000 examples of 50 features, regression, 20 epochs", THEIRS,
        fits("regression", "MLPRegressor", max_iter=20), 4, 5,
    ),
    ("`fit` with lbfgs on digits", THEIRS, fits("digits", solver="lbfgs"), 8, 5),
    ("`partial_fit` on 200 examples of 20 features", THEIRS, partial_fits, 4, 5),
    ("`predict_proba` of 1 row", THEIRS, predictions(1), 3, 7),
    ("`predict_proba` of 10,000 rows", THEIRS, predictions(10_000), 3, 7),
    (
        "`GridSearchCV`, 12 candidates, 5 folds, 1 job", f"{THEIRS}, 2 jobs",
        grid({OURS: 1, THEIRS: 2}), 5, 1,
    ),
    ("`cross_validate_stack`, 12 candidates, 5 folds", f"{THEIRS}, 2 jobs", stack, 8, 1),
    ("`n_networks=10`", "ten fits", ensemble, 2.5, 3),
)  # fmt: skip


@pytest.mark.parametrize("name", [OURS, THEIRS])
@pytest.mark.parametrize("task", TASKS[:8], ids=lambda task: task[0])
def test_estimators(benchmark, task, name):
    needs("sklearn")
    benchmark.group = task[0]
    benchmark.pedantic(quietly(task[2](name), None), (1,), rounds=1)


# --- python benches/report.py ---------------------------------------------------------------------


def rows() -> Iterator[dict]:
    for question, peer, make, target, turns in TASKS:
        row = {"question": question, "peer": peer, "target": target}
        if reason := absent("sklearn"):
            yield row | {"skipped": reason}
            continue
        contenders = {OURS: quietly(make(OURS), None)}
        for limit in (1, None):
            contenders[f"{THEIRS} {limit}"] = quietly(make(THEIRS), limit)
        times = in_turns(contenders, turns=turns, pause=0.15)
        best = min(ratio(times, name, OURS) for name in contenders if name != OURS)
        yield row | {"measured": best}


def ratios() -> list[dict]:
    """Return one row per task."""
    return list(rows())
