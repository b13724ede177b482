"""Agreement with scikit-learn: the same numbers for the same parameters."""

import _thread
import copy
import pickle
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

# Before 1.7, scikit-learn had neither weights of examples nor the loss of Poisson.
pytest.importorskip("sklearn", minversion="1.7")
hypothesis = pytest.importorskip("hypothesis")

import scipy.sparse as sp  # noqa: E402
import sklearn.neural_network  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import (  # noqa: E402
    load_breast_cancer,
    load_iris,
    make_multilabel_classification,
    make_regression,
)
from sklearn.exceptions import ConvergenceWarning  # noqa: E402

import fastinit.sklearn  # noqa: E402

THEIRS, OURS = sklearn.neural_network, fastinit.sklearn

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Got `batch_size`"),
    # scikit-learn's own arithmetic where a training diverges.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


def tasks():
    random = np.random.RandomState(0)
    iris = load_iris(return_X_y=True)
    X, y = load_breast_cancer(return_X_y=True)
    labels = make_multilabel_classification(120, 8, random_state=0)
    Xr, yr = make_regression(130, 6, noise=1, random_state=0)
    yr = yr / yr.std()
    return {
        "multiclass": ("MLPClassifier", *iris, {}),
        "binary": ("MLPClassifier", X[:200] / X.std(axis=0), y[:200], {}),
        "unscaled": ("MLPClassifier", X[:150], y[:150], {}),
        "multilabel": ("MLPClassifier", *labels, {}),
        "regression": ("MLPRegressor", Xr, yr, {}),
        "outputs": ("MLPRegressor", Xr, np.c_[yr, yr**2, Xr[:, 0]], {}),
        "poisson": (
            "MLPRegressor", Xr, random.poisson(np.exp(Xr[:, 0])).astype(float), {"loss": "poisson"},
        ),
    }  # fmt: skip


TASKS = tasks()
REPRESENTATIONS = {
    "array": np.asarray,
    "fortran": np.asfortranarray,
    "csr": sp.csr_matrix,
    "csc": sp.csc_matrix,
}


@st.composite
def parameters(draw):
    return {
        "hidden_layer_sizes": draw(st.sampled_from([(), (7,), 5, (6, 3), (100,)])),
        "activation": draw(st.sampled_from(["identity", "logistic", "tanh", "relu"])),
        "solver": draw(st.sampled_from(["sgd", "adam"])),
        "alpha": draw(st.sampled_from([0.0, 1e-4, 0.3])),
        "batch_size": draw(st.sampled_from(["auto", 11, 64])),
        "learning_rate": draw(st.sampled_from(["constant", "invscaling", "adaptive"])),
        "learning_rate_init": draw(st.sampled_from([1e-4, 1e-3, 0.01])),
        "power_t": draw(st.sampled_from([0.25, 0.5])),
        "max_iter": 20,
        "shuffle": draw(st.booleans()),
        "random_state": draw(st.integers(0, 2**32 - 1)),
        "tol": draw(st.sampled_from([0.0, 1e-4, 0.05])),
        "momentum": draw(st.sampled_from([0.0, 0.5, 0.9])),
        "nesterovs_momentum": draw(st.booleans()),
        "early_stopping": draw(st.booleans()),
        "validation_fraction": draw(st.sampled_from([0.1, 0.3])),
        "beta_1": draw(st.sampled_from([0.0, 0.9])),
        "epsilon": draw(st.sampled_from([1e-8, 1e-3])),
        "n_iter_no_change": draw(st.sampled_from([1, 3, 10])),
        "warm_start": draw(st.booleans()),
    }


def outputs(model, X):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def assert_same(ours, theirs, X, rtol=1e-9):
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.n_layers_ == theirs.n_layers_
    assert ours.n_outputs_ == theirs.n_outputs_
    assert ours.out_activation_ == theirs.out_activation_
    assert ours.n_features_in_ == theirs.n_features_in_
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=rtol)
    if hasattr(theirs, "loss_curve_"):
        assert ours.t_ == theirs.t_
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=rtol)
        for name in ("best_loss_", "best_validation_score_", "validation_scores_"):
            a, b = getattr(ours, name), getattr(theirs, name)
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
    for a, b in zip(
        ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True
    ):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
    a, b = outputs(ours, X), outputs(theirs, X)
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    scale = max(np.abs(b).max(), 1)
    np.testing.assert_allclose(a, b, rtol=100 * rtol, atol=100 * rtol * scale)


def pair(kind, **values):
    return getattr(OURS, kind)(**values), getattr(THEIRS, kind)(**values)


def call(model, *arguments, **keywords):
    """Return the error of a call, or None."""
    try:
        model(*arguments, **keywords)
    except Exception as error:
        return error
    return None


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    task=st.sampled_from(sorted(TASKS)),
    values=parameters(),
    weighted=st.booleans(),
    representation=st.sampled_from(sorted(REPRESENTATIONS)),
    fits=st.integers(1, 2),
)
def test_stochastic(task, values, weighted, representation, fits):
    kind, X, y, fixed = TASKS[task]
    X = REPRESENTATIONS[representation](X)
    weights = np.random.RandomState(0).uniform(0.1, 2, len(y)) if weighted else None
    ours, theirs = pair(kind, **values, **fixed)
    for _ in range(fits):
        errors = [call(each.fit, X, y, sample_weight=weights) for each in (ours, theirs)]
        assert [str(each) for each in errors[:1]] == [str(each) for each in errors[1:]]
        if errors[0] is None:
            assert_same(ours, theirs, X)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(task=st.sampled_from(sorted(TASKS)), values=parameters(), weighted=st.booleans())
def test_partial_fit(task, values, weighted):
    kind, X, y, fixed = TASKS[task]
    ours, theirs = pair(kind, **{**values, "early_stopping": False, "warm_start": False}, **fixed)
    weights = np.random.RandomState(0).uniform(0.1, 2, len(y)) if weighted else None
    keywords = {}
    if kind == "MLPClassifier":
        keywords["classes"] = np.arange(y.shape[1]) if y.ndim > 1 else np.unique(y)
    for part in (slice(0, 50), slice(50, 120), slice(0, 120), slice(20, 60)):
        own = None if weights is None else weights[part]
        for each in (ours, theirs):
            each.partial_fit(X[part], y[part], sample_weight=own, **keywords)
        assert_same(ours, theirs, X)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_a_penalty_that_is_changed_between_calls(solver):
    """scikit-learn takes alpha anew at each call, and keeps the settings of its optimiser."""
    _, X, y, _ = TASKS["regression"]
    ours, theirs = pair("MLPRegressor", solver=solver, random_state=0)
    for alpha in (1e-4, 2.0, 0.0, 0.5):
        for each in (ours, theirs):
            each.set_params(alpha=alpha, momentum=alpha / 4, learning_rate_init=0.01 + alpha)
            each.partial_fit(X, y)
    assert_same(ours, theirs, X)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("representation", ["array", "csr"])
@pytest.mark.parametrize("task", sorted(set(TASKS) - {"unscaled"}))
def test_lbfgs(task, activation, weighted, representation):
    kind, X, y, fixed = TASKS[task]
    X = REPRESENTATIONS[representation](X)
    weights = np.random.RandomState(0).uniform(0.1, 2, len(y)) if weighted else None
    values = {"solver": "lbfgs", "activation": activation, "max_iter": 15, "random_state": 0}
    ours, theirs = pair(kind, **values, **fixed)
    for each in (ours, theirs):
        each.fit(X, y, sample_weight=weights)
    assert_same(ours, theirs, X, rtol=1e-6)


@pytest.mark.parametrize("solver", ["lbfgs", "adam", "sgd"])
@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel", "regression"])
def test_negative_weights_of_some_samples(task, solver):
    kind, X, y, fixed = TASKS[task]
    weights = np.where(np.arange(len(y)) % 30 == 7, -0.7, 1.1)
    values = {"solver": solver, "max_iter": 10, "random_state": 0}
    ours, theirs = pair(kind, **values, **fixed)
    for each in (ours, theirs):
        each.fit(X, y, sample_weight=weights)
    assert_same(ours, theirs, X, rtol=1e-6 if solver == "lbfgs" else 1e-9)


@pytest.mark.parametrize("task", sorted(set(TASKS) - {"unscaled"}))
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_float32(task, solver):
    """The rounding of 20 epochs; the types are the same."""
    kind, X, y, fixed = TASKS[task]
    X = X.astype(np.float32)
    ours, theirs = pair(kind, solver=solver, max_iter=20, random_state=0, **fixed)
    for each in (ours, theirs):
        each.fit(X, y)
    assert_same(ours, theirs, X, rtol=2e-5)
    assert outputs(ours, X.astype(np.float64)).dtype == np.float64


@pytest.mark.parametrize("activation", ["logistic", "relu"])
@pytest.mark.parametrize("task", sorted(set(TASKS) - {"unscaled"}))
def test_lbfgs_in_float32(task, activation):
    """The rounding of three iterations, each of which multiplies it; the types are the same."""
    kind, X, y, fixed = TASKS[task]
    X = X.astype(np.float32)
    values = {"solver": "lbfgs", "activation": activation, "max_iter": 3, "random_state": 0}
    ours, theirs = pair(kind, **values, **fixed)
    for each in (ours, theirs):
        each.fit(X, y)
    assert_same(ours, theirs, X, rtol=1e-4)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_divergence(early_stopping):
    _, X, y, _ = TASKS["regression"]
    values = {"solver": "sgd", "learning_rate_init": 1e6, "max_iter": 20, "random_state": 0}
    ours, theirs = pair("MLPRegressor", early_stopping=early_stopping, **values)
    errors = [call(each.fit, X, y) for each in (ours, theirs)]
    assert str(errors[0]) == str(errors[1])
    assert (errors[0] is None) == early_stopping
    assert ours.n_iter_ == theirs.n_iter_ == 20
    assert len(ours.loss_curve_) == 20


def test_a_random_state_advances_as_much():
    _, X, y, _ = TASKS["multiclass"]
    states = [np.random.RandomState(5) for _ in range(2)]
    for kind, state in zip((OURS, THEIRS), states, strict=True):
        kind.MLPClassifier(random_state=state, n_iter_no_change=2, tol=0.1).fit(X, y)
    assert states[0].uniform() == states[1].uniform()


BAD = {
    "hidden_layer_sizes": ["a", 0, (3, -1), (2.5,)],
    "activation": ["x", None],
    "solver": ["x", 3],
    "alpha": [-1, "a", np.nan],
    "batch_size": [0, 1.5, "a"],
    "learning_rate": ["x", 1.0],
    "learning_rate_init": [0, -1.0],
    "power_t": [-1],
    "max_iter": [0, 2.5],
    "shuffle": [1, "a"],
    "random_state": ["a", -1],
    "tol": [-1],
    "verbose": ["a", -1],
    "warm_start": ["a"],
    "momentum": [2, -0.1],
    "nesterovs_momentum": [0],
    "early_stopping": [None],
    "validation_fraction": [1, -0.1],
    "beta_1": [1],
    "beta_2": [-1],
    "epsilon": [0],
    "n_iter_no_change": [0, 1.5],
    "max_fun": [0],
}


@pytest.mark.parametrize("name", sorted(BAD))
@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_errors_of_parameters(kind, name):
    """scikit-learn's types and messages."""
    for value in BAD[name]:
        ours, theirs = (
            call(each.fit, np.eye(4), np.arange(4) % 2) for each in pair(kind, **{name: value})
        )
        assert theirs is not None
        assert isinstance(ours, type(theirs))
        assert str(ours) == str(theirs)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_networks", 0), ("n_init", "a"), ("threads", 0), ("initialization", 3),
     ("class_weight", "even")],
)  # fmt: skip
def test_errors_of_our_parameters(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of MLPClassifier must be"):
        OURS.MLPClassifier(**{name: value}).fit(np.eye(4), np.arange(4) % 2)


@pytest.mark.parametrize(
    ("X", "y", "weights"),
    [
        (np.full((4, 2), np.nan), [0, 1, 0, 1], None),
        (np.ones((4, 2, 2)), [0, 1, 0, 1], None),
        (np.ones((4, 2)), [0, 1], None),
        (np.ones((4, 2)), [0.5, 1.5, 2.5, 3.5], None),
        (np.ones((4, 2)), [0, 1, 0, 1], [1, 2]),
        (np.ones((4, 2)), [0, 1, 0, 1], [0, 0, 0, 0]),
        (np.ones((4, 2)), [0, 1, 0, 1], [[1], [1], [1], [1]]),
        ([["a", "b"]], [0], None),
    ],
)
def test_errors_of_data(X, y, weights):
    if weights is not None and sklearn.__version__ < "1.9":
        pytest.skip("older versions word the errors of weights otherwise")
    ours, theirs = (
        call(each.fit, X, y, sample_weight=weights) for each in pair("MLPClassifier", max_iter=1)
    )
    assert type(ours) is type(theirs)
    assert str(ours) == str(theirs)


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_validation_samples_without_weight(kind):
    """All weight is in one sample, so the training or the validation samples have none."""
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    found = set()
    for weights in np.eye(20):
        errors = [
            call(model.fit, X, y, sample_weight=weights)
            for model in pair(kind, early_stopping=True, validation_fraction=0.2, random_state=0)
        ]
        assert type(errors[0]) is type(errors[1])
        assert str(errors[0]) == str(errors[1])
        found.add(type(errors[0]))
    assert found == {ValueError, ZeroDivisionError}


def test_warnings():
    _, X, y, _ = TASKS["multiclass"]
    for values in ({"max_iter": 2}, {"max_iter": 2, "solver": "lbfgs"}, {"batch_size": 500}):
        texts = []
        for each in pair("MLPClassifier", random_state=0, **values):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                each.fit(X, y)
            texts.append([(str(w.message), w.category) for w in caught])
        assert texts[0] == texts[1] != []


def test_verbose(capsys):
    _, X, y, _ = TASKS["regression"]
    for values in (
        {"learning_rate": "adaptive", "tol": 0.5, "learning_rate_init": 0.01},
        {"early_stopping": True},
    ):
        texts = []
        for each in pair("MLPRegressor", solver="sgd", verbose=True, random_state=0, **values):
            each.set_params(max_iter=60, n_iter_no_change=2).fit(X, y)
            texts.append(capsys.readouterr().out)
        assert texts[0] == texts[1]


# --- conventions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_continue(copied):
    _, X, y, _ = TASKS["binary"]
    model = OURS.MLPClassifier(random_state=0, max_iter=5).fit(X, y)
    other = copied(model)
    for each in (model, other):
        each.partial_fit(X, y)
    np.testing.assert_array_equal(model.coefs_[0], other.coefs_[0])
    np.testing.assert_array_equal(model.predict_proba(X), other.predict_proba(X))


def test_parameters_that_are_set_are_used():
    _, X, y, _ = TASKS["regression"]
    model = OURS.MLPRegressor(random_state=0, max_iter=2).fit(X, y)
    model.coefs_[-1][:] = 0
    model.intercepts_ = [model.intercepts_[0], np.array([3.0])]
    np.testing.assert_array_equal(model.predict(X), np.full(len(X), 3.0))
    model.partial_fit(X, y)
    assert abs(model.intercepts_[1][0] - 3.0) < 0.01
    np.testing.assert_array_equal(clone(model).get_params(), model.get_params())


def test_the_signature_is_theirs():
    for kind in ("MLPClassifier", "MLPRegressor"):
        ours, theirs = pair(kind)
        known = theirs.get_params()
        assert {name: ours.get_params()[name] for name in known} == known
        added = set(ours.get_params()) - set(known)
        expected = {"initialization", "n_networks", "n_init", "threads"}
        assert added == expected | ({"class_weight"} if kind == "MLPClassifier" else set())


def test_threads_do_not_change_results():
    _, X, y, _ = TASKS["unscaled"]
    X = X / X.std(axis=0)
    counts = (1, 2, 7, 2**64)
    found = [OURS.MLPClassifier(random_state=0, threads=n, max_iter=5).fit(X, y) for n in counts]
    for each in found[1:]:
        np.testing.assert_array_equal(found[0].coefs_[0], each.coefs_[0])
        np.testing.assert_array_equal(found[0].predict_proba(X), each.predict_proba(X))


def test_one_thread_in_workers_of_joblib():
    from joblib import Parallel, delayed

    from fastinit.sklearn.estimators import threads_of

    models = [OURS.MLPClassifier(), OURS.MLPClassifier(threads=3)]
    for backend in ("loky", "threading"):
        found = Parallel(n_jobs=2, backend=backend)(delayed(threads_of)(each) for each in models)
        assert found == [1, 3]


# --- without touching code ------------------------------------------------------------------------


def test_patch(tmp_path):
    before = pickle.dumps(THEIRS.MLPClassifier(max_iter=3).fit([[0.0], [1.0]], [0, 1]))
    fastinit.sklearn.patch()
    try:
        assert sklearn.neural_network.MLPClassifier is OURS.MLPClassifier
        loaded = pickle.loads(before)
        assert type(loaded).__module__.startswith("sklearn.")
        assert loaded.predict([[0.0]]).shape == (1,)
    finally:
        fastinit.sklearn.unpatch()
    assert sklearn.neural_network.MLPClassifier is not OURS.MLPClassifier


def test_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "import sklearn.neural_network\n"
        "from sklearn.neural_network import MLPRegressor\n"
        "print(__name__, sys.argv[1:], MLPRegressor.__module__.split('.')[0])\n"
    )
    found = subprocess.run(
        [sys.executable, "-m", "fastinit.sklearn", str(script), "--option", "3"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout == "__main__ ['--option', '3'] fastinit\n"
    empty = subprocess.run(
        [sys.executable, "-m", "fastinit.sklearn"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert empty.returncode == 2
    assert "usage" in empty.stdout
    absent = subprocess.run(
        [sys.executable, "-m", "fastinit.sklearn", "absent.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert absent.returncode == 1
    assert "no such file: absent.py" in absent.stderr
    assert "Traceback" not in absent.stderr


def test_no_warning_is_lost():
    with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
        OURS.MLPClassifier(max_iter=1, n_networks=2).fit(np.eye(4), np.arange(4) % 2)


def test_ctrl_c_keeps_what_is_trained():
    """scikit-learn's warning, and the epochs that were completed."""
    _, X, y, _ = TASKS["regression"]
    model = OURS.MLPRegressor(max_iter=10**7, tol=0, n_iter_no_change=10**7, random_state=0)
    timer = threading.Timer(0.5, _thread.interrupt_main)
    timer.start()
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(X, y)
    timer.join()
    assert 0 < model.n_iter_ < 10**7
    assert len(model.loss_curve_) == model.n_iter_
    assert model.predict(X).shape == y.shape
