"""Comparisons: train from several initialisations, and compare the results.

Modules: ``grid`` has the axes and cells, ``runner`` turns cells into trials, ``trials`` describes
one outcome, ``results`` all of them, ``statistics`` the medians and verdicts, ``store`` keeps
finished trials in SQLite, ``propagation`` measures signal and gradient layer by layer, ``tables``,
``plots`` and ``report`` present the results.
"""

from fastinit.comparison.grid import Cell
from fastinit.comparison.results import Comparison
from fastinit.comparison.runner import compare
from fastinit.comparison.tables import Table
from fastinit.comparison.trials import Trial

__all__ = ["Cell", "Comparison", "Table", "Trial", "compare"]
