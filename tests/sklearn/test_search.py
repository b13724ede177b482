"""cross_validate_stack: the table, warnings and errors of scikit-learn's GridSearchCV."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp

# Before 1.7, searches gave no weights to scorers.
pytest.importorskip("sklearn", minversion="1.7")

import sklearn
from sklearn.base import clone
from sklearn.datasets import load_iris, make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, ShuffleSplit

from fastinit.sklearn import MLPClassifier, MLPRegressor, cross_validate_stack, search

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
XR, YR = make_regression(90, 5, noise=1, random_state=0)
YR /= YR.std()
SHORT = {"max_iter": 12, "random_state": 0, "hidden_layer_sizes": (6,)}
GRID = {"alpha": [1e-4, 1.0], "solver": ["adam", "lbfgs"]}
WEIGHTS = np.random.default_rng(0).uniform(0.1, 3, len(X))
FORMATS = ["csr", "csc", "coo", "bsr", "lil", "dia", "dok"]


def outcome(find):
    """Return the table or the error of a search, and its warnings without their tracebacks."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            result = find()
        except Exception as error:
            result = type(error), str(error).partition("Traceback")[0]
    told = sorted((each.category.__name__, str(each.message).split("---")[0]) for each in found)
    return result, told


def assert_same(model, X, y, grid, cv=3, scoring=None, groups=None, *, params=None, **options):
    """Compare with GridSearchCV of the same estimator; return the table or the error."""
    ours, ours_told = outcome(
        lambda: cross_validate_stack(
            clone(model), X, y, grid, cv, scoring, groups, params=params, **options
        )
    )
    arguments = {**(params or {}), **({} if groups is None else {"groups": groups})}
    theirs, theirs_told = outcome(
        lambda: (
            GridSearchCV(
                clone(model), grid, cv=cv, scoring=scoring, refit=False, n_jobs=1, **options
            )
            .fit(X, y, **arguments)
            .cv_results_
        )
    )
    assert ours_told == theirs_told
    if isinstance(theirs, tuple):
        assert ours == theirs
        return ours
    assert isinstance(ours, dict), ours
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        if "time" not in key:
            np.testing.assert_array_equal(ours[key], value, err_msg=key)
    return ours


def sparse_of(form, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sp.SparseEfficiencyWarning)
        return getattr(sp, form)(data)


@pytest.fixture
def stacked(monkeypatch):
    """Whether each network was trained in the stack, in the order of the fits."""
    found = []
    original = search._Folds.next_state

    def next_state(self):
        state = original(self)
        found.append(state is not None)
        return state

    monkeypatch.setattr(search._Folds, "next_state", next_state)
    return found


# --- data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse_features(form, kind, stacked):
    sparse = sparse_of(f"{form}_{kind}", X)
    assert_same(MLPClassifier(**SHORT), sparse, Y, {**GRID, "n_networks": [1, 2]})
    assert (len(stacked), sum(stacked)) == (24, 12)


def test_sparse_labels():
    features, labels = make_multilabel_classification(90, 6, random_state=0)
    for form in (sp.csr_matrix, sp.csc_array, sp.coo_matrix):
        assert_same(MLPClassifier(**SHORT), features, form(labels), GRID)


@pytest.mark.parametrize(
    "many",
    [
        XR,
        XR.tolist(),
        pd.DataFrame(XR, columns=list("abcde")),
        XR.astype(np.float32),
        np.asfortranarray(XR),
        sp.csr_array(XR.astype(np.float32)),
    ],
)
@pytest.mark.parametrize("targets", [YR, YR[:, None], np.c_[YR, YR], YR.tolist(), pd.Series(YR)])
def test_forms_of_data(many, targets, stacked):
    """Also the warnings about column vectors: one of each fit."""
    assert_same(MLPRegressor(**SHORT), many, targets, GRID, return_train_score=True)
    assert all(stacked)


@pytest.mark.parametrize(("features", "targets"), [
    (X[:-1], Y), (X, Y[1:]), (sp.csr_matrix(X)[:-1], Y), (X[:, 0], Y), (X[:, :, None], Y),
    (X[:, 0].tolist(), Y), (np.array(1.0), Y), (None, Y), (5, Y), ("text", Y), (X, None), (X, 1),
    (X.astype(str), Y), (np.full(X.shape, "a"), Y), (np.full(X.shape, np.nan), Y),
    (X.astype(complex), Y), (X[:0], Y[:0]), (X[:, :0], Y), (X[:2], Y[:2]), (X, Y + 0.5),
    (X, np.full(len(Y), np.nan)), (X, Y.astype(object)), (X, [None] * len(Y)),
    (sp.coo_array(X[:, 0]), Y), ({"a": X}, Y), (X, sp.csr_matrix(Y[:, None])),
    (iter(X), Y), (X > 1, Y), (np.ma.masked_array(X, X > 7), Y),
])  # fmt: skip
@pytest.mark.parametrize("cv", [3, KFold(3)])
def test_hostile_data(features, targets, cv):
    """The table or the error of GridSearchCV."""
    assert_same(MLPClassifier(**SHORT), features, targets, {"alpha": [0.1, 1]}, cv)


def test_values_that_only_some_folds_have(stacked):
    """Folds without them are fitted, and score."""
    features, targets = X[::3].copy(), Y[::3]
    features[0, 0] = np.nan
    rows = np.arange(len(features))
    folds = [(rows[1:40], rows[40:]), (rows[:40], rows[40:]), (rows[2:], rows[:2])]
    model = MLPClassifier(**SHORT)
    for options in ({}, {"error_score": 0.25}, {"error_score": "raise"}):
        assert_same(model, features, targets, GRID, folds, **options)
    assert not any(stacked)


@pytest.mark.parametrize("folds", [
    [([0, 1, 99, 149], [2, 3])], [([], [1, 2])], [([-1, -60, 0, 1], [5])], [([0, 1], [500])],
    [([0, 200], [5])], [(np.zeros(150, bool), [5])], [(np.ones(9, bool), [5])], [("ab", [5])],
    [([[0, 1], [2, 3]], [5])], [([0.0, 1.0], [5])], [(3, [5])], [([0] * 30 + [99] * 9, [5])],
    [([0, 1],)], [], 1000, ShuffleSplit(3, random_state=0),
    [(slice(0, 120), slice(120, 150))], KFold(3, shuffle=True, random_state=3),
])  # fmt: skip
@pytest.mark.parametrize("features", [X, X.tolist(), sp.csc_array(X)])
def test_hostile_folds(folds, features):
    assert_same(MLPClassifier(**SHORT), features, Y, GRID, folds)


@pytest.mark.parametrize("folds", [5.5, "text", 1, -3])
def test_numbers_of_folds(folds):
    with pytest.raises(ValueError, match=str(folds)):
        cross_validate_stack(MLPClassifier(**SHORT), X, Y, GRID, folds)


DAMAGE = [
    ("csr", "indices", 0, 10**6), ("csr", "indptr", -1, 10**6), ("csc", "indices", 0, -5),
    ("csc", "indptr", 1, 10**5), ("bsr", "indices", 0, 10**6), ("coo", "row", 0, 10**6),
    ("coo", "col", 3, -7), ("lil", "rows", 0, [10**6]), ("lil", "rows", 2, [0] * 999),
    ("lil", "data", 1, [0.5] * 999),
]  # fmt: skip


def damaged(form, array, at, value, data):
    matrix = getattr(sp, f"{form}_matrix")(data)
    getattr(matrix, array)[at] = value
    return matrix


@pytest.mark.parametrize(("form", "array", "at", "value"), DAMAGE)
def test_damaged_sparse_matrices(form, array, at, value):
    """SciPy would crash, or write to other memory."""
    features = damaged(form, array, at, value, X)
    labels = damaged(form, array, at, value, np.stack([Y > 0, Y > 1], axis=1).astype(int) * 1)
    model = MLPClassifier(**SHORT).fit(X, Y)
    for call in (
        lambda: cross_validate_stack(model, features, Y, GRID),
        lambda: cross_validate_stack(model, X, labels, GRID, KFold(3)),
        lambda: clone(model).fit(features, Y),
        lambda: clone(model).fit(X, labels),
        lambda: clone(model).partial_fit(features, Y, classes=[0, 1, 2]),
        lambda: MLPRegressor(**SHORT).fit(features, Y),
        lambda: model.predict(features),
    ):
        with pytest.raises(ValueError, match=r"ind(ex|ices|ptr)"):
            call()


def test_damaged_diagonals_and_lists():
    diagonals = sparse_of("dia_matrix", X)
    diagonals.offsets = np.append(diagonals.offsets, diagonals.offsets[:2])
    lists = sp.lil_matrix(X)
    lists.rows = np.append(lists.rows, lists.rows)
    for features, message in ((diagonals, "diagonals|offset"), (lists, "a list of indices")):
        with pytest.raises(ValueError, match=message):
            cross_validate_stack(MLPClassifier(**SHORT), features, Y, GRID)


# --- arguments of the search ----------------------------------------------------------------------


@pytest.mark.parametrize("weights", [
    WEIGHTS, WEIGHTS.tolist(), pd.Series(WEIGHTS, index=range(7, 157)), WEIGHTS.astype(np.float32),
    (WEIGHTS > 1).astype(int), None, 2.0, 0, WEIGHTS[:, None], WEIGHTS[:-1], "text", -WEIGHTS,
    np.r_[np.nan, WEIGHTS[1:]], np.zeros(150), np.repeat([0.0, 1.0], 75),
    np.repeat([1.0, 0.0], [100, 50]), WEIGHTS[:100],
])  # fmt: skip
@pytest.mark.parametrize("cv", [3, KFold(3)])
def test_sample_weight(weights, cv):
    grid = {**GRID, "early_stopping": [False, True]}
    for scoring in (None, "f1_macro"):
        assert_same(
            MLPClassifier(**SHORT), X, Y, grid, cv, scoring, params={"sample_weight": weights},
            return_train_score=True,
        )  # fmt: skip


def test_weights_are_used_in_the_stack(stacked):
    grid = {"early_stopping": [False, True], "class_weight": [None, "balanced"], **GRID}
    model = MLPClassifier(**SHORT)
    with_weights = assert_same(model, X, Y, grid, params={"sample_weight": WEIGHTS**3})
    assert all(stacked)
    without = assert_same(model, X, Y, grid)
    assert not np.array_equal(with_weights["mean_test_score"], without["mean_test_score"])


def test_weights_of_scorers_that_take_none():
    def without_weights(y, predicted):
        return accuracy_score(y, predicted)

    for scoring in (
        make_scorer(without_weights),
        lambda model, X, y: model.score(X, y),
        {"a": "accuracy", "b": make_scorer(without_weights)},
    ):
        with pytest.warns(UserWarning, match="does not support sample_weight"):
            cross_validate_stack(
                MLPClassifier(**SHORT), X, Y, GRID, 3, scoring, params={"sample_weight": WEIGHTS}
            )
        assert_same(
            MLPClassifier(**SHORT), X, Y, GRID, scoring=scoring, params={"sample_weight": WEIGHTS}
        )


def test_other_arguments():
    model = MLPClassifier(**SHORT)
    groups = np.arange(len(X)) % 7
    for params in ({"groups": groups}, {"groups": groups, "sample_weight": WEIGHTS}):
        assert_same(model, X, Y, GRID, GroupKFold(3), params=params)
    assert_same(model, X, Y, GRID, GroupKFold(3), groups=groups, params={"sample_weight": WEIGHTS})
    assert_same(model, X, Y, GRID, params={"no_such_argument": 1})
    with pytest.raises(ValueError, match=r"groups: expected groups or params\['groups'\]"):
        cross_validate_stack(model, X, Y, GRID, groups=groups, params={"groups": groups})
    with pytest.raises(TypeError, match=r"params: expected a dict .*; got list"):
        cross_validate_stack(model, X, Y, GRID, params=[WEIGHTS])


@pytest.mark.parametrize("error_score", [np.nan, 0, -1.5, "raise", "wrong", None])
@pytest.mark.parametrize("scoring", [None, ["accuracy", "neg_log_loss"]])
def test_failures(error_score, scoring):
    model = MLPClassifier(early_stopping=True, **SHORT)
    for grid in (
        {"validation_fraction": [0.2, 0.001, 0.3]},
        {"validation_fraction": [0.001, 0.002]},
        {"alpha": [-1, 0.1]},
        {"alpha": [-1, "a"], "solver": ["adam", "wrong"]},
        {"learning_rate_init": [1e300, 0.1], "solver": ["sgd"]},
        {"no_such_parameter": [1]},
        {"n_networks": [1, 0, 2]},
    ):
        assert_same(
            model, X, Y, grid, scoring=scoring, error_score=error_score, return_train_score=True
        )


def test_scorers_that_fail_or_fit():
    def fails(model, X, y):
        if model.alpha == 1:
            raise RuntimeError("alpha")
        return 1.0

    def fits(model, X, y):
        assert type(model) is MLPClassifier
        return clone(model).fit(X, y).score(X, y) - model.score(X, y)

    for error_score in (np.nan, 0.5, "raise"):
        assert_same(MLPClassifier(**SHORT), X, Y, GRID, scoring=fails, error_score=error_score)
    assert_same(MLPClassifier(**SHORT), X, Y, GRID, scoring=fits, return_train_score=True)


def test_metadata_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        for asks in (True, False):
            model = MLPClassifier(**SHORT).set_fit_request(sample_weight=asks)
            model = model.set_score_request(sample_weight=not asks)
            assert_same(model, X, Y, GRID, params={"sample_weight": WEIGHTS})
        assert_same(model, X, Y, GRID, GroupKFold(3), groups=np.arange(len(X)) % 7)
        assert_same(MLPClassifier(**SHORT), X, Y, GRID, params={"sample_weight": WEIGHTS})


class Doubling(MLPRegressor):
    """Fits other data than it is given."""

    def fit(self, X, y):
        return super().fit(X, 2 * y)


def test_subclasses_with_a_fit_of_their_own():
    assert_same(Doubling(**SHORT), XR, YR, GRID)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("hidden", [(30,), (60,), (30, 30)])
def test_one_batch_in_each_epoch(kind, hidden, stacked):
    """The same bits: kernels read a whole X in place where they gather the rows of another."""
    features = np.random.default_rng(0).normal(size=(90, 70)).astype(kind)
    targets = 2 * features[:, 0] + np.sin(features[:, 1])
    model = MLPRegressor(**{**SHORT, "hidden_layer_sizes": hidden}, loss="squared_error")
    assert_same(model, features, targets, {"alpha": [1e-4, 0.1], "early_stopping": [False, True]})
    assert all(stacked)


@pytest.mark.parametrize("error_score", [0, "raise"])
def test_fits_that_are_not_reached_do_not_warn(error_score):
    """A search that raises an error stops there, but all networks have been prepared."""
    model = MLPRegressor(**SHORT, batch_size=len(XR))  # larger than a fold
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.fit(XR[:60], YR[:60])
    assert "batch_size" in str(found[0].message)
    grid = {"solver": ["adam", "bogus", "sgd"]}
    assert_same(model, XR, YR, grid, error_score=error_score)


def test_convergence_warnings_are_those_of_each_fit():
    with pytest.warns(ConvergenceWarning) as found:
        cross_validate_stack(MLPClassifier(**SHORT), X, Y, GRID, 3)
    assert sum(each.category is ConvergenceWarning for each in found) == 12


@pytest.mark.parametrize("seed", range(12))
def test_random_searches(seed):
    rng = np.random.default_rng(seed)

    def some(*values):
        n = int(rng.integers(1, min(len(values), 2) + 1))
        return [values[i] for i in rng.permutation(len(values))[:n]]

    grid = {
        "hidden_layer_sizes": some((4,), (7, 3), (), 5),
        "activation": some("relu", "tanh", "logistic", "identity", "gelu"),
        "solver": some("adam", "sgd", "lbfgs", "adamw"),
        "early_stopping": some(False, True),
        "batch_size": some("auto", 17, 64),
        "alpha": some(0.0, 1e-3, 1.0, -1.0),
        "shuffle": some(True, False),
    }
    is_classifier = bool(rng.random() < 0.5)
    features, targets = (X, Y) if is_classifier else (XR, YR)
    features = features.astype(some(np.float32, np.float64)[0])
    if rng.random() < 0.3:
        features = sparse_of(f"{some(*FORMATS)[0]}_array", features)
    params = {}
    if rng.random() < 0.6:
        params["sample_weight"] = rng.uniform(0, 2, len(targets)) * (rng.random(len(targets)) < 0.8)
    scoring = [None, ["accuracy", "f1_macro"] if is_classifier else ["r2", "max_error"]]
    kind = MLPClassifier if is_classifier else MLPRegressor
    assert_same(
        kind(**{**SHORT, "max_iter": 6}), features, targets, grid,
        [2, KFold(3, shuffle=True, random_state=seed)][int(rng.integers(2))],
        {"s": "max_error"} if params and not is_classifier else scoring[int(rng.integers(2))],
        params=params, return_train_score=bool(rng.integers(2)),
        error_score=[np.nan, 0.5][int(rng.integers(2))],
    )  # fmt: skip
