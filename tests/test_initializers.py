"""The schemes: their values, the arrays that they fill, and the arguments that they refuse."""

import array
import inspect
import math
import re
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from typing import Unpack

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from rounding import FUNCTION, steepest

import fastinit as fi
from fastinit import initializers, reference
from fastinit.initializers import scaling, target
from fastinit.initializers import scheme as schemes
from fastinit.initializers.target import Common
from fastinit.training.network import ACTIVATIONS
from fastinit.validation import check_integer

integrate = pytest.importorskip("scipy.integrate")
special = pytest.importorskip("scipy.special")
stats = pytest.importorskip("scipy.stats")

CONVOLUTIONS = ("dirac", "delta_orthogonal")
SHAPES = {name: (6, 4, 3, 3) if name in CONVOLUTIONS else (6, 4) for name in initializers.names()}
LESSON = ("lesson.random", "lesson.he")
# The byte order that this machine does not have.
SWAPPED = np.dtype("f4").newbyteorder("S").str
OURS = [name for name in initializers.names() if name not in LESSON]


# --- values ---------------------------------------------------------------------------------------

# Scale, fan of a (300, 500) matrix, distribution.
VARIANCES = {
    "he_normal": (2.0, 500, "normal"),
    "he_uniform": (2.0, 500, "uniform"),
    "glorot_normal": (1.0, 400, "normal"),
    "glorot_uniform": (1.0, 400, "uniform"),
    "lecun_normal": (1.0, 500, "normal"),
    "lecun_uniform": (1.0, 500, "uniform"),
    "kaiming_normal": (2.0, 500, "normal"),
    "kaiming_uniform": (2.0, 500, "uniform"),
    "xavier_normal": (1.0, 400, "normal"),
    "xavier_uniform": (1.0, 400, "uniform"),
    "torch_linear": (1 / 3, 500, "uniform"),
    "keras_dense": (1.0, 400, "uniform"),
    "flax_dense": (1.0, 500, "truncated_normal"),
    "sklearn_mlp": (1.0, 400, "uniform"),
    "variance_scaling": (1.0, 500, "normal"),
}
CUT = 0.87962566103423978
STANDARD = {
    "normal": stats.norm(),
    "uniform": stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)),
    "truncated_normal": stats.truncnorm(-2, 2, scale=1 / CUT),
}


@pytest.mark.parametrize("name", VARIANCES)
def test_distribution_of_named_schemes(name):
    scale, fan, distribution = VARIANCES[name]
    # Kernels of Keras and Flax have the inputs first.
    scheme = initializers.get(name)
    W = scheme((500, 300) if scheme.inputs_first else (300, 500), seed=0)
    found = stats.kstest(W.ravel() / math.sqrt(scale / fan), STANDARD[distribution].cdf)
    assert found.pvalue > 1e-4


def test_all_scaled_schemes_are_listed_above():
    others = {"zeros", "ones", "constant", "uniform", "normal", "truncated_normal", "orthogonal"}
    others |= {"identity", "dirac", "delta_orthogonal", "sparse", "zero_init", *LESSON}
    assert set(initializers.names()) == set(VARIANCES) | others


@pytest.mark.parametrize("distribution", STANDARD)
@pytest.mark.parametrize(
    ("mode", "fan"),
    [("fan_in", 72), ("fan_out", 288), ("fan_avg", 180), ("fan_geo_avg", math.sqrt(72 * 288))],
)
def test_variance_scaling_modes(mode, fan, distribution):
    """Fans include the receptive field, with the axes in the order of PyTorch or of Keras."""
    shape = (32, 8, 3, 3)
    W = fi.variance_scaling(shape, 3.0, mode, distribution, in_axis=1, seed=0)
    # The relative standard error of the sample variance of n draws is sqrt((kurtosis - 1) / n), at
    # most sqrt(2 / n).
    assert abs(W.var() * fan / 3 - 1) < 4 * math.sqrt(2 / W.size)
    turned = fi.variance_scaling((3, 3, 8, 32), 3.0, mode, distribution, in_axis=2, out_axis=3,
                                 seed=0)  # fmt: skip
    assert_array_equal(turned.ravel(), W.ravel())


def test_truncated_normal_keeps_its_variance():
    """The standard deviation of the truncated distribution, by numerical integration."""
    density = partial(np.multiply, 1 / math.sqrt(2 * math.pi))
    inside, error = integrate.quad(lambda z: z * z * density(math.exp(-z * z / 2)), -2, 2)
    mass = special.ndtr(2) - special.ndtr(-2)
    tolerance = error / inside + 8 * np.finfo(float).eps
    assert math.sqrt(inside / mass) == pytest.approx(scaling.TRUNCATED_STD, rel=tolerance)


def test_constants():
    assert_array_equal(fi.zeros((2, 3)), np.zeros((2, 3)))
    assert_array_equal(fi.ones(3, dtype="float16"), np.ones(3, np.float16))
    assert_array_equal(fi.constant((2,), 0.1, dtype="float32"), np.full(2, 0.1, np.float32))


def test_zero_variance():
    assert not fi.variance_scaling((3, 3), 0.0, seed=0).any()
    assert_array_equal(fi.normal(3, 2.5, 0.0, seed=0), [2.5] * 3)
    assert_array_equal(fi.truncated_normal(3, 2.5, 0.0, seed=0), [2.5] * 3)


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("mean", "std", "lower", "upper"),
    [(0, 0.1, -2, 2), (0, 0.3, 5, 6), (100, 0.7, -0.3, 0.4), (-7, 1e-3, -9, 1), (0, 1, 0, 0.01)],
)
def test_never_outside_the_bounds_after_rounding(kind, mean, std, lower, upper):
    if kind == "bfloat16":
        pytest.importorskip("ml_dtypes")
    W = fi.truncated_normal(100_000, mean, std, lower, upper, seed=0, dtype=kind)
    W = W.astype(np.float64)
    assert mean + std * lower <= W.min() <= W.max() <= mean + std * upper
    U = fi.uniform(100_000, mean + std * lower, mean + std * upper, seed=0, dtype=kind)
    assert mean + std * lower <= U.astype(np.float64).min()
    assert U.astype(np.float64).max() < mean + std * upper


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "name", ["normal", "uniform", "he_normal", "he_uniform", "sparse", "orthogonal"]
)
def test_halves_are_floats_rounded_to_nearest_even(name, kind):
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if kind == "bfloat16" else kind)
    shape = (200, 300)
    halves = initializers.get(name)(shape, seed=0, dtype=kind)
    assert halves.dtype == dtype
    floats = initializers.get(name)(shape, seed=0, dtype="float32")
    # orthogonal depends on the BLAS: a difference in the last bits may change the rounding.
    if name == "orthogonal":
        assert_allclose(halves.astype(float), floats, rtol=0, atol=2.0**-8)
    elif name in ("uniform", "he_uniform"):  # clipped to the bounds
        limit = math.sqrt(3) * math.sqrt(2 / 300)
        low, high = (0.0, 1.0) if name == "uniform" else (-limit, limit)
        bounds = target.at_least(low, kind), target.below(high, kind)
        assert_array_equal(halves, np.clip(floats.astype(dtype).astype(float), *bounds))
    else:
        assert_array_equal(halves, floats.astype(dtype))


def test_float16_over_its_whole_range():
    """Subnormal numbers, ties, the largest number, and overflow to infinity."""
    for std in (1e-7, 1e-5, 1.0, 3e4, 6e4):
        halves = fi.normal(100_000, std=std, seed=0, dtype="float16")
        with np.errstate(over="ignore"):
            rounded = fi.normal(100_000, std=std, seed=0, dtype="float32").astype(np.float16)
        assert_array_equal(halves, rounded)


# --- structured matrices --------------------------------------------------------------------------


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


def test_gain():
    torch = pytest.importorskip("torch")
    shared = ("linear", "conv1d", "conv2d", "conv3d", "sigmoid", "tanh", "relu", "selu")
    for name in shared:
        assert fi.gain(name) == torch.nn.init.calculate_gain(name)
    for slope in (None, 0.2, 1):
        expected = torch.nn.init.calculate_gain("leaky_relu", slope)
        assert fi.gain("leaky_relu", slope) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    "name", sorted(set(scaling._GAINS) & set(ACTIVATIONS) - {"sigmoid", "tanh", "selu"})
)
def test_gain_keeps_the_second_moment(name):
    """PyTorch's gains of the three others are rules of thumb."""

    def integrand(z):
        A = np.empty((1, 1))
        reference.activate(np.array([[z]]), name, 0.0, A, np.empty((1, 1)))
        return A[0, 0] ** 2 * stats.norm.pdf(z)

    moment = integrate.quad(integrand, -12, 12, points=[0])[0]
    assert fi.gain(name) == pytest.approx(1 / math.sqrt(moment), rel=1e-7)


def test_kaiming_and_xavier_take_torchs_arguments():
    torch = pytest.importorskip("torch")
    shape = (400, 500)
    for ours, theirs, arguments in (
        (fi.kaiming_normal, torch.nn.init.kaiming_normal_, (0.5, "fan_out")),
        (fi.kaiming_uniform, torch.nn.init.kaiming_uniform_, (0.0, "fan_in", "tanh")),
        (fi.xavier_normal, torch.nn.init.xavier_normal_, (3.0,)),
        (fi.xavier_uniform, torch.nn.init.xavier_uniform_, (0.5,)),
    ):
        expected = theirs(torch.empty(shape), *arguments).std().item()
        # The standard error of each sample standard deviation of n draws is at most 1/sqrt(2 n).
        assert abs(ours(shape, *arguments, seed=0).std() / expected - 1) < 4 / math.sqrt(200_000)


# --- networks -------------------------------------------------------------------------------------


def test_streams_of_a_network():
    """W1, b1, W2, b2, ... have the streams 0, 1, 2, 3, ..."""
    net = fi.Network([3, 4, 2])
    theta = net.unpack(net.initialize("torch_linear", seed=7))
    limits = {"W1": 3, "b1": 3, "W2": 4, "b2": 4}
    for stream, (name, fan_in) in enumerate(limits.items()):
        limit = 1 / math.sqrt(fan_in)
        expected = fi.uniform(theta[name].shape, -limit, limit, seed=7, stream=stream)
        # The limits, sqrt(3) * sqrt(1 / 3 / fan_in) and 1 / sqrt(fan_in), agree to two roundings.
        assert_allclose(theta[name], expected, rtol=0, atol=4 * np.spacing(limit))


def test_bias_of_presets():
    net = fi.Network([30, 500, 1])
    for name, limit in (("torch_linear", 30**-0.5), ("sklearn_mlp", math.sqrt(6 / 530))):
        bias = net.unpack(net.initialize(name, seed=0))["b1"]
        found = stats.kstest(bias.ravel(), stats.uniform(-limit, 2 * limit).cdf)
        assert found.pvalue > 1e-4
    for name in ("keras_dense", "flax_dense", "he_normal"):
        assert not net.unpack(net.initialize(name, seed=0))["b1"].any()


def test_schemes_per_layer():
    net = fi.Network([3, 4, 2])
    schemes = ["lesson.he", partial(fi.orthogonal, gain=2.0)]
    theta = net.unpack(net.initialize(schemes, seed=3))
    assert_array_equal(theta["W1"], fi.lesson.he((4, 3), seed=3))
    assert_allclose(theta["W2"], fi.orthogonal((2, 4), 2.0, seed=3, stream=2))
    # A generator advances by one draw, whatever the number of layers.
    generator = np.random.default_rng(0)
    key = np.random.default_rng(0).integers(2**64, dtype=np.uint64)
    assert_array_equal(
        net.initialize("normal", seed=generator), net.initialize("normal", seed=int(key))
    )


def test_schemes_of_a_network_are_checked():
    net = fi.Network([3, 4, 2])
    with pytest.raises(ValueError, match="scheme: expected one for each of 2 layers; got 3"):
        net.initialize(["zeros"] * 3)
    with pytest.raises(TypeError, match="scheme: expected a name, a scheme or a callable; got 3"):
        net.initialize(["zeros", 3])
    with pytest.raises(TypeError, match="scheme: expected a name, a scheme or a callable; got 3"):
        net.initialize(3)


def check_unit_variance(net, theta, X, tolerance):
    """Compute the pre-activations in float64, and follow the rounding errors of the dtype."""
    eps = float(np.finfo(net.dtype).eps)
    A, A_error = X.astype(net.dtype).astype(float), np.zeros(X.shape)
    slope, _, _ = steepest(net.activation, net.negative_slope)
    parameters = {key: value.astype(float) for key, value in net.unpack(theta).items()}
    for layer in range(1, net.n_layers + 1):
        W, b = parameters[f"W{layer}"], parameters[f"b{layer}"]
        Z = W @ A + b
        size = np.abs(W) @ (np.abs(A) + A_error) + np.abs(b)
        Z_error = np.abs(W) @ A_error + (W.shape[1] + 2) * eps * size
        # The deviation of a sum is at most the sum of the deviations.
        bound = 2 * Z.std() * np.sqrt(np.mean(Z_error**2)) + np.mean(Z_error**2)
        assert bound < 1e-3
        assert abs(Z.var() - 1) <= tolerance + bound
        A = np.empty_like(Z)
        reference.activate(Z, net.activation, net.negative_slope, A, np.empty_like(Z))
        A_error = slope * Z_error + FUNCTION * eps * (1 + np.abs(A))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("tolerance", [0.3, 0.01, 1e-5])
def test_lsuv(dtype, tolerance):
    net = fi.Network([5, 30, 20, 2], dtype=dtype)
    X = fi.normal((5, 400), std=3.0, seed=1)
    for scheme in ("orthogonal", "torch_linear"):
        start = net.initialize(scheme, seed=0)
        kept = start.copy()
        theta = fi.lsuv(net, start, X, tolerance=tolerance, attempts=30)
        assert_array_equal(start, kept)
        check_unit_variance(net, theta, X, tolerance)


def test_lsuv_refuses():
    net = fi.Network([5, 30, 2])
    theta, X = net.initialize("orthogonal", seed=0), fi.normal((5, 40), seed=1)
    kept = theta.copy()
    for arguments, keywords, error, message in (
        ((None, theta, X), {}, TypeError, "network: expected a Network; got NoneType"),
        ((fi.Network, theta, X), {}, TypeError, "network: expected a Network; got type"),
        ((theta, net, X), {}, TypeError, "network: expected a Network; got ndarray"),
        ((net, theta[1:], X), {}, ValueError, "theta: expected shape"),
        ((net, theta, X.T), {}, ValueError, r"X: expected shape \(5, n_examples\)"),
        (
            (net, theta, X[:, :0]),
            {},
            ValueError,
            r"X: expected at least one ex.*; got shape \(5, 0",
        ),
        ((net, theta, X[:, :1] * 0), {}, ValueError, "theta: expected outputs of layer 1 that v"),
        ((net, theta * 0, X), {}, ValueError, "theta: expected outputs of layer 1 that vary"),
        ((net, theta * 1e200, X), {}, ValueError, "theta: expected outputs .*; got variance inf"),
        ((net, theta, X), {"tolerance": -1}, ValueError, "tolerance: expected finite and >= 0; go"),
        ((net, theta, X), {"tolerance": math.nan}, ValueError, "tolerance: .*; got nan"),
        ((net, theta, X), {"tolerance": math.inf}, ValueError, "tolerance: .*; got inf"),
        ((net, theta, X), {"tolerance": "1"}, TypeError, "tolerance: expected a number; got str"),
        ((net, theta, X), {"attempts": 0}, ValueError, "attempts: expected an integer from 1"),
        ((net, theta, X), {"attempts": 1.0}, TypeError, "attempts: expected an integer; got fl"),
    ):
        with pytest.raises(error, match=message):
            fi.lsuv(*arguments, **keywords)
    assert_array_equal(theta, kept)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lsuv_for_every_activation(activation):
    """The variance of the pre-activations of every layer is 1."""
    net = fi.Network([5, 30, 20, 2], activation=activation, negative_slope=0.3)
    X = fi.normal((5, 400), std=3.0, seed=1)
    theta = fi.lsuv(net, net.initialize("orthogonal", seed=0), X)
    check_unit_variance(net, theta, X, 0.01)


def test_partial_of_a_scheme_keeps_its_biases():
    net = fi.Network([3, 4, 2])
    scheme = partial(fi.torch_linear, dtype="float64")
    assert_array_equal(net.initialize(scheme, seed=0), net.initialize("torch_linear", seed=0))
    assert net.unpack(net.initialize(scheme, seed=0))["b1"].any()


@pytest.mark.parametrize(("kind", "real"), [("complex64", "float32"), ("complex128", "float64")])
def test_complex_normal_and_uniform(kind, real):
    """Real and imaginary parts are independent, each with half of the variance."""
    for fill, variance in ((fi.normal, 1.0), (fi.he_normal, 2 / 300), (fi.he_uniform, 2 / 300)):
        z = fill((300, 300), seed=0, dtype=kind)
        assert z.dtype == kind
        assert z.real.dtype == real
        for part in (z.real, z.imag):
            # Four standard errors; that of a variance is at most sqrt(2 / n) of it.
            assert abs(part.var() / (variance / 2) - 1) < 4 * math.sqrt(2 / z.size)
        assert abs(np.mean(z.real * z.imag)) < 4 * variance / 2 / math.sqrt(z.size)


def test_complex_dtypes_where_they_are_documented():
    """What help() says of dtype is true."""
    for name in OURS:
        scheme = initializers.get(name)
        with_complex = "complex64, complex128" in scheme.fill.__doc__
        for dtype in ("complex64", "complex128"):
            if with_complex:
                assert scheme(SHAPES[name], seed=0, dtype=dtype).dtype == dtype
                continue
            expected = "expected float64, float32, float16 or bfloat16; got " + dtype
            with pytest.raises(TypeError, match=f"dtype: {expected}"):
                scheme(SHAPES[name], seed=0, dtype=dtype)
            out = np.full(SHAPES[name], 7, dtype)
            with pytest.raises(TypeError, match="out: expected dtype float64"):
                scheme(out=out, seed=0)
            assert (out == 7).all()


@pytest.mark.parametrize("kind", ["complex64", "complex128"])
def test_complex_arrays_of_any_layout(kind):
    """A window of a transposed or strided array has the values of the whole array."""
    for fill in (fi.normal, fi.uniform, fi.he_uniform, fi.flax_dense):
        whole = fill((6, 4), seed=2, dtype=kind)
        turned = np.full((4, 6), np.nan, kind).T
        assert fill(out=turned, seed=2) is turned
        assert_array_equal(turned, whole)
        window = np.s_[1:5, 1:3]
        memory = np.full((9, 8), np.nan, kind)
        out = memory[1:9:2, 7:3:-2]
        assert fill((6, 4), out=out, seed=2, window=window) is out
        assert_array_equal(out, whole[window])
        assert np.isnan(memory).sum() == memory.size - out.size
        assert_array_equal(fill((6, 4), seed=2, dtype=kind, window=window), whole[window])
    # The parts are neighbouring elements of the real array with twice as many columns.
    assert_array_equal(
        fi.uniform((6, 4), seed=2, dtype=kind).view(whole.real.dtype),
        fi.uniform((6, 8), seed=2, dtype=whole.real.dtype),
    )


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16"])
def test_constant_takes_an_array(kind):
    if kind == "bfloat16":
        pytest.importorskip("ml_dtypes")
    values = np.arange(12.0).reshape(3, 4)
    assert_array_equal(fi.constant((3, 4), values, dtype=kind), values)
    assert_array_equal(fi.constant((3, 4), values, dtype=kind, window=np.s_[1:]), values[1:])
    assert_array_equal(fi.constant((3, 4), [[1], [2], [3]], dtype=kind)[:, 3], [1, 2, 3])
    assert_array_equal(fi.constant(2, np.array(1.0), dtype=kind), [1.0, 1.0])
    assert_array_equal(fi.constant(2, [True, False], dtype=kind), [1.0, 0.0])
    assert_array_equal(fi.constant(2, np.array([-128, 127], "i1"), dtype="f4"), [-128, 127])


def test_integers_are_rounded_once():
    """2**24 + 2**16 + 1 lies above the middle of two bfloat16 numbers; as a float32, on it."""
    pytest.importorskip("ml_dtypes")
    found = fi.constant(1, np.array([2**24 + 2**16 + 1]), dtype="bfloat16")
    assert float(found[0]) == 2**24 + 2**17


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_constant_refuses_arrays_that_are_not_finite(kind, dtype, value):
    if kind == "bfloat16":
        pytest.importorskip("ml_dtypes")
    with pytest.raises(ValueError, match=f"value: expected finite {kind} numbers; got NaN, inf"):
        fi.constant(2, np.array([0.0, value], dtype), dtype=kind)


@pytest.mark.parametrize(
    ("value", "dtype", "error", "message"),
    [
        ([70000, 0], "float16", ValueError, "value: expected finite float16 numbers"),
        ([1e39, 0], "float32", ValueError, "value: expected finite float32 numbers"),
        (70000, "float16", ValueError, "value: expected a finite float16; got 70000"),
        ([[1], [1, 2]], None, ValueError, "value: expected .*; got list: .* inhomogeneous"),
        (np.arange(5.0), None, ValueError, r"value: expected a shape that .* \(2,\); got \(5,\)"),
        (["a", "b"], None, TypeError, "value: expected real numbers; got dtype <U1"),
        ([1j, 2], None, TypeError, "value: expected real numbers; got dtype complex128"),
        ([10**400, 2], None, TypeError, "value: expected real numbers; got dtype object"),
        ([None, 2], None, TypeError, "value: expected real numbers; got dtype object"),
        (None, None, TypeError, "value: expected a number; got NoneType"),
        ("1", None, TypeError, "value: expected a number; got str"),
    ],
    ids=str,
)
def test_refused_constants(value, dtype, error, message):
    out = np.full(2, 7, dtype or "float64")
    with pytest.raises(error, match=message):
        fi.constant(2, value, out=out)
    assert (out == 7).all()


def test_constants_draw_no_entropy(monkeypatch):
    seeds = []
    key_of = target.key_of
    monkeypatch.setattr(target, "key_of", lambda seed: seeds.append(seed) or key_of(seed))
    for fill in (fi.zeros, fi.ones, fi.constant, fi.identity, fi.zero_init):
        fill((3, 4))
    fi.initializers.dirac((3, 4, 3))
    fi.variance_scaling((3, 4), 0.0)
    fi.truncated_normal(3, std=0.0)
    assert not seeds
    fi.sparse((3, 4))
    assert seeds == [None]  # for both of its streams
    with pytest.raises(TypeError, match="seed: expected int"):
        fi.zeros(3, seed="1")


def test_absolute_bounds_are_those_of_torch():
    z = fi.truncated_normal(100_000, mean=1.0, std=2.0, a=0.5, b=2.0, seed=0)
    found = stats.kstest(z, stats.truncnorm(-0.25, 0.5, loc=1.0, scale=2.0).cdf)
    assert found.pvalue > 1e-4
    # The same draws as with the equivalent relative bounds; one of each kind is possible.
    assert_array_equal(z, fi.truncated_normal(100_000, 1.0, 2.0, -0.25, 0.5, seed=0))
    assert_array_equal(z, fi.truncated_normal(100_000, 1.0, 2.0, -0.25, b=2.0, seed=0))
    assert_array_equal(
        fi.truncated_normal(99, b=2.0, seed=0), fi.truncated_normal(99, a=-2.0, seed=0)
    )


@pytest.mark.parametrize("kind", ["float64", "float32", "float16"])
def test_absolute_bounds_far_from_a_narrow_distribution(kind):
    """Bounds beyond all draws change nothing, however many standard deviations away they are."""
    for std in (1e-6, 1e-300 if kind == "float64" else 1e-7):
        expected = fi.truncated_normal(99, 0.0, std, -math.inf, math.inf, seed=0, dtype=kind)
        for a, b in ((-1.0, 1.0), (-1e300, math.inf), (-math.inf, 1e300)):
            found = fi.truncated_normal(99, 0.0, std, a=a, b=b, seed=0, dtype=kind)
            assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16"])
def test_bounds_without_a_spread(kind):
    """The mean, if it lies within the bounds, and never beyond them by rounding."""
    if kind == "bfloat16":
        pytest.importorskip("ml_dtypes")
    fill = partial(fi.truncated_normal, 3, 0.1, 0.0, dtype=kind)
    for found, low, high in (
        (fill(), -1, 1),
        (fill(a=0.1), 0.1, 1),
        (fill(b=0.1), -1, 0.1),
        (fill(a=-0.5, b=1.5), -0.5, 1.5),
        (fill(lower=1.0, b=math.inf), -1, 1),
    ):
        values = found.astype(np.float64)
        assert ((low <= values) & (values <= high)).all()
        assert_allclose(values, 0.1, rtol=2.0**-7)
    for bounds in ({"a": 0.2, "b": 0.3}, {"a": -0.1, "b": 0.0}):
        with pytest.raises(ValueError, match=r": expected an interval that reaches within 37 sta"):
            fill(**bounds)
    for bounds in ({"lower": 1, "upper": 1}, {"a": 0.2}, {"b": 0.05}, {"a": 0.3, "b": 0.2}):
        with pytest.raises(ValueError, match=r": expected a lower bound below the upper one"):
            fill(**bounds)


def test_partial_with_positional_arguments():
    """It keeps the biases of its scheme, and which axis holds the inputs."""
    net = fi.Network([3, 4, 2])
    scheme = partial(fi.torch_linear, None)
    assert_array_equal(net.initialize(scheme, seed=0), net.initialize("torch_linear", seed=0))
    scheme = initializers.get(partial(fi.keras_dense, None, dtype="float64"))
    assert (scheme.name, scheme.inputs_first) == ("keras_dense", True)
    theta = net.unpack(net.initialize(partial(fi.orthogonal, None, 2.0), seed=3))
    assert_allclose(theta["W1"], fi.orthogonal((4, 3), 2.0, seed=3))
    nested = partial(partial(fi.torch_linear, None), batch_axis=())
    assert_array_equal(net.initialize(nested, seed=0), net.initialize("torch_linear", seed=0))
    own = initializers.get(partial(np.copyto, casting="no"))
    assert (own.name, own.fill_bias) == ("copyto", None)


@pytest.fixture
def registry(monkeypatch):
    """A copy of the registry, so that the original stays as it is."""
    monkeypatch.setattr(schemes, "_SCHEMES", dict(schemes._SCHEMES))


def test_register(registry):
    @initializers.register
    def halves(shape=None, **keywords: Unpack[Common]):
        """Fill with halves.

        Parameters
        ----------
        **keywords
            Those of every initialiser.
        """
        return fi.constant(shape, 0.5, **keywords)

    assert initializers.get("halves").fill is halves
    assert_array_equal(fi.Network([2, 1]).initialize("halves"), [0.5, 0.5, 0.0])
    assert list(inspect.signature(halves).parameters) == [
        "shape", "seed", "stream", "dtype", "out", "window", "threads",
    ]  # fmt: skip
    assert "window : slice" in halves.__doc__

    def own(shape=None, *, out, **keywords: dict[str, int]):
        """Fill."""

    assert initializers.register(name="own")(own) is own
    assert list(inspect.signature(own).parameters) == ["shape", "out", "keywords"]
    before = initializers.get("he_normal")
    for name in ("halves", "he_normal", "lesson.he"):
        with pytest.raises(ValueError, match=f"name: expected one that .*; got '{name}'"):
            initializers.register(name=name)(halves)
    assert initializers.get("he_normal") is before


@pytest.mark.parametrize("stripped", [False, True])
def test_keywords_are_described(registry, stripped):
    """From Python 3.13 on, docstrings have no common indentation."""

    def example(shape=None, *, in_axis=-2, out_axis=-1, **keywords: Unpack[Common]):
        """Fill.

        Parameters
        ----------
        **keywords
            Those of every initialiser.

        Returns
        -------
        ndarray
        """

    if stripped:
        example.__doc__ = inspect.cleandoc(example.__doc__)
    initializers.register(example)
    assert "keywords" not in example.__doc__
    found = inspect.cleandoc(example.__doc__).splitlines()
    assert found[:2] == ["Fill.", ""]
    assert "in_axis, out_axis : int, default -2 and -1" in found
    assert "    (*field, n_in, n_out), as in Keras and JAX. For PyTorch" in example.__doc__
    assert "dtype : {float64, float32, float16, bfloat16}, optional" in found
    assert found[-3:] == ["Returns", "-------", "ndarray"]


@pytest.mark.parametrize("name", OURS)
def test_help_is_complete(name):
    fill = initializers.get(name).fill
    signature = inspect.signature(fill)
    described = re.findall(r"^(\w[\w, ]*) : ", inspect.cleandoc(fill.__doc__), re.MULTILINE)
    assert ", ".join(described).split(", ") == list(signature.parameters)
    for parameter in signature.parameters.values():
        assert parameter.kind is not parameter.VAR_KEYWORD
    assert max(map(len, fill.__doc__.splitlines())) <= 100
    text = " ".join(fill.__doc__.split())
    axes = [signature.parameters[key].default for key in ("in_axis", "out_axis")
            if key in signature.parameters]  # fmt: skip
    assert axes in ([], [1, 0], [-2, -1])
    if axes == [1, 0]:
        assert "pass ``in_axis=-2, out_axis=-1``" in text
    if axes == [-2, -1]:
        assert "pass ``in_axis=1, out_axis=0``" in text


def test_types(tmp_path):
    """Type checkers know what is returned: ``out`` itself, or an ndarray."""
    api = pytest.importorskip("mypy.api")
    ndarray = r"numpy.ndarray\[.*\]"
    expected = {
        "fi.he_normal((3, 4), seed=0)": ndarray,
        "fi.keras_dense((3, 4), in_axis=0, out_axis=1, out=None)": ndarray,
        "fi.orthogonal((3, 4), 2.0, out=buffer)": r"array.array\[float\]",
        "fi.torch_linear(out=buffer)": r"array.array\[float\]",
    }
    script = tmp_path / "script.py"
    lines = ["import array, fastinit as fi", "buffer = array.array('d', [0.0] * 12)"]
    script.write_text("\n".join([*lines, *(f"reveal_type({call})" for call in expected)]))
    found, errors, _ = api.run(["--strict", "--cache-dir", str(tmp_path / "cache"), str(script)])
    assert not errors
    revealed = re.findall(r'Revealed type is "(.*)"', found)
    assert len(revealed) == len(expected), found
    for one, pattern in zip(revealed, expected.values(), strict=True):
        assert re.fullmatch(pattern, one)


# --- arrays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("kind", ["float64", "float32", "float16"])
def test_every_scheme_fills_any_target(name, kind):
    scheme, shape = initializers.get(name), SHAPES[name]
    whole = scheme(shape, seed=2, dtype=kind)
    assert whole.dtype == kind
    assert whole.shape == shape
    turned = np.full(shape[::-1], np.nan, kind).T
    assert scheme(out=turned, seed=2) is turned
    assert_array_equal(turned, whole)
    window = (slice(1, 5), slice(1, 3))
    big = np.full((9, *shape[1:]), np.nan, kind)
    rows = big[2:6, 1:3]
    assert_array_equal(scheme(shape, seed=2, out=rows, window=window), whole[window])
    assert np.isnan(big).sum() == big.size - rows.size
    assert_array_equal(scheme(shape, seed=2, dtype=kind, threads=2), whole)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("length", [0, 1])
def test_empty_and_single(name, length):
    """An empty array is filled with a warning."""
    shape = (length, *SHAPES[name][1:]) if name != "delta_orthogonal" else (4, length, 3)
    expected = nullcontext() if length else pytest.warns(UserWarning, match="has no elements")
    with expected:
        assert initializers.get(name)(shape, seed=0).shape == shape


def test_fans_of_empty_arrays():
    for shape in ((0, 3), (3, 0), (0, 0)):
        for mode in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg"):
            with pytest.warns(UserWarning, match="has no elements"):
                assert fi.variance_scaling(shape, 1.0, mode, seed=0).shape == shape


def test_memmap(tmp_path):
    path = tmp_path / "weights.npy"
    out = np.lib.format.open_memmap(path, "w+", np.float32, (100, 50))
    fi.he_normal(out=out[20:], seed=1)
    out.flush()
    loaded = np.load(path)
    assert_array_equal(loaded[20:], fi.he_normal((80, 50), seed=1, dtype="float32"))
    assert not loaded[:20].any()


def test_buffers():
    out = array.array("f", [9.0] * 10)
    assert fi.normal(out=out, seed=1) is out
    assert_array_equal(np.array(out), fi.normal(10, seed=1, dtype="float32"))
    fi.normal(out=memoryview(out), seed=2)
    assert_array_equal(np.array(out), fi.normal(10, seed=2, dtype="float32"))
    frozen = memoryview(np.ones(2).tobytes()).cast("d")
    with pytest.raises(ValueError, match="out: expected a writable array"):
        fi.normal(out=frozen, seed=0)
    with pytest.raises(TypeError, match=r"out: expected dtype float64.*; got uint8"):
        fi.normal(out=bytearray(8), seed=0)


class WithDLPack:
    """An array that supports DLPack only."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **keywords):
        return self.values.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def test_dlpack():
    out = WithDLPack(np.zeros((3, 4)))
    if not np.from_dlpack(out).flags.writeable:
        pytest.skip(f"NumPy {np.__version__} takes DLPack read-only")
    assert fi.normal(out=out, seed=1) is out
    assert_array_equal(out.values, fi.normal((3, 4), seed=1))


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16"])
def test_torch(kind):
    torch = pytest.importorskip("torch")
    out = torch.full((40, 30), math.nan, dtype=getattr(torch, kind), requires_grad=True)
    assert fi.he_normal(out=out, seed=1) is out
    assert out.requires_grad
    assert out.is_leaf
    floats = fi.he_normal((40, 30), seed=1, dtype="float64" if kind == "float64" else "float32")
    assert torch.equal(out.detach(), torch.from_numpy(floats).to(out.dtype))
    turned = torch.empty(30, 40, dtype=out.dtype).T
    fi.he_normal(out=turned, seed=1)
    assert torch.equal(turned, out.detach())
    (out.float() ** 2).sum().backward()
    assert out.grad is not None
    module = torch.nn.Linear(30, 40).to(out.dtype)
    fi.he_normal(out=module.weight, seed=1)
    assert torch.equal(module.weight.detach(), out.detach())


def test_refused_tensors():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(ValueError, match="out: expected distinct memory"):
            fi.normal(out=torch.zeros(1, dtype=dtype).expand(3), seed=0)
    with pytest.raises(TypeError, match="out: expected a tensor on the CPU; got one on meta"):
        fi.normal(out=torch.zeros(3, device="meta"), seed=0)
    with pytest.raises(TypeError, match=r"out: expected dtype float64.*; got int32"):
        fi.normal(out=torch.zeros(3, dtype=torch.int32), seed=0)


def test_jax_arrays_are_immutable():
    jax = pytest.importorskip("jax")
    with pytest.raises(ValueError, match="out: expected a writable array"):
        fi.normal(out=jax.numpy.zeros(3), seed=0)


def test_bfloat16_is_no_dependency():
    """Without ml_dtypes there is a clear message, and fills import no optional package."""
    code = """
        import sys
        sys.modules["ml_dtypes"] = None
        import fastinit as fi
        fi.he_normal((3, 3), dtype="float16", seed=0)
        assert not {"torch", "jax", "scipy"} & set(sys.modules)
        try:
            fi.normal(3, dtype="bfloat16")
        except TypeError as error:
            print(error)
    """
    found = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith("dtype: expected the package ml_dtypes for bfloat16")


@pytest.mark.parametrize(
    ("seed", "key"),
    [
        (5, 5),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.random.SeedSequence(9), int(np.random.SeedSequence(9).generate_state(1, np.uint64)[0])),
        (
            np.random.default_rng(9),
            int(np.random.default_rng(9).integers(2**64, dtype=np.uint64)),
        ),
    ],
)
def test_seeds(seed, key):
    assert_array_equal(fi.normal(5, seed=seed), fi.normal(5, seed=key))


def test_no_seed_is_fresh_entropy_and_touches_no_global_state():
    state = np.random.get_state()[1].copy()
    assert (fi.normal(5) != fi.normal(5)).all()
    assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_neighbours_of_a_bound(kind):
    """at_least, at_most and below for all numbers of a range."""
    if kind == "bfloat16":
        bits = np.arange(0x3F00, 0x4080, dtype=np.uint32) << 16
        numbers = np.concatenate([-bits.view(np.float32)[::-1], bits.view(np.float32)])
    else:
        dtype = np.dtype(kind).type
        numbers = [dtype(0.5)]
        while len(numbers) < 400:
            numbers.append(np.nextafter(numbers[-1], dtype(9)))
        numbers = np.concatenate([-np.array(numbers)[::-1], numbers])
    numbers = numbers.astype(np.float64)
    for low, high in pairwise(numbers):
        if (low < 0) == (high < 0):
            for value in (math.nextafter(low, 9), (low + high) / 2, high):
                assert target.at_least(value, kind) == high
                assert target.below(value, kind) == low
            assert target.at_most(high, kind) == high


# --- errors ---------------------------------------------------------------------------------------

REFUSED = [
    (lambda o: fi.normal(out=o, std=-1), ValueError, "std: expected >= 0; got -1"),
    (lambda o: fi.truncated_normal(out=o, std=-1), ValueError, "std: expected >= 0; got -1"),
    (lambda o: fi.sparse(out=o, std=-1), ValueError, "std: expected >= 0; got -1"),
    (lambda o: fi.sparse(out=o, sparsity=1.5), ValueError, "sparsity: expected 0 <= .* got 1.5"),
    (lambda o: fi.variance_scaling(out=o, scale=-1), ValueError, "scale: expected >= 0; got -1"),
    (lambda o: fi.truncated_normal(out=o, lower=2, upper=2), ValueError, "lower, upper: expected"),
    (lambda o: fi.truncated_normal(out=o, lower=3, upper=2), ValueError, "lower, upper: expected"),
    (lambda o: fi.truncated_normal(out=o, lower=38, upper=39), ValueError, "lower, upper: .* 37"),
    (
        lambda o: fi.truncated_normal(out=o, a=3, b=2),
        ValueError,
        "^a, b: expected a lower bound below the upper one; got 3.0 and 2.0$",
    ),
    (
        lambda o: fi.truncated_normal(out=o, lower=1, b=-1),
        ValueError,
        "^lower, b: .* below the upper one; got 1.0 and -1.0 standard deviations from the mean$",
    ),
    (
        lambda o: fi.truncated_normal(out=o, std=1e-6, a=1, b=2),
        ValueError,
        "^a, b: expected an interval that reaches within 37 standard deviations of the mean; got "
        r"one from 1000000.0 to 2000000.0$",
    ),
    (
        lambda o: fi.truncated_normal(out=o, lower=-2.0, a=-1),
        TypeError,
        "^lower, a: expected at most one of them; got both$",
    ),
    (
        lambda o: fi.truncated_normal(out=o, upper=2.0, b=1),
        TypeError,
        "^upper, b: expected at most one of them; got both$",
    ),
    (lambda o: fi.truncated_normal(out=o, a=math.nan), ValueError, "a: .*; got nan"),
    (lambda o: fi.truncated_normal(out=o, b="1"), TypeError, "b: expected a number; got str"),
    (lambda o: fi.truncated_normal(out=o, a=math.inf), ValueError, "a, upper: expected"),
    (lambda o: fi.truncated_normal(out=o, mean=math.nan, std=0), ValueError, "mean: .*; got nan"),
    (lambda o: fi.uniform(out=o, low=1, high=1), ValueError, "low, high: expected low < high"),
    (lambda o: fi.uniform(out=o, low=2, high=1), ValueError, "low, high: expected low < high"),
    (lambda o: fi.uniform(out=o, low=-1e308, high=1e308), ValueError, "high - low: .* got inf"),
    (lambda o: fi.normal(out=o, std=math.nan), ValueError, "std: expected a finite.*; got nan"),
    (lambda o: fi.normal(out=o, mean=math.nan), ValueError, "mean: expected a finite.*; got nan"),
    (lambda o: fi.uniform(out=o, low=math.nan), ValueError, "low: expected a finite.*; got nan"),
    (lambda o: fi.uniform(out=o, high=math.inf), ValueError, "high: expected a finite.*; got inf"),
    (lambda o: fi.truncated_normal(out=o, lower=math.nan), ValueError, "lower: .*; got nan"),
    (lambda o: fi.truncated_normal(out=o, upper=math.nan), ValueError, "upper: .*; got nan"),
    (lambda o: fi.variance_scaling(out=o, scale=math.nan), ValueError, "scale: .*; got nan"),
    (lambda o: fi.orthogonal(out=o, gain=math.nan), ValueError, "gain: .*; got nan"),
    (lambda o: fi.normal(out=o, std="1"), TypeError, "std: expected a number; got str"),
    (lambda o: fi.normal(out=o, seed=-1), ValueError, "seed: expected 0 <= seed < 2.*; got -1"),
    (lambda o: fi.normal(out=o, seed=2**64), ValueError, "seed: expected 0 <= seed < 2"),
    (lambda o: fi.normal(out=o, seed=1.0), TypeError, "seed: expected int.*; got float"),
    (lambda o: fi.normal(out=o, seed="1"), TypeError, "seed: expected int.*; got str"),
    (lambda o: fi.normal(out=o, seed=True), TypeError, "seed: expected int.*; got bool"),
    (lambda o: fi.normal(out=o, stream=-1), ValueError, "stream: expected an integer .*; got -1"),
    (
        lambda o: fi.normal(out=o, stream=2**63),
        ValueError,
        r"^stream: expected an integer from 0 to 2\*\*63 - 1; got 9223372036854775808$",
    ),
    (lambda o: fi.normal(out=o, stream=0.5), TypeError, "stream: expected an integer; got float"),
    (
        lambda o: fi.normal(out=o, threads=0),
        ValueError,
        "threads: expected an integer from 1 .*; got 0",
    ),
    (lambda o: fi.normal(out=o, threads=1.5), TypeError, "threads: expected an integer; got float"),
    (lambda o: fi.normal((3, 5), out=o), ValueError, r"out: expected shape \(3, 5\); got \(3, 4\)"),
    (lambda o: fi.normal(out=o, dtype="float32"), TypeError, "dtype: expected that of out"),
    (lambda o: fi.normal(out=o, window=np.s_[:]), TypeError, "window: expected the shape of"),
    (lambda o: fi.normal((6, 4), out=o, window=np.s_[3:7]), ValueError, "window: .* 6 of axis 0"),
    (lambda o: fi.normal((6, 4), out=o, window=np.s_[-7:3]), ValueError, "window: .* 6 of axis 0"),
    (lambda o: fi.normal((6, 4), out=o, window=np.s_[::2]), ValueError, "window: .* a step"),
    (lambda o: fi.normal((6, 4), out=o, window=(3,)), TypeError, "window: expected a slice or a"),
    (lambda o: fi.normal((6, 4), out=o, window=np.s_[:, :, :]), ValueError, "window: .* at most"),
    (lambda o: fi.normal((6, 4), out=o, window=slice(0.5)), TypeError, "window: expected integers"),
    (lambda o: fi.variance_scaling(out=o, mode="fan"), ValueError, "mode: expected .*; got 'fan'"),
    (
        lambda o: fi.variance_scaling(out=o, distribution="cauchy"),
        ValueError,
        "distribution: expected one of normal.*; got 'cauchy'",
    ),
    (
        lambda o: fi.he_normal(out=o, in_axis=2),
        ValueError,
        "in_axis: expected an integer from -2 to 1; got 2",
    ),
    (
        lambda o: fi.he_normal(out=o, in_axis=0),
        ValueError,
        r"in_axis, out_axis, batch_axis: expected each axis of shape \(3, 4\) at most once; got "
        r"in_axis=0, out_axis=0, batch_axis=\(\)",
    ),
    (lambda o: fi.he_normal(out=o[0]), ValueError, "shape: expected at least 2 axes"),
    (lambda o: fi.dirac(out=o), ValueError, "shape: expected 3 to 5 axes"),
    (lambda o: fi.dirac(out=o[..., None], groups=2), ValueError, "groups: expected a divisor"),
    (lambda o: fi.delta_orthogonal(out=o), ValueError, "shape: expected 3 to 5 axes"),
    (lambda o: fi.delta_orthogonal(out=o[..., None]), ValueError, "shape: expected at most"),
    (lambda o: fi.identity(out=o[0]), ValueError, "shape: expected 2 axes"),
    (lambda o: fi.kaiming_normal(out=o, nonlinearity="x"), ValueError, "nonlinearity: expected"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refused_before_anything_is_written(call, error, message):
    out = np.full((3, 4), 7.0)
    with pytest.raises(error, match=message):
        call(out)
    assert (out == 7).all()


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.ones(3, int), TypeError, "out: expected dtype float64.*; got int64"),
        (np.ones(3, SWAPPED), TypeError, f"out: expected native byte order; got {SWAPPED}"),
        (np.broadcast_to(1.0, 3), ValueError, "out: expected a writable array"),
        (np.frombuffer(bytearray(25), "f8", 3, 1), ValueError, "out: expected aligned memory"),
        ([1.0, 2.0], TypeError, "out: expected a NumPy array, DLPack or a buffer.*; got list"),
    ],
)
def test_refused_targets(out, error, message):
    with pytest.raises(error, match=message):
        fi.normal(out=out, seed=0)


def test_refused_broadcast_target():
    out = np.lib.stride_tricks.as_strided(np.ones(1), (3,), (0,))
    with pytest.raises(ValueError, match="out: expected distinct memory"):
        fi.normal(out=out, seed=0)


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        (None, TypeError, "shape: expected a shape, or an array as out="),
        (-1, ValueError, "shape: expected lengths >= 0"),
        ((2, -3), ValueError, "shape: expected lengths >= 0"),
        (2.0, TypeError, "shape: expected integers; got 2.0"),
        ((2, 3.0), TypeError, "shape: expected integers"),
        ("23", TypeError, "shape: expected integers; got '23'"),
        (True, TypeError, "shape: expected integers; got True"),
        ((2, np.True_), TypeError, "shape: expected integers"),
        ({2, 3}, TypeError, "shape: expected integers; got {2, 3}"),
        (np.ones((2, 2), int), TypeError, "shape: expected integers"),
        ((2**32, 2**31), ValueError, "shape: expected fewer than 2.*63 elements"),
        ((2**200,), ValueError, "shape: expected fewer than 2.*63 elements"),
    ],
)
def test_refused_shapes(shape, error, message):
    with pytest.raises(error, match=message):
        fi.normal(shape, seed=0)


@pytest.mark.parametrize("dtype", ["int32", "longdouble", "clongdouble", SWAPPED])
def test_refused_dtypes(dtype):
    if np.dtype(dtype) in (np.float64, np.complex128):
        pytest.skip(f"{dtype} is {np.dtype(dtype)} on this platform")
    with pytest.raises(
        TypeError,
        match="dtype: expected float64, float32, float16, bfloat16, complex64 or complex128; got",
    ):
        fi.normal(3, dtype=dtype)
    with pytest.raises(TypeError, match="out: expected "):
        fi.normal(out=np.ones(3, dtype), seed=0)


def test_narrow_bounds_need_a_number_between():
    with pytest.raises(ValueError, match="low, high: expected a float16 between the bounds"):
        fi.uniform(3, 1.0001, 1.0002, dtype="float16")
    with pytest.raises(ValueError, match="lower, upper: expected a float32 between the bounds"):
        fi.truncated_normal(3, 1.0, 1e-9, 1.0, 2.0, dtype="float32")
    with pytest.raises(ValueError, match="a, b: expected a float32 between the bounds"):
        fi.truncated_normal(3, 1.0, a=1.00000001, b=1.00000002, dtype="float32")
    with pytest.raises(ValueError, match="lower, upper: expected a float16 between the bounds"):
        fi.truncated_normal(3, 6e4, 1e4, 2.0, math.inf, dtype="float16")
    with pytest.raises(ValueError, match="mean: expected a finite float16; got 70000"):
        fi.normal(3, 70000, dtype="float16")


def test_unknown_gain():
    with pytest.raises(ValueError, match=r"nonlinearity: expected one of linear, .*; got 'x'"):
        fi.gain("x")
    with pytest.raises(ValueError, match="param: expected none for relu; got 1"):
        fi.gain("relu", 1)
    with pytest.raises(TypeError, match="param: expected a number; got str"):
        fi.gain("leaky_relu", "1")


@pytest.mark.parametrize(
    ("least", "end", "value", "message"),
    [
        (0, 2**63, -1, r"from 0 to 2\*\*63 - 1; got -1"),
        (1, 2**48, 2**48, r"from 1 to 2\*\*48 - 1; got 281474976710656"),
        (0, 2**48 + 1, 2**48 + 1, "from 0 to 281474976710656; got 281474976710657"),
        (0, 3 * 2**30, -1, "from 0 to 3221225471; got -1"),
        (-2, 2, 2, "from -2 to 1; got 2"),
    ],
)
def test_limits_of_integers(least, end, value, message):
    with pytest.raises(ValueError, match=f"^n: expected an integer {message}$"):
        check_integer("n", value, least, end)
    assert check_integer("n", end - 1, least, end) == end - 1
