"""Whatever Python code does with public names: an error that names the argument, never a crash."""

import copy
import math
import pickle
import re
import sys
import threading
from contextlib import nullcontext
from decimal import Decimal

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi
from fastinit import initializers
from fastinit.initializers import target

HUGE = 10**400


@pytest.fixture
def X(circles):
    return circles[0]


@pytest.fixture
def Y(circles):
    return circles[1]


# --- runs and networks in other hands -------------------------------------------------------------


@pytest.mark.parametrize("before", [fi.GradientDescent(), fi.Momentum(), fi.Adam()])
@pytest.mark.parametrize("after", [fi.Momentum(), fi.Adam(), fi.AdamW(), "adam", None])
def test_an_optimizer_set_in_a_callback_has_no_effect(net, theta, X, Y, before, after):
    expected = theta.copy()
    fi.train(net, expected, X, Y, optimizer=before, iterations=40)

    def callback(run):
        run.optimizer = after
        run._state = np.empty((0, 0))
        run.costs = None
        run.theta = None
        run.diverged_at = 3

    run = fi.train(net, theta, X, Y, optimizer=before, iterations=40, callback=callback)
    assert_array_equal(theta, expected)
    assert len(run.costs) == 40


@pytest.mark.parametrize("after", [fi.Momentum(), fi.Adam(), fi.AdamW()])
def test_resume_with_an_optimizer_that_the_state_does_not_fit(net, theta, X, Y, after):
    run = fi.train(net, theta, X, Y, iterations=3)
    run.optimizer = after
    start = theta.copy()
    with pytest.raises(ValueError, match="resume: expected the state of"):
        fi.train(net, theta, X, Y, iterations=3, resume=run)
    assert_array_equal(theta, start)


def test_resume_of_a_run_made_by_hand(net, theta, X, Y):
    run = fi.Run(net, theta, fi.Adam(), np.empty(0))
    with pytest.raises(ValueError, match="resume: expected the state of Adam"):
        fi.train(net, theta, X, Y, iterations=1, resume=run)
    run = fi.Run(net, theta, fi.GradientDescent(), np.empty(0))
    assert fi.train(net, theta, X, Y, iterations=2, resume=run).iterations == 2


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("costs", None, ValueError),
        ("costs", np.empty((2, 2)), ValueError),
        ("costs", np.empty(1), ValueError),
        ("batch_size", 0, ValueError),
        ("batch_size", 301, ValueError),
        ("batch_size", "10", TypeError),
        ("cost_every", 0, ValueError),
        ("_iterations", -1, ValueError),
        ("_iterations", 10**30, ValueError),
        ("_order", "key", TypeError),
        ("_order", 2**64, ValueError),
        ("_order", np.arange(299), ValueError),
        ("_state_start", 6, ValueError),
        ("_state", np.zeros((1, 90)), ValueError),
        ("_state", np.zeros((1, 91), np.float32), ValueError),
        ("_state", [[0.0] * 91], ValueError),
        ("validation_costs", 3, ValueError),
        ("seconds", "long", TypeError),
        ("seconds", 10**400, ValueError),
        ("optimizer", "momentum", TypeError),
        ("optimizer", None, TypeError),
    ],
)
def test_resume_of_a_run_whose_attributes_were_set(net, theta, X, Y, name, value, error):
    run = fi.train(net, theta, X, Y, optimizer=fi.Momentum(), iterations=5, batch_size=60)
    setattr(run, name, value)
    start = theta.copy()
    with pytest.raises(error, match=r"^(resume|optimizer)"):
        fi.train(net, theta, X, Y, iterations=1, resume=run)
    assert_array_equal(theta, start)


@pytest.mark.parametrize("name", ["n_parameters", "sizes", "layout", "dtype", "anything"])
def test_networks_stay_as_they_are(net, name):
    with pytest.raises(AttributeError, match=name):
        setattr(net, name, 10)
    with pytest.raises(AttributeError):
        delattr(net, "sizes")
    assert not hasattr(net, "__dict__")


def test_networks_are_copied_and_pickled(net):
    for other in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other == net
        assert hash(other) == hash(net)
    assert fi.Network([2, 3, 1], bias=False) != fi.Network([2, 3, 1])


def test_what_trains_must_fit_at_every_slice(net, theta, circles):
    """A network whose layout was forced: refused by the kernel, before anything is written."""
    other = fi.Network([2, 10, 5, 2], output="identity")
    object.__setattr__(net, "layout", other.layout)
    start = theta.copy()
    with pytest.raises(ValueError, match="expected shape"):
        fi.train(net, theta, *circles[:2], iterations=3)
    assert_array_equal(theta, start)


def test_stop_iteration_in_a_callback_of_lbfgs(net, theta, X, Y):
    pytest.importorskip("scipy")

    def callback(run):
        raise StopIteration("from the callback")

    with pytest.raises(StopIteration, match="from the callback"):
        fi.train(net, theta, X, Y, optimizer=fi.LBFGS(), iterations=50, callback=callback)


@pytest.mark.parametrize("history", [0, 1001, 10**400])
def test_a_history_that_nobody_can_keep(history):
    with pytest.raises(ValueError, match="history: expected"):
        fi.LBFGS(history=history)


# --- memory ---------------------------------------------------------------------------------------


def test_costs_are_recorded_as_they_come(net, theta, X, Y):
    """A billion iterations asked for: 8 GB of costs, if they were reserved."""
    run = fi.train(net, theta, X, Y, iterations=10**9, callback=lambda run: run.iterations > 3000)
    assert run.iterations > 3000
    assert len(run.costs) == run.iterations
    expected = net.initialize("lesson.he", seed=3)
    whole = fi.train(net, expected, X, Y, iterations=run.iterations)
    assert_array_equal(whole.costs, run.costs)
    assert_array_equal(expected, theta)


def test_a_divergence_of_many_iterations(net, theta, X, Y):
    run = fi.train(net, theta, X, Y, learning_rate=1e200, iterations=10**9)
    assert run.stopped_by == "divergence"
    assert np.isnan(run.costs[run.diverged_at :]).all()


@pytest.mark.parametrize("every", [1, 2, 7, 100])
def test_costs_of_every_so_many_iterations(net, X, Y, every):
    thetas = net.initialize("he_normal", seed=0, n=3)
    start = thetas.copy()
    rates = [0.1, 0.2, 1e200]
    stack = fi.train(net, thetas, X, Y, learning_rate=rates, iterations=30, cost_every=every)
    whole = fi.train(net, start, X, Y, learning_rate=rates, iterations=30)
    assert_array_equal(stack.costs, whole.costs[:, ::every])
    assert [run.iterations for run in stack] == [run.iterations for run in whole]
    assert stack.costs.shape == (3, -(-30 // every))
    more = fi.train(net, thetas, X, Y, resume=stack, iterations=25)
    for run, expected in zip(
        more, fi.train(net, start, X, Y, resume=whole, iterations=25), strict=True
    ):
        assert_array_equal(run.costs, expected.costs[::every])
    with pytest.raises(ValueError, match="cost_every: expected"):
        fi.train(net, thetas, X, Y, resume=stack, iterations=1, cost_every=every + 1)


# --- rates for each layer, networks without biases ------------------------------------------------


def test_learning_rates_of_layers(net, theta, X, Y):
    """Against plain updates by the gradient; a rate of 0 freezes."""
    rates = [0.1, (0.0, 0.3), fi.InverseScaling(initial=0.2)]
    by_hand = theta.copy()
    run = fi.train(net, theta, X, Y, learning_rate=rates, iterations=20)
    views = net.unpack(by_hand)
    for i in range(20):
        gradient = net.unpack(net.loss_and_gradient(by_hand, X, Y)[1])
        third = rates[2](i)
        for name, rate in zip(views, [0.1, 0.1, 0.0, 0.3, third, third], strict=True):
            views[name] -= rate * gradient[name]
    np.testing.assert_allclose(theta, by_hand, rtol=1e-12)
    assert_array_equal(
        net.unpack(theta)["W2"], net.unpack(net.initialize("lesson.he", seed=3))["W2"]
    )
    assert run.optimizer.learning_rate == (0.1, (0.0, 0.3), rates[2])


def test_learning_rates_of_layers_in_a_stack(net, X, Y):
    thetas = net.initialize("he_normal", seed=0, n=3)
    start = thetas.copy()
    rates = [0.1, [0.1, 0.0, 0.2], [(0.1, 0.0), 0.2, 0.3]]
    fi.train(net, thetas, X, Y, learning_rate=rates, iterations=30)
    for theta, rate, found in zip(start, rates, thetas, strict=True):
        fi.train(net, theta, X, Y, learning_rate=rate, iterations=30)
        assert_array_equal(theta, found)


def test_networks_without_biases(X, Y, tmp_path):
    net = fi.Network([2, 10, 5, 1], activation="tanh", bias=False)
    assert net.n_parameters == 2 * 10 + 10 * 5 + 5
    assert "bias=False" in repr(net)
    theta = net.initialize("glorot_normal", seed=0)
    assert list(net.unpack(theta)) == ["W1", "W2", "W3"]
    assert_array_equal(net.pack(net.unpack(theta)), theta)
    W1, W2, W3 = net.unpack(theta).values()
    outputs = 1 / (1 + np.exp(-(W3 @ np.tanh(W2 @ np.tanh(W1 @ X)))))
    np.testing.assert_allclose(net.predict_proba(theta, X), outputs, rtol=1e-12)
    run = fi.train(net, theta, X, Y, optimizer=fi.Adam(0.01), iterations=500)
    assert run.costs[-1] < run.costs[0]
    net.save(tmp_path / "net.npz", theta)
    loaded, values = fi.load(tmp_path / "net.npz")
    assert loaded == net
    assert_array_equal(values, theta)
    with pytest.raises(TypeError, match="bias: expected True or False"):
        fi.Network([2, 1], bias=1)


# --- numbers, dtypes and seeds --------------------------------------------------------------------

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


@pytest.mark.parametrize("scheme", [fi.lesson.he, fi.lesson.random, fi.he_normal])
def test_a_fan_of_zero(scheme):
    with pytest.warns(UserWarning, match=r"shape: \(3, 0\) has no elements"):
        assert scheme((3, 0), seed=1).shape == (3, 0)


@pytest.mark.parametrize("scheme", ["lesson.he", "lesson.random"])
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_the_lessons_draws_are_rounded_once(scheme, kind):
    """To nearest even, as by exact arithmetic; through float32 some would go the other way."""
    if kind == "bfloat16":
        dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    else:
        dtype = np.dtype(kind)
    out = np.empty((200, 3000), dtype)
    fill = initializers.get(scheme)
    fill(out=out, seed=0)
    exact = fill((200, 3000), seed=0)
    floats = out.astype(np.float64)
    spacing = np.abs(exact) * 2.0 ** -(10 if kind == "float16" else 7)
    assert (np.abs(floats - exact) <= spacing / 2 + 2.0**-25).all()
    middles = [1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-8 - 2.0**-40]
    ends = {"float16": [1 + 2.0**-10, 1 + 2.0**-8, 1 + 2.0**-8], "bfloat16": [1, 1 + 2.0**-7, 1]}
    bits = target.bits_of(np.array(middles), kind)
    assert_array_equal(bits.view(dtype).astype(float), ends[kind])
    assert_array_equal(target.bits_of(-np.array(middles), kind).view(dtype).astype(float),
                       -np.array(ends[kind], float))  # fmt: skip


# --- memory of out --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((3, 3), (8, 8)),
        ((4, 4), (16, 8)),
        ((5,), (4,)),
        ((2, 3, 4), (64, 8, 16)),
        ((9, 9), (-8, 8)),
    ],
)
def test_elements_that_share_memory(shape, strides):
    memory = np.zeros(200)
    start = memory[100:]
    out = np.lib.stride_tricks.as_strided(start, shape, strides)
    with pytest.raises(ValueError, match="out: expected"):
        fi.normal(out=out, seed=0)
    assert not memory.any()


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a.T, lambda a: a[::2, ::3], lambda a: a[::-1], lambda a: a[:, ::-1].T,
        lambda a: a[:1], lambda a: a[:0], lambda a: a.reshape(4, 3, 12).transpose(2, 0, 1),
        lambda a: np.lib.stride_tricks.as_strided(a, (2, 2), (24, 16)),
    ],
)  # fmt: skip
def test_views_whose_elements_are_apart(view):
    memory = np.full((12, 12), np.nan)
    out = view(memory)
    empty = pytest.warns(UserWarning, match="has no elements") if out.size == 0 else nullcontext()
    with empty:
        expected = fi.normal(out.shape, seed=0)
        assert fi.normal(out=out, seed=0) is out
    assert_array_equal(out, expected)
    assert np.isnan(memory).sum() == memory.size - out.size


def test_an_interrupt_while_threads_are_waited_for(monkeypatch):
    """It is raised once no thread writes to the caller's memory any more."""
    join, go_on = threading.Thread.join, threading.Event()

    def join_interrupted(self, timeout=None):
        if not go_on.is_set():
            go_on.set()
            raise KeyboardInterrupt
        join(self, timeout)

    helpers = [threading.Thread(target=go_on.wait) for _ in range(2)]
    for helper in helpers:
        helper.start()
    monkeypatch.setattr(threading.Thread, "join", join_interrupted)
    with pytest.raises(KeyboardInterrupt):
        target._join(helpers)
    assert not any(helper.is_alive() for helper in helpers)


# --- no threads -----------------------------------------------------------------------------------


@pytest.fixture(params=[0, 1])
def few_threads(monkeypatch, request):
    """So many threads can be started, and no more."""
    left = [request.param]
    start = threading.Thread.start

    def limited(self):
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(self)

    monkeypatch.setattr(threading.Thread, "start", limited)
    return left


def test_fills_without_threads(few_threads):
    expected = fi.normal((2048, 1024), seed=0, dtype="float32", threads=1)
    found = fi.normal((2048, 1024), seed=0, dtype="float32", threads=4)
    assert_array_equal(found, expected)


def test_compare_without_threads(few_threads, net, X, Y):
    settings = {"seed": range(6), "iterations": 20}
    expected = fi.compare(X, Y, net, ["he_normal"], **settings, threads=1)
    found = fi.compare(X, Y, net, ["he_normal"], **settings, threads=3)
    for ours, theirs in zip(found.trials, expected.trials, strict=True):
        assert_array_equal(ours.costs, theirs.costs)


def test_training_without_threads(monkeypatch, X):
    import _thread

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    net = fi.Network([2, 300, 300, 1])
    Y = (X[:1] > 0).astype(float)
    theta, expected = net.initialize("he_normal", seed=0), net.initialize("he_normal", seed=0)
    fi.train(net, expected, X, Y, iterations=3, threads=2)
    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    fi.train(net, theta, X, Y, iterations=3, threads=2)
    assert_array_equal(theta, expected)


# --- Ctrl-C ---------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process on Windows")
@pytest.mark.parametrize(
    ("sizes", "n", "m", "batch_size"),
    [
        pytest.param([2, 10, 5, 1], None, 300, None, id="narrow"),
        pytest.param([100, 200, 1], None, 500, 64, id="wide mini-batches"),
        pytest.param([3, 5, 1], 300, 3, None, id="interleaved stack"),
        pytest.param([20, 30, 1], 40, 200, 33, id="stack of mini-batches"),
    ],
)
def test_an_interrupted_training_resumes(interrupt, sizes, n, m, batch_size):
    """Bit for bit; the networks of a stack may have come differently far."""
    findings = interrupt(f"""
        import time
        import numpy as np
        import fastinit as fi

        net = fi.Network({sizes})
        rng = np.random.default_rng(0)
        X = rng.standard_normal(({sizes[0]}, {m}))
        Y = (rng.random((1, {m})) > 0.5).astype(float)
        theta = net.initialize("he_normal", seed=0, n={n})
        whole = theta.copy()
        settings = dict(optimizer=fi.Adam(1e-3), batch_size={batch_size})
        print("ready", flush=True)
        try:
            fi.train(net, theta, X, Y, iterations=10**8, threads=2, **settings)
        except fi.Interrupted as stop:
            print(time.time(), flush=True)
            result = stop.result
        total = max(run.iterations for run in ([result] if {n} is None else result)) + 5
        again = fi.train(net, theta, X, Y, iterations=5, resume=result, threads=1)
        expected = fi.train(net, whole, X, Y, iterations=total, **settings)
        print(bool((theta == whole).all()), bool((again.costs == expected.costs).all()))
    """)
    assert findings == ["True True"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process on Windows")
@pytest.mark.parametrize("sizes", [[400, 800, 800, 1], [30_000, 16, 1], [3, 5, 1]], ids=str)
def test_interrupted_stacks(interrupt, sizes):
    """Two wide networks, of which an iteration takes seconds; and a thousand small ones."""
    n, m = (2, 12_000 if sizes[0] == 400 else 150) if sizes[0] > 3 else (1000, 3)
    findings = interrupt(f"""
        import sys, time
        import numpy as np
        import fastinit as fi

        net = fi.Network({sizes})
        rng = np.random.default_rng(0)
        X = rng.standard_normal(({sizes[0]}, {m}))
        Y = (rng.random((1, {m})) > 0.5).astype(float)
        thetas = net.initialize("he_normal", seed=0, n={n})
        replay = thetas.copy()
        print("ready", flush=True)
        try:
            fi.train(net, thetas, X, Y, iterations=10**8, threads=2)
        except KeyboardInterrupt:
            print(time.time(), flush=True)
        print(bool(np.isfinite(thetas).all()), flush=True)
    """)
    assert findings == ["True"], re.escape(str(sizes))
