import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastinit import lesson

make_circles = pytest.importorskip("sklearn.datasets").make_circles


@pytest.fixture(autouse=True)
def restored_state():
    state = np.random.get_state()
    yield
    np.random.set_state(state)


def test_load_dataset_is_scikit_learns_to_the_bit():
    data = lesson.load_dataset()
    after = np.random.get_state()
    for seed, n, X, Y in ((1, 300, *data[:2]), (2, 100, *data[2:])):
        np.random.seed(seed)
        expected_X, expected_y = make_circles(n_samples=n, noise=0.05)
        assert_array_equal(X, expected_X.T)
        assert_array_equal(Y, expected_y.reshape(1, n))
    oracle = np.random.get_state()
    assert_array_equal(after[1], oracle[1])
    assert after[2:] == oracle[2:], "the state that the lesson's random weights start from"


@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_make_circles_of_odd_sizes(n):
    np.random.seed(5)
    X, y = lesson.make_circles(n, noise=0.2, factor=0.5)
    np.random.seed(5)
    expected_X, expected_y = make_circles(n, noise=0.2, factor=0.5)
    assert_array_equal(X, expected_X)
    assert_array_equal(y, expected_y)


def test_shapes():
    X, Y, X_test, Y_test = lesson.load_dataset()
    assert (X.shape, Y.shape, X_test.shape, Y_test.shape) == (
        (2, 300), (1, 300), (2, 100), (1, 100),
    )  # fmt: skip
    assert X.flags.c_contiguous
    assert X_test.flags.c_contiguous
