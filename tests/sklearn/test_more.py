"""What scikit-learn's perceptrons do not have: ensembles, starts, schemes, weights of classes."""

import inspect
import re
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
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
    with pytest.raises(ValueError, match="n_networks is 2, but 1 network was fitted before"):
        MLPRegressor(**SHORT).fit(XR, YR).set_params(n_networks=2).partial_fit(XR, YR)


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


def test_stack_with_groups():
    groups, model, grid = np.arange(len(X)) % 5, MLPClassifier(**SHORT), {"alpha": [0.01, 1]}
    ours = cross_validate_stack(model, X, Y, grid, cv=GroupKFold(3), groups=groups)
    theirs = GridSearchCV(model, grid, cv=GroupKFold(3)).fit(X, Y, groups=groups).cv_results_
    np.testing.assert_array_equal(ours["mean_test_score"], theirs["mean_test_score"])
    with pytest.raises(ValueError, match="groups"):
        cross_validate_stack(model, X, Y, grid, cv=GroupKFold(3))


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


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_docstrings_list_all_parameters_and_attributes(estimator):
    doc = inspect.getdoc(estimator)
    parameters, _, attributes = doc.partition("\nAttributes\n")
    listed = re.findall(r"^(\w+) :", parameters, re.MULTILINE)
    assert listed == list(inspect.signature(estimator).parameters)
    model = estimator(n_networks=2, early_stopping=True, max_iter=1, random_state=0).fit(X, Y)
    fitted = {name for name in vars(model) if name.endswith("_") and name[0] != "_"}
    assert set(re.findall(r"^(\w+) :", attributes, re.MULTILINE)) == fitted | {"feature_names_in_"}


def test_the_html_repr_documents_the_parameters():
    html = MLPClassifier()._repr_html_()
    assert "sklearn.neural_network.MLPClassifier.html" in html


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "swish"}, r"Got 'swish' instead.\nfastinit also accepts .*'silu'"),
        ({"solver": "rmsprop"}, r"'adamw' and optimisers other than LBFGS"),
        ({"solver": fi.LBFGS()}, r"'adamw' and optimisers other than LBFGS"),
        ({"learning_rate": 0.1}, r"a number is learning_rate_init"),
        ({"class_weight": [1, 2, 3]}, r"a list of dicts \(one per output\)"),
        ({"solver": fi.Adam([0.1] * 3)}, r"solver: expected a learning rate for each of 2 layers"),
    ],
)
def test_errors_name_what_is_accepted(options, message):
    with pytest.raises(ValueError) as found:  # noqa: PT011
        MLPClassifier(**options).fit(X, Y)
    text = "\n".join([str(found.value), *getattr(found.value, "__notes__", [])])
    assert re.search(message, text)


@pytest.mark.parametrize("options", [{}, {"n_networks": 2}, {"n_init": 2}, {"solver": "lbfgs"}])
def test_warnings_refer_to_the_caller(options):
    with pytest.warns(ConvergenceWarning) as found:
        MLPClassifier(max_iter=1, random_state=0, **options).fit(X, Y)
    assert {each.filename for each in found} == {__file__}


def test_weights_of_the_classes_of_each_output():
    targets = np.stack([Y > 0, Y > 1], axis=1)
    weights = [{False: 1.0, True: 2.0}, {False: 3.0, True: 1.0}]
    a = MLPClassifier(class_weight=weights, **SHORT).fit(X, targets)
    b = MLPClassifier(**SHORT).fit(X, targets, compute_sample_weight(weights, targets))
    np.testing.assert_array_equal(a.loss_curve_, b.loss_curve_)


@pytest.mark.parametrize("n_networks", [1, 2])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_another_solver_or_stopping_rule_on_the_same_parameters(n_networks, solver, early_stopping):
    """scikit-learn's estimators raise errors of missing attributes here."""
    model = MLPClassifier(
        solver=solver, early_stopping=early_stopping, n_networks=n_networks, **SHORT
    ).fit(X, Y)
    before = model.coefs_[0].copy()
    model.set_params(solver="adam", early_stopping=False).partial_fit(X, Y)
    assert not np.array_equal(model.coefs_[0], before)
    assert model.best_loss_ == model.loss_curve_[-1]
    assert model.validation_scores_ is None
    model.set_params(early_stopping=True, warm_start=True).fit(X, Y)
    assert model.best_loss_ is None
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert len(model.validation_scores_) == model.n_iter_


def test_folds_of_masks_and_lists():
    """Also of candidates that are fitted one by one."""
    grid = {"n_networks": [1, 2], "solver": ["adam", "lbfgs"]}
    masks = [(np.arange(len(Y)) % 3 != k, np.arange(len(Y)) % 3 == k) for k in range(2)]
    model = MLPClassifier(max_iter=3, random_state=1, hidden_layer_sizes=(3,))
    arguments = X.tolist(), Y.tolist()
    search = GridSearchCV(model, grid, cv=masks).fit(*arguments)
    assert_same_table(cross_validate_stack(model, *arguments, grid, masks), search.cv_results_)


def test_another_rule_or_solver_continues_a_training():
    """scikit-learn ends with an error about None here."""
    model = MLPClassifier(warm_start=True, **SHORT).fit(X, Y)
    losses = list(model.loss_curve_)
    model.set_params(early_stopping=True).fit(X, Y)
    assert model.loss_curve_[: len(losses)] == losses
    assert len(model.validation_scores_) == model.n_iter_
    assert model.best_loss_ is None
    assert model.best_validation_score_ == max(model.validation_scores_)
    model.set_params(early_stopping=False).partial_fit(X, Y)
    assert model.validation_scores_ is None
    assert model.best_validation_score_ is None
    assert model.best_loss_ == model.loss_
    model.set_params(solver="lbfgs").fit(X, Y)
    fitted = model.loss_
    model = MLPClassifier(solver="lbfgs", warm_start=True, **SHORT).fit(X, Y)
    model.set_params(solver="adam").fit(X, Y)
    assert model.loss_curve_[0] == pytest.approx(fitted, rel=0.5)
    assert len(model.loss_curve_) == model.n_iter_


def test_schedules_of_another_number_of_layers_are_refused():
    """A learning rate that is missing must not be taken from memory that nobody has written."""
    for rates in ([0.1], [0.1, 0.2, 0.3]):
        with pytest.raises(ValueError, match=f"for each of 2 layers; got {len(rates)}"):
            MLPClassifier(solver=fi.Adam(rates), **SHORT).fit(X, Y)
    with pytest.raises(TypeError, match="initialization: expected 'auto', or a name"):
        MLPClassifier(initialization=["he_normal", 5], **SHORT).fit(X, Y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("weights", [-1.0, np.nan, np.full(len(Y), 1e308), -np.ones(len(Y))])
def test_weights_without_a_sum_are_refused(solver, weights):
    """The kernels would not move: a fit that does nothing must not look like one that did."""
    model = MLPClassifier(solver=solver, batch_size=150, **SHORT)
    with pytest.raises(ValueError, match="finite sum above 0"):
        model.fit(X, Y, sample_weight=weights)
    for class_weight in ({0: 0, 1: 0, 2: 0}, {0: np.nan}, {1: np.inf}):
        model = MLPClassifier(solver=solver, class_weight=class_weight, **SHORT)
        with pytest.raises(ValueError, match="finite sum above 0"):
            model.fit(X, Y)


def test_batches_of_negative_weights_are_refused():
    weights = np.where(np.arange(len(Y)) < 140, 1.0, -1.0)
    model = MLPClassifier(batch_size=10, shuffle=False, **SHORT)
    with pytest.raises(ValueError, match="sum above 0"):
        model.fit(X, Y, sample_weight=weights)


def test_zero_is_no_weight_of_all_examples():
    with pytest.raises(ValueError, match="at least one non-zero number"):
        MLPRegressor(**SHORT).fit(XR, YR, sample_weight=0)


@pytest.mark.parametrize("form", ["csr_matrix", "csc_array"])
@pytest.mark.parametrize(("array", "at", "value"), [
    ("indices", 0, 10**6), ("indices", 0, -5), ("indptr", -1, 10**6), ("indptr", 1, 10**5),
])  # fmt: skip
def test_sparse_matrices_that_lead_out_of_themselves(form, array, at, value):
    """SciPy crashes, or writes to other memory."""
    model = MLPClassifier(**SHORT).fit(X, Y)
    damaged = getattr(sp, form)(X)
    getattr(damaged, array)[at] = value
    for call in (
        lambda: model.fit(damaged, Y), lambda: model.predict(damaged),
        lambda: MLPClassifier(solver="lbfgs", n_networks=2).fit(damaged, Y),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"index|indices|indptr"):
            call()


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
