"""The compiled kernels. One CPU level is selected when fastinit is imported.

``dense`` and ``random`` are the modules of the selected level. The environment variable
``FASTINIT_KERNELS`` selects a level by name, or ``reference`` for the implementation in NumPy. A
level that this machine does not support raises ``ImportError``.
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
        "fastinit: the compiled kernels are not here. Python has imported the source tree instead "
        "of the installed package: run it from another folder, or with -P"
    ) from error

# In descending order of preference. The last level is built on every architecture.
LEVELS = ("x86_64_v4", "x86_64_v3", "baseline")


def why_not(level: str) -> str | None:
    """Return the reason why ``level`` cannot run on this machine, or None if it can."""
    if importlib.util.find_spec(f"fastinit.kernels.dense_{level}") is None:
        return "not built"
    missing = cpu.missing().get(level, ())
    return f"not runnable here: no {', '.join(missing)}" if missing else None


def _choose() -> tuple[str, str]:
    """Return the selected level and the reason for the selection."""
    forced = os.environ.get("FASTINIT_KERNELS")
    if not forced:
        return next(
            name for name in LEVELS if why_not(name) is None
        ), "it is the fastest level that this machine runs"
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
    """Return the module of a kernel body at the selected level."""
    module = importlib.import_module(
        "fastinit.reference" if level == "reference" else f"fastinit.kernels.{body}_{level}"
    )
    # Make it importable without the name of the level, as os.path is for posixpath.
    sys.modules[f"fastinit.kernels.{body}"] = module
    return module


dense = _load("dense")
random = _load("random")


def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Show the versions, the selected kernels and the CPU levels that are available.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        Whether to print the configuration or to return it, as in :func:`numpy.show_config`.

    Returns
    -------
    dict or None
        With "dicts", a dictionary with the keys ``fastinit``, ``kernels`` (the selected level),
        ``because`` (the reason for the selection), ``levels`` (the status of each level),
        ``numpy``, ``python``, ``machine`` and ``cores`` (usable by this process).

    Raises
    ------
    ValueError
        If `mode` is neither "stdout" nor "dicts".

    Examples
    --------
    >>> show_config("dicts")["kernels"] in (*LEVELS, "reference")
    True
    """
    from importlib.metadata import version  # imported here because it doubles the import time

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
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
