"""The forms of scikit-learn in the kernels: every level against the reference in NumPy."""

import importlib

import numpy as np
import pytest

import fastinit as fi
from fastinit import kernels, reference
from fastinit.training.optimizers import Rule

RULES = {
    "epsilon hat": Rule("adam", 0.9, 0.99, 1e-3, 0.2, epsilon_hat=True, penalty_in_cost=2.0),
    "epsilon hat by batch": Rule("adam", 0.8, 0.9, 1e-8, 0.2, l2_by_batch=True, epsilon_hat=True),
    "velocity": Rule("momentum", 0.9, l2=0.1, rate_in_velocity=True),
    "nesterov": Rule(
        "momentum", 0.9, l2=3.0, l2_by_batch=True, nesterov=True, rate_in_velocity=True,
        penalty_in_cost=1.0,
    ),
    "descent": Rule("gradient_descent", l2=2.0, l2_by_batch=True, penalty_in_cost=1.0),
}  # fmt: skip
LOSSES = {
    "clipped_sigmoid_cross_entropy": ("sigmoid", 2),
    "clipped_softmax_cross_entropy": ("softmax", 3),
}


@pytest.fixture(params=kernels.LEVELS)
def dense(request):
    problem = kernels.why_not(request.param)
    if problem is not None:
        pytest.skip(f"{request.param}: {problem}")
    return importlib.import_module(f"fastinit.kernels.dense_{request.param}")


def examples(network, m, scale=1.0):
    random = np.random.default_rng(0)
    X = random.normal(size=(network.sizes[0], m)) * scale
    if network.output == "softmax":
        Y = np.eye(network.sizes[-1])[random.integers(network.sizes[-1], size=m)].T
    else:
        Y = random.integers(2, size=(network.sizes[-1], m)).astype(float)
    return X, np.ascontiguousarray(Y), random.uniform(0.1, 2, m)


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("hidden", "batch", "m"), [(3, 4, 20), (70, 40, 100), (20, 64, 150)])
def test_descent(dense, rule, weighted, hidden, batch, m):
    """Three networks, some of whose rates are 0, in epochs of a part of the examples."""
    network = fi.Network([6, hidden, 2], activation="tanh", loss="clipped_sigmoid_cross_entropy")
    X, Y, weights = examples(network, m)
    random = np.random.default_rng(1)
    n = m - 7
    order = np.array([random.permutation(m)[:n] for _ in range(3)])
    iterations = 3 * -(-n // batch)
    rates = random.uniform(0.001, 0.1, (3, iterations, 1)) * (
        random.random((3, iterations, 1)) > 0.2
    )
    found = []
    for each in (dense, reference):
        thetas = network.initialize("glorot_normal", seed=0, n=3)
        states = np.zeros((3, 2, network.n_parameters))
        costs, counts = np.full((3, iterations), np.nan), np.zeros(3, np.intp)
        each.descend(
            network.layout, [RULES[rule]] * 3, thetas, states, 0, X, Y,
            weights if weighted else None, order, batch, 0, rates, costs, counts,
            np.arange(3), 2,
        )  # fmt: skip
        assert (counts == iterations).all()
        found.append((thetas, costs))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_clipped_losses(dense, name, dtype):
    output, n_out = LOSSES[name]
    random = np.random.default_rng(2)
    Z = (random.normal(size=(n_out, 200)) * 30).astype(dtype)
    Y = (
        random.integers(2, size=Z.shape)
        if output == "sigmoid"
        else np.eye(n_out)[random.integers(n_out, size=200)].T
    )
    Y = np.ascontiguousarray(Y, dtype)
    A, dZ, B, dB = (np.empty_like(Z) for _ in range(4))
    found = dense.loss(Z, Y, None, name, A, dZ)
    epsilon = np.finfo(dtype).eps
    expected = reference.loss(Z, Y, None, name, B, dB)
    np.testing.assert_allclose(found, expected, rtol=1e-9 if dtype == "float64" else 1e-4)
    # exp(z) is off by |z| eps / 2 for the rounding of a shifted z, and by a few eps.
    bound = (np.ptp(Z) + 8) * epsilon
    np.testing.assert_allclose(A, B, rtol=bound, atol=epsilon)
    np.testing.assert_allclose(dZ, dB, rtol=bound, atol=epsilon)
    assert found <= n_out * -np.log(epsilon)


def test_epsilon_hat_is_kingma_and_bas():
    """The formula before Section 2.1 of the paper."""
    adam = fi.Adam(0.01, epsilon=1e-3, epsilon_hat=True)
    network = fi.Network([1, 1], output="identity", bias=False)
    theta = np.array([0.5])
    X, Y = np.array([[1.0, 2.0]]), np.array([[1.0, -1.0]])
    fi.train(network, theta, X, Y, optimizer=adam, iterations=3)
    w = m = v = 0.0
    w = 0.5
    for t in range(1, 4):
        g = float(((w * X - Y) * X).mean())
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w -= 0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-3)
    assert theta[0] == pytest.approx(w, rel=1e-14)


def test_velocity_with_a_schedule():
    network = fi.Network([1, 1], output="identity", bias=False)
    X, Y = np.array([[1.0, 2.0]]), np.array([[1.0, -1.0]])
    rate = fi.InverseScaling(initial=0.1)
    theta = np.array([0.5])
    fi.train(network, theta, X, Y, optimizer=fi.Momentum(rate, rate_in_velocity=True), iterations=4)
    w, v = 0.5, 0.0
    for t in range(4):
        v = 0.9 * v + rate(t) * float(((w * X - Y) * X).mean())
        w -= v
    assert theta[0] == pytest.approx(w, rel=1e-14)
