"""What scikit-learn's perceptrons do not have: ensembles, starts, schemes, weights of classes."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_array_equal

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris, make_regression
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_score,
    validation_curve,
)
from sklearn.utils.class_weight import compute_sample_weight

import fastinit as fi
from fastinit.sklearn import MLPClassifier, MLPRegressor, cross_validate_stack

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
XR, YR = make_regression(120, 6, noise=1, random_state=0)
SHORT = {"max_iter": 20, "random_state": 0}


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "lbfgs"}])
def test_an_ensemble_is_its_networks(options):
    model = MLPClassifier(n_networks=3, **SHORT, **options).fit(X, Y)
    alone = [
        MLPClassifier(**{**SHORT, **options, "random_state": each.random_state}).fit(X, Y)
        for each in model.networks_
    ]
    probabilities = [each.predict_proba(X) for each in alone]
    mean, spread = model.predict_proba(X, return_std=True)
    np.testing.assert_allclose(mean, np.mean(probabilities, axis=0), rtol=1e-9)
    np.testing.assert_allclose(spread, np.std(probabilities, axis=0), rtol=1e-6, atol=1e-12)
    assert len({each.random_state for each in model.networks_}) == 3
    assert model.n_iter_ == model.networks_[0].n_iter_


def test_an_ensemble_of_regressors():
    model = MLPRegressor(n_networks=3, **SHORT).fit(XR, YR)
    mean, spread = model.predict(XR, return_std=True)
    each = [network.predict(XR) for network in model.networks_]
    np.testing.assert_allclose(mean, np.mean(each, axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(spread, np.std(each, axis=0), rtol=1e-9)
    assert mean.shape == spread.shape == YR.shape
    model.partial_fit(XR, YR)
    assert not np.array_equal(model.predict(XR), mean)
    model.set_params(n_networks=2)
    with pytest.raises(ValueError, match="n_networks is 2, but 3"):
        model.partial_fit(XR, YR)


def test_the_best_start_is_kept():
    seeds = np.random.RandomState(0).randint(np.iinfo(np.int32).max, size=4).tolist()
    for options, quality in (
        ({}, lambda model: -model.loss_),
        ({"early_stopping": True}, lambda model: model.best_validation_score_),
    ):
        model = MLPClassifier(n_init=4, **SHORT, **options).fit(X, Y)
        starts = [MLPClassifier(**{**SHORT, **options, "random_state": s}).fit(X, Y) for s in seeds]
        assert quality(model) == max(quality(each) for each in starts)
        assert not hasattr(model, "networks_")


@pytest.mark.parametrize(
    "scheme",
    ["he_normal", fi.he_uniform, ["orthogonal", "zeros"], fi.initializers.get("lecun_normal")],
)  # fmt: skip
def test_initialization(scheme):
    """One epoch with a tiny rate leaves the initial weights."""
    model = MLPClassifier(initialization=scheme, learning_rate_init=1e-300, max_iter=1).fit(X, Y)
    if isinstance(scheme, list):
        np.testing.assert_allclose(
            model.coefs_[0] @ model.coefs_[0].T / np.square(model.coefs_[0][0]).sum(),
            np.eye(4), atol=1e-9,
        )  # fmt: skip
        assert np.abs(model.coefs_[1]).max() < 1e-299
    else:
        assert np.abs(model.intercepts_[0]).max() < 1e-299
        assert model.coefs_[0].std() > 0
    for wrong in ("no_such_scheme", ["zeros"]):
        with pytest.raises(ValueError, match=r"^initialization: expected 'auto', or one"):
            MLPClassifier(initialization=wrong).fit(X, Y)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 2.0, 1: 0.5}])
def test_class_weight(class_weight):
    rows = np.r_[0:20, 50:120]
    weights = compute_sample_weight(class_weight, Y[rows])
    a = MLPClassifier(class_weight=class_weight, **SHORT).fit(X[rows], Y[rows])
    b = MLPClassifier(**SHORT).fit(X[rows], Y[rows], sample_weight=weights)
    np.testing.assert_array_equal(a.loss_curve_, b.loss_curve_)


@pytest.mark.parametrize("activation", ["gelu", "silu", "selu", "leaky_relu"])
@pytest.mark.parametrize("solver", ["adamw", fi.Momentum(fi.Cosine(initial=0.1, iterations=60))])
def test_activations_and_optimisers(activation, solver):
    model = MLPClassifier(activation=activation, solver=solver, **{**SHORT, "max_iter": 60})
    assert model.fit(X, Y).score(X, Y) > 0.6
    assert clone(model).get_params() == model.get_params()


def test_schedule():
    """As the optimiser of fastinit with the same schedule."""
    rate = fi.Cosine(initial=0.01, iterations=30)
    model = MLPRegressor(solver="sgd", learning_rate=rate, alpha=0.5, **SHORT)
    model.fit(XR, YR / 100)
    same = MLPRegressor(
        solver=fi.Momentum(
            rate, 0.9, nesterov=True, l2=0.5, l2_by_batch=True, rate_in_velocity=True
        ),
        **SHORT,
    ).fit(XR, YR / 100)
    np.testing.assert_array_equal(model.loss_curve_, same.loss_curve_)


# --- searches -------------------------------------------------------------------------------------

GRID = {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(5,), (9, 4)]}


def assert_same_table(a, b):
    assert list(a) == list(b)
    for key in a:
        if "time" not in key:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.mark.parametrize(
    "grid", [GRID, [{"alpha": [0.1]}, {"solver": ["lbfgs"], "early_stopping": [True, False]}]]
)
@pytest.mark.parametrize("scoring", [None, "f1_macro", ["accuracy", "neg_log_loss"]])
def test_stack(grid, scoring):
    model = MLPClassifier(early_stopping=True, **SHORT)
    search = GridSearchCV(model, grid, cv=3, scoring=scoring, refit=False, n_jobs=1).fit(X, Y)
    assert_same_table(cross_validate_stack(model, X, Y, grid, 3, scoring), search.cv_results_)


def test_stack_of_regressors():
    folds = KFold(4, shuffle=True, random_state=1)
    model = MLPRegressor(**SHORT)
    search = GridSearchCV(model, GRID, cv=folds, refit=False, n_jobs=1).fit(XR, YR)
    assert_same_table(cross_validate_stack(model, XR, YR, GRID, folds), search.cv_results_)


def test_stack_with_folds_of_other_classes_and_failures():
    """Folds without a class are fitted one by one; failures are NaN, as in GridSearchCV."""
    folds = [(np.arange(100), np.arange(100, 150)), (np.r_[0:40, 60:150], np.arange(40, 60))]
    grid = {
        "early_stopping": [True],
        "validation_fraction": [0.2, 0.001],
        "class_weight": ["balanced"],
    }
    model = MLPClassifier(**SHORT)
    tables = []
    for find in (
        lambda: GridSearchCV(model, grid, cv=folds, refit=False, n_jobs=1).fit(X, Y).cv_results_,
        lambda: cross_validate_stack(model, X, Y, grid, folds),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tables.append(find())
    assert_same_table(*tables)
    assert np.isnan(tables[1]["mean_test_score"]).tolist() == [False, True]


def test_stack_refuses_other_estimators():
    with pytest.raises(TypeError, match="estimator: expected an MLPClassifier"):
        cross_validate_stack(GridSearchCV(MLPClassifier(), GRID), X, Y, GRID)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_searches(n_jobs):
    model = MLPClassifier(**SHORT)
    for search in (
        GridSearchCV(model, GRID, cv=2, n_jobs=n_jobs),
        RandomizedSearchCV(model, GRID, n_iter=2, cv=2, n_jobs=n_jobs, random_state=0),
        HalvingGridSearchCV(
            model, GRID, cv=2, n_jobs=n_jobs, resource="max_iter", max_resources=20
        ),
    ):
        assert 0 < search.fit(X, Y).best_score_ <= 1
    assert cross_val_score(model, X, Y, n_jobs=n_jobs).shape == (5,)
    train, test = validation_curve(
        model, X, Y, param_name="initialization", param_range=["auto", "he_normal"], cv=3,
        n_jobs=n_jobs,
    )  # fmt: skip
    assert train.shape == test.shape == (2, 3)


def test_sparse_features_in_parts(monkeypatch):
    import scipy.sparse as sp

    from fastinit.sklearn import descent

    Xb, yb = load_breast_cancer(return_X_y=True)
    Xb = Xb[:300] / Xb.std(axis=0)
    for options in (
        {"solver": "adam"},
        {"solver": "lbfgs"},
        {"solver": "sgd", "learning_rate": "invscaling"},
    ):
        a = MLPClassifier(batch_size=32, **SHORT, **options).fit(Xb, yb[:300])
        with monkeypatch.context() as patched:
            patched.setattr(descent, "DENSE_BYTES", 100 * 30 * 8)
            b = MLPClassifier(batch_size=32, **SHORT, **options).fit(sp.csr_matrix(Xb), yb[:300])
        np.testing.assert_allclose(a.loss_, b.loss_, rtol=1e-6)
        np.testing.assert_allclose(
            a.predict_proba(Xb), b.predict_proba(sp.csc_matrix(Xb)), rtol=1e-4, atol=1e-7
        )


def test_predictions_do_not_depend_on_threads_or_on_calls_at_once():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 20))
    y = rng.integers(3, size=len(X))
    model = MLPClassifier(max_iter=2, tol=1, n_iter_no_change=1, random_state=0, threads=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X[:500], y[:500])
    expected = model.predict_proba(X)
    assert_array_equal(model.predict_proba(np.asfortranarray(X)), expected)
    model.threads = 3
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(model.predict_proba, [X] * 12):
            assert_array_equal(found, expected)


@pytest.mark.parametrize("n", [1, 5, 300])
@pytest.mark.parametrize("units", [4, 100])
def test_rows_of_a_changed_array_are_predicted_anew(n, units):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 6)), rng.integers(3, size=300)
    model = MLPClassifier(units, solver="lbfgs", max_iter=1000, alpha=1, random_state=0).fit(X, y)
    rows = X[:n].copy()
    first = model.predict_proba(rows)
    rows[:] = X[::-1][:n]
    second = model.predict_proba(rows)
    assert_array_equal(second, model.predict_proba(X[::-1][:n].copy()))
    assert not np.array_equal(first, second)
