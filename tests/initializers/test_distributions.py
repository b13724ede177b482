"""Constants and the three distributions: values, bounds, rounding and arguments."""

import math
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastinit as fi
from fastinit import initializers
from fastinit.initializers import scaling, target

integrate = pytest.importorskip("scipy.integrate")
special = pytest.importorskip("scipy.special")
stats = pytest.importorskip("scipy.stats")


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
