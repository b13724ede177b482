"""How long does one iteration of the lesson take, here and in other libraries?

All contenders perform the same computation: a 2-10-5-1 network, 300 examples, full batches, float64
unless stated otherwise, gradient descent, the cost recorded in every iteration. Set-up and
compilation are not timed. Peers that are not installed are reported as skipped.
"""

import os
import subprocess
import sys
import warnings
from types import ModuleType

import numpy as np
import pytest
from timing import Contender, in_turns, needs, ratio

import fastinit as fi
from fastinit import init_utils, reference

SIZES = [2, 10, 5, 1]
LOSS = "saturating_cross_entropy"  # as in the lesson
MULTIPLY_ADDS = 300 * (3 * 75 - 20)  # forward, gradients of weights, of activations
RATE = 0.01


def data(dtype: str = "float64") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    state = np.random.get_state()
    X, Y, _, _ = fi.lesson.load_dataset()
    np.random.set_state(state)
    theta = fi.Network(SIZES, dtype=dtype).initialize("lesson.he", seed=3)
    return X.astype(dtype), Y.astype(dtype), theta


def fastinit(dtype: str = "float64") -> Contender:
    X, Y, start = data(dtype)
    net = fi.Network(SIZES, loss=LOSS, dtype=dtype)
    return lambda n: fi.train(net, start.copy(), X, Y, learning_rate=RATE, iterations=n)


def numpy_reference(dtype: str = "float64") -> Contender:
    X, Y, start = data(dtype)
    layout = fi.Network(SIZES, loss=LOSS).layout
    rules, states = [fi.GradientDescent().rule], np.empty((1, 0, start.size), dtype)
    return lambda n: reference.descend(
        layout, rules, start[None].copy(), states, 0, X, Y, None, None, X.shape[1], 0,
        np.full((1, n, 1), RATE), np.empty((1, n)), np.empty(1, np.intp), np.arange(1), 1,
    )  # fmt: skip


class LessonsHelpers:
    """The functions of the lesson's helper module in NumPy."""

    @staticmethod
    def forward_propagation(X, parameters):
        W1, b1 = parameters["W1"], parameters["b1"]
        W2, b2 = parameters["W2"], parameters["b2"]
        W3, b3 = parameters["W3"], parameters["b3"]
        z1 = np.dot(W1, X) + b1
        a1 = np.maximum(0, z1)
        z2 = np.dot(W2, a1) + b2
        a2 = np.maximum(0, z2)
        z3 = np.dot(W3, a2) + b3
        a3 = 1 / (1 + np.exp(-z3))
        return a3, (z1, a1, W1, b1, z2, a2, W2, b2, z3, a3, W3, b3)

    @staticmethod
    def compute_loss(a3, Y):
        losses = np.multiply(-np.log(a3), Y) + np.multiply(-np.log(1 - a3), 1 - Y)
        return 1.0 / Y.shape[1] * np.nansum(losses)

    @staticmethod
    def backward_propagation(X, Y, cache):
        _, a1, _, _, _, a2, W2, _, _, a3, W3, _ = cache
        dz3 = 1.0 / X.shape[1] * (a3 - Y)
        dW3 = np.dot(dz3, a2.T)
        db3 = np.sum(dz3, axis=1, keepdims=True)
        da2 = np.dot(W3.T, dz3)
        dz2 = np.multiply(da2, np.int64(a2 > 0))
        dW2 = np.dot(dz2, a1.T)
        db2 = np.sum(dz2, axis=1, keepdims=True)
        da1 = np.dot(W2.T, dz2)
        dz1 = np.multiply(da1, np.int64(a1 > 0))
        dW1 = np.dot(dz1, X.T)
        db1 = np.sum(dz1, axis=1, keepdims=True)
        return {
            "dz3": dz3, "dW3": dW3, "db3": db3, "da2": da2, "dz2": dz2, "dW2": dW2, "db2": db2,
            "da1": da1, "dz1": dz1, "dW1": dW1, "db1": db1,
        }  # fmt: skip

    @staticmethod
    def update_parameters(parameters, grads, learning_rate):
        for k in range(len(parameters) // 2):
            for name in (f"W{k + 1}", f"b{k + 1}"):
                parameters[name] = parameters[name] - learning_rate * grads["d" + name]
        return parameters


def loop(
    helpers: type | ModuleType, X: np.ndarray, Y: np.ndarray, start: dict[str, np.ndarray]
) -> Contender:
    """The training loop of the lesson, with the functions of a module."""

    def iterate(n: int) -> list[float]:
        parameters, costs = dict(start), []
        for _ in range(n):
            a3, cache = helpers.forward_propagation(X, parameters)
            costs.append(helpers.compute_loss(a3, Y))
            grads = helpers.backward_propagation(X, Y, cache)
            parameters = helpers.update_parameters(parameters, grads, RATE)
        return costs

    return iterate


def lesson(dtype: str = "float64") -> Contender:
    X, Y, start = data(dtype)
    return loop(LessonsHelpers, X, Y, fi.Network(SIZES, dtype=dtype).unpack(start))


def notebook(helpers: type | ModuleType, m: int = 300) -> Contender:
    """The training loop of the lesson on ``m`` examples with integer labels."""
    state = np.random.get_state()
    np.random.seed(1)
    X, Y = fi.lesson.make_circles(m, noise=0.05)
    start = init_utils.initialize_parameters_he(SIZES)
    np.random.set_state(state)
    return loop(helpers, np.ascontiguousarray(X.T), Y.reshape(1, m), start)


def jax_loop() -> Contender:
    """The whole loop in one jit, with gradients by value_and_grad."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    X, Y, start = data()
    parameters = {k: jnp.asarray(v) for k, v in fi.Network(SIZES).unpack(start).items()}

    def cost(p, X, Y):
        A = X
        for layer in (1, 2):
            A = jnp.maximum(p[f"W{layer}"] @ A + p[f"b{layer}"], 0)
        z = p["W3"] @ A + p["b3"]
        # The stable loss from logits is also the faster one.
        return jnp.mean(jax.nn.softplus(z) - z * Y)

    def body(i, state):
        p, costs, X, Y = state
        value, gradient = jax.value_and_grad(cost)(p, X, Y)
        p = jax.tree.map(lambda w, g: w - RATE * g, p, gradient)
        return p, costs.at[i % len(costs)].set(value), X, Y

    @jax.jit
    def loop(n, p, X, Y):
        # A ring buffer, because the number of iterations is not known at compile time.
        return jax.lax.fori_loop(0, n, body, (p, jnp.zeros(4096), X, Y))

    X, Y = jnp.asarray(X), jnp.asarray(Y)
    return lambda n: jax.block_until_ready(loop(n, parameters, X, Y))


def torch_loop(compiled: bool = False) -> Contender:
    """Modules and optimiser on one thread, which is faster than two at this size."""
    import torch

    torch.set_num_threads(1)
    X, Y, start = data()
    p = fi.Network(SIZES).unpack(start)
    X, Y = torch.from_numpy(X.T.copy()), torch.from_numpy(Y.T.copy())
    layers = [torch.nn.Linear(a, b, dtype=torch.float64) for a, b in ((2, 10), (10, 5), (5, 1))]
    relu = torch.nn.ReLU()
    model = torch.nn.Sequential(layers[0], relu, layers[1], relu, layers[2])
    with torch.no_grad():
        for k, linear in enumerate(layers, start=1):
            linear.weight.copy_(torch.from_numpy(p[f"W{k}"]))
            linear.bias.copy_(torch.from_numpy(p[f"b{k}"].ravel()))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, fused=True)
    loss_of = torch.nn.BCEWithLogitsLoss()

    def cost() -> "torch.Tensor":
        return loss_of(model(X), Y)

    if compiled:
        cost = torch.compile(cost)

    def iterate(n: int) -> list[float]:
        costs = []
        for _ in range(n):
            optimizer.zero_grad()
            loss = cost()
            loss.backward()
            optimizer.step()
            costs.append(loss.item())
        return costs

    return iterate


def scikit_learn(shuffle: bool = False) -> Contender:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    X, Y, _ = data()
    X, y = X.T.copy(), Y.ravel()

    def iterate(n: int) -> list[float]:
        # Disable early stopping, the penalty and momentum.
        model = MLPClassifier(
            (10, 5), solver="sgd", batch_size=300, learning_rate_init=RATE, momentum=0, alpha=0,
            shuffle=shuffle, max_iter=n, tol=0, n_iter_no_change=n + 1, random_state=0,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.fit(X, y).loss_curve_

    return iterate


def numba_loop() -> Contender:
    """The whole loop in explicit loops for numba, with fastmath."""
    import numba

    X, Y, start = data()
    p = [np.ascontiguousarray(value) for value in fi.Network(SIZES).unpack(start).values()]

    @numba.njit(fastmath=True)
    def layer(W, b, A, Z, relu):
        for o in range(W.shape[0]):
            for e in range(A.shape[1]):
                Z[o, e] = b[o, 0]
            for i in range(W.shape[1]):
                for e in range(A.shape[1]):
                    Z[o, e] += W[o, i] * A[i, e]
            if relu:
                for e in range(A.shape[1]):
                    Z[o, e] = max(Z[o, e], 0.0)

    @numba.njit(fastmath=True)
    def step_back(W, b, A, dZ, dA):
        for i in range(A.shape[0]):
            for e in range(A.shape[1]):
                dA[i, e] = 0.0
            for o in range(W.shape[0]):
                for e in range(A.shape[1]):
                    dA[i, e] += W[o, i] * dZ[o, e]
            for e in range(A.shape[1]):
                dA[i, e] *= A[i, e] > 0
        for o in range(W.shape[0]):
            total = 0.0
            for e in range(A.shape[1]):
                total += dZ[o, e]
            b[o, 0] -= RATE * total
            for i in range(W.shape[1]):
                total = 0.0
                for e in range(A.shape[1]):
                    total += dZ[o, e] * A[i, e]
                W[o, i] -= RATE * total

    @numba.njit(fastmath=True)
    def loop(n, X, Y, W1, b1, W2, b2, W3, b3):
        m = X.shape[1]
        A1, A2, A3 = np.empty((10, m)), np.empty((5, m)), np.empty((1, m))
        d0, d1, d2 = np.empty((2, m)), np.empty((10, m)), np.empty((5, m))
        costs = np.empty(n)
        for k in range(n):
            layer(W1, b1, X, A1, True)
            layer(W2, b2, A1, A2, True)
            layer(W3, b3, A2, A3, False)
            total = 0.0
            for e in range(m):
                a = 1 / (1 + np.exp(-A3[0, e]))
                total -= np.log(a if Y[0, e] > 0 else 1 - a)
                A3[0, e] = (a - Y[0, e]) / m
            costs[k] = total / m
            step_back(W3, b3, A2, A3, d2)
            step_back(W2, b2, A1, d2, d1)
            step_back(W1, b1, X, d1, d0)
        return costs

    return lambda n: loop(n, X, Y, *[value.copy() for value in p])


CONTENDERS = {
    "fastinit": (None, fastinit),
    "fastinit, float32": (None, lambda: fastinit("float32")),
    "the lesson's NumPy code": (None, lesson),
    "the lesson's NumPy code, float32": (None, lambda: lesson("float32")),
    "NumPy reference": (None, numpy_reference),
    "JAX, whole loop jitted": ("jax", jax_loop),
    "numba, loops written out": ("numba", numba_loop),
    "PyTorch eager, 1 thread": ("torch", torch_loop),
    "PyTorch compiled, 1 thread": ("torch", lambda: torch_loop(compiled=True)),
    "scikit-learn MLPClassifier, full batch": ("sklearn", scikit_learn),
    "scikit-learn MLPClassifier, shuffling as it does by default": (
        "sklearn",
        lambda: scikit_learn(shuffle=True),
    ),
}
TARGETS = {
    "the lesson's NumPy code": 15,
    "the lesson's NumPy code, float32": 25,
    "JAX, whole loop jitted": 3.5,
    "PyTorch eager, 1 thread": 45,
    "scikit-learn MLPClassifier, full batch": 55,
}


NOTEBOOK = "one iteration of a notebook's own loop"
# Number of examples: target.
NOTEBOOK_TARGETS = {30: 1, 300: 3, 3000: 1}


def prepared(name: str) -> Contender:
    package, make = CONTENDERS[name]
    needs(package)
    contender = make()
    try:
        contender(2)
    except Exception as error:
        if name != "PyTorch compiled, 1 thread":
            raise
        # torch.compile requires a C++ compiler and the headers of Python.
        pytest.skip(f"torch.compile does not run here: {type(error).__name__}")
    return contender


@pytest.mark.parametrize("m", NOTEBOOK_TARGETS)
@pytest.mark.parametrize("helpers", [LessonsHelpers, init_utils], ids=["NumPy", "fastinit"])
def test_notebook(benchmark, helpers, m):
    contender = notebook(helpers, m)
    contender(2)
    benchmark.group = f"100 iterations of a notebook's own loop, {m} examples"
    benchmark(contender, 100)


@pytest.mark.parametrize("name", CONTENDERS)
def test_iteration(benchmark, name):
    contender = prepared(name)
    benchmark.group = "100 iterations of the lesson"
    benchmark(contender, 100)


def core_peak(dtype: str = "float64") -> float:
    """Return the multiply-adds per second of one core in a large matrix product."""
    script = """
import sys
import time
import numpy as np
A = np.random.default_rng(0).standard_normal((768, 768)).astype(sys.argv[1])
out = np.empty_like(A)
times = []
for _ in range(12):
    start = time.perf_counter()
    np.matmul(A, A, out=out)
    times.append(time.perf_counter() - start)
print(768**3 / min(times))
"""
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    command = [sys.executable, "-P", "-c", script, dtype]
    return float(subprocess.check_output(command, env=os.environ | one, text=True))


def notebook_ratios() -> list[dict]:
    """Return one row per number of examples, with that of the lesson first."""
    rows = []
    for m in sorted(NOTEBOOK_TARGETS, key=lambda m: m != 300):
        times = in_turns({"NumPy": notebook(LessonsHelpers, m), "ours": notebook(init_utils, m)})
        rows.append(
            {
                "question": NOTEBOOK,
                "peer": f"the lesson's NumPy helpers, {m} examples",
                "target": NOTEBOOK_TARGETS[m],
                "measured": ratio(times, "NumPy", "ours"),
            }
        )
    return rows


def ratios() -> list[dict]:
    """Return one row per peer: its time divided by ours."""
    contenders, absent = {}, []
    for name in CONTENDERS:
        try:
            contenders[name] = prepared(name)
        # The report has rows without a figure for peers that are not installed.
        except pytest.skip.Exception as reason:
            absent.append((name, str(reason)))
    times = in_turns(contenders)
    rows = []
    for name in contenders:
        if name.startswith("fastinit"):
            continue
        ours = "fastinit, float32" if name.endswith("float32") else "fastinit"
        rows.append(
            {
                "question": "one iteration of the lesson",
                "peer": name,
                "target": TARGETS.get(name),
                "measured": ratio(times, name, ours),
            }
        )
    rows += [
        {"question": "one iteration of the lesson", "peer": name, "skipped": reason}
        for name, reason in absent
    ]
    best = min(times["fastinit"])
    rows.append(
        {
            "question": "one iteration of the lesson",
            "peer": "share of one core's matrix-product speed that fastinit reaches",
            "measured": MULTIPLY_ADDS / best / core_peak(),
            "limit": True,
        }
    )
    return rows + notebook_ratios()
