import _thread
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from types import ModuleType

import numpy as np
import pytest

from fastinit import Network, kernels, lesson

# A shell that starts a command in the background lets it ignore SIGINT, and its children would too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Keras reads it when it is imported, and would take TensorFlow.
os.environ.setdefault("KERAS_BACKEND", "jax")

LEVELS = (*kernels.LEVELS, "reference")


def load(level: str, body: str = "dense") -> ModuleType:
    """Return the dense or random kernels of a level; skip the test if it cannot run here."""
    if level == "reference":
        return importlib.import_module("fastinit.reference")
    problem = kernels.why_not(level)
    if problem is not None:
        pytest.skip(f"{level}: {problem}")
    return importlib.import_module(f"fastinit.kernels.{body}_{level}")


@pytest.fixture(params=LEVELS)
def level(request):
    return request.param


@pytest.fixture
def dense(level):
    return load(level)


@pytest.fixture(params=kernels.LEVELS)
def compiled(request):
    """The dense kernels of each compiled level, without the reference."""
    return load(request.param)


@pytest.fixture
def random(level):
    return load(level, "random")


@pytest.fixture(params=["float64", "float32"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def net():
    """The layers of the lesson, with the loss computed from logits."""
    return Network([2, 10, 5, 1])


@pytest.fixture
def lesson_net():
    """The network of the lesson, whose cost is infinite where the sigmoid saturates."""
    return Network([2, 10, 5, 1], loss="saturating_cross_entropy")


@pytest.fixture
def theta(net):
    return net.initialize("lesson.he", seed=3)


@pytest.fixture
def circles():
    """The data of the lesson; NumPy's global random state is restored."""
    state = np.random.get_state()
    data = lesson.load_dataset()
    np.random.set_state(state)
    return data


@pytest.fixture
def balanced(circles):
    """256 examples of the lesson, half of each label.

    With an output of 0.5, the gradient of its bias is exactly 0 on every CPU level, because sums of
    1/512 are exact in any order.
    """
    X, Y, _, _ = circles
    rows = np.sort(np.concatenate([np.flatnonzero(Y[0] == label)[:128] for label in (0, 1)]))
    return np.ascontiguousarray(X[:, rows]), np.ascontiguousarray(Y[:, rows])


@pytest.fixture
def started(monkeypatch):
    """A list of the threads that the test starts."""
    found = []

    class Counted(threading.Thread):
        def start(self):
            found.append(self)
            super().start()

    def start(function, arguments):
        found.append(function)
        return start_new_thread(function, arguments)

    start_new_thread = _thread.start_new_thread
    monkeypatch.setattr(threading, "Thread", Counted)
    monkeypatch.setattr(_thread, "start_new_thread", start)  # used by the kernels
    return found


@pytest.fixture
def interrupt():
    """Return a function that runs a script in a new process and interrupts it with SIGINT.

    The script prints "ready", then, once the interrupt has been handled, the time, and then lines
    that the function returns. The interrupt must be handled within 0.2 s. The function makes up to
    three attempts, because the machine may be busy with other processes.
    """

    def run(script):
        command = [sys.executable, "-P", "-c", textwrap.dedent(script)]
        for _ in range(3):
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout.readline() == "ready\n"
                time.sleep(0.5)
                sent = time.time()
                child.send_signal(signal.SIGINT)
                returned, *lines = child.communicate(timeout=120)[0].splitlines()
            seconds = float(returned) - sent
            if seconds < 0.2:
                return lines
        pytest.fail(f"interrupt handled after {seconds:.2f} s; above 0.2 s in three attempts")

    return run


@pytest.fixture
def X(circles):
    return circles[0]


@pytest.fixture
def Y(circles):
    return circles[1]


@pytest.fixture(params=[0, 1])
def few_threads(monkeypatch, request):
    """Limit the number of threads that can be started to 0 or 1; a list with the rest."""
    left = [request.param]
    start = threading.Thread.start

    def limited(self):
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(self)

    monkeypatch.setattr(threading.Thread, "start", limited)
    return left
