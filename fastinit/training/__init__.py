"""Training: networks, optimisers, and one loop around one kernel.

Modules: ``network`` lays the layers over one flat parameter vector, ``optimizers`` has optimisers
and schedules, ``loop`` has :func:`train`, ``run`` what it returns, ``files`` networks on disk, and
``progress`` the progress bar.
"""

from fastinit.training.loop import train
from fastinit.training.network import Network, load
from fastinit.training.run import Interrupted, Run, Stack

__all__ = ["Interrupted", "Network", "Run", "Stack", "load", "train"]
