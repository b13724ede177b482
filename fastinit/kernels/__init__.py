"""The compiled code. One CPU level is chosen when fastinit is imported.

``dense`` and ``random`` are the modules of that level. ``FASTINIT_KERNELS`` forces a level by name,
or ``reference`` for the NumPy implementation; a level that cannot run here raises ``ImportError``.
"""

import importlib
import importlib.util
import os
import platform
import sys
from types import ModuleType
from typing import Any, Literal

import numpy as np

try:
    from fastinit.kernels import cpu
except ImportError as error:
    raise ImportError(
        "fastinit: the compiled kernels are not here. This is the source tree, not the installed "
        "package: leave its folder, or start Python with -P"
    ) from error

# The best first. The last is built everywhere.
LEVELS = ("x86_64_v4", "x86_64_v3", "baseline")


def why_not(level: str) -> str | None:
    """Return why ``level`` cannot run here, or None if it can."""
    if importlib.util.find_spec(f"fastinit.kernels.dense_{level}") is None:
        return "not built"
    missing = cpu.missing().get(level, ())
    return f"not runnable here: no {', '.join(missing)}" if missing else None


def _choose() -> tuple[str, str]:
    """Return the level to run and the reason for it."""
    forced = os.environ.get("FASTINIT_KERNELS")
    if not forced:
        return next(name for name in LEVELS if why_not(name) is None), "the best this machine runs"
    if forced not in (*LEVELS, "reference"):
        raise ImportError(
            f"FASTINIT_KERNELS: expected one of {', '.join(LEVELS)}, reference; got {forced!r}"
        )
    problem = None if forced == "reference" else why_not(forced)
    if problem is not None:
        raise ImportError(f"FASTINIT_KERNELS={forced}: {problem}")
    return forced, "forced by FASTINIT_KERNELS"


level, reason = _choose()


def _load(body: str) -> ModuleType:
    """Return the chosen level's module of one kernel body."""
    module = importlib.import_module(
        "fastinit.reference" if level == "reference" else f"fastinit.kernels.{body}_{level}"
    )
    # One name for whichever module was chosen, as os.path is a name for posixpath.
    sys.modules[f"fastinit.kernels.{body}"] = module
    return module


dense = _load("dense")
random = _load("random")


def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Print which kernels run here and why.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        As in :func:`numpy.show_config`: print, or return a dictionary.

    Examples
    --------
    >>> show_config("dicts")["kernels"] in (*LEVELS, "reference")
    True
    """
    from importlib.metadata import version  # imported here: it would double the import time

    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode: expected stdout or dicts; got {mode!r}")
    config = {
        "fastinit": version("fastinit-nn"),
        "kernels": level,
        "because": reason,
        "levels": {name: why_not(name) or "runs here" for name in LEVELS},
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": usable_cores(),
    }
    if mode == "dicts":
        return config
    for name, value in config.items():
        if isinstance(value, dict):
            for inner, fact in value.items():
                print(f"  {inner:<10} {fact}")
        else:
            print(f"{name:<12} {value}")
    return None


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
