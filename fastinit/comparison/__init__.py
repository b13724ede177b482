"""Comparisons: train from several initialisations, and compare the results.

Modules: ``data`` turns tables and the files of ``readers`` into arrays, ``grid`` has the axes and
cells, ``runner`` turns cells into tasks and ``trials`` tasks into columns of outcomes, ``results``
has the outcomes of all runs, ``courses``, ``verdicts``, ``ranking`` and ``statistics`` the rules
that they are judged by, ``local_search`` looks for a lower cost near the end of a run, ``store``
keeps finished runs in SQLite, ``propagation`` measures signal and gradient layer by layer,
``tables``, ``plots`` and ``report`` present the results.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastinit.comparison.grid import Cell, LogUniform
from fastinit.comparison.results import Comparison
from fastinit.comparison.runner import compare
from fastinit.comparison.tables import Table
from fastinit.comparison.trials import Trial

if TYPE_CHECKING:
    from fastinit.comparison.data import Dataset, from_table, read
    from fastinit.comparison.store import merge, open_comparison

__all__ = [
    "Cell",
    "Comparison",
    "Dataset",
    "LogUniform",
    "Table",
    "Trial",
    "compare",
    "from_table",
    "merge",
    "open_comparison",
    "read",
]

# Imported on first use: not every build of Python has SQLite, and not every program reads files.
LAZY = {
    "Dataset": "data",
    "from_table": "data",
    "read": "data",
    "merge": "store",
    "open_comparison": "store",
}


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(import_module(f"{__name__}.{LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
