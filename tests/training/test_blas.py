"""L-BFGS limits the threads of BLAS, and leaves them as they were."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

import fastinit as fi
from fastinit.training.blas import single_blas_thread

threadpoolctl = pytest.importorskip("threadpoolctl")
pytest.importorskip("scipy.optimize")


def threads():
    return {each["num_threads"] for each in threadpoolctl.threadpool_info()
            if each["user_api"] == "blas"}  # fmt: skip


@pytest.fixture(autouse=True)
def before():
    found = threads()
    if found <= {1}:
        pytest.skip("BLAS has one thread")
    return found


def test_a_training_by_lbfgs(circles, before):
    X, Y, _, _ = circles
    net, seen = fi.Network([2, 5, 1]), []
    fi.train(
        net, net.initialize("he_normal", seed=0), X, Y, optimizer=fi.LBFGS(), iterations=3,
        callback=lambda run: seen.append(threads()),
    )  # fmt: skip
    assert seen
    assert all(each == {1} for each in seen)
    assert threads() == before


def test_overlapping_users(before):
    """The second would restore the limit of the first, which it found."""
    turns = Barrier(2, timeout=60)

    def first():
        with single_blas_thread():
            turns.wait()
            turns.wait()
        turns.wait()

    def second():
        turns.wait()
        with single_blas_thread():
            turns.wait()
            turns.wait()

    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(each) for each in (first, second)]:
            each.result()
    assert threads() == before


def test_an_ensemble_by_lbfgs(before):
    sklearn = pytest.importorskip("fastinit.sklearn")
    X = np.random.default_rng(0).normal(size=(60, 3))
    for seed in range(5):
        model = sklearn.MLPRegressor(
            n_networks=4, solver="lbfgs", max_iter=5 + seed, threads=2, random_state=seed
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, X[:, 0])
        assert threads() == before


def test_an_error_restores_the_threads(before):
    with pytest.raises(ZeroDivisionError), single_blas_thread():
        1 / 0  # noqa: B018
    assert threads() == before
