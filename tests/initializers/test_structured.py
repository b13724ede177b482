"""Orthogonal, identity-like and sparse matrices."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastinit as fi

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "shape", [(1, 1), (5, 5), (3, 200), (200, 3), (64, 64), (65, 130), (600, 700), (8, 3, 3, 3)]
)
def test_orthogonal(shape, dtype):
    W = fi.orthogonal(shape, 2.0, seed=0, dtype=dtype)
    matrix = W.reshape(shape[0], -1).astype(np.float64) / 2
    if len(matrix) > matrix.shape[1]:
        matrix = matrix.T
    # Each of n reflectors adds an error of a few eps to every entry, in random directions.
    bound = 10 * math.sqrt(matrix.shape[1]) * np.finfo(dtype).eps
    assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), rtol=0, atol=bound)
    assert_allclose(fi.orthogonal(shape, 2.0, seed=0, dtype=dtype), W, rtol=0, atol=bound)


def test_orthogonal_is_a_qr_decomposition():
    """The reflectors are those of a matrix with the same Q and a positive diagonal of R."""
    Q = fi.orthogonal((40, 40), seed=5)
    V = np.triu(fi.normal((40, 40), seed=5))
    # Any R with this diagonal will do. The columns of Q.T @ R are orthogonal, so that the error of
    # the factorisation is that of Q itself.
    R = np.diag(np.linalg.norm(V, axis=1))
    q, r = np.linalg.qr(Q.T @ R)
    bound = 2 * 10 * math.sqrt(40) * np.finfo(float).eps
    assert_allclose(q * np.sign(np.diag(r)), Q.T, rtol=0, atol=bound)
    # The first row is the first normal vector, normalised.
    assert_allclose(Q[0], V[0] / np.linalg.norm(V[0]), rtol=0, atol=bound)


def test_orthogonal_is_haar():
    """The distributions of entries, determinants and traces of 20,000 matrices."""
    n = 4
    Q = np.stack([fi.orthogonal((n, n), seed=0, stream=i) for i in range(20_000)])
    # An entry is a coordinate of a point on the sphere: its square is Beta(1/2, (n - 1) / 2).
    for i, j in ((0, 0), (0, 3), (3, 0), (3, 3), (2, 1)):
        assert stats.kstest(Q[:, i, j] ** 2, stats.beta(0.5, (n - 1) / 2).cdf).pvalue > 1e-4
        assert stats.binomtest(int((Q[:, i, j] > 0).sum()), len(Q)).pvalue > 1e-4
    assert stats.binomtest(int((np.linalg.det(Q) > 0).sum()), len(Q)).pvalue > 1e-4
    # Under Haar's measure E[trace Q] = 0, E[(trace Q)**2] = 1, E[(trace Q)**4] = 3 for n >= 4
    # (Diaconis and Shahshahani 1994). The bound is four standard errors.
    trace = np.trace(Q, axis1=1, axis2=2)
    for k, expected, variance in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
        assert abs(np.mean(trace**k) - expected) < 4 * math.sqrt(variance / len(Q))
    # The distribution is invariant under rotation.
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0] @ Q
    assert stats.ks_2samp(turned[:, 1, 2], Q[:, 1, 2]).pvalue > 1e-4


def test_orthogonal_windows_are_parts():
    whole = fi.orthogonal((7, 9), seed=1)
    assert_allclose(fi.orthogonal((7, 9), seed=1, window=np.s_[2:5, 3:]), whole[2:5, 3:])


def test_dirac_is_torchs():
    torch = pytest.importorskip("torch")
    for shape, groups in [
        ((4, 4, 3), 1),
        ((6, 2, 3, 4), 1),
        ((6, 2, 5, 3), 3),
        ((2, 5, 1, 1, 2), 2),
    ]:
        expected = torch.nn.init.dirac_(torch.empty(shape), groups).numpy()
        assert_array_equal(fi.dirac(shape, groups), expected)


def test_dirac_preserves_channels():
    X = np.arange(12.0).reshape(2, 6)
    W = fi.dirac((2, 2, 3))
    for channel in range(2):
        out = sum(np.convolve(X[i], W[channel, i][::-1], "same") for i in range(2))
        assert_array_equal(out, X[channel])


def test_delta_orthogonal():
    W = fi.delta_orthogonal((5, 3, 3, 4), 2.0, seed=0)
    tap = W[:, :, 1, 2].copy()
    bound = 10 * math.sqrt(5) * np.finfo(float).eps  # that of test_orthogonal, times gain**2
    assert_allclose(tap.T @ tap, 4 * np.eye(3), rtol=0, atol=4 * bound)
    W[:, :, 1, 2] = 0
    assert not W.any()


def test_identity():
    assert_array_equal(fi.identity((3, 5), 0.5), 0.5 * np.eye(3, 5))
    window = np.s_[1:3, 2:5]
    assert_array_equal(fi.identity((3, 5), window=window), np.eye(3, 5)[window])


def test_zero_init():
    """Parts of the identity and of SciPy's Hadamard matrix."""
    hadamard = pytest.importorskip("scipy.linalg").hadamard

    assert_array_equal(fi.zero_init((3, 5)), np.eye(3, 5))
    assert_array_equal(fi.zero_init((4, 4)), np.eye(4))
    expected = hadamard(8)[:6, :3] * 2.0 ** (-(3 - 1) / 2)
    assert_allclose(fi.zero_init((6, 3)), expected, rtol=1e-15)
    window = np.s_[1:5, 1:2]
    assert_array_equal(fi.zero_init((6, 3), window=window), fi.zero_init((6, 3))[window])
    convolution = fi.zero_init((6, 3, 3, 3))
    assert_array_equal(convolution[:, :, 1, 1], fi.zero_init((6, 3)))
    assert np.count_nonzero(convolution) == 18


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9, 1.0])
def test_sparse(sparsity):
    W = fi.sparse((50, 400), sparsity, 2.0, seed=0)
    assert ((W == 0).sum(axis=0) == math.ceil(sparsity * 50)).all()
    values = W[W != 0]
    if values.size:
        assert stats.kstest(values, stats.norm(0, 2).cdf).pvalue > 1e-4
    for window in (np.s_[3:40, 5:300], np.s_[10:10], np.s_[:, 399:]):
        part = fi.sparse((50, 400), sparsity, 2.0, seed=0, window=window)
        assert_array_equal(part, W[window])
    across = fi.sparse((50, 400), sparsity, in_axis=0, out_axis=1, seed=0, window=np.s_[7:30, 9:])
    assert_array_equal(
        across, fi.sparse((50, 400), sparsity, in_axis=0, out_axis=1, seed=0)[7:30, 9:]
    )


def test_sparse_chooses_evenly():
    """Every weight is zero equally often, independently of its value."""
    lost = np.stack([fi.sparse((10, 20), 0.5, seed=0, stream=i) == 0 for i in range(2000)])
    assert stats.chisquare(lost.sum(axis=0).ravel()).pvalue > 1e-4
    whole = np.abs(np.stack([fi.normal((10, 20), seed=0, stream=i) for i in range(2000)]))
    assert abs(np.corrcoef(lost.ravel(), whole.ravel())[0, 1]) < 4 / math.sqrt(lost.size)
