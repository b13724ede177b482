import _thread
import importlib
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

LEVELS = (*kernels.LEVELS, "reference")


def load(level: str, body: str = "dense") -> ModuleType:
    """The dense or random kernels of a level; skips with one of two reasons, never silently."""
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


@pytest.fixture
def compiled(dense, level):
    """The dense kernels of a level, but not the reference."""
    if level == "reference":
        pytest.skip("for compiled kernels alone")
    return dense


@pytest.fixture
def random(level):
    return load(level, "random")


@pytest.fixture(params=["float64", "float32"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def net():
    """The lesson's layers, with the loss from logits."""
    return Network([2, 10, 5, 1])


@pytest.fixture
def lesson_net():
    """The lesson's network: its cost is infinite where the sigmoid saturates."""
    return Network([2, 10, 5, 1], loss="saturating_cross_entropy")


@pytest.fixture
def theta(net):
    return net.initialize("lesson.he", seed=3)


@pytest.fixture
def circles():
    """The lesson's data, with NumPy's global random state left as it was."""
    state = np.random.get_state()
    data = lesson.load_dataset()
    np.random.set_state(state)
    return data


@pytest.fixture
def started(monkeypatch):
    """The threads that are started from here on."""
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
    monkeypatch.setattr(_thread, "start_new_thread", start)  # as the kernels do
    return found


@pytest.fixture
def interrupt():
    """Run a script in a process of its own, send Ctrl-C, and return what it says afterwards.

    The script prints "ready", and when it is back from the interrupt the time, then its findings.
    It must be back within 0.2 s. A second and a third chance are for a machine that was busy
    elsewhere; what the script finds is returned from the first run that was in time.
    """

    def run(script):
        command = [sys.executable, "-P", "-c", textwrap.dedent(script)]
        for _ in range(3):
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout.readline() == "ready\n"
                time.sleep(0.5)
                sent = time.time()
                child.send_signal(signal.SIGINT)
                returned, *findings = child.communicate(timeout=120)[0].splitlines()
            seconds = float(returned) - sent
            if seconds < 0.2:
                return findings
        pytest.fail(f"back after {seconds:.2f} s, three times over 0.2 s")

    return run


@pytest.fixture
def X(circles):
    return circles[0]


@pytest.fixture
def Y(circles):
    return circles[1]


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
