"""Ctrl-C while several networks are trained: all of them stop, and none is lost."""

import signal
import threading
import time

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from fastinit.sklearn import MLPClassifier, cross_validate_stack

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="requires signals of threads"),
]

RANDOM = np.random.RandomState(0)
X = RANDOM.standard_normal((4000, 40))
Y = (X[:, 0] + RANDOM.standard_normal(4000) > 0).astype(int)
# An evaluation of L-BFGS takes some 10 ms; every network would train for minutes.
ENDLESS = {
    "hidden_layer_sizes": (64, 32), "max_iter": 10**5, "max_fun": 10**7, "tol": 0,
    "n_iter_no_change": 10**7, "random_state": 0,
}  # fmt: skip


def seconds_after_interrupt(call):
    """Interrupt a call that takes for ever; return how long it took from then on."""
    pressed = []

    def press():
        pressed.append(time.perf_counter())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    timer = threading.Timer(0.3, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        call()
    timer.join()
    return time.perf_counter() - pressed[0]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_an_ensemble_stops(solver, threads):
    model = MLPClassifier(solver=solver, threads=threads, n_networks=4, **ENDLESS)
    assert seconds_after_interrupt(lambda: model.fit(X, Y)) < 1


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_cross_validation_stops(solver, threads):
    model = MLPClassifier(solver=solver, threads=threads, **ENDLESS)
    grid = {"alpha": [0.1, 1.0]}
    assert seconds_after_interrupt(lambda: cross_validate_stack(model, X, Y, grid)) < 1


@pytest.mark.parametrize("threads", [1, 2])
def test_networks_that_were_fitted_before_are_kept(threads):
    model = MLPClassifier(threads=threads, n_networks=4, warm_start=True, **ENDLESS)
    model.set_params(max_iter=2).fit(X, Y)
    model.set_params(max_iter=10**5)
    assert seconds_after_interrupt(lambda: model.fit(X, Y)) < 1
    assert np.isfinite(model.predict_proba(X)).all()
    assert all(np.isfinite(W).all() for each in model.networks_ for W in each.coefs_)
