"""Learning rates in a module that other processes can import."""

import os
import signal


class Killing:
    """A schedule that kills the process that it is called in."""

    def __init__(self):
        self.parent = os.getpid()

    def __call__(self, iteration):
        assert os.getpid() != self.parent
        os.kill(os.getpid(), signal.SIGKILL)

    def __repr__(self):
        return "Killing()"
