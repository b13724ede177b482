"""Schemes that scale with the fans: their distributions, gains and arguments."""

import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from schemes import LESSON

import fastinit as fi
from fastinit import initializers, reference
from fastinit.initializers import scaling
from fastinit.training.network import ACTIVATIONS

integrate = pytest.importorskip("scipy.integrate")
stats = pytest.importorskip("scipy.stats")


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


def test_fans_of_empty_arrays():
    for shape in ((0, 3), (3, 0), (0, 0)):
        for mode in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg"):
            with pytest.warns(UserWarning, match="has no elements"):
                assert fi.variance_scaling(shape, 1.0, mode, seed=0).shape == shape


def test_unknown_gain():
    with pytest.raises(ValueError, match=r"nonlinearity: expected one of linear, .*; got 'x'"):
        fi.gain("x")
    with pytest.raises(ValueError, match="param: expected none for relu; got 1"):
        fi.gain("relu", 1)
    with pytest.raises(TypeError, match="param: expected a number; got str"):
        fi.gain("leaky_relu", "1")
