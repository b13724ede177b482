"""Training of fully connected networks.

Modules: ``network`` maps the layers to one flat parameter vector, ``optimizers`` has the optimisers
and learning-rate schedules, ``loop`` has :func:`train`, ``run`` the classes that it returns,
``files`` reads and writes networks, ``progress`` has the progress bar, ``blas`` limits the threads
of BLAS, and ``internals`` has what :mod:`fastinit.comparison` uses beyond the public methods.
"""

from fastinit.training.loop import train
from fastinit.training.network import Network, load
from fastinit.training.run import Interrupted, Run, Stack

__all__ = ["Interrupted", "Network", "Run", "Stack", "load", "train"]
