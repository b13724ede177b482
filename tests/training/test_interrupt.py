"""Ctrl-C during a training: it returns in time, at a whole iteration, and can be resumed."""

import re
import sys

import pytest
from numpy.testing import assert_array_equal

import fastinit as fi
from fastinit import kernels


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


@pytest.mark.parametrize("k", [None, 3])
def test_an_interrupt_hands_over_the_run(net, circles, k):
    """Here a callback raises it; tests below send a signal."""
    X, Y, *test = circles
    theta = net.initialize("he_normal", seed=0, n=k)
    whole = theta.copy()
    settings = {"validation": tuple(test), "tol": 1e-9}

    def callback(run):
        if (run if k is None else run[0]).iterations == 40:
            raise KeyboardInterrupt

    optimizer = {"optimizer": fi.Adam(0.01), "batch_size": 70}
    with pytest.raises(fi.Interrupted, match=r"^after 40 of 100 iterations$") as stop:
        fi.train(
            net, theta, X, Y, callback=callback, callback_every=20, iterations=100, **settings,
            **optimizer,
        )  # fmt: skip
    result = stop.value.result
    assert result.theta is theta
    assert {each.stopped_by for each in ([result] if k is None else result)} == {"interrupt"}
    fi.train(net, theta, X, Y, resume=result, iterations=60)
    fi.train(net, whole, X, Y, iterations=100, **optimizer)
    assert_array_equal(theta, whole)


INTERRUPTED = """
    import sys, time
    import numpy as np
    import fastinit as fi

    net = fi.Network({sizes})
    rng = np.random.default_rng(0)
    X = rng.standard_normal(({sizes}[0], {m}))
    Y = (rng.random((1, {m})) > 0.5).astype(float)
    theta = net.initialize("he_normal", seed=0)
    replay = theta.copy()
    print("ready", flush=True)
    try:
        fi.train(net, theta, X, Y, iterations=10**8)
    except KeyboardInterrupt:
        print(time.time(), flush=True)
    for whole in range({most}):
        if (replay == theta).all():
            print("after", whole, "whole iterations", flush=True)
            break
        fi.train(net, replay, X, Y, iterations=1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process on Windows")
@pytest.mark.parametrize(
    ("sizes", "m", "most"),
    [
        pytest.param([50, 60, 1], 2000, 20_000, id="many short iterations"),
        pytest.param([800, 800, 800, 1], 20_000, 3, id="one iteration of seconds"),
    ],
)
def test_interrupt(interrupt, sizes, m, most):
    """A real signal to a real process: back in time, theta at a whole iteration."""
    if kernels.level == "reference":
        pytest.skip("the reference looks for signals only between NumPy calls")
    [outcome] = interrupt(INTERRUPTED.format(sizes=sizes, m=m, most=most))
    assert re.fullmatch(r"after \d+ whole iterations", outcome)


STACK_INTERRUPTED = """
    import time
    import numpy as np
    import fastinit as fi

    net = fi.Network([2, 10, 5, 1])
    X, Y, _, _ = fi.lesson.load_dataset()
    thetas = net.initialize("he_normal", seed=0, n=500)
    replay = thetas.copy()
    print("ready", flush=True)
    try:
        fi.train(net, thetas, X, Y, iterations=10**5, threads=2)
    except KeyboardInterrupt:
        print(time.time(), flush=True)
    left = set(range(500))
    for _ in range(10**5):
        left = {k for k in left if not (replay[k] == thetas[k]).all()}
        if not left:
            print("all at whole iterations", flush=True)
            break
        fi.train(net, replay, X, Y, iterations=1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process on Windows")
def test_interrupt_of_a_stack(interrupt):
    if kernels.level == "reference":
        pytest.skip("the reference looks for signals only between NumPy calls")
    [outcome] = interrupt(STACK_INTERRUPTED)
    assert outcome == "all at whole iterations"
