"""Checks of numbers, dtypes and seeds that several functions share."""

import math
from decimal import Decimal

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi
from fastinit.validation import check_integer


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


HUGE = 10**400

NUMBERS = {
    "Network slope": lambda x: fi.Network([2, 1], activation="leaky_relu", negative_slope=x),
    "gain param": lambda x: fi.gain("leaky_relu", x),
    "kaiming_normal a": lambda x: fi.kaiming_normal((3, 2), a=x),
    "kaiming_uniform a": lambda x: fi.kaiming_uniform((3, 2), a=x, nonlinearity="tanh"),
    "variance_scaling scale": lambda x: fi.variance_scaling((3, 2), scale=x),
    "normal std": lambda x: fi.normal(3, std=x),
    "uniform low": lambda x: fi.uniform(3, low=x),
    "constant value": lambda x: fi.constant(3, value=x),
    "truncated_normal std": lambda x: fi.truncated_normal(3, std=x),
    "orthogonal gain": lambda x: fi.orthogonal((3, 2), gain=x),
    "xavier_normal gain": lambda x: fi.xavier_normal((3, 2), gain=x),
    "GradientDescent learning_rate": lambda x: fi.GradientDescent(x),
    "GradientDescent l2": lambda x: fi.GradientDescent(l2=x),
    "Momentum momentum": lambda x: fi.Momentum(momentum=x),
    "Adam beta1": lambda x: fi.Adam(beta1=x),
    "Adam epsilon": lambda x: fi.Adam(epsilon=x),
    "AdamW weight_decay": lambda x: fi.AdamW(weight_decay=x),
    "InverseScaling power": lambda x: fi.InverseScaling(initial=0.1, power=x),
    "Cosine final": lambda x: fi.Cosine(initial=0.1, iterations=3, final=x),
}


@pytest.mark.parametrize("call", NUMBERS)
@pytest.mark.parametrize(
    "value",
    [HUGE, -HUGE, math.inf, math.nan, np.float32("inf")],
    ids=["huge", "-huge", "inf", "nan", "float32 inf"],
)
def test_numbers_that_are_not_finite(call, value):
    with pytest.raises(ValueError, match=call.split()[1]):
        NUMBERS[call](value)


@pytest.mark.parametrize(
    ("call", "value"),
    [
        (call, value)
        for call in NUMBERS
        for value in ("x", 1j, Decimal(1), True, np.array(1.0), b"1")
        # Of these, constant alone takes arrays: test_constant_takes_an_array.
        if not (call == "constant value" and isinstance(value, np.ndarray))
    ],
    ids=repr,
)
def test_what_is_no_number(call, value):
    with pytest.raises(TypeError, match=call.split()[1]):
        NUMBERS[call](value)


@pytest.mark.parametrize("dtype", [",", "", "f4,f4", ">f4", object(), {"names": 3}, list, "no"])
def test_dtypes_that_are_none(dtype):
    with pytest.raises(TypeError, match="dtype: expected"):
        fi.normal(3, dtype=dtype)
    with pytest.raises(TypeError, match="dtype: expected"):
        fi.Network([2, 1], dtype=dtype)


def test_a_legacy_generator_as_seed(net, X, Y):
    """It moves on by one draw, of 64 bits."""
    seed, same = np.random.RandomState(5), np.random.RandomState(5)
    first = fi.normal(7, seed=seed)
    assert_array_equal(first, fi.normal(7, seed=int(same.randint(2**64, dtype=np.uint64))))
    assert (fi.normal(7, seed=seed) != first).any()
    net.initialize("he_normal", seed=seed)
    fi.train(net, net.initialize("lesson.he", seed=3), X, Y, iterations=1, batch_size=9, seed=seed)
