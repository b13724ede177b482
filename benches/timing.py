"""Timing: contenders alternate in one process, and results are ratios.

Absolute times depend on the load and the clock rate of the machine. Therefore the contenders
alternate, and the result is the median, over all turns, of the ratio within a turn.
"""

from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from time import perf_counter, sleep

import pytest


class Seconds(float):
    """The time without set-up, returned by contenders that measure it themselves."""


Contender = Callable[[int], object]  # performs n repetitions; may return Seconds
# Longer than any thread pool spins while it waits for work: OpenBLAS spins for 2**28 ticks, about
# 0.1 s.
PAUSE = 0.15


def absent(package: str | None) -> str | None:
    """Return the reason why a peer is skipped, or None. No peer is required."""
    if package is None or find_spec(package) is not None:
        return None
    return f"{package} is not installed"


def needs(package: str | None) -> None:
    """Skip the calling bench if a package is not installed."""
    # Peers are optional: the other benches still run.
    if reason := absent(package):
        pytest.skip(reason)


def timed(contender: Contender, n: int) -> float:
    """Return the time of n repetitions in seconds."""
    start = perf_counter()
    result = contender(n)
    spent = perf_counter() - start
    return result if isinstance(result, Seconds) else spent


def calibrated(contender: Contender, seconds: float) -> int:
    """Return the number of repetitions that take the given time. This also warms up."""
    n = 1
    contender(1)
    while True:
        spent = timed(contender, n)
        if spent > seconds / 4:
            return max(1, round(n * seconds / spent))
        n *= 4


def in_turns(
    contenders: dict[str, Contender],
    *,
    turns: int = 15,
    seconds: float = 0.05,
    pause: float = 0.0,
) -> dict[str, list[float]]:
    """Return the seconds per repetition of each contender in each turn.

    With a pause, the threads of the previous contender go to sleep; then one repetition runs
    untimed.
    """
    counts = {}
    for name, contender in contenders.items():
        sleep(pause)
        counts[name] = calibrated(contender, seconds)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, contender in contenders.items():
            if pause:
                sleep(pause)
                contender(1)
            times[name].append(timed(contender, counts[name]) / counts[name])
    return times


def ratio(times: dict[str, list[float]], peer: str, ours: str) -> float:
    """Return the time of the peer divided by ours: the median over the turns."""
    return median(theirs / own for theirs, own in zip(times[peer], times[ours], strict=True))
